//! What was measured of a whole engine? Rows of a table in the form of `end_to_end.csv.gz` (aiconfigurator's silicon samples):
//! who served what on which cards, how many requests at a time, and the time to first token and per output token.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use plimsoll_kit::{Opened, open_trace};

/// The column by which such a file is recognised.
pub const MARK: &str = "silicon_ttft_ms";
/// The largest file that is read, unpacked.
const LARGEST: u64 = 256 << 20;

/// One measurement.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The row's own name.
    pub id: String,
    /// Engine as plans call it.
    pub engine: &'static str,
    /// Release, image tag or nothing.
    pub version: String,
    /// Model, `org/name`.
    pub model: String,
    /// Card as the file calls it: `h200_sxm`.
    pub system: String,
    /// `fp8`, `fp4`, `bf16`, `int4` or nothing.
    pub precision: String,
    /// How experts or matrices are stored, in the file's words.
    pub stored: String,
    /// Whether prefill and decode ran apart.
    pub disaggregated: bool,
    /// Tokens of a prompt and of an output.
    pub lengths: (u32, u32),
    /// Requests at a time, where the row says so.
    pub concurrency: Option<u32>,
    /// Day of the measurement, where the row says so.
    pub date: String,
    /// Everything that the row says about its source.
    pub source: String,
    /// How the model was divided, or why that is not known.
    pub division: Result<Division, &'static str>,
    /// Time to first token, milliseconds.
    pub ttft: f64,
    /// Time per output token, milliseconds.
    pub tpot: f64,
}

/// How a model was divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Tensor-parallel cards of a replica.
    pub tp: u32,
    /// Pipeline stages.
    pub pp: u32,
    /// Replicas of attention.
    pub dp: u32,
    /// Ranks over which whole experts are spread.
    pub ep: u32,
}

impl Measurement {
    /// Whether it is of the public nightly benchmark InferenceX (formerly InferenceMAX), whose launches and lengths are known.
    pub fn nightly(&self) -> bool {
        self.source.starts_with("db-dump/") || self.source.starts_with("source_file=20")
    }
}

/// Reads a file, packed or not; `None` when it is of another form.
///
/// # Errors
/// Where it cannot be read or a cell of it is not what its column holds.
pub fn read(path: &Path) -> Result<Option<Vec<Measurement>>> {
    let Ok(Opened::Stream(mut input)) = open_trace(path) else { return Ok(None) };
    let mut text = String::new();
    let mut head = [0_u8; 4096];
    let most = input.read(&mut head).with_context(|| path.display().to_string())?;
    let first = String::from_utf8_lossy(&head[..most]).into_owned();
    if !first.lines().next().is_some_and(|line| line.split(',').any(|name| name == MARK)) {
        return Ok(None);
    }
    text.push_str(&first);
    input.take(LARGEST).read_to_string(&mut text).with_context(|| path.display().to_string())?;
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(text.as_bytes());
    let columns: BTreeMap<String, usize> =
        reader.headers()?.iter().enumerate().map(|(at, name)| (name.to_owned(), at)).collect();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let cell = |name: &str| columns.get(name).and_then(|at| record.get(*at)).unwrap_or_default().trim();
        rows.push(row(&cell).with_context(|| format!("{}: {}", path.display(), cell("id")))?);
    }
    Ok(Some(rows))
}

