//! Which factor does each group's interval have? Written into the planner's table from the logged launches, with how the
//! factors hold where each launch's unit is left out.

#![expect(clippy::print_stdout, reason = "a chore's report goes to stdout")]

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::evidence::{self, Measured, Residuals};

/// The table in the planner.
const TABLE: &str = "crates/plan/src/interval/table.rs";

/// Writes the table, or only compares it with what stands there; prints the groups either way.
pub fn run(folder: &Path, check: bool) -> Result<bool> {
    let all = evidence::residuals(folder)?;
    let mut rows = Vec::new();
    let mut lines = Vec::new();
    for engine in &all {
        for group in evidence::measure(&engine.rows) {
            lines.push(line(engine.engine, &group));
            rows.push((engine, group));
        }
    }
    let head = ["engine and group", "launches", "units", "factor", "left out, inside", "median width, % GPU"];
    print!("{}", evidence::wide(&head, &lines));
    let text = table(&rows)?;
    if check {
        let stands = std::fs::read_to_string(TABLE).context(TABLE)?;
        if stands != text {
            eprintln!("{TABLE} is not what `cargo xtask intervals` would write");
            return Ok(false);
        }
    } else {
        std::fs::write(TABLE, text).context(TABLE)?;
    }
    Ok(true)
}

fn line(engine: &str, group: &Measured) -> Vec<String> {
    let name = if group.group.is_empty() { "all of them" } else { &group.group };
    let share = 100.0 * group.inside as f64 / group.launches.max(1) as f64;
    vec![
        format!("{engine}: {name}"),
        group.launches.to_string(),
        group.units.to_string(),
        if group.own { format!("{:.3}", group.factor) } else { "common".to_owned() },
        format!("{} ({share:.0}%)", group.inside),
        format!("{:.2}", group.width),
    ]
}

/// The table's source text. A group of too few launches has no row: it takes its engine's; an engine of too few has none,
/// and the doubts of its ledger's lines stand as they are.
fn table(rows: &[(&Residuals, Measured)]) -> Result<String> {
    let mut text =
        "//! Which factor does each group's interval have? Written by `cargo xtask intervals`; do not edit.\n\n\
                    use super::Band;\n\n/// Every band, engine by engine.\n\
                    #[rustfmt::skip]\npub(super) const BANDS: &[Band] = &[\n"
            .to_owned();
    for (engine, group) in rows.iter().filter(|(_, group)| group.own) {
        writeln!(
            text,
            "    Band {{ engine: {:?}, group: {:?}, factor: {:.3}, launches: {}, units: {}, source: {:?} }},",
            engine.engine, group.group, group.factor, group.launches, group.units, engine.source
        )?;
    }
    text.push_str("];\n");
    Ok(text)
}
