//! Who holds which block, and what is found again? Tables over the pool, and a prefix cache of full blocks.

use std::collections::BTreeMap;

use plimsoll_kv::{BlockHash, BlockId, Chain, Content, FreeOrder, Key, Pool};

use crate::schedule::Occupancy;
use crate::schedule::opening::Opening;
use crate::{Requests, Slot};

/// What is known of a request's blocks.
#[derive(Clone, Debug)]
struct Sequence {
    /// Its blocks in order; none before it starts.
    blocks: Vec<BlockId>,
    /// Tokens of the prompt with which it started: after a pause, all tokens it had.
    prompt: u32,
    /// Tokens that are computed.
    computed: u32,
    /// Hashes of its full blocks, as far as they were needed.
    hashes: Vec<BlockHash>,
    chain: Chain,
}

impl Sequence {
    /// Hashes the content's first `blocks` blocks.
    fn hash(&mut self, content: &Content, blocks: u32) {
        while self.chain.blocks() < blocks {
            let Some(hash) = self.chain.next(content) else { break };
            self.hashes.push(hash);
        }
    }
}

/// Blocks of all requests.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    pool: Pool,
    block_tokens: u32,
    reuse: bool,
    /// By slot.
    sequences: Vec<Sequence>,
    /// Tokens that the held blocks are there for, shared blocks counted once; and those of them that are computed.
    covered: u64,
    filled: u64,
    opening: Opening,
    /// In a stretch: blocks that were opened and are handed to their requests at its end.
    opened: Vec<BlockId>,
}

impl Cache {
    pub(super) fn new(blocks: u32, block_tokens: u32, reuse: bool) -> Self {
        // One more for the pool's null block. The last released is the last to be allocated again, leaves first.
        let pool = Pool::new(blocks.saturating_add(1), FreeOrder::Last);
        let (sequences, opening, opened) = (Vec::new(), Opening::default(), Vec::new());
        Cache { pool, block_tokens, reuse, sequences, covered: 0, filled: 0, opening, opened }
    }

    /// Makes a place for a new request.
    pub(super) fn expect(&mut self, slot: Slot) {
        let empty = || Sequence {
            blocks: Vec::new(),
            prompt: 0,
            computed: 0,
            hashes: Vec::new(),
            chain: Chain::new(self.block_tokens),
        };
        if slot.index() >= self.sequences.len() {
            self.sequences.resize_with(slot.index() + 1, empty);
        }
        let sequence = &mut self.sequences[slot.index()];
        sequence.hashes.clear();
        sequence.chain.restart();
    }

    pub(super) fn free(&self) -> u32 {
        self.pool.free_blocks()
    }

    pub(super) fn held(&self, slot: Slot) -> u32 {
        self.sequences[slot.index()].blocks.len() as u32
    }

    pub(super) fn computed(&self, slot: Slot) -> u32 {
        self.sequences[slot.index()].computed
    }

    pub(super) fn is_started(&self, slot: Slot) -> bool {
        !self.sequences[slot.index()].blocks.is_empty()
    }

    /// Whether its prompt is computed.
    pub(super) fn is_generating(&self, slot: Slot) -> bool {
        let sequence = &self.sequences[slot.index()];
        self.is_started(slot) && sequence.computed >= sequence.prompt
    }

    /// Blocks to take for the next step: a prompt's before it starts, one when the next token opens a block.
    pub(super) fn needed_for_a_step(&self, slot: Slot, content: &Content) -> u32 {
        if !self.is_started(slot) {
            content.len().div_ceil(self.block_tokens)
        } else if self.is_generating(slot) {
            content.len().div_ceil(self.block_tokens) - self.held(slot)
        } else {
            0
        }
    }

    /// Blocks that would become free without a request, and without those in `taken`, to which it is added.
    pub(super) fn freed_by(&self, slot: Slot, taken: &mut BTreeMap<BlockId, u32>) -> u32 {
        let mut freed = 0;
        for &block in &self.sequences[slot.index()].blocks {
            let references = self.pool.references(block);
            if references > 1 {
                let taken = taken.entry(block).or_insert(0);
                *taken += 1;
                freed += u32::from(*taken == references);
            } else {
                freed += 1;
            }
        }
        freed
    }

