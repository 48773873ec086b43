//! In what do vLLM's releases schedule differently? Each rule with the releases in whose source it was read.

use plimsoll_kv::{FreeOrder, Joint, Manner};
use plimsoll_plan::Version;

/// The rules of one release. 0.11 and 0.33 are step-exact against what those releases decided; between them a rule holds
/// from the first release in whose source it was read (0.13, 0.15, 0.18, 0.19, 0.22, 0.24 to 0.30 were read), so that a
/// release that was not read behaves as the one before it.
///
/// Not modelled, in any release: asynchronous scheduling (the default from 0.14; a step there is formed while the one
/// before it runs), speculative decoding, encoders, LoRA, KV connectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one difference between releases")]
pub struct Rules {
    /// A request that is preempted after it was scheduled in the same step stays in it: the step's tokens are computed in
    /// vain and counted as computed, and the budget is not given back (v1/core/sched/scheduler.py:238-262, 0.11.0).
    pub keeps_victims_tokens: bool,
    /// When a request earlier in the running list is preempted, the one behind the current one misses its turn
    /// (v1/core/sched/scheduler.py:244, 0.11.0; the place is corrected from 0.28).
    pub victim_shifts_turns: bool,
    /// Under priorities, when a request preempts itself, those behind it still have their turn
    /// (v1/core/sched/scheduler.py:982-993, 0.33.0).
    pub goes_on_after_self: bool,
    /// Without chunked prefill, a prompt that is too long for the rest of the budget is passed over; later releases stop
    /// there (v1/core/sched/scheduler.py:433, 0.11.0; stops from 0.13).
    pub passes_over_long: bool,
    /// A request is admitted only if its whole sequence fits, unless told otherwise (`scheduler_reserve_full_isl`, from
    /// 0.19).
    pub reserves_full: bool,
    /// That whole sequence is counted only up to what a window holds at once (from 0.22).
    pub caps_windows: bool,
    /// Some blocks can be kept free of newcomers (`watermark`, from 0.24).
    pub has_watermark: bool,
    /// The long-prefill threshold is lifted while there is one request alone (v1/core/sched/scheduler.py:745-753, 0.33.0).
    pub spares_lone_prefill: bool,
    /// That threshold can be raised to a fair share of the step's tokens (v1/core/sched/scheduler.py:754-760, 0.33.0).
    pub has_adaptive_threshold: bool,
    /// Prompts can be held back for some steps (v1/core/sched/scheduler.py:762-790, 0.33.0; before, only together with other
    /// ranks).
    pub has_prefill_interval: bool,
    /// `max_num_partial_prefills` above 1 sets the long-prefill threshold to 4 % of the longest sequence where it is not
    /// set (config/scheduler.py, until 0.26); it does nothing else.
    pub has_partial_prefills: bool,
    /// A prompt as long as the longest sequence is refused (v1/engine/input_processor.py:590, 0.33.0), and not only a longer
    /// one.
    pub refuses_full_prompt: bool,
    /// How the cache is kept.
    pub manner: Manner,
}

impl Rules {
    /// The first release whose rules are known.
    pub const FIRST: Version = Version::new(0, 11, 0);

    /// Returns the rules of a release; those of the newest known for newer ones.
    ///
    /// # Errors
    /// A sentence for releases before 0.11.
    pub fn of(version: Version) -> Result<Self, String> {
        if version < Self::FIRST {
            return Err(format!("vLLM {version}: schedulers are known from {} on", Self::FIRST));
        }
        let from = |minor| version >= Version::new(0, minor, 0);
        Ok(Rules {
            keeps_victims_tokens: !from(13),
            victim_shifts_turns: !from(28),
            goes_on_after_self: from(31),
            passes_over_long: !from(13),
            reserves_full: from(19),
            caps_windows: from(22),
            has_watermark: from(24),
            spares_lone_prefill: from(31),
            has_adaptive_threshold: from(31),
            has_prefill_interval: from(31),
            has_partial_prefills: !from(27),
            refuses_full_prompt: from(13),
            manner: Manner {
                order: if from(24) { FreeOrder::BlankFirst } else { FreeOrder::Last },
                joint: if from(15) { Joint::FixedPoint } else { Joint::TwoKinds },
                leaves_skipped: from(13),
                keeps_last_remembered: !from(13),
                retention: if from(29) { Some(0) } else { None },
            },
        })
    }
}
