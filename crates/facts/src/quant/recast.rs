//! What would this model be in another format? The same model as if its checkpoint were stored in fp16, fp8, GPTQ, NF4, as a
//! GGUF file …, through the layouts that real quantisers write.

use serde_json::{Value, json};

use super::{Scale, Scheme, apply};
use crate::Error;
use crate::gguf::{self, FileType};
use crate::model::Model;
use crate::tensor::{DType, Part, Role, Tensor};

/// The formats that are known, as an error lists them.
const SUPPORTED: &str = "fp32, fp16, bf16, fp8, fp8-channel, fp8-block, int8, int8-weight-only, w4a16, gptq-4bit (or 2, 3, \
     8 bits; -g32, -g64, …, -channel; -act-order), awq-4bit (-g32, -g64, …), nf4, nf4-single, bnb-int8, mxfp4, nvfp4, and \
     GGUF types such as q4_k_m, q8_0 or gguf-f16";

/// Inputs that share a scale where the name does not say it: what GPTQ and AWQ checkpoints usually have.
const USUAL_GROUP: u64 = 128;

/// A format in which a whole checkpoint is stored, by the name that a user gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Every weight in one dtype: `fp32`, `fp16`, `bf16`.
    Plain(DType),
    /// 8-bit floats: per tensor with static inputs (`fp8`; as ModelOpt, AutoFP8 and Mistral store it), one scale per output
    /// (`fp8-channel`; llm-compressor's FP8_DYNAMIC), or 128 × 128 blocks (`fp8-block`; DeepSeek, Qwen).
    Fp8(Scale),
    /// 8-bit integers for weights, one scale per output, and for inputs, scaled while running: `int8` (llm-compressor's
    /// W8A8, with or without SmoothQuant).
    Int8,
    /// Integers in 32-bit words for the weights alone: `int8-weight-only` (W8A16, one scale per output) and `w4a16` (groups
    /// of 128), as llm-compressor packs them.
    WeightOnly {
        /// 4 or 8.
        bits: u32,
    },
    /// GPTQ's packed words, zeros, scales and group index: `gptq-4bit`, `gptq-8bit-g32`, `gptq-3bit-channel-act-order`.
    Gptq {
        /// 2, 3, 4 or 8.
        bits: u32,
        /// Inputs that share a scale; `None` for all.
        group: Option<u64>,
        /// Whether inputs are reordered by activation.
        act_order: bool,
    },
    /// AWQ's packed words, zeros and scales: `awq-4bit`, `awq-4bit-g64`.
    Awq {
        /// Inputs that share a scale.
        group: u64,
    },
    /// bitsandbytes' NF4: `nf4` (double quantisation, as QLoRA has it) or `nf4-single`.
    Nf4 {
        /// Whether the absmax are quantised again.
        double: bool,
    },
    /// bitsandbytes' LLM.int8: `bnb-int8`.
    BnbInt8,
    /// 4-bit floats, one power of two per 32: `mxfp4`.
    Mxfp4,
    /// 4-bit floats, one fp8 scale per 16: `nvfp4`.
    Nvfp4,
    /// A GGUF file: `q4_k_m`, `q8_0`, `gguf-f16`.
    Gguf(FileType),
}

impl Format {
    /// Reads a name, in either case, with `_` or `-` between words.
    ///
    /// Words: `fp16` and `bf16` mean a plain checkpoint and `mxfp4` one of safetensors; `gguf-f16`, `gguf-bf16` and
    /// `gguf-mxfp4` are the GGUF files of these names.
    ///
    /// ```
    /// use plimsoll_facts::quant::Format;
    /// assert_eq!(Format::parse("GPTQ-4bit-128g")?.name(), "gptq-4bit");
    /// assert_eq!(Format::parse("q4_K_M")?.name(), "q4_k_m");
    /// assert!(Format::parse("gptq-5bit").is_err());
    /// # Ok::<(), plimsoll_facts::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownQuantisation`] lists the formats.
    pub fn parse(name: &str) -> Result<Format, Error> {
        let lower = name.trim().to_ascii_lowercase();
        let words = lower.replace('_', "-");
        simple(&words)
            .or_else(|| grouped(&words))
            .or_else(|| FileType::parse(lower.strip_prefix("gguf-").unwrap_or(&lower).trim()).map(Format::Gguf))
            .ok_or_else(|| Error::UnknownQuantisation {
                method: name.chars().take(60).collect(),
                supported: SUPPORTED.to_owned(),
            })
    }

