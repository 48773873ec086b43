//! How do several samples share one prompt? Block tables that fork at no cost and copy a block only when one of them
//! writes into it: parallel sampling, beam search.
//!
//! ```
//! use plimsoll_kv::{FreeOrder, Pool, Table};
//! let mut pool = Pool::new(9, FreeOrder::Last);
//! let mut first = Table::new(16);
//! first.append(24, &mut pool).unwrap();
//! let mut second = first.fork(&mut pool);
//! assert_eq!(pool.held_blocks(), 2, "both samples hold the prompt's two blocks");
//!
//! // The second block is half full: who writes first copies it, the other keeps it.
//! let copy = second.append(1, &mut pool).unwrap().unwrap();
//! assert_eq!((copy.from, copy.to, copy.tokens), (first.blocks()[1], second.blocks()[1], 8));
//! assert_eq!(first.append(1, &mut pool), Ok(None));
//! assert_eq!(pool.held_blocks(), 3);
//! ```

use crate::{BlockId, Pool};

/// A copy to make before the step that writes: the first `tokens` tokens of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCopy {
    /// The block that others hold.
    pub from: BlockId,
    /// The block that takes its place.
    pub to: BlockId,
    /// Tokens to copy.
    pub tokens: u32,
}

/// There are not enough free blocks; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needed} more blocks are needed and {free} are free")]
pub struct Full {
    /// Blocks that were needed.
    pub needed: u32,
    /// Blocks that were free.
    pub free: u32,
}

/// The blocks of one sequence in order, all full but the last. Forks share blocks; a block that several hold is never
/// written to.
///
/// A table does not know its pool: every call must name the same one, and [`Table::clear`] comes before the table is
/// dropped, or its blocks stay held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    block_tokens: u32,
    tokens: u32,
    blocks: Vec<BlockId>,
}

impl Table {
    /// Starts without a token.
    ///
    /// # Panics
    /// When a block holds no token.
    pub const fn new(block_tokens: u32) -> Self {
        assert!(block_tokens > 0, "a block holds at least one token");
        Table { block_tokens, tokens: 0, blocks: Vec::new() }
    }

    /// Returns the tokens that there is room for in use.
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Returns the blocks in order.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    /// Returns the free blocks that [`Table::append`] would take: new ones, and one for the copy of a last block that is
    /// partly filled and shared.
    pub fn needed(&self, tokens: u32, pool: &Pool) -> u32 {
        let end = u64::from(self.tokens) + u64::from(tokens);
        let blocks = end.div_ceil(u64::from(self.block_tokens)) as u32;
        blocks - self.blocks.len() as u32 + u32::from(tokens > 0 && self.tail_is_shared(pool))
    }

    /// Makes room for more tokens at the end. Returns the copy to make before they are written, where the last block was
    /// shared.
    ///
    /// # Errors
    /// [`Full`] when there are not enough free blocks.
    ///
    /// # Panics
    /// With 2^32 tokens.
    pub fn append(&mut self, tokens: u32, pool: &mut Pool) -> Result<Option<BlockCopy>, Full> {
        let full = Full { needed: self.needed(tokens, pool), free: pool.free_blocks() };
        if full.needed > full.free {
            return Err(full);
        }
        let end = self.tokens.checked_add(tokens).expect("a sequence holds fewer than 2^32 tokens");
        let mut copy = None;
        if tokens > 0 && self.tail_is_shared(pool) {
            let from = self.blocks.pop().ok_or(full)?;
            let to = pool.allocate().ok_or(full)?;
            pool.free([from]);
            self.blocks.push(to);
            copy = Some(BlockCopy { from, to, tokens: self.tokens % self.block_tokens });
        }
        while (self.blocks.len() as u64) * u64::from(self.block_tokens) < u64::from(end) {
            self.blocks.push(pool.allocate().ok_or(full)?);
        }
        self.tokens = end;
        Ok(copy)
    }

    /// Returns a second table of the same tokens that shares every block.
    pub fn fork(&self, pool: &mut Pool) -> Table {
        self.fork_at(self.tokens, pool)
    }

    /// Returns a second table of the first `tokens` tokens (all, when there are fewer) that shares their blocks.
    pub fn fork_at(&self, tokens: u32, pool: &mut Pool) -> Table {
        let tokens = tokens.min(self.tokens);
        let blocks = self.blocks[..tokens.div_ceil(self.block_tokens) as usize].to_vec();
        for &block in &blocks {
            pool.touch(block);
        }
        Table { tokens, blocks, ..*self }
    }

    /// Gives every block back, the last first, and keeps the memory.
    pub fn clear(&mut self, pool: &mut Pool) {
        pool.free(self.blocks.drain(..).rev());
        self.tokens = 0;
    }

    /// Hands the blocks over to whoever frees them, and is empty afterwards.
    pub fn take(&mut self) -> Vec<BlockId> {
        self.tokens = 0;
        std::mem::take(&mut self.blocks)
    }

    /// Whether the last block is partly filled and others hold it too.
    pub fn tail_is_shared(&self, pool: &Pool) -> bool {
        !self.tokens.is_multiple_of(self.block_tokens) && self.blocks.last().is_some_and(|&block| pool.is_shared(block))
    }

    /// Exchanges each block for another, as a swap does.
    pub(crate) fn renumber(&mut self, mut to: impl FnMut(BlockId) -> BlockId) {
        for block in &mut self.blocks {
            *block = to(*block);
        }
    }
}

