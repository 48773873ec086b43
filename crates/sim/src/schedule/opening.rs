//! When do the requests of a stretch open blocks? Counted by the places at which their last blocks end.

/// How many requests of a stretch open a block in each of its steps, at a cost that does not grow with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening {
    /// How many open a block in the step after so many, modulo a block's tokens.
    after: Vec<u32>,
    steps: u32,
}

impl Opening {
    /// Begins a stretch of requests with so many computed tokens each.
    pub(super) fn begin(&mut self, block_tokens: u32, computed: impl Iterator<Item = u32>) {
        self.after.clear();
        self.after.resize(block_tokens as usize, 0);
        for tokens in computed {
            let behind = tokens % block_tokens;
            self.after[((block_tokens - behind) % block_tokens) as usize] += 1;
        }
        self.steps = 0;
    }

    /// Returns the blocks that the next step opens.
    pub(super) fn next(&self) -> u32 {
        self.after[self.steps as usize % self.after.len()]
    }

    /// Goes on to the step after it.
    pub(super) fn step(&mut self) {
        self.steps += 1;
    }

    /// Returns the steps that were done.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }
}
