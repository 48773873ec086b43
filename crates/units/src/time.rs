//! When, and for how long? Simulated time in whole nanoseconds, so that equal runs end at equal instants on any machine.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// An instant since the start of a run, or a length of time: whole nanoseconds.
///
/// ```
/// use plimsoll_units::Nanos;
/// assert_eq!(Nanos::seconds(1.5), Some(Nanos::new(1_500_000_000)));
/// assert_eq!((Nanos::new(5) - Nanos::new(7)).get(), 0, "a difference below zero is zero");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Nanos = Nanos(0);
    /// The end of time: 584 years.
    pub const MAX: Nanos = Nanos(u64::MAX);

    /// Takes nanoseconds.
    pub const fn new(nanos: u64) -> Self {
        Nanos(nanos)
    }

    /// Takes seconds, rounded to the nearest nanosecond; `None` for what is negative, not a number or beyond 584 years.
    pub fn seconds(seconds: f64) -> Option<Self> {
        let nanos = (seconds * 1e9).round();
        // 2^64 as a float: the first value that no longer fits.
        (0.0..18_446_744_073_709_551_616.0).contains(&nanos).then_some(Nanos(nanos as u64))
    }

    /// Returns the nanoseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns seconds, rounded to what a float holds.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Returns milliseconds, rounded to what a float holds.
    pub fn as_millis(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add for Nanos {
    type Output = Nanos;

    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Nanos) {
        *self = *self + other;
    }
}

impl Sub for Nanos {
    type Output = Nanos;

    fn sub(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Nanos {
    /// Writes three significant digits with the unit that suits: `1.28 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            0..1_000 => (self.0 as f64, "ns"),
            1_000..1_000_000 => (self.0 as f64 / 1e3, "us"),
            1_000_000..1_000_000_000 => (self.0 as f64 / 1e6, "ms"),
            _ => (self.0 as f64 / 1e9, "s"),
        };
        let digits = match value {
            _ if self.0 < 1_000 => 0,
            _ if value < 10.0 => 2,
            _ if value < 100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_that_are_none_are_refused() {
        for seconds in [-1e-9, f64::NAN, f64::INFINITY, 1e11] {
            assert_eq!(Nanos::seconds(seconds), None, "{seconds}");
        }
        assert_eq!(Nanos::seconds(0.0), Some(Nanos::ZERO));
        assert_eq!(Nanos::seconds(1e-9), Some(Nanos::new(1)));
    }

    #[test]
    fn three_digits_and_a_unit() {
        for (nanos, text) in
            [(0, "0 ns"), (999, "999 ns"), (1_284_000, "1.28 ms"), (61_400_000_000, "61.4 s"), (25_000, "25.0 us")]
        {
            assert_eq!(Nanos::new(nanos).to_string(), text);
        }
    }
}
