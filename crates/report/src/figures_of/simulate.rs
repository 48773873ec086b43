//! How did it behave? Distributions of the times, levels over time, who held the cache, and who ran when.

use plimsoll_api::simulate::answer::{HoldersAnswer, LifeAnswer, TimelineAnswer};
use plimsoll_api::{SimulateAnswer, SimulateCompareAnswer};

use super::{caption, drawable, positive, written};
use crate::figure::{
    Axis, Bar, Bars, BlockMap, Body, Figure, Held, Holder, Limit, Line, Moment, Panel, Part, Plot, Scale, Series, Span,
    SpanGroup, SpanRow, Spans, Stroke, Tone, Unit,
};
use crate::number::{count, three};
use crate::page::clean;
use crate::plan::place_words;

/// Groups of spans at most.
const GROUPS: usize = 4;
/// Rows of spans at most, of all groups.
const ROWS: usize = 32;

/// Steps over which a throughput is a mean at least.
const STEPS: f64 = 10.0;

/// What a request does, and its colour.
const DOING: [(&str, &str, Tone); 4] = [
    ("queued", "queued", Tone::Faint),
    ("prefill", "prefill", Tone::Nth(0)),
    ("decode", "decode", Tone::Nth(1)),
    ("preempted", "lost its blocks", Tone::Bad),
];

/// Returns the figures of a simulation.
pub(crate) fn simulate(answer: &SimulateAnswer) -> Vec<Figure> {
    [latency(answer), load(answer), blocks(answer), gantt(answer)].into_iter().flatten().collect()
}

/// Returns the figures of simulations side by side.
pub(crate) fn simulate_compare(answer: &SimulateCompareAnswer) -> Vec<Figure> {
    [gantts(answer), throughput(answer)].into_iter().flatten().collect()
}

fn subtitle(answer: &SimulateAnswer) -> String {
    let engine = format!("{} {}", answer.engine.name, answer.engine.version);
    let place = place_words(&engine, &answer.gpu, answer.parallel);
    let partial = if answer.partial { ", stopped early" } else { "" };
    format!("{} · {place} · {}{partial}", clean(&answer.model.id), clean(&answer.workload))
}

fn seconds(label: &str) -> Axis {
    Axis::of(label, Unit::Seconds)
}

/// Where the clock of a figure begins: with the run, or with the part that is shown where that is a late one. And the axis.
fn clock(first: f64, end: f64) -> (f64, Axis) {
    if first > end - first {
        return (first, seconds(&format!("time, from {} of the run on", written(first, Unit::Seconds))));
    }
    (0.0, seconds("time"))
}

/// What share of requests had waited at most how long.
fn latency(answer: &SimulateAnswer) -> Option<Figure> {
    let times = &answer.percentiles;
    let all = [
        ("time to first token", &times.ttft_ms, Stroke::Solid),
        ("time per output token", &times.tpot_ms, Stroke::Solid),
        ("end to end", &times.e2e_ms, Stroke::Solid),
        ("between two tokens", &times.itl_ms, Stroke::Dashed),
    ];
    let mut lines = Vec::new();
    for (at, (name, millis, stroke)) in all.into_iter().enumerate() {
        let last = millis.len().saturating_sub(1).max(1) as f64;
        let points: Vec<(f64, f64)> =
            millis.iter().enumerate().filter_map(|(at, ms)| Some((positive(ms / 1e3)?, at as f64 / last))).collect();
        if points.len() > 1 {
            lines.push(Line { series: Series::new(name, Tone::Nth(at)), points, band: Vec::new(), stroke });
        }
    }
    if lines.is_empty() {
        return None;
    }
    let objectives = answer.goodput.map(|goodput| goodput.objectives);
    let wanted = objectives.map_or([None; 3], |wanted| [wanted.ttft_ms, wanted.tpot_ms, wanted.e2e_ms]);
    let marks: Vec<Limit> = ["first token wanted", "per token wanted", "end wanted"]
        .into_iter()
        .zip(wanted)
        .filter_map(|(name, ms)| Some(Limit::new(name, positive(ms? / 1e3)?)))
        .collect();
    let finished = match answer.requests.finished {
        1 => "one request".to_owned(),
        several => format!("{} requests", count(several)),
    };
    let mut how = format!(
        "Share of the {finished} that finished (of the gaps, between two tokens) for which it took at most so long."
    );
    if let Some(share) = answer.goodput.and_then(|goodput| goodput.share).filter(|_| !marks.is_empty()) {
        how.push_str(&format!(" {}% met all that is wanted.", three(share * 100.0)));
    }
    Some(Figure {
        name: "latency".to_owned(),
        title: "How long do users wait?".to_owned(),
        subtitle: subtitle(answer),
        caption: caption(&how, &answer.assumptions),
        body: Body::Plot(Plot {
            x: seconds("time").scaled(Scale::Log10),
            y: Axis::of("share that waited at most so long", Unit::Share),
            lines,
            dots: Vec::new(),
            limits: Vec::new(),
            marks,
        }),
    })
}

