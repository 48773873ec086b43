//! What do the verbs' figures hold? Answers of small and odd cases, and the data of their figures.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod sketch;

use plimsoll_api::reconcile::answer::ItemAnswer;
use plimsoll_api::{
    CatalogueAnswer, Desk, InspectAnswer, InspectRequest, NoFiles, PlanAnswer, RooflineAnswer, SimulateAnswer,
    SimulateCompareAnswer, Simulated,
};
use plimsoll_report::Show;
use plimsoll_report::figure::{Body, Theme, svg};
use serde_json::{Value, json};
use sketch::sketches;

fn planned(request: Value) -> PlanAnswer {
    let request = serde_json::from_value(request).unwrap();
    plimsoll_api::plan(&request, &Desk::new(&NoFiles)).unwrap()
}

fn rooflined(request: Value) -> RooflineAnswer {
    let request = serde_json::from_value(request).unwrap();
    plimsoll_api::roofline(&request, &Desk::new(&NoFiles)).unwrap()
}

/// Every figure is drawn on both grounds, with the same bytes each time.
fn drawn(answer: &impl Show) {
    for figure in answer.figures() {
        for theme in [Theme::Light, Theme::Dark] {
            let text = svg(&figure, theme).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(text, svg(&figure, theme).unwrap(), "{}", figure.name);
        }
    }
}

/// The bars of a plan's first figure: names and notes.
fn bars(answer: &PlanAnswer) -> Vec<(String, String)> {
    drawn(answer);
    let figure = answer.figures().swap_remove(0);
    let Body::Bars(bars) = figure.body else { panic!("memory is bars") };
    bars.rows.into_iter().map(|bar| (bar.name, bar.note.unwrap_or_default())).collect()
}

#[test]
fn ranks_that_hold_the_same_are_one_bar() {
    let answer = planned(json!({ "model": "llama-3.1-70b", "gpu": "h100-sxm:8", "engine": "vllm",
        "engine_version": "0.33.0", "options": { "tensor_parallel_size": 8 } }));
    insta::assert_snapshot!(sketches(&answer.figures()));
    assert_eq!(bars(&answer).len(), 1);
    let wide = planned(json!({ "model": "deepseek-v3", "gpu": "h200:16", "engine": "vllm",
        "options": { "tensor_parallel_size": 8, "pipeline_parallel_size": 2 } }));
    let names: Vec<String> = bars(&wide).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["stage 0, ranks 0–7", "stage 1, ranks 0–7"]);
}

#[test]
fn what_is_missing_goes_past_the_line() {
    let answer = planned(json!({ "model": "llama-3.1-70b", "gpu": "h100-sxm", "engine": "vllm",
        "engine_version": "0.33.0" }));
    let figure = answer.figures().swap_remove(0);
    let Body::Bars(memory) = figure.body else { panic!("memory is bars") };
    let whole: f64 = memory.rows[0].parts.iter().map(|part| part.value).sum();
    let limit = answer.ranks[0].limit_bytes as f64;
    let short = answer.verdict.short_by_bytes.unwrap() as f64;
    assert!((whole - limit - short).abs() < 16.0, "{whole} {limit} {short}");
    assert_eq!(memory.series.last().unwrap().name, "missing");
    assert_eq!(bars(&answer)[0], ("the card".to_owned(), "short by 103 GiB".to_owned()));
}

#[test]
fn every_device_and_the_host_have_their_bars() {
    let answer = planned(json!({ "model": "llama-3.1-8b", "gpu": "rtx-4090,rtx-3090:2", "engine": "llama.cpp" }));
    let names: Vec<String> = bars(&answer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["CUDA0 (GeForce RTX 4090)", "CUDA1 (GeForce RTX 3090)", "CUDA2 (GeForce RTX 3090)", "host memory"]
    );
}

#[test]
fn a_plan_without_anything_has_no_figure() {
    let mut answer = planned(json!({ "model": "llama-3.1-8b", "gpu": "l40s", "engine": "vllm" }));
    answer.scarcest = 77;
    drawn(&answer);
    for rank in &mut answer.ranks {
        rank.entries.clear();
        (rank.card_bytes, rank.limit_bytes) = (0, u64::MAX);
    }
    assert!(answer.figures().is_empty());
    answer.ranks.clear();
    assert!(answer.figures().is_empty());
}

#[test]
fn sixty_four_ranks_that_differ_are_not_sixty_four_bars() {
    let mut answer = planned(json!({ "model": "llama-3.1-70b", "gpu": "h100-sxm:64", "engine": "vllm",
        "options": { "tensor_parallel_size": 8, "pipeline_parallel_size": 8 } }));
    for (at, rank) in answer.ranks.iter_mut().enumerate() {
        rank.entries[0].bytes = at as u64 * 1_000_000;
    }
    answer.scarcest = 63;
    let rows = bars(&answer);
    assert_eq!(rows.len(), 24);
    assert!(rows.iter().any(|(name, _)| name == "stage 7, rank 7"), "{rows:?}");
}

