//! How did it behave, as text? Latencies, rates, the cache, and levels over time as rows of blocks.

use plimsoll_api::SimulateAnswer;
use plimsoll_api::simulate::answer::{BetweenAnswer, GoodputAnswer, TimesAnswer};

use crate::csv;
use crate::number::{count, plain, three as short};
use crate::page::{Style, bar, clean, left, markdown_row, markdown_rule, right, width, wrap};
use crate::plan::{model_words, place_words};

/// Columns of a row of blocks.
const CELLS: usize = 44;
/// Columns of what stands before a figure.
const LABEL: usize = 18;
/// Columns of what stands before a time.
const NAME: usize = 24;
/// Columns of a time.
const TIME: usize = 9;

/// Shows a simulation.
pub fn simulate_table(answer: &SimulateAnswer, style: Style) -> String {
    let mut out = head(answer, style);
    out.push('\n');
    out.push_str(&latencies(answer, style));
    out.push('\n');
    for (name, words) in figures(answer) {
        out.push_str(&wrap(&left(name, LABEL), &words, style.width));
    }
    out.push('\n');
    out.push_str(&cache(answer, style));
    out.push_str(&over_time(answer, style));
    out.push_str(&list("Assumptions", &answer.assumptions, style));
    out.push_str(&list("Notes", &answer.notes, style));
    out
}

/// The model, where it runs, under what, and by which time; and whether that is all of it.
fn head(answer: &SimulateAnswer, style: Style) -> String {
    let mut out = format!("{}\n", style.bold(&model_words(&answer.model)));
    out.push_str(&wrap("", &place(answer), style.width));
    out.push_str(&wrap("", &workload(answer), style.width));
    out.push_str(&wrap("", &format!("step time: {}", answer.cost), style.width));
    if answer.partial {
        out.push_str(&(style.bad("PARTIAL: stopped before the workload's end") + "\n"));
    }
    out
}

/// The engine, the cards, how it batches.
fn place(answer: &SimulateAnswer) -> String {
    let engine = format!("{} {}", answer.engine.name, answer.engine.version);
    let prefixes = if answer.prefix.caching { "prefixes shared" } else { "prefixes not shared" };
    let place = place_words(&engine, &answer.gpu, answer.parallel);
    format!("{place}; {} batching, {} KV cache, {prefixes}", answer.batching, answer.kv.kind)
}

/// The workload and what of it is measured.
fn workload(answer: &SimulateAnswer) -> String {
    let measured = &answer.measured;
    let part = if measured.part == "all" { String::new() } else { format!(", measured: {}", measured.part) };
    let (requests, time) = (count(answer.requests.arrived), short(measured.duration_s));
    format!("{}: {requests} requests in {time} s{part} (seed {})", answer.workload, answer.seed)
}

/// Names of the times with the times themselves; parts of others are set in.
fn rows(answer: &SimulateAnswer) -> [(&'static str, &'static str, Option<TimesAnswer>); 7] {
    [
        ("time to first token", "ttft", answer.ttft_ms),
        ("  in the queue", "queue", answer.queue_ms),
        ("  prefill", "prefill", answer.prefill_ms),
        ("time per output token", "tpot", answer.tpot_ms),
        ("between tokens", "itl", answer.itl_ms),
        ("end to end", "e2e", answer.e2e_ms),
        ("  decode", "decode", answer.decode_ms),
    ]
}

/// Milliseconds that no longer fit their column.
const LONG_MS: f64 = 999_950.0;

/// The unit of the latencies, and how many milliseconds it has: seconds where milliseconds would not fit.
fn unit(answer: &SimulateAnswer) -> (&'static str, f64) {
    let longest = rows(answer).iter().filter_map(|(_, _, times)| times.map(|times| times.max)).fold(0.0, f64::max);
    if longest >= LONG_MS { ("s", 1e3) } else { ("ms", 1.0) }
}

