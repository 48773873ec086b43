//! Which steps does a point take? One when decoding; prompts are cut as the engine's limits say.

use plimsoll_cost::{Chunk, Shape};
use plimsoll_plan::Batching;

use super::request::Phase;
use crate::Error;

/// Steps of one request at most.
pub(super) const MOST_STEPS: u64 = 100_000;

/// How an engine's steps are limited, as far as prompts that come at once are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Tokens of a step; `None` where the engine's scheduler is not modelled.
    pub(super) tokens: Option<u64>,
    /// Tokens of one prompt in a step, where limited.
    pub(super) piece: Option<u64>,
    /// Whether prompts may be cut.
    pub(super) cut: bool,
    /// Sequences that run at once.
    pub(super) sequences: Option<u64>,
}

impl Limits {
    /// Reads them off a plan.
    pub(super) fn of(batching: Option<&Batching>) -> Limits {
        match batching {
            None => Limits { tokens: None, piece: None, cut: false, sequences: None },
            Some(Batching::Vllm(of)) => Limits {
                tokens: Some(of.max_num_scheduled_tokens),
                piece: Some(of.long_prefill_token_threshold).filter(|most| *most > 0),
                cut: of.chunked_prefill,
                sequences: Some(of.max_num_active_seqs),
            },
            Some(Batching::Sglang(of)) => Limits {
                tokens: Some(
                    of.chunked_prefill_size.map_or(of.max_prefill_tokens, |size| size.min(of.max_prefill_tokens)),
                ),
                piece: None,
                cut: of.chunked_prefill_size.is_some(),
                sequences: Some(of.max_running_requests),
            },
            Some(Batching::TensorRtLlm(of)) => Limits {
                tokens: Some(of.max_num_tokens),
                piece: None,
                cut: of.chunking.is_some(),
                sequences: Some(of.max_batch_size),
            },
        }
    }
}

/// A step of a point.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// What it computes.
    pub(super) shape: Shape,
    /// Prompts that it completes.
    pub(super) completes: u32,
}

/// Returns the steps of a point, in order.
///
/// # Errors
/// [`Error::Request`] where there would be too many.
pub(super) fn steps(
    phase: Phase,
    (batch, context): (u32, u32),
    limits: &Limits,
    window: Option<u32>,
) -> Result<Vec<Step>, Error> {
    match phase {
        Phase::Decode => Ok(vec![Step { shape: decode(batch, context, window), completes: 0 }]),
        Phase::Prefill => prefill(batch, context, limits),
    }
}

/// One token for each of `batch` sequences with `context` tokens in the cache.
pub(super) fn decode(batch: u32, context: u32, window: Option<u32>) -> Shape {
    let seen = window.map_or(context, |window| context.min(window));
    let all = |each: u32| u64::from(batch).saturating_mul(u64::from(each));
    Shape {
        decodes: batch,
        decode_context: all(context),
        decode_windowed: all(seen),
        sampled: batch,
        ..Shape::default()
    }
}

