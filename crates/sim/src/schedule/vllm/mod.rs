//! How does vLLM form a batch? Its V1 scheduler: one token budget a step, running requests first, then waiting ones, the
//! prefix cache asked for each, and the last request's blocks taken away when there are too few.

mod admit;
mod cadence;
mod config;
mod queue;
mod rules;
mod running;
mod stretch;
mod trail;

use plimsoll_kv::{BlockHash, Group, Hit, Paged, Seat};
use plimsoll_units::Nanos;

pub use config::{Config, Policy};
pub use rules::Rules;

use self::cadence::Cadence;
use self::queue::Queue;
use self::stretch::Stretch;
use self::trail::Trail;
use super::{Batch, Occupancy, Refusal, Scheduler};
use crate::{Error, Requests, Slot};

/// vLLM's scheduler with its paged cache.
///
/// ```
/// use plimsoll_sim::schedule::vllm::{Config, Vllm};
/// let config = Config::new("0.33.0".parse().unwrap(), 26_312);
/// assert!(Vllm::new(config).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Vllm {
    config: Config,
    rules: Rules,
    cache: Paged,
    waiting: Queue,
    running: Vec<Runner>,
    /// By slot.
    waiters: Vec<Waiter>,
    /// By seat.
    seated: Vec<Seated>,
    /// Most blocks that admission asks for in each group; empty where it asks for all.
    caps: Vec<u32>,
    threshold: u32,
    watermark: u32,
    /// Tokens' worth of slots in held blocks beyond the sequences' ends.
    slack: i64,
    /// Running requests that ended and are still in the list.
    ended: usize,
    /// Where the next ended one is looked for.
    cursor: usize,
    probe: Probe,
    passed: Vec<Slot>,
    cadence: Cadence,
    stretch: Stretch,
}

/// A running request, as far as each step needs it.
#[derive(Clone, Copy, Debug)]
struct Runner {
    slot: Slot,
    /// `None` once it ended.
    seat: Option<Seat>,
    /// Tokens in the cache, those of the step that is being formed included.
    computed: u32,
    /// Tokens that will be known when that step is over.
    tokens: u32,
    /// Whether its last step left some of its tokens to compute.
    partial: bool,
    /// Below so many computed tokens a step of one token changes nothing in the cache.
    due: u32,
}

/// What is kept of a waiting request.
#[derive(Clone, Copy, Debug, Default)]
struct Waiter {
    /// Whether it ran before.
    preempted: bool,
    /// Tokens that count as computed without blocks for them (0.11 only).
    carried: u32,
    /// Priority and number: whoever has the greatest loses its blocks first under priorities.
    key: (i32, u64),
}

/// What is kept of a running request beside its blocks.
#[derive(Clone, Debug)]
struct Seated {
    trail: Trail,
    prompt: u32,
    junction: u32,
}

/// What was last looked up for a waiting request.
#[derive(Clone, Debug)]
struct Probe {
    /// Number of the request whose hashes `trail` holds.
    number: Option<u64>,
    trail: Trail,
    hit: Hit,
}

impl Vllm {
    /// Makes an idle scheduler.
    ///
    /// # Errors
    /// [`Error::Settings`] for settings that the release refuses or that are not known.
    pub fn new(config: Config) -> Result<Self, Error> {
        let rules = config.rules()?;
        let manner = plimsoll_kv::Manner { retention: config.retention, ..rules.manner };
        let cache = Paged::new(config.blocks, &config.groups, config.prefix_caching, manner);
        let block = cache.hash_tokens();
        Ok(Vllm {
            caps: config.caps(&rules),
            threshold: config.threshold(&rules),
            watermark: if rules.has_watermark { (config.watermark * f64::from(config.blocks)) as u32 } else { 0 },
            waiting: Queue::new(config.policy),
            cache,
            rules,
            running: Vec::new(),
            waiters: Vec::new(),
            seated: Vec::new(),
            slack: 0,
            ended: 0,
            cursor: 0,
            probe: Probe { number: None, trail: Trail::new(block), hit: Hit::new() },
            passed: Vec::new(),
            cadence: Cadence::new(config.prefill_interval),
            stretch: Stretch::default(),
            config,
        })
    }

    /// Returns the settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the cache.
    pub const fn cache(&self) -> &Paged {
        &self.cache
    }

    fn groups(&self) -> i64 {
        self.counted().count() as i64
    }

    /// Returns the groups whose empty slots are counted: those with the smallest blocks, which hold tokens.
    fn counted(&self) -> impl Iterator<Item = (usize, &Group)> {
        let unit = self.cache.hash_tokens();
        self.config.groups.iter().enumerate().filter(move |(_, group)| group.block_tokens.get() == unit)
    }

    /// Returns the most tokens of one request in the next step, 0 for no limit.
    fn threshold_now(&self) -> u32 {
        let known = (self.running.len() + self.waiting.len()) as u64;
        if self.threshold == 0 || known <= 1 && self.rules.spares_lone_prefill {
            return 0;
        }
        let share = u64::from(self.config.max_batched_tokens) / known.max(1);
        if self.config.adaptive_threshold { self.threshold.max(share as u32) } else { self.threshold }
    }

    /// Returns the tokens' worth of slots of a request's blocks, those let go counted.
    fn room(&self, seat: Seat) -> i64 {
        self.counted()
            .map(|(at, group)| self.cache.table(seat, at).len() as i64 * i64::from(group.block_tokens.get()))
            .sum()
    }

    /// Frees a request's blocks.
    fn vacate(&mut self, seat: Seat, computed: u32) {
        self.slack -= self.room(seat) - self.groups() * i64::from(computed);
        self.cache.close(seat);
    }
}

