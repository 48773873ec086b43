//! How does it behave under traffic? From a launch and a workload to what was measured.

pub mod answer;
mod course;
mod engines;
mod figures;
mod interval;
mod load;
mod own;
mod request;

use plimsoll_cost::engine::Overhead;
use plimsoll_cost::hardware::Given;
use plimsoll_plan::{Plan, Verdict};
use plimsoll_sim::cost::{Cost, Fixed, Knobs, Predictor, Shape};
use plimsoll_sim::course::Course;
use plimsoll_sim::load::AnySource;
use plimsoll_sim::load::frontend::{Delay, Frontend};
use plimsoll_sim::metrics::{Measured, Metrics, Objectives};
use plimsoll_sim::schedule::Scheduler;
use plimsoll_sim::{Outcome, Settings, Watch};
use plimsoll_units::Nanos;

pub use request::{CompareRequest, CostRequest, MeasureRequest, ObjectivesRequest, SimulateRequest, TraceRequest};

use self::answer::{SimulateAnswer, SimulateCompareAnswer, SimulateHead};
use self::course::Seen;
use self::engines::{Machine, Setup};
use crate::batched::run_batched;
use crate::launch::IDLE;
use crate::plan::{Prepared, prepare};
use crate::{Desk, Error, heads};

/// What a simulation says.
#[derive(Clone, Debug, PartialEq)]
pub enum Simulated {
    /// One launch under one workload.
    One(Box<SimulateAnswer>),
    /// Several ways to serve the same workload.
    Compared(Box<SimulateCompareAnswer>),
}

/// Answers a request for a simulation. `watch` looks on: it may write rows, show progress, and end the run early.
///
/// # Errors
/// [`Error`] when the question is malformed, the launch does not start, the engine's scheduler is not modelled, or the
/// workload cannot be read.
pub fn simulate(request: &SimulateRequest, desk: &Desk<'_>, watch: &mut dyn Watch) -> Result<Simulated, Error> {
    let prepared = prepare(&request.launch, desk)?;
    let plan = run_batched(&prepared)?;
    if let Verdict::DoesNotFit { binding, .. } = &plan.verdict {
        return Err(Error::Simulation(format!(
            "this launch does not start: {} lacks memory ({binding}); `plimsoll plan` with the same words says what would \
             make it fit",
            prepared.loaded.model.id
        )));
    }
    let setups = engines::setups(&request.compare, &plan)?;
    if setups.len() > 1 && watch.wants_batches() {
        return Err(Error::Request("steps can be written of one simulation, not of a comparison".to_owned()));
    }
    let whole = setups.len();
    if whole > 1 && request.trace.as_ref().is_some_and(|trace| trace.path == "-") {
        let why = "standard input can be read once, and a comparison needs the trace for each of its rows: give a file";
        return Err(Error::Request(why.to_owned()));
    }
    let alone = whole == 1;
    let mut answers = Vec::with_capacity(whole);
    for setup in setups {
        let part = if alone { Seen::Fullest } else { Seen::First };
        let mut answer = one(request, desk, &prepared, &plan, (setup, part), watch)?;
        if alone {
            interval::add(&mut answer, request, desk, &prepared, &plan)?;
        }
        let partial = answer.partial;
        answers.push(answer);
        if partial {
            break;
        }
    }
    if answers.len() == 1 && whole == 1 {
        return answers.pop().map(|answer| Simulated::One(Box::new(answer))).ok_or_else(nothing);
    }
    let mut compared = SimulateCompareAnswer::new(&answers).ok_or_else(nothing)?;
    if answers.len() < whole {
        compared.notes.push(format!("stopped: {} of {whole} ways to serve were not run", whole - answers.len()));
    }
    Ok(Simulated::Compared(Box::new(compared)))
}

fn nothing() -> Error {
    Error::Request("nothing to simulate".to_owned())
}

