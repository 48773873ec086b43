//! What did SGLang's scheduler decide, pass by pass?
//!
//! A file holds `config` by the engine's names (`num_tokens` for the pool's tokens), `requests` (`arrival_step`, `prompt` as
//! segments and lengths, `max_tokens`, which is the output's length) and `steps`: what was scheduled in order with its
//! tokens, who came in or came back with what was cached, who was retracted and who ended, and after the pass the free and
//! the evictable tokens, the queue, those that run, and the estimate of what running requests still need.

use std::num::NonZeroU32;

use plimsoll_sim::schedule::sglang::{Config, Sglang};
use plimsoll_sim::schedule::{Batch, Scheduler};
use plimsoll_sim::{Arrival, Requests, Slot};
use plimsoll_units::Nanos;
use serde_json::{Value, json};

use super::radix::prompt;

/// Whether a file has this form.
pub fn is(oracle: &Value) -> bool {
    oracle.get("engine").and_then(Value::as_str) == Some("sglang") && oracle.get("steps").is_some()
}

/// Does every pass again. Returns how many there are, and a line for each that differs.
pub fn compare(oracle: &Value) -> Result<(usize, Vec<String>), String> {
    let steps = oracle.get("steps").and_then(Value::as_array).ok_or("no steps")?;
    let mut replay = Replay::new(oracle)?;
    let mut wrong = Vec::new();
    for expected in steps {
        let number = expected.get("step").and_then(Value::as_u64).ok_or("a step without a number")?;
        // A pass with nothing to do is not recorded; with overlap it is not the one that takes in the last outcome.
        while replay.engine.config().enable_overlap && replay.next < number {
            replay.pass(replay.next)?;
        }
        let found = match replay.pass(number) {
            Ok(found) => found,
            Err(error) => {
                wrong.push(format!("step {number}: {error}"));
                break;
            }
        };
        let different: Vec<String> = (found.as_object().into_iter().flatten())
            .filter(|(key, found)| expected.get(*key).is_some_and(|expected| !equal(expected, found)))
            .map(|(key, found)| format!("{key} {found} instead of {}", expected[key]))
            .collect();
        if !different.is_empty() {
            wrong.push(format!("step {number}: {}", different.join(", ")));
        }
    }
    // After the first difference the rest is another history.
    let lost = wrong.first().and_then(|line| line.split([' ', ':']).nth(1)?.parse::<u64>().ok());
    let passed =
        lost.map_or(steps.len(), |lost| steps.iter().take_while(|step| step["step"].as_u64() < Some(lost)).count());
    wrong.resize(steps.len() - passed, "as above".to_owned());
    Ok((steps.len(), wrong))
}

/// Whether two values are equal; fractions as far as their decimal forms can be read.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap_or(f64::NAN), other.as_f64().unwrap_or(f64::NAN));
            (one - other).abs() <= 1e-14 * one.abs()
        }
        _ => a == b,
    }
}

/// Reads what is set.
fn config(oracle: &Value) -> Result<Config, String> {
    let config = oracle.get("config").ok_or("no config")?;
    let number = |key: &str| config.get(key).and_then(Value::as_u64).ok_or_else(|| format!("no {key}"));
    let small = |key: &str| u32::try_from(number(key)?).map_err(|error| format!("{key}: {error}"));
    let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    let chunk = match config.get("chunked_prefill_size") {
        None | Some(Value::Null) => None,
        Some(_) => Some(small("chunked_prefill_size")?),
    };
    let policy = config.get("schedule_policy").and_then(Value::as_str).ok_or("no schedule_policy")?;
    Ok(Config {
        page_size: NonZeroU32::new(small("page_size")?).ok_or("page_size is 0")?,
        max_prefill_tokens: small("max_prefill_tokens")?,
        schedule_policy: policy.parse().map_err(|error| format!("{error}"))?,
        schedule_conservativeness: config.get("schedule_conservativeness").and_then(Value::as_f64).unwrap_or(1.0),
        disable_radix_cache: flag("disable_radix_cache"),
        enable_mixed_chunk: flag("enable_mixed_chunk"),
        enable_overlap: flag("overlap"),
        ignore_eos: flag("ignore_eos"),
        ..Config::new(number("num_tokens")?, small("max_running_requests")?, chunk)
    })
}

