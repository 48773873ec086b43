//! How does TensorRT-LLM form a batch? In two stages: its *capacity scheduler* says whose blocks fit, its *micro-batch
//! scheduler* then says whose tokens do.
//!
//! | policy | a request starts when | it reserves | it is paused |
//! | --- | --- | --- | --- |
//! | `GUARANTEED_NO_EVICT` (default) | the blocks of its prompt and `max_tokens` are free beside what the running ones may still take | its whole completion | never |
//! | `MAX_UTILIZATION` | the blocks of its prompt are free in this step | the next step | when an earlier one needs its blocks, the latest first |
//! | `STATIC_BATCH` | as the default, while nothing generates | its whole completion | never |
//!
//! Reservations are promises, not blocks held: in [`Occupancy`] they are free. The blocks of a whole prompt are taken at its
//! first chunk. A paused request computes its prompt and what it had generated again.
//!
//! With `enable_block_reuse`, the full blocks of a prompt are stored when all of it is computed, those of an output when the
//! request ends or is paused; at least the last token of a prompt is always computed. A request that would compute a block
//! which another one is computing in the same step waits for it (not under `STATIC_BATCH`). Neither stage knows what will
//! be reused: blocks and tokens are counted in full, and a chunk shrinks afterwards.
//!
//! Kept as they are, two oddities of the policies that promise completion, both with chunks: under `STATIC_BATCH` a prompt
//! that is not complete when another request begins to generate stays where it is until nobody generates; and a request
//! that does not fit ends the walk, so that a prompt behind it in the list which has begun does not get on. The second takes
//! a request that comes to stand before it (a higher priority, or one that waited for a shared block) and can end in
//! nobody getting on at all, which the run reports ([`Error::Stuck`](crate::Error::Stuck)).
//!
//! Sources: `capacityScheduler.cpp` (commit 02a10fed0dbf), `microBatchScheduler.cpp` (0a949d3128bf),
//! `scheduledBlocksManager.h`, `kvCacheManager.cpp` (`getNeededBlocksOneStep`, `getRemainingBlocksToCompletion`,
//! `findNewContextBlock`) and `utils/inflightBatchingUtils.cpp` in `cpp/tensorrt_llm/batch_manager`, `setPrepopulatedPromptLen` in
//! `llmRequest.h`; defaults of `tensorrt_llm/llmapi/llm_args.py`, 1.1 to 1.2. Absent: beams, draft tokens, LoRA pages, partial
//! reuse of a block, retention priorities, attention windows, several micro-batches in flight (pipeline parallelism), the
//! overlap of a step with the scheduling of the next, and cutting a paused request to `max_input_len`.
//!
//! ```
//! use plimsoll_sim::schedule::trtllm::{Config, Policy, TrtLlm};
//! // 100 blocks of 32 tokens hold one sequence of 99 · 32 + 1 tokens with its last token's block to spare.
//! let scheduler = TrtLlm::new(Config { policy: Policy::MaxUtilization, ..Config::new(100, 8192) })?;
//! assert_eq!(scheduler.max_seq_len(), 3169);
//! # Ok::<(), plimsoll_sim::schedule::trtllm::Invalid>(())
//! ```

mod cache;
mod capacity;
mod micro;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_kv::BlockHash;
use plimsoll_units::Nanos;

use self::cache::Cache;
use super::{Batch, Occupancy, Refusal, Scheduler};
use crate::{Requests, Slot};

/// `capacity_scheduler_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `GUARANTEED_NO_EVICT`: who starts can finish.
    #[default]
    GuaranteedNoEvict,
    /// `MAX_UTILIZATION`: as many as this step has blocks for.
    MaxUtilization,
    /// `STATIC_BATCH`: nobody starts while anybody generates.
    StaticBatch,
}

/// `context_chunking_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunking {
    /// `FIRST_COME_FIRST_SERVED`: the first prompt takes all it can.
    #[default]
    FirstComeFirstServed,
    /// `EQUAL_PROGRESS`: each prompt a block in turn.
    EqualProgress,
}

/// The engine's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// `capacity_scheduler_policy`.
    pub policy: Policy,
    /// `max_batch_size`: requests a step, and at once.
    pub max_batch_size: u32,
    /// `max_num_tokens`: tokens a step.
    pub max_num_tokens: u32,
    /// `max_seq_len`: tokens of the longest request, prompt and output; longer ones end there. Cut to what the blocks
    /// hold.
    pub max_seq_len: u32,
    /// `enable_chunked_context` (`enable_chunked_prefill` in the LLM API), and in what manner.
    pub chunking: Option<Chunking>,
    /// `tokens_per_block`; the engine's attention kernels want a power of two, its schedulers take any.
    pub tokens_per_block: u32,
    /// `enable_block_reuse`.
    pub enable_block_reuse: bool,
    /// Blocks in the cache.
    pub blocks: u32,
}

