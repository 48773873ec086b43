//! And with blocks? Tables that grow on demand and fork for parallel samples.

use std::collections::BTreeSet;

use plimsoll_kv::{BlockId, FreeOrder, Pool, Table};

use super::memory::Found;
use super::{Config, Invalid};
use crate::schedule::Occupancy;
use crate::schedule::opening::Opening;
use crate::{Request, Requests, Slot};

/// Blocks on demand. Blocks that several hold, and the tokens in them, are counted once. `reserved` are the slots of a
/// prompt that is not computed yet; what ended requests of a static batch keep is wasted whole.
#[derive(Clone, Debug)]
pub(super) struct Paged {
    pool: Pool,
    block_tokens: u32,
    /// By slot.
    tables: Vec<Table>,
    /// Blocks that only ended requests of a static batch hold.
    kept: Vec<BlockId>,
    /// Who holds a table, by the number of the request whose prompt it is.
    samples: BTreeSet<(u64, Slot)>,
    /// Whether any table was ever forked.
    forked: bool,
    /// Tokens that the held blocks are there for.
    covered: u64,
    /// Of those, tokens that are computed.
    filled: u64,
    opening: Opening,
    /// In a stretch: the blocks that its steps opened, which are taken at its end.
    ahead: u32,
}

impl Paged {
    pub(super) fn new(config: &Config, block_tokens: u32) -> Result<Self, Invalid> {
        // One more block of the pool is the null block.
        let blocks = config.slots / block_tokens;
        let (largest, longest) = (blocks * block_tokens, config.max_model_len);
        if longest > largest {
            let needed = longest.div_ceil(block_tokens).saturating_mul(block_tokens);
            return Err(Invalid::Room { max_model_len: longest, needed, largest });
        }
        Ok(Paged {
            pool: Pool::new(blocks.saturating_add(1), FreeOrder::Last),
            block_tokens,
            tables: Vec::new(),
            kept: Vec::new(),
            samples: BTreeSet::new(),
            forked: false,
            covered: 0,
            filled: 0,
            opening: Opening::default(),
            ahead: 0,
        })
    }

    pub(super) fn wait(&mut self, slot: Slot) {
        if slot.index() >= self.tables.len() {
            self.tables.resize(slot.index() + 1, Table::new(self.block_tokens));
        }
    }

    /// The blocks of all known tokens must be free, less those of a prompt that can be forked.
    pub(super) fn fits(&self, request: &Request, computed: &[u32], requests: &Requests) -> Option<Found> {
        let blocks = request.content.len().div_ceil(self.block_tokens);
        let parent = self.parent(request, computed, requests);
        let shared = parent.map_or(0, |_| request.prompt_tokens / self.block_tokens);
        // Where a partly filled block is shared its writer will need another: one free block in any case.
        ((blocks - shared).max(1) <= self.pool.free_blocks())
            .then(|| Found { tokens: parent.map_or(0, |_| request.prompt_tokens - 1), parent })
    }

    /// Returns a running sample of the same prompt that has computed it.
    fn parent(&self, request: &Request, computed: &[u32], requests: &Requests) -> Option<Slot> {
        let group = request.sample_of?;
        let samples = self.samples.range((group, Slot(0))..=(group, Slot(u32::MAX))).map(|&(_, slot)| slot);
        let prompt = request.prompt_tokens;
        samples.into_iter().find(|&slot| computed[slot.index()] >= prompt && requests[slot].prompt_tokens == prompt)
    }

    pub(super) fn admit(&mut self, slot: Slot, request: &Request, found: Found) {
        let known = request.content.len();
        let mut table = std::mem::replace(&mut self.tables[slot.index()], Table::new(self.block_tokens));
        if let Some(parent) = found.parent {
            self.forked = true;
            // The sample computes the prompt's last token again, in its place.
            self.filled -= 1;
            let (prompt, parent) = (request.prompt_tokens, &self.tables[parent.index()]);
            if parent.tokens() == prompt {
                table = parent.fork(&mut self.pool);
            } else {
                // The prompt's last block holds other tokens behind it by now: it is copied at once.
                let full = prompt / self.block_tokens * self.block_tokens;
                table = parent.fork_at(full, &mut self.pool);
                self.extend(&mut table, prompt - full);
                self.filled += u64::from(prompt - full);
            }
        }
        let missing = known - table.tokens();
        self.extend(&mut table, missing);
        self.tables[slot.index()] = table;
        self.samples.insert((request.sample_of.unwrap_or(request.number), slot));
    }

    /// Makes room at a table's end and counts it, and the copy of a shared block where there is one.
    fn extend(&mut self, table: &mut Table, tokens: u32) -> bool {
        let Ok(copy) = table.append(tokens, &mut self.pool) else { return false };
        let copied = u64::from(copy.map_or(0, |copy| copy.tokens));
        self.covered += u64::from(tokens) + copied;
        self.filled += copied;
        true
    }

    pub(super) fn cover(&mut self, slot: Slot, tokens: u32) -> bool {
        let table = &mut self.tables[slot.index()];
        if tokens <= table.tokens() {
            return true;
        }
        let missing = tokens - table.tokens();
        let mut table = std::mem::replace(table, Table::new(self.block_tokens));
        let done = self.extend(&mut table, missing);
        self.tables[slot.index()] = table;
        done
    }

