//! Where on an axis does a number lie, and which numbers are written at it?

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged};

use super::super::{Axis, Scale, Unit};
use super::backend::tenths;
use super::words;
use crate::number;

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub at: f64,
    pub text: String,
}

/// An axis with its ends and its marks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruler {
    /// What it shows, with the unit of its marks.
    pub label: String,
    /// Its marks, rising.
    pub ticks: Vec<Tick>,
    scale: Scale,
    low: f64,
    high: f64,
}

/// What an axis has to hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    low: f64,
    high: f64,
    log: bool,
}

impl Extent {
    /// Returns nothing yet.
    pub fn of(axis: &Axis) -> Extent {
        Extent { low: f64::INFINITY, high: f64::NEG_INFINITY, log: axis.scale != Scale::Linear }
    }

    /// Whether a number can be shown at all: it is one, and a logarithmic axis has no zero.
    pub fn shows(&self, number: f64) -> bool {
        number.is_finite() && number.abs() < 1e30 && if self.log { number > 1e-30 } else { true }
    }

    /// Takes a number in, if it can be shown.
    pub fn add(&mut self, number: f64) {
        if self.shows(number) {
            (self.low, self.high) = (self.low.min(number), self.high.max(number));
        }
    }

    /// Takes in what another has, if it can be shown here: the other may be divided otherwise.
    pub fn join(&mut self, other: Extent) {
        self.add(other.low);
        self.add(other.high);
    }

    /// Whether nothing was taken in.
    pub fn is_empty(&self) -> bool {
        self.low > self.high
    }
}

/// How far an axis goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// From zero to a little more than the largest.
    Zero,
    /// From zero to just the largest: time.
    Whole,
    /// Around the numbers.
    Around,
}

impl Ruler {
    /// Returns the axis for what it has to hold, its marks chosen so that their words, at most `room(text)` long each, do
    /// not meet within `length`.
    pub fn new(axis: &Axis, extent: Extent, reach: Reach, length: f64, room: &dyn Fn(&str) -> f64) -> Ruler {
        let (low, high) = ends(axis, extent, reach);
        let mut ruler = Ruler { label: words::clean(&axis.label), ticks: Vec::new(), scale: axis.scale, low, high };
        let (candidates, unit) = match axis.scale {
            Scale::Linear => (Vec::new(), linear_unit(axis.unit, low.abs().max(high.abs()))),
            Scale::Log10 if axis.unit == Unit::Bytes => (powers_of_two(axis.unit, low, high), ""),
            Scale::Log10 => (powers_of_ten(axis.unit, low, high), ""),
            Scale::Log2 => (powers_of_two(axis.unit, low, high), ""),
        };
        if !unit.is_empty() {
            ruler.label = if ruler.label.is_empty() { unit.to_owned() } else { format!("{} ({unit})", ruler.label) };
        }
        let candidates =
            if candidates.iter().any(|ticks| ticks.len() > 1) { candidates } else { even(axis.unit, low, high) };
        let fit = |ticks: &Vec<Tick>| {
            ticks.len() <= 14
                && ticks.windows(2).all(|pair| {
                    let apart = (ruler.part(pair[1].at) - ruler.part(pair[0].at)) * length;
                    apart >= (room(&pair[0].text) + room(&pair[1].text)) / 2.0
                })
        };
        let chosen = candidates.iter().find(|ticks| fit(ticks)).or(candidates.last());
        ruler.ticks = chosen.cloned().unwrap_or_default();
        ruler
    }

