//! How is an error table printed? Medians and percentiles by group, the worst rows with what explains them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use plimsoll_plan::interval::band;

use super::bands::{Scored, Sweeps};
use super::sheet::{Form, number, share, spread};

/// A prediction beside what the log says.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Predicted.
    pub ours: f64,
    /// Logged.
    pub logged: f64,
}

impl Pair {
    /// Absolute error as a share of the logged value, percent.
    pub fn percent(self) -> f64 {
        100.0 * (self.ours - self.logged).abs() / self.logged.abs().max(1e-9)
    }

    /// Absolute error.
    pub fn error(self) -> f64 {
        (self.ours - self.logged).abs()
    }
}

/// How the reason of a row begins whose own numbers contradict each other or what is known.
pub const WRONG: &str = "wrong evidence: ";

/// What came of one row, whatever the engine.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Number of the line.
    pub line: usize,
    /// Thread.
    pub thread: String,
    /// Engine and release.
    pub version: String,
    /// Model, with a word on what was assumed.
    pub model: String,
    /// Card.
    pub gpu: String,
    /// Whether the row is complete.
    pub complete: bool,
    /// Weights of a rank, GiB.
    pub weights: Option<Pair>,
    /// Budget for the cache, GiB.
    pub budget: Option<Pair>,
    /// The budget's interval, GiB.
    pub interval: Option<(f64, f64)>,
    /// The group of launches by which that interval is measured.
    pub group: String,
    /// The doubt that the interval is a multiple of: below and above, GiB.
    pub scale: Option<(f64, f64)>,
    /// Budget for the cache with the logged weights, GiB: the estimates alone.
    pub estimates: Option<Pair>,
    /// The card's memory, GiB.
    pub total: f64,
    /// Whether the logged tokens or blocks are reachable from the logged budget within its rounding; for capacities,
    /// whether the prediction is close enough.
    pub given: Option<bool>,
    /// Tokens predicted without being told anything.
    pub tokens: Option<Pair>,
    /// Sequences that run at once.
    pub sequences: Option<Pair>,
    /// Whether flags that decide gigabytes are not stated, so that the budget says nothing of the planner.
    pub undetermined: bool,
    /// What is known to explain a miss.
    pub reason: Option<String>,
    /// Why the row cannot be used.
    pub unusable: Option<String>,
    /// What was assumed.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Whether the logged budget lies in the interval, within its rounding.
    pub fn inside(&self) -> Option<bool> {
        let ((low, high), pair) = self.interval.zip(self.budget)?;
        Some(low - 0.005 <= pair.logged && pair.logged <= high + 0.005)
    }

    /// Whether the row itself is wrong, as its reason says.
    pub fn wrong(&self) -> bool {
        self.reason.as_deref().is_some_and(|why| why.starts_with(WRONG))
    }

    /// The budget's residual with its scale, where both are known and the row is not wrong.
    pub fn scored(&self, engine: &str, sweeps: &Sweeps) -> Option<Scored> {
        let (pair, (low, high)) = self.budget.zip(self.interval)?;
        if self.wrong() || self.undetermined || self.unusable.is_some() {
            return None;
        }
        let factor = band(engine, &self.group).map_or(1.0, |band| band.factor);
        let (below, above) = self.scale.unwrap_or(((pair.ours - low) / factor, (high - pair.ours) / factor));
        Some(Scored {
            line: self.line,
            unit: sweeps.unit(&self.thread, &self.model),
            group: self.group.clone(),
            error: pair.logged - pair.ours,
            below: below.max(0.0),
            above: above.max(0.0),
            total: self.total,
        })
    }

    /// The row as JSON.
    pub fn json(&self) -> Value {
        let pair = |pair: Option<Pair>| pair.map(|p| json!({ "predicted": p.ours, "logged": p.logged }));
        json!({
            "line": self.line, "thread": self.thread, "engine_version": self.version, "model": self.model,
            "gpu": self.gpu, "complete": self.complete, "total_gib": self.total,
            "weights_gib": pair(self.weights), "kv_budget_gib": pair(self.budget),
            "kv_budget_interval_gib": self.interval.map(|(low, high)| [low, high]),
            "kv_budget_from_logged_weights_gib": pair(self.estimates),
            "kv_tokens_equal_given_budget": self.given, "kv_tokens": pair(self.tokens),
            "sequences": pair(self.sequences),
            "reason": self.reason, "unusable": self.unusable, "notes": self.notes,
        })
    }
}

