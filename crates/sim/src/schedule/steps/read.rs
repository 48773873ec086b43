//! What does a recorded workload say? Its JSON, read with mistrust.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use plimsoll_kv::{Content, Group, Reach};
use plimsoll_plan::Version;
use plimsoll_units::Nanos;
use serde_json::Value;

use super::Decision;
use crate::Arrival;
use crate::schedule::vllm::{Config, Policy};

/// A recorded workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name, empty where it has none.
    pub name: String,
    /// The engine's settings.
    pub config: Config,
    /// The requests' names, by number.
    pub names: Vec<String>,
    /// The requests in order of arrival. A nanosecond is a step here.
    pub arrivals: Vec<Arrival>,
    /// What the engine decided.
    pub steps: Vec<Decision>,
}

impl Workload {
    /// Returns a request's name.
    pub fn name(&self, number: u64) -> String {
        let name = usize::try_from(number).ok().and_then(|number| self.names.get(number));
        name.cloned().unwrap_or_else(|| format!("#{number}"))
    }

    /// Whether resumed requests are reported as new ones.
    pub fn joins_resumed(&self) -> bool {
        self.config.version >= Version::new(0, 31, 0)
    }
}

/// Streams of generated tokens begin here; segments of prompts are below.
const OUTPUTS: u64 = 1 << 63;

/// Reads a workload.
///
/// # Errors
/// A sentence that says where the text is not in the form, or what in it is not supported.
pub fn read(text: &[u8]) -> Result<Workload, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    let engine = value.get("engine").and_then(Value::as_str).unwrap_or("vllm");
    if engine != "vllm" {
        return Err(format!("engine `{engine}`: only vllm's schedules are recorded in this form"));
    }
    let version = value.get("engine_version").and_then(Value::as_str).ok_or("engine_version is missing")?;
    let version: Version = version.parse().map_err(|error| format!("engine_version: {error}"))?;
    let config = config(value.get("config").ok_or("config is missing")?, version)?;
    let mut requests = Vec::new();
    for (at, request) in list(&value, "requests")?.iter().enumerate() {
        let read = arrival(request, &config, at).map_err(|error| format!("requests[{at}]: {error}"))?;
        requests.push(read);
    }
    requests.sort_by_key(|(_, arrival)| arrival.at);
    let (names, arrivals): (Vec<String>, Vec<Arrival>) = requests.into_iter().unzip();
    let numbers: BTreeMap<&str, u64> = names.iter().map(String::as_str).zip(0..).collect();
    if numbers.len() < names.len() {
        return Err("two requests have the same id".to_owned());
    }
    let mut steps = Vec::new();
    for (at, step) in list(&value, "steps")?.iter().enumerate() {
        steps.push(decision(step, &numbers).map_err(|error| format!("steps[{at}]: {error}"))?);
    }
    let name = value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Workload { name, config, names, arrivals, steps })
}

fn config(value: &Value, version: Version) -> Result<Config, String> {
    const KNOWN: [&str; 18] = [
        "block_size",
        "num_blocks",
        "max_num_seqs",
        "max_num_batched_tokens",
        "max_model_len",
        "max_num_active_seqs",
        "max_num_scheduled_tokens",
        "prefill_schedule_interval",
        "prefix_caching",
        "chunked_prefill",
        "policy",
        "long_prefill_token_threshold",
        "long_prefill_token_threshold_adaptive",
        "max_num_partial_prefills",
        "groups",
        "scheduler_reserve_full_isl",
        "watermark",
        "prefix_cache_retention_interval",
    ];
    // Set beside the first of these and without an effect on decisions in the releases that have it.
    const IDLE: [&str; 2] = ["max_long_partial_prefills", "async_scheduling"];
    let object = value.as_object().ok_or("config is not an object")?;
    for (key, value) in object {
        let idle = IDLE.contains(&key.as_str()) && value != &Value::Bool(true);
        if !KNOWN.contains(&key.as_str()) && !idle {
            return Err(format!("config.{key} is not supported; {} are", KNOWN.join(", ")));
        }
    }
    let number = |key: &str| number(value, key).map_err(|error| format!("config.{error}"));
    let optional = |key: &str, default: u32| if value.get(key).is_some() { number(key) } else { Ok(default) };
    let flag = |key: &str, default: bool| match value.get(key) {
        None => Ok(default),
        Some(flag) => flag.as_bool().ok_or(format!("config.{key} is neither true nor false")),
    };
    let block = NonZeroU32::new(number("block_size")?).ok_or("config.block_size is 0")?;
    let mut config = Config::new(version, number("num_blocks")?);
    config.groups = groups(value, block)?;
    config.max_seqs = number("max_num_seqs")?;
    config.max_batched_tokens = number("max_num_batched_tokens")?;
    config.max_model_len = number("max_model_len")?;
    let some = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => number(key).map(Some),
    };
    config.max_active_seqs = some("max_num_active_seqs")?;
    config.max_scheduled_tokens = some("max_num_scheduled_tokens")?;
    config.prefill_interval = optional("prefill_schedule_interval", 1)?;
    config.prefix_caching = flag("prefix_caching", true)?;
    config.chunked_prefill = flag("chunked_prefill", true)?;
    config.long_prefill_token_threshold = optional("long_prefill_token_threshold", 0)?;
    config.adaptive_threshold = flag("long_prefill_token_threshold_adaptive", false)?;
    config.max_partial_prefills = optional("max_num_partial_prefills", 1)?;
    config.policy = match value.get("policy").map(|policy| policy.as_str()) {
        None | Some(Some("fcfs")) => Policy::Fcfs,
        Some(Some("priority")) => Policy::Priority,
        Some(_) => return Err("config.policy is neither `fcfs` nor `priority`".to_owned()),
    };
    if value.get("scheduler_reserve_full_isl").is_some() {
        config.reserve_full = Some(flag("scheduler_reserve_full_isl", true)?);
    }
    if let Some(watermark) = value.get("watermark") {
        config.watermark = watermark.as_f64().ok_or("config.watermark is not a number")?;
    }
    config.retention = some("prefix_cache_retention_interval")?;
    Ok(config)
}

