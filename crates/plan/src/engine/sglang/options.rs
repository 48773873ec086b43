//! What was SGLang asked to do? Its flags by their canonical names, checked once.

use plimsoll_facts::tensor::DType;
use plimsoll_units::Bytes;
use serde_json::{Map, Value};

use super::NAME;
use super::batching::Scheduling;
use crate::engine::flag::Effect;
use crate::engine::read::{Reader, truth, whole};
use crate::{Error, Version};

/// A launch's options, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `tp_size`.
    pub tp: u32,
    /// `pp_size`.
    pub pp: u32,
    /// `dp_size`: replicas, or with `dp_attention` replicas of attention inside the tensor-parallel group.
    pub dp: u32,
    /// `ep_size`; `enable_ep_moe` makes it `tp_size`.
    pub ep: u32,
    /// `enable_dp_attention`.
    pub dp_attention: bool,
    /// `enable_dp_lm_head`.
    pub dp_lm_head: bool,
    /// `moe_dense_tp_size`.
    pub moe_dense_tp: Option<u32>,
    /// `ep_num_redundant_experts`.
    pub redundant_experts: u64,
    /// `moe_a2a_backend`, or what older switches mean.
    pub a2a: Option<String>,
    /// `mem_fraction_static`.
    pub fraction: Option<f64>,
    /// `context_length`.
    pub context_length: Option<u64>,
    /// `max_running_requests`.
    pub max_running: Option<u64>,
    /// `max_total_tokens`.
    pub max_total_tokens: Option<u64>,
    /// `chunked_prefill_size`; `Some(None)` when prompts are not cut.
    pub chunk: Option<Option<u64>>,
    /// `max_prefill_tokens`.
    pub max_prefill_tokens: Option<u64>,
    /// `page_size`.
    pub page: Option<u64>,
    /// `dtype`, `None` for `auto`.
    pub dtype: Option<DType>,
    /// `quantization`.
    pub quantization: Option<String>,
    /// `kv_cache_dtype`, `None` for `auto`.
    pub kv_cache_dtype: Option<String>,
    /// `attention_backend`, `prefill_attention_backend`, `decode_attention_backend`.
    pub backends: [Option<String>; 3],
    /// No graphs for decoding.
    pub no_decode_graphs: bool,
    /// Graphs for prefill: asked for, forbidden, or left to the release.
    pub prefill_graphs: Option<bool>,
    /// `cuda_graph_max_bs`, or the largest of `cuda_graph_bs`.
    pub graph_max: Option<u64>,
    /// Sizes given one by one.
    pub graph_sizes: Option<Vec<u64>>,
    /// The largest prefill captured.
    pub prefill_graph_max: Option<u64>,
    /// `disable_cuda_graph_padding`.
    pub no_graph_padding: bool,
    /// Drafting.
    pub speculative: Option<Speculative>,
    /// `disable_radix_cache`.
    pub no_radix: bool,
    /// `disable_overlap_schedule`.
    pub no_overlap: bool,
    /// `swa_full_tokens_ratio`.
    pub swa_ratio: Option<f64>,
    /// `swa_prefix_tails`.
    pub swa_prefix_tails: Option<u64>,
    /// `disable_hybrid_swa_memory`.
    pub no_hybrid_swa: bool,
    /// `max_mamba_cache_size`.
    pub mamba_slots: Option<u64>,
    /// `mamba_full_memory_ratio`.
    pub mamba_ratio: f64,
    /// `mamba_ssm_dtype`, or `SGLANG_MAMBA_SSM_DTYPE`.
    pub mamba_ssm_dtype: Option<DType>,
    /// `SGLANG_MAMBA_CONV_DTYPE`.
    pub mamba_conv_dtype: Option<DType>,
    /// `mamba_radix_cache_strategy`, earlier `mamba_scheduler_strategy`; `None` for `auto`.
    pub mamba_strategy: Option<String>,
    /// Adapter slots: how many, and their rank.
    pub lora: Option<(u64, u64)>,
    /// `cpu_offload_gb`.
    pub cpu_offload: Bytes,
    /// `enable_symm_mem`: bytes set aside.
    pub symm_mem: Option<Bytes>,
    /// `disaggregation_mode`: `prefill` or `decode`.
    pub disaggregation: Option<String>,
    /// `enable_torch_compile`.
    pub torch_compile: bool,
    /// `enable_hierarchical_cache`.
    pub hierarchical: bool,
    /// The language model alone is loaded or served.
    pub language_only: bool,
    /// `SGLANG_ENABLE_POST_CAPTURE_KV_SIZING`.
    pub post_capture: bool,
    /// `SGLANG_VLM_CACHE_SIZE_MB`.
    pub vlm_cache_mb: Option<f64>,
    /// `SGLANG_SWA_EVICTION_INTERVAL`.
    pub swa_eviction: u64,
    /// `SGLANG_PP_LAYER_PARTITION`.
    pub layer_partition: Option<Vec<u32>>,
    /// Flags of the scheduler, which change batches and no memory.
    pub scheduling: Scheduling,
    /// Memory-changing options that are not counted.
    pub uncounted: Vec<String>,
    /// Every option as it was given.
    pub given: Map<String, Value>,
}

