//! `plimsoll grow`: words to a request, an answer to text.

use std::io::Write;

use plimsoll_api::{Desk, Error, GrowRequest, VaryRequest};

use crate::arguments::GrowArguments;
use crate::{Failure, launch, show};

/// Runs the verb; the number is the exit status.
pub fn run(arguments: &GrowArguments, desk: &Desk<'_>, out: &mut impl Write) -> Result<u8, Failure> {
    let request = request(arguments)?;
    let answer = plimsoll_api::grow(&request, desk)?;
    show::answer_of(&request, &answer, &arguments.shown, out)?;
    out.flush()?;
    Ok(0)
}

/// Turns words into a request.
fn request(arguments: &GrowArguments) -> Result<GrowRequest, Error> {
    let of = |knob: &str, values: &Option<String>| {
        values.clone().map(|values| VaryRequest { knob: knob.to_owned(), values })
    };
    let vary = [
        of("context", &arguments.context),
        of("batch", &arguments.batch),
        of("layers", &arguments.layers),
        of("dim", &arguments.dim),
        of("heads", &arguments.heads),
        of("kv-heads", &arguments.kv_heads),
        of("head-dim", &arguments.head_dim),
        of("format", &arguments.formats),
        of("kv-format", &arguments.kv_formats),
        of("tp", &arguments.tp),
        of("pp", &arguments.pp),
        of("block", &arguments.block),
    ];
    let bare = arguments.spec.is_some() && arguments.launch.words.is_empty();
    let launched = if bare {
        launch::without_words(&arguments.launch)?
    } else {
        launch::request_for(&arguments.launch, Some(plimsoll_api::roofline::ENGINE))?
    };
    Ok(GrowRequest {
        launch: launched,
        spec: arguments.spec.clone(),
        vary: vary.into_iter().flatten().collect(),
        gpus: arguments.gpus.clone(),
        by_gpu: arguments.by_gpu,
    })
}
