//! How far off are whole-engine times? Tables by engine, card and model, with the rows that were left out and why.

use std::collections::BTreeMap;

use super::fit::Engine;
use super::run::Outcome;
use crate::evidence::fit::quantile;
use crate::evidence::sheet::{Form, number};
use crate::evidence::vllm::Target;

/// Targets: medians of absolute errors, percent, of time per output token and time to first token.
pub const TARGETS: (f64, f64) = (10.0, 20.0);

/// Returns median and ninetieth percentile of the absolute errors, and the median error with its sign, percent.
pub fn figures(ratios: &[f64]) -> (f64, f64, f64) {
    let mut errors: Vec<f64> = ratios.iter().map(|ratio| 100.0 * (ratio - 1.0).abs()).collect();
    let mut signed: Vec<f64> = ratios.iter().map(|ratio| 100.0 * (ratio - 1.0)).collect();
    (quantile(&mut errors, 0.5), quantile(&mut errors, 0.9), quantile(&mut signed, 0.5))
}

/// A way to name groups of rows.
pub type Namer = fn(&Outcome) -> String;

/// Ratios of predicted to measured by group: times per output token and to first token.
pub fn grouped(engines: &[Engine<'_>], name: Namer) -> Vec<(String, [Vec<f64>; 2])> {
    let mut all = BTreeMap::<String, [Vec<f64>; 2]>::new();
    for (outcome, tpot, ttft) in engines.iter().flat_map(|engine| &engine.rows) {
        let [first, second] = all.entry(name(outcome)).or_default();
        first.push(tpot.ratio());
        second.push(ttft.ratio());
    }
    all.into_iter().collect()
}

fn model(outcome: &Outcome) -> String {
    let model = outcome.row.model.rsplit('/').next().unwrap_or_default();
    format!("{} {} {model} {}", outcome.row.engine, outcome.row.system, outcome.row.precision).trim().to_owned()
}

/// Names a row's engine and card.
pub fn card(outcome: &Outcome) -> String {
    format!("{} {}", outcome.row.engine, outcome.row.system)
}

/// The table by engine, card, model and requests at a time.
pub fn table(engines: &[Engine<'_>], form: Form) -> String {
    let mut rows = Vec::new();
    let kinds: [Namer; 5] = [
        |_| "all".to_owned(),
        |of| of.row.engine.to_owned(),
        card,
        model,
        |of| format!("{}, {} clients", of.row.engine, bucket(of.row.concurrency)),
    ];
    for kind in kinds {
        for (name, ratios) in grouped(engines, kind) {
            let mut cells = vec![name, ratios[0].len().to_string()];
            for ratios in &ratios {
                let (median, ninety, signed) = figures(ratios);
                cells.extend([number(median), number(ninety), format!("{signed:+.0}")]);
            }
            rows.push(cells);
        }
    }
    form.wide(&HEAD, &rows)
}

/// Heads of the table.
const HEAD: [&str; 8] = ["", "rows", "TPOT, %", "90%", "with sign", "TTFT, %", "90%", "with sign"];

/// Sets everything about a file.
pub fn report(outcomes: &[Outcome], engines: &[Engine<'_>], repeated: usize, form: Form, every: bool) -> String {
    let mut text = form.heading(
        "Absolute errors, each row by constants without its model and card: median, ninetieth percentile, median with sign",
    );
    text.push_str(&table(engines, form));
    text.push_str(&reasons(outcomes, repeated, form));
    let used: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.predicted.is_ok()).collect();
    text.push_str(&worst(&used, form, every));
    text
}

/// Says how many rows there are, and why some are not predicted.
pub fn reasons(outcomes: &[Outcome], repeated: usize, form: Form) -> String {
    let mut text = form.heading("Rows that are not predicted");
    text.push_str(&form.line(&format!(
        "{} measurements ({repeated} repetitions of one of them are not counted), {} predicted",
        outcomes.len(),
        outcomes.iter().filter(|outcome| outcome.predicted.is_ok()).count()
    )));
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in outcomes {
        if let Err(why) = &outcome.predicted {
            *reasons.entry(why).or_default() += 1;
        }
    }
    for (why, count) in reasons {
        text.push_str(&form.line(&format!("{count}: {why}")));
    }
    text
}

fn bucket(concurrency: Option<u32>) -> &'static str {
    match concurrency.unwrap_or(0) {
        0..=8 => "1 to 8",
        9..=64 => "9 to 64",
        65..=256 => "65 to 256",
        _ => "more",
    }
}

/// The rows that are furthest off.
fn worst(used: &[&Outcome], form: Form, every: bool) -> String {
    let mut rows: Vec<(f64, &Outcome)> =
        used.iter().filter_map(|outcome| Some((outcome.tpot()?.ratio().ln().abs(), *outcome))).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let most = if every { rows.len() } else { 15 };
    let cells: Vec<Vec<String>> = rows
        .iter()
        .take(most)
        .filter_map(|(_, outcome)| {
            let (tpot, ttft) = (outcome.tpot()?, outcome.ttft()?);
            let pair = |of: super::run::Pair| [number(of.measured), number(of.predicted)];
            let mut cells = vec![outcome.row.id.clone()];
            cells.extend(pair(tpot));
            cells.extend(pair(ttft));
            Some(cells)
        })
        .collect();
    let title = if every { "Every row" } else { "The furthest off by time per output token" };
    let head = ["row", "TPOT ms", "predicted", "TTFT ms", "predicted"];
    form.heading(title) + &form.wide(&head, &cells)
}

/// What must hold.
pub fn targets(engines: &[Engine<'_>]) -> Vec<Target> {
    let all = grouped(engines, |_| String::new());
    let Some((_, [tpot, ttft])) = all.first() else { return Vec::new() };
    let of = |what, ratios: &[f64], target, most: f64| {
        let (median, ..) = figures(ratios);
        Target::new(what, median, target, median <= most)
    };
    vec![
        of("median error of the time per output token, %", tpot, "at most 10", TARGETS.0),
        of("median error of the time to first token, %", ttft, "at most 20", TARGETS.1),
    ]
}
