//! What does SGLang decide where the launch says nothing? Chunk, graphs, fraction, kernels, pages and lengths, by release,
//! card and model.

use plimsoll_facts::catalogue;
use plimsoll_facts::model::{AttentionKind, Mixer, Model, Span};
use plimsoll_facts::tensor::DType;
use plimsoll_units::Bytes;

use super::options::Options;
use crate::{Card, Error, Parallel, Version};

/// The card as SGLang's defaults see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chip {
    /// What nvidia-smi reports as total, MiB: what the default fraction is computed from.
    pub mib: f64,
    /// Compute capability; `None` for other vendors and unknown cards.
    pub capability: Option<(u8, u8)>,
    /// Whether the card is AMD's.
    pub rocm: bool,
    /// Whether the cards of a node are linked by more than PCI Express.
    pub linked: bool,
}

impl Chip {
    /// Looks the card up; where only the runtime's total is known, the driver's is half a GiB more.
    pub fn of(card: &Card) -> Chip {
        let known = catalogue::gpu(&card.name).ok();
        let total = card.total.bytes.as_mib();
        let driver = known.as_ref().and_then(|gpu| gpu.driver_total).map(Bytes::as_mib);
        // A total that the user gave and that is not this card's overrides the catalogue.
        let mib = driver.filter(|mib| (mib / total.max(1.0) - 1.0).abs() < 0.05).unwrap_or(total + 512.0);
        Chip {
            mib,
            capability: card.compute_capability,
            rocm: known.as_ref().is_some_and(|gpu| gpu.vendor == "amd"),
            linked: known.as_ref().is_none_or(|gpu| gpu.nvlink.is_some_and(|rate| rate > 2e11)),
        }
    }

    fn major(&self) -> Option<u8> {
        self.capability.map(|capability| capability.0)
    }

    fn hopper(&self) -> bool {
        self.major() == Some(9)
    }

    /// Blackwell's large chips (SM100, SM103), not its workstation cards (SM120).
    fn sm100(&self) -> bool {
        self.major() == Some(10)
    }
}

/// Drafting with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The algorithm in capitals.
    pub algorithm: String,
    /// Steps.
    pub steps: u64,
    /// Branches.
    pub topk: u64,
    /// Tokens verified at once.
    pub tokens: u64,
    /// Whether a model of its own drafts.
    pub own_model: bool,
}

impl Draft {
    /// Whether its cache holds as many tokens as the model's and grows the cell (EAGLE, MTP, a standalone model).
    pub fn keeps_cache(&self) -> bool {
        matches!(self.algorithm.as_str(), "EAGLE" | "EAGLE3" | "STANDALONE" | "FROZEN_KV_MTP")
    }
}

/// Everything that the rules need, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Release.
    pub version: Version,
    /// The card.
    pub chip: Chip,
    /// How the model is divided; `dp` counts replicas of the whole only.
    pub parallel: Parallel,
    /// Dtype of weights and activations.
    pub dtype: DType,
    /// How cache entries are stored.
    pub kv: KvFormat,
    /// Tokens of one chunk before data-parallel attention divides it; `None` when prompts are not cut.
    pub chunk: Option<u64>,
    /// Tokens of one chunk on one worker.
    pub worker_chunk: Option<u64>,
    /// Most tokens of a prefill batch.
    pub max_prefill: u64,
    /// Largest batch of decode graphs, 0 when there are none.
    pub graph_max: u64,
    /// What the default fraction counts for graphs even where they are turned off.
    pub graph_nominal: u64,
    /// Batches captured.
    pub graphs: Vec<u64>,
    /// Prefill shapes captured.
    pub prefill_shapes: u64,
    /// `mem_fraction_static`.
    pub fraction: f64,
    /// Whether the fraction is the release's own.
    pub fraction_defaulted: bool,
    /// Tokens of a page.
    pub page: u64,
    /// Attention kernels of decoding.
    pub backend: String,
    /// Longest sequence.
    pub context: u64,
    /// Most requests of all workers, where the launch or the release says a number.
    pub max_running: Option<u64>,
    /// Whether full and sliding layers have pools of their own.
    pub hybrid_swa: bool,
    /// `swa_full_tokens_ratio`.
    pub swa_ratio: f64,
    /// Drafting.
    pub draft: Option<Draft>,
    /// Whether the scheduler overlaps with the GPU.
    pub overlap: bool,
    /// Whether towers are served.
    pub multimodal: bool,
    /// Whether the architecture's states can be kept with an extra buffer.
    pub buffers_states: bool,
}

/// Architectures whose states can be kept with an extra buffer.
///
/// SGLang 0.5.23, `srt/arg_groups/overrides.py`, `_MAMBA_EXTRA_BUFFER_ARCHS`.
const BUFFERS: [&str; 10] = [
    "KimiLinear",
    "Qwen3_5",
    "Qwen3Next",
    "Qwen4Exp",
    "InternS2Preview",
    "MiniCPMV4",
    "BailingMoeV",
    "FalconH1",
    "GraniteMoeHybrid",
    "NemotronH",
];

