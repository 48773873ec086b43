//! Why do engines differ on the same card and model? The parts of their ledgers, against the first engine's, to the byte.

use plimsoll_plan::Plan;
use plimsoll_plan::engine::{llamacpp, ollama, sglang, transformers, trtllm};
use plimsoll_units::Bytes;

use super::answer::{ComparisonRow, DifferencePart, EngineDifference};
use super::view::Axis;
use crate::vary::allocates;

/// Differences that are told at most.
const MOST: usize = 256;
/// A difference that is a smaller part of the card is not worth a sentence.
const WORTH: f64 = 0.002;

/// Says in sentences what an engine does with the card's memory, with the numbers of this launch.
pub(super) fn does(plan: &Plan, row: &ComparisonRow, assumptions: &[String]) -> Vec<String> {
    let size = |bytes: Option<u64>| Bytes::new(bytes.unwrap_or(0)).to_string();
    let share = match (row.limit_bytes, row.card_bytes) {
        (Some(limit), Some(card)) if card > 0 => limit as f64 / card as f64 * 100.0,
        _ => 0.0,
    };
    let (engine, version) = (plan.engine, &row.engine_version);
    let name = format!("{engine} {version}");
    let lead = match engine {
        trtllm::NAME => {
            format!("{name} gives its cache a share of what is free after a trial run, and leaves the rest")
        }
        sglang::NAME => format!(
            "{name} takes weights and cache from a fixed share of the card; what is left of it is for activations and graphs"
        ),
        llamacpp::NAME => format!(
            "{name} makes a cache for the context that is asked for and leaves the rest of the card free; its budget here is \
             the most that the cache could have"
        ),
        ollama::NAME => format!(
            "{name} chooses context and layers itself and leaves the rest to llama.cpp; its budget here is the most that the \
             cache could have"
        ),
        transformers::NAME => format!(
            "{name} sets nothing aside: its cache grows token by token; its budget here is what is left beside the peak of a \
             whole prompt in one pass"
        ),
        _ => format!(
            "{name} allows itself {} of the card's {} ({share:.1}%), and what weights, one profiled step, graphs and buffers \
             leave of that is its cache",
            size(row.limit_bytes),
            size(row.card_bytes)
        ),
    };
    let mut words = vec![lead];
    const TOLD: [&str; 7] = [
        "gpu_memory_utilization",
        "mem_fraction_static",
        "free_gpu_memory_fraction",
        "num_ctx",
        "-ngl",
        "prompt_tokens",
        "no .gguf file",
    ];
    words.extend(TOLD.iter().filter_map(|key| assumptions.iter().find(|text| text.contains(key))).cloned());
    if let Some(tokens) = row.step_tokens {
        words.push(format!("a step computes at most {tokens} tokens"));
    }
    if row.host_bytes > 0 {
        words.push(format!("{} lie in the host's memory", Bytes::new(row.host_bytes)));
    }
    let kept = row.parts.iter().find(|part| part.part == "kv").map_or(0, |part| part.bytes);
    let unused = row.kv_budget_bytes.unwrap_or(0).saturating_sub(kept);
    if !allocates(engine) && row.short_bytes == 0 && unused > 0 && kept > 0 {
        words.push(format!(
            "the cache is whole blocks of {} tokens: {} of its budget stay unused",
            plan.kv.block_tokens,
            Bytes::new(unused)
        ));
    }
    words
}

/// Compares each engine's rows with the first engine's of the same rest.
pub(super) fn differences(rows: &[ComparisonRow]) -> Vec<EngineDifference> {
    let rest = |row: &ComparisonRow| -> Vec<String> {
        let axes = [Axis::Model, Axis::Gpu, Axis::KvFormat, Axis::Tp, Axis::Pp, Axis::Batch];
        axes.iter().map(|axis| axis.label(row)).collect()
    };
    let mut found = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let first = rows.iter().position(|other| rest(other) == rest(row) && other.state.is_some());
        let Some(first) = first.filter(|first| *first != at && row.state.is_some()) else { continue };
        if rows[first].engine == row.engine {
            continue;
        }
        if found.len() == MOST {
            break;
        }
        found.push(difference(rows, at, first));
    }
    found
}

