//! How sure are the times? The same run with steps as fast and as slow as one in ten measured ones is.

use plimsoll_plan::Plan;
use plimsoll_sim::load::frontend::Frontend;
use plimsoll_sim::metrics::Metrics;
use plimsoll_sim::{Settings, Watch};

use super::answer::{BetweenAnswer, IntervalAnswer, SimulateAnswer, TimesAnswer};
use super::{SimulateRequest, Time, engines, frontend, load, measured, objectives, serve, time};
use crate::plan::Prepared;
use crate::{Desk, Error};

/// Steps up to which a run is cheap enough to be run twice more without being asked for.
const MOST_STEPS: u64 = 100_000;

/// Nobody looks on: rows were written and progress was shown the first time.
struct Nobody;

impl Watch for Nobody {}

/// Adds the interval, or a note why there is none.
pub(super) fn add(
    answer: &mut SimulateAnswer,
    request: &SimulateRequest,
    desk: &Desk<'_>,
    prepared: &Prepared,
    plan: &Plan,
) -> Result<(), Error> {
    if request.cost.fixed_us.is_some() || answer.partial || request.interval == Some(false) {
        return Ok(());
    }
    if request.trace.as_ref().is_some_and(|trace| trace.path == "-") {
        if request.interval == Some(true) {
            let why = "standard input can be read once, and an interval needs the trace three times: give a file";
            return Err(Error::Request(why.to_owned()));
        }
        return Ok(());
    }
    if request.interval.is_none() && answer.steps > MOST_STEPS {
        answer.notes.push(format!(
            "no interval around the times: this run has over {MOST_STEPS} steps, and one takes two runs more (--interval)"
        ));
        return Ok(());
    }
    let Time::Predicted(predictor, _) = time(request, desk, prepared, plan)? else { return Ok(()) };
    let (fast, slow) = predictor.overhead.spread;
    let mut ends = Vec::with_capacity(2);
    for factor in [fast, slow] {
        let mut load = load::open(request, desk)?;
        let mut time = Time::Predicted(predictor.clone(), factor);
        let mut nobody = Nobody;
        let mut metrics = (Metrics::new(objectives(request)?, measured(request)?), &mut nobody as &mut dyn Watch);
        let Some(setup) = engines::setups(&request.compare, plan)?.pop() else { return Ok(()) };
        let settings = Settings { jumps: !request.step_by_step, intake: setup.intake, ..Settings::default() };
        let mut source = Frontend::new(&mut load.source, frontend(request, plan));
        let outcome = serve(setup.machine, &mut time, &mut source, &mut metrics, settings)?;
        let head = super::head(prepared, plan, String::new(), setup.kv, setup.block_tokens);
        ends.push(SimulateAnswer::new(head, &answer.measured.part, &metrics.0.summary(), &outcome));
    }
    let [fast, slow] = ends.as_slice() else { return Ok(()) };
    answer.interval = Some(IntervalAnswer {
        step_factors: BetweenAnswer { low: predictor.overhead.spread.0, high: predictor.overhead.spread.1 },
        source: predictor.overhead.source.to_owned(),
        ttft_mean_ms: between(fast.ttft_ms, slow.ttft_ms, |times| times.mean),
        ttft_p99_ms: between(fast.ttft_ms, slow.ttft_ms, |times| times.p99),
        tpot_mean_ms: between(fast.tpot_ms, slow.tpot_ms, |times| times.mean),
        e2e_mean_ms: between(fast.e2e_ms, slow.e2e_ms, |times| times.mean),
        output_tokens_per_s: match (slow.throughput, fast.throughput) {
            (Some(slow), Some(fast)) => {
                Some(BetweenAnswer { low: slow.output_tokens_per_s, high: fast.output_tokens_per_s })
            }
            (Some(_) | None, _) => None,
        },
    });
    Ok(())
}

/// A figure at both ends.
fn between(
    fast: Option<TimesAnswer>,
    slow: Option<TimesAnswer>,
    of: impl Fn(TimesAnswer) -> f64,
) -> Option<BetweenAnswer> {
    let (fast, slow) = (of(fast?), of(slow?));
    Some(BetweenAnswer { low: fast.min(slow), high: fast.max(slow) })
}
