//! Plimsoll's own chores: everything that a maintainer or CI runs besides `cargo test`.

mod book;
mod catalogue;
mod ci;
mod evidence;
mod figure;
mod intervals;
mod oracle;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Plimsoll's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that CI checks: format, lints, tests, documentation, generated files
    Ci,
    /// Checks the documentation's pages and links, and builds the site where mdBook is installed
    Book {
        /// Only checks pages and links
        #[arg(long)]
        check: bool,
    },
    /// Writes the built-in catalogues anew from the shared data
    Catalogue {
        /// Folder with models/ and gpus.csv
        #[arg(long, default_value = "../shared/data")]
        data: PathBuf,
        /// Only checks that the committed files are what would be written
        #[arg(long)]
        check: bool,
    },
    /// Compares plans with what engines logged; prints the error table and the rows that cannot be used
    Evidence {
        /// Files in the form of evidence/vllm.jsonl, trtllm.jsonl or trtllm_capacity.jsonl
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Folder of configs (`org__name/config.json`); otherwise models/ beside the evidence's folder, or the built-in
        /// catalogue
        #[arg(long)]
        models: Option<PathBuf>,
        /// Prints rows as JSON instead of the table
        #[arg(long)]
        json: bool,
        /// Prints the constants and intervals that the rows give instead, and whether the committed ones are equal
        #[arg(long)]
        fit: bool,
        /// Prints a page of documentation instead
        #[arg(long)]
        markdown: bool,
        /// Prints every row rather than the worst
        #[arg(long)]
        all: bool,
    },
    /// Writes docs/accuracy.md, its figures and the medians that may not get worse, from logged launches
    Accuracy {
        /// Folder with the logged launches
        #[arg(long, default_value = "../shared/data/evidence")]
        evidence: PathBuf,
        /// Only checks that the committed files are what would be written, and that no median is worse
        #[arg(long)]
        check: bool,
        /// Takes worse medians for the new baseline
        #[arg(long)]
        accept: bool,
    },
    /// Writes the factors of the budgets' intervals anew from logged launches, and prints how they hold
    Intervals {
        /// Folder with the logged launches
        #[arg(long, default_value = "../shared/data/evidence")]
        evidence: PathBuf,
        /// Only checks that the committed factors are what would be written
        #[arg(long)]
        check: bool,
    },
    /// Writes docs/speed.md and its figures: measured whole-engine times against predicted ones
    Speed {
        /// Folder with perf/, serving/ and models/
        #[arg(long, default_value = "../shared/data")]
        data: PathBuf,
        /// Only checks that the committed files are what would be written
        #[arg(long)]
        check: bool,
    },
    /// Fits the tables of measured kernels anew from published measurements; prints the errors on left-out shapes
    Fit {
        /// `gemm`, `attention`, …; all when none is named
        families: Vec<String>,
        /// Folder with the measurements
        #[arg(long, default_value = "../shared/data/perf")]
        perf: PathBuf,
        /// Only checks that the committed tables are what would be written
        #[arg(long)]
        check: bool,
    },
    /// Draws the README's figures from the commands beside them
    Figure {
        /// Folder that it is written into
        #[arg(long, default_value = "docs/figures")]
        folder: PathBuf,
        /// Only checks that the committed figures are what would be drawn
        #[arg(long)]
        check: bool,
    },
    /// Adds one model to the hand-kept part of the catalogue
    CatalogueAdd {
        /// Its name, `org/name`
        id: String,
        /// Folder with its config.json (and hf_quant_config.json)
        folder: PathBuf,
        /// Where its configuration comes from
        #[arg(long)]
        source: String,
    },
    /// Compares with what engines' own code decided; prints `equal N of M` per file
    Oracle {
        /// Files or folders in the forms of oracle_params and oracle/vllm_kv
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Folder of configs (`org__name/config.json`) for parameter oracles
        #[arg(long)]
        models: Option<PathBuf>,
        /// Folder of GGUF headers (`MODEL-TYPE.header.gguf`) for llama.cpp's oracle; otherwise gguf/ beside the oracles
        #[arg(long)]
        gguf: Option<PathBuf>,
        /// How many differences to print per file
        #[arg(long, default_value_t = 5)]
        differences: usize,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Ci => ci::run(),
        Chore::Book { check: true } => book::check(),
        Chore::Book { check: false } => book::build(),
        Chore::Catalogue { data, check } => catalogue::run(&data, check),
        Chore::Evidence { paths, models, json, fit, markdown, all } => {
            let models = configs(models, &paths);
            evidence::run(&paths, models.as_deref(), evidence::Options { json, fit, markdown, all })
        }
        Chore::Accuracy { evidence, check, accept } => evidence::accuracy(&evidence, evidence::Mode { check, accept }),
        Chore::Intervals { evidence, check } => intervals::run(&evidence, check),
        Chore::Speed { data, check } => evidence::speed(&data, check),
        Chore::Fit { families, perf, check } => {
            plimsoll_fit::run(&perf, Path::new("crates/cost/data"), &families, check).map(|same| same || !check)
        }
        Chore::Figure { folder, check } => figure::run(&folder, check),
        Chore::CatalogueAdd { id, folder, source } => catalogue::add(&id, &source, &folder),
        Chore::Oracle { paths, models, gguf, differences } => {
            oracle::run(&paths, models.as_deref(), gguf.as_deref(), differences)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Settles where configs are read from, and says so when it is not where most would be found.
fn configs(asked: Option<PathBuf>, paths: &[PathBuf]) -> Option<PathBuf> {
    let beside = paths.first().and_then(|path| path.parent()?.parent()).map(|folder| folder.join("models"));
    let found = match asked {
        Some(folder) if folder.is_dir() => Some(folder),
        Some(folder) => {
            eprintln!("warning: {} is no folder; the built-in catalogue is used", folder.display());
            None
        }
        None => [beside, Some(PathBuf::from("../shared/data/models"))].into_iter().flatten().find(|p| p.is_dir()),
    };
    if found.is_none() {
        eprintln!("models are read from the built-in catalogue: variants that only a configuration shows are left out");
    }
    found
}
