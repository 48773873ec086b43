//! What is one operation of a compute graph? A light tensor: operation, type, shape, strides, where it lives and what
//! it reads. No data.
//!
//! Follows `ggml_tensor` (llama.cpp 0c1e57098, ggml/include/ggml.h): `ne` counts elements per dimension, fastest
//! first, `nb` are the strides in bytes, and a view names the tensor that owns the memory.

use std::num::NonZeroU32;

/// The number of dimensions of every tensor.
pub const DIMS: usize = 4;
/// The most tensors that one operation reads.
pub const MAX_SRC: usize = 10;

/// Names a tensor inside one [`super::Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(NonZeroU32);

impl Id {
    /// The tensor at that place of the arena.
    pub(crate) fn at(index: usize) -> Self {
        let one_based = u32::try_from(index).unwrap_or(u32::MAX - 1).saturating_add(1);
        Self(NonZeroU32::new(one_based).unwrap_or(NonZeroU32::MIN))
    }

    /// Its place in the arena.
    #[must_use]
    pub fn index(self) -> usize {
        (self.0.get() - 1) as usize
    }
}

/// A ggml element type by its id in files, with its block size and bytes per block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The id in GGUF files (`ggml_type`).
    pub id: u16,
    /// Elements per block.
    pub block: u16,
    /// Bytes per block.
    pub bytes: u16,
}

impl Kind {
    /// 32-bit float.
    pub const F32: Self = Self { id: 0, block: 1, bytes: 4 };
    /// 16-bit float.
    pub const F16: Self = Self { id: 1, block: 1, bytes: 2 };
    /// Brain float.
    pub const BF16: Self = Self { id: 30, block: 1, bytes: 2 };
    /// 32-bit integer.
    pub const I32: Self = Self { id: 26, block: 1, bytes: 4 };
    /// 64-bit integer.
    pub const I64: Self = Self { id: 27, block: 1, bytes: 8 };

    /// Whether elements share a block.
    #[must_use]
    pub fn is_quantized(self) -> bool {
        self.block > 1
    }

    /// Bytes of a row of that many elements.
    #[must_use]
    pub fn row(self, elements: u64) -> u64 {
        elements.saturating_mul(u64::from(self.bytes)) / u64::from(self.block.max(1))
    }
}

/// A unary function, as far as a rule tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// x·σ(x).
    Silu,
    /// Gaussian error linear unit.
    Gelu,
    /// max(0, x).
    Relu,
    /// σ(x).
    Sigmoid,
    /// tanh(x).
    Tanh,
    /// ln(1 + eˣ).
    Softplus,
    /// eˣ.
    Exp,
    /// −x.
    Neg,
    /// Learned activation of Apertus.
    Xielu,
    /// Any other that every backend runs.
    Other,
}

/// What a tensor is the result of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are ggml's own")]
pub enum Op {
    None,
    View,
    Reshape,
    Permute,
    Transpose,
    Cont,
    Cpy,
    Dup,
    Add,
    AddId,
    Add1,
    Sub,
    Mul,
    Div,
    Sqr,
    Sqrt,
    Log,
    Sin,
    Cos,
    Scale,
    Clamp,
    Fill,
    Unary(Unary),
    Glu,
    Norm,
    RmsNorm,
    GroupNorm,
    L2Norm,
    MulMat { hadamard: bool },
    MulMatId { full_precision_source: bool },
    OutProd,
    GetRows,
    SetRows,
    Set,
    SoftMax { plain: bool },
    Rope,
    FlashAttn { alibi: bool, converts: bool },
    Concat { dim: u8 },
    Repeat,
    Pad,
    Roll,
    SumRows,
    Mean,
    Cumsum,
    Argsort,
    TopK,
    Arange,
    Diag,
    DiagMaskInf,
    Tri,
    SolveTri,
    SsmConv,
    SsmScan { snapshots: u32 },
    GatedDeltaNet,
    GatedLinearAttn,
    RwkvWkv6,
    RwkvWkv7,
    Im2col,
    Pool1d,
    LightningIndexer,
    Dsv4HcComb,
    Dsv4HcPre,
    Dsv4HcPost,
}

impl Op {
    /// Whether the result may take over the memory of a source (`ggml_op_can_inplace`, ggml/src/ggml-alloc.c).
    #[must_use]
    pub fn can_be_in_place(self) -> bool {
        matches!(
            self,
            Self::Fill
                | Self::Scale
                | Self::DiagMaskInf
                | Self::Add
                | Self::AddId
                | Self::Add1
                | Self::Sub
                | Self::Mul
                | Self::Div
                | Self::Sqr
                | Self::Sqrt
                | Self::Log
                | Self::Unary(_)
                | Self::Rope
                | Self::RmsNorm
                | Self::Clamp
                | Self::SoftMax { .. }
        )
    }

