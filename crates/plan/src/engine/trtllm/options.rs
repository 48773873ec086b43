//! What was asked for? Flags of `trtllm-serve`, `trtllm-build`, the LLM API and the runtime by their own names.

use plimsoll_facts::tensor::DType;
use serde_json::{Map, Value};

use super::batching::Scheduling;
use super::flags;
use super::keys::{ALIASES, INERT_KEYS, KEYS, UNCOUNTED_KEYS};
use super::rules::{Backend, Rules, default_backend, rules};
use crate::engine::flag::Effect;
use crate::{Error, Parallel, Version};

/// What one entry of the KV cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvDtype {
    /// An ordinary number.
    Plain(DType),
    /// Four bits, and an 8-bit scale for 16 of them in a pool of its own.
    Nvfp4,
}

impl KvDtype {
    /// Returns the bytes of `numbers` entries; NVFP4: ⌈n/2⌉ + ⌈n/16⌉ (`resource_manager.py`, 1.3).
    pub const fn bytes_of(self, numbers: u64) -> u64 {
        match self {
            KvDtype::Plain(dtype) => dtype.bytes_of(numbers),
            KvDtype::Nvfp4 => numbers.div_ceil(2).saturating_add(numbers.div_ceil(16)),
        }
    }

    /// Returns the name as `--kv_cache_dtype` spells it.
    pub const fn name(self) -> &'static str {
        match self {
            KvDtype::Plain(DType::F8E4M3) => "fp8",
            KvDtype::Plain(dtype) => dtype.name(),
            KvDtype::Nvfp4 => "nvfp4",
        }
    }
}

/// How the engine is asked to store matrices, whatever the checkpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// 8-bit floats with a scale per tensor.
    Fp8,
    /// 8-bit integers, one 16-bit scale per output (weight-only or SmoothQuant).
    Int8,
    /// 4-bit integers, one 16-bit scale per output (weight-only).
    Int4,
    /// 4-bit integers with a 16-bit scale per 128 inputs, and zero points where `zeros`.
    Int4Grouped {
        /// Whether zero points are kept (GPTQ).
        zeros: bool,
    },
    /// 4-bit floats with an 8-bit scale per 16.
    Nvfp4,
    /// 4-bit floats with an 8-bit exponent per 32.
    Mxfp4,
}

/// A launch, as written: `None` is the release's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// What runs the model.
    pub backend: Option<Backend>,
    /// Tensor-parallel ranks.
    pub tp: Option<u32>,
    /// Pipeline stages.
    pub pp: Option<u32>,
    /// Ranks over which whole experts are spread.
    pub ep: Option<u32>,
    /// Requests of one engine step.
    pub max_batch_size: Option<u64>,
    /// Tokens of one engine step.
    pub max_num_tokens: Option<u64>,
    /// Longest sequence.
    pub max_seq_len: Option<u64>,
    /// Longest prompt.
    pub max_input_len: Option<u64>,
    /// Widest beam.
    pub max_beam_width: Option<u64>,
    /// Part of the free memory that the pool takes.
    pub fraction: Option<f64>,
    /// Most tokens of the pool.
    pub max_tokens: Option<u64>,
    /// Most bytes of the pool.
    pub max_gpu_total_bytes: Option<u64>,
    /// Tokens of one block.
    pub tokens_per_block: Option<u64>,
    /// What the cache's entries are.
    pub kv_dtype: Option<KvDtype>,
    /// Bytes of the pool in host memory.
    pub host_cache_size: u64,
    /// Whether prompts are padded to `max_input_len` (no `remove_input_padding`).
    pub padded_input: bool,
    /// Whether prompts' scores are kept whole (no `context_fmha`).
    pub no_context_fmha: bool,
    /// Whether attention is replicated and requests divided.
    pub attention_dp: bool,
    /// Whether CUDA graphs are off.
    pub no_cuda_graph: bool,
    /// Largest batch that is captured.
    pub cuda_graph_max_batch_size: Option<u64>,
    /// Whether every prompt token's logits are kept.
    pub gather_context_logits: bool,
    /// Whether every generated token's logits are kept.
    pub gather_generation_logits: bool,
    /// How matrices are stored.
    pub quantization: Option<Quantization>,
    /// Dtype of activations and unquantised weights.
    pub dtype: Option<DType>,
    /// Windows, tiled over the layers.
    pub max_attention_window: Vec<u64>,
    /// Attention-sink tokens.
    pub sink_token_length: u64,
    /// Tokens drafted per step.
    pub max_draft_len: u64,
    /// Most generated tokens (`trtllm-build` up to 0.10), which together with `max_input_len` is the longest sequence.
    pub max_output_len: Option<u64>,
    /// Whether steps do not overlap.
    pub no_overlap: bool,
    /// Whether experts run on DeepGEMM, which keeps a workspace of its own.
    pub deep_gemm: bool,
    /// Options of the schedulers, which change batches and no memory.
    pub scheduling: Scheduling,
    /// Keys that can change memory in ways that are not counted.
    pub uncounted: Vec<String>,
}

