//! What happened to whom, and who held the cache when? A few requests from arrival to end and the cache's holders over time,
//! in memory that does not grow with the run.
//!
//! A run is looked at through *windows*: the first one opens with the run, a later one whenever twice as many requests have
//! ended as when the one before it closed. In each the first [`LIVES`] requests that begin to run are followed, and who
//! holds the cache is noted at up to [`MOMENTS`] moments, evenly; of all windows the first is kept, and the one in which
//! most of the cache was held.

use plimsoll_units::Nanos;

use crate::{Holders, Request, Requests, Slot, Step, Watch};

/// Requests that are followed in a window.
pub const LIVES: usize = 24;
/// Turns that are noted of one request's life; what comes after belongs to the last one.
pub const TURNS: usize = 64;
/// Moments of a window at most.
pub const MOMENTS: usize = 128;
/// Holders that are told apart at a moment; where there are more, neighbours are taken together.
pub const RUNS: usize = 40;

/// Requests that end in a window at least.
const ENDS: u64 = 128;
/// Time between two moments at first: 1 ms.
const FIRST: u64 = 1_000_000;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits to run for the first time.
    Queued,
    /// Its prompt is computed, or what it had before it lost its blocks.
    Prefill,
    /// Generates tokens.
    Decode,
    /// Lost its blocks and waits to run again.
    Preempted,
}

/// A request's life, as far as it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its number, in order of arrival, from 0.
    pub number: u64,
    /// What it did from when on, in order.
    pub turns: Vec<(Nanos, Phase)>,
    /// When its last token was out; nothing where the run was over before.
    pub end: Option<Nanos>,
    slot: Slot,
    /// Tokens that it had when it began to compute them; nothing while it generates or waits.
    computing: Option<u32>,
}

impl Life {
    fn new(slot: Slot, request: &Request, start: Nanos) -> Self {
        let turns = vec![(request.arrived, Phase::Queued), (request.scheduled.unwrap_or(start), Phase::Prefill)];
        Life { number: request.number, turns, end: None, slot, computing: Some(0) }
    }

    fn turn(&mut self, at: Nanos, phase: Phase) {
        if self.turns.len() < TURNS {
            self.turns.push((at, phase));
        }
    }

    /// Notes that it generates, if a token came out since it began to compute.
    fn settle(&mut self, request: &Request) {
        if self.computing.is_some_and(|had| request.generated > had) {
            self.computing = None;
            self.turn(request.last_token, Phase::Decode);
        }
    }
}

/// Who held the cache at a moment, in tokens' worth of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Nanos,
    /// What requests held alone, by the number of the first of each [`Window::bundle`], in ascending order.
    pub alone: Vec<(u64, u64)>,
    /// What several held at once, or ended requests of a static batch.
    pub others: u64,
    /// What nobody held and a later request might find.
    pub cached: u64,
}

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Requests that began to run in it, in that order.
    pub lives: Vec<Life>,
    /// Moments, in order.
    pub moments: Vec<Moment>,
    /// How many requests with neighbouring numbers are taken together in [`Moment::alone`].
    pub bundle: u64,
    /// The cache's room.
    pub capacity: u64,
    /// Where its last moment ends.
    pub end: Nanos,
    every: u64,
    next: Nanos,
    /// Ended requests with which it is over, if nobody who is followed still runs.
    until: u64,
}

impl Window {
    fn new(ended: u64, now: Nanos, every: u64) -> Self {
        let (lives, moments) = (Vec::new(), Vec::new());
        Window { lives, moments, bundle: 1, capacity: 0, end: now, every, next: now, until: ended + ENDS }
    }

    fn is_over(&self, ended: u64) -> bool {
        ended >= self.until && self.lives.iter().all(|life| life.end.is_some())
    }

    /// What was held at a moment on average, as a part of the whole.
    fn fullness(&self) -> f64 {
        let held = |moment: &Moment| moment.others + moment.alone.iter().map(|(_, tokens)| tokens).sum::<u64>();
        let sum: u64 = self.moments.iter().map(held).fold(0, u64::saturating_add);
        sum as f64 / self.moments.len().max(1) as f64 / self.capacity.max(1) as f64
    }

    fn look(&mut self, now: Nanos, holders: &Holders<'_>) {
        let alone: u64 = holders.alone.iter().map(|(_, tokens)| tokens).sum();
        let mut moment = Moment {
            at: now,
            alone: Vec::with_capacity(RUNS),
            others: holders.occupancy.used.saturating_sub(alone),
            cached: holders.occupancy.cached,
        };
        bundled(holders.alone, self.bundle, &mut moment.alone);
        while moment.alone.len() > RUNS {
            self.bundle *= 2;
            for known in self.moments.iter_mut().chain([&mut moment]) {
                let finer = std::mem::take(&mut known.alone);
                bundled(&finer, self.bundle, &mut known.alone);
            }
        }
        self.capacity = self.capacity.max(holders.occupancy.capacity);
        self.moments.push(moment);
        if self.moments.len() >= MOMENTS {
            let mut at = 0;
            self.moments.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            // Steps may be longer than what lay between two moments: those to come are as far apart as those that stay.
            let span = now - self.moments[0].at;
            self.every = self.every.saturating_mul(2).max(span.get() / (MOMENTS as u64 / 2));
        }
        self.next = now + Nanos::new(self.every);
    }
}

