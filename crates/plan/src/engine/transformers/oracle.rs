//! Are our bytes the reference implementation's own? Measured caches compared layer by layer, in two forms: whole
//! generations on small models, and one forward pass of real configurations at several lengths.

use plimsoll_facts::model::Model;
use plimsoll_facts::tensor::DType;
use serde_json::{Map, Value, json};

use super::cache::{self, Cache, Filled, KeyValue, LayerCache};
use super::quantised::{Backend, Quantised};

/// Compares one forward pass of a real configuration (`positions`: length → `total_bytes` and runs of layers).
///
/// # Errors
/// What of the oracle cannot be read.
pub fn differences(oracle: &Value, model: &Model) -> Result<Vec<String>, String> {
    let dtype = dtype(oracle)?;
    let positions = oracle.get("positions").and_then(Value::as_object).ok_or("no positions")?;
    let layers = cache::layers(model);
    let mut wrong = Vec::new();
    for (text, measured) in positions {
        let prompt: u64 = text.parse().map_err(|_| format!("`{text}` is no number of positions"))?;
        let filled = Filled { batch: 1, prompt, steps: 0 };
        let total = measured.get("total_bytes").and_then(Value::as_u64).ok_or("no total_bytes")?;
        let each: Vec<u64> = layers.iter().map(|layer| layer.bytes(&Cache::Dynamic, &filled, dtype)).collect();
        let sum: u64 = each.iter().sum();
        if sum != total {
            wrong.push(format!("{prompt} positions: {sum} bytes instead of {total}"));
        }
        wrong.extend(odd_layers(measured, &each).map(|why| format!("{prompt} positions: {why}")));
    }
    Ok(wrong)
}

/// The first layer whose bytes are others than measured.
fn odd_layers(measured: &Value, each: &[u64]) -> Option<String> {
    for run in measured.get("layers")?.as_array()? {
        let first = run.pointer("/layers/0").or_else(|| run.get("first"))?.as_u64()?;
        let last = match run.pointer("/layers/1") {
            Some(last) => last.as_u64()?,
            None => first + run.get("count")?.as_u64()?.saturating_sub(1),
        };
        let bytes = run.pointer("/desc/bytes")?.as_u64()?;
        for at in first..=last.min(first.saturating_add(10_000)) {
            let found = each.get(at as usize).copied();
            if found != Some(bytes) {
                let found = found.map_or("nothing".to_owned(), |found| format!("{found} bytes"));
                return Some(format!("layer {at} keeps {found} instead of {bytes}"));
            }
        }
    }
    None
}

/// Compares one generation on a small model.
///
/// # Errors
/// What of the row cannot be read, or a model that it does not describe.
pub fn generation(row: &Value) -> Result<Vec<String>, String> {
    let number = |key: &str| row.get(key).and_then(Value::as_u64).ok_or(format!("no {key}"));
    let (prompt, new) = (number("prompt_tokens")?, number("new_tokens")?);
    let filled = Filled { batch: number("batch")?, prompt, steps: new.saturating_sub(1) };
    let dtype = dtype(row)?;
    let cache = match row.get("cache_class").and_then(Value::as_str) {
        Some("DynamicCache") => Cache::Dynamic,
        Some("StaticCache") => Cache::Static { positions: (prompt + new).saturating_sub(1) },
        Some("QuantizedCache") => Cache::Quantised(quantised(row)?),
        other => return Err(format!("cache class {other:?}")),
    };
    let layers = layers_of(row)?;
    let each: Vec<u64> = layers.iter().map(|layer| layer.bytes(&cache, &filled, dtype)).collect();
    let (sum, measured) = (each.iter().sum::<u64>(), number("measured_bytes")?);
    let mut wrong = Vec::new();
    if sum != measured {
        wrong.push(format!("{sum} bytes instead of {measured}"));
    }
    wrong.extend(odd_layers(row, &each));
    Ok(wrong)
}

fn dtype(row: &Value) -> Result<DType, String> {
    let name = row.get("dtype").and_then(Value::as_str).ok_or("no dtype")?;
    DType::parse(name).ok_or_else(|| format!("dtype {name}"))
}