struct Replay {
    engine: Sglang,
    requests: Requests,
    /// In the file's order.
    arrivals: Vec<Option<Arrival>>,
    ids: Vec<String>,
    batch: Batch,
    /// The next pass.
    next: u64,
    /// Who ended in the last pass' step, where the engine learns that a pass later.
    ended: Vec<String>,
}

impl Replay {
    fn new(oracle: &Value) -> Result<Self, String> {
        let engine = Sglang::new(config(oracle)?).map_err(|error| format!("{error}"))?;
        let (mut arrivals, mut ids) = (Vec::new(), Vec::new());
        for (at, request) in oracle.get("requests").and_then(Value::as_array).ok_or("no requests")?.iter().enumerate() {
            let number =
                |key: &str| request.get(key).and_then(Value::as_u64).ok_or_else(|| format!("request {at}: no {key}"));
            let tokens = u32::try_from(number("max_tokens")?).map_err(|error| format!("request {at}: {error}"))?;
            ids.push(request.get("id").and_then(Value::as_str).unwrap_or_default().to_owned());
            arrivals.push(Some(Arrival {
                at: Nanos::new(number("arrival_step")?),
                prompt: prompt(request)?,
                output_tokens: tokens,
                max_tokens: tokens,
                output_stream: (1 << 40) + at as u64,
                priority: 0,
                sample_of: None,
                mark: at as u64,
            }));
        }
        let (requests, batch) = (Requests::default(), Batch::default());
        Ok(Replay { engine, requests, arrivals, ids, batch, next: 0, ended: Vec::new() })
    }

    fn id(&self, slot: Slot) -> &str {
        &self.ids[self.requests[slot].mark as usize]
    }

    /// Does a pass and returns what happened.
    fn pass(&mut self, number: u64) -> Result<Value, String> {
        let now = Nanos::new(number);
        self.next = number + 1;
        let late = self.engine.keeps_ended();
        for arrival in &mut self.arrivals {
            if let Some(arrival) = arrival.take_if(|arrival| arrival.at <= now) {
                let id = &self.ids[arrival.mark as usize];
                let slot = self.requests.insert(arrival);
                self.engine.add(slot, &self.requests).map_err(|refusal| format!("{id} is refused: {}", refusal.why))?;
            }
        }
        self.batch.clear();
        self.engine.schedule(now, &mut self.requests, &mut self.batch);
        let pairs = |pairs: &[(Slot, u32)]| -> Value {
            pairs.iter().map(|(slot, tokens)| json!([self.id(*slot), tokens])).collect()
        };
        let scheduled: Value =
            self.batch.entries.iter().map(|entry| json!([self.id(entry.slot), entry.tokens])).collect();
        let (new, resumed) = (pairs(&self.batch.new), pairs(&self.batch.resumed));
        let retracted: Value = self.batch.preempted.iter().map(|slot| json!(self.id(*slot))).collect();
        let mut ended = Vec::new();
        for entry in &self.batch.entries {
            let request = &mut self.requests[entry.slot];
            if entry.context + entry.tokens < request.content.len() {
                continue;
            }
            request.content.push(request.output_stream, request.generated, 1);
            request.generated += 1;
            request.last_token = Nanos::new(number + 1 + u64::from(late));
            if request.is_done() {
                ended.push(entry.slot);
            }
        }
        let mut finished: Vec<String> = ended.iter().map(|slot| self.id(*slot).to_owned()).collect();
        finished.sort();
        if late {
            std::mem::swap(&mut self.ended, &mut finished);
        }
        for slot in ended {
            self.engine.finish(slot, &self.requests);
            if !late {
                self.requests.remove(slot);
            }
        }
        self.engine.complete(&self.requests, &self.batch);
        self.engine.verify(&self.requests);
        let (available, evictable) = self.engine.available();
        Ok(json!({
            "scheduled": scheduled, "new": new, "resumed": resumed, "retracted": retracted, "finished": finished,
            "available": available, "evictable": evictable, "waiting": self.engine.waiting(),
            "running": self.engine.running(), "new_token_ratio": self.engine.new_token_ratio(),
        }))
    }
}
