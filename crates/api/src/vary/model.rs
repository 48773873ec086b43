//! What if the model were another? Keys of its configuration changed, and the model read again.

use std::sync::Arc;

use plimsoll_facts::model::{AttentionKind, Mixer, Model};
use plimsoll_facts::{catalogue, model, quant};
use serde_json::{Map, Value as Json, json};

use super::{Knob, Setting, Value};
use crate::world::Loaded;
use crate::{Desk, Error};

/// A model's configuration as it was found.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) config: Json,
    pub(super) hf_quant: Option<Json>,
}

/// Objects of a configuration in which a language model's own keys may stand.
const NESTED: [&str; 8] = [
    "text_config",
    "llm_config",
    "language_config",
    "language_model",
    "thinker_config",
    "decoder",
    "text_model",
    "transformer_config",
];

/// Returns the configuration of a model that was loaded under a name.
pub(super) fn written(name: &str, loaded: &Loaded, desk: &Desk<'_>) -> Result<Written, Error> {
    if loaded.gguf.is_some() {
        return Err(Error::Request(format!(
            "{name} is a GGUF file: its layers, heads and widths are those of its tensors and cannot be varied; name a model \
             with a config.json"
        )));
    }
    if let Some(files) = desk.files(name)? {
        let at = |source| Error::Facts { context: format!("{}: ", files.place), source };
        let config = model::parse_json(&files.config).map_err(at)?;
        let hf_quant = files.hf_quant.as_deref().map(model::parse_json).transpose().map_err(at)?;
        return Ok(Written { config, hf_quant });
    }
    match catalogue::config(&loaded.model.id) {
        Some(config) => Ok(Written { config, hf_quant: catalogue::hf_quant(&loaded.model.id) }),
        None => Err(Error::Request(format!("the configuration of {name} is not at hand: it cannot be varied"))),
    }
}

/// Reads a model again with other layers, heads or widths.
///
/// # Errors
/// [`Error::Request`] when the model has no such key, or nothing depends on it; [`Error::Facts`] when the configuration
/// contradicts itself then.
pub(super) fn changed(
    base: &Loaded,
    written: &Written,
    settings: &[&Setting],
    notes: &mut Vec<String>,
) -> Result<Arc<Loaded>, Error> {
    let mut config = written.config.clone();
    for setting in settings {
        let Value::Number(value) = setting.value else { continue };
        turn(&mut config, base, setting.knob, value, settings, notes)?;
    }
    let what = settings.iter().map(|setting| format!("{} {}", setting.knob.name(), setting.value));
    let what = what.collect::<Vec<_>>().join(", ");
    let context = format!("{} with {what}: ", base.model.id);
    let read = model::read(&base.model.id, &config, written.hf_quant.as_ref());
    let mut model = read.map_err(|source| Error::Facts { context, source })?;
    let original = model::read(&base.model.id, &written.config, written.hf_quant.as_ref())?;
    for setting in settings {
        check(&model, setting)?;
    }
    sizes(&model, &original, settings, notes);
    model.notes.extend(base.model.notes.iter().filter(|note| note.contains("was taken as")).cloned());
    if base.checkpoint.is_some() {
        notes.push(
            "the checkpoint's own tensors do not apply to the changed model: the configuration decides".to_owned(),
        );
    }
    Ok(Arc::new(loaded(model, format!("{}, with {what}", base.source))))
}

/// Returns a model as if its checkpoint were in another format.
pub(crate) fn recast(base: &Loaded, format: &str) -> Result<Arc<Loaded>, Error> {
    let model = quant::recast(&base.model, format)?;
    Ok(Arc::new(loaded(model, format!("{}, as if stored in {format}", base.source))))
}

/// Counts a model once.
pub(crate) fn loaded(model: Model, source: String) -> Loaded {
    Loaded {
        parameters: model.parameters(),
        active_parameters: model.active_parameters(),
        model,
        source,
        checkpoint: None,
        gguf: None,
    }
}

