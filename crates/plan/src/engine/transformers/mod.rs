//! How does Transformers divide a GPU? The plain baseline: weights as loaded, a cache per sequence, and contiguous
//! activations.
//!
//! Nothing is reserved ahead: memory grows until the last token has been made, so a plan is for one call of `generate`
//! with a batch of equal prompts.

mod activation;
pub mod cache;
mod devices;
pub mod flags;
mod launch;
mod options;
pub mod oracle;
pub mod quantised;
mod rank;
mod verdict;
mod weights;

use plimsoll_units::{Bytes, Estimate, Source};

use crate::engine::{Depth, Question};
use crate::{Error, Item, Kv, KvGroup, Ledger, Logged, Margin, Parallel, Plan, Rank, Remedy, Verdict, Version};
use launch::Launch;
use rank::{Moment, Placement};

/// The engine's name in answers.
pub const NAME: &str = "transformers";
/// The newest release whose rules are built in.
pub const NEWEST: Version = Version::new(5, 23, 0);
/// The oldest release whose rules are built in.
pub const OLDEST: Version = Version::new(4, 45, 0);
/// Keys of a request's `options` that are no flags of the command.
pub const KEYS: [&str; 0] = [];

/// Plans a call of `generate`.
///
/// # Errors
/// [`Error::Flag`] and [`Error::Request`] for options that are none or contradict one another, or that the cache class
/// refuses.
pub fn plan(question: &Question<'_>) -> Result<Plan, Error> {
    let launch = Launch::new(question)?;
    let outcome = Outcome::of(&launch)?;
    let depth = question.depth;
    let longest = if depth == Depth::Ledger { launch.total() } else { verdict::longest(&launch) };
    let helps = depth == Depth::Whole && !outcome.fits();
    let remedies = if helps { verdict::remedies(&launch) } else { Vec::new() };
    Ok(outcome.plan(&launch, longest, remedies))
}

/// Ledgers of one request.
struct Outcome {
    placement: Placement,
    moments: Vec<Moment>,
    ranks: Vec<Rank>,
    scarcest: usize,
}

impl Outcome {
    fn of(launch: &Launch<'_>) -> Result<Outcome, Error> {
        let placement = rank::placement(launch);
        let mut moments = Vec::new();
        let mut ranks = Vec::new();
        let used = placement.cards.iter().take_while(|held| !held.kinds.is_empty()).count().max(1);
        for (at, held) in placement.cards.iter().take(used).enumerate() {
            let moment = rank::moment(launch, held)?;
            let visiting = if at == 0 { placement.visiting } else { 0 };
            let ledger = rank::ledger(launch, held, &moment, visiting, at + 1 == used);
            ranks.push(of_ledger(launch, at, ledger, &moment));
            moments.push(moment);
        }
        let scarcest = (0..ranks.len()).min_by_key(|at| spare(&ranks[*at])).unwrap_or(0);
        Ok(Outcome { placement, moments, ranks, scarcest })
    }

    fn fits(&self) -> bool {
        self.ranks.iter().all(|rank| rank.ledger.total() <= rank.total)
    }

    fn plan(self, launch: &Launch<'_>, longest: u64, remedies: Vec<Remedy>) -> Plan {
        let rank = &self.ranks[self.scarcest];
        let verdict = if self.fits() {
            Verdict::Fits { spare: rank.total.saturating_sub(rank.ledger.total()) }
        } else {
            verdict::refused(rank, remedies)
        };
        let mut notes = launch.notes.clone();
        notes.extend(verdict::notes(launch, &self.placement));
        let groups = groups(launch, &self.placement.cards[self.scarcest].layers);
        let per_token = per_token(launch, &self.placement.cards[self.scarcest].layers);
        let most = verdict::most_sequences(launch);
        let tokens = longest.saturating_sub(1).saturating_mul(launch.batch);
        Plan {
            engine: NAME,
            version: launch.version,
            parallel: Parallel { tp: 1, pp: self.ranks.len() as u32, dp: 1, ep: 1 },
            scarcest: self.scarcest,
            kv: Kv {
                bytes_per_token: per_token,
                block_tokens: 1,
                blocks: tokens,
                tokens,
                budget: rank.kv_budget.clone(),
                max_concurrency: most as f64,
                concurrency_at_tokens: launch.total(),
                groups,
                growth: crate::Growth::default(),
                logged: logged(launch, &self.placement),
            },
            max_model_len: launch.total(),
            max_context_tokens: longest,
            verdict,
            margin: margin(rank),
            host: self.host(),
            assumptions: launch.assumptions.clone(),
            notes,
            launch: verdict::command(launch),
            ranks: self.ranks,
            batching: None,
        }
    }

