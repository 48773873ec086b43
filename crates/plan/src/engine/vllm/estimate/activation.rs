//! How high does the profile run peak above the weights? Tensor lifetimes of one dummy step, read from vLLM's source.

use plimsoll_facts::model::{AttentionKind, Ffn, Mixer, Recurrent};
use plimsoll_facts::quant::Scheme;
use plimsoll_facts::tensor::Role;
use plimsoll_units::{Bytes, Estimate, Source};

use super::Launch;
use super::fitted::{self, Spread};
use crate::{Entry, Formula, Item, Version};

/// Bytes that the peak is made of. What is resident adds to whichever of the transient peaks is highest.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    /// Hidden states, one layer's temporaries.
    forward: f64,
    /// Logits and what the sampler makes of them; zero where no sampler runs.
    sampler: f64,
    /// The tower's own forward pass.
    tower: f64,
    /// Expert workspaces, indexer workspaces, received hidden states, cuBLAS workspaces.
    resident: f64,
    /// Dummy images and the tower's output, which stay until the step is over.
    images: f64,
}

impl Peak {
    /// Returns the whole.
    fn total(&self) -> f64 {
        self.resident + (self.images + self.forward.max(self.sampler)).max(self.tower)
    }
}

/// Estimates the peak of the profile run.
pub(super) fn entry(launch: &Launch<'_>) -> Entry {
    let rows = rows(launch);
    let per_logit = bytes_per_logit(launch);
    let peak = peak(launch, rows, per_logit);
    let total = peak.total();
    let spread = spread(launch, &peak);
    let formula = formula(launch, &peak, rows, per_logit);
    let read = format!("tensor lifetimes in vLLM {}'s profile run (v1/worker, v1/sample)", launch.version);
    Entry {
        item: Item::Activation,
        size: spread.around(total, Source::Engine(format!("{read}; interval: {}", spread.source).into())),
        note: note(launch),
        formula,
    }
}

/// The formula of what is highest, in the numbers that it was worked out with.
fn formula(launch: &Launch<'_>, peak: &Peak, rows: f64, per_logit: f64) -> Formula {
    let mut values = vec![("resident", peak.resident)];
    let text = if peak.tower > peak.images + peak.forward.max(peak.sampler) {
        values.push(("tower", peak.tower));
        "resident + tower"
    } else {
        values.push(("images", peak.images));
        if peak.sampler < peak.forward {
            passed(launch, peak, &mut values)
        } else {
            sampled(launch, rows, per_logit, &mut values)
        }
    };
    Formula { text: text.into(), values }
}

/// The formula where a layer is highest: spelt out for a dense block, the layer's own sum for experts and mixers.
fn passed(launch: &Launch<'_>, peak: &Peak, values: &mut Vec<(&'static str, f64)>) -> &'static str {
    let layers = launch.layers.clone().filter_map(|at| launch.model.layers.get(at as usize));
    let dense = layers.filter(|_| launch.v1 && !eight_bit(launch)).find_map(|layer| match &layer.ffn {
        Ffn::Dense { inner, gated } if feeding(launch, &layer.ffn).transient >= peak.forward => Some((*inner, *gated)),
        Ffn::Dense { .. } | Ffn::Moe { .. } | Ffn::None => None,
    });
    let Some((inner, gated)) = dense else {
        values.push(("layer", peak.forward));
        return "resident + images + layer";
    };
    values.push(("b", width(launch)));
    values.push(("T", tokens(launch)));
    values.push(("I", inner as f64));
    values.push(("tp", f64::from(launch.parallel.tp)));
    values.push(("H", launch.model.hidden as f64));
    if gated {
        "resident + images + b × T × (3 × I / tp + 4 × H)"
    } else {
        "resident + images + b × T × (2 × I / tp + 4 × H)"
    }
}

