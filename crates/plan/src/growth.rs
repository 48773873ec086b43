//! What does a request of any length take? Blocks, pages and slots as the engine counts them, and how many requests fit
//! what there is.
//!
//! A plan says what one request of the longest length takes; this says it for every length, without planning again: whole
//! blocks in every group of layers, windows that stop growing, states that never grow.
//!
//! ```
//! use plimsoll_plan::growth::{Growth, Pool, Steps};
//! // Blocks of 16 tokens at 2 MiB (Llama-3.1-8B), 4096 of them, one of which the engine keeps for itself.
//! let pool = Pool { held_back: 1, units: 4096, groups: vec![vec![Steps::tokens(16)]], unit_bytes: vec![2 << 20] };
//! let growth = Growth { pools: vec![pool] };
//! assert_eq!(growth.bytes(0, 1, 17).get(), 2 * (2 << 20));
//! assert_eq!(growth.sequences(32_768), Some(1));
//! assert_eq!(growth.longest(2, 131_072), 32_752);
//! ```

use plimsoll_units::Bytes;

use crate::engine::trtllm::Shape;

/// What requests take of the cache, pool by pool. No pools where the engine makes the cache for the batch and length that
/// it was started with (llama.cpp, Ollama, Transformers), or keeps nothing per request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Every request takes of every pool; the pool that is empty first limits.
    pub pools: Vec<Pool>,
}

/// Blocks, pages or slots that requests share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Units that no request can have: vLLM's null block.
    pub held_back: u64,
    /// Units in all.
    pub units: u64,
    /// Groups of layers that take units of their own; of the layers of one group the one that takes most decides.
    pub groups: Vec<Vec<Steps>>,
    /// Bytes of one unit on a rank of each pipeline stage.
    pub unit_bytes: Vec<u64>,
}

/// How many units a request takes, by its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// ⌈min(⌈tokens ÷ ranks⌉, cap) ÷ block⌉ + extra.
    Tokens {
        /// Ranks over which a sequence's tokens are dealt.
        ranks: u64,
        /// Tokens beyond which nothing more is kept.
        cap: Option<u64>,
        /// Tokens of a unit.
        block: u64,
        /// Units beside those of the tokens.
        extra: u64,
    },
    /// As many whatever the length.
    Fixed(u64),
    /// As TensorRT-LLM shapes a sequence, beams and sink tokens counted.
    Shaped {
        /// The shape.
        shape: Shape,
        /// Tokens of the sequence that beams may keep one by one.
        output: u64,
        /// Tokens that the engine adds to every sequence.
        ahead: u64,
    },
}

impl Steps {
    /// Whole units of `block` tokens, without end.
    pub const fn tokens(block: u64) -> Steps {
        Steps::Tokens { ranks: 1, cap: None, block, extra: 0 }
    }

    /// Returns the units of a request of `tokens` tokens.
    pub fn units(&self, tokens: u64) -> u64 {
        match *self {
            Steps::Tokens { ranks, cap, block, extra } => {
                let kept = tokens.div_ceil(ranks.max(1)).min(cap.unwrap_or(u64::MAX));
                kept.div_ceil(block.max(1)).saturating_add(extra)
            }
            Steps::Fixed(units) => units,
            Steps::Shaped { shape, output, ahead } => {
                let tokens = tokens.saturating_add(ahead);
                let output = if shape.beams <= 1 { 0 } else { output.min(tokens) };
                shape.blocks(tokens - output, output)
            }
        }
    }
}

impl Pool {
    /// Returns the units that one request of `tokens` tokens takes.
    pub fn request(&self, tokens: u64) -> u64 {
        let most = |group: &Vec<Steps>| group.iter().map(|steps| steps.units(tokens)).max().unwrap_or(0);
        self.groups.iter().map(most).fold(0, u64::saturating_add)
    }

    /// Returns the units that requests can have.
    pub const fn free(&self) -> u64 {
        self.units.saturating_sub(self.held_back)
    }
}

