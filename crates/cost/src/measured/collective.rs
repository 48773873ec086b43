//! How long do messages between cards take? The latencies of NCCL's own tuner over the link's bandwidth, times how far
//! measured messages were off.
//!
//! Measured are NCCL's collectives (`nccl-tests`) and the all-reduce of each engine inside a CUDA graph, where it chooses
//! between its own kernels and NCCL as it does when serving (aiconfigurator, commit 095f58a51c4c,
//! `collector/network/collect_{nccl,all_reduce}.py`), so the tables hold these choices:
//!
//! - vLLM 0.19.0 takes its own kernel for 2, 4, 6 or 8 ranks (`distributed/device_communicators/custom_all_reduce.py`), over
//!   PCI Express for two only, below 8 MB or the sizes of `all_reduce_utils.py` (capability 9.0: 64, 32 and 0.25 MiB for 2,
//!   4 and 8 ranks; 10.0: 2, 2 and 1 MiB), multicast through symmetric memory above (64 to 128 MiB), then NCCL.
//! - SGLang 0.5.14 takes its own for the same ranks, all of them joined by NVLink where there are more than two
//!   (`custom_all_reduce_utils.py`), else NCCL.
//! - TensorRT-LLM 1.3.0rc20 chooses by its table of strategies (`AllReduceStrategy.AUTO`).

use std::sync::OnceLock;

use super::grid::{self, Grid};
use super::{Backend, Basis, Kernels, Timed};
use crate::operators::MACHINE;
use crate::{Collective, Kernel, Work};

/// Bytes a second per card to another machine when nobody says: one port of 400 Gb/s (NDR InfiniBand) per card, as in
/// DGX H100 and HGX reference designs.
pub const NETWORK: f64 = 50e9;

/// Seconds before the first step, and per step, of the protocols for small messages (LL) and large ones (Simple) over a
/// ring; of small messages a quarter of the bandwidth is data.
///
/// NCCL, commit 01afd20a, `src/graph/tuning.cc`, `baseLat`, `hwLat` and the refinements of the bus bandwidth.
const BASE: [f64; 2] = [3.6e-6, 8.4e-6];
const NVLINK: [f64; 2] = [0.47e-6, 3.4e-6];
const PCIE: [f64; 2] = [1.0e-6, 5.7e-6];
const NET: [f64; 2] = [2.7e-6, 9.6e-6];
const DATA: [f64; 2] = [0.25, 1.0];

/// Bytes a second above which a link is taken for NVLink: sixteen lanes of PCI Express 5.0 have 63 GB/s, NVLink 2 and later
/// 150 and more.
const FAST: f64 = 100e9;

/// A message between cards of one machine, or of one NVLink domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message {
    /// Which.
    pub kind: Collective,
    /// Bytes of the whole message: what an all-gather gives, what others take of each rank.
    pub bytes: f64,
    /// Ranks.
    pub ranks: f64,
}

impl Message {
    /// Returns the time by NCCL's tuner at a link's bandwidth: the faster of its two protocols.
    pub fn ideal(&self, rate: f64) -> f64 {
        self.over(rate, if rate > FAST { NVLINK } else { PCIE })
    }

    fn over(&self, rate: f64, step: [f64; 2]) -> f64 {
        let others = self.ranks - 1.0;
        // Beyond eight ranks of an NVLink domain NCCL's tree joins groups of eight: a step per doubling.
        let hops = if self.ranks > 8.0 { 7.0 + libm::log2(self.ranks / 8.0) } else { others };
        let (steps, sent) = match self.kind {
            Collective::AllReduce => (2.0 * hops, 2.0 * others / self.ranks),
            Collective::AllGather | Collective::ReduceScatter => (hops, others / self.ranks),
            // Each rank sends to all others at once.
            Collective::AllToAll => (1.0, others / self.ranks),
            Collective::Send => (1.0, 1.0),
        };
        let line = |at: usize| BASE[at] + steps * step[at] + sent * self.bytes / (rate * DATA[at]);
        line(0).min(line(1))
    }
}

/// A table and what it is for.
struct Table {
    card: String,
    /// The engine whose all-reduce it is; `None` for NCCL.
    backend: Option<Backend>,
    kind: String,
    grid: Grid,
}

/// The tables, read once.
fn tables() -> &'static [Table] {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let read = grid::parse(include_str!("../../data/collective.txt")).unwrap_or_default();
        let table = |(key, grid): (String, Grid)| {
            let mut words = key.split(' ');
            let (card, backend, kind) = (words.next()?, words.next()?, words.next()?);
            Some(Table { card: card.to_owned(), backend: Backend::find(backend), kind: kind.to_owned(), grid })
        };
        read.into_iter().filter_map(table).collect()
    })
}