/// The names under which configurations keep what a knob turns.
const fn keys(knob: Knob) -> &'static [&'static str] {
    match knob {
        Knob::Layers => &["num_hidden_layers", "n_layer", "n_layers", "num_layers"],
        Knob::Heads => &["num_attention_heads", "n_head", "n_heads", "num_heads"],
        Knob::KvHeads => &["num_key_value_heads", "num_kv_heads", "multi_query_group_num", "n_head_kv"],
        Knob::HeadDim => &["head_dim", "attention_head_dim", "kv_channels"],
        Knob::Dim => &["hidden_size", "n_embd", "d_model", "dim"],
        Knob::Context | Knob::Batch | Knob::Format | Knob::KvFormat | Knob::Tp | Knob::Pp | Knob::Block => &[],
    }
}

/// Changes one key, wherever it stands.
fn turn(
    config: &mut Json,
    base: &Loaded,
    knob: Knob,
    value: u64,
    settings: &[&Setting],
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    // Keys that may be absent stand beside the heads.
    let optional = matches!(knob, Knob::HeadDim | Knob::KvHeads);
    let anchor = if optional { keys(Knob::Heads) } else { keys(knob) };
    let way = holder(config, keys(knob), 4).or_else(|| holder(config, anchor, 4));
    let Some(map) = way.and_then(|way| descend(config, &way)) else { return Err(lacks(base, knob)) };
    let key = keys(knob).iter().find(|key| map.get(**key).is_some_and(Json::is_number)).unwrap_or(&keys(knob)[0]);
    let before = map.get(*key).and_then(Json::as_u64);
    map.insert((*key).to_owned(), json!(value));
    let asked = |knob| settings.iter().any(|setting| setting.knob == knob);
    if knob == Knob::Layers {
        if let Some(before) = before {
            relist(map, before, value, notes);
        }
    } else if matches!(knob, Knob::Heads | Knob::Dim) && !asked(Knob::HeadDim) {
        // One thing is to differ: the width of a head stays.
        if let (Some(width), false) = (head_dim(&base.model), keys(Knob::HeadDim).iter().any(|key| given(map, key))) {
            map.insert("head_dim".to_owned(), json!(width));
        }
    }
    if knob == Knob::Heads && !asked(Knob::KvHeads) && keys(Knob::KvHeads).iter().all(|key| !given(map, key)) {
        push(notes, "as many key/value heads as query heads, as the configuration says".to_owned());
    }
    Ok(())
}

fn given(map: &Map<String, Json>, key: &str) -> bool {
    map.get(key).is_some_and(|value| !value.is_null())
}

fn lacks(base: &Loaded, knob: Knob) -> Error {
    let keys = keys(knob).join(", ");
    Error::Request(format!(
        "the configuration of {} holds no {} that can be varied (looked for {keys})",
        base.model.id,
        knob.name()
    ))
}

/// Returns the way to the first object that holds one of the keys as a number: the root, else an inner language model.
fn holder(config: &Json, keys: &[&str], depth: usize) -> Option<Vec<&'static str>> {
    let map = config.as_object()?;
    if keys.iter().any(|key| map.get(*key).is_some_and(Json::is_number)) {
        return Some(Vec::new());
    }
    if depth == 0 {
        return None;
    }
    NESTED.into_iter().find_map(|name| {
        let mut way = holder(map.get(name)?, keys, depth - 1)?;
        way.insert(0, name);
        Some(way)
    })
}

fn descend<'c>(config: &'c mut Json, way: &[&str]) -> Option<&'c mut Map<String, Json>> {
    way.iter().try_fold(config, |at, name| at.get_mut(*name))?.as_object_mut()
}

/// Cuts or repeats the lists that hold one item per layer.
fn relist(map: &mut Map<String, Json>, before: u64, after: u64, notes: &mut Vec<String>) {
    for (key, value) in map.iter_mut() {
        let Some(items) = value.as_array_mut().filter(|items| items.len() as u64 == before && !items.is_empty()) else {
            continue;
        };
        let period = period(items);
        let pattern: Vec<Json> = items.clone();
        *items =
            (0..after as usize).map(|at| pattern[if at < pattern.len() { at } else { at % period }].clone()).collect();
        let all = if period == pattern.len() { "whole".to_owned() } else { format!("by its period of {period}") };
        push(notes, format!("{key} holds an item per layer: cut, or repeated {all}"));
    }
}

