//! Lives and holders of small runs, by hand, and laws over random ones.

use std::num::NonZeroU32;

use plimsoll_kv::{Content, Group, Reach};
use proptest::prelude::*;

use super::*;
use crate::cost::Fixed;
use crate::load::List;
use crate::schedule::plain::{Batching, Config, Layout, Plain, Prefill};
use crate::schedule::vllm::{self, Vllm};
use crate::{Arrival, Outcome, Settings, run};

/// Requests: when they arrive, tokens of the prompt, tokens generated, the stream of the prompt.
fn arrivals(of: &[(u64, u32, u32, u64)]) -> Vec<Arrival> {
    let arrival = |(at, &(time, prompt_tokens, output_tokens, stream)): (usize, &(u64, u32, u32, u64))| {
        let mut prompt = Content::new();
        prompt.push(stream, 0, prompt_tokens);
        Arrival {
            at: Nanos::new(time),
            prompt,
            output_tokens,
            max_tokens: output_tokens,
            output_stream: 1_000_000 + at as u64,
            priority: 0,
            sample_of: None,
            mark: 0,
        }
    };
    of.iter().enumerate().map(arrival).collect()
}

fn vllm(blocks: u32) -> Vllm {
    let group = Group { reach: Reach::Full, block_tokens: NonZeroU32::new(16).unwrap() };
    let config = vllm::Config { groups: vec![group], ..vllm::Config::new("0.33.0".parse().unwrap(), blocks) };
    Vllm::new(config).unwrap()
}

fn plain(batching: Batching, slots: u32) -> Plain {
    let layout = Layout::Paged { block_tokens: 16 };
    Plain::new(Config { batching, layout, slots, max_model_len: 512, max_num_seqs: 8 }).unwrap()
}

fn followed(scheduler: &mut impl crate::schedule::Scheduler, arrivals: Vec<Arrival>, jumps: bool) -> (Outcome, Course) {
    let mut course = Course::new();
    let settings = Settings { jumps, verify: true, ..Settings::default() };
    let mut source = List::new(arrivals);
    let outcome = run(scheduler, &mut Fixed(Nanos::new(1_000_000)), &mut source, &mut course, settings).unwrap();
    (outcome, course)
}

fn told(life: &Life) -> String {
    let turn = |(at, phase): &(Nanos, Phase)| format!("{phase:?} {}", at.get() / 1_000_000);
    let turns: Vec<String> = life.turns.iter().map(turn).collect();
    format!("{}: {}, end {:?}", life.number, turns.join(", "), life.end.map(|end| end.get() / 1_000_000))
}

