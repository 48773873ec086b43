//! Does it fit, what would the log say, and what would help?

use plimsoll_units::Bytes;

use super::launch::Launch;
use super::options::{KvDtype, Options, Quantization};
use super::pool::{self, Pool};
use super::rules::Backend;
use super::{Case, Joint, Stage, plan_to};
use crate::engine::Depth;
use crate::{Item, Logged, Margin, Plan, Rank, Refusal, Remedy, State, Verdict};
use plimsoll_facts::tensor::DType;

/// Returns the longest sequence that the pool serves: what the engine would cut `max_seq_len` to.
pub fn longest(launch: &Launch<'_>, kv: &Joint) -> u64 {
    let full = kv.groups.iter().zip(&kv.blocks).filter(|(group, _)| group.window >= launch.runtime_seq);
    let each = full.map(|(group, blocks)| pool::shape(launch, *group).longest(*blocks));
    // Windows that wrap bind no length.
    each.min().unwrap_or(launch.seq)
}

/// How far the pool is from one request of the longest length, the interval of its budget considered.
pub fn margin(launch: &Launch<'_>, rank: &Rank, kv: &Joint) -> Margin {
    let needed = kv.groups.iter().fold(Bytes::ZERO, |sum, group| {
        let block = Bytes::new(group.bytes_per_token.saturating_mul(launch.block));
        sum + block * pool::blocks_per_request(launch, *group)
    });
    let short = i64::try_from(rank.short.get()).unwrap_or(i64::MAX);
    let margin = Margin::of(&rank.kv_budget, needed);
    Margin {
        low: margin.low.saturating_sub(short),
        bytes: margin.bytes.saturating_sub(short),
        high: if rank.kv_budget.high > Bytes::ZERO { margin.high } else { margin.high.saturating_sub(short) },
    }
}

/// Says whether one request of the asked length fits.
pub fn verdict(launch: &Launch<'_>, rank: &Rank, kv: &Joint) -> Verdict {
    let mut needed = Bytes::ZERO;
    let mut missing = Bytes::ZERO;
    for (group, blocks) in kv.groups.iter().zip(&kv.blocks) {
        let block = Bytes::new(group.bytes_per_token.saturating_mul(launch.block));
        let request = pool::blocks_per_request(launch, *group);
        needed += block * request;
        missing += block * request.saturating_sub(*blocks);
    }
    let pool = rank.ledger.bytes(Item::Kv);
    if rank.short == Bytes::ZERO && missing == Bytes::ZERO {
        return Verdict::Fits { spare: pool.saturating_sub(needed) };
    }
    let binding = if rank.ledger.weights() > rank.total {
        "weights"
    } else if rank.short > Bytes::ZERO {
        largest_beside_weights(rank)
    } else {
        "kv"
    };
    let cap = longest(launch, kv);
    let refusal = (binding == "kv" && cap > 0).then(|| Refusal {
        message: format!(
            "maxAttentionWindow and maxSequenceLen are too large for at least one sequence to fit in kvCache. \
             they are reduced to {cap}"
        ),
        needed: Some(needed),
        estimated_max_len: Some(cap),
    });
    Verdict::DoesNotFit { short_by: rank.short + missing, binding: binding.to_owned(), refusal, remedies: Vec::new() }
}

/// The largest line beside weights and the cache.
fn largest_beside_weights(rank: &Rank) -> &'static str {
    let others = rank.ledger.entries.iter().filter(|entry| !entry.item.is_weights() && entry.item != Item::Kv);
    others.max_by_key(|entry| entry.size.bytes).map_or("weights", |entry| entry.item.name())
}

