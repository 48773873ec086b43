//! How do we touch the outside? Model files, logs and the profile on disk; nothing else in the workspace
//! reads one.

mod files;
mod logs;
pub mod profile;
pub mod rows;
pub mod sweep;
pub mod table;
mod traces;

pub use files::Disk;
pub use logs::read_log;
pub use traces::{Opened, open_trace};
