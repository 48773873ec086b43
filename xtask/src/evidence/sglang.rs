//! What does a logged launch of SGLang compare with? Weights by what loading took, tokens given the logged free memory, tokens
//! from nothing but the flags, and the default fraction where the log gives it away.

use std::path::Path;

use anyhow::{Result, bail};
use plimsoll_facts::catalogue;
use plimsoll_plan::engine::sglang::plan;
use plimsoll_plan::engine::{Depth, Question};
use plimsoll_plan::{Card, Given, Item, Plan, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Map, Value, json};

use super::fit::quantile;
use super::resolve;
use super::row::Row;
use super::table::{Outcome, Pair};
use super::vllm::Target;

/// Rows whose log shows the model by its sizes rather than by name: part of the thread, and the config that it is read as.
const MODELS: [(&str, &str); 6] = [
    ("18084549501", "meta-llama/Llama-3.1-8B-Instruct"),
    ("8893364747", "Qwen/Qwen2.5-7B-Instruct"),
    ("52032893366", "zai-org/GLM-5"),
    ("sglang#6027", "deepseek-ai/DeepSeek-R1"),
    ("weight-processing speedup", "nvidia/DeepSeek-R1-0528-NVFP4-v2"),
    ("67230726698", "Qwen/Qwen3-8B"),
];

/// Rows whose card follows from the free memory or its description.
const CARDS: [(&str, &str); 6] = [
    ("sglang#4760", "H100 SXM5 80GB"),
    ("18084549501", "H100 SXM5 80GB"),
    ("sglang#17392", "H200 SXM 141GB"),
    ("53944457073", "GeForce RTX 3090"),
    ("61727765891", "GeForce RTX 4090"),
    ("52032893366", "RTX PRO 6000 Blackwell Server"),
];

/// Fractions that a log gives away by its numbers where it does not print them.
const FRACTIONS: [(&str, f64); 6] = [
    ("49361099215", 0.879),
    ("47444754202", 0.817),
    ("8893364747", 0.88),
    ("1272019175", 0.826),
    ("sglang#17392", 0.8),
    ("52032893366", 0.919),
];

/// Checkpoints of which only a name is known: their weights are taken as logged.
const PRIVATE: [&str; 4] = ["gemma-4-12B-it-AWQ", "gemma-4-26B-AWQ", "gemma-4-31B-AWQ", "nvidia/Qwen3.8-27B-NVFP4"];

/// What is known to explain a row's miss: part of its thread, and why.
const REASONS: [(&str, &str); 15] = [
    ("sglang#15464", "a development build before the release that runs the model: both pools are equally long"),
    ("36583", "memory was held back to look like smaller cards; no model named"),
    ("55050645006", "another process held some 20 GiB of the card"),
    ("61727765891", "a desktop shares the card: the same flags gave 125 555 to 184 183 tokens"),
    ("56671970114", "a second server shares the card"),
    ("9542409931", "3.23 GiB were free at the start, and the fraction is not stated"),
    ("55671064969", "0.4.1 on a unified card with 22 GB free; older than the built-in rules"),
    (
        "60792972393",
        "34 746 tokens at 0.75 need weights below 16 GiB: a quantised checkpoint under the model's plain name",
    ),
    ("69213517065", "unified memory: what was free at the start is not stated"),
    ("InferenceX#2128", "wrong evidence: 125.65 GiB of weights are a checkpoint in 8 bits, not the published one"),
    (
        "b200_dsr_fp4",
        "loading took 7.7 GiB more than the tensors, and 94.5 in another launch of this checkpoint: unexplained",
    ),
    (
        "sglang#17392",
        "0.4 GiB more than the tensors: as if the output projection were whole on every rank (flags not stated)",
    ),
    ("1272019175", "MI355X: weights as ROCm keeps 4-bit experts are not built in"),
    ("57759592298", "0.8 GiB more than the tensors on a unified card"),
    ("vllm#21348", "the release is inferred by date; what else ran is not stated"),
];

