//! How do a roofline's figures come about, as text? Formulas with the numbers in.

use plimsoll_api::RooflineAnswer;
use plimsoll_api::roofline::answer::OperatorAnswer;

use crate::number::three;
use crate::page::{Style, clean, wrap};
use crate::plan::model_words;
use crate::roofline::{operators_title, place, rate};

/// Shows how the figures of the operators come about, and of the steps that they make up.
pub fn roofline_explained(answer: &RooflineAnswer, style: Style) -> String {
    let mut out = format!("{}\n", style.bold(&model_words(&answer.model)));
    out.push_str(&wrap("", &place(answer), style.width));
    out.push('\n');
    let bandwidth = rate(answer.card.bandwidth_bytes_per_s, "B/s");
    for peak in &answer.card.peaks {
        let (name, peak, ridge) =
            (&peak.arithmetic, rate(peak.flops_per_s, "FLOP/s"), three(peak.ridge_flops_per_byte));
        out.push_str(&format!("ridge of {name} = peak / bandwidth = {peak} / {bandwidth} = {ridge} FLOP/byte\n"));
    }
    for operators in &answer.operators {
        out.push_str(&format!("\n{}\n", style.bold(&operators_title(operators))));
        for operator in &operators.rows {
            out.push_str(&explained(operator, style));
        }
        out.push_str(&sums(answer, operators.phase.as_ref(), (operators.batch, operators.context), style));
    }
    out
}

/// One operator.
fn explained(operator: &OperatorAnswer, style: Style) -> String {
    let format = if operator.format.is_empty() { String::new() } else { format!(", {}", operator.format) };
    let runs = three(operator.runs);
    let runs = runs.trim_end_matches(".00").trim_end_matches(".0");
    let head = format!("{} × {runs}: {}{format}", operator.name, operator.shape);
    let mut out = wrap("  ", &clean(&head), style.width);
    for formula in &operator.formulas {
        out.push_str(&wrap("    ", formula, style.width));
    }
    out
}

/// The step that the operators make up.
fn sums(answer: &RooflineAnswer, phase: &str, (batch, context): (u32, u32), style: Style) -> String {
    let found = answer
        .points
        .iter()
        .find(|point| (point.phase.as_ref(), point.batch, point.context) == (phase, batch, context));
    let Some(point) = found else { return String::new() };
    let whole = if point.steps == 1 { "the step".to_owned() } else { format!("all {} steps", point.steps) };
    let (kernels, overhead) = (three(point.predicted_ms - point.overhead_ms), three(point.overhead_ms));
    let bytes = point.read_bytes + point.written_bytes;
    let lines = [
        format!(
            "intensity = {} / {} = {} FLOP/byte",
            rate(point.flops, "FLOP"),
            rate(bytes, "B"),
            three(point.intensity_flops_per_byte)
        ),
        format!("ideal = Σ runs × ideal = {} ms", three(point.ideal_ms)),
        format!("at once = max(Σ operations / peak, Σ bytes / bandwidth) = {} ms", three(point.roofline_ms)),
        format!(
            "predicted = Σ runs × predicted + overhead = {kernels} + {overhead} = {} ms ({} … {})",
            three(point.predicted_ms),
            three(point.low_ms),
            three(point.high_ms)
        ),
        format!("tokens/s = {} tokens / predicted = {}", point.tokens, three(point.tokens_per_s)),
    ];
    let lines: String = lines.iter().map(|line| wrap("    ", line, style.width)).collect();
    format!("  {whole}\n{lines}")
}
