//! Which engine options does a request set? Its keys checked against the engine's own names and laid over the command's.

use plimsoll_plan::Error as PlanError;
use plimsoll_plan::engine::flag::{Effect, Flag, Flags, Sense};
use plimsoll_plan::engine::{llamacpp, ollama, sglang, transformers, trtllm, vllm};
use serde_json::{Map, Value};

use crate::Error;

/// Keys that are understood and are no flags.
const PLAIN: [&str; 2] = ["env", "model"];

/// Lays a request's options over those of its command, and those that cannot change memory over `inert`; returns what a
/// reader should know.
///
/// # Errors
/// [`PlanError::UnknownFlag`] for a key that the engine does not have.
pub(crate) fn overlay(
    engine: &'static str,
    options: &mut Map<String, Value>,
    inert: &mut Map<String, Value>,
    asked: &Map<String, Value>,
) -> Result<Vec<String>, Error> {
    let mut idle = Vec::new();
    for (key, value) in asked {
        let plain = key.trim_start_matches('-').replace('-', "_");
        if PLAIN.contains(&plain.as_str()) {
            options.insert(plain, value.clone());
            continue;
        }
        let (flags, known) = match engine {
            trtllm::NAME => trtllm(key, &plain)?,
            sglang::NAME => plainly(&sglang::flags::FLAGS, &sglang::KEYS, key, &plain)?,
            llamacpp::NAME => plainly(&llamacpp::flags::FLAGS, &llamacpp::KEYS, key, &plain)?,
            ollama::NAME => plainly(&ollama::flags::FLAGS, &ollama::KEYS, key, &plain)?,
            transformers::NAME => plainly(&transformers::flags::FLAGS, &transformers::KEYS, key, &plain)?,
            _ => plainly(&vllm::flags::FLAGS, vllm::options::KEYS, key, &plain)?,
        };
        match known {
            Known::Idle(name) => {
                idle.push(flags.spell(name));
                inert.insert(name.to_owned(), value.clone());
            }
            Known::Flag(name, Sense::Negated) if value.is_boolean() => {
                options.insert(name.to_owned(), Value::from(value == &Value::Bool(false)));
            }
            Known::Flag(name, _) => {
                if engine == trtllm::NAME {
                    let meant = trtllm::canonical(name);
                    options.retain(|other, _| meant.is_none() || trtllm::canonical(other) != meant);
                }
                options.insert(name.to_owned(), value.clone());
            }
        }
    }
    if idle.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![format!("{}: {}", crate::launch::IDLE, idle.join(", "))])
}

/// What a key is.
enum Known<'k> {
    /// A flag that can change memory, by its canonical name.
    Flag(&'k str, Sense),
    /// One that cannot.
    Idle(&'k str),
}

/// Finds a key among an engine's flags and the keys that are no flags.
fn plainly<'k>(
    flags: &'static Flags,
    keys: &[&str],
    key: &str,
    plain: &'k str,
) -> Result<(&'static Flags, Known<'k>), Error> {
    let known = if let Some(found) = flags.find(&format!("--{plain}")).or_else(|| flags.find(&format!("-{plain}"))) {
        sorted(found)
    } else if keys.contains(&plain) {
        Known::Flag(plain, Sense::Plain)
    } else {
        let suggestion = flags.suggest(&format!("--{plain}"));
        return Err(unknown(flags.engine, key, suggestion));
    };
    Ok((flags, known))
}

/// Finds a key among TensorRT-LLM's flags and options, nested ones (`kv_cache_config.dtype`) included.
fn trtllm<'k>(key: &str, plain: &'k str) -> Result<(&'static Flags, Known<'k>), Error> {
    let tables = [&trtllm::flags::SERVE, &trtllm::flags::BUILD, &trtllm::flags::RUNTIME];
    let written = format!("--{plain}");
    let known = if trtllm::canonical(plain).is_some() {
        Known::Flag(plain, Sense::Plain)
    } else if let Some(found) = tables.iter().find_map(|table| table.find(&written)) {
        sorted(found)
    } else if trtllm::INERT_KEYS.contains(&plain) {
        Known::Idle(plain)
    } else if trtllm::is_known(plain) {
        Known::Flag(plain, Sense::Plain)
    } else {
        let suggestion = tables.iter().find_map(|table| table.suggest(&written));
        return Err(unknown(trtllm::NAME, key, suggestion));
    };
    Ok((tables[0], known))
}

/// Sorts a flag by whether it can change memory.
fn sorted(found: (&'static Flag, Sense)) -> Known<'static> {
    match found.0.effect {
        Effect::Memory => Known::Flag(found.0.name, found.1),
        Effect::Nothing => Known::Idle(found.0.name),
    }
}

fn unknown(engine: &'static str, key: &str, suggestion: Option<String>) -> Error {
    let flag = key.chars().take(60).collect();
    let suggestion = suggestion.map(|flag| format!("; did you mean {flag}?")).unwrap_or_default();
    PlanError::UnknownFlag { engine, flag, suggestion }.into()
}
