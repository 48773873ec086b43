//! From a model's inventory to the operators of one rank, layer by layer; layers that are alike are counted together.

use std::collections::BTreeMap;

use plimsoll_facts::model::{AttentionKind, Ffn, Mixer, Model, Span};
use plimsoll_facts::tensor::{Part, Role, Tensor};
use plimsoll_plan::engine::stored::Piece;
use plimsoll_plan::{Batching, Plan};

use super::attention::{Absorbed, Attention, Expand, Form};
use super::divide::{Division, Habits, matrix, share};
use super::line::{Line, Of, What};
use super::products::Product;
use super::recurrent::Recurrent;
use super::stored::{Storage, input_bytes};
use super::{Inventory, Options};
use crate::{Collective, Error, Format, Math};

/// Bytes of a number of the residual stream.
pub(super) const HALF: f64 = 2.0;

/// An inventory being made.
pub(super) struct Builder<'a> {
    pub(super) model: &'a Model,
    options: &'a Options,
    pub(super) habits: Habits,
    pub(super) division: Division,
    pub(super) storage: Storage,
    /// Cards of the whole deployment of one replica, experts' replicas counted.
    cards: u64,
    /// Whether matrices are stored inputs first (GPT-2).
    pub(super) transposed: bool,
    kv_bytes: f64,
    skew: f64,
    /// Tensors of the language model by layer; the last entry holds those outside the stack.
    pub(super) by_layer: Vec<Vec<&'a Tensor>>,
    pub(super) out: Inventory,
}

impl<'a> Builder<'a> {
    pub(super) fn new(model: &'a Model, plan: &'a Plan, options: &'a Options) -> Result<Self, Error> {
        let refuse = |why: &str| Error::Model { model: model.id.clone(), why: why.to_owned() };
        if model.layers.is_empty() || model.hidden == 0 || model.vocabulary == 0 {
            return Err(refuse("it has no layers, no width or no vocabulary"));
        }
        let habits = Habits::of(plan);
        let division = Division::of(model, plan, habits);
        let storage = Storage::of(model, plan, &division, options.capability);
        let mut by_layer = vec![Vec::new(); model.layers.len() + 1];
        for tensor in model.tensors.iter().filter(|tensor| tensor.part == Part::Text) {
            if tensor.layers.is_empty() {
                by_layer[model.layers.len()].push(tensor);
            }
            for layer in tensor.layers.iter() {
                match by_layer.get_mut(layer as usize) {
                    Some(list) if (layer as usize) < model.layers.len() => list.push(tensor),
                    Some(_) | None => return Err(refuse("a tensor stands in a layer that the model does not have")),
                }
            }
        }
        let latent = model.layers.iter().any(|layer| {
            matches!(&layer.mixer, Mixer::Attention(attention) if matches!(attention.kind, AttentionKind::Latent { .. }))
        });
        let replicas = match &plan.batching {
            Some(Batching::Vllm(_)) => u64::from(plan.parallel.dp.max(1)),
            Some(Batching::Sglang(_) | Batching::TensorRtLlm(_)) | None => 1,
        };
        let mut builder = Builder {
            model,
            options,
            habits,
            division,
            storage,
            cards: u64::from(plan.parallel.tp.max(1)).saturating_mul(replicas),
            transposed: model.model_type == "gpt2",
            kv_bytes: 2.0,
            skew: options.skew.unwrap_or(if latent { super::SKEW_LATENT } else { super::SKEW }),
            by_layer,
            out: Inventory { stages: division.stages as f64, narrow: habits.narrow, ..Inventory::default() },
        };
        builder.kv_bytes = builder.cached(plan);
        Ok(builder)
    }

    pub(super) fn build(mut self) -> Inventory {
        self.before();
        for at in 0..self.model.layers.len() {
            self.layer(at);
        }
        self.after();
        self.tell();
        self.out.window = self.main_window();
        self.out
    }

    fn ranks(&self, ranks: u64) -> u32 {
        u32::try_from(ranks).unwrap_or(u32::MAX)
    }

    /// Adds a line, or counts it to one that is alike.
    pub(super) fn push(&mut self, name: &'static str, runs: f64, of: Of, workers: f64, what: What) {
        match self.out.lines.iter_mut().find(|line| {
            line.name == name && line.of == of && line.workers.total_cmp(&workers).is_eq() && line.what == what
        }) {
            Some(line) => line.runs += runs,
            None => self.out.lines.push(Line { name, runs, of, workers, what }),
        }
    }