    pub(super) fn fill(&mut self, tokens: u32) {
        self.filled += u64::from(tokens);
    }

    /// Uncounts a table's tokens in blocks that nobody else holds.
    fn uncount(&mut self, slot: Slot, computed: u32) {
        let (table, block_tokens) = (&self.tables[slot.index()], self.block_tokens);
        for (block, &id) in (0..).zip(table.blocks()) {
            if !self.pool.is_shared(id) {
                let from = block * block_tokens;
                self.covered -= u64::from((table.tokens() - from).min(block_tokens));
                self.filled -= u64::from(computed.saturating_sub(from).min(block_tokens));
            }
        }
    }

    fn forget(&mut self, slot: Slot, request: &Request) {
        self.samples.remove(&(request.sample_of.unwrap_or(request.number), slot));
    }

    pub(super) fn release(&mut self, slot: Slot, request: &Request, computed: u32) {
        self.forget(slot, request);
        self.uncount(slot, computed);
        self.tables[slot.index()].clear(&mut self.pool);
    }

    /// Keeps the blocks that nobody else holds; the others stay held by those who do.
    pub(super) fn keep(&mut self, slot: Slot, request: &Request, computed: u32) {
        self.forget(slot, request);
        self.uncount(slot, computed);
        for block in self.tables[slot.index()].take() {
            if self.pool.is_shared(block) {
                self.pool.free([block]);
            } else {
                self.kept.push(block);
            }
        }
    }

    pub(super) fn drop_kept(&mut self) -> bool {
        let any = !self.kept.is_empty();
        self.pool.free(self.kept.drain(..));
        any
    }

    /// Its table ends where its computed tokens do, and no block needs copying.
    pub(super) fn is_ready(&self, slot: Slot, computed: u32) -> bool {
        let table = &self.tables[slot.index()];
        table.tokens() == computed && !(self.forked && table.tail_is_shared(&self.pool))
    }

    pub(super) fn stretch(&mut self, running: &[Slot], computed: &[u32]) {
        self.opening.begin(self.block_tokens, running.iter().map(|slot| computed[slot.index()]));
        self.ahead = 0;
    }

    pub(super) fn tick(&mut self, running: u32) -> bool {
        let opened = self.opening.next();
        if self.ahead + opened > self.pool.free_blocks() {
            return false;
        }
        self.ahead += opened;
        self.opening.step();
        self.covered += u64::from(running);
        self.filled += u64::from(running);
        true
    }

    pub(super) fn settle(&mut self, running: &[Slot], steps: u32) {
        debug_assert_eq!(self.opening.steps(), steps);
        let free = self.pool.free_blocks();
        for slot in running {
            let done = self.tables[slot.index()].append(steps, &mut self.pool);
            debug_assert_eq!(done, Ok(None), "a stretch opens the blocks that it counted, and copies none");
        }
        debug_assert_eq!(free - self.pool.free_blocks(), self.ahead);
        self.ahead = 0;
    }

    pub(super) fn free_blocks(&self) -> u32 {
        self.pool.free_blocks() - self.ahead
    }

    pub(super) fn alone(&self, slot: Slot) -> u64 {
        let blocks = self.tables[slot.index()].blocks();
        let shared = if self.forked { blocks.iter().filter(|block| self.pool.is_shared(**block)).count() } else { 0 };
        (blocks.len() - shared) as u64 * u64::from(self.block_tokens)
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let block = u64::from(self.block_tokens);
        let used = (u64::from(self.pool.held_blocks()) + u64::from(self.ahead)) * block;
        Occupancy {
            capacity: u64::from(self.pool.blocks() - 1) * block,
            used,
            cached: 0,
            wasted: used - self.covered,
            reserved: self.covered - self.filled,
            stranded: 0,
        }
    }

    pub(super) fn verify(&self, running: &[Slot], computed: &[u32], requests: &Requests) {
        self.pool.verify();
        let mut references = vec![0; self.pool.blocks() as usize];
        let mut tokens = vec![(0, 0); self.pool.blocks() as usize];
        for &slot in running {
            let (table, computed) = (&self.tables[slot.index()], computed[slot.index()]);
            assert!(computed <= table.tokens() && table.tokens() <= requests[slot].content.len());
            assert_eq!(table.blocks().len(), table.tokens().div_ceil(self.block_tokens) as usize);
            for (at, block) in (0..).zip(table.blocks()) {
                references[block.index()] += 1;
                let within = |tokens: u32| tokens.saturating_sub(at * self.block_tokens).min(self.block_tokens);
                let (covered, filled) = &mut tokens[block.index()];
                *covered = within(table.tokens()).max(*covered);
                *filled = within(computed).max(*filled);
            }
        }
        for block in &self.kept {
            references[block.index()] += 1;
        }
        for (block, &count) in (0..).zip(&references).skip(1) {
            assert_eq!(self.pool.references(BlockId(block)), count, "references of block {block} are not its holders");
        }
        let sum = tokens.iter().fold((0, 0), |sum, of| (sum.0 + u64::from(of.0), sum.1 + u64::from(of.1)));
        assert_eq!((self.covered, self.filled), sum, "tokens in blocks are miscounted");
        let empty = self.tables.iter().filter(|table| table.blocks().is_empty()).count();
        assert_eq!(self.tables.len() - empty, running.len(), "who does not run holds nothing");
        assert_eq!(self.samples.len(), running.len());
    }
}
