//! What is set? vLLM's own options, as far as scheduling depends on them.

use std::num::NonZeroU32;

use plimsoll_kv::{Group, Reach};
use plimsoll_plan::Version;

use super::Rules;
use crate::{Error, Request};

/// Who is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// First come, first served.
    #[default]
    Fcfs,
    /// The lowest priority number, then the earliest.
    Priority,
}

/// The settings of vLLM's scheduler and cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The release.
    pub version: Version,
    /// Blocks of the cache, the null block included (`num_gpu_blocks`).
    pub blocks: u32,
    /// Groups of layers.
    pub groups: Vec<Group>,
    /// Most requests that run at once (`max_num_seqs`).
    pub max_seqs: u32,
    /// Fewer that run at once, where they are set (`max_num_active_seqs`, 0.33).
    pub max_active_seqs: Option<u32>,
    /// Most tokens of a step (`max_num_batched_tokens`).
    pub max_batched_tokens: u32,
    /// Fewer that are given out in a step, where they are set (`max_num_scheduled_tokens`, from 0.18).
    pub max_scheduled_tokens: Option<u32>,
    /// Prompts are computed in every so many steps (`prefill_schedule_interval`, 0.33; 1 for every step).
    pub prefill_interval: u32,
    /// Longest sequence (`max_model_len`).
    pub max_model_len: u32,
    /// Whether contents are found again (`enable_prefix_caching`).
    pub prefix_caching: bool,
    /// Whether a prompt may be computed in pieces (`enable_chunked_prefill`).
    pub chunked_prefill: bool,
    /// Who is served first (`scheduling_policy`).
    pub policy: Policy,
    /// Most tokens of one request in a step; 0 for no limit (`long_prefill_token_threshold`).
    pub long_prefill_token_threshold: u32,
    /// Whether that limit is no lower than a fair share of the step's tokens (`long_prefill_token_threshold_adaptive`, 0.33).
    pub adaptive_threshold: bool,
    /// Until 0.26: above 1, a threshold is set where there is none (`max_num_partial_prefills`).
    pub max_partial_prefills: u32,
    /// Whether a request is admitted only when its whole sequence fits (`scheduler_reserve_full_isl`); the release's own
    /// choice where it is `None`.
    pub reserve_full: Option<bool>,
    /// Share of the blocks that newcomers must leave free (`watermark`, from 0.24).
    pub watermark: f64,
    /// What is remembered of sliding windows (`prefix_cache_retention_interval`, from 0.29): everything, or what later
    /// requests resume at and every so many tokens.
    pub retention: Option<u32>,
}

impl Config {
    /// Returns a release's defaults with blocks of 16 tokens for full attention: 256 requests, 2048 tokens a step, sequences
    /// of up to 2^31 tokens, prefix caching and chunked prefill on.
    pub fn new(version: Version, blocks: u32) -> Self {
        const SIXTEEN: NonZeroU32 = NonZeroU32::new(16).expect("16 is not 0");
        Config {
            version,
            blocks,
            groups: vec![Group { reach: Reach::Full, block_tokens: SIXTEEN }],
            max_seqs: 256,
            max_active_seqs: None,
            max_batched_tokens: 2048,
            max_scheduled_tokens: None,
            prefill_interval: 1,
            max_model_len: 1 << 31,
            prefix_caching: true,
            chunked_prefill: true,
            policy: Policy::Fcfs,
            long_prefill_token_threshold: 0,
            adaptive_threshold: false,
            max_partial_prefills: 1,
            reserve_full: None,
            watermark: 0.0,
            retention: Rules::of(version).ok().and_then(|rules| rules.manner.retention),
        }
    }

    /// Returns the release's rules, if the settings are ones that it takes.
    pub(super) fn rules(&self) -> Result<Rules, Error> {
        let rules = Rules::of(self.version).map_err(Error::Settings)?;
        let refuse = |why: String| Err(Error::Settings(why));
        for (name, value) in [
            ("num_gpu_blocks", self.blocks),
            ("max_num_seqs", self.max_seqs),
            ("max_num_batched_tokens", self.max_batched_tokens),
            ("max_model_len", self.max_model_len),
            ("max_num_active_seqs", self.max_active_seqs.unwrap_or(1)),
            ("max_num_scheduled_tokens", self.max_scheduled_tokens.unwrap_or(1)),
            ("prefill_schedule_interval", self.prefill_interval),
        ] {
            if value == 0 {
                return refuse(format!("{name} is 0, and must be at least 1"));
            }
        }
        if self.blocks > MOST_BLOCKS {
            return refuse(format!("num_gpu_blocks is {}, and {MOST_BLOCKS} are supported", self.blocks));
        }
        if !(0.0..1.0).contains(&self.watermark) {
            return refuse(format!("watermark is {}, and must be at least 0 and below 1", self.watermark));
        }
        if self.watermark > 0.0 && !rules.has_watermark {
            return refuse(format!("vLLM {} has no watermark; 0.24 and later have", self.version));
        }
        if self.max_active_seqs.is_some() && !rules.has_adaptive_threshold {
            return refuse(format!("vLLM {} has no max_num_active_seqs; 0.33 has", self.version));
        }
        if self.max_scheduled_tokens.is_some() && self.version < Version::new(0, 18, 0) {
            return refuse(format!("vLLM {} has no max_num_scheduled_tokens; 0.18 and later have", self.version));
        }
        if self.prefill_interval > 1 && !rules.has_prefill_interval {
            return refuse(format!("vLLM {} has no prefill_schedule_interval on one engine; 0.33 has", self.version));
        }
        if self.adaptive_threshold && !rules.has_adaptive_threshold {
            return refuse(format!("vLLM {} has no long_prefill_token_threshold_adaptive; 0.33 has", self.version));
        }
        if !self.chunked_prefill && self.max_batched_tokens < self.max_model_len {
            return refuse(format!(
                "without chunked prefill, max_num_batched_tokens ({}) must not be below max_model_len ({})",
                self.max_batched_tokens, self.max_model_len
            ));
        }
        self.check_groups(&rules)?;
        Ok(rules)
    }

