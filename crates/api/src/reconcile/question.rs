//! Which launch does a log show? Its arguments, model, card and release turned into a request, what the user gives laid over
//! it, and what is missing named.

use plimsoll_study::log::{EngineKind, Log, What};
use serde_json::{Map, Value};

use super::ReconcileRequest;
use super::answer::Sourced;
use crate::{Desk, Error, PlanRequest, choices, launch};

/// The request that a log amounts to.
pub(super) struct Question {
    /// The request, where enough is known for one.
    pub request: Option<PlanRequest>,
    /// The options that the launch itself named.
    pub explicit: Map<String, Value>,
    pub model: Sourced,
    pub gpu: Sourced,
    pub assumed: Vec<String>,
    pub asked: Vec<String>,
    pub notes: Vec<String>,
}

/// Turns a log into a request.
pub(super) fn question(
    engine: EngineKind,
    log: &Log,
    request: &ReconcileRequest,
    desk: &Desk<'_>,
) -> Result<Question, Error> {
    let sheet = &log.sheet;
    let (mut notes, mut asked, mut assumed) = (Vec::new(), Vec::new(), Vec::new());
    let given = request.command.as_deref().map(launch::parse_str).transpose()?;
    if let Some(given) = given.as_ref().filter(|given| given.engine != engine.name()) {
        let whose = engine.name();
        return Err(Error::Request(format!("the log is {whose}'s, but the command starts {}", given.engine)));
    }
    // A command that only stands in the log may be cut short or another program's.
    let logged = sheet.command.as_deref().and_then(|command| launch::parse_str(command).ok());
    let logged = logged.filter(|logged| logged.engine == engine.name());
    let (model, model_asked) = model(engine, log, request, given.as_ref().or(logged.as_ref()), desk, &mut notes);
    asked.extend(model_asked);
    let mut explicit = Map::new();
    if let Some(command) = given.as_ref().or(logged.as_ref()) {
        explicit.extend(command.options.clone());
    }
    lay(engine, &mut explicit, &sheet.options, "the log's arguments", &mut notes);
    if let Some(command) = &given {
        explicit.extend(command.options.clone());
        notes.extend(command.notes.iter().cloned());
    }
    notes.extend(choices::overlay(engine.name(), &mut explicit, &mut Map::new(), &request.options)?);
    let mut options = Map::new();
    let resolved = resolved(engine, log, model.used.as_deref(), desk);
    lay(engine, &mut options, &resolved, "the log's settings", &mut Vec::new());
    options.extend(explicit.clone());
    if explicit.is_empty() {
        if sheet.options.is_empty() && sheet.resolved.is_empty() {
            assumed.push(
                "every option at its default: the log shows no arguments (give the command after `--`)".to_owned(),
            );
        }
        explicit.clone_from(&options);
    }
    let (gpu, total, gpu_asked) = card(log, request, desk, &mut notes);
    asked.extend(gpu_asked);
    let version = request.engine_version.clone().or_else(|| sheet.versions.last().cloned());
    let version = version.filter(|text| {
        let read = text.parse::<plimsoll_plan::Version>().is_ok();
        if !read {
            notes.push(format!("the release `{text}` cannot be read"));
        }
        read
    });
    let version = version.or_else(|| given.as_ref().and_then(|given| given.version.clone()));
    if version.is_none() {
        asked.push("the log names no release: --engine-version".to_owned());
    }
    let ready = model.used.is_some() && (gpu.used.is_some() || total.is_some());
    let request = ready.then(|| PlanRequest {
        model: model.used.clone(),
        gpu: gpu.used.clone(),
        gpu_total_bytes: total,
        engine: Some(engine.name().to_owned()),
        engine_version: version,
        options,
        ..PlanRequest::default()
    });
    Ok(Question { request, explicit, model, gpu, assumed, asked, notes })
}

