//! Which CUDA kernel runs flash attention, and what extra memory does it want?
//!
//! Follows `ggml_cuda_get_best_fattn_kernel` and `ggml_cuda_flash_attn_ext_get_alloc_size` (llama.cpp 0c1e57098,
//! ggml/src/ggml-cuda/fattn.cu and fattn-common.cuh). Tensor-core and tile kernels read keys and values as F16: for
//! any other type they are converted into memory behind the result.

use super::tensor::{Id, Kind, Op, Tensor};

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Generic tiles.
    Tile,
    /// One or two queries at a time.
    Vector,
    /// Tensor cores.
    TensorCore,
}

/// Keys per step: a cache of another length cannot use some kernels (`FATTN_KQ_STRIDE`).
const STRIDE: u64 = 256;
const VOLTA: u32 = 700;
const TURING: u32 = 750;
const ADA: u32 = 890;

/// The kernel that a GPU of that compute capability uses, if any fits.
#[must_use]
pub fn kernel(capability: u32, tensor: &Tensor, all: &[Tensor]) -> Option<Kernel> {
    let source = |slot: usize| tensor.src[slot].map(|id: Id| &all[id.index()]);
    let (q, k, v) = (source(0)?, source(1)?, source(2)?);
    let mask = source(3);
    let alibi = matches!(tensor.op, Op::FlashAttn { alibi: true, .. });
    let ratio = q.ne[2].checked_div(k.ne[2])?;
    let aligned = [Some(q), Some(k), Some(v), mask]
        .into_iter()
        .flatten()
        .filter(|t| !t.kind.is_quantized())
        .all(|t| t.nb[1..].iter().all(|nb| nb.is_multiple_of(16)));
    let grouped = ratio >= 2 && mask.is_some() && !alibi && k.ne[1].is_multiple_of(STRIDE) && aligned;
    let heads_fit = match k.ne[0] {
        40 | 64 | 72 | 80 | 96 | 112 | 128 | 256 => v.ne[0] == k.ne[0],
        192 => v.ne[0] == 128 && grouped && ratio.is_multiple_of(8),
        320 => v.ne[0] == 256 && grouped && ratio.is_multiple_of(32),
        512 => v.ne[0] == 512 && grouped,
        576 => v.ne[0] == 512 && grouped,
        _other => false,
    };
    let type_fits = |kind: Kind| matches!(kind.id, 0 | 1 | 30 | 2 | 3 | 6 | 7 | 8);
    if !heads_fit || !type_fits(k.kind) || !type_fits(v.kind) || mask.is_some_and(|m| m.ne[2] != 1) {
        return None;
    }
    Some(choose(capability, [q, k, v], ratio, grouped))
}

fn choose(capability: u32, [q, k, v]: [&Tensor; 3], ratio: u64, grouped: bool) -> Kernel {
    let head = q.ne[0];
    let queries = q.ne[1];
    let quantized = k.kind.is_quantized() || v.kind.is_quantized();
    let vector = head <= 256 && head.is_multiple_of(64) && head != 192 && k.ne[1].is_multiple_of(STRIDE);
    let odd = head == 40 || head == 72;
    if capability >= TURING && !odd {
        let newer = capability >= ADA;
        let one = if quantized {
            queries <= if newer { 2 } else { 1 }
        } else {
            let many = ratio > 4 && (head >= 256 || k.ne[1] >= 8192);
            newer && queries == 1 && q.ne[3] == 1 && !many
        };
        let ungrouped = !grouped && queries == 1;
        return if vector && (one || ungrouped) { Kernel::Vector } else { Kernel::TensorCore };
    }
    if capability == VOLTA && !odd {
        let most = if head == 320 {
            32
        } else if head == 576 || head == 192 {
            16
        } else {
            8
        };
        let effective = (1_u64 << ratio.trailing_zeros().min(5)).min(most);
        let columns = queries.saturating_mul(effective);
        return match columns {
            0..=2 if vector => Kernel::Vector,
            0..=16 => Kernel::Tile,
            _more => Kernel::TensorCore,
        };
    }
    let one = if quantized { queries <= 2 } else { queries == 1 && !grouped };
    if vector && one { Kernel::Vector } else { Kernel::Tile }
}

/// Whether a stock build has the vector kernel for that pair; else it falls back to F16 copies.
fn compiled(k: Kind, v: Kind) -> bool {
    let as_half = |kind: Kind| if kind == Kind::F32 { Kind::F16 } else { kind };
    as_half(k) == as_half(v) && matches!(as_half(k).id, 1 | 2 | 8 | 30)
}

/// Bytes of the result with its F16 copies of keys and values, where the build keeps them there.
#[must_use]
pub fn bytes(capability: u32, tensor: &Tensor, all: &[Tensor]) -> u64 {
    let Op::FlashAttn { converts: true, .. } = tensor.op else { return tensor.bytes() };
    let (Some(k), Some(v)) = (tensor.src[1], tensor.src[2]) else { return tensor.bytes() };
    let (k, v) = (&all[k.index()], &all[v.index()]);
    let converts = |kind: Kind| match kernel(capability, tensor, all) {
        Some(Kernel::Tile | Kernel::TensorCore) => kind != Kind::F16,
        Some(Kernel::Vector) => kind == Kind::F32 || (kind != Kind::F16 && !compiled(k.kind, v.kind)),
        None => false,
    };
    let mut end = tensor.bytes();
    let mut add = |copied: &Tensor| {
        end = end.next_multiple_of(128).saturating_add(copied.elements().saturating_mul(2));
    };
    if converts(k.kind) {
        add(k);
    }
    let same = v.view_src.is_some() && v.view_src == k.view_src && v.view_offs == k.view_offs;
    if converts(v.kind) && !same {
        add(v);
    }
    end
}