/// Adds up neighbours whose numbers lie in one bundle.
fn bundled(fine: &[(u64, u64)], bundle: u64, coarse: &mut Vec<(u64, u64)>) {
    for &(number, tokens) in fine.iter().filter(|(_, tokens)| *tokens > 0) {
        let first = number / bundle * bundle;
        match coarse.last_mut() {
            Some((last, sum)) if *last == first => *sum += tokens,
            Some(_) | None => coarse.push((first, tokens)),
        }
    }
}

/// Follows a run: see the module.
#[derive(Clone, Debug, Default)]
pub struct Course {
    open: Option<Window>,
    first: Option<Window>,
    fullest: Option<Window>,
    ended: u64,
    /// Ended requests with which the next window opens.
    opens: u64,
    /// Lives of the open window that compute a prompt.
    computing: bool,
    every: u64,
    now: Nanos,
}

impl Course {
    /// Begins to follow a run.
    pub fn new() -> Self {
        Course { open: Some(Window::new(0, Nanos::ZERO, FIRST)), every: FIRST, ..Course::default() }
    }

    /// Returns the first window, at the end of a run.
    pub fn first(&self) -> Option<Window> {
        self.first.clone().or_else(|| self.current())
    }

    /// Returns the window in which most of the cache was held, at the end of a run; the earlier of two.
    pub fn fullest(&self) -> Option<Window> {
        let fuller = |kept: &Window, window: &Window| window.fullness() > kept.fullness();
        match (&self.fullest, self.current()) {
            (Some(kept), Some(window)) if !window.lives.is_empty() && fuller(kept, &window) => Some(window),
            (Some(kept), _) => Some(kept.clone()),
            (None, window) => window,
        }
    }

    fn current(&self) -> Option<Window> {
        self.open.clone().map(|window| Window { end: self.now, ..window })
    }

    fn close(&mut self) {
        let Some(window) = self.current() else { return };
        self.open = None;
        self.opens = self.ended.saturating_mul(2);
        // The next one is about as long: as many moments, without beginning from the finest.
        self.every = (window.every / 2).max(FIRST);
        if self.first.is_none() {
            self.first = Some(window.clone());
        }
        if self.fullest.as_ref().is_none_or(|kept| window.fullness() > kept.fullness()) {
            self.fullest = Some(window);
        }
    }
}

impl Watch for Course {
    #[inline]
    fn step(&mut self, step: &Step<'_>) {
        self.now = step.end;
        if step.stretched {
            return;
        }
        let Some(window) = &mut self.open else { return };
        let batch = step.batch;
        if batch.new.is_empty() && batch.preempted.is_empty() && batch.resumed.is_empty() && !self.computing {
            return;
        }
        let requests = step.requests;
        for &slot in &batch.preempted {
            if let Some(life) = window.lives.iter_mut().find(|life| life.end.is_none() && life.slot == slot) {
                life.computing = None;
                life.turn(step.start, Phase::Preempted);
            }
        }
        for &(slot, _) in &batch.resumed {
            if let Some(life) = window.lives.iter_mut().find(|life| life.end.is_none() && life.slot == slot) {
                // The token that comes out of this very step is the first after the pause.
                let now = u32::from(requests[slot].last_token == step.end && requests[slot].generated > 0);
                life.computing = Some(requests[slot].generated - now);
                life.turn(step.start, Phase::Prefill);
            }
        }
        let places = LIVES - window.lives.len();
        window
            .lives
            .extend(batch.new.iter().take(places).map(|&(slot, _)| Life::new(slot, &requests[slot], step.start)));
        self.computing = false;
        for life in window.lives.iter_mut().filter(|life| life.end.is_none()) {
            life.settle(&requests[life.slot]);
            self.computing |= life.computing.is_some();
        }
    }

    #[inline]
    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        self.ended += 1;
        match &mut self.open {
            Some(window) => {
                if let Some(life) = window.lives.iter_mut().find(|life| life.end.is_none() && life.slot == slot) {
                    life.settle(&requests[slot]);
                    life.end = Some(now);
                }
                if window.is_over(self.ended) {
                    self.close();
                }
            }
            None if self.ended >= self.opens => self.open = Some(Window::new(self.ended, now, self.every)),
            None => {}
        }
    }

    #[inline]
    fn holders_at(&self) -> Nanos {
        self.open.as_ref().map_or(Nanos::MAX, |window| window.next)
    }

    fn holders(&mut self, now: Nanos, holders: &Holders<'_>) {
        if let Some(window) = self.open.as_mut().filter(|window| now >= window.next) {
            window.look(now, holders);
        }
    }

    fn idle(&mut self, idle: &crate::Idle) {
        self.now = idle.until;
    }
}

#[cfg(test)]
mod tests;
