//! What comes out for one launch? Ledger, pools and slack of every rank, without asking what else might help.

use plimsoll_facts::model::Model;
use plimsoll_units::{Bytes, Estimate, Source};

use super::cells::{Cells, State, cells, draft_layers, stages, state};
use super::defaults::{Resolved, draft_is_counted, resolve};
use super::options::Options;
use super::pools::{Pools, Stage, size, table};
use super::slack;
use super::weights::{Division, Weights};
use crate::interval::Scale;
use crate::{Card, Entry, Error, Formula, Given, Item, Ledger, Rank, Version};

/// A launch to plan.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The model.
    pub model: &'a Model,
    /// The card.
    pub card: &'a Card,
    /// SGLang's release.
    pub version: Version,
    /// Its flags.
    pub options: &'a Options,
    /// What the user knows.
    pub given: &'a Given,
}

/// A launch, worked out.
#[derive(Clone, Debug)]
pub struct Assessed {
    /// With defaults filled in.
    pub resolved: Resolved,
    /// What the pools hold.
    pub pools: Pools,
    /// Every stage's share.
    pub shares: Vec<Share>,
    /// The stage that decides.
    pub scarcest: usize,
    /// What should be said.
    pub notes: Vec<String>,
}

/// One stage's rank.
#[derive(Clone, Debug)]
pub struct Share {
    /// Per token.
    pub cells: Cells,
    /// Per sequence.
    pub state: State,
    /// Free memory before the weights.
    pub pre: Estimate,
    /// Free memory when the pools are sized.
    pub now: Estimate,
    /// The pools' budget, signed: `now − pre × (1 − f)` less what is set aside for images.
    pub rest: [f64; 3],
    /// What the pools hold, with their padding.
    pub kv: Bytes,
    /// What must fit in the slack, without the padding of the pools.
    pub consumers: [f64; 3],
    /// What the slack leaves of itself after them, signed.
    pub slack: [f64; 3],
    /// Weights of a drafter that is loaded after the pools are sized.
    pub late: u64,
    /// All lines but the reserve.
    pub entries: Vec<Entry>,
}

impl Assessed {
    /// Whether the pools can be made.
    pub fn starts(&self) -> bool {
        self.pools.refused.is_none()
    }

    /// Whether what the fraction leaves holds what comes after.
    pub fn holds(&self) -> bool {
        self.shares.iter().all(|share| share.slack[1] >= 0.0)
    }

    /// Whether it serves.
    pub fn fits(&self) -> bool {
        self.starts() && self.holds()
    }

    /// Returns the longest sequence that one worker's pool holds.
    ///
    /// SGLang 0.5.23, `srt/managers/tp_worker.py`: `min(context_len − 1, max_total_num_tokens − 1)`.
    pub fn longest(&self) -> u64 {
        self.resolved.context.min(self.pools.tokens)
    }

    /// Tokens that a sequence may have, prompt and answer: what the pool and the context allow.
    pub fn concurrency(&self) -> f64 {
        let length = self.resolved.context.max(1);
        let page = self.resolved.page.max(1);
        let by_pool = self.pools.tokens as f64 / length.next_multiple_of(page) as f64;
        by_pool.min(self.pools.requests as f64).max(0.0)
    }
}

/// Works a launch out.
///
/// # Errors
/// Every variant of [`Error`].
pub fn assess(case: &Case<'_>) -> Result<Assessed, Error> {
    let Case { model, card, version, options, .. } = *case;
    if card.total.bytes == Bytes::ZERO {
        return Err(Error::UnknownMemory { gpu: card.name.clone() });
    }
    let resolved = resolve(version, model, card, options)?;
    let ranges = stages(model.layers.len() as u32, options)?;
    let division = Division::new(model, options, &resolved)?;
    let mut notes = model.notes.clone();
    let mut shares = Vec::with_capacity(ranges.len());
    let mut offloaded = 0;
    for range in &ranges {
        let weights = division.stage(range)?;
        offloaded += weights.offloaded;
        let share = free(case, &resolved, &weights);
        shares.push(Share {
            cells: cells(model, options, &resolved, range),
            state: state(model, options, range)?,
            ..share
        });
    }
    let sized: Vec<Stage> = shares
        .iter()
        .map(|share| Stage { cells: share.cells.clone(), state: share.state, rest: share.rest[1] })
        .collect();
    let pools = size(&resolved, options, &sized);
    for (share, range) in shares.iter_mut().zip(&ranges) {
        spend(case, &resolved, &pools, range, share);
    }
    let scarcest = (0..shares.len()).min_by(|a, b| shares[*a].rest[1].total_cmp(&shares[*b].rest[1])).unwrap_or(0);
    if offloaded > 0 {
        notes.push(format!("{} of the weights stay in CPU memory", Bytes::new(offloaded)));
    }
    Ok(Assessed { resolved, pools, shares, scarcest, notes })
}

