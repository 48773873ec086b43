//! How much of a sequence is in the cache? The longest beginning that every group of layers can resume behind.

use super::{Group, Joint, Kind, Reach};
use crate::{BlockHash, BlockId, Key, Pool};

/// What a lookup found. Kept by the caller and used again, so that lookups allocate nothing.
#[derive(Clone, Debug, Default)]
pub struct Hit {
    /// Tokens that need not be computed.
    pub tokens: u32,
    /// Where another group's longer hit ends, if some group lags behind: a place where prompts branch. 0 if none does.
    pub junction: u32,
    /// The blocks of each group, null where nothing is needed.
    pub(super) blocks: Vec<Vec<BlockId>>,
}

impl Hit {
    /// Returns an empty one.
    pub const fn new() -> Self {
        Hit { tokens: 0, junction: 0, blocks: Vec::new() }
    }

    /// Empties it for so many groups.
    pub fn clear(&mut self, groups: usize) {
        self.tokens = 0;
        self.junction = 0;
        self.blocks.resize(groups, Vec::new());
        self.blocks.iter_mut().for_each(Vec::clear);
    }

    /// Returns the blocks of a group, null where nothing is needed.
    pub fn blocks(&self, group: usize) -> &[BlockId] {
        self.blocks.get(group).map_or(&[], Vec::as_slice)
    }
}

/// What a lookup goes through.
pub(super) struct Lookup<'a> {
    pub pool: &'a Pool,
    pub kinds: &'a [Kind],
    pub joint: Joint,
    /// Tokens between two hashes.
    pub fine: u32,
    /// What hits are rounded down to.
    pub align: u32,
    pub hashes: &'a [BlockHash],
}

