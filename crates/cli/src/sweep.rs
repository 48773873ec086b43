//! `plimsoll sweep`: words to lists, a file of rows, and a bar that says how far it is.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use plimsoll_api::sweep::{Sweep, SweepRequest};
use plimsoll_api::vary::Knob;
use plimsoll_api::{Desk, Error, launch};
use plimsoll_kit::sweep::{Outcome, Watch, write};
use plimsoll_units::grouped;

use crate::arguments::SweepArguments;
use crate::launch::{known, numbers, overlay};
use crate::{Failure, progress};

/// The status that shells give to a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Runs the verb; the number is the exit status.
pub fn run(arguments: &SweepArguments, desk: &Desk<'_>) -> Result<u8, Failure> {
    let request = request(arguments)?;
    let sweep = Sweep::new(&request, desk)?;
    let quiet = arguments.quiet;
    for warning in sweep.warnings().iter().filter(|_| !quiet) {
        eprintln!("warning: {warning}; its rows say so");
    }
    let bar = Bar::new(quiet, progress::on_interrupt()?);
    let begin = Instant::now();
    let outcome = write(&sweep, &arguments.out, arguments.fresh, &bar);
    bar.bar.finish_and_clear();
    let outcome = outcome.map_err(|error| Failure::Hinted {
        hint: error.hint().map(str::to_owned),
        error: Box::new(if error.is_malformed() {
            Error::Request(error.to_string())
        } else {
            Error::Simulation(error.to_string())
        }),
    })?;
    if !quiet {
        eprintln!("{}", told(outcome, arguments, begin.elapsed()));
    }
    Ok(if matches!(outcome, Outcome::Stopped { .. }) { INTERRUPTED } else { 0 })
}

/// How it ended, in words; how long it took is said to people alone.
fn told(outcome: Outcome, arguments: &SweepArguments, took: Duration) -> String {
    let place = arguments.out.display();
    match outcome {
        Outcome::Written { rows, planned } => {
            let seconds = took.as_secs_f64();
            let speed = if io::stderr().is_terminal() && seconds > 0.0 {
                format!(" in {seconds:.1} s, {} a second", grouped((planned as f64 / seconds) as u64))
            } else {
                String::new()
            };
            let before = rows - planned;
            let kept =
                if before > 0 { format!(" ({} of them planned before)", grouped(before)) } else { String::new() };
            format!("wrote {place}: {} rows{kept}{speed}", grouped(rows))
        }
        Outcome::Already { rows } => {
            format!("{place} is this sweep already, {} rows; --fresh writes it anew", grouped(rows))
        }
        Outcome::Stopped { there, rows } => {
            format!("stopped: {} of {} rows are kept; the same command goes on", grouped(there), grouped(rows))
        }
    }
}

/// Turns words into a request.
fn request(arguments: &SweepArguments) -> Result<SweepRequest, Error> {
    // Models stand in front of the engine's flags.
    let flags = arguments.words.iter().position(|word| word.starts_with('-')).unwrap_or(arguments.words.len());
    let (named, flags) = arguments.words.split_at(flags);
    if flags.first().is_some_and(|word| word == "--") {
        return Err(Error::Request("a sweep takes lists, no launch command: give its flags as they are".into()));
    }
    let mut models: Vec<String> =
        named.iter().flat_map(|word| word.split(',')).map(str::to_owned).chain(arguments.models.clone()).collect();
    let mut launch = known(&arguments.known)?;
    if !flags.is_empty() {
        let ([] | [_]) = &arguments.engines[..] else {
            let why = format!("{} is a flag of one engine; this sweep has {}", flags[0], arguments.engines.len());
            return Err(Error::Request(format!("{why}: sweep them one by one")));
        };
        let engine = arguments.engines.first().map_or("vllm", String::as_str);
        let found = launch::parse_flags(plimsoll_api::plan::canonical_engine(engine)?, flags)?;
        models.extend(found.model);
        launch.options.extend(found.options);
        launch.inert.extend(found.inert);
        launch.notes.extend(found.notes);
    }
    overlay(&mut launch, &arguments.known.option)?;
    Ok(SweepRequest {
        models,
        gpus: arguments.gpus.clone(),
        engines: arguments.engines.clone(),
        tp: numbers(Knob::Tp, arguments.tp.as_deref())?,
        pp: numbers(Knob::Pp, arguments.pp.as_deref())?,
        formats: arguments.formats.clone(),
        kv_formats: arguments.kv_formats.clone(),
        context: numbers(Knob::Context, arguments.context.as_deref())?,
        batch: numbers(Knob::Batch, arguments.batch.as_deref())?,
        launch,
    })
}

/// Writes a number of the bar as every other number stands; there is nobody to tell when it can't be.
fn write_grouped(number: u64, out: &mut dyn fmt::Write) {
    let _ = out.write_str(&grouped(number));
}

/// Shows how many rows are planned, how fast, and the time that is left; stops on Ctrl-C.
struct Bar {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Bar {
    fn new(quiet: bool, stop: Arc<AtomicBool>) -> Self {
        let words = "{bar:24} {done} of {all} rows, {speed} a second, {eta} left";
        let style = ProgressStyle::with_template(words).unwrap_or_else(|_| ProgressStyle::default_bar());
        let style = style
            .with_key("done", |state: &ProgressState, out: &mut dyn fmt::Write| write_grouped(state.pos(), out))
            .with_key("all", |state: &ProgressState, out: &mut dyn fmt::Write| {
                write_grouped(state.len().unwrap_or(0), out)
            })
            .with_key("speed", |state: &ProgressState, out: &mut dyn fmt::Write| {
                write_grouped(state.per_sec() as u64, out)
            });
        let bar =
            ProgressBar::with_draw_target(None, progress::target(quiet)).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        Bar { bar, stop }
    }
}

impl Watch for Bar {
    fn begin(&self, total: u64, there: u64) {
        self.bar.set_length(total);
        self.bar.set_position(there);
        self.bar.reset_eta();
    }

    fn planned(&self, rows: u64) {
        self.bar.inc(rows);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
