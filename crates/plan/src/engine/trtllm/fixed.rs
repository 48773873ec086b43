//! What is taken before the KV cache? Activations, buffers, sampling, libraries and communication of one rank.

use plimsoll_facts::model::{Ffn, Mixer, Recurrent};
use plimsoll_units::{Bytes, Estimate, Source};

use super::launch::Launch;
use super::resident;
use super::rules::Backend;
use super::weights::stage_layers;
use crate::{Entry, Formula, Item, Version};

const GIB: f64 = 1_073_741_824.0;
const MIB: f64 = 1_048_576.0;

/// The measured campaign that the PyTorch backend's constants rest on.
const CAMPAIGN: &str = "largest concurrency of Qwen3-32B-FP8 and Llama-3.1-8B on H100 and GB300, tp 1 to 4 \
    (aiconfigurator, tests/integration/test_trtllm_kv_cache_capacity.py, 095f58a)";

/// Returns the entries of a rank beside its weights and the KV cache.
pub fn entries(launch: &Launch<'_>, stage: u32) -> Vec<Entry> {
    let mut entries = match launch.backend {
        Backend::TensorRt => {
            let mut list = vec![engine_context(launch), runtime_buffers(launch, stage)];
            if stage + 1 == launch.parallel.pp {
                list.push(decoder_buffers(launch));
            }
            list.push(non_torch_given(launch).unwrap_or_else(context));
            list.extend(nccl(launch));
            list
        }
        Backend::PyTorch => {
            let mut list = vec![torch_activation(launch), non_torch(launch)];
            list.extend(resident::buffers(launch));
            list.extend(torch_comms(launch));
            list
        }
    };
    let states = recurrent_states(launch, stage);
    if states > 0 {
        match entries.iter_mut().find(|entry| entry.item == Item::RuntimeBuffers) {
            Some(entry) => {
                let more = Bytes::new(states);
                let size = &entry.size;
                let sum = Estimate::between(size.low + more, size.bytes + more, size.high + more, size.source.clone());
                entry.size = sum;
                entry.note = Some(states_note(launch, states).into());
            }
            None => entries.push(states_entry(launch, states)),
        }
    }
    entries.sort_by_key(|entry| entry.item);
    entries
}

fn entry(
    item: Item,
    size: Estimate,
    note: Option<&'static str>,
    text: &'static str,
    values: Vec<(&'static str, f64)>,
) -> Entry {
    Entry { item, size, note: note.map(Into::into), formula: Formula { text: text.into(), values } }
}

fn measured(low: f64, bytes: f64, high: f64, source: Source) -> Estimate {
    Estimate::between(Bytes::from_f64(low), Bytes::from_f64(bytes), Bytes::from_f64(high), source)
}

/// The widths of the widest layer on one rank, in numbers per token.
struct Widths {
    hidden: f64,
    inner: f64,
    routed: f64,
}

/// Dense inner width ÷ tp of the widest block, and what a token's routed experts add: one copy of the hidden state per
/// chosen expert and its share of their inner width.
fn widths(launch: &Launch<'_>) -> Widths {
    let t = launch.attention_ranks() as f64;
    let experts_t = f64::from(launch.parallel.tp);
    let hidden = launch.model.hidden as f64;
    let (mut inner, mut routed) = (0.0_f64, 0.0_f64);
    for layer in &launch.model.layers {
        match &layer.ffn {
            Ffn::Dense { inner: width, gated } => {
                inner = inner.max(*width as f64 / t * if *gated { 1.0 } else { 2.0 / 3.0 });
            }
            Ffn::Moe { active, inner: width, shared_inner, dense_inner, .. } => {
                inner = inner.max((*shared_inner).max(*dense_inner) as f64 / t);
                routed = routed.max(f64::from(*active) * (hidden + 3.0 * *width as f64 / experts_t));
            }
            Ffn::None => {}
        }
    }
    Widths { hidden, inner, routed }
}

/// Bytes that one token of a step takes at the widest point of a layer.
///
/// dtype × (3 × inner ÷ tp + 6 × hidden + routed): gate, up and their product, and six rows of the hidden width
/// (residual, normed input, query/key/value, attention output, block output, one more). For Llama-3.1-8B at 16 bits
/// 2 × (3 × 14 336 + 6 × 4096) = 135 168 B; two logs of 0.20 give (1.05 − 0.60) GiB over 8192 − 4608 tokens, 134 800 B.
fn bytes_per_activation_token(launch: &Launch<'_>) -> (f64, Vec<(&'static str, f64)>) {
    let widths = widths(launch);
    let size = launch.dtype.bits() as f64 / 8.0;
    let per_token = size * (3.0 * widths.inner + 6.0 * widths.hidden + widths.routed);
    (per_token, vec![("b", size), ("I/tp", widths.inner), ("H", widths.hidden), ("E", widths.routed)])
}

