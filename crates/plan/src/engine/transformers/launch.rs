//! What will run? A request with the release's defaults filled in.

use plimsoll_facts::model::{AttentionKind, Mixer, Model};
use plimsoll_facts::tensor::DType;

use super::NAME;
use super::cache::{Cache, Filled};
use super::options::{Attention, DeviceMap, Dtype, Implementation, Options};
use super::weights::Loading;
use crate::engine::Question;
use crate::{Card, Error, Given, Version};

/// The release since which a dynamic cache drops what has left a layer's window (4.56.0, `cache_utils.py`,
/// `DynamicSlidingWindowLayer`; 4.55 kept all).
const SLIDES_SINCE: Version = Version::new(4, 56, 0);
/// The release since which latent attention is cached as latents (5.15.0, `models/deepseek_v3/modeling_deepseek_v3.py`;
/// 5.14 cached every head's key and value).
const LATENTS_SINCE: Version = Version::new(5, 15, 0);
/// The release since which `dtype` is the checkpoint's when it is not given (5.0.0; fp32 before).
const AUTO_SINCE: Version = Version::new(5, 0, 0);

/// Model types without scaled-dot-product attention (5.23.0: classes that do not set `_supports_sdpa`).
const EAGER: [&str; 10] =
    ["bloom", "codegen", "deepseek_ref", "deepseek_v4", "gemma2", "gpt_neo", "gpt_oss", "gptj", "mimo_v2_flash", "mpt"];

/// More cards than one machine has.
const MOST_CARDS: usize = 64;

