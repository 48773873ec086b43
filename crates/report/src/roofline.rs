//! How fast can it go, as text? The card, what was found, times by batch and context, where they go, the operators.

use plimsoll_api::RooflineAnswer;
use plimsoll_api::roofline::answer::{
    CardAnswer, CrossoverAnswer, OperatorAnswer, OperatorsAnswer, PointAnswer, ShareAnswer,
};

use crate::number::{count, three};
use crate::page::{Style, clean, columns, cut, left, right, width, wrap};
use crate::plan::{model_words, place_words};
use crate::roofline_what_if::{Table, tables};
use crate::simulate::{list, percent, three as rounded};

/// Columns of what stands before a figure of the card.
const LABEL: usize = 14;

/// Shows a roofline.
pub fn roofline_table(answer: &RooflineAnswer, style: Style) -> String {
    let mut out = format!("{}\n", style.bold(&model_words(&answer.model)));
    out.push_str(&wrap("", &place(answer), style.width));
    out.push('\n');
    out.push_str(&card(&answer.card, style));
    out.push_str(&list("Findings", &answer.findings, style));
    for phase in phases(answer) {
        out.push_str(&points(answer, phase, style));
    }
    for phase in phases(answer) {
        out.push_str(&parts(answer, phase, style));
    }
    let turns: Vec<String> = turns(answer).map(|turn| turn.words.clone()).collect();
    out.push_str(&list("Where the bound changes, at the roofs", &turns, style));
    out.push_str(&list("Memory hierarchy", &answer.hierarchy.words, style));
    for operators in &answer.operators {
        out.push_str(&table(operators, style));
    }
    for table in tables(answer) {
        let Table { title, heads, numeric, rows, key } = table;
        let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
        let lines = narrowed(rows, numeric, style.width - 2, &LEAST);
        out.push_str(&format!("\n{}\n{}", style.bold(&cut(&clean(&title), style.width)), indented(&lines, style)));
        out.push_str(&wrap("  ", key, style.width));
    }
    out.push_str(&list("Assumptions", &answer.assumptions, style));
    out.push_str(&list("Notes", &answer.notes, style));
    out
}

/// Where the bound changes; of several batches the first and the last.
fn turns(answer: &RooflineAnswer) -> impl Iterator<Item = &CrossoverAnswer> {
    let ends = move |turn: &&CrossoverAnswer| {
        let alike =
            || answer.crossovers.iter().filter(|other| (&other.what, &other.phase) == (&turn.what, &turn.phase));
        turn.along == "batch"
            || [alike().next(), alike().next_back()].into_iter().flatten().any(|end| end.at == turn.at)
    };
    answer.crossovers.iter().filter(ends)
}

/// The engine on its cards.
pub(crate) fn place(answer: &RooflineAnswer) -> String {
    place_words(&format!("{} {}", answer.engine.name, answer.engine.version), &answer.gpu, answer.parallel)
}

/// The phases that are answered, in order.
pub(crate) fn phases(answer: &RooflineAnswer) -> Vec<&'static str> {
    let asked = |phase: &&str| answer.points.iter().any(|point| point.phase == **phase);
    ["prefill", "decode"].into_iter().filter(asked).collect()
}

/// A number of units in the prefix that suits it: `989 TFLOP/s`, `28.7 kB`.
pub(crate) fn rate(value: f64, unit: &str) -> String {
    const STEPS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let found = STEPS.into_iter().find(|(step, _)| value >= step * 0.9995);
    let (value, prefix) = found.map_or((value, ""), |(step, prefix)| (value / step, prefix));
    format!("{} {prefix}{unit}", three(value)).trim_end().to_owned()
}

