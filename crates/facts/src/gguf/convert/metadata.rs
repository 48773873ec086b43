//! Which keys would the file have? The sizes that llama.cpp reads, from the model's layers.
//!
//! Source: llama.cpp 0c1e57098, `conversion/base.py` (`TextModel.set_gguf_parameters`) and `src/llama-arch.cpp`.

use std::collections::BTreeMap;

use crate::gguf::{Array, FileType, Kind, Value};
use crate::model::{Attention, AttentionKind, Ffn, Layer, Mixer, Model, Recurrent, Span};

/// Collects keys under the architecture's name.
struct Keys<'a> {
    architecture: &'a str,
    list: BTreeMap<String, Value>,
}

impl Keys<'_> {
    fn put(&mut self, suffix: &str, value: impl Into<u64>) {
        let value = u32::try_from(value.into()).unwrap_or(u32::MAX);
        self.list.insert(format!("{}.{suffix}", self.architecture), Value::U32(value));
    }

    /// One value when all layers agree, else one for each.
    fn put_each(&mut self, suffix: &str, values: &[u32]) {
        match values {
            [] => {}
            [first, rest @ ..] if rest.iter().all(|value| value == first) => self.put(suffix, *first),
            values => {
                let array = Array {
                    kind: Kind::U32,
                    length: values.len() as u64,
                    values: values.iter().copied().map(Value::U32).collect(),
                };
                self.list.insert(format!("{}.{suffix}", self.architecture), Value::Array(array));
            }
        }
    }
}

/// The width of a key head of the first layer that has one.
pub(super) fn head_dim(model: &Model) -> u64 {
    attentions(model).next().map_or(0, |attention| match &attention.kind {
        AttentionKind::Grouped { key_dim, .. } => u64::from(*key_dim),
        AttentionKind::Latent { rope_dim, .. } => u64::from(*rope_dim),
    })
}

/// The width of a key head of the first layer that sees everything.
pub(super) fn full_head_dim(model: &Model) -> u64 {
    let full = attentions(model).find(|attention| attention.span == Span::Full);
    full.map_or_else(
        || head_dim(model),
        |attention| match &attention.kind {
            AttentionKind::Grouped { key_dim, .. } => u64::from(*key_dim),
            AttentionKind::Latent { rope_dim, .. } => u64::from(*rope_dim),
        },
    )
}

/// The layers that attend.
fn attentions(model: &Model) -> impl Iterator<Item = &Attention> {
    model.layers.iter().filter_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => Some(attention),
        Mixer::Recurrent(_) | Mixer::None => None,
    })
}

/// The keys of a model's file.
pub(super) fn of(model: &Model, architecture: &str, file_type: FileType) -> BTreeMap<String, Value> {
    let mut keys = Keys { architecture, list: BTreeMap::new() };
    keys.list.insert("general.architecture".to_owned(), Value::Text(architecture.to_owned()));
    keys.list.insert("general.name".to_owned(), Value::Text(model.id.clone()));
    keys.list.insert("general.file_type".to_owned(), Value::U32(file_type.id()));
    keys.list.insert("general.quantization_version".to_owned(), Value::U32(2));
    keys.put("context_length", model.positions_limit.max(model.max_positions));
    keys.put("embedding_length", model.hidden);
    keys.put("block_count", model.layers.len() as u64);
    keys.put("vocab_size", model.vocabulary);
    attention(&mut keys, model);
    windows(&mut keys, model);
    let shared = attentions(model).filter(|attention| attention.shares_cache_of.is_some()).count();
    if shared > 0 {
        keys.put("attention.shared_kv_layers", shared as u64);
    }
    let width =
        |name: &str| model.tensors.iter().find(|t| t.name.ends_with(name)).and_then(|t| t.shape.first().copied());
    if let Some(width) = width("per_layer_input_gate.weight") {
        keys.put("embedding_length_per_layer_input", width);
    }
    if let Some(width) = width("layers.{i}.mixer.fc1_latent_proj.weight") {
        keys.put("moe_latent_size", width);
    }
    for layer in &model.layers {
        if let Mixer::Recurrent(mixer) = &layer.mixer {
            recurrent(&mut keys, model, mixer);
            break;
        }
    }
    feed_forward(&mut keys, model);
    keys.list
}