/// `batch` prompts of `context` tokens, nothing in the cache: who came first is computed first, as much of each prompt as
/// the step has room for.
fn prefill(batch: u32, context: u32, limits: &Limits) -> Result<Vec<Step>, Error> {
    let all = u64::from(batch) * u64::from(context);
    let whole = u64::from(context);
    let room = limits.tokens.unwrap_or(all).max(if limits.cut { 1 } else { whole });
    let piece = limits.piece.unwrap_or(u64::MAX).max(1);
    let width = limits.sequences.unwrap_or(u64::MAX).max(1);
    let count = (all / room.min(piece.saturating_mul(width))).max(all / whole.saturating_mul(width));
    if count > MOST_STEPS {
        return Err(Error::Request(format!(
            "prefill of {batch} prompts of {context} tokens takes more than {MOST_STEPS} steps of {room} tokens; ask for \
             fewer or shorter ones"
        )));
    }
    let mut steps = Vec::new();
    // Prompts before `first` are complete; `done` tokens of those from there on that have begun.
    let (mut first, mut begun): (u32, std::collections::VecDeque<u64>) = (0, std::collections::VecDeque::new());
    while first < batch {
        let (mut left, mut shape, mut completes) = (room, Shape::default(), 0_u32);
        let mut at = 0;
        while left > 0 && (at as u64) < width {
            if at == begun.len() {
                let unbegun = u64::from(first) + begun.len() as u64;
                if unbegun >= u64::from(batch) || (!limits.cut && whole > left) {
                    break;
                }
                begun.push_back(0);
            }
            let before = begun[at];
            let tokens = (whole - before).min(left).min(if limits.cut { piece } else { whole });
            if tokens > 0 {
                let narrow = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
                shape.chunks.push(Chunk { tokens: narrow(tokens), context: narrow(before) });
                begun[at] += tokens;
                left -= tokens;
                completes += u32::from(begun[at] == whole);
            }
            at += 1;
        }
        while begun.front() == Some(&whole) {
            begun.pop_front();
            first += 1;
        }
        shape.sampled = completes;
        // A prompt of one token is a decode with nothing in the cache.
        if whole == 1 {
            shape = Shape { chunks: Vec::new(), decodes: completes, sampled: completes, ..Shape::default() };
        }
        steps.push(Step { shape, completes });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLLM: Limits = Limits { tokens: Some(8192), piece: None, cut: true, sequences: Some(256) };

    fn chunks(batch: u32, context: u32, limits: Limits) -> Vec<Vec<(u32, u32)>> {
        let steps = prefill(batch, context, &limits).unwrap();
        assert_eq!(steps.iter().map(|step| step.completes).sum::<u32>(), batch);
        let computed: u64 = steps.iter().map(|step| step.shape.tokens()).sum();
        assert_eq!(computed, u64::from(batch) * u64::from(context));
        steps.iter().map(|step| step.shape.chunks.iter().map(|chunk| (chunk.context, chunk.tokens)).collect()).collect()
    }

    #[test]
    fn prompts_are_cut_where_the_step_is_full() {
        assert_eq!(chunks(1, 4096, VLLM), [vec![(0, 4096)]]);
        assert_eq!(chunks(3, 4096, VLLM), [vec![(0, 4096), (0, 4096)], vec![(0, 4096)]]);
        assert_eq!(chunks(2, 6000, VLLM), [vec![(0, 6000), (0, 2192)], vec![(2192, 3808)]]);
        assert_eq!(chunks(1, 20_000, VLLM), [vec![(0, 8192)], vec![(8192, 8192)], vec![(16_384, 3616)]]);
    }

    #[test]
    fn prompts_that_may_not_be_cut_stay_whole() {
        let whole = Limits { cut: false, ..VLLM };
        assert_eq!(chunks(2, 6000, whole), [vec![(0, 6000)], vec![(0, 6000)]]);
        assert_eq!(chunks(1, 20_000, whole), [vec![(0, 20_000)]]);
        let unknown = Limits { tokens: None, piece: None, cut: false, sequences: None };
        assert_eq!(chunks(2, 6000, unknown), [vec![(0, 6000), (0, 6000)]]);
    }

    #[test]
    fn other_limits_count_too() {
        let pieces = Limits { piece: Some(1000), ..VLLM };
        assert_eq!(chunks(2, 1500, pieces), [vec![(0, 1000), (0, 1000)], vec![(1000, 500), (1000, 500)]]);
        let narrow = Limits { sequences: Some(2), ..VLLM };
        assert_eq!(chunks(3, 10, narrow), [vec![(0, 10), (0, 10)], vec![(0, 10)]]);
        assert_eq!(prefill(5, 1, &VLLM).unwrap()[0].shape.decodes, 5);
    }

    #[test]
    fn too_many_steps_are_refused() {
        let narrow = Limits { tokens: Some(1), ..VLLM };
        assert!(prefill(1000, 1000, &narrow).is_err());
        assert!(prefill(u32::MAX, u32::MAX, &VLLM).is_err());
    }

    #[test]
    fn a_window_cuts_what_decoding_sees() {
        let shape = decode(4, 1000, Some(128));
        assert_eq!((shape.decodes, shape.decode_context, shape.decode_windowed, shape.sampled), (4, 4000, 512, 4));
        assert_eq!(decode(4, 100, Some(128)).decode_windowed, 400);
    }
}
