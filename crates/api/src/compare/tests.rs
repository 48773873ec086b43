//! Small comparisons of built-in models.

use super::answer::ComparisonRow;
use super::*;
use crate::NoFiles;

fn ask(request: &str) -> Result<ComparisonAnswer, Error> {
    let request: ComparisonRequest = serde_json::from_str(request).expect("a request");
    compare(&request, &Desk::new(&NoFiles))
}

fn answer(request: &str) -> ComparisonAnswer {
    ask(request).unwrap_or_else(|error| panic!("{request}: {error}"))
}

const FORMATS: &str = r#"{"models": ["llama-3.1-8b"], "gpus": ["l40s"],
    "formats": ["fp32", "bf16", "fp8", "int8", "gptq-4bit", "awq-4bit", "nf4", "q4_k_m"]}"#;

const GRID: &str = r#"{"models": ["llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3-8b", "mistral-7b"],
    "gpus": ["rtx-4090", "a100-40gb", "a100-80gb", "h100-80gb", "h100-96gb"]}"#;

const ENGINES: &str = r#"{"models": ["llama-3.1-8b"], "gpus": ["l40s", "rtx-4090"],
    "engines": ["vllm", "sglang", "tensorrt-llm", "llama.cpp", "ollama", "transformers"]}"#;

#[test]
fn models_against_cards_are_a_grid() {
    let answer = answer(GRID);
    assert_eq!((answer.rows.len(), answer.view.layout.as_ref()), (25, "grid"));
    assert_eq!((answer.view.rows[0].as_ref(), answer.view.columns[0].as_ref()), ("model", "gpu"));
    assert!(answer.rows.iter().all(|row| row.reason.is_none()), "{:?}", answer.rows);
    let row = |model: &str, gpu: &str| -> &ComparisonRow {
        answer.rows.iter().find(|row| row.model == model && row.gpu == gpu).expect("a row")
    };
    assert_eq!(row("llama-2-70b", "h100-96gb").state.as_deref(), Some("does_not_fit"));
    assert_eq!(row("llama-2-7b", "rtx-4090").state.as_deref(), Some("fits"));
    assert!(row("llama-2-7b", "h100-96gb").concurrency > row("llama-2-7b", "h100-80gb").concurrency);
}

#[test]
fn formats_have_real_bytes_and_reasons() {
    let answer = answer(FORMATS);
    let row = |format: &str| -> &ComparisonRow { answer.rows.iter().find(|row| row.format == format).expect(format) };
    assert_eq!(answer.view.layout, "table");
    assert_eq!(row("bf16").checkpoint_bytes, Some(16_060_522_496));
    assert_eq!(row("fp32").checkpoint_bytes, Some(2 * 16_060_522_496));
    assert_eq!(row("fp8").saved_bytes.map(|bytes| bytes > 0), Some(true));
    // What the engine cannot load has the bytes of its file and a reason, and nothing else.
    for format in ["nf4", "q4_k_m"] {
        let row = row(format);
        assert!(row.reason.as_deref().is_some_and(|why| why.contains("cannot load")), "{row:?}");
        assert!(row.checkpoint_bytes.is_some() && row.weights_bytes.is_none() && row.state.is_none(), "{row:?}");
    }
    // Fewer bits, fewer bytes, less time to decode.
    let falling = |formats: &[&str], of: fn(&ComparisonRow) -> Option<f64>| {
        let values: Vec<f64> = formats.iter().filter_map(|format| of(row(format))).collect();
        assert!(values.len() == formats.len() && values.windows(2).all(|pair| pair[0] > pair[1]), "{values:?}");
    };
    falling(&["fp32", "bf16", "fp8", "awq-4bit"], |row| row.checkpoint_bytes.map(|bytes| bytes as f64));
    falling(&["bf16", "fp8", "awq-4bit"], |row| row.weights_bytes.map(|bytes| bytes as f64));
    falling(&["bf16", "fp8", "awq-4bit"], |row| row.decode_ms);
    assert_eq!(row("fp32").weights_bytes, row("bf16").weights_bytes);
    assert!(answer.notes.iter().any(|note| note.contains("holds an fp32 checkpoint in 16 bits")), "{:?}", answer.notes);
    let quality = row("fp8").quality.as_ref().expect("a published score");
    assert!((quality.change.unwrap() + 0.35).abs() < 1e-9 && quality.metric == "score");
    assert!(row("q4_k_m").quality.is_none(), "nothing is published for this very model");
}

