//! What does each layer do? Its mixer and its feed-forward block, by metadata and by the tensors that are there.

use super::{Block, Stack, architecture};
use crate::Error;
use crate::model::{Attention, AttentionKind, Ffn, Indexer, Layer, Mixer, Recurrent, Span};

/// Heads and widths of the whole stack.
struct Heads {
    query: Vec<u64>,
    kv: Vec<u64>,
    key: u64,
    value: u64,
    key_window: u64,
    value_window: u64,
}

/// Reads every layer.
pub(super) fn read(stack: &Stack<'_>) -> Result<Vec<Layer>, Error> {
    let spans = architecture::windows(stack.gguf, stack.count)?;
    let heads = Heads::read(stack)?;
    let owners = owners(stack, &spans)?;
    let active = stack.gguf.per_layer("expert_used_count", stack.count)?;
    let mut layers = Vec::with_capacity(stack.count);
    for (at, block) in stack.blocks.iter().take(stack.count).enumerate() {
        let active = active.as_ref().and_then(|active| active.get(at)).copied().unwrap_or(0);
        layers.push(Layer { mixer: mixer(stack, &heads, at, spans[at], owners[at])?, ffn: ffn(stack, block, active)? });
    }
    Ok(layers)
}

/// A number that must fit the model's types.
fn narrow(stack: &Stack<'_>, suffix: &str, value: u64) -> Result<u32, Error> {
    u32::try_from(value).ok().filter(|value| *value <= 1 << 30).ok_or_else(|| {
        let place = format!("{}, key `{}.{suffix}`", stack.gguf.name(), stack.architecture);
        super::malformed(place, format!("it is {value}, expected up to 2^30"))
    })
}

impl Heads {
    /// llama.cpp 0c1e57098, `src/llama-model.cpp` (`load_hparams`): key/value heads default to the query heads, widths to
    /// the hidden width over the first layer's heads.
    fn read(stack: &Stack<'_>) -> Result<Self, Error> {
        let gguf = stack.gguf;
        let query = gguf.per_layer("attention.head_count", stack.count)?.unwrap_or_else(|| vec![0; stack.count]);
        let kv = gguf.per_layer("attention.head_count_kv", stack.count)?.unwrap_or_else(|| query.clone());
        let first = query.iter().copied().find(|heads| *heads > 0);
        let default = first.map_or(0, |heads| stack.hidden / heads);
        let key = gguf.uint("attention.key_length")?.unwrap_or(default);
        let value = gguf.uint("attention.value_length")?.unwrap_or(default);
        Ok(Heads {
            query,
            kv,
            key,
            value,
            key_window: gguf.uint("attention.key_length_swa")?.unwrap_or(key),
            value_window: gguf.uint("attention.value_length_swa")?.unwrap_or(value),
        })
    }
}

/// The layer whose cache each layer reads, where it keeps none.
///
/// Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`create_memory`: the last owner, or for windows the one before it)
/// and `src/models/gemma3n.cpp` (20 owners whatever the file says).
fn owners(stack: &Stack<'_>, spans: &[Span]) -> Result<Vec<Option<u32>>, Error> {
    let count = stack.count as u64;
    let own = match stack.architecture {
        "gemma3n" => count.min(20),
        "gemma4" => count.saturating_sub(stack.gguf.uint("attention.shared_kv_layers")?.unwrap_or(0)),
        _ => count,
    };
    let owner = |layer: usize| {
        let back = if spans[layer] == Span::Full { 1 } else { 2 };
        u32::try_from(own.saturating_sub(back)).unwrap_or(u32::MAX)
    };
    Ok((0..stack.count).map(|layer| (layer as u64 >= own).then(|| owner(layer))).collect())
}

/// Reads what mixes positions in layer `at`.
fn mixer(stack: &Stack<'_>, heads: &Heads, at: usize, span: Span, owner: Option<u32>) -> Result<Mixer, Error> {
    let block = &stack.blocks[at];
    if let Some(recurrent) = recurrent(stack, block, heads.query[at])? {
        return Ok(Mixer::Recurrent(recurrent));
    }
    let attends = block.keys().any(|name| name.starts_with("attn_k") || name.starts_with("attn_q"));
    if !attends || heads.query[at] == 0 {
        return Ok(Mixer::None);
    }
    let gguf = stack.gguf;
    let head_count = narrow(stack, "attention.head_count", heads.query[at])?;
    let (key, value) = match span {
        Span::Window { .. } | Span::Chunk { .. } => (heads.key_window, heads.value_window),
        Span::Full | Span::Summary { .. } | Span::Cross => (heads.key, heads.value),
    };
    let absorbed = gguf.uint("attention.key_length_mla")?.zip(gguf.uint("attention.value_length_mla")?);
    let rank = gguf.uint("attention.kv_lora_rank")?;
    let kind = match (absorbed, rank) {
        (Some((full, value)), Some(rank)) => {
            let rope = gguf.uint("rope.dimension_count")?.unwrap_or(heads.key.saturating_sub(rank));
            AttentionKind::Latent {
                heads: head_count,
                rank: narrow(stack, "attention.kv_lora_rank", rank)?,
                rope_dim: narrow(stack, "rope.dimension_count", rope)?,
                nope_dim: narrow(stack, "attention.key_length_mla", full.saturating_sub(rope))?,
                value_dim: narrow(stack, "attention.value_length_mla", value)?,
                indexer: indexer(stack, block)?,
                compress: 1,
            }
        }
        (None, _) | (Some(_), None) => AttentionKind::Grouped {
            heads: head_count,
            kv_heads: narrow(stack, "attention.head_count_kv", heads.kv[at])?,
            key_dim: narrow(stack, "attention.key_length", key)?,
            value_dim: narrow(stack, "attention.value_length", value)?,
        },
    };
    Ok(Mixer::Attention(Attention { kind, span, shares_cache_of: owner }))
}

