//! How is a number written? Three significant digits and a unit; whole counts with their digits in groups.

use plimsoll_units::{Bytes, Tokens};

/// A size: `61.4 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    Bytes::new(bytes).to_string()
}

/// A count in full: `41 408`.
pub(crate) fn count(number: u64) -> String {
    Tokens::new(number).to_string()
}

/// A large count in three digits: `70.6 B`; thousands and less in full.
pub(crate) fn short(number: u64) -> String {
    const STEPS: [(f64, &str); 3] = [(1e12, "T"), (1e9, "B"), (1e6, "M")];
    for (step, unit) in STEPS {
        if number as f64 >= step * 0.9995 {
            return format!("{} {unit}", three(number as f64 / step));
        }
    }
    count(number)
}

/// Three significant digits, never in powers of ten.
pub(crate) fn three(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        size if !size.is_finite() => return "—".to_owned(),
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.09995 => 3,
        size if size >= 0.009995 => 4,
        size if size >= 0.0009995 => 5,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if size >= 999.5 { count(value.round() as u64) } else { text }
}

/// Any number: whole ones in full, others with up to four digits after the point.
pub(crate) fn plain(value: f64) -> String {
    if value.fract() == 0.0 && (0.0..1e15).contains(&value) {
        return count(value as u64);
    }
    if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        return format!("{value:e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A share in percent: `7.6%`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    let share = part as f64 / whole as f64 * 100.0;
    if share > 0.0 && share < 0.05 { "<0.1%".to_owned() } else { format!("{share:.1}%") }
}

/// The interval of a size in the size's own unit: `(51.2 … 53.0)`, nothing for an exact size.
pub(crate) fn interval(bytes: u64, low: u64, high: u64) -> String {
    if low >= high {
        return String::new();
    }
    // A size of nothing has no unit: the largest number's serves.
    let whole = size(if bytes == 0 { high } else { bytes });
    let unit = whole.split_once(' ').map_or("B", |(_, unit)| unit);
    let scale = match unit {
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => 1.0,
    };
    let end = |bytes: u64| three(bytes as f64 / scale);
    let unit = if bytes == 0 { format!(" {unit}") } else { String::new() };
    format!("({} … {}{unit})", end(low), end(high))
}

/// A size that may be negative: `1.20 GiB`, `−0.31 GiB`.
pub(crate) fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "−" } else { "" };
    format!("{sign}{}", size(bytes.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (0.76885, "0.769"),
            (1.0, "1.00"),
            (13.25, "13.2"),
            (130.4, "130"),
            (3410.2, "3 410"),
        ] {
            assert_eq!(three(value), text);
        }
        for (value, text) in
            [(70_553_706_496, "70.6 B"), (999_999_999, "1.00 B"), (41_408, "41 408"), (1_040_000_000_000, "1.04 T")]
        {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn intervals_are_in_the_unit_of_their_number() {
        for (bytes, low, high, text) in [
            (GIB, GIB, GIB, ""),
            (4 * GIB, 3 * GIB, 5 * GIB, "(3.00 … 5.00)"),
            (GIB / 2, 0, 2 * GIB, "(0 … 2 048)"),
            (0, 0, 3 * GIB, "(0 … 3.00 GiB)"),
        ] {
            assert_eq!(interval(bytes, low, high), text);
        }
        assert_eq!(signed(-3 * (1 << 30)), "−3.00 GiB");
    }
}
