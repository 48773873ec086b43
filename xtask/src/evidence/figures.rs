//! How do errors lie? Figures of the accuracy page: every launch a dot, medians as ticks; and intervals, promised and
//! measured. Plain SVG with two decimals, so that the same launches give the same bytes.

use std::fmt::Write;

use super::fit::quantile;

const WIDTH: f64 = 720.0;
const INK: &str = "#1a1a1a";
const FAINT: &str = "#595959";
/// Colours that stay apart for the colour-blind (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
/// Least and most of the logarithmic axis, percent.
const LEAST: f64 = 0.01;
const MOST: f64 = 100.0;

/// One row of dots.
pub struct Strip {
    /// Its name.
    pub name: String,
    /// Absolute errors, percent.
    pub errors: Vec<f64>,
    /// Which colour.
    pub colour: usize,
}

/// Draws rows of absolute errors on a logarithmic axis.
pub fn strips(title: &str, caption: &str, rows: &[Strip]) -> String {
    let (left, right, top, step) = (232.0, 640.0, 64.0, 24.0);
    let bottom = top + step * rows.len() as f64;
    let mut svg = opened(title, bottom + 74.0);
    let x = |error: f64| left + (right - left) * (error.clamp(LEAST, MOST) / LEAST).log10() / (MOST / LEAST).log10();
    for (tick, name) in [(0.01, "≤ 0.01%"), (0.1, "0.1%"), (1.0, "1%"), (10.0, "10%"), (100.0, "≥ 100%")] {
        let at = x(tick);
        let _ = writeln!(svg, "<path d=\"M{at:.2} {:.2} V{bottom:.2}\" stroke=\"#dddddd\"/>", top - 6.0);
        text(&mut svg, (at, bottom + 17.0), "middle", 12, FAINT, name);
    }
    text(&mut svg, (right + 8.0, top - 12.0), "start", 12, FAINT, "median");
    for (at, row) in rows.iter().enumerate() {
        let y = top + step * (at as f64 + 0.5);
        let name: String = row.name.chars().take(34).collect();
        text(&mut svg, (left - 10.0, y + 4.0), "end", 12, INK, &format!("{name} ({})", row.errors.len()));
        let colour = COLOURS[row.colour % COLOURS.len()];
        for (nth, error) in row.errors.iter().enumerate() {
            // Dots that would lie on each other step aside, in the order of the rows.
            let aside = f64::from(u32::try_from(nth * 7 % 11).unwrap_or(0)) - 5.0;
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.2}\" cy=\"{:.2}\" r=\"2.5\" fill=\"{colour}\" fill-opacity=\"0.55\"/>",
                x(*error),
                y + aside * 1.3
            );
        }
        let median = quantile(&mut row.errors.clone(), 0.5);
        if median.is_finite() {
            let at = x(median);
            let _ = writeln!(svg, "<path d=\"M{at:.2} {:.2} v18\" stroke=\"{INK}\" stroke-width=\"2.5\"/>", y - 9.0);
            text(&mut svg, (right + 8.0, y + 4.0), "start", 12, INK, &format!("{}%", super::sheet::number(median)));
        }
    }
    closed(svg, caption, bottom + 42.0)
}

/// What an engine's intervals promise and hold: shares of launches.
pub struct Held {
    /// The engine.
    pub name: String,
    /// Promised and measured shares, rising.
    pub shares: Vec<(f64, f64)>,
}

/// Draws promised against measured shares.
pub fn coverage(title: &str, caption: &str, engines: &[Held]) -> String {
    let (left, right, top, bottom) = (70.0, 480.0, 64.0, 400.0);
    let mut svg = opened(title, bottom + 96.0);
    let x = |share: f64| left + (right - left) * (share - 0.4) / 0.6;
    let y = |share: f64| bottom - (bottom - top) * (share - 0.4) / 0.6;
    let _ = writeln!(
        svg,
        "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"#eeeeee\"/>",
        x(0.88),
        y(0.95),
        x(0.92) - x(0.88),
        y(0.85) - y(0.95)
    );
    for tick in [40, 50, 60, 70, 80, 90, 100] {
        let share = f64::from(tick) / 100.0;
        let _ = writeln!(svg, "<path d=\"M{left:.2} {:.2} H{right:.2}\" stroke=\"#e5e5e5\"/>", y(share));
        text(&mut svg, (left - 8.0, y(share) + 4.0), "end", 12, FAINT, &format!("{tick}%"));
        text(&mut svg, (x(share), bottom + 18.0), "middle", 12, FAINT, &format!("{tick}%"));
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{:.2} {:.2} L{:.2} {:.2}\" stroke=\"{FAINT}\" stroke-dasharray=\"5 4\"/>",
        x(0.4),
        y(0.4),
        x(1.0),
        y(1.0)
    );
    for (at, engine) in engines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let points: Vec<String> = engine
            .shares
            .iter()
            .map(|(nominal, measured)| format!("{:.2},{:.2}", x(*nominal), y(measured.max(0.4))))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
            points.join(" ")
        );
        for point in &points {
            let (cx, cy) = point.split_once(',').unwrap_or(("0", "0"));
            let _ = writeln!(svg, "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
        let y = top + 14.0 + 24.0 * at as f64;
        let _ = writeln!(svg, "<path d=\"M510 {:.2} h24\" stroke=\"{colour}\" stroke-width=\"3\"/>", y - 4.0);
        text(&mut svg, (542.0, y), "start", 13, INK, &engine.name);
    }
    text(&mut svg, (f64::midpoint(left, right), bottom + 40.0), "middle", 13, INK, "share of launches promised");
    text(&mut svg, (16.0, top - 10.0), "start", 13, INK, "share held");
    closed(svg, caption, bottom + 66.0)
}

fn opened(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n\
         <title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let _ =
        writeln!(svg, "<text x=\"16\" y=\"28\" font-size=\"18\" font-weight=\"bold\" fill=\"{INK}\">{title}</text>");
    svg
}

fn closed(mut svg: String, caption: &str, y: f64) -> String {
    for (at, line) in caption.lines().enumerate() {
        text(&mut svg, (16.0, y + 17.0 * at as f64), "start", 13, FAINT, line);
    }
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, colour: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_closed_and_stays_the_same() {
        let rows = || [Strip { name: "a & b".to_owned(), errors: vec![0.0, 2.0, 300.0], colour: 7 }];
        let svg = strips("How far?", "one\ntwo", &rows());
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("a &amp; b (3)"));
        assert_eq!(svg, strips("How far?", "one\ntwo", &rows()));
        let held = [Held { name: "engine".to_owned(), shares: vec![(0.5, 0.3), (0.9, 0.88)] }];
        assert!(coverage("Held?", "", &held).contains("<polyline"));
    }
}
