//! Where does the memory go? Entries that sum to a rank's total, each with an interval, a source and its formula.

use std::borrow::Cow;

use plimsoll_facts::tensor::{Part, Role, Tensor};
use plimsoll_units::{Bytes, Estimate};

/// What an entry of the ledger holds. The JSON name is what [`Item::name`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// Token embedding.
    WeightsEmbedding,
    /// Attention and latent projections.
    WeightsAttention,
    /// Recurrent mixers: projections, convolutions, states' parameters.
    WeightsRecurrent,
    /// Dense feed-forward blocks and shared experts.
    WeightsMlp,
    /// Routed experts and routers.
    WeightsExperts,
    /// Norms and everything small that is replicated.
    WeightsNorm,
    /// Output projection.
    WeightsLmHead,
    /// Towers and projectors.
    WeightsTower,
    /// Drafting layers or a draft model.
    WeightsDraft,
    /// Copies that the engine makes of weights (MLA's absorbed projections, padding, LoRA slots).
    WeightsExtra,
    /// The peak of one forward pass above the weights.
    Activation,
    /// The engine's persistent buffers (inputs, logits, cache indirection).
    RuntimeBuffers,
    /// The engine's sampling buffers.
    RuntimeDecoder,
    /// Library handles, kernel modules and allocator slack outside the framework's allocator.
    RuntimeNonTorch,
    /// The driver's context.
    Context,
    /// Captured CUDA graphs.
    Graphs,
    /// Communication buffers (NCCL, custom all-reduce).
    Comms,
    /// The KV cache.
    Kv,
    /// Memory that the engine leaves alone.
    Reserve,
}

impl Item {
    /// Every item, in the order in which a ledger lists them.
    pub const ALL: [Item; 19] = [
        Item::WeightsEmbedding,
        Item::WeightsAttention,
        Item::WeightsRecurrent,
        Item::WeightsMlp,
        Item::WeightsExperts,
        Item::WeightsNorm,
        Item::WeightsLmHead,
        Item::WeightsTower,
        Item::WeightsDraft,
        Item::WeightsExtra,
        Item::Activation,
        Item::RuntimeBuffers,
        Item::RuntimeDecoder,
        Item::RuntimeNonTorch,
        Item::Context,
        Item::Graphs,
        Item::Comms,
        Item::Kv,
        Item::Reserve,
    ];

    /// Returns the name in JSON and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Item::WeightsEmbedding => "weights.embedding",
            Item::WeightsAttention => "weights.attention",
            Item::WeightsRecurrent => "weights.recurrent",
            Item::WeightsMlp => "weights.mlp",
            Item::WeightsExperts => "weights.experts",
            Item::WeightsNorm => "weights.norm",
            Item::WeightsLmHead => "weights.lm_head",
            Item::WeightsTower => "weights.tower",
            Item::WeightsDraft => "weights.draft",
            Item::WeightsExtra => "weights.extra",
            Item::Activation => "activation",
            Item::RuntimeBuffers => "runtime.buffers",
            Item::RuntimeDecoder => "runtime.decoder",
            Item::RuntimeNonTorch => "runtime.non_torch",
            Item::Context => "context",
            Item::Graphs => "graphs",
            Item::Comms => "comms",
            Item::Kv => "kv",
            Item::Reserve => "reserve",
        }
    }

    /// Returns the line on which a line of the inventory stands.
    pub const fn of(tensor: &Tensor) -> Item {
        match (tensor.part, tensor.role) {
            (Part::Draft, _) => Item::WeightsDraft,
            (Part::Tower, _) | (Part::Text, Role::Tower) => Item::WeightsTower,
            (Part::Text, Role::Embedding | Role::Positions) => Item::WeightsEmbedding,
            (Part::Text, Role::LmHead) => Item::WeightsLmHead,
            (Part::Text, Role::Attention) => Item::WeightsAttention,
            (Part::Text, Role::Recurrent | Role::RecurrentState) => Item::WeightsRecurrent,
            (Part::Text, Role::Mlp | Role::SharedExpert) => Item::WeightsMlp,
            (Part::Text, Role::Experts | Role::Router) => Item::WeightsExperts,
            (Part::Text, Role::Norm | Role::Other) => Item::WeightsNorm,
        }
    }

    /// Returns the item of a name, where there is one.
    pub fn named(name: &str) -> Option<Item> {
        Item::ALL.into_iter().find(|item| item.name() == name)
    }

    /// Returns the part of a rank's memory to which the item belongs.
    pub const fn section(self) -> Section {
        match self {
            Item::WeightsEmbedding
            | Item::WeightsAttention
            | Item::WeightsRecurrent
            | Item::WeightsMlp
            | Item::WeightsExperts
            | Item::WeightsNorm
            | Item::WeightsLmHead
            | Item::WeightsTower
            | Item::WeightsDraft
            | Item::WeightsExtra => Section::Weights,
            Item::Activation => Section::Activations,
            Item::RuntimeBuffers | Item::RuntimeDecoder | Item::RuntimeNonTorch | Item::Context | Item::Comms => {
                Section::Runtime
            }
            Item::Graphs => Section::Graphs,
            Item::Kv => Section::Kv,
            Item::Reserve => Section::Reserve,
        }
    }

    /// Whether the item is part of the weights.
    pub const fn is_weights(self) -> bool {
        matches!(self.section(), Section::Weights)
    }
}

/// A part of a rank's memory, in the order in which a bar shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The weights, copies of them among them.
    Weights,
    /// The peak of one forward pass.
    Activations,
    /// What the engine, its libraries and the driver keep.
    Runtime,
    /// Captured graphs.
    Graphs,
    /// The KV cache.
    Kv,
    /// What is left alone.
    Reserve,
}

impl Section {
    /// Returns the name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Section::Weights => "weights",
            Section::Activations => "activations",
            Section::Runtime => "runtime",
            Section::Graphs => "graphs",
            Section::Kv => "kv",
            Section::Reserve => "reserve",
        }
    }
}

/// How an entry's number came about, for `--explain`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Formula {
    /// The formula in symbols: `b × T × (3 × I / tp + 3 × H)`.
    pub text: Cow<'static, str>,
    /// The symbols with their values, in the order in which they occur.
    pub values: Vec<(&'static str, f64)>,
}

/// One line of a ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it is.
    pub item: Item,
    /// How much, how sure, and where from.
    pub size: Estimate,
    /// What a reader should know about it.
    pub note: Option<Cow<'static, str>>,
    /// How the number came about.
    pub formula: Formula,
}

/// The memory of one rank, line by line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// The lines, in the order of [`Item::ALL`], at most one per item.
    pub entries: Vec<Entry>,
}

impl Ledger {
    /// Returns the sum of all lines.
    pub fn total(&self) -> Bytes {
        self.entries.iter().map(|entry| entry.size.bytes).sum()
    }

    /// Returns the weights' sum.
    pub fn weights(&self) -> Bytes {
        self.entries.iter().filter(|entry| entry.item.is_weights()).map(|entry| entry.size.bytes).sum()
    }

    /// Returns the bytes of one line, zero when it is absent.
    pub fn bytes(&self, item: Item) -> Bytes {
        self.entry(item).map_or(Bytes::ZERO, |entry| entry.size.bytes)
    }

    /// Returns one line.
    pub fn entry(&self, item: Item) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.item == item)
    }
}
