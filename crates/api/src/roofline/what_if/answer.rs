//! What is answered to a what-if? Rows, each of another launch or another way to run this one.

use schemars::JsonSchema;
use serde::Serialize;

/// What would change if the launch were another. What was not asked for is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct WhatIfAnswer {
    /// Tensor against pipeline parallel, over the same number of cards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parallel: Vec<SplitAnswer>,
    /// Weights and caches in other formats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<FormatAnswer>,
    /// Speculative decoding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub speculative: Vec<SpeculativeAnswer>,
    /// Prefill and decoding on separate cards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disaggregated: Vec<DisaggregatedAnswer>,
}

impl WhatIfAnswer {
    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        *self == WhatIfAnswer::default()
    }
}

/// One division of the model over cards, at one batch of decoding sequences.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SplitAnswer {
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Pipeline stages.
    pub pp: u32,
    /// Sequences that decode.
    pub batch: u32,
    /// Tokens of each.
    pub context: u32,
    /// Whether the plan fits.
    pub fits: bool,
    /// Bytes of weights on the rank that works most.
    pub weights_bytes: f64,
    /// Tokens that the cache holds.
    pub kv_tokens: u64,
    /// Messages that a rank sends in a decode step.
    pub messages: f64,
    /// The same per layer of the model.
    pub messages_per_layer: f64,
    /// Bytes that a rank sends in a decode step.
    pub sent_bytes: f64,
    /// The messages' time over different links, in rings: each step's latency and the bytes over the bandwidth.
    pub links: Vec<LinkAnswer>,
    /// The decode step, as predicted over the launch's own link.
    pub decode_ms: f64,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// One prompt of `context` tokens alone.
    pub prefill_ms: f64,
    /// Part of the time in which a stage waits while one prompt alone goes through, in as many pieces as it has steps:
    /// (p − 1)/(m + p − 1).
    pub bubble: f64,
}

/// A time over a link.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LinkAnswer {
    /// `NVLink`, `PCI Express 5.0`, `InfiniBand NDR 400 Gbit/s`, …
    pub link: String,
    /// Its bandwidth in one direction, per card, bytes a second.
    pub bytes_per_s: f64,
    /// The time.
    pub ms: f64,
    /// Of a transfer: what of it shows when layers are sent as they are computed; null otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ms: Option<f64>,
}

/// A launch in other formats, at one batch of decoding sequences.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FormatAnswer {
    /// `own`, `fp8`, `int4_weight`, …
    pub weights: String,
    /// Bits of a number in the cache.
    pub kv_bits: f64,
    /// Sequences that decode.
    pub batch: u32,
    /// Tokens of each.
    pub context: u32,
    /// Bytes of weights on the rank.
    pub weights_bytes: f64,
    /// Tokens that the cache would hold, all else in the ledger as it is.
    pub kv_tokens: f64,
    /// The decode step.
    pub decode_ms: f64,
    /// Times as fast as launched.
    pub decode_speed_up: f64,
    /// One prompt of `context` tokens alone.
    pub prefill_ms: f64,
    /// Times as fast as launched.
    pub prefill_speed_up: f64,
    /// Whether the card has the arithmetic; without, products run in 16 bits.
    pub native: bool,
}

/// Speculative decoding at one batch and context.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SpeculativeAnswer {
    /// Sequences.
    pub batch: u32,
    /// Tokens of each.
    pub context: u32,
    /// Tokens drafted per step.
    pub drafted: u32,
    /// Probability that a draft is accepted.
    pub acceptance: f64,
    /// Who drafts.
    pub drafter: String,
    /// Tokens of a step and sequence in the mean: (1 − α^(γ + 1))/(1 − α).
    pub tokens_per_step: f64,
    /// A step without speculation.
    pub plain_ms: f64,
    /// All drafts of a step.
    pub draft_ms: f64,
    /// Checking them.
    pub verify_ms: f64,
    /// Time per output token.
    pub tpot_ms: f64,
    /// Times as many tokens per second as without.
    pub speed_up: f64,
    /// The acceptance above which it pays; null where it never does.
    pub break_even: Option<f64>,
    /// How many tokens to draft at this acceptance, up to 16.
    pub best_drafted: u32,
    /// The speed-up then.
    pub best_speed_up: f64,
}

/// Prefill and decoding on separate cards, for one length of prompts and one batch of decoding sequences.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DisaggregatedAnswer {
    /// Tokens of a prompt.
    pub context: u32,
    /// Tokens of an answer.
    pub output: u32,
    /// Sequences that a decode worker holds.
    pub batch: u32,
    /// Bytes of a prompt's cache on one rank; ranks send side by side.
    pub transfer_bytes: f64,
    /// How long that takes.
    pub links: Vec<LinkAnswer>,
    /// One prompt on a prefill worker.
    pub prefill_ms: f64,
    /// A decode worker's step in the middle of the answers.
    pub decode_ms: f64,
    /// Prefill workers per decode worker at which neither waits; each has as many cards as the launch.
    pub workers: f64,
    /// Requests a second that one decode worker serves then.
    pub requests_per_s: f64,
}
