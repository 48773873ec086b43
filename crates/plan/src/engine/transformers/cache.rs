//! What does a cache hold? Every layer's tensors as transformers' cache classes keep them after a generation: keys and
//! values, an indexer's keys, compressed entries, convolution and recurrent states.
//!
//! Source: transformers 5.23.0, `cache_utils.py`; the shapes that models hand to it, `models/*/modeling_*.py`.

use plimsoll_facts::model::{AttentionKind, Mixer, Model, Recurrent, Span};
use plimsoll_facts::tensor::DType;

use super::quantised::Quantised;
use crate::Error;

/// How the tokens of a sequence came into the cache: the prompt in one pass, then one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Sequences side by side (beams counted).
    pub batch: u64,
    /// Tokens of the first pass, padding counted.
    pub prompt: u64,
    /// Tokens that came one at a time. The last token that `generate` returns is never cached: new tokens less one.
    pub steps: u64,
}

impl Filled {
    /// Returns the positions that have been cached.
    pub const fn positions(&self) -> u64 {
        self.prompt.saturating_add(self.steps)
    }
}

/// Which cache class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// `DynamicCache`: grows by concatenation.
    Dynamic,
    /// `StaticCache` of so many positions, taken whole at the first pass.
    Static {
        /// `max_cache_len`: `max_length − 1` in `generate`.
        positions: u64,
    },
    /// `QuantizedCache`.
    Quantised(Quantised),
}

/// What one layer keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerCache {
    /// Keys and values.
    pub kv: Option<KeyValue>,
    /// Numbers of the sparse indexer's key, per position.
    pub indexer: u64,
    /// Numbers of the convolution's inputs, per sequence, in the model's dtype.
    pub convolution: u64,
    /// Numbers of the recurrent state, per sequence, in fp32.
    pub state: u64,
    /// Numbers of a recurrent state in the model's dtype, per sequence (lightning attention).
    pub plain_state: u64,
    /// Compressed entries beside a window (DeepSeek-V4).
    pub summary: Option<Summary>,
}

/// Keys and values of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Numbers of all key heads, per position.
    pub key: u64,
    /// Numbers of all value heads, per position.
    pub value: u64,
    /// `sliding_window` or `attention_chunk_size`.
    pub window: Option<u64>,
}

/// Compressed entries of one layer: one for every `rate` positions, and the positions that have not filled one yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Positions per entry.
    pub rate: u64,
    /// Numbers of an entry, the indexer's counted.
    pub entry: u64,
    /// Numbers kept for each waiting position: keys and gates before compression.
    pub waiting: u64,
    /// Numbers of the overlap with the window before, once there is one.
    pub overlap: u64,
}

impl LayerCache {
    /// Returns what one layer of a model keeps.
    pub fn of(mixer: &Mixer) -> LayerCache {
        match mixer {
            Mixer::Attention(attention) if attention.shares_cache_of.is_some() => LayerCache::default(),
            Mixer::Attention(attention) => of_attention(&attention.kind, attention.span),
            // `MiniMaxCache` keeps what `MiniMaxLightningAttention` returns, in the values' dtype.
            Mixer::Recurrent(Recurrent::Lightning { heads, head_dim }) => LayerCache {
                plain_state: (u64::from(*heads) * u64::from(*head_dim)).saturating_mul(u64::from(*head_dim)),
                ..LayerCache::default()
            },
            Mixer::Recurrent(recurrent) => {
                let (convolution, state) = state_numbers(recurrent);
                LayerCache { convolution, state, ..LayerCache::default() }
            }
            Mixer::None => LayerCache::default(),
        }
    }

    /// Whether the layer keeps keys and values, and nothing else, of every position.
    pub fn is_full_attention(&self) -> bool {
        self.kv.is_some_and(|kv| kv.window.is_none())
            && [self.indexer, self.convolution, self.state, self.plain_state] == [0; 4]
            && self.summary.is_none()
    }

