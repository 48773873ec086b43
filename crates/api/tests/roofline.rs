//! Does a roofline mean what it says? Closed forms, laws over batch and context, and what mistakes are told.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use plimsoll_api::roofline::answer::{PointAnswer, ShareAnswer};
use plimsoll_api::{Desk, Error, NoFiles, RooflineAnswer, RooflineRequest, roofline};
use serde_json::{Value, json};

fn run(value: Value) -> Result<RooflineAnswer, Error> {
    let request: RooflineRequest = serde_json::from_value(value).unwrap();
    roofline(&request, &Desk::new(&NoFiles))
}

fn llama(tp: u32, more: Value) -> Value {
    let mut asked = json!({ "launch": {
        "model": "llama-3.1-70b", "gpu": "h100-sxm", "engine": "vllm", "options": { "tensor_parallel_size": tp } } });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

#[test]
fn a_70b_model_decoding_one_sequence_does_one_to_two_operations_per_byte_and_says_so() {
    let answer = run(llama(4, json!({ "phases": ["decode"], "batch": [1], "context": [4096] }))).unwrap();
    let point = &answer.points[0];
    let intensity = point.intensity_flops_per_byte;
    assert!((0.95..2.0).contains(&intensity), "{intensity}");
    assert_eq!((point.bound.as_ref(), point.roofline_bound.as_ref()), ("memory", "memory"));
    let said = &answer.findings[0];
    assert!(said.contains("decoding 1 sequence") && said.contains("memory decides"), "{said}");
    assert!(said.contains(&format!("{intensity:.2}")), "the number is the answer's own: {said}");
    let ridge = &answer.card.peaks[0];
    assert_eq!(ridge.arithmetic, "16-bit");
    assert!((ridge.ridge_flops_per_byte - 295.3).abs() < 0.1, "{ridge:?}");
}

#[test]
fn totals_agree_with_the_closed_forms() {
    let parameters = 70_553_706_496.0;
    for tp in [2, 4, 8] {
        let answer = run(llama(tp, json!({ "phases": ["decode"], "batch": [1, 32], "context": [1024] }))).unwrap();
        let ranks = f64::from(tp);
        for point in &answer.points {
            // Every weight but the embedding's is multiplied once a token; attention: 4 × heads × width × context.
            let products = 2.0 * (parameters - 128_256.0 * 8192.0) / ranks * f64::from(point.batch);
            let attention = 80.0 * 4.0 * 64.0 * 128.0 * 1024.0 / ranks * f64::from(point.batch);
            let share = point.flops / (products + attention);
            assert!((0.99..1.02).contains(&share), "tp {tp} batch {}: {share}", point.batch);
        }
        let weights = 2.0 * (parameters - 128_256.0 * 8192.0) / ranks;
        let share = answer.points[0].read_bytes / weights;
        assert!((1.0..1.02).contains(&share), "tp {tp}: {share}");
    }
}

#[test]
fn parts_are_parts_of_the_whole() {
    let more = json!({ "batch": [1, 8, 300], "context": [16, 4096] });
    for launch in [
        llama(4, more.clone()),
        json!({ "launch": { "model": "llama-3.1-8b", "gpu": "l40s", "engine": "vllm",
            "options": { "pipeline_parallel_size": 4 } }, "batch": [1, 40] }),
        json!({ "launch": { "model": "qwen3-30b-a3b", "gpu": "h200", "engine": "sglang" }, "batch": [1, 40] }),
        json!({ "launch": { "model": "llama-3.1-8b", "gpu": "l40s", "engine": "tensorrt-llm" }, "batch": [1, 40] }),
    ] {
        let answer = run(launch).unwrap();
        assert!(!answer.points.is_empty());
        for point in &answer.points {
            parts_of(point);
            assert!(point.ideal_ms >= point.roofline_ms * 0.999_999, "{point:?}");
            assert!(point.low_ms <= point.predicted_ms && point.predicted_ms <= point.high_ms, "{point:?}");
            if let Some(ttft) = point.ttft {
                assert!(ttft.first_ms <= ttft.mean_ms && ttft.mean_ms <= ttft.last_ms, "{ttft:?}");
                assert!((ttft.last_ms - point.predicted_ms).abs() < 1e-9);
            }
        }
        let first = answer.points.iter().find(|point| point.phase == "decode").unwrap();
        let rows = &answer.operators[0].rows;
        let flops: f64 = rows.iter().map(|row| row.runs * row.flops).sum();
        assert!((flops / first.flops - 1.0).abs() < 1e-9, "rows are all operators");
        assert!(rows.iter().all(|row| !row.shape.is_empty() && !row.formulas.is_empty()), "{rows:?}");
    }
}

fn parts_of(point: &PointAnswer) {
    let sum = |parts: &[ShareAnswer]| parts.iter().map(|part| part.ms).sum::<f64>();
    let waiting = point.families.iter().find(|part| part.name == "pipeline").map_or(0.0, |part| part.ms);
    let kernels = point.predicted_ms - point.overhead_ms - waiting;
    for (parts, whole) in [(&point.families, point.predicted_ms), (&point.bases, kernels), (&point.bounds, kernels)] {
        assert!((sum(parts) / whole - 1.0).abs() < 1e-6, "{parts:?} of {whole}");
        let shares: f64 = parts.iter().map(|part| part.share).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{parts:?}");
    }
}

#[test]
fn more_sequences_share_the_weights_and_longer_ones_do_not() {
    let answer =
        run(llama(4, json!({ "phases": ["decode"], "batch": [1, 4, 16, 64, 256], "context": [128, 8192] }))).unwrap();
    for context in [128, 8192] {
        let of: Vec<&PointAnswer> = answer.points.iter().filter(|point| point.context == context).collect();
        for pair in of.windows(2) {
            assert!(pair[0].intensity_flops_per_byte < pair[1].intensity_flops_per_byte);
            assert!(pair[0].ideal_ms <= pair[1].ideal_ms && pair[0].ideal_tokens_per_s < pair[1].ideal_tokens_per_s);
        }
    }
    let turn = answer.crossovers.iter().find(|turn| turn.what == "products_compute_bound").unwrap();
    assert!((250..600).contains(&turn.from.unwrap()), "{turn:?}");
    let reads: Vec<u64> = answer
        .crossovers
        .iter()
        .filter(|turn| turn.what == "cache_reads_exceed_weights")
        .map(|turn| turn.from.unwrap())
        .collect();
    assert!(reads[0] > 40 * reads[1], "{reads:?}");
}

#[test]
fn what_does_not_fit_is_answered_with_a_note() {
    let ask = json!({ "launch": { "model": "llama-3.1-70b", "gpu": "h100-sxm", "engine": "vllm" }, "batch": [1] });
    let answer = run(ask).unwrap();
    assert!(answer.notes.iter().any(|note| note.contains("does not fit")), "{:?}", answer.notes);
    assert!(answer.points.iter().all(|point| point.predicted_ms > 0.0));
    let answer = run(llama(4, json!({ "phases": ["decode"], "batch": [100_000], "context": [400_000] }))).unwrap();
    for words in ["the KV cache holds", "longer than this launch serves", "at most"] {
        assert!(answer.notes.iter().any(|note| note.contains(words)), "{words}: {:?}", answer.notes);
    }
}

#[test]
fn without_an_engine_it_is_vllm_and_says_so() {
    let answer = run(json!({ "launch": { "model": "llama-3.1-8b", "gpu": "l40s" }, "phases": ["decode"] })).unwrap();
    assert_eq!(answer.engine.name, "vllm");
    for words in ["no engine is named: vllm", "batches of 1, 8, 64 and 256", "sequences of 4096 tokens"] {
        assert!(answer.assumptions.iter().any(|said| said.contains(words)), "{words}: {:?}", answer.assumptions);
    }
}

#[test]
fn other_launches_are_worked_out_anew() {
    let answer = run(llama(
        4,
        json!({ "batch": [1, 64], "context": [4096], "what_if": {
            "parallel": true, "formats": true, "disaggregated": { "output": 200 },
            "speculative": { "tokens": 4, "acceptance": 0.8, "draft": "llama-3.1-8b" } } }),
    ))
    .unwrap();
    let asked = &answer.what_if;
    let own = answer.points.iter().find(|point| point.phase == "decode" && point.batch == 64).unwrap();
    let splits: Vec<(u32, u32)> =
        asked.parallel.iter().filter(|row| row.batch == 64).map(|row| (row.tp, row.pp)).collect();
    assert_eq!(splits, [(4, 1), (2, 2), (1, 4)]);
    for row in &asked.parallel {
        let each = row.messages_per_layer;
        assert!(if row.tp > 1 { (1.9..2.3).contains(&each) } else { each < 0.2 }, "{row:?}");
        if (row.tp, row.batch) == (4, 64) {
            assert!(
                (row.decode_ms / own.predicted_ms - 1.0).abs() < 1e-9 && (row.sent_bytes - own.sent_bytes).abs() < 1.0
            );
        }
    }
    // Stages compute one after the other: a prompt alone takes about as long as on a single card.
    let alone = |tp: u32| asked.parallel.iter().find(|row| row.tp == tp).unwrap().prefill_ms;
    assert!(alone(1) > 2.5 * alone(4) && alone(2) > 1.5 * alone(4), "{} {} {}", alone(1), alone(2), alone(4));
    let fp8 = asked.formats.iter().find(|row| row.weights == "fp8" && row.batch == 1 && row.kv_bits > 8.0).unwrap();
    assert!((1.2..2.1).contains(&fp8.decode_speed_up) && fp8.native, "{fp8:?}");
    let cache = asked.formats.iter().find(|row| row.weights == "own" && row.kv_bits < 9.0).unwrap();
    assert!((cache.kv_tokens / asked.formats[0].kv_tokens - 2.0).abs() < 0.01, "{cache:?}");
    assert!((asked.formats[0].decode_speed_up - 1.0).abs() < 1e-12);
    let drafts = &asked.speculative[0];
    assert!((drafts.tokens_per_step - 3.3616).abs() < 1e-9, "(1 − 0.8^5) / 0.2: {drafts:?}");
    assert!(drafts.best_speed_up >= drafts.speed_up);
    let split = &asked.disaggregated[0];
    assert!((split.transfer_bytes - 4096.0 * 81_920.0).abs() < 1.0, "80 KiB a token on each rank: {split:?}");
    assert!(split.links.len() >= 3 && split.links.windows(2).all(|pair| pair[0].ms < pair[1].ms), "{split:?}");
}

#[test]
fn mistakes_are_named() {
    let bare = json!({ "model": "llama-3.1-8b", "gpu_total_bytes": 64_u64 << 30 });
    for (ask, says) in [
        (llama(4, json!({ "phases": ["generate"] })), "phase `generate` is not one of prefill, decode"),
        (llama(4, json!({ "batch": [0] })), "batch 0 is out of range"),
        (llama(4, json!({ "context": [4_000_000_000_u32] })), "context 4000000000 is out of range"),
        (llama(4, json!({ "batch": [1_000_000], "context": [1_000_000] })), "takes more than 100000 steps"),
        (llama(4, json!({ "cost": { "fixed_us": 3.0 } })), "leaves nothing to a roofline"),
        (llama(4, json!({ "cost": { "mfu": 1.5 } })), "mfu 1.5 is out of range"),
        (llama(4, json!({ "cost": { "bandwidth_bytes_per_s": -1.0 } })), "bandwidth"),
        (
            llama(4, json!({ "what_if": { "speculative": { "tokens": 4, "acceptance": 1.5, "cost": 0.1 } } })),
            "acceptance 1.5 is out of range",
        ),
        (
            llama(4, json!({ "what_if": { "speculative": { "tokens": 4, "acceptance": 0.5 } } })),
            "give either a draft model",
        ),
        (llama(4, json!({ "what_if": { "disaggregated": { "output": 0 } } })), "output 0 is out of range"),
        (json!({ "launch": bare }), "its memory bandwidth is not known"),
    ] {
        let said = run(ask.clone()).unwrap_err().to_string();
        assert!(said.contains(says), "{ask}\n  says {said}");
    }
}

#[test]
fn the_same_question_has_the_same_answer() {
    let ask = || serde_json::to_string(&run(llama(4, json!({ "batch": [3], "context": [5000] }))).unwrap()).unwrap();
    assert_eq!(ask(), ask());
}
