//! What would grouped attention take at best, and where does a case lie on the axes of the tables? The simple model that
//! tables are corrections of.

use super::flash2;
use crate::Hardware;

/// Seconds from the start of a kernel to its end when there is next to nothing to do. Of the order of what all engines
/// show for one short sequence (7 to 13 µs on five cards); the tables correct it.
pub const FLOOR: f64 = 6e-6;
/// Seconds of a thread block before its first key arrives: what 2 048 of them over short contexts take on five cards, 3 to
/// 5 µs a wave.
const ENTRY: f64 = 3e-6;
/// Query rows of a tile in kernels other than FlashAttention 2.
const TILE: f64 = 128.0;
/// Part of the 16-bit peak that long prompts reach.
const REACH: f64 = 0.6;

/// The rates of a card that the model needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// 16-bit peak, operations a second.
    pub peak: f64,
    /// Bytes a second of its memory.
    pub bandwidth: f64,
    /// Bytes of its level-2 cache; 0 where nobody knows.
    pub l2: f64,
    /// Streaming multiprocessors.
    pub sms: f64,
}

impl Card {
    /// Reads a card; `None` where its multiprocessors are not known.
    pub fn new(hardware: &Hardware) -> Option<Card> {
        Some(Card {
            peak: hardware.peak(crate::Math::Half),
            bandwidth: hardware.bandwidth,
            l2: hardware.l2_cache.unwrap_or_default(),
            sms: f64::from(hardware.sm_count?).max(1.0),
        })
    }

    /// Which part of so many bytes is still in the level-2 cache when a kernel runs again: all or nothing, with a soft edge.
    pub fn resident(&self, bytes: f64) -> f64 {
        if self.l2 <= 0.0 {
            return 0.0;
        }
        let fill = bytes / (self.l2 * 0.9);
        let cube = fill * fill * fill;
        1.0 / (1.0 + cube * cube)
    }
}

/// Which kernel: it decides the simple model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Style {
    /// FlashAttention 2 over a paged cache, as vLLM runs it.
    Flash2,
    /// Kernels that pack the heads of a group and split long keys over the whole card: FlashAttention 3 and 4, FlashInfer,
    /// TensorRT-LLM's, SGLang's Triton kernels.
    Split,
}

/// Which part of a sequence is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Pieces of prompts.
    Context,
    /// One new token per sequence.
    Generation,
}

impl Phase {
    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Context => "context",
            Phase::Generation => "generation",
        }
    }
}

/// One case of grouped attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grouped {
    /// What is computed.
    pub phase: Phase,
    /// Sequences.
    pub batch: f64,
    /// Tokens that each computes: 1 in generation.
    pub tokens: f64,
    /// Tokens that each has in the cache before.
    pub context: f64,
    /// Query heads.
    pub heads: f64,
    /// Key and value heads.
    pub kv_heads: f64,
    /// Width of a head.
    pub head_dim: f64,
    /// Tokens that are seen, where not all.
    pub window: Option<f64>,
    /// Bytes of a number in the cache.
    pub kv_bytes: f64,
}

impl Grouped {
    /// Query heads per key head.
    pub fn group(&self) -> f64 {
        (self.heads / self.kv_heads).max(1.0)
    }

    /// Keys that a new token sees, itself among them.
    pub fn seen(&self) -> f64 {
        let all = self.context + 1.0;
        self.window.map_or(all, |window| all.min(window))
    }

    /// Returns where the case lies on the four axes of its table.
    ///
    /// Generation: keys seen, sequences × key heads, group, head width. Context: tokens, sequences × heads, head width,
    /// group, of the prompt that has the same rows, the same pairs of query and key and nothing before it: a piece of `t`
    /// tokens after `c` others works like a prompt of `t + 2c` tokens of which `t / (t + 2c)` as many are computed.
    pub fn place(&self) -> [f64; 4] {
        match self.phase {
            Phase::Generation => [self.seen(), self.batch * self.kv_heads, self.group(), self.head_dim],
            Phase::Context => {
                let before = self.window.map_or(self.context, |window| self.context.min(window));
                let like = self.tokens + 2.0 * before;
                [like, self.batch * self.heads * self.tokens / like, self.head_dim, self.group()]
            }
        }
    }

    /// Returns where a case with a window lies on the four axes of the windows' table: how often the window fits into what
    /// there is to see, rows side by side, keys seen, head width.
    pub fn window_place(&self) -> [f64; 4] {
        let all = self.context + self.tokens;
        let seen = self.window.map_or(all, |window| all.min(window));
        let side = match self.phase {
            Phase::Generation => self.batch * self.kv_heads,
            Phase::Context => self.batch * self.heads,
        };
        [all / seen, side, seen, self.head_dim]
    }

    /// Returns the seconds that the simple model gives.
    pub fn base(&self, card: &Card, style: Style) -> f64 {
        match (style, self.phase) {
            (Style::Flash2, Phase::Context) => flash2::context(card, self),
            (Style::Flash2, Phase::Generation) => flash2::generation(card, self),
            (Style::Split, Phase::Context) => context(card, self),
            (Style::Split, Phase::Generation) => generation(card, self),
        }
    }
}

/// Pairs of query and key of one head of one sequence.
pub(super) fn keys_seen(shape: &Grouped) -> f64 {
    let first = |rows: f64| {
        let over = shape.window.map_or(0.0, |window| (rows - window).max(0.0));
        (rows * (rows + 1.0) - over * (over + 1.0)) / 2.0
    };
    // Written as one product where there is no window, so that long contexts lose no digits.
    match shape.window {
        None => shape.tokens * (shape.context + (shape.tokens + 1.0) / 2.0),
        Some(_) => (first(shape.context + shape.tokens) - first(shape.context)).max(shape.tokens),
    }
}

/// Keys and values read once at nine tenths of the bandwidth, twice as fast out of the level-2 cache; queries and results;
/// and what each sequence's key head costs before its first key arrives.
fn generation(card: &Card, shape: &Grouped) -> f64 {
    let keys = shape.batch * shape.kv_heads * shape.seen() * shape.head_dim * 2.0 * shape.kv_bytes;
    let rows = shape.batch * shape.heads * shape.head_dim * 4.0;
    FLOOR
        + keys / (card.bandwidth * 0.9 * (1.0 + card.resident(keys)))
        + rows / card.bandwidth
        + shape.batch * shape.kv_heads / card.sms * ENTRY
}

/// Pairs of query and key, tiles at the diagonal counted whole, in whole waves of tiles over the multiprocessors.
fn context(card: &Card, shape: &Grouped) -> f64 {
    let tiles = (shape.tokens / TILE).ceil();
    let pairs = keys_seen(shape) + tiles * TILE * TILE / 2.0 * (shape.tokens / TILE).min(1.0);
    let flops = 4.0 * shape.batch * shape.heads * shape.head_dim * pairs;
    let waves = shape.batch * shape.heads * tiles / card.sms;
    let compute = flops / (card.peak * REACH) * (waves.ceil() / waves).max(1.0);
    let before = shape.window.map_or(shape.context, |window| shape.context.min(window));
    let bytes = shape.batch
        * shape.head_dim
        * (shape.tokens * (4.0 * shape.heads + 8.0 * shape.kv_heads) + before * 2.0 * shape.kv_bytes * shape.kv_heads);
    FLOOR + compute + bytes / (card.bandwidth * 0.8)
}
