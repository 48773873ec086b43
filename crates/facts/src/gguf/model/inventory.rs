//! Which tensors are there, and what do they do? The file's list, equal tensors of many layers on one line.

use std::collections::BTreeMap;

use super::{Stack, block_name};
use crate::gguf::{GgmlType, Gguf, TensorInfo};
use crate::quant::Scheme;
use crate::tensor::{DType, Layers, Matrix, Part, Role, Split, Tensor};

/// Equal tensors: name, shape (outputs first), part, role.
type Key = (String, Vec<u64>, Part);

/// Lists the tensors in the order in which their lines first appear.
pub(super) fn lines(gguf: &Gguf, stack: &Stack<'_>) -> Vec<Tensor> {
    let mut order: Vec<Key> = Vec::new();
    let mut lines: BTreeMap<Key, BTreeMap<u64, &TensorInfo>> = BTreeMap::new();
    for (at, tensor) in gguf.tensors.iter().enumerate() {
        let (layer, name, part) = place(stack, &tensor.name);
        let shape = tensor.shape.iter().rev().copied().collect();
        let key = (name, shape, part);
        let line = lines.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            BTreeMap::new()
        });
        // Outside the stack every name is a line of its own, so that the place in the file tells it apart.
        line.insert(layer.unwrap_or(at as u64), tensor);
    }
    order.iter().filter_map(|key| lines.get(key).map(|found| line(stack, key, found))).collect()
}

/// The layer of a tensor, its name with the layer written `{i}`, and its part.
fn place(stack: &Stack<'_>, name: &str) -> (Option<u64>, String, Part) {
    match block_name(name) {
        Some((layer, rest)) => {
            let draft = layer >= stack.count as u64 || rest.starts_with("nextn.");
            (Some(layer), format!("blk.{{i}}.{rest}"), if draft { Part::Draft } else { Part::Text })
        }
        None => {
            let tower = ["v.", "a.", "mm.", "resampler."].iter().any(|prefix| name.starts_with(prefix));
            (None, name.to_owned(), if tower { Part::Tower } else { Part::Text })
        }
    }
}

/// One line of the inventory.
fn line(stack: &Stack<'_>, (name, shape, part): &Key, found: &BTreeMap<u64, &TensorInfo>) -> Tensor {
    let rest = name.strip_prefix("blk.{i}.");
    let layers = match rest {
        Some(_) => Layers::of(found.keys().map(|layer| u32::try_from(*layer).unwrap_or(u32::MAX))),
        None => Layers::none(),
    };
    let recurrent = rest.is_some() && found.keys().any(|layer| mixes_recurrently(stack, *layer));
    let role = match part {
        Part::Tower => Role::Tower,
        Part::Text | Part::Draft => rest.map_or_else(|| outside(name), |rest| inside(rest, recurrent)),
    };
    let mut kinds: BTreeMap<GgmlType, Vec<u32>> = BTreeMap::new();
    for (layer, tensor) in found {
        kinds.entry(tensor.kind).or_default().push(u32::try_from(*layer).unwrap_or(u32::MAX));
    }
    let single = kinds.keys().next().copied().filter(|_| kinds.len() == 1);
    let plain = single.and_then(plain);
    let quantised = match plain {
        Some(_) => Vec::new(),
        None => kinds
            .into_iter()
            .map(|(kind, at)| (if rest.is_some() { Layers::of(at) } else { Layers::none() }, Scheme::Ggml(kind)))
            .collect(),
    };
    Tensor {
        name: name.clone(),
        shape: shape.clone(),
        count: found.len() as u64,
        layers,
        part: *part,
        role,
        split: Split::Whole,
        matrix: matrix(shape, role),
        dtype: plain,
        quantised,
        parameter: is_parameter(stack, name),
    }
}

/// Whether a layer has a recurrent mixer, so that its `attn_qkv` and `attn_gate` are that mixer's projections.
fn mixes_recurrently(stack: &Stack<'_>, layer: u64) -> bool {
    let block = usize::try_from(layer).ok().and_then(|layer| stack.blocks.get(layer));
    block.is_some_and(|block| block.contains_key("ssm_conv1d.weight"))
}

