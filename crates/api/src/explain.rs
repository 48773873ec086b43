//! Where does one number come from? Its formula, the values in it, its source.

use plimsoll_plan::{Item, Plan};
use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::{prepare, run};
use crate::{Desk, Error, PlanRequest};

/// One number, explained, on the scarcest rank.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Explanation {
    /// What it is.
    pub item: String,
    /// Bytes.
    pub bytes: u64,
    /// Fifth percentile.
    pub low: u64,
    /// Ninety-fifth percentile.
    pub high: u64,
    /// The formula in symbols.
    pub formula: String,
    /// The symbols and their values.
    pub values: Vec<(String, f64)>,
    /// Where it comes from.
    pub source: String,
    /// What a reader should know.
    pub note: Option<String>,
}

/// Explains one item of a plan's ledger.
///
/// # Errors
/// As [`crate::plan()`]; [`Error::Request`] names the items of this ledger when `item` is none of them.
pub fn explain(request: &PlanRequest, item: &str, desk: &Desk<'_>) -> Result<Explanation, Error> {
    let plan = run(&prepare(request, desk)?)?;
    let wanted = item.trim().to_ascii_lowercase().replace('-', "_");
    let Some(found) = Item::named(&wanted) else {
        return Err(unknown(item, &plan));
    };
    let Some(entry) = plan.ranks.get(plan.scarcest).and_then(|rank| rank.ledger.entry(found)) else {
        return Err(unknown(item, &plan));
    };
    Ok(Explanation {
        item: found.name().to_owned(),
        bytes: entry.size.bytes.get(),
        low: entry.size.low.get(),
        high: entry.size.high.get(),
        formula: match entry.formula.text.to_string() {
            empty if empty.is_empty() => "Σ over this rank's tensors of count × bytes as stored".to_owned(),
            text => text,
        },
        values: entry.formula.values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        source: entry.size.source.to_string(),
        note: entry.note.as_ref().map(ToString::to_string),
    })
}

/// The error for an item that this ledger does not have.
fn unknown(item: &str, plan: &Plan) -> Error {
    let entries = plan.ranks.get(plan.scarcest).map(|rank| rank.ledger.entries.as_slice()).unwrap_or_default();
    let names: Vec<&str> = entries.iter().map(|entry| entry.item.name()).collect();
    Error::Request(format!("this ledger has no item `{item}`; it has {}", names.join(", ")))
}
