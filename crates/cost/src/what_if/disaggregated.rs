//! What do separate GPUs for prefill and decoding cost and need? The time in which a prompt's cache goes over the link, how
//! much of it shows, and how many cards of each kind keep each other busy.
//!
//! Words: a request's cache is bytes per token × prompt and its recurrent states. Sent layer by layer while the next ones are
//! computed, with t the prefill's time, x the transfer's and L layers, only
//!
//! ```text
//! exposed = max(x/L, x − t·(L − 1)/L)
//! ```
//!
//! comes on top of the prefill: the last layer's part, or what the link cannot keep up with. Sent at the end, all of x does.
//! Sources: Patel et al. 2024, arXiv:2311.18677 (Splitwise), section IV; Zhong et al. 2024, arXiv:2401.09670 (DistServe),
//! section 3.3.

use super::parallel::Link;
use crate::{Chunk, Collective, Error, Shape};

/// A request's cache on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Bytes of it on one rank (ranks send side by side, each over its own link).
    pub bytes: f64,
    /// Layers that it is made of.
    pub layers: u32,
    /// Seconds of the prefill.
    pub prefill: f64,
}

impl Transfer {
    /// Returns the transfer of a prompt: `per_token` bytes of each token and `state` bytes of recurrent layers, on one rank.
    pub fn of(prompt: u64, per_token: f64, state: f64, layers: u32, prefill: f64) -> Transfer {
        Transfer { bytes: prompt as f64 * per_token + state, layers, prefill }
    }

    /// Returns the seconds over a link.
    ///
    /// Llama-3.1-70B in 16 bits keeps 327 680 B of a token; 8192 tokens over 50 GB/s take 54 ms.
    pub fn seconds(&self, link: &Link) -> f64 {
        link.seconds(Collective::Send, self.bytes, 2)
    }

    /// Returns the seconds that come on top of the prefill when layers are sent as they are computed.
    pub fn exposed(&self, link: &Link) -> f64 {
        let layers = f64::from(self.layers.max(1));
        let all = self.bytes / link.bandwidth;
        let begun = link.seconds(Collective::Send, 0.0, 2);
        (all / layers).max(all - self.prefill * (layers - 1.0) / layers) + begun
    }
}

/// A load, and how each kind of worker serves it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// Tokens of a prompt.
    pub prompt: u32,
    /// Tokens of an answer.
    pub output: u32,
    /// Prompts that a prefill worker computes at once.
    pub prefill_batch: u32,
    /// Sequences that a decode worker holds at once.
    pub decode_batch: u32,
    /// Cards of a prefill worker.
    pub prefill_cards: u32,
    /// Cards of a decode worker.
    pub decode_cards: u32,
}

/// How both kinds keep up with each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// Seconds in which a prefill worker computes its prompts.
    pub prefill: f64,
    /// Seconds of a decode worker's step at the middle of the answers.
    pub decode: f64,
    /// Requests a second of one prefill worker: batch / t.
    pub prefill_rate: f64,
    /// Requests a second of one decode worker: batch / (output × t).
    pub decode_rate: f64,
    /// Prefill workers per decode worker at which neither waits.
    pub workers: f64,
    /// Cards for prefill per card for decoding.
    pub cards: f64,
}

impl Balance {
    /// Returns the bytes a second that each prefill worker's rank sends, with `bytes` of a request on it.
    pub fn sent(&self, bytes: f64) -> f64 {
        self.prefill_rate * bytes
    }

    /// Returns requests a second of so many workers of each kind: what the slower side lets through.
    pub fn rate(&self, prefill: u32, decode: u32) -> f64 {
        (f64::from(prefill) * self.prefill_rate).min(f64::from(decode) * self.decode_rate)
    }
}

