//! What did serving look like before paging and continuous batching, and what does each of the two buy by itself? Plain
//! schedulers: two ways of batching over four layouts of the cache, without prefix caching.
//!
//! **Static** batching is request-level batching, as in FasterTransformer or Triton's dynamic batcher: when nothing runs, up
//! to `max_num_seqs` waiting requests are taken in order of arrival as far as the memory holds them, their prompts are
//! computed together in one step, and all decode until the longest has ended. Those that end earlier stay in the batch as
//! padding and keep their memory; nothing is admitted meanwhile.
//!
//! **Continuous** batching is iteration-level, as in Orca: whenever memory and a place are there the next request in order
//! of arrival joins the running ones. Running requests are served first; prompts are computed whole or in chunks within
//! a budget of tokens a step.
//!
//! With *reserved* memory a request holds neighbouring slots from its admission to its end, so it never has to leave. With
//! *paged* memory the blocks of its known tokens are taken at admission and further ones when they are needed; when none is
//! free, the request that was admitted last loses its blocks, goes back to the head of the queue and is computed again.
//! Another sample of a prompt ([`Request::sample_of`](crate::Request::sample_of)) forks the blocks of one that is still
//! there, and computes only the prompt's last token again, for its logits.
//!
//! Sources: Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI 2022 (iteration-
//! level scheduling; reservation by `max_tokens`); Kwon et al., "Efficient Memory Management for Large Language Model Serving
//! with PagedAttention", SOSP 2023, section 6.1 (the baselines Orca-Max, Orca-Pow2, Orca-Oracle, and FasterTransformer).
//!
//! ```
//! use plimsoll_kv::{Content, Fit};
//! use plimsoll_sim::schedule::plain::{Batching, Config, Layout, Plain, Prefill};
//! use plimsoll_sim::{Arrival, Settings, Watch, cost::Fixed, load::List, run};
//! use plimsoll_units::Nanos;
//!
//! struct Quiet;
//! impl Watch for Quiet {}
//!
//! let arrivals = |number: u64| {
//!     let mut prompt = Content::new();
//!     prompt.push(number, 0, 100);
//!     let output_tokens = if number % 2 == 0 { 10 } else { 100 };
//!     Arrival {
//!         at: Nanos::ZERO, prompt, output_tokens, max_tokens: 100, output_stream: 1000 + number, priority: 0,
//!         sample_of: None, mark: 0,
//!     }
//! };
//! let mut steps = Vec::new();
//! for batching in [Batching::Static { wait: Nanos::ZERO }, Batching::Continuous(Prefill::Whole { budget: None })] {
//!     for layout in [Layout::Longest(Fit::First), Layout::Paged { block_tokens: 16 }] {
//!         let config = Config { batching, layout, slots: 8192, max_model_len: 2048, max_num_seqs: 32 };
//!         let mut source = List::new((0..32).map(arrivals).collect());
//!         let mut cost = Fixed(Nanos::new(1));
//!         let outcome = run(&mut Plain::new(config)?, &mut cost, &mut source, &mut Quiet, Settings::default())?;
//!         steps.push(outcome.steps);
//!     }
//! }
//! // Four fit at 2 048 slots each: eight batches of 100 steps. All fit by blocks.
//! assert_eq!(steps, [800, 100, 460, 100]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod form;
mod memory;
mod paged;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use plimsoll_kv::Fit;
use plimsoll_units::Nanos;

use self::memory::Memory;
use super::{Batch, Occupancy, Refusal, Scheduler};
use crate::{Requests, Slot};

/// What is set aside for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Neighbouring slots for `max_model_len` tokens, whatever the request asks for (FasterTransformer, Orca-Max).
    Longest(Fit),
    /// Neighbouring slots for its prompt and `max_tokens`. Where `max_tokens` is what it will generate, this is
    /// Orca-Oracle.
    Asked(Fit),
    /// The next power of two of prompt and `max_tokens`, from a buddy allocator (Orca-Pow2).
    Buddy,
    /// Blocks on demand (vLLM and all after it).
    Paged {
        /// Tokens a block.
        block_tokens: u32,
    },
}

