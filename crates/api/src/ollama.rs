//! What does Ollama call a model? A tag of its library, a Modelfile, or a file.

use std::sync::Arc;

use plimsoll_plan::engine::flag::Effect;
use plimsoll_plan::engine::ollama::{flags, modelfile, tag};
use serde_json::{Map, Value};

use crate::world::Loaded;
use crate::{Desk, Error};

/// A Modelfile as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modelfile {
    /// Where it lies, for messages.
    pub place: String,
    /// The folder against which its paths stand.
    pub folder: String,
    /// What it says.
    pub text: String,
}

/// Finds the model that a name means to Ollama; what a Modelfile or a tag says besides goes into the options, where the
/// request does not say it itself.
///
/// # Errors
/// [`Error::World`] with the line of a Modelfile that cannot be read; [`Error::Facts`] for a name that means nothing here.
pub(crate) fn model(
    name: &str,
    desk: &Desk<'_>,
    options: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Arc<Loaded>, Error> {
    options.insert("model_name".to_owned(), name.into());
    let Some(file) = desk.modelfile(name)? else { return tagged(name, desk, options, notes) };
    let wrong = |why: modelfile::Error| Error::World { place: file.place.clone(), why: why.to_string() };
    let read = modelfile::read(&file.text).map_err(wrong)?;
    let path = |text: &str| {
        let relative = !text.starts_with(['/', '~']) && (text.starts_with('.') || text.ends_with(".gguf"));
        if relative { format!("{}/{}", file.folder, text.trim_start_matches("./")) } else { text.to_owned() }
    };
    for (key, value) in read.parameters {
        let counts = flags::FLAGS.named(&key).is_some_and(|flag| flag.effect == Effect::Memory);
        if counts && !options.contains_key(&key) {
            options.insert(key, value);
        }
    }
    if !read.adapters.is_empty() && !options.contains_key("adapters") {
        let paths: Vec<String> = read.adapters.iter().map(|adapter| path(adapter)).collect();
        options.insert("adapters".to_owned(), paths.into());
    }
    notes.push(format!("{} says FROM {}", file.place, read.from.chars().take(120).collect::<String>()));
    tagged(&path(&read.from), desk, options, notes)
}

/// Finds a file, a built-in name, or a tag of the library.
fn tagged(
    name: &str,
    desk: &Desk<'_>,
    options: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Arc<Loaded>, Error> {
    let found = desk.model(name);
    let tag = tag::read(name).filter(|_| !matches!(&found, Ok(loaded) if loaded.gguf.is_some()));
    let Some(tag) = tag else { return found };
    let mut loaded = found;
    for words in &tag.names {
        if loaded.is_ok() {
            break;
        }
        if let Ok(other) = desk.model(words) {
            notes.push(format!("the tag `{name}` is taken as {}", other.model.id));
            loaded = Ok(other);
        }
    }
    let loaded = loaded.map_err(|error| unknown(name, error))?;
    let usual = plimsoll_facts::gguf::FileType::Q4KM;
    if (tag.said || tag.file_type != usual) && !options.contains_key("file_type") {
        options.insert("file_type".to_owned(), tag.file_type.name().into());
    }
    Ok(loaded)
}

/// Says what to give for a tag that no built-in model fits.
fn unknown(name: &str, error: Error) -> Error {
    let Error::Facts { source: source @ plimsoll_facts::Error::NotFound { .. }, .. } = error else { return error };
    let context =
        format!("the tag `{name}` fits no built-in model; give its .gguf file, a Modelfile or a config.json: ");
    Error::Facts { context, source }
}
