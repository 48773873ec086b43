//! What do the tests of several schedulers share? Requests in short, an uneven cost, and eyes on every step.

use plimsoll_kv::Content;
use plimsoll_units::Nanos;

use super::Occupancy;
use crate::cost::{Cost, Shape};
use crate::load::List;
use crate::{Arrival, Requests, Slot, Step, Watch};

/// The stream of a prompt that a request shares only with its samples.
pub(super) const OWN: u64 = u64::MAX;

/// A request as the tests describe it.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) at: u64,
    /// Runs of streams.
    pub(super) prompt: Vec<(u64, u32)>,
    pub(super) output: u32,
    pub(super) most: u32,
    pub(super) priority: i32,
    pub(super) sample_of: Option<u64>,
}

/// A request that shares its prompt with nobody.
pub(super) fn ask(at: u64, prompt: u32, output: u32) -> Ask {
    Ask { at, prompt: vec![(OWN, prompt)], output, most: output, priority: 0, sample_of: None }
}

pub(super) fn arrivals(asks: &[Ask]) -> List {
    let arrival = |(number, ask): (u64, &Ask)| {
        let mut prompt = Content::new();
        for &(stream, len) in &ask.prompt {
            prompt.push(if stream == OWN { 1_000 + ask.sample_of.unwrap_or(number) } else { stream }, 0, len);
        }
        Arrival {
            at: Nanos::new(ask.at),
            prompt,
            output_tokens: ask.output,
            max_tokens: ask.most,
            output_stream: 1_000_000 + number,
            priority: ask.priority,
            sample_of: ask.sample_of,
            mark: number,
        }
    };
    List::new((0..).zip(asks).map(arrival).collect())
}

/// A step's time that depends on everything a shape has.
pub(super) struct Uneven;

impl Cost for Uneven {
    fn step(&mut self, shape: &Shape) -> Nanos {
        let chunks: u64 =
            shape.chunks.iter().map(|chunk| u64::from(chunk.tokens) * (3 + u64::from(chunk.context))).sum();
        Nanos::new(2 + shape.tokens() + chunks / 8 + shape.decode_context / 16 + u64::from(shape.padding))
    }
}

/// What happened, for comparing one run with another, and the laws that every run keeps.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Log {
    pub(super) steps: Vec<(Nanos, Nanos, Occupancy, usize, usize, Shape)>,
    pub(super) finished: Vec<(u64, Nanos, u32, u64)>,
    pub(super) gaps: u64,
}

impl Watch for Log {
    fn step(&mut self, step: &Step<'_>) {
        let of = step.occupancy;
        assert!(of.used + of.cached <= of.capacity && of.wasted + of.reserved <= of.used, "{of:?}");
        assert!(of.stranded <= of.capacity - of.used, "{of:?}");
        self.steps.push((step.start, step.end, of, step.waiting, step.running, step.shape.clone()));
    }

    fn gap(&mut self, gap: Nanos, count: u32) {
        self.gaps += gap.get() * u64::from(count);
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        let request = &requests[slot];
        assert_eq!(request.generated, request.output_tokens, "finished output equals asked output");
        self.finished.push((request.number, now, request.preemptions, request.recomputed_tokens));
    }
}

/// Whose tokens each step computed, by number, with how many; and what was reused.
#[derive(Default)]
pub(super) struct Schedule {
    pub(super) steps: Vec<Vec<(u64, u32)>>,
    pub(super) paused: u32,
    pub(super) reused: u32,
    pub(super) position: Vec<u32>,
    pub(super) first: Vec<u64>,
    pub(super) again: u64,
    pub(super) lost: u64,
}

impl Watch for Schedule {
    fn wants_batches(&self) -> bool {
        true
    }

    fn step(&mut self, step: &Step<'_>) {
        let number = |slot: Slot| step.requests[slot].number;
        self.position.resize(step.requests.arrived() as usize, 0);
        for &slot in &step.batch.preempted {
            self.lost += u64::from(std::mem::take(&mut self.position[number(slot) as usize]));
            self.paused += 1;
        }
        for &(slot, found) in &step.batch.new {
            self.position[number(slot) as usize] = found;
            self.reused += found;
            self.first.push(number(slot));
        }
        for &(slot, found) in &step.batch.resumed {
            self.position[number(slot) as usize] = found;
            // What others computed beyond it was not lost.
            self.lost -= u64::from(found.min(step.requests[slot].computed_before));
        }
        for entry in &step.batch.entries {
            let position = &mut self.position[number(entry.slot) as usize];
            assert_eq!(*position, entry.context, "tokens are computed in order, each once");
            *position += entry.tokens;
        }
        let entries = step.batch.entries.iter().map(|entry| (number(entry.slot), entry.tokens));
        self.steps.push(entries.collect());
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, _now: Nanos) {
        let request = &requests[slot];
        self.again += request.recomputed_tokens;
        assert_eq!(request.generated, request.output_tokens, "finished output equals asked output");
        assert_eq!(self.position[request.number as usize], request.content.len() - 1, "all but the last are computed");
    }
}
