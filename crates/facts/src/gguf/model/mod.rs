//! What model is in the file? Layers from the metadata and the tensors' shapes, the inventory from the list of tensors.

mod architecture;
mod inventory;
mod layers;

pub use architecture::{is_known, windows};

use std::collections::BTreeMap;

use super::{GgmlType, Gguf, TensorInfo, Value, malformed};
use crate::Error;
use crate::model::Model;
use crate::quant::Quant;
use crate::tensor::DType;

/// The most layers of llama.cpp (0c1e57098, `src/llama-hparams.h`, `LLAMA_MAX_LAYERS`).
const MOST_LAYERS: u64 = 512;

/// The tensors of one layer, by their names without `blk.N.`.
type Block<'a> = BTreeMap<&'a str, &'a TensorInfo>;

/// What the metadata say about the stack.
struct Stack<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
    hidden: u64,
    /// Decoder layers, drafting ones not counted.
    count: usize,
    /// Drafting layers behind them.
    draft: usize,
    /// The layers' tensors.
    blocks: Vec<Block<'a>>,
}

/// Reads a model from a file's header: the same layers and, to the number, the same parameters as from the
/// `config.json` that the file was converted from.
///
/// The inventory has the file's own names and what is stored: routed experts are one tensor, a tied output projection is
/// absent, rotary tables are listed and not counted as parameters, projectors and towers lie in a file of their own.
/// An architecture that llama.cpp does not have is read as far as its keys and names go, with a note.
///
/// # Errors
/// [`Error::Malformed`] names the key or tensor that is absent or cannot be true.
pub fn model(gguf: &Gguf, id: &str) -> Result<Model, Error> {
    let architecture = gguf.architecture()?;
    if architecture == "clip" {
        let why = "it is a projector (architecture clip), which has no language model; give the model's own file, and \
                   this one as --mmproj";
        return Err(malformed(gguf.name(), why));
    }
    if !is_known(architecture) && gguf.key("embedding_length").is_none() {
        let name = super::short(architecture);
        let why = format!(
            "unknown model architecture: `{name}` is none of llama.cpp's (0c1e57098, `LLM_ARCH_NAMES` in \
             src/llama-arch.cpp), and without `{name}.embedding_length` it cannot be read either"
        );
        return Err(malformed(gguf.name(), why));
    }
    let stack = Stack::read(gguf, architecture)?;
    let layers = layers::read(&stack)?;
    let embedding = gguf.tensor("token_embd.weight");
    let vocabulary = match (embedding, gguf.vocabulary()) {
        (Some(embedding), _) => embedding.rows(),
        (None, Some(count)) => count,
        (None, None) => {
            return Err(malformed(gguf.name(), "neither `token_embd.weight` nor a vocabulary is in the file"));
        }
    };
    let mut notes = gguf.notes.clone();
    if !is_known(architecture) {
        notes.push(format!(
            "architecture `{architecture}` is none of llama.cpp's (0c1e57098); layers are read by their tensors' names"
        ));
    }
    let context = gguf.needed_uint("context_length")?;
    let tensors = inventory::lines(gguf, &stack);
    let tied = gguf.tensor("output.weight").is_none();
    Ok(Model {
        id: id.to_owned(),
        model_type: architecture.to_owned(),
        architecture: architecture.to_owned(),
        dtype: plain_dtype(gguf),
        hidden: stack.hidden,
        vocabulary,
        max_positions: context,
        positions_limit: context,
        tied,
        rope_type: gguf.text(&format!("{architecture}.rope.scaling.type"))?.map(str::to_owned),
        layers,
        draft_layers: u32::try_from(stack.draft).unwrap_or(u32::MAX),
        tower: None,
        tensors,
        quant: quant(gguf),
        notes,
    })
}

impl<'a> Stack<'a> {
    /// Reads the counts and sorts the tensors by layer.
    fn read(gguf: &'a Gguf, architecture: &'a str) -> Result<Self, Error> {
        let hidden = gguf.needed_uint("embedding_length")?;
        let all = gguf.needed_uint("block_count")?;
        let key = |suffix: &str| format!("{architecture}.{suffix}");
        let wrong = |suffix: &str, expected: &str| {
            gguf.key(suffix)
                .map_or_else(|| gguf.absent(&key(suffix)), |value| gguf.wrong(&key(suffix), value, expected))
        };
        if all == 0 || all > MOST_LAYERS {
            return Err(wrong("block_count", "1 to 512 layers"));
        }
        if hidden == 0 || hidden > 1 << 30 {
            return Err(wrong("embedding_length", "1 to 2^30"));
        }
        let draft = gguf.uint("nextn_predict_layers")?.unwrap_or(0);
        if draft >= all {
            return Err(wrong("nextn_predict_layers", "fewer than block_count"));
        }
        let mut blocks = vec![Block::new(); usize::try_from(all).unwrap_or(0)];
        for tensor in &gguf.tensors {
            let Some((layer, name)) = block_name(&tensor.name) else { continue };
            match usize::try_from(layer).ok().and_then(|layer| blocks.get_mut(layer)) {
                Some(block) => {
                    block.insert(name, tensor);
                }
                None => {
                    let place = format!("{}, tensor `{}`", gguf.name(), super::short(&tensor.name));
                    return Err(malformed(place, format!("`{}` counts {all} layers", key("block_count"))));
                }
            }
        }
        // Files of main and drafting layers apart keep the count of both; only what is there is drafted.
        let main = usize::try_from(all - draft).unwrap_or(0);
        let draft = blocks[main..].iter().filter(|block| !block.is_empty()).count();
        Ok(Stack { gguf, architecture, hidden, count: main, draft, blocks })
    }
}

/// Splits `blk.N.rest`.
pub(super) fn block_name(name: &str) -> Option<(u64, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    (layer.len() <= 6 && layer.bytes().all(|b| b.is_ascii_digit()))
        .then(|| layer.parse().ok())?
        .map(|layer| (layer, rest))
}

/// The dtype of what is not quantised, which the cache defaults to in other engines: bf16 where the file keeps bf16, else
/// fp16 (llama.cpp's cache is fp16 unless asked otherwise).
fn plain_dtype(gguf: &Gguf) -> DType {
    let bytes =
        |kind| gguf.tensors.iter().filter(|t| t.kind == kind).fold(0_u64, |sum, t| sum.saturating_add(t.bytes()));
    if bytes(GgmlType::Bf16) > bytes(GgmlType::F16) { DType::BF16 } else { DType::F16 }
}

/// How the file calls its quantisation, where it has one.
fn quant(gguf: &Gguf) -> Option<Quant> {
    let mut bytes: BTreeMap<GgmlType, u64> = BTreeMap::new();
    for tensor in gguf.tensors.iter().filter(|tensor| tensor.kind.is_quantised()) {
        let sum = bytes.entry(tensor.kind).or_default();
        *sum = sum.saturating_add(tensor.bytes());
    }
    let (most, _) = bytes.iter().max_by_key(|(_, bytes)| **bytes)?;
    // A file type that is not of the tensors' kind is a leftover of the conversion.
    let named = gguf.metadata.get("general.file_type").and_then(Value::as_u64).and_then(super::FileType::from_id);
    let named = named.filter(|named| bytes.contains_key(&named.base()));
    let method = named.map_or_else(|| format!("gguf, mostly {most}"), |named| format!("gguf {}", named.name()));
    Some(Quant { method, kv_cache: None, kv_cache_hf_quant: None, scales: None, spare_bias: false, omitted: &[] })
}
