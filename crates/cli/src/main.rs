//! The door that people type at. It translates words into requests and answers into text; it computes nothing.

mod arguments;
mod batch;
mod compare;
mod cost;
mod file;
mod files;
mod grow;
mod launch;
mod plan;
mod progress;
mod reconcile;
mod roofline;
mod show;
mod simulate;
mod sweep;
mod words;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use plimsoll_api::{Desk, Error, InspectRequest};
use plimsoll_kit::Disk;
use plimsoll_report::inspect_table;

use arguments::{Arguments, Shown, Verb};

/// A batch spends a quarter of its time in the system's allocator; this one halves that, and start-up stays as it was.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let command = Arguments::command();
    let arranged = words::arrange(&command, words);
    let matches = command.get_matches_from(arranged);
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    match run(arguments.verb) {
        Ok(status) => ExitCode::from(status),
        Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(Failure::Said(error)) => {
            say(&error);
            ExitCode::from(if error.is_malformed() { 2 } else { 1 })
        }
        Err(Failure::Hinted { error, hint }) => {
            eprintln!("error: {error}");
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(if error.is_malformed() { 2 } else { 1 })
        }
    }
}

/// Why a verb ended early.
pub(crate) enum Failure {
    /// The reader of our output went away; there is nobody to tell.
    Pipe,
    /// Something to say.
    Said(Error),
    /// The same, where the one who says it knows what to try next.
    Hinted {
        /// What is wrong.
        error: Box<Error>,
        /// What to try.
        hint: Option<String>,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Said(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::Pipe
        } else {
            Failure::Said(Error::World { place: "output".into(), why: error.to_string() })
        }
    }
}

/// Prints an error and its hint to stderr.
pub(crate) fn say(error: &Error) {
    eprintln!("error: {error}");
    if let Some(hint) = own_flag(error).or_else(|| error.hint()) {
        eprintln!("hint: {hint}");
    }
}

/// The flag of Plimsoll's own that a word which no engine knows is, with another verb, or comes close to.
fn own_flag(error: &Error) -> Option<String> {
    let Error::Launch(plimsoll_api::launch::Error::UnknownFlag { flag, suggestion, .. }) = error else { return None };
    if !suggestion.is_empty() {
        return None;
    }
    let wanted = flag.trim_start_matches('-').split('=').next()?;
    let command = Arguments::command();
    let has = |verb: &&clap::Command| verb.get_arguments().any(|flag| flag.get_long() == Some(wanted));
    let others: Vec<&str> = command.get_subcommands().filter(has).map(clap::Command::get_name).collect();
    let others =
        (!others.is_empty()).then(|| format!("--{wanted} is a flag of `plimsoll {}`", others.join("`, `plimsoll ")));
    let verb = std::env::args_os().nth(1)?;
    let flags = command.find_subcommand(verb)?.get_arguments().filter_map(|flag| flag.get_long());
    let close = flags.map(|name| (strsim::jaro_winkler(wanted, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    let close = close.filter(|(alike, _)| *alike > 0.85).map(|(_, name)| format!("Plimsoll's own flag is --{name}"));
    let hints: Vec<String> = close.into_iter().chain(others).collect();
    (!hints.is_empty()).then(|| hints.join("; "))
}

/// Runs one verb; the number is the exit status.
fn run(verb: Verb) -> Result<u8, Failure> {
    let disk = Disk::from_environment();
    let desk = Desk::new(&disk);
    let desk =
        if matches!(&verb, Verb::Plan(arguments) if !arguments.launch.no_profile) { with_profile(desk) } else { desk };
    let mut out = io::stdout().lock();
    match verb {
        Verb::Plan(arguments) => return plan::run(&arguments, &desk, &mut out),
        Verb::Grow(arguments) => return grow::run(&arguments, &desk, &mut out),
        Verb::Roofline(arguments) => return roofline::run(&arguments, &desk, &mut out),
        Verb::Compare(arguments) => return compare::run(&arguments, &desk, &mut out),
        Verb::Sweep(arguments) => return sweep::run(&arguments, &desk),
        Verb::Simulate(arguments) => return simulate::run(&arguments, &desk, &mut out),
        Verb::Reconcile(arguments) => return reconcile::run(&arguments, &desk, &mut out),
        Verb::Inspect { model, tensors, shown } => {
            let request = InspectRequest { model };
            let answer = plimsoll_api::inspect(&request, &desk)?;
            if shown.out.is_some() {
                show::answer_of(&request, &answer, &shown, &mut out)?;
            } else {
                show::answer_as(&answer, |answer, style| inspect_table(answer, tensors, style), &shown, &mut out)?;
            }
        }
        Verb::Catalogue { kind, shown } => {
            let answer = plimsoll_api::catalogue(&kind.to_string(), &desk)?;
            show::answer(&answer, &shown, &mut out)?;
        }
        Verb::Schema { of } => show::schema(of, &mut out)?,
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "plimsoll", &mut out);
        }
        Verb::Man => clap_mangen::Man::new(Arguments::command()).render(&mut out)?,
    }
    out.flush()?;
    Ok(0)
}

/// Puts this machine's profile on the desk; one that cannot be read is a warning.
fn with_profile(desk: Desk<'_>) -> Desk<'_> {
    let Some(place) = plimsoll_kit::profile::place() else { return desk };
    match plimsoll_kit::profile::read(&place) {
        Ok(Some(profile)) => desk.with_profile(profile, place.display().to_string()),
        Ok(None) => desk,
        Err(error) => {
            eprintln!("warning: the profile is left out: {error}");
            desk
        }
    }
}

/// Whether colours are wanted: on a terminal, unless `NO_COLOR` is set or `--color` says otherwise.
pub(crate) fn colour(shown: &Shown) -> bool {
    match shown.color {
        arguments::Colour::Always => true,
        arguments::Colour::Never => false,
        arguments::Colour::Auto => {
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}
