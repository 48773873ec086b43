//! Who holds which block, for which layers? Block tables of running sequences over one pool, grown and trimmed as the
//! sequences do.

use super::lookup::Lookup;
use super::watch::Watch;
use super::{Group, Hit, Kind, Manner, Reach, kinds};
use crate::{BlockHash, BlockId, Key, Pool};

/// A running sequence's place. Seats are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u32);

/// What is kept of a sequence in one group.
#[derive(Clone, Debug, Default)]
struct Table {
    blocks: Vec<BlockId>,
    /// Blocks from the left that were remembered, or that need not be.
    remembered: u32,
    /// Where nulls end: all blocks before were let go.
    trimmed: u32,
}

/// A paged cache for several groups of layers: a pool, and a block table per group and running sequence.
///
/// ```
/// use std::num::NonZeroU32;
/// use plimsoll_kv::{Chain, Content, Group, Hit, Manner, Paged, Reach};
/// let group = Group { reach: Reach::Full, block_tokens: NonZeroU32::new(16).unwrap() };
/// let mut cache = Paged::new(100, &[group], true, Manner::default());
///
/// // A prompt of 40 tokens: two full blocks of it can be found later.
/// let mut prompt = Content::new();
/// prompt.push(1, 0, 40);
/// let mut chain = Chain::new(16);
/// let hashes: Vec<_> = std::iter::from_fn(|| chain.next(&prompt)).collect();
/// let mut hit = Hit::new();
/// cache.lookup(&hashes, prompt.len() - 1, &mut hit);
/// assert_eq!(hit.tokens, 0);
///
/// let first = cache.open();
/// assert!(cache.needed_anew(40, &hit, &[]) <= cache.pool().free_blocks());
/// cache.grow(first, 40);
/// cache.remember(first, &hashes, 40, 40, 0);
///
/// // The same prompt again shares them.
/// cache.lookup(&hashes, prompt.len() - 1, &mut hit);
/// assert_eq!(hit.tokens, 32);
/// let second = cache.open();
/// assert_eq!(cache.needed_anew(40, &hit, &[]), 1);
/// cache.adopt(second, &hit);
/// cache.grow(second, 40);
/// assert_eq!(cache.pool().held_blocks(), 4);
/// assert!(cache.pool().is_shared(cache.table(second, 0)[0]));
///
/// cache.close(first);
/// cache.close(second);
/// assert_eq!((cache.pool().held_blocks(), cache.pool().cached_blocks()), (0, 2));
/// cache.verify();
/// ```
#[derive(Clone, Debug)]
pub struct Paged {
    pool: Pool,
    groups: Vec<Group>,
    kinds: Vec<Kind>,
    manner: Manner,
    caching: bool,
    /// Tokens between two hashes: the greatest that divides every group's block.
    fine: u32,
    /// The least that every group's block divides.
    coarse: u32,
    /// One for each group of each seat.
    tables: Vec<Table>,
    vacant: Vec<Seat>,
    watch: Watch,
    freed: Vec<BlockId>,
}

impl Paged {
    /// Makes an empty cache over so many blocks, the null block included.
    ///
    /// # Panics
    /// Without a block or a group, or when the groups' block sizes have no common multiple below 2^32.
    pub fn new(blocks: u32, groups: &[Group], caching: bool, manner: Manner) -> Self {
        assert!(!groups.is_empty(), "a cache has at least one group of layers");
        let sizes = || groups.iter().map(|group| group.block_tokens.get());
        let fine = sizes().fold(0, divisor);
        let coarse = sizes().fold(1_u32, |a, b| (a / divisor(a, b)).checked_mul(b).expect("block sizes that fit"));
        Paged {
            pool: Pool::new(blocks, manner.order),
            groups: groups.to_vec(),
            kinds: kinds(groups),
            manner,
            caching,
            fine,
            coarse,
            tables: Vec::new(),
            vacant: Vec::new(),
            watch: Watch::default(),
            freed: Vec::new(),
        }
    }

    /// Returns the pool.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns how many hashes the beginnings of so many tokens have.
    pub fn hashes_of(&self, tokens: u32) -> u32 {
        if self.fine.is_power_of_two() { tokens >> self.fine.trailing_zeros() } else { tokens / self.fine }
    }

