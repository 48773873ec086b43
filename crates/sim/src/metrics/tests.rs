//! Metrics against the same figures computed from lists of everything that happened, on a small engine of our own.

use std::collections::VecDeque;

use plimsoll_kv::Content;
use proptest::prelude::*;

use super::*;
use crate::cost::{Cost, Shape};
use crate::load::List;
use crate::schedule::{Batch, Entry, Occupancy, Refusal, Scheduler};
use crate::{Arrival, Outcome, Settings, run};

/// First come, first served, the whole prompt at once, token by token after; the last one makes room where there is none.
struct Small {
    most: usize,
    capacity: u64,
    used: u64,
    computed: Vec<u32>,
    running: Vec<Slot>,
    waiting: VecDeque<Slot>,
}

impl Small {
    fn new(most: usize, capacity: u64) -> Self {
        Small { most, capacity, used: 0, computed: Vec::new(), running: Vec::new(), waiting: VecDeque::new() }
    }

    fn head_fits(&self, requests: &Requests) -> bool {
        let fits = |slot: &Slot| self.used + u64::from(requests[*slot].content.len()) <= self.capacity;
        self.running.len() < self.most && self.waiting.front().is_some_and(fits)
    }

    fn take_back(&mut self, slot: Slot, requests: &mut Requests, batch: &mut Batch) {
        let computed = std::mem::take(&mut self.computed[slot.index()]);
        self.used -= u64::from(computed);
        requests[slot].preemptions += 1;
        requests[slot].computed_before = computed;
        batch.preempted.push(slot);
        self.waiting.push_front(slot);
    }

    fn compute(&mut self, slot: Slot, requests: &Requests, batch: &mut Batch) {
        let context = self.computed[slot.index()];
        let tokens = requests[slot].content.len() - context;
        self.used += u64::from(tokens);
        self.computed[slot.index()] += tokens;
        batch.entries.push(Entry { slot, tokens, context });
    }
}

impl Scheduler for Small {
    fn add(&mut self, slot: Slot, requests: &Requests) -> Result<(), Refusal> {
        let request = &requests[slot];
        if u64::from(request.prompt_tokens) + u64::from(request.max_tokens) > self.capacity {
            return Err(Refusal { why: format!("its prompt has {} tokens", request.prompt_tokens) });
        }
        self.computed.resize(requests.slots(), 0);
        self.computed[slot.index()] = 0;
        self.waiting.push_back(slot);
        Ok(())
    }

    fn schedule(&mut self, _now: Nanos, requests: &mut Requests, batch: &mut Batch) {
        let mut at = 0;
        while at < self.running.len() {
            if self.used < self.capacity {
                self.compute(self.running[at], requests, batch);
                at += 1;
            } else if let Some(last) = self.running.pop() {
                // What was scheduled last may have to go although it was given a token just now; then it is not in the batch.
                self.take_back(last, requests, batch);
            }
        }
        while batch.preempted.is_empty() && self.head_fits(requests) {
            let Some(slot) = self.waiting.pop_front() else { break };
            let list = if requests[slot].scheduled.is_none() { &mut batch.new } else { &mut batch.resumed };
            list.push((slot, 0));
            self.running.push(slot);
            self.compute(slot, requests, batch);
        }
    }

    fn finish(&mut self, slot: Slot, _requests: &Requests) {
        self.used -= u64::from(self.computed[slot.index()]);
        self.running.retain(|running| *running != slot);
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn running(&self) -> usize {
        self.running.len()
    }

    fn head(&self) -> Option<Slot> {
        self.waiting.front().copied()
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy { capacity: self.capacity, used: self.used, cached: self.used / 3, ..Occupancy::default() }
    }

    fn stretch(&mut self, requests: &Requests, decoding: &mut Vec<Slot>) -> u32 {
        let known = |slot: &Slot| requests[*slot].content.len() == self.computed[slot.index()] + 1;
        if self.running.is_empty() || self.head_fits(requests) || !self.running.iter().all(known) {
            return 0;
        }
        decoding.extend(&self.running);
        let least = self.running.iter().map(|slot| requests[*slot].output_tokens - requests[*slot].generated).min();
        let room = (self.capacity - self.used) / self.running.len() as u64;
        least.map_or(0, |least| u64::from(least - 1).min(room) as u32)
    }

    fn tick(&mut self) -> bool {
        self.used += self.running.len() as u64;
        true
    }

    fn settle(&mut self, _requests: &Requests, steps: u32) {
        self.running.iter().for_each(|slot| self.computed[slot.index()] += steps);
    }
}

/// A time that grows with what is computed.
struct Linear;

impl Cost for Linear {
    fn step(&mut self, shape: &Shape) -> Nanos {
        Nanos::new(1_000 + 70 * shape.tokens() + shape.decode_context / 3)
    }
}

/// Everything that happened.
#[derive(Default)]
struct Lists {
    steps: Vec<(u64, u64, u64, u64, usize, usize)>,
    idle: Vec<(u64, u64)>,
    gaps: Vec<u64>,
    requests: Vec<crate::Request>,
    ends: Vec<u64>,
}

impl Watch for Lists {
    fn step(&mut self, step: &Step<'_>) {
        let (start, end) = (step.start.get(), step.end.get());
        self.steps.push((start, end, step.occupancy.used, step.shape.tokens(), step.running, step.waiting));
    }

