//! What do the weights take on one rank? Every line of the inventory, divided and stored as SGLang holds it: what the free
//! memory falls by while it loads.

use std::ops::Range;

use plimsoll_facts::model::{AttentionKind, Mixer, Model};
use plimsoll_facts::quant::{Scale, Scheme};
use plimsoll_facts::tensor::{Part, Role, Split, Tensor};

use super::NAME;
use super::defaults::{Resolved, draft_is_counted};
use super::options::Options;
use crate::engine::stored::{Piece, allocated, stored, takes_online};
use crate::{Error, Item};

/// Bytes of one stage's rank, by item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// By position in [`Item::ALL`]; the ten weights come first.
    pub items: [u64; 10],
    /// What was moved to the CPU.
    pub offloaded: u64,
    /// What of the drafter's weights comes out of what the fraction leaves (before 0.5.14).
    pub draft_outside: u64,
}

impl Weights {
    fn add(&mut self, item: Item, bytes: u64) {
        let at = Item::ALL.iter().position(|known| *known == item).unwrap_or(9).min(9);
        self.items[at] = self.items[at].saturating_add(bytes);
    }
}

/// How the model is divided and stored.
pub struct Division<'a> {
    model: &'a Model,
    options: &'a Options,
    resolved: &'a Resolved,
    online: Option<Scheme>,
    marlin: bool,
}

impl<'a> Division<'a> {
    /// Settles what the launch says about weights.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a quantisation that cannot be applied while loading.
    pub fn new(model: &'a Model, options: &'a Options, resolved: &'a Resolved) -> Result<Self, Error> {
        let marlin = resolved.chip.capability.is_none_or(|capability| capability >= (8, 0)) && !resolved.chip.rocm;
        Ok(Division { model, options, resolved, online: online(model, options, resolved)?, marlin })
    }

    /// Sums the weights of a stage that holds the model's layers `range`.
    ///
    /// # Errors
    /// [`Error::Uneven`] where a dimension does not divide.
    pub fn stage(&self, range: &Range<u32>) -> Result<Weights, Error> {
        let last = range.end as usize == self.model.layers.len();
        let first = range.start == 0;
        let mut weights = Weights::default();
        let (mut inside, mut movable) = (false, 0_u64);
        for tensor in &self.model.tensors {
            inside |= tensor.part == Part::Text && !tensor.layers.is_empty();
            let there = match (tensor.part, tensor.layers.is_empty(), tensor.role) {
                (Part::Tower, ..) => !self.options.language_only,
                (Part::Draft, ..) => last && self.drafts(),
                (Part::Text, true, Role::LmHead) => last,
                (Part::Text, true, Role::Embedding) => first || (last && self.model.tied),
                (Part::Text, true, _) => {
                    if inside {
                        last
                    } else {
                        first
                    }
                }
                (Part::Text, false, _) => true,
            };
            if !there {
                continue;
            }
            let bytes = self.tensor(tensor, range)?;
            if tensor.part == Part::Draft && !draft_is_counted(self.resolved) {
                weights.draft_outside = weights.draft_outside.saturating_add(bytes);
                continue;
            }
            weights.add(Item::of(tensor), bytes);
            if tensor.part == Part::Text && !tensor.layers.is_empty() {
                movable = movable.saturating_add(bytes);
            }
        }
        weights.add(Item::WeightsExtra, self.absorbed(range));
        weights.add(Item::WeightsExtra, self.adapters(range)?);
        let mut left = self.options.cpu_offload.get().min(movable);
        weights.offloaded = left;
        for bytes in weights.items[1..5].iter_mut().rev() {
            let taken = left.min(*bytes);
            *bytes -= taken;
            left -= taken;
        }
        Ok(weights)
    }

    /// Whether drafting layers of the checkpoint are loaded.
    fn drafts(&self) -> bool {
        self.resolved.draft.as_ref().is_some_and(|draft| draft.keeps_cache() && !draft.own_model)
    }

