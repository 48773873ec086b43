//! What is the longest context that fits, and what would make a launch fit?

use plimsoll_facts::gguf::GgmlType;
use plimsoll_units::Bytes;

use super::assess::Case;
use super::buffer::Where;
use super::layout::{Laid, Trial};
use super::options::{GpuLayers, Options, experts_pattern};
use super::weights::Override;
use crate::{Card, Refusal, Remedy};

/// Contexts beyond this are not looked for.
const MAX_CONTEXT: u64 = 1 << 26;

/// Whether a trial fits on every GPU, at the middle of every interval.
fn fits(case: &Case<'_>, trial: &Trial) -> Option<Laid> {
    let laid = case.site.lay(trial, false).ok()?;
    let beside = super::beside::redrafted(case, trial);
    let fits = |(at, card): (usize, &&Card)| case.ledger(&beside, &laid, at).total() <= card.total.bytes;
    case.site.cards.iter().enumerate().all(fits).then_some(laid)
}

/// What a trial leaves free on the scarcest GPU, negative when it is too much; `None` when the engine refuses it.
fn left(case: &Case<'_>, trial: &Trial) -> Option<i64> {
    let laid = case.site.lay(trial, false).ok()?;
    let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
    let beside = super::beside::redrafted(case, trial);
    let left = |(at, card): (usize, &&Card)| signed(card.total.bytes) - signed(case.ledger(&beside, &laid, at).total());
    case.site.cards.iter().enumerate().map(left).min()
}

/// Returns the longest context of one sequence with which a trial fits; zero when none does.
///
/// Memory grows all but linearly with the context, so a line between two lengths all but meets the limit.
pub fn longest(case: &Case<'_>, trial: &Trial) -> u64 {
    if case.site.cards.is_empty() {
        return case.site.h.ctx_train;
    }
    let streams = if trial.asked.unified { 1 } else { trial.asked.sequences.max(1) };
    let (step, most) = (256 * streams, MAX_CONTEXT / 256);
    let at = |steps: u64| left(case, &with_context(trial, steps.saturating_mul(step)));
    let Some(first) = at(1).filter(|left| *left >= 0) else { return 0 };
    let (mut low, mut low_left) = (1, first);
    let (mut high, mut high_left) = (most + 1, None);
    let mut next = (case.site.h.ctx_train / 256).clamp(2, most);
    while high - low > 1 {
        let found = at(next).unwrap_or(i64::MIN / 2);
        if found >= 0 {
            // Where no longer length is known to be too long, the line is drawn on.
            let slope = (low_left - found) as f64 / (next - low).max(1) as f64;
            (low, low_left) = (next, found);
            let on = if slope > 0.0 { (found as f64 / slope).min(1e9) as u64 } else { low };
            next = if high_left.is_none() { low.saturating_add(on.max(1)) } else { low };
        } else {
            (high, high_left) = (next, Some(found));
        }
        if let Some(high_left) = high_left {
            let part = low_left as f64 / (low_left as f64 - high_left as f64);
            next = low + ((high - low) as f64 * part) as u64;
        }
        next = next.clamp(low + 1, (high - 1).max(low + 1));
    }
    low.saturating_mul(256)
}

/// Returns what of a context the program serves: a slot of the server never takes more than the model was trained for
/// (`tools/server/server-context.cpp`, `n_ctx_slot`).
pub fn served(case: &Case<'_>, tokens: u64) -> u64 {
    if case.options.server { tokens.min(case.site.h.ctx_train.max(1)) } else { tokens }
}

/// What would help a launch that needs too much.
pub fn remedies(case: &Case<'_>) -> Vec<Remedy> {
    let trial = &case.trial;
    let mut found = Vec::new();
    let context = longest(case, trial);
    if context > 0 {
        let streams = if trial.asked.unified { 1 } else { trial.asked.sequences.max(1) };
        let total = context.saturating_mul(streams);
        let shorter = with_context(trial, total);
        found.push(remedy(
            case,
            &shorter,
            format!("a context of {total} tokens"),
            vec!["-c".to_owned(), total.to_string()],
            "shorter prompts and answers",
        ));
    }
    found.extend(cache_remedies(case, trial));
    found.extend(fitted(case));
    if case.site.h.experts > 0
        && let Some(count) = fewest_cpu_experts(case, trial)
    {
        let moved = with_cpu_experts(trial, count);
        let flags = vec!["--n-cpu-moe".to_owned(), count.to_string()];
        found.push(remedy(
            case,
            &moved,
            format!("experts of {count} layers in host memory"),
            flags,
            "slower generation",
        ));
    }
    if let Some(layers) = most_layers(case, trial) {
        let fewer = Trial { layers: Some(layers), ..trial.clone() };
        let flags = vec!["-ngl".to_owned(), layers.to_string()];
        let cost = "the other layers run on the processor: several times slower";
        found.push(remedy(case, &fewer, format!("{layers} layers on the GPU"), flags, cost));
    }
    // What does not help alone comes last.
    found.sort_by_key(|remedy| !remedy.fits);
    found
}