    /// Returns the groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns the tokens between two hashes that it is given.
    pub const fn hash_tokens(&self) -> u32 {
        self.fine
    }

    /// Whether contents are remembered.
    pub const fn is_caching(&self) -> bool {
        self.caching
    }

    /// Returns a sequence's blocks in a group, null where they were let go.
    pub fn table(&self, seat: Seat, group: usize) -> &[BlockId] {
        &self.tables[self.at(seat) + group].blocks
    }

    /// Takes a sequence in, with empty tables.
    pub fn open(&mut self) -> Seat {
        self.vacant.pop().unwrap_or_else(|| {
            let seat = Seat((self.tables.len() / self.groups.len()) as u32);
            self.tables.resize(self.tables.len() + self.groups.len(), Table::default());
            seat
        })
    }

    /// Lets a sequence go and frees its blocks, each group's last one first, so that ends of sequences are evicted before
    /// their beginnings.
    pub fn close(&mut self, seat: Seat) {
        let at = self.at(seat);
        for table in &mut self.tables[at..at + self.groups.len()] {
            self.pool.free(table.blocks.drain(..).rev());
            (table.remembered, table.trimmed) = (0, 0);
        }
        self.vacant.push(seat);
    }

    /// Finds the longest beginning of a sequence that is in the cache, of at most so many tokens. The hashes are of its
    /// beginnings of [`Paged::hash_tokens`] tokens, twice as many, and so on, as far as `most` goes.
    pub fn lookup(&self, hashes: &[BlockHash], most: u32, hit: &mut Hit) {
        hit.clear(self.groups.len());
        if !self.caching {
            return;
        }
        // One kind alone needs no common multiple.
        let align = match self.manner.joint {
            super::Joint::TwoKinds => 1,
            super::Joint::FixedPoint => self.coarse,
        };
        let lookup =
            Lookup { pool: &self.pool, kinds: &self.kinds, joint: self.manner.joint, fine: self.fine, align, hashes };
        lookup.find(most, hit);
    }

    /// Returns how many free blocks it takes to give a sequence room for so many tokens.
    pub fn needed(&self, seat: Seat, tokens: u32) -> u32 {
        let tables = &self.tables[self.at(seat)..];
        let needed = self
            .groups
            .iter()
            .zip(tables)
            .map(|(group, table)| group.blocks(tokens).saturating_sub(table.blocks.len() as u32));
        needed.fold(0, u32::saturating_add)
    }

    /// Returns how many free blocks it takes to give a newcomer what was found and room for so many tokens; those are
    /// counted that the hit takes out of the free queue. `caps` limits what is asked for in a group (no limits when empty).
    pub fn needed_anew(&self, tokens: u32, hit: &Hit, caps: &[u32]) -> u32 {
        let mut needed = 0_i64;
        for (number, group) in self.groups.iter().enumerate() {
            let size = group.block_tokens.get();
            let cap = caps.get(number).copied().unwrap_or(u32::MAX);
            let required = i64::from(tokens.div_ceil(size).min(cap));
            let found = hit.blocks(number);
            let skipped = if self.manner.leaves_skipped { group.reach.skipped(hit.tokens) / size } else { 0 };
            let taken = found.get(skipped as usize..).unwrap_or(&[]);
            let idle = |block: &&BlockId| !block.is_null() && self.pool.references(**block) == 0;
            let new = required - i64::from(skipped).max(found.len() as i64);
            needed += if self.manner.leaves_skipped { new.max(0) } else { new };
            needed += taken.iter().filter(idle).count() as i64;
        }
        u32::try_from(needed.max(0)).unwrap_or(u32::MAX)
    }

    /// Gives a sequence with empty tables what a lookup found.
    pub fn adopt(&mut self, seat: Seat, hit: &Hit) {
        if hit.blocks.iter().all(Vec::is_empty) {
            return;
        }
        let at = self.at(seat);
        for (number, group) in self.groups.iter().enumerate() {
            let table = &mut self.tables[at + number];
            debug_assert!(table.blocks.is_empty(), "a sequence adopts before it grows");
            let found = hit.blocks(number);
            let skipped = if self.manner.leaves_skipped {
                (group.reach.skipped(hit.tokens) / group.block_tokens.get()) as usize
            } else {
                0
            };
            table.blocks.resize(skipped, BlockId::NULL);
            for &block in found.get(skipped..).unwrap_or(&[]) {
                self.pool.touch(block);
                table.blocks.push(block);
            }
            table.remembered = table.blocks.len() as u32;
            table.trimmed = table.blocks.iter().take_while(|block| block.is_null()).count() as u32;
        }
    }

