//! Was the plan right? Each item's planned interval, as a part of what the engine logged.

use plimsoll_api::ReconcileAnswer;
use plimsoll_api::reconcile::answer::ItemAnswer;

use super::{drawable, written};
use crate::figure::{Axis, Body, Figure, Range, Ranges, Unit};
use crate::page::{clean, cut};

/// Rows at most.
const MOST: usize = 24;
/// Beyond so many times what was logged an end of an interval is cut.
const FAR: f64 = 4.0;

/// Returns the figures of a log beside its plan.
pub(crate) fn reconcile(answer: &ReconcileAnswer) -> Vec<Figure> {
    items(answer).into_iter().collect()
}

fn items(answer: &ReconcileAnswer) -> Option<Figure> {
    let shown: Vec<&ItemAnswer> = answer
        .items
        .iter()
        .filter(|item| {
            [item.logged, item.planned, item.low, item.high].iter().all(|number| drawable(*number).is_some())
        })
        .filter(|item| item.logged > 0.0)
        .collect();
    let rows: Vec<Range> = shown.iter().take(MOST).map(|item| row(item)).collect();
    if rows.is_empty() {
        return None;
    }
    let inside = shown.iter().filter(|item| item.inside).count();
    let mut caption =
        "Planned, with the interval that holds it in nine of ten launches, as a part of what the engine logged \
                       (100%, and behind each name)."
            .to_owned();
    if shown.iter().any(|item| item.high > FAR * item.logged || item.planned > FAR * item.logged) {
        caption.push_str(&format!(" What lies beyond {:.0}% is drawn there.", FAR * 100.0));
    }
    if shown.len() > MOST {
        caption.push_str(&format!(" {} more items are in the table.", shown.len() - MOST));
    }
    let gpu = answer.gpu.used.as_deref().or(answer.gpu.logged.as_deref()).unwrap_or("an unknown card");
    let model = answer.model.used.as_deref().or(answer.model.logged.as_deref()).unwrap_or("an unknown model");
    let version = answer.engine.version.as_deref().or(answer.engine.logged.as_deref()).unwrap_or_default();
    Some(Figure {
        name: "items".to_owned(),
        title: format!("Was the plan right? {inside} of {} items lie in their interval", shown.len()),
        subtitle: clean(&format!("{model} · {} {version} on {gpu} · {}", answer.engine.name, answer.log.name)),
        caption,
        body: Body::Ranges(Ranges {
            axis: Axis::of("planned, of what was logged", Unit::Share),
            predicted: "planned".to_owned(),
            seen: "logged".to_owned(),
            rows,
        }),
    })
}

fn row(item: &ItemAnswer) -> Range {
    let share = |number: f64| (number / item.logged).clamp(0.0, FAR);
    let unit = if item.unit == "bytes" { Unit::Bytes } else { Unit::Count };
    let place = match item.places.as_slice() {
        [one] => format!(", {one}"),
        _ => String::new(),
    };
    Range {
        name: format!("{} ({})", cut(&clean(&format!("{}{place}", item.item)), 30), written(item.logged, unit)),
        predicted: (share(item.low), share(item.planned), share(item.high)),
        seen: Some(1.0),
    }
}