/// The execution context of a compiled engine: fixed at build for the largest shapes of its profiles.
///
/// Packed input: linear in `max_num_tokens`; padded input: in `max_batch_size × max_input_len`. Without context FMHA a
/// score of every pair of prompt tokens joins it for every head. The interval spans the public logs: 143 % of the
/// formula for Llama-2-7B fp8, 75 % for Qwen2.5-7B AWQ, 250 % for Qwen2.5-0.5B int8 (see docs).
fn engine_context(launch: &Launch<'_>) -> Entry {
    if let Some(given) = launch.given.activation {
        return entry(Item::Activation, Estimate::exact(given, Source::Given), None, "given", Vec::new());
    }
    let options = launch.options;
    let slots = launch.batch.saturating_mul(launch.beams);
    let tokens = if options.padded_input { launch.batch.saturating_mul(launch.input) } else { launch.num_tokens };
    let tokens = tokens.max(slots.min(launch.num_tokens)) as f64;
    let (per_token, mut values) = bytes_per_activation_token(launch);
    let linear = tokens * per_token;
    let scores = if options.no_context_fmha {
        let prompt = launch.input as f64;
        launch.batch as f64 * query_heads(launch) / launch.attention_ranks() as f64
            * prompt
            * prompt
            * (launch.dtype.bits() as f64 / 8.0)
    } else {
        0.0
    };
    let context_logits = if options.gather_context_logits { tokens * launch.vocabulary() as f64 * 4.0 } else { 0.0 };
    let exact = scores + context_logits;
    values.extend([("T", tokens), ("scores", scores), ("context logits", context_logits)]);
    let source =
        Source::Measured("six engines' \"execution context memory\", 0.8 to 1.2.1, against the layer's widths".into());
    entry(
        Item::Activation,
        measured(linear * 0.65 + exact, linear + exact, linear * 2.6 + 1.5 * exact, source),
        Some("fixed when the engine is built; read it from the engine's log where there is one"),
        "T × b × (3 × I/tp + 6 × H + E) + scores + context logits",
        values,
    )
}

fn query_heads(launch: &Launch<'_>) -> f64 {
    launch
        .model
        .layers
        .iter()
        .filter_map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => Some(match &attention.kind {
                plimsoll_facts::model::AttentionKind::Grouped { heads, .. }
                | plimsoll_facts::model::AttentionKind::Latent { heads, .. } => f64::from(*heads),
            }),
            Mixer::Recurrent(_) | Mixer::None => None,
        })
        .fold(0.0, f64::max)
}

/// Returns the bytes of the runtime buffers: slots × (4 × V + 24 × S), one row of fp32 logits and six int32 arrays of a
/// sequence's length. 256 slots, 32 000 words, 2048 tokens: 43.25 MiB (the log says 43.29).
pub fn runtime_bytes(slots: u64, vocabulary: u64, seq: u64) -> u64 {
    slots.saturating_mul(vocabulary.saturating_mul(4).saturating_add(seq.saturating_mul(24)))
}

