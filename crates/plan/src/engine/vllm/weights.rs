//! What do the weights take on one rank? Every line of the inventory, divided, padded, quantised and repacked as vLLM
//! holds it after loading: what it logs as "Model loading took".

use std::ops::Range;

use plimsoll_facts::model::{AttentionKind, Mixer, Model};
use plimsoll_facts::quant::{Scale, Scheme};
use plimsoll_facts::tensor::{DType, Part, Role, Split, Tensor};

use super::defaults::Resolved;
use super::layout::DSPARK_LAYERS;
use super::mxfp4::{self, Kernels};
use super::options::Options;
use super::tables::rotary;
use crate::engine::stored::{Piece, allocated, stored, takes_online};
use crate::{Card, Error, Item, Version};

/// Bytes of one stage's rank, by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// By position in [`Item::ALL`]; the ten weights come first.
    pub items: [u64; 10],
    /// What of [`Item::WeightsExtra`] is rotary tables.
    pub tables: u64,
    /// What was moved to the CPU.
    pub offloaded: u64,
}

impl Weights {
    /// Returns the sum.
    pub fn total(&self) -> u64 {
        self.items.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn add(&mut self, item: Item, bytes: u64) {
        let at = Item::ALL.iter().position(|known| *known == item).unwrap_or(9).min(9);
        self.items[at] = self.items[at].saturating_add(bytes);
    }
}

/// The release since which towers need not lie on every stage.
const TOWERS_FIRST: Version = Version::new(0, 33, 0);

/// How the model is divided and stored.
pub(super) struct Division<'a> {
    model: &'a Model,
    options: &'a Options,
    resolved: &'a Resolved,
    /// Ranks over which an expert's matrices are divided.
    expert_tp: u64,
    /// Scheme applied while loading to a checkpoint that is not quantised.
    online: Option<Scheme>,
    /// Whether 4-bit weights are repacked for Marlin.
    marlin: bool,
    /// What runs gpt-oss's experts.
    kernels: Option<Kernels>,
}

impl<'a> Division<'a> {
    /// Settles what the launch says about weights.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a quantisation that cannot be applied while loading.
    pub(super) fn new(
        model: &'a Model,
        card: &Card,
        options: &'a Options,
        resolved: &'a Resolved,
    ) -> Result<Self, Error> {
        let ep = resolved.parallel.ep > 1;
        let expert_tp = if ep { 1 } else { u64::from(options.tp) * u64::from(options.dp) };
        let marlin = card.compute_capability.is_none_or(|capability| capability >= (8, 0));
        let kernels =
            (model.model_type == "gpt_oss").then(|| mxfp4::kernels(resolved.version, card, options.lora.is_some()));
        Ok(Division { model, options, resolved, expert_tp, online: online(model, options, resolved)?, marlin, kernels })
    }

    /// Sums the weights of a stage that holds the model's layers `range`.
    ///
    /// # Errors
    /// [`Error::Uneven`] where a dimension does not divide.
    pub(super) fn stage(&self, range: &Range<u32>) -> Result<Weights, Error> {
        let last = range.end as usize == self.model.layers.len();
        let first = range.start == 0;
        let mut weights = Weights::default();
        let mut inside = false;
        let mut moved = 0_u64;
        let mut parts = [(0_u64, 0_u64, 0_u64, Item::WeightsAttention); 4];
        for tensor in &self.model.tensors {
            inside |= tensor.part == Part::Text && !tensor.layers.is_empty();
            let there = match (tensor.part, tensor.layers.is_empty()) {
                (Part::Tower, _) => !self.options.language_model_only && (first || !self.towers_first()),
                (Part::Draft, _) => last && self.drafts(),
                (Part::Text, true) if tensor.role == Role::LmHead => last,
                (Part::Text, true) if tensor.role == Role::Embedding => first || (last && self.model.tied),
                (Part::Text, true) => {
                    if inside {
                        last
                    } else {
                        first
                    }
                }
                (Part::Text, false) => true,
            };
            if !there {
                continue;
            }
            let bytes = self.tensor(tensor, range)?;
            let bytes = if tensor.part == Part::Draft { bytes.saturating_mul(self.draft_copies()) } else { bytes };
            weights.add(Item::of(tensor), bytes);
            if let Some(at) = fused(tensor) {
                let each = if tensor.part == Part::Text { tensor.layers.len_in(range) } else { tensor.count };
                let one = bytes.checked_div(each).unwrap_or(0);
                let part = &mut parts[at];
                *part = (part.0 + one, part.1.max(each), part.2, Item::of(tensor));
                part.2 += self.exact(tensor)?;
            }
            if tensor.part == Part::Text && !tensor.layers.is_empty() {
                moved = moved.saturating_add(bytes);
            }
        }
        // The allocator's rounding is that of the fused matrix, not of its parts.
        for (counted, layers, exact, item) in parts {
            let at = Item::ALL.iter().position(|known| *known == item).unwrap_or(9).min(9);
            let (more, less) = (allocated(exact), counted);
            weights.items[at] = weights.items[at]
                .saturating_add(more.saturating_mul(layers))
                .saturating_sub(less.saturating_mul(layers));
        }
        weights.tables = rotary(self.model, self.resolved);
        weights.add(Item::WeightsExtra, weights.tables);
        // Copies are made where the projections lie: not on the GPU when all layers are offloaded.
        if moved == 0 || self.options.cpu_offload.get() < moved {
            weights.add(Item::WeightsExtra, self.absorbed(range));
        }
        weights.add(Item::WeightsExtra, self.adapters(range)?);
        self.offload(&mut weights, moved);
        Ok(weights)
    }

