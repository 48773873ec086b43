//! Which model does a row mean, stored how? A world whose models are the folder of configurations, and variants of them that
//! a table describes.

use std::path::{Path, PathBuf};

use plimsoll_api::{Error, ModelFiles, Stream, World};
use plimsoll_kit::{Opened, open_trace};
use serde_json::{Value, json};

use super::launch::Launches;
use super::measured::Measurement;
use crate::evidence::resolve;

/// Configurations on disk, else of the built-in catalogue, with a row's precision.
pub struct Configs {
    folder: Option<PathBuf>,
    launches: Launches,
}

/// The name of a row's model in such a world.
pub fn name(row: &Measurement) -> String {
    format!("{}#{}", row.model, row.precision)
}

impl Configs {
    /// Opens a folder of configurations.
    ///
    /// # Errors
    /// When the built-in table of variants cannot be read.
    pub fn new(folder: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Configs { folder: folder.map(Path::to_path_buf), launches: Launches::new()? })
    }

    fn variant(&self, model: &str, precision: &str) -> anyhow::Result<ModelFiles> {
        let folder = self.folder.as_deref();
        let entry = self.launches.entries("variant").find(|entry| {
            let text = |key: &str| entry.get(key).and_then(toml::Value::as_str);
            text("model") == Some(model) && text("precision") == Some(precision)
        });
        let text = |key: &str| entry.and_then(|entry| entry.get(key)).and_then(toml::Value::as_str);
        let base = text("config").map_or_else(|| model.replace('/', "__"), str::to_owned);
        let mut config = resolve::config(&base, folder)?;
        let mut hf_quant = self.hf_quant(&base);
        if let Some(other) = text("layers_of") {
            let from = resolve::config(other, folder)?;
            config["quantization_config"] = everywhere(&from["quantization_config"], layers(&config));
        }
        if let Some(algorithm) = text("quant") {
            let described = json!({ "quantization": {
                "quant_algo": algorithm, "kv_cache_quant_algo": null, "group_size": 16, "exclude_modules": ["lm_head"],
            } });
            hf_quant = Some(serde_json::to_vec(&described)?);
        }
        let described = [Some(&config), config.get("text_config")]
            .into_iter()
            .flatten()
            .any(|of| of.get("quantization_config").is_some_and(|of| !of.is_null()))
            || hf_quant.is_some();
        if matches!(precision, "fp8" | "fp4" | "int4") && !described {
            anyhow::bail!("how {model} is stored in {precision} is not known: its configuration says nothing of it");
        }
        Ok(ModelFiles {
            place: format!("{base} ({precision})"),
            config: serde_json::to_vec(&config)?,
            hf_quant,
            ..ModelFiles::default()
        })
    }

    fn hf_quant(&self, folder: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.as_ref()?.join(folder).join("hf_quant_config.json")).ok()
    }
}

impl World for Configs {
    fn stream(&self, name: &str) -> Result<Stream, Error> {
        Ok(match open_trace(Path::new(name))? {
            Opened::Stream(input) => Stream::Lines(input),
            Opened::Pool(pool) => Stream::Pool(pool),
        })
    }

    fn files(&self, name: &str) -> Result<Option<ModelFiles>, Error> {
        let Some((model, precision)) = name.split_once('#') else { return Ok(None) };
        let fail = |why: anyhow::Error| Error::World { place: model.to_owned(), why: format!("{why:#}") };
        self.variant(model, precision).map(Some).map_err(fail)
    }
}

fn layers(config: &Value) -> u64 {
    let of = |config: &Value| config.get("num_hidden_layers").and_then(Value::as_u64);
    of(config).or_else(|| config.get("text_config").and_then(of)).unwrap_or(0)
}

/// A description whose list of matrices that stay as they are speaks of every layer: names that it has for one layer of a
/// smaller model of the family count for all.
fn everywhere(described: &Value, layers: u64) -> Value {
    let mut described = described.clone();
    let Some(listed) = described.get_mut("modules_to_not_convert").and_then(Value::as_array_mut) else {
        return described;
    };
    let mut names = std::collections::BTreeSet::new();
    for name in listed.iter().filter_map(Value::as_str) {
        match name.split_once(".layers.").and_then(|(before, rest)| Some((before, rest.split_once('.')?.1))) {
            Some((before, after)) => {
                names.extend((0..layers.min(1000)).map(|layer| format!("{before}.layers.{layer}.{after}")));
            }
            None => drop(names.insert(name.to_owned())),
        }
    }
    *listed = names.into_iter().map(Value::String).collect();
    described
}