/// What one card can do at best.
fn card(card: &CardAnswer, style: Style) -> String {
    let head = format!("{}{}{}", left("One card", LABEL), right("at best", 16), right("FLOP/byte", 14));
    let mut out = style.bold(&head) + "\n";
    for peak in &card.peaks {
        let name = left(&format!("  {}", peak.arithmetic), LABEL);
        let (peak, ridge) = (rate(peak.flops_per_s, "FLOP/s"), three(peak.ridge_flops_per_byte));
        out.push_str(&format!("{name}{}{}\n", right(&peak, 16), right(&ridge, 14)));
    }
    let l2 = card.l2_bytes.map(|bytes| format!("level-2 cache {} MiB", three(bytes / 1_048_576.0)));
    let sms = card.sm_count.map(|count| format!("{count} multiprocessors"));
    let beside: Vec<String> = [l2, sms].into_iter().flatten().collect();
    let beside = if beside.is_empty() { String::new() } else { format!("  {}", beside.join(", ")) };
    let memory = right(&rate(card.bandwidth_bytes_per_s, "B/s"), 16);
    out.push_str(&format!("{}{memory}{beside}\n", left("  memory", LABEL)));
    for (name, road) in [(card.link.as_str(), card.link_bytes_per_s), ("network", card.network_bytes_per_s)] {
        if let Some(road) = road {
            let name = left(&format!("  {name}"), LABEL);
            let name = if name.ends_with(' ') { name } else { format!("{name} ") };
            out.push_str(&format!(
                "{name}{}  in each direction\n",
                right(&rate(road, "B/s"), 30 - name.chars().count())
            ));
        }
    }
    out
}

/// The head of a phase's table, and which of its columns are numbers.
pub(crate) fn heads(phase: &str, unit: &'static str) -> (Vec<&'static str>, Vec<bool>) {
    let heads = match phase {
        "prefill" => {
            vec!["batch", "context", "FLOP/B", "bound", "ideal", unit, "p10 … p90", "TTFT", "tokens/s"]
        }
        _ => vec!["batch", "context", "GB", "FLOP/B", "bound", "ideal", unit, "p10 … p90", "tokens/s"],
    };
    let numeric = heads.iter().map(|head| *head != "bound").collect();
    (heads, numeric)
}

/// Milliseconds from which a phase's times are told in seconds.
const LONG_MS: f64 = 9_995.0;

/// The unit of a phase's times, and how many milliseconds it has.
pub(crate) fn unit(answer: &RooflineAnswer, phase: &str) -> (&'static str, f64) {
    let of_phase = answer.points.iter().filter(|point| point.phase == phase);
    let longest = of_phase.map(|point| point.high_ms).fold(0.0, f64::max);
    if longest >= LONG_MS { ("s", 1e3) } else { ("ms", 1.0) }
}

/// A point's cells in those columns, times in a unit of so many milliseconds.
pub(crate) fn cells(point: &PointAnswer, scale: f64) -> Vec<String> {
    let time = |millis: f64| rounded(millis / scale);
    let spread = format!("{} … {}", time(point.low_ms), time(point.high_ms));
    let size = [count(u64::from(point.batch)), count(u64::from(point.context))];
    let roofs = [rounded(point.intensity_flops_per_byte), point.bound.to_string(), time(point.ideal_ms)];
    let times = [time(point.predicted_ms), spread];
    let rate = rounded(point.tokens_per_s);
    let bytes = rounded((point.read_bytes + point.written_bytes) / 1e9);
    match &point.ttft {
        Some(ttft) => size.into_iter().chain(roofs).chain(times).chain([time(ttft.mean_ms), rate]).collect(),
        None => size.into_iter().chain([bytes]).chain(roofs).chain(times).chain([rate]).collect(),
    }
}

/// A phase's times.
fn points(answer: &RooflineAnswer, phase: &str, style: Style) -> String {
    let (unit, scale) = unit(answer, phase);
    let (heads, numeric) = heads(phase, unit);
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect()];
    rows.extend(answer.points.iter().filter(|point| point.phase == phase).map(|point| cells(point, scale)));
    let title = match (phase, answer.step_tokens) {
        ("prefill", Some(most)) => {
            format!("Prefill: prompts that come at once, {} tokens a step at most; one card", count(most))
        }
        ("prefill", None) => "Prefill: prompts that come at once, in one step; one card".to_owned(),
        _ => "Decode: one step; one card".to_owned(),
    };
    format!("\n{}\n{}", style.bold(&title), indented(&narrowed(rows, numeric, style.width - 2, &LEAST), style))
}

