//! What are the engine's own settings for its scheduler? From a plan's to the simulation's, engine by engine.

use std::num::NonZeroU32;

use plimsoll_kv::radix::Eviction;
use plimsoll_kv::{Group, Reach};
use plimsoll_plan::batching::{
    Batching, SglangBatching, SglangEviction, SglangPolicy, TensorRtLlmBatching, TensorRtLlmChunking,
    TensorRtLlmPolicy, VllmBatching, VllmPolicy,
};
use plimsoll_plan::engine::vllm::kv::Kind;
use plimsoll_sim::Intake;
use plimsoll_sim::schedule::sglang::{self, Sglang};
use plimsoll_sim::schedule::trtllm::{self, TrtLlm};
use plimsoll_sim::schedule::vllm::{self, Vllm};

use super::engines::{Machine, Setup};
use crate::Error;

/// Returns the engine's own scheduler.
pub(super) fn own(batching: &Batching, prefix_caching: bool) -> Result<Setup, Error> {
    let mut setup = match batching {
        Batching::Vllm(of) => own_vllm(of, prefix_caching),
        Batching::Sglang(of) => own_sglang(of, prefix_caching),
        Batching::TensorRtLlm(of) => own_trtllm(of, prefix_caching),
    }?;
    if !batching.unmodelled().is_empty() {
        setup.notes.push(format!("not simulated: {}", batching.unmodelled().join(", ")));
    }
    Ok(setup)
}

fn own_vllm(of: &VllmBatching, prefix_caching: bool) -> Result<Setup, Error> {
    let mut notes = Vec::new();
    if !of.v1 {
        return Err(Error::Simulation(format!(
            "vLLM {} runs the V0 engine with this launch, whose scheduler is not modelled; V1's from 0.11 on is",
            of.version
        )));
    }
    if of.draft_tokens > 0 {
        notes.push(speculative());
    }
    let groups = groups(of, prefix_caching, &mut notes)?;
    let block_tokens = groups.iter().map(|group| group.block_tokens.get()).min();
    if groups.len() > 1 {
        notes.push(format!(
            "{} groups of layers share the blocks, and each takes its own for a token: the cache holds fewer tokens of \
             requests than its blocks have places, see `plimsoll plan`",
            groups.len()
        ));
    }
    let release = vllm::Config::new(of.version, narrow("num_gpu_blocks", of.blocks)?);
    let retention = of.prefix_cache_retention_interval;
    let fewer = |name: &str, value: u64, most: u64| (value < most).then(|| narrow(name, value)).transpose();
    let config = vllm::Config {
        groups,
        max_seqs: narrow("max_num_seqs", of.max_num_seqs)?,
        max_active_seqs: fewer("max_num_active_seqs", of.max_num_active_seqs, of.max_num_seqs)?,
        max_batched_tokens: narrow("max_num_batched_tokens", of.max_num_batched_tokens)?,
        max_scheduled_tokens: fewer(
            "max_num_scheduled_tokens",
            of.max_num_scheduled_tokens,
            of.max_num_batched_tokens,
        )?,
        prefill_interval: narrow("prefill_schedule_interval", of.prefill_schedule_interval)?,
        adaptive_threshold: of.long_prefill_token_threshold_adaptive,
        retention: retention
            .map(|every| narrow("prefix_cache_retention_interval", every))
            .transpose()?
            .or(release.retention),
        max_model_len: narrow("max_model_len", of.max_model_len)?,
        prefix_caching,
        chunked_prefill: of.chunked_prefill,
        policy: match of.policy {
            VllmPolicy::Fcfs => vllm::Policy::Fcfs,
            VllmPolicy::Priority => vllm::Policy::Priority,
        },
        long_prefill_token_threshold: narrow("long_prefill_token_threshold", of.long_prefill_token_threshold)?,
        reserve_full: Some(of.reserve_full_isl),
        watermark: of.watermark,
        ..release
    };
    Ok(Setup {
        machine: Machine::Vllm(Box::new(Vllm::new(config).map_err(settings)?)),
        batching: "continuous".to_owned(),
        kv: "paged".to_owned(),
        prefix_caching,
        block_tokens: block_tokens.map(u64::from),
        intake: Intake { ahead: of.async_scheduling, ..Intake::default() },
        notes,
    })
}

