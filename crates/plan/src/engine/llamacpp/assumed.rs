//! Which file is planned where none is at hand? The one that the converter and the quantiser would write.

use plimsoll_facts::gguf::{FileType, Gguf, from_model};

use super::options::{Options, unsupported};
use crate::Error;
use crate::engine::Question;

/// The file type that `-hf org/name` picks where nobody says (`common/download.cpp`: Q4_K_M, else the first).
pub const DEFAULT_TYPE: FileType = FileType::Q4KM;

/// Makes the header that the converter would write for a model, in the file type asked for, and notes what was assumed.
///
/// # Errors
/// [`Error::Flag`] for a file type that is not known, [`Error::Unsupported`] when the engine has no architecture for the
/// model.
pub fn file(question: &Question<'_>, options: &mut Options) -> Result<Gguf, Error> {
    let (kind, said) = match options.file_type.as_deref() {
        Some(text) => match FileType::parse(text) {
            Some(kind) => (kind, true),
            None => {
                let expected = "a GGUF file type such as Q4_K_M, Q8_0 or F16".to_owned();
                return Err(Error::Flag {
                    flag: "file_type".to_owned(),
                    found: text.chars().take(40).collect(),
                    expected,
                });
            }
        },
        None => (DEFAULT_TYPE, false),
    };
    let made = from_model(question.model, kind).map_err(|error| unsupported(question.version, error.to_string()))?;
    let picked = if said { "as asked for" } else { "the type that -hf picks" };
    let text =
        format!("no .gguf file is at hand: {}, {picked}, as the converter and the quantiser write it", kind.name());
    options.assumptions.push(text);
    options.file_type = Some(kind.name().to_owned());
    Ok(made)
}
