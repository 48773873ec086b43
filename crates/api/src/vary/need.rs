//! What does a batch need? Weights, activations, runtime and KV cache of so many sequences of a length, beside the most that
//! the engine gives them.

use plimsoll_plan::engine::{Depth, llamacpp, ollama, transformers};
use plimsoll_plan::{Growth, Item, Ledger, Plan, Rank, Section, State, Verdict};
use plimsoll_units::Bytes;

use super::{Base, Knob, Setting, Value, Varied};
use crate::Error;

/// A part of the memory that is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// At least.
    pub low: Bytes,
    /// As estimated.
    pub bytes: Bytes,
    /// At most.
    pub high: Bytes,
}

/// What `batch` sequences of `context` tokens need on the rank that has the least room for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Sequences.
    pub batch: u64,
    /// Tokens of each.
    pub context: u64,
    /// Weights as the engine holds them.
    pub weights: Bytes,
    /// The peak of one step above the weights.
    pub activations: Part,
    /// Everything else that does not grow with the sequences: graphs, libraries, buffers, communication.
    pub runtime: Part,
    /// The KV cache that the sequences take, in whole blocks, windows and states counted as the engine does.
    pub kv: Bytes,
    /// The most that all of these may come to: what the engine allows itself.
    pub limit: Bytes,
    /// The same, at the ends of the interval of what the cache gets.
    pub limit_low: Bytes,
    /// The same, at the other end.
    pub limit_high: Bytes,
    /// The card's memory.
    pub card: Bytes,
    /// Which rank, as an index into the plan's.
    pub rank: usize,
    /// Cards that the launch is on.
    pub gpus: u32,
    /// Whether the sequences fit at once.
    pub fits: bool,
    /// The same with the intervals considered.
    pub state: State,
    /// Why they do not: `weights`, `activation`, `kv`, `gpus`, `context`, …
    pub binding: Option<String>,
    /// Sequences of this length that fit at once beside these fixed parts; `None` where the engine makes its cache for the
    /// batch it was started with, or keeps nothing per sequence.
    pub largest_batch: Option<u64>,
    /// The same at the unfavourable end of every interval.
    pub largest_batch_low: Option<u64>,
    /// The same at the favourable end.
    pub largest_batch_high: Option<u64>,
    /// What lies in the host's memory.
    pub host: Bytes,
}

impl Need {
    /// Returns the sum of all parts.
    pub fn total(&self) -> Bytes {
        self.weights + self.activations.bytes + self.runtime.bytes + self.kv
    }

    /// Returns the KV cache's part of the whole.
    pub fn kv_share(&self) -> f64 {
        let total = self.total().as_f64();
        if total > 0.0 { self.kv.as_f64() / total } else { 0.0 }
    }
}

/// Whether an engine makes its cache for the batch and length that it is started with, rather than taking what is left.
pub(crate) fn allocates(engine: &str) -> bool {
    [llamacpp::NAME, ollama::NAME, transformers::NAME].contains(&engine)
}

/// Returns what `batch` sequences of `context` tokens need beside what is fixed in a planned launch.
///
/// Engines that give their cache whatever is left (vLLM, SGLang, TensorRT-LLM) answer for every batch and length; lengths
/// beyond the launch's own do not fit (`context` binds). Those that make the cache for the launch (llama.cpp, Ollama, Transformers) answer for the
/// launch itself, so `batch` and `context` are to be those that it was planned for: [`Base::need_at`] plans it so.
pub fn need(varied: &Varied, batch: u64, context: u64) -> Need {
    if allocates(varied.prepared.engine) {
        allocated(&varied.plan, batch, context)
    } else {
        pooled(&varied.plan, batch, context)
    }
}

/// The parts of a ledger beside the cache.
struct Fixed {
    weights: Bytes,
    activations: Part,
    runtime: Part,
}

impl Fixed {
    fn of(ledger: &Ledger) -> Fixed {
        let mut fixed = Fixed { weights: Bytes::ZERO, activations: Part::default(), runtime: Part::default() };
        for entry in &ledger.entries {
            let part = match entry.item.section() {
                Section::Kv | Section::Reserve => continue,
                Section::Weights => {
                    fixed.weights += entry.size.bytes;
                    continue;
                }
                Section::Activations => &mut fixed.activations,
                Section::Runtime | Section::Graphs => &mut fixed.runtime,
            };
            part.low += entry.size.low;
            part.bytes += entry.size.bytes;
            part.high += entry.size.high;
        }
        fixed
    }

    fn total(&self) -> Bytes {
        self.weights + self.activations.bytes + self.runtime.bytes
    }
}

