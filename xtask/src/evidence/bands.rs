//! How wide must a budget's interval be? Cross-conformal: every launch is scored by a prediction that has not seen its unit
//! (its thread; in large sweeps its thread's launches of that model), and a group's factor is the score that nine of ten
//! further units would not exceed.

use std::collections::{BTreeMap, BTreeSet};

/// Models from which on a thread is a large sweep.
pub const SWEEP: usize = 8;
/// Units from which on a group has a factor of its own: below, no score is known to hold nine of ten.
const ENOUGH: usize = 9;
/// The share of launches that an interval is made to hold.
pub const NOMINAL: f64 = 0.9;

/// Threads that are large sweeps.
pub struct Sweeps(BTreeSet<String>);

impl Sweeps {
    /// Finds them among rows' threads and models.
    pub fn new<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut models: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (thread, model) in rows {
            models.entry(thread).or_default().insert(model);
        }
        Sweeps(models.into_iter().filter(|(_, of)| of.len() >= SWEEP).map(|(thread, _)| thread.to_owned()).collect())
    }

    /// Returns what is left out together with a row.
    pub fn unit(&self, thread: &str, model: &str) -> String {
        if self.0.contains(thread) { format!("{thread} {model}") } else { thread.to_owned() }
    }
}

/// One launch's residual, predicted without its unit, GiB.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Number of the line.
    pub line: usize,
    /// What is left out together.
    pub unit: String,
    /// The group of launches.
    pub group: String,
    /// Logged less predicted.
    pub error: f64,
    /// The scale of the doubt below the prediction.
    pub below: f64,
    /// And above.
    pub above: f64,
    /// The card.
    pub total: f64,
}

impl Scored {
    /// How many scales the logged budget is away. Half a hundredth, which logs round off, is no error; a scale is at least
    /// that.
    pub fn score(&self) -> f64 {
        let side = if self.error < 0.0 { self.below } else { self.above };
        (self.error.abs() - 0.005).max(0.0) / side.max(0.005)
    }
}

/// What a group of launches gives.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The group, empty for all.
    pub group: String,
    /// Launches.
    pub launches: usize,
    /// Independent ones.
    pub units: usize,
    /// The factor.
    pub factor: f64,
    /// Whether it has enough units for a factor of its own.
    pub own: bool,
    /// Launches inside their interval, whose factor has not seen them.
    pub inside: usize,
    /// Median width, percent of GPU memory.
    pub width: f64,
}

/// The score that a share of further launches does not exceed: the quantile of the launches' scores at
/// share × (u + 1) ÷ u, where u units are independent; the largest where they are too few for it.
fn conformal<'a>(rows: impl Iterator<Item = &'a Scored>, share: f64) -> f64 {
    let (mut scores, mut units) = (Vec::new(), BTreeSet::new());
    for row in rows {
        scores.push(row.score());
        units.insert(row.unit.as_str());
    }
    scores.sort_by(f64::total_cmp);
    let level = share * (units.len() + 1) as f64 / units.len().max(1) as f64;
    let rank = (level * scores.len() as f64 - 1e-9).ceil() as usize;
    scores.get(rank.clamp(1, scores.len().max(1)) - 1).copied().unwrap_or(1.0)
}

fn units<'a>(rows: impl Iterator<Item = &'a Scored>) -> usize {
    rows.map(|row| row.unit.as_str()).collect::<BTreeSet<_>>().len()
}

/// The factor of a group: its own, or, where it has too few units, that of all launches of the engine; one, the doubts of
/// the lines as they stand, where the engine has too few altogether.
fn factor(rows: &[Scored], group: &str, share: f64, without: Option<&str>) -> f64 {
    let seen = |row: &&Scored| Some(row.unit.as_str()) != without;
    let own = rows.iter().filter(|row| row.group == group);
    if units(own.clone()) >= ENOUGH {
        conformal(own.filter(seen), share)
    } else if units(rows.iter()) >= ENOUGH {
        conformal(rows.iter().filter(seen), share)
    } else {
        1.0
    }
}

/// Share of the rows inside their interval at a nominal share, with the factor of the units that are not their own.
pub fn covered(rows: &[Scored], of: &[&Scored], share: f64) -> usize {
    of.iter().filter(|row| row.score() <= factor(rows, &row.group, share, Some(&row.unit)) + 1e-9).count()
}

/// Measures every group, and all together under the empty name.
pub fn measure(rows: &[Scored]) -> Vec<Measured> {
    let groups: BTreeSet<&str> = rows.iter().map(|row| row.group.as_str()).collect();
    std::iter::once("")
        .chain(groups.into_iter().filter(|group| !group.is_empty()))
        .map(|group| one(rows, group))
        .collect()
}

fn one(rows: &[Scored], group: &str) -> Measured {
    let of: Vec<&Scored> = rows.iter().filter(|row| group.is_empty() || row.group == group).collect();
    let units = units(of.iter().copied());
    let common = conformal(of.iter().copied(), NOMINAL);
    let mut widths: Vec<f64> = of
        .iter()
        .map(|row| factor(rows, &row.group, NOMINAL, None) * (row.below + row.above) / row.total.max(1.0) * 100.0)
        .collect();
    Measured {
        group: group.to_owned(),
        launches: of.len(),
        units,
        factor: (common * 1000.0).ceil() / 1000.0,
        own: units >= ENOUGH,
        inside: covered(rows, &of, NOMINAL),
        width: super::fit::quantile(&mut widths, 0.5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(unit: &str, error: f64) -> Scored {
        let (unit, group) = (unit.to_owned(), "g".to_owned());
        Scored { line: 1, unit, group, error, below: 1.0, above: 0.5, total: 80.0 }
    }

    #[test]
    fn the_factor_is_the_conformal_quantile_of_units() {
        let rows: Vec<Scored> = (1..=9).map(|n| row(&format!("unit {n}"), -f64::from(n) - 0.005)).collect();
        let measured = measure(&rows);
        assert_eq!(measured.len(), 2);
        // ⌈0.9 × 10⌉ = the ninth of nine.
        assert!((measured[1].factor - 9.0).abs() < 0.002, "{measured:?}");
        assert_eq!((measured[1].units, measured[1].inside), (9, 8), "the largest is not seen by its own factor");
    }

    #[test]
    fn sides_have_their_own_scale_and_rounding_is_no_error() {
        let scores = [row("a", 0.255), row("b", -0.505), row("c", 0.004)].map(|row| format!("{:.2}", row.score()));
        assert_eq!(scores, ["0.50", "0.50", "0.00"]);
    }

    #[test]
    fn large_sweeps_are_divided_by_model() {
        let models: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
        let rows = models.iter().map(|model| ("sweep", model.as_str())).chain([("thread", "m")]);
        let sweeps = Sweeps::new(rows);
        assert_eq!(sweeps.unit("sweep", "m1"), "sweep m1");
        assert_eq!(sweeps.unit("thread", "m"), "thread");
    }
}
