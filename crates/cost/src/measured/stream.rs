//! How long do norms, activations and the like take?
//!
//! Each launch has a floor, and what it reads and writes streams at the memory's bandwidth, or faster where the kernel before
//! left it in the level-2 cache:
//!
//! ```text
//! seconds = launches × (2 µs + (read + written) / (2 × bandwidth)) × exp(correction(larger of both / level-2 cache))
//! ```
//!
//! with the bytes of one launch. The larger of both is what must stay in the cache: norms and rotary embeddings write where
//! they read. Kernels that read more than 1.5 times what they write (activations with a gate, sampling) have corrections of
//! their own.
//!
//! The corrections are by card (`data/stream.txt`, written by `cargo xtask fit stream`) from the layers of one model each that
//! LLMServingSim (commit 5daddb21a545) timed in vLLM 0.19 on an RTX 4090 and an RTX PRO 6000. Other cards are not in these
//! measurements: the corrections are carried over by bytes against cache and by the card's own bandwidth. Norms were measured up to
//! half the cache; past all of it they are taken to run at the memory's rate, as activations do. What a launch costs
//! between two kernels is not in it.
//!
//! A worked number: a norm with its residual over 2048 tokens of width 4096 reads 34 MB and writes them. On an RTX 4090
//! (1.008 TB/s, 75 MB of cache) that is 2 + 33.3 µs; the correction at 34 / 75 is −0.1: 31 µs; 28.5 were measured.

use std::sync::OnceLock;

use super::grid::{self, Grid};
use super::{Backend, Basis, HOMES, Home, Kernels, MBU, Timed};
use crate::hardware::Hardware;
use crate::{Kernel, Work};

/// Seconds of the smallest kernel. Measured: norms and activations of one token take 1.8 to 4.2 µs on the two cards.
pub const FLOOR: f64 = 2e-6;
/// How much faster than from the memory bytes stream that are in the cache, in the model; the correction is relative to it.
const CACHED: f64 = 2.0;
/// Bytes of the cache of a card whose data sheet lacks it. Assumed: that of an A100.
const CACHE: f64 = 40.0 * 1024.0 * 1024.0;

/// What one launch reads and writes, bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Bytes read.
    pub read: f64,
    /// Bytes written.
    pub written: f64,
}

impl Moved {
    /// Seconds in the model, before the correction.
    pub fn modelled(&self, hardware: &Hardware) -> f64 {
        FLOOR + (self.read + self.written) / (CACHED * hardware.bandwidth)
    }

    /// What must stay in the level-2 cache, as a part of it: what the correction is over.
    pub fn fill(&self, hardware: &Hardware) -> f64 {
        self.read.max(self.written) / hardware.l2_cache.unwrap_or(CACHE)
    }

    /// The key of its table on a card.
    pub fn kind(&self) -> Kind {
        if self.read > 1.5 * self.written { Kind::Reading } else { Kind::Even }
    }
}

/// Which corrections count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// About as much is written as read: norms, rotary embeddings.
    Even,
    /// More is read than written: activations with a gate.
    Reading,
}

impl Kind {
    /// Returns the name in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Even => "even",
            Kind::Reading => "reading",
        }
    }
}

/// The tables by card, as in [`HOMES`]: even, reading.
fn tables() -> &'static [Option<[Grid; 2]>] {
    static TABLES: OnceLock<Vec<Option<[Grid; 2]>>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut parsed = grid::parse(include_str!("../../data/stream.txt")).unwrap_or_default();
        let mut take = |card: &str, kind: Kind| parsed.remove(&format!("{card} {}", kind.name()));
        let both = |home: &Home| Some([take(home.card, Kind::Even)?, take(home.card, Kind::Reading)?]);
        HOMES.iter().map(both).collect()
    })
}

/// Returns the time by the tables; for cards of no known capability a launch's floor and the roofline.
pub(super) fn time(kernels: &Kernels, kernel: &Kernel, work: &Work) -> Option<Timed> {
    let Kernel::Stream { launches } = *kernel else { return None };
    let hardware = &kernels.hardware;
    let launches = if launches > 0.0 { launches } else { return None };
    let moved = Moved { read: (work.read / launches).max(0.0), written: (work.written / launches).max(0.0) };
    let Some((table, own)) = nearest(kernels) else {
        let seconds = launches * (FLOOR + (moved.read + moved.written) / (hardware.bandwidth * MBU));
        return Some(Timed { seconds, basis: Basis::Roofline });
    };
    let table = match moved.kind() {
        Kind::Even => &table[0],
        Kind::Reading => &table[1],
    };
    let (correction, inside) = table.at(&[moved.fill(hardware)]);
    let basis = match (own, inside) {
        (true, true) => Basis::Measured,
        (true, false) => Basis::Extended,
        (false, _) => Basis::Transferred,
    };
    Some(Timed { seconds: launches * moved.modelled(hardware) * libm::exp(correction), basis })
}

/// The table of the card, of its generation, or of the nearest generation that has one; and whether it is this engine's on
/// this card.
fn nearest(kernels: &Kernels) -> Option<(&'static [Grid; 2], bool)> {
    let capability = kernels.hardware.capability?;
    let known = HOMES.iter().zip(tables()).filter_map(|(home, table)| Some((home, table.as_ref()?)));
    let far = |of: (u8, u8), name: &str| {
        (name != kernels.hardware.name, of.0.abs_diff(capability.0), of.1.abs_diff(capability.1))
    };
    let (home, table) = known.min_by_key(|(home, _)| far(home.capability, home.name))?;
    Some((table, home.name == kernels.hardware.name && kernels.backend == Some(Backend::Vllm)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read() {
        let tables = grid::parse(include_str!("../../data/stream.txt")).unwrap();
        let keys: Vec<&str> = tables.keys().map(String::as_str).collect();
        assert_eq!(keys, ["rtx-4090 even", "rtx-4090 reading", "rtx-pro-6000 even", "rtx-pro-6000 reading"]);
        assert!(tables.values().all(|grid| grid.axes.len() == 1));
    }
}
