//! What can be turned? Knobs by their names, and the option of each engine that turns one.

use plimsoll_facts::gguf::FileType;
use plimsoll_plan::engine::{llamacpp, ollama, sglang, transformers, trtllm};
use serde_json::{Map, json};

use super::Value;
use crate::Error;
use crate::plan::{Prepared, reads_gguf};

/// A thing that can be varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knob {
    /// Tokens of a sequence.
    Context,
    /// Sequences at once.
    Batch,
    /// Query heads of the model.
    Heads,
    /// Key/value heads of the model.
    KvHeads,
    /// Width of a head.
    HeadDim,
    /// Width of the residual stream.
    Dim,
    /// Layers of the model.
    Layers,
    /// Format of the weights.
    Format,
    /// Format of the KV cache.
    KvFormat,
    /// Tensor-parallel ranks.
    Tp,
    /// Pipeline stages.
    Pp,
    /// Tokens of a block of the KV cache.
    Block,
}

impl Knob {
    /// Every knob.
    pub const ALL: [Knob; 12] = [
        Knob::Context,
        Knob::Batch,
        Knob::Heads,
        Knob::KvHeads,
        Knob::HeadDim,
        Knob::Dim,
        Knob::Layers,
        Knob::Format,
        Knob::KvFormat,
        Knob::Tp,
        Knob::Pp,
        Knob::Block,
    ];

    /// Returns the name in requests, answers and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Knob::Context => "context",
            Knob::Batch => "batch",
            Knob::Heads => "heads",
            Knob::KvHeads => "kv-heads",
            Knob::HeadDim => "head-dim",
            Knob::Dim => "dim",
            Knob::Layers => "layers",
            Knob::Format => "format",
            Knob::KvFormat => "kv-format",
            Knob::Tp => "tp",
            Knob::Pp => "pp",
            Knob::Block => "block",
        }
    }

    /// Reads a name; underscores do for dashes.
    ///
    /// # Errors
    /// [`Error::Request`] lists the names.
    pub fn parse(text: &str) -> Result<Knob, Error> {
        let plain = text.trim().to_ascii_lowercase().replace('_', "-");
        Knob::ALL.into_iter().find(|knob| knob.name() == plain).ok_or_else(|| {
            let names: Vec<&str> = Knob::ALL.iter().map(|knob| knob.name()).collect();
            let found: String = text.chars().take(40).collect();
            Error::Request(format!("`{found}` is nothing that can be varied; these can: {}", names.join(", ")))
        })
    }

    /// Whether its values are names rather than numbers.
    pub const fn takes_words(self) -> bool {
        matches!(self, Knob::Format | Knob::KvFormat)
    }

    /// Whether it changes the model rather than its launch.
    pub const fn is_of_model(self) -> bool {
        matches!(self, Knob::Heads | Knob::KvHeads | Knob::HeadDim | Knob::Dim | Knob::Layers | Knob::Format)
    }

    /// The least and the most of its numbers.
    pub(super) const fn range(self) -> (u64, u64) {
        match self {
            Knob::Context => (1, 1 << 30),
            Knob::Batch => (1, 1 << 20),
            Knob::Heads | Knob::KvHeads | Knob::HeadDim | Knob::Layers => (1, 1 << 16),
            Knob::Dim => (1, 1 << 24),
            Knob::Tp | Knob::Pp => (1, 4096),
            Knob::Block => (1, 1 << 20),
            Knob::Format | Knob::KvFormat => (0, 0),
        }
    }
}

/// Returns the engine's own option for a knob of the launch; `None` when it has none.
///
/// Several names are set together. The option of llama.cpp's context is that of all sequences together, and Ollama's
/// variables stand for options: both are put in by [`set`].
fn options(engine: &str, knob: Knob) -> Option<&'static [&'static str]> {
    let row: [&'static [&'static str]; 6] = match engine {
        trtllm::NAME => [
            &["max_seq_len"],
            &["max_batch_size"],
            &["kv_cache_dtype"],
            &["tp_size"],
            &["pp_size"],
            &["tokens_per_block"],
        ],
        sglang::NAME => [
            &["context_length"],
            &["max_running_requests"],
            &["kv_cache_dtype"],
            &["tp_size"],
            &["pp_size"],
            &["page_size"],
        ],
        llamacpp::NAME => [&["ctx_size"], &["parallel"], &["cache_type_k", "cache_type_v"], &[], &[], &[]],
        ollama::NAME => [&["num_ctx"], &["OLLAMA_NUM_PARALLEL"], &["OLLAMA_KV_CACHE_TYPE"], &[], &[], &[]],
        transformers::NAME => [&["max_length"], &["batch_size"], &[], &[], &[], &[]],
        _ => [
            &["max_model_len"],
            &["max_num_seqs"],
            &["kv_cache_dtype"],
            &["tensor_parallel_size"],
            &["pipeline_parallel_size"],
            &["block_size"],
        ],
    };
    let found = match knob {
        Knob::Context => row[0],
        Knob::Batch => row[1],
        Knob::KvFormat => row[2],
        Knob::Tp => row[3],
        Knob::Pp => row[4],
        Knob::Block => row[5],
        Knob::Heads | Knob::KvHeads | Knob::HeadDim | Knob::Dim | Knob::Layers | Knob::Format => &[],
    };
    (!found.is_empty()).then_some(found)
}