    /// Returns how far along the axis a number lies: 0 at its beginning, 1 at its end.
    pub fn part(&self, number: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (number - self.low) / (self.high - self.low),
            Scale::Log10 | Scale::Log2 if number <= 0.0 => 0.0,
            Scale::Log10 | Scale::Log2 => {
                let (low, high) = (libm::log2(self.low), libm::log2(self.high));
                (libm::log2(number) - low) / (high - low)
            }
        };
        if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
    }
}

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + tenths(f64::from(to - from) * self.part(*value) / 10.0)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.at).take(hint.max_num_points()).collect()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// The ends of an axis.
fn ends(axis: &Axis, extent: Extent, reach: Reach) -> (f64, f64) {
    if extent.is_empty() {
        return if extent.log { (1.0, 10.0) } else { (0.0, 1.0) };
    }
    let (low, high) = (extent.low, extent.high);
    if extent.log {
        let ratio = (high / low).max(1.0);
        let more = if ratio < 1.05 { 1.5 } else { libm::pow(ratio, if reach == Reach::Whole { 0.0 } else { 0.03 }) };
        return (low / more, high * more);
    }
    let span = (high - low.min(0.0)).max(high.abs() * 1e-9).max(1e-30);
    match reach {
        Reach::Around if low > 0.4 * high || low < 0.0 => {
            let more = ((high - low) * 0.08).max(high.abs().max(low.abs()) * 0.02).max(1e-30);
            (low - more, high + more)
        }
        Reach::Zero | Reach::Around if axis.unit == Unit::Share && low >= 0.0 && (0.6..=1.0).contains(&high) => {
            (0.0, 1.0)
        }
        Reach::Zero | Reach::Around => {
            (if low < 0.0 { low - span * 0.05 } else { 0.0 }, if high > 0.0 { high + span * 0.05 } else { span * 0.05 })
        }
        Reach::Whole => (low.min(0.0), high.max(low.min(0.0) + span)),
    }
}

/// The unit in the label of an even axis.
fn linear_unit(unit: Unit, largest: f64) -> &'static str {
    match unit {
        Unit::Bytes => words::bytes(largest).1,
        Unit::Seconds => words::seconds(largest).1,
        Unit::Count | Unit::Share | Unit::Plain => "",
    }
}

/// Even marks, from many to few.
fn even(unit: Unit, low: f64, high: f64) -> Vec<Vec<Tick>> {
    let largest = low.abs().max(high.abs());
    let size = match unit {
        Unit::Bytes => words::bytes(largest).0,
        Unit::Seconds => words::seconds(largest).0,
        Unit::Share => 0.01,
        Unit::Count | Unit::Plain => 1.0,
    };
    let (low, high) = (low / size, high / size);
    let span = high - low;
    let mut sets = Vec::new();
    let first = libm::floor(libm::log10(span / 14.0)).clamp(-40.0, 40.0) as i32;
    let steps: Vec<f64> = if unit == Unit::Bytes {
        let first = libm::floor(libm::log2(span / 14.0)).clamp(-99.0, 99.0) as i32;
        (first..first + 7).map(|power| libm::pow(2.0, f64::from(power))).collect()
    } else {
        (first..first + 3)
            .flat_map(|power| {
                [1.0, 2.0, 5.0].map(|step| if power < 0 { step / tens(-power) } else { step * tens(power) })
            })
            .collect()
    };
    for step in steps {
        let (from, to) = (libm::ceil(low / step - 1e-9), libm::floor(high / step + 1e-9));
        if !(step > 0.0 && step.is_finite()) || to - from > 40.0 || unit == Unit::Count && step < 1.0 {
            continue;
        }
        let ticks = (0..=(to - from).max(0.0) as u32).map(|at| {
            let number = (from + f64::from(at)) * step;
            Tick { at: number * size, text: even_text(number, step, unit, high) }
        });
        sets.push(ticks.collect());
    }
    sets
}

/// Ten to a power that is not negative, exact where a number can be.
fn tens(power: i32) -> f64 {
    (0..power).fold(1.0, |product, _| product * 10.0)
}

