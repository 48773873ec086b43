//! Fits recurrent layers: the convolution and the scan, of prompts and of new tokens.

use std::path::Path;

use anyhow::{Context, Result};
use plimsoll_cost::measured::Backend;
use plimsoll_cost::measured::attention::grouped::Card;
use plimsoll_cost::measured::recurrent::{Case as Shape, Part};

use crate::rows::{self, Measured};
use crate::tables::{Case, Set, fit_all, points};
use crate::{Fitted, card};

/// Which kernel a row is of.
fn part(phase: &str, source: &str) -> Part {
    match (phase == "context", source.starts_with("causal_conv1d")) {
        (true, true) => Part::PromptConvolution,
        (true, false) => Part::PromptScan,
        (false, true) => Part::TokenConvolution,
        (false, false) => Part::TokenScan,
    }
}

/// The points wished for the axes.
fn wished(part: Part) -> [(&'static str, Vec<f64>); 2] {
    match part {
        Part::PromptConvolution => [
            ("tokens", vec![4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0]),
            ("rows", vec![16.0, 64.0, 256.0, 1024.0, 4096.0]),
        ],
        Part::PromptScan => [
            ("tokens", vec![16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0]),
            ("rows", vec![4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]),
        ],
        Part::TokenConvolution => {
            [("rows", vec![16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0]), ("channels", vec![16.0, 32.0, 64.0])]
        }
        Part::TokenScan => [
            ("rows", vec![4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 8192.0]),
            ("heads", vec![4.0, 16.0]),
        ],
    }
}

/// Reads one file into the tables that it feeds.
fn read(file: &Measured, sets: &mut Vec<Set>) -> Result<()> {
    let backend = Backend::find(&file.backend).with_context(|| format!("no engine {}", file.backend))?;
    let rates = Card::new(&card::hardware(file.card)?).context("no multiprocessors")?;
    let table = rows::parquet(&file.path)?;
    let mamba = file.file == "mamba2_perf";
    let columns = if mamba {
        ["n_groups", "d_state", "nheads", "head_dim"]
    } else {
        ["num_k_heads", "head_k_dim", "num_v_heads", "head_v_dim"]
    };
    let [key_heads, key_dim, value_heads, value_dim] = columns;
    let (key_heads, key_dim) = (table.number(key_heads)?, table.number(key_dim)?);
    let (value_heads, value_dim) = (table.number(value_heads)?, table.number(value_dim)?);
    let (batch, tokens, conv) = (table.number("batch_size")?, table.number("seq_len")?, table.number("d_conv")?);
    let (phase, source, latency) = (table.text("phase")?, table.text("kernel_source")?, table.number("latency")?);
    for wanted in Part::ALL {
        let mut cases = Vec::new();
        for row in (0..table.count).filter(|row| part(&phase[*row], &source[*row]) == wanted) {
            let shape = Shape {
                batch: batch[row],
                tokens: if phase[row] == "context" { tokens[row] } else { 1.0 },
                key_heads: key_heads[row],
                key_dim: key_dim[row],
                value_heads: value_heads[row],
                value_dim: value_dim[row],
                conv: conv[row],
            };
            cases.push(Case {
                places: shape.place(wanted).to_vec(),
                base: shape.base(wanted, &rates),
                seconds: latency[row] / 1e3,
                names: vec![
                    ("heads", format!("{} {} {}", shape.key_heads, shape.value_heads, shape.key_dim)),
                    ("lengths", format!("{} {}", shape.batch, shape.tokens)),
                ],
            });
        }
        if cases.is_empty() {
            continue;
        }
        let axes = wished(wanted)
            .into_iter()
            .enumerate()
            .map(|(axis, (name, wished))| (name, points(&wished, cases.iter().map(|case| case.places[axis]))))
            .collect();
        sets.push(Set {
            card: file.card.to_owned(),
            backend: backend.name().to_owned(),
            kind: format!("{} {}", if mamba { "mamba2" } else { "gdn" }, wanted.name()),
            axes,
            cases,
        });
    }
    Ok(())
}

/// Fits all tables of recurrent layers.
///
/// # Errors
/// Where a measurement cannot be read.
pub fn fit(perf: &Path) -> Result<Fitted> {
    let mut sets = Vec::new();
    for file in rows::list(perf, "linear_attention")? {
        read(&file, &mut sets).with_context(|| file.path.display().to_string())?;
    }
    Ok(fit_all("Recurrent layers", "recurrent", &sets))
}