/// Returns the groups of layers; a recurrent state is a block that holds any length.
fn groups(of: &VllmBatching, prefix_caching: bool, notes: &mut Vec<String>) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    // A state's own block size is the longest sequence: only blocks of tokens say what divides what.
    let of_tokens = of.groups.iter().filter(|group| !matches!(group.kind, Kind::State { .. }));
    let longest = of_tokens.map(|group| group.block_tokens).max().unwrap_or(1).max(1);
    let whole = of.max_model_len.div_ceil(longest).saturating_mul(longest);
    for group in &of.groups {
        let size = |tokens: u64| at_least_one("block_size", tokens);
        let (reach, tokens, copies) = match group.kind {
            Kind::Full { .. } | Kind::Mla | Kind::Indexer => (Reach::Full, group.block_tokens, 1),
            Kind::Sliding { window } => {
                (Reach::Sliding { window: at_least_one("window", window)? }, group.block_tokens, 1)
            }
            Kind::Chunked { chunk } => (Reach::Chunked { chunk: at_least_one("chunk", chunk)? }, group.block_tokens, 1),
            Kind::State { held } => (Reach::Full, whole, held),
            Kind::StateEveryBlock { .. } => (Reach::Full, group.block_tokens, 1),
            Kind::Cross { .. } => {
                notes.push("the encoder's cache is not simulated".to_owned());
                continue;
            }
        };
        if matches!(group.kind, Kind::State { .. } | Kind::StateEveryBlock { .. }) && prefix_caching {
            notes.push("recurrent states are held by every request and not found again by prefix".to_owned());
        }
        for _ in 0..copies.min(64) {
            groups.push(Group { reach, block_tokens: size(tokens)? });
        }
    }
    notes.dedup();
    Ok(groups)
}

fn own_sglang(of: &SglangBatching, prefix_caching: bool) -> Result<Setup, Error> {
    let mut notes = Vec::new();
    if of.version != plimsoll_plan::Version::new(0, 5, 23) {
        notes.push(format!("the scheduler is 0.5.23's, with the limits and defaults of {}", of.version));
    }
    if let Some(sliding) = of.sliding {
        notes.push(format!(
            "the sliding layers' own pool of {} tokens is not simulated: only the full layers' pool limits",
            sliding.tokens
        ));
    }
    if let Some(states) = of.states {
        notes.push(format!("the {} slots for recurrent states limit requests only as a number", states.slots));
    }
    if of.draft_tokens > 0 {
        notes.push(speculative());
    }
    if of.workers > 1 {
        return Err(Error::Simulation(format!(
            "data-parallel attention over {} workers is not simulated: each has a scheduler of its own",
            of.workers
        )));
    }
    let page_size = at_least_one("page_size", of.page_size)?;
    let config = sglang::Config {
        page_size,
        max_prefill_tokens: narrow("max_prefill_tokens", of.max_prefill_tokens)?,
        prefill_max_requests: of.prefill_max_requests.map(|most| narrow("prefill_max_requests", most)).transpose()?,
        context_length: Some(narrow("context_len", of.context_len)?),
        schedule_policy: policy(of.policy)?,
        schedule_conservativeness: of.schedule_conservativeness,
        enable_mixed_chunk: of.mixed_chunk,
        enable_overlap: of.overlap,
        disable_radix_cache: !prefix_caching,
        radix_eviction_policy: eviction(of.eviction)?,
        enable_priority_scheduling: of.priority.is_some(),
        schedule_low_priority_values_first: of.priority.is_some_and(|priority| priority.low_values_first),
        disable_priority_preemption: of.priority.is_some_and(|priority| priority.preemption_threshold.is_none()),
        priority_scheduling_preemption_threshold: of
            .priority
            .and_then(|priority| priority.preemption_threshold)
            .map_or(Ok(0), |threshold| narrow("priority_scheduling_preemption_threshold", threshold))?
            .try_into()
            .unwrap_or(i32::MAX),
        ..sglang::Config::new(
            of.max_total_tokens,
            narrow("max_running_requests", of.max_running_requests)?,
            of.chunked_prefill_size.map(|size| narrow("chunked_prefill_size", size)).transpose()?,
        )
    };
    Ok(Setup {
        machine: Machine::Sglang(Box::new(Sglang::new(config).map_err(settings)?)),
        batching: "continuous".to_owned(),
        kv: "paged".to_owned(),
        prefix_caching,
        block_tokens: Some(of.page_size),
        intake: Intake { ahead: of.overlap, interval: narrow("scheduler_recv_interval", of.receive_interval)? },
        notes,
    })
}

