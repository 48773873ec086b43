//! Which number stands here? Counts and sizes as engines print them, with the width of what was rounded away.

/// The largest size that is believed: 2^50 bytes, a thousand times any card.
const LARGEST: f64 = 1_125_899_906_842_624.0;

/// A size as it was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
    /// Half of the last printed digit: the true size lies within `bytes ± half`.
    pub half: u64,
}

/// Reads a decimal number at the beginning of a text; returns it, its digits after the point, and what follows.
/// Thousands may be set apart by commas. Signs, `NaN`, `inf` and exponents are no numbers here.
pub fn decimal(text: &str) -> Option<(f64, usize, &str)> {
    let text = text.trim_start_matches([' ', '\t', '=', ':', '~']);
    let mut end = 0;
    let (mut digits, mut fraction, mut point) = (String::new(), 0_usize, false);
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'0'..=b'9' => {
                digits.push(char::from(*byte));
                fraction += usize::from(point);
            }
            b'.' if !point && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => {
                digits.push('.');
                point = true;
            }
            b',' if !point && !digits.is_empty() && is_group(&bytes[end + 1..]) => {}
            _ => break,
        }
        end += 1;
    }
    if digits.is_empty() || digits.len() > 40 || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = &text[end..];
    if rest.starts_with(['e', 'E']) && rest[1..].starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        return None;
    }
    digits.parse().ok().filter(|value: &f64| value.is_finite()).map(|value| (value, fraction, rest))
}

/// Whether exactly three digits follow, as behind a comma that sets thousands apart.
fn is_group(after: &[u8]) -> bool {
    after.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count() == 3
}

/// Reads a whole number at the beginning of a text; a fraction or a unit letter right behind it is no whole number.
pub fn whole(text: &str) -> Option<u64> {
    let (value, fraction, rest) = decimal(text)?;
    let glued = rest.starts_with(|c: char| c.is_ascii_alphanumeric());
    (fraction == 0 && !glued && value < 9e15).then_some(value as u64)
}

/// Reads a size: `12.34 GiB`, `12.34GiB`, `6695 MiB`, `1.14 GB`, `43.29 MB`, `69524783104 bytes`, `512 B`.
///
/// vLLM's and SGLang's old logs, and TensorRT-LLM's, write GB and MB for 2^30 and 2^20: every unit is read as binary.
pub fn size(text: &str) -> Option<Size> {
    let (value, fraction, rest) = decimal(text)?;
    let rest = rest.trim_start_matches([' ', '[', '(']);
    let unit: String = rest.chars().take_while(char::is_ascii_alphabetic).take(6).collect();
    let scale = match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => 1.0,
        "kib" | "kb" => 1024.0,
        "mib" | "mb" => 1_048_576.0,
        "gib" | "gb" => 1_073_741_824.0,
        "tib" | "tb" => 1_099_511_627_776.0,
        _ => return None,
    };
    scaled(value, fraction, scale)
}

/// Makes a size of a number whose unit stands elsewhere.
pub fn scaled(value: f64, fraction: usize, scale: f64) -> Option<Size> {
    let bytes = value * scale;
    if !(0.0..=LARGEST).contains(&bytes) {
        return None;
    }
    let step = scale / 10_f64.powi(i32::try_from(fraction).unwrap_or(0));
    // The last digit may have been cut rather than rounded; half a step either way is what most formats promise.
    Some(Size { bytes: bytes.round() as u64, half: if scale > 1.0 { (step / 2.0).ceil() as u64 } else { 0 } })
}

/// Reads the size that stands behind a word of a text.
pub fn size_after(text: &str, word: &str) -> Option<Size> {
    size(after(text, word)?)
}

/// Reads the whole number that stands behind a word of a text.
pub fn whole_after(text: &str, word: &str) -> Option<u64> {
    whole(after(text, word)?)
}

/// What stands behind a word of a text.
pub fn after<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    text.find(word).map(|at| &text[at + word.len()..])
}

/// Reads the size that ends a text, as in `Allocated 12.34 GiB`.
pub fn size_before(text: &str) -> Option<Size> {
    let mut words = text.trim_end().rsplitn(3, ' ');
    let unit = words.next()?;
    match unit.starts_with(|c: char| c.is_ascii_digit()) {
        true => size(unit),
        false => size(&format!("{} {unit}", words.next()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_printed() {
        const GIB: f64 = 1_073_741_824.0;
        for (text, wanted) in [
            ("54.07 GiB", Some((54.07 * GIB, 0.005 * GIB))),
            ("16.1GiB;", Some((16.1 * GIB, 0.05 * GIB))),
            ("= 4.9902 GB", Some((4.9902 * GIB, 0.00005 * GIB))),
            ("69524783104 bytes", Some((69_524_783_104.0, 0.0))),
            ("1,234.5 MiB", Some((1234.5 * 1_048_576.0, 0.05 * 1_048_576.0))),
            ("NaN GiB", None),
            ("inf GB", None),
            ("-1.00 GiB", None),
            ("12.34", None),
            ("12.34 seconds", None),
            ("99999999 GiB", None),
            ("1e30 GiB", None),
            ("1.2.3 GiB", None),
            ("", None),
            (". GiB", None),
        ] {
            let wanted = wanted.map(|(bytes, half)| Size { bytes: bytes.round() as u64, half: half.ceil() as u64 });
            assert_eq!(size(text), wanted, "{text}");
        }
    }

    #[test]
    fn counts_as_printed() {
        for (text, wanted) in [
            ("442,944 tokens", Some(442_944)),
            ("27684, # CPU", Some(27_684)),
            ("0-9", Some(0)),
            ("12.5", None),
            ("12k", None),
            ("99999999999999999999", None),
            ("x", None),
        ] {
            assert_eq!(whole(text), wanted, "{text}");
        }
        assert_eq!(size_before("[MemUsageChange] Allocated 63.44 GiB").map(|size| size.bytes), Some(68_118_181_315));
        assert_eq!(size_before("took 63.44GiB ").map(|size| size.bytes), Some(68_118_181_315));
    }
}
