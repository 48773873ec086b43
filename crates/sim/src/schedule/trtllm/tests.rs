use plimsoll_units::Nanos;
use proptest::prelude::*;

use super::{Chunking, Config, Invalid, Policy, TrtLlm};
use crate::cost::{Cost, Fixed};
use crate::schedule::testing::{Ask, Log, OWN, Schedule, Uneven, arrivals, ask};
use crate::{Outcome, Settings, Watch, run};

fn play<C: Cost, W: Watch>(config: Config, asks: &[Ask], mut cost: C, jumps: bool, watch: &mut W) -> Outcome {
    let mut scheduler = TrtLlm::new(config).unwrap();
    let settings = Settings { jumps, verify: true, ..Settings::default() };
    run(&mut scheduler, &mut cost, &mut arrivals(asks), watch, settings).unwrap()
}

fn schedule(config: Config, asks: &[Ask]) -> Schedule {
    let mut schedule = Schedule::default();
    play(config, asks, Fixed(Nanos::new(1)), true, &mut schedule);
    schedule
}

/// The cache of the engine's own tests: so many blocks of 10 tokens.
fn config(policy: Policy, blocks: u32, max_batch_size: u32) -> Config {
    Config { policy, max_batch_size, tokens_per_block: 10, enable_block_reuse: false, ..Config::new(blocks, 90) }
}

/// Checks who is scheduled from which step on, as the engine's tests write it down, and the number of steps.
#[track_caller]
fn check(config: Config, asks: &[Ask], expected: &[(usize, &[u64])], steps: usize) -> Schedule {
    let schedule = schedule(config, asks);
    let mut found: Vec<(usize, Vec<u64>)> = Vec::new();
    for (at, entries) in schedule.steps.iter().enumerate() {
        let mut who: Vec<u64> = entries.iter().map(|entry| entry.0).collect();
        who.sort_unstable();
        if found.last().is_none_or(|last| last.1 != who) {
            found.push((at, who));
        }
    }
    let expected: Vec<(usize, Vec<u64>)> = expected.iter().map(|&(at, who)| (at, who.to_vec())).collect();
    assert_eq!((found, schedule.steps.len()), (expected, steps), "{config:?}");
    schedule
}

const ALL: [Policy; 3] = [Policy::GuaranteedNoEvict, Policy::MaxUtilization, Policy::StaticBatch];

// The schedules that TensorRT-LLM's own tests expect, with their numbers: cpp/tests/unit_tests/batch_manager/
// capacitySchedulerTest.cpp (commit 2ebe19fc63fb), the name of the test above each.

#[test]
fn two_that_fit_run_together() {
    for policy in ALL {
        // SimpleShouldFit
        check(config(policy, 20, 2), &[ask(0, 10, 80), ask(0, 10, 80)], &[(0, &[0, 1])], 80);
        // SimpleShouldFitInChunk: 20, 20 and 10 tokens of each prompt.
        let chunked = Config { chunking: Some(Chunking::EqualProgress), max_num_tokens: 40, ..config(policy, 20, 2) };
        let schedule = check(chunked, &[ask(0, 50, 40), ask(0, 50, 40)], &[(0, &[0, 1])], 42);
        assert_eq!(schedule.steps[..4], [[(0, 20), (1, 20)], [(0, 20), (1, 20)], [(0, 10), (1, 10)], [(0, 1), (1, 1)]]);
    }
}

#[test]
fn who_might_not_finish_does_not_start() {
    let no_evict = config(Policy::GuaranteedNoEvict, 10, 4);
    // SimpleDoesntFitGuaranteedCompletion
    check(no_evict, &[ask(0, 10, 80), ask(0, 10, 80)], &[(0, &[0]), (80, &[1])], 160);
    // SimpleDoesntFitAddingNewRequestsGuaranteedCompletion
    let four = [ask(0, 10, 80), ask(0, 10, 80), ask(10, 10, 80), ask(10, 10, 80)];
    check(no_evict, &four, &[(0, &[0]), (80, &[1]), (160, &[2]), (240, &[3])], 320);
    // SimpleDoesntFitGuaranteedCompletionInChunk, and the same with requests that come later
    let chunked = Config { chunking: Some(Chunking::FirstComeFirstServed), max_num_tokens: 20, ..no_evict };
    let schedule = check(chunked, &[ask(0, 30, 60), ask(0, 30, 60)], &[(0, &[0]), (61, &[1])], 122);
    assert_eq!(schedule.steps[61..64], [[(1, 20)], [(1, 10)], [(1, 1)]]);
    let four = [ask(0, 30, 60), ask(0, 30, 60), ask(10, 30, 60), ask(10, 30, 60)];
    check(chunked, &four, &[(0, &[0]), (61, &[1]), (122, &[2]), (183, &[3])], 244);
}

