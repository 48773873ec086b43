//! How far off is a fit? Relative errors of left-out rows, as medians and percentiles.

use std::fmt::Write;

/// One line of an error table: a card, an engine, a kind of kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Card of the tables.
    pub card: String,
    /// Engine.
    pub backend: String,
    /// `bf16`, `context`, `generation`, …
    pub kind: String,
    /// Rows in the table's fit.
    pub fitted: usize,
    /// Predicted over measured of every left-out row.
    pub ratios: Vec<f64>,
}

impl Line {
    /// Returns the median of |predicted / measured − 1|.
    pub fn median(&self) -> f64 {
        quantile(&self.errors(), 0.5)
    }

    /// Returns the 90th percentile of |predicted / measured − 1|.
    pub fn p90(&self) -> f64 {
        quantile(&self.errors(), 0.9)
    }

    /// Returns the tenth and ninetieth percentile of measured over predicted: the factors of an interval.
    pub fn spread(&self) -> (f64, f64) {
        let mut inverse: Vec<f64> = self.ratios.iter().map(|ratio| 1.0 / ratio).collect();
        inverse.sort_by(f64::total_cmp);
        (quantile(&inverse, 0.1), quantile(&inverse, 0.9))
    }

    fn errors(&self) -> Vec<f64> {
        let mut errors: Vec<f64> = self.ratios.iter().map(|ratio| (ratio - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        errors
    }
}

/// Returns a quantile of ascending values, interpolated; NaN of none.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let at = part * last as f64;
    let (low, high) = (values[at.floor() as usize], values[(at.ceil() as usize).min(last)]);
    low + (high - low) * (at - at.floor())
}

/// Writes the lines as a table for a terminal.
pub fn table(family: &str, lines: &[Line], notes: &[String]) -> String {
    let mut out = format!("{family}: shapes left out of the fit\n");
    let _ = writeln!(
        out,
        "  {:<14}{:<14}{:<26}{:>8}{:>8}{:>9}{:>9}",
        "card", "engine", "kind", "fitted", "left", "median", "p90"
    );
    for line in lines {
        let _ = writeln!(
            out,
            "  {:<14}{:<14}{:<26}{:>8}{:>8}{:>8.1}%{:>8.1}%",
            line.card,
            line.backend,
            line.kind,
            line.fitted,
            line.ratios.len(),
            line.median() * 100.0,
            line.p90() * 100.0
        );
    }
    for note in notes {
        let _ = writeln!(out, "  {note}");
    }
    out
}
