//! How do many different clients sound together? Workloads of `ServeGen` (Xiang et al., arXiv 2505.09999): of each client
//! the rate and burstiness of its arrivals, window by window, and how long its prompts and outputs are.
//!
//! Arrivals are drawn as the authors' generator does (github.com/alibaba/ServeGen, commit f891d1189eb3,
//! `servegen/construct.py`): of a window of `size` seconds at `rate` a second it draws ceil(rate · size) gaps from the
//! window's Gamma or Weibull law and stretches them so that they fill the window exactly; the last of them ends with the
//! window and therefore falls out. One uniform number chooses both the prompt's and the output's length from their
//! distributions, so long prompts have long outputs. Both are copied because they are what the data were made for.

use std::collections::BTreeMap;

use plimsoll_kv::Content;
use plimsoll_units::Nanos;

use super::super::number::{MOST_TOKENS, brief};
use super::super::random::Stream;
use super::super::{Kind, MaxTokens, Source, stream};
use crate::{Arrival, Error};

/// Most clients.
const MOST_CLIENTS: usize = 1 << 16;
/// Most windows, and most lengths of a distribution.
const MOST_ENTRIES: usize = 1 << 22;
/// Most requests of one window of all clients, which are at hand at once: 7000 a second where a window is ten minutes.
const MOST_REQUESTS: f64 = 4_194_304.0;

/// Clients by their number.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    name: String,
    clients: BTreeMap<u32, Client>,
}

#[derive(Clone, Debug, Default)]
struct Client {
    windows: Vec<Window>,
    /// Prompt and output lengths from a second on; windows without any are absent.
    lengths: Option<Vec<(u64, [Distribution; 2])>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    start: u64,
    rate: f64,
    law: Option<Law>,
}

/// How gaps are distributed; their scale does not matter, for they are stretched.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Law {
    Gamma(f64),
    Weibull(f64),
}

/// Lengths and the running sums of their probabilities.
#[derive(Clone, Debug, Default)]
struct Distribution {
    lengths: Vec<u32>,
    sums: Vec<f64>,
}

impl Distribution {
    fn at(&self, share: f64) -> u32 {
        let place = self.sums.partition_point(|sum| *sum < share);
        self.lengths.get(place).or(self.lengths.last()).copied().unwrap_or(0)
    }
}

/// How fast the clients send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many times as much as they did.
    Times(f64),
    /// So many requests a second of all of them together, in every window.
    Total(f64),
}

/// Which part of a pool is played, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The first second, which becomes the start.
    pub from: u64,
    /// The second at which it ends.
    pub until: u64,
    /// How fast.
    pub rate: Rate,
    /// What requests ask for at most.
    pub max_tokens: MaxTokens,
}

impl Default for Options {
    fn default() -> Self {
        Options { from: 0, until: u64::MAX, rate: Rate::Times(1.0), max_tokens: MaxTokens::Output }
    }
}

