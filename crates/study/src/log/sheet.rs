//! What was found? Readings by kind, rank and device, the launch's own words, refusals; bounded, however long the log.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Rank;

/// Kinds of readings, with their names in JSON.
macro_rules! whats {
    ($($variant:ident = $name:literal : $doc:literal),+ $(,)?) => {
        /// What a number in a log is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum What {
            $(#[doc = $doc] $variant,)+
        }

        impl What {
            /// Every kind, in the order in which a reader lists them.
            pub const ALL: &[What] = &[$(What::$variant,)+];

            /// Returns the name in JSON.
            pub const fn name(self) -> &'static str {
                match self { $(What::$variant => $name,)+ }
            }
        }
    };
}

whats! {
    Total = "total": "The card's total.",
    FreeAtStart = "free_at_start": "Free before anything was loaded.",
    UsedAtStart = "used_at_start": "In use before anything was loaded, as the engine says.",
    Limit = "limit": "What the engine allows itself.",
    Fraction = "fraction": "The share that it allows itself.",
    Weights = "weights": "Weights after loading.",
    WeightsDraft = "weights.draft": "Weights of a draft model.",
    Consumed = "consumed": "Weights and everything outside the framework's allocator, in one number.",
    FreeAfterWeights = "free_after_weights": "Free after the weights.",
    Activation = "activation": "Peak of the profile run above the weights.",
    NonTorch = "non_torch": "Outside the framework's allocator.",
    NonTorchLoaded = "non_torch_after_load": "Outside the framework's allocator after loading.",
    Comms = "comms": "Taken by setting up communication.",
    RuntimeBuffers = "runtime.buffers": "The engine's persistent buffers.",
    RuntimeDecoder = "runtime.decoder": "The engine's sampling buffers.",
    Peak = "peak": "Peak of the profile run, everything.",
    TemporaryKv = "temporary_kv": "The cache of the profile run.",
    GraphsEstimated = "graphs_estimated": "CUDA graphs as estimated before capture.",
    Graphs = "graphs": "CUDA graphs as captured.",
    FreeBeforeKv = "free_before_kv": "Free before the KV cache is taken.",
    KvBudget = "kv_budget": "What is left for the KV cache.",
    KvForced = "kv_forced": "The KV cache's size as commanded.",
    KvBytes = "kv": "The KV cache as allocated.",
    KvDraft = "kv.draft": "The draft model's KV cache.",
    State = "state": "Recurrent state as allocated.",
    KvTokens = "kv_tokens": "Tokens that the KV cache holds.",
    KvTokensWindow = "kv_tokens_window": "Tokens that the window layers' pool holds.",
    KvBlocks = "kv_blocks": "Blocks of the KV cache.",
    BlocksForced = "kv_blocks_forced": "Blocks as commanded.",
    CpuBlocks = "cpu_blocks": "Blocks in host memory.",
    BlockTokens = "block_tokens": "Tokens of one block.",
    KvPerToken = "kv_bytes_per_token": "Bytes of one token.",
    Concurrency = "concurrency": "Requests of the longest length at once.",
    ConcurrencyTokens = "concurrency_tokens": "The length for which concurrency is printed.",
    MaxRunning = "max_running_requests": "Requests that may run at once.",
    ContextLength = "context_length": "Longest sequence served.",
    FreeAfterKv = "free_after_kv": "Free after the KV cache.",
    FreeAtEnd = "free_at_end": "Free when the engine is ready.",
    Compute = "compute_buffer": "The graph's scratch memory.",
    Output = "output_buffer": "Logits and embeddings handed out.",
    Adapter = "adapter_buffer": "LoRA adapters.",
    Projector = "projector": "A vision projector.",
    DeviceUsed = "device_used": "What the engine took of a device, all together.",
    Unaccounted = "unaccounted": "Taken on a device and in none of the engine's buffers.",
    LayersOffloaded = "layers_offloaded": "Layers on GPUs.",
    LayersTotal = "layers_total": "Layers that could be.",
    Required = "required": "What the engine expects to take on its GPUs.",
    RequiredFull = "required_full": "What it would take to place every layer on GPUs.",
    GraphFull = "graph_full": "The graph's scratch as estimated, every layer on GPUs.",
    GraphPartial = "graph_partial": "The graph's scratch as estimated, some layers on GPUs.",
    FileSize = "file_size": "The model file's tensors.",
    CompileSeconds = "compile_seconds": "Seconds that compilation took.",
}