#[test]
fn differences_between_engines_add_up() {
    let answer = answer(ENGINES);
    assert!(answer.engines.len() >= 8, "{:?}", answer.rows);
    for difference in &answer.engines {
        let budget = |at: usize| {
            let row = &answer.rows[at];
            row.kv_budget_bytes.unwrap() as i64 - row.short_bytes as i64
        };
        let sum: i64 = difference.parts.iter().map(|part| part.bytes).sum();
        assert_eq!(sum, difference.kv_budget_bytes);
        assert_eq!(budget(difference.row) - budget(difference.against), sum);
        assert_eq!(answer.rows[difference.row].gpu, answer.rows[difference.against].gpu);
        assert_eq!(answer.rows[difference.against].engine, "vllm");
        assert!(!difference.words.is_empty());
    }
    assert!(answer.rows.iter().all(|row| !row.does.is_empty()));
}

#[test]
fn sorting_moves_rows_and_nothing_else() {
    let key = |row: &ComparisonRow| (row.model.clone(), row.gpu.clone());
    let mut plain: Vec<_> = answer(GRID).rows.iter().map(key).collect();
    for column in COLUMNS.iter().filter(|column| column.kind != Kind::Quality) {
        for sign in ["", "-"] {
            let request = GRID.replacen('{', &format!(r#"{{"sort": "{sign}{}","#, column.name), 1);
            let sorted = answer(&request);
            let values: Vec<f64> = sorted.rows.iter().filter_map(|row| column.of(row)).collect();
            let in_order =
                values.windows(2).all(|pair| if sign.is_empty() { pair[0] <= pair[1] } else { pair[0] >= pair[1] });
            assert!(in_order, "{sign}{}: {values:?}", column.name);
            let known = sorted.rows.iter().rposition(|row| column.of(row).is_some());
            assert!(known.is_none_or(|last| sorted.rows[..last].iter().all(|row| column.of(row).is_some())));
            let mut keys: Vec<_> = sorted.rows.iter().map(key).collect();
            keys.sort();
            plain.sort();
            assert_eq!(keys, plain);
        }
        if column.name == "kv_tokens" {
            break;
        }
    }
}

#[test]
fn what_is_marked_is_not_beaten() {
    for request in [FORMATS, GRID, ENGINES] {
        let answer = answer(request);
        let grid = answer.view.layout == "grid";
        let mut marked = 0;
        for row in &answer.rows {
            for name in &row.best {
                let column = Column::parse(name).unwrap();
                let own = column.of(row).unwrap();
                let others = answer.rows.iter().filter(|other| !grid || other.model == row.model);
                for other in others.filter_map(|other| column.of(other)) {
                    let beaten = if column.good == Good::Most { other > own } else { other < own };
                    assert!(!beaten, "{name}: {own} is marked, {other} is better");
                }
                marked += 1;
            }
        }
        assert!(marked > 0, "{request}");
    }
}

#[test]
fn nobody_beats_the_front() {
    let answer = answer(FORMATS);
    let front = answer.front.expect("a front");
    let (x, y) = (Column::parse(&front.x).unwrap(), Column::parse(&front.y).unwrap());
    for at in &front.rows {
        let own = (x.of(&answer.rows[*at]).unwrap(), y.of(&answer.rows[*at]).unwrap());
        for other in &answer.rows {
            let Some(point) = x.of(other).zip(y.of(other)) else { continue };
            assert!(!(point.0 < own.0 && point.1 > own.1), "{own:?} is beaten by {point:?}");
        }
    }
}

#[test]
fn counts_of_cards_are_ranks_and_lists_are_settings() {
    let answer = answer(
        r#"{"models": ["llama-2-70b"], "gpus": ["a100-80gb:4"], "context": [2048, 4096], "batch": [1, 16],
            "kv_formats": ["auto", "fp8"], "show": ["kv_tokens"], "sort": "-kv_tokens"}"#,
    );
    assert_eq!(answer.rows.len(), 8);
    assert!(answer.rows.iter().all(|row| (row.tp, row.gpus) == (4, 4)), "{:?}", answer.rows);
    assert!(answer.assumptions.iter().any(|text| text.contains("4 tensor-parallel ranks")));
    assert_eq!(answer.rows[0].kv_format.as_deref(), Some("fp8"));
    let sparse = ask(r#"{"models": ["llama-2-7b"], "gpus": ["h100:4"], "tp": [3, 4], "pp": [1, 2]}"#).unwrap();
    let three = sparse.rows.iter().find(|row| row.reason.is_some()).expect("heads do not divide by 3");
    assert!(three.reason.as_deref().unwrap().contains("3"), "{three:?}");
}

#[test]
fn times_are_of_batches_that_fit() {
    let answer = answer(r#"{"models": ["qwen3-32b"], "gpus": ["h100"], "batch": [1, 256]}"#);
    assert!(answer.rows[0].decode_ms.is_some() && answer.rows[1].decode_ms.is_none());
    assert!(answer.rows[1].times_reason.as_deref().is_some_and(|why| why.ends_with("at once, not 256")));
}

#[test]
fn what_an_engine_has_no_option_for_is_a_cell() {
    let answer = answer(
        r#"{"models": ["llama-3-8b"], "gpus": ["h100:2"], "engines": ["vllm", "transformers", "llama.cpp"], "tp": [2]}"#,
    );
    let reason = |at: usize| answer.rows[at].reason.clone().unwrap_or_default();
    assert_eq!(reason(0), "");
    assert!(reason(1).contains("no option for tp"), "{}", reason(1));
}

#[test]
fn malformed_questions_are_errors() {
    let check = |request: &str, why: &str| {
        let error = ask(request).expect_err(request);
        assert!(error.to_string().contains(why), "{error}");
    };
    check(r#"{"gpus": ["h100"]}"#, "nothing to compare");
    check(r#"{"models": ["llama-2-7b"]}"#, "no card");
    check(r#"{"models": ["llama-9-7b"], "gpus": ["h100"]}"#, "no model named `llama-9-7b`");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h900"]}"#, "no GPU named `h900`");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100:0"]}"#, "count after `:`");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "formats": ["int3"]}"#, "`int3` is not supported");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "engines": ["exllama"]}"#, "not built in");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "sort": "beauty"}"#, "no figure of a comparison");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "sort": "quality"}"#, "do not compare");
    check(
        r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "rows": ["gpu"], "columns": ["gpu"]}"#,
        "in rows and in columns",
    );
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "rows": ["shape"]}"#, "no list of a comparison");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "at_batch": 0}"#, "at-batch 0 is out of range");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "at_context": 0}"#, "at-context 0 is out of range");
    check(r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "tp": [0]}"#, "tp 0 is out of range");
    check(
        r#"{"models": ["llama-2-7b"], "gpus": ["h100"], "engines": ["vllm", "sglang"], "launch": {"options": {"max_num_seqs": 4}}}"#,
        "--max-num-seqs is one engine's",
    );
    let many: Vec<String> = (1..=200).map(|context| (context * 16).to_string()).collect();
    let request =
        format!(r#"{{"models": ["llama-2-7b"], "gpus": ["h100"], "context": [{0}], "batch": [{0}]}}"#, many.join(","));
    check(&request, "`plimsoll sweep` takes more");
}

#[test]
fn no_engine_serves_more_than_its_launch() {
    let answer = answer(
        r#"{"models": ["llama-3.1-8b"], "gpus": ["h100-sxm"], "engines": ["vllm", "tensorrt-llm", "sglang"], "context": [32768]}"#,
    );
    let longest: Vec<Option<u64>> = answer.rows.iter().map(|row| row.max_context_tokens).collect();
    assert_eq!(longest, [Some(131_072), Some(32_768), Some(32_768)]);
}

#[test]
fn a_call_of_transformers_that_fits_serves_at_least_one() {
    let ask = |at: &str| {
        let request = format!(
            r#"{{"models": ["llama-2-7b"], "gpus": ["rtx-4090"], "engines": ["transformers"], "formats": ["gptq-4bit"]{at}}}"#
        );
        let row = answer(&request).rows.remove(0);
        (row.state.unwrap().into_owned(), row.concurrency.unwrap())
    };
    let (state, whole) = ask("");
    assert!(state == "fits" && whole >= 1, "{state} {whole}");
    // Four times as many tokens of a quarter of the length, and activations beside them.
    let quarter = ask(r#", "at_context": 1024"#).1;
    assert!(quarter >= 4 * whole, "{quarter} {whole}");
}

#[test]
fn what_holds_no_sequence_as_long_as_asked_is_shorter() {
    let answer = answer(
        r#"{"models": ["qwen3-8b"], "gpus": ["rtx-4090"], "engines": ["sglang", "vllm"], "context": [4096, 16384, 40960]}"#,
    );
    let states: Vec<&str> = answer.rows.iter().map(|row| row.state.as_deref().unwrap()).collect();
    assert_eq!(states, ["fits", "shorter", "shorter", "fits", "fits", "shorter"]);
    for row in answer.rows.iter().filter(|row| row.state.as_deref() == Some("shorter")) {
        assert!(row.margin_bytes.unwrap() < 0 && row.binding.as_deref() == Some("kv"), "{row:?}");
        assert!(row.max_context_tokens.unwrap() < row.context, "{row:?}");
    }
}

#[test]
fn what_no_measurement_stands_behind_is_not_best() {
    let answer = answer(
        r#"{"models": ["gpt-oss-120b"], "gpus": ["mi300x", "b200", "h200", "h100-sxm"], "show": ["decode_ms"]}"#,
    );
    let unmeasured: Vec<bool> = answer.rows.iter().map(|row| row.times_unmeasured).collect();
    assert_eq!(unmeasured, [true, false, false, false]);
    let best = |row: &ComparisonRow| row.best.iter().any(|name| name == "decode_ms");
    assert!(!best(&answer.rows[0]) && best(&answer.rows[1]), "{:?}", answer.rows);
    assert!(answer.front.is_none_or(|front| !front.rows.contains(&0)));
}
