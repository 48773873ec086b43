//! How does each engine decide? One file (or folder) per engine.

pub mod flag;
pub mod llamacpp;
pub mod ollama;
mod read;
pub mod sglang;
pub mod stored;
pub mod transformers;
pub mod trtllm;
pub mod vllm;

use plimsoll_facts::gguf::Gguf;
use plimsoll_facts::model::Model;
use serde_json::{Map, Value};

use crate::{Card, Error, Given, Version};

/// A file that an option names beside the model.
#[derive(Clone, Copy, Debug)]
pub struct Companion<'a> {
    /// As the option names it.
    pub name: &'a str,
    /// Its header.
    pub gguf: &'a Gguf,
}

/// How much of a plan is worked out. Ledgers, budgets and the verdict are the same at every depth; what lies deeper needs
/// other launches to be planned beside the one in question, and costs accordingly.
///
/// The depths are ordered: a deeper one holds all that a shallower one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What the launch takes and whether it fits. Where the longest context is searched for (llama.cpp, Ollama, Transformers),
    /// the launch's own stands in its place.
    Ledger,
    /// With the longest context that fits.
    Outcome,
    /// With what would help where it does not fit.
    #[default]
    Whole,
}

/// A launch to plan, as every engine can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The model.
    pub model: &'a Model,
    /// The file's header, where the model is a GGUF file.
    pub gguf: Option<&'a Gguf>,
    /// Files that options name beside the model: a drafting model, an adapter, a projector.
    pub companions: &'a [Companion<'a>],
    /// The cards, at least one; several entries where they differ.
    pub cards: &'a [Card],
    /// The engine's release.
    pub version: Version,
    /// Its flags by their canonical names; `env` holds variables.
    pub options: &'a Map<String, Value>,
    /// What the user knows.
    pub given: &'a Given,
    /// How much is to be worked out.
    pub depth: Depth,
}

impl<'a> Question<'a> {
    /// Returns the one kind of card there is.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the cards differ and the engine wants them alike; [`Error::Request`] without a card.
    pub fn card(&self, engine: &'static str) -> Result<&'a Card, Error> {
        match self.cards {
            [card] => Ok(card),
            [] => Err(Error::Request("no card".to_owned())),
            [first, ..] => Err(Error::Unsupported {
                engine,
                version: self.version.to_string(),
                why: format!(
                    "cards of different kinds: it gives every rank the same share; give the smallest, such as {}, with \
                     the count of all",
                    self.cards.iter().min_by_key(|card| card.total.bytes).unwrap_or(first).name
                ),
            }),
        }
    }
}