impl Options {
    /// Reads flags by their own names; dashes are as good as underscores, and the sections `kv_cache_config`,
    /// `cuda_graph_config`, `speculative_config`, `quant_config` and `build_config` may be nested.
    ///
    /// # Errors
    /// [`Error::UnknownFlag`] for a key that the engine does not have, [`Error::Flag`] for a value that it refuses.
    pub fn from_map(map: &Map<String, Value>, version: Version) -> Result<Options, Error> {
        let mut options = Options::default();
        for (key, value) in map {
            options.read(key, value)?;
        }
        if options.backend == Some(Backend::PyTorch) && version < Version::new(0, 17, 0) {
            return Err(Error::Unsupported {
                engine: super::NAME,
                version: version.to_string(),
                why: "the PyTorch backend came with 0.17".to_owned(),
            });
        }
        Ok(options)
    }

    /// Returns the rules of the release under the backend that runs.
    pub fn rules(&self, version: Version) -> Rules {
        rules(version, self.backend_for(version))
    }

    /// Returns the backend that runs.
    pub fn backend_for(&self, version: Version) -> Backend {
        self.backend.unwrap_or_else(|| default_backend(version))
    }

    /// Returns how the model is divided.
    pub fn parallel(&self) -> Parallel {
        Parallel { tp: self.tp.unwrap_or(1), pp: self.pp.unwrap_or(1), dp: 1, ep: self.ep.unwrap_or(1) }
    }

    /// Reads one key.
    fn read(&mut self, key: &str, value: &Value) -> Result<(), Error> {
        let plain = key.trim_start_matches('-').replace('-', "_").to_ascii_lowercase();
        if let (Some(nested), true) = (value.as_object(), SECTIONS.contains(&plain.as_str())) {
            for (inner, value) in nested {
                let dotted = format!("{plain}.{inner}");
                let name = if resolve(&dotted).is_some() { dotted } else { inner.clone() };
                self.read(&name, value)?;
            }
            return Ok(());
        }
        if value.is_null() {
            return Ok(());
        }
        self.scheduling.option(&plain, key, value)?;
        let Some(name) = resolve(&plain) else {
            if plain == "gather_all_token_logits" {
                self.gather_context_logits = switch(key, value)?;
                self.gather_generation_logits = self.gather_context_logits;
                return Ok(());
            }
            let inner = plain.split_once('.').filter(|(section, _)| SECTIONS.contains(section)).map(|(_, inner)| inner);
            if INERT_KEYS.contains(&inner.unwrap_or(&plain)) || SECTIONS.contains(&plain.as_str()) {
                return Ok(());
            }
            let tables = [flags::SERVE, flags::BUILD, flags::RUNTIME];
            if let Some(known) = tables.iter().find_map(|table| table.named(&plain)) {
                if known.effect == Effect::Memory {
                    self.uncounted.push(plain);
                }
                return Ok(());
            }
            if UNCOUNTED_KEYS.contains(&plain.as_str()) {
                self.uncounted.push(plain);
                return Ok(());
            }
            return Err(Error::UnknownFlag {
                engine: super::NAME,
                flag: key.to_owned(),
                suggestion: suggestion(&plain),
            });
        };
        if self.read_number(name, key, value)? || self.read_switch(name, key, value)? {
            return Ok(());
        }
        self.read_word(name, key, value)
    }