impl Config {
    /// Returns the LLM API's defaults: 2 048 requests, 8 192 tokens, blocks of 32 that are reused, no chunks.
    pub const fn new(blocks: u32, max_seq_len: u32) -> Self {
        Config {
            policy: Policy::GuaranteedNoEvict,
            max_batch_size: 2048,
            max_num_tokens: 8192,
            max_seq_len,
            chunking: None,
            tokens_per_block: 32,
            enable_block_reuse: true,
            blocks,
        }
    }
}

/// Why settings do not make a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A quantity that must not be zero.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// The engine rounds chunks down to blocks: with fewer tokens a step than a block no prompt would get on.
    #[error("max_num_tokens {max_num_tokens} is less than tokens_per_block {tokens_per_block}: no chunk fits")]
    Chunk {
        /// Tokens a step.
        max_num_tokens: u32,
        /// Tokens a block.
        tokens_per_block: u32,
    },
}

/// TensorRT-LLM's scheduler: see [the module](self).
#[derive(Clone, Debug)]
pub struct TrtLlm {
    config: Config,
    cache: Cache,
    /// Not yet handed to the two stages: by priority, then by number.
    waiting: BTreeMap<(i32, u64), Slot>,
    /// Handed to them, in the same order, started or not.
    active: Vec<Slot>,
    /// Those of `active` that hold blocks.
    started: usize,
    /// By slot: whether it ended in the step that just ran.
    ended: Vec<bool>,
    /// What the first stage let through and sent away.
    fitting: Vec<Slot>,
    paused: Vec<Slot>,
    /// Blocks that requests of this step will compute first.
    contributed: BTreeSet<BlockHash>,
    contexts: Vec<micro::Context>,
    /// Those that take part in the stretch.
    decoding: Vec<Slot>,
}

impl TrtLlm {
    /// Starts with an empty cache.
    ///
    /// # Errors
    /// [`Invalid`] for settings with which nothing could ever run.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        for (value, name) in [
            (config.max_batch_size, "max_batch_size"),
            (config.max_num_tokens, "max_num_tokens"),
            (config.max_seq_len, "max_seq_len"),
            (config.tokens_per_block, "tokens_per_block"),
            (config.blocks, "the number of blocks"),
        ] {
            if value == 0 {
                return Err(Invalid::Zero(name));
            }
        }
        let Config { max_num_tokens, tokens_per_block, .. } = config;
        if config.chunking.is_some() && max_num_tokens < tokens_per_block {
            return Err(Invalid::Chunk { max_num_tokens, tokens_per_block });
        }
        // One output token in a block of its own beside the longest prompt.
        let room = (u64::from(config.blocks) - 1) * u64::from(tokens_per_block) + 1;
        let max_seq_len = config.max_seq_len.min(u32::try_from(room).unwrap_or(u32::MAX));
        Ok(TrtLlm {
            config: Config { max_seq_len, ..config },
            cache: Cache::new(config.blocks, tokens_per_block, config.enable_block_reuse),
            waiting: BTreeMap::new(),
            active: Vec::new(),
            started: 0,
            ended: Vec::new(),
            fitting: Vec::new(),
            paused: Vec::new(),
            contributed: BTreeSet::new(),
            contexts: Vec::new(),
            decoding: Vec::new(),
        })
    }

    /// Returns the longest request that is taken: `max_seq_len`, or what the blocks hold if that is less.
    pub const fn max_seq_len(&self) -> u32 {
        self.config.max_seq_len
    }

    /// Hands waiting requests to the two stages while there are places.
    fn fetch(&mut self, requests: &Requests) {
        while self.active.len() < self.config.max_batch_size as usize {
            let Some(((priority, _), slot)) = self.waiting.pop_first() else { break };
            let at = self.active.iter().rposition(|&other| requests[other].priority <= priority).map_or(0, |at| at + 1);
            self.active.insert(at, slot);
        }
    }

    /// Takes the blocks of a paused request.
    fn pause(&mut self, slot: Slot, requests: &mut Requests) {
        let request = &mut requests[slot];
        request.preemptions += 1;
        request.computed_before = request.computed_before.max(self.cache.computed(slot));
        self.cache.release(slot, &request.content);
        self.started -= 1;
    }
}

impl Scheduler for TrtLlm {
    fn add(&mut self, slot: Slot, requests: &Requests) -> Result<(), Refusal> {
        let request = &requests[slot];
        let (prompt, limit) = (request.prompt_tokens, self.config.max_seq_len);
        if prompt >= limit {
            let why = format!("its prompt of {prompt} tokens leaves none to generate within max_seq_len {limit}");
            return Err(Refusal { why });
        }
        if self.config.chunking.is_none() && prompt > self.config.max_num_tokens {
            let limit = self.config.max_num_tokens;
            let why = format!(
                "its prompt of {prompt} tokens is longer than max_num_tokens {limit}, and chunks are not enabled"
            );
            return Err(Refusal { why });
        }
        if slot.index() >= self.ended.len() {
            self.ended.resize(slot.index() + 1, false);
        }
        self.cache.expect(slot);
        self.waiting.insert((request.priority, request.number), slot);
        Ok(())
    }

