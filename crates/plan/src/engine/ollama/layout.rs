//! How does the layout loop deal layers out? Generation B: layers from the last one down, on the fewest GPUs, balanced by
//! the smallest share of their memory that still takes as many.
//!
//! Source: Ollama 0.29, `llm/server.go`, `buildLayout`, `assignLayers`, `findBestFit`, `greedyFit`.

/// A GPU for the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Free bytes for layers: what is free less the minimum, the overhead and its graph.
    pub free: u64,
    /// Whether it shares the processor's memory; the others are filled first.
    pub integrated: bool,
}

/// The layers of each GPU, as many as there are GPUs; the output is the last index.
pub type Layers = Vec<Vec<usize>>;

/// Assigns layers to GPUs that are sorted by free memory, the largest first. `requested` is `num_gpu`.
pub fn assign(layers: &[u64], gpus: &[Gpu], requested: Option<usize>, spread: bool) -> Layers {
    let mut gpus = gpus.to_vec();
    if requested.is_some() || spread {
        gpus.iter_mut().for_each(|gpu| gpu.integrated = false);
    }
    let mut rest = layers;
    let mut found = vec![Vec::new(); gpus.len()];
    for _ in 0..2 {
        let wanted = requested.map(|wanted| wanted.min(rest.len()));
        let first = if spread { gpus.len().saturating_sub(1) } else { 0 };
        for last in first..gpus.len() {
            let force = spread || last + 1 == gpus.len();
            found = best(rest, &gpus, last + 1, wanted, force);
            let sum = count(&found);
            if sum == rest.len() || Some(sum) == wanted {
                break;
            }
        }
        if count(&found) == rest.len() {
            return found;
        }
        // What does not fit whole is tried again without the output.
        rest = &rest[..rest.len().saturating_sub(1)];
    }
    found
}

/// Returns how many layers are on GPUs.
pub fn count(layers: &Layers) -> usize {
    layers.iter().map(Vec::len).sum()
}

/// The most layers on the first `taken` GPUs, discrete ones first, with the smallest share of their memory.
fn best(layers: &[u64], gpus: &[Gpu], taken: usize, requested: Option<usize>, force: bool) -> Layers {
    let mut found = vec![Vec::new(); gpus.len()];
    let (mut rest, mut requested) = (layers, requested);
    for integrated in [false, true] {
        let group: Vec<usize> = (0..taken).filter(|at| gpus[*at].integrated == integrated).collect();
        if group.is_empty() {
            continue;
        }
        let (mut low, mut high) = (0.0_f32, if requested.is_some() && force { 1000.0 } else { 1.0 });
        let mut kept = greedy(rest, gpus, &group, high, requested);
        let most = kept.len();
        while high - low > 1e-6 {
            let middle = (low + high) / 2.0;
            // At the upper end single precision runs out of numbers between.
            if middle <= low || middle >= high {
                break;
            }
            let tried = greedy(rest, gpus, &group, middle, requested);
            if tried.len() == most {
                (high, kept) = (middle, tried);
            } else {
                low = middle;
            }
        }
        rest = &rest[..rest.len() - most];
        requested = requested.map(|wanted| wanted.saturating_sub(most));
        for (layer, gpu) in kept {
            found[gpu].insert(0, layer);
        }
    }
    found
}

/// From the last layer down: the last GPU first, then the one before it.
fn greedy(
    layers: &[u64],
    gpus: &[Gpu],
    group: &[usize],
    capacity: f32,
    requested: Option<usize>,
) -> Vec<(usize, usize)> {
    let space = |at: usize| (gpus[at].free as f32 * capacity) as u64;
    let mut placed = Vec::new();
    let mut left = group.iter().rev().copied();
    let Some(mut gpu) = left.next() else { return placed };
    let mut free = space(gpu);
    for (at, size) in layers.iter().enumerate().rev() {
        if requested.is_some_and(|wanted| layers.len() - 1 - at >= wanted) {
            break;
        }
        while *size > free {
            match left.next() {
                Some(next) => (gpu, free) = (next, space(next)),
                None => return placed,
            }
        }
        free -= *size;
        placed.push((at, gpu));
    }
    placed
}
