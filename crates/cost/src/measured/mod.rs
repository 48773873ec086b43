//! How long do kernels take on real cards? Small tables fitted from published measurements, and what to do where there are
//! none.
//!
//! Each family of kernels has a room here, a file in `data/` that `cargo xtask fit` writes, and a fitter in `fit/`. A table
//! holds how much longer than a simple model of the kernel the real ones took, over the card's own peaks, so that it can
//! also speak for a card of the same architecture.

pub mod attention;
pub mod collective;
pub mod gemm;
pub mod grid;
pub mod moe;
pub mod recurrent;
pub mod stream;

use crate::hardware::Hardware;
use crate::{Kernel, Work};

/// What a time rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// Kernels measured on this card, inside the measured range.
    Measured,
    /// Measured on this card, outside the range: the nearest efficiency.
    Extended,
    /// Efficiencies of a card of the same architecture, or of another engine, over this card's own peaks.
    Transferred,
    /// The roofline with a stated efficiency.
    Roofline,
}

impl Basis {
    /// All of them, the best first.
    pub const ALL: [Basis; 4] = [Basis::Measured, Basis::Extended, Basis::Transferred, Basis::Roofline];

    /// Returns the name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Basis::Measured => "measured",
            Basis::Extended => "extended",
            Basis::Transferred => "transferred",
            Basis::Roofline => "roofline",
        }
    }
}

/// The time of one run of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// Seconds.
    pub seconds: f64,
    /// What it rests on.
    pub basis: Basis,
}

/// Whose kernels run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// TensorRT-LLM.
    TensorRtLlm,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 3] = [Backend::Vllm, Backend::Sglang, Backend::TensorRtLlm];

    /// Returns the engine's name, as plans have it and tables are called.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Vllm => "vllm",
            Backend::Sglang => "sglang",
            Backend::TensorRtLlm => "tensorrt-llm",
        }
    }

    /// Finds an engine of a plan; `None` for those whose kernels were not measured.
    pub fn find(engine: &str) -> Option<Backend> {
        Backend::ALL.into_iter().find(|backend| backend.name() == engine)
    }
}

/// A card that kernels were measured on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Home {
    /// Name in the tables: `a100-sxm`, `h100-sxm`, `h200-sxm`, `b200-sxm`, `l40s`, `rtx-4090`, `rtx-pro-6000`.
    pub card: &'static str,
    /// Catalogue name.
    pub name: &'static str,
    /// Compute capability.
    pub capability: (u8, u8),
}

/// The cards of the tables.
pub const HOMES: [Home; 7] = [
    Home { card: "a100-sxm", name: "A100 SXM4 80GB", capability: (8, 0) },
    Home { card: "l40s", name: "L40S", capability: (8, 9) },
    Home { card: "rtx-4090", name: "GeForce RTX 4090", capability: (8, 9) },
    Home { card: "h100-sxm", name: "H100 SXM5 80GB", capability: (9, 0) },
    Home { card: "h200-sxm", name: "H200 SXM 141GB", capability: (9, 0) },
    Home { card: "b200-sxm", name: "B200 SXM 180GB", capability: (10, 0) },
    Home { card: "rtx-pro-6000", name: "RTX PRO 6000 Blackwell Server", capability: (12, 0) },
];

/// The kernels of an engine on a card: asks the tables first, then the roofline.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// The card's rates.
    pub hardware: Hardware,
    /// Whose kernels; `None` for engines that were not measured.
    pub backend: Option<Backend>,
    /// Parts of the peak and of the bandwidth that the user says kernels reach: they replace every table.
    pub stated: Option<(f64, f64)>,
}

impl Kernels {
    /// Puts a card and an engine together.
    pub const fn new(hardware: Hardware, backend: Option<Backend>) -> Kernels {
        Kernels { hardware, backend, stated: None }
    }

    /// Returns the time at the card's peaks: the larger of arithmetic and bytes, no efficiency multiplied in.
    pub fn ideal(&self, work: &Work) -> f64 {
        (work.flops / self.hardware.peak(work.math)).max((work.read + work.written) / self.hardware.bandwidth)
    }

    /// Returns the time of one run.
    pub fn time(&self, kernel: &Kernel, work: &Work) -> Timed {
        if self.stated.is_some() && !matches!(kernel, Kernel::Collective { .. }) {
            return self.roofline(work);
        }
        let measured = match kernel {
            Kernel::Gemm { .. } => gemm::time(self, kernel, work),
            Kernel::ContextAttention { .. }
            | Kernel::GenerationAttention { .. }
            | Kernel::ContextLatent { .. }
            | Kernel::GenerationLatent { .. }
            | Kernel::LatentProduct { .. } => attention::time(self, kernel, work),
            Kernel::Moe { .. } => moe::time(self, kernel, work),
            Kernel::Recurrent { .. } => recurrent::time(self, kernel, work),
            Kernel::Stream { .. } => stream::time(self, kernel, work),
            Kernel::Collective { .. } => collective::time(self, kernel, work),
        };
        measured.unwrap_or_else(|| self.roofline(work))
    }

    /// The tables to ask for this card, the nearest first: its own, then those of the same capability, then those of the
    /// same generation; with what their word is worth here. A card of another vendor or unknown capability has none.
    pub fn homes(&self) -> Vec<(&'static str, Basis)> {
        let Some(own) = self.hardware.capability else { return Vec::new() };
        let mut found: Vec<(u32, &'static str, Basis)> = HOMES
            .iter()
            .filter_map(|home| {
                let far = match (home.name == self.hardware.name, home.capability == own, home.capability.0 == own.0) {
                    (true, ..) => return Some((0, home.card, Basis::Measured)),
                    (false, true, _) => 1,
                    (false, false, true) => 2,
                    (false, false, false) => return None,
                };
                Some((far, home.card, Basis::Transferred))
            })
            .collect();
        found.sort_by_key(|(far, ..)| *far);
        found.into_iter().map(|(_, card, basis)| (card, basis)).collect()
    }

    /// Returns the roofline with stated or assumed efficiencies: the larger of arithmetic and bytes.
    pub fn roofline(&self, work: &Work) -> Timed {
        let (mfu, mbu) = self.stated.unwrap_or((MFU, MBU));
        let compute = work.flops / (self.hardware.peak(work.math) * mfu);
        let memory = (work.read + work.written) / (self.hardware.bandwidth * mbu);
        Timed { seconds: compute.max(memory), basis: Basis::Roofline }
    }
}

/// Part of the peak that kernels reach where none was measured. Assumed: published large products reach 0.5 to 0.75.
pub const MFU: f64 = 0.6;
/// Part of the bandwidth that kernels reach where none was measured. Assumed: streaming kernels reach 0.75 to 0.9.
pub const MBU: f64 = 0.8;
