//! How does a gated-delta-net layer run? A short convolution and a delta rule over a matrix state per head, as one
//! fused operation.
//!
//! Follows `llm_build_delta_net_base` and the linear layers of Qwen3-Next and Qwen3.5 (llama.cpp 0c1e57098,
//! src/models/{delta-net-base,qwen3next,qwen35}.cpp). That commit always fuses
//! (`cparams.fused_gdn_ar`, `fused_gdn_ch`; src/llama-context.cpp).

use super::mamba::{self, Sizes, biased, load, seq_tokens, ssm_conv};
use crate::engine::llamacpp::graph::build::{Build, Norm, States};
use crate::engine::llamacpp::graph::tensor::{Id, Kind, Op, Unary};

/// `ggml_gated_delta_net`: q, k, v, gate, beta and state; the result holds a state per snapshot.
pub fn gated_delta_net(b: &mut Build<'_>, sources: [Id; 6]) -> Id {
    let [size, heads, tokens, seqs] = b.g.ne(sources[2]);
    let kept = mamba::snapshots(b);
    let rows = tokens.saturating_mul(seqs).saturating_add(kept.saturating_mul(size).saturating_mul(seqs));
    let ne = [size.saturating_mul(heads), rows, 1, 1];
    b.g.result(Op::GatedDeltaNet, Kind::F32, ne, &sources.map(Some))
}

/// The convolution's input, state first; the newest columns go back to the cache (`build_conv_state`).
pub fn conv_input(b: &mut Build<'_>, il: usize, states: &States, mixed: Id, kernel: u64, channels: u64) -> Id {
    let convs = b.state(il, true);
    let row = (kernel.saturating_sub(1)).saturating_mul(channels);
    let conv = load(b, states, convs, row);
    let conv = b.g.reshape_3d(conv, kernel.saturating_sub(1), channels, b.batch.seqs);
    let mixed = b.g.transpose(mixed);
    let input = b.g.concat(conv, mixed, 0);
    let (ne, nb) = (b.g.ne(input), b.g.nb(input));
    let (kept, seqs, back) = (mamba::snapshots(b), b.batch.seqs, kernel.saturating_sub(1));
    for step in 1..=kept {
        let start = ne[0].saturating_add(step).saturating_sub(back).saturating_sub(kept).saturating_mul(4);
        let last = b.g.view_3d(input, [back, channels, seqs], [nb[1], nb[2]], start);
        let slot = mamba::slot(b, kept - step, row);
        let nb = b.g.nb(convs)[1];
        let place = b.g.view_2d(convs, [row, seqs], nb, slot);
        let stored = b.g.cpy(last, place);
        b.g.expand(stored);
    }
    input
}

/// The delta rule over the layer's state, which goes back to the cache (`build_recurrent_attn`).
pub fn attend(b: &mut Build<'_>, il: usize, qkv: [Id; 3], gate: Id, beta: Id, state: Id) -> Id {
    let [q, k, v] = qkv;
    let [size, heads, tokens, seqs] = b.g.ne(v);
    let result = gated_delta_net(b, [q, k, v, gate, beta, state]);
    let row = size.saturating_mul(4);
    let token = row.saturating_mul(heads);
    let seq = token.saturating_mul(tokens);
    let output = b.g.view_4d(result, [size, heads, tokens, seqs], [row, token, seq], 0);
    let square = row.saturating_mul(size);
    let cache = b.state(il, false);
    let nb = b.g.nb(cache)[1];
    let width = size.saturating_mul(size).saturating_mul(heads);
    let (start, whole) = (seq.saturating_mul(seqs), square.saturating_mul(heads));
    let (new, place) = if mamba::snapshots(b) == 1 {
        let new = b.g.view_4d(result, [size, size, heads, seqs], [row, square, whole], start);
        (new, b.g.view_2d(cache, [width, seqs], nb, 0))
    } else {
        let shape = [width, seqs, tokens.min(mamba::snapshots(b))];
        let new = b.g.view_3d(result, shape, [whole, whole.saturating_mul(seqs)], start);
        let slot = mamba::slot(b, 1, width);
        (new, b.g.view_3d(cache, shape, [nb, slot], 0))
    };
    let stored = b.g.cpy(new, place);
    b.g.expand(stored);
    output
}

