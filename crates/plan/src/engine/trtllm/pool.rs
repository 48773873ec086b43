//! How large is the KV cache? Bytes per token, the budget of a rank, and its blocks by backend and release.

use plimsoll_facts::model::{AttentionKind, Layer, Mixer, Span};
use plimsoll_units::{Bytes, Estimate, Source};

use super::blocks::{self, Shape};
use super::launch::Launch;
use super::rules::{Backend, MaxTokens};
use super::weights::stage_layers;
use crate::growth::Steps;
use crate::interval::{self, Scale};
use crate::{Item, KvGroup, Ledger};

/// Layers that have one window and one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The window; the longest sequence for full attention.
    pub window: u64,
    /// Layers with a cache.
    pub layers: u32,
    /// Bytes of one token in all of them on one rank.
    pub bytes_per_token: u64,
    /// The same as the profile run's estimate counts it (1.0 to 1.3: heads × width ÷ tp without rounding a rank's heads
    /// up to one).
    pub estimated: u64,
}

/// The pool of one rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// What the rank may spend, with its interval.
    pub budget: Estimate,
    /// What was free before the pool was taken.
    pub free: Bytes,
    /// Blocks of each group.
    pub blocks: Vec<u64>,
    /// Blocks of each group in host memory.
    pub host_blocks: Vec<u64>,
    /// The temporary pool of the profile run.
    pub temporary: Bytes,
    /// Tokens as the estimate counts them, before they are cut into blocks.
    pub tokens: u64,
}

/// Returns the groups of a pipeline stage, widest window first.
pub fn groups(launch: &Launch<'_>, stage: u32) -> Vec<Group> {
    let range = stage_layers(launch.model.layers.len() as u32, launch.parallel.pp, stage);
    let mut groups: Vec<Group> = Vec::new();
    for index in range {
        let Some(layer) = launch.model.layers.get(index as usize) else { continue };
        let Some((bytes_per_token, estimated)) = layer_bytes(launch, layer) else { continue };
        let window = window(launch, layer, index);
        match groups.iter_mut().find(|group| group.window == window) {
            Some(group) => {
                group.layers += 1;
                group.bytes_per_token = group.bytes_per_token.saturating_add(bytes_per_token);
                group.estimated = group.estimated.saturating_add(estimated);
            }
            None => groups.push(Group { window, layers: 1, bytes_per_token, estimated }),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.window));
    groups
}

/// The window of a layer: asked for (tiled over the layers), from the configuration where the release derives it, or the
/// longest sequence.
fn window(launch: &Launch<'_>, layer: &Layer, index: u32) -> u64 {
    let asked = &launch.options.max_attention_window;
    if !asked.is_empty() {
        return asked[index as usize % asked.len()].min(launch.runtime_seq);
    }
    let Mixer::Attention(attention) = &layer.mixer else { return launch.runtime_seq };
    match attention.span {
        Span::Window { tokens } | Span::Chunk { tokens } if launch.rules.windows_from_config => {
            u64::from(tokens).min(launch.runtime_seq)
        }
        Span::Window { .. } | Span::Chunk { .. } | Span::Full | Span::Summary { .. } | Span::Cross => {
            launch.runtime_seq
        }
    }
}

/// The bytes of one token in one layer on a rank, as the manager allocates and as the estimate counts them.
fn layer_bytes(launch: &Launch<'_>, layer: &Layer) -> Option<(u64, u64)> {
    let Mixer::Attention(attention) = &layer.mixer else { return None };
    if attention.shares_cache_of.is_some() {
        return None;
    }
    let t = launch.attention_ranks();
    Some(match &attention.kind {
        AttentionKind::Grouped { kv_heads, key_dim, value_dim, .. } => {
            let width = u64::from(*key_dim) + u64::from(*value_dim);
            let here = u64::from(*kv_heads).div_ceil(t) * width;
            let estimated = u64::from(*kv_heads) * width / t;
            (launch.kv_dtype.bytes_of(here), launch.kv_dtype.bytes_of(estimated))
        }
        AttentionKind::Latent { rank, rope_dim, indexer, compress, .. } => {
            let latent =
                launch.kv_dtype.bytes_of(u64::from(*rank) + u64::from(*rope_dim)) / u64::from(*compress).max(1);
            // The indexer keeps one 8-bit key and an fp32 scale per 128 numbers beside the latent.
            let key = indexer.map_or(0, |indexer| u64::from(indexer.dim) + 4 * u64::from(indexer.dim).div_ceil(128));
            (latent + key, latent + key)
        }
    })
}

