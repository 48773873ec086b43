//! Steps by hand and as laws.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use plimsoll_facts::catalogue;
use plimsoll_facts::gpu::Gpu;
use plimsoll_facts::model::{self, Model};
use plimsoll_plan::engine::vllm;
use plimsoll_plan::{Card, Given, Plan, Version};
use std::cell::RefCell;

use plimsoll_cost::{Basis, Chunk, Error, Knobs, Predictor, Shape, hardware};
use plimsoll_units::{Bytes, Estimate, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

/// No losses, so that numbers can be checked by hand.
fn ideal() -> Knobs {
    Knobs { mfu: Some(1.0), mbu: Some(1.0), overhead: Some(0.0), given: hardware::Given::default() }
}

fn read(config: &Value) -> Model {
    model::read("m", config, None).unwrap()
}

fn llama(layers: u32, hidden: u32, inner: u32, heads: u32) -> Value {
    json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 8, "vocab_size": 128_256, "max_position_embeddings": 131_072, "torch_dtype": "bfloat16"})
}

fn llama_8b() -> Model {
    read(&llama(32, 4096, 14_336, 32))
}

fn llama_70b() -> Model {
    read(&llama(80, 8192, 28_672, 64))
}

fn mixture() -> Model {
    read(&json!({"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 2048,
        "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
        "norm_topk_prob": true, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "vocab_size": 151_936, "max_position_embeddings": 40_960, "torch_dtype": "bfloat16",
        "tie_word_embeddings": false}))
}

fn sliding() -> Model {
    read(&json!({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 2560,
        "intermediate_size": 10_240, "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "vocab_size": 262_208, "max_position_embeddings": 131_072, "sliding_window": 1024,
        "sliding_window_pattern": 6, "torch_dtype": "bfloat16"}))
}

fn gpu(name: &str) -> Gpu {
    catalogue::gpu(name).unwrap().clone()
}

/// Plans on a card of so many GiB, however small the real one is.
fn plan(model: &Model, gib: f64, options: &Value) -> Plan {
    let card = Card {
        name: "H100 SXM5 80GB".to_owned(),
        total: Estimate::exact(Bytes::gib(gib), Source::Given),
        compute_capability: Some((9, 0)),
        sm_count: Some(132),
        unified: false,
        count: 64,
    };
    let version = Version::new(0, 33, 0);
    let options = vllm::options::Options::from_map(options.as_object().unwrap(), version).unwrap();
    vllm::plan(&vllm::Case { model, card: &card, version, options: &options, given: &Given::default() }).unwrap()
}

fn predictor(model: &Model, options: &Value, knobs: &Knobs) -> Predictor {
    Predictor::new(model, &plan(model, 1000.0, options), Some(&gpu("H100 SXM5 80GB")), knobs).unwrap()
}

fn decode(sequences: u32, context: u32, window: Option<u32>) -> Shape {
    let n = u64::from(sequences);
    Shape {
        decodes: sequences,
        decode_context: n * u64::from(context),
        decode_windowed: n * u64::from(context.min(window.unwrap_or(u32::MAX))),
        sampled: sequences,
        ..Shape::default()
    }
}

fn prompt(tokens: u32, context: u32) -> Shape {
    Shape { chunks: vec![Chunk { tokens, context }], sampled: 1, ..Shape::default() }
}

/// Whether two numbers agree to so many parts of a thousand.
fn near(found: f64, wanted: f64, thousandths: f64) {
    assert!((found / wanted - 1.0).abs() < thousandths / 1000.0, "{found} is not {wanted}");
}

#[test]
fn one_sequence_of_a_70b_model_takes_its_weights_over_the_bandwidth() {
    let model = llama_70b();
    let found = predictor(&model, &json!({"max_model_len": 8192}), &ideal()).predict(&decode(1, 1, None));
    // All parameters but the embedding's rows, in two bytes; activations are a thousandth of that.
    let weights = (model.parameters() - 128_256 * 8192) as f64 * 2.0;
    near(found.seconds, weights / 3.35e12, 5.0);
    near(found.seconds, found.ideal, 1e-6);
}

