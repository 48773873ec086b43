//! Which is better, as text? A grid or a table, split where the page is narrow; the best of each figure has a star.

use std::collections::BTreeMap;

use plimsoll_api::ComparisonAnswer;
use plimsoll_api::compare::answer::ComparisonRow;
use plimsoll_api::compare::{Axis, COLUMNS, Column, Kind};

use crate::csv;
use crate::figure::Figure;
use crate::number::{count, plain, short, three};
use crate::page::{Style, clean, columns, markdown_row, markdown_rule, width, wrap};
use crate::simulate::list;
use crate::{Show, compare_figures};

/// Bytes of a GiB.
const GIB: f64 = 1_073_741_824.0;
/// The widest that a name in a table is.
const WIDEST: usize = 26;
/// Rows of a figure's interval column apart.
const NOTHING: &str = "—";

/// A table: heads, which of its columns are numbers, rows.
struct Table {
    heads: Vec<String>,
    numeric: Vec<bool>,
    rows: Vec<Vec<String>>,
    /// Columns at the front that every part of a split table repeats.
    fixed: usize,
}

impl Show for ComparisonAnswer {
    fn question(&self) -> String {
        let varied: Vec<String> = self.varied.iter().map(|varied| plural(&varied.axis)).collect();
        match varied.as_slice() {
            [] => "What does this launch come to?".to_owned(),
            [one] if one == "engines" => "What does each engine do with the same card and model?".to_owned(),
            [one] => format!("Which {} is best?", one.trim_end_matches('s')),
            several => format!("How do {} compare?", joined(several)),
        }
    }

    fn table(&self, style: Style) -> String {
        compare_table(self, style)
    }

    fn markdown(&self) -> String {
        compare_markdown(self)
    }

    fn csv(&self) -> String {
        compare_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        compare_figures::figures(self)
    }
}

/// The name of several of an axis.
fn plural(axis: &str) -> String {
    match axis {
        "gpu" => "cards".to_owned(),
        "kv_format" => "KV formats".to_owned(),
        "tp" => "tensor-parallel sizes".to_owned(),
        "pp" => "pipeline sizes".to_owned(),
        "context" => "contexts".to_owned(),
        "batch" => "batches".to_owned(),
        other => format!("{other}s"),
    }
}

