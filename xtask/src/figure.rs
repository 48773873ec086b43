//! How does the README's figure come about? One bar per rank of a launch's ledger, drawn as SVG from the plan's answer.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use plimsoll_api::{Desk, NoFiles, PlanAnswer, PlanRequest};
use plimsoll_report::figure::{Axis, Bar, Bars, Body, Figure, Limit, Part, Series, Theme, Tone, Unit, svg};

/// The README's launch.
const COMMAND: &str = "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 --max-model-len 32768";
/// The README's card.
const GPU: &str = "h100-sxm";
/// Bytes of a GiB.
const GIB: f64 = 1_073_741_824.0;

/// The parts of a bar: their names, their colours, and which lines of the ledger they add up.
const PARTS: [(&str, Tone, fn(&str) -> bool); 5] = [
    ("weights", Tone::Weights, |item| item.starts_with("weights")),
    ("activations", Tone::Activations, |item| item == "activation"),
    ("runtime", Tone::Runtime, |item| item.starts_with("runtime") || item == "comms" || item == "context"),
    ("graphs", Tone::Graphs, |item| item == "graphs"),
    ("KV cache", Tone::Kv, |item| item == "kv"),
];

/// Writes ledger.svg and ledger-dark.svg into a folder, or only compares with what lies there.
pub fn run(folder: &Path, check: bool) -> Result<bool> {
    let request =
        PlanRequest { gpu: Some(GPU.to_owned()), command: Some(COMMAND.to_owned()), ..PlanRequest::default() };
    let answer = plimsoll_api::plan(&request, &Desk::new(&NoFiles)).context("the README's launch cannot be planned")?;
    let figure = ledger(&answer)?;
    let mut same = true;
    for (name, theme) in [("ledger.svg", Theme::Light), ("ledger-dark.svg", Theme::Dark)] {
        let (path, svg) = (folder.join(name), svg(&figure, theme)?);
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

/// The plan as a figure: a bar for each rank.
fn ledger(answer: &PlanAnswer) -> Result<Figure> {
    ensure!(!answer.ranks.is_empty(), "the plan has no ranks");
    let (card, limit) = (answer.gpu.total_bytes, answer.ranks.iter().map(|rank| rank.limit_bytes).min().unwrap_or(0));
    let rows = answer.ranks.iter().map(|rank| {
        let parts = PARTS.iter().enumerate().map(|(at, (_, _, belongs))| {
            let lines = rank.entries.iter().filter(|entry| belongs(&entry.item));
            Part::new(at, lines.map(|entry| entry.bytes).sum::<u64>() as f64)
        });
        Bar { name: format!("rank {}", rank.tp_rank), parts: parts.collect(), note: None }
    });
    let (low, high) = (answer.kv.budget_low as f64 / GIB, answer.kv.budget_high as f64 / GIB);
    Ok(Figure {
        name: "ledger".to_owned(),
        title: format!("Where does the memory of each {} go?", answer.gpu.name),
        subtitle: format!(
            "{}, vLLM {}, tp {}: {} tokens of KV cache",
            answer.model.id,
            answer.engine.version,
            answer.parallel.tp,
            grouped(answer.kv.tokens)
        ),
        caption: format!(
            "Assumed: the default share of {:.2}, {}-token requests, nothing else on the GPU. KV cache {low:.1} to \
             {high:.1} GiB in nine of ten launches; weights are exact. Sizes in GiB (2³⁰ bytes).",
            limit as f64 / card as f64,
            grouped(answer.max_model_len)
        ),
        body: Body::Bars(Bars {
            axis: Axis::of("memory", Unit::Bytes),
            series: PARTS.iter().map(|(name, tone, _)| Series::new(*name, *tone)).collect(),
            rows: rows.collect(),
            limits: vec![Limit::new("vLLM's limit", limit as f64), Limit::new("card", card as f64)],
        }),
    })
}

/// A whole number with its digits in groups.
fn grouped(number: u64) -> String {
    plimsoll_units::Tokens::new(number).to_string()
}
