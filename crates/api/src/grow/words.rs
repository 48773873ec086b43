//! What stands out? The numbers of an answer in sentences.

use plimsoll_units::{Bytes, Tokens};

use super::answer::{GrowAnswer, LineAnswer, PointAnswer, ReachAnswer};

/// Lines that are told in sentences: of more the tables tell.
const MOST_LINES: usize = 12;

/// Returns what stands out.
pub(super) fn findings(answer: &GrowAnswer) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(per_token(answer));
    if answer.lines.len() <= MOST_LINES {
        found.extend(answer.lines.iter().map(line));
    }
    found
}

/// What a token costs, and whether that changes along the context.
fn per_token(answer: &GrowAnswer) -> Option<String> {
    if answer.axes.first()?.knob != "context" {
        return None;
    }
    // One column: the first.
    let column = answer.points.iter().take(answer.axes.first()?.values.len());
    let points: Vec<&PointAnswer> = column.filter(|point| point.need.is_some()).collect();
    let (first, last) = (points.first()?, points.last()?);
    let cost = |point: &PointAnswer| point.need.as_ref().map(|need| need.kv_bytes_per_token);
    let (start, end) = (cost(first)?, cost(last)?);
    let per = |bytes: f64| Bytes::from_f64(bytes).to_string();
    let tokens = |point: &PointAnswer| Tokens::new(point.context).to_string();
    if end >= start * 0.9 {
        return Some(format!("each token of a sequence takes {} of KV cache", per(end)));
    }
    Some(format!(
        "the cache grows slower than the context (windows stop growing, states never do): {} a token at {} \
         tokens, {} at {}",
        per(start),
        tokens(first),
        per(end),
        tokens(last)
    ))
}

/// How far a column goes.
fn line(line: &LineAnswer) -> String {
    let what = |number: u64| {
        let number = Tokens::new(number).to_string();
        if line.along == "context" { format!("{number} tokens") } else { format!("{number} sequences") }
    };
    if let Some(refused) = &line.reach.refused {
        return format!("{}refused: {refused}", place(&line.reach));
    }
    let crossing = match line.kv_outgrows_weights_at {
        Some(at) => format!("KV outgrows the weights at {}", what(at)),
        None => "KV never outgrows the weights".to_owned(),
    };
    let mut sentence = format!("{}{crossing}", place(&line.reach));
    let reach = &line.reach;
    match (reach.most, line.full_at) {
        (None, _) => {}
        (Some(0), _) => sentence.push_str(&format!("; nothing fits ({})", reach.bound)),
        (Some(most), _) if reach.bound == "model" => {
            sentence.push_str(&format!("; the model's longest, {}, fits", what(most)));
        }
        (Some(_), Some(full)) => {
            sentence.push_str(&format!("; the card is full at {}{}", what(full), interval(reach, 1)));
        }
        (Some(most), None) => sentence.push_str(&format!("; {} fit, then: {}", what(most), reach.bound)),
    }
    sentence
}

/// The interval of a reach, `beyond` it.
fn interval(reach: &ReachAnswer, beyond: u64) -> String {
    match (reach.low, reach.high) {
        (Some(low), Some(high)) if low < high => {
            format!(" ({} … {})", Tokens::new(low + beyond), Tokens::new(high + beyond))
        }
        _ => String::new(),
    }
}

/// Which column.
fn place(reach: &ReachAnswer) -> String {
    let at: Vec<String> = reach.at.iter().map(|at| format!("{} {}", at.knob, at.value)).collect();
    if at.is_empty() { String::new() } else { format!("{}: ", at.join(", ")) }
}