/// Drafting of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speculative {
    /// `EAGLE`, `EAGLE3`, `NEXTN`, `STANDALONE`, `NGRAM`, `DFLASH`, … in capitals; `NEXTN` is read as `EAGLE`.
    pub algorithm: String,
    /// `speculative_num_steps`.
    pub steps: Option<u64>,
    /// `speculative_eagle_topk`.
    pub topk: Option<u64>,
    /// `speculative_num_draft_tokens`, or a block of a drafter that drafts blocks.
    pub draft_tokens: Option<u64>,
    /// Whether a model of its own drafts, rather than layers of the checkpoint.
    pub own_model: bool,
}

/// Values of `kv_cache_dtype` that some release takes.
const KV_DTYPES: &[&str] =
    &["auto", "bf16", "bfloat16", "fp8_e4m3", "fp8_e5m2", "fp4_e2m1", "nvfp4", "fp4_mx_block16", "mxfp8"];

/// Options that are read here.
const READ: [&str; 73] = [
    "attention_backend",
    "chunked_prefill_size",
    "context_length",
    "cpu_offload_gb",
    "cuda_graph_backend_decode",
    "cuda_graph_backend_prefill",
    "cuda_graph_bs",
    "cuda_graph_bs_decode",
    "cuda_graph_bs_prefill",
    "cuda_graph_config",
    "cuda_graph_max_bs",
    "cuda_graph_max_bs_decode",
    "cuda_graph_max_bs_prefill",
    "decode_attention_backend",
    "deepep_mode",
    "disable_cuda_graph",
    "disable_cuda_graph_padding",
    "disable_decode_cuda_graph",
    "disable_hybrid_swa_memory",
    "disable_overlap_schedule",
    "disable_piecewise_cuda_graph",
    "disable_prefill_cuda_graph",
    "disable_radix_cache",
    "disaggregation_mode",
    "dp_size",
    "dtype",
    "enable_deepep_moe",
    "enable_dp_attention",
    "enable_dp_lm_head",
    "enable_ep_moe",
    "enable_flashinfer_mla",
    "enable_flashmla",
    "enable_hierarchical_cache",
    "enable_lora",
    "enable_piecewise_cuda_graph",
    "enable_symm_mem",
    "enable_torch_compile",
    "enforce_piecewise_cuda_graph",
    "env",
    "ep_num_redundant_experts",
    "ep_size",
    "hybrid_kvcache_ratio",
    "kv_cache_dtype",
    "language_model_only",
    "language_only",
    "load_format",
    "lora_paths",
    "lora_target_modules",
    "mamba_full_memory_ratio",
    "mamba_radix_cache_strategy",
    "mamba_scheduler_strategy",
    "mamba_ssm_dtype",
    "max_loaded_loras",
    "max_lora_rank",
    "max_loras_per_batch",
    "max_mamba_cache_size",
    "max_prefill_tokens",
    "max_running_requests",
    "max_total_tokens",
    "mem_fraction_static",
    "model",
    "model_path",
    "moe_a2a_backend",
    "moe_dense_tp_size",
    "nnodes",
    "node_rank",
    "page_size",
    "piecewise_cuda_graph_max_tokens",
    "piecewise_cuda_graph_tokens",
    "pp_size",
    "prefill_attention_backend",
    "quantization",
    "tp_size",
];

/// More options that are read here or that change too little to be counted.
const READ_TOO: [&str; 22] = [
    "disable_shared_experts_fusion",
    "enable_memory_saver",
    "enable_mixed_chunk",
    "enable_multimodal",
    "enable_return_hidden_states",
    "is_embedding",
    "linear_attn_backend",
    "mamba_track_interval",
    "max_micro_batch_size",
    "mm_attention_backend",
    "moe_runner_backend",
    "n_share_experts_fusion",
    "sampling_backend",
    "pp_max_micro_batch_size",
    "speculative_algorithm",
    "speculative_draft_model_path",
    "speculative_eagle_topk",
    "speculative_num_draft_tokens",
    "speculative_num_steps",
    "swa_full_tokens_ratio",
    "swa_prefix_tails",
    "startup_weight_load_mode",
];

