//! What did SGLang's radix cache answer, operation by operation?
//!
//! A file holds `page_size`, `eviction_policy`, where wanted `eviction_policy_config` and `tree` (`unified` for the tree
//! that the scheduler uses by default), and `ops`: `match`, `insert`, `evict`, `unlock` and `reset` with what was answered
//! and the sizes after each. Prompts are lists of segments and lengths; equal leading segments are equal tokens.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use plimsoll_kv::Content;
use plimsoll_kv::radix::{Eviction, Insertion, NodeId, RadixCache, Settings, SplitAge};
use serde_json::Value;

/// Whether a file has this form.
pub fn is(oracle: &Value) -> bool {
    oracle.get("ops").is_some() && oracle.get("eviction_policy").is_some()
}

/// Does every operation again. Returns how many there are, and a line for each with another answer.
pub fn compare(oracle: &Value) -> Result<(usize, Vec<String>), String> {
    let ops = oracle.get("ops").and_then(Value::as_array).ok_or("no ops")?;
    let mut replay = Replay { cache: RadixCache::new(settings(oracle)?), locks: BTreeMap::new() };
    let mut wrong = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        let name = op.get("op").and_then(Value::as_str).unwrap_or_default();
        let mut found = match replay.apply(name, op) {
            Ok(answer) => answer,
            Err(error) => {
                wrong.push(format!("operation {at}: {error}"));
                continue;
            }
        };
        found.push(("evictable", replay.cache.evictable()));
        found.push(("protected", replay.cache.protected()));
        let different: Vec<String> = (found.into_iter())
            .filter_map(|(key, found)| {
                let expected = op.get(key)?;
                (expected.as_u64() != Some(found)).then(|| format!("{key} {found} instead of {expected}"))
            })
            .collect();
        if !different.is_empty() {
            wrong.push(format!("operation {at} ({name}): {}", different.join(", ")));
        }
    }
    replay.cache.verify();
    Ok((ops.len(), wrong))
}

/// Reads how the tree works.
fn settings(oracle: &Value) -> Result<Settings, String> {
    let page = oracle.get("page_size").and_then(Value::as_u64).and_then(|page| u32::try_from(page).ok());
    let page = page.and_then(NonZeroU32::new).ok_or("no page_size")?;
    let policy = oracle.get("eviction_policy").and_then(Value::as_str).ok_or("no eviction_policy")?;
    let eviction: Eviction = policy.parse().map_err(|error| format!("{error}"))?;
    let told = |key: &str| oracle.get("eviction_policy_config")?.get(key)?.as_u64();
    let eviction = match eviction {
        Eviction::Slru { protected_hits } => {
            Eviction::Slru { protected_hits: told("protected_threshold").unwrap_or(protected_hits) }
        }
        Eviction::Tlru { .. } => {
            let tokens = |key| told(key).map_or(Ok(0), u32::try_from).map_err(|error| format!("{key}: {error}"));
            Eviction::Tlru { threshold: tokens("threshold")?, next_prompt: tokens("next_prompt_estimate")? }
        }
        Eviction::Lru | Eviction::Lfu | Eviction::Fifo | Eviction::Mru | Eviction::Filo | Eviction::Priority => {
            eviction
        }
    };
    let unified = oracle.get("tree").and_then(Value::as_str) == Some("unified");
    let split_age = if unified { SplitAge::Inherited } else { SplitAge::Fresh };
    Ok(Settings { split_age, ..Settings::new(page, eviction) })
}

struct Replay {
    cache: RadixCache,
    locks: BTreeMap<u64, NodeId>,
}

impl Replay {
    /// Does one operation and returns its answers by name.
    fn apply(&mut self, name: &str, op: &Value) -> Result<Vec<(&'static str, u64)>, String> {
        let number = |key: &str| op.get(key).and_then(Value::as_u64);
        match name {
            "match" => {
                let prompt = prompt(op)?;
                let found = self.cache.match_prefix(&prompt, prompt.len());
                if let Some(label) = number("lock") {
                    self.cache.lock(found.node);
                    self.locks.insert(label, found.node);
                }
                Ok(vec![("matched", u64::from(found.tokens))])
            }
            "insert" => {
                let prompt = prompt(op)?;
                let priority = op.get("priority").and_then(Value::as_i64).unwrap_or(0);
                let inserted = number("inserted_len").unwrap_or(0);
                let inserted = u32::try_from(inserted).map_err(|error| format!("inserted_len: {error}"))?;
                let done = self.cache.insert(&prompt, prompt.len(), Insertion { priority, inserted }, ());
                Ok(vec![("already_cached", u64::from(done.cached))])
            }
            "evict" => Ok(vec![("evicted", self.cache.evict(number("tokens").ok_or("no tokens")?))]),
            "unlock" => {
                let label = number("lock").ok_or("no lock")?;
                let node = self.locks.remove(&label).ok_or_else(|| format!("no lock {label} is held"))?;
                self.cache.unlock(node);
                Ok(Vec::new())
            }
            "reset" => {
                self.cache.clear();
                self.locks.clear();
                Ok(Vec::new())
            }
            other => Err(format!("no operation {other:?}; there are match, insert, evict, unlock and reset")),
        }
    }
}

/// Reads a prompt of segments and lengths.
pub fn prompt(op: &Value) -> Result<Content, String> {
    let mut prompt = Content::new();
    for part in op.get("prompt").and_then(Value::as_array).ok_or("no prompt")? {
        let segment = part.get(0).and_then(Value::as_u64).ok_or("a segment without a number")?;
        let length = part.get(1).and_then(Value::as_u64).and_then(|length| u32::try_from(length).ok());
        if !prompt.try_push(segment, 0, length.ok_or("a segment without a length")?) {
            return Err("a prompt of more than 2^32 tokens".to_owned());
        }
    }
    Ok(prompt)
}
