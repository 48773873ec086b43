//! How are requests and steps written down while a simulation runs? One row each, as CSV, JSON lines or Parquet by the
//! file's name, in memory that does not grow.
//!
//! ```no_run
//! use plimsoll_kit::rows::RequestRows;
//! let rows = RequestRows::create("requests.parquet".as_ref())?;
//! // … as the simulation's watch …
//! let written = rows.finish()?;
//! # Ok::<(), plimsoll_kit::rows::Error>(())
//! ```

mod parquet;
mod text;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use plimsoll_sim::{Requests, Slot, Step, Watch};
use plimsoll_units::Nanos;

/// Why rows were not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file's name does not tell its form.
    #[error("cannot tell what to write to {place}: its name should end in .csv, .jsonl or .parquet")]
    Form {
        /// The file.
        place: String,
    },
    /// The disk, or the file.
    #[error("cannot write {place}: {why}")]
    Write {
        /// The file.
        place: String,
        /// The system's words.
        why: io::Error,
    },
}

/// What a number counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Whole things.
    Count,
    /// Nanoseconds, written as seconds.
    Seconds,
    /// Nanoseconds, written as milliseconds.
    Millis,
}

/// A column: its name, what it counts, and whether a row may lack it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) optional: bool,
}

const fn count(name: &'static str) -> Column {
    Column { name, unit: Unit::Count, optional: false }
}

const fn seconds(name: &'static str) -> Column {
    Column { name, unit: Unit::Seconds, optional: false }
}

const fn millis(name: &'static str) -> Column {
    Column { name, unit: Unit::Millis, optional: false }
}

const fn maybe(column: Column) -> Column {
    Column { optional: true, ..column }
}

/// One row a request, in the order in which they ended; refused ones, when they arrived, have no times but that.
const REQUEST: [Column; 14] = [
    count("number"),
    seconds("arrived_s"),
    maybe(seconds("scheduled_s")),
    maybe(seconds("first_token_s")),
    maybe(seconds("finished_s")),
    count("prompt_tokens"),
    count("cached_tokens"),
    count("output_tokens"),
    count("preemptions"),
    count("recomputed_tokens"),
    maybe(millis("queue_ms")),
    maybe(millis("ttft_ms")),
    maybe(millis("tpot_ms")),
    maybe(millis("e2e_ms")),
];

/// One row a step. The cache's parts are in tokens' worth of slots; prefill counts pieces of more than one token.
const STEP: [Column; 17] = [
    count("index"),
    seconds("start_s"),
    seconds("end_s"),
    count("running"),
    count("waiting"),
    count("sequences"),
    count("padding"),
    count("prefill_tokens"),
    count("decode_tokens"),
    count("preempted"),
    count("finished"),
    count("recomputed_tokens"),
    count("kv_used"),
    count("kv_cached"),
    count("kv_wasted"),
    count("kv_reserved"),
    count("kv_stranded"),
];

/// Where a form's rows go.
trait Sink {
    /// Takes a row.
    fn row(&mut self, cells: &[Option<u64>]) -> io::Result<()>;

    /// Ends the file.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A file of rows. After the first failure it takes nothing more, and tells at the end.
struct Rows {
    place: String,
    sink: Option<Box<dyn Sink>>,
    failed: Option<io::Error>,
    written: u64,
}

impl Rows {
    fn create(place: &Path, columns: &'static [Column]) -> Result<Self, Error> {
        let name = place.display().to_string();
        let ending = place.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !["csv", "jsonl", "parquet"].contains(&ending.as_str()) {
            return Err(Error::Form { place: name });
        }
        let sink = File::create(place).and_then(|file| sink(BufWriter::new(file), &ending, columns));
        match sink {
            Ok(sink) => Ok(Rows { place: name, sink: Some(sink), failed: None, written: 0 }),
            Err(why) => Err(Error::Write { place: name, why }),
        }
    }

    fn row(&mut self, cells: &[Option<u64>]) {
        let Some(sink) = &mut self.sink else { return };
        match sink.row(cells) {
            Ok(()) => self.written += 1,
            Err(why) => {
                self.failed = Some(why);
                self.sink = None;
            }
        }
    }

    fn finish(self) -> Result<u64, Error> {
        let end = match (self.failed, self.sink) {
            (Some(why), _) => Err(why),
            (None, Some(sink)) => sink.finish(),
            (None, None) => Ok(()),
        };
        let place = self.place;
        end.map(|()| self.written).map_err(|why| Error::Write { place, why })
    }

