//! Do Ollama's own estimates come out to the printed digit? The estimator's lines recomputed from the shapes of the models
//! and the weights that the same lines give.

use std::fmt::Write as _;

use plimsoll_plan::Version;
use plimsoll_plan::engine::ollama::estimate::{self, Estimate, Gpu, MINIMUM, Request};
use plimsoll_plan::engine::ollama::graph::{Load, graph_size};
use plimsoll_plan::engine::ollama::show::{human_binary, weights};
use plimsoll_plan::engine::ollama::sizes::{More, Sizes};
use serde_json::Value;

use super::row::Row;

/// A model's shape and a launch's settings, for the rows whose inputs are known.
struct Known {
    /// Part of the thread, and the layers with the output, which name the row.
    row: (&'static str, u64),
    arch: &'static str,
    /// Embedding, heads, key/value heads, head width, vocabulary, window.
    shape: [u64; 6],
    /// Context and sequences.
    load: (u64, u64),
    /// Bytes of a cached number.
    element: f64,
    version: Version,
    /// Where they are known from.
    why: &'static str,
    /// Why some numbers cannot be met, where that is so.
    excuse: &'static str,
}

const KNOWN: [Known; 7] = [
    Known {
        row: ("#9181", 81),
        arch: "llama",
        shape: [8192, 64, 8, 128, 128_256, 0],
        load: (64_000, 1),
        element: 2.0,
        version: Version::new(0, 5, 11),
        why: "n_ctx in the row; kv and graphs are those of Llama-70B's shape",
        excuse: "",
    },
    Known {
        row: ("#8430", 49),
        arch: "gemma3",
        shape: [3840, 16, 8, 256, 262_144, 1024],
        load: (25_000, 1),
        element: 2.0,
        version: Version::new(0, 7, 0),
        why: "gemma3-12b; the context is the one that gives the row's kv",
        excuse: "",
    },
    Known {
        row: ("16886763421", 33),
        arch: "llama",
        shape: [4096, 32, 8, 128, 128_256, 0],
        load: (2048, 4),
        element: 2.0,
        version: Version::new(0, 9, 6),
        why: "llama3-8b; four sequences of the default context on a processor",
        excuse: "",
    },
    Known {
        row: ("36824876052", 33),
        arch: "llama",
        shape: [4096, 32, 8, 128, 32_768, 0],
        load: (2048, 4),
        element: 2.0,
        version: Version::new(0, 3, 8),
        why: "mistral-7b v0.3; n_ctx of all sequences in the row",
        excuse: "",
    },
    Known {
        row: ("47389440014", 25),
        arch: "llama",
        shape: [2048, 32, 32, 64, 49_152, 0],
        load: (2048, 4),
        element: 2.0,
        version: Version::new(0, 6, 0),
        why: "SmolLM2-1.7B's shape; four sequences of the default context",
        excuse: "",
    },
    Known {
        row: ("#9818", 63),
        arch: "gemma3",
        shape: [5376, 32, 16, 128, 262_144, 1024],
        load: (2048, 1),
        element: 1.0,
        version: Version::new(0, 6, 2),
        why: "gemma3-27b; a q8_0 cache at the default context gives the row's kv",
        excuse: "Q4_K_M's layers differ in size, and a 29th fits 11.0 GiB by 0.02",
    },
    Known {
        row: ("#10740", 65),
        arch: "qwen3",
        shape: [5120, 64, 8, 128, 151_936, 0],
        load: (32_768, 1),
        element: 2.0,
        version: Version::new(0, 7, 0),
        why: "Qwen3-32B Q6_K, whose layers take 24.3 GiB; n_ctx in the row",
        excuse: "67.3 GiB is what 0.6.8 says: 0.7.0 keeps the largest group of tensors as its buffer, so the version is wrong",
    },
];

/// Rows of which nothing can be recomputed, or that are wrong, and why.
const NAMED: [(&str, &str); 11] = [
    ("#12403", "buffers of llama.cpp on three V100s: the context and the cards' free memory are not stated"),
    ("#16480", "llama-server's own cache (checked by the llama.cpp rows): 9306 MiB"),
    ("#17482", "llama-server's breakdown without its context"),
    ("#10114", "model buffers alone, of an embedding model that is not named"),
    ("#11090", "weights alone; the file is not at hand"),
    ("9104848948", "Metal; the model is not named"),
    ("46549402413", "the Ollama engine on a processor: 48 layers × 4096 × 2048 B = 384 MiB holds"),
    ("docs#211", "the model is one of two"),
    ("ollama37", "a fork"),
    ("36670199026", "the context is not stated, and no other line fixes it"),
    ("#10553", "a vision graph of the Ollama engine, which it measures"),
];

/// Compares every row; true when all that can be recomputed is equal.
pub fn report(rows: &[&Row], text: &mut String) -> bool {
    let (mut equal, mut all, mut left, mut excused) = (0, 0, 0, 0);
    for row in rows {
        let value = row.value();
        let thread = row.thread();
        let layers = value.get("layers_model").and_then(Value::as_u64);
        let Some(known) = KNOWN.iter().find(|k| thread.contains(k.row.0) && layers == Some(k.row.1)) else {
            let why =
                NAMED.iter().find(|(part, _)| thread.contains(part)).map_or("no estimate in the row", |(_, why)| why);
            let _ = writeln!(text, "  line {:2} left: {why}", row.line);
            left += 1;
            continue;
        };
        let checks = checks(value, known);
        let good = checks.iter().filter(|check| check.equal).count();
        let _ = writeln!(text, "  line {:2} {good} of {} equal ({})", row.line, checks.len(), known.why);
        if good < checks.len() && !known.excuse.is_empty() {
            let _ = writeln!(text, "          known: {}", known.excuse);
            excused += checks.len() - good;
        }
        for check in checks.iter().filter(|check| !check.equal) {
            let _ = writeln!(text, "          {}: {} instead of {}", check.key, check.ours, check.logged);
        }
        equal += good;
        all += checks.len();
    }
    let _ = writeln!(
        text,
        "  estimates equal to the printed digit: {equal} of {all}, {excused} with a known reason; {left} rows left"
    );
    equal + excused == all
}

/// Repeating layers and output of Qwen3-32B in Q6_K, whose row does not give them: 6.5625 bits for 31.98 billion numbers.
const QWEN3_32B_Q6_K: u64 = 26_240_000_000;
/// Its output: 151 936 × 5120 numbers.
const QWEN3_32B_OUTPUT: u64 = 638_131_200;

struct Check {
    key: &'static str,
    ours: String,
    logged: String,
    equal: bool,
}

fn checks(row: &Value, known: &Known) -> Vec<Check> {
    let [embedding, heads, heads_kv, width, vocabulary, window] = known.shape;
    let count = known.row.1 - 1;
    let logged = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let bytes = |key: &str| logged(key).and_then(|text| text.parse::<plimsoll_units::Bytes>().ok()).map(|b| b.get());
    let output = bytes("memory_weights_nonrepeating").unwrap_or(QWEN3_32B_OUTPUT);
    let mut sizes = Sizes {
        arch: known.arch.to_owned(),
        layers: vec![0; count as usize],
        output: Some(output),
        token_embd: output,
        embedding,
        heads: vec![heads; count as usize],
        heads_kv: vec![heads_kv; count as usize],
        key: width,
        value: width,
        head: embedding / heads,
        vocabulary,
        vision: bytes("projector_weights").unwrap_or(0),
        more: More { window, vision_graph: bytes("projector_graph").unwrap_or(0), ..More::default() },
        ..Sizes::default()
    };
    let load = Load { context: known.load.0, batch: 512, parallel: known.load.1, element: known.element, flash: false };
    let graph = graph_size(&sizes, &load, known.version);
    // What the release's line calls the sum, turned round.
    let [kv, ..] = weights(&Sizes::default(), graph.kv_total(), known.version);
    let with_output = if known.version < Version::new(0, 6, 3) { 0 } else { output };
    let total = bytes("memory_weights_total").unwrap_or(QWEN3_32B_Q6_K);
    sizes.layers = vec![total.saturating_sub(kv + with_output) / count; count as usize];
    let gpus = gpus(row);
    let found = estimate(&sizes, &gpus, row, load, known.version);
    let mut checks = Vec::new();
    let mut compare = |key: &'static str, ours: String| {
        if let Some(logged) = logged(key) {
            let equal = ours == logged || near(&ours, &logged, key);
            checks.push(Check { key, ours, logged, equal });
        }
    };
    compare("memory_required_kv", human_binary(graph.kv_total()));
    compare("memory_graph_full", human_binary(found.graph_full));
    compare("memory_graph_partial", human_binary(found.graph_partial));
    compare("memory_required_full", human_binary(found.full));
    if gpus.iter().all(|gpu| gpu.minimum > 0) {
        compare("memory_required_partial", human_binary(found.partial));
        let list: Vec<String> = found.allocations.iter().map(|bytes| human_binary(*bytes)).collect();
        compare("memory_required_allocations", format!("[{}]", list.join(" ")));
        let split: Vec<String> = found.split.iter().map(u64::to_string).collect();
        compare("layers_split", split.join(","));
        if let Some(layers) = row.get("layers_offload").and_then(Value::as_u64) {
            let equal = layers == found.layers;
            checks.push(Check {
                key: "layers_offload",
                ours: found.layers.to_string(),
                logged: layers.to_string(),
                equal,
            });
        }
    }
    checks
}

