//! Where does each operation run, where is the graph cut, and what is copied between the parts?
//!
//! Follows the passes of `ggml_backend_sched_split_graph` (llama.cpp 0c1e57098, ggml/src/ggml-backend.cpp): operations
//! go where their weights are, GPUs spread to their neighbours, a new part begins where the backend changes, and every
//! tensor that a part cannot read is copied to it, once per pipeline copy.

use std::collections::BTreeMap;

use super::alloc::{self, Ordered};
use super::arena::Graph;
use super::device::Device;
use super::fusion;
use super::tensor::{Id, MAX_SRC, Op, Store};

/// Copies of each input under pipeline parallelism (`GGML_SCHED_MAX_COPIES`).
pub const PIPELINE_COPIES: usize = 4;

/// How the scheduler is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Backends, most preferred first, the CPU last.
    pub devices: Vec<Device>,
    /// 1, or [`PIPELINE_COPIES`].
    pub copies: usize,
    /// Whether GPUs take over large products with weights in host memory.
    pub offloads: bool,
}

/// One part of the graph, run by one backend.
#[derive(Clone, Debug)]
pub struct Split {
    /// The backend.
    pub backend: u8,
    /// First node.
    pub start: usize,
    /// One past the last node.
    pub end: usize,
    /// Tensors copied to the backend before it starts.
    pub inputs: Vec<Id>,
}

/// A graph after the passes.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// Operations in the graph.
    pub nodes: usize,
    /// Parts.
    pub splits: usize,
    /// Bytes per backend's compute buffer, in the order of the backends.
    pub sizes: Vec<u64>,
}

/// Assigns, cuts and measures; `ties` says whether the builder's own assignments still hold.
#[must_use]
pub fn schedule(graph: Graph, setup: &Setup, ties: bool) -> Scheduled {
    let mut pass = Pass::new(graph, setup);
    pass.assign(ties);
    let splits = pass.cut();
    let (nodes, leafs) = pass.order(&splits);
    let ordered = Ordered { tensors: &pass.graph.tensors, nodes: &nodes, leafs: &leafs };
    let sizes = alloc::sizes(ordered, &setup.devices);
    Scheduled { nodes: pass.graph.nodes.len(), splits: splits.len(), sizes }
}

/// The backend of each tensor after the passes, and the number of parts: what the probes for fused operations read.
#[must_use]
pub fn assign(graph: Graph, setup: &Setup) -> Vec<Option<u8>> {
    let mut pass = Pass::new(graph, setup);
    pass.assign(true);
    pass.backend
}

struct Pass<'a> {
    graph: Graph,
    setup: &'a Setup,
    /// The backend of each tensor.
    backend: Vec<Option<u8>>,
    /// First of the copies of a tensor on a backend; the others follow it.
    copied: Vec<Option<Id>>,
    originals: usize,
}

type Placed = Vec<(Id, u8)>;

impl<'a> Pass<'a> {
    fn new(graph: Graph, setup: &'a Setup) -> Self {
        let originals = graph.tensors.len();
        let backend = vec![None; originals];
        let copied = vec![None; originals * setup.devices.len()];
        Self { graph, setup, backend, copied, originals }
    }

    fn cpu(&self) -> u8 {
        u8::try_from(self.setup.devices.len() - 1).unwrap_or(u8::MAX)
    }

    fn device(&self, backend: u8) -> Device {
        self.setup.devices[usize::from(backend)]
    }

    fn runs(&self, backend: u8, id: Id) -> bool {
        self.device(backend).runs(backend, self.graph.get(id), &self.graph.tensors)
    }

    /// The memory of a tensor: what it has, or what its backend's results lie in.
    fn store(&self, id: Id) -> Option<Store> {
        let tensor = self.graph.get(id);
        let owner = tensor.view_src.unwrap_or(id);
        self.graph.get(owner).store.or_else(|| {
            let backend = self.backend[id.index()].or_else(|| tensor.view_src.and_then(|v| self.backend[v.index()]))?;
            Some(self.device(backend).store(backend))
        })
    }

    fn readable(&self, id: Id, backend: u8) -> bool {
        self.store(id).is_some_and(|store| self.device(backend).reads(backend, store))
    }

    fn assign(&mut self, ties: bool) {
        if ties {
            for &(id, backend) in &self.graph.tied {
                self.backend[id.index()] = Some(backend);
            }
        }
        for list in [self.graph.leafs.clone(), self.graph.nodes.clone()] {
            for id in list {
                if self.backend[id.index()].is_none() {
                    self.backend[id.index()] = self.by_memory(id);
                }
            }
        }
        let nodes: Vec<Id> = self.graph.nodes.iter().copied().filter(|&id| !self.graph.get(id).op.is_view()).collect();
        self.spread(nodes.iter().copied(), true);
        self.spread(nodes.iter().rev().copied(), true);
        self.spread(nodes.iter().copied(), false);
        self.spread(nodes.iter().rev().copied(), false);
        for &id in &nodes {
            if self.backend[id.index()].is_none() {
                self.backend[id.index()] = self.most_sources(id);
            }
        }
        self.assign_sources();
    }

