//! What does a rank hold of the model? Every line of the inventory, divided as TensorRT-LLM divides it and stored as it
//! stores it.

use std::collections::BTreeMap;
use std::ops::Range;

use plimsoll_facts::quant::{Scale, Scheme};
use plimsoll_facts::tensor::{DType, Part, Role, Split, Tensor};
use plimsoll_units::{Bytes, Estimate, Source};

use super::launch::Launch;
use super::options::Quantization;
use super::resident;
use super::rules::Backend;
use crate::{Entry, Formula, Item};

/// Returns the layers of a pipeline stage: contiguous, the first stages one longer when they do not divide.
pub fn stage_layers(layers: u32, pp: u32, stage: u32) -> Range<u32> {
    let (each, rest) = (layers / pp.max(1), layers % pp.max(1));
    let first = each * stage + stage.min(rest);
    first..first + each + u32::from(stage < rest)
}

/// Returns the weights of one rank, one entry per kind.
pub fn entries(launch: &Launch<'_>, stage: u32) -> Vec<Entry> {
    let model = launch.model;
    let (first, last) = (stage == 0, stage + 1 == launch.parallel.pp);
    let range = stage_layers(model.layers.len() as u32, launch.parallel.pp, stage);
    let mut sums: BTreeMap<Item, u64> = BTreeMap::new();
    for tensor in &model.tensors {
        let copies = copies(launch, tensor, &range, first, last);
        if copies == 0 {
            continue;
        }
        let bytes = stored(launch, tensor, &range).saturating_mul(copies);
        let sum = sums.entry(Item::of(tensor)).or_default();
        *sum = sum.saturating_add(bytes);
    }
    let extra = resident::copies(launch, stage);
    if extra > 0 {
        sums.insert(Item::WeightsExtra, extra);
    }
    if let Some(head) = tied_head(launch, first, last) {
        sums.insert(Item::WeightsLmHead, head);
    }
    if let Some(given) = launch.given.weights {
        // The given number is that of the scarcest rank; the split over kinds is kept in proportion.
        let total: u64 = sums.values().sum();
        for bytes in sums.values_mut() {
            *bytes = (given.as_f64() * *bytes as f64 / total.max(1) as f64) as u64;
        }
        let rest = given.get().saturating_sub(sums.values().sum());
        *sums.entry(Item::WeightsExtra).or_default() += rest;
    }
    let mut entries: Vec<Entry> = sums.into_iter().map(|(item, bytes)| entry(launch, item, bytes)).collect();
    if launch.backend == Backend::TensorRt && launch.given.weights.is_none() {
        entries.push(engine_overhead(launch, entries.iter().map(|e| e.size.bytes).sum()));
    }
    entries.sort_by_key(|entry| entry.item);
    entries
}

fn entry(launch: &Launch<'_>, item: Item, bytes: u64) -> Entry {
    let source = if launch.given.weights.is_some() {
        Source::Given
    } else {
        Source::Derived("tensor inventory divided over tensor and pipeline ranks (docs: tensorrt-llm weights)".into())
    };
    Entry {
        item,
        size: Estimate::exact(Bytes::new(bytes), source),
        note: None,
        formula: Formula {
            text: "sum over tensors of count × shape ÷ tp × stored bytes".into(),
            values: vec![("tp", f64::from(launch.parallel.tp)), ("pp", f64::from(launch.parallel.pp))],
        },
    }
}

/// An engine file is its weights and a little: +0.0 % at 16 bits (15 316 MiB of Llama-3-8B in 0.8), +0.3 % in the memory
/// guide's fp8 engine, +0.6 % in a 4-bit mixture of experts (1.2.1).
fn engine_overhead(launch: &Launch<'_>, weights: Bytes) -> Entry {
    let quantised =
        launch.options.quantization.is_some() || launch.model.tensors.iter().any(|t| !t.quantised.is_empty());
    let share = if quantised { 0.003 } else { 0.0 };
    let at = |share: f64| Bytes::from_f64(weights.as_f64() * share);
    Entry {
        item: Item::WeightsExtra,
        size: Estimate::between(
            Bytes::ZERO,
            at(share),
            at(2.0 * share),
            Source::Measured("\"Loaded engine size\" of three public logs, 0.8 to 1.2.1".into()),
        ),
        note: Some("plans and scales inside the engine file".into()),
        formula: Formula {
            text: "weights × overhead".into(),
            values: vec![("weights", weights.as_f64()), ("overhead", share)],
        },
    }
}

