//! What do these words ask for? The grammar of workloads, read from left to right, with the place in every complaint.

use std::num::NonZeroU32;

use plimsoll_units::Nanos;

use super::length::{Center, Length, QUANTILES, Shape, Spread, lognormal};
use super::number::{self, MOST_TOKENS};
use super::workload::{Arrivals, Lengths, MaxTokens, Prefix, Think, Turns, UNITS, Workload};
use crate::Error;

/// The words that a clause can begin with.
const CLAUSES: [&str; 18] = [
    "poisson",
    "gamma",
    "uniform",
    "batch",
    "all",
    "clients",
    "ramp",
    "prompt",
    "output",
    "replay",
    "lengths",
    "prefix",
    "turns",
    "samples",
    "max_tokens",
    "priority",
    "requests",
    "seed",
];

/// The words that a length can begin with.
const SHAPES: [&str; 6] = ["uniform", "lognormal", "normal", "exponential", "zipf", "empirical"];

/// Most nodes on one level of a tree of shared prefixes.
const MOST_NODES: u64 = 1 << 40;
/// Most levels of such a tree.
const MOST_LEVELS: usize = 16;
/// Most choices that are weighed by rank.
const MOST_RANKS: u32 = 1 << 20;
/// Most clients, and samples of one prompt.
const MOST_CLIENTS: u32 = 1 << 24;
/// Most priorities in a mix.
const MOST_PRIORITIES: usize = 64;

/// Reads a workload.
pub(super) fn workload(text: &str) -> Result<Workload, Error> {
    let mut cursor = Cursor { text, at: 0 };
    let mut said = Said::default();
    loop {
        said.clause(&mut cursor)?;
        if cursor.symbol(",") {
            continue;
        }
        if cursor.ended() {
            break;
        }
        return Err(cursor.expected("a comma or the end", &[]));
    }
    said.whole(&cursor)
}

/// What was said so far.
#[derive(Default)]
struct Said {
    arrivals: Option<Arrivals>,
    prompt: Option<Length>,
    output: Option<Length>,
    table: Option<Lengths>,
    prefix: Option<Prefix>,
    turns: Option<Turns>,
    samples: Option<u32>,
    max_tokens: Option<MaxTokens>,
    priority: Option<Vec<(i32, f64)>>,
    requests: Option<u64>,
    duration: Option<Nanos>,
    seed: Option<u64>,
}

