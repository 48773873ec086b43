//! How does a launch divide the model? Over how many ranks each kind of matrix goes, whose tokens meet there, and what
//! one rank holds of a tensor.

use plimsoll_facts::model::Model;
use plimsoll_facts::tensor::{Matrix, Role, Split, Tensor};
use plimsoll_plan::engine::stored::Piece;
use plimsoll_plan::{Batching, Plan, Version};

use super::stored::input_bytes;
use crate::Format;

/// Which activations a kernel of its own narrows to 8 bits, where scales are those of tensors or tokens; scales of blocks are
/// always a kernel's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Narrow {
    /// All (SGLang 0.5.9 `srt/layers/quantization/fp8_utils.py`).
    #[default]
    Everywhere,
    /// Those that come from attention: norms and activations are compiled together with the narrowing of what they write
    /// (vLLM 0.19.0 `config/vllm.py`, `enable_norm_fusion` and `enable_act_fusion`, and Inductor itself).
    AfterMixers,
    /// Those that come from norms: attention and activations write 8 bits themselves (TensorRT-LLM 1.0
    /// `_torch/modules/attention.py`, `_torch/modules/gated_mlp.py`).
    AfterNorms,
}

impl Narrow {
    /// Whether the inputs of a product are narrowed by a kernel of their own.
    pub(super) fn launches(self, product: &str, format: Format) -> bool {
        let after_mixer = matches!(product, "o_proj" | "out_proj");
        let after_norm = !after_mixer && !matches!(product, "down_proj" | "shared_down_proj");
        match self {
            Narrow::AfterMixers if format == Format::Fp8 => after_mixer,
            Narrow::AfterNorms if format == Format::Fp8 => after_norm,
            Narrow::Everywhere | Narrow::AfterMixers | Narrow::AfterNorms => input_bytes(format) < 2.0,
        }
    }
}

/// How an engine runs what the model describes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Habits {
    /// Whether query, key and value projections are one product, gate and up too, and norms, activations and rotary
    /// embeddings a kernel each.
    pub(super) fused: bool,
    /// Whether latent attention's two first projections are one product.
    ///
    /// vLLM 0.10.2, SGLang 0.4.6 `models/deepseek_v2.py` (`fused_qkv_a_proj`); TensorRT-LLM 1.0 `_torch/modules/attention.py`
    /// (`kv_a_proj_with_mqa` holds both).
    pub(super) fused_latent: bool,
    /// Whether absorbed products of 8-bit projections run in 8 bits (SGLang 0.5.9 `models/deepseek_v2.py`, `w_kc`;
    /// TensorRT-LLM 1.0 `_torch/modules/attention.py`, `k_b_proj_trans`), not in 16 (vLLM 0.19.0 `mla_attention.py`).
    pub(super) absorbed_fp8: bool,
    /// Whether a pipeline's stages work on several micro-batches at once. Where not, one rank's turn follows another's.
    pub(super) pipelined: bool,
    /// Which activations a kernel of its own narrows.
    pub(super) narrow: Narrow,
    /// Whether rotary embedding and the cache's writing are one kernel (TensorRT-LLM 1.0
    /// `kernels/unfusedAttentionKernels`: queries, keys and values are prepared together).
    pub(super) writes_rotated: bool,
    /// Tensors that a stage hands on per token: hidden states, and residuals where they are kept apart.
    pub(super) sent: f64,
}

impl Habits {
    pub(super) fn of(plan: &Plan) -> Habits {
        let serving = Habits {
            fused: true,
            fused_latent: true,
            absorbed_fp8: true,
            pipelined: true,
            narrow: Narrow::Everywhere,
            writes_rotated: false,
            sent: 2.0,
        };
        match plan.engine {
            "vllm" => Habits {
                fused_latent: plan.version >= Version::new(0, 10, 0),
                absorbed_fp8: false,
                narrow: if plan.version >= Version::new(0, 8, 0) { Narrow::AfterMixers } else { Narrow::Everywhere },
                ..serving
            },
            "sglang" => serving,
            "tensorrt-llm" => Habits { narrow: Narrow::AfterNorms, writes_rotated: true, ..serving },
            _ => Habits {
                fused: false,
                fused_latent: false,
                absorbed_fp8: false,
                pipelined: false,
                sent: 1.0,
                ..serving
            },
        }
    }
}

/// Ranks by kind of matrix, and how many workers' tokens each kind sees.
///
/// SGLang 0.5.23 `srt/layers/dp_attention.py`: data-parallel attention divides requests over workers and gathers their
/// tokens for dense blocks, experts and the output projection. TensorRT-LLM 1.0 `_torch/models/modeling_deepseekv3.py`: with
/// attention data parallelism all but the experts is whole on each rank. vLLM 0.19.0
/// `layers/fused_moe/config.py` (`FusedMoEParallelConfig.make`): experts are divided over the ranks of all replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Division {
    /// Ranks of attention and recurrent mixers.
    pub(super) attention: u64,
    /// Ranks of dense blocks and shared experts.
    pub(super) dense: u64,
    /// Workers whose tokens meet in dense blocks.
    pub(super) dense_workers: f64,
    /// Ranks of the output projection.
    pub(super) head: u64,
    /// Workers whose tokens meet in it.
    pub(super) head_workers: f64,
    /// Ranks over which an expert is divided.
    pub(super) experts_tp: u64,
    /// Ranks over which whole experts are spread.
    pub(super) experts_ep: u64,
    /// Workers whose tokens meet in the experts.
    pub(super) experts_workers: f64,
    /// Ranks that deal a sequence's tokens among them.
    pub(super) dealt: u64,
    /// Ranks over which the rows of whole matrices are divided, attention staying on one (llama.cpp's `--split-mode row`).
    pub(super) rows: u64,
    /// Pipeline stages.
    pub(super) stages: u64,
    /// Part of the layers that the fullest stage holds.
    pub(super) part: f64,
}

