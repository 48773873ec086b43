//! What does llama.cpp read from a file's metadata? Its hyper-parameters, as the loader of each architecture sets them.
//!
//! Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`load_hparams`, `load_swa_pattern`), `src/llama-hparams.cpp` and
//! `src/models/*.cpp` (`load_arch_hparams`).

mod arch;

use plimsoll_facts::gguf::{Gguf, Value};

use crate::Error;

pub use arch::{is_diffusion, is_hybrid, is_recurrent, supports_rollback};

/// The most layers that the engine takes (`LLAMA_MAX_LAYERS`).
const MAX_LAYERS: u64 = 512;

/// The most experts that the engine takes (`LLAMA_MAX_EXPERTS`).
const MAX_EXPERTS: u64 = 1024;

/// The largest count that is believed of any other parameter; the engine's are 32-bit.
const MAX_COUNT: u64 = u32::MAX as u64;

/// How a sliding window slides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swa {
    /// No layer has a window.
    #[default]
    None,
    /// The last positions.
    Standard,
    /// The positions of the same chunk.
    Chunked,
    /// Positions on both sides.
    Symmetric,
}

/// What one layer has of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Query heads (`n_head`).
    pub heads: u64,
    /// Key/value heads (`n_head_kv`); zero in a layer without attention.
    pub heads_kv: u64,
    /// Inner width of the dense feed-forward block (`n_ff`).
    pub ff: u64,
    /// Inner width of one routed expert (`n_ff_exp`).
    pub ff_exp: u64,
    /// Routed experts that a token uses (`n_expert_used`).
    pub experts_used: u64,
    /// Whether its attention has the window.
    pub swa: bool,
    /// Whether it keeps a recurrent state.
    pub recurrent: bool,
    /// Whether it has a sparse indexer of its own.
    pub indexer: bool,
    /// Tokens that one compressed key stands for; zero where nothing is compressed (DeepSeek-4).
    pub compress_ratio: u64,
}

/// Sizes of state-space layers (`ssm_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ssm {
    /// Width of the convolution.
    pub conv: u64,
    /// Inner size.
    pub inner: u64,
    /// State size.
    pub state: u64,
    /// Rank of the time step, or heads.
    pub dt_rank: u64,
    /// Groups.
    pub groups: u64,
}

/// Sparse attention's indexer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indexer {
    /// Its query heads.
    pub heads: u64,
    /// Width of its key.
    pub head_dim: u64,
    /// Positions that it picks.
    pub top_k: u64,
}

/// The hyper-parameters of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hparams {
    /// `general.architecture`.
    pub arch: String,
    /// Every layer, the drafting ones last (`n_layer_all`).
    pub layers: Vec<Layer>,
    /// Drafting layers among them (`n_layer_nextn`).
    pub nextn: usize,
    /// Context that the model was trained for.
    pub ctx_train: u64,
    /// Width of the residual stream.
    pub embd: u64,
    /// Width of the input embedding, with what comes beside it (`n_embd_inp`).
    pub embd_inp: u64,
    /// Width of the output embedding (`n_embd_out`).
    pub embd_out: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Width of a key, full attention.
    pub head_k: u64,
    /// Width of a value, full attention.
    pub head_v: u64,
    /// Width of a key, windowed layers.
    pub head_k_swa: u64,
    /// Width of a value, windowed layers.
    pub head_v_swa: u64,
    /// Rotated dimensions, full attention.
    pub rot: u64,
    /// Rotated dimensions, windowed layers.
    pub rot_swa: u64,
    /// Width of a decompressed key; zero without absorbed latent attention.
    pub head_k_mla: u64,
    /// Width of a decompressed value; zero without absorbed latent attention.
    pub head_v_mla: u64,
    /// Rank of the query's compression.
    pub lora_q: u64,
    /// Rank of the cache's compression.
    pub lora_kv: u64,
    /// Rank of the cache's compression in windowed layers (dots3note).
    pub lora_kv_swa: u64,
    /// Kind of window.
    pub swa: Swa,
    /// Positions of the window.
    pub window: u64,
    /// Routed experts.
    pub experts: u64,
    /// Shared experts.
    pub experts_shared: u64,
    /// Inner width of the shared experts together.
    pub ff_shexp: u64,
    /// Inner width of a chunk expert (Grove).
    pub ff_chexp: u64,
    /// Groups of experts, of which some are used.
    pub expert_groups: u64,
    /// Groups that are used.
    pub groups_used: u64,
    /// Width at which the experts run; zero for the residual stream's (`moe_latent_size`, `n_expert_latent`).
    pub expert_latent: u64,
    /// Every so many layers has experts (Llama-4, Ernie; zero: not said).
    pub moe_step: u64,
    /// Leading layers without experts.
    pub leading_dense: u64,
    /// Gating function's id (`expert_gating_func`).
    pub gating: u64,
    /// State-space sizes.
    pub ssm: Ssm,
    /// Head width of Kimi's delta attention.
    pub kda_head: u64,
    /// Head width of lightning attention.
    pub la_head: u64,
    /// Head width of RWKV.
    pub wkv_head: u64,
    /// Tokens that RWKV shifts.
    pub token_shift: u64,
    /// Positions of LFM2's short convolution.
    pub shortconv: u64,
    /// Layers from the first that own a cache; the rest reuse theirs.
    pub kv_from_start: Option<usize>,
    /// Whether attention looks back only.
    pub causal: bool,
    /// Whether attention scores are capped, which some backends cannot fuse.
    pub soft_cap: bool,
    /// Whether positions are a bias on the scores.
    pub alibi: bool,
    /// The indexer.
    pub indexer: Indexer,
    /// Streams of the residual (hyper-connections).
    pub hyper: u64,
    /// Width of per-layer embeddings (Gemma).
    pub embd_per_layer: u64,
    /// Index of the layer that only routes adapters.
    pub router_layer: Option<usize>,
    /// Layers of an encoder-decoder's decoder.
    pub decoder_layers: usize,
}

