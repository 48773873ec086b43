//! How long does a step take? Behind one trait: a fixed time, and what `plimsoll-cost` predicts.

use plimsoll_units::Nanos;

pub use plimsoll_cost::{Chunk, Knobs, Predictor, Shape};

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

impl Cost for Predictor {
    fn step(&mut self, shape: &Shape) -> Nanos {
        Nanos::seconds(self.seconds(shape)).unwrap_or(Nanos::MAX).max(Nanos::new(1))
    }

    fn window(&self) -> Option<u32> {
        self.inventory.window()
    }
}
