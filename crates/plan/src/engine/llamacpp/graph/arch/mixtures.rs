//! Which decoders with grouped-query attention have experts, and how do they differ?
//!
//! Each function names the file of llama.cpp 0c1e57098 that it follows, under src/models.

use super::decoder::{Decoder, Gather};
use super::moe::{self, Mixture};
use crate::engine::llamacpp::graph::build::{Act, Attn, Build, Extra, Gate, Gating, Norm, Qkv};
use crate::engine::llamacpp::graph::tensor::{Id, Unary};

/// Where q and k are normed, if the file has the norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head, before the positions.
    Heads,
    /// All heads together, before they are told apart.
    Whole,
    /// Each head, after the positions.
    Late,
}

/// Self-attention of a layer up to its output projection.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Where q and k are normed.
    pub norm: QkNorm,
    /// The positions, unless the layers have none.
    pub positions: Option<Id>,
    /// The input of the cache.
    pub input: Attn,
}

impl Attention {
    /// Runs it.
    pub fn run(&self, b: &mut Build<'_>, il: usize, cur: Id) -> Id {
        self.run_with(b, il, cur, self.positions)
    }

    /// Runs it with positions of its own, or none.
    pub fn run_with(&self, b: &mut Build<'_>, il: usize, cur: Id, positions: Option<Id>) -> Id {
        let heads = b.layer_heads(il);
        let whole = self.norm == QkNorm::Whole;
        let mut qkv = if whole { b.qkv_rows(cur, il, heads) } else { b.qkv(cur, il, heads) };
        if self.norm != QkNorm::Late {
            qkv = norm_qk(b, il, qkv);
        }
        if whole {
            qkv = split_heads(b, il, qkv);
        }
        if let Some(positions) = positions {
            let factors = b.rope_factors(il);
            qkv.q = b.rope(qkv.q, positions, factors);
            qkv.k = b.rope(qkv.k, positions, factors);
        }
        if self.norm == QkNorm::Late {
            qkv = norm_qk(b, il, qkv);
        }
        let extra = Extra { sinks: b.opt(il, "attn_sinks.weight"), ..b.wo(il) };
        b.attn(&self.input, qkv, extra, il)
    }
}

/// q and k through the norms that the file has.
fn norm_qk(b: &mut Build<'_>, il: usize, qkv: Qkv) -> Qkv {
    let one = |b: &mut Build<'_>, cur: Id, name: &str| match b.opt(il, name) {
        Some(weight) => b.norm(cur, Some(weight), None, Norm::Rms, Some(il)),
        None => cur,
    };
    Qkv { q: one(b, qkv.q, "attn_q_norm.weight"), k: one(b, qkv.k, "attn_k_norm.weight"), v: qkv.v }
}

/// Rows as heads.
pub fn split_heads(b: &mut Build<'_>, il: usize, qkv: Qkv) -> Qkv {
    let (heads, tokens) = (b.layer_heads(il), b.batch.tokens);
    Qkv {
        q: b.g.reshape_3d(qkv.q, heads.dim_q, heads.count_q, tokens),
        k: b.g.reshape_3d(qkv.k, heads.dim_k, heads.count_k, tokens),
        v: b.g.reshape_3d(qkv.v, heads.dim_v, heads.count_v, tokens),
    }
}

/// The positions: four numbers per token where the architecture rotates in sections (`n_pos_per_embd`).
pub fn positions(b: &mut Build<'_>) -> Id {
    let sectioned = match b.model.hparams.arch.as_str() {
        "qwen35" | "qwen35moe" | "qwen3vlmoe" => true,
        "glm4moe" => b
            .model
            .gguf
            .array("rope.dimension_sections")
            .ok()
            .flatten()
            .is_some_and(|s| s[..].iter().take(2).any(|&n| n > 0)),
        _ => false,
    };
    b.inp_pos(if sectioned { 4 } else { 1 })
}

