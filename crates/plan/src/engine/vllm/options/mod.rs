//! What was vLLM asked to do? Its flags by their own names with underscores, checked once.

use std::sync::Arc;

use plimsoll_facts::tensor::DType;
use plimsoll_units::Bytes;
use serde_json::{Map, Value};

use super::batching::Scheduling;
use crate::engine::read::{Reader, counts, truth, whole};
use crate::{Error, Version};

/// The options that are read here; any other key is handed back in [`Options::unknown`].
pub const KEYS: &[&str] = &[
    "async_scheduling",
    "attention_backend",
    "block_size",
    "compilation_config",
    "cpu_offload_gb",
    "cuda_graph_sizes",
    "cudagraph_capture_sizes",
    "data_parallel_size",
    "decode_context_parallel_size",
    "disable_hybrid_kv_cache_manager",
    "dtype",
    "enable_chunked_prefill",
    "enable_expert_parallel",
    "enable_lora",
    "enable_prefix_caching",
    "enforce_eager",
    "env",
    "gpu_memory_utilization",
    "hf_overrides",
    "kv_cache_dtype",
    "kv_cache_memory_bytes",
    "language_model_only",
    "limit_mm_per_prompt",
    "long_prefill_token_threshold",
    "long_prefill_token_threshold_adaptive",
    "lora_extra_vocab_size",
    "mamba_block_size",
    "mamba_cache_dtype",
    "mamba_cache_mode",
    "mamba_ssm_cache_dtype",
    "max_context_len_to_capture",
    "max_cudagraph_capture_size",
    "max_lora_rank",
    "max_loras",
    "max_model_len",
    "max_num_active_seqs",
    "max_num_batched_tokens",
    "max_num_partial_prefills",
    "max_num_scheduled_tokens",
    "max_num_seqs",
    "max_seq_len_to_capture",
    "mm_encoder_tp_mode",
    "model",
    "num_gpu_blocks_override",
    "num_redundant_experts",
    "num_speculative_tokens",
    "performance_mode",
    "pipeline_parallel_size",
    "prefill_context_parallel_size",
    "prefill_schedule_interval",
    "quantization",
    "rope_scaling",
    "scheduler_reserve_full_isl",
    "scheduling_policy",
    "skip_mm_profiling",
    "speculative_config",
    "speculative_model",
    "swap_space",
    "tensor_parallel_size",
    "watermark",
];

