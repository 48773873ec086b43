//! Which models keep a recurrent state, in all layers or in most?
//!
//! Each function names the file of llama.cpp 0c1e57098 that it follows, under src/models.

use super::decoder::{Decoder, Gather};
use super::delta::{self, Style};
use super::mamba;
use super::mixtures::{Attention, QkNorm, granite_positions, positions};
use super::moe::{self, Mixture};
use crate::engine::llamacpp::graph::build::{Act, Attn, Build, Extra, Gate, Heads, Norm, Qkv};
use crate::engine::llamacpp::graph::tensor::{Id, Unary};

/// mamba.cpp, which is also Mamba 2's.
pub fn mamba(b: &mut Build<'_>, second: bool) {
    let mut stream = b.inp_embd(true);
    let states = b.inp_rs();
    let out_ids = b.inp_out_ids();
    let layers = b.layers();
    for il in 0..layers {
        let normed = b.layer_norm(stream, il, "attn_norm", Norm::Rms);
        let mut cur = if second { mamba::mamba2(b, il, &states, normed) } else { mamba::mamba(b, il, &states, normed) };
        if il + 1 == layers {
            cur = b.g.get_rows(cur, out_ids);
            stream = b.g.get_rows(stream, out_ids);
        }
        stream = b.g.add(cur, stream);
    }
    Decoder::default().finish(b, stream, out_ids);
}

/// granite-hybrid.cpp: Mamba 2 layers where the file has no key heads.
pub fn granite(b: &mut Build<'_>) {
    let stream = b.inp_embd(true);
    let states = b.inp_rs();
    let input = b.inp_attn_single();
    let out_ids = b.inp_out_ids();
    let positions = granite_positions(b);
    let attention = Attention { norm: QkNorm::Heads, positions, input };
    let mixture = Mixture::softmax(true);
    let decoder = Decoder {
        residual_scale: b.has_scale("residual_scale"),
        logit_scale: b.has_scale("logit_scale"),
        ..Decoder::default()
    };
    decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            if b.model.hparams.is_recurrent(il) {
                mamba::mamba2(b, il, &states, cur)
            } else {
                attention.run(b, il, cur)
            }
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

/// qwen3next.cpp, qwen35.cpp, qwen35moe.cpp.
pub fn qwen_linear(b: &mut Build<'_>, style: Style) {
    let stream = b.inp_embd(true);
    let states = b.inp_rs();
    let input = b.inp_attn_single();
    let positions = positions(b);
    let out_ids = b.inp_out_ids();
    let decoder =
        Decoder { ffn_norm: "post_attention_norm", gather: Gather::AfterNorm, expand_norm: true, ..Decoder::default() };
    let mixture = Mixture::softmax(true);
    decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            if b.model.hparams.is_recurrent(il) {
                delta::layer(b, il, &states, cur, style)
            } else {
                gated_attention(b, il, cur, &input, positions, style)
            }
        },
        |b, il, cur| gated_mixture(b, il, cur, &mixture),
    );
}

/// Full attention whose query projection also holds an output gate.
fn gated_attention(b: &mut Build<'_>, il: usize, cur: Id, input: &Attn, positions: Id, style: Style) -> Id {
    let (size, heads, kv_heads, tokens) = (b.model.hparams.head_v(il), b.heads(il), b.heads_kv(il), b.batch.tokens);
    let wide = size.saturating_mul(2);
    let heads_of =
        Heads { dim_q: wide, count_q: heads, dim_k: size, count_k: kv_heads, dim_v: size, count_v: kv_heads };
    let Qkv { q: both, k, v } = b.qkv_rows(cur, il, heads_of);
    let row = wide.saturating_mul(4);
    let token = row.saturating_mul(heads);
    let half = size.saturating_mul(4);
    let (q, gate) = match style {
        Style::Joint => {
            let both = b.g.reshape(both, [wide, heads, tokens, 1]);
            let strides = [row, token, token.saturating_mul(tokens)];
            let shape = [size, heads, tokens, 1];
            (b.g.view_4d(both, shape, strides, 0), b.g.view_4d(both, shape, strides, half))
        }
        Style::Separate => {
            let shape = [size, heads, tokens];
            (b.g.view_3d(both, shape, [row, token], 0), b.g.view_3d(both, shape, [row, token], half))
        }
    };
    let k = b.g.reshape_3d(k, size, kv_heads, tokens);
    let v = b.g.reshape_3d(v, size, kv_heads, tokens);
    let q = b.layer_norm(q, il, "attn_q_norm", Norm::Rms);
    let k = b.layer_norm(k, il, "attn_k_norm", Norm::Rms);
    let q = b.g.rope(q, positions, None);
    let k = b.g.rope(k, positions, None);
    let cur = b.attn(input, Qkv { q, k, v }, Extra::default(), il);
    let gate = b.g.cont_as(gate, [size.saturating_mul(heads), tokens, 1, 1]);
    let gate = b.g.unary(gate, Unary::Sigmoid);
    let cur = b.g.mul(cur, gate);
    b.linear(il, "attn_output", cur)
}

/// A dense feed-forward, or a mixture with a shared expert behind a sigmoid.
fn gated_mixture(b: &mut Build<'_>, il: usize, cur: Id, mixture: &Mixture) -> Id {
    if b.opt(il, "ffn_gate_inp.weight").is_none() {
        return b.ffn(cur, il, Act::Silu, Gate::Parallel);
    }
    let routed = moe::routed(b, il, cur, mixture);
    if b.opt(il, "ffn_up_shexp.weight").is_none() {
        return routed;
    }
    let shared = moe::shared(b, il, cur);
    let gate = b.linear(il, "ffn_gate_inp_shexp", cur);
    let gate = b.g.unary(gate, Unary::Sigmoid);
    let shared = b.g.mul(shared, gate);
    b.g.add(routed, shared)
}
