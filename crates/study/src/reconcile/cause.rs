//! Why does it differ? What the log itself shows for a cause, each with the lines that show it. A cause is named only with
//! evidence; a difference without any is said to be unexplained.

use std::collections::BTreeMap;

use plimsoll_plan::{Item, Plan};
use plimsoll_units::Bytes;

use super::{Comparison, Unit};
use crate::log::{EngineKind, Log, Reading, What};

/// Memory that a driver's context, library handles and communication commonly take before weights are loaded: what is in
/// use beyond it belongs to somebody else. vLLM and SGLang measure after both are set up.
const OWN_AT_START: Bytes = Bytes::new(3 << 30);
/// The same for one GPU without communication between ranks.
const OWN_AT_START_ALONE: Bytes = Bytes::new(5 << 28);

/// What makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CauseKind {
    /// The card is not the one that was planned for.
    DifferentCard,
    /// Somebody else holds memory of the card.
    AnotherProcess,
    /// The ranks differ and the smallest decides.
    SmallerRank,
    /// The cache's size was commanded.
    KvForced,
    /// Graphs take another size, or are subtracted by an estimate.
    Graphs,
    /// Compilation ran during the profile.
    ColdCompile,
    /// The weights are stored in another format.
    Quantisation,
    /// The model is another one.
    DifferentModel,
    /// A draft model or drafting layers.
    Draft,
    /// The engine resolved a setting to another value.
    DifferentDefault,
    /// The log shows no arguments, so that the plan's defaults may not be the launch's.
    ArgumentsUnknown,
    /// What was free changed while it was measured.
    Unsteady,
    /// The cache differs because its parts do.
    Parts,
    /// Nothing in the log shows why.
    Unexplained,
}

impl CauseKind {
    /// Returns the name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            CauseKind::DifferentCard => "different_card",
            CauseKind::AnotherProcess => "another_process",
            CauseKind::SmallerRank => "smaller_rank",
            CauseKind::KvForced => "kv_forced",
            CauseKind::Graphs => "graphs",
            CauseKind::ColdCompile => "cold_compile",
            CauseKind::Quantisation => "quantisation",
            CauseKind::DifferentModel => "different_model",
            CauseKind::Draft => "draft",
            CauseKind::DifferentDefault => "different_default",
            CauseKind::ArgumentsUnknown => "arguments_unknown",
            CauseKind::Unsteady => "unsteady",
            CauseKind::Parts => "parts",
            CauseKind::Unexplained => "unexplained",
        }
    }
}

/// A line that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The line, from 1; zero for what the plan or the request shows.
    pub line: u64,
    /// The engine's words, shortened.
    pub text: String,
}

/// A likely cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// What differs.
    pub what: What,
    /// Why.
    pub kind: CauseKind,
    /// Why, in words.
    pub text: String,
    /// What shows it.
    pub evidence: Vec<Evidence>,
}

impl From<&Reading> for Evidence {
    fn from(reading: &Reading) -> Self {
        Evidence { line: reading.line, text: reading.text.clone() }
    }
}

/// What is looked at.
struct Case<'a> {
    engine: EngineKind,
    log: &'a Log,
    plan: &'a Plan,
    rows: &'a [Comparison],
    /// Whether the launch's arguments are known.
    arguments: bool,
}

/// Names the likely causes of the differences between a log and a plan, the weightiest kinds first; `arguments` says
/// whether the launch's arguments are known or the plan rests on defaults.
pub fn causes(engine: EngineKind, log: &Log, plan: &Plan, rows: &[Comparison], arguments: bool) -> Vec<Cause> {
    let case = Case { engine, log, plan, rows, arguments };
    let mut out: Vec<Cause> = Vec::new();
    out.extend(case.card());
    out.extend(case.another_process());
    out.extend(case.weights());
    out.extend(case.draft());
    out.extend(case.forced());
    out.extend(case.smaller_rank());
    out.extend(case.defaults());
    out.extend(case.graphs());
    out.extend(case.compile());
    out.extend(case.unknown_arguments());
    out.extend(case.unsteady());
    out.extend(case.parts());
    let unexplained: Vec<Cause> = case.unexplained(&out);
    out.extend(unexplained);
    out
}

