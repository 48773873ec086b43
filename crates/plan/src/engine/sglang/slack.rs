//! What must fit beside the pools? SGLang measures nothing before it takes the cache: the context comes before, and graphs,
//! workspaces, the request table and the activations of a chunk out of what the fraction leaves.

use std::ops::Range;

use plimsoll_facts::model::{AttentionKind, Ffn, Mixer, Model};
use plimsoll_units::{Bytes, Estimate, Source};

use super::defaults::Resolved;
use super::options::Options;
use crate::{Card, Entry, Formula, Item};

/// A number of GiB with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Fifth percentile.
    pub low: f64,
    /// The middle.
    pub middle: f64,
    /// Ninety-fifth percentile.
    pub high: f64,
}

/// What one process keeps on a card before the weights, one rank: context, kernels, allocator. Thirteen launches of eleven
/// threads of logged `avail mem` before loading, tp 1: 0.27 to 0.81 below the runtime's total.
const CONTEXT: Spread = Spread { low: 0.3, middle: 0.5, high: 0.9 };
/// What communication adds for 2, 4 and 8 and more ranks on cards that are linked (NVLink): 4 ranks 1.5 to 1.8 in all, 8
/// ranks 1.7 to 2.0, of five threads.
const LINKED: [Spread; 3] = [
    Spread { low: 0.3, middle: 0.7, high: 1.3 },
    Spread { low: 0.7, middle: 1.15, high: 1.6 },
    Spread { low: 0.8, middle: 1.35, high: 1.9 },
];
/// The same on cards on PCI Express alone: 2 ranks 0.65 to 0.67 in all, 8 ranks 0.98, of three threads.
const UNLINKED: [Spread; 3] = [
    Spread { low: 0.05, middle: 0.17, high: 0.6 },
    Spread { low: 0.1, middle: 0.3, high: 0.8 },
    Spread { low: 0.2, middle: 0.45, high: 1.2 },
];
/// What loading leaves beside the weights: kernels loaded with the first copies, segments of the allocator that are not
/// full. Logged `mem usage` of loading less the tensors, of eight threads: 0.06, 0.06, 0.08, 0.09, 0.14, 0.15, 0.15, 0.17.
const LOADING: Spread = Spread { low: 0.05, middle: 0.11, high: 0.2 };
/// Attention workspaces and their plans, taken between the pools and the graphs: 0.45, 0.58 and 0.63 in three threads.
const WORKSPACE: Spread = Spread { low: 0.35, middle: 0.55, high: 1.1 };
/// One captured decode graph beside the logits: 0.09 for four sizes, 0.26 for seven, 1.07 and 1.34 for thirty-six.
const DECODE_GRAPH: Spread = Spread { low: 0.012, middle: 0.027, high: 0.08 };
/// One captured prefill shape: the release itself counts 0.008; 3.85 for 58 shapes was logged once.
const PREFILL_GRAPH: Spread = Spread { low: 0.006, middle: 0.02, high: 0.07 };

fn estimate(spread: Spread, what: &'static str) -> Estimate {
    let Spread { low, middle, high } = spread;
    Estimate::between(Bytes::gib(low), Bytes::gib(middle), Bytes::gib(high), Source::Measured(what.into()))
}

fn entry(item: Item, size: Estimate, text: &'static str, values: Vec<(&'static str, f64)>) -> Entry {
    Entry { item, size, note: None, formula: Formula { text: text.into(), values } }
}

/// What is gone from the card before the weights: the context, and communication for several ranks.
pub(super) fn before(resolved: &Resolved, card: &Card) -> Vec<Entry> {
    let ranks = resolved.parallel.tp.saturating_mul(resolved.parallel.pp);
    let context = estimate(CONTEXT, "free memory before loading in logs of SGLang, one rank");
    let mut entries = vec![entry(Item::Context, context, "context + kernels", Vec::new())];
    let at = match ranks {
        0 | 1 => return entries,
        2 | 3 => 0,
        4..=7 => 1,
        _ => 2,
    };
    let table = if resolved.chip.linked && card.total.bytes.as_gib() > 60.0 { LINKED } else { UNLINKED };
    let mut spread = table[at];
    if resolved.chip.rocm {
        // One launch of eight MI355X left 4.4 GiB less than the card has.
        spread = Spread { high: spread.high + 2.5, ..spread };
    }
    let size = estimate(spread, "free memory before loading in logs of SGLang, several ranks");
    entries.push(entry(Item::Comms, size, "communicators of several ranks", vec![("ranks", f64::from(ranks))]));
    entries
}

/// What loading leaves beside the weights.
pub(super) fn loading() -> Entry {
    let size = estimate(LOADING, "`mem usage` of loading less the tensors, in logs of SGLang");
    entry(Item::RuntimeNonTorch, size, "kernels and segments of loading", Vec::new())
}