/// Returns the pool of a rank whose ledger holds everything but the cache.
pub fn pool(launch: &Launch<'_>, groups: &[Group], fixed: &Ledger) -> Pool {
    let (low, free, high) = free(launch, fixed);
    let sum = |pick: fn(&Group) -> u64| groups.iter().map(pick).fold(0, u64::saturating_add);
    let (per_token, estimated) = (sum(|g| g.bytes_per_token), sum(|g| g.estimated).max(1));
    let asked = |budget: u64| -> u64 {
        let capped = launch.options.max_gpu_total_bytes.map_or(budget, |cap| budget.min(cap));
        let Some(tokens) = launch.options.max_tokens else { return capped };
        let bytes = tokens.saturating_mul(if launch.backend == Backend::PyTorch { estimated } else { per_token });
        let alone = launch.backend == Backend::TensorRt
            && launch.rules.max_tokens == MaxTokens::AloneUnlessFractionGiven
            && launch.options.fraction.is_none();
        if alone { bytes } else { capped.min(bytes) }
    };
    let part = |free: Bytes| (free.as_f64() * launch.fraction).floor() as u64;
    let budget = match launch.given.kv_budget {
        Some(given) => Estimate::exact(given, Source::Given),
        None => Estimate::between(
            Bytes::new(asked(part(low))),
            Bytes::new(asked(part(free))),
            Bytes::new(asked(part(high))),
            if launch.given.kv_free.is_some() { Source::Given } else { budget_source(launch.backend) },
        ),
    };
    let temporary = temporary_tokens(launch, fixed, estimated).saturating_mul(estimated);
    let (blocks, tokens) = match launch.backend {
        Backend::TensorRt => engine_blocks(launch, groups, budget.bytes.get()),
        Backend::PyTorch => torch_blocks(launch, groups, budget.bytes.get(), estimated, fixed),
    };
    let host_blocks = blocks::shares(launch.options.host_cache_size, &weights(groups))
        .iter()
        .zip(groups)
        .map(|(bytes, group)| blocks::tokens(*bytes, group.bytes_per_token) / launch.block)
        .collect();
    Pool { budget, free, blocks, host_blocks, temporary: Bytes::new(temporary), tokens }
}

fn weights(groups: &[Group]) -> Vec<(u64, u64)> {
    groups.iter().map(|group| (group.window, group.bytes_per_token)).collect()
}

fn budget_source(backend: Backend) -> Source {
    let rule = match backend {
        Backend::TensorRt => "kvCacheManager.cpp, calculateMaxNumBlocks: (driver free + pool free) × fraction",
        Backend::PyTorch => "pyexecutor/_util.py, _cal_max_memory: (total − peak + temporary pool) × fraction",
    };
    Source::Engine(format!("{rule}{}", interval::cited(group(backend))).into())
}

/// Free memory before the cache is taken: low, best, high.
fn free(launch: &Launch<'_>, fixed: &Ledger) -> (Bytes, Bytes, Bytes) {
    if let Some(given) = launch.given.kv_free {
        return (given, given, given);
    }
    let total = &launch.card.total;
    let best = total.bytes.as_f64() - fixed.total().as_f64();
    let (low, high) = scale(total, fixed).ends(best, super::NAME, group(launch.backend));
    (Bytes::from_f64(low), Bytes::from_f64(best), Bytes::from_f64(high))
}

/// The doubt about what is free: that of every line, and of the card's own size.
fn scale(total: &Estimate, fixed: &Ledger) -> Scale {
    // A card that is larger leaves more: its sides are turned round.
    let room = Estimate { low: Bytes::ZERO, bytes: total.high.saturating_sub(total.bytes), ..total.clone() };
    let room = Estimate { high: room.bytes + total.bytes.saturating_sub(total.low), ..room };
    Scale::of(fixed.entries.iter().map(|entry| &entry.size).chain([&room]))
}

/// The group of launches by which the budget's interval is measured.
fn group(backend: Backend) -> &'static str {
    match backend {
        Backend::TensorRt => "compiled engines",
        Backend::PyTorch => "PyTorch backend",
    }
}

/// The C++ manager: tokens of the budget, then whole blocks, the last one partly paid for.
fn engine_blocks(launch: &Launch<'_>, groups: &[Group], budget: u64) -> (Vec<u64>, u64) {
    let mut all = 0;
    let blocks = blocks::shares(budget, &weights(groups))
        .iter()
        .zip(groups)
        .map(|(bytes, group)| {
            let bytes = if groups.len() == 1 { budget } else { *bytes };
            let tokens = blocks::tokens(bytes, group.bytes_per_token);
            all = tokens.max(all);
            blocks::pool(tokens, launch.block, launch.rules.rounding)
        })
        .collect();
    (blocks, all)
}