    /// Whether towers are loaded on the first stage alone.
    ///
    /// vLLM 0.33.0, `model_executor/models/interfaces.py`, `_mark_tower_model`: with model runner V2.
    fn towers_first(&self) -> bool {
        self.resolved.runner_v2 && self.resolved.version >= TOWERS_FIRST
    }

    /// Whether drafting layers of the checkpoint are loaded.
    fn drafts(&self) -> bool {
        self.options.speculative.as_ref().is_some_and(|draft| matches!(draft.method.as_str(), "mtp" | "dspark"))
    }

    /// How many of DeepSeek-V4's own drafter's layers stand for each drafting layer of the configuration.
    fn draft_copies(&self) -> u64 {
        let spark = self.options.speculative.as_ref().is_some_and(|draft| draft.method == "dspark");
        if !spark {
            return 1;
        }
        let known = u64::from(self.model.draft_layers.max(1));
        u64::from(DSPARK_LAYERS).div_ceil(known)
    }

    /// Bytes of one line of the inventory on the rank.
    fn tensor(&self, tensor: &Tensor, range: &Range<u32>) -> Result<u64, Error> {
        let share = self.share(tensor)?;
        let dtype = tensor.dtype.unwrap_or(self.resolved.dtype);
        let widened = share.experts && tensor.matrix.is_none() && matches!(self.kernels, Some(Kernels::Triton { .. }));
        let dtype = if widened { DType::F32 } else { dtype };
        let stacked = tensor.part == Part::Text && !tensor.layers.is_empty();
        let layers = if stacked { tensor.layers.len_in(range) } else { 1 };
        if layers == 0 {
            return Ok(0);
        }
        let each = if stacked { tensor.count / tensor.layers.len().max(1) } else { tensor.count };
        let ep = u64::from(self.resolved.parallel.ep);
        let each =
            if one_by_one(tensor) && ep > 1 { (each + self.options.redundant_experts).div_ceil(ep) } else { each };
        let plain = allocated(dtype.bytes_of(share.elements));
        let mut bytes = 0_u64;
        let mut left = layers;
        for (set, scheme) in &tensor.quantised {
            let here = if set.is_empty() || !stacked { layers } else { set.len_in(range) }.min(left);
            bytes = bytes.saturating_add(self.stored(&share, *scheme, dtype).saturating_mul(here));
            left -= here;
        }
        let rest = match self.online {
            Some(scheme) if tensor.quantised.is_empty() && takes_online(tensor) => self.stored(&share, scheme, dtype),
            Some(_) | None => plain,
        };
        Ok(bytes.saturating_add(rest.saturating_mul(left)).saturating_mul(each))
    }

    /// Bytes of one tensor of a line before the allocator rounds.
    fn exact(&self, tensor: &Tensor) -> Result<u64, Error> {
        let share = self.share(tensor)?;
        let dtype = tensor.dtype.unwrap_or(self.resolved.dtype);
        Ok(match (tensor.quantised.first(), self.online) {
            (Some((_, scheme)), _) => self.stored(&share, *scheme, dtype),
            (None, Some(scheme)) if takes_online(tensor) => self.stored(&share, scheme, dtype),
            (None, Some(_) | None) => dtype.bytes_of(share.elements),
        })
    }