/// A time's figures that tables show, in a unit of so many milliseconds.
fn cells(times: Option<TimesAnswer>, scale: f64) -> [String; 6] {
    match times {
        Some(of) => [of.mean, of.p50, of.p90, of.p95, of.p99, of.max].map(|time| three(time / scale)),
        None => [""; 6].map(|_| "—".to_owned()),
    }
}

const STATISTICS: [&str; 6] = ["mean", "p50", "p90", "p95", "p99", "max"];

fn latencies(answer: &SimulateAnswer, style: Style) -> String {
    let heads: String = STATISTICS.iter().map(|head| right(head, TIME)).collect();
    let (unit, scale) = unit(answer);
    let mut out = style.bold(&format!("{}{heads}", left(&format!("Latency, {unit}"), NAME))) + "\n";
    for (name, _, times) in rows(answer) {
        let cells: String = cells(times, scale).iter().map(|cell| right(cell, TIME)).collect();
        out.push_str(&format!("{}{cells}\n", left(&format!("  {name}"), NAME)));
    }
    if let Some(words) = likely(answer) {
        out.push_str(&wrap("  ", &words, style.width));
    }
    if rows(answer).iter().any(|(_, _, times)| times.is_some_and(|times| !times.exact)) {
        out.push_str(&wrap("  ", "percentiles of more than 16 384 different times are within 0.05%", style.width));
    }
    out
}

/// Between what ends the main times lie, where that was worked out.
fn likely(answer: &SimulateAnswer) -> Option<String> {
    let interval = answer.interval.as_ref()?;
    let (unit, scale) = unit(answer);
    let ends = |name: &str, between: Option<BetweenAnswer>| {
        between.map(|ends| format!("{name} {} to {}", three(ends.low / scale), three(ends.high / scale)))
    };
    let parts = [
        ends("ttft", interval.ttft_mean_ms),
        ends("its p99", interval.ttft_p99_ms),
        ends("tpot", interval.tpot_mean_ms),
        ends("end to end", interval.e2e_mean_ms),
    ];
    let told: Vec<String> = parts.into_iter().flatten().collect();
    (!told.is_empty()).then(|| format!("means are likely (p10 to p90) between, {unit}: {}", told.join(", ")))
}

/// Rates and counts, as name and words.
fn figures(answer: &SimulateAnswer) -> Vec<(&'static str, String)> {
    let mut figures = Vec::new();
    let rates = answer.throughput.map_or("no time was measured".to_owned(), |rates| {
        let (requests, output) = (three(rates.requests_per_s), three(rates.output_tokens_per_s));
        let total = three(rates.total_tokens_per_s);
        format!("{requests} requests/s, {output} output tokens/s, {total} tokens/s with prompts")
    });
    figures.push(("Throughput", rates));
    figures.extend(answer.goodput.map(|good| ("Goodput", goodput(&good))));
    figures.push(("Requests", requests(answer)));
    let batch = &answer.batch;
    let steps = match (batch.mean, batch.tokens_mean) {
        (Some(mean), Some(tokens)) => {
            let padding = batch.padding_share.filter(|share| *share > 0.0);
            let padding = padding.map(|share| format!(", {} of the places padding", percent(share)));
            format!(
                "{}: {} sequences and {} tokens on average, {} sequences at most{}",
                count(answer.steps),
                three(mean),
                three(tokens),
                count(batch.max),
                padding.unwrap_or_default()
            )
        }
        (Some(_) | None, _) => "none".to_owned(),
    };
    figures.push(("Steps", steps));
    if let Some(idle) = answer.idle_share {
        figures.push(("Idle", format!("{} of the time", percent(idle))));
    }
    if let (true, Some(rate)) = (answer.prefix.caching, answer.prefix.hit_rate) {
        let (hit, all) = (count(answer.prefix.hit_tokens), count(answer.prefix.looked_up_tokens));
        figures.push(("Prefix cache", format!("{} hit: {hit} of {all} prompt tokens", percent(rate))));
    }
    figures
}

