//! Which model is in a repository of GGUF files? `org/name-GGUF:Q4_K_M` without a file at hand.
//!
//! Source: llama.cpp 0c1e57098, `common/download.cpp` (`-hf`: Q4_K_M where nobody says a type, else the first file).

use std::sync::Arc;

use plimsoll_facts::gguf::FileType;
use plimsoll_plan::engine::llamacpp::assumed::DEFAULT_TYPE;
use serde_json::{Map, Value};

use crate::world::Loaded;
use crate::{Desk, Error};

/// Returns the model that a name means to llama.cpp, and settles the file's type in the options.
///
/// # Errors
/// [`Error`] when no model fits the name, or the file type is a publisher's own mixture.
pub(crate) fn model(
    name: &str,
    desk: &Desk<'_>,
    options: &mut Map<String, Value>,
    assumptions: &mut Vec<String>,
) -> Result<Arc<Loaded>, Error> {
    let tag = tag(options, name);
    let (loaded, bare) = match desk.model(name) {
        Ok(loaded) => (loaded, None),
        Err(error) if !matches!(error, Error::Facts { source: plimsoll_facts::Error::NotFound { .. }, .. }) => {
            return Err(error);
        }
        Err(error) => repository(name, desk).ok_or(error).map(|(loaded, bare)| (loaded, Some(bare)))?,
    };
    if loaded.gguf.is_some() {
        return Ok(loaded);
    }
    if let Some(kind) = tag.as_deref().filter(|kind| FileType::parse(kind).is_none()) {
        let kind: String = kind.chars().take(40).collect();
        return Err(Error::Request(format!(
            "`{kind}` is no type of the quantiser's (Q4_K_M, Q8_0, …) but a mixture of its publisher's own: only the \
             file says which tensor has which type; fetch its first bytes with `curl -L -r 0-33554431 -o model.gguf \
             ADDRESS-OF-THE-FILE` and plan model.gguf"
        )));
    }
    if let Some(bare) = bare {
        let given = match name.contains(':') || tag.is_none() {
            true => name.to_owned(),
            false => format!("{name}:{}", tag.clone().unwrap_or_default()),
        };
        options.entry("hf_repo").or_insert_with(|| given.into());
        assumptions.push(format!("`{name}` holds GGUF files of {bare}, planned as {}", loaded.model.id));
    }
    match tag {
        Some(kind) => {
            options.entry("file_type").or_insert_with(|| kind.into());
        }
        None if loaded.model.model_type == "gpt_oss" => {
            let kind = FileType::Mxfp4Moe.name();
            assumptions
                .push(format!("{} is published as one file, {kind}: no other type was asked for", loaded.model.id));
            options.insert("file_type".to_owned(), kind.into());
        }
        None => {}
    }
    Ok(loaded)
}

/// Looks a repository's name up without what says that it holds GGUF files, then without its owner.
fn repository(name: &str, desk: &Desk<'_>) -> Option<(Arc<Loaded>, String)> {
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    let (owner, alone) = name.rsplit_once('/')?;
    let lower = alone.to_ascii_lowercase();
    let end = ["-gguf", "_gguf", ".gguf"].into_iter().find(|end| lower.ends_with(end)).map_or(0, str::len);
    let alone = alone.get(..alone.len() - end).filter(|alone| !alone.is_empty())?;
    // `bartowski/Qwen_Qwen3-8B-GGUF`: the owner of the original before its name.
    let tail = alone.split_once('_').map(|(_, tail)| tail.to_owned());
    let tries = [Some(format!("{owner}/{alone}")), Some(alone.to_owned()), tail];
    tries.into_iter().flatten().find_map(|bare| {
        let loaded = desk.model(&bare).ok().filter(|loaded| same(&bare, &loaded.model.id))?;
        Some((loaded, bare))
    })
}

/// Whether two names say the same but for owners and words of tuning: a name that merely shares words is not taken.
fn same(one: &str, other: &str) -> bool {
    const TUNING: [&str; 6] = ["meta", "instruct", "chat", "it", "hf", "base"];
    let plain = |name: &str| -> String {
        let lower = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let words = lower.split(|letter: char| !letter.is_ascii_alphanumeric());
        words.filter(|word| !TUNING.contains(word)).collect()
    };
    plain(one) == plain(other)
}

/// The type of the file as somebody said it: a key, a tag, the name of the file.
fn tag(options: &Map<String, Value>, name: &str) -> Option<String> {
    let text = |key: &str| options.get(key).and_then(Value::as_str);
    let behind = |text: &str| text.rsplit_once(':').map(|(_, kind)| kind.to_owned());
    let in_file = |file: &str| {
        let stem = file.strip_suffix(".gguf")?;
        let kind = stem.rsplit(['-', '.', '/']).next()?;
        FileType::parse(kind).map(|kind| kind.name().to_owned())
    };
    let tagged = text("file_type").map(str::to_owned).or_else(|| text("hf_repo").and_then(behind));
    let tagged = tagged.or_else(|| name.contains('/').then(|| behind(name)).flatten());
    tagged.or_else(|| text("hf_file").and_then(in_file))
}

/// The type of the file that is planned where none is at hand.
pub(crate) fn file_type(options: &Map<String, Value>) -> FileType {
    tag(options, "").and_then(|kind| FileType::parse(&kind)).unwrap_or(DEFAULT_TYPE)
}
