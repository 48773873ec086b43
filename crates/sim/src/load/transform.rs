//! What if it came faster, or only a part of it? Changes to any source of requests.

use plimsoll_units::Nanos;

use super::{AnySource, Source};
use crate::{Arrival, Error};

/// Changes to a source, applied in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// Requests that are left out at the beginning.
    pub skip: u64,
    /// Only requests at or after this time, which becomes the start.
    pub from: Nanos,
    /// Only requests before this time.
    pub until: Nanos,
    /// One replica's share.
    pub split: Option<Split>,
    /// What the model can take.
    pub longest: Option<Longest>,
    /// How many times as many requests come a second: times are divided by it.
    pub rate: f64,
    /// Most requests.
    pub limit: Option<u64>,
}

impl Default for Transform {
    fn default() -> Self {
        Transform { skip: 0, from: Nanos::ZERO, until: Nanos::MAX, split: None, longest: None, rate: 1.0, limit: None }
    }
}

/// Every so-manieth request, samples of one prompt together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Replicas.
    pub replicas: u32,
    /// Which of them, from 0.
    pub index: u32,
}

/// The most tokens of prompt and output together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Longest {
    /// That many: the engine's `max_model_len`.
    pub tokens: u32,
    /// What becomes of a longer request.
    pub overlong: Overlong,
}

/// What becomes of a request that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlong {
    /// It is left out.
    Drop,
    /// Its prompt keeps its first tokens and leaves room for one more; its output is cut to the room there is.
    Clip,
}

/// A changed source.
pub struct Shaped {
    source: AnySource,
    change: Transform,
    /// Whether requests are taken ahead: where what comes does not depend on what ends.
    ahead: bool,
    next: Option<Arrival>,
    ended: bool,
    /// Requests, and prompts, that the source gave.
    given: u64,
    prompts: u64,
    sent: u64,
    /// Whether the newest prompt is in the share, and the first request that was sent of it.
    wanted: bool,
    first: Option<u64>,
    /// No request is sent before this time.
    now: Nanos,
    dropped: u64,
    clipped: u64,
}

impl Shaped {
    /// Changes a source.
    ///
    /// # Errors
    /// [`Error::Load`] when the changes make no sense, or not for a source that waits for answers: of such a one nothing
    /// can be left out at the start or in between.
    pub fn new(source: AnySource, change: Transform) -> Result<Self, Error> {
        let odd = |why: String| Err(Error::Load(why));
        if !(1e-9..=1e9).contains(&change.rate) {
            return odd(format!("a rate cannot be multiplied by {}", change.rate));
        }
        if let Some(Split { replicas, index }) = change.split.filter(|split| split.index >= split.replicas) {
            return odd(format!("there is no replica {index} of {replicas}, counted from 0"));
        }
        if change.longest.is_some_and(|longest| longest.tokens < 2) {
            return odd("a request has at least 2 tokens: one of prompt, one of output".to_owned());
        }
        if change.limit == Some(0) {
            return odd("a limit of 0 leaves no request".to_owned());
        }
        let ahead = !source.reacts();
        let drops = change.longest.is_some_and(|longest| longest.overlong == Overlong::Drop);
        if !ahead && (change.skip > 0 || change.from > Nanos::ZERO || change.split.is_some() || drops) {
            let why = "clients and conversations wait for their answers: such a workload cannot be skipped, split, begun later, or have requests left out";
            return odd(why.to_owned());
        }
        let (next, ended) = (None, false);
        let (given, prompts, sent, wanted, first) = (0, 0, 0, true, None);
        let (now, dropped, clipped) = (Nanos::ZERO, 0, 0);
        Ok(Shaped { source, change, ahead, next, ended, given, prompts, sent, wanted, first, now, dropped, clipped })
    }

    /// Returns the source underneath.
    pub const fn source(&self) -> &AnySource {
        &self.source
    }

    /// Returns how many requests were left out because they were too long.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns how many requests were cut because they were too long.
    pub const fn clipped(&self) -> u64 {
        self.clipped
    }

