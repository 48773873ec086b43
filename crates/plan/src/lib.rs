//! Does it fit, and where does the memory go? Engine rules, versioned and sourced, turned into a ledger per rank, a KV
//! capacity and a verdict.

pub mod batching;
pub mod engine;
mod error;
pub mod generic;
pub mod growth;
pub mod interval;
mod ledger;
mod parallel;
mod plan;
#[cfg(test)]
#[path = "../../../tests/shared.rs"]
mod shared;
mod version;

pub use batching::Batching;
pub use error::Error;
pub use growth::Growth;
pub use ledger::{Entry, Formula, Item, Ledger, Section};
pub use parallel::Parallel;
pub use plan::{Card, Given, Kv, KvGroup, Logged, Margin, Plan, Rank, Refusal, Remedy, State, Verdict};
pub use version::Version;