/// The backend and bits, which such rows say in their tag alone: `llama_quantized_hqq_int4`.
fn quantised(row: &Value) -> Result<Quantised, String> {
    let tag = row.get("tag").and_then(Value::as_str).unwrap_or_default();
    let backend =
        [Backend::Quanto, Backend::Hqq, Backend::Fp8].into_iter().find(|backend| tag.contains(backend.name()));
    let backend = backend.ok_or_else(|| format!("no backend in {tag}"))?;
    let bits = tag.rsplit_once("int").and_then(|(_, bits)| bits.parse().ok());
    Ok(Quantised { nbits: bits.unwrap_or(4), ..Quantised::new(backend) })
}

/// What the layers of the row's model keep. The rows list what they changed of a small model; the rest is completed here.
fn layers_of(row: &Value) -> Result<Vec<LayerCache>, String> {
    let empty = Map::new();
    let changed = row.get("config").and_then(Value::as_object).unwrap_or(&empty);
    let model_type = row.get("model_type").and_then(Value::as_str).ok_or("no model_type")?;
    if model_type == "falcon_h1" {
        return side_by_side(changed);
    }
    let mut config = small(model_type);
    config.extend(changed.iter().map(|(key, value)| (key.clone(), value.clone())));
    let model = plimsoll_facts::model::read(model_type, &Value::Object(config), None).map_err(|e| e.to_string())?;
    Ok(cache::layers(&model))
}

/// Falcon-H1: attention and Mamba 2 in every layer. Its inner width is the residual's in such rows.
fn side_by_side(config: &Map<String, Value>) -> Result<Vec<LayerCache>, String> {
    let number = |key: &str| config.get(key).and_then(Value::as_u64).ok_or(format!("no {key}"));
    let (inner, state, groups) = (number("hidden_size")?, number("mamba_d_state")?, 1);
    let heads = number("num_key_value_heads")? * number("head_dim")?;
    let layer = LayerCache {
        kv: Some(KeyValue { key: heads, value: heads, window: None }),
        convolution: (inner + 2 * groups * state) * number("mamba_d_conv")?,
        state: inner * state,
        ..LayerCache::default()
    };
    Ok(vec![layer; number("num_hidden_layers")? as usize])
}

/// A small configuration of a type, to be changed.
fn small(model_type: &str) -> Map<String, Value> {
    let mut config = json!({
        "model_type": model_type, "dtype": "bfloat16", "hidden_size": 128, "intermediate_size": 256, "vocab_size": 512,
        "num_hidden_layers": 4, "num_attention_heads": 8, "max_position_embeddings": 4096,
    });
    let more = match model_type {
        "gpt2" => json!({ "n_layer": 4, "n_head": 8, "n_embd": 128, "n_positions": 512 }),
        "falcon" => json!({ "multi_query": true, "new_decoder_architecture": false, "bias": false }),
        "jamba" => json!({ "attn_layer_period": 8, "attn_layer_offset": 4, "expert_layer_period": 2,
            "expert_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2, "mamba_dt_rank": 8 }),
        "nemotron_h" => json!({ "num_hidden_layers": 6, "hybrid_override_pattern": "M-M*-M", "expand": 2,
            "chunk_size": 16, "layer_norm_epsilon": 1e-5 }),
        "deepseek_v3" => json!({ "q_lora_rank": 32, "n_routed_experts": 4, "n_shared_experts": 1,
            "num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_group": 1,
            "topk_group": 1 }),
        "qwen3_next" => json!({ "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32, "decoder_sparse_step": 1, "mlp_only_layers": [] }),
        "gpt_oss" => json!({ "num_local_experts": 4, "num_experts_per_tok": 2 }),
        "gemma4_text" => json!({ "global_head_dim": 32, "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 512 }),
        "llama4_text" => json!({ "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 256,
            "no_rope_layers": [1, 1, 1, 0], "interleave_moe_layer_step": 1 }),
        _ => json!({}),
    };
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    match config {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