/// Runs one way to serve the workload.
fn one(
    request: &SimulateRequest,
    desk: &Desk<'_>,
    prepared: &Prepared,
    plan: &Plan,
    (setup, part_seen): (Setup, Seen),
    watch: &mut dyn Watch,
) -> Result<SimulateAnswer, Error> {
    let mut load = load::open(request, desk)?;
    let mut time = time(request, desk, prepared, plan)?;
    let mut course = Course::new();
    let mut others = (&mut course, watch);
    let mut metrics = (Metrics::new(objectives(request)?, measured(request)?), &mut others as &mut dyn Watch);
    let Setup { machine, batching, kv, prefix_caching, block_tokens, intake, notes } = setup;
    let settings = Settings { jumps: !request.step_by_step, intake, ..Settings::default() };
    let mut source = Frontend::new(&mut load.source, frontend(request, plan));
    let outcome = serve(machine, &mut time, &mut source, &mut metrics, settings)?;
    if outcome.arrived == 0 && !outcome.partial {
        return Err(Error::Request(format!("{}: holds no request", load.words)));
    }
    let head = SimulateHead {
        batching,
        prefix_caching,
        workload: load.words,
        seed: load.seed,
        ..head(prepared, plan, time.name(), kv, block_tokens)
    };
    let summary = metrics.0.summary();
    let percentiles = metrics.0.percentiles();
    let mut answer = SimulateAnswer::new(head, &part(request), &summary, &outcome);
    answer.percentiles = (&percentiles).into();
    course::add(&mut answer, &course, part_seen);
    answer.assumptions.extend(prepared.assumptions.iter().chain(time.assumptions()).cloned());
    answer.notes.extend(prepared.notes.iter().filter(|note| !note.starts_with(IDLE)).cloned());
    answer.notes.extend(time.notes().iter().cloned());
    answer.notes.extend(notes);
    answer.notes.extend(load.notes);
    answer.notes.extend(load.source.notes());
    if outcome.cut > 0 {
        answer
            .notes
            .push(format!("{} outputs end early, where prompt and output reach the longest sequence", outcome.cut));
    }
    Ok(answer)
}

/// How long requests are under way to the scheduler: not at all where steps take a fixed time, or where the user says what
/// there is beside the kernels.
fn frontend(request: &SimulateRequest, plan: &Plan) -> Delay {
    if request.cost.fixed_us.is_some() || request.cost.overhead_us.is_some() {
        return Delay::default();
    }
    let overhead = Overhead::of(plan);
    Delay { request: overhead.request, token: overhead.prompt_token }
}

/// What of the answer is known before, the workload aside.
fn head(prepared: &Prepared, plan: &Plan, cost: String, kv: String, block_tokens: Option<u64>) -> SimulateHead {
    let heads = heads::of(prepared, plan);
    SimulateHead {
        model: heads.model,
        engine: heads.engine,
        gpu: heads.gpu,
        parallel: heads.parallel,
        batching: String::new(),
        kv,
        prefix_caching: false,
        block_tokens,
        workload: String::new(),
        seed: 0,
        cost,
    }
}

/// Runs whichever scheduler it is.
fn serve(
    machine: Machine,
    time: &mut Time,
    source: &mut Frontend<'_, AnySource>,
    watch: &mut (Metrics, &mut dyn Watch),
    settings: Settings,
) -> Result<Outcome, Error> {
    match machine {
        Machine::Vllm(mut engine) => go(&mut *engine, time, source, watch, settings),
        Machine::Sglang(mut engine) => go(&mut *engine, time, source, watch, settings),
        Machine::TensorRtLlm(mut engine) => go(&mut *engine, time, source, watch, settings),
        Machine::Plain(mut engine) => go(&mut *engine, time, source, watch, settings),
    }
}

/// Runs a scheduler.
fn go<S: Scheduler>(
    scheduler: &mut S,
    time: &mut Time,
    source: &mut Frontend<'_, AnySource>,
    watch: &mut (Metrics, &mut dyn Watch),
    settings: Settings,
) -> Result<Outcome, Error> {
    plimsoll_sim::run(scheduler, time, source, watch, settings).map_err(load::broken)
}

/// What says how long a step takes.
enum Time {
    /// The same for every step.
    Fixed(Fixed),
    /// Operator by operator, times a factor.
    Predicted(Box<Predictor>, f64),
}