#[test]
fn a_long_prompt_takes_its_arithmetic_over_the_peak() {
    let found = predictor(&llama_8b(), &json!({"max_model_len": 8192}), &ideal()).predict(&prompt(2048, 500));
    let matrices = 32.0 * (2.0 * 4096.0 * 4096.0 + 2.0 * 4096.0 * 1024.0 + 3.0 * 4096.0 * 14_336.0);
    let pairs = 2048.0 * 2049.0 / 2.0 + 2048.0 * 500.0;
    let operations = 2.0 * 2048.0 * matrices + pairs * 32.0 * 4.0 * 4096.0;
    // Norms and activations, which only move bytes, and the output projection of one token come on top.
    assert!(found.seconds > operations / 989.4e12 && found.seconds < 1.25 * operations / 989.4e12, "{found:?}");
}

#[test]
fn formats_run_at_their_own_rate_where_they_compute_in_it() {
    let quantised = |quant: Value| {
        let mut config = llama(32, 4096, 14_336, 32);
        config["quantization_config"] = quant;
        read(&config)
    };
    let fp8 = quantised(json!({"quant_method": "fp8", "activation_scheme": "dynamic"}));
    let awq = quantised(json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true}));
    let seconds = |model: &Model, options: &Value| {
        let mut cost = predictor(model, options, &ideal());
        (cost.predict(&prompt(4096, 0)).families[0], cost.predict(&decode(1, 1, None)).families[0])
    };
    let usual = json!({"max_model_len": 8192});
    let (plain, eight, four) = (seconds(&llama_8b(), &usual), seconds(&fp8, &usual), seconds(&awq, &usual));
    assert!(eight.0 < plain.0 * 0.6 && (four.0 / plain.0 - 1.0).abs() < 0.02, "{plain:?} {eight:?} {four:?}");
    assert!(eight.1 < plain.1 * 0.6 && four.1 < eight.1 * 0.75, "{plain:?} {eight:?} {four:?}");
    // Quantised while loading, as the plan's ledger shows.
    near(seconds(&llama_8b(), &json!({"max_model_len": 8192, "quantization": "fp8"})).0, eight.0, 10.0);
}

#[test]
fn ranks_share_the_work_and_talk() {
    let model = llama_70b();
    let with = |key: &str, knobs: &Knobs| {
        let mut options = json!({"max_model_len": 8192});
        options[key] = json!(4);
        predictor(&model, &options, knobs)
    };
    let usual = json!({"max_model_len": 8192});
    let shape = decode(8, 1000, None);
    let alone = predictor(&model, &usual, &ideal()).predict(&shape);
    let divided = with("tensor_parallel_size", &ideal()).predict(&shape);
    near(divided.families[0], alone.families[0] / 4.0, 10.0);
    // 160 all-reduces of 131 072 bytes, a few microseconds each.
    assert!(divided.families[5] > 0.0 && divided.families[5] < 160.0 * 20e-6, "{divided:?}");
    let piped = with("pipeline_parallel_size", &ideal()).predict(&shape);
    assert!(piped.families[0] > alone.families[0] * 0.9 && piped.families[0] < alone.families[0] * 1.25, "{piped:?}");
    let long = prompt(8192, 0);
    let whole = predictor(&model, &usual, &ideal()).predict(&long).families[0];
    near(with("pipeline_parallel_size", &ideal()).predict(&long).families[0], whole / 4.0, 20.0);
}