    fn gap(&mut self, gap: Nanos, count: u32) {
        self.gaps.extend(std::iter::repeat_n(gap.get(), count as usize));
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        self.requests.push(requests[slot].clone());
        self.ends.push(now.get());
    }

    fn idle(&mut self, idle: &Idle) {
        self.idle.push((idle.from.get(), idle.until.get()));
    }
}

fn simulate(arrivals: &[(u64, u32, u32)], jumps: bool, metrics: Metrics) -> (Outcome, Summary, Lists) {
    let arrivals = arrivals.iter().enumerate().map(|(at, &(time, prompt, output))| {
        let mut content = Content::new();
        content.push(at as u64, 0, prompt);
        Arrival {
            at: Nanos::new(time),
            prompt: content,
            output_tokens: output,
            max_tokens: output,
            output_stream: 1 << 40 | at as u64,
            priority: 0,
            sample_of: None,
            mark: 0,
        }
    });
    let mut watch = (metrics, Lists::default());
    let mut source = List::new(arrivals.collect());
    let settings = Settings { jumps, ..Settings::default() };
    let outcome = run(&mut Small::new(4, 300), &mut Linear, &mut source, &mut watch, settings);
    (outcome.expect("it ends"), watch.0.summary(), watch.1)
}

/// The percentile of a list, by its definition.
fn percentile(values: &mut [u64], percent: f64) -> f64 {
    values.sort_unstable();
    let rank = (values.len() - 1) as f64 * percent / 100.0;
    let (low, high) = (values[rank.floor() as usize] as f64, values[rank.ceil() as usize] as f64);
    low + (high - low) * rank.fract()
}

fn check(found: Option<Distribution>, values: impl IntoIterator<Item = u64>) {
    let mut values: Vec<u64> = values.into_iter().collect();
    let Some(found) = found else { return assert!(values.is_empty()) };
    assert_eq!(found.count, values.len() as u64);
    let mean = values.iter().sum::<u64>() as f64 / values.len() as f64;
    for (found, right) in [
        (found.mean, mean),
        (found.p50, percentile(&mut values, 50.0)),
        (found.p90, percentile(&mut values, 90.0)),
        (found.p95, percentile(&mut values, 95.0)),
        (found.p99, percentile(&mut values, 99.0)),
    ] {
        assert!((found - right).abs() < 1e-3, "{found} for {right}");
    }
}

fn workload() -> impl Strategy<Value = Vec<(u64, u32, u32)>> {
    prop::collection::vec((0u64..300_000, 1u32..280, 1u32..60), 1..40)
}

proptest! {
    #[test]
    fn figures_are_those_of_the_lists(arrivals in workload()) {
        let objectives = Objectives {
            ttft: Some(Nanos::new(60_000)), tpot: Some(Nanos::new(1_400)), e2e: Some(Nanos::new(90_000)),
        };
        let (outcome, found, lists) = simulate(&arrivals, true, Metrics::new(objectives, Measured::All));
        let totals = found.totals;
        prop_assert_eq!((totals.arrived, totals.finished, totals.steps), (outcome.arrived, outcome.finished, outcome.steps));
        prop_assert_eq!((totals.sampled, found.refused.count()), (outcome.finished, outcome.refused));
        let each = || lists.requests.iter().zip(&lists.ends);
        let first = |request: &crate::Request| request.first_token.unwrap().get();
        check(found.ttft, each().map(|(request, _)| first(request) - request.arrived.get()));
        check(found.e2e, each().map(|(request, end)| end - request.arrived.get()));
        check(found.queue, each().map(|(request, _)| request.scheduled.unwrap().get() - request.arrived.get()));
        check(found.itl, lists.gaps.iter().copied());
        let several = || each().filter(|(request, _)| request.generated > 1);
        check(found.tpot, several().map(|(request, end)| {
            ((end - first(request)) as f64 / f64::from(request.generated - 1)).round() as u64
        }));
        prop_assert_eq!(lists.gaps.iter().sum::<u64>(), several().map(|(request, end)| end - first(request)).sum::<u64>());
        let good = each().filter(|(request, end)| {
            let after = u64::from(request.generated - 1);
            first(request) - request.arrived.get() <= 60_000 && **end - request.arrived.get() <= 90_000
                && *end - first(request) <= 1_400 * after
        });
        prop_assert_eq!(totals.good, good.count() as u64);
        prop_assert_eq!(totals.preemptions, lists.requests.iter().map(|request| u64::from(request.preemptions)).sum::<u64>());
        prop_assert_eq!(totals.preempted, lists.requests.iter().filter(|request| request.preemptions > 0).count() as u64);
        prop_assert_eq!(totals.recomputed_tokens, lists.requests.iter().map(|request| request.recomputed_tokens).sum::<u64>());
        let asked: u64 = lists.requests.iter().map(|request| u64::from(request.prompt_tokens + request.output_tokens) - 1).sum();
        prop_assert_eq!(totals.prefill_tokens + totals.decode_tokens, asked + totals.recomputed_tokens, "each token once");
        let used: u128 = lists.steps.iter().map(|step| u128::from(step.2) * u128::from(step.1 - step.0)).sum();
        let from = arrivals.iter().map(|arrival| arrival.0).min().unwrap_or_default();
        if outcome.finished > 0 {
            let until = outcome.end.get().max(lists.idle.last().map_or(0, |idle| idle.1));
            prop_assert_eq!(found.span, Nanos::new(from)..Nanos::new(until));
            prop_assert!((found.levels.cache()[0] - used as f64 / (until - from) as f64).abs() < 1e-6);
            prop_assert_eq!(found.peaks.cache()[0], lists.steps.iter().map(|step| step.2).max().unwrap());
            prop_assert_eq!(found.levels.output_tokens, totals.output_tokens);
        }
    }

    #[test]
    fn jumping_measures_what_stepping_does(arrivals in workload(), part in 0usize..3, from in 0u64..40, length in 0u64..40) {
        let part = match part {
            0 => Measured::All,
            1 => Measured::Requests(from..from + length),
            _ => Measured::Time(Nanos::new(from * 10_000)..Nanos::new((from + length) * 10_000)),
        };
        let measure = |jumps| {
            let (outcome, summary, _) = simulate(&arrivals, jumps, Metrics::new(Objectives::default(), part.clone()));
            format!("{outcome:?} {summary:?}")
        };
        prop_assert_eq!(measure(true), measure(false));
    }

    #[test]
    fn a_part_is_a_part(arrivals in workload(), cut in 0u64..40) {
        let measure = |part| simulate(&arrivals, true, Metrics::new(Objectives::default(), part)).1;
        let whole = measure(Measured::All);
        for (early, late) in [
            (Measured::Requests(0..cut), Measured::Requests(cut..u64::MAX)),
            (Measured::Time(Nanos::ZERO..Nanos::new(cut * 9_000)), Measured::Time(Nanos::new(cut * 9_000)..Nanos::MAX)),
        ] {
            let (early, late) = (measure(early), measure(late));
            let count = |samples: &Option<Distribution>| samples.map_or(0, |samples| samples.count);
            for (name, all, early, late) in [
                ("itl", &whole.itl, &early.itl, &late.itl),
                ("ttft", &whole.ttft, &early.ttft, &late.ttft),
            ] {
                prop_assert_eq!(count(all), count(early) + count(late), "{}", name);
            }
            prop_assert_eq!(whole.totals.steps, early.totals.steps + late.totals.steps);
            prop_assert_eq!(whole.totals.idle, early.totals.idle + late.totals.idle);
            prop_assert_eq!(whole.totals.finished, early.totals.finished + late.totals.finished);
            prop_assert_eq!(whole.levels.nanos, early.levels.nanos + late.levels.nanos);
        }
    }
}

#[test]
fn nothing_measured_is_no_figure() {
    let (_, summary, _) = simulate(&[(5, 290, 290)], true, Metrics::new(Objectives::default(), Measured::All));
    assert_eq!((summary.ttft, summary.itl, summary.totals.finished), (None, None, 0));
    assert_eq!(summary.refused.reasons()[0].example, "its prompt has 290 tokens");
    assert_eq!(summary.span, Nanos::new(5)..Nanos::new(5));
}
