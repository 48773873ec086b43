//! How is a mixture of experts built? (`build_moe_ffn`)

use super::ffn::scales;
use super::{Act, Build, Id};
use crate::engine::llamacpp::graph::tensor::{Op, Unary};

/// How router logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts.
    Softmax,
    /// A sigmoid each.
    Sigmoid,
    /// Softmax over the chosen experts, after choosing by the logits.
    SoftmaxChosen,
    /// √softplus each.
    SqrtSoftplus,
}

impl Gating {
    /// The function of that id (`expert_gating_func`).
    #[must_use]
    pub fn from_id(id: u64) -> Option<Self> {
        match id {
            1 => Some(Self::Softmax),
            2 => Some(Self::Sigmoid),
            3 => Some(Self::SoftmaxChosen),
            4 => Some(Self::SqrtSoftplus),
            _other => None,
        }
    }
}

/// A layer's experts.
#[derive(Clone, Copy, Debug)]
pub struct Moe {
    /// Routed experts.
    pub experts: u64,
    /// Experts per token.
    pub used: u64,
    /// Activation.
    pub act: Act,
    /// Whether the chosen weights are normalised.
    pub norm: bool,
    /// Whether they are scaled (a scale other than 0 and 1).
    pub scale: bool,
    /// How weights come from logits.
    pub gating: Gating,
    /// Whether the router's bias is added before choosing (`exp_probs_b`).
    pub biased_choice: bool,
    /// Logits made elsewhere.
    pub logits: Option<Id>,
    /// Whether tokens are weighted before the experts (Llama-4).
    pub weight_before: bool,
}

