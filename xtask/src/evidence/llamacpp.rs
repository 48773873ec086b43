//! How far are llama.cpp's buffers, as planned, from those that launches logged?
//!
//! Rows describe their launch in words: the cases below say which model, file type, build and command is meant. Rows
//! whose model is not named, or has no configuration here, are left out with the reason.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use plimsoll_facts::catalogue;
use plimsoll_facts::gguf::{FileType, from_model};
use plimsoll_facts::model::{Model, read};
use plimsoll_plan::engine::{Depth, Question, llamacpp};
use plimsoll_plan::{Card, Given, Plan, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Value, json};

use super::row::Row;
use super::sheet::Form;
use super::table::Pair;
use super::vllm::Target;

/// What one row's launch was.
struct Case {
    /// The end of its thread.
    thread: &'static str,
    /// A name of the catalogue, or a configuration.
    model: &'static str,
    /// File type; empty where the row does not say it, so that weights are not compared.
    file_type: &'static str,
    /// Build.
    build: u16,
    /// GPUs; none for the processor alone.
    gpus: u32,
    /// Flags.
    flags: &'static str,
    /// Why something is not compared, or is off.
    reason: &'static str,
}

const fn case(
    thread: &'static str,
    model: &'static str,
    file_type: &'static str,
    (build, gpus): (u16, u32),
    flags: &'static str,
    reason: &'static str,
) -> Case {
    Case { thread, model, file_type, build, gpus, flags, reason }
}

const LLAMA_1B: &str = r#"{"model_type":"llama","architectures":["LlamaForCausalLM"],"torch_dtype":"bfloat16",
"hidden_size":2048,"intermediate_size":8192,"num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,
"head_dim":64,"vocab_size":128256,"max_position_embeddings":131072,"tie_word_embeddings":true}"#;
const DOCLING: &str = r#"{"model_type":"llama","architectures":["LlamaForCausalLM"],"torch_dtype":"bfloat16",
"hidden_size":576,"intermediate_size":1536,"num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,
"vocab_size":100352,"max_position_embeddings":8192,"tie_word_embeddings":true}"#;
const QWEN3_8B: &str = r#"{"model_type":"qwen3","architectures":["Qwen3ForCausalLM"],"torch_dtype":"bfloat16",
"hidden_size":4096,"intermediate_size":12288,"num_hidden_layers":36,"num_attention_heads":32,"num_key_value_heads":8,
"head_dim":128,"vocab_size":151936,"max_position_embeddings":40960,"tie_word_embeddings":false}"#;
const GLM4_32B: &str = r#"{"model_type":"glm4","architectures":["Glm4ForCausalLM"],"torch_dtype":"bfloat16",
"hidden_size":6144,"intermediate_size":23040,"num_hidden_layers":61,"num_attention_heads":48,"num_key_value_heads":2,
"head_dim":128,"vocab_size":151552,"max_position_embeddings":32768,"tie_word_embeddings":false,
"partial_rotary_factor":0.5,"attention_bias":false,"hidden_act":"silu"}"#;

