//! Decoders of attention and one dense block per layer, one after the other (src/models/*.cpp of llama.cpp 0c1e57098:
//! qwen2, qwen3, phi3, gemma and gemma2 and gemma3, olmo2, glm4, starcoder2, exaone4, granite, … ).

use crate::engine::llamacpp::graph::build::{Act, Attn, Build, Gate, Heads, Norm, Qkv};
use crate::engine::llamacpp::graph::tensor::Id;
use crate::engine::llamacpp::hparams::Swa;

/// Where queries and keys are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// Per head, before rotation, where the file has the weights.
    Heads,
    /// Per head, after rotation, where the file has the weights.
    Rotated,
    /// All heads together, before they are split.
    Rows,
}

/// Which layers rotate positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rope {
    /// All.
    All,
    /// None.
    Never,
    /// All but every fourth.
    SkipsFourth,
    /// Those with a window, or all of a model without windows.
    Windowed,
    /// All of a model of 32 layers, else none (Baichuan).
    OfThirtyTwo,
    /// All unless the file says otherwise (Granite).
    OfFile,
}

/// How embeddings enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// As they are, or scaled as the file says.
    Plain,
    /// Scaled.
    Scaled,
    /// With a learned position added.
    Positions,
    /// Normalised.
    Normed,
}

/// Scales on the two branches of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// None.
    Never,
    /// Where the file has one.
    OfFile,
    /// Always.
    Always,
}

/// How an architecture's layers differ from Llama's.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Kind of norm.
    pub norm: Norm,
    /// Norm before attention.
    pub pre_norm: bool,
    /// Whether norms have no weights.
    pub bare_norms: bool,
    /// Norm of queries and keys.
    pub qk_norm: QkNorm,
    /// Rotation.
    pub rope: Rope,
    /// Positions per token; `None` where the file's sections decide.
    pub positions: Option<u64>,
    /// Whether queries are scaled before attention.
    pub scaled_queries: bool,
    /// Norm after attention, where there is one.
    pub post_attention: Option<&'static str>,
    /// Norm before the dense block, where there is one.
    pub ffn_norm: Option<&'static str>,
    /// Activation.
    pub act: Act,
    /// Gate.
    pub gate: Gate,
    /// Norm after the dense block, where there is one.
    pub post_ffn: Option<&'static str>,
    /// Whether that norm is tied to its layer's device.
    pub post_ffn_tied: bool,
    /// Embeddings.
    pub entry: Entry,
    /// Scale of both branches.
    pub residual_scale: Scale,
    /// Scale of the logits.
    pub logit_scale: Scale,
    /// Cap of the logits.
    pub logit_cap: Scale,
    /// Whether layers may have experts instead of the dense block.
    pub experts: bool,
    /// Whether the residual is the first operand of the sum after the dense block, which decides whose memory is reused.
    pub residual_first: bool,
    /// Whether queries are scaled by how far back they look, where the file says so.
    pub temperature: bool,
}

impl Style {
    /// Llama's.
    pub const LLAMA: Self = Self {
        norm: Norm::Rms,
        pre_norm: true,
        bare_norms: false,
        qk_norm: QkNorm::Heads,
        rope: Rope::All,
        positions: Some(1),
        scaled_queries: false,
        post_attention: None,
        ffn_norm: Some("ffn_norm"),
        act: Act::Silu,
        gate: Gate::Parallel,
        post_ffn: None,
        post_ffn_tied: true,
        entry: Entry::Plain,
        residual_scale: Scale::Never,
        logit_scale: Scale::Never,
        logit_cap: Scale::Never,
        experts: false,
        residual_first: false,
        temperature: false,
    };
    /// Norms with mean, an ungated Gaussian block.
    const CLASSIC: Self = Self { norm: Norm::Layer, act: Act::Gelu, gate: Gate::Sequential, ..Self::LLAMA };
    /// Gate and up in one matrix.
    const JOINT: Self = Self { act: Act::Swiglu, gate: Gate::Sequential, ..Self::LLAMA };
    const GEMMA: Self = Self { scaled_queries: true, act: Act::Gelu, entry: Entry::Scaled, ..Self::LLAMA };
    const GEMMA2: Self = Self {
        post_attention: Some("post_attention_norm"),
        post_ffn: Some("post_ffw_norm"),
        post_ffn_tied: false,
        ..Self::GEMMA
    };
    const POST_NORMED: Self = Self {
        pre_norm: false,
        post_attention: Some("post_attention_norm"),
        ffn_norm: None,
        post_ffn: Some("post_ffw_norm"),
        post_ffn_tied: false,
        ..Self::LLAMA
    };

