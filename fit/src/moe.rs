//! How long did routed experts take? Tables of how much longer than the card's peaks allow, by card, engine, format and
//! kernel.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use plimsoll_cost::hardware::{Given, Hardware};
use plimsoll_cost::measured::moe::{Axis, Case, Kind, Load};
use plimsoll_cost::measured::{Backend, HOMES, grid};
use plimsoll_cost::operators::SKEW;
use plimsoll_cost::{Format, Kernel};
use plimsoll_facts::catalogue;

use crate::held::held_out;
use crate::lattice::{self, Sample};
use crate::stats::Line;
use crate::{Fitted, rows};

/// One measured time, with what the model says of it.
struct Row {
    shape: String,
    model: String,
    /// What runs, and what the query would take to run: they differ where a shape does not tell the kernel.
    kind: Kind,
    asked: Kind,
    case: Case,
    load: Load,
    ideal: f64,
    seconds: f64,
}

impl Row {
    fn sample(&self, axes: &[Axis]) -> Sample {
        Sample { place: self.case.place(&self.load, axes), value: libm::log(self.seconds / self.ideal) }
    }
}

/// Tables of a card, an engine and a format: rows by kind.
type Groups = BTreeMap<(usize, Backend, String), Vec<Row>>;

/// Points of an axis, before those far outside the measurements are dropped.
fn points(axis: Axis) -> &'static [f64] {
    match axis {
        Axis::Rows => &[1.0, 2.0, 4.0, 8.0, 16.0, 48.0, 256.0, 4096.0],
        Axis::Experts => &[1.0, 4.0, 16.0, 64.0, 256.0],
        Axis::Inter => &[16.0, 128.0, 256.0, 512.0, 1536.0, 8192.0],
        Axis::Hidden => &[2048.0, 4096.0, 8192.0],
        Axis::Spread => &[1.0, 2.0, 64.0],
    }
}

/// Which axes a table has: SGLang hands a rank of spread experts only its own tokens, so that its times differ by the
/// ranks; for others the width of the stream matters more.
fn axes(backend: Backend, kind: Kind) -> [Axis; 4] {
    let last = if backend == Backend::Sglang && kind != Kind::Plain { Axis::Spread } else { Axis::Hidden };
    [Axis::Rows, Axis::Experts, Axis::Inter, last]
}

/// Fits the family.
///
/// # Errors
/// Where a file of measurements cannot be read or names what is not known.
pub fn fit(perf: &Path) -> Result<Fitted> {
    let mut table = String::from(
        "# Routed experts: thousandths of ln(measured / modelled), see measured/moe.rs. Fitted by `cargo xtask fit moe` from\n\
         # aiconfigurator (Apache-2.0, commit 095f58a51c4c) and, for rtx-pro-6000, LLMServingSim (MIT, commit 5daddb21a545).\n",
    );
    let mut errors = Vec::new();
    for ((card, backend, format), rows) in read(perf)? {
        let label = |kind: Kind, what: &str| format!("{format} {}{what}", kind.name());
        let line = |kind: String, fitted, ratios| Line {
            card: HOMES[card].card.to_owned(),
            backend: backend.name().to_owned(),
            kind,
            fitted,
            ratios,
        };
        for kind in Kind::ALL {
            let axes = axes(backend, kind);
            let own: Vec<&Row> = rows.iter().filter(|row| row.kind == kind).collect();
            if own.is_empty() {
                continue;
            }
            grid::write(
                &mut table,
                &format!("{} {} {format} {}", HOMES[card].card, backend.name(), kind.name()),
                &fitted(&axes, &own),
            );
            let (shapes, count) = left_out(&rows, kind, &axes, &|row| held_out(&row.shape));
            if shapes.is_empty() {
                continue;
            }
            errors.push(line(label(kind, ""), count, shapes.iter().map(|(_, ratio)| *ratio).collect()));
            let few = shapes.iter().filter(|(tokens, _)| *tokens <= 256.0).map(|(_, ratio)| *ratio).collect();
            errors.push(line(label(kind, " <=256"), count, few));
            let mut models: Vec<&str> = own.iter().map(|row| row.model.as_str()).collect();
            models.sort_unstable();
            models.dedup();
            let mut new = Vec::new();
            for part in 0..FOLDS.min(models.len()) {
                let left: Vec<&str> = models.iter().copied().skip(part).step_by(FOLDS).collect();
                if left.len() < models.len() {
                    new.extend(left_out(&rows, kind, &axes, &|row| left.contains(&row.model.as_str())).0);
                }
            }
            if !new.is_empty() {
                errors.push(line(label(kind, " new"), own.len(), new.iter().map(|(_, ratio)| *ratio).collect()));
            }
        }
    }
    let notes = vec![
        "a shape is hidden, inter, topk, experts, tp and ep; `<=256`: the left-out ones at up to 256 tokens; `new`: models \
         (hidden, inter, topk, experts) left out whole, a third at a time"
            .to_owned(),
        "no rows of the fused DeepSeek V4 kernel with its own communication (dsv4_megamoe) are in it".to_owned(),
    ];
    Ok(Fitted { table, errors, notes })
}

