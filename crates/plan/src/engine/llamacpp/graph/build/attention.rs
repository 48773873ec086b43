//! How is attention built, and how does it read and write its cache?
//!
//! Follows `build_qkv`, `build_attn` and `build_attn_mha` (llama.cpp 0c1e57098, src/llama-graph.cpp) and `get_k`,
//! `get_v`, `cpy_k`, `cpy_v` (src/llama-kv-cache.cpp).

use super::{Build, Id};
use crate::engine::llamacpp::graph::model::kind_of;
use crate::engine::llamacpp::graph::tensor::{Kind, Op, Store, Unary};
use crate::engine::llamacpp::hparams::{Swa, is_diffusion};

/// Queries, keys and values of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Qkv {
    /// Queries.
    pub q: Id,
    /// Keys.
    pub k: Id,
    /// Values.
    pub v: Id,
}

/// Widths and counts of heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Width of a query.
    pub dim_q: u64,
    /// Queries.
    pub count_q: u64,
    /// Width of a key.
    pub dim_k: u64,
    /// Keys.
    pub count_k: u64,
    /// Width of a value.
    pub dim_v: u64,
    /// Values.
    pub count_v: u64,
}

/// What the host hands to attention over one cache.
#[derive(Clone, Copy, Debug)]
pub struct AttnInputs {
    /// Where keys are written.
    pub k_idxs: Option<Id>,
    /// Where values are written.
    pub v_idxs: Option<Id>,
    /// Which keys each query sees.
    pub mask: Id,
    /// Rotation of keys in a quantised cache.
    pub k_rot: Option<Id>,
    /// Rotation of values in a quantised cache.
    pub v_rot: Option<Id>,
    /// Cells of a stream.
    pub cells: u64,
}

/// How attention stores keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    /// Keys and values.
    Both,
    /// Keys, whose first part are the values (latent attention).
    KeysOnly,
    /// Nothing: the batch attends to itself.
    None,
}

/// A model's attention inputs.
#[derive(Clone, Copy, Debug)]
pub struct Attn {
    /// Layers with full attention.
    pub full: AttnInputs,
    /// Layers with a window, where the model has them.
    pub window: Option<AttnInputs>,
    cache: Cache,
}

/// What attention may have besides queries, keys and values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra {
    /// Output projection.
    pub wo: Option<Id>,
    /// Its scale.
    pub wo_s: Option<Id>,
    /// Its bias.
    pub wo_b: Option<Id>,
    /// A bias on the scores, which fused attention does not know.
    pub kq_b: Option<Id>,
    /// Attention sinks.
    pub sinks: Option<Id>,
    /// Decompression of values (latent attention).
    pub v_mla: Option<Id>,
}

