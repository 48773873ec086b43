//! Does a simulation mean what it says? Whole requests for every engine with a modelled scheduler: a jump changes nothing,
//! the same question has the same answer to the byte, and the books of requests and tokens balance.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use plimsoll_api::{Desk, Error, NoFiles, SimulateRequest, Simulated, simulate};
use plimsoll_sim::Watch;
use serde_json::{Value, json};

/// Looks at nothing.
struct Nobody;

impl Watch for Nobody {}

fn request(value: Value) -> SimulateRequest {
    serde_json::from_value(value).unwrap()
}

fn run(value: Value) -> Result<Simulated, Error> {
    simulate(&request(value), &Desk::new(&NoFiles), &mut Nobody)
}

fn answer(value: Value) -> Value {
    match run(value).unwrap() {
        Simulated::One(answer) => serde_json::to_value(*answer).unwrap(),
        Simulated::Compared(answer) => serde_json::to_value(*answer).unwrap(),
    }
}

/// A launch on one card with a cache so small that requests get into each other's way.
fn launches() -> Vec<Value> {
    let options = [
        ("vllm", json!({ "num_gpu_blocks_override": 700, "max_model_len": 4096, "max_num_seqs": 24 })),
        ("vllm", json!({ "num_gpu_blocks_override": 700, "max_model_len": 4096, "enable_prefix_caching": false })),
        ("sglang", json!({ "max_total_tokens": 9000, "context_length": 4096, "max_running_requests": 24 })),
        ("sglang", json!({ "max_total_tokens": 9000, "context_length": 4096, "disable_radix_cache": true })),
        (
            "tensorrt-llm",
            json!({ "kv_cache_config": { "max_tokens": 9000 }, "max_seq_len": 4096, "max_batch_size": 24 }),
        ),
    ];
    let launch =
        |(engine, options)| json!({ "model": "llama-3.1-8b", "gpu": "l40s", "engine": engine, "options": options });
    options.into_iter().map(launch).collect()
}

const WORKLOADS: [&str; 4] = [
    "poisson 6/s, prompt lognormal 300 p99 1500, output uniform 1..300, requests 120",
    "gamma 5/s cv 3, prompt 200, output exponential 80, prefix 3 x 400 tokens, requests 100",
    "clients 12, prompt uniform 20..600, output 60, turns 3 think 1s, requests 90",
    "batch, prompt 700, output 90, samples 3, requests 60",
];

#[test]
fn a_jump_equals_its_steps_and_the_same_question_has_the_same_answer() {
    for launch in launches() {
        for workload in WORKLOADS {
            let ask = |step_by_step: bool| {
                let ask = json!({ "launch": launch, "workload": workload, "seed": 7, "step_by_step": step_by_step });
                answer(ask)
            };
            let jumped = ask(false);
            assert_eq!(jumped, ask(true), "{launch} {workload}");
            assert_eq!(jumped, ask(false), "{launch} {workload}");
            let requests = &jumped["requests"];
            let count = |key: &str| requests[key].as_u64().unwrap();
            assert_eq!(
                count("finished") + count("refused") + count("unfinished"),
                count("arrived"),
                "{launch} {workload}"
            );
            assert_eq!(count("unfinished"), 0, "{launch} {workload}");
            assert!(jumped["kv"]["used"]["peak"].as_f64().unwrap() <= 1.0);
        }
    }
}

#[test]
fn another_seed_is_another_run() {
    let ask = |seed: u64| {
        answer(json!({ "launch": launches()[0], "workload": WORKLOADS[0], "seed": seed }))["ttft_ms"]["mean"].clone()
    };
    assert_ne!(ask(1), ask(2));
}

