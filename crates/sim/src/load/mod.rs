//! Which requests come, and when? Workloads behind one trait: traces, synthetic arrivals, clients that wait for answers.

use plimsoll_units::Nanos;

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

    /// Is told that a request ended at `now`; a client may then send its next one, at or after that time.
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
