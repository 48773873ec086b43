//! What was asked for? The options as checked types.

use std::collections::BTreeMap;

use plimsoll_facts::tensor::DType;
use plimsoll_units::Bytes;
use serde_json::{Map, Value};

use super::quantised::{Backend, Quantised};
use crate::Error;

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Scores of every pair of positions, kept.
    Eager,
    /// PyTorch's fused kernel.
    Sdpa,
    /// FlashAttention 2, 3 or 4.
    Flash,
    /// Flex attention, compiled.
    Flex,
}

/// Where the cache lies and of which class it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// Grows by concatenation.
    Dynamic,
    /// Taken whole.
    Static,
    /// Words of few bits.
    Quantised(Quantised),
}

/// How weights are put on devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceMap {
    /// Everything on the first card (`model.to("cuda")`, `device_map="cuda"`).
    One,
    /// Evenly (`auto` is the same).
    Balanced,
    /// Evenly, as little as possible on the first card.
    BalancedLowZero,
    /// Filled one after another.
    Sequential,
}

impl DeviceMap {
    /// Returns the word.
    pub const fn name(&self) -> &'static str {
        match self {
            DeviceMap::One => "cuda",
            DeviceMap::Balanced => "auto",
            DeviceMap::BalancedLowZero => "balanced_low_0",
            DeviceMap::Sequential => "sequential",
        }
    }
}

/// How bitsandbytes quantises what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// NF4 or FP4, 64 numbers to a scale.
    Four {
        /// Whether the scales are quantised again.
        double: bool,
    },
    /// LLM.int8.
    Eight,
}

/// The options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Sequences side by side before beams.
    pub batch: u64,
    /// `num_beams` or `num_return_sequences`, whichever multiplies the batch.
    pub beams: u64,
    /// Tokens of each prompt.
    pub prompt: Option<u64>,
    /// New tokens of each sequence.
    pub new: Option<u64>,
    /// Prompt and new tokens together.
    pub length: Option<u64>,
    /// Positions that a static cache is made for at least.
    pub max_cache_len: Option<u64>,
    /// Tokens of one pass over the prompt.
    pub prefill_chunk: Option<u64>,
    /// The cache.
    pub cache: Implementation,
    /// Whether the cache lies in host memory between a layer's turns.
    pub offloaded: bool,
    /// False when nothing is cached.
    pub use_cache: bool,
    /// `attn_implementation`.
    pub attention: Option<Attention>,
    /// Whether prompts differ in length, so that a mask is needed.
    pub padding: bool,
    /// `dtype`; `None` for the release's default.
    pub dtype: Option<Dtype>,
    /// `device_map`; `None` when it was not given.
    pub device_map: Option<DeviceMap>,
    /// `max_memory`: card → bytes; the host under `None`.
    pub max_memory: BTreeMap<Option<u32>, Bytes>,
    /// `load_in_4bit`, `load_in_8bit`.
    pub bits: Option<Bits>,
}

/// `dtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// As the checkpoint says.
    Auto,
    /// This one.
    Is(DType),
}

/// More tokens or sequences than anything has; keeps products in range.
const MOST: u64 = 1 << 32;

impl Options {
    /// Reads a map of options.
    ///
    /// # Errors
    /// [`Error::Flag`] names the option, what was found and what is accepted.
    pub fn from_map(map: &Map<String, Value>) -> Result<Options, Error> {
        let reader = Reader { map };
        let beams = reader.count("num_beams")?.unwrap_or(1).max(reader.count("num_return_sequences")?.unwrap_or(1));
        let (cache, offloaded) = cache(&reader)?;
        let four = reader.flag("load_in_4bit")?.unwrap_or(false);
        let eight = reader.flag("load_in_8bit")?.unwrap_or(false);
        let bits = match (four, eight) {
            (true, true) => {
                return Err(wrong("load_in_8bit", "true", "either load_in_4bit or load_in_8bit, not both"));
            }
            (true, false) => Some(Bits::Four { double: reader.flag("bnb_4bit_use_double_quant")?.unwrap_or(false) }),
            (false, true) => Some(Bits::Eight),
            (false, false) => None,
        };
        Ok(Options {
            batch: reader.count("batch_size")?.unwrap_or(1),
            beams,
            prompt: reader.count("prompt_tokens")?,
            new: reader.count("max_new_tokens")?,
            length: reader.count("max_length")?,
            max_cache_len: reader.count("max_cache_len")?,
            prefill_chunk: reader.count("prefill_chunk_size")?,
            cache,
            offloaded,
            use_cache: reader.flag("use_cache")?.unwrap_or(true),
            attention: attention(&reader)?,
            padding: reader.flag("padding")?.unwrap_or(false),
            dtype: dtype(&reader)?,
            device_map: device_map(&reader)?,
            max_memory: max_memory(&reader)?,
            bits,
        })
    }
}

