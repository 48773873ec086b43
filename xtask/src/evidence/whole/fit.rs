//! What do the measurements give for an engine's overhead? One vote per model and card, each row judged by constants that its
//! own model and card had no part in.

use std::collections::BTreeMap;

use plimsoll_cost::engine::{Constants, constants};

use super::run::{Outcome, Pair};
use crate::evidence::fit::quantile;
use crate::evidence::sheet::{Form, number};

/// Requests at a time up to which queues and chunks of prompts weigh little: rows that overheads are read off.
const FEW: u32 = 8;
/// The longest prompts of those rows that say what lies before the scheduler.
const SHORT: u32 = 2048;
/// By how much a constant may differ from what the rows give: seconds.
const TOLERANCE: (f64, f64) = (1e-6, 1e-3);

/// What the rows give for an engine, seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// Of every step and layer.
    pub layer: f64,
    /// Of every request.
    pub request: f64,
}

/// Residuals of an engine's rows, group by group.
struct Votes {
    layer: BTreeMap<String, f64>,
    request: BTreeMap<String, f64>,
}

/// The name of what is left out together: model and card.
pub fn group(outcome: &Outcome) -> String {
    format!("{} {}", outcome.row.model, outcome.row.system)
}

fn medians(all: BTreeMap<String, Vec<f64>>) -> BTreeMap<String, f64> {
    all.into_iter().map(|(name, mut values)| (name, quantile(&mut values, 0.5))).collect()
}

fn votes(outcomes: &[&Outcome]) -> Votes {
    let (mut layer, mut request) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    let missing = |pair: Pair| (pair.measured - pair.predicted) / 1e3;
    for outcome in outcomes.iter().filter(|of| of.row.nightly() && of.row.concurrency.is_some_and(|n| n <= FEW)) {
        let (Some(tpot), Some(ttft)) = (outcome.tpot(), outcome.ttft()) else { continue };
        let layers = outcome.predicted.as_ref().map_or(1.0, |of| of.layers.max(1.0));
        layer.entry(group(outcome)).or_default().push(missing(tpot) / layers);
        let delays = outcome.predicted.as_ref().is_ok_and(|of| of.delays);
        if outcome.row.lengths.0 <= SHORT && !delays {
            request.entry(group(outcome)).or_default().push(missing(ttft));
        }
    }
    Votes { layer: medians(layer), request: medians(request) }
}

/// The middle vote, one group's left out, on top of what stands; never below nothing.
fn settled(stands: f64, votes: &BTreeMap<String, f64>, without: Option<&str>) -> f64 {
    let mut rest: Vec<f64> =
        votes.iter().filter(|(name, _)| Some(name.as_str()) != without).map(|(_, vote)| *vote).collect();
    if rest.is_empty() { stands } else { (stands + quantile(&mut rest, 0.5)).max(0.0) }
}

/// An engine's rows, judged.
pub struct Engine<'o> {
    /// Its constants as they stand.
    pub stands: &'static Constants,
    /// What all rows give.
    pub given: Given,
    /// Groups that voted.
    pub groups: usize,
    /// Each row with its times, measured and predicted without its group: per output token, to first token.
    pub rows: Vec<(&'o Outcome, Pair, Pair)>,
}

/// Judges every row of every engine.
pub fn judge(outcomes: &[Outcome]) -> Vec<Engine<'_>> {
    let mut engines = Vec::new();
    for stands in constants() {
        let of: Vec<&Outcome> =
            outcomes.iter().filter(|of| of.row.engine == stands.engine && of.predicted.is_ok()).collect();
        if of.is_empty() {
            continue;
        }
        let votes = votes(&of);
        let at = |without: Option<&str>| Given {
            layer: settled(stands.layer, &votes.layer, without),
            request: settled(stands.request, &votes.request, without),
        };
        let rows = of.iter().filter_map(|outcome| {
            let without = at(Some(&group(outcome)));
            let (tpot, ttft) = (outcome.tpot()?, outcome.ttft()?);
            let later =
                |pair: Pair, seconds: f64| Pair { predicted: (pair.predicted + 1e3 * seconds).max(1e-6), ..pair };
            let layers = outcome.predicted.as_ref().map_or(0.0, |of| of.layers);
            let step = (without.layer - stands.layer) * layers;
            Some((*outcome, later(tpot, step), later(ttft, step + without.request - stands.request)))
        });
        engines.push(Engine { rows: rows.collect(), stands, given: at(None), groups: votes.layer.len() });
    }
    engines
}

impl Engine<'_> {
    /// Returns measured over predicted times per output token, with each row's group.
    fn ratios(&self) -> Vec<(String, f64)> {
        self.rows.iter().map(|(outcome, tpot, _)| (group(outcome), 1.0 / tpot.ratio())).collect()
    }

    /// Returns the tenth and ninetieth percentile of measured over predicted, one group's rows left out.
    pub fn spread(&self, without: Option<&str>) -> (f64, f64) {
        let mut rest: Vec<f64> =
            self.ratios().into_iter().filter(|(name, _)| Some(name.as_str()) != without).map(|(_, r)| r).collect();
        (quantile(&mut rest, 0.1), quantile(&mut rest, 0.9))
    }

    /// Returns which share of the rows lies within the spread of the other groups' rows.
    pub fn coverage(&self) -> f64 {
        let ratios = self.ratios();
        let mut spreads: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (name, _) in &ratios {
            if !spreads.contains_key(name.as_str()) {
                spreads.insert(name, self.spread(Some(name)));
            }
        }
        let held = ratios.iter().filter(|(name, ratio)| {
            spreads.get(name.as_str()).is_some_and(|(low, high)| (*low..=*high).contains(ratio))
        });
        held.count() as f64 / ratios.len().max(1) as f64
    }

    /// Whether the constants that stand are those that the rows give.
    pub fn stands(&self) -> bool {
        let (low, high) = self.spread(None);
        let near = |a: f64, b: f64| (a - b).abs() <= 0.02;
        (self.given.layer - self.stands.layer).abs() <= TOLERANCE.0
            && (self.given.request - self.stands.request).abs() <= TOLERANCE.1
            && near(low, self.stands.spread.0)
            && near(high, self.stands.spread.1)
    }
}

/// Sets what the rows give beside what stands.
pub fn report(engines: &[Engine<'_>], form: Form) -> String {
    let micros = |seconds: f64| format!("{:.0}", seconds * 1e6);
    let rows: Vec<Vec<String>> = engines
        .iter()
        .map(|engine| {
            let (low, high) = engine.spread(None);
            vec![
                engine.stands.engine.to_owned(),
                format!("{} of {}", engine.rows.len(), engine.groups),
                format!("{} ({})", micros(engine.given.layer), micros(engine.stands.layer)),
                format!("{} ({})", micros(engine.given.request), micros(engine.stands.request)),
                format!(
                    "{}–{} ({}–{})",
                    number(low),
                    number(high),
                    number(engine.stands.spread.0),
                    number(engine.stands.spread.1)
                ),
                format!("{:.0}%", 100.0 * engine.coverage()),
                if engine.stands() { "equal" } else { "NOT EQUAL" }.to_owned(),
            ]
        })
        .collect();
    let head = ["engine", "rows of groups", "a layer, µs", "a request, µs", "p10–p90", "held", "committed"];
    form.heading("What the rows give (and what is committed)") + &form.wide(&head, &rows)
}
