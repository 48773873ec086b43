//! Which waiting requests come in? One after the other, as long as the budget, the seats and the free blocks last.

use plimsoll_kv::Hit;

use super::{Probe, Runner, Seated, Trail, Vllm};
use crate::schedule::{Batch, Entry};
use crate::{Requests, Slot};

/// What would happen to a waiting request now.
pub(super) enum Attempt {
    /// It comes in, with tokens from the cache and tokens to compute.
    Admit {
        /// Tokens that need not be computed.
        cached: u32,
        /// Tokens of its first step.
        tokens: u32,
    },
    /// It waits until so many blocks are free.
    Blocked {
        /// Blocks.
        needed: u32,
    },
    /// Prompts are held back in this step.
    Deferred,
    /// Its prompt is longer than the budget's rest and may not be cut.
    TooLong,
}

impl Vllm {
    /// Admits waiting requests in order (vLLM v1/core/sched/scheduler.py, `schedule`: 0.11.0:335-545, 0.33.0:1050-1610).
    pub(super) fn admit(&mut self, requests: &mut Requests, batch: &mut Batch, threshold: u32, budget: &mut u32) {
        self.passed.clear();
        while *budget > 0 && self.running.len() < self.config.seats() {
            let Some(slot) = self.waiting.peek() else { break };
            match self.attempt(slot, threshold, *budget, requests) {
                Attempt::Admit { cached, tokens } => {
                    self.waiting.pop();
                    self.seat(slot, cached, tokens, requests, batch);
                    *budget -= tokens;
                }
                Attempt::Blocked { .. } | Attempt::Deferred => break,
                Attempt::TooLong if self.rules.passes_over_long => {
                    self.waiting.pop();
                    self.passed.push(slot);
                }
                Attempt::TooLong => break,
            }
        }
        // Those that were passed over come to the front again, the last of them first.
        for &slot in &self.passed {
            self.waiting.prepend(slot, requests);
        }
    }

    /// Looks a waiting request up in the cache and says whether it fits. Leaves what was found in the probe.
    pub(super) fn attempt(&mut self, slot: Slot, threshold: u32, budget: u32, requests: &Requests) -> Attempt {
        let request = &requests[slot];
        let known = request.content.len();
        let carried = self.waiters[slot.index()].carried;
        let Probe { number, trail, hit } = &mut self.probe;
        let cached = if carried > 0 || !self.cache.is_caching() {
            hit.clear(self.config.groups.len());
            carried
        } else {
            if *number != Some(request.number) {
                trail.clear();
                *number = Some(request.number);
            }
            // The last token is always computed: something must be sampled from.
            let hashes = trail.extend(request, (known - 1) / self.cache.hash_tokens());
            self.cache.lookup(hashes, known - 1, hit);
            hit.tokens
        };
        let mut tokens = known - cached;
        if tokens > 1 && self.cadence.defers() {
            return Attempt::Deferred;
        }
        if threshold > 0 {
            tokens = tokens.min(threshold);
        }
        if !self.config.chunked_prefill && tokens > budget {
            return Attempt::TooLong;
        }
        let tokens = tokens.min(budget);
        let longest = self.config.max_model_len;
        let mut needed = self.cache.needed_anew(cached.saturating_add(tokens).min(longest), hit, &[]);
        if self.config.reserve_full.unwrap_or(self.rules.reserves_full) {
            needed = needed.max(self.cache.needed_anew(known.min(longest), hit, &self.caps));
        }
        let watermark = if self.running.is_empty() { 0 } else { self.watermark };
        let needed = needed.saturating_add(watermark);
        if needed > self.cache.pool().free_blocks() {
            return Attempt::Blocked { needed };
        }
        Attempt::Admit { cached, tokens }
    }

    /// Says what the first waiting request lacks.
    pub(super) fn lack(&mut self, requests: &Requests) -> Option<String> {
        let slot = self.waiting.peek()?;
        let budget = self.config.budget();
        let attempt = self.attempt(slot, self.threshold_now(), budget, requests);
        let pool = self.cache.pool();
        let (free, all) = (pool.free_blocks(), pool.blocks() - 1);
        match attempt {
            Attempt::Blocked { needed } => Some(format!("it needs {needed} blocks, and {free} of {all} are free")),
            Attempt::TooLong => Some(format!("its prompt may not be cut, and a step has room for {budget} tokens")),
            Attempt::Deferred => None,
            Attempt::Admit { .. } => {
                // It begins again and again, and never comes to its end.
                let tokens = requests[slot].content.len();
                let mut hit = Hit::new();
                hit.clear(self.config.groups.len());
                let needed = self.cache.needed_anew(tokens.min(self.config.max_model_len), &hit, &self.caps);
                (needed > all).then(|| format!("its {tokens} tokens need up to {needed} blocks, and there are {all}"))
            }
        }
    }

    /// Lets in the request that was just attempted.
    fn seat(&mut self, slot: Slot, cached: u32, tokens: u32, requests: &mut Requests, batch: &mut Batch) {
        let (prompt, known) = (requests[slot].prompt_tokens, requests[slot].content.len());
        let reached = cached + tokens;
        let seat = self.cache.open();
        if seat.0 as usize == self.seated.len() {
            let trail = Trail::new(self.cache.hash_tokens());
            self.seated.push(Seated { trail, prompt: 0, junction: 0 });
        }
        let Seated { trail, prompt: of, junction } = &mut self.seated[seat.0 as usize];
        (*of, *junction) = (prompt, self.probe.hit.junction);
        if self.probe.number == Some(requests[slot].number) {
            std::mem::swap(trail, &mut self.probe.trail);
            self.probe.number = None;
        } else {
            trail.clear();
        }
        let waiter = &mut self.waiters[slot.index()];
        if waiter.preempted {
            batch.resumed.push((slot, cached));
        } else {
            batch.new.push((slot, cached));
            requests[slot].cached_tokens = cached;
        }
        waiter.carried = 0;
        self.cache.adopt(seat, &self.probe.hit);
        self.cache.grow(seat, reached.min(self.config.max_model_len));
        let room = self.room(seat);
        self.slack += room - self.groups() * i64::from(reached);
        self.remember(seat, slot, reached.min(known), requests);
        batch.entries.push(Entry { slot, tokens, context: cached });
        if cached < known - 1 {
            self.cadence.prefilled();
        }
        let partial = reached < known;
        let tokens = if partial { known } else { known + 1 };
        self.running.push(Runner { slot, seat: Some(seat), computed: reached, tokens, partial, due: 0 });
    }
}
