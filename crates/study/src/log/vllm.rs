//! What does vLLM print? Weights, the profile's parts, the budget, blocks and tokens, graphs, arguments, refusals.
//!
//! Sources (message texts): vLLM 0.6.3 `worker/worker.py`, `worker/model_runner.py`, `engine/llm_engine.py`,
//! `executor/gpu_executor.py`; 0.8.5 and 0.9.2 `worker/worker.py`, `executor/executor_base.py`; 0.8.5 to 0.33.0
//! `v1/worker/gpu_worker.py`, `v1/worker/gpu_model_runner.py`, `v1/worker/utils.py`, `v1/core/kv_cache_utils.py`,
//! `v1/core/kv_cache_planning.py`, `utils/mem_utils.py`, `entrypoints/common/startup.py`.

use serde_json::{Map, Value};

use super::number::{after, decimal, size, size_after, whole, whole_after};
use super::{Found, Read, RefusalKind, Sheet, What, arguments};

pub(super) const MARKS: &[(&str, Read)] = &[
    // Beginnings, releases, arguments.
    ("vLLM API server version ", |found, sheet| begin(found, sheet, true)),
    ("vLLM server version ", |found, sheet| begin(found, sheet, true)),
    ("LLM engine (v", engine),
    ("█  version ", |found, sheet| version(found, sheet)),
    ("█  model   ", |found, sheet| named_model(found, sheet)),
    ("non-default args: ", args),
    ("args: Namespace(", args),
    ("Using max model len ", |found, sheet| resolved(found, sheet, "max_model_len")),
    ("Chunked prefill is enabled with max_num_batched_tokens=", |found, sheet| {
        resolved(found, sheet, "max_num_batched_tokens")
    }),
    ("is assigned as DP rank ", |_, _| true),
    // Weights.
    ("Model loading took ", |found, sheet| found.size(sheet, What::Weights, size(found.after()))),
    ("Loading model weights took ", |found, sheet| {
        found.size(sheet, What::Weights, size(found.after().trim_start_matches("in total ")))
    }),
    ("model weights take ", |found, sheet| found.size(sheet, What::Weights, size(found.after()))),
    // The profile.
    ("Memory profiling results: ", results),
    ("total_gpu_memory (", instance),
    ("non_torch_memory takes ", |found, sheet| found.size(sheet, What::NonTorch, size(found.after()))),
    ("PyTorch activation peak memory takes ", |found, sheet| found.size(sheet, What::Activation, size(found.after()))),
    ("the rest of the memory reserved for KV Cache is ", |found, sheet| {
        found.size(sheet, What::KvBudget, size(found.after()))
    }),
    ("torch peak memory increase: ", |found, sheet| found.size(sheet, What::Activation, size(found.after()))),
    ("non-torch forward increase memory: ", |found, sheet| found.size(sheet, What::NonTorch, size(found.after()))),
    ("total consumed (from mem_get_info): ", |found, sheet| found.size(sheet, What::Consumed, size(found.after()))),
    ("Initial free memory", initial_free),
    ("Free memory on device", on_device),
    ("Available KV cache memory: ", |found, sheet| found.size(sheet, What::KvBudget, size(found.after()))),
    ("Available memory: ", |found, sheet| found.size(sheet, What::KvBudget, size(found.after()))),
    // The cache.
    (" KV cache size: ", tokens),
    ("# GPU blocks: ", |found, sheet| found.whole(sheet, What::KvBlocks, whole(found.after()))),
    ("# cuda blocks: ", |found, sheet| found.whole(sheet, What::KvBlocks, whole(found.after()))),
    ("# rocm blocks: ", |found, sheet| found.whole(sheet, What::KvBlocks, whole(found.after()))),
    ("# xpu blocks: ", |found, sheet| found.whole(sheet, What::KvBlocks, whole(found.after()))),
    ("# CPU blocks: ", |found, sheet| found.whole(sheet, What::CpuBlocks, whole(found.after()))),
    ("Maximum concurrency for ", concurrency),
    ("Overriding num_gpu_blocks=", overriding),
    ("Setting attention block size to ", |found, sheet| found.whole(sheet, What::BlockTokens, whole(found.after()))),
    // Graphs and compilation.
    ("Graph capturing finished in ", |found, sheet| {
        found.size(sheet, What::Graphs, size_after(found.after(), "took "))
    }),
    ("CUDA graph pool memory: ", pool),
    ("Estimated CUDA graph memory: ", |found, sheet| found.size(sheet, What::GraphsEstimated, size(found.after()))),
    ("torch.compile takes ", |found, sheet| seconds(found, sheet)),
    ("torch.compile took ", |found, sheet| seconds(found, sheet)),
    ("Directly load the compiled graph", |found, sheet| sign(found, sheet, "warm_compile")),
    ("Directly load AOT compilation", |found, sheet| sign(found, sheet, "warm_compile")),
    ("Compiling a graph for ", |found, sheet| sign(found, sheet, "cold_compile")),
    ("Using V2 Model Runner", |found, sheet| sign(found, sheet, "runner_v2")),
    ("Loading drafter model", |found, sheet| sign(found, sheet, "draft")),
    ("Free memory grew by ", |found, sheet| sign(found, sheet, "unsteady")),
    // Refusals.
    ("No available memory for the cache blocks", |found, sheet| found.refusal(sheet, RefusalKind::NoCache)),
    ("To serve at least one request with the model", |found, sheet| found.refusal(sheet, RefusalKind::ContextTooLong)),
    ("The model's max seq len (", |found, sheet| found.refusal(sheet, RefusalKind::ContextTooLong)),
    ("Error in memory profiling", |found, sheet| found.refusal(sheet, RefusalKind::Unsteady)),
];

