//! What do launches of llama.cpp come to? Files derived from built-in configurations, so that nothing else is needed.

use plimsoll_facts::catalogue;
use plimsoll_facts::gguf::{FileType, Gguf, from_model};
use plimsoll_facts::model::Model;
use plimsoll_plan::engine::{Companion, Depth, Question, flag, llamacpp};
use plimsoll_plan::{Card, Error, Given, Item, Plan, State, Verdict, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn card(gib: f64, count: u32) -> Card {
    let total = Estimate::exact(Bytes::gib(gib), Source::Given);
    Card { name: format!("{gib} GiB"), total, compute_capability: Some((8, 9)), sm_count: None, unified: false, count }
}

fn file(id: &str, kind: FileType) -> (Model, Gguf) {
    let model = catalogue::model(id).expect("a built-in model").model;
    let gguf = from_model(&model, kind).expect("a file");
    (model, gguf)
}

fn try_plan(file: &(Model, Gguf), cards: &[Card], build: u16, options: Value) -> Result<Plan, Error> {
    let options: Map<String, Value> = options.as_object().cloned().unwrap_or_default();
    llamacpp::plan(&Question {
        model: &file.0,
        gguf: Some(&file.1),
        companions: &[],
        cards,
        version: Version::new(build, 0, 0),
        options: &options,
        given: &Given::default(),
        depth: Depth::Whole,
    })
}

fn plan(file: &(Model, Gguf), cards: &[Card], options: Value) -> Plan {
    try_plan(file, cards, 11_258, options).expect("a plan")
}

fn mib(plan: &Plan, rank: usize, item: Item) -> String {
    format!("{:.2}", plan.ranks[rank].ledger.bytes(item).as_mib())
}

fn has_line(plan: &Plan, line: &str) {
    let lines = &plan.kv.logged.lines;
    assert!(lines.iter().any(|found| found.contains(line)), "{line} is not in {lines:#?}");
}

#[test]
fn a_logged_launch_comes_out_to_the_digit() {
    // Qwen3-32B in Q4_K_M without flash attention: 18423.65, 4096 and 2136.01 MiB were logged.
    let file = file("Qwen/Qwen3-32B", FileType::Q4KM);
    let options = json!({"ctx_size": 16384, "parallel": 1, "flash_attn": "off", "n_gpu_layers": 99});
    let plan = try_plan(&file, &[card(48.0, 1)], 9000, options).expect("a plan");
    has_line(&plan, "offloaded 65/65 layers to GPU");
    has_line(&plan, "CUDA0 model buffer size = 18423.65 MiB");
    assert_eq!(mib(&plan, 0, Item::Kv), "4096.00");
    assert_eq!(mib(&plan, 0, Item::Activation), "2136.01");
    assert_eq!(plan.ranks[0].device.as_deref(), Some("CUDA0"));
}

#[test]
fn slots_divide_the_context_unless_they_share_it() {
    let file = file("Qwen/Qwen3-0.6B", FileType::Q8_0);
    for (options, tokens, each) in [
        (json!({"ctx_size": 4096, "parallel": 3}), 4608, 1536),
        (json!({"ctx_size": 4096, "parallel": 3, "kv_unified": true}), 4096, 4096),
        (json!({"ctx_size": 4096}), 4096, 4096),
        (json!({"ctx_size": 5000, "parallel": 1}), 5120, 5120),
        (json!({"env": {"LLAMA_ARG_CTX_SIZE": "4096", "LLAMA_ARG_N_PARALLEL": "2"}}), 4096, 2048),
    ] {
        let plan = plan(&file, &[card(24.0, 1)], options.clone());
        assert_eq!((plan.kv.tokens, plan.max_model_len), (tokens, each), "{options}");
    }
}

#[test]
fn different_cards_take_layers_by_their_free_memory() {
    let file = file("Qwen/Qwen3-32B", FileType::Q4KM);
    let plan = plan(&file, &[card(24.0, 1), card(12.0, 1)], json!({"ctx_size": 8192, "parallel": 1, "fit": "off"}));
    let weights = |rank: usize| plan.ranks[rank].ledger.weights();
    assert_eq!(plan.ranks.len(), 2);
    // 65 parts by shares of 23.65 and 11.65 GiB: 44 on the first, 21 with the output on the second.
    assert_eq!(mib(&plan, 0, Item::Kv), format!("{}.00", 44 * 32));
    assert_eq!(mib(&plan, 1, Item::Kv), format!("{}.00", 20 * 32));
    assert!(weights(0) > weights(1));
    assert_eq!((plan.ranks[0].total, plan.ranks[1].total), (Bytes::gib(24.0), Bytes::gib(12.0)));
}

#[test]
fn fitting_cuts_the_context_then_moves_layers() {
    let file = file("Qwen/Qwen3-32B", FileType::Q4KM);
    let cut = plan(&file, &[card(24.0, 1)], json!({"parallel": 1}));
    assert!((4096..40_960).contains(&cut.kv.tokens), "{}", cut.kv.tokens);
    assert!(matches!(cut.verdict, Verdict::Fits { .. }));
    let moved = plan(&file, &[card(12.0, 1)], json!({"ctx_size": 8192, "parallel": 1}));
    assert!(moved.notes.iter().any(|note| note.contains("of 65 layers on the GPU")), "{:?}", moved.notes);
    assert!(moved.host.as_ref().is_some_and(|host| host.weights() > Bytes::gib(5.0)));
    let asked = plan(&file, &[card(12.0, 1)], json!({"ctx_size": 8192, "parallel": 1, "n_gpu_layers": 99}));
    let Verdict::DoesNotFit { binding, remedies, .. } = &asked.verdict else { panic!("{:?}", asked.verdict) };
    assert_eq!((binding.as_str(), asked.state()), ("weights", State::DoesNotFit));
    assert!(remedies.iter().any(|remedy| remedy.fits && remedy.flags[0] == "-ngl"), "{remedies:?}");
}

#[test]
fn the_first_buffer_without_room_is_the_one_that_is_refused() {
    // Model 18423.65 MiB, cache 4096, compute 2136 without flash attention.
    let file = file("Qwen/Qwen3-32B", FileType::Q4KM);
    let options = json!({"ctx_size": 16384, "parallel": 1, "flash_attn": "off", "n_gpu_layers": 99});
    for (gib, refused) in [(12.0, "18423.65 MiB"), (20.0, "4096.00 MiB"), (23.5, "allocating 2136.0")] {
        let plan = plan(&file, &[card(gib, 1)], options.clone());
        let Verdict::DoesNotFit { refusal: Some(refusal), .. } = &plan.verdict else { panic!("{:?}", plan.verdict) };
        assert!(refusal.message.contains(refused), "{gib} GiB: {}", refusal.message);
    }
}

#[test]
fn the_engine_refuses_what_it_refuses() {
    let file = file("Qwen/Qwen3-0.6B", FileType::Q8_0);
    for (options, words) in [
        (json!({"cache_type_v": "q8_0", "flash_attn": "off"}), "quantized V cache requires flash_attn to be enabled"),
        (json!({"parallel": 300}), "n_seq_max must be <= 256"),
        (json!({"split_mode": "row"}), "--split-mode row is not planned"),
    ] {
        let error = try_plan(&file, &[card(24.0, 2)], 11_258, options).expect_err(words);
        assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains(words), "{error}");
    }
    for (key, value, words) in [
        ("cache_type_k", json!("q3_K"), "expected f32, f16"),
        ("n_gpu_layers", json!("many"), "a whole number, auto or all"),
        ("ctx_size", json!(-5), "a whole number"),
        ("override_tensor", json!("(=CPU"), "a regular expression"),
        ("override_tensor", json!("exps=TPU"), "a buffer CPU"),
        ("main_gpu", json!(3), ""),
        ("split_mode", json!("diagonal"), "none, layer, row or tensor"),
    ] {
        let mut options = Map::new();
        options.insert(key.to_owned(), value);
        options.insert("split_mode".to_owned(), options.get("split_mode").cloned().unwrap_or(json!("none")));
        let error = try_plan(&file, &[card(24.0, 1)], 11_258, Value::Object(options)).map(|_| ()).expect_err(key);
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Reads a printed command back.
fn reread(launch: &[String]) -> Value {
    let mut options = Map::new();
    let mut words = launch.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        let (flag, sense) = llamacpp::flags::FLAGS.find(word).unwrap_or_else(|| panic!("{word} is no flag"));
        let value = words.next_if(|next| !next.starts_with('-')).map_or(json!(true), |value| json!(value));
        let value = if sense == flag::Sense::Plain { value } else { json!(false) };
        if flag.kind == flag::Kind::Append {
            let list = options.entry(flag.name).or_insert_with(|| json!([]));
            list.as_array_mut().expect("a list").push(value);
        } else {
            options.insert(flag.name.to_owned(), value);
        }
    }
    Value::Object(options)
}

#[test]
fn the_printed_command_places_the_same() {
    let moe = file("Qwen/Qwen3-30B-A3B", FileType::Q4KM);
    let dense = file("Qwen/Qwen3-32B", FileType::Q4KM);
    for (file, cards, options) in [
        (&moe, vec![card(12.0, 1)], json!({})),
        (&moe, vec![card(8.0, 2)], json!({"parallel": 1, "ctx_size": 8192})),
        (&moe, vec![card(12.0, 1)], json!({"n_cpu_moe": 30, "ctx_size": 4096, "no_mmap": true})),
        (&dense, vec![card(12.0, 1)], json!({"ctx_size": 8192, "cache_type_k": "q8_0"})),
        (&dense, vec![card(24.0, 1)], json!({})),
        (&dense, vec![card(12.0, 1), card(16.0, 1)], json!({"device": "CUDA1"})),
        (&dense, vec![card(24.0, 2)], json!({"tensor_split": "3,1", "parallel": 2})),
        (&dense, vec![card(24.0, 2)], json!({"split_mode": "tensor", "ctx_size": 4096})),
    ] {
        let first = plan(file, &cards, options.clone());
        let again = plan(file, &cards, reread(&first.launch));
        for (a, b) in first.ranks.iter().zip(&again.ranks) {
            assert_eq!(a.ledger, b.ledger, "{options}: {}", first.launch.join(" "));
        }
        assert_eq!((first.host, first.launch), (again.host, again.launch), "{options}");
    }
}

#[test]
fn gpus_without_a_share_of_their_own_get_nothing() {
    let file = file("Qwen/Qwen3-0.6B", FileType::Q8_0);
    let weights = |split: &str| {
        let plan = plan(&file, &[card(24.0, 2)], json!({"ctx_size": 4096, "tensor_split": split}));
        plan.ranks.iter().map(|rank| rank.ledger.weights()).collect::<Vec<_>>()
    };
    assert_eq!(weights("1")[1], Bytes::ZERO);
    assert_eq!(weights("0,0"), weights("1,1"));
}

#[test]
fn split_mode_tensor_spreads_the_cache() {
    let file = file("Qwen/Qwen3-0.6B", FileType::Q8_0);
    let plan = plan(&file, &[card(24.0, 2)], json!({"ctx_size": 4096, "split_mode": "tensor"}));
    assert_eq!(mib(&plan, 0, Item::Kv), mib(&plan, 1, Item::Kv));
}

#[test]
fn a_drafting_model_s_cache_grows_with_the_context() {
    let (model, gguf) = file("Qwen/Qwen3-32B", FileType::Q4KM);
    let (_, draft) = file("Qwen/Qwen3-0.6B", FileType::Q8_0);
    let companions = [Companion { name: "draft.gguf", gguf: &draft }];
    let (given, cards) = (Given::default(), [card(32.0, 1)]);
    let at = |tokens: u64| {
        let options = json!({"model_draft": "draft.gguf", "parallel": 1, "n_gpu_layers": "all", "ctx_size": tokens});
        let options = options.as_object().cloned().unwrap_or_default();
        let version = Version::new(11_258, 0, 0);
        let (model, gguf, companions, options) = (&model, Some(&gguf), &companions, &options);
        llamacpp::plan(&Question {
            model,
            gguf,
            companions,
            cards: &cards,
            version,
            options,
            given: &given,
            depth: Depth::Whole,
        })
        .expect("a plan")
    };
    let longest = at(4096).max_context_tokens;
    assert!((8192..40_960).contains(&longest), "{longest}");
    assert!(matches!(at(longest).verdict, Verdict::Fits { .. }), "{longest}");
    assert!(matches!(at(longest + 256).verdict, Verdict::DoesNotFit { .. }), "{longest}");
    assert_eq!(at(8192).max_context_tokens, longest);
}

#[test]
fn a_request_takes_no_more_than_the_model_was_trained_for() {
    let file = file("Qwen/Qwen3-0.6B", FileType::Q8_0);
    let plan = plan(&file, &[card(24.0, 1)], json!({"ctx_size": 81_920, "parallel": 1}));
    assert_eq!((plan.kv.blocks, plan.kv.groups[0].blocks_per_request), (320, 160));
    assert_eq!(plan.max_context_tokens, 40_960);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn more_context_never_needs_less_and_fewer_layers_never_more(context in 1_u64..64, layers in 0_u64..29) {
        let file = file("Qwen/Qwen3-0.6B", FileType::Q4KM);
        let cards = [card(24.0, 1)];
        let at = |context: u64, layers: u64| {
            let options = json!({"ctx_size": context * 512, "n_gpu_layers": layers, "parallel": 1, "fit": "off"});
            let plan = plan(&file, &cards, options);
            let ledger = &plan.ranks[0].ledger;
            (ledger.bytes(Item::Kv), ledger.weights())
        };
        let (here, longer, fewer) = (at(context, layers), at(context + 1, layers), at(context, layers.saturating_sub(1)));
        prop_assert!(longer.0 >= here.0);
        prop_assert!(fewer.1 <= here.1);
    }
}
