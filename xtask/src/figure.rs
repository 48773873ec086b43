//! How does the README's figure come about? One bar per rank of a launch's ledger, drawn as SVG from the plan's answer.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use plimsoll_api::{Desk, NoFiles, PlanAnswer, PlanRequest};

/// The README's launch.
const COMMAND: &str = "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 --max-model-len 32768";
/// The README's card.
const GPU: &str = "h100-sxm";
/// Size of the figure, and where the bars begin and end.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 690.0;
/// First bar's top, a bar's height, and the step from bar to bar.
const TOP: f64 = 96.0;
const BAR: f64 = 30.0;
const STEP: f64 = 40.0;
/// Bytes of a GiB.
const GIB: f64 = 1_073_741_824.0;

/// Colours of one background. The parts' colours are Okabe's and Ito's, which stay apart for the colour-blind.
struct Theme {
    paper: &'static str,
    ink: &'static str,
    faint: &'static str,
}

const LIGHT: Theme = Theme { paper: "#ffffff", ink: "#1a1a1a", faint: "#595959" };
const DARK: Theme = Theme { paper: "#0d1117", ink: "#f0f6fc", faint: "#a0a8b3" };

/// One part of a bar: what its lines add up to.
struct Part {
    name: &'static str,
    colour: &'static str,
    /// Of words upon it.
    ink: &'static str,
    belongs: fn(&str) -> bool,
}

const PARTS: [Part; 5] = [
    Part { name: "weights", colour: "#0072B2", ink: "#ffffff", belongs: |item| item.starts_with("weights") },
    Part { name: "activations", colour: "#E69F00", ink: "#000000", belongs: |item| item == "activation" },
    Part {
        name: "runtime",
        colour: "#CC79A7",
        ink: "#000000",
        belongs: |item| item.starts_with("runtime") || item == "comms" || item == "context",
    },
    Part { name: "graphs", colour: "#F0E442", ink: "#000000", belongs: |item| item == "graphs" },
    Part { name: "KV cache", colour: "#009E73", ink: "#000000", belongs: |item| item == "kv" },
];

/// Writes ledger.svg and ledger-dark.svg into a folder, or only compares with what lies there.
pub fn run(folder: &Path, check: bool) -> Result<bool> {
    let request =
        PlanRequest { gpu: Some(GPU.to_owned()), command: Some(COMMAND.to_owned()), ..PlanRequest::default() };
    let answer = plimsoll_api::plan(&request, &Desk::new(&NoFiles)).context("the README's launch cannot be planned")?;
    let mut same = true;
    for (name, theme) in [("ledger.svg", LIGHT), ("ledger-dark.svg", DARK)] {
        let (path, svg) = (folder.join(name), draw(&answer, &theme)?);
        if check {
            let stands = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            if stands != svg {
                eprintln!("{} is not what `cargo xtask figure` would draw", path.display());
                same = false;
            }
        } else {
            std::fs::write(&path, svg).with_context(|| path.display().to_string())?;
        }
    }
    Ok(same)
}

/// Draws the figure.
fn draw(answer: &PlanAnswer, theme: &Theme) -> Result<String> {
    ensure!(!answer.ranks.is_empty(), "the plan has no ranks");
    let card = answer.gpu.total_bytes as f64;
    let x = |bytes: f64| LEFT + (RIGHT - LEFT) * bytes / (card * 1.02);
    let bottom = TOP + STEP * answer.ranks.len() as f64;
    let height = bottom + 92.0;
    let mut svg = String::new();
    writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n\
         <title>Where does the memory of each GPU go?</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"{}\"/>",
        theme.paper
    )?;
    let title = format!("Where does the memory of each {} go?", answer.gpu.name);
    text(&mut svg, (16.0, 30.0), "start", (18, "bold"), theme.ink, &title)?;
    let budget = format!("{} tokens of KV cache", grouped(answer.kv.tokens));
    let subtitle = format!("{}, vLLM {}, tp {}: {budget}", answer.model.id, answer.engine.version, answer.parallel.tp);
    text(&mut svg, (16.0, 52.0), "start", (14, "normal"), theme.faint, &subtitle)?;
    axis(&mut svg, theme, card, bottom, &x)?;
    for (at, rank) in answer.ranks.iter().enumerate() {
        let y = TOP + STEP * at as f64;
        let name = format!("rank {}", rank.tp_rank);
        text(&mut svg, (LEFT - 8.0, y + 20.0), "end", (14, "normal"), theme.ink, &name)?;
        let mut from = 0.0;
        for part in &PARTS {
            let lines = rank.entries.iter().filter(|entry| (part.belongs)(&entry.item));
            let bytes = lines.map(|entry| entry.bytes).sum::<u64>() as f64;
            let (left, right) = (x(from), x(from + bytes));
            writeln!(
                svg,
                "<rect x=\"{left:.2}\" y=\"{y}\" width=\"{:.2}\" height=\"{BAR}\" fill=\"{}\" stroke=\"{}\" \
                 stroke-width=\"1\"/>",
                right - left,
                part.colour,
                theme.paper
            )?;
            if right - left > 120.0 {
                let label = format!("{} {:.1} GiB", part.name, bytes / GIB);
                let at = ((left + right) / 2.0, y + 20.0);
                text(&mut svg, at, "middle", (14, "bold"), part.ink, &label)?;
            } else if at == 0 && bytes > 0.0 {
                callout(&mut svg, theme, part, bytes, (left + right) / 2.0)?;
            }
            from += bytes;
        }
    }
    limits(&mut svg, theme, answer, bottom, &x)?;
    caption(&mut svg, theme, answer, bottom)?;
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// The label of a part that is too narrow for one: above the first bar, the three side by side.
fn callout(svg: &mut String, theme: &Theme, part: &Part, bytes: f64, x: f64) -> Result<()> {
    let (shift, anchor) = match part.name {
        "activations" => (-16.0, "end"),
        "graphs" => (16.0, "start"),
        _ => (0.0, "middle"),
    };
    let label = format!("{} {:.1}", part.name, bytes / GIB);
    writeln!(
        svg,
        "<path d=\"M{x:.2} {TOP} L{:.2} {}\" stroke=\"{}\" stroke-width=\"1\" fill=\"none\"/>",
        x + shift,
        TOP - 8.0,
        theme.faint
    )?;
    let shift = if anchor == "middle" { shift } else { shift * 2.2 };
    text(svg, (x + shift, TOP - 13.0), anchor, (13, "normal"), theme.ink, &label)
}