/// The cache, the requests and the throughput over time.
fn load(answer: &SimulateAnswer) -> Option<Figure> {
    let timeline = &answer.timeline;
    let line = |name: &str, tone, values: &[f64]| course(timeline, name, tone, values);
    let shares = [
        line("used", Tone::Kv, &timeline.kv_used),
        line("cached", Tone::Faint, &timeline.kv_cached),
        line("held and empty", Tone::Bad, &timeline.kv_empty),
    ];
    let requests = [line("running", Tone::Nth(0), &timeline.running), line("waiting", Tone::Nth(1), &timeline.waiting)];
    // Tokens come by steps: over less than several of them their rate would be a comb.
    let steps = answer.percentiles.itl_ms.get(50).copied().and_then(positive).map_or(0.0, |ms| ms / 1e3 * STEPS);
    let coarse = coarser(timeline, steps);
    let tokens = [course(&coarse, "output tokens", Tone::Nth(0), &coarse.output_tokens_per_s)];
    let panel = |title: &str, y: Axis, lines: Vec<Line>| Panel {
        title: title.to_owned(),
        plot: Plot { x: seconds("time"), y, lines, dots: Vec::new(), limits: Vec::new(), marks: Vec::new() },
    };
    let some = |lines: Vec<Option<Line>>| lines.into_iter().flatten().collect::<Vec<Line>>();
    let panels: Vec<Panel> = [
        panel("KV cache", Axis::of("of the pool", Unit::Share), some(shares.into())),
        panel("Requests", Axis::of("requests", Unit::Count), some(requests.into())),
        panel("Throughput", Axis::of("tokens a second", Unit::Plain), some(tokens.into())),
    ]
    .into_iter()
    .filter(|panel| !panel.plot.lines.is_empty())
    .collect();
    if panels.is_empty() {
        return None;
    }
    let over = match coarse.bin_s > timeline.bin_s {
        true => format!(" ({} for throughput)", written(coarse.bin_s, Unit::Seconds)),
        false => String::new(),
    };
    let how = format!(
        "Means over {}{over} at a time. Used: held by requests, shared blocks once; cached: held by nobody and found again; held \
         and empty: in partly filled blocks and reservations.",
        written(timeline.bin_s, Unit::Seconds)
    );
    Some(Figure {
        name: "load".to_owned(),
        title: "How full is the cache, and how long the queue?".to_owned(),
        subtitle: subtitle(answer),
        caption: caption(&how, &[]),
        body: Body::Panels(panels),
    })
}

/// The throughput over longer bins: at least `wanted` seconds each, while there are some.
fn coarser(timeline: &TimelineAnswer, wanted: f64) -> TimelineAnswer {
    let all = &timeline.output_tokens_per_s;
    let most = (all.len() / 20).max(1);
    let each = positive(timeline.bin_s).map_or(1.0, |bin| (wanted / bin).ceil());
    let each = if each.is_finite() { (each.max(1.0) as usize).min(most) } else { 1 };
    let mean = |bins: &[f64]| bins.iter().sum::<f64>() / bins.len() as f64;
    TimelineAnswer {
        bin_s: timeline.bin_s * each as f64,
        output_tokens_per_s: all.chunks_exact(each).map(mean).collect(),
        ..timeline.clone()
    }
}

/// A level as a line in steps; nothing where it is never above zero.
fn course(timeline: &TimelineAnswer, name: &str, tone: Tone, values: &[f64]) -> Option<Line> {
    let (from, bin) = (drawable(timeline.from_s)?, positive(timeline.bin_s)?);
    let at = |bins: usize| from + bin * bins as f64;
    let mut points: Vec<(f64, f64)> =
        values.iter().enumerate().filter_map(|(place, value)| Some((at(place), drawable(*value)?))).collect();
    // The last value lasts for a bin, too.
    let (_, last) = *points.last()?;
    points.push((at(values.len()), last));
    let any = points.iter().any(|(_, value)| *value > 0.0);
    any.then(|| Line { series: Series::new(name, tone), points, band: Vec::new(), stroke: Stroke::Steps })
}

