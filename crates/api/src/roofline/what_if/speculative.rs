//! Speculative decoding: a drafter proposes, the model checks.

use plimsoll_cost::Predictor;
use plimsoll_cost::what_if::speculative::{Drafter, Question, best, outcome};
use serde_json::Map;

use super::answer::SpeculativeAnswer;
use super::{Case, SpeculativeRequest, refused, windowed};
use crate::Error;
use crate::batched::run_batched;
use crate::plan::Prepared;

/// Drafts that are tried for the best length.
const MOST_TRIED: u32 = 16;

/// Returns a row for each batch and context.
pub(super) fn speculative(asked: &SpeculativeRequest, case: &Case<'_>) -> Result<Vec<SpeculativeAnswer>, Error> {
    let mut draft = match (&asked.draft, asked.cost) {
        (Some(model), None) => Some(drafting(model, case)?),
        (None, Some(_)) => None,
        (Some(_), Some(_)) | (None, None) => {
            return Err(Error::Request(
                "speculative: give either a draft model (draft=MODEL) or its cost as a part of a step (cost=0.1)"
                    .into(),
            ));
        }
    };
    let name = match (&asked.draft, asked.cost) {
        (Some(model), _) => model.clone(),
        (None, cost) => format!("{} of a step each", cost.unwrap_or_default()),
    };
    let mut model = case.predictor.clone();
    let window = case.predictor.inventory.window();
    let mut rows = Vec::new();
    for context in case.contexts {
        for batch in case.batches {
            let question = Question {
                sequences: *batch,
                context: *context,
                windowed: window.map_or(*context, |window| window.min(*context)),
                drafted: asked.tokens,
                acceptance: asked.acceptance,
            };
            let mut step = |shape: &plimsoll_cost::Shape| model.predict(shape).seconds;
            let mut of_draft = |shape: &plimsoll_cost::Shape| {
                draft.as_mut().map_or(0.0, |draft| {
                    let window = draft.inventory.window();
                    draft.predict(&windowed(shape, window)).seconds
                })
            };
            let mut drafter = match asked.cost {
                Some(cost) => Drafter::Ratio(cost),
                None => Drafter::Model(&mut of_draft),
            };
            let found = outcome(&question, &mut step, &mut drafter).map_err(refused)?;
            let (length, longest) = best(&question, MOST_TRIED, &mut step, &mut drafter).map_err(refused)?;
            rows.push(SpeculativeAnswer {
                batch: *batch,
                context: *context,
                drafted: asked.tokens,
                acceptance: asked.acceptance,
                drafter: name.clone(),
                tokens_per_step: found.tokens,
                plain_ms: found.plain * 1e3,
                draft_ms: found.draft * 1e3,
                verify_ms: found.verify * 1e3,
                tpot_ms: (found.draft + found.verify) / found.tokens * 1e3,
                speed_up: found.speed_up,
                break_even: found.break_even,
                best_drafted: length,
                best_speed_up: longest.speed_up,
            });
        }
    }
    Ok(rows)
}

/// A draft model on the same cards, divided as the model is.
fn drafting(model: &str, case: &Case<'_>) -> Result<Predictor, Error> {
    let loaded = case.desk.model(model)?;
    let divides =
        ["tensor_parallel_size", "pipeline_parallel_size", "tp_size", "pp_size", "data_parallel_size", "dp_size"];
    let options: Map<String, serde_json::Value> = case
        .prepared
        .options
        .iter()
        .filter(|(name, _)| divides.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let prepared = Prepared { loaded, options, inert: Map::new(), companions: Vec::new(), ..case.prepared.clone() };
    let plan = run_batched(&prepared)?;
    Predictor::new(&prepared.loaded.model, &plan, case.gpu, case.knobs).map_err(refused)
}