    /// Ranks over which a tensor is divided.
    ///
    /// SGLang 0.5.23: attention over `attn_tp`, embeddings over the attention group, the head over all ranks unless
    /// `enable_dp_lm_head`, dense blocks over `moe_dense_tp_size` or all (`srt/layers/dp_attention.py`,
    /// `srt/models/deepseek_v2.py`); experts over all ranks ÷ `ep_size` (`srt/layers/moe/fused_moe_triton/layer.py`).
    fn ways(&self, tensor: &Tensor) -> u64 {
        let (all, attention) = (u64::from(self.options.tp), u64::from(self.options.attention_tp()).max(1));
        let deepep =
            self.options.a2a.as_deref().is_some_and(|name| matches!(name, "deepep" | "mooncake" | "flashinfer"));
        match tensor.role {
            Role::Attention | Role::Recurrent | Role::RecurrentState | Role::Embedding | Role::Norm => attention,
            Role::LmHead if self.options.dp_lm_head => attention,
            Role::Mlp => self.options.moe_dense_tp.map_or(all, u64::from),
            Role::SharedExpert if deepep => 1,
            Role::Experts => (all / u64::from(self.options.ep).max(1)).max(1),
            Role::LmHead | Role::SharedExpert | Role::Positions | Role::Router | Role::Other => all,
            Role::Tower if self.whole_towers() => 1,
            Role::Tower => attention,
        }
    }

    /// Whether every rank holds whole towers.
    fn whole_towers(&self) -> bool {
        self.options.given.get("mm_enable_dp_encoder").and_then(crate::engine::read::truth).unwrap_or(false)
    }

    /// Bytes of one line of the inventory on the rank.
    fn tensor(&self, tensor: &Tensor, range: &Range<u32>) -> Result<u64, Error> {
        let dtype = tensor.dtype.unwrap_or(self.resolved.dtype);
        let stacked = tensor.part == Part::Text && !tensor.layers.is_empty();
        let layers = if stacked { tensor.layers.len_in(range) } else { 1 };
        if layers == 0 {
            return Ok(0);
        }
        let (piece, elements) = self.share(tensor)?;
        let mut each = if stacked { tensor.count / tensor.layers.len().max(1) } else { tensor.count };
        let ep = u64::from(self.options.ep);
        if one_by_one(tensor) && ep > 1 {
            each = (each + self.options.redundant_experts).div_ceil(ep);
        }
        let half = dtype.bytes_of(1);
        let packed = |scheme: Scheme| allocated(stored(piece, scheme, half, self.marlin));
        let (mut bytes, mut left) = (0_u64, layers);
        for (set, scheme) in &tensor.quantised {
            let here = if set.is_empty() || !stacked { layers } else { set.len_in(range) }.min(left);
            bytes = bytes.saturating_add(packed(*scheme).saturating_mul(here));
            left -= here;
        }
        let rest = match self.online {
            Some(scheme) if tensor.quantised.is_empty() && takes_online(tensor) => packed(scheme),
            Some(_) | None => allocated(dtype.bytes_of(elements)),
        };
        Ok(bytes.saturating_add(rest.saturating_mul(left)).saturating_mul(each))
    }

    /// What the rank holds of one tensor: as matrices, and in numbers.
    fn share(&self, tensor: &Tensor) -> Result<(Piece, u64), Error> {
        let mut shape = tensor.shape.clone();
        let ep = u64::from(self.options.ep);
        let experts = tensor.role == Role::Experts;
        if experts
            && ep > 1
            && !one_by_one(tensor)
            && let Some(count) = shape.first_mut()
        {
            *count = (*count + self.options.redundant_experts).div_ceil(ep);
        }
        divide(tensor, &mut shape, self.ways(tensor))?;
        let elements = shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
        let Some(matrix) = tensor.matrix else {
            return Ok((Piece { outputs: elements, inputs: 1, copies: 1 }, elements));
        };
        let at = match tensor.split {
            Split::Even { dim } | Split::KvHeads { dim, .. } | Split::Qkv { dim, .. } | Split::Vocabulary { dim } => {
                usize::from(dim)
            }
            Split::Whole => 0,
        };
        let (whole, part) = (tensor.shape.get(at).copied().unwrap_or(1).max(1), shape.get(at).copied().unwrap_or(1));
        let by_inputs =
            if tensor.shape.len() == 2 { at == 1 } else { whole == matrix.inputs && at + 1 == tensor.shape.len() };
        let scaled = |size: u64| (u128::from(size) * u128::from(part)).div_ceil(u128::from(whole)) as u64;
        let uncut = tensor.split == Split::Whole || (at == 0 && tensor.shape.len() > 2);
        let (outputs, inputs) = match (uncut, by_inputs) {
            (true, _) => (matrix.outputs, matrix.inputs),
            (false, true) => (matrix.outputs, scaled(matrix.inputs)),
            (false, false) => (scaled(matrix.outputs), matrix.inputs),
        };
        let one = outputs.saturating_mul(inputs).max(1);
        Ok((Piece { outputs, inputs, copies: elements.div_ceil(one).max(1) }, elements))
    }