fn small_roofline() -> RooflineAnswer {
    rooflined(json!({ "launch": { "model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": "vllm",
        "engine_version": "0.33.0" }, "batch": [1, 16, 256], "context": [2048] }))
}

#[test]
fn a_roofline_has_roofs_times_and_a_front() {
    let answer = small_roofline();
    drawn(&answer);
    let names: Vec<String> = answer.figures().into_iter().map(|figure| figure.name).collect();
    assert_eq!(names, ["roofline", "time", "time-prefill", "pareto", "roofline-prefill"]);
    insta::assert_snapshot!(sketches(&answer.figures()));
}

#[test]
fn dots_lie_under_their_roof() {
    for answer in [
        small_roofline(),
        rooflined(json!({ "launch": { "model": "mixtral-8x7b", "gpu": "h200:2",
        "engine": "vllm", "options": { "tensor_parallel_size": 2 } }, "all_operators": true })),
    ] {
        let figures = answer.figures();
        for figure in figures.iter().filter(|figure| figure.name.starts_with("roofline")) {
            let Body::Plot(plot) = &figure.body else { panic!("a roofline is a plot") };
            let bandwidth = answer.card.bandwidth_bytes_per_s;
            let peak = answer.card.peaks.iter().map(|peak| peak.flops_per_s).fold(0.0, f64::max);
            for dot in &plot.dots {
                assert!(dot.y <= (dot.x * bandwidth).min(peak) * 1.001, "{dot:?}");
            }
        }
    }
}

#[test]
fn odd_numbers_of_a_roofline_are_left_out() {
    let mut answer = small_roofline();
    let all: Vec<Body> = answer.figures().into_iter().map(|figure| figure.body).collect();
    for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        for point in &mut answer.points {
            (point.predicted_ms, point.flops_per_s, point.tokens_per_s) = (bad, bad, bad);
            point.families.iter_mut().for_each(|share| share.ms = bad);
        }
        for row in answer.operators.iter_mut().flat_map(|shown| &mut shown.rows) {
            (row.flops_per_s, row.step_us) = (Some(bad), bad);
        }
        drawn(&answer);
    }
    assert_ne!(all, answer.figures().into_iter().map(|figure| figure.body).collect::<Vec<_>>());
    answer.card.peaks.clear();
    answer.card.bandwidth_bytes_per_s = f64::NAN;
    drawn(&answer);
    answer.points.clear();
    answer.operators.clear();
    assert!(answer.figures().is_empty());
}

fn inspected(model: &str) -> InspectAnswer {
    plimsoll_api::inspect(&InspectRequest { model: model.to_owned() }, &Desk::new(&NoFiles)).unwrap()
}

#[test]
fn a_model_is_taken_apart() {
    let plain = inspected("llama-3.1-8b");
    drawn(&plain);
    insta::assert_snapshot!(sketches(&plain.figures()));
    let Body::Bars(bars) = &plain.figures()[0].body else { panic!("parameters are bars") };
    let sum: f64 = bars.rows.iter().flat_map(|row| &row.parts).map(|part| part.value).sum();
    assert_eq!((sum * 1e9).round() as u64, plain.model.parameters);
    // Windows bend the cache's growth.
    let windowed = inspected("gemma-3-27b");
    drawn(&windowed);
    let names: Vec<String> = windowed.figures().into_iter().map(|figure| figure.name).collect();
    assert_eq!(names, ["parameters", "cache", "layers"]);
    let (short, long) = (windowed.kv_growth[4], *windowed.kv_growth.last().unwrap());
    assert_eq!(short.bytes, short.tokens * windowed.kv_bytes_per_token);
    assert!(long.bytes < long.tokens * windowed.kv_bytes_per_token / 4, "{long:?}");
}

#[test]
fn odd_models_are_drawn_or_left_out() {
    let mut answer = inspected("gemma-3-27b");
    for run in &mut answer.layers {
        run.layers = "0-999999999999".into();
    }
    answer.kv_growth.truncate(1);
    drawn(&answer);
    assert_eq!(answer.figures().len(), 1);
    answer.tensors.clear();
    assert!(answer.figures().is_empty());
}

fn catalogued(kind: &str) -> CatalogueAnswer {
    plimsoll_api::catalogue(kind, &Desk::new(&NoFiles)).unwrap()
}