    /// Adds a kernel that reads and writes, in numbers of the stream per token.
    fn stream(&mut self, name: &'static str, read: f64, written: f64, weights: f64, launches: f64) {
        let what = What::Stream { read: read * HALF, written: written * HALF, weights, launches };
        self.push(name, self.division.part, Of::Tokens, 1.0, what);
    }

    fn collective(&mut self, name: &'static str, kind: Collective, bytes: f64, ranks: u64) {
        let across = ranks > u64::from(self.options.machine) || self.across(ranks);
        let what = What::Collective { kind, bytes, ranks: self.ranks(ranks), across };
        self.push(name, self.division.part, Of::Tokens, 1.0, what);
    }

    /// Whether a group of data-parallel replicas reaches over machines: its ranks lie tp apart.
    fn across(&self, ranks: u64) -> bool {
        ranks > self.division.attention.max(self.division.dense) && self.cards > u64::from(self.options.machine)
    }

    /// Embedding.
    fn before(&mut self) {
        let hidden = self.model.hidden as f64;
        let what = What::Stream { read: hidden * HALF, written: hidden * HALF, weights: 0.0, launches: 1.0 };
        self.push("embedding", 1.0, Of::Tokens, 1.0, what);
        if self.division.attention > 1 {
            let across = self.division.attention > u64::from(self.options.machine);
            let ranks = self.ranks(self.division.attention);
            let what = What::Collective { kind: Collective::AllReduce, bytes: hidden * HALF, ranks, across };
            self.push("embedding_all_reduce", 1.0, Of::Tokens, 1.0, what);
        }
    }

    /// One layer: norms, mixer, feed-forward block, and what the ranks tell each other.
    fn layer(&mut self, at: usize) {
        let layer = &self.model.layers[at];
        let index = at as u32;
        self.norms(at);
        let products = self.products(at, index);
        let mixes = |role: Role| matches!(role, Role::Attention | Role::Recurrent);
        let summed = products.iter().any(|product| mixes(product.role) && product.summed);
        let latent = matches!(&layer.mixer, Mixer::Attention(attention)
            if matches!(attention.kind, AttentionKind::Latent { .. }));
        for product in products.iter().filter(|product| mixes(product.role)) {
            // The projection out of the latents belongs to attention itself, where it is attention over latents.
            if product.name != "kv_b_proj" || !latent {
                self.product(product, 1.0);
            }
        }
        match &layer.mixer {
            Mixer::Attention(attention) => self.attention(at, attention, &products),
            Mixer::Recurrent(recurrent) => self.recurrent(at, recurrent),
            Mixer::None => {}
        }
        let hidden = self.model.hidden as f64 * HALF;
        if summed && self.division.attention > 1 {
            self.collective("attention_all_reduce", Collective::AllReduce, hidden, self.division.attention);
        }
        self.feed_forward(at, &products);
    }

    /// Norms of a layer: those of the stream's width with the residual added, those of heads and latents.
    fn norms(&mut self, at: usize) {
        let hidden = self.model.hidden;
        let (heads, kv_heads, key_dim) = match &self.model.layers[at].mixer {
            Mixer::Attention(attention) => match &attention.kind {
                AttentionKind::Grouped { heads, kv_heads, key_dim, .. } => (*heads, *kv_heads, *key_dim),
                AttentionKind::Latent { .. } => (1, 1, 0),
            },
            Mixer::Recurrent(_) | Mixer::None => (1, 1, 0),
        };
        let ranks = self.division.attention as f64;
        let list: Vec<&Tensor> = self.by_layer[at].clone();
        for tensor in list {
            let ([width], Role::Norm, false) = (tensor.shape.as_slice(), tensor.role, tensor.name.ends_with("bias"))
            else {
                continue;
            };
            let width_f = *width as f64;
            // An eager implementation runs its norms piece by piece, a fused one adds the residual on the way.
            if *width == hidden {
                self.stream("norm", 2.0 * width_f, 2.0 * width_f, width_f * HALF, 1.0);
            } else {
                let name = tensor.name.as_str();
                let copies = match (*width == u64::from(key_dim), name.contains("k_norm") || name.contains("key")) {
                    (true, true) => (f64::from(kv_heads) / ranks).max(1.0),
                    (true, false) => f64::from(heads) / ranks,
                    (false, _) => 1.0,
                };
                self.stream("inner_norm", width_f * copies, width_f * copies, width_f * HALF, 1.0);
            }
        }
    }

