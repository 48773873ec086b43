//! What does one line of a trace say? A row before it becomes a request, and what can be wrong with it.

use plimsoll_units::Nanos;

use crate::load::number::{MOST_TOKENS, Odd};

/// A row as it was read; used again for the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// The time it says, whatever it is counted from.
    pub(super) at: Option<Nanos>,
    pub(super) prompt: u32,
    pub(super) output: u32,
    pub(super) max_tokens: Option<u32>,
    pub(super) priority: i32,
    /// Identity and tokens of a shared beginning.
    pub(super) prefix: Option<(u64, u32)>,
    pub(super) conversation: Option<u64>,
    /// Identities of the prompt's blocks, of so many tokens each, the last of what is left.
    pub(super) blocks: Vec<u64>,
    pub(super) block_tokens: u32,
    /// Identities and tokens of the prompt's pieces.
    pub(super) segments: Vec<(u64, u32)>,
}

impl Row {
    pub(super) fn clear(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let segments = std::mem::take(&mut self.segments);
        *self = Row { blocks, segments, ..Row::default() };
        self.blocks.clear();
        self.segments.clear();
    }
}

/// Why a row is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// The kind of fault, by which rows are counted.
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl Bad {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Bad { reason, detail: detail.into() }
    }

    /// Says what is odd about a field.
    pub(super) fn field(name: &str, odd: Odd, text: &str) -> Self {
        let reason = match odd {
            Odd::NotANumber => "not a number",
            Odd::Negative => "negative number",
            Odd::TooLarge => "number too large",
            Odd::NotWhole => "tokens not whole",
        };
        let limit = if odd == Odd::TooLarge { format!(" (at most {MOST_TOKENS} tokens)") } else { String::new() };
        Bad::new(reason, format!("{name} is {:?}: {reason}{limit}", shorten(text)))
    }

    /// Says what is odd about a time in a unit.
    pub(super) fn time(name: &str, odd: Odd, text: &str, unit: &str) -> Self {
        let (reason, why) = match odd {
            Odd::Negative => ("negative time", "negative".to_owned()),
            Odd::NotANumber | Odd::NotWhole => ("not a time", format!("not a number of {unit}")),
            Odd::TooLarge => ("not a time", "beyond 584 years".to_owned()),
        };
        Bad::new(reason, format!("{name} is {:?}: {why}", shorten(text)))
    }

    pub(super) fn missing(name: &str) -> Self {
        Bad::new("missing value", format!("{name} is missing"))
    }
}

/// Returns the beginning of a text, for a message.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns an identity for a name: its number where it is one, otherwise FNV-1a of its bytes.
pub(super) fn identity(name: &str) -> u64 {
    name.parse().unwrap_or_else(|_| {
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    })
}