    /// What the rank holds of one tensor.
    fn share(&self, tensor: &Tensor) -> Result<Share, Error> {
        let tp = u64::from(self.options.tp);
        let experts = tensor.role == Role::Experts;
        let mut shape = tensor.shape.clone();
        if one_by_one(tensor) && self.resolved.parallel.ep > 1 {
            // Whole experts; the line's count is divided instead.
        } else if experts && self.resolved.parallel.ep > 1 {
            if let Some(count) = shape.first_mut() {
                *count = (*count + self.options.redundant_experts).div_ceil(u64::from(self.resolved.parallel.ep));
            }
        } else {
            let ranks = if experts { self.expert_tp } else { tp };
            self.divide(tensor, &mut shape, ranks)?;
        }
        let elements = shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
        let (outputs, inputs, copies) = match tensor.matrix {
            None => (elements, 1, 1),
            Some(matrix) => {
                // The side that was divided; experts' first dimension counts copies.
                let dim = match tensor.split {
                    Split::Even { dim }
                    | Split::KvHeads { dim, .. }
                    | Split::Qkv { dim, .. }
                    | Split::Vocabulary { dim } => dim,
                    Split::Whole => 0,
                };
                let at = usize::from(dim);
                let (whole, part) =
                    (tensor.shape.get(at).copied().unwrap_or(1).max(1), shape.get(at).copied().unwrap_or(1));
                let by_inputs = if tensor.shape.len() == 2 {
                    at == 1
                } else {
                    whole == matrix.inputs && at + 1 == tensor.shape.len()
                };
                let scaled = |size: u64| (u128::from(size) * u128::from(part)).div_ceil(u128::from(whole)) as u64;
                let whole_matrices = tensor.split == Split::Whole || (at == 0 && tensor.shape.len() > 2);
                let (outputs, inputs) = if whole_matrices {
                    (matrix.outputs, matrix.inputs)
                } else if by_inputs {
                    (matrix.outputs, scaled(matrix.inputs))
                } else {
                    (scaled(matrix.outputs), matrix.inputs)
                };
                let one = outputs.saturating_mul(inputs).max(1);
                (outputs, inputs, elements.div_ceil(one).max(1))
            }
        };
        Ok(Share { elements, outputs, inputs, copies, experts, fused: tensor.name.contains("gate_up") })
    }

    /// Divides a shape over `ranks` as the tensor's split says.
    fn divide(&self, tensor: &Tensor, shape: &mut [u64], ranks: u64) -> Result<(), Error> {
        let uneven = |what: &'static str, count: u64| Error::Uneven { what, count, ranks, kind: "tensor-parallel" };
        let tower = tensor.part == Part::Tower;
        if tower && self.options.whole_towers {
            return Ok(());
        }
        let dim = match tensor.split {
            Split::Whole => return Ok(()),
            Split::Even { dim } | Split::KvHeads { dim, .. } | Split::Qkv { dim, .. } | Split::Vocabulary { dim } => {
                usize::from(dim)
            }
        };
        let Some(size) = shape.get_mut(dim) else { return Ok(()) };
        match tensor.split {
            Split::Whole => {}
            Split::Even { .. } => {
                if size.is_multiple_of(ranks) {
                    *size /= ranks;
                } else if tower || tensor.matrix.is_none() {
                    // A tower whose heads do not divide stays whole on every rank.
                } else if tensor.quantised.iter().any(|(_, scheme)| *scheme == Scheme::Mxfp4) {
                    *size = size.div_ceil(ranks);
                } else {
                    return Err(uneven("rows or columns of a matrix", *size));
                }
            }
            Split::KvHeads { heads, .. } => {
                let heads = u64::from(heads).max(1);
                *size = *size / heads * (heads / ranks).max(1);
            }
            Split::Qkv { heads, kv_heads, .. } => {
                let (heads, kv_heads) = (u64::from(heads), u64::from(kv_heads).max(1));
                let width = *size / (heads + 2 * kv_heads).max(1);
                if !heads.is_multiple_of(ranks) && !tower {
                    return Err(uneven("attention heads", heads));
                }
                if heads.is_multiple_of(ranks) {
                    *size = width * (heads / ranks + 2 * (kv_heads / ranks).max(1));
                }
            }
            Split::Vocabulary { .. } => {
                let padded = size.next_multiple_of(64);
                if !padded.is_multiple_of(ranks) {
                    return Err(uneven("padded vocabulary rows", padded));
                }
                *size = padded / ranks;
            }
        }
        Ok(())
    }

