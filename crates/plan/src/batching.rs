//! What does the scheduler run with? Limits, policies and the shape of the cache as one launch resolves them, engine by
//! engine: what stands between a plan and a simulation of it.

use crate::Version;
use crate::engine::{trtllm, vllm};

/// The settings of one data-parallel replica's scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum Batching {
    /// vLLM.
    Vllm(VllmBatching),
    /// SGLang.
    Sglang(SglangBatching),
    /// TensorRT-LLM.
    TensorRtLlm(TensorRtLlmBatching),
}

impl Batching {
    /// Returns options that were given, change what is batched, and are not among the settings here.
    pub fn unmodelled(&self) -> &[String] {
        match self {
            Batching::Vllm(batching) => &batching.unmodelled,
            Batching::Sglang(batching) => &batching.unmodelled,
            Batching::TensorRtLlm(batching) => &batching.unmodelled,
        }
    }
}

/// What vLLM's scheduler and KV-cache manager run with.
///
/// vLLM 0.8.5, 0.11.0, 0.19.0, 0.24.0 and 0.33.0, `config/scheduler.py` (`SchedulerConfig`), `engine/arg_utils.py`.
#[derive(Clone, Debug, PartialEq)]
pub struct VllmBatching {
    /// The release.
    pub version: Version,
    /// Whether the V1 engine runs.
    pub v1: bool,
    /// Blocks of the pool, the null block among them; `num_gpu_blocks_override` where it is given.
    pub blocks: u64,
    /// Groups of layers that share the pool, in the engine's order; none for a model that keeps nothing.
    pub groups: Vec<VllmGroup>,
    /// Sequences that the runner holds.
    pub max_num_seqs: u64,
    /// Sequences that run at once: `max_num_active_seqs`, else `max_num_seqs`.
    pub max_num_active_seqs: u64,
    /// Tokens of a step.
    pub max_num_batched_tokens: u64,
    /// Tokens that the scheduler hands out in a step: `max_num_scheduled_tokens`, else `max_num_batched_tokens`.
    pub max_num_scheduled_tokens: u64,
    /// The longest sequence.
    pub max_model_len: u64,
    /// Whether prompts may be cut.
    pub chunked_prefill: bool,
    /// Whether full blocks are kept for requests with the same beginning.
    pub prefix_caching: bool,
    /// The most tokens of one prompt in a step; zero when there is no such limit.
    pub long_prefill_token_threshold: u64,
    /// Whether that limit is raised to a fair share of the step.
    pub long_prefill_token_threshold_adaptive: bool,
    /// Who comes first.
    pub policy: VllmPolicy,
    /// Part of the blocks that admissions leave free (0.24); zero before.
    pub watermark: f64,
    /// Whether a request is admitted only when its whole prompt fits (0.19).
    pub reserve_full_isl: bool,
    /// Prompts are computed in every n-th step only (0.24).
    pub prefill_schedule_interval: u64,
    /// Tokens between the states of sliding windows that are kept for later requests (0.29); the release's default when
    /// nothing was said.
    pub prefix_cache_retention_interval: Option<u64>,
    /// Whether a step is scheduled while the one before it runs.
    pub async_scheduling: bool,
    /// Ranks over which a sequence's tokens are dealt.
    pub context_ranks: u32,
    /// Tokens drafted per step.
    pub draft_tokens: u32,
    /// Options given that change batches and are not held here.
    pub unmodelled: Vec<String>,
}

/// Layers of vLLM whose blocks are managed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VllmGroup {
    /// How it grows with a request.
    pub kind: vllm::kv::Kind,
    /// Tokens of one block.
    pub block_tokens: u64,
    /// Layers.
    pub layers: u32,
}

/// Who comes first in vLLM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VllmPolicy {
    /// Who arrived first.
    #[default]
    Fcfs,
    /// The lowest number of priority, then who arrived first.
    Priority,
}

