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
                       (100%)."
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
    // What printing rounds away is forgiven, as it is in the table.
    let (low, high) = match item.inside {
        true => (item.low.min(item.logged), item.high.max(item.logged)),
        false => (item.low, item.high),
    };
    let share = |number: f64| (number / item.logged).clamp(0.0, FAR);
    let unit = if item.unit == "bytes" { Unit::Bytes } else { Unit::Count };
    let place = match item.places.as_slice() {
        [one] => format!(", {one}"),
        _ => String::new(),
    };
    Range {
        name: cut(&clean(&format!("{}{place}", words(&item.item))), 40),
        predicted: (share(low), share(item.planned), share(high)),
        seen: Some(1.0),
        written: Some((written(item.planned, unit), written(item.logged, unit))),
    }
}

/// An item in words; what has none keeps its name.
fn words(item: &str) -> String {
    match item {
        "total" => "the whole card",
        "limit" => "the engine's limit",
        "activation" => "activations",
        "non_torch" => "outside the allocator",
        "comms" => "communication",
        "runtime.buffers" => "persistent buffers",
        "runtime.decoder" => "sampling buffers",
        "graphs" => "CUDA graphs",
        "kv" => "KV cache",
        "kv.draft" => "draft's KV cache",
        "kv_budget" => "room for the KV cache",
        "kv_tokens" => "tokens in the cache",
        "kv_tokens_window" => "tokens in the window's cache",
        "kv_blocks" => "blocks of the cache",
        "block_tokens" => "tokens of a block",
        "state" => "recurrent states",
        "concurrency" => "longest requests at once",
        "max_running_requests" => "requests at once",
        "context_length" => "longest sequence",
        "compute_buffer" => "compute buffer",
        "output_buffer" => "output buffer",
        "adapter_buffer" => "adapters",
        "projector" => "vision projector",
        "layers_offloaded" => "layers on GPUs",
        other => return other.replace(['_', '.'], " "),
    }
    .to_owned()
}
