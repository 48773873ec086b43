//! What does one layer keep? The formats that vLLM's planner tells apart, their pages, and the blocks one request takes.

use crate::growth::Steps;

/// How a layer's cache grows with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every token stays. `was` remembers a window or chunk when the hybrid manager is off.
    Full {
        /// What the layer computes.
        was: Was,
    },
    /// Latent attention: one vector per token.
    Mla,
    /// The keys of a sparse indexer beside latent attention; the planner takes it for a narrow latent.
    Indexer,
    /// The last `window` tokens and those in flight.
    Sliding {
        /// Width of the window.
        window: u64,
    },
    /// The current chunk and the tokens in flight.
    Chunked {
        /// Width of the chunk.
        chunk: u64,
    },
    /// A recurrent state: so many blocks per request whatever its length.
    State {
        /// Blocks that a request holds.
        held: u64,
    },
    /// A recurrent state kept at every block (`mamba_cache_mode` of `all`).
    StateEveryBlock {
        /// Blocks beside those of the length.
        extra: u64,
    },
    /// The encoder's tokens.
    Cross {
        /// The most encoder tokens.
        tokens: u64,
    },
}

/// What a full-attention cache is computed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Was {
    /// Full attention.
    Full,
    /// A window of so many tokens.
    Sliding(u64),
    /// A chunk of so many tokens.
    Chunked(u64),
}

/// One layer's cache on one rank. Two layers with equal specs are of one kind to the planner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// How it grows.
    pub kind: Kind,
    /// Tokens of one block, at least one.
    pub block: u64,
    /// Key/value heads on the rank.
    pub heads: u64,
    /// Width of a key head (of the latent, for latent attention).
    pub key: u64,
    /// Width of a value head (zero for latent attention).
    pub value: u64,
    /// Bytes of one token, or of the whole state for a recurrent layer.
    pub bytes: u64,
    /// The page when it is padded.
    pub padded: Option<u64>,
}

impl Spec {
    /// Attention whose elements take `element` bytes.
    ///
    /// `page = block × heads × (key + value) × element`; vLLM 0.33.0, `v1/kv_cache_interface.py`, `AttentionSpec`.
    pub fn attention(kind: Kind, block: u64, heads: u64, key: u64, value: u64, element: u64) -> Spec {
        let width = key.saturating_add(value);
        Spec {
            kind,
            block: block.max(1),
            heads,
            key,
            value,
            bytes: heads.saturating_mul(width).saturating_mul(element),
            padded: None,
        }
    }

    /// Latent attention (or its indexer) that keeps `bytes` per token.
    pub fn latent(kind: Kind, block: u64, width: u64, bytes: u64) -> Spec {
        Spec { kind, block: block.max(1), heads: 1, key: width, value: 0, bytes, padded: None }
    }

    /// `rows` of `row` bytes per block of latents, the page rounded up to `align`: compressed latents (fewer rows than
    /// tokens), their windows and their compressors' states.
    ///
    /// vLLM 0.26.0, `v1/kv_cache_interface.py`, `MLAAttentionSpec` and `SlidingWindowMLASpec`.
    pub fn rows(kind: Kind, block: u64, width: u64, rows: u64, row: u64, align: u64) -> Spec {
        let block = block.max(1);
        let exact = rows.saturating_mul(row);
        let page = exact.checked_next_multiple_of(align.max(1)).unwrap_or(u64::MAX);
        Spec { kind, block, heads: 1, key: width, value: 0, bytes: exact / block, padded: Some(page) }
    }

    /// A recurrent state of `bytes`.
    pub fn state(held: u64, block: u64, bytes: u64) -> Spec {
        Spec { kind: Kind::State { held }, block: block.max(1), heads: 1, key: 0, value: 0, bytes, padded: None }
    }

    /// Whether the page does not depend on the block.
    pub const fn is_state(&self) -> bool {
        matches!(self.kind, Kind::State { .. } | Kind::StateEveryBlock { .. })
    }

