//! Gemma 4 (src/models/gemma4.cpp of llama.cpp 0c1e57098): windows, heads per layer, caches shared by later layers,
//! embeddings per layer, and experts beside the dense block.

use crate::engine::llamacpp::graph::build::{Act, Attn, Build, Ffn, Gate, Gating, Moe, Norm, SharedQkv};
use crate::engine::llamacpp::graph::tensor::{Id, Kind, Unary};

/// Builds the graph.
pub fn build(b: &mut Build<'_>) {
    let inp = b.inp_embd(false);
    let mut inp = b.g.scale(inp);
    let pos = b.inp_pos(1);
    let attn = b.inp_attn_windowed();
    let out = b.inp_out_ids();
    let per_layer = b.maybe("per_layer_token_embd.weight").map(|table| embeddings_per_layer(b, table, inp));
    for il in 0..b.layers() {
        let normed = b.layer_norm(inp, il, "attn_norm", Norm::Rms);
        let cur = attention(b, normed, pos, &attn, il);
        let cur = b.layer_norm(cur, il, "post_attention_norm", Norm::Rms);
        let middle = b.g.add(cur, inp);
        let cur = feed_forward(b, middle, il);
        let weight = b.w(il, "post_ffw_norm.weight");
        let cur = b.norm(cur, Some(weight), None, Norm::Rms, None);
        let mut cur = b.g.add(cur, middle);
        if let Some(per_layer) = per_layer {
            cur = with_layer_embedding(b, cur, per_layer, il);
        }
        if let Some(scale) = b.opt(il, "layer_output_scale.weight") {
            cur = b.g.mul(cur, scale);
        }
        inp = cur;
    }
    let normed = b.output_norm(inp, Norm::Rms);
    // What a drafter reads is kept for every row; the outputs are picked after it.
    b.g.keep(normed);
    let cur = b.g.get_rows(normed, out);
    b.embd = Some(cur);
    let mut logits = b.head(cur);
    if b.has_scale("final_logit_softcapping") {
        logits = b.soft_cap(logits);
    }
    b.finish(logits);
}

/// The layer whose cache a layer reads: its own, or the last owner of its kind.
fn owner(b: &Build<'_>, il: usize) -> usize {
    let hparams = b.model.hparams;
    match hparams.kv_from_start {
        Some(first) if il >= first => first.saturating_sub(if hparams.is_swa(il) { 2 } else { 1 }),
        Some(_) | None => il,
    }
}

fn attention(b: &mut Build<'_>, normed: Id, pos: Id, attn: &Attn, il: usize) -> Id {
    let (heads, tokens) = (b.layer_heads(il), b.batch.tokens);
    let factors = if b.model.hparams.is_swa(il) { None } else { b.per_layer(il, "rope_freqs.weight") };
    let fused = b.opt(il, "attn_qkv.weight").map(|_| b.linear(il, "attn_qkv", normed));
    let widths = [heads.dim_q * heads.count_q, heads.dim_k * heads.count_k, heads.dim_v * heads.count_v];
    let part = |b: &mut Build<'_>, at: usize| {
        let whole = fused?;
        let (nb1, start) = (b.g.nb(whole)[1], widths[..at].iter().sum::<u64>());
        let view = b.g.view_2d(whole, [widths[at], tokens], nb1, start.saturating_mul(4));
        Some(b.g.cont(view))
    };
    let q = part(b, 0).unwrap_or_else(|| b.linear(il, "attn_q", normed));
    let q = b.g.reshape_3d(q, heads.dim_q, heads.count_q, tokens);
    let q = b.layer_norm(q, il, "attn_q_norm", Norm::Rms);
    let q = b.rope(q, pos, factors);
    let owner = owner(b, il);
    let (mut k, mut v) = (None, None);
    if owner == il {
        let keys = part(b, 1).unwrap_or_else(|| b.linear(il, "attn_k", normed));
        let values = part(b, 2).or_else(|| {
            let own = b.opt(il, "attn_v.weight").is_some();
            own.then(|| b.linear(il, "attn_v", normed))
        });
        let key = b.g.reshape_3d(keys, heads.dim_k, heads.count_k, tokens);
        let value = b.g.reshape_3d(values.unwrap_or(keys), heads.dim_v, heads.count_v, tokens);
        let key = b.layer_norm(key, il, "attn_k_norm", Norm::Rms);
        v = Some(b.g.rms_norm(value));
        k = Some(b.rope(key, pos, factors));
    }
    let wo = b.wo(il);
    b.attn_shared(attn, SharedQkv { q, k, v, owner }, wo, il)
}

