//! How does Transformers divide a GPU?

pub mod cache;
pub mod flags;
pub mod oracle;
pub mod quantised;

use crate::engine::Question;
use crate::{Error, Plan, Version};

/// The engine's name in answers.
pub const NAME: &str = "transformers";
/// The newest release whose rules are built in.
pub const NEWEST: Version = Version::new(5, 23, 0);
/// The oldest release whose rules are built in.
pub const OLDEST: Version = Version::new(4, 40, 0);
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
