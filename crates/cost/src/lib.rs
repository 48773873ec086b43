//! How long does a step take? The operators of one step on one rank, what each computes and moves, how long it takes by
//! the card's roofline and by kernels that were measured, and what the engine adds.
//!
//! Nothing here reads a file or a clock; the tables of measured kernels are compiled in.

pub mod bound;
pub mod engine;
mod error;
pub mod hardware;
pub mod kernel;
pub mod measured;
mod memo;
pub mod operators;
mod shape;
pub mod step;
pub mod what_if;

pub use bound::{Bound, Roofs};
pub use error::Error;
pub use hardware::Hardware;
pub use kernel::{Collective, Family, Format, Kernel, Math, Operator, Work};
pub use measured::{Backend, Basis, Kernels, Timed};
pub use operators::Inventory;
pub use shape::{Chunk, Shape};
pub use step::{Knobs, Predicted, Predictor};
