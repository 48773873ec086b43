//! What does the scheduler expect before it starts llama-server? Generation C: the file and a plain cache, and the batch
//! that still leaves room.
//!
//! Source: Ollama at fb3076099 (0.33), `llm/llama_server.go`, `PredictServerVRAM`; `server/sched.go`,
//! `automaticGenerationBatch`, `bestSingleGPUFit`.

use super::sizes::Sizes;

/// Returns the predicted bytes: the file, and keys and values of every layer at 16 bits.
pub fn predicted(sizes: &Sizes, context: u64) -> u64 {
    let heads_kv = sizes.heads_kv_min().max(1);
    let width = sizes.embedding.checked_div(sizes.heads_max()).unwrap_or(0);
    let factors = [2, sizes.layers.len() as u64, heads_kv, width, context, 2];
    sizes.file.saturating_add(factors.into_iter().fold(1, u64::saturating_mul))
}

/// Whether fused attention is ruled out on a CUDA card, and its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfused {
    /// Whether it is.
    pub disabled: bool,
    /// Whether a card has no more than 8 GiB.
    pub small_card: bool,
}

/// Returns the batch of a generation model when `num_batch` is not set.
pub fn batch(context: u64, predicted: u64, available: u64, unfused: Unfused) -> u64 {
    if unfused.disabled {
        return if context > 4096 && unfused.small_card { 256 } else { 512 };
    }
    let mut batch = if context > 32_768 {
        2048
    } else if context > 4096 {
        1024
    } else {
        512
    };
    while batch > 512 && !leaves_room(batch, predicted, available) {
        batch = if batch > 1024 { 1024 } else { 512 };
    }
    batch
}

fn leaves_room(batch: u64, predicted: u64, available: u64) -> bool {
    if predicted == 0 || available == 0 {
        return true;
    }
    let of = |percent: u64| u64::try_from(u128::from(available) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    let headroom = if batch >= 2048 { of(60) } else { of(75) };
    predicted <= of(80) && predicted <= headroom && surcharge(batch) <= of(80) - predicted
}

/// Returns what a batch is taken to need beside the prediction.
pub const fn surcharge(batch: u64) -> u64 {
    match batch {
        2048.. => 2 << 30,
        1024.. => 768 << 20,
        _ => 0,
    }
}

/// Returns the one GPU that the model is put on alone: the freest that the prediction fills to four fifths at most.
pub fn single(predicted: u64, free: &[u64]) -> Option<usize> {
    let fits = |at: &usize| u128::from(predicted) <= u128::from(free[*at]) * 80 / 100;
    (0..free.len()).filter(fits).max_by_key(|at| (free[*at], std::cmp::Reverse(*at)))
}
