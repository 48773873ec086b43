//! Which column says what? Traces as tables with a header: Azure's, BurstGPT's, Vidur's, our own.

use plimsoll_units::Nanos;

use super::row::{Bad, Row, identity, shorten};
use super::{Format, date};
use crate::load::number::{self, Odd};

/// What a column says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// A date and time of day.
    Date,
    Seconds,
    Prompt,
    Output,
    MaxTokens,
    Priority,
    Prefix,
    PrefixTokens,
    Conversation,
}

/// The header of a table: what each of its columns says, and how it is called there.
#[derive(Clone, Debug)]
pub(super) struct Header {
    columns: Vec<(Option<Role>, String)>,
}

/// The names that each format gives to its columns, in lower case. The first three are required, of our own two without
/// times the first two.
const NAMES: [(Format, &[(Role, &str)]); 7] = [
    // Header of AzureLLMInferenceTrace_{code,conv}.csv of 2023 and of the week of 2024, whose times carry `+00:00`.
    (Format::Azure, &[(Role::Date, "timestamp"), (Role::Prompt, "contexttokens"), (Role::Output, "generatedtokens")]),
    // Headers of BurstGPT_1.csv, and of BurstGPT_3.csv with `Session ID` and `Elapsed time` behind the time.
    (
        Format::BurstGpt,
        &[(Role::Seconds, "timestamp"), (Role::Prompt, "request tokens"), (Role::Output, "response tokens")],
    ),
    // Vidur, data/processed_traces.
    (
        Format::Vidur,
        &[(Role::Seconds, "arrived_at"), (Role::Prompt, "num_prefill_tokens"), (Role::Output, "num_decode_tokens")],
    ),
    (Format::Table, &[(Role::Seconds, "arrived_s"), (Role::Prompt, "prompt_tokens"), (Role::Output, "output_tokens")]),
    (Format::Table, &[(Role::Seconds, "arrival_s"), (Role::Prompt, "prompt_tokens"), (Role::Output, "output_tokens")]),
    (Format::Lengths, &[(Role::Prompt, "num_prefill_tokens"), (Role::Output, "num_decode_tokens")]),
    (Format::Lengths, &[(Role::Prompt, "prompt_tokens"), (Role::Output, "output_tokens")]),
];

/// What our own tables may say besides.
const OPTIONAL: [(Role, &str); 5] = [
    (Role::MaxTokens, "max_tokens"),
    (Role::Priority, "priority"),
    (Role::Prefix, "prefix"),
    (Role::PrefixTokens, "prefix_tokens"),
    (Role::Conversation, "conversation"),
];

impl Header {
    /// Recognises a header, or one of the format that was named.
    pub(super) fn read(line: &str, named: Option<Format>) -> Option<(Format, Self)> {
        let mut fields = Fields::new(line);
        let titles: Vec<String> = fields.by_ref().map(|title| title.trim().to_lowercase()).collect();
        if fields.odd {
            return None;
        }
        let fits = |(format, required): &&(Format, &[(Role, &str)])| {
            named.is_none_or(|named| named == *format)
                && required.iter().all(|(_, name)| titles.iter().any(|title| title == name))
        };
        let (format, required) = NAMES.iter().find(fits)?;
        let own = matches!(format, Format::Table);
        let known = required.iter().chain(OPTIONAL.iter().filter(|_| own));
        let known: Vec<(Role, &str)> = known.copied().collect();
        let mut columns: Vec<(Option<Role>, String)> = Vec::with_capacity(titles.len());
        for title in titles {
            let role = known.iter().find(|(_, name)| title == *name).map(|(role, _)| *role);
            // The second column of a name says nothing.
            let role = role.filter(|role| columns.iter().all(|(other, _)| *other != Some(*role)));
            columns.push((role, title));
        }
        Some((*format, Header { columns }))
    }

    /// Returns the columns that say nothing to us.
    pub(super) fn unused(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|(role, _)| role.is_none()).map(|(_, title)| title.as_str())
    }

    /// Reads a line.
    pub(super) fn row(&self, line: &str, row: &mut Row) -> Result<(), Bad> {
        let mut fields = Fields::new(line);
        let (mut found, mut prefix, mut prefix_tokens) = (0, None, None);
        for (role, title) in &self.columns {
            let Some(field) = fields.next() else { break };
            found += 1;
            let Some(role) = role else { continue };
            let text = field.trim();
            let tokens = || number::tokens(text).map_err(|odd| Bad::field(title, odd, text));
            match role {
                Role::Date => row.at = Some(date::nanos(text).ok_or_else(|| bad_date(title, text))?),
                Role::Seconds => row.at = Some(seconds(title, text)?),
                Role::Prompt => row.prompt = tokens()?,
                Role::Output => row.output = tokens()?,
                Role::MaxTokens if text.is_empty() => {}
                Role::MaxTokens => row.max_tokens = Some(tokens()?),
                Role::Priority if text.is_empty() => {}
                Role::Priority => {
                    row.priority = text.parse().map_err(|_| Bad::field(title, Odd::NotANumber, text))?;
                }
                Role::Prefix => prefix = (!text.is_empty()).then(|| identity(text)),
                Role::PrefixTokens if text.is_empty() => {}
                Role::PrefixTokens => prefix_tokens = Some(tokens()?),
                Role::Conversation => row.conversation = (!text.is_empty()).then(|| identity(text)),
            }
        }
        let more = fields.by_ref().count();
        if fields.odd {
            let detail = format!("neither a comma nor the end behind a closing quote: {:?}", shorten(line));
            return Err(Bad::new("text behind a quote", detail));
        }
        if found != self.columns.len() || more > 0 {
            let (found, wanted) = (found + more, self.columns.len());
            return Err(Bad::new("wrong number of columns", format!("{found} columns where the header has {wanted}")));
        }
        row.prefix = match (prefix, prefix_tokens) {
            (Some(prefix), Some(tokens)) => Some((prefix, tokens)),
            (Some(_), None) => return Err(Bad::missing("prefix_tokens")),
            (None, _) => None,
        };
        Ok(())
    }
}

fn bad_date(title: &str, text: &str) -> Bad {
    let detail = format!("{title} is {:?}: not a date and time such as 2023-11-16 18:17:03.9799600", shorten(text));
    Bad::new("not a time", detail)
}

fn seconds(title: &str, text: &str) -> Result<Nanos, Bad> {
    number::nanos(text, 1_000_000_000).map_err(|odd| Bad::time(title, odd, text, "seconds"))
}

/// The fields of a line, a quoted one without its quotes; a quote within one is doubled, and stays so.
struct Fields<'a> {
    line: &'a str,
    ended: bool,
    /// Whether anything but a comma stood behind a closing quote.
    odd: bool,
}

impl<'a> Fields<'a> {
    const fn new(line: &'a str) -> Self {
        Fields { line, ended: false, odd: false }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.ended {
            return None;
        }
        let quoted =
            self.line.strip_prefix('"').and_then(|inner| closing(inner).map(|end| (&inner[..end], &inner[end + 1..])));
        let (field, rest) = quoted.unwrap_or(("", self.line));
        let end = rest.find(',');
        let before = &rest[..end.unwrap_or(rest.len())];
        self.odd |= quoted.is_some() && !before.is_empty();
        match end {
            Some(end) => self.line = &rest[end + 1..],
            None => self.ended = true,
        }
        Some(if quoted.is_some() { field } else { before })
    }
}

/// Returns where a quoted field ends: at the first quote that is not doubled.
fn closing(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let mut at = 0;
    loop {
        at += inner[at..].find('"')?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}
