//! Which scheduler serves? From a plan's settings to the engine's own scheduler, or to plain ones to compare it with.

use plimsoll_kv::Fit;
use plimsoll_plan::{Batching, Plan};
use plimsoll_sim::Intake;
use plimsoll_sim::schedule::plain::{self, Layout, Plain, Prefill};
use plimsoll_sim::schedule::sglang::Sglang;
use plimsoll_sim::schedule::trtllm::TrtLlm;
use plimsoll_sim::schedule::vllm::Vllm;
use plimsoll_units::Nanos;

use super::CompareRequest;
use super::own::{narrow, own};
use crate::Error;

/// A scheduler, ready to run.
pub(super) enum Machine {
    Vllm(Box<Vllm>),
    Sglang(Box<Sglang>),
    TensorRtLlm(Box<TrtLlm>),
    Plain(Box<Plain>),
}

/// One way to serve the workload.
pub(super) struct Setup {
    /// The scheduler.
    pub(super) machine: Machine,
    /// How batches are formed.
    pub(super) batching: String,
    /// How the cache is allotted.
    pub(super) kv: String,
    /// Whether prefixes are shared.
    pub(super) prefix_caching: bool,
    /// Tokens of a block.
    pub(super) block_tokens: Option<u64>,
    /// When the scheduler learns of requests.
    pub(super) intake: Intake,
    /// What a reader should know.
    pub(super) notes: Vec<String>,
}

/// Returns every way to serve that is asked for: the engine's own when nothing is compared.
pub(super) fn setups(compare: &CompareRequest, plan: &Plan) -> Result<Vec<Setup>, Error> {
    let Some(batching) = &plan.batching else {
        return Err(Error::Simulation(format!(
            "{}'s scheduler is not modelled; vllm's, sglang's and tensorrt-llm's are",
            plan.engine
        )));
    };
    if plan.parallel.dp > 1 {
        return Err(Error::Request(format!(
            "one replica is simulated, and this launch has {} of them: leave out data parallelism, and give one replica \
             its share of the requests (--rate-scale {:.3})",
            plan.parallel.dp,
            1.0 / f64::from(plan.parallel.dp)
        )));
    }
    let batchings = each("--compare", &compare.batching, &["continuous", "static"])?;
    let caches = each("--kv", &compare.kv, &["paged", "contiguous", "exact", "buddy"])?;
    let prefixes = prefixes(compare, batching)?;
    let mut setups = Vec::new();
    for batched in &batchings {
        for cache in &caches {
            if (*batched, *cache) == ("continuous", "paged") {
                for &prefix in &prefixes {
                    setups.push(own(batching, prefix)?);
                }
            } else {
                setups.push(plain_setup(batching, batched, cache)?);
            }
        }
    }
    Ok(setups)
}

/// Returns the kinds asked for, the first known one when none is.
fn each<'a>(flag: &str, asked: &'a [String], known: &[&'static str]) -> Result<Vec<&'a str>, Error> {
    for kind in asked {
        if !known.contains(&kind.as_str()) {
            return Err(Error::Request(format!("{flag} {kind}: not one of {}", known.join(", "))));
        }
    }
    if asked.is_empty() {
        return Ok(known[..1].to_vec());
    }
    let mut kinds: Vec<&str> = Vec::with_capacity(asked.len());
    for kind in asked {
        if !kinds.contains(&kind.as_str()) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

/// Returns whether prefixes are shared in each of the engine's own setups: as launched when nothing is asked.
fn prefixes(compare: &CompareRequest, batching: &Batching) -> Result<Vec<bool>, Error> {
    if compare.prefix_caching.is_empty() {
        return Ok(vec![match batching {
            Batching::Vllm(of) => of.prefix_caching,
            Batching::Sglang(of) => of.radix_cache,
            Batching::TensorRtLlm(of) => of.block_reuse,
        }]);
    }
    let asked = each("--prefix-caching", &compare.prefix_caching, &["on", "off"])?;
    Ok(asked.into_iter().map(|kind| kind == "on").collect())
}

/// Returns a plain scheduler with the launch's limits.
fn plain_setup(of: &Batching, batched: &str, cache: &str) -> Result<Setup, Error> {
    let limits = limits(of);
    let layout = match cache {
        "contiguous" => Layout::Longest(Fit::First),
        "exact" => Layout::Asked(Fit::First),
        "buddy" => Layout::Buddy,
        _ => Layout::Paged { block_tokens: narrow("block_size", limits.block_tokens)? },
    };
    let max_num_seqs = narrow("max_num_seqs", limits.max_num_seqs)?;
    let budget = narrow("max_num_batched_tokens", limits.max_num_batched_tokens)?;
    let batching = match batched {
        "static" => plain::Batching::Static { wait: Nanos::ZERO },
        _ => plain::Batching::Continuous(Prefill::Chunked { budget: budget.max(max_num_seqs) }),
    };
    let config = plain::Config {
        batching,
        layout,
        slots: narrow("KV cache", limits.tokens)?,
        max_model_len: narrow("max_model_len", limits.max_model_len)?,
        max_num_seqs,
    };
    let plain = Plain::new(config).map_err(|error| Error::Simulation(format!("{batched} with {cache}: {error}")))?;
    Ok(Setup {
        machine: Machine::Plain(Box::new(plain)),
        batching: batched.to_owned(),
        kv: cache.to_owned(),
        prefix_caching: false,
        block_tokens: (cache == "paged").then_some(limits.block_tokens),
        intake: Intake::default(),
        notes: Vec::new(),
    })
}

/// What a plain scheduler takes over from the launch.
struct Limits {
    tokens: u64,
    block_tokens: u64,
    max_model_len: u64,
    max_num_seqs: u64,
    max_num_batched_tokens: u64,
}

fn limits(of: &Batching) -> Limits {
    match of {
        Batching::Vllm(of) => {
            let block_tokens = of.groups.iter().map(|group| group.block_tokens).min().unwrap_or(1);
            // The null block is nobody's; a block belongs to one group at a time.
            let share = (of.groups.len() as u64).max(1);
            Limits {
                tokens: of.blocks.saturating_sub(1).saturating_mul(block_tokens) / share,
                block_tokens,
                max_model_len: of.max_model_len,
                max_num_seqs: of.max_num_active_seqs,
                max_num_batched_tokens: of.max_num_scheduled_tokens,
            }
        }
        Batching::Sglang(of) => Limits {
            tokens: of.max_total_tokens,
            block_tokens: of.page_size,
            max_model_len: of.context_len.min(of.max_total_tokens),
            max_num_seqs: of.max_running_requests,
            max_num_batched_tokens: of.max_prefill_tokens,
        },
        Batching::TensorRtLlm(of) => {
            let blocks = of.groups.iter().map(|group| group.blocks).min().unwrap_or(0);
            Limits {
                tokens: blocks.saturating_mul(of.tokens_per_block),
                block_tokens: of.tokens_per_block,
                max_model_len: of.served_seq_len,
                max_num_seqs: of.max_batch_size,
                max_num_batched_tokens: of.max_num_tokens,
            }
        }
    }
}