/// How a model projects β and the decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One projection of both, and q and k repeated to the value heads (Qwen3-Next).
    Joint,
    /// A projection each (Qwen3.5).
    Separate,
}

/// A linear-attention layer of Qwen3-Next or Qwen3.5.
pub fn layer(b: &mut Build<'_>, il: usize, states: &States, cur: Id, style: Style) -> Id {
    let sizes = Sizes::of_file(b);
    let (seqs, tokens) = (b.batch.seqs, seq_tokens(b));
    let (k_heads, v_heads, size_k) = (sizes.groups, sizes.rank, sizes.state);
    let size_v = sizes.inner / v_heads.max(1);
    let (mixed, z) = project(b, il, &sizes, cur);
    let (gate, beta) = match style {
        Style::Joint => joint_gates(b, il, &sizes, cur),
        Style::Separate => separate_gates(b, il, &sizes, cur),
    };
    let kernel = b.w(il, "ssm_conv1d.weight");
    let width = b.g.ne(kernel)[0];
    let channels = sizes.channels();
    let input = conv_input(b, il, states, mixed, width, channels);
    let cache = b.state(il, false);
    let row = sizes.state.saturating_mul(sizes.inner);
    let state = load(b, states, cache, row);
    let state = b.g.reshape(state, [size_v, size_v, v_heads, seqs]);
    let conv = ssm_conv(b, input, kernel);
    let conv = b.g.unary(conv, Unary::Silu);
    let keys = size_k.saturating_mul(k_heads);
    let all = keys.saturating_mul(2).saturating_add(size_v.saturating_mul(v_heads)).saturating_mul(4);
    let strides = |size: u64| [size.saturating_mul(4), all, all.saturating_mul(tokens)];
    let q = b.g.view_4d(conv, [size_k, k_heads, tokens, seqs], strides(size_k), 0);
    let k = b.g.view_4d(conv, [size_k, k_heads, tokens, seqs], strides(size_k), keys.saturating_mul(4));
    let v = b.g.view_4d(conv, [size_v, v_heads, tokens, seqs], strides(size_v), keys.saturating_mul(8));
    let [mut q, mut k] = [q, k].map(|x| {
        let normed = b.g.rms_norm(x);
        b.g.scale(normed)
    });
    if style == Style::Joint && k_heads != v_heads {
        [q, k] = [q, k].map(|x| repeat_heads(b, x, v_heads / k_heads.max(1)));
    }
    let output = attend(b, il, [q, k, v], gate, beta, state);
    let z = b.g.reshape(z, [size_v, v_heads, tokens, seqs]);
    let normed = b.layer_norm(output, il, "ssm_norm", Norm::Rms);
    let gate = b.g.unary(z, Unary::Silu);
    let gated = b.g.mul(normed, gate);
    let flat = b.g.reshape_3d(gated, size_v.saturating_mul(v_heads), tokens, seqs);
    let out = b.linear(il, "ssm_out", flat);
    let width = b.g.ne(out)[0];
    b.g.reshape_2d(out, width, tokens.saturating_mul(seqs))
}

/// Each head of a tensor repeated, next to itself.
fn repeat_heads(b: &mut Build<'_>, x: Id, times: u64) -> Id {
    let [size, heads, tokens, seqs] = b.g.ne(x);
    let all = tokens.saturating_mul(seqs);
    let apart = b.g.reshape(x, [size, 1, heads, all]);
    let repeated = b.g.repeat(apart, [size, times, heads, all]);
    b.g.reshape(repeated, [size, heads.saturating_mul(times), tokens, seqs])
}

