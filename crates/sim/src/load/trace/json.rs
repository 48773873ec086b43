//! What does a line of JSON say? Mooncake's and Bailian's traces with their blocks' hashes, and our own form.

use serde::Deserialize;

use plimsoll_units::Nanos;

use super::row::{Bad, Row, identity, shorten};
use super::{Format, Options};
use crate::load::number::{self, Odd};

/// A line of a Mooncake trace (FAST25-release/traces and the earlier mooncake_trace.jsonl): milliseconds, lengths, and
/// the identities of the prompt's blocks of 512 tokens. Bailian's has seconds, blocks of 16, and a chat's identity.
#[derive(Deserialize)]
struct Blocks {
    timestamp: Option<f64>,
    #[serde(alias = "input_tokens")]
    input_length: Option<f64>,
    #[serde(alias = "output_tokens")]
    output_length: Option<f64>,
    hash_ids: Option<Vec<u64>>,
}

/// A line of our own form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    arrived_s: Option<f64>,
    prompt_tokens: Option<f64>,
    output_tokens: Option<f64>,
    max_tokens: Option<f64>,
    priority: Option<i32>,
    prefix: Option<Name>,
    prefix_tokens: Option<f64>,
    conversation: Option<Name>,
    segments: Option<Vec<(u64, f64)>>,
}

/// A number or a word.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name(serde_json::Value);

impl Name {
    fn identity(&self) -> Option<u64> {
        if let Some(text) = self.0.as_str() {
            return Some(identity(text));
        }
        self.0.as_u64()
    }
}

/// What vLLM's own scheduler was driven with: `{"requests": […], …}` in one piece.
#[derive(Deserialize)]
pub(super) struct Steps {
    requests: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    arrival_step: u64,
    prompt: Vec<(u64, f64)>,
    max_tokens: f64,
    #[serde(default)]
    priority: i32,
}

/// Recognises a line.
pub(super) fn recognise(line: &str) -> Option<Format> {
    // By the keys of the outermost object alone: a line that is no JSON may still be the beginning of one that goes on.
    const KNOWN: [&str; 7] =
        ["chat_id", "timestamp", "input_length", "input_tokens", "output_tokens", "prompt_tokens", "segments"];
    let (mut found, mut requests) = ([false; KNOWN.len()], line == "{");
    for (key, value) in (Keys { line, at: 0, depth: 0 }) {
        requests |= key == "requests" && begins_objects(value);
        if let Some(place) = KNOWN.iter().position(|known| *known == key) {
            found[place] = true;
        }
    }
    let has = |key: &str| KNOWN.iter().zip(found).any(|(known, found)| found && *known == key);
    if requests {
        Some(Format::VllmSched)
    } else if has("chat_id") && has("timestamp") {
        Some(Format::Bailian)
    } else if has("timestamp") && (has("input_length") || has("input_tokens")) {
        Some(Format::Mooncake)
    } else if has("output_tokens") && (has("prompt_tokens") || has("segments")) {
        Some(Format::Lines)
    } else {
        None
    }
}

/// Whether a value is an array of objects as far as it goes.
fn begins_objects(value: &str) -> bool {
    let first = value.strip_prefix('[').map(|inner| inner.trim_start().bytes().next());
    matches!(first, Some(None | Some(b'{' | b']')))
}

