//! Which tokens are these? Sequences as runs of streams, and the chained hash of their blocks.

use std::num::NonZeroU32;

/// A stretch of a stream of tokens: the tokens `from..from + len` of stream `stream`. Two tokens are equal when their
/// streams and their places in them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Which stream.
    pub stream: u64,
    /// The first token's place in the stream.
    pub from: u32,
    /// Tokens.
    pub len: u32,
}

/// A sequence of tokens. Neighbouring runs are never continuations of each other, so equal sequences have equal runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Content {
    runs: Vec<Run>,
    len: u32,
}

impl Content {
    /// Returns the empty sequence.
    pub const fn new() -> Self {
        Content { runs: Vec::new(), len: 0 }
    }

    /// Appends the tokens `from..from + len` of a stream. Returns false, and leaves the sequence as it is, when it or the
    /// stream would grow beyond 2^32 − 1 tokens.
    #[must_use = "a sequence that is too long is left as it was"]
    pub fn try_push(&mut self, stream: u64, from: u32, len: u32) -> bool {
        if self.len.checked_add(len).is_none() || from.checked_add(len).is_none() {
            return false;
        }
        if len == 0 {
            return true;
        }
        self.len += len;
        match self.runs.last_mut() {
            Some(last) if last.stream == stream && last.from + last.len == from => last.len += len,
            Some(_) | None => self.runs.push(Run { stream, from, len }),
        }
        true
    }

    /// Appends the tokens `from..from + len` of a stream.
    ///
    /// # Panics
    /// When the sequence or the stream would grow beyond 2^32 − 1 tokens; [`Content::try_push`] is for numbers from outside.
    pub fn push(&mut self, stream: u64, from: u32, len: u32) {
        assert!(self.try_push(stream, from, len), "a sequence holds fewer than 2^32 tokens");
    }

    /// Appends the next tokens of the stream that it ends with. Returns false, and leaves the sequence as it is, when it is
    /// empty or would be too long.
    #[must_use = "a sequence that is too long is left as it was"]
    pub fn try_grow(&mut self, len: u32) -> bool {
        let Some(last) = self.runs.last_mut() else { return false };
        let (Some(all), Some(grown)) = (self.len.checked_add(len), last.len.checked_add(len)) else { return false };
        if last.from.checked_add(grown).is_none() {
            return false;
        }
        self.len = all;
        last.len = grown;
        true
    }

    /// Appends another sequence.
    ///
    /// # Panics
    /// As [`Content::push`].
    pub fn extend(&mut self, other: &Content) {
        for run in &other.runs {
            self.push(run.stream, run.from, run.len);
        }
    }

    /// Drops every token, keeping the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.len = 0;
    }

    /// Shortens the sequence to its first `len` tokens; longer lengths change nothing.
    pub fn truncate(&mut self, len: u32) {
        while self.len > len {
            let Some(last) = self.runs.last_mut() else { return };
            let surplus = self.len - len;
            if last.len > surplus {
                last.len -= surplus;
                self.len = len;
            } else {
                self.len -= last.len;
                self.runs.pop();
            }
        }
    }

    /// Returns the tokens of the sequence.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no token.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the runs in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}

/// What a full block holds, together with everything before it. Equal for equal prefixes; different prefixes collide
/// with probability 2^-64 a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub u64);

/// Walks along a sequence block by block and hashes each together with all before it. Keeps its place while the sequence
/// grows at its end, so no token is hashed twice.
#[derive(Clone, Debug)]
pub struct Chain {
    block: NonZeroU32,
    blocks: u32,
    run: usize,
    /// Tokens of that run that are behind us.
    used: u32,
    hash: u64,
}

impl Chain {
    /// Starts at a sequence's first block.
    ///
    /// # Panics
    /// When a block holds no token.
    pub fn new(block_tokens: u32) -> Self {
        let block = NonZeroU32::new(block_tokens).expect("a block holds at least one token");
        Chain { block, blocks: 0, run: 0, used: 0, hash: SEED }
    }

    /// Returns how many blocks were hashed.
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the tokens of a block.
    pub const fn block_tokens(&self) -> u32 {
        self.block.get()
    }

    /// Starts again at the first block.
    pub fn restart(&mut self) {
        *self = Chain::new(self.block.get());
    }

    /// Returns the hash of the next block, or `None` while the sequence has no further full one. The sequence must be the
    /// one that was walked so far, or a longer one with that beginning.
    pub fn next(&mut self, content: &Content) -> Option<BlockHash> {
        let end = (u64::from(self.blocks) + 1) * u64::from(self.block.get());
        if end > u64::from(content.len) {
            return None;
        }
        let mut left = self.block.get();
        while left > 0 {
            let run = content.runs[self.run];
            let take = left.min(run.len - self.used);
            if take > 0 {
                self.hash = mix(self.hash ^ run.stream, (u64::from(run.from + self.used) << 32) | u64::from(take));
            }
            self.used += take;
            left -= take;
            // A run may still grow at the sequence's end: only a run with a successor is left behind.
            if self.used == run.len && self.run + 1 < content.runs.len() {
                self.run += 1;
                self.used = 0;
            }
        }
        // Closes the block: equal runs cut into blocks of other sizes hash differently.
        self.hash = mix(self.hash, u64::from(self.block.get()) ^ SEED);
        self.blocks += 1;
        Some(BlockHash(self.hash))
    }
}

