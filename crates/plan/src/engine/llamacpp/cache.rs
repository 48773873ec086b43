//! What do keys, values and recurrent states take, device by device?
//!
//! Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`create_memory`), `src/llama-kv-cache*.cpp`,
//! `src/llama-memory-recurrent.cpp`, `src/llama-memory-hybrid*.cpp`.

use plimsoll_facts::gguf::GgmlType;

use super::buffer::{Sums, Where, allocated, row_bytes};
use super::context::{Context, Flash};
use super::hparams::{Hparams, Swa, is_hybrid, is_recurrent};

/// What a part of the cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Keys and values of layers with full attention.
    Full,
    /// Keys and values of layers with a window.
    Window,
    /// Keys of the sparse indexer.
    Indexer,
    /// Compressed keys (DeepSeek-4), one for so many tokens.
    Compressed(u64),
    /// Recurrent states.
    Recurrent,
    /// States of the compressors (DeepSeek-4).
    Compressor,
}

/// One part of the cache: tensors of the same length.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it holds.
    pub role: Role,
    /// Cells of each stream; rows of recurrent states.
    pub cells: u64,
    /// Layers that own tensors in it.
    pub layers: u64,
    /// Bytes of keys, or of rolling states.
    pub keys: u64,
    /// Bytes of values, or of recurrent states.
    pub values: u64,
    /// Bytes in each memory, as allocated.
    pub sums: Sums,
}

/// The whole cache.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cache {
    /// Its parts, in the order in which the engine makes them.
    pub parts: Vec<Part>,
}

impl Cache {
    /// Returns the bytes in each memory.
    pub fn sums(&self) -> Sums {
        let mut all = Sums::default();
        self.parts.iter().for_each(|part| all.add_all(&part.sums));
        all
    }

    /// Returns the bytes of keys and values, without recurrent states.
    pub fn kv_bytes(&self) -> u64 {
        let kv = self.parts.iter().filter(|part| !matches!(part.role, Role::Recurrent | Role::Compressor));
        kv.fold(0, |sum: u64, part| sum.saturating_add(part.keys).saturating_add(part.values))
    }

    /// Returns the first part of a role.
    pub fn part(&self, role: Role) -> Option<&Part> {
        self.parts.iter().find(|part| part.role == role)
    }
}

/// A maker of parts.
struct Maker<'a> {
    h: &'a Hparams,
    context: &'a Context,
    places: &'a [Where],
    /// Whether values are stored transposed, padded to the widest layer.
    transposed: bool,
}

/// Tensors of one layer: rows of keys and of values, in numbers.
#[derive(Clone, Copy)]
struct Rows {
    k: u64,
    v: u64,
}

/// Lays the cache out.
pub fn cache(h: &Hparams, context: &Context, places: &[Where], flash: bool) -> Cache {
    let maker = Maker { h, context, places, transposed: !flash && context.flash != Flash::On };
    let main = h.main_layers();
    let drafting = context.asked.drafting;
    let mut parts = Vec::new();
    match h.arch.as_str() {
        "bert" | "jina-bert-v2" | "jina-bert-v3" | "nomic-bert" | "nomic-bert-moe" | "neo-bert" | "eurobert"
        | "wavtokenizer-dec" | "modern-bert" | "gemma-embedding" | "dream" | "llada" | "llada-moe" | "rnd1" => {}
        "minimax-m3" => {
            parts.push(maker.plain(Role::Full, context.cells, |_| true));
            let width = Rows { k: h.indexer.head_dim, v: h.head_v };
            let lead = h.leading_dense as usize;
            parts.push(maker.rows(Role::Indexer, context.cells, |layer| (layer >= lead).then_some(width)));
        }
        "glm-dsa" | "deepseek32" if !drafting => {
            parts.push(maker.plain(Role::Full, context.cells, |layer| h.nextn == 0 || layer < main));
            let owns = |layer: usize| layer < main && (h.arch != "glm-dsa" || h.layers[layer].indexer);
            parts.push(maker.indexer(owns, 1));
        }
        "hy_v4" if h.indexer.top_k > 0 => {
            parts.push(maker.plain(Role::Full, context.cells, |_| true));
            parts.push(maker.indexer(|layer| h.layers[layer].indexer, 1));
        }
        "dots3note" if !drafting => {
            let trunk = |layer: usize| h.nextn == 0 || layer < main;
            parts.push(maker.plain(Role::Full, context.cells, |layer| trunk(layer) && !h.is_swa(layer)));
            parts.push(maker.indexer(|layer| layer < main && h.layers[layer].indexer, 1));
            parts.push(maker.plain(Role::Window, context.cells_swa, |layer| trunk(layer) && h.is_swa(layer)));
        }
        "deepseek4" if !drafting => maker.deepseek4(&mut parts),
        _ if is_recurrent(&h.arch) => parts.push(maker.recurrent(|_| true)),
        _ if is_hybrid(&h.arch) && !drafting => maker.hybrid(&mut parts),
        _ => {
            let routed = h.router_layer.is_some();
            let filtered = h.nextn > 0 && main > 0 && !routed;
            let wanted = |layer: usize| !filtered || (layer >= main) == drafting;
            maker.windowed(&mut parts, wanted);
        }
    }
    parts.retain(|part| part.layers > 0);
    Cache { parts }
}

