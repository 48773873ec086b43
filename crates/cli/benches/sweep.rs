//! How fast is a sweep? Rows a second and peak memory by engine, each in a process of its own; `million` as an argument runs
//! 100 models × the built-in cards × 10 contexts × 10 batches, up to a million rows.
//!
//! Run by `cargo bench -p plimsoll-cli --bench sweep [-- million]`; prints figures and checks none, since machines differ.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// The tool as it was built for this benchmark.
const TOOL: &str = env!("CARGO_BIN_EXE_plimsoll");

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().any(|word| word == "million") {
        return million();
    }
    let models = "llama-3.1-8b,qwen3-32b,gemma-3-27b-it,deepseek-v3,qwen3-30b-a3b";
    for (engine, contexts, batches) in [
        ("vllm", "1k..512k", "1..512"),
        ("sglang", "1k..512k", "1..512"),
        ("tensorrt-llm", "1k..512k", "1..512"),
        ("transformers", "1k..8k", "1,4"),
        ("llama.cpp", "4k,16k", "1"),
        ("ollama", "4k,16k", "1"),
    ] {
        sweep(engine, &["--models", models, "--gpus", "all", "--engines", engine], contexts, batches)?;
    }
    Ok(())
}

/// A million rows, as far as there are models and cards for them.
fn million() -> Result<(), Box<dyn Error>> {
    let names = |kind: &str| -> Result<Vec<String>, Box<dyn Error>> {
        let listed = Command::new(TOOL).args(["catalogue", kind, "--json"]).output()?;
        let answer: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        Ok(rows.iter().filter_map(|row| row[0].as_str().map(str::to_owned)).collect())
    };
    let (models, cards) = (names("models")?, names("gpus")?);
    let mut gpus: Vec<String> = cards.clone();
    gpus.extend(cards.iter().map(|card| format!("{card}:8")));
    gpus.truncate(100);
    let models = models[..models.len().min(100)].join(",");
    sweep("a million", &["--models", &models, "--gpus", &gpus.join(",")], "1k..512k", "1..512")
}

/// Times one sweep.
fn sweep(name: &str, words: &[&str], contexts: &str, batches: &str) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("sweep.parquet");
    let start = Instant::now();
    let status = Command::new(TOOL)
        .args(["sweep", "--quiet", "--context", contexts, "--batch", batches, "--out"])
        .arg(&place)
        .args(words)
        .status()?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{name}: {status}").into());
    }
    let (rows, bytes) = (rows(&place)?, std::fs::metadata(&place)?.len());
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() as f64 / 1024.0;
    let cores = std::thread::available_parallelism()?;
    println!(
        "{name}: {rows} rows in {seconds:.1} s on {cores} cores, {:.0} a second; {:.1} MiB, {:.1} bytes a row; peak memory of \
         any sweep so far {peak:.0} MiB",
        rows as f64 / seconds,
        bytes as f64 / 1_048_576.0,
        bytes as f64 / rows as f64
    );
    Ok(())
}

/// Counts a Parquet file's rows by its footer.
fn rows(place: &Path) -> Result<i64, Box<dyn Error>> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    Ok(SerializedFileReader::new(std::fs::File::open(place)?)?.metadata().file_metadata().num_rows())
}
