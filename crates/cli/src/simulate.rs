//! `plimsoll simulate`: words to a request, an answer to text, and the files beside it.

use std::io::Write;

use plimsoll_api::{
    CompareRequest, CostRequest, Desk, Error, MeasureRequest, ObjectivesRequest, SimulateRequest, TraceRequest,
};
use plimsoll_plan::Version;

use crate::arguments::SimulateArguments;
use crate::cost::{self, micros, seconds};
use crate::files::Files;
use crate::progress::Progress;
use crate::{Failure, launch, show};

/// Runs the verb; the number is the exit status.
pub fn run(arguments: &SimulateArguments, desk: &Desk<'_>, out: &mut impl Write) -> Result<u8, Failure> {
    let request = request(arguments)?;
    if !request.compare.is_empty() && (arguments.steps.is_some() || arguments.requests.is_some()) {
        let why = "--steps and --requests write one simulation, not a comparison";
        return Err(Error::Request(why.to_owned()).into());
    }
    let mut files = Files::new(arguments, joins_resumed(&request, desk)?)?;
    let mut progress = Progress::new(arguments.shown.quiet)?;
    let answer = plimsoll_api::simulate(&request, desk, &mut (&mut progress, &mut files))?;
    progress.end();
    files.finish()?;
    show::simulated(&request, &answer, &arguments.shown, out)?;
    out.flush()?;
    Ok(0)
}

/// Whether this engine's steps name resumed requests among the new ones.
fn joins_resumed(request: &SimulateRequest, desk: &Desk<'_>) -> Result<bool, Error> {
    let prepared = plimsoll_api::prepare(&request.launch, desk)?;
    Ok(prepared.engine == "vllm" && prepared.version >= Version::new(0, 31, 0))
}

/// Turns words into a request.
fn request(arguments: &SimulateArguments) -> Result<SimulateRequest, Error> {
    let trace_flags = [
        (arguments.trace_format.is_some(), "--trace-format"),
        (arguments.skip_bad, "--skip-bad"),
        (arguments.rate_scale.is_some(), "--rate-scale"),
        (arguments.limit.is_some(), "--limit"),
        (arguments.max_tokens.is_some(), "--max-tokens"),
    ];
    if let (None, Some((_, flag))) = (&arguments.trace, trace_flags.iter().find(|(given, _)| *given)) {
        return Err(Error::Request(format!("{flag} is about a trace; a workload says it in its own words")));
    }
    Ok(SimulateRequest {
        launch: launch::request(&arguments.launch)?,
        workload: arguments.workload.clone(),
        trace: arguments.trace.as_ref().map(|path| TraceRequest {
            path: path.clone(),
            format: arguments.trace_format.clone(),
            skip_bad: arguments.skip_bad,
            rate_scale: arguments.rate_scale,
            limit: arguments.limit,
            max_tokens: arguments.max_tokens,
        }),
        seed: arguments.seed,
        objectives: arguments.slo.as_deref().map_or(Ok(ObjectivesRequest::default()), objectives)?,
        cost: CostRequest {
            fixed_us: arguments.step_time.as_deref().map(|text| seconds("--step-time", text)).transpose()?.map(micros),
            ..cost::request(&arguments.cost)?
        },
        measure: arguments.measure.as_deref().map_or(Ok(MeasureRequest::default()), measure)?,
        step_by_step: arguments.step_by_step,
        interval: arguments.interval.as_deref().map(|word| word == "on"),
        compare: CompareRequest {
            batching: arguments.compare.clone(),
            kv: arguments.kv.clone(),
            prefix_caching: arguments.prefix_caching.clone(),
        },
    })
}

/// Reads bounds such as `ttft=500ms,tpot=50ms`.
fn objectives(text: &str) -> Result<ObjectivesRequest, Error> {
    let mut bounds = ObjectivesRequest::default();
    for bound in text.split(',') {
        let Some((name, value)) = bound.split_once('=') else {
            return Err(Error::Request(format!("--slo {bound}: expected bounds such as ttft=500ms,tpot=50ms,e2e=10s")));
        };
        let place = match name.trim() {
            "ttft" => &mut bounds.ttft_ms,
            "tpot" => &mut bounds.tpot_ms,
            "e2e" => &mut bounds.e2e_ms,
            other => return Err(Error::Request(format!("--slo {other}: not one of ttft, tpot, e2e"))),
        };
        if place.is_some() {
            return Err(Error::Request(format!("--slo {text}: {} is bounded twice", name.trim())));
        }
        *place = Some(seconds("--slo", value)? * 1e3);
    }
    Ok(bounds)
}

/// Reads a part of the run such as `60s..300s`; either end may be left out.
fn measure(text: &str) -> Result<MeasureRequest, Error> {
    let Some((from, to)) = text.split_once("..") else {
        return Err(Error::Request(format!("--measure {text}: expected a part of the run such as 60s..300s")));
    };
    let end = |text: &str| (!text.trim().is_empty()).then(|| seconds("--measure", text)).transpose();
    Ok(MeasureRequest { from_s: end(from)?, to_s: end(to)? })
}
