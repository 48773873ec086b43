//! How near to the card's roofs does it come, where does the time go, and what does a user's speed cost the others?

use plimsoll_api::RooflineAnswer;
use plimsoll_api::roofline::answer::{OperatorsAnswer, PointAnswer};

use super::{caption, drawable, every, positive, seconds};
use crate::figure::{Axis, Bar, Bars, Body, Dot, Figure, Limit, Line, Part, Plot, Scale, Series, Stroke, Tone, Unit};
use crate::number::{count, three};
use crate::page::clean;
use crate::roofline::{phases, place, rate};

/// Bars at most in one figure.
const MOST_BARS: usize = 24;
/// Operators at most in one figure.
const MOST_DOTS: usize = 48;
/// Lines at most in one figure.
const MOST_LINES: usize = 6;

/// Returns the figures of a roofline.
pub(crate) fn roofline(answer: &RooflineAnswer) -> Vec<Figure> {
    let phases = phases(answer);
    let main = answer.operators.first().map(|shown| shown.phase.as_ref());
    let rest = phases.iter().copied().filter(|phase| Some(*phase) != main);
    let mut figures: Vec<Figure> = Vec::new();
    figures.extend(main.and_then(|phase| roofs(answer, phase, "roofline")));
    // The first word is the phase that the answer shows first: `time`, then `time-prefill`.
    let ordered: Vec<&str> = phases.iter().copied().filter(|phase| Some(*phase) == main).chain(rest).collect();
    for (at, phase) in ordered.iter().enumerate() {
        figures.extend(time(answer, phase, &named("time", at, phase)));
    }
    figures.extend(pareto(answer));
    for (at, phase) in ordered.iter().enumerate().skip(usize::from(main.is_some())) {
        figures.extend(roofs(answer, phase, &named("roofline", at.max(1), phase)));
    }
    figures
}

fn named(name: &str, at: usize, phase: &str) -> String {
    if at == 0 { name.to_owned() } else { format!("{name}-{phase}") }
}

fn subtitle(answer: &RooflineAnswer) -> String {
    format!("{} · {}", clean(&answer.model.id), place(answer))
}

/// The colour of a family of operators, the same in every figure.
fn tone(family: &str) -> Tone {
    const FAMILIES: [&str; 8] =
        ["gemm", "attention", "moe", "recurrent", "stream", "collective", "overhead", "pipeline"];
    Tone::Nth(FAMILIES.iter().position(|known| *known == family).unwrap_or(FAMILIES.len()))
}

/// A family of operators in words.
fn words(family: &str) -> String {
    match family {
        "gemm" => "matrix products".to_owned(),
        "moe" => "experts".to_owned(),
        "recurrent" => "recurrent mixers".to_owned(),
        "stream" => "norms, copies, sampling".to_owned(),
        "collective" => "messages between cards".to_owned(),
        "overhead" => "the engine's own".to_owned(),
        "pipeline" => "waiting for other stages".to_owned(),
        other => clean(other),
    }
}

/// The roofline of a phase: roofs, operators of one step, whole steps by batch.
fn roofs(answer: &RooflineAnswer, phase: &str, name: &str) -> Option<Figure> {
    let shown = answer.operators.iter().find(|shown| shown.phase == phase);
    let mut dots: Vec<Dot> = shown.map(operators).unwrap_or_default();
    let context = shown.map_or_else(|| first_context(answer, phase), |shown| Some(shown.context))?;
    let steps: Vec<&PointAnswer> =
        answer.points.iter().filter(|point| point.phase == phase && point.context == context).collect();
    let path: Vec<(f64, f64)> = steps
        .iter()
        .filter_map(|point| Some((positive(point.intensity_flops_per_byte)?, positive(point.flops_per_s)?)))
        .collect();
    let whole = Series::new(format!("whole steps of {phase}, by batch"), Tone::Nth(8));
    let labelled = every(steps.len(), 6);
    dots.extend(steps.iter().enumerate().filter_map(|(at, point)| {
        let (x, y) = (positive(point.intensity_flops_per_byte)?, positive(point.flops_per_s)?);
        let label = at % labelled == 0 || at + 1 == steps.len();
        let label = if label { format!("batch {}", point.batch) } else { String::new() };
        Some(Dot { x, y, series: whole.clone(), label })
    }));
    if dots.is_empty() {
        return None;
    }
    let (lines, marks) = roof_lines(answer, &dots)?;
    let lines = lines.into_iter().chain((path.len() > 1).then(|| Line {
        series: whole,
        points: path,
        band: Vec::new(),
        stroke: Stroke::Dashed,
    }));
    let what = match shown {
        Some(shown) => format!(
            "Dots are predicted: the operators of the first step of {phase} at batch {} and {} tokens, and whole steps",
            shown.batch,
            count(u64::from(shown.context))
        ),
        None => "Dots are predicted: whole steps".to_owned(),
    };
    let how = format!(
        "{what} at {} tokens. A dot under the slope waits for memory, one under a flat roof for \
         arithmetic. What computes nothing (copies, messages) has no dot.",
        count(u64::from(context))
    );
    Some(Figure {
        name: name.to_owned(),
        title: format!("What holds {phase} back: memory or arithmetic?"),
        subtitle: subtitle(answer),
        caption: caption(&how, &answer.assumptions),
        body: Body::Plot(Plot {
            x: Axis::of("arithmetic intensity (FLOP per byte)", Unit::Plain).scaled(Scale::Log10),
            y: Axis::of("reached (FLOP/s, one card)", Unit::Plain).scaled(Scale::Log10),
            lines: lines.collect(),
            dots,
            limits: Vec::new(),
            marks,
        }),
    })
}

