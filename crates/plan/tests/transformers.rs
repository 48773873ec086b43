//! Calls of `generate`, planned: small tables of what each option does.

use plimsoll_facts::model::Model;
use plimsoll_plan::engine::{Depth, Question, transformers};
use plimsoll_plan::{Card, Error, Given, Item, Plan, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Value, json};

fn llama(layers: u32) -> Model {
    let config = json!({
        "model_type": "llama", "dtype": "bfloat16", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 131072,
    });
    plimsoll_facts::model::read("llama", &config, None).expect("a plain question")
}

fn card(gib: f64, count: u32) -> Card {
    Card {
        name: format!("{gib} GiB"),
        total: Estimate::exact(Bytes::gib(gib), Source::Given),
        compute_capability: Some((8, 0)),
        sm_count: None,
        unified: false,
        count,
    }
}

fn plan_on(cards: &[Card], version: Version, options: &Value) -> Result<Plan, Error> {
    let (model, given) = (llama(32), Given::default());
    let options = options.as_object().expect("a plain question");
    transformers::plan(&Question {
        model: &model,
        gguf: None,
        companions: &[],
        cards,
        version,
        options,
        given: &given,
        depth: Depth::Whole,
    })
}

fn plan(options: Value) -> Plan {
    plan_on(&[card(80.0, 1)], transformers::NEWEST, &options).expect("a plain question")
}

fn bytes(plan: &Plan, item: Item) -> u64 {
    plan.ranks[0].ledger.bytes(item).get()
}

#[test]
fn the_cache_is_batch_times_positions() {
    for (options, expected) in [
        (json!({ "prompt_tokens": 2048, "max_new_tokens": 512 }), 2559 * 131_072),
        (json!({ "prompt_tokens": 2048, "max_new_tokens": 512, "batch_size": 8 }), 8 * 2559 * 131_072),
        (json!({ "prompt_tokens": 2048, "max_new_tokens": 512, "num_beams": 4 }), 4 * 2559 * 131_072),
        (json!({ "prompt_tokens": 100, "max_length": 200, "cache_implementation": "static" }), 199 * 131_072),
        (json!({ "max_length": 4096, "max_new_tokens": 96, "dtype": "float32" }), 4095 * 262_144),
        (json!({ "prompt_tokens": 100, "max_new_tokens": 9, "use_cache": false }), 0),
        // 1024 tokens of 1024 + 1024 numbers at 4 bits, and a scale and a zero in bfloat16 for every 64.
        (json!({ "prompt_tokens": 1024, "cache_implementation": "quantized" }), 32 * 2 * (524_288 + 65_536)),
    ] {
        assert_eq!(bytes(&plan(options.clone()), Item::Kv), expected, "{options}");
    }
}

#[test]
fn weights_follow_the_dtype_and_the_release() {
    let all = 16_060_522_496;
    let weights = |plan: &Plan| plan.ranks[0].ledger.weights().get();
    assert_eq!(weights(&plan(json!({ "prompt_tokens": 8 }))), all);
    assert_eq!(weights(&plan(json!({ "prompt_tokens": 8, "dtype": "float32" }))), 2 * all);
    let old =
        plan_on(&[card(80.0, 1)], Version::new(4, 57, 0), &json!({ "prompt_tokens": 8 })).expect("a plain question");
    assert_eq!(weights(&old), 2 * all, "before 5.0 the default is fp32");
    // Linear layers of 32 × 218 103 808 numbers at half a byte and fp32 for every 64; embeddings, norms and head stay.
    let four = weights(&plan(json!({ "prompt_tokens": 8, "load_in_4bit": true })));
    let linear = 32 * 218_103_808_u64;
    let stay = all - 2 * linear;
    assert!((four as f64 / (stay as f64 + linear as f64 * (0.5 + 4.0 / 64.0)) - 1.0).abs() < 1e-5, "{four}");
}

#[test]
fn eager_attention_keeps_every_pair() {
    let peak = |options: Value| bytes(&plan(options), Item::Activation) as f64;
    let eager = |tokens: u64| peak(json!({ "prompt_tokens": tokens, "attn_implementation": "eager" }));
    let fused = |tokens: u64| peak(json!({ "prompt_tokens": tokens, "attn_implementation": "flash_attention_2" }));
    // Alive on PyTorch's meta device in two layers of this model, cache apart: 4096 × 1 368 584 and 4096 × 119 304 bytes.
    let same = |found: f64, expected: f64| assert!((found - expected).abs() < 0.5, "{found} instead of {expected}");
    same(eager(4096), 4096.0 * 1_368_584.0);
    same(fused(4096), 4096.0 * 119_304.0);
    assert!((eager(16384) / eager(8192) - 4.0).abs() < 0.2);
    assert!((fused(16384) / fused(8192) - 2.0).abs() < 0.1);
    // Gate, up and product of 14 336, four rows of 4096 and two of 128, two bytes each, and the tokens' numbers.
    same(fused(8192), 8192.0 * (2.0 * (3.0 * 14336.0 + 4.0 * 4096.0 + 256.0) + 8.0));
}