/// A plain decoder's own ways.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// Where q and k are normed.
    pub norm: QkNorm,
    /// Whether there are two caches, one of windowed layers.
    pub windowed: bool,
    /// The experts.
    pub mixture: Mixture,
    /// The layers.
    pub decoder: Decoder,
}

impl Plain {
    /// The plainest, with those experts.
    #[must_use]
    pub fn new(mixture: Mixture) -> Self {
        Self { norm: QkNorm::Heads, windowed: false, mixture, decoder: Decoder::default() }
    }

    /// Embedding, positions, cache and outputs, in the order in which nearly all models ask for them.
    fn start(self, b: &mut Build<'_>) -> (Id, Attention, Id) {
        let stream = b.inp_embd(true);
        let positions = Some(positions(b));
        let input = if self.windowed { b.inp_attn_windowed() } else { b.inp_attn_single() };
        let out_ids = b.inp_out_ids();
        (stream, Attention { norm: self.norm, positions, input }, out_ids)
    }

    /// Builds the graph.
    pub fn build(self, b: &mut Build<'_>) {
        let (stream, attention, out_ids) = self.start(b);
        self.decoder.run(
            b,
            stream,
            out_ids,
            |b, il, cur| attention.run(b, il, cur),
            |b, il, cur| moe::dense_or_mixture(b, il, cur, &self.mixture),
        );
    }
}

/// qwen2moe.cpp: a shared expert behind a gate of x·σ(x)/x.
pub fn qwen2(b: &mut Build<'_>) {
    let plain = Plain::new(Mixture::softmax(false));
    let (stream, attention, out_ids) = plain.start(b);
    plain.decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| attention.run(b, il, cur),
        |b, il, cur| {
            let routed = moe::routed(b, il, cur, &plain.mixture);
            let raw = b.linear(il, "ffn_gate_inp_shexp", cur);
            let silu = b.g.unary(raw, Unary::Silu);
            let gate = b.g.div(silu, raw);
            let shared = moe::shared(b, il, cur);
            let shared = b.g.mul(shared, gate);
            b.g.add(routed, shared)
        },
    );
}

/// openai-moe.cpp (gpt-oss): windows on every second layer, sinks, biases everywhere.
pub fn gpt_oss(b: &mut Build<'_>) {
    let mixture = Mixture { act: Act::SwigluOai, ..Mixture::new(Gating::SoftmaxChosen, false) };
    let decoder = Decoder { ffn_norm: "post_attention_norm", gather: Gather::BeforeNorm, ..Decoder::default() };
    Plain { windowed: true, decoder, ..Plain::new(mixture) }.build(b);
}

