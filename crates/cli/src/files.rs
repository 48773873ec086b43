//! Which files does a simulation write? Rows of requests and steps, and steps as the scheduler formed them; none is made
//! before the workload was opened, so that a slip in the question costs no file.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use plimsoll_api::Error;
use plimsoll_kit::rows::{self, RequestRows, StepRows};
use plimsoll_sim::schedule::steps::{Decision, Writer, id};
use plimsoll_sim::{Idle, Requests, Rest, Slot, Step, Watch};
use plimsoll_units::Nanos;

use crate::arguments::SimulateArguments;

/// The files, made when the simulation begins. Looks on at it.
pub struct Files {
    requests: Option<PathBuf>,
    steps: Option<PathBuf>,
    joined: bool,
    request_rows: Option<RequestRows>,
    step_rows: Option<StepRows>,
    decisions: Option<Writer<Emit>>,
    lines: Rc<RefCell<Lines>>,
    failed: Option<Error>,
}

/// Takes a step that is over.
type Emit = Box<dyn FnMut(&Decision)>;

/// Steps as the engine's scheduler formed them, one JSON object a line.
#[derive(Default)]
struct Lines {
    out: Option<BufWriter<File>>,
    failed: Option<io::Error>,
}

impl Lines {
    fn write(&mut self, decision: &Decision) {
        if let (Some(out), None) = (&mut self.out, &self.failed) {
            self.failed = writeln!(out, "{}", decision.json(id)).err();
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match (self.failed.take(), &mut self.out) {
            (Some(error), _) => Err(error),
            (None, Some(out)) => out.flush(),
            (None, None) => Ok(()),
        }
    }
}

impl Files {
    /// Looks at the names. `joined` puts resumed requests behind the new ones in steps.
    ///
    /// # Errors
    /// [`Error::Request`] when two names are one file, or one is the trace.
    pub fn new(arguments: &SimulateArguments, joined: bool) -> Result<Self, Error> {
        let (requests, steps) = (arguments.requests.clone(), arguments.steps.clone());
        let trace = arguments.trace.as_ref().map(PathBuf::from);
        let named = [("--trace", &trace), ("--steps", &steps), ("--requests", &requests)];
        for (at, (flag, place)) in named.iter().enumerate() {
            for (other, second) in &named[at + 1..] {
                if let (Some(place), Some(second)) = (place, second)
                    && same(place, second)
                {
                    return Err(Error::Request(format!("{flag} and {other} name the same file, {}", place.display())));
                }
            }
        }
        let (request_rows, step_rows, decisions, failed) = (None, None, None, None);
        let lines = Rc::default();
        Ok(Files { requests, steps, joined, request_rows, step_rows, decisions, lines, failed })
    }

    /// Ends the files.
    ///
    /// # Errors
    /// [`Error::World`] when something could not be written.
    pub fn finish(self) -> Result<(), Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let written = |place: &Option<PathBuf>, error: String| Error::World { place: name(place), why: error };
        if let Some(rows) = self.request_rows {
            rows.finish().map_err(|error| written(&self.requests, error.to_string()))?;
        }
        if let Some(rows) = self.step_rows {
            rows.finish().map_err(|error| written(&self.steps, error.to_string()))?;
        }
        if let Some(decisions) = self.decisions {
            decisions.finish();
        }
        self.lines.borrow_mut().flush().map_err(|error| written(&self.steps, error.to_string()))
    }

    fn create(&mut self) -> Result<(), Error> {
        let odd = |place: &Path, error: rows::Error| Error::World {
            place: place.display().to_string(),
            why: error.to_string(),
        };
        if let Some(place) = &self.requests {
            self.request_rows = Some(RequestRows::create(place).map_err(|error| odd(place, error))?);
        }
        match &self.steps {
            Some(place) if is_jsonl(place) => {
                let why = |error: io::Error| Error::World { place: name(&self.steps), why: error.to_string() };
                self.lines.borrow_mut().out = Some(BufWriter::new(File::create(place).map_err(why)?));
                let lines = Rc::clone(&self.lines);
                self.decisions =
                    Some(Writer::new(self.joined, Box::new(move |decision| lines.borrow_mut().write(decision))));
            }
            Some(place) => self.step_rows = Some(StepRows::create(place).map_err(|error| odd(place, error))?),
            None => {}
        }
        Ok(())
    }
}

fn name(place: &Option<PathBuf>) -> String {
    place.as_ref().map_or_else(String::new, |place| place.display().to_string())
}

impl Watch for Files {
    fn wants_batches(&self) -> bool {
        self.steps.as_deref().is_some_and(is_jsonl)
    }

    fn begin(&mut self, _total: Option<u64>) {
        self.failed = self.create().err();
    }

    fn arrived(&mut self, requests: &Requests, slot: Slot, refused: Option<&str>) {
        self.request_rows.arrived(requests, slot, refused);
    }

    fn step(&mut self, step: &Step<'_>) {
        self.step_rows.step(step);
        self.decisions.step(step);
    }

    fn rest(&mut self, rest: &Rest) {
        self.decisions.rest(rest);
    }

    fn finished(&mut self, requests: &Requests, slot: Slot, now: Nanos) {
        self.request_rows.finished(requests, slot, now);
    }

    fn idle(&mut self, idle: &Idle) {
        self.decisions.idle(idle);
    }

    fn proceed(&mut self, now: Nanos, steps: u64, finished: u64) -> ControlFlow<()> {
        if self.failed.is_some() || self.lines.borrow().failed.is_some() {
            return ControlFlow::Break(());
        }
        self.request_rows.proceed(now, steps, finished)?;
        self.step_rows.proceed(now, steps, finished)
    }
}

/// Whether two names are one file.
fn same(a: &Path, b: &Path) -> bool {
    let real = |place: &Path| place.canonicalize().unwrap_or_else(|_| place.to_owned());
    real(a) == real(b)
}

fn is_jsonl(place: &Path) -> bool {
    place.extension().is_some_and(|end| end == "jsonl")
}
