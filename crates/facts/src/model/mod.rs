//! What is this model? `config.json` parsed once into layers, each with its mixer and feed-forward kind, and into the
//! exact tensor inventory.

mod build;
mod cache;
mod config;
mod family;
mod json;

use serde_json::Value;

pub use config::Config;
pub(crate) use config::invalid;
pub use json::parse_json;
pub(crate) use json::what_is_wrong;

use crate::Error;
use crate::quant::Quant;
use crate::tensor::{DType, Part, Role, Tensor};

/// A model, understood: what the reference implementation would build from its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The name it was asked for by, `org/name` where there is one.
    pub id: String,
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The class in `architectures`.
    pub architecture: String,
    /// The dtype of unquantised weights as the configuration gives it.
    pub dtype: DType,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Rows of the token embedding.
    pub vocabulary: u64,
    /// The longest sequence that engines take from the configuration when none is asked for (rope scaling applied as
    /// vLLM's `_get_and_verify_max_len` does).
    pub max_positions: u64,
    /// The longest sequence that may be asked for; above `max_positions` for LongRoPE models alone.
    pub positions_limit: u64,
    /// Whether the output projection is the token embedding.
    pub tied: bool,
    /// The kind of rope scaling (`llama3`, `longrope`, `yarn`, …), where there is one.
    pub rope_type: Option<String>,
    /// Decoder layers, in order.
    pub layers: Vec<Layer>,
    /// Extra drafting layers in the checkpoint (multi-token prediction), outside the count of parameters.
    pub draft_layers: u32,
    /// The towers' widths and token budgets, when the model sees more than text.
    pub tower: Option<Tower>,
    /// The inventory, in the reference implementation's names and order.
    pub tensors: Vec<Tensor>,
    /// How quantised weights are stored, when they are.
    pub quant: Option<Quant>,
    /// What a user should know about how the configuration was read.
    pub notes: Vec<String>,
}

/// One decoder layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// What mixes positions.
    pub mixer: Mixer,
    /// What transforms each position.
    pub ffn: Ffn,
}

/// What mixes positions in a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Attention with a key/value cache.
    Attention(Attention),
    /// A recurrent state of fixed size.
    Recurrent(Recurrent),
    /// Nothing: the layer is a feed-forward block alone.
    None,
}

/// Attention of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// How keys and values are formed and kept.
    pub kind: AttentionKind,
    /// Which positions it sees.
    pub span: Span,
    /// The layer whose cache it reads instead of keeping one of its own.
    pub shares_cache_of: Option<u32>,
}

/// How keys and values are formed and kept.
#[derive(Clone, Debug, PartialEq)]
pub enum AttentionKind {
    /// Grouped-query attention; multi-head and multi-query are its two ends.
    Grouped {
        /// Query heads.
        heads: u32,
        /// Key/value heads.
        kv_heads: u32,
        /// Width of one key (and query) head.
        key_dim: u32,
        /// Width of one value head.
        value_dim: u32,
    },
    /// Latent attention (MLA): one latent of `rank` and one rotary key of `rope_dim` per token.
    Latent {
        /// Query heads.
        heads: u32,
        /// Width of the latent that is cached.
        rank: u32,
        /// Width of the rotary key that is cached beside it.
        rope_dim: u32,
        /// Width of a head's key without the rotary part.
        nope_dim: u32,
        /// Width of a head's value.
        value_dim: u32,
        /// The sparse indexer (DeepSeek sparse attention), if any.
        indexer: Option<Indexer>,
        /// Tokens that one cached entry stands for (1, or a compression ratio as in DeepSeek-V4).
        compress: u32,
    },
}

/// The sparse indexer beside latent attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexer {
    /// Query heads of the indexer.
    pub heads: u32,
    /// Width of the one key that it caches per token.
    pub dim: u32,
    /// Tokens that it selects.
    pub top: u32,
}

/// Which positions attention sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// All before.
    Full,
    /// The last `tokens`, the current one counted.
    Window {
        /// Width of the window.
        tokens: u32,
    },
    /// The chunk of `tokens` that the current one lies in.
    Chunk {
        /// Width of the chunk.
        tokens: u32,
    },
    /// The last `window` as they are, and all before as compressed entries (see `compress` of latent attention).
    Summary {
        /// Width of the window that is kept in full.
        window: u32,
    },
    /// Another sequence (an encoder's output).
    Cross,
}