/// Lays options that a log shows over others; those that the engine's own table does not know are named.
fn lay(
    engine: EngineKind,
    options: &mut Map<String, Value>,
    logged: &Map<String, Value>,
    whose: &str,
    notes: &mut Vec<String>,
) {
    let mut unknown = Vec::new();
    for (key, value) in logged {
        let one = Map::from_iter([(key.clone(), value.clone())]);
        if choices::overlay(engine.name(), options, &mut Map::new(), &one).is_err() {
            unknown.push(key.as_str());
        }
    }
    if !unknown.is_empty() {
        let more = unknown.len().saturating_sub(8);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = unknown.iter().take(8).copied().collect::<Vec<_>>().join(", ");
        notes.push(format!("of {whose} not understood here: {names}{more}"));
    }
}

/// What the engine resolved, as options, where that can be said with an option.
fn resolved(engine: EngineKind, log: &Log, model: Option<&str>, desk: &Desk<'_>) -> Map<String, Value> {
    let mut out = log.sheet.resolved.clone();
    match engine {
        EngineKind::Vllm => {
            // A checkpoint's own method is no option; one that is put on top of it is.
            let stored = model.and_then(|name| desk.model(name).ok()).is_some_and(|model| model.model.quant.is_some());
            if stored {
                out.remove("quantization");
            }
            if let Some(Value::Object(config)) = out.remove("speculative_config") {
                let tokens = config.get("num_speculative_tokens").or_else(|| config.get("num_spec_tokens"));
                let mut kept = Map::new();
                for (name, value) in [
                    ("method", config.get("method")),
                    ("model", config.get("model")),
                    ("num_speculative_tokens", tokens),
                ] {
                    if let Some(value) = value.filter(|value| !value.is_null()) {
                        kept.insert(name.to_owned(), value.clone());
                    }
                }
                out.insert("speculative_config".to_owned(), Value::Object(kept));
            }
        }
        EngineKind::LlamaCpp => {
            for key in ["general.name", "model type", "model params", "file type"] {
                out.remove(key);
            }
            if let Some(layers) = log.sheet.count(What::LayersOffloaded) {
                out.insert("n_gpu_layers".to_owned(), Value::from(layers as u64));
            }
        }
        EngineKind::Ollama => {
            for key in ["general.name", "model type", "model params", "file type", "default_num_ctx", "batch_size"] {
                out.remove(key);
            }
            if let Some(context) = out.remove("ctx_size") {
                let slots = out.get("parallel").and_then(Value::as_u64).unwrap_or(1).max(1);
                let each = context.as_u64().map_or(context, |all| Value::from(all / slots));
                out.insert("num_ctx".to_owned(), each);
            }
            if let Some(layers) = log.sheet.count(What::LayersOffloaded) {
                out.insert("num_gpu".to_owned(), Value::from(layers as u64));
            }
        }
        EngineKind::Trtllm | EngineKind::Sglang => {}
    }
    out
}

/// The model: as given, or the log's name in one of the forms in which it may be known here.
fn model(
    engine: EngineKind,
    log: &Log,
    request: &ReconcileRequest,
    command: Option<&launch::Launch>,
    desk: &Desk<'_>,
    notes: &mut Vec<String>,
) -> (Sourced, Option<String>) {
    let named = log
        .sheet
        .model
        .clone()
        .or_else(|| log.sheet.resolved.get("general.name").and_then(Value::as_str).map(str::to_owned));
    let given = request.model.clone().or_else(|| command.and_then(|command| command.model.clone()));
    if let Some(given) = request.model.clone().or_else(|| given.filter(|name| desk.model(name).is_ok())) {
        return (Sourced { logged: named, used: Some(given), source: Some("given".into()) }, None);
    }
    let Some(name) = named else {
        return (Sourced::default(), Some("the log names no model: --model".to_owned()));
    };
    let title = log.sheet.resolved.get("general.name").and_then(Value::as_str);
    let tries = names(engine, &name).into_iter().chain(title.map(str::to_owned));
    let used = tries.into_iter().find(|name| desk.model(name).is_ok());
    if let Some(used) = &used
        && *used != name
    {
        notes.push(format!("the log's model {name} is planned as {used}"));
    }
    let asked = used.is_none().then(|| format!("the log's model {name} is not known here: --model"));
    let source = used.as_ref().map(|_| "log".into());
    (Sourced { logged: Some(name), used, source }, asked)
}

