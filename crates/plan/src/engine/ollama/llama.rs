//! What does llama.cpp inside make of it? The decision written in llama.cpp's own options, planned by its own rules.

use plimsoll_facts::gguf::Gguf;
use serde_json::{Map, Value};

use super::decide::{Decision, Settled};
use super::options::CacheType;
use super::rules::{self, Generation};
use crate::engine::{Question, llamacpp};
use crate::{Card, Error, Plan};

/// Plans what is really allocated.
///
/// # Errors
/// As llama.cpp's rules.
pub fn plan(question: &Question<'_>, gguf: &Gguf, settled: &Settled<'_>, decision: &Decision) -> Result<Plan, Error> {
    let cards: Vec<Card> = decision
        .cards
        .iter()
        .filter_map(|at| settled.cards.get(*at))
        .map(|card| Card { count: 1, ..(*card).clone() })
        .collect();
    let options = options(settled, decision, cards.len());
    let question = Question {
        gguf: Some(gguf),
        cards: &cards,
        version: rules::llama_cpp(settled.version),
        options: &options,
        ..*question
    };
    llamacpp::plan(&question)
}

/// Source: Ollama at fb3076099, `llm/llama_server.go` (the flags of `llama-server`); 0.29, `runner/llamarunner/runner.go`.
fn options(settled: &Settled<'_>, decision: &Decision, cards: usize) -> Map<String, Value> {
    let mut options = Map::new();
    let mut set = |name: &str, value: Value| {
        options.insert(name.to_owned(), value);
    };
    let server = settled.generation == Generation::LlamaServer;
    set("ctx_size", settled.context.saturating_mul(settled.parallel).into());
    set("parallel", settled.parallel.into());
    // Before llama-server the logical batch held one of every sequence.
    let batch = if server { settled.batch } else { settled.batch.saturating_mul(settled.parallel) };
    set("batch_size", batch.into());
    set("ubatch_size", settled.batch.into());
    let flash = match settled.flash {
        Some(true) => "on",
        Some(false) => "off",
        None => "auto",
    };
    set("flash_attn", flash.into());
    if settled.cache != CacheType::F16 {
        set("cache_type_k", settled.cache.name().into());
        set("cache_type_v", settled.cache.name().into());
    }
    if !server {
        // The runners before llama-server keep no prompts beside the cache.
        set("cache_ram", 0.into());
    }
    if settled.sizes.embeds {
        set("embeddings", true.into());
    }
    match decision.layers {
        Some(layers) => {
            set("n_gpu_layers", layers.to_string().into());
            set("fit", "off".into());
        }
        None if !server => set("fit", "off".into()),
        None => {}
    }
    if cards > 1 && decision.split.iter().any(|layers| *layers > 0) {
        let shares: Vec<String> = decision.split.iter().map(u64::to_string).collect();
        set("tensor_split", shares.join(",").into());
    }
    if server && cards == 1 && settled.cards.len() > 1 {
        set("split_mode", "none".into());
    }
    if !settled.options.adapters.is_empty() {
        set("lora", settled.options.adapters.clone().into());
    }
    if let Some(mapped) = settled.options.mmap {
        set("mmap", mapped.into());
    }
    options
}

/// Writes llama.cpp's remedy in Ollama's settings; `None` for one that Ollama has no setting for.
pub fn flags(written: &[String], parallel: u64) -> Option<Vec<String>> {
    let mut flags = Vec::new();
    let mut words = written.iter();
    while let Some(name) = words.next() {
        let value = words.next()?;
        match name.as_str() {
            "-c" => {
                let context: u64 = value.parse().ok()?;
                flags.push(format!("OLLAMA_CONTEXT_LENGTH={}", context / parallel.max(1)));
            }
            "-ngl" => flags.extend(["num_gpu".to_owned(), value.clone()]),
            "-b" | "-ub" => flags.extend(["num_batch".to_owned(), value.clone()]),
            "-ctk" | "-ctv" => {
                let both = [format!("OLLAMA_KV_CACHE_TYPE={value}"), "OLLAMA_FLASH_ATTENTION=1".to_owned()];
                if !flags.contains(&both[0]) {
                    flags.extend(both);
                }
            }
            _ => return None,
        }
    }
    Some(flags)
}
