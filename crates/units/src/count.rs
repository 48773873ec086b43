//! How many? Tokens and the blocks that hold them.

use std::fmt;
use std::num::NonZeroU64;

/// A whole number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tokens(u64);

/// A whole number of KV-cache blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks(u64);

/// The tokens that one block holds; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(NonZeroU64);

impl Tokens {
    /// Takes a number of tokens.
    pub const fn new(tokens: u64) -> Self {
        Tokens(tokens)
    }

    /// Returns the number of tokens.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the blocks that these tokens occupy. A partly filled block is a whole block.
    pub const fn in_blocks_of(self, size: BlockSize) -> Blocks {
        Blocks(self.0.div_ceil(size.get()))
    }
}

impl Blocks {
    /// Takes a number of blocks.
    pub const fn new(blocks: u64) -> Self {
        Blocks(blocks)
    }

    /// Returns the number of blocks.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the tokens that fill these blocks.
    pub const fn of(self, size: BlockSize) -> Tokens {
        Tokens(self.0.saturating_mul(size.get()))
    }
}

impl BlockSize {
    /// Takes the tokens of one block; `None` for zero.
    pub const fn new(tokens: u64) -> Option<Self> {
        match NonZeroU64::new(tokens) {
            Some(tokens) => Some(BlockSize(tokens)),
            None => None,
        }
    }

    /// Returns the tokens of one block.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&grouped(self.0))
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&grouped(self.0))
    }
}

/// Groups digits by three with a thin gap: `1 048 576`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partly_filled_block_costs_a_whole_one() {
        let size = BlockSize::new(16).unwrap();
        for (tokens, blocks) in [(0, 0), (1, 1), (16, 1), (17, 2), (259_840, 16_240)] {
            assert_eq!(Tokens::new(tokens).in_blocks_of(size), Blocks::new(blocks));
        }
    }

    #[test]
    fn digits_in_groups_of_three() {
        assert_eq!(Tokens::new(259_840).to_string(), "259 840");
        assert_eq!(Tokens::new(12).to_string(), "12");
    }
}