/// What one row has for its cache less what another has, part by part.
fn difference(rows: &[ComparisonRow], row: usize, against: usize) -> EngineDifference {
    let (ours, theirs) = (Books::of(&rows[row]), Books::of(&rows[against]));
    let parts: Vec<DifferencePart> = ours
        .taken
        .iter()
        .zip(&theirs.taken)
        .map(|((part, ours), (_, theirs))| DifferencePart { part: (*part).into(), bytes: theirs - ours })
        .chain([DifferencePart { part: "card".into(), bytes: ours.card - theirs.card }])
        .filter(|part| part.bytes != 0)
        .collect();
    let kv_budget_bytes = ours.budget - theirs.budget;
    let sum: i64 = parts.iter().map(|part| part.bytes).sum();
    assert_eq!(sum, kv_budget_bytes, "a difference in KV budget that is not the sum of its parts");
    let words = words(&rows[row], &rows[against], &parts, kv_budget_bytes);
    EngineDifference { row, against, kv_budget_bytes, parts, words }
}

/// A card's memory as an engine divides it: what it takes, what it leaves alone, and the cache's budget; the sum is the card.
struct Books {
    card: i64,
    budget: i64,
    taken: Vec<(&'static str, i64)>,
}

impl Books {
    fn of(row: &ComparisonRow) -> Books {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let card = signed(row.card_bytes.unwrap_or(0));
        let budget = signed(row.kv_budget_bytes.unwrap_or(0)) - signed(row.short_bytes);
        let part = |name: &str| signed(row.parts.iter().filter(|part| part.part == name).map(|part| part.bytes).sum());
        let names = ["weights", "activations", "runtime", "graphs"];
        let mut taken: Vec<(&'static str, i64)> = names.iter().map(|name| (*name, part(name))).collect();
        let all: i64 = taken.iter().map(|(_, bytes)| bytes).sum();
        taken.push(("left", card - all - budget));
        Books { card, budget, taken }
    }

    fn bytes(&self, part: &str) -> i64 {
        self.taken.iter().find(|(name, _)| *name == part).map_or(0, |(_, bytes)| *bytes)
    }
}

/// A size with its sign.
fn signed(bytes: i64) -> String {
    format!("{}{}", if bytes < 0 { "−" } else { "" }, Bytes::new(bytes.unsigned_abs()))
}

/// The difference in sentences, its largest parts first.
fn words(row: &ComparisonRow, first: &ComparisonRow, parts: &[DifferencePart], total: i64) -> Vec<String> {
    let (ours, theirs) = (Books::of(row), Books::of(first));
    let (name, other) = (&row.engine, &first.engine);
    let more = |bytes: i64| if bytes < 0 { "less" } else { "more" };
    let size = |bytes: i64| Bytes::new(bytes.unsigned_abs());
    let mut words = vec![if total == 0 {
        format!("{name} has the same KV budget as {other}")
    } else {
        format!("{name} has {} {} for its KV cache than {other}", size(total), more(total))
    }];
    let mut parts: Vec<&DifferencePart> = parts.iter().collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes.unsigned_abs()));
    for part in parts {
        if (part.bytes.unsigned_abs() as f64) < WORTH * theirs.card as f64 {
            continue;
        }
        let pair = format!("{} against {}", signed(ours.bytes(&part.part)), signed(theirs.bytes(&part.part)));
        let why = match part.part.as_ref() {
            "weights" => {
                let formats = match row.format == first.format {
                    true => String::new(),
                    false => format!(", {} against {}", row.format, first.format),
                };
                let host = match row.host_bytes.saturating_sub(first.host_bytes) {
                    0 => String::new(),
                    bytes => format!("; {} lie in the host's memory", Bytes::new(bytes)),
                };
                format!("weights on the card are {pair}{formats}{host}")
            }
            "activations" => match (row.step_tokens, first.step_tokens) {
                (Some(a), Some(b)) if a != b => {
                    format!("activations are {pair}: steps of {a} tokens against {b}")
                }
                _ => format!("activations are {pair}"),
            },
            "graphs" if ours.bytes("graphs") == 0 => {
                format!("graphs have no line of their own against {}", signed(theirs.bytes("graphs")))
            }
            "graphs" => format!("graphs are {pair}"),
            "runtime" => format!("buffers, libraries and the driver's context are {pair}"),
            "left" => format!("left alone on the card are {pair}"),
            _ => format!("the card has {} against {}", signed(ours.card), signed(theirs.card)),
        };
        words.push(format!("{} {}: {why}", size(part.bytes), more(part.bytes)));
    }
    words
}
