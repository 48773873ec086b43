//! Which row is which? A row's number and its place on every axis, each from the other: the last axis turns fastest.

/// Axes of a sweep.
pub const AXES: usize = 9;

/// How many values each axis has: models, cards, engines, tp, pp, formats, KV formats, contexts, batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axes {
    lengths: [u64; AXES],
    total: u64,
}

impl Axes {
    /// Makes axes; `None` when one is empty or there are more rows than 64 bits count.
    pub fn new(lengths: [u64; AXES]) -> Option<Axes> {
        let total = lengths.iter().try_fold(1_u64, |total, length| total.checked_mul(*length))?;
        (total > 0).then_some(Axes { lengths, total })
    }

    /// Returns how many rows there are.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Returns the place of a row on every axis; `None` beyond the last row.
    pub fn place(&self, row: u64) -> Option<[u64; AXES]> {
        if row >= self.total {
            return None;
        }
        let mut rest = row;
        let mut place = [0; AXES];
        for (at, length) in self.lengths.iter().enumerate().rev() {
            place[at] = rest % length;
            rest /= length;
        }
        Some(place)
    }

    /// Returns the number of the row at a place; `None` where the place lies outside.
    pub fn row(&self, place: [u64; AXES]) -> Option<u64> {
        let mut row = 0;
        for (at, length) in place.iter().zip(self.lengths) {
            if *at >= length {
                return None;
            }
            row = row * length + at;
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_axis_turns_fastest() {
        let axes = Axes::new([2, 1, 1, 1, 1, 1, 1, 3, 4]).unwrap();
        assert_eq!(axes.total(), 24);
        for (row, place) in [
            (0, [0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (3, [0, 0, 0, 0, 0, 0, 0, 0, 3]),
            (4, [0, 0, 0, 0, 0, 0, 0, 1, 0]),
            (23, [1, 0, 0, 0, 0, 0, 0, 2, 3]),
        ] {
            assert_eq!(axes.place(row), Some(place));
        }
        assert_eq!(axes.place(24), None);
        assert_eq!(axes.row([2, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Axes::new([1, 1, 0, 1, 1, 1, 1, 1, 1]), None);
        assert_eq!(Axes::new([u64::MAX, 2, 1, 1, 1, 1, 1, 1, 1]), None);
    }

    proptest! {
        #[test]
        fn rows_and_places_are_one_to_one(lengths in prop::array::uniform9(1_u64..40), picked in any::<u64>()) {
            let axes = Axes::new(lengths).unwrap();
            let row = picked % axes.total();
            let place = axes.place(row).unwrap();
            prop_assert!(place.iter().zip(lengths).all(|(at, length)| *at < length));
            prop_assert_eq!(axes.row(place), Some(row));
            if row + 1 < axes.total() {
                prop_assert!(axes.place(row + 1).unwrap() > place, "rows are in the order of their places");
            }
        }
    }
}
