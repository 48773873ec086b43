//! How fast can it go, for an issue or a spreadsheet?

use plimsoll_api::RooflineAnswer;
use plimsoll_api::roofline::answer::{OperatorAnswer, PointAnswer};

use crate::csv;
use crate::number::three;
use crate::page::{clean, markdown_row, markdown_rule};
use crate::plan::model_words;
use crate::roofline::{cells, heads, names, operators_title, phases, place, rate, share, unit};
use crate::roofline_what_if::tables;

/// Writes a roofline as Markdown.
pub fn roofline_markdown(answer: &RooflineAnswer) -> String {
    let mut out = format!("### {}\n\n{}\n\n", model_words(&answer.model), clean(&place(answer)));
    out.push_str(&bullets("", &answer.findings));
    out.push_str(&markdown_row(&["one card", "at best", "FLOP/byte"]));
    out.push_str(&markdown_rule(&[false, true, true]));
    for peak in &answer.card.peaks {
        let (best, ridge) = (rate(peak.flops_per_s, "FLOP/s"), three(peak.ridge_flops_per_byte));
        out.push_str(&markdown_row(&[peak.arithmetic.as_ref(), &best, &ridge]));
    }
    out.push_str(&markdown_row(&["memory", &rate(answer.card.bandwidth_bytes_per_s, "B/s"), ""]));
    if let Some(link) = answer.card.link_bytes_per_s {
        out.push_str(&markdown_row(&[answer.card.link.as_str(), &rate(link, "B/s"), ""]));
    }
    for phase in phases(answer) {
        let (unit, scale) = unit(answer, phase);
        let (heads, numeric) = heads(phase, unit);
        out.push_str(&format!("\n**{phase}**\n\n"));
        let parts = names(answer, phase, |point| &point.families);
        let bases = names(answer, phase, |point| &point.bases);
        let all: Vec<&str> = heads.iter().chain(&parts).chain(&bases).copied().collect();
        out.push_str(&markdown_row(&all));
        let numeric: Vec<bool> = numeric.into_iter().chain(parts.iter().chain(&bases).map(|_| true)).collect();
        out.push_str(&markdown_rule(&numeric));
        for point in answer.points.iter().filter(|point| point.phase == phase) {
            let mut row = cells(point, scale);
            row.extend(parts.iter().map(|name| share(&point.families, name)));
            row.extend(bases.iter().map(|name| share(&point.bases, name)));
            out.push_str(&markdown_row(&row));
        }
    }
    let turns: Vec<String> = answer.crossovers.iter().map(|turn| turn.words.clone()).collect();
    out.push_str(&bullets("Where the bound changes, at the roofs", &turns));
    out.push_str(&bullets("Memory hierarchy", &answer.hierarchy.words));
    for operators in &answer.operators {
        out.push_str(&format!("\n**{}**\n\n", operators_title(operators)));
        out.push_str(&markdown_row(&OPERATOR));
        out.push_str(&markdown_rule(&[false, true, false, false, true, true, true, true, false, true, true, false]));
        operators.rows.iter().for_each(|operator| out.push_str(&markdown_row(&operator_cells(operator))));
    }
    for table in tables(answer) {
        out.push_str(&format!(
            "\n**{}**\n\n{}{}",
            clean(&table.title),
            markdown_row(&table.heads),
            markdown_rule(&table.numeric)
        ));
        table.rows.iter().for_each(|row| out.push_str(&markdown_row(row)));
        out.push_str(&format!("\n{}\n", table.key));
    }
    out.push_str(&bullets("Assumptions", &answer.assumptions));
    out.push_str(&bullets("Notes", &answer.notes));
    out
}

const OPERATOR: [&str; 12] = [
    "operator",
    "runs",
    "shape",
    "format",
    "FLOP",
    "read",
    "written",
    "FLOP/byte",
    "bound",
    "ideal µs",
    "predicted µs",
    "rests on",
];

