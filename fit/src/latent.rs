//! Fits latent attention: prompts, new tokens, and the products around them.

use std::path::Path;

use anyhow::{Context, Result};
use plimsoll_cost::measured::Backend;
use plimsoll_cost::measured::attention::cache_name;
use plimsoll_cost::measured::attention::latent::{Latent, Part};

use crate::rows::{self, Measured, Rows};
use crate::tables::{Case, Set, fit_all, points};
use crate::{Fitted, card};

/// The points wished for an axis, by kernel.
fn wished(part: Part) -> Vec<(&'static str, Vec<f64>)> {
    let heads = vec![2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
    match part {
        Part::Context => vec![
            ("tokens", vec![16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 16384.0]),
            ("rows", vec![8.0, 32.0, 128.0, 512.0, 2048.0]),
        ],
        Part::Generation => vec![
            ("keys", vec![64.0, 128.0, 512.0, 2048.0, 8192.0, 32768.0]),
            ("sequences", vec![4.0, 16.0, 64.0, 256.0]),
            ("heads", vec![8.0, 16.0, 32.0, 64.0]),
        ],
        Part::Into | Part::Out => {
            vec![("tokens", vec![16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0]), ("heads", heads)]
        }
    }
}

/// Whether a row says how long the kernel alone takes as the engine runs it.
///
/// vLLM's rows (0.14) hold the products around latent attention and the host's own time, some 150 to 350 µs: only those of
/// new tokens over long contexts are the kernel's, and with a 16-bit cache SGLang measured the same kernels alone
/// on Hopper (FlashAttention 3) and Ada (Triton). SGLang's prompts on Hopper were measured absorbed, which is not what it
/// does with a prompt (`forward_mha`, `deepseek_common/attention_backend_handler.py`, 0.5.14).
fn alone(file: &Measured, part: Part, eight: bool, seconds: f64, step: f64) -> bool {
    match (file.backend.as_str(), part) {
        ("vllm", Part::Context) => false,
        ("vllm", Part::Generation) => seconds > 500e-6 && step > 1000.0 && (eight || file.card == "a100-sxm"),
        ("sglang", Part::Context) => !file.card.starts_with('h'),
        _ => true,
    }
}

/// Reads one row of a kernel: the case, its width, and whether it is of this kernel.
fn case(table: &Rows, part: Part, eight: bool, row: usize) -> Result<(Latent, &str, bool)> {
    let number = |name: &str| table.number(name).map(|column| column[row]);
    let text = |name: &str| table.text(name).map(|column| column[row].as_str());
    let (inner, outer) = match part {
        Part::Context => (192.0, 128.0),
        Part::Generation => (576.0, 512.0),
        Part::Into => (128.0, 512.0),
        Part::Out => (512.0, 128.0),
    };
    let (heads, bytes) = (number("num_heads")?, if eight { 1.0 } else { 2.0 });
    Ok(match part {
        Part::Context | Part::Generation => {
            let (batch, tokens, context) = (number("batch_size")?, number("isl")?, number("step")?);
            let latent = Latent { part, batch, tokens, context, heads, inner, outer, bytes };
            (latent, text("kv_cache_dtype")?, true)
        }
        Part::Into | Part::Out => {
            let (batch, tokens, context) = (number("num_tokens")?, 1.0, 0.0);
            let latent = Latent { part, batch, tokens, context, heads, inner, outer, bytes };
            let name = if part == Part::Into { "mla_gen_pre" } else { "mla_gen_post" };
            (latent, text("bmm_dtype")?, text("op_name")? == name)
        }
    })
}

/// Reads one file into the tables that it feeds.
fn read(file: &Measured, sets: &mut Vec<Set>) -> Result<()> {
    let parts: &[Part] = match file.file.as_str() {
        "context_mla_perf" => &[Part::Context],
        "generation_mla_perf" => &[Part::Generation],
        "mla_bmm_perf" => &[Part::Into, Part::Out],
        _ => return Ok(()),
    };
    let backend = Backend::find(&file.backend).with_context(|| format!("no engine {}", file.backend))?;
    let hardware = card::hardware(file.card)?;
    let rates = plimsoll_cost::measured::attention::grouped::Card::new(&hardware).context("no multiprocessors")?;
    let table = rows::parquet(&file.path)?;
    let latency = table.number("latency")?;
    for part in parts {
        for eight in [false, true] {
            let mut cases = Vec::new();
            for (row, latency) in latency.iter().enumerate() {
                let (latent, width, mine) = case(&table, *part, eight, row)?;
                let seconds = latency / 1e3;
                if !mine || (width == "fp8") != eight || !alone(file, *part, eight, seconds, latent.context) {
                    continue;
                }
                cases.push(Case {
                    places: latent.place().to_vec(),
                    base: latent.base(&rates),
                    seconds,
                    names: vec![
                        ("heads", format!("{}", latent.heads)),
                        ("lengths", format!("{} {} {}", latent.batch, latent.tokens, latent.context)),
                    ],
                });
            }
            if cases.is_empty() {
                continue;
            }
            let axes = wished(*part)
                .into_iter()
                .enumerate()
                .map(|(axis, (name, wished))| (name, points(&wished, cases.iter().map(|case| case.places[axis]))))
                .collect();
            sets.push(Set {
                card: file.card.to_owned(),
                backend: backend.name().to_owned(),
                kind: format!("{} {}", part.name(), cache_name(eight)),
                axes,
                cases,
            });
        }
    }
    Ok(())
}

/// Fits all tables of latent attention.
///
/// # Errors
/// Where a measurement cannot be read.
pub fn fit(perf: &Path) -> Result<Fitted> {
    let mut sets = Vec::new();
    for operator in ["mla", "mla_bmm"] {
        for file in rows::list(perf, operator)? {
            read(&file, &mut sets).with_context(|| file.path.display().to_string())?;
        }
    }
    Ok(fit_all("Latent attention", "latent", &sets))
}