/// The launches of rows that say enough.
const CASES: [Case; 21] = [
    case(
        "1719643321 (yzma README)",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "Q2_K",
        (6700, 1),
        "-c 256 -ub 64 -np 1 -ngl 99",
        "",
    ),
    case(
        "14033481518",
        LLAMA_1B,
        "Q4_K_M",
        (4500, 0),
        "-c 1024 -np 1",
        "three backends on an Apple device: compute is not CUDA's",
    ),
    case(
        "18289010330 (WasmEdge WASI-NN log)",
        LLAMA_1B,
        "",
        (5850, 0),
        "-c 4096 -b 512 -fa off -np 1",
        "one copy of activations (2 MiB) more than the build of that day held",
    ),
    case("55054072975", "microsoft/Phi-3-mini-4k-instruct", "", (4500, 0), "-c 4096 -fa off -np 1", ""),
    case(
        "#8035",
        "meta-llama/Meta-Llama-3-70B-Instruct",
        "",
        (3200, 2),
        "-c 8192 -fa off -np 1 -ngl 78 -ts 46,32",
        "weights of an unnamed file type; the second GPU's compute buffer lies outside the excerpt",
    ),
    case("68664296548", "Qwen/Qwen3.5-27B", "", (9500, 1), "-c 24576 -np 1 -ngl 99", ""),
    case(
        "67225578011",
        "Qwen/Qwen3.5-27B",
        "",
        (9900, 1),
        "-c 32768 -np 1 -ngl 99 --spec-type draft-mtp --spec-draft-n-max 2",
        "",
    ),
    case("61038508484", "Qwen/Qwen3.5-35B-A3B", "", (9500, 1), "-c 65536 -np 2 -kvu --n-cpu-moe 28 -ngl 99", ""),
    case("61561819241", "Qwen/Qwen3.5-27B", "", (9500, 1), "-c 8192 -np 1 -ngl 99", ""),
    case(
        "#16424",
        "openai/gpt-oss-120b",
        "",
        (6700, 3),
        "-c 131072 -np 1 -ngl 99 -fa on",
        "32-bit masks over three overlapping GPUs: adjusted, not played through",
    ),
    case("17356702205", GLM4_32B, "", (5500, 1), "-c 32768 -np 1 -fa on -ngl 99", ""),
    case(
        "70867667190",
        "Qwen/Qwen3.5-27B",
        "",
        (11258, 1),
        "-c 196608 -np 1 -ngl 99",
        "weights in NVFP4 with the publisher's own mixture",
    ),
    case(
        "56781022437",
        "Qwen/Qwen3.5-27B",
        "",
        (9150, 1),
        "-c 131072 -np 4 -kvu -ctk q8_0 -ctv q8_0 -fa on -ngl 99",
        "32-bit masks, and a cache converted outside the buffer: adjusted, not played through",
    ),
    case("17418647323", "Qwen/Qwen3-0.6B", "", (5900, 0), "-c 4096 -np 2 -fa off", ""),
    case(
        "69853502080",
        "Qwen/Qwen3.5-35B-A3B",
        "",
        (10700, 1),
        "-c 32768 -np 1 -ngl 99 -fit off",
        "a dynamic file type; figures in whole MiB",
    ),
    case(
        "60383572070",
        "Qwen/Qwen3-0.6B",
        "Q8_0",
        (9500, 1),
        "-np 1 -ngl 99 -c 4096",
        "its batch is not known: compute is left out",
    ),
    case("#16678", DOCLING, "", (6750, 1), "-c 16384 -np 1 -ngl 99", ""),
    case(
        "#4957",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "Q8_0",
        (1900, 1),
        "-c 512 -np 1 -ngl 15 -fa off",
        "compute buffers of 2024-01 were laid out by an older allocator",
    ),
    case(
        "#4381",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "Q8_0",
        (1650, 1),
        "-c 512 -np 1 -ngl 22 -fa off",
        "scratch buffers of 2023 were laid out otherwise; separate experts in the file of that time",
    ),
    case("59166341735", QWEN3_8B, "Q4_K_M", (9000, 1), "-c 8192 -np 1 -ctk q4_0 -ctv q4_0 -fa on -ngl 99", ""),
    case("61605601838", "Qwen/Qwen3-32B", "Q4_K_M", (9000, 1), "-c 16384 -np 1 -fa off -ngl 99", ""),
];

/// What of a row's launch is not compared, by the end of its thread: the part, as in [`Outcome`].
const LEFT_OUT: [(&str, &str); 8] = [
    ("14033481518", "compute"),
    ("#8035", "compute"),
    ("60383572070", "compute"),
    ("#4957", "compute"),
    ("#4381", "compute"),
    ("#4381", "weights"),
    ("69853502080", "compute"),
    ("69853502080", "kv"),
];

/// What came of one row, MiB on all GPUs together (on the host for launches without one).
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Number of the line.
    pub line: usize,
    /// Thread.
    pub thread: String,
    /// Model as the row names it.
    pub model: String,
    /// Cache of keys and values.
    pub kv: Option<Pair>,
    /// Recurrent states.
    pub states: Option<Pair>,
    /// Model buffers on GPUs.
    pub weights: Option<Pair>,
    /// Compute buffers.
    pub compute: Option<Pair>,
    /// Model, cache and compute buffers together.
    pub total: Option<Pair>,
    /// What is known to explain a miss.
    pub reason: Option<String>,
    /// Why the row cannot be used.
    pub unusable: Option<String>,
}

/// Compares rows.
pub fn compare(rows: &[&Row]) -> Vec<Outcome> {
    rows.iter().map(|row| outcome(row)).collect()
}

