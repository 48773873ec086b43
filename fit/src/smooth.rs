//! How is a grid laid through measurements? Least squares of what it interpolates, its bends held small, outliers weighed
//! down.

use plimsoll_cost::measured::grid::Grid;

/// How a grid is fitted.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Weight of the grid's second differences against one measurement's square.
    pub stiffness: f64,
    /// Errors (of a logarithm) above which a measurement counts by its error, not by the error's square.
    pub outlier: f64,
    /// Rounds of weighing outliers down.
    pub rounds: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { stiffness: 0.3, outlier: 0.03, rounds: 3 }
    }
}

/// Sparse rows of a matrix, each at most `2^axes` entries.
type Row = Vec<(usize, f64)>;

/// Fits a grid over the axes to values at points (natural logarithms; the grid holds thousandths).
pub fn fit(axes: &[(String, Vec<f64>)], points: &[Vec<f64>], values: &[f64], settings: &Settings) -> Grid {
    let logs: Vec<Vec<f64>> =
        axes.iter().map(|(_, points)| points.iter().map(|point| libm::log(*point)).collect()).collect();
    let size = logs.iter().map(Vec::len).product();
    let rows: Vec<Row> = points.iter().map(|point| row(&logs, point)).collect();
    let mut penalty = vec![Row::new(); size];
    for bend in bends(&logs) {
        add(&mut penalty, &bend, settings.stiffness);
    }
    for (index, row) in penalty.iter_mut().enumerate() {
        put(row, index, 1e-4);
    }
    let mut weights = vec![1.0; rows.len()];
    let mut solution = vec![0.0; size];
    for _ in 0..settings.rounds {
        let mut matrix = penalty.clone();
        let mut right = vec![0.0; size];
        for ((row, value), weight) in rows.iter().zip(values).zip(&weights) {
            add(&mut matrix, row, *weight);
            for (index, part) in row {
                right[*index] += weight * part * value;
            }
        }
        solve(&matrix, &right, &mut solution);
        for ((row, value), weight) in rows.iter().zip(values).zip(&mut weights) {
            let off = (value - dot(row, &solution)).abs();
            *weight = settings.outlier / off.max(settings.outlier);
        }
    }
    let values = solution.iter().map(|value| (value * 1000.0).round() as i32).collect();
    Grid { axes: axes.to_vec(), values }
}

fn dot(row: &Row, values: &[f64]) -> f64 {
    row.iter().map(|(index, part)| part * values[*index]).sum()
}

/// Adds to an entry of a sparse row.
fn put(row: &mut Row, index: usize, value: f64) {
    match row.iter_mut().find(|(at, _)| *at == index) {
        Some((_, sum)) => *sum += value,
        None => row.push((index, value)),
    }
}

/// Adds the outer product of a row with itself.
fn add(matrix: &mut [Row], row: &Row, weight: f64) {
    for (first, a) in row {
        for (second, b) in row {
            put(&mut matrix[*first], *second, weight * a * b);
        }
    }
}

/// The weights with which a point lies between the grid's, as [`Grid::at`] has them.
fn row(logs: &[Vec<f64>], point: &[f64]) -> Row {
    let mut row: Row = vec![(0, 1.0)];
    for (points, at) in logs.iter().zip(point) {
        let at = libm::log(*at);
        let last = points.len() - 1;
        let above = points.partition_point(|point| *point <= at);
        let (low, weight) = match above {
            0 => (0, 0.0),
            above if above > last => (last, 0.0),
            above => (above - 1, (at - points[above - 1]) / (points[above] - points[above - 1])),
        };
        row = row
            .iter()
            .flat_map(|(index, part)| {
                let index = index * points.len() + low;
                [(index, part * (1.0 - weight)), (index + 1, part * weight)]
            })
            .filter(|(_, part)| *part > 0.0)
            .collect();
    }
    row
}

/// The grid's second differences along each axis.
fn bends(logs: &[Vec<f64>]) -> Vec<Row> {
    let size: usize = logs.iter().map(Vec::len).product();
    let mut found = Vec::new();
    let mut stride = size;
    for points in logs {
        stride /= points.len();
        for index in 0..size {
            let at = index / stride % points.len();
            if at == 0 || at + 1 == points.len() {
                continue;
            }
            let (before, after) = (points[at] - points[at - 1], points[at + 1] - points[at]);
            let whole = before + after;
            found.push(vec![(index - stride, -after / whole), (index, 1.0), (index + stride, -before / whole)]);
        }
    }
    found
}

/// Solves a symmetric positive system by conjugate gradients, scaled by its diagonal, from where the solution stands.
fn solve(matrix: &[Row], right: &[f64], solution: &mut [f64]) {
    let times = |vector: &[f64]| -> Vec<f64> { matrix.iter().map(|row| dot(row, vector)).collect() };
    let diagonal: Vec<f64> = matrix
        .iter()
        .enumerate()
        .map(|(index, row)| row.iter().find(|(at, _)| *at == index).map_or(1.0, |(_, value)| *value))
        .collect();
    let inner = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut rest: Vec<f64> = times(solution).iter().zip(right).map(|(has, wants)| wants - has).collect();
    let scaled = |rest: &[f64]| -> Vec<f64> { rest.iter().zip(&diagonal).map(|(rest, by)| rest / by).collect() };
    let mut ahead = scaled(&rest);
    let mut direction = ahead.clone();
    let mut left = inner(&rest, &ahead);
    let enough = 1e-14 * inner(right, &scaled(right)).max(1e-300);
    for _ in 0..400 {
        if left <= enough {
            break;
        }
        let image = times(&direction);
        let step = left / inner(&direction, &image);
        for (((at, toward), rest), image) in solution.iter_mut().zip(&direction).zip(&mut rest).zip(&image) {
            *at += step * toward;
            *rest -= step * image;
        }
        ahead = scaled(&rest);
        let next = inner(&rest, &ahead);
        let keep = next / left;
        for (toward, ahead) in direction.iter_mut().zip(&ahead) {
            *toward = ahead + keep * *toward;
        }
        left = next;
    }
}
