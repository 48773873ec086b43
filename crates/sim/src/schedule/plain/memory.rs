//! What does each request hold? Reservations of neighbouring slots; the paged kind is beside this file.

use std::collections::{BTreeMap, VecDeque};

use plimsoll_kv::{Buddy, Contiguous, Span};

use super::paged::Paged;
use super::{Config, Invalid, Layout};
use crate::schedule::Occupancy;
use crate::{Request, Requests, Slot};

/// What the cache has of a request that is about to be admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Tokens that need not be computed.
    pub tokens: u32,
    /// The sample whose prompt is forked.
    pub parent: Option<Slot>,
}

/// The cache.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    Reserved(Reserved),
    Paged(Paged),
}

impl Memory {
    pub(super) fn new(config: &Config) -> Result<Self, Invalid> {
        let longest = config.max_model_len;
        let (range, fixed) = match config.layout {
            Layout::Longest(fit) => (Range::Contiguous(Contiguous::new(config.slots, fit)), true),
            Layout::Asked(fit) => (Range::Contiguous(Contiguous::new(config.slots, fit)), false),
            Layout::Buddy => (Range::Buddy(Buddy::new(config.slots, 1)), false),
            Layout::Paged { block_tokens: 0 } => return Err(Invalid::Zero("block_tokens")),
            Layout::Paged { block_tokens } => return Paged::new(config, block_tokens).map(Memory::Paged),
        };
        let needed = range.size(longest).unwrap_or(u32::MAX);
        if needed > range.largest() {
            return Err(Invalid::Room { max_model_len: longest, needed, largest: range.largest() });
        }
        Ok(Memory::Reserved(Reserved {
            range,
            longest,
            fixed,
            held: Vec::new(),
            kept: Vec::new(),
            asked: 0,
            filled: 0,
            waiting: BTreeMap::new(),
            stranded: 0,
        }))
    }

    /// Is told that a request waits.
    pub(super) fn wait(&mut self, slot: Slot, request: &Request) {
        match self {
            Memory::Reserved(reserved) => reserved.wait(slot, request),
            Memory::Paged(paged) => paged.wait(slot),
        }
    }

    /// Returns what there is of a request, if it fits now.
    pub(super) fn fits(&self, request: &Request, computed: &[u32], requests: &Requests) -> Option<Found> {
        match self {
            Memory::Reserved(reserved) => reserved.fits(request).then(Found::default),
            Memory::Paged(paged) => paged.fits(request, computed, requests),
        }
    }

    /// Takes in a request that fits.
    pub(super) fn admit(&mut self, slot: Slot, request: &Request, found: Found) {
        match self {
            Memory::Reserved(reserved) => reserved.admit(slot, request),
            Memory::Paged(paged) => paged.admit(slot, request, found),
        }
    }

    /// Makes room for a request's first `tokens` tokens; false, with nothing done, when there is none.
    pub(super) fn cover(&mut self, slot: Slot, tokens: u32) -> bool {
        match self {
            Memory::Reserved(_) => true,
            Memory::Paged(paged) => paged.cover(slot, tokens),
        }
    }

    /// Counts tokens that are computed now.
    pub(super) fn fill(&mut self, tokens: u32) {
        match self {
            Memory::Reserved(reserved) => reserved.filled += u64::from(tokens),
            Memory::Paged(paged) => paged.fill(tokens),
        }
    }

    /// Gives everything back that a request holds.
    pub(super) fn release(&mut self, slot: Slot, request: &Request, computed: u32) {
        match self {
            Memory::Reserved(reserved) => {
                if let Some(span) = reserved.let_go(slot, request, computed) {
                    reserved.range.release(span);
                    reserved.look_for_stranded();
                }
            }
            Memory::Paged(paged) => paged.release(slot, request, computed),
        }
    }

    /// Keeps what a request holds for as long as its static batch runs, its tokens being of no use any more.
    pub(super) fn keep(&mut self, slot: Slot, request: &Request, computed: u32) {
        match self {
            Memory::Reserved(reserved) => {
                if let Some(span) = reserved.let_go(slot, request, computed) {
                    reserved.kept.push(span);
                }
            }
            Memory::Paged(paged) => paged.keep(slot, request, computed),
        }
    }