/// A launch's options, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `tensor_parallel_size`.
    pub tp: u32,
    /// `pipeline_parallel_size`.
    pub pp: u32,
    /// `data_parallel_size`.
    pub dp: u32,
    /// `enable_expert_parallel`.
    pub expert_parallel: bool,
    /// `decode_context_parallel_size`.
    pub dcp: u32,
    /// `gpu_memory_utilization`.
    pub utilization: Option<f64>,
    /// `max_model_len`.
    pub max_model_len: Option<Length>,
    /// `max_num_batched_tokens`.
    pub max_num_batched_tokens: Option<u64>,
    /// `max_num_seqs`.
    pub max_num_seqs: Option<u64>,
    /// `block_size`.
    pub block_size: Option<u64>,
    /// `dtype`, `None` for `auto`.
    pub dtype: Option<DType>,
    /// `quantization`.
    pub quantization: Option<String>,
    /// `kv_cache_dtype`, `None` for `auto`.
    pub kv_cache_dtype: Option<String>,
    /// `enforce_eager`, or a compilation config that captures nothing.
    pub enforce_eager: bool,
    /// `cpu_offload_gb`.
    pub cpu_offload: Bytes,
    /// `swap_space` per GPU.
    pub swap_space: Option<Bytes>,
    /// `kv_cache_memory_bytes`.
    pub kv_cache_memory: Option<Bytes>,
    /// `num_gpu_blocks_override`.
    pub blocks_override: Option<u64>,
    /// `enable_prefix_caching`.
    pub prefix_caching: Option<bool>,
    /// `enable_chunked_prefill`.
    pub chunked_prefill: Option<bool>,
    /// Sizes to capture, where given one by one.
    pub capture_sizes: Option<Vec<u64>>,
    /// The largest size to capture.
    pub max_capture_size: Option<u64>,
    /// Drafting.
    pub speculative: Option<Speculative>,
    /// Adapters.
    pub lora: Option<Lora>,
    /// Images per prompt, where limited.
    pub images: Option<u64>,
    /// `language_model_only`, or every modality limited to nothing.
    pub language_model_only: bool,
    /// `skip_mm_profiling`.
    pub skip_mm_profiling: bool,
    /// `mm_encoder_tp_mode data`: every rank holds whole towers.
    pub whole_towers: bool,
    /// `disable_hybrid_kv_cache_manager`.
    pub disable_hybrid: Option<bool>,
    /// `mamba_cache_mode`.
    pub mamba_cache_mode: Option<String>,
    /// `mamba_block_size`.
    pub mamba_block_size: Option<u64>,
    /// `mamba_cache_dtype`, `None` for `auto`.
    pub mamba_cache_dtype: Option<DType>,
    /// `mamba_ssm_cache_dtype`, `None` for `auto`.
    pub mamba_ssm_dtype: Option<DType>,
    /// `performance_mode`.
    pub performance_mode: Option<String>,
    /// `async_scheduling`.
    pub async_scheduling: Option<bool>,
    /// Experts held twice for balance.
    pub redundant_experts: u64,
    /// Whether `hf_overrides` or `rope_scaling` may change the model itself.
    pub overrides_model: bool,
    /// `VLLM_USE_V1`.
    pub use_v1: Option<bool>,
    /// `VLLM_USE_V2_MODEL_RUNNER`.
    pub use_runner_v2: Option<bool>,
    /// `VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`.
    pub estimate_graphs: Option<bool>,
    /// `VLLM_ALLOW_LONG_MAX_MODEL_LEN`.
    pub allow_long: bool,
    /// `VLLM_PP_LAYER_PARTITION`.
    pub layer_partition: Option<Vec<u32>>,
    /// Flags of the scheduler, which change batches and no memory.
    pub scheduling: Scheduling,
    /// Offline use (`LLM(...)`) rather than the server: other defaults for batches.
    pub offline: bool,
    /// Keys that are not in [`KEYS`].
    pub unknown: Vec<String>,
    /// Every option as it was given.
    pub given: Arc<Map<String, Value>>,
}

/// `max_model_len` as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many tokens.
    Tokens(u64),
    /// Whatever fits (`auto` or -1, since 0.14).
    Auto,
}

/// Drafting of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speculative {
    /// `mtp`, `eagle`, `eagle3`, `draft_model`, `ngram`, …
    pub method: String,
    /// Tokens drafted per step.
    pub tokens: u32,
    /// The drafting model, where there is one.
    pub model: Option<String>,
}

/// Slots for adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lora {
    /// Adapters in use at once.
    pub max_loras: u64,
    /// Largest rank.
    pub rank: u64,
}

/// Values of `kv_cache_dtype` that some release takes.
const KV_DTYPES: &[&str] = &[
    "auto",
    "bfloat16",
    "float16",
    "half",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp8_inc",
    "fp8_ds_mla",
    "nvfp4",
    "int8_per_token_head",
    "fp8_per_token_head",
    "int4_per_token_head",
];

/// Reads the tokens of a block, of those that the release takes.
///
/// vLLM 0.6.3 to 0.8.0, `engine/arg_utils.py` (choices of `--block-size`), 0.8.5 and 0.9.2 `config.py`, 0.10.2 to 0.15.0
/// `config/cache.py` (`BlockSize`). From 0.18.0 on any number is read and the attention backend decides: no backend for CUDA
/// takes one that is no multiple of 16 (`v1/attention/backends`, `get_supported_kernel_block_sizes`). Releases between those
/// that were read are given the wider list.
fn block_size(read: &Reader<'_>, version: Version) -> Result<Option<u64>, Error> {
    let Some(size) = read.count("block_size", 1, 1 << 20)? else { return Ok(None) };
    let among: &[u64] = if version <= Version::new(0, 6, 3) {
        &[8, 16, 32]
    } else if version <= Version::new(0, 8, 0) {
        &[8, 16, 32, 64, 128]
    } else if version < Version::new(0, 12, 0) {
        &[1, 8, 16, 32, 64, 128]
    } else if version < Version::new(0, 16, 0) {
        &[1, 8, 16, 32, 64, 128, 256]
    } else {
        &[]
    };
    let taken =
        if version < Version::new(0, 18, 0) { among.is_empty() || among.contains(&size) } else { size % 16 == 0 };
    if taken {
        return Ok(Some(size));
    }
    let list: Vec<String> = among.iter().map(u64::to_string).collect();
    let expected = if list.is_empty() { "a multiple of 16".to_owned() } else { format!("one of {}", list.join(", ")) };
    Err(Error::Flag {
        flag: "--block-size".to_owned(),
        found: size.to_string(),
        expected: format!("{expected} in vllm {version}"),
    })
}

