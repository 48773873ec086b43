//! Which model and which card does a row mean? Names become configs, with a word on every liberty taken.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use plimsoll_facts::catalogue;
use plimsoll_facts::model::{self, Model};
use plimsoll_plan::Card;
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Value, json};

use super::row::Row;

/// Configs that stand in for others; see its head.
const STANDINS: &str = include_str!("models.toml");

/// A model and what was assumed to get it.
pub struct Known {
    /// The model.
    pub model: Model,
    /// How it was found, where not by its own name.
    pub note: Option<String>,
}

/// Finds the model of a row.
///
/// # Errors
/// Says why the model cannot be known.
pub fn find(row: &Row, models: Option<&Path>) -> Result<Known> {
    let (name, note) = (row.text("model"), row.text("model_note"));
    if name.is_empty() && note.is_empty() {
        bail!("the row names no model");
    }
    let table: toml::Table = STANDINS.parse()?;
    let listed = table.get("model").and_then(toml::Value::as_array).into_iter().flatten();
    for entry in listed.filter_map(toml::Value::as_table) {
        let text = |key: &str| entry.get(key).and_then(toml::Value::as_str).unwrap_or_default();
        let by_name = !name.is_empty() && text("name") == name;
        let by_note = name.is_empty() && !text("note").is_empty() && note.contains(text("note"));
        if by_name || by_note {
            return standin(name, entry, models);
        }
    }
    if name.is_empty() {
        bail!("the row names no model ({note})");
    }
    let quantised = row.text("quantization").to_ascii_lowercase();
    let Ok(mut config) = config(&name.replace('/', "__"), models) else {
        bail!("no config of {name}, and no stand-in of its architecture is listed");
    };
    let mut note = None;
    if config.get("quantization_config").is_none() {
        match quantised.as_str() {
            "" => {}
            "fp8" => {
                config["quantization_config"] = online_fp8();
                note = Some("--quantization fp8: 16-bit checkpoint quantised at load".to_owned());
            }
            other => bail!("{name} is quantised ({other}) and its description is not known"),
        }
    }
    read(name, &config, note)
}

/// Finds a model by a name that another row gave it.
///
/// # Errors
/// As [`find`].
pub fn named(name: &str, models: Option<&Path>) -> Result<Known> {
    let mut known = find(&Row::new(0, json!({ "model": name })), models)?;
    known.note = Some(format!("the log's sizes are {name}'s"));
    Ok(known)
}

fn online_fp8() -> Value {
    json!({ "quant_method": "fp8", "activation_scheme": "dynamic", "ignored_layers": ["lm_head"] })
}

/// Builds a stand-in.
fn standin(name: &str, entry: &toml::Table, models: Option<&Path>) -> Result<Known> {
    let text = |key: &str| entry.get(key).and_then(toml::Value::as_str);
    let base = text("base").context("a stand-in without base")?;
    let mut config = config(base, models)?;
    for (key, value) in entry.get("set").and_then(toml::Value::as_table).into_iter().flatten() {
        let value: Value = serde_json::to_value(value)?;
        let mut place = &mut config;
        for part in key.split('.') {
            place = &mut place[part];
        }
        *place = value;
    }
    if let Some(other) = text("quant_of") {
        config["quantization_config"] = self::config(other, models)?["quantization_config"].clone();
    }
    if let Some(kind) = text("quant") {
        match described(kind)? {
            Some(value) => config["quantization_config"] = value,
            None => {
                config.as_object_mut().context("a config that is no object")?.remove("quantization_config");
            }
        }
    }
    let liberties = if entry.contains_key("set") { " with published sizes" } else { "" };
    read(name, &config, Some(format!("read as {}{liberties}", base.replace("__", "/"))))
}

