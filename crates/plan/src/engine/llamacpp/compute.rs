//! What do the compute buffers take? The graph's reservation played through, or closed forms where an architecture's
//! graph is not built in.
//!
//! Source of the closed forms: llama.cpp b10573, `src/llama-graph.cpp` (attention and feed-forward blocks), checked
//! against logged launches; see `docs/formulas/llama-cpp.md`.

use plimsoll_facts::gguf::Gguf;
use plimsoll_units::{Bytes, Estimate, Source};

use super::buffer::Where;
use super::cache::Role;
use super::context::{Context, Flash};
use super::graph::{self, Device, Placement, Pooling, Reserve, Store};
use super::hparams::Hparams;
use super::rules::Rules;
use super::weights::Placed;

/// A GPU's compute capability as CUDA counts it, where nobody says: that of an A100.
const CAPABILITY: u32 = 800;

/// What the compute buffers take.
#[derive(Clone, Debug, PartialEq)]
pub struct Compute {
    /// Each GPU's buffer.
    pub gpus: Vec<Estimate>,
    /// The host's buffer.
    pub host: Estimate,
    /// Whether fused attention is used.
    pub flash: bool,
    /// Nodes and parts of the graph for prompts, where it was played through.
    pub graph: Option<(usize, usize)>,
}

/// What a reservation depends on.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Hyper-parameters.
    pub h: &'a Hparams,
    /// The file.
    pub gguf: &'a Gguf,
    /// Where tensors lie.
    pub placed: &'a Placed,
    /// The context.
    pub context: &'a Context,
    /// The build.
    pub rules: &'a Rules,
    /// Compute capability of each GPU.
    pub gpus: &'a [Option<(u8, u8)>],
    /// Whether inputs are copied so that GPUs overlap.
    pub pipeline: bool,
    /// What the engine's own dry run would report, rather than what a context holds.
    pub measured: bool,
}

/// Sizes the compute buffers.
pub fn compute(ask: &Ask<'_>) -> Compute {
    match played(ask) {
        Some(compute) => compute,
        None => closed(ask),
    }
}

/// Plays the reservation through; `None` where the architecture's graph is not built in.
fn played(ask: &Ask<'_>) -> Option<Compute> {
    let placement = placement(ask);
    let model = graph::Model::new(ask.h, ask.gguf, &placement);
    let reserve = if ask.measured { Reserve::Measured } else { Reserve::Allocated };
    let made = graph::compute_buffers(&model, &context(ask), reserve).ok()?;
    let older = Older::of(ask, made.flash);
    let size = |(at, bytes): (usize, &u64)| {
        let source = Source::Engine("llama.cpp 0c1e57098, sched_reserve played through".into());
        let exact = Estimate::exact(Bytes::new(*bytes), source);
        if ask.rules.half_masks && ask.rules.converts_in_buffer {
            exact
        } else {
            older.adjusted(&exact, at < ask.gpus.len())
        }
    };
    let mut sizes = made.bytes.iter().enumerate().map(size);
    let gpus: Vec<Estimate> = sizes.by_ref().take(ask.gpus.len()).collect();
    let host = sizes.next()?;
    Some(Compute { gpus, host, flash: made.flash, graph: Some((made.nodes[0], made.splits[0])) })
}

/// What older builds did otherwise with fused attention: masks came in 32 bits and were cast, and a quantised cache was
/// converted outside the compute buffer.
struct Older {
    /// Bytes that masks took more of a GPU.
    masks: f64,
    /// Bytes that masks took more of the host.
    masks_host: f64,
    /// Bytes of a converted cache that lay elsewhere.
    converted: f64,
}

