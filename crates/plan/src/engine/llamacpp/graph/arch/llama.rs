//! Llama and what is built like it (src/models/llama.cpp).

use crate::engine::llamacpp::graph::build::{Act, Build, Ffn, Gate, Gating, Moe, Norm};
use crate::engine::llamacpp::graph::tensor::Id;

/// Builds the graph.
pub fn build(b: &mut Build<'_>) {
    let mut inp = b.inp_embd(true);
    let pos = b.inp_pos(1);
    let attn = b.inp_attn_single();
    let out = b.inp_out_ids();
    let layers = b.layers();
    for il in 0..layers {
        let mut residual = inp;
        let cur = b.layer_norm(inp, il, "attn_norm", Norm::Rms);
        let factors = b.rope_factors(il);
        let heads = b.layer_heads(il);
        let mut qkv = b.qkv(cur, il, heads);
        qkv.q = b.rope(qkv.q, pos, factors);
        qkv.k = b.rope(qkv.k, pos, factors);
        let wo = b.wo(il);
        let mut cur = b.attn(&attn, qkv, wo, il);
        if il + 1 == layers {
            cur = b.g.get_rows(cur, out);
            residual = b.g.get_rows(residual, out);
        }
        let ffn_inp = b.g.add(cur, residual);
        let cur = b.layer_norm(ffn_inp, il, "ffn_norm", Norm::Rms);
        let cur = if b.opt(il, "ffn_gate_inp.weight").is_some() {
            experts(b, cur, il)
        } else {
            b.ffn(cur, il, Act::Silu, Gate::Parallel)
        };
        inp = b.g.add(cur, ffn_inp);
    }
    let cur = b.output_norm(inp, Norm::Rms);
    let logits = b.head(cur);
    b.finish(logits);
}

/// A layer's experts, with the shared ones where the file has them (Granite).
pub fn experts(b: &mut Build<'_>, cur: Id, il: usize) -> Id {
    let hparams = b.model.hparams;
    let moe = Moe {
        experts: hparams.experts,
        used: hparams.layers.get(il).map_or(0, |layer| layer.experts_used),
        act: Act::Silu,
        norm: true,
        scale: b.has_scale("expert_weights_scale") && (b.float("expert_weights_scale") - 1.0).abs() > 0.0,
        gating: Gating::Softmax,
        biased_choice: false,
        logits: None,
        weight_before: false,
    };
    let routed = b.moe(cur, il, moe);
    if b.model.hparams.arch != "granite" || hparams.ff_shexp == 0 {
        return routed;
    }
    let shared = b.ffn_of(cur, il, Ffn::SHARED, Act::Silu, Gate::Parallel);
    b.g.add(routed, shared)
}
