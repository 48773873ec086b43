//! How does memory grow, as text? Totals over one knob or two, the parts of one column, how far each column goes.

use plimsoll_api::GrowAnswer;
use plimsoll_api::grow::answer::{CardReachAnswer, NeedAnswer, PointAnswer, ReachAnswer, SettingAnswer};

use crate::number::{count, percent as part_of, size, three};
use crate::page::{Style, clean, columns, cut, wrap};
use crate::plan::{model_words, place_words_of};
use crate::simulate::list;
use crate::textbook::textbook_led;

/// Rows and columns of a table on a terminal at most; the other forms have all.
const MOST: (usize, usize) = (24, 7);

/// Shows growth.
pub fn grow_table(answer: &GrowAnswer, style: Style) -> String {
    let head = wrap("", &model_words(&answer.model), style.width);
    let mut out = format!("{}\n{}", style.bold(head.trim_end()), wrap("", &place(answer), style.width));
    out.push_str(&list("Findings", &answer.findings, style));
    for table in tables(answer, Some(MOST)) {
        let rows: Vec<Vec<String>> = std::iter::once(table.heads).chain(table.rows).collect();
        let lines = columns(&rows, &table.numeric, style.width - 2);
        out.push_str(&format!("\n{}\n", style.bold(&cut(&clean(&table.title), style.width))));
        for (at, line) in lines.iter().enumerate() {
            out.push_str(&format!("  {}\n", if at == 0 { style.faint(line) } else { line.clone() }));
        }
        if !table.key.is_empty() {
            out.push_str(&wrap("  ", &table.key, style.width));
        }
    }
    if let Some(textbook) = &answer.textbook {
        let card = answer.points.iter().any(|point| point.need.as_ref().is_some_and(|need| need.card_bytes.is_some()));
        let missing = if card { "an engine" } else { "an engine and a card" };
        let lead = format!("A closed form, not a plan: for one, give {missing}.");
        out.push_str(&format!("\n{}", textbook_led(textbook, &lead, style)));
    }
    out.push_str(&list("Assumptions", &answer.assumptions, style));
    out.push_str(&list("Notes", &answer.notes, style));
    out
}

/// The engine on its cards, and what has one value.
pub(crate) fn place(answer: &GrowAnswer) -> String {
    let place = match &answer.launch {
        Some(launch) => {
            let engine = format!("{} {}", launch.engine.name, launch.engine.version);
            place_words_of(&engine, &launch.gpu, &cards_words(answer, launch.gpu.count), launch.parallel)
        }
        None => {
            let card = answer.points.iter().find_map(|point| point.need.as_ref()?.card_bytes);
            card.map_or_else(|| "no engine, no card".to_owned(), |card| format!("no engine, a card of {}", size(card)))
        }
    };
    // The division is said with the cards.
    let said = |at: &&SettingAnswer| {
        let ranks = answer.launch.as_ref().map(|launch| match at.knob.as_str() {
            "tp" => launch.parallel.tp,
            "pp" => launch.parallel.pp,
            _ => 1,
        });
        ranks.is_some_and(|ranks| ranks > 1 && at.value == ranks.to_string())
    };
    let fixed = answer.fixed.iter().filter(|at| !said(at));
    let fixed: Vec<String> = fixed.map(|at| format!("{} {}", at.knob, number(&at.value))).collect();
    if fixed.is_empty() { place } else { format!("{place}; {}", fixed.join(", ")) }
}

/// How many cards the points are on, where no point says otherwise `usual`: `4`, `1 to 8`.
fn cards_words(answer: &GrowAnswer, usual: u32) -> String {
    let counts = || answer.points.iter().filter_map(|point| Some(point.need.as_ref()?.gpus));
    let (least, most) = (counts().min().unwrap_or(usual), counts().max().unwrap_or(usual));
    if least == most { most.to_string() } else { format!("{least} to {most}") }
}

/// A table in any form.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) heads: Vec<String>,
    pub(crate) numeric: Vec<bool>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What its marks mean; may be empty.
    pub(crate) key: String,
}

/// Every table of an answer; `most` rows and columns of a grid, where there is a bound.
pub(crate) fn tables(answer: &GrowAnswer, most: Option<(usize, usize)>) -> Vec<Table> {
    let mut all = Vec::new();
    if answer.axes.len() > 1 {
        all.push(totals(answer, most));
    }
    all.extend(parts(answer, most));
    all.extend(reaches(answer, most));
    all.extend(largest(answer, most));
    all.extend(cards(answer));
    all
}

