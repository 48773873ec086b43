//! Does the door keep its promises? Exit statuses, JSON keys, batches, explanations, completions, and what mistakes are told.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The launch that most tests ask about.
const LLAMA: &[&str] = &["--gpu", "h100-sxm", "--", "vllm", "serve", "meta-llama/Llama-3.1-8B-Instruct"];

/// The tool, in the folder of the tests' own files.
fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files"));
    command.env("HF_HUB_CACHE", "/nowhere").env("PLIMSOLL_PROFILE", "");
    command
}

fn run(words: &[&str]) -> Output {
    tool().args(words).output().expect("the tool starts")
}

fn plan(own: &[&str], rest: &[&str]) -> Output {
    run(&[&["plan"], own, rest].concat())
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("stdout is JSON")
}

/// The status and the first line on stderr.
fn check(line: &str, status: i32, first: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = run(&words);
    let talk = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{line}\n{talk}");
    let said = talk.lines().next().unwrap_or_default();
    assert!(said.contains(first), "{line}\n  says     {said}\n  expected {first}");
    assert!(!talk.contains("panicked"), "{line}\n{talk}");
    if status != 0 {
        assert_eq!(out(&output), "", "{line}: an error leaves stdout alone");
    }
}

#[test]
fn the_status_says_how_it_went() {
    check("plan --gpu h100-sxm -- vllm serve meta-llama/Llama-3.1-8B-Instruct", 0, "");
    check("plan --gpu rtx-4090 -- vllm serve Qwen/Qwen3-14B", 0, "");
    check("plan --check --gpu h100-sxm -- vllm serve meta-llama/Llama-3.1-8B-Instruct", 0, "");
    check("plan --gpu h100-sxm -- vllm serve no/such-model-anywhere", 1, "no model named");
    check("plan --gpu h100-sxm -- vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len x", 2, "--max-model-len");
    check("inspect tiny-llama", 0, "");
    check("grow tiny-llama --gpu h100-sxm --context 64..1k --batch 1,2", 0, "");
    check("grow --gpu h100-sxm --batch 1 -- vllm serve tiny-llama --tensor-parallel-size 2", 0, "");
    check("grow tiny-llama --gpu h100-sxm --context 1k..", 2, "context is `1k..`, expected numbers such as");
    check("grow tiny-llama --gpu h100-sxm --context 1..2 --batch 1..2 --tp 1,2", 2, "at most two at a time");
    check("grow tiny-llama --gpu h100-sxm --engine llama.cpp --tp 1,2", 2, "llama.cpp has no option for tp");
    check("grow --spec layers=2,dim=64,heads=2", 2, "expected head-dim=");
    check("roofline tiny-llama --gpu h100-sxm --batch 1,2 --context 64", 0, "");
    check("roofline tiny-llama --gpu h100-sxm --phase generate", 2, "phase `generate` is not one of prefill, decode");
    check("roofline tiny-llama --gpu-memory 64GiB", 2, "its memory bandwidth is not known");
    check("roofline tiny-llama --gpu h100-sxm --speculative tokens=4", 2, "acceptance= is missing");
    check("roofline tiny-llama --gpu h100-sxm --speculative tokens=x", 2, "tokens=x: not such a number");
    check("roofline tiny-llama --gpu h100-sxm --disaggregated input=3", 2, "not one of output");
    check("roofline --gpu h100-sxm --batch 1 -- vllm serve tiny-llama --tensor-parallel-size 2", 0, "");
    let tight = plan(&["--check", "--gpu", "rtx-4090"], &["--", "vllm", "serve", "Qwen/Qwen3-14B"]);
    assert_eq!(tight.status.code(), Some(3));
    assert!(out(&tight).contains("DOES NOT FIT"), "the answer is printed all the same");
}

