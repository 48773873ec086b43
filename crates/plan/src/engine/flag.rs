//! Which flags does an engine's server take? One row per flag: its names, the form of its value, and whether it can
//! change memory. The tables themselves stand beside their engines.
//!
//! ```
//! use plimsoll_plan::engine::flag::Sense;
//! use plimsoll_plan::engine::vllm::flags::FLAGS;
//!
//! let (flag, sense) = FLAGS.find("-tp").expect("an alias of --tensor-parallel-size");
//! assert_eq!((flag.name, sense), ("tensor_parallel_size", Sense::Plain));
//! assert_eq!(FLAGS.suggest("--gpu-memory-utilisation").as_deref(), Some("--gpu-memory-utilization"));
//! ```

use std::borrow::Cow;

use serde_json::Value;

/// The form of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word.
    Text,
    /// A word, or nothing.
    OptionalText,
    /// A whole number.
    Int,
    /// A whole number that may carry a suffix: `8k` is 8 000, `8K` is 8 192.
    Count,
    /// Like [`Kind::Count`], or `auto`, which is -1.
    Length,
    /// A number.
    Float,
    /// No value: the flag is there or not.
    Switch,
    /// No value: `--x` or `--no-x`.
    Toggle,
    /// Like [`Kind::Toggle`]; older releases take `true` or `false` behind it.
    Boolean,
    /// `enable` or `disable`; the flag alone enables.
    Enable,
    /// Words up to the next flag.
    List,
    /// Whole numbers up to the next flag.
    Ints,
    /// A word; every occurrence adds one.
    Append,
    /// JSON, whole or key by key (`--x.key value`).
    Json,
    /// JSON or a word.
    JsonOrText,
    /// JSON, or `image=2,video=1` in older releases.
    Pairs,
    /// `path.to.key=value`, once per key.
    Assignment,
}

impl Kind {
    /// Whether `--x.key value` sets one key of the value.
    pub const fn has_keys(self) -> bool {
        matches!(self, Kind::Json | Kind::JsonOrText | Kind::Pairs)
    }

    /// Whether `--no-x` turns the flag off.
    pub const fn has_negation(self) -> bool {
        matches!(self, Kind::Toggle | Kind::Boolean)
    }
}

/// Whether a flag can change the memory of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It can.
    Memory,
    /// It cannot.
    Nothing,
}

/// One flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its canonical name, with underscores: the key in a request's `options`.
    pub name: &'static str,
    /// The form of its value.
    pub kind: Kind,
    /// Whether it can change memory.
    pub effect: Effect,
    /// Spellings beside `--name`.
    pub spellings: &'static [&'static str],
}

impl Flag {
    /// Makes a row of a table.
    pub const fn new(name: &'static str, kind: Kind, effect: Effect, spellings: &'static [&'static str]) -> Flag {
        Flag { name, kind, effect, spellings }
    }
}

/// How a program's parser reads flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Python's `argparse` with dashes and underscores alike; a unique beginning of a name will do. vLLM.
    Flexible,
    /// Python's `argparse`: names as they are; a unique beginning will do.
    Abbreviated,
    /// Python's `click`: names as they are, whole.
    Exact,
    /// llama.cpp: dashes and underscores alike, whole.
    Dashed,
}

/// Whether a flag was written plainly or negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// `--x`.
    Plain,
    /// `--no-x`, or `--disable-x` for a flag `--enable-x`.
    Negated,
}

/// The flags of one program.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// The engine's name, as in a request.
    pub engine: &'static str,
    /// How its parser reads them.
    pub style: Style,
    /// The rows, sorted by name.
    pub rows: &'static [Flag],
    /// What other engines call it, and the row that is meant.
    pub foreign: &'static [(&'static str, &'static str)],
}