/// A value as it is written: numbers with their digits in groups.
pub(crate) fn number(value: &str) -> String {
    value.parse::<u64>().map_or_else(|_| clean(value), count)
}

/// Places in a list, evenly spread with both ends, at most so many.
fn spread(len: usize, most: usize) -> Vec<usize> {
    if len <= most {
        return (0..len).collect();
    }
    (0..most).map(|at| at * (len - 1) / (most - 1).max(1)).collect()
}

/// The points of one column.
pub(crate) fn column(answer: &GrowAnswer, at: usize) -> &[PointAnswer] {
    let len = answer.axes.first().map_or(0, |axis| axis.values.len());
    answer.points.get(at * len..(at + 1) * len).unwrap_or_default()
}

/// How many columns there are.
pub(crate) fn column_count(answer: &GrowAnswer) -> usize {
    answer.axes.get(1).map_or(1, |axis| axis.values.len())
}

/// The name of a column: `batch 16`, nothing where one knob is varied.
pub(crate) fn column_name(answer: &GrowAnswer, at: usize) -> String {
    let named = answer.axes.get(1).and_then(|axis| Some(format!("{} {}", axis.knob, number(axis.values.get(at)?))));
    named.unwrap_or_default()
}

/// The column whose parts are shown: the last that does not dwarf the limit, so that both can be seen.
pub(crate) fn telling_column(answer: &GrowAnswer) -> usize {
    let seen = |at: &usize| {
        let last = column(answer, *at).iter().rev().find_map(|point| point.need.as_ref());
        last.is_some_and(|need| need.limit_bytes.is_none_or(|limit| need.total.bytes <= limit.saturating_mul(4)))
    };
    (0..column_count(answer)).rev().find(seen).unwrap_or(0)
}

fn gib(bytes: u64) -> String {
    three(bytes as f64 / 1_073_741_824.0)
}

/// A total with what becomes of it.
fn marked(point: &PointAnswer) -> String {
    match &point.need {
        None => "—".to_owned(),
        Some(need) => match need.state.as_deref() {
            Some("does_not_fit") => format!("({})", gib(need.total.bytes)),
            Some("borderline") => format!("~{}", gib(need.total.bytes)),
            _ => gib(need.total.bytes),
        },
    }
}

const KEY: &str = "( ) does not fit, ~ the interval straddles the limit, — the engine or the model refuses it";

/// Totals over two knobs.
fn totals(answer: &GrowAnswer, most: Option<(usize, usize)>) -> Table {
    let (x, y) = (&answer.axes[0], &answer.axes[1]);
    let (rows, columns) = most.unwrap_or((usize::MAX, usize::MAX));
    let (down, across) = (spread(x.values.len(), rows), spread(y.values.len(), columns));
    let limit = limit_words(answer);
    let row = |at: usize| {
        let cells = across.iter().map(|col| column(answer, *col).get(at).map_or(String::new(), marked));
        std::iter::once(number(&x.values[at])).chain(cells).collect()
    };
    let left_out = if down.len() < x.values.len() || across.len() < y.values.len() {
        format!("; {ELSEWHERE}")
    } else {
        String::new()
    };
    Table {
        title: format!("Memory in GiB by {} × {}{limit}", x.knob, y.knob),
        heads: std::iter::once(x.knob.clone()).chain(across.iter().map(|at| number(&y.values[*at]))).collect(),
        numeric: vec![true; across.len() + 1],
        rows: down.into_iter().map(row).collect(),
        key: format!("{KEY}{left_out}"),
    }
}

/// What all may come to.
fn limit_words(answer: &GrowAnswer) -> String {
    let mut limits = answer.points.iter().filter_map(|point| point.need.as_ref()?.limit_bytes);
    let Some(first) = limits.next() else { return String::new() };
    let (least, most) = limits.fold((first, first), |(least, most), limit| (least.min(limit), most.max(limit)));
    if least == most {
        format!(", of {} at most", gib(most))
    } else {
        format!(", of {} to {} at most", gib(least), gib(most))
    }
}

