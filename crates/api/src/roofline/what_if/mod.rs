//! What would change if the launch were another? Other divisions, formats, drafts, separate cards: each worked out by the
//! same predictor.

pub mod answer;
mod disaggregated;
mod formats;
mod parallel;
mod speculative;

use plimsoll_cost::what_if::parallel::{Link, NETWORK};
use plimsoll_cost::{Hardware, Knobs, Predictor, Shape};
use plimsoll_facts::gpu::Gpu;
use plimsoll_plan::Plan;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::answer::WhatIfAnswer;
use super::points::{Place, point};
use super::request::Phase;
use super::steps::{Limits, steps};
use crate::plan::Prepared;
use crate::{Desk, Error};

/// What else to look at. Nothing when left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfRequest {
    /// Tensor against pipeline parallel: every division of the launch's cards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parallel: bool,
    /// Weights and caches in other formats.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub formats: bool,
    /// Speculative decoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculative: Option<SpeculativeRequest>,
    /// Prefill and decoding on separate cards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disaggregated: Option<DisaggregatedRequest>,
}

impl WhatIfRequest {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == WhatIfRequest::default()
    }
}

/// How drafts are made and kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeculativeRequest {
    /// Tokens drafted per step, 1 to 64.
    pub tokens: u32,
    /// Probability that a draft is accepted, 0 to 1.
    pub acceptance: f64,
    /// A draft model, launched as the model is; either this or `cost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
    /// What a draft costs, as a part of the model's own decode step: 0 for n-grams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// What separate cards serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DisaggregatedRequest {
    /// Tokens of an answer.
    pub output: u32,
}

/// The launch that what-ifs start from.
pub(super) struct Case<'a> {
    pub(super) desk: &'a Desk<'a>,
    pub(super) prepared: &'a Prepared,
    pub(super) plan: &'a Plan,
    pub(super) gpu: Option<&'a Gpu>,
    pub(super) knobs: &'a Knobs,
    pub(super) predictor: &'a Predictor,
    pub(super) limits: &'a Limits,
    pub(super) batches: &'a [u32],
    pub(super) contexts: &'a [u32],
}

impl Case<'_> {
    fn hardware(&self) -> &Hardware {
        &self.predictor.kernels.hardware
    }

    /// The ways that messages could take: the card's own link, its PCI Express, a network.
    fn links(&self) -> Vec<Link> {
        let hardware = self.hardware();
        let mut links: Vec<Link> = Link::of(hardware, false).ok().into_iter().collect();
        let plain = self.gpu.map(|gpu| Gpu { nvlink: None, ..gpu.clone() });
        let pcie = plain.and_then(|gpu| Hardware::new(Some(&gpu), &plimsoll_cost::hardware::Given::default()).ok());
        links.extend(
            pcie.filter(|pcie| pcie.link_name != hardware.link_name).and_then(|pcie| Link::of(&pcie, false).ok()),
        );
        links.push(match Link::of(hardware, true) {
            Ok(network) => network,
            Err(_) => Link { name: INFINIBAND.0.to_owned(), bandwidth: INFINIBAND.1, latency: NETWORK },
        });
        links
    }
}

/// The network when nobody says: one port of NDR InfiniBand per card, as in NVIDIA's DGX H100 (data sheet: eight 400 Gbit/s
/// adapters for eight cards).
const INFINIBAND: (&str, f64) = ("InfiniBand NDR", 50e9);

/// Seconds of one prompt alone, in the engine's steps and through all of its stages, and how many steps.
fn prompt(predictor: &mut Predictor, plan: &Plan, limits: &Limits, context: u32) -> Result<(f64, usize), Error> {
    let steps = steps(Phase::Prefill, (1, context), limits, predictor.inventory.window())?;
    let place = Place { phase: Phase::Prefill, batch: 1, context };
    let point = point(predictor, place, &steps, plan.parallel, None);
    Ok((point.predicted_ms / 1e3, steps.len()))
}

/// Cuts what decoding sequences see to the model's window.
fn windowed(shape: &Shape, window: Option<u32>) -> Shape {
    let most = window.map_or(u64::MAX, |window| u64::from(window) * u64::from(shape.decodes));
    Shape { decode_windowed: shape.decode_context.min(most), ..shape.clone() }
}

/// What the cost model refuses, as the request's mistake.
fn refused(error: plimsoll_cost::Error) -> Error {
    Error::Request(error.to_string())
}

/// Answers what is asked.
pub(super) fn answer(request: &WhatIfRequest, case: &Case<'_>, notes: &mut Vec<String>) -> Result<WhatIfAnswer, Error> {
    let mut answer = WhatIfAnswer::default();
    if request.parallel {
        answer.parallel = parallel::splits(case, notes)?;
    }
    if request.formats {
        answer.formats = formats::formats(case)?;
    }
    if let Some(asked) = &request.speculative {
        answer.speculative = speculative::speculative(asked, case)?;
    }
    if let Some(asked) = &request.disaggregated {
        answer.disaggregated = disaggregated::disaggregated(asked, case)?;
    }
    let network = case.hardware().network.is_none() && !(answer.parallel.is_empty() && answer.disaggregated.is_empty());
    if network {
        notes.push(format!(
            "the network between machines is taken to be {} of {} GB/s per card; --network says otherwise",
            INFINIBAND.0,
            INFINIBAND.1 / 1e9
        ));
    }
    Ok(answer)
}