    /// Gives back what was kept; false when there was nothing.
    pub(super) fn drop_kept(&mut self) -> bool {
        match self {
            Memory::Reserved(reserved) => {
                let any = !reserved.kept.is_empty();
                for span in reserved.kept.drain(..) {
                    reserved.range.release(span);
                }
                reserved.look_for_stranded();
                any
            }
            Memory::Paged(paged) => paged.drop_kept(),
        }
    }

    /// Whether all that a request may need for its next tokens is new blocks.
    pub(super) fn is_ready(&self, slot: Slot, computed: u32) -> bool {
        match self {
            Memory::Reserved(_) => true,
            Memory::Paged(paged) => paged.is_ready(slot, computed),
        }
    }

    pub(super) fn stretch(&mut self, running: &[Slot], computed: &[u32]) {
        match self {
            Memory::Reserved(_) => {}
            Memory::Paged(paged) => paged.stretch(running, computed),
        }
    }

    pub(super) fn tick(&mut self, running: u32) -> bool {
        match self {
            Memory::Reserved(reserved) => {
                reserved.filled += u64::from(running);
                true
            }
            Memory::Paged(paged) => paged.tick(running),
        }
    }

    pub(super) fn settle(&mut self, running: &[Slot], steps: u32) {
        match self {
            Memory::Reserved(_) => {}
            Memory::Paged(paged) => paged.settle(running, steps),
        }
    }

    pub(super) fn free_blocks(&self) -> Option<u32> {
        match self {
            Memory::Reserved(_) => None,
            Memory::Paged(paged) => Some(paged.free_blocks()),
        }
    }

    /// Returns the tokens' worth of slots that a running request holds alone.
    pub(super) fn alone(&self, slot: Slot) -> u64 {
        match self {
            Memory::Reserved(reserved) => reserved.held[slot.index()].map_or(0, |span| u64::from(span.len)),
            Memory::Paged(paged) => paged.alone(slot),
        }
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        match self {
            Memory::Reserved(reserved) => reserved.occupancy(),
            Memory::Paged(paged) => paged.occupancy(),
        }
    }

    pub(super) fn verify(&self, running: &[Slot], waiting: &VecDeque<Slot>, computed: &[u32], requests: &Requests) {
        match self {
            Memory::Reserved(reserved) => reserved.verify(running, waiting, computed, requests),
            Memory::Paged(paged) => paged.verify(running, computed, requests),
        }
    }
}

/// Where reservations lie.
#[derive(Clone, Debug)]
enum Range {
    Contiguous(Contiguous),
    Buddy(Buddy),
}

impl Range {
    /// Returns the slots that a reservation for so many tokens takes.
    fn size(&self, tokens: u32) -> Option<u32> {
        match self {
            Range::Contiguous(_) => Some(tokens),
            Range::Buddy(range) => range.size(tokens),
        }
    }

    fn reserve(&mut self, tokens: u32) -> Option<Span> {
        match self {
            Range::Contiguous(range) => range.reserve(tokens),
            Range::Buddy(range) => range.reserve(tokens),
        }
    }

    fn release(&mut self, span: Span) {
        match self {
            Range::Contiguous(range) => range.release(span),
            Range::Buddy(range) => range.release(span),
        }
    }

    fn capacity(&self) -> u32 {
        match self {
            Range::Contiguous(range) => range.capacity(),
            Range::Buddy(range) => range.capacity(),
        }
    }

    fn free(&self) -> u32 {
        match self {
            Range::Contiguous(range) => range.free(),
            Range::Buddy(range) => range.free(),
        }
    }

    fn largest(&self) -> u32 {
        match self {
            Range::Contiguous(range) => range.largest(),
            Range::Buddy(range) => range.largest(),
        }
    }

    fn free_in_holes_below(&self, tokens: u32) -> u32 {
        match self {
            Range::Contiguous(range) => range.free_in_holes_below(tokens),
            Range::Buddy(range) => range.free_in_holes_below(tokens),
        }
    }

    fn verify(&self, held: impl Iterator<Item = Span>) {
        match self {
            Range::Contiguous(range) => range.verify(held),
            Range::Buddy(range) => range.verify(held),
        }
    }
}

