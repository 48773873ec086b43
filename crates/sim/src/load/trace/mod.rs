//! What did real users send? Traces of many forms, read a line at a time and recognised by the first.
//!
//! Nothing here opens a file: a reader of unpacked bytes comes in, and its name for the messages.

mod csv;
mod date;
mod json;
mod line;
mod row;
pub mod servegen;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;

use plimsoll_kv::Content;
use plimsoll_units::Nanos;

pub use line::Input;

use self::csv::Header;
use self::line::{Line, Lines, MOST_BYTES};
use self::row::{Bad, Row, shorten};
use super::{Kind, MaxTokens, Rows, Source, stream};
use crate::{Arrival, Error};

/// How a trace is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Azure's LLM inference traces of 2023 and later: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    Azure,
    /// BurstGPT: `Timestamp,Model,Request tokens,Response tokens,…`.
    BurstGpt,
    /// Mooncake: lines of JSON with milliseconds, lengths and `hash_ids` of blocks of 512 tokens.
    Mooncake,
    /// Bailian's usage traces: as Mooncake's, in seconds, blocks of 16, with `chat_id`.
    Bailian,
    /// Vidur: `arrived_at,num_prefill_tokens,num_decode_tokens`.
    Vidur,
    /// Lengths without times: `num_prefill_tokens,num_decode_tokens,…` or `prompt_tokens,output_tokens`.
    Lengths,
    /// Our own table: `arrived_s,prompt_tokens,output_tokens` and more.
    Table,
    /// Our own lines of JSON, of the same names.
    Lines,
    /// What vLLM's own scheduler was driven with, arrivals in steps.
    VllmSched,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 9] = [
        Format::Azure,
        Format::BurstGpt,
        Format::Mooncake,
        Format::Bailian,
        Format::Vidur,
        Format::Lengths,
        Format::Table,
        Format::Lines,
        Format::VllmSched,
    ];

    /// Returns the name by which it is asked for.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Azure => "azure",
            Format::BurstGpt => "burstgpt",
            Format::Mooncake => "mooncake",
            Format::Bailian => "bailian",
            Format::Vidur => "vidur",
            Format::Lengths => "lengths",
            Format::Table => "csv",
            Format::Lines => "jsonl",
            Format::VllmSched => "vllm-sched",
        }
    }

    /// Returns the format of a name.
    pub fn named(name: &str) -> Option<Self> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether its times are counted from its first request; those of our own forms are as they are written.
    const fn rebased(self) -> bool {
        match self {
            Format::Azure | Format::BurstGpt | Format::Mooncake | Format::Bailian | Format::Vidur => true,
            Format::Lengths | Format::Table | Format::Lines | Format::VllmSched => false,
        }
    }

    const fn is_json(self) -> bool {
        match self {
            Format::Mooncake | Format::Bailian | Format::Lines | Format::VllmSched => true,
            Format::Azure | Format::BurstGpt | Format::Vidur | Format::Lengths | Format::Table => false,
        }
    }
}

/// How a trace is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The format, where it is not to be recognised.
    pub format: Option<Format>,
    /// Whether rows that are no requests are counted and left out; otherwise the first one ends the reading.
    pub skip_bad: bool,
    /// What requests ask for at most where the trace does not say.
    pub max_tokens: MaxTokens,
    /// Tokens of a block of `hash_ids`, where they differ from the format's.
    pub block_tokens: Option<NonZeroU32>,
    /// How long a step takes, where arrivals are in steps.
    pub step: Nanos,
}

impl Default for Options {
    fn default() -> Self {
        let step = Nanos::new(1_000_000);
        Options { format: None, skip_bad: false, max_tokens: MaxTokens::Output, block_tokens: None, step }
    }
}

/// What was found in a trace so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it is written.
    pub format: Format,
    /// Rows read, the header aside.
    pub rows: u64,
    /// Requests among them.
    pub requests: u64,
    /// Rows without an output token, left out: BurstGPT marks failures so, and nothing was generated in any case.
    pub no_output: u64,
    /// Rows with an output but without a prompt, left out.
    pub no_prompt: u64,
    /// Outputs that were cut to what the request asks for at most.
    pub cut: u64,
    /// Rows that were left out because they are no requests, by what is wrong with them.
    pub bad: BTreeMap<&'static str, u64>,
    /// The first of them, with its line.
    pub first_bad: Option<String>,
    /// Columns that say nothing to us.
    pub unused: Vec<String>,
    /// Conversations that were forgotten because there were too many at once.
    pub forgotten: u64,
}

