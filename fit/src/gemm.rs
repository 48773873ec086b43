//! How are matrix products fitted? A launch floor, how much of the waves shows, and a coarse grid of corrections, by card,
//! engine and format.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use plimsoll_cost::Format;
use plimsoll_cost::hardware::Hardware;
use plimsoll_cost::measured::gemm::{Base, Product, Read, Table, write};
use plimsoll_cost::measured::stream::FLOOR;

use crate::held::held_out;
use crate::rows::{self, Rows};
use crate::smooth::{self, Settings};
use crate::stats::{Line, quantile};
use crate::{Fitted, card};

const HEAD: &str = "\
# How long matrix products took, over the model in crates/cost/src/measured/gemm.rs. Written by `cargo xtask fit gemm`.
# [card engine format base]: nanoseconds of the smallest product, thousandths of the waves' unevenness that shows,
# kilobytes up to which the benchmark's matrices stayed in the level-2 cache (0: no difference), nanoseconds of narrowing the
# inputs that were measured with the product, nanoseconds of the host's launch where they hide the kernel's (0: in a CUDA
# graph).
# [card engine format]: thousandths of ln(measured / modelled).
# Fitted from measurements of aiconfigurator (Apache-2.0, NVIDIA, commit 095f58a51c4c) and, for rtx-4090 and rtx-pro-6000,
# of LLMServingSim (MIT, commit 5daddb21a545).
";

/// Points of the grid. Engines pad decoding batches to multiples of 8 and kernels change at powers of two.
const TOKENS: [f64; 11] = [1.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 32768.0];
const WIDTHS: [f64; 9] = [32.0, 128.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 65536.0];
/// What a decoding step has at most, in the lines of the error table.
const DECODING: f64 = 64.0;
/// How much of the waves' unevenness may show.
pub const WAVES: [f64; 3] = [0.0, 0.5, 1.0];
/// Bytes that the cache may have kept: a 96 MB cache among six, four, three, two matrices.
const KEPT: [f64; 4] = [16e6, 24e6, 32e6, 48e6];

/// A measured product.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its shape and format.
    pub product: Product,
    /// Measured.
    pub seconds: f64,
}

impl Sample {
    fn name(&self) -> String {
        format!("{}x{}", self.product.n, self.product.k)
    }
}

/// Fits the tables of matrix products.
///
/// # Errors
/// A measurement that cannot be read.
pub fn fit(perf: &Path) -> Result<Fitted> {
    let mut fitted = Fitted { table: HEAD.to_owned(), errors: Vec::new(), notes: Vec::new() };
    for measured in rows::list(perf, "gemm")? {
        let hardware = card::hardware(measured.card)?;
        let rows = rows::parquet(&measured.path)?;
        let mut half = 0.0;
        for (format, samples) in by_format(&rows).with_context(|| measured.path.display().to_string())? {
            // aiconfigurator, collector/vllm/collect_gemm.py: use_cuda_graph=gemm_type != "fp8_block".
            let eager = measured.backend == "vllm" && format == Format::Fp8Block;
            let floor = if eager { host(&samples) } else { floor(&samples) };
            if format == Format::Bf16 {
                half = floor;
            }
            // The 16-bit products of a file come first. Where the host hides the kernels, one launch is assumed.
            let narrow = match format {
                Format::Fp8Block if eager => FLOOR,
                Format::Fp8 | Format::Fp8Block | Format::Nvfp4 => (floor - half).max(0.0),
                Format::Bf16 | Format::Int8 | Format::Int8Weight | Format::Int4Weight => 0.0,
                Format::Mxfp4Weight | Format::Mxfp4 | Format::Weight(_) => 0.0,
            };
            let host = if eager { floor } else { 0.0 };
            let base = Base { floor, wave: 0.0, kept: 0.0, narrow, host };
            let who = (measured.card, measured.backend.as_str(), &*format.name());
            one(&mut fitted, &hardware, base, &samples, who);
        }
    }
    crate::dense::gemm(perf, &mut fitted)?;
    fitted.notes.push("lines of m <= 64 are part of those above them".to_owned());
    let host =
        "vllm fp8_block was measured without a CUDA graph: below 1.5 times the host's launch its error is the host's";
    fitted.notes.push(host.to_owned());
    Ok(fitted)
}

/// Fits one table and says how far off one without the left-out shapes is.
fn one(fitted: &mut Fitted, hardware: &Hardware, base: Base, samples: &[Sample], who: (&str, &str, &str)) {
    let (card, backend, kind) = who;
    let (left, kept): (Vec<Sample>, Vec<Sample>) = samples.iter().partition(|sample| held_out(&sample.name()));
    let base = choose(hardware, base, &kept);
    let part = table(hardware, base, &kept);
    let ratio = |sample: &Sample| part.seconds(hardware, &sample.product, Read::Again).0 / sample.seconds;
    let line = |kind: String, few: &dyn Fn(&Sample) -> bool| Line {
        card: card.to_owned(),
        backend: backend.to_owned(),
        kind,
        fitted: kept.iter().filter(|sample| few(sample)).count(),
        ratios: left.iter().filter(|sample| few(sample)).map(ratio).collect(),
    };
    fitted.errors.push(line(kind.to_owned(), &|_| true));
    fitted.errors.push(line(format!("{kind}, m <= 64"), &|sample| sample.product.m <= DECODING));
    if base.host > 0.0 {
        fitted.errors.push(line(format!("{kind}, past the host"), &|sample| sample.seconds > 1.5 * base.host));
    }
    write(&mut fitted.table, &format!("{card} {backend} {kind}"), &table(hardware, base, samples));
}

