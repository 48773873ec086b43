//! Published logs of TensorRT-LLM, reproduced.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[path = "../../../tests/shared.rs"]
mod shared;

use plimsoll_facts::model::{self, Model};
use plimsoll_plan::engine::trtllm::{
    Case, Options, Rounding, Shape, decoder_bytes, plan, pool_blocks, pool_tokens, runtime_bytes,
};
use plimsoll_plan::{Card, Given, Item, Plan, Verdict, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Value, json};
use shared::shared;

fn card(total: Bytes) -> Card {
    Card {
        name: "a card".to_owned(),
        total: Estimate::exact(total, Source::Given),
        compute_capability: Some((9, 0)),
        sm_count: None,
        unified: false,
        count: 8,
    }
}

fn llama(hidden: u64, inner: u64, layers: u64, heads: u64, kv_heads: u64, vocabulary: u64, positions: u64) -> Model {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "float16",
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "vocab_size": vocabulary, "max_position_embeddings": positions,
        "tie_word_embeddings": false,
    });
    model::read("llama", &config, None).unwrap()
}

fn llama_2_7b() -> Model {
    llama(4096, 11_008, 32, 32, 32, 32_000, 4096)
}

fn ask(model: &Model, total: f64, version: &str, options: Value, given: Given) -> Plan {
    let version: Version = version.parse().unwrap();
    let options = Options::from_map(options.as_object().unwrap(), version).unwrap();
    plan(&Case { model, card: &card(Bytes::gib(total)), version, options: &options, given: &given }).unwrap()
}

fn free(gib: f64) -> Given {
    Given { kv_free: Some(Bytes::gib(gib)), ..Given::default() }
}

fn near(found: f64, logged: f64, tolerance: f64) {
    assert!((found - logged).abs() <= tolerance * logged, "{found} is not {logged}");
}

#[test]
fn the_memory_guides_log_comes_out() {
    let options = json!({
        "quantization": "fp8", "kv_cache_dtype": "fp8", "max_batch_size": 256, "max_seq_len": 2048,
        "max_input_len": 1024, "free_gpu_memory_fraction": 0.9,
    });
    let plan = ask(&llama_2_7b(), 79.10, "0.11.0", options, free(70.48));
    assert_eq!(plan.kv.block_tokens, 64);
    assert_eq!(plan.kv.blocks, 4060);
    assert_eq!(plan.kv.tokens, 259_840);
    assert_eq!(plan.kv.groups[0].blocks_per_request, 32);
    assert_eq!(format!("{:.2}", plan.kv.logged.gib.unwrap()), "63.44");
    let ledger = &plan.ranks[0].ledger;
    near(ledger.bytes(Item::RuntimeBuffers).as_mib(), 43.29, 0.002);
    near(ledger.bytes(Item::RuntimeDecoder).as_mib(), 180.30, 0.002);
    near(ledger.weights().as_mib(), 6695.0, 0.002);
    for line in [
        "Number of blocks in KV cache primary pool: 4060",
        "Max KV cache pages per sequence: 32",
        "[MemUsageChange] Allocated 63.44 GiB for max tokens in paged KV cache (259840).",
        "Memory usage when calculating max tokens in paged kv cache: total: 79.10 GiB, available: 70.48 GiB",
    ] {
        assert!(plan.kv.logged.lines.iter().any(|found| found == line), "{line}: {:#?}", plan.kv.logged.lines);
    }
    assert!(matches!(plan.verdict, Verdict::Fits { .. }));
}

#[test]
fn without_the_free_memory_the_guides_launch_is_met_within_its_interval() {
    let options = json!({
        "quantization": "fp8", "kv_cache_dtype": "fp8", "max_batch_size": 256, "max_seq_len": 2048,
    });
    let plan = ask(&llama_2_7b(), 79.10, "0.11.0", options, Given::default());
    let budget = &plan.kv.budget;
    let logged = Bytes::gib(70.48 * 0.9);
    assert!(budget.low <= logged && logged <= budget.high, "{budget:?}");
    near(budget.bytes.as_gib(), logged.as_gib(), 0.01);
}

#[test]
fn buffers_of_public_logs_follow_the_closed_forms() {
    const GIB: f64 = 1_073_741_824.0;
    const MIB: f64 = 1_048_576.0;
    for (log, found, logged, unit) in [
        ("#1188 runtime", runtime_bytes(2048, 151_936, 32_768), 2.66, GIB),
        ("#1188 decoder", decoder_bytes(2048, 151_936, 32_768, 4), 5.76, GIB),
        ("#2789 decoder", decoder_bytes(1, 151_936, 4800, 4), 2.45, MIB),
        // Labelled Llama-2-7B; 28 layers and these buffers are GPT-J's (50 400 words).
        ("0.12.0.dev runtime", runtime_bytes(4096, 50_400, 4098), 1.14, GIB),
        ("0.12.0.dev decoder", decoder_bytes(4096, 50_400, 4098, 5), 4.35, GIB),
    ] {
        let found = found as f64 / unit;
        assert!((found - logged).abs() <= 0.0055, "{log}: {found} is not {logged}");
    }
}

