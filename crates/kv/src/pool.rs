//! Which block is free, which is held, and which still knows something? Equal blocks with reference counts, a queue of free
//! ones in eviction order, and an index from content to blocks.

use crate::BlockHash;
use crate::index::{Index, Node};

/// A block. Block 0 is [`BlockId::NULL`]: it stands in tables where nothing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    /// The block that holds nothing and belongs to nobody.
    pub const NULL: BlockId = BlockId(0);

    /// Whether it is the null block.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Returns its place in a table over all blocks.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a cached block is found by: its content's hash, and whose cache it is (which group of layers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// Makes the key of a block of a group.
    pub const fn new(hash: BlockHash, group: u32) -> Self {
        let key = hash.0 ^ (group as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        // Zero means "none" inside; nothing is lost by letting one hash in 2^64 share a key with another.
        Key(if key == 0 { 1 } else { key })
    }

    /// Returns the key as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Where a block goes that nobody holds any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeOrder {
    /// To the end of the queue, whatever it holds: the least recently used goes first (vLLM before 0.24).
    Last,
    /// Blocks without content to the front, so that they are used again first; cached ones to the end (vLLM from 0.24).
    BlankFirst,
}

/// What a block is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The null block.
    Null,
    /// Held, and so pinned, by so many references.
    Held(u32),
    /// Held by nobody, its content findable until the block is allocated again.
    Cached,
    /// Held by nobody and holding nothing.
    Blank,
}

/// A fixed number of equal blocks. Allocation, sharing and freeing take constant time and allocate no memory.
///
/// ```
/// use plimsoll_kv::{BlockHash, FreeOrder, Key, Pool, State};
/// let mut pool = Pool::new(4, FreeOrder::Last); // block 0 is the null block: three are left
/// let block = pool.allocate().unwrap();
/// pool.remember(block, Key::new(BlockHash(42), 0));
/// pool.free([block]);
/// assert_eq!(pool.state(block), State::Cached);
///
/// // A request with the same content finds the block and holds it again.
/// let found = pool.lookup(Key::new(BlockHash(42), 0)).unwrap();
/// pool.touch(found);
/// pool.touch(found);
/// assert!(pool.is_shared(found));
/// assert_eq!((pool.free_blocks(), pool.cached_blocks(), pool.held_blocks()), (2, 0, 1));
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    order: FreeOrder,
    /// The blocks. The free queue is a ring through the null block, whose `next` is its head and `previous` its tail.
    index: Index,
    free: u32,
    cached: u32,
}

impl Pool {
    /// Makes a pool in which every block is blank and free, in the order of their numbers.
    ///
    /// # Panics
    /// Without any block: the null block is one.
    pub fn new(blocks: u32, order: FreeOrder) -> Self {
        assert!(blocks > 0, "a pool has at least its null block");
        let mut index = Index::new(blocks);
        for block in 0..blocks {
            let node = index.node(block);
            node.next = if block + 1 == blocks { 0 } else { block + 1 };
            node.previous = if block == 0 { blocks - 1 } else { block - 1 };
        }
        Pool { order, index, free: blocks - 1, cached: 0 }
    }

    /// Returns all blocks, the null block included.
    pub fn blocks(&self) -> u32 {
        self.index.nodes.len() as u32
    }

    /// Returns the blocks that can be allocated now: blank ones and cached ones that nobody holds.
    pub const fn free_blocks(&self) -> u32 {
        self.free
    }

    /// Returns the blocks that nobody holds and whose content can still be found.
    pub const fn cached_blocks(&self) -> u32 {
        self.cached
    }

    /// Returns the blocks that somebody holds, shared ones counted once.
    pub fn held_blocks(&self) -> u32 {
        self.blocks() - 1 - self.free
    }

    /// Returns how many hold a block.
    pub fn references(&self, block: BlockId) -> u32 {
        self.index.nodes[block.index()].references
    }

    /// Whether more than one hold it: who wants to write must copy it first.
    pub fn is_shared(&self, block: BlockId) -> bool {
        self.references(block) > 1
    }

    /// Returns what a block is doing.
    pub fn state(&self, block: BlockId) -> State {
        match self.references(block) {
            _ if block.is_null() => State::Null,
            0 if self.index.key(block.0).is_some() => State::Cached,
            0 => State::Blank,
            references => State::Held(references),
        }
    }

