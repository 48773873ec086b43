//! `plimsoll reconcile`: logs to answers.

use std::io::Write;
use std::path::Path;

use plimsoll_api::log::{Log, Reader};
use plimsoll_api::{Desk, Error, ReconcileAnswer, ReconcileRequest, launch};
use plimsoll_kit::{profile, read_log};
use serde_json::Value;

use crate::arguments::{Form, ReconcileArguments};
use crate::launch::card_size;
use crate::{Failure, say, show};

/// Runs the verb; the number is the exit status. A log that cannot be answered does not keep the others from it.
pub fn run(arguments: &ReconcileArguments, desk: &Desk<'_>, out: &mut impl Write) -> Result<u8, Failure> {
    if arguments.shown.out.is_some() && arguments.logs.len() > 1 && !arguments.one_launch {
        return Err(
            Error::Request("--out takes the answer of one log, or of several with --one-launch".to_owned()).into()
        );
    }
    let request = request(arguments)?;
    let mut status = 0;
    let mut answers = Vec::new();
    for (name, log) in logs(arguments) {
        match log.and_then(|log| answer(arguments, &name, &log, &request, desk)) {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                say(&error);
                status = status.max(if error.is_malformed() { 2 } else { 1 });
            }
        }
    }
    if arguments.shown.form() == Form::Json && arguments.logs.len() > 1 && !arguments.one_launch {
        show::all_reconciled(&answers, out)?;
    } else {
        for (at, answer) in answers.iter().enumerate() {
            if at > 0 && arguments.shown.form() != Form::Csv {
                writeln!(out)?;
            }
            show::answer_of(&request, answer, &arguments.shown, out)?;
        }
    }
    out.flush()?;
    Ok(status)
}

/// Reads the logs one after another, or all as one.
fn logs(arguments: &ReconcileArguments) -> Box<dyn Iterator<Item = (String, Result<Log, Error>)> + '_> {
    let name = |place: &Path| place.display().to_string();
    if arguments.one_launch {
        let mut reader = Reader::new();
        let read = arguments.logs.iter().try_for_each(|place| {
            read_log(place, &mut reader)?;
            // A file that does not end its last line must not run into the next.
            reader.feed(b"\n");
            Ok(())
        });
        let names: Vec<String> = arguments.logs.iter().map(|place| name(place)).collect();
        return Box::new(std::iter::once((names.join(" "), read.map(|()| reader.finish()))));
    }
    Box::new(arguments.logs.iter().map(move |place| {
        let mut reader = Reader::new();
        let read = read_log(place, &mut reader);
        (name(place), read.map(|()| reader.finish()))
    }))
}

/// Answers one log, and keeps what it measured where that is wanted.
fn answer(
    arguments: &ReconcileArguments,
    name: &str,
    log: &Log,
    request: &ReconcileRequest,
    desk: &Desk<'_>,
) -> Result<ReconcileAnswer, Error> {
    let mut reconciled = plimsoll_api::reconcile(name, log, request, desk)?;
    if arguments.learn {
        let Some((key, measured)) = reconciled.measured.clone() else {
            reconciled.answer.notes.push(
                "nothing is learnt: that takes a plan for the launch, and non-torch memory, activation or graphs in the log"
                    .to_owned(),
            );
            return Ok(reconciled.answer);
        };
        if let Some(cause) = reconciled.doubt() {
            let note = format!("nothing is learnt: the log seems to be of another launch than the plan ({cause})");
            reconciled.answer.notes.push(note);
            return Ok(reconciled.answer);
        }
        let Some(place) = profile::place() else {
            return Err(Error::World {
                place: "profile".to_owned(),
                why: "there is no folder for it; name a file in PLIMSOLL_PROFILE".to_owned(),
            });
        };
        profile::learn(&place, key, measured)?;
        reconciled.note_learned();
    }
    Ok(reconciled.answer)
}

/// Turns words into a request.
fn request(arguments: &ReconcileArguments) -> Result<ReconcileRequest, Error> {
    let command = match arguments.words.as_slice() {
        [] => None,
        [line] => Some(line.clone()),
        words => Some(launch::join(words)),
    };
    let mut request = ReconcileRequest {
        model: arguments.model.clone(),
        gpu: arguments.gpu.clone(),
        gpu_total_bytes: arguments.gpu_memory.as_deref().map(card_size).transpose()?,
        engine: arguments.engine.clone(),
        engine_version: arguments.engine_version.clone(),
        command,
        ..ReconcileRequest::default()
    };
    for pair in &arguments.option {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::Request(format!("--option {pair}: expected KEY=VALUE")));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        request.options.insert(key.replace('-', "_"), value);
    }
    Ok(request)
}