/// Reservations of neighbouring slots. Of a reservation, `reserved` is what prompt and `max_tokens` have not filled yet,
/// and `wasted` what lies beyond them; a kept reservation of an ended request is wasted whole.
#[derive(Clone, Debug)]
pub(super) struct Reserved {
    range: Range,
    longest: u32,
    /// Whether every request is given room for the longest, whatever it asks for.
    fixed: bool,
    /// By slot.
    held: Vec<Option<Span>>,
    kept: Vec<Span>,
    /// Prompts and `max_tokens` of those that hold a reservation.
    asked: u64,
    /// Tokens of those in the cache.
    filled: u64,
    /// How many wait for each number of slots.
    waiting: BTreeMap<u32, u32>,
    /// Free slots in holes too small for any that waits.
    stranded: u32,
}

impl Reserved {
    /// Prompt and `max_tokens`, within the longest.
    fn asked(&self, request: &Request) -> u32 {
        request.prompt_tokens.saturating_add(request.max_tokens).min(self.longest)
    }

    fn needed(&self, request: &Request) -> u32 {
        if self.fixed { self.longest } else { self.asked(request) }
    }

    fn wait(&mut self, slot: Slot, request: &Request) {
        if slot.index() >= self.held.len() {
            self.held.resize(slot.index() + 1, None);
        }
        let first = self.waiting.first_key_value().map(|(&needed, _)| needed);
        let needed = self.needed(request);
        *self.waiting.entry(needed).or_insert(0) += 1;
        if first.is_none_or(|first| needed < first) {
            self.look_for_stranded();
        }
    }

    fn fits(&self, request: &Request) -> bool {
        self.range.size(self.needed(request)).is_some_and(|size| size <= self.range.largest())
    }

    fn admit(&mut self, slot: Slot, request: &Request) {
        let needed = self.needed(request);
        self.held[slot.index()] = self.range.reserve(needed);
        self.asked += u64::from(self.asked(request));
        if let Some(count) = self.waiting.get_mut(&needed) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&needed);
            }
        }
        self.look_for_stranded();
    }

    fn let_go(&mut self, slot: Slot, request: &Request, computed: u32) -> Option<Span> {
        self.asked -= u64::from(self.asked(request));
        self.filled -= u64::from(computed);
        self.held[slot.index()].take()
    }

    fn look_for_stranded(&mut self) {
        let least = self.waiting.first_key_value().map(|(&needed, _)| needed);
        self.stranded = least.map_or(0, |least| self.range.free_in_holes_below(least));
    }

    fn occupancy(&self) -> Occupancy {
        let used = u64::from(self.range.capacity() - self.range.free());
        Occupancy {
            capacity: self.range.capacity().into(),
            used,
            cached: 0,
            wasted: used - self.asked,
            reserved: self.asked - self.filled,
            stranded: self.stranded.into(),
        }
    }

    fn verify(&self, running: &[Slot], waiting: &VecDeque<Slot>, computed: &[u32], requests: &Requests) {
        self.range.verify(self.held.iter().flatten().chain(&self.kept).copied());
        assert_eq!(self.held.iter().flatten().count(), running.len(), "each running request has one reservation");
        for &slot in running {
            let span = self.held[slot.index()].unwrap_or_else(|| panic!("a running request has no reservation"));
            assert!(computed[slot.index()] < self.asked(&requests[slot]) && self.asked(&requests[slot]) <= span.len);
        }
        let sum = |of: &dyn Fn(&Slot) -> u32| running.iter().map(|slot| u64::from(of(slot))).sum::<u64>();
        assert_eq!(self.asked, sum(&|&slot| self.asked(&requests[slot])), "what is asked for is miscounted");
        assert_eq!(self.filled, sum(&|&slot| computed[slot.index()]), "what is filled is miscounted");
        let least = waiting.iter().map(|&slot| self.needed(&requests[slot])).min();
        let stranded = least.map_or(0, |least| self.range.free_in_holes_below(least));
        assert_eq!(self.stranded, stranded, "stranded slots are miscounted");
        assert_eq!(self.waiting.values().sum::<u32>() as usize, waiting.len());
    }
}
