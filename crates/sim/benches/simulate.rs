//! How fast is a simulation? Requests and steps a second of vLLM's scheduler on one thread:
//! `cargo bench -p plimsoll-sim --bench simulate`; with `-- watched` only what it costs to look on.

#![expect(clippy::print_stdout, reason = "the figures are the benchmark's output")]

#[path = "../../../tests/shared.rs"]
mod shared;

use std::time::Instant;

use plimsoll_facts::{catalogue, model};
use plimsoll_kv::{Content, Group, Reach};
use plimsoll_plan::engine::vllm::{self, options::Options};
use plimsoll_plan::{Card, Given, Version};
use plimsoll_sim::cost::{Cost, Knobs, Predictor, Shape};
use plimsoll_sim::course::Course;
use plimsoll_sim::load::{List, Source};
use plimsoll_sim::metrics::{Measured, Metrics, Objectives};
use plimsoll_sim::schedule::vllm::{Config, Vllm};
use plimsoll_sim::{Arrival, Error, Outcome, Settings, Watch, run};
use plimsoll_units::{Bytes, Estimate, Nanos, Source as From};
use shared::shared;

/// About 4.4 ms a step, and a little more the more it does.
struct Step;

impl Cost for Step {
    fn step(&mut self, shape: &Shape) -> Nanos {
        Nanos::new(4_400_000 + 1_000 * shape.tokens() + shape.decode_context / 100)
    }
}

struct Blind;

impl Watch for Blind {}

/// Requests of equal lengths at random times, made when they are asked for.
struct Poisson {
    left: u64,
    next: Nanos,
    gap: f64,
    word: u64,
    prompt: u32,
    output: u32,
}

impl Poisson {
    fn new(requests: u64, per_second: f64, prompt: u32, output: u32) -> Self {
        Poisson { left: requests, next: Nanos::ZERO, gap: 1e9 / per_second, word: 1, prompt, output }
    }
}

