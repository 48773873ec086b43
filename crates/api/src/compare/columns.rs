//! Which figures can be shown, sorted by and marked? Each with its name, its unit and which end is good.

use super::answer::ComparisonRow;
use crate::Error;

/// What a figure counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    Bytes,
    /// Whole things: tokens, sequences.
    Count,
    /// Large counts: parameters.
    Many,
    /// Milliseconds.
    Millis,
    /// A part of one.
    Share,
    /// Anything else.
    Rate,
    /// A verdict in words.
    State,
    /// Published quality, in words.
    Quality,
}

/// Which end of a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    /// The most.
    Most,
    /// The least.
    Least,
    /// Neither, or it cannot be said.
    Neither,
}

/// Takes a figure from a row.
type Of = fn(&ComparisonRow) -> Option<f64>;

/// Takes an interval from a row.
type Interval = fn(&ComparisonRow) -> Option<(f64, f64)>;

/// A figure of a row.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name in requests, answers and flags.
    pub name: &'static str,
    /// Its head in a table.
    pub head: &'static str,
    /// What it is, in words.
    pub words: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Which end is good.
    pub good: Good,
    of: Of,
    /// Its interval, where it has one.
    interval: Option<Interval>,
}

impl PartialEq for Column {
    fn eq(&self, other: &Column) -> bool {
        self.name == other.name
    }
}

const fn column(
    name: &'static str,
    head: &'static str,
    words: &'static str,
    (kind, good): (Kind, Good),
    of: Of,
) -> Column {
    Column { name, head, words, kind, good, of, interval: None }
}

/// A whole number as a figure.
fn whole(number: Option<u64>) -> Option<f64> {
    number.map(|number| number as f64)
}

/// How bad a verdict is.
fn state(row: &ComparisonRow) -> Option<f64> {
    row.state.as_deref().map(|state| match state {
        "fits" => 0.0,
        "borderline" => 1.0,
        "shorter" => 2.0,
        _ => 3.0,
    })
}

