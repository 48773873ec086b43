//! Which points of a line are drawn, and where shapes sit upon it?

use super::sheet::At;

/// The most points of a line that are drawn as they are.
const MOST_POINTS: usize = 1400;

/// Returns the points without those that cannot be told from their neighbours: of each column of half a unit, the first,
/// the lowest, the highest and the last stay.
pub(super) fn thin(points: Vec<At>) -> Vec<At> {
    if points.len() <= MOST_POINTS {
        return points;
    }
    if points.windows(2).any(|pair| pair[1].0 < pair[0].0) {
        let stride = points.len().div_ceil(MOST_POINTS);
        let last = points.last().copied();
        return points.into_iter().step_by(stride).chain(last).collect();
    }
    let mut kept: Vec<At> = Vec::new();
    for column in points.chunk_by(|one, two| (one.0).round() as i64 == (two.0).round() as i64) {
        let by = |order: fn(&f64, &f64) -> bool| {
            (1..column.len()).fold(0, |best, at| if order(&column[at].1, &column[best].1) { at } else { best })
        };
        let mut chosen = [0, by(|one, two| one < two), by(|one, two| one > two), column.len() - 1];
        chosen.sort_unstable();
        for (at, index) in chosen.iter().enumerate() {
            if at == 0 || chosen[at - 1] != *index {
                kept.push(column[*index]);
            }
        }
    }
    kept
}

/// Where on a line its shapes sit: at its points where they are few and apart, else at even distances.
pub(super) fn beads(pieces: &[Vec<At>], index: usize) -> Vec<At> {
    let points: Vec<At> = pieces.iter().flatten().copied().collect();
    let lone = || pieces.iter().filter(|piece| piece.len() == 1).flatten().copied();
    if points.len() <= 12 {
        return points;
    }
    let distance = |pair: &[At]| (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1);
    let total: f64 = pieces.iter().flat_map(|piece| piece.windows(2)).map(distance).sum();
    let step = (total / 4.0).max(60.0);
    let mut next = step * (0.3 + 0.17 * (index % 5) as f64);
    let (mut beads, mut gone) = (Vec::new(), 0.0);
    for pair in pieces.iter().flat_map(|piece| piece.windows(2)) {
        let long = distance(pair);
        while next <= gone + long && beads.len() < 40 {
            let way = (next - gone) / long.max(1e-9);
            beads.push((pair[0].0 + (pair[1].0 - pair[0].0) * way, pair[0].1 + (pair[1].1 - pair[0].1) * way));
            next += step;
        }
        gone += long;
    }
    beads.extend(lone().take(40));
    beads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_keep_what_can_be_seen() {
        let few: Vec<At> = (0..100).map(|at| (f64::from(at), 0.0)).collect();
        assert_eq!(thin(few.clone()), few);
        let many: Vec<At> =
            (0..100_000).map(|at| (f64::from(at) / 200.0, if at == 54_321 { 99.0 } else { 1.0 })).collect();
        let kept = thin(many);
        assert!(kept.len() < 2100 && kept.iter().any(|(_, y)| *y > 98.0), "{}", kept.len());
        let around: Vec<At> = (0..100_000).map(|at| (f64::from(at % 7), f64::from(at))).collect();
        assert!(thin(around).len() < 1500);
    }
}
