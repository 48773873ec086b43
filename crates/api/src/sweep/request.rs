//! What is asked of a sweep? Lists, whose every combination is a row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vary::Knob;
use crate::{Error, PlanRequest};

/// Asks for many plans: every combination of these lists is a row, the last list turning fastest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepRequest {
    /// Models, by built-in names or paths; `all` stands for all built-in ones.
    pub models: Vec<String>,
    /// Cards, with a count if there are several: `h100-sxm:8`; `all` stands for all built-in ones.
    pub gpus: Vec<String>,
    /// Engines; vLLM when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<String>,
    /// Tensor-parallel ranks; as the launch says when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tp: Vec<u64>,
    /// Pipeline stages; as the launch says when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pp: Vec<u64>,
    /// Formats of the weights; the model's own when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Formats of the KV cache; as the launch says when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv_formats: Vec<String>,
    /// Tokens of each sequence, which are also the longest that the launch serves.
    pub context: Vec<u64>,
    /// Sequences at once.
    pub batch: Vec<u64>,
    /// What all launches have in common: release, flags, known quantities. Its model, card and engine are the lists'.
    #[serde(default)]
    pub launch: PlanRequest,
}

/// Models, cards or engines at most.
const MOST_NAMES: usize = 100_000;

impl SweepRequest {
    /// Checks what can be checked without looking anything up.
    ///
    /// # Errors
    /// [`Error::Request`] names the list that is empty, too long or out of range.
    pub(super) fn check(&self) -> Result<(), Error> {
        let named = |name: &str, list: &[String], needed: bool| {
            if (needed && list.is_empty()) || list.iter().any(|entry| entry.trim().is_empty()) {
                return Err(Error::Request(format!("no {name}: give --{name} with commas between several, or all")));
            }
            if list.len() > MOST_NAMES {
                return Err(Error::Request(format!("{} {name}: {MOST_NAMES} at most", list.len())));
            }
            Ok(())
        };
        named("models", &self.models, true)?;
        named("gpus", &self.gpus, true)?;
        for (name, list) in [("engines", &self.engines), ("formats", &self.formats), ("kv-formats", &self.kv_formats)] {
            named(name, list, false)?;
        }
        for (knob, list) in
            [(Knob::Context, &self.context), (Knob::Batch, &self.batch), (Knob::Tp, &self.tp), (Knob::Pp, &self.pp)]
        {
            // The list as it would be typed is read as it would be: with the same bounds.
            let typed: Vec<String> = list.iter().map(u64::to_string).collect();
            if !typed.is_empty() {
                knob.numbers(&typed.join(","))?;
            } else if matches!(knob, Knob::Context | Knob::Batch) {
                return Err(Error::Request(format!("no {}: give --{0}, such as 1k..128k or 1,8,64", knob.name())));
            }
        }
        let launch = &self.launch;
        if launch.model.is_some() || launch.gpu.is_some() || launch.engine.is_some() || launch.command.is_some() {
            return Err(Error::Request(
                "the launch of a sweep names no model, gpu, engine or command: they are lists of their own".into(),
            ));
        }
        Ok(())
    }
}