/// Requests that met the objectives.
fn goodput(good: &GoodputAnswer) -> String {
    let objectives = [
        ("ttft", good.objectives.ttft_ms, good.met.ttft),
        ("tpot", good.objectives.tpot_ms, good.met.tpot),
        ("e2e", good.objectives.e2e_ms, good.met.e2e),
    ];
    let each = objectives.iter().filter_map(|(name, objective, met)| {
        let met = met.map(|met| format!(": {}", percent(met))).unwrap_or_default();
        objective.map(|most| format!("{name} ≤ {} ms{met}", plain(most)))
    });
    let each: Vec<String> = each.collect();
    let rate = good.requests_per_s.map_or("—".to_owned(), three);
    let share = good.share.map_or("—".to_owned(), percent);
    format!("{rate} requests/s, {share} of the requests ({})", each.join(", "))
}

/// What became of the requests.
fn requests(answer: &SimulateAnswer) -> String {
    let of = &answer.requests;
    let mut words = format!("{} finished", count(of.finished));
    for (number, what) in [(of.unfinished, "under way"), (of.refused, "refused")] {
        if number > 0 {
            words.push_str(&format!(", {} {what}", count(number)));
        }
    }
    if answer.preemptions > 0 {
        let (times, again) = (count(answer.preemptions), count(answer.recomputed_tokens));
        words.push_str(&format!("; {} preempted {times} times, {again} tokens computed again", count(of.preempted)));
    } else {
        words.push_str(", none preempted");
    }
    words
}

/// The parts of the cache with their mean and peak shares; parts of others are set in.
fn cache_rows(answer: &SimulateAnswer) -> Vec<(&'static str, f64, f64)> {
    let kv = &answer.kv;
    let all = [
        ("held by requests", kv.used, true),
        ("  holding nothing yet", kv.wasted, false),
        ("  set aside for later", kv.reserved, false),
        ("kept for reuse", kv.cached, false),
        ("in unusable holes", kv.stranded, false),
    ];
    let shown = all.iter().filter(|(_, level, always)| *always || level.peak > 0.0);
    shown.map(|(name, level, _)| (*name, level.mean, level.peak)).collect()
}

/// How large the cache is.
fn cache_size(answer: &SimulateAnswer) -> String {
    let tokens = count(answer.kv.capacity_tokens);
    match (answer.kv.blocks, answer.kv.block_tokens) {
        (Some(blocks), Some(each)) => format!("{tokens} tokens, {} blocks of {each}", count(blocks)),
        (Some(_) | None, _) => format!("{tokens} tokens"),
    }
}

fn cache(answer: &SimulateAnswer, style: Style) -> String {
    let name = format!("KV cache: {}", cache_size(answer));
    let head = format!("{}{}{}", left(&name, 50), right("mean", 9), right("peak", 9));
    let mut out = style.bold(&head) + "\n";
    for (name, mean, peak) in cache_rows(answer) {
        let bar = bar((mean * 1e6) as u64, 1_000_000, 22);
        let bar = format!("{}{}", style.faint(&bar), " ".repeat(24 - width(&bar)));
        let name = left(&format!("  {name}"), 26);
        out.push_str(&format!("{name}{bar}{}{}\n", right(&percent(mean), 9), right(&percent(peak), 9)));
    }
    if let Some(waste) = answer.kv.waste_share {
        out.push_str(&format!("  of the room taken, {} held no token\n", percent(waste)));
    }
    out
}

/// Three significant digits, of large numbers too: `111 000`.
pub(crate) fn three(value: f64) -> String {
    if !(1000.0..1e15).contains(&value) {
        return short(value);
    }
    let mut scale = 10.0;
    while value / scale >= 999.5 {
        scale *= 10.0;
    }
    count(((value / scale).round() * scale) as u64)
}

/// A share in percent.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        share if share > 0.0 && share < 0.05 => "<0.1%".to_owned(),
        share => format!("{share:.1}%"),
    }
}

/// One row of blocks: its name, its values, what a full block stands for.
struct Row<'a> {
    name: &'static str,
    values: &'a [f64],
    /// The value of a full block, where it is not the greatest one.
    full: Option<f64>,
    unit: &'static str,
}

