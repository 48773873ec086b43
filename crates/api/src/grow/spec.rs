//! What does a bare specification mean? A Llama-like decoder with these sizes, and what the textbook's closed form says of
//! the same ones.
//!
//! What is not given is what Llama has: as many key/value heads as heads, a gated feed-forward block of ⌈8·dim ÷ 3⌉ rounded
//! up to 256, a vocabulary of 32 000 with an output projection of its own, bf16. `layers=32,dim=4096,heads=32,head-dim=128`
//! is Llama-2-7B to the byte.

use std::sync::Arc;

use plimsoll_facts::model;
use plimsoll_plan::generic;
use serde_json::{Value, json};

use crate::vary::loaded;
use crate::world::Loaded;
use crate::{Desk, Error};

/// The longest sequence of a model that has no limit of its own.
pub(super) const POSITIONS: u64 = 1 << 20;

/// The sizes of a bare decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// As it was written.
    pub(super) text: String,
    pub(super) kv_bytes: Option<u64>,
    config: Value,
    /// The same sizes as the textbook takes them.
    classic: String,
    pub(super) assumptions: Vec<String>,
}

/// Sizes by their names, zero where they were not given.
#[derive(Default)]
struct Sizes {
    layers: u64,
    dim: u64,
    heads: u64,
    head_dim: u64,
    kv_heads: u64,
    inner: u64,
    vocab: u64,
    bytes: u64,
    kv_bytes: u64,
    tied: bool,
    factor: Option<f64>,
}

const NAMES: &str = "layers, dim, heads, head-dim, kv-heads, inner, vocab, tied, bytes, kv-bytes, mlp-factor, mlp-matrices or \
    activation-factor before the equals sign";

impl Spec {
    /// Reads `layers=32,dim=4096,heads=32,head-dim=128` and what may follow.
    ///
    /// # Errors
    /// [`Error::Request`] names the piece and what is understood.
    pub(super) fn parse(text: &str) -> Result<Spec, Error> {
        let refuse = |piece: &str, expected: &str| {
            let piece: String = piece.chars().take(60).collect();
            Error::Request(format!("--spec is {piece}, expected {expected}"))
        };
        if text.len() > 4096 {
            return Err(refuse(text, "a specification of at most 4096 characters"));
        }
        let mut sizes = Sizes::default();
        let mut classic: Vec<String> = Vec::new();
        for piece in text.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
            let Some((key, value)) = piece.split_once('=') else { return Err(refuse(piece, "NAME=VALUE")) };
            let (key, value) = (key.trim().to_ascii_lowercase().replace('_', "-"), value.trim());
            let whole = || match value.replace('_', "").parse::<u64>() {
                Ok(number) if (1..=1 << 30).contains(&number) => Ok(number),
                Ok(_) | Err(_) => Err(refuse(piece, "a whole number from 1 to 2^30")),
            };
            match key.as_str() {
                "layers" => sizes.layers = whole()?,
                "dim" => sizes.dim = whole()?,
                "heads" => sizes.heads = whole()?,
                "head-dim" => sizes.head_dim = whole()?,
                "kv-heads" => sizes.kv_heads = whole()?,
                "inner" => sizes.inner = whole()?,
                "vocab" | "vocabulary" => sizes.vocab = whole()?,
                "bytes" => sizes.bytes = whole()?,
                "kv-bytes" => sizes.kv_bytes = whole()?,
                "mlp-factor" => {
                    sizes.factor = Some(factor(value).ok_or_else(|| refuse(piece, "a fraction such as 4/3"))?)
                }
                "tied" => {
                    sizes.tied = match value {
                        "true" | "1" | "yes" => true,
                        "false" | "0" | "no" => false,
                        _ => return Err(refuse(piece, "true or false")),
                    };
                }
                "mlp-matrices" | "activation-factor" => {}
                _ => return Err(refuse(piece, NAMES)),
            }
            if !matches!(key.as_str(), "kv-heads" | "inner" | "tied") {
                classic.push(format!("{key}={value}"));
            }
        }
        let classic = classic.join(",");
        let checked: generic::Spec = classic.parse()?;
        sizes.built(text, classic, &checked)
    }

    /// Puts the model on the desk, under the name that is returned.
    ///
    /// # Errors
    /// [`Error::Facts`] for sizes that no model has.
    pub(super) fn load(&self, desk: &Desk<'_>) -> Result<(String, Arc<Loaded>), Error> {
        let context = "--spec: ".to_owned();
        let read = model::read(&self.text, &self.config, None).map_err(|source| Error::Facts { context, source })?;
        let loaded = Arc::new(loaded(read, "given".to_owned()));
        desk.put(&self.text, Arc::clone(&loaded));
        Ok((self.text.clone(), loaded))
    }

    /// Returns the configuration that the specification stands for.
    pub(super) fn config(&self) -> &Value {
        &self.config
    }

    /// Returns the textbook's form of the same sizes.
    pub(super) fn textbook(&self) -> &str {
        &self.classic
    }
}

impl Sizes {
    /// Fills in what was not given, and says so.
    fn built(self, text: &str, classic: String, checked: &generic::Spec) -> Result<Spec, Error> {
        let mut assumptions = Vec::new();
        let kv_heads = if self.kv_heads > 0 { self.kv_heads } else { self.heads };
        if self.kv_heads == 0 {
            assumptions.push(format!("as many key/value heads as heads, {kv_heads}; kv-heads says otherwise"));
        }
        let inner = match (self.inner, self.factor) {
            (0, Some(factor)) => (self.dim as f64 * factor).floor().max(1.0) as u64,
            (0, None) => {
                let inner = (self.dim * 8 / 3).next_multiple_of(256);
                assumptions.push(format!(
                    "a gated feed-forward block of {inner}, 8/3 of dim rounded up to 256 as Llama has it (meta-llama/llama, \
                     llama/model.py, FeedForward); inner says otherwise"
                ));
                inner
            }
            (inner, _) => inner,
        };
        if self.vocab == 0 {
            assumptions.push(format!("a vocabulary of {}; vocab says otherwise", checked.vocabulary));
        }
        if !self.tied {
            assumptions.push("an output projection beside the embedding; tied=true says otherwise".to_owned());
        }
        let dtype = match self.bytes {
            0 | 2 => "bfloat16",
            4 => "float32",
            other => {
                return Err(Error::Request(format!(
                    "--spec is bytes={other}, expected 2 (bf16) or 4 (fp32); other formats have layouts of their own: \
                     vary format, such as fp8 or gptq-4bit"
                )));
            }
        };
        if self.bytes == 0 {
            assumptions.push("weights in bf16; bytes or format says otherwise".to_owned());
        }
        let config = json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": dtype,
            "hidden_size": self.dim, "intermediate_size": inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": kv_heads, "head_dim": self.head_dim,
            "vocab_size": checked.vocabulary, "max_position_embeddings": POSITIONS, "tie_word_embeddings": self.tied,
        });
        let kv_bytes = (self.kv_bytes > 0).then_some(self.kv_bytes);
        Ok(Spec { text: text.to_owned(), kv_bytes, config, classic, assumptions })
    }
}

/// Reads `4/3` or `2.6875`.
fn factor(text: &str) -> Option<f64> {
    let number = match text.split_once('/') {
        Some((over, under)) => over.trim().parse::<f64>().ok()? / under.trim().parse::<f64>().ok()?,
        None => text.parse().ok()?,
    };
    (number > 0.0 && number <= 1000.0).then_some(number)
}
