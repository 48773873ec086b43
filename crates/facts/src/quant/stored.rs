//! What lies in the file for one quantised matrix? Every tensor of every scheme, with its dtype and count.

use super::{Scale, Scheme, Stored};
use crate::tensor::DType;

/// Numbers that one 32-bit word holds.
const WORD_BITS: u64 = 32;

/// The length of `"nested_offset"` in bitsandbytes' state when it is written as text; the value's own digits vary by one
/// or two.
const OFFSET_DIGITS: u64 = 19;

impl Scheme {
    /// Returns the tensors that the checkpoint stores for one matrix of `outputs` × `inputs`, in a model whose other
    /// weights are `model_dtype`.
    ///
    /// Words: a packed matrix is words of 32 bits, scales, and what the kernel needs beside them. Sources: AutoGPTQ 0.7.1
    /// `nn_modules/qlinear/qlinear_cuda.py`; AutoAWQ 0.2.9 `modules/linear/gemm.py`; bitsandbytes 0.45 `functional.py`
    /// (`QuantState.as_dict`) and `nn/modules.py`; compressed-tensors 0.12 `compressors/quantized_compressors`;
    /// TensorRT Model Optimizer 0.37 `torch/export/quant_utils.py`; transformers 5.23.0 `integrations/finegrained_fp8.py`
    /// and `integrations/mxfp4.py`.
    ///
    /// ```
    /// use plimsoll_facts::quant::Scheme;
    /// use plimsoll_facts::tensor::DType;
    /// let nf4 = Scheme::Bnb4 { block: 64, double_quant: false };
    /// let bytes: u64 = nf4.stored(4608, 3584, DType::F16).iter().map(|s| s.bytes()).sum();
    /// assert_eq!(bytes, 4608 * 3584 / 2 + 4608 * 3584 / 64 * 4 + 64 + 81);
    /// ```
    pub fn stored(&self, outputs: u64, inputs: u64, model_dtype: DType) -> Vec<Stored> {
        let numbers = outputs.saturating_mul(inputs);
        match *self {
            Scheme::Ggml(kind) => {
                let row = inputs.div_ceil(kind.block()).saturating_mul(kind.block_bytes());
                vec![Stored::new("weight", DType::U8, row.saturating_mul(outputs))]
            }
            Scheme::Gptq { bits, group, .. } => gptq(outputs, inputs, bits, group),
            Scheme::Awq { bits, group, .. } => awq(outputs, inputs, bits, group),
            Scheme::Fp8 { scale, input_scale } => {
                let (suffix, input) = match scale {
                    Scale::Block { columns: 1.., rows: 2.. } => ("weight_scale_inv", "activation_scale"),
                    Scale::Tensor | Scale::Channel | Scale::Block { .. } => ("weight_scale", "input_scale"),
                };
                let mut list = vec![Stored::new("weight", DType::F8E4M3, numbers)];
                list.push(Stored::new(suffix, scale_dtype(scale), scales(scale, outputs, inputs)));
                list.extend(input_scale.then_some(Stored::new(input, DType::F32, 1)));
                list
            }
            Scheme::Int8 { scale, input_scale } => {
                let mut list = vec![Stored::new("weight", DType::I8, numbers)];
                list.push(Stored::new("weight_scale", DType::F32, scales(scale, outputs, inputs)));
                list.extend(input_scale.then_some(Stored::new("input_scale", DType::F32, 1)));
                list
            }
            Scheme::Packed { bits, group, symmetric, group_index } => {
                packed(outputs, inputs, (bits, group), (symmetric, group_index), model_dtype)
            }
            Scheme::Bnb4 { block, double_quant } => bnb4(outputs, inputs, block, double_quant, model_dtype),
            Scheme::BnbInt8 => vec![
                Stored::new("weight", DType::I8, numbers),
                Stored::new("SCB", DType::F32, outputs),
                Stored::new("weight_format", DType::U8, 1),
            ],
            Scheme::Mxfp4 => vec![
                Stored::new("blocks", DType::U8, numbers.div_ceil(2)),
                Stored::new("scales", DType::U8, outputs.saturating_mul(inputs.div_ceil(32))),
            ],
            Scheme::Nvfp4 { input_scale } => {
                let mut list = vec![
                    Stored::new("weight", DType::U8, numbers.div_ceil(2)),
                    Stored::new("weight_scale", DType::F8E4M3, outputs.saturating_mul(inputs.div_ceil(16))),
                    Stored::new("weight_scale_2", DType::F32, 1),
                ];
                list.extend(input_scale.then_some(Stored::new("input_scale", DType::F32, 1)));
                list
            }
        }
    }
}

