//! What can be asked of a simulation?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PlanRequest;

/// Asks how a launch behaves under traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulateRequest {
    /// The launch: model, card, engine and its flags, as for a plan.
    pub launch: PlanRequest,
    /// What arrives, in words: `poisson 4/s, prompt lognormal 900 p99 4000, output 200, requests 1000`. With `trace` the
    /// arrivals or lengths that the trace lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// A file with real requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceRequest>,
    /// Where all random numbers come from.
    #[serde(default)]
    pub seed: u64,
    /// What a good answer is, for goodput.
    #[serde(default, skip_serializing_if = "ObjectivesRequest::is_empty")]
    pub objectives: ObjectivesRequest,
    /// How long a step takes.
    #[serde(default, skip_serializing_if = "CostRequest::is_empty")]
    pub cost: CostRequest,
    /// Which part of the run is measured; all of it when left out.
    #[serde(default, skip_serializing_if = "MeasureRequest::is_empty")]
    pub measure: MeasureRequest,
    /// Asks the scheduler for every step, even where nothing can happen. Changes nothing but the speed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub step_by_step: bool,
    /// What to compare; nothing when left out.
    #[serde(default, skip_serializing_if = "CompareRequest::is_empty")]
    pub compare: CompareRequest,
    /// Whether times get an interval, which takes two runs more; when left out, where a run is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<bool>,
}

/// A file with real requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Where it lies; `-` is standard input.
    pub path: String,
    /// Its form, where its first line does not say: `azure`, `burstgpt`, `mooncake`, `bailian`, `vidur`,
    /// `lengths`, `csv`, `jsonl`, `vllm-sched`. A pool of ServeGen is a folder or an archive and needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Leaves out rows that cannot be read, and counts them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_bad: bool,
    /// Multiplies the rate: 2 lets the same requests arrive in half the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_scale: Option<f64>,
    /// The first so many requests only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `max_tokens` that every request asks for; its real output length when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// What a good answer is: every given bound must be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectivesRequest {
    /// Time to the first token, at most, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Time per output token after the first, at most, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_ms: Option<f64>,
    /// Time to the last token, at most, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ms: Option<f64>,
}

impl ObjectivesRequest {
    /// Whether no bound is given.
    pub fn is_empty(&self) -> bool {
        *self == ObjectivesRequest::default()
    }
}

/// How long a step takes: efficiencies and rates in place of what was measured, or a fixed time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostRequest {
    /// Share of the peak arithmetic that large steps reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfu: Option<f64>,
    /// Share of the memory bandwidth that is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mbu: Option<f64>,
    /// Time that every step takes besides, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_us: Option<f64>,
    /// Peak arithmetic of the card in every format, operations a second; replaces the catalogue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_flops_per_s: Option<f64>,
    /// Memory bandwidth of the card, bytes a second; replaces the catalogue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bytes_per_s: Option<f64>,
    /// Bandwidth between cards in one direction, bytes a second; replaces the catalogue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bytes_per_s: Option<f64>,
    /// Bandwidth to cards of other machines in one direction, per card, bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bytes_per_s: Option<f64>,
    /// The same time for every step, microseconds: no model of time at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_us: Option<f64>,
}

impl CostRequest {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == CostRequest::default()
    }
}

/// Which part of a run is measured: requests that arrive from `from_s` on and before `to_s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasureRequest {
    /// Seconds after the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_s: Option<f64>,
    /// Seconds after the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_s: Option<f64>,
}

impl MeasureRequest {
    /// Whether all is measured.
    pub fn is_empty(&self) -> bool {
        *self == MeasureRequest::default()
    }
}

/// What to compare: every combination of what is named runs on the same requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareRequest {
    /// `static`, `continuous`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batching: Vec<String>,
    /// `contiguous`, `exact`, `buddy`, `paged`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv: Vec<String>,
    /// Prefix caching: `on`, `off`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_caching: Vec<String>,
}

impl CompareRequest {
    /// Whether nothing is compared.
    pub fn is_empty(&self) -> bool {
        *self == CompareRequest::default()
    }
}
