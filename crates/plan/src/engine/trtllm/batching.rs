//! What do TensorRT-LLM's schedulers run with? The options that change batches and no memory, and what they and the pools
//! come to.

use serde_json::Value;

use super::launch::Launch;
use super::options::{flag, switch};
use super::rules::Backend;
use super::verdict::longest;
use super::{Joint, Options};
use crate::batching::{TensorRtLlmBatching, TensorRtLlmChunking, TensorRtLlmGroup, TensorRtLlmPolicy};
use crate::{Error, Version};

/// Options of the schedulers, read and checked; `None` is the release's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheduling {
    /// `capacity_scheduler_policy`.
    pub policy: Option<TensorRtLlmPolicy>,
    /// `context_chunking_policy`.
    pub chunking: Option<TensorRtLlmChunking>,
    /// `enable_chunked_prefill`, `enable_chunked_context`.
    pub chunked: Option<bool>,
    /// `enable_block_reuse`, `disable_kv_cache_reuse`.
    pub block_reuse: Option<bool>,
    /// `enable_partial_reuse`.
    pub partial_reuse: Option<bool>,
    /// Options given that change batches and are not read.
    pub unmodelled: Vec<String>,
}

/// Options that change batches and that no setting holds.
const UNMODELLED: [&str; 7] = [
    "cross_kv_cache_fraction",
    "disaggregated_serving",
    "dynamic_batch_config",
    "guided_decoding_backend",
    "secondary_offload_min_priority",
    "speculative_config",
    "waiting_queue_policy",
];

impl Scheduling {
    /// Reads one option of the schedulers.
    ///
    /// # Errors
    /// [`Error::Flag`] for a value that the engine refuses.
    pub(super) fn option(&mut self, plain: &str, key: &str, value: &Value) -> Result<(), Error> {
        let plain = plain.rsplit_once('.').map_or(plain, |(_, inner)| inner);
        let word = || value.as_str().map(|text| text.trim().to_ascii_lowercase().replace('-', "_")).unwrap_or_default();
        match plain {
            "capacity_scheduler_policy" => {
                let word = word();
                let found = TensorRtLlmPolicy::ALL.iter().find(|(_, name)| *name == word);
                let Some((policy, _)) = found else {
                    return Err(flag(key, value, "guaranteed_no_evict, max_utilization or static_batch"));
                };
                self.policy = Some(*policy);
            }
            "context_chunking_policy" => {
                self.chunking = Some(match word().as_str() {
                    "first_come_first_served" => TensorRtLlmChunking::FirstComeFirstServed,
                    "equal_progress" => TensorRtLlmChunking::EqualProgress,
                    _ => return Err(flag(key, value, "first_come_first_served or equal_progress")),
                });
            }
            "enable_chunked_prefill" | "enable_chunked_context" => self.chunked = Some(switch(key, value)?),
            "enable_block_reuse" => self.block_reuse = Some(switch(key, value)?),
            "disable_kv_cache_reuse" => self.block_reuse = Some(!switch(key, value)?),
            "enable_partial_reuse" => self.partial_reuse = Some(switch(key, value)?),
            _ if UNMODELLED.contains(&plain) => self.unmodelled.push(plain.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

/// Whether blocks are kept for reuse when nothing is said: in the LLM API and the PyTorch backend always, in compiled
/// engines from 0.17, which turned it on with paged-context attention.
///
/// `tensorrt_llm/llmapi/llm_args.py`, `KvCacheConfig.enable_block_reuse`; release notes of 0.17.
fn reuses(backend: Backend, version: Version) -> bool {
    match backend {
        Backend::PyTorch => true,
        Backend::TensorRt => version >= Version::new(0, 17, 0),
    }
}

/// Settles what the schedulers run with.
pub(super) fn batching(launch: &Launch<'_>, kv: &Joint) -> TensorRtLlmBatching {
    let options: &Options = launch.options;
    let flags = &options.scheduling;
    let groups = kv.groups.iter().enumerate().map(|(at, group)| TensorRtLlmGroup {
        window: group.window,
        blocks: kv.blocks.get(at).copied().unwrap_or(0),
        host_blocks: kv.host_blocks.get(at).copied().unwrap_or(0),
        layers: group.layers,
    });
    let block_reuse = flags.block_reuse.unwrap_or_else(|| reuses(launch.backend, launch.version)) && launch.beams <= 1;
    let chunked = flags.chunked.unwrap_or(false);
    TensorRtLlmBatching {
        version: launch.version,
        backend: launch.backend,
        tokens_per_block: launch.block,
        groups: groups.collect(),
        max_batch_size: launch.batch,
        max_num_tokens: launch.num_tokens,
        max_seq_len: launch.seq,
        served_seq_len: longest(launch, kv).min(launch.seq),
        max_input_len: (launch.backend == Backend::TensorRt).then_some(launch.input),
        max_beam_width: launch.beams,
        sink_tokens: options.sink_token_length,
        policy: flags.policy.unwrap_or_default(),
        chunking: chunked.then(|| flags.chunking.unwrap_or_default()),
        block_reuse,
        partial_reuse: block_reuse && flags.partial_reuse.unwrap_or(true),
        overlap: launch.backend == Backend::PyTorch && !options.no_overlap,
        attention_dp: options.attention_dp,
        micro_batches: launch.parallel.pp,
        draft_tokens: options.max_draft_len,
        unmodelled: flags.unmodelled.clone(),
    }
}
