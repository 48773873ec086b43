//! Weights and caches in other formats: what they buy in memory, and in the time of a decode step and of a prompt.

use plimsoll_cost::what_if::precision::Recast;
use plimsoll_cost::{Format, Inventory, Kernel, Predictor, Shape};

use super::answer::FormatAnswer;
use super::{Case, prompt, refused};
use crate::Error;
use crate::roofline::steps::decode;

/// The formats that are looked at: weights, and bytes of a cached number.
const FORMATS: [(Option<Format>, Option<f64>); 8] = [
    (None, None),
    (None, Some(1.0)),
    (Some(Format::Fp8), None),
    (Some(Format::Fp8), Some(1.0)),
    (Some(Format::Int8), None),
    (Some(Format::Int4Weight), None),
    (Some(Format::Mxfp4Weight), None),
    (Some(Format::Nvfp4), None),
];

/// Returns a row for each format and batch.
pub(super) fn formats(case: &Case<'_>) -> Result<Vec<FormatAnswer>, Error> {
    let context = case.contexts.first().copied().unwrap_or(1);
    let inventory = &case.predictor.inventory;
    let cached = cached_bytes(inventory).unwrap_or(2.0);
    let own_weights = inventory.held();
    let mut rows: Vec<FormatAnswer> = Vec::new();
    for (weights, kv_bytes) in FORMATS {
        let recast = inventory.recast(&Recast { weights, kv_bytes }).map_err(refused)?;
        let held = recast.held();
        let mut predictor: Predictor = case.predictor.clone();
        predictor.inventory = recast;
        let (prefill, _) = prompt(&mut predictor, case.plan, case.limits, context)?;
        let kv_bytes = kv_bytes.unwrap_or(cached);
        for batch in case.batches {
            let shape: Shape = decode(*batch, context, inventory.window());
            let seconds = predictor.predict(&shape).seconds;
            let own = rows
                .iter()
                .find(|row| row.batch == *batch)
                .map_or((seconds, prefill), |own| (own.decode_ms / 1e3, own.prefill_ms / 1e3));
            rows.push(FormatAnswer {
                weights: weights.map_or_else(|| "own".to_owned(), |format| format.name().into_owned()),
                kv_bits: kv_bytes * 8.0,
                batch: *batch,
                context,
                weights_bytes: held,
                kv_tokens: kv_tokens(case, own_weights - held, cached / kv_bytes),
                decode_ms: seconds * 1e3,
                decode_speed_up: own.0 / seconds,
                prefill_ms: prefill * 1e3,
                prefill_speed_up: own.1 / prefill,
                native: weights.is_none_or(|format| case.hardware().peaks[format.math() as usize].is_some()),
            });
        }
    }
    Ok(rows)
}

/// Bytes of a number in the launch's own cache.
fn cached_bytes(inventory: &Inventory) -> Option<f64> {
    inventory.operators(&decode(1, 1, inventory.window())).iter().find_map(|operator| match operator.kernel {
        Kernel::GenerationAttention { kv_bytes, .. } | Kernel::GenerationLatent { kv_bytes, .. } => Some(kv_bytes),
        Kernel::Gemm { .. }
        | Kernel::ContextAttention { .. }
        | Kernel::ContextLatent { .. }
        | Kernel::LatentProduct { .. }
        | Kernel::Moe { .. }
        | Kernel::Recurrent { .. }
        | Kernel::Stream { .. }
        | Kernel::Collective { .. } => None,
    })
}

/// Tokens of the cache when so many bytes more are left for it and each takes so many times less.
fn kv_tokens(case: &Case<'_>, saved: f64, smaller: f64) -> f64 {
    let kv = &case.plan.kv;
    let missing = match &case.plan.verdict {
        plimsoll_plan::Verdict::Fits { .. } => 0.0,
        plimsoll_plan::Verdict::DoesNotFit { .. } => {
            case.plan.ranks.get(case.plan.scarcest).map_or(0.0, |rank| rank.short.as_f64())
        }
    };
    let budget = kv.budget.bytes.as_f64();
    let each = if kv.tokens > 0 && budget > 0.0 { budget / kv.tokens as f64 } else { kv.bytes_per_token as f64 };
    if each > 0.0 { ((budget - missing + saved) / each * smaller).max(0.0) } else { 0.0 }
}