    /// Gives a sequence room for so many tokens, and returns how many tokens' worth of blocks were taken by the groups with
    /// the smallest blocks; larger blocks hold no tokens but a state, or the same bytes in another form.
    ///
    /// # Panics
    /// When there are too few free blocks; [`Paged::needed`] tells before.
    pub fn grow(&mut self, seat: Seat, tokens: u32) -> u64 {
        let at = self.at(seat);
        let mut taken = 0;
        for (number, group) in self.groups.iter().enumerate() {
            let required = group.blocks(tokens) as usize;
            let table = &mut self.tables[at + number].blocks;
            while table.len() < required {
                let (block, evicted) = self.pool.allocate_evicting().expect("needed() was asked before");
                if let Some(key) = evicted {
                    self.watch.note(key);
                }
                table.push(block);
                if group.block_tokens.get() == self.fine {
                    taken += u64::from(self.fine);
                }
            }
        }
        taken
    }

    /// Remembers the full blocks among a sequence's first `tokens`, by the hashes of its beginnings. `prompt` and
    /// `junction` tell where a later request may resume, for caches that do not remember everything.
    pub fn remember(&mut self, seat: Seat, hashes: &[BlockHash], tokens: u32, prompt: u32, junction: u32) {
        if !self.caching {
            return;
        }
        let at = self.at(seat);
        for (number, group) in self.groups.iter().enumerate() {
            let size = group.block_tokens.get();
            let tokens = if self.kinds.len() > 1 { tokens - tokens % self.coarse } else { tokens };
            let table = &mut self.tables[at + number];
            let full = group.full_blocks(tokens);
            if table.remembered >= full {
                continue;
            }
            let keep = (group.reach != Reach::Full).then(|| Keep::new(*group, self.manner.retention, self.coarse));
            for block in table.remembered..full {
                let id = table.blocks[block as usize];
                if id.is_null() || keep.as_ref().is_some_and(|keep| !keep.keeps(block, prompt, junction)) {
                    continue;
                }
                let end = if size == self.fine { block + 1 } else { (block + 1) * (size / self.fine) };
                let hash = hashes[end as usize - 1];
                let key = Key::new(hash, number as u32);
                self.watch.note(key);
                self.pool.remember(id, key);
            }
            table.remembered = full;
        }
    }

    /// Lets go of the blocks that no token looks at once `computed` are computed.
    pub fn trim(&mut self, seat: Seat, computed: u32) {
        let at = self.at(seat);
        for (number, group) in self.groups.iter().enumerate() {
            if group.reach == Reach::Full {
                continue;
            }
            let table = &mut self.tables[at + number];
            let mut skipped = group.reach.skipped(computed) / group.block_tokens.get();
            let chunked = matches!(group.reach, Reach::Chunked { .. });
            if chunked && self.manner.keeps_last_remembered && table.remembered > 0 {
                skipped = skipped.min(table.remembered - 1);
            }
            let skipped = skipped.min(table.blocks.len() as u32);
            if skipped <= table.trimmed {
                continue;
            }
            // The last one first, up to where nulls begin.
            self.freed.clear();
            for block in table.blocks[table.trimmed as usize..skipped as usize].iter_mut().rev() {
                if block.is_null() {
                    break;
                }
                self.freed.push(std::mem::replace(block, BlockId::NULL));
            }
            table.trimmed = skipped;
            self.pool.free(self.freed.drain(..));
        }
    }

