//! What does one file's header say?
//!
//! Words: `GGUF`, version, two counts; then the metadata, key by key; then the list of tensors; then, aligned, the
//! tensors' bytes without gaps. All numbers little-endian. Source: llama.cpp 0c1e57098, `ggml/src/gguf.cpp`
//! (`gguf_init_from_reader`), whose refusals are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::stream::Stream;
use super::{Array, GgmlType, Kind, TensorInfo, Value, malformed, short};
use crate::Error;

/// The most that is taken for true. llama.cpp has no limits of its own on the counts; files have some fifty keys and a few
/// thousand tensors.
const MOST_TENSORS: u64 = 1 << 20;
const MOST_KEYS: u64 = 1 << 17;
/// The longest key, by the format's definition.
const LONGEST_KEY: u64 = 65_535;
/// The longest text and array (`GGUF_MAX_STRING_LENGTH`, `GGUF_MAX_ARRAY_ELEMENTS`).
const LONGEST_TEXT: u64 = 1 << 30;
const LONGEST_ARRAY: u64 = 1 << 30;
/// A tensor's name is shorter than this in builds that raise `GGML_MAX_NAME`; stock ones stop below [`STOCK_NAME`].
const LONGEST_NAME: u64 = 128;
const STOCK_NAME: usize = 64;
/// What is kept of one text and of one array.
const KEPT_TEXT: u64 = 64 << 10;
const KEPT_VALUES: u64 = 8192;
/// What is kept of all texts and arrays of a file.
const KEPT_IN_ALL: u64 = 64 << 20;
/// The coarsest alignment that is taken for true.
const COARSEST: u64 = 1 << 20;
/// The least bytes that a key with its value, and that a tensor's entry, take.
const LEAST_KEY: u64 = 8 + 1 + 4 + 1;
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// One file's header.
pub(super) struct Header {
    pub version: u32,
    pub alignment: u64,
    pub metadata: BTreeMap<String, Value>,
    pub tensors: Vec<TensorInfo>,
    pub data_start: u64,
    pub data_bytes: u64,
    pub notes: Vec<String>,
}

/// Reads the header of one file, which becomes part `part`.
pub(super) fn read(stream: &mut Stream<'_>, part: usize) -> Result<Header, Error> {
    let version = version(stream)?;
    stream.enter("the counts", 0);
    let tensor_count = count(stream, "tensors", MOST_TENSORS)?;
    let key_count = count(stream, "metadata keys", MOST_KEYS)?;
    let metadata = metadata(stream, key_count, tensor_count)?;
    let alignment = alignment(stream, &metadata)?;
    let mut notes = Vec::new();
    let tensors = tensors(stream, part, tensor_count)?;
    if let Some(long) = tensors.iter().find(|tensor| tensor.name.len() >= STOCK_NAME) {
        let (name, length) = (short(&long.name), long.name.len());
        notes.push(format!("{}: tensor name `{name}` has {length} bytes; llama.cpp loads up to 63", stream.file));
    }
    let data_start = stream.at().next_multiple_of(alignment);
    let data_bytes = check_offsets(&stream.file, &tensors, alignment)?;
    Ok(Header { version, alignment, metadata, tensors, data_start, data_bytes, notes })
}

/// Reads the magic and the version.
fn version(stream: &mut Stream<'_>) -> Result<u32, Error> {
    let magic: [u8; 4] = stream.bytes()?;
    if &magic != b"GGUF" {
        let why = match &magic {
            b"ggml" | b"lmgg" | b"fmgg" | b"tjgg" | b"algg" => {
                "a GGML file from before GGUF (2023); convert the model again".to_owned()
            }
            b"PK\x03\x04" => "a zip archive (a PyTorch checkpoint?), not GGUF".to_owned(),
            b"vers" => "a Git LFS pointer, not the file; fetch the file itself (`git lfs pull`)".to_owned(),
            other => format!(
                "the file begins with `{}`, not `GGUF`; is it another format, or an error page?",
                other.escape_ascii()
            ),
        };
        return Err(malformed(format!("{}, byte 0", stream.file), why));
    }
    stream.enter("the version", 0);
    let version = stream.u32()?;
    let why = match version {
        2 | 3 => return Ok(version),
        1 => "GGUF version 1, whose counts have 32 bits, is not read (nor by llama.cpp since 2023); convert the model again"
            .to_owned(),
        other if other & 0xffff == 0 && other != 0 => format!(
            "a big-endian GGUF (version {} with its bytes reversed); engines on x86 and ARM do not load it: \
             turn it with gguf-py's `gguf_convert_endian.py FILE little`",
            other.swap_bytes()
        ),
        other => format!("GGUF version {other} is unknown; versions 2 and 3 are read"),
    };
    Err(malformed(format!("{}, byte 4", stream.file), why))
}

