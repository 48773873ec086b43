//! Which tensors does the CUDA backend keep longer than their readers need, so that it can fuse operations?
//!
//! Follows `ggml_backend_cuda_graph_optimize` with `ggml_cuda_match_moe_weighted_reduction`,
//! `ggml_cuda_topk_moe_fusion` and `ggml_can_fuse_subgraph_ext` (llama.cpp 0c1e57098,
//! ggml/src/ggml-cuda/ggml-cuda.cu, topk-moe.cu and ggml/src/ggml.c). Only the mixture-of-experts fusions keep memory.

use std::collections::BTreeMap;

use super::arena::Graph;
use super::device::Device;
use super::sched::Split;
use super::tensor::{Id, Kind, Op, Tensor, Unary};

/// For each operation, what must stay in memory until it has run.
#[must_use]
pub fn kept_tensors(graph: &Graph, splits: &[Split], devices: &[Device]) -> BTreeMap<Id, Vec<Id>> {
    let mut kept = BTreeMap::new();
    for split in splits {
        if matches!(devices[usize::from(split.backend)], Device::Cuda { .. }) {
            let part = Part { graph, nodes: &graph.nodes[split.start..split.end] };
            part.scan(&mut kept);
        }
    }
    kept
}

type Kept = BTreeMap<Id, Vec<Id>>;

/// Experts per token up to which the weighted sum is fused (`MOE_WEIGHTED_REDUCTION_MAX_EXPERTS`).
const MAX_REDUCED_EXPERTS: u64 = 15;

fn keep(kept: &mut Kept, tensor: Id, until: Id) {
    let list = kept.entry(until).or_default();
    if !list.contains(&tensor) {
        list.push(tensor);
    }
}

struct Part<'a> {
    graph: &'a Graph,
    nodes: &'a [Id],
}

/// A router's operations that become one.
struct Router {
    count: usize,
    ids_at: usize,
}

/// A weighted sum over experts that becomes one operation.
struct Reduction {
    experts: Id,
    weights: Id,
    scale: Option<Id>,
    count: usize,
}

