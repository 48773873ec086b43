//! Which flags does SGLang take?

use crate::engine::flag::{Flags, Style};

/// The flags.
pub const FLAGS: Flags = Flags { engine: super::NAME, style: Style::Flexible, rows: &[], foreign: &[] };