impl Seated {
    fn hashes(&mut self, blocks: u32) -> &[BlockHash] {
        self.trail.go_on(blocks)
    }
}

impl Scheduler for Vllm {
    fn add(&mut self, slot: Slot, requests: &Requests) -> Result<(), Refusal> {
        if let Some(why) = self.config.refusal(&self.rules, &requests[slot]) {
            return Err(Refusal { why });
        }
        if slot.index() >= self.waiters.len() {
            self.waiters.resize(slot.index() + 1, Waiter::default());
        }
        let key = (requests[slot].priority, requests[slot].number);
        self.waiters[slot.index()] = Waiter { key, ..Waiter::default() };
        self.waiting.push(slot, requests);
        Ok(())
    }

    fn schedule(&mut self, _now: Nanos, requests: &mut Requests, batch: &mut Batch) {
        debug_assert_eq!(self.ended, 0, "complete() comes before the next step");
        self.cursor = 0;
        let threshold = self.threshold_now();
        let mut budget = self.config.budget();
        self.cadence.begin(self.running.iter().any(|runner| !runner.partial));
        if self.stretch.take_halfway() {
            self.resume_halfway(batch, &mut budget);
        } else {
            self.step_running(requests, batch, threshold, &mut budget);
        }
        if batch.preempted.is_empty() {
            self.admit(requests, batch, threshold, &mut budget);
            self.cadence.admitted(self.waiting.len());
        }
        self.cadence.end(!batch.entries.is_empty());
    }

    fn finish(&mut self, slot: Slot, _requests: &Requests) {
        let count = self.running.len();
        for place in (self.cursor..count).chain(0..self.cursor.min(count)) {
            let runner = &mut self.running[place];
            if runner.slot == slot
                && let Some(seat) = runner.seat.take()
            {
                let computed = runner.computed;
                self.cursor = place + 1;
                self.ended += 1;
                self.vacate(seat, computed);
                return;
            }
        }
    }

    fn complete(&mut self, _requests: &Requests, _batch: &Batch) {
        if self.ended > 0 {
            self.running.retain(|runner| runner.seat.is_some());
            self.ended = 0;
        }
    }

    fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn running(&self) -> usize {
        self.running.len() - self.ended
    }

    fn head(&self) -> Option<Slot> {
        self.waiting.peek()
    }

    fn shortage(&mut self, requests: &Requests) -> Option<String> {
        self.lack(requests)
    }

    fn longest(&self) -> u32 {
        self.config.max_model_len
    }

    fn free_blocks(&self) -> Option<u32> {
        Some(self.cache.pool().free_blocks())
    }

    /// In tokens of the first group's blocks.
    fn occupancy(&self) -> Occupancy {
        let block = u64::from(self.cache.hash_tokens());
        let pool = self.cache.pool();
        Occupancy {
            capacity: u64::from(pool.blocks() - 1) * block,
            used: u64::from(pool.held_blocks()) * block,
            cached: u64::from(pool.cached_blocks()) * block,
            wasted: u64::try_from(self.slack).unwrap_or(0),
            reserved: 0,
            stranded: 0,
        }
    }

    /// In tokens of the first group's blocks, like [`Scheduler::occupancy`].
    fn holders(&self, _requests: &Requests, each: &mut dyn FnMut(Slot, u64)) {
        let (pool, block) = (self.cache.pool(), u64::from(self.cache.hash_tokens()));
        for runner in &self.running {
            let Some(seat) = runner.seat else { continue };
            // A prefix is what is shared, and what windows let go of lies before the rest: both are at the beginning.
            let alone = (0..self.config.groups.len()).map(|group| {
                let table = self.cache.table(seat, group);
                let before = table.iter().take_while(|block| block.is_null() || pool.is_shared(**block)).count();
                (table.len() - before) as u64
            });
            each(runner.slot, alone.sum::<u64>() * block);
        }
    }

    fn stretch(&mut self, requests: &Requests, decoding: &mut Vec<Slot>) -> u32 {
        self.begin_stretch(requests, decoding)
    }

    fn tick(&mut self) -> bool {
        self.step_stretch()
    }

    fn settle(&mut self, _requests: &Requests, steps: u32) {
        self.end_stretch(steps);
    }

    fn verify(&self, requests: &Requests) {
        self.cache.verify();
        let mut slack = 0;
        for runner in &self.running {
            let Some(seat) = runner.seat else { continue };
            let halfway = u32::from(self.stretch.is_halfway());
            assert_eq!(runner.tokens, requests[runner.slot].content.len(), "tokens are miscounted");
            assert!(runner.computed < runner.tokens + halfway, "more is computed than is known");
            for (group, &kind) in self.config.groups.iter().enumerate() {
                let size = kind.block_tokens.get();
                let blocks = self.cache.table(seat, group).len() as u32;
                assert!(u64::from(blocks) * u64::from(size) >= u64::from(runner.computed), "computed without room");
                if size == self.cache.hash_tokens() {
                    slack += i64::from(blocks) * i64::from(size) - i64::from(runner.computed);
                }
            }
        }
        assert_eq!(self.slack, slack, "empty slots are miscounted");
        let tables: usize = self.cache.open_seats();
        assert_eq!(tables, self.running.len(), "blocks of a request that does not run");
        assert_eq!(self.waiting.len() + self.running.len(), requests.len(), "a request is lost");
        assert!(self.running.len() <= self.config.seats(), "too many run");
        let mut slots: Vec<Slot> = self.waiting.iter().chain(self.running.iter().map(|runner| runner.slot)).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), requests.len(), "a request is in two places");
    }
}
