//! Which options do these words set? The flags of one program read as its own parser reads them.
//!
//! Source: vLLM 0.33.0, `utils/argparse_utils.py`, `FlexibleArgumentParser.parse_args`; Python 3.12, `argparse`; click 8.

use std::collections::BTreeMap;

use plimsoll_plan::engine::flag::{Flag, Kind, Sense, Style};
use plimsoll_plan::engine::trtllm;
use serde_json::{Map, Value};

use super::{Error, Program, shorten, value};

/// Keys of one dotted flag at most.
const DEPTH: usize = 32;

/// What the words set.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The word that is no flag's: the model.
    pub word: Option<String>,
    /// Values by canonical name.
    pub values: Map<String, Value>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One flag as it was written.
struct Written<'w> {
    flag: &'static Flag,
    sense: Sense,
    /// As written, without its value.
    text: &'w str,
    /// The value after `=`.
    value: Option<&'w str>,
    /// The keys after dots.
    keys: Vec<&'w str>,
    position: usize,
}

struct Reader<'w> {
    program: Program,
    words: &'w [String],
    base: usize,
    at: usize,
    read: Read,
    /// Options of the runtime behind `trtllm-build`.
    runtime: Vec<String>,
    /// Values given key by key: they replace the flag's whole value, as in vLLM.
    keyed: BTreeMap<&'static str, Map<String, Value>>,
}

/// Reads the words after the program's name; `base` is the place of the first.
pub(super) fn read(program: Program, words: &[String], base: usize) -> Result<Read, Error> {
    let mut reader =
        Reader { program, words, base, at: 0, read: Read::default(), runtime: Vec::new(), keyed: BTreeMap::new() };
    while let Some(word) = words.get(reader.at) {
        reader.at += 1;
        if word == "--" {
            while let Some(word) = words.get(reader.at) {
                reader.at += 1;
                reader.plain_word(word)?;
            }
        } else if word.len() > 1 && word.starts_with('-') {
            let written = reader.flag(word)?;
            reader.set(written)?;
        } else {
            reader.plain_word(word)?;
        }
    }
    for (name, map) in reader.keyed {
        reader.read.values.insert(name.to_owned(), Value::Object(map));
    }
    super::push_list(
        &mut reader.read.notes,
        "trtllm-build takes the engine's shapes only; set where the checkpoint is converted or the engine is run",
        &reader.runtime,
    );
    Ok(reader.read)
}

impl<'w> Reader<'w> {
    /// The place of the word that was taken last.
    fn position(&self) -> usize {
        self.base + self.at - 1
    }

    fn plain_word(&mut self, word: &str) -> Result<(), Error> {
        if self.program.takes_word() && self.read.word.is_none() {
            self.read.word = Some(word.to_owned());
            return Ok(());
        }
        let hint = match (&self.read.word, self.program.model_option()) {
            (Some(model), _) => format!("; the model is `{}`", shorten(model)),
            (None, Some(option)) => format!("; the model is given with {}", self.program.flags().spell(option)),
            (None, None) => String::new(),
        };
        Err(Error::UnexpectedWord { word: shorten(word), position: self.position(), hint })
    }

