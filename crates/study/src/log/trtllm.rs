//! What does TensorRT-LLM print? Both backends: engine size, context memory, buffers, the profile's parts, the cache. Its MB
//! and GB are binary.
//!
//! Sources (message texts): TensorRT-LLM 0.8 to 1.3, `cpp/tensorrt_llm/batch_manager/kvCacheManager.cpp`,
//! `cpp/tensorrt_llm/runtime`, `tensorrt_llm/_torch/pyexecutor/_util.py`, `tensorrt_llm/logger.py`; the forms are those of
//! the project's memory guide.

use serde_json::Value;

use super::number::{after, decimal, size, size_after, size_before, whole, whole_after};
use super::{Found, Read, RefusalKind, Sheet, What, arguments};

pub(super) const MARKS: &[(&str, Read)] = &[
    ("TensorRT-LLM version: ", |found, sheet| version(found, sheet)),
    ("TensorRT LLM version: ", |found, sheet| version(found, sheet)),
    ("LlmArgs(", args),
    ("LLM Args:", |_, _| true),
    ("Using LLM with PyTorch backend", |found, sheet| backend(found, sheet, "pytorch")),
    ("Using LLM with TensorRT backend", |found, sheet| backend(found, sheet, "tensorrt")),
    ("Engine version ", |found, sheet| {
        let text = found.after();
        let version = text.split(" found").next().filter(|version| version.len() < text.len());
        version.is_some_and(|version| sheet.version(version)) && backend(found, sheet, "tensorrt")
    }),
    // The engine backend.
    ("Loaded engine size: ", |found, sheet| found.size(sheet, What::Weights, size(found.after()))),
    (" for execution context memory", |found, sheet| allocated(found, sheet, What::Activation)),
    (" GPU memory for runtime buffers", |found, sheet| allocated(found, sheet, What::RuntimeBuffers)),
    (" GPU memory for decoder", |found, sheet| allocated(found, sheet, What::RuntimeDecoder)),
    ("Memory usage when calculating max tokens in paged kv cache: ", |found, sheet| {
        found.size(sheet, What::Total, size_after(found.after(), "total: "));
        found.size(sheet, What::FreeBeforeKv, size_after(found.after(), "available: "))
    }),
    ("Number of blocks in KV cache primary pool: ", |found, sheet| {
        found.whole(sheet, What::KvBlocks, whole(found.after()))
    }),
    ("Max KV cache blocks per sequence: ", |found, sheet| {
        found.whole(sheet, What::BlockTokens, whole_after(found.after(), "tokens per block="));
        found.whole(sheet, What::KvBlocks, whole_after(found.after(), "primary blocks="))
    }),
    ("Max KV cache pages per sequence: ", |_, _| true),
    ("Number of tokens per block: ", |found, sheet| {
        found.whole(sheet, What::BlockTokens, whole(found.after().trim_end_matches('.')))
    }),
    (" for max tokens in paged KV cache (", |found, sheet| {
        found.whole(sheet, What::KvTokens, whole(found.after()));
        allocated(found, sheet, What::KvBytes)
    }),
    (" for k/v cache", |found, sheet| {
        let before = found.before();
        found.size(sheet, What::KvBytes, before.rfind("Allocate ").and_then(|at| size(&before[at + 9..])))
    }),
    (" tokens in paged KV cache", |found, sheet| {
        let before = found.before();
        found.whole(sheet, What::KvTokens, before.rfind("Using ").and_then(|at| whole(&before[at + 6..])))
    }),
    // The PyTorch backend.
    ("Memory used after loading model weights (inside torch) in memory usage profiling: ", |found, sheet| {
        torch(found, sheet, What::Weights)
    }),
    ("Memory used for model weights (inside torch) in memory usage profiling: ", |found, sheet| {
        torch(found, sheet, What::Weights)
    }),
    ("Memory used after loading model weights (outside torch) in memory usage profiling: ", |found, sheet| {
        torch(found, sheet, What::NonTorchLoaded)
    }),
    ("Memory dynamically allocated during inference (inside torch) in memory usage profiling: ", |found, sheet| {
        torch(found, sheet, What::Activation)
    }),
    ("Memory used outside torch (e.g., NCCL and CUDA graphs) in memory usage profiling: ", |found, sheet| {
        torch(found, sheet, What::NonTorch)
    }),
    ("Peak memory during memory usage profiling (torch + non-torch): ", peak),
    ("Estimated max memory in KV cache : ", |found, sheet| torch(found, sheet, What::KvBudget)),
    ("Estimated max tokens in KV cache : ", |found, sheet| found.whole(sheet, What::KvTokens, whole(found.after()))),
    ("max_num_requests=", settings),
    // Refusals.
    ("Failed to allocate memory for KV cache", |found, sheet| found.refusal(sheet, RefusalKind::NoCache)),
    ("Error Code 2: OutOfMemory", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("OutOfMemory (Requested size was ", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("cudaMalloc(ptr, n): out of memory", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
];

fn version(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let text = found.after().trim_start();
    let end = text.find([' ', ',', ')', '\'']).unwrap_or(text.len());
    sheet.version(&text[..end])
}

fn backend(found: &Found<'_>, sheet: &mut Sheet, name: &'static str) -> bool {
    sheet.resolve("backend", Value::from(name));
    sheet.sign(if name == "pytorch" { "pytorch" } else { "tensorrt" }, found.number, String::new())
}

/// `TorchLlmArgs(model='…', tensor_parallel_size=8, kv_cache_config=KvCacheConfig(…), …)`.
fn args(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let mut options = arguments(&found.text[found.at..]);
    if let Some(Value::String(model)) = options.remove("model") {
        sheet.model = Some(model);
    }
    options.retain(|_, value| !value.is_null());
    let any = !options.is_empty();
    sheet.launch_options(options);
    any
}

/// `[MemUsageChange] Allocated 63.44 GiB …`: what stands before the mark.
fn allocated(found: &Found<'_>, sheet: &mut Sheet, what: What) -> bool {
    sheet.launches = sheet.launches.max(1);
    let before = found.before();
    before.contains("Allocated") && found.size(sheet, what, size_before(before))
}

fn torch(found: &Found<'_>, sheet: &mut Sheet, what: What) -> bool {
    sheet.resolve("backend", Value::from("pytorch"));
    found.size(sheet, what, size(found.after()))
}

/// `Peak memory … : 113.65 GiB, available KV cache memory when calculating max tokens: 5.95 GiB, fraction is set 0.9, kv size
/// is 73728. device total memory 119.70 GiB, , tmp kv_mem 0.56 GiB`.
fn peak(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let text = found.after();
    let fraction = after(text, "fraction is set ").and_then(decimal).map(|(value, _, _)| value);
    found.size(sheet, What::KvBudget, size_after(text, "when calculating max tokens: "));
    found.count(sheet, What::Fraction, fraction);
    found.whole(sheet, What::KvPerToken, whole_after(text, "kv size is "));
    found.size(sheet, What::Total, size_after(text, "device total memory "));
    found.size(sheet, What::TemporaryKv, size_after(text, "tmp kv_mem "));
    torch(found, sheet, What::Peak)
}

/// `max_seq_len=131072, max_num_requests=2048, max_num_tokens=8192, max_batch_size=64`.
fn settings(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let mut any = false;
    for key in ["max_seq_len", "max_num_tokens", "max_batch_size"] {
        if let Some(number) = whole_after(found.text, &format!("{key}=")) {
            sheet.resolve(key, Value::from(number));
            any = true;
        }
    }
    any
}