#[test]
fn repositories_of_gguf_files_are_read_by_name() {
    for (repository, says) in [
        ("Qwen/Qwen3-8B-GGUF:Q8_0", "Qwen/Qwen3-8B: 8.19 B parameters, Q8_0, derived"),
        ("unsloth/Qwen3-8B-GGUF:Q4_K_M", "-hf unsloth/Qwen3-8B-GGUF:Q4_K_M"),
        ("ggml-org/gpt-oss-20b-GGUF", "MXFP4_MOE"),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "-hf bartowski/Meta-Llama-3.1-8B-Instruct-GGUF"),
    ] {
        let found = plan(&["--gpu", "rtx-4090"], &["--", "llama-server", "-hf", repository, "-c", "4096"]);
        assert!(out(&found).contains(says), "{repository}: {}", out(&found));
    }
}

#[test]
fn mistakes_are_named_with_what_would_be_right() {
    let llama = "meta-llama/Llama-3.1-8B-Instruct";
    for (line, status, first) in [
        ("plan llama-3.1-8b-instrct --gpu h100-sxm --engine vllm", 1, "close: "),
        ("plan llama --gpu h100-sxm --engine vllm", 1, "it fits several: "),
        ("plan qwen3-8b --gpu h1000 --engine vllm", 1, "no GPU named `h1000`; close: "),
        ("plan qwen3-8b --gpu m2-ultra --engine vllm", 1, "is not known; give --gpu-memory"),
        ("plan qwen3-8b --engine vllm", 2, "no card: give --gpu"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --tensor-parallel-size 3", 1, "32 attention heads do not divide"),
        ("plan LLAMA --gpu h100-sxm", 2, "no engine: give --engine"),
        ("plan LLAMA --gpu h100-sxm --engine triton", 2, "supported: vllm, tensorrt-llm"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --engine-version latest", 2, "leave it out for "),
        (
            "plan LLAMA --gpu h100-sxm --engine llama.cpp --engine-version 0c1e57098",
            2,
            "give its number, such as b10573",
        ),
        ("plan LLAMA --gpu h100-sxm --engine llama.cpp --engine-version 1.2", 2, "give its number, such as b10573"),
        ("plan LLAMA --gpu rtx-4090:17 --engine llama.cpp", 2, "takes 16 GPUs at most"),
        (
            "plan --gpu rtx-4090 -- llama-server -hf unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL",
            2,
            "a mixture of its publisher's own",
        ),
        ("plan --gpu rtx-4090 -- llama-server -hf nobody/v1-GGUF", 1, "no model named"),
        ("plan --gpu rtx-4090 -- llama-server -hf nobody/Foo-9B-GGUF:Q8_0", 1, "no model named"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --max-model-len", 2, "--max-model-len needs a value"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --max-model-len lots", 2, "--max-model-len is `lots`, expected"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --max-model-len -5", 2, "--max-model-len is -5, expected"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --max-modle-len 5000", 2, "did you mean --max-model-len?"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --gpu-memory-utilization 1.5", 2, "is 1.5, expected a number"),
        ("plan LLAMA --engine vllm --gpu-memory -3GiB", 2, "`-3GiB` is not a size such as"),
        ("plan LLAMA --engine vllm --gpu-memory 80", 2, "give a unit, such as 80GiB"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --given weight=3GiB", 2, "not one of weights, activation"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --option max_model_len", 2, "expected KEY=VALUE"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --explain kvv", 2, "has no item `kvv`; it has weights."),
        ("plan LLAMA --gpu h100-sxm:0 --engine vllm", 2, "the count after `:`"),
        ("plan LLAMA --gpu h100-sxm --engine vllm --dtype fp8", 2, "expected one of auto, half"),
        ("plan no-config --gpu h100-sxm --engine vllm", 1, "no-config: no config.json in this directory"),
        ("plan ./nowhere --gpu h100-sxm --engine vllm", 1, "./nowhere: no such file"),
        ("plan keyless --gpu h100-sxm --engine vllm", 1, "keyless/config.json: `"),
        ("plan ./cut-short.json --gpu h100-sxm --engine vllm", 1, "./cut-short.json: line 2"),
        ("plan --gpu h100-sxm -- python serve.py", 2, "supported: `vllm serve`"),
        ("plan --gpu h100-sxm -- vllm serve", 2, "no model: give MODEL"),
        ("plan", 2, "nothing is launched: give MODEL"),
        ("plan --batch nowhere.jsonl", 1, "nowhere.jsonl: "),
        ("plam", 2, "unrecognized subcommand"),
        ("catalogue model", 2, "invalid value 'model'"),
        ("inspect nonsense", 1, "no model named `nonsense`"),
    ] {
        check(&line.replace("LLAMA", llama), status, first);
    }
}

#[test]
fn a_misspelt_flag_of_our_own_is_suggested() {
    let output = plan(&["--gpus", "h100-sxm"], &LLAMA[2..]);
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(talk.contains("hint: Plimsoll's own flag is --gpu"), "{talk}");
}

#[test]
fn json_has_every_promised_key() {
    let fits = json(&plan(&["--json"], LLAMA));
    for key in [
        "/model/id",
        "/model/parameters",
        "/engine/name",
        "/engine/version",
        "/gpu/name",
        "/parallel/tp",
        "/parallel/pp",
        "/parallel/dp",
        "/parallel/ep",
        "/ranks/0/pp_rank",
        "/ranks/0/tp_rank",
        "/ranks/0/limit_bytes",
        "/ranks/0/entries/0/item",
        "/ranks/0/entries/0/bytes",
        "/ranks/0/entries/0/low",
        "/ranks/0/entries/0/high",
        "/ranks/0/entries/0/source",
        "/kv/bytes_per_token",
        "/kv/block_tokens",
        "/kv/blocks",
        "/kv/tokens",
        "/kv/budget_bytes",
        "/kv/budget_low",
        "/kv/budget_high",
        "/kv/max_concurrency",
        "/kv/concurrency_at_tokens",
        "/kv/logged/kv_tokens",
        "/kv/logged/gib",
        "/max_context_tokens",
        "/verdict/fits",
        "/verdict/spare_bytes",
        "/assumptions/0",
        "/notes",
        "/launch",
        "/verdict/remedies",
    ] {
        assert!(fits.pointer(key).is_some_and(|value| !value.is_null()), "{key} is missing");
    }
    for key in ["/verdict/short_by_bytes", "/verdict/binding"] {
        assert!(fits.pointer(key).is_some(), "{key} is missing");
    }
    let tight = json(&plan(&["--json", "--gpu", "rtx-4090"], &["--", "vllm", "serve", "Qwen/Qwen3-8B"]));
    assert_eq!(tight["verdict"]["fits"], false);
    for key in ["/verdict/short_by_bytes", "/verdict/binding", "/verdict/remedies/0/fits"] {
        assert!(tight.pointer(key).is_some_and(|value| !value.is_null()), "{key} is missing");
    }
}

#[test]
fn entries_sum_to_their_rank() {
    let answer = json(&plan(&["--json"], LLAMA));
    for rank in answer["ranks"].as_array().unwrap() {
        let sum: u64 = rank["entries"].as_array().unwrap().iter().map(|entry| entry["bytes"].as_u64().unwrap()).sum();
        assert_eq!(rank["total_bytes"], sum);
    }
}

#[test]
fn a_batch_answers_line_by_line_in_order() {
    let output = run(&["plan", "--batch", "requests.jsonl"]);
    assert_eq!(output.status.code(), Some(0));
    let answers: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0]["engine"]["version"], "0.19.0");
    assert_eq!((&answers[1]["line"], answers[1]["error"].is_string()), (&2.into(), true));
    assert_eq!((&answers[2]["line"], answers[2]["error"].is_string()), (&3.into(), true));
    assert_eq!(answers[3]["kv"]["budget_bytes"], 4_294_967_296_u64);
}

#[test]
fn a_batch_reads_standard_input() {
    let mut child = tool()
        .args(["plan", "--batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    child.stdin.take().unwrap().write_all(b"{}\n\n{\"model\": 3}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["line"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(3)]);
}

#[test]
fn every_item_of_a_ledger_is_explained() {
    let trt = ["--gpu", "h100-sxm", "--", "trtllm-serve", "meta-llama/Llama-3.1-8B-Instruct"];
    for launch in [LLAMA, &trt] {
        let answer = json(&plan(&["--json"], launch));
        for entry in answer["ranks"][0]["entries"].as_array().unwrap() {
            let item = entry["item"].as_str().unwrap();
            let explained = json(&plan(&["--json", "--explain", item], launch));
            assert_eq!(explained["bytes"], entry["bytes"], "{item}");
            for key in ["formula", "source"] {
                assert!(explained[key].as_str().is_some_and(|text| !text.is_empty()), "{item} has no {key}");
            }
            let text = plan(&["--explain", item], launch);
            assert!(out(&text).starts_with(item) && text.status.success(), "{item}");
        }
    }
}

#[test]
fn every_page_fits_eighty_columns() {
    let mut pages = vec![plan(&[], LLAMA), plan(&["--gpu", "rtx-4090"], &["--", "vllm", "serve", "Qwen/Qwen3-8B"])];
    for kind in ["models", "gpus", "engines", "formats"] {
        pages.push(run(&["catalogue", kind]));
    }
    for model in ["deepseek-ai/DeepSeek-V3", "moonshotai/Kimi-K3", "facebook/opt-125m", "google/gemma-4-E2B-it"] {
        pages.push(run(&["inspect", model]));
        pages.push(run(&["inspect", "--tensors", model]));
    }
    pages.extend([run(&["--help"]), run(&["plan", "--help"]), run(&["inspect", "--help"])]);
    for page in pages {
        assert!(page.status.success());
        for line in out(&page).lines() {
            let one_word = line.split_whitespace().count() <= 2;
            assert!(line.chars().count() <= 80 || one_word, "{} columns: {line}", line.chars().count());
        }
    }
}

#[test]
fn every_form_of_output_parses() {
    for verb in [vec!["catalogue", "gpus"], vec!["catalogue", "models"], vec!["inspect", "tiny-llama"]] {
        assert!(json(&run(&[verb.as_slice(), &["--json"]].concat())).is_object());
        let csv = out(&run(&[verb.as_slice(), &["--format", "csv"]].concat()));
        assert!(csv.lines().count() > 2 && csv.lines().all(|line| line.contains(',')));
        assert!(out(&run(&[verb.as_slice(), &["--format", "markdown"]].concat())).contains("| --- |"));
    }
    assert!(out(&plan(&["--format", "csv"], LLAMA)).contains("kv"));
    assert!(out(&plan(&["--format", "markdown"], LLAMA)).contains("| --- |"));
}

#[test]
fn schemas_completions_and_the_man_page_are_printed() {
    for of in [
        "plan-request",
        "plan-answer",
        "inspect-answer",
        "catalogue-answer",
        "roofline-request",
        "roofline-answer",
        "grow-request",
        "grow-answer",
    ] {
        assert!(json(&run(&["schema", of]))["properties"].is_object(), "{of}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&run(&["completions", shell])).contains("gpu-memory"), "{shell}");
    }
    assert!(out(&run(&["man"])).contains(".TH plimsoll 1"));
}

#[test]
fn colour_is_asked_for() {
    let plain = plan(&[], LLAMA);
    assert!(!out(&plain).contains('\x1b'), "no colour into a pipe");
    let painted = plan(&["--color", "always"], LLAMA);
    assert!(out(&painted).contains("\x1b[1m"));
    let mut asked = tool();
    let quiet = asked.env("NO_COLOR", "1").arg("plan").args(LLAMA).output().unwrap();
    assert_eq!(quiet.stdout, plain.stdout);
}

#[test]
fn a_reader_that_leaves_is_no_accident() {
    let mut child = tool()
        .args(["catalogue", "models", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the tool starts");
    let mut first = [0_u8; 16];
    let mut reader = child.stdout.take().unwrap();
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
