//! How does SGLang form a batch? Release 0.5.23, rule by rule: prefill before decode, a prefix cache by radix tree, prompts
//! in pieces, admission by an estimate of what running requests still need, and retraction when that was too little.
//!
//! With overlap, the engine's default, a step is formed before the last one's outcome is known; see `overlap`. One rank: no
//! data-parallel attention, no pipeline, no speculation; one pool: models with sliding windows as if every layer kept
//! everything (`--disable-hybrid-swa-memory`).
//!
//! Sources: `srt/managers/scheduler.py` (`get_next_batch_to_run`, `_get_new_batch_prefill_raw`, `update_running_batch`),
//! `schedule_policy.py`, `schedule_batch.py`, `scheduler_components/batch_result_processor.py`, `mem_cache/common.py`,
//! `prefill_budget.py`, `unified_radix_cache.py`, `allocation.py`.
//!
//! ```
//! use plimsoll_kv::Content;
//! use plimsoll_sim::schedule::sglang::{Config, Sglang};
//! use plimsoll_sim::{Arrival, Settings, cost::Fixed, load::List, run};
//! use plimsoll_units::Nanos;
//!
//! struct Silent;
//! impl plimsoll_sim::Watch for Silent {}
//!
//! let mut prompt = Content::new();
//! prompt.push(1, 0, 5000);
//! let arrival = Arrival {
//!     at: Nanos::ZERO, prompt, output_tokens: 10, max_tokens: 20, output_stream: 2, priority: 0, sample_of: None, mark: 0,
//! };
//! let mut engine = Sglang::new(Config::new(100_000, 256, Some(2048)))?;
//! let mut source = List::new(vec![arrival]);
//! let outcome = run(&mut engine, &mut Fixed(Nanos::new(1000)), &mut source, &mut Silent, Settings::default())?;
//! // Three steps for the prompt, the last with the first token, and nine more.
//! assert_eq!((outcome.finished, outcome.steps), (1, 12));
//! # Ok::<(), plimsoll_sim::Error>(())
//! ```

mod admit;
mod config;
mod decode;
mod order;
mod overlap;
mod pool;
mod ratio;

use std::collections::VecDeque;

use plimsoll_units::Nanos;

pub use config::{Config, Policy, Retraction};
use order::Order;
use pool::{Held, Pool};
use ratio::Ratio;

use super::{Batch, Occupancy, Refusal, Scheduler};
use crate::{Error, Request, Requests, Slot};

/// Decode steps for which room is made when a request loses its place (`SGLANG_RETRACT_DECODE_STEPS`).
const RETRACT_STEPS: u64 = 20;

/// What the scheduler knows of a request.
#[derive(Clone, Copy, Debug)]
struct Seat {
    held: Held,
    /// Tokens in the pool before its next piece of prefill.
    context: u32,
    /// Tokens in the pool after its last piece of prefill.
    end: u32,
    /// Tokens that it had when it was last tried.
    known: u32,
    /// Tokens that were found cached when the queue was last sorted.
    matched: u32,
    /// Whether an earlier request in the queue begins alike, so that waiting for it saves work.
    put_off: bool,
    /// Tokens that it may generate.
    max_new: u32,
    /// Its place in the order in which requests came into the queue.
    entered: u64,
    /// Where it stands in a sort.
    rank: (i64, i64, usize),
    /// The last pass in whose step it generated a token.
    drawn: u64,
    /// 1 where it took part in a step after it ended.
    vain: u32,
    live: bool,
}

/// A request that comes into a prefill step, with the tokens computed.
#[derive(Clone, Copy, Debug)]
struct Admitted {
    slot: Slot,
    tokens: u32,
}