impl Stored {
    /// Puts one stored tensor down.
    const fn new(suffix: &'static str, dtype: DType, elements: u64) -> Self {
        Stored { suffix, dtype, elements }
    }

    /// Returns its bytes.
    pub const fn bytes(&self) -> u64 {
        self.dtype.bytes_of(self.elements)
    }
}

/// Returns how many scales a matrix has.
fn scales(scale: Scale, outputs: u64, inputs: u64) -> u64 {
    match scale {
        Scale::Tensor => 1,
        Scale::Channel => outputs,
        Scale::Block { rows, columns } => outputs.div_ceil(rows.max(1)).saturating_mul(inputs.div_ceil(columns.max(1))),
    }
}

/// Scales are fp32, but those of MX formats are one byte.
fn scale_dtype(scale: Scale) -> DType {
    match scale {
        Scale::Block { rows: 1, columns: 32 } => DType::F8E8M0,
        Scale::Tensor | Scale::Channel | Scale::Block { .. } => DType::F32,
    }
}

/// Packs along inputs; 3 bits fill 3 words with 32 numbers.
fn gptq(outputs: u64, inputs: u64, bits: u32, group: Option<u64>) -> Vec<Stored> {
    let groups = inputs.div_ceil(group.unwrap_or(inputs).max(1));
    let words = |numbers: u64| numbers.saturating_mul(u64::from(bits)).div_ceil(WORD_BITS);
    vec![
        Stored::new("qweight", DType::I32, words(inputs).saturating_mul(outputs)),
        Stored::new("qzeros", DType::I32, groups.saturating_mul(words(outputs))),
        Stored::new("scales", DType::F16, groups.saturating_mul(outputs)),
        Stored::new("g_idx", DType::I32, inputs),
    ]
}

/// Packs along outputs; zeros are written whether used or not.
fn awq(outputs: u64, inputs: u64, bits: u32, group: u64) -> Vec<Stored> {
    let groups = inputs.div_ceil(group.max(1));
    let words = outputs.saturating_mul(u64::from(bits)).div_ceil(WORD_BITS);
    vec![
        Stored::new("qweight", DType::I32, inputs.saturating_mul(words)),
        Stored::new("qzeros", DType::I32, groups.saturating_mul(words)),
        Stored::new("scales", DType::F16, groups.saturating_mul(outputs)),
    ]
}

/// compressed-tensors packs whole numbers into words: 32 / bits to a word, the last one padded.
fn packed(
    outputs: u64,
    inputs: u64,
    (bits, group): (u32, Option<u64>),
    (symmetric, group_index): (bool, bool),
    model_dtype: DType,
) -> Vec<Stored> {
    let per_word = (WORD_BITS / u64::from(bits.clamp(1, 32))).max(1);
    let groups = inputs.div_ceil(group.unwrap_or(inputs).max(1));
    let mut list = vec![
        Stored::new("weight_packed", DType::I32, outputs.saturating_mul(inputs.div_ceil(per_word))),
        Stored::new("weight_scale", model_dtype, outputs.saturating_mul(groups)),
        Stored::new("weight_shape", DType::I64, 2),
    ];
    if !symmetric {
        let words = outputs.div_ceil(per_word);
        list.push(Stored::new("weight_zero_point", DType::I32, words.saturating_mul(groups)));
    }
    list.extend(group_index.then_some(Stored::new("weight_g_idx", DType::I32, inputs)));
    list
}

