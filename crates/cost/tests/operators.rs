//! Do the operators of a step add up? Their totals against closed forms over whole catalogues, and their laws.

mod launch;

#[path = "../../../tests/shared.rs"]
mod shared;

use std::path::PathBuf;

use launch::{plan, plan_file};
use plimsoll_cost::what_if::parallel;
use plimsoll_cost::what_if::precision::{Recast, gains};
use plimsoll_cost::{Chunk, Collective, Family, Format, Inventory, Kernel, Operator, Shape};
use plimsoll_facts::catalogue;
use plimsoll_facts::gguf::{self, Input};
use plimsoll_facts::model::{AttentionKind, Ffn, Mixer, Model, Span, read};
use plimsoll_facts::tensor::{Part, Role};
use plimsoll_plan::{Item, Ledger, Plan};
use serde_json::json;
use shared::shared;

fn model(name: &str) -> Model {
    catalogue::model(name).expect("a model of the catalogue").model
}

fn flops(operators: &[Operator], keep: impl Fn(&Operator) -> bool) -> f64 {
    operators.iter().filter(|operator| keep(operator)).map(|operator| operator.runs * operator.work.flops).sum()
}

fn is_product(operator: &Operator) -> bool {
    matches!(operator.kernel.family(), Family::Gemm | Family::Moe)
}

/// Every model of the catalogue, and of the shared data where that is there.
fn everything() -> Vec<(String, Model)> {
    let mut all: Vec<(String, Model)> = catalogue::model_ids()
        .map(|id| (id.to_owned(), catalogue::model(id).expect("it is in the catalogue").model))
        .collect();
    let Some(models) = shared("data/models") else { return all };
    let entries = std::fs::read_dir(models).expect("a folder");
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    folders.sort();
    for folder in folders {
        let Ok(text) = std::fs::read_to_string(folder.join("config.json")) else { continue };
        let Ok(config) = serde_json::from_str(&text) else { continue };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Ok(model) = read(&name, &config, None) {
            all.push((name, model));
        }
    }
    all
}

/// Numbers of the matrices that one token is multiplied with, by the model's own count: active parameters without the
/// embedding, the output projection counted once also where it is the embedding.
fn multiplied(model: &Model) -> f64 {
    let lookup: u64 = model
        .counted()
        .filter(|tensor| tensor.part == Part::Text && matches!(tensor.role, Role::Embedding | Role::Positions))
        .map(|tensor| tensor.total_elements())
        .sum();
    let head = if model.tied { model.vocabulary * model.hidden } else { 0 };
    (model.active_parameters() - lookup + head) as f64
}

/// What no token of text is multiplied with: keys and values of an encoder's output.
fn crossed(model: &Model) -> bool {
    model
        .layers
        .iter()
        .any(|layer| matches!(&layer.mixer, Mixer::Attention(attention) if attention.span == Span::Cross))
}

fn latent(model: &Model) -> bool {
    model.layers.iter().any(|layer| {
        matches!(&layer.mixer, Mixer::Attention(attention) if matches!(attention.kind, AttentionKind::Latent { .. }))
    })
}

/// One token alone, with nothing before it.
fn lone() -> Shape {
    Shape { decodes: 1, sampled: 1, ..Shape::default() }
}

#[test]
fn products_of_one_token_are_two_operations_per_active_parameter() {
    let (mut seen, mut misses) = (0, Vec::new());
    for (name, model) in everything() {
        let plan = match plan(&model, "vllm", &json!({"max_model_len": 2048})) {
            Ok(plan) => plan,
            Err(error) => {
                eprintln!("{name}: not planned: {}", error.to_string().lines().next().unwrap_or_default());
                continue;
            }
        };
        let inventory = Inventory::new(&model, &plan).expect("a model that is understood has operators");
        let found = flops(&inventory.operators(&lone()), |operator| {
            is_product(operator) || matches!(operator.kernel, Kernel::LatentProduct { .. })
        });
        let expected = 2.0 * multiplied(&model);
        let ratio = found / expected;
        seen += 1;
        // Norms, biases, routers' corrections and small states are parameters that are not multiplied with, and
        // vocabularies are padded.
        let (low, high) = if crossed(&model) { (0.9, 1.001) } else { (0.985, 1.004) };
        if !(low..=high).contains(&ratio) {
            misses.push(format!("{name} ({}): {ratio:.4}", model.model_type));
        }
    }
    assert!(seen > 50, "only {seen} models were looked at");
    assert!(misses.is_empty(), "of {seen}:\n{}", misses.join("\n"));
}

