//! `plimsoll plan`: words to a request, an answer to text.

use std::io::Write;

use plimsoll_api::Desk;

use crate::arguments::{Check, PlanArguments};
use crate::launch::request;
use crate::{Failure, batch, show};

/// Runs the verb; the number is the exit status.
pub fn run(arguments: &PlanArguments, desk: &Desk<'_>, out: &mut impl Write) -> Result<u8, Failure> {
    if let Some(file) = &arguments.batch {
        batch::run(file, desk, out)?;
        return Ok(0);
    }
    if let Some(spec) = &arguments.spec {
        let answer = plimsoll_api::textbook::textbook(spec, arguments.launch.words.first().map(String::as_str), desk)?;
        show::answer(&answer, &arguments.shown, out)?;
        return Ok(0);
    }
    let request = request(&arguments.launch)?;
    if let Some(item) = &arguments.explain {
        let explanation = plimsoll_api::explain(&request, item, desk)?;
        show::answer(&explanation, &arguments.shown, out)?;
        return Ok(0);
    }
    let answer = plimsoll_api::plan(&request, desk)?;
    show::answer_of(&request, &answer, &arguments.shown, out)?;
    out.flush()?;
    let passes = match arguments.check {
        None => true,
        Some(Check::Estimated) => answer.verdict.fits,
        Some(Check::Strict) => answer.verdict.state == "fits",
    };
    Ok(if passes { 0 } else { 3 })
}