/// Reads one of the two counts.
fn count(stream: &mut Stream<'_>, what: &str, most: u64) -> Result<u64, Error> {
    let place = format!("{}, byte {}", stream.file, stream.at());
    let count = stream.u64()?;
    if count > most {
        let shown = if count > i64::MAX as u64 { format!("{}", count as i64) } else { count.to_string() };
        return Err(malformed(place, format!("{shown} {what}; up to {most} are taken for true: the file is damaged")));
    }
    Ok(count)
}

/// Reads the metadata.
fn metadata(stream: &mut Stream<'_>, keys: u64, tensors: u64) -> Result<BTreeMap<String, Value>, Error> {
    let mut metadata = BTreeMap::new();
    let mut kept = 0;
    for at in 0..keys {
        let after = (keys - at - 1) * LEAST_KEY + tensors * LEAST_TENSOR;
        stream.enter(format!("metadata key {} of {keys}", at + 1), after);
        let length = stream.u64()?;
        if length == 0 {
            return Err(stream.fail("the key is empty; the file is damaged"));
        }
        if length > LONGEST_KEY {
            return Err(stream.fail(format!("a key of {length} bytes; the format allows 65535: the file is damaged")));
        }
        let key = utf8(stream, length, "key")?;
        stream.enter(format!("metadata key {} of {keys} (`{}`)", at + 1, short(&key)), after);
        if metadata.contains_key(&key) {
            return Err(stream.fail("the key stands there twice; the file is damaged"));
        }
        let value = value(stream, &mut kept)?;
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// Reads a name that must be UTF-8.
fn utf8(stream: &mut Stream<'_>, length: u64, what: &str) -> Result<String, Error> {
    let bytes = stream.beginning(length, length)?;
    String::from_utf8(bytes).map_err(|_| stream.fail(format!("the {what} is not UTF-8; the file is damaged")))
}

/// Reads what kind of value follows.
fn kind(stream: &mut Stream<'_>) -> Result<Kind, Error> {
    let id = stream.u32()?;
    Kind::from_id(id).ok_or_else(|| stream.fail(format!("value type {id} is unknown; the types are 0 to 12")))
}

/// Reads one value.
fn value(stream: &mut Stream<'_>, kept: &mut u64) -> Result<Value, Error> {
    match kind(stream)? {
        Kind::Array => array(stream, kept).map(Value::Array),
        Kind::Text => {
            let length = text_length(stream)?;
            keep(stream, kept, length.min(KEPT_TEXT))?;
            let bytes = stream.beginning(length, KEPT_TEXT)?;
            Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        kind @ (Kind::U8 | Kind::I8 | Kind::U16 | Kind::I16 | Kind::U32 | Kind::I32 | Kind::U64 | Kind::I64) => {
            number(stream, kind)
        }
        kind @ (Kind::F32 | Kind::F64 | Kind::Bool) => number(stream, kind),
    }
}

/// Adds to what is kept of a file.
fn keep(stream: &Stream<'_>, kept: &mut u64, more: u64) -> Result<(), Error> {
    *kept = kept.saturating_add(more);
    if *kept > KEPT_IN_ALL {
        return Err(stream.fail("the metadata hold more than 64 MiB of texts and numbers; the file is damaged"));
    }
    Ok(())
}

/// Reads the length of a text.
fn text_length(stream: &mut Stream<'_>) -> Result<u64, Error> {
    let length = stream.u64()?;
    if length > LONGEST_TEXT {
        return Err(
            stream.fail(format!("a text of {length} bytes; up to 2^30 are taken for true: the file is damaged"))
        );
    }
    Ok(length)
}

/// Reads a number or truth value.
fn number(stream: &mut Stream<'_>, kind: Kind) -> Result<Value, Error> {
    Ok(match kind {
        Kind::U8 => Value::U8(u8::from_le_bytes(stream.bytes()?)),
        Kind::I8 => Value::I8(i8::from_le_bytes(stream.bytes()?)),
        Kind::U16 => Value::U16(u16::from_le_bytes(stream.bytes()?)),
        Kind::I16 => Value::I16(i16::from_le_bytes(stream.bytes()?)),
        Kind::U32 => Value::U32(stream.u32()?),
        Kind::I32 => Value::I32(i32::from_le_bytes(stream.bytes()?)),
        Kind::U64 => Value::U64(stream.u64()?),
        Kind::I64 => Value::I64(i64::from_le_bytes(stream.bytes()?)),
        Kind::F32 => Value::F32(f32::from_le_bytes(stream.bytes()?)),
        Kind::F64 => Value::F64(f64::from_le_bytes(stream.bytes()?)),
        Kind::Bool => Value::Bool(stream.bytes::<1>()?[0] != 0),
        Kind::Text | Kind::Array => return Err(stream.fail("a text or array where a number was expected")),
    })
}

/// Reads an array: numbers are kept when they are few, texts are passed over and counted.
fn array(stream: &mut Stream<'_>, kept: &mut u64) -> Result<Array, Error> {
    let kind = kind(stream)?;
    let length = stream.u64()?;
    if length > LONGEST_ARRAY {
        let why = format!("an array of {length} values; up to 2^30 are taken for true: the file is damaged");
        return Err(stream.fail(why));
    }
    let mut values = Vec::new();
    match kind.bytes() {
        Some(bytes) if length <= KEPT_VALUES => {
            stream.expect(length * bytes)?;
            keep(stream, kept, length * size_of::<Value>() as u64)?;
            for _ in 0..length {
                values.push(number(stream, kind)?);
            }
        }
        Some(bytes) => stream.skip(length * bytes)?,
        None if kind == Kind::Array => {
            return Err(stream.fail("an array of arrays; the format has none that engines read"));
        }
        None => {
            stream.expect(length * 8)?;
            for _ in 0..length {
                let text = text_length(stream)?;
                stream.skip(text)?;
            }
        }
    }
    Ok(Array { kind, length, values })
}

/// Reads the alignment from the metadata.
fn alignment(stream: &Stream<'_>, metadata: &BTreeMap<String, Value>) -> Result<u64, Error> {
    let place = || format!("{}, key `general.alignment`", stream.file);
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(Value::U32(alignment)) if alignment.is_power_of_two() && u64::from(*alignment) <= COARSEST => {
            Ok(u64::from(*alignment))
        }
        Some(Value::U32(other)) => {
            Err(malformed(place(), format!("it is {other}, expected a power of two up to 2^20")))
        }
        Some(other) => Err(malformed(place(), format!("it is {other}, expected a power of two as u32"))),
    }
}

/// Reads the list of tensors.
fn tensors(stream: &mut Stream<'_>, part: usize, count: u64) -> Result<Vec<TensorInfo>, Error> {
    let mut tensors = Vec::new();
    let mut seen = BTreeSet::new();
    for at in 0..count {
        let after = (count - at - 1) * LEAST_TENSOR;
        stream.enter(format!("tensor {} of {count}", at + 1), after);
        let length = stream.u64()?;
        if length >= LONGEST_NAME {
            return Err(stream.fail(format!("a name of {length} bytes; llama.cpp allows 63: the file is damaged")));
        }
        let name = utf8(stream, length, "name")?;
        stream.enter(format!("tensor {} of {count} (`{}`)", at + 1, short(&name)), after);
        if !seen.insert(name.clone()) {
            return Err(stream.fail("the name stands there twice; the file is damaged"));
        }
        tensors.push(tensor(stream, name, part)?);
    }
    Ok(tensors)
}

/// Reads one tensor's entry after its name.
fn tensor(stream: &mut Stream<'_>, name: String, part: usize) -> Result<TensorInfo, Error> {
    let dimensions = stream.u32()?;
    if dimensions > 4 {
        return Err(stream.fail(format!("{dimensions} dimensions; ggml has up to 4: the file is damaged")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let side = stream.u64()?;
        if side > i64::MAX as u64 {
            return Err(stream.fail(format!("a side of {}; the file is damaged", side as i64)));
        }
        shape.push(side);
    }
    if shape.is_empty() {
        shape.push(1);
    }
    let id = stream.u32()?;
    let Some(kind) = GgmlType::from_id(id) else {
        let why = match GgmlType::removed(id) {
            Some(name) => format!(
                "tensor type {id} ({name}) was removed from GGUF; take a file in {} or quantise it again",
                if id < 31 { "q4_0" } else { &name[..name.len() - 4] }
            ),
            None => format!("tensor type {id} is unknown; the types known are 0 to 42: the file is newer, or damaged"),
        };
        return Err(stream.fail(why));
    };
    let numbers = shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side));
    if numbers.is_none_or(|numbers| numbers > i64::MAX as u64) {
        return Err(stream.fail(format!("shape {shape:?} has more numbers than any file; the file is damaged")));
    }
    if !shape[0].is_multiple_of(kind.block()) {
        let why = format!(
            "rows of {} numbers do not fill blocks of {} ({kind}); the file is damaged",
            shape[0],
            kind.block()
        );
        return Err(stream.fail(why));
    }
    let offset = stream.u64()?;
    Ok(TensorInfo { name, shape, kind, offset, part })
}

/// Checks that tensors follow one another, each aligned, and returns the bytes of all.
fn check_offsets(file: &str, tensors: &[TensorInfo], alignment: u64) -> Result<u64, Error> {
    let mut at = 0_u64;
    for tensor in tensors {
        let place = || format!("{file}, tensor `{}`", short(&tensor.name));
        if tensor.offset != at {
            let why = format!("its offset is {}, expected {at}, where the tensor before it ends", tensor.offset);
            return Err(malformed(place(), why));
        }
        let end = tensor.bytes().checked_next_multiple_of(alignment).and_then(|bytes| at.checked_add(bytes));
        at = end.filter(|end| *end <= i64::MAX as u64).ok_or_else(|| {
            malformed(place(), format!("shape {:?} of {} ends beyond any file", tensor.shape, tensor.kind))
        })?;
    }
    Ok(at)
}
