//! How are many times summed up in little memory? Exactly while few of them differ, by their leading bits after that.

use plimsoll_units::Nanos;

/// Distinct values that are kept as they are; with one more, all of them go into the sketch. Whether that happens depends
/// on the values alone, not on their order.
pub const EXACT: usize = 16_384;

/// Leading bits of a value that the sketch keeps, the first one not counted. A value stands in for those of its bucket
/// with an error of at most 2^-11: 0.049 %.
const BITS: u32 = 10;

/// Times with how often each occurred: mean, extremes and percentiles in memory that does not grow with their number.
///
/// Up to [`EXACT`] different values everything is exact. Beyond, percentiles are those of a histogram whose buckets are
/// 2^-10 of their value wide, so that each is right to 0.05 %; count, mean and extremes stay exact. Nothing depends on the
/// order in which values come.
///
/// ```
/// use plimsoll_sim::metrics::Samples;
/// use plimsoll_units::Nanos;
///
/// let mut samples = Samples::default();
/// for value in [10, 20, 40] {
///     samples.add(Nanos::new(value), 1);
/// }
/// let summary = samples.summary().expect("there are values");
/// assert_eq!((summary.p50, summary.p90), (20.0, 36.0), "between two values, linearly");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// The newest value, and how often it came in a row: not yet in what follows.
    newest: u64,
    row: u64,
    count: u64,
    sum: u128,
    least: u64,
    most: u64,
    store: Store,
}

/// What values amount to. Times are in nanoseconds; between two of them percentiles may have a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// How many values.
    pub count: u64,
    /// Their mean, from an exact sum.
    pub mean: f64,
    /// The least.
    pub min: Nanos,
    /// The greatest.
    pub max: Nanos,
    /// The median.
    pub p50: f64,
    /// Nine of ten are not above.
    pub p90: f64,
    /// 95 of 100 are not above.
    pub p95: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
    /// Whether percentiles are exact; else within 0.05 %.
    pub exact: bool,
}

impl Samples {
    /// Takes a value that occurred `count` times.
    #[inline]
    pub fn add(&mut self, value: Nanos, count: u32) {
        if value.get() == self.newest {
            self.row = self.row.saturating_add(u64::from(count));
        } else {
            self.flush();
            self.newest = value.get();
            self.row = u64::from(count);
        }
    }

    /// Sums up; `None` without a value.
    pub fn summary(&mut self) -> Option<Distribution> {
        self.flush();
        if self.count == 0 {
            return None;
        }
        let sorted = self.store.sorted();
        let percentile = |percent| self.percentile(&sorted, percent);
        Some(Distribution {
            count: self.count,
            mean: mean(self.sum, self.count),
            min: Nanos::new(self.least),
            max: Nanos::new(self.most),
            p50: percentile(50),
            p90: percentile(90),
            p95: percentile(95),
            p99: percentile(99),
            exact: matches!(self.store, Store::Exact(_)),
        })
    }

    /// Returns the percentiles from 0 (the least) to 100 (the greatest), 101 of them; none without a value.
    pub fn percentiles(&mut self) -> Vec<f64> {
        self.flush();
        if self.count == 0 {
            return Vec::new();
        }
        let sorted = self.store.sorted();
        (0..=100).map(|percent| self.percentile(&sorted, percent)).collect()
    }

    /// Puts the newest row of equal values to the others.
    fn flush(&mut self) {
        if self.row == 0 {
            return;
        }
        self.least = if self.count == 0 { self.newest } else { self.least.min(self.newest) };
        self.most = self.most.max(self.newest);
        self.count = self.count.saturating_add(self.row);
        self.sum = self.sum.saturating_add(u128::from(self.newest) * u128::from(self.row));
        self.store.add(self.newest, self.row);
        self.row = 0;
    }