/// The sparse indexer of a layer that has one.
fn indexer(stack: &Stack<'_>, block: &Block<'_>) -> Result<Option<Indexer>, Error> {
    if !block.keys().any(|name| name.starts_with("indexer.")) {
        return Ok(None);
    }
    let read = |suffix: &str| match stack.gguf.uint(suffix)? {
        Some(value) => narrow(stack, suffix, value).map(Some),
        None => Ok(None),
    };
    let heads = read("attention.indexer.head_count")?;
    let dim = read("attention.indexer.key_length")?;
    let top = read("attention.indexer.top_k")?;
    Ok(heads.zip(dim).map(|(heads, dim)| Indexer { heads, dim, top: top.unwrap_or(0) }))
}

/// A layer's recurrent mixer, by its tensors.
fn recurrent(stack: &Stack<'_>, block: &Block<'_>, heads: u64) -> Result<Option<Recurrent>, Error> {
    let gguf = stack.gguf;
    if block.contains_key("shortconv.conv.weight") {
        let kernel = narrow(stack, "shortconv.l_cache", gguf.needed_uint("shortconv.l_cache")?)?;
        return Ok(Some(Recurrent::ShortConv { width: narrow(stack, "embedding_length", stack.hidden)?, kernel }));
    }
    let need = |suffix: &str| gguf.needed_uint(suffix).and_then(|value| narrow(stack, suffix, value));
    let delta = block.contains_key("ssm_conv1d_q.weight") || block.contains_key("ssm_f_a.weight");
    if delta {
        let dim = need("kda.head_dim")?;
        let heads = narrow(stack, "attention.head_count", heads)?;
        let kernel = need("ssm.conv_kernel")?;
        return Ok(Some(Recurrent::KimiDelta { heads, key_dim: dim, value_dim: dim, kernel }));
    }
    if !block.contains_key("ssm_conv1d.weight") {
        return Ok(None);
    }
    let (kernel, inner) = (need("ssm.conv_kernel")?, need("ssm.inner_size")?);
    let state = need("ssm.state_size")?;
    if block.contains_key("ssm_x.weight") && stack.architecture != "plamo2" {
        return Ok(Some(Recurrent::Mamba1 { inner, state, kernel }));
    }
    let rank = need("ssm.time_step_rank")?;
    let wide = inner.checked_div(rank).unwrap_or(0);
    let groups = gguf.uint("ssm.group_count")?.unwrap_or(0);
    let groups = narrow(stack, "ssm.group_count", groups)?;
    let gated = ["ssm_ba.weight", "ssm_beta.weight", "ssm_alpha.weight"].iter().any(|name| block.contains_key(name));
    Ok(Some(if gated {
        Recurrent::GatedDelta { key_heads: groups, value_heads: rank, key_dim: state, value_dim: wide, kernel }
    } else {
        Recurrent::Mamba2 { heads: rank, head_dim: wide, state, groups, kernel }
    }))
}

/// Reads what transforms each position, by the tensors' shapes.
fn ffn(stack: &Stack<'_>, block: &Block<'_>, active: u64) -> Result<Ffn, Error> {
    let side = |name: &str, dimension: usize| block.get(name).and_then(|tensor| tensor.shape.get(dimension)).copied();
    // The down-projection's row is the inner width, whether gate and up are apart or one matrix.
    let dense = side("ffn_down.weight", 0);
    let fused = |down: u64| side("ffn_up.weight", 1).is_some_and(|up| up == down.saturating_mul(2));
    let Some(inner) = side("ffn_down_exps.weight", 0) else {
        return Ok(match dense {
            Some(inner) => Ffn::Dense { inner, gated: block.contains_key("ffn_gate.weight") || fused(inner) },
            None => Ffn::None,
        });
    };
    let experts = side("ffn_down_exps.weight", 2).unwrap_or(1);
    Ok(Ffn::Moe {
        experts: narrow(stack, "expert_count", experts)?,
        active: narrow(stack, "expert_used_count", active)?,
        inner,
        shared_inner: side("ffn_down_shexp.weight", 0).unwrap_or(0),
        gated: ["ffn_gate_exps.weight", "ffn_gate_up_exps.weight"].iter().any(|name| block.contains_key(name)),
        dense_inner: dense.unwrap_or(0),
    })
}
