//! How long do matrix products take?
//!
//! A product is modelled as a launch and the larger of its arithmetic, in tiles that fill the card's multiprocessors wave by
//! wave, and its bytes:
//!
//! ```text
//! seconds = (floor + (arithmetic⁴ + bytes⁴)^¼) × exp(correction(m, n, k))
//! arithmetic = 2mnk / (0.7 × peak) × wave^w        bytes = (weights + inputs + outputs) / (0.85 × bandwidth)
//! ```
//!
//! `floor`, `w` and the correction were fitted by card, engine and format (`data/gemm.txt`, written by `cargo xtask fit gemm`)
//! from the measurements of aiconfigurator (commit 095f58a51c4c, `collector/*/collect_gemm.py`) and of LLMServingSim (commit
//! 5daddb21a545). 0.7 and 0.85 are no claims: the correction is relative to them.
//!
//! A worked number: 16 tokens through 4096 × 4096 16-bit weights on an H100 SXM: 33.6 MB of weights, 0.1 MB in and 0.1 MB
//! out over 0.85 × 3.35 TB/s are 11.9 µs; with vLLM's floor of 2.7 µs and a correction of some −0.05 it takes 14 µs.
//!
//! Three things in the measurements are not so in a running engine, or are operators of their own there, and are taken out:
//! - The benchmark times the layer, which narrows its inputs to 8 or 4 bits first, in TensorRT-LLM with a scale that it works
//!   out each time (`collector/trtllm/collect_gemm.py`: its dynamic path). An engine fuses that into the kernel before, or it
//!   is an operator that is counted by itself. Its launch is what small products of the format take longer than 16-bit ones.
//! - The benchmark repeats one to six matrices, which the L40S's level-2 cache keeps; an engine's matrix was last read a step
//!   ago. The model has both cases; and no product is faster than 0.9 of reading its matrix at the card's bandwidth.
//! - vLLM's `fp8_block` was measured without a CUDA graph (`use_cuda_graph=gemm_type != "fp8_block"`), small products
//!   therefore took what the host needs to launch them. Near that floor the same kernels in another engine speak for it.

use std::ops::Range;
use std::sync::OnceLock;

use super::grid::{self, Grid};
use super::{Backend, Basis, HOMES, Kernels, Timed};
use crate::hardware::Hardware;
use crate::{Format, Kernel, Math, Work};

/// The part of the peak that the model's arithmetic is counted with.
pub const PEAK_PART: f64 = 0.7;
/// The part of the bandwidth that the model's bytes are counted with.
pub const BANDWIDTH_PART: f64 = 0.85;
/// No product takes less than this part of what the card's pure rates allow. Below one because boost clocks exceed the
/// data sheet's: an RTX 4090 was measured at 1.01 of its 16-bit peak.
pub const FASTEST: f64 = 0.9;

/// A matrix product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Tokens.
    pub m: f64,
    /// Outputs.
    pub n: f64,
    /// Inputs.
    pub k: f64,
    /// How the matrix is stored.
    pub format: Format,
}

/// What a table has beside its corrections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Base {
    /// Seconds of the smallest product.
    pub floor: f64,
    /// How much of the waves' unevenness shows in the time: 0 none of it, 1 all.
    pub wave: f64,
    /// Bytes up to which the benchmark's matrices stayed in the level-2 cache between its runs; 0 where that made no
    /// difference.
    pub kept: f64,
    /// Seconds of the launches that narrow the inputs, measured with the product; 0 where none was.
    pub narrow: f64,
    /// Seconds that the host needed for a launch where they hide the kernel's; 0 where measured in a CUDA graph.
    pub host: f64,
}

/// Where a matrix is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// From the card's memory, as in an engine, where a step has run since it was last read; the product alone.
    Anew,
    /// From the level-2 cache where it has stayed there, as in a benchmark that repeats it; inputs narrowed on the way.
    Again,
}

/// How much faster than the memory the level-2 cache gives matrices. L40S, fp8 matrices of 8 to 16 MB in aiconfigurator's
/// measurements: 2.1 times the memory's data sheet, of which matrices too large for the cache reach 0.8.
const CACHE_RATE: f64 = 2.5;

/// The part of a measured layer that its product takes at least, whatever narrowing the inputs is thought to take. Assumed.
const LEFT: f64 = 0.2;

/// The measured formats, in the order in which tables are kept.
pub const FORMATS: [Format; 9] = [
    Format::Bf16,
    Format::Fp8,
    Format::Fp8Block,
    Format::Int8,
    Format::Int8Weight,
    Format::Int4Weight,
    Format::Nvfp4,
    Format::Mxfp4Weight,
    Format::Mxfp4,
];

