//! How well is a real serving run replayed? Folders with a launch, its requests one by one and what the engine logged each
//! second: the same arrivals and lengths go through the simulation.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use plimsoll_api::{Desk, PlanRequest, SimulateRequest, Simulated, TraceRequest, simulate};
use plimsoll_facts::catalogue;
use plimsoll_sim::{Requests, Slot, Step, Watch};
use plimsoll_units::Nanos;
use serde_json::{Map, Value, json};

use super::fit::quantile;
use super::sheet::{Form, number};
use super::vllm::Target;
use super::whole::models::Configs;

/// The files of such a folder.
const FILES: [&str; 3] = ["launch.json", "requests.csv", "per_second.csv"];
/// What must hold of each run: percent of mean time per output token, of mean and 99th percentile of time to first token,
/// of mean end-to-end time, and points of the KV cache in use.
const LIMITS: [(&str, f64, &str); 5] = [
    ("mean time per output token, % off", 5.0, "at most 5"),
    ("mean time to first token, % off", 15.0, "at most 15"),
    ("99th percentile of time to first token, % off", 15.0, "at most 15"),
    ("mean end-to-end time, % off", 5.0, "at most 5"),
    ("KV cache in use, mean points off", 5.0, "at most 5"),
];

/// A run, measured and replayed.
pub struct Replay {
    /// The folder's name.
    pub name: String,
    /// Measured and simulated, in the order of the limits but the last: milliseconds.
    pub pairs: [(f64, f64); 4],
    /// Second by second: measured and simulated share of the KV cache in use, percent; none where the run did not log it.
    pub cache: Vec<(f64, f64)>,
    /// What a step's time rests on, in words.
    pub cost: String,
}

/// Whether a folder is one.
pub fn is(path: &Path) -> bool {
    FILES.iter().all(|file| path.join(file).is_file())
}

/// Finds the runs in a path: itself, or the folders in it, in order of name.
pub fn find(path: &Path) -> Vec<std::path::PathBuf> {
    if is(path) {
        return vec![path.to_path_buf()];
    }
    let entries = path.read_dir().into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut found: Vec<_> = entries.filter(|path| is(path)).collect();
    found.sort();
    found
}

/// Replays a run.
///
/// # Errors
/// When the folder cannot be read or the launch cannot be simulated.
pub fn replay(folder: &Path, models: Option<&Path>) -> Result<Replay> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let launch: Value = serde_json::from_slice(&fs::read(folder.join(FILES[0]))?).context(FILES[0])?;
    let mut seen = Seen::default();
    let world = Configs::new(models)?;
    let request = SimulateRequest {
        launch: launched(&launch, &name)?,
        trace: Some(TraceRequest {
            path: folder.join(FILES[1]).display().to_string(),
            format: Some("csv".to_owned()),
            ..TraceRequest::default()
        }),
        interval: Some(false),
        ..SimulateRequest::default()
    };
    let answer = simulate(&request, &Desk::new(&world), &mut seen)?;
    let Simulated::One(answer) = answer else { bail!("a comparison") };
    let measured = requests(&folder.join(FILES[1]))?;
    if seen.requests.len() != measured.len() {
        bail!("{} of {} requests were served", seen.requests.len(), measured.len());
    }
    Ok(Replay {
        name,
        pairs: std::array::from_fn(|at| (figures(&measured)[at], figures(&seen.requests)[at])),
        cache: cache(&folder.join(FILES[2]), &seen)?,
        cost: answer.cost.clone(),
    })
}

/// Makes a plan's request of what a run published of its launch.
fn launched(launch: &Value, name: &str) -> Result<PlanRequest> {
    let text = |key: &str| launch.get(key).and_then(Value::as_str);
    let mut options = Map::new();
    for (key, value) in launch.get("engine_kwargs").and_then(Value::as_object).into_iter().flatten() {
        if key != "model" && key != "seed" && !value.is_null() {
            options.insert(key.clone(), value.clone());
        }
    }
    let blocks = launch.pointer("/kv_cache/num_gpu_blocks").and_then(Value::as_u64);
    if let Some(blocks) = blocks {
        options.insert("num_gpu_blocks_override".to_owned(), blocks.into());
    }
    let count = |key: &str| options.get(key).and_then(Value::as_u64).unwrap_or(1).max(1);
    let gpus = count("tensor_parallel_size") * count("pipeline_parallel_size");
    let device = launch.pointer("/hardware/device_name").and_then(Value::as_str);
    let card = card(device.unwrap_or_else(|| name.split('_').next().unwrap_or_default()))?;
    Ok(PlanRequest {
        model: Some(format!("{}#", text("model").context("launch.json names no model")?)),
        gpu: Some(format!("{card}:{gpus}")),
        engine: Some("vllm".to_owned()),
        engine_version: text("vllm_version").map(str::to_owned),
        options,
        ..PlanRequest::default()
    })
}

/// Finds a card by a name that may lack blanks and dashes.
fn card(name: &str) -> Result<String> {
    if let Ok(gpu) = catalogue::gpu(name) {
        return Ok(gpu.name);
    }
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let named = |gpu: &plimsoll_facts::gpu::Gpu| {
        plain(&gpu.name) == plain(name) || gpu.aliases.iter().any(|alias| plain(alias) == plain(name))
    };
    catalogue::gpus().find(named).map(|gpu| gpu.name).with_context(|| format!("{name} is in no catalogue"))
}

/// A request's times, seconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    ttft: f64,
    e2e: f64,
    /// Tokens after the first.
    more: f64,
}

