//! How is a graph put together? An arena of tensors with one method per operation, and the depth-first walk that
//! orders them.
//!
//! Shapes follow the constructors of ggml/src/ggml.c, the order `ggml_build_forward_expand` there (llama.cpp
//! 0c1e57098). Shapes that do not match are remembered as the graph's [`Graph::problem`] instead of stopping the
//! builder: a file may hold any shapes.

use super::tensor::{DIMS, Id, Kind, MAX_SRC, Op, Store, Tensor, Unary};

/// A graph under construction, and then its order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// Operations in the order they run.
    pub nodes: Vec<Id>,
    /// Tensors without an operation, in the order they were met.
    pub leafs: Vec<Id>,
    /// How many sources of met tensors name each tensor.
    pub uses: Vec<u32>,
    /// Operations that the builder ties to a backend, with the backend.
    pub tied: Vec<(Id, u8)>,
    /// The first thing that did not fit together.
    pub problem: Option<String>,
    met: Vec<bool>,
}

impl Graph {
    /// The tensor of that name.
    #[must_use]
    pub fn get(&self, id: Id) -> &Tensor {
        &self.tensors[id.index()]
    }

    /// The shape of a tensor.
    #[must_use]
    pub fn ne(&self, id: Id) -> [u64; DIMS] {
        self.get(id).ne
    }

    /// The strides of a tensor.
    #[must_use]
    pub fn nb(&self, id: Id) -> [u64; DIMS] {
        self.get(id).nb
    }