impl Options {
    /// Reads options; `version` decides what some values mean.
    ///
    /// # Errors
    /// [`Error::Flag`] names a value that the engine would not take; [`Error::Request`] a division that is none.
    pub fn from_map(map: &Map<String, Value>, version: Version) -> Result<Options, Error> {
        let read = Reader::new(map);
        let env = read.object("env")?.unwrap_or_default();
        let on = |key: &str| Ok::<bool, Error>(read.switch(key)?.unwrap_or(false));
        let text = |key: &str| Ok::<Option<String>, Error>(read.text(key)?.map(str::to_owned));
        let tp = read.ranks("tp_size")?;
        let (decode, prefill, graph_max, graph_sizes, prefill_graph_max) = graphs(&read)?;
        let a2a = a2a(&read)?;
        let everywhere = on("enable_ep_moe")? || a2a.as_deref() == Some("deepep");
        let symm = env.get("SGLANG_SYMM_MEM_PREALLOC_GB_SIZE").and_then(whole);
        let mut backends =
            [text("attention_backend")?, text("prefill_attention_backend")?, text("decode_attention_backend")?];
        if on("enable_flashmla")? {
            backends[0] = Some("flashmla".to_owned());
        }
        let options = Options {
            tp,
            pp: read.ranks("pp_size")?,
            dp: read.ranks("dp_size")?,
            ep: if everywhere { tp } else { read.ranks("ep_size")? },
            dp_attention: on("enable_dp_attention")?,
            dp_lm_head: on("enable_dp_lm_head")?,
            moe_dense_tp: read.count("moe_dense_tp_size", 1, 4096)?.map(|size| size as u32),
            redundant_experts: read.count("ep_num_redundant_experts", 0, 1 << 20)?.unwrap_or(0),
            a2a,
            fraction: read.number("mem_fraction_static", 1e-6, 1.0)?,
            context_length: read.count("context_length", 1, 1 << 40)?,
            max_running: read.count("max_running_requests", 1, 1 << 24)?,
            max_total_tokens: read.count("max_total_tokens", 1, 1 << 40)?,
            chunk: chunk(&read)?,
            max_prefill_tokens: read.count("max_prefill_tokens", 1, 1 << 32)?,
            page: read.count("page_size", 1, 1 << 20)?,
            dtype: dtype(&read, "dtype")?,
            quantization: read
                .text("quantization")?
                .filter(|name| !name.is_empty() && *name != "None")
                .map(str::to_owned),
            kv_cache_dtype: read.word("kv_cache_dtype", KV_DTYPES)?.filter(|name| *name != "auto").map(str::to_owned),
            backends,
            no_decode_graphs: decode,
            prefill_graphs: prefill,
            graph_max,
            graph_sizes,
            prefill_graph_max,
            no_graph_padding: on("disable_cuda_graph_padding")?,
            speculative: speculative(&read)?,
            no_radix: on("disable_radix_cache")?,
            no_overlap: on("disable_overlap_schedule")?,
            swa_ratio: read.number("swa_full_tokens_ratio", 1e-9, 1.0)?,
            swa_prefix_tails: read.count("swa_prefix_tails", 0, 1 << 30)?,
            no_hybrid_swa: on("disable_hybrid_swa_memory")?,
            mamba_slots: read.count("max_mamba_cache_size", 1, 1 << 32)?,
            mamba_ratio: read.number("mamba_full_memory_ratio", 1e-9, 1e6)?.unwrap_or(0.9),
            mamba_ssm_dtype: dtype(&read, "mamba_ssm_dtype")?.or_else(|| variable(&env, "SGLANG_MAMBA_SSM_DTYPE")),
            mamba_conv_dtype: variable(&env, "SGLANG_MAMBA_CONV_DTYPE"),
            mamba_strategy: text("mamba_radix_cache_strategy")?
                .or(text("mamba_scheduler_strategy")?)
                .filter(|name| name != "auto"),
            lora: lora(&read)?,
            cpu_offload: Bytes::gib(read.number("cpu_offload_gb", 0.0, 1e6)?.unwrap_or(0.0)),
            symm_mem: on("enable_symm_mem")?
                .then(|| Bytes::gib(symm.and_then(|gib| u16::try_from(gib).ok()).map_or(4.0, f64::from))),
            disaggregation: read
                .word("disaggregation_mode", &["null", "prefill", "decode"])?
                .filter(|mode| *mode != "null")
                .map(str::to_owned),
            torch_compile: on("enable_torch_compile")?,
            hierarchical: on("enable_hierarchical_cache")?,
            language_only: on("language_only")? || on("language_model_only")?,
            post_capture: env.get("SGLANG_ENABLE_POST_CAPTURE_KV_SIZING").and_then(truth).unwrap_or(false),
            vlm_cache_mb: env.get("SGLANG_VLM_CACHE_SIZE_MB").and_then(whole).map(|mb| mb.clamp(0, 1 << 30) as f64),
            swa_eviction: env
                .get("SGLANG_SWA_EVICTION_INTERVAL")
                .and_then(whole)
                .and_then(|every| u64::try_from(every).ok())
                .unwrap_or(128)
                .clamp(1, 1 << 20),
            layer_partition: partition(&env)?,
            scheduling: Scheduling::read(&read, version)?,
            uncounted: uncounted(map),
            given: map.clone(),
        };
        options.check(version)?;
        Ok(options)
    }