impl Chain {
    /// Returns the hashes of the blocks that hold tokens behind the first `prompt`, all of which are tokens of one stream
    /// from its beginning. They need the sequence no more. The chain must have walked all full blocks of the prompt.
    ///
    /// # Panics
    /// When it has not, or when the sequence is shorter than its prompt.
    pub fn follow(&self, content: &Content, prompt: u32, stream: u64) -> Follow {
        let mut at = self.blocks * self.block.get();
        assert!(prompt >= at && prompt - at < self.block.get(), "the prompt's full blocks come first");
        let (mut hash, mut run, mut used) = (self.hash, self.run, self.used);
        while at < prompt {
            let next = content.runs[run];
            let take = (prompt - at).min(next.len - used);
            if take > 0 {
                hash = mix(hash ^ next.stream, (u64::from(next.from + used) << 32) | u64::from(take));
            }
            at += take;
            (run, used) = (run + 1, 0);
        }
        let left = self.block.get() - prompt % self.block.get();
        Follow { hash, block: self.block, left, from: 0, stream }
    }
}

/// Hashes the blocks of what a sequence generates, without looking at it: each token is the next of one stream.
///
/// ```
/// use plimsoll_kv::{Chain, Content};
/// let mut content = Content::new();
/// content.push(1, 0, 20);
/// let mut chain = Chain::new(16);
/// chain.next(&content);
/// let mut follow = chain.follow(&content, 20, 9);
/// content.push(9, 0, 40);
/// assert_eq!(chain.next(&content), Some(follow.next()));
/// assert_eq!(chain.next(&content), Some(follow.next()));
/// ```
#[derive(Clone, Debug)]
pub struct Follow {
    hash: u64,
    block: NonZeroU32,
    /// Tokens that the next block still lacks.
    left: u32,
    from: u32,
    stream: u64,
}

impl Follow {
    /// Returns the hash of the next block, once it is full.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> BlockHash {
        self.hash = mix(self.hash ^ self.stream, (u64::from(self.from) << 32) | u64::from(self.left));
        self.hash = mix(self.hash, u64::from(self.block.get()) ^ SEED);
        self.from = self.from.wrapping_add(self.left);
        self.left = self.block.get();
        BlockHash(self.hash)
    }
}

/// Where every chain begins: the fractional part of the golden ratio.
pub(crate) const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes two words into one: the 128-bit product folded onto itself, after Wang Yi's wyhash (public domain).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xA076_1D64_78BD_642F) * u128::from(b ^ 0xE703_7ED1_A0B4_28DB);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(runs: &[(u64, u32)]) -> Content {
        let mut content = Content::new();
        for &(stream, len) in runs {
            content.push(stream, 0, len);
        }
        content
    }

    fn hashes(block: u32, content: &Content) -> Vec<BlockHash> {
        let mut chain = Chain::new(block);
        std::iter::from_fn(|| chain.next(content)).collect()
    }

    #[test]
    fn equal_beginnings_hash_alike_until_they_part() {
        let a = hashes(16, &content(&[(1, 40), (2, 40)]));
        let b = hashes(16, &content(&[(1, 40), (3, 40)]));
        assert_eq!((a.len(), b.len()), (5, 5));
        assert_eq!(a[..2], b[..2]);
        assert!(a[2..].iter().zip(&b[2..]).all(|(a, b)| a != b), "a chain never comes together again");
        // The second run restarts its stream: not the continuation of the first.
        assert_ne!(hashes(16, &content(&[(2, 16), (2, 16)])), hashes(16, &content(&[(2, 32)])));
    }

    #[test]
    fn a_chain_goes_on_while_its_sequence_grows() {
        let mut grown = content(&[(1, 30)]);
        let mut chain = Chain::new(16);
        let mut found = vec![chain.next(&grown)];
        for token in 0..50 {
            grown.push(9, token, 1);
            found.push(chain.next(&grown));
        }
        let whole = hashes(16, &content(&[(1, 30), (9, 50)]));
        assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), whole);
    }

    #[test]
    fn cutting_and_growing() {
        let mut cut = content(&[(1, 10), (2, 5), (3, 5)]);
        cut.truncate(12);
        assert_eq!(cut, content(&[(1, 10), (2, 2)]));
        cut.truncate(99);
        assert_eq!(cut.len(), 12);
        assert!(!cut.try_push(4, u32::MAX, 1));
        assert!(!cut.try_push(4, 0, u32::MAX));
        assert_eq!(cut.runs().len(), 2);
    }
}
