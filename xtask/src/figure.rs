//! How do the README's figures come about? Answers of documented commands, drawn by the report as any other figure.

use std::path::Path;

use anyhow::{Context, Result};
use plimsoll_api::{Desk, GrowRequest, NoFiles, PlanRequest, VaryRequest};
use plimsoll_report::Show;
use plimsoll_report::figure::{Figure, Theme, svg};

/// The README's launch.
const COMMAND: &str = "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 --max-model-len 32768";
/// The README's card.
const GPU: &str = "h100-sxm";

/// Writes ledger.svg and growth.svg, each for light and dark pages, into a folder, or only compares with what lies there.
pub fn run(folder: &Path, check: bool) -> Result<bool> {
    let mut same = true;
    for (name, figure) in [("ledger", ledger()?), ("growth", growth()?)] {
        for (file, theme) in [(format!("{name}.svg"), Theme::Light), (format!("{name}-dark.svg"), Theme::Dark)] {
            let (path, drawn) = (folder.join(file), svg(&figure, theme)?);
            if !check {
                std::fs::write(&path, drawn).with_context(|| path.display().to_string())?;
            } else if std::fs::read_to_string(&path).with_context(|| path.display().to_string())? != drawn {
                eprintln!("{} is not what `cargo xtask figure` would draw", path.display());
                same = false;
            }
        }
    }
    Ok(same)
}

/// The first command's memory, rank by rank.
fn ledger() -> Result<Figure> {
    let request =
        PlanRequest { gpu: Some(GPU.to_owned()), command: Some(COMMAND.to_owned()), ..PlanRequest::default() };
    named(&plimsoll_api::plan(&request, &Desk::new(&NoFiles))?, "memory")
}

/// Which contexts and batches of a smaller model fit on one such card.
fn growth() -> Result<Figure> {
    let vary = |knob: &str, values: &str| VaryRequest { knob: knob.to_owned(), values: values.to_owned() };
    let request = GrowRequest {
        launch: PlanRequest {
            model: Some("llama-3.1-8b".to_owned()),
            gpu: Some(GPU.to_owned()),
            engine: Some("vllm".to_owned()),
            ..PlanRequest::default()
        },
        vary: vec![vary("context", "1k..128k"), vary("batch", "1..128")],
        ..GrowRequest::default()
    };
    named(&plimsoll_api::grow(&request, &Desk::new(&NoFiles))?, "heat")
}

/// The figure of an answer that has a name.
fn named(answer: &impl Show, name: &str) -> Result<Figure> {
    answer
        .figures()
        .into_iter()
        .find(|figure| figure.name == name)
        .with_context(|| format!("there is no figure {name}"))
}
