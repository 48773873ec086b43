//! What does the textbook say? Its numbers above the real model's.

use plimsoll_api::textbook::{TextbookAnswer, TextbookLine};

use super::{drawable, written};
use crate::figure::{Axis, Bar, Bars, Body, Figure, Part, Series, Tone, Unit};
use crate::page::clean;

/// Below this part of the longest bar nothing would be seen of one.
const SEEN: f64 = 1.0 / 400.0;

/// Returns the figures of a bare specification.
pub(crate) fn textbook(answer: &TextbookAnswer) -> Vec<Figure> {
    [
        bars(answer, "textbook", "What does the textbook say of the memory?", Unit::Bytes),
        bars(answer, "context", "How long a context does the textbook promise?", Unit::Count),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn bars(answer: &TextbookAnswer, name: &str, title: &str, unit: Unit) -> Option<Figure> {
    let word = if unit == Unit::Bytes { "bytes" } else { "tokens" };
    let of: Vec<&TextbookLine> = answer.lines.iter().filter(|line| line.unit == word).collect();
    let numbers = |line: &TextbookLine| [Some(line.textbook), line.real].map(|number| number.and_then(drawable));
    let most = of.iter().flat_map(|line| numbers(line)).flatten().fold(0.0, f64::max);
    let (mut rows, mut small) = (Vec::new(), Vec::new());
    for line in of {
        let both = numbers(line);
        if both.iter().flatten().all(|number| *number < most * SEEN) {
            let of = |at: usize| both[at].map_or("—".to_owned(), |number| written(number.max(0.0), unit));
            let real = if answer.model.is_some() { format!(" (real: {})", of(1)) } else { String::new() };
            small.push(format!("{} {}{real}", clean(&line.what), of(0)));
            continue;
        }
        for (series, number) in both.into_iter().enumerate() {
            let Some(number) = number else { continue };
            let value = number.max(0.0);
            // What all bars begin with is said by the axis.
            let what = line.what.strip_prefix("longest context on ").unwrap_or(&line.what);
            let name = if series == 0 { clean(what) } else { String::new() };
            rows.push(Bar {
                name,
                parts: vec![Part::new(series, value)],
                note: Some(written(value, unit)),
                limit: None,
            });
        }
    }
    if rows.is_empty() || most <= 0.0 {
        return None;
    }
    let mut caption =
        "A closed form for a decoder of the textbook, not a plan: for one, give an engine and a card.".to_owned();
    if !small.is_empty() {
        caption.push_str(&format!(" Too small to be drawn: {}.", small.join("; ")));
    }
    let mut series = vec![Series::new("textbook", Tone::Nth(0))];
    if let Some(model) = &answer.model {
        series.push(Series::new(clean(model), Tone::Nth(1)));
    }
    let axis = if unit == Unit::Bytes { Axis::of("memory", unit) } else { Axis::of("longest context (tokens)", unit) };
    Some(Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        subtitle: clean(&answer.spec),
        caption,
        body: Body::Bars(Bars { axis, series, rows, limits: Vec::new() }),
    })
}