    /// Returns the hash of a prompt's first full block that is not in the cache.
    pub(super) fn next_new_block(&mut self, slot: Slot, content: &Content) -> Option<BlockHash> {
        let blocks = content.len() / self.block_tokens;
        let sequence = &mut self.sequences[slot.index()];
        sequence.hash(content, blocks);
        let known = &sequence.hashes[..blocks as usize];
        known.iter().copied().find(|&hash| self.pool.lookup(Key::new(hash, 0)).is_none())
    }

    /// Takes the blocks of a prompt, those that are found and new ones. Returns the tokens that are found; `None`, with
    /// nothing done, when there are too few free blocks.
    pub(super) fn start(&mut self, slot: Slot, content: &Content) -> Option<u32> {
        let (prompt, pool) = (content.len(), &mut self.pool);
        let sequence = &mut self.sequences[slot.index()];
        let reusable = if self.reuse { (prompt - 1) / self.block_tokens } else { 0 };
        sequence.hash(content, reusable);
        let mut was_free = 0;
        for &hash in &sequence.hashes[..reusable as usize] {
            let Some(block) = pool.lookup(Key::new(hash, 0)) else { break };
            was_free += u32::from(pool.references(block) == 0);
            pool.touch(block);
            sequence.blocks.push(block);
        }
        let found = sequence.blocks.len() as u32;
        let missing = prompt.div_ceil(self.block_tokens) - found;
        if missing > pool.free_blocks() {
            pool.free(sequence.blocks.drain(..).rev());
            return None;
        }
        sequence.blocks.extend((0..missing).filter_map(|_| pool.allocate()));
        let found = found * self.block_tokens;
        let again = u64::from(was_free) * u64::from(self.block_tokens);
        self.covered += again + u64::from(prompt - found);
        self.filled += again;
        (sequence.prompt, sequence.computed) = (prompt, found);
        Some(found)
    }

    pub(super) fn compute(&mut self, slot: Slot, tokens: u32) {
        self.sequences[slot.index()].computed += tokens;
        self.filled += u64::from(tokens);
    }

    /// Makes room for a generating request's newest token, and computes it; false, with nothing done, without a free
    /// block.
    pub(super) fn generate(&mut self, slot: Slot) -> bool {
        let sequence = &mut self.sequences[slot.index()];
        if sequence.computed as u64 == sequence.blocks.len() as u64 * u64::from(self.block_tokens) {
            let Some(block) = self.pool.allocate() else { return false };
            sequence.blocks.push(block);
        }
        self.covered += 1;
        self.compute(slot, 1);
        true
    }

    /// Stores a prompt's blocks, if the step that began at `context` computed its end; the last token's block is left out.
    pub(super) fn store_context(&mut self, slot: Slot, context: u32, content: &Content) {
        let sequence = &self.sequences[slot.index()];
        if self.reuse && context < sequence.prompt && sequence.computed >= sequence.prompt {
            self.store(slot, sequence.prompt - 1, content);
        }
    }

    /// Makes the full blocks among the first `tokens` tokens findable, those that are not already.
    fn store(&mut self, slot: Slot, tokens: u32, content: &Content) {
        let sequence = &mut self.sequences[slot.index()];
        let blocks = tokens / self.block_tokens;
        sequence.hash(content, blocks);
        for (&block, &hash) in sequence.blocks.iter().zip(&sequence.hashes[..blocks as usize]) {
            let key = Key::new(hash, 0);
            if self.pool.lookup(key).is_none() {
                self.pool.remember(block, key);
            }
        }
    }

