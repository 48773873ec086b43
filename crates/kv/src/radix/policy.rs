//! Who goes first? The eviction policies of SGLang (0.5.23, `srt/mem_cache/evict_policy.py`).

use std::str::FromStr;

/// Which unlocked leaf is evicted first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// The least recently used.
    #[default]
    Lru,
    /// The least often hit, among those the least recently used.
    Lfu,
    /// The oldest.
    Fifo,
    /// The most recently used.
    Mru,
    /// The youngest.
    Filo,
    /// Those with fewer hits than a threshold before the others, among each the least recently used.
    Slru {
        /// From how many hits on a node belongs to the second part; 2 where nothing is said.
        protected_hits: u64,
    },
    /// The lowest priority, among those the least recently used.
    Priority,
    /// First the ends of long conversations that can be computed again within the time objective, then the least
    /// recently used (arXiv 2510.15152).
    Tlru {
        /// Tokens that can be computed within the objective.
        threshold: u32,
        /// Tokens that the next prompt is expected to add.
        next_prompt: u32,
    },
}

impl Eviction {
    /// The names, as `--radix-eviction-policy` has them.
    pub const NAMES: [&'static str; 8] = ["lru", "lfu", "fifo", "mru", "filo", "slru", "priority", "tlru"];

    /// Returns the policy's name.
    pub const fn name(self) -> &'static str {
        match self {
            Eviction::Lru => "lru",
            Eviction::Lfu => "lfu",
            Eviction::Fifo => "fifo",
            Eviction::Mru => "mru",
            Eviction::Filo => "filo",
            Eviction::Slru { .. } => "slru",
            Eviction::Priority => "priority",
            Eviction::Tlru { .. } => "tlru",
        }
    }

    /// Returns a node's place in the order: the lowest goes first.
    pub(super) const fn rank(self, facts: &Facts) -> Rank {
        match self {
            Eviction::Lru => (0, facts.accessed),
            Eviction::Lfu => (facts.hits as i64, facts.accessed),
            Eviction::Fifo => (0, facts.created),
            Eviction::Mru => (0, -facts.accessed),
            Eviction::Filo => (0, -facts.created),
            Eviction::Slru { protected_hits } => ((facts.hits >= protected_hits) as i64, facts.accessed),
            Eviction::Priority => (facts.priority, facts.accessed),
            Eviction::Tlru { threshold, next_prompt } => {
                let budget = facts.reach as i64 + next_prompt as i64 - threshold as i64;
                let budget = if budget > 0 { budget } else { 0 };
                (-((facts.above as i64 >= budget) as i64), facts.accessed)
            }
        }
    }

    /// Whether the policy looks at how long a sequence once was.
    pub(super) const fn asks_for_reach(self) -> bool {
        matches!(self, Eviction::Tlru { .. })
    }
}

/// A name that is none of [`Eviction::NAMES`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no eviction policy {0:?}; there are lru, lfu, fifo, mru, filo, slru, priority and tlru")]
pub struct UnknownEviction(String);

impl FromStr for Eviction {
    type Err = UnknownEviction;

    /// Reads a name, in any case, with the engine's defaults for what a policy can be told.
    fn from_str(name: &str) -> Result<Self, UnknownEviction> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "lru" => Eviction::Lru,
            "lfu" => Eviction::Lfu,
            "fifo" => Eviction::Fifo,
            "mru" => Eviction::Mru,
            "filo" => Eviction::Filo,
            "slru" => Eviction::Slru { protected_hits: 2 },
            "priority" => Eviction::Priority,
            "tlru" => Eviction::Tlru { threshold: 0, next_prompt: 0 },
            _ => return Err(UnknownEviction(name.to_owned())),
        })
    }
}

/// How old the upper part of a split node is; only [`Eviction::Fifo`] and [`Eviction::Filo`] can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitAge {
    /// It was created by the split: SGLang's `RadixCache`.
    #[default]
    Fresh,
    /// As old as the node that was split: SGLang's `UnifiedRadixCache`, which its scheduler uses by default since 0.5.23.
    Inherited,
}

/// A place in the order of eviction; no two leaves share one.
pub(super) type Rank = (i64, i64);

/// What policies look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub accessed: i64,
    pub created: i64,
    pub hits: u64,
    pub priority: i64,
    /// Tokens above the node.
    pub above: u32,
    /// Tokens of the longest sequence that ever ended here or below.
    pub reach: u32,
}

impl Facts {
    pub const fn new(now: i64, priority: i64) -> Self {
        Facts { accessed: now, created: now, hits: 0, priority, above: 0, reach: 0 }
    }

    /// Takes over what the upper part of a split node has from the whole.
    pub const fn inherit(&mut self, whole: &Facts, age: SplitAge) {
        self.hits = whole.hits;
        self.above = whole.above;
        self.reach = whole.reach;
        match age {
            SplitAge::Fresh => {}
            SplitAge::Inherited => self.created = whole.created,
        }
    }
}