/// How the cache's entries are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// As they are.
    Plain(DType),
    /// Four bits with one 8-bit scale per 16 numbers.
    Fp4,
    /// 8 bits with one 8-bit scale per 32 numbers.
    Mxfp8,
}

impl KvFormat {
    /// Returns the bytes of `width` numbers.
    pub const fn bytes(self, width: u64) -> u64 {
        match self {
            KvFormat::Plain(dtype) => dtype.bytes_of(width),
            KvFormat::Fp4 => width / 2 + width / 16,
            KvFormat::Mxfp8 => width + width / 32,
        }
    }

    /// Returns the dtype as torch prints it.
    pub const fn name(self) -> &'static str {
        match self {
            KvFormat::Plain(dtype) => dtype.name(),
            KvFormat::Fp4 => "float4_e2m1fn_x2",
            KvFormat::Mxfp8 => "float8_e4m3fn",
        }
    }
}

/// Resolves every default.
///
/// # Errors
/// [`Error::Flag`] for a length that the model does not have.
pub fn resolve(version: Version, model: &Model, card: &Card, options: &Options) -> Result<Resolved, Error> {
    let chip = Chip::of(card);
    let wide = matches!(model.dtype, DType::F32 | DType::F64);
    // `auto` turns 32-bit checkpoints into 16-bit ones (srt/configs/model_config.py, `_get_and_verify_dtype`).
    let dtype = options.dtype.unwrap_or(if wide { DType::F16 } else { model.dtype });
    let context = context(model, options)?;
    let draft = options.speculative.as_ref().map(|said| {
        let by_arch = match (said.algorithm.as_str(), model.architecture.as_str()) {
            ("EAGLE" | "EAGLE3", "LlamaForCausalLM" | "Grok1ForCausalLM" | "Grok1VForCausalLM") => (5, 4, 8),
            ("NGRAM", _) => (0, 1, 12),
            ("DFLASH" | "DSPARK", _) => (0, 1, 16),
            _ => (3, 1, 4),
        };
        let steps = said.steps.unwrap_or(by_arch.0);
        let topk = said.topk.unwrap_or(by_arch.1);
        let whole = said.steps.is_none() && said.topk.is_none();
        let tokens = said.draft_tokens.unwrap_or(if whole { by_arch.2 } else { steps.saturating_mul(topk) + 1 });
        Draft { algorithm: said.algorithm.clone(), steps, topk, tokens, own_model: said.own_model }
    });
    let multimodal = multimodal(version, model, options);
    let kv = kv_format(version, &chip, model, options, dtype);
    let backend = backend(version, &chip, model, options, draft.as_ref());
    let page = page(&chip, model, options, &backend);
    let chunk = options.chunk.unwrap_or_else(|| Some(super::memory::chunk(version, &chip, options)));
    let max_prefill = options.max_prefill_tokens.unwrap_or(16_384);
    let mut max_running = options.max_running;
    if max_running.is_none() {
        max_running = match (&draft, is_v4(model)) {
            (_, true) => Some(256),
            (Some(_), false) => Some(48),
            (None, false) => None,
        };
    }
    let graph_nominal = super::memory::graph_max(version, &chip, options);
    let graph_max = if options.no_decode_graphs { 0 } else { graph_nominal };
    let shapes = super::memory::prefill_shapes(version, &chip, model, options, chunk, multimodal, &backend);
    let facts =
        super::memory::Facts { multimodal, chunk, max_prefill, graph_nominal, prefill_shapes: shapes, max_running };
    let mut fraction =
        options.fraction.unwrap_or_else(|| super::memory::fraction(version, &chip, model, options, &facts));
    if chip.rocm && backend == "aiter" && context > 8192 {
        fraction *= 0.85;
    }
    let replicas = if options.dp_attention { 1 } else { options.dp };
    Ok(Resolved {
        version,
        parallel: Parallel { tp: options.tp, pp: options.pp, dp: replicas, ep: options.ep },
        dtype,
        kv,
        chunk,
        worker_chunk: chunk.map(|chunk| (chunk / options.workers()).max(1)),
        max_prefill,
        graph_max,
        graph_nominal,
        graphs: super::memory::captures(version, options, graph_max, draft.is_some()),
        prefill_shapes: shapes,
        fraction,
        fraction_defaulted: options.fraction.is_none(),
        page,
        backend,
        context,
        max_running,
        hybrid_swa: hybrid_swa(version, model, options),
        swa_ratio: options.swa_ratio.unwrap_or(if is_v4(model) { 0.1 } else { 0.8 }),
        overlap: !options.no_overlap && options.pp == 1 && (draft.is_none() || version >= Version::new(0, 5, 6)),
        draft,
        multimodal,
        buffers_states: BUFFERS.iter().any(|name| model.architecture.starts_with(name)),
        chip,
    })
}

