//! What can a backend run, and how large is a tensor in its memory?
//!
//! The CUDA backend's answers follow `ggml_backend_cuda_device_supports_op`, `…_offload_op` and
//! `ggml_backend_cuda_buffer_type_get_alloc_size` (llama.cpp 0c1e57098, ggml/src/ggml-cuda/ggml-cuda.cu), the CPU
//! backend's `ggml_backend_cpu_device_supports_op` (ggml/src/ggml-cpu/ggml-cpu.cpp) and the repacked buffer's
//! `supports_op` (ggml/src/ggml-cpu/repack.cpp).

use super::fattn;
use super::tensor::{Id, Kind, Op, Store, Tensor, Unary};

/// A backend, in the scheduler's order of preference; the CPU is always last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// An NVIDIA GPU.
    Cuda {
        /// Compute capability as CUDA counts it: 890 for 8.9.
        capability: u32,
    },
    /// The host.
    Cpu {
        /// Whether other backends exist, so that its results lie in pinned memory.
        pinned: bool,
    },
}

/// Rows from which a product with a weight in host memory is run on a GPU (`GGML_OP_OFFLOAD_MIN_BATCH`).
const OFFLOAD_MIN_ROWS: u64 = 32;
/// Elements to which CUDA pads quantised rows (`MATRIX_ROW_PADDING`).
const ROW_PADDING: u64 = 512;

impl Device {
    /// Bytes to which sizes in its buffers are rounded up.
    #[must_use]
    pub fn alignment(self) -> u64 {
        match self {
            Self::Cuda { .. } => 128,
            Self::Cpu { .. } => 32,
        }
    }

    /// The memory that its results lie in.
    #[must_use]
    pub fn store(self, number: u8) -> Store {
        match self {
            Self::Cuda { .. } => Store::Device(number),
            Self::Cpu { pinned: true } => Store::Pinned,
            Self::Cpu { pinned: false } => Store::Host,
        }
    }

    /// Whether it can read that memory.
    #[must_use]
    pub fn reads(self, number: u8, store: Store) -> bool {
        match self {
            Self::Cuda { .. } => store == Store::Device(number),
            Self::Cpu { .. } => matches!(store, Store::Pinned | Store::Host | Store::Repacked),
        }
    }

    /// Bytes of a tensor in its buffers, before rounding.
    #[must_use]
    pub fn size_in_buffer(self, tensor: &Tensor, all: &[Tensor]) -> u64 {
        let Self::Cuda { capability } = self else { return tensor.bytes() };
        let attends = matches!(tensor.op, Op::FlashAttn { .. });
        let mut size = if attends { fattn::bytes(capability, tensor, all) } else { tensor.bytes() };
        let spare = tensor.ne[0] % ROW_PADDING;
        if tensor.kind.is_quantized() && spare != 0 {
            size = size.saturating_add(tensor.kind.row(ROW_PADDING - spare));
        }
        size
    }

    /// Whether it takes over an operation whose weight lies in host memory.
    #[must_use]
    pub fn takes_over(self, tensor: &Tensor) -> bool {
        let Self::Cuda { .. } = self else { return false };
        let rows = if matches!(tensor.op, Op::MulMat { .. }) {
            tensor.ne[1]
        } else if matches!(tensor.op, Op::MulMatId { .. } | Op::Rope) {
            tensor.ne[2]
        } else {
            tensor.rows()
        };
        tensor.op != Op::GetRows && rows >= OFFLOAD_MIN_ROWS
    }

    /// Whether it runs an operation.
    #[must_use]
    pub fn runs(self, number: u8, tensor: &Tensor, all: &[Tensor]) -> bool {
        let source = |slot: usize| tensor.src[slot].map(|id: Id| &all[id.index()]);
        match self {
            Self::Cuda { capability } => {
                let elsewhere = tensor
                    .src
                    .into_iter()
                    .flatten()
                    .any(|id| matches!(all[id.index()].store, Some(Store::Device(other)) if other != number));
                !elsewhere && cuda_runs(capability, tensor, source, all)
            }
            Self::Cpu { .. } => cpu_runs(tensor, source),
        }
    }
}

