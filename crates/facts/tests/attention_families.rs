//! Do layers say what they keep? Attention kinds, spans, shared caches and divisions of families with more than one
//! kind, on small configurations of our own and beside the reference implementation's caches.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/shared.rs"]
mod shared;

use std::path::Path;

use plimsoll_facts::model::{self, AttentionKind, Ffn, Layer, Mixer, Model, Span};
use plimsoll_facts::tensor::{Part, Split, Tensor};
use serde_json::{Value, json};
use shared::shared;

fn read(config: &Value) -> Model {
    model::read("test", config, None).unwrap()
}

fn line<'m>(model: &'m Model, name: &str) -> &'m Tensor {
    model.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn spans(model: &Model) -> Vec<Span> {
    let span = |layer: &Layer| match &layer.mixer {
        Mixer::Attention(attention) => attention.span,
        Mixer::Recurrent(_) | Mixer::None => panic!("attention expected"),
    };
    model.layers.iter().map(span).collect()
}

#[test]
fn llama4_with_its_tower_is_as_large_as_published() {
    // Sizes of Llama-4 Maverick; the hub counts 401 583 781 376 parameters.
    let model = read(&json!({
        "model_type": "llama4", "torch_dtype": "bfloat16",
        "text_config": {
            "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384, "num_hidden_layers": 48,
            "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 202048,
            "num_local_experts": 128, "interleave_moe_layer_step": 2, "max_position_embeddings": 1048576,
        },
        "vision_config": {
            "hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34, "num_attention_heads": 16,
            "image_size": 336, "patch_size": 14, "vision_output_dim": 4096, "projector_input_dim": 4096,
            "projector_output_dim": 4096,
        },
    }));
    assert_eq!(model.parameters(), 401_583_781_376);
    assert_eq!(model.active_parameters(), 17_184_691_200);
    assert_eq!(
        spans(&model)[..4],
        [Span::Chunk { tokens: 8192 }, Span::Chunk { tokens: 8192 }, Span::Chunk { tokens: 8192 }, Span::Full]
    );
    let experts = line(&model, "language_model.model.layers.{i}.feed_forward.experts.gate_up_proj");
    let matrix = experts.matrix.unwrap();
    assert_eq!((experts.shape.as_slice(), experts.split), ([128, 5120, 16384].as_slice(), Split::Even { dim: 2 }));
    assert_eq!((matrix.copies, matrix.outputs, matrix.inputs), (256, 8192, 5120));
}

#[test]
fn gemma4_readers_share_the_last_cache_of_their_kind() {
    let model = read(&json!({
        "model_type": "gemma4_text", "dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
        "global_head_dim": 32, "vocab_size": 1000, "vocab_size_per_layer_input": 1000,
        "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 3, "use_double_wide_mlp": true,
        "sliding_window": 512, "layer_types": ["sliding_attention", "full_attention", "sliding_attention",
            "sliding_attention", "sliding_attention", "full_attention"],
    }));
    let sources: Vec<Option<u32>> = model
        .layers
        .iter()
        .map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => attention.shares_cache_of,
            Mixer::Recurrent(_) | Mixer::None => None,
        })
        .collect();
    assert_eq!(sources, [None, None, None, Some(2), Some(2), Some(1)]);
    assert_eq!(model.layers[5].ffn, Ffn::Dense { inner: 256, gated: true });
    assert_eq!(line(&model, "model.embed_tokens_per_layer.weight").shape, [1000, 48]);
    assert!(model.tied);
}

#[test]
fn gemma4_refuses_readers_without_a_cache_to_read() {
    let error = model::read(
        "test",
        &json!({
            "model_type": "gemma4_text", "dtype": "bfloat16", "num_hidden_layers": 6, "num_kv_shared_layers": 6,
        }),
        None,
    );
    assert!(error.unwrap_err().to_string().contains("num_kv_shared_layers"));
}

#[test]
fn deepseek_v4_keeps_a_window_beside_compressed_entries() {
    let model = read(&json!({
        "model_type": "deepseek_v4", "torch_dtype": "bfloat16", "num_hidden_layers": 4, "num_nextn_predict_layers": 1,
        "compress_ratios": [0, 0, 4, 128, 0], "sliding_window": 128, "vocab_size": 1000, "n_routed_experts": 8,
    }));
    let kinds: Vec<(u32, bool)> = model
        .layers
        .iter()
        .map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => match attention.kind {
                AttentionKind::Latent { compress, indexer, rank, rope_dim, .. } => {
                    assert_eq!(rank + rope_dim, 512);
                    (compress, indexer.is_some())
                }
                AttentionKind::Grouped { .. } => panic!("latent expected"),
            },
            Mixer::Recurrent(_) | Mixer::None => panic!("attention expected"),
        })
        .collect();
    assert_eq!(kinds, [(1, false), (1, false), (4, true), (128, false)]);
    let window = Span::Window { tokens: 128 };
    assert_eq!(spans(&model), [window, window, Span::Summary { window: 128 }, Span::Summary { window: 128 }]);
    assert_eq!(model.draft_layers, 1);
    assert!(model.tensors.iter().any(|t| t.part == Part::Draft && t.layers.to_string() == "4"));
}