    /// The style of an architecture, if it is such a decoder.
    #[must_use]
    pub fn of(arch: &str) -> Option<Self> {
        Self::plain(arch).or_else(|| Self::classic(arch)).or_else(|| Self::own(arch))
    }

    /// Those that differ from Llama in little.
    fn plain(arch: &str) -> Option<Self> {
        let llama = Self::LLAMA;
        Some(match arch {
            "qwen" | "qwen2" | "qwen3" | "internlm2" | "exaone" | "ernie4_5" | "xverse" | "pangu-embedded"
            | "dream" | "llada" => llama,
            "qwen2vl" | "qwen3vl" | "paddleocr" => Self { positions: Some(4), ..llama },
            "orion" => Self { norm: Norm::Layer, ..llama },
            "refact" => Self { rope: Rope::Never, ..llama },
            "baichuan" => Self { rope: Rope::OfThirtyTwo, ..llama },
            "smollm3" => Self { rope: Rope::SkipsFourth, ..llama },
            "seed_oss" => Self { ffn_norm: Some("post_attention_norm"), ..llama },
            "hunyuan-dense" | "maincoder" => Self { qk_norm: QkNorm::Rotated, ..llama },
            "hunyuan_vl" => Self { qk_norm: QkNorm::Rotated, positions: None, ..llama },
            "mistral3" => Self { temperature: true, experts: true, ..llama },
            "olmo" => Self { norm: Norm::Layer, bare_norms: true, ..llama },
            "arcee" => Self { act: Act::ReluSqr, gate: Gate::Sequential, ..llama },
            "granite" => Self {
                rope: Rope::OfFile,
                experts: true,
                residual_scale: Scale::OfFile,
                logit_scale: Scale::Always,
                ..llama
            },
            "minicpm" => Self {
                experts: true,
                entry: Entry::Scaled,
                residual_scale: Scale::Always,
                logit_scale: Scale::Always,
                ..llama
            },
            _other => return None,
        })
    }

    /// Those of the first generation.
    fn classic(arch: &str) -> Option<Self> {
        let classic = Self::CLASSIC;
        Some(match arch {
            "starcoder2" | "codeshell" => classic,
            "nemotron" => Self { act: Act::ReluSqr, ..classic },
            "gpt2" | "starcoder" => Self { rope: Rope::Never, entry: Entry::Positions, ..classic },
            "bloom" => Self { rope: Rope::Never, entry: Entry::Normed, ..classic },
            "jais" => Self { rope: Rope::Never, act: Act::Silu, gate: Gate::Parallel, ..classic },
            _other => return None,
        })
    }

    /// Those with norms of their own.
    fn own(arch: &str) -> Option<Self> {
        Some(match arch {
            "chatglm" => Self::JOINT,
            "phi3" => Self { scaled_queries: true, residual_first: true, ..Self::JOINT },
            "glm4" => Self {
                positions: None,
                post_attention: Some("post_attention_norm"),
                post_ffn: Some("post_ffw_norm"),
                ..Self::JOINT
            },
            "gemma" => Self::GEMMA,
            "gemma2" => Self { logit_cap: Scale::Always, ..Self::GEMMA2 },
            "gemma3" => Self { logit_cap: Scale::OfFile, ..Self::GEMMA2 },
            "olmo2" => Self { qk_norm: QkNorm::Rows, ..Self::POST_NORMED },
            "exaone4" => Self { rope: Rope::Windowed, ..Self::POST_NORMED },
            _other => return None,
        })
    }
}

