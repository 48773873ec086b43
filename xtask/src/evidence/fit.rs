//! Which constants do the logs give? Medians by class of launch with one vote per thread, and intervals from what is left
//! when a row's own thread is left out; printed beside what is committed, which must be equal.

use std::collections::BTreeMap;
use std::path::Path;

use plimsoll_plan::engine::vllm::estimate::{Fitted, fitted};
use plimsoll_plan::interval::Scale;
use plimsoll_units::{Bytes, Estimate, Source};

use super::bands::Scored;
use super::points::{Kind, Launched, Point, collect};
use super::row::Row;
use super::sheet::{Form, number};

/// Threads from which on a class's own residuals give its interval.
const ENOUGH: usize = 4;

/// What a class gives.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    low: f64,
    middle: f64,
    high: f64,
}

/// Every class's points, and the residuals that small classes share.
pub struct Fit {
    classes: BTreeMap<(Kind, String), Vec<Point>>,
}

impl Fit {
    /// Groups points by class.
    pub fn new(points: Vec<Point>) -> Self {
        let mut classes: BTreeMap<(Kind, String), Vec<Point>> = BTreeMap::new();
        for point in points {
            classes.entry((point.kind, point.class.clone())).or_default().push(point);
        }
        Fit { classes }
    }

    /// What a class gives, without one unit; nothing where that leaves no point.
    fn value(&self, kind: Kind, class: &str, without: Option<&str>) -> Option<Value> {
        let of: Vec<&Point> = self.classes.get(&(kind, class.to_owned()))?.iter().collect();
        let of: Vec<&Point> = of.into_iter().filter(|p| Some(p.unit.as_str()) != without).collect();
        let medians = medians(&of);
        let middle =
            if kind.is_factor() { 1.0 } else { quantile(&mut medians.values().copied().collect::<Vec<_>>(), 0.5) };
        if of.is_empty() {
            return None;
        }
        let (low, high) = if medians.len() >= ENOUGH {
            let mut residuals = residuals(kind, &of);
            let (low, high) = levels(medians.len());
            (middle + weighted(&mut residuals, low), middle + weighted(&mut residuals, high))
        } else {
            let (low, high) = self.pooled(kind, generation(class), without);
            (middle * low, middle * high)
        };
        // A class of few threads holds at least what it has seen.
        let seen = |pick: fn(f64, f64) -> f64, start: f64| of.iter().map(|p| p.value).fold(start, pick);
        let few = medians.len() < ENOUGH;
        let (low, high) = if few { (seen(f64::min, low), seen(f64::max, high)) } else { (low, high) };
        Some(Value { low: low.min(middle).max(0.0), middle, high: high.max(middle) })
    }

    /// Fifth and ninety-fifth percentile of the ratio of rows to their class's value, over all classes of the kind and,
    /// for amounts, of the engine's generation.
    fn pooled(&self, kind: Kind, generation_of: &str, without: Option<&str>) -> (f64, f64) {
        let (mut ratios, mut threads) = (Vec::new(), 0);
        for ((other, name), points) in &self.classes {
            if !kind.is_factor() && generation(name) != generation_of {
                continue;
            }
            let of: Vec<&Point> = points.iter().filter(|p| Some(p.unit.as_str()) != without).collect();
            let own = medians(&of);
            if *other != kind || (own.len() < 2 && !kind.is_factor()) {
                continue;
            }
            threads += own.len();
            for point in &of {
                let mut rest: Vec<f64> =
                    own.iter().filter(|(thread, _)| **thread != point.thread).map(|(_, value)| *value).collect();
                let middle = if kind.is_factor() { 1.0 } else { quantile(&mut rest, 0.5) };
                let rows = of.iter().filter(|p| p.thread == point.thread).count();
                ratios.push((point.value / middle.max(0.01), 1.0 / rows as f64));
            }
        }
        if ratios.is_empty() {
            return (0.5, 2.0);
        }
        let (low, high) = levels(threads);
        (weighted(&mut ratios, low).min(1.0), weighted(&mut ratios, high).max(1.0))
    }
}