    /// Returns the one name that the format goes by in tables.
    pub fn name(self) -> String {
        match self {
            Format::Plain(DType::F32) => "fp32".to_owned(),
            Format::Plain(DType::F16) => "fp16".to_owned(),
            Format::Plain(DType::BF16) => "bf16".to_owned(),
            Format::Plain(dtype) => dtype.name().to_owned(),
            Format::Fp8(Scale::Tensor) => "fp8".to_owned(),
            Format::Fp8(Scale::Channel) => "fp8-channel".to_owned(),
            Format::Fp8(Scale::Block { .. }) => "fp8-block".to_owned(),
            Format::Int8 => "int8".to_owned(),
            Format::WeightOnly { bits: 8 } => "int8-weight-only".to_owned(),
            Format::WeightOnly { bits } => format!("w{bits}a16"),
            Format::Gptq { bits, group, act_order } => {
                let order = if act_order { "-act-order" } else { "" };
                format!("gptq-{bits}bit{}{order}", of_group(group))
            }
            Format::Awq { group } => format!("awq-4bit{}", of_group(Some(group))),
            Format::Nf4 { double: true } => "nf4".to_owned(),
            Format::Nf4 { double: false } => "nf4-single".to_owned(),
            Format::BnbInt8 => "bnb-int8".to_owned(),
            Format::Mxfp4 => "mxfp4".to_owned(),
            Format::Nvfp4 => "nvfp4".to_owned(),
            Format::Gguf(FileType::Mxfp4Moe) => "gguf-mxfp4".to_owned(),
            Format::Gguf(kind) => {
                let name = kind.name().to_ascii_lowercase();
                if name.starts_with(['q', 'i', 't']) { name } else { format!("gguf-{name}") }
            }
        }
    }

