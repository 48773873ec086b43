use plimsoll_kv::Fit;
use plimsoll_units::Nanos;
use proptest::prelude::*;

use super::{Batching, Config, Invalid, Layout, Plain, Prefill};
use crate::cost::{Cost, Fixed};
use crate::schedule::Occupancy;
use crate::schedule::testing::{Ask, Log, Schedule, Uneven, arrivals, ask};
use crate::{Outcome, Settings, Watch, run};

struct Quiet;

impl Watch for Quiet {}

fn play<C: Cost, W: Watch>(config: Config, asks: &[Ask], mut cost: C, jumps: bool, watch: &mut W) -> Outcome {
    let mut plain = Plain::new(config).unwrap();
    let settings = Settings { jumps, verify: true, ..Settings::default() };
    run(&mut plain, &mut cost, &mut arrivals(asks), watch, settings).unwrap()
}

/// The time that fixed steps of a nanosecond take for all.
fn makespan(config: Config, asks: &[Ask]) -> u64 {
    let outcome = play(config, asks, Fixed(Nanos::new(1)), true, &mut Quiet);
    assert_eq!(outcome.finished, asks.len() as u64);
    outcome.end.get()
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let one = (0..40u64, 1..40u32, 1..30u32, 0..8u32, 0..3u8);
    prop::collection::vec(one, 1..40).prop_map(|rows| {
        let mut asks: Vec<Ask> = Vec::new();
        let mut at = 0;
        for (gap, prompt, output, more, kind) in rows {
            match asks.last().cloned() {
                Some(last) if kind == 0 => {
                    let sample_of = Some(last.sample_of.unwrap_or(asks.len() as u64 - 1));
                    asks.push(Ask { at, output, most: output + more, sample_of, ..last });
                }
                Some(_) | None => {
                    at += gap;
                    asks.push(Ask { most: output + more, ..ask(at, prompt, output) });
                }
            }
        }
        asks
    })
}

