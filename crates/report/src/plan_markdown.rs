//! Does it fit, for an issue or a spreadsheet?

use plimsoll_api::PlanAnswer;

use crate::csv;
use crate::number::{interval, percent, size};
use crate::page::{clean, markdown_row, markdown_rule};
use crate::plan::{cache_facts, doubt, model_line, place_line, remedy_words, verdict_line};

/// Writes a plan as Markdown.
pub fn plan_markdown(answer: &PlanAnswer) -> String {
    let mut out = format!("### {}\n\n{}\n\n**{}**\n\n", model_line(answer), place_line(answer), verdict_line(answer));
    if let Some(refusal) = &answer.verdict.refusal {
        out.push_str(&format!("> {}\n\n", clean(refusal)));
    }
    if let Some(words) = doubt(answer) {
        out.push_str(&format!("{words}\n\n"));
    }
    for remedy in &answer.verdict.remedies {
        out.push_str(&format!("1. {}\n", remedy_words(remedy)));
    }
    if !answer.verdict.remedies.is_empty() {
        out.push('\n');
    }
    if let Some(rank) = answer.ranks.get(answer.scarcest) {
        let card = answer.gpu.total_bytes;
        out.push_str(&markdown_row(&["item", "size", "90% interval", "card", "source"]));
        out.push_str(&markdown_rule(&[false, true, true, true, false]));
        for entry in &rank.entries {
            let interval = interval(entry.bytes, entry.low, entry.high);
            let share = percent(entry.bytes, card);
            out.push_str(&markdown_row(&[&entry.item, size(entry.bytes).as_str(), &interval, &share, &entry.source]));
        }
        for (name, bytes) in [("sum", rank.total_bytes), ("engine's limit", rank.limit_bytes), ("card", card)] {
            let name = format!("**{name}**");
            out.push_str(&markdown_row(&[name.as_str(), &size(bytes), "", &percent(bytes, card), ""]));
        }
        out.push('\n');
    }
    out.push_str(&markdown_row(&["KV cache", "", ""]));
    out.push_str(&markdown_rule(&[false, true, false]));
    for (name, number, words) in cache_facts(answer) {
        out.push_str(&markdown_row(&[name, &number, &words]));
    }
    if !answer.launch.is_empty() {
        out.push_str(&format!("\n```sh\n{}\n```\n", clean(&answer.launch)));
    }
    for (title, items) in [("Assumptions", &answer.assumptions), ("Notes", &answer.notes)] {
        if !items.is_empty() {
            let items: String = items.iter().map(|item| format!("- {}\n", clean(item))).collect();
            out.push_str(&format!("\n{title}:\n\n{items}"));
        }
    }
    out
}

/// Writes the ledgers of all ranks as comma-separated values, one entry a line.
pub fn plan_csv(answer: &PlanAnswer) -> String {
    let mut out = csv::line(&["pp_rank", "tp_rank", "item", "bytes", "low", "high", "source"]);
    for rank in &answer.ranks {
        let (pp, tp) = (rank.pp_rank.to_string(), rank.tp_rank.to_string());
        for entry in &rank.entries {
            let [bytes, low, high] = [entry.bytes, entry.low, entry.high].map(|bytes| bytes.to_string());
            out.push_str(&csv::line(&[&pp, &tp, entry.item.as_ref(), &bytes, &low, &high, &entry.source]));
        }
        let limit = rank.limit_bytes.to_string();
        out.push_str(&csv::line(&[&pp, &tp, "limit", &limit, &limit, &limit, "the engine's own limit"]));
    }
    out
}