impl Part<'_> {
    fn op(&self, at: usize) -> Option<Op> {
        self.nodes.get(at).map(|&id| self.graph.get(id).op)
    }

    fn tensor(&self, at: usize) -> &Tensor {
        self.graph.get(self.nodes[at])
    }

    /// Whether a node's source is the node at another place.
    fn reads(&self, at: usize, slot: usize, from: usize) -> bool {
        self.nodes.get(at).is_some_and(|&id| self.graph.get(id).src[slot] == self.nodes.get(from).copied())
    }

    fn scan(&self, kept: &mut Kept) {
        let mut at = 0;
        while at < self.nodes.len() {
            if let Some(found) = self.reduction(at) {
                let last = self.nodes[at + found.count - 1];
                for tensor in [Some(found.experts), Some(found.weights), found.scale].into_iter().flatten() {
                    keep(kept, tensor, last);
                }
                at += found.count - 1;
            }
            if let Some(router) = self.router(at) {
                let until = at + router.count;
                if let Some(&last) = self.nodes.get(until) {
                    self.keep_all(at, until, last, kept);
                }
                at += router.count - 1;
            }
            at += 1;
        }
    }

    fn keep_all(&self, from: usize, to: usize, until: Id, kept: &mut Kept) {
        for at in from..to {
            keep(kept, self.nodes[at], until);
            for source in self.tensor(at).src.into_iter().flatten() {
                keep(kept, source, until);
            }
        }
    }

    fn router(&self, start: usize) -> Option<Router> {
        let mut at = start;
        let first = self.op(at)?;
        if first == Op::Unary(Unary::Softplus) && self.op(at + 1)? == Op::Sqrt && self.reads(at + 1, 0, at) {
            at += 1;
        } else if !matches!(first, Op::SoftMax { plain: true } | Op::Unary(Unary::Sigmoid)) {
            return None;
        }
        let probabilities = at;
        let reshaped = at + 1;
        if self.op(reshaped)? != Op::Reshape || !self.reads(reshaped, 0, probabilities) {
            return None;
        }
        at += 2;
        let biased = self.op(at)? == Op::Add && self.reads(at, 0, probabilities);
        if biased {
            at += 1;
        }
        let sorted_from = if biased { at - 1 } else { probabilities };
        let chosen = at + 1;
        let gathered = at + 2;
        let fits = self.op(at)? == Op::Argsort
            && self.reads(at, 0, sorted_from)
            && self.op(chosen)? == Op::View
            && self.reads(chosen, 0, at)
            && self.op(gathered)? == Op::GetRows
            && self.reads(gathered, 0, reshaped)
            && self.reads(gathered, 1, chosen);
        if !fits {
            return None;
        }
        at = self.after_norm(gathered + 1);
        if self.op(at) == Some(Op::Scale) && self.reads(at, 0, at - 1) {
            at += 1;
        }
        let router = Router { count: at - start, ids_at: chosen };
        (self.is_closed(start, router.count, &[chosen, at - 1]) && self.shape_fits(start, &router)).then_some(router)
    }

    /// The place after the normalisation of the weights, where there is one.
    fn after_norm(&self, at: usize) -> usize {
        let steps = [Op::Reshape, Op::SumRows, Op::Clamp];
        let chain =
            steps.iter().enumerate().all(|(n, &op)| self.op(at + n) == Some(op) && self.reads(at + n, 0, at + n - 1));
        let divided = self.op(at + 3) == Some(Op::Div) && self.reads(at + 3, 1, at + 2) && self.reads(at + 3, 0, at);
        let shaped = self.op(at + 4) == Some(Op::Reshape) && self.reads(at + 4, 0, at + 3);
        if chain && divided && shaped { at + 5 } else { at }
    }

    fn shape_fits(&self, start: usize, router: &Router) -> bool {
        let ids = self.tensor(router.ids_at);
        let experts = ids.nb[1] / ids.nb[0].max(1);
        let known = (experts.is_power_of_two() && experts <= 512) || experts == 288 || experts == 576;
        let logits = self.tensor(start).src[0].map(|id| self.graph.get(id));
        let weights = self.tensor(start + router.count - 1);
        known && weights.is_contiguous() && logits.is_some_and(Tensor::is_contiguous)
    }

    /// Whether nothing outside reads the inner results (`ggml_can_fuse_subgraph_ext`).
    fn is_closed(&self, start: usize, count: usize, outputs: &[usize]) -> bool {
        let Some(inside) = self.nodes.get(start..start + count) else { return false };
        (start..start + count).all(|at| {
            let id = self.nodes[at];
            let tensor = self.graph.get(id);
            if !tensor.computed {
                return false;
            }
            if outputs.contains(&at) {
                return true;
            }
            let later = self.nodes[at + 1..start + count].iter();
            let reads = later.flat_map(|&n| self.graph.get(n).src).filter(|&s| s == Some(id)).count();
            let all = self.graph.uses.get(id.index()).copied().unwrap_or(0);
            let owner_inside = tensor.view_src.is_none_or(|v| inside.contains(&v) || self.graph.get(v).weight);
            !tensor.output && reads == all as usize && owner_inside
        })
    }

    fn reduction(&self, start: usize) -> Option<Reduction> {
        let first = self.tensor(start);
        if first.op != Op::Mul || first.kind != Kind::F32 || !first.is_contiguous() {
            return None;
        }
        let (weighted_at, experts, weights, scale) = self.two_step(start).or_else(|| {
            let (experts, weights) = self.factors(start)?;
            Some((start, experts, weights, None))
        })?;
        let weighted = self.tensor(weighted_at);
        let used = weighted.ne[1];
        let tokens = weighted.ne[2].saturating_mul(weighted.ne[3]);
        if !(2..=MAX_REDUCED_EXPERTS).contains(&used) || tokens == 0 {
            return None;
        }
        let muls = weighted_at - start + 1;
        let count = usize::try_from(2 * used).ok()? + muls - 1;
        self.sum_follows(start + muls, start + count, self.nodes[weighted_at], tokens).then_some(())?;
        self.is_closed(start, count, &[start + count - 1]).then_some(Reduction { experts, weights, scale, count })
    }

    fn two_step(&self, start: usize) -> Option<(usize, Id, Id, Option<Id>)> {
        let second = self.nodes.get(start + 1).map(|&id| self.graph.get(id))?;
        if second.op != Op::Mul || second.kind != Kind::F32 || !second.is_contiguous() {
            return None;
        }
        let (scaled, weights) = self.factors(start + 1)?;
        let (experts, scale) = self.factors(start)?;
        (scaled == self.nodes[start]).then_some((start + 1, experts, weights, Some(scale)))
    }

    /// The full and the broadcast factor of a product.
    fn factors(&self, at: usize) -> Option<(Id, Id)> {
        let product = self.tensor(at);
        let (a, b) = (product.src[0]?, product.src[1]?);
        let packed = |id: Id| self.graph.get(id).kind == Kind::F32 && self.graph.get(id).is_contiguous();
        let full = |id: Id| packed(id) && self.graph.ne(id) == product.ne;
        let broadcast = |id: Id| {
            let ne = self.graph.ne(id);
            packed(id) && ne[0] == 1 && ne[1..] == product.ne[1..]
        };
        if full(a) && broadcast(b) { Some((a, b)) } else { (full(b) && broadcast(a)).then_some((b, a)) }
    }

    /// Whether views of each expert and their running sum follow.
    fn sum_follows(&self, from: usize, to: usize, weighted: Id, tokens: u64) -> bool {
        let Some(nodes) = self.nodes.get(from..to) else { return false };
        let whole = self.graph.get(weighted);
        let mut views: Vec<Id> = Vec::new();
        let mut sum: Option<Id> = None;
        let mut added = 1;
        for &id in nodes {
            let tensor = self.graph.get(id);
            if tensor.op == Op::View {
                let offset = (views.len() as u64).saturating_mul(whole.nb[1]);
                let fits = tensor.src[0] == Some(weighted)
                    && tensor.view_src == Some(weighted)
                    && tensor.ne == [whole.ne[0], tokens, 1, 1]
                    && tensor.nb[..2] == [whole.nb[0], whole.nb[2]]
                    && tensor.view_offs == offset
                    && (views.len() as u64) < whole.ne[1];
                if !fits {
                    return false;
                }
                views.push(id);
                continue;
            }
            let left = sum.or_else(|| views.first().copied());
            let right = views.get(added).copied();
            if tensor.op != Op::Add || right.is_none() || tensor.src[..2] != [left, right] {
                return false;
            }
            sum = Some(id);
            added += 1;
        }
        views.len() as u64 == whole.ne[1] && added as u64 == whole.ne[1]
    }
}