    /// Returns the bytes of the layer's tensors.
    ///
    /// A window of W keeps the last W − 1 positions in a dynamic cache (the next token brings the W-th) and W in a
    /// static one: DynamicSlidingWindowLayer.update, StaticSlidingWindowLayer.\_\_init\_\_.
    pub fn bytes(&self, cache: &Cache, filled: &Filled, dtype: DType) -> u64 {
        let cached = |window: Option<u64>| match (cache, window) {
            (Cache::Static { positions }, None) => *positions,
            (Cache::Static { positions }, Some(window)) => (*positions).min(window),
            (Cache::Dynamic | Cache::Quantised(_), None | Some(0 | 1)) => filled.positions(),
            (Cache::Dynamic | Cache::Quantised(_), Some(window)) => filled.positions().min(window - 1),
        };
        let kv = match (self.kv, cache) {
            (Some(kv), Cache::Quantised(quantised)) => quantised.bytes(&kv, filled, dtype),
            (Some(kv), Cache::Dynamic | Cache::Static { .. }) => {
                let numbers = kv.key.saturating_add(kv.value).saturating_mul(cached(kv.window));
                dtype.bytes_of(numbers.saturating_mul(filled.batch))
            }
            (None, _) => 0,
        };
        let indexer = self.indexer.saturating_mul(cached(None));
        let summary = self.summary.map_or(0, |summary| summary.numbers(filled.positions()));
        let in_dtype = indexer.saturating_add(summary).saturating_add(self.convolution);
        let in_dtype = in_dtype.saturating_add(self.plain_state).saturating_mul(filled.batch);
        kv.saturating_add(dtype.bytes_of(in_dtype))
            .saturating_add(DType::F32.bytes_of(self.state.saturating_mul(filled.batch)))
    }

    /// Returns the bytes that one more position adds to one sequence while no window is full, unquantised.
    pub fn bytes_per_token(&self, dtype: DType) -> u64 {
        let kv = self.kv.map_or(0, |kv| kv.key.saturating_add(kv.value));
        let summary = self.summary.map_or(0, |summary| summary.entry / summary.rate.max(1));
        dtype.bytes_of(kv.saturating_add(self.indexer).saturating_add(summary))
    }
}

impl Summary {
    /// Numbers of one sequence after so many positions.
    fn numbers(&self, positions: u64) -> u64 {
        let rate = self.rate.max(1);
        let entries = (positions / rate).saturating_mul(self.entry);
        let waiting = (positions % rate).saturating_mul(self.waiting);
        let overlap = if positions >= rate { self.overlap } else { 0 };
        entries.saturating_add(waiting).saturating_add(overlap)
    }
}

/// Returns what every layer of a model keeps.
///
/// Two classes read their configuration in a way of their own: MiMo-V2's window is `sliding_window_size` and the query
/// itself (`configuration_mimo_v2_flash.py`), and DeepSeek-V4's layers that only slide keep the one key both as key and
/// as value (`modeling_deepseek_v4.py`).
pub fn layers(model: &Model) -> Vec<LayerCache> {
    let mut layers: Vec<LayerCache> = model.layers.iter().map(|layer| LayerCache::of(&layer.mixer)).collect();
    for layer in &mut layers {
        let Some(kv) = &mut layer.kv else { continue };
        match model.model_type.as_str() {
            "mimo_v2_flash" => kv.window = kv.window.map(|window| window.saturating_add(1)),
            "deepseek_v4" | "deepseek_ref" if layer.summary.is_none() => {
                let width = kv.key.saturating_add(kv.value);
                (kv.key, kv.value) = (width, width);
            }
            _ => {}
        }
    }
    layers
}

/// Returns the bytes of a model's whole cache, all layers together, as the tensors' sizes add up.
///
/// Llama-3.1-8B at 8 200 positions: 32 layers × 2 × 8 heads × 128 × 8 200 × 2 B = 1 074 790 400 B.
///
/// # Errors
/// [`Error::Request`] where `QuantizedCache` refuses the model, in its own words.
pub fn bytes(model: &Model, cache: &Cache, filled: &Filled, dtype: DType) -> Result<u64, Error> {
    let layers = layers(model);
    if let Cache::Quantised(quantised) = cache {
        quantised.check(&layers, filled)?;
    }
    Ok(layers.iter().map(|layer| layer.bytes(cache, filled, dtype)).fold(0, u64::saturating_add))
}

