//! How much memory does an ordered graph need? The graph allocator played through without memory.
//!
//! Follows `ggml_gallocr_alloc_graph_impl` and `ggml_dyn_tallocr_*` (llama.cpp 0c1e57098, ggml/src/ggml-alloc.c): each
//! buffer is one growing address space with a sorted list of holes; a result takes over the memory of a source where
//! it may, else the smallest hole that fits, else the end; a source is freed when its last reader has run. The
//! device buffers have no largest chunk here, so there is one chunk per buffer.

use super::device::Device;
use super::tensor::{Id, Tensor};

/// Hole of free memory.
#[derive(Clone, Copy, Debug)]
struct Hole {
    start: u64,
    size: u64,
}

/// The address space of one buffer.
#[derive(Clone, Debug)]
pub struct Space {
    alignment: u64,
    holes: Vec<Hole>,
    peak: u64,
}

impl Space {
    /// An empty space whose sizes are rounded up to that power of two.
    #[must_use]
    pub fn new(alignment: u64) -> Self {
        Self { alignment, holes: vec![Hole { start: 0, size: u64::MAX / 2 }], peak: 0 }
    }

    /// The highest end of any allocation so far.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.peak
    }

    fn padded(&self, size: u64) -> u64 {
        size.checked_next_multiple_of(self.alignment).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
    }

    /// Takes the smallest hole that fits (the last such), or else the open end; returns where.
    pub fn take(&mut self, size: u64) -> u64 {
        let size = self.padded(size);
        let last = self.holes.len() - 1;
        let mut best: Option<(usize, u64)> = None;
        for (at, hole) in self.holes[..last].iter().enumerate() {
            if hole.size >= size && best.is_none_or(|(_, smallest)| hole.size <= smallest) {
                best = Some((at, hole.size));
            }
        }
        let at = best.map_or(last, |(at, _)| at);
        let hole = &mut self.holes[at];
        let start = hole.start;
        hole.start = hole.start.saturating_add(size);
        hole.size = hole.size.saturating_sub(size);
        if hole.size == 0 && at != last {
            self.holes.remove(at);
        }
        self.peak = self.peak.max(start.saturating_add(size));
        start
    }

    /// Gives memory back, joining it with its neighbours.
    pub fn give(&mut self, start: u64, size: u64) {
        let size = self.padded(size);
        let end = start.saturating_add(size);
        for at in 0..self.holes.len() {
            let hole = self.holes[at];
            if hole.start.saturating_add(hole.size) == start {
                self.holes[at].size = hole.size.saturating_add(size);
                if let Some(&next) = self.holes.get(at + 1)
                    && next.start == end
                {
                    self.holes[at].size = self.holes[at].size.saturating_add(next.size);
                    self.holes.remove(at + 1);
                }
                return;
            }
            if hole.start == end {
                self.holes[at] = Hole { start, size: hole.size.saturating_add(size) };
                if at > 0 && self.holes[at - 1].start.saturating_add(self.holes[at - 1].size) == start {
                    self.holes[at - 1].size = self.holes[at - 1].size.saturating_add(self.holes[at].size);
                    self.holes.remove(at);
                }
                return;
            }
        }
        let at = self.holes.partition_point(|hole| hole.start < start);
        self.holes.insert(at, Hole { start, size });
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Life {
    readers: i32,
    views: i32,
    own: bool,
    backend: u8,
    start: u64,
}

/// A graph as the scheduler hands it to the allocator.
#[derive(Clone, Copy, Debug)]
pub struct Ordered<'a> {
    /// All tensors.
    pub tensors: &'a [Tensor],
    /// Operations in order, each with the backend whose buffer it uses.
    pub nodes: &'a [(Id, u8)],
    /// Tensors without operation, likewise.
    pub leafs: &'a [(Id, u8)],
}

/// The bytes that each backend's buffer needs.
#[must_use]
pub fn sizes(graph: Ordered<'_>, devices: &[Device]) -> Vec<u64> {
    let spaces = devices.iter().map(|device| Space::new(device.alignment())).collect();
    let mut allocator = Allocator { graph, devices, spaces, lives: vec![Life::default(); graph.tensors.len()] };
    allocator.run();
    allocator.spaces.iter().map(Space::peak).collect()
}

