//! Who sends what, and when? Requests drawn from a workload: open arrivals, clients that wait, conversations that go on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use plimsoll_kv::Content;
use plimsoll_units::Nanos;

use super::length::{Column, Rows, Sampler, Tables, table};
use super::random::{Stream, Weighted};
use super::workload::{Arrivals, Lengths, MaxTokens, Prefix, REQUESTS, Think, Workload};
use super::{Kind, Source, number::MOST_TOKENS, stream};
use crate::{Arrival, Error};

/// How long a client that does not think waits after a request was refused: an error answer takes its time, and a client
/// whose every request is refused must not send endlessly many at once.
const REFUSAL: Nanos = Nanos::new(1_000_000);

/// A synthetic workload on its way. Memory grows with the clients and open conversations only.
#[derive(Clone, Debug)]
pub struct Synthetic {
    texts: Texts,
    clock: Clock,
    think: Pause,
    turns: Option<(Sampler, Stream, Pause)>,
    samples: u32,
    max_tokens: MaxTokens,
    priority: Option<(Weighted, Vec<i32>, Stream)>,
    /// No request at or after this.
    until: Nanos,
    total: Option<u64>,
    left: u64,
    /// When the next request or conversation without a history starts.
    start: Option<Nanos>,
    /// When which session sends its next request.
    due: BinaryHeap<Reverse<(Nanos, u64, u32)>>,
    dues: u64,
    sessions: Vec<Session>,
    free: Vec<u32>,
    /// The request whose further samples are to be sent, and how many.
    group: Option<(Arrival, u32)>,
    /// Requests sent: the next one's number.
    sent: u64,
    /// Whether a request was taken and nothing was asked for since: a request that ends now was refused.
    taken: bool,
}

/// Somebody who waits for answers: a conversation, a client, or both.
#[derive(Clone, Debug, Default)]
struct Session {
    history: Content,
    /// Whether it begins again after its last turn.
    client: bool,
    turns_left: u32,
    /// Requests without an answer yet.
    open: u32,
    refused: bool,
}

impl Synthetic {
    pub(super) fn new(workload: &Workload, seed: u64, tables: &Tables) -> Result<Self, Error> {
        let texts = Texts::new(workload, seed, tables)?;
        let batch = matches!(workload.arrivals, Arrivals::Batch);
        let default = match &texts.lengths {
            Pairs::Replay(rows, _) => Some(rows.len() as u64),
            Pairs::Drawn(..) | Pairs::Rows(..) => (workload.duration.is_none() || batch).then_some(REQUESTS),
        };
        let total = workload.requests.or(default);
        let (clients, think) = match &workload.arrivals {
            // More clients than requests never send any.
            Arrivals::Clients(count, think) => (u64::from(*count).min(total.unwrap_or(u64::MAX)) as u32, *think),
            Arrivals::Poisson(_)
            | Arrivals::Gamma(..)
            | Arrivals::Uniform(_)
            | Arrivals::Batch
            | Arrivals::Ramp(..) => (0, None),
        };
        let turns = match &workload.turns {
            None => None,
            Some(turns) => {
                let pause = Pause { think: turns.think, stream: Stream::new(seed, "turn thinking") };
                Some((turns.count.sampler(Column::Prompt, tables)?, Stream::new(seed, "turns"), pause))
            }
        };
        let weights = workload.priority.iter().map(|(_, weight)| *weight);
        let mut source = Synthetic {
            texts,
            clock: Clock::new(&workload.arrivals, seed),
            think: Pause { think, stream: Stream::new(seed, "client thinking") },
            turns,
            samples: workload.samples.unwrap_or(1).max(1),
            max_tokens: workload.max_tokens.unwrap_or_default(),
            priority: Weighted::new(weights).map(|weighted| {
                (weighted, workload.priority.iter().map(|(value, _)| *value).collect(), Stream::new(seed, "priorities"))
            }),
            until: workload.duration.unwrap_or(Nanos::MAX),
            total: total.filter(|_| workload.duration.is_none()),
            left: total.unwrap_or(u64::MAX),
            start: None,
            due: BinaryHeap::with_capacity(clients as usize),
            dues: 0,
            sessions: Vec::with_capacity(clients as usize),
            free: Vec::new(),
            group: None,
            sent: 0,
            taken: false,
        };
        for client in 0..clients {
            let turns_left = source.draw_turns();
            source.sessions.push(Session { client: true, turns_left, ..Session::default() });
            source.send_at(Nanos::ZERO, client);
        }
        source.start = source.clock.next();
        Ok(source)
    }

