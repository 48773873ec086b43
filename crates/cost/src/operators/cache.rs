//! How wide is a number in the cache? From what the plan counts per token.

use plimsoll_facts::model::{AttentionKind, Layer, Mixer, Span};
use plimsoll_plan::Plan;

use super::build::Builder;

impl Builder<'_> {
    /// Bytes of a number in the cache, from the plan's bytes per token over the numbers that a rank keeps of one.
    pub(super) fn cached(&mut self, plan: &Plan) -> f64 {
        const WIDTHS: [f64; 7] = [4.0, 2.0, 1.0625, 1.0, 0.75, 0.5625, 0.5];
        let ranks = self.division.attention;
        let numbers: f64 = self.model.layers.iter().map(|layer| kept(layer, ranks)).sum::<f64>() * self.division.part;
        if numbers <= 0.0 || plan.kv.bytes_per_token == 0 {
            return 2.0;
        }
        // A plan of layers dealt out one device after another counts one device's.
        let pp = if self.habits.pipelined { 1.0 } else { f64::from(plan.parallel.pp.max(1)) };
        let keys: f64 = self.model.layers.iter().map(indexed).sum::<f64>() * self.division.part;
        let found = (plan.kv.bytes_per_token as f64 * pp - keys).max(0.0) / numbers;
        let near = |width: &&f64| (found / **width - 1.0).abs() < 0.08;
        match WIDTHS.iter().find(near) {
            Some(width) => *width,
            None if (0.25..=4.5).contains(&found) => found,
            None => {
                let half = self.storage.half as f64;
                self.out.assumptions.push(format!("a number in the cache takes {half} bytes"));
                half
            }
        }
    }
}

/// Numbers that a token adds to a layer's cache on one of `ranks`.
fn kept(layer: &Layer, ranks: u64) -> f64 {
    let Mixer::Attention(attention) = &layer.mixer else { return 0.0 };
    if attention.shares_cache_of.is_some() || attention.span == Span::Cross {
        return 0.0;
    }
    match &attention.kind {
        AttentionKind::Grouped { kv_heads, key_dim, value_dim, .. } => {
            u64::from(*kv_heads).div_ceil(ranks).max(1) as f64 * (f64::from(*key_dim) + f64::from(*value_dim))
        }
        AttentionKind::Latent { rank, rope_dim, compress, .. } => {
            (f64::from(*rank) + f64::from(*rope_dim)) / f64::from((*compress).max(1))
        }
    }
}

/// Bytes of an indexer's key: 8-bit floats and a scale of four bytes for each 128 of them.
///
/// vLLM 0.19.0, `v1/attention/backends/mla/indexer.py`.
fn indexed(layer: &Layer) -> f64 {
    let Mixer::Attention(attention) = &layer.mixer else { return 0.0 };
    match &attention.kind {
        AttentionKind::Latent { indexer: Some(indexer), compress, .. } if attention.shares_cache_of.is_none() => {
            let dim = f64::from(indexer.dim);
            (dim + 4.0 * (dim / 128.0).ceil()) / f64::from((*compress).max(1))
        }
        AttentionKind::Latent { .. } | AttentionKind::Grouped { .. } => 0.0,
    }
}
