//! What does a launch command ask for? Words of a shell turned into a model and the engine's options, and back.
//!
//! ```
//! use plimsoll_api::launch;
//!
//! let launch = launch::parse_str("CUDA_VISIBLE_DEVICES=0,1 vllm serve Qwen/Qwen3-32B -tp 2 --max-model-len 32k")?;
//! assert_eq!(launch.engine, "vllm");
//! assert_eq!(launch.model.as_deref(), Some("Qwen/Qwen3-32B"));
//! assert_eq!(launch.options["tensor_parallel_size"], 2);
//! assert_eq!(launch.options["max_model_len"], 32_000);
//! assert_eq!(launch.options["env"]["CUDA_VISIBLE_DEVICES"], "0,1");
//! # Ok::<(), launch::Error>(())
//! ```

mod locate;
mod read;
mod render;
mod value;

use std::collections::BTreeMap;

use plimsoll_plan::engine::flag::{Effect, Flag, Flags};
use plimsoll_plan::engine::{llamacpp, ollama, sglang, transformers, trtllm, vllm};
use serde_json::{Map, Value};
use thiserror::Error as ThisError;

pub use render::{join, render, render_str};

/// The programs that are read.
pub const PROGRAMS: &str = "`vllm serve`, `python -m vllm.entrypoints.openai.api_server`, \
     `python -m vllm.entrypoints.api_server`, `trtllm-serve`, `trtllm-build`, `python -m sglang.launch_server`, \
     `sglang serve`, `llama-server`, `llama-cli`, `ollama run`, `ollama serve`, and `docker run` of the engines' images";

/// Environment variables that can change memory or its division; the others are set aside.
const ENVIRONMENT: [&str; 6] = [
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
];

/// Beginnings of the names of such variables.
const ENVIRONMENT_PREFIXES: [&str; 9] =
    ["VLLM_", "NCCL_", "TRTLLM_", "TLLM_", "TORCHINDUCTOR_", "SGLANG_", "LLAMA_ARG_", "GGML_", "OLLAMA_"];

/// The form in which a server was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `vllm serve MODEL`.
    VllmServe,
    /// `python -m vllm.entrypoints.openai.api_server --model MODEL`.
    VllmOpenAi,
    /// `python -m vllm.entrypoints.api_server --model MODEL`.
    VllmPlain,
    /// `trtllm-serve MODEL`.
    TrtllmServe,
    /// `trtllm-build --checkpoint_dir MODEL`.
    TrtllmBuild,
    /// Flags of TensorRT-LLM without a program: those of both, and the LLM API's options.
    TrtllmAny,
    /// `python -m sglang.launch_server --model-path MODEL`.
    SglangLaunch,
    /// `sglang serve --model-path MODEL`.
    SglangServe,
    /// `llama-server -m FILE`.
    LlamaServer,
    /// `llama-cli -m FILE`.
    LlamaCli,
    /// `ollama run MODEL`.
    OllamaRun,
    /// `ollama serve`.
    OllamaServe,
    /// Options of the Transformers library, which has no server's command here.
    Transformers,
}

