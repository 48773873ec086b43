//! How is a smooth table drawn through scattered measurements? Least squares over the corners between which a table
//! interpolates, with a little stiffness between neighbours so that corners that nothing was measured near follow theirs.

use plimsoll_cost::measured::grid::Grid;

/// What pulls neighbours together, in standard deviations of one row.
const STIFFNESS: f64 = 0.05;
/// Rounds in which rows far off lose weight, so that what is fitted is near the median.
const ROUNDS: usize = 3;

/// One measurement: where it lies on the axes and the value there.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// A coordinate for each axis, missing ones 1.
    pub place: [f64; 4],
    /// The value: natural logarithm of measured over modelled time.
    pub value: f64,
}

/// The corners around a place and their weights; `count` of them.
struct Corners {
    index: [usize; 16],
    weight: [f64; 16],
    count: usize,
}

/// Finds them as [`Grid::at`] does.
fn corners(axes: &[(String, Vec<f64>)], place: &[f64; 4]) -> Corners {
    let mut found = Corners { index: [0; 16], weight: [0.0; 16], count: 1 };
    found.weight[0] = 1.0;
    for ((_, points), at) in axes.iter().zip(place) {
        let last = points.len() - 1;
        let (low, upper) = match points.partition_point(|p| p <= at) {
            0 => (0, 0.0),
            above if above > last => (last, 0.0),
            above => (above - 1, libm::log(at / points[above - 1]) / libm::log(points[above] / points[above - 1])),
        };
        for corner in 0..found.count {
            let (index, weight) = (found.index[corner] * points.len() + low, found.weight[corner]);
            found.index[corner] = index;
            found.weight[corner] = weight * (1.0 - upper);
            if upper > 0.0 {
                found.index[corner + found.count] = index + 1;
                found.weight[corner + found.count] = weight * upper;
            }
        }
        if upper > 0.0 {
            found.count *= 2;
        }
    }
    found
}

/// The normal equations, one row of at most 81 neighbours per corner, as a full matrix would be mostly nothing.
struct Normal {
    size: usize,
    /// Distance in corners to each neighbour, by its number.
    offsets: Vec<isize>,
    matrix: Vec<f64>,
    right: Vec<f64>,
    strides: Vec<usize>,
}

impl Normal {
    fn new(axes: &[(String, Vec<f64>)]) -> Normal {
        let dims: Vec<usize> = axes.iter().map(|(_, points)| points.len()).collect();
        let mut strides = vec![1; dims.len()];
        for axis in (0..dims.len().saturating_sub(1)).rev() {
            strides[axis] = strides[axis + 1] * dims[axis + 1];
        }
        let size = dims.iter().product();
        let mut offsets = vec![0_isize];
        for stride in &strides {
            let stride = isize::try_from(*stride).unwrap_or(0);
            offsets = offsets.iter().flat_map(|offset| [offset - stride, *offset, offset + stride]).collect();
        }
        let matrix = vec![0.0; size * offsets.len()];
        Normal { size, offsets, matrix, right: vec![0.0; size], strides }
    }

    /// The number of the neighbour of `from` that `to` is.
    fn neighbour(&self, from: usize, to: usize) -> usize {
        let (mut from, mut to, mut number) = (from, to, 0);
        for stride in &self.strides {
            let (a, b) = (from / stride, to / stride);
            number = number * 3 + (b + 1 - a);
            from %= stride;
            to %= stride;
        }
        number
    }

    fn add(&mut self, from: usize, to: usize, value: f64) {
        let at = from * self.offsets.len() + self.neighbour(from, to);
        self.matrix[at] += value;
    }

    fn times(&self, x: &[f64], out: &mut [f64]) {
        for (row, result) in out.iter_mut().enumerate() {
            let mut sum = 0.0;
            for (value, offset) in self.matrix[row * self.offsets.len()..].iter().zip(&self.offsets) {
                if *value != 0.0 {
                    sum += value * x[row.wrapping_add_signed(*offset)];
                }
            }
            *result = sum;
        }
    }