struct Reader<'m> {
    map: &'m Map<String, Value>,
}

impl<'m> Reader<'m> {
    fn get(&self, key: &str) -> Option<&'m Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn count(&self, key: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
        match number {
            Some(number @ 1..=MOST) => Ok(Some(number)),
            Some(_) | None => Err(wrong(key, &shown(value), "a whole number from 1 to 2^32")),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let flag = value.as_bool().or_else(|| match value.as_str()?.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        });
        flag.map(Some).ok_or_else(|| wrong(key, &shown(value), "true or false"))
    }

    fn text(&self, key: &str) -> Result<Option<&'m str>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(|text| Some(text.trim())).ok_or_else(|| wrong(key, &shown(value), "a word"))
    }
}

const CACHES: &str = "dynamic, static, offloaded, offloaded_static or quantized";

fn cache(reader: &Reader<'_>) -> Result<(Implementation, bool), Error> {
    Ok(match reader.text("cache_implementation")? {
        None | Some("dynamic") => (Implementation::Dynamic, false),
        Some("offloaded") => (Implementation::Dynamic, true),
        Some("static" | "sliding_window" | "hybrid" | "hybrid_chunked") => (Implementation::Static, false),
        Some("offloaded_static" | "offloaded_hybrid" | "offloaded_hybrid_chunked") => (Implementation::Static, true),
        Some("quantized") => (Implementation::Quantised(quantised(reader.get("cache_config"))?), false),
        Some(other) => return Err(wrong("cache_implementation", other, CACHES)),
    })
}

/// `cache_config`: `{"backend": "hqq", "nbits": 4, …}`. The default backend is quanto
/// (transformers 5.23.0, `generation/utils.py`, `_prepare_cache_for_generation`).
fn quantised(config: Option<&Value>) -> Result<Quantised, Error> {
    let empty = Map::new();
    let map = match config {
        None => &empty,
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("cache_config", &shown(other), "a map such as {\"backend\": \"hqq\"}")),
    };
    let reader = Reader { map };
    let known = ["backend", "nbits", "axis_key", "axis_value", "q_group_size", "residual_length"];
    if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(wrong("cache_config", key, &known.join(", ")));
    }
    let backend = match reader.text("backend")?.map(str::to_ascii_lowercase).as_deref() {
        None | Some("quanto") => Backend::Quanto,
        Some("hqq") => Backend::Hqq,
        Some("fp8") => Backend::Fp8,
        Some(other) => return Err(wrong("cache_config.backend", other, "quanto, hqq or fp8")),
    };
    if backend == Backend::Fp8 && map.len() > 1 {
        let found = map.keys().find(|key| *key != "backend").map_or("", String::as_str);
        return Err(wrong("cache_config", found, "nothing beside the backend: fp8 has one scale per tensor"));
    }
    let other_axis = if backend == Backend::Hqq { 1 } else { -1 };
    let first = |key: &str| match reader.get(key).map(|value| (value, value.as_i64())) {
        None => Ok(true),
        Some((_, Some(0))) => Ok(true),
        Some((_, Some(axis))) if axis == other_axis => Ok(false),
        Some((value, _)) => Err(wrong(&format!("cache_config.{key}"), &shown(value), &format!("0 or {other_axis}"))),
    };
    let defaults = Quantised::new(backend);
    Ok(Quantised {
        backend,
        nbits: reader.count("nbits")?.map_or(defaults.nbits, |bits| bits as u32),
        key_axis_first: first("axis_key")?,
        value_axis_first: first("axis_value")?,
        group: reader.count("q_group_size")?.unwrap_or(defaults.group),
        residual: reader.count("residual_length")?.unwrap_or(defaults.residual),
    })
}