/// Returns the bytes of the sampling buffers: slots × (4 × a × V + 16 × S + 65 536): logits, penalty counters and top-p
/// workspaces, four arrays of a sequence's length and top-k temporaries. 256 slots, 32 000 words, 2048 tokens, a = 5:
/// 180.25 MiB (the log says 180.30).
pub fn decoder_bytes(slots: u64, vocabulary: u64, seq: u64, rows: u64) -> u64 {
    let per_slot = vocabulary.saturating_mul(4 * rows).saturating_add(seq.saturating_mul(16)).saturating_add(65_536);
    slots.saturating_mul(per_slot)
}

/// Small arrays per slot that the closed forms leave out: 0.05 MiB of 256 slots in the guide's log.
const BYTES_PER_SLOT: u64 = 200;

fn runtime_buffers(launch: &Launch<'_>, stage: u32) -> Entry {
    let slots = launch.batch.saturating_mul(launch.beams);
    let last = stage + 1 == launch.parallel.pp;
    let vocabulary = if last { launch.vocabulary() } else { 0 };
    let mut bytes =
        runtime_bytes(slots, vocabulary, launch.seq).saturating_add(launch.batch.saturating_mul(BYTES_PER_SLOT));
    let mut doubt = 0.01;
    if launch.parallel.pp > 1 {
        let row = launch.dtype.bytes_of(launch.model.hidden);
        bytes = bytes.saturating_add(launch.num_tokens.saturating_mul(row));
        doubt = 0.3;
    }
    if launch.options.gather_generation_logits && last {
        // "A logits cache of several steps": eight rows per slot are assumed.
        bytes = bytes.saturating_add(slots.saturating_mul(vocabulary).saturating_mul(4 * 8));
        doubt = 0.5;
    }
    let drafted = launch.options.max_draft_len;
    if drafted > 0 && last {
        bytes = bytes.saturating_add(slots.saturating_mul(vocabulary).saturating_mul(4 * drafted));
        doubt = 0.5;
    }
    let at = |share: f64| bytes as f64 * share;
    let source = Source::Measured("\"runtime buffers\" lines of three public logs, 0.11 to 0.16, to 0.1 %".into());
    entry(
        Item::RuntimeBuffers,
        measured(at(1.0 - doubt), at(1.0), at(1.0 + doubt), source),
        Some("grows with --max_batch_size, not with traffic"),
        "B × W × (4 × V + 24 × S) + 200 × B",
        vec![
            ("B", launch.batch as f64),
            ("W", launch.beams as f64),
            ("V", vocabulary as f64),
            ("S", launch.seq as f64),
        ],
    )
}

fn decoder_buffers(launch: &Launch<'_>) -> Entry {
    let slots = launch.batch.saturating_mul(launch.beams);
    let (vocabulary, rows) = (launch.vocabulary(), launch.rules.decoder_rows);
    let per_step = launch.options.max_draft_len.saturating_add(1);
    let mut bytes =
        decoder_bytes(slots, vocabulary, launch.seq, rows).saturating_add(launch.batch.saturating_mul(BYTES_PER_SLOT));
    let mut doubt = 0.01;
    if launch.beams > 1 {
        // A second penalty workspace, and hypotheses of two sequences of ids and log-probabilities per slot.
        let beam = vocabulary.saturating_mul(4).saturating_add(launch.seq.saturating_mul(16));
        bytes = bytes.saturating_add(slots.saturating_mul(beam));
        doubt = 0.3;
    }
    if per_step > 1 {
        bytes = bytes.saturating_add(slots.saturating_mul(vocabulary).saturating_mul(8 * (per_step - 1)));
        doubt = 0.5;
    }
    let at = |share: f64| bytes as f64 * share;
    let source = Source::Measured("\"decoder\" lines of four public logs, 0.11 to 0.17, to 0.2 %".into());
    entry(
        Item::RuntimeDecoder,
        measured(at(1.0 - doubt), at(1.0), at(1.0 + doubt), source),
        Some("grows with --max_batch_size, not with traffic"),
        "B × W × (4 × a × V + 16 × S + 65536) + 200 × B",
        vec![
            ("B", launch.batch as f64),
            ("W", launch.beams as f64),
            ("a", rows as f64),
            ("V", vocabulary as f64),
            ("S", launch.seq as f64),
        ],
    )
}

