//! How far do layers look back, and what of a sequence's cache do they need? Groups of layers that share one pool.

mod lookup;
mod paged;
mod watch;

use std::num::NonZeroU32;

pub use lookup::Hit;
pub use paged::{Paged, Seat};

use crate::FreeOrder;

/// How far a layer looks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the beginning.
    Full,
    /// Over so many tokens, its own included.
    Sliding {
        /// Tokens.
        window: NonZeroU32,
    },
    /// To the beginning of its chunk (chunked local attention).
    Chunked {
        /// Tokens of a chunk.
        chunk: NonZeroU32,
    },
}

impl Reach {
    /// Returns how many tokens at the beginning no later token looks at, once so many are computed.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use plimsoll_kv::Reach;
    /// let four = NonZeroU32::new(4).unwrap();
    /// assert_eq!(Reach::Full.skipped(7), 0);
    /// assert_eq!(Reach::Sliding { window: four }.skipped(7), 4); // the eighth token sees itself and three before it
    /// assert_eq!(Reach::Chunked { chunk: four }.skipped(7), 4);
    /// assert_eq!(Reach::Chunked { chunk: four }.skipped(8), 8);
    /// ```
    pub fn skipped(self, computed: u32) -> u32 {
        match self {
            Reach::Full => 0,
            Reach::Sliding { window } => (computed.saturating_add(1)).saturating_sub(window.get()),
            Reach::Chunked { chunk } => computed / chunk * chunk.get(),
        }
    }
}

/// Layers that look back equally far and keep their blocks in one table per sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// How far they look back.
    pub reach: Reach,
    /// Tokens of a block.
    pub block_tokens: NonZeroU32,
}

impl Group {
    /// Returns how many blocks these tokens fill.
    fn full_blocks(self, tokens: u32) -> u32 {
        let size = self.block_tokens.get();
        // Dividing by a number that is not known beforehand takes long, and nearly all are powers of two.
        if size.is_power_of_two() { tokens >> size.trailing_zeros() } else { tokens / size }
    }

    /// Returns how many blocks these tokens need.
    fn blocks(self, tokens: u32) -> u32 {
        let full = self.full_blocks(tokens);
        full + u32::from(full * self.block_tokens.get() < tokens)
    }
}

/// How a prefix is found that every group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// Groups of full attention first, then the groups of one other kind within what was found (vLLM before 0.15).
    TwoKinds,
    /// Each kind in turn within what was found so far, until nothing changes (vLLM from 0.15).
    FixedPoint,
}

/// In what releases of an engine differ about the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Where freed blocks go.
    pub order: FreeOrder,
    /// How a common prefix is found.
    pub joint: Joint,
    /// Whether found blocks that nothing looks at any more are left where they are (vLLM from 0.13), or held with the rest.
    pub leaves_skipped: bool,
    /// Whether chunked groups keep the last block that was remembered, even behind the chunk (vLLM before 0.13).
    pub keeps_last_remembered: bool,
    /// Which blocks of sliding windows are remembered: all; or, with a number, only those that a later request resumes at,
    /// and if the number is not 0 also those before every multiple of so many tokens (vLLM from 0.29).
    pub retention: Option<u32>,
}

impl Default for Manner {
    /// The newest release's, everything remembered.
    fn default() -> Self {
        Manner {
            order: FreeOrder::BlankFirst,
            joint: Joint::FixedPoint,
            leaves_skipped: true,
            keeps_last_remembered: false,
            retention: None,
        }
    }
}

/// Groups of one kind: looked up together.
#[derive(Clone, Debug)]
struct Kind {
    group: Group,
    members: Vec<usize>,
}

/// Puts equal groups together, full attention first (vLLM `HybridKVCacheCoordinator.verify_and_split_kv_cache_groups`,
/// v1/core/kv_cache_coordinator.py, 0.33.0).
fn kinds(groups: &[Group]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for (at, &group) in groups.iter().enumerate() {
        match kinds.iter_mut().find(|kind| kind.group == group) {
            Some(kind) => kind.members.push(at),
            None => kinds.push(Kind { group, members: vec![at] }),
        }
    }
    kinds.sort_by_key(|kind| kind.group.reach != Reach::Full);
    kinds
}