/// Reads what was measured of each request. Arrivals are on the client's clock, which starts at the first of them, tokens on
/// the engine's, which starts when that request was queued: what lies between the two is not known and not counted.
fn requests(path: &Path) -> Result<Vec<Times>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| path.display().to_string())?;
    let header = reader.headers()?.clone();
    let column = |name: &str| header.iter().position(|of| of == name).with_context(|| format!("no column {name}"));
    let columns = [column("arrival_s")?, column("first_token_s")?, column("last_token_s")?, column("output_tokens")?];
    let mut all = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cell = |at: usize| record.get(columns[at]).unwrap_or_default().parse::<f64>();
        let [arrival, first, last, tokens] = [cell(0)?, cell(1)?, cell(2)?, cell(3)?];
        all.push(Times { ttft: first - arrival, e2e: last - arrival, more: tokens - 1.0 });
    }
    Ok(all)
}

/// Means of time per output token and to first token, its 99th percentile, and the mean end-to-end time: milliseconds.
fn figures(of: &[Times]) -> [f64; 4] {
    let mean = |values: &[f64]| 1e3 * values.iter().sum::<f64>() / values.len().max(1) as f64;
    let each = |time: fn(&Times) -> f64| of.iter().map(time).collect::<Vec<f64>>();
    let longer = of.iter().filter(|times| times.more > 0.0);
    let tpot: Vec<f64> = longer.map(|times| (times.e2e - times.ttft) / times.more).collect();
    let mut ttft = each(|times| times.ttft);
    [mean(&tpot), mean(&ttft), 1e3 * quantile(&mut ttft, 0.99), mean(&each(|times| times.e2e))]
}

/// Looks on and keeps what is compared.
#[derive(Default)]
struct Seen {
    requests: Vec<Times>,
    /// Ends of steps with the share of the cache in use, percent.
    cache: Vec<(Nanos, f64)>,
}

impl Watch for Seen {
    fn step(&mut self, step: &Step<'_>) {
        let share = 100.0 * step.occupancy.used as f64 / step.occupancy.capacity.max(1) as f64;
        self.cache.push((step.end, share));
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        let request = &requests[slot];
        let since = |at: Nanos| (at - request.arrived).as_seconds();
        self.requests.push(Times {
            ttft: since(request.first_token.unwrap_or(now)),
            e2e: since(now),
            more: f64::from(request.generated) - 1.0,
        });
    }
}

/// Pairs the cache's use second by second, while requests were served; nothing where the engine logged zeros alone.
fn cache(path: &Path, seen: &Seen) -> Result<Vec<(f64, f64)>> {
    let mut reader = csv::Reader::from_path(path).with_context(|| path.display().to_string())?;
    let header = reader.headers()?.clone();
    let column = |name: &str| header.iter().position(|of| of == name).with_context(|| format!("no column {name}"));
    let (time, share) = (column("t")?, column("kv_cache_pct")?);
    let mut pairs = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cell = |at: usize| record.get(at).unwrap_or_default().parse::<f64>();
        let (at, measured) = (cell(time)?, cell(share)?);
        let next = seen.cache.partition_point(|(end, _)| end.as_seconds() <= at);
        let simulated = if next < seen.cache.len() { seen.cache[next.saturating_sub(1)].1 } else { 0.0 };
        pairs.push((measured, simulated));
    }
    let logged = pairs.iter().any(|(measured, _)| *measured > 0.0);
    Ok(if logged { pairs } else { Vec::new() })
}

impl Replay {
    /// Returns how far off each figure is, in the limits' order; the last only where the cache was logged.
    pub fn errors(&self) -> Vec<f64> {
        let mut errors: Vec<f64> =
            self.pairs.iter().map(|(measured, simulated)| 100.0 * (simulated / measured - 1.0).abs()).collect();
        if !self.cache.is_empty() {
            let sum: f64 = self.cache.iter().map(|(measured, simulated)| (measured - simulated).abs()).sum();
            errors.push(sum / self.cache.len() as f64);
        }
        errors
    }

    /// Returns the targets of the run.
    pub fn targets(&self) -> Vec<Target> {
        let all = self.errors().into_iter().zip(LIMITS);
        all.map(|(error, (what, most, target))| Target::new(what, error, target, error <= most)).collect()
    }

    /// Returns the figures as rows of a table.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let errors = self.errors();
        let mut rows: Vec<Vec<String>> = self
            .pairs
            .iter()
            .zip(["mean TPOT, ms", "mean TTFT, ms", "p99 TTFT, ms", "mean end to end, ms"])
            .zip(&errors)
            .map(|((pair, name), error)| {
                let sign = if pair.1 < pair.0 { "−" } else { "+" };
                vec![name.to_owned(), number(pair.0), number(pair.1), format!("{sign}{}%", number(*error))]
            })
            .collect();
        if let Some(points) = errors.get(4) {
            let mean = |of: fn(&(f64, f64)) -> f64| self.cache.iter().map(of).sum::<f64>() / self.cache.len() as f64;
            let (measured, simulated) = (mean(|pair| pair.0), mean(|pair| pair.1));
            let name = "KV cache in use, %".to_owned();
            rows.push(vec![name, number(measured), number(simulated), format!("{} points", number(*points))]);
        }
        rows
    }

    /// Returns the run as one JSON line.
    pub fn json(&self) -> Value {
        json!({ "run": self.name, "cost": self.cost, "pairs_ms": self.pairs, "kv_cache_pct": self.cache })
    }
}

/// Heads of a run's table.
pub const HEAD: [&str; 4] = ["", "measured", "simulated", "off"];

/// Sets a run's table.
pub fn report(replay: &Replay, form: Form) -> String {
    form.heading(&format!("Replay of {} ({})", replay.name, replay.cost)) + &form.wide(&HEAD, &replay.rows())
}
