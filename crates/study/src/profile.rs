//! What was measured on this machine? Non-torch memory, activation and graphs of logged launches, kept for later plans of
//! the same card, engine, model and division. The file is JSON that people can read; whoever calls reads and writes it.
//!
//! ```
//! use plimsoll_study::profile::{Key, Measured, Profile};
//!
//! let key = Key { gpu: "H100 SXM5 80GB".into(), engine: "vllm".into(), engine_version: "0.19.0".into(),
//!     model: "org/m".into(), tp: 1, pp: 1, options: Default::default() };
//! let mut profile = Profile::default();
//! profile.learn(key.clone(), Measured { non_torch_bytes: Some(300 << 20), ..Measured::default() });
//! let learned = Profile::read(profile.write().as_bytes())?.find(&key).map(|learned| learned.non_torch);
//! assert_eq!(learned.flatten().map(|spread| spread.middle), Some(300 << 20));
//! # Ok::<(), plimsoll_study::profile::Error>(())
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error as ThisError;

/// The form that is written.
const VERSION: u32 = 1;
/// Runs that are kept of one launch, the latest.
const RUNS: usize = 16;
/// Launches that are kept.
const LAUNCHES: usize = 4096;

/// Why a profile could not be read.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Error {
    /// It is no JSON of this form.
    #[error("not a profile: {0}")]
    Malformed(String),
    /// A later release wrote it.
    #[error("written in form {found}, this release reads up to {VERSION}")]
    Newer {
        /// Its form.
        found: u32,
    },
}

/// Which launches a measurement is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The card's catalogue name.
    pub gpu: String,
    /// The engine.
    pub engine: String,
    /// Its release.
    pub engine_version: String,
    /// The model's name.
    pub model: String,
    /// Tensor-parallel ranks.
    pub tp: u32,
    /// Pipeline stages.
    pub pp: u32,
    /// Options of the launch that can change memory.
    #[serde(default)]
    pub options: BTreeMap<String, Value>,
}

/// What one launch measured, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Outside the framework's allocator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_torch_bytes: Option<u64>,
    /// Peak of the profile run above the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_bytes: Option<u64>,
    /// Graphs as captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphs_bytes: Option<u64>,
    /// In use before anything was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at_start_bytes: Option<u64>,
    /// Half of the last printed digit of these numbers.
    #[serde(default)]
    pub half_bytes: u64,
}

impl Measured {
    /// Whether there is anything to keep.
    pub fn is_empty(&self) -> bool {
        self.non_torch_bytes.is_none() && self.activation_bytes.is_none() && self.graphs_bytes.is_none()
    }
}

/// The runs of one launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Launch {
    #[serde(rename = "launch")]
    key: Key,
    runs: Vec<Measured>,
}

/// Everything that was learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    version: u32,
    #[serde(default)]
    launches: Vec<Launch>,
}

impl Default for Profile {
    fn default() -> Self {
        Profile { version: VERSION, launches: Vec::new() }
    }
}

/// A measured number with its spread over the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The smallest.
    pub low: u64,
    /// The median.
    pub middle: u64,
    /// The largest.
    pub high: u64,
}

/// What a profile knows of a launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Outside the framework's allocator.
    pub non_torch: Option<Spread>,
    /// The profile run's peak, where nothing differs that moves it.
    pub activation: Option<Spread>,
    /// Graphs as captured.
    pub graphs: Option<Spread>,
    /// How many runs.
    pub runs: usize,
    /// The release that was measured.
    pub engine_version: String,
    /// Options that differ between the measured launch and this one.
    pub differs: Vec<String>,
}

