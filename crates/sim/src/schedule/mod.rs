//! How does each engine form a batch? One file (or folder) per scheduler, behind one trait.

mod opening;
pub mod plain;
pub mod sglang;
pub mod steps;
#[cfg(test)]
mod testing;
pub mod trtllm;
pub mod vllm;

use plimsoll_units::Nanos;

use crate::{Requests, Slot};

/// What one request does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which request.
    pub slot: Slot,
    /// Tokens that are computed.
    pub tokens: u32,
    /// Tokens of it that were in the cache before the step.
    pub context: u32,
}

/// What a step does, in the engine's own order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Requests with their tokens.
    pub entries: Vec<Entry>,
    /// Requests that run for the first time, with the tokens that a prefix cache had.
    pub new: Vec<(Slot, u32)>,
    /// Requests that run again after they lost their blocks, with the tokens that a prefix cache had.
    pub resumed: Vec<(Slot, u32)>,
    /// Requests that lost their blocks while the step was formed, in order.
    pub preempted: Vec<Slot>,
    /// Sequences that take part in the computation and generate nothing: the finished ones of a static batch.
    pub padding: u32,
}

impl Batch {
    /// Empties it for the next step, keeping the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.new.clear();
        self.resumed.clear();
        self.preempted.clear();
        self.padding = 0;
    }
}

/// Where the cache's room goes, in tokens' worth of slots. `capacity` = `used` + `cached` + free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// All there is.
    pub capacity: u64,
    /// In blocks (or reservations) that some request holds, shared ones counted once.
    pub used: u64,
    /// In blocks that nobody holds and whose content a later request may find.
    pub cached: u64,
    /// Of `used`: in the last, partly filled block of a request, or padding of a rounded-up reservation, and holding
    /// nothing (internal fragmentation).
    pub wasted: u64,
    /// Of `used`: set aside for tokens that may come later (a reservation of the longest output).
    pub reserved: u64,
    /// Of what is free: in holes that are too small for any request that waits (external fragmentation).
    pub stranded: u64,
}

/// Why a request is turned away for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, as a sentence's end: `its prompt of 9000 tokens is longer than max_model_len 8192`.
    pub why: String,
}

/// Forms batches. Told the time, never waits, never prints.
///
/// The run takes requests in (`add`), asks for a step (`schedule`), lets the cost model say how long it takes, adds the
/// generated tokens to the requests and tells of those that ended (`finish`), in the order of the batch's entries; then
/// `complete`. A request generates a token in the step that computes its last known token.
///
/// A *stretch* is a series of steps in which the same requests decode one token each and nothing else happens; the run
/// then calls `tick` once a step instead of `schedule`, at a cost that does not grow with the batch, and `settle` at the
/// end. Whether a run jumps or not must not change anything but its speed.
pub trait Scheduler {
    /// Takes a request into the waiting queue, or refuses it for good.
    ///
    /// # Errors
    /// The reason of a refusal.
    fn add(&mut self, slot: Slot, requests: &Requests) -> Result<(), Refusal>;

    /// Forms the next step in `batch`, which is empty; it may stay empty. Tokens that it computes count as computed from
    /// here on.
    fn schedule(&mut self, now: Nanos, requests: &mut Requests, batch: &mut Batch);

    /// Lets go of a request that generated its last token in the step that just ran. Its slot is used again afterwards,
    /// unless the scheduler [keeps](Self::keeps_ended) it.
    fn finish(&mut self, slot: Slot, requests: &Requests);

    /// Whether requests that ended stay known until the scheduler itself removes them from the [`Requests`], in a later
    /// `schedule`: where it learns a step's outcome late. Until then they count as running.
    fn keeps_ended(&self) -> bool {
        false
    }

    /// Whether it formed no step only because it did not know the last one's outcome, and is to be asked again at once.
    fn again(&self) -> bool {
        false
    }

    /// Is told that the step is over; `requests` hold the new tokens, finished ones are gone.
    fn complete(&mut self, _requests: &Requests, _batch: &Batch) {}

    /// Returns requests in the waiting queue.
    fn waiting(&self) -> usize;

    /// Returns requests that run.
    fn running(&self) -> usize;

    /// Returns the request at the head of the waiting queue, for messages.
    fn head(&self) -> Option<Slot>;

    /// Says what that request needs against what there is, as a sentence's end, where it can be said; for the message
    /// that nothing can go on.
    fn shortage(&mut self, _requests: &Requests) -> Option<String> {
        None
    }

    /// Returns the tokens at which a sequence ends, whatever was asked for.
    fn longest(&self) -> u32 {
        u32::MAX
    }

    /// Returns the blocks that could be handed out now, where there are blocks.
    fn free_blocks(&self) -> Option<u32> {
        None
    }

    /// Returns where the cache's room goes now.
    fn occupancy(&self) -> Occupancy;

    /// Names each request that holds room in the cache, with the tokens' worth of slots that it holds alone, in any order.
    /// What several requests hold, or is kept after a request's end, is the rest of [`Occupancy::used`]. Not asked for within
    /// a stretch.
    fn holders(&self, _requests: &Requests, _each: &mut dyn FnMut(Slot, u64)) {}

    /// Returns when it wants to be asked again although nothing arrives, where it forms no step and waits for a fuller
    /// batch.
    fn wake(&self) -> Option<Nanos> {
        None
    }

    /// Returns the sequences that take part in each step of a stretch and generate nothing: [`Batch::padding`] there.
    fn padding(&self) -> u32 {
        0
    }

    /// Begins a stretch: puts the requests that will decode into `decoding`, in the order of the steps' entries, and
    /// returns the most steps for which nothing else can happen (no end of a request, no admission, no preemption), as
    /// long as nothing arrives. 0 when there is none to be had.
    fn stretch(&mut self, _requests: &Requests, _decoding: &mut Vec<Slot>) -> u32 {
        0
    }

    /// Does one step of a stretch; false, with nothing done, when the stretch must end before it.
    fn tick(&mut self) -> bool {
        false
    }

    /// Ends a stretch after `steps` ticks; `requests` hold the new tokens.
    fn settle(&mut self, _requests: &Requests, _steps: u32) {}

    /// Checks every conservation law that it can, at any cost; for tests.
    ///
    /// # Panics
    /// When the books do not balance.
    fn verify(&self, _requests: &Requests) {}
}