/// The formula where the sampler is highest.
fn sampled(launch: &Launch<'_>, rows: f64, per_logit: f64, values: &mut Vec<(&'static str, f64)>) -> &'static str {
    let twice = verified(launch, rows) > rows * vocabulary(launch) * per_logit;
    values.push(("R", rows));
    values.push(("V", vocabulary(launch)));
    values.push(("per_logit", if twice { 2.0 * (width(launch) + 8.0) } else { per_logit }));
    values.push(("T", tokens(launch)));
    values.push(("H", launch.model.hidden as f64));
    values.push(("b", width(launch)));
    values.push(("workspace", workspace(launch)));
    if sorted(launch, rows) > 0.0 {
        values.push(("SM", multiprocessors(launch)));
        return "resident + images + R × V × per_logit + (T + R) × H × b + min(SM, R) × V × 4 + workspace";
    }
    "resident + images + R × V × per_logit + (T + R) × H × b + workspace"
}

/// Buffers of the kernel that finds the largest logits: one row for every multiprocessor.
fn sorted(launch: &Launch<'_>, rows: f64) -> f64 {
    let triton = launch.v1 && !launch.runner_v2 && launch.version >= Version::new(0, 17, 0) && rows >= 8.0;
    if triton { multiprocessors(launch).min(rows) * vocabulary(launch) * 4.0 } else { 0.0 }
}

/// Logits while drafts are verified.
fn verified(launch: &Launch<'_>, rows: f64) -> f64 {
    let twice = launch.v1 && launch.speculative_tokens > 0;
    if twice { 2.0 * rows * vocabulary(launch) * (width(launch) + 8.0) } else { 0.0 }
}

/// Whether a launch has what few logged launches have: towers that run, latent or recurrent layers, unified memory.
pub(super) fn unusual(launch: &Launch<'_>) -> bool {
    let sees = launch.model.tower.is_some() && !launch.multimodal.language_model_only;
    sees || latent_or_recurrent(launch) || launch.card.unified
}

fn latent_or_recurrent(launch: &Launch<'_>) -> bool {
    launch.model.layers.iter().any(|layer| match &layer.mixer {
        Mixer::Recurrent(_) => true,
        Mixer::Attention(attention) => matches!(attention.kind, AttentionKind::Latent { .. }),
        Mixer::None => false,
    })
}

/// What the interval was measured on, by what dominates.
fn spread(launch: &Launch<'_>, peak: &Peak) -> Spread {
    let sees = peak.images > 0.0 || (launch.model.tower.is_some() && !launch.v1);
    if sees {
        fitted::ACTIVATION_TOWER
    } else if latent_or_recurrent(launch) || launch.card.unified {
        fitted::ACTIVATION_UNUSUAL
    } else if !launch.v1 {
        fitted::ACTIVATION_V0
    } else if launch.runner_v2 {
        fitted::ACTIVATION_RUNNER_V2
    } else {
        fitted::ACTIVATION_TEXT
    }
}

