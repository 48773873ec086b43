//! Do we schedule as the engine did? Recorded workloads, decided again step by step.

use plimsoll_sim::schedule::steps::{Decision, Workload, drive, read};

/// How far a workload's steps agree.
pub struct Steps {
    /// Steps that are equal.
    pub equal: usize,
    /// Steps of the engine, and those that we have beyond.
    pub total: usize,
    /// The first difference, or why there is none to be had.
    pub difference: Option<String>,
}

/// Decides a workload anew and compares.
pub fn compare(bytes: &[u8]) -> Steps {
    let workload = match read(bytes) {
        Ok(workload) => workload,
        Err(error) => return Steps { equal: 0, total: 1, difference: Some(error) },
    };
    let ours = match drive(&workload, workload.steps.len() + 1) {
        Ok(ours) => ours,
        Err(error) => {
            return Steps { equal: 0, total: workload.steps.len().max(1), difference: Some(error.to_string()) };
        }
    };
    let pairs = || ours.iter().zip(&workload.steps);
    Steps {
        equal: pairs().filter(|(own, engine)| own == engine).count(),
        total: workload.steps.len().max(ours.len()).max(1),
        difference: pairs()
            .find_map(|(own, engine)| differ(&workload, own, engine))
            .or_else(|| length(&workload, &ours)),
    }
}

/// Says where two steps differ, if they do.
fn differ(workload: &Workload, own: &Decision, engine: &Decision) -> Option<String> {
    let (field, theirs, ours) = own.difference(engine, |number| workload.name(number))?;
    Some(format!("step {}: {field}: the engine {theirs}, we {ours}", engine.step))
}

/// Says where one of the two ends first, if one does.
fn length(workload: &Workload, ours: &[Decision]) -> Option<String> {
    let (theirs, ours) = (workload.steps.len(), ours.len());
    (theirs != ours || theirs == 0)
        .then(|| format!("the engine took {theirs} steps, we {}{ours}", if ours > theirs { "at least " } else { "" }))
}
