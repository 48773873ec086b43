//! Comparisons as text and as figures.

use plimsoll_api::{ComparisonAnswer, ComparisonRequest, Desk, NoFiles};
use plimsoll_report::figure::{Body, Figure};
use plimsoll_report::{Show, Style};

fn answer(request: &str) -> ComparisonAnswer {
    let request: ComparisonRequest = serde_json::from_str(request).expect("a request");
    plimsoll_api::compare(&request, &Desk::new(&NoFiles)).expect("an answer")
}

const GRID: &str = r#"{"models": ["llama-2-7b", "llama-2-70b"], "gpus": ["rtx-4090", "a100-80gb", "h100-80gb:4"]}"#;

const FORMATS: &str = r#"{"models": ["llama-2-7b"], "gpus": ["l40s"],
    "formats": ["fp16", "fp8", "gptq-4bit", "awq-4bit", "nf4", "q4_k_m"], "sort": "-saved_share"}"#;

const ENGINES: &str = r#"{"models": ["llama-3-8b"], "gpus": ["l40s"], "engines": ["vllm", "sglang", "llama.cpp"]}"#;

/// The rows of a table: everything up to the first empty line behind its head.
fn table(text: &str) -> String {
    let mut parts = text.split("\n\n");
    let _head = parts.next();
    let tables: Vec<&str> = parts.take_while(|part| !part.starts_with('*')).collect();
    tables.join("\n\n")
}

#[test]
fn a_grid_has_a_line_for_each_figure() {
    insta::assert_snapshot!(table(&answer(GRID).table(Style::PLAIN)));
}

#[test]
fn a_table_is_split_where_the_page_ends() {
    insta::assert_snapshot!(table(&answer(FORMATS).table(Style::PLAIN)));
}

#[test]
fn markdown_has_the_whole_table_and_its_sources() {
    insta::assert_snapshot!(answer(FORMATS).markdown());
}

#[test]
fn engines_say_what_they_do() {
    insta::assert_snapshot!(answer(ENGINES).table(Style::PLAIN));
}

#[test]
fn every_line_fits_the_page() {
    let wide = r#"{"models": ["llama-3.1-8b", "qwen2.5-7b"], "gpus": ["rtx-4090", "h100:2"], "formats": ["bf16", "awq-4bit"],
        "context": [4096, 8192], "show": ["parameters", "checkpoint_bytes", "weights_bytes", "saved_share", "kv_tokens",
        "max_context", "concurrency", "state", "decode_ms", "prefill_ms", "tokens_per_s", "quality", "gpus", "card_bytes"]}"#;
    for request in [GRID, FORMATS, ENGINES, wide] {
        let answer = answer(request);
        for line in answer.table(Style::PLAIN).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let csv = answer.csv();
        let mut lines = csv.lines().filter(|line| !line.is_empty());
        let heads = lines.next().expect("a head").split(',').count();
        assert_eq!(csv.lines().count(), answer.rows.len() + 1);
        assert!(lines.all(|line| line.contains('"') || line.split(',').count() == heads));
    }
}

#[test]
fn figures_hold_every_row_that_was_answered() {
    for (request, names) in [
        (GRID, &["memory", "context", "front"][..]),
        (FORMATS, &["memory", "context", "front"]),
        (ENGINES, &["memory", "context", "front"]),
    ] {
        let answer = answer(request);
        let figures: Vec<Figure> = answer.figures();
        assert_eq!(figures.iter().map(|figure| figure.name.as_str()).collect::<Vec<_>>(), names);
        let answered = answer.rows.iter().filter(|row| row.state.is_some()).count();
        for figure in &figures {
            if let Body::Bars(bars) = &figure.body {
                assert_eq!(bars.rows.len(), answered, "{}", figure.name);
                let mut parts = bars.rows.iter().flat_map(|bar| &bar.parts);
                assert!(parts.all(|part| part.series < bars.series.len() && part.value.is_finite()));
            } else if let Body::Plot(plot) = &figure.body {
                assert!(plot.dots.len() >= 2);
            } else {
                panic!("{figure:?}");
            }
            assert!(figure.title.ends_with('?') && !figure.caption.is_empty());
        }
    }
}
