//! Fits grouped attention: per card, engine, phase and width of the cache one table of corrections to the simple model of
//! `plimsoll_cost::measured::attention`, and one for windows.

use std::path::Path;

use anyhow::{Context, Result};
use plimsoll_cost::measured::Backend;
use plimsoll_cost::measured::attention::grouped::{Card, Grouped, Phase, Style};
use plimsoll_cost::measured::attention::mixed;
use plimsoll_cost::measured::attention::{HUNDREDTHS, cache_name, style};
use plimsoll_cost::measured::grid::{self, Grid};

use crate::held::held_out;
use crate::rows::{self, Measured, Rows};
use crate::surface::{Row, draw};
use crate::tables::{self, head, points};
use crate::{Fitted, card, stats};

/// One measurement.
#[derive(Clone, Debug)]
struct Case {
    shape: Grouped,
    seconds: f64,
}

impl Case {
    /// What makes it new in heads, and what makes it new in sizes.
    fn names(&self) -> [String; 2] {
        let s = &self.shape;
        [format!("{} {} {}", s.heads, s.kv_heads, s.head_dim), format!("{} {} {}", s.batch, s.tokens, s.context)]
    }
}

/// The kinds of left-out shapes, as [`Case::names`] has them.
const LEFT_OUT: [&str; 2] = ["heads", "lengths"];

/// One table to fit.
struct Set {
    card: &'static str,
    backend: Backend,
    phase: Phase,
    eight: bool,
    cases: Vec<Case>,
}

/// Whether a row is of the kernel that the engine takes by itself. SGLang on data-centre Blackwell takes TensorRT-LLM's
/// kernels (`trtllm_mha`, `server_args.py` 0.5.14) where they know the head width, else Triton's; FlashInfer's were measured
/// beside them.
fn taken(file: &Measured, source: &str, head_dim: f64) -> bool {
    !(file.card == "b200-sxm" && file.backend == "sglang")
        || source == "trtllm_mha"
        || (source == "triton" && (head_dim - 192.0).abs() < 0.5)
}

/// Reads one file into the tables that it feeds.
fn read(file: &Measured, sets: &mut Vec<Set>) -> Result<()> {
    let phase = match file.file.as_str() {
        "context_attention_perf" => Phase::Context,
        "generation_attention_perf" => Phase::Generation,
        _ => return Ok(()),
    };
    let backend = Backend::find(&file.backend).with_context(|| format!("no engine {}", file.backend))?;
    let table: Rows = rows::parquet(&file.path)?;
    let column = |name: &str| table.number(name);
    let (batch, tokens, step) = (column("batch_size")?, column("isl")?, column("step")?);
    let (heads, kv_heads, head_dim) = (column("num_heads")?, column("num_key_value_heads")?, column("head_dim")?);
    let (latency, window) = (column("latency")?, table.number("window_size").ok());
    let (source, cache, math) =
        (table.text("kernel_source")?, table.text("kv_cache_dtype")?, table.text("attn_dtype")?);
    for eight in [false, true] {
        // With an 8-bit cache engines multiply in 8 bits where they can: rows that do stand for their heads and window.
        let mine = |row: usize| {
            (cache[row] == "fp8") == eight && taken(file, &source[row], head_dim[row]) && latency[row] > 0.0
        };
        let kind = |row: usize| (head_dim[row] as u32, window.map_or(0, |window| window[row].max(0.0) as u32));
        let eights: std::collections::BTreeSet<_> =
            (0..table.count).filter(|row| mine(*row) && math[*row] == "fp8").map(kind).collect();
        let cases: Vec<Case> = (0..table.count)
            .filter(|row| mine(*row) && ((math[*row] == "fp8") == eights.contains(&kind(*row))))
            .map(|row| Case {
                shape: Grouped {
                    phase,
                    batch: batch[row],
                    tokens: tokens[row],
                    context: step[row],
                    heads: heads[row],
                    kv_heads: kv_heads[row],
                    head_dim: head_dim[row],
                    window: window.map(|window| window[row]).filter(|window| *window > 0.0),
                    kv_bytes: if eight { 1.0 } else { 2.0 },
                },
                seconds: latency[row] / 1e3,
            })
            .collect();
        if !cases.is_empty() {
            sets.push(Set { card: file.card, backend, phase, eight, cases });
        }
    }
    Ok(())
}

/// The runs of LLMServingSim: folder, card, heads and key heads of one rank; all of head width 128 and a 16-bit cache.
const RANKS: [(&str, &str, f64, f64); 7] = [
    ("RTX4090/meta-llama/Llama-3.1-8B/bf16/tp1", "rtx-4090", 32.0, 8.0),
    ("RTXPRO6000/meta-llama/Llama-3.1-8B/bf16/tp1", "rtx-pro-6000", 32.0, 8.0),
    ("RTXPRO6000/meta-llama/Llama-3.1-8B/bf16/tp2", "rtx-pro-6000", 16.0, 4.0),
    ("RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507/bf16/tp1", "rtx-pro-6000", 32.0, 4.0),
    ("RTXPRO6000/Qwen/Qwen3-30B-A3B-Instruct-2507/bf16/tp2", "rtx-pro-6000", 16.0, 2.0),
    ("RTXPRO6000/Qwen/Qwen3-32B/bf16/tp1", "rtx-pro-6000", 64.0, 8.0),
    ("RTXPRO6000/Qwen/Qwen3-32B/bf16/tp2", "rtx-pro-6000", 32.0, 4.0),
];

