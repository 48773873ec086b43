//! Which is better? Plans side by side over models, cards, formats, engines and settings: every combination is a row, what
//! cannot be answered is a row with its reason.
//!
//! ```
//! use plimsoll_api::{ComparisonRequest, Desk, NoFiles};
//! let request: ComparisonRequest = serde_json::from_str(
//!     r#"{"models": ["llama-2-7b", "llama-2-70b"], "gpus": ["rtx-4090", "h100-80gb"]}"#)?;
//! let answer = plimsoll_api::compare(&request, &Desk::new(&NoFiles))?;
//! let fits: Vec<bool> = answer.rows.iter().map(|row| row.state.as_deref() == Some("fits")).collect();
//! assert_eq!(fits, [true, true, false, false]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod answer;
mod columns;
mod engines;
mod point;
mod request;
mod view;

use std::collections::BTreeMap;

pub use columns::{COLUMNS, Column, Good, Kind};
pub use request::{ComparisonRequest, MOST_ROWS};
pub use view::Axis;

use self::answer::{ComparisonAnswer, ComparisonRow};
use self::point::{Maker, Said};
use self::request::Axes;
use self::view::View;
use crate::launch::IDLE;
use crate::{Desk, Error};

/// Statements of single rows that are told at most.
const MOST_SAID: usize = 24;

/// Answers a comparison.
///
/// # Errors
/// [`Error`] when the question is malformed or names a model, card, engine or format that is not known; a combination that
/// cannot be is a row with a reason.
pub fn compare(request: &ComparisonRequest, desk: &Desk<'_>) -> Result<ComparisonAnswer, Error> {
    compare_with(request, desk, &|_, _| ())
}

/// Answers like [`compare`], and tells how many of how many rows are done.
///
/// # Errors
/// As [`compare`].
pub fn compare_with(
    request: &ComparisonRequest,
    desk: &Desk<'_>,
    done: &dyn Fn(usize, usize),
) -> Result<ComparisonAnswer, Error> {
    let axes = Axes::new(request, desk)?;
    let view = View::new(request, &axes)?;
    let mut maker = Maker::new(request, desk, axes.engines.len() > 1);
    let places = axes.places();
    let mut rows = Vec::with_capacity(places.len());
    for (at, place) in places.iter().enumerate() {
        rows.push(maker.row(place)?);
        done(at + 1, places.len());
    }
    let Maker { sources, said, .. } = maker;
    let (assumptions, mut notes) = gathered(&view, &rows, &said);
    let times = rows.iter().any(|row| row.decode_ms.is_some());
    let assumptions = stated(&rows, times).into_iter().chain(assumptions).collect();
    if !sources.is_empty() && view.show.iter().any(|column| column.kind == Kind::Quality) {
        notes.push("published quality: numbers of different sources and protocols do not compare".to_owned());
    }
    let mut formats: Vec<&str> = rows.iter().filter(|row| row.state.is_some()).map(|row| row.format.as_str()).collect();
    formats.sort_unstable();
    formats.dedup();
    if axes.engines.len() > 1 && formats.len() > axes.formats.len() {
        notes.push(format!(
            "the engines hold different formats ({}); `--formats bf16` compares like with like",
            formats.join(", ")
        ));
    }
    saved(&mut rows);
    let varied = view.varied(&rows);
    view.sort(&mut rows);
    view.mark(&mut rows);
    let engines = if axes.engines.len() > 1 { engines::differences(&rows) } else { Vec::new() };
    Ok(ComparisonAnswer {
        varied,
        same: same(&view, &rows),
        view: view.answer(),
        front: view::front(&view, &rows),
        engines,
        quality_sources: sources,
        assumptions,
        notes,
        rows,
    })
}

/// Says what each format saves against the first of the same rest.
fn saved(rows: &mut [ComparisonRow]) {
    let rest = |row: &ComparisonRow| -> Vec<String> {
        let axes = Axis::ALL.iter().filter(|axis| ![Axis::Format, Axis::Context].contains(axis));
        axes.map(|axis| axis.label(row)).collect()
    };
    let mut firsts: BTreeMap<Vec<String>, (String, u64)> = BTreeMap::new();
    for row in rows.iter_mut() {
        let Some(bytes) = row.weights_bytes else { continue };
        let (format, first) = firsts.entry(rest(row)).or_insert_with(|| (row.format.clone(), bytes)).clone();
        if format != row.format {
            let saved = i64::try_from(first).unwrap_or(i64::MAX) - i64::try_from(bytes).unwrap_or(i64::MAX);
            row.saved_bytes = Some(saved);
            row.saved_share = (first > 0).then(|| saved as f64 / first as f64);
        }
    }
}

