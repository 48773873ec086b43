//! What holds an operator back? The card's roofs over it, and which of them is the lowest.

use crate::{Hardware, Kernel, Operator};

/// What holds an operator back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bound {
    /// Arithmetic: the card's peak.
    Compute,
    /// Bytes: the memory's bandwidth.
    Memory,
    /// Messages: the bandwidth between cards.
    Link,
    /// None of these: starting, waiting and small pieces take most of the time.
    Latency,
}

impl Bound {
    /// All of them.
    pub const ALL: [Bound; 4] = [Bound::Compute, Bound::Memory, Bound::Link, Bound::Latency];

    /// Returns the name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Memory => "memory",
            Bound::Link => "link",
            Bound::Latency => "latency",
        }
    }
}

/// So many times what the lowest roof allows is no longer explained by that roof.
pub const BEYOND: f64 = 3.0;

/// The least that one run of an operator can take, by each of the card's limits, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Roofs {
    /// Operations over the peak of their arithmetic.
    pub compute: f64,
    /// Bytes read and written over the memory's bandwidth.
    pub memory: f64,
    /// Bytes sent over the link's bandwidth; 0 where nothing is sent, or the link's bandwidth is not known.
    pub link: f64,
}

impl Roofs {
    /// Returns the least time that all limits allow: the greatest of them.
    pub fn ideal(&self) -> f64 {
        self.compute.max(self.memory).max(self.link)
    }

    /// Returns the limit that decides, whatever the operator really takes.
    pub fn lowest(&self) -> Bound {
        if self.link > 0.0 && self.link >= self.memory.max(self.compute) {
            Bound::Link
        } else if self.compute > self.memory {
            Bound::Compute
        } else {
            Bound::Memory
        }
    }

    /// Returns what holds a run back that takes `seconds`: the limit that decides, unless it takes more than [`BEYOND`]
    /// times what that limit allows.
    pub fn bound(&self, seconds: f64) -> Bound {
        if seconds > BEYOND * self.ideal() { Bound::Latency } else { self.lowest() }
    }
}

/// Bytes that a rank sends in one run of a kernel, as [`crate::what_if::parallel::sent`] counts them; none for what is no
/// collective.
pub fn sent(kernel: &Kernel) -> f64 {
    let Kernel::Collective { kind, bytes, ranks, .. } = kernel else { return 0.0 };
    crate::what_if::parallel::sent(*kind, *bytes, *ranks)
}

impl Hardware {
    /// Returns the bandwidth over which a collective runs, bytes a second in one direction; `None` for other kernels and
    /// where it is not known.
    pub fn road(&self, kernel: &Kernel) -> Option<f64> {
        let Kernel::Collective { across, .. } = kernel else { return None };
        if *across { self.network.or(self.link) } else { self.link }
    }

    /// Returns the least times of one run of an operator.
    pub fn roofs(&self, operator: &Operator) -> Roofs {
        let Operator { kernel, work, .. } = operator;
        Roofs {
            compute: work.flops / self.peak(work.math),
            memory: (work.read + work.written) / self.bandwidth,
            link: self.road(kernel).map_or(0.0, |rate| sent(kernel) / rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::{Collective, Format, Math, Work};

    fn card() -> Hardware {
        Hardware {
            name: "H100 SXM5 80GB".to_owned(),
            capability: Some((9, 0)),
            peaks: [Some(989.4e12), Some(1978.9e12), Some(1978.9e12), None],
            bandwidth: 3.35e12,
            l2_cache: Some(50.0 * 1_048_576.0),
            sm_count: Some(132),
            link: Some(450e9),
            link_name: "NVLink".to_owned(),
            network: None,
            machine: 8,
            assumptions: Vec::new(),
        }
    }

    fn product(m: f64) -> Operator {
        let (n, k) = (8192, 8192);
        let (wide, deep) = (8192.0, 8192.0);
        Operator {
            name: Cow::Borrowed("o_proj"),
            runs: 1.0,
            kernel: Kernel::Gemm { m, n, k, format: Format::Bf16 },
            work: Work {
                flops: 2.0 * m * wide * deep,
                read: 2.0 * (wide * deep + m * deep),
                written: 2.0 * m * wide,
                math: Math::Half,
            },
        }
    }

    #[test]
    fn a_product_bends_where_the_roofs_meet() {
        let card = card();
        // 2 m n k / (2 n k + 4 m n) = ridge at m = ridge / (1 − 2 ridge / k) for square matrices.
        let ridge = card.ridge(Math::Half);
        assert!((ridge - 295.3).abs() < 0.1, "{ridge}");
        let turn = ridge / (1.0 - 2.0 * ridge / 8192.0);
        for (m, bound) in [(1.0, Bound::Memory), (turn * 0.99, Bound::Memory), (turn * 1.01, Bound::Compute)] {
            assert_eq!(card.roofs(&product(m)).lowest(), bound, "{m}");
        }
        let roofs = card.roofs(&product(1.0));
        assert_eq!(roofs.bound(roofs.ideal() * 1.4), Bound::Memory);
        assert_eq!(roofs.bound(roofs.ideal() * 3.1), Bound::Latency);
    }

    #[test]
    fn a_ring_sends_what_nccl_counts() {
        let collective = |kind, ranks| Kernel::Collective { kind, bytes: 1024.0, ranks, across: false };
        for (kind, ranks, bytes) in [
            (Collective::AllReduce, 1, 0.0),
            (Collective::AllReduce, 4, 1536.0),
            (Collective::AllGather, 4, 3072.0),
            (Collective::ReduceScatter, 4, 768.0),
            (Collective::AllToAll, 8, 896.0),
            (Collective::Send, 2, 1024.0),
        ] {
            assert!((sent(&collective(kind, ranks)) - bytes).abs() < 1e-9, "{kind:?} {ranks}");
        }
    }
}
