//! How did it go for those who wait, and for the cache? Latencies, rates, occupancy and what was done twice, measured
//! while a simulation runs, in memory that does not grow with it.
//!
//! Every figure is defined as load generators define it; `docs/metrics.md` has the definitions with their sources and says
//! where tools differ. Sums are integers and nothing depends on the order of events within a step, so that a run that
//! jumps and one that steps measure the same.

mod refused;
mod samples;
mod timeline;

use std::ops::Range;

use plimsoll_units::Nanos;

pub use refused::{Reason, Refused};
pub use samples::{Distribution, EXACT, Samples};
pub use timeline::{BINS, Integrals, Peaks, Timeline};

use crate::{Idle, Requests, Slot, Step, Watch};
use timeline::Levels;

/// What a request must meet to be good. A time that equals its objective meets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// Longest time to the first token.
    pub ttft: Option<Nanos>,
    /// Longest time per token after the first, on average over the request; met by requests of one token.
    pub tpot: Option<Nanos>,
    /// Longest time to the last token.
    pub e2e: Option<Nanos>,
}

impl Objectives {
    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.ttft.is_none() && self.tpot.is_none() && self.e2e.is_none()
    }
}

/// Which part of a run is measured. A request belongs to it by when it arrived, an event by when it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Measured {
    /// From the first arrival to the end.
    #[default]
    All,
    /// From when the first of these requests (numbers from 0) is taken in until the first one after them is.
    Requests(Range<u64>),
    /// After the first time, up to and with the second, counted from the start of the run.
    Time(Range<Nanos>),
}

/// Measures a simulation as it runs: see the module.
#[derive(Clone, Debug)]
pub struct Metrics {
    objectives: Objectives,
    part: Measured,
    /// Whether anything arrived yet.
    begun: bool,
    now: Nanos,
    timeline: Timeline,
    capacity: u64,
    totals: Totals,
    refused: Refused,
    ttft: Samples,
    tpot: Samples,
    itl: Samples,
    e2e: Samples,
    queue: Samples,
    prefill: Samples,
    decode: Samples,
    /// Gaps whose step was not seen yet, where only a part of the run is measured.
    gaps: Vec<(Nanos, u32)>,
}

/// What was counted in the measured part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that arrived, refused ones included.
    pub arrived: u64,
    /// Requests that generated their last token.
    pub finished: u64,
    /// Prompt tokens of requests that finished.
    pub prompt_tokens: u64,
    /// Output tokens of requests that finished.
    pub output_tokens: u64,
    /// Requests that arrived in the part and finished, then or later: those whose latencies are measured.
    pub sampled: u64,
    /// Of `sampled`: those that met every objective.
    pub good: u64,
    /// Of `sampled`: those that met the objective for the first token, where there is one.
    pub met_ttft: u64,
    /// Of `sampled`: those that met the objective for the tokens after it, where there is one.
    pub met_tpot: u64,
    /// Of `sampled`: those that met the objective for the last token, where there is one.
    pub met_e2e: u64,
    /// Of `finished`: those that met every objective.
    pub good_finished: u64,
    /// Steps that ended.
    pub steps: u64,
    /// Sequences in steps, padding left out: steps × mean batch.
    pub sequences: u128,
    /// Sequences in the largest step.
    pub sequences_max: u64,
    /// Tokens that were computed in pieces of more than one.
    pub prefill_tokens: u64,
    /// Tokens that were computed one at a time.
    pub decode_tokens: u64,
    /// Sequences that took part in a step and generated nothing.
    pub padding: u64,
    /// How often a request lost its blocks.
    pub preemptions: u64,
    /// Requests that lost their blocks at least once.
    pub preempted: u64,
    /// Tokens that were computed again for them.
    pub recomputed_tokens: u64,
    /// Prompt tokens that were looked up in the prefix cache: those of requests when they first ran.
    pub looked_up_tokens: u64,
    /// Of these: found.
    pub hit_tokens: u64,
    /// Tokens found for requests that ran again after they had lost their blocks.
    pub resumed_hit_tokens: u64,
    /// Time in which nothing ran.
    pub idle: u64,
}

