//! What can be asked? Requests as they stand in JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// Asks where the memory goes and whether it fits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Built-in name, or a directory or file with the model's configuration. May be left out when `command` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Card by name, with a count if there are several: `h100-sxm:8`; different ones with commas: `rtx-4090,rtx-3090:2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// The total that the CUDA runtime reports for the card, bytes; replaces the catalogue's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_total_bytes: Option<u64>,
    /// `vllm`, `tensorrt-llm`, `sglang`, `llama.cpp`, `ollama` or `transformers`. May be left out when `command` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Release, such as `0.19.0`; the newest known one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// A launch command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Engine flags by their own names, underscores for dashes; they win over the command's.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Engine flags that were read from words and cannot change memory, by their own names: those of the scheduler, which a
    /// simulation needs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inert: Map<String, Value>,
    /// Known quantities that replace estimates.
    #[serde(default, skip_serializing_if = "GivenRequest::is_empty")]
    pub given: GivenRequest,
    /// What came up while the request was put together (flags that change no memory); passed on to the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Known quantities that replace estimates, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenRequest {
    /// Weights of the scarcest rank after loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_bytes: Option<u64>,
    /// Peak of the forward pass above the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_bytes: Option<u64>,
    /// Memory outside the framework's allocator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_torch_bytes: Option<u64>,
    /// Free memory at the moment before the KV cache is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_free_bytes: Option<u64>,
    /// The KV cache's budget itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_budget_bytes: Option<u64>,
}

impl GivenRequest {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == GivenRequest::default()
    }
}

/// Asks what a model is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InspectRequest {
    /// Built-in name, or a directory or file with the model's configuration.
    pub model: String,
}

/// A card and how many of it: `h100-sxm:8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuRequest {
    /// The card's name.
    pub name: String,
    /// How many, when it was said.
    pub count: Option<u32>,
}

/// Kinds of cards in one machine at most.
const MOST_KINDS: usize = 64;

impl GpuRequest {
    /// Reads one card or several, with commas between them: `rtx-4090:2,rtx-3090`.
    ///
    /// # Errors
    /// [`Error::Request`] for a count out of range, an empty name or too many entries.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Error> {
        let cards: Vec<GpuRequest> =
            text.split(',').take(MOST_KINDS + 1).map(GpuRequest::parse).collect::<Result<_, _>>()?;
        if cards.len() > MOST_KINDS || cards.iter().any(|card| card.name.is_empty()) {
            return Err(Error::Request(format!(
                "--gpu: expected up to {MOST_KINDS} cards such as rtx-4090:2,rtx-3090"
            )));
        }
        Ok(cards)
    }

    /// Reads `NAME` or `NAME:COUNT`.
    ///
    /// # Errors
    /// [`Error::Request`] for a count that is not from 1 to 100 000.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.rsplit_once(':') {
            None => Ok(GpuRequest { name: text.trim().to_owned(), count: None }),
            Some((name, count)) => match count.trim().parse::<u32>() {
                Ok(count @ 1..=100_000) => Ok(GpuRequest { name: name.trim().to_owned(), count: Some(count) }),
                Ok(_) | Err(_) => {
                    Err(Error::Request(format!("`{text}`: the count after `:` must be a number from 1 to 100000")))
                }
            },
        }
    }
}