/// What one worker's scheduler of SGLang runs with.
///
/// SGLang 0.4.6, 0.5.3, 0.5.9 and 0.5.20, `srt/server_args.py`; 0.5.23, `srt/arg_groups/fields/{schedule,memory}.py`.
#[derive(Clone, Debug, PartialEq)]
pub struct SglangBatching {
    /// The release.
    pub version: Version,
    /// Tokens of a page.
    pub page_size: u64,
    /// Slots of the pool: `max_total_num_tokens` as logged.
    pub max_total_tokens: u64,
    /// The sliding layers' own pool, where they have one.
    pub sliding: Option<SglangSliding>,
    /// Slots for states and how many a running request takes, where layers are recurrent.
    pub states: Option<SglangStates>,
    /// Requests that run at once.
    pub max_running_requests: u64,
    /// Tokens of one piece of a prompt; `None` when prompts are not cut.
    pub chunked_prefill_size: Option<u64>,
    /// Tokens of a batch of prompts.
    pub max_prefill_tokens: u64,
    /// Requests of a batch of prompts, where limited (0.5.8).
    pub prefill_max_requests: Option<u64>,
    /// Longest sequence.
    pub context_len: u64,
    /// Who comes first.
    pub policy: SglangPolicy,
    /// How much of the outputs to come is set aside: the factor of the new-token ratio, data-parallel attention's 0.3
    /// already multiplied in.
    pub schedule_conservativeness: f64,
    /// Whether running requests decode in batches of prompts.
    pub mixed_chunk: bool,
    /// Whether prefixes are kept; without, a chunk cache.
    pub radix_cache: bool,
    /// What the radix tree evicts first.
    pub eviction: SglangEviction,
    /// Priorities, where they count (`enable_priority_scheduling`).
    pub priority: Option<SglangPriority>,
    /// Whether the scheduler overlaps with the GPU.
    pub overlap: bool,
    /// Decode steps between two looks at the queue.
    pub continuous_decode_steps: u64,
    /// Decode steps between two looks at what arrived (`scheduler_recv_interval`).
    pub receive_interval: u64,
    /// Workers of data-parallel attention inside the replica, each with such a scheduler.
    pub workers: u64,
    /// Tokens verified at once where a drafter runs, else zero.
    pub draft_tokens: u64,
    /// Options given that change batches and are not held here.
    pub unmodelled: Vec<String>,
}

/// A pool for sliding layers beside that of the full ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SglangSliding {
    /// Slots.
    pub tokens: u64,
    /// Width of the window.
    pub window: u64,
}

/// Slots for recurrent states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SglangStates {
    /// Slots.
    pub slots: u64,
    /// Slots of one running request.
    pub per_request: u64,
}

/// Priorities of SGLang's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SglangPriority {
    /// Whether low numbers come first.
    pub low_values_first: bool,
    /// The difference from which a waiting request takes a running one's place; `None` when it never does.
    pub preemption_threshold: Option<u64>,
}

/// Who comes first in SGLang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SglangPolicy {
    /// The longest match in the radix tree.
    Lpm,
    /// By chance.
    Random,
    /// Who arrived first.
    #[default]
    Fcfs,
    /// The heaviest branch of the radix tree.
    DfsWeight,
    /// The longest output.
    Lof,
    /// By priority (0.5.3).
    Priority,
    /// By a key of the request (0.5.8).
    RoutingKey,
    /// The highest ratio of response to service (0.5.20).
    Hrrn,
    /// The shortest prompt (0.5.22).
    ShortestPrefillFirst,
}

impl SglangPolicy {
    /// Every policy with its name and the release it came with.
    pub const ALL: [(SglangPolicy, &'static str, Version); 9] = [
        (SglangPolicy::Lpm, "lpm", Version::new(0, 0, 0)),
        (SglangPolicy::Random, "random", Version::new(0, 0, 0)),
        (SglangPolicy::Fcfs, "fcfs", Version::new(0, 0, 0)),
        (SglangPolicy::DfsWeight, "dfs-weight", Version::new(0, 0, 0)),
        (SglangPolicy::Lof, "lof", Version::new(0, 5, 0)),
        (SglangPolicy::Priority, "priority", Version::new(0, 5, 3)),
        (SglangPolicy::RoutingKey, "routing-key", Version::new(0, 5, 8)),
        (SglangPolicy::Hrrn, "hrrn", Version::new(0, 5, 20)),
        (SglangPolicy::ShortestPrefillFirst, "shortest-prefill-first", Version::new(0, 5, 22)),
    ];
}

/// What SGLang's radix tree evicts first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SglangEviction {
    /// What was used longest ago.
    #[default]
    Lru,
    /// What was used least.
    Lfu,
    /// What was used longest ago, what was used twice later (0.5.10).
    Slru,
    /// The lowest priority (0.5.14).
    Priority,
    /// What a conversation's tail misses least (0.5.22).
    Tlru,
}

