//! What a scheduler runs with: flags read, checked and defaulted by release.

#![expect(clippy::unwrap_used, clippy::float_cmp, reason = "a test may stop where it stands; these floats are exact")]

use plimsoll_facts::model::{self, Model};
use plimsoll_plan::batching::{
    Batching, SglangBatching, SglangEviction, SglangPolicy, TensorRtLlmBatching, TensorRtLlmChunking,
    TensorRtLlmPolicy, VllmBatching, VllmPolicy,
};
use plimsoll_plan::engine::{Depth, Question, sglang, transformers, trtllm, vllm};
use plimsoll_plan::{Card, Error, Given, Plan};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Value, json};

fn llama() -> Model {
    let config = json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"});
    model::read("llama", &config, None).unwrap()
}

fn gemma() -> Model {
    let config = json!({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "hidden_size": 2560,
        "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072, "sliding_window": 1024,
        "sliding_window_pattern": 6, "torch_dtype": "bfloat16"});
    model::read("gemma", &config, None).unwrap()
}

fn card() -> Card {
    Card {
        name: "h100-sxm".to_owned(),
        total: Estimate::exact(Bytes::gib(79.2), Source::Given),
        compute_capability: Some((9, 0)),
        sm_count: Some(132),
        unified: false,
        count: 8,
    }
}

fn plan(engine: &str, model: &Model, version: &str, options: &Value) -> Result<Plan, Error> {
    let (card, version, given) = (card(), version.parse().unwrap(), Given::default());
    let options = options.as_object().unwrap();
    let cards = [card.clone()];
    let question = Question {
        model,
        gguf: None,
        companions: &[],
        cards: &cards,
        version,
        options,
        given: &given,
        depth: Depth::Whole,
    };
    match engine {
        "vllm" => {
            let options = vllm::options::Options::from_map(options, version)?;
            vllm::plan(&vllm::Case { model, card: &card, version, options: &options, given: &given })
        }
        "trtllm" => {
            let options = trtllm::Options::from_map(options, version)?;
            trtllm::plan(&trtllm::Case { model, card: &card, version, options: &options, given: &given })
        }
        "sglang" => sglang::plan(&question),
        _ => transformers::plan(&question),
    }
}

fn of_vllm(model: &Model, version: &str, options: &Value) -> VllmBatching {
    match plan("vllm", model, version, options).unwrap().batching {
        Some(Batching::Vllm(batching)) => batching,
        other => panic!("{other:?}"),
    }
}

fn of_sglang(model: &Model, version: &str, options: &Value) -> SglangBatching {
    match plan("sglang", model, version, options).unwrap().batching {
        Some(Batching::Sglang(batching)) => batching,
        other => panic!("{other:?}"),
    }
}

fn of_trtllm(model: &Model, version: &str, options: &Value) -> TensorRtLlmBatching {
    match plan("trtllm", model, version, options).unwrap().batching {
        Some(Batching::TensorRtLlm(batching)) => batching,
        other => panic!("{other:?}"),
    }
}

#[test]
fn vllm_defaults_go_by_release() {
    for (version, reserve, asynchronous, seqs, tokens) in
        [("0.11.0", false, false, 1024, 8192), ("0.18.0", false, true, 1024, 8192), ("0.33.0", true, true, 1024, 8192)]
    {
        let found = of_vllm(&llama(), version, &json!({}));
        assert_eq!((found.reserve_full_isl, found.async_scheduling), (reserve, asynchronous), "{version}");
        assert_eq!((found.max_num_seqs, found.max_num_batched_tokens), (seqs, tokens), "{version}");
        assert_eq!((found.policy, found.watermark, found.prefill_schedule_interval), (VllmPolicy::Fcfs, 0.0, 1));
        assert_eq!((found.long_prefill_token_threshold, found.max_num_active_seqs), (0, seqs));
        assert!(found.chunked_prefill && found.prefix_caching && found.v1 && found.unmodelled.is_empty());
    }
}

#[test]
fn vllm_flags_of_the_scheduler_are_heeded() {
    let found = of_vllm(
        &llama(),
        "0.33.0",
        &json!({"scheduling_policy": "priority", "long_prefill_token_threshold": "2k", "watermark": 0.05,
            "max_num_seqs": 64, "max_num_active_seqs": 32, "num_gpu_blocks_override": 777,
            "scheduler_reserve_full_isl": false, "prefill_schedule_interval": 4, "scheduler_cls": "my.Own"}),
    );
    assert_eq!((found.policy, found.long_prefill_token_threshold), (VllmPolicy::Priority, 2000));
    assert_eq!((found.max_num_seqs, found.max_num_active_seqs, found.blocks), (64, 32, 777));
    assert_eq!((found.watermark, found.reserve_full_isl, found.prefill_schedule_interval), (0.05, false, 4));
    assert_eq!(found.unmodelled, ["scheduler_cls"]);
}