/// SGLang's scheduler, release 0.5.23.
#[derive(Debug)]
pub struct Sglang {
    config: Config,
    pool: Pool,
    order: Order,
    ratio: Ratio,
    seats: Vec<Seat>,
    waiting: VecDeque<Slot>,
    /// Requests that decode, without those of the last prefill step.
    running: Vec<Slot>,
    /// Requests of the last step, where it was a prefill step: those that it prefilled, then those that decoded in it.
    last: Vec<Slot>,
    /// How many of these were prefilled, and how many of these were remembered already.
    prefilled: usize,
    remembered: usize,
    after_prefill: bool,
    /// The request whose prompt is computed in pieces.
    chunk: Option<Slot>,
    /// Whether nobody else is tried until somebody leaves (`batch_is_full`).
    full: bool,
    /// Decode steps until the next prefill step is tried.
    defer: u32,
    /// Requests that came into the queue so far.
    entries: u64,
    /// When the last request ended.
    ended: Nanos,
    /// Whether requests ended in the last step.
    left: bool,
    /// How often a step was tried so far.
    passes: u64,
    /// With overlap: of the last step, those whose outcome changes what is held, in order.
    flying: Vec<Slot>,
    /// With overlap: whether requests left at the end of the last pass.
    shrunk: bool,
    again: bool,
    /// Tokens in begun pages that hold nothing.
    wasted: u64,
    admitted: Vec<Admitted>,
    ousted: Vec<Slot>,
    /// What each request still needs and holds, in order of the former, while a prefill step is formed.
    lengths: Vec<(i64, i64)>,
    lengths_known: bool,
    /// Running requests by their tokens within the last page, when the stretch began.
    phases: Vec<u32>,
    ticks: u32,
}

impl Sglang {
    /// Starts with an empty pool.
    ///
    /// # Errors
    /// [`Error::Settings`] where the engine would not start, or does what is not simulated.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Sglang {
            pool: Pool::new(&config),
            order: Order::new(&config),
            ratio: Ratio::new(config.schedule_conservativeness),
            config,
            seats: Vec::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            last: Vec::new(),
            prefilled: 0,
            remembered: 0,
            after_prefill: false,
            chunk: None,
            full: false,
            defer: 0,
            entries: 0,
            ended: Nanos::ZERO,
            left: false,
            // So that nobody's token came in the pass before the first.
            passes: 1,
            flying: Vec::new(),
            shrunk: false,
            again: false,
            wasted: 0,
            admitted: Vec::new(),
            ousted: Vec::new(),
            lengths: Vec::new(),
            lengths_known: false,
            phases: Vec::new(),
            ticks: 0,
        })
    }

    /// Returns the settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the share of their outputs that running requests are expected to still need (`new_token_ratio`).
    pub const fn new_token_ratio(&self) -> f64 {
        self.ratio.now
    }

    /// Returns the tokens of the pool that are free, and those that are cached and that nobody holds.
    pub fn available(&self) -> (u64, u64) {
        (self.pool.free, self.pool.evictable())
    }

    /// Returns the tokens of the longest request (`max_req_len`).
    fn longest_request(&self) -> u64 {
        self.config.context_length.map_or(u64::MAX, u64::from).min(self.pool.capacity).saturating_sub(1)
    }

    /// Returns the tokens that a request may generate (`init_req_max_new_tokens`), or why it may not come in.
    fn may_generate(&self, request: &Request) -> Result<u32, Refusal> {
        let refuse = |why: String| Err(Refusal { why });
        let capacity = self.pool.capacity;
        let longest = self.longest_request();
        let prompt = u64::from(request.prompt_tokens);
        if prompt >= longest.saturating_sub(5) {
            return refuse(format!(
                "its prompt of {prompt} tokens is not below the longest input, {}",
                longest.saturating_sub(5)
            ));
        }
        let page = u64::from(self.pool.page());
        let room =
            (longest - prompt - 1).min(capacity.saturating_sub(self.pool.ceil(request.prompt_tokens) + page + 1));
        if room < u64::from(request.output_tokens) {
            return refuse(format!("its output of {} tokens would be cut at {room}", request.output_tokens));
        }
        let most = u64::from(request.max_tokens).min(room);
        if self.config.ignore_eos
            && self.config.disable_radix_cache
            && most == capacity - self.pool.ceil(request.prompt_tokens) - page - 1
        {
            // Clipped to what the pool holds, it fails the strict comparison of admission by length for ever.
            return refuse(format!(
                "{most} tokens of output after its prompt leave less than two of the pool's {capacity}"
            ));
        }
        Ok(most as u32)
    }

    /// Puts a request at the end of the queue.
    fn enqueue(&mut self, slot: Slot) {
        self.seats[slot.index()].entered = self.entries;
        self.entries += 1;
        self.waiting.push_back(slot);
    }

    /// Lets those that were prefilled in the last step run, and remembers the piece of the prompt that is in pieces.
    fn merge(&mut self, requests: &Requests) {
        if let Some(slot) = self.chunk {
            let seat = &mut self.seats[slot.index()];
            if seat.end > seat.context {
                self.pool.checkpoint(&mut seat.held, &requests[slot], seat.end);
                seat.context = seat.end;
            }
        }
        if !std::mem::take(&mut self.after_prefill) {
            return;
        }
        if let Some(chunk) = self.chunk {
            self.last.retain(|slot| *slot != chunk);
            self.full = false;
        }
        if self.running.is_empty() && !self.last.is_empty() {
            std::mem::swap(&mut self.running, &mut self.last);
            self.full = false;
        } else {
            self.running.append(&mut self.last);
        }
    }

    /// Remembers what was prefilled in the last step, in order, up to a request that ended (`process_batch_result_prefill`).
    fn remember(&mut self, until: Option<Slot>, requests: &Requests) {
        while let Some(&slot) = self.last[..self.prefilled].get(self.remembered) {
            self.remembered += 1;
            if Some(slot) == until {
                return;
            }
            let seat = &mut self.seats[slot.index()];
            if Some(slot) != self.chunk {
                self.pool.checkpoint(&mut seat.held, &requests[slot], seat.end);
                seat.context = seat.end;
            }
        }
    }

    /// Whether decode steps come before the next prefill step is tried (`_should_defer_prefill`).
    const fn defers(&mut self) -> bool {
        if self.defer == 0 {
            return false;
        }
        // With nobody to decode the engine passes the interval without a step.
        if self.running.is_empty() || self.running.len() < self.config.prefill_decode_interval_min_bs as usize {
            self.defer = 0;
            return false;
        }
        self.defer -= 1;
        true
    }

    /// Returns the requests that hold something, with their tokens in the pool.
    fn seated<'a>(&'a self, requests: &'a Requests) -> impl Iterator<Item = (Slot, u32)> + 'a {
        let decoding = self.running.iter().chain(&self.last).filter(|slot| Some(**slot) != self.chunk);
        let decoding = decoding.map(|&slot| (slot, requests[slot].content.len() - 1));
        decoding.chain(self.chunk.map(|slot| (slot, self.seats[slot.index()].end)))
    }
}