    /// Bytes that a scheme keeps on the GPU after loading.
    ///
    /// vLLM 0.33.0, `model_executor/layers/quantization/*` and their `process_weights_after_loading`.
    fn stored(&self, share: &Share, scheme: Scheme, dtype: DType) -> u64 {
        if let (Scheme::Mxfp4, true, Some(kernels)) = (scheme, share.experts, self.kernels) {
            let Share { outputs, inputs, copies, fused, .. } = *share;
            let kept = mxfp4::tensors(kernels, mxfp4::Experts { fused, outputs, inputs, copies });
            return kept.into_iter().fold(0, |sum, bytes| sum.saturating_add(allocated(bytes)));
        }
        let piece = Piece { outputs: share.outputs, inputs: share.inputs, copies: share.copies };
        allocated(stored(piece, scheme, dtype.bytes_of(1), self.marlin))
    }

    /// Copies of latent attention's up-projections in 16 bit, made when the projection itself is quantised.
    ///
    /// vLLM 0.33.0, `model_executor/layers/attention/mla_attention.py`, `process_weights_after_loading`.
    fn absorbed(&self, range: &Range<u32>) -> u64 {
        let tp = u64::from(self.options.tp).max(1);
        let mut bytes = 0_u64;
        for tensor in &self.model.tensors {
            if tensor.part != Part::Text || !tensor.name.ends_with("kv_b_proj.weight") {
                continue;
            }
            let quantised = self.online.is_some() || !tensor.quantised.is_empty();
            if self.resolved.version < Version::new(0, 7, 1) {
                continue;
            }
            if quantised {
                bytes = bytes.saturating_add(
                    (tensor.elements() / tp).saturating_mul(2).saturating_mul(tensor.layers.len_in(range)),
                );
            }
        }
        bytes.saturating_add(self.multiplied(range)).saturating_add(self.repeated_keys(range))
    }

    /// Value projections that Gemma-4 fills with a copy of the keys where the checkpoint has none (`attention_k_eq_v`).
    ///
    /// vLLM 0.26.0, `model_executor/models/gemma4.py`.
    fn repeated_keys(&self, range: &Range<u32>) -> u64 {
        if !self.model.model_type.starts_with("gemma4") {
            return 0;
        }
        let lines = |name: &'static str| {
            self.model.tensors.iter().filter(move |t| t.part == Part::Text && t.name.ends_with(name))
        };
        let values: Vec<u32> = lines(".self_attn.v_proj.weight").flat_map(|tensor| tensor.layers.iter()).collect();
        let mut bytes = 0_u64;
        for keys in lines(".self_attn.k_proj.weight") {
            let missing = keys.layers.iter().filter(|layer| range.contains(layer) && !values.contains(layer)).count();
            let one = self.exact(keys).unwrap_or(0);
            bytes = bytes.saturating_add(one.saturating_mul(missing as u64));
        }
        bytes
    }

    /// Products of projections that latent attention kept for decoding beside the projections: queries × keys and
    /// values × output, as wide as the weights they come from, and the queries' rotary part in 16 bit.
    ///
    /// vLLM 0.7.2 and 0.7.3, `attention/backends/mla/{utils,common}.py`, `process_weights_after_loading`.
    fn multiplied(&self, range: &Range<u32>) -> u64 {
        if self.resolved.version < Version::new(0, 7, 1) || self.resolved.version >= Version::new(0, 8, 0) {
            return 0;
        }
        let latent = self.model.layers.iter().find_map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => match attention.kind {
                AttentionKind::Latent { heads, rank, rope_dim, .. } => Some([heads, rank, rope_dim].map(u64::from)),
                AttentionKind::Grouped { .. } => None,
            },
            Mixer::Recurrent(_) | Mixer::None => None,
        });
        let Some([heads, rank, rope]) = latent else { return 0 };
        let heads = heads / u64::from(self.options.tp).max(1);
        let half = self.resolved.dtype.bytes_of(1);
        let mut bytes = 0_u64;
        for tensor in self.model.tensors.iter().filter(|tensor| tensor.part == Part::Text) {
            let ends = |name: &str| tensor.name.ends_with(name);
            let eight = self.online.is_some() || !tensor.quantised.is_empty();
            let element = if eight { 1 } else { half };
            let Some(matrix) = tensor.matrix else { continue };
            let one = if ends(".self_attn.q_b_proj.weight") || ends(".self_attn.q_proj.weight") {
                heads * matrix.inputs * (rank * element + rope * half)
            } else if ends(".self_attn.o_proj.weight") {
                heads * rank * matrix.outputs * element
            } else {
                continue;
            };
            bytes = bytes.saturating_add(one.saturating_mul(tensor.layers.len_in(range)));
        }
        bytes
    }

    /// Slots for adapters: `max_loras × rank × (inputs + outputs on the rank) × b` per matrix.
    fn adapters(&self, range: &Range<u32>) -> Result<u64, Error> {
        let Some(lora) = self.options.lora else { return Ok(0) };
        let mut bytes = 0_u64;
        for tensor in &self.model.tensors {
            let target =
                matches!(tensor.role, Role::Attention | Role::Mlp | Role::SharedExpert) && tensor.part == Part::Text;
            if tensor.matrix.is_none() || !target {
                continue;
            }
            let share = self.share(tensor)?;
            let slot =
                lora.max_loras.saturating_mul(lora.rank).saturating_mul(share.inputs.saturating_add(share.outputs));
            let layers = tensor.layers.len_in(range);
            bytes = bytes.saturating_add(self.resolved.dtype.bytes_of(slot).saturating_mul(layers));
        }
        Ok(bytes)
    }

    /// Moves layers' weights to the CPU up to `cpu_offload_gb`.
    fn offload(&self, weights: &mut Weights, movable: u64) {
        let budget = self.options.cpu_offload.get().min(movable);
        let mut left = budget;
        for bytes in weights.items[1..5].iter_mut().rev() {
            let taken = left.min(*bytes);
            *bytes -= taken;
            left -= taken;
        }
        weights.offloaded = budget - left;
    }
}

