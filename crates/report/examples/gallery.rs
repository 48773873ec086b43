//! What do the figures look like? Writes every kind, smallest and largest, on light and on dark, as PNG and SVG into a
//! folder, to be looked at: `cargo run -p plimsoll-report --example gallery -- FOLDER [WORD OF THE NAME]`.

use std::path::Path;

use plimsoll_report::figure::{
    Areas, Axis, Bar, Bars, BlockMap, Body, Cell, Dot, Figure, Heat, Held, Holder, Limit, Line, Moment, Panel, Part,
    Plot, Range, Ranges, Scale, Series, Span, SpanGroup, SpanRow, Spans, Stroke, Theme, Tone, Unit, png, svg,
};

const GIB: f64 = 1_073_741_824.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?;
    let wanted = arguments.next().unwrap_or_default();
    std::fs::create_dir_all(&folder)?;
    for figure in figures().iter().filter(|figure| figure.name.contains(&wanted)) {
        for (theme, suffix) in [(Theme::Light, ""), (Theme::Dark, "-dark")] {
            let drawn = svg(figure, theme)?;
            let file = Path::new(&folder).join(format!("{}{suffix}", figure.name));
            std::fs::write(file.with_extension("png"), png(&drawn, 1.25)?)?;
            std::fs::write(file.with_extension("svg"), &drawn)?;
            eprintln!("{:>9} {}", drawn.len(), file.display());
        }
    }
    Ok(())
}

fn figure(name: &str, title: &str, body: Body) -> Figure {
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        subtitle: "meta-llama/Llama-3.1-70B-Instruct, vLLM 0.33.0, tp 4 on H100 SXM".to_owned(),
        caption:
            "Assumed: the default share of 0.92, 32 768-token requests, nothing else on the GPU. KV cache 32.7 to \
                  34.4 GiB in nine of ten launches; weights are exact. Sizes in GiB (2³⁰ bytes)."
                .to_owned(),
        body,
    }
}

fn figures() -> Vec<Figure> {
    let mut all = Vec::new();
    all.extend([bars("bars-1", 1), bars("bars-4", 4), bars("bars-64", 64), bars_few()]);
    all.extend([areas("areas-linear", Scale::Linear), areas("areas-log", Scale::Log2), areas_one()]);
    all.extend([heat("heat-2", 2, 1), heat("heat-10", 10, 9), heat("heat-40", 40, 30)]);
    all.extend([roofline(), distribution(3), distribution(9), pareto(12), pareto(3000), share(), plot_one(), noisy()]);
    all.extend([panels(2), panels(6)]);
    all.extend([spans("spans-2", 3), spans("spans-60", 30)]);
    all.extend([blocks("blocks-1", 1, 2), blocks("blocks-40", 60, 20), blocks("blocks-400", 400, 200)]);
    all.extend([ranges("ranges-1", 1), ranges("ranges-12", 12), ranges("ranges-60", 60)]);
    all
}

/// Numbers that look like chance and are the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }
}

fn bars(name: &str, many: usize) -> Figure {
    let series = [
        ("weights", Tone::Weights),
        ("activations", Tone::Activations),
        ("runtime", Tone::Runtime),
        ("graphs", Tone::Graphs),
        ("KV cache", Tone::Kv),
    ];
    let rows = (0..many).map(|rank| Bar {
        name: format!("rank {rank}"),
        parts: [32.9, 0.4, 1.9, 2.2, 35.4].into_iter().enumerate().map(|(at, gib)| Part::new(at, gib * GIB)).collect(),
        note: None,
        limit: None,
    });
    let body = Body::Bars(Bars {
        axis: Axis::of("memory", Unit::Bytes),
        series: series.into_iter().map(|(name, tone)| Series::new(name, tone)).collect(),
        rows: rows.collect(),
        limits: vec![Limit::new("vLLM's limit", 72.8 * GIB), Limit::new("card", 79.1 * GIB)],
    });
    figure(name, "Where does the memory of each H100 SXM 80 GB go?", body)
}

fn bars_few() -> Figure {
    let names = ["Llama-3.1-8B-Instruct on a card with a long name", "Mistral-7B <&> \"friends\"", "qwen"];
    let rows = names.into_iter().enumerate().map(|(at, name)| Bar {
        name: name.to_owned(),
        parts: vec![Part::new(0, 0.004 * (at + 1) as f64), Part::new(1, 0.011), Part::new(2, 0.002)],
        note: Some(format!("{} tokens/s", 100 * (at + 1))),
        limit: None,
    });
    let body = Body::Bars(Bars {
        axis: Axis::of("time of a step", Unit::Seconds),
        series: (0..3).map(|at| Series::new(format!("kernel {at}"), Tone::Nth(at))).collect(),
        rows: rows.collect(),
        limits: Vec::new(),
    });
    figure(
        "bars-few",
        "Where does the time of a step go, and what would a rather long question look like in its title?",
        body,
    )
}