/// The columns of the error table: half and ninety percent of rows are better than the two figures of a column.
const HEAD: [&str; 9] =
    ["group", "n", "weights %", "weights GiB", "budget GiB", "budget %GPU", "tokens %", "equal", "inside"];

/// Reports everything about a file's rows.
pub fn report(rows: &[Outcome], form: Form, all: bool) -> String {
    let (used, unused): (Vec<&Outcome>, Vec<&Outcome>) = rows.iter().partition(|row| row.unusable.is_none());
    let complete: Vec<&Outcome> = used.iter().copied().filter(|row| row.complete).collect();
    let mut text = form.line(&format!(
        "{} rows, {} usable, {} of them complete; figures are median/90th percentile of absolute errors.",
        rows.len(),
        used.len(),
        complete.len()
    ));
    text.push_str(
        &form.line(
            "equal: tokens given the logged budget are equal; inside: the logged budget lies in the 90% interval.",
        ),
    );
    text.push_str(&form.heading("Errors"));
    let mut lines = vec![line("all usable rows", &used)];
    if !complete.is_empty() {
        lines.push(line("complete rows", &complete));
    }
    let grouped = if complete.is_empty() { &used } else { &complete };
    lines.extend(groups(grouped, |row| row.version.clone()).iter().map(|(name, rows)| line(name, rows)));
    lines.extend(groups(grouped, |row| row.gpu.clone()).iter().map(|(name, rows)| line(name, rows)));
    text.push_str(&form.table(&HEAD, &lines));
    text.push_str(&worst(&used, form, all));
    text.push_str(&unequal(&used, form));
    text.push_str(&misses(&used, form, all));
    text.push_str(&unusable(&unused, form, all));
    text
}

/// Rows by what a key says of them, in order.
pub fn groups<'a>(rows: &[&'a Outcome], key: impl Fn(&Outcome) -> String) -> Vec<(String, Vec<&'a Outcome>)> {
    let mut groups: BTreeMap<Vec<String>, (String, Vec<&Outcome>)> = BTreeMap::new();
    for row in rows {
        let name = key(row);
        // 0.9 comes before 0.10.
        let order = name.split('.').map(|part| format!("{part:0>6}")).collect();
        groups.entry(order).or_insert_with(|| (name, Vec::new())).1.push(row);
    }
    groups.into_values().collect()
}

/// One group's line.
fn line(name: &str, rows: &[&Outcome]) -> Vec<String> {
    let over = |of: &dyn Fn(&Outcome) -> Option<f64>| spread(rows.iter().filter_map(|row| of(row)).collect());
    let given: Vec<bool> = rows.iter().filter_map(|row| row.given).collect();
    let inside: Vec<bool> = rows.iter().filter_map(|row| row.inside()).collect();
    vec![
        name.to_owned(),
        rows.len().to_string(),
        over(&|row| row.weights.map(Pair::percent)),
        over(&|row| row.weights.map(Pair::error)),
        over(&|row| row.budget.map(Pair::error)),
        over(&|row| row.budget.map(|pair| 100.0 * pair.error() / row.total)),
        over(&|row| row.tokens.map(Pair::percent)),
        share(&given),
        share(&inside),
    ]
}

/// The ten rows whose budget is furthest off, with what explains them.
fn worst(used: &[&Outcome], form: Form, all: bool) -> String {
    let share = |row: &Outcome| row.budget.map_or(0.0, |pair| 100.0 * pair.error() / row.total.max(1.0));
    let mut rows: Vec<&Outcome> = used.iter().copied().filter(|row| row.budget.is_some()).collect();
    rows.sort_by(|a, b| share(b).total_cmp(&share(a)));
    rows.truncate(if all { usize::MAX } else { 10 });
    let mut text = form.heading("Worst by KV budget, % of GPU memory");
    for row in rows {
        let pair = row.budget.unwrap_or(Pair { ours: f64::NAN, logged: f64::NAN });
        let figures = format!("{}%: {:.2} for {:.2} GiB", number(share(row)), pair.ours, pair.logged);
        text.push_str(&form.line(&explained(row, &figures, form)));
    }
    text
}

/// Rows whose logged tokens do not follow from their logged budget.
fn unequal(used: &[&Outcome], form: Form) -> String {
    let rows: Vec<&&Outcome> = used.iter().filter(|row| row.given == Some(false)).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = form.heading("Tokens that do not follow from the logged budget");
    for row in rows {
        let logged = row.tokens.map_or_else(String::new, |pair| format!("{:.0} logged, ", pair.logged));
        let kind = if row.complete { "complete" } else { "not complete" };
        text.push_str(&form.line(&explained(row, &format!("{logged}{kind}"), form)));
    }
    text
}