/// The longest sequence: as asked for, or the model's.
///
/// SGLang 0.5.23, `srt/configs/model_config.py`, `_derive_context_length`.
fn context(model: &Model, options: &Options) -> Result<u64, Error> {
    let own = model.max_positions.max(1);
    let Some(asked) = options.context_length else { return Ok(own) };
    let env = options.given.get("env").and_then(|env| env.get("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"));
    let allowed = env.and_then(crate::engine::read::truth).unwrap_or(false);
    let most = model.positions_limit.max(own);
    if asked > most && !allowed {
        return Err(Error::Flag {
            flag: "--context-length".to_owned(),
            found: asked.to_string(),
            expected: format!(
                "at most {most}, which the model's configuration gives \
                 (SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 lifts the limit)"
            ),
        });
    }
    Ok(asked)
}

/// Whether the model is DeepSeek-V4.
pub fn is_v4(model: &Model) -> bool {
    model.architecture.starts_with("DeepseekV4")
}

/// What latent attention the model has: none, plain, or with an indexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latent {
    /// None.
    No,
    /// MLA.
    Plain,
    /// MLA with a sparse indexer (DSA).
    Indexed,
}

/// Returns the model's kind of latent attention.
pub fn latent(model: &Model) -> Latent {
    let kinds = model.layers.iter().filter_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => match attention.kind {
            AttentionKind::Latent { indexer, .. } => Some(indexer.is_some()),
            AttentionKind::Grouped { .. } => None,
        },
        Mixer::Recurrent(_) | Mixer::None => None,
    });
    kinds.fold(
        Latent::No,
        |found, indexed| if indexed || found == Latent::Indexed { Latent::Indexed } else { Latent::Plain },
    )
}

/// Whether the model has recurrent layers.
pub fn recurrent(model: &Model) -> bool {
    model.layers.iter().any(|layer| matches!(layer.mixer, Mixer::Recurrent(_)))
}

/// Whether images can be served: towers, unless the release turns them off for the architecture or the launch does.
///
/// SGLang 0.5.9, `srt/configs/model_config.py`, `ModelConfig.__init__` (`mm_disabled_models`).
fn multimodal(_version: Version, model: &Model, options: &Options) -> bool {
    const OFF: [&str; 3] =
        ["Gemma3ForConditionalGeneration", "Llama4ForConditionalGeneration", "Step3VLForConditionalGeneration"];
    let said = options.given.get("enable_multimodal").and_then(crate::engine::read::truth);
    model.tower.is_some() && !options.language_only && said.unwrap_or(!OFF.contains(&model.architecture.as_str()))
}

/// Whether full and sliding layers have pools of their own.
///
/// SGLang 0.5.3, `srt/model_executor/model_runner.py` (every model whose class names a window); 0.5.9 to 0.5.23,
/// `srt/configs/model_config.py`, `is_hybrid_swa_model` (a list of architectures).
fn hybrid_swa(version: Version, model: &Model, options: &Options) -> bool {
    let windows = model.layers.iter().any(|layer| match &layer.mixer {
        Mixer::Attention(attention) => {
            matches!(attention.span, Span::Window { .. } | Span::Chunk { .. } | Span::Summary { .. })
        }
        Mixer::Recurrent(_) | Mixer::None => false,
    });
    if !windows || options.no_hybrid_swa {
        return false;
    }
    let class = model.architecture.as_str();
    let since = |minor: u16, patch: u16| version >= Version::new(0, minor, patch);
    if class.starts_with("Llama4") {
        let asked = options.given.contains_key("hybrid_kvcache_ratio");
        return since(5, 8) || asked;
    }
    if class.starts_with("GptOss") || class.starts_with("MiMoV2") || class.starts_with("Step3p5") {
        return since(5, 0);
    }
    if class.starts_with("Gemma4") || class.starts_with("Step3p7") || class.starts_with("Laguna") || is_v4(model) {
        return since(5, 10);
    }
    // Until the list there was one rule: a window in the model's class, which Gemma and the like have.
    (since(5, 0) && !since(5, 8))
        && (class.starts_with("Gemma") || class.starts_with("Olmo3") || class.starts_with("Exaone4"))
}