    /// Reads a key whose value is a number; false when it is no such key.
    fn read_number(&mut self, name: &str, key: &str, value: &Value) -> Result<bool, Error> {
        let ranks = |most| number(key, value, 1, most).map(|n| Some(n as u32));
        let count = |least| number(key, value, least, 1 << 40).map(Some);
        match name {
            "tp_size" => self.tp = ranks(1024)?,
            "pp_size" => self.pp = ranks(1024)?,
            "ep_size" => self.ep = ranks(1024)?,
            "max_batch_size" => self.max_batch_size = count(1)?,
            "max_num_tokens" => self.max_num_tokens = count(1)?,
            "max_seq_len" => self.max_seq_len = count(1)?,
            "max_input_len" => self.max_input_len = count(1)?,
            "max_beam_width" => self.max_beam_width = Some(number(key, value, 1, 1024)?),
            "max_tokens" => self.max_tokens = count(1)?,
            "max_gpu_total_bytes" => {
                self.max_gpu_total_bytes = Some(number(key, value, 0, 1 << 50)?).filter(|bytes| *bytes > 0);
            }
            "host_cache_size" => self.host_cache_size = number(key, value, 0, 1 << 50)?,
            "sink_token_length" => self.sink_token_length = number(key, value, 0, 1 << 30)?,
            "max_output_len" => self.max_output_len = count(1)?,
            "context_parallel_size" => {
                if number(key, value, 1, 1024)? > 1 {
                    return Err(flag(key, value, "1 (context parallelism is not planned)"));
                }
            }
            "max_draft_len" => self.max_draft_len = number(key, value, 0, 1024)?,
            "cuda_graph_max_batch_size" => self.cuda_graph_max_batch_size = Some(number(key, value, 0, 1 << 20)?),
            "tokens_per_block" => {
                let block = number(key, value, 1, 65_536)?;
                if !block.is_power_of_two() {
                    return Err(flag(key, value, "a power of two"));
                }
                self.tokens_per_block = Some(block);
            }
            "free_gpu_memory_fraction" => {
                let fraction = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
                self.fraction = match fraction {
                    Some(f) if f > 0.0 && f < 1.0 => Some(f),
                    Some(_) | None => return Err(flag(key, value, "a number above 0 and below 1")),
                };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a key whose value is a switch; false when it is no such key.
    fn read_switch(&mut self, name: &str, key: &str, value: &Value) -> Result<bool, Error> {
        let on = || switch(key, value);
        match name {
            "remove_input_padding" => self.padded_input = !on()?,
            "context_fmha" => self.no_context_fmha = !on()?,
            "enable_attention_dp" => self.attention_dp = on()?,
            "cuda_graph" => self.no_cuda_graph = !on()?,
            "gather_context_logits" => self.gather_context_logits = on()?,
            "gather_generation_logits" => self.gather_generation_logits = on()?,
            "disable_overlap_scheduler" => self.no_overlap = on()?,
            "fp8_kv_cache" => self.kv_dtype = if on()? { Some(KvDtype::Plain(DType::F8E4M3)) } else { self.kv_dtype },
            "int8_kv_cache" => self.kv_dtype = if on()? { Some(KvDtype::Plain(DType::I8)) } else { self.kv_dtype },
            "enable_fp8" => self.quantization = if on()? { Some(Quantization::Fp8) } else { self.quantization },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads a key whose value is a word or a list.
    fn read_word(&mut self, name: &str, key: &str, value: &Value) -> Result<(), Error> {
        let text = value.as_str().map(|text| text.trim().to_ascii_lowercase().replace('-', "_"));
        let word = text.as_deref().unwrap_or_default();
        match name {
            "backend" => {
                self.backend = Some(match word {
                    "pytorch" | "_autodeploy" | "autodeploy" => Backend::PyTorch,
                    "trt" | "tensorrt" | "cpp" => Backend::TensorRt,
                    _ => return Err(flag(key, value, "pytorch, _autodeploy or tensorrt")),
                });
            }
            "dtype" => {
                self.dtype = match word {
                    "auto" => None,
                    _ => Some(
                        DType::parse(word)
                            .filter(|d| matches!(d, DType::F16 | DType::BF16 | DType::F32))
                            .ok_or_else(|| flag(key, value, "auto, float16, bfloat16 or float32"))?,
                    ),
                };
            }
            "kv_cache_dtype" => self.kv_dtype = kv_dtype(key, value, word)?,
            "quantization" => self.quantization = quantization(key, value, word)?,
            "kv_cache_type" => {
                let paged = value.as_bool().unwrap_or(true) && !matches!(word, "continuous" | "disabled" | "disable");
                if !paged {
                    return Err(flag(key, value, "paged (other caches are not planned)"));
                }
            }
            "max_attention_window" => self.max_attention_window = windows(key, value)?,
            "moe_backend" => self.deep_gemm = word == "deepgemm",
            _ => {}
        }
        Ok(())
    }
}

/// Sections of the LLM API's options file.
const SECTIONS: [&str; 8] = [
    "kv_cache_config",
    "cuda_graph_config",
    "speculative_config",
    "quant_config",
    "build_config",
    "plugin_config",
    "scheduler_config",
    "moe_config",
];

/// Whether a key that is no flag is understood: a section, or one whose effect is not counted.
pub fn is_known(plain: &str) -> bool {
    let section = plain.split_once('.').map_or(plain, |(section, _)| section);
    SECTIONS.contains(&section) || UNCOUNTED_KEYS.contains(&plain)
}

/// Returns the name under which a key is kept, for all its spellings.
pub fn canonical(key: &str) -> Option<&'static str> {
    resolve(&key.trim_start_matches('-').replace('-', "_").to_ascii_lowercase())
}

/// Finds the name under which a key is kept.
fn resolve(plain: &str) -> Option<&'static str> {
    let known = KEYS.iter().find(|key| **key == plain).copied();
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == plain).map(|(_, key)| *key);
    let inner = || {
        let (section, inner) = plain.split_once('.')?;
        if SECTIONS.contains(&section) && inner != "dtype" { resolve(inner) } else { None }
    };
    known.or_else(alias).or_else(inner)
}

/// Words a suggestion for a misspelt key, or nothing.
fn suggestion(plain: &str) -> String {
    let names = KEYS.iter().copied().chain(ALIASES.iter().map(|(alias, _)| *alias)).chain(INERT_KEYS);
    let best = names.map(|name| (strsim::damerau_levenshtein(name, plain), name)).min();
    match best {
        Some((distance, name)) if distance <= plain.len() / 3 => format!("; did you mean --{name}?"),
        Some(_) | None => String::new(),
    }
}

pub(super) fn flag(key: &str, value: &Value, expected: &str) -> Error {
    let found: String = value.to_string().chars().take(60).collect();
    Error::Flag { flag: key.to_owned(), found, expected: expected.to_owned() }
}

/// Reads a whole number, also written as text.
fn number(key: &str, value: &Value, least: u64, most: u64) -> Result<u64, Error> {
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..=1e15).contains(&number)).then_some(number as u64);
    let read = value
        .as_u64()
        .or_else(|| value.as_f64().and_then(whole))
        .or_else(|| value.as_str().and_then(|text| text.trim().replace('_', "").parse().ok()));
    match read {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        Some(_) | None => Err(flag(key, value, &format!("a whole number from {least} to {most}"))),
    }
}