    fn schedule(&mut self, _now: Nanos, requests: &mut Requests, batch: &mut Batch) {
        self.fetch(requests);
        self.choose(requests);
        let paused = std::mem::take(&mut self.paused);
        for &slot in &paused {
            self.pause(slot, requests);
            batch.preempted.push(slot);
        }
        self.paused = paused;
        self.form(requests, batch);
    }

    fn finish(&mut self, slot: Slot, requests: &Requests) {
        self.cache.release(slot, &requests[slot].content);
        self.started -= 1;
        self.ended[slot.index()] = true;
    }

    fn complete(&mut self, requests: &Requests, batch: &Batch) {
        for entry in &batch.entries {
            if !self.ended[entry.slot.index()] {
                self.cache.store_context(entry.slot, entry.context, &requests[entry.slot].content);
            }
        }
        self.active.retain(|slot| !std::mem::take(&mut self.ended[slot.index()]));
    }

    fn waiting(&self) -> usize {
        self.waiting.len() + self.active.len() - self.started
    }

    fn running(&self) -> usize {
        self.started
    }

    fn head(&self) -> Option<Slot> {
        self.active.iter().find(|&&slot| !self.cache.is_started(slot)).or_else(|| self.waiting.values().next()).copied()
    }

    fn shortage(&mut self, requests: &Requests) -> Option<String> {
        let slot = self.head()?;
        let (free, all) = (self.cache.free(), self.config.blocks);
        if self.config.policy == Policy::MaxUtilization {
            let needed = self.cache.needed_for_a_step(slot, &requests[slot].content);
            return Some(format!("it needs {needed} blocks to begin, and {free} of {all} are free"));
        }
        let needed = self.remaining(slot, requests);
        let promised: u32 = self.active.iter().map(|&slot| self.promised(slot, requests)).sum();
        Some(match promised {
            0 => format!("it needs {needed} blocks until it ends, and {free} of {all} are free"),
            _ => format!(
                "it needs {needed} blocks until it ends, and {free} of {all} are free, {promised} of them promised"
            ),
        })
    }

    fn longest(&self) -> u32 {
        self.config.max_seq_len
    }

    fn free_blocks(&self) -> Option<u32> {
        Some(self.cache.free())
    }

    fn occupancy(&self) -> Occupancy {
        self.cache.occupancy()
    }

    fn holders(&self, _requests: &Requests, each: &mut dyn FnMut(Slot, u64)) {
        for &slot in self.active.iter().filter(|slot| self.cache.is_started(**slot)) {
            each(slot, self.cache.alone(slot));
        }
    }

    fn stretch(&mut self, requests: &Requests, decoding: &mut Vec<Slot>) -> u32 {
        if self.active.len() < self.config.max_batch_size as usize && !self.waiting.is_empty() {
            return 0;
        }
        self.decoding.clear();
        let mut most = u32::MAX;
        for &slot in &self.active {
            if self.cache.is_generating(slot) {
                let request = &requests[slot];
                most = most.min(request.output_tokens - request.generated - 1);
                self.decoding.push(slot);
            }
        }
        let fit = self.decoding.len() <= self.config.max_num_tokens as usize;
        if self.decoding.is_empty() || most == 0 || !fit || !self.others_stay_out(requests) {
            return 0;
        }
        self.cache.stretch(&self.decoding);
        decoding.extend_from_slice(&self.decoding);
        most
    }

    fn tick(&mut self) -> bool {
        self.cache.tick(self.decoding.len() as u32)
    }

    fn settle(&mut self, _requests: &Requests, steps: u32) {
        self.cache.settle(&self.decoding, steps);
    }

    fn verify(&self, requests: &Requests) {
        let started = self.active.iter().filter(|&&slot| self.cache.is_started(slot)).count();
        assert_eq!(started, self.started, "started requests are miscounted");
        assert!(self.active.len() <= self.config.max_batch_size as usize);
        let mut all: Vec<u64> =
            self.active.iter().chain(self.waiting.values()).map(|&slot| requests[slot].number).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "a request is in two places");
        self.cache.verify(&self.active, requests);
        if self.config.policy != Policy::MaxUtilization {
            let promised: u32 = self.active.iter().map(|&slot| self.promised(slot, requests)).sum();
            assert!(promised <= self.cache.free(), "who generates can finish");
        }
    }
}
