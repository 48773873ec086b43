//! What growth looks like: bare specifications, whose numbers are exact, in all forms.

use plimsoll_api::{Desk, GrowAnswer, NoFiles};
use plimsoll_report::figure::{Body, Theme, svg};
use plimsoll_report::{Show, Style};
use serde_json::{Value, json};

fn ask(request: Value) -> GrowAnswer {
    let request = serde_json::from_value(request).expect("a request");
    plimsoll_api::grow(&request, &Desk::new(&NoFiles)).expect("an answer")
}

/// 2 layers on a card of 1 GiB.
fn two_knobs() -> GrowAnswer {
    ask(json!({
        "spec": "layers=2,dim=1024,heads=8,head-dim=128,kv-heads=2,inner=4096,vocab=1000",
        "launch": {"gpu_total_bytes": 1 << 30},
        "vary": [{"knob": "context", "values": "1k..128k"}, {"knob": "batch", "values": "1,8,64"}],
    }))
}

fn one_knob() -> GrowAnswer {
    ask(json!({
        "spec": "layers=2,dim=1024,heads=8,head-dim=128",
        "vary": [{"knob": "layers", "values": "1..8"}, {"knob": "context", "values": "4k"}],
    }))
}

#[test]
fn two_knobs_in_all_forms() {
    let answer = two_knobs();
    insta::assert_snapshot!("two_knobs_table", answer.table(Style::PLAIN));
    insta::assert_snapshot!("two_knobs_markdown", answer.markdown());
    insta::assert_snapshot!("two_knobs_csv", answer.csv());
}

#[test]
fn one_knob_of_the_model() {
    insta::assert_snapshot!("one_knob_table", one_knob().table(Style::PLAIN));
}

#[test]
fn every_line_fits_a_terminal() {
    for answer in [two_knobs(), one_knob()] {
        let wide = answer.table(Style::PLAIN);
        assert!(wide.lines().all(|line| line.chars().count() <= 80), "{wide}");
    }
}

#[test]
fn figures_are_those_that_say_something() {
    let names = |answer: &GrowAnswer| answer.figures().into_iter().map(|figure| figure.name).collect::<Vec<_>>();
    assert_eq!(names(&two_knobs()), ["memory", "heat", "kv-share", "longest-context"]);
    assert_eq!(names(&one_knob()), ["memory", "kv-share"]);
}

/// A model of 32 heads in several divisions, one of which cannot be.
fn divided(knob: &str, values: &str) -> GrowAnswer {
    ask(json!({
        "launch": {"model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": "vllm"},
        "vary": [{"knob": knob, "values": values}],
    }))
}

#[test]
fn nothing_is_drawn_between_divisions() {
    let answer = divided("tp", "1,2,3,4,8");
    let figures = answer.figures();
    let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(names, ["memory", "kv-share", "longest-context", "largest-batch"]);
    for figure in &figures {
        let Body::Bars(bars) = &figure.body else { panic!("{} is drawn through its values", figure.name) };
        let rows: Vec<(&str, bool)> = bars.rows.iter().map(|bar| (bar.name.as_str(), bar.note.is_some())).collect();
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["tp 1", "tp 2", "tp 3", "tp 4", "tp 8"]);
        assert!(bars.rows[2].note.as_ref().is_some_and(|note| note.contains("refused")), "{:?}", bars.rows[2]);
        assert!(figure.subtitle.contains("on 1 to 8 × H100"), "{}", figure.subtitle);
        assert!(svg(figure, Theme::Light).is_ok());
    }
    assert!(figures[0].caption.contains("refused: tp 3 (32 attention heads"), "{}", figures[0].caption);
    insta::assert_snapshot!("divisions_table", answer.table(Style::PLAIN));
}

#[test]
fn formats_have_figures() {
    let answer = divided("format", "bf16,fp8");
    let figures = answer.figures();
    let Body::Bars(bars) = &figures[0].body else { panic!("{:?}", figures[0]) };
    let names: Vec<&str> = bars.rows.iter().map(|bar| bar.name.as_str()).collect();
    assert_eq!(names, ["bf16", "fp8"]);
    assert!(figures.iter().all(|figure| svg(figure, Theme::Dark).is_ok()));
}

#[test]
fn quantities_are_drawn_through() {
    let answer = divided("context", "1k..128k");
    assert!(matches!(answer.figures()[0].body, Body::Areas(_)));
    let one = divided("context", "8k");
    let Body::Bars(bars) = &one.figures()[0].body else { panic!("one value is a bar") };
    assert_eq!(bars.rows[0].name, "context 8 192");
}

#[test]
fn the_division_is_said_once() {
    let answer = divided("tp", "4");
    let head: String = answer.table(Style::PLAIN).lines().skip(1).take(2).collect();
    assert!(head.contains("on 4 × H100") && head.matches("tp 4").count() == 1, "{head}");
}

#[test]
fn what_is_left_out_is_said() {
    let answer = ask(json!({
        "spec": "layers=2,dim=1024,heads=8,head-dim=128",
        "launch": {"gpu_total_bytes": 1 << 30},
        "vary": [{"knob": "context", "values": "1k..20k:+1k"}, {"knob": "batch", "values": "1..30:+1"}],
    }));
    for (name, said) in [
        ("heat", "16 of 20 values of context are shown; 12 of 30 values of batch are shown"),
        ("kv-share", "8 of 30 values of batch are shown"),
        ("longest-context", "24 of 30 values are shown"),
    ] {
        let figures = answer.figures();
        let figure = figures.iter().find(|figure| figure.name == name).expect("a figure");
        assert!(figure.caption.contains(said), "{name}: {}", figure.caption);
    }
    assert!(answer.table(Style::PLAIN).contains("24 of 30 rows; every value is in the other forms"));
}

#[test]
fn reasons_stand_below_the_table() {
    let answer = ask(json!({
        "launch": {"model": "llama-3.1-8b", "gpu": "l40s", "engine": "llama.cpp"},
        "vary": [{"knob": "context", "values": "1k,2k"}, {"knob": "batch", "values": "1,512"}],
    }));
    let table = answer.table(Style::PLAIN);
    let row = table.lines().find(|line| line.trim_start().starts_with("512 ")).expect("the row of batch 512");
    assert!(row.contains("—") && row.ends_with("refused") && !table.contains("never outgrows"), "{table}");
    assert!(table.contains("n_seq_max must be <= 256"));
}
