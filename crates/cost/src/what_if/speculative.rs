//! What does speculative decoding buy? A drafter proposes γ tokens, the model checks them in one step, and keeps those up
//! to the first that it would not have chosen, and one of its own.
//!
//! With each draft accepted with probability α, independently, a step yields (1 − α^(γ + 1))/(1 − α) tokens in the mean, and
//! costs γ steps of the drafter and one step of the model over γ + 1 tokens of each sequence. The speed-up is
//!
//! ```text
//! S = tokens × t_decode / (γ × t_draft + t_verify)
//! ```
//!
//! α = 0.8 and γ = 4 yield 3.36 tokens; with a drafter of a twentieth and a check as long as a step, S = 3.36/1.2 = 2.80.
//! Source: Leviathan, Kalman, Matias 2023, arXiv:2211.17192, equation 1 and theorem 3.8 (which takes t_verify = t_decode; at
//! large batches it is not).

use crate::{Chunk, Error, Shape};

/// The most tokens drafted at once.
pub const MOST_DRAFTED: u32 = 64;
/// The most sequences of a step.
pub const MOST_SEQUENCES: u32 = 65_536;

/// Returns the mean tokens of one step: (1 − α^(γ + 1))/(1 − α); γ + 1 where all are accepted.
pub fn tokens_per_step(acceptance: f64, drafted: u32) -> f64 {
    let alpha = acceptance.clamp(0.0, 1.0);
    // The sum itself: exact where 1 − α is small.
    (0..=drafted.min(MOST_DRAFTED)).fold((0.0, 1.0), |(sum, power), _| (sum + power, power * alpha)).0
}

/// Returns the acceptance rate at which a step yields `tokens` in the mean, as engines log it ("mean acceptance length");
/// `None` where no rate does.
pub fn acceptance_of(tokens: f64, drafted: u32) -> Option<f64> {
    let most = f64::from(drafted.min(MOST_DRAFTED)) + 1.0;
    if !(1.0..=most).contains(&tokens) {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if tokens_per_step(middle, drafted) < tokens { low = middle } else { high = middle }
    }
    Some((low + high) / 2.0)
}

/// How a drafter costs.
pub enum Drafter<'a> {
    /// A part of the model's own decoding step: 0 for n-grams of the prompt, a few hundredths for a head of one layer.
    Ratio(f64),
    /// A model with a time of its own.
    Model(&'a mut dyn FnMut(&Shape) -> f64),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// Sequences.
    pub sequences: u32,
    /// Tokens that each has in the cache.
    pub context: u32,
    /// Tokens within the model's window, of each; equal to `context` where there is none.
    pub windowed: u32,
    /// Tokens drafted per step, γ.
    pub drafted: u32,
    /// Probability that a draft is accepted, α.
    pub acceptance: f64,
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Mean tokens of a step and sequence.
    pub tokens: f64,
    /// Seconds of a step without speculation.
    pub plain: f64,
    /// Seconds of all drafts of a step.
    pub draft: f64,
    /// Seconds of checking them.
    pub verify: f64,
    /// Times as many tokens per second as without.
    pub speed_up: f64,
    /// The acceptance rate above which it pays; `None` where it never does.
    pub break_even: Option<f64>,
}

/// Returns the step that checks drafts: a piece of γ + 1 tokens of every sequence, all of them sampled.
pub fn verify_shape(question: &Question) -> Shape {
    let tokens = question.drafted.saturating_add(1);
    Shape {
        chunks: vec![Chunk { tokens, context: question.context }; question.sequences as usize],
        sampled: question.sequences.saturating_mul(tokens),
        ..Shape::default()
    }
}

/// Returns the step without speculation.
pub fn plain_shape(question: &Question) -> Shape {
    Shape {
        decodes: question.sequences,
        decode_context: u64::from(question.sequences) * u64::from(question.context),
        decode_windowed: u64::from(question.sequences) * u64::from(question.windowed),
        sampled: question.sequences,
        ..Shape::default()
    }
}

/// Answers from the time of the model's steps and the drafter's.
///
/// # Errors
/// [`Error::Knob`] for an acceptance outside 0 to 1, a draft of no or too many tokens, no or too many sequences, a ratio that
/// is no number of 0 or more.
pub fn outcome(
    question: &Question,
    step: &mut dyn FnMut(&Shape) -> f64,
    drafter: &mut Drafter<'_>,
) -> Result<Outcome, Error> {
    let knob = |knob, found, expected| Err(Error::Knob { knob, found, expected });
    if !(0.0..=1.0).contains(&question.acceptance) {
        return knob("acceptance", question.acceptance, "between 0 and 1");
    }
    if !(1..=MOST_DRAFTED).contains(&question.drafted) {
        return knob("drafted", f64::from(question.drafted), "between 1 and 64 tokens");
    }
    if !(1..=MOST_SEQUENCES).contains(&question.sequences) {
        return knob("sequences", f64::from(question.sequences), "between 1 and 65 536");
    }
    let plain = step(&plain_shape(question));
    let verify = step(&verify_shape(question));
    let drafted = f64::from(question.drafted);
    let draft = match drafter {
        Drafter::Ratio(ratio) if !(0.0..1e6).contains(ratio) => {
            return knob("draft-cost", *ratio, "a part of the model's step, 0 or more");
        }
        Drafter::Ratio(ratio) => drafted * *ratio * plain,
        Drafter::Model(time) => drafted * time(&plain_shape(question)),
    };
    let tokens = tokens_per_step(question.acceptance, question.drafted);
    let needed = (draft + verify) / plain;
    let break_even = if needed <= 1.0 { Some(0.0) } else { acceptance_of(needed, question.drafted) };
    Ok(Outcome { tokens, plain, draft, verify, speed_up: tokens / needed, break_even })
}