/// The axis in GiB, from zero.
fn axis(svg: &mut String, theme: &Theme, card: f64, bottom: f64, x: &dyn Fn(f64) -> f64) -> Result<()> {
    let y = bottom + 2.0;
    writeln!(svg, "<path d=\"M{LEFT} {y} H{RIGHT}\" stroke=\"{}\" stroke-width=\"1\"/>", theme.faint)?;
    for gib in (0..).step_by(20).take_while(|gib| f64::from(*gib) * GIB < card - 4.0 * GIB) {
        let at = x(f64::from(gib) * GIB);
        writeln!(svg, "<path d=\"M{at:.2} {y} v5\" stroke=\"{}\" stroke-width=\"1\"/>", theme.faint)?;
        let label = if gib == 0 { "0 GiB".to_owned() } else { gib.to_string() };
        text(svg, (at, y + 19.0), "middle", (13, "normal"), theme.faint, &label)?;
    }
    Ok(())
}

/// The engine's own limit and the card's end, as lines with their names at their ends.
fn limits(svg: &mut String, theme: &Theme, answer: &PlanAnswer, bottom: f64, x: &dyn Fn(f64) -> f64) -> Result<()> {
    let limit = answer.ranks.iter().map(|rank| rank.limit_bytes).min().unwrap_or(0) as f64;
    let card = answer.gpu.total_bytes as f64;
    for (bytes, dash, name, anchor, shift) in
        [(limit, "5 3", "vLLM's limit", "end", 6.0), (card, "none", "card", "end", 4.0)]
    {
        let at = x(bytes);
        writeln!(
            svg,
            "<path d=\"M{at:.2} {} V{}\" stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>",
            TOP - 6.0,
            bottom + 6.0,
            theme.ink
        )?;
        let label = format!("{name} {:.1}", bytes / GIB);
        let y = if name == "card" { bottom + 21.0 } else { TOP - 13.0 };
        text(svg, (at + shift, y), anchor, (13, "bold"), theme.ink, &label)?;
    }
    Ok(())
}

/// What the figure rests on.
fn caption(svg: &mut String, theme: &Theme, answer: &PlanAnswer, bottom: f64) -> Result<()> {
    let limit = answer.ranks.iter().map(|rank| rank.limit_bytes).min().unwrap_or(0) as f64;
    let share = limit / answer.gpu.total_bytes as f64;
    let first = format!(
        "Assumed: the default share of {share:.2}, {}-token requests, nothing else on the GPU. KV cache",
        grouped(answer.max_model_len)
    );
    let (low, high) = (answer.kv.budget_low as f64 / GIB, answer.kv.budget_high as f64 / GIB);
    let second =
        format!("{low:.1} to {high:.1} GiB in nine of ten launches; weights are exact. Sizes in GiB (2³⁰ bytes).");
    text(svg, (16.0, bottom + 56.0), "start", (13, "normal"), theme.faint, &first)?;
    text(svg, (16.0, bottom + 74.0), "start", (13, "normal"), theme.faint, &second)
}

/// Writes one line of text.
fn text(
    svg: &mut String,
    (x, y): (f64, f64),
    anchor: &str,
    (size, weight): (u32, &str),
    colour: &str,
    words: &str,
) -> Result<()> {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        svg,
        "<text x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\" font-size=\"{size}\" font-weight=\"{weight}\" \
         fill=\"{colour}\">{words}</text>"
    )?;
    Ok(())
}

/// A whole number with its digits in groups.
fn grouped(number: u64) -> String {
    plimsoll_units::Tokens::new(number).to_string()
}