/// Whether a card of the tables has NVLink; the bandwidth of its link, by which the nearest is found.
const LINKS: [(&str, f64); 5] =
    [("a100-sxm", 300e9), ("h100-sxm", 450e9), ("h200-sxm", 450e9), ("b200-sxm", 900e9), ("l40s", 31.5e9)];

/// The card whose table speaks for these: its own, one of the same generation with the same kind of link, the one with the
/// nearest link; and whether it is its own.
fn home(kernels: &Kernels, rate: f64, ranks: f64) -> Option<(&'static str, bool)> {
    let fast = rate > FAST;
    let link = |card: &str| LINKS.iter().find(|(name, _)| *name == card).map(|(_, rate)| *rate);
    for (card, basis) in kernels.homes() {
        let Some(theirs) = link(card).filter(|theirs| (*theirs > FAST) == fast) else { continue };
        let own = basis == Basis::Measured && (theirs / rate - 1.0).abs() < 0.05;
        // The L40S machine's four and eight cards are not joined well (1 to 6 GB/s): no word on others.
        if own || fast || ranks <= 2.0 {
            return Some((card, own));
        }
    }
    if !fast && ranks > 2.0 {
        return None;
    }
    let near = |theirs: f64| libm::log(theirs / rate).abs();
    let alike = LINKS.iter().filter(|(_, theirs)| (*theirs > FAST) == fast);
    alike.min_by(|a, b| near(a.1).total_cmp(&near(b.1))).map(|(card, _)| (*card, false))
}

/// The time inside one machine.
fn inside(kernels: &Kernels, message: &Message) -> Timed {
    let Some(rate) = kernels.hardware.link else {
        // Without a link's bandwidth only its latency is known.
        return Timed { seconds: message.ideal(f64::MAX).min(message.over(f64::MAX, PCIE)), basis: Basis::Roofline };
    };
    let ideal = Timed { seconds: message.ideal(rate), basis: Basis::Roofline };
    let Some((card, own)) = home(kernels, rate, message.ranks) else { return ideal };
    // A message to one other is half of an exchange between two.
    let (kind, at, same) = match message.kind {
        Collective::Send => (Collective::AllToAll, [2.0 * message.bytes, 2.0], false),
        Collective::AllReduce | Collective::AllGather | Collective::ReduceScatter | Collective::AllToAll => {
            (message.kind, [message.bytes, message.ranks], true)
        }
    };
    let found = |backend: Option<Backend>| {
        tables().iter().find(|table| table.card == card && table.backend == backend && table.kind == kind.name())
    };
    let engine = if kind == Collective::AllReduce { kernels.backend } else { None };
    let Some(table) = found(engine).or_else(|| found(None)) else { return ideal };
    let (correction, inside) = table.grid.at(&at);
    let basis = match (own && same && table.backend == engine, inside) {
        (true, true) => Basis::Measured,
        (true, false) => Basis::Extended,
        (false, _) => Basis::Transferred,
    };
    Timed { seconds: ideal.seconds * libm::exp(correction), basis }
}

/// The time over several machines: as much as possible inside each, the rest by every card's own share of the network.
fn across(kernels: &Kernels, message: &Message) -> Timed {
    let rate = kernels.hardware.network.unwrap_or(NETWORK);
    let machines = libm::ceil(message.ranks / f64::from(MACHINE)).max(2.0);
    let each = (message.ranks / machines).max(1.0);
    let between = |kind, bytes| Message { kind, bytes, ranks: machines }.over(rate, NET);
    let within = |kind, bytes| match each > 1.0 {
        true => inside(kernels, &Message { kind, bytes, ranks: each }).seconds,
        false => 0.0,
    };
    let whole = message.bytes;
    let seconds = match message.kind {
        Collective::AllReduce => {
            within(Collective::ReduceScatter, whole)
                + between(Collective::AllReduce, whole / each)
                + within(Collective::AllGather, whole)
        }
        Collective::AllGather | Collective::ReduceScatter => {
            between(message.kind, whole / each) + within(message.kind, whole)
        }
        // What stays in the machine goes over its link meanwhile.
        Collective::AllToAll => between(message.kind, whole).max(within(message.kind, whole / machines)),
        Collective::Send => between(message.kind, whole),
    };
    Timed { seconds, basis: Basis::Roofline }
}

/// Returns the time by the tables, or by NCCL's latencies and the link's bandwidth where they have nothing.
pub(super) fn time(kernels: &Kernels, kernel: &Kernel, _work: &Work) -> Option<Timed> {
    let Kernel::Collective { kind, bytes, ranks, across: far } = *kernel else { return None };
    if ranks <= 1 || !bytes.is_finite() || bytes <= 0.0 {
        return Some(Timed { seconds: 0.0, basis: Basis::Measured });
    }
    let ranks = f64::from(ranks);
    let bytes = if kind == Collective::AllGather { bytes * ranks } else { bytes };
    let message = Message { kind, bytes, ranks };
    Some(if far { across(kernels, &message) } else { inside(kernels, &message) })
}