impl Options {
    /// Reads options; `version` decides what some values mean.
    ///
    /// # Errors
    /// [`Error::Flag`] names a value that the engine would not take.
    pub fn from_map(map: &Map<String, Value>, version: Version) -> Result<Options, Error> {
        let read = Reader::new(map);
        let env = read.object("env")?.unwrap_or_default();
        let variable = |name: &str| env.get(name).and_then(truth);
        let (capture_sizes, max_capture_size, captures) = captures(&read)?;
        let limits = read.object("limit_mm_per_prompt")?;
        let images = limits.as_ref().and_then(|limits| limits.get("image")).and_then(limit);
        let nothing = limits.as_ref().is_some_and(|l| !l.is_empty() && l.values().all(|v| limit(v) == Some(0)));
        let most = 1_u64 << 40;
        let options = Options {
            tp: read.ranks("tensor_parallel_size")?,
            pp: read.ranks("pipeline_parallel_size")?,
            dp: read.ranks("data_parallel_size")?,
            expert_parallel: read.switch("enable_expert_parallel")?.unwrap_or(false),
            dcp: read.ranks("decode_context_parallel_size")?,
            utilization: read.number("gpu_memory_utilization", 1e-6, 1.0)?,
            max_model_len: length(&read, version)?,
            max_num_batched_tokens: read.count("max_num_batched_tokens", 1, most)?,
            max_num_seqs: read.count("max_num_seqs", 1, 1 << 24)?,
            block_size: block_size(&read, version)?,
            dtype: dtype(&read, "dtype")?,
            quantization: read
                .text("quantization")?
                .filter(|name| !name.is_empty() && *name != "None")
                .map(str::to_owned),
            kv_cache_dtype: read.word("kv_cache_dtype", KV_DTYPES)?.filter(|name| *name != "auto").map(str::to_owned),
            enforce_eager: read.switch("enforce_eager")?.unwrap_or(false) || !captures,
            cpu_offload: Bytes::gib(read.number("cpu_offload_gb", 0.0, 1e6)?.unwrap_or(0.0)),
            swap_space: read.number("swap_space", 0.0, 1e6)?.map(Bytes::gib),
            kv_cache_memory: read.count("kv_cache_memory_bytes", 1, 1 << 50)?.map(Bytes::new),
            blocks_override: read.count("num_gpu_blocks_override", 1, most)?,
            prefix_caching: read.switch("enable_prefix_caching")?,
            chunked_prefill: read.switch("enable_chunked_prefill")?,
            capture_sizes,
            max_capture_size,
            speculative: speculative(&read)?,
            lora: lora(&read)?,
            images,
            language_model_only: read.switch("language_model_only")?.unwrap_or(false) || nothing,
            skip_mm_profiling: read.switch("skip_mm_profiling")?.unwrap_or(false),
            whole_towers: read.word("mm_encoder_tp_mode", &["weights", "data"])? == Some("data"),
            disable_hybrid: read.switch("disable_hybrid_kv_cache_manager")?,
            mamba_cache_mode: read.word("mamba_cache_mode", &["none", "align", "all"])?.map(str::to_owned),
            mamba_block_size: read.count("mamba_block_size", 1, 1 << 30)?,
            mamba_cache_dtype: dtype(&read, "mamba_cache_dtype")?,
            mamba_ssm_dtype: dtype(&read, "mamba_ssm_cache_dtype")?,
            performance_mode: read
                .word("performance_mode", &["balanced", "interactivity", "throughput"])?
                .map(str::to_owned),
            async_scheduling: read.switch("async_scheduling")?,
            redundant_experts: read.count("num_redundant_experts", 0, 1 << 16)?.unwrap_or(0),
            overrides_model: read.value("hf_overrides").is_some() || read.value("rope_scaling").is_some(),
            use_v1: variable("VLLM_USE_V1"),
            use_runner_v2: variable("VLLM_USE_V2_MODEL_RUNNER"),
            estimate_graphs: variable("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"),
            allow_long: variable("VLLM_ALLOW_LONG_MAX_MODEL_LEN").unwrap_or(false),
            layer_partition: partition(env.get("VLLM_PP_LAYER_PARTITION"))?,
            scheduling: Scheduling::read(&read)?,
            offline: false,
            unknown: map.keys().filter(|key| KEYS.binary_search(&key.as_str()).is_err()).cloned().collect(),
            given: Arc::new(map.clone()),
        };
        options.consistent()
    }

