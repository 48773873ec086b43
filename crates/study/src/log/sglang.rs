//! What does SGLang print? Free memory at each step, weights, pools, graphs, arguments, refusals. Its GB are 2^30.
//!
//! Sources (message texts): SGLang 0.4.6 to 0.5.23, `model_executor/model_runner.py`, `mem_cache/memory_pool.py`,
//! `mem_cache/swa_memory_pool.py`, `mem_cache/kv_cache_configurator.py`, `managers/scheduler.py`,
//! `model_executor/model_runner_components/{cuda_graph_setup,kv_pool_runtime}.py`, `speculative/eagle_worker_v2.py`,
//! `entrypoints/engine.py`.

use serde_json::Value;

use super::number::{size, size_after, whole, whole_after};
use super::{Found, Read, RefusalKind, Sheet, What, arguments};

pub(super) const MARKS: &[(&str, Read)] = &[
    ("server_args=", args),
    ("Init torch distributed ends.", |found, sheet| {
        found.size(sheet, What::Comms, size_after(found.after(), "mem usage="))
    }),
    ("Load weight begin.", |found, sheet| {
        found.size(sheet, What::FreeAtStart, size_after(found.after(), "avail mem="))
    }),
    ("Load weight end.", loaded),
    ("KV Cache is allocated.", cache),
    ("SWAKVPool mem usage: ", |found, sheet| {
        found.whole(sheet, What::KvTokensWindow, whole_after(found.after(), "swa size: "));
        found.size(sheet, What::KvBytes, size(found.after()))
    }),
    ("Use sliding window memory pool.", |found, sheet| {
        found.whole(sheet, What::KvTokensWindow, whole_after(found.after(), "swa_layer_tokens="));
        found.whole(sheet, What::KvTokens, whole_after(found.after(), "full_layer_tokens="))
    }),
    ("Mamba Cache is allocated.", mamba),
    ("Memory pool end. avail mem=", |found, sheet| found.size(sheet, What::FreeAfterKv, size(found.after()))),
    ("raph end.", graphs),
    ("raph end with ", graphs),
    ("max_total_num_tokens=", totals),
    ("sglang version: ", |found, sheet| {
        let version = found.after();
        sheet.version(version.split([' ', ',']).next().unwrap_or_default())
    }),
    ("sglang: ", |found, sheet| found.before().trim().is_empty() && sheet.version(found.after().trim())),
    ("Not enough memory. Please try to increase --mem-fraction-static", |found, sheet| {
        found.refusal(sheet, RefusalKind::NoCache)
    }),
    ("Loaded weights leave no GPU memory for the KV cache", |found, sheet| found.refusal(sheet, RefusalKind::NoCache)),
    ("cuda graph failed: ", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("The memory capacity is unbalanced", |found, sheet| sheet.sign("unbalanced", found.number, found.excerpt())),
];

/// `server_args=ServerArgs(model_path='…', tp_size=4, …)`: every argument, defaults resolved.
fn args(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after = found.after();
    if !after.starts_with("ServerArgs(") && !after.starts_with('{') {
        return false;
    }
    sheet.begin();
    let mut options = arguments(after);
    if let Some(Value::String(model)) = options.remove("model_path") {
        sheet.model = Some(model);
    }
    options.retain(|_, value| !value.is_null());
    sheet.launch_options(options);
    true
}

/// `Load weight end. type=…, avail mem=61.9 GB, mem usage=15.2 GB.`; older releases leave the usage out.
fn loaded(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let free = size_after(found.after(), "avail mem=");
    let usage = size_after(found.after(), "mem usage=");
    let before = sheet.lists(What::FreeAtStart).filter_map(<[_]>::last).filter(|reading| reading.rank == found.rank);
    let derived = before.last().and_then(|reading| {
        let free = free?;
        let bytes = reading.bytes?.checked_sub(free.bytes)?;
        Some(super::number::Size { bytes, half: reading.half.saturating_add(free.half) })
    });
    let second = sheet.lasts(What::Weights).any(|reading| reading.rank == found.rank);
    let what = if second { What::WeightsDraft } else { What::Weights };
    let any = found.size(sheet, What::FreeAfterWeights, free);
    found.size(sheet, what, usage.or(derived)) || any
}

/// `KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB` or `…, KV size: 48.01 GB`.
fn cache(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after = found.after();
    let tokens = whole_after(after, "#tokens: ");
    let (k, v) = (size_after(after, "K size: "), size_after(after, "V size: "));
    let both = size_after(after, "KV size: ").or_else(|| {
        let (k, v) = (k?, v?);
        Some(super::number::Size { bytes: k.bytes.saturating_add(v.bytes), half: k.half.saturating_add(v.half) })
    });
    // A hybrid model's pools come one after the other, a draft model's after the target's graphs.
    let any = found.whole(sheet, What::KvTokens, tokens);
    found.size(sheet, What::KvBytes, both) || any
}

/// `Mamba Cache is allocated. max_mamba_cache_size: 64, conv_state size: 0.06GB, ssm_state size: 3.05GB …`.
fn mamba(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let mut any = false;
    for word in
        ["conv_state size: ", "ssm_state size: ", "intermediate_ssm_state_cache size: ", "conv_window_cache size: "]
    {
        any |= found.size(sheet, What::State, size_after(found.after(), word));
    }
    any
}

/// `Capture cuda graph end. Time elapsed: 7.23 s. mem usage=0.93 GB. avail mem=0.53 GB.`, and its later forms.
fn graphs(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    if !found.before().contains("Capture ") && !found.before().contains("aptur") {
        return false;
    }
    found.size(sheet, What::Graphs, size_after(found.after(), "mem usage="))
}

/// `max_total_num_tokens=46611, chunked_prefill_size=2048, max_prefill_tokens=16384, max_running_requests=2049, …`.
fn totals(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after = found.after();
    if !after.contains("max_running_requests=") && !after.contains("max_prefill_tokens=") {
        return false;
    }
    if let Some(chunk) = whole_after(after, "chunked_prefill_size=") {
        sheet.resolve("chunked_prefill_size", Value::from(chunk));
    }
    found.whole(sheet, What::MaxRunning, whole_after(after, "max_running_requests="));
    found.whole(sheet, What::ContextLength, whole_after(after, "context_len="));
    found.size(sheet, What::FreeAtEnd, size_after(after, "available_gpu_mem="));
    found.whole(sheet, What::KvTokens, whole(after))
}
