//! Which way of batching and caching serves the workload best, as text? One row a combination, the best of each column
//! marked.

use plimsoll_api::SimulateCompareAnswer;
use plimsoll_api::simulate::answer::SimulateRow;

use crate::csv;
use crate::number::count;
use crate::page::{Style, clean, columns, markdown_row, markdown_rule, width, wrap};
use crate::plan::{model_words, place_words};
use crate::simulate::{list, percent, three};

/// Which end of a column is good.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Best {
    Most,
    Least,
    Neither,
}

/// Takes a figure from a row.
type Figure = fn(&SimulateRow) -> Option<f64>;

/// A column of figures.
struct Column {
    head: &'static str,
    best: Best,
    of: Figure,
    show: fn(f64) -> String,
}

const fn column(head: &'static str, best: Best, of: Figure, show: fn(f64) -> String) -> Column {
    Column { head, best, of, show }
}

fn whole(value: f64) -> String {
    count(value as u64)
}

fn times(value: f64) -> String {
    format!("{}×", three(value))
}

/// Columns that a narrow page does without, the first to go first; the other forms have them.
const SPARED: [&str; 4] = ["lost", "hits", "req/s", "speed"];

/// The figures of a terminal's table; those that no row has, or all have as zero, are left out.
const FIGURES: [Column; 9] = [
    column("req/s", Best::Most, |row| row.requests_per_s, three),
    column("tok/s", Best::Most, |row| row.output_tokens_per_s, three),
    column("speed", Best::Neither, |row| row.speedup, times),
    column("met", Best::Most, |row| row.goodput_share, percent),
    column("TTFT", Best::Least, |row| row.ttft_p99_ms, three),
    column("TPOT", Best::Least, |row| row.tpot_p99_ms, three),
    column("empty", Best::Least, |row| row.kv_waste_share, percent),
    column("hits", Best::Neither, |row| row.hit_rate, percent),
    column("lost", Best::Neither, |row| Some(row.preemptions as f64), whole),
];

/// Shows simulations side by side.
pub fn simulate_compare_table(answer: &SimulateCompareAnswer, style: Style) -> String {
    let mut out = format!("{}\n", style.bold(&model_words(&answer.model)));
    out.push_str(&wrap("", &place(answer), style.width));
    out.push_str(&wrap("", &format!("{} (seed {})", answer.workload, answer.seed), style.width));
    out.push_str(&wrap("", &format!("step time: {}", answer.cost), style.width));
    out.push('\n');
    let (figures, lines) = fitting(answer, style.width);
    for (at, line) in lines.iter().enumerate() {
        out.push_str(&if at == 0 { style.bold(line) } else { line.clone() });
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&wrap("", &legend(&figures), style.width));
    let all = FIGURES.iter().filter(|column| tells(answer, column));
    let spared: Vec<&str> =
        all.map(|column| column.head).filter(|head| figures.iter().all(|column| column.head != *head)).collect();
    if !spared.is_empty() {
        let words = format!("Without {}: --format csv has every column.", spared.join(", "));
        out.push_str(&wrap("", &words, style.width));
    }
    out.push_str(&list("Assumptions", &answer.assumptions, style));
    out.push_str(&list("Notes", &answer.notes, style));
    out
}

/// The figures that fit the page beside the names, and the table's lines.
fn fitting(answer: &SimulateCompareAnswer, to: usize) -> (Vec<&'static Column>, Vec<String>) {
    let names = names(answer);
    let mut figures: Vec<&'static Column> = FIGURES.iter().filter(|column| tells(answer, column)).collect();
    for spared in SPARED.iter().map(Some).chain([None]) {
        let heads = names.iter().map(|(head, _)| *head).chain(figures.iter().map(|column| column.head));
        let mut rows: Vec<Vec<String>> = vec![heads.map(str::to_owned).collect()];
        for (at, row) in answer.rows.iter().enumerate() {
            let figures = figures.iter().map(|column| cell(answer, column, row));
            rows.push(names.iter().map(|(_, cells)| cells[at].clone()).chain(figures).collect());
        }
        let numeric: Vec<bool> = (0..rows[0].len()).map(|at| at >= names.len()).collect();
        let natural = columns(&rows, &numeric, usize::MAX);
        match spared {
            Some(spared) if natural.iter().any(|line| width(line) > to) => {
                figures.retain(|column| column.head != *spared);
            }
            Some(_) | None => return (figures, columns(&rows, &numeric, to)),
        }
    }
    (figures, Vec::new())
}

/// The cards, and the engine where it is the same in all rows.
fn place(answer: &SimulateCompareAnswer) -> String {
    let engine = |row: &SimulateRow| format!("{} {}", row.engine.name, row.engine.version);
    let mut engines: Vec<String> = answer.rows.iter().map(engine).collect();
    engines.dedup();
    place_words(&engines.join(", "), &answer.gpu, answer.parallel)
}

/// The columns that say which row is which: those in which rows differ, and batching always.
fn names(answer: &SimulateCompareAnswer) -> Vec<(&'static str, Vec<String>)> {
    let each = |of: fn(&SimulateRow) -> String| answer.rows.iter().map(of).collect::<Vec<_>>();
    let all = [
        ("engine", each(|row| clean(&format!("{} {}", row.engine.name, row.engine.version)))),
        ("batching", each(|row| clean(&row.batching) + if row.partial { " (partial)" } else { "" })),
        ("KV cache", each(|row| clean(&row.kv))),
        ("prefix", each(|row| if row.prefix_caching { "shared" } else { "no" }.to_owned())),
    ];
    let differs = |cells: &[String]| cells.windows(2).any(|pair| pair[0] != pair[1]);
    all.into_iter().filter(|(head, cells)| *head == "batching" || differs(cells)).collect()
}

