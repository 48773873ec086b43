//! What must hold for every workload? Jumps change nothing, the books balance, every token is computed once, and nobody is
//! forgotten. A failure prints the seed that replays it.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use plimsoll_kv::{BlockId, Content, Group, Key, Reach, State};
use plimsoll_sim::cost::{Cost, Shape};
use plimsoll_sim::load::List;
use plimsoll_sim::schedule::Occupancy;
use plimsoll_sim::schedule::vllm::{Config, Policy, Rules, Vllm};
use plimsoll_sim::{Arrival, Intake, Outcome, Request, Requests, Settings, Slot, Step, Watch, run};
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

/// What is counted of one request's tokens, without looking at its preemptions.
#[derive(Clone, Copy, Debug, Default)]
struct Book {
    /// Tokens of it in the cache.
    position: u32,
    /// The most of them that ever were.
    reached: u32,
    /// Tokens that steps computed for it.
    computed: u64,
    /// Of those, below what was reached before.
    again: u64,
    /// Tokens beyond what was reached that a later look into the cache found.
    given: u64,
}

impl Book {
    fn find(&mut self, tokens: u32) {
        self.given += u64::from(tokens.saturating_sub(self.reached));
        (self.position, self.reached) = (tokens, self.reached.max(tokens));
    }

    fn compute(&mut self, context: u32, tokens: u32) {
        assert_eq!(self.position, context, "tokens are computed in order, each once");
        self.position += tokens;
        self.computed += u64::from(tokens);
        self.again += u64::from(self.position.min(self.reached).saturating_sub(context));
        self.reached = self.reached.max(self.position);
    }
}

/// Everything that can be seen of a run.
#[derive(Default)]
struct Eyes {
    steps: Vec<Seen>,
    gaps: Vec<(Nanos, u32)>,
    ended: Vec<String>,
    stretched: usize,
    /// Whether empty slots are never more than the blocks that are held: with one group.
    single: bool,
    /// Whether each token is followed: only stepping shows each batch.
    exact: bool,
    books: Vec<Book>,
    /// Whether nobody comes in before one who waits and is better.
    in_order: bool,
    by_priority: bool,
    waiting: BTreeSet<(i32, u64)>,
}

impl Eyes {
    fn key(&self, requests: &Requests, slot: Slot) -> (i32, u64) {
        let request = &requests[slot];
        (if self.by_priority { request.priority } else { 0 }, request.number)
    }

    /// Nobody starves: whoever comes in is better, by priority or by arrival, than all who stay outside.
    fn follow_queue(&mut self, step: &Step<'_>) {
        for &slot in &step.batch.preempted {
            self.waiting.insert(self.key(step.requests, slot));
        }
        for &(slot, _) in step.batch.new.iter().chain(&step.batch.resumed) {
            let key = self.key(step.requests, slot);
            assert!(self.waiting.remove(&key), "{key:?} comes in and did not wait");
        }
        for &(slot, _) in step.batch.new.iter().chain(&step.batch.resumed) {
            let (key, best) = (self.key(step.requests, slot), self.waiting.first());
            assert!(!self.in_order || best.is_none_or(|&best| key < best), "{key:?} overtook {best:?}");
        }
    }

    fn follow_tokens(&mut self, step: &Step<'_>) {
        let number = |slot: Slot| step.requests[slot].number as usize;
        for &(slot, found) in step.batch.new.iter().chain(&step.batch.resumed) {
            self.books[number(slot)].find(found);
        }
        for entry in &step.batch.entries {
            self.books[number(entry.slot)].compute(entry.context, entry.tokens);
        }
    }
}

impl Watch for Eyes {
    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        self.ended.push(format!("{} came, refused: {refused:?}", requests[slot].number));
        self.books.push(Book::default());
        if refused.is_none() {
            self.waiting.insert(self.key(requests, slot));
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        let shape = [u64::from(step.shape.decodes), step.shape.decode_context, step.shape.tokens()];
        self.steps.push((step.start, step.end, shape, step.occupancy, step.waiting, step.running));
        self.stretched += usize::from(step.stretched);
        if self.exact {
            self.follow_queue(step);
            self.follow_tokens(step);
        }
        let Occupancy { capacity, used, cached, wasted, .. } = step.occupancy;
        assert!(used + cached <= capacity && (wasted <= used || !self.single), "{:?}", step.occupancy);
    }