/// Descriptions of quantisation as their publishers write them.
fn described(kind: &str) -> Result<Option<Value>> {
    let group = |bits: u32, kind: &str, strategy: &str, dynamic: bool| {
        let weights =
            json!({ "num_bits": bits, "type": kind, "strategy": "channel", "symmetric": true, "dynamic": false });
        let inputs =
            json!({ "num_bits": bits, "type": kind, "strategy": strategy, "symmetric": true, "dynamic": dynamic });
        json!({ "group_0": { "targets": ["Linear"], "weights": weights, "input_activations": inputs } })
    };
    let packed = |format: &str, groups: Value, ignore: Value| {
        Some(json!({
            "quant_method": "compressed-tensors", "format": format, "config_groups": groups, "ignore": ignore,
        }))
    };
    Ok(match kind {
        "none" => None,
        "w8a8" => packed("int-quantized", group(8, "int", "token", true), json!(["lm_head"])),
        "w8a8-towers" => packed(
            "int-quantized",
            group(8, "int", "token", true),
            json!(["lm_head", "re:.*lm_head", "re:.*vision_tower.*", "re:.*multi_modal_projector.*"]),
        ),
        "fp8-dynamic" => packed("float-quantized", group(8, "float", "token", true), json!(["lm_head"])),
        "gptq-4-128" => Some(json!({
            "quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true, "sym": true, "lm_head": false,
        })),
        "awq-4-128" => Some(json!({
            "quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "gemm",
            "modules_to_not_convert": null,
        })),
        other => bail!("no description of {other}"),
    })
}

/// Reads a config, from the folder where one is given and has it, else the facts of the built-in catalogue.
pub(super) fn config(folder: &str, models: Option<&Path>) -> Result<Value> {
    if let Some(path) = models.map(|root| root.join(folder).join("config.json")).filter(|path| path.is_file()) {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        return Ok(model::parse_json(&bytes)?);
    }
    let id = folder.replacen("__", "/", 1);
    catalogue::config(&id).with_context(|| format!("no config of {id}, in no folder and in no catalogue"))
}

fn read(name: &str, config: &Value, note: Option<String>) -> Result<Known> {
    let model = model::read(name, config, None)?;
    Ok(Known { model, note })
}

/// Finds the card of a row; the total that the row logs counts first.
///
/// # Errors
/// Says what is missing.
pub fn card(row: &Row) -> Result<Card> {
    let name = row.text("gpu");
    if name.contains(" + ") {
        bail!("cards of two kinds ({name})");
    }
    let found = gpu(name);
    let total = match (row.number("total_gpu_memory_gib"), &found) {
        (Some(total), _) => Estimate::exact(Bytes::gib(total), Source::Given),
        (None, Some(gpu)) => gpu.total().with_context(|| format!("the memory of {name} is not known"))?,
        (None, None) if name.is_empty() => bail!("neither the card nor its memory is stated"),
        (None, None) => bail!("{name} is in no catalogue and its memory is not stated"),
    };
    Ok(Card {
        name: found.as_ref().map_or_else(|| name.to_owned(), |gpu| gpu.name.clone()),
        total,
        compute_capability: found.as_ref().and_then(|gpu| gpu.compute_capability),
        sm_count: found.as_ref().and_then(|gpu| gpu.sm_count),
        unified: found.as_ref().is_some_and(|gpu| gpu.unified),
        count: u32::try_from(row.count("gpu_count").unwrap_or(1)).unwrap_or(1),
    })
}

/// A card for rows that state none, where only what follows from weights and budget is compared.
pub fn any_card(row: &Row) -> Card {
    Card {
        name: String::new(),
        total: Estimate::exact(Bytes::gib(280.0), Source::Assumed("the row states no card".into())),
        compute_capability: None,
        sm_count: None,
        unified: false,
        count: u32::try_from(row.count("gpu_count").unwrap_or(8)).unwrap_or(8),
    }
}

/// Looks a card up by ever fewer of its words, since logs add `HBM3`, `class` and sizes.
fn gpu(name: &str) -> Option<plimsoll_facts::gpu::Gpu> {
    let plain = name.split(['(', ',']).next().unwrap_or_default().replace("class", "");
    let words: Vec<&str> = plain.split_whitespace().collect();
    let found = (1..=words.len()).rev().find_map(|take| catalogue::gpu(&words[..take].join(" ")).ok())?;
    let differs = ["Ti", "Laptop", "Max-Q"].iter().any(|mark| words.contains(mark) && !found.name.contains(mark));
    (!differs).then_some(found)
}