    /// Returns what the quantiser that usually makes the format writes into the model's configuration; `None` for plain
    /// checkpoints and GGUF files.
    ///
    /// Words: the output projection, embeddings, norms and routers stay, as in all of these recipes.
    /// Sources: llm-compressor 0.9 `modifiers/quantization` presets (`FP8_DYNAMIC`, `W8A8`, `W8A16`, `W4A16`, `MXFP4A16`)
    /// as compressed-tensors 0.12 `quantization/quant_scheme.py` defines them; TensorRT Model Optimizer 0.37
    /// `NVFP4_DEFAULT_CFG`; GPTQModel's and AutoAWQ's defaults; QLoRA's NF4 (transformers 5.23.0 `BitsAndBytesConfig`).
    fn config(self) -> Option<Value> {
        let compressed = |format: &str, weights: Value, inputs: Value| {
            json!({ "quant_method": "compressed-tensors", "format": format, "ignore": ["lm_head"], "config_groups": {
                "group_0": { "targets": ["Linear"], "weights": weights, "input_activations": inputs } } })
        };
        let by_token = |kind: &str| json!({ "num_bits": 8, "type": kind, "strategy": "token", "dynamic": true });
        let by_channel = |kind: &str| json!({ "num_bits": 8, "type": kind, "strategy": "channel", "symmetric": true });
        Some(match self {
            Format::Plain(_) | Format::Gguf(_) => return None,
            Format::Fp8(Scale::Tensor) => json!({ "quant_method": "fp8", "activation_scheme": "static" }),
            Format::Fp8(Scale::Channel) => compressed("float-quantized", by_channel("float"), by_token("float")),
            Format::Fp8(Scale::Block { rows, columns }) => {
                json!({ "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [rows, columns] })
            }
            Format::Int8 => compressed("int-quantized", by_channel("int"), by_token("int")),
            Format::WeightOnly { bits: 8 } => compressed("pack-quantized", by_channel("int"), Value::Null),
            Format::WeightOnly { bits } => compressed(
                "pack-quantized",
                json!({ "num_bits": bits, "type": "int", "strategy": "group", "group_size": USUAL_GROUP, "symmetric": true }),
                Value::Null,
            ),
            Format::Gptq { bits, group, act_order } => json!({ "quant_method": "gptq", "bits": bits, "sym": true,
                "group_size": group.map_or(json!(-1), Value::from), "desc_act": act_order }),
            Format::Awq { group } => json!({ "quant_method": "awq", "bits": 4, "group_size": group, "zero_point": true,
                "version": "gemm" }),
            Format::Nf4 { double } => json!({ "quant_method": "bitsandbytes", "load_in_4bit": true,
                "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": double }),
            Format::BnbInt8 => json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }),
            Format::Mxfp4 => compressed(
                "mxfp4-pack-quantized",
                json!({ "num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "symmetric": true }),
                Value::Null,
            ),
            Format::Nvfp4 => json!({ "quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16,
                "ignore": ["lm_head"] }),
        })
    }

    /// Returns how many inputs share a scale, where a matrix must divide into such groups.
    fn group(self) -> Option<u64> {
        match self {
            Format::Gptq { group, .. } => group,
            Format::Awq { group } => Some(group),
            Format::WeightOnly { bits } => (bits != 8).then_some(USUAL_GROUP),
            Format::Mxfp4 => Some(32),
            Format::Nvfp4 => Some(16),
            Format::Plain(_)
            | Format::Fp8(_)
            | Format::Int8
            | Format::Nf4 { .. }
            | Format::BnbInt8
            | Format::Gguf(_) => None,
        }
    }
}

/// Names without numbers of their own.
fn simple(words: &str) -> Option<Format> {
    Some(match words {
        "fp32" | "f32" | "float32" => Format::Plain(DType::F32),
        "fp16" | "f16" | "float16" | "half" => Format::Plain(DType::F16),
        "bf16" | "bfloat16" => Format::Plain(DType::BF16),
        "fp8" | "fp8-tensor" | "fp8-per-tensor" | "fp8-static" | "fp8-e4m3" => Format::Fp8(Scale::Tensor),
        "fp8-channel" | "fp8-per-channel" | "fp8-dynamic" => Format::Fp8(Scale::Channel),
        "fp8-block" | "fp8-blockwise" | "fp8-128x128" => Format::Fp8(Scale::Block { rows: 128, columns: 128 }),
        "int8" | "w8a8" | "int8-w8a8" | "w8a8-int8" | "smoothquant" => Format::Int8,
        "int8-weight-only" | "w8a16" | "int8-w8a16" => Format::WeightOnly { bits: 8 },
        "w4a16" | "int4-w4a16" => Format::WeightOnly { bits: 4 },
        "nf4" | "bnb-nf4" | "bnb-4bit" | "nf4-double" | "qlora" => Format::Nf4 { double: true },
        "nf4-single" | "bnb-nf4-single" => Format::Nf4 { double: false },
        "bnb-int8" | "bnb-8bit" | "llm.int8" | "llm-int8" => Format::BnbInt8,
        "mxfp4" => Format::Mxfp4,
        "nvfp4" => Format::Nvfp4,
        "gguf-mxfp4" | "mxfp4-moe" => Format::Gguf(FileType::Mxfp4Moe),
        _ => return None,
    })
}

/// `gptq` and `awq` with bits, group and order: `gptq-4bit-g32`, `awq-int4`, `gptq-int8-128g-act-order`.
fn grouped(words: &str) -> Option<Format> {
    let mut rest = words.split('-');
    let method = rest.next()?;
    let (mut bits, mut group, mut act_order) = (None, None, false);
    while let Some(word) = rest.next() {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=65_536).contains(number));
        let width = word.strip_suffix("bit").or_else(|| word.strip_suffix("bits")).or_else(|| word.strip_prefix("int"));
        let size = word.strip_prefix('g').or_else(|| word.strip_suffix('g')).and_then(number);
        match (word, width.and_then(number), size) {
            ("channel", ..) if group.is_none() => group = Some(None),
            ("act", ..) if rest.next() == Some("order") && !act_order => act_order = true,
            (_, Some(width), _) if bits.is_none() => bits = Some(width),
            (_, None, Some(size)) if group.is_none() => group = Some(Some(u64::from(size))),
            _ => return None,
        }
    }
    let (bits, group) = (bits.unwrap_or(4), group.unwrap_or(Some(USUAL_GROUP)));
    match (method, group) {
        ("gptq", group) if [2, 3, 4, 8].contains(&bits) => Some(Format::Gptq { bits, group, act_order }),
        ("awq", Some(group)) if bits == 4 && !act_order => Some(Format::Awq { group }),
        _ => None,
    }
}

/// The end of a name that says the group, where it is not the usual one.
fn of_group(group: Option<u64>) -> String {
    match group {
        Some(USUAL_GROUP) => String::new(),
        Some(group) => format!("-g{group}"),
        None => "-channel".to_owned(),
    }
}

