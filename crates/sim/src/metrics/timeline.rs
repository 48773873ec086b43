//! How full was it over time? Levels integrated exactly over bins whose width doubles as time goes on.

use plimsoll_units::Nanos;

use crate::schedule::Occupancy;

/// Bins at most.
pub const BINS: usize = 512;

/// Width of a bin at first: 1 ms.
const FIRST: u64 = 1_000_000;

/// What is followed over time.
const LEVELS: usize = 7;

/// What stands at some level during a step: one number for each, in the order of [`Integrals`]' fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Levels([u64; LEVELS]);

impl Levels {
    pub(super) fn new(running: usize, waiting: usize, occupancy: &Occupancy) -> Self {
        let Occupancy { used, cached, wasted, reserved, stranded, capacity: _ } = *occupancy;
        Levels([running as u64, waiting as u64, used, cached, wasted, reserved, stranded])
    }
}

/// A span of time, and each level multiplied by how long it stood: exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Integrals {
    /// Nanoseconds that were seen.
    pub nanos: u64,
    /// Tokens generated at the ends of steps.
    pub output_tokens: u64,
    levels: [u128; LEVELS],
}

impl Integrals {
    /// Returns the mean of running requests.
    pub fn running(&self) -> f64 {
        self.mean(0)
    }

    /// Returns the mean of waiting requests.
    pub fn waiting(&self) -> f64 {
        self.mean(1)
    }

    /// Returns the means of the cache's parts, in tokens: used, cached, wasted, reserved, stranded.
    pub fn cache(&self) -> [f64; 5] {
        [2, 3, 4, 5, 6].map(|level| self.mean(level))
    }

    fn mean(&self, level: usize) -> f64 {
        super::samples::mean(self.levels[level], self.nanos)
    }

    #[inline]
    fn stand(&mut self, levels: &Levels, nanos: u64) {
        self.nanos += nanos;
        for (sum, level) in self.levels.iter_mut().zip(levels.0) {
            *sum += u128::from(level) * u128::from(nanos);
        }
    }