/// Releases by date.
const RELEASES: [(&str, Version); 22] = [
    ("2024-01-01", Version::new(0, 4, 1)),
    ("2025-04-27", Version::new(0, 4, 6)),
    ("2025-06-10", Version::new(0, 4, 7)),
    ("2025-06-24", Version::new(0, 4, 8)),
    ("2025-09-11", Version::new(0, 5, 2)),
    ("2025-10-06", Version::new(0, 5, 3)),
    ("2025-10-24", Version::new(0, 5, 4)),
    ("2025-12-03", Version::new(0, 5, 6)),
    ("2026-01-23", Version::new(0, 5, 8)),
    ("2026-02-23", Version::new(0, 5, 9)),
    ("2026-04-05", Version::new(0, 5, 10)),
    ("2026-05-07", Version::new(0, 5, 11)),
    ("2026-05-16", Version::new(0, 5, 12)),
    ("2026-06-11", Version::new(0, 5, 13)),
    ("2026-06-26", Version::new(0, 5, 14)),
    ("2026-07-10", Version::new(0, 5, 15)),
    ("2026-07-25", Version::new(0, 5, 16)),
    ("2026-08-08", Version::new(0, 5, 17)),
    ("2026-08-21", Version::new(0, 5, 18)),
    ("2026-09-04", Version::new(0, 5, 19)),
    ("2026-09-18", Version::new(0, 5, 20)),
    ("2026-10-30", Version::new(0, 5, 23)),
];