#[test]
fn attention_is_four_operations_per_head_width_and_pair() {
    for (name, context) in
        [("llama-3.1-8b", 1000_u64), ("qwen3-32b", 7), ("mixtral-8x7b", 4096), ("qwen3-30b-a3b", 100_000)]
    {
        let Ok(known) = catalogue::model(name) else { continue };
        let model = known.model;
        let plan = plan(&model, "vllm", &json!({"max_model_len": 2048})).expect("it is planned");
        let inventory = Inventory::new(&model, &plan).expect("it has operators");
        let shape = Shape { decode_context: context, decode_windowed: context, ..lone() };
        let found = flops(&inventory.operators(&shape), |operator| operator.kernel.family() == Family::Attention);
        let expected: f64 = model
            .layers
            .iter()
            .map(|layer| match &layer.mixer {
                Mixer::Attention(attention) => match attention.kind {
                    AttentionKind::Grouped { heads, key_dim, .. } => {
                        4.0 * f64::from(heads) * f64::from(key_dim) * (context + 1) as f64
                    }
                    AttentionKind::Latent { .. } => 0.0,
                },
                Mixer::Recurrent(_) | Mixer::None => 0.0,
            })
            .sum();
        assert!((found / expected - 1.0).abs() < 1e-12, "{name}: {found} {expected}");
    }
}

/// Weights of the fullest rank that a step reads, by the plan's ledger.
fn held(model: &Model, plan: &Plan) -> f64 {
    held_by(model, &plan.ranks[0].ledger)
}

fn held_by(model: &Model, ledger: &Ledger) -> f64 {
    let read = [
        Item::WeightsAttention,
        Item::WeightsRecurrent,
        Item::WeightsMlp,
        Item::WeightsExperts,
        Item::WeightsNorm,
        Item::WeightsLmHead,
    ];
    let bytes: f64 = read.iter().map(|item| ledger.bytes(*item).as_f64()).sum();
    let tied = model.tied && ledger.bytes(Item::WeightsLmHead).get() == 0;
    bytes + if tied { ledger.bytes(Item::WeightsEmbedding).as_f64() } else { 0.0 }
}