/// Every figure, in the order of a table that shows all.
pub const COLUMNS: [Column; 22] = {
    use Good::{Least, Most, Neither};
    use Kind::{Bytes, Count, Many, Millis, Quality, Rate, Share, State};
    [
        column("parameters", "params", "parameters", (Many, Neither), |row| {
            (row.parameters > 0).then_some(row.parameters as f64)
        }),
        column("checkpoint_bytes", "file", "the checkpoint as it is stored, GiB", (Bytes, Least), |row| {
            whole(row.checkpoint_bytes)
        }),
        column(
            "weights_bytes",
            "weights",
            "weights of the fullest rank as the engine holds them, GiB",
            (Bytes, Least),
            |row| whole(row.weights_bytes),
        ),
        column("saved_bytes", "saved", "bytes of weights less than the first format's, GiB", (Bytes, Most), |row| {
            row.saved_bytes.map(|bytes| bytes as f64)
        }),
        column(
            "saved_share",
            "saved %",
            "weights less than the first format's, as a part of those",
            (Share, Most),
            |row| row.saved_share,
        ),
        column(
            "total_bytes",
            "used",
            "all memory of the fullest rank, its KV cache included, GiB",
            (Bytes, Neither),
            |row| {
                let used = row.parts.iter().filter(|part| part.part != "reserve").map(|part| part.bytes).sum::<u64>();
                (!row.parts.is_empty()).then_some(used as f64)
            },
        ),
        column("kv_bytes_per_token", "KV/token", "KV cache of one more token on a rank, KiB", (Bytes, Least), |row| {
            whole(row.kv_bytes_per_token)
        }),
        column("kv_budget_bytes", "KV", "what the fullest rank has for its KV cache, GiB", (Bytes, Most), |row| {
            whole(row.kv_budget_bytes)
        }),
        column("kv_tokens", "KV tokens", "tokens that the cache holds", (Count, Most), |row| whole(row.kv_tokens)),
        column("max_context_tokens", "context", "the longest sequence that could be served", (Count, Most), |row| {
            whole(row.max_context_tokens)
        }),
        column("concurrency", "at once", "sequences that fit at once", (Count, Most), |row| whole(row.concurrency)),
        column("state", "verdict", "whether the launch fits as it is asked for", (State, Least), state),
        column("margin_bytes", "spare", "memory to spare beside one longest sequence, GiB", (Bytes, Most), |row| {
            row.margin_bytes.map(|bytes| bytes as f64)
        }),
        Column {
            interval: Some(|row| row.decode_low_ms.zip(row.decode_high_ms)),
            ..column("decode_ms", "decode", "predicted time per output token, ms", (Millis, Least), |row| row.decode_ms)
        },
        Column {
            interval: Some(|row| row.prefill_low_ms.zip(row.prefill_high_ms)),
            ..column("prefill_ms", "prompt", "predicted time of a prompt alone, ms", (Millis, Least), |row| {
                row.prefill_ms
            })
        },
        column("tokens_per_s", "tok/s", "predicted output tokens a second of all sequences", (Rate, Most), |row| {
            row.tokens_per_s
        }),
        column(
            "tokens_per_s_per_user",
            "tok/s/user",
            "predicted output tokens a second of a sequence",
            (Rate, Most),
            |row| row.tokens_per_s_per_user,
        ),
        column(
            "tokens_per_s_per_gpu",
            "tok/s/GPU",
            "predicted output tokens a second for each card",
            (Rate, Most),
            |row| row.tokens_per_s_per_gpu,
        ),
        column("quality", "quality", "published change against the unquantised model", (Quality, Neither), |row| {
            row.quality.as_ref().and_then(|quality| quality.change)
        }),
        column("card_bytes", "card", "memory of a card, GiB", (Bytes, Neither), |row| whole(row.card_bytes)),
        column("gpus", "GPUs", "cards that are used", (Count, Neither), |row| {
            (row.gpus > 0).then_some(f64::from(row.gpus))
        }),
        column("host_bytes", "host", "weights and caches in the host's memory, GiB", (Bytes, Least), |row| {
            row.state.is_some().then_some(row.host_bytes as f64)
        }),
    ]
};

/// Other names of figures.
const ALIASES: [(&str, &str); 14] = [
    ("max_context", "max_context_tokens"),
    ("longest_context", "max_context_tokens"),
    ("context", "max_context_tokens"),
    ("fits", "state"),
    ("verdict", "state"),
    ("checkpoint", "checkpoint_bytes"),
    ("weights", "weights_bytes"),
    ("saved", "saved_share"),
    ("kv_budget", "kv_budget_bytes"),
    ("kv_per_token", "kv_bytes_per_token"),
    ("total", "total_bytes"),
    ("spare", "margin_bytes"),
    ("decode", "decode_ms"),
    ("prefill", "prefill_ms"),
];

impl Column {
    /// Reads a name; dashes do for underscores.
    ///
    /// # Errors
    /// [`Error::Request`] lists the names.
    pub fn parse(text: &str) -> Result<Column, Error> {
        let plain = text.trim().to_ascii_lowercase().replace('-', "_");
        let name = ALIASES.iter().find(|(alias, _)| *alias == plain).map_or(plain.as_str(), |(_, name)| name);
        COLUMNS.iter().copied().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
            let found: String = text.chars().take(40).collect();
            Error::Request(format!("`{found}` is no figure of a comparison; these are: {}", names.join(", ")))
        })
    }

    /// Returns the figure of a row; `None` where it is not known.
    pub fn of(&self, row: &ComparisonRow) -> Option<f64> {
        (self.of)(row).filter(|value| value.is_finite())
    }

    /// Returns its interval, where it has one.
    pub fn interval(&self, row: &ComparisonRow) -> Option<(f64, f64)> {
        self.interval.and_then(|of| of(row))
    }
}
