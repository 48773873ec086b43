//! Which requests come, and when? Workloads behind one trait: traces, synthetic arrivals, clients that wait for answers.

pub mod frontend;
mod length;
mod notes;
mod number;
mod parse;
pub mod random;
mod synthetic;
pub mod trace;
mod transform;
mod workload;

use plimsoll_units::Nanos;

pub use length::{Rows, Tables};
pub use number::MOST_TOKENS;
pub use synthetic::Synthetic;
pub use transform::{Longest, Overlong, Shaped, Split, Transform};
pub use workload::{MaxTokens, REQUESTS, Workload};

use self::trace::Trace;
use self::trace::servegen::ServeGen;
use crate::{Arrival, Error};

/// A source of requests in order of time.
pub trait Source {
    /// Returns when the next request arrives, as far as is known now; `None` when none is known to come. Never goes
    /// backwards.
    ///
    /// # Errors
    /// [`Error::Load`] when the workload cannot be read further.
    fn peek(&mut self) -> Result<Option<Nanos>, Error>;

    /// Takes the request that was peeked at; `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Load`] when the workload cannot be read further.
    fn take(&mut self) -> Result<Option<Arrival>, Error>;

    /// Is told that a request ended at `now`; a client may then send its next one, at or after that time. A request that
    /// ends before the next is looked at was refused.
    fn finished(&mut self, _mark: u64, _now: Nanos) {}

    /// Returns how many requests will come in all, where that is known; for progress.
    fn total(&self) -> Option<u64> {
        None
    }
}

/// Requests that are at hand, in order of time.
#[derive(Clone, Debug, Default)]
pub struct List {
    arrivals: std::collections::VecDeque<Arrival>,
    total: u64,
}

impl List {
    /// Takes requests and puts them in order of time; those of one time keep theirs.
    pub fn new(mut arrivals: Vec<Arrival>) -> Self {
        arrivals.sort_by_key(|arrival| arrival.at);
        List { total: arrivals.len() as u64, arrivals: arrivals.into() }
    }
}

impl Source for List {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        Ok(self.arrivals.front().map(|arrival| arrival.at))
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        Ok(self.arrivals.pop_front())
    }

    fn total(&self) -> Option<u64> {
        Some(self.total)
    }
}

/// Any of the sources here.
pub enum AnySource {
    /// Requests at hand.
    List(List),
    /// A trace.
    Trace(Box<Trace>),
    /// A synthetic workload.
    Synthetic(Box<Synthetic>),
    /// `ServeGen`'s clients.
    ServeGen(Box<ServeGen>),
    /// Another one, changed.
    Shaped(Box<Shaped>),
}

impl AnySource {
    /// Returns what a trace's reading found so far.
    pub fn report(&self) -> Option<&trace::Report> {
        match self {
            AnySource::Trace(trace) => Some(trace.report()),
            AnySource::Shaped(shaped) => shaped.source().report(),
            AnySource::List(_) | AnySource::Synthetic(_) | AnySource::ServeGen(_) => None,
        }
    }

    /// Whether what comes depends on when requests end.
    pub fn reacts(&self) -> bool {
        match self {
            AnySource::Synthetic(synthetic) => synthetic.reacts(),
            AnySource::Shaped(shaped) => shaped.source().reacts(),
            AnySource::List(_) | AnySource::Trace(_) | AnySource::ServeGen(_) => false,
        }
    }
}

impl Source for AnySource {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        match self {
            AnySource::List(source) => source.peek(),
            AnySource::Trace(source) => source.peek(),
            AnySource::Synthetic(source) => source.peek(),
            AnySource::ServeGen(source) => source.peek(),
            AnySource::Shaped(source) => source.peek(),
        }
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        match self {
            AnySource::List(source) => source.take(),
            AnySource::Trace(source) => source.take(),
            AnySource::Synthetic(source) => source.take(),
            AnySource::ServeGen(source) => source.take(),
            AnySource::Shaped(source) => source.take(),
        }
    }

    fn finished(&mut self, mark: u64, now: Nanos) {
        match self {
            AnySource::Synthetic(source) => source.finished(mark, now),
            AnySource::Shaped(source) => source.finished(mark, now),
            AnySource::List(_) | AnySource::Trace(_) | AnySource::ServeGen(_) => {}
        }
    }

    fn total(&self) -> Option<u64> {
        match self {
            AnySource::List(source) => source.total(),
            AnySource::Trace(source) => source.total(),
            AnySource::Synthetic(source) => source.total(),
            AnySource::ServeGen(source) => source.total(),
            AnySource::Shaped(source) => source.total(),
        }
    }
}

/// What the tokens of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One request's own text.
    Prompt = 1,
    /// What one request generates.
    Output = 2,
    /// A beginning that many share.
    Prefix = 3,
    /// A block that a trace names.
    Block = 4,
    /// A piece that a trace names.
    Segment = 5,
}

/// Returns the stream of so many of a kind: the kind in the upper 4 bits. Numbers beyond 60 bits are hashed into them.
fn stream(kind: Kind, number: u64) -> u64 {
    const ROOM: u64 = (1 << 60) - 1;
    let number = if number <= ROOM { number } else { number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 4 };
    (kind as u64) << 60 | number
}