/// Percentiles from 0 to 100 of the main times, in nanoseconds; empty where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// From arrival to first token out.
    pub ttft: Vec<f64>,
    /// Per token after the first.
    pub tpot: Vec<f64>,
    /// From one token to the next.
    pub itl: Vec<f64>,
    /// From arrival to last token.
    pub e2e: Vec<f64>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Summary {
    /// When the measured part begins and ends, as far as the run went; nothing before the first arrival.
    pub span: Range<Nanos>,
    /// Counts.
    pub totals: Totals,
    /// Objectives that `good` counts by.
    pub objectives: Objectives,
    /// From arrival to first token out.
    pub ttft: Option<Distribution>,
    /// From first to last token, divided by the tokens after the first; requests of one token left out.
    pub tpot: Option<Distribution>,
    /// From one token of a request to its next: all gaps that ended in the measured part, of all requests.
    pub itl: Option<Distribution>,
    /// From arrival to last token.
    pub e2e: Option<Distribution>,
    /// From arrival to the start of the first step with some of its tokens.
    pub queue: Option<Distribution>,
    /// From there to the first token out.
    pub prefill: Option<Distribution>,
    /// From the first to the last token out.
    pub decode: Option<Distribution>,
    /// The cache's capacity in tokens' worth of slots.
    pub capacity: u64,
    /// Levels integrated over the measured part.
    pub levels: Integrals,
    /// Highest levels in the measured part.
    pub peaks: Peaks,
    /// Levels over all the time.
    pub timeline: Timeline,
    /// Who was turned away, and why.
    pub refused: Refused,
}

impl Metrics {
    /// Begins to measure.
    pub fn new(objectives: Objectives, part: Measured) -> Self {
        let mut timeline = Timeline::new();
        match &part {
            Measured::All => timeline.measure(Nanos::ZERO, Nanos::MAX),
            Measured::Time(time) => timeline.measure(time.start, time.end),
            Measured::Requests(_) => {}
        }
        Metrics {
            objectives,
            part,
            begun: false,
            now: Nanos::ZERO,
            timeline,
            capacity: 0,
            totals: Totals::default(),
            refused: Refused::default(),
            ttft: Samples::default(),
            tpot: Samples::default(),
            itl: Samples::default(),
            e2e: Samples::default(),
            queue: Samples::default(),
            prefill: Samples::default(),
            decode: Samples::default(),
            gaps: Vec::new(),
        }
    }

    /// Sums up what was measured so far.
    pub fn summary(&mut self) -> Summary {
        self.timeline.settle();
        Summary {
            span: self.timeline.span(),
            totals: self.totals,
            objectives: self.objectives,
            ttft: self.ttft.summary(),
            tpot: self.tpot.summary(),
            itl: self.itl.summary(),
            e2e: self.e2e.summary(),
            queue: self.queue.summary(),
            prefill: self.prefill.summary(),
            decode: self.decode.summary(),
            capacity: self.capacity,
            levels: *self.timeline.measured(),
            peaks: *self.timeline.peaks(),
            timeline: self.timeline.clone(),
            refused: self.refused.clone(),
        }
    }

    /// Returns the percentiles of the main times.
    pub fn percentiles(&mut self) -> Percentiles {
        Percentiles {
            ttft: self.ttft.percentiles(),
            tpot: self.tpot.percentiles(),
            itl: self.itl.percentiles(),
            e2e: self.e2e.percentiles(),
        }
    }

    /// Whether a request is one whose latencies are measured.
    fn samples(&self, number: u64, arrived: Nanos) -> bool {
        match &self.part {
            Measured::All => true,
            Measured::Requests(numbers) => numbers.contains(&number),
            Measured::Time(time) => time.contains(&arrived),
        }
    }

    /// Notes that a request with this number is taken in now: the first one begins the time, others may begin or end the
    /// measured part.
    fn reach(&mut self, number: u64) {
        if !self.begun {
            self.begun = true;
            self.timeline.begin(self.now);
        }
        if let Measured::Requests(numbers) = &self.part {
            if number == numbers.start {
                self.timeline.measure(self.now, Nanos::MAX);
            }
            if number == numbers.end.max(numbers.start) {
                self.timeline.measure(self.timeline.measured_from(), self.now);
            }
        }
    }