#[test]
fn a_card_without_rates_says_what_is_missing() {
    let model = llama_8b();
    let plan = plan(&model, 90.0, &json!({}));
    let error = |gpu: Option<&Gpu>, knobs: &Knobs| match Predictor::new(&model, &plan, gpu, knobs) {
        Err(error @ (Error::Rate { .. } | Error::Knob { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(error(Some(&gpu("Apple M1 Max")), &Knobs::default()).contains("--peak"));
    assert!(error(None, &Knobs::default()).contains("--bandwidth"));
    let bad = Knobs { mfu: Some(1.5), ..Knobs::default() };
    assert!(error(Some(&gpu("h100-sxm")), &bad).contains("mfu 1.5"));
    let rates = hardware::Given { peak: Some(4e14), bandwidth: Some(1e12), ..hardware::Given::default() };
    assert!(Predictor::new(&model, &plan, None, &Knobs { given: rates, ..Knobs::default() }).is_ok());
}

#[test]
fn what_a_time_rests_on_is_said() {
    let options = json!({"max_model_len": 8192});
    let mut stated = predictor(&llama_8b(), &options, &ideal());
    let found = stated.predict(&decode(8, 1000, None));
    near(found.bases[Basis::Roofline as usize], found.seconds, 1e-6);
    let said = predictor(&llama_8b(), &options, &Knobs { mfu: Some(0.5), ..Knobs::default() }).assumptions.join("\n");
    assert!(said.contains("mbu") && said.contains("beside its kernels"), "{said}");
}

/// Models of every kind of attention and feed-forward block.
fn kinds() -> Vec<(Predictor, Option<u32>)> {
    let latent = read(&json!({"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
        "hidden_size": 2048, "intermediate_size": 8192, "moe_intermediate_size": 1024, "n_routed_experts": 64,
        "n_shared_experts": 1, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_group": 1,
        "topk_group": 1, "num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 16,
        "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "vocab_size": 129_280, "max_position_embeddings": 163_840, "torch_dtype": "bfloat16"}));
    [(llama_8b(), None), (mixture(), None), (sliding(), Some(1024)), (latent, None)]
        .map(|(model, window)| (predictor(&model, &json!({"max_model_len": 16_384}), &Knobs::default()), window))
        .into()
}

#[test]
fn what_is_remembered_is_what_is_worked_out() {
    let kinds = RefCell::new(kinds());
    let work = (0..4_usize, 1..9000_u32, 0..8000_u32, 0..700_u32, 0..9000_u32, 0..4_u32);
    proptest!(ProptestConfig::with_cases(2000), |((kind, tokens, before, decodes, context, chunks) in work)| {
        let (cost, window) = &mut kinds.borrow_mut()[kind];
        let mut shape = if decodes > 0 { decode(decodes, context, *window) } else { Shape::default() };
        for at in 0..chunks {
            shape.chunks.push(Chunk { tokens: tokens / (at + 1) + 1, context: before });
            shape.sampled += 1;
        }
        if shape.tokens() == 0 {
            return Ok(());
        }
        let (fast, slow) = (cost.seconds(&shape), cost.predict(&shape).seconds);
        prop_assert!((fast / slow - 1.0).abs() < 0.02, "{shape:?}: {fast} is not {slow}");
        prop_assert_eq!(fast.to_bits(), cost.seconds(&shape).to_bits(), "the same question has the same answer");
    });
}

#[test]
fn a_bigger_batch_or_a_longer_context_takes_no_less() {
    let kinds = RefCell::new(kinds());
    let work = (0..4_usize, 1..200_u32, 1..300_u32, 0..8000_u32, 1..9000_u32);
    proptest!(ProptestConfig::with_cases(1000), |((kind, decodes, more, context, longer) in work)| {
        let (cost, window) = &mut kinds.borrow_mut()[kind];
        let few = cost.predict(&decode(decodes, context, *window)).seconds;
        // Kernels that were measured are not quite monotone: tiles of larger batches fill the card better.
        prop_assert!(cost.predict(&decode(decodes + more, context, *window)).seconds > 0.9 * few);
        prop_assert!(cost.predict(&decode(decodes, context + longer, *window)).seconds > 0.95 * few);
        prop_assert!(few.is_finite() && few > 0.0);
    });
}