impl Report {
    /// Returns how many rows were left out as bad.
    pub fn skipped(&self) -> u64 {
        self.bad.values().sum()
    }
}

/// Most conversations whose text so far is remembered.
const MOST_CONVERSATIONS: usize = 1 << 16;
/// Most bytes of a file that is read in one piece.
const MOST_WHOLE: u64 = 256 << 20;
/// Most rows of a table of lengths.
const MOST_ROWS: usize = 1 << 24;

/// A trace on its way. Memory does not grow with its requests.
pub struct Trace {
    name: String,
    lines: Lines,
    form: Form,
    options: Options,
    row: Row,
    next: Option<Arrival>,
    ended: bool,
    /// What times are counted from.
    base: Option<Nanos>,
    last: Nanos,
    conversations: BTreeMap<u64, Content>,
    /// Their order of beginning.
    begun: VecDeque<u64>,
    report: Report,
}

/// How rows are read.
enum Form {
    Table(Header),
    Json,
    Whole(std::vec::IntoIter<Row>),
}

/// Opens a trace: recognises its form by its first line.
///
/// # Errors
/// [`Error::Load`] with the file's name and line when it is empty or of no known form, or when it has no times.
pub fn open(name: &str, input: Input, options: &Options) -> Result<Trace, Error> {
    let trace = recognise(name, input, options)?;
    if trace.report.format == Format::Lengths {
        return Err(Error::Load(format!(
            "{name}: has lengths but no times; combine it with an arrival process, such as --workload \"poisson 4/s, replay {name}\""
        )));
    }
    Ok(trace)
}

/// Reads the lengths of a trace of any form, with or without times, into a table for workloads that replay or draw them.
///
/// # Errors
/// [`Error::Load`] as for [`open`] and [`Source::take`], and beyond 2^24 rows.
pub fn lengths(name: &str, input: Input, options: &Options) -> Result<(Rows, Report), Error> {
    let mut trace = recognise(name, input, options)?;
    let mut rows = Vec::new();
    while let Some(arrival) = trace.take()? {
        if rows.len() >= MOST_ROWS {
            return Err(Error::Load(format!("{name}: has more than {MOST_ROWS} rows; take a part of it")));
        }
        rows.push((arrival.prompt.len(), arrival.output_tokens));
    }
    Ok((rows.into(), trace.report))
}

fn recognise(name: &str, input: Input, options: &Options) -> Result<Trace, Error> {
    let mut lines = Lines::new(input);
    match lines.next() {
        Line::Here => {}
        Line::TooLong => return Err(strange(name, "begins with a line of more than 16 MiB")),
        Line::End => return Err(Error::Load(format!("{name}: is empty"))),
        Line::Broken(error) => return Err(broken(name, lines.number, &error)),
    }
    let Ok(first) = std::str::from_utf8(lines.bytes()) else { return Err(strange(name, "is not text")) };
    let first = first.trim_start();
    if first.contains('\0') {
        return Err(strange(name, "is not text"));
    }
    let (format, form, unused) = match Header::read(first, options.format) {
        Some((format, header)) if !first.starts_with('{') => {
            let unused = header.unused().map(str::to_owned).collect();
            (format, Form::Table(header), unused)
        }
        Some(_) | None => {
            let named = options.format.filter(|format| format.is_json());
            let found = if first.starts_with('{') { named.or_else(|| json::recognise(first)) } else { None };
            let found = found.filter(|found| options.format.is_none_or(|format| format == *found));
            let format = found.ok_or_else(|| unknown(name, first, options.format))?;
            if format == Format::VllmSched {
                (format, Form::Whole(steps(name, &mut lines, options)?.into_iter()), Vec::new())
            } else {
                lines.repeat();
                (format, Form::Json, Vec::new())
            }
        }
    };
    Ok(Trace {
        name: name.to_owned(),
        lines,
        form,
        options: *options,
        row: Row::default(),
        next: None,
        ended: false,
        base: (!format.rebased()).then_some(Nanos::ZERO),
        last: Nanos::ZERO,
        conversations: BTreeMap::new(),
        begun: VecDeque::new(),
        report: Report {
            format,
            rows: 0,
            requests: 0,
            no_output: 0,
            no_prompt: 0,
            cut: 0,
            bad: BTreeMap::new(),
            first_bad: None,
            unused,
            forgotten: 0,
        },
    })
}