/// Words with commas and an `and`.
fn joined(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The axes of a list of names.
pub(crate) fn axes(names: &[std::borrow::Cow<'static, str>]) -> Vec<Axis> {
    Axis::ALL.into_iter().filter(|axis| names.iter().any(|name| name == axis.name())).collect()
}

/// The columns that are shown.
pub(crate) fn shown(answer: &ComparisonAnswer) -> Vec<Column> {
    let named = |name: &std::borrow::Cow<'static, str>| COLUMNS.iter().copied().find(|column| column.name == *name);
    answer.view.show.iter().filter_map(named).collect()
}

/// A row's name: what it has on the axes that vary.
pub(crate) fn label(answer: &ComparisonAnswer, row: &ComparisonRow) -> String {
    let varied: Vec<std::borrow::Cow<'static, str>> = answer.varied.iter().map(|varied| varied.axis.clone()).collect();
    let words: Vec<String> = axes(&varied).iter().map(|axis| value(*axis, row)).collect();
    if words.is_empty() { row.model.clone() } else { clean(&words.join(", ")) }
}

/// What a row has on an axis, with a word where a bare number would not speak.
fn value(axis: Axis, row: &ComparisonRow) -> String {
    let label = axis.label(row);
    match axis {
        Axis::Tp | Axis::Pp => format!("{} {label}", axis.name()),
        Axis::Batch => format!("batch {label}"),
        Axis::Context => count(row.context),
        Axis::Model | Axis::Gpu | Axis::Engine | Axis::Format | Axis::KvFormat => label,
    }
}

/// Shows a comparison for a terminal.
fn compare_table(answer: &ComparisonAnswer, style: Style) -> String {
    let mut out = format!("{}\n", style.bold(&Show::question(answer)));
    if !answer.same.is_empty() {
        out.push_str(&wrap("", &answer.same.join(", "), style.width));
    }
    out.push('\n');
    let table = body(answer);
    for part in split(&table, style.width) {
        for (at, line) in columns(&part.rows, &part.numeric, style.width).into_iter().enumerate() {
            out.push_str(&if at == 0 { style.bold(&line) } else { line });
            out.push('\n');
        }
        out.push('\n');
    }
    out.push_str(&wrap("", &legend(answer), style.width));
    for reason in reasons(answer) {
        out.push_str(&wrap("  ", &reason, style.width));
    }
    for (name, words) in engines(answer) {
        out.push_str(&format!("\n{}\n", style.bold(&name)));
        for text in words {
            out.push_str(&wrap("  - ", &text, style.width));
        }
    }
    out.push_str(&list("Published quality", &sources(answer), style));
    out.push_str(&list("Assumptions", &answer.assumptions, style));
    out.push_str(&list("Notes", &answer.notes, style));
    out
}

/// Writes a comparison as Markdown.
fn compare_markdown(answer: &ComparisonAnswer) -> String {
    let table = body(answer);
    let mut out = String::new();
    if !answer.same.is_empty() {
        out.push_str(&format!("{}\n\n", clean(&answer.same.join(", "))));
    }
    let bold = |cell: &String| match cell.strip_suffix('*') {
        Some(best) => format!("**{best}**"),
        None => cell.trim_end().to_owned(),
    };
    out.push_str(&markdown_row(&table.heads));
    out.push_str(&markdown_rule(&table.numeric));
    for row in &table.rows {
        out.push_str(&markdown_row(&row.iter().map(bold).collect::<Vec<_>>()));
    }
    out.push_str(&format!("\n{}\n", legend(answer).replacen("* best", "Bold: best", 1)));
    let told: Vec<String> = reasons(answer);
    for (title, items) in [("Not answered", &told), ("Published quality", &sources(answer))] {
        out.push_str(&items_of(title, items));
    }
    for (name, words) in engines(answer) {
        out.push_str(&items_of(&name, &words));
    }
    out.push_str(&items_of("Assumptions", &answer.assumptions));
    out.push_str(&items_of("Notes", &answer.notes));
    out
}

/// A list of Markdown under its title.
fn items_of(title: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|item| format!("- {}\n", clean(item))).collect();
    format!("\n{title}:\n\n{items}")
}

/// Writes the rows in full; what is not known is empty.
fn compare_csv(answer: &ComparisonAnswer) -> String {
    let names = ["model", "model_id", "gpu", "gpu_name", "engine", "engine_version", "format", "kv_format", "tp", "pp"];
    let more = ["context", "batch", "at_tokens", "at_batch", "verdict"];
    let last = [
        "decode_low_ms",
        "decode_high_ms",
        "prefill_low_ms",
        "prefill_high_ms",
        "quality_metric",
        "quality_value",
        "quality_source",
        "times_reason",
        "reason",
    ];
    let figures = || COLUMNS.iter().filter(|column| column.kind != Kind::State);
    let heads: Vec<&str> =
        names.into_iter().chain(more).chain(figures().map(|column| column.name)).chain(last).collect();
    let mut out = csv::line(&heads);
    let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for row in &answer.rows {
        let number = |known: bool, value: u64| if known { value.to_string() } else { String::new() };
        let known = row.state.is_some();
        let mut cells = vec![
            row.model.clone(),
            row.model_id.clone(),
            row.gpu.clone(),
            row.gpu_name.clone(),
            row.engine.to_string(),
            row.engine_version.clone(),
            row.format.clone(),
            row.kv_format.clone().unwrap_or_default(),
            number(known, u64::from(row.tp)),
            number(known, u64::from(row.pp)),
            number(known, row.context),
            row.batch.map(|batch| batch.to_string()).unwrap_or_default(),
            number(known, row.at_tokens),
            number(known, u64::from(row.at_batch)),
            row.state.as_deref().unwrap_or_default().to_owned(),
        ];
        cells.extend(figures().map(|column| text(column.of(row))));
        let source = row.quality.as_ref().and_then(|quality| answer.quality_sources.get(quality.source));
        cells.extend([
            text(row.decode_low_ms),
            text(row.decode_high_ms),
            text(row.prefill_low_ms),
            text(row.prefill_high_ms),
            row.quality.as_ref().map(|quality| quality.metric.to_string()).unwrap_or_default(),
            text(row.quality.as_ref().map(|quality| quality.value)),
            source.map(|source| source.source.clone()).unwrap_or_default(),
            row.times_reason.clone().unwrap_or_default(),
            row.reason.clone().unwrap_or_default(),
        ]);
        out.push_str(&csv::line(&cells));
    }
    out
}

/// The table that the view asks for.
fn body(answer: &ComparisonAnswer) -> Table {
    if answer.view.columns.is_empty() { long(answer) } else { grid(answer) }
}

/// One line a row.
fn long(answer: &ComparisonAnswer) -> Table {
    let names = axes(&answer.view.rows);
    let show = shown(answer);
    let heads: Vec<String> =
        names.iter().map(|axis| axis.name().to_owned()).chain(show.iter().map(|column| head(answer, column))).collect();
    let plain = |axis: &Axis| matches!(axis, Axis::Tp | Axis::Pp | Axis::Context | Axis::Batch);
    let numeric: Vec<bool> =
        names.iter().map(plain).chain(show.iter().map(|column| column.kind != Kind::State)).collect();
    let line = |row: &ComparisonRow| {
        let name = |axis: &Axis| match (axis, row.state.is_some()) {
            (Axis::Context, true) => count(row.context),
            (Axis::Context | Axis::Tp | Axis::Pp, false) => NOTHING.to_owned(),
            (Axis::Model | Axis::Gpu | Axis::Engine | Axis::Format | Axis::KvFormat | Axis::Batch, _)
            | (Axis::Tp | Axis::Pp, true) => axis.label(row),
        };
        let names = names.iter().map(|axis| clean(&name(axis)));
        names.chain(show.iter().map(|column| cell(answer, column, row))).collect()
    };
    Table { heads, numeric, rows: answer.rows.iter().map(line).collect(), fixed: names.len() }
}

/// Rows against columns, one line for each figure.
fn grid(answer: &ComparisonAnswer) -> Table {
    let (down, across) = (axes(&answer.view.rows), axes(&answer.view.columns));
    let show = shown(answer);
    let key =
        |axes: &[Axis], row: &ComparisonRow| axes.iter().map(|axis| clean(&value(*axis, row))).collect::<Vec<_>>();
    let (mut lines, mut heads): (Vec<Vec<String>>, Vec<Vec<String>>) = (Vec::new(), Vec::new());
    let mut at: BTreeMap<(Vec<String>, Vec<String>), &ComparisonRow> = BTreeMap::new();
    for row in &answer.rows {
        let (line, column) = (key(&down, row), key(&across, row));
        if !lines.contains(&line) {
            lines.push(line.clone());
        }
        if !heads.contains(&column) {
            heads.push(column.clone());
        }
        at.entry((line, column)).or_insert(row);
    }
    let mut table = Table {
        heads: vec![down.iter().map(|axis| axis.name()).collect::<Vec<_>>().join(", "), String::new()],
        numeric: vec![false, false],
        rows: Vec::new(),
        fixed: 2,
    };
    table.heads.extend(heads.iter().map(|column| column.join(" ")));
    table.numeric.extend(heads.iter().map(|_| true));
    for line in &lines {
        for (number, column) in show.iter().enumerate() {
            let name = if number == 0 { line.join(", ") } else { String::new() };
            let cells = heads.iter().map(|head| match at.get(&(line.clone(), head.clone())) {
                Some(row) => cell(answer, column, row),
                None => String::new(),
            });
            table.rows.push([name, head(answer, column)].into_iter().chain(cells).collect());
        }
    }
    table
}

/// Splits a table that is wider than the page into several, each with the names in front.
fn split(table: &Table, to: usize) -> Vec<Table> {
    let natural = |at: usize| {
        let cells = table.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
        let most = cells.max().unwrap_or(0).max(width(&table.heads[at]));
        if table.numeric[at] { most } else { most.min(WIDEST) }
    };
    let fixed: usize = (0..table.fixed).map(|at| natural(at) + 2).sum();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut taken = usize::MAX;
    for at in table.fixed..table.heads.len() {
        let need = natural(at) + 2;
        match groups.last_mut() {
            Some(group) if taken + need <= to + 2 => {
                group.push(at);
                taken += need;
            }
            Some(_) | None => {
                groups.push(vec![at]);
                taken = fixed + need;
            }
        }
    }
    let part = |group: &Vec<usize>| {
        let all: Vec<usize> = (0..table.fixed).chain(group.iter().copied()).collect();
        let pick = |row: &Vec<String>| all.iter().filter_map(|at| row.get(*at).cloned()).collect::<Vec<String>>();
        let mut rows = vec![pick(&table.heads)];
        rows.extend(table.rows.iter().map(pick));
        Table {
            heads: Vec::new(),
            numeric: all.iter().map(|at| table.numeric[*at]).collect(),
            rows,
            fixed: table.fixed,
        }
    };
    groups.iter().map(part).collect()
}

/// The head of a figure with its unit.
fn head(answer: &ComparisonAnswer, column: &Column) -> String {
    let timed = |row: &ComparisonRow| column.interval(row).is_some();
    match column.kind {
        Kind::Bytes if column.name == "kv_bytes_per_token" => format!("{} KiB", column.head),
        Kind::Bytes => format!("{} GiB", column.head),
        Kind::Millis if answer.rows.iter().any(timed) => format!("{} ms (p10–p90)", column.head),
        Kind::Millis => format!("{} ms", column.head),
        Kind::Count | Kind::Many | Kind::Share | Kind::Rate | Kind::State | Kind::Quality => column.head.to_owned(),
    }
}

/// A cell; the best of its group has a star.
fn cell(answer: &ComparisonAnswer, column: &Column, row: &ComparisonRow) -> String {
    if column.kind == Kind::State {
        return verdict(answer, row);
    }
    let star = if row.best.iter().any(|name| name == column.name) { "*" } else { " " };
    if column.kind == Kind::Quality {
        return quality(row);
    }
    let Some(value) = column.of(row) else { return format!("{NOTHING} ") };
    let interval = match column.interval(row) {
        Some((low, high)) => format!(" ({}–{})", three(low), three(high)),
        None => String::new(),
    };
    if value <= 0.0 && column.kind == Kind::Count && matches!(row.state.as_deref(), Some("does_not_fit" | "shorter")) {
        return format!("{NOTHING} ");
    }
    let about = if column_is_timed(column) && row.times_unmeasured { "≈" } else { "" };
    format!("{about}{}{interval}{star}", written(column, value))
}

/// Whether a figure is a predicted time, or follows from one.
fn column_is_timed(column: &Column) -> bool {
    matches!(column.kind, Kind::Millis | Kind::Rate)
}

/// A number as its kind is written.
pub(crate) fn written(column: &Column, value: f64) -> String {
    match column.kind {
        Kind::Bytes if column.name == "kv_bytes_per_token" => plain((value / 1024.0 * 100.0).round() / 100.0),
        Kind::Bytes => three(value / GIB).replace('-', "−"),
        Kind::Count => count(value as u64),
        Kind::Many => short(value as u64),
        Kind::Share => format!("{}%", three(value * 100.0).replace('-', "−")),
        Kind::Millis | Kind::Rate | Kind::State | Kind::Quality => three(value),
    }
}

/// A verdict in a word.
fn verdict(answer: &ComparisonAnswer, row: &ComparisonRow) -> String {
    match row.state.as_deref() {
        Some("fits") => "fits".to_owned(),
        Some("borderline") => "borderline".to_owned(),
        Some("shorter") => "shorter".to_owned(),
        Some(_) => match row.binding.as_deref() {
            Some(_) if !answer.view.columns.is_empty() => "no".to_owned(),
            Some(binding) => format!("no: {binding}"),
            None => "no".to_owned(),
        },
        None => match answered(answer).iter().position(|(reason, _)| Some(*reason) == row.reason.as_deref()) {
            Some(at) => format!("— [{}]", at + 1),
            None => NOTHING.to_owned(),
        },
    }
}

/// Published quality in a word, with the number of its source.
fn quality(row: &ComparisonRow) -> String {
    let Some(quality) = &row.quality else { return String::new() };
    let mark = source_mark(quality.source);
    let change = quality.change.unwrap_or(0.0);
    let sign = match change {
        change if change < 0.0 => "−",
        change if change > 0.0 => "+",
        _ => "±",
    };
    match quality.metric.as_ref() {
        "perplexity" => format!("{sign}{} ppl {mark}", three(change.abs())),
        "recovery" => format!("{}% {mark}", plain(quality.value)),
        _ => format!("{sign}{} {mark}", three(change.abs())),
    }
}

/// `a`, `b`, … `z`, then numbers.
fn source_mark(at: usize) -> String {
    match u8::try_from(at) {
        Ok(at) if at < 26 => char::from(b'a' + at).to_string(),
        Ok(_) | Err(_) => format!("s{at}"),
    }
}

/// The reasons of rows that are not answered, and how many rows have each.
fn answered(answer: &ComparisonAnswer) -> Vec<(&str, Vec<&ComparisonRow>)> {
    let mut found: Vec<(&str, Vec<&ComparisonRow>)> = Vec::new();
    for row in &answer.rows {
        let Some(reason) = row.reason.as_deref() else { continue };
        match found.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, rows)) => rows.push(row),
            None => found.push((reason, vec![row])),
        }
    }
    found
}

