//! What is answered to a simulation? Plain data; the names are promised, units are part of them. `docs/metrics.md` defines
//! every figure.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::{EngineHead, GpuHead, ModelHead, ParallelHead};

/// The whole answer to a simulation.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SimulateAnswer {
    /// The model.
    pub model: ModelHead,
    /// The engine.
    pub engine: EngineHead,
    /// The card.
    pub gpu: GpuHead,
    /// How the model is divided.
    pub parallel: ParallelHead,
    /// How batches are formed: `continuous`, `static`, an engine's policy.
    pub batching: String,
    /// The workload in words.
    pub workload: String,
    /// The seed that replays it.
    pub seed: u64,
    /// Which model says how long a step takes.
    pub cost: String,
    /// Whether it was stopped before the workload's end: figures are those until then.
    pub partial: bool,
    /// Which part of the time is measured.
    pub measured: MeasuredAnswer,
    /// How many requests came, and what became of them.
    pub requests: RequestsAnswer,
    /// Time to first token: from arrival until the first token is out.
    pub ttft_ms: Option<TimesAnswer>,
    /// Time per output token: from first to last token, divided by the tokens after the first. Requests of one token have
    /// none.
    pub tpot_ms: Option<TimesAnswer>,
    /// Inter-token latency: from a token to the next of its request, all of them.
    pub itl_ms: Option<TimesAnswer>,
    /// End-to-end latency: from arrival until the last token is out.
    pub e2e_ms: Option<TimesAnswer>,
    /// Queueing time: from arrival until the first step that computes some of the request begins. Part of `ttft_ms`.
    pub queue_ms: Option<TimesAnswer>,
    /// From there until the first token is out: the rest of `ttft_ms`.
    pub prefill_ms: Option<TimesAnswer>,
    /// From the first token until the last: the rest of `e2e_ms`.
    pub decode_ms: Option<TimesAnswer>,
    /// Between what ends the main times lie in eight of ten cases; null where no interval was worked out.
    pub interval: Option<IntervalAnswer>,
    /// Rates over the measured time; null where that is no time at all.
    pub throughput: Option<ThroughputAnswer>,
    /// Requests that met the objectives; null without objectives.
    pub goodput: Option<GoodputAnswer>,
    /// Where the KV cache's room went.
    pub kv: KvUseAnswer,
    /// What the prefix cache gave.
    pub prefix: PrefixAnswer,
    /// How often a request lost its blocks.
    pub preemptions: u64,
    /// Tokens that were computed again after that.
    pub recomputed_tokens: u64,
    /// Share of the measured time in which nothing ran.
    pub idle_share: Option<f64>,
    /// Steps.
    pub steps: u64,
    /// What a step held.
    pub batch: BatchAnswer,
    /// Levels over time.
    pub timeline: TimelineAnswer,
    /// How the main times are distributed.
    pub percentiles: PercentilesAnswer,
    /// What some requests did when: the first two dozen that began to run, in the part of the run in which most of the
    /// cache was held.
    pub lives: Vec<LifeAnswer>,
    /// Who held the cache in that part; null where nothing was held.
    pub holders: Option<HoldersAnswer>,
    /// What the figures rest on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
}

/// What is simulated: the part of an answer that is known before.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulateHead {
    /// The model.
    pub model: ModelHead,
    /// The engine.
    pub engine: EngineHead,
    /// The card.
    pub gpu: GpuHead,
    /// How the model is divided.
    pub parallel: ParallelHead,
    /// How batches are formed: `continuous`, `static`, an engine's policy.
    pub batching: String,
    /// How the cache is allotted: `paged`, `contiguous`, `buddy`.
    pub kv: String,
    /// Whether prefixes are shared.
    pub prefix_caching: bool,
    /// Tokens of one block; nothing where the cache has none.
    pub block_tokens: Option<u64>,
    /// The workload in words.
    pub workload: String,
    /// The seed that replays it.
    pub seed: u64,
    /// Which model says how long a step takes.
    pub cost: String,
}

/// Which part of the time is measured.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct MeasuredAnswer {
    /// `all`, or the part that was asked for.
    pub part: String,
    /// When it begins, in seconds of the run; with `all` at the first arrival.
    pub from_s: f64,
    /// When it ends; with `all` with the last token.
    pub until_s: f64,
    /// How long it is.
    pub duration_s: f64,
}

/// How many requests came, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RequestsAnswer {
    /// Arrived in the measured part, refused ones included.
    pub arrived: u64,
    /// Of these: turned away.
    pub refused: u64,
    /// Of these: generated all their tokens, within the part or later. Latencies are theirs.
    pub finished: u64,
    /// Of these: still waiting or running when the run was stopped.
    pub unfinished: u64,
    /// Lost their blocks at least once, in the measured part.
    pub preempted: u64,
    /// Why requests were turned away, the most frequent reason first.
    pub refusals: Vec<RefusalAnswer>,
}

/// Requests turned away for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefusalAnswer {
    /// How many.
    pub count: u64,
    /// The first one's reason; others may have other numbers in it.
    pub example: String,
}

