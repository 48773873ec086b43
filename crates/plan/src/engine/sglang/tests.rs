//! Worked examples of public logs, laws, and what the releases choose by themselves.

use plimsoll_facts::catalogue;
use plimsoll_facts::model::{self, Model};
use plimsoll_units::{Bytes, Estimate, Source};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::{Card, Given, Item};

fn llama() -> Model {
    catalogue::model("meta-llama/Llama-3.1-8B-Instruct").unwrap().model
}

fn card(name: &str) -> Card {
    let gpu = catalogue::gpu(name).unwrap();
    let total = gpu.total().unwrap();
    Card {
        name: gpu.name,
        total,
        compute_capability: gpu.compute_capability,
        sm_count: gpu.sm_count,
        unified: gpu.unified,
        count: 16,
    }
}

fn asked(model: &Model, card: &Card, version: &str, options: Value, given: Given) -> Result<Plan, Error> {
    let options: Map<String, Value> = options.as_object().unwrap().clone();
    let cards = std::slice::from_ref(card);
    let version = version.parse().unwrap();
    plan(&Question {
        model,
        cards,
        version,
        options: &options,
        given: &given,
        gguf: None,
        companions: &[],
        depth: Depth::Whole,
    })
}

/// The default fraction, as the plan says it.
fn fraction(gpu: &str, version: &str, options: Value, model: &Model) -> f64 {
    let options: Map<String, Value> = options.as_object().unwrap().clone();
    let version: Version = version.parse().unwrap();
    let options = Options::from_map(&options, version).unwrap();
    let resolved = defaults::resolve(version, model, &card(gpu), &options).unwrap();
    (resolved.fraction * 1000.0).round() / 1000.0
}

/// Section 2.3 of the fact sheet, with the releases that the packages' own source gives.
#[test]
fn every_release_has_its_own_fraction() {
    let llama = llama();
    for (gpu, tp, releases) in [
        ("Tesla T4", 1, [("0.4.6", 0.88), ("0.4.8", 0.807), ("0.5.3", 0.757), ("0.5.15", 0.735), ("0.5.23", 0.735)]),
        ("RTX 4090", 1, [("0.4.7", 0.88), ("0.5.2", 0.879), ("0.5.3", 0.848), ("0.5.15", 0.833), ("0.5.23", 0.704)]),
        ("L40S", 1, [("0.4.7", 0.88), ("0.5.2", 0.778), ("0.5.3", 0.851), ("0.5.15", 0.843), ("0.5.23", 0.843)]),
        (
            "H100 SXM5 80GB",
            1,
            [("0.4.7", 0.88), ("0.5.2", 0.874), ("0.5.3", 0.835), ("0.5.9", 0.835), ("0.5.23", 0.83)],
        ),
        (
            "H100 SXM5 80GB",
            8,
            [("0.4.7", 0.81), ("0.5.2", 0.831), ("0.5.3", 0.818), ("0.5.9", 0.818), ("0.5.23", 0.812)],
        ),
        (
            "H200 SXM 141GB",
            1,
            [("0.4.6", 0.872), ("0.5.2", 0.911), ("0.5.3", 0.907), ("0.5.9", 0.907), ("0.5.23", 0.903)],
        ),
        (
            "B200 SXM 180GB",
            8,
            [("0.4.7", 0.79), ("0.5.2", 0.821), ("0.5.3", 0.852), ("0.5.9", 0.852), ("0.5.23", 0.849)],
        ),
    ] {
        for (version, wanted) in releases {
            let found = fraction(gpu, version, json!({ "tp_size": tp }), &llama);
            assert!((found - wanted).abs() < 5e-4, "{gpu} tp {tp} {version}: {found}, not {wanted}");
        }
    }
    let v3 = catalogue::model("deepseek-ai/DeepSeek-V3").unwrap().model;
    for (version, options, wanted) in [
        ("0.5.15", json!({ "tp_size": 8 }), 0.886),
        ("0.5.15", json!({ "tp_size": 8, "dp_size": 8, "enable_dp_attention": true }), 0.769),
        ("0.5.9", json!({ "tp_size": 8, "speculative_algorithm": "EAGLE" }), 0.882),
    ] {
        let found = fraction("H200 SXM 141GB", version, options.clone(), &v3);
        assert!((found - wanted).abs() < 5e-4, "{version} {options}: {found}, not {wanted}");
    }
}