    /// Whether what comes depends on when requests end.
    pub fn reacts(&self) -> bool {
        self.turns.is_some() || matches!(self.clock.tick, Tick::Batch(false))
    }

    fn draw_turns(&mut self) -> u32 {
        self.turns.as_mut().map_or(1, |(sampler, stream, _)| sampler.draw(stream))
    }

    fn send_at(&mut self, at: Nanos, session: u32) {
        self.due.push(Reverse((at, self.dues, session)));
        self.dues += 1;
    }

    /// Returns when the next request is sent, ends aside.
    fn next(&self) -> Option<Nanos> {
        if let Some((arrival, _)) = &self.group {
            return Some(arrival.at);
        }
        let due = self.due.peek().map(|Reverse((at, _, _))| *at);
        due.into_iter().chain(self.start).min()
    }

    fn next_within(&self) -> Option<Nanos> {
        self.next().filter(|at| self.left > 0 && *at < self.until)
    }

    /// Returns who sends next and the prompt: answers that are due before new arrivals of the same time.
    fn prompt(&mut self, at: Nanos) -> (Option<u32>, Content, u32) {
        let (text, output) = self.texts.lengths();
        if let Some(&Reverse((due, _, session))) = self.due.peek().filter(|Reverse((due, _, _))| *due <= at) {
            debug_assert_eq!(due, at);
            self.due.pop();
            let state = &mut self.sessions[session as usize];
            let mut prompt = std::mem::take(&mut state.history);
            if prompt.is_empty() {
                prompt = self.texts.beginning();
            }
            state.turns_left -= 1;
            self.texts.append(&mut prompt, text, self.sent);
            return (Some(session), prompt, output);
        }
        self.start = self.clock.next();
        let mut prompt = self.texts.beginning();
        self.texts.append(&mut prompt, text, self.sent);
        if self.turns.is_none() {
            return (None, prompt, output);
        }
        let turns_left = self.draw_turns() - 1;
        let state = Session { turns_left, ..Session::default() };
        let session = match self.free.pop() {
            Some(session) => {
                self.sessions[session as usize] = state;
                session
            }
            None => {
                self.sessions.push(state);
                // Sessions are numbered with 32 bits; as many at once would need hundreds of gigabytes.
                (self.sessions.len() - 1) as u32
            }
        };
        (Some(session), prompt, output)
    }

    fn first_sample(&mut self, at: Nanos) -> Arrival {
        let (session, prompt, output) = self.prompt(at);
        let (output_tokens, max_tokens) = self.max_tokens.apply(output);
        let samples = u64::from(self.samples).min(self.left) as u32;
        let output_stream = stream(Kind::Output, self.sent);
        if let Some(session) = session {
            let state = &mut self.sessions[session as usize];
            state.open = samples;
            if state.turns_left > 0 {
                state.history.clone_from(&prompt);
                if !state.history.try_push(output_stream, 0, output_tokens) || state.history.len() > MOST_TOKENS {
                    state.turns_left = 0;
                    state.history.clear();
                }
            }
        }
        let priority = self.priority.as_mut().map_or(0, |(weights, values, words)| values[weights.at(words.unit())]);
        let arrival = Arrival {
            at,
            prompt,
            output_tokens,
            max_tokens,
            output_stream,
            priority,
            sample_of: None,
            mark: session.map_or(0, |session| u64::from(session) + 1),
        };
        if samples > 1 {
            self.group = Some((Arrival { sample_of: Some(self.sent), ..arrival.clone() }, samples - 1));
        }
        arrival
    }

    /// Takes the next sample of the prompt that was sent last.
    fn further_sample(&mut self) -> Option<Arrival> {
        let (arrival, left) = self.group.as_mut()?;
        arrival.output_stream = stream(Kind::Output, self.sent);
        *left -= 1;
        if *left > 0 {
            return Some(arrival.clone());
        }
        self.group.take().map(|(arrival, _)| arrival)
    }
}