    fn gap(&mut self, gap: Nanos, count: u32) {
        self.gaps.push((gap, count));
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        let request: &Request = &requests[slot];
        assert_eq!(request.generated, request.output_tokens, "the output that was asked for");
        assert_eq!(request.content.len(), request.prompt_tokens + request.generated);
        if self.exact {
            let known = u64::from(request.prompt_tokens + request.generated) - 1;
            let book = self.books[request.number as usize];
            assert_eq!(book.again, request.recomputed_tokens, "only what was lost is computed again");
            assert_eq!(book.computed + book.given, known + book.again, "every token is computed once or found");
            let later = book.given - u64::from(request.cached_tokens);
            assert!(request.preemptions > 0 || book.again + later == 0, "{book:?}");
        }
        self.ended.push(format!("{now:?} {request:?}"));
    }
}

/// Whether the whole cache holds a request to its end, even if no window lets go of anything.
fn fits_alone(config: &Config, arrival: &Arrival) -> bool {
    let tokens = (arrival.prompt.len() + arrival.output_tokens).min(config.max_model_len);
    let needed: u32 = config.groups.iter().map(|group| tokens.div_ceil(group.block_tokens.get())).sum();
    // 0.11 takes a prompt as long as the longest sequence, and never computes its last token.
    needed < config.blocks && arrival.prompt.len() < config.max_model_len
}

/// What is left in the cache at the end: the free queue, and what each block is found by.
type Left = Vec<(BlockId, State, Option<Key>)>;

fn go(seed: u64, jumps: bool) -> Option<(Result<Outcome, String>, Eyes, Left)> {
    let mut dice = Dice(seed);
    let config = config(&mut dice);
    let mut scheduler = Vllm::new(config.clone()).ok()?;
    let rules = Rules::of(config.version).ok()?;
    let by_priority = config.policy == Policy::Priority;
    let mut eyes = Eyes {
        single: !jumps && !by_priority && config.groups.len() == 1,
        // 0.11 computes the tokens of some victims in vain and counts them as computed.
        exact: !(jumps || by_priority && rules.keeps_victims_tokens),
        // Without chunks 0.11 passes over prompts that are too long for the rest of a step.
        in_order: config.chunked_prefill || !rules.passes_over_long,
        by_priority,
        ..Eyes::default()
    };
    let arrivals = arrivals(&mut dice);
    // That release's victims can also carry more tokens than they have, and never come in again.
    let fits =
        !(by_priority && rules.keeps_victims_tokens) && arrivals.iter().all(|arrival| fits_alone(&config, arrival));
    let mut source = List::new(arrivals);
    let intake = Intake { ahead: seed.is_multiple_of(2), interval: (seed / 2 % 4) as u32 };
    let outcome = run(&mut scheduler, &mut Odd, &mut source, &mut eyes, Settings { jumps, verify: true, intake });
    let pool = scheduler.cache().pool();
    let left = pool.queue().map(|block| (block, pool.state(block), pool.key(block))).collect();
    if let Ok(outcome) = &outcome {
        assert_eq!(pool.held_blocks(), 0, "blocks leaked");
        assert_eq!(outcome.arrived, outcome.finished + outcome.refused, "nobody is forgotten");
    }
    if let Err(error) = &outcome {
        assert!(!fits, "{error}: each of them fits, with {config:?}");
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
        run(
            &mut scheduler,
            &mut Odd,
            &mut source,
            &mut eyes,
            Settings { jumps: true, verify: true, ..Settings::default() },
        )
        .unwrap();
        assert!(eyes.stretched * 10 > eyes.steps.len() * 9, "{} of {}", eyes.stretched, eyes.steps.len());
    }
}