/// The parts of the telling column.
fn parts(answer: &GrowAnswer, most: Option<(usize, usize)>) -> Option<Table> {
    let x = answer.axes.first()?;
    let at = telling_column(answer);
    let points = column(answer, at);
    let shown = spread(points.len(), most.map_or(usize::MAX, |(rows, _)| rows));
    let omitted = left_out(shown.len(), points.len());
    let rows = shown.into_iter().map(|row| {
        let point = &points[row];
        let value = number(&x.values[row]);
        match &point.need {
            Some(need) => std::iter::once(value).chain(part_cells(need)).collect(),
            None => vec![value, point.refused.clone().unwrap_or_default()],
        }
    });
    let rows: Vec<Vec<String>> = rows.collect();
    // A refusal would stretch the columns of numbers.
    let refused = rows.iter().filter(|row| row.len() == 2).count();
    let shown: Vec<Vec<String>> =
        rows.into_iter().map(|row| if row.len() == 2 { vec![row[0].clone(), "—".to_owned()] } else { row }).collect();
    let reason = points.iter().find_map(|point| point.refused.clone()).filter(|_| refused > 0);
    let name = column_name(answer, at);
    let heads = ["weights", "activ.", "runtime", "KV", "total", "KV %", "per token", "fits"];
    Some(Table {
        title: format!("Parts in GiB{}", if name.is_empty() { String::new() } else { format!(" at {name}") }),
        heads: std::iter::once(x.knob.as_str()).chain(heads).map(str::to_owned).collect(),
        numeric: std::iter::once(x.values.iter().all(|value| value.parse::<u64>().is_ok()))
            .chain([true; 7])
            .chain([false])
            .collect(),
        rows: shown,
        key: joined(reason.map(|reason| format!("— refused: {reason}")).unwrap_or_default(), omitted),
    })
}

/// The cells of a point's parts.
fn part_cells(need: &NeedAnswer) -> Vec<String> {
    let fits = match need.state.as_deref() {
        Some("fits") => "yes".to_owned(),
        Some("borderline") => "borderline".to_owned(),
        Some(_) => format!("no: {}", need.binding.as_deref().unwrap_or("kv")),
        None => String::new(),
    };
    vec![
        gib(need.weights_bytes),
        gib(need.activations.bytes),
        gib(need.runtime.bytes),
        gib(need.kv_bytes),
        gib(need.total.bytes),
        part_of(need.kv_bytes, need.total.bytes),
        size(need.kv_bytes_per_token.round() as u64),
        fits,
    ]
}

/// What an engine says where it refuses: too long for a cell.
fn said(reach: &ReachAnswer) -> Option<&str> {
    (reach.refused.is_some() || reach.bound.chars().count() > 24).then_some(reach.bound.as_str())
}

/// What the engine says of those that it refuses, each reason once.
fn refusals<'a>(reaches: impl Iterator<Item = &'a ReachAnswer>) -> String {
    let mut found: Vec<&str> = Vec::new();
    for reason in reaches.filter_map(said) {
        if !found.contains(&reason) {
            found.push(reason);
        }
    }
    if found.is_empty() { String::new() } else { format!("refused: {}", found.join("; ")) }
}

/// The cells of a reach: the most, its interval, what bounds it.
fn reach_cells(reach: &ReachAnswer) -> Vec<String> {
    let interval = match (reach.low, reach.high) {
        (Some(low), Some(high)) if low < high => format!("{} … {}", count(low), count(high)),
        _ => String::new(),
    };
    let bound = match reach.bound.as_str() {
        "model" => "the model's own limit".to_owned(),
        "kv" => "the card is full".to_owned(),
        _ if said(reach).is_some() => "refused".to_owned(),
        other => clean(other),
    };
    vec![reach.most.map_or_else(|| "—".to_owned(), count), interval, bound]
}

/// How far each column goes.
fn reaches(answer: &GrowAnswer, most: Option<(usize, usize)>) -> Option<Table> {
    let first = answer.lines.first()?;
    let along = first.along.clone();
    let shown = spread(answer.lines.len(), most.map_or(usize::MAX, |(rows, _)| rows));
    let rows = shown.iter().map(|at| {
        let line = &answer.lines[*at];
        let none = if line.reach.refused.is_some() { "—" } else { "never" };
        let crossing = line.kv_outgrows_weights_at.map_or_else(|| none.to_owned(), count);
        own(&line.reach).chain([crossing]).chain(reach_cells(&line.reach)).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let heads = ["KV > weights at", if along == "context" { "longest" } else { "largest" }, "interval", "then"];
    let own = first.reach.at.iter().map(|at| at.knob.clone());
    Some(Table {
        title: reach_title(answer, &along, &first.reach),
        numeric: numeric(&first.reach).chain([true, true, true, false]).collect(),
        heads: own.chain(heads.map(str::to_owned)).collect(),
        rows,
        key: joined(refusals(answer.lines.iter().map(|line| &line.reach)), left_out(shown.len(), answer.lines.len())),
    })
}

/// The values of what a row is, a cell for each knob.
fn own(reach: &ReachAnswer) -> impl Iterator<Item = String> {
    reach.at.iter().map(|at| number(&at.value))
}

/// Which of their columns hold numbers.
fn numeric(reach: &ReachAnswer) -> impl Iterator<Item = bool> {
    reach.at.iter().map(|at| at.value.parse::<u64>().is_ok())
}

/// What is sought, by what, and with what it stays where no axis says: `Longest context by tp at batch 4`.
fn reach_title(answer: &GrowAnswer, along: &str, first: &ReachAnswer) -> String {
    let what = if along == "context" { "Longest context" } else { "Largest batch" };
    let by: Vec<&str> = first.at.iter().map(|at| at.knob.as_str()).collect();
    let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(" × ")) };
    let varied = |knob: &str| answer.axes.iter().any(|axis| axis.knob == knob);
    if varied("context") || varied("batch") {
        return format!("{what}{by}");
    }
    let (other, unit) = if along == "context" { ("batch", "") } else { ("context", " tokens") };
    let fixed = answer.fixed.iter().find(|at| at.knob == other).map(|at| number(&at.value));
    let at =
        fixed.map(|fixed| if unit.is_empty() { format!(" at batch {fixed}") } else { format!(" at {fixed}{unit}") });
    format!("{what}{by}{}", at.unwrap_or_default())
}

