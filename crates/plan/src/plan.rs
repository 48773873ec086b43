//! What is the answer? Ranks with their ledgers, the KV cache's capacity, and a verdict that says what to do.

use plimsoll_units::{Bytes, Estimate};

use crate::Ledger;

/// The card that a plan is made for, as the driver and the runtime report it.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Catalogue name.
    pub name: String,
    /// Total memory as the CUDA runtime reports it (`cudaMemGetInfo`), which is what engines multiply.
    pub total: Estimate,
    /// Compute capability such as (9, 0); `None` for other vendors.
    pub compute_capability: Option<(u8, u8)>,
    /// Streaming multiprocessors, where known.
    pub sm_count: Option<u32>,
    /// Whether CPU and GPU share the memory.
    pub unified: bool,
    /// GPUs of this kind that may be used.
    pub count: u32,
}

/// Quantities that the user knows and that replace estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Weights of the scarcest rank after loading.
    pub weights: Option<Bytes>,
    /// Peak of the forward pass above the weights.
    pub activation: Option<Bytes>,
    /// Memory outside the framework's allocator.
    pub non_torch: Option<Bytes>,
    /// Free memory at the moment before the KV cache is taken.
    pub kv_free: Option<Bytes>,
    /// The KV cache's budget itself.
    pub kv_budget: Option<Bytes>,
}

/// A plan: the whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Engine name: `vllm`, `tensorrt-llm`, `sglang`, `llama.cpp`, `ollama`, `transformers`.
    pub engine: &'static str,
    /// Engine version.
    pub version: crate::Version,
    /// How the model is divided.
    pub parallel: crate::Parallel,
    /// Every rank of one data-parallel replica, pipeline stage by stage.
    pub ranks: Vec<Rank>,
    /// Index into `ranks` of the rank that decides.
    pub scarcest: usize,
    /// The KV cache.
    pub kv: Kv,
    /// The longest sequence that is served, as asked for or defaulted.
    pub max_model_len: u64,
    /// The longest sequence for which the KV cache holds one request.
    pub max_context_tokens: u64,
    /// Does it fit?
    pub verdict: Verdict,
    /// How far it is from the limit, with the estimates' interval.
    pub margin: Margin,
    /// What lies in the host's memory, where the engine puts something there on purpose (llama.cpp, Ollama, offloading).
    pub host: Option<Ledger>,
    /// What the numbers rest on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
    /// The launch command, one argument per item.
    pub launch: Vec<String>,
    /// What the scheduler runs with; `None` for engines whose scheduler is not modelled.
    pub batching: Option<crate::Batching>,
}

/// Bytes between what the scarcest rank has and what it needs: spare when positive, missing when negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    /// The least, at the unfavourable end of every interval.
    pub low: i64,
    /// As estimated.
    pub bytes: i64,
    /// The most, at the favourable end.
    pub high: i64,
}

impl Margin {
    /// Returns what an interval of available bytes leaves of what is needed.
    pub fn of(available: &Estimate, needed: Bytes) -> Margin {
        let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
        let left = |bytes: Bytes| signed(bytes).saturating_sub(signed(needed));
        Margin { low: left(available.low), bytes: left(available.bytes), high: left(available.high) }
    }
}

/// Does it fit, with the intervals considered?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It fits at both ends of the interval.
    Fits,
    /// The interval straddles the limit.
    Borderline,
    /// It does not fit at either end.
    DoesNotFit,
}

impl State {
    /// Returns the name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            State::Fits => "fits",
            State::Borderline => "borderline",
            State::DoesNotFit => "does_not_fit",
        }
    }
}

impl Plan {
    /// Returns the verdict with the intervals considered. Too few GPUs are no matter of intervals.
    pub fn state(&self) -> State {
        match &self.verdict {
            Verdict::Fits { .. } if self.margin.low < 0 => State::Borderline,
            Verdict::Fits { .. } => State::Fits,
            Verdict::DoesNotFit { binding, .. } if self.margin.high >= 0 && binding != "gpus" => State::Borderline,
            Verdict::DoesNotFit { .. } => State::DoesNotFit,
        }
    }
}

/// One rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Rank {
    /// The device as the engine names it (`CUDA0`), where it names it.
    pub device: Option<String>,
    /// Pipeline stage.
    pub pp_rank: u32,
    /// Tensor-parallel rank within the stage.
    pub tp_rank: u32,
    /// What the engine allows itself on this GPU.
    pub limit: Bytes,
    /// The GPU's total.
    pub total: Bytes,
    /// The lines.
    pub ledger: Ledger,
    /// What is left for the KV cache on this rank (before the minimum over ranks), with its interval. Negative budgets
    /// are zero here and `short` says by how much.
    pub kv_budget: Estimate,
    /// How much the fixed part exceeds the limit.
    pub short: Bytes,
}

/// The KV cache's capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct Kv {
    /// Bytes that one more token costs on the scarcest rank while no window is full, all attention layers together.
    pub bytes_per_token: u64,
    /// Tokens of one block.
    pub block_tokens: u64,
    /// Blocks of the pool (after the minimum over ranks).
    pub blocks: u64,
    /// Tokens that the pool can hold.
    pub tokens: u64,
    /// What the scarcest rank has for the cache.
    pub budget: Estimate,
    /// Requests of `concurrency_at_tokens` that fit at once.
    pub max_concurrency: f64,
    /// The length for which concurrency is computed (max_model_len).
    pub concurrency_at_tokens: u64,
    /// Layers that share pages.
    pub groups: Vec<KvGroup>,
    /// What requests of any length take.
    pub growth: crate::Growth,
    /// The numbers as this engine version prints them.
    pub logged: Logged,
}

/// Layers whose pages are managed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvGroup {
    /// `full`, `sliding:1024`, `mla`, `mamba`, …
    pub kind: String,
    /// Layers in the group (padding not counted).
    pub layers: u32,
    /// Tokens of one block.
    pub block_tokens: u64,
    /// Bytes of one layer's page.
    pub page_bytes: u64,
    /// Blocks that one request of max_model_len takes from this group.
    pub blocks_per_request: u64,
}

/// What the engine's log will say about the cache.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logged {
    /// Tokens as printed.
    pub kv_tokens: Option<u64>,
    /// GiB as printed.
    pub gib: Option<f64>,
    /// Blocks as printed.
    pub blocks: Option<u64>,
    /// Concurrency as printed.
    pub concurrency: Option<f64>,
    /// The lines themselves.
    pub lines: Vec<String>,
}

/// The engine's own refusal to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Its message, word for word.
    pub message: String,
    /// Bytes that one request needs.
    pub needed: Option<Bytes>,
    /// The longest length that it would accept.
    pub estimated_max_len: Option<u64>,
}

/// Does it fit?
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It starts, and so much of the KV cache is left beside one request of max_model_len.
    Fits {
        /// Bytes left on the scarcest rank.
        spare: Bytes,
    },
    /// It does not start.
    DoesNotFit {
        /// Bytes missing on the scarcest rank.
        short_by: Bytes,
        /// What binds: `weights`, `kv`, `gpus`, …
        binding: String,
        /// What the engine would say.
        refusal: Option<Refusal>,
        /// What would help, cheapest first.
        remedies: Vec<Remedy>,
    },
}

/// A change that would help, with its own recomputed outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// What to change, in words.
    pub change: String,
    /// The flags that do it.
    pub flags: Vec<String>,
    /// Whether it fits then.
    pub fits: bool,
    /// KV tokens then.
    pub kv_tokens: u64,
    /// Longest context then.
    pub max_context_tokens: u64,
    /// What it costs, in words.
    pub cost: String,
}
