//! What does the PyTorch backend hold beside the checkpoint's weights before a step has run? Copies that it makes while
//! loading, padding that its kernels ask for, tables and workspaces.

use plimsoll_facts::model::{AttentionKind, Ffn, Mixer};
use plimsoll_facts::quant::{Scale, Scheme};
use plimsoll_facts::tensor::{Part, Role};
use plimsoll_units::{Bytes, Estimate, Source};

use super::launch::Launch;
use super::rules::Backend;
use super::weights::stage_layers;
use crate::{Entry, Formula, Item};

const GIB: f64 = 1_073_741_824.0;

/// What torch holds for a mixture of experts once graphs are warm, beside everything that is computed here: the median
/// of what is left of the "inside torch" line of eighteen logs of three models (1.2 and 1.3, B200 and B300, one
/// repository). What it is made of is not known; it ranges from 0.2 to 1.1 GiB and grows with the batch.
const EXPERTS_RESIDENT: (f64, f64, f64) = (0.2, 0.7, 1.1);

/// Whether the card is one of Blackwell's data-centre chips.
fn blackwell(launch: &Launch<'_>) -> bool {
    matches!(launch.card.compute_capability, Some((10, _)))
}

/// Whether the embedding is held whole on every rank: DeepSeek-V3's module and those derived from it build it without a
/// mapping (`_torch/models/modeling_deepseekv3.py`, `DeepseekV3Model`; `modeling_glm.py`), the others divide it.
pub fn whole_embedding(launch: &Launch<'_>) -> bool {
    launch.backend == Backend::PyTorch && deepseek(launch)
}

/// Whether the drafting layers use the model's own embedding and output projection, as DeepSeek's do
/// (`modeling_deepseekv3.py`, `DeepseekV3MTP`: both are handed in).
pub fn shares_vocabulary(launch: &Launch<'_>) -> bool {
    launch.backend == Backend::PyTorch && deepseek(launch)
}

fn deepseek(launch: &Launch<'_>) -> bool {
    let name = launch.model.architecture.as_str();
    ["DeepseekV3", "Glm4Moe", "GlmMoeDsa", "KimiK2"].iter().any(|family| name.starts_with(family))
}

/// Bytes beside the checkpoint's that loading leaves on a rank: the latent projections' absorbed forms and the rows and
/// columns that expert kernels want filled up.
pub fn copies(launch: &Launch<'_>, stage: u32) -> u64 {
    if launch.backend != Backend::PyTorch {
        return 0;
    }
    let range = stage_layers(launch.model.layers.len() as u32, launch.parallel.pp, stage);
    let layers = launch.model.layers.get(range.start as usize..range.end as usize).unwrap_or_default();
    let each = layers.iter().map(|layer| absorbed(launch, &layer.mixer).saturating_add(padding(launch, &layer.ffn)));
    let draft = if launch.options.max_draft_len > 0 && stage + 1 == launch.parallel.pp && drafts(launch) {
        layers.last().map_or(0, |layer| absorbed(launch, &layer.mixer))
    } else {
        0
    };
    each.fold(draft, u64::saturating_add)
}

fn drafts(launch: &Launch<'_>) -> bool {
    launch.model.tensors.iter().any(|tensor| tensor.part == Part::Draft)
}

/// The transposed key projection of a latent layer, in the projection's own type; where that is fp8 with block scales, on
/// Blackwell both halves once more in 16 bits (`_torch/modules/attention.py`, `MLA.create_weights`: `k_b_proj_trans`,
/// `k_b_proj_trans_dequant`, `v_b_proj_dequant`).
fn absorbed(launch: &Launch<'_>, mixer: &Mixer) -> u64 {
    let Mixer::Attention(attention) = mixer else { return 0 };
    let AttentionKind::Latent { heads, rank, nope_dim, value_dim, .. } = &attention.kind else { return 0 };
    let heads = u64::from(*heads).div_ceil(launch.attention_ranks());
    let keys = heads.saturating_mul(u64::from(*rank)).saturating_mul(u64::from(*nope_dim));
    let values = heads.saturating_mul(u64::from(*rank)).saturating_mul(u64::from(*value_dim));
    if !block_scaled(launch) {
        return launch.dtype.bytes_of(keys);
    }
    let plain = if blackwell(launch) { launch.dtype.bytes_of(keys.saturating_add(values)) } else { 0 };
    keys.saturating_add(plain)
}

/// Whether the latent's expanding projection is fp8 with block scales.
fn block_scaled(launch: &Launch<'_>) -> bool {
    launch.options.quantization.is_none()
        && launch.model.tensors.iter().any(|tensor| {
            let block = |scheme: &Scheme| matches!(scheme, Scheme::Fp8 { scale: Scale::Block { .. }, .. });
            tensor.role == Role::Attention
                && tensor.name.contains("kv_b_proj")
                && tensor.quantised.iter().any(|(_, scheme)| block(scheme))
        })
}

