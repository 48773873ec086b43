//! Which traffic was asked for? A workload as said in one line, and said again in its canonical form.

use std::fmt;

use plimsoll_units::Nanos;

use super::length::{Length, Quoted, Tables};
use super::synthetic::Synthetic;
use crate::Error;

/// Requests of a workload that says neither how many nor for how long.
pub const REQUESTS: u64 = 1000;

/// A synthetic workload. `docs/workloads.md` has the grammar.
///
/// ```
/// use plimsoll_sim::load::{Source, Tables, Workload};
/// let workload = Workload::parse("poisson 4/s, prompt lognormal 900 p99 4000, output 200")?;
/// assert_eq!(workload.to_string(), "poisson 4/s, prompt lognormal 900 p99 4000, output 200");
/// let mut source = workload.source(0, &Tables::new())?;
/// assert_eq!(source.take()?.map(|first| first.output_tokens), Some(200));
/// # Ok::<(), plimsoll_sim::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub(super) arrivals: Arrivals,
    pub(super) lengths: Lengths,
    pub(super) prefix: Option<Prefix>,
    pub(super) turns: Option<Turns>,
    pub(super) samples: Option<u32>,
    pub(super) max_tokens: Option<MaxTokens>,
    /// Priorities and their weights; none is 0 for all.
    pub(super) priority: Vec<(i32, f64)>,
    pub(super) requests: Option<u64>,
    pub(super) duration: Option<Nanos>,
    pub(super) seed: Option<u64>,
}

/// When requests, or first turns of conversations, arrive.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arrivals {
    /// Independent of each other, so many a second.
    Poisson(f64),
    /// Gamma-distributed gaps: so many a second, with this coefficient of variation.
    Gamma(f64, f64),
    /// Evenly spaced, so many a second.
    Uniform(f64),
    /// All at the start.
    Batch,
    /// So many clients, each sending its next request when the last was answered and it has thought.
    Clients(u32, Option<Think>),
    /// Poisson with a rate that goes evenly from one to the other within a time, and stays there.
    Ramp(f64, f64, Nanos),
}

/// How long somebody thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Think {
    Fixed(Nanos),
    Exponential(Nanos),
}

/// Where lengths come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Lengths {
    /// Prompt and output independently.
    Drawn(Length, Length),
    /// Rows of a table in their order, from the top again after the last.
    Replay(String),
    /// Rows of a table at random.
    Rows(String),
}

/// A tree of shared beginnings: of each level, children of every node and tokens of each child.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prefix {
    pub(super) levels: Vec<(u32, u32)>,
    pub(super) zipf: Option<f64>,
}

/// Conversations.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turns {
    pub(super) count: Length,
    pub(super) think: Option<Think>,
}

/// What requests ask for at most (`max_tokens`), which schedulers may reserve by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxTokens {
    /// Exactly what they will generate.
    #[default]
    Output,
    /// So many tokens each; outputs that are longer are cut there, as an engine would.
    Tokens(std::num::NonZeroU32),
}

impl MaxTokens {
    /// Returns the tokens that are generated and asked for, given those that would be.
    pub(super) fn apply(self, output: u32) -> (u32, u32) {
        match self {
            MaxTokens::Output => (output, output),
            MaxTokens::Tokens(most) => (output.min(most.get()), most.get()),
        }
    }
}

impl Workload {
    /// Reads a workload in words.
    ///
    /// # Errors
    /// [`Error::Load`] with the place, what was expected there, and the nearest known word.
    pub fn parse(text: &str) -> Result<Self, Error> {
        super::parse::workload(text)
    }