#[test]
fn catalogues_are_seen_whole() {
    for (kind, name) in [("gpus", "cards"), ("models", "models"), ("formats", "bits")] {
        let answer = catalogued(kind);
        drawn(&answer);
        assert_eq!(answer.figures()[0].name, name);
        let none = CatalogueAnswer { rows: Vec::new(), ..answer.clone() };
        assert!(none.figures().is_empty());
        let other = CatalogueAnswer { columns: vec!["x".into()], ..answer };
        assert!(other.figures().is_empty());
    }
    assert!(catalogued("engines").figures().is_empty());
    let figure = catalogued("formats").figures().swap_remove(0);
    let Body::Bars(bars) = figure.body else { panic!("bits are bars") };
    let bits = |name: &str| bars.rows.iter().find(|row| row.name == name).unwrap().parts[0].value;
    for (name, wanted) in [("fp32", 32.0), ("bf16", 16.0), ("KV cache: fp8", 8.0), ("GPTQ", 4.25)] {
        assert!((bits(name) - wanted).abs() < 1e-9, "{name}: {}", bits(name));
    }
}

#[test]
fn the_textbook_stands_beside_a_model() {
    let spec = "layers=32,dim=4096,heads=32,head-dim=128";
    let answer = plimsoll_api::textbook::textbook(spec, Some("llama-3.1-8b"), &Desk::new(&NoFiles)).unwrap();
    drawn(&answer);
    insta::assert_snapshot!(sketches(&answer.figures()));
    let alone = plimsoll_api::textbook::textbook(spec, None, &Desk::new(&NoFiles)).unwrap();
    drawn(&alone);
    assert_eq!(alone.figures().len(), 2);
}

fn item(item: &'static str, planned: f64, spread: f64, logged: f64) -> ItemAnswer {
    ItemAnswer {
        item: item.into(),
        places: Vec::new(),
        unit: if item == "kv_tokens" { "count" } else { "bytes" }.into(),
        planned,
        low: planned * (1.0 - spread),
        high: planned * (1.0 + spread),
        logged,
        half: 0.0,
        difference: logged - planned,
        relative: None,
        inside: (logged - planned).abs() <= planned * spread,
        line: 1,
        note: None,
    }
}

#[test]
fn what_was_logged_is_the_whole() {
    use plimsoll_api::reconcile::answer::{LogEngine, LogHead, ReconcileAnswer, Sourced};
    let mut answer = ReconcileAnswer {
        log: LogHead { name: "vllm.log".into(), lines: 9, bytes: 99, encoding: "utf-8".into(), launches: 1 },
        engine: LogEngine { name: "vllm".into(), logged: Some("0.11.0".into()), version: Some("0.11.0".into()) },
        model: Sourced { used: Some("llama-3.1-8b".into()), ..Sourced::default() },
        gpu: Sourced { used: Some("l40s".into()), ..Sourced::default() },
        options: serde_json::Map::new(),
        readings: Vec::new(),
        items: vec![
            item("weights", 16e9, 0.0, 16.05e9),
            item("activation", 1.2e9, 0.4, 1.4e9),
            item("graphs", 3e9, 0.5, 0.5e9),
            item("kv_tokens", 180_000.0, 0.02, 181_920.0),
        ],
        causes: Vec::new(),
        refusals: Vec::new(),
        rules: None,
        assumed: Vec::new(),
        asked: Vec::new(),
        notes: Vec::new(),
        learned: None,
        plan: None,
    };
    drawn(&answer);
    insta::assert_snapshot!(sketches(&answer.figures()));
    for (at, bad) in [f64::NAN, f64::INFINITY, 0.0, -3.0].into_iter().enumerate() {
        answer.items[at].logged = bad;
    }
    assert!(answer.figures().is_empty());
}

