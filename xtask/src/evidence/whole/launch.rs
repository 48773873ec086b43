//! How was the engine launched that a row was measured with? By what is published about the benchmark, else by the engine's
//! defaults; as a request for a simulation.

use anyhow::{Context, Result, bail};
use plimsoll_api::{PlanRequest, SimulateRequest};
use serde_json::{Map, Value};

use super::measured::Measurement;
use super::models;

/// Published launches; see the file's head.
const LAUNCHES: &str = include_str!("launches.toml");

/// The table of launches.
pub struct Launches(toml::Table);

impl Launches {
    /// Reads the table that is built in.
    ///
    /// # Errors
    /// When it is no TOML.
    pub fn new() -> Result<Self> {
        Ok(Launches(LAUNCHES.parse().context("launches.toml")?))
    }

    /// Returns the entries of a kind.
    pub fn entries(&self, kind: &str) -> impl Iterator<Item = &toml::Table> {
        self.0.get(kind).and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_table)
    }

    /// Whether the benchmark's configuration of that image and day drafted tokens.
    pub fn drafted(&self, row: &Measurement) -> bool {
        row.nightly() && self.entries("drafted").any(|entry| fits(entry, row))
    }

    /// Whether the launch may hold prompts back for fuller batches.
    pub fn delays(&self, row: &Measurement) -> bool {
        let entry = self.entries("launch").find(|entry| fits(entry, row));
        entry.and_then(|entry| entry.get("delays")).and_then(toml::Value::as_bool).unwrap_or(false)
    }

    /// Returns the flags of a published launch, where there is one.
    pub fn options(&self, row: &Measurement) -> Result<Option<Map<String, Value>>> {
        if !row.nightly() {
            return Ok(None);
        }
        let Some(entry) = self.entries("launch").find(|entry| fits(entry, row)) else { return Ok(None) };
        let mut options = Map::new();
        for (name, value) in entry.get("options").and_then(toml::Value::as_table).into_iter().flatten() {
            let amount = value.as_str().and_then(|words| amount(words, row));
            let value = amount.map_or_else(|| serde_json::to_value(value), |amount| Ok(amount.into()))?;
            options.insert(name.clone(), value);
        }
        Ok(Some(options))
    }
}

/// Whether an entry is about a row.
fn fits(entry: &toml::Table, row: &Measurement) -> bool {
    let text = |key: &str| entry.get(key).and_then(toml::Value::as_str);
    let ends = entry.get("ends").and_then(toml::Value::as_bool).unwrap_or(false);
    text("engine").is_none_or(|engine| engine == row.engine)
        && text("model").is_none_or(|model| row.model.contains(model))
        && text("system").is_none_or(|system| system == row.system)
        && text("precision").is_none_or(|precision| precision == row.precision)
        && text("from").is_none_or(|from| row.date.as_str() >= from)
        && text("source").is_none_or(|word| if ends { row.source.ends_with(word) } else { row.source.contains(word) })
}

/// Reads `2 isl`, `isl + osl + 20` or `max 8192, conc + isl + 64`.
fn amount(words: &str, row: &Measurement) -> Option<u64> {
    if let Some((least, rest)) = words.strip_prefix("max ").and_then(|rest| rest.split_once(',')) {
        return Some(least.trim().parse::<u64>().ok()?.max(amount(rest, row)?));
    }
    if words == "poll" {
        return Some(if row.concurrency? >= 16 { 30 } else { 10 });
    }
    let mut sum = 0_u64;
    for term in words.split('+') {
        let mut product = 1_u64;
        for factor in term.split_whitespace() {
            product = product.checked_mul(match factor {
                "isl" => row.lengths.0.into(),
                "osl" => row.lengths.1.into(),
                "conc" => row.concurrency?.into(),
                number => number.parse().ok()?,
            })?;
        }
        sum = sum.checked_add(product)?;
    }
    Some(sum)
}

/// What to simulate, and what of it nobody said.
pub struct Asked {
    /// The request.
    pub request: SimulateRequest,
    /// Whether the launch's flags are known.
    pub known: bool,
}

