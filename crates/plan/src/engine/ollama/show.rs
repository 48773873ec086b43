//! What would Ollama print? The estimator's log line, the layout's summary, and a row of `ollama ps`.
//!
//! Source: Ollama 0.12.10, `llm/memory.go`, `LogValue`; 0.29, `ml/device.go`, `Log`; fb3076099, `format/bytes.go`,
//! `cmd/cmd.go`, `ListRunningHandler`, `llm/llama_server.go`, `MemorySize`.

use super::estimate::{Estimate, Gpu, Request};
use super::sizes::Sizes;
use crate::Version;

/// Returns bytes as `format.HumanBytes2` writes them: binary units, one decimal.
///
/// ```
/// use plimsoll_plan::engine::ollama::show::human_binary;
/// assert_eq!(human_binary(671_088_640), "640.0 MiB");
/// assert_eq!(human_binary(0), "0 B");
/// ```
pub fn human_binary(bytes: u64) -> String {
    let of = |unit: u32| bytes as f64 / f64::from(unit);
    match bytes {
        0x4000_0000.. => format!("{:.1} GiB", of(1 << 30)),
        0x10_0000.. => format!("{:.1} MiB", of(1 << 20)),
        0x400.. => format!("{:.1} KiB", of(1 << 10)),
        _ => format!("{bytes} B"),
    }
}

/// Returns bytes as `format.HumanBytes` writes them: decimal units; from ten on whole numbers, rounded down.
///
/// ```
/// use plimsoll_plan::engine::ollama::show::human_decimal;
/// assert_eq!(human_decimal(6_650_000_000), "6.7 GB");
/// assert_eq!(human_decimal(29_900_000_000), "29 GB");
/// ```
pub fn human_decimal(bytes: u64) -> String {
    let (value, unit) = match bytes {
        1_000_000_000_000.. => (bytes as f64 / 1e12, "TB"),
        1_000_000_000.. => (bytes as f64 / 1e9, "GB"),
        1_000_000.. => (bytes as f64 / 1e6, "MB"),
        1_000.. => (bytes as f64 / 1e3, "KB"),
        _ => return format!("{bytes} B"),
    };
    if value >= 10.0 || value.fract() <= 0.0 {
        format!("{} {unit}", value as u64)
    } else {
        format!("{value:.1} {unit}")
    }
}

/// Returns the PROCESSOR column of `ollama ps`.
pub fn processor(total: u64, on_gpu: u64) -> String {
    if on_gpu == 0 {
        return "100% CPU".to_owned();
    }
    if on_gpu == total {
        return "100% GPU".to_owned();
    }
    if on_gpu > total {
        return "Unknown".to_owned();
    }
    let percent = ((total - on_gpu) as f64 / total as f64 * 100.0).round();
    format!("{percent}%/{}% CPU/GPU", (100.0 - percent) as u64)
}

/// Returns the row of `ollama ps`.
pub fn ps(name: &str, total: u64, on_gpu: u64, context: u64) -> String {
    let name = if name.contains(':') || name.ends_with(".gguf") { name.to_owned() } else { format!("{name}:latest") };
    format!("ollama ps: {name}    {}    {}    {context}", human_decimal(total), processor(total, on_gpu))
}

/// Returns what a release's line calls the weights: all, the repeating layers, the output. Before 0.6.1 the cache was
/// counted with the layers and the output taken off for the repeating ones; before 0.6.3 the output was not in the sum.
pub fn weights(sizes: &Sizes, kv: u64, version: Version) -> [u64; 3] {
    let (repeating, output) = (sizes.repeating(), sizes.output_layer());
    if version < Version::new(0, 6, 1) {
        let all = repeating.saturating_add(kv);
        [all, all.saturating_sub(output), output]
    } else if version < Version::new(0, 6, 3) {
        [repeating, repeating, output]
    } else {
        [repeating.saturating_add(output), repeating, output]
    }
}

