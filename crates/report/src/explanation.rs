//! Where does one number come from, as text?

use plimsoll_api::Explanation;

use crate::csv;
use crate::number::{interval, plain, size};
use crate::page::{Style, right, width, wrap};

/// Shows the formula, the values and the source of one number.
pub fn explanation_table(answer: &Explanation, style: Style) -> String {
    let spread = interval(answer.bytes, answer.low, answer.high);
    let spread = if spread.is_empty() { spread } else { format!(" {spread}") };
    let exact = plain(answer.bytes as f64);
    let mut out = format!("{}  {}{spread}  ({exact} bytes)\n", style.bold(&answer.item), size(answer.bytes));
    out.push_str(&wrap("  = ", &answer.formula, style.width));
    let longest = answer.values.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    for (name, value) in &answer.values {
        out.push_str(&format!("  {} = {}\n", right(name, longest), plain(*value)));
    }
    out.push_str(&wrap("  source: ", &answer.source, style.width));
    if let Some(note) = &answer.note {
        out.push_str(&wrap("  note: ", note, style.width));
    }
    out
}

/// Writes one number and its values as CSV.
pub fn explanation_csv(answer: &Explanation) -> String {
    let mut out = csv::line(&["name", "value"]);
    let own = [("bytes", answer.bytes), ("low", answer.low), ("high", answer.high)];
    for (name, value) in own {
        out.push_str(&csv::line(&[name, &value.to_string()]));
    }
    for (name, value) in &answer.values {
        out.push_str(&csv::line(&[name, &value.to_string()]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_shows_its_formula_and_values() {
        let answer = Explanation {
            item: "activation".into(),
            bytes: 1 << 30,
            low: 900 << 20,
            high: 1148 << 20,
            formula: "R × V × 14".into(),
            values: vec![("R".into(), 256.0), ("V".into(), 128_256.0), ("α".into(), 0.125)],
            source: "engine: vLLM 0.19.0, v1/worker/gpu_model_runner.py".into(),
            note: None,
        };
        insta::assert_snapshot!(explanation_table(&answer, Style::PLAIN), @r"
        activation  1.00 GiB (0.879 … 1.12)  (1 073 741 824 bytes)
          = R × V × 14
          R = 256
          V = 128 256
          α = 0.125
          source: engine: vLLM 0.19.0, v1/worker/gpu_model_runner.py
        ");
    }
}
