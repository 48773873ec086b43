//! What shape does a tensor have in a GGUF file? Sides reversed, fused lines taken apart, single sides dropped.

use super::names::{Cut, Piece};
use crate::model::{AttentionKind, Ffn, Mixer, Model, Recurrent};
use crate::tensor::Tensor;

/// The sides of a piece, the row first; `None` when the model does not say how the line divides.
pub(super) fn of(
    model: &Model,
    architecture: &str,
    tensor: &Tensor,
    piece: &Piece,
    layer: Option<u32>,
) -> Option<Vec<u64>> {
    let here = layer.and_then(|layer| model.layers.get(layer as usize));
    let moe = || match here.map(|layer| &layer.ffn) {
        Some(Ffn::Moe { experts, inner, .. }) => Some((u64::from(*experts), *inner)),
        Some(Ffn::Dense { .. } | Ffn::None) | None => None,
    };
    let sides = &tensor.shape;
    Some(match piece.cut {
        Cut::Whole => whole(architecture, tensor, &piece.name),
        Cut::HalfOfExperts => {
            let (experts, inner) = moe()?;
            vec![model.hidden, inner, experts]
        }
        Cut::Experts => {
            let (experts, inner) = moe()?;
            vec![inner, model.hidden, experts]
        }
        // Biases of experts, or a fused matrix whose outputs are gate and up.
        Cut::HalfOfBias => match (sides.as_slice(), tensor.matrix) {
            ([experts, both], None) => vec![both / 2, *experts],
            ([both, inputs], Some(_)) => vec![*inputs, both / 2],
            _ => return None,
        },
        Cut::BiasOfExperts => vec![*sides.last()?, *sides.first()?],
        Cut::LatentKeys | Cut::LatentValues => match here.map(|layer| &layer.mixer) {
            Some(Mixer::Attention(attention)) => match &attention.kind {
                AttentionKind::Latent { heads, rank, nope_dim, value_dim, .. } => {
                    let [heads, rank] = [*heads, *rank].map(u64::from);
                    if piece.cut == Cut::LatentKeys {
                        vec![u64::from(*nope_dim), rank, heads]
                    } else {
                        vec![rank, u64::from(*value_dim), heads]
                    }
                }
                AttentionKind::Grouped { .. } => return None,
            },
            Some(Mixer::Recurrent(_) | Mixer::None) | None => return None,
        },
        Cut::Queries | Cut::KeysOrValues => match here.map(|layer| &layer.mixer) {
            Some(Mixer::Attention(attention)) => match &attention.kind {
                AttentionKind::Grouped { heads, kv_heads, key_dim, .. } => {
                    let heads = if piece.cut == Cut::Queries { heads } else { kv_heads };
                    vec![model.hidden, u64::from(*heads) * u64::from(*key_dim)]
                }
                AttentionKind::Latent { .. } => return None,
            },
            Some(Mixer::Recurrent(_) | Mixer::None) | None => return None,
        },
        Cut::DeltaQkv | Cut::DeltaGate => match here.map(|layer| &layer.mixer) {
            Some(Mixer::Recurrent(Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, .. })) => {
                let values = u64::from(*value_heads) * u64::from(*value_dim);
                let keys = u64::from(*key_heads) * u64::from(*key_dim);
                vec![model.hidden, if piece.cut == Cut::DeltaQkv { 2 * keys + values } else { values }]
            }
            Some(Mixer::Recurrent(_) | Mixer::Attention(_) | Mixer::None) | None => return None,
        },
    })
}

/// The sides of a line that becomes one tensor.
fn whole(architecture: &str, tensor: &Tensor, name: &str) -> Vec<u64> {
    let sides = &tensor.shape;
    let last = name.rsplit("{i}.").next().unwrap_or(name);
    // GPT-2's layers are stored inputs first; the converter turns them.
    let turned = architecture == "gpt2"
        && ["attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight"].contains(&last);
    match (last, sides.as_slice()) {
        // Convolutions: one channel per row.
        ("ssm_conv1d.weight" | "shortconv.conv.weight", [channels, 1, kernel]) => vec![*kernel, *channels],
        ("ffn_gate_inp_shexp.weight", [1, width]) => vec![*width],
        // Mamba 2 keeps one number per head, as a column.
        ("ssm_a" | "ssm_d", [heads]) if two(architecture) => vec![1, *heads],
        ("ssm_norm.weight", [width]) if two(architecture) => vec![*width, 1],
        (_, [outer, inner]) if turned => vec![*outer, *inner],
        (_, sides) => sides.iter().rev().copied().collect(),
    }
}

/// Whether the architecture's recurrent layers are Mamba 2.
fn two(architecture: &str) -> bool {
    ["granitehybrid", "nemotron_h", "nemotron_h_moe", "mamba2"].contains(&architecture)
}