/// Builds the graph of an architecture that has a style.
pub fn build(b: &mut Build<'_>) {
    if let Some(style) = Style::of(&b.model.hparams.arch) {
        let layered = Layered::enter(b, style);
        layered.run(b);
    }
}

struct Layered {
    style: Style,
    inp: Id,
    pos: Id,
    temperature: Option<Id>,
    attn: Attn,
    out: Id,
}

impl Layered {
    fn enter(b: &mut Build<'_>, style: Style) -> Self {
        let mut inp = b.inp_embd(style.entry == Entry::Plain);
        let per_token = style.positions.unwrap_or_else(|| b.positions_by_sections());
        let pos = b.inp_pos(per_token);
        if style.entry == Entry::Scaled {
            inp = b.g.scale(inp);
        }
        if style.entry == Entry::Positions {
            let table = b.global("position_embd.weight");
            let rows = b.g.get_rows(table, pos);
            inp = b.g.add(inp, rows);
        }
        if style.entry == Entry::Normed {
            let (weight, bias) = (b.global("token_embd_norm.weight"), b.maybe("token_embd_norm.bias"));
            inp = b.norm(inp, Some(weight), bias, style.norm, Some(0));
        }
        let tempered = style.temperature && b.has_scale("attention.temperature_scale");
        let temperature = tempered.then(|| b.inp_attn_scale());
        let attn = if b.model.hparams.swa == Swa::None { b.inp_attn_single() } else { b.inp_attn_windowed() };
        let out = b.inp_out_ids();
        Self { style, inp, pos, temperature, attn, out }
    }

    fn run(mut self, b: &mut Build<'_>) {
        let layers = b.layers();
        for il in 0..layers {
            let mut residual = self.inp;
            let mut cur = self.attention(b, il);
            if il + 1 == layers {
                cur = b.g.get_rows(cur, self.out);
                residual = b.g.get_rows(residual, self.out);
            }
            if let Some(name) = self.style.post_attention {
                cur = b.layer_norm(cur, il, name, self.style.norm);
            }
            cur = scaled(b, cur, self.style.residual_scale, "residual_scale");
            let ffn_inp = b.g.add(cur, residual);
            cur = self.feed_forward(b, ffn_inp, il);
            cur = scaled(b, cur, self.style.residual_scale, "residual_scale");
            self.inp = if self.style.residual_first { b.g.add(ffn_inp, cur) } else { b.g.add(cur, ffn_inp) };
        }
        let normed = if self.style.bare_norms {
            let cur = b.norm(self.inp, None, None, self.style.norm, None);
            b.embd = Some(cur);
            cur
        } else {
            b.output_norm(self.inp, self.style.norm)
        };
        let mut logits = b.head(normed);
        logits = scaled(b, logits, self.style.logit_scale, "logit_scale");
        if applies(b, self.style.logit_cap, "final_logit_softcapping") {
            logits = b.soft_cap(logits);
        }
        b.finish(logits);
    }