impl Growth {
    /// Returns the bytes that `batch` requests of `tokens` tokens take on a rank of a pipeline stage.
    pub fn bytes(&self, stage: usize, batch: u64, tokens: u64) -> Bytes {
        let pool = |pool: &Pool| {
            let unit = pool.unit_bytes.get(stage).copied().unwrap_or(0);
            Bytes::new(pool.request(tokens).saturating_mul(batch).saturating_mul(unit))
        };
        self.pools.iter().map(pool).sum()
    }

    /// Returns how many requests of `tokens` tokens fit at once; `None` where no pool limits them.
    pub fn sequences(&self, tokens: u64) -> Option<u64> {
        self.pools.iter().filter_map(|pool| pool.free().checked_div(pool.request(tokens))).min()
    }

    /// Returns the longest length up to `most` of which `batch` requests fit at once; zero where none does.
    pub fn longest(&self, batch: u64, most: u64) -> u64 {
        longest(most, |tokens| self.sequences(tokens).is_none_or(|fits| fits >= batch))
    }

    /// Returns the pools as they would be with another budget than the one they were made from: for the ends of its
    /// interval. One pool is divided anew; several keep their proportions.
    pub fn with_budget(&self, stage: usize, made_from: Bytes, budget: Bytes) -> Growth {
        let mut pools = self.pools.clone();
        let alone = pools.len() == 1;
        for pool in &mut pools {
            let unit = pool.unit_bytes.get(stage).copied().unwrap_or(0);
            let scaled = if alone {
                budget.get().checked_div(unit).map(u128::from)
            } else {
                (u128::from(pool.units) * u128::from(budget.get())).checked_div(u128::from(made_from.get()))
            };
            if let Some(units) = scaled {
                pool.units = u64::try_from(units).unwrap_or(u64::MAX);
            }
        }
        Growth { pools }
    }
}

/// Returns the largest of `1..=most` that `fits`, which must hold for all below it; zero when one does not fit.
pub fn longest(most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    if most == 0 || !fits(1) {
        return 0;
    }
    if fits(most) {
        return most;
    }
    let (mut yes, mut no) = (1, most);
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        if fits(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_length() {
        let window = Steps::Tokens { ranks: 1, cap: Some(1023 + 8192), block: 16, extra: 1 };
        for (steps, tokens, units) in [
            (Steps::tokens(16), 0, 0),
            (Steps::tokens(16), 16, 1),
            (Steps::tokens(16), 17, 2),
            (window, 16, 2),
            (window, 9215, 577),
            (window, 1 << 40, 577),
            (Steps::Tokens { ranks: 4, cap: None, block: 16, extra: 0 }, 65, 2),
            (Steps::Fixed(3), 1 << 40, 3),
            (Steps::Shaped { shape: Shape::plain(64, 4096), output: 0, ahead: 1 }, 64, 2),
            (Steps::Shaped { shape: Shape { beams: 4, ..Shape::plain(64, 4096) }, output: 64, ahead: 0 }, 192, 6),
        ] {
            assert_eq!(steps.units(tokens), units, "{steps:?} {tokens}");
        }
    }

    #[test]
    fn the_pool_that_is_empty_first_limits() {
        let pool =
            |units, steps, bytes| Pool { held_back: 0, units, groups: vec![vec![steps]], unit_bytes: vec![bytes] };
        let growth = Growth { pools: vec![pool(1000, Steps::tokens(1), 4), pool(12, Steps::Fixed(3), 100)] };
        assert_eq!(growth.sequences(100), Some(4));
        assert_eq!(growth.sequences(500), Some(2));
        assert_eq!(growth.bytes(0, 2, 500), Bytes::new(2 * (2000 + 300)));
        assert_eq!(growth.longest(3, 1 << 20), 333);
        assert_eq!(growth.longest(5, 1 << 20), 0);
        assert_eq!(growth.with_budget(0, Bytes::new(10), Bytes::new(5)).sequences(100), Some(2));
        assert_eq!(Growth::default().sequences(1), None);
        assert_eq!(Growth::default().longest(1, 7), 7);
    }
}
