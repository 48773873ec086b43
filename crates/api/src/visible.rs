//! Which cards does the launch see? `CUDA_VISIBLE_DEVICES` before the command, and how many an engine takes.

use plimsoll_plan::Card;
use plimsoll_plan::engine::{llamacpp, ollama, transformers};
use serde_json::{Map, Value};

use crate::Error;

/// The most GPUs that llama.cpp starts with (0c1e57098, `ggml/include/ggml-cuda.h`, `GGML_CUDA_MAX_DEVICES`).
const MOST_LLAMACPP: u64 = 16;

/// Returns the cards that a launch sees. Engines that use every card that they see get as many as the variable names; for
/// the others, whose own flags say how many they use, it is a note.
///
/// # Errors
/// [`Error::Request`] when no card is seen, or more than the engine takes.
pub(crate) fn cards(
    engine: &str,
    mut cards: Vec<Card>,
    options: &Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Vec<Card>, Error> {
    let seen = options.get("env").and_then(|env| env.get("CUDA_VISIBLE_DEVICES")).and_then(Value::as_str);
    if let Some(text) = seen {
        let ids: Vec<&str> =
            text.split(',').map(str::trim).take_while(|id| !id.is_empty() && !id.starts_with('-')).collect();
        let uses_all = [llamacpp::NAME, ollama::NAME, transformers::NAME].contains(&engine);
        if ids.is_empty() && uses_all {
            let why = "CUDA_VISIBLE_DEVICES hides every card; for a plan without cards leave it out and give -dev none";
            return Err(Error::Request(why.to_owned()));
        }
        let named = u32::try_from(ids.len()).unwrap_or(u32::MAX - 1);
        let given = cards.iter().fold(0_u32, |sum, card| sum.saturating_add(card.count));
        if given == u32::MAX {
            if uses_all && let [card] = cards.as_mut_slice() {
                card.count = named;
            }
        } else if given > named {
            notes.push(format!("CUDA_VISIBLE_DEVICES shows {named} of the {given} cards"));
            if uses_all {
                cards = shown(&cards, &ids);
            }
        } else if given < named {
            notes.push(format!("CUDA_VISIBLE_DEVICES names {named} cards, --gpu gives {given}: {given} are planned"));
        }
    }
    let count = cards.iter().filter(|card| card.count != u32::MAX).map(|card| u64::from(card.count)).sum::<u64>();
    if engine == llamacpp::NAME && count > MOST_LLAMACPP {
        return Err(Error::Request(format!(
            "llama.cpp takes {MOST_LLAMACPP} GPUs at most (GGML_CUDA_MAX_DEVICES) and stops at {count}; hide some with \
             CUDA_VISIBLE_DEVICES"
        )));
    }
    Ok(cards)
}

/// The cards that stand at the numbers named; where they are named otherwise (UUIDs), the first ones.
fn shown(cards: &[Card], ids: &[&str]) -> Vec<Card> {
    let at = |number: u32| {
        let mut first = 0_u32;
        cards.iter().find(|card| {
            first = first.saturating_add(card.count);
            number < first
        })
    };
    let numbers =
        ids.iter().zip(0_u32..).map(|(id, place)| id.parse().ok().filter(|id| at(*id).is_some()).unwrap_or(place));
    let mut found: Vec<Card> = Vec::new();
    for card in numbers.filter_map(at) {
        match found.last_mut() {
            Some(last) if last.name == card.name => last.count = last.count.saturating_add(1),
            Some(_) | None => found.push(Card { count: 1, ..card.clone() }),
        }
    }
    found
}
