//! What does a GGUF file say? Its metadata and its list of tensors, read from the header alone, from bytes that are not
//! trusted; over all parts of a split file.
//!
//! ```
//! use plimsoll_facts::gguf::{self, GgmlType, Input};
//! // One key, one tensor of 4 rows of 64 numbers in q8_0.
//! let mut file = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
//! file.extend(b"\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama");
//! file.extend(b"\x0d\0\0\0\0\0\0\0output.weight\x02\0\0\0\x40\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x08\0\0\0");
//! file.extend([0; 8]);
//! let read = gguf::read(vec![Input { name: "tiny.gguf".into(), bytes: &mut file.as_slice(), length: None }])?;
//! assert_eq!(read.architecture()?, "llama");
//! assert_eq!(read.tensors[0].kind, GgmlType::Q8_0);
//! assert_eq!(read.tensors[0].bytes(), 4 * 64 / 32 * 34);
//! # Ok::<(), plimsoll_facts::Error>(())
//! ```

mod convert;
mod file;
mod file_type;
mod ggml;
mod header;
mod model;
mod split;
mod stream;
mod value;

pub use convert::from_model;
pub use file::{Gguf, PartInfo, TensorInfo};
pub use file_type::FileType;
pub use ggml::GgmlType;
pub use model::{is_known, model, windows};
pub use split::{Input, part_of, read};
pub use value::{Array, Kind, Value};

use crate::Error;

/// The error for bytes that are not what the format promises.
fn malformed(place: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Malformed { place: place.into(), why: why.into() }
}

/// Shortens a text from a file for an error.
fn short(text: &str) -> String {
    let mut short: String = text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        short.push_str("...");
    }
    short
}