/// What a rank holds of one tensor.
#[derive(Clone, Copy)]
struct Share {
    elements: u64,
    outputs: u64,
    inputs: u64,
    copies: u64,
    experts: bool,
    /// Whether gate and up lie in one matrix.
    fused: bool,
}

/// Whether every expert's matrix is a tensor of its own.
fn one_by_one(tensor: &Tensor) -> bool {
    let single = tensor.matrix.is_some_and(|matrix| matrix.copies == 1);
    tensor.role == Role::Experts && single && tensor.count > tensor.layers.len()
}

/// Matrices that vLLM loads into one: which of the fused ones a line belongs to.
fn fused(tensor: &Tensor) -> Option<usize> {
    let name = tensor.name.as_str();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    tensor.matrix?;
    let tower = if tensor.part == Part::Tower { 2 } else { 0 };
    if ends(&[".q_proj.weight", ".k_proj.weight", ".v_proj.weight"]) {
        Some(tower)
    } else if tensor.role != Role::Experts && ends(&[".gate_proj.weight", ".up_proj.weight"]) {
        Some(tower + 1)
    } else {
        None
    }
}

/// The scheme that `--quantization` applies to a checkpoint that is not quantised.
fn online(model: &Model, options: &Options, resolved: &Resolved) -> Result<Option<Scheme>, Error> {
    let Some(name) = options.quantization.as_deref() else { return Ok(None) };
    if model.quant.is_some() {
        return Ok(None);
    }
    match name {
        "fp8" => Ok(Some(Scheme::Fp8 { scale: Scale::Tensor, input_scale: false })),
        "fp8_per_channel" | "ptpc_fp8" => Ok(Some(Scheme::Fp8 { scale: Scale::Channel, input_scale: false })),
        "bitsandbytes" => Ok(Some(Scheme::Bnb4 { block: 64, double_quant: false })),
        "mxfp4" | "online_mxfp4" => Ok(Some(Scheme::Mxfp4)),
        other => Err(Error::Unsupported {
            engine: "vllm",
            version: resolved.version.to_string(),
            why: format!(
                "--quantization {other} needs a checkpoint in that format and {} is not quantised; fp8 and bitsandbytes are applied while loading",
                model.id
            ),
        }),
    }
}
