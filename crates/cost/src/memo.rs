//! How is a step's time found in nanoseconds? Functions of a few counts, worked out where they are first asked for and
//! interpolated between.
//!
//! An axis has every whole number up to 2^(s+1) and then 2^s points an octave, evenly spaced within it: what lies on a point
//! is exact, what lies between is taken from a straight line over at most a 2^s-th of the value.

/// Points of one axis: all whole numbers up to `2 << bits`, then `1 << bits` an octave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    bits: u32,
}

/// Where a coordinate lies: the point below it, and how far it is to the next, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    below: usize,
    part: f64,
}

impl Axis {
    pub(crate) const fn new(bits: u32) -> Axis {
        Axis { bits }
    }

    /// Finds a coordinate; beyond 2^40 the last point counts.
    pub(crate) fn find(self, at: f64) -> Place {
        let at = if at > 0.0 { at.min((1_u64 << 40) as f64) } else { 0.0 };
        let whole = at as u64;
        let fine = 1_u64 << self.bits;
        if whole < fine {
            return Place { below: whole as usize, part: at - whole as f64 };
        }
        let octave = whole.ilog2() - self.bits;
        let step = whole >> octave;
        let below = u64::from(octave) * fine + step;
        Place { below: below as usize, part: (at - (step << octave) as f64) / (1_u64 << octave) as f64 }
    }

    /// Returns the coordinate of a point.
    pub(crate) fn point(self, index: usize) -> f64 {
        let fine = 1_u64 << self.bits;
        let index = index as u64;
        if index < 2 * fine {
            return index as f64;
        }
        let octave = index / fine - 1;
        ((index - octave * fine) << octave) as f64
    }
}

/// A function of one count.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    axis: Axis,
    /// NaN where not yet asked for.
    values: Vec<f64>,
}

impl Line {
    pub(crate) const fn new(axis: Axis) -> Line {
        Line { axis, values: Vec::new() }
    }

    /// Returns the function at a coordinate.
    pub(crate) fn at(&mut self, at: f64, mut of: impl FnMut(f64) -> f64) -> f64 {
        let place = self.axis.find(at);
        let low = self.point(place.below, &mut of);
        if place.part <= 0.0 {
            return low;
        }
        let high = self.point(place.below + 1, &mut of);
        low + (high - low) * place.part
    }

    fn point(&mut self, index: usize, of: &mut impl FnMut(f64) -> f64) -> f64 {
        if self.values.len() <= index {
            self.values.resize(index + 1, f64::NAN);
        }
        if self.values[index].is_nan() {
            self.values[index] = of(self.axis.point(index));
        }
        self.values[index]
    }
}

/// A function of two counts.
#[derive(Clone, Debug)]
pub(crate) struct Plane {
    axis: Axis,
    inner: Axis,
    rows: Vec<Line>,
}

impl Plane {
    pub(crate) const fn new(axis: Axis, inner: Axis) -> Plane {
        Plane { axis, inner, rows: Vec::new() }
    }

    /// Returns the function at a pair of coordinates.
    pub(crate) fn at(&mut self, x: f64, y: f64, mut of: impl FnMut(f64, f64) -> f64) -> f64 {
        let place = self.axis.find(x);
        let low = self.row(place.below, y, &mut of);
        if place.part <= 0.0 {
            return low;
        }
        let high = self.row(place.below + 1, y, &mut of);
        low + (high - low) * place.part
    }

    fn row(&mut self, index: usize, y: f64, of: &mut impl FnMut(f64, f64) -> f64) -> f64 {
        if self.rows.len() <= index {
            self.rows.resize(index + 1, Line::new(self.inner));
        }
        let x = self.axis.point(index);
        self.rows[index].at(y, |y| of(x, y))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn points_are_found_where_they_are() {
        for bits in [0, 2, 5, 7] {
            let axis = Axis::new(bits);
            let mut before = -1.0;
            for index in 0..400.min((30 << bits) as usize) {
                let point = axis.point(index);
                assert!(point > before, "{bits} {index}");
                assert_eq!(axis.find(point), Place { below: index, part: 0.0 }, "{bits} {point}");
                before = point;
            }
        }
    }

    proptest! {
        #[test]
        fn a_straight_line_is_kept(bits in 0_u32..7, x in 0.0..1e9_f64) {
            let found = Line::new(Axis::new(bits)).at(x, |x| 3.0 * x + 1.0);
            prop_assert!((found / (3.0 * x + 1.0) - 1.0).abs() < 1e-12);
        }

        #[test]
        fn a_square_is_off_by_no_more_than_its_spacing(bits in 2_u32..7, x in 1.0..1e7_f64) {
            let found = Line::new(Axis::new(bits)).at(x, |x| x * x);
            // (h / 2)^2 over x^2 with h at most x / 2^bits, and a whole number at least.
            let spacing = 0.25 / f64::from(1_u32 << (2 * bits)) + 0.25 / (x * x);
            prop_assert!((found / (x * x) - 1.0).abs() <= spacing + 1e-12);
        }

        #[test]
        fn planes_are_asked_once_a_point(x in 0.0..5000.0_f64, y in 0.0..1e6_f64) {
            let mut plane = Plane::new(Axis::new(5), Axis::new(3));
            let mut asked = 0;
            let first = plane.at(x, y, |x, y| { asked += 1; x + y });
            let second = plane.at(x, y, |_, _| f64::NAN);
            prop_assert!(asked <= 4 && (first - second).abs() < 1e-12 && (first - x - y).abs() < 1e-6);
        }
    }
}