/// The smallest number of items after which a list repeats.
fn period(items: &[Json]) -> usize {
    let repeats = |period: usize| items.iter().enumerate().all(|(at, item)| *item == items[at % period]);
    (1..items.len()).find(|period| repeats(*period)).unwrap_or(items.len().max(1))
}

/// The width of a key head, where all layers agree.
fn head_dim(model: &Model) -> Option<u32> {
    let mut found = None;
    for layer in &model.layers {
        let Mixer::Attention(attention) = &layer.mixer else { continue };
        let AttentionKind::Grouped { key_dim, .. } = attention.kind else { return None };
        if found.is_some_and(|width| width != key_dim) {
            return None;
        }
        found = Some(key_dim);
    }
    found
}

/// Whether the model that was read is the one that was asked for, and another than before.
fn check(model: &Model, setting: &Setting) -> Result<(), Error> {
    let Value::Number(value) = setting.value else { return Ok(()) };
    let groups = || {
        model.layers.iter().filter_map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => match attention.kind {
                AttentionKind::Grouped { heads, kv_heads, key_dim, .. } => Some((heads, kv_heads, key_dim)),
                AttentionKind::Latent { .. } => None,
            },
            Mixer::Recurrent(_) | Mixer::None => None,
        })
    };
    let took = match setting.knob {
        Knob::Layers => model.layers.len() as u64 == value,
        Knob::Dim => model.hidden == value,
        Knob::Heads => groups().any(|(heads, ..)| u64::from(heads) == value) || groups().next().is_none(),
        Knob::KvHeads => groups().any(|(_, kv_heads, _)| u64::from(kv_heads) == value),
        Knob::HeadDim => groups().any(|(.., width)| u64::from(width) == value),
        Knob::Context | Knob::Batch | Knob::Format | Knob::KvFormat | Knob::Tp | Knob::Pp | Knob::Block => true,
    };
    if took {
        return Ok(());
    }
    Err(Error::Request(format!(
        "{} of {} cannot be {value}: its architecture ({}) sets it otherwise",
        setting.knob.name(),
        model.id,
        model.architecture
    )))
}

/// Says what stayed and what came along.
fn sizes(model: &Model, original: &Model, settings: &[&Setting], notes: &mut Vec<String>) {
    let has = |knob| settings.iter().any(|setting| setting.knob == knob);
    if has(Knob::Dim) {
        push(notes, "the inner widths of feed-forward blocks stay when dim is varied".to_owned());
    }
    if has(Knob::Heads) || has(Knob::Dim) {
        match (head_dim(original), head_dim(model)) {
            (Some(before), Some(after)) if before == after && !has(Knob::HeadDim) => {
                push(notes, format!("the width of a head stays {before}"));
            }
            (Some(_), Some(_)) if !has(Knob::HeadDim) => {
                push(notes, "the width of a head follows: dim over heads".to_owned());
            }
            _ => {}
        }
    }
}

fn push(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_per_layer_keep_their_pattern() {
        let list = |text: &str| text.chars().map(|c| json!(c.to_string())).collect::<Vec<_>>();
        for (before, after, becomes) in
            [("sssfsssf", 12, "sssfsssfsssf"), ("sssfsssf", 6, "sssfss"), ("sffff", 7, "sffffsf"), ("f", 3, "fff")]
        {
            let mut map = Map::new();
            map.insert("layer_types".to_owned(), Json::Array(list(before)));
            map.insert("other".to_owned(), json!([1, 2]));
            relist(&mut map, before.len() as u64, after, &mut Vec::new());
            assert_eq!(map["layer_types"], Json::Array(list(becomes)), "{before} {after}");
            assert_eq!(map["other"], json!([1, 2]));
        }
    }
}
