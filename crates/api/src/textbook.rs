//! What would the textbook say? The closed form beside a real model's numbers.

use plimsoll_facts::model::Model;
use plimsoll_plan::generic::{Spec, Unit};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Desk, Error};

/// The textbook's numbers for a bare specification.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TextbookAnswer {
    /// The specification as it was given.
    pub spec: String,
    /// The real model that it is held against, if any.
    pub model: Option<String>,
    /// The numbers.
    pub lines: Vec<TextbookLine>,
}

/// One number of the textbook.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TextbookLine {
    /// What it is.
    pub what: String,
    /// `bytes` or `tokens`.
    pub unit: String,
    /// The textbook's number.
    pub textbook: f64,
    /// The real model's; null without a model, or when it has no bound.
    pub real: Option<f64>,
    /// Why the textbook's is wrong for a real model.
    pub why: String,
}

/// Answers what the textbook says of a specification, and what is true of a model if one is named.
///
/// # Errors
/// [`Error::Plan`] for a specification that cannot be read, [`Error::Facts`] and [`Error::World`] for the model.
pub fn textbook(spec: &str, model: Option<&str>, desk: &Desk<'_>) -> Result<TextbookAnswer, Error> {
    let parsed: Spec = spec.parse()?;
    let loaded = model.map(|name| desk.model(name)).transpose()?;
    let lines = textbook_of(&parsed, loaded.as_ref().map(|loaded| &loaded.model));
    Ok(TextbookAnswer { spec: spec.to_owned(), model: loaded.map(|loaded| loaded.model.id.clone()), lines })
}

/// Returns the textbook's numbers beside a model's, in the promised form.
pub(crate) fn textbook_of(spec: &Spec, model: Option<&Model>) -> Vec<TextbookLine> {
    let lines = spec.compare(model).into_iter().map(|line| TextbookLine {
        what: line.what,
        unit: match line.unit {
            Unit::Bytes => "bytes".to_owned(),
            Unit::Tokens => "tokens".to_owned(),
        },
        textbook: line.textbook,
        real: line.real.filter(|number| number.is_finite()),
        why: line.why.to_owned(),
    });
    lines.collect()
}