impl Division {
    pub(super) fn of(model: &Model, plan: &Plan, habits: Habits) -> Division {
        let at_least = |count: u32| u64::from(count.max(1));
        let (tp, pp, dp) = (at_least(plan.parallel.tp), at_least(plan.parallel.pp), at_least(plan.parallel.dp));
        let ep = at_least(plan.parallel.ep);
        let layers = (model.layers.len() as u64).max(1);
        let stages = if habits.pipelined { pp } else { 1 };
        let (rows, tp) = if habits.fused { (1, tp) } else { (tp, 1) };
        let plain = Division {
            attention: tp,
            dense: tp,
            dense_workers: 1.0,
            head: tp,
            head_workers: 1.0,
            experts_tp: (tp / ep).max(1),
            experts_ep: ep,
            experts_workers: 1.0,
            dealt: 1,
            rows,
            stages,
            part: layers.div_ceil(stages) as f64 / layers as f64,
        };
        match &plan.batching {
            Some(Batching::Sglang(batching)) => {
                let workers = batching.workers.clamp(1, tp);
                let many = workers as f64;
                Division {
                    attention: (tp / workers).max(1),
                    dense_workers: many,
                    head_workers: many,
                    experts_workers: many,
                    ..plain
                }
            }
            Some(Batching::TensorRtLlm(batching)) if batching.attention_dp => {
                Division { attention: 1, dense: 1, head: 1, experts_workers: tp as f64, ..plain }
            }
            Some(Batching::Vllm(batching)) => {
                let all = tp.saturating_mul(dp);
                let spread = if ep > 1 { (1, ep) } else { (all, 1) };
                Division {
                    experts_tp: spread.0,
                    experts_ep: spread.1,
                    experts_workers: dp as f64,
                    dealt: u64::from(batching.context_ranks.max(1)),
                    ..plain
                }
            }
            Some(Batching::TensorRtLlm(_)) | None => plain,
        }
    }

    /// Ranks over which a tensor is divided, experts' spreading aside.
    pub(super) fn ways(&self, role: Role) -> u64 {
        match role {
            // SGLang 0.5.23 `srt/layers/vocab_parallel_embedding.py`: embeddings lie with attention.
            Role::Attention | Role::Recurrent | Role::RecurrentState | Role::Norm | Role::Embedding => self.attention,
            Role::Mlp | Role::SharedExpert => self.dense,
            Role::LmHead => self.head,
            Role::Experts => self.experts_tp,
            Role::Positions | Role::Router | Role::Tower | Role::Other => 1,
        }
    }
}

/// Returns the stack of matrices that a tensor is, also where no quantiser would take it.
pub(super) fn matrix(tensor: &Tensor) -> Option<Matrix> {
    match (tensor.matrix, tensor.shape.as_slice()) {
        (Some(matrix), _) => Some(matrix),
        (None, [outputs, inputs]) => Some(Matrix { copies: 1, outputs: *outputs, inputs: *inputs }),
        (None, _) => None,
    }
}

/// Whether a tensor is divided along its inputs, so that the ranks' results are added up.
pub(super) fn by_inputs(tensor: &Tensor, transposed: bool) -> bool {
    let Some(matrix) = matrix(tensor) else { return false };
    let Split::Even { dim } = tensor.split else { return false };
    let at = usize::from(dim);
    if tensor.shape.len() > 2 {
        return tensor.shape.get(at) == Some(&matrix.inputs) && at + 1 == tensor.shape.len();
    }
    match tensor.shape.as_slice() {
        [rows, columns] if rows == columns => at == usize::from(!transposed),
        [rows, _] if *rows == matrix.inputs => at == 0,
        _ => at == 1,
    }
}

/// What a rank holds of one tensor when it is divided over `ranks`; what does not divide is rounded up.
pub(super) fn share(tensor: &Tensor, ranks: u64, transposed: bool) -> Option<Piece> {
    let matrix = matrix(tensor)?;
    let whole = Piece { outputs: matrix.outputs, inputs: matrix.inputs, copies: matrix.copies };
    let size = |dim: u8| tensor.shape.get(usize::from(dim)).copied().unwrap_or(1).max(1);
    let scaled = |number: u64, part: u64, of: u64| {
        (u128::from(number) * u128::from(part)).div_ceil(u128::from(of.max(1))).try_into().unwrap_or(u64::MAX)
    };
    let (part, of) = match tensor.split {
        Split::Whole => return Some(whole),
        Split::Even { .. } => (1, ranks),
        Split::KvHeads { heads, .. } => (u64::from(heads).div_ceil(ranks), u64::from(heads)),
        Split::Qkv { heads, kv_heads, .. } => {
            let (heads, kv_heads) = (u64::from(heads), u64::from(kv_heads));
            (heads.div_ceil(ranks) + 2 * kv_heads.div_ceil(ranks), heads + 2 * kv_heads)
        }
        Split::Vocabulary { dim } => (size(dim).next_multiple_of(64).div_ceil(ranks), size(dim)),
    };
    Some(match by_inputs(tensor, transposed) {
        true => Piece { inputs: scaled(whole.inputs, part, of), ..whole },
        // A stack of fused matrices is divided inside each of them.
        false => Piece { outputs: scaled(whole.outputs, part, of), ..whole },
    })
}