impl Hparams {
    /// Reads a file's metadata.
    ///
    /// # Errors
    /// [`Error::Request`] when a parameter that the engine needs is absent or makes no sense.
    pub fn read(gguf: &Gguf) -> Result<Hparams, Error> {
        let reader = Reader { gguf };
        let mut hparams = reader.common()?;
        arch::apply(&mut hparams, &reader)?;
        Ok(hparams)
    }

    /// Returns the layers without drafting ones (`n_layer`).
    pub fn main_layers(&self) -> usize {
        self.layers.len().saturating_sub(self.nextn)
    }

    /// Whether a layer's cache is the compressed latent, keys only (`is_mla`).
    pub fn is_mla(&self) -> bool {
        self.head_k_mla != 0 && self.head_v_mla != 0
    }

    /// Returns the width of a layer's key head.
    pub fn head_k(&self, layer: usize) -> u64 {
        if self.is_swa(layer) { self.head_k_swa } else { self.head_k }
    }

    /// Returns the width of a layer's value head.
    pub fn head_v(&self, layer: usize) -> u64 {
        if self.is_swa(layer) { self.head_v_swa } else { self.head_v }
    }

    /// Returns the rotated dimensions of a layer.
    pub fn rot(&self, layer: usize) -> u64 {
        if self.is_swa(layer) { self.rot_swa } else { self.rot }
    }

    /// Whether a layer has the window.
    pub fn is_swa(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(|layer| layer.swa)
    }

    /// Whether a layer keeps a recurrent state.
    pub fn is_recurrent(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(|layer| layer.recurrent)
    }

    /// Returns the numbers of all key heads of a layer (`n_embd_k_gqa`).
    pub fn k_gqa(&self, layer: usize) -> u64 {
        self.head_k(layer).saturating_mul(self.layers.get(layer).map_or(0, |layer| layer.heads_kv))
    }

    /// Returns the numbers of all value heads of a layer (`n_embd_v_gqa`).
    pub fn v_gqa(&self, layer: usize) -> u64 {
        self.head_v(layer).saturating_mul(self.layers.get(layer).map_or(0, |layer| layer.heads_kv))
    }

    /// Returns the most value numbers that any layer has (`n_embd_v_gqa_max`).
    pub fn v_gqa_max(&self) -> u64 {
        (0..self.layers.len()).map(|layer| self.v_gqa(layer)).max().unwrap_or(0)
    }

    /// Whether the layers differ in their value numbers (`is_n_embd_v_gqa_variable`).
    pub fn v_gqa_varies(&self) -> bool {
        (0..self.layers.len()).any(|layer| self.v_gqa(layer) != self.v_gqa(0))
    }

