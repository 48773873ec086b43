//! What lies between the operators and the card's memory? What of a step's bytes the level-2 cache could hold.

use plimsoll_cost::{Family, Predictor, Shape};
use plimsoll_facts::model::Model;

use super::answer::{HierarchyAnswer, ReachAnswer};
use super::points::Place;
use super::steps::decode;
use super::words::{size, three};

/// Bytes of a number of the residual stream.
const STREAM: f64 = 2.0;

/// Says what fits. Each place comes with the shape of its first step.
pub(super) fn hierarchy(
    predictor: &Predictor,
    model: &Model,
    stages: u32,
    places: &[(Place, Shape)],
) -> HierarchyAnswer {
    let l2 = predictor.kernels.hardware.l2_cache;
    let layers = (model.layers.len() as f64 / f64::from(stages.max(1))).max(1.0);
    let one = decode(1, 1, predictor.inventory.window());
    let weights: f64 = predictor
        .inventory
        .operators(&one)
        .iter()
        .filter(|operator| matches!(operator.kernel.family(), Family::Gemm | Family::Moe))
        .filter(|operator| operator.runs > 1.0)
        .map(|operator| operator.runs * operator.work.read)
        .sum();
    // A pipeline's micro-batches read the stage's layers anew each time.
    let layer_weights = weights / layers / f64::from(stages.max(1));
    let points: Vec<ReachAnswer> =
        places.iter().map(|(place, shape)| reach(predictor, model.hidden, l2, *place, shape)).collect();
    let words = l2.map(|l2| words(l2, layer_weights, &points)).unwrap_or_default();
    HierarchyAnswer { l2_bytes: l2, layer_weights_bytes: layer_weights, words, points }
}

fn reach(predictor: &Predictor, hidden: u64, l2: Option<f64>, place: Place, shape: &Shape) -> ReachAnswer {
    let stream = shape.tokens() as f64 * hidden as f64 * STREAM;
    let mut fitting: Vec<String> = Vec::new();
    for operator in predictor.inventory.operators(shape) {
        let bytes = operator.work.read + operator.work.written;
        if l2.is_some_and(|l2| bytes <= l2) && !fitting.iter().any(|name| *name == operator.name) {
            fitting.push(operator.name.into_owned());
        }
    }
    ReachAnswer {
        phase: place.phase.name().into(),
        batch: place.batch,
        context: place.context,
        stream_bytes: stream,
        stream_fits: l2.map(|l2| stream <= l2),
        operators_that_fit: fitting,
    }
}

fn words(l2: f64, layer: f64, points: &[ReachAnswer]) -> Vec<String> {
    let cache = size(l2);
    let mut words = Vec::new();
    if layer > l2 {
        words.push(format!(
            "a layer's weights on a rank are {}, {} × the level-2 cache of {cache}: every step reads them from memory again",
            size(layer),
            three(layer / l2)
        ));
    } else if layer > 0.0 {
        words.push(format!(
            "a layer's weights on a rank are {} and fit the level-2 cache of {cache}, but not those of all layers: every \
             step reads them from memory again",
            size(layer)
        ));
    }
    let by_size = |a: &&ReachAnswer, b: &&ReachAnswer| a.stream_bytes.total_cmp(&b.stream_bytes);
    let named =
        |point: &ReachAnswer| format!("{} at batch {} ({})", point.phase, point.batch, size(point.stream_bytes));
    let most = points.iter().filter(|point| point.stream_fits == Some(true)).max_by(by_size);
    let least = points.iter().filter(|point| point.stream_fits == Some(false)).min_by(by_size);
    if let Some(most) = most {
        words.push(format!(
            "the residual stream of a step fits it up to {}: an operator may find there what the one before it wrote, and \
             be faster than its roof over memory",
            named(most)
        ));
    }
    if let Some(least) = least {
        words.push(format!("that of {} does not fit: activations go through memory", named(least)));
    }
    words
}
