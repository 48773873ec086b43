//! The roofline by hand and as laws.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use plimsoll_facts::catalogue;
use plimsoll_facts::gpu::Gpu;
use plimsoll_facts::model::{self, Model};
use plimsoll_plan::engine::vllm;
use plimsoll_plan::{Card, Given, Plan, Version};
use plimsoll_sim::Error;
use plimsoll_sim::cost::roofline::Knobs;
use plimsoll_sim::cost::{Chunk, Cost, Roofline, Shape};
use plimsoll_units::{Bytes, Estimate, Nanos, Source};
use proptest::prelude::*;
use serde_json::{Value, json};

/// No losses, so that numbers can be checked by hand.
const IDEAL: Knobs =
    Knobs { mfu: Some(1.0), mbu: Some(1.0), overhead: Some(Nanos::ZERO), peak: None, bandwidth: None, link: None };

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

fn roofline(model: &Model, options: &Value, knobs: &Knobs) -> Roofline {
    Roofline::new(model, &plan(model, 1000.0, options), Some(&gpu("H100 SXM5 80GB")), knobs).unwrap()
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
    let terms = roofline(&model, &json!({"max_model_len": 8192}), &IDEAL).terms(&decode(1, 1, None));
    // All parameters but the embedding's rows, in two bytes.
    let weights = (model.parameters() - 128_256 * 8192) as f64 * 2.0;
    near(terms.seconds(), weights / 3.35e12, 2.0);
    near(terms.seconds(), 41.5e-3, 10.0);
}

#[test]
fn an_8b_model_by_hand() {
    let mut cost = roofline(&llama_8b(), &json!({"max_model_len": 8192}), &IDEAL);
    // 32 × (2 × 4096² + 2 × 4096 × 1024 + 3 × 4096 × 14336) matrix numbers, and 4096 × 128256 for sampled tokens.
    let matrices = 32.0 * (2.0 * 4096.0 * 4096.0 + 2.0 * 4096.0 * 1024.0 + 3.0 * 4096.0 * 14_336.0);
    let head = 4096.0 * 128_256.0;
    let one = cost.terms(&decode(1, 1000, None));
    // 131 072 bytes a token: 32 layers, 8 heads of 128, keys and values, two bytes. One token is written.
    near(one.memory, (2.0 * (matrices + head) + 1001.0 * 131_072.0) / 3.35e12, 1.0);
    near(one.compute, (2.0 * (matrices + head) + 32.0 * 1001.0 * 4.0 * 4096.0) / 989.4e12, 1.0);
    let pairs = 2048.0 * 2049.0 / 2.0 + 2048.0 * 500.0;
    let chunk = cost.terms(&prompt(2048, 500));
    near(chunk.compute, (2.0 * (2048.0 * matrices + head) + pairs * 32.0 * 4.0 * 4096.0) / 989.4e12, 1.0);
    assert!(chunk.compute > chunk.memory && one.memory > one.compute);
    assert_eq!((one.communication, one.overhead), (0.0, 0.0));
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
        let mut cost = roofline(model, options, &IDEAL);
        (cost.terms(&prompt(4096, 0)).compute, cost.terms(&decode(1, 1, None)).memory)
    };
    let usual = json!({"max_model_len": 8192});
    let (plain, eight, four) = (seconds(&llama_8b(), &usual), seconds(&fp8, &usual), seconds(&awq, &usual));
    assert!(eight.0 < plain.0 * 0.6 && (four.0 / plain.0 - 1.0).abs() < 0.01, "{plain:?} {eight:?} {four:?}");
    assert!(eight.1 < plain.1 * 0.6 && four.1 < eight.1 * 0.75, "{plain:?} {eight:?} {four:?}");
    // Quantised while loading, as the plan's ledger shows.
    near(seconds(&llama_8b(), &json!({"max_model_len": 8192, "quantization": "fp8"})).0, eight.0, 10.0);
}

#[test]
fn one_token_of_a_mixture_reads_its_own_experts() {
    let model = mixture();
    let mut cost = roofline(&model, &json!({"max_model_len": 8192}), &IDEAL);
    let one = cost.terms(&decode(1, 0, None)).memory * 3.35e12;
    let embedding = 151_936.0 * 2048.0;
    near(one, 2.0 * (model.active_parameters() as f64 - embedding), 10.0);
    let many = cost.terms(&decode(4096, 0, None)).memory * 3.35e12;
    let written = 4096.0 * 48.0 * 2.0 * 4.0 * 128.0 * 2.0;
    near(many - written, 2.0 * (model.parameters() as f64 - embedding), 5.0);
}