/// The tiles that a kernel may choose between, as outputs of tokens by outputs of columns, and the part of the largest
/// one's rate that each reaches.
const TILES: [(f64, f64, f64); 4] =
    [(64.0, 128.0, 0.758), (128.0, 128.0, 0.871), (128.0, 256.0, 1.0), (256.0, 128.0, 1.0)];

/// Parts in which a kernel may sum the inputs, each on its own multiprocessor, where there are few tiles.
const PARTS: [f64; 4] = [2.0, 4.0, 8.0, 16.0];

impl Product {
    /// Bytes of a weight as it is stored, scales counted.
    pub fn weight_bytes(&self) -> f64 {
        match self.format {
            Format::Bf16 => 2.0,
            Format::Fp8 | Format::Fp8Block | Format::Int8 | Format::Int8Weight => 1.0,
            Format::Int4Weight => 0.5,
            Format::Nvfp4 => 0.5625,
            Format::Mxfp4Weight | Format::Mxfp4 => 0.53125,
            Format::Weight(hundredths) => f64::from(hundredths.max(1)) / 800.0,
        }
    }

    /// Bytes of an activation as the kernel reads it.
    fn input_bytes(&self) -> f64 {
        match self.format.math() {
            Math::Half => 2.0,
            Math::Fp8 | Math::Int8 => 1.0,
            Math::Fp4 => 0.5625,
        }
    }

    /// How much longer the best choice of tiles, and of parts in which the inputs are summed, takes than tiles cut to
    /// measure on all multiprocessors: at least 1.
    fn wave(&self, multiprocessors: f64) -> f64 {
        let ideal = self.m * self.n / multiprocessors;
        TILES.iter().fold(f64::INFINITY, |best, (rows, columns, rate)| {
            let tiles = (self.m / rows).ceil() * (self.n / columns).ceil();
            let mut waves = (tiles / multiprocessors).ceil();
            for parts in PARTS {
                if tiles * parts <= 2.0 * multiprocessors && self.k >= 256.0 * parts {
                    waves = waves.min((tiles * parts / multiprocessors).ceil() / parts);
                }
            }
            best.min(waves * rows * columns / (ideal * rate))
        })
    }

    /// Seconds of the arithmetic in the model.
    fn arithmetic(&self, hardware: &Hardware, base: &Base) -> f64 {
        let even = 2.0 * self.m * self.n * self.k / (hardware.peak(self.format.math()) * PEAK_PART);
        match hardware.sm_count {
            Some(count) if base.wave > 0.0 => even * libm::pow(self.wave(f64::from(count.max(1))), base.wave),
            Some(_) | None => even,
        }
    }

    /// Seconds that the model says, before the correction; as in the benchmark, that reads small matrices from the cache,
    /// or as in an engine.
    pub fn modelled(&self, hardware: &Hardware, base: &Base, read: Read) -> f64 {
        let weights = self.n * self.k * self.weight_bytes();
        let faster = if read == Read::Again && weights < base.kept { CACHE_RATE } else { 1.0 };
        let moved = weights / faster + self.m * (self.k * self.input_bytes() + self.n * 2.0);
        let bytes = moved / (hardware.bandwidth * BANDWIDTH_PART);
        let arithmetic = self.arithmetic(hardware, base);
        let (long, short) = (bytes.max(arithmetic), bytes.min(arithmetic));
        let ratio = (short / long) * (short / long);
        base.floor + long * libm::sqrt(libm::sqrt(1.0 + ratio * ratio))
    }

    /// The least that the card's rates allow.
    fn least(&self, hardware: &Hardware) -> f64 {
        let arithmetic = 2.0 * self.m * self.n * self.k / hardware.peak(self.format.math());
        let bytes = self.n * self.k * self.weight_bytes() / hardware.bandwidth;
        FASTEST * arithmetic.max(bytes)
    }

    /// The same product with another number of inputs and the format of a table.
    fn like(&self, format: Format, k: f64) -> Product {
        Product { format, k, ..*self }
    }
}

/// One table: how one engine multiplies one format on one card.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The model's numbers.
    pub base: Base,
    /// Natural logarithm of measured over modelled: over (m, n, k), or over (m, n·k) where few matrices were measured.
    pub correction: Grid,
}

