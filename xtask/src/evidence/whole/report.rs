//! How far off are whole-engine times? Tables by engine, card and model, with the rows that were left out and why.

use std::collections::BTreeMap;

use super::run::Outcome;
use crate::evidence::fit::quantile;
use crate::evidence::sheet::{Form, number};
use crate::evidence::vllm::Target;

/// Targets: medians of absolute errors, percent, of time per output token and time to first token.
pub const TARGETS: (f64, f64) = (10.0, 20.0);

/// One group's figures.
pub struct Group {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Ratios of predicted to measured time per output token, and to first token.
    pub ratios: (Vec<f64>, Vec<f64>),
}

/// Collects groups by a name.
pub fn groups<'o>(outcomes: impl Iterator<Item = &'o Outcome>, name: impl Fn(&Outcome) -> String) -> Vec<Group> {
    let mut all: BTreeMap<String, Group> = BTreeMap::new();
    for outcome in outcomes {
        let (Some(tpot), Some(ttft)) = (outcome.tpot(), outcome.ttft()) else { continue };
        let key = name(outcome);
        let group = all.entry(key.clone()).or_insert_with(|| Group { name: key, rows: 0, ratios: Default::default() });
        group.rows += 1;
        group.ratios.0.push(tpot.ratio());
        group.ratios.1.push(ttft.ratio());
    }
    all.into_values().collect()
}

/// Returns median and ninetieth percentile of the absolute errors, and the median error with its sign, percent.
pub fn figures(ratios: &[f64]) -> (f64, f64, f64) {
    let mut errors: Vec<f64> = ratios.iter().map(|ratio| 100.0 * (ratio - 1.0).abs()).collect();
    let mut signed: Vec<f64> = ratios.iter().map(|ratio| 100.0 * (ratio - 1.0)).collect();
    (quantile(&mut errors, 0.5), quantile(&mut errors, 0.9), quantile(&mut signed, 0.5))
}

fn line(group: &Group) -> Vec<String> {
    let mut cells = vec![group.name.clone(), group.rows.to_string()];
    for ratios in [&group.ratios.0, &group.ratios.1] {
        let (median, ninety, signed) = figures(ratios);
        cells.extend([number(median), number(ninety), format!("{signed:+.0}")]);
    }
    cells
}

/// Heads of the tables.
const HEAD: [&str; 8] = ["", "rows", "TPOT %", "90%", "sign", "TTFT %", "90%", "sign"];

/// Sets the tables.
pub fn report(outcomes: &[Outcome], repeated: usize, form: Form, every: bool) -> String {
    let mut text = String::new();
    let used: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.predicted.is_ok()).collect();
    text.push_str(&form.line(&format!(
        "{} measurements ({repeated} repetitions of the same one left out), {} predicted",
        outcomes.len(),
        used.len()
    )));
    type Namer = fn(&Outcome) -> String;
    let kinds: [(&str, Namer); 4] = [
        ("by engine", |of| of.row.engine.to_owned()),
        ("by engine and card", |of| format!("{} {}", of.row.engine, of.row.system)),
        ("by engine, card and model", |of| {
            let model = of.row.model.rsplit('/').next().unwrap_or_default();
            format!("{} {} {model} {}", of.row.engine, of.row.system, of.row.precision)
        }),
        ("by requests at a time", |of| format!("{} {:>5}", of.row.engine, bucket(of.row.concurrency))),
    ];
    let all = groups(used.iter().copied(), |_| "all".to_owned());
    for (title, name) in kinds {
        text.push_str(
            &form.heading(&format!("Absolute errors {title}: median, ninetieth percentile, median with sign")),
        );
        let mut rows: Vec<Vec<String>> = all.iter().map(line).collect();
        rows.extend(groups(used.iter().copied(), name).iter().map(line));
        text.push_str(&form.wide(&HEAD, &rows));
    }
    text.push_str(&form.heading("Rows that are not predicted"));
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in outcomes {
        if let Err(why) = &outcome.predicted {
            *reasons.entry(why).or_default() += 1;
        }
    }
    for (why, count) in reasons {
        text.push_str(&form.line(&format!("{count}: {why}")));
    }
    text.push_str(&worst(&used, form, every));
    text
}

fn bucket(concurrency: Option<u32>) -> String {
    match concurrency.unwrap_or(0) {
        0..=8 => "≤ 8",
        9..=64 => "≤ 64",
        65..=256 => "≤ 256",
        _ => "> 256",
    }
    .to_owned()
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
pub fn targets(outcomes: &[Outcome]) -> Vec<Target> {
    let medians = groups(outcomes.iter(), |_| String::new());
    let Some(all) = medians.first() else { return Vec::new() };
    let of = |what, ratios: &[f64], target, most: f64| {
        let (median, ..) = figures(ratios);
        Target::new(what, median, target, median <= most)
    };
    vec![
        of("median error of the time per output token, %", &all.ratios.0, "at most 10", TARGETS.0),
        of("median error of the time to first token, %", &all.ratios.1, "at most 20", TARGETS.1),
    ]
}
