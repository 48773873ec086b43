//! What did a simulation decide? A watcher that writes it in the recorded form.

use std::collections::BTreeMap;

use plimsoll_kv::{Content, Reach};
use serde_json::{Value, json};

use super::Decision;
use crate::run::{Idle, Rest, Step, Watch};
use crate::schedule::vllm::{Config, Policy};
use crate::{Requests, Slot};

/// Takes down every step of a run of [`Vllm`](crate::schedule::vllm::Vllm). Everything is kept in memory.
///
/// A prompt that contains what another request generated is written as segments of its own: the form knows generated tokens
/// only as unique ones.
#[derive(Debug, Default)]
pub struct Recorder {
    requests: Vec<Value>,
    segments: BTreeMap<(u64, u32), u64>,
    steps: Vec<Decision>,
    next: u64,
    joined: bool,
}

impl Recorder {
    /// Makes one for a scheduler with these settings.
    pub fn new(config: &Config) -> Self {
        Recorder { joined: config.version >= plimsoll_plan::Version::new(0, 31, 0), ..Recorder::default() }
    }

    /// Returns the record.
    pub fn json(&self, name: &str, settings: &Config) -> Value {
        json!({
            "engine": "vllm",
            "engine_version": settings.version.to_string(),
            "name": name,
            "config": config(settings),
            "requests": self.requests,
            "steps": self.steps.iter().map(|step| step.json(id)).collect::<Value>(),
        })
    }

    /// Returns what was decided.
    pub fn steps(&self) -> &[Decision] {
        &self.steps
    }

    fn prompt(&mut self, content: &Content, tokens: u32) -> Value {
        let mut left = tokens;
        let mut pairs = Vec::new();
        for run in content.runs() {
            let len = run.len.min(left);
            left -= len;
            if len == 0 {
                break;
            }
            let fresh = self.segments.len() as u64;
            let segment = *self.segments.entry((run.stream, run.from)).or_insert(fresh);
            pairs.push(json!([segment, len]));
        }
        pairs.into()
    }
}

/// Returns a request's name in the form: `r0012`.
pub fn id(number: u64) -> String {
    format!("r{number:04}")
}

fn config(config: &Config) -> Value {
    let groups = config.groups.iter().map(|group| {
        let mut value = match group.reach {
            Reach::Full => json!({ "kind": "full" }),
            Reach::Sliding { window } => json!({ "kind": "sliding", "window": window.get() }),
            Reach::Chunked { chunk } => json!({ "kind": "chunked", "window": chunk.get() }),
        };
        value["block_size"] = group.block_tokens.get().into();
        value
    });
    let mut value = json!({
        "block_size": config.groups.first().map(|group| group.block_tokens.get()),
        "num_blocks": config.blocks,
        "max_num_seqs": config.max_seqs,
        "max_num_active_seqs": config.max_active_seqs,
        "max_num_scheduled_tokens": config.max_scheduled_tokens,
        "prefill_schedule_interval": config.prefill_interval,
        "max_num_batched_tokens": config.max_batched_tokens,
        "max_model_len": config.max_model_len,
        "prefix_caching": config.prefix_caching,
        "chunked_prefill": config.chunked_prefill,
        "policy": match config.policy { Policy::Fcfs => "fcfs", Policy::Priority => "priority" },
        "long_prefill_token_threshold": config.long_prefill_token_threshold,
        "long_prefill_token_threshold_adaptive": config.adaptive_threshold,
        "max_num_partial_prefills": config.max_partial_prefills,
        "groups": groups.collect::<Value>(),
        "watermark": config.watermark,
        "prefix_cache_retention_interval": config.retention,
    });
    if let Some(reserve) = config.reserve_full {
        value["scheduler_reserve_full_isl"] = reserve.into();
    }
    value
}

impl Watch for Recorder {
    fn wants_batches(&self) -> bool {
        true
    }

    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        if refused.is_some() {
            return;
        }
        let request = &requests[slot];
        let value = json!({
            "id": id(request.number),
            "arrival_step": self.next,
            "prompt": self.prompt(&request.content, request.prompt_tokens),
            "max_tokens": request.output_tokens,
            "priority": request.priority,
        });
        self.requests.push(value);
    }

    fn step(&mut self, step: &Step<'_>) {
        self.steps.push(Decision::of(self.next, step.batch, step.finished, step.requests, self.joined));
        self.next += 1;
    }

    fn rest(&mut self, rest: &Rest) {
        if let Some(last) = self.steps.last_mut() {
            last.free_blocks = rest.free_blocks.unwrap_or_default();
            (last.waiting, last.running) = (rest.waiting, rest.running);
        }
    }

    fn idle(&mut self, idle: &Idle) {
        // An engine takes one more step to say who ended.
        let ended = self.steps.last().is_some_and(|last| !last.finished.is_empty());
        if let Some(last) = self.steps.last().filter(|_| ended) {
            let (waiting, running) = (idle.waiting, idle.running);
            let empty =
                Decision { step: self.next, free_blocks: last.free_blocks, waiting, running, ..Decision::default() };
            self.steps.push(empty);
            self.next += 1;
        }
    }
}
