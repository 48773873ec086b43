//! In what format is a matrix multiplied, and how many bytes of it are read?

use plimsoll_facts::model::Model;
use plimsoll_facts::quant::{Scale, Scheme};
use plimsoll_facts::tensor::{DType, Part, Role, Tensor};
use plimsoll_plan::engine::stored::{Piece, stored, takes_online};
use plimsoll_plan::{Item, Ledger, Plan};

use super::Division;
use crate::Format;

/// Returns the format in which products of a matrix run on a card of `capability`.
///
/// Weight-only formats are expanded to 16 bits. A card without 8-bit floats (before compute capability 8.9) or without 4-bit
/// ones (before 10.0) runs such matrices as weight-only: vLLM 0.19.0
/// `model_executor/layers/quantization/utils/marlin_utils_fp8.py`, `marlin_utils_fp4.py`.
pub(super) fn format(scheme: &Scheme, capability: Option<(u8, u8)>) -> Format {
    let before = |least: (u8, u8)| capability.is_some_and(|found| found < least);
    match scheme {
        Scheme::Fp8 { .. } if before((8, 9)) => Format::Weight(800),
        Scheme::Fp8 { scale: Scale::Block { rows: 2.., .. }, .. } => Format::Fp8Block,
        Scheme::Fp8 { .. } => Format::Fp8,
        Scheme::Int8 { .. } | Scheme::BnbInt8 => Format::Int8,
        Scheme::Gptq { bits: 4, .. } | Scheme::Awq { bits: 4, .. } | Scheme::Packed { bits: 4, .. } => {
            Format::Int4Weight
        }
        Scheme::Gptq { bits: 8, .. } | Scheme::Awq { bits: 8, .. } | Scheme::Packed { bits: 8, .. } => {
            Format::Int8Weight
        }
        Scheme::Gptq { bits, .. } | Scheme::Awq { bits, .. } | Scheme::Packed { bits, .. } => {
            Format::Weight(bits.saturating_mul(100))
        }
        Scheme::Bnb4 { .. } => Format::Weight(450),
        Scheme::Nvfp4 { .. } if before((10, 0)) => Format::Weight(450),
        Scheme::Nvfp4 { .. } => Format::Nvfp4,
        Scheme::Mxfp4 if before((10, 0)) || capability.is_none() => Format::Mxfp4Weight,
        Scheme::Mxfp4 => Format::Mxfp4,
        Scheme::Ggml(kind) => {
            let hundredths = kind.block_bytes().saturating_mul(800) / kind.block().max(1);
            Format::Weight(u32::try_from(hundredths).unwrap_or(u32::MAX))
        }
    }
}

/// Returns the bytes of a number of the activations that such a product reads.
pub(super) fn input_bytes(format: Format) -> f64 {
    match format {
        Format::Fp8 | Format::Fp8Block | Format::Int8 | Format::Mxfp4 => 1.0,
        Format::Nvfp4 => 0.5625,
        Format::Bf16 | Format::Int8Weight | Format::Int4Weight | Format::Mxfp4Weight | Format::Weight(_) => 2.0,
    }
}

/// How the launch stores matrices.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// What is applied while loading.
    online: Option<Scheme>,
    /// Bits of a number in a file that is made of the checkpoint (llama.cpp, Ollama), the mean over its types.
    file: Option<f64>,
    /// Bytes of a number that is not quantised.
    pub(super) half: u64,
    capability: Option<(u8, u8)>,
}

impl Storage {
    pub(super) fn of(model: &Model, plan: &Plan, division: &Division, capability: Option<(u8, u8)>) -> Storage {
        // Serving engines load fp32 checkpoints in 16 bits; transformers takes the checkpoint's word.
        let half = if plan.engine == "transformers" { (model.dtype.bits() / 8).clamp(1, 8) } else { 2 };
        let file = file(model, plan);
        let online = if file.is_some() { None } else { online(model, plan, division) };
        Storage { online, file, half, capability }
    }

    /// Returns the mean bits of a file's numbers, where nobody said how each matrix is stored.
    pub(super) fn file(&self) -> Option<f64> {
        self.file
    }

    /// Whether weights are quantised while loading, and how.
    pub(super) fn online(&self) -> Option<&Scheme> {
        self.online.as_ref()
    }

