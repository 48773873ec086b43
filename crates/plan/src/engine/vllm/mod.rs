//! How does vLLM divide a GPU? The budget, the weights, what the profile run takes, the KV cache and what it holds, as the
//! release that runs decides them.

mod assess;
pub mod batching;
pub mod defaults;
pub mod estimate;
pub mod flags;
pub mod kv;
pub mod layout;
mod mxfp4;
pub mod options;
mod remedy;
mod render;
mod tables;
pub mod weights;

use plimsoll_facts::model::Model;
use plimsoll_units::Bytes;

use self::assess::Assessed;
use self::options::Options;
use crate::engine::Depth;
use crate::{Batching, Card, Error, Given, Growth, Kv, KvGroup, Margin, Plan, Refusal, Remedy, Verdict, Version};

/// A launch to plan.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The model.
    pub model: &'a Model,
    /// The card.
    pub card: &'a Card,
    /// vLLM's release.
    pub version: Version,
    /// Its flags.
    pub options: &'a Options,
    /// What the user knows.
    pub given: &'a Given,
}

/// Plans a launch as deep as it goes.
///
/// # Errors
/// Every variant of [`Error`]; not fitting is no error but a [`Verdict`].
pub fn plan(case: &Case<'_>) -> Result<Plan, Error> {
    plan_to(case, Depth::Whole)
}

/// Plans a launch to a depth.
///
/// # Errors
/// Those of [`plan`].
pub fn plan_to(case: &Case<'_>, depth: Depth) -> Result<Plan, Error> {
    let assessed = assess::assess(case)?;
    let verdict = verdict(case, &assessed, depth);
    let launch = render::launch(case);
    let batching = batching::batching(case.options, &assessed)?;
    let plan = written(case, assessed, verdict, launch);
    Ok(Plan { batching: Some(Batching::Vllm(batching)), ..plan })
}

/// Returns what would make a borderline launch safe: changes with which it fits at both ends of its interval.
///
/// # Errors
/// Those of [`plan`].
pub fn safer(case: &Case<'_>) -> Result<Vec<Remedy>, Error> {
    Ok(remedy::safer(case, &assess::assess(case)?))
}

/// Says whether the launch starts and, where it does not, what would help.
fn verdict(case: &Case<'_>, assessed: &Assessed, depth: Depth) -> Verdict {
    let rank = &assessed.ranks[assessed.scarcest];
    let needed = Bytes::new(assessed.kv.needed);
    let gpus = assessed.resolved.parallel.gpus();
    if assessed.fits() && gpus <= case.card.count {
        return Verdict::Fits { spare: rank.kv_budget.bytes.saturating_sub(needed) };
    }
    let binding = if gpus > case.card.count {
        "gpus"
    } else if rank.ledger.weights() > rank.limit {
        "weights"
    } else if rank.short > Bytes::ZERO {
        "activation"
    } else {
        "kv"
    };
    Verdict::DoesNotFit {
        short_by: if assessed.fits() {
            Bytes::ZERO
        } else {
            (rank.short + needed).saturating_sub(rank.kv_budget.bytes)
        },
        binding: binding.to_owned(),
        refusal: if rank.ledger.weights() > rank.total { Some(loading()) } else { assessed.kv.refusal.clone() },
        remedies: if depth == Depth::Whole { remedy::remedies(case, assessed) } else { Vec::new() },
    }
}

/// What a rank says whose weights are larger than its card: it never comes to its cache.
fn loading() -> Refusal {
    Refusal {
        message: "CUDA out of memory (while the weights are loaded)".to_owned(),
        needed: None,
        estimated_max_len: None,
    }
}

/// How far the scarcest rank's cache is from one request of the longest length, the interval of its budget considered.
fn margin(rank: &crate::Rank, kv: &kv::KvPlan) -> Margin {
    let Margin { low, bytes, high } = Margin::of(&rank.kv_budget, Bytes::new(kv.needed));
    // A budget below zero stands as zero: what is missing comes on top.
    let short = i64::try_from(rank.short.get()).unwrap_or(i64::MAX);
    Margin {
        low: low.saturating_sub(short),
        bytes: bytes.saturating_sub(short),
        high: high.saturating_sub(if rank.kv_budget.high > Bytes::ZERO { 0 } else { short }),
    }
}

/// Writes the answer down.
fn written(case: &Case<'_>, assessed: Assessed, verdict: Verdict, launch: Vec<String>) -> Plan {
    let Assessed { resolved, kv, ranks, scarcest, block, bytes_per_token, assumptions, notes, .. } = assessed;
    let budget = ranks[scarcest].kv_budget.clone();
    let groups = kv
        .groups
        .iter()
        .zip(&kv.blocks_per_request)
        .map(|(group, blocks)| KvGroup {
            kind: group.spec.name(),
            layers: group.layers.len() as u32,
            block_tokens: group.spec.block,
            page_bytes: group.spec.page(),
            blocks_per_request: *blocks,
        })
        .collect();
    let margin = margin(&ranks[scarcest], &kv);
    let rank = &ranks[scarcest];
    let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
    let available = signed(budget.bytes) - if budget.bytes == Bytes::ZERO { signed(rank.short) } else { 0 };
    let loads = rank.ledger.weights() <= rank.total;
    let logged = render::logged(&resolved, &kv, available, block, loads, case.options);
    Plan {
        engine: "vllm",
        version: case.version,
        parallel: resolved.parallel,
        kv: Kv {
            bytes_per_token,
            block_tokens: block,
            blocks: kv.blocks,
            tokens: pool_tokens(&kv, &resolved),
            budget,
            max_concurrency: kv.max_concurrency,
            concurrency_at_tokens: resolved.max_model_len,
            growth: Growth { pools: kv.growth.into_iter().collect() },
            groups,
            logged,
        },
        ranks,
        scarcest,
        max_model_len: resolved.max_model_len,
        max_context_tokens: kv.longest,
        verdict,
        margin,
        host: None,
        assumptions,
        notes,
        launch,
        batching: None,
    }
}

/// Tokens that the pool holds: of one group, blocks × their tokens; of several, as many requests of the longest length as
/// fit, times that length.
fn pool_tokens(kv: &kv::KvPlan, resolved: &defaults::Resolved) -> u64 {
    match kv.groups.as_slice() {
        [] => 0,
        [one] if matches!(one.spec.kind, kv::Kind::Full { .. } | kv::Kind::Mla | kv::Kind::Indexer) => {
            kv.blocks.saturating_mul(one.spec.block).saturating_mul(u64::from(resolved.dcp.max(1)))
        }
        _ => (kv.max_concurrency * resolved.max_model_len as f64) as u64,
    }
}

#[cfg(test)]
mod tests;