    /// Returns the percentile as numpy's default computes it: at rank (count - 1) · percent / 100 of the values in order,
    /// from 0, linearly between the two values around it.
    fn percentile(&self, sorted: &[(u64, u64)], percent: u32) -> f64 {
        let rank = u128::from(self.count - 1) * u128::from(percent);
        let (place, part) = ((rank / 100) as u64, rank % 100);
        let low = self.at(sorted, place);
        let high = if part == 0 { low } else { self.at(sorted, place.saturating_add(1)) };
        let hundredfold = u128::from(low) * 100 + u128::from(high.saturating_sub(low)) * part;
        hundredfold as f64 / 100.0
    }

    /// Returns the value at a place in order, from 0.
    fn at(&self, sorted: &[(u64, u64)], place: u64) -> u64 {
        let mut passed = 0u64;
        let found = sorted.iter().find(|(_, count)| {
            passed = passed.saturating_add(*count);
            passed > place
        });
        found.map_or(self.most, |&(value, _)| value.clamp(self.least, self.most))
    }
}

/// Returns a mean as a float: the whole part first, so that large sums lose nothing that the mean would show.
pub(super) fn mean(sum: u128, count: u64) -> f64 {
    let count = u128::from(count.max(1));
    (sum / count) as f64 + (sum % count) as f64 / count as f64
}

#[derive(Clone, Debug)]
enum Store {
    /// Every value.
    Exact(Table),
    /// How many values lie in each bucket.
    Sketch(Vec<u64>),
}

impl Default for Store {
    fn default() -> Self {
        Store::Exact(Table::default())
    }
}

impl Store {
    fn add(&mut self, value: u64, count: u64) {
        match self {
            Store::Exact(table) => {
                table.add(value, count);
                if table.len > EXACT {
                    let mut buckets = vec![0; bucket(u64::MAX) + 1];
                    for &(value, count) in table.entries.iter().filter(|(_, count)| *count > 0) {
                        buckets[bucket(value)] += count;
                    }
                    *self = Store::Sketch(buckets);
                }
            }
            Store::Sketch(buckets) => {
                let held = &mut buckets[bucket(value)];
                *held = held.saturating_add(count);
            }
        }
    }

    /// Returns values with their counts in ascending order.
    fn sorted(&self) -> Vec<(u64, u64)> {
        match self {
            Store::Exact(table) => {
                let mut sorted: Vec<_> = table.entries.iter().copied().filter(|(_, count)| *count > 0).collect();
                sorted.sort_unstable();
                sorted
            }
            Store::Sketch(buckets) => {
                let filled = buckets.iter().enumerate().filter(|(_, count)| **count > 0);
                filled.map(|(bucket, &count)| (middle(bucket), count)).collect()
            }
        }
    }
}

/// Returns the bucket of a value: small ones have their own, others share one with those of equal leading bits.
fn bucket(value: u64) -> usize {
    if value < 2 << BITS {
        return value as usize;
    }
    let shift = 63 - BITS - value.leading_zeros();
    ((shift as usize) << BITS) + (value >> shift) as usize
}

/// Returns the value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    if bucket < 2 << BITS {
        return bucket as u64;
    }
    let shift = (bucket >> BITS) as u32 - 1;
    let leading = (bucket - ((shift as usize) << BITS)) as u64;
    (leading << shift) + (1 << (shift - 1))
}

/// Values with their counts, at places that follow from the values; a count of 0 marks a free place. At most half full.
#[derive(Clone, Debug, Default)]
struct Table {
    entries: Vec<(u64, u64)>,
    len: usize,
}

impl Table {
    fn add(&mut self, value: u64, count: u64) {
        if self.len * 2 >= self.entries.len() {
            self.grow();
        }
        let at = self.place(value);
        let entry = &mut self.entries[at];
        self.len += usize::from(entry.1 == 0);
        *entry = (value, entry.1.saturating_add(count));
    }

