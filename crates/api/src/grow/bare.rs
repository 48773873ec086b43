//! What does a model need without an engine? Its weights, its cache to the token, and activations by a stated rule: nothing
//! that an engine adds.

use std::sync::Arc;

use plimsoll_facts::model::{AttentionKind, Ffn, Mixer, Model, Span};
use plimsoll_facts::tensor::DType;
use plimsoll_plan::State;
use plimsoll_units::Bytes;

use crate::vary::{Knob, Need, Part, Setting, Shapes, Value};
use crate::world::Loaded;
use crate::{Desk, Error};

/// Tokens of one step at most, for activations.
const STEP_TOKENS: u64 = 8192;

/// What activations are taken to be, for the answer.
pub(super) const RULE: &str = "no engine: activations are those of one layer for a step of at most 8 192 tokens, bytes × \
    tokens × (3 × inner + 6 × dim); nothing is added for graphs, libraries and buffers, and the whole card may be filled";

/// A model without an engine.
pub(super) struct Bare<'d> {
    loaded: Arc<Loaded>,
    shapes: Shapes<'d>,
    kv_bytes: Option<u64>,
    /// The card's memory, where there is a card.
    card: Option<Bytes>,
}

impl<'d> Bare<'d> {
    pub(super) fn new(
        (name, loaded): (String, Arc<Loaded>),
        config: &serde_json::Value,
        kv_bytes: Option<u64>,
        card: Option<Bytes>,
        desk: &'d Desk<'d>,
    ) -> Bare<'d> {
        let shapes = Shapes::new(name, Arc::clone(&loaded), desk).with_config(config);
        Bare { loaded, shapes, kv_bytes, card }
    }

    /// The same model on another card.
    pub(super) fn has_card(&self) -> bool {
        self.card.is_some()
    }

    /// Returns what `batch` sequences of `context` tokens need.
    pub(super) fn need_at(&self, settings: &[Setting], batch: u64, context: u64) -> Result<Need, Error> {
        let of_model: Vec<&Setting> = settings.iter().filter(|setting| setting.knob.is_of_model()).collect();
        let loaded = if of_model.is_empty() { Arc::clone(&self.loaded) } else { self.shapes.model(&of_model, true)?.0 };
        let model = &loaded.model;
        let mut element = self.kv_bytes.unwrap_or_else(|| DType::bytes_of(model.dtype, 1));
        for setting in settings.iter().filter(|setting| !setting.knob.is_of_model()) {
            match (setting.knob, &setting.value) {
                (Knob::KvFormat, Value::Word(word)) => element = bytes_of(word)?,
                (Knob::Context | Knob::Batch, _) => {}
                (knob, _) => {
                    return Err(Error::Request(format!(
                        "{} is an engine's: name one with --engine, such as vllm",
                        knob.name()
                    )));
                }
            }
        }
        let weights = model.checkpoint_bytes().model;
        let numbers = model.layers.iter().map(|layer| kept(&layer.mixer, context));
        let kv = Bytes::new(numbers.fold(0, u64::saturating_add).saturating_mul(element).saturating_mul(batch));
        let activations = activations(model, batch.saturating_mul(context).min(STEP_TOKENS));
        let fixed = weights + activations;
        let card = self.card.unwrap_or(Bytes::new(u64::MAX));
        let room = card.saturating_sub(fixed).get();
        let largest = kv.get().checked_div(batch).and_then(|each| room.checked_div(each));
        let fits = fixed + kv <= card;
        let exact = Part { low: activations, bytes: activations, high: activations };
        Ok(Need {
            batch,
            context,
            weights,
            activations: exact,
            runtime: Part::default(),
            kv,
            limit: card,
            limit_low: card,
            limit_high: card,
            card,
            rank: 0,
            gpus: 1,
            fits,
            state: if fits { State::Fits } else { State::DoesNotFit },
            binding: (!fits).then(|| if fixed > card { "weights" } else { "kv" }.to_owned()),
            largest_batch: largest,
            largest_batch_low: largest,
            largest_batch_high: largest,
            host: Bytes::ZERO,
        })
    }
}

/// Numbers that a layer keeps for a sequence of `tokens` tokens.
fn kept(mixer: &Mixer, tokens: u64) -> u64 {
    let Mixer::Attention(attention) = mixer else { return 0 };
    if attention.shares_cache_of.is_some() {
        return 0;
    }
    let each = match attention.kind {
        AttentionKind::Grouped { kv_heads, key_dim, value_dim, .. } => {
            u64::from(kv_heads).saturating_mul(u64::from(key_dim) + u64::from(value_dim))
        }
        AttentionKind::Latent { rank, rope_dim, .. } => u64::from(rank) + u64::from(rope_dim),
    };
    let held = match attention.span {
        Span::Window { tokens: window } | Span::Chunk { tokens: window } => tokens.min(u64::from(window)),
        Span::Full | Span::Summary { .. } | Span::Cross => tokens,
    };
    each.saturating_mul(held)
}

/// One layer's rows for so many tokens: gate, up and their product, and six rows of the residual width.
fn activations(model: &Model, tokens: u64) -> Bytes {
    let inner = model.layers.iter().map(|layer| match &layer.ffn {
        Ffn::Dense { inner, .. } => *inner,
        Ffn::Moe { active, inner, shared_inner, .. } => {
            u64::from(*active).saturating_mul(*inner).saturating_add(*shared_inner)
        }
        Ffn::None => 0,
    });
    let widest = inner.max().unwrap_or(0);
    let row = widest.saturating_mul(3).saturating_add(model.hidden.saturating_mul(6));
    Bytes::new(model.dtype.bytes_of(row.saturating_mul(tokens)))
}

/// Bytes of a number of the cache by its format's name.
fn bytes_of(word: &str) -> Result<u64, Error> {
    match word {
        "fp32" => Ok(4),
        "bf16" | "fp16" => Ok(2),
        "fp8" | "int8" => Ok(1),
        other => Err(Error::Request(format!(
            "kv-format is `{other}`, expected fp32, bf16, fp16, fp8 or int8; an engine's own formats need --engine"
        ))),
    }
}