/// What a reader should know.
fn note(launch: &Launch<'_>) -> Option<std::borrow::Cow<'static, str>> {
    if !launch.v1 && launch.model.tower.is_some() {
        return Some("V0 profiled towers with one image per sequence; that part is not modelled".into());
    }
    if width(launch) >= 4.0 {
        return Some(
            "in fp32 one logged launch took 0.4 GiB more than the formula, as three more hidden states would".into(),
        );
    }
    (launch.v1 && !launch.enforce_eager && launch.version >= Version::new(0, 27, 0))
        .then_some("a first launch with an empty compile cache has been seen to take up to 1 GiB more".into())
}

/// Width of one activation.
fn width(launch: &Launch<'_>) -> f64 {
    launch.dtype.bits() as f64 / 8.0
}

/// Tokens of the dummy step.
fn tokens(launch: &Launch<'_>) -> f64 {
    launch.max_num_batched_tokens as f64
}

/// The vocabulary as the output projection holds it.
fn vocabulary(launch: &Launch<'_>) -> f64 {
    launch.model.vocabulary.next_multiple_of(64) as f64
}

/// Multiprocessors of the card, 108 where it is not known.
fn multiprocessors(launch: &Launch<'_>) -> f64 {
    f64::from(launch.card.sm_count.unwrap_or(108))
}

/// Rows that the sampler sees, zero where it does not run: on all but the last pipeline stage, and in V0 before 0.8.5 with
/// chunked prefill, whose dummy prompts are not finished by the step.
fn rows(launch: &Launch<'_>) -> f64 {
    let last = launch.pp_rank + 1 >= launch.parallel.pp;
    let cut = !launch.v1 && launch.chunked_prefill && launch.version < Version::new(0, 8, 5);
    if last && !cut { launch.max_num_seqs.min(launch.max_num_batched_tokens) as f64 } else { 0.0 }
}

/// Bytes alive per logit when the sampler peaks.
///
/// - Sorting (V0, and V1 before 0.17): logits in the model's dtype and in fp32, sorted values and 64-bit indices, and the
///   radix sort's scratch: 36 beside the model's dtype.
/// - From 0.17 (`v1/sample/ops/topk_topp_triton.py`, and FlashInfer's kernels alike): fp32 logits, probabilities, and one
///   more tensor of noise or masked logits: 12 beside the model's dtype; in fp32 the copy is not made.
/// - Model runner V2 profiled greedy sampling only, the logits alone, up to 0.30 (v1/worker/gpu/model_runner.py,
///   _dummy_sampler_run; 0.33.0 adds a pass with the warm-up's parameters).
fn bytes_per_logit(launch: &Launch<'_>) -> f64 {
    let b = width(launch);
    let copy = if b < 4.0 { 4.0 } else { 0.0 };
    if launch.v1 && launch.runner_v2 && launch.version < Version::new(0, 31, 0) {
        b
    } else if launch.v1 && launch.version >= Version::new(0, 17, 0) {
        b + copy + 8.0
    } else {
        b + copy + 32.0
    }
}

/// Puts the parts together.
fn peak(launch: &Launch<'_>, rows: f64, per_logit: f64) -> Peak {
    let b = width(launch);
    let (tokens, hidden, v) = (tokens(launch), launch.model.hidden as f64, vocabulary(launch));
    let mut peak = Peak::default();
    for at in launch.layers.clone() {
        if let Some(layer) = launch.model.layers.get(at as usize) {
            let (mixer, feed) = (mixing(launch, &layer.mixer), feeding(launch, &layer.ffn));
            peak.forward = peak.forward.max(mixer.transient).max(feed.transient);
            peak.resident = peak.resident.max(mixer.resident).max(feed.resident);
        }
    }
    if launch.v1 {
        peak.resident += fitted::SMALL_BUFFERS;
    } else {
        // Four streams cover the workspace where the step is compiled.
        peak.forward += workspace(launch);
    }
    if launch.parallel.pp > 1 {
        // Hidden states and residual that pass from stage to stage.
        peak.resident += 2.0 * b * tokens * hidden;
    }
    if rows > 0.0 {
        let logits = (rows * v * per_logit).max(verified(launch, rows));
        peak.sampler = logits + b * hidden * (tokens + rows) + sorted(launch, rows) + workspace(launch);
    }
    images(launch, &mut peak);
    peak
}

/// cuBLAS workspaces (PyTorch: 32 MiB on Hopper and Blackwell's data-centre chips, 8.1 MiB elsewhere).
fn workspace(launch: &Launch<'_>) -> f64 {
    let large = matches!(launch.card.compute_capability, Some((9 | 10, _)));
    if large { 32.0 * 1_048_576.0 } else { 8_519_680.0 }
}

/// What one part of a layer needs.
#[derive(Clone, Copy, Default)]
struct Need {
    transient: f64,
    resident: f64,
}

/// Temporaries of a mixer.
fn mixing(launch: &Launch<'_>, mixer: &Mixer) -> Need {
    let (b, tokens, hidden) = (width(launch), tokens(launch), launch.model.hidden as f64);
    let tp = f64::from(launch.parallel.tp.max(1));
    let stream = 3.0 * b * tokens * hidden;
    match mixer {
        Mixer::Attention(attention) => match &attention.kind {
            AttentionKind::Grouped { heads, kv_heads, key_dim, value_dim } => {
                let (query, kv) = (f64::from(*heads) / tp, (f64::from(*kv_heads) / tp).max(1.0));
                let wide = query * f64::from(*key_dim) + kv * f64::from(*key_dim + *value_dim);
                Need { transient: stream + 2.0 * b * tokens * wide, resident: 0.0 }
            }
            AttentionKind::Latent { heads, rope_dim, nope_dim, value_dim, indexer, compress, .. } => {
                let head = f64::from(*heads) / tp;
                let wide = head * f64::from(*nope_dim + *rope_dim + *value_dim);
                let up = head * f64::from(*nope_dim + *value_dim);
                // vLLM 0.30.0, v1/attention/backends/mla/indexer.py: 40 keys of 132 bytes per token of the longest sequence.
                let dense =
                    indexer.is_none() && *compress <= 1 && launch.model.model_type != "deepseek_v4" && launch.v1;
                let chunk = if dense { b * latent_chunk(launch) * up } else { 0.0 };
                let gathered =
                    if indexer.is_some() && launch.v1 { launch.max_model_len as f64 * 40.0 * 132.0 } else { 0.0 };
                Need { transient: stream + chunk + 2.0 * b * tokens * wide, resident: gathered }
            }
        },
        Mixer::Recurrent(recurrent) => {
            let wide = match recurrent {
                Recurrent::Mamba1 { inner, .. } => 2.0 * f64::from(*inner),
                Recurrent::Mamba2 { heads, head_dim, state, groups, .. } => {
                    2.0 * f64::from(*heads) * f64::from(*head_dim) + 2.0 * f64::from(*groups) * f64::from(*state)
                }
                Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, .. } => {
                    2.0 * f64::from(*key_heads) * f64::from(*key_dim)
                        + 2.0 * f64::from(*value_heads) * f64::from(*value_dim)
                }
                Recurrent::KimiDelta { heads, key_dim, value_dim, .. } => {
                    f64::from(*heads) * (2.0 * f64::from(*key_dim) + 2.0 * f64::from(*value_dim))
                }
                Recurrent::Lightning { heads, head_dim } => 4.0 * f64::from(*heads) * f64::from(*head_dim),
                Recurrent::ShortConv { width, .. } => 3.0 * f64::from(*width),
            };
            Need { transient: stream + 2.0 * b * tokens * wide / tp, resident: 0.0 }
        }
        Mixer::None => Need::default(),
    }
}