fn steps(name: &str, lines: &mut Lines, options: &Options) -> Result<Vec<Row>, Error> {
    let text = lines.rest(MOST_WHOLE).map_err(|error| broken(name, lines.number, &error))?;
    let text = text.ok_or_else(|| Error::Load(format!("{name}: has more than {MOST_WHOLE} bytes in one piece")))?;
    let steps = json::Steps::parse(&text).map_err(|why| Error::Load(format!("{name}: {why}")))?;
    steps.rows(options.step).map_err(|bad| Error::Load(format!("{name}: {}", bad.detail)))
}

fn strange(name: &str, what: &str) -> Error {
    Error::Load(format!(
        "{name}:1: {what}; a trace is a table in CSV or lines of JSON (packed ones are unpacked, gzip and zstd)"
    ))
}

fn broken(name: &str, line: u64, error: &std::io::Error) -> Error {
    Error::Load(format!("{name}:{line}: {}", unreadable(error)))
}

/// Says why a stream gives no more.
fn unreadable(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let damaged = [UnexpectedEof, InvalidData, InvalidInput].contains(&error.kind());
    let hint = if damaged { "; the file is damaged or cut off: fetch it again" } else { "" };
    format!("cannot be read further: {error}{hint}")
}

fn unknown(name: &str, first: &str, named: Option<Format>) -> Error {
    let begins = shorten(first);
    if let Some(named) = named.map(Format::name) {
        let article = if named.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        return Error::Load(format!("{name}:1: begins with {begins:?}: not what {article} {named} trace begins with"));
    }
    if first.starts_with('[') {
        return Error::Load(format!("{name}:1: is a JSON array; write one object a line (JSONL)"));
    }
    Error::Load(format!(
        "{name}:1: begins with {begins:?}, which no known trace does; known are the headers TIMESTAMP,ContextTokens,GeneratedTokens \
         (azure); Timestamp,Model,Request tokens,Response tokens (burstgpt); arrived_at,num_prefill_tokens,num_decode_tokens \
         (vidur); num_prefill_tokens,num_decode_tokens (lengths); arrived_s,prompt_tokens,output_tokens (csv), and lines of JSON \
         with timestamp,input_length,output_length,hash_ids (mooncake, bailian) or arrived_s,prompt_tokens,output_tokens (jsonl)"
    ))
}

impl Trace {
    /// Returns what was found so far; complete when no request is left.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// Reads rows until one is a request.
    fn fill(&mut self) -> Result<(), Error> {
        while self.next.is_none() && !self.ended {
            match self.read() {
                Ok(()) => {}
                Err(bad) if self.options.skip_bad => self.skip(bad),
                Err(bad) => {
                    self.ended = true;
                    return Err(Error::Load(format!(
                        "{}:{}: {}; --skip-bad leaves such rows out and counts them",
                        self.name, self.lines.number, bad.detail
                    )));
                }
            }
            if self.ended && self.report.requests == 0 {
                let Report { rows, no_output, no_prompt, .. } = self.report;
                let first = self.report.first_bad.as_deref().map(|bad| format!("; the first bad one: {bad}"));
                return Err(Error::Load(format!(
                    "{}: holds no request: {}, {no_output} without output, {no_prompt} without prompt, {} bad{}",
                    self.name,
                    super::notes::counted(rows, "row"),
                    self.report.skipped(),
                    first.unwrap_or_default()
                )));
            }
        }
        Ok(())
    }

    fn skip(&mut self, bad: Bad) {
        *self.report.bad.entry(bad.reason).or_insert(0) += 1;
        let line = self.lines.number;
        self.report.first_bad.get_or_insert_with(|| format!("line {line}: {}", bad.detail));
    }

