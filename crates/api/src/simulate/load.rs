//! What arrives? A trace, a workload in words, or both, to a source of requests.

use std::num::NonZeroU32;

use plimsoll_sim::load::trace::{self, Format, Options, servegen};
use plimsoll_sim::load::{AnySource, MaxTokens, Shaped, Tables, Transform, Workload};

use crate::world::Stream;
use crate::{Desk, Error, SimulateRequest, TraceRequest};

/// Requests on their way, and how they are called.
pub(super) struct Load {
    /// Where they come from.
    pub(super) source: AnySource,
    /// In words, for the answer's head.
    pub(super) words: String,
    /// The seed that counts: the workload's own where it names one.
    pub(super) seed: u64,
    /// What came up.
    pub(super) notes: Vec<String>,
}

/// Opens what a request asks for.
pub(super) fn open(request: &SimulateRequest, desk: &Desk<'_>) -> Result<Load, Error> {
    match (&request.trace, &request.workload) {
        (Some(asked), None) => traced(asked, request.seed, desk),
        (None, Some(text)) => worded(text, request.seed, desk),
        (Some(asked), Some(text)) => replayed(asked, text, request.seed, desk),
        (None, None) => Err(Error::Request(
            "nothing arrives: give --trace FILE, or --workload such as 'poisson 4/s, prompt 900, output 200'"
                .to_owned(),
        )),
    }
}

/// Takes the arrivals and lengths of a trace.
fn traced(asked: &TraceRequest, seed: u64, desk: &Desk<'_>) -> Result<Load, Error> {
    let options = options(asked)?;
    let source = match desk.stream(&asked.path)? {
        Stream::Lines(input) => AnySource::Trace(Box::new(trace::open(&asked.path, input, &options).map_err(broken)?)),
        Stream::Pool(pool) => {
            let options = servegen::Options { max_tokens: max_tokens(asked)?, ..servegen::Options::default() };
            AnySource::ServeGen(Box::new(pool.source(options, seed).map_err(broken)?))
        }
    };
    let mut words = format!("trace {}", file_name(&asked.path));
    if let Some(rate) = asked.rate_scale {
        words.push_str(&format!(", rate x{rate}"));
    }
    if let Some(limit) = asked.limit {
        words.push_str(&format!(", first {limit}"));
    }
    Ok(Load { source: shaped(source, asked)?, words, seed, notes: Vec::new() })
}

/// Takes a workload in words.
fn worded(text: &str, seed: u64, desk: &Desk<'_>) -> Result<Load, Error> {
    let workload = Workload::parse(text).map_err(said)?;
    let (tables, mut notes) = tables(&workload, &Options::default(), desk)?;
    notes.extend(workload.notes());
    let source = workload.source(seed, &tables).map_err(said)?;
    Ok(Load {
        source: AnySource::Synthetic(Box::new(source)),
        words: workload.to_string(),
        seed: workload.seed().unwrap_or(seed),
        notes,
    })
}

/// Takes the lengths of a trace and the arrivals of a workload in words.
fn replayed(asked: &TraceRequest, text: &str, seed: u64, desk: &Desk<'_>) -> Result<Load, Error> {
    let most = asked.max_tokens.map_or_else(String::new, |tokens| format!(", max_tokens {tokens}"));
    let workload = Workload::parse(&format!("{text}, replay {}{most}", quoted(&asked.path))).map_err(said)?;
    let options = options(&TraceRequest { max_tokens: None, ..asked.clone() })?;
    let (tables, mut notes) = tables(&workload, &options, desk)?;
    notes.extend(workload.notes());
    let source = AnySource::Synthetic(Box::new(workload.source(seed, &tables).map_err(said)?));
    Ok(Load {
        source: shaped(source, asked)?,
        words: workload.to_string(),
        seed: workload.seed().unwrap_or(seed),
        notes,
    })
}

/// Reads the lengths that a workload takes from files, and says what was left out of them.
fn tables(workload: &Workload, options: &Options, desk: &Desk<'_>) -> Result<(Tables, Vec<String>), Error> {
    let (mut tables, mut notes) = (Tables::new(), Vec::new());
    for file in workload.files() {
        let Stream::Lines(input) = desk.stream(file)? else {
            let why = "a folder or archive has no list of lengths".to_owned();
            return Err(Error::World { place: file.to_owned(), why });
        };
        let (rows, report) = trace::lengths(file, input, options).map_err(broken)?;
        tables.insert(file.to_owned(), rows);
        notes.extend(report.notes());
    }
    Ok((tables, notes))
}

fn options(asked: &TraceRequest) -> Result<Options, Error> {
    let format = asked.format.as_deref().map(|name| Format::named(name).ok_or_else(|| unknown_format(name)));
    Ok(Options {
        format: format.transpose()?,
        skip_bad: asked.skip_bad,
        max_tokens: max_tokens(asked)?,
        ..Options::default()
    })
}

fn max_tokens(asked: &TraceRequest) -> Result<MaxTokens, Error> {
    let Some(tokens) = asked.max_tokens else { return Ok(MaxTokens::Output) };
    let tokens = NonZeroU32::new(tokens).ok_or_else(|| Error::Request("max_tokens is at least 1".to_owned()))?;
    Ok(MaxTokens::Tokens(tokens))
}

fn unknown_format(name: &str) -> Error {
    let known: Vec<&str> = Format::ALL.into_iter().map(Format::name).collect();
    Error::Request(format!("--trace-format {name}: not one of {}", known.join(", ")))
}

/// Applies what is asked about rate and number.
fn shaped(source: AnySource, asked: &TraceRequest) -> Result<AnySource, Error> {
    let change = Transform { rate: asked.rate_scale.unwrap_or(1.0), limit: asked.limit, ..Transform::default() };
    if change == Transform::default() {
        return Ok(source);
    }
    Ok(AnySource::Shaped(Box::new(Shaped::new(source, change).map_err(said)?)))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn quoted(path: &str) -> String {
    format!("\"{path}\"")
}

/// A workload that cannot be understood is a malformed question.
fn said(error: plimsoll_sim::Error) -> Error {
    Error::Request(error.to_string())
}

/// A file that cannot be read is none.
pub(super) fn broken(error: plimsoll_sim::Error) -> Error {
    Error::Simulation(error.to_string())
}