    /// Attention itself, rotary embeddings and what is written to the cache.
    fn attention(&mut self, at: usize, attention: &plimsoll_facts::model::Attention, products: &[Product]) {
        let ranks = self.ranks(self.division.attention).max(1);
        let on = |heads: u32| heads.div_ceil(ranks).max(1);
        let mut window = match attention.span {
            Span::Full | Span::Cross | Span::Summary { .. } => None,
            Span::Window { tokens } | Span::Chunk { tokens } => Some(tokens),
        };
        if attention.span == Span::Cross {
            let note = "cross-attention to an encoder is not counted, its projections of queries and results are";
            self.note(note);
            return;
        }
        let name = if window.is_some() { "window_attention" } else { "attention" };
        let (form, rotated, written) = match &attention.kind {
            AttentionKind::Grouped { heads, kv_heads, key_dim, value_dim } => {
                let (heads, kv_heads) = (on(*heads), on(*kv_heads));
                let form = Form::Grouped { heads, kv_heads, key_dim: *key_dim, value_dim: *value_dim };
                let f = |a: u32, b: u32| f64::from(a) * f64::from(b);
                let kept = f(kv_heads, *key_dim) + f(kv_heads, *value_dim);
                (form, f(heads, *key_dim) + f(kv_heads, *key_dim), kept)
            }
            AttentionKind::Latent { heads, rank, rope_dim, nope_dim, value_dim, indexer, compress } => {
                let heads = on(*heads);
                if let Some(indexer) = indexer {
                    self.indexer(attention, *indexer, *compress);
                }
                let recent = match attention.span {
                    Span::Summary { window } => Some(window),
                    Span::Full | Span::Window { .. } | Span::Chunk { .. } | Span::Cross => None,
                };
                let expand = products.iter().find(|product| product.name == "kv_b_proj").map(|found| Expand {
                    n: found.n,
                    k: found.k,
                    format: found.format,
                    weights: found.weights,
                });
                let absorbed = self.absorbed(at, expand);
                let form = Form::Latent {
                    heads,
                    rank: *rank,
                    rope_dim: *rope_dim,
                    nope_dim: *nope_dim,
                    value_dim: *value_dim,
                    compress: (*compress).max(1),
                    top: indexer.map(|indexer| indexer.top).filter(|top| *top > 0),
                    recent,
                    absorbed,
                    expand,
                };
                if recent.is_some() {
                    window = None;
                }
                let width = f64::from(*rank) + f64::from(*rope_dim);
                (form, (f64::from(heads) + 1.0) * f64::from(*rope_dim), width)
            }
        };
        let launches = if self.habits.fused { 1.0 } else { 2.0 };
        if self.rotates(at) {
            self.stream("rotary", rotated, rotated, 0.0, launches);
        }
        if attention.shares_cache_of.is_none() {
            let kept = written * self.kv_bytes / HALF / self.division.dealt as f64;
            let own = if self.habits.writes_rotated && self.rotates(at) { 0.0 } else { 1.0 };
            self.stream("cache_write", written, kept, 0.0, own);
        }
        let kv_bytes = self.kv_bytes;
        let dealt = self.division.dealt as f64;
        self.attend(Attention { name, runs: self.division.part, form, window, kv_bytes, dealt });
    }

    /// How products into the latent space and out of it are stored: as matrices of their own (llama.cpp's `attn_k_b` and
    /// `attn_v_b`), or made from the projection that expands latents.
    fn absorbed(&self, at: usize, expand: Option<Expand>) -> Option<Absorbed> {
        let own = self.by_layer[at].iter().filter(|tensor| tensor.role == Role::Attention && tensor.shape.len() == 3);
        let held: Vec<(Format, f64, f64)> = own
            .filter_map(|tensor| {
                let piece = share(tensor, 1, self.transposed)?;
                let (format, bytes) = self.storage.held(tensor, Some(at as u32), piece);
                Some((format, bytes, tensor.elements() as f64))
            })
            .collect();
        if let Some((format, ..)) = held.first() {
            let bytes: f64 = held.iter().map(|(_, bytes, _)| bytes).sum();
            let numbers: f64 = held.iter().map(|(.., numbers)| numbers).sum();
            return Some(Absorbed { format: *format, number: bytes / numbers.max(1.0) });
        }
        let eight = expand?.format.math() == Math::Fp8;
        let format = if eight && self.habits.absorbed_fp8 { Format::Fp8 } else { Format::Bf16 };
        Some(Absorbed { format, number: input_bytes(format) })
    }