impl Source for Poisson {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        Ok((self.left > 0).then_some(self.next))
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        let mut prompt = Content::new();
        prompt.push(2 * self.left, 0, self.prompt);
        let arrival = Arrival {
            at: self.next,
            prompt,
            output_tokens: self.output,
            max_tokens: self.output,
            output_stream: 2 * self.left + 1,
            priority: 0,
            sample_of: None,
            mark: 0,
        };
        self.left -= 1;
        // xorshift64, and the inverse of the exponential distribution.
        self.word ^= self.word << 13;
        self.word ^= self.word >> 7;
        self.word ^= self.word << 17;
        let uniform = ((self.word >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        self.next += Nanos::new((-libm::log(uniform) * self.gap) as u64);
        Ok(Some(arrival))
    }
}

fn measure(name: &str, config: &Config, source: impl Source, jumps: bool) -> Outcome {
    with_cost(name, config, &mut Step, source, jumps)
}

/// Llama-3.1-8B on an H100 under vLLM, operator by operator.
fn predictor() -> Predictor {
    let config = catalogue::config("meta-llama/Meta-Llama-3.1-8B").expect("a built-in model");
    let model = model::read("llama-3.1-8b", &config, None).expect("a model that is read");
    let gpu = catalogue::gpu("h100-sxm").expect("a built-in card");
    let card = Card {
        name: gpu.name.clone(),
        total: Estimate::exact(Bytes::gib(79.1), From::Given),
        compute_capability: gpu.compute_capability,
        sm_count: gpu.sm_count,
        unified: false,
        count: 1,
    };
    let version = Version::new(0, 33, 0);
    let options = Options::from_map(&serde_json::Map::new(), version).expect("no options");
    let case = vllm::Case { model: &model, card: &card, version, options: &options, given: &Given::default() };
    let plan = vllm::plan(&case).expect("a plan");
    Predictor::new(&model, &plan, Some(&gpu), &Knobs::default()).expect("a card with rates")
}

fn with_cost<C: Cost>(name: &str, config: &Config, cost: &mut C, mut source: impl Source, jumps: bool) -> Outcome {
    let mut scheduler = Vllm::new(config.clone()).expect("settings that are taken");
    let begin = Instant::now();
    let settings = Settings { jumps, verify: false, ..Settings::default() };
    let outcome = run(&mut scheduler, cost, &mut source, &mut Blind, settings).expect("a run that ends");
    let seconds = begin.elapsed().as_secs_f64();
    let (requests, steps) = (outcome.finished as f64 / seconds, outcome.steps as f64 / seconds);
    println!("{name}: {seconds:.3} s, {requests:.0} requests/s, {steps:.0} steps/s ({} steps)", outcome.steps);
    outcome
}

/// What it costs to measure a run, and to follow its requests and who holds the cache; the least of three runs each.
fn watched(config: &Config) {
    for (name, requests, rate) in [("10 000 x 512/512, 10/s", 10_000, 10.0), ("20 000 x 512/512, 200/s", 20_000, 200.0)]
    {
        let least = |mut one: Box<dyn FnMut() -> f64>| (0..3).map(|_| one()).fold(f64::INFINITY, f64::min);
        let time = |mut watch: &mut dyn Watch| {
            let mut scheduler = Vllm::new(config.clone()).expect("settings that are taken");
            let mut source = Poisson::new(requests, rate, 512, 512);
            let begin = Instant::now();
            run(&mut scheduler, &mut Step, &mut source, &mut watch, Settings::default()).expect("a run that ends");
            begin.elapsed().as_secs_f64()
        };
        let metrics = || Metrics::new(Objectives::default(), Measured::All);
        let measured = least(Box::new(|| time(&mut metrics())));
        let followed = least(Box::new(|| time(&mut (metrics(), Course::new()))));
        let more = (followed / measured - 1.0) * 100.0;
        println!("{name}: {measured:.3} s measured, {followed:.3} s measured and followed ({more:+.1} %)");
    }
}

fn main() {
    let mut config = Config::new("0.33.0".parse().expect("a version"), 26_312);
    if std::env::args().any(|word| word == "watched") {
        return watched(&config);
    }
    for caching in [false, true] {
        config.prefix_caching = caching;
        let with = if caching { "with" } else { "without" };
        let jumped = measure(
            &format!("10 000 x 512/512, 10/s, {with} prefix cache, jumps"),
            &config,
            Poisson::new(10_000, 10.0, 512, 512),
            true,
        );
        let stepped = measure(
            &format!("10 000 x 512/512, 10/s, {with} prefix cache, steps"),
            &config,
            Poisson::new(10_000, 10.0, 512, 512),
            false,
        );
        assert_eq!(jumped, stepped, "jumps change nothing");
        with_cost(
            &format!("10 000 x 512/512, 10/s, {with} prefix cache, jumps, predicted operator by operator"),
            &config,
            &mut predictor(),
            Poisson::new(10_000, 10.0, 512, 512),
            true,
        );
        let mut crowd = config.clone();
        crowd.max_seqs = 64;
        let at_once = || Poisson::new(640, 1e6, 512, 2048);
        measure(&format!("64 running, {with} prefix cache, steps"), &crowd, at_once(), false);
        measure(&format!("64 running, {with} prefix cache, jumps"), &crowd, at_once(), true);
        measure(
            &format!("1 000 000 x 512/512, 10/s, {with} prefix cache, jumps"),
            &config,
            Poisson::new(1_000_000, 10.0, 512, 512),
            true,
        );
        println!("memory: {} MiB at most", peak());
    }
    watched(&config);
    conversation();
    alone();
}

/// The Mooncake conversation trace: each hash id is 512 tokens of its own.
fn conversation() {
    let Some(folder) = shared("data/traces") else { return };
    let Some(text) = find(&folder) else {
        println!("SKIPPED: no Mooncake conversation trace below {}", folder.display());
        return;
    };
    let arrivals: Vec<Arrival> = text.lines().zip(0..).filter_map(|(line, number)| arrival(line, number)).collect();
    let mut config = Config::new("0.33.0".parse().expect("a version"), 16_384);
    let block_tokens = std::num::NonZeroU32::new(512).expect("512 is not 0");
    config.groups = vec![Group { reach: Reach::Full, block_tokens }];
    config.max_batched_tokens = 8192;
    for jumps in [true, false] {
        let with = if jumps { "jumps" } else { "steps" };
        measure(&format!("Mooncake conversation, {with}"), &config, List::new(arrivals.clone()), jumps);
    }
}

fn find(folder: &std::path::Path) -> Option<String> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir()
            && let Some(text) = find(&path)
        {
            return Some(text);
        }
        let name = path.file_name()?.to_string_lossy().into_owned();
        if !name.contains("conversation") || !name.contains(".jsonl") {
            continue;
        }
        let unpacked = std::process::Command::new("gzip").arg("-dcf").arg(&path).output().ok()?;
        return String::from_utf8(unpacked.stdout).ok();
    }
    None
}

fn arrival(line: &str, number: u64) -> Option<Arrival> {
    let row: serde_json::Value = serde_json::from_str(line).ok()?;
    let field = |key: &str| row.get(key)?.as_u64();
    let (mut left, output) = (field("input_length")? as u32, field("output_length")?.max(1) as u32);
    let mut prompt = Content::new();
    for id in row.get("hash_ids")?.as_array()? {
        let len = left.min(512);
        prompt.push(id.as_u64()?, 0, len);
        left -= len;
    }
    Some(Arrival {
        at: Nanos::new(field("timestamp")? * 1_000_000),
        prompt,
        output_tokens: output,
        max_tokens: output,
        output_stream: (1 << 63) + number,
        priority: 0,
        sample_of: None,
        mark: 0,
    })
}

/// The most memory that the process held so far, in MiB, where the system says it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or_else(|| "an unknown number of".to_owned(), |kib| format!("{:.1}", kib / 1024.0))
}

/// The predictor alone: batches whose contexts grow by a token a step.
fn alone() {
    let mut predictor = predictor();
    let mut sum = 0.0;
    let begin = Instant::now();
    let steps = 2_000_000_u64;
    for step in 0..steps {
        let decodes = 1 + (step / 1000 % 200) as u32;
        let decode_context = u64::from(decodes) * (500 + step % 1000);
        let shape =
            Shape { decodes, decode_context, decode_windowed: decode_context, sampled: decodes, ..Shape::default() };
        sum += predictor.seconds(&shape);
    }
    let each = begin.elapsed().as_secs_f64() / steps as f64;
    println!("predictor alone: {:.0} ns a step ({:.3} ms on average)", each * 1e9, sum / steps as f64 * 1e3);
}