/// Free memory before and after loading, and what the fraction makes of it.
///
/// SGLang 0.5.23, `srt/mem_cache/kv_cache_configurator.py`, `_profile_available_bytes`; 0.5.9,
/// `srt/model_executor/model_runner_kv_cache_mixin.py`, `profile_max_num_token`.
fn free(case: &Case<'_>, resolved: &Resolved, weights: &Weights) -> Share {
    let total = &case.card.total;
    let mut entries = weight_entries(case, weights);
    let mut before = slack::before(resolved, case.card);
    if let Some(bytes) = case.given.non_torch {
        before.truncate(1);
        before[0].size = Estimate::exact(bytes, Source::Given);
    }
    let pre = spread(total, before.iter().map(|entry| &entry.size), "total less what is gone before the weights");
    let loading = slack::loading();
    let loaded: Vec<&Estimate> = entries.iter().map(|entry| &entry.size).collect();
    let mut parts = loaded.clone();
    if case.given.weights.is_none() {
        parts.push(&loading.size);
    }
    let mut now = spread(&pre, parts, "free memory after loading");
    // Sizes stop at zero; what the weights lack beyond the card counts all the same.
    let wanted = parts_sum(&loaded) + if case.given.weights.is_none() { loading.size.bytes.as_f64() } else { 0.0 };
    let lacking = if case.given.kv_free.is_some() { 0.0 } else { (wanted - pre.bytes.as_f64()).max(0.0) };
    let mut pre = pre;
    if let Some(bytes) = case.given.kv_free {
        // What was free before follows from what is free now and what was loaded.
        let taken: Bytes = loaded.iter().map(|size| size.bytes).sum();
        now = Estimate::exact(bytes, Source::Given);
        pre = Estimate::between(
            bytes + taken,
            bytes + taken + loading.size.bytes,
            bytes + taken + loading.size.high,
            Source::Given,
        );
    }
    if case.given.weights.is_none() {
        entries.push(loading);
    }
    entries.extend(before);
    let images = set_aside(resolved, case.options);
    let budget = |pre: Bytes, now: Bytes| now.as_f64() - lacking - pre.as_f64() * (1.0 - resolved.fraction) - images;
    let mut rest = [budget(pre.low, now.low), budget(pre.bytes, now.bytes), budget(pre.high, now.high)];
    if let Some(bytes) = case.given.kv_budget {
        rest = [bytes.as_f64(); 3];
    }
    Share {
        cells: Cells::default(),
        state: State::default(),
        pre,
        now,
        rest,
        kv: Bytes::ZERO,
        consumers: [0.0; 3],
        slack: [0.0; 3],
        late: weights.draft_outside,
        entries,
    }
}

/// The sum of some lines.
fn parts_sum(parts: &[&Estimate]) -> f64 {
    parts.iter().map(|part| part.bytes.as_f64()).sum()
}

/// What multimodal models set aside of the budget for embeddings and transport.
///
/// SGLang 0.5.18 and later, `srt/mem_cache/kv_cache_configurator.py`, `mm_runtime_reservation_gb`.
fn set_aside(resolved: &Resolved, options: &Options) -> f64 {
    if !resolved.multimodal || resolved.version < Version::new(0, 5, 18) {
        return 0.0;
    }
    let transport = options.given.get("mm_feature_transport").and_then(|value| value.as_str());
    let pools = if matches!(transport, Some("cuda_ipc" | "cuda_vmm")) { 1024.0 } else { 0.0 };
    (options.vlm_cache_mb.unwrap_or(100.0) + pools) * 1_048_576.0
}