    /// The indexer's scores and its choice.
    fn indexer(
        &mut self,
        attention: &plimsoll_facts::model::Attention,
        indexer: plimsoll_facts::model::Indexer,
        compress: u32,
    ) {
        debug_assert!(attention.shares_cache_of.is_none() || indexer.dim > 0, "an indexer keeps keys");
        let form = Form::Indexer { heads: indexer.heads, dim: indexer.dim, compress: compress.max(1) };
        // Keys are kept in 8-bit floats: vLLM 0.19.0 `v1/attention/backends/mla/indexer.py`.
        let part = self.division.part;
        let dealt = self.division.dealt as f64;
        self.attend(Attention { name: "indexer", runs: part, form, window: None, kv_bytes: 1.0, dealt });
        self.stream("indexer_choice", f64::from(indexer.top), f64::from(indexer.top) * 2.0, 0.0, 1.0);
    }

    fn attend(&mut self, attention: Attention) {
        let alike = |other: &&mut Attention| Attention { runs: attention.runs, ..(*other).clone() } == attention;
        match self.out.attention.iter_mut().find(alike) {
            Some(other) => other.runs += attention.runs,
            None => self.out.attention.push(attention),
        }
    }

    /// Whether positions are rotated into queries and keys.
    fn rotates(&self, at: usize) -> bool {
        let outside = &self.by_layer[self.model.layers.len()];
        let learned = outside.iter().any(|tensor| tensor.role == Role::Positions);
        !learned && !matches!(self.model.model_type.as_str(), "bloom" | "mpt" | "jamba") && at < self.model.layers.len()
    }

    /// A recurrent mixer's scan.
    fn recurrent(&mut self, at: usize, recurrent: &plimsoll_facts::model::Recurrent) {
        let mut found = Recurrent::of(recurrent, self.division.attention, 2);
        found.runs = self.division.part;
        found.weights = self.by_layer[at]
            .iter()
            .filter(|tensor| tensor.role == Role::RecurrentState)
            .map(|tensor| self.model.stored_dtype(tensor).bytes_of(tensor.elements()) as f64)
            .sum::<f64>()
            / self.division.attention as f64;
        if found.unmeasured() {
            self.note("the scans of these recurrent layers were not measured: their time is that of their bytes");
        }
        self.stream("recurrent_gate", 2.0 * found.outputs(), found.outputs(), 0.0, 1.0);
        match self.out.recurrent.iter_mut().find(|other| other.is_like(&found)) {
            Some(other) => other.runs += found.runs,
            None => self.out.recurrent.push(found),
        }
    }

    /// The feed-forward block: dense products, router, experts, and what the ranks tell each other.
    fn feed_forward(&mut self, at: usize, products: &[Product]) {
        let hidden = self.model.hidden as f64 * HALF;
        let division = self.division;
        let mut gathered = 0.0;
        for product in products {
            match product.role {
                Role::Mlp | Role::SharedExpert => {
                    if matches!(product.name, "down_proj" | "shared_down_proj") {
                        let inner = product.k as f64;
                        let gated = if gated(&self.model.layers[at].ffn) { 2.0 } else { 1.0 };
                        let what = What::Stream {
                            read: gated * inner * HALF,
                            written: inner * HALF,
                            weights: 0.0,
                            launches: 1.0,
                        };
                        self.push("activation", division.part, Of::Tokens, division.dense_workers, what);
                    }
                    gathered = division.dense_workers;
                    self.product(product, division.dense_workers);
                }
                Role::Router | Role::Other => self.product(product, 1.0),
                Role::Attention | Role::Recurrent | Role::Embedding | Role::Positions | Role::LmHead | Role::Norm => {}
                Role::RecurrentState | Role::Experts | Role::Tower => {}
            }
        }
        let routed = self.experts(at);
        let group = division.experts_tp.saturating_mul(division.experts_ep);
        if routed && division.experts_workers > 1.0 && group > 1 {
            self.exchange(at, group);
        } else if gathered > 1.0 && division.dense > 1 {
            self.collective("ffn_all_gather", Collective::AllGather, hidden, division.dense);
            // All workers' tokens lie on each rank before they are summed and dealt out.
            self.collective("ffn_reduce_scatter", Collective::ReduceScatter, hidden * gathered, division.dense);
        } else if (gathered > 0.0 && division.dense > 1) || (routed && group > 1) {
            let ranks = if routed { group.max(division.dense) } else { division.dense };
            self.collective("ffn_all_reduce", Collective::AllReduce, hidden, ranks);
        }
    }

