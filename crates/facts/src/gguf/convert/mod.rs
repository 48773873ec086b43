//! What file would llama.cpp's converter and quantiser make of this model? The way from a `config.json` to the list of
//! tensors with their types, without a file at hand.

mod metadata;
mod mixture;
mod names;
mod shape;

use std::collections::BTreeMap;

use super::{FileType, GgmlType, Gguf, PartInfo, TensorInfo, Value};
use crate::Error;
use crate::model::Model;
use crate::quant::Scheme;
use crate::tensor::{Part, Tensor};

/// A tensor as the converter writes it, before any quantisation.
struct Plain {
    /// Its name in the file.
    name: String,
    /// Its sides, the row first.
    shape: Vec<u64>,
    /// Whether the model's publisher stores it in MXFP4, which the converter keeps.
    mxfp4: bool,
}

/// Returns the header that llama.cpp's `convert_hf_to_gguf.py` and `llama-quantize` would give a file of the model: the
/// names, shapes and types of all tensors, and the keys that a plan needs. No importance matrix, no overrides; drafting
/// layers are left out, as with `--no-mtp`; vocabulary and chat template, 1 to 20 MiB of a real file, are absent.
///
/// Words: the converter's names and shapes; matrices in the base type of the file type, with the quantiser's exceptions
/// by role, layer and shape. Source: llama.cpp 0c1e57098, `conversion/*.py`, `gguf-py/gguf/tensor_mapping.py`,
/// `src/llama-quant.cpp`.
///
/// # Errors
/// [`Error::UnknownArchitecture`] when llama.cpp has no such architecture or its conversion is not known here.
pub fn from_model(model: &Model, file_type: FileType) -> Result<Gguf, Error> {
    let architecture = names::architecture(model)?;
    let mut plain = Vec::new();
    // Of what the reference implementation keeps as buffers, files hold the routers' correction alone.
    let stored = |tensor: &Tensor| tensor.parameter || tensor.name.ends_with("e_score_correction_bias");
    for tensor in model.tensors.iter().filter(|tensor| tensor.part == Part::Text && stored(tensor)) {
        write(model, architecture, tensor, &mut plain)?;
    }
    plain.extend(rotary_table(model, architecture));
    // The quantiser writes layer by layer, and within a layer by name.
    plain.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    plain.dedup_by(|a, b| a.name == b.name);
    let metadata = metadata::of(model, architecture, file_type);
    let kinds = mixture::kinds(model, architecture, file_type, &plain);
    let mut notes = Vec::new();
    if model.tensors.iter().any(|tensor| tensor.part == Part::Draft) {
        notes.push("the GGUF is without the drafting layers (converted with --no-mtp)".to_owned());
    }
    if plain.iter().any(|tensor| tensor.mxfp4) {
        notes.push("the experts keep the publisher's MXFP4 whatever the file type".to_owned());
    }
    Ok(assemble(&model.id, metadata, plain.into_iter().zip(kinds), notes))
}

/// Sorting key: tensors outside the stack first, then layer by layer.
fn order(name: &str) -> (Option<u64>, &str) {
    (super::model::block_name(name).map(|(layer, _)| layer), name)
}

/// Writes the tensors that one line of the inventory becomes.
fn write(model: &Model, architecture: &str, tensor: &Tensor, plain: &mut Vec<Plain>) -> Result<(), Error> {
    let unknown = || Error::UnknownArchitecture {
        architecture: model.architecture.clone(),
        model_type: model.model_type.clone(),
        why: format!("its tensor `{}` has no known place in a GGUF file; give the .gguf file itself", tensor.name),
    };
    let pieces = names::pieces(architecture, &tensor.name).ok_or_else(unknown)?;
    let mxfp4 = tensor.quantised.iter().any(|(_, scheme)| matches!(scheme, Scheme::Mxfp4));
    for piece in pieces {
        let at: Vec<Option<u32>> =
            if piece.name.starts_with("blk.") { tensor.layers.iter().map(Some).collect() } else { vec![None] };
        for layer in at {
            let shape = shape::of(model, architecture, tensor, &piece, layer).ok_or_else(unknown)?;
            let name = match layer {
                Some(layer) => piece.name.replacen("{i}", &layer.to_string(), 1),
                None => piece.name.clone(),
            };
            plain.push(Plain { name, shape, mxfp4: mxfp4 && piece.name.ends_with("_exps.weight") });
        }
    }
    Ok(())
}

/// The table of rotary frequencies that the converter writes for Llama-3 scaling, LongRoPE and Gemma 4: one number per pair
/// of a head's.
///
/// Source: llama.cpp 0c1e57098, `conversion/{llama,exaone,phi,minicpm,gemma}.py` (`generate_extra_tensors`).
fn rotary_table(model: &Model, architecture: &str) -> Vec<Plain> {
    let pairs = metadata::head_dim(model) / 2;
    let table = |name: &str| Plain { name: name.to_owned(), shape: vec![pairs], mxfp4: false };
    match model.rope_type.as_deref() {
        _ if architecture == "gemma4" => {
            let pairs = metadata::full_head_dim(model) / 2;
            vec![Plain { name: "rope_freqs.weight".to_owned(), shape: vec![pairs], mxfp4: false }]
        }
        Some("llama3") if ["llama", "exaone4", "deci"].contains(&architecture) => vec![table("rope_freqs.weight")],
        Some("longrope" | "su") if ["phi3", "phimoe", "minicpm", "minicpm3"].contains(&architecture) => {
            vec![table("rope_factors_long.weight"), table("rope_factors_short.weight")]
        }
        Some(_) | None => Vec::new(),
    }
}

/// Lays the tensors out one after another, each aligned.
fn assemble(
    id: &str,
    metadata: BTreeMap<String, Value>,
    tensors: impl Iterator<Item = (Plain, GgmlType)>,
    notes: Vec<String>,
) -> Gguf {
    const ALIGNMENT: u64 = 32;
    let mut offset = 0_u64;
    let mut header = 24 + metadata.iter().map(|(key, value)| 12 + key.len() as u64 + stored(value)).sum::<u64>();
    let mut list = Vec::new();
    for (plain, kind) in tensors {
        header += 8 + plain.name.len() as u64 + 4 + 8 * plain.shape.len() as u64 + 4 + 8;
        let tensor = TensorInfo { name: plain.name, shape: plain.shape, kind, offset, part: 0 };
        offset = offset.saturating_add(tensor.bytes().div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT));
        list.push(tensor);
    }
    let part = PartInfo {
        name: format!("{id} (derived)"),
        data_start: header.next_multiple_of(ALIGNMENT),
        data_bytes: offset,
        length: None,
        tensors: list.len() as u64,
    };
    Gguf { version: 3, alignment: ALIGNMENT, metadata, tensors: list, parts: vec![part], notes }
}

/// The bytes of a value in a file.
fn stored(value: &Value) -> u64 {
    match value {
        Value::U8(_) | Value::I8(_) | Value::Bool(_) => 1,
        Value::U16(_) | Value::I16(_) => 2,
        Value::U32(_) | Value::I32(_) | Value::F32(_) => 4,
        Value::U64(_) | Value::I64(_) | Value::F64(_) => 8,
        Value::Text(text) => 8 + text.len() as u64,
        Value::Array(array) => 12 + array.values.iter().map(stored).sum::<u64>(),
    }
}
