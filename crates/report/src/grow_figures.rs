//! How does memory grow, as pictures? Areas with the card's line across, a map of what fits, the cache's share, how far it
//! goes.

use plimsoll_api::GrowAnswer;
use plimsoll_api::grow::answer::{NeedAnswer, PointAnswer, ReachAnswer};

use crate::figure::{
    Areas, Axis, Bar, Bars, Body, Cell, Figure, Heat, Limit, Line, Part, Plot, Scale, Series, Stroke, Tone, Unit,
};
use crate::figures_of::sentence;
use crate::grow::{column, column_count, column_name, number, place, telling_column};
use crate::number::{count, size, three};
use crate::page::clean;

/// Lines of one plot at most: more cannot be told apart.
const MOST_LINES: usize = 8;
/// Rows and columns of a map at most.
const MOST_CELLS: (usize, usize) = (16, 12);
/// Bars of one figure at most.
const MOST_BARS: usize = 24;

/// Returns every figure, the most telling first.
pub(crate) fn figures(answer: &GrowAnswer) -> Vec<Figure> {
    let mut all = Vec::new();
    if is_drawn_through(answer) {
        all.extend(areas(answer));
        all.extend(heat(answer));
        all.extend(share(answer));
    } else {
        all.extend(bars(answer));
        all.extend(heat(answer));
        all.extend(share_bars(answer));
    }
    let lines: Vec<&ReachAnswer> = answer.lines.iter().map(|line| &line.reach).collect();
    let along = answer.lines.first().map_or("context", |line| line.along.as_str());
    all.extend(reach(answer, along, &lines));
    if answer.axes.first().is_some_and(|axis| !["context", "batch"].contains(&axis.knob.as_str())) {
        all.extend(reach(answer, "batch", &answer.largest_batches.iter().collect::<Vec<_>>()));
    }
    all.extend(cards(answer));
    all
}

/// Whether the memory may be drawn through its values: there are values in between, and none of those shown is refused among
/// others that are not. A model has no 2.5 heads, and nothing runs on 3 cards where 32 heads must be divided.
fn is_drawn_through(answer: &GrowAnswer) -> bool {
    let Some(axis) = answer.axes.first() else { return false };
    let planned: Vec<bool> = column(answer, telling_column(answer)).iter().map(|point| point.need.is_some()).collect();
    let ends = planned.iter().position(|is| *is).zip(planned.iter().rposition(|is| *is));
    let whole = ends.is_some_and(|(first, last)| first < last && planned[first..=last].iter().all(|is| *is));
    ["context", "batch", "dim"].contains(&axis.knob.as_str()) && whole
}

/// Says that not all of so many things are shown.
fn thinned(shown: usize, all: usize, what: &str) -> Option<String> {
    (shown < all).then(|| format!("{shown} of {all} {what} are shown"))
}