fn first_context(answer: &RooflineAnswer, phase: &str) -> Option<u32> {
    answer.points.iter().find(|point| point.phase == phase).map(|point| point.context)
}

/// Operators that compute, those that take longest first.
fn operators(shown: &OperatorsAnswer) -> Vec<Dot> {
    let mut rows: Vec<_> = shown.rows.iter().collect();
    rows.sort_by(|a, b| b.step_us.total_cmp(&a.step_us));
    let dot = |row: &&plimsoll_api::roofline::answer::OperatorAnswer| {
        Some(Dot {
            x: positive(row.intensity_flops_per_byte?)?,
            y: positive(row.flops_per_s?)?,
            series: Series::new(words(&row.family), tone(&row.family)),
            label: clean(&row.name),
        })
    };
    rows.iter().filter_map(dot).take(MOST_DOTS).collect()
}

/// The slope of the memory and the flat roofs, and where they meet.
fn roof_lines(answer: &RooflineAnswer, dots: &[Dot]) -> Option<(Vec<Line>, Vec<Limit>)> {
    let bandwidth = positive(answer.card.bandwidth_bytes_per_s)?;
    let peaks: Vec<(String, f64)> = merged(answer);
    let ridges = peaks.iter().map(|(_, peak)| peak / bandwidth);
    let xs = dots.iter().map(|dot| dot.x).chain(ridges.clone());
    let (least, most) = (xs.clone().fold(f64::INFINITY, f64::min), xs.fold(0.0, f64::max));
    let (from, to) = (positive(least / 3.0)?, positive(most * 6.0)?);
    let line = |name: String, at: usize, points: Vec<(f64, f64)>, stroke| Line {
        series: Series::new(name, Tone::Nth(9 + at)),
        points,
        band: Vec::new(),
        stroke,
    };
    let top = ridges.fold(0.0, f64::max);
    let end = if top > 0.0 { top } else { to };
    let mut lines = vec![line(
        format!("memory {}", rate(bandwidth, "B/s")),
        0,
        vec![(from, from * bandwidth), (end, end * bandwidth)],
        Stroke::Solid,
    )];
    let mut marks = Vec::new();
    for (at, (name, peak)) in peaks.iter().enumerate() {
        let ridge = peak / bandwidth;
        let stroke = if at == 0 { Stroke::Solid } else { Stroke::Dashed };
        lines.push(line(
            format!("{name} {}", rate(*peak, "FLOP/s")),
            1 + at,
            vec![(ridge, *peak), (to, *peak)],
            stroke,
        ));
        if at == 0 {
            marks.push(Limit::new(format!("ridge {} FLOP/B", three(ridge)), ridge));
        }
    }
    Some((lines, marks))
}

/// The card's peaks, equal ones under one name.
fn merged(answer: &RooflineAnswer) -> Vec<(String, f64)> {
    let mut peaks: Vec<(String, f64)> = Vec::new();
    for peak in &answer.card.peaks {
        let Some(height) = positive(peak.flops_per_s) else { continue };
        match peaks.iter_mut().find(|(_, known)| (*known / height - 1.0).abs() < 1e-9) {
            Some((name, _)) => name.push_str(&format!(", {}", clean(&peak.arithmetic))),
            None => peaks.push((clean(&peak.arithmetic), height)),
        }
    }
    peaks
}