/// granite-moe.cpp: scaled branches and logits.
pub fn granite(b: &mut Build<'_>) {
    let stream = b.inp_embd(true);
    let positions = granite_positions(b);
    let input = b.inp_attn_single();
    let out_ids = b.inp_out_ids();
    let attention = Attention { norm: QkNorm::Heads, positions, input };
    let mixture = Mixture::softmax(true);
    let decoder = Decoder { residual_scale: b.has_scale("residual_scale"), logit_scale: true, ..Decoder::default() };
    decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| attention.run(b, il, cur),
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

/// The positions of a Granite model, which may have none.
pub fn granite_positions(b: &mut Build<'_>) -> Option<Id> {
    let switched = b.model.hparams.arch != "granitemoe";
    let rotated = !switched || b.model.gguf.flag("rope.scaling.finetuned").ok().flatten().unwrap_or(true);
    rotated.then(|| b.inp_pos(1))
}

/// llama4.cpp: chunks on three of four layers; the fourth has no positions but a scale per token.
pub fn llama4(b: &mut Build<'_>) {
    let chunked = b.model.hparams.window > 0;
    let stream = b.inp_embd(true);
    let positions = b.inp_pos(1);
    let scale = chunked.then(|| b.inp_attn_scale());
    let input = if chunked { b.inp_attn_windowed() } else { b.inp_attn_single() };
    let out_ids = b.inp_out_ids();
    // The loader norms queries and keys only of the model with 16 experts (`use_kq_norm`).
    let normed = b.model.hparams.experts != 128;
    let mixture = Mixture { weight_first: true, ..Mixture::new(Gating::Sigmoid, false) };
    let every = if chunked { 4 } else { b.layers().max(1) };
    Decoder::default().run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            let heads = b.layer_heads(il);
            let mut qkv = b.qkv(cur, il, heads);
            if !(il + 1).is_multiple_of(every) {
                let factors = b.rope_factors(il);
                qkv.q = b.rope(qkv.q, positions, factors);
                qkv.k = b.rope(qkv.k, positions, factors);
                if normed {
                    qkv.q = b.g.rms_norm(qkv.q);
                    qkv.k = b.g.rms_norm(qkv.k);
                }
            } else if let Some(scale) = scale {
                qkv.q = b.g.mul(qkv.q, scale);
            }
            let wo = b.wo(il);
            b.attn(&input, qkv, wo, il)
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

/// phi3.cpp with experts (Phi-MoE): queries scaled before attention, the stream first in the second addition.
pub fn phi(b: &mut Build<'_>) {
    let mut stream = b.inp_embd(true);
    let positions = b.inp_pos(1);
    let input = if b.model.hparams.window > 0 { b.inp_attn_windowed() } else { b.inp_attn_single() };
    let out_ids = b.inp_out_ids();
    let mixture = Mixture::softmax(true);
    let layers = b.layers();
    for il in 0..layers {
        let normed = b.layer_norm(stream, il, "attn_norm", Norm::Rms);
        let factors = b.rope_factors(il);
        let heads = b.layer_heads(il);
        let mut qkv = b.qkv(normed, il, heads);
        let q = b.rope(qkv.q, positions, factors);
        qkv.k = b.rope(qkv.k, positions, factors);
        qkv.q = b.g.scale(q);
        let wo = b.wo(il);
        let mut cur = b.attn(&input, qkv, wo, il);
        if il + 1 == layers {
            cur = b.g.get_rows(cur, out_ids);
            stream = b.g.get_rows(stream, out_ids);
        }
        let middle = b.g.add(cur, stream);
        let normed = b.layer_norm(middle, il, "ffn_norm", Norm::Rms);
        let cur = if b.opt(il, "ffn_gate_inp.weight").is_some() {
            moe::routed(b, il, normed, &mixture)
        } else {
            b.ffn(normed, il, Act::Swiglu, Gate::Sequential)
        };
        stream = b.g.add(middle, cur);
    }
    Decoder::default().finish(b, stream, out_ids);
}

/// grok.cpp: GELU experts, norms after both branches, capped scores; in the first model no dense block beside them.
pub fn grok(b: &mut Build<'_>) {
    let mixture = Mixture { act: Act::Gelu, ..Mixture::softmax(true) };
    let whole_layer = b.opt(0, "layer_output_norm.weight").is_some();
    let decoder = Decoder {
        attn_post_norm: Some("attn_output_norm"),
        ffn_post_norm: Some(if whole_layer { "layer_output_norm" } else { "post_ffw_norm" }),
        logit_scale: true,
        ..Decoder::default()
    };
    let stream = b.inp_embd(false);
    let stream = b.g.scale(stream);
    b.g.expand(stream);
    let positions = Some(b.inp_pos(1));
    let input = b.inp_attn_single();
    let out_ids = b.inp_out_ids();
    let attention = Attention { norm: QkNorm::Heads, positions, input };
    decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| attention.run(b, il, cur),
        |b, il, cur| {
            let routed = moe::routed(b, il, cur, &mixture);
            if b.opt(il, "ffn_up.weight").is_none() {
                return routed;
            }
            let dense = b.ffn(cur, il, Act::Gelu, Gate::Parallel);
            let both = b.g.add(dense, routed);
            b.g.scale(both)
        },
    );
}

/// step35.cpp: heads per layer, a gate per head on attention's result, clamped activations.
pub fn step35(b: &mut Build<'_>) {
    let decoder = Decoder { gather: Gather::BeforeNorm, ..Decoder::default() };
    let mixture = Mixture::all_of_file(b, Gating::Sigmoid);
    let plain = Plain { windowed: true, decoder, ..Plain::new(mixture) };
    let (stream, attention, out_ids) = plain.start(b);
    plain.decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| step35_attention(b, il, cur, &attention),
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

fn step35_attention(b: &mut Build<'_>, il: usize, cur: Id, attention: &Attention) -> Id {
    let heads = b.layer_heads(il);
    let rows = b.qkv_rows(cur, il, heads);
    let qkv = split_heads(b, il, rows);
    let mut qkv = norm_qk(b, il, qkv);
    if let Some(positions) = attention.positions {
        let factors = if b.model.hparams.is_swa(il) { None } else { b.rope_factors(il) };
        qkv.q = b.rope(qkv.q, positions, factors);
        qkv.k = b.rope(qkv.k, positions, factors);
    }
    let mut out = b.attn(&attention.input, qkv, Extra::default(), il);
    if b.opt(il, "attn_gate.weight").is_some() {
        let tokens = b.batch.tokens;
        let gate = b.linear(il, "attn_gate", cur);
        let gate = b.g.unary(gate, Unary::Sigmoid);
        let apart = b.g.reshape_3d(out, heads.dim_v, heads.count_q, tokens);
        let gate = b.g.reshape_3d(gate, 1, heads.count_q, tokens);
        let gated = b.g.mul(apart, gate);
        out = b.g.reshape_2d(gated, heads.dim_v.saturating_mul(heads.count_q), tokens);
    }
    b.linear(il, "attn_output", out)
}

/// mimo2.cpp: windows, sinks, and a scale of the values applied after the output projection.
pub fn mimo2(b: &mut Build<'_>) {
    let mixture = Mixture::new(Gating::Sigmoid, true);
    let plain = Plain { windowed: true, ..Plain::new(mixture) };
    let (stream, attention, out_ids) = plain.start(b);
    let scaled = b.has_scale("attention.value_scale") && (b.float("attention.value_scale") - 1.0).abs() > 0.0;
    plain.decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            let cur = attention.run(b, il, cur);
            if scaled { b.g.scale(cur) } else { cur }
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

/// exaone-moe.cpp: positions only in windowed layers.
pub fn exaone(b: &mut Build<'_>) {
    let mixture = Mixture::all_of_file(b, Gating::Softmax);
    let plain = Plain { windowed: true, ..Plain::new(mixture) };
    let (stream, attention, out_ids) = plain.start(b);
    plain.decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            let positions = attention.positions.filter(|_| b.model.hparams.is_swa(il));
            attention.run_with(b, il, cur, positions)
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

/// afmoe.cpp: scaled embedding, a gate on attention's result, norms after both branches, every fourth layer without
/// positions.
pub fn afmoe(b: &mut Build<'_>) {
    let decoder = Decoder { ffn_post_norm: Some("post_ffw_norm"), ..Decoder::default() };
    let mixture = Mixture::all_of_file(b, Gating::Sigmoid);
    let plain = Plain { windowed: true, decoder, ..Plain::new(mixture) };
    let (stream, attention, out_ids) = plain.start(b);
    let stream = b.g.scale(stream);
    plain.decoder.run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            let heads = b.layer_heads(il);
            let qkv = b.qkv(cur, il, heads);
            let mut qkv = norm_qk(b, il, qkv);
            if let Some(positions) = attention.positions.filter(|_| !(il + 1).is_multiple_of(4)) {
                qkv.q = b.rope(qkv.q, positions, None);
                qkv.k = b.rope(qkv.k, positions, None);
            }
            let out = b.attn(&attention.input, qkv, Extra::default(), il);
            let gate = b.linear(il, "attn_gate", cur);
            let gate = b.g.unary(gate, Unary::Sigmoid);
            let out = b.g.mul(out, gate);
            let out = b.linear(il, "attn_output", out);
            b.layer_norm(out, il, "post_attention_norm", Norm::Rms)
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}