/// A recurrent mixer's sizes: what engines keep per sequence and what the projections are.
#[derive(Clone, Debug, PartialEq)]
pub enum Recurrent {
    /// Mamba 1: `inner` channels with a state of `state` each, convolution of `kernel`.
    Mamba1 {
        /// Channels.
        inner: u32,
        /// State per channel.
        state: u32,
        /// Convolution kernel.
        kernel: u32,
    },
    /// Mamba 2: `heads` of `head_dim` with a state of `state`, `groups` of B and C.
    Mamba2 {
        /// Heads.
        heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// State per channel.
        state: u32,
        /// Groups that share B and C.
        groups: u32,
        /// Convolution kernel.
        kernel: u32,
    },
    /// Gated delta net (Qwen3-Next, Qwen3.5).
    GatedDelta {
        /// Key heads.
        key_heads: u32,
        /// Value heads.
        value_heads: u32,
        /// Width of a key head.
        key_dim: u32,
        /// Width of a value head.
        value_dim: u32,
        /// Convolution kernel.
        kernel: u32,
    },
    /// Kimi delta attention: every head has its own gate.
    KimiDelta {
        /// Heads.
        heads: u32,
        /// Width of a key head.
        key_dim: u32,
        /// Width of a value head.
        value_dim: u32,
        /// Convolution kernel.
        kernel: u32,
    },
    /// Lightning attention (MiniMax-Text-01, M1): a `head_dim` × `head_dim` state per head.
    Lightning {
        /// Heads.
        heads: u32,
        /// Width of a head.
        head_dim: u32,
    },
    /// A gated short convolution (LFM2): the last `kernel` inputs of `width`.
    ShortConv {
        /// Channels.
        width: u32,
        /// Convolution kernel.
        kernel: u32,
    },
}

/// What transforms each position in a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ffn {
    /// One block that every token goes through; two of them run in parallel in some models and are summed here.
    Dense {
        /// Inner width.
        inner: u64,
        /// Three matrices (gate, up, down) rather than two.
        gated: bool,
    },
    /// A router, `experts` routed blocks of which `active` are used, and shared blocks of `shared_inner` in all
    /// (zero when there are none).
    Moe {
        /// Routed experts.
        experts: u32,
        /// Experts that a token uses.
        active: u32,
        /// Inner width of one routed expert.
        inner: u64,
        /// Inner width of the shared experts together.
        shared_inner: u64,
        /// Three matrices per expert rather than two.
        gated: bool,
        /// Inner width of a dense block beside the experts (Gemma-4), zero when there is none.
        dense_inner: u64,
    },
    /// No block in this layer.
    None,
}

/// What a tower adds to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tower {
    /// Width of the tower's stream.
    pub hidden: u64,
    /// Layers of the tower.
    pub layers: u32,
    /// Query heads of the tower.
    pub heads: u32,
    /// Inner width of its feed-forward blocks.
    pub inner: u64,
    /// The most tokens that one image can become in the language model, where the configuration says it.
    pub tokens_per_image: Option<u64>,
}

impl Model {
    /// Returns the number of parameters as the reference implementation counts it: tied tensors once, drafting layers
    /// and buffers not.
    pub fn parameters(&self) -> u64 {
        self.counted().map(Tensor::total_elements).sum()
    }

    /// Returns the parameters that one token of text goes through: all of the language model less the routed experts
    /// that it does not use.
    pub fn active_parameters(&self) -> u64 {
        let text: u64 = self.counted().filter(|t| t.part == Part::Text).map(Tensor::total_elements).sum();
        let idle: u64 = self
            .counted()
            .filter(|t| t.part == Part::Text && t.role == Role::Experts)
            .map(|tensor| {
                tensor
                    .layers
                    .iter()
                    .map(|layer| match self.layers.get(layer as usize).map(|l| &l.ffn) {
                        Some(Ffn::Moe { experts, active, .. }) if *experts > 0 => {
                            let each = tensor.total_elements() / tensor.layers.len().max(1);
                            each - each / u64::from(*experts) * u64::from((*active).min(*experts))
                        }
                        Some(Ffn::Moe { .. } | Ffn::Dense { .. } | Ffn::None) | None => 0,
                    })
                    .sum::<u64>()
            })
            .sum();
        text - idle
    }

    /// Iterates over the lines that count as parameters.
    pub fn counted(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.iter().filter(|t| t.parameter && t.part != Part::Draft)
    }
}

/// Reads a `config.json` (and the `hf_quant_config.json` beside it, where there is one).
///
/// # Errors
/// Every variant of [`Error`] that speaks of a configuration; the place is the path of the key.
pub fn read(id: &str, config: &Value, hf_quant: Option<&Value>) -> Result<Model, Error> {
    read_used(id, config, hf_quant).map(|(model, _)| model)
}

/// Reads like [`read`] and also returns the paths of the keys that were looked at, for the catalogue.
///
/// # Errors
/// As [`read`].
pub fn read_used(id: &str, config: &Value, hf_quant: Option<&Value>) -> Result<(Model, Vec<String>), Error> {
    let root = Config::new(config)?;
    let mut model = family::build(id, &root)?;
    check_sizes(&model)?;
    crate::quant::apply(&mut model, config, hf_quant)?;
    Ok((model, root.used()))
}

/// More numbers than any checkpoint holds; below it no sum of sizes overflows.
const MOST_NUMBERS: u64 = 1 << 56;

/// Refuses sizes that each could be true but whose product could not.
fn check_sizes(model: &Model) -> Result<(), Error> {
    let mut total = 0_u64;
    for tensor in &model.tensors {
        let one = tensor.shape.iter().try_fold(tensor.count, |product, size| product.checked_mul(*size));
        total = one.and_then(|one| total.checked_add(one)).filter(|total| *total <= MOST_NUMBERS).ok_or_else(|| {
            let why = format!(
                "`{}` would be {} × {:?} numbers, more than any model holds",
                tensor.name, tensor.count, tensor.shape
            );
            Error::Contradiction { place: "config.json".to_owned(), why }
        })?;
    }
    Ok(())
}
