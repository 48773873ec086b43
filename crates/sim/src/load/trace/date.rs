//! When was that? Dates and times of day as traces write them, in nanoseconds since 1970, UTC.

use plimsoll_units::Nanos;

/// Reads `2023-11-16 18:17:03.9799600`, with `T` in the middle, without decimals, or with a zone behind (`Z`, `+00:00`).
/// `None` for anything else, and for what lies before 1970.
pub(super) fn nanos(text: &str) -> Option<Nanos> {
    let bytes = text.as_bytes();
    let shape = bytes.len() >= 19
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b' ' | b'T')
        && bytes[13] == b':'
        && bytes[16] == b':';
    if !shape {
        return None;
    }
    let (year, month, day) = (digits(&bytes[..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    // A leap second is the sixtieth.
    if !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut rest = &bytes[19..];
    let mut fraction = 0;
    if let Some((b'.', decimals)) = rest.split_first() {
        let count = decimals.iter().take_while(|byte| byte.is_ascii_digit()).count();
        fraction = match count {
            0 => return None,
            // What is finer than a nanosecond is left out.
            _ => digits(&decimals[..count.min(9)])? * 10_i64.pow(9 - count.min(9) as u32),
        };
        rest = &decimals[count..];
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone(rest)?;
    u64::try_from(seconds.checked_mul(1_000_000_000)?.checked_add(fraction)?).ok().map(Nanos::new)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Returns the seconds that a zone is ahead of UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, offset) = match text {
        [] | b"Z" => return Some(0),
        [b'+', offset @ ..] => (1, offset),
        [b'-', offset @ ..] => (-1, offset),
        _ => return None,
    };
    let (hours, minutes) = match offset.len() {
        2 => (&offset[..2], &b"00"[..]),
        4 => (&offset[..2], &offset[2..]),
        5 if offset[2] == b':' => (&offset[..2], &offset[3..]),
        _ => return None,
    };
    Some(sign * (digits(hours)? * 3600 + digits(minutes)? * 60))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970-01-01, counting years from March on so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let seconds = |text: &str| nanos(text).map(|nanos| nanos.get());
        assert_eq!(seconds("1970-01-01 00:00:00"), Some(0));
        assert_eq!(seconds("2023-11-16 18:17:03.9799600"), Some(1_700_158_623_979_960_000));
        assert_eq!(seconds("2024-05-10 00:00:00.009930+00:00"), Some(1_715_299_200_009_930_000));
        assert_eq!(seconds("2024-05-12T00:00:00Z"), Some(1_715_472_000_000_000_000));
        assert_eq!(seconds("2024-02-29 23:59:59.999999999-01:00"), Some(1_709_254_799_999_999_999));
        assert_eq!(seconds("2000-03-01 00:00:00+0130"), Some(951_863_400_000_000_000));
        for text in [
            "",
            "2023-11-16",
            "2023-13-16 00:00:00",
            "2023-02-29 00:00:00",
            "2023-11-16 24:00:00",
            "2023-11-16 00:00:00.",
            "2023-11-16 00:00:00 PM",
            "1969-12-31 23:59:59",
            "2023-11-1é 00:00:00",
            "1700158623.97",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