/// Sentences, each of which may be none.
fn sentences(said: impl IntoIterator<Item = Option<String>>) -> String {
    said.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What of a column is refused, for a caption.
fn refused(answer: &GrowAnswer, points: &[PointAnswer]) -> Option<String> {
    let knob = &answer.axes.first()?.knob;
    let all: Vec<&PointAnswer> = points.iter().filter(|point| point.refused.is_some()).collect();
    let reason = all.first()?.refused.as_ref()?;
    let values: Vec<String> =
        all.iter().take(6).filter_map(|point| point.at.first()).map(|value| number(value)).collect();
    let more = if all.len() > 6 { ", …" } else { "" };
    Some(format!("refused: {knob} {}{more} ({})", values.join(", "), clean(reason)))
}

/// What all figures rest on.
fn caption(answer: &GrowAnswer, own: &str) -> String {
    let mut said: Vec<String> = vec![sentence(own)];
    said.extend(answer.assumptions.iter().take(3).cloned());
    said.retain(|text| !text.is_empty());
    said.join("; ")
}

fn subtitle(answer: &GrowAnswer, more: &str) -> String {
    let mut words = format!("{} · {}", answer.model.id, place(answer));
    if !more.is_empty() {
        words.push_str(&format!(", {more}"));
    }
    words
}

/// The numbers along the first axis; `None` where they are names.
fn numbers(answer: &GrowAnswer) -> Option<Vec<f64>> {
    answer.axes.first()?.values.iter().map(|value| value.parse::<u64>().ok().map(|value| value as f64)).collect()
}

/// The first axis: in powers of two where its values mostly double.
fn along(answer: &GrowAnswer) -> Option<Axis> {
    let axis = answer.axes.first()?;
    let values = numbers(answer)?;
    let label = match axis.knob.as_str() {
        "context" => "context (tokens of a sequence)".to_owned(),
        "batch" => "batch (sequences)".to_owned(),
        other => other.to_owned(),
    };
    let wide = values.last()? / values.first()?.max(1.0) >= 8.0;
    let scale = if wide { Scale::Log2 } else { Scale::Linear };
    Some(Axis::of(label, Unit::Count).scaled(scale))
}

/// What the cache is, for captions.
const WHOLE: &str = "the cache is what these sequences take, in whole blocks";

/// A part of the need, with its name and colour.
type Picked = (&'static str, Tone, fn(&NeedAnswer) -> u64);

/// The parts of the need.
const PARTS: [Picked; 4] = [
    ("weights", Tone::Weights, |need| need.weights_bytes),
    ("activations", Tone::Activations, |need| need.activations.bytes),
    ("runtime", Tone::Runtime, |need| need.runtime.bytes),
    ("KV cache", Tone::Kv, |need| need.kv_bytes),
];

/// A point and the name of its bar.
type Named<'a> = (String, &'a PointAnswer);

/// The bars of a column's points: each with its name, and what it needs where it is not refused.
fn rows(answer: &GrowAnswer) -> Option<(Vec<Named<'_>>, Option<String>)> {
    let axis = answer.axes.first()?;
    let points = column(answer, telling_column(answer));
    let shown = spread(points.len(), MOST_BARS);
    let told = thinned(shown.len(), points.len(), "values");
    let named = shown.into_iter().map(|at| {
        let value = &axis.values[at];
        let name = if value.parse::<u64>().is_ok() { format!("{} {}", axis.knob, number(value)) } else { clean(value) };
        (name, &points[at])
    });
    Some((named.collect(), told))
}

/// Weights, activations, runtime and cache of each value, one bar a value.
fn bars(answer: &GrowAnswer) -> Option<Figure> {
    let at = telling_column(answer);
    let (named, told) = rows(answer)?;
    let planned: Vec<(f64, &NeedAnswer)> =
        named.iter().filter_map(|(_, point)| point.need.as_ref().map(|need| (0.0, need))).collect();
    let kept: Vec<&Picked> = PARTS.iter().filter(|(.., pick)| planned.iter().any(|(_, need)| pick(need) > 0)).collect();
    if planned.is_empty() {
        return None;
    }
    let row = |(name, point): &(String, &PointAnswer)| {
        let need = point.need.as_ref();
        let parts = need.map(|need| kept.iter().enumerate().map(|(at, (.., pick))| Part::new(at, pick(need) as f64)));
        let note = match need {
            None => Some("refused".to_owned()),
            Some(need) if need.fits == Some(false) => Some(format!("{}, does not fit", size(need.total.bytes))),
            Some(_) => None,
        };
        Bar { name: name.clone(), parts: parts.into_iter().flatten().collect(), note, limit: None }
    };
    let own = sentences([Some(WHOLE.to_owned()), refused(answer, column(answer, at)), told]);
    Some(Figure {
        name: "memory".to_owned(),
        title: format!("How does the memory change with {}?", answer.axes.first()?.knob),
        subtitle: subtitle(answer, &column_name(answer, at)),
        caption: caption(answer, &own),
        body: Body::Bars(Bars {
            axis: Axis::of(if answer.launch.is_some() { "memory per card" } else { "memory" }, Unit::Bytes),
            series: kept.iter().map(|(name, tone, _)| Series::new(*name, *tone)).collect(),
            rows: named.iter().map(row).collect(),
            limits: limits(&planned),
        }),
    })
}

/// The cache's part of all, one bar a value.
fn share_bars(answer: &GrowAnswer) -> Option<Figure> {
    let at = telling_column(answer);
    let (named, told) = rows(answer)?;
    let bar = |(name, point): &(String, &PointAnswer)| match &point.need {
        Some(need) => Bar { name: name.clone(), parts: vec![Part::new(0, need.kv_share)], note: None, limit: None },
        None => Bar { name: name.clone(), parts: Vec::new(), note: Some("refused".to_owned()), limit: None },
    };
    if named.len() < 2 || named.iter().all(|(_, point)| point.need.as_ref().is_none_or(|need| need.kv_bytes == 0)) {
        return None;
    }
    let own = sentences([Some(SHARE.to_owned()), refused(answer, column(answer, at)), told]);
    Some(Figure {
        name: "kv-share".to_owned(),
        title: "How much of the memory is KV cache?".to_owned(),
        subtitle: subtitle(answer, &column_name(answer, at)),
        caption: caption(answer, &own),
        body: Body::Bars(Bars {
            axis: Axis::of("KV cache of all", Unit::Share),
            series: vec![Series::new("KV cache", Tone::Kv)],
            rows: named.iter().map(bar).collect(),
            limits: Vec::new(),
        }),
    })
}

/// What the share is of, for captions.
const SHARE: &str = "the cache of these sequences over all that they need, whether it fits or not";

/// Weights, activations, runtime and cache upon one another.
fn areas(answer: &GrowAnswer) -> Option<Figure> {
    let all = numbers(answer)?;
    let at = telling_column(answer);
    let planned: Vec<(f64, &NeedAnswer)> = all
        .iter()
        .zip(column(answer, at))
        .filter_map(|(x, point)| point.need.as_ref().map(|need| (*x, need)))
        .collect();
    if planned.len() < 2 {
        return None;
    }
    let heights =
        |pick: fn(&NeedAnswer) -> u64| planned.iter().map(|(_, need)| pick(need) as f64).collect::<Vec<f64>>();
    let areas = PARTS.map(|(name, tone, pick)| (Series::new(name, tone), heights(pick)));
    let (first, last) = (planned.first()?.0, planned.last()?.0);
    let mut marks = Vec::new();
    if let Some(line) = answer.lines.get(at) {
        // Of a point of its own it is sought along another knob.
        let line = Some(line).filter(|line| line.along == answer.axes[0].knob);
        let full = line.and_then(|line| line.full_at).map(|at| ("full", at));
        let outgrown = line.and_then(|line| line.kv_outgrows_weights_at).map(|at| ("KV > weights", at));
        for (name, place) in [outgrown, full].into_iter().flatten() {
            let place = place as f64;
            if place >= first && place <= last {
                marks.push(Limit::new(format!("{name} at {}", count(place as u64)), place));
            }
        }
    }
    let name = column_name(answer, at);
    Some(Figure {
        name: "memory".to_owned(),
        title: format!("How does the memory grow with {}?", answer.axes.first()?.knob),
        subtitle: subtitle(answer, &name),
        caption: caption(answer, &sentences([Some(WHOLE.to_owned()), refused(answer, column(answer, at))])),
        body: Body::Areas(Areas {
            // Evenly divided, so that what grows with every token rises in a straight line and crosses where it is said to.
            x: Axis { scale: Scale::Linear, ..along(answer)? },
            y: Axis::of(if answer.launch.is_some() { "memory per card" } else { "memory" }, Unit::Bytes),
            xs: planned.iter().map(|(x, _)| *x).collect(),
            areas: areas.into_iter().filter(|(_, heights)| heights.iter().any(|height| *height > 0.0)).collect(),
            limits: limits(&planned),
            marks,
        }),
    })
}

/// The card's line, and the engine's where it allows itself less.
fn limits(planned: &[(f64, &NeedAnswer)]) -> Vec<Limit> {
    let Some((_, need)) = planned.last() else { return Vec::new() };
    let (Some(limit), Some(card)) = (need.limit_bytes, need.card_bytes) else { return Vec::new() };
    let mut found = vec![Limit::new("card", card as f64)];
    if (limit as f64) < card as f64 * 0.99 {
        found.push(Limit::new("engine's share", limit as f64));
    }
    found
}

/// A map of totals over two knobs with what fits.
fn heat(answer: &GrowAnswer) -> Option<Figure> {
    let (x, y) = (answer.axes.first()?, answer.axes.get(1)?);
    let rows = spread(x.values.len(), MOST_CELLS.0);
    let columns = spread(y.values.len(), MOST_CELLS.1);
    let own = sentences([
        Some("GiB on the fullest card: weights, activations, runtime and the cache of these sequences".to_owned()),
        thinned(rows.len(), x.values.len(), &format!("values of {}", x.knob)),
        thinned(columns.len(), y.values.len(), &format!("values of {}", y.knob)),
    ]);
    let cells = rows.iter().rev().map(|row| {
        let cell = |col: &usize| column(answer, *col).get(*row).map_or_else(empty, cell);
        columns.iter().map(cell).collect()
    });
    Some(Figure {
        name: "heat".to_owned(),
        title: format!("Which {} and {} fit?", x.knob, y.knob),
        subtitle: subtitle(answer, ""),
        caption: caption(answer, &own),
        body: Body::Heat(Heat {
            x: if y.knob == "batch" { "batch (sequences)".to_owned() } else { y.knob.clone() },
            columns: columns.iter().map(|at| number(&y.values[*at])).collect(),
            y: if x.knob == "context" { "context (tokens)".to_owned() } else { x.knob.clone() },
            rows: rows.iter().rev().map(|at| number(&x.values[*at])).collect(),
            legend: "memory, GiB".to_owned(),
            cells: cells.collect(),
            infeasible: "does not fit".to_owned(),
        }),
    })
}

/// One cell: as dark as the part of the limit that is taken.
fn cell(point: &PointAnswer) -> Cell {
    let Some(need) = &point.need else { return empty() };
    let total = need.total.bytes as f64;
    let shade = need.limit_bytes.map(|limit| (total / (limit as f64).max(1.0)).clamp(0.0, 1.0));
    Cell {
        shade: Some(shade.unwrap_or(need.kv_share)),
        text: three(total / 1_073_741_824.0),
        feasible: need.fits.unwrap_or(true),
    }
}

fn empty() -> Cell {
    Cell { shade: None, text: "—".to_owned(), feasible: false }
}

/// The cache's part of all, a line for each column.
fn share(answer: &GrowAnswer) -> Option<Figure> {
    let all = numbers(answer)?;
    if all.len() < 2 {
        return None;
    }
    let shown = spread(column_count(answer), MOST_LINES);
    let told = answer
        .axes
        .get(1)
        .and_then(|axis| thinned(shown.len(), axis.values.len(), &format!("values of {}", axis.knob)));
    let lines = shown.into_iter().enumerate().map(|(nth, at)| {
        let name = column_name(answer, at);
        let points = all.iter().zip(column(answer, at));
        let tone = if name.is_empty() { Tone::Kv } else { Tone::Nth(nth) };
        Line {
            series: Series::new(if name.is_empty() { "KV cache".to_owned() } else { name }, tone),
            points: points.filter_map(|(x, point)| Some((*x, point.need.as_ref()?.kv_share))).collect(),
            band: Vec::new(),
            stroke: Stroke::Solid,
        }
    });
    let lines: Vec<Line> = lines.filter(|line| line.points.len() > 1).collect();
    if lines.is_empty() {
        return None;
    }
    Some(Figure {
        name: "kv-share".to_owned(),
        title: "How much of the memory is KV cache?".to_owned(),
        subtitle: subtitle(answer, ""),
        caption: caption(answer, &sentences([Some(SHARE.to_owned()), told])),
        body: Body::Plot(Plot {
            x: along(answer)?,
            y: Axis::of("KV cache of all", Unit::Share),
            lines,
            dots: Vec::new(),
            limits: Vec::new(),
            marks: Vec::new(),
        }),
    })
}

/// A bar of how far something goes.
fn bar(name: String, reach: &ReachAnswer) -> Bar {
    let interval = match (reach.low, reach.high) {
        (Some(low), Some(high)) if low < high => format!(" ({} … {})", count(low), count(high)),
        _ => String::new(),
    };
    let model = match (&reach.refused, reach.bound.as_str()) {
        (Some(_), _) => " (refused)",
        (None, "model") => ", the model's limit",
        (None, _) => "",
    };
    Bar {
        name,
        parts: vec![Part::new(0, reach.most.unwrap_or(0) as f64)],
        note: Some(format!("{}{interval}{model}", reach.most.map_or_else(|| "—".to_owned(), count))),
        limit: None,
    }
}

/// What intervals are of, for captions.
const INTERVAL: &str = "the interval is that of what the engine leaves for the cache";

/// How far each column or point goes.
fn reach(answer: &GrowAnswer, along: &str, reaches: &[&ReachAnswer]) -> Option<Figure> {
    if reaches.iter().all(|reach| reach.most.is_none_or(|most| most == 0)) {
        return None;
    }
    let named = |reach: &ReachAnswer| {
        let at: Vec<String> = reach.at.iter().map(|at| format!("{} {}", at.knob, number(&at.value))).collect();
        if at.is_empty() { answer.model.id.clone() } else { at.join(", ") }
    };
    let shown = spread(reaches.len(), MOST_BARS);
    let told = thinned(shown.len(), reaches.len(), "values");
    let rows = shown.into_iter().map(|at| bar(named(reaches[at]), reaches[at]));
    let (name, title, label) = if along == "context" {
        ("longest-context", "How long can sequences be?", "context (tokens of a sequence)")
    } else {
        ("largest-batch", "How many sequences fit at once?", "batch (sequences)")
    };
    Some(Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        subtitle: subtitle(answer, ""),
        caption: caption(answer, &sentences([Some(INTERVAL.to_owned()), told])),
        body: Body::Bars(Bars {
            axis: Axis::of(label, Unit::Count),
            series: vec![Series::new(if along == "context" { "longest context" } else { "largest batch" }, Tone::Kv)],
            rows: rows.collect(),
            limits: Vec::new(),
        }),
    })
}