/// Returns the lines that the engine's log will hold.
pub(super) fn logged(launch: &Launch<'_>, kv: &Joint, stage: &Stage) -> Logged {
    let blocks = kv.blocks.iter().copied().fold(0, u64::saturating_add);
    let tokens = blocks.saturating_mul(launch.block);
    let bytes = stage.pool_bytes(launch, &kv.blocks);
    let (total, free) = (launch.card.total.bytes.as_gib(), stage.pool.free.as_gib());
    let pages = kv.groups.first().map_or(0, |group| pool::blocks_per_request(launch, *group) / launch.beams.max(1));
    let host = kv.host_blocks.iter().copied().fold(0, u64::saturating_add);
    let mib = |item: Item| stage.fixed.bytes(item).as_mib();
    let mut lines = Vec::new();
    match launch.backend {
        Backend::TensorRt => {
            lines.push(format!("Loaded engine size: {:.0} MiB", stage.fixed.weights().as_mib()));
            lines.push(format!(
                "[MemUsageChange] Allocated {:.2} MiB for execution context memory.",
                mib(Item::Activation)
            ));
            lines.push(format!(
                "[MemUsageChange] Allocated {:.2} MB GPU memory for runtime buffers.",
                mib(Item::RuntimeBuffers)
            ));
            lines.push(format!(
                "[MemUsageChange] Allocated {:.2} MB GPU memory for decoder.",
                mib(Item::RuntimeDecoder)
            ));
            lines.push(format!(
                "Memory usage when calculating max tokens in paged kv cache: total: {total:.2} GiB, available: {free:.2} GiB"
            ));
        }
        Backend::PyTorch => {
            let temporary = stage.pool.temporary;
            lines.push(format!(
                "Peak memory during memory usage profiling (torch + non-torch): {:.2} GiB, available KV cache memory when \
                 calculating max tokens: {:.2} GiB, fraction is set {}, kv size is {}. device total memory {total:.2} GiB, \
                 temporary kv cache memory during profiling {:.2} GiB",
                total - free + temporary.as_gib(),
                stage.pool.budget.bytes.as_gib(),
                launch.fraction,
                kv.groups.iter().map(|group| group.estimated).fold(0, u64::saturating_add),
                temporary.as_gib(),
            ));
        }
    }
    lines.push(format!("Number of blocks in KV cache primary pool: {blocks}"));
    lines.push(format!(
        "Number of blocks in KV cache secondary pool: {host}, onboard blocks to primary memory before reuse: true"
    ));
    lines.push(format!("Max KV cache pages per sequence: {pages}"));
    lines.push(format!(
        "[MemUsageChange] Allocated {:.2} GiB for max tokens in paged KV cache ({tokens}).",
        bytes.as_gib()
    ));
    Logged { kv_tokens: Some(tokens), gib: Some(bytes.as_gib()), blocks: Some(blocks), concurrency: None, lines }
}

/// Returns what a user should know beside the numbers.
pub(super) fn notes(launch: &Launch<'_>, kv: &Joint, pool: &Pool) -> Vec<String> {
    let mut notes = launch.model.notes.clone();
    let cap = longest(launch, kv);
    if cap > 0 && cap < launch.seq {
        notes.push(format!(
            "the engine starts all the same and cuts max_seq_len to {cap} tokens, {} of them prompt",
            cap.saturating_sub(1)
        ));
    }
    if launch.parallel.pp > 1 && launch.backend == Backend::TensorRt {
        notes.push(format!(
            "{} micro-batches of --max_batch_size {} requests are in flight at once; the KV pool serves them all",
            launch.parallel.pp, launch.batch
        ));
    }
    if launch.backend == Backend::TensorRt {
        let parallel = launch.parallel;
        let division = if parallel.gpus() > 1 {
            format!(", converted with --tp_size {} --pp_size {}", parallel.tp, parallel.pp)
        } else {
            String::new()
        };
        notes.push(format!(
            "trtllm-build makes an engine of a converted checkpoint{division}; whatever runs the engine is given \
             --kv_cache_free_gpu_memory_fraction {}",
            launch.fraction
        ));
    }
    for key in &launch.options.uncounted {
        notes.push(format!("--{key} can change memory in ways that are not counted"));
    }
    if launch.options.max_draft_len > 0 && launch.backend == Backend::PyTorch {
        notes.push("the drafting layers' own KV cache is not counted, as in 1.2".to_owned());
    }
    let windowed = launch.model.layers.iter().any(|layer| match &layer.mixer {
        plimsoll_facts::model::Mixer::Attention(attention) => matches!(
            attention.span,
            plimsoll_facts::model::Span::Window { .. } | plimsoll_facts::model::Span::Chunk { .. }
        ),
        plimsoll_facts::model::Mixer::Recurrent(_) | plimsoll_facts::model::Mixer::None => false,
    });
    if windowed && launch.options.max_attention_window.is_empty() && !launch.rules.windows_from_config {
        notes.push(
            "layers with a window are charged for full sequences; --max_attention_window would size their pools"
                .to_owned(),
        );
    }
    if launch.given.kv_budget.is_none() && pool.budget.bytes == Bytes::ZERO {
        notes.push("nothing is left for the KV cache".to_owned());
    }
    let free_slots = kv.concurrency(launch);
    if free_slots < launch.batch as f64 && free_slots >= 1.0 {
        notes.push(format!(
            "requests reserve their whole length (GUARANTEED_NO_EVICT): {} run at once when each may reach {} tokens",
            free_slots.floor(),
            launch.seq
        ));
    }
    notes
}

