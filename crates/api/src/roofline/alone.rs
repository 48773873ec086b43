//! How long does one step of a launch take, and one prompt? A decode and a prefill point for others to show.

use plimsoll_cost::Predictor;
use plimsoll_plan::Plan;

use super::answer::PointAnswer;
use super::points::{Place, point, sequences_that_fit};
use super::request::Phase;
use super::steps::{Limits, steps};
use crate::plan::Prepared;
use crate::{CostRequest, Desk, Error};

/// A decode step and a prompt.
pub(crate) struct Times {
    /// A decode step of the whole batch.
    pub(crate) decode: PointAnswer,
    /// One prompt alone.
    pub(crate) prefill: PointAnswer,
}

/// Predicts a decode step of `batch` sequences with `context` tokens each, and a prompt of as many alone.
///
/// # Errors
/// [`Error::Request`] where a rate of the card or an operator of the model is not known.
pub(crate) fn times(
    prepared: &Prepared,
    plan: &Plan,
    desk: &Desk<'_>,
    cost: &CostRequest,
    (batch, context): (u32, u32),
) -> Result<Times, Error> {
    let gpu = desk.gpu(&prepared.card.name).ok();
    let mut predictor = Predictor::new(&prepared.loaded.model, plan, gpu.as_deref(), &super::knobs(cost)?)
        .map_err(|error| Error::Request(error.to_string()))?;
    let limits = Limits::of(plan.batching.as_ref());
    let window = predictor.inventory.window();
    let mut at = |phase: Phase, batch: u32| {
        let steps = steps(phase, (batch, context), &limits, window)?;
        Ok::<_, Error>(point(&mut predictor, Place { phase, batch, context }, &steps, plan.parallel, None))
    };
    Ok(Times { decode: at(Phase::Decode, batch)?, prefill: at(Phase::Prefill, 1)? })
}

/// Returns how many sequences of `context` tokens a plan's cache holds at once; `None` where that is not known.
pub(crate) fn fitting(plan: &Plan, context: u32) -> Option<u64> {
    sequences_that_fit(plan, context.max(1))
}
