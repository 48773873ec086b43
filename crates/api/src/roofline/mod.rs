//! How fast can it go, and what holds it back? From a launch to operators, roofs and predicted times.

pub(crate) mod alone;
pub mod answer;
mod crossovers;
mod findings;
mod hierarchy;
mod operators;
mod points;
mod request;
mod steps;
mod sums;
pub mod what_if;
mod words;

use plimsoll_cost::hardware::Given;
use plimsoll_cost::{Hardware, Knobs, Predictor, Shape};
use plimsoll_plan::{Plan, Verdict};

pub use request::{Phase, RooflineRequest};
pub use what_if::{DisaggregatedRequest, SpeculativeRequest, WhatIfRequest};

use self::answer::{CardAnswer, OperatorsAnswer, PeakAnswer, PointAnswer, RooflineAnswer};
use self::points::Place;
use self::request::Asked;
use self::steps::{Limits, MOST_STEPS};
use self::sums::Sums;
use crate::batched::run_batched;
use crate::launch::IDLE;
use crate::plan::{Prepared, prepare};
use crate::{CostRequest, Desk, Error, PlanRequest, heads};

/// The engine that is taken when neither the request nor a command names one.
pub const ENGINE: &str = "vllm";

/// Answers a request for a roofline.
///
/// # Errors
/// [`Error`] when the question is malformed, or a rate of the card is known neither to the catalogue nor to the request. A
/// launch that does not fit is answered all the same, with a note.
pub fn roofline(request: &RooflineRequest, desk: &Desk<'_>) -> Result<RooflineAnswer, Error> {
    let mut asked = Asked::new(request)?;
    let (launch, named) = with_engine(&request.launch);
    let prepared = prepare(&launch, desk)?;
    let plan = run_batched(&prepared)?;
    let gpu = desk.gpu(&prepared.card.name).ok();
    let knobs = knobs(&request.cost)?;
    let mut predictor = Predictor::new(&prepared.loaded.model, &plan, gpu.as_deref(), &knobs)
        .map_err(|error| Error::Request(error.to_string()))?;
    let contexts = asked.contexts(plan.max_model_len);
    let limits = Limits::of(plan.batching.as_ref());
    let mut notes = memory_notes(&prepared, &plan);
    notes.extend(card_notes(&prepared, &plan));
    let (points, places) = grid(&mut predictor, &plan, &asked, &contexts, &limits)?;
    notes.extend(point_notes(&plan, &limits, &asked.batches, &points));
    let crossovers = crossovers::find(&predictor, &asked.phases, &asked.batches, &contexts);
    let shown = places.iter().find(|(place, _)| place.phase == Phase::Decode).or(places.first());
    let shown: Vec<&(Place, Shape)> =
        if request.all_operators { places.iter().collect() } else { shown.into_iter().collect() };
    let operators = shown.into_iter().map(|(place, shape)| operators_of(&predictor, *place, shape)).collect();
    let hierarchy = hierarchy::hierarchy(&predictor, &prepared.loaded.model, plan.parallel.pp, &places);
    let ridge = match places.first() {
        Some((_, shape)) => points::ridge(&predictor, &Sums::of(&mut predictor.clone(), shape)),
        None => 0.0,
    };
    let what_if = what_if::answer(
        &request.what_if,
        &what_if::Case {
            desk,
            prepared: &prepared,
            plan: &plan,
            gpu: gpu.as_deref(),
            knobs: &knobs,
            predictor: &predictor,
            limits: &limits,
            batches: &asked.batches,
            contexts: &contexts,
        },
        &mut notes,
    )?;
    let heads = heads::of(&prepared, &plan);
    let findings = findings::findings(&predictor.kernels.hardware, ridge, &points, &crossovers);
    let mut assumptions: Vec<String> = named.into_iter().chain(prepared.assumptions.iter().cloned()).collect();
    assumptions.append(&mut asked.assumptions);
    assumptions.extend(predictor.assumptions.iter().cloned());
    notes.extend(prepared.notes.iter().filter(|note| !note.starts_with(IDLE)).cloned());
    notes.extend(predictor.notes.iter().cloned());
    Ok(RooflineAnswer {
        model: heads.model,
        engine: heads.engine,
        gpu: heads.gpu,
        parallel: heads.parallel,
        card: card(&predictor.kernels.hardware),
        step_tokens: limits.tokens,
        findings,
        points,
        crossovers,
        operators,
        hierarchy,
        what_if,
        assumptions,
        notes,
    })
}

/// Puts vLLM where no engine is named, and says so.
pub(crate) fn with_engine(launch: &PlanRequest) -> (PlanRequest, Option<String>) {
    if launch.engine.is_some() || launch.command.is_some() {
        return (launch.clone(), None);
    }
    let launch = PlanRequest { engine: Some(ENGINE.to_owned()), ..launch.clone() };
    (launch, Some(format!("no engine is named: {ENGINE}; --engine says otherwise")))
}

/// Reads rates and efficiencies.
fn knobs(cost: &CostRequest) -> Result<Knobs, Error> {
    if cost.fixed_us.is_some() {
        return Err(Error::Request("a fixed time of a step leaves nothing to a roofline".to_owned()));
    }
    Ok(Knobs {
        mfu: cost.mfu,
        mbu: cost.mbu,
        overhead: cost.overhead_us.map(|micros| micros / 1e6),
        given: Given {
            peak: cost.peak_flops_per_s,
            bandwidth: cost.bandwidth_bytes_per_s,
            link: cost.link_bytes_per_s,
            network: cost.network_bytes_per_s,
        },
    })
}

