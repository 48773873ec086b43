//! Prefill and decoding on separate cards: what goes over the link, and how many of each kind keep each other busy.

use plimsoll_cost::Shape;
use plimsoll_cost::what_if::disaggregated::{Question, Transfer, balance};

use super::answer::{DisaggregatedAnswer, LinkAnswer};
use super::{Case, DisaggregatedRequest, prompt, refused, windowed};
use crate::Error;

/// Returns a row for each length of prompts and each batch.
pub(super) fn disaggregated(asked: &DisaggregatedRequest, case: &Case<'_>) -> Result<Vec<DisaggregatedAnswer>, Error> {
    let parallel = case.plan.parallel;
    let cards = parallel.tp.saturating_mul(parallel.pp).max(1);
    let layers = u32::try_from(case.prepared.loaded.model.layers.len()).unwrap_or(u32::MAX) / parallel.pp.max(1);
    let window = case.predictor.inventory.window();
    let mut rows = Vec::new();
    for context in case.contexts {
        let mut prefiller = case.predictor.clone();
        let (alone, _) = prompt(&mut prefiller, case.plan, case.limits, *context)?;
        let each = case.plan.kv.bytes_per_token as f64;
        let transfer =
            Transfer::of(u64::from(*context), each, case.predictor.inventory.state_bytes(), layers.max(1), alone);
        for batch in case.batches {
            let question = Question {
                prompt: *context,
                output: asked.output,
                prefill_batch: 1,
                decode_batch: *batch,
                prefill_cards: cards,
                decode_cards: cards,
            };
            let mut decoder = case.predictor.clone();
            let mut step = |shape: &Shape| decoder.predict(&windowed(shape, window)).seconds;
            let found = balance(&question, &mut |_: &Shape| alone, &mut step).map_err(refused)?;
            let links = case.links().into_iter().map(|link| LinkAnswer {
                ms: transfer.seconds(&link) * 1e3,
                exposed_ms: Some(transfer.exposed(&link) * 1e3),
                bytes_per_s: link.bandwidth,
                link: link.name,
            });
            rows.push(DisaggregatedAnswer {
                context: *context,
                output: asked.output,
                batch: *batch,
                transfer_bytes: transfer.bytes,
                links: links.collect(),
                prefill_ms: found.prefill * 1e3,
                decode_ms: found.decode * 1e3,
                workers: found.workers,
                requests_per_s: found.decode_rate,
            });
        }
    }
    Ok(rows)
}
