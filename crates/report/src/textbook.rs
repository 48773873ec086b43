//! How are the textbook's numbers seen? Each beside the real one, with the reason below.

use plimsoll_api::textbook::{TextbookAnswer, TextbookLine};
use plimsoll_units::{Bytes, Tokens};

use crate::page::{clean, markdown_row, markdown_rule};
use crate::{Style, csv};

/// Draws the textbook's numbers for a terminal.
pub fn textbook_table(answer: &TextbookAnswer, style: Style) -> String {
    textbook_led(answer, "A closed form, not a plan: for one, give an engine and a card.", style)
}

/// The same under another sentence on what it is.
pub(crate) fn textbook_led(answer: &TextbookAnswer, lead: &str, style: Style) -> String {
    let real_name = answer.model.as_deref().unwrap_or("a real model");
    let mut text = format!("The textbook's decoder: {}\n{lead}\n\n", answer.spec);
    text.push_str(&format!("{:<28}{:>16}  {:>16}\n", "", "textbook", if answer.model.is_some() { "real" } else { "" }));
    let mut said: Vec<&str> = Vec::new();
    for line in &answer.lines {
        let real = line.real.map_or_else(String::new, |number| shown(line, number));
        text.push_str(&format!("{:<28}{:>16}  {:>16}\n", line.what, shown(line, line.textbook), real));
        if !line.why.is_empty() && !said.contains(&line.why.as_str()) {
            said.push(&line.why);
        }
    }
    if !said.is_empty() {
        text.push_str(&format!("\nWhy {real_name} differs\n"));
    }
    for line in &answer.lines {
        if said.first() == Some(&line.why.as_str()) {
            said.remove(0);
            let about = if line.unit == "tokens" { "longest context" } else { line.what.as_str() };
            text.push_str(&wrapped(&format!("{about}: {}", line.why), style.width));
        }
    }
    text
}

/// Writes the textbook's numbers as Markdown.
pub fn textbook_markdown(answer: &TextbookAnswer) -> String {
    let mut text = format!("The textbook's decoder: {}\n\n", clean(&answer.spec));
    text.push_str(&markdown_row(&["", "textbook", answer.model.as_deref().unwrap_or("real"), "why they differ"]));
    text.push_str(&markdown_rule(&[false, true, true, false]));
    for line in &answer.lines {
        let real = line.real.map_or_else(String::new, |number| shown(line, number));
        text.push_str(&markdown_row(&[&line.what, &shown(line, line.textbook), &real, &line.why]));
    }
    text
}

/// Writes the textbook's numbers as CSV.
pub fn textbook_csv(answer: &TextbookAnswer) -> String {
    let mut text = csv::line(&["what", "unit", "textbook", "real"]);
    for line in &answer.lines {
        let real = line.real.map_or_else(String::new, |number| number.to_string());
        text.push_str(&csv::line(&[&line.what, &line.unit, &line.textbook.to_string(), &real]));
    }
    text
}

/// A number with its unit.
fn shown(line: &TextbookLine, number: f64) -> String {
    if line.unit == "tokens" {
        Tokens::new(number.max(0.0) as u64).to_string()
    } else {
        Bytes::from_f64(number).to_string()
    }
}

/// Wraps a sentence as a list item.
fn wrapped(sentence: &str, width: usize) -> String {
    let mut text = String::from("  -");
    let mut column = 3;
    for word in sentence.split(' ') {
        if column + 1 + word.chars().count() > width {
            text.push_str("\n   ");
            column = 3;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.chars().count();
    }
    text.push('\n');
    text
}
