//! Was the plan right, as text? The head, the rows of planned and logged, causes, refusals, what was assumed and what is asked.

use plimsoll_api::ReconcileAnswer;
use plimsoll_api::reconcile::answer::{ItemAnswer, ReadingAnswer};
use plimsoll_units::Bytes;

use crate::csv;
use crate::number::{count, plain, size};
use crate::page::{Style, clean, columns, markdown_row, markdown_rule, wrap};

/// Readings that a table without a plan shows.
const READINGS: usize = 60;
/// Heads of the comparison's columns.
const HEADS: [&str; 6] = ["item", "where", "planned", "interval", "logged", "difference"];

/// Shows a log beside its plan.
pub fn reconcile_table(answer: &ReconcileAnswer, style: Style) -> String {
    let mut out = format!("{}\n{}\n\n", style.bold(&head(answer)), log_line(answer));
    if answer.items.is_empty() {
        out.push_str(&readings(answer, style));
    } else {
        let mut rows = vec![HEADS.iter().map(|head| (*head).to_owned()).chain(["".to_owned()]).collect::<Vec<_>>()];
        rows.extend(answer.items.iter().map(|item| cells(item).to_vec()));
        let lines = columns(&rows, &[false, false, true, true, true, true, false], style.width);
        for (at, line) in lines.iter().enumerate() {
            let large = at > 0 && answer.items.get(at - 1).is_some_and(|item| !item.inside);
            out.push_str(&if at == 0 {
                style.bold(line)
            } else if large {
                style.bad(line)
            } else {
                line.clone()
            });
            out.push('\n');
        }
    }
    if let Some(rules) = &answer.rules {
        let words = if rules.agrees { "as logged" } else { "not what the log says" };
        let text = format!(
            "of the logged budget of {} the rules make {} tokens, {words} ({})",
            size(rules.kv_budget_bytes),
            count(rules.kv_tokens),
            count(rules.kv_tokens_logged)
        );
        out.push('\n');
        out.push_str(&wrap("", &text, style.width));
    }
    let causes: Vec<String> = answer.causes.iter().map(with_lines).collect();
    out.push_str(&list("Likely causes", &causes, style));
    let refusals: Vec<String> =
        answer.refusals.iter().map(|refusal| format!("line {}: {}", refusal.line, refusal.text)).collect();
    out.push_str(&list("The engine stopped", &refusals, style));
    if let Some(learned) = &answer.learned {
        out.push_str(&list("Learnt", &[format!("kept for {}", learned.launch)], style));
    }
    out.push_str(&list("Not in the log", &answer.asked, style));
    out.push_str(&list("Assumed", &answer.assumed, style));
    out.push_str(&list("Notes", &answer.notes, style));
    out
}

/// Shows it as Markdown.
pub fn reconcile_markdown(answer: &ReconcileAnswer) -> String {
    let mut out = format!("## {}\n\n{}\n\n", head(answer), log_line(answer));
    if answer.items.is_empty() {
        out.push_str(&markdown_row(&["line", "what", "where", "value"]));
        out.push_str(&markdown_rule(&[true, false, false, true]));
        for reading in &answer.readings {
            out.push_str(&markdown_row(&reading_cells(reading)));
        }
    } else {
        out.push_str(&markdown_row(&[HEADS.as_slice(), &["within"]].concat()));
        out.push_str(&markdown_rule(&[false, false, true, true, true, true, false]));
        for item in &answer.items {
            let mut cells = cells(item);
            cells[6] = if item.inside { "yes".to_owned() } else { "no".to_owned() };
            out.push_str(&markdown_row(&cells));
        }
    }
    let causes: Vec<String> = answer.causes.iter().map(with_lines).collect();
    let refusals: Vec<String> = answer.refusals.iter().map(|refusal| refusal.text.clone()).collect();
    for (title, texts) in [
        ("Likely causes", &causes),
        ("The engine stopped", &refusals),
        ("Not in the log", &answer.asked),
        ("Assumed", &answer.assumed),
        ("Notes", &answer.notes),
    ] {
        if !texts.is_empty() {
            out.push_str(&format!("\n### {title}\n\n"));
            for text in texts {
                out.push_str(&format!("- {}\n", clean(text)));
            }
        }
    }
    out
}

/// Shows the rows as CSV, bytes and counts in full; the readings where no plan could be made.
pub fn reconcile_csv(answer: &ReconcileAnswer) -> String {
    let mut out = csv::line(&[
        "log",
        "item",
        "where",
        "unit",
        "planned",
        "low",
        "high",
        "logged",
        "difference",
        "inside",
        "line",
    ]);
    let number = |value: f64| if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    for item in &answer.items {
        out.push_str(&csv::line(&[
            answer.log.name.clone(),
            item.item.to_string(),
            item.places.join(" "),
            item.unit.to_string(),
            number(item.planned),
            number(item.low),
            number(item.high),
            number(item.logged),
            number(item.difference),
            item.inside.to_string(),
            item.line.to_string(),
        ]));
    }
    if answer.items.is_empty() {
        for reading in &answer.readings {
            let (unit, value) = match reading.bytes {
                Some(bytes) => ("bytes", bytes.to_string()),
                None => ("count", number(reading.count.unwrap_or(0.0))),
            };
            let empty = String::new;
            out.push_str(&csv::line(&[
                answer.log.name.clone(),
                reading.what.to_string(),
                place(reading),
                unit.to_owned(),
                empty(),
                empty(),
                empty(),
                value,
                empty(),
                empty(),
                reading.line.to_string(),
            ]));
        }
    }
    out
}