    /// Returns what a block is found by, if it is.
    pub fn key(&self, block: BlockId) -> Option<Key> {
        self.index.key(block.0).map(Key)
    }

    /// Takes the first block of the free queue, for one holder. Its old content is forgotten.
    pub fn allocate(&mut self) -> Option<BlockId> {
        self.allocate_evicting().map(|(block, _)| block)
    }

    /// Takes the first block of the free queue, for one holder, and says whose content was forgotten for it.
    pub fn allocate_evicting(&mut self) -> Option<(BlockId, Option<Key>)> {
        let block = self.index.nodes[0].next;
        if block == 0 {
            return None;
        }
        self.unlink(block);
        self.index.node(block).references = 1;
        let evicted = self.index.remove(block).map(Key);
        self.cached -= u32::from(evicted.is_some());
        Some((BlockId(block), evicted))
    }

    /// Returns the block that was first remembered under a key.
    pub fn lookup(&self, key: Key) -> Option<BlockId> {
        self.index.first(key.0).map(BlockId)
    }

    /// Adds a holder to a block, taking it out of the free queue where it was free. The null block needs no holder.
    pub fn touch(&mut self, block: BlockId) {
        if block.is_null() {
            return;
        }
        if self.references(block) == 0 {
            self.unlink(block.0);
            self.cached -= u32::from(self.index.key(block.0).is_some());
        }
        self.index.node(block.0).references += 1;
    }

    /// Takes a holder from each block, in order: the first is the first to be allocated again. Null blocks are passed over.
    ///
    /// # Panics
    /// When nobody holds a block.
    pub fn free(&mut self, blocks: impl IntoIterator<Item = BlockId>) {
        // Blank blocks go to the front in the order given: each behind the one before it.
        let mut front = 0;
        for block in blocks {
            if block.is_null() {
                continue;
            }
            let references = &mut self.index.node(block.0).references;
            assert!(*references > 0, "block {} is freed and nobody holds it", block.0);
            *references -= 1;
            if *references > 0 {
                continue;
            }
            let known = self.index.key(block.0).is_some();
            self.cached += u32::from(known);
            if known || self.order == FreeOrder::Last {
                self.link(block.0, self.index.nodes[0].previous);
            } else {
                self.link(block.0, front);
                front = block.0;
            }
        }
    }

    /// Remembers a held block's content, so that it can be found. Several blocks may be remembered under one key.
    ///
    /// # Panics
    /// When it is the null block, held by nobody, or remembered already.
    pub fn remember(&mut self, block: BlockId, key: Key) {
        assert!(self.references(block) > 0, "block {} is held by nobody", block.0);
        self.index.insert(block.0, key.0);
    }

    /// Forgets a block's content; it stays where it is.
    pub fn forget(&mut self, block: BlockId) -> Option<Key> {
        let key = self.index.remove(block.0).map(Key);
        if key.is_some() && self.references(block) == 0 {
            self.cached -= 1;
        }
        key
    }

    /// Forgets every content, if nobody holds a block; false, with nothing done, otherwise.
    pub fn reset(&mut self) -> bool {
        if self.held_blocks() > 0 {
            return false;
        }
        self.index.clear();
        self.cached = 0;
        true
    }