/// A launch without open questions.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The model.
    pub model: &'a Model,
    /// Every card by itself.
    pub cards: Vec<&'a Card>,
    /// The release.
    pub version: Version,
    /// What was written.
    pub options: Options,
    /// What is known.
    pub given: &'a Given,
    /// Sequences side by side, beams counted.
    pub batch: u64,
    /// Tokens of each prompt.
    pub prompt: u64,
    /// New tokens.
    pub new: u64,
    /// How attention is computed.
    pub attention: Attention,
    /// The dtype of activations and of weights that are not quantised.
    pub dtype: DType,
    /// Where modules go.
    pub device_map: DeviceMap,
    /// What nobody said.
    pub assumptions: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl<'a> Launch<'a> {
    /// Settles a question.
    ///
    /// # Errors
    /// [`Error`] for options that contradict one another or the model.
    pub fn new(question: &Question<'a>) -> Result<Launch<'a>, Error> {
        let options = Options::from_map(question.options)?;
        let (mut assumptions, mut notes) = (Vec::new(), Vec::new());
        let version = question.version;
        let (prompt, new) = lengths(&options, question.model, &mut assumptions, &mut notes)?;
        let (cards, device_map) = cards(question, &options, &mut assumptions);
        let Some(first) = cards.first() else { return Err(Error::Request("no card".to_owned())) };
        assumptions.push(format!("nothing else uses the memory of {}", first.name));
        Ok(Launch {
            model: question.model,
            version,
            given: question.given,
            batch: options.batch.saturating_mul(options.beams),
            prompt,
            new,
            attention: attention(&options, question.model, &mut assumptions),
            dtype: dtype(&options, question.model, version, &mut assumptions),
            device_map,
            cards,
            options,
            assumptions,
            notes,
        })
    }

    /// Returns the total length of a sequence.
    pub const fn total(&self) -> u64 {
        self.prompt.saturating_add(self.new)
    }

    /// Returns how the cache is filled when the last token has been made.
    pub const fn filled(&self) -> Filled {
        Filled { batch: self.batch, prompt: self.prompt, steps: self.new.saturating_sub(1) }
    }

    /// Returns the cache class.
    pub fn cache(&self) -> Cache {
        match self.options.cache {
            Implementation::Dynamic => Cache::Dynamic,
            Implementation::Static => {
                let positions = self.total().saturating_sub(1);
                Cache::Static { positions: positions.max(self.options.max_cache_len.unwrap_or(0)) }
            }
            Implementation::Quantised(quantised) => Cache::Quantised(quantised),
        }
    }

    /// Returns how weights are loaded onto the first card.
    pub fn loading(&self) -> Loading {
        let card = self.cards.first().copied();
        match card {
            Some(card) => Loading::new(self.dtype, self.options.bits, card),
            None => Loading { dtype: self.dtype, bits: self.options.bits, keeps_fp8: true, keeps_mxfp4: true },
        }
    }

    /// Returns what every layer keeps in this release.
    pub fn layers(&self) -> Vec<super::cache::LayerCache> {
        let mut layers = super::cache::layers(self.model);
        for (cache, layer) in layers.iter_mut().zip(&self.model.layers) {
            let Some(kv) = &mut cache.kv else { continue };
            if self.version < SLIDES_SINCE && self.options.cache == Implementation::Dynamic {
                kv.window = None;
            }
            if let Mixer::Attention(attention) = &layer.mixer
                && let AttentionKind::Latent { heads, rope_dim, nope_dim, value_dim, .. } = &attention.kind
                && self.version < LATENTS_SINCE
                && cache.summary.is_none()
            {
                kv.key = u64::from(*heads) * (u64::from(*nope_dim) + u64::from(*rope_dim));
                kv.value = u64::from(*heads) * u64::from(*value_dim);
            }
        }
        layers
    }
}

/// The prompt and the new tokens.
fn lengths(
    options: &Options,
    model: &Model,
    assumptions: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Result<(u64, u64), Error> {
    let (prompt, new) = match (options.prompt, options.new, options.length) {
        (Some(prompt), Some(new), length) => {
            if length.is_some_and(|length| length != prompt.saturating_add(new)) {
                notes.push("max_new_tokens and max_length are both given: generate goes by max_new_tokens".to_owned());
            }
            (prompt, new)
        }
        (Some(prompt), None, Some(length)) if length > prompt => (prompt, length - prompt),
        (Some(prompt), None, Some(length)) => {
            return Err(Error::Request(format!(
                "max_length {length} leaves no room behind a prompt of {prompt} tokens"
            )));
        }
        (Some(prompt), None, None) => {
            assumptions.push("max_new_tokens is not given: one, so the prompt alone is cached".to_owned());
            (prompt, 1)
        }
        (None, new, length) => {
            let length = length.unwrap_or_else(|| {
                assumptions.push(format!("max_length is not given: {}, the model's own", model.max_positions));
                model.max_positions.max(2)
            });
            let new = new.unwrap_or(1);
            if length <= new {
                return Err(Error::Request(format!("max_length {length} leaves no prompt before {new} new tokens")));
            }
            assumptions.push(format!("prompt_tokens is not given: {}, all but the new tokens", length - new));
            (length - new, new)
        }
    };
    let total = prompt.saturating_add(new);
    if total > model.max_positions {
        notes.push(format!("{total} positions are more than the {} that the model was made for", model.max_positions));
    }
    Ok((prompt, new))
}

/// Every card by itself, and where modules go.
fn cards<'a>(question: &Question<'a>, options: &Options, assumptions: &mut Vec<String>) -> (Vec<&'a Card>, DeviceMap) {
    let any = question.cards.iter().any(|card| card.count == u32::MAX);
    let count = |card: &Card| if card.count == u32::MAX { 1 } else { card.count as usize };
    let each = question.cards.iter().flat_map(|card| std::iter::repeat_n(card, count(card).min(MOST_CARDS)));
    let mut cards: Vec<&Card> = each.take(MOST_CARDS).collect();
    let map = options.device_map.clone().unwrap_or_else(|| {
        let map = if cards.len() > 1 { DeviceMap::Balanced } else { DeviceMap::One };
        assumptions.push(format!("device_map is not given: \"{}\"", map.name()));
        map
    });
    if map == DeviceMap::One {
        cards.truncate(1);
    } else if any {
        assumptions.push("the number of cards is not given: one".to_owned());
    }
    (cards, map)
}

fn attention(options: &Options, model: &Model, assumptions: &mut Vec<String>) -> Attention {
    options.attention.unwrap_or_else(|| {
        let eager = EAGER.contains(&model.model_type.as_str());
        let (attention, name) = if eager { (Attention::Eager, "eager") } else { (Attention::Sdpa, "sdpa") };
        assumptions.push(format!("attn_implementation is not given: {name}, the default for this model"));
        attention
    })
}

fn dtype(options: &Options, model: &Model, version: Version, assumptions: &mut Vec<String>) -> DType {
    match options.dtype {
        Some(Dtype::Is(dtype)) => dtype,
        Some(Dtype::Auto) => model.dtype,
        None if version >= AUTO_SINCE => {
            assumptions.push(format!("dtype is not given: {}, the checkpoint's ({NAME} from 5.0)", model.dtype.name()));
            model.dtype
        }
        None => {
            let quantised = options.bits.is_some() || model.quant.is_some();
            let dtype = if quantised { DType::F16 } else { DType::F32 };
            assumptions.push(format!("dtype is not given: {}, as {NAME} before 5.0 loads", dtype.name()));
            dtype
        }
    }
}
