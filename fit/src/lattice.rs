//! How is a table's grid fitted? Multilinear interpolation between its points, by least squares that small differences of
//! neighbouring points are part of, so that points without measurements continue their neighbours.

use std::collections::BTreeMap;

use plimsoll_cost::measured::grid::Grid;

/// How much rather smooth than close: a squared second difference counts as this many squared errors.
const STIFF: f64 = 3.0;
/// The same for first differences, which keep unmeasured corners near their neighbours.
const LEVEL: f64 = 0.15;
/// Errors beyond this (as logarithms) count by their size, not their square: rows of an unlucky measurement.
const OUTLIER: f64 = 0.05;

/// A row to fit: where it lies, and the logarithm of measured over modelled time.
pub struct Sample {
    /// Coordinates by axis.
    pub place: [f64; 4],
    /// What the grid shall say there.
    pub value: f64,
}

/// A sample's weights of the points around it, in the order of its cell.
type Corners = [f64; 16];

/// Points between which samples lie, and what the samples there ask for.
struct Cell {
    points: [usize; 16],
    matrix: Vec<f64>,
    right: [f64; 16],
}

/// Fits a grid over these axes.
pub fn fit(axes: Vec<(String, Vec<f64>)>, samples: &[Sample]) -> Grid {
    let sizes: Vec<usize> = axes.iter().map(|(_, points)| points.len()).collect();
    let count: usize = sizes.iter().product();
    let mut places = BTreeMap::new();
    let mut cells: Vec<Cell> = Vec::new();
    let rows: Vec<(usize, Corners)> = samples
        .iter()
        .map(|sample| {
            let (points, weights) = corners(&axes, &sample.place);
            let cell = *places.entry(points).or_insert_with(|| {
                cells.push(Cell { points, matrix: Vec::new(), right: [0.0; 16] });
                cells.len() - 1
            });
            (cell, weights)
        })
        .collect();
    let rough = roughness(&sizes);
    let mut values = vec![0.0; count];
    for round in 0..2 {
        for cell in &mut cells {
            cell.matrix = vec![0.0; 256];
            cell.right = [0.0; 16];
        }
        for ((cell, weights), sample) in rows.iter().zip(samples) {
            let cell = &mut cells[*cell];
            let there: f64 = cell.points.iter().zip(weights).map(|(point, weight)| weight * values[*point]).sum();
            let trust = if round == 0 { 1.0 } else { OUTLIER / (sample.value - there).abs().max(OUTLIER) };
            for (a, by) in weights.iter().enumerate() {
                cell.right[a] += trust * by * sample.value;
                for (b, other) in weights.iter().enumerate() {
                    cell.matrix[a * 16 + b] += trust * by * other;
                }
            }
        }
        values = solve(&cells, &rough, values);
    }
    let values = values.into_iter().map(|value| (value * 1000.0).round() as i32).collect();
    Grid { axes, values }
}

/// The points around a place, with their weights.
fn corners(axes: &[(String, Vec<f64>)], place: &[f64; 4]) -> ([usize; 16], Corners) {
    let (mut points, mut weights) = ([0_usize; 16], [0.0; 16]);
    weights[0] = 1.0;
    let mut width = 1;
    for ((_, axis), at) in axes.iter().zip(place) {
        let last = axis.len() - 1;
        let low = axis.partition_point(|point| point <= at).saturating_sub(1).min(last.saturating_sub(1));
        let high = (low + 1).min(last);
        let part = if high > low { libm::log(at / axis[low]) / libm::log(axis[high] / axis[low]) } else { 0.0 };
        let part = part.clamp(0.0, 1.0);
        for corner in 0..width {
            let (point, weight) = (points[corner] * axis.len(), weights[corner]);
            (points[corner], weights[corner]) = (point + low, weight * (1.0 - part));
            (points[corner + width], weights[corner + width]) = (point + high, weight * part);
        }
        width *= 2;
    }
    (points, weights)
}

/// First and second differences along each axis, each with the square root of its weight.
fn roughness(sizes: &[usize]) -> Vec<Vec<(usize, f64)>> {
    let count: usize = sizes.iter().product();
    let (first, second) = (libm::sqrt(LEVEL), libm::sqrt(STIFF));
    let mut rows = Vec::new();
    let mut stride = count;
    for size in sizes {
        stride /= size;
        for index in 0..count {
            let at = index / stride % size;
            if at + 1 < *size {
                rows.push(vec![(index, first), (index + stride, -first)]);
            }
            if at + 2 < *size {
                rows.push(vec![(index, second), (index + stride, -2.0 * second), (index + 2 * stride, second)]);
            }
        }
    }
    rows
}

/// Solves the normal equations by conjugate gradients from where it was.
fn solve(cells: &[Cell], rough: &[Vec<(usize, f64)>], start: Vec<f64>) -> Vec<f64> {
    let count = start.len();
    let times = |vector: &[f64]| -> Vec<f64> {
        let mut out: Vec<f64> = vector.iter().map(|value| value * 1e-6).collect();
        for cell in cells {
            let there = cell.points.map(|point| vector[point]);
            for (row, point) in cell.matrix.chunks(16).zip(cell.points) {
                out[point] += inner(row, &there);
            }
        }
        for row in rough {
            let size: f64 = row.iter().map(|(point, weight)| weight * vector[*point]).sum();
            for (point, weight) in row {
                out[*point] += weight * size;
            }
        }
        out
    };
    let (mut right, mut scale) = (vec![0.0; count], vec![1e-6; count]);
    for cell in cells {
        for (at, point) in cell.points.iter().enumerate() {
            right[*point] += cell.right[at];
            scale[*point] += cell.matrix[at * 17];
        }
    }
    for (point, weight) in rough.iter().flatten() {
        scale[*point] += weight * weight;
    }
    let mut values = start;
    let mut left: Vec<f64> = right.iter().zip(times(&values)).map(|(b, a)| b - a).collect();
    let mut eased: Vec<f64> = left.iter().zip(&scale).map(|(a, b)| a / b).collect();
    let mut along = eased.clone();
    let mut size = inner(&left, &eased);
    let enough = 1e-10 * inner(&right, &right).max(1e-12);
    for _ in 0..400 {
        if inner(&left, &left) <= enough {
            break;
        }
        let moved = times(&along);
        let step = size / inner(&along, &moved);
        for index in 0..count {
            values[index] += step * along[index];
            left[index] -= step * moved[index];
            eased[index] = left[index] / scale[index];
        }
        let next = inner(&left, &eased);
        let keep = next / size;
        size = next;
        for index in 0..count {
            along[index] = eased[index] + keep * along[index];
        }
    }
    values
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_in_logarithms_is_found_again() {
        let axes = vec![("a".to_owned(), vec![1.0, 4.0, 16.0, 64.0]), ("b".to_owned(), vec![1.0, 10.0, 100.0])];
        let samples: Vec<Sample> = (0..40)
            .flat_map(|i| (0..20).map(move |j| (libm::pow(1.1, f64::from(i)), libm::pow(1.25, f64::from(j)))))
            .map(|(a, b)| Sample { place: [a, b, 1.0, 1.0], value: 0.1 * libm::log(a) - 0.2 * libm::log(b) })
            .collect();
        let grid = fit(axes, &samples);
        let (found, inside) = grid.at(&[8.0, 30.0]);
        let wanted = 0.1 * libm::log(8.0) - 0.2 * libm::log(30.0);
        assert!(inside && (found - wanted).abs() < 0.01, "{found} {wanted}");
    }
}