/// Levels over time.
fn over_time(answer: &SimulateAnswer, style: Style) -> String {
    let timeline = &answer.timeline;
    let bins = timeline.running.len();
    if bins == 0 {
        return String::new();
    }
    let rows = [
        Row { name: "waiting", values: &timeline.waiting, full: None, unit: "" },
        Row { name: "running", values: &timeline.running, full: None, unit: "" },
        Row { name: "KV held", values: &timeline.kv_used, full: Some(1.0), unit: "%" },
        Row { name: "KV kept for reuse", values: &timeline.kv_cached, full: Some(1.0), unit: "%" },
        Row { name: "output tokens/s", values: &timeline.output_tokens_per_s, full: None, unit: "" },
    ];
    let each = bins.div_ceil(CELLS);
    let cells = bins.div_ceil(each);
    let until = timeline.from_s + timeline.bin_s * bins as f64;
    let (from, until) = (format!("{} s", short(timeline.from_s)), format!("{} s", short(until)));
    let scale = format!("{from}{}", right(&until, (cells + 2).saturating_sub(width(&from))));
    let mut out =
        format!("\n{}\n", style.bold(&format!("{}{scale}  █ stands for", left("Over time", LABEL + 2)).to_string()));
    for row in rows.iter().filter(|row| row.name != "KV kept for reuse" || row.values.iter().any(|share| *share > 0.0))
    {
        let means: Vec<f64> =
            row.values.chunks(each).map(|part| part.iter().sum::<f64>() / part.len() as f64).collect();
        let full = row.full.unwrap_or_else(|| means.iter().copied().fold(0.0, f64::max));
        let blocks: String = means.iter().map(|mean| block(*mean, full)).collect();
        let stands = if row.unit == "%" { "100%".to_owned() } else { three(full) };
        out.push_str(&format!("{}│{blocks}│  {stands}\n", left(&format!("  {}", row.name), LABEL + 2)));
    }
    out.push_str(&wrap(
        "  ",
        &format!("each column is the mean of {} s", three(timeline.bin_s * each as f64)),
        style.width,
    ));
    out
}

/// A block for a level: blank for none, the lowest for any at all.
fn block(level: f64, full: f64) -> char {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if full.is_nan() || full <= 0.0 || level.is_nan() || level <= 0.0 {
        return ' ';
    }
    BLOCKS[((level / full * 8.0).round() as usize).clamp(1, 8)]
}

pub(crate) fn list(title: &str, items: &[String], style: Style) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|item| wrap("  - ", item, style.width)).collect();
    format!("\n{}\n{items}", style.bold(title))
}

/// Writes a simulation as Markdown.
pub fn simulate_markdown(answer: &SimulateAnswer) -> String {
    let partial = if answer.partial { "**PARTIAL: stopped before the workload's end**\n\n" } else { "" };
    let mut out = format!(
        "### {}\n\n{}\n\n{}\n\nstep time: {}\n\n{partial}",
        model_words(&answer.model),
        clean(&place(answer)),
        clean(&workload(answer)),
        clean(&answer.cost)
    );
    let (unit, scale) = unit(answer);
    out.push_str(&markdown_row(&[&format!("latency, {unit}"), "mean", "p50", "p90", "p95", "p99", "max"]));
    out.push_str(&markdown_rule(&[false, true, true, true, true, true, true]));
    for (name, _, times) in rows(answer) {
        let row: Vec<String> = [name.trim().to_owned()].into_iter().chain(cells(times, scale)).collect();
        out.push_str(&markdown_row(&row));
    }
    out.push('\n');
    for (name, words) in figures(answer) {
        out.push_str(&format!("- {name}: {}\n", clean(&words)));
    }
    out.push('\n');
    out.push_str(&markdown_row(&[&format!("KV cache: {}", cache_size(answer)), "mean", "peak"]));
    out.push_str(&markdown_rule(&[false, true, true]));
    for (name, mean, peak) in cache_rows(answer) {
        out.push_str(&markdown_row(&[name.trim(), &percent(mean), &percent(peak)]));
    }
    if let Some(waste) = answer.kv.waste_share {
        out.push_str(&format!("\nOf the room taken, {} held no token.\n", percent(waste)));
    }
    let over = over_time(answer, Style::PLAIN);
    if !over.is_empty() {
        out.push_str(&format!("\n```text\n{}```\n", over.trim_start_matches('\n')));
    }
    for (title, items) in [("Assumptions", &answer.assumptions), ("Notes", &answer.notes)] {
        if !items.is_empty() {
            let items: String = items.iter().map(|item| format!("- {}\n", clean(item))).collect();
            out.push_str(&format!("\n{title}:\n\n{items}"));
        }
    }
    out
}

