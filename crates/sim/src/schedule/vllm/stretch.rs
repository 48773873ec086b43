//! What happens while requests only decode? Only those whose block becomes full, begins or falls behind a window need a
//! look; the others do nothing but get longer.

use super::admit::Attempt;
use super::{Runner, Vllm};
use crate::schedule::{Batch, Entry};
use crate::{Requests, Slot};

const NONE: u32 = u32::MAX;

/// A stretch that is being gone through. Its lists are used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Stretch {
    /// Steps done.
    ticks: u32,
    /// First running request that is due in each of the coming steps, in a ring.
    heads: Vec<u32>,
    /// The next that is due in the same step, for each running request.
    next: Vec<u32>,
    due: Vec<u32>,
    /// Free blocks that the head of the queue waits for.
    needed: Option<u32>,
    /// Number of the request whose hashes are watched, and how many.
    watched: Option<(u64, usize)>,
    /// Whether the running requests had their turn in the next step already.
    halfway: bool,
}

impl Stretch {
    pub const fn is_halfway(&self) -> bool {
        self.halfway
    }

    pub fn take_halfway(&mut self) -> bool {
        std::mem::take(&mut self.halfway)
    }

    /// Puts a running request where it is due.
    fn put(&mut self, place: u32, tick: u32) {
        let at = tick as usize & (self.heads.len() - 1);
        self.next[place as usize] = self.heads[at];
        self.heads[at] = place;
    }
}

impl Vllm {
    /// Says for how many steps all running requests will do nothing but decode, as long as nobody can come in.
    pub(super) fn begin_stretch(&mut self, requests: &Requests, decoding: &mut Vec<Slot>) -> u32 {
        let count = self.running.len();
        if count == 0 || count > self.config.budget() as usize || self.stretch.halfway {
            return 0;
        }
        let mut most = u32::MAX;
        // From the back: what came last still computes its prompt.
        for runner in self.running.iter().rev() {
            let request = &requests[runner.slot];
            // The last token is another kind of step: someone leaves.
            most = most.min(request.output_tokens.saturating_sub(request.generated).saturating_sub(1));
            if most == 0 || runner.partial || runner.tokens >= self.config.max_model_len {
                return 0;
            }
        }
        if !self.keeps_waiting(requests) {
            return 0;
        }
        decoding.extend(self.running.iter().map(|runner| runner.slot));
        if self.cache.is_caching() {
            for runner in &self.running {
                if let Some(seat) = runner.seat {
                    self.seated[seat.0 as usize].trail.prepare(&requests[runner.slot]);
                }
            }
        }
        self.stretch.ticks = 0;
        let block = self.config.groups.iter().map(|group| group.block_tokens.get()).min().unwrap_or(1);
        let ring = (block.min(LONGEST_RING - 1) as usize + 1).next_power_of_two();
        self.stretch.heads.clear();
        self.stretch.heads.resize(ring, NONE);
        self.stretch.next.resize(count.max(self.stretch.next.len()), NONE);
        for (place, runner) in self.running.iter().enumerate() {
            let ahead = runner.due.saturating_sub(runner.computed).min(ring as u32 - 1);
            self.stretch.put(place as u32, ahead);
        }
        most
    }

    /// Whether whoever waits will not come in at once. What that depends on is watched from here on.
    fn keeps_waiting(&mut self, requests: &Requests) -> bool {
        self.stretch.needed = None;
        let Some(head) = self.waiting.peek() else { return true };
        let count = self.running.len();
        if self.config.prefill_interval > 1 {
            return false;
        }
        if count >= self.config.seats() || count >= self.config.budget() as usize {
            return true;
        }
        if !self.config.chunked_prefill && self.rules.passes_over_long {
            return false;
        }
        let budget = self.config.budget() - count as u32;
        match self.attempt(head, self.threshold_now(), budget, requests) {
            Attempt::Admit { .. } | Attempt::Deferred => false,
            // The budget is the same in every step.
            Attempt::TooLong => !self.cache.is_caching(),
            Attempt::Blocked { needed } => {
                self.stretch.needed = Some(needed);
                if self.cache.is_caching() {
                    let request = &requests[head];
                    let watched = Some((request.number, self.probe.trail.hashes().len()));
                    if self.stretch.watched == watched {
                        self.cache.watch_again();
                    } else {
                        self.cache.watch(self.probe.trail.hashes());
                        self.stretch.watched = watched;
                    }
                }
                true
            }
        }
    }

    /// Does one step of a stretch; false when it must be formed in the usual way.
    pub(super) fn step_stretch(&mut self) -> bool {
        let ticks = self.stretch.ticks;
        let at = ticks as usize & (self.stretch.heads.len() - 1);
        let mut place = self.stretch.heads[at];
        let mut asked = false;
        if place != NONE {
            self.stretch.due.clear();
            while place != NONE {
                self.stretch.due.push(place);
                place = self.stretch.next[place as usize];
            }
            let most = self.stretch.due.len() * self.config.groups.len();
            if most > self.cache.pool().free_blocks() as usize {
                return false;
            }
            self.stretch.heads[at] = NONE;
            // Blocks are taken in the order of the running list.
            self.stretch.due.sort_unstable();
            for index in 0..self.stretch.due.len() {
                self.step_due(self.stretch.due[index], ticks);
            }
            let free = self.cache.pool().free_blocks();
            asked = self.stretch.needed.is_some_and(|needed| needed <= free || self.cache.watch_touched());
        }
        self.stretch.ticks += 1;
        self.slack -= self.groups() * self.running.len() as i64;
        if asked {
            // Whether the head of the queue comes in in this very step must be asked anew.
            self.stretch.halfway = true;
            return false;
        }
        true
    }

    /// Gives a running request the room for its next token and lets go of what it no longer looks at.
    fn step_due(&mut self, place: u32, ticks: u32) {
        let Runner { seat, computed, due, .. } = self.running[place as usize];
        let Some(seat) = seat else { return };
        let computed = computed + ticks;
        let mut next = due;
        if computed >= due {
            self.cache.trim(seat, computed);
            self.slack += self.cache.grow(seat, computed + 1) as i64;
            if self.cache.is_caching() {
                let seated = &mut self.seated[seat.0 as usize];
                let (prompt, junction) = (seated.prompt, seated.junction);
                let hashes = seated.hashes(self.cache.hashes_of(computed + 1));
                self.cache.remember(seat, hashes, computed + 1, prompt, junction);
            }
            next = self.cache.due(computed);
            self.running[place as usize].due = next;
        }
        let ahead = (next - computed).min(self.stretch.heads.len() as u32 - 1);
        self.stretch.put(place, ticks + ahead);
    }

    /// Ends a stretch in which so many steps were done whole.
    pub(super) fn end_stretch(&mut self, steps: u32) {
        for runner in &mut self.running {
            runner.computed += self.stretch.ticks;
            runner.tokens += steps;
        }
        self.cadence.skip(self.stretch.ticks, self.waiting.len());
        self.stretch.ticks = 0;
        self.cache.watch_off();
    }

    /// Goes on with a step whose running requests had their turn at the end of a stretch.
    pub(super) fn resume_halfway(&mut self, batch: &mut Batch, budget: &mut u32) {
        for runner in &mut self.running {
            batch.entries.push(Entry { slot: runner.slot, tokens: 1, context: runner.computed - 1 });
            runner.tokens += 1;
        }
        *budget -= self.running.len() as u32;
    }
}

/// Longest ring of coming steps; requests that are due later are looked at once in so many steps.
const LONGEST_RING: u32 = 4096;