impl Source for Synthetic {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        self.taken = false;
        Ok(self.next_within())
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        let Some(at) = self.next_within() else { return Ok(None) };
        let arrival = match self.further_sample() {
            Some(sample) => sample,
            None => self.first_sample(at),
        };
        self.left -= 1;
        self.sent += 1;
        self.taken = true;
        Ok(Some(arrival))
    }

    fn finished(&mut self, mark: u64, now: Nanos) {
        let Some(session) = mark.checked_sub(1).and_then(|session| u32::try_from(session).ok()) else { return };
        let Some(state) = self.sessions.get_mut(session as usize) else { return };
        state.refused |= self.taken;
        state.open = state.open.saturating_sub(1);
        if state.open > 0 {
            return;
        }
        let refused = std::mem::take(&mut state.refused);
        if refused {
            // A prompt that is refused is not answered: the conversation is over.
            state.turns_left = 0;
            state.history.clear();
        }
        if state.turns_left > 0 {
            let pause = self.turns.as_mut().map_or(Nanos::ZERO, |(_, _, pause)| pause.draw());
            self.send_at(now + pause, session);
        } else if state.client {
            let turns_left = self.draw_turns();
            self.sessions[session as usize].turns_left = turns_left;
            let pause = self.think.draw();
            self.send_at(now + if refused { pause.max(REFUSAL) } else { pause }, session);
        } else {
            self.free.push(session);
        }
    }

    fn total(&self) -> Option<u64> {
        self.total
    }
}

/// What the requests say: lengths, shared beginnings, own text.
#[derive(Clone, Debug)]
struct Texts {
    lengths: Pairs,
    tree: Option<Tree>,
}

#[derive(Clone, Debug)]
enum Pairs {
    Drawn(Sampler, Sampler, Box<[Stream; 2]>),
    Replay(Rows, usize),
    Rows(Rows, Box<Stream>),
}

#[derive(Clone, Debug)]
struct Tree {
    levels: Vec<(u32, u32, Option<Weighted>)>,
    stream: Stream,
}

impl Texts {
    fn new(workload: &Workload, seed: u64, tables: &Tables) -> Result<Self, Error> {
        let lengths = match &workload.lengths {
            Lengths::Drawn(prompt, output) => Pairs::Drawn(
                prompt.sampler(Column::Prompt, tables)?,
                output.sampler(Column::Output, tables)?,
                Box::new([Stream::new(seed, "prompts"), Stream::new(seed, "outputs")]),
            ),
            Lengths::Replay(name) => Pairs::Replay(table(tables, name)?, 0),
            Lengths::Rows(name) => Pairs::Rows(table(tables, name)?, Box::new(Stream::new(seed, "rows"))),
        };
        let tree = workload.prefix.as_ref().map(|Prefix { levels, zipf }| Tree {
            levels: levels
                .iter()
                .map(|&(children, tokens)| (children, tokens, zipf.and_then(|s| Weighted::zipf(children, s))))
                .collect(),
            stream: Stream::new(seed, "prefixes"),
        });
        Ok(Texts { lengths, tree })
    }

    /// Draws tokens of new text and of the output.
    fn lengths(&mut self) -> (u32, u32) {
        match &mut self.lengths {
            Pairs::Drawn(prompt, output, streams) => (prompt.draw(&mut streams[0]), output.draw(&mut streams[1])),
            Pairs::Replay(rows, next) => {
                let row = rows[*next];
                *next = (*next + 1) % rows.len();
                row
            }
            Pairs::Rows(rows, stream) => rows[stream.below(rows.len() as u64) as usize],
        }
    }

    /// Draws a path down the tree of shared prefixes.
    fn beginning(&mut self) -> Content {
        let mut content = Content::new();
        let Some(tree) = &mut self.tree else { return content };
        let mut node = 0_u64;
        for (depth, (children, tokens, weights)) in tree.levels.iter().enumerate() {
            let child = match weights {
                Some(weights) => weights.at(tree.stream.unit()) as u64,
                None => tree.stream.below(u64::from(*children)),
            };
            // At most 2^40 nodes on a level and 16 levels.
            node = node * u64::from(*children) + child;
            content.push(stream(Kind::Prefix, (depth as u64) << 40 | node), 0, *tokens);
        }
        content
    }