/// Lets each beam go on from the beam that `parents` names for it: beams that nobody goes on from give their blocks back,
/// those that several go on from are forked.
///
/// ```
/// use plimsoll_kv::{FreeOrder, Pool, Table, reorder_beams};
/// let mut pool = Pool::new(9, FreeOrder::Last);
/// let mut beams = vec![Table::new(4), Table::new(4)];
/// for beam in &mut beams {
///     beam.append(6, &mut pool).unwrap();
/// }
/// reorder_beams(&mut beams, &[1, 1], &mut pool);
/// assert_eq!(beams[0], beams[1]);
/// assert_eq!(pool.held_blocks(), 2);
/// ```
///
/// # Panics
/// When there is not one parent for each beam, or a parent is none of the beams.
pub fn reorder_beams(beams: &mut [Table], parents: &[usize], pool: &mut Pool) {
    assert_eq!(beams.len(), parents.len(), "each beam has one parent");
    let next: Vec<Table> = parents.iter().map(|&parent| beams[parent].fork(pool)).collect();
    for (beam, next) in beams.iter_mut().zip(next) {
        beam.clear(pool);
        *beam = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{FreeOrder, State};

    /// The tokens that lie in the blocks, and those that each sequence should read back.
    struct Memory {
        pool: Pool,
        slots: Vec<[u32; 4]>,
        tables: Vec<(Table, Vec<u32>)>,
        next: u32,
    }

    impl Memory {
        fn append(&mut self, which: usize, count: u32) {
            let (table, expected) = &mut self.tables[which];
            let before = (table.clone(), self.pool.free_blocks(), table.needed(count, &self.pool));
            match table.append(count, &mut self.pool) {
                Ok(copy) => {
                    assert_eq!(before.1 - self.pool.free_blocks(), before.2, "the need was known beforehand");
                    if let Some(copy) = copy {
                        let kept = copy.tokens as usize;
                        let from = self.slots[copy.from.index()];
                        self.slots[copy.to.index()][..kept].copy_from_slice(&from[..kept]);
                    }
                    for at in before.0.tokens()..table.tokens() {
                        let block = table.blocks()[at as usize / 4];
                        assert_eq!(self.pool.references(block), 1, "nobody writes into a shared block");
                        self.slots[block.index()][at as usize % 4] = self.next;
                        expected.push(self.next);
                        self.next += 1;
                    }
                }
                Err(full) => {
                    assert!(full.needed > full.free);
                    assert_eq!((&before.0, before.1), (&*table, self.pool.free_blocks()), "nothing was done");
                }
            }
        }

        fn verify(&self) {
            self.pool.verify();
            let mut references = vec![0; self.pool.blocks() as usize];
            for (table, expected) in &self.tables {
                let read = (0..table.tokens() as usize).map(|at| self.slots[table.blocks()[at / 4].index()][at % 4]);
                assert_eq!(read.collect::<Vec<u32>>(), *expected, "a sequence reads back what it wrote");
                assert_eq!(table.blocks().len(), expected.len().div_ceil(4));
                for block in table.blocks() {
                    references[block.index()] += 1;
                }
            }
            for (block, &count) in references.iter().enumerate().skip(1) {
                assert_eq!(self.pool.references(BlockId(block as u32)), count, "references are the tables' entries");
                assert_eq!(self.pool.state(BlockId(block as u32)) == State::Blank, count == 0);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn forks_read_back_what_they_wrote(
            blocks in 2..40u32,
            work in prop::collection::vec((0..8u8, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..9u32), 1..200),
        ) {
            let pool = Pool::new(blocks, FreeOrder::Last);
            let mut memory =
                Memory { slots: vec![[0; 4]; blocks as usize], pool, tables: vec![(Table::new(4), Vec::new())], next: 1 };
            for (kind, which, other, count) in work {
                let (which, other) = (which.index(memory.tables.len()), other.index(memory.tables.len()));
                match kind {
                    0..=3 => memory.append(which, count),
                    4 | 5 => {
                        let (table, expected) = &memory.tables[which];
                        let fork = table.fork_at(count * 3, &mut memory.pool);
                        let expected = expected[..fork.tokens() as usize].to_vec();
                        memory.tables.push((fork, expected));
                    }
                    6 if memory.tables.len() > 1 => {
                        let (mut table, _) = memory.tables.swap_remove(which);
                        table.clear(&mut memory.pool);
                    }
                    _ => {
                        let mut beams = [memory.tables[which].0.clone(), memory.tables[other].0.clone()];
                        if which != other {
                            reorder_beams(&mut beams, &[1, 1], &mut memory.pool);
                            let expected = memory.tables[other].1.clone();
                            let [first, second] = beams;
                            memory.tables[which] = (first, expected);
                            memory.tables[other].0 = second;
                        }
                    }
                }
                memory.verify();
            }
            for (table, _) in &mut memory.tables {
                table.clear(&mut memory.pool);
            }
            prop_assert_eq!(memory.pool.held_blocks(), 0);
        }
    }

    #[test]
    fn the_last_holder_keeps_the_block() {
        let mut pool = Pool::new(9, FreeOrder::Last);
        let mut tables = vec![Table::new(16)];
        tables[0].append(20, &mut pool).unwrap();
        for _ in 0..3 {
            let fork = tables[0].fork(&mut pool);
            tables.push(fork);
        }
        let copies: Vec<bool> = tables.iter_mut().map(|table| table.append(1, &mut pool).unwrap().is_some()).collect();
        assert_eq!(copies, [true, true, true, false]);
        assert_eq!(pool.held_blocks(), 1 + 4, "four samples share the full block");
    }
}