impl Said {
    fn clause(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Error> {
        let begin = cursor.clone();
        let word = cursor.word();
        let once = match word {
            "poisson" => put(&mut self.arrivals, Arrivals::Poisson(cursor.rate(false)?)),
            "gamma" => {
                let rate = cursor.rate(false)?;
                cursor.keyword("cv")?;
                put(&mut self.arrivals, Arrivals::Gamma(rate, cursor.positive("a coefficient of variation above 0")?))
            }
            "uniform" => put(&mut self.arrivals, Arrivals::Uniform(cursor.rate(false)?)),
            "batch" => put(&mut self.arrivals, Arrivals::Batch),
            "all" => {
                cursor.keyword("at")?;
                cursor.keyword("once")?;
                put(&mut self.arrivals, Arrivals::Batch)
            }
            "clients" => {
                let count = cursor.count("a number of clients", 1, MOST_CLIENTS)?;
                put(&mut self.arrivals, Arrivals::Clients(count, cursor.think()?))
            }
            "ramp" => put(&mut self.arrivals, cursor.ramp()?),
            "prompt" => put(&mut self.prompt, cursor.length()?),
            "output" => put(&mut self.output, cursor.length()?),
            "replay" => put(&mut self.table, Lengths::Replay(cursor.path()?)),
            "lengths" => put(&mut self.table, Lengths::Rows(cursor.path()?)),
            "prefix" => put(&mut self.prefix, cursor.prefix()?),
            "turns" => {
                let count = cursor.length()?;
                put(&mut self.turns, Turns { count, think: cursor.think()? })
            }
            "samples" => put(&mut self.samples, cursor.count("a number of samples", 1, MOST_CLIENTS)?),
            "max_tokens" => put(&mut self.max_tokens, cursor.max_tokens()?),
            "priority" => put(&mut self.priority, cursor.priority()?),
            "requests" => put(&mut self.requests, cursor.whole("a number of requests", 1)?),
            "for" => put(&mut self.duration, cursor.span()?),
            "seed" => put(&mut self.seed, cursor.whole("a seed", 0)?),
            _ => return Err(begin.expected("an arrival process, lengths or a setting", &CLAUSES)),
        };
        if once { Ok(()) } else { Err(begin.fail(&format!("says a second time what {word:?} says"))) }
    }

    fn whole(self, cursor: &Cursor<'_>) -> Result<Workload, Error> {
        let missing = |what: &str| cursor.fail(&format!("says nothing of {what}"));
        let arrivals = self.arrivals.ok_or_else(|| {
            missing(
                "when requests arrive: poisson, gamma, uniform, ramp (each with a rate such as 4/s), batch, clients N",
            )
        })?;
        let lengths = match (self.table, self.prompt, self.output) {
            (Some(table), None, None) => table,
            (Some(_), _, _) => return Err(cursor.fail(
                "says lengths both by a file and by `prompt` or `output`: leave `prompt` and `output` out, or the file",
            )),
            (None, Some(prompt), Some(output)) => Lengths::Drawn(prompt, output),
            (None, None, _) => return Err(missing("how long prompts are: `prompt 900`, or `replay FILE`")),
            (None, _, None) => return Err(missing("how long outputs are: `output 200`, or `replay FILE`")),
        };
        if matches!(arrivals, Arrivals::Batch) && self.turns.is_some() {
            return Err(cursor.fail("says `batch` with `turns`; conversations at once are `clients N, turns …`"));
        }
        Ok(Workload {
            arrivals,
            lengths,
            prefix: self.prefix,
            turns: self.turns,
            samples: self.samples,
            max_tokens: self.max_tokens,
            priority: self.priority.unwrap_or_default(),
            requests: self.requests,
            duration: self.duration,
            seed: self.seed,
        })
    }
}

/// Fills a place; false when it was full.
fn put<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

/// A place in the text.
#[derive(Clone)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn ended(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        self.at += if found { symbol.len() } else { 0 };
        found
    }

    /// Takes a word: a letter, then letters, digits and underscores. Empty when there is none.
    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let mut end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if !rest.starts_with(char::is_alphabetic) {
            end = 0;
        } else if rest.starts_with('x') && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) {
            end = 1;
        }
        self.at += end;
        &rest[..end]
    }

    /// Takes a word if it is this one.
    fn optional(&mut self, word: &str) -> bool {
        let mut ahead = self.clone();
        let found = ahead.word() == word;
        if found {
            *self = ahead;
        }
        found
    }

    fn keyword(&mut self, word: &'static str) -> Result<(), Error> {
        if self.optional(word) { Ok(()) } else { Err(self.expected(&format!("{word:?}"), &[word])) }
    }

    /// Takes the text of a number: digits, underscores between them, decimals, an exponent.
    fn digits(&mut self) -> Option<String> {
        let rest = self.rest().as_bytes();
        let run = |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count();
        let digit = |at: usize| rest.get(at).is_some_and(u8::is_ascii_digit);
        if !(digit(0) || rest.first() == Some(&b'.') && digit(1)) {
            return None;
        }
        let mut end = run(0);
        if rest.get(end) == Some(&b'.') && digit(end + 1) {
            end += 1 + run(end + 1);
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            if digit(end + 1 + sign) {
                end += 1 + sign + run(end + 1 + sign);
            }
        }
        let found = self.text[self.at..self.at + end].replace('_', "");
        self.at += end;
        Some(found)
    }

    fn number(&mut self, what: &str, low: f64, high: f64) -> Result<f64, Error> {
        let begin = self.clone();
        let value = self.digits().and_then(|digits| digits.parse::<f64>().ok());
        value.filter(|value| (low..=high).contains(value)).ok_or_else(|| begin.expected(what, &[]))
    }

    /// Takes a number above 0 that is neither endless nor so small that its inverse would be.
    fn positive(&mut self, what: &str) -> Result<f64, Error> {
        self.number(what, 1e-12, 1e15)
    }

    fn whole(&mut self, what: &str, low: u64) -> Result<u64, Error> {
        let begin = self.clone();
        let value = self.digits().and_then(|digits| digits.parse::<u64>().ok());
        value.filter(|value| *value >= low).ok_or_else(|| begin.expected(what, &[]))
    }

    fn count(&mut self, what: &str, low: u32, high: u32) -> Result<u32, Error> {
        let begin = self.clone();
        let value = self.whole(what, u64::from(low)).ok().filter(|value| *value <= u64::from(high));
        let what = format!("{what} from {low} to {high}");
        value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| begin.expected(&what, &[]))
    }

    fn tokens(&mut self, low: u32) -> Result<u32, Error> {
        let tokens = self.count("tokens", low, MOST_TOKENS)?;
        self.optional("tokens");
        Ok(tokens)
    }

    /// Takes a rate, such as `4/s`, `240/min`.
    fn rate(&mut self, zero: bool) -> Result<f64, Error> {
        let what =
            if zero { "a rate from 0, such as 4/s or 240/min" } else { "a rate above 0, such as 4/s or 240/min" };
        let begin = self.clone();
        let value = self.number(what, if zero { 0.0 } else { 1e-12 }, 1e12)?;
        if !self.symbol("/") {
            return Err(self.expected("a rate's `/s`", &[]));
        }
        let unit = self.unit(what)?;
        // Seconds are left as they were said, so that they print as they were said.
        let rate = if unit == 1_000_000_000 { value } else { value / (unit as f64 / 1e9) };
        if rate > 0.0 && !(1e-12..=1e12).contains(&rate) {
            return Err(begin.expected(what, &[]));
        }
        Ok(rate)
    }

    fn unit(&mut self, what: &str) -> Result<u64, Error> {
        let begin = self.clone();
        let word = self.word();
        let known = UNITS.iter().find(|(name, _)| *name == word);
        known.map(|(_, unit)| *unit).ok_or_else(|| begin.expected(what, &["ns", "us", "ms", "s", "min", "h", "d"]))
    }

    /// Takes a length of time, such as `10s`.
    fn span(&mut self) -> Result<Nanos, Error> {
        const WHAT: &str = "a time such as 500ms, 10s or 2h";
        let begin = self.clone();
        let digits = self.digits().ok_or_else(|| begin.expected(WHAT, &[]))?;
        let unit = self.unit(WHAT)?;
        number::nanos(&digits, unit).map_err(|_| begin.expected(WHAT, &[]))
    }

    fn think(&mut self) -> Result<Option<Think>, Error> {
        if !self.optional("think") {
            return Ok(None);
        }
        Ok(Some(if self.optional("exponential") {
            Think::Exponential(self.span()?)
        } else {
            Think::Fixed(self.span()?)
        }))
    }

    fn ramp(&mut self) -> Result<Arrivals, Error> {
        let begin = self.clone();
        let from = self.rate(true)?;
        self.keyword("to")?;
        let to = self.rate(true)?;
        self.keyword("over")?;
        let over = self.span()?;
        if from + to <= 0.0 || over == Nanos::ZERO {
            return Err(begin.fail("ramps between no requests at all, or in no time"));
        }
        Ok(Arrivals::Ramp(from, to, over))
    }

    fn range(&mut self) -> Result<(u32, u32), Error> {
        let begin = self.clone();
        let low = self.count("tokens", 1, MOST_TOKENS)?;
        if !self.symbol("..") {
            return Err(self.expected("a range such as 100..900", &[]));
        }
        let high = self.tokens(1)?;
        if low <= high {
            Ok((low, high))
        } else {
            Err(begin.fail(&format!("is a range that ends before it begins, {low}..{high}")))
        }
    }

    fn length(&mut self) -> Result<Length, Error> {
        let begin = self.clone();
        let shape = match self.word() {
            "" => {
                let what = format!("a length: a whole number from 1 to {MOST_TOKENS}, or a distribution");
                Shape::Fixed(self.tokens(1).map_err(|_| begin.expected(&what, &SHAPES))?)
            }
            "uniform" => {
                let (low, high) = self.range()?;
                Shape::Uniform(low, high)
            }
            "lognormal" => self.lognormal()?,
            "normal" => {
                let mean = self.positive("a mean")?;
                self.keyword("sd")?;
                Shape::Normal(mean, self.number("a standard deviation", 0.0, 1e15)?)
            }
            "exponential" => Shape::Exponential(self.positive("a mean")?),
            "zipf" => {
                let place = self.clone();
                let (low, high) = self.range()?;
                if high - low >= MOST_RANKS {
                    return Err(place.fail(&format!("weighs more than {MOST_RANKS} lengths by rank")));
                }
                self.keyword("s")?;
                Shape::Zipf(low, high, self.number("an exponent from 0 to 100", 0.0, 100.0)?)
            }
            "empirical" => Shape::Empirical(self.path()?),
            _ => return Err(begin.expected("a length", &SHAPES)),
        };
        self.optional("tokens");
        let min = if self.optional("min") { Some(self.tokens(1)?) } else { None };
        let max = if self.optional("max") { Some(self.tokens(min.unwrap_or(1))?) } else { None };
        Ok(Length { shape, min, max })
    }

    fn lognormal(&mut self) -> Result<Shape, Error> {
        let begin = self.clone();
        let center = if self.optional("mean") {
            Center::Mean(self.positive("a mean")?)
        } else {
            self.optional("median");
            Center::Median(self.positive("a median")?)
        };
        let place = self.clone();
        let word = self.word();
        let spread = match QUANTILES.iter().find(|(name, _)| *name == word) {
            Some((_, mille)) => Spread::Quantile(*mille, self.positive("a length")?),
            None if word == "sigma" => {
                Spread::Sigma(self.number("a standard deviation of the logarithm, to 20", 0.0, 20.0)?)
            }
            None => return Err(place.expected("how far it spreads", &["p90", "p95", "p99", "p999", "sigma"])),
        };
        lognormal(center, spread).map_err(|why| begin.fail(&format!("says the impossible: {why}")))?;
        Ok(Shape::Lognormal(center, spread))
    }

    fn prefix(&mut self) -> Result<Prefix, Error> {
        let begin = self.clone();
        let mut levels = Vec::new();
        let (mut nodes, mut depth) = (1_u64, 0_u64);
        loop {
            let children = self.count("a number of prefixes", 1, u32::MAX)?;
            if !self.symbol("x") && !self.symbol("×") {
                return Err(self.expected("a tree of prefixes such as 8 x 1000 or 4x500/8x200", &[]));
            }
            levels.push((children, self.tokens(1)?));
            nodes = nodes.saturating_mul(u64::from(children));
            depth += levels.last().map_or(0, |level| u64::from(level.1));
            if !self.symbol("/") {
                break;
            }
        }
        if nodes > MOST_NODES || levels.len() > MOST_LEVELS || depth > u64::from(MOST_TOKENS) {
            let why = format!("is a tree of more than {MOST_LEVELS} levels, 2^40 leaves or {MOST_TOKENS} tokens");
            return Err(begin.fail(&why));
        }
        let zipf =
            if self.optional("zipf") { Some(self.number("an exponent from 0 to 100", 0.0, 100.0)?) } else { None };
        if zipf.is_some() && levels.iter().any(|level| level.0 > MOST_RANKS) {
            return Err(begin.fail(&format!("weighs more than {MOST_RANKS} prefixes by rank")));
        }
        Ok(Prefix { levels, zipf })
    }

    fn max_tokens(&mut self) -> Result<MaxTokens, Error> {
        self.symbol("=");
        if self.optional("output") {
            return Ok(MaxTokens::Output);
        }
        let begin = self.clone();
        let tokens = self.tokens(1).ok().and_then(NonZeroU32::new);
        tokens.map(MaxTokens::Tokens).ok_or_else(|| begin.expected("tokens, or `= output`", &["output"]))
    }

    fn priority(&mut self) -> Result<Vec<(i32, f64)>, Error> {
        let begin = self.clone();
        let mut mix = Vec::new();
        while mix.is_empty() || !matches!(self.rest().as_bytes().first(), None | Some(b',')) {
            let place = self.clone();
            let sign = if self.symbol("-") { -1 } else { 1 };
            let size = self.digits().and_then(|digits| digits.parse::<i32>().ok());
            let size = size.ok_or_else(|| place.expected("priorities such as 0:9 1:1", &[]))?;
            let weight = if self.symbol(":") { self.positive("a weight above 0")? } else { 1.0 };
            mix.push((sign * size, weight));
            if mix.len() > MOST_PRIORITIES {
                return Err(begin.fail(&format!("mixes more than {MOST_PRIORITIES} priorities")));
            }
        }
        Ok(mix)
    }

    /// Takes a file's name: in quotes, or up to a blank or comma.
    fn path(&mut self) -> Result<String, Error> {
        let begin = self.clone();
        let rest = self.rest();
        let (name, length) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').ok_or_else(|| begin.fail("opens a quote and does not close it"))?;
                (&quoted[..end], end + 2)
            }
            None => {
                let end = rest.find(|c: char| c == ',' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        self.at += length;
        if name.is_empty() { Err(begin.expected("a file's name", &[])) } else { Ok(name.to_owned()) }
    }

    /// Says what was expected here, and which known word is the nearest.
    fn expected(&self, what: &str, known: &[&str]) -> Error {
        let mut here = self.clone();
        let near = nearest(here.word(), known);
        let mut message = format!("expected {what}");
        if known.len() > 1 {
            message += &format!(" ({})", known.join(", "));
        }
        if let Some(near) = near {
            message += &format!("; did you mean {near:?}?");
        }
        self.complain(&message)
    }

    /// Says what is wrong from here on.
    fn fail(&self, why: &str) -> Error {
        self.complain(&format!("it {why}"))
    }

    fn complain(&self, message: &str) -> Error {
        let mut here = self.clone();
        let rest = here.rest();
        let place = self.text[..here.at].chars().count() + 1;
        let found: String = rest.chars().take_while(|&c| c != ',').take(24).collect();
        if found.is_empty() {
            return Error::Load(format!("workload, at its end: {message}"));
        }
        Error::Load(format!("workload, at character {place} ({:?}): {message}", found.trim_end()))
    }
}

/// Returns the known word that differs least, where it is near enough to be meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(word, known), *known)).min()?;
    (!word.is_empty() && near.0 <= (word.chars().count().max(near.1.len()) / 3).max(1)).then_some(near.1)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
