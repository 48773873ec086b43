//! What does a metadata key say? Numbers, truth values, texts and arrays of them.

use std::fmt;

/// What kind of value a key has.
///
/// Source: llama.cpp 0c1e57098, `ggml/include/gguf.h` (`gguf_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit integer.
    I8,
    /// 16-bit unsigned integer.
    U16,
    /// 16-bit integer.
    I16,
    /// 32-bit unsigned integer.
    U32,
    /// 32-bit integer.
    I32,
    /// 32-bit float.
    F32,
    /// One byte that is true or false.
    Bool,
    /// Text with its length before it.
    Text,
    /// Values of one kind with their count before them.
    Array,
    /// 64-bit unsigned integer.
    U64,
    /// 64-bit integer.
    I64,
    /// 64-bit float.
    F64,
}

impl Kind {
    /// Returns the kind of an id.
    pub const fn from_id(id: u32) -> Option<Kind> {
        Some(match id {
            0 => Kind::U8,
            1 => Kind::I8,
            2 => Kind::U16,
            3 => Kind::I16,
            4 => Kind::U32,
            5 => Kind::I32,
            6 => Kind::F32,
            7 => Kind::Bool,
            8 => Kind::Text,
            9 => Kind::Array,
            10 => Kind::U64,
            11 => Kind::I64,
            12 => Kind::F64,
            _ => return None,
        })
    }

    /// Returns the bytes of a value of fixed size; `None` for texts and arrays.
    pub const fn bytes(self) -> Option<u64> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::Text | Kind::Array => None,
        }
    }

    /// Returns the name as llama.cpp prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::U8 => "u8",
            Kind::I8 => "i8",
            Kind::U16 => "u16",
            Kind::I16 => "i16",
            Kind::U32 => "u32",
            Kind::I32 => "i32",
            Kind::F32 => "f32",
            Kind::Bool => "bool",
            Kind::Text => "str",
            Kind::Array => "arr",
            Kind::U64 => "u64",
            Kind::I64 => "i64",
            Kind::F64 => "f64",
        }
    }
}

/// One value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// 8-bit unsigned integer.
    U8(u8),
    /// 8-bit integer.
    I8(i8),
    /// 16-bit unsigned integer.
    U16(u16),
    /// 16-bit integer.
    I16(i16),
    /// 32-bit unsigned integer.
    U32(u32),
    /// 32-bit integer.
    I32(i32),
    /// 64-bit unsigned integer.
    U64(u64),
    /// 64-bit integer.
    I64(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// Text; of a very long one (a chat template, a whole tokenizer) the beginning.
    Text(String),
    /// Values of one kind.
    Array(Array),
}

/// Values of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// What each is.
    pub kind: Kind,
    /// How many the file holds.
    pub length: u64,
    /// The values, where they are numbers or truth values and not too many; empty otherwise.
    pub values: Vec<Value>,
}

impl Value {
    /// Returns a whole number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::U8(value) => Some(u64::from(*value)),
            Value::U16(value) => Some(u64::from(*value)),
            Value::U32(value) => Some(u64::from(*value)),
            Value::U64(value) => Some(*value),
            Value::I8(value) => u64::try_from(*value).ok(),
            Value::I16(value) => u64::try_from(*value).ok(),
            Value::I32(value) => u64::try_from(*value).ok(),
            Value::I64(value) => u64::try_from(*value).ok(),
            Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::Text(_) | Value::Array(_) => None,
        }
    }

    /// Returns a number of any kind as a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::F32(value) => Some(f64::from(*value)),
            Value::F64(value) => Some(*value),
            Value::I8(value) => Some(f64::from(*value)),
            Value::I16(value) => Some(f64::from(*value)),
            Value::I32(value) => Some(f64::from(*value)),
            Value::I64(value) => Some(*value as f64),
            Value::U8(_) | Value::U16(_) | Value::U32(_) | Value::U64(_) => self.as_u64().map(|value| value as f64),
            Value::Bool(_) | Value::Text(_) | Value::Array(_) => None,
        }
    }

    /// Returns a text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::U8(_) | Value::I8(_) | Value::U16(_) | Value::I16(_) | Value::U32(_) | Value::I32(_) => None,
            Value::U64(_) | Value::I64(_) | Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::Array(_) => None,
        }
    }

    /// Returns a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::U8(_) | Value::I8(_) | Value::U16(_) | Value::I16(_) | Value::U32(_) | Value::I32(_) => None,
            Value::U64(_) | Value::I64(_) | Value::F32(_) | Value::F64(_) | Value::Text(_) | Value::Array(_) => None,
        }
    }

    /// Returns an array.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Value::Array(array) => Some(array),
            Value::U8(_) | Value::I8(_) | Value::U16(_) | Value::I16(_) | Value::U32(_) | Value::I32(_) => None,
            Value::U64(_) | Value::I64(_) | Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::Text(_) => None,
        }
    }

    /// Returns how many values there are: an array's count, one for everything else.
    #[expect(clippy::len_without_is_empty, reason = "a single value is never empty")]
    pub fn len(&self) -> u64 {
        self.as_array().map_or(1, |array| array.length)
    }
}

/// Shows the value short enough for a table or an error.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(value) => value.fmt(f),
            Value::I8(value) => value.fmt(f),
            Value::U16(value) => value.fmt(f),
            Value::I16(value) => value.fmt(f),
            Value::U32(value) => value.fmt(f),
            Value::I32(value) => value.fmt(f),
            Value::U64(value) => value.fmt(f),
            Value::I64(value) => value.fmt(f),
            Value::F32(value) => write!(f, "{value:?}"),
            Value::F64(value) => write!(f, "{value:?}"),
            Value::Bool(value) => value.fmt(f),
            Value::Text(text) => write!(f, "\"{}\"", super::short(text)),
            Value::Array(array) => match array.values.get(..8) {
                Some(first) if array.length > 8 => {
                    let first: Vec<String> = first.iter().map(ToString::to_string).collect();
                    write!(f, "[{}, ... {} in all]", first.join(", "), array.length)
                }
                Some(_) | None if array.values.is_empty() => {
                    write!(f, "{} x {}", array.length, array.kind.name())
                }
                Some(_) | None => {
                    let all: Vec<String> = array.values.iter().map(ToString::to_string).collect();
                    write!(f, "[{}]", all.join(", "))
                }
            },
        }
    }
}
