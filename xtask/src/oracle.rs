//! Are our numbers the engines' own? Any file or folder in the forms of the shared oracles, compared line by line.

#![expect(clippy::print_stdout, reason = "the tally is this chore's output")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

mod llamacpp;
mod radix;
mod schedule;
mod sglang_sched;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Checks every path; true when all are equal.
pub fn run(paths: &[PathBuf], models: Option<&Path>, gguf: Option<&Path>, differences: usize) -> Result<bool> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    if files.is_empty() {
        bail!("no .json, .jsonl or .jsonl.gz file in {paths:?}");
    }
    files.sort();
    let mut tally = Tally { limit: differences, ..Tally::default() };
    for file in &files {
        check(file, models, gguf, &mut tally).with_context(|| file.display().to_string())?;
    }
    if files.len() > 1 {
        println!("all: equal {} of {}", tally.equal, tally.total);
    }
    if tally.workloads.1 > 0 {
        let (workloads, steps) = (tally.workloads, tally.steps);
        println!("workloads equal {} of {}, steps equal {} of {}", workloads.0, workloads.1, steps.0, steps.1);
    }
    if tally.total == 0 {
        println!(
            "nothing was checked: the forms are oracle_params, oracle_kv, vllm_kv, transformers_kv, llamacpp, sglang_radix, \
             vllm_sched and sglang_sched"
        );
    }
    Ok(tally.total > 0 && tally.equal == tally.total)
}

/// What came out so far.
#[derive(Default)]
struct Tally {
    equal: usize,
    total: usize,
    limit: usize,
    /// Schedules: equal workloads and all, equal steps and all.
    workloads: (usize, usize),
    steps: (usize, usize),
}

impl Tally {
    /// Prints how many of a schedule's steps are equal, and adds the workload to the sum.
    fn schedule(&mut self, file: &Path, found: &schedule::Steps) {
        if let Some(difference) = &found.difference {
            println!("  {difference}");
        }
        println!("{}: steps equal {} of {}", file.display(), found.equal, found.total);
        let equal = usize::from(found.difference.is_none() && found.equal == found.total);
        self.workloads = (self.workloads.0 + equal, self.workloads.1 + 1);
        self.steps = (self.steps.0 + found.equal, self.steps.1 + found.total);
        self.equal += equal;
        self.total += 1;
    }

    /// Prints a file's first differences and its line, and adds it to the sum.
    fn file(&mut self, file: &Path, total: usize, differences: &[String]) {
        self.things(file, "", total, differences);
    }

    /// The same, saying what is counted (`operations `).
    fn things(&mut self, file: &Path, what: &str, total: usize, differences: &[String]) {
        for difference in differences.iter().take(self.limit) {
            println!("  {difference}");
        }
        let equal = total - differences.len();
        println!("{}: {what}equal {equal} of {total}", file.display());
        self.equal += equal;
        self.total += total;
    }
}

/// Collects the JSON files below a path.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            collect(&entry?.path(), files)?;
        }
    } else if path.extension().is_some_and(|end| end == "json" || end == "jsonl")
        || path.to_string_lossy().ends_with(".jsonl.gz")
    {
        files.push(path.to_owned());
    } else if !path.exists() {
        bail!("{} does not exist", path.display());
    }
    Ok(())
}

/// Reads a file, unpacked where it is packed.
fn unpacked(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|end| end != "gz") {
        return Ok(fs::read(file)?);
    }
    let found = Command::new("gzip").arg("-dc").arg(file).output().context("gzip could not be started")?;
    if !found.status.success() {
        bail!("gzip: {}", String::from_utf8_lossy(&found.stderr).trim());
    }
    Ok(found.stdout)
}

/// The folder of GGUF headers beside the oracles.
fn headers(file: &Path) -> PathBuf {
    let data = file.ancestors().nth(3).unwrap_or(Path::new("."));
    data.join("gguf")
}

/// Checks one file by the form that it has.
fn check(file: &Path, models: Option<&Path>, gguf: Option<&Path>, tally: &mut Tally) -> Result<()> {
    let bytes = unpacked(file)?;
    if file.extension().is_some_and(|end| end == "jsonl" || end == "gz") {
        let text = String::from_utf8(bytes)?;
        let mut rows: Vec<Value> = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            // A line that cannot be read is a row that differs, not the end of the file.
            let row = serde_json::from_str(line);
            rows.push(row.unwrap_or_else(|error| Value::String(format!("line {}: {error}", at + 1))));
        }
        return match rows.iter().find(|row| row.is_object()) {
            Some(row) if row.get("layer_kinds").is_some() => vllm_kv(file, &rows, tally),
            Some(row) if row.get("compute_buffer_mib").is_some() => {
                let folder = gguf.map_or_else(|| headers(file), Path::to_owned);
                let (wrong, report) = llamacpp::compare(&rows, &folder);
                tally.file(file, rows.len(), &wrong);
                print!("{report}");
                Ok(())
            }
            Some(row) if row.get("cache_class").is_some() => generations(file, &rows, tally),
            Some(_) => {
                println!("{}: not a form that is checked yet", file.display());
                Ok(())
            }
            None => bail!("no rows"),
        };
    }
    let oracle: Value = serde_json::from_slice(&bytes)?;
    if oracle.get("tensors").is_some() && oracle.get("total_params").is_some() {
        let differences = parameters(&oracle, models)?;
        tally.file(file, 1, &differences);
    } else if oracle.get("positions").is_some_and(Value::is_object) {
        let differences = transformers_kv(&oracle, models)?;
        tally.file(file, 1, &differences);
    } else if radix::is(&oracle) {
        let (total, differences) = radix::compare(&oracle).map_err(anyhow::Error::msg)?;
        tally.things(file, "operations ", total, &differences);
    } else if sglang_sched::is(&oracle) {
        let (total, differences) = sglang_sched::compare(&oracle).map_err(anyhow::Error::msg)?;
        tally.things(file, "steps ", total, &differences);
    } else if oracle.get("steps").is_some() && oracle.get("requests").is_some() {
        tally.schedule(file, &schedule::compare(&bytes));
    } else {
        println!("{}: not a form that is checked yet", file.display());
    }
    Ok(())
}

