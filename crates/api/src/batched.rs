//! What does the scheduler run with? The plan of a launch with the flags that change batches and no memory.

use plimsoll_plan::Plan;

use crate::Error;
use crate::plan::{Prepared, run};

/// Applies the engine's rules like [`run`], with the flags that change batches and no memory: for [`Plan::batching`].
///
/// # Errors
/// [`Error::Plan`] when the rules reject the question, or the engine a value of such a flag.
pub fn run_batched(prepared: &Prepared) -> Result<Plan, Error> {
    let mut options = prepared.inert.clone();
    options.extend(prepared.options.iter().map(|(name, value)| (name.clone(), value.clone())));
    run(&Prepared { options, ..prepared.clone() })
}