#[test]
fn latent_projections_divide_by_heads_and_latents_do_not() {
    let model = read(&json!({
        "model_type": "deepseek_v3", "torch_dtype": "bfloat16", "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128, "n_routed_experts": 256,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "q_lora_rank": 1536,
        "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "vocab_size": 129280, "num_nextn_predict_layers": 1,
    }));
    // With the drafting layer, its embedding and head: the hub's 684 531 386 000 less 41 540 496 scales of blocks.
    let all: u64 = model.tensors.iter().map(Tensor::total_elements).sum();
    assert_eq!((model.parameters(), all), (671_026_404_352, 684_489_845_504));
    let attention = "model.layers.{i}.self_attn";
    let split = |name: &str| line(&model, &format!("{attention}.{name}.weight")).split;
    assert_eq!(split("q_b_proj"), Split::Even { dim: 0 });
    assert_eq!(split("kv_b_proj"), Split::Even { dim: 0 });
    assert_eq!(split("o_proj"), Split::Even { dim: 1 });
    assert_eq!((split("q_a_proj"), split("kv_a_proj_with_mqa")), (Split::Whole, Split::Whole));
}

#[test]
fn glm_drafts_are_as_large_as_published() {
    // Sizes of GLM-4.5; its files hold 358 337 791 296 numbers.
    let model = read(&json!({
        "model_type": "glm4_moe", "torch_dtype": "bfloat16", "attention_bias": true, "head_dim": 128,
        "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_attention_heads": 96,
        "n_routed_experts": 160, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
        "num_hidden_layers": 92, "num_key_value_heads": 8, "num_nextn_predict_layers": 1, "use_qk_norm": true,
        "vocab_size": 151552,
    }));
    assert_eq!(model.tensors.iter().map(Tensor::total_elements).sum::<u64>(), 358_337_791_296);
    assert_eq!((model.parameters(), model.draft_layers), (352_797_814_784, 1));
}

#[test]
fn mimo_takes_the_pattern_and_the_sliding_heads_of_the_file() {
    let model = read(&json!({
        "model_type": "mimo_v2_flash", "torch_dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 128,
        "moe_intermediate_size": 32, "num_hidden_layers": 4, "n_routed_experts": 8, "num_experts_per_tok": 2,
        "vocab_size": 1000, "num_attention_heads": 8, "num_key_value_heads": 2, "swa_num_key_value_heads": 8,
        "hybrid_layer_pattern": [0, 1, 1, 0], "sliding_window_size": 128,
    }));
    let window = Span::Window { tokens: 128 };
    assert_eq!(spans(&model), [Span::Full, window, window, Span::Full]);
    let keys: Vec<u64> =
        model.tensors.iter().filter(|t| t.name.ends_with("k_proj.weight")).map(|t| t.shape[0]).collect();
    assert_eq!(keys, [2 * 192, 8 * 192]);
}

/// Bytes of a cache in 16-bit numbers after `positions`, as the reference implementation's dynamic cache keeps them:
/// sliding layers hold one position less than their window.
fn cache_bytes(model: &Model, positions: u64) -> Option<u64> {
    let mut total = 0;
    for layer in &model.layers {
        let Mixer::Attention(attention) = &layer.mixer else { return None };
        if attention.shares_cache_of.is_some() {
            continue;
        }
        let kept = match attention.span {
            Span::Full => positions,
            // The reference class counts MiMo's window without the current position.
            Span::Window { tokens } if model.model_type == "mimo_v2_flash" => positions.min(u64::from(tokens)),
            Span::Window { tokens } | Span::Chunk { tokens } => positions.min(u64::from(tokens).saturating_sub(1)),
            Span::Cross => 0,
            Span::Summary { .. } => return None,
        };
        total += 2
            * kept
            * match attention.kind {
                AttentionKind::Grouped { kv_heads, key_dim, value_dim, .. } => {
                    u64::from(kv_heads) * u64::from(key_dim + value_dim)
                }
                AttentionKind::Latent { rank, rope_dim, indexer, .. } => {
                    u64::from(rank + rope_dim) + indexer.map_or(0, |indexer| u64::from(indexer.dim))
                }
            };
    }
    Some(total)
}

#[test]
fn caches_hold_what_the_reference_implementation_holds() {
    let (Some(oracles), Some(models)) = (shared("data/oracle_kv"), shared("data/models")) else { return };
    let folder = std::fs::read_dir(oracles).unwrap();
    let (mut equal, mut wrong) = (0, Vec::new());
    for path in folder.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Some(config) = file(&models.join(&name).join("config.json")) else { continue };
        let Ok(model) = model::read(&name, &config, None) else { continue };
        let oracle = file(&path).unwrap();
        for (positions, state) in oracle["positions"].as_object().into_iter().flatten() {
            let ours = cache_bytes(&model, positions.parse().unwrap());
            match ours {
                Some(ours) if Some(ours) != state["total_bytes"].as_u64() => {
                    wrong.push(format!("{name} at {positions}: {ours} instead of {}", state["total_bytes"]));
                }
                Some(_) => equal += 1,
                None => {}
            }
        }
    }
    eprintln!("equal {equal}, different {}", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn file(path: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}