/// Reads the runs of LLMServingSim: pieces alone, single tokens alone.
fn read_runs(perf: &Path, sets: &mut Vec<Set>) -> Result<()> {
    for card in ["rtx-4090", "rtx-pro-6000"] {
        let set = |phase| Set { card, backend: Backend::Vllm, phase, eight: false, cases: Vec::new() };
        let (mut pieces, mut singles) = (set(Phase::Context), set(Phase::Generation));
        for (folder, _, heads, kv_heads) in RANKS.iter().filter(|run| run.1 == card) {
            let table = rows::csv(&perf.join("llmservingsim").join(folder).join("attention.csv"))?;
            let (chunk, before) = (table.number("prefill_chunk")?, table.number("kv_prefill")?);
            let (count, cached) = (table.number("n_decode")?, table.number("kv_decode")?);
            let time = table.number("time_us")?;
            for row in 0..table.count {
                let (phase, batch, tokens, context) = match (chunk[row] > 0.0, count[row] > 0.0) {
                    (true, false) => (Phase::Context, 1.0, chunk[row], before[row]),
                    (false, true) => (Phase::Generation, count[row], 1.0, cached[row]),
                    (true, true) | (false, false) => continue,
                };
                let shape = Grouped {
                    phase,
                    batch,
                    tokens,
                    context,
                    heads: *heads,
                    kv_heads: *kv_heads,
                    head_dim: 128.0,
                    window: None,
                    kv_bytes: 2.0,
                };
                let set = if phase == Phase::Context { &mut pieces } else { &mut singles };
                set.cases.push(Case { shape, seconds: time[row] / 1e6 });
            }
        }
        sets.extend([pieces, singles]);
    }
    Ok(())
}

/// Reads the runs in which one kernel had both a piece of a prompt and single tokens.
fn read_mixed(perf: &Path, sets: &mut Vec<tables::Set>) -> Result<()> {
    for wanted in ["rtx-4090", "rtx-pro-6000"] {
        let rates = Card::new(&card::hardware(wanted)?).context("no multiprocessors")?;
        let mut cases = Vec::new();
        for (folder, _, heads, kv_heads) in RANKS.iter().filter(|run| run.1 == wanted) {
            let table = rows::csv(&perf.join("llmservingsim").join(folder).join("attention.csv"))?;
            let (chunk, before) = (table.number("prefill_chunk")?, table.number("kv_prefill")?);
            let (count, cached) = (table.number("n_decode")?, table.number("kv_decode")?);
            let time = table.number("time_us")?;
            for row in (0..table.count).filter(|row| chunk[*row] > 0.0 && count[*row] > 0.0) {
                let shape = |phase, batch, tokens, context| Grouped {
                    phase,
                    batch,
                    tokens,
                    context,
                    heads: *heads,
                    kv_heads: *kv_heads,
                    head_dim: 128.0,
                    window: None,
                    kv_bytes: 2.0,
                };
                let pieces = shape(Phase::Context, 1.0, chunk[row], before[row]);
                let singles = shape(Phase::Generation, count[row], 1.0, cached[row]);
                cases.push(tables::Case {
                    places: mixed::place(&pieces, &singles).to_vec(),
                    base: mixed::base(&rates, &pieces, &singles),
                    seconds: time[row] / 1e6,
                    names: vec![
                        ("heads", format!("{heads} {kv_heads}")),
                        ("lengths", format!("{} {} {} {}", chunk[row], before[row], count[row], cached[row])),
                    ],
                });
            }
        }
        let place = |axis: usize| cases.iter().map(move |case: &tables::Case| case.places[axis]);
        let axes = vec![
            ("rows", points(&[2048.0, 8192.0, 32768.0], place(0))),
            ("before", points(&[256.0, 1024.0, 4096.0], place(1))),
            ("singles", points(&[128.0, 512.0, 1024.0, 2048.0], place(2))),
            ("keys", points(&[128.0, 512.0, 2048.0, 4096.0], place(3))),
        ];
        let (card, backend, kind) = (wanted.to_owned(), "vllm".to_owned(), "mixed bf16".to_owned());
        sets.push(tables::Set { card, backend, kind, axes, cases });
    }
    Ok(())
}

/// The values that occur.
fn values(found: impl Iterator<Item = f64>) -> Vec<f64> {
    let set: std::collections::BTreeSet<u64> = found.map(|at| at as u64).collect();
    set.into_iter().map(|at| at as f64).collect()
}

