//! Decoders whose attention and dense block read the same input (src/models/{command-r,cohere2,phi2,falcon,gptneox,
//! stablelm,plamo}.cpp of llama.cpp 0c1e57098), and those that leave parts of layers out (deci.cpp).

use super::dense::heads_normed;
use crate::engine::llamacpp::graph::build::{Act, Build, Gate, Norm};
use crate::engine::llamacpp::graph::tensor::Id;
use crate::engine::llamacpp::hparams::Swa;

/// What the two branches of a layer read and how they are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sum {
    /// Dense + residual, + attention (Cohere).
    DenseResidualAttention,
    /// Attention + dense, + residual (Phi-2).
    AttentionDenseResidual,
    /// Dense + attention, + residual (Falcon, PLaMo).
    DenseAttentionResidual,
}

#[derive(Clone, Copy, Debug)]
struct Style {
    norm: Norm,
    windowed_rope: bool,
    scaled_queries: bool,
    second_norm: bool,
    act: Act,
    gate: Gate,
    sum: Sum,
}

/// The builder's style for an architecture.
fn style(arch: &str) -> Style {
    let cohere = Style {
        norm: Norm::Layer,
        windowed_rope: false,
        scaled_queries: false,
        second_norm: false,
        act: Act::Silu,
        gate: Gate::Parallel,
        sum: Sum::DenseResidualAttention,
    };
    match arch {
        "cohere2" => Style { windowed_rope: true, ..cohere },
        "phi2" => Style {
            scaled_queries: true,
            act: Act::Gelu,
            gate: Gate::Sequential,
            sum: Sum::AttentionDenseResidual,
            ..cohere
        },
        "falcon" => Style {
            second_norm: true,
            act: Act::Gelu,
            gate: Gate::Sequential,
            sum: Sum::DenseAttentionResidual,
            ..cohere
        },
        "plamo" => Style { norm: Norm::Rms, sum: Sum::DenseAttentionResidual, ..cohere },
        _command_r => cohere,
    }
}

/// Builds Command-R, Cohere 2, Phi-2, Falcon or PLaMo.
pub fn build(b: &mut Build<'_>) {
    let style = style(&b.model.hparams.arch);
    let mut inp = b.inp_embd(false);
    let pos = b.inp_pos(1);
    let attn = if b.model.hparams.swa == Swa::None { b.inp_attn_single() } else { b.inp_attn_windowed() };
    let out = b.inp_out_ids();
    let layers = b.layers();
    for il in 0..layers {
        let mut normed = b.layer_norm(inp, il, "attn_norm", style.norm);
        let second = style.second_norm && b.opt(il, "attn_norm_2.weight").is_some();
        let read = if second { b.layer_norm(inp, il, "attn_norm_2", style.norm) } else { normed };
        let heads = b.layer_heads(il);
        let qkv = b.qkv(read, il, heads);
        let mut qkv = heads_normed(b, qkv, il, style.norm);
        if !style.windowed_rope || b.model.hparams.is_swa(il) {
            let factors = b.rope_factors(il);
            qkv.q = b.rope(qkv.q, pos, factors);
            qkv.k = b.rope(qkv.k, pos, factors);
        }
        if style.scaled_queries {
            qkv.q = b.g.scale(qkv.q);
        }
        let wo = b.wo(il);
        let mut cur = b.attn(&attn, qkv, wo, il);
        if il + 1 == layers {
            [cur, inp, normed] = [cur, inp, normed].map(|id| b.g.get_rows(id, out));
        }
        let dense = b.ffn(normed, il, style.act, style.gate);
        inp = sum(b, style.sum, [cur, dense, inp]);
    }
    let cur = b.output_norm(inp, style.norm);
    let mut logits = b.head(cur);
    if b.has_scale("logit_scale") {
        logits = b.g.scale(logits);
    }
    b.finish(logits);
}

fn sum(b: &mut Build<'_>, sum: Sum, [attention, dense, residual]: [Id; 3]) -> Id {
    let [first, second, third] = match sum {
        Sum::DenseResidualAttention => [dense, residual, attention],
        Sum::AttentionDenseResidual => [attention, dense, residual],
        Sum::DenseAttentionResidual => [dense, attention, residual],
    };
    let both = b.g.add(first, second);
    b.g.add(both, third)
}