/// Reads a switch as `trtllm-build` (`enable`, `disable`) and YAML write it; a bare flag is on.
pub(super) fn switch(key: &str, value: &Value) -> Result<bool, Error> {
    let word = value.as_str().map(str::to_ascii_lowercase);
    match (value.as_bool(), word.as_deref()) {
        (Some(on), _) => Ok(on),
        (None, Some("enable" | "true" | "1" | "on" | "" | "fp16" | "enable_fp32_acc")) => Ok(true),
        (None, Some("disable" | "false" | "0" | "off")) => Ok(false),
        (None, Some(_) | None) => Err(flag(key, value, "true, false, enable or disable")),
    }
}

fn kv_dtype(key: &str, value: &Value, word: &str) -> Result<Option<KvDtype>, Error> {
    Ok(match word {
        "auto" | "none" => None,
        "nvfp4" | "fp4" => Some(KvDtype::Nvfp4),
        _ => match DType::parse(word) {
            Some(DType::F8E4M3) => Some(KvDtype::Plain(DType::F8E4M3)),
            Some(DType::I8) => Some(KvDtype::Plain(DType::I8)),
            Some(plain @ (DType::F16 | DType::BF16 | DType::F32)) => Some(KvDtype::Plain(plain)),
            Some(_) | None => {
                return Err(flag(key, value, "auto, float16, bfloat16, float32, fp8, int8 or nvfp4"));
            }
        },
    })
}

