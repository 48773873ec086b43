//! How does TensorRT-LLM divide a GPU? Its rules by release for compiled engines and for the PyTorch backend.
//!
//! Order of allocation with an engine: weights, execution context, runtime buffers, sampling buffers, then a part of
//! what is free for the KV cache (`kvCacheManager.cpp`). With PyTorch: weights, a profile run that measures the peak,
//! then a part of what the peak left (`pyexecutor/_util.py`).

pub mod batching;
mod blocks;
mod fixed;
pub mod flags;
mod keys;
mod launch;
mod options;
mod pool;
mod resident;
mod rules;
mod verdict;
mod weights;

use plimsoll_facts::model::Model;
use plimsoll_units::Bytes;

pub use blocks::{Shape, pool as pool_blocks, shares, tokens as pool_tokens};
pub use fixed::{decoder_bytes, runtime_bytes};
pub use keys::{ALIASES, INERT_KEYS, KEYS, UNCOUNTED_KEYS};
pub use options::{KvDtype, Options, Quantization, canonical, is_known};
pub use rules::{Backend, DEFAULT_VERSION, MaxTokens, Rounding, Rules, default_backend, rules};

use crate::engine::Depth;
use crate::growth::{Growth, Pool};
use crate::{Batching, Card, Entry, Error, Formula, Given, Item, Kv, Ledger, Plan, Rank, Remedy, Verdict, Version};
use launch::Launch;
use pool::Group;

/// The engine's name in answers.
pub const NAME: &str = "tensorrt-llm";

/// What is to be planned.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The model.
    pub model: &'a Model,
    /// The card that every rank has.
    pub card: &'a Card,
    /// The release.
    pub version: Version,
    /// What was asked for.
    pub options: &'a Options,
    /// What is known and replaces estimates.
    pub given: &'a Given,
}

/// Plans a launch as deep as it goes.
///
/// # Errors
/// [`Error::Uneven`] and [`Error::Request`] when it contradicts itself, [`Error::Unsupported`] for what the release
/// cannot run.
pub fn plan(case: &Case<'_>) -> Result<Plan, Error> {
    plan_to(case, Depth::Whole)
}

/// Plans a launch to a depth.
///
/// # Errors
/// Those of [`plan`].
pub fn plan_to(case: &Case<'_>, depth: Depth) -> Result<Plan, Error> {
    let (mut plan, launch) = planned(case)?;
    if let (Verdict::DoesNotFit { remedies, .. }, Depth::Whole) = (&mut plan.verdict, depth) {
        *remedies = verdict::remedies(case, &launch);
    }
    Ok(plan)
}

/// Returns what would make a borderline launch safe: changes with which it fits at both ends of its interval.
///
/// # Errors
/// Those of [`plan`].
pub fn safer(case: &Case<'_>) -> Result<Vec<Remedy>, Error> {
    let launch = Launch::new(case)?;
    Ok(verdict::safer(case, &launch))
}

fn planned<'a>(case: &Case<'a>) -> Result<(Plan, Launch<'a>), Error> {
    let launch = Launch::new(case)?;
    let stages: Vec<Stage> = (0..launch.parallel.pp).map(|stage| Stage::new(&launch, stage)).collect();
    let kv = Joint::new(&launch, &stages)?;
    let mut ranks = Vec::new();
    for (at, stage) in stages.iter().enumerate() {
        let rank = stage.rank(&launch, at as u32, &kv);
        ranks.extend((0..launch.parallel.tp).map(|tp_rank| Rank { tp_rank, ..rank.clone() }));
    }
    let scarcest = kv.stage * launch.parallel.tp as usize;
    let verdict = verdict::verdict(&launch, &ranks[scarcest], &kv);
    let margin = verdict::margin(&launch, &ranks[scarcest], &kv);
    // No request is longer than the launch lets it be, however much the pool holds.
    let cap = verdict::longest(&launch, &kv).min(launch.seq);
    let plan = Plan {
        engine: NAME,
        version: launch.version,
        parallel: launch.parallel,
        ranks,
        scarcest,
        kv: kv.shown(&launch, &stages),
        max_model_len: launch.seq,
        max_context_tokens: cap,
        verdict,
        margin,
        host: None,
        assumptions: assumptions(&launch),
        notes: verdict::notes(&launch, &kv, &stages[kv.stage].pool),
        launch: launch::command(&launch),
        batching: Some(Batching::TensorRtLlm(batching::batching(&launch, &kv))),
    };
    Ok((plan, launch))
}

fn assumptions(launch: &Launch<'_>) -> Vec<String> {
    let mut list = launch.assumptions.clone();
    if launch.options.fraction.is_none() {
        list.push(format!("free_gpu_memory_fraction is not given: {}", launch.fraction));
    }
    list.push(format!("nothing else uses the memory of {}", launch.card.name));
    list
}

/// One pipeline stage: what is fixed on each of its ranks and the pool that the rest pays for.
struct Stage {
    fixed: Ledger,
    groups: Vec<Group>,
    pool: pool::Pool,
}

impl Stage {
    fn new(launch: &Launch<'_>, stage: u32) -> Stage {
        let mut entries = weights::entries(launch, stage);
        for entry in fixed::entries(launch, stage) {
            entries.push(entry);
        }
        let fixed = Ledger { entries };
        let groups = pool::groups(launch, stage);
        let pool = pool::pool(launch, &groups, &fixed);
        Stage { fixed, groups, pool }
    }

