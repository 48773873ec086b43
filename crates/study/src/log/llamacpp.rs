//! What does llama.cpp print? Buffers per device, the context's settings, the model file, the memory breakdown, failures.
//!
//! Sources (message texts): llama.cpp b3000 to b10573, `src/llama-model.cpp`, `src/llama-context.cpp`,
//! `src/llama-kv-cache.cpp`, `src/llama-kv-cache-iswa.cpp`, `src/llama-memory-recurrent.cpp`, `src/llama-model-loader.cpp`,
//! `src/llama-adapter.cpp`, `common/fit.cpp`, `ggml/src/ggml-cuda/ggml-cuda.cu`.

use serde_json::Value;

use super::number::{Size, after, decimal, scaled, size, size_after, whole};
use super::{Found, Read, RefusalKind, Sheet, What};

const MIB: f64 = 1_048_576.0;

pub(super) const MARKS: &[(&str, Read)] = &[
    ("build: ", |found, sheet| build(found, sheet)),
    ("build = ", |found, sheet| build(found, sheet)),
    ("build_info: b", |found, sheet| build(found, sheet)),
    ("version: b", |found, sheet| build(found, sheet)),
    ("key-value pairs and ", loader),
    (" buffer size = ", buffer),
    ("KV self size", |found, sheet| found.size(sheet, What::KvBytes, size(found.after()))),
    (" cells, ", cells),
    (": n_ctx ", |found, sheet| setting(found, sheet, "ctx_size")),
    (": n_batch ", |found, sheet| setting(found, sheet, "batch_size")),
    (": n_ubatch ", |found, sheet| setting(found, sheet, "ubatch_size")),
    (": n_seq_max ", |found, sheet| setting(found, sheet, "parallel")),
    (": kv_unified ", |found, sheet| truth(found, sheet, "kv_unified")),
    (": flash_attn ", |found, sheet| truth(found, sheet, "flash_attn")),
    ("offloaded ", offloaded),
    ("general.name ", |found, sheet| text(found, sheet, "general.name")),
    ("model type ", |found, sheet| text(found, sheet, "model type")),
    ("model params ", |found, sheet| text(found, sheet, "model params")),
    ("file type ", |found, sheet| text(found, sheet, "file type")),
    ("file size ", |found, sheet| found.size(sheet, What::FileSize, size(found.after()))),
    ("model size ", |found, sheet| found.size(sheet, What::FileSize, size(found.after()))),
    ("  Device ", device),
    ("using device ", using),
    ("memory_breakdown_print: |", breakdown),
    ("projected to use ", projected),
    ("cudaMalloc failed: out of memory", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("unable to allocate ", |found, sheet| {
        found.after().contains("buffer") && found.refusal(sheet, RefusalKind::OutOfMemory)
    }),
    ("failed to allocate compute", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("failed to fit params to free device memory", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
];

/// `build: 4719 (abc)`, `main: build = 3565 (abc)`, `build_info: b10573-0c1e57098`.
fn build(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some((number, fraction, rest)) = decimal(found.after()) else { return false };
    let commit = rest.starts_with(" (") || rest.starts_with('-');
    if fraction > 0 || !(1.0..60_000.0).contains(&number) || !commit {
        return false;
    }
    sheet.version(&format!("b{number}"))
}

/// `llama_model_loader: loaded meta data with 33 key-value pairs and 292 tensors from /models/m.gguf (version GGUF V3 …)`.
fn loader(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some(rest) = after(found.after(), "tensors from ") else { return false };
    let path = rest.split(" (version").next().unwrap_or(rest).trim();
    // A draft model or a projector is loaded after the model; a new launch comes after a cache.
    if sheet.last(What::KvBytes).is_some() && sheet.last(What::Compute).is_some() {
        sheet.begin();
    }
    sheet.launches = sheet.launches.max(1);
    if sheet.model.is_none() {
        sheet.model = Some(path.chars().take(1024).collect());
    }
    true
}

/// `CUDA0 model buffer size = 4685.30 MiB` and its brothers; before 2025 the model's line has no `model`.
fn buffer(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let mut words = found.before().split_whitespace().rev();
    let Some(kind) = words.next() else { return false };
    let (what, device) = match kind {
        "model" => (What::Weights, words.next()),
        "KV" => (What::KvBytes, words.next()),
        "RS" | "state" => (What::State, words.next()),
        "compute" => (What::Compute, words.next()),
        "output" => (What::Output, words.next()),
        "LoRA" => (What::Adapter, words.next()),
        device if found.before().contains("load_tensors:") => (What::Weights, Some(device)),
        _ => return false,
    };
    let device = device.map(|name| name.trim_end_matches(':'));
    found.size_on(sheet, what, device, size(found.after()))
}

/// `size = 4096.00 MiB ( 32768 cells, 32 layers, 1/1 seqs), K (f16): 2048.00 MiB, V (f16): 2048.00 MiB`.
fn cells(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some(open) = found.before().rfind('(') else { return false };
    if !found.before().contains("size = ") || found.after().contains("R (") {
        return false;
    }
    for (word, key) in [("K (", "cache_type_k"), ("V (", "cache_type_v")] {
        if let Some(kind) = after(found.after(), word).and_then(|rest| rest.split(')').next()) {
            sheet.resolve(key, Value::from(kind.trim()));
        }
    }
    found.whole(sheet, What::KvTokens, whole(&format!("{} ", &found.before()[open + 1..])))
}

/// `llama_context: n_ctx                 = 4096`.
fn setting(found: &Found<'_>, sheet: &mut Sheet, key: &str) -> bool {
    let Some(value) = found.after().trim_start().strip_prefix('=') else { return false };
    let Some(number) = whole(value) else { return false };
    sheet.resolve(key, Value::from(number));
    true
}

fn truth(found: &Found<'_>, sheet: &mut Sheet, key: &str) -> bool {
    let Some(value) = found.after().trim_start().strip_prefix('=') else { return false };
    let value = match value.trim() {
        "1" | "true" | "enabled" => Value::from(true),
        "0" | "false" | "disabled" => Value::from(false),
        "auto" => Value::from("auto"),
        _ => return false,
    };
    sheet.resolve(key, value);
    true
}

fn text(found: &Found<'_>, sheet: &mut Sheet, key: &str) -> bool {
    let Some(value) = found.after().trim_start().strip_prefix('=') else { return false };
    let value: String = value.trim().chars().take(200).collect();
    sheet.resolve(key, Value::from(value));
    true
}

/// `offloaded 33/33 layers to GPU`.
pub(super) fn offloaded(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some((placed, rest)) = found.after().split_once('/') else { return false };
    if !rest.contains("layers to GPU") {
        return false;
    }
    found.whole(sheet, What::LayersTotal, whole(rest));
    found.whole(sheet, What::LayersOffloaded, whole(placed))
}

/// `  Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes`.
fn device(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some((index, rest)) = found.after().split_once(": ") else { return false };
    let Some((name, rest)) = rest.split_once(", ") else { return false };
    let index = whole(index).and_then(|index| u32::try_from(index).ok());
    rest.contains("VMM") && index.is_some() && sheet.gpu(name, index, found.number)
}

/// `using device CUDA0 (NVIDIA GeForce RTX 3090) (0000:01:00.0) - 23305 MiB free`.
fn using(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let text = found.after();
    let Some((device, rest)) = text.split_once(" (") else { return false };
    let Some((before, _)) = text.rsplit_once(" MiB free") else { return false };
    let free = before.rsplit(' ').next().and_then(|number| size(&format!("{number} MiB")));
    let digits: String = device.chars().filter(char::is_ascii_digit).collect();
    let index = digits.parse().ok();
    sheet.gpu(rest.split(')').next().unwrap_or_default(), index, found.number);
    found.size_on(sheet, What::FreeAtStart, Some(device), free)
}

/// `|   - CUDA0 (RTX 4090) | 24080 = 17525 + (6083 = 5221 + 512 + 350) + 471 |`: total, free, self, model, context, compute,
/// unaccounted, all MiB.
fn breakdown(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let Some((name, numbers)) = found.after().split_once('|') else { return false };
    let Some(device) = name.trim().strip_prefix("- ") else { return found.after().contains("memory breakdown") };
    let device = device.split(' ').next().unwrap_or_default();
    let mut values: Vec<Size> = Vec::new();
    for word in numbers.split([' ', '=', '+', '(', ')', '|']).filter(|word| !word.is_empty()).take(8) {
        let Some(value) = decimal(word).and_then(|(value, fraction, _)| scaled(value, fraction, MIB)) else { break };
        // Whole MiB, cut rather than rounded.
        values.push(Size { half: value.half.saturating_mul(2), ..value });
    }
    let kinds: &[What] = match values.len() {
        7 => &[
            What::Total,
            What::FreeAtEnd,
            What::DeviceUsed,
            What::Weights,
            What::KvBytes,
            What::Compute,
            What::Unaccounted,
        ],
        4 => &[What::DeviceUsed, What::Weights, What::KvBytes, What::Compute],
        _ => return false,
    };
    let host = |name: &str| name.contains("Host") || name.contains("CPU");
    let same = |name: &str| name == device || (host(name) && host(device));
    let exact = |what| sheet.lasts(what).any(|reading| reading.device.as_deref().is_some_and(same));
    let known: Vec<bool> = kinds.iter().map(|what| exact(*what)).collect();
    for ((what, value), known) in kinds.iter().zip(values).zip(known) {
        // Whole MiB say less than the buffers' own lines.
        if !known {
            found.size_on(sheet, *what, Some(device), Some(value));
        }
    }
    true
}

/// `projected to use 6083 MiB of device memory vs. 23000 MiB of free device memory`.
fn projected(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    if !found.after().contains("device memory") {
        return false;
    }
    found.size(sheet, What::FreeAtStart, size_after(found.after(), "vs. "));
    found.size(sheet, What::Required, size(found.after()))
}
