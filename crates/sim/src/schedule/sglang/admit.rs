//! Who comes in? Prefill batches as SGLang forms them (0.5.23, `managers/schedule_policy.py`, `PrefillAdder`, and
//! `Scheduler._get_new_batch_prefill_raw`).

use super::{Admitted, Seat, Sglang};
use crate::schedule::{Batch, Entry};
use crate::{Requests, Slot};

/// Generated tokens beyond which nobody is expected to need more (`SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION`).
const CLIP: u32 = 4096;

/// Whether to try the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Continue,
    NoToken,
    Other,
}

/// What is left for a prefill step.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Tokens promised, to running requests' outputs too.
    total: f64,
    /// Tokens promised at once.
    current: i64,
    input: i64,
    chunk: Option<i64>,
}

impl Sglang {
    /// Forms a prefill step; false when there is none.
    pub(super) fn prefill(&mut self, requests: &mut Requests, batch: &mut Batch) -> bool {
        if self.preempts() || self.running.is_empty() {
            self.full = false;
        }
        if (self.full || self.waiting.is_empty()) && self.chunk.is_none() {
            return false;
        }
        let seats = self.config.max_running_requests as usize;
        if self.running.len() >= seats && self.chunk.is_none() && !self.preempts() {
            self.full = true;
            return false;
        }
        self.order.arrange(&mut self.waiting, &mut self.seats, &mut self.pool, requests);
        let mut budget = self.budget(requests);
        self.admitted.clear();
        self.ousted.clear();
        self.lengths_known = false;
        let chunk = self.chunk;
        if let Some(slot) = chunk {
            self.go_on(slot, &mut budget, requests);
        }
        self.admit(&mut budget, requests, batch);
        let newcomers = self.admitted.iter().filter(|admitted| Some(admitted.slot) != chunk).count();
        let formed = !self.admitted.is_empty() && self.allocate(chunk);
        if formed {
            self.waiting.drain(..newcomers);
        }
        for at in 0..self.ousted.len() {
            self.enqueue(self.ousted[at]);
        }
        if formed {
            self.seat(chunk, requests, batch);
            self.mix(requests, batch);
            self.after_prefill = true;
            self.defer = self.config.prefill_decode_interval;
        }
        formed
    }

    /// Whether running requests may lose their places to more important ones.
    pub(super) const fn preempts(&self) -> bool {
        self.config.enable_priority_scheduling && !self.config.disable_priority_preemption
    }

    /// Returns what there is before anybody comes in.
    fn budget(&self, requests: &Requests) -> Budget {
        let mixed = if self.mixes() { self.running.len() as i64 } else { 0 };
        let promised: f64 = self.running.iter().map(|&slot| self.promised(slot, requests)).sum();
        Budget {
            total: mixed as f64 + promised,
            current: mixed,
            input: i64::from(self.config.max_prefill_tokens) - mixed,
            chunk: self.config.chunked_prefill_size.map(|chunk| i64::from(chunk) - mixed),
        }
    }

    const fn mixes(&self) -> bool {
        self.config.enable_mixed_chunk && self.config.chunked_prefill_size.is_some()
    }

    /// Returns the tokens that a running request is expected to still need.
    fn promised(&self, slot: Slot, requests: &Requests) -> f64 {
        let ratio = if self.config.ignore_eos { 1.0 } else { self.ratio.now };
        let left = i64::from(self.seats[slot.index()].max_new) - i64::from(self.generated(slot, requests));
        left.min(i64::from(CLIP)) as f64 * ratio
    }

    fn remaining(&self) -> u64 {
        self.pool.free + self.pool.evictable()
    }

    fn remaining_total(&self, budget: &Budget) -> f64 {
        self.remaining() as f64 - budget.total
    }

    fn remaining_current(&self, budget: &Budget) -> i64 {
        self.remaining() as i64 - budget.current
    }

    fn verdict(&self, budget: &Budget) -> Verdict {
        if self.remaining_total(budget) <= 0.0 || self.remaining_current(budget) <= 0 {
            Verdict::NoToken
        } else if budget.input <= 0 || budget.chunk.is_some_and(|chunk| chunk <= 0) {
            Verdict::Other
        } else {
            Verdict::Continue
        }
    }