    /// Whether it only reinterprets memory (`ggml_is_view_op`, ggml/src/ggml-backend.cpp).
    #[must_use]
    pub fn is_view(self) -> bool {
        matches!(self, Self::View | Self::Reshape | Self::Permute | Self::Transpose)
    }
}

/// Memory that was there before the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    /// Memory of the device of that number.
    Device(u8),
    /// Pinned host memory of the device backend (`CUDA_Host`).
    Pinned,
    /// Plain host memory, also a mapped file.
    Host,
    /// Host memory with weights rearranged for the CPU's kernels (`CPU_REPACK`).
    Repacked,
}

/// One tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// What it is the result of.
    pub op: Op,
    /// Element type.
    pub kind: Kind,
    /// Elements per dimension.
    pub ne: [u64; DIMS],
    /// Strides in bytes.
    pub nb: [u64; DIMS],
    /// The tensor that owns the memory, for a view.
    pub view_src: Option<Id>,
    /// Where the view starts.
    pub view_offs: u64,
    /// What it reads.
    pub src: [Option<Id>; MAX_SRC],
    /// Filled by the host before each run.
    pub input: bool,
    /// Kept until the end of the graph.
    pub output: bool,
    /// Memory it already has.
    pub store: Option<Store>,
    /// Whether that memory holds weights (a cache does not).
    pub weight: bool,
    /// Whether this graph's run computes it (false on the branch of a select that is not taken).
    pub computed: bool,
}

impl Tensor {
    /// A tensor with packed strides.
    #[must_use]
    pub fn new(op: Op, kind: Kind, ne: [u64; DIMS]) -> Self {
        let mut nb = [u64::from(kind.bytes); DIMS];
        nb[1] = kind.row(ne[0]);
        nb[2] = nb[1].saturating_mul(ne[1]);
        nb[3] = nb[2].saturating_mul(ne[2]);
        Self {
            op,
            kind,
            ne,
            nb,
            view_src: None,
            view_offs: 0,
            src: [None; MAX_SRC],
            input: false,
            output: false,
            store: None,
            weight: false,
            computed: false,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.ne.iter().fold(1_u64, |product, &n| product.saturating_mul(n))
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.ne[1].saturating_mul(self.ne[2]).saturating_mul(self.ne[3])
    }

    /// Bytes from its first to its last element (`ggml_nbytes`, ggml/src/ggml.c).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        if self.ne.contains(&0) {
            return 0;
        }
        let (start, first) = if self.kind.is_quantized() {
            (self.ne[0].saturating_mul(self.nb[0]) / u64::from(self.kind.block), 1)
        } else {
            (u64::from(self.kind.bytes), 0)
        };
        (first..DIMS).fold(start, |sum, d| sum.saturating_add((self.ne[d] - 1).saturating_mul(self.nb[d])))
    }

    /// Whether dimensions above `merged` are packed; below they may be strided (`ggml_is_contiguous_n`).
    #[must_use]
    pub fn is_contiguous_above(&self, merged: usize) -> bool {
        self.is_contiguous_between(merged, DIMS)
    }

    /// The same for the dimensions below `end` only (`ggml_is_contiguous_m_n`).
    #[must_use]
    pub fn is_contiguous_between(&self, merged: usize, end: usize) -> bool {
        let mut next = u64::from(self.kind.bytes);
        if self.ne[0] != u64::from(self.kind.block) && self.nb[0] != next {
            return false;
        }
        next = next.saturating_mul(self.ne[0]) / u64::from(self.kind.block.max(1));
        for d in 1..end {
            if d > merged {
                if self.ne[d] != 1 && self.nb[d] != next {
                    return false;
                }
                next = next.saturating_mul(self.ne[d]);
            } else {
                next = self.ne[d].saturating_mul(self.nb[d]);
            }
        }
        true
    }

    /// Whether its elements are packed.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.is_contiguous_above(0)
    }

    /// Whether each row is packed (`ggml_is_contiguous_rows`).
    #[must_use]
    pub fn has_contiguous_rows(&self) -> bool {
        self.ne[0] == u64::from(self.kind.block) || self.nb[0] == u64::from(self.kind.bytes)
    }

    /// Whether two tensors have one type, shape and strides (`ggml_are_same_layout`).
    #[must_use]
    pub fn same_layout(&self, other: &Self) -> bool {
        self.kind == other.kind && self.ne == other.ne && self.nb == other.nb
    }

    /// The dimensions that count: trailing ones are dropped (`ggml_n_dims`).
    #[must_use]
    pub fn dims(&self) -> usize {
        (1..DIMS).rev().find(|&d| self.ne[d] > 1).map_or(1, |d| d + 1)
    }
}
