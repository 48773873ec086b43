//! Llama and what is built like it (src/models/llama.cpp).

use crate::engine::llamacpp::graph::build::{Act, Build, Gate, Gating, Moe, Norm};

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
            let moe = moe(b, il);
            b.moe(cur, il, moe)
        } else {
            b.ffn(cur, il, Act::Silu, Gate::Parallel)
        };
        inp = b.g.add(cur, ffn_inp);
    }
    let cur = b.output_norm(inp, Norm::Rms);
    let logits = b.head(cur);
    b.finish(logits);
}

fn moe(b: &Build<'_>, il: usize) -> Moe {
    let hparams = b.model.hparams;
    Moe {
        experts: hparams.experts,
        used: hparams.layers.get(il).map_or(0, |layer| layer.experts_used),
        act: Act::Silu,
        norm: true,
        scale: b.has_scale("expert_weights_scale") && (b.float("expert_weights_scale") - 1.0).abs() > 0.0,
        gating: Gating::Softmax,
        biased_choice: false,
        logits: None,
        weight_before: false,
    }
}