impl Flags {
    /// Returns the row of a canonical name.
    pub fn named(&self, name: &str) -> Option<&'static Flag> {
        self.rows.binary_search_by(|row| row.name.cmp(name)).ok().map(|at| &self.rows[at])
    }

    /// Returns the row that a written flag (`--x`, `-x`, without `=value`) names exactly.
    pub fn find(&self, written: &str) -> Option<(&'static Flag, Sense)> {
        if let Some(flag) = self.plain(written) {
            return Some((flag, Sense::Plain));
        }
        let name = self.key(written.strip_prefix("--")?);
        let negated = |name: &str| self.named(name).filter(|flag| flag.kind.has_negation());
        let other = name
            .strip_prefix("no_")
            .or_else(|| name.strip_prefix("no-"))
            .and_then(negated)
            .or_else(|| name.strip_prefix("disable_").and_then(|rest| negated(&format!("enable_{rest}"))))
            .or_else(|| name.strip_prefix("enable_").and_then(|rest| negated(&format!("disable_{rest}"))));
        other.map(|flag| (flag, Sense::Negated))
    }

    /// Returns the rows that a written flag begins, where the parser completes names.
    pub fn completed(&self, written: &str) -> Vec<(&'static Flag, Sense)> {
        let Some(start) = written.strip_prefix("--").filter(|start| !start.is_empty()) else { return Vec::new() };
        if matches!(self.style, Style::Exact | Style::Dashed) {
            return Vec::new();
        }
        let start = self.key(start);
        let negated = start.strip_prefix("no_");
        let mut found = Vec::new();
        for row in self.rows {
            let spelt = row.spellings.iter().filter_map(|spelling| spelling.strip_prefix("--"));
            if row.name.starts_with(&*start) || spelt.into_iter().any(|name| self.key(name).starts_with(&*start)) {
                found.push((row, Sense::Plain));
            } else if row.kind.has_negation() && negated.is_some_and(|start| row.name.starts_with(start)) {
                found.push((row, Sense::Negated));
            }
        }
        found
    }

    /// Returns the flag that was probably meant.
    pub fn suggest(&self, written: &str) -> Option<String> {
        if written.len() > 80 {
            return None;
        }
        let name = written.trim_start_matches('-').replace('-', "_");
        if let Some((_, meant)) = self.foreign.iter().find(|(other, _)| *other == name) {
            return self.named(meant).map(|flag| self.spell(flag.name));
        }
        let mut best = (0.62, None);
        for row in self.rows {
            let score = strsim::normalized_damerau_levenshtein(&name, row.name);
            if score > best.0 {
                best = (score, Some(self.spell(row.name)));
            }
            for spelling in row.spellings {
                let score = strsim::normalized_damerau_levenshtein(written, spelling);
                if score > best.0 {
                    best = (score, Some((*spelling).to_owned()));
                }
            }
        }
        best.1
    }

    /// Returns a canonical name as the engine's documentation spells it.
    pub fn spell(&self, name: &str) -> String {
        match self.style {
            Style::Flexible | Style::Dashed => format!("--{}", name.replace('_', "-")),
            Style::Abbreviated | Style::Exact => format!("--{name}"),
        }
    }

    /// Writes an option as words of a command; reading them again gives the same option.
    pub fn write(&self, name: &str, value: &Value, words: &mut Vec<String>) {
        let flag = self.named(name);
        let spelling = self.spell(name);
        match flag.map(|flag| flag.kind) {
            Some(Kind::Switch | Kind::Toggle | Kind::Boolean) => match value {
                Value::Bool(true) => words.push(spelling),
                Value::Bool(false) if flag.is_some_and(|flag| flag.kind.has_negation()) => {
                    words.push(spelling.replacen("--", "--no-", 1));
                }
                Value::Bool(false) | Value::Null => {}
                Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                    push_text(words, spelling, &text(value));
                }
            },
            Some(Kind::Enable) => {
                let word = if value == &Value::Bool(false) { "disable" } else { "enable" };
                words.extend([spelling, word.to_owned()]);
            }
            Some(Kind::OptionalText) if value == &Value::Bool(true) => words.push(spelling),
            Some(Kind::List | Kind::Ints) => match value {
                Value::Array(items) if items.len() == 1 => push_text(words, spelling, &text(&items[0])),
                Value::Array(items) if items.is_empty() => {}
                Value::Array(items) => {
                    words.push(spelling);
                    words.extend(items.iter().map(text));
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    push_text(words, spelling, &text(value));
                }
            },
            Some(Kind::Append) => match value {
                Value::Array(items) => items.iter().for_each(|item| push_text(words, spelling.clone(), &text(item))),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    push_text(words, spelling, &text(value));
                }
            },
            Some(
                Kind::Text
                | Kind::OptionalText
                | Kind::Int
                | Kind::Count
                | Kind::Length
                | Kind::Float
                | Kind::Json
                | Kind::JsonOrText
                | Kind::Pairs
                | Kind::Assignment,
            ) => push_text(words, spelling, &text(value)),
            None if value == &Value::Bool(true) => words.push(spelling),
            None => push_text(words, spelling, &text(value)),
        }
    }

    fn plain(&self, written: &str) -> Option<&'static Flag> {
        if let Some(name) = written.strip_prefix("--") {
            let name = self.key(name);
            if let Some(flag) = self.named(&name) {
                return Some(flag);
            }
            let same = |spelling: &&str| spelling.strip_prefix("--").is_some_and(|other| self.key(other) == name);
            return self.rows.iter().find(|row| row.spellings.iter().any(same));
        }
        self.rows.iter().find(|row| row.spellings.contains(&written))
    }

    /// Returns a name in the form in which this parser compares names.
    fn key<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if matches!(self.style, Style::Flexible | Style::Dashed) && name.contains('-') {
            Cow::Owned(name.replace('-', "_"))
        } else {
            Cow::Borrowed(name)
        }
    }
}