fn quantization(key: &str, value: &Value, word: &str) -> Result<Option<Quantization>, Error> {
    Ok(Some(match word {
        "none" | "no_quant" | "full_prec" | "auto" => return Ok(None),
        "fp8" | "fp8_per_channel_per_token" | "fp8_block_scales" => Quantization::Fp8,
        "int8" | "w8a16" | "int8_wo" | "w8a8_sq" | "int8_sq" | "smoothquant" | "w8a8_sq_per_channel" => {
            Quantization::Int8
        }
        "int4" | "w4a16" | "int4_wo" => Quantization::Int4,
        "int4_awq" | "awq" | "w4a16_awq" | "w4a8_awq" => Quantization::Int4Grouped { zeros: false },
        "int4_gptq" | "gptq" | "w4a16_gptq" => Quantization::Int4Grouped { zeros: true },
        "nvfp4" | "fp4" => Quantization::Nvfp4,
        "mxfp4" | "w4a8_mxfp4_fp8" | "w4a8_mxfp4_mxfp8" | "w4a16_mxfp4" => Quantization::Mxfp4,
        _ => return Err(flag(key, value, "none, fp8, int8, int8_sq, int4, int4_awq, int4_gptq, nvfp4 or mxfp4")),
    }))
}

/// Reads one window or a list, also written `4096,32768` or `[4096, 32768]`.
fn windows(key: &str, value: &Value) -> Result<Vec<u64>, Error> {
    let refuse = || flag(key, value, "a list of 1 to 4096 whole numbers");
    let read = |item: &Value| number(key, item, 1, 1 << 40);
    let list = match value {
        Value::Array(items) if items.len() <= 4096 => items.iter().map(read).collect::<Result<Vec<_>, _>>()?,
        Value::String(text) => text
            .trim_matches(['[', ']', ' '])
            .split(',')
            .take(4097)
            .map(|item| read(&Value::from(item.trim())))
            .collect::<Result<Vec<_>, _>>()?,
        Value::Number(_) => vec![read(value)?],
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Object(_) => return Err(refuse()),
    };
    if list.is_empty() || list.len() > 4096 { Err(refuse()) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use super::super::rules::DEFAULT_VERSION;
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<Options, String> {
        Options::from_map(value.as_object().unwrap(), DEFAULT_VERSION).map_err(|error| error.to_string())
    }

    #[test]
    fn one_meaning_many_spellings() {
        let plain = read(json!({"tp_size": 2, "free_gpu_memory_fraction": 0.8, "kv_cache_dtype": "fp8"})).unwrap();
        for other in [
            json!({"--tensor-parallel-size": "2", "kv_cache_free_gpu_memory_fraction": "0.8", "kv_dtype": "fp8"}),
            json!({"tp": 2, "kv_cache_config": {"free_gpu_memory_fraction": 0.8, "dtype": "fp8", "onboard_blocks": true}}),
        ] {
            assert_eq!(read(other.clone()), Ok(plain.clone()), "{other}");
        }
    }

    #[test]
    fn refusals_say_what_is_accepted() {
        for (value, message) in [
            (json!({"tp_sise": 2}), "tensorrt-llm has no flag tp_sise; did you mean --tp_size?"),
            (json!({"tp_size": 0}), "tp_size is 0, expected a whole number from 1 to 1024"),
            (
                json!({"free_gpu_memory_fraction": 1.0}),
                "free_gpu_memory_fraction is 1.0, expected a number above 0 and below 1",
            ),
            (json!({"tokens_per_block": 48}), "tokens_per_block is 48, expected a power of two"),
            (
                json!({"kv_cache_dtype": "int3"}),
                "kv_cache_dtype is \"int3\", expected auto, float16, bfloat16, float32, fp8, int8 or nvfp4",
            ),
        ] {
            assert_eq!(read(value), Err(message.to_owned()));
        }
    }
}