impl Build<'_> {
    /// The experts of a layer, read from its `*_exps` tensors.
    pub fn moe(&mut self, cur: Id, il: usize, moe: Moe) -> Id {
        let (embd, tokens) = (self.g.ne(cur)[0], self.g.ne(cur)[1]);
        let (chosen, weights) = self.route(cur, il, moe);
        self.g.expand(weights);
        let mut cur = self.g.reshape_3d(cur, embd, 1, tokens);
        if moe.weight_before {
            let repeated = self.g.repeat(cur, [embd, moe.used, tokens, 1]);
            cur = self.g.mul(repeated, weights);
        }
        let mut experts = self.expert_block(cur, il, moe, chosen);
        if !moe.weight_before {
            experts = self.g.mul(experts, weights);
        }
        self.g.expand(experts);
        self.sum_of_experts(experts, moe.used)
    }

    /// Chooses experts: their ids and weights.
    fn route(&mut self, cur: Id, il: usize, moe: Moe) -> (Id, Id) {
        let tokens = self.g.ne(cur)[1];
        let mut logits = match moe.logits {
            Some(logits) => logits,
            None => {
                let router = self.w(il, "ffn_gate_inp.weight");
                self.g.mul_mat(router, cur)
            }
        };
        if let Some(bias) = self.opt(il, "ffn_gate_inp.bias") {
            logits = self.g.add(logits, bias);
        }
        let probabilities = match moe.gating {
            Gating::Softmax => self.g.soft_max(logits),
            Gating::Sigmoid => self.g.unary(logits, Unary::Sigmoid),
            Gating::SoftmaxChosen => logits,
            Gating::SqrtSoftplus => {
                let soft = self.g.unary(logits, Unary::Softplus);
                self.g.sqrt(soft)
            }
        };
        let mut choice = probabilities;
        if moe.biased_choice
            && let Some(bias) = self.opt(il, "exp_probs_b.bias")
        {
            choice = self.g.add(probabilities, bias);
        }
        if moe.weight_before {
            choice = logits;
        }
        let hparams = self.model.hparams;
        if hparams.expert_groups > 1 && tokens > 0 {
            choice = self.mask_groups(choice, moe.experts, tokens);
        }
        let chosen = self.g.argsort_top_k(choice, moe.used);
        let shaped = self.g.reshape_3d(probabilities, 1, moe.experts, tokens);
        let weights = self.g.get_rows(shaped, chosen);
        (chosen, self.finish_weights(weights, moe, tokens))
    }

    fn finish_weights(&mut self, mut weights: Id, moe: Moe, tokens: u64) -> Id {
        if moe.gating == Gating::SoftmaxChosen {
            let flat = self.g.reshape_2d(weights, moe.used, tokens);
            let soft = self.g.soft_max(flat);
            weights = self.g.reshape_3d(soft, 1, moe.used, tokens);
        }
        if moe.norm {
            let flat = self.g.reshape_2d(weights, moe.used, tokens);
            let sum = self.g.sum_rows(flat);
            let sum = self.g.clamp(sum);
            let divided = self.g.div(flat, sum);
            weights = self.g.reshape_3d(divided, 1, moe.used, tokens);
        }
        if moe.scale { self.g.scale(weights) } else { weights }
    }

    /// Leaves only the best groups of experts to choose from.
    fn mask_groups(&mut self, choice: Id, experts: u64, tokens: u64) -> Id {
        let (groups, used) = (self.model.hparams.expert_groups, self.model.hparams.groups_used);
        let per_group = experts / groups.max(1);
        let grouped = self.g.reshape_3d(choice, per_group, groups, tokens);
        let best = self.g.argsort_top_k(grouped, 2);
        let single = self.g.reshape(grouped, [1, per_group, groups, tokens]);
        let scores = self.g.get_rows(single, best);
        let [_, two, n, t] = self.g.ne(scores);
        let scores = self.g.reshape_3d(scores, two, n, t);
        let scores = self.g.sum_rows(scores);
        let scores = self.g.reshape_2d(scores, n, t);
        let top = self.g.argsort_top_k(scores, used);
        let rows = self.g.get_rows(grouped, top);
        let empty = self.g.fill(grouped);
        let masked = self.g.set_rows(empty, rows, top);
        self.g.reshape_2d(masked, experts, tokens)
    }

    /// Up, gate, activation, down of the chosen experts.
    fn expert_block(&mut self, cur: Id, il: usize, moe: Moe, chosen: Id) -> Id {
        let joined = self.opt(il, "ffn_gate_up_exps.weight").is_some();
        let (gate, up, gated) = if joined {
            let both = self.expert_half(cur, il, "ffn_gate_up_exps", chosen).unwrap_or(cur);
            let (ne, nb) = (self.g.ne(both), self.g.nb(both));
            let half = ne[0] / 2;
            let sides = [half, ne[1], ne[2]];
            let gate = self.g.view_3d(both, sides, [nb[1], nb[2]], 0);
            let up = self.g.view_3d(both, sides, [nb[1], nb[2]], half.saturating_mul(nb[0]));
            (gate, up, true)
        } else {
            let up = self.expert_half(cur, il, "ffn_up_exps", chosen).unwrap_or(cur);
            match self.expert_half(cur, il, "ffn_gate_exps", chosen) {
                Some(gate) => (gate, up, true),
                None => (up, up, false),
            }
        };
        let cur = match moe.act {
            Act::Silu if gated && !joined && self.clamps("swiglu_clamp_exp", il) => self.clamped(gate, up),
            Act::SwigluOai => self.g.glu_split(gate, up),
            Act::Silu | Act::Gelu | Act::Relu if gated => self.g.glu_split(gate, up),
            Act::Silu | Act::Swiglu => self.g.unary(gate, Unary::Silu),
            Act::Gelu | Act::Geglu => self.g.unary(gate, Unary::Gelu),
            Act::Relu | Act::Reglu => self.g.unary(gate, Unary::Relu),
            Act::ReluSqr => {
                let cur = self.g.unary(gate, Unary::Relu);
                self.g.sqr(cur)
            }
        };
        match self.expert_half(cur, il, "ffn_down_exps", chosen) {
            Some(down) => {
                let tensor = &mut self.g.tensors[down.index()];
                if self.model.hparams.arch == "mistral4" && matches!(tensor.op, Op::MulMatId { .. }) {
                    // Its source can be too large for F16.
                    tensor.op = Op::MulMatId { full_precision_source: true };
                }
                down
            }
            None => self.missing(format!("blk.{il}.ffn_down_exps.weight")),
        }
    }

    /// One matrix of the chosen experts, its scale and bias (`build_lora_mm_id`).
    pub fn expert_half(&mut self, cur: Id, il: usize, name: &str, chosen: Id) -> Option<Id> {
        let weight = self.opt(il, &format!("{name}.weight"))?;
        let mut product = self.g.mul_mat_id(weight, cur, chosen);
        let scaled = if name == "ffn_gate_up_exps" { "ffn_up_exps" } else { name };
        if scales(&self.model.hparams.arch, name)
            && let Some(scale) = self.opt(il, &format!("{scaled}.scale"))
        {
            let (experts, tokens) = (self.g.ne(scale)[0], self.g.ne(cur)[2]);
            let shaped = self.g.reshape_3d(scale, 1, experts, 1);
            let repeated = self.g.repeat(shaped, [1, experts, tokens, 1]);
            let picked = self.g.get_rows(repeated, chosen);
            product = self.g.mul(product, picked);
        }
        if let Some(bias) = self.opt(il, &format!("{name}.bias")) {
            product = self.g.add_id(product, bias, chosen);
        }
        Some(product)
    }

    /// Adds the experts' results up, one view each.
    fn sum_of_experts(&mut self, experts: Id, used: u64) -> Id {
        let (ne, nb) = (self.g.ne(experts), self.g.nb(experts));
        let mut views = Vec::new();
        for at in 0..used.min(1024) {
            let view = self.g.view_2d(experts, [ne[0], ne[2]], nb[2], at.saturating_mul(nb[1]));
            self.g.expand(view);
            views.push(view);
        }
        let Some((&first, rest)) = views.split_first() else { return experts };
        let mut sum = first;
        for &view in rest {
            sum = self.g.add(sum, view);
            self.g.expand(sum);
        }
        if rest.is_empty() { self.g.cont(sum) } else { sum }
    }
}