impl Time {
    fn name(&self) -> String {
        match self {
            Time::Fixed(Fixed(time)) => format!("fixed: {time} a step"),
            Time::Predicted(predictor, _) => format!("operator by operator: {}", predictor.looked().words()),
        }
    }

    fn assumptions(&self) -> &[String] {
        match self {
            Time::Fixed(_) => &[],
            Time::Predicted(predictor, _) => &predictor.assumptions,
        }
    }

    fn notes(&self) -> &[String] {
        match self {
            Time::Fixed(_) => &[],
            Time::Predicted(predictor, _) => &predictor.notes,
        }
    }
}

impl Cost for Time {
    fn step(&mut self, shape: &Shape) -> Nanos {
        match self {
            Time::Fixed(fixed) => fixed.step(shape),
            Time::Predicted(predictor, factor) => {
                Nanos::seconds(predictor.seconds(shape) * *factor).unwrap_or(Nanos::MAX)
            }
        }
    }

    fn window(&self) -> Option<u32> {
        match self {
            Time::Fixed(fixed) => fixed.window(),
            Time::Predicted(predictor, _) => predictor.inventory.window(),
        }
    }
}

/// Makes the model of time that is asked for.
fn time(request: &SimulateRequest, desk: &Desk<'_>, prepared: &Prepared, plan: &Plan) -> Result<Time, Error> {
    let cost = request.cost;
    if let Some(micros) = cost.fixed_us {
        if cost != (CostRequest { fixed_us: cost.fixed_us, ..CostRequest::default() }) {
            return Err(Error::Request(
                "a fixed time of a step leaves nothing to the other figures of cost".to_owned(),
            ));
        }
        return Ok(Time::Fixed(Fixed(nanos("fixed_us", micros / 1e6)?)));
    }
    let given = Given {
        peak: cost.peak_flops_per_s,
        bandwidth: cost.bandwidth_bytes_per_s,
        link: cost.link_bytes_per_s,
        network: cost.network_bytes_per_s,
    };
    let overhead = cost.overhead_us.map(|micros| nanos("overhead_us", micros / 1e6)).transpose()?;
    let knobs = Knobs { mfu: cost.mfu, mbu: cost.mbu, overhead: overhead.map(Nanos::as_seconds), given };
    let gpu = desk.gpu(&prepared.card.name).ok();
    Predictor::new(&prepared.loaded.model, plan, gpu.as_deref(), &knobs)
        .map(|predictor| Time::Predicted(Box::new(predictor), 1.0))
        .map_err(|error| Error::Request(error.to_string()))
}

/// Reads a time in seconds.
fn nanos(name: &str, seconds: f64) -> Result<Nanos, Error> {
    Nanos::seconds(seconds).ok_or_else(|| Error::Request(format!("{name}: {seconds} s is no time")))
}

fn objectives(request: &SimulateRequest) -> Result<Objectives, Error> {
    let bound = |name: &str, millis: Option<f64>| millis.map(|millis| nanos(name, millis / 1e3)).transpose();
    let asked = request.objectives;
    Ok(Objectives {
        ttft: bound("ttft_ms", asked.ttft_ms)?,
        tpot: bound("tpot_ms", asked.tpot_ms)?,
        e2e: bound("e2e_ms", asked.e2e_ms)?,
    })
}

fn measured(request: &SimulateRequest) -> Result<Measured, Error> {
    let MeasureRequest { from_s, to_s } = request.measure;
    if request.measure.is_empty() {
        return Ok(Measured::All);
    }
    let from = from_s.map_or(Ok(Nanos::ZERO), |from| nanos("from_s", from))?;
    let to = to_s.map_or(Ok(Nanos::MAX), |to| nanos("to_s", to))?;
    if from >= to {
        return Err(Error::Request(format!("nothing is measured between {from} and {to}")));
    }
    Ok(Measured::Time(from..to))
}

fn part(request: &SimulateRequest) -> String {
    let MeasureRequest { from_s, to_s } = request.measure;
    let end = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{seconds} s"));
    if request.measure.is_empty() { "all".to_owned() } else { format!("{}..{}", end(from_s), end(to_s)) }
}
