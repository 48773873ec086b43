//! What is it about? The heads that every answer about a launch begins with.

use plimsoll_plan::{Card, Plan};

use crate::answer::{EngineHead, GpuHead, ModelHead, ParallelHead};
use crate::plan::{Prepared, reads_gguf, source_text};
use crate::world::Loaded;

/// Model, engine, card and division.
pub(crate) struct Heads {
    pub(crate) model: ModelHead,
    pub(crate) engine: EngineHead,
    pub(crate) gpu: GpuHead,
    pub(crate) parallel: ParallelHead,
}

/// Returns the heads of a launch.
pub(crate) fn of(prepared: &Prepared, plan: &Plan) -> Heads {
    let card = &prepared.card;
    Heads {
        model: planned_head(prepared),
        engine: EngineHead { name: plan.engine.into(), version: plan.version.to_string() },
        gpu: GpuHead {
            name: cards_name(&prepared.cards),
            count: plan.parallel.gpus(),
            total_bytes: card.total.bytes.get(),
            total_low: card.total.low.get(),
            total_high: card.total.high.get(),
            source: source_text(&card.total.source),
        },
        parallel: ParallelHead {
            tp: plan.parallel.tp,
            pp: plan.parallel.pp,
            dp: plan.parallel.dp,
            ep: plan.parallel.ep,
        },
    }
}

/// The model's head, with the type of the file that is planned where none is at hand.
fn planned_head(prepared: &Prepared) -> ModelHead {
    let found = head(&prepared.loaded);
    if prepared.loaded.gguf.is_some() || !reads_gguf(prepared.engine) {
        return found;
    }
    let kind = crate::hub::file_type(&prepared.options);
    ModelHead { quantization: Some(format!("{}, derived", kind.name())), ..found }
}

/// The model's head.
pub(crate) fn head(loaded: &Loaded) -> ModelHead {
    let model = &loaded.model;
    ModelHead {
        id: model.id.clone(),
        model_type: model.model_type.clone(),
        parameters: loaded.parameters,
        active_parameters: loaded.active_parameters,
        dtype: model.dtype.name().into(),
        quantization: model.quant.as_ref().map(|quant| quant.method.clone()),
        source: loaded.source.clone(),
    }
}

/// The cards in one name; a comma between different ones.
fn cards_name(cards: &[Card]) -> String {
    match cards {
        [card] => card.name.clone(),
        several => {
            let each = several.iter().map(|card| match card.count {
                1 => card.name.clone(),
                count => format!("{count} × {}", card.name),
            });
            each.collect::<Vec<_>>().join(" + ")
        }
    }
}