impl Lookup<'_> {
    /// Finds the longest common hit of at most so many tokens.
    pub fn find(&self, most: u32, hit: &mut Hit) {
        match self.joint {
            // vLLM 0.11.0 v1/core/kv_cache_coordinator.py, `find_longest_cache_hit` of both coordinators.
            Joint::TwoKinds => {
                hit.tokens = self.kinds.iter().fold(most, |most, kind| self.one(kind, most, hit));
            }
            Joint::FixedPoint => self.fixed_point(most, hit),
        }
        for kind in self.kinds.iter().filter(|kind| kind.group.reach == Reach::Full) {
            let blocks = hit.tokens.div_ceil(kind.group.block_tokens.get()) as usize;
            for &member in &kind.members {
                hit.blocks[member].truncate(blocks);
            }
        }
    }

    /// vLLM 0.33.0 v1/core/kv_cache_coordinator.py, `HybridKVCacheCoordinator.find_longest_cache_hit`.
    fn fixed_point(&self, most: u32, hit: &mut Hit) {
        let simple = self.kinds.len() == 1 || self.kinds.len() == 2 && self.kinds[0].group.reach == Reach::Full;
        let (mut tokens, mut longest) = (most, 0);
        let mut first = true;
        loop {
            let mut current = tokens;
            for kind in self.kinds {
                // Beginnings of what full attention has are had, too: once is enough.
                if kind.group.reach == Reach::Full && !first {
                    let found = hit.blocks[kind.members[0]].len() as u64 * u64::from(kind.group.block_tokens.get());
                    let found = u32::try_from(found).unwrap_or(u32::MAX);
                    current = current.min(found - found % self.align);
                    continue;
                }
                current = self.one(kind, current, hit);
                longest = longest.max(current);
            }
            first = false;
            if current >= tokens {
                break;
            }
            tokens = current;
            if simple {
                break;
            }
        }
        hit.tokens = tokens;
        hit.junction = if self.kinds.len() > 1 && longest > tokens { longest } else { 0 };
    }

    /// Finds what the groups of one kind have, of at most so many tokens.
    fn one(&self, kind: &Kind, most: u32, hit: &mut Hit) -> u32 {
        for &member in &kind.members {
            hit.blocks[member].clear();
        }
        match kind.group.reach {
            Reach::Full => self.full(kind, most, hit),
            Reach::Sliding { window } => self.sliding(kind, most, window.get(), hit),
            Reach::Chunked { .. } => self.chunked(kind, most, hit),
        }
    }

    /// The hash of the beginning that ends with a block.
    fn hash(&self, group: Group, block: u32) -> Option<BlockHash> {
        let end = (u64::from(block) + 1) * u64::from(group.block_tokens.get() / self.fine);
        self.hashes.get(end as usize - 1).copied()
    }

    /// Puts the blocks that all groups of a kind have for a place into the hit, and says whether they have them.
    fn cached(&self, kind: &Kind, block: u32, hit: &mut Hit, put: impl Fn(&mut Vec<BlockId>, BlockId)) -> bool {
        let Some(hash) = self.hash(kind.group, block) else { return false };
        let find = |member: usize| self.pool.lookup(Key::new(hash, member as u32));
        if kind.members.len() > 1 && kind.members.iter().any(|&member| find(member).is_none()) {
            return false;
        }
        for &member in &kind.members {
            let Some(found) = find(member) else { return false };
            put(&mut hit.blocks[member], found);
        }
        true
    }

    /// From the left until the first miss.
    fn full(&self, kind: &Kind, most: u32, hit: &mut Hit) -> u32 {
        let size = kind.group.block_tokens.get();
        let found = (0..most / size).take_while(|&block| self.cached(kind, block, hit, Vec::push)).count() as u32;
        let tokens = found * size;
        let tokens = tokens - tokens % self.align;
        for &member in &kind.members {
            hit.blocks[member].truncate(tokens.div_ceil(size) as usize);
        }
        tokens
    }

    /// From the right until as many neighbours are found as the next token looks at; else what there is at the very
    /// beginning (vLLM 0.33.0 v1/core/single_type_kv_cache_manager.py, `SlidingWindowManager.find_longest_cache_hit`).
    fn sliding(&self, kind: &Kind, most: u32, window: u32, hit: &mut Hit) -> u32 {
        let size = kind.group.block_tokens.get();
        let needed = (window - 1).div_ceil(size);
        let blocks = most / size;
        for &member in &kind.members {
            hit.blocks[member].resize(blocks as usize, BlockId::NULL);
        }
        let aligned = |blocks: u32| (u64::from(blocks) * u64::from(size)) % u64::from(self.align) == 0;
        let (mut neighbours, mut end) = (0, None);
        for block in (0..blocks).rev() {
            let begins = neighbours == 0;
            let put = |found: &mut Vec<BlockId>, id| {
                if !begins || aligned(block + 1) {
                    found[block as usize] = id;
                }
            };
            if !self.cached(kind, block, hit, put) {
                neighbours = 0;
                continue;
            }
            if begins && !aligned(block + 1) {
                continue;
            }
            neighbours += 1;
            if neighbours >= needed {
                end = Some(block + neighbours);
                break;
            }
        }
        let mut end = end.unwrap_or(neighbours);
        while !aligned(end) {
            end -= 1;
        }
        for &member in &kind.members {
            hit.blocks[member].truncate(end as usize);
        }
        end * size
    }

    /// Everything before the chunk of the next token needs no looking up; within the chunk from the left until the first
    /// miss (vLLM 0.33.0 v1/core/single_type_kv_cache_manager.py, `ChunkedLocalAttentionManager.find_longest_cache_hit`).
    fn chunked(&self, kind: &Kind, most: u32, hit: &mut Hit) -> u32 {
        let size = kind.group.block_tokens.get();
        let skipped = kind.group.reach.skipped(most) / size;
        for &member in &kind.members {
            hit.blocks[member].resize(skipped as usize, BlockId::NULL);
        }
        let found = (skipped..most / size).take_while(|&block| self.cached(kind, block, hit, Vec::push)).count() as u32;
        (skipped + found) * size
    }
}
