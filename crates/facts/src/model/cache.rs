//! What does one more token cost, and what does a sequence cost whatever its length?

use super::{AttentionKind, Mixer, Model, Recurrent, Span};
use crate::tensor::DType;

impl Model {
    /// Returns the bytes that one more token adds to a KV cache in the model's dtype, all layers together, undivided,
    /// while no window is full: per layer `kv_heads × (key_dim + value_dim)` numbers, or `(rank + rope_dim) / compress`
    /// and the indexer's key for latent attention. Layers that read another layer's cache add nothing.
    ///
    /// DeepSeek-V3: 61 × (512 + 64) × 2 B = 70 272 B.
    pub fn kv_bytes_per_token(&self) -> u64 {
        let numbers: u64 = self.layers.iter().map(|layer| numbers_per_token(&layer.mixer)).sum();
        self.dtype.bytes_of(numbers)
    }

    /// Returns the bytes that the KV cache of one sequence of so many tokens takes in the model's dtype, undivided: layers
    /// with a window or chunks keep that many tokens at most, recurrent states are not counted.
    pub fn kv_bytes_of_sequence(&self, tokens: u64) -> u64 {
        let kept = |layer: &super::Layer| {
            let Mixer::Attention(attention) = &layer.mixer else { return 0 };
            let kept = match attention.span {
                Span::Window { tokens: most } | Span::Chunk { tokens: most } => tokens.min(u64::from(most)),
                Span::Full | Span::Summary { .. } | Span::Cross => tokens,
            };
            numbers_per_token(&layer.mixer).saturating_mul(kept)
        };
        self.dtype.bytes_of(self.layers.iter().map(kept).fold(0, u64::saturating_add))
    }

    /// Whether a sequence's cache does not simply grow with its tokens: some layers have a window, chunks or a state.
    pub fn cache_bends(&self) -> bool {
        self.layers.iter().any(|layer| match &layer.mixer {
            Mixer::Attention(attention) => matches!(attention.span, Span::Window { .. } | Span::Chunk { .. }),
            Mixer::Recurrent(_) => true,
            Mixer::None => false,
        })
    }

    /// Returns the bytes that one sequence keeps in recurrent states: convolution inputs (`kernel − 1` of them) in the
    /// model's dtype, recurrent states in fp32, undivided.
    ///
    /// Source: the shapes of vLLM 0.33.0, `model_executor/layers/mamba/mamba_utils.py`; fp32 is what the hybrids'
    /// configurations ask for. Engines that keep the state in the model's dtype need half of the second part.
    pub fn state_bytes(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| match &layer.mixer {
                Mixer::Recurrent(recurrent) => {
                    let (convolution, state) = state_numbers(recurrent);
                    self.dtype.bytes_of(convolution) + DType::F32.bytes_of(state)
                }
                Mixer::Attention(_) | Mixer::None => 0,
            })
            .sum()
    }
}

/// Numbers that one token adds to one layer's cache.
fn numbers_per_token(mixer: &Mixer) -> u64 {
    let Mixer::Attention(attention) = mixer else { return 0 };
    if attention.shares_cache_of.is_some() {
        return 0;
    }
    match &attention.kind {
        AttentionKind::Grouped { kv_heads, key_dim, value_dim, .. } => {
            u64::from(*kv_heads) * (u64::from(*key_dim) + u64::from(*value_dim))
        }
        AttentionKind::Latent { rank, rope_dim, indexer, compress, .. } => {
            let latent = (u64::from(*rank) + u64::from(*rope_dim)) / u64::from((*compress).max(1));
            latent + indexer.map_or(0, |indexer| u64::from(indexer.dim))
        }
    }
}

/// Numbers of one layer's convolution and recurrent states for one sequence.
fn state_numbers(recurrent: &Recurrent) -> (u64, u64) {
    let n = |number: u32| u64::from(number);
    let taps = |kernel: u32| n(kernel).saturating_sub(1);
    match recurrent {
        Recurrent::Mamba1 { inner, state, kernel } => (n(*inner) * taps(*kernel), n(*inner) * n(*state)),
        Recurrent::Mamba2 { heads, head_dim, state, groups, kernel } => {
            let width = n(*heads) * n(*head_dim) + 2 * n(*groups) * n(*state);
            (width * taps(*kernel), n(*heads) * n(*head_dim) * n(*state))
        }
        Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, kernel } => {
            let width = 2 * n(*key_heads) * n(*key_dim) + n(*value_heads) * n(*value_dim);
            (width * taps(*kernel), n(*value_heads) * n(*value_dim) * n(*key_dim))
        }
        Recurrent::KimiDelta { heads, key_dim, value_dim, kernel } => {
            let width = n(*heads) * (2 * n(*key_dim) + n(*value_dim));
            (width * taps(*kernel), n(*heads) * n(*key_dim) * n(*value_dim))
        }
        Recurrent::Lightning { heads, head_dim } => (0, n(*heads) * n(*head_dim) * n(*head_dim)),
        Recurrent::ShortConv { width, kernel } => (n(*width) * taps(*kernel), 0),
    }
}