/// Sets a knob of the launch among an engine's options.
///
/// # Errors
/// [`Error::Request`] when the engine has no such option.
pub(super) fn set(prepared: &mut Prepared, knob: Knob, value: &Value) -> Result<(), Error> {
    let engine = prepared.engine;
    let Some(names) = options(engine, knob) else {
        let has = Knob::ALL.into_iter().filter(|knob| options(engine, *knob).is_some() || knob.is_of_model());
        let has: Vec<&str> = has.map(Knob::name).collect();
        return Err(Error::Request(format!(
            "{engine} has no option for {}; with {engine} can be varied: {}",
            knob.name(),
            has.join(", ")
        )));
    };
    let written = match value {
        Value::Number(number) => json!(number),
        Value::Word(word) => json!(word),
    };
    for name in names {
        match (engine, *name) {
            (ollama::NAME, name) if name.starts_with("OLLAMA_") => {
                let env = prepared.options.entry("env").or_insert_with(|| json!({}));
                if let Some(env) = env.as_object_mut() {
                    env.insert(name.to_owned(), json!(value.to_string()));
                }
            }
            (trtllm::NAME, name) => {
                prepared.options.retain(|other, _| trtllm::canonical(other) != Some(name));
                prepared.options.insert(name.to_owned(), written.clone());
            }
            (_, name) => {
                prepared.options.insert(name.to_owned(), written.clone());
            }
        }
    }
    Ok(())
}

/// Names the file's type for the engines that read GGUF files, which make a file of a configuration themselves.
///
/// # Errors
/// [`Error::Request`] for a format that is no type of such files.
pub(crate) fn set_file(prepared: &mut Prepared, format: &str) -> Result<(), Error> {
    if !reads_gguf(prepared.engine) {
        return Ok(());
    }
    if prepared.loaded.gguf.is_some() {
        return Err(Error::Request(format!(
            "{} is a GGUF file, whose format is that of its tensors; name a model with a config.json to vary it",
            prepared.loaded.model.id
        )));
    }
    let Some(kind) = FileType::parse(format.strip_prefix("gguf-").unwrap_or(format)) else {
        return Err(Error::Request(format!(
            "{} reads GGUF files, and {format} is no type of these; for example q4_k_m, q8_0 or f16",
            prepared.engine
        )));
    };
    prepared.options.insert("file_type".to_owned(), json!(kind.name()));
    Ok(())
}

/// Puts right what two knobs of an engine say together, once all are set.
pub(super) fn settle(prepared: &mut Prepared, context: Option<u64>) {
    let options = &mut prepared.options;
    match prepared.engine {
        llamacpp::NAME => {
            if let Some(context) = context {
                let sequences = number(options, "parallel").filter(|count| *count > 0).unwrap_or(1);
                options.insert("ctx_size".to_owned(), json!(context.saturating_mul(sequences)));
                options.remove("kv_unified_per_slot");
            }
        }
        transformers::NAME => {
            if let Some(context) = context {
                // The whole sequence is one prompt and the last token: what the first pass takes is the most.
                options.remove("max_new_tokens");
                let prompt = number(options, "prompt_tokens");
                if prompt.is_some_and(|prompt| prompt >= context) {
                    options.remove("prompt_tokens");
                }
            }
        }
        _ => {}
    }
}

/// Puts all layers on the GPUs where the engine would move some to the host, unless the launch says how many: what a launch
/// needs is asked, not what fits.
///
/// Returns what a reader should know.
pub(super) fn all_on_gpu(prepared: &mut Prepared) -> Option<String> {
    let (key, value) = match prepared.engine {
        llamacpp::NAME => ("n_gpu_layers", json!(999)),
        ollama::NAME => ("num_gpu", json!(999)),
        _ => return None,
    };
    if prepared.options.contains_key(key) {
        return None;
    }
    prepared.options.insert(key.to_owned(), value);
    if prepared.engine == llamacpp::NAME {
        prepared.options.entry("fit").or_insert_with(|| json!("off"));
    }
    Some(format!(
        "all layers on the GPUs: {} would move layers to host memory where they do not fit; say {key} to plan that",
        prepared.engine
    ))
}

fn number(options: &Map<String, serde_json::Value>, key: &str) -> Option<u64> {
    let value = options.get(key)?;
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
}