/// Columns of points and what-ifs that matter least, in order.
const LEAST: [&str; 7] = ["p10 … p90", "ideal", "GB", "FLOP/B", "MB", "a layer", "step"];

/// Lays rows out, without the columns that matter least where the page is too narrow for all.
fn narrowed(mut rows: Vec<Vec<String>>, mut numeric: Vec<bool>, to: usize, least: &[&str]) -> Vec<String> {
    for least in least {
        let lines = columns(&rows, &numeric, usize::MAX);
        if lines.iter().all(|line| width(line) <= to) {
            return lines;
        }
        if let Some(at) = rows.first().and_then(|heads| heads.iter().position(|head| head == *least)) {
            rows.iter_mut().for_each(|row| drop(row.remove(at)));
            numeric.remove(at);
        }
    }
    columns(&rows, &numeric, to)
}

/// Lines set in, the first one standing back.
fn indented(lines: &[String], style: Style) -> String {
    let line = |(at, line): (usize, &String)| {
        if at == 0 { format!("  {}\n", style.faint(line)) } else { format!("  {line}\n") }
    };
    lines.iter().enumerate().map(line).collect()
}

/// The names of parts that some point has, in order.
pub(crate) fn names<'a>(
    answer: &'a RooflineAnswer,
    phase: &str,
    of: fn(&PointAnswer) -> &[ShareAnswer],
) -> Vec<&'a str> {
    let mut names: Vec<(usize, &str)> = Vec::new();
    for point in answer.points.iter().filter(|point| point.phase == phase) {
        for part in of(point) {
            if !names.iter().any(|(_, name)| *name == part.name) {
                names.push((ORDER.iter().position(|name| *name == part.name).unwrap_or(ORDER.len()), &part.name));
            }
        }
    }
    names.sort_unstable();
    names.into_iter().map(|(_, name)| name).collect()
}

/// Parts in the order in which they are shown.
const ORDER: [&str; 12] = [
    "gemm",
    "attention",
    "moe",
    "recurrent",
    "stream",
    "collective",
    "overhead",
    "pipeline",
    "measured",
    "extended",
    "transferred",
    "roofline",
];

/// The share of a part.
pub(crate) fn share(parts: &[ShareAnswer], name: &str) -> String {
    parts.iter().find(|part| part.name == name).map_or_else(|| "—".to_owned(), |part| percent(part.share))
}

/// Where a phase's time goes, and what it rests on.
fn parts(answer: &RooflineAnswer, phase: &str, style: Style) -> String {
    let (families, bases) = (names(answer, phase, |point| &point.families), names(answer, phase, |point| &point.bases));
    if families.is_empty() {
        return String::new();
    }
    let heads = ["batch", "context"].into_iter().chain(families.iter().copied());
    let mut rows: Vec<Vec<String>> = vec![heads.map(str::to_owned).collect()];
    let of_phase = || answer.points.iter().filter(|point| point.phase == phase);
    for point in of_phase() {
        let size = [count(u64::from(point.batch)), count(u64::from(point.context))];
        rows.push(size.into_iter().chain(families.iter().map(|name| share(&point.families, name))).collect());
    }
    let title = format!("Where the time of {phase} goes");
    let lines = gathered(rows, &families, of_phase().map(|point| point.families.as_slice()).collect(), style.width - 2);
    let mut out = format!("\n{}\n{}", style.bold(&cut(&clean(&title), style.width)), indented(&lines, style));
    let rests = bases.iter().map(|name| {
        let shares = || of_phase().map(|point| point.bases.iter().find(|part| part.name == **name));
        let shares = shares().map(|part| part.map_or(0.0, |part| part.share));
        let (least, most) =
            shares.fold((f64::MAX, 0.0_f64), |(least, most), share| (least.min(share), most.max(share)));
        let range = if percent(least) == percent(most) {
            percent(most)
        } else {
            format!("{} to {}", percent(least), percent(most))
        };
        format!("{name} {range}")
    });
    let rests: Vec<String> = rests.collect();
    if !rests.is_empty() {
        out.push_str(&wrap("  ", &format!("kernels' times rest on: {}", rests.join(", ")), style.width));
    }
    out
}