    /// Ranks over which attention is divided.
    pub fn attention_tp(&self) -> u32 {
        if self.dp_attention { self.tp / self.dp.max(1) } else { self.tp }
    }

    /// Workers with a scheduler and a pool of their own inside the tensor-parallel group.
    pub fn workers(&self) -> u64 {
        if self.dp_attention { u64::from(self.dp) } else { 1 }
    }

    /// Whether two options contradict each other.
    fn check(&self, version: Version) -> Result<(), Error> {
        let unsupported = |why: String| Err(Error::Unsupported { engine: NAME, version: version.to_string(), why });
        if self.dp_attention && !self.tp.is_multiple_of(self.dp) {
            return unsupported(format!("data-parallel attention over {} of {} ranks", self.dp, self.tp));
        }
        if self.ep > self.tp || !self.tp.is_multiple_of(self.ep) {
            return unsupported(format!("{} expert-parallel ranks in a group of {}", self.ep, self.tp));
        }
        if let (Some(Some(chunk)), Some(page)) = (self.chunk, self.page)
            && !chunk.is_multiple_of(page)
        {
            return unsupported(format!("chunks of {chunk} tokens are no whole pages of {page}"));
        }
        Ok(())
    }
}

/// `-1` turns chunks off.
fn chunk(read: &Reader<'_>) -> Result<Option<Option<u64>>, Error> {
    match read.value("chunked_prefill_size").map(whole) {
        None => Ok(None),
        Some(Some(size)) if (1..=1 << 32).contains(&size) => Ok(Some(u64::try_from(size).ok())),
        Some(Some(-1)) => Ok(Some(None)),
        Some(_) => read.bad("chunked_prefill_size", "a whole number of tokens, or -1"),
    }
}

/// Graphs: none for decoding; asked for or forbidden for prefill; the largest batch; batches; the largest prefill.
type Graphs = (bool, Option<bool>, Option<u64>, Option<Vec<u64>>, Option<u64>);

fn graphs(read: &Reader<'_>) -> Result<Graphs, Error> {
    let on = |key: &str| Ok::<bool, Error>(read.switch(key)?.unwrap_or(false));
    let config = read.object("cuda_graph_config")?.unwrap_or_default();
    let phase = |name: &str, key: &str| config.get(name).and_then(|phase| phase.get(key)).cloned();
    let backend = |flag: &str, name: &str| {
        let said = read.text(flag)?.map(str::to_owned);
        Ok::<_, Error>(said.or_else(|| phase(name, "backend").and_then(|value| value.as_str().map(str::to_owned))))
    };
    let none = on("disable_cuda_graph")?;
    let off = |said: Option<String>| said.map(|backend| backend == "disabled");
    let decode =
        off(backend("cuda_graph_backend_decode", "decode")?).unwrap_or(none || on("disable_decode_cuda_graph")?);
    let forbidden = none || on("disable_prefill_cuda_graph")? || on("disable_piecewise_cuda_graph")?;
    let asked = on("enable_piecewise_cuda_graph")? || on("enforce_piecewise_cuda_graph")?;
    let prefill = match off(backend("cuda_graph_backend_prefill", "prefill")?) {
        Some(off) => Some(!off),
        None if asked => Some(true),
        None => forbidden.then_some(false),
    };
    let sizes = read.counts("cuda_graph_bs")?.or(read.counts("cuda_graph_bs_decode")?);
    let number = |name: &str, key: &str| phase(name, key).and_then(|value| value.as_u64());
    let most = 1 << 20;
    let max = read.count("cuda_graph_max_bs", 1, most)?.or(read.count("cuda_graph_max_bs_decode", 1, most)?);
    let max = sizes.as_ref().and_then(|sizes| sizes.iter().max().copied()).or(max).or(number("decode", "max_bs"));
    let prefill_max = read.count("piecewise_cuda_graph_max_tokens", 1, 1 << 30)?.or(read.count(
        "cuda_graph_max_bs_prefill",
        1,
        1 << 30,
    )?);
    Ok((decode, prefill, max.map(|max| max.min(most)), sizes, prefill_max.or(number("prefill", "max_bs"))))
}

