//! Who is turned away, and why? Reasons that differ in their numbers only are one reason.

use std::collections::BTreeMap;

/// Different reasons that are told apart; more are counted together.
const REASONS: usize = 64;

/// Refused requests, grouped by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    count: u64,
    /// By the reason without its numbers.
    reasons: BTreeMap<String, Reason>,
}

/// Refused requests of one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// How many.
    pub count: u64,
    /// The first one's reason, in full.
    pub example: String,
}

impl Refused {
    /// Counts one.
    pub(super) fn add(&mut self, why: &str) {
        self.count += 1;
        let mut key = String::new();
        for c in why.chars() {
            match c.is_ascii_digit() {
                true if key.ends_with('0') => {}
                true => key.push('0'),
                false => key.push(c),
            }
        }
        if self.reasons.len() < REASONS || self.reasons.contains_key(&key) {
            let reason = self.reasons.entry(key).or_insert_with(|| Reason { count: 0, example: why.to_owned() });
            reason.count += 1;
        }
    }

    /// Returns how many were refused.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the reasons, the most frequent first. Their counts add up to less than [`Refused::count`] where there were
    /// too many to tell apart.
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = self.reasons.values().cloned().collect();
        reasons.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.example.cmp(&b.example)));
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_no_reason_of_their_own() {
        let mut refused = Refused::default();
        for prompt in [9_000, 10_000, 8_193] {
            refused.add(&format!("its prompt of {prompt} tokens is longer than max_model_len 8192"));
        }
        refused.add("its prompt is empty");
        let reasons: Vec<_> = refused.reasons().into_iter().map(|reason| (reason.count, reason.example)).collect();
        let long = "its prompt of 9000 tokens is longer than max_model_len 8192".to_owned();
        assert_eq!(reasons, [(3, long), (1, "its prompt is empty".to_owned())]);
    }

    #[test]
    fn no_end_of_reasons_takes_no_end_of_memory() {
        let mut refused = Refused::default();
        for at in 0..1000u32 {
            refused.add(&"x".repeat(at as usize));
        }
        assert_eq!((refused.count(), refused.reasons().len()), (1000, REASONS));
    }
}
