//! Where does the memory go? One bar for each rank's ledger, equal ranks in one.

use plimsoll_api::answer::{EntryAnswer, RankAnswer};
use plimsoll_api::{PlanAnswer, Section};

use super::caption;
use crate::figure::{Axis, Bar, Bars, Body, Figure, Limit, Part, Series, Tone, Unit};
use crate::number::{signed, size};
use crate::page::clean;
use crate::plan::place_line;

/// Bars at most, the host's not counted.
const MOST: usize = 24;

/// What a part of a bar is, in the order in which they stand.
const PARTS: [(&str, Tone); 7] = [
    ("weights", Tone::Weights),
    ("activations", Tone::Activations),
    ("runtime", Tone::Runtime),
    ("graphs", Tone::Graphs),
    ("KV cache", Tone::Kv),
    ("left alone", Tone::Faint),
    ("missing", Tone::Bad),
];

/// Place of what is missing in [`PARTS`].
const MISSING: usize = 6;
/// Place of what the engine leaves alone in [`PARTS`].
const ALONE: usize = 5;

/// Returns the figures of a plan.
pub(crate) fn plan(answer: &PlanAnswer) -> Vec<Figure> {
    memory(answer).into_iter().collect()
}

/// Ranks with the same bar.
struct Alike<'a> {
    ranks: Vec<&'a RankAnswer>,
    parts: Vec<Part>,
    scarcest: bool,
}

fn memory(answer: &PlanAnswer) -> Option<Figure> {
    let mut rows: Vec<Alike<'_>> = Vec::new();
    for (at, rank) in answer.ranks.iter().enumerate() {
        let parts = parts(&rank.entries);
        let alike = |row: &&mut Alike<'_>| row.parts == parts && row.ranks[0].card_bytes == rank.card_bytes;
        let named = rank.device.is_some();
        match rows.last_mut().filter(alike).filter(|_| !named) {
            Some(row) => {
                row.ranks.push(rank);
                row.scarcest |= at == answer.scarcest;
            }
            None => rows.push(Alike { ranks: vec![rank], parts, scarcest: at == answer.scarcest }),
        }
    }
    let left_out = thin(&mut rows);
    let mut bars: Vec<Bar> = rows.iter().map(|row| bar(answer, row)).collect();
    if let Some(host) = answer.host.as_ref().filter(|host| host.total_bytes > 0) {
        bars.push(Bar { name: "host memory".to_owned(), parts: parts(&host.entries), note: None, limit: None });
    }
    if bars.iter().all(|bar| bar.parts.is_empty()) {
        return None;
    }
    let mut how = "Each bar is a rank's memory, part by part, as estimated".to_owned();
    if rows.iter().any(|row| row.ranks.len() > 1) {
        how.push_str("; ranks that hold the same are one bar");
    }
    how.push('.');
    if left_out > 0 {
        how.push_str(&format!(" {left_out} bars are left out; the scarcest is here."));
    }
    if answer.verdict.short_by_bytes.is_some_and(|short| short > 0) {
        how.push_str(" What goes past the line is not there.");
    }
    Some(used(Figure {
        name: "memory".to_owned(),
        title: "Does it fit, and where does the memory go?".to_owned(),
        subtitle: format!("{} · {}", clean(&answer.model.id), place_line(answer)),
        caption: caption(&how, &answer.assumptions),
        body: Body::Bars(Bars {
            axis: Axis::of("memory", Unit::Bytes),
            series: PARTS.iter().map(|(name, tone)| Series::new(*name, *tone)).collect(),
            limits: limits(answer),
            rows: bars,
        }),
    }))
}

/// Leaves out bars beyond the most that are drawn, never the scarcest; returns how many went.
fn thin(rows: &mut Vec<Alike<'_>>) -> usize {
    let left_out = rows.len().saturating_sub(MOST);
    let mut place = rows.len();
    while rows.len() > MOST && place > 0 {
        place -= 1;
        if !rows[place].scarcest {
            rows.remove(place);
        }
    }
    left_out
}

/// The entries of a ledger as parts of a bar.
fn parts(entries: &[EntryAnswer]) -> Vec<Part> {
    let mut sums = [0u64; PARTS.len()];
    for entry in entries {
        let at = match entry.section() {
            Some(Section::Weights) => 0,
            Some(Section::Activations) => 1,
            Some(Section::Runtime) | None => 2,
            Some(Section::Graphs) => 3,
            Some(Section::Kv) => 4,
            Some(Section::Reserve) => ALONE,
        };
        sums[at] = sums[at].saturating_add(entry.bytes);
    }
    sums.iter().enumerate().filter(|(_, sum)| **sum > 0).map(|(at, sum)| Part::new(at, *sum as f64)).collect()
}

