//! Which products does a layer run? Its matrices, fused as the engine does, under the names that engines use.

use plimsoll_facts::model::{Mixer, Span};
use plimsoll_facts::tensor::{Role, Split, Tensor};
use plimsoll_plan::engine::stored::Piece;

use super::build::{Builder, HALF};
use super::divide::{by_inputs, share};
use super::line::{Of, What};
use super::stored::input_bytes;
use crate::Format;

/// A product of a layer being put together.
pub(super) struct Product {
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// The module that it lies in, so that what is alike in other modules is not fused with it.
    pub(super) parent: String,
    pub(super) n: u64,
    pub(super) k: u64,
    pub(super) format: Format,
    pub(super) weights: f64,
    /// Whether the ranks' results are added up.
    pub(super) summed: bool,
}

impl Builder<'_> {
    /// The products of a layer, fused as the engine does.
    pub(super) fn products(&self, at: usize, layer: u32) -> Vec<Product> {
        let crossed =
            matches!(&self.model.layers[at].mixer, Mixer::Attention(attention) if attention.span == Span::Cross);
        let mut list: Vec<Product> = Vec::new();
        for tensor in &self.by_layer[at] {
            let module = module(&tensor.name);
            // Keys and values of an encoder's output are made once, when it is seen.
            if !multiplies(tensor)
                || (crossed && tensor.role == Role::Attention && matches!(module, "k_proj" | "v_proj"))
            {
                continue;
            }
            let Some(product) = self.one(tensor, Some(layer)) else { continue };
            let same = |other: &&mut Product| {
                other.name == product.name
                    && other.role == product.role
                    && other.parent == product.parent
                    && other.k == product.k
                    && other.format == product.format
            };
            let fuses = match product.name {
                "qkv_proj" | "gate_up_proj" | "shared_gate_up_proj" | "in_proj_qkvz" | "in_proj_ba" => {
                    self.habits.fused
                }
                "qkv_a_proj" => self.habits.fused_latent,
                _ => false,
            };
            match list.iter_mut().find(same).filter(|_| fuses && !product.summed) {
                Some(other) => {
                    other.n = other.n.saturating_add(product.n);
                    other.weights += product.weights;
                }
                None => list.push(product),
            }
        }
        list
    }

    /// A tensor as a product of its own.
    pub(super) fn one(&self, tensor: &Tensor, layer: Option<u32>) -> Option<Product> {
        let Piece { outputs, inputs, copies } = share(tensor, self.division.ways(tensor.role), self.transposed)?;
        let outputs = outputs.div_ceil(self.division.rows);
        let (format, weights) = self.storage.held(tensor, layer, Piece { outputs, inputs, copies });
        let summed = by_inputs(tensor, self.transposed);
        let dot = tensor.name.rfind(module(&tensor.name)).unwrap_or(0);
        Some(Product {
            name: name(tensor, summed),
            role: tensor.role,
            parent: tensor.name.get(..dot).unwrap_or_default().to_owned(),
            n: outputs.saturating_mul(copies),
            k: inputs,
            format,
            weights,
            summed,
        })
    }

    /// Adds a product, and the kernel that narrows its inputs where they are narrower than the stream.
    pub(super) fn product(&mut self, product: &Product, workers: f64) {
        let Product { n, k, format, weights, .. } = *product;
        let narrow = input_bytes(format);
        if self.habits.narrow.launches(product.name, format) {
            let what = What::Stream { read: k as f64 * HALF, written: k as f64 * narrow, weights: 0.0, launches: 1.0 };
            self.push("quantise", self.division.part, Of::Tokens, workers, what);
        }
        self.push(product.name, self.division.part, Of::Tokens, workers, What::Gemm { n, k, format, weights });
    }
}

/// The module that a tensor's name ends with: `q_proj` of `model.layers.{i}.self_attn.q_proj.weight`.
fn module(name: &str) -> &str {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    name.rsplit('.').next().unwrap_or(name)
}

/// Whether a token is multiplied with a tensor, routed experts aside.
fn multiplies(tensor: &Tensor) -> bool {
    match tensor.role {
        Role::Attention | Role::Recurrent | Role::Mlp | Role::Router | Role::SharedExpert => {
            tensor.parameter && tensor.shape.len() == 2 && !tensor.name.ends_with("tid2eid")
        }
        // Mixing matrices of residual streams, projections of per-layer inputs: matrices, not vectors in disguise.
        Role::Other => tensor.parameter && tensor.shape.len() == 2 && tensor.shape.iter().all(|size| *size > 1),
        Role::LmHead | Role::Experts | Role::Embedding | Role::Positions | Role::Norm => false,
        Role::RecurrentState | Role::Tower => false,
    }
}

/// The name under which a product is shown; those that fuse share one.
fn name(tensor: &Tensor, summed: bool) -> &'static str {
    let last = module(&tensor.name);
    match (tensor.role, last) {
        (Role::Attention | Role::Recurrent, "in_proj_qkv" | "in_proj_z" | "in_proj_qkvz") => "in_proj_qkvz",
        (Role::Attention | Role::Recurrent, "in_proj_b" | "in_proj_a" | "in_proj_ba") => "in_proj_ba",
        (Role::Attention, _) if tensor.name.contains("indexer") => "indexer_proj",
        (Role::Attention, "q_a_proj" | "kv_a_proj_with_mqa" | "attn_q_a" | "attn_kv_a_mqa") => "qkv_a_proj",
        (Role::Attention, "q_b_proj" | "attn_q_b") => "q_b_proj",
        (Role::Attention, "kv_b_proj" | "attn_kv_b") => "kv_b_proj",
        (Role::Attention | Role::Recurrent, "q_proj" | "k_proj" | "v_proj") => "qkv_proj",
        (Role::Attention, "attn_q" | "attn_k" | "attn_v" | "attn_qkv") => "qkv_proj",
        (Role::Attention, "attn_output") => "o_proj",
        (Role::Attention, _) if matches!(tensor.split, Split::Qkv { .. }) => "qkv_proj",
        (Role::Attention, _) if summed => "o_proj",
        (Role::Attention, _) => "attention_proj",
        (Role::Recurrent, _) if summed || last == "ssm_out" => "out_proj",
        (Role::Recurrent, _) => "in_proj",
        (Role::Mlp | Role::SharedExpert, "shared_expert_gate" | "ffn_gate_inp_shexp") => "shared_expert_gate",
        (Role::Mlp, _) if summed || last.contains("down") => "down_proj",
        (Role::Mlp, _) => "gate_up_proj",
        (Role::SharedExpert, _) if summed || last.contains("down") => "shared_down_proj",
        (Role::SharedExpert, _) => "shared_gate_up_proj",
        (Role::Router, _) => "router",
        (Role::LmHead | Role::Embedding, _) => "lm_head",
        (Role::Positions | Role::Norm | Role::RecurrentState | Role::Experts | Role::Tower | Role::Other, _) => {
            "mixing"
        }
    }
}
