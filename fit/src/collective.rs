//! How long did messages between cards take? Tables of how far off NCCL's own tuner is, by card, engine and collective.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use plimsoll_cost::Collective;
use plimsoll_cost::measured::collective::Message;
use plimsoll_cost::measured::grid;

use crate::smooth::{self, Settings};
use crate::stats::Line;
use crate::{Fitted, card, rows};

/// Sizes at which a table has points, from 256 B to 1 GiB, each four times the last.
fn axes() -> Vec<(String, Vec<f64>)> {
    let sizes = (0..12).map(|step| 256.0 * f64::from(1_u32 << (2 * step))).collect();
    vec![("bytes".to_owned(), sizes), ("ranks".to_owned(), vec![2.0, 4.0, 8.0])]
}

/// Close to the measurements, which lie on a line and are few; outliers (a message that waited) are weighed down.
const SETTINGS: Settings = Settings { stiffness: 0.02, outlier: 0.03, rounds: 4 };

/// A measured message: bytes and ranks, the tuner's time and the measured one.
struct Row {
    place: Vec<f64>,
    ideal: f64,
    seconds: f64,
}

/// Rows by card, engine (or `nccl`) and collective.
type Groups = BTreeMap<(&'static str, String, String), Vec<Row>>;

impl Row {
    /// Every other size is left out.
    fn left(&self) -> bool {
        (libm::log2(self.place[0]).round() as i64) % 2 != 0
    }
}

/// Fits the family.
///
/// # Errors
/// Where a file of measurements cannot be read or names what is not known.
pub fn fit(perf: &Path) -> Result<Fitted> {
    let mut table = String::from(
        "# Messages between cards: thousandths of ln(measured / NCCL's tuner), see measured/collective.rs. Fitted by\n\
         # `cargo xtask fit collective` from aiconfigurator (Apache-2.0, commit 095f58a51c4c).\n",
    );
    let mut errors = Vec::new();
    for ((card, backend, kind), rows) in read(perf)? {
        grid::write(&mut table, &format!("{card} {backend} {kind}"), &fitted(rows.iter()));
        let kept = fitted(rows.iter().filter(|row| !row.left()));
        let left = rows.iter().filter(|row| row.left());
        let ratios: Vec<f64> = left.map(|row| row.ideal * libm::exp(kept.at(&row.place).0) / row.seconds).collect();
        errors.push(Line { card: card.to_owned(), backend, kind, fitted: rows.len() - ratios.len(), ratios });
    }
    let notes = vec!["left out: every other size of message".to_owned()];
    Ok(Fitted { table, errors, notes })
}

fn fitted<'a>(rows: impl Iterator<Item = &'a Row>) -> grid::Grid {
    let (points, values): (Vec<Vec<f64>>, Vec<f64>) =
        rows.map(|row| (row.place.clone(), libm::log(row.seconds / row.ideal))).unzip();
    smooth::fit(&axes(), &points, &values, &SETTINGS)
}

/// Reads all measurements: those of engines inside a CUDA graph.
fn read(perf: &Path) -> Result<Groups> {
    let mut groups = Groups::new();
    for file in rows::list(perf, "comm")? {
        let rate = card::hardware(file.card)?.link.with_context(|| format!("no link of {}", file.card))?;
        let table = rows::parquet(&file.path)?;
        let (sizes, ranks, latency) =
            (table.number("message_size")?, table.number("num_gpus")?, table.number("latency")?);
        let (names, sources) = (table.text("op_name")?, table.text("kernel_source")?);
        let types = table.text("nccl_dtype").or_else(|_| table.text("allreduce_dtype"))?;
        for at in 0..table.count {
            if sources[at].ends_with("_eager") {
                continue;
            }
            let kind = match names[at].as_str() {
                "all_reduce" => Collective::AllReduce,
                "all_gather" => Collective::AllGather,
                "reduce_scatter" => Collective::ReduceScatter,
                "alltoall" => Collective::AllToAll,
                other => anyhow::bail!("{}: no collective {other}", file.path.display()),
            };
            let bytes = sizes[at] * if types[at] == "int8" { 1.0 } else { 2.0 };
            let row = Row {
                place: vec![bytes, ranks[at]],
                ideal: Message { kind, bytes, ranks: ranks[at] }.ideal(rate),
                seconds: latency[at] * 1e-3,
            };
            groups.entry((file.card, file.backend.clone(), kind.name().to_owned())).or_default().push(row);
        }
    }
    Ok(groups)
}
