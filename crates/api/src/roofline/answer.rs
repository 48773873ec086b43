//! What is answered to a roofline? Plain data; the names are promised, units are part of them. `docs/roofline.md` defines
//! every figure.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

pub use super::what_if::answer::*;
use crate::answer::{EngineHead, GpuHead, ModelHead, ParallelHead};

/// The whole answer to a roofline.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RooflineAnswer {
    /// The model.
    pub model: ModelHead,
    /// The engine.
    pub engine: EngineHead,
    /// The card.
    pub gpu: GpuHead,
    /// How the model is divided.
    pub parallel: ParallelHead,
    /// What one card can do at best.
    pub card: CardAnswer,
    /// Tokens that a step computes at most; null where the engine's scheduler is not modelled.
    pub step_tokens: Option<u64>,
    /// What the numbers say, in sentences.
    pub findings: Vec<String>,
    /// Every phase, batch and context that was asked for.
    pub points: Vec<PointAnswer>,
    /// Where the bound changes with batch and context.
    pub crossovers: Vec<CrossoverAnswer>,
    /// The operators of one point, or of all.
    pub operators: Vec<OperatorsAnswer>,
    /// What lies between the operators and the card's memory.
    pub hierarchy: HierarchyAnswer,
    /// What would change if the launch were another.
    #[serde(skip_serializing_if = "WhatIfAnswer::is_empty")]
    pub what_if: WhatIfAnswer,
    /// What the figures rest on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
}

/// What one card can do at best.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CardAnswer {
    /// Its name.
    pub name: String,
    /// Peaks by arithmetic, those that it has.
    pub peaks: Vec<PeakAnswer>,
    /// Memory bandwidth, bytes a second.
    pub bandwidth_bytes_per_s: f64,
    /// Level-2 cache, bytes.
    pub l2_bytes: Option<f64>,
    /// Streaming multiprocessors.
    pub sm_count: Option<u32>,
    /// What the link to other cards is.
    pub link: String,
    /// Its bandwidth in one direction, bytes a second.
    pub link_bytes_per_s: Option<f64>,
    /// Bandwidth to cards of other machines, one direction, per card, bytes a second; null when nobody said.
    pub network_bytes_per_s: Option<f64>,
}

/// One peak of a card.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PeakAnswer {
    /// `16-bit`, `fp8`, `int8`, `fp4`.
    pub arithmetic: Cow<'static, str>,
    /// Operations a second.
    pub flops_per_s: f64,
    /// Operations per byte at which the roofline bends: the peak over the memory's bandwidth.
    pub ridge_flops_per_byte: f64,
}

/// One phase at one batch and context, on the rank that works most.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PointAnswer {
    /// `prefill` or `decode`.
    pub phase: Cow<'static, str>,
    /// Sequences of one data-parallel replica.
    pub batch: u32,
    /// Tokens of each prompt (prefill), or in the cache of each sequence (decode).
    pub context: u32,
    /// Steps that this takes: one when decoding; prompts are cut as the engine's limits say. The figures below are sums
    /// over them.
    pub steps: u64,
    /// Tokens computed.
    pub tokens: u64,
    /// Operations.
    pub flops: f64,
    /// Bytes read from the card's memory.
    pub read_bytes: f64,
    /// Bytes written to it.
    pub written_bytes: f64,
    /// Bytes sent to other cards.
    pub sent_bytes: f64,
    /// Operations per byte read or written.
    pub intensity_flops_per_byte: f64,
    /// Operations a second that are reached, as predicted.
    pub flops_per_s: f64,
    /// What holds most of the time back: `compute`, `memory`, `link` or `latency`.
    pub bound: Cow<'static, str>,
    /// What the sums of operations and bytes alone would say: `compute` or `memory`.
    pub roofline_bound: Cow<'static, str>,
    /// Each operator at its own roof, one after the other.
    pub ideal_ms: f64,
    /// All operations over the peaks or all bytes over the bandwidth, whichever is longer, as if all of it overlapped.
    pub roofline_ms: f64,
    /// As predicted.
    pub predicted_ms: f64,
    /// Tenth percentile of what is measured where this is predicted.
    pub low_ms: f64,
    /// Ninetieth percentile.
    pub high_ms: f64,
    /// Part of the prediction that is the engine's and no kernel's.
    pub overhead_ms: f64,
    /// Time to first token of prompts that come at once, nothing else running; null when decoding.
    pub ttft: Option<FirstTokenAnswer>,
    /// Time per output token: of one step; null when prefilling.
    pub tpot_ms: Option<f64>,
    /// Tokens a second by `ideal_ms`, all data-parallel replicas together: prompt tokens, or generated ones.
    pub ideal_tokens_per_s: f64,
    /// The same as predicted.
    pub tokens_per_s: f64,
    /// Share of the peak that the operations come to in the predicted time.
    pub peak_share: f64,
    /// Share of the bandwidth that the bytes come to in the predicted time.
    pub bandwidth_share: f64,
    /// Predicted time by family of operators; `overhead`, the engine's; `pipeline`, until a prompt's pieces have gone through
    /// the other stages.
    pub families: Vec<ShareAnswer>,
    /// Predicted time of kernels by what it rests on: `measured`, `extended`, `transferred`, `roofline`.
    pub bases: Vec<ShareAnswer>,
    /// Predicted time of kernels by what holds them back.
    pub bounds: Vec<ShareAnswer>,
    /// Sequences of this length that the plan's KV cache holds at once; null where that is not known.
    pub sequences_that_fit: Option<u64>,
}