/// Returns the estimator's line.
pub fn offload(sizes: &Sizes, gpus: &[Gpu], request: &Request, estimate: &Estimate) -> String {
    let list = |bytes: &mut dyn Iterator<Item = u64>| bytes.map(human_binary).collect::<Vec<_>>().join(" ");
    let split = if gpus.len() > 1 {
        estimate.split.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
    } else {
        String::new()
    };
    let requested = request.layers.map_or("-1".to_owned(), |layers| layers.to_string());
    let [all, repeating, output] = weights(sizes, estimate.kv, request.version);
    let mut line = format!(
        "msg=offload library=cuda layers.requested={requested} layers.model={} layers.offload={} layers.split=\"{split}\" \
         memory.available=\"[{}]\" memory.gpu_overhead=\"{}\" memory.required.full=\"{}\" memory.required.partial=\"{}\" \
         memory.required.kv=\"{}\" memory.required.allocations=\"[{}]\" memory.weights.total=\"{}\" \
         memory.weights.repeating=\"{}\" memory.weights.nonrepeating=\"{}\" memory.graph.full=\"{}\" \
         memory.graph.partial=\"{}\"",
        sizes.layers.len() + 1,
        estimate.layers,
        list(&mut gpus.iter().map(|gpu| gpu.free)),
        human_binary(request.overhead),
        human_binary(estimate.full),
        human_binary(estimate.partial),
        human_binary(estimate.kv),
        list(&mut estimate.allocations.iter().copied()),
        human_binary(all),
        human_binary(repeating),
        human_binary(output),
        human_binary(estimate.graph_full),
        human_binary(estimate.graph_partial),
    );
    if sizes.vision > 0 {
        let (weights, graph) = (human_binary(sizes.vision), human_binary(sizes.more.vision_graph));
        line.push_str(&format!(" projector.weights=\"{weights}\" projector.graph=\"{graph}\""));
    }
    line
}

/// What a runner holds, as its own log adds it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Buffers on GPUs.
    pub on_gpu: u64,
    /// All buffers.
    pub total: u64,
    /// Layers on GPUs and all layers, the output counted.
    pub layers: Option<(u64, u64)>,
    /// Weights that mirror the file: all model buffers but repacked ones.
    backed: u64,
    /// Of these the host's, which are mapped.
    mapped: u64,
}

impl Held {
    /// Returns the bytes that `ollama ps` goes by, all and on GPUs. A mapped host part spans what lies on GPUs too: what all
    /// weights exceed the file by is taken off. With every layer on GPUs, whole, the host's part is not counted.
    pub fn shown(&self, file: u64, whole: bool) -> (u64, u64) {
        if whole && self.layers.is_some_and(|(on, all)| on >= all) {
            return (self.on_gpu, self.on_gpu);
        }
        let twice = self.mapped.min(self.backed.saturating_sub(file));
        (self.total.saturating_sub(twice), self.on_gpu)
    }
}

/// Adds up the `buffer size` lines of llama.cpp's log as Ollama does: what is not named CPU, BLAS or a host's is a GPU's.
pub fn held(lines: &[String]) -> Held {
    let mut held = Held::default();
    for line in lines {
        if let Some((before, _)) = line.split_once(" layers to GPU")
            && let Some((_, numbers)) = before.rsplit_once("offloaded ")
            && let Some((on, all)) = numbers.split_once('/')
            && let (Ok(on), Ok(all)) = (on.trim().parse(), all.trim().parse())
        {
            held.layers = Some((on, all));
        }
        let Some((before, size)) = line.split_once("buffer size =") else { continue };
        let Some(mib) = size.trim().strip_suffix("MiB").and_then(|mib| mib.trim().parse::<f64>().ok()) else {
            continue;
        };
        let name =
            before.rsplit_once(':').map_or(before, |(_, rest)| rest).split_whitespace().next().unwrap_or_default();
        let bytes = if mib.is_finite() && mib > 0.0 { (mib * 1_048_576.0) as u64 } else { 0 };
        let host = name.starts_with("CPU") || name == "BLAS" || name.ends_with("_Host") || name == "Host";
        held.total = held.total.saturating_add(bytes);
        if before.trim_end().ends_with("model") && !name.contains("REPACK") {
            held.backed = held.backed.saturating_add(bytes);
            if name == "CPU_Mapped" {
                held.mapped = held.mapped.saturating_add(bytes);
            }
        }
        if !host {
            held.on_gpu = held.on_gpu.saturating_add(bytes);
        }
    }
    held
}
