//! How does it read? The engine's own log lines and refusals, and the command that starts the launch.

use serde_json::Value;

use super::assess::{Assessed, Case};
use super::flags::FLAGS;
use super::pools::Refused;
use crate::{Logged, Version};

const fn at(minor: u16, patch: u16) -> Version {
    Version::new(0, minor, patch)
}

/// GiB, which logs call GB.
const GIB: f64 = 1_073_741_824.0;

/// A fraction as Python prints it, without a tail of rounding.
pub(super) fn number(fraction: f64) -> String {
    let text = format!("{fraction:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What the engine says before it stops, word for word where it says it itself.
///
/// SGLang 0.5.23, `srt/mem_cache/kv_cache_configurator.py` and `srt/model_executor/pool_configurator.py`; 0.5.9,
/// `srt/model_executor/model_runner_kv_cache_mixin.py` and `cuda_graph_runner.py`; 0.5.3, `model_runner.py`.
pub(super) fn refusal(assessed: &Assessed) -> Option<String> {
    let resolved = &assessed.resolved;
    let version = resolved.version;
    let share = &assessed.shares[assessed.scarcest];
    if share.now.bytes.get() == 0 {
        return Some("CUDA out of memory (while the weights are loaded)".to_owned());
    }
    match assessed.pools.refused {
        Some(Refused::Nothing) if version >= at(5, 14) && share.rest[1] <= 0.0 => {
            let pre = share.pre.bytes.as_f64().max(1.0);
            let least = 1.0 - share.now.bytes.as_f64() / pre;
            Some(format!(
                "Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static={}. Raise \
                 --mem-fraction-static above {:.3} (minimum viable = 1 - available/pre = {least:.4}). If using \
                 speculative decoding, draft weights are now counted.",
                number(resolved.fraction),
                (least * 1000.0).ceil() / 1000.0
            ))
        }
        Some(Refused::Nothing) => {
            let base = "Not enough memory. Please try to increase --mem-fraction-static.";
            let current = number(resolved.fraction);
            Some(if version >= at(5, 11) {
                format!("{base} Current value: mem_fraction_static={current}")
            } else if version >= at(5, 8) {
                format!("{base} Current value: self.server_args.mem_fraction_static={current}")
            } else {
                base.to_owned()
            })
        }
        Some(Refused::States) => Some(format!(
            "Not enough GPU memory for hybrid (mamba/linear-attention) state cache. Computed max_mamba_cache_size={} \
             (total_rest_memory={:.2} GB, mamba_cache_per_req={:.2} MB).",
            assessed.pools.slots.unwrap_or(0),
            share.rest[1] / GIB,
            share.state.bytes() as f64 / 1_048_576.0
        )),
        Some(Refused::Window) => Some(format!(
            "SWA pool ({} tokens) cannot hold even one request: the prefill admission floor is sliding_window_size ({}) + \
             page_size ({}). Increase --swa-full-tokens-ratio or the total KV budget.",
            assessed.pools.swa_tokens.unwrap_or(0),
            share.cells.window,
            resolved.page
        )),
        None if assessed.holds() => None,
        None => {
            let graphs = if version >= at(5, 14) { "--cuda-graph-max-bs-decode" } else { "--cuda-graph-max-bs" };
            let running = share.entries.iter().filter(|entry| entry.item == crate::Item::Activation);
            let activation: f64 = running.map(|entry| entry.size.bytes.as_f64()).sum();
            Some(if share.slack[1] + activation < 0.0 && resolved.graph_max > 0 {
                format!(
                    "Capture cuda graph failed: CUDA out of memory. Possible solutions: 1. set --mem-fraction-static to a \
                     smaller value (e.g., 0.8 or 0.7) 2. set {graphs} to a smaller value (e.g., 16)"
                )
            } else {
                "CUDA out of memory (while a prefill of chunked_prefill_size tokens runs)".to_owned()
            })
        }
    }
}

/// The lines that the release prints about its pools.
///
/// SGLang 0.5.23, `srt/mem_cache/memory_pool.py`, `srt/mem_cache/swa_memory_pool.py`, `srt/managers/scheduler.py`; 0.5.9 and
/// 0.4.7, the same files.
pub(super) fn logged(case: &Case<'_>, assessed: &Assessed) -> Logged {
    let (resolved, pools) = (&assessed.resolved, &assessed.pools);
    let share = &assessed.shares[assessed.scarcest];
    let cells = &share.cells;
    let gib = |bytes: f64| bytes / GIB;
    let mut lines = Vec::new();
    if !assessed.starts() {
        return Logged { kv_tokens: Some(pools.tokens), gib: Some(0.0), blocks: None, concurrency: None, lines };
    }
    if let Some(slots) = pools.slots {
        let padded = (slots + 1) as f64;
        lines.push(format!(
            "Mamba Cache is allocated. max_mamba_cache_size: {slots}, conv_state size: {:.2}GB, ssm_state size: {:.2}GB ",
            gib(padded * share.state.conv as f64),
            gib(padded * share.state.ssm as f64)
        ));
    }
    let dtype =
        if resolved.version >= at(5, 18) { format!(" dtype: torch.{},", resolved.kv.name()) } else { String::new() };
    let pool = |tokens: u64, keys: u64, values: u64| {
        let slots = (tokens + resolved.page) as f64;
        if cells.single {
            format!(
                "KV Cache is allocated.{dtype} #tokens: {tokens}, KV size: {:.2} GB",
                gib(slots * (cells.held) as f64)
            )
        } else {
            format!(
                "KV Cache is allocated.{dtype} #tokens: {tokens}, K size: {:.2} GB, V size: {:.2} GB",
                gib(slots * keys as f64),
                gib(slots * values as f64)
            )
        }
    };
    if let Some(swa) = pools.swa_tokens {
        let name = if resolved.version >= at(5, 9) { "sliding" } else { "Sliding" };
        lines
            .push(format!("Use {name} window memory pool. full_layer_tokens={}, swa_layer_tokens={swa}", pools.tokens));
        lines.push(pool(swa, cells.swa_keys, cells.swa_values));
        lines.push(pool(pools.tokens, cells.full_keys, cells.full_values));
    } else if cells.compressed.is_none() {
        lines.push(pool(pools.tokens, cells.full_keys, cells.full_values));
    }
    let table = super::pools::table(resolved, case.options, pools) as f64;
    let left = share.now.bytes.as_f64() - share.kv.as_f64() - table;
    lines.push(format!("Memory pool end. avail mem={:.2} GB", gib(left.max(0.0))));
    let graphs: f64 = share
        .entries
        .iter()
        .filter(|entry| entry.item == crate::Item::Graphs)
        .map(|entry| entry.size.bytes.as_f64())
        .sum();
    lines.push(format!(
        "max_total_num_tokens={}, chunked_prefill_size={}, max_prefill_tokens={}, max_running_requests={}, context_len={}, \
         available_gpu_mem={:.2} GB",
        pools.tokens,
        resolved.worker_chunk.map_or("-1".to_owned(), |chunk| chunk.to_string()),
        resolved.max_prefill,
        pools.requests,
        resolved.context,
        gib((left - graphs - 0.55 * GIB).max(0.0))
    ));
    let rounded = |number: f64| (number * 100.0).round() / 100.0;
    Logged {
        kv_tokens: Some(pools.tokens),
        gib: Some(rounded(gib(share.kv.as_f64()))),
        blocks: None,
        concurrency: None,
        lines,
    }
}

/// The command that starts this launch.
pub(super) fn launch(case: &Case<'_>) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(Value::Object(env)) = case.options.given.get("env") {
        for (name, value) in env {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            words.push(format!("{name}={text}"));
        }
    }
    words.extend(["python3", "-m", "sglang.launch_server", "--model-path"].map(str::to_owned));
    words.push(case.model.id.clone());
    for (name, value) in &case.options.given {
        if !matches!(name.as_str(), "env" | "model" | "model_path") && FLAGS.named(name).is_some() {
            FLAGS.write(name, value, &mut words);
        }
    }
    words
}
