//! How does the engine round what it was asked for? Context, batches, sequences and cells.
//!
//! Source: llama.cpp 0c1e57098, `src/llama-context.cpp` (constructor, `llama_init_from_model`), `src/llama-kv-cache-iswa.cpp`.

use plimsoll_facts::gguf::GgmlType;

use super::hparams::{Hparams, Swa, supports_rollback};
use super::rules::Rules;
use crate::Refusal;

/// The most sequences that the engine takes (`LLAMA_MAX_SEQ`).
pub const MAX_SEQUENCES: u64 = 256;

/// Cells of a cache come in multiples of this.
const CELLS: u64 = 256;

/// Fused attention as it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flash {
    /// Never.
    Off,
    /// Always.
    On,
    /// Where every layer's device has a kernel.
    #[default]
    Auto,
}

/// What a context is asked for (`llama_context_params`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Context of all sequences together; `None` for the model's own.
    pub tokens: Option<u64>,
    /// Tokens of a logical batch.
    pub batch: u64,
    /// Tokens of a physical batch.
    pub ubatch: u64,
    /// Sequences.
    pub sequences: u64,
    /// Whether they share one cache.
    pub unified: bool,
    /// Fused attention.
    pub flash: Flash,
    /// Type of cached keys.
    pub kind_k: GgmlType,
    /// Type of cached values.
    pub kind_v: GgmlType,
    /// Whether windowed layers get as many cells as the others.
    pub swa_full: bool,
    /// Rows of logits in one batch; `None` for as many as its tokens.
    pub outputs: Option<u64>,
    /// Whether embeddings are wanted.
    pub embeddings: bool,
    /// Copies of recurrent states to roll back to.
    pub snapshots: u64,
    /// Whether the cache lies where its layers run.
    pub offload_kv: bool,
    /// Whether a GPU takes over large products with weights in host memory.
    pub offload_ops: bool,
    /// Whether the context is that of the drafting layers.
    pub drafting: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Asked {
            tokens: Some(512),
            batch: 2048,
            ubatch: 512,
            sequences: 1,
            unified: false,
            flash: Flash::Auto,
            kind_k: GgmlType::F16,
            kind_v: GgmlType::F16,
            swa_full: false,
            outputs: None,
            embeddings: false,
            snapshots: 0,
            offload_kv: true,
            offload_ops: true,
            drafting: false,
        }
    }
}

/// A context as the engine makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// What was asked for, contradictions settled.
    pub asked: Asked,
    /// Context of all sequences together (`n_ctx`).
    pub tokens: u64,
    /// Context of one sequence (`n_ctx_seq`).
    pub tokens_seq: u64,
    /// Tokens of a logical batch (`n_batch`).
    pub batch: u64,
    /// Tokens of a physical batch (`n_ubatch`).
    pub ubatch: u64,
    /// Sequences (`n_seq_max`).
    pub sequences: u64,
    /// Caches side by side: one for all, or one for each sequence.
    pub streams: u64,
    /// Cells of one stream in layers with full attention.
    pub cells: u64,
    /// Cells of one stream in layers with a window.
    pub cells_swa: u64,
    /// Rows of logits in one batch (`n_outputs_max`).
    pub outputs: u64,
    /// Copies of recurrent states to roll back to (`n_rs_seq`).
    pub snapshots: u64,
    /// Fused attention, before devices are asked.
    pub flash: Flash,
}