/// What is written at an even mark.
fn even_text(number: f64, step: f64, unit: Unit, largest: f64) -> String {
    if number == 0.0 {
        return if unit == Unit::Share { "0%".to_owned() } else { "0".to_owned() };
    }
    if number < 0.0 {
        return format!("−{}", even_text(-number, step, unit, largest));
    }
    let (number, step, letter) = match unit {
        Unit::Bytes | Unit::Seconds => (number, step, ""),
        Unit::Share => (number, step, "%"),
        Unit::Count | Unit::Plain => {
            const STEPS: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
            let found = STEPS.into_iter().find(|(size, _)| largest >= if *size < 1e4 { 1e4 } else { *size });
            let (size, letter) = found.unwrap_or((1.0, ""));
            (number / size, step / size, letter)
        }
    };
    let decimals = (0..12).find(|decimals| {
        let scaled = step * tens(*decimals);
        (scaled - scaled.round()).abs() < 1e-6 && scaled > 0.5
    });
    let text = match decimals {
        None => format!("{number:e}"),
        Some(0) if number < 1e15 => number::count(number.round() as u64),
        Some(decimals) => format!("{number:.0$}", decimals as usize),
    };
    format!("{text}{letter}")
}

/// Marks at powers of ten, from many to few: with twos and fives between where the axis is short.
fn powers_of_ten(unit: Unit, low: f64, high: f64) -> Vec<Vec<Tick>> {
    let power = |number: f64| libm::log10(number).clamp(-40.0, 40.0);
    let (first, last) = (libm::floor(power(low)) as i32, libm::ceil(power(high)) as i32);
    let marks = |between: &[f64], stride: i32| {
        let decades = (first..=last).filter(|power| power.rem_euclid(stride) == 0);
        let numbers = decades.flat_map(|power| {
            let decade = if power < 0 { 1.0 / tens(-power) } else { tens(power) };
            between.iter().map(move |digit| (digit * decade, power))
        });
        let inside = numbers.filter(|(at, _)| *at >= low * (1.0 - 1e-9) && *at <= high * (1.0 + 1e-9));
        inside.map(|(at, power)| Tick { at, text: decade_text(at, power, unit) }).collect::<Vec<Tick>>()
    };
    let mut sets = Vec::new();
    if last - first <= 4 {
        sets.extend([marks(&[1.0, 2.0, 5.0], 1), marks(&[1.0, 3.0], 1)]);
    }
    sets.extend((1..=12).map(|stride| marks(&[1.0], stride)));
    sets
}

/// What is written at a mark of a decade.
fn decade_text(at: f64, power: i32, unit: Unit) -> String {
    let short = |size: f64, letter: &str| {
        let number = at / size;
        let decimals = usize::try_from(-(libm::floor(libm::log10(number * 1.000_001)) as i32)).unwrap_or(0);
        if decimals == 0 { format!("{}{letter}", number.round()) } else { format!("{number:.decimals$}{letter}") }
    };
    match unit {
        Unit::Seconds => {
            let (size, name) = match power {
                ..-6 => (1e-9, " ns"),
                -6..-3 => (1e-6, " µs"),
                -3..0 => (1e-3, " ms"),
                0.. => (1.0, " s"),
            };
            if at / size >= 999.5 {
                format!("{}{name}", number::count((at / size).round() as u64))
            } else {
                short(size, name)
            }
        }
        Unit::Share => short(0.01, "%"),
        Unit::Bytes | Unit::Count | Unit::Plain => match power {
            18.. | ..-4 => format!("{at:e}"),
            15.. => short(1e15, "P"),
            12.. => short(1e12, "T"),
            9.. => short(1e9, "G"),
            6.. => short(1e6, "M"),
            3.. => short(1e3, "k"),
            -4.. => short(1.0, ""),
        },
    }
}