/// A server or engine says its release.
fn begin(found: &Found<'_>, sheet: &mut Sheet, server: bool) -> bool {
    if server {
        sheet.begin();
        sheet.sign("server", found.number, String::new());
    }
    let model = after(found.after(), "serving model ").map(|model| model.trim().to_owned());
    sheet.model = model.or_else(|| sheet.model.take());
    version(found, sheet)
}

fn version(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after = found.after().trim_start();
    let end = after.find([' ', ',', ')']).unwrap_or(after.len());
    sheet.version(&after[..end])
}

fn named_model(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let model = found.after().trim();
    if !model.is_empty() {
        sheet.model = Some(model.chars().take(512).collect());
    }
    !model.is_empty()
}

/// `Initializing a V1 LLM engine (v0.11.0) with config: model='…', …`.
fn engine(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    if !found.before().contains("Initializing a") {
        return false;
    }
    if !sheet.signs.contains_key("server") && sheet.has_rank(found.rank) {
        sheet.begin();
    } else if sheet.launches == 0 {
        sheet.launches = 1;
    }
    let read = version(found, sheet);
    if found.before().contains("V1") {
        sheet.sign("v1", found.number, String::new());
    } else {
        sheet.sign("v0", found.number, String::new());
    }
    let Some(config) = after(found.after(), "with config: ") else { return read };
    for (key, value) in renamed(arguments(config)) {
        if key == "model" {
            sheet.model = value.as_str().map(str::to_owned).or_else(|| sheet.model.take());
        } else {
            sheet.resolve(&key, value);
        }
    }
    true
}

/// The engine's resolved settings by their flags' names; what it prints as `None` or `auto` says nothing.
fn renamed(config: Map<String, Value>) -> Map<String, Value> {
    const KEPT: [(&str, &str); 14] = [
        ("model", "model"),
        ("max_seq_len", "max_model_len"),
        ("dtype", "dtype"),
        ("tensor_parallel_size", "tensor_parallel_size"),
        ("pipeline_parallel_size", "pipeline_parallel_size"),
        ("data_parallel_size", "data_parallel_size"),
        ("decode_context_parallel_size", "decode_context_parallel_size"),
        ("quantization", "quantization"),
        ("enforce_eager", "enforce_eager"),
        ("kv_cache_dtype", "kv_cache_dtype"),
        ("enable_prefix_caching", "enable_prefix_caching"),
        ("chunked_prefill_enabled", "enable_chunked_prefill"),
        ("enable_chunked_prefill", "enable_chunked_prefill"),
        ("speculative_config", "speculative_config"),
    ];
    let mut out = Map::new();
    for (key, name) in KEPT {
        match config.get(key) {
            Some(Value::String(text)) if text == "auto" => {}
            Some(Value::String(text)) => {
                out.insert(name.to_owned(), Value::from(text.trim_start_matches("torch.")));
            }
            Some(Value::Null) | None => {}
            Some(value) => {
                out.insert(name.to_owned(), value.clone());
            }
        }
    }
    out
}

/// The command line's arguments: those that are no defaults, or (before 0.9) all of them.
fn args(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let text = if found.text[found.at..].starts_with("args: ") { &found.text[found.at + 6..] } else { found.after() };
    let mut options = arguments(text);
    let model = ["model", "model_tag"].iter().filter_map(|key| options.remove(*key)).find(Value::is_string);
    if let Some(Value::String(model)) = model {
        sheet.model = Some(model);
    }
    for key in ["model_tag", "subparser", "dispatch_function"] {
        options.remove(key);
    }
    options.retain(|_, value| !value.is_null());
    if options.is_empty() && sheet.model.is_none() {
        return false;
    }
    sheet.launch_options(options);
    true
}

fn resolved(found: &Found<'_>, sheet: &mut Sheet, key: &str) -> bool {
    let Some(number) = whole(found.after().trim_end_matches('.')) else { return false };
    sheet.resolve(key, Value::from(number));
    true
}