    fn full(&self) -> bool {
        self.ended || self.change.limit.is_some_and(|limit| self.sent >= limit)
    }

    /// Returns when a request of the source's time is sent.
    #[expect(clippy::float_cmp, reason = "1 is what stands for no change, so that times stay exact")]
    fn outer(&self, at: Nanos) -> Nanos {
        let at = at - self.change.from;
        let at = if self.change.rate == 1.0 {
            at
        } else {
            Nanos::new(libm::round(at.get() as f64 / self.change.rate) as u64)
        };
        at.max(self.now)
    }

    /// Returns the source's time for a time outside.
    #[expect(clippy::float_cmp, reason = "as above")]
    fn inner(&self, at: Nanos) -> Nanos {
        if self.change.rate == 1.0 { at } else { Nanos::new(libm::ceil(at.get() as f64 * self.change.rate) as u64) }
    }

    /// Takes requests from the source until one is to be sent.
    fn fill(&mut self) -> Result<(), Error> {
        while self.next.is_none() && !self.full() {
            let Some(at) = self.source.peek()?.filter(|at| *at < self.change.until) else {
                self.ended = true;
                return Ok(());
            };
            let Some(arrival) = self.source.take()? else { continue };
            let number = self.given;
            self.given += 1;
            if arrival.sample_of.is_none() {
                let in_share = |split: Split| self.prompts % u64::from(split.replicas) == u64::from(split.index);
                self.wanted = self.change.split.is_none_or(in_share);
                self.first = None;
                self.prompts += 1;
            }
            if self.wanted && number >= self.change.skip && at >= self.change.from {
                self.next = self.shape(arrival);
            }
        }
        Ok(())
    }

    /// Changes a request; `None` when it is too long.
    fn shape(&mut self, mut arrival: Arrival) -> Option<Arrival> {
        arrival.at = self.outer(arrival.at);
        if let Some(Longest { tokens, overlong }) = self.change.longest {
            let all = arrival.prompt.len().saturating_add(arrival.output_tokens);
            match overlong {
                Overlong::Drop if all > tokens => {
                    self.dropped += 1;
                    return None;
                }
                Overlong::Drop => {}
                Overlong::Clip => {
                    self.clipped += u64::from(all > tokens);
                    arrival.prompt.truncate(tokens - 1);
                    arrival.output_tokens = arrival.output_tokens.min(tokens - arrival.prompt.len());
                }
            }
            arrival.max_tokens = arrival.max_tokens.min(tokens - arrival.prompt.len());
        }
        // The others of a prompt are samples of the first that is left.
        arrival.sample_of = self.first;
        self.first.get_or_insert(self.sent);
        Some(arrival)
    }
}

impl Source for Shaped {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        if self.ahead {
            self.fill()?;
            return Ok(self.next.as_ref().map(|arrival| arrival.at));
        }
        if self.full() {
            return Ok(None);
        }
        let at = self.source.peek()?.filter(|at| *at < self.change.until);
        Ok(at.map(|at| self.outer(at)))
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        if self.peek()?.is_none() {
            return Ok(None);
        }
        if !self.ahead {
            let arrival = self.source.take()?;
            if arrival.as_ref().is_some_and(|arrival| arrival.sample_of.is_none()) {
                self.first = None;
            }
            self.next = arrival.and_then(|arrival| self.shape(arrival));
        }
        let arrival = self.next.take();
        self.sent += u64::from(arrival.is_some());
        self.now = arrival.as_ref().map_or(self.now, |arrival| arrival.at);
        Ok(arrival)
    }

    fn finished(&mut self, mark: u64, now: Nanos) {
        self.now = self.now.max(now);
        self.source.finished(mark, self.inner(now));
    }

    fn total(&self) -> Option<u64> {
        let some =
            self.change == Transform { limit: self.change.limit, rate: self.change.rate, ..Transform::default() };
        match (self.source.total().filter(|_| some), self.change.limit) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, None) => total,
            // Without the source's own number the limit is a bound, which serves for progress.
            (None, limit) => limit,
        }
    }
}

#[cfg(test)]
#[path = "transform_tests.rs"]
mod tests;
