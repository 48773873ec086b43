//! How much worse does a model get in a format? What sources have published, each with its protocol; nothing where none has.

use serde_json::Value;

/// Names and compact JSON texts, made by the build script from `quality.toml`.
static QUALITY: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/qualitys.rs"));

/// What a published number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Perplexity: less is better.
    Perplexity,
    /// An average score of benchmarks: more is better.
    Score,
    /// A score in percent of the unquantised model's.
    Recovery,
}

impl Metric {
    /// Returns the name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Perplexity => "perplexity",
            Metric::Score => "score",
            Metric::Recovery => "recovery",
        }
    }
}

/// A number that a source has published about a model in a format.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// What it is.
    pub metric: Metric,
    /// The number.
    pub value: f64,
    /// Its change against the unquantised model, as published or from the same table.
    pub change: Option<f64>,
    /// How it was measured.
    pub protocol: String,
    /// Where it stands.
    pub source: String,
}

/// Returns what was published about a model in a format, by the names of the catalogue and of [`crate::quant::Format`];
/// the first is from the source that says most about the model.
///
/// ```
/// let found = plimsoll_facts::catalogue::quality("meta-llama/Meta-Llama-3-8B", "q4_k_m");
/// assert_eq!(found[0].change, Some(0.175482));
/// assert!(plimsoll_facts::catalogue::quality("meta-llama/Meta-Llama-3-8B", "nf4").is_empty());
/// ```
pub fn quality(model: &str, format: &str) -> Vec<Published> {
    let wanted = plain(model);
    let mut found = Vec::new();
    for (_, text) in QUALITY {
        let Ok(entry) = serde_json::from_str::<Value>(text) else { continue };
        let list = |key: &str| entry.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        if !list("models").iter().filter_map(Value::as_str).any(|name| plain(name) == wanted) {
            continue;
        }
        let values = list("values");
        if let Some(value) = values.iter().find(|value| value.get("format").and_then(Value::as_str) == Some(format)) {
            found.extend(published(&entry, value));
        }
    }
    found
}

/// Reads one number of an entry.
fn published(entry: &Value, value: &Value) -> Option<Published> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let metric = match entry.get("metric").and_then(Value::as_str)? {
        "perplexity" => Metric::Perplexity,
        "score" => Metric::Score,
        _ => Metric::Recovery,
    };
    let number = value.get("value").and_then(Value::as_f64)?;
    let baseline = entry.get("baseline").and_then(Value::as_f64);
    let change = value.get("change").and_then(Value::as_f64).or(baseline.map(|baseline| number - baseline));
    Some(Published { metric, value: number, change, protocol: text("protocol")?, source: text("source")? })
}

/// A name without what differs between a hub's spellings of one model.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace("/meta-", "/").trim_end_matches("-hf").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Format;

    #[test]
    fn every_entry_is_whole_and_names_formats_that_are_known() {
        for (id, text) in QUALITY {
            let entry: Value = serde_json::from_str(text).unwrap();
            let values = entry["values"].as_array().unwrap();
            assert!(!values.is_empty(), "{id}");
            for value in values {
                let format = value["format"].as_str().unwrap();
                assert_eq!(Format::parse(format).unwrap().name(), format, "{id}");
                let read = published(&entry, value).unwrap();
                assert!(read.value > 0.0 && read.change.is_some() && read.source.len() > 10, "{id}");
                assert!(read.metric == Metric::Perplexity || read.value > 20.0, "{id}");
            }
        }
    }

    #[test]
    fn spellings_of_one_model_are_one_model() {
        assert_eq!(quality("meta-llama/Llama-2-7b-hf", "q4_k_m"), quality("meta-llama/Llama-2-7b", "q4_k_m"));
        assert_eq!(quality("meta-llama/Meta-Llama-3.1-8B-Instruct", "fp8").len(), 1);
        assert!(quality("meta-llama/Llama-3.1-8B", "fp8").is_empty());
    }
}