    /// Tokens of several workers go to the ranks that hold their experts and come back.
    ///
    /// By gathering all tokens and scattering sums (vLLM 0.19.0 `device_communicators/all2all.py`,
    /// `AgRsAll2AllManager`; SGLang 0.5.9 `moe_a2a_backend` none; TensorRT-LLM 1.0 without multi-node NVLink), or by sending
    /// each token to the ranks that hold one of its experts, ep·(1 − (1 − 1/ep)^k) of them under uniform routing.
    fn exchange(&mut self, at: usize, group: u64) {
        let hidden = self.model.hidden as f64 * HALF;
        let topk = match self.model.layers[at].ffn {
            Ffn::Moe { active, .. } => f64::from(active),
            Ffn::Dense { .. } | Ffn::None => 1.0,
        };
        let tp = self.division.attention;
        if self.options.all_to_all && self.division.experts_ep > 1 {
            let ep = self.division.experts_ep as f64;
            let met = ep * (1.0 - libm::pow(1.0 - 1.0 / ep, topk));
            self.collective("dispatch", Collective::AllToAll, hidden * met, self.division.experts_ep);
            self.collective("combine", Collective::AllToAll, hidden * met, self.division.experts_ep);
            return;
        }
        // Ranks of one replica hold the same tokens: replicas gather from each other, then sum within.
        let ranks = (group / tp).max(1);
        self.collective("dispatch", Collective::AllGather, hidden, ranks);
        self.collective("combine", Collective::ReduceScatter, hidden * ranks as f64, ranks);
        if tp > 1 {
            self.collective("ffn_all_reduce", Collective::AllReduce, hidden, tp);
        }
    }

    /// Routed experts of a layer; whether there are any.
    fn experts(&mut self, at: usize) -> bool {
        let Ffn::Moe { experts, active, inner, gated, .. } = self.model.layers[at].ffn else { return false };
        let (mut numbers, mut weights, mut width, mut format) = (0.0, 0.0, 0, None);
        for tensor in self.by_layer[at].iter().filter(|tensor| tensor.role == Role::Experts) {
            let (Some(piece), Some(whole)) = (share(tensor, self.division.experts_tp, self.transposed), matrix(tensor))
            else {
                continue;
            };
            if tensor.shape.len() < 2 {
                continue;
            }
            // Experts one by one are lines of as many tensors; stacked ones count themselves.
            let each = (tensor.count / tensor.layers.len().max(1)).max(1) as f64;
            let piece = Piece { outputs: piece.outputs.div_ceil(self.division.rows), ..piece };
            let (found, bytes) = self.storage.held(tensor, Some(at as u32), piece);
            let held = piece.outputs as f64 * piece.inputs as f64 * piece.copies as f64;
            numbers += held * each;
            weights += bytes * each;
            format.get_or_insert(found);
            if width == 0 {
                width = whole.inputs;
            }
        }
        let (Some(format), true) = (format, experts > 0) else { return false };
        let many = f64::from(experts);
        let division = self.division;
        let what = What::Moe {
            hidden: width,
            inter: inner,
            topk: active.min(experts),
            experts,
            tp: self.ranks(division.experts_tp),
            ep: self.ranks(division.experts_ep),
            format,
            gated,
            skew: self.skew,
            numbers: numbers / many,
            weights: weights / many,
        };
        self.stream("routing", 2.0 * many, 4.0 * f64::from(active), 0.0, 1.0);
        self.push("experts", division.part, Of::Tokens, division.experts_workers, what);
        true
    }

