//! What does the model take on a device? Every tensor in the dtype in which it is loaded, module by module, in the order
//! in which modules are placed.

use std::collections::BTreeMap;

use plimsoll_facts::model::Model;
use plimsoll_facts::quant::Scheme;
use plimsoll_facts::tensor::{DType, Part, Role, Tensor};

use super::options::Bits;
use crate::{Card, Item};

/// How the weights are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Loading {
    /// What is not quantised.
    pub dtype: DType,
    /// What bitsandbytes does on the way.
    pub bits: Option<Bits>,
    /// Whether 8-bit floats stay (compute capability 8.9) or become `dtype`.
    pub keeps_fp8: bool,
    /// Whether MXFP4 stays (compute capability 7.5 and the kernels) or becomes `dtype`.
    pub keeps_mxfp4: bool,
}

impl Loading {
    /// Returns how a release loads onto a card.
    ///
    /// Source: transformers 5.23.0, `quantizers/quantizer_finegrained_fp8.py` and `quantizer_mxfp4.py`,
    /// `validate_environment`: a card too old for the kernels gets the weights dequantised.
    pub fn new(dtype: DType, bits: Option<Bits>, card: &Card) -> Loading {
        let at_least = |least: (u8, u8)| card.compute_capability.is_none_or(|capability| capability >= least);
        Loading { dtype, bits, keeps_fp8: at_least((8, 9)), keeps_mxfp4: at_least((7, 5)) }
    }
}

/// Bytes by kind.
pub type Kinds = BTreeMap<Item, u64>;

/// What can be placed by itself: one decoder layer, or what stands before or behind the layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Its weights by kind.
    pub kinds: Kinds,
    /// The decoder layer, if it is one.
    pub layer: Option<u32>,
}

impl Module {
    /// Returns its bytes.
    pub fn bytes(&self) -> u64 {
        self.kinds.values().copied().fold(0, u64::saturating_add)
    }
}

/// The modules in the order in which they are placed: towers, the embedding, the layers, the last norm with what else
/// stands outside, the output projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// Towers and projectors.
    pub tower: Module,
    /// Token embedding.
    pub embedding: Module,
    /// Decoder layers.
    pub layers: Vec<Module>,
    /// The last norm, positions, whatever else.
    pub rest: Module,
    /// The output projection; empty when tied.
    pub head: Module,
}

impl Modules {
    /// Adds a model up.
    pub fn of(model: &Model, loading: &Loading) -> Modules {
        let layer = |at: usize| Module { layer: Some(at as u32), ..Module::default() };
        let mut modules = Modules {
            tower: Module::default(),
            embedding: Module::default(),
            layers: (0..model.layers.len()).map(layer).collect(),
            rest: Module::default(),
            head: Module::default(),
        };
        for tensor in &model.tensors {
            if tensor.part == Part::Draft {
                // Extra layers for drafting are left in the checkpoint.
                continue;
            }
            modules.add(model, tensor, loading);
        }
        modules
    }

    fn add(&mut self, model: &Model, tensor: &Tensor, loading: &Loading) {
        let kind = item(tensor);
        if tensor.part == Part::Text && !tensor.layers.is_empty() {
            let per_layer = tensor.count / tensor.layers.len().max(1);
            for at in tensor.layers.iter() {
                let scheme =
                    tensor.quantised.iter().find(|(layers, _)| layers.is_empty() || layers.iter().any(|l| l == at));
                let bytes = one(model, tensor, scheme.map(|(_, scheme)| scheme), loading).saturating_mul(per_layer);
                if let Some(module) = self.layers.get_mut(at as usize) {
                    add(&mut module.kinds, kind, bytes);
                }
            }
            return;
        }
        let scheme = tensor.quantised.first().map(|(_, scheme)| scheme);
        let bytes = one(model, tensor, scheme, loading).saturating_mul(tensor.count);
        let module = match (tensor.part, tensor.role) {
            (Part::Tower, _) => &mut self.tower,
            (_, Role::Embedding) => &mut self.embedding,
            (_, Role::LmHead) => &mut self.head,
            _ => &mut self.rest,
        };
        add(&mut module.kinds, kind, bytes);
    }

    /// Iterates in the order of placement; modules without weights are left out.
    pub fn in_order(&self) -> impl Iterator<Item = &Module> {
        let ends = [&self.rest, &self.head];
        [&self.tower, &self.embedding].into_iter().chain(&self.layers).chain(ends).filter(|module| module.bytes() > 0)
    }

    /// Returns the bytes of everything.
    pub fn total(&self) -> u64 {
        self.in_order().map(Module::bytes).fold(0, u64::saturating_add)
    }
}

fn add(kinds: &mut Kinds, kind: Item, bytes: u64) {
    let sum = kinds.entry(kind).or_default();
    *sum = sum.saturating_add(bytes);
}

/// Bytes of one tensor of a line.
fn one(model: &Model, tensor: &Tensor, scheme: Option<&Scheme>, loading: &Loading) -> u64 {
    let stays = match scheme {
        Some(Scheme::Fp8 { .. }) => loading.keeps_fp8,
        Some(Scheme::Mxfp4) => loading.keeps_mxfp4,
        Some(_) => true,
        None => false,
    };
    let matrix = tensor.matrix.filter(|_| stays || loading.bits.is_some());
    match (scheme, matrix, loading.bits) {
        (Some(scheme), Some(matrix), _) if stays => stored(model, scheme, matrix.copies, matrix.outputs, matrix.inputs),
        // bitsandbytes replaces `nn.Linear`: neither the fused experts, which are bare parameters, nor the output
        // projection (`get_modules_to_not_convert`).
        (None, Some(matrix), Some(bits)) if takes(tensor) => {
            let scheme = match bits {
                Bits::Four { double } => Scheme::Bnb4 { block: 64, double_quant: double },
                Bits::Eight => Scheme::BnbInt8,
            };
            stored(model, &scheme, matrix.copies, matrix.outputs, matrix.inputs)
        }
        _ => {
            let kept = model.stored_dtype(tensor);
            let dtype = if kept == model.dtype || scheme.is_some() { loading.dtype } else { kept };
            dtype.bytes_of(tensor.elements())
        }
    }
}

fn takes(tensor: &Tensor) -> bool {
    !matches!(tensor.role, Role::LmHead | Role::Embedding | Role::Experts | Role::Positions)
}

fn stored(model: &Model, scheme: &Scheme, copies: u64, outputs: u64, inputs: u64) -> u64 {
    let each = model.stored(scheme, outputs, inputs).iter().map(plimsoll_facts::quant::Stored::bytes).sum::<u64>();
    each.saturating_mul(copies)
}

/// The ledger's line of a tensor.
pub fn item(tensor: &Tensor) -> Item {
    match (tensor.part, tensor.role) {
        (Part::Tower, _) => Item::WeightsTower,
        (Part::Draft, _) => Item::WeightsDraft,
        (Part::Text, Role::Embedding | Role::Positions) => Item::WeightsEmbedding,
        (Part::Text, Role::LmHead) => Item::WeightsLmHead,
        (Part::Text, Role::Attention) => Item::WeightsAttention,
        (Part::Text, Role::Recurrent | Role::RecurrentState) => Item::WeightsRecurrent,
        (Part::Text, Role::Mlp | Role::SharedExpert) => Item::WeightsMlp,
        (Part::Text, Role::Experts | Role::Router) => Item::WeightsExperts,
        (Part::Text, Role::Norm | Role::Tower | Role::Other) => Item::WeightsNorm,
    }
}