    /// Returns how a tensor is stored in a layer (or outside the stack).
    pub(super) fn scheme(&self, tensor: &Tensor, layer: Option<u32>) -> Option<Scheme> {
        let in_layer = |set: &plimsoll_facts::tensor::Layers| {
            set.is_empty() || layer.is_some_and(|layer| set.len_in(&(layer..layer.saturating_add(1))) > 0)
        };
        let stored = tensor.quantised.iter().find(|(layers, _)| in_layer(layers)).map(|(_, scheme)| *scheme);
        stored.or(self.online.filter(|_| tensor.quantised.is_empty() && takes_online(tensor)))
    }

    /// Returns the format and the bytes of a rank's piece of a tensor.
    pub(super) fn held(&self, tensor: &Tensor, layer: Option<u32>, piece: Piece) -> (Format, f64) {
        match self.scheme(tensor, layer) {
            Some(scheme) => (format(&scheme, self.capability), stored(piece, scheme, self.half.min(2), true) as f64),
            None if self.file.is_some() && (takes_online(tensor) || tensor.role == Role::LmHead) => {
                let bits = self.file.unwrap_or(16.0);
                let numbers = piece.outputs as f64 * piece.inputs as f64 * piece.copies as f64;
                let format = if bits > 15.0 { Format::Bf16 } else { Format::Weight((bits * 100.0).round() as u32) };
                (format, numbers * bits / 8.0)
            }
            None => {
                let numbers = piece.outputs.saturating_mul(piece.inputs).saturating_mul(piece.copies);
                let bytes = match tensor.dtype {
                    Some(dtype) if dtype != DType::BF16 && dtype != DType::F16 => dtype.bytes_of(numbers),
                    Some(_) | None => numbers.saturating_mul(self.half),
                };
                (Format::Bf16, bytes as f64)
            }
        }
    }
}

/// What matrices of a checkpoint that is not quantised are held in: engines that quantise while loading hold them in fewer
/// bits than the checkpoint, which the plan's ledger shows.
fn online(model: &Model, plan: &Plan, division: &Division) -> Option<Scheme> {
    if model.quant.is_some() || model.tensors.iter().any(|tensor| !tensor.quantised.is_empty()) {
        return None;
    }
    let told = |ledger: &Ledger| (ledger.bytes(Item::WeightsAttention) + ledger.bytes(Item::WeightsMlp)).as_f64();
    let held = plan.ranks.iter().map(|rank| told(&rank.ledger)).fold(0.0, f64::max);
    let plain: f64 = model
        .tensors
        .iter()
        .filter(|tensor| {
            tensor.part == Part::Text && matches!(tensor.role, Role::Attention | Role::Mlp | Role::SharedExpert)
        })
        .map(|tensor| tensor.total_elements() as f64 / division.ways(tensor.role) as f64)
        .sum();
    if plain <= 0.0 || held <= 0.0 {
        return None;
    }
    match held * 8.0 / (plain * division.part) {
        bits if bits > 3.5 && bits <= 6.5 => Some(Scheme::Bnb4 { block: 64, double_quant: false }),
        bits if bits > 6.5 && bits < 11.0 => Some(Scheme::Fp8 { scale: Scale::Channel, input_scale: false }),
        _ => None,
    }
}

/// The mean bits of a number of the matrices in a file, from all devices' ledgers: a file of mixed types that is not at hand.
fn file(model: &Model, plan: &Plan) -> Option<f64> {
    let made = matches!(plan.engine, "llama.cpp" | "ollama");
    if !made || model.tensors.iter().any(|tensor| !tensor.quantised.is_empty()) {
        return None;
    }
    let items = [Item::WeightsAttention, Item::WeightsMlp, Item::WeightsExperts, Item::WeightsRecurrent];
    let ledgers = plan.ranks.iter().map(|rank| &rank.ledger).chain(plan.host.as_ref());
    let held: f64 = ledgers.map(|ledger| items.iter().map(|item| ledger.bytes(*item).as_f64()).sum::<f64>()).sum();
    let numbers: f64 =
        model.tensors.iter().filter(|tensor| takes_online(tensor)).map(|t| t.total_elements() as f64).sum();
    (held > 0.0 && numbers > 0.0)
        .then(|| (held * 8.0 / numbers).clamp(1.0, 32.0))
        .map(|bits| if bits > 15.0 { 16.0 } else { bits })
}