/// Lays shares out; where the page is too narrow for all families, those that take least stand together as `other`.
fn gathered(mut rows: Vec<Vec<String>>, families: &[&str], points: Vec<&[ShareAnswer]>, to: usize) -> Vec<String> {
    let of =
        |parts: &[ShareAnswer], name: &str| parts.iter().find(|part| part.name == name).map_or(0.0, |part| part.share);
    let mut kept: Vec<&str> = families.to_vec();
    loop {
        let lines = columns(&rows, &vec![true; rows[0].len()], usize::MAX);
        if kept.len() < 2 || lines.iter().all(|line| width(line) <= to) {
            return columns(&rows, &vec![true; rows[0].len()], to);
        }
        let most = |name: &str| points.iter().map(|parts| of(parts, name)).fold(0.0, f64::max);
        let Some(least) = (0..kept.len()).min_by(|a, b| most(kept[*a]).total_cmp(&most(kept[*b]))) else {
            return lines;
        };
        kept.remove(least);
        let heads = kept.iter().copied().chain(["other"]);
        rows[0].truncate(2);
        rows[0].extend(heads.map(str::to_owned));
        for (row, parts) in rows.iter_mut().skip(1).zip(&points) {
            row.truncate(2);
            row.extend(kept.iter().map(|name| share(parts, name)));
            row.push(percent(families.iter().filter(|name| !kept.contains(name)).map(|name| of(parts, name)).sum()));
        }
    }
}

/// The operators of one point.
fn table(operators: &OperatorsAnswer, style: Style) -> String {
    let heads = ["operator", "runs", "MFLOP", "MB", "FLOP/B", "bound", "ideal", "µs", "rests on"];
    let numeric = [false, true, true, true, true, false, true, true, false];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let mut sorted: Vec<&OperatorAnswer> = operators.rows.iter().collect();
    sorted.sort_by(|a, b| b.step_us.total_cmp(&a.step_us));
    rows.extend(sorted.into_iter().map(row));
    let lines = narrowed(rows, numeric.to_vec(), style.width - 2, &["MFLOP", "MB"]);
    format!("\n{}\n{}", style.bold(&operators_title(operators)), indented(&lines, style))
}

/// Which step's operators they are.
pub(crate) fn operators_title(operators: &OperatorsAnswer) -> String {
    let (batch, context) = (count(u64::from(operators.batch)), count(u64::from(operators.context)));
    let first = if operators.phase == "prefill" { ", first step" } else { "" };
    format!("Operators of {}, batch {batch}, context {context}{first}, one card", operators.phase)
}

fn row(operator: &OperatorAnswer) -> Vec<String> {
    let bytes = operator.read_bytes + operator.written_bytes;
    let small = |value: f64| match value {
        value if value <= 0.0 => "—".to_owned(),
        value if value < 0.0005 => "<0.001".to_owned(),
        value if value < 0.1 => format!("{value:.3}"),
        value => rounded(value),
    };
    vec![
        operator.name.clone(),
        three(operator.runs).trim_end_matches(".00").trim_end_matches(".0").to_owned(),
        small(operator.flops / 1e6),
        small(bytes / 1e6),
        operator.intensity_flops_per_byte.map_or_else(|| "—".to_owned(), small),
        operator.bound.to_string(),
        small(operator.ideal_us),
        small(operator.predicted_us),
        operator.basis.to_string(),
    ]
}
