//! What do cards tell each other? Messages and bytes of tensor, pipeline and expert parallelism, over the links there are,
//! and how long a pipeline's stages wait.
//!
//! Of an operator that sends, each rank puts in so many bytes (of an all-reduce the whole message); what it sends over its
//! link in a ring of n ranks is
//!
//! | collective | bytes sent per rank | steps |
//! | --- | --- | --- |
//! | all-reduce of S | 2·(n − 1)/n·S | 2·(n − 1) |
//! | all-gather of S each | (n − 1)·S | n − 1 |
//! | reduce-scatter of S each | (n − 1)/n·S | n − 1 |
//! | all-to-all of S each | (n − 1)/n·S | n − 1 |
//! | send of S | S | 1 |
//!
//! An all-reduce of 16 MiB over 8 ranks sends 28 MiB from each. Source: NVIDIA, nccl-tests `doc/PERFORMANCE.md` (bus bandwidth).

use crate::{Collective, Error, Hardware, Kernel, Operator};

/// Returns the bytes that one rank sends over its link for a collective of `bytes` (as [`Kernel::Collective`] counts them)
/// among `ranks`.
pub fn sent(kind: Collective, bytes: f64, ranks: u32) -> f64 {
    let n = f64::from(ranks.max(1));
    match kind {
        Collective::AllReduce => 2.0 * (n - 1.0) / n * bytes,
        Collective::AllGather => (n - 1.0) * bytes,
        Collective::ReduceScatter | Collective::AllToAll => (n - 1.0) / n * bytes,
        Collective::Send => bytes,
    }
}

/// Returns how many steps of its ring a collective takes one after the other.
pub fn steps(kind: Collective, ranks: u32) -> f64 {
    let others = f64::from(ranks.max(1)) - 1.0;
    match kind {
        Collective::AllReduce => 2.0 * others,
        Collective::AllGather | Collective::ReduceScatter | Collective::AllToAll => others,
        Collective::Send => 1.0,
    }
}

/// Seconds that a collective takes whatever its size and ranks, for small messages (the protocol LL, of which a quarter of
/// the bandwidth is data) and for large ones (Simple).
///
/// NCCL, commit 01afd20a, `src/graph/tuning.cc`, `baseLat`; [`NVLINK`], [`PCIE`] and [`NETWORK`] are its `hwLat` of rings.
pub const BASE: [f64; 2] = [3.6e-6, 8.4e-6];
/// Part of the bandwidth that is data, by protocol.
pub const DATA: [f64; 2] = [0.25, 1.0];
/// Seconds of one step over NVLink, by protocol.
pub const NVLINK: [f64; 2] = [0.47e-6, 3.4e-6];
/// Seconds of one step over PCI Express, by protocol.
pub const PCIE: [f64; 2] = [1.0e-6, 5.7e-6];
/// Seconds of one step over InfiniBand or another network, by protocol.
pub const NETWORK: [f64; 2] = [2.7e-6, 14.0e-6];

/// A way between cards.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// `NVLink`, `PCI Express 5.0`, `InfiniBand`, …
    pub name: String,
    /// Bytes a second in one direction, per card.
    pub bandwidth: f64,
    /// Seconds of one step whatever its size, by protocol.
    pub latency: [f64; 2],
}

impl Link {
    /// Returns the way to another card of the machine, or with `across` to one of another machine.
    ///
    /// # Errors
    /// [`Error::Rate`] where the rate is not known, with the flag that gives it.
    pub fn of(hardware: &Hardware, across: bool) -> Result<Link, Error> {
        let missing = |what, knob| Error::Rate { gpu: hardware.name.clone(), what, knob };
        if across {
            let bandwidth = hardware.network.ok_or_else(|| missing("bandwidth between machines", "network"))?;
            return Ok(Link { name: "the network between machines".to_owned(), bandwidth, latency: NETWORK });
        }
        let bandwidth = hardware.link.ok_or_else(|| missing("bandwidth between cards", "link"))?;
        let latency = if hardware.link_name.starts_with("PCI") { PCIE } else { NVLINK };
        Ok(Link { name: hardware.link_name.clone(), bandwidth, latency })
    }