fn of_attention(kind: &AttentionKind, span: Span) -> LayerCache {
    let n = |number: u32| u64::from(number);
    let window = match span {
        Span::Full => None,
        Span::Window { tokens } | Span::Chunk { tokens } => Some(n(tokens)),
        Span::Summary { window } => Some(n(window)),
        // Filled from an encoder's output, which text alone does not have.
        Span::Cross => return LayerCache::default(),
    };
    match kind {
        AttentionKind::Grouped { kv_heads, key_dim, value_dim, .. } => {
            let kv = KeyValue { key: n(*kv_heads) * n(*key_dim), value: n(*kv_heads) * n(*value_dim), window };
            LayerCache { kv: Some(kv), ..LayerCache::default() }
        }
        AttentionKind::Latent { rank, rope_dim, indexer, compress, .. } => {
            if let Span::Summary { .. } = span {
                return compressed(n(*rank) + n(*rope_dim), indexer.map(|i| n(i.dim)), n(*compress), window);
            }
            let kv = KeyValue { key: n(*rank), value: n(*rope_dim), window };
            LayerCache { kv: Some(kv), indexer: indexer.map_or(0, |i| n(i.dim)), ..LayerCache::default() }
        }
    }
}

/// DeepSeek-V4: keys are values, kept once for the window; beside them compressed entries. With an indexer two
/// overlapping series are projected (twice the width per waiting position), and the indexer keeps the same at its width.
///
/// Source: transformers 5.23.0, `models/deepseek_v4/modeling_deepseek_v4.py`, `DeepseekV4HCACache`, `DeepseekV4CSACache`.
fn compressed(width: u64, indexer: Option<u64>, rate: u64, window: Option<u64>) -> LayerCache {
    let kv = KeyValue { key: width, value: 0, window };
    let summary = (rate > 1).then(|| match indexer {
        // Keys and gates, each of both series; of the last window the first series' keys and gates.
        Some(dim) => Summary {
            rate,
            entry: width + dim,
            waiting: 4 * (width + dim),
            overlap: rate.saturating_mul(2 * (width + dim)),
        },
        None => Summary { rate, entry: width, waiting: 2 * width, overlap: 0 },
    });
    LayerCache { kv: Some(kv), summary, ..LayerCache::default() }
}

/// Numbers of one layer's convolution inputs (the whole kernel's, unlike vLLM's, which keeps one fewer) and of its
/// recurrent state.
///
/// Source: transformers 5.23.0, `LinearAttentionLayer.update_conv_state` keeps `conv_kernel_size` inputs.
fn state_numbers(recurrent: &Recurrent) -> (u64, u64) {
    let p = |factors: &[u32]| factors.iter().fold(1_u64, |all, factor| all.saturating_mul(u64::from(*factor)));
    match recurrent {
        Recurrent::Mamba1 { inner, state, kernel } => (p(&[*inner, *kernel]), p(&[*inner, *state])),
        Recurrent::Mamba2 { heads, head_dim, state, groups, kernel } => {
            let convolved = p(&[*heads, *head_dim, *kernel]).saturating_add(p(&[2, *groups, *state, *kernel]));
            (convolved, p(&[*heads, *head_dim, *state]))
        }
        Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, kernel } => {
            let keys = p(&[2, *key_heads, *key_dim, *kernel]);
            let values = p(&[*value_heads, *value_dim, *kernel]);
            (keys.saturating_add(values), p(&[*value_heads, *value_dim, *key_dim]))
        }
        Recurrent::KimiDelta { heads, key_dim, value_dim, kernel } => {
            let convolved = p(&[2, *heads, *key_dim, *kernel]).saturating_add(p(&[*heads, *value_dim, *kernel]));
            (convolved, p(&[*heads, *key_dim, *value_dim]))
        }
        Recurrent::Lightning { .. } => (0, 0),
        Recurrent::ShortConv { width, kernel } => (p(&[*width, *kernel]), 0),
    }
}
