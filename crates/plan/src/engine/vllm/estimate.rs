//! What does vLLM need beside weights and KV cache? Its profile run, sampler, libraries and graphs, as formulas from its
//! source with the few constants that only a running GPU knows fitted on many logged launches.

use plimsoll_facts::model::{Ffn, Mixer, Model};
use plimsoll_facts::tensor::DType;
use plimsoll_units::Bytes;

use crate::{Card, Entry, Parallel, Version};

mod activation;
mod fitted;
mod outside;

/// A launch as far as the estimates depend on it, defaults resolved.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The model.
    pub model: &'a Model,
    /// vLLM's release.
    pub version: Version,
    /// Whether the V1 engine runs (always from 0.11).
    pub v1: bool,
    /// How the model is divided.
    pub parallel: Parallel,
    /// The pipeline stage that is estimated: `0..parallel.pp`.
    pub pp_rank: u32,
    /// Decoder layers of that stage.
    pub layers: std::ops::Range<u32>,
    /// The card.
    pub card: &'a Card,
    /// Longest sequence served.
    pub max_model_len: u64,
    /// Most tokens of one step.
    pub max_num_batched_tokens: u64,
    /// Most sequences of one step.
    pub max_num_seqs: u64,
    /// Whether prompts may be cut over several steps (decides V0's profile).
    pub chunked_prefill: bool,
    /// No CUDA graphs and no compilation.
    pub enforce_eager: bool,
    /// Dtype of activations and unquantised weights.
    pub dtype: DType,
    /// Dtype of the KV cache's entries.
    pub kv_dtype: DType,
    /// Weights of the rank after loading.
    pub weights: Bytes,
    /// Tokens drafted per step, zero without speculation.
    pub speculative_tokens: u32,
    /// LoRA adapters that may be in use at once, zero without LoRA.
    pub max_loras: u32,
    /// What the profile run does with towers.
    pub multimodal: Multimodal,
    /// Sizes captured as graphs (see the defaults), empty when eager.
    pub capture_sizes: &'a [u64],
    /// Whether model runner V2 runs, by default or by `VLLM_USE_V2_MODEL_RUNNER`.
    pub runner_v2: bool,
    /// Whether the budget subtracts an estimate of the graphs: `VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`, or `None` for
    /// the version's default (on from 0.20).
    pub estimate_graphs: Option<bool>,
}

/// What of a launch decides by which launches its memory outside the framework is measured.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Whether the V1 engine runs.
    pub v1: bool,
    /// vLLM's release.
    pub version: Version,
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Pipeline stages.
    pub pp: u32,
    /// Whether the card has 70 GiB or more.
    pub large: bool,
    /// Whether the card is of compute capability 9.
    pub hopper: bool,
    /// Whether CPU and GPU share the memory.
    pub unified: bool,
    /// Whether the card is AMD's or Intel's, whose libraries take more.
    pub other_vendor: bool,
    /// Whether graphs are captured on trial while memory is profiled: not when eager, nor by model runner V2 before 0.30.
    pub trial: bool,
}

/// A constant that logged launches gave.
#[derive(Clone, Copy, Debug)]
pub struct Fitted {
    /// The launches that it was taken from.
    pub class: &'static str,
    /// Low end of the 90% interval; a factor of the formula where `middle` is one, else GiB or the class's unit.
    pub low: f64,
    /// The value.
    pub middle: f64,
    /// High end.
    pub high: f64,
}

/// Returns every constant that logged launches gave, as committed.
pub fn fitted() -> Vec<Fitted> {
    fitted::all()
}

/// What the profile run does with towers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Multimodal {
    /// `--language-model-only`, or every limit zero: no tower runs (and none is loaded).
    pub language_model_only: bool,
    /// `--skip-mm-profiling`: towers are loaded but not profiled.
    pub skip_profiling: bool,
    /// Images allowed per prompt (`--limit-mm-per-prompt`), where said.
    pub images: Option<u64>,
}

/// What one rank needs beside weights and KV cache. Every entry has its interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimates {
    /// The profile run's peak above weights (what logs call the activation peak), without the graphs.
    pub activation: Entry,
    /// Memory outside torch's allocator that the budget is charged with.
    pub non_torch: Entry,
    /// What this version subtracts from the budget for graphs: zero before 0.20 and with model runner V2.
    pub graphs_applied: Entry,
    /// What graphs take once captured; what exceeds `graphs_applied` comes out of the share that the engine leaves alone.
    pub graphs_actual: Entry,
    /// Persistent buffers that this version charges beside the activation peak (from 0.27), else zero.
    pub buffers: Entry,
}

impl Estimates {
    /// Returns the entries that the KV budget is charged with, in the ledger's order.
    pub fn charged(&self) -> [&Entry; 4] {
        [&self.activation, &self.buffers, &self.non_torch, &self.graphs_applied]
    }
}

/// Returns the group of launches by which the budget's interval is measured.
pub fn group(launch: &Launch<'_>) -> &'static str {
    let plain = !activation::unusual(launch) && !crate::interval::other_vendor(launch.card);
    match (launch.v1, plain) {
        (true, true) => "text models on NVIDIA, V1",
        (true, false) => "towers, latent or recurrent layers, other cards, V1",
        (false, true) => "text models on NVIDIA, V0",
        (false, false) => "towers, latent or recurrent layers, other cards, V0",
    }
}

/// Estimates what one rank needs beside weights and KV cache.
pub fn estimate(launch: &Launch<'_>) -> Estimates {
    Estimates {
        activation: activation::entry(launch),
        non_torch: outside::non_torch(launch),
        graphs_applied: outside::graphs_applied(launch),
        graphs_actual: outside::graphs_actual(launch),
        buffers: outside::buffers(launch),
    }
}

/// Whether a release runs model runner V2 for a model when nobody asks for either (config/vllm.py, use_v2_model_runner):
/// unquantised Qwen3 from 0.22, text models without recurrent layers and few mixtures of experts from 0.25, all
/// that it supports from 0.30.
pub fn default_runner_v2(model: &Model, version: Version) -> bool {
    const EXPERTS: [&str; 4] =
        ["DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "LongcatFlashNgramForCausalLM", "Qwen2MoeForCausalLM"];
    let experts = model.layers.iter().any(|layer| matches!(layer.ffn, Ffn::Moe { .. }));
    let hybrid = model.layers.iter().any(|layer| matches!(layer.mixer, Mixer::Recurrent(_)));
    if version >= Version::new(0, 30, 0) {
        true
    } else if version >= Version::new(0, 25, 0) {
        !hybrid && (!experts || EXPERTS.contains(&model.architecture.as_str()))
    } else {
        version >= Version::new(0, 22, 0) && model.architecture == "Qwen3ForCausalLM" && model.quant.is_none()
    }
}