/// Parts into which models are dealt to be left out.
const FOLDS: usize = 3;

/// Fits one table.
fn fitted(axes: &[Axis; 4], rows: &[&Row]) -> grid::Grid {
    let samples: Vec<Sample> = rows.iter().map(|row| row.sample(axes)).collect();
    let kept = axes.iter().enumerate().map(|(at, axis)| {
        let least = samples.iter().map(|sample| sample.place[at]).fold(f64::MAX, f64::min);
        let most = samples.iter().map(|sample| sample.place[at]).fold(0.0, f64::max);
        (axis.name().to_owned(), inside(points(*axis), least, most))
    });
    lattice::fit(kept.collect(), &samples)
}

/// The points between two values and the next beyond each; one where all measurements agree.
fn inside(points: &[f64], least: f64, most: f64) -> Vec<f64> {
    if most <= least * 1.001 {
        return vec![least.round().max(1.0)];
    }
    let first = points.partition_point(|point| *point <= least).saturating_sub(1);
    let end = (points.partition_point(|point| *point < most) + 1).min(points.len());
    points[first..end.max(first + 1)].to_vec()
}

/// Predicted over measured of the rows left out, with their tokens, and the rows fitted.
fn left_out(all: &[Row], kind: Kind, axes: &[Axis; 4], left: &dyn Fn(&Row) -> bool) -> (Vec<(f64, f64)>, usize) {
    let rest: Vec<&Row> = all.iter().filter(|row| row.kind == kind && !left(row)).collect();
    if rest.is_empty() {
        return (Vec::new(), 0);
    }
    let table = fitted(axes, &rest);
    let asked = all.iter().filter(|row| row.asked == kind && left(row));
    let ratios = asked.map(|row| {
        let predicted = row.ideal * libm::exp(table.at(&row.case.place(&row.load, axes)).0);
        (row.case.tokens, predicted / row.seconds)
    });
    (ratios.collect(), rest.len())
}

/// Reads all measurements.
fn read(perf: &Path) -> Result<Groups> {
    let mut groups = Groups::new();
    for file in rows::list(perf, "moe")?.into_iter().filter(|file| file.file == "moe_perf") {
        let backend = Backend::find(&file.backend).with_context(|| format!("no engine {}", file.backend))?;
        let card = HOMES.iter().position(|home| home.card == file.card).with_context(|| file.card.to_owned())?;
        let hardware = hardware(card)?;
        let table = rows::parquet(&file.path)?;
        let number = |name: &str| table.number(name);
        let (tokens, hidden, inter) = (number("num_tokens")?, number("hidden_size")?, number("inter_size")?);
        let (topk, experts) = (number("topk")?, number("num_experts")?);
        let (tp, ep, latency) = (number("moe_tp_size")?, number("moe_ep_size")?, number("latency")?);
        let (formats, sources) = (table.text("moe_dtype")?, table.text("kernel_source")?);
        let skews = table.text("distribution")?;
        // Of rows that were measured twice the faster counts.
        let mut seen: BTreeMap<(&str, &str, [u64; 7]), f64> = BTreeMap::new();
        for at in 0..table.count {
            let key = [tokens, hidden, inter, topk, experts, tp, ep].map(|column| column[at] as u64);
            let least = seen.entry((&formats[at], &skews[at], key)).or_insert(f64::MAX);
            *least = least.min(latency[at] * 1e-3);
        }
        for at in 0..table.count {
            let key = [tokens, hidden, inter, topk, experts, tp, ep].map(|column| column[at] as u64);
            let Some(seconds) = seen.remove(&(&formats[at], &skews[at], key)) else { continue };
            let [tokens, hidden, inter, topk, experts, tp, ep] = key;
            let format = format(&formats[at]).with_context(|| format!("no format {}", formats[at]))?;
            let kernel = Kernel::Moe {
                tokens: tokens as f64,
                hidden,
                inter,
                topk: topk as u32,
                experts: experts as u32,
                tp: tp as u32,
                ep: ep as u32,
                format,
                gated: gated(inter, topk),
                skew: skew(&skews[at])?,
            };
            let case = Case::of(&kernel).with_context(|| format!("{kernel:?}"))?;
            let model = format!("{hidden} {inter} {topk} {experts}");
            let asked = case.kind(file.card, backend);
            let row = row(&hardware, case, true, seconds, (format!("{model} {tp} {ep}"), model));
            let kind = kind(asked, file.card, backend, format, &sources[at]);
            groups.entry((card, backend, format.name().into_owned())).or_default().push(Row { kind, asked, ..row });
        }
    }
    simulated(perf, &mut groups)?;
    Ok(groups)
}

