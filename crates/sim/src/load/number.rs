//! What number does a piece of text say? Decimal times in whole nanoseconds, without a detour over floating point.

use plimsoll_units::Nanos;

/// Most tokens of one prompt or one output: 2^30.
pub const MOST_TOKENS: u32 = 1 << 30;

/// Why a piece of text is not the number that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Odd {
    /// No number at all.
    NotANumber,
    /// Below zero.
    Negative,
    /// More than there may be.
    TooLarge,
    /// Not whole where it must be.
    NotWhole,
}

/// Reads a time given in a unit of so many nanoseconds, exactly, halves rounded up. What has an exponent goes over
/// floating point.
pub(super) fn nanos(text: &str, unit: u64) -> Result<Nanos, Odd> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || whole.len() > 20 {
        return floating(text, unit);
    }
    let count = |part: &str| part.bytes().fold(0_u128, |sum, byte| sum * 10 + u128::from(byte - b'0'));
    // Eighteen decimals of the longest unit, a day of 8.64e13 nanoseconds, stay below 2^128.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let part = (count(fraction) * u128::from(unit) + scale / 2) / scale;
    let all = count(whole) * u128::from(unit) + part;
    u64::try_from(all).map(Nanos::new).map_err(|_| Odd::TooLarge)
}

fn floating(text: &str, unit: u64) -> Result<Nanos, Odd> {
    let value: f64 = text.parse().map_err(|_| Odd::NotANumber)?;
    if value.is_nan() {
        return Err(Odd::NotANumber);
    }
    if value < 0.0 {
        return Err(Odd::Negative);
    }
    Nanos::seconds(value * unit as f64 / 1e9).ok_or(Odd::TooLarge)
}

/// Reads a number of tokens: whole, at most [`MOST_TOKENS`]; `12.0` is 12.
pub(super) fn tokens(text: &str) -> Result<u32, Odd> {
    let bytes = text.as_bytes();
    if !bytes.is_empty() && bytes.len() <= 9 && bytes.iter().all(u8::is_ascii_digit) {
        let value = bytes.iter().fold(0_u32, |sum, byte| sum * 10 + u32::from(byte - b'0'));
        return whole_tokens(f64::from(value));
    }
    whole_tokens(text.parse().map_err(|_| Odd::NotANumber)?)
}

/// Takes a number of tokens that came as a floating-point number.
pub(super) fn whole_tokens(value: f64) -> Result<u32, Odd> {
    if value.is_nan() {
        Err(Odd::NotANumber)
    } else if value < 0.0 {
        Err(Odd::Negative)
    } else if value > f64::from(MOST_TOKENS) {
        Err(Odd::TooLarge)
    } else if libm::trunc(value) < value {
        Err(Odd::NotWhole)
    } else {
        Ok(value as u32)
    }
}

/// Writes a number for a message: one that is very large or very small by its power of ten.
pub(super) fn brief(value: f64) -> String {
    let size = value.abs();
    if size.is_finite() && (size >= 1e15 || (size > 0.0 && size < 1e-6)) {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_times_are_exact() {
        for (text, unit, nanos_) in [
            ("0", 1, 0),
            ("0.052", 1_000_000_000, 52_000_000),
            ("0.098189", 1_000_000_000, 98_189_000),
            ("19440110.0", 1_000_000_000, 19_440_110_000_000_000),
            ("1.0000000005", 1_000_000_000, 1_000_000_001),
            ("27482.5", 1_000_000, 27_482_500_000),
            (".5", 1_000_000_000, 500_000_000),
            ("1e-3", 1_000_000_000, 1_000_000),
        ] {
            assert_eq!(nanos(text, unit), Ok(Nanos::new(nanos_)), "{text}");
        }
        for (text, odd) in [
            ("", Odd::NotANumber),
            (".", Odd::NotANumber),
            ("nan", Odd::NotANumber),
            ("-1", Odd::Negative),
            ("inf", Odd::TooLarge),
            ("99999999999999999999", Odd::TooLarge),
            ("1e30", Odd::TooLarge),
            ("0x10", Odd::NotANumber),
        ] {
            assert_eq!(nanos(text, 1_000_000_000), Err(odd), "{text}");
        }
    }

    #[test]
    fn numbers_are_written_briefly() {
        for (value, text) in [
            (5.0, "5"),
            (-0.25, "-0.25"),
            (1e300, "1e300"),
            (-2.5e-9, "-2.5e-9"),
            (0.0, "0"),
            (1e14, "100000000000000"),
        ] {
            assert_eq!(brief(value), text);
        }
    }

    #[test]
    fn tokens_are_whole() {
        for (text, found) in [
            ("0", Ok(0)),
            ("4808", Ok(4808)),
            ("12.0", Ok(12)),
            ("1073741824", Ok(MOST_TOKENS)),
            ("1073741825", Err(Odd::TooLarge)),
            ("-3", Err(Odd::Negative)),
            ("2.5", Err(Odd::NotWhole)),
            ("NaN", Err(Odd::NotANumber)),
            ("", Err(Odd::NotANumber)),
        ] {
            assert_eq!(tokens(text), found, "{text}");
        }
    }
}