impl Pool {
    /// Gives it a name for messages: the file's or the folder's.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Pool { name: name.to_owned(), ..self }
    }

    /// Takes one file of a pool: `chunk-N-trace.csv` or `chunk-N-dataset.json`. Returns false, and takes nothing, for
    /// files of other names.
    ///
    /// # Errors
    /// [`Error::Load`] with file and line when it is not what its name says.
    pub fn add(&mut self, path: &str, text: &[u8]) -> Result<bool, Error> {
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let Some((number, what)) = name.strip_prefix("chunk-").and_then(|rest| rest.split_once('-')) else {
            return Ok(false);
        };
        let Ok(number) = number.parse::<u32>() else { return Ok(false) };
        if !matches!(what, "trace.csv" | "dataset.json") {
            return Ok(false);
        }
        let text = std::str::from_utf8(text).map_err(|_| Error::Load(format!("{path}: is not text")))?;
        if self.clients.len() >= MOST_CLIENTS && !self.clients.contains_key(&number) {
            return Err(Error::Load(format!("{path}: there are more than {MOST_CLIENTS} clients")));
        }
        let client = self.clients.entry(number).or_default();
        if what == "trace.csv" {
            client.windows = windows(path, text)?;
        } else {
            client.lengths = Some(datasets(path, text)?);
        }
        Ok(true)
    }

    /// Returns how many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::Load`] when a client has no windows or others than the rest, or a rate makes no sense.
    pub fn source(self, options: Options, seed: u64) -> Result<ServeGen, Error> {
        let name = if self.name.is_empty() { String::new() } else { format!("{}: ", self.name) };
        let all = self.clients.len();
        let mut report = Report::default();
        let mut clients: Vec<(u32, Client)> = self.clients.into_iter().collect();
        // The generator knows a client by its lengths; the published pools have some without.
        clients.retain(|(_, client)| client.lengths.is_some());
        report.no_dataset = all - clients.len();
        let first = clients.first().map(|(_, client)| &client.windows);
        let starts: Vec<u64> = first.into_iter().flatten().map(|window| window.start).collect();
        if starts.is_empty() {
            return Err(Error::Load(format!(
                "{name}no ServeGen client: no chunk-N with both windows (-trace.csv) and lengths (-dataset.json)"
            )));
        }
        for (number, client) in &clients {
            if !client.windows.iter().map(|window| window.start).eq(starts.iter().copied()) {
                let why = format!("{name}chunk-{number}-trace.csv: has other windows than the first client's, or none");
                return Err(Error::Load(why));
            }
        }
        let (Rate::Times(rate) | Rate::Total(rate)) = options.rate;
        if !(rate.is_finite() && rate > 0.0) || options.from >= options.until {
            return Err(Error::Load(format!(
                "{name}a rate of {} from {} s until {} s is none",
                brief(rate),
                options.from,
                options.until
            )));
        }
        let clients = clients.into_iter().map(|(number, client)| (u64::from(number), client)).collect();
        Ok(ServeGen { name, clients, starts, options, seed, window: 0, ready: Vec::new(), sent: 0, report })
    }
}

/// What was left out so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Clients that have arrivals but no file of lengths; the authors' generator does not know them either.
    pub no_dataset: usize,
    /// Requests of clients that have no lengths yet when they send.
    pub no_lengths: u64,
    /// Requests without a prompt or an output token.
    pub empty: u64,
}

/// A pool on its way, a window of all clients at a time.
#[derive(Clone, Debug)]
pub struct ServeGen {
    /// How messages begin.
    name: String,
    clients: Vec<(u64, Client)>,
    starts: Vec<u64>,
    options: Options,
    seed: u64,
    /// The next window.
    window: usize,
    /// The requests of the current one: time, prompt and output tokens, the last first.
    ready: Vec<(Nanos, u32, u32)>,
    sent: u64,
    report: Report,
}

impl ServeGen {
    /// Returns what was left out so far.
    pub const fn report(&self) -> Report {
        self.report
    }

    /// Returns when a window ends; the last is as long as the one before it.
    fn end(&self, window: usize) -> u64 {
        let length = |window: usize| self.starts[window] - self.starts[window - 1];
        match self.starts.get(window + 1) {
            Some(next) => *next,
            None if window > 0 => self.starts[window].saturating_add(length(window)),
            None => self.starts[window].saturating_add(600),
        }
    }

    fn fill(&mut self) -> Result<(), Error> {
        while self.ready.is_empty() && self.window < self.starts.len() {
            let window = self.window;
            self.window += 1;
            let start = self.starts[window].max(self.options.from);
            let end = self.end(window).min(self.options.until);
            if start >= end {
                continue;
            }
            let all: f64 = self.clients.iter().map(|(_, client)| client.windows[window].rate).sum();
            let span = (start, end);
            let count: f64 = (0..self.clients.len()).map(|index| self.count(index, window, span, all)).sum();
            if count > MOST_REQUESTS {
                let count = if count.is_finite() { brief(count) } else { "endlessly many".to_owned() };
                return Err(Error::Load(format!(
                    "{}ServeGen's clients would send {count} requests from {start} s until {end} s, more than the 2^22 that one window may have",
                    self.name
                )));
            }
            for index in 0..self.clients.len() {
                self.draw(index, window, span, all);
            }
            self.ready.sort_by_key(|(at, _, _)| std::cmp::Reverse(*at));
        }
        Ok(())
    }

