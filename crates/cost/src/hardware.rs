//! What can the card do at best? Peaks by arithmetic, bandwidth, caches and links, from the catalogue or from the user.

use plimsoll_facts::catalogue;
use plimsoll_facts::gpu::{Gpu, Rates};

use crate::{Error, Math};

/// A card's rates at their best, per second; no efficiency multiplied in.
#[derive(Clone, Debug, PartialEq)]
pub struct Hardware {
    /// Catalogue name, or `the card`.
    pub name: String,
    /// Compute capability such as (9, 0).
    pub capability: Option<(u8, u8)>,
    /// Operations a second by [`Math`]; `None` where the card has no such arithmetic, or none is known.
    pub peaks: [Option<f64>; 4],
    /// Bytes a second of the card's memory.
    pub bandwidth: f64,
    /// Bytes of the level-2 cache.
    pub l2_cache: Option<f64>,
    /// Streaming multiprocessors.
    pub sm_count: Option<u32>,
    /// Bytes a second to another card of the machine, one direction, over the link that [`Hardware::link_name`] says.
    pub link: Option<f64>,
    /// `NVLink`, `Infinity Fabric`, `PCI Express 5.0`, `the link given`.
    pub link_name: String,
    /// Bytes a second to a card of another machine, one direction, per card; `None` when nobody said.
    pub network: Option<f64>,
    /// Cards that this link joins: those of a machine, or of a rack where one link joins all of it.
    pub machine: u32,
    /// What of these nobody said.
    pub assumptions: Vec<String>,
}

/// What the user says in place of the catalogue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Given {
    /// Peak of all formats, operations a second.
    pub peak: Option<f64>,
    /// Memory bandwidth, bytes a second.
    pub bandwidth: Option<f64>,
    /// Bandwidth between cards of a machine, bytes a second in one direction.
    pub link: Option<f64>,
    /// Bandwidth between machines, bytes a second per card in one direction.
    pub network: Option<f64>,
}

/// Bytes a second of sixteen lanes of PCI Express in one direction, generation 1: 2.5 GT/s, 8 of 10 bits; 3 and later: 8 GT/s
/// doubled each time, 128 of 130 bits. PCI Express Base Specification 6.0, physical layer.
fn pcie(generation: u32) -> Option<f64> {
    match generation {
        1 => Some(4.0e9),
        2 => Some(8.0e9),
        3..=5 => Some(15.754e9 * f64::from(1_u32 << (generation - 3))),
        _ => None,
    }
}

/// What the vendor calls the link between its cards of one machine (AMD, MI300X data sheet: Infinity Fabric; Intel, Gaudi and
/// Max data sheets have names of their own, which the catalogue does not tell).
fn fabric(gpu: Option<&Gpu>) -> &'static str {
    match gpu.map(|gpu| gpu.vendor.as_str()) {
        Some("amd") => "Infinity Fabric",
        Some("nvidia") | None => "NVLink",
        Some(_) => "the link between cards",
    }
}

/// Cards that one link joins: 72 of a GB200 or GB300 NVL72 rack (NVIDIA, data sheets of both), else the eight of a usual
/// machine (DGX, HGX).
fn machine(name: &str) -> u32 {
    if name.starts_with("GB200") || name.starts_with("GB300") { 72 } else { 8 }
}

/// The card's dense rates; where its data sheet has none, those of its nearest relative, by their multiprocessors.
fn rates(gpu: &Gpu, assumptions: &mut Vec<String>) -> Rates {
    if gpu.rates.fp16.or(gpu.rates.bf16).is_some() {
        return gpu.rates;
    }
    let (Some(capability), Some(count)) = (gpu.compute_capability, gpu.sm_count) else { return gpu.rates };
    let line = |name: &str| name.split(' ').next().unwrap_or_default().to_owned();
    // Of the same chip generation, and of the same line of products before others: a GeForce accumulates at half rate.
    let relative = catalogue::gpus()
        .filter(|other| other.compute_capability == Some(capability) && other.rates.fp16.or(other.rates.bf16).is_some())
        .filter_map(|other| {
            other.sm_count.map(|theirs| (line(&other.name) != line(&gpu.name), theirs.abs_diff(count), other))
        })
        .min_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    let Some((.., other)) = relative else { return gpu.rates };
    let Some(theirs) = other.sm_count.filter(|theirs| *theirs > 0) else { return gpu.rates };
    let scale = f64::from(count) / f64::from(theirs);
    assumptions.push(format!(
        "no dense rates of {} were found: those of {} over {theirs} multiprocessors, times {count} (peak)",
        gpu.name, other.name
    ));
    let scaled = |rate: Option<f64>| rate.map(|rate| rate * scale);
    let Rates { fp16, bf16, fp8, int8, fp4 } = other.rates;
    Rates { fp16: scaled(fp16), bf16: scaled(bf16), fp8: scaled(fp8), int8: scaled(int8), fp4: scaled(fp4) }
}