/// One number of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it is.
    pub what: What,
    /// Who wrote it.
    pub rank: Rank,
    /// The device as the engine names it.
    pub device: Option<String>,
    /// Bytes, for a size.
    pub bytes: Option<u64>,
    /// Half of the last printed digit, bytes.
    pub half: u64,
    /// The number, where it is no size.
    pub count: Option<f64>,
    /// The line, from 1.
    pub line: u64,
    /// The engine's words, shortened.
    pub text: String,
}

/// Why an engine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// Nothing was left for the KV cache.
    NoCache,
    /// One request of the longest length does not fit.
    ContextTooLong,
    /// Less was free at the start than the engine wanted to take.
    NotFree,
    /// An allocation failed.
    OutOfMemory,
    /// What was free changed while it was measured.
    Unsteady,
}

impl RefusalKind {
    /// Returns the name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            RefusalKind::NoCache => "no_cache",
            RefusalKind::ContextTooLong => "context_too_long",
            RefusalKind::NotFree => "not_free",
            RefusalKind::OutOfMemory => "out_of_memory",
            RefusalKind::Unsteady => "unsteady",
        }
    }
}

/// The engine's own words for stopping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub kind: RefusalKind,
    /// Its words, shortened.
    pub text: String,
    /// The line, from 1.
    pub line: u64,
}

/// A card that a log names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name as printed.
    pub name: String,
    /// Its number, where printed.
    pub index: Option<u32>,
    /// The line, from 1.
    pub line: u64,
}

/// Numbers of one kind, rank and device that are kept: the first ones and the last.
const PER_KEY: usize = 8;
/// Kinds, ranks and devices that are kept.
const KEYS: usize = 4096;
/// Options that are kept.
const OPTIONS: usize = 1024;
/// Everything else that is kept of a kind.
const FEW: usize = 32;

/// Everything that a log says.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    readings: BTreeMap<(What, Rank, Option<String>), Vec<Reading>>,
    /// Options that the launch named, by the engine's own names.
    pub options: Map<String, Value>,
    /// Settings as the engine resolved them, by its own names.
    pub resolved: Map<String, Value>,
    /// The model as the launch named it.
    pub model: Option<String>,
    /// A launch command, where the log shows one.
    pub command: Option<String>,
    /// Releases, as printed, in the order in which they were first seen.
    pub versions: Vec<String>,
    /// Cards.
    pub gpus: Vec<Gpu>,
    /// Failures.
    pub refusals: Vec<Refusal>,
    /// Other facts: a word and the line that shows it.
    pub signs: BTreeMap<&'static str, (u64, String)>,
    /// Launches that began.
    pub(super) launches: u64,
    /// The launch before, where the last one has printed nothing yet.
    earlier: Option<Box<Sheet>>,
    full: bool,
}

impl Sheet {
    /// Adds a number.
    pub(super) fn push(&mut self, reading: Reading) {
        let key = (reading.what, reading.rank, reading.device.clone());
        if self.readings.len() >= KEYS && !self.readings.contains_key(&key) {
            self.full = true;
            return;
        }
        let list = self.readings.entry(key).or_default();
        if list.len() == PER_KEY {
            list.pop();
        }
        list.push(reading);
    }