fn operator_cells(operator: &OperatorAnswer) -> Vec<String> {
    vec![
        operator.name.clone(),
        three(operator.runs),
        operator.shape.clone(),
        operator.format.clone(),
        rate(operator.flops, ""),
        rate(operator.read_bytes, "B"),
        rate(operator.written_bytes, "B"),
        operator.intensity_flops_per_byte.map_or_else(String::new, three),
        operator.bound.to_string(),
        three(operator.ideal_us),
        three(operator.predicted_us),
        operator.basis.to_string(),
    ]
}

fn bullets(title: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|item| format!("- {}\n", clean(item))).collect();
    if title.is_empty() { format!("{items}\n") } else { format!("\n{title}:\n\n{items}") }
}

/// Writes the points of a roofline as comma-separated values, one a line, in full; with several points' operators asked
/// for, the operators instead.
pub fn roofline_csv(answer: &RooflineAnswer) -> String {
    if answer.operators.len() > 1 { operators_csv(answer) } else { points_csv(answer) }
}

/// A column's name, and what stands in it.
type Figure = (&'static str, fn(&PointAnswer) -> f64);

fn points_csv(answer: &RooflineAnswer) -> String {
    let figures: [Figure; 16] = [
        ("flops", |point| point.flops),
        ("read_bytes", |point| point.read_bytes),
        ("written_bytes", |point| point.written_bytes),
        ("sent_bytes", |point| point.sent_bytes),
        ("intensity_flops_per_byte", |point| point.intensity_flops_per_byte),
        ("ideal_ms", |point| point.ideal_ms),
        ("roofline_ms", |point| point.roofline_ms),
        ("predicted_ms", |point| point.predicted_ms),
        ("low_ms", |point| point.low_ms),
        ("high_ms", |point| point.high_ms),
        ("overhead_ms", |point| point.overhead_ms),
        ("ttft_mean_ms", |point| point.ttft.map_or(f64::NAN, |ttft| ttft.mean_ms)),
        ("ideal_tokens_per_s", |point| point.ideal_tokens_per_s),
        ("tokens_per_s", |point| point.tokens_per_s),
        ("peak_share", |point| point.peak_share),
        ("bandwidth_share", |point| point.bandwidth_share),
    ];
    let heads: Vec<&str> = ["phase", "batch", "context", "steps", "tokens", "bound"]
        .into_iter()
        .chain(figures.iter().map(|of| of.0))
        .collect();
    let mut out = csv::line(&heads);
    for point in &answer.points {
        let mut cells = vec![point.phase.to_string(), point.batch.to_string(), point.context.to_string()];
        cells.extend([point.steps.to_string(), point.tokens.to_string(), point.bound.to_string()]);
        cells.extend(figures.iter().map(|(_, of)| number(of(point))));
        out.push_str(&csv::line(&cells));
    }
    out
}

fn operators_csv(answer: &RooflineAnswer) -> String {
    let heads = [
        "phase",
        "batch",
        "context",
        "operator",
        "family",
        "runs",
        "shape",
        "format",
        "flops",
        "read_bytes",
        "written_bytes",
        "sent_bytes",
        "bound",
        "ideal_us",
        "predicted_us",
        "step_us",
        "basis",
    ];
    let mut out = csv::line(&heads);
    for operators in &answer.operators {
        for operator in &operators.rows {
            let place = [operators.phase.to_string(), operators.batch.to_string(), operators.context.to_string()];
            let what = [operator.name.clone(), operator.family.to_string(), number(operator.runs)];
            let how = [operator.shape.clone(), operator.format.clone()];
            let work = [operator.flops, operator.read_bytes, operator.written_bytes, operator.sent_bytes].map(number);
            let times = [operator.ideal_us, operator.predicted_us, operator.step_us].map(number);
            let cells = place.into_iter().chain(what).chain(how).chain(work).chain([operator.bound.to_string()]);
            out.push_str(&csv::line(&cells.chain(times).chain([operator.basis.to_string()]).collect::<Vec<_>>()));
        }
    }
    out
}

/// A number in full; nothing for what does not exist.
fn number(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}