fn sign(found: &Found<'_>, sheet: &mut Sheet, word: &'static str) -> bool {
    sheet.sign(word, found.number, found.excerpt())
}

fn seconds(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    found.count(sheet, What::CompileSeconds, decimal(found.after()).map(|(value, _, _)| value))
}

/// 0.6: `Memory profiling results: total_gpu_memory=23.64GiB initial_memory_usage=… kv_cache_size=…`.
fn results(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let mut any = false;
    for (key, what) in [
        ("total_gpu_memory=", What::Total),
        ("initial_memory_usage=", What::UsedAtStart),
        ("non_torch_memory=", What::NonTorch),
        ("peak_torch_memory=", What::Peak),
        ("kv_cache_size=", What::KvBudget),
    ] {
        any |= found.size(sheet, what, size_after(found.after(), key));
    }
    let fraction = after(found.after(), "gpu_memory_utilization=").and_then(decimal).map(|(value, _, _)| value);
    found.count(sheet, What::Fraction, fraction) || any
}

/// `total_gpu_memory (79.11GiB) x gpu_memory_utilization (0.90) = 71.20GiB`.
fn instance(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after_mark = found.after();
    let fraction = after(after_mark, "gpu_memory_utilization (").and_then(decimal).map(|(value, _, _)| value);
    let any = found.size(sheet, What::Total, size(after_mark));
    found.count(sheet, What::Fraction, fraction);
    found.size(sheet, What::Limit, size_after(after_mark, ") = ")) || any
}

/// `Initial free memory: 78.6 GiB; Requested memory: 0.9 (util), 71.2 GiB`, or `Initial free memory 78.6 GiB, reserved
/// 10.0 GiB memory for KV Cache as specified by kv_cache_memory_bytes config`.
fn initial_free(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after_mark = found.after();
    let any = found.size(sheet, What::FreeAtStart, size(after_mark));
    found.size(sheet, What::Limit, size_after(after_mark, "(util), "));
    if after_mark.contains("memory for KV Cache as specified by") {
        found.size(sheet, What::KvForced, size_after(after_mark, "reserved "));
    }
    any
}

/// The summary after start-up, or the refusal before it: both begin `Free memory on device (78.6/79.2 GiB) on startup`.
fn on_device(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let text = found.after();
    let Some((_, pair)) = text.split_once('(') else { return false };
    let Some((free, total)) = pair.split_once('/') else { return false };
    let free = size(&format!("{free} GiB"));
    if !found.size(sheet, What::FreeAtStart, free) {
        return false;
    }
    found.size(sheet, What::Total, size(total));
    let desired = after(text, "GPU memory utilization is (").or_else(|| after(text, "GPU memory utilization ("));
    if let Some((fraction, _, rest)) = desired.and_then(decimal) {
        found.count(sheet, What::Fraction, Some(fraction));
        found.size(sheet, What::Limit, size(rest.trim_start_matches([',', ' '])));
    }
    if text.contains("is less than") {
        return found.refusal(sheet, RefusalKind::NotFree);
    }
    let parts = after(text, "Actual usage is ").unwrap_or_default();
    let consumed = parts.contains("for consumed memory");
    found.size(sheet, if consumed { What::Consumed } else { What::Weights }, size(parts));
    for (words, what) in [
        (" for peak activation", What::Activation),
        (" for non-torch memory", What::NonTorch),
        (" for CUDAGraph memory", What::Graphs),
    ] {
        let before = parts.split(words).next().filter(|before| before.len() < parts.len());
        found.size(sheet, what, before.and_then(super::number::size_before));
    }
    found.size(sheet, What::KvBudget, size_after(text, "Current kv cache memory in use is "));
    true
}

/// `GPU KV cache size: 442,944 tokens`.
fn tokens(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after = found.after();
    if !after.contains("token") || found.before().ends_with("CPU") {
        return false;
    }
    found.whole(sheet, What::KvTokens, whole(after))
}

/// `Maximum concurrency for 8,192 tokens per request: 54.07x`.
fn concurrency(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let times = after(found.after(), "per request: ").and_then(decimal).map(|(value, _, _)| value);
    found.whole(sheet, What::ConcurrencyTokens, whole(found.after()));
    found.count(sheet, What::Concurrency, times)
}

/// `Overriding num_gpu_blocks=27684 with num_gpu_blocks_override=512`.
fn overriding(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    found.whole(sheet, What::BlocksForced, whole_after(found.after(), "num_gpu_blocks_override="))
}

/// `CUDA graph pool memory: 0.61 GiB (actual), 0.58 GiB (estimated), …`.
fn pool(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    found.size(sheet, What::GraphsEstimated, size_after(found.after(), "(actual), "));
    found.size(sheet, What::Graphs, size(found.after()))
}
