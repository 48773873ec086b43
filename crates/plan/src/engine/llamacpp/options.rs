//! What was asked for? Flags, and the variables that stand for them, read into checked settings.
//!
//! Source: llama.cpp 0c1e57098, `common/arg.cpp`, `common/common.cpp` (`common_context_params_to_llama`),
//! `tools/server/server.cpp`, `tools/server/server-context.cpp` (`server_output_limits`).

use std::sync::LazyLock;

use plimsoll_facts::gguf::GgmlType;
use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::NAME;
use super::buffer::Where;
use super::context::{Asked, Flash};
use super::flags::{FLAGS, VARIABLES};
use super::rules::Rules;
use super::weights::{Host, Override};
use crate::{Error, Version};

/// The experts' weights, as `--cpu-moe` finds them (`LLM_FFN_EXPS_REGEX` of `common/common.h`).
pub const EXPERTS: &str = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps";
/// Dense feed-forward weights, as `--n-cpu-ffn` finds them (`LLM_FFN_DENSE_REGEX`).
const DENSE: &str = r"\.ffn_(up|down|gate)\.";
/// The longest pattern that is compiled, and how large it may become.
const PATTERN: (usize, usize) = (4096, 1 << 20);
/// The most tensor overrides that are read.
const MAX_OVERRIDES: usize = 4096;

/// How many layers go to GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit.
    Auto,
    /// All, the output included.
    All,
    /// So many, the output counted.
    Exact(u64),
}

/// How a model is divided over GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitMode {
    /// One GPU has it all.
    None,
    /// Layer by layer.
    Layer,
    /// Matrices row by row; the rest on the main GPU.
    Row,
    /// Weights and cache over all GPUs.
    Tensor,
}

/// How the file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// Mapped.
    pub mapped: bool,
    /// Locked in memory.
    pub locked: bool,
}

/// How unset values are fitted to free memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Whether they are.
    pub on: bool,
    /// MiB to leave free on each GPU; the last holds for all that follow.
    pub target: Vec<u64>,
    /// The least context that an unset one is cut to.
    pub context: u64,
}

/// A model that drafts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The file, where one was named.
    pub model: Option<String>,
    /// The drafting layers of the model itself.
    pub own_layers: bool,
    /// Tokens drafted at most.
    pub tokens: u64,
    /// Its layers on GPUs.
    pub layers: GpuLayers,
    /// Type of its keys.
    pub kind_k: GgmlType,
    /// Type of its values.
    pub kind_v: GgmlType,
}

