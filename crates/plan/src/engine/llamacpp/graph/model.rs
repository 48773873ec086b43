//! What is a graph built from? A model's hyper-parameters and tensors, where its tensors lie, and the context.

use std::collections::HashMap;

use plimsoll_facts::gguf::{GgmlType, Gguf};

use super::device::Device;
use super::tensor::{Kind, Store};
use crate::engine::llamacpp::hparams::Hparams;

/// Where layers run and tensors lie.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Backends: GPUs in the engine's order, the CPU last.
    pub devices: Vec<Device>,
    /// The backend of each layer, drafting layers included; an index into [`Placement::devices`].
    pub layers: Vec<u8>,
    /// The memory of each tensor, in the order of [`Gguf::tensors`].
    pub tensors: Vec<Store>,
    /// The memory of the copy of the token embedding that serves as output where the file has no output matrix.
    pub tied_output: Store,
    /// Whether all layers and the output are on GPUs (`n_gpu_layers > n_layer_all`).
    pub full_offload: bool,
    /// Whether the scheduler keeps copies of inputs: several GPUs, everything on them, split by layers, cache on them,
    /// no tensor overrides.
    pub pipeline: bool,
}

impl Placement {
    /// The CPU's number.
    #[must_use]
    pub fn cpu(&self) -> u8 {
        u8::try_from(self.devices.len().saturating_sub(1)).unwrap_or(u8::MAX)
    }

    /// The backend of a layer.
    #[must_use]
    pub fn layer(&self, il: usize) -> u8 {
        self.layers.get(il).copied().unwrap_or(self.cpu())
    }

    /// The memory that a backend's own weights lie in.
    #[must_use]
    pub fn store_of(&self, backend: u8) -> Store {
        self.devices.get(usize::from(backend)).map_or(Store::Host, |device| device.store(backend))
    }
}

/// Whether attention is one fused operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flash {
    /// Never.
    Off,
    /// Always; where a GPU has no kernel the CPU runs it.
    On,
    /// Where every layer's own device has a kernel.
    Auto,
}

/// How rows of hidden states become one embedding per sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// They do not.
    None,
    /// Their mean.
    Mean,
    /// The first or the last.
    Pick,
    /// A classifier's score.
    Rank,
}

/// A context's settings, resolved as the engine resolves them.
#[derive(Clone, Debug)]
pub struct Context {
    /// Context of all sequences together (`n_ctx`).
    pub tokens: u64,
    /// Tokens of a physical batch (`n_ubatch`).
    pub ubatch: u64,
    /// Most sequences at once (`n_seq_max`).
    pub sequences: u64,
    /// Most rows of logits in a batch (`n_outputs_max`, resolved: never zero).
    pub outputs: u64,
    /// Whether sequences share one cache.
    pub unified: bool,
    /// Fused attention as asked for.
    pub flash: Flash,
    /// Type of cached keys.
    pub kind_k: GgmlType,
    /// Type of cached values.
    pub kind_v: GgmlType,
    /// Cells of a stream in the cache of layers with full attention.
    pub cells: u64,
    /// Cells of a stream in the cache of layers with a window.
    pub cells_swa: u64,
    /// Whether the cache lies where its layers run (`offload_kqv`).
    pub offload_kv: bool,
    /// Whether GPUs take over large products with weights in host memory (`op_offload`).
    pub offload_ops: bool,
    /// Whether embeddings are wanted.
    pub embeddings: bool,
    /// How embeddings are pooled.
    pub pooling: Pooling,
    /// Rows of recurrent state per sequence beyond the first (`n_rs_seq`).
    pub snapshots: u64,
    /// Which version's rules.
    pub rules: Rules,
}

/// What differs between builds of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Masks of fused attention are F16 from the start (since 2026-05-29, 031ddb2e0); before, an F32 input was cast.
    pub half_masks: bool,
    /// CUDA converts a quantised cache in the compute buffer (since 2026-06-03, f8f0a47a5); before, in its pool.
    pub converts_in_buffer: bool,
    /// A quantised cache is rotated (since 2026-04-01).
    pub rotates: bool,
    /// The input may be embeddings in the same graph (since early 2026): one more host tensor.
    pub embedding_input: bool,
    /// Cache rows are written at indices (`set_rows`, since 2025-07); before, they were copied into a view.
    pub gated_split: bool,
}

impl Rules {
    /// The newest rules known.
    pub const NEWEST: Self =
        Self { half_masks: true, converts_in_buffer: true, rotates: true, embedding_input: true, gated_split: true };
}

/// Which figures of a reservation are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// What the engine's own dry run reports (`no_alloc`): the prompt graph alone, and the operations that a builder ties
    /// to a device are free again, since the scheduler is reset between building and measuring.
    Measured,
    /// What a real context holds: the largest of the prompt and the generation graph.
    Allocated,
}

/// A model ready for building graphs.
#[derive(Debug)]
pub struct Model<'a> {
    /// Hyper-parameters.
    pub hparams: &'a Hparams,
    /// The file.
    pub gguf: &'a Gguf,
    /// Where everything is.
    pub placement: &'a Placement,
    /// Tensors by layer and name within it; those outside layers under `None`.
    names: HashMap<(Option<usize>, &'a str), usize>,
}

impl<'a> Model<'a> {
    /// Sorts the tensors by layer.
    #[must_use]
    pub fn new(hparams: &'a Hparams, gguf: &'a Gguf, placement: &'a Placement) -> Self {
        let names = gguf.tensors.iter().enumerate().map(|(at, tensor)| (address(&tensor.name), at)).collect();
        Self { hparams, gguf, placement, names }
    }

    /// The place of a tensor in the file's list.
    #[must_use]
    pub fn find(&self, layer: Option<usize>, name: &str) -> Option<usize> {
        self.names.get(&(layer, name)).copied()
    }
}

/// `blk.3.attn_q.weight` is `attn_q.weight` of layer 3.
fn address(name: &str) -> (Option<usize>, &str) {
    let in_layer = name.strip_prefix("blk.").and_then(|rest| {
        let (number, inner) = rest.split_once('.')?;
        Some((Some(number.parse::<usize>().ok()?), inner))
    });
    in_layer.unwrap_or((None, name))
}

/// The graph's notion of a type.
#[must_use]
pub fn kind_of(kind: GgmlType) -> Kind {
    let small = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    Kind { id: small(u64::from(kind.id())), block: small(kind.block()), bytes: small(kind.block_bytes()) }
}