/// Every row that is off by more than five percent in weights or tokens (budget where tokens are not logged).
fn misses(used: &[&Outcome], form: Form, all: bool) -> String {
    if form == Form::Text && !all {
        return String::new();
    }
    let mut text = form.heading("Misses above 5%");
    for row in used {
        let mut parts = Vec::new();
        for (what, pair) in [("weights, GiB", row.weights), ("tokens", row.tokens), ("budget, GiB", row.budget)] {
            if let Some(pair) = pair.filter(|pair| pair.percent() > 5.0) {
                parts.push(format!("{what}: {} for {}", number(pair.ours), number(pair.logged)));
            }
        }
        if !parts.is_empty() {
            text.push_str(&form.line(&explained(row, &parts.join("; "), form)));
        }
    }
    text
}

/// A row by name, its figures, and the reason on a line of its own where the terminal is narrow.
fn explained(row: &Outcome, figures: &str, form: Form) -> String {
    let reason = row.reason.as_deref().unwrap_or("*unexplained*");
    let name = format!("row {}, {} on {}, {}", row.line, row.model, row.gpu, row.version);
    match form {
        Form::Text => {
            let short: String = name.chars().take(62).collect();
            format!("{short}  {figures}\n    {reason}")
        }
        Form::Markdown => format!("{name} ({}): {figures}. {reason}", row.thread),
    }
}

/// How many rows cannot be used, by reason; which, with everything asked for.
fn unusable(unused: &[&Outcome], form: Form, all: bool) -> String {
    if unused.is_empty() {
        return String::new();
    }
    let kind = |why: &str| {
        for (part, short) in [
            ("no config of", "no config of the model, and no stand-in of its architecture"),
            ("names no model", "the row names no model"),
            ("card nor its memory", "neither the card nor its memory is stated"),
            ("in no catalogue", "the card is in no catalogue and its memory is not stated"),
            ("its description is not known", "the quantisation's description is not known"),
        ] {
            if why.contains(part) {
                return short.to_owned();
            }
        }
        why.to_owned()
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in unused {
        *counts.entry(kind(row.unusable.as_deref().unwrap_or_default())).or_default() += 1;
    }
    let mut text = form.heading(&format!("{} rows that cannot be used", unused.len()));
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (why, count) in counts {
        text.push_str(&form.line(&format!("{count:>3}  {why}")));
    }
    if all {
        for row in unused {
            let why = row.unusable.as_deref().unwrap_or_default();
            text.push_str(&form.line(&format!("     row {}, {}: {why}", row.line, row.model)));
        }
    }
    text
}

/// Reports measured capacities: sequences that run at once.
pub fn capacity(rows: &[Outcome], form: Form, all: bool) -> String {
    let (used, unused): (Vec<&Outcome>, Vec<&Outcome>) = rows.iter().partition(|row| row.unusable.is_none());
    let line = |name: &str, rows: &[&Outcome]| {
        let errors: Vec<f64> = rows.iter().filter_map(|row| row.sequences).map(Pair::percent).collect();
        let most = errors.iter().copied().fold(0.0, f64::max);
        let within: Vec<bool> = rows.iter().filter_map(|row| row.given).collect();
        vec![name.to_owned(), rows.len().to_string(), spread(errors), number(most), share(&within)]
    };
    let mut lines = vec![line("all usable rows", &used)];
    for key in [(|row| row.version.clone()) as fn(&Outcome) -> String, |row| row.gpu.clone()] {
        lines.extend(groups(&used, key).iter().map(|(name, rows)| line(name, rows)));
    }
    let mut text =
        form.line(&format!("{} rows, {} usable; within: max(1, 2%) of what was measured.", rows.len(), used.len()));
    text.push_str(&form.heading("Concurrent sequences"));
    text.push_str(&form.table(&["group", "n", "error %", "most %", "within"], &lines));
    for row in used.iter().filter(|row| row.given == Some(false)) {
        let pair = row.sequences.unwrap_or(Pair { ours: f64::NAN, logged: f64::NAN });
        text.push_str(&form.line(&explained(row, &format!("{} for {}", number(pair.ours), number(pair.logged)), form)));
    }
    text.push_str(&unusable(&unused, form, all));
    text
}
