//! What does one token, and what does one sequence, cost on a rank? Cells of full, sliding, latent and compressed attention,
//! and recurrent states.

use std::ops::Range;

use plimsoll_facts::model::{Attention, AttentionKind, Mixer, Model, Recurrent, Span};
use plimsoll_facts::tensor::DType;

use super::NAME;
use super::defaults::{Draft, KvFormat, Resolved, is_v4};
use super::options::Options;
use crate::{Error, Version};

/// What a stage's layers keep per token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cells {
    /// Layers that keep every token.
    pub full_layers: u64,
    /// Layers with a window of their own pool.
    pub swa_layers: u64,
    /// Keys of all full layers, bytes per token.
    pub full_keys: u64,
    /// Values of all full layers.
    pub full_values: u64,
    /// Keys of all sliding layers.
    pub swa_keys: u64,
    /// Values of all sliding layers.
    pub swa_values: u64,
    /// Indexer keys of all layers.
    pub indexer: u64,
    /// Whether keys and values are one buffer (latent attention).
    pub single: bool,
    /// What the sizing charges per token of the full pool.
    pub charged: u64,
    /// What one slot of the full pool holds; differs from `charged` where the engine counts less than it stores.
    pub held: u64,
    /// What one slot of the sliding pool holds.
    pub swa_held: u64,
    /// The widest window.
    pub window: u64,
    /// What a drafter adds per token of the full pool.
    pub draft: u64,
    /// DeepSeek-V4's cost per token of the full pool, all pools together.
    pub compressed: Option<f64>,
}

/// What a stage keeps per sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Layers with a state.
    pub layers: u64,
    /// Convolution inputs of all layers, bytes.
    pub conv: u64,
    /// Recurrent states of all layers, bytes.
    pub ssm: u64,
}

impl State {
    /// Returns the bytes of one slot.
    pub const fn bytes(self) -> u64 {
        self.conv.saturating_add(self.ssm)
    }
}

const fn at(minor: u16, patch: u16) -> Version {
    Version::new(0, minor, patch)
}

/// Adds up a stage's cells. Layers that read another layer's cache count like the others, as the engine counts them.
///
/// SGLang 0.5.23, `srt/model_executor/pool_configurator.py`, `DefaultPoolConfigurator._compute_cell_size` and
/// `HybridSWAPoolConfigurator`; 0.5.9, `srt/model_executor/model_runner_kv_cache_mixin.py`, `get_cell_size_per_token`; 0.5.3,
/// `srt/model_executor/model_runner.py`, `profile_max_num_token` (values as wide as keys).
pub fn cells(model: &Model, options: &Options, resolved: &Resolved, range: &Range<u32>) -> Cells {
    let mut cells = Cells::default();
    let tp = u64::from(options.attention_tp()).max(1);
    let mut latent_wide = 0_u64;
    for layer in model.layers.get(range.start as usize..range.end as usize).unwrap_or_default() {
        let Mixer::Attention(attention) = &layer.mixer else { continue };
        let sliding = resolved.hybrid_swa && !matches!(attention.span, Span::Full | Span::Cross);
        match attention.span {
            Span::Window { tokens } | Span::Chunk { tokens } => cells.window = cells.window.max(u64::from(tokens)),
            Span::Summary { window } => cells.window = cells.window.max(u64::from(window)),
            Span::Full | Span::Cross => {}
        }
        let (keys, values, indexer, held_wide) = layer_bytes(attention, resolved, tp);
        cells.single |= matches!(attention.kind, AttentionKind::Latent { .. });
        cells.indexer += indexer;
        latent_wide += held_wide;
        if sliding {
            cells.swa_layers += 1;
            cells.swa_keys += keys;
            cells.swa_values += values;
        } else {
            cells.full_layers += 1;
            cells.full_keys += keys;
            cells.full_values += values;
        }
    }
    // Before 0.5.8 a value was taken to be as wide as a key.
    let values = if resolved.version < at(5, 8) && !cells.single { cells.full_keys } else { cells.full_values };
    let stored = cells.full_keys + cells.full_values;
    // SGLang 0.5.16 and later count what a row of FlashMLA's 8-bit layout holds; before, rank + rotary width alone.
    cells.charged =
        if latent_wide > 0 && resolved.version >= at(5, 16) { latent_wide } else { cells.full_keys + values };
    cells.charged += cells.indexer;
    cells.held = if latent_wide > 0 { latent_wide } else { stored } + cells.indexer;
    cells.swa_held = cells.swa_keys + cells.swa_values;
    cells.draft = drafted(model, resolved, &cells);
    if is_v4(model) {
        cells.compressed = Some(compressed(model, resolved, range));
    }
    cells
}

