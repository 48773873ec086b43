//! What if a step is formed before the last one's outcome is known? SGLang's default loop (0.5.23,
//! `Scheduler.event_loop_overlap`, `_reqs_finishing_inflight`, `SchedulerBatchResultProcessor`).
//!
//! While a step computes, the next one is formed; only then the first one's outcome is taken in. So a request that ended
//! holds its place and its tokens for one more pass. Where it ended at its limit the engine foresees it and leaves it out of
//! the next step; otherwise it computes a token in vain. Estimates and the choice of who loses its place count one token
//! less than was generated. Who loses its place also loses the token that was in flight, and generates it again.
//!
//! Times are those of the simulation's loop all the same: a token is out when its step ends, requests that arrive until then
//! may be in the next one, and a pass without a step takes no time. Two things follow that the engine does otherwise: a
//! request whose last token is out is gone although the engine, knowing nothing, takes its place in the next pass and would
//! generate that token again; and a step in which nobody computes but those that have ended is left out.

use super::Sglang;
use crate::{Requests, Slot};

impl Sglang {
    /// Whether a request's newest token is not known yet while a step is formed.
    fn in_flight(&self, slot: Slot) -> bool {
        self.config.enable_overlap && self.seats[slot.index()].drawn + 1 == self.passes
    }

    /// Returns the generated tokens that are known of a request while a step is formed.
    pub(super) fn generated(&self, slot: Slot, requests: &Requests) -> u32 {
        requests[slot].generated - u32::from(self.in_flight(slot))
    }

    /// Leaves out of the running requests those that are known to end with the token in flight; says whether there are any.
    pub(super) fn leave_out(&mut self, requests: &Requests) -> bool {
        if self.flying.is_empty() {
            return false;
        }
        let (seats, before) = (&self.seats, self.running.len());
        self.running.retain(|slot| {
            let seat = &seats[slot.index()];
            seat.live || requests[*slot].generated < seat.max_new
        });
        let any = self.running.len() < before;
        self.full &= !any;
        any
    }

    /// Takes the token in flight from a request that loses its place; false where that was its last, and it is gone.
    pub(super) fn drop_in_flight(&mut self, slot: Slot, requests: &mut Requests) -> bool {
        if !self.in_flight(slot) {
            return true;
        }
        self.flying.retain(|other| *other != slot);
        if !self.seats[slot.index()].live {
            requests.remove(slot);
            return false;
        }
        let request = &mut requests[slot];
        request.content.truncate(request.content.len() - 1);
        request.generated -= 1;
        self.seats[slot.index()].drawn = 0;
        if request.generated == 0 {
            request.first_token = None;
        }
        true
    }

    /// Notes of the step that just ran what is to be done when its outcome is known.
    pub(super) fn fly(&mut self) {
        let (seats, chunk) = (&self.seats, self.chunk);
        let ended = std::mem::take(&mut self.left);
        if self.after_prefill {
            let (prefilled, decoded) = self.last.split_at(std::mem::take(&mut self.prefilled));
            self.flying.extend(prefilled.iter().filter(|slot| Some(**slot) != chunk));
            self.flying.extend(decoded.iter().filter(|slot| !seats[slot.index()].live));
        } else if ended {
            self.flying.extend(self.running.iter().filter(|slot| !seats[slot.index()].live));
        }
    }

    /// Takes in the outcome of the step before the one that was just formed: remembers what it prefilled and lets go of
    /// those that ended.
    pub(super) fn learn_outcome(&mut self, requests: &mut Requests) {
        for at in 0..self.flying.len() {
            let slot = self.flying[at];
            let seat = &mut self.seats[slot.index()];
            if seat.live {
                self.pool.checkpoint(&mut seat.held, &requests[slot], seat.end);
                seat.context = seat.end;
                continue;
            }
            let computed = requests[slot].content.len() - 1 + seat.vain;
            self.wasted -= self.pool.ceil(computed) - u64::from(computed);
            self.pool.checkpoint(&mut seat.held, &requests[slot], computed);
            self.pool.release(&mut seat.held, computed);
            requests.remove(slot);
            self.shrunk = true;
        }
        self.flying.clear();
        if self.shrunk {
            let seats = &self.seats;
            self.running.retain(|slot| seats[slot.index()].live);
            self.last.retain(|slot| seats[slot.index()].live);
        }
    }
}
