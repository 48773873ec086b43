//! What is answered? Plain data; the names are promised (see the design's "JSON that others rely on").

use std::borrow::Cow;

use plimsoll_plan::{Item, Section};
use schemars::JsonSchema;
use serde::Serialize;

/// The whole answer to a plan.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PlanAnswer {
    /// The model.
    pub model: ModelHead,
    /// The engine.
    pub engine: EngineHead,
    /// The card.
    pub gpu: GpuHead,
    /// How the model is divided.
    pub parallel: ParallelHead,
    /// Every rank of one data-parallel replica.
    pub ranks: Vec<RankAnswer>,
    /// Index into `ranks` of the rank that decides.
    pub scarcest: usize,
    /// The KV cache.
    pub kv: KvAnswer,
    /// The longest sequence that is served.
    pub max_model_len: u64,
    /// The longest sequence for which the KV cache holds one request.
    pub max_context_tokens: u64,
    /// Does it fit?
    pub verdict: VerdictAnswer,
    /// What lies in the host's memory, where the engine puts something there on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostAnswer>,
    /// What the numbers rest on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
    /// The launch command.
    pub launch: String,
}

/// The model in an answer's head.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ModelHead {
    /// Its name.
    pub id: String,
    /// `model_type`.
    pub model_type: String,
    /// Parameters, tied tensors once.
    pub parameters: u64,
    /// Parameters that one token goes through.
    pub active_parameters: u64,
    /// Dtype of unquantised weights.
    pub dtype: Cow<'static, str>,
    /// Quantisation method, when there is one.
    pub quantization: Option<String>,
    /// Where its facts come from.
    pub source: String,
}

/// The engine in an answer's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EngineHead {
    /// `vllm`, `tensorrt-llm`.
    pub name: Cow<'static, str>,
    /// The release whose rules were used.
    pub version: String,
}

/// The card in an answer's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GpuHead {
    /// Catalogue name.
    pub name: String,
    /// How many are used.
    pub count: u32,
    /// The total that the runtime reports.
    pub total_bytes: u64,
    /// Least that it may be.
    pub total_low: u64,
    /// Most that it may be.
    pub total_high: u64,
    /// Where the total comes from.
    pub source: String,
}

/// How the model is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ParallelHead {
    /// Tensor parallel.
    pub tp: u32,
    /// Pipeline parallel.
    pub pp: u32,
    /// Data parallel.
    pub dp: u32,
    /// Expert parallel.
    pub ep: u32,
}

/// One rank's ledger.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RankAnswer {
    /// The device as the engine names it (`CUDA0`), where it names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The card of that device, where devices are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// The total memory of this rank's card.
    pub card_bytes: u64,
    /// Pipeline stage.
    pub pp_rank: u32,
    /// Tensor-parallel rank.
    pub tp_rank: u32,
    /// What the engine allows itself.
    pub limit_bytes: u64,
    /// The sum of the entries.
    pub total_bytes: u64,
    /// What this rank has for the KV cache.
    pub kv_budget_bytes: u64,
    /// The lines.
    pub entries: Vec<EntryAnswer>,
}

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EntryAnswer {
    /// What it is: `weights.attention`, `activation`, `kv`, …
    pub item: Cow<'static, str>,
    /// Bytes.
    pub bytes: u64,
    /// Fifth percentile.
    pub low: u64,
    /// Ninety-fifth percentile.
    pub high: u64,
    /// Where it comes from: `kind: detail`.
    pub source: String,
    /// What a reader should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Cow<'static, str>>,
}

impl EntryAnswer {
    /// Returns the part of a rank's memory to which the line belongs; `None` for an item that is not known here.
    pub fn section(&self) -> Option<Section> {
        Item::named(&self.item).map(Item::section)
    }
}

/// The KV cache's capacity.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct KvAnswer {
    /// Bytes that one more token of a full-attention sequence costs on one rank.
    pub bytes_per_token: u64,
    /// Tokens of one block.
    pub block_tokens: u64,
    /// Blocks.
    pub blocks: u64,
    /// Tokens.
    pub tokens: u64,
    /// Budget of the scarcest rank.
    pub budget_bytes: u64,
    /// Fifth percentile of the budget.
    pub budget_low: u64,
    /// Ninety-fifth percentile of the budget.
    pub budget_high: u64,
    /// Requests of `concurrency_at_tokens` that fit at once.
    pub max_concurrency: f64,
    /// The length for which concurrency is computed.
    pub concurrency_at_tokens: u64,
    /// Layers that share pages.
    pub groups: Vec<KvGroupAnswer>,
    /// The numbers as this engine version prints them.
    pub logged: LoggedAnswer,
}

/// Layers whose pages are managed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KvGroupAnswer {
    /// `full`, `sliding:1024`, `mla`, …
    pub kind: String,
    /// Layers.
    pub layers: u32,
    /// Tokens of one block.
    pub block_tokens: u64,
    /// Bytes of one layer's page.
    pub page_bytes: u64,
    /// Blocks that one request of max_model_len takes.
    pub blocks_per_request: u64,
}

/// What the engine's log will say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct LoggedAnswer {
    /// Tokens as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_tokens: Option<u64>,
    /// GiB as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gib: Option<f64>,
    /// Blocks as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<u64>,
    /// Concurrency as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<f64>,
    /// The lines.
    pub lines: Vec<String>,
}