#[test]
fn pools_of_public_logs_come_out() {
    const GIB: f64 = 1_073_741_824.0;
    // log, available GiB, fraction, bytes per token, block, blocks, GiB
    for (log, available, fraction, per_token, block, blocks, gib) in [
        ("#2268", 21.89, 0.9, 524_288, 64, 631, 19.72),
        ("#2789", 74.87, 0.4, 28_672, 64, 17_524, 29.95),
        ("serving guide", 1.42, 0.9, 262_144, 64, 82, 1.28),
        ("multimodal guide", 85.57, 0.9, 262_144, 32, 9859, 77.02),
        ("0.12.0.dev", 63.62, 0.99, 229_376, 64, 4607, 62.99),
    ] {
        let tokens = pool_tokens((available * GIB * fraction) as u64, per_token);
        let found = pool_blocks(tokens, block, Rounding::Up);
        let size = (found * block * per_token) as f64 / GIB;
        assert!(found.abs_diff(blocks) <= 1, "{log}: {found} is not {blocks}");
        assert!((size - gib).abs() < 0.01, "{log}: {size} is not {gib}");
    }
    assert_eq!(395_776 / 64, 6184);
    assert_eq!(format!("{:.2}", 395_776.0 * 12_288.0 / GIB), "4.53");
    assert_eq!(132_608_u64 * 524_288, 69_524_783_104);
    assert_eq!(Shape::plain(64, 32_768).longest(82), 5185);
}

#[test]
fn a_cut_sequence_says_so() {
    let model = llama(4096, 11_008, 32, 32, 16, 32_000, 32_768);
    let plan = ask(&model, 24.0, "0.11.0", json!({"max_batch_size": 8}), free(1.42));
    assert_eq!(plan.kv.blocks, 82);
    assert_eq!(plan.max_context_tokens, 5185);
    let Verdict::DoesNotFit { binding, refusal, remedies, .. } = &plan.verdict else { panic!("{:?}", plan.verdict) };
    assert_eq!(binding, "kv");
    assert_eq!(refusal.as_ref().unwrap().estimated_max_len, Some(5185));
    assert!(!remedies.is_empty() && remedies.len() <= 3);
    assert!(plan.notes.iter().any(|note| note.contains("5184 of them prompt")), "{:?}", plan.notes);
}

#[test]
fn max_tokens_beside_the_fraction() {
    let model = llama_2_7b();
    let tokens = |version: &str, options: Value| ask(&model, 79.10, version, options, free(10.0)).kv.tokens;
    let base = json!({"backend": "tensorrt", "max_batch_size": 8, "max_tokens": 64_000});
    let both =
        json!({"backend": "tensorrt", "max_batch_size": 8, "max_tokens": 64_000, "free_gpu_memory_fraction": 0.9});
    assert_eq!(tokens("0.17.0", base.clone()), 64_000);
    assert_eq!(tokens("0.17.0", both), 18_432);
    assert_eq!(tokens("0.21.0", base), 18_432);
}

#[test]
fn host_pools_round_down_and_ranks_agree_on_the_least() {
    let model = llama(4096, 14_336, 33, 32, 8, 128_256, 8192);
    let options =
        json!({"backend": "tensorrt", "pp_size": 2, "max_batch_size": 8, "host_cache_size": 1_000_000_000u64});
    let plan = ask(&model, 79.10, "0.17.0", options, free(20.0));
    assert_eq!(plan.ranks.len(), 2);
    // Stage 0 has 17 layers of 33: 69 632 B per token.
    assert_eq!(plan.kv.bytes_per_token, 69_632);
    assert_eq!(plan.kv.blocks, (20.0_f64 * 0.9 * 1_073_741_824.0 / 69_632.0).floor().div_euclid(64.0) as u64 + 1);
    assert!(
        plan.kv.logged.lines.iter().any(|line| line.contains("secondary pool: 224,")),
        "{:?}",
        plan.kv.logged.lines
    );
}

#[test]
fn nothing_more_memory_gives_less() {
    let model = llama_2_7b();
    for backend in ["tensorrt", "pytorch"] {
        let mut last = 0;
        for gib in [0.0, 5.0, 15.0, 24.0, 40.0, 80.0, 192.0] {
            let plan = ask(&model, gib, "1.2.1", json!({"backend": backend, "max_batch_size": 8}), Given::default());
            assert!(plan.kv.tokens >= last, "{backend} {gib}");
            last = plan.kv.tokens;
            if gib < 15.0 {
                assert!(matches!(plan.verdict, Verdict::DoesNotFit { .. }), "{backend} {gib}");
            }
        }
    }
}

