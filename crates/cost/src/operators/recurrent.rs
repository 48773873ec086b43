//! What does a recurrent mixer's scan cost? Its state read and written once per sequence, its arithmetic per token.

use std::borrow::Cow;

use plimsoll_facts::model;

use crate::kernel::Scan;
use crate::{Kernel, Math, Operator, Work};

/// Recurrent layers that are alike, on one rank.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recurrent {
    /// Layers on the rank.
    pub(super) runs: f64,
    scan: Scan,
    key_heads: u32,
    key_dim: u32,
    value_heads: u32,
    value_dim: u32,
    conv: u32,
    /// Operations per token.
    flops: f64,
    /// Bytes of the state of one sequence.
    state: f64,
    /// Numbers that a token brings.
    inputs: f64,
    /// Numbers that a token leaves with.
    outputs: f64,
    /// Bytes of convolutions and the like.
    pub(super) weights: f64,
}

impl Recurrent {
    /// Sizes a mixer divided over `ranks`; convolutions in numbers of `half` bytes, states in fp32.
    ///
    /// Operations per number of the state and token: 7 for the gated delta rule (decay, two products with the state, one
    /// outer product and its sum), 5 for Mamba's and lightning's decay, update and output; 2 per tap of a convolution.
    pub(super) fn of(mixer: &model::Recurrent, ranks: u64, half: u64) -> Recurrent {
        let ranks = u32::try_from(ranks).unwrap_or(u32::MAX).max(1);
        let on = |count: u32| count.div_ceil(ranks).max(1);
        let n = |number: u32| f64::from(number);
        let (scan, key_heads, key_dim, value_heads, value_dim, conv) = match *mixer {
            model::Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, kernel } => {
                (Scan::Gdn, on(key_heads), key_dim, on(value_heads), value_dim, kernel)
            }
            model::Recurrent::Mamba2 { heads, head_dim, state, groups, kernel } => {
                (Scan::Mamba2, on(groups), state, on(heads), head_dim, kernel)
            }
            model::Recurrent::Mamba1 { inner, state, kernel } => (Scan::Other, 1, state, on(inner), 1, kernel),
            model::Recurrent::KimiDelta { heads, key_dim, value_dim, kernel } => {
                (Scan::Other, on(heads), key_dim, on(heads), value_dim, kernel)
            }
            model::Recurrent::Lightning { heads, head_dim } => {
                (Scan::Other, on(heads), head_dim, on(heads), head_dim, 0)
            }
            model::Recurrent::ShortConv { width, kernel } => (Scan::Other, 0, 0, on(width), 1, kernel),
        };
        let values = n(value_heads) * n(value_dim);
        let keys = n(key_heads) * n(key_dim);
        let held = match *mixer {
            model::Recurrent::ShortConv { .. } => 0.0,
            model::Recurrent::Mamba1 { .. }
            | model::Recurrent::Mamba2 { .. }
            | model::Recurrent::GatedDelta { .. }
            | model::Recurrent::KimiDelta { .. }
            | model::Recurrent::Lightning { .. } => values * n(key_dim),
        };
        let each = match mixer {
            model::Recurrent::GatedDelta { .. } | model::Recurrent::KimiDelta { .. } => 7.0,
            model::Recurrent::Mamba1 { .. }
            | model::Recurrent::Mamba2 { .. }
            | model::Recurrent::Lightning { .. }
            | model::Recurrent::ShortConv { .. } => 5.0,
        };
        // What goes through the convolution: queries, keys and values; B, C and x; or the channels alone.
        let channels = match mixer {
            model::Recurrent::Mamba1 { .. } | model::Recurrent::ShortConv { .. } => values,
            model::Recurrent::Mamba2 { .. }
            | model::Recurrent::GatedDelta { .. }
            | model::Recurrent::KimiDelta { .. }
            | model::Recurrent::Lightning { .. } => values + 2.0 * keys,
        };
        Recurrent {
            runs: 0.0,
            scan,
            key_heads,
            key_dim,
            value_heads,
            value_dim,
            conv,
            flops: each * held + 2.0 * n(conv) * if conv > 0 { channels } else { 0.0 },
            state: 4.0 * held + half as f64 * n(conv.saturating_sub(1)) * channels,
            inputs: channels,
            outputs: values,
            weights: 0.0,
        }
    }

    /// Whether two differ in nothing but how many layers there are.
    pub(super) fn is_like(&self, other: &Recurrent) -> bool {
        Recurrent { runs: other.runs, ..self.clone() } == *other
    }

    /// Numbers that a token leaves with.
    pub(super) fn outputs(&self) -> f64 {
        self.outputs
    }

    /// Whether kernels of this recurrence were not measured.
    pub(super) fn unmeasured(&self) -> bool {
        self.scan == Scan::Other
    }

    /// Bytes of the state of one sequence.
    pub(super) fn state(&self) -> f64 {
        self.state
    }

    /// `batch` sequences of `tokens` tokens each, `runs` times a layer.
    pub(super) fn operator(&self, batch: f64, tokens: f64, runs: f64) -> Operator {
        let all = batch * tokens;
        Operator {
            name: Cow::Borrowed("scan"),
            runs: self.runs * runs,
            kernel: Kernel::Recurrent {
                scan: self.scan,
                batch,
                tokens,
                key_heads: self.key_heads,
                key_dim: self.key_dim,
                value_heads: self.value_heads,
                value_dim: self.value_dim,
                conv: self.conv,
            },
            work: Work {
                flops: all * self.flops,
                read: self.weights + batch * self.state + 2.0 * all * self.inputs,
                written: batch * self.state + 2.0 * all * self.outputs,
                math: Math::Half,
            },
        }
    }
}
