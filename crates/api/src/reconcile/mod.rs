//! Was the plan right? What a log says, the plan for the launch that it shows, and the two side by side.
//!
//! The log is read piece by piece by whoever holds it (see [`crate::log::Reader`]); nothing is opened here.
//!
//! ```
//! use plimsoll_api::log::Reader;
//! use plimsoll_api::{Desk, NoFiles, ReconcileRequest};
//!
//! let mut reader = Reader::new();
//! reader.feed(b"INFO 11-21 10:00:00 [core.py:77] Initializing a V1 LLM engine (v0.19.0) with config: \
//!     model='meta-llama/Llama-3.1-8B-Instruct', max_seq_len=8192, tensor_parallel_size=1\n\
//!     INFO 11-21 10:00:30 [gpu_model_runner.py:4566] Model loading took 14.99 GiB memory and 3.1 seconds\n");
//! let request = ReconcileRequest { gpu: Some("h100-sxm".into()), ..ReconcileRequest::default() };
//! let reconciled = plimsoll_api::reconcile("vllm.log", &reader.finish(), &request, &Desk::new(&NoFiles))?;
//! let weights = reconciled.answer.items.iter().find(|item| item.item == "weights").expect("it was logged");
//! assert!(weights.inside);
//! # Ok::<(), plimsoll_api::Error>(())
//! ```

pub mod answer;
pub(crate) mod learned;
mod question;

use plimsoll_plan::Plan;
use plimsoll_study::log::{EngineKind, Log, Sheet, What};
use plimsoll_study::profile::{Key, Measured};
use plimsoll_study::reconcile::{Cause, Comparison, Unit, causes, compare};
use plimsoll_units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::plan::{Prepared, answer as plan_answer, by_rules};
use crate::{Desk, Error};
pub use answer::ReconcileAnswer;
use answer::{
    CauseAnswer, EvidenceAnswer, ItemAnswer, LearnedAnswer, LogEngine, LogHead, ReadingAnswer, RefusalAnswer,
    RulesAnswer,
};
use question::Question;

/// Asks for a log to be set beside its plan. What is given here goes before what the log says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequest {
    /// Built-in name, or a directory or file with the model's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Card by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// The total that the CUDA runtime reports for the card, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_total_bytes: Option<u64>,
    /// The engine, where the log does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Its release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// The launch command, where the log does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Engine flags by their own names, underscores for dashes; they win over the command's and the log's.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

/// An answer, and what a profile may keep of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    /// The answer.
    pub answer: ReconcileAnswer,
    /// What was measured, and for which launches it is good.
    pub measured: Option<(Key, Measured)>,
}

impl Reconciled {
    /// Returns why what was measured belongs to another launch than the one that was planned, if it seems so: a profile
    /// must not keep it.
    pub fn doubt(&self) -> Option<&str> {
        const OTHER: [&str; 3] = ["different_card", "different_model", "another_process"];
        let found = self.answer.causes.iter().find(|cause| OTHER.contains(&cause.cause.as_ref()));
        found.map(|cause| cause.cause.as_ref())
    }

    /// Says in the answer that what was measured is kept.
    pub fn note_learned(&mut self) {
        let Some((key, measured)) = &self.measured else { return };
        let Key { gpu, engine, engine_version, model, tp, pp, .. } = key;
        self.answer.learned = Some(LearnedAnswer {
            non_torch_bytes: measured.non_torch_bytes,
            activation_bytes: measured.activation_bytes,
            graphs_bytes: measured.graphs_bytes,
            launch: format!("{model} on {gpu}, {engine} {engine_version}, tp {tp} pp {pp}"),
        });
    }
}