/// What is left of an amount, the parts' half-widths adding as independent errors do.
fn spread<'e>(of: &Estimate, parts: impl IntoIterator<Item = &'e Estimate>, what: &'static str) -> Estimate {
    let (mut taken, mut up, mut down) = (0.0, 0.0_f64, 0.0_f64);
    up += (of.high.as_f64() - of.bytes.as_f64()).powi(2);
    down += (of.bytes.as_f64() - of.low.as_f64()).powi(2);
    for part in parts {
        taken += part.bytes.as_f64();
        up += (part.bytes.as_f64() - part.low.as_f64()).powi(2);
        down += (part.high.as_f64() - part.bytes.as_f64()).powi(2);
    }
    let middle = of.bytes.as_f64() - taken;
    let at = |bytes: f64| Bytes::from_f64(bytes);
    Estimate::between(at(middle - down.sqrt()), at(middle), at(middle + up.sqrt()), Source::Derived(what.into()))
}

/// Adds the cache and what comes after it.
fn spend(case: &Case<'_>, resolved: &Resolved, pools: &Pools, range: &std::ops::Range<u32>, share: &mut Share) {
    let page = resolved.page;
    let cells = &share.cells;
    let slots = |tokens: u64| if tokens == 0 { 0 } else { tokens.saturating_add(page) };
    let mut kv = match cells.compressed {
        Some(each) => (slots(pools.tokens) as f64 * each) as u64,
        None => slots(pools.tokens).saturating_mul(if cells.full_layers > 0 { cells.held + cells.draft } else { 0 }),
    };
    if cells.compressed.is_none() {
        kv = kv.saturating_add(slots(pools.swa_tokens.unwrap_or(0)).saturating_mul(cells.swa_held));
    }
    let states = pools.slots.map_or(0, |count| count.saturating_add(1).saturating_mul(share.state.bytes()));
    let drafted = match (&resolved.draft, pools.slots) {
        (Some(draft), Some(_)) => (pools.requests + 1).saturating_mul(draft.tokens).saturating_mul(share.state.bytes()),
        (Some(_) | None, _) => 0,
    };
    share.kv = Bytes::new(kv.saturating_add(states).saturating_add(drafted));
    let mut after = vec![
        slack::graphs(resolved, case.model, case.options),
        slack::buffers(table(resolved, case.options, pools)),
        slack::activation(resolved, case.model, case.options, range),
    ];
    after.extend(late_draft(case, resolved, pools, share));
    if let Some(bytes) = case.given.activation {
        after[2].size = Estimate::exact(bytes, Source::Given);
    }
    let sum = |pick: fn(&Estimate) -> Bytes| after.iter().map(|entry| pick(&entry.size).as_f64()).sum::<f64>();
    share.consumers = [sum(|size| size.low), sum(|size| size.bytes), sum(|size| size.high)];
    let left = |now: Bytes, consumers: f64| now.as_f64() - share.kv.as_f64() - consumers;
    let own_budget = case.given.kv_budget.is_some() && case.given.kv_free.is_none();
    share.slack = if own_budget {
        // The budget was told, not where it comes from: what is left is what the fraction leaves.
        let slack = share.pre.bytes.as_f64() * (1.0 - resolved.fraction);
        [slack - share.consumers[2], slack - share.consumers[1], slack - share.consumers[0]]
    } else {
        // The cache is sized from what is free, so a wrong estimate of it moves both.
        let at = |consumers: f64| left(share.now.bytes, consumers);
        [at(share.consumers[2]), at(share.consumers[1]), at(share.consumers[0])]
    };
    share.entries.extend(after);
    share.entries.push(Entry {
        item: Item::Kv,
        size: Estimate::exact(share.kv, Source::Engine("SGLang, srt/model_executor/pool_configurator.py".into())),
        note: Some("pools of tokens with their padding page, and of states".into()),
        formula: Formula {
            text: "(tokens + page) × cell + sliding + (slots + 1) × state".into(),
            values: vec![
                ("tokens", pools.tokens as f64),
                ("page", page as f64),
                ("cell", share.cells.held as f64),
                ("slots", pools.slots.unwrap_or(0) as f64),
                ("state", share.state.bytes() as f64),
            ],
        },
    });
}

