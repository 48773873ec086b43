//! How is a step formed? The next one of a static batch, or the next iteration of a continuous one.

use plimsoll_units::Nanos;

use super::{Batching, Plain, Prefill};
use crate::schedule::{Batch, Entry};
use crate::{Requests, Slot};

impl Plain {
    /// Starts a static batch with what waits, or waits for more.
    pub(super) fn begin(&mut self, now: Nanos, wait: Nanos, requests: &mut Requests, batch: &mut Batch) {
        let Some(head) = self.head_slot() else { return };
        let due = requests[head].arrived + wait;
        // Those that lost their blocks do not wait for company again.
        let fresh = requests[head].scheduled.is_none();
        if fresh && now < due && self.waiting.len() < self.config.max_num_seqs as usize {
            self.wake = Some(due);
            return;
        }
        while self.running.len() < self.config.max_num_seqs as usize && self.admit(u32::MAX, false, requests, batch) > 0
        {
        }
    }

    /// Forms an iteration: the running requests first, then the next ones as far as places, tokens and memory allow.
    pub(super) fn iterate(&mut self, prefill: Prefill, requests: &mut Requests, batch: &mut Batch) {
        let (budget, chunked) = match prefill {
            Prefill::Whole { budget } => (budget.unwrap_or(u32::MAX), false),
            Prefill::Chunked { budget } => (budget, true),
        };
        let mut left = self.go_on(Some(budget), requests, batch);
        if !batch.preempted.is_empty() {
            return;
        }
        while left > 0 && self.running.len() < self.config.max_num_seqs as usize {
            match self.admit(left, chunked, requests, batch) {
                0 => break,
                tokens => left -= tokens,
            }
        }
    }

    /// Lets the running requests go on in the order of their admission, those that find no block left out from the newest
    /// on. Returns what is left of the budget.
    pub(super) fn go_on(&mut self, budget: Option<u32>, requests: &mut Requests, batch: &mut Batch) -> u32 {
        let mut left = budget.unwrap_or(u32::MAX);
        let mut at = 0;
        while at < self.running.len() {
            let slot = self.running[at];
            let context = self.computed[slot.index()];
            let tokens = (requests[slot].content.len() - context).min(left);
            if tokens == 0 {
                break;
            }
            if !self.memory.cover(slot, context + tokens) {
                if !self.memory.drop_kept() {
                    self.preempt(requests, batch);
                }
                continue;
            }
            batch.entries.push(Entry { slot, tokens, context });
            self.compute(slot, tokens);
            left -= tokens;
            at += 1;
        }
        left
    }

    /// Admits the request at the head of the queue. Returns the tokens of it that the step computes; 0 when it does not
    /// fit.
    fn admit(&mut self, left: u32, chunked: bool, requests: &mut Requests, batch: &mut Batch) -> u32 {
        let Some(slot) = self.head_slot() else { return 0 };
        let request = &requests[slot];
        let Some(found) = self.memory.fits(request, &self.computed, requests) else { return 0 };
        let remaining = request.content.len() - found.tokens;
        if remaining > left && !chunked {
            return 0;
        }
        self.memory.admit(slot, request, found);
        self.waiting.pop_front();
        self.running.push(slot);
        self.computed[slot.index()] = found.tokens;
        let tokens = remaining.min(left);
        batch.entries.push(Entry { slot, tokens, context: found.tokens });
        self.compute(slot, tokens);
        let request = &mut requests[slot];
        if request.scheduled.is_none() {
            request.cached_tokens = found.tokens;
            batch.new.push((slot, found.tokens));
        } else {
            batch.resumed.push((slot, found.tokens));
        }
        tokens
    }

    /// Takes the blocks of the request that was admitted last.
    fn preempt(&mut self, requests: &mut Requests, batch: &mut Batch) {
        let Some(slot) = self.running.pop() else { return };
        let computed = std::mem::take(&mut self.computed[slot.index()]);
        self.memory.release(slot, &requests[slot], computed);
        let request = &mut requests[slot];
        request.preemptions += 1;
        request.computed_before = request.computed_before.max(computed);
        self.waiting.push_front(slot);
        self.memory.wait(slot, &requests[slot]);
        batch.preempted.push(slot);
    }

    fn compute(&mut self, slot: Slot, tokens: u32) {
        self.computed[slot.index()] += tokens;
        self.memory.fill(tokens);
    }

    fn head_slot(&self) -> Option<Slot> {
        self.waiting.front().copied()
    }

    /// Whether the next iteration would admit a request while all running ones decode.
    pub(super) fn head_fits(&self, requests: &Requests) -> bool {
        let Some(slot) = self.head_slot() else { return false };
        if self.running.len() >= self.config.max_num_seqs as usize {
            return false;
        }
        let request = &requests[slot];
        let Some(found) = self.memory.fits(request, &self.computed, requests) else { return false };
        let remaining = u64::from(request.content.len() - found.tokens);
        match self.config.batching {
            Batching::Continuous(Prefill::Whole { budget: Some(budget) }) => {
                remaining + self.running.len() as u64 <= u64::from(budget)
            }
            Batching::Static { .. }
            | Batching::Continuous(Prefill::Whole { budget: None } | Prefill::Chunked { .. }) => true,
        }
    }
}
