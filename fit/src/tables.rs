//! How is a family of plain tables fitted: cases with a modelled time, one grid of corrections each, errors on what was left
//! out, and the file's head?

use std::fmt::Write;

use plimsoll_cost::measured::attention::HUNDREDTHS;
use plimsoll_cost::measured::grid::{self, Grid};

use crate::held::held_out;
use crate::surface::{Row, draw};
use crate::{Fitted, stats};

/// One measurement.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it lies on the axes.
    pub places: Vec<f64>,
    /// Seconds of the simple model.
    pub base: f64,
    /// Seconds measured.
    pub seconds: f64,
    /// What makes it new, by kind: shapes are left out by each kind in turn.
    pub names: Vec<(&'static str, String)>,
}

/// One table to fit.
#[derive(Clone, Debug)]
pub struct Set {
    /// Card.
    pub card: String,
    /// Engine.
    pub backend: String,
    /// The rest of the table's name.
    pub kind: String,
    /// Axes.
    pub axes: Vec<(&'static str, Vec<f64>)>,
    /// Measurements.
    pub cases: Vec<Case>,
}

/// Points of an axis: those wished that lie within what was measured, and its ends where no wished one is near.
pub fn points(wished: &[f64], found: impl Iterator<Item = f64>) -> Vec<f64> {
    let (low, high) = found.fold((f64::MAX, 0.0_f64), |(low, high), at| (low.min(at), high.max(at)));
    let mut points: Vec<f64> = wished.iter().copied().filter(|at| *at > low * 1.3 && *at * 1.3 < high).collect();
    points.insert(0, (low * 1000.0).round() / 1000.0);
    if high > low * 1.01 {
        points.push(high);
    }
    points
}

/// Draws the grid of corrections through cases.
fn surface<'a>(set: &Set, cases: impl Iterator<Item = &'a Case>) -> Grid {
    let rows: Vec<Row> = cases
        .map(|case| {
            let mut place = [1.0; 4];
            for (to, from) in place.iter_mut().zip(&case.places) {
                *to = *from;
            }
            Row { place, value: libm::log(case.seconds / case.base) }
        })
        .collect();
    draw(&set.axes, &rows, 1000.0 / HUNDREDTHS)
}

/// Fits all tables, with the errors on shapes left out.
pub fn fit_all(title: &str, family: &str, sets: &[Set]) -> Fitted {
    let mut errors = Vec::new();
    let mut tables = String::new();
    for set in sets {
        let kinds: Vec<&str> = set.cases.first().into_iter().flat_map(|case| &case.names).map(|name| name.0).collect();
        for (kind, left_out) in kinds.iter().enumerate() {
            let held = |case: &&Case| held_out(&case.names[kind].1);
            let grid = surface(set, set.cases.iter().filter(|case| !held(case)));
            let ratios: Vec<f64> = set
                .cases
                .iter()
                .filter(held)
                .map(|case| case.base * libm::exp(grid.at(&case.places).0 * HUNDREDTHS) / case.seconds)
                .collect();
            if !ratios.is_empty() {
                errors.push(stats::Line {
                    card: set.card.clone(),
                    backend: set.backend.clone(),
                    kind: format!("{} {left_out}", set.kind),
                    fitted: set.cases.len() - ratios.len(),
                    ratios,
                });
            }
        }
        let key = format!("{} {} {}", set.card, set.backend, set.kind);
        grid::write(&mut tables, &key, &surface(set, set.cases.iter()));
    }
    Fitted { table: head(title, family, &errors) + &tables, errors, notes: Vec::new() }
}

/// The head of a file: source, meaning, errors.
pub fn head(title: &str, family: &str, errors: &[stats::Line]) -> String {
    let mut out = format!(
        "# {title}: hundredths of the natural logarithm of measured over modelled time.\n\
         # Written by `cargo xtask fit {family}` from measurements of ai-dynamo/aiconfigurator (Apache-2.0, commit\n\
         # 095f58a51c4c) and casys-kaist/LLMServingSim (MIT, commit 5daddb21a545).\n\
         # Absolute error on shapes left out of the fit, median and 90th percentile:\n"
    );
    for line in errors {
        let (median, p90) = (line.median() * 100.0, line.p90() * 100.0);
        let _ = writeln!(out, "# {} {} {}: {median:.1}% {p90:.1}%", line.card, line.backend, line.kind);
    }
    out
}
