//! How long does a step take? Behind one trait: a fixed time, a simple roofline, and room for a better model.

pub mod roofline;

use plimsoll_units::Nanos;

pub use plimsoll_cost::{Chunk, Shape};
pub use roofline::Roofline;

/// Says how long a step takes.
pub trait Cost {
    /// Returns the time of a step; at least a nanosecond.
    fn step(&mut self, shape: &Shape) -> Nanos;

    /// Returns the attention window for which [`Shape::decode_windowed`] is kept, in tokens.
    fn window(&self) -> Option<u32> {
        None
    }
}

/// The same time for every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(pub Nanos);

impl Cost for Fixed {
    fn step(&mut self, _shape: &Shape) -> Nanos {
        self.0.max(Nanos::new(1))
    }
}
