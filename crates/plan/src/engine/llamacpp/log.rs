//! What will the engine print?

use super::buffer::Where;
use super::cache::Role;
use super::context::Flash;
use super::layout::{Laid, Site};

/// Returns the lines of the log that speak of memory.
pub fn lines(site: &Site<'_>, laid: &Laid) -> Vec<String> {
    let mut lines = Vec::new();
    let (layers, context) = (laid.placed.layers.len() + 1, &laid.context);
    if !site.cards.is_empty() {
        lines.push(format!("load_tensors: offloaded {}/{layers} layers to GPU", laid.offloaded()));
    }
    for (place, bytes) in laid.placed.sums.iter().filter(|(_, bytes)| *bytes > 0) {
        if place == Where::Host && site.host.mapped {
            let mapped = laid.placed.spans.iter().filter(|span| **span > 0);
            lines.extend(mapped.map(|span| model_line("CPU_Mapped", *span)));
        } else {
            lines.push(model_line(&place.name(), bytes));
        }
    }
    for (key, value) in [
        ("n_seq_max", context.sequences),
        ("n_ctx", context.tokens),
        ("n_ctx_seq", context.tokens_seq),
        ("n_batch", context.batch),
        ("n_ubatch", context.ubatch),
    ] {
        lines.push(format!("llama_context: {key:<13} = {value}"));
    }
    let flash = match context.flash {
        Flash::Off => "disabled",
        Flash::On => "enabled",
        Flash::Auto => "auto",
    };
    lines.push(format!("llama_context: {:<13} = {flash}", "flash_attn"));
    lines.push(format!("llama_context: {:<13} = {}", "kv_unified", context.streams == 1 && context.asked.unified));
    let output = if laid.placed.output == Where::Host { "CPU" } else { "CUDA_Host" };
    lines.push(format!(
        "llama_context: {output:>10}  output buffer size = {:>8.2} MiB",
        mib(context.output_bytes(&site.h))
    ));
    cache_lines(laid, &mut lines);
    for (at, size) in laid.compute.gpus.iter().enumerate() {
        lines.push(compute_line(&format!("CUDA{at}"), size.bytes.get()));
    }
    let host = if site.cards.is_empty() { "CPU" } else { "CUDA_Host" };
    lines.push(compute_line(host, laid.compute.host.bytes.get()));
    if let Some((nodes, splits)) = laid.compute.graph {
        lines.push(format!("sched_reserve: graph: nodes = {nodes}, splits = {splits}"));
    }
    lines
}

/// The cache's lines, part by part.
fn cache_lines(laid: &Laid, lines: &mut Vec<String>) {
    let (context, windows) = (&laid.context, laid.cache.part(Role::Window).is_some());
    for part in &laid.cache.parts {
        let recurrent = part.role == Role::Recurrent;
        let name = if recurrent { "llama_memory_recurrent" } else { "llama_kv_cache" };
        if windows && matches!(part.role, Role::Full | Role::Window) {
            let kind = if part.role == Role::Full { "non-SWA" } else { "    SWA" };
            lines.push(format!("llama_kv_cache_iswa: creating {kind} KV cache, size = {} cells", part.cells));
        }
        for (place, bytes) in part.sums.iter() {
            let kind = if recurrent { "RS" } else { "KV" };
            lines.push(format!("{name}: {:>10} {kind} buffer size = {:>8.2} MiB", place.name(), mib(bytes)));
        }
        let all = mib(part.keys.saturating_add(part.values));
        let (k, v) = (mib(part.keys), mib(part.values));
        if recurrent {
            lines.push(format!(
                "{name}: size = {all:>7.2} MiB ({:>6} cells, {:>3} layers, {:>2} seqs), R (f32): {k:>7.2} MiB, S (f32): {v:>7.2} MiB",
                part.cells, laid.placed.layers.len(), context.sequences
            ));
        } else {
            lines.push(format!(
                "{name}: size = {all:>7.2} MiB ({:>6} cells, {:>3} layers, {:>2}/{} seqs), K ({}): {k:>7.2} MiB, V ({}): {v:>7.2} MiB",
                part.cells,
                part.layers,
                context.sequences,
                context.streams,
                context.asked.kind_k.name(),
                context.asked.kind_v.name(),
            ));
        }
    }
}

fn model_line(name: &str, bytes: u64) -> String {
    format!("load_tensors: {name:>12} model buffer size = {:>8.2} MiB", mib(bytes))
}

fn compute_line(name: &str, bytes: u64) -> String {
    format!("sched_reserve: {name:>10} compute buffer size = {:>8.2} MiB", mib(bytes))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