fn push_text(words: &mut Vec<String>, spelling: String, value: &str) {
    if value.starts_with('-') {
        words.push(format!("{spelling}={value}"));
    } else {
        words.extend([spelling, value.to_owned()]);
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{llamacpp, ollama, sglang, transformers, trtllm, vllm};

    #[test]
    fn tables_are_sorted_and_no_spelling_means_two_flags() {
        let any = &*trtllm::flags::ANY;
        for table in [
            &vllm::flags::FLAGS,
            &sglang::flags::FLAGS,
            &ollama::flags::FLAGS,
            &trtllm::flags::SERVE,
            &trtllm::flags::BUILD,
            &trtllm::flags::RUNTIME,
            &llamacpp::flags::FLAGS,
            &transformers::flags::FLAGS,
            any,
        ] {
            assert!(table.rows.is_sorted_by(|a, b| a.name < b.name), "{} is not sorted", table.engine);
            for row in table.rows {
                assert_eq!(table.find(&table.spell(row.name)).map(|found| found.0.name), Some(row.name));
                for spelling in row.spellings {
                    let found = table.find(spelling).map(|found| found.0.name);
                    assert_eq!(found, Some(row.name), "{spelling} of {}", row.name);
                }
            }
            for (_, meant) in table.foreign {
                assert!(table.named(meant).is_some(), "{meant} is no flag");
            }
        }
    }

    #[test]
    fn vllm_takes_dashes_underscores_negations_and_beginnings() {
        let find = |written| vllm::flags::FLAGS.find(written).map(|(flag, sense)| (flag.name, sense));
        assert_eq!(find("--max-model-len"), Some(("max_model_len", Sense::Plain)));
        assert_eq!(find("--max_model_len"), Some(("max_model_len", Sense::Plain)));
        assert_eq!(find("--no-enable-prefix-caching"), Some(("enable_prefix_caching", Sense::Negated)));
        assert_eq!(find("--disable-chunked-prefill"), Some(("enable_chunked_prefill", Sense::Negated)));
        assert_eq!(find("--disable-lora"), Some(("enable_lora", Sense::Negated)));
        assert_eq!(find("--disable-log-requests"), Some(("disable_log_requests", Sense::Plain)));
        let completed = vllm::flags::FLAGS.completed("--kv-cache-mem");
        assert_eq!(completed.iter().map(|(flag, _)| flag.name).collect::<Vec<_>>(), ["kv_cache_memory_bytes"]);
        assert!(vllm::flags::FLAGS.completed("--").is_empty());
    }

    #[test]
    fn a_misspelt_flag_gets_a_suggestion() {
        for (table, written, meant) in [
            (&vllm::flags::FLAGS, "--max-modle-len", Some("--max-model-len")),
            (&vllm::flags::FLAGS, "--tensor-paralel-size", Some("--tensor-parallel-size")),
            (&vllm::flags::FLAGS, "--tp", Some("-tp")),
            (&vllm::flags::FLAGS, "--context-length", Some("--max-model-len")),
            (&trtllm::flags::SERVE, "--tp-size", Some("--tp_size")),
            (&trtllm::flags::SERVE, "--max-model-len", Some("--max_seq_len")),
            (&trtllm::flags::BUILD, "--max_batchsize", Some("--max_batch_size")),
            (&vllm::flags::FLAGS, "--zzzzzzzz", None),
        ] {
            assert_eq!(table.suggest(written).as_deref(), meant, "{written}");
        }
    }
}
