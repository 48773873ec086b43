//! What does SGLang's scheduler run with? The flags that change batches and no memory, and what they and the pools come to.

use super::assess::{Assessed, Case};
use super::pools::per_request;
use crate::batching::{
    SglangBatching, SglangEviction, SglangPolicy, SglangPriority, SglangSliding, SglangStates, given,
};
use crate::engine::read::Reader;
use crate::{Error, Version};

/// Flags of the scheduler, read and checked; `None` is the release's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheduling {
    /// `schedule_policy`.
    pub policy: Option<SglangPolicy>,
    /// `schedule_conservativeness`.
    pub conservativeness: Option<f64>,
    /// `enable_mixed_chunk`.
    pub mixed_chunk: bool,
    /// `prefill_max_requests`.
    pub prefill_max_requests: Option<u64>,
    /// `radix_eviction_policy`.
    pub eviction: Option<SglangEviction>,
    /// `enable_priority_scheduling`, with what goes with it.
    pub priority: Option<SglangPriority>,
    /// `num_continuous_decode_steps`.
    pub continuous_decode_steps: Option<u64>,
    /// `scheduler_recv_interval`.
    pub receive_interval: Option<u64>,
}

/// Options that change batches and that no setting holds.
const UNMODELLED: [&str; 18] = [
    "default_priority_value",
    "disaggregation_mode",
    "enable_dynamic_chunking",
    "enable_hierarchical_cache",
    "enable_lmcache",
    "enable_lora",
    "enable_prefill_delayer",
    "enable_streaming_session",
    "enable_two_batch_overlap",
    "load_balance_method",
    "lora_paths",
    "max_queued_requests",
    "pp_max_micro_batch_size",
    "prefill_decode_interval",
    "prefill_decode_interval_min_bs",
    "radix_eviction_policy_config",
    "retraction_policy",
    "speculative_algorithm",
];

impl Scheduling {
    /// Reads the flags as a release takes them.
    ///
    /// # Errors
    /// [`Error::Flag`] names a value that the release would not take.
    pub(super) fn read(read: &Reader<'_>, version: Version) -> Result<Scheduling, Error> {
        let policy = choice(read, "schedule_policy", &SglangPolicy::ALL, version)?;
        let priority = if read.switch("enable_priority_scheduling")?.unwrap_or(false) {
            if !matches!(policy.unwrap_or_default(), SglangPolicy::Fcfs | SglangPolicy::Lof) {
                return read.bad("schedule_policy", "fcfs or lof beside --enable-priority-scheduling");
            }
            let threshold = read.count("priority_scheduling_preemption_threshold", 0, 1 << 40)?.unwrap_or(10);
            let never = read.switch("disable_priority_preemption")?.unwrap_or(false);
            Some(SglangPriority {
                low_values_first: read.switch("schedule_low_priority_values_first")?.unwrap_or(false),
                preemption_threshold: (!never).then_some(threshold),
            })
        } else {
            None
        };
        Ok(Scheduling {
            policy,
            conservativeness: read.number("schedule_conservativeness", 0.0, 1e9)?,
            mixed_chunk: read.switch("enable_mixed_chunk")?.unwrap_or(false),
            prefill_max_requests: read.count("prefill_max_requests", 1, 1 << 32)?,
            eviction: choice(read, "radix_eviction_policy", &SglangEviction::ALL, version)?,
            priority,
            continuous_decode_steps: read.count("num_continuous_decode_steps", 1, 1 << 20)?,
            receive_interval: read.count("scheduler_recv_interval", 0, 1 << 20)?,
        })
    }
}

/// Reads one of the words that the release takes.
fn choice<T: Copy>(
    read: &Reader<'_>,
    key: &str,
    all: &[(T, &'static str, Version)],
    version: Version,
) -> Result<Option<T>, Error> {
    let taken: Vec<&str> = all.iter().filter(|(_, _, since)| version >= *since).map(|(_, name, _)| *name).collect();
    let Some(word) = read.word(key, &taken)? else { return Ok(None) };
    Ok(all.iter().find(|(_, name, _)| *name == word).map(|(found, _, _)| *found))
}

/// Settles what one worker's scheduler runs with.
pub(super) fn batching(case: &Case<'_>, assessed: &Assessed) -> SglangBatching {
    let (options, resolved, pools) = (case.options, &assessed.resolved, &assessed.pools);
    let flags = &options.scheduling;
    let cells = &assessed.shares[assessed.scarcest].cells;
    // SGLang 0.4.6, `srt/server_args.py`, and 0.5.23, `srt/arg_groups/parallel_hook.py`: attention divided over workers
    // sets less aside.
    let divided = options.dp_attention && options.dp > 1;
    let conservativeness = flags.conservativeness.unwrap_or(1.0) * if divided { 0.3 } else { 1.0 };
    SglangBatching {
        version: resolved.version,
        page_size: resolved.page.max(1),
        max_total_tokens: pools.tokens,
        sliding: pools.swa_tokens.map(|tokens| SglangSliding { tokens, window: cells.window }),
        states: pools.slots.map(|slots| SglangStates { slots, per_request: per_request(resolved, options) }),
        max_running_requests: pools.requests,
        chunked_prefill_size: resolved.worker_chunk.filter(|_| resolved.chunk.is_some()),
        max_prefill_tokens: resolved.max_prefill,
        prefill_max_requests: flags.prefill_max_requests,
        context_len: resolved.context,
        policy: flags.policy.unwrap_or_default(),
        schedule_conservativeness: conservativeness,
        mixed_chunk: flags.mixed_chunk && resolved.chunk.is_some(),
        radix_cache: !options.no_radix,
        eviction: flags.eviction.unwrap_or_default(),
        priority: flags.priority,
        overlap: resolved.overlap,
        continuous_decode_steps: flags.continuous_decode_steps.unwrap_or(1),
        receive_interval: flags.receive_interval.unwrap_or(1),
        workers: options.workers(),
        draft_tokens: resolved.draft.as_ref().map_or(0, |draft| draft.tokens),
        unmodelled: given(&options.given, UNMODELLED),
    }
}
