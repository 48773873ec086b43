//! What does a Modelfile say? `FROM`, `PARAMETER` and `ADAPTER`; the rest shapes prompts and is set aside.
//!
//! Source: Ollama at fb3076099, `parser/parser.go`. The file is another's: lengths are capped, errors name the line.

use serde_json::{Map, Value};
use thiserror::Error as ThisError;

/// The longest file that is read.
pub const LONGEST: usize = 1 << 20;
/// The most lines that are read.
const MOST_LINES: usize = 100_000;
/// The most adapters.
const MOST_ADAPTERS: usize = 64;

/// A Modelfile, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modelfile {
    /// What `FROM` names: a path or a model.
    pub from: String,
    /// Parameters by name, typed.
    pub parameters: Map<String, Value>,
    /// Paths of adapters.
    pub adapters: Vec<String>,
}

/// Why a Modelfile cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Error {
    /// No line says what the model is.
    #[error("no FROM line")]
    NoFrom,
    /// It is too long.
    #[error("longer than {LONGEST} bytes or {MOST_LINES} lines")]
    TooLong,
    /// A line is not understood.
    #[error("line {line}: {why}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Parameters with whole numbers.
const WHOLE: [&str; 12] = [
    "draft_num_predict",
    "main_gpu",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_gqa",
    "num_keep",
    "num_predict",
    "num_thread",
    "repeat_last_n",
    "seed",
    "top_k",
];
/// Parameters with fractions.
const FRACTIONS: [&str; 11] = [
    "frequency_penalty",
    "min_p",
    "mirostat_eta",
    "mirostat_tau",
    "presence_penalty",
    "repeat_penalty",
    "temperature",
    "tfs_z",
    "top_p",
    "typical_p",
    "rope_frequency_scale",
];
/// Parameters that are on or off, and others.
const OTHERS: [&str; 9] =
    ["f16_kv", "logits_all", "low_vram", "mirostat", "numa", "penalize_newline", "stop", "use_mlock", "use_mmap"];

/// Reads a Modelfile.
///
/// # Errors
/// [`Error`] names the line and what is wrong with it.
pub fn read(text: &str) -> Result<Modelfile, Error> {
    if text.len() > LONGEST || text.lines().count() > MOST_LINES {
        return Err(Error::TooLong);
    }
    let mut file = Modelfile::default();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (command, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
        let at = at + 1;
        let wrong = |why: String| Error::Line { line: at, why };
        let value = unquoted(rest.trim(), &mut lines).map_err(&wrong)?;
        match command.to_ascii_uppercase().as_str() {
            "FROM" => {
                if value.is_empty() {
                    return Err(wrong("FROM names nothing".to_owned()));
                }
                // Further FROM lines name projectors and adapters of the same model.
                if file.from.is_empty() {
                    file.from = value;
                }
            }
            "PARAMETER" => {
                let (name, setting) = value
                    .split_once(char::is_whitespace)
                    .map(|(name, setting)| (name.to_ascii_lowercase(), setting.trim().trim_matches('"').to_owned()))
                    .ok_or_else(|| wrong(format!("PARAMETER {} has no value", shortened(&value))))?;
                set(&mut file.parameters, &name, &setting).map_err(&wrong)?;
            }
            "ADAPTER" if value.is_empty() => return Err(wrong("ADAPTER names nothing".to_owned())),
            "ADAPTER" if file.adapters.len() >= MOST_ADAPTERS => {
                return Err(wrong(format!("more than {MOST_ADAPTERS} adapters")));
            }
            "ADAPTER" => file.adapters.push(value),
            "TEMPLATE" | "SYSTEM" | "LICENSE" | "MESSAGE" | "RENDERER" | "PARSER" | "REQUIRES" | "DRAFT" => {}
            _ => {
                let expected = "FROM, PARAMETER, ADAPTER, TEMPLATE, SYSTEM, LICENSE or MESSAGE";
                return Err(wrong(format!("`{}` is no command; expected {expected}", shortened(command))));
            }
        }
    }
    if file.from.is_empty() { Err(Error::NoFrom) } else { Ok(file) }
}

/// Takes quotation marks off; three of them hold several lines.
fn unquoted<'t>(rest: &str, lines: &mut impl Iterator<Item = (usize, &'t str)>) -> Result<String, String> {
    let Some(start) = rest.strip_prefix("\"\"\"") else {
        let whole = rest.len() >= 2 && rest.starts_with('"') && rest.ends_with('"');
        return Ok(if whole { rest[1..rest.len() - 1].to_owned() } else { rest.to_owned() });
    };
    if let Some((text, _)) = start.split_once("\"\"\"") {
        return Ok(text.to_owned());
    }
    let mut text = start.to_owned();
    for (_, line) in lines {
        if let Some((last, _)) = line.split_once("\"\"\"") {
            text.push('\n');
            text.push_str(last);
            return Ok(text);
        }
        text.push('\n');
        text.push_str(line);
    }
    Err("a text in three quotation marks does not end".to_owned())
}

fn set(parameters: &mut Map<String, Value>, name: &str, setting: &str) -> Result<(), String> {
    let expected = |what: &str| format!("{name} is {}, expected {what}", shortened(setting));
    let value = if WHOLE.contains(&name) {
        Value::from(setting.parse::<i64>().map_err(|_| expected("a whole number"))?)
    } else if FRACTIONS.contains(&name) {
        let number: f64 = setting.parse().map_err(|_| expected("a number"))?;
        if !number.is_finite() {
            return Err(expected("a number"));
        }
        Value::from(number)
    } else if name == "stop" {
        return Ok(());
    } else if OTHERS.contains(&name) {
        match setting.to_ascii_lowercase().as_str() {
            "true" | "1" => Value::Bool(true),
            "false" | "0" => Value::Bool(false),
            _ => return Err(expected("true or false")),
        }
    } else {
        return Err(format!("`{}` is no parameter", shortened(name)));
    };
    parameters.insert(name.to_owned(), value);
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}
