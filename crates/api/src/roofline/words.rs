//! How are numbers put into sentences?

use plimsoll_units::{Bytes, Tokens};

/// A count with its digits in groups.
pub(super) fn count(number: u64) -> String {
    Tokens::new(number).to_string()
}

/// A count and what is counted: `1 token`, `4 096 tokens`.
pub(super) fn plural(number: u64, noun: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {noun}{end}", count(number))
}

/// Three significant digits.
pub(super) fn three(value: f64) -> String {
    let size = value.abs();
    if !size.is_finite() {
        return "—".to_owned();
    }
    if size >= 999.5 {
        let mut scale = 1.0;
        while value / scale >= 999.5 {
            scale *= 10.0;
        }
        return count(((value / scale).round() * scale) as u64);
    }
    let decimals = [99.95, 9.995, 0.9995, 0.09995, 0.009995].iter().position(|least| size >= *least).unwrap_or(5);
    if size < 0.000_005 { "0".to_owned() } else { format!("{value:.decimals$}") }
}

/// A number of units in the unit that leaves one to three digits before the point: `36.1 GB`, `989 TFLOP/s`.
pub(super) fn scaled(value: f64, unit: &str) -> String {
    const STEPS: [(f64, &str); 6] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let (step, prefix) = STEPS.into_iter().find(|(step, _)| value.abs() >= step * 0.9995).unwrap_or((1.0, ""));
    format!("{} {prefix}{unit}", three(value / step))
}

/// A size in memory: `50.0 MiB`.
pub(super) fn size(bytes: f64) -> String {
    Bytes::new(bytes as u64).to_string()
}

/// A time in the unit that suits it.
pub(super) fn time(seconds: f64) -> String {
    match seconds.abs() {
        size if size >= 0.9995 => format!("{} s", three(seconds)),
        size if size >= 0.9995e-3 => format!("{} ms", three(seconds * 1e3)),
        _ => format!("{} µs", three(seconds * 1e6)),
    }
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.1 { "less than 0.1%".to_owned() } else { format!("{}%", three(percent)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, text) in
            [(0.98, "0.980 FLOP"), (36.06e9, "36.1 GFLOP"), (999.7e9, "1.00 TFLOP"), (2.0e18, "2 000 PFLOP")]
        {
            assert_eq!(scaled(value, "FLOP"), text);
        }
        for (seconds, text) in [(0.0132, "13.2 ms"), (2.5e-6, "2.50 µs"), (1.5, "1.50 s"), (0.0, "0 µs")] {
            assert_eq!(time(seconds), text);
        }
        assert_eq!((plural(1, "token"), plural(4096, "token")), ("1 token".to_owned(), "4 096 tokens".to_owned()));
        assert_eq!((percent(0.5), percent(0.0001)), ("50.0%".to_owned(), "less than 0.1%".to_owned()));
    }
}