/// The quantiles that hold nine of ten further threads after `threads` were seen (split conformal prediction): wider than
/// 5 and 95%, and the extremes below nineteen threads.
fn levels(threads: usize) -> (f64, f64) {
    let n = threads as f64;
    let high = (0.95 * (n + 1.0) / n).min(1.0);
    (1.0 - high, high)
}

/// The engine's generation that a class is of.
fn generation(class: &str) -> &'static str {
    if class.starts_with("other vendors") {
        "other"
    } else if class.contains("V0") {
        "V0"
    } else {
        "V1"
    }
}

/// Every thread's median.
fn medians(points: &[&Point]) -> BTreeMap<String, f64> {
    let mut threads: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for point in points {
        threads.entry(point.thread.clone()).or_default().push(point.value);
    }
    threads.into_iter().map(|(thread, mut values)| (thread, quantile(&mut values, 0.5))).collect()
}

/// Every row's distance from the median of the other threads (of one, for factors of a formula), each thread weighing one.
fn residuals(kind: Kind, points: &[&Point]) -> Vec<(f64, f64)> {
    let own = medians(points);
    let of = |point: &&Point| {
        let mut rest: Vec<f64> =
            own.iter().filter(|(thread, _)| **thread != point.thread).map(|(_, value)| *value).collect();
        let middle = if kind.is_factor() { 1.0 } else { quantile(&mut rest, 0.5) };
        let rows = points.iter().filter(|p| p.thread == point.thread).count();
        (!middle.is_nan()).then_some((point.value - middle, 1.0 / rows as f64))
    };
    points.iter().filter_map(of).collect()
}

/// Prints every constant beside the committed one; true when they are equal.
pub fn print(rows: &[Row], models: Option<&Path>, all: bool) -> bool {
    let (points, _) = collect(rows, models);
    let fit = Fit::new(points);
    let committed = fitted();
    let mut equal = true;
    let mut lines = Vec::new();
    for ((kind, class), points) in &fit.classes {
        let Some(value) = fit.value(*kind, class, None) else { continue };
        let own = committed.iter().find(|f| f.class == class);
        let same = own.is_some_and(|own| agrees(*kind, own, &value));
        equal &= same;
        let of: Vec<&Point> = points.iter().collect();
        let mut left = residuals(*kind, &of);
        lines.push(vec![
            class.clone(),
            kind.name().to_owned(),
            points.len().to_string(),
            medians(&of).len().to_string(),
            number(value.middle),
            if kind.has_interval() { format!("{}..{}", number(value.low), number(value.high)) } else { "-".to_owned() },
            own.map_or("-".to_owned(), |o| committed_as(*kind, o)),
            format!(
                "{:+.2}/{:+.2}/{:+.2}",
                weighted(&mut left, 0.05),
                weighted(&mut left, 0.5),
                weighted(&mut left, 0.95)
            ),
            if same { "equal" } else { "DIFFERS" }.to_owned(),
        ]);
    }
    println!(
        "Factors are of the formula; amounts are GiB. left out: 5/50/95% of rows less their class without their thread."
    );
    let head = ["class", "kind", "rows", "threads", "value", "interval", "committed", "left out", ""];
    print!("{}", Form::Text.wide(&head, &lines));
    for constant in committed.iter().filter(|c| !fit.classes.keys().any(|(_, class)| class == c.class)) {
        println!("judged, no row: {} {} {}..{}", constant.class, constant.middle, constant.low, constant.high);
    }
    if all {
        for ((kind, class), points) in &fit.classes {
            for point in points {
                println!("  {} {class}: {:.3} {}", kind.name(), point.value, point.label);
            }
        }
    }
    println!(
        "committed constants {}",
        if equal { "equal what the rows give" } else { "DIFFER from what the rows give" }
    );
    equal
}

fn committed_as(kind: Kind, own: &Fitted) -> String {
    if kind.has_interval() {
        format!("{} {}..{}", number(own.middle), number(own.low), number(own.high))
    } else {
        number(own.middle)
    }
}

/// Whether a committed constant is what the rows give, to the two decimals that it is committed with.
fn agrees(kind: Kind, own: &Fitted, value: &Value) -> bool {
    let near = |a: f64, b: f64| {
        (a - b).abs()
            <= if b < 9.995 {
                0.0051
            } else if b < 99.95 {
                0.051
            } else {
                0.51
            }
    };
    near(own.middle, value.middle) && (!kind.has_interval() || (near(own.low, value.low) && near(own.high, value.high)))
}

