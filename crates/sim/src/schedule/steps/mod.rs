//! What was decided, step by step? The form in which an engine's own decisions are recorded, to read, to write, and to decide
//! again.
//!
//! A workload is one JSON object: `engine`, `engine_version`, `config`, `requests` (when each arrives, counted in steps, its
//! prompt as `[segment, length]` pairs, `max_tokens`, `priority`) and `steps`. Arrivals are counted in steps, so that no
//! model of time is needed to say what is right.

mod drive;
mod read;
mod record;
mod writer;

use serde_json::{Value, json};

pub use drive::drive;
pub use read::{Workload, read};
pub use record::{Recorder, id};
pub use writer::Writer;

use super::Batch;
use crate::{Requests, Slot};

/// What one step did. Requests are known by their number, the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Which step, from 0; idle ones are counted and left out.
    pub step: u64,
    /// Who computed how many tokens, in the engine's order.
    pub scheduled: Vec<(u64, u32)>,
    /// Who ran for the first time, with the tokens that the prefix cache had.
    pub new: Vec<(u64, u32)>,
    /// Who ran again after a preemption, with the tokens that the prefix cache had.
    pub resumed: Vec<(u64, u32)>,
    /// Who was preempted, by number.
    pub preempted: Vec<u64>,
    /// Who ended, by number.
    pub finished: Vec<u64>,
    /// Blocks that could be handed out when the step was over.
    pub free_blocks: u32,
    /// Requests that waited then.
    pub waiting: usize,
    /// Requests that ran then.
    pub running: usize,
}

impl Decision {
    /// Takes down what a batch did. `joined` puts the resumed ones behind the new ones, as vLLM 0.33 reports them. What is
    /// left when the step is over is filled in later.
    pub fn of(step: u64, batch: &Batch, finished: &[Slot], requests: &Requests, joined: bool) -> Self {
        let number = |slot: Slot| requests[slot].number;
        let pairs = |pairs: &[(Slot, u32)]| pairs.iter().map(|&(slot, tokens)| (number(slot), tokens)).collect();
        let sorted = |slots: &[Slot]| {
            let mut numbers: Vec<u64> = slots.iter().map(|&slot| number(slot)).collect();
            numbers.sort_unstable();
            numbers
        };
        let mut decision = Decision {
            step,
            scheduled: batch.entries.iter().map(|entry| (number(entry.slot), entry.tokens)).collect(),
            new: pairs(&batch.new),
            resumed: pairs(&batch.resumed),
            preempted: sorted(&batch.preempted),
            finished: sorted(finished),
            ..Decision::default()
        };
        if joined {
            decision.new.append(&mut decision.resumed);
        }
        decision
    }

    /// Writes it in the form, with the requests' names.
    pub fn json(&self, name: impl Fn(u64) -> String) -> Value {
        let pairs = |pairs: &[(u64, u32)]| -> Value {
            pairs.iter().map(|&(number, tokens)| json!([name(number), tokens])).collect()
        };
        let names = |numbers: &[u64]| -> Value {
            let mut names: Vec<String> = numbers.iter().map(|&number| name(number)).collect();
            names.sort_unstable();
            names.into()
        };
        json!({
            "step": self.step,
            "scheduled": pairs(&self.scheduled),
            "new": pairs(&self.new),
            "resumed": pairs(&self.resumed),
            "preempted": names(&self.preempted),
            "finished": names(&self.finished),
            "free_blocks": self.free_blocks,
            "waiting": self.waiting,
            "running": self.running,
        })
    }

    /// Returns the first field in which another differs, with that decision's value and this one's.
    pub fn difference(
        &self,
        other: &Decision,
        name: impl Fn(u64) -> String + Copy,
    ) -> Option<(String, String, String)> {
        let (own, theirs) = (self.json(name), other.json(name));
        let fields =
            ["step", "scheduled", "new", "resumed", "preempted", "finished", "free_blocks", "waiting", "running"];
        let field = fields.into_iter().find(|&field| own[field] != theirs[field])?;
        Some((field.to_owned(), theirs[field].to_string(), own[field].to_string()))
    }
}