    /// Returns the free blocks, the next to be allocated first.
    pub fn queue(&self) -> impl Iterator<Item = BlockId> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            at = self.index.nodes[at as usize].next;
            (at != 0).then_some(BlockId(at))
        })
    }

    /// Returns the bytes that it takes on the heap; they never change.
    pub fn heap_bytes(&self) -> usize {
        self.index.heap_bytes()
    }

    /// Checks that the queue, the counts and the index agree.
    ///
    /// # Panics
    /// When they do not.
    pub fn verify(&self) {
        let (mut free, mut cached) = (0, 0);
        let mut previous = 0;
        for block in self.queue() {
            assert_eq!(self.references(block), 0, "block {} is free and held", block.0);
            assert_eq!(
                self.index.nodes[block.index()].previous,
                previous,
                "the queue is torn before block {}",
                block.0
            );
            previous = block.0;
            free += 1;
            cached += u32::from(self.index.key(block.0).is_some());
            assert!(free < self.blocks(), "the queue runs in a circle");
        }
        assert_eq!(self.index.nodes[0].previous, previous, "the queue's end is lost");
        assert_eq!((self.free, self.cached), (free, cached), "free and cached blocks are miscounted");
        let held = (1..self.blocks()).filter(|&block| self.references(BlockId(block)) > 0).count() as u32;
        assert_eq!(held, self.held_blocks(), "blocks leaked");
        self.index.verify();
    }

    /// Takes a block out of the free queue.
    fn unlink(&mut self, block: u32) {
        let Node { previous, next, .. } = *self.index.node(block);
        self.index.node(previous).next = next;
        self.index.node(next).previous = previous;
        self.free -= 1;
    }

    /// Puts a block into the free queue behind another.
    fn link(&mut self, block: u32, behind: u32) {
        let next = std::mem::replace(&mut self.index.node(behind).next, block);
        self.index.node(next).previous = block;
        let node = self.index.node(block);
        (node.next, node.previous) = (next, behind);
        self.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hash: u64) -> Key {
        Key::new(BlockHash(hash), 0)
    }

    fn queue(pool: &Pool) -> Vec<u32> {
        pool.verify();
        pool.queue().map(|block| block.0).collect()
    }

    #[test]
    fn blocks_come_back_in_the_order_of_the_release() {
        for (order, expected) in [(FreeOrder::Last, vec![4, 3, 2, 1]), (FreeOrder::BlankFirst, vec![3, 1, 4, 2])] {
            let mut pool = Pool::new(5, order);
            let held: Vec<BlockId> = std::iter::from_fn(|| pool.allocate()).take(3).collect();
            assert_eq!(held, [BlockId(1), BlockId(2), BlockId(3)]);
            pool.remember(held[1], key(7));
            pool.free(held.into_iter().rev());
            assert_eq!(queue(&pool), expected);
            assert_eq!((pool.cached_blocks(), pool.free_blocks()), (1, 4));
        }
    }

    #[test]
    fn the_first_remembered_of_equal_blocks_is_found() {
        let mut pool = Pool::new(6, FreeOrder::Last);
        let held: Vec<BlockId> = std::iter::from_fn(|| pool.allocate()).take(4).collect();
        for &block in &held {
            pool.remember(block, key(7));
        }
        assert_eq!(pool.lookup(key(7)), Some(held[0]));
        assert_eq!(pool.forget(held[0]), Some(key(7)));
        assert_eq!(pool.lookup(key(7)), Some(held[1]));
        pool.forget(held[2]);
        pool.remember(held[0], key(7));
        pool.forget(held[1]);
        assert_eq!(pool.lookup(key(7)), Some(held[3]));
        pool.forget(held[3]);
        assert_eq!(pool.lookup(key(7)), Some(held[0]));
        pool.forget(held[0]);
        assert_eq!(pool.lookup(key(7)), None);
        pool.verify();
    }

    #[test]
    fn an_allocated_block_forgets_and_nothing_is_left_to_allocate_at_the_end() {
        let mut pool = Pool::new(2, FreeOrder::Last);
        let block = pool.allocate().unwrap();
        assert_eq!(pool.allocate(), None);
        pool.remember(block, key(7));
        assert!(!pool.reset(), "somebody holds a block");
        pool.free([block, BlockId::NULL]);
        assert_eq!(pool.allocate_evicting(), Some((block, Some(key(7)))));
        assert_eq!((pool.lookup(key(7)), pool.state(block)), (None, State::Held(1)));
        pool.free([block]);
        assert_eq!((pool.state(block), pool.reset()), (State::Blank, true));
    }

    #[test]
    fn a_million_blocks_take_less_than_100_mb() {
        let mut pool = Pool::new(1_000_000, FreeOrder::BlankFirst);
        let before = pool.heap_bytes();
        assert!(before < 60_000_000, "{before}");
        let held: Vec<BlockId> = std::iter::from_fn(|| pool.allocate()).collect();
        for &block in &held {
            pool.remember(block, key(u64::from(block.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        }
        pool.free(held);
        assert_eq!(pool.heap_bytes(), before, "nothing is allocated later");
        assert_eq!(pool.cached_blocks(), 999_999);
    }
}