impl Program {
    /// Returns the engine's name, as in a request.
    pub fn engine(self) -> &'static str {
        self.flags().engine
    }

    /// Returns the program's flags.
    pub fn flags(self) -> &'static Flags {
        match self {
            Program::VllmServe | Program::VllmOpenAi | Program::VllmPlain => &vllm::flags::FLAGS,
            Program::TrtllmServe => &trtllm::flags::SERVE,
            Program::TrtllmBuild => &trtllm::flags::BUILD,
            Program::TrtllmAny => &trtllm::flags::ANY,
            Program::SglangLaunch | Program::SglangServe => &sglang::flags::FLAGS,
            Program::LlamaServer | Program::LlamaCli => &llamacpp::flags::FLAGS,
            Program::OllamaRun | Program::OllamaServe => &ollama::flags::FLAGS,
            Program::Transformers => &transformers::flags::FLAGS,
        }
    }

    /// Returns the row of a canonical name, of a runtime option behind `trtllm-build` too.
    pub fn named(self, name: &str) -> Option<&'static Flag> {
        let runtime = || if self == Program::TrtllmBuild { trtllm::flags::AFTER_BUILD.named(name) } else { None };
        self.flags().named(name).or_else(runtime)
    }

    /// The option that names the model, where the model is no word of its own.
    const fn model_option(self) -> Option<&'static str> {
        match self {
            Program::VllmServe | Program::VllmOpenAi | Program::VllmPlain => Some("model"),
            Program::TrtllmServe => None,
            Program::TrtllmBuild | Program::TrtllmAny => Some("checkpoint_dir"),
            Program::SglangLaunch | Program::SglangServe => Some("model_path"),
            Program::LlamaServer | Program::LlamaCli => Some("model"),
            Program::OllamaRun | Program::OllamaServe | Program::Transformers => None,
        }
    }

    const fn takes_word(self) -> bool {
        match self {
            Program::VllmServe
            | Program::TrtllmServe
            | Program::TrtllmAny
            | Program::SglangServe
            | Program::OllamaRun
            | Program::Transformers => true,
            Program::VllmOpenAi
            | Program::VllmPlain
            | Program::TrtllmBuild
            | Program::SglangLaunch
            | Program::LlamaServer
            | Program::LlamaCli
            | Program::OllamaServe => false,
        }
    }
}

/// A launch command, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Engine, by its name in requests.
    pub engine: &'static str,
    /// The form of the command.
    pub program: Program,
    /// The engine's release, where the command names it (a container image's tag).
    pub version: Option<String>,
    /// The model as it was written.
    pub model: Option<String>,
    /// Options that can change memory, by canonical name, with typed values; `env` holds the variables that can.
    pub options: Map<String, Value>,
    /// Options that cannot, so that the command can be written again.
    pub inert: Map<String, Value>,
    /// Environment variables that the command sets, secrets left out.
    pub env: BTreeMap<String, String>,
    /// What a reader should know about the command.
    pub notes: Vec<String>,
}

/// Why a launch command could not be read. Positions count the words from 1.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Error {
    /// There are no words.
    #[error("the launch command is empty; supported: {PROGRAMS}")]
    Empty,
    /// A quote is open at the end.
    #[error("the launch command has a quote that is not closed")]
    Quotes,
    /// The command starts something else.
    #[error("word {position}: `{word}` is no server that can be read; supported: {PROGRAMS}")]
    UnknownProgram {
        /// The word.
        word: String,
        /// Its place.
        position: usize,
    },
    /// A flag that the engine does not have.
    #[error("word {position}: {engine} has no flag {flag}{suggestion}")]
    UnknownFlag {
        /// Engine name.
        engine: &'static str,
        /// The flag as written.
        flag: String,
        /// Its place.
        position: usize,
        /// Empty, or `; did you mean --x?`.
        suggestion: String,
    },
    /// The beginning of several flags.
    #[error("word {position}: {flag} could be {candidates}")]
    AmbiguousFlag {
        /// The flag as written.
        flag: String,
        /// Its place.
        position: usize,
        /// The flags.
        candidates: String,
    },
    /// A flag without its value.
    #[error("word {position}: {flag} needs a value: {expected}")]
    MissingValue {
        /// The flag as written.
        flag: String,
        /// Its place.
        position: usize,
        /// What is accepted.
        expected: &'static str,
    },
    /// A value that the flag does not accept.
    #[error("word {position}: {flag} is `{found}`, expected {expected}")]
    WrongValue {
        /// The flag as written.
        flag: String,
        /// Its place.
        position: usize,
        /// The value, shortened.
        found: String,
        /// What is accepted.
        expected: String,
    },
    /// A value for a flag that takes none.
    #[error("word {position}: {flag} takes no value, found `{found}`")]
    UnexpectedValue {
        /// The flag as written.
        flag: String,
        /// Its place.
        position: usize,
        /// The value, shortened.
        found: String,
    },
    /// A word that belongs to nothing.
    #[error("word {position}: `{word}` belongs to no flag{hint}")]
    UnexpectedWord {
        /// The word, shortened.
        word: String,
        /// Its place.
        position: usize,
        /// Empty, or what it may have been meant for.
        hint: String,
    },
    /// Two different models.
    #[error("the launch command names two models, `{first}` and `{second}`")]
    TwoModels {
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
}