/// The rows of LLMServingSim: vLLM's layer of Qwen3-30B-A3B on RTX PRO 6000, by tokens and experts touched.
fn simulated(perf: &Path, groups: &mut Groups) -> Result<()> {
    let path = perf.join("llmservingsim/RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507/bf16/tp1/moe.csv");
    if !path.is_file() {
        return Ok(());
    }
    let card = HOMES.iter().position(|home| home.card == "rtx-pro-6000").context("rtx-pro-6000")?;
    let hardware = hardware(card)?;
    let table = rows::csv(&path)?;
    let (tokens, experts) = (table.number("tokens")?, table.number("activated_experts")?);
    let time = table.number("time_us")?;
    let rows = (0..table.count).map(|at| {
        // hidden_size, moe_intermediate_size, num_experts_per_tok and num_experts of that model's config.json.
        let kernel = Kernel::Moe {
            tokens: tokens[at],
            hidden: 2048,
            inter: 768,
            topk: 8,
            experts: 128,
            tp: 1,
            ep: 1,
            format: Format::Bf16,
            gated: true,
            skew: SKEW,
        };
        let case = Case::of(&kernel).context("a case")?;
        let load = Load { experts: experts[at], rows: tokens[at] * case.topk };
        let shape = (format!("{} {}", tokens[at], experts[at]), "Qwen3-30B-A3B".to_owned());
        // In the engine's own loop, other layers' weights between: nothing is left in the cache.
        let ideal = case.ideal(&hardware, &load, false);
        Ok(Row { load, ideal, ..row(&hardware, case, false, time[at] * 1e-6, shape) })
    });
    let rows: Result<Vec<Row>> = rows.collect();
    groups.entry((card, Backend::Vllm, Format::Bf16.name().into_owned())).or_default().extend(rows?);
    Ok(())
}

/// A row; `warm`: the layer ran just before, so that its weights may lie in a cache.
fn row(hardware: &Hardware, case: Case, warm: bool, seconds: f64, (shape, model): (String, String)) -> Row {
    let load = case.load();
    let ideal = case.ideal(hardware, &load, warm);
    Row { shape, model, kind: Kind::Gated, asked: Kind::Gated, case, load, ideal, seconds }
}

/// The card's rates, as a query of that card would have them.
fn hardware(card: usize) -> Result<Hardware> {
    let gpu = catalogue::gpu(HOMES[card].name)?;
    Ok(Hardware::new(Some(&gpu), &Given::default())?)
}

/// The format of a measurement.
fn format(name: &str) -> Option<Format> {
    Some(match name {
        "bfloat16" => Format::Bf16,
        "fp8" => Format::Fp8,
        "fp8_block" => Format::Fp8Block,
        "int4_wo" => Format::Int4Weight,
        "nvfp4" => Format::Nvfp4,
        "w4a16_mxfp4" => Format::Mxfp4Weight,
        "w4a8_mxfp4_mxfp8" => Format::Mxfp4,
        _ => return None,
    })
}

fn skew(name: &str) -> Result<f64> {
    match name.strip_prefix("power_law_") {
        Some(exponent) => exponent.parse().with_context(|| format!("no exponent: {name}")),
        None if name == "balanced" => Ok(0.0),
        None => anyhow::bail!("no distribution {name}"),
    }
}

/// Whether the model of these sizes has gates: those of the Nemotron H family (top 6 of 1856 wide, top 22) have none, as
/// TensorRT-LLM's rows say (`moe_torch_flow_nongated`) and their configurations (`mlp_hidden_act` `relu2`).
fn gated(inter: u64, topk: u64) -> bool {
    topk != 22 && (inter, topk) != (1856, 6)
}

/// Which kernel was measured: as its name says where a shape does not tell.
fn kind(asked: Kind, card: &str, backend: Backend, format: Format, source: &str) -> Kind {
    let split = card == "b200-sxm" && backend == Backend::Sglang && matches!(format, Format::Bf16 | Format::Fp8Block);
    match asked {
        Kind::Gated | Kind::Triton if split => {
            if source.contains("triton_moe") || source.ends_with("moe_triton") {
                Kind::Triton
            } else {
                Kind::Gated
            }
        }
        Kind::Gated | Kind::Triton | Kind::Plain | Kind::Spread | Kind::Marlin => asked,
    }
}
