//! What is built in? Models and GPUs as facts with their sources, found by forgiving names.
//!
//! ```
//! use plimsoll_facts::catalogue;
//! assert_eq!(catalogue::gpu("h100-sxm")?.name, "H100 SXM5 80GB");
//! # Ok::<(), plimsoll_facts::Error>(())
//! ```

mod entry;
mod name;
mod quality;

use serde_json::Value;

pub use entry::compact;
pub use name::Match;
pub use quality::{Metric, Published, quality};

use crate::gpu::Gpu;
use crate::model::Model;
use crate::{Error, gpu, model};

/// Names and compact JSON texts, made by the build script from `models.toml`.
static MODELS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/models.rs"));
/// Names and compact JSON texts, made by the build script from `gpus.toml`.
static GPUS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/gpus.rs"));

/// Finds a GPU by name: catalogue name, alias, or any words that fit one entry.
///
/// # Errors
/// [`Error::NotFound`] lists what came close.
pub fn gpu(name: &str) -> Result<Gpu, Error> {
    let all: Vec<Gpu> = gpus().collect();
    if let Some(found) = all.iter().find(|gpu| gpu.is_called(name)) {
        return Ok(found.clone());
    }
    let names: Vec<&str> = all.iter().map(|gpu| gpu.name.as_str()).collect();
    match name::find(name, &names) {
        Match::One(at) => Ok(all[at].clone()),
        Match::Several(at) => Err(not_found("GPU", name, "it fits several: ", &at, &names)),
        Match::None(near) => Err(not_found("GPU", name, "close: ", &near, &names)),
    }
}

/// Iterates over the built-in GPUs.
pub fn gpus() -> impl Iterator<Item = Gpu> {
    GPUS.iter().filter_map(|(_, text)| serde_json::from_str(text).ok().and_then(|value: Value| gpu::read(&value)))
}

/// Iterates over the names of the built-in models.
pub fn model_ids() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(id, _)| *id)
}

/// Names that fit several entries and that their makers gave to one.
///
/// Source: Mistral 7B's paper (arXiv 2310.06825) and its release of September 2023 are v0.1, the others followed.
const FIRST: [(&str, &str); 1] = [("mistral-7b", "mistralai/Mistral-7B-v0.1")];

/// A built-in model: the model and where its facts come from.
#[derive(Clone, Debug)]
pub struct Known {
    /// The model, read like any other.
    pub model: Model,
    /// Where its hyper-parameters come from.
    pub source: String,
}

/// Finds a model by name: `org/name`, `name`, or words that fit one entry (`llama-3.1-8b`). Entries that differ in
/// nothing that matters to memory (a base model and its tuned sister) count as one.
///
/// # Errors
/// [`Error::NotFound`] lists what came close, or what it could mean.
pub fn model(name: &str) -> Result<Known, Error> {
    let ids: Vec<&str> = model_ids().collect();
    if let Some(at) = ids.iter().position(|id| id.eq_ignore_ascii_case(name)) {
        return load(at);
    }
    let plain = name.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    let first = FIRST.iter().find(|(known, _)| *known == plain || plain == format!("mistralai/{known}"));
    if let Some(at) = first.and_then(|(_, id)| ids.iter().position(|known| known == id)) {
        let mut known = named(name, at, &ids, &[])?;
        known.model.notes.push(format!("later releases of `{name}` have their version in their names"));
        return Ok(known);
    }
    match name::find(name, &ids) {
        Match::One(at) => named(name, at, &ids, &[]),
        Match::Several(at) => {
            let first = load(at[0])?;
            let alike = at[1..].iter().all(|other| {
                load(*other).is_ok_and(|other| {
                    other.model.tensors == first.model.tensors
                        && other.model.layers == first.model.layers
                        && other.model.max_positions == first.model.max_positions
                })
            });
            if alike {
                named(name, at[0], &ids, &at[1..])
            } else {
                Err(not_found("model", name, "it fits several: ", &at, &ids))
            }
        }
        Match::None(near) => Err(not_found("model", name, "close: ", &near, &ids)),
    }
}

/// Returns the facts of a built-in model in the keys of its `config.json`, by its exact name; `None` when it is not
/// built in. What the reader does not look at is not there.
pub fn config(id: &str) -> Option<Value> {
    let (_, text) = MODELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(id))?;
    let value: Value = serde_json::from_str(text).ok()?;
    Some(entry::expand(value.get("config").cloned().unwrap_or_default()))
}

/// Returns what the `hf_quant_config.json` of a built-in model says, by its exact name; `None` where it has none.
pub fn hf_quant(id: &str) -> Option<Value> {
    let (_, text) = MODELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(id))?;
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("hf_quant").cloned().map(entry::expand)
}

/// Loads an entry that was found by a name that is not its own, and says so.
fn named(name: &str, at: usize, ids: &[&str], alike: &[usize]) -> Result<Known, Error> {
    let mut known = load(at)?;
    let mut note = format!("`{name}` was taken as {}", ids[at]);
    if !alike.is_empty() {
        let others: Vec<&str> = alike.iter().map(|other| ids[*other]).collect();
        note.push_str(&format!(" (same shape: {})", others.join(", ")));
    }
    known.model.notes.push(note);
    Ok(known)
}

/// Reads one built-in entry.
fn load(at: usize) -> Result<Known, Error> {
    let (id, text) = MODELS[at];
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Error::Malformed { place: format!("catalogue entry {id}"), why: error.to_string() })?;
    let config = entry::expand(value.get("config").cloned().unwrap_or_default());
    let hf_quant = value.get("hf_quant").cloned().map(entry::expand);
    let model = model::read(id, &config, hf_quant.as_ref())?;
    let source = value.get("source").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Known { model, source })
}

/// The error for a name that fits none or several, with at most eight candidates.
fn not_found(kind: &'static str, name: &str, lead: &str, at: &[usize], names: &[&str]) -> Error {
    let mut listed: Vec<&str> = at.iter().take(8).map(|at| names[*at]).collect();
    if at.len() > 8 {
        listed.push("…");
    }
    let candidates = if listed.is_empty() { String::new() } else { format!("; {lead}{}", listed.join(", ")) };
    Error::NotFound { kind, name: name.to_owned(), candidates }
}
