//! Whose blocks fit? The first stage, one function for each policy.

use std::collections::BTreeMap;

use super::{Policy, TrtLlm};
use crate::{Requests, Slot};

impl TrtLlm {
    /// Fills `fitting` and `paused`.
    pub(super) fn choose(&mut self, requests: &Requests) {
        self.fitting.clear();
        self.paused.clear();
        self.contributed.clear();
        match self.config.policy {
            Policy::GuaranteedNoEvict => {
                self.contribute(requests);
                self.choose_to_completion(requests);
            }
            Policy::StaticBatch => self.choose_to_completion(requests),
            Policy::MaxUtilization => {
                self.contribute(requests);
                self.choose_for_a_step(requests);
            }
        }
    }

    /// Blocks that a request may still take until it has generated all it asks for.
    pub(super) fn remaining(&self, slot: Slot, requests: &Requests) -> u32 {
        let request = &requests[slot];
        let total = request.prompt_tokens.saturating_add(request.max_tokens).min(self.config.max_seq_len);
        total.div_ceil(self.config.tokens_per_block) - self.cache.held(slot)
    }

    /// The same for a request that generates; 0 for others.
    pub(super) fn promised(&self, slot: Slot, requests: &Requests) -> u32 {
        if self.cache.is_generating(slot) { self.remaining(slot, requests) } else { 0 }
    }

    fn choose_to_completion(&mut self, requests: &Requests) {
        let is_static = self.config.policy == Policy::StaticBatch;
        let mut available = u64::from(self.cache.free());
        for &slot in &self.active {
            if self.cache.is_generating(slot) {
                self.fitting.push(slot);
                available = available.saturating_sub(self.remaining(slot, requests).into());
            }
        }
        if is_static && !self.fitting.is_empty() {
            return;
        }
        for at in 0..self.active.len() {
            let slot = self.active[at];
            if self.cache.is_generating(slot) || (!is_static && self.better_later(slot, requests)) {
                continue;
            }
            let needed = u64::from(self.remaining(slot, requests));
            if needed > available {
                break;
            }
            available -= needed;
            self.fitting.push(slot);
        }
    }

    fn choose_for_a_step(&mut self, requests: &Requests) {
        let mut free = self.cache.free();
        let mut scheduled = 0;
        // References that pausing took in thought, of blocks that several hold.
        let mut taken = BTreeMap::new();
        let (mut at, mut end) = (0, self.active.len());
        while at < end {
            let slot = self.active[at];
            if self.better_later(slot, requests) {
                at += 1;
                continue;
            }
            let needed = self.cache.needed_for_a_step(slot, &requests[slot].content);
            if scheduled + needed <= free {
                scheduled += needed;
                self.fitting.push(slot);
                at += 1;
                continue;
            }
            let Some(last) = self.active[at..end].iter().rposition(|&slot| self.cache.is_started(slot)) else { break };
            end = at + last;
            free += self.cache.freed_by(self.active[end], &mut taken);
            self.paused.push(self.active[end]);
        }
    }

    /// Notes the blocks that requests in the middle of their prompts are about to compute.
    fn contribute(&mut self, requests: &Requests) {
        if !self.config.enable_block_reuse {
            return;
        }
        for &slot in &self.active {
            if self.cache.is_started(slot) && !self.cache.is_generating(slot) {
                self.contributed.extend(self.cache.next_new_block(slot, &requests[slot].content));
            }
        }
    }

    /// Whether a request that has not started had better wait for a block that another one is computing.
    fn better_later(&mut self, slot: Slot, requests: &Requests) -> bool {
        if !self.config.enable_block_reuse || self.cache.is_started(slot) {
            return false;
        }
        match self.cache.next_new_block(slot, &requests[slot].content) {
            Some(block) => !self.contributed.insert(block),
            None => false,
        }
    }

    /// Whether nobody but the generating requests would get on, for as long as they generate and none ends: what is free
    /// only shrinks, and what is free beside promises stays as it is.
    pub(super) fn others_stay_out(&self, requests: &Requests) -> bool {
        let Some(at) = self.active.iter().position(|&slot| !self.cache.is_generating(slot)) else { return true };
        let first = self.active[at];
        let is_prompt_underway = |&slot: &Slot| self.cache.is_started(slot) && !self.cache.is_generating(slot);
        match self.config.policy {
            Policy::StaticBatch => true,
            Policy::GuaranteedNoEvict => {
                let promised: u32 = self.decoding.iter().map(|&slot| self.remaining(slot, requests)).sum();
                let fits = self.remaining(first, requests) <= self.cache.free().saturating_sub(promised);
                !fits && !self.active.iter().any(is_prompt_underway)
            }
            Policy::MaxUtilization => {
                let needed = |&slot: &Slot| self.cache.needed_for_a_step(slot, &requests[slot].content);
                let scheduled: u32 = self.decoding.iter().map(needed).sum();
                // A request that does not fit has those paused that started behind it.
                let behind = self.active[at..].iter().any(|&slot| self.cache.is_started(slot));
                !behind && scheduled + needed(&first) > self.cache.free()
            }
        }
    }
}
