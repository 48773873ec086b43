//! How far is the plan from what engines logged? Any file in the form of the shared evidence, row by row, with an error
//! table and every row that could not be used named.

#![expect(clippy::print_stdout, reason = "a chore's report goes to stdout")]

mod accuracy;
mod bands;
mod figures;
mod fit;
mod launch;
mod llamacpp;
mod ollama;
mod points;
mod reasons;
mod resolve;
mod row;
mod serving;
mod sglang;
mod sheet;
mod speed;
mod table;
mod trtllm;
mod vllm;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use accuracy::{Mode, run as accuracy};
use bands::Sweeps;
pub use bands::{Measured, Scored, measure};
use row::Row;
use sheet::Form;
pub use speed::run as speed;
use table::Outcome;
use vllm::Target;

/// What to do with the rows.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Print rows as JSON instead of the table.
    pub json: bool,
    /// Print the constants that the rows give, and the residuals behind them.
    pub fit: bool,
    /// Print a page of documentation instead of the table.
    pub markdown: bool,
    /// Print every row rather than the worst.
    pub all: bool,
}

/// Checks every path; true when the targets are met.
pub fn run(paths: &[PathBuf], models: Option<&Path>, options: Options) -> Result<bool> {
    let mut met = true;
    for path in paths {
        let runs = serving::find(path);
        if !runs.is_empty() {
            met &= replays(&runs, models, options)?;
            continue;
        }
        if let Some(rows) = whole::measured::read(path)? {
            met &= whole::compare(path, rows, models, options)?;
            continue;
        }
        let rows = read(path)?;
        if options.fit {
            met &= fit::print(&rows, models, options.all);
            continue;
        }
        met &= file(path, &rows, models, options);
    }
    Ok(met)
}

/// Replays serving runs; true when the targets are met.
fn replays(runs: &[PathBuf], models: Option<&Path>, options: Options) -> Result<bool> {
    let form = if options.markdown { Form::Markdown } else { Form::Text };
    let mut met = true;
    for run in runs {
        let replay = serving::replay(run, models)?;
        let targets = replay.targets();
        met &= targets.iter().all(|target| target.met);
        if options.json {
            println!("{}", replay.json());
        } else {
            print!("{}{}", serving::report(&replay, form), vllm::shown(&targets, form));
        }
    }
    Ok(met)
}

/// One engine's rows of a file, compared.
pub struct Compared {
    /// The engine.
    pub engine: &'static str,
    /// The file's name.
    pub file: String,
    /// Row by row.
    pub outcomes: Vec<Outcome>,
    /// How they are reported.
    report: fn(&[Outcome], Form, bool) -> String,
    /// What they must show.
    targets: Vec<Target>,
}

/// Compares a file's rows, engine by engine; the second is how many rows are of an engine that is not compared.
pub fn compared(path: &Path, rows: &[Row], models: Option<&Path>) -> (Vec<Compared>, usize) {
    let file = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
    let (mut vllm, mut logged, mut measured, mut other) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut sglang = Vec::new();
    for row in rows {
        match row.text("engine") {
            "vllm" => vllm.push(row),
            "tensorrt_llm" | "tensorrt-llm" if row.count("max_concurrent_sequences").is_some() => measured.push(row),
            "tensorrt_llm" | "tensorrt-llm" => logged.push(row),
            "sglang" => sglang.push(row),
            "llama.cpp" | "ollama" => {}
            _ => other += 1,
        }
    }
    let mut all = Vec::new();
    let mut add = |engine, outcomes: Vec<Outcome>, report, targets: fn(&[Outcome]) -> Vec<Target>| {
        if !outcomes.is_empty() {
            let targets = targets(&outcomes);
            all.push(Compared { engine, file: file.clone(), outcomes, report, targets });
        }
    };
    add("vllm", vllm.iter().map(|row| vllm::compare(row, models)).collect(), table::report, vllm::targets);
    add("sglang", sglang.iter().map(|row| sglang::compare(row, models)).collect(), table::report, sglang::targets);
    add("tensorrt-llm", trtllm::logs(&logged, models), table::report, trtllm::log_targets);
    add("tensorrt-llm", trtllm::capacity(&measured, models), table::capacity, trtllm::capacity_targets);
    (all, other)
}