/// Options that do not move the profile run's peak.
const STILL: [&str; 14] = [
    "block_size",
    "enable_prefix_caching",
    "env",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "kv_cache_free_gpu_memory_fraction",
    "kv_cache_memory_bytes",
    "max_model_len",
    "max_seq_len",
    "max_total_tokens",
    "mem_fraction_static",
    "num_gpu_blocks_override",
    "page_size",
    "swap_space",
];

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`Error`] for what is no profile, or one of a later form.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let malformed = |error: serde_json::Error| Error::Malformed(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
        if head.version > VERSION {
            return Err(Error::Newer { found: head.version });
        }
        let mut profile: Profile = serde_json::from_slice(bytes).map_err(malformed)?;
        profile.launches.truncate(LAUNCHES);
        Ok(profile)
    }

    /// Writes the profile for a file.
    pub fn write(&self) -> String {
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Returns how many launches it knows.
    pub fn len(&self) -> usize {
        self.launches.len()
    }

    /// Whether it knows nothing.
    pub fn is_empty(&self) -> bool {
        self.launches.is_empty()
    }

    /// Adds a run; what is known of the same launch stays, up to the sixteen latest runs.
    pub fn learn(&mut self, key: Key, run: Measured) {
        if let Some(launch) = self.launches.iter_mut().find(|launch| launch.key == key) {
            if launch.runs.last() == Some(&run) {
                return;
            }
            launch.runs.push(run);
            let extra = launch.runs.len().saturating_sub(RUNS);
            launch.runs.drain(..extra);
            return;
        }
        if self.launches.len() >= LAUNCHES {
            self.launches.remove(0);
        }
        self.launches.push(Launch { key, runs: vec![run] });
    }

    /// Returns what is known of the same card, engine (up to its last number), model and division, from the launch whose
    /// options are nearest.
    pub fn find(&self, key: &Key) -> Option<Learned> {
        let line = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
        let fits = |launch: &&Launch| {
            let known = &launch.key;
            known.gpu == key.gpu
                && known.engine == key.engine
                && known.model == key.model
                && (known.tp, known.pp) == (key.tp, key.pp)
                && line(&known.engine_version) == line(&key.engine_version)
        };
        let apart = |launch: &&Launch| {
            let differs = differing(&launch.key.options, &key.options);
            let moving = differs.iter().filter(|name| !STILL.contains(&name.as_str())).count();
            (moving, differs.len(), usize::from(launch.key.engine_version != key.engine_version))
        };
        let nearest = self.launches.iter().filter(fits).min_by_key(apart)?;
        let differs = differing(&nearest.key.options, &key.options);
        let still = differs.iter().all(|name| STILL.contains(&name.as_str()));
        let of = |pick: fn(&Measured) -> Option<u64>| spread(&nearest.runs, pick);
        Some(Learned {
            non_torch: of(|run| run.non_torch_bytes),
            activation: of(|run| run.activation_bytes).filter(|_| still),
            graphs: of(|run| run.graphs_bytes).filter(|_| still),
            runs: nearest.runs.len(),
            engine_version: nearest.key.engine_version.clone(),
            differs,
        })
    }
}

/// Options that one launch has and the other has not, or with another value.
fn differing(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> Vec<String> {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).filter(|name| a.get(*name) != b.get(*name)).collect();
    names.sort();
    names.dedup();
    names.into_iter().cloned().collect()
}

/// The middle and the ends of what the runs measured, what printing rounds away included.
fn spread(runs: &[Measured], pick: fn(&Measured) -> Option<u64>) -> Option<Spread> {
    let mut values: Vec<(u64, u64)> = runs.iter().filter_map(|run| Some((pick(run)?, run.half_bytes))).collect();
    values.sort_unstable();
    let (first, last) = (values.first()?, values.last()?);
    let middle = values.get(values.len() / 2)?.0;
    Some(Spread { low: first.0.saturating_sub(first.1), middle, high: last.0.saturating_add(last.1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(model: &str, options: &[(&str, u64)]) -> Key {
        Key {
            gpu: "L40S".into(),
            engine: "vllm".into(),
            engine_version: "0.19.1".into(),
            model: model.into(),
            tp: 1,
            pp: 1,
            options: options.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect(),
        }
    }

    fn run(activation: u64) -> Measured {
        Measured {
            activation_bytes: Some(activation),
            non_torch_bytes: Some(activation / 10),
            half_bytes: 5,
            ..Measured::default()
        }
    }

    #[test]
    fn runs_are_merged_and_the_nearest_launch_is_found() {
        let mut profile = Profile::default();
        for activation in [1000, 1200, 1100] {
            profile.learn(key("m", &[("max_num_seqs", 256)]), run(activation));
        }
        profile.learn(key("m", &[("max_num_seqs", 64)]), run(500));
        profile.learn(key("n", &[]), run(9));
        let profile = Profile::read(profile.write().as_bytes()).expect("it was written here");
        assert_eq!(profile.len(), 3);
        let found = profile.find(&key("m", &[("max_num_seqs", 256), ("gpu_memory_utilization", 1)])).expect("known");
        assert_eq!((found.activation, found.runs), (Some(Spread { low: 995, middle: 1100, high: 1205 }), 3));
        assert_eq!(found.differs, ["gpu_memory_utilization"]);
        let other = profile.find(&key("m", &[("max_num_seqs", 32)])).expect("near");
        assert_eq!(other.activation, None, "a setting that moves the peak differs");
        assert!(other.non_torch.is_some());
        assert_eq!(profile.find(&key("absent", &[])), None);
        assert_eq!(profile.find(&Key { engine_version: "0.20.0".into(), ..key("m", &[]) }), None);
    }

    #[test]
    fn what_is_no_profile_is_an_error() {
        for text in ["", "{", "[]", "{}", r#"{"version": 1, "launches": [{}]}"#, r#"{"version": -1}"#, "\u{0}"] {
            assert!(matches!(Profile::read(text.as_bytes()), Err(Error::Malformed(_))), "{text}");
        }
        assert_eq!(Profile::read(br#"{"version": 9, "x": 1}"#), Err(Error::Newer { found: 9 }));
        assert_eq!(Profile::read(br#"{"version": 1}"#).map(|profile| profile.len()), Ok(0));
    }

    #[test]
    fn runs_are_capped() {
        let mut profile = Profile::default();
        for activation in 0..100 {
            profile.learn(key("m", &[]), run(activation));
        }
        assert_eq!(profile.find(&key("m", &[])).map(|learned| learned.runs), Some(RUNS));
    }
}