    /// Returns the numbers of one sequence's rolling state in a recurrent layer (`n_embd_r`).
    pub fn state_r(&self) -> u64 {
        let heads = self.layers.first().map_or(0, |layer| layer.heads);
        if self.wkv_head != 0 {
            return self.token_shift.saturating_mul(self.embd);
        }
        if self.shortconv != 0 {
            return self.embd.saturating_mul(self.shortconv - 1);
        }
        if self.kda_head != 0 {
            let back = if self.ssm.conv > 0 { self.ssm.conv - 1 } else { 3 };
            return back.saturating_mul(3).saturating_mul(heads).saturating_mul(self.kda_head);
        }
        let mixed = self.ssm.groups.saturating_mul(self.ssm.state).saturating_mul(2).saturating_add(self.ssm.inner);
        self.ssm.conv.saturating_sub(1).saturating_mul(mixed)
    }

    /// Returns the numbers of one sequence's recurrent state in a recurrent layer (`n_embd_s`).
    pub fn state_s(&self) -> u64 {
        let heads = self.layers.first().map_or(0, |layer| layer.heads);
        let square = |head: u64| head.saturating_mul(head).saturating_mul(heads);
        if self.wkv_head != 0 {
            self.embd.saturating_mul(self.wkv_head)
        } else if self.kda_head != 0 {
            square(self.kda_head)
        } else if self.la_head != 0 {
            square(self.la_head)
        } else {
            self.ssm.state.saturating_mul(self.ssm.inner)
        }
    }

    /// Whether a layer owns a cache rather than reusing another's (`has_kv`).
    pub fn owns_kv(&self, layer: usize) -> bool {
        self.kv_from_start.is_none_or(|first| layer < first)
    }
}

/// Looks parameters up and says what is wrong with them.
pub(super) struct Reader<'g> {
    gguf: &'g Gguf,
}

