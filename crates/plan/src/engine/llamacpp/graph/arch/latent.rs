//! How does multi-head latent attention run? Absorbed into one wide key head, or unfolded for old files.
//!
//! Follows src/models/deepseek2.cpp of llama.cpp 0c1e57098.

use super::decoder::Decoder;
use super::moe::{self, Mixture};
use crate::engine::llamacpp::graph::build::{Attn, Build, Extra, Gating, Norm, Qkv};
use crate::engine::llamacpp::graph::tensor::Id;

/// The inputs that every layer reads.
#[derive(Clone, Copy, Debug)]
struct Inputs {
    positions: Id,
    cache: Attn,
    temperature: Option<Id>,
    absorbed: bool,
}

/// deepseek2.cpp: `DeepSeek` V2, V3 and R1, Kimi K2 and others in that form.
pub fn deepseek2(b: &mut Build<'_>) {
    let absorbed = b.model.hparams.is_mla();
    let stream = b.inp_embd(true);
    let tuned = b.has_scale("attention.temperature_scale");
    let temperature = tuned.then(|| b.inp_attn_scale());
    let positions = b.inp_pos(1);
    let cache = if absorbed { b.inp_attn_keys() } else { b.inp_attn_single() };
    let out_ids = b.inp_out_ids();
    let inputs = Inputs { positions, cache, temperature, absorbed };
    let mixture = Mixture::all_of_file(b, default_gating(b));
    Decoder::default().run(
        b,
        stream,
        out_ids,
        |b, il, cur| attention(b, il, cur, &inputs),
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

/// Files without the key are soft maximum, except GLM 4.7 Flash's first conversions.
fn default_gating(b: &Build<'_>) -> Gating {
    if matches!(b.layers(), 47 | 48) && b.model.hparams.vocab == 154_880 { Gating::Sigmoid } else { Gating::Softmax }
}

fn attention(b: &mut Build<'_>, il: usize, cur: Id, inputs: &Inputs) -> Id {
    let hparams = b.model.hparams;
    let head = if inputs.absorbed { hparams.head_k_mla } else { hparams.head_k(il) };
    let q = if b.opt(il, "attn_q.weight").is_some() {
        b.linear(il, "attn_q", cur)
    } else {
        let low = b.linear(il, "attn_q_a", cur);
        let low = b.layer_norm(low, il, "attn_q_a_norm", Norm::Rms);
        b.linear(il, "attn_q_b", low)
    };
    let (heads, tokens) = (b.heads(il), b.batch.tokens);
    let q = b.g.reshape_3d(q, head, heads, tokens);
    let mut qkv = if inputs.absorbed {
        absorbed(b, il, cur, q, inputs.positions)
    } else {
        unfolded(b, il, cur, q, inputs.positions)
    };
    if let Some(scale) = inputs.temperature {
        qkv.q = b.g.mul(qkv.q, scale);
    }
    let v_mla = inputs.absorbed.then(|| b.w(il, "attn_v_b.weight"));
    let extra = Extra { v_mla, ..b.wo(il) };
    b.attn(&inputs.cache, qkv, extra, il)
}

/// The normed latent and the rotated part of the keys.
fn latent_and_rotated(b: &mut Build<'_>, il: usize, cur: Id, positions: Id) -> (Id, Id) {
    let (rank, rope, tokens) = (b.model.hparams.lora_kv, b.model.hparams.rot, b.batch.tokens);
    let both = b.linear(il, "attn_kv_a_mqa", cur);
    let row = rank.saturating_add(rope).saturating_mul(4);
    let latent = b.g.view_2d(both, [rank, tokens], row, 0);
    let rotated = b.g.view_3d(both, [rope, 1, tokens], [row, row], rank.saturating_mul(4));
    let rotated = b.g.rope(rotated, positions, None);
    (b.layer_norm(latent, il, "attn_kv_a_norm", Norm::Rms), rotated)
}

/// Queries, one key head and its value part in the latent space.
pub fn absorbed(b: &mut Build<'_>, il: usize, cur: Id, q: Id, positions: Id) -> Qkv {
    let (head, rope) = (b.model.hparams.head_k_mla, b.model.hparams.rot);
    let (heads, tokens) = (b.heads(il), b.batch.tokens);
    let (latent, k_rope) = latent_and_rotated(b, il, cur, positions);
    let nope = head.saturating_sub(rope);
    let row = head.saturating_mul(4);
    let strides = [row, row.saturating_mul(heads)];
    let q_nope = b.g.view_3d(q, [nope, heads, tokens], strides, 0);
    let q_rope = b.g.view_3d(q, [rope, heads, tokens], strides, nope.saturating_mul(4));
    let q_rope = b.g.rope(q_rope, positions, None);
    let q_nope = b.g.permute(q_nope, [0, 2, 1, 3]);
    let k_up = b.w(il, "attn_k_b.weight");
    let q_low = b.g.mul_mat(k_up, q_nope);
    let q_low = b.g.permute(q_low, [0, 2, 1, 3]);
    let q = b.g.concat(q_low, q_rope, 0);
    let rank = b.g.ne(latent)[0];
    let latent = b.g.reshape_3d(latent, rank, 1, tokens);
    let k = b.g.concat(latent, k_rope, 0);
    Qkv { q, k, v: latent }
}

/// Queries, keys and values of every head, out of the latent.
fn unfolded(b: &mut Build<'_>, il: usize, cur: Id, q: Id, positions: Id) -> Qkv {
    let [head, heads, tokens, _] = b.g.ne(q);
    let (value, rope) = (b.model.hparams.head_v(il), b.model.hparams.rot);
    let (latent, k_rope) = latent_and_rotated(b, il, cur, positions);
    let nope = head.saturating_sub(rope);
    let kv = b.linear(il, "attn_kv_b", latent);
    let row = nope.saturating_add(value).saturating_mul(4);
    let strides = [row, row.saturating_mul(heads)];
    let k_nope = b.g.view_3d(kv, [nope, heads, tokens], strides, 0);
    let v = b.g.view_3d(kv, [value, heads, tokens], strides, nope.saturating_mul(4));
    let v = b.g.cont(v);
    let q = b.g.rope(q, positions, None);
    let k_rope = b.g.repeat(k_rope, [rope, heads, tokens, 1]);
    let k = b.g.concat(k_nope, k_rope, 0);
    Qkv { q, k, v }
}
