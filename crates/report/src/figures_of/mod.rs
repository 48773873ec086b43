//! Which answer has which pictures? One file an answer; each turns it into figures and leaves out what has nothing to show.

mod catalogue;
mod inspect;
mod plan;
mod reconcile;
mod roofline;
mod simulate;
mod textbook;

pub(crate) use catalogue::catalogue;
pub(crate) use inspect::inspect;
pub(crate) use plan::plan;
pub(crate) use reconcile::reconcile;
pub(crate) use roofline::roofline;
pub(crate) use simulate::{simulate, simulate_compare};
pub(crate) use textbook::textbook;

use crate::figure::Unit;
use crate::number::{plain, size, three};
use crate::page::clean;

/// Letters that the assumptions of a caption take at most; the report lists all of them.
const CAPTION: usize = 320;

/// A caption: how the figure is read, and what it rests on.
fn caption(how: &str, assumptions: &[String]) -> String {
    let mut out = clean(how);
    if assumptions.is_empty() {
        return out;
    }
    out.push_str(" Assumed: ");
    let (mut letters, mut shown) = (0, 0);
    for assumption in assumptions {
        letters += assumption.chars().count();
        if shown > 0 && letters > CAPTION {
            break;
        }
        out.push_str(if shown > 0 { "; " } else { "" });
        out.push_str(clean(assumption).trim_end_matches('.'));
        shown += 1;
    }
    out.push_str(&match assumptions.len() - shown {
        0 => ".".to_owned(),
        more => format!("; and {more} more."),
    });
    out
}

/// Words with a capital at their beginning.
pub(crate) fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Keeps a number that can be drawn.
fn drawable(value: f64) -> Option<f64> {
    (value.is_finite() && value.abs() < 1e300).then_some(value)
}

/// Keeps a number that can be drawn on a logarithmic axis.
fn positive(value: f64) -> Option<f64> {
    drawable(value).filter(|value| *value > 1e-300)
}

/// A number as it is written in a note.
fn written(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => size(value.clamp(0.0, 1.8e19) as u64),
        Unit::Seconds => seconds(value),
        Unit::Share => format!("{}%", three(value * 100.0)),
        Unit::Count | Unit::Plain => plain(value),
    }
}

/// A time in the unit that suits it.
fn seconds(value: f64) -> String {
    const STEPS: [(f64, &str); 4] = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")];
    let (step, unit) = STEPS.into_iter().find(|(step, _)| value >= step * 0.9995).unwrap_or((1.0, "s"));
    format!("{} {unit}", three(value / step))
}

/// Every how many-th of `count` things is shown, so that at most `most` are.
fn every(count: usize, most: usize) -> usize {
    count.div_ceil(most.max(1)).max(1)
}
