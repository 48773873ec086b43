//! What do we decide? A recorded workload, gone through without time: every step takes one.

use super::{Decision, Workload};
use crate::schedule::vllm::Vllm;
use crate::schedule::{Batch, Scheduler};
use crate::{Error, Requests, Slot};

/// Decides a workload's steps anew, at most so many of them.
///
/// A step is taken while some request is unfinished, and once more after the last one ended, to report that; in between, the
/// count of steps goes on.
///
/// # Errors
/// [`Error::Settings`] for settings that the release refuses.
pub fn drive(workload: &Workload, most: usize) -> Result<Vec<Decision>, Error> {
    let mut scheduler = Vllm::new(workload.config.clone())?;
    let mut requests = Requests::default();
    let mut batch = Batch::default();
    let mut decisions = Vec::new();
    let mut arrivals = workload.arrivals.iter().peekable();
    let mut step = 0;
    let mut report = false;
    while decisions.len() < most {
        while let Some(arrival) = arrivals.next_if(|arrival| arrival.at.get() <= step) {
            let slot = requests.insert(arrival.clone());
            if let Err(refusal) = scheduler.add(slot, &requests) {
                return Err(Error::Settings(format!("{}: {}", workload.name(requests[slot].number), refusal.why)));
            }
        }
        if requests.is_empty() && !report {
            let Some(next) = arrivals.peek() else { break };
            step = next.at.get();
            continue;
        }
        batch.clear();
        scheduler.schedule(plimsoll_units::Nanos::new(step), &mut requests, &mut batch);
        let finished = generate(&batch, &mut requests);
        let mut decision = Decision::of(step, &batch, &finished, &requests, workload.joins_resumed());
        for &slot in &finished {
            scheduler.finish(slot, &requests);
            requests.remove(slot);
        }
        scheduler.complete(&requests, &batch);
        scheduler.verify(&requests);
        decision.free_blocks = scheduler.free_blocks().unwrap_or_default();
        (decision.waiting, decision.running) = (scheduler.waiting(), scheduler.running());
        report = !finished.is_empty();
        decisions.push(decision);
        step += 1;
    }
    Ok(decisions)
}

/// Gives a token to each request whose last known one was computed, and returns those that have all.
fn generate(batch: &Batch, requests: &mut Requests) -> Vec<Slot> {
    let mut finished = Vec::new();
    for entry in &batch.entries {
        let request = &mut requests[entry.slot];
        if entry.context + entry.tokens >= request.content.len() {
            request.generate(1);
            if request.is_done() {
                finished.push(entry.slot);
            }
        }
    }
    finished
}
