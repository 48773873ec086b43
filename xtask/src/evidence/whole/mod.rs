//! How long do requests take, predicted and measured? Whole engines under known traffic, row by row.

pub mod fit;
pub mod launch;
pub mod measured;
pub mod models;
pub mod report;
pub mod run;

use std::path::Path;

use anyhow::Result;
use plimsoll_api::Desk;

use self::launch::Launches;
use self::measured::Measurement;
use self::models::Configs;
use super::Options;
use super::sheet::Form;
use super::vllm::shown;

/// Compares a file's measurements with simulations of them; true when the targets are met.
///
/// # Errors
/// When the built-in table of launches cannot be read.
pub fn compare(path: &Path, rows: Vec<Measurement>, models: Option<&Path>, options: Options) -> Result<bool> {
    let (rows, repeated) = measured::distinct(rows);
    let world = Configs::new(models)?;
    let desk = Desk::new(&world);
    let outcomes = run::all(rows, &desk, &Launches::new()?);
    let engines = fit::judge(&outcomes);
    let form = if options.markdown { Form::Markdown } else { Form::Text };
    if options.fit {
        print!("{}", fit::report(&engines, form));
        return Ok(engines.iter().all(fit::Engine::stands));
    }
    let targets = report::targets(&engines);
    let met = targets.iter().all(|target| target.met);
    if options.json {
        outcomes.iter().for_each(|outcome| println!("{}", outcome.json()));
        return Ok(met);
    }
    println!("{}", path.display());
    let text = report::report(&outcomes, &engines, repeated, form, options.all);
    print!("{text}{}{}", fit::report(&engines, form), shown(&targets, form));
    Ok(met)
}