impl Scheduler for Sglang {
    fn add(&mut self, slot: Slot, requests: &Requests) -> Result<(), Refusal> {
        let request = &requests[slot];
        let max_new = self.may_generate(request)?;
        if self.waiting.is_empty() && self.running() == 0 && request.arrived > self.ended {
            self.ratio.reset();
        }
        let seat = Seat {
            held: Held::NOTHING,
            context: 0,
            end: 0,
            known: 0,
            matched: 0,
            put_off: false,
            max_new,
            entered: 0,
            rank: (0, 0, 0),
            drawn: 0,
            vain: 0,
            live: true,
        };
        if self.seats.len() <= slot.index() {
            self.seats.resize(slot.index() + 1, seat);
        }
        self.seats[slot.index()] = seat;
        self.enqueue(slot);
        Ok(())
    }

    fn schedule(&mut self, _now: Nanos, requests: &mut Requests, batch: &mut Batch) {
        self.passes += 1;
        self.again = false;
        self.merge(requests);
        if std::mem::take(&mut self.shrunk) {
            self.full = false;
        }
        if self.waiting.is_empty() && self.running() == 0 {
            self.ratio.reset();
            return;
        }
        if (self.defers() || !self.prefill(requests, batch)) && !self.running.is_empty() {
            self.decode(requests, batch);
        }
        if self.config.enable_overlap {
            self.again = batch.entries.is_empty() && !self.flying.is_empty();
            self.learn_outcome(requests);
        }
    }

    fn keeps_ended(&self) -> bool {
        self.config.enable_overlap
    }

    fn again(&self) -> bool {
        self.again
    }

    fn finish(&mut self, slot: Slot, requests: &Requests) {
        if self.config.enable_overlap {
            self.seats[slot.index()].live = false;
            self.left = true;
            self.ended = requests[slot].last_token;
            return;
        }
        if self.after_prefill {
            self.remember(Some(slot), requests);
        }
        let request = &requests[slot];
        let computed = request.content.len() - 1;
        let seat = &mut self.seats[slot.index()];
        self.wasted -= self.pool.ceil(computed) - u64::from(computed);
        self.pool.checkpoint(&mut seat.held, request, computed);
        self.pool.release(&mut seat.held, computed);
        seat.live = false;
        self.full = false;
        self.left = true;
        self.ended = request.last_token;
    }