    /// Counts what only a step with a batch has.
    fn batch(&mut self, step: &Step<'_>) {
        let totals = &mut self.totals;
        totals.preemptions += step.batch.preempted.len() as u64;
        let first = step.batch.preempted.iter().filter(|slot| step.requests[**slot].preemptions == 1);
        totals.preempted += first.count() as u64;
        totals.recomputed_tokens += step.recomputed;
        for &(slot, cached) in &step.batch.new {
            totals.looked_up_tokens += u64::from(step.requests[slot].prompt_tokens);
            totals.hit_tokens += u64::from(cached);
        }
        totals.resumed_hit_tokens += step.batch.resumed.iter().map(|(_, cached)| u64::from(*cached)).sum::<u64>();
    }
}

impl Watch for Metrics {
    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        let request = &requests[slot];
        self.reach(request.number);
        if self.samples(request.number, request.arrived) {
            self.totals.arrived += 1;
            if let Some(why) = refused {
                self.refused.add(why);
            }
        }
    }

    #[inline]
    fn step(&mut self, step: &Step<'_>) {
        let levels = Levels::new(step.running, step.waiting, &step.occupancy);
        self.timeline.stand(&levels, step.end, u64::from(step.shape.sampled));
        self.now = step.end;
        let measured = self.timeline.measures(step.end);
        if !self.gaps.is_empty() {
            for (gap, count) in self.gaps.drain(..).filter(|_| measured) {
                self.itl.add(gap, count);
            }
        }
        if !measured {
            return;
        }
        self.capacity = self.capacity.max(step.occupancy.capacity);
        let shape = step.shape;
        let totals = &mut self.totals;
        totals.steps += 1;
        let sequences = u64::from(shape.decodes) + shape.chunks.len() as u64;
        totals.sequences += u128::from(sequences);
        totals.sequences_max = totals.sequences_max.max(sequences);
        totals.decode_tokens += u64::from(shape.decodes);
        totals.prefill_tokens += shape.chunks.iter().map(|chunk| u64::from(chunk.tokens)).sum::<u64>();
        totals.padding += u64::from(shape.padding);
        if !step.stretched {
            self.batch(step);
        }
    }

    #[inline]
    fn gap(&mut self, gap: Nanos, count: u32) {
        match self.part {
            Measured::All => self.itl.add(gap, count),
            Measured::Requests(_) | Measured::Time(_) => self.gaps.push((gap, count)),
        }
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        let request = &requests[slot];
        let first = request.first_token.unwrap_or(now);
        let scheduled = request.scheduled.unwrap_or(first);
        let (ttft, e2e) = (first - request.arrived, now - request.arrived);
        let (decode, after) = (now - first, u64::from(request.generated.saturating_sub(1)));
        let within = |time: Nanos, most: Option<Nanos>| most.is_none_or(|most| time <= most);
        // Compared as products, so that no rounding decides.
        let steady = self
            .objectives
            .tpot
            .is_none_or(|most| u128::from(decode.get()) <= u128::from(most.get()) * u128::from(after) || after == 0);
        let (prompt, whole) = (within(ttft, self.objectives.ttft), within(e2e, self.objectives.e2e));
        let good = prompt && steady && whole;
        if self.timeline.measures(now) {
            let totals = &mut self.totals;
            totals.finished += 1;
            totals.good_finished += u64::from(good);
            totals.prompt_tokens += u64::from(request.prompt_tokens);
            totals.output_tokens += u64::from(request.generated);
        }
        if !self.samples(request.number, request.arrived) {
            return;
        }
        let totals = &mut self.totals;
        totals.sampled += 1;
        totals.good += u64::from(good);
        totals.met_ttft += u64::from(prompt);
        totals.met_tpot += u64::from(steady);
        totals.met_e2e += u64::from(whole);
        self.ttft.add(ttft, 1);
        self.e2e.add(e2e, 1);
        self.queue.add(scheduled - request.arrived, 1);
        self.prefill.add(first - scheduled, 1);
        self.decode.add(decode, 1);
        if let Some(tpot) = decode.get().saturating_add(after / 2).checked_div(after) {
            self.tpot.add(Nanos::new(tpot), 1);
        }
    }

    fn idle(&mut self, idle: &Idle) {
        self.now = idle.until;
        if !self.begun {
            return;
        }
        let levels = Levels::new(idle.running, idle.waiting, &idle.occupancy);
        self.timeline.stand(&levels, idle.until, 0);
        self.capacity = self.capacity.max(idle.occupancy.capacity);
        self.totals.idle += self.timeline.measured_of(idle.from, idle.until);
    }
}

#[cfg(test)]
mod tests;