/// A time's distribution, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TimesAnswer {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many values.
    pub count: u64,
    /// Whether percentiles are exact; else within 0.05 %.
    pub exact: bool,
}

/// The main figures of the same run with every step as fast, and as slow, as the tenth part of measured ones.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct IntervalAnswer {
    /// What steps were multiplied by: tenth and ninetieth percentile of measured over predicted times.
    pub step_factors: BetweenAnswer,
    /// Where those come from.
    pub source: String,
    /// Mean time to first token.
    pub ttft_mean_ms: Option<BetweenAnswer>,
    /// 99th percentile of it.
    pub ttft_p99_ms: Option<BetweenAnswer>,
    /// Mean time per output token.
    pub tpot_mean_ms: Option<BetweenAnswer>,
    /// Mean end-to-end latency.
    pub e2e_mean_ms: Option<BetweenAnswer>,
    /// Output tokens a second.
    pub output_tokens_per_s: Option<BetweenAnswer>,
}

/// Two ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BetweenAnswer {
    /// The lower.
    pub low: f64,
    /// The higher.
    pub high: f64,
}

/// Rates over the measured time: what finished in it, divided by its length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ThroughputAnswer {
    /// Requests that generated their last token.
    pub requests_per_s: f64,
    /// Their output tokens.
    pub output_tokens_per_s: f64,
    /// Their prompt and output tokens.
    pub total_tokens_per_s: f64,
}

/// Requests that met every objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GoodputAnswer {
    /// The objectives.
    pub objectives: ObjectivesAnswer,
    /// Requests that finished in the measured time and met all of them, divided by its length; null where that is none.
    pub requests_per_s: Option<f64>,
    /// Share of the requests that met all, refused ones counting as not; null without requests.
    pub share: Option<f64>,
    /// The same for each objective alone.
    pub met: MetAnswer,
}

/// What a request must meet, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ObjectivesAnswer {
    /// Longest time to first token.
    pub ttft_ms: Option<f64>,
    /// Longest time per output token; requests of one token meet it.
    pub tpot_ms: Option<f64>,
    /// Longest end-to-end latency.
    pub e2e_ms: Option<f64>,
}

/// Shares of requests that met an objective; null where it is not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct MetAnswer {
    /// Of the first token.
    pub ttft: Option<f64>,
    /// Of the tokens after it.
    pub tpot: Option<f64>,
    /// Of the last token.
    pub e2e: Option<f64>,
}

/// Where the KV cache's room went: shares of its capacity.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct KvUseAnswer {
    /// How it is allotted: `paged`, `contiguous`, `buddy`.
    pub kind: String,
    /// Tokens of one block; null where the cache has none.
    pub block_tokens: Option<u64>,
    /// Blocks; null where the cache has none.
    pub blocks: Option<u64>,
    /// Tokens that it holds.
    pub capacity_tokens: u64,
    /// Held by requests, shared blocks once.
    pub used: LevelAnswer,
    /// Held by nobody, with contents that a later request may find.
    pub cached: LevelAnswer,
    /// Of `used`: in partly filled blocks and rounded-up reservations, holding nothing.
    pub wasted: LevelAnswer,
    /// Of `used`: set aside for tokens that may come.
    pub reserved: LevelAnswer,
    /// Of what is free: in holes too small for any request that waits.
    pub stranded: LevelAnswer,
    /// Share of the room that was taken or unusable and held no token: (wasted + reserved + stranded) / (used + stranded),
    /// over time; null where nothing was taken.
    pub waste_share: Option<f64>,
}

/// A level as shares of the capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct LevelAnswer {
    /// Mean over the measured time.
    pub mean: f64,
    /// Highest while a step ran.
    pub peak: f64,
}

/// What the prefix cache gave to requests that ran for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PrefixAnswer {
    /// Whether prefixes are shared.
    pub caching: bool,
    /// Share of their prompt tokens that it had; null when none ran.
    pub hit_rate: Option<f64>,
    /// Prompt tokens that it had.
    pub hit_tokens: u64,
    /// Their prompt tokens.
    pub looked_up_tokens: u64,
    /// Tokens that it had for requests that ran again after they lost their blocks.
    pub resumed_hit_tokens: u64,
}

/// What a step held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct BatchAnswer {
    /// Sequences in a step, on average over steps; padding left out.
    pub mean: Option<f64>,
    /// Sequences in the largest step.
    pub max: u64,
    /// Tokens computed in a step, on average over steps.
    pub tokens_mean: Option<f64>,
    /// Share of the places in steps that finished sequences of a static batch took.
    pub padding_share: Option<f64>,
    /// Requests that ran, on average over time.
    pub running_mean: f64,
    /// Requests that waited, on average over time.
    pub waiting_mean: f64,
    /// Most requests that waited while a step ran.
    pub waiting_max: u64,
}