impl Table {
    /// Returns the seconds, and whether the shape lies inside the measured range.
    pub fn seconds(&self, hardware: &Hardware, product: &Product, read: Read) -> (f64, bool) {
        let (correction, inside) = self.corrected(product);
        let measured = product.modelled(hardware, &self.base, read) * libm::exp(correction);
        let seconds = match read {
            Read::Again => measured,
            Read::Anew => (measured - self.narrowing(hardware, product)).max(measured * LEFT),
        };
        (seconds, inside)
    }

    /// Seconds of narrowing the inputs, which were measured with the product: the launches, and the bytes from and to the
    /// level-2 cache.
    fn narrowing(&self, hardware: &Hardware, product: &Product) -> f64 {
        if self.base.narrow <= 0.0 {
            return 0.0;
        }
        let bytes = product.m * product.k * (2.0 + product.input_bytes());
        self.base.narrow + bytes / (2.0 * hardware.bandwidth)
    }

    fn corrected(&self, product: &Product) -> (f64, bool) {
        let Product { m, n, k, .. } = *product;
        if self.correction.axes.len() == 2 { self.correction.at(&[m, n * k]) } else { self.correction.at(&[m, n, k]) }
    }
}

/// The tables by card, engine and format.
fn tables() -> &'static [Option<Table>] {
    static TABLES: OnceLock<Vec<Option<Table>>> = OnceLock::new();
    TABLES.get_or_init(|| read(include_str!("../../data/gemm.txt")).unwrap_or_default())
}

/// Reads a file of tables into the order of [`place`].
///
/// # Errors
/// What is wrong with the file.
fn read(text: &str) -> Result<Vec<Option<Table>>, String> {
    let mut parsed = grid::parse(text)?;
    let mut found = Vec::new();
    for home in &HOMES {
        for backend in Backend::ALL {
            for format in FORMATS {
                let key = format!("{} {} {}", home.card, backend.name(), format.name());
                let numbers = parsed.remove(&format!("{key} base"));
                found.push(match (numbers.as_ref().map(|grid| grid.values.as_slice()), parsed.remove(&key)) {
                    (Some([floor, wave, kept, narrow, host]), Some(correction))
                        if (2..=3).contains(&correction.axes.len()) =>
                    {
                        let base = Base {
                            floor: f64::from(*floor) * 1e-9,
                            wave: f64::from(*wave) * 1e-3,
                            kept: f64::from(*kept) * 1e3,
                            narrow: f64::from(*narrow) * 1e-9,
                            host: f64::from(*host) * 1e-9,
                        };
                        Some(Table { base, correction })
                    }
                    (None, None) => None,
                    _ => return Err(format!("[{key}] is no table of products")),
                });
            }
        }
    }
    match parsed.keys().next() {
        Some(key) => Err(format!("[{key}] is nobody's table")),
        None => Ok(found),
    }
}

/// Writes a table in the file's form.
pub fn write(out: &mut String, key: &str, table: &Table) {
    let Base { floor, wave, kept, narrow, host } = table.base;
    let numbers = [floor * 1e9, wave * 1e3, kept * 1e-3, narrow * 1e9, host * 1e9].map(|number| number.round() as i32);
    let axes = vec![("floor_wave_kept_narrow_host".to_owned(), vec![1.0, 2.0, 3.0, 4.0, 5.0])];
    grid::write(out, &format!("{key} base"), &Grid { axes, values: numbers.to_vec() });
    grid::write(out, key, &table.correction);
}

/// Where the table of a card (as in [`HOMES`]), engine and format lies.
fn table(card: usize, backend: Backend, format: Format) -> Option<&'static Table> {
    let format = FORMATS.iter().position(|known| *known == format)?;
    let backend = Backend::ALL.iter().position(|known| *known == backend)?;
    tables().get((card * Backend::ALL.len() + backend) * FORMATS.len() + format)?.as_ref()
}

/// Returns the time by the tables; `None` where they have nothing.
pub(super) fn time(kernels: &Kernels, kernel: &Kernel, _work: &Work) -> Option<Timed> {
    let Kernel::Gemm { m, n, k, format } = *kernel else { return None };
    let product = Product { m: m.max(1e-3), n: (n as f64).max(1.0), k: (k as f64).max(1.0), format };
    let Timed { seconds, basis } = find(kernels, &product, false)?;
    Some(Timed { seconds: seconds.max(product.least(&kernels.hardware)), basis })
}