    /// Returns the least number of computed tokens above `computed` at which trimming, growing by a token or remembering
    /// may change something; below, a sequence that grows token by token needs nothing.
    pub fn due(&self, computed: u32) -> u32 {
        if let [group @ Group { reach: Reach::Full, block_tokens: size }] = self.groups[..] {
            let rest = computed - group.full_blocks(computed) * size.get();
            // The last token of a block, and the first of the next.
            let fills = self.caching && rest + 1 < size.get();
            return computed.saturating_add(size.get() - rest - u32::from(fills));
        }
        let mut due = u32::MAX;
        for group in &self.groups {
            let size = group.block_tokens.get();
            let after = |offset: u32| {
                // The next number above `computed` that leaves `offset` when divided by the block's size.
                let rest = computed % size;
                let step = if offset > rest { offset - rest } else { size - rest + offset };
                computed.saturating_add(step)
            };
            due = due.min(after(0));
            if self.caching {
                due = due.min(after(size - 1));
            }
            match group.reach {
                Reach::Full => {}
                Reach::Sliding { window } => due = due.min(after((window.get() - 1) % size)),
                Reach::Chunked { chunk } => due = due.min((computed / chunk + 1).saturating_mul(chunk.get())),
            }
        }
        due
    }

    /// Returns how many sequences have a seat.
    pub fn open_seats(&self) -> usize {
        self.tables.len() / self.groups.len() - self.vacant.len()
    }

    /// Watches what a sequence with these hashes would find.
    pub fn watch(&mut self, hashes: &[BlockHash]) {
        let groups = self.groups.len();
        let keys = hashes.iter().flat_map(|&hash| (0..groups as u32).map(move |group| Key::new(hash, group)));
        self.watch.set(hashes.len() * groups, keys);
    }

    /// Stops watching.
    pub fn watch_off(&mut self) {
        self.watch.off();
    }

    /// Goes on watching the same sequence, as if nothing had changed yet.
    pub fn watch_again(&mut self) {
        self.watch.renew();
    }

    /// Whether something that is watched came or went.
    pub const fn watch_touched(&self) -> bool {
        self.watch.touched()
    }

    /// Checks that the tables and the pool agree, by the tables' references and by the pool's.
    ///
    /// # Panics
    /// When they do not.
    pub fn verify(&self) {
        self.pool.verify();
        let mut references = vec![0_u32; self.pool.blocks() as usize];
        for table in &self.tables {
            for block in table.blocks.iter().filter(|block| !block.is_null()) {
                references[block.index()] += 1;
            }
        }
        for (block, &held) in references.iter().enumerate().skip(1) {
            let block = BlockId(block as u32);
            assert_eq!(held, self.pool.references(block), "block {} has other references than its tables", block.0);
            assert!(held < 2 || self.pool.key(block).is_some(), "block {} is in two tables and not cached", block.0);
        }
        for seat in &self.vacant {
            let at = self.at(*seat);
            assert!(self.tables[at..at + self.groups.len()].iter().all(|table| table.blocks.is_empty()));
        }
    }

    fn at(&self, seat: Seat) -> usize {
        seat.0 as usize * self.groups.len()
    }
}

/// Which blocks of a group are worth remembering (vLLM 0.33.0 v1/core/single_type_kv_cache_manager.py,
/// `SlidingWindowManager.reachable_block_mask`).
struct Keep {
    size: u32,
    align: u32,
    retention: Option<u32>,
    /// Blocks that a hit needs at its end, where not everything is kept.
    needed: Option<u32>,
    /// Blocks between two places whose ends are kept.
    segment: Option<u32>,
}

impl Keep {
    fn new(group: Group, retention: Option<u32>, align: u32) -> Self {
        let size = group.block_tokens.get();
        let mut keep = Keep { size, align, retention, needed: None, segment: None };
        let Reach::Sliding { window } = group.reach else { return keep };
        let needed = (window.get() - 1).div_ceil(size);
        keep.segment = match retention {
            None => Some(align / size),
            Some(0) => None,
            Some(interval) => Some((interval / size).max(1)),
        };
        if keep.segment.is_none_or(|segment| needed < segment) {
            keep.needed = Some(needed);
        }
        keep
    }

    fn keeps(&self, block: u32, prompt: u32, junction: u32) -> bool {
        let Some(needed) = self.needed else { return true };
        if self.segment.is_some_and(|segment| block % segment >= segment - needed) {
            return true;
        }
        self.retention.is_some()
            && [prompt.saturating_sub(1), junction].into_iter().any(|boundary| {
                let end = boundary / self.align * self.align / self.size;
                (end.saturating_sub(needed)..end).contains(&block)
            })
    }
}

/// The greatest common divisor.
fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}