/// Axes of a table and of its windows.
type Axes = Vec<(&'static str, Vec<f64>)>;

fn axes(set: &Set) -> (Axes, Axes) {
    let place = |axis: usize| set.cases.iter().map(move |case| case.shape.place()[axis]);
    let windowed = || set.cases.iter().filter(|case| case.shape.window.is_some());
    let window = |axis: usize| windowed().map(move |case| case.shape.window_place()[axis]);
    let fine = set.card.starts_with("rtx");
    let main = match (set.phase, fine) {
        (Phase::Generation, _) => vec![
            (
                "keys",
                if fine {
                    points(&[64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0], place(0))
                } else {
                    points(&[64.0, 128.0, 512.0, 2048.0, 8192.0], place(0))
                },
            ),
            (
                "rows",
                if fine {
                    points(&[4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0], place(1))
                } else {
                    points(&[8.0, 32.0, 128.0, 512.0, 2048.0], place(1))
                },
            ),
            ("group", points(&[2.0, 4.0, 8.0, 32.0], place(2))),
            ("head_dim", values(place(3))),
        ],
        (Phase::Context, _) => vec![
            ("tokens", points(&[16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0], place(0))),
            ("rows", points(&[0.1, 1.0, 8.0, 32.0, 128.0, 512.0, 2048.0], place(1))),
            ("head_dim", values(place(2))),
            ("group", points(&[4.0], place(3))),
        ],
    };
    let cut = if windowed().next().is_none() {
        Vec::new()
    } else {
        vec![
            ("fold", points(&[1.5, 8.0], window(0))),
            ("rows", points(&[64.0], window(1))),
            ("keys", points(&[128.0, 1024.0], window(2))),
            ("head_dim", values(window(3))),
        ]
    };
    (main, cut)
}

/// A fitted table, and how to ask it.
struct Surface {
    main: Grid,
    window: Option<Grid>,
    card: Card,
    style: Style,
}

impl Surface {
    fn fit<'a>(set: &Set, card: Card, style: Style, cases: impl Iterator<Item = &'a Case> + Clone) -> Surface {
        let (main_axes, window_axes) = axes(set);
        let value = |case: &Case| libm::log(case.seconds / case.shape.base(&card, style));
        let rows: Vec<Row> = cases
            .clone()
            .filter(|case| case.shape.window.is_none())
            .map(|case| Row { place: case.shape.place(), value: value(case) })
            .collect();
        let main = draw(&main_axes, &rows, 1000.0 / HUNDREDTHS);
        let rows: Vec<Row> = cases
            .filter(|case| case.shape.window.is_some())
            .map(|case| Row {
                place: case.shape.window_place(),
                value: value(case) - main.at(&case.shape.place()).0 * HUNDREDTHS,
            })
            .collect();
        let window = (!window_axes.is_empty()).then(|| draw(&window_axes, &rows, 1000.0 / HUNDREDTHS));
        Surface { main, window, card, style }
    }

    /// Predicted over measured.
    fn ratio(&self, case: &Case) -> f64 {
        let mut value = self.main.at(&case.shape.place()).0;
        if let (Some(window), Some(_)) = (&self.window, case.shape.window) {
            value += window.at(&case.shape.window_place()).0;
        }
        case.shape.base(&self.card, self.style) * libm::exp(value * HUNDREDTHS) / case.seconds
    }
}

/// Fits all tables of grouped attention.
///
/// # Errors
/// Where a measurement cannot be read.
pub fn fit(perf: &Path) -> Result<Fitted> {
    let mut sets = Vec::new();
    for file in rows::list(perf, "attention")? {
        read(&file, &mut sets).with_context(|| file.path.display().to_string())?;
    }
    read_runs(perf, &mut sets)?;
    let mut errors = Vec::new();
    let mut text = String::new();
    for set in &sets {
        let found = card::hardware(set.card)?;
        let rates = Card::new(&found).with_context(|| format!("{} lacks its multiprocessors", set.card))?;
        let style = style(found.capability.unwrap_or_default(), set.backend, set.eight);
        for (kind, left_out) in LEFT_OUT.iter().enumerate() {
            let held = |case: &&Case| held_out(&case.names()[kind]);
            let surface = Surface::fit(set, rates, style, set.cases.iter().filter(|case| !held(case)));
            let ratios: Vec<f64> = set.cases.iter().filter(held).map(|case| surface.ratio(case)).collect();
            if !ratios.is_empty() {
                errors.push(stats::Line {
                    card: set.card.to_owned(),
                    backend: set.backend.name().to_owned(),
                    kind: format!("{} {} {left_out}", set.phase.name(), cache_name(set.eight)),
                    fitted: set.cases.len() - ratios.len(),
                    ratios,
                });
            }
        }
        let surface = Surface::fit(set, rates, style, set.cases.iter());
        let key = format!("{} {} {} {}", set.card, set.backend.name(), set.phase.name(), cache_name(set.eight));
        grid::write(&mut text, &key, &surface.main);
        if let Some(window) = &surface.window {
            grid::write(&mut text, &format!("{key} window"), window);
        }
    }
    let mut mixed = Vec::new();
    read_mixed(perf, &mut mixed)?;
    let more = tables::fit_all("", "", &mixed);
    errors.extend(more.errors);
    let body =
        more.table.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |all, line| all + line + "\n");
    Ok(Fitted { table: head("Grouped attention", "attention", &errors) + &text + &body, errors, notes: Vec::new() })
}