/// Who holds the cache's blocks.
fn blocks(answer: &SimulateAnswer) -> Option<Figure> {
    let held = answer.holders.as_ref()?;
    let capacity = positive(held.capacity as f64)?;
    let end = drawable(held.end_s)?;
    let moments: Vec<Moment> = (0..held.at_s.len()).filter_map(|at| moment(held, at)).collect();
    if moments.len() < 2 || moments.last().is_none_or(|last| last.at > end) {
        return None;
    }
    let taken = |moment: &Moment| {
        moment.runs.iter().filter(|run| run.holder != Holder::Free).map(|run| run.blocks).sum::<f64>()
    };
    let most = moments.iter().map(taken).fold(0.0, f64::max);
    // Where little is taken, only what is taken could be seen of the whole.
    let shown = if most > 0.0 && most < capacity / 2.0 { (most * 1.1).ceil().min(capacity) } else { capacity };
    let (begin, axis) = clock(moments[0].at, end);
    let moments: Vec<Moment> =
        moments.into_iter().map(|moment| cropped(Moment { at: moment.at - begin, ..moment }, shown)).collect();
    let whole = if shown < capacity { format!(", of {}", count(held.capacity)) } else { String::new() };
    let unit = match answer.kv.block_tokens {
        Some(tokens) => format!("blocks of {tokens} tokens{whole}"),
        None => format!("tokens{whole}"),
    };
    let each = match held.bundle {
        0 | 1 => "Each colour is a request".to_owned(),
        several => format!("Each colour is {several} requests that arrived one after the other"),
    };
    let kept = if answer.batching.starts_with("static") { ", or kept until the batch ends" } else { "" };
    let how = format!(
        "{each}, by order of arrival from below. Shared: held by several at once{kept}; cached: held by nobody and found \
         again. The part of the run in which most of the cache was held."
    );
    Some(Figure {
        name: "blocks".to_owned(),
        title: "Who holds the KV cache?".to_owned(),
        subtitle: subtitle(answer),
        caption: how,
        body: Body::Blocks(BlockMap {
            x: axis,
            y: Axis::of(unit, Unit::Count),
            blocks: shown,
            moments,
            end: end - begin,
        }),
    })
}

/// Who holds blocks at one moment: what is shared, then each request, what is cached, what is free.
fn moment(held: &HoldersAnswer, at: usize) -> Option<Moment> {
    let blocks = |of: &[u64]| of.get(at).copied().unwrap_or(0);
    let bundle = held.bundle.max(1);
    let mut runs = vec![(blocks(&held.others), Holder::Shared)];
    for holder in &held.requests {
        let own = at.checked_sub(holder.from).and_then(|place| holder.blocks.get(place)).copied();
        runs.push((own.unwrap_or(0), Holder::Request(holder.request / bundle)));
    }
    runs.push((blocks(&held.cached), Holder::Cached));
    let taken = runs.iter().fold(0u64, |sum, (blocks, _)| sum.saturating_add(*blocks));
    runs.push((held.capacity.saturating_sub(taken), Holder::Free));
    let runs = runs
        .into_iter()
        .filter(|(blocks, _)| *blocks > 0)
        .map(|(blocks, holder)| Held { blocks: blocks as f64, holder })
        .collect();
    Some(Moment { at: drawable(*held.at_s.get(at)?)?, runs })
}

/// Leaves out of what is free what lies above `shown` blocks.
fn cropped(mut moment: Moment, shown: f64) -> Moment {
    let taken: f64 = moment.runs.iter().filter(|run| run.holder != Holder::Free).map(|run| run.blocks).sum();
    moment.runs.retain(|run| run.holder != Holder::Free);
    if shown > taken {
        moment.runs.push(Held { blocks: shown - taken, holder: Holder::Free });
    }
    moment
}

/// Who ran when, in one simulation.
fn gantt(answer: &SimulateAnswer) -> Option<Figure> {
    let which = match answer.lives.len() as u64 {
        1 if answer.requests.arrived == 1 => "The one request".to_owned(),
        all if all == answer.requests.arrived => format!("All {all} requests"),
        some => format!(
            "{some} requests that began to run one after the other, in the part of the run in which most of \
                         the cache was held"
        ),
    };
    let how = format!(
        "{which}: waiting for the first step, computing the prompt, generating, and waiting again after blocks were lost."
    );
    let group = group(&format!("{} batching", clean(&answer.batching)), &answer.lives, ROWS)?;
    Some(spans("gantt", "Who runs when?", subtitle(answer), &how, vec![group]))
}

