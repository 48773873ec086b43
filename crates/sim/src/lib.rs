//! How does it behave over time? Requests arrive, an engine's scheduler forms steps, a cost model says how long each
//! takes, and what happened is measured.
//!
//! Nothing here reads a clock, a file or randomness from outside: the same arrivals, scheduler and cost give the same
//! outcome, nanosecond by nanosecond, on every machine.

pub mod cost;
pub mod course;
mod error;
pub mod load;
pub mod metrics;
mod request;
mod run;
pub mod schedule;
mod watch;

pub use error::Error;
pub use request::{Arrival, Request, Requests, Slot};
pub use run::{Holders, Idle, Intake, Outcome, Rest, Settings, Step, Watch, run};
