//! `plimsoll roofline`: words to a request, an answer to text.

use std::io::Write;

use plimsoll_api::roofline::{DisaggregatedRequest, SpeculativeRequest, WhatIfRequest};
use plimsoll_api::vary::Knob;
use plimsoll_api::{Desk, Error, RooflineRequest};
use plimsoll_report::roofline_explained;

use crate::arguments::{RooflineArguments, WhatIf};
use crate::{Failure, cost, launch, show};

/// Runs the verb; the number is the exit status.
pub fn run(arguments: &RooflineArguments, desk: &Desk<'_>, out: &mut impl Write) -> Result<u8, Failure> {
    let request = request(arguments)?;
    let answer = plimsoll_api::roofline(&request, desk)?;
    if arguments.explain {
        show::answer_as(&answer, roofline_explained, &arguments.shown, out)?;
    } else {
        show::answer_of(&request, &answer, &arguments.shown, out)?;
    }
    out.flush()?;
    Ok(0)
}

/// Turns words into a request.
fn request(arguments: &RooflineArguments) -> Result<RooflineRequest, Error> {
    Ok(RooflineRequest {
        launch: launch::request_for(&arguments.launch, Some(plimsoll_api::roofline::ENGINE))?,
        phases: arguments.phase.clone(),
        batch: launch::counts(Knob::Batch, arguments.batch.as_deref())?,
        context: launch::counts(Knob::Context, arguments.context.as_deref())?,
        all_operators: arguments.operators,
        what_if: WhatIfRequest {
            parallel: arguments.what_if.contains(&WhatIf::Parallel),
            formats: arguments.what_if.contains(&WhatIf::Formats),
            speculative: arguments.speculative.as_deref().map(speculative).transpose()?,
            disaggregated: arguments.disaggregated.as_deref().map(disaggregated).transpose()?,
        },
        cost: cost::request(&arguments.cost)?,
    })
}

/// Reads `tokens=4,acceptance=0.7,draft=MODEL` or `…,cost=0.1`.
fn speculative(text: &str) -> Result<SpeculativeRequest, Error> {
    let (mut tokens, mut acceptance, mut draft, mut cost) = (None, None, None, None);
    for (name, value) in pairs("--speculative", text)? {
        match name {
            "tokens" => tokens = Some(number("--speculative", name, value)?),
            "acceptance" => acceptance = Some(number("--speculative", name, value)?),
            "cost" => cost = Some(number("--speculative", name, value)?),
            "draft" => draft = Some(value.to_owned()),
            other => {
                let known = "tokens, acceptance, draft, cost";
                return Err(Error::Request(format!("--speculative {other}: not one of {known}")));
            }
        }
    }
    let missing = |what: &str| Error::Request(format!("--speculative {text}: {what}= is missing"));
    Ok(SpeculativeRequest {
        tokens: tokens.ok_or_else(|| missing("tokens"))?,
        acceptance: acceptance.ok_or_else(|| missing("acceptance"))?,
        draft,
        cost,
    })
}

/// Reads `output=200`.
fn disaggregated(text: &str) -> Result<DisaggregatedRequest, Error> {
    let mut output = None;
    for (name, value) in pairs("--disaggregated", text)? {
        match name {
            "output" => output = Some(number("--disaggregated", name, value)?),
            other => return Err(Error::Request(format!("--disaggregated {other}: not one of output"))),
        }
    }
    let output = output.ok_or_else(|| Error::Request(format!("--disaggregated {text}: output= is missing")))?;
    Ok(DisaggregatedRequest { output })
}

/// The pairs of `a=1,b=2`.
fn pairs<'a>(flag: &str, text: &'a str) -> Result<Vec<(&'a str, &'a str)>, Error> {
    let pair = |pair: &'a str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim(), value.trim()))
    };
    let wrong = |part: &str| Error::Request(format!("{flag} {part}: expected KEY=VALUE, with commas between several"));
    text.split(',').map(|part| pair(part).ok_or_else(|| wrong(part))).collect()
}

/// Reads the number of a pair.
fn number<T: std::str::FromStr>(flag: &str, name: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|_| Error::Request(format!("{flag} {name}={value}: not such a number")))
}