    /// Appends a request's own text, as much as a prompt may still take and at least one token.
    fn append(&self, prompt: &mut Content, tokens: u32, number: u64) {
        let room = MOST_TOKENS.saturating_mul(2) - prompt.len();
        prompt.push(stream(Kind::Prompt, number), 0, tokens.min(room).max(1));
    }
}

/// Draws how long somebody thinks.
#[derive(Clone, Debug)]
struct Pause {
    think: Option<Think>,
    stream: Stream,
}

impl Pause {
    fn draw(&mut self) -> Nanos {
        match self.think {
            None => Nanos::ZERO,
            Some(Think::Fixed(span)) => span,
            Some(Think::Exponential(mean)) => rounded(mean.get() as f64 * self.stream.exponential()),
        }
    }
}

/// When do requests without a history arrive?
#[derive(Clone, Debug)]
struct Clock {
    tick: Tick,
    now: Nanos,
    stream: Stream,
}

#[derive(Clone, Debug)]
enum Tick {
    /// Mean gap in nanoseconds.
    Poisson(f64),
    /// Shape of the gaps, and their scale in nanoseconds.
    Gamma(f64, f64),
    /// Gap in nanoseconds, and how many there were.
    Even(f64, u64),
    /// All at once, or none.
    Batch(bool),
    /// Rates a second, seconds of the ramp, and the requests that were to be expected so far.
    Ramp { from: f64, to: f64, over: f64, expected: f64 },
}

impl Clock {
    fn new(arrivals: &Arrivals, seed: u64) -> Self {
        let tick = match arrivals {
            Arrivals::Poisson(rate) => Tick::Poisson(1e9 / rate),
            Arrivals::Gamma(rate, cv) => Tick::Gamma(1.0 / (cv * cv), cv * cv * 1e9 / rate),
            Arrivals::Uniform(rate) => Tick::Even(1e9 / rate, 0),
            Arrivals::Batch => Tick::Batch(true),
            Arrivals::Clients(..) => Tick::Batch(false),
            Arrivals::Ramp(from, to, over) => {
                Tick::Ramp { from: *from, to: *to, over: over.as_seconds(), expected: 0.0 }
            }
        };
        Clock { tick, now: Nanos::ZERO, stream: Stream::new(seed, "arrivals") }
    }

    fn next(&mut self) -> Option<Nanos> {
        match &mut self.tick {
            Tick::Poisson(gap) => self.now += rounded(*gap * self.stream.exponential()),
            Tick::Gamma(shape, scale) => self.now += rounded(*scale * self.stream.gamma(*shape)),
            Tick::Even(gap, count) => {
                self.now = rounded(*gap * *count as f64);
                *count += 1;
            }
            Tick::Batch(all) => return all.then_some(Nanos::ZERO),
            Tick::Ramp { from, to, over, expected } => {
                *expected += self.stream.exponential();
                let seconds = ramp(*from, *to, *over, *expected)?;
                self.now = self.now.max(rounded(seconds * 1e9));
            }
        }
        Some(self.now)
    }
}

/// Returns after how many seconds a ramp's rate adds up to so many requests; `None` when it never does.
///
/// While it ramps, from·t + (to − from)·t²/(2·over) requests are to be expected by t; the root is written so that it
/// loses no digits when both rates are nearly equal.
fn ramp(from: f64, to: f64, over: f64, expected: f64) -> Option<f64> {
    let whole = over * (from + to) / 2.0;
    if expected <= whole {
        let root = libm::sqrt((from * from + 2.0 * expected * (to - from) / over).max(0.0));
        return Some((2.0 * expected / (from + root)).min(over));
    }
    (to > 0.0).then(|| over + (expected - whole) / to)
}

/// Rounds nanoseconds; what lies beyond the end of time is the end of time.
fn rounded(nanos: f64) -> Nanos {
    Nanos::new(libm::round(nanos) as u64)
}

#[cfg(test)]
#[path = "synthetic_tests.rs"]
mod tests;