/// Sets a log beside the plan for its launch.
///
/// # Errors
/// [`Error::World`] when no line of a known engine is in the log; [`Error::Request`] when what is given contradicts it.
/// A launch that cannot be planned is no error: what the log says is answered all the same.
pub fn reconcile(name: &str, log: &Log, request: &ReconcileRequest, desk: &Desk<'_>) -> Result<Reconciled, Error> {
    let engine = engine(name, log, request)?;
    let Question { request: asked, explicit, model, gpu, mut assumed, asked: mut wanted, mut notes } =
        question::question(engine, log, request, desk)?;
    notes.splice(0..0, log.notes.iter().cloned());
    let made = asked.map(|asked| made(&asked, desk));
    let (prepared, plan) = match made {
        Some(Ok((prepared, plan))) => (Some(prepared), Some(plan)),
        Some(Err(error)) => {
            wanted.push(format!("no plan could be made: {error}"));
            (None, None)
        }
        None => (None, None),
    };
    if let Some(prepared) = &prepared {
        assumed.extend(prepared.assumptions.iter().cloned());
        notes.extend(prepared.notes.iter().cloned());
    }
    let arguments = request.command.is_some() || !log.sheet.options.is_empty() || log.sheet.command.is_some();
    let compared = prepared.as_ref().zip(plan.as_ref()).map(|(prepared, plan)| {
        let rows = compare(engine, log, plan, &prepared.card);
        let causes = causes(engine, log, plan, &rows, arguments);
        (rows, causes, rules(engine, log, prepared))
    });
    let (rows, causes, rules) = compared.unwrap_or_default();
    let measured = prepared.as_ref().zip(plan.as_ref()).and_then(|(prepared, plan)| {
        let measured = measured(engine, &log.sheet);
        (!measured.is_empty()).then(|| (learned::key(prepared, plan, &explicit), measured))
    });
    let answer = ReconcileAnswer {
        log: LogHead {
            name: name.to_owned(),
            lines: log.lines,
            bytes: log.bytes,
            encoding: log.encoding.name().into(),
            launches: log.launches,
        },
        engine: LogEngine {
            name: engine.name().into(),
            logged: log.sheet.versions.last().cloned(),
            version: plan.as_ref().map(|plan| plan.version.to_string()),
        },
        model,
        gpu,
        options: prepared.as_ref().map(|prepared| prepared.options.clone()).unwrap_or_default(),
        readings: readings(&log.sheet),
        items: rows.iter().map(item).collect(),
        causes: causes.into_iter().map(cause).collect(),
        refusals: refusals(&log.sheet),
        rules,
        assumed,
        asked: wanted,
        notes,
        learned: None,
        plan: prepared.as_ref().zip(plan).map(|(prepared, plan)| plan_answer(prepared, plan)),
    };
    Ok(Reconciled { answer, measured })
}

/// Settles whose log it is.
fn engine(name: &str, log: &Log, request: &ReconcileRequest) -> Result<EngineKind, Error> {
    let asked = request.engine.as_deref().map(crate::plan::canonical_engine).transpose()?;
    match (log.engine, asked) {
        (Some(found), Some(asked)) if found.name() != asked => {
            Err(Error::Request(format!("the engine is {asked}, but the log's lines are {}'s", found.name())))
        }
        (Some(found), _) => Ok(found),
        (None, _) => Err(Error::World {
            place: name.to_owned(),
            why: format!(
                "none of its {} lines is a memory line or a beginning of vLLM, TensorRT-LLM, SGLang, llama.cpp or Ollama",
                log.lines
            ),
        }),
    }
}

/// Looks the launch up and plans it by the engine's rules alone: a profile would compare the log with itself.
fn made(request: &crate::PlanRequest, desk: &Desk<'_>) -> Result<(Prepared, Plan), Error> {
    let prepared = crate::plan::prepare(request, desk)?;
    let plan = by_rules(&prepared)?;
    Ok((prepared, plan))
}