fn estimate(sizes: &Sizes, gpus: &[Gpu], row: &Value, load: Load, version: Version) -> Estimate {
    // A number that was only echoed back (all layers) caps nothing.
    let asked = row.get("layers_requested").and_then(Value::as_i64).and_then(|layers| u64::try_from(layers).ok());
    let request = Request { load, layers: asked, overhead: 0, projector: 0, metal: false, version };
    estimate::estimate(sizes, gpus, &request)
}

/// The devices as the row gives their free memory; a processor has no minimum.
fn gpus(row: &Value) -> Vec<Gpu> {
    let text = row.get("memory_available").and_then(Value::as_str);
    // Three cards of 23.3 GiB, where the row says them in words.
    let text = text.unwrap_or("[23.3 GiB 23.3 GiB 23.3 GiB]");
    let processor = row.get("gpus").and_then(Value::as_str) == Some("CPU");
    let numbers: Vec<f64> = text.trim_matches(['[', ']']).split(' ').filter_map(|word| word.parse().ok()).collect();
    let gpu = |gib: &f64| Gpu { free: (gib * 1_073_741_824.0) as u64, minimum: if processor { 0 } else { MINIMUM } };
    numbers.iter().map(gpu).collect()
}

/// Sums of logged weights carry the rounding of their parts: a tenth of a GiB for each device.
fn near(ours: &str, logged: &str, key: &str) -> bool {
    let sums = ["memory_required_full", "memory_required_partial", "memory_required_allocations"];
    if !sums.contains(&key) {
        return false;
    }
    let numbers = |text: &str| -> Vec<f64> {
        text.trim_matches(['[', ']']).split(' ').filter_map(|word| word.parse().ok()).collect()
    };
    let (ours, logged) = (numbers(ours), numbers(logged));
    ours.len() == logged.len() && ours.iter().zip(&logged).all(|(a, b)| (a - b).abs() <= 0.15 + 0.002 * b)
}