/// Keys, values, the indexer's keys, and what a row of the packed 8-bit layout holds where it is used.
fn layer_bytes(attention: &Attention, resolved: &Resolved, tp: u64) -> (u64, u64, u64, u64) {
    let n = |number: u32| u64::from(number);
    match attention.kind {
        AttentionKind::Grouped { kv_heads, key_dim, value_dim, .. } => {
            let heads = (n(kv_heads) / tp).max(1);
            (resolved.kv.bytes(heads * n(key_dim)), resolved.kv.bytes(heads * n(value_dim)), 0, 0)
        }
        AttentionKind::Latent { rank, rope_dim, indexer, .. } => {
            let plain = resolved.kv.bytes(n(rank) + n(rope_dim));
            let Some(indexer) = indexer else { return (plain, 0, 0, 0) };
            let keys = n(indexer.dim) + n(indexer.dim) / 128 * 4;
            let blackwell = resolved.chip.capability.is_some_and(|capability| capability.0 >= 10);
            let packs = resolved.kv == KvFormat::Plain(DType::F8E4M3) && !blackwell && !resolved.chip.rocm;
            let wide = if packs { n(rank) + n(rank) / 128 * 4 + 2 * n(rope_dim) } else { 0 };
            (plain, 0, keys, wide)
        }
    }
}

/// What a drafter with a cache of its own adds per token: draft layers like the model's.
///
/// SGLang 0.5.14 to 0.5.23, `srt/model_executor/pool_configurator.py`; before, its cache came out of what the fraction leaves.
fn drafted(model: &Model, resolved: &Resolved, cells: &Cells) -> u64 {
    let Some(draft) = resolved.draft.as_ref().filter(|draft| draft.keeps_cache()) else { return 0 };
    if resolved.version < at(5, 14) {
        return 0;
    }
    let layers = draft_layers(model, draft);
    cells.charged.saturating_mul(layers).checked_div(cells.full_layers).unwrap_or(0)
}

/// Layers of the drafter.
pub fn draft_layers(model: &Model, draft: &Draft) -> u64 {
    match (draft.own_model, draft.keeps_cache()) {
        (_, false) => 0,
        (true, true) => 1,
        (false, true) => u64::from(model.draft_layers.max(1)),
    }
}

/// DeepSeek-V4: windows of all layers, compressed entries, and states in rings, per token of the full pool.
///
/// SGLang 0.5.12, `srt/model_executor/pool_configurator.py`, `DSV4PoolConfigurator._get_bytes_per_full_token`.
fn compressed(model: &Model, resolved: &Resolved, range: &Range<u32>) -> f64 {
    let drafting = resolved.draft.is_some();
    let (ring4, ring128) = if drafting { (16.0, 256.0) } else { (8.0, 128.0) };
    let ratio = resolved.swa_ratio;
    let mut total = 0.0;
    let mut layers = 0.0;
    for layer in model.layers.get(range.start as usize..range.end as usize).unwrap_or_default() {
        let Mixer::Attention(attention) = &layer.mixer else { continue };
        let AttentionKind::Latent { rank, rope_dim, indexer, compress, .. } = attention.kind else { continue };
        let window = match attention.span {
            Span::Window { tokens } | Span::Chunk { tokens } => f64::from(tokens.max(1)),
            Span::Summary { window } => f64::from(window.max(1)),
            Span::Full | Span::Cross => 128.0,
        };
        layers += 1.0;
        let head = f64::from(rank) + f64::from(rope_dim);
        let row = f64::from(rank) + 2.0 * f64::from(rope_dim) + 8.0;
        total += ratio * row;
        match compress {
            0 | 1 => {}
            4 => {
                let dim = indexer.map_or(128.0, |indexer| f64::from(indexer.dim));
                let states = ring4 / window * (16.0 * head + 16.0 * dim);
                total += row / 4.0 + (dim + (dim / 128.0).floor() * 4.0) / 4.0 + ratio * states;
            }
            other => total += row / f64::from(other) + ratio * ring128 / window * 8.0 * head,
        }
    }
    if drafting && layers > 0.0 { total * (layers + 1.0) / layers } else { total }
}