/// Makes the request of a row.
///
/// # Errors
/// Says why the row cannot be used.
pub fn request(row: &Measurement, launches: &Launches, seed: u64) -> Result<Asked> {
    let Some(concurrency) = row.concurrency.filter(|&clients| clients > 0) else {
        bail!("how many requests run at a time is not known");
    };
    if launches.drafted(row) {
        bail!("tokens were drafted, by the benchmark's configuration of that image and day");
    }
    let division = row.division.map_err(anyhow::Error::msg)?;
    if division.dp > 1 {
        bail!("attention is divided by requests, which is not simulated");
    }
    let published = launches.options(row)?;
    let known = published.is_some();
    let mut options = published.unwrap_or_default();
    let mut set = |name: &str, value: Value| options.insert(name.to_owned(), value);
    match row.engine {
        "vllm" => {
            set("tensor_parallel_size", division.tp.into());
            set("pipeline_parallel_size", division.pp.into());
            if division.ep > 1 {
                set("enable_expert_parallel", true.into());
            }
        }
        "sglang" => {
            set("tp_size", division.tp.into());
            set("pp_size", division.pp.into());
            set("ep_size", division.ep.into());
        }
        _ => {
            set("tp_size", division.tp.into());
            set("pp_size", division.pp.into());
            set("ep_size", division.ep.into());
        }
    }
    let gpus = division.tp * division.pp;
    Ok(Asked {
        request: SimulateRequest {
            launch: PlanRequest {
                model: Some(models::name(row)),
                gpu: Some(format!("{}:{gpus}", row.system.replace('_', "-"))),
                engine: Some(row.engine.to_owned()),
                engine_version: Some(release(row)),
                options,
                ..PlanRequest::default()
            },
            workload: Some(workload(row, concurrency)),
            seed,
            interval: Some(false),
            ..SimulateRequest::default()
        },
        known,
    })
}

/// Requests per client: the benchmark's own number, by which the burst at its start counts.
const ROUNDS: u32 = 10;

/// The traffic: as many clients as ran at a time, each sending its next request when the last one was answered. The nightly
/// benchmark draws lengths evenly from 0.8 of the named one to it (`--random-range-ratio 0.8`); other rows name theirs.
fn workload(row: &Measurement, concurrency: u32) -> String {
    let length = |tokens: u32| {
        if row.nightly() {
            format!("uniform {}..{tokens}", (u64::from(tokens) * 4 / 5).max(1))
        } else {
            tokens.to_string()
        }
    };
    let (prompt, output) = (length(row.lengths.0), length(row.lengths.1));
    let requests = u64::from(concurrency) * u64::from(ROUNDS);
    format!("clients {concurrency}, prompt {prompt}, output {output}, requests {requests}")
}

/// The release that a row's words mean; nightly builds and unnamed images by their day.
fn release(row: &Measurement) -> String {
    if row.version.starts_with(|letter: char| letter.is_ascii_digit()) {
        return row.version.clone();
    }
    // First days of releases, from the engines' own release pages.
    let days: &[(&str, &str)] = match row.engine {
        "vllm" => &[
            ("2025-09-13", "0.10.2"),
            ("2025-10-02", "0.11.0"),
            ("2025-12-03", "0.12.0"),
            ("2025-12-19", "0.13.0"),
            ("2026-01-30", "0.15.0"),
            ("2026-03-08", "0.17.0"),
            ("2026-04-03", "0.19.0"),
        ],
        "sglang" => {
            &[("2025-09-13", "0.5.2"), ("2025-11-06", "0.5.5"), ("2026-01-23", "0.5.8"), ("2026-02-12", "0.5.9")]
        }
        _ => &[("2025-09-10", "1.0.0"), ("2025-12-01", "1.1.0"), ("2026-02-01", "1.2.0")],
    };
    let found = days.iter().rev().find(|(from, _)| *from <= row.date.as_str()).or_else(|| days.first());
    found.map_or_else(String::new, |(_, version)| (*version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Measurement {
        Measurement {
            id: String::new(),
            engine: "vllm",
            version: "nightly-5b8c30d".to_owned(),
            model: "MiniMaxAI/MiniMax-M2.5".to_owned(),
            system: "b200_sxm".to_owned(),
            precision: "fp8".to_owned(),
            stored: String::new(),
            disaggregated: false,
            lengths: (1024, 8192),
            concurrency: Some(64),
            date: "2026-04-03".to_owned(),
            source: "db-dump/2026-04-27; silicon_concurrency=64".to_owned(),
            division: Ok(super::super::measured::Division { tp: 4, pp: 1, dp: 1, ep: 4 }),
            ttft: 1.0,
            tpot: 1.0,
        }
    }

    #[test]
    fn amounts_are_sums_of_products() {
        for (words, expected) in [
            ("2 isl", Some(2048)),
            ("isl + osl + 20", Some(9236)),
            ("max 8192, conc + isl + 64", Some(8192)),
            ("conc", Some(64)),
            ("many", None),
        ] {
            assert_eq!(amount(words, &row()), expected, "{words}");
        }
    }

    #[test]
    fn a_published_launch_is_found_and_a_nightly_build_has_a_release() {
        let asked = request(&row(), &Launches::new().unwrap(), 0).unwrap();
        assert!(asked.known);
        let launch = asked.request.launch;
        assert_eq!(launch.options["max_num_batched_tokens"], 2048);
        assert_eq!(launch.options["kv_cache_dtype"], "fp8");
        assert_eq!(launch.engine_version.as_deref(), Some("0.19.0"));
        let words = asked.request.workload.unwrap();
        assert_eq!(words, "clients 64, prompt uniform 819..1024, output uniform 6553..8192, requests 640");
    }
}
