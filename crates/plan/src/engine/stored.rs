//! What does a quantised matrix take on a GPU once it is loaded? The same for every engine that runs the same kernels.

use plimsoll_facts::quant::{Scale, Scheme};
use plimsoll_facts::tensor::{Part, Role, Tensor};

/// A rank's share of a stack of equal matrices.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Rows of one matrix.
    pub outputs: u64,
    /// Columns of one matrix.
    pub inputs: u64,
    /// Matrices.
    pub copies: u64,
}

/// Whether a scheme that is applied while loading takes a line of the inventory.
pub fn takes_online(tensor: &Tensor) -> bool {
    tensor.matrix.is_some()
        && tensor.part == Part::Text
        && matches!(tensor.role, Role::Attention | Role::Mlp | Role::Experts | Role::SharedExpert | Role::Recurrent)
}

/// Returns the bytes that a scheme keeps of a piece: values, scales, zeros and indices, in all copies. `half` is the size
/// of a number of the model's dtype; `marlin` says whether 4-bit weights are repacked for Marlin kernels.
///
/// vLLM 0.33.0, `model_executor/layers/quantization/*`, and SGLang 0.5.23, `srt/layers/quantization/*`, with their
/// `process_weights_after_loading`.
pub fn stored(piece: Piece, scheme: Scheme, half: u64, marlin: bool) -> u64 {
    let Piece { outputs, inputs, copies } = piece;
    let packed = |bits: u32| outputs.saturating_mul(inputs).saturating_mul(u64::from(bits)).div_ceil(8);
    let groups = |group: Option<u64>| group.map_or(1, |group| inputs.div_ceil(group.max(1)));
    let scales = |scale: Scale| match scale {
        Scale::Tensor => 4,
        Scale::Channel => outputs.saturating_mul(4),
        Scale::Block { rows, columns } => {
            outputs.div_ceil(rows.max(1)).saturating_mul(inputs.div_ceil(columns.max(1))).saturating_mul(4)
        }
    };
    let one = match scheme {
        Scheme::Gptq { bits, group, desc_act, symmetric } => {
            let groups = groups(group);
            let zeros = if symmetric && marlin { 0 } else { groups * outputs * u64::from(bits) / 8 };
            let index = match (desc_act, marlin) {
                (true, true) => inputs * 8,
                (true, false) | (false, false) => inputs * 4,
                (false, true) => 0,
            };
            packed(bits) + groups * outputs * half + zeros + index
        }
        Scheme::Awq { bits, group, zero_point } => {
            let groups = groups(Some(group));
            packed(bits) + groups * outputs * half + if zero_point { groups * outputs * u64::from(bits) / 8 } else { 0 }
        }
        Scheme::Packed { bits, group, symmetric, group_index } => {
            let groups = groups(group);
            let zeros = if symmetric { 0 } else { groups * outputs * u64::from(bits) / 8 };
            packed(bits) + groups * outputs * half + zeros + if group_index { inputs * 8 } else { 0 }
        }
        Scheme::Fp8 { scale, input_scale } | Scheme::Int8 { scale, input_scale } => {
            packed(8) + scales(scale) + if input_scale { 4 } else { 0 }
        }
        Scheme::Bnb4 { block, .. } => packed(4) + outputs.saturating_mul(inputs).div_ceil(block.max(1)) * 4,
        Scheme::BnbInt8 => packed(8) + outputs * 4,
        Scheme::Ggml(kind) => inputs.div_ceil(kind.block()).saturating_mul(kind.block_bytes()).saturating_mul(outputs),
        Scheme::Mxfp4 => packed(4) + outputs.saturating_mul(inputs.div_ceil(32)),
        Scheme::Nvfp4 { .. } => packed(4) + outputs.saturating_mul(inputs.div_ceil(16)) + 8,
    };
    one.saturating_mul(copies)
}

/// What torch's allocator counts for one tensor: whole multiples of 512 bytes; from 10 MiB up a segment of whole 2 MiB,
/// whose rest is given away only when it is larger than 1 MiB.
///
/// PyTorch 2.9, `c10/cuda/CUDACachingAllocator.cpp`, `get_allocation_size` and `should_split`.
pub(crate) const fn allocated(bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    let (Some(exact), Some(segment)) = (bytes.checked_next_multiple_of(512), bytes.checked_next_multiple_of(2 * MIB))
    else {
        return bytes;
    };
    if exact >= 10 * MIB && segment - exact <= MIB { segment } else { exact }
}
