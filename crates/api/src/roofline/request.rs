//! What can be asked of a roofline?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::what_if::WhatIfRequest;
use crate::{CostRequest, Error, PlanRequest};

/// Asks how fast a launch can go, and what holds it back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RooflineRequest {
    /// The launch: model, card, engine and its flags, as for a plan. Without an engine vLLM is taken, and the answer says
    /// so.
    pub launch: PlanRequest,
    /// `prefill`, `decode`; both when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<String>,
    /// Sequences of one data-parallel replica; 1, 8, 64 and 256 when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batch: Vec<u32>,
    /// Tokens of each sequence: of its prompt when prefilling, in the cache when decoding; 4096 when left out, or the
    /// longest that is served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<u32>,
    /// Lists the operators of every point, not of one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_operators: bool,
    /// What else to look at: other divisions, formats, drafts, separate cards.
    #[serde(default, skip_serializing_if = "WhatIfRequest::is_empty")]
    pub what_if: WhatIfRequest,
    /// Rates and efficiencies in place of the catalogue's and the measured ones. `fixed_us` has no meaning here.
    #[serde(default, skip_serializing_if = "CostRequest::is_empty")]
    pub cost: CostRequest,
}

/// What a model does with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It computes prompts.
    Prefill,
    /// It generates a token for each sequence.
    Decode,
}

impl Phase {
    /// Both.
    pub const ALL: [Phase; 2] = [Phase::Prefill, Phase::Decode];

    /// Returns the name in requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
        }
    }
}

/// Values of one kind in a request, at most.
const MOST_VALUES: usize = 64;
/// Sequences at most.
pub(super) const MOST_SEQUENCES: u32 = 1 << 20;
/// Tokens of a sequence at most.
pub(super) const MOST_TOKENS: u32 = 1 << 27;
/// Batches when nobody says.
const BATCHES: [u32; 4] = [1, 8, 64, 256];
/// Tokens of a sequence when nobody says.
const CONTEXT: u32 = 4096;

/// What is asked, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) phases: Vec<Phase>,
    pub(super) batches: Vec<u32>,
    /// `None` until the longest sequence is known.
    pub(super) contexts: Option<Vec<u32>>,
    /// What nobody said.
    pub(super) assumptions: Vec<String>,
}

impl Asked {
    /// Reads the phases and the grid of a request.
    pub(super) fn new(request: &RooflineRequest) -> Result<Asked, Error> {
        let mut assumptions = Vec::new();
        let batches = grid("batch", &request.batch, MOST_SEQUENCES)?.unwrap_or_else(|| {
            assumptions.push("batches of 1, 8, 64 and 256 sequences; --batch says otherwise".to_owned());
            BATCHES.to_vec()
        });
        let contexts = grid("context", &request.context, MOST_TOKENS)?;
        Ok(Asked { phases: phases(&request.phases)?, batches, contexts, assumptions })
    }

    /// Returns the tokens of a sequence: those asked for, else so many as are usual and served.
    pub(super) fn contexts(&mut self, longest: u64) -> Vec<u32> {
        self.contexts.clone().unwrap_or_else(|| {
            let context = u32::try_from(longest.clamp(1, u64::from(CONTEXT))).unwrap_or(CONTEXT);
            self.assumptions.push(format!("sequences of {context} tokens; --context says otherwise"));
            vec![context]
        })
    }
}

/// Reads the phases.
fn phases(names: &[String]) -> Result<Vec<Phase>, Error> {
    if names.is_empty() {
        return Ok(Phase::ALL.to_vec());
    }
    let mut found = Vec::new();
    for name in names {
        let wanted = name.trim().to_ascii_lowercase();
        let Some(phase) = Phase::ALL.into_iter().find(|phase| phase.name() == wanted) else {
            return Err(Error::Request(format!("phase `{}` is not one of prefill, decode", clipped(name))));
        };
        if !found.contains(&phase) {
            found.push(phase);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Checks the values of one axis, each once and in order; `None` when there are none.
fn grid(name: &str, values: &[u32], most: u32) -> Result<Option<Vec<u32>>, Error> {
    if values.is_empty() {
        return Ok(None);
    }
    if values.len() > MOST_VALUES {
        return Err(Error::Request(format!("{name}: {} values; at most {MOST_VALUES} are answered", values.len())));
    }
    if let Some(value) = values.iter().find(|value| !(1..=most).contains(*value)) {
        return Err(Error::Request(format!("{name} {value} is out of range; expected 1 to {most}")));
    }
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    Ok(Some(values))
}

/// The beginning of an untrusted word.
fn clipped(word: &str) -> String {
    word.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_in_order_and_within_bounds() {
        assert_eq!(grid("batch", &[], 9), Ok(None));
        assert_eq!(grid("batch", &[8, 1, 8], 9), Ok(Some(vec![1, 8])));
        for values in [vec![0], vec![10], vec![1; 65]] {
            assert!(grid("batch", &values, 9).is_err(), "{values:?}");
        }
    }

    #[test]
    fn phases_are_named() {
        let names = |names: &[&str]| phases(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&[]), Ok(vec![Phase::Prefill, Phase::Decode]));
        assert_eq!(names(&["Decode", "decode"]), Ok(vec![Phase::Decode]));
        let error = names(&["generate"]).unwrap_err();
        assert_eq!(error.to_string(), "phase `generate` is not one of prefill, decode");
    }
}
