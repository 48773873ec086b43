//! How many layers did the static estimator offload? Generation A: sizes from formulas, layers dealt out in turn.
//!
//! Source: Ollama 0.12.10, `llm/memory.go`, `estimateGPULayers`; 0.6.6 for the form before 0.7.0.

use super::graph::{GraphSize, Load, graph_size};
use super::sizes::Sizes;
use crate::Version;

/// Taken off every GPU for the CUDA context (`MinimumMemory`, 457 MiB).
pub const MINIMUM: u64 = 457 << 20;

/// Since when layers are dealt from the last.
const FROM_THE_LAST: Version = Version::new(0, 7, 0);
/// Since when built-in vision lies with the output rather than on the first GPU; the buffer is the first layer again, after
/// 0.7.0 had taken the largest group of tensors, the embedding among them.
const VISION_LAST: Version = Version::new(0, 7, 1);

/// A device as the estimator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Free bytes.
    pub free: u64,
    /// 457 MiB on a GPU, nothing on the processor.
    pub minimum: u64,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// The load.
    pub load: Load,
    /// `num_gpu`: layers, the output counted; `None` for as many as fit.
    pub layers: Option<u64>,
    /// `OLLAMA_GPU_OVERHEAD`.
    pub overhead: u64,
    /// Bytes of a projector in a file of its own.
    pub projector: u64,
    /// Whether the devices are one Metal GPU.
    pub metal: bool,
    /// The release.
    pub version: Version,
}

/// The estimate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Layers on GPUs, the output counted.
    pub layers: u64,
    /// Layers of each GPU, the output counted.
    pub split: Vec<u64>,
    /// Bytes of each GPU (`memory.required.allocations`).
    pub allocations: Vec<u64>,
    /// Bytes on GPUs (`memory.required.partial`).
    pub partial: u64,
    /// Bytes of all (`memory.required.full`).
    pub full: u64,
    /// The cache (`memory.required.kv`).
    pub kv: u64,
    /// The graph with everything on GPUs (`memory.graph.full`).
    pub graph_full: u64,
    /// The graph otherwise (`memory.graph.partial`).
    pub graph_partial: u64,
    /// Whether the output is on a GPU too.
    pub all: bool,
}

/// The dealing out, while it goes on.
struct Deal<'a> {
    gpus: &'a [Gpu],
    request: &'a Request,
    graph: u64,
    used: Vec<u64>,
    split: Vec<u64>,
    /// GPUs that still have room.
    open: Vec<usize>,
}

impl Deal<'_> {
    fn fits(&self, gpu: usize, size: u64) -> bool {
        let need = self.request.overhead.saturating_add(self.used[gpu]).saturating_add(self.graph).saturating_add(size);
        self.gpus[gpu].free > need
    }

    fn put(&mut self, gpu: usize, size: u64) {
        self.used[gpu] = self.used[gpu].saturating_add(size);
        self.split[gpu] += 1;
    }

    /// Puts a layer on the open GPU whose turn it is; a GPU without room is closed.
    fn layer(&mut self, turn: usize, size: u64) -> bool {
        while !self.open.is_empty() {
            let at = turn % self.open.len();
            let gpu = self.open[at];
            if self.fits(gpu, size) {
                self.put(gpu, size);
                return true;
            }
            self.open.remove(at);
        }
        false
    }
}