    /// Whether the last tokens of a latent stay, rather than those of keys and values.
    pub const fn is_latent_window(&self) -> bool {
        matches!(self.kind, Kind::Sliding { .. }) && self.value == 0
    }

    /// Returns the bytes of one block of one layer.
    pub fn page(&self) -> u64 {
        let exact = if self.is_state() { self.bytes } else { self.bytes.saturating_mul(self.block) };
        self.padded.unwrap_or(0).max(exact)
    }

    /// Returns the blocks that one request of `tokens` takes.
    ///
    /// vLLM 0.33.0, `v1/kv_cache_interface.py`, the specs' `max_memory_usage_bytes`; the same since 0.9.1 but for what
    /// counts as in flight.
    pub fn blocks(&self, tokens: u64, demand: &Demand) -> u64 {
        self.steps(demand).units(tokens)
    }

    /// Returns how the blocks of a request follow its length.
    pub fn steps(&self, demand: &Demand) -> Steps {
        let capped = |held: u64, extra: u64| {
            let cap = Some(held.saturating_add(demand.in_flight));
            Steps::Tokens { ranks: 1, cap, block: self.block, extra }
        };
        match self.kind {
            Kind::Full { .. } | Kind::Mla | Kind::Indexer => {
                Steps::Tokens { ranks: demand.context_ranks.max(1), cap: None, block: self.block, extra: 0 }
            }
            Kind::Sliding { window } => capped(window.saturating_sub(1), 1),
            Kind::Chunked { chunk } => capped(chunk, 0),
            Kind::State { held } => Steps::Fixed(held),
            Kind::StateEveryBlock { extra } => Steps::Tokens { ranks: 1, cap: None, block: self.block, extra },
            Kind::Cross { tokens } => Steps::Fixed(tokens.div_ceil(self.block)),
        }
    }

    /// Returns the bytes that one request of `tokens` takes in one layer.
    pub fn request(&self, tokens: u64, demand: &Demand) -> u64 {
        self.blocks(tokens, demand).saturating_mul(self.page())
    }

    /// Returns the name as a reader knows it: `full`, `sliding:1024`, `mla`, `state`, …
    pub fn name(&self) -> String {
        match self.kind {
            Kind::Full { was: Was::Full } => "full".to_owned(),
            Kind::Full { was: Was::Sliding(window) } => format!("full (window {window})"),
            Kind::Full { was: Was::Chunked(chunk) } => format!("full (chunk {chunk})"),
            Kind::Mla => "mla".to_owned(),
            Kind::Indexer => "indexer".to_owned(),
            Kind::Sliding { window } => format!("sliding:{window}"),
            Kind::Chunked { chunk } => format!("chunked:{chunk}"),
            Kind::State { .. } | Kind::StateEveryBlock { .. } => "state".to_owned(),
            Kind::Cross { .. } => "cross".to_owned(),
        }
    }

    /// Returns vLLM's class of the spec.
    pub const fn class(&self) -> &'static str {
        match self.kind {
            Kind::Full { .. } => "FullAttentionSpec",
            Kind::Mla | Kind::Indexer => "MLAAttentionSpec",
            Kind::Sliding { .. } => "SlidingWindowSpec",
            Kind::Chunked { .. } => "ChunkedLocalAttentionSpec",
            Kind::State { .. } | Kind::StateEveryBlock { .. } => "MambaSpec",
            Kind::Cross { .. } => "CrossAttentionSpec",
        }
    }

    /// Whether two specs of one class have the same shape (everything but what the layer computes).
    pub(super) fn same_shape(&self, other: &Spec) -> bool {
        Spec { kind: other.kind, ..*self } == *other
    }
}

/// What a request can hold at once beside its own tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Tokens scheduled but not yet settled: `max_num_batched_tokens` × batches in flight.
    pub in_flight: u64,
    /// Ranks over which a sequence's tokens are dealt (`decode_context_parallel_size`).
    pub context_ranks: u64,
}