    /// Finds the flag that a word writes.
    fn flag(&mut self, word: &'w str) -> Result<Written<'w>, Error> {
        let position = self.position();
        let flexible = self.program.flags().style == Style::Flexible;
        if let Some(written) = flexible.then(|| self.optimisation(word, position)).flatten() {
            return Ok(written);
        }
        let (text, value) = word.split_once('=').map_or((word, None), |(text, value)| (text, Some(value)));
        let mut keys = text.split('.');
        let head = keys.next().unwrap_or(text);
        let keys: Vec<&str> = if flexible { keys.collect() } else { Vec::new() };
        let head = if keys.is_empty() { text } else { head };
        let (flag, sense) = self.resolve(head, position)?;
        if keys.len() > DEPTH || keys.iter().any(|key| key.trim_end_matches('+').is_empty()) && !keys.is_empty() {
            let expected = "keys between single dots".to_owned();
            return Err(Error::WrongValue { flag: head.to_owned(), position, found: shorten(text), expected });
        }
        let (short, attached) = (head.len() == 2, value);
        let attached = match (short, word.strip_prefix(head)) {
            (true, Some(rest)) if !rest.is_empty() && attached.is_none() && keys.is_empty() => Some(rest),
            _ => attached,
        };
        Ok(Written { flag, sense, text: head, value: attached, keys, position })
    }

    /// vLLM's `-O3`, `-O=3`, `-O 3` (0.10.2 and before: `-O.level=3`, `-O '{…}'` for the compilation's settings).
    fn optimisation(&self, word: &'w str, position: usize) -> Option<Written<'w>> {
        let rest = word.strip_prefix("-O")?;
        let level = rest.strip_prefix('=').unwrap_or(rest);
        let next = self.words.get(self.at).map(String::as_str);
        let is_level = |text: &str| matches!(text, "0" | "1" | "2" | "3");
        let (name, value) = match rest {
            "" if next.is_some_and(is_level) => ("optimization_level", None),
            "" => ("compilation_config", None),
            _ if rest.starts_with('.') => return None,
            _ if level.starts_with('{') => ("compilation_config", Some(level)),
            _ => ("optimization_level", Some(level)),
        };
        let flag = self.program.flags().named(name)?;
        Some(Written { flag, sense: Sense::Plain, text: "-O", value, keys: Vec::new(), position })
    }

    fn resolve(&mut self, head: &str, position: usize) -> Result<(&'static Flag, Sense), Error> {
        let flags = self.program.flags();
        if let Some(found) = flags.find(head) {
            return Ok(found);
        }
        if self.program == Program::TrtllmBuild
            && let Some(found) = trtllm::flags::AFTER_BUILD.find(head)
        {
            self.runtime.push(flags.spell(found.0.name));
            return Ok(found);
        }
        let completed = flags.completed(head);
        match completed.as_slice() {
            [found] => {
                let no = if found.1 == Sense::Negated { "--no-" } else { "--" };
                let whole = flags.spell(found.0.name).replacen("--", no, 1);
                self.read.notes.push(format!("{head} is read as {whole}"));
                Ok(*found)
            }
            [] => Err(self.unknown(head, position)),
            several => {
                let names: Vec<String> = several.iter().take(6).map(|(flag, _)| flags.spell(flag.name)).collect();
                let more = if several.len() > names.len() { " or others" } else { "" };
                let candidates = format!("{}{more}", names.join(" or "));
                Err(Error::AmbiguousFlag { flag: shorten(head), position, candidates })
            }
        }
    }

    fn unknown(&self, head: &str, position: usize) -> Error {
        let flags = self.program.flags();
        let runtime = || {
            let built = self.program == Program::TrtllmBuild;
            if built { trtllm::flags::AFTER_BUILD.suggest(head) } else { None }
        };
        let suggestion =
            flags.suggest(head).or_else(runtime).map(|flag| format!("; did you mean {flag}?")).unwrap_or_default();
        Error::UnknownFlag { engine: flags.engine, flag: shorten(head), position, suggestion }
    }

    fn set(&mut self, written: Written<'w>) -> Result<(), Error> {
        let name = written.flag.name.to_owned();
        if !written.keys.is_empty() {
            return self.set_key(&written);
        }
        let value = match written.flag.kind {
            Kind::Switch | Kind::Toggle => {
                if let Some(found) = written.value {
                    let flag = written.text.to_owned();
                    return Err(Error::UnexpectedValue { flag, position: written.position, found: shorten(found) });
                }
                Value::from(written.sense == Sense::Plain)
            }
            Kind::Boolean | Kind::Enable => self.optional(&written, true)?,
            Kind::OptionalText => self.optional(&written, false)?,
            Kind::List | Kind::Ints => self.list(&written)?,
            Kind::Append => {
                let text = self.value(&written)?;
                let mut list = match self.read.values.remove(&name) {
                    Some(Value::Array(list)) => list,
                    Some(_) | None => Vec::new(),
                };
                list.push(Value::from(text));
                Value::Array(list)
            }
            Kind::Assignment => {
                let text = self.value(&written)?;
                return self.assign(&written, text);
            }
            Kind::Text
            | Kind::Int
            | Kind::Count
            | Kind::Length
            | Kind::Float
            | Kind::Json
            | Kind::JsonOrText
            | Kind::Pairs => {
                let text = self.value(&written)?;
                self.typed(&written, text)?
            }
        };
        self.read.values.insert(name, value);
        Ok(())
    }

    /// Takes the flag's value: after `=`, or the next word.
    fn value(&mut self, written: &Written<'w>) -> Result<&'w str, Error> {
        if written.sense == Sense::Negated {
            return Err(self.unknown(written.text, written.position));
        }
        written.value.or_else(|| self.next_value()).ok_or_else(|| missing(written))
    }

    /// Takes the next word if it is a value and no flag.
    fn next_value(&mut self) -> Option<&'w str> {
        let word = self.words.get(self.at).filter(|word| is_value(word))?;
        self.at += 1;
        Some(word)
    }

    fn typed(&self, written: &Written<'w>, text: &str) -> Result<Value, Error> {
        value::typed(written.flag.kind, text).ok_or_else(|| {
            let shell = if text.starts_with('$') { " (shell variables are not filled in here)" } else { "" };
            let expected = format!("{}{shell}", value::expected(written.flag.kind));
            wrong(written, text, expected)
        })
    }

    fn optional(&mut self, written: &Written<'w>, boolean: bool) -> Result<Value, Error> {
        if written.sense == Sense::Negated {
            return match written.value {
                None => Ok(Value::from(false)),
                Some(found) => Err(wrong(written, found, "no value".to_owned())),
            };
        }
        if let Some(text) = written.value {
            return self.typed(written, text);
        }
        let fits = |word: &String| is_value(word) && (!boolean || value::typed(written.flag.kind, word).is_some());
        if self.words.get(self.at).is_some_and(fits)
            && let Some(text) = self.next_value()
        {
            return self.typed(written, text);
        }
        Ok(Value::from(true))
    }

    fn list(&mut self, written: &Written<'w>) -> Result<Value, Error> {
        if let Some(text) = written.value {
            return Ok(Value::Array(vec![self.typed(written, text)?]));
        }
        let mut list = Vec::new();
        while let Some(text) = self.next_value() {
            list.push(self.typed(written, text)?);
        }
        if list.is_empty() { Err(missing(written)) } else { Ok(Value::Array(list)) }
    }

    fn set_key(&mut self, written: &Written<'w>) -> Result<(), Error> {
        if !written.flag.kind.has_keys() || written.sense == Sense::Negated {
            let found = format!(".{}", written.keys.join("."));
            return Err(wrong(written, &found, format!("{}, without keys", value::expected(written.flag.kind))));
        }
        let text = self.value(written)?;
        let mut keys = written.keys.clone();
        let mut value = None;
        if let Some(last) = keys.last_mut()
            && let Some(name) = last.strip_suffix('+')
        {
            *last = name;
            value = Some(Value::Array(text.split(',').map(Value::from).collect()));
        }
        let map = self.keyed.entry(written.flag.name).or_default();
        value::insert(map, &keys, value.unwrap_or_else(|| value::loose(text)));
        Ok(())
    }

    /// trtllm-serve's `--set path.to.key=value`.
    fn assign(&mut self, written: &Written<'w>, text: &str) -> Result<(), Error> {
        let expected = || value::expected(Kind::Assignment).to_owned();
        let (path, text_value) = text.split_once('=').ok_or_else(|| wrong(written, text, expected()))?;
        let keys: Vec<&str> = path.split('.').collect();
        if keys.len() > DEPTH || keys.iter().any(|key| key.is_empty()) {
            return Err(wrong(written, text, expected()));
        }
        let value = match value::boolean(text_value) {
            Some(boolean) => Value::from(boolean),
            None => serde_json::from_str(text_value).unwrap_or_else(|_| Value::from(text_value)),
        };
        value::insert(&mut self.read.values, &keys, value);
        Ok(())
    }
}

fn missing(written: &Written<'_>) -> Error {
    let expected = value::expected(written.flag.kind);
    Error::MissingValue { flag: written.text.to_owned(), position: written.position, expected }
}

fn wrong(written: &Written<'_>, found: &str, expected: String) -> Error {
    Error::WrongValue { flag: written.text.to_owned(), position: written.position, found: shorten(found), expected }
}

/// Whether a word is a value rather than a flag, as `argparse` sees it: negative numbers and words with spaces are.
fn is_value(word: &str) -> bool {
    let Some(rest) = word.strip_prefix('-') else { return true };
    let number = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    rest.is_empty() || number || word.contains(' ')
}
