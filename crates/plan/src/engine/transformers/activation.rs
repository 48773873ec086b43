//! What does a forward pass take above weights and cache? The tensors that are alive at once in the widest moment of a
//! layer, contiguous and unfused, as PyTorch runs the reference implementation.
//!
//! Source: transformers 5.23.0, `models/llama/modeling_llama.py`, `integrations/{sdpa_attention,moe}.py`,
//! `masking_utils.py`, `generation/utils.py`; every sum below names its tensors. For dense models with grouped-query
//! attention the sums equal the storages alive when the classes run on PyTorch's meta device, to the byte.

use plimsoll_facts::model::{AttentionKind, Ffn, Layer, Mixer, Model, Recurrent, Span};
use plimsoll_facts::tensor::DType;

use super::options::Attention;

/// One forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pass {
    /// Sequences side by side.
    pub batch: u64,
    /// New positions of each.
    pub tokens: u64,
    /// Positions that attention sees, the new ones counted.
    pub context: u64,
    /// How attention is computed.
    pub attention: Attention,
    /// Whether sequences differ in length.
    pub padding: bool,
    /// The dtype of activations.
    pub dtype: DType,
}

/// A peak with what makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peak {
    /// Bytes.
    pub bytes: f64,
    /// Where it is reached.
    pub place: &'static str,
}

impl Peak {
    const fn new(bytes: f64, place: &'static str) -> Peak {
        Peak { bytes, place }
    }

    fn larger(self, other: Peak) -> Peak {
        if other.bytes > self.bytes { other } else { self }
    }
}

/// Returns the widest moment of some layers, the mask counted, and of the output projection where it lies with them.
pub fn peak<'l>(model: &Model, layers: impl Iterator<Item = &'l Layer>, head: bool, pass: &Pass) -> Peak {
    let mut widest = Peak::default();
    let (mut full, mut windowed) = (false, false);
    for layer in layers {
        widest = widest.larger(of_layer(model, layer, pass));
        if let Mixer::Attention(attention) = &layer.mixer {
            full |= attention.span == Span::Full;
            windowed |= attention.span != Span::Full;
        }
    }
    // One mask for each kind of span.
    widest.bytes += mask(pass) * f64::from(u8::from(full) + u8::from(windowed));
    if head { widest.larger(logits(model, pass)) } else { widest }
}

fn width(dtype: DType) -> f64 {
    dtype.bits() as f64 / 8.0
}

/// One layer: the norm, the mixer, the feed-forward block, whichever is widest. The embedded input, which the model's own
/// function still holds, is alive beside all of them, and so are the tokens' numbers and rotary tables.
fn of_layer(model: &Model, layer: &Layer, pass: &Pass) -> Peak {
    let (rows, b) = (pass.batch as f64 * pass.tokens as f64, width(pass.dtype));
    let hidden = model.hidden as f64;
    // The residual, and the norm's input in fp32 with its square or its scaled copy.
    let norm = Peak::new(rows * hidden * (b + 8.0), "norm in fp32");
    let mixer = match &layer.mixer {
        Mixer::Attention(attention) => attend(&attention.kind, attention.span, hidden, pass),
        Mixer::Recurrent(recurrent) => recur(recurrent, hidden, pass),
        Mixer::None => Peak::default(),
    };
    let mut widest = norm.larger(mixer).larger(feed(&layer.ffn, hidden, rows, b));
    let rotary = match &layer.mixer {
        Mixer::Attention(attention) => match attention.kind {
            AttentionKind::Grouped { key_dim, .. } => f64::from(key_dim),
            AttentionKind::Latent { rope_dim, .. } => f64::from(rope_dim),
        },
        Mixer::Recurrent(_) | Mixer::None => 0.0,
    };
    widest.bytes += rows * (hidden * b + 2.0 * rotary * b + 8.0);
    widest
}

/// Attention: the residual, the normed input, then the widest of rotary embedding, the kernel, or the scores.
fn attend(kind: &AttentionKind, span: Span, hidden: f64, pass: &Pass) -> Peak {
    let (batch, tokens, b) = (pass.batch as f64, pass.tokens as f64, width(pass.dtype));
    let n = |number: u32| f64::from(number);
    let context = match span {
        Span::Window { tokens: window } | Span::Chunk { tokens: window } | Span::Summary { window } => {
            (pass.context as f64).min((n(window) - 1.0 + tokens).max(tokens))
        }
        Span::Full | Span::Cross => pass.context as f64,
    };
    let (rows, seen) = (batch * tokens, batch * context);
    let base = 2.0 * rows * hidden;
    let (heads, query, key, value, expanded) = match kind {
        AttentionKind::Grouped { heads, kv_heads, key_dim, value_dim } => {
            let repeats = pass.padding || n(*key_dim) > 256.0 || pass.attention == Attention::Eager;
            let expanded = if repeats && heads != kv_heads { n(*heads) * (n(*key_dim) + n(*value_dim)) } else { 0.0 };
            (n(*heads), n(*heads) * n(*key_dim), n(*kv_heads) * n(*key_dim), n(*heads) * n(*value_dim), expanded)
        }
        AttentionKind::Latent { heads, rope_dim, nope_dim, value_dim, .. } => {
            let query = n(*heads) * (n(*nope_dim) + n(*rope_dim));
            // Keys and values of every head are made from the latents of all positions at each pass.
            (
                n(*heads),
                query,
                query,
                n(*heads) * n(*value_dim),
                n(*heads) * (n(*nope_dim) + n(*rope_dim) + n(*value_dim)),
            )
        }
    };
    let queries = rows * query;
    // q, k and v, and of the rotated query q × cos, the rotated half and its product with sin.
    let rotary = Peak::new((base + rows * (query + 2.0 * key) + 3.0 * queries) * b, "rotary embedding");
    // The kernel's output and its contiguous copy.
    let fused = base + queries + 2.0 * rows * value + seen * expanded;
    let kernel = match pass.attention {
        Attention::Eager => {
            // Scores with the mask added and their softmax in fp32: bfloat16 is made fp32 before, half precision on the
            // way, after which the result is made half again (PyTorch, `aten/src/ATen/native/SoftMax.cpp`).
            let scores = batch * heads * tokens * context * if pass.dtype == DType::BF16 { 10.0 } else { 8.0 };
            Peak::new((base + queries + seen * expanded) * b + scores, "attention scores")
        }
        Attention::Sdpa | Attention::Flash | Attention::Flex => Peak::new(fused * b, "attention"),
    };
    rotary.larger(kernel)
}