/// Does it fit?
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct VerdictAnswer {
    /// Whether the engine starts and serves one request of max_model_len.
    pub fits: bool,
    /// `fits`, `borderline` (the interval straddles the limit) or `does_not_fit`.
    pub state: Cow<'static, str>,
    /// Bytes to spare (negative: missing) on the scarcest rank, with the interval.
    pub margin: MarginAnswer,
    /// Bytes to spare on the scarcest rank; null when it does not fit.
    pub spare_bytes: Option<u64>,
    /// Bytes missing on the scarcest rank; null when it fits.
    pub short_by_bytes: Option<u64>,
    /// What binds; null when it fits.
    pub binding: Option<String>,
    /// The engine's own message; null when it fits or has none.
    pub refusal: Option<String>,
    /// What would help, cheapest first.
    pub remedies: Vec<RemedyAnswer>,
}

/// Bytes between what there is and what is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MarginAnswer {
    /// At the unfavourable end of the interval.
    pub low: i64,
    /// As estimated.
    pub bytes: i64,
    /// At the favourable end.
    pub high: i64,
}

impl From<plimsoll_plan::Margin> for MarginAnswer {
    fn from(margin: plimsoll_plan::Margin) -> Self {
        MarginAnswer { low: margin.low, bytes: margin.bytes, high: margin.high }
    }
}

/// What lies in the host's memory.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HostAnswer {
    /// Their sum.
    pub total_bytes: u64,
    /// The lines.
    pub entries: Vec<EntryAnswer>,
}

/// A change that would help, with its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RemedyAnswer {
    /// The change in words.
    pub change: String,
    /// The flags that do it.
    pub flags: Vec<String>,
    /// Whether it fits then.
    pub fits: bool,
    /// KV tokens then.
    pub kv_tokens: u64,
    /// Longest context then.
    pub max_context_tokens: u64,
    /// What it costs.
    pub cost: String,
}

/// What a model is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct InspectAnswer {
    /// Name, parameters, dtype, quantisation.
    pub model: ModelHead,
    /// Class name.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Rows of the token embedding.
    pub vocabulary: u64,
    /// Longest sequence by configuration.
    pub max_positions: u64,
    /// Whether the output projection is the token embedding.
    pub tied: bool,
    /// Parameters of towers and projectors (part of the total).
    pub tower_parameters: u64,
    /// Parameters of drafting layers (not part of the total).
    pub draft_parameters: u64,
    /// Bytes of the checkpoint as stored, where the format is understood.
    pub checkpoint_bytes: Option<u64>,
    /// Bits that one number of the checkpoint takes on average, scales included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_weight: Option<f64>,
    /// Bytes that one more token costs in a KV cache of the model's dtype, all layers, unsharded, windows not reached.
    pub kv_bytes_per_token: u64,
    /// Bytes that one sequence costs whatever its length (recurrent states at the model's dtype, fp32 for SSM states).
    pub state_bytes_per_sequence: u64,
    /// What the cache of one sequence takes as it gets longer, states included; empty where each token costs the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kv_growth: Vec<KvAtAnswer>,
    /// Runs of equal layers.
    pub layers: Vec<LayerRun>,
    /// The inventory.
    pub tensors: Vec<TensorLine>,
    /// What the checkpoint's files hold, where their headers were at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<StoredLine>>,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// What the cache of one sequence takes at a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KvAtAnswer {
    /// Tokens of the sequence.
    pub tokens: u64,
    /// Bytes, all layers, unsharded, in the model's dtype; states included.
    pub bytes: u64,
}

/// Equal layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LayerRun {
    /// Which: `0-2,4`.
    pub layers: String,
    /// How many.
    pub count: u64,
    /// Attention or recurrence, in words.
    pub mixer: String,
    /// Feed-forward block, in words.
    pub ffn: String,
}

/// One line of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TensorLine {
    /// Name with `{i}` for indices.
    pub name: String,
    /// Shape of one tensor.
    pub shape: Vec<u64>,
    /// How many tensors.
    pub count: u64,
    /// Layers, as `0-31`; empty outside the stack.
    pub layers: String,
    /// `text`, `tower`, `draft`.
    pub part: Cow<'static, str>,
    /// What it does: `embedding`, `attention`, `mlp`, `experts`, …, as the lines of a ledger's weights.
    pub role: Cow<'static, str>,
    /// Numbers in all of them.
    pub parameters: u64,
    /// How they are stored.
    pub format: String,
    /// Bytes as stored, where the format is understood.
    pub bytes: Option<u64>,
}

/// One line of a checkpoint's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StoredLine {
    /// Stored name with `{i}` for indices.
    pub name: String,
    /// How one number is stored.
    pub dtype: Cow<'static, str>,
    /// Shape of one tensor.
    pub shape: Vec<u64>,
    /// How many tensors.
    pub count: u64,
    /// Layers, as `0-31`; empty for a name without index.
    pub layers: String,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// What is built in.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CatalogueAnswer {
    /// `models`, `gpus`, `engines`, `formats`.
    pub kind: Cow<'static, str>,
    /// Column names.
    pub columns: Vec<Cow<'static, str>>,
    /// Rows of cells; a cell is a string, a number or null.
    pub rows: Vec<Vec<serde_json::Value>>,
}
