//! What stands in one row? One plan and one load of it, as plain columns that every form of file shares.

use std::sync::Arc;

/// One plan of a sweep, and how it takes one load. What a plan cannot say is `None`; of a launch that cannot be planned
/// there is the error alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepRow {
    /// The model as it was asked for.
    pub model: Arc<str>,
    /// The card's name in the catalogue; as it was asked for where there is none.
    pub gpu: Arc<str>,
    /// Cards that the launch uses; without a plan those that were asked for, `None` when nobody said.
    pub gpu_count: Option<u64>,
    /// The engine.
    pub engine: &'static str,
    /// The release whose rules were used.
    pub engine_version: Option<Arc<str>>,
    /// Tensor-parallel ranks.
    pub tp: Option<u64>,
    /// Pipeline stages.
    pub pp: Option<u64>,
    /// Format of the weights, where one was asked for.
    pub format: Option<Arc<str>>,
    /// Format of the KV cache, where one was asked for.
    pub kv_format: Option<Arc<str>>,
    /// Tokens of each sequence: the longest that the launch serves.
    pub context: u64,
    /// Sequences at once: the load.
    pub batch: u64,
    /// What the launch comes to; `None` where it cannot be planned.
    pub plan: Option<SweepPlan>,
    /// The load on it; `None` where it cannot be planned.
    pub load: Option<SweepLoad>,
    /// Why there is no plan.
    pub error: Option<Arc<str>>,
}

/// What a launch comes to, on the rank that has least room. Bytes are of that one rank.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepPlan {
    /// `fits`, `borderline`, `shorter` (it starts, and holds no sequence of the context) or `does_not_fit`, of the launch with
    /// one sequence.
    pub state: &'static str,
    /// Whether the engine starts and serves one sequence of the context.
    pub fits: bool,
    /// What binds, where it does not fit.
    pub binding: Option<Arc<str>>,
    /// Weights.
    pub weights_bytes: u64,
    /// The peak of a forward pass above the weights.
    pub activation_bytes: u64,
    /// Everything else that stands beside the KV cache: contexts of the driver, graphs, buffers.
    pub runtime_bytes: u64,
    /// The KV cache as it is set up.
    pub kv_bytes: u64,
    /// All of the above.
    pub total_bytes: u64,
    /// The card's memory.
    pub card_bytes: u64,
    /// What the engine allows itself.
    pub limit_bytes: u64,
    /// What lies in the host's memory.
    pub host_bytes: u64,
    /// What is left for the KV cache.
    pub kv_budget_bytes: u64,
    /// Fifth percentile of it.
    pub kv_budget_low: u64,
    /// Ninety-fifth percentile of it.
    pub kv_budget_high: u64,
    /// Bytes that one more token costs while no window is full.
    pub kv_bytes_per_token: u64,
    /// Tokens that the cache holds.
    pub kv_tokens: u64,
    /// Sequences of the context that it holds at once.
    pub max_concurrency: f64,
    /// The longest sequence of which it holds one.
    pub max_context_tokens: u64,
    /// Bytes to spare beside that sequence (negative: missing), as estimated.
    pub margin_bytes: i64,
}

/// How a launch takes a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepLoad {
    /// Bytes of KV cache that so many sequences of the context need.
    pub kv_needed_bytes: u64,
    /// Whether the launch fits and holds them all at once.
    pub fits: bool,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Text,
    /// Whole numbers.
    Count,
    /// Other numbers.
    Number,
    /// Yes or no.
    Flag,
}

/// One value; `None` is an empty cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'r> {
    /// Words.
    Text(Option<&'r str>),
    /// Whole numbers.
    Count(Option<i64>),
    /// Other numbers.
    Number(Option<f64>),
    /// Yes or no.
    Flag(Option<bool>),
}

/// A column: what it is called, what it holds, and its value in a row.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its value.
    pub cell: fn(&SweepRow) -> Cell<'_>,
}

/// A whole number that fits the columns' signed 64 bits; none comes near their end.
fn count(number: Option<u64>) -> Cell<'static> {
    Cell::Count(number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)))
}

/// A count of the plan.
macro_rules! planned {
    ($name:literal, $field:ident) => {
        Column { name: $name, kind: Kind::Count, cell: |row| count(row.plan.as_ref().map(|plan| plan.$field)) }
    };
}

/// The columns, in order.
pub const COLUMNS: [Column; 33] = [
    Column { name: "model", kind: Kind::Text, cell: |row| Cell::Text(Some(&row.model)) },
    Column { name: "gpu", kind: Kind::Text, cell: |row| Cell::Text(Some(&row.gpu)) },
    Column { name: "gpu_count", kind: Kind::Count, cell: |row| count(row.gpu_count) },
    Column { name: "engine", kind: Kind::Text, cell: |row| Cell::Text(Some(row.engine)) },
    Column { name: "engine_version", kind: Kind::Text, cell: |row| Cell::Text(row.engine_version.as_deref()) },
    Column { name: "tp", kind: Kind::Count, cell: |row| count(row.tp) },
    Column { name: "pp", kind: Kind::Count, cell: |row| count(row.pp) },
    Column { name: "format", kind: Kind::Text, cell: |row| Cell::Text(row.format.as_deref()) },
    Column { name: "kv_format", kind: Kind::Text, cell: |row| Cell::Text(row.kv_format.as_deref()) },
    Column { name: "context", kind: Kind::Count, cell: |row| count(Some(row.context)) },
    Column { name: "batch", kind: Kind::Count, cell: |row| count(Some(row.batch)) },
    Column { name: "state", kind: Kind::Text, cell: |row| Cell::Text(row.plan.as_ref().map(|plan| plan.state)) },
    Column { name: "fits", kind: Kind::Flag, cell: |row| Cell::Flag(row.plan.as_ref().map(|plan| plan.fits)) },
    Column { name: "fits_load", kind: Kind::Flag, cell: |row| Cell::Flag(row.load.map(|load| load.fits)) },
    Column {
        name: "binding",
        kind: Kind::Text,
        cell: |row| Cell::Text(row.plan.as_ref().and_then(|plan| plan.binding.as_deref())),
    },
    planned!("weights_bytes", weights_bytes),
    planned!("activation_bytes", activation_bytes),
    planned!("runtime_bytes", runtime_bytes),
    planned!("kv_bytes", kv_bytes),
    planned!("total_bytes", total_bytes),
    planned!("card_bytes", card_bytes),
    planned!("limit_bytes", limit_bytes),
    planned!("host_bytes", host_bytes),
    planned!("kv_budget_bytes", kv_budget_bytes),
    planned!("kv_budget_low", kv_budget_low),
    planned!("kv_budget_high", kv_budget_high),
    planned!("kv_bytes_per_token", kv_bytes_per_token),
    planned!("kv_tokens", kv_tokens),
    Column { name: "kv_needed_bytes", kind: Kind::Count, cell: |row| count(row.load.map(|load| load.kv_needed_bytes)) },
    Column {
        name: "max_concurrency",
        kind: Kind::Number,
        cell: |row| {
            Cell::Number(row.plan.as_ref().map(|plan| plan.max_concurrency).filter(|number| number.is_finite()))
        },
    },
    planned!("max_context_tokens", max_context_tokens),
    Column {
        name: "margin_bytes",
        kind: Kind::Count,
        cell: |row| Cell::Count(row.plan.as_ref().map(|plan| plan.margin_bytes)),
    },
    Column { name: "error", kind: Kind::Text, cell: |row| Cell::Text(row.error.as_deref()) },
];
