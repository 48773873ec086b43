//! What is answered? One row a combination, what is best, why engines differ; plain data with promised names.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

/// Plans side by side.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ComparisonAnswer {
    /// What was varied: the lists with several values, in the order of the rows.
    pub varied: Vec<VariedAnswer>,
    /// What is the same in all rows, in words.
    pub same: Vec<String>,
    /// How the rows are laid out.
    pub view: ViewAnswer,
    /// The rows.
    pub rows: Vec<ComparisonRow>,
    /// Rows that no other row beats in both of two figures, where those are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front: Option<FrontAnswer>,
    /// Why engines differ on the same card and model: each against the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineDifference>,
    /// Where published quality comes from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quality_sources: Vec<QualitySource>,
    /// What the numbers rest on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
}

/// A list with several values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct VariedAnswer {
    /// `model`, `gpu`, `engine`, `format`, `kv_format`, `tp`, `pp`, `context`, `batch`.
    pub axis: Cow<'static, str>,
    /// Its values.
    pub values: Vec<String>,
}

/// How rows are laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ViewAnswer {
    /// `grid` or `table`.
    pub layout: Cow<'static, str>,
    /// What stands in the rows.
    pub rows: Vec<Cow<'static, str>>,
    /// What stands in the columns; empty for a table.
    pub columns: Vec<Cow<'static, str>>,
    /// The figures that are shown.
    pub show: Vec<Cow<'static, str>>,
    /// The figure by which rows are sorted, with `-` in front where the largest is first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
}

/// One combination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ComparisonRow {
    /// The model as it was asked for.
    pub model: String,
    /// The model that it is.
    pub model_id: String,
    /// The card as it was asked for.
    pub gpu: String,
    /// The card that it is.
    pub gpu_name: String,
    /// Cards that are used.
    pub gpus: u32,
    /// The engine.
    pub engine: Cow<'static, str>,
    /// Its release.
    pub engine_version: String,
    /// The format of the weights: the one asked for, else what the model is stored in.
    pub format: String,
    /// The format of the KV cache, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_format: Option<String>,
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Pipeline stages.
    pub pp: u32,
    /// The longest sequence that the launch serves.
    pub context: u64,
    /// The most sequences at once, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// Why this combination cannot be answered; every figure below that depends on it is null then.
    pub reason: Option<String>,
    /// Parameters, tied tensors once.
    pub parameters: u64,
    /// Bytes of the checkpoint as it is stored in this format.
    pub checkpoint_bytes: Option<u64>,
    /// Weights of the scarcest rank as the engine holds them.
    pub weights_bytes: Option<u64>,
    /// Bytes of weights less than in the first format, same rank, same rest.
    pub saved_bytes: Option<i64>,
    /// The same as a part of the first format's.
    pub saved_share: Option<f64>,
    /// Bytes that one more token costs on one rank.
    pub kv_bytes_per_token: Option<u64>,
    /// What the scarcest rank has for the KV cache.
    pub kv_budget_bytes: Option<u64>,
    /// Tokens that the cache holds.
    pub kv_tokens: Option<u64>,
    /// The longest sequence that could be served.
    pub max_context_tokens: Option<u64>,
    /// Sequences of `at_tokens` that fit at once.
    pub concurrency: Option<u64>,
    /// Tokens of a sequence, for concurrency and times.
    pub at_tokens: u64,
    /// Sequences that decode at once, for times.
    pub at_batch: u32,
    /// `fits`, `borderline`, `shorter` (it serves shorter sequences alone) or `does_not_fit`: the launch as it is asked for.
    pub state: Option<Cow<'static, str>>,
    /// What binds where it does not fit.
    pub binding: Option<String>,
    /// Bytes to spare on the scarcest rank; negative: missing.
    pub margin_bytes: Option<i64>,
    /// Predicted time of a decode step of `at_batch` sequences, with the 10th and 90th percentile, milliseconds.
    pub decode_ms: Option<f64>,
    /// 10th percentile.
    pub decode_low_ms: Option<f64>,
    /// 90th percentile.
    pub decode_high_ms: Option<f64>,
    /// Predicted time of one prompt of `at_tokens` alone, milliseconds.
    pub prefill_ms: Option<f64>,
    /// 10th percentile.
    pub prefill_low_ms: Option<f64>,
    /// 90th percentile.
    pub prefill_high_ms: Option<f64>,
    /// Output tokens a second of all sequences.
    pub tokens_per_s: Option<f64>,
    /// The same of one sequence.
    pub tokens_per_s_per_user: Option<f64>,
    /// The same for each card.
    pub tokens_per_s_per_gpu: Option<f64>,
    /// Whether most of a step's time rests on the bare roofline, no kernel having been measured on such a card: the interval,
    /// which is that of measured cards, is too narrow then, and no figure of time is best.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub times_unmeasured: bool,
    /// Why there are no times.
    pub times_reason: Option<String>,
    /// Published quality of the model in this format; null where no source is known.
    pub quality: Option<QualityAnswer>,
    /// Total memory of the scarcest rank's card.
    pub card_bytes: Option<u64>,
    /// What the engine allows itself there.
    pub limit_bytes: Option<u64>,
    /// The scarcest rank's memory by part: `weights`, `activations`, `runtime`, `graphs`, `kv`, `reserve`.
    pub parts: Vec<PartAnswer>,
    /// Bytes by which weights and everything else that is fixed exceed what there is.
    pub short_bytes: u64,
    /// Weights and caches in the host's memory.
    pub host_bytes: u64,
    /// Tokens of one step at most, where the engine's scheduler is modelled.
    pub step_tokens: Option<u64>,
    /// What the engine does with the card's memory, in sentences; only where engines are compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub does: Vec<String>,
    /// The figures of which no row of its group (the table; a line of a grid) has a better one.
    pub best: Vec<Cow<'static, str>>,
}

/// A part of a rank's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PartAnswer {
    /// Which.
    pub part: Cow<'static, str>,
    /// Bytes.
    pub bytes: u64,
}

/// Published quality.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct QualityAnswer {
    /// `perplexity` (less is better), `score` or `recovery` (percent; more is better).
    pub metric: Cow<'static, str>,
    /// The number.
    pub value: f64,
    /// Its change against the unquantised model, by the same source.
    pub change: Option<f64>,
    /// Index into `quality_sources`.
    pub source: usize,
}

/// Where published quality comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QualitySource {
    /// How it was measured.
    pub protocol: String,
    /// Where it stands.
    pub source: String,
}

/// Rows that no other row beats in both of two figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FrontAnswer {
    /// One figure.
    pub x: Cow<'static, str>,
    /// The other.
    pub y: Cow<'static, str>,
    /// Indices of rows, by rising `x`.
    pub rows: Vec<usize>,
}

/// Why an engine has another KV budget than the first on the same card with the same model.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct EngineDifference {
    /// Index of its row.
    pub row: usize,
    /// Index of the first engine's row.
    pub against: usize,
    /// Its KV budget less the first's, the missing bytes counted where weights do not even fit.
    pub kv_budget_bytes: i64,
    /// The parts of which the difference is the sum.
    pub parts: Vec<DifferencePart>,
    /// What it does, and why it differs, in sentences.
    pub words: Vec<String>,
}

/// A part of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DifferencePart {
    /// `weights`, `activations`, `runtime`, `graphs`, `left`, `card`.
    pub part: Cow<'static, str>,
    /// Bytes more (negative: less) for the KV cache because of it.
    pub bytes: i64,
}
