//! What was read: metadata, tensors, parts; and how a planner asks for them.

use std::collections::BTreeMap;

use super::{GgmlType, Value, malformed, short};
use crate::Error;

/// The header of a GGUF file, or of all parts of a split one.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// What tensors' offsets are multiples of, in the first part.
    pub alignment: u64,
    /// The metadata of the first part, by key.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors of all parts, in the order of the parts and of their bytes.
    pub tensors: Vec<TensorInfo>,
    /// The files, in order.
    pub parts: Vec<PartInfo>,
    /// What a user should know about how the files were read.
    pub notes: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its name.
    pub name: String,
    /// Where its tensors' bytes begin.
    pub data_start: u64,
    /// The bytes that its tensors take, each rounded up to the alignment.
    pub data_bytes: u64,
    /// The length of the file that was read, where it is known; less than `data_start + data_bytes` when only its
    /// beginning is there.
    pub length: Option<u64>,
    /// How many tensors it holds.
    pub tensors: u64,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its sides, the row's length first: one to four.
    pub shape: Vec<u64>,
    /// How its numbers are stored.
    pub kind: GgmlType,
    /// Its first byte, counted from where the tensors of its part begin.
    pub offset: u64,
    /// The part it lies in, an index into [`Gguf::parts`].
    pub part: usize,
}

impl TensorInfo {
    /// Returns the numbers in it.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, side| product.saturating_mul(*side))
    }

    /// Returns the bytes of one row.
    pub fn row_bytes(&self) -> u64 {
        let row = self.shape.first().copied().unwrap_or(1);
        (row / self.kind.block()).saturating_mul(self.kind.block_bytes())
    }

    /// Returns how many rows there are.
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).fold(1, |product: u64, side| product.saturating_mul(*side))
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> u64 {
        self.row_bytes().saturating_mul(self.rows())
    }
}

impl Gguf {
    /// Returns `general.architecture`.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the file does not name it or names it by something else than a text.
    pub fn architecture(&self) -> Result<&str, Error> {
        let found = self.metadata.get("general.architecture");
        match found.map(|value| (value, value.as_str())) {
            Some((_, Some(name))) => Ok(name),
            Some((value, None)) => Err(self.wrong("general.architecture", value, "a text")),
            None => Err(self.absent("general.architecture")),
        }
    }

    /// Returns the value of a key under the architecture's name: `{architecture}.{suffix}`.
    pub fn key(&self, suffix: &str) -> Option<&Value> {
        self.metadata.get(&self.full(suffix))
    }

    /// Returns the text of a full key, `None` when the file lacks it.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, Error> {
        self.take(key, "a text", Value::as_str)
    }

    /// Returns the whole number under the architecture's name, `None` when the file lacks it.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no whole number or negative.
    pub fn uint(&self, suffix: &str) -> Result<Option<u64>, Error> {
        self.take(&self.full(suffix), "a whole number", Value::as_u64)
    }

    /// Returns the whole number under the architecture's name.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is absent, no whole number or negative.
    pub fn needed_uint(&self, suffix: &str) -> Result<u64, Error> {
        self.uint(suffix)?.ok_or_else(|| self.absent(&self.full(suffix)))
    }

    /// Returns the number under the architecture's name, `None` when the file lacks it.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no number.
    pub fn float(&self, suffix: &str) -> Result<Option<f64>, Error> {
        self.take(&self.full(suffix), "a number", Value::as_f64)
    }

    /// Returns the truth value under the architecture's name, `None` when the file lacks it.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no truth value.
    pub fn flag(&self, suffix: &str) -> Result<Option<bool>, Error> {
        self.take(&self.full(suffix), "true or false", Value::as_bool)
    }

    /// Returns the array of whole numbers (or of truth values, as 0 and 1) under the architecture's name, `None` when the
    /// file lacks it or has a single value.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it holds something else, or more than is kept.
    pub fn array(&self, suffix: &str) -> Result<Option<Vec<u64>>, Error> {
        let key = self.full(suffix);
        let Some(value) = self.metadata.get(&key) else { return Ok(None) };
        let Some(array) = value.as_array() else { return Ok(None) };
        let whole = |value: &Value| value.as_u64().or_else(|| value.as_bool().map(u64::from));
        let values: Option<Vec<u64>> = array.values.iter().map(whole).collect();
        match values {
            Some(values) if values.len() as u64 == array.length => Ok(Some(values)),
            Some(_) | None => Err(self.wrong(&key, value, "an array of whole numbers")),
        }
    }

    /// Returns one whole number for each of `count` layers, from a single value or an array, `None` when the file lacks
    /// the key.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is neither, or an array of fewer than `count`.
    pub fn per_layer(&self, suffix: &str, count: usize) -> Result<Option<Vec<u64>>, Error> {
        let key = self.full(suffix);
        let Some(value) = self.metadata.get(&key) else { return Ok(None) };
        if let Some(mut values) = self.array(suffix)? {
            if values.len() < count {
                return Err(self.wrong(&key, value, &format!("one value for each of {count} layers")));
            }
            values.truncate(count);
            return Ok(Some(values));
        }
        let one = value.as_u64().or_else(|| value.as_bool().map(u64::from));
        let one = one.ok_or_else(|| self.wrong(&key, value, "a whole number, or an array of them"))?;
        Ok(Some(vec![one; count]))
    }

    /// Returns a tensor by its name. Scans the list; for many look-ups make a map.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Returns the bytes of all tensors, without what alignment adds.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().fold(0, |sum: u64, tensor| sum.saturating_add(tensor.bytes()))
    }

    /// Returns the length of the whole files: headers and tensors, each aligned.
    pub fn file_bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.data_start).saturating_add(part.data_bytes))
    }

    /// Returns the rows of the vocabulary: `{architecture}.vocab_size`, else the length of `tokenizer.ggml.tokens`, else
    /// the rows of the token embedding.
    pub fn vocabulary(&self) -> Option<u64> {
        let given = self.key("vocab_size").and_then(Value::as_u64);
        let listed = || self.metadata.get("tokenizer.ggml.tokens").map(Value::len).filter(|count| *count > 0);
        let rows = || self.tensor("token_embd.weight").map(TensorInfo::rows);
        given.or_else(listed).or_else(rows)
    }

    /// The full key of a suffix.
    fn full(&self, suffix: &str) -> String {
        let name = self.metadata.get("general.architecture").and_then(Value::as_str).unwrap_or("?");
        format!("{name}.{suffix}")
    }

    /// Looks a key up and reads it.
    fn take<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        as_wanted: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        as_wanted(value).map(Some).ok_or_else(|| self.wrong(key, value, expected))
    }

    /// The error for a key of another kind.
    pub(super) fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        let place = format!("{}, key `{}`", self.name(), short(key));
        malformed(place, format!("it is {}, expected {expected}", value))
    }

    /// The error for a key that is needed.
    pub(super) fn absent(&self, key: &str) -> Error {
        malformed(self.name(), format!("the metadata lack `{}`; a file of the converter's has it", short(key)))
    }

    /// The first file's name, for errors.
    pub(super) fn name(&self) -> &str {
        self.parts.first().map_or("GGUF", |part| &part.name)
    }
}
