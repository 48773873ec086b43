//! How are the weights stored? Quantisation formats as configuration files and checkpoint headers describe them: packed
//! words, scales, zeros, index vectors, padding, and the modules that stay unquantised. Never bits × parameters.

mod bytes;
mod method;
mod names;
mod recast;
mod recipe;
mod stored;

use serde_json::Value;

pub use bytes::CheckpointBytes;
pub use recast::{Format, recast, recast_to};

use crate::Error;
use crate::gguf::GgmlType;
use crate::model::{Config, Model};
use crate::tensor::DType;

/// How a checkpoint stores the matrices that its quantiser took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quant {
    /// `gptq`, `awq`, `fp8`, `compressed-tensors`, … as the file names it.
    pub method: String,
    /// The KV-cache dtype that `quantization_config` asks for (`hf_quant_config.json` where there is no
    /// `quantization_config`, as vLLM reads it).
    pub kv_cache: Option<DType>,
    /// The KV-cache dtype that `hf_quant_config.json` asks for, which TensorRT-LLM goes by.
    pub kv_cache_hf_quant: Option<DType>,
    /// The dtype of the scales in the checkpoint where it is not the scheme's own.
    pub scales: Option<DType>,
    /// Whether every quantised matrix is stored with a bias, needed or not (AutoGPTQ's layers always have one).
    pub spare_bias: bool,
    /// Suffixes that a scheme names but that this producer does not write.
    pub omitted: &'static [&'static str],
}

/// How one matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// GPTQ: `bits`-bit words packed along inputs in 32-bit integers, zeros packed along outputs, scales in the model's
    /// dtype, one 32-bit group index per input.
    Gptq {
        /// 2, 3, 4 or 8.
        bits: u32,
        /// Inputs that share a scale; `None` for all of a column.
        group: Option<u64>,
        /// Whether inputs are reordered by activation (`desc_act`).
        desc_act: bool,
        /// Whether zero points are the middle of the range.
        symmetric: bool,
    },
    /// AWQ: packed along outputs, with zeros and scales per group.
    Awq {
        /// 4.
        bits: u32,
        /// Inputs that share a scale.
        group: u64,
        /// Whether zero points are kept.
        zero_point: bool,
    },
    /// 8-bit floats.
    Fp8 {
        /// What shares a scale.
        scale: Scale,
        /// Whether a static input scale is stored beside the weight's.
        input_scale: bool,
    },
    /// 8-bit integers with one scale per output (w8a8).
    Int8 {
        /// What shares a scale.
        scale: Scale,
        /// Whether a static input scale is stored.
        input_scale: bool,
    },
    /// compressed-tensors `pack-quantized`: `bits`-bit integers in 32-bit words along inputs.
    Packed {
        /// 4 or 8.
        bits: u32,
        /// Inputs that share a scale; `None` for one per output.
        group: Option<u64>,
        /// Whether there are no zero points.
        symmetric: bool,
        /// Whether a group index is stored (activation order).
        group_index: bool,
    },
    /// bitsandbytes 4-bit (NF4 or FP4).
    Bnb4 {
        /// Numbers that share an absmax (64).
        block: u64,
        /// Whether the absmax are quantised again in the checkpoint.
        double_quant: bool,
    },
    /// bitsandbytes LLM.int8: one fp32 row statistic per output.
    BnbInt8,
    /// MXFP4: 4-bit floats, one 8-bit exponent per 32.
    Mxfp4,
    /// NVFP4: 4-bit floats, one fp8 scale per 16, one fp32 scale per tensor (and one for inputs).
    Nvfp4 {
        /// Whether an fp32 input scale is stored.
        input_scale: bool,
    },
    /// A type of ggml's, block by block along inputs, as GGUF files store it.
    Ggml(GgmlType),
}

/// Which numbers share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// The whole tensor.
    Tensor,
    /// One output row.
    Channel,
    /// A block of `rows` × `columns`. One row of 32 is the MX format: its scale is a power of two in one byte.
    Block {
        /// Outputs.
        rows: u64,
        /// Inputs.
        columns: u64,
    },
}

/// One tensor that a scheme stores for a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `qweight`, `scales`, `weight_scale_inv`, …
    pub suffix: &'static str,
    /// How one number is stored.
    pub dtype: DType,
    /// How many numbers.
    pub elements: u64,
}

/// Reads `quantization_config` (also inside the language model's own configuration) and, where the publisher ships one,
/// `hf_quant_config.json`, and marks in the model's inventory which tensors are stored how (`Tensor::quantised`).
///
/// # Errors
/// [`Error::UnknownQuantisation`] names a method that is not supported; [`Error::Invalid`] a value that cannot be true.
pub fn apply(model: &mut Model, config: &Value, hf_quant: Option<&Value>) -> Result<(), Error> {
    let root = Config::new(config)?;
    let hf_root = hf_quant.map(Config::new).transpose()?;
    let Some(found) = method::find(&root, hf_root.as_ref())? else { return Ok(()) };
    let recipe = method::read(&found, &root)?;
    recipe::mark(model, &recipe)?;
    let kv_cache_hf_quant = match &hf_root {
        Some(hf) => method::kv_cache_of_hf_quant(hf)?,
        None => None,
    };
    model.notes.extend(recipe.notes);
    model.quant = Some(Quant {
        method: recipe.method,
        kv_cache: recipe.kv_cache,
        kv_cache_hf_quant,
        scales: recipe.scales,
        spare_bias: recipe.spare_bias,
        omitted: recipe.omitted,
    });
    Ok(())
}