impl Reader<'_> {
    /// The error of a file.
    fn refuse(&self, why: impl std::fmt::Display) -> Error {
        let name = self.gguf.parts.first().map_or("GGUF", |part| &part.name);
        Error::Request(format!("{name}: {why}"))
    }

    /// A whole number that may be absent.
    fn maybe(&self, key: &str) -> Result<Option<u64>, Error> {
        let value = self.gguf.uint(key).map_err(|error| Error::Request(error.to_string()))?;
        match value.filter(|value| *value > MAX_COUNT) {
            Some(value) => Err(self.refuse(format!("{key} is {value}, more than 32 bits hold"))),
            None => Ok(value),
        }
    }

    /// A whole number that the engine needs.
    fn needed(&self, key: &str) -> Result<u64, Error> {
        match self.maybe(key)? {
            Some(value) => Ok(value),
            None => Err(self.refuse(format!("key not found in model: {}.{key}", self.arch()?))),
        }
    }

    /// The architecture's name.
    fn arch(&self) -> Result<&str, Error> {
        self.gguf.architecture().map_err(|error| Error::Request(error.to_string()))
    }

    /// One number for each layer, where the key is there.
    fn layers(&self, key: &str, count: usize) -> Result<Option<Vec<u64>>, Error> {
        let values = self.gguf.per_layer(key, count).map_err(|error| Error::Request(error.to_string()))?;
        match values.as_ref().and_then(|values| values.iter().find(|value| **value > MAX_COUNT)) {
            Some(value) => Err(self.refuse(format!("{key} holds {value}, more than 32 bits hold"))),
            None => Ok(values),
        }
    }

    /// An array of numbers or truth values, `None` for a single value.
    fn array(&self, key: &str) -> Result<Option<Vec<u64>>, Error> {
        self.gguf.array(key).map_err(|error| Error::Request(error.to_string()))
    }

    /// Whether a number is there and above zero.
    fn positive(&self, key: &str) -> Result<bool, Error> {
        let value = self.gguf.float(key).map_err(|error| Error::Request(error.to_string()))?;
        Ok(value.is_some_and(|value| value > 0.0))
    }

    /// How many embeddings come beside the text's for single layers (`deepstack_mapping`, -1 for none).
    fn stacked(&self) -> Result<u64, Error> {
        let Some(array) = self.gguf.key("deepstack_mapping").and_then(Value::as_array) else { return Ok(0) };
        let indices: std::collections::BTreeSet<u64> = array.values.iter().filter_map(Value::as_u64).collect();
        Ok(indices.len() as u64)
    }

    /// Whether the file has a tensor.
    fn has_tensor(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// What every architecture reads.
    fn common(&self) -> Result<Hparams, Error> {
        let arch = self.arch()?.to_owned();
        let count = self.needed("block_count")?;
        if count == 0 || count > MAX_LAYERS {
            return Err(self.refuse(format!("block_count is {count}, expected 1 to {MAX_LAYERS}")));
        }
        let count = count as usize;
        let nextn = self.maybe("nextn_predict_layers")?.unwrap_or(0);
        if nextn > count as u64 {
            return Err(self.refuse(format!("nextn_predict_layers is {nextn}, more than the {count} layers")));
        }
        let heads = self.layers("attention.head_count", count)?.unwrap_or_else(|| vec![0; count]);
        let heads_kv = self.layers("attention.head_count_kv", count)?.unwrap_or_else(|| heads.clone());
        let ff = self.layers("feed_forward_length", count)?.unwrap_or_else(|| vec![0; count]);
        let used = self.layers("expert_used_count", count)?.unwrap_or_else(|| vec![0; count]);
        let ff_exp = self.layers("expert_feed_forward_length", count)?.unwrap_or_else(|| vec![0; count]);
        let recurrent = is_recurrent(&arch);
        let layers = (0..count)
            .map(|at| Layer {
                heads: heads[at],
                heads_kv: heads_kv[at],
                ff: ff[at],
                ff_exp: ff_exp[at],
                experts_used: used[at],
                recurrent,
                ..Layer::default()
            })
            .collect();
        let embd = self.needed("embedding_length")?;
        let head = embd.checked_div(heads[0]).unwrap_or(0);
        let attends = |key: &str, or: u64| Ok(if heads[0] > 0 { self.maybe(key)?.unwrap_or(or) } else { 0 });
        let (head_k, head_v) = (attends("attention.key_length", head)?, attends("attention.value_length", head)?);
        let rot = attends("rope.dimension_count", head_k)?;
        let embd_out = self.maybe("embedding_length_out")?.filter(|out| *out > 0).unwrap_or(embd);
        let hparams = Hparams {
            layers,
            nextn: nextn as usize,
            ctx_train: self.needed("context_length")?,
            embd,
            embd_inp: embd,
            embd_out,
            vocab: self.vocabulary()?,
            head_k,
            head_v,
            head_k_swa: self.maybe("attention.key_length_swa")?.unwrap_or(head_k),
            head_v_swa: self.maybe("attention.value_length_swa")?.unwrap_or(head_v),
            rot,
            rot_swa: self.maybe("rope.dimension_count_swa")?.unwrap_or(rot),
            experts: self.maybe("expert_count")?.unwrap_or(0),
            experts_shared: self.maybe("expert_shared_count")?.unwrap_or(0),
            ff_shexp: self.maybe("expert_shared_feed_forward_length")?.unwrap_or(0),
            ff_chexp: self.maybe("expert_chunk_feed_forward_length")?.unwrap_or(0),
            expert_groups: self.maybe("expert_group_count")?.unwrap_or(0),
            groups_used: self.maybe("expert_group_used_count")?.unwrap_or(0),
            gating: self.maybe("expert_gating_func")?.unwrap_or(0),
            leading_dense: self.maybe("leading_dense_block_count")?.unwrap_or(0),
            causal: self.causal()?,
            decoder_layers: count,
            token_shift: 2,
            arch,
            ..Hparams::default()
        };
        self.check_experts(&hparams)?;
        Ok(hparams)
    }

    /// Whether attention looks back only.
    fn causal(&self) -> Result<bool, Error> {
        let found = self.gguf.flag("attention.causal").map_err(|error| Error::Request(error.to_string()))?;
        Ok(found.unwrap_or(true))
    }

    /// Tokens of the vocabulary: the tokenizer's list, where there is one.
    fn vocabulary(&self) -> Result<u64, Error> {
        let listed = self.gguf.metadata.get("tokenizer.ggml.tokens").map(Value::len);
        match listed.filter(|count| *count > 0).or_else(|| self.gguf.vocabulary()) {
            Some(count) if count <= MAX_COUNT => Ok(count),
            Some(count) => Err(self.refuse(format!("a vocabulary of {count} tokens"))),
            None => Err(self.refuse("neither a vocabulary nor a token embedding")),
        }
    }

    /// Refuses counts of experts that the engine refuses.
    fn check_experts(&self, hparams: &Hparams) -> Result<(), Error> {
        let most = hparams.layers.iter().map(|layer| layer.experts_used).max().unwrap_or(0);
        let lone = matches!(hparams.arch.as_str(), "hunyuan-dense" | "hunyuan_vl") && hparams.experts <= 1;
        if hparams.experts > MAX_EXPERTS {
            return Err(self.refuse(format!("expert_count is {}, more than {MAX_EXPERTS}", hparams.experts)));
        }
        if !lone && (most > hparams.experts || (hparams.experts > 0 && most == 0)) {
            return Err(self.refuse(format!("expert_used_count is {most} of {} experts", hparams.experts)));
        }
        Ok(())
    }
}