/// Why rows are not answered, and why times are absent.
fn reasons(answer: &ComparisonAnswer) -> Vec<String> {
    let named = |rows: &[&ComparisonRow]| match rows {
        [one] => label(answer, one),
        [first, rest @ ..] => format!("{} and {} more", label(answer, first), rest.len()),
        [] => String::new(),
    };
    let mut words: Vec<String> = answered(answer)
        .iter()
        .enumerate()
        .map(|(at, (reason, rows))| format!("[{}] {}: {}", at + 1, named(rows), clean(reason)))
        .collect();
    let timed = shown(answer).iter().any(|column| matches!(column.kind, Kind::Millis | Kind::Rate));
    if timed {
        let mut untimed: Vec<(&str, Vec<&ComparisonRow>)> = Vec::new();
        for row in &answer.rows {
            let Some(reason) = row.times_reason.as_deref() else { continue };
            match untimed.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, rows)) => rows.push(row),
                None => untimed.push((reason, vec![row])),
            }
        }
        words.extend(untimed.iter().map(|(reason, rows)| format!("no times for {}: {}", named(rows), clean(reason))));
    }
    words
}

/// Where published quality comes from.
fn sources(answer: &ComparisonAnswer) -> Vec<String> {
    let all = answer.quality_sources.iter().enumerate();
    if shown(answer).iter().all(|column| column.kind != Kind::Quality) {
        return Vec::new();
    }
    all.map(|(at, source)| format!("{}: {} ({})", source_mark(at), source.protocol, source.source)).collect()
}