#[test]
fn windows_bound_what_is_read() {
    let mut cost = roofline(&sliding(), &json!({"max_model_len": 65_536}), &IDEAL);
    assert_eq!(cost.window(), Some(1024));
    let mut read = |context| cost.terms(&decode(1, context, Some(1024))).memory;
    let (early, late, later) = (read(1024) - read(512), read(20_000) - read(19_488), read(40_000) - read(39_488));
    // 34 layers, of which every sixth sees everything.
    near(early / late, 34.0 / 5.0, 5.0);
    near(later, late, 1.0);
}

#[test]
fn ranks_share_the_work_and_talk() {
    let model = llama_70b();
    let with = |key: &str| {
        let mut options = json!({"max_model_len": 8192});
        options[key] = json!(4);
        roofline(&model, &options, &IDEAL)
    };
    let mut one = roofline(&model, &json!({"max_model_len": 8192}), &IDEAL);
    let (mut four, mut staged) = (with("tensor_parallel_size"), with("pipeline_parallel_size"));
    let shape = decode(8, 1000, None);
    let (alone, divided, piped) = (one.terms(&shape), four.terms(&shape), staged.terms(&shape));
    near(divided.memory, alone.memory / 4.0, 5.0);
    // 160 all-reduces of 3.6 + 6 × 0.47 us and a little for 131 072 bytes each.
    assert!(divided.communication > 160.0 * 6.42e-6 && divided.communication < 160.0 * 9e-6, "{divided:?}");
    // A lone token goes through all stages; many are shared by micro-batches.
    assert!(piped.memory > alone.memory * 0.95 && piped.memory < alone.memory * 1.25, "{piped:?} {alone:?}");
    let long = prompt(8192, 0);
    near(staged.terms(&long).compute, one.terms(&long).compute / 4.0, 20.0);
}

#[test]
fn a_card_without_rates_says_what_is_missing() {
    let model = llama_8b();
    let plan = plan(&model, 90.0, &json!({}));
    let error = |gpu: Option<&Gpu>, knobs: &Knobs| match Roofline::new(&model, &plan, gpu, knobs) {
        Err(error @ (Error::Rate { .. } | Error::Knob { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let workstation = gpu("RTX PRO 6000 Blackwell Workstation");
    assert_eq!(
        error(Some(&workstation), &Knobs::default()),
        "the 16-bit peak of RTX PRO 6000 Blackwell Workstation is not known; give --peak"
    );
    assert_eq!(error(None, &Knobs::default()), "the memory bandwidth of the card is not known; give --bandwidth");
    let bad = Knobs { mfu: Some(1.5), ..Knobs::default() };
    assert_eq!(error(Some(&workstation), &bad), "--mfu is 1.5, expected above 0 and at most 1");
    let given = Knobs { peak: Some(4e14), bandwidth: Some(1e12), ..Knobs::default() };
    assert!(Roofline::new(&model, &plan, None, &given).is_ok());
}

#[test]
fn what_is_assumed_is_said() {
    let usual = roofline(&mixture(), &json!({"tensor_parallel_size": 2}), &Knobs::default());
    let said = usual.assumptions.join("\n");
    for word in ["mfu", "mbu", "overhead", "uniformly", "all-reduces"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(roofline(&llama_8b(), &json!({}), &IDEAL).assumptions.is_empty());
    assert!(usual.explain.len() >= 5);
}

#[test]
fn more_work_never_takes_less_and_products_are_linear() {
    let costs = [(llama_8b(), None), (mixture(), None), (sliding(), Some(1024))]
        .map(|(model, window)| (roofline(&model, &json!({"max_model_len": 16_384}), &Knobs::default()), window));
    let work = (1..4096_u32, 0..4096_u32, 0..256_u32, 0..8000_u32);
    proptest!(|((tokens, more, decodes, context) in work)| {
        for (cost, window) in &costs {
            let mut cost = cost.clone();
            let shape = |tokens, context| Shape {
                chunks: vec![Chunk { tokens, context: 0 }],
                ..decode(decodes, context, *window)
            };
            let few = cost.step(&shape(tokens, context));
            prop_assert!(few <= cost.step(&shape(tokens + more, context)));
            prop_assert!(few <= cost.step(&shape(tokens, context + more)));
            prop_assert_eq!(few, cost.step(&shape(tokens, context)), "the same question has the same answer");
            let (one, many) = (cost.terms(&decode(1, context, *window)), cost.terms(&decode(tokens, context, *window)));
            prop_assert!((many.compute / (one.compute * f64::from(tokens)) - 1.0).abs() < 1e-9);
        }
    });
}
