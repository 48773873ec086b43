//! What does a step compute, as far as its time depends on it?

/// What a step computes, as far as its time depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Pieces of more than one token: tokens computed, and tokens in the cache before them.
    pub chunks: Vec<Chunk>,
    /// Sequences that compute one token.
    pub decodes: u32,
    /// Tokens that those sequences have in the cache, together.
    pub decode_context: u64,
    /// The same with each sequence cut to the model's attention window; equal where there is none.
    pub decode_windowed: u64,
    /// Sequences that take part and generate nothing.
    pub padding: u32,
    /// Tokens that are sampled.
    pub sampled: u32,
}

/// A piece of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Tokens computed.
    pub tokens: u32,
    /// Tokens in the cache before them.
    pub context: u32,
}

impl Shape {
    /// Empties it, keeping the memory.
    pub fn clear(&mut self) {
        self.chunks.clear();
        *self = Shape { chunks: std::mem::take(&mut self.chunks), ..Shape::default() };
    }

    /// Returns all tokens computed, padding not counted.
    pub fn tokens(&self) -> u64 {
        u64::from(self.decodes) + self.chunks.iter().map(|chunk| u64::from(chunk.tokens)).sum::<u64>()
    }
}