/// A bar of ranks that are alike.
fn bar(answer: &PlanAnswer, row: &Alike<'_>) -> Bar {
    let rank = row.ranks[0];
    let mut parts = row.parts.clone();
    let mut note = format!("{} of {}", size(rank.total_bytes), size(rank.card_bytes));
    let short = answer.verdict.short_by_bytes.filter(|short| *short > 0 && row.scarcest);
    if let Some(short) = short {
        // What it lacks besides what already stands in the ledger: room for one request's cache.
        let alone: f64 = parts.iter().filter(|part| part.series == ALONE).map(|part| part.value).sum();
        let missing = rank.limit_bytes as f64 + short as f64 - (rank.total_bytes as f64 - alone);
        if missing > 0.0 {
            parts.push(Part::new(MISSING, missing));
        }
        note = format!("short by {}", size(short));
    } else if answer.ranks.iter().any(|rank| rank.device.is_some()) {
        let free = i128::from(rank.card_bytes) - i128::from(rank.total_bytes);
        note = format!("{} free", signed(i64::try_from(free).unwrap_or(i64::MAX)));
    }
    // Where cards differ no line runs across all bars.
    let own = answer.ranks.iter().any(|other| other.card_bytes != rank.card_bytes);
    let limit = own.then(|| Limit::new("end of the card", rank.card_bytes as f64));
    Bar { name: name(answer, row), parts, note: Some(note), limit }
}

/// The name of ranks that are alike: `ranks 0–7`, `stages 1–6`, `stage 0, ranks 0–3`, `CUDA0 (GeForce RTX 4090)`.
fn name(answer: &PlanAnswer, row: &Alike<'_>) -> String {
    let (first, last) = (row.ranks[0], row.ranks[row.ranks.len() - 1]);
    if let Some(device) = &first.device {
        let card = first.card.as_deref().map_or_else(String::new, |card| format!(" ({card})"));
        return clean(&format!("{device}{card}"));
    }
    let span = |word: &str, from: u32, to: u32| match from == to {
        true => format!("{word} {from}"),
        false => format!("{word}s {from}–{to}"),
    };
    let several = |of: fn(&RankAnswer) -> u32| answer.ranks.iter().any(|rank| of(rank) != of(first));
    match (several(|rank| rank.pp_rank), several(|rank| rank.tp_rank)) {
        (false, false) => "the card".to_owned(),
        (false, true) => span("rank", first.tp_rank, last.tp_rank),
        (true, false) => span("stage", first.pp_rank, last.pp_rank),
        (true, true) if first.pp_rank == last.pp_rank => {
            format!("stage {}, {}", first.pp_rank, span("rank", first.tp_rank, last.tp_rank))
        }
        (true, true) if first.tp_rank == 0 => span("stage", first.pp_rank, last.pp_rank),
        (true, true) => {
            let place = |rank: &RankAnswer| format!("stage {} rank {}", rank.pp_rank, rank.tp_rank);
            format!("{} to {}", place(first), place(last))
        }
    }
}

/// The card's end and the engine's own limit; none where cards differ.
fn limits(answer: &PlanAnswer) -> Vec<Limit> {
    let Some(first) = answer.ranks.get(answer.scarcest).or(answer.ranks.first()) else { return Vec::new() };
    let same = |of: fn(&RankAnswer) -> u64| answer.ranks.iter().all(|rank| of(rank) == of(first));
    let mut limits = Vec::new();
    let (card, limit) = (first.card_bytes, first.limit_bytes);
    if same(|rank| rank.limit_bytes) && limit > 0 && (limit as f64) < card as f64 * 0.995 {
        limits.push(Limit::new("engine's limit", limit as f64));
    }
    if same(|rank| rank.card_bytes) {
        limits.push(Limit::new("card", card as f64));
    }
    limits
}

/// Leaves out the kinds of parts that no bar has.
fn used(mut figure: Figure) -> Figure {
    if let Body::Bars(bars) = &mut figure.body {
        let used: Vec<usize> = (0..bars.series.len())
            .filter(|at| bars.rows.iter().any(|row| row.parts.iter().any(|part| part.series == *at)))
            .collect();
        bars.series = used.iter().map(|at| bars.series[*at].clone()).collect();
        for part in bars.rows.iter_mut().flat_map(|row| row.parts.iter_mut()) {
            part.series = used.iter().position(|at| *at == part.series).unwrap_or(0);
        }
    }
    figure
}
