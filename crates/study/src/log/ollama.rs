//! What does Ollama print? Its placement, what each device holds, the server's settings; its runner's lines are llama.cpp's.
//!
//! Sources (message texts): Ollama 0.1.40 to 0.33, `llm/memory.go`, `llm/server.go`, `ml/backend.go`, `ml/device.go`,
//! `ml/backend/ggml/ggml.go`, `discover/types.go`, `server/routes.go`, `runner/ollamarunner/runner.go`,
//! `llm/llama_server.go`; the form is that of Go's `log/slog` text handler.

use std::collections::BTreeMap;

use serde_json::Value;

use super::llamacpp::offloaded;
use super::number::{size, whole};
use super::{Found, Read, RefusalKind, Sheet, What};

pub(super) const MARKS: &[(&str, Read)] = &[
    (" msg=", message),
    ("\" msg=", message),
    ("Listening on ", listening),
    ("model requires more system memory", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("model request too large for system", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("llama runner process has terminated", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
];

/// `… msg="Listening on 127.0.0.1:11434 (version 0.11.4)"`.
fn listening(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some((_, rest)) = found.after().split_once("(version ") else { return false };
    sheet.begin();
    sheet.version(rest.split(')').next().unwrap_or_default())
}

/// Reads the attributes of one line: `msg="kv cache" device=CUDA0 size="936.0 MiB"`.
fn attributes(text: &str) -> BTreeMap<&str, String> {
    let mut out = BTreeMap::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        if key.is_empty() || key.len() > 80 || key.contains(['"', ' ']) || out.len() >= 128 {
            break;
        }
        let (value, next) = value(after);
        out.insert(key, value);
        rest = next.trim_start();
    }
    out
}

/// A bare or quoted value, and what stands behind it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut out = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (out, &quoted[at + 1..]),
            '\\' => match letters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, other)) => out.push(other),
                None => break,
            },
            other => out.push(other),
        }
    }
    (out, "")
}

/// Sorts a line by its message.
fn message(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let before = found.before();
    if !before.contains("source=") && !before.contains("level=") {
        return false;
    }
    let line = attributes(found.text[found.at..].trim_start_matches(['"', ' ']));
    let get = |key: &str| line.get(key).map(String::as_str);
    let bytes = |key: &str| get(key).and_then(size);
    let Some(said) = get("msg") else { return false };
    match said {
        "model weights" | "kv cache" | "compute graph" => {
            let what = match said {
                "model weights" => What::Weights,
                "kv cache" => What::KvBytes,
                _ => What::Compute,
            };
            let device = get("device").or_else(|| get("buffer")).or_else(|| get("buffer_type"));
            found.size_on(sheet, what, device, bytes("size"))
        }
        "total memory" => found.size(sheet, What::Required, bytes("size")),
        "inference compute" => {
            if let Some(name) = get("description").or_else(|| get("name")).filter(|name| !name.is_empty()) {
                sheet.gpu(name, None, found.number);
            }
            let device = get("id");
            found.size_on(sheet, What::FreeAtStart, device, bytes("available"));
            found.size_on(sheet, What::Total, device, bytes("total"))
        }
        "gpu memory" => found.size_on(sheet, What::FreeAtStart, get("id"), bytes("free")),
        "starting llama server" | "starting runner" | "starting llama-server" => started(get("cmd"), found, sheet),
        "load" => request(get("request"), sheet),
        "server config" => environment(get("env"), sheet),
        "vram-based default context" => {
            if let Some(length) = get("default_num_ctx").and_then(whole) {
                sheet.resolve("default_num_ctx", Value::from(length));
            }
            true
        }
        said if said == "offload" || said.starts_with("offload to ") => placement(found, sheet, &line),
        said if said.starts_with("offloaded ") => {
            let at = found.text.find("offloaded ").unwrap_or(found.at);
            offloaded(&Found { at, end: at + "offloaded ".len(), ..*found }, sheet)
        }
        _ => matches!(said, "llama runner started" | "loading model via llama-server" | "entering low vram mode"),
    }
}