#[test]
fn the_profile_runs_pool_follows_the_release() {
    let model = llama(4096, 14_336, 32, 32, 8, 128_256, 131_072);
    // release, tokens, sequence, slots, largest graph, drafted, blocks
    for (version, tokens, seq, batch, graph, blocks) in [
        ("0.20.0", 8192, 257, 2048, 128, 288),
        ("0.20.0", 4608, 269, 2048, 128, 162),
        ("1.2.0", 8192, 8192, 2048, 64, 258),
        ("1.2.0", 2048, 8192, 768, 128, 65),
        ("1.3.0", 8192, 8192, 2048, 4, 2048),
        ("1.3.0", 8192, 8192, 16, 4, 260),
    ] {
        let options = json!({
            "backend": "pytorch", "max_num_tokens": tokens, "max_seq_len": seq, "max_batch_size": batch,
            "cuda_graph_max_batch_size": graph, "kv_cache_dtype": "bfloat16",
        });
        let plan = ask(&model, 79.10, version, options, Given::default());
        let expected = format!("profiling {:.2} GiB", (f64::from(blocks) * 32.0 * 131_072.0) / 1_073_741_824.0);
        assert!(plan.kv.logged.lines[0].ends_with(&expected), "{version}: {expected}: {}", plan.kv.logged.lines[0]);
    }
}

#[test]
fn sizes_from_outside_do_not_overflow() {
    let model = llama_2_7b();
    for options in [
        json!({"backend": "tensorrt", "max_batch_size": 1u64 << 40, "max_seq_len": 1u64 << 40, "max_beam_width": 1024}),
        json!({"backend": "pytorch", "max_num_tokens": 1u64 << 40, "max_seq_len": 1, "max_batch_size": 1u64 << 40}),
        json!({"backend": "tensorrt", "max_tokens": 1u64 << 40, "remove_input_padding": false, "context_fmha": "disable"}),
        json!({"backend": "pytorch", "max_attention_window": [1, 2, 3], "max_seq_len": 1u64 << 40}),
    ] {
        let plan = ask(&model, 80.0, "1.2.1", options, Given::default());
        assert!(plan.kv.tokens < 1 << 41);
    }
}

fn model_of(folder: &std::path::Path, id: &str) -> Option<Model> {
    let path = folder.join("models").join(id.replace('/', "__")).join("config.json");
    let text = std::fs::read_to_string(path).ok()?;
    model::read(id, &serde_json::from_str(&text).unwrap(), None).ok()
}

/// Total memory of the campaign's cards: the runtime's for H100; for GB300 what the driver lists, less the 0.4 % that the
/// runtime reports less on B200 and H200.
fn total_of(gpu: &str) -> f64 {
    match gpu {
        "h100_sxm" => 79.10,
        "gb300" => 284_208.0 / 1024.0 * 0.996,
        other => panic!("{other}"),
    }
}

#[test]
fn measured_capacity_within_one_sequence_or_two_percent() {
    let Some(folder) = shared("data") else { return };
    let text = std::fs::read_to_string(folder.join("evidence/trtllm_capacity.jsonl")).unwrap();
    let mut worst: f64 = 0.0;
    let mut misses = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let id = row["model"].as_str().unwrap();
        let model = model_of(&folder, id).unwrap();
        let mut options = json!({
            "backend": "pytorch", "tp_size": row["tp"], "max_seq_len": row["max_seq_len"],
            "max_num_tokens": row["max_num_tokens"], "kv_cache_dtype": row["kv_cache_dtype"],
            "free_gpu_memory_fraction": row["kv_cache_free_gpu_memory_fraction"],
        });
        if id.ends_with("FP8") && model.tensors.iter().all(|tensor| tensor.quantised.is_empty()) {
            options["quantization"] = json!("fp8");
        }
        let plan = ask(&model, total_of(row["gpu"].as_str().unwrap()), "1.2.1", options, Given::default());
        let found = plan.kv.max_concurrency.floor();
        let measured = row["max_concurrent_sequences"].as_f64().unwrap();
        let error = (found - measured).abs();
        worst = worst.max(error / measured);
        eprintln!("{} {id} tp{} {} found {found} measured {measured}", row["gpu"], row["tp"], row["max_seq_len"]);
        if error > (0.02 * measured).max(1.0) {
            misses.push(line.to_owned());
        }
    }
    eprintln!("worst {:.2} %", worst * 100.0);
    assert!(misses.is_empty(), "{misses:#?}");
}