/// How prompts are computed in continuous batching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// Each in one step.
    Whole {
        /// Tokens a step at most, decoding requests included; no fewer than `max_model_len`. A prompt for which too few
        /// are left waits, and all behind it.
        budget: Option<u32>,
    },
    /// In pieces of what the decoding requests leave of a step.
    Chunked {
        /// Tokens a step at most, decoding requests included; no fewer than `max_num_seqs`.
        budget: u32,
    },
}

/// When requests join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// When the whole batch before them has ended.
    Static {
        /// How long the oldest waiting request waits for others when fewer than `max_num_seqs` are there; zero: not at all.
        wait: Nanos,
    },
    /// At any step.
    Continuous(Prefill),
}

/// A plain scheduler's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// When requests join.
    pub batching: Batching,
    /// What is set aside for each.
    pub layout: Layout,
    /// The cache's room in tokens.
    pub slots: u32,
    /// Tokens of the longest request, prompt and output; longer ones end there.
    pub max_model_len: u32,
    /// Requests at once.
    pub max_num_seqs: u32,
}

/// Why settings do not make a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A quantity that must not be zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// The longest request does not fit the empty cache.
    #[error(
        "a request of max_model_len {max_model_len} tokens takes {needed} slots and the cache has room for one of {largest}"
    )]
    Room {
        /// The longest request.
        max_model_len: u32,
        /// What it would take; beyond 2^32 − 1 it says so.
        needed: u32,
        /// The largest there can be.
        largest: u32,
    },
    /// A budget that could hold a request up for ever.
    #[error("a budget of {budget} tokens a step is less than {name} {least}")]
    Budget {
        /// The budget.
        budget: u32,
        /// What it must not be less than.
        name: &'static str,
        /// Its value.
        least: u32,
    },
}

/// A plain scheduler: see [the module](self).
#[derive(Clone, Debug)]
pub struct Plain {
    config: Config,
    memory: Memory,
    waiting: VecDeque<Slot>,
    /// In order of admission.
    running: Vec<Slot>,
    /// By slot: tokens that are in the cache.
    computed: Vec<u32>,
    /// By slot: whether it ended in the step that just ran.
    ended: Vec<bool>,
    /// Ended requests that a static batch still carries.
    padding: u32,
    /// When a batch that waits for more requests starts without them.
    wake: Option<Nanos>,
}

impl Plain {
    /// Starts with an empty cache.
    ///
    /// # Errors
    /// [`Invalid`] when a request within the settings could wait for ever.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        if config.max_num_seqs == 0 {
            return Err(Invalid::Zero("max_num_seqs"));
        }
        if config.max_model_len == 0 {
            return Err(Invalid::Zero("max_model_len"));
        }
        let at_least = |budget: u32, name: &'static str, least: u32| match budget < least {
            true => Err(Invalid::Budget { budget, name, least }),
            false => Ok(()),
        };
        match config.batching {
            Batching::Static { .. } | Batching::Continuous(Prefill::Whole { budget: None }) => {}
            Batching::Continuous(Prefill::Whole { budget: Some(budget) }) => {
                at_least(budget, "max_model_len", config.max_model_len)?;
                at_least(budget, "max_num_seqs", config.max_num_seqs)?;
            }
            Batching::Continuous(Prefill::Chunked { budget }) => {
                at_least(budget, "max_num_seqs", config.max_num_seqs)?;
            }
        }
        Ok(Plain {
            config,
            memory: Memory::new(&config)?,
            waiting: VecDeque::new(),
            running: Vec::new(),
            computed: Vec::new(),
            ended: Vec::new(),
            padding: 0,
            wake: None,
        })
    }

    fn is_static(&self) -> bool {
        matches!(self.config.batching, Batching::Static { .. })
    }
}

impl Scheduler for Plain {
    fn add(&mut self, slot: Slot, requests: &Requests) -> Result<(), Refusal> {
        let request = &requests[slot];
        let (prompt, limit) = (request.prompt_tokens, self.config.max_model_len);
        if prompt >= limit {
            let why = format!("its prompt of {prompt} tokens leaves none to generate within max_model_len {limit}");
            return Err(Refusal { why });
        }
        if slot.index() >= self.computed.len() {
            self.computed.resize(slot.index() + 1, 0);
            self.ended.resize(slot.index() + 1, false);
        }
        self.memory.wait(slot, request);
        self.waiting.push_back(slot);
        Ok(())
    }

