use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::NoFiles;

fn ask(value: serde_json::Value) -> Result<GrowAnswer, Error> {
    let request: GrowRequest = serde_json::from_value(value).unwrap();
    grow(&request, &Desk::new(&NoFiles))
}

fn launch(model: &str, gpu: &str, engine: &str) -> serde_json::Value {
    json!({"model": model, "gpu": gpu, "engine": engine})
}

#[test]
fn the_example_of_the_tour() {
    let answer = ask(json!({
        "launch": {"model": "llama-3.1-8b", "gpu": "h100-sxm"},
        "vary": [{"knob": "context", "values": "1k..128k"}, {"knob": "batch", "values": "1,4,16,64"}],
    }))
    .unwrap();
    assert_eq!(answer.points.len(), 32);
    let at = |context, batch| {
        let point = answer.points.iter().find(|point| (point.context, point.batch) == (context, batch));
        point.and_then(|point| point.need.clone()).unwrap()
    };
    // 128 KiB a token.
    assert_eq!(at(32_768, 16).kv_bytes, 64 << 30);
    assert_eq!(at(32_768, 16).fits, Some(false));
    assert!((at(16_384, 16).kv_bytes_per_token - 131_072.0).abs() < 1e-9);
    assert_eq!(answer.lines.len(), 4);
    assert_eq!(answer.largest_batches.len(), 8);
    // Blocks of 16 tokens: the first block that makes the cache larger than the weights.
    let line = &answer.lines[2];
    let crossing = line.kv_outgrows_weights_at.unwrap();
    let weights = at(1024, 16).weights_bytes;
    assert_eq!(crossing % 16, 1);
    assert!((crossing + 15) * 16 * 131_072 > weights && (crossing - 1) * 16 * 131_072 <= weights);
    assert_eq!(line.full_at, line.reach.most.map(|most| most + 1));
    assert_eq!(answer.lines[0].reach.bound, "model");
    assert!(answer.assumptions.iter().any(|said| said.contains("no engine is named: vllm")));
}

#[test]
fn windows_stop_growing() {
    let answer = ask(json!({
        "launch": launch("gemma-3-27b", "h200", "vllm"),
        "vary": [{"knob": "context", "values": "1k..128k"}],
    }))
    .unwrap();
    let needs: Vec<&NeedAnswer> = answer.points.iter().filter_map(|point| point.need.as_ref()).collect();
    assert!(needs.last().unwrap().kv_bytes_per_token < needs[0].kv_bytes_per_token / 3.0);
    assert!(answer.findings[0].contains("windows stop growing"), "{:?}", answer.findings);
}

#[test]
fn a_bare_specification_is_llama_2_7b() {
    let spec = "layers=32,dim=4096,heads=32,head-dim=128";
    let answer = ask(json!({"spec": spec, "vary": [{"knob": "context", "values": "1k..32k"}]})).unwrap();
    assert_eq!(answer.model.parameters, 6_738_415_616);
    let last = answer.points.last().unwrap().need.clone().unwrap();
    assert_eq!((last.kv_bytes, last.weights_bytes), (16 << 30, 2 * 6_738_415_616));
    assert_eq!((last.fits, last.card_bytes), (None, None));
    assert_eq!(answer.lines[0].reach.most, None);
    assert_eq!(answer.lines[0].kv_outgrows_weights_at, Some(2 * 6_738_415_616 / (512 << 10) + 1));
    assert!(answer.textbook.is_some() && answer.launch.is_none());
    // With an engine it is a launch like any other.
    let launched = json!({"spec": spec, "launch": {"gpu": "h100-sxm", "engine": "vllm"},
        "vary": [{"knob": "layers", "values": "16,32"}, {"knob": "context", "values": "4k"}]});
    let answer = ask(launched).unwrap();
    assert!(answer.textbook.is_none());
    let kv: Vec<u64> = answer.points.iter().map(|point| point.need.as_ref().unwrap().kv_bytes).collect();
    assert_eq!(kv, [1 << 30, 2 << 30]);
}