/// What is the same in all rows, of what a reader wants to know.
fn same(view: &View, rows: &[ComparisonRow]) -> Vec<String> {
    let axes = [Axis::Model, Axis::Gpu, Axis::Engine, Axis::Format, Axis::Tp, Axis::Pp, Axis::Context];
    let answered = || rows.iter().filter(|row| row.state.is_some());
    let mut words = Vec::new();
    for axis in axes.into_iter().filter(|axis| !view.varied.contains(axis)) {
        let value = |row: &ComparisonRow| match axis {
            Axis::Model => format!("{} ({})", row.model, row.model_id),
            Axis::Gpu => row.gpu_name.clone(),
            Axis::Engine => format!("{} {}", row.engine, row.engine_version),
            Axis::Context => format!("sequences of up to {} tokens", row.context),
            Axis::Tp | Axis::Pp => format!("{} {}", axis.name(), axis.label(row)),
            Axis::Format | Axis::KvFormat | Axis::Batch => axis.label(row),
        };
        let mut values: Vec<String> = answered().map(value).collect();
        values.dedup();
        let plain = matches!(axis, Axis::Tp | Axis::Pp) && values.iter().all(|value| value.ends_with(" 1"));
        if let ([value], false) = (values.as_slice(), plain) {
            words.push(value.clone());
        }
    }
    words
}

/// For which lengths and batches figures are told.
fn stated(rows: &[ComparisonRow], times: bool) -> Vec<String> {
    let mut places: Vec<(u64, u32)> =
        rows.iter().filter(|row| row.state.is_some()).map(|row| (row.at_tokens, row.at_batch)).collect();
    places.sort_unstable();
    places.dedup();
    match places.as_slice() {
        [(tokens, batch)] => {
            let mut words = vec![format!("sequences of {tokens} tokens where figures need a length (--at-context)")];
            if times {
                let several = if *batch == 1 { "" } else { "s" };
                words.push(format!(
                    "times of {batch} sequence{several} decoding at once, and of one prompt alone (--at-batch)"
                ));
            }
            words
        }
        [] => Vec::new(),
        _ => vec!["figures that need a length or batch are those of each row's own (at_tokens, at_batch)".to_owned()],
    }
}

/// Gathers what rows rest on: what all say once, the rest with whom it is about.
fn gathered(view: &View, rows: &[ComparisonRow], said: &[Said]) -> (Vec<String>, Vec<String>) {
    let assumptions: Vec<Vec<&String>> = said.iter().map(|said| said.assumptions.iter().collect()).collect();
    let notes: Vec<Vec<&String>> =
        said.iter().map(|said| said.notes.iter().filter(|note| !note.starts_with(IDLE)).collect()).collect();
    (told(view, rows, &assumptions), told(view, rows, &notes))
}

/// What is said of which rows: of all, of all with one value of one list, else of a first row and others.
fn told(view: &View, rows: &[ComparisonRow], said: &[Vec<&String>]) -> Vec<String> {
    let mut by_text: Vec<(&String, Vec<usize>)> = Vec::new();
    let mut known: BTreeMap<&String, usize> = BTreeMap::new();
    for (at, texts) in said.iter().enumerate() {
        for text in texts {
            let place = *known.entry(text).or_insert_with(|| {
                by_text.push((text, Vec::new()));
                by_text.len() - 1
            });
            if by_text[place].1.last() != Some(&at) {
                by_text[place].1.push(at);
            }
        }
    }
    let values: Vec<(Axis, usize)> = view.varied.iter().map(|axis| (*axis, axis.values(rows))).collect();
    let answered = (0..rows.len()).filter(|at| rows[*at].state.is_some()).count();
    let (mut all, mut some) = (Vec::new(), Vec::new());
    for (text, at) in by_text {
        if at.len() >= answered.max(1) {
            all.push(text.clone());
            continue;
        }
        if at.iter().any(|at| rows[*at].does.contains(text)) {
            continue;
        }
        let about = values.iter().find_map(|(axis, all)| {
            let mut labels: Vec<String> = at.iter().map(|at| axis.label(&rows[*at])).collect();
            labels.sort_unstable();
            labels.dedup();
            (labels.len() <= 2 && labels.len() < *all).then(|| labels.join(", "))
        });
        let about = about.unwrap_or_else(|| format!("{} rows", at.len()));
        some.push(format!("{about}: {text}"));
    }
    let more = some.len().saturating_sub(MOST_SAID);
    some.truncate(MOST_SAID);
    all.extend(some);
    if more > 0 {
        all.push(format!("{more} more of single rows; `plimsoll plan` with a row's words tells them"));
    }
    all
}

#[cfg(test)]
mod tests;