    fn schedule(&mut self, now: Nanos, requests: &mut Requests, batch: &mut Batch) {
        self.wake = None;
        match self.config.batching {
            Batching::Static { wait } if self.running.is_empty() => self.begin(now, wait, requests, batch),
            Batching::Static { .. } => {
                self.go_on(None, requests, batch);
                batch.padding = self.padding;
            }
            Batching::Continuous(prefill) => self.iterate(prefill, requests, batch),
        }
    }

    fn finish(&mut self, slot: Slot, requests: &Requests) {
        let computed = std::mem::take(&mut self.computed[slot.index()]);
        self.ended[slot.index()] = true;
        if self.is_static() {
            self.memory.keep(slot, &requests[slot], computed);
            self.padding += 1;
        } else {
            self.memory.release(slot, &requests[slot], computed);
        }
    }

    fn complete(&mut self, _requests: &Requests, _batch: &Batch) {
        self.running.retain(|slot| !std::mem::take(&mut self.ended[slot.index()]));
        if self.padding > 0 && self.running.is_empty() {
            self.memory.drop_kept();
            self.padding = 0;
        }
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn running(&self) -> usize {
        self.running.len()
    }

    fn head(&self) -> Option<Slot> {
        self.waiting.front().copied()
    }

    fn longest(&self) -> u32 {
        self.config.max_model_len
    }

    fn free_blocks(&self) -> Option<u32> {
        self.memory.free_blocks()
    }

    fn occupancy(&self) -> Occupancy {
        self.memory.occupancy()
    }

    fn holders(&self, _requests: &Requests, each: &mut dyn FnMut(Slot, u64)) {
        for &slot in &self.running {
            each(slot, self.memory.alone(slot));
        }
    }

    fn wake(&self) -> Option<Nanos> {
        self.wake
    }

    fn padding(&self) -> u32 {
        self.padding
    }

    fn stretch(&mut self, requests: &Requests, decoding: &mut Vec<Slot>) -> u32 {
        if !self.is_static() && self.head_fits(requests) {
            return 0;
        }
        let mut most = u32::MAX;
        for &slot in &self.running {
            let request = &requests[slot];
            let left = request.output_tokens - request.generated;
            let computed = self.computed[slot.index()];
            let decodes = request.generated > 0 && computed + 1 == request.content.len();
            if left <= 1 || !decodes || !self.memory.is_ready(slot, computed) {
                return 0;
            }
            most = most.min(left - 1);
        }
        if self.running.is_empty() {
            return 0;
        }
        decoding.extend_from_slice(&self.running);
        self.memory.stretch(&self.running, &self.computed);
        most
    }

    fn tick(&mut self) -> bool {
        self.memory.tick(self.running.len() as u32)
    }

    fn settle(&mut self, _requests: &Requests, steps: u32) {
        for &slot in &self.running {
            self.computed[slot.index()] += steps;
        }
        self.memory.settle(&self.running, steps);
    }

    fn verify(&self, requests: &Requests) {
        for &slot in &self.running {
            let computed = self.computed[slot.index()];
            assert!(computed < requests[slot].content.len(), "more tokens are computed than are known");
        }
        assert!(self.running.len() <= self.config.max_num_seqs as usize, "more requests run than may");
        assert!(self.padding == 0 || !self.running.is_empty(), "padding outlives its batch");
        let numbers =
            |slots: &mut dyn Iterator<Item = &Slot>| slots.map(|&slot| requests[slot].number).collect::<Vec<_>>();
        let mut all = numbers(&mut self.running.iter().chain(&self.waiting));
        if !self.is_static() {
            assert!(all.is_sorted(), "somebody overtook somebody: {all:?}");
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "a request is in two places");
        self.memory.verify(&self.running, &self.waiting, &self.computed, requests);
    }
}