/// Estimates a load on GPUs of one kind.
pub fn estimate(sizes: &Sizes, gpus: &[Gpu], request: &Request) -> Estimate {
    let GraphSize { kv, mut full, mut partial } = graph_size(sizes, &request.load, request.version);
    if request.metal {
        partial = full;
    } else if gpus.len() > 1 {
        full = partial;
    }
    let graph = full.max(partial);
    let from_last = request.version >= FROM_THE_LAST;
    let vision = if request.projector == 0 { (sizes.vision, sizes.more.vision_graph) } else { (0, 0) };
    let vision = vision.0.saturating_add(vision.1);
    let vision_last = request.version >= VISION_LAST;
    let on_first = request.projector.saturating_add(if vision_last { 0 } else { vision });
    let with_output = if vision_last { vision } else { 0 };
    let buffer = if from_last && !vision_last { sizes.largest() } else { sizes.layers.first().copied().unwrap_or(0) };
    let buffer = buffer.saturating_add(kv.first().copied().unwrap_or(0));
    let mut deal =
        Deal { gpus, request, graph, used: vec![0; gpus.len()], split: vec![0; gpus.len()], open: Vec::new() };
    for (at, gpu) in gpus.iter().enumerate() {
        let first = if deal.open.is_empty() { on_first } else { 0 };
        let least = [request.overhead, first, graph, gpu.minimum, buffer, buffer];
        if gpu.free >= least.into_iter().fold(0, u64::saturating_add) {
            deal.open.push(at);
            deal.used[at] = gpu.minimum.saturating_add(buffer);
        }
    }
    let mut overflow = 0_u64;
    match deal.open.first() {
        Some(first) => deal.used[*first] = deal.used[*first].saturating_add(on_first),
        None => overflow = overflow.saturating_add(on_first),
    }
    let count = sizes.layers.len();
    let mut placed = 0_u64;
    for turn in 0..count {
        let at = if from_last { count - 1 - turn } else { turn };
        let size = sizes.layers[at].saturating_add(kv.get(at).copied().unwrap_or(0));
        let wanted = request.layers.is_none_or(|layers| placed < layers);
        if wanted && deal.layer(at, size) {
            placed += 1;
        } else {
            overflow = overflow.saturating_add(size);
        }
    }
    if !from_last {
        // What is left over was taken to be as large as the last layer.
        let size = sizes.layers.last().copied().unwrap_or(0).saturating_add(kv.last().copied().unwrap_or(0));
        let first = if deal.open.is_empty() && placed == 0 { on_first } else { 0 };
        overflow = first.saturating_add(size.saturating_mul(count as u64 - placed));
    }
    let last = sizes.output_layer().saturating_add(with_output);
    let mut all = placed >= count as u64;
    if last > 0 {
        if request.layers.is_none_or(|layers| placed < layers) {
            let turns = (1..=deal.open.len()).rev().map(|open| deal.open[placed as usize % open]);
            let found: Option<usize> = turns.collect::<Vec<_>>().into_iter().find(|gpu| deal.fits(*gpu, last));
            if let Some(gpu) = found {
                deal.put(gpu, last);
                placed += 1;
            }
        }
        if placed < count as u64 + 1 {
            all = false;
            overflow = overflow.saturating_add(last);
        }
    }
    let added = if all { full } else { partial };
    for (used, layers) in deal.used.iter_mut().zip(&deal.split) {
        if *layers > 0 {
            *used = used.saturating_add(added);
        }
    }
    let partial_sum = deal.used.iter().copied().fold(0, u64::saturating_add);
    Estimate {
        layers: placed,
        split: deal.split,
        allocations: deal.used,
        partial: partial_sum,
        full: partial_sum.saturating_add(overflow),
        kv: kv.iter().copied().fold(0, u64::saturating_add),
        graph_full: full,
        graph_partial: partial,
        all,
    }
}

/// Chooses the GPUs: the fewest, by free memory, that take everything, else all (`pickBestFullFitByLibrary`). Returns
/// their places in the given order and the estimate.
pub fn choose(sizes: &Sizes, gpus: &[Gpu], request: &Request, spread: bool) -> (Vec<usize>, Estimate) {
    let mut order: Vec<usize> = (0..gpus.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(gpus[*at].free));
    let of = |chosen: &[usize]| {
        let gpus: Vec<Gpu> = chosen.iter().map(|at| gpus[*at]).collect();
        estimate(sizes, &gpus, request)
    };
    let wanted = request.layers.unwrap_or(sizes.layers.len() as u64 + 1);
    let first = if spread { order.len() } else { 1 };
    for count in first..=order.len() {
        let estimate = of(&order[..count]);
        if estimate.layers > 0 && estimate.layers >= wanted {
            return (order[..count].to_vec(), estimate);
        }
    }
    // Nothing takes it whole: the GPUs in their own order.
    let all: Vec<usize> = (0..gpus.len()).collect();
    let estimate = of(&all);
    (all, estimate)
}