/// The all-to-all of experts.
fn a2a(read: &Reader<'_>) -> Result<Option<String>, Error> {
    if read.switch("enable_deepep_moe")?.unwrap_or(false) {
        return Ok(Some("deepep".to_owned()));
    }
    Ok(read.text("moe_a2a_backend")?.filter(|name| *name != "none").map(str::to_owned))
}

fn speculative(read: &Reader<'_>) -> Result<Option<Speculative>, Error> {
    let Some(name) = read.text("speculative_algorithm")?.filter(|name| !name.is_empty() && *name != "None") else {
        return Ok(None);
    };
    let algorithm = match name.to_ascii_uppercase().as_str() {
        "NEXTN" => "EAGLE".to_owned(),
        other => other.to_owned(),
    };
    let steps = read.count("speculative_num_steps", 0, 1024)?;
    let topk = read.count("speculative_eagle_topk", 1, 1024)?;
    let tokens = read.count("speculative_num_draft_tokens", 1, 65_536)?;
    let block = read.count("speculative_dflash_block_size", 1, 65_536)?;
    let own_model = read.text("speculative_draft_model_path")?.is_some();
    Ok(Some(Speculative { algorithm, steps, topk, draft_tokens: tokens.or(block), own_model }))
}

fn lora(read: &Reader<'_>) -> Result<Option<(u64, u64)>, Error> {
    let on = read.switch("enable_lora")?.unwrap_or(false) || read.value("lora_paths").is_some();
    let slots = read.count("max_loras_per_batch", 1, 4096)?.unwrap_or(8);
    let rank = read.count("max_lora_rank", 1, 65_536)?.unwrap_or(64);
    Ok(on.then_some((slots, rank)))
}

fn dtype(read: &Reader<'_>, key: &str) -> Result<Option<DType>, Error> {
    match read.text(key)? {
        None | Some("auto") => Ok(None),
        Some(name) => match DType::parse(name) {
            Some(dtype) => Ok(Some(dtype)),
            None => read.bad(key, "auto, float16, bfloat16 or float32"),
        },
    }
}

fn variable(env: &Map<String, Value>, name: &str) -> Option<DType> {
    env.get(name).and_then(Value::as_str).and_then(DType::parse)
}

/// `SGLANG_PP_LAYER_PARTITION`: layers of each stage.
fn partition(env: &Map<String, Value>) -> Result<Option<Vec<u32>>, Error> {
    let Some(text) = env.get("SGLANG_PP_LAYER_PARTITION").and_then(Value::as_str) else { return Ok(None) };
    let parts: Option<Vec<u32>> = text.split(',').take(4096).map(|part| part.trim().parse().ok()).collect();
    parts.map(Some).ok_or_else(|| Error::Flag {
        flag: "SGLANG_PP_LAYER_PARTITION".to_owned(),
        found: text.chars().take(60).collect(),
        expected: "layers of each stage, such as 30,31".to_owned(),
    })
}

/// Options that can change memory and that no rule here counts; switches that are off are none.
fn uncounted(map: &Map<String, Value>) -> Vec<String> {
    // What changes batches alone is no news to a plan of memory.
    let idle = |key: &str| super::flags::FLAGS.named(key).is_some_and(|flag| flag.effect == Effect::Nothing);
    let counted = |key: &str| READ.contains(&key) || READ_TOO.contains(&key) || idle(key);
    let said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    map.iter().filter(|(key, value)| !counted(key) && said(value)).map(|(key, _)| key.clone()).collect()
}