impl Older {
    fn of(ask: &Ask<'_>, flash: bool) -> Older {
        let context = ask.context;
        let windows = ask.h.layers.iter().any(|layer| layer.swa);
        let cells = context.cells + if windows { context.cells_swa } else { 0 };
        let mask = context.reserved() as f64 * cells as f64;
        let late = flash && !ask.rules.half_masks;
        let numbers = |layer: usize| {
            let one = |kind: plimsoll_facts::gguf::GgmlType, n: u64| if kind.is_quantised() { n } else { 0 };
            one(context.asked.kind_k, ask.h.k_gqa(layer)).saturating_add(one(context.asked.kind_v, ask.h.v_gqa(layer)))
        };
        let widest = (0..ask.h.layers.len()).map(numbers).max().unwrap_or(0) as f64;
        let copies = 2.0 * context.cells as f64 * context.streams as f64 * widest;
        Older {
            masks: if late { 4.0 * mask } else { 0.0 },
            masks_host: if late { 2.0 * mask } else { 0.0 },
            converted: if flash && !ask.rules.converts_in_buffer { copies } else { 0.0 },
        }
    }

    /// A size of today's graph as an estimate for an older build.
    fn adjusted(&self, today: &Estimate, gpu: bool) -> Estimate {
        let more = if gpu { self.masks - self.converted } else { self.masks_host };
        let bytes = today.bytes.as_f64();
        let middle = (bytes + more).max(bytes * 0.4);
        let source = Source::Derived("today's graph with the masks and casts of older builds".into());
        let at = |share: f64| Bytes::from_f64(middle * share);
        Estimate::between(at(0.85), at(1.0), at(1.2), source)
    }
}

/// Where everything lies, as the graph wants it.
fn placement(ask: &Ask<'_>) -> Placement {
    let capability = |found: &Option<(u8, u8)>| {
        let number = found.map_or(CAPABILITY, |(major, minor)| u32::from(major) * 100 + u32::from(minor) * 10);
        Device::Cuda { capability: number }
    };
    let mut devices: Vec<Device> = ask.gpus.iter().map(capability).collect();
    let cpu = u8::try_from(devices.len()).unwrap_or(u8::MAX);
    devices.push(Device::Cpu { pinned: cpu > 0 });
    let number = |place: &Where| match place {
        Where::Device(number) => *number,
        Where::Pinned | Where::Host | Where::Repacked => cpu,
    };
    let placed = ask.placed;
    let all = placed.offloaded() > placed.layers.len();
    Placement {
        devices,
        layers: placed.layers.iter().map(number).collect(),
        tensors: placed.tensors.iter().map(|place| place.map_or(Store::Host, store)).collect(),
        tied_output: placed.tied.map_or(Store::Host, store),
        full_offload: all,
        pipeline: ask.pipeline && all && ask.gpus.len() > 1 && ask.context.asked.offload_kv,
    }
}

fn store(place: Where) -> Store {
    match place {
        Where::Device(number) => Store::Device(number),
        Where::Pinned => Store::Pinned,
        Where::Host => Store::Host,
        Where::Repacked => Store::Repacked,
    }
}

/// The context as the graph wants it.
fn context(ask: &Ask<'_>) -> graph::Context {
    let (context, rules) = (ask.context, ask.rules);
    let asked = &context.asked;
    graph::Context {
        tokens: context.tokens,
        ubatch: context.ubatch,
        sequences: context.sequences,
        outputs: context.outputs,
        unified: context.streams == 1 && (asked.unified || rules.always_unified),
        flash: match context.flash {
            Flash::Off => graph::Flash::Off,
            Flash::On => graph::Flash::On,
            Flash::Auto => graph::Flash::Auto,
        },
        kind_k: asked.kind_k,
        kind_v: asked.kind_v,
        cells: context.cells,
        cells_swa: context.cells_swa,
        offload_kv: asked.offload_kv,
        offload_ops: asked.offload_ops,
        embeddings: asked.embeddings,
        pooling: Pooling::None,
        snapshots: context.snapshots,
        rules: graph::Rules {
            half_masks: rules.half_masks,
            converts_in_buffer: rules.converts_in_buffer,
            rotates: rules.rotates,
            embedding_input: rules.embedding_input,
            gated_split: rules.set_rows,
        },
    }
}

/// Closed forms for what one layer holds at once.
struct Forms {
    tokens: f64,
    embd: f64,
    head: f64,
    attention: f64,
    ffn: f64,
    mask_host: f64,
}

