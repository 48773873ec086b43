//! What does a comparison look like? Memory as bars with the cards' lines, longest contexts, and who is on the front.

use plimsoll_api::ComparisonAnswer;
use plimsoll_api::compare::answer::ComparisonRow;
use plimsoll_api::compare::{COLUMNS, Column, Kind};

use crate::compare::label;
use crate::figure::{Axis, Bar, Bars, Body, Dot, Figure, Limit, Line, Part, Plot, Scale, Series, Stroke, Tone, Unit};
use crate::figures_of::sentence;
use crate::number::{count, size};

/// Bars of a figure at most.
const MOST: usize = 40;
/// Dots of a figure at most, and those that all have names.
const DOTS: usize = 400;
const NAMED: usize = 24;

/// The figures of a comparison, the most telling first.
pub(crate) fn figures(answer: &ComparisonAnswer) -> Vec<Figure> {
    [memory(answer), contexts(answer), front(answer)].into_iter().flatten().collect()
}

/// The rows that were answered, as many as are drawn.
fn drawn(answer: &ComparisonAnswer, most: usize) -> (Vec<&ComparisonRow>, String) {
    let all: Vec<&ComparisonRow> = answer.rows.iter().filter(|row| row.state.is_some()).collect();
    let left = all.len().saturating_sub(most);
    let absent = answer.rows.len() - all.len();
    let mut words = Vec::new();
    if left > 0 {
        words.push(format!("the first {most} of {} rows", count(all.len() as u64)));
    }
    if absent > 0 {
        words.push(format!("{absent} not answered"));
    }
    (all.into_iter().take(most).collect(), words.join("; "))
}

/// What stands below every figure.
fn caption(answer: &ComparisonAnswer, words: &str) -> String {
    // Lengths and batches of times are said where times are shown.
    let told = |text: &&String| !text.contains("--at-") || words.contains("predicted");
    let first = answer.assumptions.iter().filter(told).take(3).cloned();
    [sentence(words)].into_iter().filter(|words| !words.is_empty()).chain(first).collect::<Vec<_>>().join("; ")
}

fn subtitle(answer: &ComparisonAnswer) -> String {
    answer.same.join(", ")
}

/// Memory of the fullest rank by part, a bar a row, with the cards' lines.
fn memory(answer: &ComparisonAnswer) -> Option<Figure> {
    const PARTS: [(&str, &str, Tone); 5] = [
        ("weights", "weights", Tone::Weights),
        ("activations", "activations", Tone::Activations),
        ("runtime", "runtime", Tone::Runtime),
        ("graphs", "graphs", Tone::Graphs),
        ("kv", "KV cache", Tone::Kv),
    ];
    let (rows, words) = drawn(answer, MOST);
    let has = |part: &str| rows.iter().any(|row| row.parts.iter().any(|one| one.part == part && one.bytes > 0));
    let kept: Vec<&(&str, &str, Tone)> = PARTS.iter().filter(|(part, ..)| has(part)).collect();
    if kept.is_empty() {
        return None;
    }
    let mut cards: Vec<(String, u64)> = Vec::new();
    for row in &rows {
        let (Some(bytes), Some(card)) = (row.card_bytes, row.gpu.split(':').next()) else { continue };
        // Cards that differ by less than the line is wide share one.
        match cards.iter_mut().find(|(_, other)| other.abs_diff(bytes) < bytes / 100) {
            Some((names, _)) if names.split(", ").any(|name| name == card) => {}
            Some((names, _)) => names.push_str(&format!(", {card}")),
            None => cards.push((card.to_owned(), bytes)),
        }
    }
    let several = cards.len() > 1;
    let bar = |row: &&ComparisonRow| {
        let value =
            |part: &str| row.parts.iter().filter(|one| one.part == part).map(|one| one.bytes as f64).sum::<f64>();
        let parts = kept.iter().enumerate().map(|(at, (part, ..))| Part::new(at, value(part)));
        let cut = matches!(row.state.as_deref(), Some("does_not_fit" | "shorter"));
        let note = cut.then(|| match row.max_context_tokens {
            Some(tokens) if tokens > 0 => format!("up to {} tokens", count(tokens)),
            Some(_) | None => "does not fit".to_owned(),
        });
        let parts: Vec<Part> = parts.filter(|part| part.value > 0.0).collect();
        let sum: f64 = parts.iter().map(|part| part.value).sum();
        let card = row.card_bytes.filter(|_| several);
        let note = note.or_else(|| card.map(|card| format!("{} of {}", size(sum as u64), size(card))));
        Bar {
            name: label(answer, row),
            parts,
            note,
            limit: card.map(|card| Limit::new("end of the row's card", card as f64)),
        }
    };
    Some(Figure {
        name: "memory".to_owned(),
        title: "Where does the memory of the fullest card go?".to_owned(),
        subtitle: subtitle(answer),
        caption: caption(answer, &words),
        body: Body::Bars(Bars {
            axis: Axis::of("memory of one card", Unit::Bytes),
            series: kept.iter().map(|(_, name, tone)| Series::new(*name, *tone)).collect(),
            rows: rows.iter().map(bar).collect(),
            // Of one card the line runs across all bars; of several each bar has its own.
            limits: cards
                .into_iter()
                .filter(|_| !several)
                .map(|(name, bytes)| Limit::new(name, bytes as f64))
                .collect(),
        }),
    })
}

