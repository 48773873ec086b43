//! How does llama.cpp divide a GPU?

pub mod buffer;
pub mod cache;
pub mod context;
pub mod flags;
pub mod graph;
pub mod hparams;
pub mod options;
pub mod oracle;
pub mod rules;
pub mod weights;

use crate::engine::Question;
use crate::{Error, Plan, Version};

/// The engine's name in answers.
pub const NAME: &str = "llama.cpp";
/// The newest release whose rules are built in.
pub const NEWEST: Version = Version::new(10573, 0, 0);
/// The oldest release whose rules are built in.
pub const OLDEST: Version = Version::new(1000, 0, 0);
/// Keys of a request's `options` that are no flags of the command.
pub const KEYS: [&str; 0] = [];

/// Plans a launch.
///
/// # Errors
/// [`Error::Unsupported`] until its rules are built in.
pub fn plan(question: &Question<'_>) -> Result<Plan, Error> {
    let why = "its rules are not built in yet".to_owned();
    Err(Error::Unsupported { engine: NAME, version: question.version.to_string(), why })
}
