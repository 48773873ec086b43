//! What is written to a file that `--out` names? The answer in the form that the file's name asks for.

use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_api::Error;
use plimsoll_report::figure::{self, Figure, Theme};
use plimsoll_report::{Origin, Show, html};

use crate::Failure;
use crate::arguments::{Background, Shown};

/// Pixels for each unit of a figure: sharp on screens and in print.
const SCALE: f32 = 2.0;

/// The forms that a file can have, by the end of its name.
const FORMS: [&str; 7] = ["svg", "png", "html", "md", "csv", "parquet", "json"];

/// Writes an answer to a file; reports hold the request, where there is one.
pub fn write_of<A: Show>(request: Option<String>, answer: &A, place: &Path, shown: &Shown) -> Result<(), Failure> {
    let ending = place.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "svg" | "png" => figures(answer, place, &ending, shown),
        "html" => {
            let page = html(answer, &origin(request)).map_err(|error| cannot(place, error))?;
            put(place, page.as_bytes(), shown)
        }
        "md" => markdown(answer, &origin(request), place, shown),
        "csv" => put(place, answer.csv().as_bytes(), shown),
        "json" => {
            let mut text = serde_json::to_vec_pretty(answer).map_err(|error| cannot(place, error))?;
            text.push(b'\n');
            put(place, &text, shown)
        }
        "parquet" => {
            plimsoll_kit::table::parquet(place, &answer.csv()).map_err(|error| cannot(place, error))?;
            said(place, shown);
            Ok(())
        }
        _ => {
            let known = FORMS.map(|form| format!(".{form}")).join(", ");
            Err(Error::Request(format!("--out {}: its name should end in one of {known}", place.display())).into())
        }
    }
}

/// Draws the figures that are wanted: the first into the file itself, others beside it, with their names.
fn figures<A: Show>(answer: &A, place: &Path, ending: &str, shown: &Shown) -> Result<(), Failure> {
    for (at, figure) in chosen(answer, shown)?.iter().enumerate() {
        let place = if at == 0 { place.to_path_buf() } else { beside(place, &figure.name, ending) };
        let drawn = figure::svg(figure, theme(shown)).map_err(|error| cannot(&place, error))?;
        if ending == "png" {
            let pixels = figure::png(&drawn, SCALE).map_err(|error| cannot(&place, error))?;
            put(&place, &pixels, shown)?;
        } else {
            put(&place, drawn.as_bytes(), shown)?;
        }
    }
    Ok(())
}

/// The figures of an answer, or the one that is named.
fn chosen<A: Show>(answer: &A, shown: &Shown) -> Result<Vec<Figure>, Failure> {
    let mut figures = answer.figures();
    if figures.is_empty() {
        return Err(
            Error::Request("this answer has no figure; --out takes .html, .md, .csv, .parquet, .json".into()).into()
        );
    }
    if let Some(name) = &shown.figure {
        let names: Vec<String> = figures.iter().map(|figure| figure.name.clone()).collect();
        figures.retain(|figure| figure.name == *name);
        if figures.is_empty() {
            return Err(Error::Request(format!("--figure {name}: this answer has {}", names.join(", "))).into());
        }
    }
    Ok(figures)
}

/// Writes Markdown, with the figures in files beside it.
fn markdown<A: Show>(answer: &A, origin: &Origin, place: &Path, shown: &Shown) -> Result<(), Failure> {
    let mut text = format!("# {}\n\n", answer.question());
    let figures = if answer.figures().is_empty() { Vec::new() } else { chosen(answer, shown)? };
    for figure in figures {
        let file = beside(place, &figure.name, "svg");
        let drawn = figure::svg(&figure, theme(shown)).map_err(|error| cannot(&file, error))?;
        put(&file, drawn.as_bytes(), shown)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        text.push_str(&format!("![{}](<{name}>)\n\n", figure.title));
    }
    // Beside other text an answer's own heads are of the third level; here they follow the title.
    let tables = answer.markdown();
    let tables = tables.strip_prefix("### ").map_or(tables.clone(), |rest| format!("## {rest}"));
    text.push_str(&tables);
    text.push_str(&format!("\n## The same again\n\n```console\n$ {}\n```\n", origin.command));
    if let Some(request) = &origin.request {
        text.push_str(&format!("\nAs a request:\n\n```json\n{request}\n```\n"));
    }
    put(place, text.as_bytes(), shown)
}

/// A file beside another: `growth.svg` and `heat` are `growth-heat.svg`.
fn beside(place: &Path, name: &str, ending: &str) -> PathBuf {
    let stem = place.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    place.with_file_name(format!("{stem}-{name}.{ending}"))
}

/// What made the answer.
fn origin(request: Option<String>) -> Origin {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let command = format!("plimsoll {}", plimsoll_api::launch::join(&words));
    Origin { command, request, version: env!("CARGO_PKG_VERSION").to_owned() }
}

fn theme(shown: &Shown) -> Theme {
    match shown.theme {
        Background::Light => Theme::Light,
        Background::Dark => Theme::Dark,
    }
}

/// Writes a file and says so.
fn put(place: &Path, bytes: &[u8], shown: &Shown) -> Result<(), Failure> {
    fs::write(place, bytes).map_err(|error| cannot(place, error))?;
    said(place, shown);
    Ok(())
}

fn said(place: &Path, shown: &Shown) {
    if !shown.quiet {
        eprintln!("wrote {}", place.display());
    }
}

fn cannot(place: &Path, why: impl std::fmt::Display) -> Failure {
    Error::World { place: place.display().to_string(), why: why.to_string() }.into()
}
