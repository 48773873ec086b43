//! What do the builders of all architectures share? Weights, norms, projections, inputs and outputs.
//!
//! Follows `llm_graph_context` (llama.cpp 0c1e57098, src/llama-graph.cpp).
//!
//! A builder never stops early: a tensor that the file lacks, or a shape that does not fit, is remembered in
//! [`Graph::problem`] and answered by a stand-in.

mod attention;
mod experts;
mod ffn;
mod inputs;
mod recurrent;

use super::arena::Graph;
use super::model::{Context, Flash, Model, Pooling, kind_of};
use super::tensor::{Id, Kind, Store, Unary};

pub use attention::{Attn, AttnInputs, Extra, Heads, Qkv, SharedQkv};
pub use experts::{Gating, Moe};
pub use ffn::{Act, Ffn, Gate};
pub use recurrent::States;

/// A physical batch as the reservation assumes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its tokens, a multiple of the sequences.
    pub tokens: u64,
    /// Its sequences.
    pub seqs: u64,
    /// Rows of logits wanted.
    pub outputs: u64,
}

/// A kind of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Mean and variance (`LLM_NORM`).
    Layer,
    /// Root mean square (`LLM_NORM_RMS`).
    Rms,
}

/// A graph under construction.
#[derive(Debug)]
pub struct Build<'a> {
    /// The graph.
    pub g: Graph,
    /// The model.
    pub model: &'a Model<'a>,
    /// The context.
    pub cx: &'a Context,
    /// The batch.
    pub batch: Batch,
    /// Whether attention is fused.
    pub flash: bool,
    /// Fused attention operations with their layers.
    pub fused: Vec<(Id, usize)>,
    /// Hidden states after the last norm (`t_embd`).
    pub embd: Option<Id>,
    /// Logits (`t_logits`).
    pub logits: Option<Id>,
    /// One embedding per sequence (`t_embd_pooled`).
    pub pooled: Option<Id>,
    loaded: Vec<Option<Id>>,
    tied: Option<Id>,
    doubled: Vec<(usize, Store, Id)>,
    caches: Vec<[Option<Id>; 2]>,
    states: Vec<[Option<Id>; 2]>,
}

impl<'a> Build<'a> {
    /// An empty graph for that batch.
    #[must_use]
    pub fn new(model: &'a Model<'a>, cx: &'a Context, batch: Batch, flash: bool) -> Self {
        let layers = model.hparams.layers.len();
        Self {
            g: Graph::default(),
            model,
            cx,
            batch,
            flash,
            fused: Vec::new(),
            embd: None,
            logits: None,
            pooled: None,
            loaded: vec![None; model.gguf.tensors.len()],
            tied: None,
            doubled: Vec::new(),
            caches: vec![[None; 2]; layers],
            states: vec![[None; 2]; layers],
        }
    }