/// The keys of a line's outermost object, each with what stands behind it.
struct Keys<'a> {
    line: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Iterator for Keys<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let bytes = self.line.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b'"' => {
                    let begin = self.at;
                    while *bytes.get(self.at)? != b'"' {
                        self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
                    }
                    let (name, rest) = (&self.line[begin..self.at], self.line[self.at + 1..].trim_start());
                    self.at += 1;
                    if let Some(value) = rest.strip_prefix(':').filter(|_| self.depth == 1) {
                        return Some((name, value.trim_start()));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Reads a line of a trace with blocks.
pub(super) fn blocks(line: &str, format: Format, options: &Options, row: &mut Row) -> Result<(), Bad> {
    let (unit, usual) = if format == Format::Bailian { (1e9, 16) } else { (1e6, 512) };
    let found: Blocks = parse(line)?;
    row.at = Some(time("timestamp", found.timestamp, unit)?);
    row.prompt = tokens("input_length", found.input_length)?;
    row.output = tokens("output_length", found.output_length)?;
    row.block_tokens = options.block_tokens.map_or(usual, std::num::NonZeroU32::get);
    row.blocks = found.hash_ids.unwrap_or_default();
    let (blocks, size) = (row.blocks.len() as u64, u64::from(row.block_tokens));
    let (full, all) = (u64::from(row.prompt) / size, u64::from(row.prompt).div_ceil(size));
    // Mooncake's files name the last block too, though it is not full.
    let fits = blocks == all || (blocks == full && format == Format::Bailian);
    if !row.blocks.is_empty() && !fits {
        let detail = format!(
            "{blocks} hash_ids for {} tokens, which are {all} blocks of {size}; is a block of other size?",
            row.prompt
        );
        return Err(Bad::new("blocks do not fit the prompt", detail));
    }
    Ok(())
}

/// Reads a line of our own form.
pub(super) fn own(line: &str, row: &mut Row) -> Result<(), Bad> {
    let found: Own = parse(line)?;
    row.at = found.arrived_s.map(|at| time("arrived_s", Some(at), 1e9)).transpose()?;
    row.output = tokens("output_tokens", found.output_tokens)?;
    row.max_tokens = found.max_tokens.map(|most| tokens("max_tokens", Some(most))).transpose()?;
    row.priority = found.priority.unwrap_or(0);
    let name = |title: &str, name: Option<Name>| {
        let odd = || Bad::new("not a name", format!("{title} is neither a text nor a whole number from 0"));
        name.map(|name| name.identity().ok_or_else(odd)).transpose()
    };
    row.conversation = name("conversation", found.conversation)?;
    if let Some(prefix) = name("prefix", found.prefix)? {
        row.prefix = Some((prefix, tokens("prefix_tokens", found.prefix_tokens)?));
    }
    match found.segments {
        Some(segments) => row.prompt = pieces(&segments, row)?,
        None => row.prompt = tokens("prompt_tokens", found.prompt_tokens)?,
    }
    if !row.segments.is_empty() {
        if row.prefix.is_some() || row.conversation.is_some() {
            let detail = "segments say the whole prompt: neither prefix nor conversation may stand beside them";
            return Err(Bad::new("two prompts", detail));
        }
        if found.prompt_tokens.is_some() && tokens("prompt_tokens", found.prompt_tokens)? != row.prompt {
            return Err(Bad::new(
                "two prompts",
                format!("segments of {} tokens beside other prompt_tokens", row.prompt),
            ));
        }
    }
    Ok(())
}

/// Takes segments into a row and returns their tokens.
fn pieces(segments: &[(u64, f64)], row: &mut Row) -> Result<u32, Bad> {
    row.segments.clear();
    let mut sum = 0.0;
    for &(segment, length) in segments {
        row.segments.push((segment, tokens("a segment's length", Some(length))?));
        sum += length;
    }
    tokens("the segments' length", Some(sum))
}

impl Steps {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// Returns the requests as rows, in order of arrival, a step taking so long.
    pub(super) fn rows(self, step: Nanos) -> Result<Vec<Row>, Bad> {
        let mut rows = Vec::with_capacity(self.requests.len());
        for request in self.requests {
            let at = request.arrival_step.checked_mul(step.get()).map(Nanos::new);
            let mut row = Row { at, priority: request.priority, ..Row::default() };
            if at.is_none() {
                return Err(Bad::new(
                    "not a time",
                    format!("arrival_step {} is beyond 584 years", request.arrival_step),
                ));
            }
            row.prompt = pieces(&request.prompt, &mut row)?;
            row.output = tokens("max_tokens", Some(request.max_tokens))?;
            rows.push(row);
        }
        rows.sort_by_key(|row| row.at);
        Ok(rows)
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Bad> {
    serde_json::from_str(line).map_err(|error| {
        // The line within the line is always 1; its number in the file is said elsewhere.
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        Bad::new("not such a JSON object", format!("{why} at column {}: {:?}", error.column(), shorten(line)))
    })
}

fn tokens(title: &str, value: Option<f64>) -> Result<u32, Bad> {
    let value = value.ok_or_else(|| Bad::missing(title))?;
    number::whole_tokens(value).map_err(|odd| Bad::field(title, odd, &number::brief(value)))
}

fn time(title: &str, value: Option<f64>, unit: f64) -> Result<Nanos, Bad> {
    let value = value.ok_or_else(|| Bad::missing(title))?;
    let odd = |odd| Bad::time(title, odd, &number::brief(value), "seconds");
    if value < 0.0 {
        return Err(odd(Odd::Negative));
    }
    let nanos = value * unit;
    // Both come from JSON or are checked above: no NaN gets here.
    if nanos >= 18_446_744_073_709_551_616.0 {
        return Err(odd(Odd::TooLarge));
    }
    Ok(Nanos::new(libm::round(nanos) as u64))
}