/// Writes a simulation's figures as comma-separated values, one a line, in full; what does not exist is empty.
pub fn simulate_csv(answer: &SimulateAnswer) -> String {
    let mut out = csv::line(&["figure", "statistic", "unit", "value"]);
    let mut line = |figure: &str, statistic: &str, unit: &str, value: Option<f64>| {
        let value = value.map(|value| value.to_string()).unwrap_or_default();
        out.push_str(&csv::line(&[figure, statistic, unit, &value]));
    };
    for (_, name, times) in rows(answer) {
        let of = |pick: fn(&TimesAnswer) -> f64| times.as_ref().map(pick);
        line(name, "mean", "ms", of(|times| times.mean));
        line(name, "min", "ms", of(|times| times.min));
        line(name, "p50", "ms", of(|times| times.p50));
        line(name, "p90", "ms", of(|times| times.p90));
        line(name, "p95", "ms", of(|times| times.p95));
        line(name, "p99", "ms", of(|times| times.p99));
        line(name, "max", "ms", of(|times| times.max));
    }
    let rates = answer.throughput.as_ref();
    line("throughput", "requests", "1/s", rates.map(|rates| rates.requests_per_s));
    line("throughput", "output_tokens", "1/s", rates.map(|rates| rates.output_tokens_per_s));
    line("throughput", "total_tokens", "1/s", rates.map(|rates| rates.total_tokens_per_s));
    line("goodput", "requests", "1/s", answer.goodput.and_then(|good| good.requests_per_s));
    line("goodput", "share", "", answer.goodput.and_then(|good| good.share));
    let of = &answer.requests;
    for (name, number) in [
        ("arrived", of.arrived),
        ("finished", of.finished),
        ("unfinished", of.unfinished),
        ("refused", of.refused),
        ("preempted", of.preempted),
    ] {
        line("requests", name, "", Some(number as f64));
    }
    for (name, mean, peak) in levels(answer) {
        line(name, "mean", "", Some(mean));
        line(name, "peak", "", Some(peak));
    }
    line("kv_waste_share", "mean", "", answer.kv.waste_share);
    line("kv_capacity", "", "tokens", Some(answer.kv.capacity_tokens as f64));
    line("prefix", "hit_rate", "", answer.prefix.hit_rate);
    line("preemptions", "", "", Some(answer.preemptions as f64));
    line("recomputed", "", "tokens", Some(answer.recomputed_tokens as f64));
    line("idle_share", "", "", answer.idle_share);
    line("steps", "", "", Some(answer.steps as f64));
    line("batch", "mean", "", answer.batch.mean);
    line("batch", "max", "", Some(answer.batch.max as f64));
    line("duration", "", "s", Some(answer.measured.duration_s));
    out
}

/// The cache's levels by their promised names.
fn levels(answer: &SimulateAnswer) -> [(&'static str, f64, f64); 5] {
    let kv = &answer.kv;

    [
        ("kv_used", kv.used.mean, kv.used.peak),
        ("kv_cached", kv.cached.mean, kv.cached.peak),
        ("kv_wasted", kv.wasted.mean, kv.wasted.peak),
        ("kv_reserved", kv.reserved.mean, kv.reserved.peak),
        ("kv_stranded", kv.stranded.mean, kv.stranded.peak),
    ]
}