/// Marks at powers of two, from many to few.
fn powers_of_two(unit: Unit, low: f64, high: f64) -> Vec<Vec<Tick>> {
    let power = |number: f64| libm::log2(number).clamp(-120.0, 120.0);
    let (first, last) = (libm::ceil(power(low) - 1e-9) as i32, libm::floor(power(high) + 1e-9) as i32);
    (1..=12)
        .map(|stride| {
            let powers = (first..=last).filter(|power| power.rem_euclid(stride) == 0);
            powers.map(|power| Tick { at: libm::pow(2.0, f64::from(power)), text: two_text(power, unit) }).collect()
        })
        .collect()
}

/// What is written at a power of two.
fn two_text(power: i32, unit: Unit) -> String {
    let at = libm::pow(2.0, f64::from(power));
    match unit {
        Unit::Seconds | Unit::Share => words::value(at, unit),
        Unit::Bytes | Unit::Count | Unit::Plain => {
            let letters =
                if unit == Unit::Bytes { [" B", " KiB", " MiB", " GiB", " TiB"] } else { ["", "k", "M", "G", "T"] };
            let step = power.div_euclid(10).clamp(0, 4);
            let number = libm::pow(2.0, f64::from(power - step * 10));
            let text = if number >= 1.0 { format!("{number}") } else { number::three(number) };
            format!("{text}{}", letters[usize::try_from(step).unwrap_or(0)])
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    fn marks(unit: Unit, scale: Scale, (low, high): (f64, f64)) -> String {
        let axis = Axis::of("x", unit).scaled(scale);
        let mut extent = Extent::of(&axis);
        extent.add(low);
        extent.add(high);
        let ruler = Ruler::new(&axis, extent, Reach::Zero, 600.0, &|text| 20.0 + 8.0 * text.chars().count() as f64);
        let written: Vec<&str> = ruler.ticks.iter().map(|tick| tick.text.as_str()).collect();
        format!("{}: {}", ruler.label, written.join(" "))
    }

    #[test]
    fn marks_are_round_numbers() {
        let gib = 1_073_741_824.0;
        let cases = [
            (Unit::Bytes, Scale::Linear, (0.0, 80e9)),
            (Unit::Bytes, Scale::Linear, (0.0, 1500.0 * gib)),
            (Unit::Bytes, Scale::Log2, (gib / 4.0, 64.0 * gib)),
            (Unit::Seconds, Scale::Linear, (0.0, 0.034)),
            (Unit::Seconds, Scale::Log10, (0.0004, 12.0)),
            (Unit::Count, Scale::Log2, (1024.0, 131_072.0)),
            (Unit::Count, Scale::Linear, (0.0, 3.0)),
            (Unit::Count, Scale::Linear, (0.0, 45_000.0)),
            (Unit::Plain, Scale::Log10, (1.0, 3e15)),
            (Unit::Plain, Scale::Log10, (20.0, 31.0)),
            (Unit::Share, Scale::Linear, (0.0, 0.93)),
            (Unit::Plain, Scale::Linear, (-2.0, 2.0)),
        ];
        let written: Vec<String> = cases.into_iter().map(|(unit, scale, ends)| marks(unit, scale, ends)).collect();
        let expected = [
            "x (GiB): 0 8 16 24 32 40 48 56 64 72",
            "x (TiB): 0 0.25 0.50 0.75 1.00 1.25 1.50",
            "x: 256 MiB 1 GiB 4 GiB 16 GiB 64 GiB",
            "x (ms): 0 5 10 15 20 25 30 35",
            "x: 1 ms 10 ms 100 ms 1 s 10 s",
            "x: 1k 2k 4k 8k 16k 32k 64k 128k",
            "x: 0 1 2 3",
            "x: 0 5k 10k 15k 20k 25k 30k 35k 40k 45k",
            "x: 1 100 10k 1M 100M 10G 1T 100T",
            "x: 20 21 22 23 24 25 26 27 28 29 30 31",
            "x: 0% 10% 20% 30% 40% 50% 60% 70% 80% 90% 100%",
            "x: −2.0 −1.5 −1.0 −0.5 0 0.5 1.0 1.5 2.0",
        ];
        assert_eq!(written, expected);
    }
}