/// Recurrent mixers: projections, the convolution's output, and the scan's operands in fp32.
fn recur(recurrent: &Recurrent, hidden: f64, pass: &Pass) -> Peak {
    let (rows, b) = (pass.batch as f64 * pass.tokens as f64, width(pass.dtype));
    let n = |number: u32| f64::from(number);
    let (projected, scanned) = match recurrent {
        Recurrent::Mamba1 { inner, state, .. } => (2.0 * n(*inner), n(*inner) + 2.0 * n(*state)),
        Recurrent::Mamba2 { heads, head_dim, state, groups, .. } => {
            let inner = n(*heads) * n(*head_dim);
            (2.0 * inner + 2.0 * n(*groups) * n(*state) + n(*heads), inner + 2.0 * n(*groups) * n(*state))
        }
        Recurrent::GatedDelta { value_heads, key_dim, value_dim, .. } => {
            let inner = n(*value_heads) * n(*value_dim);
            (2.0 * inner + 2.0 * n(*value_heads) * n(*key_dim), inner + 2.0 * n(*value_heads) * n(*key_dim))
        }
        Recurrent::KimiDelta { heads, key_dim, value_dim, .. } => {
            let (keys, values) = (n(*heads) * n(*key_dim), n(*heads) * n(*value_dim));
            (2.0 * values + 3.0 * keys, values + 3.0 * keys)
        }
        Recurrent::Lightning { heads, head_dim } => (4.0 * n(*heads) * n(*head_dim), 3.0 * n(*heads) * n(*head_dim)),
        Recurrent::ShortConv { width, .. } => (3.0 * n(*width), n(*width)),
    };
    let bytes = rows * (2.0 * hidden * b + 2.0 * projected * b + scanned * 8.0);
    Peak::new(bytes, "recurrent mixer")
}

/// The feed-forward block: the layer's input, the residual behind attention and the normed input, then activated gate, up
/// and their product; of a mixture of experts every token once per chosen expert.
fn feed(ffn: &Ffn, hidden: f64, rows: f64, b: f64) -> Peak {
    let base = 3.0 * rows * hidden * b;
    let dense = |inner: f64, gated: bool| rows * inner * if gated { 3.0 } else { 2.0 } * b;
    match ffn {
        Ffn::Dense { inner, gated } => Peak::new(base + dense(*inner as f64, *gated), "feed-forward block"),
        Ffn::Moe { active, inner, shared_inner, gated, dense_inner, .. } => {
            let (inner, chosen) = (*inner as f64, rows * f64::from(*active));
            // The chosen rows, both halves of the projection, the activated gate and the product; or, behind them, the
            // output, the weighted output and that in the tokens' order.
            let up = chosen * (hidden + inner * if *gated { 4.0 } else { 2.0 });
            let down = chosen * (4.0 * hidden).max(inner + 3.0 * hidden);
            let routed = base + up.max(down) * b;
            let beside = base + dense((*shared_inner).max(*dense_inner) as f64, *gated);
            Peak::new(routed, "routed experts").larger(Peak::new(beside, "shared experts"))
        }
        Ffn::None => Peak::default(),
    }
}

/// A mask, made once for all layers: one number per pair for eager attention, one byte for a padded batch.
fn mask(pass: &Pass) -> f64 {
    let pairs = pass.batch as f64 * pass.tokens as f64 * pass.context as f64;
    match pass.attention {
        Attention::Eager => pairs * width(pass.dtype),
        Attention::Sdpa if pass.padding => pairs,
        Attention::Sdpa | Attention::Flash | Attention::Flex => 0.0,
    }
}

/// Logits of the last position, their fp32 copy and the processed scores.
fn logits(model: &Model, pass: &Pass) -> Peak {
    let last = pass.batch as f64 * model.vocabulary as f64 * (width(pass.dtype) + 8.0);
    let hidden = pass.batch as f64 * pass.tokens as f64 * model.hidden as f64 * width(pass.dtype);
    Peak::new(last + hidden, "logits")
}