fn areas(name: &str, scale: Scale) -> Figure {
    let xs: Vec<f64> = if scale == Scale::Linear {
        (0..=128).map(|at| f64::from(at) * 1024.0).collect()
    } else {
        (0..=7).map(|at| 1024.0 * f64::from(1 << at)).collect()
    };
    let flat = |gib: f64| vec![gib * GIB; xs.len()];
    let kv = xs.iter().map(|x| x * 16.0 * 32.0 * 1024.0).collect();
    let body = Body::Areas(Areas {
        x: Axis::of("context (tokens)", Unit::Count).scaled(scale),
        y: Axis::of("memory", Unit::Bytes),
        areas: vec![
            (Series::new("weights", Tone::Weights), flat(14.9)),
            (Series::new("activations", Tone::Activations), flat(0.6)),
            (Series::new("graphs", Tone::Graphs), flat(0.3)),
            (Series::new("KV cache", Tone::Kv), kv),
        ],
        limits: vec![Limit::new("card", 47.1 * GIB)],
        marks: vec![Limit::new("KV outgrows weights", 30_515.0), Limit::new("the card is full", 64_000.0)],
        xs,
    });
    figure(name, "How does memory grow with context?", body)
}

fn areas_one() -> Figure {
    let body = Body::Areas(Areas {
        x: Axis::of("batch", Unit::Count),
        y: Axis::of("memory", Unit::Bytes),
        xs: vec![8.0],
        areas: vec![(Series::new("weights", Tone::Weights), vec![3e9])],
        limits: Vec::new(),
        marks: Vec::new(),
    });
    figure("areas-one", "How does memory grow with one batch?", body)
}

fn heat(name: &str, columns: usize, rows: usize) -> Figure {
    let cells = (0..rows).map(|row| {
        let cells = (0..columns).map(|column| {
            let used = (column + row + 2) as f64 / (columns + rows) as f64;
            let feasible = used < 0.72;
            let text = if feasible { format!("{:.1}", used * 80.0) } else { format!("{:.0}", used * 80.0) };
            Cell { shade: Some(used), text, feasible }
        });
        cells.collect()
    });
    let body = Body::Heat(Heat {
        x: "context (tokens)".to_owned(),
        columns: (0..columns).map(|at| format!("{}k", 1_u64 << at.min(20))).collect(),
        y: "batch (requests)".to_owned(),
        rows: (0..rows).map(|at| format!("{}", at + 1)).collect(),
        legend: "memory used (GiB)".to_owned(),
        cells: cells.collect(),
        infeasible: "does not fit".to_owned(),
    });
    figure(name, "Which batches and contexts fit on the card?", body)
}

fn line(name: &str, tone: Tone, points: Vec<(f64, f64)>, stroke: Stroke) -> Line {
    Line { series: Series::new(name, tone), points, band: Vec::new(), stroke }
}

fn roofline() -> Figure {
    let roof = |peak: f64| -> Vec<(f64, f64)> {
        [0.25, peak / 3.35e12, 8192.0].into_iter().map(|x: f64| (x, (x * 3.35e12).min(peak))).collect()
    };
    let operators = [
        ("qkv_proj", 16.0),
        ("attention", 7.6),
        ("o_proj", 15.8),
        ("gate_up", 16.2),
        ("down_proj", 16.1),
        ("lm_head", 15.9),
        ("norm", 0.6),
        ("embedding", 0.5),
        ("prefill gate_up", 900.0),
        ("prefill attention", 420.0),
    ];
    let dots = operators.into_iter().enumerate().map(|(at, (name, x))| Dot {
        x,
        y: (x * 3.35e12_f64).min(989e12) * (0.5 + 0.04 * at as f64),
        series: if at < 8 { Series::new("decode", Tone::Nth(1)) } else { Series::new("prefill", Tone::Nth(2)) },
        label: name.to_owned(),
    });
    let body = Body::Plot(Plot {
        x: Axis::of("arithmetic intensity (FLOP/byte)", Unit::Plain).scaled(Scale::Log10),
        y: Axis::of("work done (FLOP/s)", Unit::Plain).scaled(Scale::Log10),
        lines: vec![
            line("bf16 dense 989 T", Tone::Nth(0), roof(989e12), Stroke::Solid),
            line("fp8 dense 1 979 T", Tone::Nth(4), roof(1979e12), Stroke::Dashed),
        ],
        dots: dots.collect(),
        limits: Vec::new(),
        marks: vec![Limit::new("ridge", 295.0)],
    });
    figure("plot-roofline", "Which operators are bound by memory?", body)
}