/// The longest context on other cards, for the first batch.
fn cards(answer: &GrowAnswer) -> Option<Figure> {
    let rows: Vec<Bar> =
        answer.gpus.iter().take(MOST_BARS).filter_map(|row| Some(bar(row.gpu.clone(), row.reaches.first()?))).collect();
    if rows.is_empty() {
        return None;
    }
    let told = thinned(rows.len(), answer.gpus.len(), "cards");
    let batch = answer.gpus.iter().find_map(|row| row.reaches.first()?.at.first().map(|at| at.value.clone()));
    let batch = batch.map(|batch| format!("batch {}", number(&batch))).unwrap_or_default();
    Some(Figure {
        name: "by-gpu".to_owned(),
        title: "How long can sequences be on which card?".to_owned(),
        subtitle: format!("{}, {batch}", answer.model.id),
        caption: caption(answer, &sentences([Some("each card by itself, the launch as it is".to_owned()), told])),
        body: Body::Bars(Bars {
            axis: Axis::of("context (tokens of a sequence)", Unit::Count),
            series: vec![Series::new("longest context", Tone::Kv)],
            rows,
            limits: Vec::new(),
        }),
    })
}

/// Places in a list, evenly spread with both ends, at most so many.
fn spread(len: usize, most: usize) -> Vec<usize> {
    if len <= most {
        return (0..len).collect();
    }
    (0..most).map(|at| at * (len - 1) / (most - 1).max(1)).collect()
}
