//! `plimsoll roofline`: words to a request, an answer to text.

use std::io::Write;

use plimsoll_api::{Desk, Error, RooflineRequest};

use crate::arguments::RooflineArguments;
use crate::{Failure, cost, launch, show};

/// Runs the verb; the number is the exit status.
pub fn run(arguments: &RooflineArguments, desk: &Desk<'_>, out: &mut impl Write) -> Result<u8, Failure> {
    let answer = plimsoll_api::roofline(&request(arguments)?, desk)?;
    show::roofline(&answer, arguments.explain, &arguments.shown, out)?;
    out.flush()?;
    Ok(0)
}

/// Turns words into a request.
fn request(arguments: &RooflineArguments) -> Result<RooflineRequest, Error> {
    Ok(RooflineRequest {
        launch: launch::request_for(&arguments.launch, Some(plimsoll_api::roofline::ENGINE))?,
        phases: arguments.phase.clone(),
        batch: arguments.batch.clone(),
        context: arguments.context.clone(),
        all_operators: arguments.operators,
        cost: cost::request(&arguments.cost)?,
    })
}
