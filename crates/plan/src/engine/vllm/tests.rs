use plimsoll_facts::catalogue;
use plimsoll_units::{Estimate, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Item;

fn card(total: u64, capability: (u8, u8), count: u32) -> Card {
    Card {
        name: "test card".to_owned(),
        total: Estimate::exact(Bytes::new(total), Source::Given),
        compute_capability: Some(capability),
        sm_count: Some(128),
        unified: false,
        count,
    }
}

fn llama() -> Model {
    plimsoll_facts::model::read(
        "meta-llama/Llama-3.1-8B-Instruct",
        &json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16",
            "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072}),
        None,
    )
    .unwrap()
}

fn options(value: &Value, version: Version) -> Options {
    Options::from_map(value.as_object().unwrap(), version).unwrap()
}

fn planned(model: &Model, card: &Card, version: Version, flags: &Value) -> Plan {
    let options = options(flags, version);
    plan(&Case { model, card, version, options: &options, given: &Given::default() }).unwrap()
}

const V19: Version = Version::new(0, 19, 0);

#[test]
fn weights_larger_than_the_card_never_come_to_the_cache() {
    // 14.99 GiB of weights: on 15 GB cards they load and pass the limit, on 12 GB ones they do not load.
    for (gib, says) in [(15.5, "No available memory for the cache blocks."), (11.5, "CUDA out of memory")] {
        let plan = planned(&llama(), &card(Bytes::gib(gib).get(), (8, 9), 1), V19, &json!({"max_model_len": 8192}));
        let Verdict::DoesNotFit { refusal: Some(refusal), .. } = &plan.verdict else { panic!("fits") };
        assert!(refusal.message.starts_with(says), "{gib} GiB: {}", refusal.message);
    }
}

#[test]
fn llama_8b_loads_as_logged() {
    // thread llm-d-planner#205, vLLM 0.19.0 on H100.
    let (model, card) = (llama(), card(85_024_112_640, (9, 0), 8));
    for (flags, gib) in [
        (json!({"max_model_len": 8192}), "14.99"),
        (json!({"max_model_len": 8192, "quantization": "fp8"}), "8.49"),
        (json!({"max_model_len": 8192, "dtype": "float32"}), "29.98"),
        (json!({"max_model_len": 8192, "tensor_parallel_size": 2}), "7.51"),
        (json!({"max_model_len": 8192, "tensor_parallel_size": 4}), "3.77"),
        (json!({"max_model_len": 8192, "pipeline_parallel_size": 2}), "7.51"),
        (json!({"max_model_len": 8192, "pipeline_parallel_size": 4}), "4.26"),
    ] {
        let plan = planned(&model, &card, V19, &flags);
        let largest = plan.ranks.iter().map(|rank| rank.ledger.weights()).max().unwrap();
        assert_eq!(format!("{:.2}", largest.as_gib()), gib, "{flags}");
    }
}

#[test]
fn a_consumer_card_comes_out() {
    let card = Card { name: "NVIDIA GeForce RTX 4090".to_owned(), ..card(25_250_627_584, (8, 9), 1) };
    let flags = json!({"max_model_len": 8192, "gpu_memory_utilization": 0.9, "max_num_batched_tokens": 2048, "max_num_seqs": 256});
    let plan = planned(&llama(), &card, V19, &flags);
    let off = (plan.kv.blocks as f64 - 2588.0).abs() / 2588.0;
    assert!(off < 0.03, "{} blocks, {:#?}", plan.kv.blocks, plan.ranks[0].ledger);
}

#[test]
fn what_does_not_fit_says_what_would() {
    let card = card(25_250_627_584, (8, 9), 1);
    let plan = planned(&llama(), &card, V19, &json!({}));
    let Verdict::DoesNotFit { refusal: Some(refusal), remedies, binding, .. } = &plan.verdict else { panic!("fits") };
    assert_eq!(binding, "kv");
    assert!(
        refusal.message.starts_with("To serve at least one request with the models's max seq len (131072), (16.0 GiB")
    );
    assert!(remedies.iter().any(|remedy| remedy.fits && remedy.flags[0].starts_with("--max-model-len")));
    let logged = &plan.kv.logged;
    assert!(logged.kv_tokens.unwrap() > 0 && logged.blocks.unwrap() > 0 && logged.concurrency.unwrap() > 0.0);
    assert_eq!(logged.lines.len(), 1);
    assert!(logged.lines[0].starts_with("Available KV cache memory: "), "{:?}", logged.lines);
}

#[test]
fn lines_are_those_of_the_release() {
    let card = card(85_024_112_640, (9, 0), 1);
    let flags = json!({"max_model_len": 8192});
    let starts = |version| {
        let plan = planned(&llama(), &card, version, &flags);
        plan.kv.logged.lines.iter().map(|line| line[..12].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(starts(Version::new(0, 5, 0)), ["# GPU blocks"]);
    assert_eq!(starts(Version::new(0, 6, 3)), ["# GPU blocks", "Maximum conc"]);
    assert_eq!(starts(Version::new(0, 8, 5)), ["GPU KV cache", "Maximum conc"]);
    assert_eq!(starts(Version::new(0, 9, 2)), ["Available KV", "GPU KV cache", "Maximum conc"]);
    assert_eq!(starts(Version::new(0, 33, 0)), ["Available KV", "GPU KV cache"]);
}

#[test]
fn the_launch_keeps_what_was_asked_for() {
    let flags = json!({"max_model_len": 8192, "compilation_config": {"cudagraph_mode": "NONE"}, "enforce_eager": true,
        "cudagraph_capture_sizes": [1, 2, 4], "env": {"VLLM_USE_V1": "1"}, "enable_prefix_caching": false,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}});
    let plan = planned(&llama(), &card(85_024_112_640, (9, 0), 1), V19, &flags);
    let line = plan.launch.join(" ");
    assert!(line.starts_with("VLLM_USE_V1=1 vllm serve meta-llama/Llama-3.1-8B-Instruct "), "{line}");
    for part in [
        "--compilation-config {\"cudagraph_mode\":\"NONE\"}",
        "--cudagraph-capture-sizes 1 2 4",
        "--no-enable-prefix-caching",
        "--enforce-eager",
        "--max-model-len 8192",
        "--rope-scaling {",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn a_token_of_windows_alone_costs_bytes() {
    let config = json!({"model_type": "mistral", "architectures": ["MistralForCausalLM"], "torch_dtype": "bfloat16",
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": 4096});
    let model = plimsoll_facts::model::read("mistralai/Mistral-7B-v0.1", &config, None).unwrap();
    let plan = planned(&model, &card(85_024_112_640, (9, 0), 1), V19, &json!({"max_model_len": 8192}));
    assert_eq!(plan.kv.bytes_per_token, 131_072);
}

#[test]
fn every_model_of_the_catalogue_is_planned_without_panic() {
    let card = card(85_024_112_640, (9, 0), 8);
    let mut failed = Vec::new();
    for name in catalogue::model_ids() {
        let model = catalogue::model(name).unwrap().model;
        for (version, flags) in [(V19, json!({})), (Version::new(0, 33, 0), json!({"tensor_parallel_size": 8}))] {
            let options = options(&flags, version);
            match plan(&Case { model: &model, card: &card, version, options: &options, given: &Given::default() }) {
                Ok(plan) => balanced(&plan),
                Err(error) => failed.push(format!("{name}: {error}")),
            }
        }
    }
    eprintln!("{}", failed.join("\n"));
}

/// The ledger and what is left make the limit.
fn balanced(plan: &Plan) {
    for rank in &plan.ranks {
        let fixed: Bytes =
            rank.ledger.entries.iter().filter(|entry| entry.item != Item::Kv).map(|entry| entry.size.bytes).sum();
        assert_eq!(fixed + rank.kv_budget.bytes, rank.limit + rank.short);
        assert_eq!(rank.ledger.total(), fixed + rank.ledger.bytes(Item::Kv));
        assert!(rank.ledger.bytes(Item::Kv) <= rank.kv_budget.bytes, "the cache exceeds its budget");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn books_balance_and_ranks_hold_the_model(
        gib in 8..200_u64, tp in 0..4_u32, pp in 1..5_u32, length in 1..131_072_u64, minor in 9..34_u16,
    ) {
        let (model, version) = (llama(), Version::new(0, minor, 0));
        let flags = json!({"tensor_parallel_size": 1 << tp, "pipeline_parallel_size": pp, "max_model_len": length});
        let plan = planned(&model, &card(gib << 30, (9, 0), 64), version, &flags);
        balanced(&plan);
        let held: u64 = plan.ranks.iter().map(|rank| rank.ledger.weights().get()).sum();
        prop_assert!(held >= model.parameters() * 2);
    }
}

#[test]
fn every_option_read_is_a_flag_of_the_server() {
    for key in options::KEYS.iter().filter(|key| **key != "env") {
        assert!(flags::FLAGS.named(key).is_some(), "{key}");
    }
}

#[test]
fn one_plan_is_quick() {
    let (model, card, version) = (llama(), card(85_024_112_640, (9, 0), 8), Version::new(0, 33, 0));
    let options = options(&json!({"max_model_len": 8192}), version);
    let case = Case { model: &model, card: &card, version, options: &options, given: &Given::default() };
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(plan(&case).unwrap());
    }
    let each = start.elapsed() / 1000;
    eprintln!("{each:?} a plan");
    assert!(each < std::time::Duration::from_millis(2), "{each:?}");
}