fn feed_forward(b: &mut Build<'_>, middle: Id, il: usize) -> Id {
    let normed = b.layer_norm(middle, il, "ffn_norm", Norm::Rms);
    let dense = b.ffn_of(normed, il, Ffn::DENSE, Act::Gelu, Gate::Parallel);
    let Some(router) = b.opt(il, "ffn_gate_inp.weight") else { return dense };
    let dense = b.layer_norm(dense, il, "post_ffw_norm_1", Norm::Rms);
    let read = b.layer_norm(middle, il, "pre_ffw_norm_2", Norm::Rms);
    let scores = b.g.rms_norm(middle);
    let scores = b.g.scale(scores);
    let scale = b.w(il, "ffn_gate_inp.scale");
    let scores = b.g.mul(scores, scale);
    let logits = b.mm(router, scores, None);
    let hparams = b.model.hparams;
    let moe = Moe {
        experts: hparams.experts,
        used: hparams.layers.get(il).map_or(0, |layer| layer.experts_used),
        act: Act::Gelu,
        norm: true,
        scale: false,
        gating: Gating::Softmax,
        biased_choice: false,
        logits: Some(logits),
        weight_before: false,
    };
    let routed = b.moe(read, il, moe);
    let routed = b.layer_norm(routed, il, "post_ffw_norm_2", Norm::Rms);
    b.g.add(dense, routed)
}

/// What each layer adds for each token, for all layers at once.
fn embeddings_per_layer(b: &mut Build<'_>, table: Id, inp: Id) -> Id {
    let (tokens, layers) = (b.batch.tokens, b.layers() as u64);
    let width = b.model.hparams.embd_per_layer;
    let ids = b.g.input(Kind::I32, [tokens, 1, 1, 1]);
    let rows = b.g.get_rows(table, ids);
    let rows = b.g.reshape_3d(rows, width, layers, tokens);
    let rows = b.g.scale(rows);
    b.g.expand(rows);
    let projection = b.global("per_layer_model_proj.weight");
    let projected = b.mm(projection, inp, None);
    let projected = b.g.scale(projected);
    let projected = b.g.reshape_3d(projected, width, layers, tokens);
    let weight = b.global("per_layer_proj_norm.weight");
    let projected = b.norm(projected, Some(weight), None, Norm::Rms, None);
    let both = b.g.add(projected, rows);
    let both = b.g.scale(both);
    let by_layer = b.g.permute(both, [0, 2, 1, 3]);
    b.g.cont(by_layer)
}

fn with_layer_embedding(b: &mut Build<'_>, cur: Id, per_layer: Id, il: usize) -> Id {
    let gated = b.linear(il, "inp_gate", cur);
    let gated = b.g.unary(gated, Unary::Gelu);
    let [width, tokens, _layers, _one] = b.g.ne(per_layer);
    let row = width.saturating_mul(4);
    let offset = row.saturating_mul(tokens).saturating_mul(il as u64);
    let own = b.g.view_2d(per_layer, [width, tokens], row, offset);
    let gated = b.g.mul(gated, own);
    let projected = b.linear(il, "proj", gated);
    let normed = b.layer_norm(projected, il, "post_norm", Norm::Rms);
    b.g.add(cur, normed)
}
