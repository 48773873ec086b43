//! Where do words go so that none lies upon another?

use super::sheet::{At, Rect};

/// How large the squares are in which lines are looked for.
const SQUARE: f64 = 4.0;

/// Pushes places apart until neighbours are `apart` from one another, all within `low..=high`, each as near to where it
/// wanted to be as its neighbours let it. Returns the places in the order of what was wanted.
pub(super) fn spread(wanted: &[f64], sizes: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, two| wanted[*one].total_cmp(&wanted[*two]).then(one.cmp(two)));
    // Groups of places that touch: what they want on the average, and how long they are together.
    let mut groups: Vec<(f64, f64, Vec<usize>)> = Vec::new();
    for at in order {
        let mut group = (wanted[at], sizes[at], vec![at]);
        loop {
            group.0 = group.0.clamp(low + group.1 / 2.0, (high - group.1 / 2.0).max(low + group.1 / 2.0));
            match groups.pop() {
                Some(before) if before.0 + before.1 / 2.0 > group.0 - group.1 / 2.0 => {
                    let (many, more) = (before.2.len() as f64, group.2.len() as f64);
                    let mut all = before.2;
                    all.extend(group.2);
                    let middle = (before.0 * many + group.0 * more) / (many + more);
                    group = (middle, before.1 + group.1, all);
                }
                Some(before) => {
                    groups.push(before);
                    break;
                }
                None => break,
            }
        }
        groups.push(group);
    }
    let mut places = wanted.to_vec();
    for (middle, size, members) in groups {
        let mut from = middle - size / 2.0;
        for at in members {
            places[at] = from + sizes[at] / 2.0;
            from += sizes[at];
        }
    }
    places
}

/// What is taken on a part of the sheet.
pub(super) struct Taken {
    bounds: Rect,
    words: Vec<Rect>,
    columns: usize,
    rows: usize,
    /// Whose line runs through a square: 0 for none.
    squares: Vec<u16>,
}

impl Taken {
    /// Returns a part of the sheet with nothing on it.
    pub fn new(bounds: Rect) -> Taken {
        let columns = (bounds.width() / SQUARE).ceil().clamp(1.0, 400.0) as usize;
        let rows = (bounds.height() / SQUARE).ceil().clamp(1.0, 1000.0) as usize;
        Taken { bounds, words: Vec::new(), columns, rows, squares: vec![0; columns * rows] }
    }

    /// Takes a line from point to point.
    pub fn line(&mut self, points: &[At], owner: u16) {
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let steps = (((x1 - x0).abs().max((y1 - y0).abs())) / SQUARE * 2.0).ceil().clamp(1.0, 2000.0);
            for step in 0..=steps as u32 {
                let way = f64::from(step) / steps;
                let (x, y) = (x0 + (x1 - x0) * way, y0 + (y1 - y0) * way);
                if let Some(square) = self.square(x, y) {
                    self.squares[square] = owner;
                }
            }
        }
    }

    /// Takes a part for good.
    pub fn take(&mut self, part: Rect) {
        self.words.push(part);
    }

    /// Returns what it costs to put words there: squares with lines, those of `own` at half; none where other words are or
    /// the part ends.
    pub fn cost(&self, part: &Rect, own: u16) -> Option<f64> {
        let inside = part.left >= self.bounds.left
            && part.right <= self.bounds.right
            && part.top >= self.bounds.top
            && part.bottom <= self.bounds.bottom;
        if !inside || self.words.iter().any(|words| words.meets(part)) {
            return None;
        }
        let mut cost = 0.0;
        let (mut y, end) = (part.top, part.bottom);
        while y < end {
            let mut x = part.left;
            while x < part.right {
                cost += match self.square(x, y).map_or(0, |square| self.squares[square]) {
                    0 => 0.0,
                    owner if owner == own => 0.5,
                    _ => 1.0,
                };
                x += SQUARE;
            }
            y += SQUARE;
        }
        Some(cost)
    }

    fn square(&self, x: f64, y: f64) -> Option<usize> {
        let (x, y) = ((x - self.bounds.left) / SQUARE, (y - self.bounds.top) / SQUARE);
        let inside = x >= 0.0 && y >= 0.0 && (x as usize) < self.columns && (y as usize) < self.rows;
        inside.then(|| y as usize * self.columns + x as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_pushed_apart_and_stay_within() {
        for (wanted, size, (low, high), expected) in [
            (vec![10.0, 50.0], 10.0, (0.0, 100.0), vec![10.0, 50.0]),
            (vec![50.0, 50.0], 10.0, (0.0, 100.0), vec![45.0, 55.0]),
            (vec![0.0, 2.0, 4.0], 10.0, (0.0, 100.0), vec![5.0, 15.0, 25.0]),
            (vec![99.0, 98.0], 10.0, (0.0, 100.0), vec![95.0, 85.0]),
            (vec![50.0, 52.0, 40.0], 10.0, (0.0, 100.0), vec![47.333, 57.333, 37.333]),
        ] {
            let sizes = vec![size; wanted.len()];
            for (place, expected) in spread(&wanted, &sizes, low, high).iter().zip(expected) {
                assert!((place - expected).abs() < 0.01, "{wanted:?}: {place} for {expected}");
            }
        }
    }

    #[test]
    fn words_keep_off_words_and_lines() {
        let mut taken = Taken::new(Rect::new(0.0, 0.0, 100.0, 100.0));
        taken.take(Rect::new(10.0, 10.0, 20.0, 20.0));
        taken.line(&[(0.0, 50.0), (100.0, 50.0)], 1);
        assert_eq!(taken.cost(&Rect::new(15.0, 15.0, 30.0, 25.0), 0), None);
        assert_eq!(taken.cost(&Rect::new(95.0, 15.0, 105.0, 25.0), 0), None);
        assert_eq!(taken.cost(&Rect::new(30.0, 10.0, 60.0, 20.0), 0), Some(0.0));
        assert!(taken.cost(&Rect::new(30.0, 45.0, 60.0, 55.0), 0) > taken.cost(&Rect::new(30.0, 45.0, 60.0, 55.0), 1));
    }
}
