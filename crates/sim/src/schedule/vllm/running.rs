//! What do running requests do in a step? Each in turn takes what it still has to compute, and someone else's blocks where
//! there are none left.

use plimsoll_kv::Seat;

use super::{Policy, Runner, Vllm};
use crate::schedule::{Batch, Entry};
use crate::{Requests, Slot};

/// How a request's turn ended.
enum Turn {
    /// It has its room.
    Scheduled,
    /// It was preempted itself.
    Lost,
}

impl Vllm {
    /// Gives every running request its turn (vLLM v1/core/sched/scheduler.py, `schedule`: 0.11.0:205-320, 0.33.0:800-1040).
    pub(super) fn step_running(
        &mut self,
        requests: &mut Requests,
        batch: &mut Batch,
        threshold: u32,
        budget: &mut u32,
    ) {
        let mut place = 0;
        let mut fast = 0;
        while place < self.running.len() && *budget > 0 {
            let runner = &mut self.running[place];
            let left = runner.tokens - runner.computed;
            if left == 1 && runner.computed < runner.due && !runner.partial {
                batch.entries.push(Entry { slot: runner.slot, tokens: 1, context: runner.computed });
                runner.computed += 1;
                runner.tokens += 1;
                *budget -= 1;
                place += 1;
                fast += 1;
                continue;
            }
            let limit = if threshold == 0 { u32::MAX } else { threshold };
            let room = (self.config.max_model_len - 1).saturating_sub(runner.computed);
            let tokens = left.min(limit).min(*budget).min(room);
            if tokens == 0 || runner.partial && self.cadence.defers() {
                place += 1;
                continue;
            }
            match self.turn(&mut place, tokens, requests, batch, budget) {
                Turn::Scheduled => *budget -= tokens,
                Turn::Lost if self.rules.goes_on_after_self && self.config.policy == Policy::Priority => {}
                Turn::Lost => break,
            }
        }
        self.slack -= self.groups() * fast;
    }

    /// Gives the request at `place` room for `tokens` more, taking others' blocks if need be, and moves `place` on.
    fn turn(
        &mut self,
        place: &mut usize,
        tokens: u32,
        requests: &mut Requests,
        batch: &mut Batch,
        budget: &mut u32,
    ) -> Turn {
        // Where the request itself stands, which differs from `place` while victims shift turns.
        let mut own = *place;
        while !self.advance(own, tokens, requests) {
            let victim = self.victim();
            let lost = victim == own;
            self.preempt(victim, requests, batch, budget);
            if lost {
                return Turn::Lost;
            }
            if victim < own {
                own -= 1;
                if !self.rules.victim_shifts_turns {
                    *place -= 1;
                }
            }
        }
        self.slack -= i64::from(tokens) * self.groups();
        let runner = &mut self.running[own];
        batch.entries.push(Entry { slot: runner.slot, tokens, context: runner.computed });
        runner.computed += tokens;
        let runner = &mut self.running[own];
        if runner.partial {
            self.cadence.prefilled();
        }
        runner.partial = runner.computed < runner.tokens;
        if !runner.partial {
            runner.tokens += 1;
        }
        *place += 1;
        Turn::Scheduled
    }

    /// Lets go of what a request no longer looks at, and gives it room for `tokens` more, if there is; what becomes full is
    /// remembered (vLLM v1/core/kv_cache_manager.py, `allocate_slots`).
    fn advance(&mut self, place: usize, tokens: u32, requests: &Requests) -> bool {
        let Runner { slot, seat, computed, tokens: known, .. } = self.running[place];
        let Some(seat) = seat else { return true };
        self.cache.trim(seat, computed);
        let reached = computed + tokens;
        if self.cache.needed(seat, reached.min(self.config.max_model_len)) > self.cache.pool().free_blocks() {
            return false;
        }
        self.slack += self.cache.grow(seat, reached.min(self.config.max_model_len)) as i64;
        self.remember(seat, slot, reached.min(known), requests);
        self.running[place].due = if tokens == 1 { self.cache.due(computed) } else { 0 };
        true
    }

    /// Remembers what is full among a request's first tokens.
    pub(super) fn remember(&mut self, seat: Seat, slot: Slot, tokens: u32, requests: &Requests) {
        if !self.cache.is_caching() {
            return;
        }
        let seated = &mut self.seated[seat.0 as usize];
        let hashes = seated.trail.extend(&requests[slot], self.cache.hashes_of(tokens));
        self.cache.remember(seat, hashes, tokens, seated.prompt, seated.junction);
    }

    /// Returns whose blocks are taken: the last one's, or under priorities those of the least important, the latest of them.
    fn victim(&self) -> usize {
        let last = self.running.len() - 1;
        match self.config.policy {
            Policy::Fcfs => last,
            Policy::Priority => {
                let key = |place: &usize| self.waiters[self.running[*place].slot.index()].key;
                (0..self.running.len()).max_by_key(key).unwrap_or(last)
            }
        }
    }

    /// Takes a request's blocks and puts it back into the queue.
    fn preempt(&mut self, place: usize, requests: &mut Requests, batch: &mut Batch, budget: &mut u32) {
        let runner = self.running.remove(place);
        let Some(seat) = runner.seat else { return };
        self.vacate(seat, runner.computed);
        let mut computed = runner.computed;
        let mut carried = 0;
        // It may have had its turn in this step already.
        if self.config.policy == Policy::Priority
            && let Some(at) = batch.entries.iter().position(|entry| entry.slot == runner.slot)
        {
            let tokens = batch.entries[at].tokens;
            computed -= tokens;
            if self.rules.keeps_victims_tokens {
                batch.entries[at].context = 0;
                carried = tokens;
            } else {
                batch.entries.remove(at);
                *budget += tokens;
            }
        }
        let request = &mut requests[runner.slot];
        request.preemptions += 1;
        request.computed_before = request.computed_before.max(computed);
        let waiter = &mut self.waiters[runner.slot.index()];
        (waiter.preempted, waiter.carried) = (true, carried);
        batch.preempted.push(runner.slot);
        self.waiting.prepend(runner.slot, requests);
    }
}