/// Returns the steady state: prefill rate of one worker against decode rate of one, from the time of their steps.
///
/// The first token comes from the prefill, so that a decode worker makes `output − 1` of them.
///
/// # Errors
/// [`Error::Knob`] for a batch or a count of cards of zero or too many, an empty prompt or answer, and times that are no
/// positive numbers.
pub fn balance(
    question: &Question,
    prefill: &mut dyn FnMut(&Shape) -> f64,
    decode: &mut dyn FnMut(&Shape) -> f64,
) -> Result<Balance, Error> {
    let counts = [
        ("prompt", question.prompt),
        ("output", question.output),
        ("prefill-batch", question.prefill_batch),
        ("decode-batch", question.decode_batch),
        ("prefill-cards", question.prefill_cards),
        ("decode-cards", question.decode_cards),
    ];
    for (knob, count) in counts {
        let most = if matches!(knob, "prompt" | "output") { 100_000_000 } else { 65_536 };
        if !(1..=most).contains(&count) {
            return Err(Error::Knob { knob, found: f64::from(count), expected: "at least 1, and no absurd number" });
        }
    }
    let (batch, sequences) = (question.prefill_batch, question.decode_batch);
    let computed = prefill(&Shape {
        chunks: vec![Chunk { tokens: question.prompt, context: 0 }; batch as usize],
        sampled: batch,
        ..Shape::default()
    });
    let made = question.output.saturating_sub(1).max(1);
    let held = u64::from(sequences) * (u64::from(question.prompt) + u64::from(made) / 2);
    let stepped = decode(&Shape {
        decodes: sequences,
        decode_context: held,
        decode_windowed: held,
        sampled: sequences,
        ..Shape::default()
    });
    for (knob, seconds) in [("prefill", computed), ("decode", stepped)] {
        if !(seconds > 0.0 && seconds < 1e9) {
            return Err(Error::Knob { knob, found: seconds, expected: "a positive time in seconds" });
        }
    }
    let prefill_rate = f64::from(batch) / computed;
    let decode_rate = f64::from(sequences) / (f64::from(made) * stepped);
    let workers = decode_rate / prefill_rate;
    let cards = workers * f64::from(question.prefill_cards) / f64::from(question.decode_cards);
    Ok(Balance { prefill: computed, decode: stepped, prefill_rate, decode_rate, workers, cards })
}

/// Returns the whole workers of each kind, out of `cards`, that serve most requests a second, with their rate; `None` where
/// the cards do not hold one of each.
pub fn divide(balance: &Balance, question: &Question, cards: u32) -> Option<(u32, u32, f64)> {
    let mut best: Option<(u32, u32, f64)> = None;
    let most = cards.min(65_536) / question.prefill_cards.max(1);
    for prefill in 1..=most {
        let decode = (cards - prefill * question.prefill_cards.max(1)) / question.decode_cards.max(1);
        let rate = balance.rate(prefill, decode);
        if decode > 0 && best.is_none_or(|(.., found)| rate > found) {
            best = Some((prefill, decode, rate));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::what_if::parallel::NETWORK;

    fn link() -> Link {
        Link { name: "InfiniBand".to_owned(), bandwidth: 50e9, latency: NETWORK }
    }

    #[test]
    fn a_prompts_cache_takes_its_bytes_over_the_link() {
        let transfer = Transfer::of(8192, 327_680.0, 0.0, 80, 1.0);
        let bytes = 8192.0 * 327_680.0;
        assert!((transfer.seconds(&link()) - bytes / 50e9).abs() < 3e-5);
        assert!((transfer.seconds(&link()) - 0.0537).abs() < 1e-4);
        // The link keeps up: only the last layer shows.
        let begun = link().seconds(Collective::Send, 0.0, 2);
        assert!((transfer.exposed(&link()) - begun - bytes / 50e9 / 80.0).abs() < 1e-12);
    }

    #[test]
    fn what_the_link_cannot_keep_up_with_shows() {
        // Counted layer by layer: a layer is sent when it is computed and the one before it is away.
        for (prefill, bytes) in [(1.0, 1e9), (0.01, 1e10), (0.2, 1e10), (0.2, 1.0e10 + 7.0)] {
            let transfer = Transfer { bytes, layers: 16, prefill };
            let (mut away, each) = (0.0_f64, bytes / 50e9 / 16.0);
            for layer in 1..=16 {
                away = away.max(prefill * f64::from(layer) / 16.0) + each;
            }
            let begun = link().seconds(Collective::Send, 0.0, 2);
            assert!((transfer.exposed(&link()) - begun - (away - prefill)).abs() < 1e-9, "{transfer:?}");
        }
    }

    #[test]
    fn both_sides_keep_up_with_each_other() {
        let question = Question {
            prompt: 4000,
            output: 501,
            prefill_batch: 2,
            decode_batch: 100,
            prefill_cards: 1,
            decode_cards: 2,
        };
        let found =
            balance(&question, &mut |shape| shape.tokens() as f64 / 20_000.0, &mut |_| 0.02).expect("a fair load");
        assert!((found.prefill - 0.4).abs() < 1e-12 && (found.prefill_rate - 5.0).abs() < 1e-9);
        assert!((found.decode_rate - 10.0).abs() < 1e-9);
        assert!((found.workers - 2.0).abs() < 1e-9 && (found.cards - 1.0).abs() < 1e-9);
        let (prefill, decode, rate) = divide(&found, &question, 8).expect("there is room");
        assert_eq!((prefill, decode), (4, 2));
        assert!((rate - 20.0).abs() < 1e-9);
        assert_eq!(divide(&found, &question, 2), None);
        assert!(balance(&Question { output: 0, ..question }, &mut |_| 1.0, &mut |_| 1.0).is_err());
        assert!(balance(&question, &mut |_| f64::NAN, &mut |_| 1.0).is_err());
    }
}