    fn merge(&mut self, other: &Integrals) {
        self.nanos += other.nanos;
        self.output_tokens += other.output_tokens;
        for (sum, more) in self.levels.iter_mut().zip(other.levels) {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Highest levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks([u64; LEVELS]);

impl Peaks {
    /// Returns the most requests that ran at once.
    pub const fn running(&self) -> u64 {
        self.0[0]
    }

    /// Returns the most requests that waited at once.
    pub const fn waiting(&self) -> u64 {
        self.0[1]
    }

    /// Returns the peaks of the cache's parts, in tokens: used, cached, wasted, reserved, stranded.
    pub const fn cache(&self) -> [u64; 5] {
        let [_, _, used, cached, wasted, reserved, stranded] = self.0;
        [used, cached, wasted, reserved, stranded]
    }

    #[inline]
    fn see(&mut self, levels: &Levels) {
        for (peak, level) in self.0.iter_mut().zip(levels.0) {
            *peak = (*peak).max(level);
        }
    }
}

/// Levels over time, in at most [`BINS`] bins of equal width. When time outgrows them the width doubles and bins are
/// merged in pairs, exactly. Beside them, the same over the measured part of the time.
#[derive(Clone, Debug)]
pub struct Timeline {
    origin: u64,
    width: u64,
    /// Bins that are over, from the origin on.
    bins: Vec<Integrals>,
    /// What was seen since the last edge.
    open: Integrals,
    /// Where the open part ends: a bin's end, or the measured part's beginning or end.
    edge: u64,
    /// Until where levels are known.
    now: u64,
    /// The measured part: after `from`, until and with `until`.
    from: u64,
    until: u64,
    measured: Integrals,
    peaks: Peaks,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Timeline {
            origin: 0,
            width: FIRST,
            bins: Vec::new(),
            open: Integrals::default(),
            edge: 0,
            now: 0,
            from: u64::MAX,
            until: u64::MAX,
            measured: Integrals::default(),
            peaks: Peaks::default(),
        }
    }

    /// Begins at `at`; called once, before any level.
    pub(super) fn begin(&mut self, at: Nanos) {
        self.origin = at.get();
        self.now = at.get();
        self.edge = self.next_edge();
    }

    /// Measures from one time to another; what was seen until now is not touched.
    pub(super) fn measure(&mut self, from: Nanos, until: Nanos) {
        self.close();
        self.from = from.get();
        self.until = until.get();
        self.edge = self.next_edge();
    }

    /// Whether something that happens at `at` is in the measured part.
    #[inline]
    pub(super) const fn measures(&self, at: Nanos) -> bool {
        self.from < at.get() && at.get() <= self.until
    }

    /// Takes levels that stood until `end`, at which tokens were generated.
    #[inline]
    pub(super) fn stand(&mut self, levels: &Levels, end: Nanos, output_tokens: u64) {
        if end.get() < self.edge {
            self.open.stand(levels, end.get() - self.now);
            self.now = end.get();
        } else {
            self.cross(levels, end.get());
        }
        self.open.output_tokens += output_tokens;
        if self.measures(end) {
            self.peaks.see(levels);
        }
    }

    /// Takes levels that stand over one edge or more. What ends at an edge belongs before it, and so do its tokens: the
    /// edge is closed by what comes next.
    fn cross(&mut self, levels: &Levels, end: u64) {
        while end > self.edge {
            self.open.stand(levels, self.edge - self.now);
            self.now = self.edge;
            self.close();
            self.widen(end);
            self.edge = self.next_edge();
        }
        self.open.stand(levels, end - self.now);
        self.now = end;
    }

    /// Doubles the width until `end` lies in a bin.
    fn widen(&mut self, end: u64) {
        while (end - self.origin).saturating_sub(1) / self.width >= BINS as u64 {
            self.width = self.width.saturating_mul(2);
            let merged = self.bins.chunks(2).map(|pair| {
                let mut sum = pair[0];
                pair[1..].iter().for_each(|bin| sum.merge(bin));
                sum
            });
            self.bins = merged.collect();
        }
    }

    /// Puts the open part to its bin, and to the measured part where it lies in it.
    fn close(&mut self) {
        if self.open == Integrals::default() {
            return;
        }
        self.widen(self.now);
        let bin = ((self.now - self.origin).saturating_sub(1) / self.width) as usize;
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, Integrals::default());
        }
        self.bins[bin].merge(&self.open);
        // Edges lie at both ends of the measured part, so that the open part lies in it or outside, whole.
        if self.from < self.now && self.now <= self.until {
            self.measured.merge(&self.open);
        }
        self.open = Integrals::default();
    }

    /// Returns the first edge after what is known.
    fn next_edge(&self) -> u64 {
        let bin = (self.now - self.origin) / self.width;
        let end = (bin + 1).checked_mul(self.width).and_then(|end| end.checked_add(self.origin)).unwrap_or(u64::MAX);
        [self.from, self.until].into_iter().filter(|edge| *edge > self.now).fold(end, u64::min)
    }

    /// Ends what is open, so that all that was seen is in the bins.
    pub(super) fn settle(&mut self) {
        self.close();
        self.edge = self.next_edge();
    }

    /// Returns when the measured part begins.
    pub(super) const fn measured_from(&self) -> Nanos {
        Nanos::new(self.from)
    }

    /// Returns how many nanoseconds of a span are in the measured part.
    pub(super) fn measured_of(&self, from: Nanos, until: Nanos) -> u64 {
        until.get().min(self.until).saturating_sub(from.get().max(self.from))
    }

    /// Returns the measured part, as far as levels are known.
    pub(super) fn span(&self) -> std::ops::Range<Nanos> {
        let from = self.from.max(self.origin).min(self.now);
        Nanos::new(from)..Nanos::new(self.until.min(self.now).max(from))
    }

