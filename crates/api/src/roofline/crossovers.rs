//! Where does the bound change with batch and context? Found by halving over the operators' own work at the roofs.

use plimsoll_cost::{Chunk, Family, Predictor, Shape};

use super::answer::CrossoverAnswer;
use super::request::{MOST_SEQUENCES, MOST_TOKENS, Phase};
use super::steps::decode;
use super::sums::Sides;
use super::words::{count, plural};

/// Looks for all crossovers of the phases that are asked for.
pub(super) fn find(predictor: &Predictor, phases: &[Phase], batches: &[u32], contexts: &[u32]) -> Vec<CrossoverAnswer> {
    let mut found = Vec::new();
    let what = products(predictor);
    let window = predictor.inventory.window();
    let decoding = |batch: u32, context: u32| Sides::of(predictor, &decode(batch, context, window));
    if phases.contains(&Phase::Decode) {
        // Products do not depend on what is in the cache.
        if let Some(context) = contexts.first() {
            let from = least(MOST_SEQUENCES, |batch| compute_bound(&decoding(batch, *context)));
            found.push(compute_answer(what, *context, from));
        }
        for context in contexts {
            let from = least(MOST_SEQUENCES, |batch| {
                let sides = decoding(batch, *context);
                sides.attention_read > sides.products_read
            });
            found.push(reads_answer(*context, from));
        }
        for batch in batches {
            let from = least(MOST_TOKENS, |context| attention_leads(&decoding(*batch, context)));
            found.push(attention_answer(what, Phase::Decode, *batch, from));
        }
    }
    if phases.contains(&Phase::Prefill) {
        let one = |tokens: u32| {
            let chunks = vec![Chunk { tokens, context: 0 }];
            Sides::of(predictor, &Shape { chunks, sampled: 1, ..Shape::default() })
        };
        let from = least(MOST_TOKENS, |tokens| compute_bound(&one(tokens)));
        found.push(prompt_answer(what, from));
        let from = least(MOST_TOKENS, |tokens| attention_leads(&one(tokens)));
        found.push(attention_answer(what, Phase::Prefill, 1, from));
    }
    found
}

/// What is multiplied: products, and experts where there are some.
fn products(predictor: &Predictor) -> &'static str {
    let operators = predictor.inventory.operators(&decode(1, 1, predictor.inventory.window()));
    let experts = operators.iter().any(|operator| operator.kernel.family() == Family::Moe);
    if experts { "products and experts" } else { "products" }
}

fn compute_bound(sides: &Sides) -> bool {
    sides.products_compute > sides.products_memory
}

fn attention_leads(sides: &Sides) -> bool {
    sides.attention > sides.products
}

/// The least value from 1 to `most` for which something holds that, once it holds, goes on holding.
fn least(most: u32, holds: impl Fn(u32) -> bool) -> Option<u64> {
    let (mut low, mut high) = (0, 1);
    while !holds(high) {
        if high >= most {
            return None;
        }
        low = high;
        high = high.saturating_mul(2).min(most);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(u64::from(high))
}

fn compute_answer(what: &str, context: u32, from: Option<u64>) -> CrossoverAnswer {
    let words = match from {
        Some(from) => {
            format!("decode: {what} are compute-bound from {} on", plural(from, "sequence"))
        }
        None => format!("decode: {what} stay memory-bound at any batch"),
    };
    answer("products_compute_bound", Phase::Decode, ("batch", context), from, words)
}

fn reads_answer(context: u32, from: Option<u64>) -> CrossoverAnswer {
    let place = format!("with {} each", plural(u64::from(context), "token"));
    let words = match from {
        Some(from) => {
            format!("decode: {place}, more is read of the cache than of weights from {} on", plural(from, "sequence"))
        }
        None => format!("decode: {place}, weights are read more than the cache at any batch"),
    };
    answer("cache_reads_exceed_weights", Phase::Decode, ("batch", context), from, words)
}

fn prompt_answer(what: &str, from: Option<u64>) -> CrossoverAnswer {
    let words = match from {
        Some(from) => {
            format!("prefill: {what} are compute-bound from {} in a step on", plural(from, "token"))
        }
        None => format!("prefill: {what} stay memory-bound at any length"),
    };
    answer("products_compute_bound", Phase::Prefill, ("context", 1), from, words)
}

fn attention_answer(what: &str, phase: Phase, batch: u32, from: Option<u64>) -> CrossoverAnswer {
    let place = match (phase, batch) {
        (Phase::Prefill, _) => "prefill of one prompt in one piece".to_owned(),
        (Phase::Decode, batch) => format!("decode of {}", plural(u64::from(batch), "sequence")),
    };
    let words = match from {
        Some(from) => {
            format!("{place}: attention takes longer than {what} from {} tokens on", count(from))
        }
        None => format!("{place}: {what} take longer than attention at any length"),
    };
    answer("attention_outweighs_products", phase, ("context", batch), from, words)
}

fn answer(
    what: &'static str,
    phase: Phase,
    (along, at): (&'static str, u32),
    from: Option<u64>,
    words: String,
) -> CrossoverAnswer {
    CrossoverAnswer { what: what.into(), phase: phase.name().into(), along: along.into(), at, from, words }
}

#[cfg(test)]
mod tests {
    use super::least;

    #[test]
    fn the_least_is_found_wherever_it_lies() {
        for turn in [1, 2, 3, 7, 8, 1000, 4095, 4096] {
            assert_eq!(least(4096, |value| value >= turn), Some(u64::from(turn)));
        }
        assert_eq!(least(4096, |_| false), None);
    }
}
