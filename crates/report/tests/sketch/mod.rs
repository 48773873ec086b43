//! A figure's data as text that can be read in a snapshot.

use plimsoll_report::figure::{Axis, Body, Figure, Limit, Plot, Unit};

/// Three digits, with the powers of ten that go with them.
fn number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.3e}") }
}

fn axis(axis: &Axis) -> String {
    let unit = match axis.unit {
        Unit::Bytes => "bytes",
        Unit::Seconds => "seconds",
        Unit::Count => "count",
        Unit::Share => "share",
        Unit::Plain => "plain",
    };
    format!("{} [{unit}, {:?}]", axis.label, axis.scale)
}

fn limits(name: &str, limits: &[Limit]) -> String {
    limits.iter().map(|limit| format!("{name} {} at {}\n", limit.name, number(limit.at))).collect()
}

fn points(points: &[(f64, f64)]) -> String {
    let shown = points.iter().take(6).map(|(x, y)| format!("({}, {})", number(*x), number(*y)));
    let more = if points.len() > 6 { format!(" … {} points", points.len()) } else { String::new() };
    format!("{}{more}", shown.collect::<Vec<_>>().join(" "))
}

fn plot(plot: &Plot) -> String {
    let mut out = format!("x {}\ny {}\n", axis(&plot.x), axis(&plot.y));
    for line in &plot.lines {
        let Some(name) = (!line.series.name.is_empty()).then_some(&line.series.name) else { continue };
        out.push_str(&format!("line {name} {:?} {:?}: {}\n", line.series.tone, line.stroke, points(&line.points)));
    }
    for dot in plot.dots.iter().take(24) {
        let place = points(&[(dot.x, dot.y)]);
        out.push_str(&format!("dot {} {:?} `{}` {place}\n", dot.series.name, dot.series.tone, dot.label));
    }
    if plot.dots.len() > 24 {
        out.push_str(&format!("… {} dots\n", plot.dots.len()));
    }
    format!("{out}{}{}", limits("limit", &plot.limits), limits("mark", &plot.marks))
}

/// Shows what a figure holds.
pub fn sketch(figure: &Figure) -> String {
    let Figure { name, title, subtitle, caption, body } = figure;
    let head = format!("# {name}: {title}\n{subtitle}\n{caption}\n");
    let body = match body {
        Body::Bars(bars) => {
            let series = |at: usize| bars.series.get(at).map_or("?", |series| series.name.as_str());
            let rows = bars.rows.iter().map(|bar| {
                let part =
                    |part: &plimsoll_report::figure::Part| format!("{} {}", series(part.series), number(part.value));
                let parts = bar.parts.iter().map(part).collect::<Vec<_>>().join(" | ");
                format!("{}: {parts} -> {}\n", bar.name, bar.note.as_deref().unwrap_or("(sum)"))
            });
            format!("{}\n{}{}", axis(&bars.axis), rows.collect::<String>(), limits("limit", &bars.limits))
        }
        Body::Plot(body) => plot(body),
        Body::Panels(panels) => {
            panels.iter().map(|panel| format!("## {}\n{}", panel.title, plot(&panel.plot))).collect()
        }
        Body::Spans(spans) => {
            let mut out = format!("{}\n", axis(&spans.x));
            for group in &spans.groups {
                out.push_str(&format!("## {}\n", group.title));
                for row in &group.rows {
                    let span = |span: &plimsoll_report::figure::Span| {
                        format!("{} {}..{}", spans.series[span.series].name, number(span.from), number(span.to))
                    };
                    let all = row.spans.iter().map(span).collect::<Vec<_>>().join(" | ");
                    out.push_str(&format!("{}: {all}\n", row.name));
                }
            }
            out
        }
        Body::Blocks(map) => {
            let mut out =
                format!("x {}\ny {}\nof {} until {}\n", axis(&map.x), axis(&map.y), map.blocks, number(map.end));
            for moment in map.moments.iter().take(8) {
                let run = |run: &plimsoll_report::figure::Held| format!("{:?} {}", run.holder, run.blocks);
                let runs = moment.runs.iter().map(run).collect::<Vec<_>>().join(" | ");
                out.push_str(&format!("{}: {runs}\n", number(moment.at)));
            }
            format!("{out}{} moments\n", map.moments.len())
        }
        Body::Ranges(ranges) => {
            let mut out = format!("{} · {} and {}\n", axis(&ranges.axis), ranges.predicted, ranges.seen);
            for row in &ranges.rows {
                let (low, middle, high) = row.predicted;
                let seen = row.seen.map_or("—".to_owned(), number);
                out.push_str(&format!(
                    "{}: {} ({} … {}) {seen}\n",
                    row.name,
                    number(middle),
                    number(low),
                    number(high)
                ));
            }
            out
        }
        Body::Areas(_) | Body::Heat(_) => "(areas or cells)\n".to_owned(),
    };
    head + &body
}

/// All of an answer's figures.
pub fn sketches(figures: &[Figure]) -> String {
    figures.iter().map(sketch).collect::<Vec<_>>().join("\n")
}