/// Tokens of context that latent attention unpacks at once (vLLM 0.19.0, v1/attention/backends/mla: the chunked-prefill
/// workspace).
fn latent_chunk(launch: &Launch<'_>) -> f64 {
    let wanted = launch.max_model_len.saturating_mul(8).max(launch.max_num_seqs.saturating_mul(4 * 16));
    wanted.min(65_536) as f64
}

/// Temporaries of a feed-forward block: gate and up projections and their product while the input, the residual, the
/// norm's and the block's output are alive (three of those before 0.7).
fn feeding(launch: &Launch<'_>, ffn: &Ffn) -> Need {
    let (b, tokens, hidden) = (width(launch), tokens(launch), launch.model.hidden as f64);
    let tp = f64::from(launch.parallel.tp.max(1));
    let streams = if launch.version < Version::new(0, 7, 0) { 3.0 } else { 4.0 };
    let stream = streams * b * tokens * hidden;
    let block = |inner: f64, gated: bool| b * tokens * inner * if gated { 3.0 } else { 2.0 };
    match ffn {
        Ffn::Dense { inner, gated } => {
            let rank = *inner as f64 / tp;
            let copy = if eight_bit(launch) { tokens * rank } else { 0.0 };
            Need { transient: stream + block(rank, *gated) + copy, resident: 0.0 }
        }
        Ffn::Moe { experts, active, inner, shared_inner, gated, dense_inner } => {
            let whole = launch.parallel.ep > 1;
            let rank = *inner as f64 / if whole { 1.0 } else { tp };
            let work = b * tokens * f64::from(*active) * (rank.max(hidden) + (2.0 * rank).max(hidden));
            let shared = block((*shared_inner + *dense_inner) as f64 / tp, *gated);
            let route = 4.0 * tokens * f64::from(*experts);
            let kept = launch.v1 && launch.version >= Version::new(0, 14, 0) && !mxfp4(launch);
            if kept {
                Need { transient: stream + shared + route, resident: work }
            } else {
                Need { transient: stream + shared + route + work, resident: 0.0 }
            }
        }
        Ffn::None => Need::default(),
    }
}