#[test]
fn longer_or_more_never_needs_less() {
    let total = |options: Value| plan(options).ranks[0].ledger.total();
    for pair in [16_u64, 100, 1000, 5000, 40_000].windows(2) {
        let of = |tokens: u64| total(json!({ "prompt_tokens": tokens, "max_new_tokens": 16 }));
        assert!(of(pair[0]) < of(pair[1]), "{pair:?}");
    }
    for pair in [1_u64, 2, 7, 64].windows(2) {
        let of = |batch: u64| total(json!({ "prompt_tokens": 500, "batch_size": batch }));
        assert!(of(pair[0]) < of(pair[1]), "{pair:?}");
    }
}

#[test]
fn the_longest_fits_and_one_more_does_not() {
    let found =
        plan_on(&[card(24.0, 1)], transformers::NEWEST, &json!({ "max_new_tokens": 64 })).expect("a plain question");
    let (longest, at) = (found.max_context_tokens, |length: u64| {
        let options = json!({ "max_new_tokens": 64, "max_length": length });
        matches!(
            plan_on(&[card(24.0, 1)], transformers::NEWEST, &options).expect("a plain question").verdict,
            plimsoll_plan::Verdict::Fits { .. }
        )
    });
    assert!((10_000..131_072).contains(&longest), "{longest}");
    assert!(at(longest) && !at(longest + 1));
}

#[test]
fn layers_divide_over_different_cards() {
    let cards = [card(24.0, 1), card(12.0, 1)];
    let options = json!({ "prompt_tokens": 512, "device_map": "auto" });
    let plan = plan_on(&cards, transformers::NEWEST, &options).expect("a plain question");
    assert_eq!(plan.ranks.len(), 2);
    let weights: u64 = plan.ranks.iter().map(|rank| rank.ledger.weights().get()).sum();
    assert_eq!(weights, 16_060_522_496);
    assert_eq!(plan.ranks[1].total, Bytes::gib(12.0));
    let kv: u64 = plan.ranks.iter().map(|rank| rank.ledger.bytes(Item::Kv).get()).sum();
    assert_eq!(kv, 512 * 131_072, "the cache lies with its layers");
    // Too small for all: the rest lies in host memory, and the first card keeps room for its largest module.
    let plan = plan_on(&[card(8.0, 2)], transformers::NEWEST, &options).expect("a plain question");
    assert!(plan.host.expect("a plain question").total() > Bytes::gib(1.0));
    assert!(
        bytes(&plan_on(&[card(8.0, 2)], transformers::NEWEST, &options).expect("a plain question"), Item::WeightsExtra)
            > 0
    );
}

#[test]
fn what_is_no_option_is_an_error() {
    for (options, message) in [
        (json!({ "attn_implementation": "paged" }), "attn_implementation is paged, expected eager, sdpa, "),
        (json!({ "batch_size": 0 }), "batch_size is 0, expected a whole number from 1 to 2^32"),
        (json!({ "load_in_4bit": true, "load_in_8bit": true }), "load_in_8bit is true, expected either "),
        (json!({ "prompt_tokens": 9, "max_length": 9 }), "max_length 9 leaves no room behind a prompt of 9 tokens"),
        (json!({ "device_map": "magic" }), "device_map is magic, expected auto, "),
        (json!({ "max_memory": { "zero": "1GiB" } }), "max_memory is zero, expected a map such as "),
        (json!({ "dtype": "int8" }), "dtype is int8, expected auto, bfloat16, float16 or float32"),
        (
            json!({ "cache_implementation": "quantized", "cache_config": { "backend": "fp8", "nbits": 4 } }),
            "cache_config is nbits, expected nothing beside the backend",
        ),
        (
            json!({ "cache_implementation": "quantized", "cache_config": { "backend": "hqq", "nbits": 5 } }),
            "nbits is 5, expected one of [1, 2, 3, 4, 8] for hqq",
        ),
    ] {
        let error = plan_on(&[card(80.0, 1)], transformers::NEWEST, &options).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
