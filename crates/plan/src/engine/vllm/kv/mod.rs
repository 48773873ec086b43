//! How many blocks does the KV cache get, and what can they hold? vLLM's own planner as a pure function of the layers'
//! formats and the memory that is left, by release.
//!
//! ```
//! use plimsoll_plan::Version;
//! use plimsoll_plan::engine::vllm::kv::{Demand, Kind, KvCase, Spec, Stack, Was, plan};
//! // Llama-3.1-8B on one GPU: 32 layers, 8 heads of 128, bfloat16, blocks of 16 tokens.
//! let spec = Spec::attention(Kind::Full { was: Was::Full }, 16, 8, 128, 128, 2);
//! let plan = plan(&KvCase {
//!     version: Version::new(0, 33, 0),
//!     v1: true,
//!     stack: Stack::of(vec![spec; 32]),
//!     stages: vec![0..32],
//!     available: vec![8 << 30],
//!     max_model_len: 32_768,
//!     demand: Demand { in_flight: 8192, context_ranks: 1 },
//!     hybrid: true,
//!     blocks_override: None,
//!     longest: 131_072,
//! })
//! .unwrap();
//! assert_eq!((plan.blocks, plan.tokens), (4096, 65_536));
//! ```

mod group;
mod message;
pub mod oracle;
mod packed;
mod spec;

use std::collections::BTreeMap;
use std::ops::Range;

pub use group::{Group, Stack};
pub use message::gib as printed_gib;
pub use spec::{Demand, Kind, Spec, Was};

use crate::growth::{Pool, Steps, longest};
use crate::{Refusal, Version};

/// What the planner is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct KvCase {
    /// vLLM's release.
    pub version: Version,
    /// Whether the V1 engine runs.
    pub v1: bool,
    /// Every layer's format, in the order of the model.
    pub stack: Stack,
    /// Per pipeline stage the layers it holds, as indices into the stack.
    pub stages: Vec<Range<u32>>,
    /// Per pipeline stage what is left for the cache (the least of its ranks).
    pub available: Vec<i64>,
    /// The longest sequence served.
    pub max_model_len: u64,
    /// What a request can hold beside its own tokens.
    pub demand: Demand,
    /// Whether the hybrid KV-cache manager is on.
    pub hybrid: bool,
    /// `num_gpu_blocks_override`.
    pub blocks_override: Option<u64>,
    /// The longest sequence worth asking about, for [`KvPlan::longest`].
    pub longest: u64,
}

/// What the planner decides.
#[derive(Clone, Debug, PartialEq)]
pub struct KvPlan {
    /// Groups over the whole model.
    pub groups: Vec<Group>,
    /// Layers' specs after pages were unified.
    pub stack: Stack,
    /// Blocks of the pool: the least of the stages.
    pub blocks: u64,
    /// The stage that decides.
    pub scarcest: usize,
    /// Per stage the bytes of one block of the pool.
    pub block_bytes: Vec<u64>,
    /// Per stage the bytes that its tensors take.
    pub tensor_bytes: Vec<u64>,
    /// Per group the blocks that one request of `max_model_len` takes.
    pub blocks_per_request: Vec<u64>,
    /// Requests of `max_model_len` that fit at once.
    pub max_concurrency: f64,
    /// Tokens of the cache as this release prints them.
    pub tokens: u64,
    /// Bytes that one request of `max_model_len` needs on the scarcest stage, as the release counts them.
    pub needed: u64,
    /// The longest sequence, up to [`KvCase::longest`], for which one request fits.
    pub longest: u64,
    /// What requests of any length take of the pool; `None` where layers keep nothing.
    pub growth: Option<Pool>,
    /// The release's refusal, when one request of `max_model_len` does not fit.
    pub refusal: Option<Refusal>,
}