/// Compares one row.
pub fn compare(row: &Row, models: Option<&Path>) -> Outcome {
    let thread = row.thread();
    let listed =
        |table: &[(&str, &'static str)]| table.iter().find(|(part, _)| thread.contains(part)).map(|(_, to)| *to);
    let mut outcome = Outcome {
        line: row.line,
        thread: thread.to_owned(),
        model: row.text("model").to_owned(),
        gpu: row.text("gpu").to_owned(),
        complete: !row.text("gpu").is_empty() && row.number("avail_after_load_gb").is_some(),
        reason: listed(&REASONS).map(str::to_owned),
        ..Outcome::default()
    };
    if let Err(error) = fill(row, models, listed(&MODELS), listed(&CARDS), &mut outcome) {
        outcome.unusable = Some(format!("{error:#}"));
    }
    outcome
}

/// The release: stated, or by date.
fn release(row: &Row) -> (Version, bool) {
    if let Some(version) = row.stated("engine_version").and_then(Value::as_str).and_then(|text| text.parse().ok()) {
        return (version, false);
    }
    let date = row.text("date");
    let found = RELEASES.iter().rev().find(|(from, _)| !date.is_empty() && *from <= date);
    (found.map_or(Version::new(0, 5, 18), |(_, version)| *version), true)
}

fn fill(
    row: &Row,
    models: Option<&Path>,
    model: Option<&'static str>,
    card: Option<&'static str>,
    outcome: &mut Outcome,
) -> Result<()> {
    let known = match model {
        Some(name) => resolve::named(name, models)?,
        None => resolve::find(row, models)?,
    };
    outcome.notes.extend(known.note.clone());
    let (version, inferred) = release(row);
    outcome.version = version.to_string();
    if inferred {
        outcome.notes.push(format!("release {version} by date"));
    }
    let card = match (row.text("gpu").is_empty(), card) {
        (true, Some(name)) => Some(of(&catalogue::gpu(name)?, row)),
        (true, None) => None,
        (false, _) => resolve::card(row).ok(),
    };
    let known_card = card.is_some();
    let card = card.unwrap_or_else(|| resolve::any_card(row));
    outcome.gpu = if known_card { card.name.clone() } else { "unnamed".to_owned() };
    outcome.total = card.total.bytes.as_gib();
    let mut options = options(row);
    if let Some((_, fraction)) = FRACTIONS.iter().find(|(part, _)| row.thread().contains(part)) {
        options.insert("mem_fraction_static".to_owned(), json!(fraction));
    }
    let private = PRIVATE.contains(&row.text("model")) || row.thread().contains("52032893366");
    let weights = row.number("weights_gb").filter(|_| private).map(Bytes::gib);
    if weights.is_some() {
        outcome.notes.push("weights as logged: the checkpoint is not known".to_owned());
    }
    let planned = |given: &Given| {
        plan(&Question {
            model: &known.model,
            cards: std::slice::from_ref(&card),
            version,
            options: &options,
            given,
            gguf: None,
            companions: &[],
            depth: Depth::Whole,
        })
    };
    let full = planned(&Given { weights, ..Given::default() })?;
    let rank = &full.ranks[full.scarcest];
    outcome.weights = row.number("weights_gb").filter(|_| !private).map(|logged| Pair {
        ours: (rank.ledger.weights() + rank.ledger.bytes(Item::RuntimeNonTorch)).as_gib(),
        logged,
    });
    // A fraction that was read off the row's own numbers proves nothing about its budget.
    let listed = FRACTIONS.iter().any(|(part, _)| row.thread().contains(part));
    let fraction = fraction_of(row, &full).filter(|_| !listed);
    if known_card {
        if let (Some(before), Some(after), Some(f)) = (before(row), row.number("avail_after_load_gb"), fraction) {
            let budget = &rank.kv_budget;
            outcome.budget = Some(Pair { ours: budget.bytes.as_gib(), logged: after - before * (1.0 - f) });
            outcome.interval = Some((budget.low.as_gib(), budget.high.as_gib()));
        }
        if let Some(tokens) = row.number("kv_tokens") {
            outcome.tokens = Some(Pair { ours: full.kv.tokens as f64, logged: tokens });
        }
    }
    let tokens = |given: Given| planned(&given).ok().map(|plan| plan.kv.tokens);
    outcome.given = given(row, &full, tokens).or_else(|| allocated(row, &full, tokens));
    if outcome.weights.is_none() && outcome.tokens.is_none() && outcome.given.is_none() {
        bail!("neither weights nor tokens with a budget or a card are stated");
    }
    Ok(())
}

/// Free memory before loading: logged, or what was free after it and what it took.
fn before(row: &Row) -> Option<f64> {
    let sum = || Some(row.number("avail_after_load_gb")? + row.number("weights_gb")?);
    row.number("avail_before_load_gb").or_else(sum)
}

/// Whether the logged tokens are reached within the rounding of the logged free memory: two numbers to 0.01 GB, the second
/// of the first rank where the least over ranks counts.
fn given(row: &Row, full: &Plan, tokens: impl Fn(Given) -> Option<u64>) -> Option<bool> {
    let (before, after) = (before(row)?, row.number("avail_after_load_gb")?);
    let logged = row.count("kv_tokens")?;
    fraction_of(row, full)?;
    let at = |gib: f64| {
        let known =
            Given { weights: Some(Bytes::gib(before - gib)), kv_free: Some(Bytes::gib(gib)), ..Given::default() };
        tokens(known)
    };
    let listed = FRACTIONS.iter().any(|(part, _)| row.thread().contains(part));
    let rounding = if full.parallel.tp > 1 { 0.1 } else { 0.02 } + if listed { 0.0006 * before } else { 0.0 };
    let (low, high) = (at(after - rounding)?, at(after + rounding)?);
    Some((low..=high).contains(&logged))
}

/// Whether the logged tokens take what the log says that they take: a check of the cells alone. The tensors hold one page
/// more than the tokens.
fn allocated(row: &Row, full: &Plan, tokens: impl Fn(Given) -> Option<u64>) -> Option<bool> {
    let both = || Some(row.number("kv_k_gb")? + row.number("kv_v_gb")?);
    let gib = row.number("kv_alloc_gib").or_else(both)?;
    let logged = row.count("kv_tokens")?;
    if full.kv.groups.iter().any(|group| group.kind == "state") {
        return None;
    }
    let at = |gib: f64| tokens(Given { kv_budget: Some(Bytes::gib(gib)), ..Given::default() });
    let (low, high) = (at(gib - 0.011)?, at(gib + 0.011)?);
    Some((low.saturating_sub(2 * full.kv.block_tokens)..=high).contains(&logged))
}

/// The fraction: stated, given away, or the default that the plan names for a known card.
fn fraction_of(row: &Row, plan: &Plan) -> Option<f64> {
    let listed = FRACTIONS.iter().find(|(part, _)| row.thread().contains(part)).map(|(_, fraction)| *fraction);
    let default = || {
        let said = plan.assumptions.iter().find_map(|text| text.strip_prefix("mem_fraction_static is "))?;
        said.split(',').next()?.parse().ok()
    };
    let known = !plan.ranks.iter().any(|rank| rank.total > Bytes::gib(279.0));
    row.number("mem_fraction_static").or(listed).or_else(|| default().filter(|_| known))
}

fn of(gpu: &plimsoll_facts::gpu::Gpu, row: &Row) -> Card {
    let unknown = || Estimate::exact(Bytes::gib(gpu.marketed_gb), Source::Assumed("size on the box".into()));
    Card {
        name: gpu.name.clone(),
        total: gpu.total().unwrap_or_else(unknown),
        count: u32::try_from(row.count("gpu_count").or(row.count("tp")).unwrap_or(1)).unwrap_or(1),
        compute_capability: gpu.compute_capability,
        sm_count: gpu.sm_count,
        unified: gpu.unified,
    }
}

/// The flags that a row states.
fn options(row: &Row) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            map.insert(name.to_owned(), value);
        }
    };
    for (key, flag) in [
        ("tp", "tp_size"),
        ("pp", "pp_size"),
        ("ep", "ep_size"),
        ("mem_fraction_static", "mem_fraction_static"),
        ("chunked_prefill_size", "chunked_prefill_size"),
        ("context_len", "context_length"),
        ("cuda_graph_max_bs", "cuda_graph_max_bs"),
        ("page_size", "page_size"),
        ("disable_cuda_graph", "disable_cuda_graph"),
        ("attention_backend", "attention_backend"),
    ] {
        put(flag, row.stated(key).cloned());
    }
    if let Some(dp) = row.count("dp").filter(|dp| *dp > 1) {
        put("dp_size", Some(json!(dp)));
        put("enable_dp_attention", Some(json!(true)));
    }
    // What the log prints is the outcome; only small numbers were asked for.
    put("max_running_requests", row.count("max_running_requests").filter(|most| *most < 1024).map(|most| json!(most)));
    let kv = row.text("kv_cache_dtype").split(' ').next().unwrap_or_default();
    let kv = if kv.is_empty() || kv == "auto" { None } else { Some(if kv.starts_with("fp4") { "nvfp4" } else { kv }) };
    put("kv_cache_dtype", kv.map(|kv| json!(kv)));
    let flags = row.text("other_flags");
    let ratio = flags.split("swa_full_tokens_ratio=").nth(1);
    let ratio = ratio.and_then(|rest| rest.split([',', ' ']).next()).and_then(|text| text.parse::<f64>().ok());
    put("swa_full_tokens_ratio", ratio.map(|ratio| json!(ratio)));
    let slots =
        flags.split("--max-mamba-cache-size ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    put("max_mamba_cache_size", slots.map(|slots| json!(slots)));
    put("disable_radix_cache", flags.contains("--disable-radix-cache").then_some(Value::Bool(true)));
    put("enable_symm_mem", flags.contains("enable_symm_mem=True").then_some(Value::Bool(true)));
    put("disable_prefill_cuda_graph", flags.contains("piecewise disabled").then_some(Value::Bool(true)));
    map
}

/// What SGLang's rows must show.
pub fn targets(rows: &[Outcome]) -> Vec<Target> {
    let used: Vec<&Outcome> = rows.iter().filter(|row| row.unusable.is_none()).collect();
    let median = |mut values: Vec<f64>| quantile(&mut values, 0.5);
    let mut weights: Vec<f64> = used.iter().filter_map(|row| row.weights).map(Pair::percent).collect();
    let tokens = median(used.iter().filter_map(|row| row.tokens).map(Pair::percent).collect());
    let given: Vec<bool> = used.iter().filter_map(|row| row.given).collect();
    let equal = 100.0 * given.iter().filter(|equal| **equal).count() as f64 / given.len() as f64;
    // Under twenty rows with weights, most of them of small models, there is no target for them.
    let asked = weights.len() >= 20;
    let weights = quantile(&mut weights, 0.5);
    let wanted = if asked { "<= 0.5" } else { "none" };
    vec![
        Target::new("weights, median error, %", weights, wanted, !asked || weights <= 0.5),
        Target::new("KV tokens end to end, median error, %", tokens, "<= 2", tokens <= 2.0),
        Target::new("KV tokens within rounding given the logged free memory, %", equal, ">= 90", equal >= 90.0),
    ]
}