/// How many tensors of the line the stage holds.
fn copies(launch: &Launch<'_>, tensor: &Tensor, range: &Range<u32>, first: bool, last: bool) -> u64 {
    match (tensor.part, tensor.role) {
        (Part::Draft, Role::Embedding | Role::LmHead) if resident::shares_vocabulary(launch) => 0,
        (Part::Draft, _) => {
            if last && launch.options.max_draft_len > 0 {
                tensor.count
            } else {
                0
            }
        }
        (Part::Tower, _) => {
            if first {
                tensor.count
            } else {
                0
            }
        }
        (Part::Text, Role::LmHead) => {
            if last {
                tensor.count
            } else {
                0
            }
        }
        (Part::Text, Role::Embedding | Role::Positions) if tensor.layers.is_empty() => {
            if first {
                tensor.count
            } else {
                0
            }
        }
        (Part::Text, _) if tensor.layers.is_empty() => {
            if last {
                tensor.count
            } else {
                0
            }
        }
        (Part::Text, _) => tensor.layers.len_in(range).saturating_mul(tensor.count / tensor.layers.len().max(1)),
    }
}

/// The output projection of a tied model: TensorRT engines hold it beside the embedding (875 MiB for Qwen2.5-0.5B in
/// int8 is only reached with both), PyTorch shares it unless the two lie on different stages.
fn tied_head(launch: &Launch<'_>, first: bool, last: bool) -> Option<u64> {
    let model = launch.model;
    let beside = match launch.backend {
        Backend::TensorRt => last,
        Backend::PyTorch => last && !first,
    };
    if !model.tied || !beside || model.tensors.iter().any(|t| t.role == Role::LmHead) {
        return None;
    }
    let rows = model.vocabulary.div_ceil(vocabulary_ranks(launch));
    Some(launch.dtype.bytes_of(rows.saturating_mul(model.hidden)))
}

fn vocabulary_ranks(launch: &Launch<'_>) -> u64 {
    if launch.options.attention_dp { 1 } else { u64::from(launch.parallel.tp) }
}

/// Over how many ranks a tensor is divided: attention data parallelism leaves everything but the routed experts whole.
fn ranks(launch: &Launch<'_>, tensor: &Tensor) -> u64 {
    let tp = u64::from(launch.parallel.tp);
    match tensor.role {
        Role::Experts => tp,
        Role::Embedding if resident::whole_embedding(launch) => 1,
        Role::Embedding
        | Role::Positions
        | Role::LmHead
        | Role::Norm
        | Role::Attention
        | Role::Recurrent
        | Role::RecurrentState
        | Role::Mlp
        | Role::Router
        | Role::SharedExpert
        | Role::Tower
        | Role::Other => {
            if launch.options.attention_dp {
                1
            } else {
                tp
            }
        }
    }
}

/// The bytes of one tensor on a rank.
fn stored(launch: &Launch<'_>, tensor: &Tensor, range: &Range<u32>) -> u64 {
    let share = share(launch, tensor);
    let plain = tensor.dtype.unwrap_or(launch.dtype);
    let Some(matrix) = tensor.matrix else {
        return plain.bytes_of((tensor.elements() as f64 * share).ceil() as u64);
    };
    let numbers = matrix.copies.saturating_mul(matrix.outputs).saturating_mul(matrix.inputs);
    let of = |bytes: f64| (bytes * share).ceil() as u64;
    let asked =
        matches!(tensor.role, Role::Attention | Role::Mlp | Role::Experts | Role::SharedExpert | Role::Recurrent);
    if let (Some(quantization), true) = (launch.options.quantization, asked) {
        return of(asked_bytes(quantization, numbers, matrix.outputs * matrix.copies));
    }
    let full = plain.bytes_of(numbers) as f64;
    if tensor.layers.is_empty() {
        return match tensor.quantised.first() {
            Some((_, scheme)) => of(scheme_bytes(*scheme, matrix.copies, matrix.outputs, matrix.inputs, plain)),
            None => of(full),
        };
    }
    // A line may be quantised in some of its layers only: the mean over the layers that the stage holds. Drafting layers
    // come after those of every stage.
    let whole = 0..u32::MAX;
    let range = if tensor.part == Part::Draft { &whole } else { range };
    let held = tensor.layers.len_in(range).max(1);
    let mut sum = 0.0;
    let mut left = held;
    for (layers, scheme) in &tensor.quantised {
        let here = layers.len_in(range).min(left);
        left -= here;
        sum += here as f64 * scheme_bytes(*scheme, matrix.copies, matrix.outputs, matrix.inputs, plain);
    }
    of((sum + left as f64 * full) / held as f64)
}