/// Adds up a stage's states per sequence.
///
/// SGLang 0.5.23, `srt/configs/mamba_utils.py`: convolutions in bfloat16, states in float32 unless a variable or a flag says
/// otherwise; groups of B and C are made at least as many as ranks.
///
/// # Errors
/// [`Error::Uneven`] where heads do not divide.
pub fn state(model: &Model, options: &Options, range: &Range<u32>) -> Result<State, Error> {
    let conv_dtype = options.mamba_conv_dtype.unwrap_or(DType::BF16);
    let ssm_dtype = options.mamba_ssm_dtype.unwrap_or(DType::F32);
    let mut state = State::default();
    for layer in model.layers.get(range.start as usize..range.end as usize).unwrap_or_default() {
        let Mixer::Recurrent(recurrent) = &layer.mixer else { continue };
        let (conv, ssm) = numbers(recurrent, u64::from(options.attention_tp()).max(1))?;
        state.layers += 1;
        state.conv = state.conv.saturating_add(conv_dtype.bytes_of(conv));
        state.ssm = state.ssm.saturating_add(ssm_dtype.bytes_of(ssm));
    }
    Ok(state)
}

/// Numbers of one layer's convolution and state on a rank.
fn numbers(recurrent: &Recurrent, tp: u64) -> Result<(u64, u64), Error> {
    let n = |number: u32| u64::from(number);
    let taps = |kernel: u32| n(kernel).saturating_sub(1);
    let share = |count: u64, what: &'static str| {
        let even = count.is_multiple_of(tp);
        even.then_some(count / tp).ok_or(Error::Uneven { what, count, ranks: tp, kind: "tensor-parallel" })
    };
    Ok(match *recurrent {
        Recurrent::Mamba1 { inner, state, kernel } => {
            let inner = share(n(inner), "recurrent channels")?;
            (inner * taps(kernel), inner * n(state))
        }
        Recurrent::Mamba2 { heads, head_dim, state, groups, kernel } => {
            let groups = if n(groups).is_multiple_of(tp) { n(groups) } else { tp };
            let width = share(n(heads) * n(head_dim) + 2 * groups * n(state), "recurrent channels")?;
            (width * taps(kernel), share(n(heads), "recurrent heads")? * n(head_dim) * n(state))
        }
        Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, kernel } => {
            let groups = if n(key_heads).is_multiple_of(tp) { n(key_heads) } else { tp };
            let width = share(2 * groups * n(key_dim) + n(value_heads) * n(value_dim), "recurrent channels")?;
            (width * taps(kernel), share(n(value_heads), "recurrent heads")? * n(key_dim) * n(value_dim))
        }
        Recurrent::KimiDelta { heads, key_dim, value_dim, kernel } => {
            let heads = share(n(heads), "recurrent heads")?;
            (heads * (2 * n(key_dim) + n(value_dim)) * taps(kernel), heads * n(key_dim) * n(value_dim))
        }
        Recurrent::Lightning { heads, head_dim } => {
            (0, share(n(heads), "recurrent heads")? * n(head_dim) * n(head_dim))
        }
        Recurrent::ShortConv { width, kernel } => (share(n(width), "recurrent channels")? * taps(kernel), 0),
    })
}

/// Layers of each stage: equal shares, what is left over to the last stages.
///
/// SGLang 0.5.9, `srt/distributed/utils.py`, `get_pp_indices`.
///
/// # Errors
/// [`Error::Uneven`] for more stages than layers; [`Error::Request`] for a partition that does not fit.
pub fn stages(count: u32, options: &Options) -> Result<Vec<Range<u32>>, Error> {
    let pp = options.pp;
    if pp > count {
        return Err(Error::Uneven { what: "layers", count: u64::from(count), ranks: u64::from(pp), kind: "pipeline" });
    }
    let shares = match &options.layer_partition {
        Some(shares) if pp > 1 => {
            let sum: u64 = shares.iter().map(|share| u64::from(*share)).sum();
            if shares.len() != pp as usize || sum != u64::from(count) {
                return Err(Error::Request(format!(
                    "SGLANG_PP_LAYER_PARTITION of {NAME} gives {shares:?}, which is not {count} layers over {pp} stages"
                )));
            }
            shares.clone()
        }
        Some(_) | None => (0..pp).map(|stage| count / pp + u32::from(stage >= pp - count % pp)).collect(),
    };
    let mut start = 0;
    Ok(shares
        .into_iter()
        .map(|share| {
            let stage = start..start + share;
            start += share;
            stage
        })
        .collect())
}