/// What engines do, and why they differ.
fn engines(answer: &ComparisonAnswer) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (at, row) in answer.rows.iter().enumerate().filter(|(_, row)| !row.does.is_empty()) {
        let mut words = row.does.clone();
        if let Some(difference) = answer.engines.iter().find(|difference| difference.row == at) {
            words.extend(difference.words.iter().cloned());
        }
        found.push((label(answer, row), words));
        if found.len() == 12 {
            break;
        }
    }
    found
}

/// What the figures mean.
fn legend(answer: &ComparisonAnswer) -> String {
    let show = shown(answer);
    let mut words: Vec<String> = Vec::new();
    for column in show.iter().filter(|column| column.kind != Kind::State) {
        words.push(format!("{}: {}", column.head, column.words));
    }
    if show.iter().any(|column| column.kind == Kind::State) {
        words.push("shorter: it starts with a shorter context alone".to_owned());
    }
    if show.iter().any(|column| column.kind == Kind::State) && !answer.view.columns.is_empty() {
        words.push("no: weights and what else is fixed do not fit".to_owned());
    }
    if show.iter().any(column_is_timed) && answer.rows.iter().any(|row| row.times_unmeasured) {
        words.push(
            "≈: by the roofline alone, no kernel was measured on such a card: less sure than its interval says"
                .to_owned(),
        );
    }
    let of = if answer.view.columns.is_empty() { "its column" } else { "its line" };
    format!("* best of {of}. {}.", words.join("; "))
}
