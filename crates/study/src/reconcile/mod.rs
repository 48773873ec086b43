//! Was the plan right? Every number of the log beside the plan's own, with the difference, whether it lies within the
//! interval, and where it does not, what the log shows for a cause.

mod cause;
mod planned;

use plimsoll_plan::{Card, Plan};

pub use cause::{Cause, CauseKind, Evidence, causes};

use crate::log::{EngineKind, Log, Reading, What};
use planned::{Planned, place, planned};

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Tokens, blocks, requests.
    Count,
}

/// One row: what was planned and what was logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What it is.
    pub what: What,
    /// Who logged it: ranks or devices that say the same, empty where the log names none.
    pub places: Vec<String>,
    /// What is counted.
    pub unit: Unit,
    /// As planned.
    pub planned: f64,
    /// Low end of the plan's interval.
    pub low: f64,
    /// High end of the plan's interval.
    pub high: f64,
    /// As logged.
    pub logged: f64,
    /// Half of the last printed digit.
    pub half: f64,
    /// The line of the log, from 1.
    pub line: u64,
    /// The engine's words, shortened.
    pub text: String,
    /// What a reader should know about the row.
    pub note: Option<&'static str>,
}

impl Comparison {
    /// Returns logged less planned.
    pub fn difference(&self) -> f64 {
        self.logged - self.planned
    }

    /// Returns the difference as a share of what was planned; nothing where that is zero.
    pub fn relative(&self) -> Option<f64> {
        (self.planned.abs() > 0.0).then(|| self.difference() / self.planned.abs())
    }

    /// Whether the logged number lies within the plan's interval, what printing rounds away forgiven.
    pub fn inside(&self) -> bool {
        self.logged + self.half >= self.low && self.logged - self.half <= self.high
    }

    /// Whether the difference is worth a word: outside the interval and more than one in fifty.
    pub fn is_large(&self) -> bool {
        !self.inside() && self.relative().is_none_or(|share| share.abs() > 0.02)
    }
}

/// Kinds that are compared, in the order of the table.
const COMPARED: [What; 25] = [
    What::Total,
    What::Limit,
    What::Weights,
    What::WeightsDraft,
    What::Adapter,
    What::Projector,
    What::Activation,
    What::NonTorch,
    What::Consumed,
    What::Comms,
    What::RuntimeBuffers,
    What::RuntimeDecoder,
    What::GraphsEstimated,
    What::Graphs,
    What::Compute,
    What::Output,
    What::State,
    What::KvBudget,
    What::KvBytes,
    What::KvBlocks,
    What::KvTokens,
    What::KvTokensWindow,
    What::BlockTokens,
    What::Concurrency,
    What::ContextLength,
];

/// Sets every number of the log that a plan has too beside the plan's.
pub fn compare(engine: EngineKind, log: &Log, plan: &Plan, card: &Card) -> Vec<Comparison> {
    let mut rows: Vec<Comparison> = Vec::new();
    for what in COMPARED {
        let lists: Vec<Vec<Reading>> = log.sheet.lists(what).map(<[Reading]>::to_vec).collect();
        for list in &lists {
            let Some(reading) = settled(engine, what, list) else { continue };
            let Some(planned) = planned(engine, what, &reading, log, plan, card) else { continue };
            add(&mut rows, row(what, &reading, planned));
        }
    }
    rows
}

/// Of several readings of one kind by one rank: their sum where the engine prints parts, the last where it prints again.
fn settled(engine: EngineKind, what: What, list: &[Reading]) -> Option<Reading> {
    let mut last = list.last()?.clone();
    let parts = match (engine, what) {
        // Several captures (decode, prefill, draft), several state tensors, several pools of one rank.
        (EngineKind::Sglang, What::Graphs | What::State) => true,
        (EngineKind::LlamaCpp | EngineKind::Ollama, What::KvBytes | What::State) => {
            list.iter().all(|reading| reading.text.contains("buffer size"))
        }
        (EngineKind::Vllm | EngineKind::Trtllm | EngineKind::Sglang | EngineKind::LlamaCpp | EngineKind::Ollama, _) => {
            false
        }
    };
    if parts && list.len() > 1 {
        last.bytes = Some(list.iter().filter_map(|reading| reading.bytes).fold(0, u64::saturating_add));
        last.half = list.iter().fold(0, |sum, reading| sum.saturating_add(reading.half));
    }
    Some(last)
}

fn row(what: What, reading: &Reading, planned: Planned) -> Comparison {
    let (unit, logged) = match (reading.bytes, reading.count) {
        (Some(bytes), _) => (Unit::Bytes, bytes as f64),
        (None, count) => (Unit::Count, count.unwrap_or(0.0)),
    };
    let half = if what == What::Concurrency { 0.005 } else { reading.half as f64 };
    Comparison {
        what,
        places: place(reading).into_iter().collect(),
        unit,
        planned: planned.value,
        low: planned.low,
        high: planned.high,
        logged,
        half,
        line: reading.line,
        text: reading.text.clone(),
        note: planned.note,
    }
}

/// Adds a row; ranks that planned and logged the same share one.
fn add(rows: &mut Vec<Comparison>, row: Comparison) {
    let same = |a: f64, b: f64| (a - b).abs() < 0.5 * f64::EPSILON.max(a.abs() * 1e-12) || a.to_bits() == b.to_bits();
    let twin = rows
        .iter_mut()
        .find(|other| other.what == row.what && same(other.logged, row.logged) && same(other.planned, row.planned));
    match twin {
        Some(twin) => twin.places.extend(row.places),
        None => rows.push(row),
    }
}