/// Everything that was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The context.
    pub asked: Asked,
    /// A context of 0 was written: the model's own, never cut.
    pub whole_context: bool,
    /// Layers on GPUs.
    pub layers: GpuLayers,
    /// Division over GPUs.
    pub split: SplitMode,
    /// Shares of the GPUs.
    pub shares: Vec<f32>,
    /// The GPU for a model that is not divided.
    pub main_gpu: usize,
    /// The GPUs that may be used, by their numbers; `None` for all.
    pub devices: Option<Vec<usize>>,
    /// Tensors that go elsewhere.
    pub overrides: Vec<Override>,
    /// The flags that name them.
    pub override_flags: Vec<(&'static str, String)>,
    /// The host's part.
    pub host: Host,
    /// How the file is read.
    pub loading: Loading,
    /// Fitting.
    pub fit: Fit,
    /// Whether a server runs, with slots for requests at once.
    pub server: bool,
    /// Whether the slots were counted by the user.
    pub parallel_given: bool,
    /// Drafting.
    pub draft: Option<Draft>,
    /// Adapters.
    pub loras: Vec<String>,
    /// Control vectors.
    pub control_vectors: Vec<String>,
    /// The projector of images or sounds.
    pub mmproj: Option<String>,
    /// Whether it goes to the first GPU.
    pub mmproj_offload: bool,
    /// MiB of the prompt cache in host memory at most.
    pub cache_ram: Option<u64>,
    /// File type to assume where no file is at hand.
    pub file_type: Option<String>,
    /// What nobody said.
    pub assumptions: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Flags as they were written: name and value.
type Written = Vec<(&'static str, String)>;

/// Reads options that came from a command, from variables and from a request.
struct Reader<'a> {
    options: &'a Map<String, Value>,
    env: Map<String, Value>,
}

impl Options {
    /// Reads the options of a request.
    ///
    /// # Errors
    /// [`Error::Flag`] for a value that the engine refuses.
    pub fn from_map(options: &Map<String, Value>, version: Version) -> Result<Options, Error> {
        let reader = Reader { options, env: variables(options) };
        let rules = Rules::of(version);
        let mut assumptions = Vec::new();
        let server = reader.text("program")?.is_none_or(|program| program != "llama-cli");
        let draft = reader.draft()?;
        let (asked, parallel_given) = reader.asked(&rules, server, draft.as_ref(), &mut assumptions)?;
        let (overrides, override_flags) = reader.overrides()?;
        let loading = reader.loading()?;
        let host = Host {
            mapped: loading.mapped,
            repack: reader.on("repack")? && !reader.is_on("no_repack")?,
            pinned: !reader.is_on("no_host")?,
            avx512: true,
        };
        let layers = reader.layers("n_gpu_layers")?;
        Ok(Options {
            whole_context: reader.number("ctx_size")? == Some(0),
            layers: match (layers, rules.fits, rules.auto_flash) {
                (Some(layers), ..) => layers,
                (None, true, _) => GpuLayers::Auto,
                (None, false, true) => GpuLayers::All,
                (None, false, false) => {
                    let why = "-ngl is not given: 0, the default of builds before 2025-08-30; nothing is on the GPU";
                    assumptions.push(why.to_owned());
                    GpuLayers::Exact(0)
                }
            },
            split: reader.split()?,
            shares: reader.shares()?,
            main_gpu: reader.number("main_gpu")?.unwrap_or(0) as usize,
            devices: reader.devices()?,
            asked,
            overrides,
            override_flags,
            host,
            loading,
            fit: reader.fit(&rules)?,
            server,
            parallel_given,
            draft,
            loras: reader.list("lora")?.into_iter().chain(reader.list("lora_scaled")?).collect(),
            control_vectors: reader
                .list("control_vector")?
                .into_iter()
                .chain(reader.list("control_vector_scaled")?)
                .collect(),
            mmproj: if reader.is_on("no_mmproj")? { None } else { reader.text("mmproj")? },
            mmproj_offload: reader.on("mmproj_offload")?,
            cache_ram: reader.cache_ram()?,
            file_type: reader.file_type()?,
            assumptions,
            notes: reader.notes(),
        })
    }
}

/// The variables of a request, by the flags for which they stand.
fn variables(options: &Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Object(env)) = options.get("env") else { return Map::new() };
    let mut read = Map::new();
    for (variable, flag) in VARIABLES {
        if let Some(value) = env.get(variable) {
            read.insert(flag.to_owned(), value.clone());
        }
        if env.contains_key(&variable.replacen("LLAMA_ARG_", "LLAMA_ARG_NO_", 1)) {
            read.insert(flag.to_owned(), Value::from(false));
        }
    }
    read
}