/// When prompts that come at once have their first tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FirstTokenAnswer {
    /// The first one.
    pub first_ms: f64,
    /// On average.
    pub mean_ms: f64,
    /// The last one.
    pub last_ms: f64,
}

/// A part of a time.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ShareAnswer {
    /// Which.
    pub name: Cow<'static, str>,
    /// How long.
    pub ms: f64,
    /// Part of the whole.
    pub share: f64,
}

/// Where one thing outgrows another.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CrossoverAnswer {
    /// `products_compute_bound`, `cache_reads_exceed_weights`, `attention_outweighs_products`.
    pub what: Cow<'static, str>,
    /// `prefill` or `decode`.
    pub phase: Cow<'static, str>,
    /// What grows: `batch` or `context`.
    pub along: Cow<'static, str>,
    /// The other one, which stays.
    pub at: u32,
    /// The least value from which on it holds; null when it never does.
    pub from: Option<u64>,
    /// The same in words.
    pub words: String,
}

/// The operators of one point.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OperatorsAnswer {
    /// `prefill` or `decode`.
    pub phase: Cow<'static, str>,
    /// Sequences.
    pub batch: u32,
    /// Tokens of each.
    pub context: u32,
    /// Which step of the point: the first.
    pub step: u64,
    /// The operators.
    pub rows: Vec<OperatorAnswer>,
}

/// One operator of a step on one rank. Figures are of one run, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OperatorAnswer {
    /// `qkv_proj`, `attention`, `experts`, `all_reduce`, …
    pub name: String,
    /// `gemm`, `attention`, `moe`, `recurrent`, `stream`, `collective`.
    pub family: Cow<'static, str>,
    /// How often it runs in the step.
    pub runs: f64,
    /// Its sizes: `m 1, n 2560, k 8192`.
    pub shape: String,
    /// How its matrix or cache is stored.
    pub format: String,
    /// Which peak bounds it: `16-bit`, `fp8`, …
    pub arithmetic: Cow<'static, str>,
    /// Operations.
    pub flops: f64,
    /// Bytes read.
    pub read_bytes: f64,
    /// Bytes written.
    pub written_bytes: f64,
    /// Bytes sent to other cards.
    pub sent_bytes: f64,
    /// Operations per byte read or written; null where no byte is.
    pub intensity_flops_per_byte: Option<f64>,
    /// Operations a second that are reached, as predicted; null where it does none.
    pub flops_per_s: Option<f64>,
    /// `compute`, `memory`, `link` or `latency`.
    pub bound: Cow<'static, str>,
    /// At the roof.
    pub ideal_us: f64,
    /// As predicted.
    pub predicted_us: f64,
    /// All runs of the step, as predicted.
    pub step_us: f64,
    /// `measured`, `extended`, `transferred` or `roofline`.
    pub basis: Cow<'static, str>,
    /// How its figures come about, with the numbers in.
    pub formulas: Vec<String>,
}

/// What lies between the operators and the card's memory.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HierarchyAnswer {
    /// Level-2 cache, bytes; null when not known.
    pub l2_bytes: Option<f64>,
    /// Bytes that the products and experts of a decode step of one sequence read, per layer of the rank on average.
    pub layer_weights_bytes: f64,
    /// In words.
    pub words: Vec<String>,
    /// Per point of the answer how far activations reach.
    pub points: Vec<ReachAnswer>,
}

/// What fits the level-2 cache in a step.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ReachAnswer {
    /// `prefill` or `decode`.
    pub phase: Cow<'static, str>,
    /// Sequences.
    pub batch: u32,
    /// Tokens of each.
    pub context: u32,
    /// The residual stream of the step's tokens, bytes.
    pub stream_bytes: f64,
    /// Whether it fits.
    pub stream_fits: Option<bool>,
    /// Operators all of whose bytes fit: `norms`, `o_proj`, …
    pub operators_that_fit: Vec<String>,
}