#[test]
fn weights_that_are_read_are_those_that_the_ledger_holds() {
    let settings = [
        ("vllm", json!({"max_model_len": 2048})),
        ("vllm", json!({"max_model_len": 2048, "tensor_parallel_size": 4})),
        ("vllm", json!({"max_model_len": 2048, "tensor_parallel_size": 4, "enable_expert_parallel": true})),
        ("sglang", json!({"context_length": 2048, "tp_size": 2})),
        ("sglang", json!({"context_length": 2048, "tp_size": 4, "dp_size": 4, "enable_dp_attention": true})),
        ("tensorrt-llm", json!({"max_seq_len": 2048, "tp_size": 4})),
    ];
    let (mut seen, mut misses) = (0, Vec::new());
    for (name, model) in everything() {
        // Latents' projections are held twice and read once; a lookup table of per-layer inputs is held and not read.
        let tables = |tensor: &&plimsoll_facts::tensor::Tensor| {
            tensor.part == Part::Text && tensor.role == Role::Embedding && tensor.shape.len() == 2
        };
        if latent(&model) || crossed(&model) || (model.tied && model.tensors.iter().filter(tables).count() > 1) {
            continue;
        }
        // The ledger counts whole pages of the allocator, which small matrices feel, and what MXFP4 kernels pad.
        let low = match model.model_type.as_str() {
            "gpt_oss" => 0.85,
            _ if model.parameters() < 2_500_000_000 => 0.93,
            _ => 0.96,
        };
        for (engine, options) in &settings {
            let Ok(plan) = plan(&model, engine, options) else { continue };
            let inventory = Inventory::new(&model, &plan).expect("it has operators");
            // So many tokens that no expert is spared.
            let (found, expected) = (inventory.weights(1e9), held(&model, &plan));
            let ratio = found / expected;
            seen += 1;
            if !(low..=1.03).contains(&ratio) {
                misses.push(format!("{name} ({}) {engine} {options}: {ratio:.4}", model.model_type));
            }
        }
    }
    assert!(seen > 100, "only {seen} launches were looked at");
    assert!(misses.is_empty(), "{} of {seen}:\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn experts_of_a_lone_token_are_its_own() {
    let model = model("qwen3-30b-a3b");
    let plan = plan(&model, "vllm", &json!({"max_model_len": 2048})).expect("it is planned");
    let inventory = Inventory::new(&model, &plan).expect("it has operators");
    let Some(Ffn::Moe { experts, active, .. }) = model.layers.first().map(|layer| layer.ffn.clone()) else {
        panic!("experts")
    };
    assert_eq!((experts, active), (128, 8));
    let moe = |tokens: f64| {
        let mut into = Vec::new();
        inventory.per_token(tokens, 0.0, &mut into);
        into.into_iter().find(|operator| operator.kernel.family() == Family::Moe).expect("experts run")
    };
    let numbers = 3.0 * 2048.0 * 768.0;
    let one = moe(1.0);
    assert!((one.work.flops - 2.0 * 8.0 * numbers).abs() < 1.0);
    assert!((one.work.read - (8.0 * numbers * 2.0 + 8.0 * 2048.0 * 2.0)).abs() < 1.0, "{one:?}");
    let many = moe(64.0);
    let touched = 128.0 * (1.0 - 0.9375_f64.powi(64));
    assert!((many.work.read - (touched * numbers * 2.0 + 64.0 * 8.0 * 2048.0 * 2.0)).abs() < 10.0, "{many:?}");
}

/// Every operator's work by name and kind of kernel, runs counted: what may be compared between launches.
fn totals(operators: &[Operator]) -> (f64, f64) {
    let flops = operators.iter().map(|operator| operator.runs * operator.work.flops).sum();
    let moved = operators.iter().map(|operator| operator.runs * (operator.work.read + operator.work.written)).sum();
    (flops, moved)
}

#[test]
fn ranks_share_the_arithmetic_of_the_whole() {
    let cases = [
        ("llama-3.1-70b", "vllm", json!({"max_model_len": 2048, "tensor_parallel_size": 8}), 8.0),
        ("qwen3-30b-a3b", "vllm", json!({"max_model_len": 2048, "tensor_parallel_size": 4}), 4.0),
        (
            "qwen3-30b-a3b",
            "vllm",
            json!({"max_model_len": 2048, "tensor_parallel_size": 2, "data_parallel_size": 2, "enable_expert_parallel": true}),
            2.0,
        ),
        ("llama-3.1-70b", "vllm", json!({"max_model_len": 2048, "pipeline_parallel_size": 4}), 4.0),
        ("llama-3.1-70b", "sglang", json!({"context_length": 2048, "tp_size": 4}), 4.0),
        ("llama-3.1-70b", "tensorrt-llm", json!({"max_seq_len": 2048, "tp_size": 4}), 4.0),
    ];
    let shape = Shape {
        chunks: vec![Chunk { tokens: 512, context: 256 }, Chunk { tokens: 100, context: 0 }],
        decodes: 64,
        decode_context: 64 * 900,
        decode_windowed: 64 * 900,
        ..Shape::default()
    };
    for (name, engine, options, ranks) in cases {
        let model = model(name);
        let one = plan(&model, engine, &json!({})).expect("one card");
        let many = plan(&model, engine, &options).expect("several cards");
        let arithmetic = |plan: &Plan| {
            let inventory = Inventory::new(&model, plan).expect("it has operators");
            // The router is repeated on every rank.
            flops(&inventory.operators(&shape), |operator| operator.name != "router")
        };
        let (whole, part) = (arithmetic(&one), arithmetic(&many));
        // Padding of what does not divide and, in a pipeline, nothing else.
        assert!((part * ranks / whole - 1.0).abs() < 1e-3, "{name} {engine} {options}: {part} × {ranks} of {whole}");
    }
}

#[test]
fn two_all_reduces_a_layer_under_tensor_parallelism() {
    let model = model("llama-3.1-70b");
    let options = json!({"max_model_len": 2048, "tensor_parallel_size": 8});
    let plan = plan(&model, "vllm", &options).expect("eight cards");
    let inventory = Inventory::new(&model, &plan).expect("it has operators");
    let shape = Shape { decodes: 16, decode_context: 16_000, decode_windowed: 16_000, sampled: 16, ..Shape::default() };
    let layers: f64 = inventory
        .operators(&shape)
        .iter()
        .filter(|operator| operator.name == "attention_all_reduce" || operator.name == "ffn_all_reduce")
        .map(|operator| {
            let Kernel::Collective { kind, bytes, ranks, across } = operator.kernel else { panic!("{operator:?}") };
            assert_eq!((kind, ranks, across), (Collective::AllReduce, 8, false));
            assert!((bytes - 16.0 * 8192.0 * 2.0).abs() < 1e-9);
            operator.runs
        })
        .sum();
    assert!((layers - 160.0).abs() < 1e-9, "{layers}");
}

#[test]
fn latents_are_absorbed_for_decoding_and_expanded_for_prompts() {
    let model = model("deepseek-v3");
    let options = json!({"max_model_len": 4096, "tensor_parallel_size": 8});
    let plan = plan(&model, "vllm", &options).expect("eight cards");
    let inventory = Inventory::new(&model, &plan).expect("it has operators");
    let names = |shape: &Shape| -> Vec<String> {
        let all = inventory.operators(shape);
        all.iter()
            .filter(|operator| operator.kernel.family() != Family::Collective)
            .map(|o| o.name.to_string())
            .collect()
    };
    let decode = names(&Shape { decodes: 1, decode_context: 100, sampled: 1, ..Shape::default() });
    let chunk = names(&Shape { chunks: vec![Chunk { tokens: 10, context: 5 }], ..Shape::default() });
    assert!(decode.iter().any(|name| name == "latent_query") && !decode.iter().any(|name| name == "kv_b_proj"));
    assert!(chunk.iter().any(|name| name == "kv_b_proj") && !chunk.iter().any(|name| name == "latent_query"));
    let all = inventory.operators(&lone());
    let product =
        all.iter().find(|operator| operator.name == "qkv_a_proj").expect("queries and latents are one product");
    let Kernel::Gemm { n, k, .. } = product.kernel else { panic!("{product:?}") };
    assert_eq!((n, k), (1536 + 576, 7168));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Products are linear in tokens, attention in each of the two that it pairs.
    #[test]
    fn arithmetic_is_linear(
        which in 0..4_usize, tokens in 1..5000_u32, context in 0..20_000_u32, factor in 2..9_u32, batch in 1..300_u32,
    ) {
        let name = ["llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "qwen3-next-80b-a3b-instruct"][which];
        let model = model(name);
        let plan = plan(&model, "vllm", &json!({"max_model_len": 2048})).expect("it is planned");
        let inventory = Inventory::new(&model, &plan).expect("it has operators");
        let (tokens, context, factor, batch) =
            (f64::from(tokens), f64::from(context), f64::from(factor), f64::from(batch));
        let per_token = |tokens: f64| {
            let mut into = Vec::new();
            inventory.per_token(tokens, tokens, &mut into);
            totals(&into)
        };
        let (one, many) = (per_token(tokens), per_token(tokens * factor));
        proptest::prop_assert!((many.0 / (one.0 * factor) - 1.0).abs() < 1e-9);
        proptest::prop_assert!(many.1 <= one.1 * factor * (1.0 + 1e-9) && many.1 >= one.1);
        let decode = |batch: f64, context: f64| {
            let mut into = Vec::new();
            inventory.decode(batch, batch * context, batch * context, &mut into);
            totals(&into).0
        };
        proptest::prop_assert!((decode(batch * factor, context) / (decode(batch, context) * factor) - 1.0).abs() < 1e-9);
        // What a pair costs does not depend on how many there are.
        let step = decode(batch, context + factor) - decode(batch, context);
        let next = decode(batch, context + 2.0 * factor) - decode(batch, context + factor);
        proptest::prop_assert!((step - next).abs() <= 1e-6 * decode(batch, context + 2.0 * factor));
        // A piece of a prompt in two pieces computes as much.
        let chunk = |tokens: f64, context: f64| {
            let mut into = Vec::new();
            inventory.chunk(1.0, tokens, context, &mut into);
            let attends = |operator: &&Operator| operator.name != "kv_b_proj";
            into.iter().filter(attends).map(|operator| operator.runs * operator.work.flops).sum::<f64>()
        };
        let first = (tokens / 2.0).ceil();
        let halves = chunk(first, context) + chunk(tokens - first, context + first);
        proptest::prop_assert!((halves / chunk(tokens, context) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn every_engine_has_operators() {
    for (name, engine, options) in [
        ("llama-3.1-8b", "transformers", json!({})),
        ("llama-3.1-8b", "sglang", json!({"context_length": 2048})),
        ("llama-3.1-8b", "tensorrt-llm", json!({"max_seq_len": 2048})),
    ] {
        let model = model(name);
        let plan = plan(&model, engine, &options).expect("it is planned");
        let inventory = Inventory::new(&model, &plan).expect("it has operators");
        let operators = inventory.operators(&lone());
        let fused = operators.iter().filter(|operator| operator.name == "qkv_proj").count();
        assert_eq!(
            fused,
            if engine == "transformers" { 2 } else { 1 },
            "{engine}: keys and values are alike where apart"
        );
    }
}

#[test]
fn quantising_while_loading_shows_in_formats() {
    let model = model("llama-3.1-8b");
    let plan = plan(&model, "vllm", &json!({"max_model_len": 2048, "quantization": "fp8"})).expect("it is planned");
    let inventory = Inventory::new(&model, &plan).expect("it has operators");
    for operator in inventory.operators(&lone()) {
        if let Kernel::Gemm { format, .. } = operator.kernel {
            let expected = if operator.name == "lm_head" { Format::Bf16 } else { Format::Fp8 };
            assert_eq!(format, expected, "{}", operator.name);
        }
    }
}

#[test]
fn files_of_llama_cpp_have_the_operators_of_their_models() {
    let Some(folder) = shared("data/gguf") else { return };
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.sort();
    let (mut seen, mut misses) = (0, Vec::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "gguf")) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(file).expect("it can be read");
        let input = Input { name: name.clone(), bytes: &mut bytes.as_slice(), length: None };
        let Ok(gguf) = gguf::read(vec![input]) else { continue };
        let Ok(model) = gguf::model(&gguf, &name) else { continue };
        let plan = match plan_file(&model, Some(&gguf), "llama.cpp", &json!({"ctx_size": 4096, "n_gpu_layers": 999})) {
            Ok(plan) => plan,
            Err(error) => {
                eprintln!("{name}: not planned: {error}");
                continue;
            }
        };
        let inventory = Inventory::new(&model, &plan).expect("it has operators");
        let found = flops(&inventory.operators(&lone()), |operator| {
            is_product(operator) || matches!(operator.kernel, Kernel::LatentProduct { .. })
        });
        let ratio = found / (2.0 * multiplied(&model));
        let read = inventory.weights(1e9) / plan.ranks.iter().map(|rank| held_by(&model, &rank.ledger)).sum::<f64>();
        seen += 1;
        if !(0.985..=1.004).contains(&ratio) || !(0.95..=1.03).contains(&read) {
            misses.push(format!("{name} ({}): operations {ratio:.4}, bytes {read:.4}", model.model_type));
        }
    }
    assert!(seen > 20, "only {seen} files were looked at");
    assert!(misses.is_empty(), "{} of {seen}:\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn a_file_that_is_not_at_hand_is_read_in_its_mean_bits() {
    let model = model("llama-3.1-8b");
    let options = json!({"ctx_size": 4096, "n_gpu_layers": 999, "file_type": "Q4_K_M"});
    let plan = plan(&model, "llama.cpp", &options).expect("it is planned");
    let inventory = Inventory::new(&model, &plan).expect("it has operators");
    let all = inventory.operators(&lone());
    let down = all.iter().find(|operator| operator.name == "down_proj").expect("a feed-forward block");
    let Kernel::Gemm { format: Format::Weight(hundredths), .. } = down.kernel else { panic!("{down:?}") };
    assert!((440..520).contains(&hundredths), "{hundredths}");
}

#[test]
fn other_formats_move_fewer_bytes() {
    let shape = Shape { decodes: 1, decode_context: 8192, decode_windowed: 8192, sampled: 1, ..Shape::default() };
    for name in ["llama-3.1-70b", "qwen3-30b-a3b", "deepseek-v3"] {
        let model = model(name);
        let plan = plan(&model, "vllm", &json!({"max_model_len": 16384})).expect("it is planned");
        let inventory = Inventory::new(&model, &plan).expect("it has operators");
        let same = inventory.recast(&Recast::default()).expect("nothing changes");
        assert_eq!(same, inventory);
        let recasts = [Format::Bf16, Format::Fp8, Format::Int8Weight, Format::Int4Weight, Format::Nvfp4]
            .map(|format| Recast { weights: Some(format), kv_bytes: None });
        let found = gains(&inventory, &recasts, &shape, &mut |inventory, shape| {
            totals(&inventory.operators(shape)).1 / 3.35e12
        })
        .expect("fair formats");
        let held: Vec<f64> = found.iter().map(|gain| gain.weights).collect();
        assert!(held[0] > held[1] && held[1] < held[2] && held[2] > held[4] && held[4] > held[3], "{name}: {held:?}");
        // A step of one sequence is bound by its bytes: half the bits, next to twice as fast.
        let gained = found[0].seconds / found[1].seconds;
        assert!((1.6..2.05).contains(&gained), "{name}: {gained}");
        let eight = inventory.recast(&Recast { weights: None, kv_bytes: Some(1.0) }).expect("fp8 caches");
        let attention = |inventory: &Inventory| -> f64 {
            let all = inventory.operators(&shape);
            all.iter().filter(|o| o.name == "attention").map(|o| o.runs * o.work.read).sum()
        };
        let halved = attention(&inventory) / attention(&eight);
        assert!((1.9..=2.0).contains(&halved), "{name}: {halved}");
        assert!(inventory.recast(&Recast { weights: None, kv_bytes: Some(0.0) }).is_err());
    }
}

#[test]
fn a_launchs_messages_are_those_of_the_closed_forms() {
    let model = model("llama-3.1-70b");
    let options = json!({"max_model_len": 2048, "tensor_parallel_size": 8});
    let plan = plan(&model, "vllm", &options).expect("eight cards");
    let inventory = Inventory::new(&model, &plan).expect("it has operators");
    let shape = Shape { decodes: 64, decode_context: 64, decode_windowed: 64, ..Shape::default() };
    let told = parallel::messages(&inventory.operators(&shape));
    let layers = told.iter().filter(|message| message.name != "embedding_all_reduce");
    let sent: f64 = layers.map(parallel::Messages::sent).sum();
    let stack = parallel::Stack { layers: 80, hidden: 8192, number: 2.0, tokens: 64.0 };
    assert!((sent / stack.tensor(8).sent() - 1.0).abs() < 1e-12);
}