/// Returns the length of drafts, up to `most`, that is fastest, with its outcome; drafts of one token where none pays.
///
/// # Errors
/// As [`outcome`].
pub fn best(
    question: &Question,
    most: u32,
    step: &mut dyn FnMut(&Shape) -> f64,
    drafter: &mut Drafter<'_>,
) -> Result<(u32, Outcome), Error> {
    let mut found = (1, outcome(&Question { drafted: 1, ..*question }, step, drafter)?);
    for drafted in 2..=most.min(MOST_DRAFTED) {
        let next = outcome(&Question { drafted, ..*question }, step, drafter)?;
        if next.speed_up > found.1.speed_up {
            found = (drafted, next);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(drafted: u32, acceptance: f64) -> Question {
        Question { sequences: 4, context: 1000, windowed: 1000, drafted, acceptance }
    }

    #[test]
    fn tokens_of_a_step() {
        for (alpha, drafted, expected) in
            [(0.0, 4, 1.0), (1.0, 4, 5.0), (0.8, 4, 3.3616), (0.5, 1, 1.5), (0.9, 7, (1.0 - 0.9_f64.powi(8)) / 0.1)]
        {
            let found = tokens_per_step(alpha, drafted);
            assert!((found - expected).abs() < 1e-12, "{alpha} {drafted}: {found}");
        }
    }

    #[test]
    fn speed_up_is_the_papers_where_a_check_takes_as_long_as_a_step() {
        let outcome = outcome(&asked(4, 0.8), &mut |_| 0.01, &mut Drafter::Ratio(0.05)).expect("a fair question");
        assert!((outcome.speed_up - 3.3616 / 1.2).abs() < 1e-9, "{outcome:?}");
        let alpha = outcome.break_even.expect("it can pay");
        assert!((tokens_per_step(alpha, 4) - 1.2).abs() < 1e-9);
    }

    #[test]
    fn at_the_break_even_it_neither_pays_nor_costs() {
        let mut step = |shape: &Shape| 0.01 + 1e-4 * shape.tokens() as f64;
        for drafted in [1, 3, 7] {
            let first = outcome(&asked(drafted, 0.5), &mut step, &mut Drafter::Ratio(0.1)).expect("a fair question");
            let Some(alpha) = first.break_even else { panic!("{first:?}") };
            let there = outcome(&asked(drafted, alpha), &mut step, &mut Drafter::Ratio(0.1)).expect("a fair question");
            assert!((there.speed_up - 1.0).abs() < 1e-9, "{there:?}");
        }
    }

    #[test]
    fn where_arithmetic_binds_it_never_pays() {
        let mut step = |shape: &Shape| 1e-3 * shape.tokens() as f64;
        let found = outcome(&asked(4, 1.0), &mut step, &mut Drafter::Ratio(0.2)).expect("a fair question");
        assert_eq!(found.break_even, None);
        assert!(found.speed_up < 1.0);
    }

    #[test]
    fn a_drafter_of_its_own_and_the_best_length() {
        let mut draft = |_: &Shape| 0.001;
        let mut drafter = Drafter::Model(&mut draft);
        let (drafted, found) = best(&asked(1, 0.8), 16, &mut |_| 0.01, &mut drafter).expect("a fair question");
        let all = (1..=16_u32).map(|n| tokens_per_step(0.8, n) / (1.0 + 0.1 * f64::from(n)));
        let most = all.fold(0.0, f64::max);
        assert!((found.speed_up - most).abs() < 1e-9 && drafted > 2, "{drafted} {found:?}");
    }

    #[test]
    fn unfair_questions_are_refused() {
        for question in [asked(0, 0.5), asked(65, 0.5), asked(4, 1.5), Question { sequences: 0, ..asked(4, 0.5) }] {
            assert!(outcome(&question, &mut |_| 0.01, &mut Drafter::Ratio(0.1)).is_err(), "{question:?}");
        }
        assert!(outcome(&asked(4, 0.5), &mut |_| 0.01, &mut Drafter::Ratio(f64::NAN)).is_err());
        assert_eq!(acceptance_of(6.0, 4), None);
        let alpha = acceptance_of(3.3616, 4).expect("it is reached");
        assert!((alpha - 0.8).abs() < 1e-9);
    }
}