/// How far each launch's budget is off where its unit is left out of every class, with the scale of its doubt.
pub fn left_out(rows: &[Row], models: Option<&Path>) -> Vec<Scored> {
    let (points, launched) = collect(rows, models);
    let fit = Fit::new(points);
    launched.iter().map(|row| scored(&fit, row)).collect()
}

fn scored(fit: &Fit, row: &Launched) -> Scored {
    let mut parts = row.estimates.clone();
    let unit = Some(row.unit.as_str());
    let places = [(Kind::Activation, &row.activation_class), (Kind::Outside, &row.outside_class)];
    for (kind, class) in places {
        // A class that only this unit gives keeps its value.
        let Some(value) = fit.value(kind, class, unit).or_else(|| fit.value(kind, class, None)) else { continue };
        let entry = if kind == Kind::Activation { &mut parts.activation } else { &mut parts.non_torch };
        let middle = entry.size.bytes.as_gib();
        // The activation's interval has the slack that is committed with it.
        let slack = |at: f64| match at.total_cmp(&1.0) {
            std::cmp::Ordering::Less => -0.02,
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => 0.02,
        };
        let around = |at: f64| match kind {
            Kind::Activation => middle * at + slack(at),
            Kind::Outside | Kind::Graphs | Kind::Constant => at + row.stack,
        };
        entry.size = Estimate::between(
            Bytes::gib(around(value.low).max(0.0)),
            Bytes::gib(around(value.middle)),
            Bytes::gib(around(value.high)),
            Source::Measured("left out".into()),
        );
    }
    let charged = parts.charged();
    let taken: f64 = charged.iter().map(|entry| entry.size.bytes.as_gib()).sum();
    let scale = Scale::of(charged.iter().map(|entry| &entry.size));
    Scored {
        line: row.line,
        unit: row.unit.clone(),
        group: row.group.clone(),
        error: row.logged - (row.limit.as_gib() - row.weights.as_gib() - taken),
        below: Bytes::from_f64(scale.below).as_gib(),
        above: Bytes::from_f64(scale.above).as_gib(),
        total: row.total,
    }
}

/// Returns a quantile of weighted values: the least whose weight, with all below it, reaches the share.
fn weighted(values: &mut [(f64, f64)], at: f64) -> f64 {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mut below = 0.0;
    for (value, weight) in values.iter() {
        below += weight;
        if below >= at * total - 1e-9 {
            return *value;
        }
    }
    f64::NAN
}

/// Returns a quantile by linear interpolation, NaN of nothing.
pub fn quantile(values: &mut [f64], at: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_by(f64::total_cmp);
    let place = at * (values.len() - 1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    values[low] + (values[high] - values[low]) * (place - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_one_vote_each() {
        let point = |thread: &str, value| Point {
            kind: Kind::Outside,
            class: "c".to_owned(),
            thread: thread.to_owned(),
            unit: thread.to_owned(),
            label: String::new(),
            value,
        };
        let fit = Fit::new(vec![point("a", 1.0), point("a", 1.0), point("a", 1.2), point("b", 2.0), point("c", 3.0)]);
        let value = fit.value(Kind::Outside, "c", None).unwrap();
        assert!((value.middle - 2.0).abs() < 1e-9, "{value:?}");
        let without = fit.value(Kind::Outside, "c", Some("a")).unwrap();
        assert!((without.middle - 2.5).abs() < 1e-9, "{without:?}");
        assert!(fit.value(Kind::Outside, "d", None).is_none());
    }

    #[test]
    fn the_committed_constants_are_what_the_rows_give() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let shared = std::env::var_os("PLIMSOLL_SHARED").map_or(root, Into::into);
        let path = shared.join("data/evidence/vllm.jsonl");
        if !path.exists() {
            eprintln!("SKIPPED: {} is absent, so the fitted constants were not checked", path.display());
            return;
        }
        let rows = super::super::read(&path).unwrap();
        assert!(print(&rows, Some(&shared.join("data/models")), false));
    }
}
