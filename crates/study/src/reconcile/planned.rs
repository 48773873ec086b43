//! What did the plan say for this line? The entry, or the sum of entries, that the engine's line stands for.

use plimsoll_plan::{Card, Item, Ledger, Plan, Rank};
use plimsoll_units::Estimate;

use crate::log::{EngineKind, Log, Reading, What};

/// The plan's number for a line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Planned {
    pub low: f64,
    pub value: f64,
    pub high: f64,
    pub note: Option<&'static str>,
}

impl Planned {
    fn exact(value: f64) -> Self {
        Planned { low: value, value, high: value, note: None }
    }

    fn of(estimate: &Estimate) -> Self {
        Planned { low: estimate.low.as_f64(), value: estimate.bytes.as_f64(), high: estimate.high.as_f64(), note: None }
    }

    fn noted(self, note: &'static str) -> Self {
        Planned { note: Some(note), ..self }
    }
}

/// Devices that are the host's memory.
const HOST: [&str; 3] = ["CPU", "Host", "host"];

/// The rank or device that a reading names.
pub(super) fn place(reading: &Reading) -> Option<String> {
    if let Some(device) = &reading.device {
        return Some(device.clone());
    }
    let name = reading.rank.name();
    (!name.is_empty()).then_some(name)
}

/// The ledger that a reading belongs to: a rank's, or the host's.
fn ledger<'p>(reading: &Reading, plan: &'p Plan) -> Option<(&'p Ledger, Option<&'p Rank>)> {
    if let Some(device) = reading.device.as_deref() {
        if HOST.iter().any(|host| device.contains(host)) {
            return plan.host.as_ref().map(|ledger| (ledger, None));
        }
        let named = plan.ranks.iter().find(|rank| rank.device.as_deref() == Some(device));
        let digits: String = device.chars().filter(char::is_ascii_digit).collect();
        let at = digits.parse::<usize>().unwrap_or(0);
        return named.or_else(|| plan.ranks.get(at)).map(|rank| (&rank.ledger, Some(rank)));
    }
    rank(reading, plan).map(|rank| (&rank.ledger, Some(rank)))
}

/// The rank that wrote a reading; a line without a tag is the first rank's.
fn rank<'p>(reading: &Reading, plan: &'p Plan) -> Option<&'p Rank> {
    let tag = reading.rank;
    if tag.pp.is_some() || tag.tp.is_some() {
        let (pp, tp) = (tag.pp.unwrap_or(0), tag.tp.unwrap_or(0));
        let found = plan.ranks.iter().find(|rank| rank.pp_rank == pp && rank.tp_rank == tp);
        // Attention over data-parallel replicas numbers its ranks beyond one replica's.
        return found.or_else(|| plan.ranks.get(tp as usize % plan.ranks.len().max(1)));
    }
    match tag.worker {
        Some(worker) => plan.ranks.get(worker as usize % plan.ranks.len().max(1)),
        None => plan.ranks.first(),
    }
}

/// The sum of some of a ledger's entries; nothing where none of them is there.
fn sum(ledger: &Ledger, wanted: impl Fn(Item) -> bool) -> Option<Planned> {
    let mut total = Planned::default();
    let mut any = false;
    for entry in ledger.entries.iter().filter(|entry| wanted(entry.item)) {
        any = true;
        total.low += entry.size.low.as_f64();
        total.value += entry.size.bytes.as_f64();
        total.high += entry.size.high.as_f64();
    }
    any.then_some(total)
}

/// Returns what the plan says for a reading; nothing where the plan has no such number.
#[expect(clippy::wildcard_enum_match_arm, reason = "most of what a log says is no number of a plan")]
pub(super) fn planned(
    engine: EngineKind,
    what: What,
    reading: &Reading,
    log: &Log,
    plan: &Plan,
    card: &Card,
) -> Option<Planned> {
    let (ledger, rank) = ledger(reading, plan)?;
    let one = |item: Item| ledger.entry(item).map(|entry| Planned::of(&entry.size));
    let split = plan.ranks.len() > 1;
    match what {
        What::Total => Some(Planned::of(&card.total)),
        What::Limit => {
            let limit = rank?.limit.as_f64();
            let scale = |end: f64| limit * end / card.total.bytes.as_f64().max(1.0);
            let (low, high) = (scale(card.total.low.as_f64()), scale(card.total.high.as_f64()));
            Some(Planned { low, value: limit, high, note: None })
        }
        What::Weights => weights(engine, reading, ledger, plan),
        What::WeightsDraft => one(Item::WeightsDraft),
        What::Projector => one(Item::WeightsTower),
        What::Adapter => one(Item::WeightsExtra),
        What::Activation => activation(engine, ledger, log),
        What::NonTorch => non_torch(engine, log, ledger),
        What::Consumed => {
            let all = sum(ledger, |item| item.is_weights() || matches!(item, Item::RuntimeNonTorch | Item::Comms));
            all.map(|all| all.noted("weights and non-torch in one number"))
        }
        What::Comms => one(Item::Comms),
        What::RuntimeBuffers => one(Item::RuntimeBuffers),
        What::RuntimeDecoder => one(Item::RuntimeDecoder),
        What::GraphsEstimated | What::Graphs => one(Item::Graphs),
        What::Compute => one(Item::Activation),
        What::Output => one(Item::RuntimeBuffers),
        What::KvBudget => rank.map(|rank| Planned::of(&rank.kv_budget)),
        What::KvBytes => kv_bytes(engine, reading, ledger, plan),
        What::KvTokens => {
            let tokens = plan.kv.logged.kv_tokens.unwrap_or(plan.kv.tokens) as f64;
            // llama.cpp's cache has the cells that were asked for, whatever is free.
            let asked = matches!(engine, EngineKind::LlamaCpp | EngineKind::Ollama);
            let planned = if asked { Planned::exact(tokens) } else { scaled(tokens, plan) };
            Some(if split { planned.noted("the smallest rank decides") } else { planned })
        }
        What::KvBlocks => Some(scaled(plan.kv.logged.blocks.unwrap_or(plan.kv.blocks) as f64, plan)),
        What::BlockTokens => Some(Planned::exact(plan.kv.block_tokens as f64)),
        What::Concurrency => Some(scaled(plan.kv.logged.concurrency.unwrap_or(plan.kv.max_concurrency), plan)),
        What::ContextLength => Some(Planned::exact(plan.max_model_len as f64)),
        _ => None,
    }
}