/// How cache entries are stored.
///
/// SGLang 0.5.23, `srt/mem_cache/kv_cache_dtype.py`, `configure_kv_cache_dtype`, and `srt/arg_groups/overrides.py`,
/// `_dsa_kv_cache_dtype_default`.
fn kv_format(version: Version, chip: &Chip, model: &Model, options: &Options, dtype: DType) -> KvFormat {
    match options.kv_cache_dtype.as_deref() {
        Some("fp8_e4m3") => KvFormat::Plain(DType::F8E4M3),
        Some("fp8_e5m2") => KvFormat::Plain(DType::F8E5M2),
        Some("bf16" | "bfloat16") => KvFormat::Plain(DType::BF16),
        Some("fp4_e2m1" | "nvfp4" | "fp4_mx_block16") => KvFormat::Fp4,
        Some("mxfp8") => KvFormat::Mxfp8,
        Some(_) | None => {
            if latent(model) == Latent::Indexed || is_v4(model) {
                let eight =
                    is_v4(model) || (chip.major().is_some_and(|major| major >= 10) && version >= Version::new(0, 5, 6));
                return KvFormat::Plain(if eight { DType::F8E4M3 } else { DType::BF16 });
            }
            let modelopt = model.quant.as_ref().filter(|quant| quant.method.contains("modelopt"));
            let eight = modelopt.and_then(|quant| quant.kv_cache).filter(|kv| kv.bits() == 8);
            match eight {
                Some(_) if version >= Version::new(0, 5, 4) => KvFormat::Plain(DType::F8E4M3),
                Some(_) | None => KvFormat::Plain(dtype),
            }
        }
    }
}

/// Attention kernels of decoding.
///
/// SGLang 0.5.23, `srt/arg_groups/model_override_base.py`, `get_default_attn_backend`, and `srt/arg_groups/model_overrides`;
/// 0.5.9, `srt/server_args.py`, `_get_default_attn_backend`.
fn backend(version: Version, chip: &Chip, model: &Model, options: &Options, draft: Option<&Draft>) -> String {
    if let Some(said) = options.backends[2].as_ref().or(options.backends[0].as_ref()) {
        return said.clone();
    }
    let since = |minor: u16, patch: u16| version >= Version::new(0, minor, patch);
    let class = model.architecture.as_str();
    let topk_one = draft.is_none_or(|draft| draft.topk == 1);
    let sinks = class.starts_with("GptOss");
    let uneven = class.starts_with("MiMoV2");
    let chosen =
        match latent(model) {
            _ if is_v4(model) => "compressed",
            Latent::Indexed => "nsa",
            Latent::Plain if chip.hopper() => "fa3",
            Latent::Plain if chip.sm100() && class == "DeepseekV3ForCausalLM" && since(5, 4) => "trtllm_mla",
            Latent::Plain if chip.sm100() => "flashinfer",
            Latent::Plain => "triton",
            Latent::No if class.starts_with("Gemma4") => {
                if chip.sm100() && since(5, 12) {
                    "trtllm_mha"
                } else {
                    "triton"
                }
            }
            Latent::No if chip.hopper() && topk_one => "fa3",
            Latent::No if chip.sm100() && uneven && since(5, 9) => "fa4",
            Latent::No
                if chip.sm100()
                    && topk_one
                    && (since(5, 7) || (sinks && since(5, 0)) || class.starts_with("Llama4")) =>
            {
                if recurrent(model) && !since(5, 10) { "flashinfer" } else { "trtllm_mha" }
            }
            Latent::No if chip.rocm => "aiter",
            Latent::No if sinks => "triton",
            Latent::No => "flashinfer",
        };
    chosen.to_owned()
}

/// Tokens of a page.
///
/// SGLang 0.5.23, `srt/arg_groups/overrides.py`, `_mla_backend_page_constraints`, `_fa4_page_constraint` and
/// `_page_size_default`; 0.5.9, `srt/server_args.py`, `_handle_attention_backend_compatibility`.
fn page(chip: &Chip, model: &Model, options: &Options, backend: &str) -> u64 {
    let asked = options.page.unwrap_or(1);
    if is_v4(model) {
        return options.page.filter(|page| page.is_multiple_of(128)).unwrap_or(256);
    }
    if latent(model) == Latent::Indexed {
        return if chip.rocm { 1 } else { 64 };
    }
    let any = |name: &str| backend == name || options.backends.iter().flatten().any(|said| said == name);
    if any("flashmla") {
        64
    } else if any("cutlass_mla") {
        128
    } else if any("trtllm_mla") || any("cutedsl_mla") || any("tokenspeed_mla") {
        if matches!(asked, 32 | 64) { asked } else { 64 }
    } else if any("trtllm_mha") {
        if matches!(asked, 16 | 32 | 64 | 128) { asked } else { 64 }
    } else if any("fa4") && chip.sm100() && latent(model) == Latent::No {
        128
    } else {
        asked
    }
}

/// Whether the drafter is loaded before the pools are sized and counted with the weights.
///
/// SGLang 0.5.14 and later; before, it came out of what the fraction leaves.
pub fn draft_is_counted(resolved: &Resolved) -> bool {
    resolved.version >= Version::new(0, 5, 14)
}
