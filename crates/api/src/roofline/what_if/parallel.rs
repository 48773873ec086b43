//! Tensor against pipeline parallel: every division of the same cards, planned and timed anew.

use plimsoll_cost::Predictor;
use plimsoll_cost::what_if::parallel::{Messages, Pipeline, messages};
use plimsoll_plan::{Plan, Verdict};

use super::answer::{LinkAnswer, SplitAnswer};
use super::{Case, prompt, refused};
use crate::Error;
use crate::batched::run_batched;
use crate::plan::Prepared;
use crate::roofline::steps::{Limits, decode};

/// The options by which an engine divides a model: tensor, then pipeline.
fn options(engine: &str) -> Option<[&'static str; 2]> {
    match engine {
        "vllm" => Some(["tensor_parallel_size", "pipeline_parallel_size"]),
        "sglang" | "tensorrt-llm" => Some(["tp_size", "pp_size"]),
        _ => None,
    }
}

/// Returns a row for each division and batch. Cards are the launch's, or two where it has one.
pub(super) fn splits(case: &Case<'_>, notes: &mut Vec<String>) -> Result<Vec<SplitAnswer>, Error> {
    let Some(names) = options(case.prepared.engine) else {
        notes.push(format!("{} has no divisions to compare", case.prepared.engine));
        return Ok(Vec::new());
    };
    let own = case.plan.parallel.tp.saturating_mul(case.plan.parallel.pp);
    let cards = if own > 1 { own } else { 2 };
    let mut rows = Vec::new();
    for pp in (1..=cards.min(1024)).filter(|pp| cards.is_multiple_of(*pp)) {
        let tp = cards / pp;
        match divided(case, names, (tp, pp)) {
            Ok((plan, predictor)) => rows.extend(row(case, &plan, predictor)?),
            Err(error) => notes.push(format!("tp {tp} pp {pp} is left out: {error}")),
        }
    }
    Ok(rows)
}

/// Plans the launch anew in another division.
fn divided(case: &Case<'_>, names: [&str; 2], (tp, pp): (u32, u32)) -> Result<(Plan, Predictor), Error> {
    let mut prepared: Prepared = case.prepared.clone();
    for (name, ranks) in names.into_iter().zip([tp, pp]) {
        prepared.inert.remove(name);
        prepared.options.insert(name.to_owned(), ranks.into());
    }
    // As many cards as it takes: which division is faster does not depend on what is at hand.
    prepared.card.count = prepared.card.count.max(tp.saturating_mul(pp));
    prepared.cards.iter_mut().for_each(|card| card.count = card.count.max(tp.saturating_mul(pp)));
    let plan = run_batched(&prepared)?;
    let predictor = Predictor::new(&prepared.loaded.model, &plan, case.gpu, case.knobs).map_err(refused)?;
    Ok((plan, predictor))
}

/// The rows of one division, by batch.
fn row(case: &Case<'_>, plan: &Plan, mut predictor: Predictor) -> Result<Vec<SplitAnswer>, Error> {
    let context = case.contexts.first().copied().unwrap_or(1);
    let layers = case.prepared.loaded.model.layers.len().max(1) as f64;
    let limits = Limits::of(plan.batching.as_ref());
    let (prefill, pieces) = prompt(&mut predictor, plan, &limits, context)?;
    let pipeline = Pipeline { stages: plan.parallel.pp, micro_batches: u32::try_from(pieces).unwrap_or(u32::MAX) };
    let mut rows = Vec::new();
    for batch in case.batches {
        let shape = decode(*batch, context, predictor.inventory.window());
        let told = messages(&predictor.inventory.operators(&shape));
        let count: f64 = told.iter().map(|message| message.count).sum();
        let links = case.links().into_iter().map(|link| LinkAnswer {
            ms: told.iter().map(|message| message.seconds(&link)).sum::<f64>() * 1e3,
            bytes_per_s: link.bandwidth,
            link: link.name,
            exposed_ms: None,
        });
        let seconds = predictor.predict(&shape).seconds;
        rows.push(SplitAnswer {
            tp: plan.parallel.tp,
            pp: plan.parallel.pp,
            batch: *batch,
            context,
            fits: matches!(plan.verdict, Verdict::Fits { .. }),
            weights_bytes: predictor.inventory.held(),
            kv_tokens: plan.kv.tokens,
            messages: count,
            messages_per_layer: count / layers,
            sent_bytes: told.iter().map(Messages::sent).sum(),
            links: links.collect(),
            decode_ms: seconds * 1e3,
            tokens_per_s: f64::from(*batch) * f64::from(plan.parallel.dp.max(1)) / seconds,
            prefill_ms: prefill * 1e3,
            bubble: pipeline.bubble(),
        });
    }
    Ok(rows)
}