/// Heads and widths; layers without attention have no key/value heads.
fn attention(keys: &mut Keys<'_>, model: &Model) {
    let latent = attentions(model).any(|attention| matches!(attention.kind, AttentionKind::Latent { .. }));
    let absorbed = latent && keys.architecture != "minicpm3";
    let query = |layer: &Layer| match &layer.mixer {
        Mixer::Attention(Attention { kind, .. }) => match kind {
            AttentionKind::Grouped { heads, .. } | AttentionKind::Latent { heads, .. } => *heads,
        },
        Mixer::Recurrent(_) | Mixer::None => 0,
    };
    let kv = |layer: &Layer| match &layer.mixer {
        Mixer::Attention(Attention { kind: AttentionKind::Grouped { kv_heads, .. }, .. }) => *kv_heads,
        Mixer::Attention(Attention { kind: AttentionKind::Latent { heads, .. }, .. }) => {
            if absorbed {
                1
            } else {
                *heads
            }
        }
        Mixer::Recurrent(_) | Mixer::None => 0,
    };
    let most = model.layers.iter().map(query).max().unwrap_or(0);
    // Query heads are one number in every file but those whose attending layers differ among themselves.
    let attending: Vec<u32> = model.layers.iter().map(query).filter(|heads| *heads > 0).collect();
    if attending.iter().all(|heads| *heads == most) {
        keys.put("attention.head_count", most);
    } else {
        keys.put_each("attention.head_count", &model.layers.iter().map(query).collect::<Vec<_>>());
    }
    // Architectures that find their recurrent layers by an interval give one number of key/value heads as well.
    let by_interval = ["qwen3next", "qwen35", "qwen35moe"].contains(&keys.architecture);
    let counts: Vec<u32> = model.layers.iter().map(kv).filter(|heads| !by_interval || *heads > 0).collect();
    keys.put_each("attention.head_count_kv", &counts);
    let full = attentions(model).find(|attention| attention.span == Span::Full).or_else(|| attentions(model).next());
    match full.map(|attention| &attention.kind) {
        Some(AttentionKind::Grouped { key_dim, value_dim, .. }) => {
            keys.put("attention.key_length", *key_dim);
            keys.put("attention.value_length", *value_dim);
        }
        Some(AttentionKind::Latent { rank, rope_dim, nope_dim, value_dim, indexer, .. }) => {
            keys.put("attention.kv_lora_rank", *rank);
            keys.put("rope.dimension_count", *rope_dim);
            let (key, value) = (nope_dim.saturating_add(*rope_dim), *value_dim);
            if absorbed {
                keys.put("attention.key_length", rank.saturating_add(*rope_dim));
                keys.put("attention.value_length", *rank);
                keys.put("attention.key_length_mla", key);
                keys.put("attention.value_length_mla", value);
            } else {
                keys.put("attention.key_length", key);
                keys.put("attention.value_length", value);
            }
            if let Some(indexer) = indexer {
                keys.put("attention.indexer.head_count", indexer.heads);
                keys.put("attention.indexer.key_length", indexer.dim);
                keys.put("attention.indexer.top_k", indexer.top);
            }
            let rank = model.tensors.iter().find(|t| t.name.ends_with("q_a_proj.weight"));
            if let Some(rank) = rank.and_then(|tensor| tensor.shape.first()) {
                keys.put("attention.q_lora_rank", *rank);
            }
        }
        None => {}
    }
}