/// Returns the same model as if its checkpoint were stored in another format (see [`Format::parse`] for the names): the
/// tensors are marked as a real quantiser's configuration would mark them, so that bytes come from its layout. A model that
/// is quantised already is taken back to 16 bits first, and a note says so. Towers stay as they are, but for bitsandbytes,
/// which takes every linear layer. For a GGUF type the file is the one that llama.cpp's converter and quantiser write.
///
/// ```
/// use plimsoll_facts::{catalogue, quant};
/// let model = catalogue::model("llama-2-7b")?.model;
/// assert_eq!(quant::recast(&model, "fp16")?.checkpoint_bytes().model.get(), 2 * 6_738_415_616);
/// let int8 = quant::recast(&model, "bnb-int8")?;
/// assert!(int8.checkpoint_bytes().model.get() < 7_100_000_000);
/// # Ok::<(), plimsoll_facts::Error>(())
/// ```
///
/// # Errors
/// [`Error::UnknownQuantisation`] for a name that is not known; [`Error::Contradiction`] when the model cannot be stored so:
/// a group that does not divide a matrix, experts that the quantiser does not take, a model that was read from a GGUF file;
/// [`Error::UnknownArchitecture`] when llama.cpp's converter does not know the model.
pub fn recast(model: &Model, format: &str) -> Result<Model, Error> {
    recast_to(model, Format::parse(format)?)
}

/// As [`recast`], for a format that was read before.
///
/// # Errors
/// As [`recast`].
pub fn recast_to(model: &Model, format: Format) -> Result<Model, Error> {
    let mut made = plain(model, format)?;
    match format {
        Format::Plain(dtype) => {
            set_dtype(&mut made, dtype);
            return Ok(made);
        }
        Format::Gguf(kind) => {
            let notes = std::mem::take(&mut made.notes);
            let mut read = gguf::model(&gguf::from_model(&made, kind)?, &model.id)?;
            read.notes.splice(0..0, notes);
            return Ok(read);
        }
        Format::Fp8(_)
        | Format::Int8
        | Format::WeightOnly { .. }
        | Format::Gptq { .. }
        | Format::Awq { .. }
        | Format::Nf4 { .. }
        | Format::BnbInt8
        | Format::Mxfp4
        | Format::Nvfp4 => {}
    }
    if made.dtype == DType::F32 {
        set_dtype(&mut made, DType::BF16);
        made.notes.push("what the quantiser leaves is stored in bf16, not in the model's fp32".to_owned());
    }
    check_layout(&made, format)?;
    let own_mxfp4 = format == Format::Mxfp4 && made.model_type == "gpt_oss";
    let quantiser = if own_mxfp4 { Some(json!({ "quant_method": "mxfp4" })) } else { format.config() };
    let config = json!({ "model_type": made.model_type, "quantization_config": quantiser });
    apply(&mut made, &config, None)?;
    let every = matches!(format, Format::Nf4 { .. } | Format::BnbInt8);
    for tensor in made.tensors.iter_mut().filter(|tensor| stays(tensor, every)) {
        tensor.quantised.clear();
    }
    check_groups(&made, format)?;
    if made.tensors.iter().all(|tensor| tensor.quantised.is_empty()) {
        return Err(cannot(format, format!("{} has no linear layers that the quantiser takes", made.id)));
    }
    Ok(made)
}

/// Whether recipes leave a linear layer that the configuration's own words would take: the output projection under any
/// name; and, but for a quantiser that takes `every` linear layer, towers and the decay and gate projections of gated delta
/// nets, one number per head.
///
/// Source: transformers 5.23.0 `quantizers/base.py` (`get_keys_to_not_convert`); the `modules_to_not_convert` of
/// Qwen3.5-122B-A10B-FP8 and of MiniCPM-V-4.6-AWQ.
fn stays(tensor: &Tensor, every: bool) -> bool {
    const GATES: [&str; 3] = [".in_proj_a.weight", ".in_proj_b.weight", ".in_proj_ba.weight"];
    let small = tensor.part == Part::Tower || GATES.iter().any(|end| tensor.name.ends_with(end));
    tensor.role == Role::LmHead || (!every && small)
}