    fn consistent(self) -> Result<Options, Error> {
        if let (Some(tokens), Some(seqs)) = (self.max_num_batched_tokens, self.max_num_seqs)
            && tokens < seqs
        {
            let expected = format!("at least --max-num-seqs, which is {seqs}");
            return Err(Error::Flag {
                flag: "--max-num-batched-tokens".to_owned(),
                found: tokens.to_string(),
                expected,
            });
        }
        if self.dcp > 1 && !self.tp.is_multiple_of(self.dcp) {
            let expected = format!("a divisor of --tensor-parallel-size, which is {}", self.tp);
            return Err(Error::Flag {
                flag: "--decode-context-parallel-size".to_owned(),
                found: self.dcp.to_string(),
                expected,
            });
        }
        Ok(self)
    }
}

/// How many items a limit allows: a number, or an object with `count`.
fn limit(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.get("count").and_then(Value::as_u64))
}

fn length(read: &Reader<'_>, version: Version) -> Result<Option<Length>, Error> {
    let key = "max_model_len";
    let Some(value) = read.value(key) else { return Ok(None) };
    let auto = value.as_str() == Some("auto") || whole(value) == Some(-1);
    if auto {
        return if version >= Version::new(0, 14, 0) {
            Ok(Some(Length::Auto))
        } else {
            read.bad(key, "a whole number of tokens (`auto` came with 0.14)")
        };
    }
    Ok(read.count(key, 1, 1 << 40)?.map(Length::Tokens))
}

fn dtype(read: &Reader<'_>, key: &str) -> Result<Option<DType>, Error> {
    let Some(name) = read.text(key)?.filter(|name| *name != "auto") else { return Ok(None) };
    match DType::parse(name).filter(|dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16)) {
        Some(dtype) => Ok(Some(dtype)),
        None => read.bad(key, "one of auto, half, float16, bfloat16, float, float32"),
    }
}

/// Sizes to capture, the largest one, and whether anything is captured.
type Captures = (Option<Vec<u64>>, Option<u64>, bool);

/// Reads what is captured from three flags that came one after the other.
fn captures(read: &Reader<'_>) -> Result<Captures, Error> {
    let mut sizes = read.counts("cudagraph_capture_sizes")?.or(read.counts("cuda_graph_sizes")?);
    let mut largest = read.count("max_cudagraph_capture_size", 0, 1 << 24)?;
    let mut any = true;
    let key = "compilation_config";
    // Old releases take a bare level; `-O0` captures nothing there.
    if let Some(level) = read.value(key).and_then(whole) {
        return Ok((sizes, largest, level != 0));
    }
    if let Some(config) = read.object(key)? {
        if let Some(list) = config.get("cudagraph_capture_sizes").filter(|list| !list.is_null()) {
            match counts(list) {
                Some(list) if list.len() <= 8192 => sizes = Some(list),
                Some(_) | None => return read.bad(key, "`cudagraph_capture_sizes` as a list of whole numbers"),
            }
        }
        largest = config.get("max_cudagraph_capture_size").and_then(Value::as_u64).or(largest);
        let mode = config.get("cudagraph_mode").and_then(Value::as_str).unwrap_or_default();
        let off = config.get("use_cudagraph").and_then(truth) == Some(false);
        any = !off && !mode.eq_ignore_ascii_case("none");
    }
    if let Some([one]) = sizes.as_deref()
        && read.value("cuda_graph_sizes").is_some()
    {
        // A single number is the largest size.
        (largest, sizes) = (Some(*one), None);
    }
    Ok((sizes, largest, any && largest != Some(0)))
}