    /// Returns the seconds of one collective at the link's best: a fixed time, its steps' latencies, and its bytes over the
    /// bandwidth, by the protocol that is faster.
    pub fn seconds(&self, kind: Collective, bytes: f64, ranks: u32) -> f64 {
        if ranks <= 1 && kind != Collective::Send {
            return 0.0;
        }
        let (steps, sent) = (steps(kind, ranks), sent(kind, bytes, ranks));
        let line = |at: usize| BASE[at] + steps * self.latency[at] + sent / (self.bandwidth * DATA[at]);
        line(0).min(line(1))
    }
}

/// What one kind of message costs in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Messages {
    /// The operator: `attention_all_reduce`, `dispatch`, `stage_send`, …
    pub name: String,
    /// Which collective.
    pub kind: Collective,
    /// How often in a step.
    pub count: f64,
    /// Bytes that each rank puts in, each time.
    pub bytes: f64,
    /// Ranks.
    pub ranks: u32,
    /// Whether the ranks lie in several machines.
    pub across: bool,
}

impl Messages {
    /// Returns the bytes that each rank sends in a step.
    pub fn sent(&self) -> f64 {
        self.count * sent(self.kind, self.bytes, self.ranks)
    }

    /// Returns their seconds in a step over a link, at its best.
    pub fn seconds(&self, link: &Link) -> f64 {
        self.count * link.seconds(self.kind, self.bytes, self.ranks)
    }
}

/// Returns what the ranks of a step's operators tell each other, by operator.
pub fn messages(operators: &[Operator]) -> Vec<Messages> {
    let told = operators.iter().filter_map(|operator| {
        let Kernel::Collective { kind, bytes, ranks, across } = operator.kernel else { return None };
        Some(Messages { name: operator.name.to_string(), kind, count: operator.runs, bytes, ranks, across })
    });
    told.collect()
}

/// A stack of layers that is to be divided: what closed forms of its messages need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stack {
    /// Layers.
    pub layers: u32,
    /// Width of the stream.
    pub hidden: u64,
    /// Bytes of a number of it.
    pub number: f64,
    /// Tokens of a step.
    pub tokens: f64,
}

impl Stack {
    /// Bytes of the stream's tokens.
    fn message(&self) -> f64 {
        self.tokens * self.hidden as f64 * self.number
    }

    /// Returns what tensor parallelism over `ranks` says in a step: two all-reduces of tokens × hidden numbers per layer,
    /// one after attention and one after the feed-forward block.
    ///
    /// 80 layers of 8192 numbers in 16 bits, 64 tokens, 8 ranks: 160 messages of 1 MiB, 280 MiB sent by each rank.
    /// Source: Shoeybi et al. 2019, arXiv:1909.08053, section 3 (inference runs the forward half).
    pub fn tensor(&self, ranks: u32) -> Messages {
        Messages {
            name: "all_reduce".to_owned(),
            kind: Collective::AllReduce,
            count: if ranks > 1 { 2.0 * f64::from(self.layers) } else { 0.0 },
            bytes: self.message(),
            ranks,
            across: false,
        }
    }

    /// Returns what a pipeline of `stages` says in a step: one send of tokens × hidden numbers between neighbours, whatever
    /// the layers; in `micro_batches` parts.
    pub fn pipeline(&self, stages: u32, micro_batches: u32) -> Messages {
        let parts = f64::from(micro_batches.max(1));
        Messages {
            name: "send".to_owned(),
            kind: Collective::Send,
            count: f64::from(stages.max(1) - 1) * parts,
            bytes: self.message() / parts,
            ranks: 2,
            across: false,
        }
    }

    /// Returns what expert parallelism over `ranks` says in a step: per layer tokens are sent to the ranks that hold one of
    /// their `topk` experts, n·(1 − (1 − 1/n)^k) of n under uniform routing, and come back; `tokens` are those of one rank.
    ///
    /// 58 layers of 7168 numbers, 8 experts of a token over 8 ranks: each token meets 5.25 ranks.
    pub fn expert(&self, ranks: u32, topk: u32) -> Messages {
        let n = f64::from(ranks.max(1));
        let met = n * (1.0 - libm::pow(1.0 - 1.0 / n, f64::from(topk)));
        Messages {
            name: "all_to_all".to_owned(),
            kind: Collective::AllToAll,
            count: if ranks > 1 { 2.0 * f64::from(self.layers) } else { 0.0 },
            bytes: self.message() * met,
            ranks,
            across: false,
        }
    }
}