impl SglangEviction {
    /// Every order with its name and the release it came with; before 0.5.3 there was LRU alone and no flag.
    pub const ALL: [(SglangEviction, &'static str, Version); 5] = [
        (SglangEviction::Lru, "lru", Version::new(0, 0, 0)),
        (SglangEviction::Lfu, "lfu", Version::new(0, 5, 3)),
        (SglangEviction::Slru, "slru", Version::new(0, 5, 10)),
        (SglangEviction::Priority, "priority", Version::new(0, 5, 14)),
        (SglangEviction::Tlru, "tlru", Version::new(0, 5, 22)),
    ];
}

/// What TensorRT-LLM's schedulers run with.
///
/// `tensorrt_llm/llmapi/llm_args.py` (`SchedulerConfig`, `KvCacheConfig`), `cpp/include/tensorrt_llm/executor/executor.h`.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRtLlmBatching {
    /// The release.
    pub version: Version,
    /// What runs the model.
    pub backend: trtllm::Backend,
    /// Tokens of a block.
    pub tokens_per_block: u64,
    /// Layers that have one window and one pool, widest window first.
    pub groups: Vec<TensorRtLlmGroup>,
    /// Requests of a step.
    pub max_batch_size: u64,
    /// Tokens of a step.
    pub max_num_tokens: u64,
    /// The longest sequence as asked for.
    pub max_seq_len: u64,
    /// The longest sequence that the pool serves, to which the engine cuts it.
    pub served_seq_len: u64,
    /// The longest prompt; binds compiled engines alone.
    pub max_input_len: Option<u64>,
    /// Beams.
    pub max_beam_width: u64,
    /// Attention-sink tokens.
    pub sink_tokens: u64,
    /// How requests are admitted.
    pub policy: TensorRtLlmPolicy,
    /// How prompts are cut, where they are.
    pub chunking: Option<TensorRtLlmChunking>,
    /// Whether blocks are kept for requests with the same beginning.
    pub block_reuse: bool,
    /// Whether partly equal blocks are reused too.
    pub partial_reuse: bool,
    /// Whether a step is scheduled while the one before it runs.
    pub overlap: bool,
    /// Whether requests are divided over the ranks.
    pub attention_dp: bool,
    /// Micro-batches in flight: the pipeline's stages.
    pub micro_batches: u32,
    /// Tokens drafted per step.
    pub draft_tokens: u64,
    /// Options given that change batches and are not held here.
    pub unmodelled: Vec<String>,
}

/// Layers of TensorRT-LLM that have one window and one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorRtLlmGroup {
    /// The window; the longest sequence where there is none.
    pub window: u64,
    /// Blocks of its pool.
    pub blocks: u64,
    /// Blocks of its pool in host memory.
    pub host_blocks: u64,
    /// Layers.
    pub layers: u32,
}

/// How TensorRT-LLM admits requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TensorRtLlmPolicy {
    /// Only what can be completed whatever comes.
    #[default]
    GuaranteedNoEvict,
    /// Whatever fits the next step; requests are paused when nothing is left.
    MaxUtilization,
    /// A whole batch when the last one is done.
    StaticBatch,
}

impl TensorRtLlmPolicy {
    /// Every policy with its name.
    pub const ALL: [(TensorRtLlmPolicy, &'static str); 3] = [
        (TensorRtLlmPolicy::GuaranteedNoEvict, "guaranteed_no_evict"),
        (TensorRtLlmPolicy::MaxUtilization, "max_utilization"),
        (TensorRtLlmPolicy::StaticBatch, "static_batch"),
    ];
}

/// How TensorRT-LLM cuts prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TensorRtLlmChunking {
    /// As much of the first prompt as there is room for.
    #[default]
    FirstComeFirstServed,
    /// A block of every prompt in turn.
    EqualProgress,
}

/// Which options a launch was given that change batches in ways that are not held in its settings: those of `keys` that are
/// neither off nor empty.
pub(crate) fn given<'k>(
    options: &serde_json::Map<String, serde_json::Value>,
    keys: impl IntoIterator<Item = &'k str>,
) -> Vec<String> {
    use serde_json::Value;
    let on = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Array(_) | Value::Object(_) => true,
    };
    keys.into_iter().filter(|key| options.get(*key).is_some_and(on)).map(str::to_owned).collect()
}