/// Tries changes, cheapest first, and returns the three best with their outcome.
pub(super) fn remedies(case: &Case<'_>, launch: &Launch<'_>) -> Vec<Remedy> {
    let mut tried = tried(case, launch, |plan| matches!(plan.verdict, Verdict::Fits { .. }));
    tried.sort_by_key(|remedy| !remedy.fits);
    tried.truncate(3);
    tried
}

/// Returns up to three changes after which the launch fits at both ends of its interval, cheapest first.
pub(super) fn safer(case: &Case<'_>, launch: &Launch<'_>) -> Vec<Remedy> {
    let mut safe = tried(case, launch, |plan| plan.state() == State::Fits);
    safe.retain(|remedy| remedy.fits);
    safe.truncate(3);
    safe
}

/// Every change with its outcome.
fn tried(case: &Case<'_>, launch: &Launch<'_>, suffices: impl Fn(&Plan) -> bool) -> Vec<Remedy> {
    let outcomes = changes(launch).into_iter().filter_map(|(change, flags, cost, options)| {
        let plan = plan_to(&Case { options: &options, ..*case }, Depth::Outcome).ok()?;
        Some(Remedy {
            change,
            flags,
            fits: suffices(&plan),
            kv_tokens: plan.kv.tokens,
            max_context_tokens: plan.max_context_tokens,
            cost: cost.to_owned(),
        })
    });
    outcomes.collect()
}

type Change = (String, Vec<String>, &'static str, Options);

/// Changes that could help, cheapest first.
fn changes(launch: &Launch<'_>) -> Vec<Change> {
    let base = launch.options;
    let mut list: Vec<Change> = Vec::new();
    let mut add = |change: String, flags: &[(&str, String)], cost: &'static str, options: Options| {
        let flags = flags.iter().flat_map(|(flag, value)| [format!("--{flag}"), value.clone()]).collect();
        list.push((change, flags, cost, options));
    };
    for (batch, tokens) in [(256, 2048), (16, 1024)] {
        if launch.batch > batch || launch.num_tokens > tokens {
            let (batch, tokens) = (launch.batch.min(batch), launch.num_tokens.min(tokens));
            add(
                format!("steps of at most {batch} requests and {tokens} tokens"),
                &[("max_batch_size", batch.to_string()), ("max_num_tokens", tokens.to_string())],
                "prompts are computed in smaller pieces",
                Options { max_batch_size: Some(batch), max_num_tokens: Some(tokens), ..base.clone() },
            );
        }
    }
    if launch.fraction < 0.95 {
        add(
            "95 % of the free memory for the KV cache".to_owned(),
            &[("kv_cache_free_gpu_memory_fraction", "0.95".to_owned())],
            "little is left for what is allocated later",
            Options { fraction: Some(0.95), ..base.clone() },
        );
    }
    if launch.kv_dtype == KvDtype::Plain(launch.dtype) {
        add(
            "an fp8 KV cache".to_owned(),
            &[("kv_cache_dtype", "fp8".to_owned())],
            "keys and values lose precision",
            Options { kv_dtype: Some(KvDtype::Plain(DType::F8E4M3)), ..base.clone() },
        );
    }
    for part in [2, 4, 16] {
        let seq = launch.seq / part;
        if seq >= 512 {
            add(
                format!("sequences of at most {seq} tokens"),
                &[("max_seq_len", seq.to_string())],
                "longer requests are refused",
                Options {
                    max_seq_len: Some(seq),
                    max_input_len: base.max_input_len.map(|input| input.min(seq)),
                    ..base.clone()
                },
            );
        }
    }
    for tp in [launch.parallel.tp.saturating_mul(2), launch.parallel.tp.saturating_mul(4)] {
        add(
            format!("{} GPUs", launch.parallel.pp.saturating_mul(tp)),
            &[("tp_size", tp.to_string())],
            "more GPUs, and communication between them",
            Options { tp: Some(tp), ..base.clone() },
        );
    }
    if base.quantization.is_none() && launch.model.quant.is_none() && launch.given.weights.is_none() {
        add(
            "weights in fp8".to_owned(),
            &[("quantization", "fp8".to_owned())],
            "a quantised checkpoint is needed",
            Options { quantization: Some(Quantization::Fp8), ..base.clone() },
        );
    }
    list
}