/// Levels over all of the time: means over bins of equal length, the last one maybe cut short. Rounded to six digits after
/// the point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct TimelineAnswer {
    /// When the first bin begins.
    pub from_s: f64,
    /// Length of a bin.
    pub bin_s: f64,
    /// Requests that ran.
    pub running: Vec<f64>,
    /// Requests that waited.
    pub waiting: Vec<f64>,
    /// Share of the cache that requests held.
    pub kv_used: Vec<f64>,
    /// Share of the cache that nobody held and that may be found.
    pub kv_cached: Vec<f64>,
    /// Share of the cache that was held and empty: wasted or reserved.
    pub kv_empty: Vec<f64>,
    /// Tokens that were generated.
    pub output_tokens_per_s: Vec<f64>,
}

/// Percentiles 0 (the least), 1, 2, … 100 (the greatest) of the main times, in milliseconds; empty where nothing was
/// measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct PercentilesAnswer {
    /// Time to first token.
    pub ttft_ms: Vec<f64>,
    /// Time per output token.
    pub tpot_ms: Vec<f64>,
    /// Inter-token latency.
    pub itl_ms: Vec<f64>,
    /// End-to-end latency.
    pub e2e_ms: Vec<f64>,
}

/// What a request did when.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LifeAnswer {
    /// Its number, in order of arrival, from 0.
    pub request: u64,
    /// What it did, in order; each turn lasts until the next begins. At most 64.
    pub turns: Vec<TurnAnswer>,
    /// When the last of them ends: with its last token, or with the run.
    pub end_s: f64,
    /// Whether it generated all its tokens.
    pub finished: bool,
}

/// What a request did from a moment on.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TurnAnswer {
    /// `queued`, `prefill` (also what it had before it lost its blocks), `decode`, `preempted` (lost its blocks, waits).
    pub doing: Cow<'static, str>,
    /// From when on.
    pub from_s: f64,
}

/// Who held the cache when, over a part of a run: at moments, in blocks (in tokens where the cache has none).
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HoldersAnswer {
    /// Blocks of the cache.
    pub capacity: u64,
    /// The moments, up to 128.
    pub at_s: Vec<f64>,
    /// When the last of them ends.
    pub end_s: f64,
    /// What several requests held at once, or requests of a static batch after their end, at each moment.
    pub others: Vec<u64>,
    /// What nobody held and a later request might find, at each moment.
    pub cached: Vec<u64>,
    /// How many requests with neighbouring numbers are taken together below; a power of two.
    pub bundle: u64,
    /// What requests held alone, in order of their numbers.
    pub requests: Vec<HolderAnswer>,
}

/// What a request, or a bundle of them, held alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HolderAnswer {
    /// The first one's number.
    pub request: u64,
    /// The first moment at which it held anything: an index into `at_s`.
    pub from: usize,
    /// What it held then and at the moments after; nothing after the last of them.
    pub blocks: Vec<u64>,
}

/// Simulations of one workload side by side.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SimulateCompareAnswer {
    /// The model.
    pub model: ModelHead,
    /// The card.
    pub gpu: GpuHead,
    /// How the model is divided.
    pub parallel: ParallelHead,
    /// The workload in words.
    pub workload: String,
    /// The seed that replays it.
    pub seed: u64,
    /// Which model says how long a step takes.
    pub cost: String,
    /// One a combination, in the order in which they were asked for.
    pub rows: Vec<SimulateRow>,
    /// What the figures rest on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
}

/// The main figures of one simulation.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SimulateRow {
    /// The engine.
    pub engine: EngineHead,
    /// How batches are formed.
    pub batching: String,
    /// How the cache is allotted.
    pub kv: String,
    /// Whether prefixes are shared.
    pub prefix_caching: bool,
    /// Whether it was stopped early.
    pub partial: bool,
    /// Requests that finished.
    pub finished: u64,
    /// Requests turned away.
    pub refused: u64,
    /// Requests a second.
    pub requests_per_s: Option<f64>,
    /// Output tokens a second.
    pub output_tokens_per_s: Option<f64>,
    /// Prompt and output tokens a second.
    pub total_tokens_per_s: Option<f64>,
    /// Output tokens a second divided by those of the slowest row; set where rows stand together.
    pub speedup: Option<f64>,
    /// Requests a second that met the objectives.
    pub goodput_requests_per_s: Option<f64>,
    /// Share of requests that met the objectives.
    pub goodput_share: Option<f64>,
    /// Median time to first token.
    pub ttft_p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub ttft_p99_ms: Option<f64>,
    /// Median time per output token.
    pub tpot_p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub tpot_p99_ms: Option<f64>,
    /// Median end-to-end latency.
    pub e2e_p50_ms: Option<f64>,
    /// 99th percentile of it.
    pub e2e_p99_ms: Option<f64>,
    /// Sequences in a step, on average.
    pub batch_mean: Option<f64>,
    /// Share of the cache that requests held, mean over time.
    pub kv_used_mean: f64,
    /// Share of the room taken or unusable that held no token.
    pub kv_waste_share: Option<f64>,
    /// Share of prompt tokens that the prefix cache had.
    pub hit_rate: Option<f64>,
    /// How often a request lost its blocks.
    pub preemptions: u64,
    /// Tokens computed again.
    pub recomputed_tokens: u64,
    /// Share of the time in which nothing ran.
    pub idle_share: Option<f64>,
    /// What the first two dozen requests that began to run did when.
    pub lives: Vec<LifeAnswer>,
}