impl Maker<'_> {
    /// A part whose layers have keys and values of their own widths.
    fn plain(&self, role: Role, cells: u64, wanted: impl Fn(usize) -> bool) -> Part {
        let h = self.h;
        let values = |layer: usize| if self.transposed { h.v_gqa_max() } else { h.v_gqa(layer) };
        self.rows(role, cells, |layer| {
            let has = h.owns_kv(layer) && wanted(layer);
            has.then(|| Rows { k: h.k_gqa(layer), v: if h.is_mla() { 0 } else { values(layer) } })
        })
    }

    /// A part of given rows.
    fn rows(&self, role: Role, cells: u64, rows: impl Fn(usize) -> Option<Rows>) -> Part {
        let asked = &self.context.asked;
        let (mut part, streams) = (empty(role, cells), self.context.streams);
        for layer in 0..self.h.layers.len() {
            let Some(Rows { k, v }) = rows(layer) else { continue };
            part.layers += 1;
            let place = self.place(layer);
            let count = cells.saturating_mul(streams);
            let keys = self.put(&mut part, place, asked.kind_k, k, count);
            let values = self.put(&mut part, place, asked.kind_v, v, count);
            part.keys = part.keys.saturating_add(keys);
            part.values = part.values.saturating_add(values);
        }
        part
    }

    /// Adds a tensor to a part; returns its bytes without rounding.
    fn put(&self, part: &mut Part, place: Where, kind: GgmlType, row: u64, count: u64) -> u64 {
        let bytes = row_bytes(kind, row).saturating_mul(count);
        if bytes > 0 {
            part.sums.add(place, allocated(place, kind, row, bytes));
        }
        bytes
    }

    /// The memory in which a layer's cache lies.
    fn place(&self, layer: usize) -> Where {
        match self.places.get(layer) {
            Some(Where::Device(device)) if self.context.asked.offload_kv => Where::Device(*device),
            Some(_) | None => Where::Host,
        }
    }

    /// Full attention and windows, each with a length of its own.
    fn windowed(&self, parts: &mut Vec<Part>, wanted: impl Fn(usize) -> bool) {
        let h = self.h;
        if h.swa == Swa::None {
            parts.push(self.plain(Role::Full, self.context.cells, wanted));
            return;
        }
        parts.push(self.plain(Role::Full, self.context.cells, |layer| wanted(layer) && !h.is_swa(layer)));
        parts.push(self.plain(Role::Window, self.context.cells_swa, |layer| wanted(layer) && h.is_swa(layer)));
    }

    /// One key head of the indexer, `times` its width.
    fn indexer(&self, wanted: impl Fn(usize) -> bool, times: u64) -> Part {
        let h = self.h;
        let k = h.indexer.head_dim.saturating_mul(times);
        self.rows(Role::Indexer, self.context.cells, |layer| wanted(layer).then_some(Rows { k, v: 0 }))
    }

    /// Attention in some layers, recurrent states in others.
    fn hybrid(&self, parts: &mut Vec<Part>) {
        let (h, main) = (self.h, self.h.main_layers());
        let arch = h.arch.as_str();
        let ff = |layer: usize| h.layers[layer].ff;
        let attends = |layer: usize| match arch {
            "falcon-h1" => true,
            "nemotron_h" | "nemotron_h_moe" => !h.is_recurrent(layer) && ff(layer) == 0,
            "qwen3next" | "qwen35" | "qwen35moe" | "qwen4exp" | "minimax-01" | "glm5-next" => {
                layer < main && !h.is_recurrent(layer)
            }
            _ => !h.is_recurrent(layer),
        };
        self.windowed(parts, attends);
        if arch == "glm5-next" {
            parts.push(self.indexer(|layer| attends(layer) && h.layers[layer].indexer, 3));
        }
        if arch == "qwen4exp" && h.indexer.head_dim > 0 {
            parts.push(self.indexer(attends, 1));
        }
        parts.push(self.recurrent(|layer| match arch {
            "falcon-h1" => true,
            "nemotron_h" | "nemotron_h_moe" => h.is_recurrent(layer) && ff(layer) == 0,
            _ => h.is_recurrent(layer),
        }));
    }

    /// Recurrent states: rows of 32-bit floats, one for each sequence and each copy to roll back to.
    fn recurrent(&self, wanted: impl Fn(usize) -> bool) -> Part {
        let cells = self.context.sequences.max(1);
        let rows = cells.saturating_mul(self.context.snapshots.saturating_add(1));
        let mut part = empty(Role::Recurrent, cells);
        let (r, s) = (self.h.state_r(), self.h.state_s());
        for layer in (0..self.h.main_layers()).filter(|layer| wanted(*layer)) {
            part.layers += 1;
            let place = self.place(layer);
            part.keys = part.keys.saturating_add(self.put(&mut part, place, GgmlType::F32, r, rows));
            part.values = part.values.saturating_add(self.put(&mut part, place, GgmlType::F32, s, rows));
        }
        part
    }

    /// DeepSeek-4: raw keys in the window, compressed keys, indexer keys, and the compressors' states; always apart for
    /// each sequence.
    fn deepseek4(&self, parts: &mut Vec<Part>) {
        let h = self.h;
        let apart = Context { streams: self.context.sequences, ..*self.context };
        let maker = Maker { context: &apart, ..*self };
        let window = super::context::window_cells(h, &apart);
        let raw = |layer: usize| Some(Rows { k: h.k_gqa(layer), v: 0 });
        parts.push(maker.rows(Role::Window, window, raw));
        let compressed = |ratio: u64| apart.cells.div_ceil(ratio).max(1).next_multiple_of(256);
        let at = |layer: usize, ratio: u64| h.layers[layer].compress_ratio == ratio;
        for ratio in [4, 128] {
            let rows = |layer: usize| at(layer, ratio).then(|| Rows { k: h.k_gqa(layer), v: 0 });
            parts.push(maker.rows(Role::Compressed(ratio), compressed(ratio), rows));
        }
        let keys = |layer: usize| at(layer, 4).then_some(Rows { k: h.indexer.head_dim, v: 0 });
        parts.push(maker.rows(Role::Indexer, compressed(4), keys));
        for (ratio, size, width) in [(4, 8, 2 * h.head_k), (128, 128, h.head_k), (4, 8, 2 * h.indexer.head_dim)] {
            let planes = apart.streams.saturating_mul(apart.snapshots.saturating_add(1));
            let mut part = empty(Role::Compressor, size);
            for layer in (0..h.main_layers()).filter(|layer| at(*layer, ratio)) {
                part.layers += 1;
                let (place, count) = (maker.place(layer), planes.saturating_mul(size));
                part.keys = part.keys.saturating_add(maker.put(&mut part, place, GgmlType::F32, width, count));
                part.values = part.values.saturating_add(maker.put(&mut part, place, GgmlType::F32, width, count));
            }
            parts.push(part);
        }
    }
}

fn empty(role: Role, cells: u64) -> Part {
    Part { role, cells, layers: 0, keys: 0, values: 0, sums: Sums::default() }
}
