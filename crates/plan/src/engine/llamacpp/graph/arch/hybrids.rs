//! Which models keep a recurrent state, in all layers or in most?
//!
//! Each function names the file of llama.cpp 0c1e57098 that it follows, under src/models.

use super::decoder::{Decoder, Gather};
use super::delta::{self, Style};
use super::mamba;
use super::mixtures::{Attention, QkNorm, granite_positions, positions};
use super::moe::{self, Mixture};
use crate::engine::llamacpp::graph::build::{Act, Attn, Build, Extra, Ffn, Gate, Gating, Heads, Norm, Qkv, States};
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

/// jamba.cpp: Mamba layers where the file has no key heads; attention without positions; the stream first in additions.
pub fn jamba(b: &mut Build<'_>) {
    let stream = b.inp_embd(true);
    let states = b.inp_rs();
    let input = b.inp_attn_single();
    let out_ids = b.inp_out_ids();
    let attention = Attention { norm: QkNorm::Heads, positions: None, input };
    let mixture = Mixture::softmax(false);
    Decoder { stream_first: true, ..Decoder::default() }.run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            if b.model.hparams.is_recurrent(il) { mamba::mamba(b, il, &states, cur) } else { attention.run(b, il, cur) }
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

/// falcon-h1.cpp: attention and Mamba 2 side by side in every layer.
pub fn falcon(b: &mut Build<'_>) {
    let mut stream = b.inp_embd(true);
    let positions = Some(b.inp_pos(1));
    let states = b.inp_rs();
    let input = b.inp_attn_single();
    let out_ids = b.inp_out_ids();
    let attention = Attention { norm: QkNorm::Heads, positions, input };
    let layers = b.layers();
    for il in 0..layers {
        let normed = b.layer_norm(stream, il, "attn_norm", Norm::Rms);
        let attended = attention.run(b, il, normed);
        let normed = b.layer_norm(stream, il, "attn_norm", Norm::Rms);
        let scanned = mamba::mamba2(b, il, &states, normed);
        let both = b.g.add(attended, scanned);
        let mut middle = b.g.add(both, stream);
        if il + 1 == layers {
            middle = b.g.get_rows(middle, out_ids);
        }
        // The file has it without the usual ending.
        let weight = b.opt(il, "ffn_norm").unwrap_or_else(|| b.w(il, "ffn_norm.weight"));
        let normed = b.norm(middle, Some(weight), None, Norm::Rms, Some(il));
        let cur = b.ffn(normed, il, Act::Silu, Gate::Parallel);
        stream = b.g.add(cur, middle);
    }
    Decoder::default().finish(b, stream, out_ids);
}

/// nemotron-h.cpp, nemotron-h-moe.cpp: one branch per layer, of Mamba 2, attention without positions, or feed-forward.
pub fn nemotron(b: &mut Build<'_>) {
    let mut stream = b.inp_embd(true);
    let states = b.inp_rs();
    let input = b.inp_attn_single();
    let out_ids = b.inp_out_ids();
    let attention = Attention { norm: QkNorm::Heads, positions: None, input };
    for il in 0..b.layers() {
        let normed = b.layer_norm(stream, il, "attn_norm", Norm::Rms);
        let layer = b.model.hparams.layers.get(il).copied().unwrap_or_default();
        let cur = if layer.recurrent {
            mamba::mamba2(b, il, &states, normed)
        } else if layer.ff == 0 {
            attention.run(b, il, normed)
        } else {
            nemotron_feed(b, il, normed)
        };
        stream = b.g.add(cur, stream);
    }
    Decoder { gather: Gather::AfterNorm, ..Decoder::default() }.finish(b, stream, out_ids);
}

/// Squared ReLU without a gate; the experts may run in a narrower space.
fn nemotron_feed(b: &mut Build<'_>, il: usize, cur: Id) -> Id {
    if b.opt(il, "ffn_gate_inp.weight").is_none() {
        return b.ffn(cur, il, Act::ReluSqr, Gate::Parallel);
    }
    let narrow = b.opt(il, "ffn_latent_down.weight").map_or(cur, |weight| b.g.mul_mat(weight, cur));
    let scores = Some(b.linear(il, "ffn_gate_inp", cur));
    let normalise = b.flag("expert_weights_norm");
    let mixture = Mixture { act: Act::ReluSqr, scores, ..Mixture::new(Gating::Sigmoid, normalise) };
    let routed = moe::routed(b, il, narrow, &mixture);
    let routed = b.opt(il, "ffn_latent_up.weight").map_or(routed, |weight| b.g.mul_mat(weight, routed));
    let shared = b.ffn_of(cur, il, Ffn::SHARED, Act::ReluSqr, Gate::Parallel);
    b.g.add(routed, shared)
}

/// lfm2.cpp, lfm2moe.cpp: short convolutions where the file has no key heads.
pub fn lfm2(b: &mut Build<'_>) {
    let stream = b.inp_embd(true);
    let states = b.inp_rs();
    let input = if b.model.hparams.window > 0 { b.inp_attn_windowed() } else { b.inp_attn_single() };
    let positions = Some(b.inp_pos(1));
    let out_ids = b.inp_out_ids();
    let attention = Attention { norm: QkNorm::Heads, positions, input };
    let mixture = Mixture::of_file(b, Gating::Sigmoid, true);
    Decoder { stream_first: true, ..Decoder::default() }.run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            if b.model.hparams.is_recurrent(il) {
                short_convolution(b, il, &states, cur)
            } else {
                attention.run(b, il, cur)
            }
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

fn short_convolution(b: &mut Build<'_>, il: usize, states: &States, cur: Id) -> Id {
    let (seqs, tokens) = (b.batch.seqs, mamba::seq_tokens(b));
    let width = b.g.ne(cur)[0];
    let back = b.model.hparams.shortconv.saturating_sub(1);
    let cur = b.g.reshape_3d(cur, width, tokens, seqs);
    let all = b.linear(il, "shortconv.in_proj", cur);
    let (chunk, nb) = (b.g.ne(all)[0] / 3, b.g.nb(all));
    let [gate_in, gate_out, x] = [0, 1, 2].map(|part: u64| {
        let offset = part.saturating_mul(chunk).saturating_mul(4);
        b.g.view_3d(all, [chunk, tokens, seqs], [nb[1], nb[2]], offset)
    });
    let product = b.g.mul(gate_in, x);
    let columns = b.g.transpose(product);
    let cache = b.state(il, true);
    let row = back.saturating_mul(width);
    let state = mamba::load(b, states, cache, row);
    let state = b.g.reshape_3d(state, back, width, seqs);
    let joined = b.g.concat(state, columns, 0);
    let (ne, nb) = (b.g.ne(joined), b.g.nb(joined));
    for number in 0..tokens.min(mamba::snapshots(b)) {
        let start = ne[0].saturating_sub(back).saturating_sub(number).saturating_mul(4);
        let last = b.g.view_3d(joined, [back, ne[1], ne[2]], [nb[1], nb[2]], start);
        let offset = mamba::slot(b, number, row);
        let cache_nb = b.g.nb(cache)[1];
        let place = b.g.view_2d(cache, [row, seqs], cache_nb, offset);
        let stored = b.g.cpy(last, place);
        b.g.expand(stored);
    }
    let kernel = b.w(il, "shortconv.conv.weight");
    let conv = mamba::ssm_conv(b, joined, kernel);
    let gated = b.g.mul(gate_out, conv);
    let out = b.linear(il, "shortconv.out_proj", gated);
    let width = b.g.ne(out)[0];
    b.g.reshape_2d(out, width, tokens.saturating_mul(seqs))
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