/// Says what leaves more room to a launch that fits by a little.
pub fn borderline(case: &Case<'_>, laid: &Laid) -> String {
    let mut ways = vec![format!("-c {}", (laid.context.tokens / 2).max(256))];
    if case.trial.asked.kind_k == GgmlType::F16 && case.trial.asked.kind_v == GgmlType::F16 {
        ways.push("-ctk q8_0 -ctv q8_0".to_owned());
    }
    if case.site.rules.fits && case.options.layers == GpuLayers::Auto {
        ways.push("-fitt 2048 without -ngl, which leaves 2 GiB free in place of 1".to_owned());
    }
    format!("borderline: {} or a file of a smaller type leave more room", ways.join(", "))
}

/// The layers left to the engine, where `-ngl` keeps it from fitting them.
fn fitted(case: &Case<'_>) -> Option<Remedy> {
    if !case.site.rules.fits || case.options.layers == GpuLayers::Auto {
        return None;
    }
    let options = Options { layers: GpuLayers::Auto, ..case.options.clone() };
    let options = Options { fit: super::options::Fit { on: true, ..options.fit.clone() }, ..options };
    let sizes: Vec<i64> = case.beside.iter().map(super::ledger::Beside::fitted).collect();
    let open = Trial { layers: None, ..case.trial.clone() };
    let (trial, _) = super::fit::fit(&case.site, &options, &open, &sizes);
    let cost = "layers or experts that do not fit run on the processor: slower";
    let found = remedy(
        case,
        &trial,
        "-ngl left out: --fit places what fits".to_owned(),
        ["-ngl", "auto"].map(str::to_owned).to_vec(),
        cost,
    );
    found.fits.then_some(found)
}

/// A smaller cache.
pub fn cache_remedies(case: &Case<'_>, trial: &Trial) -> Vec<Remedy> {
    if trial.asked.kind_k != GgmlType::F16 || trial.asked.kind_v != GgmlType::F16 {
        return Vec::new();
    }
    let asked = super::context::Asked { kind_k: GgmlType::Q8_0, kind_v: GgmlType::Q8_0, ..trial.asked };
    let smaller = Trial { asked, ..trial.clone() };
    if case.site.lay(&smaller, false).is_err() {
        return Vec::new();
    }
    let flags = ["-ctk", "q8_0", "-ctv", "q8_0"].map(str::to_owned).to_vec();
    vec![remedy(case, &smaller, "an 8-bit cache".to_owned(), flags, "a little accuracy in long contexts")]
}

fn with_context(trial: &Trial, tokens: u64) -> Trial {
    Trial { asked: super::context::Asked { tokens: Some(tokens), ..trial.asked }, ..trial.clone() }
}

fn with_cpu_experts(trial: &Trial, count: u64) -> Trial {
    let mut moved = trial.clone();
    for layer in 0..count {
        let pattern = format!(r"blk\.{layer}{}", super::options::EXPERTS);
        if let Ok(pattern) = regex_lite::Regex::new(&pattern) {
            moved.overrides.push(Override { pattern, to: Where::Host });
        }
    }
    moved
}

/// The fewest layers whose experts have to leave the GPU; `None` when even all are not enough.
fn fewest_cpu_experts(case: &Case<'_>, trial: &Trial) -> Option<u64> {
    let all = case.site.h.layers.len() as u64;
    let mut every = trial.clone();
    every.overrides.push(Override { pattern: experts_pattern().clone(), to: Where::Host });
    fits(case, &every)?;
    let (mut low, mut high) = (0, all);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(case, &with_cpu_experts(trial, middle)).is_some() { high = middle } else { low = middle }
    }
    Some(high)
}

/// The most layers on GPUs with which a trial fits; `None` when not even one does.
fn most_layers(case: &Case<'_>, trial: &Trial) -> Option<u64> {
    let all = case.site.h.layers.len() as u64 + 1;
    let at = |layers: u64| Trial { layers: Some(layers), ..trial.clone() };
    let (mut low, mut high) = (0, all.min(trial.layers.unwrap_or(all)));
    fits(case, &at(low))?;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(case, &at(middle)).is_some() { low = middle } else { high = middle }
    }
    Some(low)
}

fn remedy(case: &Case<'_>, trial: &Trial, change: String, flags: Vec<String>, cost: &str) -> Remedy {
    let laid = fits(case, trial);
    let tokens = laid.as_ref().map(|laid| laid.context.cells.saturating_mul(laid.context.streams));
    let tokens = tokens.or(trial.asked.tokens).unwrap_or(0);
    Remedy {
        change,
        flags,
        fits: laid.is_some(),
        kv_tokens: tokens,
        max_context_tokens: served(case, longest(case, trial)),
        cost: cost.to_owned(),
    }
}

/// What the engine says when a buffer cannot be allocated: the first one for which too little is free, in the order in
/// which they are taken (`src/llama.cpp`, model before context; `src/llama-context.cpp`, cache before compute buffer).
pub fn refusal(laid: &Laid, at: usize, free: Bytes) -> Refusal {
    let (model, cache) = (laid.placed.sums.device(at), laid.cache.sums().device(at));
    let all = laid.device(at);
    let first = if model > free.get() {
        model
    } else if model.saturating_add(cache) > free.get() {
        cache
    } else {
        all.get().saturating_sub(model.saturating_add(cache))
    };
    Refusal {
        message: format!(
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating {:.2} MiB on device {at}: cudaMalloc failed: out of memory",
            Bytes::new(first).as_mib()
        ),
        needed: Some(all),
        estimated_max_len: None,
    }
}
