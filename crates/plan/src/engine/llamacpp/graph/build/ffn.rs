//! How is a dense feed-forward block built? (`build_ffn`)

use plimsoll_facts::gguf::Value;

use super::{Build, Id};
use crate::engine::llamacpp::graph::tensor::Unary;

/// The activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x·σ(x).
    Silu,
    /// Gaussian error.
    Gelu,
    /// max(0, x).
    Relu,
    /// max(0, x)².
    ReluSqr,
    /// Gated by x·σ(x), gate and up in one matrix.
    Swiglu,
    /// Gated by the Gaussian error, gate and up in one matrix.
    Geglu,
    /// Gated by max(0, x), gate and up in one matrix.
    Reglu,
    /// The gated activation of gpt-oss.
    SwigluOai,
}

/// Where a gate reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// From the block's input, beside `up`.
    Parallel,
    /// From `up`'s result.
    Sequential,
}

/// The names of a block's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ffn {
    /// `ffn_up`.
    pub up: &'static str,
    /// `ffn_gate`.
    pub gate: &'static str,
    /// `ffn_down`.
    pub down: &'static str,
}

impl Ffn {
    /// The dense block.
    pub const DENSE: Self = Self { up: "ffn_up", gate: "ffn_gate", down: "ffn_down" };
    /// The shared experts.
    pub const SHARED: Self = Self { up: "ffn_up_shexp", gate: "ffn_gate_shexp", down: "ffn_down_shexp" };
}

impl Build<'_> {
    /// The dense block of a layer.
    pub fn ffn(&mut self, cur: Id, il: usize, act: Act, gate: Gate) -> Id {
        self.ffn_of(cur, il, Ffn::DENSE, act, gate)
    }

    /// A block by its tensors' names; biases, scales and the gate are used where the file has them.
    pub fn ffn_of(&mut self, cur: Id, il: usize, names: Ffn, act: Act, gate: Gate) -> Id {
        let up = self.half(cur, il, names.up).unwrap_or(cur);
        let gated = match gate {
            Gate::Parallel => self.half(cur, il, names.gate),
            Gate::Sequential => self.half(up, il, names.gate),
        };
        let mut parallel = gated.is_some() && gate == Gate::Parallel;
        let input = gated.unwrap_or(up);
        let mut cur = match act {
            Act::Silu if parallel && self.clamps("swiglu_clamp_shexp", il) => {
                parallel = false;
                self.clamped(input, up)
            }
            Act::Silu | Act::Gelu | Act::Relu | Act::SwigluOai if parallel => {
                parallel = false;
                self.g.glu_split(input, up)
            }
            Act::Silu | Act::SwigluOai => self.g.unary(input, Unary::Silu),
            Act::Gelu => self.gelu(input, il),
            Act::Relu => self.g.unary(input, Unary::Relu),
            Act::ReluSqr => {
                let cur = self.g.unary(input, Unary::Relu);
                self.g.sqr(cur)
            }
            Act::Swiglu | Act::Geglu | Act::Reglu => self.g.glu(input),
        };
        if parallel {
            cur = self.g.mul(cur, up);
        }
        match self.half(cur, il, names.down) {
            Some(down) => down,
            None => cur,
        }
    }

    /// Whether the file limits a layer's gated activation under that key.
    pub(super) fn clamps(&self, key: &str, il: usize) -> bool {
        let Some(value) = self.model.gguf.key(key) else { return false };
        let limit = match value.as_array() {
            Some(array) => array.values.get(il).and_then(Value::as_f64),
            None => value.as_f64(),
        };
        limit.is_some_and(|limit| limit > 1e-6)
    }

    /// `SiLU` and gate with both sides limited; newer architectures have one operation for it.
    pub(super) fn clamped(&mut self, gate: Id, up: Id) -> Id {
        if matches!(self.model.hparams.arch.as_str(), "deepseek4" | "glm5-next" | "maple" | "hy_v4") {
            return self.g.glu_split(gate, up);
        }
        let up = self.g.clamp(up);
        let active = self.g.unary(gate, Unary::Silu);
        let active = self.g.clamp(active);
        self.g.mul(active, up)
    }

    fn gelu(&mut self, input: Id, il: usize) -> Id {
        let cur = self.g.unary(input, Unary::Gelu);
        match self.opt(il, "ffn_act.scales") {
            Some(scales) => self.g.div(cur, scales),
            None => cur,
        }
    }

    /// One matrix of the block with its bias, then its scale, where the file has them.
    fn half(&mut self, cur: Id, il: usize, name: &str) -> Option<Id> {
        let weight = self.opt(il, &format!("{name}.weight"))?;
        let mut cur = self.g.mul_mat(weight, cur);
        if let Some(bias) = self.opt(il, &format!("{name}.bias")) {
            cur = self.g.add(cur, bias);
        }
        if scales(&self.model.hparams.arch, name)
            && let Some(scale) = self.opt(il, &format!("{name}.scale"))
        {
            cur = self.g.mul(cur, scale);
        }
        Some(cur)
    }
}

/// Whether an architecture's builder hands on the scale of such a matrix; the others leave it out even where the file has
/// it (src/models/*.cpp: which calls of `build_ffn` and `build_moe_ffn` name `*_s`).
pub(super) fn scales(arch: &str, name: &str) -> bool {
    let both = matches!(arch, "cohere2moe" | "deepseek32" | "dots3note" | "glm-dsa" | "hy_v3");
    if name.ends_with("_exps") {
        let with_experts =
            matches!(arch, "gemma4" | "llama" | "llama-embed" | "mellum" | "mistral3" | "nemotron_h_moe");
        return both || with_experts || matches!(arch, "qwen35moe" | "qwen3moe" | "qwen3next" | "qwen4exp");
    }
    if name.ends_with("_shexp") {
        return both || matches!(arch, "nemotron_h" | "nemotron_h_moe" | "qwen35moe" | "qwen3next" | "qwen4exp");
    }
    let dense = matches!(arch, "bitnet" | "cohere2" | "dflash" | "gemma4" | "llama" | "llama-embed" | "mistral3");
    both || dense || matches!(arch, "nanbeige" | "nemotron_h" | "nemotron_h_moe" | "qwen3" | "qwen35")
}