/// What the plan's rules make of the budget that the engine measured.
fn rules(engine: EngineKind, log: &Log, prepared: &Prepared) -> Option<RulesAnswer> {
    if matches!(engine, EngineKind::LlamaCpp | EngineKind::Ollama) {
        return None;
    }
    let budget = log.sheet.least(What::KvBudget)?;
    let logged = log.sheet.count(What::KvTokens).filter(|tokens| *tokens >= 1.0)? as u64;
    let bytes = budget.bytes?;
    let mut given = prepared.clone();
    let mut tokens = |bytes: u64| {
        given.given.kv_budget = Some(Bytes::new(bytes));
        let plan = by_rules(&given).ok()?;
        Some((plan.kv.logged.kv_tokens.unwrap_or(plan.kv.tokens), plan.kv.block_tokens))
    };
    let (middle, block) = tokens(bytes)?;
    let low = tokens(bytes.saturating_sub(budget.half))?.0;
    let high = tokens(bytes.saturating_add(budget.half))?.0.saturating_add(block);
    Some(RulesAnswer {
        kv_budget_bytes: bytes,
        kv_tokens: middle,
        kv_tokens_logged: logged,
        agrees: (low..=high).contains(&logged),
    })
}

/// What a log measured that later plans can use.
fn measured(engine: EngineKind, sheet: &Sheet) -> Measured {
    let most = |what| sheet.lasts(what).filter(|reading| reading.bytes.is_some()).max_by_key(|reading| reading.bytes);
    let bytes = |what| most(what).and_then(|reading| reading.bytes);
    let half = [What::NonTorch, What::Activation, What::Consumed].into_iter().filter_map(most);
    let half_bytes = half.map(|reading| reading.half).max().unwrap_or(0);
    let weights = bytes(What::Weights);
    // From 0.27 vLLM prints weights and non-torch together, and the graphs' estimate within the peak.
    let consumed = bytes(What::Consumed).filter(|_| engine == EngineKind::Vllm);
    let non_torch = bytes(What::NonTorch).or_else(|| consumed?.checked_sub(weights?));
    let activation = match (consumed, bytes(What::GraphsEstimated)) {
        (Some(_), Some(graphs)) => bytes(What::Activation).and_then(|peak| peak.checked_sub(graphs)),
        (Some(_), None) if bytes(What::Graphs).is_some() => None,
        (Some(_) | None, _) => bytes(What::Activation),
    };
    let used = sheet.least(What::FreeAtStart).zip(sheet.last(What::Total));
    Measured {
        non_torch_bytes: non_torch,
        activation_bytes: activation,
        graphs_bytes: bytes(What::Graphs),
        used_at_start_bytes: used.and_then(|(free, total)| total.bytes?.checked_sub(free.bytes?)),
        half_bytes,
    }
}

fn readings(sheet: &Sheet) -> Vec<ReadingAnswer> {
    let mut readings: Vec<ReadingAnswer> = sheet
        .readings()
        .map(|reading| ReadingAnswer {
            what: reading.what.name().into(),
            rank: Some(reading.rank.name()).filter(|name| !name.is_empty()),
            device: reading.device.clone(),
            bytes: reading.bytes,
            half: reading.bytes.map(|_| reading.half),
            count: reading.count,
            line: reading.line,
        })
        .collect();
    readings.sort_by_key(|reading| reading.line);
    readings
}

fn item(row: &Comparison) -> ItemAnswer {
    ItemAnswer {
        item: row.what.name().into(),
        places: row.places.clone(),
        unit: match row.unit {
            Unit::Bytes => "bytes".into(),
            Unit::Count => "count".into(),
        },
        planned: row.planned,
        low: row.low,
        high: row.high,
        logged: row.logged,
        half: row.half,
        difference: row.difference(),
        relative: row.relative(),
        inside: row.inside(),
        line: row.line,
        note: row.note.map(Into::into),
    }
}

fn cause(cause: Cause) -> CauseAnswer {
    CauseAnswer {
        item: cause.what.name().into(),
        cause: cause.kind.name().into(),
        text: cause.text,
        evidence: cause
            .evidence
            .into_iter()
            .map(|shown| EvidenceAnswer { line: shown.line, text: shown.text })
            .collect(),
    }
}

fn refusals(sheet: &Sheet) -> Vec<RefusalAnswer> {
    let refusals = sheet.refusals.iter();
    refusals
        .map(|refusal| RefusalAnswer {
            kind: refusal.kind.name().into(),
            text: refusal.text.clone(),
            line: refusal.line,
        })
        .collect()
}