    /// Copies of latent attention's up-projections in 16 bit, which stand beside the projection for absorbed attention.
    ///
    /// SGLang 0.5.9, `srt/models/deepseek_common/deepseek_weight_loader.py`, `post_load_weights` (`w_kc`, `w_vc`).
    fn absorbed(&self, range: &Range<u32>) -> u64 {
        let tp = u64::from(self.options.attention_tp()).max(1);
        let latent = self.model.layers.iter().any(|layer| {
            matches!(&layer.mixer, Mixer::Attention(attention) if matches!(attention.kind, AttentionKind::Latent { .. }))
        });
        if !latent {
            return 0;
        }
        let lines = self.model.tensors.iter().filter(|tensor| tensor.name.ends_with("kv_b_proj.weight"));
        let text = lines.filter(|tensor| tensor.part == Part::Text);
        text.fold(0_u64, |sum, tensor| {
            sum.saturating_add((tensor.elements() / tp).saturating_mul(2).saturating_mul(tensor.layers.len_in(range)))
        })
    }

    /// Slots for adapters: `max_loras_per_batch × rank × (inputs + outputs on the rank) × b` per matrix; allocated before the
    /// pools are sized.
    fn adapters(&self, range: &Range<u32>) -> Result<u64, Error> {
        let Some((slots, rank)) = self.options.lora else { return Ok(0) };
        let mut bytes = 0_u64;
        for tensor in &self.model.tensors {
            let target = matches!(tensor.role, Role::Attention | Role::Mlp | Role::SharedExpert);
            if tensor.matrix.is_none() || !target || tensor.part != Part::Text {
                continue;
            }
            let (piece, _) = self.share(tensor)?;
            let slot = slots.saturating_mul(rank).saturating_mul(piece.inputs.saturating_add(piece.outputs));
            let layers = tensor.layers.len_in(range);
            bytes = bytes.saturating_add(self.resolved.dtype.bytes_of(slot).saturating_mul(layers));
        }
        Ok(bytes)
    }
}

/// Divides a shape over `ranks` as the tensor's split says; the vocabulary is padded to 64 rows first.
///
/// SGLang 0.5.23, `srt/layers/vocab_parallel_embedding.py` and `srt/layers/linear.py`.
fn divide(tensor: &Tensor, shape: &mut [u64], ranks: u64) -> Result<(), Error> {
    let uneven = |what: &'static str, count: u64| Error::Uneven { what, count, ranks, kind: "tensor-parallel" };
    let tower = tensor.part == Part::Tower;
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
            let mxfp4 = tensor.quantised.iter().any(|(_, scheme)| *scheme == Scheme::Mxfp4);
            if size.is_multiple_of(ranks) {
                *size /= ranks;
            } else if mxfp4 {
                *size = size.div_ceil(ranks);
            } else if !tower && tensor.matrix.is_some() {
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
            if heads.is_multiple_of(ranks) {
                *size = width * (heads / ranks + 2 * (kv_heads / ranks).max(1));
            } else if !tower {
                return Err(uneven("attention heads", heads));
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

/// Whether every expert's matrix is a tensor of its own.
fn one_by_one(tensor: &Tensor) -> bool {
    let single = tensor.matrix.is_some_and(|matrix| matrix.copies == 1);
    tensor.role == Role::Experts && single && tensor.count > tensor.layers.len()
}

/// The scheme that `--quantization` applies to a checkpoint that is not quantised.
fn online(model: &Model, options: &Options, resolved: &Resolved) -> Result<Option<Scheme>, Error> {
    let Some(name) = options.quantization.as_deref().filter(|_| model.quant.is_none()) else { return Ok(None) };
    match name {
        "fp8" | "w8a8_fp8" => Ok(Some(Scheme::Fp8 { scale: Scale::Channel, input_scale: false })),
        "w8a8_int8" | "int8wo" => Ok(Some(Scheme::Int8 { scale: Scale::Channel, input_scale: false })),
        "bitsandbytes" => Ok(Some(Scheme::Bnb4 { block: 64, double_quant: false })),
        "mxfp4" => Ok(Some(Scheme::Mxfp4)),
        "unquant" => Ok(None),
        other => Err(Error::Unsupported {
            engine: NAME,
            version: resolved.version.to_string(),
            why: format!(
                "--quantization {other} needs a checkpoint in that format and {} is not quantised; fp8, w8a8_int8 and \
                 bitsandbytes are applied while loading",
                model.id
            ),
        }),
    }
}