    /// Last norm, output projection, sampling, and what goes to the next stage.
    fn after(&mut self) {
        let hidden = self.model.hidden as f64;
        let outside = self.by_layer[self.model.layers.len()].clone();
        for tensor in &outside {
            let fits =
                tensor.role == Role::Norm && tensor.shape == [self.model.hidden] && !tensor.name.ends_with("bias");
            if fits {
                let moved = 2.0 * hidden * HALF;
                let what = What::Stream { read: moved, written: moved, weights: hidden * HALF, launches: 1.0 };
                self.push("norm", 1.0, Of::Tokens, 1.0, what);
            }
        }
        let head = outside.iter().find(|tensor| tensor.role == Role::LmHead && tensor.shape.len() == 2);
        let tied = outside.iter().find(|tensor| {
            tensor.role == Role::Embedding && tensor.shape.first().is_some_and(|rows| *rows >= self.model.vocabulary)
        });
        let division = self.division;
        // A tied head lies where the embedding lies, with attention.
        let (head_ranks, workers) =
            if head.is_some() { (division.head, division.head_workers) } else { (division.attention, 1.0) };
        let rows = self.model.vocabulary.next_multiple_of(64).div_ceil(head_ranks);
        let found = head.or(tied).and_then(|tensor| self.one(tensor, None));
        let (n, k, format, weights) = match found {
            Some(found) => (found.n, found.k, found.format, found.weights),
            None => {
                let numbers = rows as f64 * hidden;
                (rows, self.model.hidden, Format::Bf16, numbers * HALF)
            }
        };
        let what = What::Gemm { n, k, format, weights };
        self.push("lm_head", 1.0, Of::Sampled, workers, what);
        if head_ranks > 1 {
            let across = head_ranks > u64::from(self.options.machine);
            let (ranks, bytes) = (self.ranks(head_ranks), n as f64 * HALF);
            let what = What::Collective { kind: Collective::AllGather, bytes, ranks, across };
            self.push("logits_all_gather", 1.0, Of::Sampled, workers, what);
        }
        // Logits are read in 16 bits, written in fp32, and read twice more: largest value, and the choice.
        let logits = self.model.vocabulary as f64;
        let what = What::Stream { read: 10.0 * logits, written: 4.0 * logits, weights: 0.0, launches: 3.0 };
        self.push("sampling", 1.0, Of::Sampled, 1.0, what);
        if division.stages > 1 {
            let bytes = self.habits.sent * hidden * HALF;
            let across = division.stages.saturating_mul(self.cards) > u64::from(self.options.machine);
            let what = What::Collective { kind: Collective::Send, bytes, ranks: 2, across };
            self.push("stage_send", 1.0, Of::Tokens, 1.0, what);
        }
    }

    fn note(&mut self, note: &str) {
        if !self.out.notes.iter().any(|known| known == note) {
            self.out.notes.push(note.to_owned());
        }
    }

    /// What the numbers rest on.
    fn tell(&mut self) {
        if let Some(bits) = self.storage.file().filter(|bits| *bits < 16.0) {
            self.out
                .assumptions
                .push(format!("every matrix takes {bits:.2} bits a number, the mean of the file's types"));
        }
        if self.storage.online().is_some() {
            self.out
                .assumptions
                .push("weights that are quantised while loading are told by the plan's ledger".to_owned());
        }
        if self.out.lines.iter().any(|line| matches!(line.what, What::Moe { .. })) {
            self.out.assumptions.push(format!(
                "experts touched by a step: those of uniform routing; popularity by a power law of exponent {} in measured \
                 times",
                self.skew
            ));
        }
        if self.division.stages > 1 {
            let most = (self.model.layers.len() as u64).div_ceil(self.division.stages);
            self.note(&format!(
                "{} micro-batches in flight share a step's tokens: the slowest stage of {most} layers reads its weights \
                 once for each",
                self.division.stages
            ));
        }
        if self.division.rows > 1 {
            self.note("what cards tell each other of the rows that they hold is not counted");
        }
        if self.division.dealt > 1 {
            self.note("messages between ranks that deal a sequence's tokens are not counted");
        }
    }

    /// The window whose sums are kept: that of the layers that read most.
    fn main_window(&self) -> Option<u32> {
        let mut read: BTreeMap<u32, f64> = BTreeMap::new();
        for attention in &self.out.attention {
            if let (Some(window), Form::Grouped { kv_heads, key_dim, value_dim, .. }) =
                (attention.window, &attention.form)
            {
                let width = f64::from(*key_dim) + f64::from(*value_dim);
                *read.entry(window).or_default() += attention.runs * f64::from(*kv_heads) * width;
            } else if let Some(window) = attention.window {
                *read.entry(window).or_default() += attention.runs;
            }
        }
        let best = read.iter().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(a.0)));
        best.map(|(window, _)| *window)
    }
}

fn gated(ffn: &Ffn) -> bool {
    match ffn {
        Ffn::Dense { gated, .. } | Ffn::Moe { gated, .. } => *gated,
        Ffn::None => false,
    }
}
