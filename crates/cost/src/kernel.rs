//! What does a step run? Operators by name, the kernels behind them in the terms in which kernels are measured, and the
//! arithmetic and bytes of each.

use std::borrow::Cow;

/// The arithmetic that a kernel runs in: which of the card's peaks bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Math {
    /// 16-bit floats on tensor cores.
    Half,
    /// 8-bit floats.
    Fp8,
    /// 8-bit integers.
    Int8,
    /// 4-bit floats.
    Fp4,
}

impl Math {
    /// All of them.
    pub const ALL: [Math; 4] = [Math::Half, Math::Fp8, Math::Int8, Math::Fp4];

    /// Returns the name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Math::Half => "16-bit",
            Math::Fp8 => "fp8",
            Math::Int8 => "int8",
            Math::Fp4 => "fp4",
        }
    }
}

/// How a matrix is stored and what it is multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// 16-bit weights and activations.
    Bf16,
    /// 8-bit floats, one scale per tensor or channel.
    Fp8,
    /// 8-bit floats with scales of blocks (128 × 128).
    Fp8Block,
    /// 8-bit integers, activations too (SmoothQuant, w8a8).
    Int8,
    /// 8-bit integer weights, 16-bit activations.
    Int8Weight,
    /// 4-bit integer weights, 16-bit activations (GPTQ, AWQ, compressed-tensors).
    Int4Weight,
    /// NVFP4, activations too.
    Nvfp4,
    /// MXFP4 weights, 16-bit activations.
    Mxfp4Weight,
    /// MXFP4 weights, MXFP8 activations.
    Mxfp4,
    /// Other weight-only formats (NF4, GGUF), by their hundredths of bits per weight.
    Weight(u32),
}

impl Format {
    /// Returns the name in tables and JSON; the first nine are those of the measured tables.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Format::Bf16 => "bf16",
            Format::Fp8 => "fp8",
            Format::Fp8Block => "fp8_block",
            Format::Int8 => "int8",
            Format::Int8Weight => "int8_weight",
            Format::Int4Weight => "int4_weight",
            Format::Nvfp4 => "nvfp4",
            Format::Mxfp4Weight => "mxfp4_weight",
            Format::Mxfp4 => "mxfp4",
            Format::Weight(hundredths) => {
                return Cow::Owned(format!("{}.{:02}-bit", hundredths / 100, hundredths % 100));
            }
        })
    }

    /// Returns what products of such a matrix are computed in, where the card can.
    pub const fn math(self) -> Math {
        match self {
            Format::Fp8 | Format::Fp8Block | Format::Mxfp4 => Math::Fp8,
            Format::Int8 => Math::Int8,
            Format::Nvfp4 => Math::Fp4,
            Format::Bf16 | Format::Int8Weight | Format::Int4Weight | Format::Mxfp4Weight | Format::Weight(_) => {
                Math::Half
            }
        }
    }
}

/// What cards send each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collective {
    /// Sums over all, the result everywhere.
    AllReduce,
    /// Everybody's part, everywhere.
    AllGather,
    /// Sums over all, a part of the result to each.
    ReduceScatter,
    /// A part of each one's to each (experts' dispatch and combine).
    AllToAll,
    /// One to one (between pipeline stages, from prefill to decode).
    Send,
}

impl Collective {
    /// Returns the name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Collective::AllReduce => "all_reduce",
            Collective::AllGather => "all_gather",
            Collective::ReduceScatter => "reduce_scatter",
            Collective::AllToAll => "all_to_all",
            Collective::Send => "send",
        }
    }
}