    /// Charges a request that came in.
    fn charge(&self, budget: &mut Budget, tokens: u32, output: u32) {
        let tokens = self.pool.ceil(tokens) as i64;
        let at_once = tokens + i64::from(self.pool.page());
        budget.total += (at_once + i64::from(output)) as f64;
        budget.current += at_once;
        budget.input -= tokens;
        budget.chunk = budget.chunk.map(|chunk| chunk - tokens);
    }

    /// Lets the request whose prompt is computed in pieces go on (`add_chunked_req`).
    fn go_on(&mut self, slot: Slot, budget: &mut Budget, requests: &Requests) {
        let Some(limit) = budget.chunk else { return };
        let available = limit.min(self.remaining_total(budget) as i64);
        let most = if available > 0 { available } else { limit };
        // The engine has no word for a step without room for a single token; the request waits here.
        let Ok(most @ 1..) = u32::try_from(most.min(i64::from(u32::MAX))) else { return };
        let seat = &self.seats[slot.index()];
        let left = requests[slot].content.len() - seat.context;
        let tokens = left.min(most);
        let output = if left > most { 0 } else { seat.max_new.min(CLIP) };
        self.admitted.push(Admitted { slot, tokens });
        self.charge(budget, tokens, output);
        self.chunk = (left > most).then_some(slot);
    }

    /// Admits waiting requests until the first that does not fit.
    fn admit(&mut self, budget: &mut Budget, requests: &mut Requests, batch: &mut Batch) {
        let seats = self.config.max_running_requests as usize;
        for at in 0..self.waiting.len() {
            let slot = self.waiting[at];
            if self.verdict(budget) == Verdict::Other {
                break;
            }
            if self.admitted.len() + self.running.len() >= seats {
                self.full = true;
            }
            if self.full && !(self.preempts() && self.oust(slot, budget, requests, batch)) {
                break;
            }
            self.look_up(slot, requests);
            match self.add(slot, budget, requests) {
                Verdict::Continue => {}
                Verdict::NoToken => {
                    self.full = !self.admitted.is_empty() || !self.running.is_empty();
                    break;
                }
                Verdict::Other => break,
            }
        }
    }

    /// Finds what is cached of a waiting request; its last token is always computed (`init_next_round_input`).
    fn look_up(&mut self, slot: Slot, requests: &Requests) {
        let (seat, request) = (&mut self.seats[slot.index()], &requests[slot]);
        let known = request.content.len();
        seat.context = self.pool.find(&mut seat.held, request, known - 1);
        seat.held.protected = seat.context;
        seat.known = known;
    }

    /// Tries to admit a request, and says whether to try the next one (`add_one_req`).
    fn add(&mut self, slot: Slot, budget: &mut Budget, requests: &Requests) -> Verdict {
        if self.config.prefill_max_requests.is_some_and(|most| self.admitted.len() >= most as usize) {
            return Verdict::Other;
        }
        if self.config.ignore_eos && self.config.disable_radix_cache {
            return self.add_by_length(slot, budget, requests);
        }
        // While it is looked at, what it would share cannot be evicted.
        self.pool.lock(&mut self.seats[slot.index()].held);
        match self.select(slot, budget, requests) {
            Ok((tokens, output)) => {
                self.admitted.push(Admitted { slot, tokens });
                self.charge(budget, tokens, output);
                self.verdict(budget)
            }
            Err(verdict) => {
                self.pool.unlock(&mut self.seats[slot.index()].held);
                verdict
            }
        }
    }