/// Compares what a model's cache holds after one pass of several lengths. At most one difference is returned.
fn transformers_kv(oracle: &Value, models: Option<&Path>) -> Result<Vec<String>> {
    let id = oracle.get("model_id").and_then(Value::as_str).context("no model_id")?;
    let found = match read_model(id, models) {
        Ok(model) => plimsoll_plan::engine::transformers::oracle::differences(oracle, &model),
        Err(error) => Err(format!("{error:#}")),
    };
    let wrong = found.unwrap_or_else(|error| vec![error]);
    Ok(if wrong.is_empty() { Vec::new() } else { vec![format!("{id}: {}", wrong.join("; "))] })
}

/// Compares what small models' caches held after whole generations, row by row.
fn generations(file: &Path, rows: &[Value], tally: &mut Tally) -> Result<()> {
    let mut wrong = Vec::new();
    for (line, row) in rows.iter().enumerate() {
        match plimsoll_plan::engine::transformers::oracle::generation(row) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => wrong.push(format!("line {}: {}", line + 1, found.join("; "))),
            Err(error) => wrong.push(format!("line {}: {error}", line + 1)),
        }
    }
    tally.file(file, rows.len(), &wrong);
    Ok(())
}

/// Compares one model's inventory: total, then every pattern. At most one difference is returned, the rest in it.
fn parameters(oracle: &Value, models: Option<&Path>) -> Result<Vec<String>> {
    let id = oracle.get("model_id").and_then(Value::as_str).context("no model_id")?;
    if oracle.get("method").and_then(Value::as_str) == Some("missing") {
        return Ok(Vec::new());
    }
    let model = match read_model(id, models) {
        Ok(model) => model,
        Err(error) => return Ok(vec![format!("{id}: {error:#}")]),
    };
    let total = oracle.get("total_params").and_then(Value::as_u64).context("no total_params")?;
    let mut wrong = Vec::new();
    if model.parameters() != total {
        wrong.push(format!("parameters {} instead of {total}", model.parameters()));
    }
    let active = oracle.pointer("/moe/active_params_text").and_then(Value::as_u64);
    if active.is_some_and(|active| active != model.active_parameters()) {
        wrong.push(format!("active {} instead of {}", model.active_parameters(), active.unwrap_or_default()));
    }
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for tensor in oracle.get("tensors").and_then(Value::as_array).into_iter().flatten() {
        let shape = tensor.get("shape").context("no shape")?;
        let layers = tensor.get("layers").and_then(Value::as_str).unwrap_or_default();
        let name = tensor.get("name").and_then(Value::as_str).context("no name")?;
        let count = tensor.get("count").and_then(Value::as_u64).context("no count")?;
        *expected.entry(format!("{name} {shape} x{count} [{layers}]")).or_default() += 1;
    }
    for tensor in model.counted() {
        let shape = Value::from(tensor.shape.clone());
        *expected.entry(format!("{} {shape} x{} [{}]", tensor.name, tensor.count, tensor.layers)).or_default() -= 1;
    }
    let odd: Vec<String> = expected
        .iter()
        .filter(|(_, count)| **count != 0)
        .map(|(line, count)| format!("{} {line}", if *count > 0 { "lacks" } else { "has" }))
        .collect();
    if !odd.is_empty() {
        wrong.push(format!("{} patterns differ: {}", odd.len(), odd[..odd.len().min(4)].join("; ")));
    }
    Ok(if wrong.is_empty() { Vec::new() } else { vec![format!("{id}: {}", wrong.join("; "))] })
}

/// Reads a model from the folder of configs, or from the catalogue when none is given.
fn read_model(id: &str, models: Option<&Path>) -> Result<plimsoll_facts::model::Model> {
    let Some(models) = models else { return Ok(plimsoll_facts::catalogue::model(id)?.model) };
    let folder = models.join(id.replace('/', "__"));
    let config = fs::read(folder.join("config.json")).with_context(|| folder.display().to_string())?;
    let hf_quant = fs::read(folder.join("hf_quant_config.json")).ok();
    let hf_quant = hf_quant.map(|bytes| plimsoll_facts::model::parse_json(&bytes)).transpose()?;
    let config = plimsoll_facts::model::parse_json(&config)?;
    Ok(plimsoll_facts::model::read(id, &config, hf_quant.as_ref())?)
}

/// Compares the KV-cache planner with the engine's own, row by row.
fn vllm_kv(file: &Path, rows: &[Value], tally: &mut Tally) -> Result<()> {
    let mut wrong = Vec::new();
    for (line, row) in rows.iter().enumerate() {
        match plimsoll_plan::engine::vllm::kv::oracle::differences(row) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => wrong.push(format!("line {}: {}", line + 1, found.join("; "))),
            Err(error) => wrong.push(format!("line {}: {error}", line + 1)),
        }
    }
    tally.file(file, rows.len(), &wrong);
    Ok(())
}