/// The part of a tensor that a rank holds, above 1 ÷ ranks where key/value heads are repeated or rows padded.
fn share(launch: &Launch<'_>, tensor: &Tensor) -> f64 {
    let t = ranks(launch, tensor);
    if tensor.role == Role::Experts {
        return expert_share(launch, tensor, t);
    }
    let size = |dim: u8| tensor.shape.get(usize::from(dim)).copied().unwrap_or(1).max(1);
    let heads_on = |heads: u32| u64::from(heads).div_ceil(t).max(1);
    match tensor.split {
        Split::Whole => 1.0,
        Split::Even { dim } | Split::Vocabulary { dim } => size(dim).div_ceil(t) as f64 / size(dim) as f64,
        Split::KvHeads { heads, .. } => heads_on(heads) as f64 / f64::from(heads.max(1)),
        Split::Qkv { heads, kv_heads, .. } => {
            (heads_on(heads) + 2 * heads_on(kv_heads)) as f64 / f64::from(heads.saturating_add(2 * kv_heads).max(1))
        }
    }
}

/// Whole experts over `ep` ranks, what is left of `tp` along the inner width.
fn expert_share(launch: &Launch<'_>, tensor: &Tensor, tp: u64) -> f64 {
    let ep = u64::from(launch.parallel.ep).clamp(1, tp);
    let experts = tensor.shape.first().copied().unwrap_or(1).max(1);
    let inner_ranks = (tp / ep).max(1);
    let whole = if tensor.shape.len() >= 3 { experts.div_ceil(ep) as f64 / experts as f64 } else { 1.0 / ep as f64 };
    whole / inner_ranks as f64
}

/// Bytes of matrices that the engine is asked to quantise.
fn asked_bytes(quantization: Quantization, numbers: u64, outputs: u64) -> f64 {
    let n = numbers as f64;
    match quantization {
        Quantization::Fp8 => n + 4.0,
        Quantization::Int8 => n + 2.0 * outputs as f64,
        Quantization::Int4 => n / 2.0 + 2.0 * outputs as f64,
        Quantization::Int4Grouped { zeros } => n / 2.0 + n / 128.0 * if zeros { 4.0 } else { 2.0 },
        Quantization::Nvfp4 => n / 2.0 + n / 16.0,
        Quantization::Mxfp4 => n / 2.0 + n / 32.0,
    }
}

/// Bytes of a checkpoint's matrices as the engine holds them: packed numbers, scales and zero points; group indices and
/// other bookkeeping of the file are dropped at load.
fn scheme_bytes(scheme: Scheme, copies: u64, outputs: u64, inputs: u64, dtype: DType) -> f64 {
    let (c, o, i) = (copies as f64, outputs as f64, inputs as f64);
    let n = c * o * i;
    let scale = dtype.bits() as f64 / 8.0;
    let grouped = |bits: u32, group: Option<u64>, zeros: bool| {
        let groups = c * o * inputs.div_ceil(group.unwrap_or(inputs).max(1)) as f64;
        n * f64::from(bits) / 8.0 + groups * (scale + if zeros { scale } else { 0.0 })
    };
    match scheme {
        Scheme::Gptq { bits, group, symmetric, .. } => grouped(bits, group, !symmetric),
        Scheme::Awq { bits, group, zero_point } => grouped(bits, Some(group), zero_point),
        Scheme::Packed { bits, group, symmetric, .. } => grouped(bits, group, !symmetric),
        Scheme::Fp8 { scale, .. } | Scheme::Int8 { scale, .. } => {
            n + 4.0
                * match scale {
                    Scale::Tensor => c,
                    Scale::Channel => c * o,
                    Scale::Block { rows, columns } => {
                        c * outputs.div_ceil(rows.max(1)) as f64 * inputs.div_ceil(columns.max(1)) as f64
                    }
                }
        }
        Scheme::Bnb4 { block, .. } => n / 2.0 + n / block.max(1) as f64 * 4.0,
        Scheme::BnbInt8 => n + 4.0 * c * o,
        Scheme::Ggml(kind) => n * kind.bits_per_weight() / 8.0,
        Scheme::Mxfp4 => n / 2.0 + n / 32.0,
        Scheme::Nvfp4 { .. } => n / 2.0 + n / 16.0 + 8.0 * c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stages_are_one_longer() {
        let stages = |layers, pp| (0..pp).map(|stage| stage_layers(layers, pp, stage)).collect::<Vec<_>>();
        assert_eq!(stages(10, 4), [0..3, 3..6, 6..8, 8..10]);
        assert_eq!(stage_layers(32, 1, 0), 0..32);
    }
}
