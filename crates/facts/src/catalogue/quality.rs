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
    /// Where it stands: title, and table or section.
    pub source: String,
    /// The source's address.
    pub address: String,
}

/// Returns what was published about a model in a format, by the names of the catalogue and of [`crate::quant::Format`];
/// the first is from the source that says most about the model.
///
/// ```
/// let found = plimsoll_facts::catalogue::quality("meta-llama/Meta-Llama-3-8B", "q4_k_m");
/// assert_eq!(found[0].change, Some(0.175482));
/// assert!(plimsoll_facts::catalogue::quality("meta-llama/Meta-Llama-3-8B", "mxfp4").is_empty());
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
        "recovery" => Metric::Recovery,
        _ => return None,
    };
    let number = value.get("value").and_then(Value::as_f64)?;
    let baseline = entry.get("baseline").and_then(Value::as_f64);
    let change = value.get("change").and_then(Value::as_f64).or(baseline.map(|baseline| number - baseline));
    let (protocol, source, address) = (text("protocol")?, text("source")?, text("address")?);
    Some(Published { metric, value: number, change, protocol, source, address })
}

/// A name without what differs between a hub's spellings of one model.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace("/meta-", "/").trim_end_matches("-hf").to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::quant::Format;

    /// Each entry's name, itself and its values.
    fn entries() -> Vec<(&'static str, Value, Vec<Value>)> {
        let read = |(id, text): &(&'static str, &str)| {
            let entry: Value = serde_json::from_str(text).unwrap();
            let values = entry["values"].as_array().unwrap().clone();
            (*id, entry, values)
        };
        QUALITY.iter().map(read).collect()
    }

    /// The number in the last parentheses of a protocol: what a change is against.
    fn told(protocol: &str) -> Option<f64> {
        protocol.rsplit_once('(')?.1.strip_suffix(')')?.parse().ok()
    }

    #[test]
    fn every_entry_is_whole_and_names_formats_that_are_known() {
        let mut ids = BTreeSet::new();
        for (id, entry, values) in entries() {
            assert!(ids.insert(id), "{id} is there twice");
            let known = ["id", "models", "metric", "protocol", "source", "address", "baseline", "values"];
            assert!(entry.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{id}");
            let models = entry["models"].as_array().unwrap();
            assert!(!models.is_empty() && models.iter().all(|name| name.as_str().unwrap().contains('/')), "{id}");
            assert!(!values.is_empty(), "{id}");
            let mut formats = BTreeSet::new();
            for value in &values {
                let format = value["format"].as_str().unwrap();
                assert_eq!(Format::parse(format).unwrap().name(), format, "{id}");
                assert!(formats.insert(format), "{id} has {format} twice");
                let read = published(&entry, value).unwrap_or_else(|| panic!("{id}: {value}"));
                let sane = match read.metric {
                    Metric::Perplexity => 1.0..1000.0,
                    Metric::Score => 20.0..100.0,
                    Metric::Recovery => 50.0..110.0,
                };
                assert!(sane.contains(&read.value), "{id}: {value}");
            }
        }
        assert!(ids.len() > 80, "{}", ids.len());
    }

    #[test]
    fn every_source_has_a_title_an_address_and_a_protocol() {
        for (id, entry, values) in entries() {
            let read = published(&entry, &values[0]).unwrap();
            assert!(read.source.len() > 10 && !read.source.contains("://"), "{id}: {}", read.source);
            assert!(read.address.starts_with("https://") && !read.address.contains(' '), "{id}: {}", read.address);
            assert!(
                read.protocol.contains("change against") || read.metric == Metric::Recovery,
                "{id}: {}",
                read.protocol
            );
        }
    }

    #[test]
    fn every_change_is_against_one_baseline_of_the_same_source() {
        for (id, entry, values) in entries() {
            let baseline = entry.get("baseline").and_then(Value::as_f64);
            let read: Vec<Published> = values.iter().map(|value| published(&entry, value).unwrap()).collect();
            match baseline {
                Some(baseline) => {
                    assert!(values.iter().all(|value| value.get("change").is_none()), "{id} says its changes twice");
                    let said = if read[0].metric == Metric::Recovery { Some(100.0) } else { told(&read[0].protocol) };
                    assert_eq!(said, Some(baseline), "{id}: {}", read[0].protocol);
                    for one in &read {
                        assert_eq!(one.change, Some(one.value - baseline), "{id}");
                    }
                }
                // Published changes differ from one baseline by rounding alone.
                None => {
                    let against: Vec<f64> = read.iter().map(|one| one.value - one.change.unwrap()).collect();
                    let near = |one: &f64| (one - against[0]).abs() <= 1e-4 * against[0];
                    assert!(against.iter().all(near), "{id}: {against:?}");
                }
            }
            for (value, one) in values.iter().zip(&read) {
                if matches!(value["format"].as_str(), Some("fp16" | "bf16")) {
                    assert_eq!(one.change, Some(0.0), "{id}");
                }
            }
        }
    }

    #[test]
    fn the_first_source_of_a_model_and_format() {
        let cases = [
            ("meta-llama/Meta-Llama-3-8B", "iq2_xxs", Metric::Perplexity, 14.091782, 7.860148, "ggml-org/llama.cpp"),
            ("meta-llama/Meta-Llama-3-8B", "int8", Metric::Perplexity, 6.258, 0.12, "mit-han-lab/smoothquant"),
            ("meta-llama/Meta-Llama-3-8B", "nf4", Metric::Score, 62.5, -2.3, "An Empirical Study of LLaMA3"),
            ("meta-llama/Llama-2-7b-hf", "gptq-4bit", Metric::Perplexity, 5.69, 0.22, "AWQ: Activation-aware"),
            ("meta-llama/Llama-2-7b-hf", "bnb-int8", Metric::Perplexity, 5.22, 0.04, "Half-Quadratic"),
            ("meta-llama/Llama-3.1-8B-Instruct", "fp8", Metric::Score, 73.44, -0.35, "model card of neuralmagic"),
            ("mistralai/Mistral-7B-v0.1", "q4_k_m", Metric::Perplexity, 5.7539, 0.0615, "ggml-org/llama.cpp"),
            ("facebook/opt-125m", "gptq-4bit-channel", Metric::Perplexity, 31.12, 3.47, "GPTQ: Accurate"),
            ("Qwen/Qwen2-72B-Instruct", "gptq-8bit", Metric::Score, 80.7, -0.6, "Qwen documentation"),
            ("deepseek-ai/DeepSeek-R1", "q4_k_m", Metric::Score, 82.7, -0.78, "Quantitative Analysis"),
            ("deepseek-ai/DeepSeek-R1", "nvfp4", Metric::Score, 90.7, -0.1, "model card of nvidia"),
            ("Qwen/Qwen3-8B", "nvfp4", Metric::Score, 64.01, -1.44, "intel/auto-round"),
        ];
        for (model, format, metric, value, change, source) in cases {
            let found = quality(model, format);
            let first = found.first().unwrap_or_else(|| panic!("{model} {format}"));
            assert_eq!(first.metric, metric, "{model} {format}");
            assert!((first.value - value).abs() < 1e-9, "{model} {format}: {first:?}");
            assert!((first.change.unwrap() - change).abs() < 1e-9, "{model} {format}: {first:?}");
            assert!(first.source.starts_with(source), "{model} {format}: {first:?}");
        }
    }

    #[test]
    fn spellings_of_one_model_are_one_model() {
        assert_eq!(quality("meta-llama/Llama-2-7b-hf", "q4_k_m"), quality("meta-llama/Llama-2-7b", "q4_k_m"));
        assert_eq!(
            quality("meta-llama/Meta-Llama-3.1-8B-Instruct", "fp8"),
            quality("meta-llama/Llama-3.1-8B-Instruct", "fp8")
        );
        assert_eq!(quality("meta-llama/Llama-3.1-8B-Instruct", "fp8").len(), 1);
        assert!(quality("meta-llama/Llama-3.1-8B", "fp8").is_empty());
    }
}
