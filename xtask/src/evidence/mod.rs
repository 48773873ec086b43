//! How far is the plan from what engines logged? Any file in the form of the shared evidence, row by row, with an error
//! table and every row that could not be used named.

#![expect(clippy::print_stdout, reason = "a chore's report goes to stdout")]

mod fit;
mod launch;
mod llamacpp;
mod points;
mod reasons;
mod resolve;
mod row;
mod sheet;
mod table;
mod trtllm;
mod vllm;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use row::Row;
use sheet::Form;
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
    if options.markdown {
        print!("{PAGE}");
    }
    for path in paths {
        let rows = read(path)?;
        if options.fit {
            met &= fit::print(&rows, models, options.all);
            continue;
        }
        met &= file(path, &rows, models, options);
    }
    Ok(met)
}

/// How the page opens.
const PAGE: &str = include_str!("page.md");

/// Reports a file, engine by engine.
fn file(path: &Path, rows: &[Row], models: Option<&Path>, options: Options) -> bool {
    let form = if options.markdown { Form::Markdown } else { Form::Text };
    let (vllm, other): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.text("engine") == "vllm");
    let is_trt = |row: &&Row| matches!(row.text("engine"), "tensorrt_llm" | "tensorrt-llm");
    let (tensorrt, other): (Vec<&Row>, Vec<&Row>) = other.into_iter().partition(is_trt);
    let (measured, logged): (Vec<&Row>, Vec<&Row>) =
        tensorrt.into_iter().partition(|row| row.count("max_concurrent_sequences").is_some());
    let mut met = true;
    let mut put = |outcomes: &[Outcome], report: fn(&[Outcome], Form, bool) -> String, targets: Vec<Target>| {
        met &= targets.iter().all(|target| target.met);
        if options.json {
            for outcome in outcomes {
                println!("{}", outcome.json());
            }
            return;
        }
        let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
        match form {
            Form::Text => println!("{name}"),
            Form::Markdown => println!("\n## {name}\n"),
        }
        print!("{}{}", report(outcomes, form, options.all), vllm::shown(&targets, form));
    };
    if !vllm.is_empty() {
        let outcomes: Vec<Outcome> = vllm.iter().map(|row| vllm::compare(row, models)).collect();
        put(&outcomes, table::report, vllm::targets(&outcomes));
    }
    if !logged.is_empty() {
        let outcomes = trtllm::logs(&logged, models);
        put(
            &outcomes,
            table::report,
            trtllm::targets(&outcomes, "KV tokens within rounding given the logged budget, %", (95.0, ">= 95")),
        );
    }
    if !measured.is_empty() {
        let outcomes = trtllm::capacity(&measured, models);
        put(
            &outcomes,
            table::capacity,
            trtllm::targets(&outcomes, "capacities within max(1, 2%), % of rows", (100.0, "= 100")),
        );
    }
    let (llamacpp, other): (Vec<&Row>, Vec<&Row>) =
        other.into_iter().partition(|row| row.text("engine") == "llama.cpp");
    if !llamacpp.is_empty() {
        met &= buffers(path, &llamacpp, options);
    }
    if !other.is_empty() {
        eprintln!("{}: {} rows of an engine that is not compared yet", path.display(), other.len());
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

/// Reads a file of rows.
fn read(path: &Path) -> Result<Vec<Row>> {
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