    fn complete(&mut self, requests: &Requests, _batch: &Batch) {
        if self.config.enable_overlap {
            self.fly();
            return;
        }
        if self.after_prefill {
            self.remember(None, requests);
        }
        self.remembered = 0;
        self.prefilled = 0;
        if std::mem::take(&mut self.left) {
            let seats = &self.seats;
            self.running.retain(|slot| seats[slot.index()].live);
            self.last.retain(|slot| seats[slot.index()].live);
        }
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn running(&self) -> usize {
        // The one in pieces is among the last, unless it waits for room.
        let apart = self.chunk.is_some_and(|chunk| !self.last.contains(&chunk));
        self.running.len() + self.last.len() + usize::from(apart)
    }

    fn head(&self) -> Option<Slot> {
        self.waiting.front().copied().or(self.chunk)
    }

    /// One less than the longest request. Where that is the pool's size, whole pages may leave less, and a request whose
    /// output would be cut there is refused.
    fn longest(&self) -> u32 {
        u32::try_from(self.longest_request().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn occupancy(&self) -> Occupancy {
        let (capacity, cached) = (self.pool.capacity, self.pool.evictable());
        let used = capacity - self.pool.free - cached;
        Occupancy { capacity, used, cached, wasted: self.wasted, ..Occupancy::default() }
    }

    fn holders(&self, requests: &Requests, each: &mut dyn FnMut(Slot, u64)) {
        for (slot, tokens) in self.seated(requests) {
            each(slot, self.pool.alone(&self.seats[slot.index()].held, tokens));
        }
    }

    fn stretch(&mut self, requests: &Requests, decoding: &mut Vec<Slot>) -> u32 {
        let tries = !self.waiting.is_empty() && (!self.full || self.shrunk || self.preempts());
        if self.after_prefill || self.chunk.is_some() || self.defer > 0 || tries || self.running.is_empty() {
            return 0;
        }
        if !self.flying.is_empty() {
            return 0;
        }
        let left = |slot: &Slot| requests[*slot].output_tokens - requests[*slot].generated - 1;
        let steps = self.running.iter().map(left).min().unwrap_or(0);
        if steps == 0 {
            return 0;
        }
        let page = self.pool.page();
        self.ticks = 0;
        self.phases.clear();
        self.phases.resize(page as usize, 0);
        for &slot in &self.running {
            self.phases[((requests[slot].content.len() - 1) % page) as usize] += 1;
        }
        decoding.extend_from_slice(&self.running);
        steps
    }

    fn tick(&mut self) -> bool {
        let page = self.pool.page();
        let begun = self.phases[((page - self.ticks % page) % page) as usize];
        let needed = u64::from(begun) * u64::from(page);
        self.pool.evict_to(needed);
        if self.pool.free < needed {
            return false;
        }
        self.ratio.fall();
        self.decode_step(needed);
        self.ticks += 1;
        true
    }

    fn settle(&mut self, _requests: &Requests, steps: u32) {
        if self.config.enable_overlap && steps > 0 {
            for slot in &self.running {
                self.seats[slot.index()].drawn = self.passes;
            }
        }
    }

    fn verify(&self, requests: &Requests) {
        let (mut own, mut wasted, mut seen) = (0, 0, vec![false; requests.slots()]);
        for (slot, computed) in self.seated(requests) {
            let seat = &self.seats[slot.index()];
            assert!(!std::mem::replace(&mut seen[slot.index()], true), "a request runs once");
            own += self.pool.ceil(computed) - u64::from(seat.held.protected);
            wasted += self.pool.ceil(computed) - u64::from(computed);
            assert!(seat.held.protected <= computed, "what is remembered of a request was computed");
        }
        for slot in &self.waiting {
            assert!(!std::mem::replace(&mut seen[slot.index()], true), "a request waits or runs, once");
            assert!(self.seats[slot.index()].held.lock.is_none(), "who waits holds nothing");
        }
        let tree = self.pool.tree.as_ref();
        let cached = tree.map_or(0, |tree| tree.evictable() + tree.protected());
        assert_eq!(self.pool.free + own + cached, self.pool.capacity, "tokens leaked");
        assert_eq!(self.wasted, wasted, "begun pages are counted");
        assert!(self.running() <= self.config.max_running_requests as usize, "no more run than may");
        if let Some(tree) = tree {
            tree.verify();
        }
    }
}