fn outcome(row: &Row) -> Outcome {
    let mut outcome = Outcome {
        line: row.line,
        thread: row.thread().to_owned(),
        model: row.text("model").to_owned(),
        ..Outcome::default()
    };
    let Some(case) = CASES.iter().find(|case| row.thread().ends_with(case.thread)) else {
        let why = "the model is not named, has no configuration here, or the excerpt holds parts of buffers only";
        outcome.unusable = Some(why.to_owned());
        return outcome;
    };
    outcome.reason = (!case.reason.is_empty()).then(|| case.reason.to_owned());
    match launch(case) {
        Err(error) => outcome.unusable = Some(format!("{error:#}")),
        Ok(plan) => fill(&mut outcome, row.value(), case, &plan),
    }
    outcome
}

/// Plans a case.
fn launch(case: &Case) -> Result<Plan> {
    let model = model(case.model)?;
    let file_type = FileType::parse(if case.file_type.is_empty() { "Q4_K_M" } else { case.file_type });
    let gguf = from_model(&model, file_type.context("a file type")?)?;
    let device = if case.gpus == 0 { " -dev none" } else { "" };
    let command = format!("llama-server -m model.gguf {} -fit off{device}", case.flags);
    let options = plimsoll_api::launch::parse_str(&command).map_err(|error| anyhow!("{error}"))?.options;
    let card = Card {
        name: "a card".to_owned(),
        total: Estimate::exact(Bytes::gib(512.0), Source::Given),
        compute_capability: Some((8, 6)),
        sm_count: None,
        unified: false,
        count: case.gpus.max(1),
    };
    let version = Version::new(case.build, 0, 0);
    let question = Question {
        model: &model,
        gguf: Some(&gguf),
        companions: &[],
        cards: &[card],
        version,
        options: &options,
        given: &Given::default(),
        depth: Depth::Whole,
    };
    Ok(llamacpp::plan(&question)?)
}

fn model(text: &str) -> Result<Model> {
    if text.starts_with('{') {
        let config: Value = serde_json::from_str(text)?;
        return Ok(read("a logged model", &config, None)?);
    }
    Ok(catalogue::model(text)?.model)
}

/// The sizes in a plan's log lines, MiB by kind and buffer.
fn sizes(plan: &Plan) -> BTreeMap<(&'static str, String), f64> {
    let kinds = [
        ("weights", "model buffer size ="),
        ("kv", "KV buffer size ="),
        ("states", "RS buffer size ="),
        ("compute", "compute buffer size ="),
    ];
    let mut sizes = BTreeMap::new();
    for line in &plan.kv.logged.lines {
        for (kind, words) in kinds {
            let Some((head, tail)) = line.split_once(words) else { continue };
            let name = head.split_whitespace().last().unwrap_or_default().to_owned();
            let size = tail.trim().split(' ').next().and_then(|size| size.parse::<f64>().ok());
            *sizes.entry((kind, name)).or_insert(0.0) += size.unwrap_or(0.0);
        }
    }
    sizes
}

fn fill(outcome: &mut Outcome, row: &Value, case: &Case, plan: &Plan) {
    let sizes = sizes(plan);
    let is_host = |name: &str| name == "CPU" || name.ends_with("Host") || name == "CPU_Mapped" || name == "CPU_REPACK";
    let ours = |kind: &str, host: Option<bool>| {
        let mine = sizes.iter().filter(|((k, name), _)| *k == kind && host.is_none_or(|host| is_host(name) == host));
        mine.map(|(_, size)| size).sum::<f64>()
    };
    let on_host = case.gpus == 0;
    let theirs = |key: &str| -> Option<f64> {
        let buffers = row.get(key)?.as_object()?;
        let mine = buffers.iter().filter(|(name, _)| is_host(name) == on_host);
        let sizes: Vec<f64> = mine.filter_map(|(_, size)| size.as_f64()).collect();
        (!sizes.is_empty()).then(|| sizes.iter().sum())
    };
    let compared = |kind: &str| !LEFT_OUT.iter().any(|(thread, left)| case.thread.ends_with(thread) && *left == kind);
    let pair = |kind: &str, logged: Option<f64>, host: Option<bool>| {
        let logged = logged.filter(|_| compared(kind))?;
        Some(Pair { ours: ours(kind, host), logged })
    };
    let number = |pointer: &str| row.pointer(pointer).and_then(Value::as_f64);
    outcome.kv = pair("kv", number("/kv_total_mib"), None);
    outcome.states = pair("states", number("/rs_mib/total").or(number("/rs_mib/CUDA0")), None);
    outcome.compute = pair("compute", theirs("compute_buffer_mib"), Some(on_host));
    let weights = theirs("model_buffer_mib").filter(|_| !case.file_type.is_empty());
    outcome.weights = pair("weights", weights, Some(on_host));
    let on_gpus = theirs("kv_mib").filter(|_| !on_host);
    if let (Some(weights), Some(compute), Some(kv)) = (outcome.weights, outcome.compute, on_gpus) {
        outcome.total = Some(Pair {
            ours: weights.ours + compute.ours + ours("kv", Some(false)) + ours("states", Some(false)),
            logged: weights.logged + compute.logged + kv,
        });
    }
}

