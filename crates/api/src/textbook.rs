//! What would the textbook say? The closed form beside a real model's numbers.

use plimsoll_facts::model::{AttentionKind, Mixer, Model};
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
    /// Why the textbook's is wrong for a real model; empty where it is not.
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
    let mut differ: Vec<String> = Vec::new();
    let lines = spec.compare(model).into_iter().map(|line| {
        let same = line.real.is_some_and(|real| alike(line.textbook, real));
        let why = match (line.unit, model) {
            (_, Some(_)) if same => String::new(),
            (Unit::Tokens, Some(_)) => on_a_card(&differ),
            (Unit::Bytes, Some(model)) if line.what == PER_TOKEN => kept(model).unwrap_or_else(|| line.why.to_owned()),
            (Unit::Bytes | Unit::Tokens, _) => line.why.to_owned(),
        };
        if !same && line.unit == Unit::Bytes && !line.what.contains("KV at") {
            differ.push(line.what.clone());
        }
        TextbookLine {
            what: line.what,
            unit: match line.unit {
                Unit::Bytes => "bytes".to_owned(),
                Unit::Tokens => "tokens".to_owned(),
            },
            textbook: line.textbook,
            real: line.real.filter(|number| number.is_finite()),
            why,
        }
    });
    lines.collect()
}

/// What the cache's line is called.
const PER_TOKEN: &str = "KV per token";

/// Whether two numbers are the same as far as they are written.
fn alike(textbook: f64, real: f64) -> bool {
    (textbook - real).abs() <= 5e-4 * textbook.abs().max(real.abs())
}

/// Why a model keeps less than the textbook, where its layers say so.
fn kept(model: &Model) -> Option<String> {
    let mixers = model.layers.iter().map(|layer| &layer.mixer);
    let kind = mixers.clone().find_map(|mixer| match mixer {
        Mixer::Attention(attention) => Some(&attention.kind),
        Mixer::Recurrent(_) | Mixer::None => None,
    })?;
    if mixers.clone().any(|mixer| !matches!(mixer, Mixer::Attention(attention) if attention.shares_cache_of.is_none()))
    {
        return Some("not every layer keeps keys and values of its own for each token".to_owned());
    }
    match kind {
        AttentionKind::Grouped { heads, kv_heads, .. } if kv_heads < heads => {
            Some(format!("grouped heads keep fewer keys and values than queries: {kv_heads} heads for {heads}"))
        }
        AttentionKind::Grouped { .. } => Some("the heads are not those of the textbook's decoder".to_owned()),
        AttentionKind::Latent { .. } => {
            Some("one compressed row a token stands in place of keys and values (latent attention)".to_owned())
        }
    }
}

/// Why another context fits on a card, from what differs above.
pub(crate) fn on_a_card(differ: &[String]) -> String {
    match differ {
        [] => "the card has less than its name says, and the engine keeps a part".to_owned(),
        [one] => format!("{one} differ, as above; a card also has less than its name says, and an engine keeps a part"),
        all => format!(
            "{} differ, as above; a card also has less than its name says, and an engine keeps a part",
            all.join(" and ")
        ),
    }
}