    /// Conjugate gradients with the diagonal as preconditioner.
    fn solve(&self, start: Vec<f64>) -> Vec<f64> {
        let middle = self.offsets.len() / 2;
        let diagonal: Vec<f64> = (0..self.size).map(|row| self.matrix[row * self.offsets.len() + middle]).collect();
        let mut x = start;
        let mut product = vec![0.0; self.size];
        self.times(&x, &mut product);
        let mut rest: Vec<f64> = self.right.iter().zip(&product).map(|(b, ax)| b - ax).collect();
        let mut scaled: Vec<f64> = rest.iter().zip(&diagonal).map(|(r, d)| r / d).collect();
        let mut direction = scaled.clone();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut now = dot(&rest, &scaled);
        let enough = now * 1e-12;
        for _ in 0..600 {
            if now <= enough || now <= 0.0 {
                break;
            }
            self.times(&direction, &mut product);
            let step = now / dot(&direction, &product);
            for index in 0..self.size {
                x[index] += step * direction[index];
                rest[index] -= step * product[index];
                scaled[index] = rest[index] / diagonal[index];
            }
            let next = dot(&rest, &scaled);
            let keep = next / now;
            for (d, s) in direction.iter_mut().zip(&scaled) {
                *d = s + keep * *d;
            }
            now = next;
        }
        x
    }
}

/// Draws a table through rows; its values are `1 / unit` of the rows' (100 for hundredths).
pub fn draw(axes: &[(&str, Vec<f64>)], rows: &[Row], unit: f64) -> Grid {
    let axes: Vec<(String, Vec<f64>)> =
        axes.iter().map(|(name, points)| ((*name).to_owned(), points.clone())).collect();
    let around: Vec<Corners> = rows.iter().map(|row| corners(&axes, &row.place)).collect();
    let mut weights = vec![1.0; rows.len()];
    let mut values = vec![0.0; axes.iter().map(|(_, points)| points.len()).product()];
    for _ in 0..ROUNDS {
        let mut normal = Normal::new(&axes);
        stiffen(&mut normal, &axes);
        for ((row, near), weight) in rows.iter().zip(&around).zip(&weights) {
            for a in 0..near.count {
                normal.right[near.index[a]] += weight * near.weight[a] * row.value;
                for b in 0..near.count {
                    normal.add(near.index[a], near.index[b], weight * near.weight[a] * near.weight[b]);
                }
            }
        }
        values = normal.solve(values);
        for ((row, near), weight) in rows.iter().zip(&around).zip(&mut weights) {
            *weight = 0.1 / (row.value - between(near, &values)).abs().max(0.03);
        }
    }
    // A ratio of more than a million either way is no measurement.
    let values = values.iter().map(|value| (value.clamp(-14.0, 14.0) * unit).round() as i32).collect();
    Grid { axes, values }
}

fn between(near: &Corners, values: &[f64]) -> f64 {
    (0..near.count).map(|corner| near.weight[corner] * values[near.index[corner]]).sum()
}

/// Ties every corner to its neighbours, and a little to zero.
fn stiffen(normal: &mut Normal, axes: &[(String, Vec<f64>)]) {
    let tie = STIFFNESS * STIFFNESS;
    for corner in 0..normal.size {
        normal.add(corner, corner, tie * 0.01);
        for (axis, (_, points)) in axes.iter().enumerate() {
            let (stride, length) = (normal.strides[axis], points.len());
            if corner / stride % length + 1 < length {
                let next = corner + stride;
                normal.add(corner, corner, tie);
                normal.add(next, next, tie);
                normal.add(corner, next, -tie);
                normal.add(next, corner, -tie);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_can_hold_is_found_again() {
        let axes = [("m", vec![1.0, 10.0, 100.0]), ("n", vec![1.0, 8.0])];
        let mut rows = Vec::new();
        for m in [1.0, 3.0, 10.0, 30.0, 100.0] {
            for n in [1.0, 2.0, 8.0] {
                rows.push(Row { place: [m, n, 1.0, 1.0], value: 0.1 * libm::log10(m) - 0.3 * libm::log2(n) / 3.0 });
            }
        }
        assert_eq!(draw(&axes, &rows, 100.0).values, [0, -30, 10, -20, 20, -10]);
    }
}
