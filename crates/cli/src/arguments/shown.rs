//! How is an answer shown, and which things have a name of their own?

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How an answer is shown.
#[derive(Args, Clone)]
pub struct Shown {
    /// Prints the answer itself as JSON
    #[arg(long)]
    pub json: bool,
    /// Form of the output: aligned text, the answer itself, comma-separated rows, Markdown
    #[arg(long, value_enum, value_name = "table|json|csv|markdown", hide_possible_values = true,
        hide_default_value = true, default_value_t = Form::Table)]
    pub format: Form,
    /// Colours: on a terminal unless `NO_COLOR` is set, always, or never
    #[arg(long, value_enum, value_name = "auto|always|never", hide_possible_values = true,
        hide_default_value = true, default_value_t = Colour::Auto)]
    pub color: Colour,
    /// Writes the answer to a file instead: .svg or .png (its figures), .html (a report), .md, .csv, .parquet, .json
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The one figure that --out writes, where an answer has several
    #[arg(long, value_name = "NAME", requires = "out")]
    pub figure: Option<String>,
    /// Background of figures
    #[arg(long, value_enum, value_name = "light|dark", hide_possible_values = true, hide_default_value = true,
        default_value_t = Background::Light)]
    pub theme: Background,
    /// Shows no progress and says nothing of files that were written
    #[arg(long)]
    pub quiet: bool,
}

impl Shown {
    /// Returns the form, `--json` considered.
    pub fn form(&self) -> Form {
        if self.json { Form::Json } else { self.format }
    }
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Aligned text for a terminal
    Table,
    /// The answer itself
    Json,
    /// Comma-separated rows
    Csv,
    /// Markdown
    Markdown,
}

/// Backgrounds of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Background {
    /// White: paper, too
    Light,
    /// Dark
    Dark,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The catalogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Models
    Models,
    /// Cards
    Gpus,
    /// Engines
    Engines,
    /// Weight and KV formats
    Formats,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Models => "models",
            Kind::Gpus => "gpus",
            Kind::Engines => "engines",
            Kind::Formats => "formats",
        })
    }
}

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// What `plan --batch` reads
    PlanRequest,
    /// What `plan --json` prints
    PlanAnswer,
    /// What `inspect --json` prints
    InspectAnswer,
    /// What `catalogue --json` prints
    CatalogueAnswer,
    /// What `reconcile --json` prints
    ReconcileAnswer,
    /// What `grow` asks
    GrowRequest,
    /// What `grow --json` prints
    GrowAnswer,
    /// What `roofline` asks
    RooflineRequest,
    /// What `roofline --json` prints
    RooflineAnswer,
    /// What `compare` asks
    CompareRequest,
    /// What `compare --json` prints
    CompareAnswer,
    /// What `sweep` asks
    SweepRequest,
    /// What `simulate` asks
    SimulateRequest,
    /// What `simulate --json` prints
    SimulateAnswer,
    /// What `simulate --compare … --json` prints
    SimulateCompareAnswer,
}