impl Build<'_> {
    /// Heads of a layer as most architectures have them: one width of keys and queries, one of values.
    #[must_use]
    pub fn layer_heads(&self, il: usize) -> Heads {
        let hparams = self.model.hparams;
        let (k, v) = (hparams.head_k(il), hparams.head_v(il));
        let kv = self.heads_kv(il);
        Heads { dim_q: k, count_q: self.heads(il), dim_k: k, count_k: kv, dim_v: v, count_v: kv }
    }

    /// Queries, keys and values from one fused or three matrices, one row per head (`build_qkv`).
    pub fn qkv(&mut self, cur: Id, il: usize, heads: Heads) -> Qkv {
        let clamped = self.has_scale("attention.clamp_kqv");
        if self.opt(il, "attn_qkv.weight").is_some() {
            return self.qkv_fused(cur, il, heads, clamped);
        }
        let tokens = self.g.ne(cur)[1];
        let mut one = |name: &str, dim: u64, count: u64| {
            let mut part = self.linear_biased(il, name, cur);
            if clamped {
                part = self.g.clamp(part);
            }
            (part, dim, count)
        };
        let parts = [
            one("attn_q", heads.dim_q, heads.count_q),
            one("attn_k", heads.dim_k, heads.count_k),
            one("attn_v", heads.dim_v, heads.count_v),
        ];
        let [q, k, v] = parts.map(|(part, dim, count)| self.g.reshape_3d(part, dim, count, tokens));
        Qkv { q, k, v }
    }

    fn qkv_fused(&mut self, cur: Id, il: usize, heads: Heads, clamped: bool) -> Qkv {
        let mut qkv = self.linear(il, "attn_qkv", cur);
        if let Some(bias) = self.opt(il, "attn_qkv.bias") {
            qkv = self.g.add(qkv, bias);
        } else if let (Some(q), Some(k), Some(v)) =
            (self.opt(il, "attn_q.bias"), self.opt(il, "attn_k.bias"), self.opt(il, "attn_v.bias"))
        {
            let joined = self.g.concat(q, k, 0);
            let joined = self.g.concat(joined, v, 0);
            qkv = self.g.add(qkv, joined);
        }
        if clamped {
            qkv = self.g.clamp(qkv);
        }
        let tokens = self.g.ne(qkv)[1];
        let (row, kind) = (self.g.nb(qkv)[1], self.g.get(qkv).kind);
        let mut offset = 0;
        let mut part = |dim: u64, count: u64| {
            let id = self.g.view_3d(qkv, [dim, count, tokens], [kind.row(dim), row], offset);
            offset = offset.saturating_add(kind.row(dim.saturating_mul(count)));
            id
        };
        let q = part(heads.dim_q, heads.count_q);
        let k = part(heads.dim_k, heads.count_k);
        let v = part(heads.dim_v, heads.count_v);
        Qkv { q, k, v }
    }

    /// Queries, keys and values as plain rows, not split into heads (`build_qkv` with `reshape` false).
    pub fn qkv_rows(&mut self, cur: Id, il: usize, heads: Heads) -> Qkv {
        if self.opt(il, "attn_qkv.weight").is_none() {
            let q = self.linear_biased(il, "attn_q", cur);
            let k = self.linear_biased(il, "attn_k", cur);
            let v = self.linear_biased(il, "attn_v", cur);
            return Qkv { q, k, v };
        }
        let mut qkv = self.linear(il, "attn_qkv", cur);
        if let Some(bias) = self.opt(il, "attn_qkv.bias") {
            qkv = self.g.add(qkv, bias);
        }
        let tokens = self.g.ne(qkv)[1];
        let (row, kind) = (self.g.nb(qkv)[1], self.g.get(qkv).kind);
        let widths = [
            heads.dim_q.saturating_mul(heads.count_q),
            heads.dim_k.saturating_mul(heads.count_k),
            heads.dim_v.saturating_mul(heads.count_v),
        ];
        let mut offset = 0;
        let views = widths.map(|width| {
            let view = self.g.view_2d(qkv, [width, tokens], row, offset);
            offset = offset.saturating_add(kind.row(width));
            view
        });
        let [q, k, v] = views.map(|view| self.g.cont(view));
        Qkv { q, k, v }
    }

    /// Inputs of attention: over one cache, or over two where layers have a window.
    pub fn inp_attn(&mut self) -> Attn {
        let windowed = self.model.hparams.swa != Swa::None;
        let full = self.cache_inputs(false, Cache::Both);
        let window = windowed.then(|| self.cache_inputs(true, Cache::Both));
        Attn { full, window, cache: Cache::Both }
    }

    /// Inputs of attention over one cache, whatever windows layers have; over the batch alone in a diffusion model, which
    /// has no cache.
    pub fn inp_attn_single(&mut self) -> Attn {
        if is_diffusion(&self.model.hparams.arch) {
            return self.inp_attn_uncached();
        }
        Attn { full: self.cache_inputs(false, Cache::Both), window: None, cache: Cache::Both }
    }

    /// Inputs of attention over two caches even if no layer has a window (`build_attn_inp_kv_iswa`).
    pub fn inp_attn_windowed(&mut self) -> Attn {
        let full = self.cache_inputs(false, Cache::Both);
        let window = Some(self.cache_inputs(true, Cache::Both));
        Attn { full, window, cache: Cache::Both }
    }

    /// Inputs of attention over a cache of latent keys (`build_attn_inp_k`).
    pub fn inp_attn_keys(&mut self) -> Attn {
        Attn { full: self.cache_inputs(false, Cache::KeysOnly), window: None, cache: Cache::KeysOnly }
    }

    /// Inputs of attention without a cache (`build_attn_inp_no_cache`).
    pub fn inp_attn_uncached(&mut self) -> Attn {
        let windowed = self.model.hparams.swa != Swa::None;
        let full = self.own_mask();
        let window = windowed.then(|| self.own_mask());
        Attn { full, window, cache: Cache::None }
    }

    /// A mask of that shape: F16 for fused attention; older builds made it of an F32 input.
    fn mask(&mut self, ne: [u64; 4]) -> Id {
        let half = self.flash && self.cx.rules.half_masks;
        let mask = self.g.input(if half { Kind::F16 } else { Kind::F32 }, ne);
        if self.flash && !half { self.g.cast(mask, Kind::F16) } else { mask }
    }

    fn own_mask(&mut self) -> AttnInputs {
        let tokens = self.batch.tokens;
        let mask = self.mask([tokens, tokens, 1, 1]);
        AttnInputs { k_idxs: None, v_idxs: None, mask, k_rot: None, v_rot: None, cells: tokens }
    }

    fn cache_inputs(&mut self, window: bool, cache: Cache) -> AttnInputs {
        let tokens = self.batch.tokens;
        let cells = if window { self.cx.cells_swa } else { self.cx.cells };
        let streams = if self.cx.unified { 1 } else { self.batch.seqs.max(1) };
        let values = if self.values_transposed() { self.model.hparams.v_gqa_max() } else { 1 };
        let both = cache == Cache::Both;
        let k_idxs = Some(self.g.input(Kind::I64, [tokens, 1, 1, 1]));
        let v_idxs = both.then(|| self.g.input(Kind::I64, [tokens.saturating_mul(values), 1, 1, 1]));
        let mask = self.mask([cells, tokens / streams, 1, streams]);
        let k_rot = both.then(|| self.rotation(window, true)).flatten();
        let v_rot = both.then(|| self.rotation(window, false)).flatten();
        AttnInputs { k_idxs, v_idxs, mask, k_rot, v_rot, cells }
    }

    /// The rotation of a quantised cache, where heads allow one (`build_input_k_rot`, `build_input_v_rot`).
    fn rotation(&mut self, window: bool, keys: bool) -> Option<Id> {
        let hparams = self.model.hparams;
        let kind = kind_of(if keys { self.cx.kind_k } else { self.cx.kind_v });
        let width = |il: usize| if keys { hparams.head_k(il) } else { hparams.head_v(il) };
        // Only in Falcon H1 does a layer keep a state and a cache.
        let both = hparams.arch == "falcon-h1";
        let mut widths = (0..hparams.layers.len())
            .filter(|&il| hparams.is_swa(il) == window && hparams.owns_kv(il) && (both || !hparams.is_recurrent(il)))
            .map(width);
        let first = widths.next().filter(|&first| first > 0)?;
        let uniform = widths.all(|other| other == first);
        let base = if keys { hparams.head_k(0) } else { hparams.head_v(0) };
        if !self.cx.rules.rotates || !kind.is_quantized() || !uniform || !base.is_multiple_of(64) {
            return None;
        }
        let mut n = 64;
        while keys && n < 1 << 16 && first.is_multiple_of(n * 2) {
            n *= 2;
        }
        Some(self.g.input(Kind::F32, [n, n, 1, 1]))
    }

    /// The output projection of a layer under its usual name.
    pub fn wo(&mut self, il: usize) -> Extra {
        Extra {
            wo: Some(self.w(il, "attn_output.weight")),
            wo_s: self.opt(il, "attn_output.scale"),
            wo_b: self.opt(il, "attn_output.bias"),
            ..Extra::default()
        }
    }

    /// The cache tensor of a layer: keys, or values.
    pub fn cache(&mut self, il: usize, keys: bool) -> Id {
        let slot = usize::from(!keys);
        if let Some(id) = self.caches.get(il).and_then(|pair| pair[slot]) {
            return id;
        }
        let hparams = self.model.hparams;
        let cells = if hparams.is_swa(il) { self.cx.cells_swa } else { self.cx.cells };
        let width = match (keys, self.values_transposed()) {
            (true, _any) => hparams.k_gqa(il),
            (false, true) => hparams.v_gqa_max(),
            (false, false) => hparams.v_gqa(il),
        };
        let kind = kind_of(if keys { self.cx.kind_k } else { self.cx.kind_v });
        let store = self.state_store(il);
        let id = self.g.stored(kind, [width, cells, self.streams(), 1], store, false);
        if let Some(pair) = self.caches.get_mut(il) {
            pair[slot] = Some(id);
        }
        id
    }

    /// The memory of a layer's cache or state.
    pub fn state_store(&self, il: usize) -> Store {
        let placement = self.model.placement;
        let backend = placement.layer(il);
        if self.cx.offload_kv && backend != placement.cpu() { Store::Device(backend) } else { Store::Host }
    }

    /// Cached keys of a layer as heads (`get_k`).
    pub fn cached_keys(&mut self, il: usize) -> Id {
        let cache = self.cache(il, true);
        let (kind, [width, cells, streams, _]) = (self.g.get(cache).kind, self.g.ne(cache));
        let (head, count) = (self.model.hparams.head_k(il), self.heads_kv(il));
        let nb = [kind.row(head), kind.row(width), kind.row(width.saturating_mul(cells))];
        self.g.view_4d(cache, [head, count, cells, streams], nb, 0)
    }

    /// Cached values of a layer as heads (`get_v`).
    pub fn cached_values(&mut self, il: usize) -> Id {
        let cache = self.cache(il, false);
        let (kind, [width, cells, streams, _]) = (self.g.get(cache).kind, self.g.ne(cache));
        let (head, count) = (self.model.hparams.head_v(il), self.heads_kv(il));
        let stream = kind.row(width.saturating_mul(cells));
        if self.values_transposed() {
            let nb = [kind.row(cells.saturating_mul(head)), kind.row(cells), stream];
            self.g.view_4d(cache, [cells, count, head, streams], nb, 0)
        } else {
            self.g.view_4d(cache, [head, count, cells, streams], [kind.row(head), kind.row(width), stream], 0)
        }
    }

    /// Writes keys into the cache (`cpy_k`).
    pub fn store_keys(&mut self, il: usize, k: Id, rows: Id) -> Id {
        let cache = self.cache(il, true);
        if !self.cx.rules.gated_split {
            return self.store_in_view(cache, k);
        }
        let (ne, nb) = (self.g.ne(k), self.g.nb(k));
        let flat = self.g.view_2d(k, [ne[0].saturating_mul(ne[1]), ne[2]], nb[2], 0);
        let merged = self.merge_streams(cache);
        self.g.set_rows(merged, flat, rows)
    }

    fn merge_streams(&mut self, cache: Id) -> Id {
        let [width, cells, streams, _] = self.g.ne(cache);
        if streams > 1 { self.g.reshape_2d(cache, width, cells.saturating_mul(streams)) } else { cache }
    }

    /// Writes values into the cache (`cpy_v`).
    pub fn store_values(&mut self, il: usize, v: Id, rows: Id) -> Id {
        let cache = self.cache(il, false);
        let (ne, nb) = (self.g.ne(v), self.g.nb(v));
        let width = ne[0].saturating_mul(ne[1]);
        if !self.cx.rules.gated_split {
            return self.store_values_in_view(cache, v);
        }
        if !self.values_transposed() {
            let flat = self.g.view_2d(v, [width, ne[2]], nb[2], 0);
            let merged = self.merge_streams(cache);
            return self.g.set_rows(merged, flat, rows);
        }
        let packed = self.g.get(v).kind.row(width) == nb[2];
        let mut flat =
            if packed { self.g.reshape_2d(v, width, ne[2]) } else { self.g.cont_as(v, [width, ne[2], 1, 1]) };
        let whole = self.g.ne(cache)[0];
        if width < whole {
            flat = self.g.pad(flat, [whole - width, 0, 0, 0]);
        }
        let elements = self.g.get(cache).elements();
        let cells = self.g.reshape_2d(cache, 1, elements);
        let elements = self.g.get(flat).elements();
        let column = self.g.reshape_2d(flat, 1, elements);
        self.g.set_rows(cells, column, rows)
    }

    /// Copies rows into the beginning of a cache, as builds before 2025-07 did.
    fn store_in_view(&mut self, cache: Id, rows: Id) -> Id {
        let elements = self.g.get(rows).elements();
        let view = self.g.view_1d(cache, elements, 0);
        self.g.cpy(rows, view)
    }

    fn store_values_in_view(&mut self, cache: Id, v: Id) -> Id {
        if !self.values_transposed() {
            return self.store_in_view(cache, v);
        }
        let (ne, cells, kind) = (self.g.ne(v), self.g.ne(cache)[1], self.g.get(cache).kind);
        let width = ne[0].saturating_mul(ne[1]);
        let packed = self.g.get(v).is_contiguous();
        let flat = if packed { self.g.reshape_2d(v, width, ne[2]) } else { self.g.cont_as(v, [width, ne[2], 1, 1]) };
        let turned = self.g.transpose(flat);
        let view = self.g.view_2d(cache, [ne[2], width], kind.row(cells), 0);
        self.g.cpy(turned, view)
    }

    /// Attention of a layer, with its output projection (`build_attn`).
    pub fn attn(&mut self, inputs: &Attn, qkv: Qkv, extra: Extra, il: usize) -> Id {
        let shared = SharedQkv { q: qkv.q, k: Some(qkv.k), v: Some(qkv.v), owner: il };
        self.attn_shared(inputs, shared, extra, il)
    }

    /// The same where a layer may read the cache of another and store nothing.
    pub fn attn_shared(&mut self, inputs: &Attn, qkv: SharedQkv, extra: Extra, il: usize) -> Id {
        let window = inputs.window.filter(|_| self.model.hparams.is_swa(il));
        let own = window.unwrap_or(inputs.full);
        let rotate = |g: &mut super::Graph, cur: Option<Id>, rotation: Option<Id>| match (cur, rotation) {
            (Some(cur), Some(rotation)) => Some(g.rotate(cur, rotation)),
            (cur, _none) => cur,
        };
        let q = rotate(&mut self.g, Some(qkv.q), own.k_rot).unwrap_or(qkv.q);
        let k = rotate(&mut self.g, qkv.k, own.k_rot);
        let v = rotate(&mut self.g, qkv.v, own.v_rot);
        let keys_first = inputs.window.is_some() || inputs.cache == Cache::None;
        let (second, third) = if keys_first { (k, v) } else { (v, k) };
        self.g.expand(q);
        for id in [second, third].into_iter().flatten() {
            self.g.expand(id);
        }
        let (keys, values) = self.through_cache(inputs.cache, own, [k, v], qkv.owner);
        let (Some(keys), Some(values)) = (keys, values) else { return q };
        let mut cur = self.attn_mha([q, keys, values], own.mask, extra, il);
        if let Some(rotation) = own.v_rot {
            cur = self.g.rotate(cur, rotation);
        }
        if let Some(wo) = extra.wo {
            cur = self.mm(wo, cur, extra.wo_s);
        }
        if let Some(bias) = extra.wo_b {
            cur = self.g.add(cur, bias);
        }
        cur
    }

    /// Stores keys and values and reads the cache back.
    fn through_cache(
        &mut self,
        cache: Cache,
        own: AttnInputs,
        [k, v]: [Option<Id>; 2],
        owner: usize,
    ) -> (Option<Id>, Option<Id>) {
        if cache == Cache::None {
            return (k, v);
        }
        if let (Some(k), Some(rows)) = (k, own.k_idxs) {
            let stored = self.store_keys(owner, k, rows);
            self.g.expand(stored);
        }
        if let (Cache::Both, Some(v), Some(rows)) = (cache, v, own.v_idxs) {
            let stored = self.store_values(owner, v, rows);
            self.g.expand(stored);
        }
        let keys = self.cached_keys(owner);
        let values = match (cache, v) {
            (Cache::KeysOnly, Some(v)) => {
                let (mut ne, nb) = (self.g.ne(keys), self.g.nb(keys));
                ne[0] = self.g.ne(v)[0];
                self.g.view_4d(keys, ne, [nb[1], nb[2], nb[3]], 0)
            }
            _cached => self.cached_values(owner),
        };
        (Some(keys), Some(values))
    }

    /// Attention proper (`build_attn_mha`).
    pub fn attn_mha(&mut self, [q, k, v]: [Id; 3], mask: Id, extra: Extra, il: usize) -> Id {
        let transposed = self.g.nb(v)[1] > self.g.nb(v)[2];
        let streams = self.g.ne(k)[3].max(1);
        let (ne, nb) = (self.g.ne(q), self.g.nb(q));
        let each = ne[2] / streams;
        let q = self.g.view_4d(q, [ne[0], ne[1], each, streams], [nb[1], nb[2], nb[2].saturating_mul(each)], 0);
        let [q, k, v] = [q, k, v].map(|id| self.g.permute(id, [0, 2, 1, 3]));
        let cur = if self.flash && extra.kq_b.is_none() {
            self.attn_fused([q, k, v], transposed, mask, extra, il)
        } else {
            self.attn_scores([q, k, v], transposed, mask, extra)
        };
        self.g.expand(cur);
        cur
    }

    fn attn_fused(&mut self, [q, k, mut v]: [Id; 3], transposed: bool, mask: Id, extra: Extra, il: usize) -> Id {
        if transposed {
            v = self.g.transpose(v);
        }
        let [k, v] = [k, v].map(|id| if self.g.get(id).kind == Kind::F32 { self.g.cast(id, Kind::F16) } else { id });
        let converts = self.cx.rules.converts_in_buffer;
        let op = Op::FlashAttn { alibi: self.model.hparams.alibi, converts };
        let mut cur = self.g.flash_attn([q, k, v], Some(mask), extra.sinks, op);
        self.fused.push((cur, il));
        if let Some(v_mla) = extra.v_mla {
            cur = self.g.permute(cur, [0, 2, 1, 3]);
            cur = self.g.mul_mat(v_mla, cur);
            cur = self.g.permute(cur, [0, 2, 1, 3]);
            cur = self.g.cont(cur);
        }
        let ne = self.g.ne(cur);
        self.g.reshape_2d(cur, ne[0].saturating_mul(ne[1]), ne[2].saturating_mul(ne[3]))
    }

    fn attn_scores(&mut self, [q, k, mut v]: [Id; 3], transposed: bool, mask: Id, extra: Extra) -> Id {
        let mut scores = self.g.mul_mat(k, q);
        if self.model.hparams.arch == "grok" {
            scores = self.g.scale(scores);
            scores = self.g.unary(scores, Unary::Tanh);
            scores = self.g.scale(scores);
        }
        if self.model.hparams.soft_cap {
            scores = self.soft_cap(scores);
        }
        if let Some(bias) = extra.kq_b {
            scores = self.g.add(scores, bias);
        }
        let weights = self.g.soft_max_ext(scores, Some(mask), extra.sinks);
        if !transposed {
            v = self.g.transpose(v);
            v = self.g.cont(v);
        }
        let mut cur = self.g.mul_mat(v, weights);
        if let Some(v_mla) = extra.v_mla {
            cur = self.g.mul_mat(v_mla, cur);
        }
        cur = self.g.permute(cur, [0, 2, 1, 3]);
        let ne = self.g.ne(cur);
        cur = self.g.cont_as(cur, [ne[0].saturating_mul(ne[1]), ne[2].saturating_mul(ne[3]), 1, 1]);
        if !self.cx.offload_kv {
            self.g.tied.push((cur, self.model.placement.cpu()));
        }
        cur
    }
}

/// Queries of a layer with keys and values that it may share with another.
#[derive(Clone, Copy, Debug)]
pub struct SharedQkv {
    /// Queries.
    pub q: Id,
    /// Keys to store, if the layer makes its own.
    pub k: Option<Id>,
    /// Values to store, if the layer makes its own.
    pub v: Option<Id>,
    /// The layer whose cache is read and written.
    pub owner: usize,
}