/// The forms of a model's name: as it stands, a hub cache's folder, the last parts of a path.
fn names(engine: EngineKind, name: &str) -> Vec<String> {
    let mut out = vec![name.to_owned()];
    let slashes = name.replace('\\', "/");
    let parts: Vec<&str> = slashes.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(cached) = parts.iter().find_map(|part| part.strip_prefix("models--")) {
        out.push(cached.replacen("--", "/", 1));
    }
    // A file's header is needed for its formats; a bare name says nothing of those.
    if parts.len() > 2 && !matches!(engine, EngineKind::LlamaCpp | EngineKind::Ollama) {
        out.push(parts[parts.len() - 2..].join("/"));
        out.extend(parts.last().map(|last| (*last).to_owned()));
    }
    out
}

/// The card: as given, or the log's name; and its total, where the log's says something else than the catalogue.
fn card(
    log: &Log,
    request: &ReconcileRequest,
    desk: &Desk<'_>,
    notes: &mut Vec<String>,
) -> (Sourced, Option<u64>, Option<String>) {
    let logged = log.sheet.gpus.first().map(|gpu| gpu.name.clone());
    let total = log.sheet.last(What::Total).and_then(|reading| Some((reading.bytes?, reading.half)));
    if request.gpu.is_some() || request.gpu_total_bytes.is_some() {
        let used = request.gpu.clone();
        let exact = request.gpu_total_bytes.or_else(|| {
            let (bytes, half) = total?;
            let known = desk.gpu(used.as_deref()?.split(':').next()?).ok()?.total()?;
            // The same card with another driver differs by a little; more is another card, which is worth showing.
            let near = bytes.abs_diff(known.bytes.get()) <= known.bytes.get() / 50;
            let inside =
                bytes.saturating_add(half) >= known.low.get() && bytes <= known.high.get().saturating_add(half);
            (near && !inside).then_some(bytes)
        });
        return (Sourced { logged, used, source: Some("given".into()) }, exact, None);
    }
    let used = logged.as_deref().and_then(|name| cards(name).into_iter().find(|name| desk.gpu(name).is_ok()));
    let known = used.as_deref().and_then(|name| desk.gpu(name).ok()).and_then(|gpu| gpu.total());
    let exact = total.filter(|(bytes, half)| {
        known.as_ref().is_none_or(|known| {
            bytes.saturating_add(*half) < known.low.get() || *bytes > known.high.get().saturating_add(*half)
        })
    });
    let asked = match (&used, total) {
        (Some(_), _) => None,
        (None, Some((bytes, _))) => {
            let size = plimsoll_units::Bytes::new(bytes);
            notes.push(format!("planned for a card of {size}, as the log prints it"));
            Some("the log does not name the card: --gpu (its kind decides some defaults and estimates)".to_owned())
        }
        (None, None) => Some("the log does not name the card: --gpu, or --gpu-memory".to_owned()),
    };
    let source = (used.is_some() || exact.is_some()).then_some("log".into());
    (Sourced { logged, used, source }, exact.map(|(bytes, _)| bytes), asked)
}

/// The forms of a card's name: as it stands, without the maker, without words that say no more.
fn cards(name: &str) -> Vec<String> {
    let plain = |words: &[&str]| {
        let kept = name.split([' ', '_']).filter(|word| !words.contains(word));
        kept.collect::<Vec<_>>().join(" ")
    };
    vec![
        name.to_owned(),
        plain(&["AMD", "NVIDIA", "Edition", "GPU"]),
        plain(&["AMD", "NVIDIA", "Edition", "GPU", "Generation", "80GB", "HBM3", "HBM3e", "Laptop"]),
    ]
}