/// Predicted time of a step by family, batch by batch.
fn time(answer: &RooflineAnswer, phase: &str, name: &str) -> Option<Figure> {
    let points: Vec<&PointAnswer> =
        answer.points.iter().filter(|point| point.phase == phase && drawable(point.predicted_ms).is_some()).collect();
    let step = every(points.len(), MOST_BARS);
    let points: Vec<&PointAnswer> = points.into_iter().step_by(step).collect();
    let contexts = points.iter().any(|point| point.context != points[0].context);
    let mut series: Vec<(&str, Series)> = Vec::new();
    for share in points.iter().flat_map(|point| &point.families) {
        if !series.iter().any(|(known, _)| *known == share.name) {
            series.push((share.name.as_ref(), Series::new(words(&share.name), tone(&share.name))));
        }
    }
    let bar = |point: &&PointAnswer| {
        // A prefill of many steps is told by its mean step, so that batches can stand side by side.
        let steps = point.steps.max(1) as f64;
        let part = |share: &plimsoll_api::roofline::answer::ShareAnswer| {
            let at = series.iter().position(|(known, _)| *known == share.name)?;
            drawable(share.ms).filter(|ms| *ms >= 0.0).map(|ms| Part::new(at, ms / 1e3 / steps))
        };
        let end = |ms: f64| seconds(ms / 1e3 / steps);
        Bar {
            name: match contexts {
                true => format!("{} × {}", point.batch, count(u64::from(point.context))),
                false => format!("batch {}", point.batch),
            },
            parts: point.families.iter().filter_map(part).collect(),
            note: Some(format!("{} ({} … {})", end(point.predicted_ms), end(point.low_ms), end(point.high_ms))),
            limit: None,
        }
    };
    let rows: Vec<Bar> = points.iter().map(bar).filter(|bar| !bar.parts.is_empty()).collect();
    if rows.is_empty() {
        return None;
    }
    let mut how = match points.iter().any(|point| point.steps > 1) {
        true => {
            "Predicted time of a step on the busiest rank; where prompts take several steps, their mean.".to_owned()
        }
        false => "Predicted time of a step on the busiest rank.".to_owned(),
    };
    how.push_str(" In brackets: what eight of ten measured ones lie between.");
    how.push_str(&match contexts {
        true => " Rows: batch × tokens of each sequence.".to_owned(),
        false => format!(" {} tokens a sequence.", count(u64::from(points[0].context))),
    });
    if step > 1 {
        how.push_str(" Not every batch and context is shown.");
    }
    Some(Figure {
        name: name.to_owned(),
        title: format!("Where does the time of a step of {phase} go?"),
        subtitle: subtitle(answer),
        caption: caption(&how, &answer.assumptions),
        body: Body::Bars(Bars {
            axis: Axis::of("predicted time of a step", Unit::Seconds),
            series: series.into_iter().map(|(_, series)| series).collect(),
            rows,
            limits: Vec::new(),
        }),
    })
}

/// What all users together get against what each of them does.
fn pareto(answer: &RooflineAnswer) -> Option<Figure> {
    let cards = f64::from(answer.gpu.count.max(1));
    let mut contexts: Vec<u32> = Vec::new();
    for point in answer.points.iter().filter(|point| point.phase == "decode") {
        if !contexts.contains(&point.context) {
            contexts.push(point.context);
        }
    }
    let kept: Vec<u32> = contexts.iter().copied().step_by(every(contexts.len(), MOST_LINES)).collect();
    let (mut lines, mut dots) = (Vec::new(), Vec::new());
    for (at, context) in kept.iter().enumerate() {
        let of: Vec<&PointAnswer> =
            answer.points.iter().filter(|point| point.phase == "decode" && point.context == *context).collect();
        let series = Series::new(format!("{} tokens", count(u64::from(*context))), Tone::Nth(at));
        // The same throughput in a shorter or longer step: both coordinates go with it.
        let path = |ms: fn(&PointAnswer) -> f64| -> Vec<(f64, f64)> {
            let place = |point: &&PointAnswer| {
                let user = positive(1e3 / ms(point))?;
                let all = positive(point.tokens_per_s * point.predicted_ms / ms(point) / cards)?;
                Some((user, all))
            };
            of.iter().filter_map(place).collect()
        };
        let main = path(|point| point.predicted_ms);
        if main.len() > 1 {
            lines.push(Line { series: series.clone(), points: main, band: Vec::new(), stroke: Stroke::Solid });
            if kept.len() == 1 {
                for (name, points) in
                    [("p90 of times", path(|point| point.high_ms)), ("p10 of times", path(|point| point.low_ms))]
                {
                    lines.push(Line {
                        series: Series::new(name, Tone::Faint),
                        points,
                        band: Vec::new(),
                        stroke: Stroke::Dashed,
                    });
                }
            }
        }
        let labelled = every(of.len(), 8);
        dots.extend(of.iter().enumerate().filter_map(|(at, point)| {
            let fits = point.sequences_that_fit.is_none_or(|fits| u64::from(point.batch) <= fits);
            let label = at % labelled == 0 || at + 1 == of.len();
            Some(Dot {
                x: positive(1e3 / point.predicted_ms)?,
                y: positive(point.tokens_per_s / cards)?,
                series: if fits { series.clone() } else { Series::new("more than the KV cache holds", Tone::Bad) },
                label: if label { format!("batch {}", point.batch) } else { String::new() },
            })
        }));
    }
    if dots.len() < 2 {
        return None;
    }
    let how = "Each dot is a batch that decodes without interruption: to the right every user reads faster, upwards the \
               card gives more. Dashed: with steps as slow and as fast as the tenth part of measured ones.";
    let how = if kept.len() == 1 { how } else { how.split(" Dashed").next().unwrap_or(how) };
    Some(Figure {
        name: "pareto".to_owned(),
        title: "What does a user's speed cost in throughput?".to_owned(),
        subtitle: subtitle(answer),
        caption: caption(how, &answer.assumptions),
        body: Body::Plot(Plot {
            x: Axis::of("tokens a second for each user", Unit::Plain),
            y: Axis::of("tokens a second from each GPU", Unit::Plain),
            lines,
            dots,
            limits: Vec::new(),
            marks: Vec::new(),
        }),
    })
}