/// Says that rows are left out.
fn left_out(shown: usize, all: usize) -> String {
    if shown < all { format!("{shown} of {all} rows; {ELSEWHERE}") } else { String::new() }
}

const ELSEWHERE: &str = "every value is in the other forms: --format csv, --json";

/// Two sentences of a key, either of which may be none.
fn joined(one: String, two: String) -> String {
    [one, two].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The values of settings.
fn values(at: &[SettingAnswer]) -> String {
    at.iter().map(|at| number(&at.value)).collect::<Vec<_>>().join(", ")
}

/// The largest batch of each context.
fn largest(answer: &GrowAnswer, most: Option<(usize, usize)>) -> Option<Table> {
    if answer.largest_batches.iter().all(|reach| reach.most.is_none()) {
        return None;
    }
    let all = &answer.largest_batches;
    let first = all.first()?;
    let shown = spread(all.len(), most.map_or(usize::MAX, |(rows, _)| rows));
    let rows = shown.iter().map(|at| own(&all[*at]).chain(reach_cells(&all[*at])).collect());
    let heads = first.at.iter().map(|at| at.knob.as_str());
    Some(Table {
        title: reach_title(answer, "batch", first),
        heads: heads.chain(["largest", "interval", "then"]).map(str::to_owned).collect(),
        numeric: numeric(first).chain([true, true, false]).collect(),
        rows: rows.collect(),
        key: joined(refusals(all.iter()), left_out(shown.len(), all.len())),
    })
}

/// The longest context on other cards.
fn cards(answer: &GrowAnswer) -> Option<Table> {
    let widest = answer.gpus.iter().max_by_key(|row| row.reaches.len())?;
    let heads = widest.reaches.iter().map(|reach| format!("batch {}", values(&reach.at)));
    let heads: Vec<String> = ["card".to_owned(), "memory".to_owned()].into_iter().chain(heads).collect();
    let row = |row: &CardReachAnswer| {
        let memory = row.card_bytes.map_or_else(|| "—".to_owned(), size);
        let cells = row.reaches.iter().map(|reach| match reach.most {
            None => "—".to_owned(),
            Some(0) => "none".to_owned(),
            Some(most) => count(most),
        });
        [clean(&row.gpu), memory].into_iter().chain(cells).collect()
    };
    Some(Table {
        title: "Longest context by card".to_owned(),
        numeric: (0..heads.len()).map(|at| at > 0).collect(),
        heads,
        rows: answer.gpus.iter().map(row).collect(),
        key: card_refusals(answer),
    })
}

/// Why cards have no longest context: each reason once, behind what it is said of.
fn card_refusals(answer: &GrowAnswer) -> String {
    let mut found: Vec<(&str, Vec<String>)> = Vec::new();
    let mut say = |reason, of: String| match found.iter_mut().find(|(other, _)| *other == reason) {
        Some((_, all)) => {
            if !all.contains(&of) {
                all.push(of);
            }
        }
        None => found.push((reason, vec![of])),
    };
    for row in &answer.gpus {
        match &row.refused {
            Some(reason) => say(reason.as_str(), clean(&row.gpu)),
            None => {
                for reach in &row.reaches {
                    if let Some(reason) = &reach.refused {
                        say(reason.as_str(), format!("batch {}", values(&reach.at)));
                    }
                }
            }
        }
    }
    found.iter().map(|(reason, of)| format!("{}: {reason}", of.join(", "))).collect::<Vec<_>>().join("; ")
}
