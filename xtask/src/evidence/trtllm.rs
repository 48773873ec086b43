//! How far is the TensorRT-LLM plan from what launches logged, and from measured capacity?

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use plimsoll_facts::catalogue;
use plimsoll_facts::model::{Model, read};
use plimsoll_plan::engine::trtllm::{Backend, Case, DEFAULT_VERSION, Options, plan};
use plimsoll_plan::interval::group_of;
use plimsoll_plan::{Card, Given, Item, Plan, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Map, Value, json};

use super::fit::quantile;
use super::row::Row;
use super::table::{Outcome, Pair};
use super::vllm::Target;

/// Models of rows that the catalogue lacks or names differently: the row's name, the same architecture, and the
/// quantisation that the row's engine had (empty: the entry's own).
const STANDINS: [(&str, &str, &str); 15] = [
    ("meta-llama/Llama-2-7b", "meta-llama/Llama-2-7b-hf", ""),
    ("meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3.1-8B", ""),
    ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "fp8"),
    ("nvidia/Llama-3.1-8B-Instruct-FP8", "meta-llama/Meta-Llama-3.1-8B", "fp8"),
    ("Qwen/Qwen1.5-MoE-A2.7B-Chat", "Qwen/Qwen1.5-MoE-A2.7B-Chat", "int4"),
    ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct", ""),
    ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct", "int8"),
    ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B-Instruct", "int4_awq"),
    ("Qwen/QwQ-32B", "Qwen/Qwen2.5-32B-Instruct", "int4"),
    ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-R1", ""),
    ("nvidia/DeepSeek-R1-0528-NVFP4-v2", "nvidia/DeepSeek-V3.1-NVFP4", ""),
    ("Llama-3.1-8B NVFP4 (16GB card)", "meta-llama/Meta-Llama-3.1-8B", "nvfp4"),
    ("openai/gpt-oss-120b", "openai/gpt-oss-120b", ""),
    ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", ""),
    ("Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-32B-FP8", ""),
];

/// What is known to explain a row's miss: part of its thread, and why.
const REASONS: [(&str, &str); 9] = [
    (
        "perf-benchmarking sample",
        "wrong evidence: it names Llama-2-7B, but 28 layers and both buffers are GPT-J-6B's (50 400 words)",
    ),
    ("#2693", "wrong evidence: the engine holds a sixth of the weights (3.1 of 18 GiB); broken, as its reporter says"),
    ("26725295630", "neither max_batch_size nor max_seq_len is stated, and they decide gigabytes of buffers"),
    ("00_qwen15_sanity", "a desktop card: 0.4 GiB more are in use than an engine's own context takes"),
    ("reasoning_ep1_c256", "a second DeepGEMM workspace for captured graphs is not counted"),
    (
        "_dp.trimmed",
        "attention data parallelism with DeepGEMM experts: how many tokens its workspace holds is not in the log",
    ),
    (
        "summarize_ep1_c128",
        "13 GiB outside torch where sibling launches have 10.6: more graphs and larger steps, it seems",
    ),
    ("waterfall", "10 to 20% less outside torch than other releases take"),
    ("#224", "the release is not stated"),
];

/// Compares logged launches.
pub fn logs(rows: &[&Row], models: Option<&Path>) -> Vec<Outcome> {
    rows.iter().map(|row| outcome(row, |outcome| compare(row.value(), models, outcome))).collect()
}

/// Compares measured capacities: every row within one sequence or 2 %.
pub fn capacity(rows: &[&Row], models: Option<&Path>) -> Vec<Outcome> {
    let fill = |row: &Value, outcome: &mut Outcome| -> Result<()> {
        let measured = number(row, "max_concurrent_sequences").context("no max_concurrent_sequences")?;
        outcome.total = card(row)?.total.bytes.as_gib();
        let plan = launch(row, models, Given::default())?;
        outcome.version = plan.version.to_string();
        let ours = plan.kv.max_concurrency.floor();
        outcome.sequences = Some(Pair { ours, logged: measured });
        outcome.given = Some((ours - measured).abs() <= (0.02 * measured).max(1.0));
        Ok(())
    };
    rows.iter().map(|row| outcome(row, |outcome| fill(row.value(), outcome))).collect()
}