fn groups(config: &Value, block: NonZeroU32) -> Result<Vec<Group>, String> {
    let Some(groups) = config.get("groups") else {
        return Ok(vec![Group { reach: Reach::Full, block_tokens: block }]);
    };
    let groups = groups.as_array().ok_or("config.groups is not a list")?;
    let read = |(at, group): (usize, &Value)| {
        let wrong = |what: &str| format!("config.groups[{at}].{what}");
        let size = |key: &str| {
            let size = number(group, key).map_err(|error| wrong(&error))?;
            NonZeroU32::new(size).ok_or_else(|| wrong(&format!("{key} is 0")))
        };
        let block_tokens = if group.get("block_size").is_some() { size("block_size")? } else { block };
        let reach = match group.get("kind").and_then(Value::as_str) {
            Some("full") => Reach::Full,
            Some("sliding") => Reach::Sliding { window: size("window")? },
            Some("chunked") => Reach::Chunked { chunk: size("window")? },
            Some(_) | None => return Err(wrong("kind is none of `full`, `sliding`, `chunked`")),
        };
        Ok(Group { reach, block_tokens })
    };
    groups.iter().enumerate().map(read).collect()
}

fn arrival(value: &Value, config: &Config, at: usize) -> Result<(String, Arrival), String> {
    let id = value.get("id").and_then(Value::as_str).ok_or("id is missing")?;
    let mut prompt = Content::new();
    for pair in list(value, "prompt")? {
        let pair = pair.as_array().filter(|pair| pair.len() == 2).ok_or("prompt is not made of [segment, length]")?;
        let segment = pair[0].as_u64().filter(|&segment| segment < OUTPUTS).ok_or("a segment is not a number")?;
        let len = pair[1].as_u64().and_then(|len| u32::try_from(len).ok()).ok_or("a length is not a number")?;
        if !prompt.try_push(segment, 0, len) {
            return Err("the prompt has 2^32 tokens or more".to_owned());
        }
    }
    if prompt.is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    let step = value.get("arrival_step").and_then(Value::as_u64).ok_or("arrival_step is missing")?;
    let max_tokens = number(value, "max_tokens")?;
    if max_tokens == 0 {
        return Err("max_tokens is 0".to_owned());
    }
    let priority = match value.get("priority") {
        None | Some(Value::Null) => 0,
        Some(priority) => priority
            .as_i64()
            .and_then(|priority| i32::try_from(priority).ok())
            .ok_or("priority is not a small integer")?,
    };
    let arrival = Arrival {
        at: Nanos::new(step),
        // Nothing but the length ends a sequence.
        output_tokens: max_tokens.min(config.max_model_len.saturating_sub(prompt.len()).max(1)),
        max_tokens,
        output_stream: OUTPUTS + at as u64,
        priority,
        sample_of: None,
        mark: 0,
        prompt,
    };
    Ok((id.to_owned(), arrival))
}

fn decision(value: &Value, numbers: &BTreeMap<&str, u64>) -> Result<Decision, String> {
    let find = |name: &Value| {
        let name = name.as_str().ok_or("a request's id is not a text")?;
        numbers.get(name).copied().ok_or(format!("request `{name}` is not among the requests"))
    };
    let pairs = |key: &str| -> Result<Vec<(u64, u32)>, String> {
        let pair = |pair: &Value| {
            let wrong = || format!("{key} is not made of [id, tokens]");
            let pair = pair.as_array().filter(|pair| pair.len() == 2).ok_or_else(wrong)?;
            let tokens = pair[1].as_u64().and_then(|tokens| u32::try_from(tokens).ok()).ok_or_else(wrong)?;
            Ok((find(&pair[0])?, tokens))
        };
        list(value, key)?.iter().map(pair).collect()
    };
    let sorted = |key: &str| -> Result<Vec<u64>, String> {
        let mut found = list(value, key)?.iter().map(find).collect::<Result<Vec<u64>, String>>()?;
        found.sort_unstable();
        Ok(found)
    };
    Ok(Decision {
        step: value.get("step").and_then(Value::as_u64).ok_or("step is missing")?,
        scheduled: pairs("scheduled")?,
        new: pairs("new")?,
        resumed: pairs("resumed")?,
        preempted: sorted("preempted")?,
        finished: sorted("finished")?,
        free_blocks: number(value, "free_blocks")?,
        waiting: number(value, "waiting")? as usize,
        running: number(value, "running")? as usize,
    })
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value], String> {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| format!("{key} is not a list"))
}

fn number(value: &Value, key: &str) -> Result<u32, String> {
    let number = value.get(key).ok_or_else(|| format!("{key} is missing"))?;
    number
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| format!("{key} is {number}, not a number"))
}
