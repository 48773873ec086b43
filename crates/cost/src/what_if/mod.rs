//! What would change if the launch were another? Parallelism, speculative decoding, prefill and decoding on separate GPUs,
//! and formats, as closed forms over bytes, links and the times of steps.
//!
//! Nothing here knows how long a step takes: times are arguments, or come from a function of a [`Shape`](crate::Shape).

pub mod disaggregated;
pub mod parallel;
pub mod precision;
pub mod speculative;
