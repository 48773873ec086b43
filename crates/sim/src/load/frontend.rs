//! What lies between a request and the engine's scheduler? The server that takes it in, turns its text into tokens and passes
//! it on: each request reaches the scheduler so much later than it arrived, and waits all the while.

use std::collections::BTreeMap;

use plimsoll_units::Nanos;

use super::Source;
use crate::{Arrival, Error};

/// How long a request is under way from its client to the scheduler and back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delay {
    /// Seconds of every request.
    pub request: f64,
    /// Seconds more per token of its prompt.
    pub token: f64,
}

impl Delay {
    fn of(self, tokens: u32) -> Nanos {
        Nanos::seconds((self.request + self.token * f64::from(tokens)).max(0.0)).unwrap_or(Nanos::ZERO)
    }
}

/// A source whose requests reach the scheduler later than they arrive. Each keeps its time of arrival: what it waits here
/// counts as waiting.
pub struct Frontend<'s, S> {
    source: &'s mut S,
    delay: Delay,
    /// On their way, by when they reach the scheduler and in order of arrival.
    under_way: BTreeMap<(Nanos, u64), Arrival>,
    taken: u64,
}

impl<'s, S: Source> Frontend<'s, S> {
    /// Puts a server in front.
    pub fn new(source: &'s mut S, delay: Delay) -> Self {
        Frontend { source, delay, under_way: BTreeMap::new(), taken: 0 }
    }

    /// Takes in whatever may overtake what is under way.
    fn fill(&mut self) -> Result<(), Error> {
        let least = self.delay.of(0);
        while let Some(at) = self.source.peek()? {
            if self.under_way.first_key_value().is_some_and(|((ready, _), _)| *ready <= at + least) {
                break;
            }
            let Some(arrival) = self.source.take()? else { break };
            let ready = arrival.at + self.delay.of(arrival.prompt.len());
            self.under_way.insert((ready, self.taken), arrival);
            self.taken += 1;
        }
        Ok(())
    }
}

impl<S: Source> Source for Frontend<'_, S> {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        self.fill()?;
        Ok(self.under_way.first_key_value().map(|((ready, _), _)| *ready))
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        self.fill()?;
        Ok(self.under_way.pop_first().map(|(_, arrival)| arrival))
    }

    fn finished(&mut self, mark: u64, now: Nanos) {
        self.source.finished(mark, now);
    }

    fn total(&self) -> Option<u64> {
        self.source.total()
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_kv::Content;

    use super::*;
    use crate::load::List;

    fn arrival(at: u64, tokens: u32) -> Arrival {
        let mut prompt = Content::new();
        prompt.push(at, 0, tokens);
        Arrival {
            at: Nanos::new(at),
            prompt,
            output_tokens: 1,
            max_tokens: 1,
            output_stream: at,
            priority: 0,
            sample_of: None,
            mark: at,
        }
    }

    #[test]
    fn short_prompts_overtake_long_ones_and_keep_their_arrival() {
        let mut list = List::new(vec![arrival(0, 1000), arrival(10, 10), arrival(5000, 10)]);
        let mut frontend = Frontend::new(&mut list, Delay { request: 100e-9, token: 1e-9 });
        let mut seen = Vec::new();
        while let Some(ready) = frontend.peek().unwrap() {
            seen.push((ready.get(), frontend.take().unwrap().unwrap().at.get()));
        }
        assert_eq!(seen, [(120, 10), (1100, 0), (5110, 5000)]);
    }
}
