//! How long does FlashAttention 2 take, as vLLM runs it over a paged cache? Thread blocks of 64 query rows that walk the
//! keys block by block, how many of them run at once, and what they read twice.
//!
//! vLLM runs it on cards before and after Hopper with a 16-bit cache (`vllm/v1/attention/backends/fa_utils.py`, releases
//! 0.11 to 0.24). The rules are those of its `csrc/flash_attn/flash_api.cpp` and `flash_fwd_launch_template.h`:
//!
//! - a paged cache takes the split kernel: 64 query rows a thread block, keys in blocks of 256, 128 or 64 by head width;
//! - only where every sequence has one query token, heads share keys and there is no window, the heads of a group are
//!   packed into the rows of one thread block and its keys are split over idle multiprocessors;
//! - otherwise one thread block walks all keys of its rows, and takes as long for one row as for 64;
//! - heads come last in the order of thread blocks, so that heads of one group run apart when the batch is large and read
//!   the same keys again unless the level-2 cache still has them.

use super::grouped::{Card, FLOOR, Grouped, keys_seen};

/// Query rows of a thread block.
const ROWS: f64 = 64.0;
/// Part of the card's 16-bit peak that a multiprocessor reaches in the products of one block of keys.
const REACH: f64 = 0.8;
/// Start and end of a thread block, in blocks of keys.
const ENDS: f64 = 0.25;
/// Part of the level-2 cache that keys can stay in.
const KEPT: f64 = 0.9;

/// Keys of a block.
fn block(head_dim: f64) -> f64 {
    if head_dim <= 64.0 {
        256.0
    } else if head_dim <= 128.0 {
        128.0
    } else {
        64.0
    }
}

/// Seconds of one block of keys on one multiprocessor.
fn block_seconds(card: &Card, head_dim: f64) -> f64 {
    4.0 * ROWS * block(head_dim) * head_dim * card.sms / (card.peak * REACH)
}

/// How often keys are read from memory where the heads of a group walk them apart: `together` heads run at once, and what
/// `one` head reads stays in the cache where it fits.
fn readings(card: &Card, group: f64, together: f64, one: f64) -> f64 {
    if card.l2 <= 0.0 {
        return group / together.clamp(1.0, group);
    }
    let fill = one / (card.l2 * KEPT);
    let lost = fill * fill * fill * fill / (1.0 + fill * fill * fill * fill);
    1.0 + lost * (group / together.clamp(1.0, group) - 1.0)
}

/// Seconds of one new token per sequence.
pub(super) fn generation(card: &Card, shape: &Grouped) -> f64 {
    let seen = shape.seen();
    let wide = block(shape.head_dim);
    let blocks = (seen / wide).ceil();
    let group = shape.group();
    let one = shape.batch * seen * shape.head_dim * 2.0 * shape.kv_bytes;
    let step = block_seconds(card, shape.head_dim);
    let packed = group > 1.0 && shape.window.is_none();
    let (compute, reads) = if packed {
        let ctas = shape.batch * shape.kv_heads * (group / ROWS).ceil();
        ((ctas * (blocks + 2.0 * ENDS) / card.sms).max(blocks.min(2.0)) * step, 1.0)
    } else {
        let waves = (shape.batch * shape.heads / card.sms).ceil();
        (waves * (blocks + ENDS) * step, readings(card, group, card.sms / shape.batch, one))
    };
    let keys = one * shape.kv_heads;
    let memory = keys * reads / (card.bandwidth * 0.92 * (1.0 + card.resident(keys)))
        + shape.batch * shape.heads * shape.head_dim * 4.0 / card.bandwidth;
    FLOOR + compute.max(memory)
}

/// What the thread blocks of pieces of prompts walk.
struct Walk {
    /// Thread blocks.
    ctas: f64,
    /// Blocks of keys of one, the mean.
    mean: f64,
    /// Blocks of keys of the longest.
    longest: f64,
    /// How alike they are: 1 where all walk the same.
    alike: f64,
}

/// Lays out pieces of prompts.
fn walk(shape: &Grouped) -> Walk {
    let wide = block(shape.head_dim);
    let last = shape.context + shape.tokens;
    let seen = shape.window.map_or(last, |window| last.min(window + ROWS));
    let longest = (seen / wide).ceil();
    // Half a block for the part beyond the diagonal.
    let mean = (keys_seen(shape) / shape.tokens / wide + 0.5 + ENDS).max(1.0).min(longest);
    let before = shape.window.map_or(shape.context, |window| shape.context.min(window));
    Walk {
        ctas: shape.batch * shape.heads * (shape.tokens / ROWS).ceil(),
        mean,
        longest,
        alike: ((before + ROWS) / seen.max(1.0)).clamp(0.0, 1.0),
    }
}

/// Bytes of pieces of prompts: queries and results, keys and values.
fn piece_bytes(shape: &Grouped) -> f64 {
    let seen = shape.context.min(shape.window.unwrap_or(f64::MAX)) + shape.tokens;
    shape.batch * shape.head_dim * (4.0 * shape.heads * shape.tokens + 2.0 * shape.kv_bytes * shape.kv_heads * seen)
}

/// Seconds of pieces of prompts.
pub(super) fn context(card: &Card, shape: &Grouped) -> f64 {
    let walk = walk(shape);
    let waves = walk.ctas / card.sms;
    let blocks = (waves * walk.mean + (waves.ceil() - waves) * walk.mean * walk.alike).max(walk.longest);
    let compute = blocks * block_seconds(card, shape.head_dim);
    FLOOR + compute.max(piece_bytes(shape) / (card.bandwidth * 0.9))
}

/// Seconds of pieces of prompts and single tokens of other sequences in one kernel.
pub(super) fn mixed(card: &Card, pieces: &Grouped, singles: &Grouped) -> f64 {
    let walk = walk(pieces);
    let blocks = (singles.seen() / block(singles.head_dim)).ceil();
    let ctas = singles.batch * singles.heads;
    let work = (walk.ctas * walk.mean + ctas * (blocks + ENDS)) / card.sms;
    let crowded = if walk.ctas + ctas > card.sms { 0.5 * walk.mean.min(blocks) } else { 0.0 };
    let compute = (work.max(walk.longest).max(blocks + ENDS) + crowded) * block_seconds(card, pieces.head_dim);
    let one = singles.batch * singles.seen() * singles.head_dim * 2.0 * singles.kv_bytes;
    let rows = walk.ctas / pieces.heads + singles.batch;
    let reads = readings(card, singles.group(), card.sms / rows, one);
    let memory = (one * singles.kv_heads * reads + piece_bytes(pieces)) / (card.bandwidth * 0.92);
    FLOOR + compute.max(memory)
}