/// A pipeline's schedule: `micro_batches` go through `stages` one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Stages p.
    pub stages: u32,
    /// Micro-batches m between two moments at which the pipeline runs empty.
    pub micro_batches: u32,
}

impl Pipeline {
    /// Returns the part of the time in which a stage waits: (p − 1)/(m + p − 1).
    ///
    /// 4 stages and 4 micro-batches: 3/7 = 43 %. An engine that keeps p batches in flight and never runs empty approaches 0
    /// (m grows). Source: Huang et al. 2019, arXiv:1811.06965 (GPipe), section 2.
    pub fn bubble(self) -> f64 {
        let (p, m) = (f64::from(self.stages.max(1)), f64::from(self.micro_batches.max(1)));
        (p - 1.0) / (m + p - 1.0)
    }

    /// Returns the seconds until the last micro-batch has left, when each takes `stage` seconds on every stage:
    /// (m + p − 1)·t.
    pub fn seconds(self, stage: f64) -> f64 {
        (f64::from(self.micro_batches.max(1)) + f64::from(self.stages.max(1)) - 1.0) * stage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: Stack = Stack { layers: 80, hidden: 8192, number: 2.0, tokens: 64.0 };

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn tensor_parallelism_speaks_twice_a_layer() {
        let told = LLAMA.tensor(8);
        near(told.count, 160.0);
        near(told.bytes, 1_048_576.0);
        near(told.sent(), 160.0 * 1.75 * 1_048_576.0);
        near(told.sent() / 1_048_576.0, 280.0);
        assert!(LLAMA.tensor(1).sent().abs() < 1e-9);
    }

    #[test]
    fn a_pipeline_speaks_once_a_stage() {
        let told = LLAMA.pipeline(4, 4);
        near(told.count, 12.0);
        near(told.sent(), 3.0 * 1_048_576.0);
        assert!(told.sent() < LLAMA.tensor(4).sent() / 50.0);
    }

    #[test]
    fn experts_tokens_go_where_their_experts_are() {
        let told = Stack { layers: 58, hidden: 7168, number: 2.0, tokens: 128.0 }.expert(8, 8);
        near(told.count, 116.0);
        let met = 8.0 * (1.0 - 0.875_f64.powi(8));
        near(told.bytes, 128.0 * 7168.0 * 2.0 * met);
        assert!((met - 5.25).abs() < 0.01);
    }

    #[test]
    fn bubbles() {
        for (stages, micro_batches, expected) in [(1, 1, 0.0), (4, 4, 3.0 / 7.0), (4, 1, 0.75), (2, 8, 1.0 / 9.0)] {
            let pipeline = Pipeline { stages, micro_batches };
            assert!((pipeline.bubble() - expected).abs() < 1e-12);
            // The same by counting: busy time over all time.
            let busy = f64::from(micro_batches) / pipeline.seconds(1.0);
            assert!((1.0 - busy - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn slower_links_take_longer_and_small_messages_their_latency() {
        let link = |name: &str, bandwidth, latency| Link { name: name.to_owned(), bandwidth, latency };
        let all =
            [link("NVLink", 450e9, NVLINK), link("PCI Express 5.0", 63e9, PCIE), link("InfiniBand", 50e9, NETWORK)];
        let seconds = all.clone().map(|link| LLAMA.tensor(8).seconds(&link));
        assert!(seconds.is_sorted(), "{seconds:?}");
        let small = all[0].seconds(Collective::AllReduce, 1.0, 8);
        assert!((small - BASE[0] - 14.0 * NVLINK[0]).abs() < 1e-9);
        assert!(all[0].seconds(Collective::AllReduce, 1e9, 1).abs() < 1e-12);
    }

    #[test]
    fn what_goes_in_comes_out() {
        // An all-reduce is a reduce-scatter and an all-gather of a part each.
        for ranks in [2, 3, 8, 72] {
            let whole = sent(Collective::AllReduce, 1e6, ranks);
            let parts = sent(Collective::ReduceScatter, 1e6, ranks)
                + sent(Collective::AllGather, 1e6 / f64::from(ranks), ranks);
            near(whole, parts);
        }
    }
}