fn row<'c>(cell: &impl Fn(&str) -> &'c str) -> Result<Measurement> {
    let time = |name: &str| -> Result<f64> {
        let value: f64 = cell(name).parse().with_context(|| format!("{name} is no number"))?;
        if !(value > 0.0 && value < 1e12) {
            bail!("{name} of {value} is no time");
        }
        Ok(value)
    };
    let length = |name: &str| cell(name).parse::<f64>().ok().filter(|n| (1.0..1e9).contains(n)).map(|n| n as u32);
    let source = cell("silicon_data_source").to_owned();
    let said = |key: &str| source.split(';').map(str::trim).find_map(|part| part.strip_prefix(key));
    let concurrency = said("silicon_concurrency=").and_then(|text| text.parse().ok());
    Ok(Measurement {
        id: cell("id").to_owned(),
        engine: match cell("backend") {
            "vllm" => "vllm",
            "sglang" => "sglang",
            "trtllm" => "tensorrt-llm",
            other => bail!("engine {other} is not known; vllm, sglang and trtllm are"),
        },
        version: cell("backend_version").to_owned(),
        model: cell("model_path").to_owned(),
        system: cell("system").to_owned(),
        precision: cell("precision").to_owned(),
        stored: format!("{} {}", cell("gemm_quant_mode"), cell("moe_quant_mode")),
        disaggregated: cell("mode") != "agg",
        lengths: (length("isl").context("no isl")?, length("osl").context("no osl")?),
        concurrency,
        date: said("measured=").map(|date| date.chars().take(10).collect()).unwrap_or_default(),
        division: division(cell, &source),
        ttft: time(MARK)?,
        tpot: time("silicon_tpot_ms")?,
        source,
    })
}

/// Cards that share NVLink: more of them than this is no division that could have run.
fn domain(system: &str) -> u32 {
    if system.starts_with("gb") { 72 } else { 8 }
}

/// Reads how a model was divided. Attention's width, tp · dp, is that of the experts, moe_tp · moe_ep. Two of the file's
/// sources multiply the number of cards with the ranks of experts once more; where the card's machine or the other columns
/// do not say which was meant, the division is not known.
fn division<'c>(cell: &impl Fn(&str) -> &'c str, source: &str) -> Result<Division, &'static str> {
    let whole = |name: &str| cell(name).parse::<f64>().ok().filter(|n| (1.0..=4096.0).contains(n)).map(|n| n as u32);
    let Some(tp) = whole("tp_size") else { return Err("no tensor-parallel size") };
    let pp = whole("pp_size").unwrap_or(1);
    let dp = whole("attention_dp_size").unwrap_or(1);
    let (moe_tp, ep) = (whole("moe_tp_size").unwrap_or(tp), whole("moe_ep_size").unwrap_or(1));
    let doubled = source.starts_with("db-dump/") || source.starts_with("source_file=2026-04-06");
    if doubled && ep > 1 {
        // (T·E, 1, T, E) and, with attention's replicas, (1, T·E, T, E).
        return match (tp, dp) {
            (tp, 1) if tp == moe_tp * ep && ep <= moe_tp && moe_tp > 1 => Ok(Division { tp: moe_tp, pp, dp: 1, ep }),
            (1, dp) if dp == moe_tp * ep && ep <= moe_tp && moe_tp > 1 => Ok(Division { tp: 1, pp, dp: moe_tp, ep }),
            _ => Err("the number of cards counts the experts' ranks twice"),
        };
    }
    let cards = tp.saturating_mul(dp);
    if cards.saturating_mul(pp) > domain(cell("system")) {
        return Err("more cards than share a machine's NVLink");
    }
    // Dense models have no experts to divide: their columns are 1 or 0.
    let experts = moe_tp.saturating_mul(ep);
    if experts != cards && experts > 1 {
        return Err("attention and experts are not on the same cards");
    }
    if doubled && tp > 8 {
        return Err("one number of cards for several nodes");
    }
    Ok(Division { tp, pp, dp, ep })
}

/// Keeps one record of each measurement that several sources repeat: the first whose division is known.
pub fn distinct(rows: Vec<Measurement>) -> (Vec<Measurement>, usize) {
    let mut kept: Vec<Measurement> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut repeated = 0;
    for row in rows {
        let name = format!(
            "{} {} {} {} {:?} {:?} {:.1} {:.2}",
            row.engine, row.model, row.system, row.disaggregated, row.lengths, row.concurrency, row.ttft, row.tpot
        );
        match places.get(&name) {
            Some(&at) => {
                repeated += 1;
                if kept[at].division.is_err() && row.division.is_ok() {
                    kept[at] = row;
                }
            }
            None => {
                places.insert(name, kept.len());
                kept.push(row);
            }
        }
    }
    (kept, repeated)
}