    /// Returns how many gaps are drawn for one client in one window.
    fn count(&self, index: usize, window: usize, (start, end): (u64, u64), all: f64) -> f64 {
        let Window { rate, law, .. } = self.clients[index].1.windows[window];
        if law.is_none() {
            return 0.0;
        }
        let rate = match self.options.rate {
            Rate::Times(factor) => rate * factor,
            Rate::Total(_) if all <= 0.0 => 0.0,
            Rate::Total(total) => total * (rate / all),
        };
        libm::ceil(rate * (end - start) as f64)
    }

    /// Draws one client's requests of one window.
    fn draw(&mut self, index: usize, window: usize, (start, end): (u64, u64), all: f64) {
        let count = self.count(index, window, (start, end), all);
        let (number, client) = &self.clients[index];
        let Some(law) = client.windows[window].law else { return };
        let size = (end - start) as f64;
        let mut stream = Stream::numbered(self.seed, "servegen", number << 32 | window as u64);
        let mut now = 0.0;
        let mut times: Vec<f64> = (0..count as u64)
            .map(|_| {
                now += match law {
                    Law::Gamma(shape) => stream.gamma(shape),
                    Law::Weibull(shape) => stream.weibull(shape),
                };
                now
            })
            .collect();
        let stretch = if now > 0.0 { size / now } else { 0.0 };
        // The last gap ends with the window.
        times.pop();
        let lengths = client.lengths.as_deref().unwrap_or_default();
        let known = lengths.partition_point(|(from, _)| *from <= self.starts[window]);
        let Some((_, [prompts, outputs])) = known.checked_sub(1).and_then(|place| lengths.get(place)) else {
            self.report.no_lengths += times.len() as u64;
            return;
        };
        for time in times {
            let share = stream.unit();
            let (prompt, output) = (prompts.at(share), outputs.at(share));
            if prompt == 0 || output == 0 {
                self.report.empty += 1;
                continue;
            }
            let at = Nanos::new((start - self.options.from).saturating_mul(1_000_000_000));
            let at = at + Nanos::new(libm::round(time * stretch * 1e9) as u64);
            self.ready.push((at, prompt, output));
        }
    }
}

impl Source for ServeGen {
    fn peek(&mut self) -> Result<Option<Nanos>, Error> {
        self.fill()?;
        Ok(self.ready.last().map(|(at, _, _)| *at))
    }

    fn take(&mut self) -> Result<Option<Arrival>, Error> {
        self.fill()?;
        let Some((at, tokens, output)) = self.ready.pop() else { return Ok(None) };
        let (output_tokens, max_tokens) = self.options.max_tokens.apply(output);
        let mut prompt = Content::new();
        prompt.push(stream(Kind::Prompt, self.sent), 0, tokens);
        let output_stream = stream(Kind::Output, self.sent);
        self.sent += 1;
        Ok(Some(Arrival {
            at,
            prompt,
            output_tokens,
            max_tokens,
            output_stream,
            priority: 0,
            sample_of: None,
            mark: 0,
        }))
    }
}