fn simulated(more: Value) -> Simulated {
    let mut request = json!({
        "launch": { "model": "llama-3.1-8b", "gpu": "l40s", "engine": "vllm", "engine_version": "0.33.0",
            "options": { "max_model_len": 4096, "max_num_seqs": 4 } },
        "workload": "poisson 40/s, prompt 300, output lognormal 60 p99 200, requests 12",
        "seed": 7, "cost": { "fixed_us": 10_000.0 },
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let request = serde_json::from_value(request).unwrap();
    plimsoll_api::simulate::simulate(&request, &Desk::new(&NoFiles), &mut Unseen).unwrap()
}

struct Unseen;

impl plimsoll_sim::Watch for Unseen {}

fn alone(more: Value) -> SimulateAnswer {
    match simulated(more) {
        Simulated::One(answer) => *answer,
        Simulated::Compared(_) => panic!("one way to serve"),
    }
}

fn compared(more: Value) -> SimulateCompareAnswer {
    match simulated(more) {
        Simulated::Compared(answer) => *answer,
        Simulated::One(_) => panic!("several ways to serve"),
    }
}

#[test]
fn a_simulation_has_its_four_figures() {
    let answer = alone(json!({}));
    drawn(&answer);
    let names: Vec<String> = answer.figures().into_iter().map(|figure| figure.name).collect();
    assert_eq!(names, ["latency", "load", "blocks", "gantt"]);
    insta::assert_snapshot!(sketches(&answer.figures()));
}

#[test]
fn percentiles_and_lives_are_those_of_the_answer() {
    let answer = alone(json!({}));
    let (times, all) = (answer.ttft_ms.unwrap(), &answer.percentiles.ttft_ms);
    assert_eq!(all.len(), 101);
    for (percent, value) in [(0, times.min), (50, times.p50), (90, times.p90), (99, times.p99), (100, times.max)] {
        assert!((all[percent] - value).abs() < 2e-6, "{percent}: {} {value}", all[percent]);
    }
    let ends: Vec<f64> = answer.lives.iter().map(|life| life.end_s - life.turns[0].from_s).collect();
    let longest = ends.iter().copied().fold(0.0, f64::max);
    assert!((longest * 1e3 - answer.e2e_ms.unwrap().max).abs() < 1e-6, "{longest} {:?}", answer.e2e_ms);
    let held = answer.holders.as_ref().unwrap();
    assert_eq!(Some(held.capacity), answer.kv.blocks);
    for (at, _) in held.at_s.iter().enumerate() {
        let own: u64 = held.requests.iter().filter_map(|one| one.blocks.get(at.checked_sub(one.from)?)).sum();
        assert!(own + held.others[at] + held.cached[at] <= held.capacity);
    }
}

#[test]
fn static_and_continuous_batching_stand_above_one_another() {
    let answer = compared(json!({ "compare": { "batching": ["static", "continuous"], "kv": ["paged"] } }));
    drawn(&answer);
    let names: Vec<String> = answer.figures().into_iter().map(|figure| figure.name).collect();
    assert_eq!(names, ["gantt", "throughput"]);
    let Body::Spans(spans) = &answer.figures()[0].body else { panic!("a gantt is spans") };
    assert_eq!(spans.groups.len(), 2);
    let requests = |at: usize| spans.groups[at].rows.iter().map(|row| &row.name).collect::<Vec<_>>();
    assert_eq!(requests(0), requests(1));
    let end =
        |at: usize| spans.groups[at].rows.iter().flat_map(|row| &row.spans).map(|span| span.to).fold(0.0, f64::max);
    assert!(end(0) > end(1), "static batching takes longer: {} {}", end(0), end(1));
}

#[test]
fn odd_simulations_are_drawn_or_left_out() {
    let mut answer = alone(json!({}));
    for bad in [f64::NAN, f64::NEG_INFINITY, 0.0] {
        answer.percentiles.ttft_ms.fill(bad);
        answer.timeline.running.fill(bad);
        answer.lives[0].end_s = bad;
        let held = answer.holders.as_mut().unwrap();
        held.at_s[0] = bad;
        held.requests[0].from = usize::MAX;
        drawn(&answer);
    }
    answer.timeline.bin_s = f64::NAN;
    answer.holders.as_mut().unwrap().capacity = 0;
    answer.lives.clear();
    for times in [
        &mut answer.percentiles.ttft_ms,
        &mut answer.percentiles.tpot_ms,
        &mut answer.percentiles.itl_ms,
        &mut answer.percentiles.e2e_ms,
    ] {
        times.clear();
    }
    assert!(answer.figures().is_empty());
}

#[test]
fn a_late_part_has_its_own_clock() {
    let mut answer = alone(json!({}));
    for turn in answer.lives.iter_mut().flat_map(|life| &mut life.turns) {
        turn.from_s += 500.0;
    }
    answer.lives.iter_mut().for_each(|life| life.end_s += 500.0);
    let held = answer.holders.as_mut().unwrap();
    held.at_s.iter_mut().for_each(|at| *at += 500.0);
    held.end_s += 500.0;
    drawn(&answer);
    for figure in answer.figures() {
        let (axis, end) = match figure.body {
            Body::Blocks(map) => (map.x, map.end),
            Body::Spans(spans) => {
                let all = spans.groups.iter().flat_map(|group| &group.rows).flat_map(|row| &row.spans);
                (spans.x, all.map(|span| span.to).fold(0.0, f64::max))
            }
            Body::Bars(_) | Body::Areas(_) | Body::Heat(_) | Body::Plot(_) | Body::Panels(_) | Body::Ranges(_) => {
                continue;
            }
        };
        assert!(axis.label.contains("from 500 s of the run on") && end < 3.0, "{axis:?} {end}");
    }
}
