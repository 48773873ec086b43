//! Which release of an engine? Numbers that compare as releases do.

use std::fmt;
use std::str::FromStr;

/// A release `major.minor.patch`; suffixes (`.post1`, `rc2`, `.dev5+g1234`) are read and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl Version {
    /// Makes a release number.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Version { major, minor, patch }
    }

    /// Whether it is a build number of llama.cpp (`b10573`), which counts up without points.
    pub const fn is_build(self) -> bool {
        self.major >= 1000 && self.minor == 0 && self.patch == 0
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a version such as 0.19.1 (or a build such as b10573)");
        // Words behind it are a remark: `0.11 (a branch)`.
        let text = text.split_whitespace().next().unwrap_or_default();
        let build = text.strip_prefix('b');
        let trimmed = build.or_else(|| text.strip_prefix('v')).unwrap_or(text);
        let mut parts = [0_u16; 3];
        let (mut read, mut rest) = (0, trimmed);
        while read < 3 {
            let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, after) = rest.split_at(end);
            parts[read] = digits.parse().map_err(|_| bad())?;
            (read, rest) = (read + 1, after);
            match rest.strip_prefix('.').filter(|next| next.starts_with(|letter: char| letter.is_ascii_digit())) {
                Some(next) if read < 3 => rest = next,
                Some(_) | None => break,
            }
        }
        if !is_suffix(rest) || (build.is_some() && (read > 1 || !rest.is_empty())) {
            return Err(bad());
        }
        if read == 0 { Err(bad()) } else { Ok(Version::new(parts[0], parts[1], parts[2])) }
    }
}

/// Whether a text is what may stand behind a release's numbers: a fourth number, `a1`, `b2`, `rc3`, `.post1`, `.dev4`,
/// `+local`, one after another, or a dash and a word (`-cuda`).
fn is_suffix(text: &str) -> bool {
    // `0.26.x` is a line of releases, read as its first.
    if text == ".x" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(local) = rest.strip_prefix(['+', '-']) {
            return !local.is_empty()
                && local.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte));
        }
        let word = rest.strip_prefix(['.', '_']).unwrap_or(rest);
        let forms = ["post", "preview", "pre", "dev", "rc", "alpha", "beta", "a", "b", "c"];
        let numbered = forms.iter().find_map(|form| word.strip_prefix(form));
        let number = match numbered {
            Some(number) => number.strip_prefix('.').unwrap_or(number),
            None if rest.starts_with('.') && word.starts_with(|letter: char| letter.is_ascii_digit()) => word,
            None => return false,
        };
        let left = number.trim_start_matches(|letter: char| letter.is_ascii_digit());
        if left.len() == number.len() {
            return false;
        }
        rest = left;
    }
    true
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_build() {
            return write!(f, "b{}", self.major);
        }
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_dropped() {
        for (text, version) in [
            ("0.19.1", Version::new(0, 19, 1)),
            ("v0.8.3rc2.dev224+g49c0d11ec", Version::new(0, 8, 3)),
            ("0.6.4.post1", Version::new(0, 6, 4)),
            ("1.2.0rc6.post3", Version::new(1, 2, 0)),
            ("0.26", Version::new(0, 26, 0)),
            ("0.5.3.post2", Version::new(0, 5, 3)),
            ("1.1.0a4", Version::new(1, 1, 0)),
            ("0.12.0b1", Version::new(0, 12, 0)),
            ("0.19.1-cu128", Version::new(0, 19, 1)),
            ("0.26.x (V2 runner)", Version::new(0, 26, 0)),
            ("b10573", Version::new(10_573, 0, 0)),
        ] {
            assert_eq!(text.parse(), Ok(version));
        }
        for text in ["latest", "0c1e57098", "1.2abc", "b12.3", "b12rc1", "1..2", "vb3", "", "1.2.3.four"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert!("99999999.1".parse::<Version>().is_err());
    }
}