impl Case<'_> {
    fn large(&self, what: What) -> Option<&Comparison> {
        self.rows.iter().filter(|row| row.what == what).find(|row| row.is_large())
    }

    fn cause(&self, what: What, kind: CauseKind, text: String, evidence: Vec<Evidence>) -> Option<Cause> {
        Some(Cause { what, kind, text, evidence })
    }

    /// The card's total is another than the planned card's.
    fn card(&self) -> Option<Cause> {
        let row = self.large(What::Total)?;
        let (logged, planned) = (Bytes::from_f64(row.logged), Bytes::from_f64(row.planned));
        let text = format!("the log's card has {logged}, the planned one {planned}: another card or a part of one");
        self.cause(What::Total, CauseKind::DifferentCard, text, vec![evidence(row)])
    }

    /// More is in use at the start than the engine itself can have taken.
    fn another_process(&self) -> Option<Cause> {
        let sheet = &self.log.sheet;
        let free = sheet.least(What::FreeAtStart)?;
        let used = match sheet.last(What::UsedAtStart) {
            Some(used) => used.bytes?,
            None => {
                let same = |total: &&Reading| total.rank == free.rank || total.device == free.device;
                let total = sheet.lasts(What::Total).find(same).and_then(|total| total.bytes);
                let total = total.or_else(|| self.plan.ranks.first().map(|rank| rank.total.get()))?;
                total.checked_sub(free.bytes?)?
            }
        };
        let own = if self.plan.ranks.len() > 1 { OWN_AT_START } else { OWN_AT_START_ALONE };
        if used <= own.get() {
            return None;
        }
        let charged = match self.engine {
            EngineKind::Vllm if sheet.signs.contains_key("v0") => "it lowers the KV cache as much",
            EngineKind::Vllm => "it lowers the KV cache only where less is free than the engine allows itself",
            EngineKind::Sglang => "the fraction is taken of what was free, so that it lowers the KV cache",
            EngineKind::Trtllm | EngineKind::LlamaCpp | EngineKind::Ollama => "it lowers what is left",
        };
        let text = format!(
            "{} of the card were in use before anything was loaded, more than a context and communication take: another \
             process is on the card; {charged}",
            Bytes::new(used)
        );
        self.cause(What::FreeAtStart, CauseKind::AnotherProcess, text, vec![free.into()])
    }

    /// Weights by a factor: another format, or another model.
    fn weights(&self) -> Option<Cause> {
        let row = self.large(What::Weights)?;
        let ratio = row.logged / row.planned.max(1.0);
        let mut shown = vec![evidence(row)];
        let quantised =
            self.log.sheet.resolved.get("quantization").or_else(|| self.log.sheet.options.get("quantization"));
        if let Some(method) = quantised.and_then(|value| value.as_str()) {
            shown.push(Evidence { line: 0, text: format!("the launch says quantization={method}") });
        }
        let factors = [0.25, 0.28, 0.3125, 0.5, 0.53, 0.5625, 1.78, 1.9, 2.0, 3.2, 3.6, 4.0];
        if factors.iter().any(|factor: &f64| (ratio / factor - 1.0).abs() < 0.06) {
            let way = if ratio < 1.0 { "fewer" } else { "more" };
            let text = format!(
                "weights are {ratio:.2} times the plan's: the checkpoint is stored with {way} bits per weight than the \
                 planned model"
            );
            return self.cause(What::Weights, CauseKind::Quantisation, text, shown);
        }
        if !(0.9..=1.1).contains(&ratio) {
            let text = format!(
                "weights are {ratio:.2} times the plan's, which no format explains: another model, revision or division \
                 over ranks"
            );
            return self.cause(What::Weights, CauseKind::DifferentModel, text, shown);
        }
        None
    }

    /// Drafting that the plan has no weights for.
    fn draft(&self) -> Option<Cause> {
        let sheet = &self.log.sheet;
        let sign = sheet.signs.get("draft").map(|(line, text)| Evidence { line: *line, text: text.clone() });
        let reading = sheet.last(What::WeightsDraft).map(Evidence::from);
        let option = ["speculative_config", "speculative_algorithm", "speculative_model"].iter().find_map(|key| {
            let value = sheet.options.get(*key).or_else(|| sheet.resolved.get(*key))?;
            let text: String = format!("{key}={value}").chars().take(120).collect();
            (!value.is_null()).then_some(Evidence { line: 0, text })
        });
        let planned = self.plan.ranks.iter().any(|rank| rank.ledger.bytes(Item::WeightsDraft) > Bytes::ZERO);
        let differs = self.large(What::Weights).or_else(|| self.large(What::KvTokens)).is_some();
        let shown: Vec<Evidence> = [sign, reading, option].into_iter().flatten().collect();
        if planned || !differs || shown.is_empty() {
            return None;
        }
        let text =
            "the launch drafts tokens, and the plan holds no draft weights: drafting layers and their cache come on \
                    top"
            .to_owned();
        self.cause(What::Weights, CauseKind::Draft, text, shown)
    }

    /// A commanded cache.
    fn forced(&self) -> Option<Cause> {
        let sheet = &self.log.sheet;
        if let Some(forced) = sheet.last(What::KvForced) {
            let size = Bytes::new(forced.bytes.unwrap_or_default());
            let text = format!("the cache was commanded to be {size} (kv_cache_memory_bytes); nothing was profiled");
            return self.cause(What::KvBytes, CauseKind::KvForced, text, vec![forced.into()]);
        }
        let forced = sheet.last(What::BlocksForced)?;
        let blocks = forced.count.unwrap_or_default();
        let text = format!("the cache was commanded to be {blocks} blocks (num_gpu_blocks_override)");
        self.cause(What::KvBlocks, CauseKind::KvForced, text, vec![forced.into()])
    }

    /// Ranks that leave different budgets.
    fn smaller_rank(&self) -> Option<Cause> {
        let what =
            if self.log.sheet.lasts(What::KvBudget).count() > 1 { What::KvBudget } else { What::FreeAfterWeights };
        let all: Vec<&Reading> = self.log.sheet.lasts(what).filter(|reading| reading.bytes.is_some()).collect();
        let least = all.iter().min_by_key(|reading| reading.bytes)?;
        let most = all.iter().max_by_key(|reading| reading.bytes)?;
        let apart = most.bytes?.checked_sub(least.bytes?)?;
        if apart <= least.half.saturating_add(most.half).saturating_mul(2).max(64 << 20) {
            return None;
        }
        let name = |reading: &Reading| super::place(reading).unwrap_or_else(|| "one rank".to_owned());
        let text = format!(
            "{} has {} less than {}: the smallest rank decides for all",
            name(least),
            Bytes::new(apart),
            name(most)
        );
        self.cause(what, CauseKind::SmallerRank, text, vec![(*least).into(), (*most).into()])
    }

    /// Settings that the engine resolved to other values than the plan.
    fn defaults(&self) -> Vec<Cause> {
        let mut out = Vec::new();
        let context = ["max_model_len", "max_seq_len"].iter().find_map(|key| self.log.sheet.resolved.get(*key));
        let context = context.and_then(serde_json::Value::as_u64).or_else(|| {
            self.log.sheet.count(What::ContextLength).filter(|length| *length > 0.0).map(|length| length as u64)
        });
        // Releases of TensorRT-LLM that add one to the length do so on purpose.
        if let Some(length) = context.filter(|length| length.abs_diff(self.plan.max_model_len) > 1) {
            let text = format!("the engine serves {length} tokens at most, the plan {}", self.plan.max_model_len);
            let shown =
                self.log.sheet.last(What::ContextLength).or_else(|| self.log.sheet.last(What::ConcurrencyTokens));
            let shown = shown.map(Evidence::from).into_iter().collect();
            out.extend(self.cause(What::ContextLength, CauseKind::DifferentDefault, text, shown));
        }
        if let Some(row) = self.rows.iter().find(|row| row.what == What::BlockTokens && !row.inside()) {
            let text = format!("a block holds {} tokens, in the plan {}", row.logged, row.planned);
            out.extend(self.cause(What::BlockTokens, CauseKind::DifferentDefault, text, vec![evidence(row)]));
        }
        out
    }

    /// Graphs that take another size than planned, or whose estimate is far from what capture took.
    fn graphs(&self) -> Option<Cause> {
        let sheet = &self.log.sheet;
        if let (Some(estimated), Some(taken)) = (sheet.last(What::GraphsEstimated), sheet.last(What::Graphs)) {
            let (guess, real) = (estimated.bytes?, taken.bytes?);
            if guess > real.saturating_mul(3) / 2 && guess.saturating_sub(real) > (256 << 20) {
                let text = format!(
                    "the engine set {} aside for graphs, capture took {}: {} of the cache were given away \
                     (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS=0 takes them back)",
                    Bytes::new(guess),
                    Bytes::new(real),
                    Bytes::new(guess - real)
                );
                return self.cause(
                    What::GraphsEstimated,
                    CauseKind::Graphs,
                    text,
                    vec![estimated.into(), taken.into()],
                );
            }
        }
        let row = self.large(What::Graphs).or_else(|| self.large(What::GraphsEstimated))?;
        let text =
            format!("CUDA graphs took {}, planned {}", Bytes::from_f64(row.logged), Bytes::from_f64(row.planned));
        self.cause(row.what, CauseKind::Graphs, text, vec![evidence(row)])
    }

    /// Compilation that ran while memory was profiled.
    fn compile(&self) -> Option<Cause> {
        let row = self.large(What::Activation).filter(|row| row.difference() > 0.0)?;
        let sheet = &self.log.sheet;
        let seconds =
            sheet.last(What::CompileSeconds).filter(|reading| reading.count.is_some_and(|took| took > 5.0))?;
        if sheet.signs.contains_key("warm_compile") {
            return None;
        }
        let text = format!(
            "the profile's peak is {} above the plan and the model was compiled in the same run: with a warm compile cache \
             the peak is commonly smaller",
            Bytes::from_f64(row.difference())
        );
        self.cause(What::Activation, CauseKind::ColdCompile, text, vec![evidence(row), seconds.into()])
    }

    /// Without the launch's arguments, what follows from settings may differ for that alone.
    fn unknown_arguments(&self) -> Option<Cause> {
        let settled = [What::RuntimeBuffers, What::RuntimeDecoder, What::Activation, What::Graphs, What::Compute];
        let row = settled.iter().find_map(|what| self.large(*what)).filter(|_| !self.arguments)?;
        let names: Vec<&str> =
            settled.iter().filter(|what| self.large(**what).is_some()).map(|what| what.name()).collect();
        let text = format!(
            "the log shows no arguments: {} follow from batch sizes and lengths, for which the plan takes defaults (give \
             the launch command after `--`)",
            names.join(", ")
        );
        self.cause(row.what, CauseKind::ArgumentsUnknown, text, vec![evidence(row)])
    }

    fn unsteady(&self) -> Option<Cause> {
        let (line, text) = self.log.sheet.signs.get("unsteady").or_else(|| self.log.sheet.signs.get("unbalanced"))?;
        let shown = vec![Evidence { line: *line, text: text.clone() }];
        let text = "what was free changed while it was measured, or differs from card to card".to_owned();
        self.cause(What::KvBudget, CauseKind::Unsteady, text, shown)
    }

    /// Which parts make the cache's difference.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a few kinds of lines lower the budget")]
    fn parts(&self) -> Option<Cause> {
        let budget = self
            .rows
            .iter()
            .find(|row| row.what == What::KvBudget)
            .or_else(|| self.rows.iter().find(|row| row.what == What::KvBytes && row.unit == Unit::Bytes))?;
        let large = budget.is_large() || self.large(What::KvTokens).is_some();
        if !large {
            return None;
        }
        let joined = self.rows.iter().any(|row| row.what == What::Consumed);
        let mut shares: BTreeMap<What, f64> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.unit == Unit::Bytes) {
            let sign = match row.what {
                What::Limit => 1.0,
                What::Weights | What::NonTorch if joined => continue,
                What::Weights | What::NonTorch | What::Activation | What::Consumed => -1.0,
                What::RuntimeBuffers | What::RuntimeDecoder => -1.0,
                _ => continue,
            };
            shares.entry(row.what).or_insert(sign * row.difference());
        }
        let explained: f64 = shares.values().sum();
        let mut list: Vec<(What, f64)> =
            shares.into_iter().filter(|(_, share)| share.abs() > 0.05 * budget.difference().abs()).collect();
        list.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        if list.is_empty() {
            return None;
        }
        let words: Vec<String> =
            list.iter().map(|(what, share)| format!("{} {}", what.name(), signed(*share))).collect();
        let rest = budget.difference() - explained;
        let text = format!(
            "the cache is {} against the plan; of that {}; {} remain",
            signed(budget.difference()),
            words.join(", "),
            signed(rest)
        );
        self.cause(budget.what, CauseKind::Parts, text, vec![evidence(budget)])
    }

    /// Differences for which nothing above was found.
    fn unexplained(&self, known: &[Cause]) -> Vec<Cause> {
        let anything = known
            .iter()
            .any(|cause| !matches!(cause.kind, CauseKind::Parts | CauseKind::AnotherProcess | CauseKind::Unsteady));
        let mut seen = Vec::new();
        let mut out = Vec::new();
        for row in self.rows.iter().filter(|row| row.is_large()) {
            let derived = matches!(
                row.what,
                What::KvTokens | What::KvBlocks | What::KvBytes | What::Concurrency | What::KvBudget | What::Limit
            );
            let by_settings =
                |what| matches!(what, What::RuntimeBuffers | What::RuntimeDecoder | What::Activation | What::Graphs);
            let named = known.iter().any(|cause| {
                cause.what == row.what || (cause.kind == CauseKind::ArgumentsUnknown && by_settings(row.what))
            });
            if named || seen.contains(&row.what) || (derived && (anything || !known.is_empty())) {
                continue;
            }
            if derived && self.rows.iter().any(|other| other.is_large() && !is_cache(other.what)) {
                continue;
            }
            seen.push(row.what);
            let share = row.relative().map(|share| format!(" ({:+.1}%)", share * 100.0)).unwrap_or_default();
            let text = format!("{} differs{share} and nothing in the log shows why", row.what.name());
            out.extend(self.cause(row.what, CauseKind::Unexplained, text, vec![evidence(row)]));
        }
        out
    }
}

/// Whether a number follows from the budget.
fn is_cache(what: What) -> bool {
    matches!(what, What::KvTokens | What::KvBlocks | What::KvBytes | What::Concurrency | What::KvBudget | What::Limit)
}

fn evidence(row: &Comparison) -> Evidence {
    Evidence { line: row.line, text: row.text.clone() }
}

/// A signed size: `+1.20 GiB`.
fn signed(bytes: f64) -> String {
    format!("{}{}", if bytes < 0.0 { '-' } else { '+' }, Bytes::from_f64(bytes.abs()))
}