/// Reports a file, engine by engine.
fn file(path: &Path, rows: &[Row], models: Option<&Path>, options: Options) -> bool {
    let form = if options.markdown { Form::Markdown } else { Form::Text };
    let (all, other) = compared(path, rows, models);
    let mut met = true;
    for one in &all {
        met &= one.targets.iter().all(|target| target.met);
        if options.json {
            for outcome in &one.outcomes {
                println!("{}", outcome.json());
            }
            continue;
        }
        match form {
            Form::Text => println!("{}", one.file),
            Form::Markdown => println!("\n## {}\n", one.file),
        }
        print!("{}{}", (one.report)(&one.outcomes, form, options.all), vllm::shown(&one.targets, form));
    }
    let llamacpp = llamacpp_rows(rows);
    if !llamacpp.is_empty() {
        met &= buffers(path, &llamacpp, options);
    }
    let ollama: Vec<&Row> = rows.iter().filter(|row| row.text("engine") == "ollama").collect();
    if !ollama.is_empty() {
        let mut text = format!("{}: Ollama's own estimates\n", path.display());
        met &= ollama::report(&ollama, &mut text);
        if !options.json {
            print!("{text}");
        }
    }
    if other > 0 {
        eprintln!("{}: {other} rows of an engine that is not compared yet", path.display());
        met = false;
    }
    met
}

/// Reports llama.cpp's rows.
fn buffers(path: &Path, rows: &[&Row], options: Options) -> bool {
    let outcomes = llamacpp::compare(rows);
    let targets = llamacpp::targets(&outcomes);
    let form = if options.markdown { Form::Markdown } else { Form::Text };
    if options.json {
        outcomes.iter().for_each(|outcome| println!("{}", llamacpp::json(outcome)));
    } else {
        let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
        println!("{}", if form == Form::Text { name } else { format!("\n## {name}\n") });
        print!("{}{}", llamacpp::report(&outcomes, form), vllm::shown(&targets, form));
    }
    targets.iter().all(|target| target.met)
}

/// Reports llama.cpp's rows of a file as a section of the accuracy page; nothing where it has none.
pub fn buffers_section(file: &str, rows: &[Row]) -> String {
    let rows = llamacpp_rows(rows);
    if rows.is_empty() {
        return String::new();
    }
    let outcomes = llamacpp::compare(&rows);
    let (report, targets) = (llamacpp::report(&outcomes, Form::Markdown), llamacpp::targets(&outcomes));
    format!("\n## llama.cpp, {file}\n\n{report}{}", vllm::shown(&targets, Form::Markdown))
}

/// The rows of llama.cpp, which are compared buffer by buffer.
fn llamacpp_rows(rows: &[Row]) -> Vec<&Row> {
    rows.iter().filter(|row| row.text("engine") == "llama.cpp").collect()
}

/// An engine's residuals: budgets whose prediction has not seen their unit.
pub struct Residuals {
    /// The engine.
    pub engine: &'static str,
    /// The file.
    pub source: String,
    /// Launch by launch.
    pub rows: Vec<Scored>,
}

/// Files with logged launches, in a folder of evidence.
pub const FILES: [&str; 6] =
    ["vllm.jsonl", "trtllm.jsonl", "trtllm_capacity.jsonl", "sglang.jsonl", "llamacpp.jsonl", "ollama.jsonl"];

/// Returns every engine's residuals. vLLM's constants are fitted anew without each launch's unit; other engines' middles
/// are as committed.
///
/// # Errors
/// When a file cannot be read.
pub fn residuals(folder: &Path) -> Result<Vec<Residuals>> {
    let models = folder.parent().map(|data| data.join("models")).filter(|models| models.is_dir());
    let mut all = Vec::new();
    for file in FILES {
        let path = folder.join(file);
        let rows = read(&path)?;
        let (engines, _) = compared(&path, &rows, models.as_deref());
        for one in engines {
            let residuals = one.residuals(&rows, models.as_deref());
            if !residuals.is_empty() {
                all.push(Residuals { engine: one.engine, source: format!("evidence/{file}"), rows: residuals });
            }
        }
    }
    Ok(all)
}

impl Compared {
    /// The residuals of the budgets, each predicted without its unit as far as the engine's constants can be fitted anew.
    pub fn residuals(&self, rows: &[Row], models: Option<&Path>) -> Vec<Scored> {
        if self.engine == "vllm" {
            let wrong = |line: usize| self.outcomes.iter().any(|row| row.line == line && row.wrong());
            return fit::left_out(rows, models).into_iter().filter(|row| !wrong(row.line)).collect();
        }
        let sweeps = Sweeps::new(self.outcomes.iter().map(|row| (row.thread.as_str(), row.model.as_str())));
        let scored = self.outcomes.iter().filter_map(|row| {
            let mut scored = row.scored(self.engine, &sweeps)?;
            // Several logs of one publisher about one model are one unit, each in a file of its own.
            if let Some((publisher, _)) = row.thread.split_once(':').filter(|(_, path)| path.contains('/')) {
                scored.unit = if self.engine == "sglang" { format!("{publisher} {}", row.model) } else { scored.unit };
            }
            Some(scored)
        });
        scored.collect()
    }
}

/// Sets a table for a terminal.
pub fn wide(head: &[&str], rows: &[Vec<String>]) -> String {
    Form::Text.wide(head, rows)
}

/// Reads a file of rows.
///
/// # Errors
/// When it cannot be read or a line is no JSON.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            let value = serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), at + 1))?;
            Ok(Row::new(at + 1, value))
        })
        .collect()
}