/// Qwen3-30B-A3B: the budget that its log prints gives the tokens that it prints (PR 18263 of SGLang).
#[test]
fn a_logged_budget_gives_the_logged_tokens() {
    let config = json!({
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16",
        "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
        "num_experts_per_tok": 8, "vocab_size": 151936, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": false, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true,
    });
    let model = model::read("Qwen/Qwen3-30B-A3B", &config, None).unwrap();
    for (budget, tokens) in [(164_149_629_787, 1_669_816), (219_721_119_039, 2_235_118)] {
        let given = Given { kv_budget: Some(Bytes::new(budget)), ..Given::default() };
        let plan = asked(&model, &card("Instinct MI355X"), "0.5.9", json!({}), given).unwrap();
        assert_eq!((plan.kv.tokens, plan.kv.bytes_per_token), (tokens, 98_304));
        let line = plan.kv.logged.lines.iter().find(|line| line.contains("KV Cache is allocated")).unwrap();
        let size = if tokens == 1_669_816 { "76.44" } else { "102.32" };
        assert!(line.contains(&format!("#tokens: {tokens}, K size: {size} GB, V size: {size} GB")), "{line}");
    }
}

/// MiMo-V2-Flash over 4 ranks: two pools, pages of 64, keys of 192 beside values of 128 (PR 18039 of SGLang).
#[test]
fn sliding_layers_have_a_pool_of_their_own() {
    let model = catalogue::model("XiaomiMiMo/MiMo-V2-Flash").unwrap().model;
    let options = json!({ "tp_size": 4, "page_size": 64 });
    let cell = 1.0 * 320.0 * 2.0 * 9.0 + 0.8 * 2.0 * 320.0 * 2.0 * 39.0;
    let given = Given { kv_budget: Some(Bytes::from_f64((375_360.0 + 32.0) * cell)), ..Given::default() };
    let plan = asked(&model, &card("H200 SXM 141GB"), "0.5.12", options, given).unwrap();
    assert_eq!(plan.kv.tokens, 375_360);
    let lines = plan.kv.logged.lines.join("\n");
    assert!(lines.contains("full_layer_tokens=375360, swa_layer_tokens=300288"), "{lines}");
    assert!(lines.contains("#tokens: 300288, K size: 8.38 GB, V size: 5.59 GB"), "{lines}");
}

/// Qwen3-235B-A22B over 4 ranks keeps one key/value head on each (vLLM issue 21348).
#[test]
fn heads_fewer_than_ranks_are_kept_once() {
    let model = catalogue::model("Qwen/Qwen3-235B-A22B-FP8").unwrap().model;
    let given = Given { kv_budget: Some(Bytes::new(367_404 * 48_128)), ..Given::default() };
    let options = json!({ "tp_size": 4, "mem_fraction_static": 0.93 });
    let plan = asked(&model, &card("H100 SXM5 80GB"), "0.4.8", options, given).unwrap();
    assert_eq!((plan.kv.tokens, plan.kv.bytes_per_token), (367_404, 48_128));
    assert!(plan.kv.logged.lines[0].contains("K size: 8.23 GB, V size: 8.23 GB"), "{:?}", plan.kv.logged.lines);
}

/// 125.65 GiB loaded and 12.25 left at 0.88: the engine names the least fraction that works (InferenceX issue 2128).
#[test]
fn the_refusal_names_the_least_fraction() {
    let given = Given { weights: Some(Bytes::gib(125.65)), kv_free: Some(Bytes::gib(12.25)), ..Given::default() };
    let options = json!({ "tp_size": 8, "mem_fraction_static": 0.88 });
    let plan = asked(&llama(), &card("H200 SXM 141GB"), "0.5.14", options, given).unwrap();
    let Verdict::DoesNotFit { binding, refusal: Some(refusal), .. } = plan.verdict else {
        panic!("{:?}", plan.verdict)
    };
    assert_eq!(binding, "kv");
    let wanted = "Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static=0.88. Raise \
                  --mem-fraction-static above 0.912 (minimum viable = 1 - available/pre = 0.9112).";
    assert!(refusal.message.starts_with(wanted), "{}", refusal.message);
}