    /// Nothing more can be written: there is no point in going on.
    const fn proceed(&self) -> ControlFlow<()> {
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn sink(out: impl Write + Send + 'static, ending: &str, columns: &'static [Column]) -> io::Result<Box<dyn Sink>> {
    Ok(match ending {
        "csv" => Box::new(text::Csv::begin(out, columns)?),
        "jsonl" => Box::new(text::Jsonl::begin(out, columns)),
        _ => Box::new(parquet::Parquet::begin(out, columns)?),
    })
}

/// Writes a row for every request that ends or is refused; those that still wait or run at the end of a run that was
/// stopped have none. Looks on at a simulation.
pub struct RequestRows(Rows);

impl RequestRows {
    /// Begins a file; its form follows from its name.
    ///
    /// # Errors
    /// [`Error`] when the name tells no form or the file cannot be made.
    pub fn create(place: &Path) -> Result<Self, Error> {
        Rows::create(place, &REQUEST).map(RequestRows)
    }

    /// Ends the file and returns how many rows it has.
    ///
    /// # Errors
    /// [`Error::Write`] when any row could not be written.
    pub fn finish(self) -> Result<u64, Error> {
        self.0.finish()
    }
}

impl Watch for RequestRows {
    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        if refused.is_none() {
            return;
        }
        let request = &requests[slot];
        let mut cells = [None; REQUEST.len()];
        cells[0] = Some(request.number);
        cells[1] = Some(request.arrived.get());
        cells[5] = Some(u64::from(request.prompt_tokens));
        cells[6..10].fill(Some(0));
        self.0.row(&cells);
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        let request = &requests[slot];
        let since = |time: Nanos| (time - request.arrived).get();
        let after = u64::from(request.generated.saturating_sub(1));
        let decode = request.first_token.map(|first| (now - first).get());
        self.0.row(&[
            Some(request.number),
            Some(request.arrived.get()),
            request.scheduled.map(Nanos::get),
            request.first_token.map(Nanos::get),
            Some(now.get()),
            Some(u64::from(request.prompt_tokens)),
            Some(u64::from(request.cached_tokens)),
            Some(u64::from(request.generated)),
            Some(u64::from(request.preemptions)),
            Some(request.recomputed_tokens),
            request.scheduled.map(since),
            request.first_token.map(since),
            decode.and_then(|decode| decode.saturating_add(after / 2).checked_div(after)),
            Some(since(now)),
        ]);
    }

    fn proceed(&mut self, _now: Nanos, _steps: u64, _finished: u64) -> ControlFlow<()> {
        self.0.proceed()
    }
}

/// Writes a row for every step, those within a stretch too. Looks on at a simulation.
pub struct StepRows(Rows);

impl StepRows {
    /// Begins a file; its form follows from its name.
    ///
    /// # Errors
    /// [`Error`] when the name tells no form or the file cannot be made.
    pub fn create(place: &Path) -> Result<Self, Error> {
        Rows::create(place, &STEP).map(StepRows)
    }

    /// Ends the file and returns how many rows it has.
    ///
    /// # Errors
    /// [`Error::Write`] when any row could not be written.
    pub fn finish(self) -> Result<u64, Error> {
        self.0.finish()
    }
}

impl Watch for StepRows {
    fn step(&mut self, step: &Step<'_>) {
        let (shape, cache) = (step.shape, &step.occupancy);
        let pieces = shape.chunks.iter().map(|chunk| u64::from(chunk.tokens)).sum::<u64>();
        let numbers = [
            step.index,
            step.start.get(),
            step.end.get(),
            step.running as u64,
            step.waiting as u64,
            u64::from(shape.decodes) + shape.chunks.len() as u64,
            u64::from(shape.padding),
            pieces,
            u64::from(shape.decodes),
            step.batch.preempted.len() as u64,
            step.finished.len() as u64,
            step.recomputed,
            cache.used,
            cache.cached,
            cache.wasted,
            cache.reserved,
            cache.stranded,
        ];
        self.0.row(&numbers.map(Some));
    }

    fn proceed(&mut self, _now: Nanos, _steps: u64, _finished: u64) -> ControlFlow<()> {
        self.0.proceed()
    }
}

#[cfg(test)]
mod tests;