#[test]
fn vllm_groups_stand_in_the_engine_s_order_and_blocks_are_the_plan_s() {
    let plan = plan("vllm", &gemma(), "0.33.0", &json!({"max_model_len": 8192})).unwrap();
    let Some(Batching::Vllm(found)) = &plan.batching else { panic!() };
    assert_eq!(found.blocks, plan.kv.blocks);
    let kinds: Vec<_> = plan.kv.groups.iter().map(|group| (group.kind.clone(), group.block_tokens)).collect();
    let windows = found.groups.iter().map(|group| {
        let kind = if let vllm::kv::Kind::Sliding { window } = group.kind {
            format!("sliding:{window}")
        } else {
            assert!(matches!(group.kind, vllm::kv::Kind::Full { .. }), "{group:?}");
            "full".to_owned()
        };
        (kind, group.block_tokens)
    });
    assert_eq!(windows.collect::<Vec<_>>(), kinds);
    assert!(kinds.len() > 1);
}

#[test]
fn sglang_takes_what_its_release_takes() {
    let found = of_sglang(
        &llama(),
        "0.5.23",
        &json!({"schedule_policy": "lpm", "schedule_conservativeness": 1.3, "enable_mixed_chunk": true,
            "chunked_prefill_size": 4096, "page_size": 16, "max_total_tokens": 100_000, "max_running_requests": 48,
            "radix_eviction_policy": "slru"}),
    );
    assert_eq!((found.policy, found.eviction, found.mixed_chunk), (SglangPolicy::Lpm, SglangEviction::Slru, true));
    assert_eq!((found.chunked_prefill_size, found.page_size), (Some(4096), 16));
    assert_eq!((found.max_total_tokens, found.max_running_requests), (100_000, 48));
    assert_eq!((found.schedule_conservativeness, found.max_prefill_tokens), (1.3, 16_384));
    assert!(found.radix_cache && found.unmodelled.is_empty());

    let plain = of_sglang(&llama(), "0.4.8", &json!({"disable_radix_cache": true, "chunked_prefill_size": -1}));
    assert_eq!((plain.policy, plain.chunked_prefill_size, plain.radix_cache), (SglangPolicy::Fcfs, None, false));
    let divided = of_sglang(
        &llama(),
        "0.5.23",
        &json!({"tp_size": 4, "dp_size": 4, "enable_dp_attention": true, "chunked_prefill_size": 8192}),
    );
    assert_eq!((divided.workers, divided.chunked_prefill_size), (4, Some(2048)));
    assert_eq!(divided.schedule_conservativeness, 0.3);
}

#[test]
fn tensorrt_llm_admits_what_it_can_complete_unless_told_otherwise() {
    let found = of_trtllm(&llama(), "1.2.1", &json!({}));
    assert_eq!((found.policy, found.chunking, found.block_reuse), (TensorRtLlmPolicy::GuaranteedNoEvict, None, true));
    assert_eq!((found.tokens_per_block, found.max_batch_size, found.max_num_tokens), (32, 2048, 8192));
    let found = of_trtllm(
        &llama(),
        "1.2.1",
        &json!({"scheduler_config": {"capacity_scheduler_policy": "MAX_UTILIZATION",
            "context_chunking_policy": "EQUAL_PROGRESS"}, "enable_chunked_prefill": true,
            "kv_cache_config": {"enable_block_reuse": false, "max_tokens": 64_000}}),
    );
    assert_eq!(found.policy, TensorRtLlmPolicy::MaxUtilization);
    assert_eq!(found.chunking, Some(TensorRtLlmChunking::EqualProgress));
    assert_eq!((found.block_reuse, found.partial_reuse, found.groups[0].blocks), (false, false, 2000));
    assert!(!of_trtllm(&llama(), "0.12.0", &json!({})).block_reuse);
}

#[test]
fn values_that_the_release_refuses_name_their_flag() {
    for (engine, version, options, message) in [
        (
            "vllm",
            "0.33.0",
            json!({"scheduling_policy": "lifo"}),
            "--scheduling-policy is lifo, expected one of fcfs, priority",
        ),
        ("vllm", "0.33.0", json!({"watermark": 1.0}), "--watermark is 1.0, expected a number from 0 to below 1"),
        (
            "vllm",
            "0.33.0",
            json!({"max_num_seqs": 8, "max_num_active_seqs": 9}),
            "--max-num-active-seqs is 9, expected at most --max-num-seqs, which is 8",
        ),
        (
            "vllm",
            "0.33.0",
            json!({"max_model_len": 4096, "long_prefill_token_threshold": 5000}),
            "--long-prefill-token-threshold is 5000, expected at most --max-model-len, which is 4096",
        ),
        (
            "sglang",
            "0.5.2",
            json!({"schedule_policy": "hrrn"}),
            "--schedule-policy is hrrn, expected one of lpm, random, fcfs, dfs-weight, lof",
        ),
        (
            "sglang",
            "0.5.23",
            json!({"schedule_policy": "lpm", "enable_priority_scheduling": true}),
            "--schedule-policy is lpm, expected fcfs or lof beside --enable-priority-scheduling",
        ),
        (
            "trtllm",
            "1.2.1",
            json!({"capacity_scheduler_policy": "greedy"}),
            "capacity_scheduler_policy is \"greedy\", expected guaranteed_no_evict, max_utilization or static_batch",
        ),
    ] {
        assert_eq!(plan(engine, &llama(), version, &options).unwrap_err().to_string(), message);
    }
}

#[test]
fn engines_without_a_modelled_scheduler_have_none() {
    assert_eq!(plan("transformers", &llama(), "5.23.0", &json!({})).unwrap().batching, None);
}