fn attention(reader: &Reader<'_>) -> Result<Option<Attention>, Error> {
    Ok(match reader.text("attn_implementation")? {
        None => None,
        Some("eager") => Some(Attention::Eager),
        Some("sdpa") => Some(Attention::Sdpa),
        Some("flex_attention") => Some(Attention::Flex),
        Some(name) if name.contains("flash_attention") || name.contains("flash-attn") => Some(Attention::Flash),
        Some(other) => {
            return Err(wrong("attn_implementation", other, "eager, sdpa, flash_attention_2 or flex_attention"));
        }
    })
}

fn dtype(reader: &Reader<'_>) -> Result<Option<Dtype>, Error> {
    Ok(match reader.text("dtype")? {
        None => None,
        Some("auto") => Some(Dtype::Auto),
        Some(name) => match DType::parse(name) {
            Some(dtype @ (DType::F64 | DType::F32 | DType::F16 | DType::BF16)) => Some(Dtype::Is(dtype)),
            Some(_) | None => return Err(wrong("dtype", name, "auto, bfloat16, float16 or float32")),
        },
    })
}

fn device_map(reader: &Reader<'_>) -> Result<Option<DeviceMap>, Error> {
    let expected = "auto, balanced, balanced_low_0, sequential, or one device such as cuda";
    let Some(value) = reader.get("device_map") else { return Ok(None) };
    let whole = |value: &Value| value.as_u64() == Some(0) || value.as_str().is_some_and(is_first);
    Ok(Some(match value {
        Value::String(text) => match text.trim() {
            "auto" | "balanced" => DeviceMap::Balanced,
            "balanced_low_0" => DeviceMap::BalancedLowZero,
            "sequential" => DeviceMap::Sequential,
            text if is_first(text) => DeviceMap::One,
            other => return Err(wrong("device_map", other, expected)),
        },
        Value::Number(_) if whole(value) => DeviceMap::One,
        Value::Object(map) if map.len() == 1 && map.get("").is_some_and(whole) => DeviceMap::One,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(wrong("device_map", &shown(value), expected));
        }
    }))
}

fn is_first(text: &str) -> bool {
    matches!(text, "cuda" | "cuda:0" | "0" | "hip" | "gpu")
}

/// `{0: "20GiB", "cpu": "60GiB"}` as JSON, or `0=20GiB,cpu=60GiB`. `GB` is 10^9 and `GiB` 2^30, as accelerate reads them.
fn max_memory(reader: &Reader<'_>) -> Result<BTreeMap<Option<u32>, Bytes>, Error> {
    let expected = "a map such as {\"0\": \"20GiB\", \"cpu\": \"60GiB\"}";
    let mut limits = BTreeMap::new();
    let mut take = |key: &str, size: Option<Bytes>| {
        let device = match key.trim() {
            "cpu" => Some(None),
            text => text.parse::<u32>().ok().map(Some),
        };
        let (Some(device), Some(size)) = (device, size) else { return Err(wrong("max_memory", key, expected)) };
        limits.insert(device, size);
        Ok(())
    };
    match reader.get("max_memory") {
        None => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                let size = value.as_u64().map(Bytes::new).or_else(|| value.as_str()?.parse().ok());
                take(key, size)?;
            }
        }
        Some(Value::String(text)) => {
            for piece in text.split(',') {
                let (key, size) = piece.split_once('=').ok_or_else(|| wrong("max_memory", piece, expected))?;
                take(key, size.parse().ok())?;
            }
        }
        Some(other) => return Err(wrong("max_memory", &shown(other), expected)),
    }
    Ok(limits)
}

fn wrong(flag: &str, found: &str, expected: &str) -> Error {
    let found: String = found.chars().take(60).collect();
    Error::Flag { flag: flag.to_owned(), found, expected: expected.to_owned() }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