    /// Adds a failure; of equal ones, as every rank prints them, the first.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let known = self.refusals.iter().any(|other| other.kind == refusal.kind && other.text == refusal.text);
        if !known && self.refusals.len() < FEW {
            self.refusals.push(refusal);
        }
    }

    /// Adds a release.
    pub(super) fn version(&mut self, text: &str) -> bool {
        let text: String = text.trim_start_matches(['v', 'V', ' ']).chars().take(48).collect();
        let plausible = text.starts_with(|c: char| c.is_ascii_digit() || c == 'b');
        if plausible && !self.versions.contains(&text) && self.versions.len() < FEW {
            self.versions.push(text);
        }
        plausible
    }

    /// Adds a card.
    pub(super) fn gpu(&mut self, name: &str, index: Option<u32>, line: u64) -> bool {
        let name: String = name.trim().chars().take(96).collect();
        let known = self.gpus.iter().any(|gpu| gpu.index == index && gpu.name == name);
        if !name.is_empty() && !known && self.gpus.len() < FEW {
            self.gpus.push(Gpu { name: name.clone(), index, line });
        }
        !name.is_empty()
    }

    /// Notes a fact that is no number.
    pub(super) fn sign(&mut self, word: &'static str, line: u64, text: String) -> bool {
        self.signs.entry(word).or_insert((line, text));
        true
    }

    /// Adds options of the launch; secrets are left out.
    pub(super) fn launch_options(&mut self, options: Map<String, Value>) {
        for (key, value) in options {
            if !is_secret(&key) && (self.options.len() < OPTIONS || self.options.contains_key(&key)) {
                self.options.insert(key, value);
            }
        }
    }

    /// Adds a setting that the engine resolved.
    pub(super) fn resolve(&mut self, key: &str, value: Value) {
        if self.resolved.len() < OPTIONS && !is_secret(key) {
            self.resolved.insert(key.to_owned(), value);
        }
    }

    /// A launch begins: what the one before said is set aside.
    pub(super) fn begin(&mut self) {
        let launches = self.launches.saturating_add(1);
        if !self.readings.is_empty() {
            let mut before = std::mem::take(self);
            before.earlier = None;
            self.versions.clone_from(&before.versions);
            self.gpus.clone_from(&before.gpus);
            self.earlier = Some(Box::new(before));
        }
        self.launches = launches;
    }

    /// Whether anything was read of a rank.
    pub(super) fn has_rank(&self, rank: Rank) -> bool {
        self.readings.keys().any(|(_, other, _)| *other == rank)
    }

    /// Ends the log: where the last launch printed no number and did not fail, the one before stands.
    pub(super) fn close(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        let launches = self.launches;
        if self.readings.is_empty()
            && self.refusals.is_empty()
            && let Some(before) = self.earlier.take()
        {
            *self = *before;
            notes.push("the last launch in the log prints no memory line; this is the one before it".to_owned());
        } else if launches > 1 && self.earlier.take().is_some() {
            notes.push(format!("the log holds {launches} launches; this is the last"));
        }
        if self.full {
            notes.push(format!("more than {KEYS} kinds of readings; the rest is left out"));
        }
        if self.versions.len() > 1 {
            let all = self.versions.join(", ");
            notes.push(format!("the log names several releases ({all}); the last one counts"));
        }
        notes
    }

    /// Adds what another sheet says.
    pub(super) fn merge(&mut self, other: Sheet) {
        for (key, list) in other.readings {
            if self.readings.len() < KEYS {
                self.readings.entry(key).or_insert(list);
            }
        }
        for (key, value) in other.options {
            self.options.entry(key).or_insert(value);
        }
        for (key, value) in other.resolved {
            self.resolved.entry(key).or_insert(value);
        }
        self.model = self.model.take().or(other.model);
        self.command = self.command.take().or(other.command);
        for gpu in other.gpus {
            self.gpu(&gpu.name, gpu.index, gpu.line);
        }
        for refusal in other.refusals {
            self.refuse(refusal);
        }
        self.refusals.sort_by_key(|refusal| refusal.line);
        for (word, sign) in other.signs {
            self.signs.entry(word).or_insert(sign);
        }
        self.launches = self.launches.max(other.launches);
        if self.earlier.is_none() {
            self.earlier = other.earlier;
        }
    }

    /// Returns every reading, by kind, rank and device, each in the order of the log.
    pub fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.readings.values().flatten()
    }

    /// Returns the last reading of each rank and device of a kind.
    pub fn lasts(&self, what: What) -> impl Iterator<Item = &Reading> {
        self.readings.iter().filter(move |((kind, _, _), _)| *kind == what).filter_map(|(_, list)| list.last())
    }

    /// Returns the readings of each rank and device of a kind.
    pub fn lists(&self, what: What) -> impl Iterator<Item = &[Reading]> {
        self.readings.iter().filter(move |((kind, _, _), _)| *kind == what).map(|(_, list)| list.as_slice())
    }

    /// Returns the reading of a kind that stands last in the log.
    pub fn last(&self, what: What) -> Option<&Reading> {
        self.lasts(what).max_by_key(|reading| reading.line)
    }

    /// Returns the smallest of the ranks' last readings of a kind.
    pub fn least(&self, what: What) -> Option<&Reading> {
        self.lasts(what).filter(|reading| reading.bytes.is_some()).min_by_key(|reading| reading.bytes)
    }

    /// Returns the last count of a kind.
    pub fn count(&self, what: What) -> Option<f64> {
        self.last(what).and_then(|reading| reading.count)
    }

    /// Whether nothing at all was read.
    pub fn is_empty(&self) -> bool {
        self.readings.is_empty() && self.refusals.is_empty() && self.options.is_empty() && self.versions.is_empty()
    }
}

/// Whether an option may hold a secret.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["api_key", "hf_token", "secret", "password", "access_key", "auth_token", "ssl_key"]
        .iter()
        .any(|part| key.contains(part))
}