/// Plans the cache.
///
/// # Errors
/// A [`Refusal`] when the release cannot manage such layers at all.
pub fn plan(case: &KvCase) -> Result<KvPlan, Refusal> {
    let mut stack = case.stack.clone();
    let mut groups = grouped(case, &mut stack)?;
    if !case.v1 {
        groups.iter_mut().for_each(|group| group.own_pages = true);
    }
    let planner = Planner { case, stack: &stack, groups: &groups };
    let block_bytes: Vec<u64> = (0..case.stages.len()).map(|stage| planner.pool_block(stage)).collect();
    let mut available = case.available.clone();
    if let (Some(blocks), true) = (case.blocks_override, case.version >= Version::new(0, 21, 0)) {
        for (left, block) in available.iter_mut().zip(&block_bytes) {
            *left = i64::try_from(blocks.saturating_mul(*block)).unwrap_or(i64::MAX);
        }
    }
    let own: Vec<u64> = block_bytes
        .iter()
        .zip(&available)
        .map(|(block, left)| if *block == 0 { u64::MAX } else { u64::try_from(*left).unwrap_or(0) / block })
        .collect();
    let scarcest = (0..own.len()).min_by_key(|stage| own[*stage]).unwrap_or(0);
    let least = own.get(scarcest).copied().unwrap_or(1);
    let blocks = if block_bytes.iter().all(|block| *block == 0) { 1 } else { case.blocks_override.unwrap_or(least) };
    let blocks_per_request: Vec<u64> =
        groups.iter().map(|group| planner.group_blocks(group, case.max_model_len)).collect();
    let max_concurrency = planner.concurrency(blocks, &blocks_per_request);
    let refusal = planner.check(&available, blocks);
    let longest = longest(case.longest, |tokens| planner.fits(tokens, &available, blocks));
    Ok(KvPlan {
        tokens: planner.tokens(blocks, max_concurrency),
        needed: planner.needed(scarcest, case.max_model_len),
        growth: planner.growth(blocks, &block_bytes),
        tensor_bytes: planner.tensor_bytes(&block_bytes, blocks),
        blocks,
        scarcest,
        block_bytes,
        blocks_per_request,
        max_concurrency,
        longest,
        refusal,
        groups,
        stack,
    })
}

/// Forms the groups: over the whole model since 0.11, before that stage by stage (they differ in the count of layers
/// alone, so the first stage's stand for all where stages are alike).
fn grouped(case: &KvCase, stack: &mut Stack) -> Result<Vec<Group>, Refusal> {
    let all: Vec<u32> = (0..stack.layers.len() as u32).collect();
    let v0 = || {
        let mut own = stack.clone();
        for spec in &mut own.table {
            spec.kind = match spec.kind {
                Kind::Sliding { .. } | Kind::Chunked { .. } => Kind::Full { was: Was::Full },
                Kind::Full { .. }
                | Kind::Mla
                | Kind::Indexer
                | Kind::State { .. }
                | Kind::StateEveryBlock { .. }
                | Kind::Cross { .. } => spec.kind,
            };
        }
        own
    };
    if !case.v1 {
        *stack = v0();
        let spec = stack.table.first().copied();
        return Ok(spec.map(|spec| Group { layers: all, spec, own_pages: true }).into_iter().collect());
    }
    group::groups(case.version, case.hybrid, stack, &all).map_err(|message| Refusal {
        message,
        needed: None,
        estimated_max_len: None,
    })
}

/// A case with its groups.
struct Planner<'a> {
    case: &'a KvCase,
    stack: &'a Stack,
    groups: &'a [Group],
}

