//! What must hold for every workload? Jumps change nothing, the books balance, every token is computed once, and nobody is
//! forgotten. A failure prints the seed that replays it.

use std::num::NonZeroU32;

use plimsoll_kv::{BlockId, Content, Group, Key, Reach, State};
use plimsoll_sim::cost::{Cost, Shape};
use plimsoll_sim::load::List;
use plimsoll_sim::schedule::Occupancy;
use plimsoll_sim::schedule::vllm::{Config, Policy, Vllm};
use plimsoll_sim::{Arrival, Outcome, Request, Requests, Settings, Slot, Step, Watch, run};
use plimsoll_units::Nanos;
use proptest::prelude::*;

/// Numbers from a seed (splitmix64, Sebastiano Vigna, public domain).
struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        (self.word() % u64::from(end)) as u32
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u32) as usize]
    }

    fn size(&mut self, most: u32) -> NonZeroU32 {
        NonZeroU32::new(1 + self.below(most)).expect("one more than nothing")
    }
}

/// A cost that depends on everything that a step is told about.
struct Odd;

impl Cost for Odd {
    fn step(&mut self, shape: &Shape) -> Nanos {
        let chunks: u64 =
            shape.chunks.iter().map(|chunk| u64::from(chunk.tokens) * 31 + u64::from(chunk.context)).sum();
        Nanos::new(1000 + chunks + 17 * u64::from(shape.decodes) + shape.decode_context + 3 * shape.decode_windowed)
    }

    fn window(&self) -> Option<u32> {
        Some(40)
    }
}

fn config(dice: &mut Dice) -> Config {
    let version = dice.one(&["0.11.0", "0.13.0", "0.18.0", "0.24.0", "0.30.0", "0.33.0"]);
    let mut config = Config::new(version.parse().expect("a version"), 8 + dice.below(120));
    let block_tokens = dice.size(20);
    let reach = |dice: &mut Dice| match dice.below(4) {
        0 | 1 => Reach::Full,
        2 => Reach::Sliding { window: dice.size(60) },
        _ => Reach::Chunked { chunk: dice.size(60) },
    };
    let modern = version != "0.11.0" && version != "0.13.0";
    config.groups = match dice.below(3) {
        0 => vec![Group { reach: Reach::Full, block_tokens }],
        1 => vec![Group { reach: reach(dice), block_tokens }],
        _ if modern => (0..1 + dice.below(3)).map(|_| Group { reach: reach(dice), block_tokens }).collect(),
        _ => vec![Reach::Full, Reach::Sliding { window: dice.size(60) }]
            .into_iter()
            .map(|reach| Group { reach, block_tokens })
            .collect(),
    };
    config.prefix_caching = dice.below(3) > 0;
    config.max_seqs = 1 + dice.below(12);
    config.max_batched_tokens = 4 + dice.below(100);
    config.max_model_len = 20 + dice.below(400);
    config.chunked_prefill = dice.below(4) > 0 || config.max_batched_tokens < config.max_model_len;
    config.policy = dice.one(&[Policy::Fcfs, Policy::Fcfs, Policy::Priority]);
    config.long_prefill_token_threshold = dice.one(&[0, 0, 1, 7, 30]);
    config.reserve_full = dice.one(&[None, Some(false), Some(true)]);
    if version == "0.33.0" {
        config.prefill_interval = dice.one(&[1, 1, 1, 3]);
        config.retention = dice.one(&[None, Some(0), Some(block_tokens.get() * 2)]);
        config.watermark = dice.one(&[0.0, 0.0, 0.1]);
        config.adaptive_threshold = dice.below(3) == 0;
    }
    config
}

fn arrivals(dice: &mut Dice) -> Vec<Arrival> {
    let pace = dice.one(&[1_u32, 2_000, 20_000, 100_000]);
    let mut now = 0;
    let count = 1 + dice.below(30);
    let mut prompts: Vec<Content> = Vec::new();
    (0..u64::from(count))
        .map(|number| {
            now += u64::from(dice.below(pace));
            let mut prompt = Content::new();
            if dice.below(2) == 0 {
                prompt.push(u64::from(dice.below(3)), 0, 1 + dice.below(60));
            }
            if dice.below(3) == 0 && !prompts.is_empty() {
                let before = prompts[dice.below(prompts.len() as u32) as usize].clone();
                prompt.extend(&before);
            }
            prompt.push(100 + number, 0, 1 + dice.below(80));
            let output_tokens = 1 + dice.one(&[0, 10, 100]) + dice.below(40);
            // A later turn repeats the prompt and what was answered.
            let mut turn = prompt.clone();
            turn.push(1000 + number, 0, output_tokens);
            prompts.push(turn);
            Arrival {
                at: Nanos::new(now),
                prompt,
                output_tokens,
                max_tokens: output_tokens,
                output_stream: 1000 + number,
                priority: dice.below(3) as i32,
                sample_of: None,
                mark: number,
            }
        })
        .collect()
}

/// What is seen of one step: its begin and end, its shape's sizes, the cache, who waits and runs.
type Seen = (Nanos, Nanos, [u64; 3], Occupancy, usize, usize);