fn distribution(many: usize) -> Figure {
    let lines = (0..many).map(|at| {
        let shift = 1.0 + at as f64 * 0.6;
        let points = (0..=200).map(|step| {
            let part = f64::from(step) / 200.0;
            (0.05 * shift * (1.0 + part * part * 4.0) / (1.02 - part), part)
        });
        line(&format!("{} requests/s", 4 * (at + 1)), Tone::Nth(at), points.collect(), Stroke::Steps)
    });
    let body = Body::Plot(Plot {
        x: Axis::of("time to first token", Unit::Seconds).scaled(Scale::Log10),
        y: Axis::of("requests", Unit::Share),
        lines: lines.collect(),
        dots: Vec::new(),
        limits: vec![Limit::new("99%", 0.99)],
        marks: vec![Limit::new("target", 2.0)],
    });
    figure(&format!("plot-cdf-{many}"), "How long do requests wait for their first token?", body)
}

fn pareto(many: usize) -> Figure {
    let mut dice = Dice(7);
    let mut dots = Vec::new();
    let mut front = Vec::new();
    for at in 0..many {
        let way = at as f64 / many as f64;
        let (x, y) = (20.0 + 180.0 * way, 9000.0 * (1.0 - way * way) + 500.0);
        if at % (many / 6).max(1) == 0 {
            front.push((x, y));
            let series = Series::new("on the front", Tone::Nth(0));
            dots.push(Dot { x, y, series, label: format!("tp {} · fp8 · batch {}", 1 << (at % 4), at * 8) });
        } else {
            let (x, y) = (x * (0.4 + 0.55 * dice.next()), y * (0.4 + 0.55 * dice.next()));
            dots.push(Dot { x, y, series: Series::new("dominated", Tone::Faint), label: String::new() });
        }
    }
    let body = Body::Plot(Plot {
        x: Axis::of("tokens/s for each user", Unit::Plain),
        y: Axis::of("tokens/s for each GPU", Unit::Plain),
        lines: vec![line("Pareto front", Tone::Nth(0), front, Stroke::Dashed)],
        dots,
        limits: Vec::new(),
        marks: Vec::new(),
    });
    figure(&format!("plot-pareto-{many}"), "What does speed for one user cost?", body)
}

fn share() -> Figure {
    let lines = [1.0, 4.0, 16.0, 64.0].into_iter().enumerate().map(|(at, batch)| {
        let points: Vec<(f64, f64)> = (0..=7)
            .map(|step| {
                let context = 1024.0 * f64::from(1 << step);
                let kv = batch * context * 131_072.0;
                (context, kv / (kv + 16e9))
            })
            .collect();
        let band = points.iter().map(|(x, y)| (*x, y * 0.93, (y * 1.07).min(1.0))).collect();
        Line { series: Series::new(format!("batch {batch}"), Tone::Nth(at)), points, band, stroke: Stroke::Solid }
    });
    let body = Body::Plot(Plot {
        x: Axis::of("context (tokens)", Unit::Count).scaled(Scale::Log2),
        y: Axis::of("KV cache's share of the memory", Unit::Share),
        lines: lines.collect(),
        dots: Vec::new(),
        limits: vec![Limit::new("half", 0.5)],
        marks: Vec::new(),
    });
    figure("plot-share", "When does the KV cache outweigh everything else?", body)
}

fn plot_one() -> Figure {
    let body = Body::Plot(Plot {
        x: Axis::of("batch", Unit::Count),
        y: Axis::of("time of a step", Unit::Seconds),
        lines: Vec::new(),
        dots: vec![Dot { x: 1.0, y: 0.0123, series: Series::new("measured", Tone::Bad), label: "here".to_owned() }],
        limits: Vec::new(),
        marks: Vec::new(),
    });
    figure("plot-one", "How long is one step?", body)
}

fn noisy() -> Figure {
    let mut dice = Dice(3);
    let mut level = 0.5;
    let points = (0..100_000).map(|at| {
        level = (level + (dice.next() - 0.5) * 0.02_f64).clamp(0.0, 1.0);
        (f64::from(at) * 0.01, level)
    });
    let body = Body::Plot(Plot {
        x: Axis::of("time", Unit::Seconds),
        y: Axis::of("occupied", Unit::Share),
        lines: vec![line("occupancy", Tone::Kv, points.collect(), Stroke::Steps)],
        dots: Vec::new(),
        limits: Vec::new(),
        marks: Vec::new(),
    });
    figure("plot-noisy", "How full is the cache over 100 000 steps?", body)
}