/// For engines whose cache is what is left.
fn pooled(plan: &Plan, batch: u64, context: u64) -> Need {
    let growth = &plan.kv.growth;
    let stage = |rank: &Rank| rank.pp_rank as usize;
    let room = |rank: &Rank| {
        let need = growth.bytes(stage(rank), batch, context);
        signed(rank.kv_budget.bytes) - signed(rank.short) - signed(need)
    };
    let at = (0..plan.ranks.len()).min_by_key(|at| room(&plan.ranks[*at])).unwrap_or(plan.scarcest);
    let rank = &plan.ranks[at];
    let fixed = Fixed::of(&rank.ledger);
    let budget = &rank.kv_budget;
    let total = fixed.total();
    let limit = |budget: Bytes| {
        if rank.short > Bytes::ZERO && budget == Bytes::ZERO {
            total.saturating_sub(rank.short)
        } else {
            total + budget
        }
    };
    let refused = refused(plan);
    let sequences = |growth: &Growth| if refused.is_some() { Some(0) } else { growth.sequences(context) };
    let tightest = &plan.ranks[plan.scarcest];
    let scarcest = &tightest.kv_budget;
    let end = |bytes: Bytes| growth.with_budget(stage(tightest), scarcest.bytes, bytes);
    let largest = sequences(growth);
    let low = sequences(&end(scarcest.low)).zip(largest).map(|(low, middle)| low.min(middle));
    let high = match &refused {
        Some(binding) if binding == "gpus" => Some(0),
        _ => end(scarcest.high).sequences(context).zip(largest).map(|(high, middle)| high.max(middle)),
    };
    let beyond = context > plan.max_model_len && plan.max_model_len > 0;
    let holds = |fits: Option<u64>| fits.is_none_or(|fits| fits >= batch) && !beyond;
    let fits = holds(largest) && refused.is_none();
    let binding = match (fits, refused) {
        (true, _) => None,
        (false, Some(refused)) => Some(refused),
        (false, None) => Some(if beyond { "context" } else { "kv" }.to_owned()),
    };
    Need {
        batch,
        context,
        weights: fixed.weights,
        activations: fixed.activations,
        runtime: fixed.runtime,
        kv: growth.bytes(stage(rank), batch, context),
        limit: limit(budget.bytes),
        limit_low: limit(budget.low),
        limit_high: limit(budget.high),
        card: rank.total,
        rank: at,
        gpus: plan.parallel.gpus(),
        fits,
        state: if fits && holds(low) {
            State::Fits
        } else if fits || (holds(high) && high != Some(0)) {
            State::Borderline
        } else {
            State::DoesNotFit
        },
        binding,
        largest_batch: largest,
        largest_batch_low: low,
        largest_batch_high: high,
        host: plan.host.as_ref().map_or(Bytes::ZERO, Ledger::total),
    }
}

/// Why a launch does not even start, whatever it is asked to serve: what binds, where that is not the cache.
fn refused(plan: &Plan) -> Option<String> {
    match &plan.verdict {
        Verdict::DoesNotFit { binding, .. } if binding != "kv" => Some(binding.clone()),
        Verdict::DoesNotFit { .. } | Verdict::Fits { .. } => {
            plan.ranks.iter().any(|rank| rank.short > Bytes::ZERO).then(|| "activation".to_owned())
        }
    }
}

/// For engines that make the cache for the launch.
fn allocated(plan: &Plan, batch: u64, context: u64) -> Need {
    let room = |rank: &Rank| signed(rank.total) - signed(rank.ledger.total());
    let at = (0..plan.ranks.len()).min_by_key(|at| room(&plan.ranks[*at])).unwrap_or(plan.scarcest);
    let rank = &plan.ranks[at];
    let fixed = Fixed::of(&rank.ledger);
    let kv = rank.ledger.bytes(Item::Kv);
    let reserve = rank.ledger.bytes(Item::Reserve);
    let fits = matches!(plan.verdict, Verdict::Fits { .. });
    let binding = match &plan.verdict {
        Verdict::Fits { .. } => None,
        Verdict::DoesNotFit { binding, .. } => Some(binding.clone()),
    };
    let limit = rank.limit.saturating_sub(reserve);
    Need {
        batch,
        context,
        weights: fixed.weights,
        activations: fixed.activations,
        runtime: fixed.runtime,
        kv,
        limit,
        limit_low: limit,
        limit_high: limit,
        card: rank.total,
        rank: at,
        gpus: plan.parallel.gpus(),
        fits,
        state: plan.state(),
        binding,
        largest_batch: None,
        largest_batch_low: None,
        largest_batch_high: None,
        host: plan.host.as_ref().map_or(Bytes::ZERO, Ledger::total),
    }
}

fn signed(bytes: Bytes) -> i128 {
    i128::from(bytes.get())
}

impl Base<'_> {
    /// Plans the launch for `batch` sequences of `context` tokens, with other settings beside, and says what they need.
    ///
    /// Engines that would move layers to host memory are asked to keep them on the GPUs, unless the launch says how many.
    ///
    /// # Errors
    /// Those of [`Base::at`].
    pub fn need_at(&self, settings: &[Setting], batch: u64, context: u64) -> Result<Need, Error> {
        Ok(need(&self.planned_at(settings, batch, context, Depth::Ledger)?, batch, context))
    }

    /// Plans what [`Base::need_at`] is about, to a depth of one's own.
    pub(crate) fn planned_at(
        &self,
        settings: &[Setting],
        batch: u64,
        context: u64,
        depth: Depth,
    ) -> Result<Varied, Error> {
        let mut all: Vec<Setting> =
            settings.iter().filter(|at| !matches!(at.knob, Knob::Context | Knob::Batch)).cloned().collect();
        all.push(Setting { knob: Knob::Context, value: Value::Number(context) });
        all.push(Setting { knob: Knob::Batch, value: Value::Number(batch) });
        self.on_gpu(&all, depth)
    }
}