    /// Says how many tokens of a request are computed and how many outputs are reserved (`_select_prefill_admission`).
    fn select(&mut self, slot: Slot, budget: &Budget, requests: &Requests) -> Result<(u32, u32), Verdict> {
        let seat = &self.seats[slot.index()];
        let page = self.pool.page();
        let tokens = requests[slot].content.len() - seat.context;
        let output = seat.max_new.saturating_sub(requests[slot].generated).min(CLIP);
        let total = u64::from(tokens) + u64::from(output) + u64::from(page);
        if total as f64 >= self.remaining_total(budget) {
            return Err(Verdict::NoToken);
        }
        let paged = self.pool.ceil(tokens) as i64;
        match budget.chunk {
            None if !self.admitted.is_empty() && paged >= budget.input => Err(Verdict::Other),
            Some(chunk) if paged > chunk => {
                let whole = u32::try_from(chunk).unwrap_or(0) / page * page;
                let end = seat.context.saturating_add(whole) / page * page;
                let piece = end.saturating_sub(seat.context);
                if piece == 0 || self.chunk.is_some() {
                    return Err(Verdict::Other);
                }
                self.chunk = Some(slot);
                Ok((piece, 0))
            }
            None | Some(_) => Ok((tokens, seat.max_new.min(CLIP))),
        }
    }

    /// Tries to admit a request whose output is known to be as long as it may be and of which nothing is remembered:
    /// by when each running request will end (`add_one_req_ignore_eos`).
    fn add_by_length(&mut self, slot: Slot, budget: &mut Budget, requests: &Requests) -> Verdict {
        let tokens = requests[slot].content.len() - self.seats[slot.index()].context;
        let paged = self.pool.ceil(tokens) as i64 + i64::from(self.pool.page());
        let current = self.remaining_current(budget);
        if paged as f64 > (current as f64).min(self.remaining_total(budget)) {
            return Verdict::NoToken;
        }
        self.note_lengths(slot, requests);
        let mut room = current - paged;
        for (at, (left, held)) in self.lengths.iter().enumerate() {
            let others = (self.lengths.len() - at) as i64;
            if room - left * others <= others {
                return Verdict::NoToken;
            }
            room += held;
        }
        let output = self.seats[slot.index()].max_new.min(CLIP);
        match budget.chunk {
            Some(chunk) if i64::from(tokens) > chunk => {
                let Ok(piece @ 1..) = u32::try_from(chunk) else { return Verdict::Other };
                if self.chunk.is_some() {
                    return Verdict::Other;
                }
                self.chunk = Some(slot);
                self.admitted.push(Admitted { slot, tokens: piece });
                self.charge(budget, piece, 0);
            }
            None | Some(_) => {
                self.admitted.push(Admitted { slot, tokens });
                self.charge(budget, tokens, output);
            }
        }
        self.verdict(budget)
    }

    /// Notes what a request that is tried still needs and holds, beside all that run. The engine puts one that needs the
    /// most before the last and not behind it.
    fn note_lengths(&mut self, slot: Slot, requests: &Requests) {
        let known = std::mem::replace(&mut self.lengths_known, true);
        let mut lengths = std::mem::take(&mut self.lengths);
        let length = |slot: Slot| {
            let generated = i64::from(self.generated(slot, requests));
            let left = i64::from(self.seats[slot.index()].max_new) - generated;
            (left, i64::from(requests[slot].prompt_tokens) + generated)
        };
        let new = length(slot);
        if !known {
            let others = self.running.iter().copied().chain(self.admitted.iter().map(|admitted| admitted.slot));
            lengths.clear();
            lengths.extend([new].into_iter().chain(others.map(length)).filter(|(left, _)| *left > 0));
            lengths.sort_by_key(|(left, _)| *left);
        } else if new.0 > 0 {
            let last = lengths.len().saturating_sub(1);
            let place = lengths.iter().position(|(left, _)| new.0 <= *left).unwrap_or(last);
            lengths.insert(place, new);
        }
        self.lengths = lengths;
    }