/// Whether linear layers quantise their inputs to 8 bits.
fn eight_bit(launch: &Launch<'_>) -> bool {
    stored_as(launch, Role::Mlp, |scheme| matches!(scheme, Scheme::Int8 { .. } | Scheme::Fp8 { .. }))
}

/// Whether experts are MXFP4, whose kernels keep no workspace.
fn mxfp4(launch: &Launch<'_>) -> bool {
    stored_as(launch, Role::Experts, |scheme| matches!(scheme, Scheme::Mxfp4))
}

fn stored_as(launch: &Launch<'_>, role: Role, is: impl Fn(&Scheme) -> bool) -> bool {
    launch.model.tensors.iter().any(|t| t.role == role && t.quantised.iter().any(|(_, scheme)| is(scheme)))
}

/// Dummy images: as many of the largest as the encoder's budget holds (vLLM 0.19.0, v1/worker/gpu_model_runner.py,
/// profile_run, and multimodal/encoder_budget.py). Pixels and outputs stay until the step is over.
fn images(launch: &Launch<'_>, peak: &mut Peak) {
    let Some(tower) = &launch.model.tower else { return };
    let many = &launch.multimodal;
    if many.language_model_only || many.skip_profiling || !launch.v1 || launch.pp_rank > 0 {
        return;
    }
    if launch.runner_v2 && launch.version < Version::new(0, 27, 0) {
        return;
    }
    let b = width(launch);
    let each = tower.tokens_per_image.unwrap_or(fitted::TOKENS_PER_IMAGE).max(1);
    let budget = launch.max_num_batched_tokens.max(each);
    let fit = (launch.max_model_len / each).max(1);
    let allowed = many.images.unwrap_or(fitted::IMAGES_PER_PROMPT).min(fit).max(1);
    let items = (budget / each).min(launch.max_num_seqs.saturating_mul(allowed)).max(1);
    let out = items as f64 * each as f64;
    // Gemma 3 pools 4 × 4 patches into a token, the others merge 2 × 2.
    let merged = if launch.model.model_type.starts_with("gemma3") { 16.0 } else { fitted::PATCHES_PER_TOKEN };
    let patches = out * merged;
    peak.images = b * out * launch.model.hidden as f64 + b * patches * fitted::NUMBERS_PER_PATCH;
    peak.tower =
        b * patches * (2.0 * tower.inner as f64 + 4.0 * tower.hidden as f64) + b * patches * fitted::NUMBERS_PER_PATCH;
}

impl Spread {
    /// Puts the interval around a middle, in bytes.
    pub(super) fn around(&self, middle: f64, source: Source) -> Estimate {
        Estimate::between(
            Bytes::from_f64(middle * self.low - self.slack),
            Bytes::from_f64(middle),
            Bytes::from_f64(middle * self.high + self.slack),
            source,
        )
    }
}
