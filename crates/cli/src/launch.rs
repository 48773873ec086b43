//! What is launched? Words of the command line to a request for a plan.

use plimsoll_api::vary::Knob;
use plimsoll_api::{Error, GivenRequest, PlanRequest, launch};
use plimsoll_units::Bytes;
use serde_json::Value;

use crate::arguments::{KnownArguments, LaunchArguments};

/// Turns words into a request. Before `--` stand MODEL and engine flags, behind it a launch command; both may occur, and
/// what stands before `--` wins.
pub(crate) fn request(arguments: &LaunchArguments) -> Result<PlanRequest, Error> {
    request_for(arguments, None)
}

/// Turns words into a request; flags without an engine are read as those of `engine`, and the request names none.
pub(crate) fn request_for(arguments: &LaunchArguments, engine: Option<&str>) -> Result<PlanRequest, Error> {
    if arguments.words.is_empty() && arguments.engine.is_none() {
        return Err(Error::Request(
            "nothing is launched: give MODEL --engine ENGINE, or a launch command after `--`".into(),
        ));
    }
    let mut request = without_words(arguments)?;
    let options = std::mem::take(&mut request.options);
    let (before, command) = match arguments.words.iter().position(|word| word == "--") {
        Some(at) => (&arguments.words[..at], Some(&arguments.words[at + 1..])),
        None => (&arguments.words[..], None),
    };
    if let Some(command) = command {
        let command = launch::parse(command)?;
        request.engine = request.engine.or_else(|| Some(command.engine.to_owned()));
        request.engine_version = request.engine_version.or(command.version);
        request.model = command.model;
        request.options = command.options;
        request.inert = command.inert;
        request.notes = command.notes;
    }
    if !before.is_empty() {
        let Some(engine) = request.engine.as_deref().or(engine) else {
            return Err(Error::Request("no engine: give --engine or a launch command after `--`".into()));
        };
        let direct = launch::parse_flags(plimsoll_api::plan::canonical_engine(engine)?, before)?;
        request.model = direct.model.or(request.model);
        request.options.extend(direct.options);
        request.inert.extend(direct.inert);
        request.notes.extend(direct.notes);
    }
    request.options.extend(options);
    Ok(request)
}

/// Turns the flags alone into a request: for a verb that needs no model.
pub(crate) fn without_words(arguments: &LaunchArguments) -> Result<PlanRequest, Error> {
    let mut request =
        PlanRequest { gpu: arguments.gpu.clone(), engine: arguments.engine.clone(), ..known(&arguments.known)? };
    overlay(&mut request, &arguments.known.option)?;
    Ok(request)
}

/// What every launch of a verb has in common; `--option` pairs are put over it by [`overlay`], last.
pub(crate) fn known(arguments: &KnownArguments) -> Result<PlanRequest, Error> {
    Ok(PlanRequest {
        gpu_total_bytes: arguments.gpu_memory.as_deref().map(card_size).transpose()?,
        engine_version: arguments.engine_version.clone(),
        given: given(&arguments.given)?,
        ..PlanRequest::default()
    })
}

/// Reads the values of a knob that is a flag of its own; without the flag there are none.
pub(crate) fn numbers(knob: Knob, text: Option<&str>) -> Result<Vec<u64>, Error> {
    text.map_or(Ok(Vec::new()), |text| knob.numbers(text))
}

/// The same for counts that no engine takes in more than 32 bits.
pub(crate) fn counts(knob: Knob, text: Option<&str>) -> Result<Vec<u32>, Error> {
    let narrow = |number: u64| {
        u32::try_from(number).map_err(|_| Error::Request(format!("{number} is more than any sequence or batch")))
    };
    numbers(knob, text)?.into_iter().map(narrow).collect()
}

/// The one count of a flag such as `--at-context 4k`.
pub(crate) fn count(flag: &str, knob: Knob, text: Option<&str>) -> Result<Option<u32>, Error> {
    match counts(knob, text)?[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Error::Request(format!("{flag} takes one number, not several"))),
    }
}

/// Puts `--option` pairs over a launch's options.
pub(crate) fn overlay(request: &mut PlanRequest, pairs: &[String]) -> Result<(), Error> {
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::Request(format!("--option {pair}: expected KEY=VALUE")));
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        request.options.insert(key.replace('-', "_"), value);
    }
    Ok(())
}

/// Reads `--given` pairs.
fn given(pairs: &[String]) -> Result<GivenRequest, Error> {
    let mut given = GivenRequest::default();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Error::Request(format!("--given {pair}: expected KEY=SIZE, such as activation=1.9GiB")));
        };
        let place = match key.trim_end_matches("_bytes").replace('-', "_").as_str() {
            "weights" => &mut given.weights_bytes,
            "activation" => &mut given.activation_bytes,
            "non_torch" => &mut given.non_torch_bytes,
            "kv_free" => &mut given.kv_free_bytes,
            "kv_budget" => &mut given.kv_budget_bytes,
            _ => {
                let known = "weights, activation, non_torch, kv_free, kv_budget";
                return Err(Error::Request(format!("--given {key}: not one of {known}")));
            }
        };
        *place = Some(size(value)?);
    }
    Ok(given)
}

/// Reads the memory of a card; a bare `80` is a slip, not 80 bytes.
pub(crate) fn card_size(text: &str) -> Result<u64, Error> {
    let bytes = size(text)?;
    let bare = text.trim().chars().all(|c| c.is_ascii_digit());
    if bare && bytes < (1 << 20) {
        return Err(Error::Request(format!("--gpu-memory {text} is {bytes} bytes; give a unit, such as {text}GiB")));
    }
    Ok(bytes)
}

/// Reads a size such as `79.19GiB`.
fn size(text: &str) -> Result<u64, Error> {
    text.parse::<Bytes>().map(Bytes::get).map_err(Error::Request)
}