/// Llama-3.1-8B on an H100: 78.6 GiB free before, 14.99 loaded, 0.83 of it for weights and pools.
#[test]
fn requests_and_their_table_follow_from_the_pool() {
    let given = Given { weights: Some(Bytes::gib(14.99)), kv_free: Some(Bytes::gib(63.61)), ..Given::default() };
    let plan =
        asked(&llama(), &card("H100 SXM5 80GB"), "0.5.15", json!({ "mem_fraction_static": 0.83 }), given).unwrap();
    assert!((plan.kv.tokens as f64 - 411_631.0).abs() < 200.0, "{}", plan.kv.tokens);
    let line = plan.kv.logged.lines.last().unwrap();
    assert!(line.contains("chunked_prefill_size=8192, max_prefill_tokens=16384, max_running_requests=2048"), "{line}");
    let table = &plan.ranks[0].ledger.entry(Item::RuntimeBuffers).unwrap().formula.values[0];
    assert!((table.1 - 1.0).abs() < 0.01, "{table:?}");
}

/// The two shortages want opposite moves, and the range between them is named.
#[test]
fn the_verdict_tells_which_way_to_move_the_fraction() {
    let (llama, h100) = (llama(), card("H100 SXM5 80GB"));
    let moved = |fraction: f64| {
        let plan =
            asked(&llama, &h100, "0.5.15", json!({ "mem_fraction_static": fraction }), Given::default()).unwrap();
        let Verdict::DoesNotFit { binding, refusal, remedies, .. } = plan.verdict else { panic!("fits at {fraction}") };
        (binding, refusal.unwrap().message, remedies)
    };
    let (binding, message, remedies) = moved(0.15);
    assert_eq!(binding, "kv");
    assert!(message.contains("Raise --mem-fraction-static"), "{message}");
    assert!(remedies[0].change.starts_with("raise the fraction") && remedies[0].fits, "{remedies:?}");
    let (binding, message, remedies) = moved(0.99);
    assert_eq!(binding, "slack");
    assert!(message.contains("--mem-fraction-static to a smaller value"), "{message}");
    assert!(remedies[0].change.starts_with("lower the fraction") && remedies[0].fits, "{remedies:?}");
    let fits = asked(&llama, &h100, "0.5.15", json!({ "mem_fraction_static": 0.85 }), Given::default()).unwrap();
    assert!(matches!(fits.verdict, Verdict::Fits { .. }));
    assert!(fits.notes.iter().any(|note| note.starts_with("fractions from 0.")), "{:?}", fits.notes);
}

/// What is left over of the layers goes to the last stages.
#[test]
fn last_stages_take_the_remainder() {
    let of = |pp: u32, env: Value| {
        let options = json!({ "pp_size": pp, "env": env }).as_object().unwrap().clone();
        let options = Options::from_map(&options, NEWEST).unwrap();
        cells::stages(10, &options).map(|stages| stages.iter().map(|s| s.end - s.start).collect::<Vec<u32>>())
    };
    assert_eq!(of(4, json!({})), Ok(vec![2, 2, 3, 3]));
    assert_eq!(of(2, json!({ "SGLANG_PP_LAYER_PARTITION": "4,6" })), Ok(vec![4, 6]));
    assert!(of(2, json!({ "SGLANG_PP_LAYER_PARTITION": "4,5" })).is_err());
    assert!(of(11, json!({})).is_err());
}

/// Qwen3-Next over 4 ranks, 40 GiB to split: the padding slot is charged since 0.5.17.
#[test]
fn one_slot_less_since_the_padding_slot_is_charged() {
    let model = catalogue::model("Qwen/Qwen3-Next-80B-A3B-Instruct").unwrap().model;
    let given = Given { kv_budget: Some(Bytes::gib(40.0)), ..Given::default() };
    let slots = |version: &str| {
        let plan = asked(&model, &card("H100 SXM5 80GB"), version, json!({ "tp_size": 4 }), given).unwrap();
        let line = plan.kv.logged.lines[0].clone();
        let text = line.split("max_mamba_cache_size: ").nth(1).unwrap().split(',').next().unwrap().to_owned();
        (text.parse::<u64>().unwrap(), plan.kv.tokens)
    };
    assert_eq!(slots("0.5.12"), (1053, 1_839_937));
    assert_eq!(slots("0.5.17").0, 1052);
}