/// The convolution's tokens (q, k and v) and the output's gate.
fn project(b: &mut Build<'_>, il: usize, sizes: &Sizes, cur: Id) -> (Id, Id) {
    let (seqs, tokens) = (b.batch.seqs, seq_tokens(b));
    if b.opt(il, "attn_qkv.weight").is_some() {
        let mixed = b.linear(il, "attn_qkv", cur);
        let width = b.g.ne(mixed)[0];
        let mixed = b.g.reshape_3d(mixed, width, tokens, seqs);
        let z = b.linear(il, "attn_gate", cur);
        return (mixed, z);
    }
    let mixed = b.linear(il, "ssm_in", cur);
    let (k_heads, v_heads, size_k) = (sizes.groups.max(1), sizes.rank.max(1), sizes.state);
    let size_v = sizes.inner / v_heads;
    let value = size_v.saturating_mul(v_heads) / k_heads;
    let width = size_k.saturating_mul(2).saturating_add(value.saturating_mul(2));
    let apart = b.g.reshape(mixed, [width, k_heads, tokens, seqs]);
    let nb = b.g.nb(apart);
    let mut start = 0_u64;
    let parts = [size_k, size_k, value, value].map(|size| {
        let part = b.g.view_4d(apart, [size, k_heads, tokens, seqs], [nb[1], nb[2], nb[3]], start);
        start = start.saturating_add(size.saturating_mul(4));
        part
    });
    let z = b.g.cont(parts[3]);
    let keys = size_k.saturating_mul(k_heads);
    let values = size_v.saturating_mul(v_heads);
    let q = b.g.cont_as(parts[0], [keys, tokens, seqs, 1]);
    let k = b.g.cont_as(parts[1], [keys, tokens, seqs, 1]);
    let v = b.g.cont_as(parts[2], [values, tokens, seqs, 1]);
    let qk = b.g.concat(q, k, 0);
    (b.g.concat(qk, v, 0), z)
}

fn joint_gates(b: &mut Build<'_>, il: usize, sizes: &Sizes, cur: Id) -> (Id, Id) {
    let (seqs, tokens, k_heads, v_heads) = (b.batch.seqs, seq_tokens(b), sizes.groups.max(1), sizes.rank);
    let mixed = b.linear(il, "ssm_ba", cur);
    let each = v_heads / k_heads;
    let apart = b.g.reshape(mixed, [each.saturating_mul(2), k_heads, tokens, seqs]);
    let nb = b.g.nb(apart);
    let beta = b.g.view_4d(apart, [each, k_heads, tokens, seqs], [nb[1], nb[2], nb[3]], 0);
    let alpha = b.g.view_4d(apart, [each, k_heads, tokens, seqs], [nb[1], nb[2], nb[3]], each.saturating_mul(4));
    let beta = b.g.cont(beta);
    let beta = b.g.unary(beta, Unary::Sigmoid);
    let alpha = b.g.cont_as(alpha, [v_heads, tokens, seqs, 1]);
    let gate = decay(b, il, alpha);
    let beta = b.g.reshape(beta, [1, v_heads, tokens, seqs]);
    let gate = b.g.reshape(gate, [1, v_heads, tokens, seqs]);
    (gate, beta)
}

fn separate_gates(b: &mut Build<'_>, il: usize, sizes: &Sizes, cur: Id) -> (Id, Id) {
    let (seqs, tokens, heads) = (b.batch.seqs, seq_tokens(b), sizes.rank);
    let beta = b.linear(il, "ssm_beta", cur);
    let beta = b.g.reshape(beta, [1, heads, tokens, seqs]);
    let beta = b.g.unary(beta, Unary::Sigmoid);
    let alpha = b.linear(il, "ssm_alpha", cur);
    let alpha = b.g.reshape_3d(alpha, heads, tokens, seqs);
    let gate = decay(b, il, alpha);
    let gate = b.g.reshape(gate, [1, heads, tokens, seqs]);
    (gate, beta)
}

/// softplus(α + bias) · −exp(A), of which the file holds the second factor.
fn decay(b: &mut Build<'_>, il: usize, alpha: Id) -> Id {
    let alpha = biased(b, il, "ssm_dt", alpha);
    let soft = b.g.unary(alpha, Unary::Softplus);
    let a = b.w(il, "ssm_a");
    b.g.mul(soft, a)
}