#[test]
fn the_latest_is_paused_when_blocks_run_out() {
    let utilise = config(Policy::MaxUtilization, 10, 4);
    // SimpleDoesntFitMaxUtilization
    let schedule = check(utilise, &[ask(0, 10, 80), ask(0, 10, 80)], &[(0, &[0, 1]), (41, &[0]), (80, &[1])], 119);
    assert_eq!(schedule.steps[80], [(1, 51)], "its prompt and what it had generated");
    // SimpleDoesntFitPriorities
    let second_first = Ask { priority: -1, ..ask(0, 10, 80) };
    check(utilise, &[ask(0, 10, 80), second_first], &[(0, &[0, 1]), (41, &[1]), (80, &[0])], 119);
    // SimpleDoesntFitAddingNewRequestsMaxUtilization
    let four = [ask(0, 10, 80), ask(0, 10, 80), ask(10, 10, 80), ask(10, 10, 80)];
    let expected: &[(usize, &[u64])] = &[
        (0, &[0, 1]),
        (10, &[0, 1, 2, 3]),
        (21, &[0, 1]),
        (41, &[0]),
        (80, &[1, 2]),
        (90, &[1]),
        (119, &[2, 3]),
        (139, &[2]),
        (178, &[3]),
    ];
    check(utilise, &four, expected, 227);
    // SimpleDoesntFitAddingNewRequestsMaxUtilizationPriorities
    let prior = |priority| Ask { priority, ..ask(10, 10, 80) };
    let four = [ask(0, 10, 80), ask(0, 10, 80), prior(-1), prior(-2)];
    let expected: &[(usize, &[u64])] = &[
        (0, &[0, 1]),
        (10, &[0, 1, 2, 3]),
        (21, &[0, 2, 3]),
        (31, &[2, 3]),
        (51, &[3]),
        (90, &[2]),
        (129, &[0, 1]),
        (139, &[0]),
        (178, &[1]),
    ];
    check(utilise, &four, expected, 227);
    // SimpleDoesntFitMaxUtilizationInChunkedCache: the blocks of a whole prompt are taken with its first chunk
    let chunked = Config { chunking: Some(Chunking::FirstComeFirstServed), max_num_tokens: 40, ..utilise };
    check(chunked, &[ask(0, 70, 20), ask(0, 70, 20)], &[(0, &[0]), (21, &[1])], 42);
}

#[test]
fn a_static_batch_lets_nobody_join() {
    // SimpleFitsStaticBatch
    let three = [ask(0, 10, 80), ask(0, 10, 40), ask(0, 10, 80)];
    check(config(Policy::StaticBatch, 20, 2), &three, &[(0, &[0, 1]), (40, &[0]), (80, &[2])], 160);
}

#[test]
fn who_shares_a_prompt_waits_for_it() {
    let shared = |len, output| Ask { prompt: vec![(7, len)], ..ask(0, 0, output) };
    for policy in [Policy::MaxUtilization, Policy::GuaranteedNoEvict] {
        // DelayDuplicateRequest
        let reuse = |blocks| Config { enable_block_reuse: true, ..config(policy, blocks, 5) };
        let three = [shared(21, 2), shared(21, 2), shared(21, 2)];
        let schedule = check(reuse(20), &three, &[(0, &[0]), (1, &[0, 1, 2]), (2, &[1, 2])], 3);
        assert_eq!(schedule.reused, 40, "two blocks each");
        // DelayDuplicateRequestChunked
        let chunked = Config { chunking: Some(Chunking::FirstComeFirstServed), max_num_tokens: 20, ..reuse(20) };
        let schedule = check(chunked, &[shared(50, 40), shared(50, 40)], &[(0, &[0]), (3, &[0, 1]), (42, &[1])], 43);
        assert_eq!(schedule.reused, 40);
        // DelayFiveRequestsComplicated
        let five = [ask(0, 11, 80), ask(0, 21, 80), shared(11, 80), shared(21, 80), shared(31, 80)];
        let expected: &[(usize, &[u64])] =
            &[(0, &[0, 1, 2]), (1, &[0, 1, 2, 3]), (2, &[0, 1, 2, 3, 4]), (80, &[3, 4]), (81, &[4])];
        let schedule = check(Config { max_seq_len: 150, ..reuse(100) }, &five, expected, 82);
        assert_eq!(schedule.reused, 30);
    }
    // Static batches do not wait.
    let config = Config { enable_block_reuse: true, ..config(Policy::StaticBatch, 20, 3) };
    check(config, &[shared(21, 2), shared(21, 2), shared(21, 2)], &[(0, &[0, 1, 2])], 2);
}

#[test]
fn chunks_are_whole_blocks_but_the_last() {
    let chunked = |chunking| Config {
        chunking: Some(chunking),
        max_num_tokens: 35,
        max_seq_len: 100,
        ..config(Policy::GuaranteedNoEvict, 100, 9)
    };
    let asks = [ask(0, 24, 1), ask(0, 60, 1), ask(0, 3, 1)];
    let first = schedule(chunked(Chunking::FirstComeFirstServed), &asks);
    // Prompts that go on stand before those that end; 11 tokens are left after the first, of which 10 and then 1.
    assert_eq!(first.steps[..2], [vec![(1, 10), (0, 24)], vec![(1, 30), (2, 3)]]);
    let equal = schedule(chunked(Chunking::EqualProgress), &asks);
    assert_eq!(equal.steps[..2], [vec![(0, 20), (1, 10), (2, 3)], vec![(1, 30), (0, 4)]]);
}