/// Reads a client's windows: start in seconds, rate, coefficient of variation, law, and its shape and scale.
fn windows(path: &str, text: &str) -> Result<Vec<Window>, Error> {
    let mut windows: Vec<Window> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |why: &str| Error::Load(format!("{path}:{}: {why}", index + 1));
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [start, rate, cv, law, shape, scale] = fields[..] else {
            return Err(fail("not six columns: window start, rate, CV, law, shape, scale"));
        };
        // Some pools write the start as 600.0.
        let start =
            start.parse::<f64>().ok().filter(|start| (0.0..1e12).contains(start) && libm::floor(*start) >= *start);
        let start = start.ok_or_else(|| fail("the window's start is no whole number of seconds"))? as u64;
        let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
        let (Some(rate), Some(_), Some(shape), Some(_)) = (number(rate), number(cv), number(shape), number(scale))
        else {
            return Err(fail("rate, CV, shape or scale is no number from 0"));
        };
        let law = match law {
            "" => None,
            "Gamma" => Some(Law::Gamma(shape)),
            "Weibull" => Some(Law::Weibull(shape)),
            _ => return Err(fail("the law is neither Gamma nor Weibull nor absent")),
        };
        if law.is_some() && shape <= 0.0 {
            return Err(fail("the law's shape is not above 0"));
        }
        if windows.last().is_some_and(|last| last.start >= start) {
            return Err(fail("time goes backwards"));
        }
        if windows.len() >= MOST_ENTRIES {
            return Err(fail("too many windows"));
        }
        windows.push(Window { start, rate: if law.is_some() { rate } else { 0.0 }, law });
    }
    Ok(windows)
}

/// Reads a client's lengths: by second, a dictionary of tokens and probabilities as Python prints it.
fn datasets(path: &str, text: &str) -> Result<Vec<(u64, [Distribution; 2])>, Error> {
    let fail = |why: String| Error::Load(format!("{path}: {why}"));
    let sets: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_str(text).map_err(|error| fail(error.to_string()))?;
    let mut found = Vec::with_capacity(sets.len());
    for (start, fields) in sets {
        let second = start.parse::<u64>().map_err(|_| fail(format!("{start:?} is no second")))?;
        if let Some(field) =
            fields.keys().find(|field| field.contains("image") || field.contains("audio") || field.contains("video"))
        {
            return Err(fail(format!("has {field}: only the language and reasoning pools are supported")));
        }
        let field = |name: &str| {
            let text = fields.get(name).ok_or_else(|| fail(format!("{start:?} has no {name}")))?;
            distribution(text).map_err(|why| fail(format!("{name} from second {second} on: {why}")))
        };
        let lengths = [field("input_tokens")?, field("output_tokens")?];
        // As the generator does: a window without either says nothing, and the one before it goes on.
        if lengths.iter().all(|distribution| !distribution.lengths.is_empty()) {
            found.push((second, lengths));
        }
    }
    found.sort_by_key(|(second, _)| *second);
    Ok(found)
}

/// Reads `{9: 0.25, 163: 0.75}`.
fn distribution(text: &str) -> Result<Distribution, String> {
    let inner = text
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or("is no dictionary {tokens: share}")?;
    let mut entries = Vec::new();
    for entry in inner.split(',').filter(|entry| !entry.trim().is_empty()) {
        let (tokens, share) = entry.split_once(':').ok_or_else(|| format!("{entry:?} is no entry tokens: share"))?;
        let tokens = tokens.trim().parse::<u32>().ok().filter(|tokens| *tokens <= MOST_TOKENS);
        let share = share.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        let (Some(tokens), Some(share)) = (tokens, share) else {
            return Err(format!("{entry:?} is no entry tokens: share"));
        };
        entries.push((tokens, share));
        if entries.len() > MOST_ENTRIES {
            return Err("has too many entries".to_owned());
        }
    }
    entries.sort_by_key(|(tokens, _)| *tokens);
    let mut sum = 0.0;
    let mut distribution = Distribution::default();
    for (tokens, share) in entries {
        sum += share;
        distribution.lengths.push(tokens);
        distribution.sums.push(sum);
    }
    if !distribution.lengths.is_empty() && (sum - 1.0).abs() > 1e-6 {
        return Err(format!("shares add up to {sum}, not to 1"));
    }
    Ok(distribution)
}

#[cfg(test)]
#[path = "servegen_tests.rs"]
mod tests;