fn cpu_runs<'a>(tensor: &Tensor, source: impl Fn(usize) -> Option<&'a Tensor>) -> bool {
    if tensor.op.is_view() || tensor.op == Op::None {
        return true;
    }
    let repacked = (0..4).any(|slot| source(slot).is_some_and(|s| s.store == Some(Store::Repacked)));
    if repacked {
        return repacked_runs(tensor, source);
    }
    if let Op::SsmScan { snapshots } = tensor.op {
        return snapshots == 1 || source(3).is_some_and(|s| s.ne[0] == 1);
    }
    let Op::MulMat { hadamard } = tensor.op else { return true };
    let (Some(a), Some(b)) = (source(0), source(1)) else { return true };
    let plain = b.kind == Kind::F32 || b.kind == dot_kind(a.kind);
    plain || (hadamard && a.kind == Kind::F32 && b.kind == Kind::F16) || (b.kind == Kind::BF16 && a.kind == Kind::F32)
}

/// The type that the CPU's product wants its second operand in (`vec_dot_type`), as far as graphs hold it.
fn dot_kind(weight: Kind) -> Kind {
    match weight.id {
        1 => Kind::F16,
        30 => Kind::BF16,
        _other => Kind::F32,
    }
}

fn repacked_runs<'a>(tensor: &Tensor, source: impl Fn(usize) -> Option<&'a Tensor>) -> bool {
    let (Some(a), Some(b)) = (source(0), source(1)) else { return false };
    let shaped = (matches!(tensor.op, Op::MulMat { .. }) && a.dims() == 2)
        || (matches!(tensor.op, Op::MulMatId { .. }) && a.dims() == 3);
    a.store == Some(Store::Repacked) && shaped && !matches!(b.store, Some(Store::Device(_))) && b.kind == Kind::F32
}

/// Weight types that CUDA multiplies.
fn cuda_multiplies(kind: Kind) -> bool {
    matches!(kind.id, 0..=3 | 6..=8 | 10..=23 | 29 | 30 | 39..=42)
}

/// Types that CUDA gathers rows of.
fn cuda_gathers(tensor: &Tensor) -> bool {
    match tensor.kind.id {
        20 | 39 => tensor.ne[0].is_multiple_of(256),
        id => matches!(id, 0..=3 | 6..=8 | 10..=14 | 16..=19 | 21..=23 | 26 | 29 | 30 | 41 | 42),
    }
}

fn is_float(kind: Kind) -> bool {
    kind == Kind::F32 || kind == Kind::F16
}

fn cuda_runs<'a>(
    capability: u32,
    tensor: &Tensor,
    source: impl Fn(usize) -> Option<&'a Tensor>,
    all: &[Tensor],
) -> bool {
    let a = source(0);
    let b = source(1);
    match tensor.op {
        Op::Unary(function) => {
            a.is_some_and(|a| a.is_contiguous() && !(function == Unary::Xielu && a.kind == Kind::BF16))
        }
        Op::Glu => a.is_some_and(|a| a.is_contiguous_above(1)),
        Op::MulMat { .. } | Op::MulMatId { .. } => {
            let (Some(a), Some(b)) = (a, b) else { return false };
            cuda_product(tensor, a, b)
        }
        Op::OutProd => a.is_some_and(|a| a.kind == Kind::F32) && b.is_some_and(|b| b.kind == Kind::F32),
        Op::GetRows => a.is_some_and(cuda_gathers),
        Op::SetRows => {
            let from = a.map(|a| a.kind);
            let into = matches!(tensor.kind.id, 0 | 1 | 30 | 2 | 3 | 6 | 7 | 8 | 20);
            (into && from == Some(Kind::F32)) || (tensor.kind == Kind::F16 && from == Some(Kind::F16))
        }
        Op::Set => matches!(tensor.kind, Kind::F32 | Kind::I32),
        Op::Cpy => match (a, b) {
            (Some(a), Some(b)) => cuda_copies(a, b),
            _missing => false,
        },
        Op::Repeat => a.is_some_and(|a| is_float(a.kind)),
        Op::Concat { dim } => match (a, b) {
            (Some(a), Some(b)) => cuda_concat(a, b, dim),
            _missing => false,
        },
        Op::Norm | Op::RmsNorm | Op::L2Norm => a.is_some_and(Tensor::has_contiguous_rows),
        Op::Scale => a.is_some_and(|a| matches!(a.kind, Kind::F32 | Kind::BF16)),
        Op::Add | Op::Sub | Op::Mul | Op::Div => match (a, b) {
            (Some(a), Some(b)) => cuda_arithmetic(tensor, a, b),
            _missing => false,
        },
        Op::SsmScan { snapshots } => cuda_scan(&source, snapshots),
        Op::SsmConv => a.is_some_and(|a| a.ne[1].is_multiple_of(128)),
        Op::Rope => a.is_some_and(|a| a.nb[0] == u64::from(a.kind.bytes) && a.is_contiguous_above(2)),
        Op::SumRows | Op::Mean => a.is_some_and(|a| a.kind == Kind::F32 && a.has_contiguous_rows()),
        Op::GroupNorm => a.is_some_and(Tensor::is_contiguous),
        Op::Roll => a.is_some_and(|a| a.kind == Kind::F32 && a.is_contiguous()),
        Op::FlashAttn { .. } => fattn::kernel(capability, tensor, all).is_some(),
        Op::Im2col => a.is_some_and(Tensor::is_contiguous) && b.is_some_and(Tensor::is_contiguous),
        Op::None | Op::View | Op::Reshape | Op::Permute | Op::Transpose | Op::Cont | Op::Dup | Op::AddId | Op::Add1 => {
            true
        }
        Op::Sqr | Op::Sqrt | Op::Log | Op::Sin | Op::Cos | Op::Clamp | Op::Fill | Op::SoftMax { .. } => true,
        Op::Pad | Op::Cumsum | Op::Argsort | Op::TopK | Op::Arange | Op::Diag | Op::DiagMaskInf | Op::Tri => true,
        Op::SolveTri | Op::GatedDeltaNet | Op::GatedLinearAttn | Op::RwkvWkv6 | Op::RwkvWkv7 | Op::Pool1d => true,
        Op::Dsv4HcComb | Op::Dsv4HcPre | Op::Dsv4HcPost | Op::LightningIndexer => true,
    }
}