/// What 4-bit experts take more on Blackwell: inner widths are filled up to 128, the hidden width to 512 where it is read
/// and to 128 where it is written (`fused_moe/quantization.py`, `MXFP4WeightTRTLLMGenFusedMoEMethod`).
fn padding(launch: &Launch<'_>, ffn: &Ffn) -> u64 {
    let Ffn::Moe { experts, inner, .. } = ffn else { return 0 };
    let four_bit = launch.model.tensors.iter().any(|tensor| {
        tensor.role == Role::Experts && tensor.quantised.iter().any(|(_, scheme)| matches!(scheme, Scheme::Mxfp4))
    });
    if !four_bit || !blackwell(launch) || launch.options.quantization.is_some() {
        return 0;
    }
    let tp = u64::from(launch.parallel.tp);
    let ep = u64::from(launch.parallel.ep).clamp(1, tp.max(1));
    let inner = (*inner).div_ceil((tp / ep).max(1));
    let (hidden, filled) = (launch.model.hidden, inner.next_multiple_of(128));
    let read = hidden.next_multiple_of(512).saturating_mul(2 * filled);
    let written = hidden.next_multiple_of(128).saturating_mul(filled);
    let more = (read + written).saturating_sub(3 * inner * hidden);
    let numbers = u64::from(*experts).div_ceil(ep).saturating_mul(more);
    numbers / 2 + numbers / 32
}

/// Tables and workspaces that torch holds from the start: one rotary table in 32 bits for the model's longest sequence,
/// cuBLAS's workspace, DeepGEMM's, and what is known only by measurement of experts.
pub fn buffers(launch: &Launch<'_>) -> Option<Entry> {
    if launch.backend != Backend::PyTorch || launch.given.weights.is_some() {
        return None;
    }
    let rotary = rotary(launch) as f64;
    let cublas = if matches!(launch.card.compute_capability, Some((9 | 10, _))) { 33_554_432.0 } else { 8_519_680.0 };
    let deep = deep_gemm(launch);
    let experts = launch.model.layers.iter().any(|layer| matches!(layer.ffn, Ffn::Moe { .. }));
    let (low, middle, high) = if experts { EXPERTS_RESIDENT } else { (0.0, 0.0, 0.0) };
    let sum = rotary + cublas + deep;
    let (source, spread) = if experts {
        (Source::Measured("\"inside torch\" less weights: mixtures of experts, 1.2 and 1.3".into()), 0.0)
    } else {
        (Source::Derived("rotary table (_torch/attention_backend) and cuBLAS's workspace".into()), cublas)
    };
    let at = |gib: f64| Bytes::from_f64(sum + gib * GIB);
    Some(Entry {
        item: Item::RuntimeBuffers,
        size: Estimate::between(Bytes::from_f64(sum - spread + low * GIB), at(middle), at(high), source),
        note: Some("torch counts it with the weights".into()),
        formula: Formula {
            text: "rotary + cuBLAS + DeepGEMM + experts".into(),
            values: vec![("rotary", rotary), ("cuBLAS", cublas), ("DeepGEMM", deep), ("experts, GiB", middle)],
        },
    })
}

/// Cosines and sines of every position.
fn rotary(launch: &Launch<'_>) -> u64 {
    let widest = launch.model.layers.iter().filter_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => Some(match &attention.kind {
            AttentionKind::Grouped { key_dim, .. } => u64::from(*key_dim),
            AttentionKind::Latent { rope_dim, .. } => u64::from(*rope_dim),
        }),
        Mixer::Recurrent(_) | Mixer::None => None,
    });
    launch.model.max_positions.saturating_mul(4).saturating_mul(widest.max().unwrap_or(0))
}

/// DeepGEMM's workspace for experts: every expert of the rank gets room for all tokens, 8-bit inputs and 16-bit outputs
/// (`fused_moe/fused_moe_deepgemm.py`, `get_workspace`).
fn deep_gemm(launch: &Launch<'_>) -> f64 {
    if !launch.options.deep_gemm {
        return 0.0;
    }
    let each = launch.model.layers.iter().filter_map(|layer| match &layer.ffn {
        Ffn::Moe { experts, inner, .. } => {
            let tp = u64::from(launch.parallel.tp);
            let ep = u64::from(launch.parallel.ep).clamp(1, tp.max(1));
            let inner = (*inner).div_ceil((tp / ep).max(1)) as f64;
            let hidden = launch.model.hidden as f64;
            let tokens = launch.num_tokens.next_multiple_of(128) as f64;
            let here = u64::from(*experts).div_ceil(ep) as f64;
            Some(here * tokens * (hidden.max(inner) + 2.0 * hidden.max(2.0 * inner)))
        }
        Ffn::Dense { .. } | Ffn::None => None,
    });
    each.fold(0.0, f64::max)
}
