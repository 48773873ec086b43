//! Where do the tables of measured kernels come from? One fitter per family: it reads published measurements, leaves whole
//! shapes out, fits, says how far off the left-out ones are, and writes the table that `plimsoll-cost` compiles in.

pub mod attention;
pub mod card;
pub mod collective;
pub mod dense;
pub mod gemm;
pub mod held;
pub mod latent;
pub mod lattice;
pub mod moe;
pub mod recurrent;
pub mod rows;
pub mod smooth;
pub mod stats;
pub mod stream;
pub mod surface;
pub mod tables;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// What a fitter gives.
pub struct Fitted {
    /// The table's file, complete.
    pub table: String,
    /// Errors on shapes that were left out of the fit (and of the table that they are measured with).
    pub errors: Vec<stats::Line>,
    /// What a reader of the figures should know.
    pub notes: Vec<String>,
}

/// A family's fitter: from the folder of measurements (`perf`) to its table.
pub type Fitter = fn(&Path) -> Result<Fitted>;

/// The families: name, file in `crates/cost/data`, fitter.
pub const FAMILIES: &[(&str, &str, Fitter)] = &[
    ("gemm", "gemm.txt", gemm::fit),
    ("attention", "attention.txt", attention::fit),
    ("latent", "latent.txt", latent::fit),
    ("recurrent", "recurrent.txt", recurrent::fit),
    ("moe", "moe.txt", moe::fit),
    ("collective", "collective.txt", collective::fit),
    ("stream", "stream.txt", stream::fit),
];

/// Fits the families asked for (all when none is), writes their tables into `data` or only compares, and prints the errors
/// on left-out shapes. Returns whether everything written was there already.
///
/// # Errors
/// A family that there is none of, a measurement that cannot be read, a table that cannot be written.
pub fn run(perf: &Path, data: &Path, families: &[String], check: bool) -> Result<bool> {
    let mut good = true;
    if let Some(unknown) = families.iter().find(|asked| !FAMILIES.iter().any(|(name, ..)| name == asked)) {
        let known: Vec<&str> = FAMILIES.iter().map(|(name, ..)| *name).collect();
        bail!("there is no family {unknown}; there are {}", known.join(", "));
    }
    let asked = |name: &str| families.is_empty() || families.iter().any(|asked| asked == name);
    let wanted: Vec<_> = FAMILIES.iter().filter(|(name, ..)| asked(name)).collect();
    let bar = bar(wanted.len());
    for (name, file, fitter) in wanted {
        bar.set_message(*name);
        let fitted = fitter(perf)?;
        let path = data.join(file);
        let same = std::fs::read_to_string(&path).is_ok_and(|there| there == fitted.table);
        if !check && !same {
            std::fs::write(&path, &fitted.table)?;
        }
        if check && !same {
            bar.suspend(|| eprintln!("{} is not what `cargo xtask fit {name}` writes", path.display()));
        }
        good &= same;
        // The bar steps aside for lines that stay.
        bar.suspend(|| eprint!("{}", stats::table(name, &fitted.errors, &fitted.notes)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(good)
}

/// A bar of the families on a terminal; nothing elsewhere.
fn bar(families: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} fits {msg}: {bar:24} {pos} of {len} done, {elapsed}");
    let bar = ProgressBar::new(families as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