/// Asks the nearest table: of the format, on the card or one of its capability (the own engine's before the others'); of
/// 8-bit floats for 8-bit integers; of 16-bit numbers on this very card, bytes and peak exchanged; then the same of cards of
/// the generation. A card without the format's arithmetic multiplies in 16 bits, so that others' tables say nothing.
fn find(kernels: &Kernels, product: &Product, graphs: bool) -> Option<Timed> {
    let format = product.format;
    let can = kernels.hardware.peaks[format.math() as usize].is_some();
    let same = |far| nearest(kernels, format, far, graphs).map(|near| answer(kernels, product, &near));
    let kin = |far| {
        let near = if format == Format::Int8 { nearest(kernels, Format::Fp8, far, graphs) } else { None }?;
        let (seconds, _) = near.table.seconds(&kernels.hardware, &product.like(Format::Fp8, product.k), Read::Anew);
        Some(Timed { seconds, basis: Basis::Transferred })
    };
    let half = |far| nearest(kernels, Format::Bf16, far, graphs).map(|near| derived(kernels, product, near.table));
    let (card, capability, generation) = (0..1, 0..2, 2..3);
    same(if can { capability.clone() } else { card.clone() })
        .or_else(|| if can { kin(capability.clone()) } else { None })
        .or_else(|| half(card))
        .or_else(|| if can { same(generation.clone()).or_else(|| kin(generation.clone())) } else { None })
        .or_else(|| half(capability.start..generation.end))
}

/// A table and what its word is worth here.
struct Near {
    table: &'static Table,
    own: bool,
}

/// Finds the nearest table of a format, no farther than asked: 0 the card itself, 1 its capability, 2 its generation; only
/// those measured in CUDA graphs where asked so.
fn nearest(kernels: &Kernels, format: Format, range: Range<u8>, graphs: bool) -> Option<Near> {
    let capability = kernels.hardware.capability?;
    for far in range {
        for (card, home) in HOMES.iter().enumerate() {
            let is = match (home.name == kernels.hardware.name, home.capability == capability) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) if home.capability.0 == capability.0 => 2,
                (false, false) => continue,
            };
            if is != far {
                continue;
            }
            let others = Backend::ALL.into_iter().filter(|other| Some(*other) != kernels.backend);
            for backend in kernels.backend.into_iter().chain(others) {
                let Some(table) = table(card, backend, format) else { continue };
                if graphs && table.base.host > 0.0 {
                    continue;
                }
                return Some(Near { table, own: far == 0 && Some(backend) == kernels.backend });
            }
        }
    }
    None
}

/// The word of a table of the same format.
fn answer(kernels: &Kernels, product: &Product, near: &Near) -> Timed {
    let (measured, inside) = near.table.seconds(&kernels.hardware, product, Read::Anew);
    let basis = match (near.own, inside) {
        (true, true) => Basis::Measured,
        (true, false) => Basis::Extended,
        (false, _) => Basis::Transferred,
    };
    if near.table.base.host <= 0.0 {
        return Timed { seconds: measured, basis };
    }
    // Below 1.2 launches of the host the kernel's own time cannot be seen; from two on it is what was measured.
    let seen = (libm::log(measured / near.table.base.host / 1.2) / libm::log(2.0 / 1.2)).clamp(0.0, 1.0);
    match find(kernels, product, true) {
        Some(other) if seen < 1.0 => {
            let seconds = libm::exp(seen * libm::log(measured) + (1.0 - seen) * libm::log(other.seconds));
            Timed { seconds: seconds.min(measured), basis: if seen > 0.5 { basis } else { Basis::Transferred } }
        }
        Some(_) | None => Timed { seconds: measured, basis },
    }
}

/// The time of a format that nobody measured here, by 16-bit products: as long as one with as many bytes of weights, and no
/// less than the arithmetic at this format's peak and the 16-bit product's efficiency.
fn derived(kernels: &Kernels, product: &Product, table: &Table) -> Timed {
    let half = product.like(Format::Bf16, product.k);
    let narrow = product.like(Format::Bf16, product.k * product.weight_bytes() / half.weight_bytes());
    let (bytes, _) = table.seconds(&kernels.hardware, &narrow, Read::Anew);
    let (correction, _) = table.corrected(&half);
    let arithmetic = product.arithmetic(&kernels.hardware, &table.base) * libm::exp(correction);
    Timed { seconds: bytes.max(arithmetic), basis: Basis::Transferred }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read() {
        let tables = read(include_str!("../../data/gemm.txt")).unwrap();
        assert!(tables.iter().flatten().count() > 40);
    }

    #[test]
    fn a_table_without_an_owner_is_told() {
        assert!(read("[h100-sxm vllm bf15]\nm 1\nn 1\nk 1\n= 0").is_err());
        assert!(read("[h100-sxm vllm bf16]\nm 1\nn 1\nk 1\n= 0").is_err());
    }
}