/// Graphs: of decoding by batch, with their logits, and of prefill by shape.
pub(super) fn graphs(resolved: &Resolved, model: &Model, options: &Options) -> Entry {
    let sizes = resolved.graphs.len() as f64;
    let rows = resolved.graph_max.saturating_mul(resolved.draft.as_ref().map_or(1, |draft| draft.tokens.max(1)));
    let logits = Bytes::new(rows.saturating_mul(model.vocabulary).saturating_mul(4)).as_gib();
    let logits = if resolved.graph_max == 0 { 0.0 } else { logits };
    let drafting = if resolved.draft.as_ref().is_some_and(super::defaults::Draft::keeps_cache) { 2.0 } else { 1.0 };
    let shapes = resolved.prefill_shapes as f64;
    let sum = |pick: fn(Spread) -> f64| sizes * pick(DECODE_GRAPH) * drafting + logits + shapes * pick(PREFILL_GRAPH);
    let symm = options.symm_mem.map_or(0.0, Bytes::as_gib);
    let spread = Spread {
        low: sum(|s| s.low),
        middle: sum(|s| s.middle),
        high: sum(|s| s.high) + if sizes > 0.0 { 0.3 } else { 0.0 },
    };
    let spread = Spread { low: spread.low + symm, middle: spread.middle + symm, high: spread.high + symm };
    let values = vec![("sizes", sizes), ("logits", logits), ("shapes", shapes), ("symmetric", symm)];
    entry(
        Item::Graphs,
        estimate(spread, "`Capture cuda graph end` in logs of SGLang"),
        "sizes × 0.027 GiB + logits + shapes × 0.02 GiB + symmetric memory",
        values,
    )
}

/// The request table, exact, and attention workspaces, estimated.
pub(super) fn buffers(table: u64) -> Entry {
    let table = Bytes::new(table);
    let gib = table.as_gib();
    let Spread { low, middle, high } = WORKSPACE;
    let spread = Spread { low: low + gib, middle: middle + gib, high: high + gib };
    let size =
        estimate(spread, "request table by its shape; workspaces between the pools and the graphs in logs of SGLang");
    entry(Item::RuntimeBuffers, size, "table + workspaces", vec![("table", gib), ("workspaces", middle)])
}

/// Activations of a chunk: the widest layer's temporaries and the residual stream, experts as they are gathered, logits of
/// the requests that finish.
///
/// Tensor lifetimes as in vLLM's eager profile, whose coefficients are checked there; SGLang runs the same operators on a
/// chunk. Wide interval: nothing in SGLang's log shows it.
pub(super) fn activation(resolved: &Resolved, model: &Model, options: &Options, layers: &Range<u32>) -> Entry {
    let b = resolved.dtype.bytes_of(1) as f64;
    let attention = f64::from(options.attention_tp()).max(1.0);
    let all = f64::from(options.tp);
    let tokens = resolved.worker_chunk.unwrap_or(resolved.max_prefill).min(resolved.context) as f64;
    let gathered = tokens * options.workers() as f64;
    let h = model.hidden as f64;
    let mut widest = 0.0_f64;
    for layer in model.layers.get(layers.start as usize..layers.end as usize).unwrap_or_default() {
        widest = widest.max(b * tokens * mixer(&layer.mixer, attention, h)).max(match &layer.ffn {
            Ffn::Dense { inner, gated } => {
                let ranks = options.moe_dense_tp.map_or(all, f64::from);
                b * gathered * (if *gated { 3.0 } else { 2.0 } * *inner as f64 / ranks + h)
            }
            Ffn::Moe { active, inner, shared_inner, dense_inner, .. } => {
                let ranks = (all / f64::from(options.ep).max(1.0)).max(1.0);
                let routed = f64::from(*active) * (3.0 * *inner as f64 / ranks + h) / f64::from(options.ep).max(1.0);
                b * gathered * (routed + 3.0 * (*shared_inner + *dense_inner) as f64 / all + h)
            }
            Ffn::None => 0.0,
        });
    }
    let residual = 3.0 * b * tokens * h;
    let rows = 64.0_f64.min(tokens);
    let logits = rows * model.vocabulary as f64 * 6.0;
    let middle = widest + residual + logits;
    let around = |factor: f64| Bytes::from_f64(middle * factor);
    Entry {
        item: Item::Activation,
        size: Estimate::between(
            around(0.5),
            around(1.0),
            around(2.0),
            Source::Derived(
                "widest layer's temporaries at one chunk; ×0.5 to ×2, which no log of SGLang narrows".into(),
            ),
        ),
        note: None,
        formula: Formula {
            text: "widest + 3 × b × T × H + logits".into(),
            values: vec![("widest", widest), ("b", b), ("T", tokens), ("H", h), ("logits", logits)],
        },
    }
}

/// Numbers per token that a mixer keeps while it runs.
fn mixer(mixer: &Mixer, tp: f64, hidden: f64) -> f64 {
    match mixer {
        Mixer::Attention(attention) => match attention.kind {
            AttentionKind::Grouped { heads, kv_heads, key_dim, value_dim } => {
                let kv = f64::from(kv_heads) * (f64::from(key_dim) + f64::from(value_dim));
                (f64::from(heads) * (f64::from(key_dim) + f64::from(value_dim)) + kv) / tp + hidden
            }
            AttentionKind::Latent { heads, rank, rope_dim, nope_dim, value_dim, .. } => {
                let head = 2.0 * (f64::from(nope_dim) + f64::from(rope_dim)) + 2.0 * f64::from(value_dim);
                f64::from(heads) / tp * head + f64::from(rank) + f64::from(rope_dim) + hidden
            }
        },
        Mixer::Recurrent(_) => 6.0 * hidden / tp + hidden,
        Mixer::None => 0.0,
    }
}
