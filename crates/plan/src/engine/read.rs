//! How is an option's value read? Whole numbers with suffixes, fractions, switches and JSON that may come as text.

use serde_json::{Map, Value};

use crate::Error;

/// Reads options by name and remembers which were asked for.
pub(crate) struct Reader<'a> {
    map: &'a Map<String, Value>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>) -> Self {
        Reader { map }
    }

    /// The value, where there is one that is not null.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn bad<T>(&self, key: &str, expected: &str) -> Result<T, Error> {
        let found = self.map.get(key).map_or_else(|| "missing".to_owned(), shown);
        Err(Error::Flag { flag: flag(key), found, expected: expected.to_owned() })
    }

    /// A whole number from `least` to `most`, perhaps as text with a suffix.
    pub(crate) fn count(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match whole(value)
            .and_then(|number| u64::try_from(number).ok())
            .filter(|number| (least..=most).contains(number))
        {
            Some(number) => Ok(Some(number)),
            None => self.bad(key, &format!("a whole number from {least} to {most}")),
        }
    }

    /// A size of a parallel group.
    pub(crate) fn ranks(&self, key: &str) -> Result<u32, Error> {
        Ok(self.count(key, 1, 4096)?.map_or(1, |ranks| ranks as u32))
    }

    /// A number from `least` to `most`.
    pub(crate) fn number(&self, key: &str, least: f64, most: f64) -> Result<Option<f64>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match number.filter(|number| number.is_finite() && (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => self.bad(key, &format!("a number from {least} to {most}")),
        }
    }

    /// True, false, or the words for them.
    pub(crate) fn switch(&self, key: &str) -> Result<Option<bool>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match truth(value) {
            Some(truth) => Ok(Some(truth)),
            None => self.bad(key, "true or false"),
        }
    }

    /// A word.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.bad(key, "a word"),
        }
    }

    /// One of the words.
    pub(crate) fn word(&self, key: &str, words: &[&str]) -> Result<Option<&'a str>, Error> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if words.contains(&text) { Ok(Some(text)) } else { self.bad(key, &format!("one of {}", words.join(", "))) }
    }

    /// An object, perhaps as JSON text.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Map<String, Value>>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(Value::String(text)) => match serde_json::from_str(text) {
                Ok(Value::Object(map)) => Ok(Some(map)),
                Ok(_) | Err(_) => self.bad(key, "a JSON object"),
            },
            Some(_) => self.bad(key, "a JSON object"),
        }
    }

    /// A list of whole numbers, perhaps as text.
    pub(crate) fn counts(&self, key: &str) -> Result<Option<Vec<u64>>, Error> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match counts(value) {
            Some(list) if !list.is_empty() && list.len() <= 8192 => Ok(Some(list)),
            Some(_) | None => self.bad(key, "a list of whole numbers"),
        }
    }
}

/// The flag as it is written on the command line.
pub(crate) fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// A value for an error, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() > 60 { format!("{}…", text.chars().take(60).collect::<String>()) } else { text }
}

/// True, false, or the words for them.
pub(crate) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => number.as_u64().filter(|number| *number < 2).map(|number| number == 1),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number; as text it may end in `k`, `m`, `g`, `t` (powers of 1000, a fraction allowed) or `K`, `M`, `G`, `T`
/// (powers of 1024).
///
/// vLLM 0.33.0, `utils/argparse_utils.py`, `human_readable_int`.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => {
            return number
                .as_i64()
                .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64));
        }
        Value::String(text) => text.trim(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let last = text.chars().last()?;
    let power = match last.to_ascii_lowercase() {
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        _ => return text.parse().ok(),
    };
    let digits = &text[..text.len() - 1];
    if last.is_ascii_uppercase() {
        return digits.parse::<i64>().ok()?.checked_mul(1024_i64.pow(power));
    }
    let number = digits.parse::<f64>().ok()? * 1000_f64.powi(power as i32);
    (number.is_finite() && number.abs() < 9e15).then_some(number as i64)
}

/// A list of whole numbers, also as JSON text or separated by commas or blanks.
pub(crate) fn counts(value: &Value) -> Option<Vec<u64>> {
    match value {
        Value::Array(list) => list.iter().map(Value::as_u64).collect(),
        Value::Number(number) => number.as_u64().map(|number| vec![number]),
        Value::String(text) => text
            .trim_matches(['[', ']', ' '])
            .split([',', ' '])
            .filter(|piece| !piece.is_empty())
            .map(|piece| piece.parse().ok())
            .collect(),
        Value::Null | Value::Bool(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_decimal_small_and_binary_large() {
        for (text, number) in [
            ("32k", Some(32_000)),
            ("32K", Some(32_768)),
            ("25.6k", Some(25_600)),
            ("1M", Some(1 << 20)),
            ("-1", Some(-1)),
            ("25.6K", None),
            ("k", None),
            ("é", None),
        ] {
            assert_eq!(whole(&Value::from(text)), number, "{text}");
        }
    }
}