#[test]
fn every_combination_serves_the_same_requests() {
    let compare = json!({
        "batching": ["static", "continuous"], "kv": ["paged", "contiguous", "exact", "buddy"], "prefix_caching": ["on", "off"]
    });
    let compared = answer(json!({ "launch": launches()[0], "workload": WORKLOADS[0], "compare": compare }));
    let rows = compared["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9, "prefix caching is the engine's own: one more row");
    assert!(rows.iter().all(|row| row["finished"] == 120), "{compared:#}");
}

#[test]
fn what_cannot_be_simulated_says_why() {
    let launch = json!({ "model": "llama-3.1-8b", "gpu": "l40s", "engine": "vllm" });
    for (value, words) in [
        (json!({ "launch": launch }), "nothing arrives"),
        (json!({ "launch": launch, "workload": "poison 4/s" }), "poisson"),
        (json!({ "launch": launch, "trace": { "path": "x.csv" } }), "x.csv: there are no files here"),
        (
            json!({ "launch": launch, "workload": "batch", "compare": { "kv": ["pages"] } }),
            "--kv pages: not one of paged",
        ),
        (json!({ "launch": launch, "workload": "batch, prompt 9, output 9", "cost": { "mfu": 7.0 } }), "mfu"),
        (
            json!({ "launch": { "model": "llama-3.1-8b", "gpu": "l40s", "engine": "llama.cpp" }, "workload": "batch" }),
            "llama.cpp's scheduler is not modelled; vllm's, sglang's and tensorrt-llm's are",
        ),
        (
            json!({ "launch": { "model": "llama-3.1-70b", "gpu": "l40s", "engine": "vllm" }, "workload": "batch" }),
            "this launch does not start",
        ),
        (
            json!({ "launch": { "model": "llama-3.1-8b", "gpu": "l40s:2", "engine": "vllm",
                                "options": { "data_parallel_size": 2 } }, "workload": "batch" }),
            "one replica is simulated",
        ),
        (
            json!({ "launch": { "model": "llama-3.1-8b", "gpu": "l40s", "engine": "vllm", "engine_version": "0.8.5" },
                    "workload": "batch" }),
            "0.11",
        ),
    ] {
        let error = run(value.clone()).unwrap_err().to_string();
        assert!(error.contains(words), "{value}: {error}");
    }
}

#[test]
fn flags_of_the_scheduler_change_the_schedule_however_they_are_given() {
    let workload = "batch, prompt uniform 100..2000, output uniform 10..300, priority 0:1 1:9, requests 60";
    let mean = |launch: Value| answer(json!({ "launch": launch, "workload": workload }))["ttft_ms"]["mean"].clone();
    let base = "vllm serve llama-3.1-8b --max-num-seqs 8";
    let plain = mean(json!({ "gpu": "l40s", "command": base }));
    let flag = mean(json!({ "gpu": "l40s", "command": format!("{base} --scheduling-policy priority") }));
    let option = mean(json!({ "gpu": "l40s", "command": base, "options": { "scheduling_policy": "priority" } }));
    assert_ne!(plain, flag);
    assert_eq!(flag, option);
    let inert = json!({ "gpu": "l40s", "command": base, "inert": { "scheduling_policy": "priority" } });
    assert_eq!(mean(inert), flag);
}

#[test]
fn hybrids_hold_a_state_and_no_more_tokens_than_planned() {
    for caching in [true, false] {
        let options = json!({ "tensor_parallel_size": 4, "max_model_len": 16384, "enable_prefix_caching": caching });
        let launch =
            json!({ "model": "qwen3-next-80b-a3b", "gpu": "h100-sxm:4", "engine": "vllm", "options": options });
        let found =
            answer(json!({ "launch": launch, "workload": "poisson 2/s, prompt 2000, output 300, requests 50" }));
        let capacity = found["kv"]["capacity_tokens"].as_u64().unwrap();
        assert!((1_000_000..4_000_000).contains(&capacity), "{capacity}");
        assert!(found["kv"]["waste_share"].as_f64().unwrap() < 0.2, "{found:#}");
    }
}

#[test]
fn short_names_of_parallelism_are_plimsolls_own() {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let launch = plimsoll_api::launch::parse_flags("vllm", &words("llama-3.1-70b --tp 4 --pp=2")).unwrap();
    assert_eq!(
        (&launch.options["tensor_parallel_size"], &launch.options["pipeline_parallel_size"]),
        (&4.into(), &2.into())
    );
    assert!(
        plimsoll_api::launch::parse(&words("vllm serve llama-3.1-70b --tp 4")).is_err(),
        "vLLM's own program has no --tp"
    );
}