/// Engine, model and card.
fn head(answer: &ReconcileAnswer) -> String {
    let engine = &answer.engine;
    let version = match (&engine.logged, &engine.version) {
        (Some(logged), _) => format!(" {logged}"),
        (None, Some(version)) => format!(" {version} (not in the log)"),
        (None, None) => String::new(),
    };
    let model = answer.model.used.as_ref().or(answer.model.logged.as_ref());
    let model = model.map(|model| format!(": {model}")).unwrap_or_default();
    let gpu = answer.plan.as_ref().map(|plan| format!(" on {} × {}", plan.gpu.count, plan.gpu.name));
    let gpu = gpu.or_else(|| answer.gpu.logged.as_ref().map(|gpu| format!(" on {gpu}"))).unwrap_or_default();
    clean(&format!("{}{version}{model}{gpu}", engine.name))
}

fn log_line(answer: &ReconcileAnswer) -> String {
    let log = &answer.log;
    let launches = match log.launches {
        0 => "an excerpt".to_owned(),
        1 => "one launch".to_owned(),
        several => format!("{several} launches"),
    };
    clean(&format!("{}: {} lines, {launches}, {} numbers", log.name, count(log.lines), answer.readings.len()))
}

/// One row's cells; the last says when a number lies outside its interval.
fn cells(item: &ItemAnswer) -> [String; 7] {
    let bytes = item.unit == "bytes";
    // One unit for the whole row, so that its numbers compare at a glance.
    let largest = [item.planned, item.low, item.high, item.logged].into_iter().fold(0.0, f64::max);
    let unit = if Bytes::from_f64(largest).as_gib() >= 0.995 { Unit::Gib } else { Unit::Mib };
    let show = |value: f64| if bytes { unit.show(value) } else { plain((value * 100.0).round() / 100.0) };
    let exact = (item.high - item.low).abs() < 0.5;
    let interval = if exact {
        "exact".to_owned()
    } else {
        format!("{} … {}", short(item.low, bytes.then_some(unit)), short(item.high, bytes.then_some(unit)))
    };
    let sign = if item.difference < 0.0 { "-" } else { "+" };
    let difference = match item.relative {
        _nothing if item.difference.abs() <= item.half.max(0.005) => "0".to_owned(),
        Some(share) if share.abs() >= 0.0005 => format!("{:+.1}%", share * 100.0),
        _small => format!("{sign}{}", show(item.difference.abs())),
    };
    let place = match item.places.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        several if several.iter().any(|place| place.starts_with(|c: char| c.is_ascii_uppercase())) => {
            format!("{} devices", several.len())
        }
        several => format!("{} ranks", several.len()),
    };
    let outside = if item.inside { String::new() } else { "out".to_owned() };
    [item.item.to_string(), place, show(item.planned), interval, show(item.logged), difference, outside]
        .map(|cell| clean(&cell))
}

/// A size with two digits after the point, as engines print it.
fn fine(bytes: f64) -> String {
    let bytes = Bytes::from_f64(bytes);
    let gib = bytes.as_gib();
    if gib >= 0.995 { format!("{gib:.2} GiB") } else { format!("{:.2} MiB", bytes.as_mib()) }
}

/// In what a row's sizes are told.
#[derive(Clone, Copy)]
enum Unit {
    Gib,
    Mib,
}

impl Unit {
    /// The number alone, with two digits after the point.
    fn number(self, bytes: f64) -> String {
        let bytes = Bytes::from_f64(bytes);
        match self {
            Unit::Gib => format!("{:.2}", bytes.as_gib()),
            Unit::Mib => format!("{:.2}", bytes.as_mib()),
        }
    }

    fn show(self, bytes: f64) -> String {
        let name = match self {
            Unit::Gib => "GiB",
            Unit::Mib => "MiB",
        };
        format!("{} {name}", self.number(bytes))
    }
}

/// An interval's end: a size in the row's unit, which stands beside it, or a count.
fn short(value: f64, unit: Option<Unit>) -> String {
    unit.map_or_else(|| plain(value.round()), |unit| unit.number(value))
}

/// The readings of a log without a plan.
fn readings(answer: &ReconcileAnswer, style: Style) -> String {
    let mut rows = vec![["line", "what", "where", "value"].map(str::to_owned).to_vec()];
    rows.extend(answer.readings.iter().take(READINGS).map(|reading| reading_cells(reading).to_vec()));
    let lines = columns(&rows, &[true, false, false, true], style.width);
    let mut out: Vec<String> = lines;
    if let Some(first) = out.first_mut() {
        *first = style.bold(first);
    }
    if answer.readings.len() > READINGS {
        out.push(format!("and {} more; --json prints all", answer.readings.len() - READINGS));
    }
    out.join("\n") + "\n"
}

fn reading_cells(reading: &ReadingAnswer) -> [String; 4] {
    let value = match reading.bytes {
        Some(bytes) => fine(bytes as f64),
        None => plain(reading.count.unwrap_or(0.0)),
    };
    [reading.line.to_string(), reading.what.to_string(), place(reading), value].map(|cell| clean(&cell))
}

fn place(reading: &ReadingAnswer) -> String {
    reading.device.clone().or_else(|| reading.rank.clone()).unwrap_or_default()
}

/// A cause with the lines that show it.
fn with_lines(cause: &plimsoll_api::reconcile::answer::CauseAnswer) -> String {
    let mut lines: Vec<String> =
        cause.evidence.iter().filter(|shown| shown.line > 0).map(|shown| shown.line.to_string()).collect();
    lines.dedup();
    let shown = if lines.is_empty() { String::new() } else { format!(" (line {})", lines.join(", ")) };
    format!("{}: {}{shown}", cause.cause, cause.text)
}

fn list(title: &str, texts: &[String], style: Style) -> String {
    if texts.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{}\n", style.bold(title));
    for text in texts {
        out.push_str(&wrap("  - ", text, style.width));
    }
    out
}