fn configs() -> impl Strategy<Value = Config> {
    let layout = prop_oneof![
        any::<bool>().prop_map(|best| Layout::Longest(if best { Fit::Best } else { Fit::First })),
        any::<bool>().prop_map(|best| Layout::Asked(if best { Fit::Best } else { Fit::First })),
        Just(Layout::Buddy),
        (1..20u32).prop_map(|block_tokens| Layout::Paged { block_tokens }),
        (1..20u32).prop_map(|block_tokens| Layout::Paged { block_tokens }),
    ];
    let batching = prop_oneof![
        (0..60u64).prop_map(|wait| Batching::Static { wait: Nanos::new(wait) }),
        Just(Batching::Continuous(Prefill::Whole { budget: None })),
        (80..200u32).prop_map(|budget| Batching::Continuous(Prefill::Whole { budget: Some(budget) })),
        (8..60u32).prop_map(|budget| Batching::Continuous(Prefill::Chunked { budget })),
    ];
    (layout, batching, 128..400u32, 1..9u32).prop_map(|(layout, batching, slots, max_num_seqs)| Config {
        batching,
        layout,
        slots,
        max_model_len: 80,
        max_num_seqs,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn jumping_equals_stepping_and_everybody_is_served(config in configs(), asks in asks()) {
        let (mut jumped, mut stepped, mut tokens) = (Log::default(), Log::default(), Schedule::default());
        let outcome = play(config, &asks, Uneven, true, &mut jumped);
        prop_assert_eq!(outcome, play(config, &asks, Uneven, false, &mut stepped));
        prop_assert_eq!(&jumped, &stepped);
        prop_assert_eq!(outcome, play(config, &asks, Uneven, true, &mut tokens));
        prop_assert_eq!((outcome.finished, outcome.refused), (asks.len() as u64, 0));
        prop_assert_eq!(tokens.lost, tokens.again, "only what was lost is computed again");
        prop_assert!(tokens.first.is_sorted(), "first come, first served: {:?}", tokens.first);
        let paged = matches!(config.layout, Layout::Paged { .. });
        prop_assert!(paged || tokens.lost == 0, "who holds a reservation never has to leave");
    }

    /// More memory never lowers throughput under static batching when all wait from the start, a step takes a fixed time
    /// and all outputs are equally long: a batch then costs the same whoever is in it, and taking as many as fit, in order,
    /// needs the fewest batches.
    #[test]
    fn more_memory_never_slows_equal_outputs(
        prompts in prop::collection::vec(1..60u32, 1..40), output in 1..20u32, small in 80..300u32, more in 1..300u32,
        seqs in 1..12u32, layout in 0..3u8,
    ) {
        let asks: Vec<Ask> = prompts.iter().map(|&prompt| ask(0, prompt, output)).collect();
        let layout = match layout {
            0 => Layout::Longest(Fit::First),
            1 => Layout::Asked(Fit::Best),
            _ => Layout::Asked(Fit::First),
        };
        let config = |slots| Config {
            batching: Batching::Static { wait: Nanos::ZERO }, layout, slots, max_model_len: 80, max_num_seqs: seqs,
        };
        prop_assert!(makespan(config(small + more), &asks) <= makespan(config(small), &asks));
    }

    /// With outputs of any length it holds between a memory of so many places and one of a multiple of them: every large
    /// batch is then a row of small ones, and lasts as long as the longest of them.
    #[test]
    fn times_the_memory_never_slows_equal_places(
        outputs in prop::collection::vec(1..20u32, 1..60), places in 1..6u32, times in 2..5u32,
    ) {
        let asks: Vec<Ask> = outputs.iter().map(|&output| ask(0, 10, output)).collect();
        let config = |places| Config {
            batching: Batching::Static { wait: Nanos::ZERO }, layout: Layout::Longest(Fit::First), slots: 40 * places,
            max_model_len: 40, max_num_seqs: 1000,
        };
        prop_assert!(makespan(config(places * times), &asks) <= makespan(config(places), &asks));
    }
}

#[test]
fn more_memory_can_slow_a_static_batch() {
    // The short request alone, then two long ones together: 1 + 100 steps. With a third place the short one takes a long
    // one along, and the other long one runs alone: 100 + 100.
    let asks = [ask(0, 20, 1), ask(0, 5, 100), ask(0, 5, 100)];
    let config = |slots| Config {
        batching: Batching::Static { wait: Nanos::ZERO },
        layout: Layout::Asked(Fit::First),
        slots,
        max_model_len: 200,
        max_num_seqs: 2,
    };
    assert_eq!(makespan(Config { max_num_seqs: 1, ..config(210) }, &asks), 201);
    let one_place = [ask(0, 150, 1), ask(0, 1, 100), ask(0, 1, 100)];
    assert_eq!(makespan(Config { max_num_seqs: 9, ..config(202) }, &one_place), 101);
    assert_eq!(makespan(Config { max_num_seqs: 9, ..config(252) }, &one_place), 200);
    assert_eq!(makespan(Config { max_num_seqs: 9, ..config(353) }, &one_place), 100);
}

#[test]
fn a_static_batch_lasts_as_long_as_its_longest_and_pads_the_others() {
    let config = Config {
        batching: Batching::Static { wait: Nanos::new(7) },
        layout: Layout::Longest(Fit::First),
        slots: 250,
        max_model_len: 100,
        max_num_seqs: 9,
    };
    let mut log = Log::default();
    // The third waits for the end although a place is free from the first step on; the wait is over long before.
    let outcome = play(config, &[ask(0, 10, 1), ask(2, 10, 5), ask(3, 10, 2)], Fixed(Nanos::new(1)), true, &mut log);
    let padding: Vec<u32> = log.steps.iter().map(|step| step.5.padding).collect();
    assert_eq!(padding, [0, 1, 1, 1, 1, 0, 0]);
    assert_eq!(log.steps[0].0, Nanos::new(7), "the first waited for company");
    assert_eq!(outcome.end, Nanos::new(14));
    let of =
        |used, wasted, reserved, stranded| Occupancy { capacity: 250, used, cached: 0, wasted, reserved, stranded };
    // Two reservations of 100: 11 and 15 tokens were asked for, 10 of each computed; 50 slots are of no use to the third.
    assert_eq!(log.steps[0].2, of(200, 200 - 26, 6, 50));
    // The first ended: its reservation stays, wasted.
    assert_eq!(log.steps[1].2, of(200, 200 - 15, 4, 50));
    assert_eq!(log.steps[5].2, of(100, 100 - 12, 2, 0));
}

#[test]
fn samples_share_their_prompt_until_they_write() {
    let config = Config {
        batching: Batching::Continuous(Prefill::Whole { budget: None }),
        layout: Layout::Paged { block_tokens: 16 },
        slots: 160,
        max_model_len: 100,
        max_num_seqs: 9,
    };
    let sample = |at| Ask { sample_of: Some(0), ..ask(at, 24, 12) };
    let mut log = Log::default();
    play(config, &[ask(0, 24, 12), sample(0), sample(2)], Fixed(Nanos::new(1)), true, &mut log);
    let of = |blocks: u64, tokens: u64| (blocks * 16, blocks * 16 - tokens);
    let found: Vec<(u64, u64)> = log.steps.iter().map(|step| (step.2.used, step.2.wasted)).collect();
    // The prompt once; each sample's copy of its last 8 tokens; the third's, which came later; their third blocks.
    assert_eq!(found[0], of(2, 24));
    assert_eq!(found[1], of(3, 16 + 2 * 9));
    assert_eq!(found[2], of(4, 16 + 2 * 10 + 8));
    assert_eq!(found[9], of(6, 16 + 2 * 17 + 15));
    let computed: u64 = log.steps.iter().map(|step| step.5.tokens()).sum();
    assert_eq!(computed, (24 + 11) + 2 * (1 + 11));
}

#[test]
fn settings_that_could_hold_a_request_up_are_refused() {
    let base = Config {
        batching: Batching::Continuous(Prefill::Whole { budget: None }),
        layout: Layout::Paged { block_tokens: 16 },
        slots: 160,
        max_model_len: 100,
        max_num_seqs: 9,
    };
    let error = |config| Plain::new(config).unwrap_err();
    let chunked = |budget| Batching::Continuous(Prefill::Chunked { budget });
    let whole = |budget| Batching::Continuous(Prefill::Whole { budget: Some(budget) });
    let room = |needed, largest| Invalid::Room { max_model_len: 100, needed, largest };
    for (config, expected) in [
        (Config { max_num_seqs: 0, ..base }, Invalid::Zero("max_num_seqs")),
        (Config { max_model_len: 0, ..base }, Invalid::Zero("max_model_len")),
        (Config { layout: Layout::Paged { block_tokens: 0 }, ..base }, Invalid::Zero("block_tokens")),
        (Config { slots: 111, ..base }, room(112, 96)),
        (Config { slots: 99, layout: Layout::Asked(Fit::First), ..base }, room(100, 99)),
        (Config { slots: 127, layout: Layout::Buddy, ..base }, room(128, 64)),
        (Config { batching: chunked(8), ..base }, Invalid::Budget { budget: 8, name: "max_num_seqs", least: 9 }),
        (Config { batching: whole(99), ..base }, Invalid::Budget { budget: 99, name: "max_model_len", least: 100 }),
    ] {
        assert_eq!(error(config), expected);
    }
    let mut log = Log::default();
    let outcome = play(base, &[ask(0, 100, 1), ask(0, 90, 20)], Fixed(Nanos::new(1)), true, &mut log);
    assert_eq!((outcome.refused, outcome.finished, outcome.steps), (1, 1, 10), "one is cut");
}
