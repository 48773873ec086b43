//! Which device gets which module? `device_map` as transformers fills it in.
//!
//! Source: transformers 5.23.0, `integrations/accelerate.py`, `get_balanced_memory` and `infer_auto_device_map`;
//! accelerate 1.15, `utils/modeling.py`, `get_max_memory` and `get_max_layer_size`.

use std::collections::BTreeMap;
use std::ops::Range;

use plimsoll_units::Bytes;

use super::options::DeviceMap;
use super::weights::{Module, Modules};

/// Where a module lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a card.
    Card(usize),
    /// In host memory; it visits the first card when it runs.
    Host,
}

/// Free memory as the launch finds it, and what the user allows.
#[derive(Clone, Debug)]
pub struct Room {
    /// Free bytes of every card, its own context taken off.
    pub cards: Vec<u64>,
    /// `max_memory`.
    pub allowed: BTreeMap<Option<u32>, Bytes>,
    /// Whether a quantiser on the way asks for a tenth to spare (`adjust_max_memory`).
    pub spared_tenth: bool,
}

/// Places every module of [`Modules::in_order`].
pub fn place(modules: &Modules, map: &DeviceMap, room: &Room) -> Vec<Place> {
    let order: Vec<&Module> = modules.in_order().collect();
    if *map == DeviceMap::One {
        return vec![Place::Card(0); order.len()];
    }
    let mut limits = limits(modules, map, room);
    if room.spared_tenth {
        limits.iter_mut().for_each(|limit| *limit = (*limit as f64 * 0.9) as u64);
    }
    fill(&order, modules.head.bytes() > 0, &limits)
}

/// What each card may take.
fn limits(modules: &Modules, map: &DeviceMap, room: &Room) -> Vec<u64> {
    let allowed = |at: usize, free: u64| match room.allowed.get(&Some(at as u32)) {
        Some(limit) => limit.get().min(free),
        // A card that the user's map does not name is not used.
        None if room.allowed.keys().any(Option::is_some) => 0,
        None => free,
    };
    let mut limits: Vec<u64> = room.cards.iter().enumerate().map(|(at, free)| allowed(at, *free)).collect();
    let used: Vec<usize> = (0..limits.len()).filter(|at| limits[*at] > 0).collect();
    if *map == DeviceMap::Sequential || used.is_empty() {
        return limits;
    }
    if let [only] = used.as_slice() {
        if room.allowed.is_empty() {
            limits[*only] = (limits[*only] as f64 * 0.9) as u64;
        }
        return limits;
    }
    let low_zero = *map == DeviceMap::BalancedLowZero;
    let total = modules.total();
    let largest = modules.in_order().map(Module::bytes).max().unwrap_or(0);
    let share = total / (used.len() as u64 - u64::from(low_zero)).max(1);
    let share = share.saturating_add((largest as f64 * 1.25) as u64);
    for at in &used[..used.len() - 1] {
        if !(low_zero && *at == 0) {
            limits[*at] = limits[*at].min(share);
        }
    }
    if low_zero {
        let others = limits.iter().skip(1).copied().fold(0, u64::saturating_add);
        limits[0] = limits[0].min(total.saturating_sub(others));
    }
    limits
}

/// Fills the devices one after another. What does not fit whole is taken apart: the model into embedding, layers and what
/// follows, the layers one by one; a layer goes to the next device. The first card keeps room for the largest module that
/// is still to be placed, because modules in host memory visit it.
fn fill(order: &[&Module], has_head: bool, limits: &[u64]) -> Vec<Place> {
    let mut places = vec![Place::Host; order.len()];
    let head = order.len() - usize::from(has_head && !order.is_empty());
    let mut work = vec![head..order.len(), 0..head];
    let (mut device, mut used) = (0, 0_u64);
    while let Some(range) = work.pop() {
        if range.is_empty() {
            continue;
        }
        let Some(limit) = limits.get(device) else { break };
        let size = order[range.clone()].iter().map(|module| module.bytes()).fold(0, u64::saturating_add);
        let behind = order[range.end..].iter().map(|module| module.bytes()).max().unwrap_or(0);
        let limit = if device == 0 { limit.saturating_sub(behind) } else { *limit };
        if used.saturating_add(size) <= limit {
            used += size;
            places[range].fill(Place::Card(device));
        } else if range.len() > 1 {
            work.extend(parts(order, range).into_iter().rev());
        } else {
            (device, used) = (device + 1, 0);
            work.push(range);
        }
    }
    places
}

/// A range taken apart: the layers as one part if others are with them, else everything by itself.
fn parts(order: &[&Module], range: Range<usize>) -> Vec<Range<usize>> {
    let is_layer = |at: &usize| order[*at].layer.is_some();
    let first = range.clone().find(is_layer).unwrap_or(range.end);
    let last = range.clone().rev().find(is_layer).map_or(first, |at| at + 1);
    if first == range.start && last == range.end {
        return range.map(|at| at..at + 1).collect();
    }
    let before = (range.start..first).map(|at| at..at + 1);
    let after = (last..range.end).map(|at| at..at + 1);
    before.chain(std::iter::once(first..last)).chain(after).collect()
}

#[cfg(test)]
mod tests {
    use plimsoll_facts::tensor::DType;
    use serde_json::{Value, json};

    use super::super::weights::Loading;
    use super::*;

    /// What transformers 5.23.0 with accelerate decided for a llama of 16 layers of 512, whose embedding is larger than
    /// five layers, under several limits. Digits are cards, `c` the host: embedding, layers, last norm, head.
    #[test]
    fn modules_go_where_transformers_puts_them() {
        let mut wrong = Vec::new();
        for line in include_str!("../../../tests/fixtures/transformers_device_map.jsonl").lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let found = placed(&row);
            if found != row["placed"].as_str().unwrap() {
                wrong.push(format!("{line}\n  {found}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn placed(row: &Value) -> String {
        let config = json!({
            "model_type": "llama", "dtype": "bfloat16", "hidden_size": 512, "intermediate_size": 1408,
            "num_hidden_layers": 16, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
            "vocab_size": 32000, "max_position_embeddings": 2048, "tie_word_embeddings": row["tied"],
        });
        let model = plimsoll_facts::model::read("small", &config, None).unwrap();
        let loading = Loading { dtype: DType::BF16, bits: None, keeps_fp8: true, keeps_mxfp4: true };
        let modules = Modules::of(&model, &loading);
        let limits: Vec<u64> = row["max_memory"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
        let allowed = limits.iter().enumerate().map(|(at, limit)| (Some(at as u32), Bytes::new(*limit))).collect();
        let room = Room { cards: limits, allowed, spared_tenth: false };
        let map = match row["device_map"].as_str().unwrap() {
            "sequential" => DeviceMap::Sequential,
            "balanced_low_0" => DeviceMap::BalancedLowZero,
            _ => DeviceMap::Balanced,
        };
        let letter = |place: &Place| match place {
            Place::Card(at) => at.to_string(),
            Place::Host => "c".to_owned(),
        };
        let places = place(&modules, &map, &room);
        let mut text: String = places.iter().map(letter).collect();
        if row["tied"] == Value::Bool(true) {
            // The head is the embedding.
            text.push_str(&letter(&places[0]));
        }
        text
    }
}