/// Half a byte a number, one absmax a block, the table of 16 values, and the state as JSON text.
fn bnb4(outputs: u64, inputs: u64, block: u64, double_quant: bool, model_dtype: DType) -> Vec<Stored> {
    let numbers = outputs.saturating_mul(inputs);
    let blocks = numbers.div_ceil(block.max(1));
    let mut state = format!(
        r#"{{"quant_type": "nf4", "blocksize": {block}, "dtype": "{model_dtype}", "shape": [{outputs}, {inputs}]}}"#
    )
    .len() as u64;
    let absmax = if double_quant { DType::U8 } else { DType::F32 };
    let mut list = vec![
        Stored::new("weight", DType::U8, numbers.div_ceil(2)),
        Stored::new("weight.absmax", absmax, blocks),
        Stored::new("weight.quant_map", DType::F32, 16),
    ];
    if double_quant {
        state += r#", "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": "#.len() as u64;
        state += OFFSET_DIGITS;
        list.push(Stored::new("weight.nested_absmax", DType::F32, blocks.div_ceil(256)));
        list.push(Stored::new("weight.nested_quant_map", DType::F32, 256));
    }
    list.push(Stored::new("weight.quant_state", DType::U8, state));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scheme: Scheme, bytes: u64) {
        let stored = scheme.stored(11008, 4096, DType::F16);
        assert_eq!(stored.iter().map(Stored::bytes).sum::<u64>(), bytes, "{scheme:?}: {stored:?}");
    }

    #[test]
    fn bytes_of_one_matrix_in_every_scheme() {
        let (outputs, inputs) = (11008_u64, 4096_u64);
        let numbers = outputs * inputs;
        let gptq = |bits, group| Scheme::Gptq { bits, group, desc_act: false, symmetric: true };
        check(gptq(4, Some(128)), numbers / 2 + 32 * outputs / 2 + 32 * outputs * 2 + inputs * 4);
        check(gptq(3, None), inputs / 32 * 3 * outputs * 4 + outputs / 32 * 3 * 4 + outputs * 2 + inputs * 4);
        check(gptq(8, Some(32)), numbers + 128 * outputs + 128 * outputs * 2 + inputs * 4);
        check(Scheme::Awq { bits: 4, group: 128, zero_point: true }, numbers / 2 + 32 * outputs / 2 + 32 * outputs * 2);
        check(Scheme::Fp8 { scale: Scale::Tensor, input_scale: true }, numbers + 8);
        check(Scheme::Fp8 { scale: Scale::Channel, input_scale: false }, numbers + outputs * 4);
        let block = Scale::Block { rows: 128, columns: 128 };
        check(Scheme::Fp8 { scale: block, input_scale: false }, numbers + 86 * 32 * 4);
        let mx = Scale::Block { rows: 1, columns: 32 };
        check(Scheme::Fp8 { scale: mx, input_scale: false }, numbers + numbers / 32);
        check(Scheme::Int8 { scale: Scale::Channel, input_scale: false }, numbers + outputs * 4);
        let packed = |symmetric, group_index| Scheme::Packed { bits: 4, group: Some(128), symmetric, group_index };
        check(packed(true, false), numbers / 2 + 32 * outputs * 2 + 16);
        check(packed(false, true), numbers / 2 + 32 * outputs * 2 + 16 + 32 * outputs / 2 + inputs * 4);
        check(Scheme::BnbInt8, numbers + outputs * 4 + 1);
        check(Scheme::Mxfp4, numbers / 2 + numbers / 32);
        check(Scheme::Nvfp4 { input_scale: true }, numbers / 2 + numbers / 16 + 8);
        check(Scheme::Bnb4 { block: 64, double_quant: false }, numbers / 2 + numbers / 16 + 64 + 82);
    }

    #[test]
    fn absurd_sizes_saturate() {
        for scheme in [Scheme::Mxfp4, Scheme::BnbInt8, Scheme::Nvfp4 { input_scale: false }] {
            assert!(!scheme.stored(u64::MAX, u64::MAX, DType::BF16).is_empty());
        }
    }
}