fn panels(many: usize) -> Figure {
    let titles = ["KV blocks held", "requests running", "requests waiting", "tokens in a step", "preemptions", "step"];
    let panels = titles.into_iter().take(many).enumerate().map(|(at, title)| {
        let mut dice = Dice(at as u64);
        let mut level = 10.0;
        let top = [10_000.0, 256.0, 90.0, 8192.0, 3.0, 0.05][at];
        let mut course = |scale: f64| -> Vec<(f64, f64)> {
            (0..300)
                .map(|step| {
                    level = (level + (dice.next() - 0.48) * 6.0_f64).clamp(0.0, 100.0);
                    (f64::from(step) * 0.4, level / 100.0 * top * scale)
                })
                .collect()
        };
        let mut lines = vec![line(if many > 2 { "" } else { "static" }, Tone::Nth(0), course(1.0), Stroke::Steps)];
        if many <= 2 {
            lines.push(line("continuous", Tone::Nth(1), course(0.7), Stroke::Steps));
        }
        let (label, unit) = if at == 5 {
            ("time", Unit::Seconds)
        } else {
            (["blocks", "requests", "requests", "tokens", "each second"][at], Unit::Count)
        };
        let limits = if at == 0 { vec![Limit::new("pool", 10_400.0)] } else { Vec::new() };
        Panel {
            title: title.to_owned(),
            plot: Plot {
                x: Axis::of("time", Unit::Seconds),
                y: Axis::of(label, unit),
                lines,
                dots: Vec::new(),
                limits,
                marks: Vec::new(),
            },
        }
    });
    figure(&format!("panels-{many}"), "How did the run go?", Body::Panels(panels.collect()))
}

fn spans(name: &str, many: usize) -> Figure {
    let group = |title: &str, stagger: f64| SpanGroup {
        title: title.to_owned(),
        rows: (0..many)
            .map(|at| {
                let mut dice = Dice(at as u64);
                let from = at as f64 * stagger;
                let (prefill, decode) = (0.3 + dice.next(), 2.0 + dice.next() * 6.0);
                SpanRow {
                    name: format!("request {at}"),
                    spans: vec![
                        Span { from: 0.0, to: from, series: 0 },
                        Span { from, to: from + prefill, series: 1 },
                        Span { from: from + prefill, to: from + prefill + decode, series: 2 },
                        Span { from: from + prefill + decode, to: from + 9.5, series: 3 },
                    ],
                }
            })
            .collect(),
    };
    let body = Body::Spans(Spans {
        x: Axis::of("time", Unit::Seconds),
        series: vec![
            Series::new("waiting", Tone::Faint),
            Series::new("prefill", Tone::Nth(1)),
            Series::new("decode", Tone::Nth(0)),
            Series::new("place held idle", Tone::Bad),
        ],
        groups: vec![group("static batching", 0.9), group("continuous batching", 0.3)],
    });
    figure(name, "Why is continuous batching faster?", body)
}

fn blocks(name: &str, moments: u32, runs: u64) -> Figure {
    let mut dice = Dice(11);
    let all = (0..moments).map(|at| {
        let mut held = vec![Held { blocks: 60.0, holder: Holder::Shared }];
        for request in 0..runs {
            let number = request + u64::from(at / 8);
            let blocks = (1000.0 / runs as f64) * (0.4 + 0.4 * dice.next());
            held.push(Held { blocks, holder: Holder::Request(number) });
        }
        held.push(Held { blocks: 120.0, holder: Holder::Cached });
        Moment { at: f64::from(at) * 0.5, runs: held }
    });
    let body = Body::Blocks(BlockMap {
        x: Axis::of("time", Unit::Seconds),
        y: Axis::of("blocks of 16 tokens", Unit::Count),
        blocks: 1100.0,
        moments: all.collect(),
        end: f64::from(moments) * 0.5,
    });
    figure(name, "Who holds the KV blocks?", body)
}

fn ranges(name: &str, many: usize) -> Figure {
    let rows = (0..many).map(|at| {
        let mut dice = Dice(at as u64 * 77);
        dice.next();
        let middle = (20.0 + 15.0 * dice.next()) * GIB;
        let seen = middle * (0.93 + 0.14 * dice.next());
        Range {
            name: format!("run {at}: KV cache"),
            predicted: (middle * 0.96, middle, middle * 1.04),
            seen: (at % 7 != 6).then_some(seen),
            written: None,
        }
    });
    let body = Body::Ranges(Ranges {
        axis: Axis::of("memory", Unit::Bytes),
        predicted: "planned".to_owned(),
        seen: "logged".to_owned(),
        rows: rows.collect(),
    });
    figure(name, "Was the plan right?", body)
}