    /// Returns when the first bin begins.
    pub const fn origin(&self) -> Nanos {
        Nanos::new(self.origin)
    }

    /// Returns the width of a bin; the last one may be cut short, which its own `nanos` tells.
    pub const fn width(&self) -> Nanos {
        Nanos::new(self.width)
    }

    /// Returns the bins.
    pub fn bins(&self) -> &[Integrals] {
        &self.bins
    }

    /// Returns what was seen in the measured part.
    pub const fn measured(&self) -> &Integrals {
        &self.measured
    }

    /// Returns the highest levels of steps and idle spans that ended in the measured part.
    pub const fn peaks(&self) -> &Peaks {
        &self.peaks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn levels(at: u64) -> Levels {
        Levels([at % 7, at % 5, at % 1_000_003, at % 11, at % 13, 0, 1])
    }

    /// Lets levels stand for some lengths of time, one after the other.
    fn timeline(origin: u64, lengths: &[u64], measure: (u64, u64)) -> Timeline {
        let mut timeline = Timeline::new();
        timeline.begin(Nanos::new(origin));
        timeline.measure(Nanos::new(measure.0), Nanos::new(measure.1));
        let mut now = origin;
        for (at, length) in lengths.iter().enumerate() {
            now += length;
            timeline.stand(&levels(at as u64 * 77_777), Nanos::new(now), 1);
        }
        timeline.settle();
        timeline
    }

    #[test]
    fn long_spans_spread_over_bins() {
        let timeline = timeline(5, &[10_000_000_000], (0, u64::MAX));
        assert_eq!(timeline.width(), Nanos::new(FIRST * 32));
        assert_eq!(timeline.bins().len(), 313);
        assert!(timeline.bins()[..312].iter().all(|bin| bin.nanos == FIRST * 32));
        assert_eq!(timeline.bins()[312].nanos, 10_000_000_000 - 312 * FIRST * 32);
        assert_eq!(timeline.bins()[312].output_tokens, 1);
    }

    #[test]
    fn the_end_of_time_is_reached() {
        let timeline = timeline(0, &[1, u64::MAX - 1], (0, u64::MAX));
        assert!(timeline.bins().len() <= BINS);
        assert_eq!(timeline.measured().nanos, u64::MAX);
    }

    proptest! {
        #[test]
        fn bins_lose_nothing(
            origin in 0u64..1_000_000_000_000,
            lengths in prop::collection::vec(prop_oneof![1u64..1_000, 1u64..5_000_000, Just(FIRST), 1u64..900_000_000_000], 1..300),
            from in 0u64..1_000_000_000_000, length in 0u64..1_000_000_000_000,
        ) {
            let all: u64 = lengths.iter().sum();
            let whole = timeline(origin, &lengths, (0, u64::MAX));
            prop_assert!(whole.bins().len() <= BINS);
            let mut sum = Integrals::default();
            whole.bins().iter().for_each(|bin| sum.merge(bin));
            prop_assert_eq!(sum, *whole.measured());
            prop_assert_eq!((sum.nanos, sum.output_tokens), (all, lengths.len() as u64));
            let mut right = [0u128; LEVELS];
            for (at, length) in lengths.iter().enumerate() {
                for (sum, level) in right.iter_mut().zip(levels(at as u64 * 77_777).0) {
                    *sum += u128::from(level) * u128::from(*length);
                }
            }
            prop_assert_eq!(sum.levels, right);
            for (at, bin) in whole.bins().iter().enumerate() {
                prop_assert!(bin.nanos == whole.width().get() || at + 1 == whole.bins().len());
            }
            let part = timeline(origin, &lengths, (from, from + length));
            let seen = (from + length).min(origin + all).saturating_sub(from.max(origin));
            prop_assert_eq!(part.measured().nanos, seen);
            prop_assert_eq!(part.bins(), whole.bins());
        }
    }
}