/// Builds GPT-NeoX, whose branches are parallel or one after the other as the file says.
pub fn gptneox(b: &mut Build<'_>) {
    let parallel = b.flag("use_parallel_residual");
    let mut inp = b.inp_embd(false);
    let pos = b.inp_pos(1);
    let attn = b.inp_attn_single();
    let out = b.inp_out_ids();
    let layers = b.layers();
    for il in 0..layers {
        let normed = b.layer_norm(inp, il, "attn_norm", Norm::Layer);
        let mut cur = attention(b, normed, pos, &attn, il);
        if il + 1 == layers {
            [cur, inp] = [cur, inp].map(|id| b.g.get_rows(id, out));
        }
        let read = if parallel { inp } else { b.g.add(cur, inp) };
        let normed = b.layer_norm(read, il, "ffn_norm", Norm::Layer);
        let dense = b.ffn(normed, il, Act::Gelu, Gate::Sequential);
        inp = b.g.add(dense, read);
        if parallel {
            inp = b.g.add(inp, cur);
        }
    }
    let cur = b.output_norm(inp, Norm::Layer);
    let logits = b.head(cur);
    b.finish(logits);
}

/// Queries, keys and values, rotated, through attention.
fn attention(
    b: &mut Build<'_>,
    normed: Id,
    pos: Id,
    attn: &crate::engine::llamacpp::graph::build::Attn,
    il: usize,
) -> Id {
    let heads = b.layer_heads(il);
    let qkv = b.qkv(normed, il, heads);
    let mut qkv = heads_normed(b, qkv, il, Norm::Layer);
    let factors = b.rope_factors(il);
    qkv.q = b.rope(qkv.q, pos, factors);
    qkv.k = b.rope(qkv.k, pos, factors);
    let wo = b.wo(il);
    b.attn(attn, qkv, wo, il)
}

/// Builds `StableLM`, whose dense block reads its own norm, or attention's where it has none.
pub fn stablelm(b: &mut Build<'_>) {
    let mut inp = b.inp_embd(false);
    let pos = b.inp_pos(1);
    let attn = b.inp_attn_single();
    let out = b.inp_out_ids();
    let layers = b.layers();
    for il in 0..layers {
        let mut normed = b.layer_norm(inp, il, "attn_norm", Norm::Layer);
        let mut cur = attention(b, normed, pos, &attn, il);
        if il + 1 == layers {
            [cur, inp, normed] = [cur, inp, normed].map(|id| b.g.get_rows(id, out));
        }
        let ffn_inp = b.g.add(cur, inp);
        let own = b.opt(il, "ffn_norm.weight").is_some();
        let read = if own { b.layer_norm(ffn_inp, il, "ffn_norm", Norm::Layer) } else { normed };
        let dense = b.ffn(read, il, Act::Silu, Gate::Parallel);
        inp = b.g.add(dense, ffn_inp);
    }
    let cur = b.output_norm(inp, Norm::Layer);
    let logits = b.head(cur);
    b.finish(logits);
}

/// Builds `DeciLM` and Nemotron models made from Llama by leaving out attention or dense blocks.
pub fn deci(b: &mut Build<'_>) {
    let mut inp = b.inp_embd(false);
    let pos = b.inp_pos(1);
    let attn = b.inp_attn_single();
    let out = b.inp_out_ids();
    let layers = b.layers();
    for il in 0..layers {
        let mut residual = inp;
        let (heads, heads_kv) = (b.heads(il), b.heads_kv(il));
        let mut cur = match (heads, heads_kv) {
            (0, _any) => inp,
            (_some, 0) => {
                let normed = b.layer_norm(inp, il, "attn_norm", Norm::Rms);
                let wo = b.w(il, "attn_output.weight");
                b.mm(wo, normed, None)
            }
            (_some, _more) => {
                let normed = b.layer_norm(inp, il, "attn_norm", Norm::Rms);
                attention(b, normed, pos, &attn, il)
            }
        };
        if il + 1 == layers {
            cur = b.g.get_rows(cur, out);
            residual = b.g.get_rows(residual, out);
        }
        if b.model.hparams.layers.get(il).is_none_or(|layer| layer.ff == 0) {
            continue;
        }
        let ffn_inp = if heads > 0 { b.g.add(cur, residual) } else { cur };
        let normed = b.layer_norm(ffn_inp, il, "ffn_norm", Norm::Rms);
        let dense = b.ffn(normed, il, Act::Silu, Gate::Parallel);
        inp = b.g.add(dense, ffn_inp);
    }
    let cur = b.output_norm(inp, Norm::Rms);
    let logits = b.head(cur);
    b.finish(logits);
}