#[test]
fn what_is_refused_is_a_row() {
    let answer = ask(json!({
        "launch": launch("llama-2-7b", "h100-sxm", "vllm"),
        "vary": [{"knob": "context", "values": "2k..8k"}, {"knob": "tp", "values": "1,3"}],
    }))
    .unwrap();
    let refused: Vec<bool> = answer.points.iter().map(|point| point.refused.is_some()).collect();
    assert_eq!(refused, [false, false, true, true, true, true]);
    assert_eq!((answer.lines[0].reach.most, answer.lines[1].reach.most), (Some(4096), None));
    assert!(answer.lines[1].reach.refused.as_ref().is_some_and(|said| said.contains("3")), "{:?}", answer.lines[1]);
}

#[test]
fn malformed_questions() {
    for (question, message) in [
        (json!({"spec": "layers=32", "vary": []}), "--spec is layers=32, expected dim="),
        (json!({"spec": "layers=32,dim"}), "--spec is dim, expected NAME=VALUE"),
        (json!({"spec": "layers=1,dim=8,heads=1,head-dim=8,wings=2"}), "--spec is wings=2, expected layers, dim,"),
        (json!({"spec": "layers=1,dim=8,heads=1,head-dim=8,bytes=1"}), "--spec is bytes=1, expected 2 (bf16) or 4"),
        (json!({"spec": "layers=1073741824,dim=1073741824,heads=1,head-dim=1"}), "--spec: "),
        (
            json!({"spec": "layers=1,dim=8,heads=1,head-dim=8", "launch": {"model": "llama-2-7b"}}),
            "both --spec and the model llama-2-7b are given",
        ),
        (
            json!({"spec": "layers=1,dim=8,heads=1,head-dim=8", "vary": [{"knob": "tp", "values": "1,2"}]}),
            "tp is an engine's: name one with --engine",
        ),
        (json!({"launch": {"gpu": "h100-sxm"}}), "no model"),
        (json!({"launch": {"model": "llama-2-7b"}}), "no card"),
        (
            json!({"launch": launch("llama-2-7b", "h100-sxm", "vllm"), "vary": [{"knob": "context", "values": "1k.."}]}),
            "context is `1k..`, expected numbers",
        ),
    ] {
        let error = ask(question.clone()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{question}: {error}");
    }
}

#[test]
fn cards_side_by_side() {
    let answer = ask(json!({
        "launch": launch("llama-3.1-8b", "h100-sxm", "vllm"),
        "vary": [{"knob": "context", "values": "1k,2k"}],
        "gpus": ["rtx-4090", "l40s", "no-such-card"],
    }))
    .unwrap();
    let most: Vec<Option<u64>> = answer.gpus.iter().map(|row| row.reaches.first()?.most).collect();
    assert!(most[0] < most[1] && most[2].is_none() && answer.gpus[2].refused.is_some(), "{most:?}");
}

/// The longest context of the batch where no point of the grid fits: Transformers refuses a length of one token, which is
/// too little, not too much.
#[test]
fn what_is_refused_below_bounds_nothing_from_above() {
    for (gpu, batch, longest) in [("rtx-4090", 64, 450..600), ("rtx-4090", 256, 100..150), ("h100-sxm", 512, 450..600)]
    {
        let answer = ask(json!({
            "launch": launch("llama-3.1-8b", gpu, "transformers"),
            "vary": [{"knob": "context", "values": "1k..128k"}, {"knob": "batch", "values": format!("1,{batch}")}],
        }))
        .unwrap();
        let reach = &answer.lines[1].reach;
        let (low, most, high) = (reach.low.unwrap(), reach.most.unwrap(), reach.high.unwrap());
        assert!(longest.contains(&most) && reach.bound == "kv", "{gpu} {batch}: {reach:?}");
        assert!(low <= most && most <= high && low * 4 >= most * 3, "{gpu} {batch}: {reach:?}");
        assert_eq!(answer.lines[1].full_at, Some(most + 1));
    }
    // Where even the shortest does not fit, nothing does, and the card is why.
    let answer = ask(json!({
        "launch": launch("llama-3.1-70b", "rtx-4090", "transformers"),
        "vary": [{"knob": "context", "values": "1k,2k"}],
    }))
    .unwrap();
    let reach = &answer.lines[0].reach;
    assert_eq!((reach.most, reach.low, reach.high, reach.bound.as_str()), (Some(0), Some(0), Some(0), "weights"));
}

#[test]
fn cards_of_an_engine_that_refuses_one_token() {
    let answer = ask(json!({
        "launch": launch("llama-3.1-8b", "l40s", "transformers"),
        "vary": [{"knob": "context", "values": "8k"}],
        "gpus": ["rtx-4090", "l40s"],
    }))
    .unwrap();
    let most: Vec<Option<u64>> = answer.gpus.iter().map(|row| row.reaches.first()?.most).collect();
    assert!(most[0] < most[1] && most[0] > Some(30_000), "{most:?}");
    assert!(answer.gpus.iter().all(|row| row.refused.is_none() && row.card_bytes.is_some()));
    assert_eq!(most[1], answer.lines[0].reach.most);
}

#[test]
fn what_is_refused_is_not_never() {
    let answer = ask(json!({
        "launch": launch("llama-3.1-8b", "l40s", "llama.cpp"),
        "vary": [{"knob": "context", "values": "1k,2k"}, {"knob": "batch", "values": "1,512"}],
        "gpus": ["rtx-4090"],
    }))
    .unwrap();
    let line = &answer.lines[1];
    assert_eq!((line.reach.most, line.full_at, line.kv_outgrows_weights_at), (None, None, None));
    assert!(line.reach.refused.as_ref().is_some_and(|said| said.contains("n_seq_max")), "{line:?}");
    assert!(
        answer.findings.last().is_some_and(|said| said.starts_with("batch 512: refused: ")),
        "{:?}",
        answer.findings
    );
    // One batch of a card is refused, the others are not.
    let row = &answer.gpus[0];
    assert!(row.refused.is_none() && row.reaches[0].most.is_some() && row.reaches[1].refused.is_some(), "{row:?}");
}

/// Beside a bare specification on a card stands the textbook on that card, with a reason only where the two differ.
#[test]
fn the_textbook_says_what_differs() {
    let card = json!({"gpu": "rtx-4090"});
    let answer = ask(json!({"spec": "layers=32,dim=4096,heads=32,head-dim=128", "launch": card,
        "vary": [{"knob": "context", "values": "1k,2k"}]}))
    .unwrap();
    let textbook = answer.textbook.unwrap();
    let lines: Vec<(&str, bool)> =
        textbook.lines.iter().map(|line| (line.what.as_str(), line.why.is_empty())).collect();
    assert_eq!(lines, [("weights", false), ("KV per token", true), ("activations", false), ("longest context", true)]);
    assert_eq!(textbook.lines[3].real, answer.lines[0].reach.most.map(|most| most as f64));
    // Grouped heads are named where there are some, and all cards are told of where none is named.
    let answer = ask(json!({"spec": "layers=32,dim=4096,heads=32,head-dim=128,kv-heads=8",
        "vary": [{"knob": "context", "values": "1k,2k"}]}))
    .unwrap();
    let lines = answer.textbook.unwrap().lines;
    assert!(lines[1].why.contains("8 heads for 32"), "{:?}", lines[1]);
    assert!(lines.last().unwrap().why.starts_with("weights and KV per token and activations differ"), "{lines:?}");
}

/// Where neither context nor batch is varied, every point goes as far as it does.
#[test]
fn every_division_goes_as_far_as_it_does() {
    let answer = ask(json!({
        "launch": launch("llama-3.1-70b", "h100-sxm", "vllm"),
        "vary": [{"knob": "tp", "values": "2,3,4,8"}, {"knob": "batch", "values": "4"}],
    }))
    .unwrap();
    let values: Vec<&str> = answer.lines.iter().map(|line| line.reach.at[0].value.as_str()).collect();
    assert_eq!(values, ["2", "3", "4", "8"]);
    let (lines, batches) = (&answer.lines, &answer.largest_batches);
    assert!(lines.iter().all(|line| line.along == "context"));
    assert!(lines[1].reach.refused.is_some() && batches[1].refused.is_some());
    assert!(lines[0].reach.most < lines[2].reach.most && lines[2].reach.most < lines[3].reach.most);
    assert!(batches[0].most < batches[2].most && batches[2].most < batches[3].most);
    // The same as where the context is varied.
    let along = ask(json!({
        "launch": launch("llama-3.1-70b", "h100-sxm", "vllm"),
        "vary": [{"knob": "context", "values": "1k..128k"}, {"knob": "tp", "values": "2,4"},
            {"knob": "batch", "values": "4"}],
    }))
    .unwrap();
    assert_eq!(along.lines[1].reach.most, lines[2].reach.most);
    assert_eq!(along.lines[1].kv_outgrows_weights_at, lines[2].kv_outgrows_weights_at);
    // How many cards each is on.
    let cards: Vec<Option<u32>> = answer.points.iter().map(|point| Some(point.need.as_ref()?.gpus)).collect();
    assert_eq!(cards, [Some(2), None, Some(4), Some(8)]);
}

/// Layers are not evenly many on three cards, and the output projection lies on one: which card is the fullest changes.
#[test]
fn the_fullest_card_changes() {
    let answer = ask(json!({
        "launch": {"model": "llama-3.1-8b", "gpu": "l40s:4", "engine": "llama.cpp"},
        "vary": [{"knob": "context", "values": "8k"}, {"knob": "batch", "values": "1,64"}],
    }))
    .unwrap();
    let ranks: Vec<u32> = answer.points.iter().filter_map(|point| Some(point.need.as_ref()?.rank)).collect();
    let said = answer.notes.iter().any(|note| note.starts_with("the fullest card is not the same everywhere"));
    assert!(ranks.len() == 2 && ranks[0] != ranks[1] && said, "{ranks:?} {:?}", answer.notes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// What is said to be the last that fits fits, and one more does not; the two tables are each other's inverse.
    #[test]
    fn reaches_are_exact(
        engine in prop::sample::select(vec!["vllm", "sglang", "tensorrt-llm", "transformers"]),
        model in prop::sample::select(vec!["llama-3.1-8b", "gemma-3-27b", "qwen3-8b"]),
        batch in 1_u64..200,
        context in 16_u64..30_000,
    ) {
        let answer = ask(json!({
            "launch": launch(model, "h100-sxm", engine),
            "vary": [{"knob": "context", "values": format!("{context},{}", context + 1)},
                {"knob": "batch", "values": format!("{batch},{}", batch + 1)}],
        }));
        let Ok(answer) = answer else { return Ok(()) };
        let desk = Desk::new(&NoFiles);
        let request: PlanRequest = serde_json::from_value(launch(model, "h100-sxm", engine)).unwrap();
        let base = Base::new(&request, &desk).unwrap();
        let fits = |batch, context| base.need_at(&[], batch, context).is_ok_and(|need| need.fits);
        let most = answer.lines[0].reach.most.unwrap();
        prop_assert!(most == 0 || fits(batch, most), "{most}");
        prop_assert!(answer.lines[0].reach.bound == "model" || !fits(batch, most + 1), "{most}");
        let largest = answer.largest_batches[0].most.unwrap();
        prop_assert!(largest == 0 || fits(largest, context), "{largest}");
        prop_assert!(!fits(largest + 1, context), "{largest}");
        prop_assert_eq!(largest >= batch, most >= context);
        if let Some(at) = answer.lines[0].kv_outgrows_weights_at {
            let (after, before) = (base.need_at(&[], batch, at).unwrap(), base.need_at(&[], batch, at.max(2) - 1));
            prop_assert!(after.kv > after.weights);
            prop_assert!(at == 1 || before.is_ok_and(|need| need.kv <= need.weights) || engine == "transformers");
        }
    }
}