/// Returns in which order waiting requests are tried.
fn policy(of: SglangPolicy) -> Result<sglang::Policy, Error> {
    Ok(match of {
        SglangPolicy::Fcfs => sglang::Policy::Fcfs,
        SglangPolicy::Lpm => sglang::Policy::Lpm,
        SglangPolicy::Lof => sglang::Policy::Lof,
        SglangPolicy::DfsWeight => sglang::Policy::DfsWeight,
        SglangPolicy::Random
        | SglangPolicy::Priority
        | SglangPolicy::RoutingKey
        | SglangPolicy::Hrrn
        | SglangPolicy::ShortestPrefillFirst => {
            let known = SglangPolicy::ALL.into_iter().find(|(policy, ..)| *policy == of);
            return Err(Error::Simulation(format!(
                "schedule_policy {} is not simulated; fcfs, lpm, lof and dfs-weight are",
                known.map_or("", |(_, name, _)| name)
            )));
        }
    })
}

/// Returns what the radix tree evicts first; the thresholds are the engine's defaults.
fn eviction(of: SglangEviction) -> Result<Eviction, Error> {
    let known = SglangEviction::ALL.into_iter().find(|(kind, ..)| *kind == of);
    let name = known.map_or("", |(_, name, _)| name);
    name.parse().map_err(|_| Error::Simulation(format!("radix_eviction_policy {name} is not simulated")))
}

fn own_trtllm(of: &TensorRtLlmBatching, prefix_caching: bool) -> Result<Setup, Error> {
    let mut notes = Vec::new();
    let refuse = |what: &str| Err(Error::Simulation(format!("{what} is not simulated for TensorRT-LLM")));
    if of.max_beam_width > 1 {
        return refuse("beam search");
    }
    if of.attention_dp {
        return refuse("attention data parallelism");
    }
    if let [widest, _, ..] = of.groups.as_slice() {
        notes.push(format!(
            "of {} pools of layers with different windows only the widest is simulated, {} blocks: it fills first",
            of.groups.len(),
            widest.blocks
        ));
    }
    if of.micro_batches > 1 {
        notes.push(format!("the {} micro-batches of the pipeline are simulated as one", of.micro_batches));
    }
    if of.draft_tokens > 0 {
        notes.push(speculative());
    }
    let blocks = of.groups.first().map_or(0, |group| group.blocks);
    let config = trtllm::Config {
        policy: match of.policy {
            TensorRtLlmPolicy::GuaranteedNoEvict => trtllm::Policy::GuaranteedNoEvict,
            TensorRtLlmPolicy::MaxUtilization => trtllm::Policy::MaxUtilization,
            TensorRtLlmPolicy::StaticBatch => trtllm::Policy::StaticBatch,
        },
        max_batch_size: narrow("max_batch_size", of.max_batch_size)?,
        max_num_tokens: narrow("max_num_tokens", of.max_num_tokens)?,
        chunking: of.chunking.map(|chunking| match chunking {
            TensorRtLlmChunking::FirstComeFirstServed => trtllm::Chunking::FirstComeFirstServed,
            TensorRtLlmChunking::EqualProgress => trtllm::Chunking::EqualProgress,
        }),
        tokens_per_block: narrow("tokens_per_block", of.tokens_per_block)?,
        enable_block_reuse: prefix_caching,
        ..trtllm::Config::new(narrow("blocks", blocks)?, narrow("max_seq_len", of.max_seq_len)?)
    };
    let static_batch = of.policy == TensorRtLlmPolicy::StaticBatch;
    Ok(Setup {
        machine: Machine::TensorRtLlm(Box::new(
            TrtLlm::new(config).map_err(|error| Error::Simulation(error.to_string()))?,
        )),
        batching: if static_batch { "static" } else { "continuous" }.to_owned(),
        kv: "paged".to_owned(),
        prefix_caching,
        block_tokens: Some(of.tokens_per_block),
        intake: Intake { ahead: of.overlap, ..Intake::default() },
        notes,
    })
}

fn speculative() -> String {
    "speculative decoding is not simulated: one token a step and request".to_owned()
}

pub(super) fn narrow(name: &str, value: u64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::Simulation(format!("{name} of {value} is more than 2^32 - 1")))
}

fn at_least_one(name: &str, value: u64) -> Result<NonZeroU32, Error> {
    NonZeroU32::new(narrow(name, value)?).ok_or_else(|| Error::Simulation(format!("{name} is 0")))
}

fn settings(error: plimsoll_sim::Error) -> Error {
    Error::Simulation(error.to_string())
}