/// The driver's context and library handles of an engine process: 0.77 GiB remain unexplained in the guide's log.
fn context() -> Entry {
    let source = Source::Measured("total less available less every line of the memory guide's log".into());
    entry(Item::Context, measured(0.6 * GIB, 0.77 * GIB, 0.9 * GIB, source), None, "constant", Vec::new())
}

fn non_torch_given(launch: &Launch<'_>) -> Option<Entry> {
    let given = launch.given.non_torch?;
    Some(entry(Item::RuntimeNonTorch, Estimate::exact(given, Source::Given), None, "given", Vec::new()))
}

/// NCCL's buffers: 342 MiB for two ranks, 392 MiB for more (NVIDIA's planner, systems/h100_sxm.yaml).
fn nccl(launch: &Launch<'_>) -> Option<Entry> {
    let ranks = launch.parallel.gpus();
    if ranks < 2 || launch.given.non_torch.is_some() {
        return None;
    }
    let bytes = if ranks == 2 { 342.0 * MIB } else { 392.0 * MIB };
    let source = Source::Datasheet("aiconfigurator 095f58a, systems/h100_sxm.yaml, nccl_mem".into());
    Some(entry(Item::Comms, measured(0.5 * bytes, bytes, 1.5 * bytes, source), None, "constant by ranks", Vec::new()))
}

/// The most that PyTorch's allocator holds above the weights during the profile run.
fn torch_activation(launch: &Launch<'_>) -> Entry {
    if let Some(given) = launch.given.activation {
        return entry(Item::Activation, Estimate::exact(given, Source::Given), None, "given", Vec::new());
    }
    let (per_token, mut values) = bytes_per_activation_token(launch);
    let tokens = launch.num_tokens as f64;
    values.push(("T", tokens));
    let bytes = tokens * per_token;
    let source =
        Source::Measured("\"dynamically allocated during inference\" of four logs of 0.20, and the campaign".into());
    entry(
        Item::Activation,
        measured(0.5 * bytes, bytes, 1.8 * bytes, source),
        Some("the profile run fills --max_num_tokens"),
        "T × b × (3 × I/tp + 6 × H + E)",
        values,
    )
}

/// Memory of the process outside PyTorch's allocator on one GPU, in GiB: 1.93 to 2.26 in four logs of 0.20, where graphs
/// are captured after the measurement; 3.6 from 1.0, where they come before it.
fn non_torch_gib(version: Version, graphs: bool) -> f64 {
    if version < Version::new(1, 0, 0) || !graphs { 2.1 } else { NON_TORCH_GIB }
}

/// Outside PyTorch's allocator on one GPU from 1.0.
const NON_TORCH_GIB: f64 = 3.6;

/// More for every doubling of the ranks: NCCL, all-reduce workspaces and what NVLink sharing maps.
const PER_DOUBLING_GIB: f64 = 0.5;

/// More for every doubling of the ranks where experts are exchanged: the median of what fourteen logs of DeepSeek-R1 on
/// four and eight B200 print outside torch above what one GPU takes (1.2 and 1.3, one repository; 1.3 to 3.3).
const EXPERTS_PER_DOUBLING_GIB: f64 = 2.4;

fn non_torch(launch: &Launch<'_>) -> Entry {
    if let Some(given) = non_torch_given(launch) {
        return given;
    }
    let gib = non_torch_gib(launch.version, launch.graph_batch > 0 && launch.rules.graphs_before_profile);
    entry(
        Item::RuntimeNonTorch,
        measured(0.7 * gib * GIB, gib * GIB, 1.6 * gib * GIB, Source::Measured(CAMPAIGN.into())),
        Some("context, libraries, kernels and CUDA graphs, measured together"),
        "constant by release",
        Vec::new(),
    )
}