#[test]
fn who_holds_everybody_up_is_told_what_it_lacks() {
    let chunked = Config {
        chunking: Some(Chunking::FirstComeFirstServed),
        max_num_tokens: 20,
        ..config(Policy::GuaranteedNoEvict, 10, 4)
    };
    // The second comes to stand before the first, which holds the 7 blocks of its prompt.
    let asks = [ask(0, 70, 10), Ask { priority: -1, ..ask(1, 30, 10) }];
    let mut scheduler = TrtLlm::new(chunked).unwrap();
    let (mut cost, mut watch) = (Fixed(Nanos::new(1)), Schedule::default());
    let error = run(&mut scheduler, &mut cost, &mut arrivals(&asks), &mut watch, Settings::default()).unwrap_err();
    let expected = "the first being number 1: prompt of 30 tokens, 0 generated, 10 asked for; it needs 4 blocks until it \
                    ends, and 3 of 10 are free";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn settings_are_checked() {
    let base = Config::new(100, 8192);
    assert_eq!(TrtLlm::new(Config { blocks: 0, ..base }).unwrap_err(), Invalid::Zero("the number of blocks"));
    assert_eq!(TrtLlm::new(Config { tokens_per_block: 0, ..base }).unwrap_err(), Invalid::Zero("tokens_per_block"));
    let small = Config { chunking: Some(Chunking::default()), max_num_tokens: 31, ..base };
    assert_eq!(TrtLlm::new(small).unwrap_err(), Invalid::Chunk { max_num_tokens: 31, tokens_per_block: 32 });
    let mut schedule = Schedule::default();
    let asks = [ask(0, 3000, 170), ask(0, 3169, 1), Ask { prompt: vec![(7, 8193)], ..ask(0, 0, 1) }];
    let outcome = play(base, &asks, Fixed(Nanos::new(1)), true, &mut schedule);
    assert_eq!((outcome.finished, outcome.refused, outcome.steps), (1, 2, 169));
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let one = (0..40u64, 0..3u64, 0..40u32, 1..30u32, 1..30u32, 0..8u32, 0..20u8);
    prop::collection::vec(one, 1..40).prop_map(|rows| {
        let mut at = 0;
        let of = |(gap, stream, shared, own, output, more, rank): (u64, u64, u32, u32, u32, u32, u8)| {
            at += gap;
            let priority = if rank == 0 { -1 } else { 0 };
            let prompt = vec![(stream, shared), (OWN, own)];
            Ask { at, prompt, output, most: output + more, priority, sample_of: None }
        };
        rows.into_iter().map(of).collect()
    })
}

fn configs() -> impl Strategy<Value = Config> {
    let policy = prop_oneof![Just(ALL[0]), Just(ALL[1]), Just(ALL[1]), Just(ALL[2])];
    let chunking = prop_oneof![
        Just((None, 110)),
        (17..120u32).prop_map(|tokens| (Some(Chunking::FirstComeFirstServed), tokens)),
        (17..120u32).prop_map(|tokens| (Some(Chunking::EqualProgress), tokens)),
    ];
    (policy, chunking, 2..17u32, 1..12u32, any::<bool>(), 0..20u32).prop_map(
        |(policy, (chunking, max_num_tokens), tokens_per_block, max_batch_size, enable_block_reuse, more)| Config {
            policy,
            max_batch_size,
            max_num_tokens,
            max_seq_len: 107,
            chunking,
            tokens_per_block,
            enable_block_reuse,
            blocks: 107_u32.div_ceil(tokens_per_block) + 1 + more,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn jumping_equals_stepping_and_everybody_is_served(mut config in configs(), mut asks in asks()) {
        if config.chunking.is_some() && config.policy != Policy::MaxUtilization {
            // Else a request that comes to stand before a prompt underway may hold it up for ever, as in the engine.
            asks.iter_mut().for_each(|ask| ask.priority = 0);
            config.enable_block_reuse &= config.policy == Policy::StaticBatch;
        }
        let (mut jumped, mut stepped, mut schedule) = (Log::default(), Log::default(), Schedule::default());
        let outcome = play(config, &asks, Uneven, true, &mut jumped);
        prop_assert_eq!(outcome, play(config, &asks, Uneven, false, &mut stepped));
        prop_assert_eq!(&jumped, &stepped);
        prop_assert_eq!(outcome, play(config, &asks, Uneven, true, &mut schedule));
        prop_assert_eq!((outcome.finished, outcome.refused), (asks.len() as u64, 0));
        let equal = asks.iter().all(|ask| ask.priority == 0) && !config.enable_block_reuse && config.chunking.is_none();
        prop_assert!(!equal || schedule.first.is_sorted(), "first come, first served: {:?}", schedule.first);
        prop_assert!(schedule.again <= schedule.lost, "only what was lost is computed again");
        prop_assert!(config.enable_block_reuse || schedule.again == schedule.lost);
        prop_assert!(config.policy == Policy::MaxUtilization || schedule.paused == 0, "nobody is paused");
        prop_assert!(config.enable_block_reuse || schedule.reused == 0);
    }
}