/// Reads the words of a launch command. A single word with spaces is a whole command that was quoted: it is split.
pub fn parse(words: &[String]) -> Result<Launch, Error> {
    if let [line] = words
        && line.trim().contains(char::is_whitespace)
    {
        return parse_str(line);
    }
    understand(locate::locate(words)?)
}

/// Reads a model and an engine's flags without its program: `org/model --tensor-parallel-size 2`. For TensorRT-LLM the
/// flags of both its programs and the options of its LLM API are welcome, for vLLM the short `--tp`, `--pp` and `--dp`,
/// which its own program does not take.
pub fn parse_flags(engine: &str, words: &[String]) -> Result<Launch, Error> {
    let program = match engine {
        "vllm" => Program::VllmServe,
        "tensorrt-llm" => Program::TrtllmAny,
        sglang::NAME => Program::SglangServe,
        llamacpp::NAME => Program::LlamaServer,
        ollama::NAME => Program::OllamaRun,
        transformers::NAME => Program::Transformers,
        _ => return Err(Error::UnknownProgram { word: shorten(engine), position: 1 }),
    };
    // llama.cpp's programs take the model by a flag alone; Plimsoll's own words begin with it.
    if program == Program::LlamaServer && words.first().is_some_and(|word| !word.starts_with('-')) {
        let named: Vec<String> = std::iter::once("--model".to_owned()).chain(words.iter().cloned()).collect();
        return understand(locate::located(program, named.into(), 0));
    }
    if program == Program::VllmServe {
        let words: Vec<String> = words.iter().map(|word| parallel(word).unwrap_or_else(|| word.clone())).collect();
        return understand(locate::located(program, words.into(), 1));
    }
    understand(locate::located(program, words.into(), 1))
}

/// Returns the flag of vLLM for a short name of parallelism: `--tp=4` is `--tensor-parallel-size=4`.
fn parallel(word: &str) -> Option<String> {
    let (name, value) = word.split_at(word.find('=').unwrap_or(word.len()));
    let whole = match name {
        "--tp" => "--tensor-parallel-size",
        "--pp" => "--pipeline-parallel-size",
        "--dp" => "--data-parallel-size",
        _ => return None,
    };
    Some(format!("{whole}{value}"))
}

/// Sorts what the words set.
fn understand(located: locate::Located<'_>) -> Result<Launch, Error> {
    let program = located.program;
    let read = read::read(program, &located.args, located.base)?;
    let mut notes = located.notes;
    let (mut options, mut inert, mut idle, mut hidden) = (Map::new(), Map::new(), Vec::new(), Vec::new());
    let mut model = read.word;
    for (name, value) in read.values {
        let flag = program.named(&name);
        if Some(name.as_str()) == program.model_option() {
            let second = value.as_str().unwrap_or_default().to_owned();
            match model.take() {
                Some(first) if first != second => return Err(Error::TwoModels { first, second }),
                Some(_) | None => model = Some(second),
            }
        } else if is_secret(&name) {
            hidden.push(program.flags().spell(&name));
        } else if flag.is_some_and(|flag| flag.effect == Effect::Nothing) {
            idle.push(program.flags().spell(&name));
            inert.insert(name, value);
        } else {
            options.insert(name, value);
        }
    }
    if program == Program::TrtllmBuild {
        // What it builds is an engine, whatever the release runs by default.
        options.insert("backend".to_owned(), Value::from("tensorrt"));
    }
    if matches!(program, Program::LlamaServer | Program::LlamaCli) {
        model = model.or_else(|| llama_model(&options, &located.env));
        if program == Program::LlamaCli {
            options.insert("program".to_owned(), Value::from("llama-cli"));
        }
    }
    notes.extend(read.notes);
    notes.extend(file_note(program, &mut options, &mut inert));
    push_list(&mut notes, IDLE, &idle);
    push_list(&mut notes, "secrets left out of the command", &hidden);
    let mut env = located.env;
    env.retain(|name, _| !is_secret(name));
    let (heeded, idle): (Vec<_>, Vec<_>) = env.iter().partition(|(name, _)| is_heeded(name));
    push_list(
        &mut notes,
        "environment variables that are not looked at",
        &idle.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
    );
    if !heeded.is_empty() {
        let heeded = heeded.into_iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        options.insert("env".to_owned(), Value::Object(heeded));
    }
    Ok(Launch { engine: program.engine(), program, version: located.version, model, options, inert, env, notes })
}

