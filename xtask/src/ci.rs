//! What does CI check? The same on a laptop, one command.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{book, catalogue, evidence, figure, intervals, oracle};

/// Runs every check in order and stops at the first that fails.
pub fn run() -> Result<bool> {
    let steps: &[(&str, &[&str])] = &[
        ("format", &["fmt", "--all", "--check"]),
        ("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        ("tests", &["test", "--workspace", "--quiet"]),
        ("documentation", &["doc", "--workspace", "--no-deps", "--quiet"]),
    ];
    for (name, arguments) in steps {
        eprintln!("== {name}: cargo {}", arguments.join(" "));
        let status = Command::new(env!("CARGO")).args(*arguments).env("RUSTDOCFLAGS", "-D warnings").status();
        if !status.with_context(|| format!("cannot run cargo for {name}"))?.success() {
            eprintln!("{name} failed");
            return Ok(false);
        }
    }
    eprintln!("== the book's pages and links");
    if !book::check()? {
        return Ok(false);
    }
    eprintln!("== the figures are what their commands give");
    if !figure::run(Path::new("docs/figures"), true)? {
        return Ok(false);
    }
    shared_checks()
}

/// Checks against the shared data, where it is; says loudly where it is not.
fn shared_checks() -> Result<bool> {
    let shared = std::env::var_os("PLIMSOLL_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let data = shared.join("data");
    if !data.is_dir() {
        eprintln!("== SKIPPED: {} is not there; catalogues, oracles and evidence were not checked", data.display());
        return Ok(true);
    }
    eprintln!("== catalogues are what the shared data gives");
    let mut good = catalogue::run(&data, true)?;
    eprintln!("== oracles");
    let oracles = ["oracle_params", "oracle/vllm_kv", "oracle/llamacpp", "oracle/vllm_sched", "oracle/sglang_radix"]
        .map(|of| data.join(of));
    good &= oracle::run(&oracles, Some(&data.join("models")), Some(&data.join("gguf")), 5)?;
    eprintln!("== evidence");
    let logged = ["vllm.jsonl", "trtllm.jsonl", "trtllm_capacity.jsonl", "sglang.jsonl"]
        .map(|file| data.join("evidence").join(file));
    let plain = evidence::Options { json: false, fit: false, markdown: false, all: false };
    good &= evidence::run(&logged, Some(&data.join("models")), plain)?;
    eprintln!("== intervals and the accuracy page");
    let logs = data.join("evidence");
    good &= intervals::run(&logs, true)?;
    good &= evidence::accuracy(&logs, evidence::Mode { check: true, accept: false })?;
    eprintln!("== tables of measured kernels");
    good &= plimsoll_fit::run(&data.join("perf"), Path::new("crates/cost/data"), &[], true)?;
    eprintln!("== the page on speed");
    good &= evidence::speed(&data, true)?;
    Ok(good)
}