#[cfg(test)]
mod tests {
    use plimsoll_facts::catalogue;
    use proptest::prelude::*;

    use super::*;
    use crate::hardware::{Given, Hardware};

    const NOTHING: Work = Work { flops: 0.0, read: 0.0, written: 0.0, math: crate::Math::Half };
    const CARDS: [&str; 6] = ["a100-sxm4-80gb", "l40s", "h100-sxm", "h200", "b200", "rtx-4090"];

    fn ask(card: &str, backend: Option<Backend>, kind: Collective, bytes: f64, ranks: u32, across: bool) -> Timed {
        let hardware = Hardware::new(Some(&catalogue::gpu(card).unwrap()), &Given::default()).unwrap();
        let kernel = Kernel::Collective { kind, bytes, ranks, across };
        time(&Kernels::new(hardware, backend), &kernel, &NOTHING).unwrap()
    }

    #[test]
    fn the_table_is_whole() {
        let read = grid::parse(include_str!("../../data/collective.txt")).unwrap();
        assert_eq!(read.len(), tables().len());
        assert_eq!(read.len(), 5 * (4 + 3), "cards, NCCL's and the engines'");
    }

    #[test]
    fn an_engines_all_reduce_is_its_own() {
        let us = |backend| ask("h100-sxm", backend, Collective::AllReduce, 16384.0, 8, false).seconds * 1e6;
        // Measured: 5.3 (vLLM), 3.7 (SGLang), 3.6 (TensorRT-LLM), 19 (NCCL).
        assert!((us(Some(Backend::Vllm)) - 5.3).abs() < 0.6, "{}", us(Some(Backend::Vllm)));
        assert!((us(Some(Backend::TensorRtLlm)) - 3.6).abs() < 0.5, "{}", us(Some(Backend::TensorRtLlm)));
        assert!((us(None) - 18.0).abs() < 3.0, "{}", us(None));
    }

    #[test]
    fn what_a_time_rests_on_is_told() {
        let basis = |card, kind, ranks, across| ask(card, Some(Backend::Vllm), kind, 1e6, ranks, across).basis;
        assert_eq!(basis("h100-sxm", Collective::AllReduce, 8, false), Basis::Measured);
        assert_eq!(basis("h100-sxm", Collective::AllToAll, 16, false), Basis::Extended);
        assert_eq!(basis("b300", Collective::AllReduce, 8, false), Basis::Transferred);
        assert_eq!(basis("h100-sxm", Collective::Send, 2, false), Basis::Transferred);
        assert_eq!(basis("rtx-4090", Collective::AllReduce, 2, false), Basis::Transferred);
        assert_eq!(basis("rtx-4090", Collective::AllReduce, 4, false), Basis::Roofline);
        assert_eq!(basis("h100-sxm", Collective::AllReduce, 16, true), Basis::Roofline);
        assert!(ask("h100-sxm", None, Collective::AllReduce, 1e6, 1, false).seconds < 1e-12);
    }

    proptest! {
        #[test]
        fn times_are_sound(
            card in prop::sample::select(CARDS.to_vec()),
            kind in prop::sample::select(vec![
                Collective::AllReduce, Collective::AllGather, Collective::ReduceScatter, Collective::AllToAll,
                Collective::Send,
            ]),
            backend in prop::sample::select(vec![None, Some(Backend::Vllm), Some(Backend::Sglang)]),
            bytes in 1.0_f64..1e10, ranks in 2_u32..256, across: bool,
        ) {
            let one = ask(card, backend, kind, bytes, ranks, across).seconds;
            let more = ask(card, backend, kind, bytes * 4.0, ranks, across).seconds;
            prop_assert!(one.is_finite() && one > 1e-6 && one < 1e5, "{one}");
            prop_assert!(more >= one * 0.9, "{one} {more}");
        }

        #[test]
        fn small_all_reduces_of_more_ranks_take_no_less(
            card in prop::sample::select(CARDS.to_vec()), bytes in 1e3_f64..3e4, more in 1_u32..5,
        ) {
            for backend in [None, Some(Backend::Vllm), Some(Backend::Sglang), Some(Backend::TensorRtLlm)] {
                let at = |ranks| ask(card, backend, Collective::AllReduce, bytes, ranks, false).seconds;
                let (few, many) = (at(1 << (more - 1).max(1)), at(1 << more.max(1)));
                prop_assert!(many >= few * 0.9, "{backend:?} {few} {many}");
            }
        }
    }
}