/// Who ran when, way by way.
fn gantts(answer: &SimulateCompareAnswer) -> Option<Figure> {
    let engines = answer.rows.iter().any(|row| row.engine != answer.rows[0].engine);
    let layouts = answer.rows.iter().any(|row| row.kv != answer.rows[0].kv);
    let title = |row: &plimsoll_api::simulate::answer::SimulateRow| {
        let engine = if engines { format!("{} {}, ", row.engine.name, row.engine.version) } else { String::new() };
        let layout = if layouts { format!(", {} KV cache", row.kv) } else { String::new() };
        clean(&format!("{engine}{} batching{layout}", row.batching))
    };
    let most = ROWS / answer.rows.len().clamp(1, GROUPS);
    let groups: Vec<SpanGroup> =
        answer.rows.iter().filter_map(|row| group(&title(row), &row.lives, most)).take(GROUPS).collect();
    if groups.is_empty() {
        return None;
    }
    let mut how =
        "The first requests of the same workload, each way of batching on the same clock: waiting for the first \
                   step, computing the prompt, generating."
            .to_owned();
    if answer.rows.len() > groups.len() {
        how.push_str(&format!(" {} more ways are in the table.", answer.rows.len() - groups.len()));
    }
    let subtitle = format!("{} · {}", clean(&answer.model.id), clean(&answer.workload));
    Some(spans("gantt", "What does the way of batching change?", subtitle, &how, groups))
}

fn spans(name: &str, title: &str, subtitle: String, how: &str, groups: Vec<SpanGroup>) -> Figure {
    let used = |at: usize| {
        groups.iter().flat_map(|group| &group.rows).flat_map(|row| &row.spans).any(|span| span.series == at)
    };
    let kept: Vec<usize> = (0..DOING.len()).filter(|at| used(*at)).collect();
    let series = kept.iter().map(|at| Series::new(DOING[*at].1, DOING[*at].2)).collect();
    let mut groups = groups;
    let all = || groups.iter().flat_map(|group| &group.rows).flat_map(|row| &row.spans);
    let first = all().map(|span| span.from).fold(f64::INFINITY, f64::min);
    let (begin, axis) = clock(first, all().map(|span| span.to).fold(0.0, f64::max));
    for span in groups.iter_mut().flat_map(|group| &mut group.rows).flat_map(|row| &mut row.spans) {
        (span.from, span.to) = (span.from - begin, span.to - begin);
        span.series = kept.iter().position(|at| *at == span.series).unwrap_or(0);
    }
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        subtitle,
        caption: how.to_owned(),
        body: Body::Spans(Spans { x: axis, series, groups }),
    }
}

/// The rows of some requests; nothing without any.
fn group(title: &str, lives: &[LifeAnswer], most: usize) -> Option<SpanGroup> {
    let row = |life: &LifeAnswer| {
        let ends = life.turns.iter().skip(1).map(|turn| turn.from_s).chain([life.end_s]);
        let span = |(turn, to): (&plimsoll_api::simulate::answer::TurnAnswer, f64)| {
            let series = DOING.iter().position(|(doing, _, _)| *doing == turn.doing)?;
            let (from, to) = (drawable(turn.from_s)?, drawable(to)?);
            (to > from).then_some(Span { from, to, series })
        };
        let spans: Vec<Span> = life.turns.iter().zip(ends).filter_map(span).collect();
        SpanRow { name: format!("request {}", life.request), spans }
    };
    let rows: Vec<SpanRow> = lives.iter().take(most).map(row).filter(|row| !row.spans.is_empty()).collect();
    (!rows.is_empty()).then(|| SpanGroup { title: title.to_owned(), rows })
}

/// What each way serves.
fn throughput(answer: &SimulateCompareAnswer) -> Option<Figure> {
    let row = |row: &plimsoll_api::simulate::answer::SimulateRow| {
        let rate = drawable(row.output_tokens_per_s?).filter(|rate| *rate >= 0.0)?;
        let times =
            row.ttft_p99_ms.map_or_else(String::new, |ms| format!(", TTFT p99 {}", written(ms / 1e3, Unit::Seconds)));
        Some(Bar {
            name: clean(&format!("{}, {}, {}", row.engine.name, row.batching, row.kv)),
            parts: vec![Part::new(0, rate)],
            note: Some(format!("{} tokens/s{times}", three(rate))),
            limit: None,
        })
    };
    let rows: Vec<Bar> = answer.rows.iter().filter_map(row).collect();
    if rows.is_empty() {
        return None;
    }
    Some(Figure {
        name: "throughput".to_owned(),
        title: "How much does each way serve?".to_owned(),
        subtitle: format!("{} · {}", clean(&answer.model.id), clean(&answer.workload)),
        caption: caption(
            "Output tokens a second of all requests together, over the whole run; behind them, what 99 of 100 requests waited \
             at most for their first token.",
            &answer.assumptions,
        ),
        body: Body::Bars(Bars {
            axis: Axis::of("output tokens a second", Unit::Plain),
            series: vec![Series::new("output tokens", Tone::Nth(0))],
            rows,
            limits: Vec::new(),
        }),
    })
}