fn cuda_product(tensor: &Tensor, a: &Tensor, b: &Tensor) -> bool {
    if a.nb[0] != u64::from(a.kind.bytes) || b.nb[0] != u64::from(b.kind.bytes) {
        return false;
    }
    let transform = matches!(tensor.op, Op::MulMat { hadamard: true })
        && a.kind == Kind::F32
        && b.is_contiguous()
        && b.ne == tensor.ne;
    if b.kind == Kind::F16 && a.kind != Kind::F16 && !transform {
        return false;
    }
    if tensor.op == (Op::MulMatId { full_precision_source: true }) {
        return false;
    }
    cuda_multiplies(a.kind)
}

fn cuda_copies(a: &Tensor, b: &Tensor) -> bool {
    let plain = |kind: Kind| matches!(kind, Kind::F32 | Kind::F16 | Kind::BF16);
    let (from, to) = (a.kind, b.kind);
    if plain(from) && plain(to) {
        return true;
    }
    let blocks = |kind: Kind| matches!(kind.id, 8 | 2 | 3 | 6 | 7);
    (from == Kind::F32 && (blocks(to) || to.id == 20 || to == Kind::I32))
        || (to == Kind::F32 && (blocks(from) || from == Kind::I32))
        || (from == Kind::I32 && to == Kind::I32)
        || (from == to && a.is_contiguous() && b.is_contiguous())
}

fn cuda_concat(a: &Tensor, b: &Tensor, dim: u8) -> bool {
    if a.kind != b.kind {
        return false;
    }
    if !a.kind.is_quantized() {
        return true;
    }
    let packed = if dim == 3 {
        a.is_contiguous() && b.is_contiguous()
    } else {
        a.is_contiguous_between(0, 3) && b.is_contiguous_between(0, 3)
    };
    let block = u64::from(a.kind.block);
    packed && a.ne[0].is_multiple_of(block) && b.ne[0].is_multiple_of(block)
}

fn cuda_arithmetic(tensor: &Tensor, a: &Tensor, b: &Tensor) -> bool {
    let kinds = [a.kind, b.kind, tensor.kind];
    if kinds.contains(&Kind::BF16) {
        return a.kind == Kind::BF16 && tensor.kind == Kind::BF16 && matches!(b.kind, Kind::BF16 | Kind::F32);
    }
    kinds.into_iter().all(is_float)
}

fn cuda_scan<'a>(source: &impl Fn(usize) -> Option<&'a Tensor>, snapshots: u32) -> bool {
    let (Some(state), Some(a)) = (source(0), source(3)) else { return false };
    if a.ne[0] == 1 {
        return matches!(state.ne[0], 96 | 128 | 256) && state.ne[1].is_multiple_of(16);
    }
    let groups = source(4).map_or(0, |b| b.ne[1]);
    snapshots <= 1 && state.ne[0] == 16 && state.ne[1] == 1 && state.ne[2].is_multiple_of(128) && groups == 1
}