fn speculative(read: &Reader<'_>) -> Result<Option<Speculative>, Error> {
    let key = "speculative_config";
    let old = read.text("speculative_model")?;
    let config = match (read.object(key)?, old) {
        (Some(config), _) => config,
        (None, Some(model)) => Map::from_iter([("model".to_owned(), Value::from(model))]),
        (None, None) => return Ok(None),
    };
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let model = text("model").map(str::to_owned);
    let method = text("method").map(str::to_owned).unwrap_or_else(|| match model.as_deref() {
        Some("ngram" | "[ngram]") | None => "ngram".to_owned(),
        Some(name) if name.to_ascii_lowercase().contains("eagle3") => "eagle3".to_owned(),
        Some(name) if name.to_ascii_lowercase().contains("eagle") => "eagle".to_owned(),
        Some(_) => "draft_model".to_owned(),
    });
    let method = if method.ends_with("_mtp") { "mtp".to_owned() } else { method };
    let tokens =
        config.get("num_speculative_tokens").and_then(Value::as_u64).or(read.count("num_speculative_tokens", 0, 64)?);
    let tokens = tokens.unwrap_or(1);
    if tokens > 64 {
        return read.bad(key, "`num_speculative_tokens` of at most 64");
    }
    Ok(Some(Speculative { method, tokens: tokens as u32, model }))
}

fn lora(read: &Reader<'_>) -> Result<Option<Lora>, Error> {
    if read.switch("enable_lora")? != Some(true) {
        return Ok(None);
    }
    let max_loras = read.count("max_loras", 1, 4096)?.unwrap_or(1);
    Ok(Some(Lora { max_loras, rank: read.count("max_lora_rank", 1, 4096)?.unwrap_or(16) }))
}

fn partition(value: Option<&Value>) -> Result<Option<Vec<u32>>, Error> {
    let Some(value) = value else { return Ok(None) };
    let list = counts(value).and_then(|list| list.into_iter().map(|count| u32::try_from(count).ok()).collect());
    list.map(Some).ok_or_else(|| Error::Flag {
        flag: "VLLM_PP_LAYER_PARTITION".to_owned(),
        found: value.to_string(),
        expected: "layers per stage such as 20,20".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Options, Error> {
        Options::from_map(value.as_object().unwrap(), Version::new(0, 33, 0))
    }

    #[test]
    fn keys_are_sorted_for_the_search() {
        assert!(KEYS.is_sorted());
    }

    #[test]
    fn flags_by_their_own_names() {
        let options = read(&json!({"tensor_parallel_size": 2, "max_model_len": "32k", "kv_cache_dtype": "fp8",
            "compilation_config": "{\"cudagraph_capture_sizes\": [1, 2]}", "trust_remote_code": true}))
        .unwrap();
        assert_eq!((options.tp, options.max_model_len), (2, Some(Length::Tokens(32_000))));
        assert_eq!(options.capture_sizes, Some(vec![1, 2]));
        assert_eq!(options.unknown, ["trust_remote_code"]);
        assert_eq!(read(&json!({"max_model_len": "auto"})).unwrap().max_model_len, Some(Length::Auto));
    }

    #[test]
    fn values_out_of_range_name_their_flag() {
        for (options, flag) in [
            (json!({"gpu_memory_utilization": 1.5}), "--gpu-memory-utilization"),
            (json!({"tensor_parallel_size": 0}), "--tensor-parallel-size"),
            (json!({"max_model_len": -5}), "--max-model-len"),
            (json!({"kv_cache_dtype": "fp3"}), "--kv-cache-dtype"),
            (json!({"max_num_batched_tokens": 8, "max_num_seqs": 16}), "--max-num-batched-tokens"),
            (json!({"compilation_config": "[1"}), "--compilation-config"),
        ] {
            match read(&options) {
                Err(Error::Flag { flag: named, .. }) => assert_eq!(named, flag),
                other => panic!("{other:?}"),
            }
        }
    }
}