    /// Takes the places of less important running requests for a waiting one (`preempt_to_schedule`).
    fn oust(&mut self, slot: Slot, budget: &mut Budget, requests: &mut Requests, batch: &mut Batch) -> bool {
        let sign = if self.config.schedule_low_priority_values_first { 1 } else { -1 };
        let mut running: Vec<(i64, i64, Slot)> = Vec::with_capacity(self.running.len());
        for &slot in &self.running {
            let entered = self.seats[slot.index()].entered as i64;
            running.push((-sign * i64::from(requests[slot].priority), -entered, slot));
        }
        running.sort_unstable_by_key(|(priority, entered, _)| (*priority, *entered));
        let seat = &self.seats[slot.index()];
        // What was known of it when it was last tried; nothing at first.
        let input = i64::from(seat.known) - i64::from(seat.context);
        let mut needed = (input + i64::from(seat.max_new.min(CLIP))) as f64 - self.remaining_total(budget);
        let mut found = 0;
        for &(_, _, other) in &running {
            let ahead = -sign * (i64::from(requests[slot].priority) - i64::from(requests[other].priority));
            if ahead <= i64::from(self.config.priority_scheduling_preemption_threshold) {
                break;
            }
            found += 1;
            needed -= self.promised(other, requests);
            if needed <= 0.0 {
                break;
            }
        }
        if found == 0 || needed > 0.0 {
            return false;
        }
        let victims: Vec<Slot> = running[..found].iter().map(|(_, _, slot)| *slot).collect();
        let all = self.running.len();
        let mut released = 0;
        for at in 0..all {
            let other = self.running[at];
            if victims.contains(&other) {
                budget.total -= self.promised(other, requests);
                released += 1;
                self.retract(other, (all - released) as u64, requests, batch);
            }
        }
        self.running.retain(|slot| !victims.contains(slot));
        self.ousted.extend(victims.iter().filter(|slot| self.seats[slot.index()].live));
        true
    }

    /// Takes pages for all that came in; false, with everybody back where they were, when there are too few. The engine
    /// stops with "Prefill out of memory" there.
    fn allocate(&mut self, chunk: Option<Slot>) -> bool {
        let page = u64::from(self.pool.page());
        let (mut tokens, mut exact) = (0, 0);
        for admitted in &self.admitted {
            let context = self.seats[admitted.slot.index()].context;
            tokens += u64::from(admitted.tokens);
            exact += self.pool.ceil(context + admitted.tokens) - self.pool.ceil(context);
        }
        // Pages may be begun by each of them; so many are made free.
        let asked = if page == 1 { tokens } else { tokens + self.admitted.len() as u64 * page };
        self.pool.evict_to(asked);
        if self.pool.free >= exact {
            self.pool.free -= exact;
            return true;
        }
        for admitted in &self.admitted {
            if Some(admitted.slot) != chunk {
                self.pool.unlock(&mut self.seats[admitted.slot.index()].held);
            }
        }
        self.chunk = chunk;
        false
    }

    /// Puts all that came in into the batch.
    fn seat(&mut self, chunk: Option<Slot>, requests: &mut Requests, batch: &mut Batch) {
        self.last.clear();
        for &Admitted { slot, tokens } in &self.admitted {
            let seat: &mut Seat = &mut self.seats[slot.index()];
            let context = seat.context;
            seat.end = context + tokens;
            let request = &mut requests[slot];
            if seat.end == request.content.len() {
                seat.drawn = self.passes;
            }
            if Some(slot) != chunk {
                if request.preemptions > 0 {
                    batch.resumed.push((slot, context));
                } else {
                    batch.new.push((slot, context));
                    request.cached_tokens = context;
                }
            }
            let before = if Some(slot) == chunk { self.pool.ceil(context) - u64::from(context) } else { 0 };
            self.wasted = self.wasted + self.pool.ceil(seat.end) - u64::from(seat.end) - before;
            batch.entries.push(Entry { slot, tokens, context });
            self.last.push(slot);
        }
        self.prefilled = self.last.len();
    }

    /// Lets running requests take part in a prefill step, where the pool has room for them (`mix_with_running`).
    fn mix(&mut self, requests: &Requests, batch: &mut Batch) {
        if !self.mixes() || self.running.is_empty() {
            return;
        }
        self.leave_out(requests);
        if self.running.is_empty() {
            return;
        }
        let needed = self.decode_tokens(requests);
        self.pool.evict_to(needed);
        if self.pool.free < needed {
            return;
        }
        self.decode_step(needed);
        self.decode_entries(requests, batch);
        self.last.append(&mut self.running);
    }
}