    fn attention(&self, b: &mut Build<'_>, il: usize) -> Id {
        let style = self.style;
        let cur = match (style.pre_norm, style.bare_norms) {
            (false, _any) => self.inp,
            (true, true) => b.norm(self.inp, None, None, style.norm, Some(il)),
            (true, false) => b.layer_norm(self.inp, il, "attn_norm", style.norm),
        };
        let heads = b.layer_heads(il);
        let mut qkv = match style.qk_norm {
            QkNorm::Rows => rows_normed(b, cur, il, heads, style.norm),
            QkNorm::Heads | QkNorm::Rotated => b.qkv(cur, il, heads),
        };
        if style.qk_norm == QkNorm::Heads {
            qkv = heads_normed(b, qkv, il, style.norm);
        }
        if self.rotates(b, il) {
            let factors = b.rope_factors(il);
            qkv.q = b.rope(qkv.q, self.pos, factors);
            qkv.k = b.rope(qkv.k, self.pos, factors);
        }
        if style.qk_norm == QkNorm::Rotated {
            qkv = heads_normed(b, qkv, il, style.norm);
        }
        if style.scaled_queries {
            qkv.q = b.g.scale(qkv.q);
        }
        if let Some(temperature) = self.temperature {
            qkv.q = b.g.mul(qkv.q, temperature);
        }
        let wo = b.wo(il);
        b.attn(&self.attn, qkv, wo, il)
    }

    fn rotates(&self, b: &Build<'_>, il: usize) -> bool {
        let hparams = b.model.hparams;
        match self.style.rope {
            Rope::All => true,
            Rope::Never => false,
            Rope::SkipsFourth => !(il + 1).is_multiple_of(4),
            Rope::Windowed => hparams.is_swa(il) || hparams.swa == Swa::None,
            Rope::OfThirtyTwo => hparams.main_layers() == 32,
            Rope::OfFile => b.model.gguf.flag("rope.scaling.finetuned").ok().flatten().unwrap_or(true),
        }
    }

    fn feed_forward(&self, b: &mut Build<'_>, ffn_inp: Id, il: usize) -> Id {
        let style = self.style;
        let cur = match (style.ffn_norm, style.bare_norms) {
            (None, _any) => ffn_inp,
            (Some(_), true) => b.norm(ffn_inp, None, None, style.norm, Some(il)),
            (Some(name), false) => b.layer_norm(ffn_inp, il, name, style.norm),
        };
        let cur = if style.experts && b.opt(il, "ffn_gate_inp.weight").is_some() {
            super::llama::experts(b, cur, il)
        } else {
            b.ffn(cur, il, style.act, style.gate)
        };
        match style.post_ffn {
            None => cur,
            Some(name) => {
                let weight = b.w(il, &format!("{name}.weight"));
                b.norm(cur, Some(weight), None, style.norm, style.post_ffn_tied.then_some(il))
            }
        }
    }
}

fn applies(b: &Build<'_>, scale: Scale, key: &str) -> bool {
    match scale {
        Scale::Never => false,
        Scale::OfFile => b.has_scale(key),
        Scale::Always => true,
    }
}

fn scaled(b: &mut Build<'_>, cur: Id, scale: Scale, key: &str) -> Id {
    if applies(b, scale, key) { b.g.scale(cur) } else { cur }
}

/// Norms queries and keys per head, where the file has the weights.
pub fn heads_normed(b: &mut Build<'_>, mut qkv: Qkv, il: usize, norm: Norm) -> Qkv {
    if b.opt(il, "attn_q_norm.weight").is_some() {
        qkv.q = b.layer_norm(qkv.q, il, "attn_q_norm", norm);
    }
    if b.opt(il, "attn_k_norm.weight").is_some() {
        qkv.k = b.layer_norm(qkv.k, il, "attn_k_norm", norm);
    }
    qkv
}

fn rows_normed(b: &mut Build<'_>, cur: Id, il: usize, heads: Heads, norm: Norm) -> Qkv {
    let rows = b.qkv_rows(cur, il, heads);
    let q = b.layer_norm(rows.q, il, "attn_q_norm", norm);
    let k = b.layer_norm(rows.k, il, "attn_k_norm", norm);
    let tokens = b.g.ne(q)[1];
    Qkv {
        q: b.g.reshape_3d(q, heads.dim_q, heads.count_q, tokens),
        k: b.g.reshape_3d(k, heads.dim_k, heads.count_k, tokens),
        v: b.g.reshape_3d(rows.v, heads.dim_v, heads.count_v, tokens),
    }
}
