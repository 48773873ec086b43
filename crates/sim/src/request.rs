//! What is a request, from its arrival until its last token?

use std::ops::{Index, IndexMut};

use plimsoll_kv::Content;
use plimsoll_units::Nanos;

/// A request on its way in, as a workload describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it reaches the engine.
    pub at: Nanos,
    /// Its prompt; never empty.
    pub prompt: Content,
    /// Tokens that it will generate; at least 1. The scheduler must not look at it before they are there.
    pub output_tokens: u32,
    /// Tokens that it asks for at most (`max_tokens`), at least `output_tokens`: what schedulers may reserve by.
    pub max_tokens: u32,
    /// The stream of the tokens that it will generate, so that a later prompt can contain them.
    pub output_stream: u64,
    /// Lower is served earlier, by schedulers that look at it.
    pub priority: i32,
    /// Arrives together with an earlier request of equal prompt as another sample of it (parallel sampling): that
    /// request's number.
    pub sample_of: Option<u64>,
    /// The source's own mark (which client, which conversation); it comes back when the request ends.
    pub mark: u64,
}

/// Where a request lives while the engine knows it. Slots are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// Returns the slot's place in a table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A request that the engine knows.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which one, in order of arrival, from 0.
    pub number: u64,
    /// Prompt and what was generated so far.
    pub content: Content,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated so far.
    pub generated: u32,
    /// Tokens that it will generate. A scheduler must not decide by it.
    pub output_tokens: u32,
    /// Tokens that it asks for at most.
    pub max_tokens: u32,
    /// Stream of the generated tokens.
    pub output_stream: u64,
    /// Lower is served earlier, by schedulers that look at it.
    pub priority: i32,
    /// Number of the request of which it is another sample.
    pub sample_of: Option<u64>,
    /// The source's mark.
    pub mark: u64,
    /// When it arrived.
    pub arrived: Nanos,
    /// When the first step with some of its tokens began.
    pub scheduled: Option<Nanos>,
    /// When its first token was out.
    pub first_token: Option<Nanos>,
    /// When its newest token was out.
    pub last_token: Nanos,
    /// Prompt tokens that a prefix cache had when it was first scheduled.
    pub cached_tokens: u32,
    /// How often it lost its blocks.
    pub preemptions: u32,
    /// Tokens that were computed again after it lost its blocks.
    pub recomputed_tokens: u64,
    /// The most tokens of it that were in the cache when it lost its blocks: computing below is computing again.
    pub computed_before: u32,
}

impl Request {
    /// Whether all its tokens were generated.
    pub const fn is_done(&self) -> bool {
        self.generated >= self.output_tokens
    }

    /// Adds newly generated tokens.
    pub(crate) fn generate(&mut self, tokens: u32) {
        // What it generates, it generates at its end: only the first tokens begin a run.
        if self.generated == 0 || !self.content.try_grow(tokens) {
            self.content.push(self.output_stream, self.generated, tokens);
        }
        self.generated += tokens;
    }
}

/// The requests that the engine knows, by slot.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    slots: Vec<Request>,
    free: Vec<Slot>,
    next: u64,
}

impl Requests {
    /// Returns how many requests arrived so far: the next one's number.
    pub const fn arrived(&self) -> u64 {
        self.next
    }

    /// Returns how many slots there have ever been: every slot's index is below.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many requests are there now.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a request in.
    ///
    /// # Panics
    /// With 2^32 requests at once.
    pub fn insert(&mut self, arrival: Arrival) -> Slot {
        let request = Request {
            number: self.next,
            prompt_tokens: arrival.prompt.len(),
            content: arrival.prompt,
            generated: 0,
            output_tokens: arrival.output_tokens,
            max_tokens: arrival.max_tokens,
            output_stream: arrival.output_stream,
            priority: arrival.priority,
            sample_of: arrival.sample_of,
            mark: arrival.mark,
            arrived: arrival.at,
            scheduled: None,
            first_token: None,
            last_token: Nanos::ZERO,
            cached_tokens: 0,
            preemptions: 0,
            recomputed_tokens: 0,
            computed_before: 0,
        };
        self.next += 1;
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot.index()] = request;
                slot
            }
            None => {
                let slot = Slot(u32::try_from(self.slots.len()).expect("fewer than 2^32 requests at once"));
                self.slots.push(request);
                slot
            }
        }
    }

    /// Lets a request go; its slot is used again.
    pub fn remove(&mut self, slot: Slot) {
        self.slots[slot.index()].content = Content::new();
        self.free.push(slot);
    }
}

impl Index<Slot> for Requests {
    type Output = Request;

    fn index(&self, slot: Slot) -> &Request {
        &self.slots[slot.index()]
    }
}

impl IndexMut<Slot> for Requests {
    fn index_mut(&mut self, slot: Slot) -> &mut Request {
        &mut self.slots[slot.index()]
    }
}