    /// Bytes of the pool with the blocks that all ranks agreed on.
    fn pool_bytes(&self, launch: &Launch<'_>, blocks: &[u64]) -> Bytes {
        let sum = self
            .groups
            .iter()
            .zip(blocks)
            .map(|(group, blocks)| Bytes::new(group.bytes_per_token.saturating_mul(launch.block)) * *blocks);
        sum.sum()
    }

    fn rank(&self, launch: &Launch<'_>, stage: u32, kv: &Joint) -> Rank {
        let total = launch.card.total.bytes;
        let bytes = self.pool_bytes(launch, &kv.blocks);
        let mut ledger = self.fixed.clone();
        let budget = self.pool.budget.clone();
        ledger.entries.push(Entry {
            item: Item::Kv,
            size: plimsoll_units::Estimate::between(
                budget.low.min(bytes),
                bytes,
                budget.high.max(bytes),
                budget.source.clone(),
            ),
            note: None,
            formula: Formula {
                text: "blocks × tokens per block × bytes per token".into(),
                values: vec![
                    ("blocks", kv.blocks.iter().sum::<u64>() as f64),
                    ("tokens per block", launch.block as f64),
                ],
            },
        });
        let left = total.saturating_sub(ledger.total());
        if left > Bytes::ZERO {
            ledger.entries.push(Entry {
                item: Item::Reserve,
                size: plimsoll_units::Estimate::exact(
                    left,
                    plimsoll_units::Source::Derived("total less all lines above".into()),
                ),
                note: Some("left alone by the fraction; whatever is allocated later has to fit here".into()),
                formula: Formula::default(),
            });
        }
        let fixed = self.fixed.total();
        Rank {
            device: None,
            pp_rank: stage,
            tp_rank: 0,
            limit: (fixed + budget.bytes).min(total),
            total,
            ledger,
            kv_budget: budget,
            short: fixed.saturating_sub(total),
        }
    }
}

/// What all ranks agree on: the smallest number of blocks in each group.
struct Joint {
    blocks: Vec<u64>,
    host_blocks: Vec<u64>,
    groups: Vec<Group>,
    stage: usize,
}

impl Joint {
    fn new(launch: &Launch<'_>, stages: &[Stage]) -> Result<Joint, Error> {
        let widest = |stage: &Stage| stage.pool.blocks.first().copied().unwrap_or(u64::MAX);
        let cached = |stage: &&(usize, &Stage)| !stage.1.groups.is_empty();
        let all: Vec<(usize, &Stage)> = stages.iter().enumerate().collect();
        let Some((at, scarce)) = all.iter().filter(cached).min_by_key(|(_, stage)| widest(stage)).copied() else {
            return Err(launch::unsupported(
                launch.version,
                format!("no layer of {} keeps a KV cache", launch.model.id),
            ));
        };
        let same =
            |stage: &Stage| stage.groups.iter().map(|group| group.window).eq(scarce.groups.iter().map(|g| g.window));
        if launch.parallel.pp > 1 && !stages.iter().all(same) {
            return Err(launch::unsupported(launch.version, "pipeline stages see different attention windows"));
        }
        let least = |pick: fn(&pool::Pool) -> &Vec<u64>, group: usize| {
            stages.iter().filter_map(|stage| pick(&stage.pool).get(group).copied()).min().unwrap_or(0)
        };
        let count = scarce.groups.len();
        Ok(Joint {
            blocks: (0..count).map(|group| least(|pool| &pool.blocks, group)).collect(),
            host_blocks: (0..count).map(|group| least(|pool| &pool.host_blocks, group)).collect(),
            groups: scarce.groups.clone(),
            stage: at,
        })
    }

    /// Requests of the longest length that fit at once: the least over the groups.
    fn concurrency(&self, launch: &Launch<'_>) -> f64 {
        let each = self
            .groups
            .iter()
            .zip(&self.blocks)
            .map(|(group, blocks)| *blocks as f64 / pool::blocks_per_request(launch, *group).max(1) as f64);
        each.fold(f64::INFINITY, f64::min)
    }

    /// What requests of any length take of each window's pool.
    fn growth(&self, launch: &Launch<'_>, stages: &[Stage]) -> Growth {
        let pools = self.groups.iter().zip(&self.blocks).enumerate().map(|(at, (group, blocks))| {
            let bytes = |stage: &Stage| stage.groups.get(at).map_or(0, |group| group.bytes_per_token);
            Pool {
                held_back: 0,
                units: *blocks,
                groups: vec![vec![pool::steps(launch, *group)]],
                unit_bytes: stages.iter().map(|stage| bytes(stage).saturating_mul(launch.block)).collect(),
            }
        });
        Growth { pools: pools.collect() }
    }

    fn shown(&self, launch: &Launch<'_>, stages: &[Stage]) -> Kv {
        let stage = &stages[self.stage];
        let blocks = self.blocks.first().copied().unwrap_or(0);
        Kv {
            bytes_per_token: self.groups.iter().map(|group| group.bytes_per_token).fold(0, u64::saturating_add),
            block_tokens: launch.block,
            blocks,
            tokens: blocks.saturating_mul(launch.block),
            budget: stage.pool.budget.clone(),
            max_concurrency: self.concurrency(launch),
            concurrency_at_tokens: launch.seq,
            groups: self.groups.iter().map(|group| pool::shown(launch, *group)).collect(),
            growth: self.growth(launch, stages),
            logged: verdict::logged(launch, self, stage),
        }
    }
}