struct Allocator<'a> {
    graph: Ordered<'a>,
    devices: &'a [Device],
    spaces: Vec<Space>,
    lives: Vec<Life>,
}

impl Allocator<'_> {
    fn tensor(&self, id: Id) -> &Tensor {
        &self.graph.tensors[id.index()]
    }

    fn size(&self, id: Id, backend: u8) -> u64 {
        self.devices[usize::from(backend)].size_in_buffer(self.tensor(id), self.graph.tensors)
    }

    fn run(&mut self) {
        let Ordered { nodes, leafs, .. } = self.graph;
        for &(leaf, backend) in leafs {
            self.allocate(leaf, backend);
        }
        for &(node, backend) in nodes {
            self.count(node, backend);
        }
        for &(node, backend) in nodes {
            for source in self.tensor(node).src.into_iter().flatten() {
                self.allocate(source, backend);
            }
            self.allocate(node, backend);
            for source in self.tensor(node).src.into_iter().flatten() {
                self.read(source);
            }
        }
    }

    /// Counts readers and views, and allocates the inputs.
    fn count(&mut self, node: Id, backend: u8) {
        let tensor = self.tensor(node);
        let (view_src, src, input) = (tensor.view_src, tensor.src, tensor.input);
        if let Some(owner) = view_src
            && tensor.op != super::tensor::Op::None
        {
            self.lives[owner.index()].views += 1;
        }
        if input {
            self.allocate(node, backend);
        }
        for source in src.into_iter().flatten() {
            self.lives[source.index()].readers += 1;
            if self.tensor(source).input {
                self.allocate(source, backend);
            }
        }
    }

    fn allocate(&mut self, id: Id, backend: u8) {
        let tensor = self.tensor(id);
        let op = tensor.op;
        if tensor.store.is_some() || tensor.view_src.is_some() || self.lives[id.index()].own {
            return;
        }
        self.lives[id.index()].own = true;
        if op.can_be_in_place()
            && let Some(parent) = self.heir_of(id)
        {
            self.inherit(id, parent);
            return;
        }
        let size = self.size(id, backend);
        let start = self.spaces[usize::from(backend)].take(size);
        let life = &mut self.lives[id.index()];
        life.backend = backend;
        life.start = start;
    }

    /// The source whose memory the result may take over.
    fn heir_of(&self, id: Id) -> Option<Id> {
        let tensor = self.tensor(id);
        tensor.src.into_iter().flatten().find(|&parent| {
            let (source, life) = (self.tensor(parent), &self.lives[parent.index()]);
            // Views are never owned here, so the branch for them in the engine never applies to a plan.
            life.own && !source.output && tensor.same_layout(source) && life.readers == 1 && life.views == 0
        })
    }

    fn inherit(&mut self, id: Id, parent: Id) {
        let Life { backend, start, .. } = self.lives[parent.index()];
        self.lives[parent.index()].own = false;
        let life = &mut self.lives[id.index()];
        life.backend = backend;
        life.start = start;
        let (had, needs) = (self.size(parent, backend), self.size(id, backend));
        let space = &mut self.spaces[usize::from(backend)];
        let (had, needs) = (space.padded(had), space.padded(needs));
        if had > needs {
            space.give(start.saturating_add(needs), had - needs);
        }
    }

    /// One reader of a tensor has run.
    fn read(&mut self, id: Id) {
        let life = &mut self.lives[id.index()];
        life.readers -= 1;
        if life.readers != 0 || life.views != 0 {
            return;
        }
        if let Some(owner) = self.tensor(id).view_src {
            let life = &mut self.lives[owner.index()];
            life.views -= 1;
            if life.views == 0 && life.readers == 0 && life.own {
                self.free(owner);
            }
        } else if self.lives[id.index()].own {
            self.free(id);
        }
    }

    fn free(&mut self, id: Id) {
        if self.tensor(id).output {
            return;
        }
        let Life { backend, start, .. } = self.lives[id.index()];
        let size = self.size(id, backend);
        self.spaces[usize::from(backend)].give(start, size);
        self.lives[id.index()].own = false;
    }
}
