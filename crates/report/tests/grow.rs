//! What growth looks like: bare specifications, whose numbers are exact, in all forms.

use plimsoll_api::{Desk, GrowAnswer, NoFiles};
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
