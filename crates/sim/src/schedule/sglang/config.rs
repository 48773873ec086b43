//! What is set? SGLang's own options, as far as scheduling depends on them.

use std::num::NonZeroU32;
use std::str::FromStr;

use plimsoll_kv::radix::{Eviction, SplitAge};

use crate::Error;

/// In which order waiting requests are tried (`--schedule-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// First come, first served.
    #[default]
    Fcfs,
    /// Longest cached beginning first, while at most 128 requests wait.
    Lpm,
    /// Longest output asked for first.
    Lof,
    /// Depth first through the cache, heaviest branch first.
    DfsWeight,
}

impl FromStr for Policy {
    type Err = Error;

    /// Reads the engine's name.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "fcfs" => Ok(Policy::Fcfs),
            "lpm" => Ok(Policy::Lpm),
            "lof" => Ok(Policy::Lof),
            "dfs-weight" => Ok(Policy::DfsWeight),
            _ => Err(Error::Settings(format!(
                "schedule_policy {name:?} is not simulated; fcfs, lpm, lof and dfs-weight are"
            ))),
        }
    }
}

/// Who loses its place when the cache is full (`--retraction-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retraction {
    /// The fewest generated tokens, among those the longest prompt.
    #[default]
    Length,
    /// The least important, among those as before.
    Priority,
}

/// The settings of SGLang's scheduler and cache, by the engine's names, with the defaults of release 0.5.23
/// (`srt/arg_groups/fields/schedule.py`, `memory.py`; what depends on the card must be said).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Tokens of the pool (`max_total_num_tokens` in the engine's log); whole pages of it are used.
    pub max_total_tokens: u64,
    /// Tokens of a page.
    pub page_size: NonZeroU32,
    /// Most requests that run at once.
    pub max_running_requests: u32,
    /// Most prompt tokens of a step; `None` where chunked prefill is off (−1 in the engine).
    pub chunked_prefill_size: Option<u32>,
    /// Most prompt tokens of a step, besides; the first request may go beyond where chunked prefill is off.
    pub max_prefill_tokens: u32,
    /// Most requests of a prefill step.
    pub prefill_max_requests: Option<u32>,
    /// Longest sequence, where the model or the user limits it.
    pub context_length: Option<u32>,
    /// In which order waiting requests are tried.
    pub schedule_policy: Policy,
    /// Factor on the share of their outputs that running requests are expected to still need.
    pub schedule_conservativeness: f64,
    /// Whether running requests take part in prefill steps.
    pub enable_mixed_chunk: bool,
    /// Whether nothing is remembered for later requests.
    pub disable_radix_cache: bool,
    /// Which cached beginnings go first.
    pub radix_eviction_policy: Eviction,
    /// Which of the engine's trees holds the cache: the unified one by default.
    pub split_age: SplitAge,
    /// Whether priorities count. Higher goes first unless `schedule_low_priority_values_first`.
    pub enable_priority_scheduling: bool,
    /// Whether running requests keep their places before more important ones.
    pub disable_priority_preemption: bool,
    /// Whether lower numbers are more important.
    pub schedule_low_priority_values_first: bool,
    /// By how much more important a request must be to take a running one's place.
    pub priority_scheduling_preemption_threshold: i32,
    /// Who loses its place when the cache is full.
    pub retraction_policy: Retraction,
    /// Decode steps between one prefill step and the next; 0 for none.
    pub prefill_decode_interval: u32,
    /// Running requests below which that interval does not count.
    pub prefill_decode_interval_min_bs: u32,
    /// Whether a step is formed while the last one computes, and so without its outcome (the opposite of
    /// `--disable-overlap-schedule`).
    pub enable_overlap: bool,
    /// Whether requests are sent with `ignore_eos`, as load generators do: the scheduler then expects every output to be as
    /// long as was asked for.
    pub ignore_eos: bool,
}

impl Config {
    /// Returns the defaults for a pool, with pages of one token.
    pub fn new(max_total_tokens: u64, max_running_requests: u32, chunked_prefill_size: Option<u32>) -> Self {
        Config {
            max_total_tokens,
            page_size: NonZeroU32::MIN,
            max_running_requests,
            chunked_prefill_size,
            max_prefill_tokens: 16384,
            prefill_max_requests: None,
            context_length: None,
            schedule_policy: Policy::Fcfs,
            schedule_conservativeness: 1.0,
            enable_mixed_chunk: false,
            disable_radix_cache: false,
            radix_eviction_policy: Eviction::Lru,
            split_age: SplitAge::Inherited,
            enable_priority_scheduling: false,
            disable_priority_preemption: false,
            schedule_low_priority_values_first: false,
            priority_scheduling_preemption_threshold: 10,
            retraction_policy: Retraction::Length,
            prefill_decode_interval: 0,
            prefill_decode_interval_min_bs: 0,
            enable_overlap: true,
            ignore_eos: false,
        }
    }

    /// Checks what the engine checks at its start.
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Settings(why));
        let page = u64::from(self.page_size.get());
        if self.max_total_tokens / page == 0 {
            return refuse(format!("a pool of {} tokens holds no page of {page}", self.max_total_tokens));
        }
        if self.max_total_tokens > 1 << 40 {
            return refuse(format!("a pool of {} tokens is beyond 2^40", self.max_total_tokens));
        }
        if self.max_running_requests == 0 {
            return refuse("max_running_requests is 0".to_owned());
        }
        if self.chunked_prefill_size == Some(0) {
            return refuse("chunked_prefill_size is 0; without chunked prefill it is none".to_owned());
        }
        if !(self.schedule_conservativeness >= 0.0 && self.schedule_conservativeness.is_finite()) {
            return refuse(format!("schedule_conservativeness {} is negative", self.schedule_conservativeness));
        }
        Ok(())
    }
}