/// What a note about flags that change no memory begins with.
pub(crate) const IDLE: &str = "flags that cannot change memory";

/// Reads a launch command as a shell would split it, lines continued with a backslash included.
pub fn parse_str(command: &str) -> Result<Launch, Error> {
    understand(locate::locate(&split(command)?)?)
}

/// Splits a command as a shell does. The end of a line is a space, and a backslash before it continues the line, blanks
/// and a carriage return between them forgiven.
fn split(command: &str) -> Result<Vec<String>, Error> {
    let mut joined = String::with_capacity(command.len());
    let (mut rest, mut quote) = (command, None);
    while let Some(next) = rest.chars().next() {
        rest = &rest[next.len_utf8()..];
        match (next, quote) {
            ('\\', None | Some('"')) => {
                let line = rest.trim_start_matches([' ', '\t', '\r']);
                if let Some(more) = line.strip_prefix('\n') {
                    rest = more;
                } else if line.is_empty() {
                    rest = line;
                } else {
                    joined.push(next);
                    let escaped = rest.chars().next();
                    joined.extend(escaped);
                    rest = &rest[escaped.map_or(0, char::len_utf8)..];
                }
                continue;
            }
            ('\r', None) if rest.starts_with('\n') => continue,
            ('\'' | '"', None) => quote = Some(next),
            (_, Some(open)) if open == next => quote = None,
            (_, None | Some(_)) => {}
        }
        joined.push(next);
    }
    shlex::split(&joined).ok_or(Error::Quotes)
}

/// The model of `-hf org/name:Q4_K_M`, or of a variable.
fn llama_model(options: &Map<String, Value>, env: &BTreeMap<String, String>) -> Option<String> {
    let repo = options.get("hf_repo").and_then(Value::as_str);
    let repo = repo.or_else(|| env.get("LLAMA_ARG_HF_REPO").map(String::as_str));
    let named = repo.map(|repo| repo.rsplit_once(':').map_or(repo, |(name, _)| name).to_owned());
    named.or_else(|| env.get("LLAMA_ARG_MODEL").cloned())
}

/// Whether an environment variable can change memory.
pub fn is_heeded(name: &str) -> bool {
    ENVIRONMENT.contains(&name) || ENVIRONMENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A file of options cannot be opened here: it is set aside with a note.
fn file_note(program: Program, options: &mut Map<String, Value>, inert: &mut Map<String, Value>) -> Option<String> {
    let name = match program {
        Program::VllmServe | Program::VllmOpenAi | Program::VllmPlain => "config",
        Program::TrtllmServe | Program::TrtllmAny => "extra_llm_api_options",
        Program::TrtllmBuild => "build_config",
        Program::SglangLaunch | Program::SglangServe => "config",
        Program::LlamaServer
        | Program::LlamaCli
        | Program::OllamaRun
        | Program::OllamaServe
        | Program::Transformers => return None,
    };
    let value = options.remove(name)?;
    let note = format!(
        "the options in {} are not read; what they set that can change memory has to be given beside the command",
        value.as_str().unwrap_or("the file")
    );
    inert.insert(name.to_owned(), value);
    Some(note)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["api_key", "hf_token", "secret", "password", "access_key", "auth_token"].iter().any(|part| name.contains(part))
        || name.ends_with("_token")
        || name.ends_with("_key")
}

fn push_list<S: AsRef<str>>(notes: &mut Vec<String>, what: &str, names: &[S]) {
    if !names.is_empty() {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        notes.push(format!("{what}: {}", names.join(", ")));
    }
}

/// Returns a text for a message: at most 60 characters.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