    /// The first backend that reads the tensor's memory and runs the operation.
    fn by_store(&self, store: Store, op: Id) -> Option<u8> {
        (0..=self.cpu()).find(|&b| self.device(b).reads(b, store) && self.runs(b, op))
    }

    /// Pass 1: operations on memory that exists go where it is.
    fn by_memory(&self, id: Id) -> Option<u8> {
        let tensor = self.graph.get(id);
        let owner = tensor.view_src.unwrap_or(id);
        if let Some(store) = self.graph.get(owner).store {
            return self.by_store(store, id);
        }
        if tensor.input {
            return Some(self.cpu());
        }
        if matches!(tensor.op, Op::Rope | Op::FlashAttn { .. }) {
            return None;
        }
        let weight = tensor.src.into_iter().flatten().find(|&s| self.graph.get(s).weight)?;
        let store = self.graph.get(weight).store?;
        let home = self.by_store(store, id);
        let on_host = matches!(store, Store::Host | Store::Pinned);
        if self.setup.offloads && home == Some(self.cpu()) && on_host {
            let taker = (0..self.cpu()).find(|&b| self.runs(b, id) && self.device(b).takes_over(tensor));
            return taker.or(home);
        }
        home
    }

    /// Pass 2: a backend spreads to unassigned neighbours that it runs; first GPUs only.
    fn spread(&mut self, nodes: impl Iterator<Item = Id>, gpus_only: bool) {
        let mut current: Option<u8> = None;
        for id in nodes {
            match self.backend[id.index()] {
                Some(backend) => current = (!gpus_only || backend != self.cpu()).then_some(backend),
                None => {
                    if let Some(backend) = current
                        && self.runs(backend, id)
                    {
                        self.backend[id.index()] = Some(backend);
                    }
                }
            }
        }
    }

    /// Pass 3: what is left goes where most of its sources can be read.
    fn most_sources(&self, id: Id) -> Option<u8> {
        let mut best: Option<(u8, usize)> = None;
        for backend in (0..=self.cpu()).filter(|&b| self.runs(b, id)) {
            let assigned = |s: &Id| {
                let view = self.graph.get(*s).view_src;
                self.backend[s.index()].is_some() || view.is_some_and(|v| self.backend[v.index()].is_some())
            };
            let sources = self.graph.get(id).src.into_iter().flatten();
            let readable = sources.filter(assigned).filter(|&s| self.readable(s, backend)).count();
            if best.is_none_or(|(_, most)| readable > most) {
                best = Some((backend, readable));
            }
        }
        best.map(|(backend, _)| backend)
    }

    /// Pass 4: views follow their owner, other sources the operation that reads them.
    fn assign_sources(&mut self) {
        for at in 0..self.graph.nodes.len() {
            let id = self.graph.nodes[at];
            if self.backend[id.index()].is_none() {
                self.backend[id.index()] = self.graph.get(id).view_src.and_then(|v| self.backend[v.index()]);
            }
            for source in self.graph.get(id).src.into_iter().flatten() {
                if self.backend[source.index()].is_none() {
                    let from = self.graph.get(source).view_src.unwrap_or(id);
                    self.backend[source.index()] = self.backend[from.index()];
                }
            }
            if self.backend[id.index()].is_none() {
                let first = (0..=self.cpu()).find(|&b| self.runs(b, id));
                self.backend[id.index()] = first.or(Some(self.cpu()));
            }
        }
    }

    fn backend_of(&self, id: Id) -> u8 {
        self.backend[id.index()].unwrap_or(self.cpu())
    }

    /// Pass 5: cuts the order into parts and makes the copies they need.
    fn cut(&mut self) -> Vec<Split> {
        let nodes = self.graph.nodes.clone();
        let first = nodes.iter().position(|&id| !self.graph.get(id).op.is_view()).unwrap_or(nodes.len());
        let backend = nodes.get(first).map_or(self.cpu(), |&id| self.backend_of(id));
        let mut splits = vec![Split { backend, start: 0, end: nodes.len(), inputs: Vec::new() }];
        for (at, &id) in nodes.iter().enumerate().skip(first) {
            if self.graph.get(id).op.is_view() {
                continue;
            }
            let backend = self.backend_of(id);
            let Some(current) = splits.last_mut() else { break };
            let fresh =
                current.backend != backend || (!current.inputs.is_empty() && self.reads_foreign_weight(id, backend));
            if fresh {
                current.end = at;
                splits.push(Split { backend, start: at, end: nodes.len(), inputs: Vec::new() });
            }
            for slot in 0..MAX_SRC {
                if let Some(source) = self.graph.get(id).src[slot]
                    && let Some(split) = splits.last_mut()
                {
                    self.bring(id, slot, source, split);
                }
            }
        }
        splits
    }