/// The longest sequence of each row.
fn contexts(answer: &ComparisonAnswer) -> Option<Figure> {
    let (rows, words) = drawn(answer, MOST);
    let tokens = |row: &&ComparisonRow| row.max_context_tokens.unwrap_or(0);
    if rows.len() < 2 || rows.iter().all(|row| tokens(row) == 0) {
        return None;
    }
    let bar = |row: &&ComparisonRow| Bar {
        name: label(answer, row),
        parts: vec![Part::new(0, tokens(row) as f64)],
        note: Some(match (tokens(row), row.concurrency) {
            (0, _) => "does not fit".to_owned(),
            (tokens, Some(several)) if several > 0 => {
                format!("{} ({} at once of {})", count(tokens), count(several), count(row.at_tokens))
            }
            (tokens, Some(_) | None) => count(tokens),
        }),
        limit: None,
    };
    Some(Figure {
        name: "context".to_owned(),
        title: "How long can a sequence be?".to_owned(),
        subtitle: subtitle(answer),
        caption: caption(answer, &words),
        body: Body::Bars(Bars {
            axis: Axis::of("longest context (tokens)", Unit::Count),
            series: vec![Series::new("longest context", Tone::Kv)],
            rows: rows.iter().map(bar).collect(),
            limits: Vec::new(),
        }),
    })
}

/// Every row as a dot over two figures, and the front as a line.
fn front(answer: &ComparisonAnswer) -> Option<Figure> {
    let front = answer.front.as_ref()?;
    let column = |name: &str| COLUMNS.iter().copied().find(|column| column.name == name);
    let (x, y) = (column(&front.x)?, column(&front.y)?);
    let at = |row: &ComparisonRow| Some((x.of(row)?, y.of(row)?));
    let mut dots: Vec<Dot> = answer
        .rows
        .iter()
        .enumerate()
        .filter_map(|(number, row)| {
            let (x, y) = at(row)?;
            let on = front.rows.contains(&number);
            let series =
                if on { Series::new("on the front", Tone::Nth(0)) } else { Series::new("beaten", Tone::Faint) };
            Some(Dot { x, y, series, label: label(answer, row) })
        })
        .take(DOTS)
        .collect();
    // Names of a crowd would hide it: those on the front are told.
    let crowd = dots.len() > NAMED;
    dots.iter_mut().filter(|dot| crowd && dot.series.tone == Tone::Faint).for_each(|dot| dot.label.clear());
    dots.sort_by_key(|dot| dot.series.tone == Tone::Faint);
    if dots.len() < 2 {
        return None;
    }
    let points: Vec<(f64, f64)> = front.rows.iter().filter_map(|row| at(answer.rows.get(*row)?)).collect();
    let line = Line { series: Series::new("", Tone::Nth(0)), points, band: Vec::new(), stroke: Stroke::Dashed };
    Some(Figure {
        name: "front".to_owned(),
        title: format!("Which trades {} for {} best?", title(&x), title(&y)),
        subtitle: subtitle(answer),
        caption: caption(
            answer,
            if crowd {
                "predicted times; dots that no other beats in both are joined and named"
            } else {
                "predicted times; dots that no other beats in both are joined"
            },
        ),
        body: Body::Plot(Plot {
            x: axis(&x),
            y: axis(&y),
            lines: vec![line],
            dots,
            limits: Vec::new(),
            marks: Vec::new(),
        }),
    })
}

/// A figure's name in a title.
fn title(column: &Column) -> &'static str {
    match column.name {
        "weights_bytes" => "memory of weights",
        "tokens_per_s_per_user" => "speed of an answer",
        "tokens_per_s_per_gpu" => "throughput of a card",
        "kv_tokens" => "size of the cache",
        other => other,
    }
}

/// An axis of a figure.
fn axis(column: &Column) -> Axis {
    let (label, unit) = match (column.name, column.kind) {
        ("weights_bytes", _) => ("weights on the fullest card", Unit::Bytes),
        ("tokens_per_s_per_user", _) => ("tokens a second of a sequence", Unit::Plain),
        ("tokens_per_s_per_gpu", _) => ("tokens a second of a card", Unit::Plain),
        ("kv_tokens", _) => ("tokens in the KV cache", Unit::Plain),
        (_, Kind::Bytes) => (column.head, Unit::Bytes),
        (name, _) => (name, Unit::Plain),
    };
    Axis::of(label, unit).scaled(Scale::Linear)
}