impl Reader<'_> {
    /// A flag's value: the request's before the variable's.
    fn value(&self, name: &str) -> Option<&Value> {
        self.options.get(name).or_else(|| self.env.get(name)).filter(|value| !value.is_null())
    }

    fn refuse<T>(&self, name: &str, expected: &str) -> Result<T, Error> {
        let found = self.value(name).map_or_else(String::new, |value| match value {
            Value::String(text) => text.chars().take(60).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                value.to_string().chars().take(60).collect()
            }
        });
        Err(Error::Flag { flag: FLAGS.spell(name), found, expected: expected.to_owned() })
    }

    /// A word, or a number as a word.
    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => self.refuse(name, "a word"),
        }
    }

    /// A whole number that is not negative; -1 is none.
    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.parse::<i64>() {
            Ok(-1) => Ok(None),
            Ok(number) if (0..=i64::from(i32::MAX)).contains(&number) => Ok(Some(number.unsigned_abs())),
            Ok(_) | Err(_) => self.refuse(name, "a whole number from 0 to 2147483647"),
        }
    }

    /// Whether a switch is given and not turned off.
    fn is_on(&self, name: &str) -> Result<bool, Error> {
        Ok(self.toggle(name)?.unwrap_or(false))
    }

    /// Whether a switch is not turned off.
    fn on(&self, name: &str) -> Result<bool, Error> {
        Ok(self.toggle(name)?.unwrap_or(true))
    }

    fn toggle(&self, name: &str) -> Result<Option<bool>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "enabled" | "yes" => Ok(Some(true)),
            "false" | "0" | "off" | "disabled" | "no" => Ok(Some(false)),
            _ => self.refuse(name, "on or off"),
        }
    }

    /// Words, from a list or between commas.
    fn list(&self, name: &str) -> Result<Vec<String>, Error> {
        let split = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                match texts {
                    Some(texts) => Ok(texts.into_iter().flat_map(split).filter(|text| !text.is_empty()).collect()),
                    None => self.refuse(name, "a list of words"),
                }
            }
            Some(_) => Ok(self.text(name)?.map(|text| split(&text)).unwrap_or_default()),
        }
    }

    fn kind(&self, name: &str) -> Result<Option<GgmlType>, Error> {
        const KINDS: [&str; 9] = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"];
        let Some(text) = self.text(name)? else { return Ok(None) };
        let lower = text.to_ascii_lowercase();
        match GgmlType::parse(&lower).filter(|_| KINDS.contains(&lower.as_str())) {
            Some(kind) => Ok(Some(kind)),
            None => self.refuse(name, &KINDS.join(", ")),
        }
    }

    fn layers(&self, name: &str) -> Result<Option<GpuLayers>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match (text.as_str(), text.parse::<i64>()) {
            ("auto", _) | (_, Ok(-1)) => Ok(Some(GpuLayers::Auto)),
            ("all", _) => Ok(Some(GpuLayers::All)),
            (_, Ok(number)) if number < 0 => Ok(Some(GpuLayers::All)),
            (_, Ok(number)) => Ok(Some(GpuLayers::Exact(number.unsigned_abs()))),
            (_, Err(_)) => self.refuse(name, "a whole number, auto or all"),
        }
    }

    fn flash(&self, rules: &Rules) -> Result<Flash, Error> {
        let Some(text) = self.text("flash_attn")? else {
            return Ok(if rules.auto_flash { Flash::Auto } else { Flash::Off });
        };
        match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" | "enabled" => Ok(Flash::On),
            "off" | "false" | "0" | "disabled" => Ok(Flash::Off),
            "auto" | "-1" => Ok(Flash::Auto),
            _ => self.refuse("flash_attn", "on, off or auto"),
        }
    }

    /// The context's settings, and whether the slots were counted.
    fn asked(
        &self,
        rules: &Rules,
        server: bool,
        draft: Option<&Draft>,
        assumptions: &mut Vec<String>,
    ) -> Result<(Asked, bool), Error> {
        let embeddings = self.is_on("embeddings")? || self.is_on("reranking")?;
        let given = self.number("parallel")?.filter(|slots| *slots > 0);
        let auto = given.is_none() && server && rules.auto_parallel;
        let sequences = given.unwrap_or(if auto { 4 } else { 1 });
        if auto {
            assumptions.push("--parallel is not given: 4 slots that share one cache".to_owned());
        }
        let unified = self.toggle("kv_unified")?.unwrap_or(auto) && !self.is_on("no_kv_unified")?;
        let per_slot = self.number("kv_unified_per_slot")?.filter(|slot| *slot > 0);
        let context = self.number("ctx_size")?;
        let context = match (context, per_slot) {
            (None, Some(slot)) => Some(slot.saturating_mul(sequences)),
            (None, None) if !rules.fits => {
                assumptions.push("--ctx-size is not given: 4096, the default before 2025-12-15".to_owned());
                Some(4096)
            }
            (context, _) => context.filter(|context| *context > 0),
        };
        let ubatch = self.number("ubatch_size")?.unwrap_or(512);
        let batch = self.number("batch_size")?.unwrap_or(2048);
        let batch = if embeddings { batch.min(ubatch) } else { batch };
        if batch == 0 || ubatch == 0 {
            return self.refuse(if batch == 0 { "batch_size" } else { "ubatch_size" }, "a whole number above 0");
        }
        let drafted = draft.map_or(0, |draft| draft.tokens);
        let bound = sequences.saturating_mul(drafted.saturating_add(1)).min(batch).max(1);
        let asked = Asked {
            tokens: context,
            batch,
            ubatch,
            sequences,
            unified,
            flash: self.flash(rules)?,
            kind_k: self.kind("cache_type_k")?.unwrap_or(GgmlType::F16),
            kind_v: self.kind("cache_type_v")?.unwrap_or(GgmlType::F16),
            swa_full: self.is_on("swa_full")?,
            outputs: (rules.bounds_outputs && !embeddings).then_some(bound),
            embeddings,
            snapshots: drafted,
            offload_kv: self.on("kv_offload")? && !self.is_on("no_kv_offload")?,
            offload_ops: self.on("op_offload")?,
            drafting: false,
        };
        Ok((asked, given.is_some()))
    }

    fn draft(&self) -> Result<Option<Draft>, Error> {
        let model = self.text("model_draft")?.or(self.text("hf_repo_draft")?);
        let kind = self.text("spec_type")?.unwrap_or_default();
        let own_layers = kind.contains("mtp") || self.is_on("mtp")?;
        if model.is_none() && !own_layers {
            return Ok(None);
        }
        let tokens = self.number("spec_draft_n_max")?.or(self.number("draft_max")?);
        Ok(Some(Draft {
            model,
            own_layers,
            tokens: tokens.unwrap_or(3),
            layers: self.layers("n_gpu_layers_draft")?.unwrap_or(GpuLayers::Auto),
            kind_k: self.kind("cache_type_k_draft")?.unwrap_or(GgmlType::F16),
            kind_v: self.kind("cache_type_v_draft")?.unwrap_or(GgmlType::F16),
        }))
    }

    fn split(&self) -> Result<SplitMode, Error> {
        match self.text("split_mode")?.as_deref() {
            None | Some("layer") => Ok(SplitMode::Layer),
            Some("none") => Ok(SplitMode::None),
            Some("row") => Ok(SplitMode::Row),
            Some("tensor") => Ok(SplitMode::Tensor),
            Some(_) => self.refuse("split_mode", "none, layer, row or tensor"),
        }
    }

    fn shares(&self) -> Result<Vec<f32>, Error> {
        let Some(text) = self.text("tensor_split")? else { return Ok(Vec::new()) };
        let shares: Result<Vec<f32>, _> = text.split([',', '/']).map(|share| share.trim().parse::<f32>()).collect();
        match shares {
            Ok(shares) if shares.len() <= 16 && shares.iter().all(|share| share.is_finite() && *share >= 0.0) => {
                Ok(shares)
            }
            Ok(_) | Err(_) => self.refuse("tensor_split", "at most 16 numbers between commas, such as 3,1"),
        }
    }

    /// The GPUs by number: `CUDA0,CUDA1`, or `none`.
    fn devices(&self) -> Result<Option<Vec<usize>>, Error> {
        let names = self.list("device")?;
        if names.is_empty() {
            return Ok(None);
        }
        if names == ["none"] {
            return Ok(Some(Vec::new()));
        }
        let number = |name: &String| name.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse::<usize>().ok();
        match names.iter().map(number).collect::<Option<Vec<_>>>() {
            Some(numbers) if numbers.len() <= 16 => Ok(Some(numbers)),
            Some(_) | None => self.refuse("device", "names such as CUDA0,CUDA1, or none"),
        }
    }

    /// Tensors that go elsewhere, in the order of the engine: as written, `--cpu-moe` and its kin where they stand.
    fn overrides(&self) -> Result<(Vec<Override>, Written), Error> {
        let (mut found, mut flags) = (Vec::new(), Vec::new());
        for rule in self.list("override_tensor")? {
            let Some((pattern, buffer)) = rule.split_once('=') else {
                return self.refuse("override_tensor", "PATTERN=BUFFER, such as exps=CPU");
            };
            let to = match buffer {
                "CPU" => Where::Host,
                "CUDA_Host" => Where::Pinned,
                _ => match buffer.strip_prefix("CUDA").and_then(|number| number.parse::<u8>().ok()) {
                    Some(number) if number < 16 => Where::Device(number),
                    Some(_) | None => {
                        return self.refuse("override_tensor", "a buffer CPU, CUDA_Host, CUDA0, CUDA1, …");
                    }
                },
            };
            found.push(Override { pattern: self.pattern(pattern)?, to });
            flags.push(("override_tensor", rule));
        }
        if self.is_on("cpu_moe")? {
            found.push(Override { pattern: experts_pattern().clone(), to: Where::Host });
            flags.push(("cpu_moe", String::new()));
        }
        for (name, inner) in [("n_cpu_moe", EXPERTS), ("n_cpu_ffn", DENSE)] {
            let count = self.number(name)?.unwrap_or(0);
            if count > 0 {
                flags.push((name, count.to_string()));
            }
            if count > 512 {
                return self.refuse(name, "at most 512");
            }
            for layer in 0..count {
                found.push(Override { pattern: self.pattern(&format!(r"blk\.{layer}{inner}"))?, to: Where::Host });
            }
        }
        if found.len() > MAX_OVERRIDES {
            return self.refuse("override_tensor", "at most 4096 patterns");
        }
        Ok((found, flags))
    }

    fn pattern(&self, text: &str) -> Result<Regex, Error> {
        let compiled = (text.len() <= PATTERN.0).then(|| RegexBuilder::new(text).size_limit(PATTERN.1).build().ok());
        match compiled.flatten() {
            Some(pattern) => Ok(pattern),
            None => self.refuse("override_tensor", "a regular expression before the equals sign"),
        }
    }

    fn loading(&self) -> Result<Loading, Error> {
        let mapped = self.on("mmap")? && !self.is_on("direct_io")?;
        let locked = self.is_on("mlock")?;
        match self.text("load_mode")?.as_deref() {
            None | Some("auto") => Ok(Loading { mapped, locked }),
            Some("none" | "dio") => Ok(Loading { mapped: false, locked: false }),
            Some("mmap") => Ok(Loading { mapped: true, locked: false }),
            Some("mlock") => Ok(Loading { mapped: false, locked: true }),
            Some("mmap+mlock") => Ok(Loading { mapped: true, locked: true }),
            Some(_) => self.refuse("load_mode", "auto, none, mmap, mlock, mmap+mlock or dio"),
        }
    }

    fn fit(&self, rules: &Rules) -> Result<Fit, Error> {
        let target: Result<Vec<u64>, _> = self.list("fit_target")?.iter().map(|text| text.parse::<u64>()).collect();
        let target = match target {
            Ok(target) if target.is_empty() => vec![1024],
            Ok(target) if target.len() <= 16 => target,
            Ok(_) | Err(_) => return self.refuse("fit_target", "MiB for each GPU between commas"),
        };
        Ok(Fit {
            on: rules.fits && self.toggle("fit")?.unwrap_or(true),
            target,
            context: self.number("fit_ctx")?.unwrap_or(4096),
        })
    }

    fn cache_ram(&self) -> Result<Option<u64>, Error> {
        match self.text("cache_ram")?.map(|text| text.parse::<i64>()) {
            None => Ok(Some(8192)),
            Some(Ok(-1)) => Ok(None),
            Some(Ok(limit)) if limit >= 0 => Ok(Some(limit.unsigned_abs())),
            Some(Ok(_) | Err(_)) => self.refuse("cache_ram", "MiB, 0 for none or -1 for no limit"),
        }
    }

    /// The file type behind the colon of `-hf org/name:Q4_K_M`, or of Plimsoll's own key `file_type`.
    fn file_type(&self) -> Result<Option<String>, Error> {
        let behind = |text: String| text.rsplit_once(':').map(|(_, kind)| kind.to_owned());
        Ok(self.text("file_type")?.or(self.text("hf_repo")?.and_then(behind)))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut unread = |name: &str, why: &str| {
            if self.value(name).is_some() {
                notes.push(format!("{} {why}", FLAGS.spell(name)));
            }
        };
        unread("override_kv", "is not applied: the model is planned as its file says");
        unread("rpc", "adds devices that are not planned: give their cards with --gpu");
        unread("mmproj_url", "is not read: give the projector's file with --mmproj");
        unread("backend_sampling", "adds sampling buffers of 20 bytes for each token of the vocabulary and slot");
        notes
    }
}

/// Returns the pattern of the experts' weights.
pub fn experts_pattern() -> &'static Regex {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        #[expect(clippy::expect_used, reason = "a constant")]
        Regex::new(EXPERTS).expect("a pattern")
    });
    &PATTERN
}

/// The error for something that a build cannot do.
pub fn unsupported(version: Version, why: impl Into<String>) -> Error {
    Error::Unsupported { engine: NAME, version: version.to_string(), why: why.into() }
}
