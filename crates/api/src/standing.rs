//! Does a launch start, and does it serve one sequence as long as it was asked to? Engines differ in which of the two their
//! verdict is about.

use plimsoll_plan::{State, Verdict};

use crate::vary::{Varied, allocates, need};

/// What a launch that starts and holds no sequence as long as it was asked to is called: shorter ones are served.
pub(crate) const SHORTER: &str = "shorter";

/// How a launch stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    /// `fits`, `borderline`, `shorter` or `does_not_fit`.
    pub(crate) state: &'static str,
    /// Whether the engine starts and serves one sequence of the context.
    pub(crate) fits: bool,
    /// What binds, where it does not.
    pub(crate) binding: Option<String>,
    /// Bytes to spare beside one such sequence; negative: missing.
    pub(crate) margin: i64,
}

impl Standing {
    /// How a launch stands that is to serve a sequence of `context` tokens; `None` where no length was asked for.
    ///
    /// vLLM refuses to start where its cache holds no longest sequence, and the plan's verdict says so. SGLang starts with
    /// whatever is left and refuses longer requests (0.5.23, `srt/managers/tp_worker.py`, `max_req_len`): there the cache is
    /// asked.
    pub(crate) fn of(varied: &Varied, context: Option<u64>) -> Standing {
        let plan = &varied.plan;
        let (fits, binding) = match &plan.verdict {
            Verdict::Fits { .. } => (true, None),
            Verdict::DoesNotFit { binding, .. } => (false, Some(binding.clone())),
        };
        let standing = Standing { state: plan.state().name(), fits, binding, margin: plan.margin.bytes };
        let Some(context) = context.filter(|_| fits && !allocates(plan.engine)) else { return standing };
        let need = need(varied, 1, context);
        if need.fits {
            return standing;
        }
        let budget = plan.ranks.get(need.rank).map_or(0, |rank| rank.kv_budget.bytes.get());
        let margin = i128::from(budget) - i128::from(need.kv.get());
        Standing {
            state: if need.state == State::Borderline { State::Borderline.name() } else { SHORTER },
            fits: false,
            binding: need.binding,
            margin: standing.margin.min(i64::try_from(margin).unwrap_or(i64::MIN)).min(-1),
        }
    }
}
