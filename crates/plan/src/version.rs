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
        let trimmed = text.trim().trim_start_matches(['v', 'b']);
        let mut parts = [0_u16; 3];
        let mut read = 0;
        for (at, piece) in trimmed.split('.').take(3).enumerate() {
            let digits: String = piece.chars().take_while(char::is_ascii_digit).collect();
            if digits.is_empty() {
                if at == 0 {
                    return Err(bad());
                }
                break;
            }
            parts[at] = digits.parse().map_err(|_| bad())?;
            read += 1;
            if digits.len() < piece.len() {
                break;
            }
        }
        if read == 0 { Err(bad()) } else { Ok(Version::new(parts[0], parts[1], parts[2])) }
    }
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
            ("b10573", Version::new(10_573, 0, 0)),
        ] {
            assert_eq!(text.parse(), Ok(version));
        }
        assert!("latest".parse::<Version>().is_err());
        assert!("99999999.1".parse::<Version>().is_err());
    }
}