impl Planner<'_> {
    /// Layers of a group on a stage.
    fn held(&self, group: &Group, stage: usize) -> u64 {
        let range = &self.case.stages[stage];
        if range.start == 0 && range.end as usize == self.stack.layers.len() {
            return group.layers.len() as u64;
        }
        group.layers.iter().filter(|layer| range.contains(layer)).count() as u64
    }

    /// The sum of `of` over a group's layers on a stage, each distinct spec computed once.
    fn sum(&self, stack: &Stack, group: &Group, stage: usize, of: impl Fn(&Spec) -> u64) -> u64 {
        let range = &self.case.stages[stage];
        let values: Vec<u64> = stack.table.iter().map(of).collect();
        let layers = group.layers.iter().filter(|layer| range.contains(layer));
        layers.fold(0, |sum: u64, layer| sum.saturating_add(values[usize::from(stack.layers[*layer as usize])]))
    }

    /// Whether groups with pages of several sizes lie packed in one block.
    fn packed(&self) -> bool {
        self.groups.len() > 1 && self.groups.iter().all(|group| group.own_pages)
    }

    /// Per page size the most layers that one group has of it on a stage.
    fn slots(&self, stage: usize) -> BTreeMap<u64, u64> {
        let range = &self.case.stages[stage];
        let mut most: BTreeMap<u64, u64> = BTreeMap::new();
        for group in self.groups {
            let mut own: BTreeMap<u64, u64> = BTreeMap::new();
            for layer in group.layers.iter().filter(|layer| range.contains(layer)) {
                *own.entry(self.stack.spec(*layer).page()).or_default() += 1;
            }
            for (page, count) in own {
                let known = most.entry(page).or_default();
                *known = count.max(*known);
            }
        }
        most
    }

    /// Bytes of one block of the pool on a stage: the widest group, all its layers together; packed groups before 0.27
    /// gave every page size its own part.
    fn pool_block(&self, stage: usize) -> u64 {
        if self.packed() && self.case.version < Version::new(0, 27, 0) {
            return self.slots(stage).into_iter().fold(0, |sum, (page, count)| sum.saturating_add(page * count));
        }
        let widest = self.groups.iter().map(|group| {
            if group.own_pages {
                self.sum(self.stack, group, stage, Spec::page)
            } else {
                group.spec.page().saturating_mul(self.held(group, stage))
            }
        });
        widest.max().unwrap_or(0)
    }

    /// Blocks of one request in a group.
    fn group_blocks(&self, group: &Group, tokens: u64) -> u64 {
        let demand = &self.case.demand;
        if !group.own_pages {
            return group.spec.blocks(tokens, demand);
        }
        if self.groups.len() == 1 {
            return self.stack.table.iter().map(|spec| spec.blocks(tokens, demand)).max().unwrap_or(0);
        }
        group.layers.iter().map(|layer| self.stack.spec(*layer).blocks(tokens, demand)).max().unwrap_or(0)
    }

    /// What requests of any length take. V1 keeps a null block that no request gets.
    ///
    /// vLLM 0.33.0, `v1/core/block_pool.py`, `BlockPool.__init__` (`null_block`); the same since 0.8.
    fn growth(&self, blocks: u64, block_bytes: &[u64]) -> Option<Pool> {
        let demand = &self.case.demand;
        let steps = |group: &Group| -> Vec<Steps> {
            if !group.own_pages {
                return vec![group.spec.steps(demand)];
            }
            if self.groups.len() == 1 {
                return self.stack.table.iter().map(|spec| spec.steps(demand)).collect();
            }
            let mut kinds: Vec<Steps> = Vec::new();
            for layer in &group.layers {
                let steps = self.stack.spec(*layer).steps(demand);
                if !kinds.contains(&steps) {
                    kinds.push(steps);
                }
            }
            kinds
        };
        (!self.groups.is_empty()).then(|| Pool {
            held_back: u64::from(self.case.v1),
            units: blocks,
            groups: self.groups.iter().map(steps).collect(),
            unit_bytes: block_bytes.to_vec(),
        })
    }

    /// What packed groups need before 0.29: every group is charged the same count of every page size of the latents.
    ///
    /// vLLM 0.26.0, `v1/core/kv_cache_utils.py`, `_max_memory_usage_bytes_from_groups`.
    fn packed_need(&self, stage: usize, tokens: u64) -> u64 {
        let slots = self.slots(stage);
        let most = slots.values().copied().max().unwrap_or(0);
        let tuple: u64 = slots.keys().fold(0, |sum, page| sum.saturating_add(*page));
        let blocks = self.groups.iter().fold(0, |sum: u64, group| sum.saturating_add(self.group_blocks(group, tokens)));
        blocks.saturating_mul(most).saturating_mul(tuple)
    }

    /// Bytes that the release says one request needs on a stage.
    ///
    /// Until 0.13 the sum over the stage's layers; 0.14 to 0.18 the first group's blocks for the whole pool; 0.19 to
    /// 0.28 all groups' blocks; since 0.29 the same with pages of their own size, beside a null block.
    fn needed(&self, stage: usize, tokens: u64) -> u64 {
        let (case, version) = (self.case, self.case.version);
        let demand = &case.demand;
        let alone = self.groups.len() == 1 && self.groups[0].own_pages;
        if version < Version::new(0, 14, 0) {
            let range = case.stages[stage].clone();
            let each: Vec<u64> = case.stack.table.iter().map(|spec| spec.request(tokens, demand)).collect();
            return range.fold(0, |sum: u64, layer| {
                sum.saturating_add(case.stack.layers.get(layer as usize).map_or(0, |at| each[usize::from(*at)]))
            });
        }
        if alone && version < Version::new(0, 29, 0) {
            return self.sum(self.stack, &self.groups[0], stage, |spec| spec.request(tokens, demand));
        }
        if self.packed() && version < Version::new(0, 29, 0) {
            return self.packed_need(stage, tokens);
        }
        let counted = if version < Version::new(0, 19, 0) { 1 } else { self.groups.len() };
        let blocks = self
            .groups
            .iter()
            .take(counted)
            .fold(0, |sum: u64, group| sum.saturating_add(self.group_blocks(group, tokens)));
        blocks.saturating_mul(self.pool_block(stage))
    }

    /// What is left on a stage as the check sees it: since 0.29 less the null block.
    fn left(&self, stage: usize, available: &[i64]) -> i64 {
        if self.case.version < Version::new(0, 29, 0) {
            return available[stage];
        }
        available[stage].saturating_sub(i64::try_from(self.pool_block(stage)).unwrap_or(i64::MAX))
    }

    /// Whether one request of `tokens` fits on every stage.
    fn fits(&self, tokens: u64, available: &[i64], blocks: u64) -> bool {
        if self.groups.is_empty() {
            return true;
        }
        if !self.case.v1 {
            return tokens <= blocks.saturating_mul(self.groups[0].spec.block);
        }
        self.checks(available)
            .iter()
            .all(|(stage, left)| *left > 0 && self.needed(*stage, tokens) <= left.unsigned_abs())
    }

    /// The stages that are checked, each with what it has left. From 0.14 to 0.16 the whole model's needs were held
    /// against the least of the stages.
    fn checks(&self, available: &[i64]) -> Vec<(usize, i64)> {
        let stages = 0..available.len().min(self.case.stages.len());
        let old = self.case.version >= Version::new(0, 14, 0) && self.case.version < Version::new(0, 17, 0);
        if old {
            let least = available.iter().copied().min().unwrap_or(0);
            return stages.map(|stage| (stage, least)).collect();
        }
        stages.filter(|stage| self.pool_block(*stage) > 0).map(|stage| (stage, self.left(stage, available))).collect()
    }

    /// The refusal, if one request of `max_model_len` does not fit.
    fn check(&self, available: &[i64], blocks: u64) -> Option<Refusal> {
        let case = self.case;
        let empty = || Refusal { message: message::nothing_left(case.version), needed: None, estimated_max_len: None };
        if self.groups.is_empty() {
            return None;
        }
        if !case.v1 {
            let tokens = blocks.saturating_mul(self.groups[0].spec.block);
            if blocks == 0 {
                return Some(empty());
            }
            return (case.max_model_len > tokens).then(|| message::v0_too_long(case.max_model_len, tokens));
        }
        for (stage, left) in self.checks(available) {
            if left <= 0 {
                return Some(empty());
            }
            let needed = self.needed(stage, case.max_model_len);
            if needed > left.unsigned_abs() {
                let longest = longest(case.max_model_len, |tokens| self.needed(stage, tokens) <= left.unsigned_abs());
                return Some(message::too_long(case.version, case.max_model_len, needed, left, longest));
            }
        }
        None
    }

    /// Requests of `max_model_len` that fit at once.
    ///
    /// V0 and V1 before 0.9.1 divide tokens; then blocks over the blocks of one request, rounded up over the groups'
    /// bytes together until 0.26 and group by group since 0.27 (equal where pages are).
    fn concurrency(&self, blocks: u64, per_request: &[u64]) -> f64 {
        let case = self.case;
        let Some(first) = self.groups.first() else { return f64::INFINITY };
        if !case.v1 || case.version < Version::new(0, 9, 1) {
            return blocks.saturating_mul(first.spec.block) as f64 / case.max_model_len.max(1) as f64;
        }
        if self.packed() && case.version < Version::new(0, 27, 0) {
            let page = |group| self.sum(self.stack, group, 0, Spec::page);
            let bytes = self.groups.iter().zip(per_request);
            let bytes: u64 =
                bytes.fold(0, |sum, (group, count)| sum.saturating_add(page(group).saturating_mul(*count)));
            return blocks as f64 / bytes.div_ceil(page(first).max(1)).max(1) as f64;
        }
        let request: u64 = per_request.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        blocks as f64 / request.max(1) as f64
    }

    /// Tokens as the release prints them: `blocks // groups × smallest block`, since 0.20.1 concurrency × length.
    fn tokens(&self, blocks: u64, concurrency: f64) -> u64 {
        let case = self.case;
        if self.groups.is_empty() {
            return 0;
        }
        if case.v1 && case.version >= Version::new(0, 20, 1) {
            return (concurrency * case.max_model_len as f64) as u64;
        }
        let smallest = self.groups.iter().map(|group| group.spec.block).min().unwrap_or(1);
        let each = blocks / self.groups.len() as u64;
        each.saturating_mul(smallest).saturating_mul(case.demand.context_ranks.max(1))
    }

    /// Bytes of the tensors on each stage. From 0.29 every group's tensor spans the one allocation, which is counted
    /// once here.
    fn tensor_bytes(&self, block_bytes: &[u64], blocks: u64) -> Vec<u64> {
        block_bytes.iter().map(|block| block.saturating_mul(blocks)).collect()
    }
}

#[cfg(test)]
mod tests;
