//! Who goes on, and who loses its place? Decode steps as SGLang forms them (0.5.23, `Scheduler.update_running_batch`,
//! `ScheduleBatch.check_decode_mem` and `retract_decode`).

use super::{RETRACT_STEPS, Retraction, Sglang};
use crate::schedule::{Batch, Entry};
use crate::{Requests, Slot};

impl Sglang {
    /// Forms a decode step of all that run, after others lost their places where the pool is full.
    pub(super) fn decode(&mut self, requests: &mut Requests, batch: &mut Batch) {
        let ending = self.leave_out(requests);
        if self.running.is_empty() {
            return;
        }
        let mut needed = self.decode_tokens(requests);
        self.pool.evict_to(needed);
        if self.pool.free < needed {
            if ending {
                // What those hold is free after this pass; nobody loses its place before.
                return;
            }
            needed = self.retract_some(needed, requests, batch);
            if self.pool.free < needed {
                // The last one does not fit beside a prompt that is half computed. The engine aborts it.
                return;
            }
        } else {
            self.ratio.fall();
        }
        self.decode_step(needed);
        self.decode_entries(requests, batch);
    }

    /// Puts all that run into the batch. Who ended without the scheduler's knowledge computes a token in vain.
    pub(super) fn decode_entries(&mut self, requests: &Requests, batch: &mut Batch) {
        for &slot in &self.running {
            let seat = &mut self.seats[slot.index()];
            if seat.live {
                seat.drawn = self.passes;
                batch.entries.push(Entry { slot, tokens: 1, context: requests[slot].content.len() - 1 });
            } else {
                seat.vain = 1;
                batch.padding += 1;
            }
        }
    }

    /// Returns the tokens of the pages that the running requests' next tokens begin.
    pub(super) fn decode_tokens(&self, requests: &Requests) -> u64 {
        let page = self.pool.page();
        if page == 1 {
            return self.running.len() as u64;
        }
        let begun = self.running.iter().filter(|slot| (requests[**slot].content.len() - 1).is_multiple_of(page));
        begun.count() as u64 * u64::from(page)
    }

    /// Takes the tokens of a decode step. A page for everybody is made free first, as the engine does
    /// (`alloc_paged_token_slots_decode`).
    pub(super) fn decode_step(&mut self, needed: u64) {
        let running = self.running.len() as u64;
        self.pool.evict_to(running * u64::from(self.pool.page()));
        self.pool.free -= needed;
        self.wasted = self.wasted + needed - running;
    }

    /// Takes the places of running requests until the others' next tokens fit; returns the tokens that these need.
    fn retract_some(&mut self, mut needed: u64, requests: &mut Requests, batch: &mut Batch) -> u64 {
        let sign = if self.config.schedule_low_priority_values_first { 1 } else { -1 };
        let by_priority = match self.config.retraction_policy {
            Retraction::Length => 0,
            Retraction::Priority => -sign,
        };
        for (place, &slot) in self.running.iter().enumerate() {
            let request = &requests[slot];
            let first = by_priority * i64::from(request.priority);
            // Fewest tokens generated, then the longest prompt, then the last: packed so that one key sorts.
            let second = (i64::from(self.generated(slot, requests)) << 32) - i64::from(request.prompt_tokens);
            self.seats[slot.index()].rank = (-first, -second, place);
        }
        let seats = &self.seats;
        self.running.sort_unstable_by_key(|slot| seats[slot.index()].rank);
        let page = self.pool.page();
        let before = batch.preempted.len();
        while self.running.len() > 1 {
            let Some(slot) = self.running.pop() else { break };
            if (requests[slot].content.len() - 1).is_multiple_of(page) {
                needed -= u64::from(page);
            }
            self.retract(slot, self.running.len() as u64, requests, batch);
            self.pool.evict_to(needed);
            if self.pool.free >= needed {
                break;
            }
        }
        for at in before..batch.preempted.len() {
            self.enqueue(batch.preempted[at]);
        }
        let (mut generated, mut most) = (0, 0);
        for &slot in &self.running {
            generated += u64::from(self.generated(slot, requests));
            most += u64::from(self.seats[slot.index()].max_new);
        }
        self.ratio.learn(generated, self.running.len() as u64, most);
        self.full = false;
        needed
    }

    /// Takes a request's place: its tokens are forgotten, except those that were remembered before (`release_req`).
    pub(super) fn retract(&mut self, slot: Slot, others: u64, requests: &mut Requests, batch: &mut Batch) {
        let computed = requests[slot].content.len() - 1;
        if self.drop_in_flight(slot, requests) {
            let request = &mut requests[slot];
            request.preemptions += 1;
            request.computed_before = request.computed_before.max(computed);
            batch.preempted.push(slot);
        }
        let seat = &mut self.seats[slot.index()];
        (seat.context, seat.end, seat.matched) = (0, 0, 0);
        self.wasted -= self.pool.ceil(computed) - u64::from(computed);
        self.pool.release(&mut seat.held, computed);
        self.pool.evict_to(others * RETRACT_STEPS);
    }
}
