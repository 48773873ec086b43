//! What comes out for one launch? Limit, ledger and KV cache of every rank, without asking what else might help.

use std::ops::Range;

use plimsoll_units::{Bytes, Estimate, Source};

use super::Case;
use super::defaults::{Resolved, resolve};
use super::estimate::{Estimates, Launch, Multimodal, estimate, group};
use super::kv::{Demand, Kind, KvCase, KvPlan, plan};
use super::layout::{Layout, layout};
use super::weights::{Division, Weights};
use crate::interval::remainder;
use crate::{Entry, Error, Formula, Item, Ledger, Rank, Version};

/// A launch, worked out.
pub(super) struct Assessed {
    pub(super) resolved: Resolved,
    pub(super) kv: KvPlan,
    pub(super) ranks: Vec<Rank>,
    pub(super) scarcest: usize,
    pub(super) block: u64,
    pub(super) bytes_per_token: u64,
    pub(super) graphs_applied: Bytes,
    pub(super) assumptions: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Assessed {
    /// Whether the engine starts.
    pub(super) fn fits(&self) -> bool {
        self.kv.refusal.is_none() && self.ranks.iter().all(|rank| rank.short == Bytes::ZERO)
    }
}

/// One stage's rank before the cache is planned.
struct Stage {
    limit: Bytes,
    entries: Vec<Entry>,
    budget: Estimate,
    /// Signed, for the engine's own comparison.
    available: i64,
    graphs_applied: Bytes,
}

/// Works a launch out.
pub(super) fn assess(case: &Case<'_>) -> Result<Assessed, Error> {
    let Case { model, card, version, options, given } = *case;
    if card.total.bytes == Bytes::ZERO {
        return Err(Error::UnknownMemory { gpu: card.name.clone() });
    }
    let mut resolved = resolve(version, model, card, options)?;
    let laid = layout(model, options, &resolved)?;
    let division = Division::new(model, card, options, &resolved)?;
    let mut stages = Vec::with_capacity(laid.stages.len());
    let mut offloaded = 0;
    for (at, range) in laid.stages.iter().enumerate() {
        let weights = division.stage(range)?;
        offloaded += weights.offloaded;
        stages.push(stage(case, &resolved, at as u32, range, &weights));
    }
    let unsupported = |refusal: crate::Refusal| Error::Unsupported {
        engine: "vllm",
        version: version.to_string(),
        why: refusal.message,
    };
    let mut question = question(case, &resolved, &laid, stages.iter().map(|stage| stage.available).collect());
    let mut kv = plan(&question).map_err(unsupported)?;
    if resolved.auto_length && kv.refusal.is_some() && kv.longest > 0 {
        resolved.max_model_len = kv.longest.min(resolved.max_model_len);
        question.max_model_len = resolved.max_model_len;
        kv = plan(&question).map_err(unsupported)?;
    }
    let bytes_per_token = bytes_per_token(&question, kv.scarcest);
    let graphs_applied = stages[kv.scarcest].graphs_applied;
    let ranks = ranks(&stages, &kv, card.total.bytes, options.tp);
    let mut notes = model.notes.clone();
    notes.extend(laid.notes);
    if offloaded > 0 {
        notes.push(format!("{} of the weights stay in CPU memory", Bytes::new(offloaded)));
    }
    if given.weights.is_some() || given.kv_budget.is_some() {
        notes.push("quantities that were given stand in place of estimates".to_owned());
    }
    Ok(Assessed {
        scarcest: kv.scarcest * options.tp as usize,
        block: laid.block,
        bytes_per_token,
        graphs_applied,
        assumptions: assumptions(case, &resolved),
        notes,
        resolved,
        kv,
        ranks,
    })
}

/// What this launch's defaults were.
fn assumptions(case: &Case<'_>, resolved: &Resolved) -> Vec<String> {
    let options = case.options;
    let mut said = Vec::new();
    let mut default = |unsaid: bool, text: &dyn Fn() -> String| {
        if unsaid {
            said.push(text());
        }
    };
    let version = resolved.version;
    default(options.utilization.is_none() && options.kv_cache_memory.is_none(), &|| {
        format!("gpu_memory_utilization is {}, the default of {version}", resolved.utilization)
    });
    default(options.max_model_len.is_none(), &|| format!("max_model_len is {}, the model's", resolved.max_model_len));
    default(options.max_num_batched_tokens.is_none(), &|| {
        format!("max_num_batched_tokens is {}, the server's default on this card", resolved.max_num_batched_tokens)
    });
    default(options.max_num_seqs.is_none(), &|| {
        format!("max_num_seqs is {}, the server's default on this card", resolved.max_num_seqs)
    });
    default(true, &|| "nothing else runs on the GPU".to_owned());
    said
}

/// The planner's question.
fn question(case: &Case<'_>, resolved: &Resolved, laid: &Layout, available: Vec<i64>) -> KvCase {
    let batches = if resolved.version < Version::new(0, 26, 0) || !resolved.async_scheduling {
        if resolved.version < Version::new(0, 26, 0) { 1 } else { u64::from(resolved.parallel.pp) }
    } else if resolved.runner_v2 {
        u64::from(resolved.parallel.pp) + 1
    } else {
        u64::from(resolved.parallel.pp).max(2)
    };
    KvCase {
        version: resolved.version,
        v1: resolved.v1,
        stack: laid.stack.clone(),
        stages: laid.cached.clone(),
        available,
        max_model_len: resolved.max_model_len,
        demand: Demand {
            in_flight: resolved.max_num_batched_tokens.saturating_mul(batches),
            context_ranks: u64::from(resolved.dcp),
        },
        hybrid: resolved.hybrid,
        blocks_override: case.options.blocks_override,
        longest: case.model.positions_limit.max(case.model.max_positions).max(resolved.max_model_len),
    }
}

/// Bytes that one more token costs on a stage while no window is full: every attention layer keeps it.
fn bytes_per_token(question: &KvCase, stage: usize) -> u64 {
    let kept = |kind: Kind| match kind {
        Kind::Full { .. } | Kind::Mla | Kind::Indexer | Kind::Sliding { .. } | Kind::Chunked { .. } => true,
        Kind::State { .. } | Kind::StateEveryBlock { .. } | Kind::Cross { .. } => false,
    };
    let each: Vec<u64> = question.stack.table.iter().map(|spec| if kept(spec.kind) { spec.bytes } else { 0 }).collect();
    let range = question.stages.get(stage).cloned().unwrap_or(0..0);
    range.fold(0_u64, |sum, layer| {
        sum.saturating_add(question.stack.layers.get(layer as usize).map_or(0, |at| each[usize::from(*at)]))
    })
}

/// Limit, ledger and budget of one stage's ranks.
fn stage(case: &Case<'_>, resolved: &Resolved, pp_rank: u32, layers: &Range<u32>, weights: &Weights) -> Stage {
    let options = case.options;
    let total = case.card.total.bytes;
    let loaded = case.given.weights.unwrap_or(Bytes::new(weights.total()));
    let launch = Launch {
        model: case.model,
        version: resolved.version,
        v1: resolved.v1,
        parallel: resolved.parallel,
        pp_rank,
        layers: layers.clone(),
        card: case.card,
        max_model_len: resolved.max_model_len,
        max_num_batched_tokens: resolved.max_num_batched_tokens,
        max_num_seqs: resolved.max_num_seqs,
        chunked_prefill: resolved.chunked_prefill,
        enforce_eager: resolved.enforce_eager,
        dtype: resolved.dtype,
        kv_dtype: resolved.kv.dtype(),
        weights: loaded,
        speculative_tokens: resolved.draft_tokens,
        max_loras: options.lora.map_or(0, |lora| lora.max_loras as u32),
        multimodal: Multimodal {
            language_model_only: options.language_model_only,
            skip_profiling: options.skip_mm_profiling,
            images: options.images,
        },
        capture_sizes: &resolved.capture_sizes,
        runner_v2: resolved.runner_v2,
        estimate_graphs: options.estimate_graphs,
    };
    let (estimates, group) = (estimate(&launch), group(&launch));
    let mut entries = weight_entries(case, weights);
    let graphs_applied = estimates.graphs_applied.size.bytes;
    entries.extend(charged(case, estimates));
    let fixed: Bytes = entries.iter().map(|entry| entry.size.bytes).sum();
    let share = total.as_f64() * resolved.utilization;
    let requested =
        Bytes::new(if resolved.version >= Version::new(0, 9, 1) { share.ceil() } else { share.floor() } as u64);
    let rule = "vLLM, v1/worker/gpu_worker.py, determine_available_memory";
    let parts = entries.iter().map(|entry| &entry.size);
    let (limit, budget) = match (case.given.kv_budget, case.given.kv_free, options.kv_cache_memory) {
        (Some(budget), _, _) => (fixed + budget, Estimate::exact(budget, Source::Given)),
        (None, Some(free), _) => {
            let budget = free.saturating_sub(total.saturating_sub(requested));
            (fixed + budget, Estimate::exact(budget, Source::Given))
        }
        (None, None, Some(bytes)) => (fixed + bytes, Estimate::exact(bytes, Source::Given)),
        (None, None, None) => (requested, remainder(requested, parts, ("vllm", group), rule)),
    };
    let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
    let available = if budget.is_exact() && budget.source == Source::Given {
        signed(budget.bytes)
    } else {
        signed(limit) - signed(fixed)
    };
    Stage { limit, entries, budget, available, graphs_applied }
}

/// The weights, line by line; a given sum scales nothing but stands as one line.
fn weight_entries(case: &Case<'_>, weights: &Weights) -> Vec<Entry> {
    let entry = |item: Item, bytes: Bytes, source: Source| Entry {
        item,
        size: Estimate::exact(bytes, source),
        note: None,
        formula: Formula::default(),
    };
    if let Some(given) = case.given.weights {
        return vec![entry(Item::WeightsExtra, given, Source::Given)];
    }
    Item::ALL
        .iter()
        .zip(weights.items)
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(item, bytes)| {
            let mut line = entry(
                *item,
                Bytes::new(bytes),
                Source::Derived("tensor inventory, divided and stored as vLLM loads it".into()),
            );
            if *item == Item::WeightsExtra {
                line.note = Some("rotary tables, absorbed projections and adapter slots".into());
                line.formula =
                    Formula { text: "tables + copies + slots".into(), values: vec![("tables", weights.tables as f64)] };
            }
            line
        })
        .collect()
}

