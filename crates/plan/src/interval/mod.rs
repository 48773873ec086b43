//! How wide is a budget's interval? Normalised conformal prediction: the doubts of a ledger's lines give a scale, and the
//! residuals of logged launches, each left out of what predicts it, say how many scales nine of ten launches need.
//!
//! The lines of a ledger are partly dependent, so their intervals cannot simply be added. Their roots of sums of squares
//! only rank launches by doubt; the factor comes from the budget's own residuals, by engine and group of launches.
//!
//! ```
//! use plimsoll_plan::interval::{Scale, remainder};
//! use plimsoll_units::{Bytes, Estimate, Source};
//!
//! let part = Estimate::between(Bytes::gib(1.0), Bytes::gib(2.0), Bytes::gib(4.0), Source::Given);
//! let scale = Scale::of([&part]);
//! assert_eq!((scale.below, scale.above), (Bytes::gib(2.0).as_f64(), Bytes::gib(1.0).as_f64()));
//! // No band of this name is fitted: the scale itself is the interval.
//! let left = remainder(Bytes::gib(10.0), [&part], ("no engine", ""), "subtraction");
//! assert_eq!((left.low, left.bytes, left.high), (Bytes::gib(6.0), Bytes::gib(8.0), Bytes::gib(9.0)));
//! ```

mod table;

use plimsoll_units::{Bytes, Estimate, Source};

use crate::Card;

/// What logged launches say of one group: `cargo xtask intervals` writes these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// The engine's name.
    pub engine: &'static str,
    /// Which of its launches; empty for all of them, which stands in for groups of too few.
    pub group: &'static str,
    /// How many scales hold nine of ten launches.
    pub factor: f64,
    /// Launches that it was fitted on.
    pub launches: u32,
    /// Independent ones among them: threads, and models in the large sweeps.
    pub units: u32,
    /// The files with the launches.
    pub source: &'static str,
}

/// Returns every committed band.
pub fn bands() -> &'static [Band] {
    table::BANDS
}

/// Returns the band of a group, its engine's common one where the group has too few launches, or none.
pub fn band(engine: &str, group: &str) -> Option<&'static Band> {
    let of = |group: &str| bands().iter().find(|band| band.engine == engine && band.group == group);
    of(group).or_else(|| of(""))
}

/// How far a budget may fall and rise, in bytes, before the factor of its band.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scale {
    /// Below the best number.
    pub below: f64,
    /// Above it.
    pub above: f64,
}

impl Scale {
    /// Returns the doubt about what parts leave: the root of the sum of squares of their half-widths, sides apart. A part
    /// that takes more leaves less.
    pub fn of<'e>(parts: impl IntoIterator<Item = &'e Estimate>) -> Scale {
        let (mut below, mut above) = (0.0_f64, 0.0_f64);
        for part in parts {
            below += (part.high.as_f64() - part.bytes.as_f64()).powi(2);
            above += (part.bytes.as_f64() - part.low.as_f64()).powi(2);
        }
        Scale { below: below.sqrt(), above: above.sqrt() }
    }

    /// Returns the scale of a share of the remainder.
    #[must_use]
    pub fn times(self, share: f64) -> Scale {
        Scale { below: self.below * share, above: self.above * share }
    }

    /// Returns the ends of the interval around a number of bytes that may be negative.
    pub fn ends(self, middle: f64, engine: &str, group: &str) -> (f64, f64) {
        let factor = band(engine, group).map_or(1.0, |band| band.factor);
        (middle - factor * self.below, middle + factor * self.above)
    }
}

/// Returns what is left of `limit` after `parts` with the interval of the band `(engine, group)`; `rule` says where the
/// subtraction stands.
pub fn remainder<'e>(
    limit: Bytes,
    parts: impl IntoIterator<Item = &'e Estimate>,
    (engine, group): (&str, &str),
    rule: &str,
) -> Estimate {
    let mut taken = Bytes::ZERO;
    let scale = Scale::of(parts.into_iter().inspect(|part| taken += part.bytes));
    let middle = limit.as_f64() - taken.as_f64();
    let (low, high) = scale.ends(middle, engine, group);
    let source = Source::Engine(format!("{rule}{}", cited(group)).into());
    Estimate::between(Bytes::from_f64(low), limit.saturating_sub(taken), Bytes::from_f64(high), source)
}

/// Returns the words that name a group in a source: `; interval: V1, text on NVIDIA`.
pub fn cited(group: &str) -> String {
    if group.is_empty() { String::new() } else { format!("; interval: {group}") }
}

/// Returns the group that a source cites; empty where it cites none.
pub fn group_of(source: &Source) -> &str {
    source.detail().rsplit_once("; interval: ").map_or("", |(_, group)| group)
}

/// Whether a card is another vendor's than NVIDIA, on whose cards the constants were measured, as far as its name tells.
pub fn other_vendor(card: &Card) -> bool {
    const MARKS: [&str; 10] = ["AMD", "Instinct", "Radeon", "MI2", "MI3", "gfx", "Intel", "Arc ", "Gaudi", "Apple"];
    card.compute_capability.is_none() && MARKS.iter().any(|mark| card.name.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_too_few_takes_its_engines_band() {
        for band in bands() {
            assert!(band.factor.is_finite() && band.factor > 0.0, "{band:?}");
            assert_eq!(super::band(band.engine, band.group), Some(band));
        }
        assert_eq!(band("no engine", "no group"), None);
    }

    #[test]
    fn a_source_names_its_group() {
        let left = remainder(Bytes::gib(2.0), [], ("vllm", "a group"), "rule");
        assert_eq!(group_of(&left.source), "a group");
        assert_eq!(left.low, left.high, "exact parts leave an exact remainder");
        assert_eq!(group_of(&Source::Given), "");
    }
}