    /// Remembers the first problem.
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.problem.is_none() {
            self.problem = Some(what());
        }
    }

    /// Adds a tensor as it is.
    pub fn push(&mut self, tensor: Tensor) -> Id {
        let id = Id::at(self.tensors.len());
        self.tensors.push(tensor);
        id
    }

    /// A tensor without an operation.
    pub fn new_tensor(&mut self, kind: Kind, ne: [u64; DIMS]) -> Id {
        self.push(Tensor::new(Op::None, kind, ne))
    }

    /// A tensor that the host fills before each run.
    pub fn input(&mut self, kind: Kind, ne: [u64; DIMS]) -> Id {
        let mut tensor = Tensor::new(Op::None, kind, ne);
        tensor.input = true;
        self.push(tensor)
    }

    /// A tensor in memory that exists before the graph: a weight, or a cache.
    pub fn stored(&mut self, kind: Kind, ne: [u64; DIMS], store: Store, weight: bool) -> Id {
        let mut tensor = Tensor::new(Op::None, kind, ne);
        tensor.store = Some(store);
        tensor.weight = weight;
        self.push(tensor)
    }

    /// Keeps a tensor until the end of the graph.
    pub fn keep(&mut self, id: Id) {
        self.tensors[id.index()].output = true;
    }

    /// A result of that type and shape.
    pub fn result(&mut self, op: Op, kind: Kind, ne: [u64; DIMS], sources: &[Option<Id>]) -> Id {
        let mut tensor = Tensor::new(op, kind, ne);
        for (slot, &source) in tensor.src.iter_mut().zip(sources) {
            *slot = source;
        }
        self.push(tensor)
    }

    /// A result shaped like its first source.
    pub fn like(&mut self, op: Op, a: Id, others: &[Option<Id>]) -> Id {
        let (kind, ne) = (self.get(a).kind, self.ne(a));
        let id = self.result(op, kind, ne, &[Some(a)]);
        for (slot, &source) in self.tensors[id.index()].src[1..].iter_mut().zip(others) {
            *slot = source;
        }
        id
    }

    /// A view of another tensor with that shape and those strides.
    fn view_of(&mut self, op: Op, a: Id, ne: [u64; DIMS], nb: Option<[u64; DIMS]>, offset: u64) -> Id {
        let base = self.get(a);
        let (root, start) = (base.view_src.unwrap_or(a), base.view_offs);
        let mut tensor = Tensor::new(op, base.kind, ne);
        tensor.nb = nb.unwrap_or(tensor.nb);
        tensor.view_src = Some(root);
        tensor.view_offs = start.saturating_add(offset);
        tensor.src[0] = Some(a);
        self.push(tensor)
    }

    /// A view of the same shape and strides, without an operation.
    pub fn alias(&mut self, a: Id) -> Id {
        let (ne, nb) = (self.ne(a), self.nb(a));
        let id = self.view_of(Op::None, a, ne, Some(nb), 0);
        self.tensors[id.index()].src[0] = None;
        id
    }

    /// `ggml_view_1d`.
    pub fn view_1d(&mut self, a: Id, ne0: u64, offset: u64) -> Id {
        self.view_of(Op::View, a, [ne0, 1, 1, 1], None, offset)
    }

    /// `ggml_view_2d`.
    pub fn view_2d(&mut self, a: Id, ne: [u64; 2], nb1: u64, offset: u64) -> Id {
        let nb2 = nb1.saturating_mul(ne[1]);
        let nb = [u64::from(self.get(a).kind.bytes), nb1, nb2, nb2];
        self.view_of(Op::View, a, [ne[0], ne[1], 1, 1], Some(nb), offset)
    }

    /// `ggml_view_3d`.
    pub fn view_3d(&mut self, a: Id, ne: [u64; 3], nb: [u64; 2], offset: u64) -> Id {
        let nb = [u64::from(self.get(a).kind.bytes), nb[0], nb[1], nb[1].saturating_mul(ne[2])];
        self.view_of(Op::View, a, [ne[0], ne[1], ne[2], 1], Some(nb), offset)
    }

    /// `ggml_view_4d`.
    pub fn view_4d(&mut self, a: Id, ne: [u64; 4], nb: [u64; 3], offset: u64) -> Id {
        let nb = [u64::from(self.get(a).kind.bytes), nb[0], nb[1], nb[2]];
        self.view_of(Op::View, a, ne, Some(nb), offset)
    }

    /// `ggml_reshape`.
    pub fn reshape(&mut self, a: Id, ne: [u64; DIMS]) -> Id {
        let wanted = ne.iter().fold(1_u64, |product, &n| product.saturating_mul(n));
        let source = self.get(a);
        if source.elements() != wanted || !source.is_contiguous() {
            let from = source.ne;
            self.fail(|| format!("a tensor of shape {from:?} cannot be reshaped to {ne:?}"));
        }
        self.view_of(Op::Reshape, a, ne, None, 0)
    }

    /// `ggml_reshape_2d`.
    pub fn reshape_2d(&mut self, a: Id, ne0: u64, ne1: u64) -> Id {
        self.reshape(a, [ne0, ne1, 1, 1])
    }

    /// `ggml_reshape_3d`.
    pub fn reshape_3d(&mut self, a: Id, ne0: u64, ne1: u64, ne2: u64) -> Id {
        self.reshape(a, [ne0, ne1, ne2, 1])
    }

    /// `ggml_permute`: dimension d of the source becomes dimension `axes[d]`.
    pub fn permute(&mut self, a: Id, axes: [usize; DIMS]) -> Id {
        let (from_ne, from_nb) = (self.ne(a), self.nb(a));
        let (mut ne, mut nb) = (from_ne, from_nb);
        for (d, &axis) in axes.iter().enumerate() {
            ne[axis] = from_ne[d];
            nb[axis] = from_nb[d];
        }
        self.view_of(Op::Permute, a, ne, Some(nb), 0)
    }

    /// `ggml_transpose`.
    pub fn transpose(&mut self, a: Id) -> Id {
        let (mut ne, mut nb) = (self.ne(a), self.nb(a));
        ne.swap(0, 1);
        nb.swap(0, 1);
        self.view_of(Op::Transpose, a, ne, Some(nb), 0)
    }

    /// `ggml_cont`.
    pub fn cont(&mut self, a: Id) -> Id {
        self.like(Op::Cont, a, &[])
    }

    /// `ggml_cont_4d` and its smaller kin.
    pub fn cont_as(&mut self, a: Id, ne: [u64; DIMS]) -> Id {
        let kind = self.get(a).kind;
        self.result(Op::Cont, kind, ne, &[Some(a)])
    }

    /// `ggml_cast`, which names its own result as second source.
    pub fn cast(&mut self, a: Id, kind: Kind) -> Id {
        let ne = self.ne(a);
        let id = self.result(Op::Cpy, kind, ne, &[Some(a)]);
        self.tensors[id.index()].src[1] = Some(id);
        id
    }

    /// `ggml_cpy` into another tensor.
    pub fn cpy(&mut self, a: Id, into: Id) -> Id {
        let (ne, nb) = (self.ne(into), self.nb(into));
        let id = self.view_of(Op::Cpy, into, ne, Some(nb), 0);
        self.tensors[id.index()].src[0] = Some(a);
        self.tensors[id.index()].src[1] = Some(into);
        id
    }

    /// `ggml_set_rows`: rows of `b` written into `a` at `rows`.
    pub fn set_rows(&mut self, a: Id, b: Id, rows: Id) -> Id {
        let (ne, nb) = (self.ne(a), self.nb(a));
        if self.ne(b)[0] != ne[0] {
            let from = self.ne(b);
            self.fail(|| format!("rows of shape {from:?} do not fit into {ne:?}"));
        }
        let id = self.view_of(Op::SetRows, a, ne, Some(nb), 0);
        let sources = &mut self.tensors[id.index()].src;
        sources[0] = Some(b);
        sources[1] = Some(rows);
        sources[2] = Some(a);
        id
    }

    /// `ggml_get_rows`.
    pub fn get_rows(&mut self, a: Id, rows: Id) -> Id {
        let (from, at) = (self.ne(a), self.ne(rows));
        let kind = if self.get(a).kind == Kind::I32 { Kind::I32 } else { Kind::F32 };
        self.result(Op::GetRows, kind, [from[0], at[0], at[1], at[2]], &[Some(a), Some(rows)])
    }

    fn element_wise(&mut self, op: Op, a: Id, b: Id) -> Id {
        let (to, from) = (self.ne(a), self.ne(b));
        if to.iter().zip(from).any(|(&t, f)| f == 0 || t % f != 0) {
            self.fail(|| format!("a tensor of shape {from:?} does not repeat to {to:?}"));
        }
        self.like(op, a, &[Some(b)])
    }

    /// `ggml_add`.
    pub fn add(&mut self, a: Id, b: Id) -> Id {
        self.element_wise(Op::Add, a, b)
    }

    /// `ggml_sub`.
    pub fn sub(&mut self, a: Id, b: Id) -> Id {
        self.element_wise(Op::Sub, a, b)
    }

    /// `ggml_mul`.
    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        self.element_wise(Op::Mul, a, b)
    }

    /// `ggml_div`.
    pub fn div(&mut self, a: Id, b: Id) -> Id {
        self.element_wise(Op::Div, a, b)
    }

    /// `ggml_add_id`.
    pub fn add_id(&mut self, a: Id, b: Id, ids: Id) -> Id {
        self.like(Op::AddId, a, &[Some(b), Some(ids)])
    }

    /// `ggml_scale`.
    pub fn scale(&mut self, a: Id) -> Id {
        self.like(Op::Scale, a, &[])
    }

    /// `ggml_scale_inplace`: the result is a view of its source.
    pub fn scale_in_place(&mut self, a: Id) -> Id {
        let (ne, nb) = (self.ne(a), self.nb(a));
        self.view_of(Op::Scale, a, ne, Some(nb), 0)
    }

    /// `ggml_clamp` (a view of its source since it works in place).
    pub fn clamp(&mut self, a: Id) -> Id {
        self.like(Op::Clamp, a, &[])
    }

    /// `ggml_sqr`.
    pub fn sqr(&mut self, a: Id) -> Id {
        self.like(Op::Sqr, a, &[])
    }

    /// `ggml_sqrt`.
    pub fn sqrt(&mut self, a: Id) -> Id {
        self.like(Op::Sqrt, a, &[])
    }

    /// `ggml_fill`.
    pub fn fill(&mut self, a: Id) -> Id {
        self.like(Op::Fill, a, &[])
    }

    /// A unary function.
    pub fn unary(&mut self, a: Id, function: Unary) -> Id {
        self.like(Op::Unary(function), a, &[])
    }

    /// A gated unit of two tensors (`ggml_swiglu_split` and kin).
    pub fn glu_split(&mut self, gate: Id, up: Id) -> Id {
        self.like(Op::Glu, gate, &[Some(up)])
    }

    /// A gated unit of the halves of one tensor (`ggml_swiglu` and kin).
    pub fn glu(&mut self, a: Id) -> Id {
        let (kind, mut ne) = (self.get(a).kind, self.ne(a));
        ne[0] /= 2;
        self.result(Op::Glu, kind, ne, &[Some(a)])
    }

    /// `ggml_norm`.
    pub fn norm(&mut self, a: Id) -> Id {
        self.like(Op::Norm, a, &[])
    }

    /// `ggml_rms_norm`.
    pub fn rms_norm(&mut self, a: Id) -> Id {
        self.like(Op::RmsNorm, a, &[])
    }

    /// `ggml_l2_norm`.
    pub fn l2_norm(&mut self, a: Id) -> Id {
        self.like(Op::L2Norm, a, &[])
    }

    /// `ggml_mul_mat`.
    pub fn mul_mat(&mut self, a: Id, b: Id) -> Id {
        self.matmul(a, b, false)
    }

    fn matmul(&mut self, a: Id, b: Id, hadamard: bool) -> Id {
        let (x, y) = (self.ne(a), self.ne(b));
        if x[0] != y[0] || x[2] == 0 || x[3] == 0 || y[2] % x[2] != 0 || y[3] % x[3] != 0 {
            self.fail(|| format!("matrices of shapes {x:?} and {y:?} do not multiply"));
        }
        self.result(Op::MulMat { hadamard }, Kind::F32, [x[1], y[1], y[2], y[3]], &[Some(a), Some(b)])
    }

    /// Rotation by a Hadamard matrix (`llama_mul_mat_hadamard`, src/llama-impl.h).
    pub fn rotate(&mut self, cur: Id, rotation: Id) -> Id {
        let (n, ne, elements) = (self.ne(rotation)[0].max(1), self.ne(cur), self.get(cur).elements());
        let flat = [n, elements / n, 1, 1];
        let rows = if self.get(cur).is_contiguous() { self.reshape(cur, flat) } else { self.cont_as(cur, flat) };
        let product = self.matmul(rotation, rows, true);
        self.reshape(product, ne)
    }

    /// `ggml_mul_mat_id`: `a` has one matrix per expert, `ids` the experts of each token.
    pub fn mul_mat_id(&mut self, a: Id, b: Id, ids: Id) -> Id {
        let (x, y, chosen) = (self.ne(a), self.ne(b), self.ne(ids));
        if x[0] != y[0] {
            self.fail(|| format!("experts of shape {x:?} do not multiply with {y:?}"));
        }
        let op = Op::MulMatId { full_precision_source: false };
        self.result(op, Kind::F32, [x[1], chosen[0], y[2], 1], &[Some(a), Some(b), Some(ids)])
    }

    /// `ggml_soft_max`.
    pub fn soft_max(&mut self, a: Id) -> Id {
        self.like(Op::SoftMax { plain: true }, a, &[])
    }

    /// `ggml_soft_max_ext` with `ggml_soft_max_add_sinks`.
    pub fn soft_max_ext(&mut self, a: Id, mask: Option<Id>, sinks: Option<Id>) -> Id {
        self.like(Op::SoftMax { plain: false }, a, &[mask, sinks])
    }

    /// `ggml_rope_ext` and `ggml_rope_multi`.
    pub fn rope(&mut self, a: Id, positions: Id, factors: Option<Id>) -> Id {
        self.like(Op::Rope, a, &[Some(positions), factors])
    }

    /// `ggml_flash_attn_ext` with sinks; `op` is an [`Op::FlashAttn`].
    pub fn flash_attn(&mut self, qkv: [Id; 3], mask: Option<Id>, sinks: Option<Id>, op: Op) -> Id {
        let [q, k, v] = qkv;
        let (q_ne, k_ne, v_ne) = (self.ne(q), self.ne(k), self.ne(v));
        if q_ne[0] != k_ne[0] || q_ne[3] != k_ne[3] || k_ne[2] == 0 || q_ne[2] % k_ne[2].max(1) != 0 {
            self.fail(|| format!("queries of shape {q_ne:?} do not attend to keys of shape {k_ne:?}"));
        }
        let ne = [v_ne[0], q_ne[2], q_ne[1], q_ne[3]];
        self.result(op, Kind::F32, ne, &[Some(q), Some(k), Some(v), mask, sinks])
    }

    /// `ggml_concat`.
    pub fn concat(&mut self, a: Id, b: Id, dim: u8) -> Id {
        let (kind, mut ne) = (self.get(a).kind, self.ne(a));
        let d = usize::from(dim).min(DIMS - 1);
        ne[d] = ne[d].saturating_add(self.ne(b)[d]);
        self.result(Op::Concat { dim }, kind, ne, &[Some(a), Some(b)])
    }

    /// `ggml_repeat_4d`.
    pub fn repeat(&mut self, a: Id, ne: [u64; DIMS]) -> Id {
        let kind = self.get(a).kind;
        self.result(Op::Repeat, kind, ne, &[Some(a)])
    }

    /// `ggml_pad`.
    pub fn pad(&mut self, a: Id, more: [u64; DIMS]) -> Id {
        let (kind, mut ne) = (self.get(a).kind, self.ne(a));
        for (n, m) in ne.iter_mut().zip(more) {
            *n = n.saturating_add(m);
        }
        self.result(Op::Pad, kind, ne, &[Some(a)])
    }

    /// `ggml_sum_rows`.
    pub fn sum_rows(&mut self, a: Id) -> Id {
        let (kind, mut ne) = (self.get(a).kind, self.ne(a));
        ne[0] = 1;
        self.result(Op::SumRows, kind, ne, &[Some(a)])
    }

    /// `ggml_argsort`.
    pub fn argsort(&mut self, a: Id) -> Id {
        let ne = self.ne(a);
        self.result(Op::Argsort, Kind::I32, ne, &[Some(a)])
    }

    /// `ggml_argsort_top_k`: a view of the first `k` of each sorted row.
    pub fn argsort_top_k(&mut self, a: Id, k: u64) -> Id {
        let sorted = self.argsort(a);
        let (ne, nb) = (self.ne(sorted), self.nb(sorted));
        self.view_4d(sorted, [k, ne[1], ne[2], ne[3]], [nb[1], nb[2], nb[3]], 0)
    }

    /// Puts a tensor and what it needs at the end of the order (`ggml_build_forward_expand`).
    pub fn expand(&mut self, id: Id) {
        self.visit(id, true);
    }

    /// Orders a tensor that this run does not compute (the branch of `ggml_build_forward_select` not taken).
    pub fn order(&mut self, id: Id) {
        self.visit(id, false);
    }

    fn visit(&mut self, root: Id, compute: bool) {
        self.met.resize(self.tensors.len(), false);
        self.uses.resize(self.tensors.len(), 0);
        let mut stack: Vec<(Id, usize)> = Vec::with_capacity(64);
        self.enter(root, compute, &mut stack);
        while let Some((id, next)) = stack.last_mut() {
            let (id, slot) = (*id, *next);
            *next += 1;
            if slot == MAX_SRC {
                stack.pop();
                self.leave(id);
            } else if let Some(source) = self.tensors[id.index()].src[slot] {
                self.uses[source.index()] = self.uses[source.index()].saturating_add(1);
                self.enter(source, compute, &mut stack);
            }
        }
    }

    fn enter(&mut self, id: Id, compute: bool, stack: &mut Vec<(Id, usize)>) {
        let tensor = &mut self.tensors[id.index()];
        if compute && tensor.op != Op::None {
            tensor.computed = true;
        }
        if !std::mem::replace(&mut self.met[id.index()], true) {
            stack.push((id, 0));
        }
    }

    fn leave(&mut self, id: Id) {
        if self.tensors[id.index()].op == Op::None {
            self.leafs.push(id);
        } else {
            self.nodes.push(id);
        }
    }
}
