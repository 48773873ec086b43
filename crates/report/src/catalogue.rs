//! What is built in, as text? Columns that fit the page; CSV and Markdown with everything in full.

use plimsoll_api::CatalogueAnswer;
use serde_json::Value;

use crate::csv;
use crate::number::{plain, short};
use crate::page::{Style, clean, columns, left, markdown_row, markdown_rule, width, wrap};

/// Columns that a narrow page does without, the first to go first.
const SPARED: [&str; 9] = [
    "kv_bytes_per_token",
    "source",
    "dtype",
    "type",
    "architecture",
    "quantization",
    "fp8_tflops",
    "bf16_tflops",
    "max_positions",
];
/// The least width at which a source is worth its place.
const LEAST_SOURCE: usize = 24;

/// Shows a catalogue in columns; where they hold words that do not fit, one paragraph an entry.
pub fn catalogue_table(answer: &CatalogueAnswer, style: Style) -> String {
    let numeric = numeric(answer);
    let head = answer.columns.iter().map(|name| name.to_string()).collect();
    let mut rows: Vec<Vec<String>> = vec![head];
    rows.extend(answer.rows.iter().map(|row| cells(answer, row)));
    let all: usize = (0..numeric.len()).map(|at| natural(&rows, at) + 2).sum();
    if !numeric.contains(&true) && all > style.width + 2 {
        return paragraphs(answer, style);
    }
    let kept = fitting(&rows, style.width);
    let pick = |row: &Vec<String>| kept.iter().filter_map(|at| row.get(*at).cloned()).collect();
    let left_out: Vec<&str> =
        (0..numeric.len()).filter(|at| !kept.contains(at)).map(|at| rows[0][at].as_str()).collect();
    let shown: Vec<Vec<String>> = rows.iter().map(pick).collect();
    let numeric: Vec<bool> = kept.iter().map(|at| numeric[*at]).collect();
    let mut lines = columns(&shown, &numeric, style.width).into_iter();
    let mut out = lines.next().map(|head| style.bold(&head) + "\n").unwrap_or_default();
    lines.for_each(|line| out.push_str(&(line + "\n")));
    if !left_out.is_empty() {
        out.push('\n');
        out.push_str(&wrap(
            "",
            &format!("Without {}: --format csv has every column.", left_out.join(", ")),
            style.width,
        ));
    }
    out
}

/// The width that a column would take.
fn natural(rows: &[Vec<String>], at: usize) -> usize {
    rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0)
}

/// The columns that fit the page with every name in full.
fn fitting(rows: &[Vec<String>], to: usize) -> Vec<usize> {
    let head = rows.first().map_or(&[][..], Vec::as_slice);
    let need = |at: usize| {
        let natural = natural(rows, at);
        if head[at] == "source" { natural.min(LEAST_SOURCE) } else { natural }
    };
    let mut kept: Vec<usize> = (0..head.len()).collect();
    for name in SPARED {
        let wanted: usize = kept.iter().map(|at| need(*at) + 2).sum();
        if wanted <= to + 2 {
            break;
        }
        kept.retain(|at| head[*at] != name);
    }
    kept
}

/// Each entry as its name and its properties below it.
fn paragraphs(answer: &CatalogueAnswer, style: Style) -> String {
    let longest = answer.columns.iter().skip(1).map(|name| width(name)).max().unwrap_or(0);
    let entry = |row: &Vec<Value>| {
        let mut cells = cells(answer, row).into_iter();
        let mut out = style.bold(&cells.next().unwrap_or_default()) + "\n";
        for (name, cell) in answer.columns.iter().skip(1).zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            out.push_str(&wrap(&format!("  {}  ", left(name, longest)), &cell, style.width));
        }
        out
    };
    answer.rows.iter().map(entry).collect::<Vec<_>>().join("\n")
}

/// Writes a catalogue as comma-separated values, numbers as they are.
pub fn catalogue_csv(answer: &CatalogueAnswer) -> String {
    let mut out = csv::line(&answer.columns);
    for row in &answer.rows {
        out.push_str(&csv::line(&row.iter().map(raw).collect::<Vec<_>>()));
    }
    out
}

/// Writes a catalogue as a Markdown table.
pub fn catalogue_markdown(answer: &CatalogueAnswer) -> String {
    let mut out = markdown_row(&answer.columns);
    out.push_str(&markdown_rule(&numeric(answer)));
    for row in &answer.rows {
        out.push_str(&markdown_row(&cells(answer, row)));
    }
    out
}

fn cells(answer: &CatalogueAnswer, row: &[Value]) -> Vec<String> {
    let column = |at: usize| answer.columns.get(at).map_or("", |name| name.as_ref());
    row.iter().enumerate().map(|(at, value)| cell(column(at), value)).collect()
}

fn cell(column: &str, value: &Value) -> String {
    match (value, value.as_u64(), value.as_f64()) {
        (Value::Number(_), Some(number), _) if matches!(column, "parameters" | "active") => short(number),
        (Value::Number(_), _, Some(number)) => plain(number),
        _ => clean(&raw(value)),
    }
}

fn raw(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Whether a column holds numbers only.
fn numeric(answer: &CatalogueAnswer) -> Vec<bool> {
    let column = |at: usize| answer.rows.iter().filter_map(move |row| row.get(at)).filter(|value| !value.is_null());
    let all = |at: usize| column(at).all(Value::is_number) && column(at).next().is_some();
    (0..answer.columns.len()).map(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> CatalogueAnswer {
        let row = |text: &str| serde_json::from_str::<Vec<Value>>(text).unwrap();
        CatalogueAnswer {
            kind: "models".into(),
            columns: ["model", "parameters", "bandwidth_gb_s", "source"].map(Into::into).to_vec(),
            rows: vec![
                row(
                    r#"["meta-llama/Llama-3.1-8B", 8030261248, 3352.0, "a | very long source, that does not fit into eighty columns at all"]"#,
                ),
                vec![json!("tiny"), json!(1200), Value::Null, Value::Null],
            ],
        }
    }

    #[test]
    fn a_table_fits_the_page() {
        insta::assert_snapshot!(catalogue_table(&example(), Style::PLAIN), @r"
        model                    parameters  bandwidth_gb_s  source
        meta-llama/Llama-3.1-8B      8.03 B           3 352  a | very long source, that…
        tiny                          1 200
        ");
        for line in catalogue_table(&example(), Style::PLAIN).lines() {
            assert!(line.chars().count() <= 80);
        }
    }

    #[test]
    fn other_programs_get_everything() {
        insta::assert_snapshot!(catalogue_csv(&example()), @r#"
        model,parameters,bandwidth_gb_s,source
        meta-llama/Llama-3.1-8B,8030261248,3352.0,"a | very long source, that does not fit into eighty columns at all"
        tiny,1200,,
        "#);
        insta::assert_snapshot!(catalogue_markdown(&example()), @r"
        | model | parameters | bandwidth_gb_s | source |
        | --- | ---: | ---: | --- |
        | meta-llama/Llama-3.1-8B | 8.03 B | 3 352 | a \| very long source, that does not fit into eighty columns at all |
        | tiny | 1 200 |  |  |
        ");
    }
}