    /// Reads one row. What remains of a stream that broke off counts as one bad row.
    fn read(&mut self) -> Result<(), Bad> {
        if let Form::Whole(rows) = &mut self.form {
            match rows.next() {
                Some(row) => self.row = row,
                None => {
                    self.ended = true;
                    return Ok(());
                }
            }
            self.report.rows += 1;
            return self.request();
        }
        match self.lines.next() {
            Line::Here => self.report.rows += 1,
            Line::TooLong => {
                self.report.rows += 1;
                return Err(Bad::new("line too long", format!("a line of more than {MOST_BYTES} bytes")));
            }
            Line::End => {
                self.ended = true;
                return Ok(());
            }
            Line::Broken(error) => {
                self.ended = true;
                self.report.rows += 1;
                return Err(Bad::new("the rest is unreadable", unreadable(&error)));
            }
        }
        self.row.clear();
        let line = std::str::from_utf8(self.lines.bytes())
            .map_err(|_| Bad::new("not text", "the line is not text (UTF-8)"))?;
        match &self.form {
            Form::Table(header) => header.row(line, &mut self.row)?,
            Form::Json if self.report.format == Format::Lines => json::own(line, &mut self.row)?,
            Form::Json | Form::Whole(_) => json::blocks(line, self.report.format, &self.options, &mut self.row)?,
        }
        self.request()
    }

    /// Makes a request of the row.
    fn request(&mut self) -> Result<(), Bad> {
        let at = match self.row.at {
            Some(at) => at,
            None if self.report.format == Format::Lengths => Nanos::ZERO,
            None => return Err(Bad::missing("arrived_s")),
        };
        let base = *self.base.get_or_insert(at);
        if at < base || at - base < self.last {
            let back = (base + self.last) - at;
            return Err(Bad::new(
                "time goes backwards",
                format!("{back} before the row before it: time goes backwards"),
            ));
        }
        self.last = at - base;
        if self.row.output == 0 {
            self.report.no_output += 1;
            return Ok(());
        }
        if self.row.prompt == 0 {
            self.report.no_prompt += 1;
            return Ok(());
        }
        let (output_tokens, max_tokens) = match self.row.max_tokens.and_then(NonZeroU32::new) {
            Some(most) => MaxTokens::Tokens(most).apply(self.row.output),
            None => self.options.max_tokens.apply(self.row.output),
        };
        let number = self.report.requests;
        let output_stream = stream(Kind::Output, number);
        let prompt = self.prompt(number)?;
        self.report.cut += u64::from(output_tokens < self.row.output);
        if let Some(conversation) = self.row.conversation {
            self.remember(conversation, &prompt, output_stream, output_tokens);
        }
        self.report.requests += 1;
        self.next = Some(Arrival {
            at: self.last,
            prompt,
            output_tokens,
            max_tokens,
            output_stream,
            priority: self.row.priority,
            sample_of: None,
            mark: 0,
        });
        Ok(())
    }

    /// Puts a prompt together: what it shares with others, and its own rest.
    fn prompt(&self, number: u64) -> Result<Content, Bad> {
        let row = &self.row;
        let mut prompt = match row.conversation.and_then(|conversation| self.conversations.get(&conversation)) {
            Some(history) => history.clone(),
            None => Content::new(),
        };
        if let Some((prefix, tokens)) = row.prefix {
            if tokens > row.prompt {
                let detail = format!("prefix_tokens {tokens} are more than the prompt's {}", row.prompt);
                return Err(Bad::new("prefix longer than prompt", detail));
            }
            if prompt.is_empty() {
                prompt.push(stream(Kind::Prefix, prefix), 0, tokens);
            }
        }
        for &id in &row.blocks {
            let tokens = row.block_tokens.min(row.prompt - prompt.len());
            prompt.push(stream(Kind::Block, id), 0, tokens);
        }
        for &(segment, tokens) in &row.segments {
            prompt.push(stream(Kind::Segment, segment), 0, tokens);
        }
        prompt.truncate(row.prompt);
        prompt.push(stream(Kind::Prompt, number), 0, row.prompt - prompt.len());
        Ok(prompt)
    }

    fn remember(&mut self, conversation: u64, prompt: &Content, output_stream: u64, output_tokens: u32) {
        let mut history = prompt.clone();
        history.push(output_stream, 0, output_tokens);
        if self.conversations.insert(conversation, history).is_none() {
            self.begun.push_back(conversation);
            if self.begun.len() > MOST_CONVERSATIONS {
                self.report.forgotten += 1;
                self.begun.pop_front().map(|oldest| self.conversations.remove(&oldest));
            }
        }
    }
}

impl Source for Trace {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        self.fill()?;
        Ok(self.next.as_ref().map(|arrival| arrival.at))
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        self.fill()?;
        Ok(self.next.take())
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