    /// Returns the names of the files with lengths that it needs, each once.
    pub fn files(&self) -> Vec<&str> {
        let mut files = match &self.lengths {
            Lengths::Drawn(prompt, output) => [prompt.table(), output.table()].into_iter().flatten().collect(),
            Lengths::Replay(name) | Lengths::Rows(name) => vec![name.as_str()],
        };
        files.extend(self.turns.iter().filter_map(|turns| turns.count.table()));
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Returns the seed that it names.
    pub const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Says what was not said and is therefore assumed.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.requests.is_none() {
            let replay = matches!(self.lengths, Lengths::Replay(_));
            let batch = matches!(self.arrivals, Arrivals::Batch);
            if !replay && (self.duration.is_none() || batch) {
                notes.push(format!("the workload says neither `requests N` nor `for T`: {REQUESTS} requests"));
            }
        }
        if self.max_tokens.is_none() {
            notes.push("the workload says no `max_tokens`: each request asks for exactly what it generates".to_owned());
        }
        notes
    }

    /// Starts it. The workload's own seed goes before the given one.
    ///
    /// # Errors
    /// [`Error::Load`] when a table of lengths is missing or empty.
    pub fn source(&self, seed: u64, tables: &Tables) -> Result<Synthetic, Error> {
        Synthetic::new(self, self.seed.unwrap_or(seed), tables)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.arrivals {
            Arrivals::Poisson(rate) => write!(f, "poisson {rate}/s")?,
            Arrivals::Gamma(rate, cv) => write!(f, "gamma {rate}/s cv {cv}")?,
            Arrivals::Uniform(rate) => write!(f, "uniform {rate}/s")?,
            Arrivals::Batch => f.write_str("batch")?,
            Arrivals::Clients(count, None) => write!(f, "clients {count}")?,
            Arrivals::Clients(count, Some(think)) => write!(f, "clients {count} {think}")?,
            Arrivals::Ramp(from, to, over) => write!(f, "ramp {from}/s to {to}/s over {}", Span(*over))?,
        }
        match &self.lengths {
            Lengths::Drawn(prompt, output) => write!(f, ", prompt {prompt}, output {output}")?,
            Lengths::Replay(name) => write!(f, ", replay {}", Quoted(name))?,
            Lengths::Rows(name) => write!(f, ", lengths {}", Quoted(name))?,
        }
        if let Some(Prefix { levels, zipf }) = &self.prefix {
            for (index, (children, tokens)) in levels.iter().enumerate() {
                write!(f, "{}{children}x{tokens}", if index == 0 { ", prefix " } else { "/" })?;
            }
            if let Some(exponent) = zipf {
                write!(f, " zipf {exponent}")?;
            }
        }
        if let Some(Turns { count, think }) = &self.turns {
            write!(f, ", turns {count}")?;
            if let Some(think) = think {
                write!(f, " {think}")?;
            }
        }
        if let Some(samples) = self.samples {
            write!(f, ", samples {samples}")?;
        }
        match self.max_tokens {
            None => {}
            Some(MaxTokens::Output) => f.write_str(", max_tokens = output")?,
            Some(MaxTokens::Tokens(most)) => write!(f, ", max_tokens {most}")?,
        }
        for (index, (priority, weight)) in self.priority.iter().enumerate() {
            write!(f, "{}{priority}:{weight}", if index == 0 { ", priority " } else { " " })?;
        }
        if let Some(requests) = self.requests {
            write!(f, ", requests {requests}")?;
        }
        if let Some(duration) = self.duration {
            write!(f, ", for {}", Span(duration))?;
        }
        if let Some(seed) = self.seed {
            write!(f, ", seed {seed}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Think {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Think::Fixed(span) => write!(f, "think {}", Span(*span)),
            Think::Exponential(span) => write!(f, "think exponential {}", Span(*span)),
        }
    }
}

/// Units of time, in nanoseconds, the longest first; the first name of each length is the one that is printed.
pub(super) const UNITS: [(&str, u64); 10] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("µs", 1000),
    ("ns", 1),
];

/// A length of time in the longest unit that says it in a whole number.
struct Span(Nanos);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.get();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let (name, unit) = UNITS.into_iter().find(|(_, unit)| nanos.is_multiple_of(*unit)).unwrap_or(("ns", 1));
        write!(f, "{}{name}", nanos / unit)
    }
}
