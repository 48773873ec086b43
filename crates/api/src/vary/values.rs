//! How are many values written? `1k..128k` doubles, `1k..8k:+1k` goes in even steps, `1,4,16` is a list.

use super::{Knob, Value};
use crate::Error;

/// Values of one knob at most.
pub const MOST_VALUES: usize = 4096;

/// What a list of values may be, for messages.
const EXPECTED: &str = "numbers such as 4096 or 4k (k is 1024, m is 1024 × 1024), a list 1k,2k,8k, doubling steps \
    1k..128k, steps by another factor 1..81:x3, or even steps 1k..8k:+1k";

impl Knob {
    /// Reads the values of a list such as `1k..128k` or `bf16,fp8`, rising where they are numbers, each once.
    ///
    /// `A..B` doubles from A and ends with B: `1k..6k` is 1024, 2048, 4096 and 6144.
    ///
    /// # Errors
    /// [`Error::Request`] names the knob, the piece that cannot be read and what is understood.
    pub fn values(self, text: &str) -> Result<Vec<Value>, Error> {
        if self.takes_words() {
            return self.words(text);
        }
        let mut found: Vec<u64> = Vec::new();
        for piece in text.split(',') {
            found.extend(self.piece(piece.trim())?);
            if found.len() > MOST_VALUES {
                return Err(self.refuse(text, &format!("at most {MOST_VALUES} values")));
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found.into_iter().map(Value::Number).collect())
    }

    /// Reads the numbers of a list, for knobs that take numbers.
    ///
    /// # Errors
    /// As [`Knob::values`].
    pub fn numbers(self, text: &str) -> Result<Vec<u64>, Error> {
        let numbers = self.values(text)?.into_iter().map(|value| match value {
            Value::Number(number) => Ok(number),
            Value::Word(word) => Err(self.refuse(&word, "a number")),
        });
        numbers.collect()
    }

    /// Reads words between commas.
    fn words(self, text: &str) -> Result<Vec<Value>, Error> {
        let mut found: Vec<Value> = Vec::new();
        for word in text.split(',').map(|word| word.trim().to_ascii_lowercase()) {
            if word.is_empty() || word.len() > 64 {
                return Err(self.refuse(text, "names between commas, such as bf16,fp8"));
            }
            let word = Value::Word(word);
            if !found.contains(&word) {
                found.push(word);
            }
        }
        if found.len() > MOST_VALUES {
            return Err(self.refuse(text, &format!("at most {MOST_VALUES} values")));
        }
        Ok(found)
    }

    /// Reads one number or one range.
    fn piece(self, piece: &str) -> Result<Vec<u64>, Error> {
        let Some((from, rest)) = piece.split_once("..") else { return Ok(vec![self.number(piece, piece)?]) };
        let (to, step) = match rest.split_once(':') {
            Some((to, step)) => (to, Some(step.trim())),
            None => (rest, None),
        };
        let (from, to) = (self.number(piece, from)?, self.number(piece, to)?);
        if to < from {
            return Err(self.refuse(piece, "a range that rises"));
        }
        let next: Box<dyn Fn(u64) -> u64> = match step {
            None => Box::new(|at| at.saturating_mul(2)),
            Some(step) => {
                let (kind, size) = step.split_at_checked(1).unwrap_or((step, ""));
                let size = self.number(piece, size)?;
                match kind {
                    "+" => Box::new(move |at| at.saturating_add(size)),
                    "x" if size >= 2 => Box::new(move |at| at.saturating_mul(size)),
                    _ => return Err(self.refuse(piece, EXPECTED)),
                }
            }
        };
        let mut found = Vec::new();
        let mut at = from;
        while at < to {
            found.push(at);
            if found.len() > MOST_VALUES {
                return Err(self.refuse(piece, &format!("at most {MOST_VALUES} values")));
            }
            at = next(at);
        }
        found.push(to);
        Ok(found)
    }

    /// Reads `4096`, `4_096`, `4k` or `1m`.
    fn number(self, piece: &str, text: &str) -> Result<u64, Error> {
        let plain = text.trim().replace('_', "").to_ascii_lowercase();
        let (digits, unit) = match plain.strip_suffix('k') {
            Some(digits) => (digits, 1 << 10),
            None => plain.strip_suffix('m').map_or((plain.as_str(), 1), |digits| (digits, 1 << 20)),
        };
        let number = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|digits| digits.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit));
        let Some(number) = number else { return Err(self.refuse(piece, EXPECTED)) };
        let (least, most) = self.range();
        if !(least..=most).contains(&number) {
            return Err(self.refuse(piece, &format!("from {least} to {most}")));
        }
        Ok(number)
    }

    fn refuse(self, found: &str, expected: &str) -> Error {
        let found: String = found.chars().take(60).collect();
        Error::Request(format!("{} is `{found}`, expected {expected}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        for (knob, text, values) in [
            (Knob::Context, "1k", &[1024][..]),
            (Knob::Context, "1k..8k", &[1024, 2048, 4096, 8192]),
            (Knob::Context, "1k..6k", &[1024, 2048, 4096, 6144]),
            (Knob::Context, "1k..4k:+1k", &[1024, 2048, 3072, 4096]),
            (Knob::Context, " 4K , 2_048,4096", &[2048, 4096]),
            (Knob::Context, "1m", &[1 << 20]),
            (Knob::Batch, "1..32", &[1, 2, 4, 8, 16, 32]),
            (Knob::Batch, "1..81:x3", &[1, 3, 9, 27, 81]),
            (Knob::Batch, "64..64", &[64]),
            (Knob::Batch, "1,4,16..64", &[1, 4, 16, 32, 64]),
        ] {
            assert_eq!(knob.numbers(text), Ok(values.to_vec()), "{text}");
        }
        assert_eq!(
            Knob::Format.values("BF16, fp8,bf16"),
            Ok(vec![Value::Word("bf16".to_owned()), Value::Word("fp8".to_owned())])
        );
        assert_eq!(Knob::Context.numbers("1..4096:+1").map(|found| found.len()), Ok(4096));
    }

    #[test]
    fn what_is_no_list_says_so() {
        for (knob, text, message) in [
            (Knob::Context, "", EXPECTED),
            (Knob::Context, "1k,", EXPECTED),
            (Knob::Context, "1k..", EXPECTED),
            (Knob::Context, "..4k", EXPECTED),
            (Knob::Context, "1.5k", EXPECTED),
            (Knob::Context, "-4", EXPECTED),
            (Knob::Context, "1k..8k:1k", EXPECTED),
            (Knob::Context, "1k..8k:", EXPECTED),
            (Knob::Context, "1k..8k:+é", EXPECTED),
            (Knob::Context, "1k..8k:é", EXPECTED),
            (Knob::Batch, "1..9:x1", EXPECTED),
            (Knob::Context, "8k..1k", "a range that rises"),
            (Knob::Context, "0", "from 1 to 1073741824"),
            (Knob::Context, "99999999999999999999", EXPECTED),
            (Knob::Context, "1..1m:+1", "at most 4096 values"),
            (Knob::Format, "bf16,,fp8", "names between commas, such as bf16,fp8"),
        ] {
            let error = knob.values(text).unwrap_err().to_string();
            assert!(error.ends_with(&format!("`, expected {message}")), "{text}: {error}");
        }
    }
}