/// A drafter that is loaded after the pools are sized, with a pool as long as the model's.
///
/// SGLang until 0.5.13: `srt/speculative/eagle_worker.py` makes its own model runner after the target's.
fn late_draft(case: &Case<'_>, resolved: &Resolved, pools: &Pools, share: &Share) -> Option<Entry> {
    let draft = resolved.draft.as_ref().filter(|draft| draft.keeps_cache() && !draft_is_counted(resolved))?;
    let cells = &share.cells;
    let layers = draft_layers(case.model, draft);
    let each = cells.charged.checked_div(cells.full_layers).unwrap_or(0).saturating_mul(layers);
    let bytes = share.late.saturating_add(pools.tokens.saturating_mul(each));
    Some(Entry {
        item: Item::WeightsDraft,
        size: Estimate::exact(Bytes::new(bytes), Source::Derived("drafting layers and their pool".into())),
        note: Some("loaded after the pools are sized: out of what the fraction leaves".into()),
        formula: Formula {
            text: "weights + tokens × cell".into(),
            values: vec![("weights", share.late as f64), ("tokens", pools.tokens as f64), ("cell", each as f64)],
        },
    })
}

/// The weights, line by line; a given sum stands as one line.
fn weight_entries(case: &Case<'_>, weights: &Weights) -> Vec<Entry> {
    let entry = |item: Item, bytes: u64, source: Source| Entry {
        item,
        size: Estimate::exact(Bytes::new(bytes), source),
        note: None,
        formula: Formula::default(),
    };
    if let Some(given) = case.given.weights {
        return vec![entry(Item::WeightsExtra, given.get(), Source::Given)];
    }
    let source = || Source::Derived("tensor inventory, divided and stored as SGLang loads it".into());
    let lines = Item::ALL.iter().zip(weights.items).filter(|(_, bytes)| *bytes > 0);
    lines.map(|(item, bytes)| entry(*item, bytes, source())).collect()
}

/// Ledgers of every rank, each with what stays free as its reserve.
pub(super) fn ranks(case: &Case<'_>, assessed: &Assessed) -> Vec<Rank> {
    let total = case.card.total.bytes;
    let mut ranks = Vec::with_capacity(assessed.shares.len() * case.options.tp as usize);
    for (at, share) in assessed.shares.iter().enumerate() {
        let mut entries = share.entries.clone();
        let used: Bytes = entries.iter().map(|entry| entry.size.bytes).sum();
        let free = total.saturating_sub(used);
        entries.push(Entry {
            item: Item::Reserve,
            size: Estimate::exact(free, Source::Derived("the card less all lines".into())),
            note: Some("free once it serves".into()),
            formula: Formula::default(),
        });
        entries.sort_by_key(|entry| entry.item);
        let [below, middle, above] = share.rest;
        let scale = Scale { below: middle - below, above: above - middle };
        let (low, high) = scale.ends(middle, super::NAME, "");
        let [low, middle, high] = [low, middle, high].map(Bytes::from_f64);
        let source = || Source::Engine("SGLang: free after loading − free before × (1 − mem_fraction_static)".into());
        let rank = Rank {
            device: None,
            pp_rank: at as u32,
            tp_rank: 0,
            limit: total,
            total,
            ledger: Ledger { entries },
            kv_budget: match case.given.kv_budget {
                Some(bytes) => Estimate::exact(bytes, Source::Given),
                None => Estimate::between(low, middle, high, source()),
            },
            short: Bytes::from_f64(-share.rest[1]),
        };
        ranks.extend((0..case.options.tp).map(|tp_rank| Rank { tp_rank, ..rank.clone() }));
    }
    ranks
}