/// The weights of a rank or device. vLLM's number holds the draft model, SGLang's and llama.cpp's do not.
fn weights(engine: EngineKind, reading: &Reading, ledger: &Ledger, plan: &Plan) -> Option<Planned> {
    let with_draft = matches!(engine, EngineKind::Vllm);
    let wanted = |item: Item| item.is_weights() && (with_draft || item != Item::WeightsDraft);
    if engine == EngineKind::Ollama && reading.device.is_none() {
        // One number for every device together.
        let parts = plan.ranks.iter().map(|rank| &rank.ledger).chain(plan.host.as_ref());
        let sums: Vec<Planned> = parts.filter_map(|ledger| sum(ledger, wanted)).collect();
        return together(&sums);
    }
    sum(ledger, wanted)
}

/// The sum of several numbers, nothing of none.
fn together(sums: &[Planned]) -> Option<Planned> {
    let (first, rest) = sums.split_first()?;
    Some(rest.iter().fold(*first, |all, one| Planned {
        low: all.low + one.low,
        value: all.value + one.value,
        high: all.high + one.high,
        note: None,
    }))
}

/// The profile's peak. Where vLLM prints weights and non-torch in one number (from 0.27), the peak it prints holds the
/// graphs' estimate.
///
/// Source: vLLM 0.27.0 to 0.33.0, `v1/worker/gpu_worker.py`, `determine_available_memory`.
fn activation(engine: EngineKind, ledger: &Ledger, log: &Log) -> Option<Planned> {
    let joined = engine == EngineKind::Vllm && log.sheet.last(What::Consumed).is_some();
    if joined && ledger.entry(Item::Graphs).is_some() {
        let both = sum(ledger, |item| matches!(item, Item::Activation | Item::Graphs));
        return both.map(|both| both.noted("the printed peak holds the graphs' estimate"));
    }
    ledger.entry(Item::Activation).map(|entry| Planned::of(&entry.size))
}

/// What lies outside the framework's allocator. TensorRT-LLM's number is everything on the card that torch did not take.
fn non_torch(engine: EngineKind, log: &Log, ledger: &Ledger) -> Option<Planned> {
    if engine == EngineKind::Trtllm {
        let all = |item| matches!(item, Item::RuntimeNonTorch | Item::Context | Item::Comms | Item::Graphs);
        return sum(ledger, all).map(|all| all.noted("the driver's context, NCCL and graphs in one number"));
    }
    let v0 = log.sheet.signs.contains_key("v0");
    let wanted = |item| matches!(item, Item::RuntimeNonTorch | Item::Comms) || (v0 && item == Item::Context);
    sum(ledger, wanted)
}

/// The cache as allocated, with the interval of its budget.
fn kv_bytes(engine: EngineKind, reading: &Reading, ledger: &Ledger, plan: &Plan) -> Option<Planned> {
    if engine == EngineKind::Ollama && reading.device.is_none() {
        let parts = plan.ranks.iter().map(|rank| &rank.ledger).chain(plan.host.as_ref());
        let sums: Vec<Planned> = parts.filter_map(|ledger| sum(ledger, |item| item == Item::Kv)).collect();
        return together(&sums);
    }
    let entry = ledger.entry(Item::Kv)?;
    match engine {
        EngineKind::LlamaCpp | EngineKind::Ollama => Some(Planned::of(&entry.size)),
        EngineKind::Vllm | EngineKind::Trtllm | EngineKind::Sglang => Some(scaled(entry.size.bytes.as_f64(), plan)),
    }
}

/// A number that grows with the budget, with the budget's interval.
fn scaled(value: f64, plan: &Plan) -> Planned {
    let budget = &plan.kv.budget;
    let middle = budget.bytes.as_f64();
    if middle <= 0.0 || budget.is_exact() {
        return Planned::exact(value);
    }
    let at = |end: f64| value * end / middle;
    // A pool is a whole number of blocks: one block more or less is no difference.
    let low = at(budget.low.as_f64()).floor();
    Planned { low, value, high: at(budget.high.as_f64()), note: None }
}