#[test]
fn malformed_options_are_errors_that_name_the_flag() {
    let (llama, h100) = (llama(), card("H100 SXM5 80GB"));
    for (options, part) in [
        (json!({ "mem_fraction_static": 1.5 }), "--mem-fraction-static"),
        (json!({ "mem_fraction_static": "all" }), "--mem-fraction-static"),
        (json!({ "chunked_prefill_size": -7 }), "--chunked-prefill-size"),
        (json!({ "kv_cache_dtype": "int3" }), "--kv-cache-dtype"),
        (json!({ "context_length": 10_000_000 }), "--context-length"),
        (json!({ "tp_size": 3, "dp_size": 2, "enable_dp_attention": true }), "data-parallel attention"),
        (json!({ "tp_size": 4, "ep_size": 3 }), "expert-parallel"),
        (json!({ "tp_size": 0 }), "--tp-size"),
        (json!({ "pp_size": 999 }), "layers"),
        (json!({ "quantization": "awq" }), "awq"),
        (json!({ "env": { "SGLANG_PP_LAYER_PARTITION": "a,b" } }), "SGLANG_PP_LAYER_PARTITION"),
    ] {
        let error = asked(&llama, &h100, "0.5.23", options.clone(), Given::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{options}: {error}");
    }
    let quiet = json!({ "enable_double_sparsity": true, "enable_two_batch_overlap": false });
    let plan = asked(&llama, &h100, "0.5.3", quiet, Given::default()).unwrap();
    let said: Vec<&String> = plan.notes.iter().filter(|note| note.contains("not counted")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

/// A card of any size.
fn any_card(gib: f64) -> Card {
    Card {
        name: "a card".to_owned(),
        total: Estimate::exact(Bytes::gib(gib), Source::Given),
        compute_capability: Some((9, 0)),
        sm_count: None,
        unified: false,
        count: 64,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// More of the memory never holds fewer tokens; tokens are whole pages; the ledger adds up to the card.
    #[test]
    fn laws_of_the_fraction(
        gib in 16.0_f64..200.0,
        fraction in 0.05_f64..0.95,
        page in prop::sample::select(vec![1_u64, 16, 64, 128]),
        patch in 0_u16..=23,
        which in 0_usize..3,
    ) {
        let names = ["meta-llama/Llama-3.1-8B-Instruct", "openai/gpt-oss-20b", "Qwen/Qwen3-Next-80B-A3B-Instruct"];
        let model = catalogue::model(names[which]).unwrap().model;
        let version = format!("0.5.{patch}");
        let of = |fraction: f64| {
            let options = json!({ "mem_fraction_static": fraction, "page_size": page, "chunked_prefill_size": 4096 });
            asked(&model, &any_card(gib), &version, options, Given::default()).unwrap()
        };
        let (less, more) = (of(fraction), of(fraction + 0.05));
        prop_assert!(less.kv.tokens <= more.kv.tokens);
        prop_assert_eq!(less.kv.tokens % less.kv.block_tokens, 0);
        for rank in &less.ranks {
            let total = rank.ledger.total();
            prop_assert!(total == rank.total || (total > rank.total && rank.ledger.bytes(Item::Reserve) == Bytes::ZERO));
        }
        if matches!(less.verdict, Verdict::Fits { .. }) {
            prop_assert!(less.ranks.iter().all(|rank| rank.ledger.total() == rank.total));
            prop_assert!(less.kv.tokens > 0);
        }
        let Margin { low, bytes, high } = less.margin;
        prop_assert!(low <= bytes && bytes <= high);
        prop_assert_eq!(matches!(less.verdict, Verdict::Fits { .. }), bytes >= 0);
    }
}
