//! `plimsoll sweep`: words to lists, a file of rows, and a bar that says how far it is.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plimsoll_api::sweep::{Sweep, SweepRequest};
use plimsoll_api::vary::Knob;
use plimsoll_api::{Desk, Error, launch};
use plimsoll_kit::sweep::{Outcome, Watch, write};

use crate::arguments::SweepArguments;
use crate::launch::{common, overlay};
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
                format!(" in {seconds:.1} s, {} a second", spaced((planned as f64 / seconds) as u64))
            } else {
                String::new()
            };
            let before = rows - planned;
            let kept = if before > 0 { format!(" ({} of them planned before)", spaced(before)) } else { String::new() };
            format!("wrote {place}: {} rows{kept}{speed}", spaced(rows))
        }
        Outcome::Already { rows } => {
            format!("{place} is this sweep already, {} rows; --fresh writes it anew", spaced(rows))
        }
        Outcome::Stopped { there, rows } => {
            format!("stopped: {} of {} rows are kept; the same command goes on", spaced(there), spaced(rows))
        }
    }
}

/// A count with a space between thousands.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Turns words into a request.
fn request(arguments: &SweepArguments) -> Result<SweepRequest, Error> {
    let numbers = |knob: Knob, text: &Option<String>| text.as_deref().map_or(Ok(Vec::new()), |text| knob.numbers(text));
    // Models stand in front of the engine's flags.
    let flags = arguments.words.iter().position(|word| word.starts_with('-')).unwrap_or(arguments.words.len());
    let (named, flags) = arguments.words.split_at(flags);
    if flags.first().is_some_and(|word| word == "--") {
        return Err(Error::Request("a sweep takes lists, no launch command: give its flags as they are".into()));
    }
    let mut models: Vec<String> =
        named.iter().flat_map(|word| word.split(',')).map(str::to_owned).chain(arguments.models.clone()).collect();
    let mut launch = common(&arguments.gpu_memory, &arguments.engine_version, &arguments.given)?;
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
    overlay(&mut launch, &arguments.option)?;
    Ok(SweepRequest {
        models,
        gpus: arguments.gpus.clone(),
        engines: arguments.engines.clone(),
        tp: numbers(Knob::Tp, &arguments.tp)?,
        pp: numbers(Knob::Pp, &arguments.pp)?,
        formats: arguments.formats.clone(),
        kv_formats: arguments.kv_formats.clone(),
        context: numbers(Knob::Context, &arguments.context)?,
        batch: numbers(Knob::Batch, &arguments.batch)?,
        launch,
    })
}

/// Shows how many rows are planned, how fast, and the time that is left; stops on Ctrl-C.
struct Bar {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Bar {
    fn new(quiet: bool, stop: Arc<AtomicBool>) -> Self {
        let target = if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(progress::RATE)
        };
        let words = "{bar:24} {human_pos} of {human_len} rows, {per_sec}, {eta} left";
        let style = ProgressStyle::with_template(words).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, target).with_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_spaced() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(spaced(number), text);
        }
    }
}
