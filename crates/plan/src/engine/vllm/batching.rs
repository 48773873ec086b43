//! What does vLLM's scheduler run with? The flags that change batches and no memory, and what they and the plan come to.

use super::assess::Assessed;
use super::options::Options;
use crate::batching::{VllmBatching, VllmGroup, VllmPolicy, given};
use crate::engine::read::Reader;
use crate::{Error, Version};

/// Flags of the scheduler, read and checked; `None` is the release's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheduling {
    /// `scheduling_policy`.
    pub policy: Option<VllmPolicy>,
    /// `long_prefill_token_threshold`.
    pub long_prefill_token_threshold: Option<u64>,
    /// `long_prefill_token_threshold_adaptive`.
    pub long_prefill_token_threshold_adaptive: bool,
    /// `max_num_partial_prefills`, of which more than one is what V0 alone can do.
    pub max_num_partial_prefills: Option<u64>,
    /// `max_num_active_seqs`.
    pub max_num_active_seqs: Option<u64>,
    /// `max_num_scheduled_tokens`.
    pub max_num_scheduled_tokens: Option<u64>,
    /// `watermark`.
    pub watermark: Option<f64>,
    /// `scheduler_reserve_full_isl`.
    pub reserve_full_isl: Option<bool>,
    /// `prefill_schedule_interval`.
    pub prefill_schedule_interval: Option<u64>,
    /// `prefix_cache_retention_interval`.
    pub retention: Option<u64>,
}

/// Options that change batches and that no setting holds.
const UNMODELLED: [&str; 16] = [
    "enable_dbo",
    "enable_lora",
    "kv_offloading_backend",
    "kv_offloading_size",
    "kv_sharing_fast_prefill",
    "kv_transfer_config",
    "max_long_partial_prefills",
    "max_num_partial_prefills",
    "max_num_queued_reqs",
    "max_num_queued_tokens",
    "num_scheduler_steps",
    "prefix_match_unit",
    "scheduler_cls",
    "scheduler_delay_factor",
    "speculative_config",
    "speculative_model",
];

impl Scheduling {
    /// Reads the flags.
    ///
    /// # Errors
    /// [`Error::Flag`] names a value that the engine would not take.
    pub(super) fn read(read: &Reader<'_>) -> Result<Scheduling, Error> {
        let policy = read.word("scheduling_policy", &["fcfs", "priority"])?;
        let most = 1_u64 << 40;
        Ok(Scheduling {
            policy: policy.map(|name| if name == "priority" { VllmPolicy::Priority } else { VllmPolicy::Fcfs }),
            long_prefill_token_threshold: read.count("long_prefill_token_threshold", 0, most)?,
            long_prefill_token_threshold_adaptive: read
                .switch("long_prefill_token_threshold_adaptive")?
                .unwrap_or(false),
            max_num_partial_prefills: read.count("max_num_partial_prefills", 1, 1 << 24)?,
            max_num_active_seqs: read.count("max_num_active_seqs", 1, 1 << 24)?,
            max_num_scheduled_tokens: read.count("max_num_scheduled_tokens", 1, most)?,
            watermark: match read.number("watermark", 0.0, 1.0)? {
                Some(1.0..) => return read.bad("watermark", "a number from 0 to below 1"),
                other => other,
            },
            reserve_full_isl: read.switch("scheduler_reserve_full_isl")?,
            prefill_schedule_interval: read.count("prefill_schedule_interval", 1, 1 << 32)?,
            retention: read.count("prefix_cache_retention_interval", 0, 1 << 31)?,
        })
    }

    /// Returns the most tokens of one prompt in a step.
    ///
    /// vLLM 0.8.5, `config.py`, and 0.26.0, `config/scheduler.py`, `__post_init__`: 4% of the longest sequence where several
    /// prompts may be cut at once, which V0 alone runs.
    fn threshold(&self, max_model_len: u64) -> u64 {
        let several = self.max_num_partial_prefills.unwrap_or(1) > 1;
        match self.long_prefill_token_threshold.unwrap_or(0) {
            0 if several => (max_model_len as f64 * 0.04) as u64,
            tokens => tokens,
        }
    }
}

/// Settles what the scheduler runs with.
///
/// # Errors
/// [`Error::Flag`] for a limit beyond the one that it must not exceed.
pub(super) fn batching(options: &Options, assessed: &Assessed) -> Result<VllmBatching, Error> {
    let (flags, resolved, kv) = (&options.scheduling, &assessed.resolved, &assessed.kv);
    let version = resolved.version;
    let over = |flag: &str, found: u64, limit: &str, most: u64| Error::Flag {
        flag: flag.to_owned(),
        found: found.to_string(),
        expected: format!("at most {limit}, which is {most}"),
    };
    let threshold = flags.threshold(resolved.max_model_len);
    if threshold > resolved.max_model_len {
        return Err(over("--long-prefill-token-threshold", threshold, "--max-model-len", resolved.max_model_len));
    }
    let active = flags.max_num_active_seqs.unwrap_or(resolved.max_num_seqs);
    if active > resolved.max_num_seqs {
        return Err(over("--max-num-active-seqs", active, "--max-num-seqs", resolved.max_num_seqs));
    }
    let groups = kv.groups.iter().map(|group| VllmGroup {
        kind: group.spec.kind,
        block_tokens: group.spec.block,
        layers: group.layers.len() as u32,
    });
    Ok(VllmBatching {
        version,
        v1: resolved.v1,
        blocks: kv.blocks,
        groups: groups.collect(),
        max_num_seqs: resolved.max_num_seqs,
        max_num_active_seqs: active,
        max_num_batched_tokens: resolved.max_num_batched_tokens,
        max_num_scheduled_tokens: flags.max_num_scheduled_tokens.unwrap_or(resolved.max_num_batched_tokens),
        max_model_len: resolved.max_model_len,
        chunked_prefill: resolved.chunked_prefill,
        prefix_caching: resolved.prefix_caching,
        long_prefill_token_threshold: threshold,
        long_prefill_token_threshold_adaptive: flags.long_prefill_token_threshold_adaptive,
        policy: flags.policy.unwrap_or_default(),
        watermark: flags.watermark.unwrap_or(0.0),
        reserve_full_isl: flags.reserve_full_isl.unwrap_or(version >= Version::new(0, 19, 0)),
        prefill_schedule_interval: flags.prefill_schedule_interval.unwrap_or(1),
        prefix_cache_retention_interval: flags.retention,
        async_scheduling: resolved.async_scheduling,
        context_ranks: resolved.dcp,
        draft_tokens: resolved.draft_tokens,
        unmodelled: given(&options.given, UNMODELLED),
    })
}
