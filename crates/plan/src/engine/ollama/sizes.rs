//! What does Ollama look at in a file? Layers as it groups tensors, and the metadata with the defaults that it takes.
//!
//! Source: Ollama 0.12.10 and 0.33, `fs/ggml/ggml.go` (`KV`, `Tensors.GroupLayers`).

use std::collections::BTreeMap;

use plimsoll_facts::gguf::{Gguf, Value};

use crate::Error;

/// More layers than any model has.
const MOST_LAYERS: u64 = 4096;

/// A file as Ollama sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// `general.architecture`.
    pub arch: String,
    /// Bytes of every repeating layer (`blk.N`), zero where there is none.
    pub layers: Vec<u64>,
    /// Bytes of `output_norm`.
    pub output_norm: u64,
    /// Bytes of `output`, where the file has one.
    pub output: Option<u64>,
    /// Bytes of `token_embd`.
    pub token_embd: u64,
    /// Bytes of built-in vision tensors (`v.*`).
    pub vision: u64,
    /// Bytes of the whole file, header included.
    pub file: u64,
    /// Width of the residual stream.
    pub embedding: u64,
    /// Query heads, layer by layer.
    pub heads: Vec<u64>,
    /// Key/value heads, layer by layer.
    pub heads_kv: Vec<u64>,
    /// Width of a key.
    pub key: u64,
    /// Width of a value.
    pub value: u64,
    /// The largest head width that the heads give (`EmbeddingHeadCountMax`).
    pub head: u64,
    /// Rows of the vocabulary.
    pub vocabulary: u64,
    /// Context that the model was trained for; zero when the file does not say.
    pub context: u64,
    /// Whether it is an embedding model (`pooling_type`).
    pub embeds: bool,
    /// Metadata that single architectures need.
    pub more: More,
}

/// Metadata that single architectures need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// Bytes of `blk.0.ffn_gate_exps.weight`.
    pub gate_experts: Option<u64>,
    /// Rows of `blk.0.ffn_gate.0.weight`.
    pub gate_first: Option<u64>,
    /// Length of `blk.0.attn_qkv.bias`.
    pub qkv_bias: Option<u64>,
    /// Numbers of `rope_freqs.weight`.
    pub rope_freqs: u64,
    /// `feed_forward_length`.
    pub feed_forward: u64,
    /// `attention.sliding_window`.
    pub window: u64,
    /// `attention.cross_attention_layers`.
    pub cross: Vec<u64>,
    /// `ssm.conv_kernel`, `ssm.state_size`, `ssm.inner_size`, `ssm.group_count`.
    pub ssm: [u64; 4],
    /// Bytes that a vision pass takes (`VisionGraphSize`).
    pub vision_graph: u64,
}

impl Sizes {
    /// Reads a header.
    ///
    /// # Errors
    /// [`Error::Request`] when what the engine needs is absent.
    pub fn of(gguf: &Gguf) -> Result<Sizes, Error> {
        let bad = |error: plimsoll_facts::Error| Error::Request(error.to_string());
        let uint = |suffix: &str| gguf.uint(suffix).map_err(bad);
        let arch = gguf.architecture().map_err(bad)?.to_owned();
        let count = gguf.needed_uint("block_count").map_err(bad)?;
        if count == 0 || count > MOST_LAYERS {
            return Err(Error::Request(format!("{arch}.block_count is {count}, expected 1 to {MOST_LAYERS}")));
        }
        let mut sizes = Sizes { arch, layers: vec![0; count as usize], file: gguf.file_bytes(), ..Sizes::default() };
        sizes.group(gguf);
        sizes.embedding = gguf.needed_uint("embedding_length").map_err(bad)?;
        sizes.heads = heads(gguf, "attention.head_count", count as usize).map_err(bad)?;
        sizes.heads_kv = heads(gguf, "attention.head_count_kv", count as usize).map_err(bad)?;
        sizes.head = sizes.embedding.checked_div(least(&sizes.heads)).unwrap_or(0);
        sizes.key = uint("attention.key_length")?.unwrap_or(sizes.head);
        sizes.value = uint("attention.value_length")?.unwrap_or(sizes.head);
        sizes.vocabulary = gguf.vocabulary().unwrap_or(0);
        sizes.context = uint("context_length")?.unwrap_or(0);
        sizes.embeds = gguf.key("pooling_type").is_some();
        sizes.more.feed_forward = match gguf.key("feed_forward_length") {
            Some(Value::Array(_)) => 0,
            Some(_) | None => uint("feed_forward_length")?.unwrap_or(0),
        };
        sizes.more.window = match gguf.key("attention.sliding_window") {
            Some(Value::Array(_)) => 0,
            Some(_) | None => uint("attention.sliding_window")?.unwrap_or(0),
        };
        sizes.more.cross = gguf.array("attention.cross_attention_layers").map_err(bad)?.unwrap_or_default();
        for (at, name) in ["ssm.conv_kernel", "ssm.state_size", "ssm.inner_size", "ssm.group_count"].iter().enumerate()
        {
            sizes.more.ssm[at] = uint(name)?.unwrap_or(0);
        }
        sizes.more.vision_graph = vision_graph(gguf, &sizes.arch)?;
        sizes.check()?;
        Ok(sizes)
    }

