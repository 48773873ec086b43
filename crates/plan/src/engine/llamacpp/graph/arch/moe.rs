//! How do architectures differ in their experts? Gating, normalisation and the shared ones beside them.

use crate::engine::llamacpp::graph::build::{Act, Build, Ffn, Gate, Gating, Moe};
use crate::engine::llamacpp::graph::tensor::Id;

/// A mixture's ways.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    /// The router's function.
    pub gating: Gating,
    /// Whether the chosen experts' weights are made to sum to one.
    pub normalise: bool,
    /// The experts' activation.
    pub act: Act,
    /// Scores computed by the caller.
    pub scores: Option<Id>,
    /// Whether a token is weighted before its expert instead of after (Llama 4).
    pub weight_first: bool,
}

impl Mixture {
    /// `SiLU` experts with that gating.
    #[must_use]
    pub fn new(gating: Gating, normalise: bool) -> Self {
        Self { gating, normalise, act: Act::Silu, scores: None, weight_first: false }
    }

    /// Softmax gating and `SiLU` experts.
    #[must_use]
    pub fn softmax(normalise: bool) -> Self {
        Self::new(Gating::Softmax, normalise)
    }

    /// The gating that the file names, with that one where it says nothing; weights normalised as given.
    #[must_use]
    pub fn of_file(b: &Build<'_>, otherwise: Gating, normalise: bool) -> Self {
        Self::new(Gating::from_id(b.model.hparams.gating).unwrap_or(otherwise), normalise)
    }

    /// The gating that the file names, and weights normalised as it says.
    #[must_use]
    pub fn all_of_file(b: &Build<'_>, otherwise: Gating) -> Self {
        Self::of_file(b, otherwise, b.flag("expert_weights_norm"))
    }
}

/// The routed part of a layer's feed-forward, of the layer's normed input.
pub fn routed(b: &mut Build<'_>, il: usize, cur: Id, mixture: &Mixture) -> Id {
    let hparams = b.model.hparams;
    let moe = Moe {
        experts: hparams.experts,
        used: hparams.layers.get(il).map_or(0, |layer| layer.experts_used),
        act: mixture.act,
        norm: mixture.normalise,
        scale: b.has_scale("expert_weights_scale") && (b.float("expert_weights_scale") - 1.0).abs() > 0.0,
        gating: mixture.gating,
        biased_choice: true,
        logits: mixture.scores,
        weight_before: mixture.weight_first,
    };
    b.moe(cur, il, moe)
}

/// A feed-forward that is dense where the file has no router, and a mixture where it has one, with the shared experts
/// that the file has.
pub fn dense_or_mixture(b: &mut Build<'_>, il: usize, cur: Id, mixture: &Mixture) -> Id {
    if b.opt(il, "ffn_gate_inp.weight").is_none() {
        return b.ffn(cur, il, Act::Silu, Gate::Parallel);
    }
    let routed = routed(b, il, cur, mixture);
    if b.opt(il, "ffn_up_shexp.weight").is_none() {
        return routed;
    }
    let shared = shared(b, il, cur);
    b.g.add(routed, shared)
}

/// The shared experts.
pub fn shared(b: &mut Build<'_>, il: usize, cur: Id) -> Id {
    b.ffn_of(cur, il, Ffn::SHARED, Act::Silu, Gate::Parallel)
}