impl Hardware {
    /// Reads a card of the catalogue, or takes all from the user.
    ///
    /// # Errors
    /// [`Error::Rate`] where the 16-bit peak or the bandwidth is not known; [`Error::Knob`] for a rate that is no positive
    /// number.
    pub fn new(gpu: Option<&Gpu>, given: &Given) -> Result<Hardware, Error> {
        let name = gpu.map_or_else(|| "the card".to_owned(), |gpu| gpu.name.clone());
        let positive = |knob: &'static str, value: Option<f64>| match value {
            Some(rate) if !(1e6..1e30).contains(&rate) => {
                Err(Error::Knob { knob, found: rate, expected: "between 1e6 and 1e30 a second" })
            }
            Some(_) | None => Ok(value),
        };
        let missing = |what, knob| Error::Rate { gpu: name.clone(), what, knob };
        let peak = positive("peak", given.peak)?;
        let (link, network) = (positive("link", given.link)?, positive("network", given.network)?);
        let bandwidth = positive("bandwidth", given.bandwidth)?.or_else(|| gpu.and_then(|gpu| gpu.bandwidth));
        let bandwidth = bandwidth.ok_or_else(|| missing("memory bandwidth", "bandwidth"))?;
        let mut assumptions = Vec::new();
        let rates = match gpu {
            Some(gpu) if peak.is_none() => rates(gpu, &mut assumptions),
            Some(_) | None => Rates::default(),
        };
        let half = peak.or(rates.bf16).or(rates.fp16).ok_or_else(|| missing("16-bit peak", "peak"))?;
        let own = [Some(half), rates.fp8, rates.int8, rates.fp4];
        let nvlink = gpu.and_then(|gpu| gpu.nvlink).map(|both| both / 2.0);
        let generation = gpu.and_then(|gpu| gpu.pcie_gen);
        let (link, link_name) = match (link, nvlink, generation.and_then(pcie)) {
            (Some(rate), ..) => (Some(rate), "the link given".to_owned()),
            (None, Some(rate), _) => (Some(rate), fabric(gpu).to_owned()),
            (None, None, Some(rate)) => (Some(rate), format!("PCI Express {}.0", generation.unwrap_or_default())),
            (None, None, None) => (None, "an unknown link".to_owned()),
        };
        Ok(Hardware {
            capability: gpu.and_then(|gpu| gpu.compute_capability),
            peaks: own.map(|rate| if peak.is_some() { peak } else { rate }),
            bandwidth,
            l2_cache: gpu.and_then(|gpu| gpu.l2_cache).map(|bytes| bytes.as_f64()),
            sm_count: gpu.and_then(|gpu| gpu.sm_count),
            link,
            link_name,
            network,
            machine: machine(&name),
            assumptions,
            name,
        })
    }

    /// Returns the peak of a kind of arithmetic; the 16-bit one where the card has none.
    pub fn peak(&self, math: Math) -> f64 {
        self.peaks[math as usize].or(self.peaks[0]).unwrap_or(f64::MAX)
    }

    /// Returns the operations per byte at which the roofline bends: the ridge point.
    pub fn ridge(&self, math: Math) -> f64 {
        self.peak(math) / self.bandwidth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Hardware {
        Hardware::new(Some(&catalogue::gpu(name).unwrap()), &Given::default()).unwrap()
    }

    #[test]
    fn the_ridge_of_an_h100_is_where_its_data_sheet_puts_it() {
        let h100 = card("h100-sxm");
        assert!((h100.ridge(Math::Half) - 295.3).abs() < 0.2, "{}", h100.ridge(Math::Half));
        assert!((h100.ridge(Math::Fp8) - 590.7).abs() < 0.3, "{}", h100.ridge(Math::Fp8));
        assert_eq!((h100.link, h100.link_name.as_str()), (Some(450e9), "NVLink"));
        assert_eq!(card("mi300x").link_name, "Infinity Fabric");
    }

    #[test]
    fn a_card_without_rates_has_those_of_its_relative() {
        // 29.15 TFLOP/s in 32 bits (NVIDIA, RTX 4070), twice that in 16.
        let card = card("GeForce RTX 4070");
        let peak = card.peak(Math::Half);
        assert!((peak / 58.3e12 - 1.0).abs() < 0.06 && card.assumptions.len() == 1, "{peak} {:?}", card.assumptions);
    }

    #[test]
    fn unknown_rates_are_named_with_their_flags() {
        let told =
            |gpu: &str| Hardware::new(Some(&catalogue::gpu(gpu).unwrap()), &Given::default()).unwrap_err().to_string();
        assert!(told("Apple M1 Max").contains("--peak"));
        let error = Hardware::new(None, &Given { peak: Some(1e12), ..Given::default() }).unwrap_err().to_string();
        assert!(error.contains("--bandwidth"), "{error}");
        let error = Hardware::new(None, &Given { link: Some(f64::NAN), ..Given::default() }).unwrap_err().to_string();
        assert!(error.contains("link"), "{error}");
    }
}
