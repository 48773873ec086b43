//! Which rates does a card of the tables have? Those of the catalogue, which the cost model takes too.

use anyhow::{Context, Result};
use plimsoll_cost::hardware::{Given, Hardware};
use plimsoll_cost::measured::HOMES;
use plimsoll_facts::catalogue;

/// Returns the rates of a card by its name in the tables.
///
/// # Errors
/// Where the tables have no such card or the catalogue lacks a rate.
pub fn hardware(card: &str) -> Result<Hardware> {
    let home = HOMES.iter().find(|home| home.card == card).with_context(|| format!("there is no card {card}"))?;
    let gpu = catalogue::gpu(home.name).with_context(|| format!("{} is not in the catalogue", home.name))?;
    Ok(Hardware::new(Some(&gpu), &Given::default())?)
}