/// One run of a kernel on one rank, in the terms in which kernels are measured. Numbers of heads, experts and channels are
/// the rank's own share unless they say otherwise; token counts are fractions where they are means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// `y[m, n] = x[m, k] · w[k, n]`.
    Gemm {
        /// Tokens.
        m: f64,
        /// Outputs.
        n: u64,
        /// Inputs.
        k: u64,
        /// How the matrix is stored.
        format: Format,
    },
    /// Attention of pieces of prompts over themselves and what lies before them.
    ContextAttention {
        /// Sequences.
        batch: f64,
        /// Tokens that each computes.
        tokens: f64,
        /// Tokens that each has in the cache before.
        context: f64,
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Tokens that are seen, where not all.
        window: Option<u32>,
        /// Bytes of a number in the cache: 2, 1 (fp8) or less.
        kv_bytes: f64,
    },
    /// Attention of one new token per sequence over its cache.
    GenerationAttention {
        /// Sequences.
        batch: f64,
        /// Tokens in the cache, the mean of the sequences, windows not yet applied.
        context: f64,
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Tokens that are seen, where not all.
        window: Option<u32>,
        /// Bytes of a number in the cache.
        kv_bytes: f64,
    },
    /// Latent attention of pieces of prompts, keys and values expanded.
    ContextLatent {
        /// Sequences.
        batch: f64,
        /// Tokens that each computes.
        tokens: f64,
        /// Tokens that each has in the cache before.
        context: f64,
        /// Heads.
        heads: u32,
        /// Width of a key: nope and rope parts.
        key_dim: u32,
        /// Width of a value.
        value_dim: u32,
        /// Bytes of a number in the cache.
        kv_bytes: f64,
    },
    /// Latent attention of one new token per sequence over the latents themselves.
    GenerationLatent {
        /// Sequences.
        batch: f64,
        /// Tokens seen in the cache, the mean of the sequences; sparse attention sees at most its choice.
        context: f64,
        /// Heads.
        heads: u32,
        /// Numbers of a latent, the rope part aside.
        rank: u32,
        /// Numbers of the rope part.
        rope_dim: u32,
        /// Bytes of a number in the cache.
        kv_bytes: f64,
    },
    /// The products that take a query into the latent space (`rank` outputs) and the result out of it, head by head.
    LatentProduct {
        /// Tokens.
        tokens: f64,
        /// Heads.
        heads: u32,
        /// Inputs per head.
        k: u32,
        /// Outputs per head.
        n: u32,
        /// How the matrix is stored.
        format: Format,
    },
    /// Routed experts: both products, the activation between them, sorting tokens by expert.
    Moe {
        /// Tokens that are routed, those of all ranks that share these experts.
        tokens: f64,
        /// Width of the stream.
        hidden: u64,
        /// Width inside one expert, undivided.
        inter: u64,
        /// Experts per token.
        topk: u32,
        /// Experts, those of all ranks.
        experts: u32,
        /// Ranks over which each expert is divided.
        tp: u32,
        /// Ranks over which whole experts are spread.
        ep: u32,
        /// How they are stored.
        format: Format,
        /// Whether an expert has a gate beside its first matrix.
        gated: bool,
        /// Exponent of the power law by which tokens choose experts; 0 is balanced.
        skew: f64,
    },
    /// The scan of a recurrent layer with its convolution.
    Recurrent {
        /// Which recurrence.
        scan: Scan,
        /// Sequences.
        batch: f64,
        /// Tokens that each computes: one when decoding.
        tokens: f64,
        /// Key heads (GDN) or groups (Mamba 2).
        key_heads: u32,
        /// Width of a key head, or the state's width (Mamba 2).
        key_dim: u32,
        /// Value heads, or heads (Mamba 2).
        value_heads: u32,
        /// Width of a value head.
        value_dim: u32,
        /// Width of the convolution.
        conv: u32,
    },
    /// Reads and writes and next to no arithmetic: norms, activations, rotary embedding, residuals, embedding, sampling.
    Stream {
        /// Kernels launched, fused ones counted once.
        launches: f64,
    },
    /// A message between cards.
    Collective {
        /// Which.
        kind: Collective,
        /// Bytes that each rank puts in (all-reduce: the whole message).
        bytes: f64,
        /// Ranks.
        ranks: u32,
        /// Whether the ranks lie in several machines.
        across: bool,
    },
}

/// Which recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scan {
    /// Gated delta rule (Qwen3-Next, Qwen3.5).
    Gdn,
    /// Mamba 2.
    Mamba2,
    /// Anything else; not measured.
    Other,
}

/// Which tables know a kernel, and under what heading its time is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Matrix products.
    Gemm,
    /// Attention of every kind, its caches read.
    Attention,
    /// Routed experts.
    Moe,
    /// Recurrent scans.
    Recurrent,
    /// Norms, activations and the like.
    Stream,
    /// Messages.
    Collective,
}

impl Family {
    /// All of them.
    pub const ALL: [Family; 6] =
        [Family::Gemm, Family::Attention, Family::Moe, Family::Recurrent, Family::Stream, Family::Collective];

    /// Returns the name in tables and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Gemm => "gemm",
            Family::Attention => "attention",
            Family::Moe => "moe",
            Family::Recurrent => "recurrent",
            Family::Stream => "stream",
            Family::Collective => "collective",
        }
    }
}

impl Kernel {
    /// Returns the family.
    pub const fn family(&self) -> Family {
        match self {
            Kernel::Gemm { .. } => Family::Gemm,
            Kernel::ContextAttention { .. }
            | Kernel::GenerationAttention { .. }
            | Kernel::ContextLatent { .. }
            | Kernel::GenerationLatent { .. }
            | Kernel::LatentProduct { .. } => Family::Attention,
            Kernel::Moe { .. } => Family::Moe,
            Kernel::Recurrent { .. } => Family::Recurrent,
            Kernel::Stream { .. } => Family::Stream,
            Kernel::Collective { .. } => Family::Collective,
        }
    }
}

/// What one run of a kernel computes and moves on one rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Floating-point (or integer) operations, a multiplication and an addition counted as two.
    pub flops: f64,
    /// Bytes read from the card's memory.
    pub read: f64,
    /// Bytes written to it.
    pub written: f64,
    /// The peak that bounds the operations.
    pub math: Math,
}

impl Work {
    /// Returns the operations per byte.
    pub fn intensity(&self) -> f64 {
        self.flops / (self.read + self.written)
    }
}

/// An operator of a step on one rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// `qkv_proj`, `attention`, `experts`, `all_reduce`, …
    pub name: Cow<'static, str>,
    /// How often it runs in a step on this rank: once per layer of its kind, micro-batches of a pipeline counted.
    pub runs: f64,
    /// What runs.
    pub kernel: Kernel,
    /// What one run computes and moves.
    pub work: Work,
}