/// What logged launches must show.
pub fn log_targets(rows: &[Outcome]) -> Vec<Target> {
    let median = |mut values: Vec<f64>| quantile(&mut values, 0.5);
    let weights = median(rows.iter().filter_map(|row| row.weights).map(Pair::percent).collect());
    let tokens = median(rows.iter().filter_map(|row| row.tokens).map(Pair::percent).collect());
    let mut targets = vec![
        Target::new("weights, median error, %", weights, "<= 0.5", weights <= 0.5),
        Target::new("KV tokens end to end, median error, %", tokens, "<= 3", tokens <= 3.0),
    ];
    targets.extend(share(rows, "KV tokens within rounding given the logged budget, %", (95.0, ">= 95")));
    targets
}

/// What measured capacities must show.
pub fn capacity_targets(rows: &[Outcome]) -> Vec<Target> {
    share(rows, "capacities within max(1, 2%), % of rows", (100.0, "= 100")).into_iter().collect()
}

fn share(rows: &[Outcome], what: &'static str, wanted: (f64, &'static str)) -> Option<Target> {
    let given: Vec<bool> = rows.iter().filter_map(|row| row.given).collect();
    let share = 100.0 * given.iter().filter(|held| **held).count() as f64 / given.len() as f64;
    Some(Target::new(what, share, wanted.1, share >= wanted.0))
}