fn torch_comms(launch: &Launch<'_>) -> Option<Entry> {
    let doublings = f64::from(launch.parallel.gpus()).log2();
    if launch.parallel.gpus() < 2 || launch.given.non_torch.is_some() {
        return None;
    }
    let moe = launch.model.layers.iter().any(|layer| matches!(layer.ffn, Ffn::Moe { .. }));
    let each = if moe { EXPERTS_PER_DOUBLING_GIB } else { PER_DOUBLING_GIB };
    let bytes = each * doublings * GIB;
    Some(entry(
        Item::Comms,
        measured(0.4 * bytes, bytes, 2.0 * bytes, Source::Measured(CAMPAIGN.into())),
        None,
        "per doubling × log2(ranks)",
        vec![("per doubling, GiB", each), ("ranks", f64::from(launch.parallel.gpus()))],
    ))
}

/// Bytes of the recurrent states of every slot on this rank, which are kept whole beside the paged pool.
pub fn recurrent_states(launch: &Launch<'_>, stage: u32) -> u64 {
    let t = launch.attention_ranks();
    let range = stage_layers(launch.model.layers.len() as u32, launch.parallel.pp, stage);
    let size = launch.dtype.bits() / 8;
    let per_slot: u64 = launch.model.layers[range.start as usize..range.end as usize]
        .iter()
        .map(|layer| match &layer.mixer {
            Mixer::Recurrent(recurrent) => state_numbers(recurrent).div_ceil(t).saturating_mul(size),
            Mixer::Attention(_) | Mixer::None => 0,
        })
        .fold(0, u64::saturating_add);
    per_slot.saturating_mul(launch.batch)
}

/// The numbers of one sequence's state in a recurrent layer: its state and the last inputs of its convolution.
fn state_numbers(recurrent: &Recurrent) -> u64 {
    let n = |number: &u32| u64::from(*number);
    let tail = |kernel: &u32| n(kernel).saturating_sub(1);
    match recurrent {
        Recurrent::Mamba1 { inner, state, kernel } => n(inner) * n(state) + n(inner) * tail(kernel),
        Recurrent::Mamba2 { heads, head_dim, state, groups, kernel } => {
            let inner = n(heads) * n(head_dim);
            inner * n(state) + (inner + 2 * n(groups) * n(state)) * tail(kernel)
        }
        Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, kernel } => {
            let (keys, values) = (n(key_heads) * n(key_dim), n(value_heads) * n(value_dim));
            values * n(key_dim) + (2 * keys + values) * tail(kernel)
        }
        Recurrent::KimiDelta { heads, key_dim, value_dim, kernel } => {
            n(heads) * n(key_dim) * n(value_dim) + n(heads) * (2 * n(key_dim) + n(value_dim)) * tail(kernel)
        }
        Recurrent::Lightning { heads, head_dim } => n(heads) * n(head_dim) * n(head_dim),
        Recurrent::ShortConv { width, kernel } => n(width) * tail(kernel),
    }
}

fn states_entry(launch: &Launch<'_>, states: u64) -> Entry {
    let source = Source::Derived("state shapes × max_batch_size (pyexecutor/mamba_cache_manager.py)".into());
    let bytes = states as f64;
    let size = measured(bytes, bytes, 2.0 * bytes, source);
    let mut entry = entry(Item::RuntimeBuffers, size, None, "B × states", vec![("B", launch.batch as f64)]);
    entry.note = Some(format!("{}; states kept at 32 bits double them", states_note(launch, states)).into());
    entry
}

/// What the states are: one set per slot is allocated at the start, however many requests are in flight
/// (`_torch/pyexecutor/mamba_cache_manager.py`, `PythonMambaCacheManager`: tensors of layers × `max_batch_size` × state).
fn states_note(launch: &Launch<'_>, states: u64) -> String {
    let bytes = Bytes::new(states);
    format!("{bytes} are recurrent states for --max_batch_size {} sequences, allocated at the start", launch.batch)
}