/// Everything that can be seen of a run.
#[derive(Default)]
struct Eyes {
    steps: Vec<Seen>,
    gaps: Vec<(Nanos, u32)>,
    ended: Vec<String>,
    computed: Vec<u64>,
    stretched: usize,
    laws: bool,
}

impl Watch for Eyes {
    fn arrived(&mut self, requests: &Requests, slot: Slot, _refused: Option<&str>) {
        self.ended.push(format!("{} came, refused: {_refused:?}", requests[slot].number));
        self.computed.push(0);
    }

    fn step(&mut self, step: &Step<'_>) {
        let shape = [u64::from(step.shape.decodes), step.shape.decode_context, step.shape.tokens()];
        self.steps.push((step.start, step.end, shape, step.occupancy, step.waiting, step.running));
        self.stretched += usize::from(step.stretched);
        for entry in &step.batch.entries {
            self.computed[step.requests[entry.slot].number as usize] += u64::from(entry.tokens);
        }
        let Occupancy { capacity, used, cached, wasted, .. } = step.occupancy;
        assert!(used + cached <= capacity && (wasted <= used || !self.laws), "{:?}", step.occupancy);
    }

    fn gap(&mut self, gap: Nanos, count: u32) {
        self.gaps.push((gap, count));
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        let request: &Request = &requests[slot];
        assert_eq!(request.generated, request.output_tokens, "the output that was asked for");
        assert_eq!(request.content.len(), request.prompt_tokens + request.generated);
        if self.laws {
            let known = u64::from(request.content.len()) - 1 - u64::from(request.cached_tokens);
            let computed = self.computed[request.number as usize];
            // A preempted request may find some of what it lost, and some of what others computed meanwhile.
            if request.preemptions == 0 {
                assert_eq!(computed, known, "every token is computed once");
            } else {
                assert!(computed <= known + request.recomputed_tokens, "only what was lost is computed again");
            }
        }
        self.ended.push(format!("{now:?} {request:?}"));
    }
}

/// What is left in the cache at the end: the free queue, and what each block is found by.
type Left = Vec<(BlockId, State, Option<Key>)>;

fn go(seed: u64, jumps: bool) -> Option<(Result<Outcome, String>, Eyes, Left)> {
    let mut dice = Dice(seed);
    let config = config(&mut dice);
    let mut scheduler = Vllm::new(config.clone()).ok()?;
    // Only stepping shows each batch; and 0.11 computes some tokens in vain by design.
    let laws = !jumps && config.policy == Policy::Fcfs && config.groups.len() == 1;
    let mut eyes = Eyes { laws, ..Eyes::default() };
    let mut source = List::new(arrivals(&mut dice));
    let outcome = run(&mut scheduler, &mut Odd, &mut source, &mut eyes, Settings { jumps, verify: true });
    let pool = scheduler.cache().pool();
    let left = pool.queue().map(|block| (block, pool.state(block), pool.key(block))).collect();
    if let Ok(outcome) = &outcome {
        assert_eq!(pool.held_blocks(), 0, "blocks leaked");
        assert_eq!(outcome.arrived, outcome.finished + outcome.refused, "nobody is forgotten");
    }
    Some((outcome.map_err(|error| error.to_string()), eyes, left))
}

/// Gaps of one length that are seen one after the other count together.
fn together(gaps: &[(Nanos, u32)]) -> Vec<(Nanos, u32)> {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    sorted.dedup_by(|next, first| {
        let same = next.0 == first.0;
        if same {
            first.1 += next.1;
        }
        same
    });
    sorted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn jumping_changes_nothing_and_the_books_balance(seed: u64) {
        let Some((jumped, seen, left)) = go(seed, true) else { return Ok(()) };
        let (stepped, every, rest) = go(seed, false).unwrap();
        prop_assert_eq!(&seen.ended, &every.ended);
        for (at, (jump, step)) in seen.steps.iter().zip(&every.steps).enumerate() {
            prop_assert_eq!(jump, step, "step {}", at);
        }
        prop_assert_eq!(jumped, stepped);
        prop_assert_eq!(together(&seen.gaps), together(&every.gaps));
        prop_assert_eq!(left, rest);
    }
}

#[test]
fn most_steps_of_a_long_decode_are_jumped_over() {
    let group = Group { reach: Reach::Full, block_tokens: NonZeroU32::new(16).unwrap() };
    for (caching, waits) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut config = Config::new("0.33.0".parse().unwrap(), if waits { 100 } else { 400 });
        config.groups = vec![group];
        config.prefix_caching = caching;
        let arrivals = (0..8).map(|number| {
            let mut prompt = Content::new();
            prompt.push(number, 0, 100);
            let (output_tokens, output_stream) = (200, 100 + number);
            let (at, sample_of) = (Nanos::ZERO, None);
            Arrival { at, prompt, output_tokens, max_tokens: 200, output_stream, priority: 0, sample_of, mark: 0 }
        });
        let mut eyes = Eyes::default();
        let mut scheduler = Vllm::new(config).unwrap();
        let mut source = List::new(arrivals.collect());
        run(&mut scheduler, &mut Odd, &mut source, &mut eyes, Settings { jumps: true, verify: true }).unwrap();
        assert!(eyes.stretched * 10 > eyes.steps.len() * 9, "{} of {}", eyes.stretched, eyes.steps.len());
    }
}