/// The model without any quantisation.
fn plain(model: &Model, format: Format) -> Result<Model, Error> {
    if model.tensors.iter().any(|tensor| tensor.name == "token_embd.weight") {
        let why = format!(
            "{} was read from a GGUF file, whose tensors are laid out for llama.cpp; give its config.json instead",
            model.id
        );
        return Err(cannot(format, why));
    }
    let mut made = model.clone();
    if let Some(quant) = made.quant.take() {
        let text = format!("the checkpoint is {}; it is taken back to {} first", quant.method, name_of(made.dtype));
        made.notes.push(text);
    }
    if !matches!(made.dtype, DType::F32 | DType::F16 | DType::BF16) {
        made.notes.push(format!("the checkpoint is {}; what is not quantised is taken as bf16", made.dtype));
        set_dtype(&mut made, DType::BF16);
    }
    for tensor in &mut made.tensors {
        tensor.quantised.clear();
        if matches!(tensor.dtype, Some(dtype) if dtype.bits() < 16) {
            tensor.dtype = None;
        }
    }
    Ok(made)
}

/// Stores in `dtype` whatever was stored in the model's.
fn set_dtype(model: &mut Model, dtype: DType) {
    let old = model.dtype;
    model.dtype = dtype;
    for tensor in &mut model.tensors {
        if tensor.dtype == Some(old) || matches!(tensor.dtype, Some(DType::F16 | DType::BF16)) {
            tensor.dtype = None;
        }
    }
}

/// The short name of a dtype.
fn name_of(dtype: DType) -> String {
    Format::Plain(dtype).name()
}

/// Refuses experts that are one parameter, for quantisers that take linear layers.
///
/// Words: GPTQ, AWQ and bitsandbytes replace modules of class `Linear`; these families keep all experts of a layer in one
/// three-dimensional parameter, in the checkpoint as well, which such a quantiser passes over.
/// Source: transformers 5.23.0 `models/{gpt_oss,llama4,dbrx,granitemoe,qwen3_vl_moe,qwen3_5_moe}/modeling_*.py`.
fn check_layout(model: &Model, format: Format) -> Result<(), Error> {
    const FUSED: [&str; 9] = [
        "gpt_oss",
        "llama4",
        "llama4_text",
        "dbrx",
        "granitemoe",
        "granitemoeshared",
        "granitemoehybrid",
        "qwen3_vl_moe",
        "qwen3_5_moe",
    ];
    let by_module = matches!(format, Format::Gptq { .. } | Format::Awq { .. } | Format::Nf4 { .. } | Format::BnbInt8);
    let experts = model.tensors.iter().any(|tensor| tensor.role == Role::Experts);
    let fused = FUSED.contains(&model.model_type.trim_end_matches("_text")) || FUSED.contains(&&*model.model_type);
    if by_module && experts && fused {
        let why = format!(
            "the quantiser takes linear layers, and {} models keep a layer's experts in one parameter, which it would leave",
            model.model_type
        );
        return Err(cannot(format, why));
    }
    Ok(())
}

/// Refuses matrices that do not divide into groups and words.
///
/// Source: AutoAWQ 0.2.9 `modules/linear/gemm.py` (its assertions); vLLM 0.33.0 `layers/quantization/gptq.py` ("The input
/// size is not aligned with the quantized weight shape"); compressed-tensors 0.12 `quantization/lifecycle/forward.py`.
fn check_groups(model: &Model, format: Format) -> Result<(), Error> {
    let refuse = |tensor: &Tensor, what: &str, size: u64, by: u64| {
        Err(cannot(format, format!("`{}` has {size} {what}, which {by} does not divide", tensor.name)))
    };
    for tensor in model.tensors.iter().filter(|tensor| !tensor.quantised.is_empty()) {
        let Some(matrix) = tensor.matrix else { continue };
        if let Some(group) = format.group().filter(|group| !matrix.inputs.is_multiple_of(*group)) {
            return refuse(tensor, "inputs", matrix.inputs, group);
        }
        let (inputs, outputs) = match tensor.quantised.first() {
            Some((_, Scheme::Gptq { bits: 3, .. })) => (32, 32),
            Some((_, Scheme::Gptq { bits, .. })) => (32 / u64::from(*bits), 32 / u64::from(*bits)),
            Some((_, Scheme::Awq { bits, .. })) => (1, 32 / u64::from(*bits)),
            _ => (1, 1),
        };
        if !matrix.inputs.is_multiple_of(inputs) {
            return refuse(tensor, "inputs", matrix.inputs, inputs);
        }
        if !matrix.outputs.is_multiple_of(outputs) {
            return refuse(tensor, "outputs", matrix.outputs, outputs);
        }
    }
    Ok(())
}

/// The error for a model that cannot be stored so.
fn cannot(format: Format, why: String) -> Error {
    Error::Contradiction { place: format!("format {}", format.name()), why }
}
