//! How does llama.cpp divide a GPU? Model, cache, compute and output buffers, device by device, as the engine lays them
//! out itself.
//!
//! Nothing is allocated per request: every buffer is fixed when the engine starts. What cannot be known without running
//! (the driver's context, scratch pools) is an estimate.

pub mod assess;
pub mod assumed;
pub mod beside;
pub mod buffer;
pub mod cache;
pub mod check;
pub mod compute;
pub mod context;
pub mod fit;
pub mod flags;
pub mod graph;
pub mod hparams;
pub mod launch;
pub mod layout;
pub mod ledger;
pub mod log;
pub mod options;
pub mod oracle;
pub mod rules;
pub mod solve;
pub mod weights;

use crate::engine::Question;
use crate::{Error, Plan, Version};

/// The engine's name in answers.
pub const NAME: &str = "llama.cpp";
/// The newest release whose rules are built in.
pub const NEWEST: Version = Version::new(11_258, 0, 0);
/// The oldest release whose rules are built in.
pub const OLDEST: Version = Version::new(1000, 0, 0);
/// Keys of a request's `options` that are no flags of the command: the type of the file where none is at hand, and the
/// program (`llama-server` or `llama-cli`).
pub const KEYS: [&str; 2] = ["file_type", "program"];

/// Plans a launch.
///
/// # Errors
/// [`Error`] when the file or a flag cannot be understood.
pub fn plan(question: &Question<'_>) -> Result<Plan, Error> {
    assess::plan(question)
}