#[test]
fn a_static_batch_lets_the_next_one_wait() {
    let requests = arrivals(&[(0, 20, 3, 1), (0, 20, 9, 2), (0, 20, 4, 3)]);
    let lives = |batching| {
        let (_, course) = followed(&mut plain(batching, 1024), requests.clone(), true);
        course.first().unwrap().lives.iter().map(told).collect::<Vec<_>>()
    };
    let two = |batching| {
        let config = Config {
            batching,
            layout: Layout::Paged { block_tokens: 16 },
            slots: 1024,
            max_model_len: 512,
            max_num_seqs: 2,
        };
        let (_, course) = followed(&mut Plain::new(config).unwrap(), requests.clone(), true);
        course.first().unwrap().lives.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(
        two(Batching::Static { wait: Nanos::ZERO }),
        [
            "0: Queued 0, Prefill 0, Decode 1, end Some(3)",
            "1: Queued 0, Prefill 0, Decode 1, end Some(9)",
            "2: Queued 0, Prefill 9, Decode 10, end Some(13)"
        ]
    );
    assert_eq!(
        two(Batching::Continuous(Prefill::Whole { budget: None }))[2],
        "2: Queued 0, Prefill 3, Decode 4, end Some(7)"
    );
    assert_eq!(
        lives(Batching::Continuous(Prefill::Whole { budget: None }))[2],
        "2: Queued 0, Prefill 0, Decode 1, end Some(4)"
    );
}

#[test]
fn who_loses_its_blocks_computes_again() {
    // Ten blocks hold two requests of 64 tokens and 16 more of each, and not all they generate.
    let (_, course) = followed(&mut vllm(11), arrivals(&[(0, 64, 40, 1), (0, 64, 40, 2)]), true);
    let lives: Vec<String> = course.first().unwrap().lives.iter().map(told).collect();
    assert_eq!(lives[0], "0: Queued 0, Prefill 0, Decode 1, end Some(40)");
    assert_eq!(lives[1], "1: Queued 0, Prefill 0, Decode 1, Preempted 17, Prefill 40, Decode 41, end Some(63)");
}

#[test]
fn a_shared_prefix_is_held_by_others() {
    let (_, course) = followed(&mut vllm(100), arrivals(&[(0, 64, 30, 1), (3_000_000, 64, 30, 1)]), true);
    let window = course.first().unwrap();
    let both = window.moments.iter().find(|moment| moment.alone.len() == 2).unwrap();
    // The last block of the prompt is computed again, so that its logits are there: that one it holds alone.
    assert_eq!((both.others, both.alone[1].1), (48, 16), "{both:?}");
    assert_eq!(window.capacity, 99 * 16);
}

#[test]
fn many_are_taken_together() {
    let requests: Vec<_> = (0..600).map(|at| (at * 1_000, 30 + at as u32 % 40, 5 + at as u32 % 60, at)).collect();
    let (outcome, course) = followed(&mut vllm(2000), arrivals(&requests), true);
    assert_eq!(outcome.finished, 600);
    let (first, fullest) = (course.first().unwrap(), course.fullest().unwrap());
    for window in [&first, &fullest] {
        assert!(window.moments.len() <= MOMENTS && window.lives.len() <= LIVES, "{window:?}");
        assert!(window.moments.iter().all(|moment| moment.alone.len() <= RUNS));
        assert!(window.moments.iter().all(|moment| moment.alone.iter().all(|(first, _)| first % window.bundle == 0)));
    }
    assert!(first.bundle > 1 && fullest.fullness() >= first.fullness());
    assert_eq!(first.lives.iter().map(|life| life.number).collect::<Vec<_>>(), (0..24).collect::<Vec<_>>());
}

fn workload() -> impl Strategy<Value = Vec<(u64, u32, u32, u64)>> {
    prop::collection::vec((0u64..300_000_000, 1u32..120, 1u32..50, 1u64..6), 1..40).prop_map(|mut requests| {
        requests.sort_unstable();
        requests
    })
}

proptest! {
    #[test]
    fn jumping_follows_what_stepping_does(requests in workload(), blocks in 14u32..60) {
        let follow = |jumps| {
            let (outcome, course) = followed(&mut vllm(blocks), arrivals(&requests), jumps);
            format!("{outcome:?} {:?} {:?}", course.first(), course.fullest())
        };
        prop_assert_eq!(follow(true), follow(false));
    }

    #[test]
    fn lives_are_in_order_and_holders_hold_what_is_held(requests in workload(), blocks in 14u32..60, steady in any::<bool>()) {
        let batching = if steady { Batching::Continuous(Prefill::Chunked { budget: 64 }) } else { Batching::Static { wait: Nanos::ZERO } };
        for course in [
            followed(&mut vllm(blocks), arrivals(&requests), true).1,
            followed(&mut plain(batching, 1024), arrivals(&requests), true).1,
        ] {
            let window = course.first().unwrap();
            for life in &window.lives {
                prop_assert!(life.turns.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{}", told(life));
                prop_assert!(life.end.is_some_and(|end| end >= life.turns.last().unwrap().0), "{}", told(life));
                prop_assert!(life.turns.last().unwrap().1 == Phase::Decode, "{}", told(life));
            }
            for moment in &window.moments {
                let alone: u64 = moment.alone.iter().map(|(_, tokens)| tokens).sum();
                prop_assert!(alone + moment.others + moment.cached <= window.capacity, "{moment:?}");
                prop_assert!(moment.at <= window.end);
            }
            prop_assert!(window.moments.windows(2).all(|pair| pair[0].at < pair[1].at));
        }
    }
}