/// `msg=offload library=cuda layers.requested=-1 layers.model=49 layers.offload=48 memory.available="[11.1 GiB]" …`.
fn placement(found: &Found<'_>, sheet: &mut Sheet, line: &BTreeMap<&str, String>) -> bool {
    let get = |key: &str| line.get(key).map(String::as_str);
    for (key, what) in [
        ("memory.required.full", What::RequiredFull),
        ("memory.required.partial", What::Required),
        ("memory.required.kv", What::KvBytes),
        ("memory.weights.total", What::Weights),
        ("memory.graph.full", What::GraphFull),
        ("memory.graph.partial", What::GraphPartial),
        ("projector.weights", What::Projector),
    ] {
        found.size(sheet, what, get(key).and_then(size));
    }
    let available = get("memory.available").unwrap_or_default().trim_matches(['[', ']']);
    let mut words = available.split(' ');
    for at in 0..64 {
        let (Some(number), Some(unit)) = (words.next(), words.next()) else { break };
        found.size_on(sheet, What::FreeAtStart, Some(&format!("GPU {at}")), size(&format!("{number} {unit}")));
    }
    found.whole(sheet, What::LayersTotal, get("layers.model").and_then(whole));
    found.whole(sheet, What::LayersOffloaded, get("layers.offload").and_then(whole))
}

/// The runner's command: the model's blob and its settings.
fn started(command: Option<&str>, found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some(command) = command else { return false };
    if sheet.last(What::LayersOffloaded).is_some_and(|reading| reading.line < found.number) || sheet.launches == 0 {
        sheet.launches = sheet.launches.max(1);
    }
    let words: Vec<&str> = command.split_whitespace().collect();
    let of = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
    if let Some(model) = of("--model").or_else(|| of("-m")) {
        sheet.model = Some(model.chars().take(1024).collect());
    }
    for (flag, key) in [
        ("--ctx-size", "ctx_size"),
        ("-c", "ctx_size"),
        ("--batch-size", "batch_size"),
        ("-b", "batch_size"),
        ("--parallel", "parallel"),
        ("-np", "parallel"),
        ("--n-gpu-layers", "n_gpu_layers"),
        ("-ngl", "n_gpu_layers"),
        ("--kv-cache-type", "cache_type_k"),
    ] {
        if let Some(value) = of(flag) {
            let value = whole(value).map_or_else(|| Value::from(value), Value::from);
            sheet.resolve(key, value);
        }
    }
    true
}

/// `{Operation:commit LoraPath:[] Parallel:1 BatchSize:512 FlashAttention:true KvSize:4096 KvCacheType: …}`.
fn request(request: Option<&str>, sheet: &mut Sheet) -> bool {
    let Some(request) = request else { return false };
    let of = |key: &str| {
        let rest = super::number::after(request, key)?;
        Some(rest.split([' ', '}']).next().unwrap_or_default())
    };
    for (key, name) in [("Parallel:", "parallel"), ("BatchSize:", "batch_size"), ("KvSize:", "ctx_size")] {
        if let Some(number) = of(key).and_then(whole).filter(|number| *number > 0) {
            sheet.resolve(name, Value::from(number));
        }
    }
    if let Some(on @ ("true" | "false")) = of("FlashAttention:") {
        sheet.resolve("flash_attn", Value::from(on == "true"));
    }
    if let Some(kind) = of("KvCacheType:").filter(|kind| !kind.is_empty()) {
        sheet.resolve("cache_type_k", Value::from(kind));
    }
    request.contains("Operation:") || request.contains("KvSize:")
}

/// `map[… OLLAMA_CONTEXT_LENGTH:4096 OLLAMA_NUM_PARALLEL:1 …]`.
fn environment(env: Option<&str>, sheet: &mut Sheet) -> bool {
    let Some(env) = env else { return false };
    let mut found = serde_json::Map::new();
    for name in [
        "OLLAMA_CONTEXT_LENGTH",
        "OLLAMA_FLASH_ATTENTION",
        "OLLAMA_GPU_OVERHEAD",
        "OLLAMA_KV_CACHE_TYPE",
        "OLLAMA_NEW_ENGINE",
        "OLLAMA_NUM_PARALLEL",
        "OLLAMA_SCHED_SPREAD",
    ] {
        let value = super::number::after(env, &format!("{name}:")).and_then(|rest| rest.split([' ', ']']).next());
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.insert(name.to_owned(), Value::from(value));
        }
    }
    let any = !found.is_empty();
    sheet.resolve("env", Value::Object(found));
    any
}