    /// What lies in host memory: offloaded modules and an offloaded cache.
    fn host(&self) -> Option<Ledger> {
        let source = || Source::Engine("transformers 5.23.0, integrations/accelerate.py, cache_utils.py".into());
        let lines = self.placement.host.iter();
        let mut entries: Vec<_> = lines
            .map(|(item, bytes)| rank::entry(*item, Estimate::exact(Bytes::new(*bytes), source()), None))
            .collect();
        let kv = self.moments.iter().map(|moment| moment.kv_host).fold(0, u64::saturating_add);
        if kv > 0 {
            entries.push(rank::entry(Item::Kv, Estimate::exact(Bytes::new(kv), source()), None));
        }
        if entries.is_empty() { None } else { Some(Ledger { entries }) }
    }
}

fn of_ledger(launch: &Launch<'_>, at: usize, ledger: Ledger, moment: &Moment) -> Rank {
    let total = launch.cards.get(at).map_or(Bytes::ZERO, |card| card.total.bytes);
    let beside = |pick: fn(&Estimate) -> Bytes| {
        let others = ledger.entries.iter().filter(|entry| entry.item != Item::Kv).map(|entry| pick(&entry.size));
        others.sum::<Bytes>()
    };
    let left = |used: Bytes| total.saturating_sub(used);
    let budget = launch.given.kv_budget.map_or_else(
        || {
            let source = Source::Derived("total less every other line".into());
            Estimate::between(left(beside(|s| s.high)), left(beside(|s| s.bytes)), left(beside(|s| s.low)), source)
        },
        |given| Estimate::exact(given, Source::Given),
    );
    let short = ledger.total().saturating_sub(Bytes::new(moment.kv)).saturating_sub(total);
    Rank {
        device: Some(format!("cuda:{at}")),
        pp_rank: at as u32,
        tp_rank: 0,
        limit: total,
        total,
        ledger,
        kv_budget: budget,
        short,
    }
}

/// Bytes to spare; negative when missing.
fn spare(rank: &Rank) -> i64 {
    margin(rank).bytes
}

fn margin(rank: &Rank) -> Margin {
    let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
    let sum = |pick: fn(&Estimate) -> Bytes| rank.ledger.entries.iter().map(|entry| pick(&entry.size)).sum::<Bytes>();
    let left = |used: Bytes| signed(rank.total).saturating_sub(signed(used));
    Margin { low: left(sum(|s| s.high)), bytes: left(sum(|s| s.bytes)), high: left(sum(|s| s.low)) }
}

fn per_token(launch: &Launch<'_>, layers: &[u32]) -> u64 {
    let caches = launch.layers();
    let here = layers.iter().filter_map(|at| caches.get(*at as usize));
    here.map(|cache| cache.bytes_per_token(launch.dtype)).fold(0, u64::saturating_add)
}

/// Layers that keep the same, as one group each.
fn groups(launch: &Launch<'_>, layers: &[u32]) -> Vec<KvGroup> {
    let caches = launch.layers();
    let mut groups: Vec<(String, u64, u32)> = Vec::new();
    for cache in layers.iter().filter_map(|at| caches.get(*at as usize)) {
        let (kind, bytes) = (kind(cache), cache.bytes_per_token(launch.dtype));
        match groups.iter_mut().find(|(same, size, _)| *same == kind && *size == bytes) {
            Some((_, _, count)) => *count += 1,
            None => groups.push((kind, bytes, 1)),
        }
    }
    let positions = launch.filled().positions();
    let group = |(kind, page_bytes, layers)| KvGroup {
        kind,
        layers,
        block_tokens: 1,
        page_bytes,
        blocks_per_request: positions,
    };
    groups.into_iter().map(group).collect()
}

fn kind(cache: &cache::LayerCache) -> String {
    match (cache.kv, cache.indexer > 0, cache.summary.is_some()) {
        (Some(_), _, true) => "compressed".to_owned(),
        (Some(_), true, _) => "indexed".to_owned(),
        (Some(kv), ..) => kv.window.map_or_else(|| "full".to_owned(), |window| format!("sliding:{window}")),
        (None, ..) if [cache.convolution, cache.state, cache.plain_state] != [0; 3] => "recurrent".to_owned(),
        (None, ..) => "none".to_owned(),
    }
}

fn logged(launch: &Launch<'_>, placement: &Placement) -> Logged {
    let all = placement.cards.iter().flat_map(|held| held.kinds.values()).chain(placement.host.values());
    let footprint: u64 = all.copied().fold(0, u64::saturating_add);
    let mut lines = vec![format!("model.get_memory_footprint() = {footprint}")];
    if launch.cards.len() > 1 || !placement.host.is_empty() {
        lines.push(format!("model.hf_device_map: {}", placement.map.join(", ")));
    }
    Logged { lines, ..Logged::default() }
}