/// The window and, since defaults differ by architecture, which layers see it.
fn windows(keys: &mut Keys<'_>, model: &Model) {
    let width = attentions(model).find_map(|attention| match attention.span {
        Span::Window { tokens } | Span::Chunk { tokens } => Some((tokens, &attention.kind)),
        Span::Full | Span::Summary { .. } | Span::Cross => None,
    });
    let Some((tokens, kind)) = width else { return };
    keys.put("attention.sliding_window", tokens);
    if let AttentionKind::Grouped { key_dim, value_dim, .. } = kind {
        keys.put("attention.key_length_swa", *key_dim);
        keys.put("attention.value_length_swa", *value_dim);
    }
    let local = model.layers.iter().map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => matches!(attention.span, Span::Window { .. } | Span::Chunk { .. }),
        Mixer::Recurrent(_) | Mixer::None => false,
    });
    let values: Vec<Value> = local.map(Value::Bool).collect();
    let array = Array { kind: Kind::Bool, length: values.len() as u64, values };
    let key = format!("{}.attention.sliding_window_pattern", keys.architecture);
    keys.list.insert(key, Value::Array(array));
}

/// Sizes of the recurrent mixer.
fn recurrent(keys: &mut Keys<'_>, model: &Model, mixer: &Recurrent) {
    match mixer {
        Recurrent::Mamba1 { inner, state, kernel } => {
            keys.put("ssm.conv_kernel", *kernel);
            keys.put("ssm.inner_size", *inner);
            keys.put("ssm.state_size", *state);
            let rank = model.tensors.iter().find(|t| t.name.ends_with("dt_proj.weight"));
            if let Some(rank) = rank.and_then(|tensor| tensor.shape.last()) {
                keys.put("ssm.time_step_rank", *rank);
            }
        }
        Recurrent::Mamba2 { heads, head_dim, state, groups, kernel } => {
            keys.put("ssm.conv_kernel", *kernel);
            keys.put("ssm.inner_size", u64::from(*heads) * u64::from(*head_dim));
            keys.put("ssm.state_size", *state);
            keys.put("ssm.time_step_rank", *heads);
            keys.put("ssm.group_count", *groups);
        }
        Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, kernel } => {
            keys.put("ssm.conv_kernel", *kernel);
            keys.put("ssm.inner_size", u64::from(*value_heads) * u64::from(*value_dim));
            keys.put("ssm.state_size", *key_dim);
            keys.put("ssm.time_step_rank", *value_heads);
            keys.put("ssm.group_count", *key_heads);
            let attends = model.layers.iter().position(|layer| matches!(layer.mixer, Mixer::Attention(_)));
            keys.put("full_attention_interval", attends.map_or(0, |first| first as u64 + 1));
        }
        Recurrent::KimiDelta { key_dim, kernel, .. } => {
            keys.put("ssm.conv_kernel", *kernel);
            keys.put("kda.head_dim", *key_dim);
        }
        Recurrent::Lightning { .. } => {}
        Recurrent::ShortConv { kernel, .. } => keys.put("shortconv.l_cache", *kernel),
    }
}

/// Inner widths and experts.
fn feed_forward(keys: &mut Keys<'_>, model: &Model) {
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mut dense = Vec::new();
    let mut moe = None;
    for layer in &model.layers {
        match &layer.ffn {
            Ffn::Dense { inner, .. } => dense.push(narrow(*inner)),
            Ffn::Moe { dense_inner, .. } => {
                moe = moe.or(Some(&layer.ffn));
                dense.extend((*dense_inner > 0).then(|| narrow(*dense_inner)));
            }
            Ffn::None => dense.push(0),
        }
    }
    if let Some(Ffn::Moe { experts, active, inner, shared_inner, .. }) = moe {
        keys.put("expert_count", *experts);
        keys.put("expert_used_count", *active);
        keys.put("expert_feed_forward_length", *inner);
        if *shared_inner > 0 {
            keys.put("expert_shared_feed_forward_length", *shared_inner);
            keys.put("expert_shared_count", (shared_inner / (*inner).max(1)).max(1));
        }
        let lead = model.layers.iter().take_while(|layer| matches!(layer.ffn, Ffn::Dense { .. })).count();
        if lead > 0 {
            keys.put("leading_dense_block_count", lead as u64);
        }
        keys.put("feed_forward_length", dense.iter().copied().max().unwrap_or(narrow(*inner)));
        return;
    }
    keys.put_each("feed_forward_length", &dense);
}