    /// Returns where a value is, or would be.
    fn place(&self, value: u64) -> usize {
        let mask = self.entries.len() - 1;
        // Two rounds of multiplying and folding, as in the finaliser of MurmurHash3: all bits of a time count.
        let mut hash = value ^ (value >> 33);
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        let mut at = hash as usize & mask;
        while self.entries[at].1 != 0 && self.entries[at].0 != value {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let larger = vec![(0, 0); (self.entries.len() * 2).max(64)];
        for (value, count) in std::mem::replace(&mut self.entries, larger) {
            if count > 0 {
                let at = self.place(value);
                self.entries[at] = (value, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(values: impl IntoIterator<Item = (u64, u32)>) -> Samples {
        let mut samples = Samples::default();
        values.into_iter().for_each(|(value, count)| samples.add(Nanos::new(value), count));
        samples
    }

    /// What numpy's default does, on a list written out.
    fn expected(values: &[(u64, u32)], percent: u32) -> f64 {
        let mut all: Vec<u64> =
            values.iter().flat_map(|&(value, count)| std::iter::repeat_n(value, count as usize)).collect();
        all.sort_unstable();
        let rank = (all.len() - 1) as f64 * f64::from(percent) / 100.0;
        let (low, high) = (all[rank.floor() as usize] as f64, all[rank.ceil() as usize] as f64);
        low + (high - low) * rank.fract()
    }

    #[test]
    fn nothing_has_no_summary_and_one_value_is_all_of_them() {
        assert_eq!(samples([]).summary(), None);
        assert_eq!(samples([(7, 0)]).summary(), None, "occurred no time");
        let one = samples([(0, 1)]).summary().unwrap();
        assert_eq!((one.count, one.min, one.max), (1, Nanos::ZERO, Nanos::ZERO));
        assert_eq!(one.p99.to_bits(), 0.0f64.to_bits());
    }

    #[test]
    fn the_greatest_time_is_no_trouble() {
        let most = samples([(u64::MAX, u32::MAX), (0, 1), (u64::MAX, u32::MAX)]).summary().unwrap();
        assert_eq!(most.max, Nanos::MAX);
        assert_eq!(most.count, 2 * u64::from(u32::MAX) + 1);
        assert_eq!(bucket(u64::MAX) + 1, (65 - BITS as usize) << BITS, "the sketch takes 450 KB");
    }

    #[test]
    fn too_many_values_make_a_sketch_whatever_their_order() {
        let values = |count: u64| (0..count).map(|at| (at * 7_919 + 1_000_000, 1 + (at % 3) as u32));
        let limit = EXACT as u64;
        assert!(samples(values(limit)).summary().unwrap().exact);
        assert!(samples(values(limit).chain(values(limit))).summary().unwrap().exact, "equal ones count once");
        let (forth, back) = (samples(values(limit + 1)).summary(), {
            let mut values: Vec<_> = values(limit + 1).collect();
            values.reverse();
            samples(values).summary()
        });
        assert_eq!(forth, back);
        let all: Vec<_> = values(limit + 1).collect();
        let sketch = forth.unwrap();
        assert!(!sketch.exact);
        for (found, percent) in [(sketch.p50, 50), (sketch.p90, 90), (sketch.p95, 95), (sketch.p99, 99)] {
            let right = expected(&all, percent);
            assert!((found / right - 1.0).abs() < 0.0005, "{percent}: {found} for {right}");
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_list_written_out(
            values in prop::collection::vec((0u64..2_000_000_000, 1u32..6), 1..200),
            seed in any::<usize>(),
        ) {
            let found = samples(values.clone()).summary().unwrap();
            for (found, percent) in [(found.p50, 50), (found.p90, 90), (found.p95, 95), (found.p99, 99)] {
                prop_assert!((found - expected(&values, percent)).abs() < 1e-5, "{} at {}", found, percent);
            }
            let mut turned = values.clone();
            turned.rotate_left(seed % values.len());
            prop_assert_eq!(samples(turned).summary().unwrap(), found);
        }

        #[test]
        fn a_bucket_stands_for_its_values_to_a_two_thousandth(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let stands = middle(bucket(value));
            prop_assert_eq!(bucket(stands), bucket(value));
            prop_assert!(u128::from(stands.abs_diff(value)) << 11 <= u128::from(value));
            prop_assert!(value == 0 || bucket(value - 1) <= bucket(value));
        }
    }
}