    /// Number of layers without drafting ones.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.model.hparams.main_layers()
    }

    /// Query heads of a layer.
    #[must_use]
    pub fn heads(&self, il: usize) -> u64 {
        self.model.hparams.layers.get(il).map_or(0, |layer| layer.heads)
    }

    /// Key/value heads of a layer.
    #[must_use]
    pub fn heads_kv(&self, il: usize) -> u64 {
        self.model.hparams.layers.get(il).map_or(0, |layer| layer.heads_kv)
    }

    /// Whether values were laid out transposed when the cache was made (`v_trans`): unless fused attention was asked for.
    #[must_use]
    pub fn values_transposed(&self) -> bool {
        self.cx.flash == Flash::Off
    }

    /// Streams of the cache.
    #[must_use]
    pub fn streams(&self) -> u64 {
        if self.cx.unified { 1 } else { self.cx.sequences }
    }

    /// A number of the file under the architecture's name, 0 where it is absent.
    #[must_use]
    pub fn float(&self, key: &str) -> f64 {
        self.model.gguf.float(key).ok().flatten().unwrap_or(0.0)
    }

    /// A truth value of the file under the architecture's name.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        self.model.gguf.flag(key).ok().flatten().unwrap_or(false)
    }

    /// Whether a scale that the file may hold is there and does something.
    #[must_use]
    pub fn has_scale(&self, key: &str) -> bool {
        self.float(key).abs() > 0.0
    }

    /// Positions per token of an architecture that rotates by sections where the file names some (`use_mrope`).
    #[must_use]
    pub fn positions_by_sections(&self) -> u64 {
        let sections = self.model.gguf.array("rope.dimension_sections").ok().flatten().unwrap_or_default();
        if sections.len() > 1 && sections[..2].iter().all(|&n| n > 0) { 4 } else { 1 }
    }

    /// A weight of a layer that the file may lack.
    pub fn opt(&mut self, il: usize, name: &str) -> Option<Id> {
        self.find(Some(il), name)
    }

    /// A weight outside layers that the file may lack.
    pub fn maybe(&mut self, name: &str) -> Option<Id> {
        self.find(None, name)
    }

    /// A weight of a layer.
    pub fn w(&mut self, il: usize, name: &str) -> Id {
        self.opt(il, name).unwrap_or_else(|| self.missing(format!("blk.{il}.{name}")))
    }

    /// A weight outside layers.
    pub fn global(&mut self, name: &str) -> Id {
        self.maybe(name).unwrap_or_else(|| self.missing(name.to_owned()))
    }

    fn missing(&mut self, name: String) -> Id {
        self.g.fail(|| format!("the file has no tensor {name}"));
        self.g.stored(Kind::F32, [1; 4], Store::Host, true)
    }

    fn find(&mut self, layer: Option<usize>, name: &str) -> Option<Id> {
        let at = self.model.find(layer, name)?;
        if let Some(id) = self.loaded[at] {
            return Some(id);
        }
        let store = self.model.placement.tensors.get(at).copied().unwrap_or(Store::Host);
        let id = self.load(at, store);
        self.loaded[at] = Some(id);
        Some(id)
    }

    fn load(&mut self, at: usize, store: Store) -> Id {
        let info = &self.model.gguf.tensors[at];
        let mut ne = [1; 4];
        for (n, &side) in ne.iter_mut().zip(&info.shape) {
            *n = side;
        }
        self.g.stored(kind_of(info.kind), ne, store, true)
    }

    /// A tensor outside layers that layers share where they lie in the same memory, and else have a copy of
    /// (`TENSOR_DUPLICATED`).
    pub fn per_layer(&mut self, il: usize, name: &str) -> Option<Id> {
        if let Some(own) = self.opt(il, name) {
            return Some(own);
        }
        let at = self.model.find(None, name)?;
        let placement = self.model.placement;
        let store = placement.store_of(placement.layer(il));
        if let Some(&(_, _, id)) = self.doubled.iter().find(|&&(of, memory, _)| of == at && memory == store) {
            return Some(id);
        }
        let id = self.load(at, store);
        self.doubled.push((at, store, id));
        Some(id)
    }

    /// Frequency factors of a layer: fixed ones, or the long or short ones by the context (`get_rope_factors`).
    pub fn rope_factors(&mut self, il: usize) -> Option<Id> {
        if let Some(fixed) = self.per_layer(il, "rope_freqs.weight") {
            return Some(fixed);
        }
        let trained = self.model.gguf.uint("rope.scaling.original_context_length").ok().flatten();
        let trained = trained.unwrap_or(self.model.hparams.ctx_train);
        let per_sequence = if self.cx.unified { self.cx.tokens } else { self.cx.tokens / self.cx.sequences.max(1) };
        let name = if per_sequence > trained { "rope_factors_long.weight" } else { "rope_factors_short.weight" };
        self.per_layer(il, name)
    }

    /// Norm, weight, bias (`build_norm`); `il` is `None` after the last layer.
    pub fn norm(&mut self, cur: Id, weight: Option<Id>, bias: Option<Id>, norm: Norm, il: Option<usize>) -> Id {
        let mut cur = match norm {
            Norm::Layer => self.g.norm(cur),
            Norm::Rms => self.g.rms_norm(cur),
        };
        if (weight.is_some() || bias.is_some())
            && let Some(il) = il
        {
            self.tie(cur, il);
        }
        if let Some(weight) = weight {
            cur = self.g.mul(cur, weight);
        }
        if let Some(bias) = bias {
            cur = self.g.add(cur, bias);
        }
        cur
    }

    /// The norm of that name in a layer, with its bias where the file has one.
    pub fn layer_norm(&mut self, cur: Id, il: usize, name: &str, norm: Norm) -> Id {
        let weight = self.w(il, &format!("{name}.weight"));
        let bias = self.opt(il, &format!("{name}.bias"));
        self.norm(cur, Some(weight), bias, norm, Some(il))
    }

    /// The norm after the last layer, remembered as the hidden states.
    pub fn output_norm(&mut self, cur: Id, norm: Norm) -> Id {
        let weight = self.global("output_norm.weight");
        let bias = self.maybe("output_norm.bias");
        let cur = self.norm(cur, Some(weight), bias, norm, None);
        self.embd = Some(cur);
        cur
    }

    /// Ties an operation to its layer's device (the callbacks named `norm` and `l_last` in src/llama-context.cpp).
    pub fn tie(&mut self, id: Id, il: usize) {
        let placement = self.model.placement;
        if self.batch.tokens < 32 || placement.full_offload {
            let backend = placement.layer(il);
            let device = placement.devices.get(usize::from(backend)).copied();
            if device.is_some_and(|d| d.runs(backend, self.g.get(id), &self.g.tensors)) {
                self.g.tied.push((id, backend));
            }
        }
    }

    /// Product with a weight (`build_lora_mm` without adapters).
    pub fn mm(&mut self, weight: Id, cur: Id, scale: Option<Id>) -> Id {
        let product = self.g.mul_mat(weight, cur);
        match scale {
            Some(scale) => self.g.mul(product, scale),
            None => product,
        }
    }

    /// Product with the weight of that name in a layer, and its scale where the file has one.
    pub fn linear(&mut self, il: usize, name: &str, cur: Id) -> Id {
        let weight = self.w(il, &format!("{name}.weight"));
        let linear_attention = name.starts_with("ssm_") || name == "attn_qkv" || name == "attn_gate";
        if self.model.hparams.arch == "qwen3next" && linear_attention {
            return self.mm(weight, cur, None);
        }
        let scale = self.opt(il, &format!("{name}.scale"));
        self.mm(weight, cur, scale)
    }

    /// The same with its bias where the file has one.
    pub fn linear_biased(&mut self, il: usize, name: &str, cur: Id) -> Id {
        let product = self.linear(il, name, cur);
        match self.opt(il, &format!("{name}.bias")) {
            Some(bias) => self.g.add(product, bias),
            None => product,
        }
    }

    /// Rotates positions of queries or keys.
    pub fn rope(&mut self, cur: Id, positions: Id, factors: Option<Id>) -> Id {
        self.g.rope(cur, positions, factors)
    }

    /// The output matrix: the file's, or a copy of the token embedding.
    pub fn output_weight(&mut self) -> Id {
        if let Some(output) = self.maybe("output.weight") {
            return output;
        }
        if let Some(tied) = self.tied {
            return tied;
        }
        let tied = match self.model.find(None, "token_embd.weight") {
            Some(at) => self.load(at, self.model.placement.tied_output),
            None => self.missing("output.weight".to_owned()),
        };
        self.tied = Some(tied);
        tied
    }

    /// Logits of hidden states, with the bias where the file has one; the end of most graphs.
    pub fn head(&mut self, cur: Id) -> Id {
        let weight = self.output_weight();
        let scale = self.maybe("output.scale");
        let mut cur = self.mm(weight, cur, scale);
        if let Some(bias) = self.maybe("output.bias") {
            cur = self.g.add(cur, bias);
        }
        cur
    }

    /// Ends the graph at the logits.
    pub fn finish(&mut self, logits: Id) {
        self.logits = Some(logits);
        self.g.expand(logits);
    }

    /// Caps logits: scale, tanh, scale.
    pub fn soft_cap(&mut self, cur: Id) -> Id {
        let cur = self.g.scale(cur);
        let cur = self.g.unary(cur, Unary::Tanh);
        self.g.scale(cur)
    }

    /// Pooling after the architecture's graph (`build_pooling`) and what is kept to the end (`set_outputs`).
    pub fn end(&mut self) {
        if self.cx.embeddings
            && let Some(embd) = self.embd
        {
            let pooled = self.pool(embd);
            self.pooled = Some(pooled);
            self.g.expand(pooled);
        }
        for id in [self.logits, self.embd, self.pooled].into_iter().flatten() {
            self.g.keep(id);
        }
    }

    fn pool(&mut self, embd: Id) -> Id {
        match self.cx.pooling {
            Pooling::None => embd,
            Pooling::Mean => {
                let mean = self.g.input(Kind::F32, [self.batch.tokens, self.batch.seqs, 1, 1]);
                let turned = self.g.transpose(embd);
                let turned = self.g.cont(turned);
                self.g.mul_mat(turned, mean)
            }
            Pooling::Pick => self.pick(embd),
            Pooling::Rank => {
                let cur = self.pick(embd);
                self.classify(cur)
            }
        }
    }

    fn pick(&mut self, embd: Id) -> Id {
        let rows = self.g.input(Kind::I32, [self.batch.seqs, 1, 1, 1]);
        self.g.get_rows(embd, rows)
    }

    fn classify(&mut self, mut cur: Id) -> Id {
        if let Some(weight) = self.maybe("cls.weight") {
            cur = self.g.mul_mat(weight, cur);
            if let Some(bias) = self.maybe("cls.bias") {
                cur = self.g.add(cur, bias);
            }
            let arch = self.model.hparams.arch.as_str();
            let act = if arch == "modern-bert" { Unary::Gelu } else { Unary::Tanh };
            cur = self.g.unary(cur, act);
            if let Some(weight) = self.maybe("cls.norm.weight") {
                cur = self.norm(cur, Some(weight), None, Norm::Layer, None);
            }
        }
        if let Some(weight) = self.maybe("cls.output.weight") {
            cur = self.g.mul_mat(weight, cur);
            if let Some(bias) = self.maybe("cls.output.bias") {
                cur = self.g.add(cur, bias);
            }
        }
        if matches!(self.model.hparams.arch.as_str(), "qwen3" | "qwen3vl") {
            cur = self.g.soft_max(cur);
        }
        cur
    }
}