/// Works out every point, and the shape of each one's first step.
#[expect(clippy::type_complexity, reason = "two lists in step with each other, taken apart at once")]
fn grid(
    predictor: &mut Predictor,
    plan: &Plan,
    asked: &Asked,
    contexts: &[u32],
    limits: &Limits,
) -> Result<(Vec<PointAnswer>, Vec<(Place, Shape)>), Error> {
    let (mut points, mut places, mut taken) = (Vec::new(), Vec::new(), 0);
    let window = predictor.inventory.window();
    for phase in &asked.phases {
        for context in contexts {
            for batch in &asked.batches {
                let place = Place { phase: *phase, batch: *batch, context: *context };
                let steps = steps::steps(*phase, (*batch, *context), limits, window)?;
                taken += steps.len() as u64;
                if taken > MOST_STEPS {
                    return Err(Error::Request(format!(
                        "these prefills take more than {MOST_STEPS} steps together; ask for fewer or shorter prompts"
                    )));
                }
                let fits = points::sequences_that_fit(plan, *context);
                points.push(points::point(predictor, place, &steps, plan.parallel, fits));
                places.extend(steps.into_iter().next().map(|step| (place, step.shape)));
            }
        }
    }
    Ok((points, places))
}

/// The operators of a point's first step.
fn operators_of(predictor: &Predictor, place: Place, shape: &Shape) -> OperatorsAnswer {
    OperatorsAnswer {
        phase: place.phase.name().into(),
        batch: place.batch,
        context: place.context,
        step: 1,
        rows: operators::rows(predictor, shape),
    }
}

/// What the card can do.
fn card(hardware: &Hardware) -> CardAnswer {
    let peaks = operators::peaks(hardware).into_iter().map(|(math, peak)| PeakAnswer {
        arithmetic: math.name().into(),
        flops_per_s: peak,
        ridge_flops_per_byte: hardware.ridge(math),
    });
    CardAnswer {
        name: hardware.name.clone(),
        peaks: peaks.collect(),
        bandwidth_bytes_per_s: hardware.bandwidth,
        l2_bytes: hardware.l2_cache,
        sm_count: hardware.sm_count,
        link: hardware.link_name.clone(),
        link_bytes_per_s: hardware.link,
        network_bytes_per_s: hardware.network,
    }
}

/// Says when the launch does not fit.
fn memory_notes(prepared: &Prepared, plan: &Plan) -> Vec<String> {
    match &plan.verdict {
        Verdict::Fits { .. } => Vec::new(),
        Verdict::DoesNotFit { short_by, binding, .. } => vec![format!(
            "{} does not fit these cards: short by {short_by}, bound by {binding}; the times are those of cards that hold \
             it (`plimsoll plan` with the same words says what would make it fit)",
            prepared.loaded.model.id
        )],
    }
}

/// Says how several cards are understood.
fn card_notes(prepared: &Prepared, plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    if prepared.cards.len() > 1 {
        notes.push(format!("the cards differ; times are those of {}", prepared.card.name));
    }
    if plan.parallel.dp > 1 {
        notes.push(format!(
            "a batch is what one of the {} data-parallel replicas runs; tokens per second are those of all",
            plan.parallel.dp
        ));
    }
    if plan.parallel.pp > 1 {
        notes.push(format!(
            "decoding sequences go through the {} stages in as many micro-batches, pieces of prompts one behind the other; \
             figures are those of the stage that works most",
            plan.parallel.pp
        ));
    }
    notes
}

/// Says where points lie outside what the engine would run.
fn point_notes(plan: &Plan, limits: &Limits, batches: &[u32], points: &[PointAnswer]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut told: Vec<u32> = Vec::new();
    for point in points {
        if told.contains(&point.context) {
            continue;
        }
        told.push(point.context);
        let each = words::plural(u64::from(point.context), "token");
        if u64::from(point.context) > plan.max_model_len && plan.max_model_len > 0 {
            notes.push(format!(
                "sequences of {each} are longer than this launch serves ({} at most)",
                words::count(plan.max_model_len)
            ));
        }
        let beyond = |fits: u64| batches.iter().copied().filter(|batch| u64::from(*batch) > fits).collect::<Vec<_>>();
        if let Some(fits) = point.sequences_that_fit {
            let over = beyond(fits);
            if fits == 0 && !over.is_empty() {
                notes.push(format!("the KV cache does not hold one sequence of {each}: no batch of them runs"));
            } else if !over.is_empty() {
                notes.push(format!(
                    "the KV cache holds {} of {each} at once: batches of {} would wait or be preempted",
                    words::plural(fits, "sequence"),
                    listed(&over)
                ));
            }
        }
    }
    if let Some(most) = limits.sequences {
        let over: Vec<u32> = batches.iter().copied().filter(|batch| u64::from(*batch) > most).collect();
        if !over.is_empty() {
            let most = words::plural(most, "sequence");
            notes.push(format!(
                "this launch runs at most {most} at once: batches of {} would be divided",
                listed(&over)
            ));
        }
    }
    if limits.tokens.is_none() && points.iter().any(|point| point.phase == "prefill") {
        notes.push("how this engine cuts prompts is not modelled: prompts are computed in one step".to_owned());
    }
    notes
}

/// Numbers with commas.
fn listed(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
