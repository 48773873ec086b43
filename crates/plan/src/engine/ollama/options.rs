//! What was asked for? Options of the request and the server's variables as checked types.
//!
//! Source: Ollama at fb3076099, `envconfig/config.go`; `api/types.go`, `Runner`.

use plimsoll_units::Bytes;
use serde_json::{Map, Value};

use crate::Error;

/// The type of cached keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheType {
    /// 16 bits.
    F16,
    /// 8.5 bits.
    Q8_0,
    /// 4.5 bits.
    Q4_0,
}

impl CacheType {
    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q4_0 => "q4_0",
        }
    }

    /// Returns the bytes of a number as the estimator rounds them.
    pub const fn estimated(self) -> f64 {
        match self {
            CacheType::F16 => 2.0,
            CacheType::Q8_0 => 1.0,
            CacheType::Q4_0 => 0.5,
        }
    }

    /// Returns the bytes of 32 numbers as they are stored.
    pub const fn per_32(self) -> u64 {
        match self {
            CacheType::F16 => 64,
            CacheType::Q8_0 => 34,
            CacheType::Q4_0 => 18,
        }
    }
}

/// The options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `num_ctx`.
    pub context: Option<u64>,
    /// `OLLAMA_CONTEXT_LENGTH`.
    pub context_env: Option<u64>,
    /// `num_batch`.
    pub batch: Option<u64>,
    /// `num_gpu`: layers, the output counted.
    pub layers: Option<u64>,
    /// `main_gpu`.
    pub main_gpu: Option<u64>,
    /// `use_mmap`.
    pub mmap: Option<bool>,
    /// `OLLAMA_NUM_PARALLEL`; 0 is automatic where the release knows that.
    pub parallel: Option<u64>,
    /// `OLLAMA_KV_CACHE_TYPE`.
    pub cache: Option<CacheType>,
    /// `OLLAMA_FLASH_ATTENTION`.
    pub flash: Option<bool>,
    /// `OLLAMA_GPU_OVERHEAD`.
    pub overhead: u64,
    /// `OLLAMA_SCHED_SPREAD`.
    pub spread: bool,
    /// Whether `OLLAMA_NEW_ESTIMATES` asks for the layout loop (0.11.5 to 0.11.10).
    pub new_estimates: bool,
    /// The file type where no file is at hand.
    pub file_type: Option<String>,
    /// Free memory of each card, where it is known.
    pub free: Vec<u64>,
    /// Bytes of a projector in a file of its own.
    pub projector: u64,
    /// Adapters of a Modelfile.
    pub adapters: Vec<String>,
    /// The name by which the model was asked for.
    pub name: Option<String>,
}

/// More tokens, sequences or layers than anything has.
const MOST: u64 = 1 << 31;
/// More cards than one machine has.
const MOST_CARDS: usize = 64;

impl Options {
    /// Reads a map of options; `env` holds variables.
    ///
    /// # Errors
    /// [`Error::Flag`] names the option, what was found and what is accepted.
    pub fn from_map(map: &Map<String, Value>) -> Result<Options, Error> {
        let number = |key: &str| whole(key, map.get(key));
        let env = Variables(map.get("env").and_then(Value::as_object));
        let layers = match map.get("num_gpu").filter(|value| !value.is_null()) {
            Some(value) if value.as_i64().is_some_and(|layers| layers < 0) => None,
            value => whole("num_gpu", value)?,
        };
        Ok(Options {
            context: number("num_ctx")?.filter(|context| *context > 0),
            context_env: env.number("OLLAMA_CONTEXT_LENGTH")?.filter(|context| *context > 0),
            batch: number("num_batch")?.filter(|batch| *batch > 0),
            layers,
            main_gpu: number("main_gpu")?,
            mmap: map.get("use_mmap").and_then(Value::as_bool),
            parallel: env.number("OLLAMA_NUM_PARALLEL")?,
            cache: cache(&env)?,
            flash: env.flag("OLLAMA_FLASH_ATTENTION")?,
            overhead: env.number("OLLAMA_GPU_OVERHEAD")?.unwrap_or(0),
            spread: env.flag("OLLAMA_SCHED_SPREAD")?.unwrap_or(false),
            new_estimates: env.flag("OLLAMA_NEW_ESTIMATES")?.unwrap_or(false),
            file_type: map.get("file_type").and_then(Value::as_str).map(str::to_owned),
            free: free(map.get("free_memory"))?,
            projector: number("projector_bytes")?.unwrap_or(0),
            adapters: list(map.get("adapters")),
            name: map.get("model_name").and_then(Value::as_str).map(str::to_owned),
        })
    }
}

/// The server's variables.
struct Variables<'m>(Option<&'m Map<String, Value>>);

impl Variables<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let value = self.0?.get(name)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(text.trim().trim_matches(['"', '\'']).to_owned()).filter(|text| !text.is_empty())
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let most = match name {
            "OLLAMA_GPU_OVERHEAD" => 1 << 50,
            "OLLAMA_NUM_PARALLEL" => 1 << 16,
            _ => MOST,
        };
        match text.parse::<u64>() {
            Ok(number) if number <= most => Ok(Some(number)),
            Ok(_) | Err(_) => Err(wrong(name, &text, "a whole number")),
        }
    }

    /// A flag as Go's `strconv.ParseBool` reads it; any other text turns it on.
    fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        let Some(text) = self.text(name) else { return Ok(None) };
        Ok(Some(!matches!(text.as_str(), "0" | "f" | "F" | "false" | "False" | "FALSE")))
    }
}

fn cache(env: &Variables<'_>) -> Result<Option<CacheType>, Error> {
    let Some(text) = env.text("OLLAMA_KV_CACHE_TYPE") else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "f16" => Ok(Some(CacheType::F16)),
        "q8_0" => Ok(Some(CacheType::Q8_0)),
        "q4_0" => Ok(Some(CacheType::Q4_0)),
        _ => Err(wrong("OLLAMA_KV_CACHE_TYPE", &text, "f16, q8_0 or q4_0")),
    }
}

/// `11.5GiB,4.6GiB`, or a list.
fn free(value: Option<&Value>) -> Result<Vec<u64>, Error> {
    let texts: Vec<String> = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
        Some(other) => vec![other.to_string()],
    };
    let size = |text: &String| {
        let bytes: Result<Bytes, String> = text.parse();
        bytes.map(Bytes::get).map_err(|_| wrong("free_memory", text, "sizes such as 22.5GiB, one for each card"))
    };
    texts.iter().take(MOST_CARDS).map(size).collect()
}

fn list(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn whole(key: &str, value: Option<&Value>) -> Result<Option<u64>, Error> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    let most = if key == "projector_bytes" { 1 << 50 } else { MOST };
    match number.filter(|number| *number <= most) {
        Some(number) => Ok(Some(number)),
        None => {
            let found = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Err(wrong(key, &found, "a whole number"))
        }
    }
}

fn wrong(flag: &str, found: &str, expected: &str) -> Error {
    let found: String = found.chars().take(60).collect();
    Error::Flag { flag: flag.to_owned(), found, expected: expected.to_owned() }
}