    /// Stores and gives back what a request holds, the last block first.
    pub(super) fn release(&mut self, slot: Slot, content: &Content) {
        if self.reuse {
            self.store(slot, self.sequences[slot.index()].computed, content);
        }
        let (sequence, block_tokens) = (&mut self.sequences[slot.index()], self.block_tokens);
        let end = sequence.prompt.max(sequence.computed);
        for (at, &block) in (0..).zip(&sequence.blocks) {
            if !self.pool.is_shared(block) {
                let within = |tokens: u32| u64::from(tokens.saturating_sub(at * block_tokens).min(block_tokens));
                self.covered -= within(end);
                self.filled -= within(sequence.computed);
            }
        }
        self.pool.free(sequence.blocks.drain(..).rev());
        sequence.computed = 0;
    }

    pub(super) fn stretch(&mut self, decoding: &[Slot]) {
        let computed = decoding.iter().map(|slot| self.sequences[slot.index()].computed);
        self.opening.begin(self.block_tokens, computed);
    }

    pub(super) fn tick(&mut self, decoding: u32) -> bool {
        let opened = self.opening.next();
        if opened > self.pool.free_blocks() {
            return false;
        }
        // Which request gets which block is all one: nothing depends on blocks' numbers.
        self.opened.extend((0..opened).filter_map(|_| self.pool.allocate()));
        self.opening.step();
        self.covered += u64::from(decoding);
        self.filled += u64::from(decoding);
        true
    }

    pub(super) fn settle(&mut self, decoding: &[Slot], steps: u32) {
        debug_assert_eq!(self.opening.steps(), steps);
        for slot in decoding {
            let sequence = &mut self.sequences[slot.index()];
            sequence.computed += steps;
            while (sequence.blocks.len() as u64) * u64::from(self.block_tokens) < u64::from(sequence.computed) {
                let Some(block) = self.opened.pop() else { break };
                sequence.blocks.push(block);
            }
        }
        debug_assert!(self.opened.is_empty(), "a stretch opens the blocks that its requests need");
    }

    /// Returns the tokens' worth of slots that a request holds alone: reused blocks are at its beginning.
    pub(super) fn alone(&self, slot: Slot) -> u64 {
        let blocks = &self.sequences[slot.index()].blocks;
        let shared = blocks.iter().take_while(|block| self.pool.is_shared(**block)).count();
        (blocks.len() - shared) as u64 * u64::from(self.block_tokens)
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let block = u64::from(self.block_tokens);
        let used = u64::from(self.pool.held_blocks()) * block;
        Occupancy {
            capacity: u64::from(self.pool.blocks() - 1) * block,
            used,
            cached: u64::from(self.pool.cached_blocks()) * block,
            wasted: used - self.covered,
            reserved: self.covered - self.filled,
            stranded: 0,
        }
    }

    pub(super) fn verify(&self, active: &[Slot], requests: &Requests) {
        self.pool.verify();
        let mut references = vec![0; self.pool.blocks() as usize];
        let mut tokens = vec![(0, 0); self.pool.blocks() as usize];
        let mut holders = 0;
        for &slot in active {
            let sequence = &self.sequences[slot.index()];
            holders += usize::from(!sequence.blocks.is_empty());
            assert!(sequence.computed < requests[slot].content.len());
            let end = if sequence.blocks.is_empty() { 0 } else { sequence.prompt.max(sequence.computed) };
            assert_eq!(
                sequence.blocks.len(),
                end.div_ceil(self.block_tokens) as usize,
                "blocks are those of the tokens"
            );
            for (at, block) in (0..).zip(&sequence.blocks) {
                references[block.index()] += 1;
                let within = |tokens: u32| tokens.saturating_sub(at * self.block_tokens).min(self.block_tokens);
                let (covered, filled) = &mut tokens[block.index()];
                (*covered, *filled) = (within(end).max(*covered), within(sequence.computed).max(*filled));
            }
        }
        for (block, &count) in (0..).zip(&references).skip(1) {
            assert_eq!(self.pool.references(BlockId(block)), count, "references of block {block} are not its holders");
        }
        let sum = tokens.iter().fold((0, 0), |sum, of| (sum.0 + u64::from(of.0), sum.1 + u64::from(of.1)));
        assert_eq!((self.covered, self.filled), sum, "tokens in blocks are miscounted");
        assert_eq!(self.sequences.iter().filter(|sequence| !sequence.blocks.is_empty()).count(), holders);
    }
}
