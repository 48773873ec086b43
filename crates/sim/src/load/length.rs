//! How long is a prompt, an answer, a conversation? Distributions of whole numbers from 1 on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::number::MOST_TOKENS;
use super::random::{Stream, Weighted, normal_quantile};
use crate::Error;

/// Lengths of real requests: prompt and output tokens, row by row.
pub type Rows = Arc<[(u32, u32)]>;

/// Lengths by the name that a workload calls them by.
pub type Tables = BTreeMap<String, Rows>;

/// A distribution of lengths, clipped to bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Length {
    pub(super) shape: Shape,
    pub(super) min: Option<u32>,
    pub(super) max: Option<u32>,
}

/// Which distribution.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Always the same.
    Fixed(u32),
    /// Each from the first to the last equally often.
    Uniform(u32, u32),
    /// The logarithm is normal.
    Lognormal(Center, Spread),
    /// Mean and standard deviation, rounded.
    Normal(f64, f64),
    /// Mean, rounded.
    Exponential(f64),
    /// The k-th from the first weighs k^-exponent.
    Zipf(u32, u32, f64),
    /// Any of a table's column, each row equally often.
    Empirical(String),
}

/// Where a lognormal distribution lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Center {
    Median(f64),
    Mean(f64),
}

/// How far a lognormal distribution spreads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spread {
    /// Standard deviation of the logarithm.
    Sigma(f64),
    /// So many of a thousand are below this length.
    Quantile(u32, f64),
}

/// Which column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Prompt,
    Output,
}

/// The quantiles that have a name: `p99` is 990 of a thousand.
pub(super) const QUANTILES: [(&str, u32); 4] = [("p90", 900), ("p95", 950), ("p99", 990), ("p999", 999)];

impl Length {
    /// Returns the table that it needs.
    pub(super) fn table(&self) -> Option<&str> {
        match &self.shape {
            Shape::Empirical(name) => Some(name),
            Shape::Fixed(_)
            | Shape::Uniform(..)
            | Shape::Lognormal(..)
            | Shape::Normal(..)
            | Shape::Exponential(_)
            | Shape::Zipf(..) => None,
        }
    }

    /// Makes ready to draw.
    pub(super) fn sampler(&self, column: Column, tables: &Tables) -> Result<Sampler, Error> {
        let draw = match &self.shape {
            Shape::Fixed(tokens) => Draw::Fixed(*tokens),
            Shape::Uniform(low, high) => Draw::Uniform(*low, u64::from(high - low) + 1),
            Shape::Lognormal(center, spread) => {
                let (mu, sigma) = lognormal(*center, *spread).map_err(Error::Load)?;
                Draw::Lognormal(mu, sigma)
            }
            Shape::Normal(mean, deviation) => Draw::Normal(*mean, *deviation),
            Shape::Exponential(mean) => Draw::Exponential(*mean),
            Shape::Zipf(low, high, exponent) => {
                let ranks = Weighted::zipf(high - low + 1, *exponent);
                Draw::Ranks(
                    *low,
                    ranks.ok_or_else(|| Error::Load(format!("zipf with exponent {exponent} weighs nothing")))?,
                )
            }
            Shape::Empirical(name) => Draw::Rows(column, table(tables, name)?),
        };
        Ok(Sampler { draw, min: self.min.unwrap_or(1).max(1), max: self.max.unwrap_or(MOST_TOKENS) })
    }
}

/// Returns the table of a name.
pub(super) fn table(tables: &Tables, name: &str) -> Result<Rows, Error> {
    let rows = tables.get(name).ok_or_else(|| Error::Load(format!("the lengths of {name:?} were not read")))?;
    if rows.is_empty() {
        return Err(Error::Load(format!("{name}: holds no lengths")));
    }
    Ok(Arc::clone(rows))
}

/// Returns mean and standard deviation of the logarithm, or why there are none.
///
/// With `z` the standard normal quantile: from the median M and a quantile X, sigma = ln(X/M)/z; from the mean A, where
/// ln A = mu + sigma²/2, sigma is the smaller root of sigma²/2 − z·sigma + ln(X/A) = 0.
pub(super) fn lognormal(center: Center, spread: Spread) -> Result<(f64, f64), String> {
    let (Center::Median(middle) | Center::Mean(middle)) = center;
    let sigma = match spread {
        Spread::Sigma(sigma) => sigma,
        Spread::Quantile(mille, at) => {
            let z = normal_quantile(f64::from(mille) / 1000.0);
            let ratio = libm::log(at / middle);
            let name = QUANTILES.iter().find(|(_, known)| *known == mille).map_or("the quantile", |(name, _)| name);
            if ratio < 0.0 {
                return Err(format!("{name} {at} lies below {middle}"));
            }
            match center {
                Center::Median(_) => ratio / z,
                Center::Mean(_) if 2.0 * ratio <= z * z => z - libm::sqrt(z * z - 2.0 * ratio),
                Center::Mean(_) => {
                    let most = middle * libm::exp(z * z / 2.0);
                    return Err(format!("no lognormal distribution of mean {middle} has {name} above {most:.0}"));
                }
            }
        }
    };
    let mu = match center {
        Center::Median(median) => libm::log(median),
        Center::Mean(mean) => libm::log(mean) - sigma * sigma / 2.0,
    };
    Ok((mu, sigma))
}

/// A distribution that is ready to draw from.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    draw: Draw,
    min: u32,
    max: u32,
}

#[derive(Clone, Debug)]
enum Draw {
    Fixed(u32),
    Uniform(u32, u64),
    Lognormal(f64, f64),
    Normal(f64, f64),
    Exponential(f64),
    Ranks(u32, Weighted),
    Rows(Column, Rows),
}

