//! What do the numbers say? Sentences, each made of figures of the answer.

use plimsoll_cost::Hardware;

use super::answer::{CrossoverAnswer, PointAnswer};
use super::words::{percent, plural, scaled, three, time};

/// Says what the points and crossovers amount to. `ridge` is that of the arithmetic that most operations run in.
pub(super) fn findings(
    card: &Hardware,
    ridge: f64,
    points: &[PointAnswer],
    crossovers: &[CrossoverAnswer],
) -> Vec<String> {
    let mut found = Vec::new();
    for phase in ["decode", "prefill"] {
        let of: Vec<&PointAnswer> = points.iter().filter(|point| point.phase == phase).collect();
        let Some(first) = of.first().filter(|first| first.flops > 0.0) else { continue };
        found.push(intensity(first, ridge));
        if let Some(last) = of.last().filter(|last| last.batch != first.batch || last.context != first.context) {
            found.push(growth(first, last));
        }
        found.extend(largest_part(of.last().copied().unwrap_or(first)));
    }
    found.extend(reachable(points, crossovers));
    found.extend(link(card, points));
    found
}

/// What a point computes per byte, against what the card could.
fn intensity(point: &PointAnswer, ridge: f64) -> String {
    let what = match point.phase.as_ref() {
        "decode" => format!("decoding {}", sequences(point)),
        _ => format!("prefilling {}", prompts(point)),
    };
    let at = point.intensity_flops_per_byte;
    let (intensity, wanted) = (three(at), three(ridge));
    let idle = match point.roofline_bound.as_ref() {
        "memory" => format!(
            "below the {wanted} at which the card's arithmetic is busy: memory decides, and at best {} of the peak is used",
            percent(at / ridge)
        ),
        _ => format!("above the {wanted} at which the roofline bends: arithmetic decides"),
    };
    format!("{what} does {intensity} FLOP for each byte moved, {idle}")
}

fn sequences(point: &PointAnswer) -> String {
    let each = if point.batch == 1 { "" } else { " each" };
    format!(
        "{} with {}{each} in the cache",
        plural(u64::from(point.batch), "sequence"),
        plural(u64::from(point.context), "token")
    )
}

fn prompts(point: &PointAnswer) -> String {
    format!("{} of {}", plural(u64::from(point.batch), "prompt"), plural(u64::from(point.context), "token"))
}

/// From the first point of a phase to its last.
fn growth(first: &PointAnswer, last: &PointAnswer) -> String {
    let noun = if first.phase == "prefill" { "prompt" } else { "sequence" };
    let place = |point: &PointAnswer| match (first.batch == last.batch, first.context == last.context) {
        (true, _) => plural(u64::from(point.context), "token"),
        (false, true) => plural(u64::from(point.batch), noun),
        (false, false) => {
            format!("{} of {}", plural(u64::from(point.batch), noun), plural(u64::from(point.context), "token"))
        }
    };
    let bounds = if first.bound == last.bound {
        format!("still bound by {}", named(&last.bound))
    } else {
        format!("bound by {} instead of {}", named(&last.bound), named(&first.bound))
    };
    format!(
        "{}: from {} to {} the work per byte goes from {} to {} FLOP, {bounds}; predicted throughput goes from {} to {} \
         tokens/s",
        first.phase,
        place(first),
        place(last),
        three(first.intensity_flops_per_byte),
        three(last.intensity_flops_per_byte),
        three(first.tokens_per_s),
        three(last.tokens_per_s)
    )
}

fn named(bound: &str) -> &str {
    match bound {
        "compute" => "arithmetic",
        "link" => "the link",
        other => other,
    }
}

/// What takes most of a point's time, and how far the whole is from ideal.
fn largest_part(point: &PointAnswer) -> Option<String> {
    let most = point.families.iter().max_by(|a, b| a.share.total_cmp(&b.share))?;
    let place = match point.phase.as_ref() {
        "decode" => format!("decoding {}", sequences(point)),
        _ => format!("prefilling {}", prompts(point)),
    };
    let (predicted, over) = (time(point.predicted_ms / 1e3), three(point.predicted_ms / point.ideal_ms));
    (point.ideal_ms > 0.0).then(|| {
        format!(
            "{place} is predicted to take {predicted}, {over} × the ideal; {} takes {} of it ({})",
            most.name,
            if most.share > 0.5 { "most" } else { "the largest part" },
            percent(most.share)
        )
    })
}

/// Whether the cache can hold the batch at which products become compute-bound.
fn reachable(points: &[PointAnswer], crossovers: &[CrossoverAnswer]) -> Option<String> {
    let turn = crossovers.iter().find(|turn| turn.what == "products_compute_bound" && turn.phase == "decode")?;
    let from = turn.from?;
    let fits = points.iter().find(|point| point.phase == "decode" && point.context == turn.at)?.sequences_that_fit?;
    let each = plural(u64::from(turn.at), "token");
    let (batch, holds) = (plural(from, "sequence"), plural(fits, "such sequence"));
    Some(if fits >= from {
        format!(
            "products are bound by arithmetic from {batch} on; the cache holds {holds} of {each}, so that is in reach"
        )
    } else {
        format!(
            "products would be bound by arithmetic from {batch} on, but the cache holds {holds} of {each}: decoding at \
             this length stays bound by memory"
        )
    })
}

/// What collectives take.
fn link(card: &Hardware, points: &[PointAnswer]) -> Option<String> {
    let share = |point: &PointAnswer| {
        point.families.iter().find(|part| part.name == "collective").map_or(0.0, |part| part.share)
    };
    let most = points.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
    (share(most) > 0.0).then(|| {
        let steps = if most.steps > 1 { format!("{} steps", most.steps) } else { "a step".to_owned() };
        format!(
            "messages between cards ({} in {steps} of {} at batch {}, over {}) take up to {} of the time",
            scaled(most.sent_bytes, "B"),
            most.phase,
            most.batch,
            card.link_name,
            percent(share(most))
        )
    })
}