impl Forms {
    fn new(ask: &Ask<'_>, flash: bool) -> Forms {
        let (h, context) = (ask.h, ask.context);
        let tokens = context.reserved() as f64;
        let (embd, cells) = (h.embd as f64, context.cells as f64);
        let heads = h.layers.iter().map(|layer| layer.heads).max().unwrap_or(0) as f64;
        let query = h.layers.iter().enumerate().map(|(at, layer)| layer.heads.saturating_mul(h.head_k(at)));
        let query = query.max().unwrap_or(0) as f64;
        let query = if h.is_mla() { heads * (h.lora_kv + h.rot) as f64 } else { query };
        let wide = |layer: &super::hparams::Layer| {
            let routed = layer.experts_used.saturating_mul(if layer.ff_exp > 0 { layer.ff_exp } else { layer.ff });
            let dense = if h.experts > 0 { layer.ff.min(h.ff_shexp.max(1)) } else { layer.ff };
            let out = if h.experts > 0 { layer.experts_used.saturating_mul(h.embd) } else { 0 };
            (dense.saturating_add(routed).saturating_mul(3)).saturating_add(out).saturating_add(h.experts)
        };
        let inner = h.layers.iter().map(wide).max().unwrap_or(0) as f64;
        let mask = if flash && ask.rules.half_masks { 2.0 * tokens * cells } else { 4.0 * tokens * cells };
        let cast = if flash && !ask.rules.half_masks { 2.0 * tokens * cells } else { 0.0 };
        let scores = if flash { 0.0 } else { 4.0 * tokens * cells * heads };
        let outputs = context.outputs.min(context.reserved()) as f64;
        Forms {
            tokens,
            embd,
            head: 4.0 * outputs * (h.vocab as f64 + embd),
            attention: 4.0 * tokens * (2.0 * embd + 2.0 * query) + mask + cast + scores,
            ffn: 4.0 * tokens * (3.0 * embd + inner) + mask,
            mask_host: mask,
        }
    }
}

/// Estimates the buffers of an architecture whose graph is not built in.
fn closed(ask: &Ask<'_>) -> Compute {
    let flash = ask.context.flash != Flash::Off;
    let forms = Forms::new(ask, flash);
    let states = super::cache::cache(ask.h, ask.context, &ask.placed.layers, flash);
    let state = states.part(Role::Recurrent).map_or(0.0, |part| (part.values / part.layers.max(1)) as f64);
    let body = forms.attention.max(forms.ffn) + 4.0 * state;
    let staged = staged(ask) as f64;
    let source = || Source::Assumed("closed form; this architecture's graph is not built in".into());
    let estimate = |bytes: f64| {
        Estimate::between(Bytes::from_f64(bytes * 0.75), Bytes::from_f64(bytes), Bytes::from_f64(bytes * 1.6), source())
    };
    let last = ask.gpus.len().saturating_sub(1);
    let copies = if ask.pipeline { 4.0 } else { 1.0 };
    let gpu = |at: usize| {
        let head = if at == last && matches!(ask.placed.output, Where::Device(_)) { forms.head } else { 0.0 };
        estimate(body.max(head) + (copies - 1.0) * (forms.mask_host + 4.0 * forms.tokens * forms.embd) + staged)
    };
    let inputs = copies * (8.0 * forms.tokens * forms.embd + forms.mask_host);
    let host = if ask.gpus.is_empty() { body.max(forms.head) + inputs } else { inputs };
    Compute { gpus: (0..ask.gpus.len()).map(gpu).collect(), host: estimate(host), flash, graph: None }
}

/// The largest weight of the host that a GPU takes over for a large batch.
fn staged(ask: &Ask<'_>) -> u64 {
    if !ask.context.asked.offload_ops || ask.gpus.is_empty() || ask.context.reserved() < 32 {
        return 0;
    }
    let tensors = ask.gguf.tensors.iter().zip(&ask.placed.tensors);
    let host = tensors.filter(|(tensor, place)| {
        matches!(place, Some(Where::Host | Where::Pinned))
            && tensor.name.ends_with(".weight")
            && !tensor.name.contains("embd")
    });
    host.map(|(tensor, _)| tensor.bytes()).max().unwrap_or(0)
}