impl Sampler {
    /// Draws a length.
    pub(super) fn draw(&self, stream: &mut Stream) -> u32 {
        // A float beyond the whole numbers becomes the nearest one.
        let round = |value: f64| libm::round(value) as u32;
        let length = match &self.draw {
            Draw::Fixed(tokens) => *tokens,
            Draw::Uniform(low, count) => low + stream.below(*count) as u32,
            Draw::Lognormal(mu, sigma) => round(libm::exp(mu + sigma * stream.normal())),
            Draw::Normal(mean, deviation) => round(mean + deviation * stream.normal()),
            Draw::Exponential(mean) => round(mean * stream.exponential()),
            Draw::Ranks(low, ranks) => low + ranks.at(stream.unit()) as u32,
            Draw::Rows(column, rows) => {
                let (prompt, output) = rows[stream.below(rows.len() as u64) as usize];
                match column {
                    Column::Prompt => prompt,
                    Column::Output => output,
                }
            }
        };
        length.max(self.min).min(self.max)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Shape::Fixed(tokens) => write!(f, "{tokens}")?,
            Shape::Uniform(low, high) => write!(f, "uniform {low}..{high}")?,
            Shape::Lognormal(center, spread) => {
                match center {
                    Center::Median(median) => write!(f, "lognormal {median}")?,
                    Center::Mean(mean) => write!(f, "lognormal mean {mean}")?,
                }
                match spread {
                    Spread::Sigma(sigma) => write!(f, " sigma {sigma}")?,
                    Spread::Quantile(mille, at) => {
                        let name = QUANTILES.iter().find(|(_, known)| known == mille).map_or("p50", |(name, _)| name);
                        write!(f, " {name} {at}")?;
                    }
                }
            }
            Shape::Normal(mean, deviation) => write!(f, "normal {mean} sd {deviation}")?,
            Shape::Exponential(mean) => write!(f, "exponential {mean}")?,
            Shape::Zipf(low, high, exponent) => write!(f, "zipf {low}..{high} s {exponent}")?,
            Shape::Empirical(name) => write!(f, "empirical {}", Quoted(name))?,
        }
        if let Some(min) = self.min {
            write!(f, " min {min}")?;
        }
        if let Some(max) = self.max {
            write!(f, " max {max}")?;
        }
        Ok(())
    }
}

/// A name, in quotes where it would not be read back without.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || self.0.contains(|c: char| c.is_whitespace() || c == ',' || c == '"') {
            write!(f, "\"{}\"", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(length: &Length, tables: &Tables) -> Vec<u32> {
        let sampler = length.sampler(Column::Output, tables).unwrap();
        let mut stream = Stream::new(5, "lengths");
        let mut draws: Vec<u32> = (0..100_000).map(|_| sampler.draw(&mut stream)).collect();
        draws.sort_unstable();
        draws
    }

    fn near(found: f64, wanted: f64, tolerance: f64, what: &str) {
        assert!((found - wanted).abs() <= tolerance * wanted, "{what}: {found}, not {wanted}");
    }

    fn mean(draws: &[u32]) -> f64 {
        draws.iter().map(|&draw| f64::from(draw)).sum::<f64>() / draws.len() as f64
    }

    #[test]
    fn lengths_have_the_moments_that_were_asked_for() {
        let length = |shape| Length { shape, min: None, max: None };
        let none = Tables::new();
        let found = draws(&length(Shape::Lognormal(Center::Median(900.0), Spread::Quantile(990, 4000.0))), &none);
        near(f64::from(found[50_000]), 900.0, 0.01, "median");
        near(f64::from(found[99_000]), 4000.0, 0.03, "p99");
        let found = draws(&length(Shape::Lognormal(Center::Mean(1000.0), Spread::Quantile(990, 6000.0))), &none);
        near(mean(&found), 1000.0, 0.02, "mean");
        near(f64::from(found[99_000]), 6000.0, 0.04, "p99");
        near(mean(&draws(&length(Shape::Normal(500.0, 50.0)), &none)), 500.0, 0.002, "normal");
        near(mean(&draws(&length(Shape::Exponential(300.0)), &none)), 300.0, 0.02, "exponential");
        let found = draws(&length(Shape::Uniform(100, 900)), &none);
        assert_eq!((found[0], found[99_999]), (100, 900));
        near(mean(&found), 500.0, 0.01, "uniform");
        let found = draws(&Length { shape: Shape::Exponential(300.0), min: Some(10), max: Some(400) }, &none);
        assert_eq!((found[0], found[99_999]), (10, 400), "clipped, not drawn again");
        let tables = Tables::from([("a".to_owned(), Rows::from(vec![(1, 7), (2, 9)]))]);
        let found = draws(&length(Shape::Empirical("a".to_owned())), &tables);
        assert_eq!((found[0], found[99_999]), (7, 9));
        assert_eq!(draws(&length(Shape::Zipf(5, 6, 40.0)), &none)[99_999], 5);
        assert!(length(Shape::Empirical("b".to_owned())).sampler(Column::Prompt, &tables).is_err());
    }

    #[test]
    fn impossible_spreads_are_refused() {
        assert!(lognormal(Center::Median(900.0), Spread::Quantile(990, 400.0)).is_err());
        assert!(lognormal(Center::Mean(100.0), Spread::Quantile(990, 1490.0)).is_ok());
        assert!(lognormal(Center::Mean(100.0), Spread::Quantile(990, 1500.0)).unwrap_err().contains("above 1497"));
    }
}