/// The Python manager: the budget becomes tokens by the estimate's bytes per token, which the real bytes per token and
/// the memory that is free by then may cut again.
fn torch_blocks(launch: &Launch<'_>, groups: &[Group], budget: u64, estimated: u64, fixed: &Ledger) -> (Vec<u64>, u64) {
    if groups.len() > 1 {
        return engine_blocks(launch, groups, budget);
    }
    let Some(group) = groups.first() else { return (Vec::new(), 0) };
    let tokens = blocks::tokens(budget, estimated);
    let real = if group.bytes_per_token > estimated && launch.given.kv_budget.is_none() {
        let resting = fixed.total().saturating_sub(fixed.bytes(Item::Activation));
        let free_now = launch.given.kv_free.unwrap_or_else(|| launch.card.total.bytes.saturating_sub(resting));
        tokens.min(blocks::tokens((free_now.as_f64() * launch.fraction) as u64, group.bytes_per_token))
    } else {
        tokens
    };
    (vec![blocks::pool(real, launch.block, launch.rules.rounding)], real)
}

/// Tokens of the pool that the profile run works in (`_get_token_num_for_estimation`).
///
/// Dummy prompts fill `max_num_tokens`, each as long as a sequence may be less one, each with one or two more tokens and
/// in blocks of its own: 8192 tokens and sequences of 8192 in 1.2 take ⌈8193 ÷ 32⌉ + 1 = 258 blocks. From 1.3 the pool
/// also holds a warm-up of the largest graph and one block per slot: 2048 blocks by default.
pub fn temporary_tokens(launch: &Launch<'_>, fixed: &Ledger, estimated: u64) -> u64 {
    if launch.backend == Backend::TensorRt {
        return 0;
    }
    let drafted = launch.options.max_draft_len;
    let ahead = if drafted > 0 { 3 * drafted - 1 } else { 0 };
    let extra = if launch.options.no_overlap { 1 } else { launch.rules.extra_dummy_tokens } + ahead;
    let prompt = launch.num_tokens.min(launch.seq.saturating_sub(1)).max(1);
    let (mut full, mut rest) = (launch.num_tokens / prompt, launch.num_tokens % prompt);
    if launch.rules.dummy_last_whole && rest > 0 {
        (full, rest) = (full + 1, 0);
    }
    let mut blocks = full.saturating_mul((prompt + extra).div_ceil(launch.block));
    if rest > 0 {
        blocks = blocks.saturating_add((rest + extra).div_ceil(launch.block));
    }
    if launch.rules.dummy_covers_graphs {
        let warm_up = (launch.runtime_seq + 1).div_ceil(launch.block) + launch.graph_batch.max(1) - 1;
        blocks = blocks.max(warm_up).max(launch.batch);
    }
    let tokens = blocks.saturating_mul(launch.block).saturating_mul(launch.beams);
    if !launch.rules.dummy_covers_graphs {
        return tokens;
    }
    let resting = fixed.total().saturating_sub(fixed.bytes(Item::Activation));
    let free = launch.card.total.bytes.saturating_sub(resting).as_f64() * launch.fraction;
    tokens.min(blocks::tokens(free as u64, estimated) / launch.block * launch.block)
}

/// Returns the shape of a sequence in a group.
pub fn shape(launch: &Launch<'_>, group: Group) -> Shape {
    Shape {
        tokens_per_block: launch.block,
        beams: launch.beams,
        window: group.window,
        sink: launch.options.sink_token_length,
    }
}

/// Returns how a request's blocks follow its length; at the longest length they are [`blocks_per_request`].
pub fn steps(launch: &Launch<'_>, group: Group) -> Steps {
    let output = launch.runtime_seq.saturating_sub(launch.input.min(launch.runtime_seq.saturating_sub(1)));
    Steps::Shaped { shape: shape(launch, group), output, ahead: launch.runtime_seq.saturating_sub(launch.seq) }
}

/// Returns the blocks that a request of the longest length reserves in a group until it is done (`GUARANTEED_NO_EVICT`).
pub fn blocks_per_request(launch: &Launch<'_>, group: Group) -> u64 {
    let output = launch.runtime_seq.saturating_sub(launch.input.min(launch.runtime_seq.saturating_sub(1)));
    if launch.beams <= 1 {
        shape(launch, group).blocks(launch.runtime_seq, 0)
    } else {
        shape(launch, group).blocks(launch.runtime_seq - output, output)
    }
}

/// Returns the group as the plan shows it.
pub fn shown(launch: &Launch<'_>, group: Group) -> KvGroup {
    let latent = launch.model.layers.iter().any(|layer| {
        matches!(&layer.mixer, Mixer::Attention(attention) if matches!(attention.kind, AttentionKind::Latent { .. }))
    });
    let kind = match (group.window < launch.runtime_seq, latent) {
        (true, _) => format!("sliding:{}", group.window),
        (false, true) => "mla".to_owned(),
        (false, false) => "full".to_owned(),
    };
    KvGroup {
        kind,
        layers: group.layers,
        block_tokens: launch.block,
        page_bytes: group.bytes_per_token.saturating_mul(launch.block) / u64::from(group.layers.max(1)),
        blocks_per_request: blocks_per_request(launch, group),
    }
}