    /// A weight staged for one operation is freed when a new part begins.
    fn reads_foreign_weight(&self, id: Id, backend: u8) -> bool {
        self.graph.get(id).src.into_iter().flatten().any(|source| {
            self.graph.get(source).weight && self.backend_of(source) != backend && !self.readable(source, backend)
        })
    }

    /// Replaces a source that the part's backend cannot read by a copy.
    fn bring(&mut self, id: Id, slot: usize, source: Id, split: &mut Split) {
        let backend = split.backend;
        if self.backend_of(source) == backend || self.readable(source, backend) {
            return;
        }
        let copy = match self.copy_of(source, backend) {
            Some(copy) => copy,
            None => {
                let copy = self.make_copies(source, backend, self.setup.copies, self.setup.copies > 1);
                split.inputs.push(source);
                copy
            }
        };
        self.graph.tensors[id.index()].src[slot] = Some(copy);
    }

    fn copy_of(&self, id: Id, backend: u8) -> Option<Id> {
        (id.index() < self.originals)
            .then(|| self.copied[id.index() * self.setup.devices.len() + usize::from(backend)])
            .flatten()
    }

    fn make_copies(&mut self, id: Id, backend: u8, count: usize, kept: bool) -> Id {
        let first = Id::at(self.graph.tensors.len());
        for _ in 0..count {
            let original = self.graph.get(id);
            let mut copy = super::tensor::Tensor::new(Op::None, original.kind, original.ne);
            copy.nb = original.nb;
            copy.input = kept;
            copy.output = kept;
            self.graph.push(copy);
            self.backend.push(Some(backend));
        }
        if id.index() < self.originals {
            self.copied[id.index() * self.setup.devices.len() + usize::from(backend)] = Some(first);
        }
        first
    }

    /// The order that the allocator sees: copies at the start of their part, then the part.
    fn order(&mut self, splits: &[Split]) -> (Placed, Placed) {
        let mut graph_inputs: Vec<(Id, u8, Id)> = Vec::new();
        if self.setup.copies > 1 {
            for leaf in self.graph.leafs.clone() {
                if self.graph.get(leaf).input {
                    let backend = self.backend_of(leaf);
                    let others = self.make_copies(leaf, backend, self.setup.copies - 1, true);
                    self.graph.tensors[leaf.index()].output = true;
                    graph_inputs.push((leaf, backend, others));
                }
            }
        }
        let mut kept = fusion::kept_tensors(&self.graph, splits, &self.setup.devices);
        let mut nodes: Placed = Vec::with_capacity(self.graph.nodes.len() + 2 * splits.len());
        for split in splits {
            for &input in &split.inputs {
                self.order_copy(input, split.backend, &mut nodes);
            }
            for at in split.start..split.end {
                let id = self.graph.nodes[at];
                nodes.push((id, self.backend_of(id)));
                self.order_kept(id, split.backend, &mut kept, &mut nodes);
            }
        }
        (nodes, self.leafs(splits, &graph_inputs))
    }

    fn order_copy(&mut self, input: Id, backend: u8, nodes: &mut Placed) {
        let Some(copy) = self.copy_of(input, backend) else { return };
        let dependency = self.graph.alias(input);
        self.graph.tensors[dependency.index()].src[0] = Some(input);
        self.backend.push(None);
        nodes.push((dependency, self.backend_of(input)));
        nodes.push((copy, backend));
    }

    fn order_kept(&mut self, id: Id, backend: u8, kept: &mut BTreeMap<Id, Vec<Id>>, nodes: &mut Placed) {
        for chunk in kept.remove(&id).unwrap_or_default().chunks(MAX_SRC) {
            let dependency = self.graph.alias(chunk[0]);
            for (slot, &tensor) in chunk.iter().enumerate() {
                self.graph.tensors[dependency.index()].src[slot] = Some(tensor);
            }
            self.backend.push(None);
            nodes.push((dependency, backend));
        }
    }

    fn leafs(&self, splits: &[Split], graph_inputs: &[(Id, u8, Id)]) -> Placed {
        let mut leafs: Placed = Vec::new();
        let following = |first: Id, count: usize| (0..count).map(move |n| Id::at(first.index() + n));
        for &(leaf, backend, others) in graph_inputs {
            leafs.push((leaf, backend));
            leafs.extend(following(others, self.setup.copies - 1).map(|copy| (copy, backend)));
        }
        if self.setup.copies > 1 {
            for split in splits {
                for &input in &split.inputs {
                    if let Some(first) = self.copy_of(input, split.backend) {
                        leafs.extend(following(first, self.setup.copies).map(|copy| (copy, split.backend)));
                    }
                }
            }
        }
        leafs.extend(self.graph.leafs.iter().map(|&leaf| (leaf, self.backend_of(leaf))));
        leafs
    }
}