    /// Refuses groups that the release's cache does not take.
    fn check_groups(&self, rules: &Rules) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Settings(why));
        let sizes = || self.groups.iter().map(|group| group.block_tokens.get());
        if self.groups.is_empty() || self.groups.len() > 64 {
            return refuse(format!("{} groups of layers; 1 to 64 are supported", self.groups.len()));
        }
        let (Some(most), Some(least)) = (sizes().max(), sizes().min()) else { return Ok(()) };
        if sizes().any(|size| most % size != 0 || size % least != 0) {
            return refuse("block sizes of groups must divide the largest and be multiples of the smallest".to_owned());
        }
        let mut others: Vec<Group> = self.groups.iter().copied().filter(|group| group.reach != Reach::Full).collect();
        let chunked = others.iter().any(|group| matches!(group.reach, Reach::Chunked { .. }));
        if chunked && most != least && self.prefix_caching {
            return refuse("chunked local attention needs the same block size in every group".to_owned());
        }
        others.dedup();
        let two_kinds = rules.manner.joint == plimsoll_kv::Joint::TwoKinds;
        let full = self.groups.iter().any(|group| group.reach == Reach::Full);
        let hybrid = self.groups.len() > 1 && self.prefix_caching && two_kinds;
        if hybrid && (others.len() != 1 || !full || most != least) {
            return refuse(format!(
                "vLLM {} keeps a prefix cache over full attention and exactly one other kind of group with blocks of one \
                 size; 0.15 and later over more",
                self.version
            ));
        }
        if let Some(interval) = self.retention
            && (interval % most != 0 || rules.manner.retention.is_none())
        {
            return refuse(format!(
                "prefix_cache_retention_interval {interval} must be a multiple of the block size {most}, in a release that has it"
            ));
        }
        Ok(())
    }

    /// Returns the most tokens that are given out in a step.
    pub(super) fn budget(&self) -> u32 {
        self.max_batched_tokens.min(self.max_scheduled_tokens.unwrap_or(u32::MAX))
    }

    /// Returns the most requests that run at once.
    pub(super) fn seats(&self) -> usize {
        self.max_seqs.min(self.max_active_seqs.unwrap_or(u32::MAX)) as usize
    }

    /// Returns the most tokens of one request in a step, 0 for no limit (config/scheduler.py:213, 0.11.0).
    pub(super) fn threshold(&self, rules: &Rules) -> u32 {
        if rules.has_partial_prefills && self.max_partial_prefills > 1 && self.long_prefill_token_threshold == 0 {
            return (f64::from(self.max_model_len) * 0.04) as u32;
        }
        self.long_prefill_token_threshold
    }

    /// Returns the most blocks that admission asks for in each group: a window, a step's tokens and a block for the window's
    /// uneven beginning (`max_admission_blocks_per_request`, v1/kv_cache_interface.py:864-944, 0.33.0).
    pub(super) fn caps(&self, rules: &Rules) -> Vec<u32> {
        if !rules.caps_windows {
            return Vec::new();
        }
        let cap = |group: &Group| {
            let most = |span: u32| u64::from(span) + u64::from(self.max_batched_tokens);
            let blocks = |tokens: u64| {
                tokens.min(u64::from(self.max_model_len)).div_ceil(u64::from(group.block_tokens.get())) as u32
            };
            match group.reach {
                Reach::Full => u32::MAX,
                Reach::Sliding { window } => blocks(most(window.get() - 1)).saturating_add(1),
                Reach::Chunked { chunk } => blocks(most(chunk.get())),
            }
        };
        self.groups.iter().map(cap).collect()
    }

    /// Says why a request is turned away, if it is. The engine itself refuses prompts that are too long; a sequence that the
    /// whole cache does not hold it would preempt and begin again for ever.
    pub(super) fn refusal(&self, rules: &Rules, request: &Request) -> Option<String> {
        let prompt = request.prompt_tokens;
        if prompt > self.max_model_len || rules.refuses_full_prompt && prompt == self.max_model_len {
            let than = if prompt > self.max_model_len { "longer than" } else { "as long as" };
            return Some(format!("its prompt of {prompt} tokens is {than} max_model_len {}", self.max_model_len));
        }
        // The last token is never put into the cache.
        let tokens = u64::from(prompt) + u64::from(request.output_tokens) - 1;
        let full = self.groups.iter().filter(|group| group.reach == Reach::Full);
        let needed: u64 = full.map(|group| tokens.div_ceil(u64::from(group.block_tokens.get()))).sum();
        (needed > u64::from(self.blocks - 1))
            .then(|| format!("its {tokens} tokens need {needed} blocks, and the cache has {}", self.blocks - 1))
    }
}

/// Most blocks of a cache; more would take gigabytes here.
const MOST_BLOCKS: u32 = 1 << 26;