/// Reads the products of a file by format; several measurements of one product count by their median.
fn by_format(rows: &Rows) -> Result<BTreeMap<Format, Vec<Sample>>> {
    let (m, n, k) = (rows.number("m")?, rows.number("n")?, rows.number("k")?);
    let (kinds, latency) = (rows.text("gemm_dtype")?, rows.number("latency")?);
    let mut found: BTreeMap<Format, BTreeMap<[u64; 3], Vec<f64>>> = BTreeMap::new();
    for index in 0..rows.count {
        let format = match kinds[index].as_str() {
            "bfloat16" => Format::Bf16,
            "fp8" => Format::Fp8,
            "fp8_block" => Format::Fp8Block,
            "nvfp4" => Format::Nvfp4,
            "int8_wo" => Format::Int8Weight,
            "int4_wo" => Format::Int4Weight,
            "sq" => Format::Int8,
            other => bail!("a gemm_dtype that is not known: {other}"),
        };
        let shape = [m[index] as u64, n[index] as u64, k[index] as u64];
        found.entry(format).or_default().entry(shape).or_default().push(latency[index] * 1e-3);
    }
    let sample = |format, ([m, n, k], mut seconds): ([u64; 3], Vec<f64>)| {
        seconds.sort_by(f64::total_cmp);
        let product = Product { m: m as f64, n: n as f64, k: k as f64, format };
        Sample { product, seconds: quantile(&seconds, 0.5) }
    };
    Ok(found
        .into_iter()
        .map(|(format, shapes)| (format, shapes.into_iter().map(|s| sample(format, s)).collect()))
        .collect())
}

/// Returns the quantile of the seconds of some samples.
fn part(samples: &[Sample], of: f64, few: impl Fn(&Product) -> bool) -> f64 {
    let mut seconds: Vec<f64> = samples.iter().filter(|s| few(&s.product)).map(|s| s.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    quantile(&seconds, of)
}

/// What the smallest products take, to the nanosecond, as it is written.
fn floor(samples: &[Sample]) -> f64 {
    let seconds = part(samples, 0.5, |p| p.m <= DECODING && p.n <= 256.0 && p.k <= 256.0);
    (seconds * 1e9).round() * 1e-9
}

/// What the host needs for a launch: nearly the longest that small products take. Those narrower than 256 are left to
/// another kernel.
fn host(samples: &[Sample]) -> f64 {
    let small = |width: f64| (256.0..=1024.0).contains(&width);
    let seconds = part(samples, 0.95, |p| p.m <= DECODING && small(p.n) && small(p.k));
    (seconds * 1e9).round() * 1e-9
}

/// Chooses how much of the waves shows and how much the cache kept, by shapes left out of those that are fitted.
fn choose(hardware: &Hardware, base: Base, samples: &[Sample]) -> Base {
    let inner = |sample: &&Sample| held_out(&format!("inner {}", sample.name()));
    let (left, kept): (Vec<Sample>, Vec<Sample>) = samples.iter().partition(inner);
    let off = |base: Base| {
        let table = table(hardware, base, &kept);
        let ratio = |s: &Sample| libm::log(table.seconds(hardware, &s.product, Read::Again).0 / s.seconds).abs();
        let mut errors: Vec<f64> = left.iter().map(ratio).collect();
        errors.sort_by(f64::total_cmp);
        quantile(&errors, 0.5) + 0.25 * quantile(&errors, 0.9)
    };
    let mut best = (off(base), base);
    let waves = WAVES.map(|wave| Base { wave, ..base });
    for base in waves.into_iter().skip(1) {
        best = least(best, (off(base), base));
    }
    // A cache that makes little difference is no reason to take it out of an engine's times.
    let without = best;
    for kept in KEPT {
        let base = Base { kept, ..without.1 };
        let off = off(base);
        if off < 0.9 * without.0 {
            best = least(best, (off, base));
        }
    }
    best.1
}

fn least(one: (f64, Base), other: (f64, Base)) -> (f64, Base) {
    if other.0 < one.0 { other } else { one }
}

/// Fits the corrections over (m, n, k).
fn table(hardware: &Hardware, base: Base, samples: &[Sample]) -> Table {
    let axis = |name: &str, points: &[f64], of: fn(&Product) -> f64| {
        let mut seen: Vec<f64> = samples.iter().map(|s| of(&s.product)).collect();
        seen.sort_by(f64::total_cmp);
        (name.to_owned(), within(points, &seen))
    };
    let axes = [axis("m", &TOKENS, |p| p.m), axis("n", &WIDTHS, |p| p.n), axis("k", &WIDTHS, |p| p.k)];
    let points: Vec<Vec<f64>> = samples.iter().map(|s| vec![s.product.m, s.product.n, s.product.k]).collect();
    let values: Vec<f64> =
        samples.iter().map(|s| libm::log(s.seconds / s.product.modelled(hardware, &base, Read::Again))).collect();
    Table { base, correction: smooth::fit(&axes, &points, &values, &Settings::default()) }
}

/// The points of an axis that lie inside what was measured, and its ends.
pub fn within(points: &[f64], seen: &[f64]) -> Vec<f64> {
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else { return vec![1.0] };
    let mut axis: Vec<f64> = points.iter().copied().filter(|point| point > first && point < last).collect();
    axis.insert(0, *first);
    if last > first {
        axis.push(*last);
    }
    axis
}