    /// Refuses widths that no model has; below them no formula overflows.
    fn check(&self) -> Result<(), Error> {
        let [kernel, state, inner, groups] = self.more.ssm;
        let named = [
            ("embedding_length", self.embedding),
            ("attention.head_count", self.heads_max()),
            ("attention.head_count_kv", self.heads_kv_max()),
            ("attention.key_length", self.key),
            ("attention.value_length", self.value),
            ("vocabulary", self.vocabulary),
            ("feed_forward_length", self.more.feed_forward),
            ("attention.sliding_window", self.more.window),
            ("ssm sizes", kernel.max(state).max(inner).max(groups)),
        ];
        match named.iter().find(|(_, number)| *number > u64::from(u32::MAX)) {
            Some((name, number)) => {
                Err(Error::Request(format!("{}: {name} is {number}, more than any model has", self.arch)))
            }
            None => Ok(()),
        }
    }

    /// Groups tensors by the first parts of their names.
    fn group(&mut self, gguf: &Gguf) {
        let mut output = None;
        for tensor in &gguf.tensors {
            let (bytes, name) = (tensor.bytes(), tensor.name.as_str());
            let mut parts = name.split('.');
            match parts.next() {
                Some("blk") => {
                    let at = parts.next().and_then(|at| at.parse::<usize>().ok());
                    if let Some(layer) = at.and_then(|at| self.layers.get_mut(at)) {
                        *layer = layer.saturating_add(bytes);
                    }
                }
                Some("output_norm") => self.output_norm = self.output_norm.saturating_add(bytes),
                Some("output") => output = Some(output.unwrap_or(0_u64).saturating_add(bytes)),
                Some("token_embd") => self.token_embd = self.token_embd.saturating_add(bytes),
                Some("v") => self.vision = self.vision.saturating_add(bytes),
                _ => {}
            }
            let side = |at: usize| tensor.shape.get(at).copied().unwrap_or(1);
            match name {
                "blk.0.ffn_gate_exps.weight" => self.more.gate_experts = Some(bytes),
                "blk.0.ffn_gate.0.weight" => self.more.gate_first = Some(side(1)),
                "blk.0.attn_qkv.bias" => self.more.qkv_bias = Some(side(0)),
                "rope_freqs.weight" => self.more.rope_freqs = tensor.elements(),
                _ => {}
            }
        }
        self.output = output;
    }

    /// Returns the largest number of query heads of a layer.
    pub fn heads_max(&self) -> u64 {
        self.heads.iter().copied().max().unwrap_or(1)
    }

    /// Returns the largest number of key/value heads of a layer.
    pub fn heads_kv_max(&self) -> u64 {
        self.heads_kv.iter().copied().max().unwrap_or(1)
    }

    /// Returns the smallest number of key/value heads of a layer.
    pub fn heads_kv_min(&self) -> u64 {
        least(&self.heads_kv)
    }

    /// Returns the bytes of the output layer: its norm, and the matrix or the embedding that stands in for it.
    pub fn output_layer(&self) -> u64 {
        self.output_norm.saturating_add(self.output.unwrap_or(self.token_embd))
    }

    /// Returns the bytes of the largest group of tensors, the embedding among them.
    pub fn largest(&self) -> u64 {
        let layer = self.layers.iter().copied().max().unwrap_or(0);
        layer.max(self.token_embd).max(self.output.unwrap_or(0))
    }

    /// Returns the bytes of all repeating layers.
    pub fn repeating(&self) -> u64 {
        self.layers.iter().copied().fold(0, u64::saturating_add)
    }
}

fn least(numbers: &[u64]) -> u64 {
    numbers.iter().copied().min().unwrap_or(1)
}

/// Heads layer by layer; one when the file does not say.
fn heads(gguf: &Gguf, suffix: &str, count: usize) -> Result<Vec<u64>, plimsoll_facts::Error> {
    Ok(gguf.per_layer(suffix, count)?.unwrap_or_else(|| vec![1; count]))
}

/// Bytes that a vision pass takes, for the architectures whose vision is built in.
fn vision_graph(gguf: &Gguf, arch: &str) -> Result<u64, Error> {
    let bad = |error: plimsoll_facts::Error| Error::Request(error.to_string());
    let mut numbers = BTreeMap::new();
    for name in [
        "block_count",
        "image_size",
        "patch_size",
        "num_channels",
        "attention.head_count",
        "embedding_length",
        "max_pixels",
    ] {
        numbers.insert(name, gguf.uint(&format!("vision.{name}")).map_err(bad)?.unwrap_or(0));
    }
    // Larger numbers than any tower has are cut, so that no product overflows.
    let n = |name: &str| u128::from(numbers.get(name).copied().unwrap_or(0).min(1 << 24));
    if n("block_count") == 0 || n("patch_size") == 0 {
        return Ok(0);
    }
    let (image, patch, channels) = (n("image_size"), n("patch_size"), n("num_channels"));
    let (heads, width) = (n("attention.head_count"), n("embedding_length"));
    let class = u128::from(gguf.tensor("v.class_embd").is_some());
    let patches = (image / patch) * (image / patch) + class;
    let product = |factors: &[u128]| factors.iter().fold(1_u128, |all, factor| all.saturating_mul(*factor));
    let bytes = match arch {
        "gemma3" | "mistral3" => product(&[image, image, channels])
            .saturating_add(product(&[width, patch]))
            .saturating_add(product(&[patches, patches, heads])),
        "qwen25vl" => {
            let pixels = if n("max_pixels") == 0 { 28 * 28 * 1280 } else { n("max_pixels") };
            let patches = pixels / (patch * patch);
            product(&[2, pixels, channels])
                .saturating_add(product(&[patches, channels, patch, patch]))
                .saturating_add(product(&[patches, patches, heads]))
                .saturating_add(product(&[width, patches]))
        }
        _ => 0,
    };
    Ok(u64::try_from(bytes.saturating_mul(4)).unwrap_or(u64::MAX))
}
