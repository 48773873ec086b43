//! What does an operator that depends on tokens alone cost? Lines that are sized once per step.

use std::borrow::Cow;

use super::stored::input_bytes;
use crate::{Collective, Format, Kernel, Math, Operator, Work};

/// Which tokens a line sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Of {
    /// Those computed.
    Tokens,
    /// Those sampled.
    Sampled,
}

/// An operator whose size depends on tokens alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: &'static str,
    /// Layers that run it on the rank.
    pub(super) runs: f64,
    pub(super) of: Of,
    /// How many workers' tokens meet there.
    pub(super) workers: f64,
    pub(super) what: What,
}

/// What a line runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    Gemm {
        n: u64,
        k: u64,
        format: Format,
        /// Bytes of the matrix.
        weights: f64,
    },
    Moe {
        hidden: u64,
        inter: u64,
        topk: u32,
        experts: u32,
        tp: u32,
        ep: u32,
        format: Format,
        gated: bool,
        skew: f64,
        /// Numbers of one expert on the rank that holds it.
        numbers: f64,
        /// Their bytes.
        weights: f64,
    },
    Stream {
        /// Bytes read per token.
        read: f64,
        /// Bytes written per token.
        written: f64,
        /// Bytes read whatever the tokens.
        weights: f64,
        launches: f64,
    },
    Collective {
        kind: Collective,
        /// Bytes per token.
        bytes: f64,
        ranks: u32,
        across: bool,
    },
}

impl Line {
    /// Sizes the line for the tokens of one micro-batch of one worker.
    pub(super) fn operator(&self, tokens: f64, batches: f64) -> Operator {
        let m = tokens * self.workers;
        let (kernel, work) = match self.what {
            What::Gemm { n, k, format, weights } => (
                Kernel::Gemm { m, n, k, format },
                Work {
                    flops: 2.0 * m * n as f64 * k as f64,
                    read: weights + m * k as f64 * input_bytes(format),
                    written: m * n as f64 * 2.0,
                    math: format.math(),
                },
            ),
            What::Moe { hidden, inter, topk, experts, tp, ep, format, gated, skew, numbers, weights } => {
                let routed = m * f64::from(topk) / f64::from(ep.max(1));
                (
                    Kernel::Moe { tokens: m, hidden, inter, topk, experts, tp, ep, format, gated, skew },
                    Work {
                        flops: 2.0 * routed * numbers,
                        read: weights * touched(experts, topk, m) / f64::from(ep.max(1))
                            + routed * hidden as f64 * input_bytes(format),
                        written: routed * hidden as f64 * 2.0,
                        math: format.math(),
                    },
                )
            }
            What::Stream { read, written, weights, launches } => (
                Kernel::Stream { launches },
                Work { flops: 0.0, read: weights + m * read, written: m * written, math: Math::Half },
            ),
            What::Collective { kind, bytes, ranks, across } => (
                Kernel::Collective { kind, bytes: m * bytes, ranks, across },
                Work { flops: 0.0, read: m * bytes, written: m * bytes, math: Math::Half },
            ),
        };
        Operator { name: Cow::Borrowed(self.name), runs: self.runs * batches, kernel, work }
    }

    /// Bytes of weights that one run reads: those of routed experts when `tokens` tokens are sent to them.
    pub(super) fn weights(&self, tokens: f64) -> f64 {
        match self.what {
            What::Gemm { weights, .. } | What::Stream { weights, .. } => weights,
            What::Moe { experts, topk, ep, weights, .. } => {
                weights * touched(experts, topk, tokens * self.workers) / f64::from(ep.max(1))
            }
            What::Collective { .. } => 0.0,
        }
    }
}

/// Returns how many of `experts` some of `tokens` tokens is sent to, each to `topk` of them uniformly: E·(1 − (1 − k/E)^t).
///
/// One token of 8 out of 128 touches 8, 64 touch 125.9, all ranks together.
pub fn touched(experts: u32, topk: u32, tokens: f64) -> f64 {
    if experts == 0 {
        return 0.0;
    }
    let all = f64::from(experts);
    let idle = 1.0 - f64::from(topk.min(experts)) / all;
    all * (1.0 - libm::pow(idle, tokens))
}