/// What the profile run and the libraries take, with what the user knows in place of estimates.
fn charged(case: &Case<'_>, estimates: Estimates) -> Vec<Entry> {
    let known = |mut entry: Entry, given: Option<Bytes>| {
        if let Some(bytes) = given {
            entry.size = Estimate::exact(bytes, Source::Given);
        }
        entry
    };
    let Estimates { activation, non_torch, graphs_applied, buffers, .. } = estimates;
    let lines =
        [known(activation, case.given.activation), buffers, known(non_torch, case.given.non_torch), graphs_applied];
    lines.into_iter().filter(|entry| entry.size.bytes > Bytes::ZERO).collect()
}

/// Every rank: the tensor-parallel ranks of a stage are alike.
fn ranks(stages: &[Stage], kv: &KvPlan, total: Bytes, tp: u32) -> Vec<Rank> {
    let mut ranks = Vec::with_capacity(stages.len() * tp as usize);
    for (at, stage) in stages.iter().enumerate() {
        let mut entries = stage.entries.clone();
        let fixed: Bytes = entries.iter().map(|entry| entry.size.bytes).sum();
        let pool = Bytes::new(kv.tensor_bytes.get(at).copied().unwrap_or(0));
        if pool > Bytes::ZERO {
            entries.push(Entry {
                item: Item::Kv,
                size: Estimate::exact(pool, Source::Derived("blocks × bytes of a block".into())),
                note: None,
                formula: Formula {
                    text: "blocks × block".into(),
                    values: vec![("blocks", kv.blocks as f64), ("block", kv.block_bytes[at] as f64)],
                },
            });
        }
        entries.sort_by_key(|entry| entry.item);
        let rank = Rank {
            device: None,
            pp_rank: at as u32,
            tp_rank: 0,
            limit: stage.limit,
            total,
            ledger: Ledger { entries },
            kv_budget: stage.budget.clone(),
            short: fixed.saturating_sub(stage.limit),
        };
        ranks.extend((0..tp).map(|tp_rank| Rank { tp_rank, ..rank.clone() }));
    }
    ranks
}
