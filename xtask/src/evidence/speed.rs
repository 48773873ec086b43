//! What does the page on speed say? Whole engines and replayed runs, predicted and measured, written by one command.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use plimsoll_api::Desk;

use super::figures::{Strip, strips};
use super::serving;
use super::sheet::Form;
use super::whole::fit::{Engine, judge, report};
use super::whole::launch::Launches;
use super::whole::models::Configs;
use super::whole::report::{card, grouped, reasons, table};
use super::whole::{measured, run};

/// Where the page and its figures stand.
const PAGE: &str = "docs/speed.md";
const FIGURES: [&str; 2] = ["docs/figures/speed-tpot.svg", "docs/figures/speed-ttft.svg"];
/// How the page opens.
const OPENING: &str = include_str!("speed.md");

/// Writes or checks the page and its figures; true when all stand.
///
/// # Errors
/// When a file cannot be read or written.
pub fn run(data: &Path, check: bool) -> Result<bool> {
    let models = data.join("models");
    let models = models.is_dir().then_some(models);
    let path = data.join("perf/end_to_end.csv.gz");
    let Some(rows) = measured::read(&path)? else { bail!("{} is of another form", path.display()) };
    let (rows, repeated) = measured::distinct(rows);
    let world = Configs::new(models.as_deref())?;
    let outcomes = run::all(rows, &Desk::new(&world), &Launches::new()?);
    let engines = judge(&outcomes);
    let form = Form::Markdown;
    let mut text = OPENING.to_owned();
    text.push_str(&form.heading("Whole engines, each row by constants without its model and card"));
    text.push_str(&table(&engines, form));
    text.push_str(
        "\n![Time per output token](figures/speed-tpot.svg)\n\n![Time to first token](figures/speed-ttft.svg)\n",
    );
    text.push_str(&report(&engines, form));
    text.push_str(&reasons(&outcomes, repeated, form));
    for folder in serving::find(&data.join("serving")) {
        text.push_str(&serving::report(&serving::replay(&folder, models.as_deref())?, form));
    }
    let files = [
        (PAGE, text),
        (FIGURES[0], figure(&engines, "How far off is the time per output token?", false)),
        (FIGURES[1], figure(&engines, "How far off is the time to first token?", true)),
    ];
    let mut same = true;
    for (path, text) in files {
        if !check {
            fs::write(path, text).with_context(|| path.to_owned())?;
        } else if fs::read_to_string(path).with_context(|| path.to_owned())? != text {
            eprintln!("{path} is not what `cargo xtask speed` would write");
            same = false;
        }
    }
    Ok(same)
}

fn figure(engines: &[Engine<'_>], title: &str, first: bool) -> String {
    let rows: Vec<Strip> = grouped(engines, card)
        .into_iter()
        .map(|(name, ratios)| {
            let errors = ratios[usize::from(first)].iter().map(|ratio| 100.0 * (ratio - 1.0).abs()).collect();
            let colour = ["vllm", "sglang", "tensorrt-llm"].iter().position(|of| name.starts_with(of)).unwrap_or(3);
            Strip { name, errors, colour }
        })
        .collect();
    let caption = "Absolute errors of measured launches, each a dot, percent of what was measured; every row is predicted with\n\
                   constants that its own model and card had no part in. In brackets: rows.";
    strips(title, caption, &rows)
}