fn outcome(row: &Row, fill: impl FnOnce(&mut Outcome) -> Result<()>) -> Outcome {
    let value = row.value();
    let thread = row.thread();
    let mut outcome = Outcome {
        line: row.line,
        thread: thread.to_owned(),
        model: text(value, "model").to_owned(),
        gpu: match text(value, "gpu") {
            "" => "unnamed".to_owned(),
            gpu => gpu.to_owned(),
        },
        complete: text(value, "row_quality") == "complete",
        reason: REASONS.iter().find(|(part, _)| thread.contains(part)).map(|(_, why)| (*why).to_owned()),
        ..Outcome::default()
    };
    if let Err(error) = fill(&mut outcome) {
        outcome.unusable = Some(format!("{error:#}"));
    }
    outcome
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(row: &Value, key: &str) -> Option<f64> {
    row.get(key).and_then(Value::as_f64)
}

/// Compares one logged launch.
fn compare(row: &Value, models: Option<&Path>, outcome: &mut Outcome) -> Result<()> {
    let alone = launch(row, models, Given::default())?;
    let available = number(row, "available_gib_logged");
    let engine = backend(row) == Backend::TensorRt;
    let weights = number(row, "engine_size_mib").map(|mib| mib / 1024.0).or_else(|| number(row, "weights_gb"));
    let fraction = number(row, "kv_cache_free_gpu_memory_fraction").unwrap_or(0.9);
    let logged = available.map(|gib| if engine { gib * fraction } else { gib });
    let tokens = match (available, number(row, "kv_tokens").or_else(|| number(row, "max_tokens"))) {
        (Some(gib), Some(logged)) => {
            let bytes = Some(Bytes::gib(gib));
            let given = if engine {
                Given { kv_free: bytes, ..Given::default() }
            } else {
                Given { kv_budget: bytes, ..Given::default() }
            };
            let plan = launch(row, models, given)?;
            // The log rounds to 0.01 GiB, and a pool to one block.
            let part = if engine { fraction } else { 1.0 };
            let per_token = plan.kv.bytes_per_token.max(1) as f64;
            let slack = Bytes::gib(0.005 * part).as_f64() / per_token + plan.kv.block_tokens as f64;
            Some((plan.kv.tokens as f64, logged, slack))
        }
        (Some(_) | None, _) => None,
    };
    outcome.version = alone.version.to_string();
    let scarcest = &alone.ranks[alone.scarcest];
    // What torch holds after loading is logged as one number: weights, copies, tables and workspaces.
    let held = if engine { Bytes::ZERO } else { scarcest.ledger.bytes(Item::RuntimeBuffers) };
    outcome.weights = weights.map(|logged| Pair { ours: (scarcest.ledger.weights() + held).as_gib(), logged });
    if let (Some(logged), Ok(card)) = (logged, card(row)) {
        outcome.total = card.total.bytes.as_gib();
        outcome.budget = Some(Pair { ours: alone.kv.budget.bytes.as_gib(), logged });
        outcome.interval = Some((alone.kv.budget.low.as_gib(), alone.kv.budget.high.as_gib()));
        group_of(&alone.kv.budget.source).clone_into(&mut outcome.group);
        // A compiled engine's buffers are gigabytes of slots × length.
        outcome.undetermined = engine && row.get("max_batch_size").is_none();
        outcome.scale = Some(super::vllm::scale(scarcest, fraction));
        let counted = number(row, "kv_tokens").or_else(|| number(row, "max_tokens"));
        outcome.tokens = counted.map(|logged| Pair { ours: alone.kv.tokens as f64, logged });
    }
    outcome.given = tokens.map(|(found, logged, slack): (f64, f64, f64)| (found - logged).abs() <= slack);
    Ok(())
}

fn backend(row: &Value) -> Backend {
    if text(row, "backend") == "tensorrt" { Backend::TensorRt } else { Backend::PyTorch }
}

/// Plans a row's launch from its stated flags.
fn launch(row: &Value, models: Option<&Path>, given: Given) -> Result<Plan> {
    let (model, quantization) = model(text(row, "model"), models)?;
    let version = text(row, "engine_version").parse::<Version>().unwrap_or_else(|_| stated(row));
    let mut map = Map::new();
    let engine = text(row, "backend") == "tensorrt";
    map.insert("backend".to_owned(), json!(if engine { "tensorrt" } else { "pytorch" }));
    for key in [
        "tp",
        "pp",
        "kv_cache_free_gpu_memory_fraction",
        "max_batch_size",
        "max_num_tokens",
        "max_input_len",
        "max_beam_width",
        "tokens_per_block",
        "kv_cache_dtype",
        "dtype",
    ] {
        if let Some(value) = row.get(key) {
            map.insert(key.to_owned(), value.clone());
        }
    }
    if row.get("kv_cache_dtype").is_none() && text(row, "notes").contains("fp8 KV") {
        map.insert("kv_cache_dtype".to_owned(), json!("fp8"));
    }
    if let Some(ep) = row.get("ep").and_then(Value::as_u64).filter(|ep| *ep > 1) {
        map.insert("ep".to_owned(), json!(ep));
    }
    if let Some(largest) = row.get("cuda_graph_max_bs") {
        map.insert("cuda_graph_max_batch_size".to_owned(), largest.clone());
    }
    if !quantization.is_empty() {
        map.insert("quantization".to_owned(), json!(quantization));
    }
    let drafted = text(row, "speculative").rsplit(' ').next().and_then(|digits| digits.parse::<u64>().ok());
    if let Some(drafted) = drafted {
        map.insert("max_draft_len".to_owned(), json!(drafted));
    }
    let flags = text(row, "other_flags").to_ascii_lowercase();
    map.insert("enable_attention_dp".to_owned(), json!(flags.contains("attention_dp=true")));
    if flags.contains("moe_backend=deepgemm") {
        map.insert("moe_backend".to_owned(), json!("DEEPGEMM"));
    }
    if let Some(seq) = row.get("max_seq_len").and_then(Value::as_u64) {
        // Logs of 1.1 and 1.2 print the length with what the runtime added.
        let logged = !engine && row.get("prompt_tokens").is_none();
        let added = if logged {
            drafted.map_or(0, |d| (3 * d).saturating_sub(1))
                + u64::from((1, 1) <= (version.major, version.minor) && (version.major, version.minor) < (1, 3))
        } else {
            0
        };
        map.insert("max_seq_len".to_owned(), json!(seq.saturating_sub(added).max(1)));
    }
    let options = Options::from_map(&map, version)?;
    let card = card(row).unwrap_or_else(|_| any_card());
    Ok(plan(&Case { model: &model, card: &card, version, options: &options, given: &given })?)
}

/// The release of rows that do not state one: by their notes, else the default.
fn stated(row: &Value) -> Version {
    let notes = text(row, "notes");
    let after = notes.split("not stated: ").nth(1).unwrap_or_default();
    let digits = after.trim_start_matches(|c: char| !c.is_ascii_digit());
    let whole: String = digits.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    whole.trim_end_matches('.').parse().unwrap_or(DEFAULT_VERSION)
}

/// The model of a name, from the folder of configs where there is one, else from the catalogue; and what its engine was
/// quantised to, where the entry does not say it.
fn model(name: &str, models: Option<&Path>) -> Result<(Model, &'static str)> {
    if name.is_empty() {
        bail!("the row names no model");
    }
    let name = name.trim_end_matches(" (as printed)");
    let (entry, quantization) = STANDINS
        .iter()
        .find(|(own, ..)| *own == name)
        .map_or((name, ""), |(_, entry, quantization)| (entry, quantization));
    let file =
        models.map(|folder| folder.join(entry.replace('/', "__")).join("config.json")).filter(|file| file.exists());
    let model = match file {
        Some(file) => {
            let beside = file.with_file_name("hf_quant_config.json");
            let beside = if beside.exists() { Some(json_of(&beside)?) } else { None };
            read(entry, &json_of(&file)?, beside.as_ref())?
        }
        None => catalogue::model(entry)?.model,
    };
    let plain = model.tensors.iter().all(|tensor| tensor.quantised.is_empty());
    let eight = plain && quantization.is_empty() && name.to_ascii_lowercase().contains("fp8");
    Ok((model, if eight { "fp8" } else { quantization }))
}

fn json_of(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// The row's card, with the total that its log printed where it did.
fn card(row: &Value) -> Result<Card> {
    let logged = number(row, "total_gib_logged").or_else(|| number(row, "total_gpu_memory_gib"));
    let name = text(row, "gpu").replace('_', " ");
    let known = catalogue::gpu(alias(&name.to_ascii_lowercase())).ok();
    let total = match (logged, &known) {
        (Some(gib), _) => Estimate::exact(Bytes::gib(gib), Source::Given),
        (None, _) if name.is_empty() => bail!("the row names no GPU"),
        (None, None) => bail!("{name} is in no catalogue and its memory is not stated"),
        (None, Some(gpu)) => gpu.total().ok_or_else(|| anyhow!("the memory of {name} is not known"))?,
    };
    let (compute_capability, sm_count) = known.map_or((None, None), |gpu| (gpu.compute_capability, gpu.sm_count));
    Ok(Card { name, total, compute_capability, sm_count, ..any_card() })
}

/// Names of the campaign's cards.
fn alias(name: &str) -> &str {
    match name {
        "h100 sxm" => "H100 SXM5 80GB",
        "h200 sxm" => "H200 SXM 141GB",
        "b200 sxm" => "B200 SXM 180GB",
        "a100 sxm" => "A100 SXM4 80GB",
        "rtx a4000 16gb" => "RTX A4000",
        "b200" => "B200 SXM 180GB",
        "b300" => "B300 SXM 288GB",
        "gb200" => "GB200 (per GPU)",
        "gb300" => "GB300 (per GPU)",
        other => other,
    }
}

fn any_card() -> Card {
    Card {
        name: String::new(),
        total: Estimate::exact(Bytes::gib(80.0), Source::Assumed("only the logged budget is used".into())),
        compute_capability: None,
        sm_count: None,
        unified: false,
        count: 8,
    }
}
