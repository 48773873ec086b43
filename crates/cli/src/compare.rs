//! `plimsoll compare`: words to a request, an answer to text.

use std::io::Write;

use plimsoll_api::vary::Knob;
use plimsoll_api::{ComparisonRequest, Desk, Error, compare};

use crate::arguments::{CompareArguments, LaunchArguments};
use crate::{Failure, cost, launch, progress, show};

/// Rows from which on a comparison shows how far it is.
const MANY: usize = 200;

/// Runs the verb; the number is the exit status.
pub fn run(arguments: &CompareArguments, desk: &Desk<'_>, out: &mut impl Write) -> Result<u8, Failure> {
    let request = request(arguments)?;
    let bar = indicatif::ProgressBar::hidden();
    let answer = compare::compare_with(&request, desk, &|done, all| {
        if all >= MANY {
            if done == 1 {
                bar.set_length(all as u64);
                bar.set_draw_target(progress::target(arguments.shown.quiet));
            }
            bar.set_position(done as u64);
        }
    })?;
    bar.finish_and_clear();
    show::answer_of(&request, &answer, &arguments.shown, out)?;
    out.flush()?;
    Ok(0)
}

/// Turns words into a request. Words in front of the first flag of the engine's are models.
fn request(arguments: &CompareArguments) -> Result<ComparisonRequest, Error> {
    let words = &arguments.launch.words;
    let own = words.iter().position(|word| word.starts_with('-') || word == "--").unwrap_or(words.len());
    let (models, rest) = words.split_at(own);
    if let [engine] = arguments.engines.as_slice()
        && let Some(other) = arguments.launch.engine.as_ref().filter(|other| *other != engine)
    {
        return Err(Error::Request(format!("--engine {other} and --engines {engine} contradict each other")));
    }
    let several = arguments.engines.len() > 1;
    let engine =
        arguments.launch.engine.clone().or_else(|| (!several).then(|| arguments.engines.first().cloned()).flatten());
    let flags = LaunchArguments { engine: engine.clone(), words: rest.to_vec(), ..arguments.launch.clone() };
    if let (true, Some(flag)) = (several && engine.is_none(), rest.first().filter(|word| *word != "--")) {
        return Err(Error::Request(format!(
            "{flag} is one engine's, and {} are compared; what all understand is --context, --batch, --tp, --pp, --formats and \
             --kv-formats",
            arguments.engines.join(", ")
        )));
    }
    if words.is_empty() && engine.is_none() {
        return Err(Error::Request("nothing to compare: give one MODEL or several".into()));
    }
    let launch = if rest.is_empty() && engine.is_none() {
        // Without words a launch would be refused; the models stand apart here.
        let words = models.first().cloned().into_iter().collect();
        launch::request_for(&LaunchArguments { words, ..flags }, Some(plimsoll_api::roofline::ENGINE))?
    } else {
        launch::request_for(&flags, Some(plimsoll_api::roofline::ENGINE))?
    };
    let mut models = models.to_vec();
    if !rest.iter().any(|word| word == "--") {
        // A model behind an engine's flag is one of those that are compared.
        models.extend(launch.model.clone());
    }
    Ok(ComparisonRequest {
        models,
        gpus: arguments.gpus.clone(),
        engines: arguments.engines.clone(),
        formats: arguments.formats.clone(),
        kv_formats: arguments.kv_formats.clone(),
        tp: launch::numbers(Knob::Tp, arguments.tp.as_deref())?,
        pp: launch::numbers(Knob::Pp, arguments.pp.as_deref())?,
        context: launch::numbers(Knob::Context, arguments.context.as_deref())?,
        batch: launch::numbers(Knob::Batch, arguments.batch.as_deref())?,
        at_context: launch::count("--at-context", Knob::Context, arguments.at_context.as_deref())?,
        at_batch: launch::count("--at-batch", Knob::Batch, arguments.at_batch.as_deref())?,
        rows: arguments.rows.clone(),
        columns: arguments.columns.clone(),
        show: arguments.show.clone(),
        sort: arguments.sort.clone(),
        launch,
        cost: cost::request(&arguments.cost)?,
    })
}