/// Whether a column has anything to say.
fn tells(answer: &SimulateCompareAnswer, column: &Column) -> bool {
    answer.rows.iter().filter_map(column.of).any(|value| value > 0.0)
}

/// A cell; the best of its column has a star.
fn cell(answer: &SimulateCompareAnswer, column: &Column, row: &SimulateRow) -> String {
    let values = || answer.rows.iter().filter_map(column.of);
    let best = match column.best {
        Best::Most => values().reduce(f64::max),
        Best::Least => values().reduce(f64::min),
        Best::Neither => None,
    };
    let differ = values().any(|value| Some(value) != best);
    let Some(value) = (column.of)(row) else { return "— ".to_owned() };
    let star = if differ && Some(value) == best { "*" } else { " " };
    let star = if column.best == Best::Neither { "" } else { star };
    format!("{}{star}", (column.show)(value))
}

/// What the columns mean.
fn legend(figures: &[&Column]) -> String {
    let meaning = |column: &&Column| {
        Some(match column.head {
            "req/s" => "req/s: requests finished a second",
            "tok/s" => "tok/s: output tokens a second",
            "speed" => "speed: tok/s over the slowest row's",
            "met" => "met: share of requests within the objectives",
            "TTFT" => "TTFT: time to first token, 99th percentile in ms",
            "TPOT" => "TPOT: time per output token, 99th percentile in ms",
            "empty" => "empty: share of the taken cache that held no token",
            "hits" => "hits: prompt tokens found in the prefix cache",
            "lost" => "lost: times that a request lost its blocks",
            _ => return None,
        })
    };
    let meanings: Vec<&str> = figures.iter().filter_map(meaning).collect();
    format!("* best of its column. {}", meanings.join("; "))
}

/// Every figure of a row by its promised name.
const ALL: [(&str, Figure); 22] = [
    ("finished", |row| Some(row.finished as f64)),
    ("refused", |row| Some(row.refused as f64)),
    ("requests_per_s", |row| row.requests_per_s),
    ("output_tokens_per_s", |row| row.output_tokens_per_s),
    ("total_tokens_per_s", |row| row.total_tokens_per_s),
    ("speedup", |row| row.speedup),
    ("goodput_requests_per_s", |row| row.goodput_requests_per_s),
    ("goodput_share", |row| row.goodput_share),
    ("ttft_p50_ms", |row| row.ttft_p50_ms),
    ("ttft_p99_ms", |row| row.ttft_p99_ms),
    ("tpot_p50_ms", |row| row.tpot_p50_ms),
    ("tpot_p99_ms", |row| row.tpot_p99_ms),
    ("e2e_p50_ms", |row| row.e2e_p50_ms),
    ("e2e_p99_ms", |row| row.e2e_p99_ms),
    ("batch_mean", |row| row.batch_mean),
    ("kv_used_mean", |row| Some(row.kv_used_mean)),
    ("kv_waste_share", |row| row.kv_waste_share),
    ("hit_rate", |row| row.hit_rate),
    ("preemptions", |row| Some(row.preemptions as f64)),
    ("recomputed_tokens", |row| Some(row.recomputed_tokens as f64)),
    ("idle_share", |row| row.idle_share),
    ("partial", |row| Some(f64::from(u8::from(row.partial)))),
];

/// Writes simulations side by side as comma-separated values, one a line, in full; what does not exist is empty.
pub fn simulate_compare_csv(answer: &SimulateCompareAnswer) -> String {
    let names = ["engine", "engine_version", "batching", "kv", "prefix_caching"];
    let heads: Vec<&str> = names.into_iter().chain(ALL.iter().map(|(name, _)| *name)).collect();
    let mut out = csv::line(&heads);
    for row in &answer.rows {
        let names = [
            row.engine.name.to_string(),
            row.engine.version.clone(),
            row.batching.clone(),
            row.kv.clone(),
            row.prefix_caching.to_string(),
        ];
        let figures = ALL.iter().map(|(_, of)| of(row).map(|value| value.to_string()).unwrap_or_default());
        out.push_str(&csv::line(&names.into_iter().chain(figures).collect::<Vec<_>>()));
    }
    out
}

/// Writes simulations side by side as Markdown.
pub fn simulate_compare_markdown(answer: &SimulateCompareAnswer) -> String {
    let mut out = format!(
        "### {}\n\n{}\n\n{} (seed {})\n\nstep time: {}\n\n",
        model_words(&answer.model),
        clean(&place(answer)),
        clean(&answer.workload),
        answer.seed,
        clean(&answer.cost)
    );
    let names = names(answer);
    let figures: Vec<&Column> = FIGURES.iter().filter(|column| tells(answer, column)).collect();
    let heads: Vec<&str> =
        names.iter().map(|(head, _)| *head).chain(figures.iter().map(|column| column.head)).collect();
    out.push_str(&markdown_row(&heads));
    out.push_str(&markdown_rule(&(0..heads.len()).map(|at| at >= names.len()).collect::<Vec<_>>()));
    for (at, row) in answer.rows.iter().enumerate() {
        let figures = figures.iter().map(|column| cell(answer, column, row).trim_end().replace('*', "\\*"));
        let cells: Vec<String> = names.iter().map(|(_, cells)| cells[at].clone()).chain(figures).collect();
        out.push_str(&markdown_row(&cells));
    }
    out.push_str(&format!("\n{}\n", legend(&figures).replacen('*', "\\*", 1)));
    for (title, items) in [("Assumptions", &answer.assumptions), ("Notes", &answer.notes)] {
        if !items.is_empty() {
            let items: String = items.iter().map(|item| format!("- {}\n", clean(item))).collect();
            out.push_str(&format!("\n{title}:\n\n{items}"));
        }
    }
    out
}