/// The matrices in a shape: rows of the last side; the first of three counts experts or heads.
fn matrix(shape: &[u64], role: Role) -> Option<Matrix> {
    match (shape, role) {
        ([copies, outputs, inputs], _) => Some(Matrix { copies: *copies, outputs: *outputs, inputs: *inputs }),
        ([outputs, inputs], _) => Some(Matrix { copies: 1, outputs: *outputs, inputs: *inputs }),
        ([inputs], Role::Norm | Role::RecurrentState | Role::Other) => {
            Some(Matrix { copies: 1, outputs: 1, inputs: *inputs })
        }
        ([inputs], _) => Some(Matrix { copies: 1, outputs: 1, inputs: *inputs }),
        ([], _) => None,
        ([rest @ .., outputs, inputs], _) => {
            let copies = rest.iter().fold(1_u64, |product, side| product.saturating_mul(*side));
            Some(Matrix { copies, outputs: *outputs, inputs: *inputs })
        }
    }
}

/// The dtype of a type without blocks.
const fn plain(kind: GgmlType) -> Option<DType> {
    match kind {
        GgmlType::F32 => Some(DType::F32),
        GgmlType::F16 => Some(DType::F16),
        GgmlType::Bf16 => Some(DType::BF16),
        GgmlType::F64 => Some(DType::F64),
        GgmlType::I8 => Some(DType::I8),
        GgmlType::I16 => Some(DType::I16),
        GgmlType::I32 => Some(DType::I32),
        GgmlType::I64 => Some(DType::I64),
        GgmlType::Q4_0 | GgmlType::Q4_1 | GgmlType::Q5_0 | GgmlType::Q5_1 | GgmlType::Q8_0 | GgmlType::Q8_1 => None,
        GgmlType::Q2K | GgmlType::Q3K | GgmlType::Q4K | GgmlType::Q5K | GgmlType::Q6K | GgmlType::Q8K => None,
        GgmlType::Iq1S | GgmlType::Iq1M | GgmlType::Iq2Xxs | GgmlType::Iq2Xs | GgmlType::Iq2S => None,
        GgmlType::Iq3Xxs | GgmlType::Iq3S | GgmlType::Iq4Nl | GgmlType::Iq4Xs => None,
        GgmlType::Tq1_0 | GgmlType::Tq2_0 | GgmlType::Mxfp4 | GgmlType::Nvfp4 | GgmlType::Q1_0 | GgmlType::Q2_0 => None,
    }
}

/// Whether the reference implementation has it among its parameters: not the rotary tables, not the routers' correction,
/// which is a buffer there, not the scales that a quantiser added, and not a projection that the file has twice (whole, and taken apart for absorbed latent attention).
fn is_parameter(stack: &Stack<'_>, name: &str) -> bool {
    let table = ["rope_freqs", "rope_factors_long", "rope_factors_short"].iter().any(|table| name.contains(table));
    let buffer = name.contains("exp_probs_b");
    // Gemma 4's router has scales of its own.
    let scale = stack.architecture != "gemma4" && (name.ends_with(".scale") || name.ends_with(".input_scale"));
    let twice = name == "blk.{i}.attn_kv_b.weight"
        && stack.blocks.iter().any(|b| b.contains_key("attn_k_b.weight") && b.contains_key("attn_kv_b.weight"));
    !(table || buffer || scale || twice)
}

/// What a tensor outside the stack does.
fn outside(name: &str) -> Role {
    match name {
        "output.weight" | "output.bias" => Role::LmHead,
        "token_embd.weight" | "per_layer_token_embd.weight" | "token_types.weight" => Role::Embedding,
        "position_embd.weight" => Role::Positions,
        _ if name.contains("norm") => Role::Norm,
        _ => Role::Other,
    }
}

/// What a tensor of a layer does.
fn inside(name: &str, recurrent: bool) -> Role {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if name.contains("norm") {
        return Role::Norm;
    }
    if name.ends_with(".scale") {
        return Role::Router;
    }
    if starts(&["ssm_a", "ssm_d", "ssm_conv1d", "ssm_dt", "shortconv.conv"]) && !is_projection(name) {
        return Role::RecurrentState;
    }
    if starts(&["ssm_", "shortconv.", "time_mix"]) {
        return Role::Recurrent;
    }
    if starts(&["attn_", "indexer", "cross_attn", "compressor"]) {
        return if recurrent { Role::Recurrent } else { Role::Attention };
    }
    if name.contains("shexp") {
        return Role::SharedExpert;
    }
    if starts(&["ffn_gate_inp", "exp_probs_b", "ffn_gate_tid2eid", "ffn_exp_probs_b"]) {
        return Role::Router;
    }
    if name.contains("_exps") || name.contains("_chexps") {
        return Role::Experts;
    }
    if starts(&["ffn_", "channel_mix"]) {
        return Role::Mlp;
    }
    Role::Other
}

/// `ssm_alpha.weight` and `ssm_dt.weight` are projections, not states.
fn is_projection(name: &str) -> bool {
    ["ssm_alpha.weight", "ssm_dt.weight"].contains(&name)
}