/// What the rows must show.
pub fn targets(rows: &[Outcome]) -> Vec<Target> {
    let exact = |pick: fn(&Outcome) -> Option<Pair>| {
        let pairs: Vec<Pair> = rows.iter().filter_map(pick).collect();
        // Logs round to two digits, and a sum of lines rounds line by line.
        let equal = pairs.iter().filter(|pair| pair.error() <= 0.05).count();
        100.0 * equal as f64 / pairs.len() as f64
    };
    let median = |pick: fn(&Outcome) -> Option<Pair>| {
        let mut errors: Vec<f64> = rows.iter().filter_map(pick).map(Pair::percent).collect();
        errors.sort_by(f64::total_cmp);
        errors.get(errors.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let (kv, states) = (exact(|row| row.kv), exact(|row| row.states));
    let (weights, compute, total) = (median(|row| row.weights), median(|row| row.compute), median(|row| row.total));
    vec![
        Target::new("llama.cpp KV equal to the log, % of rows", kv, "= 100", kv >= 100.0),
        Target::new("llama.cpp recurrent states equal, % of rows", states, "= 100", states >= 100.0),
        Target::new("llama.cpp model buffers, median error %", weights, "<= 0.5", weights <= 0.5),
        Target::new("llama.cpp compute buffers, median error %", compute, "<= 2", compute <= 2.0),
        Target::new("llama.cpp device memory, median error %", total, "<= 2", total <= 2.0),
    ]
}

/// Reports rows: each with what was planned and logged, and what explains a miss.
pub fn report(rows: &[Outcome], form: Form) -> String {
    let used = rows.iter().filter(|row| row.unusable.is_none());
    let cell = |pair: Option<Pair>| pair.map_or_else(String::new, |p| format!("{:.2}/{:.2}", p.ours, p.logged));
    let lines: Vec<Vec<String>> = used
        .clone()
        .map(|row| {
            vec![
                format!("{} {}", row.line, row.model),
                cell(row.kv),
                cell(row.states),
                cell(row.weights),
                cell(row.compute),
                cell(row.total),
            ]
        })
        .collect();
    let mut text = form.line(&format!("{} rows, {} usable; MiB planned/logged.", rows.len(), lines.len()));
    text.push_str(&form.heading("Buffers"));
    text.push_str(&form.wide(&["row", "kv", "states", "weights", "compute", "device"], &lines));
    text.push_str(&form.heading("What is known of misses"));
    for row in used {
        if let Some(reason) = &row.reason {
            text.push_str(&form.line(&format!("{} {}: {reason}", row.line, row.model)));
        }
    }
    text.push_str(&form.heading("Rows that are left out"));
    for row in rows.iter().filter(|row| row.unusable.is_some()) {
        let why = row.unusable.as_deref().unwrap_or_default();
        text.push_str(&form.line(&format!("{} {} ({}): {why}", row.line, row.model, row.thread)));
    }
    text
}

/// A row as JSON.
pub fn json(row: &Outcome) -> Value {
    let pair = |pair: Option<Pair>| pair.map(|p| json!({ "predicted": p.ours, "logged": p.logged }));
    json!({
        "line": row.line, "thread": row.thread, "model": row.model, "kv_mib": pair(row.kv),
        "states_mib": pair(row.states), "weights_mib": pair(row.weights), "compute_mib": pair(row.compute),
        "device_mib": pair(row.total), "reason": row.reason, "unusable": row.unusable,
    })
}