impl Context {
    /// Rounds a context as the engine does.
    ///
    /// # Errors
    /// The engine's own refusal, word for word.
    pub fn new(h: &Hparams, asked: &Asked, rules: &Rules) -> Result<Context, Refusal> {
        let flash = flash(h, asked)?;
        let sequences = asked.sequences.max(1);
        if sequences > MAX_SEQUENCES {
            return Err(refusal(format!("n_seq_max must be <= {MAX_SEQUENCES}")));
        }
        let given = asked.tokens.unwrap_or(h.ctx_train);
        if given == 0 {
            return Err(refusal("n_ctx and model->hparams.n_ctx_train cannot both be zero"));
        }
        let batch = if h.causal { asked.batch.min(given) } else { asked.batch };
        let ubatch = batch.min(if asked.ubatch == 0 { asked.batch } else { asked.ubatch });
        let pad = rules.context_pad(flash != Flash::Off);
        let tokens = given.next_multiple_of(pad);
        let unified = asked.unified || rules.always_unified;
        let tokens_seq = if unified || !rules.context_per_sequence {
            if rules.context_per_sequence || unified { tokens } else { tokens / sequences }
        } else {
            (tokens / sequences).next_multiple_of(pad)
        };
        if tokens_seq == 0 {
            return Err(refusal("n_ctx_seq == 0"));
        }
        let tokens = if unified || !rules.context_per_sequence { tokens } else { tokens_seq.saturating_mul(sequences) };
        let encoder = matches!(h.arch.as_str(), "t5" | "t5encoder");
        Ok(Context {
            asked: *asked,
            tokens,
            tokens_seq,
            batch,
            ubatch,
            sequences,
            streams: if unified { 1 } else { sequences },
            cells: tokens_seq,
            cells_swa: cells_swa(h, asked, unified, tokens_seq, ubatch, pad),
            outputs: asked.outputs.filter(|_| !encoder).unwrap_or(batch),
            snapshots: if supports_rollback(&h.arch) { asked.snapshots } else { 0 },
            flash,
        })
    }

    /// Returns the tokens of the batch for which buffers are reserved.
    pub fn reserved(&self) -> u64 {
        self.tokens.min(self.ubatch)
    }

    /// Returns the bytes of the buffer for logits and embeddings: `4 × sequences × (vocabulary + embedding)`
    /// (`output_reserve`).
    pub fn output_bytes(&self, h: &Hparams) -> u64 {
        let embeddings = self.asked.embeddings || h.arch == "t5";
        let numbers = h.vocab.saturating_add(if embeddings { h.embd_out } else { 0 });
        self.sequences.saturating_mul(numbers).saturating_mul(4)
    }
}

/// Returns the cells of windowed layers when every sequence has a cache of its own.
pub(super) fn window_cells(h: &Hparams, context: &Context) -> u64 {
    cells_swa(h, &context.asked, false, context.cells, context.ubatch, CELLS)
}

/// Cells of a stream of windowed layers: window and batch, never more than the context.
fn cells_swa(h: &Hparams, asked: &Asked, unified: bool, cells: u64, ubatch: u64, pad: u64) -> u64 {
    if h.swa == Swa::None || asked.swa_full {
        return cells;
    }
    let sequences = if unified { asked.sequences.max(1) } else { 1 };
    let wanted = h.window.saturating_mul(sequences).saturating_add(ubatch);
    cells.min(wanted).next_multiple_of(pad.min(CELLS))
}

/// Settles fused attention, or refuses what it contradicts.
fn flash(h: &Hparams, asked: &Asked) -> Result<Flash, Refusal> {
    let mut flash = if h.arch == "grok" { Flash::Off } else { asked.flash };
    let (k, v) = (asked.kind_k, asked.kind_v);
    if (h.is_mla() || h.arch == "deepseek4") && k != v {
        let why = format!("model does not support different K ({}) and V ({}) cache types", k.name(), v.name());
        return Err(refusal(why));
    }
    if v.is_quantised() {
        match flash {
            Flash::Off => return Err(refusal("quantized V cache requires flash_attn to be enabled")),
            Flash::Auto => flash = Flash::On,
            Flash::On => {}
        }
    }
    for layer in 0..h.main_layers() {
        for (name, kind, width) in [("K", k, h.head_k(layer)), ("V", v, h.head_v(layer))] {
            let long = if name == "K" { "n_embd_head_k" } else { "n_embd_head_v" };
            if flash != Flash::Off && !width.is_multiple_of(kind.block()) {
                return Err(refusal(format!(
                    "{name} cache type {} with block size {} does not divide {long}={width}",
                    kind.name(),
                    kind.block()
                )));
            }
        }
    }
    Ok(flash)
}

/// A refusal in the engine's words.
pub fn refusal(message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), needed: None, estimated_max_len: None }
}
