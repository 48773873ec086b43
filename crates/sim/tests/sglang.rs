//! Does SGLang's scheduler keep its laws, and does a run that jumps do what one that steps does? Thousands of small random
//! workloads; a failure prints the seed that replays it.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::num::NonZeroU32;

use plimsoll_kv::Content;
use plimsoll_kv::radix::{Eviction, SplitAge};
use plimsoll_sim::cost::{Cost, Shape};
use plimsoll_sim::load::List;
use plimsoll_sim::schedule::Occupancy;
use plimsoll_sim::schedule::sglang::{Config, Policy, Retraction, Sglang};
use plimsoll_sim::{Arrival, Error, Intake, Outcome, Requests, Settings, Slot, Step, Watch, run};
use plimsoll_units::Nanos;

/// Random words from a seed (SplitMix64).
struct Words(u64);

impl Words {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.word() % limit
    }

    fn between(&mut self, low: u64, high: u64) -> u32 {
        (low + self.below(high - low + 1)) as u32
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn config(words: &mut Words) -> Config {
    let page = [1, 1, 4, 16][words.below(4) as usize];
    let chunk = [None, Some(16), Some(64), Some(256)][words.below(4) as usize];
    let mut config = Config::new(u64::from(words.between(120, 1500)), words.between(1, 12), chunk);
    config.page_size = NonZeroU32::new(page).unwrap();
    config.max_prefill_tokens = words.between(20, 600);
    config.prefill_max_requests = words.one_in(6).then(|| words.between(1, 3));
    config.schedule_policy = [Policy::Fcfs, Policy::Lpm, Policy::Lof, Policy::DfsWeight][words.below(4) as usize];
    config.schedule_conservativeness = [1.0, 0.0, 0.3, 2.0][words.below(4) as usize];
    config.enable_mixed_chunk = words.one_in(4);
    config.disable_radix_cache = words.one_in(4);
    config.radix_eviction_policy = ["lru", "lru", "lfu", "fifo", "mru", "filo", "slru", "priority", "tlru"]
        [words.below(9) as usize]
        .parse()
        .unwrap();
    if words.one_in(9) {
        config.radix_eviction_policy = Eviction::Tlru { threshold: 40, next_prompt: 10 };
    }
    config.split_age = if words.one_in(3) { SplitAge::Fresh } else { SplitAge::Inherited };
    config.enable_priority_scheduling = words.one_in(3);
    config.disable_priority_preemption = words.one_in(3);
    config.schedule_low_priority_values_first = words.one_in(2);
    config.priority_scheduling_preemption_threshold = words.between(0, 3) as i32;
    config.retraction_policy = if words.one_in(3) { Retraction::Priority } else { Retraction::Length };
    config.prefill_decode_interval = if words.one_in(5) { words.between(1, 4) } else { 0 };
    config.prefill_decode_interval_min_bs = words.between(0, 3);
    config.ignore_eos = words.one_in(4);
    config.enable_overlap = words.one_in(2);
    config
}

fn arrivals(words: &mut Words) -> Vec<Arrival> {
    let count = words.between(1, 40);
    let spread = [1, 2000, 40_000][words.below(3) as usize];
    let mut at = 0;
    let mut told: Vec<Content> = Vec::new();
    (0..count)
        .map(|number| {
            at += words.below(spread);
            let mut prompt = Content::new();
            if words.one_in(3) && !told.is_empty() {
                // A further turn of a conversation: what was said, the answer, and something new.
                prompt = told[words.below(told.len() as u64) as usize].clone();
            } else {
                for _ in 0..words.below(3) {
                    prompt.push(words.below(4), 0, words.between(1, 60));
                }
            }
            prompt.push(1000 + u64::from(number), 0, words.between(1, 80));
            let output_tokens = words.between(1, 60);
            let output_stream = 5000 + u64::from(number);
            let mut answered = prompt.clone();
            answered.push(output_stream, 0, output_tokens);
            told.push(answered);
            Arrival {
                at: Nanos::new(at),
                prompt,
                output_tokens,
                max_tokens: output_tokens + words.below(2) as u32 * words.between(0, 300),
                output_stream,
                priority: words.below(6) as i32,
                sample_of: None,
                mark: u64::from(number),
            }
        })
        .collect()
}

/// A time that depends on what is computed.
struct Weighed;

impl Cost for Weighed {
    fn step(&mut self, shape: &Shape) -> Nanos {
        let chunks: u64 = shape.chunks.iter().map(|chunk| u64::from(chunk.tokens) * 3 + u64::from(chunk.context)).sum();
        Nanos::new(50 + chunks + u64::from(shape.decodes) * 2 + shape.decode_context / 16)
    }
}

/// Notes all that happens.
#[derive(Debug, Default, PartialEq)]
struct Notes {
    steps: Vec<Noted>,
    ends: Vec<Ended>,
    refused: Vec<u64>,
    /// Steps within stretches; the one thing that jumping changes.
    stretched: usize,
}

#[derive(Debug, PartialEq)]
struct Noted {
    time: (Nanos, Nanos),
    occupancy: Occupancy,
    requests: (usize, usize, u32),
    tokens: (u64, u64),
}

#[derive(Debug, PartialEq)]
struct Ended {
    number: u64,
    times: (Option<Nanos>, Option<Nanos>, Nanos),
    tokens: (u32, u32),
    lost: (u32, u64),
}

impl Watch for Notes {
    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        if refused.is_some() {
            self.refused.push(requests[slot].number);
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        let Step { start, end, occupancy, waiting, running, shape, .. } = step;
        assert!(occupancy.used + occupancy.cached <= occupancy.capacity && occupancy.wasted <= occupancy.used);
        let (tokens, context) = (shape.tokens(), shape.decode_context);
        self.stretched += usize::from(step.stretched);
        self.steps.push(Noted {
            time: (*start, *end),
            occupancy: *occupancy,
            requests: (*waiting, *running, shape.decodes),
            tokens: (tokens, context),
        });
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        let end = &requests[slot];
        assert_eq!((end.generated, end.last_token), (end.output_tokens, now), "what was asked for is generated");
        self.ends.push(Ended {
            number: end.number,
            times: (end.first_token, end.scheduled, now),
            tokens: (end.generated, end.cached_tokens),
            lost: (end.preemptions, end.recomputed_tokens),
        });
    }
}

fn simulate(seed: u64, settings: Settings) -> (Result<Outcome, Error>, Notes, Sglang) {
    let mut words = Words(seed);
    let mut engine = Sglang::new(config(&mut words)).unwrap();
    let mut source = List::new(arrivals(&mut words));
    let mut notes = Notes::default();
    let outcome = run(&mut engine, &mut Weighed, &mut source, &mut notes, settings);
    (outcome, notes, engine)
}

/// Returns how many requests lost their places, how many tokens were cached, and how many steps were within stretches.
fn check(seed: u64) -> (u64, u64, usize) {
    let intake = Intake { ahead: seed.is_multiple_of(2), interval: (seed / 2 % 4) as u32 };
    let (outcome, stepped, engine) = simulate(seed, Settings { jumps: false, verify: true, intake });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        // Retracted, a request may need a page more than when it came, and then never passes admission by length.
        Err(Error::Stuck { .. }) if engine.config().ignore_eos && engine.config().disable_radix_cache => {
            return (0, 0, 0);
        }
        // Two that take each other's places lose each time the token that was in flight.
        Err(Error::Stuck { .. }) if engine.config().enable_overlap && engine.config().enable_priority_scheduling => {
            return (0, 0, 0);
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(outcome.finished + outcome.refused, outcome.arrived, "nobody is forgotten");
    let (free, cached) = engine.available();
    let pool = engine.config().max_total_tokens / u64::from(engine.config().page_size.get());
    assert_eq!(free + cached, pool * u64::from(engine.config().page_size.get()), "all is given back");
    let (jumped_outcome, mut jumped, jumper) = simulate(seed, Settings { jumps: true, verify: true, intake });
    assert_eq!(jumped_outcome.unwrap(), outcome, "a jump does what steps do");
    let stretched = std::mem::take(&mut jumped.stretched);
    assert_eq!(jumped, stepped, "a jump does what steps do");
    assert_eq!(jumper.available(), engine.available());
    assert_eq!(jumper.new_token_ratio().to_bits(), engine.new_token_ratio().to_bits());
    let lost = stepped.ends.iter().map(|end| u64::from(end.lost.0)).sum();
    (lost, stepped.ends.iter().map(|end| u64::from(end.tokens.1)).sum(), stretched)
}

#[test]
fn random_workloads_keep_the_laws_jumping_or_stepping() {
    let (mut lost, mut cached, mut stretched) = (0, 0, 0);
    for seed in 0..3000 {
        match std::panic::catch_unwind(|| check(seed)) {
            Ok(found) => {
                lost += found.0;
                cached += found.1;
                stretched += found.2;
            }
            Err(why) => {
                eprintln!("replay with seed {seed}: {:?}", config(&mut Words(seed)));
                std::panic::resume_unwind(why);
            }
        }
    }
    // The workloads are such that all of it happens.
    assert!(lost > 300 && cached > 10_000 && stretched > 10_000, "{lost} {cached} {stretched}");
}
