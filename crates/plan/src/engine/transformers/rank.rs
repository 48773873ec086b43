//! What lies on each card? Modules placed, caches with their layers, the widest pass, and what CUDA takes.

use plimsoll_facts::model::Layer;
use plimsoll_facts::tensor::DType;
use plimsoll_units::{Bytes, Estimate, Source};

use super::activation::{self, Pass, Peak};
use super::cache::{Cache, Filled, LayerCache};
use super::devices::{self, Place, Room};
use super::launch::Launch;
use super::options::DeviceMap;
use super::weights::{Kinds, Module, Modules};
use crate::{Entry, Error, Formula, Item, Ledger};

/// The driver's context with the libraries' kernels, bytes: from a small card with lazily loaded modules to a large one
/// with cuBLAS and its workspace. To settle it: `nvidia-smi` less `torch.cuda.memory_reserved()` after one generation.
const CONTEXT: (f64, f64, f64) = (0.25, 0.45, 0.8);
const CONTEXT_SOURCE: &str =
    "a CUDA context with PyTorch's kernels and cuBLAS is 0.25 to 0.8 GiB by card and CUDA release";

/// What the caching allocator holds beyond live tensors, as a share of what comes and goes: blocks of 2 MiB and more
/// that no later request fits. A cache that grows by concatenation asks for a slightly larger block at every step.
/// To settle it: `torch.cuda.max_memory_reserved()` over `max_memory_allocated()`.
const SLACK_GROWING: (f64, f64, f64) = (0.0, 0.05, 0.25);
const SLACK_FIXED: (f64, f64, f64) = (0.0, 0.02, 0.10);
/// How far the widest moment may be from the sum of its tensors: kernels' workspaces on one side, tensors freed earlier
/// on the other.
const ACTIVATION_SPREAD: (f64, f64) = (0.9, 1.2);

/// What one card holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Weights by kind.
    pub kinds: Kinds,
    /// Decoder layers, by index.
    pub layers: Vec<u32>,
    /// Whether the output projection runs here.
    pub head: bool,
}

/// The model on its devices.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Every card's part.
    pub cards: Vec<Held>,
    /// Weights in host memory.
    pub host: Kinds,
    /// Bytes of the largest module in host memory, which visits the first card.
    pub visiting: u64,
    /// `hf_device_map` in short: layers by device.
    pub map: Vec<String>,
}

/// Places a launch's model.
pub fn placement(launch: &Launch<'_>) -> Placement {
    let modules = Modules::of(launch.model, &launch.loading());
    let context = Bytes::gib(CONTEXT.1).get();
    let room = Room {
        cards: launch.cards.iter().map(|card| card.total.bytes.get().saturating_sub(context)).collect(),
        allowed: launch.options.max_memory.clone(),
        spared_tenth: launch.options.bits.is_some() && launch.device_map != DeviceMap::One,
    };
    let places = devices::place(&modules, &launch.device_map, &room);
    let mut placed = Placement {
        cards: vec![Held::default(); launch.cards.len()],
        host: Kinds::new(),
        visiting: 0,
        map: Vec::new(),
    };
    let order: Vec<&Module> = modules.in_order().collect();
    for (module, place) in order.iter().zip(&places) {
        let kinds = match place {
            Place::Card(at) => &mut placed.cards[*at].kinds,
            Place::Host => {
                placed.visiting = placed.visiting.max(module.bytes());
                &mut placed.host
            }
        };
        for (kind, bytes) in &module.kinds {
            let sum = kinds.entry(*kind).or_default();
            *sum = sum.saturating_add(*bytes);
        }
        // What lies in host memory runs, with its cache, on the first card.
        let at = match place {
            Place::Card(at) => *at,
            Place::Host => 0,
        };
        if let Some(layer) = module.layer {
            placed.cards[at].layers.push(layer);
        }
    }
    let last = match places.last() {
        Some(Place::Card(at)) => *at,
        Some(Place::Host) | None => 0,
    };
    placed.cards[last].head = true;
    placed.map = shown(&order, &places);
    placed
}

/// Runs of layers by device: `layers 0-15: cuda:0`.
fn shown(order: &[&Module], places: &[Place]) -> Vec<String> {
    let mut runs: Vec<(Place, u32, u32)> = Vec::new();
    for (module, place) in order.iter().zip(places) {
        let Some(layer) = module.layer else { continue };
        match runs.last_mut() {
            Some((same, _, last)) if same == place => *last = layer,
            _ => runs.push((*place, layer, layer)),
        }
    }
    let name = |place: Place| match place {
        Place::Card(at) => format!("cuda:{at}"),
        Place::Host => "cpu".to_owned(),
    };
    runs.into_iter().map(|(place, first, last)| format!("layers {first}-{last}: {}", name(place))).collect()
}

/// Sizes of one request on one card.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The cache when the last token has been made.
    pub kv: u64,
    /// What comes on top of it in the widest moment.
    pub peak: Peak,
    /// Whether the first pass is the widest.
    pub prefill: bool,
    /// Bytes of the cache in host memory.
    pub kv_host: u64,
}

/// Returns the sizes of a request on a card.
///
/// # Errors
/// [`Error::Request`] where the cache class refuses the model.
pub fn moment(launch: &Launch<'_>, held: &Held) -> Result<Moment, Error> {
    let caches = launch.layers();
    let (cache, filled) = (launch.cache(), launch.filled());
    if let Cache::Quantised(quantised) = &cache {
        quantised.check(&caches, &filled)?;
    }
    let here: Vec<&LayerCache> = held.layers.iter().filter_map(|layer| caches.get(*layer as usize)).collect();
    let (kv_all, storage) = if launch.options.use_cache { sums(launch, &here, &cache, &filled) } else { (0, 0) };
    let largest = |filled: &Filled| here.iter().map(|l| l.bytes(&cache, filled, launch.dtype)).max().unwrap_or(0);
    // An offloaded cache keeps the running layer and the one that is being fetched on the card.
    let two = largest(&filled).saturating_mul(2).min(kv_all);
    let (kv, kv_host) = if launch.options.offloaded { (two, kv_all) } else { (kv_all, 0) };
    let layers: Vec<&Layer> = held.layers.iter().filter_map(|at| launch.model.layers.get(*at as usize)).collect();
    let chunk = launch.options.prefill_chunk.unwrap_or(launch.prompt).min(launch.prompt).max(1);
    let pass = |tokens: u64, context: u64| Pass {
        batch: launch.batch,
        tokens,
        context,
        attention: launch.attention,
        padding: launch.options.padding,
        dtype: launch.dtype,
    };
    let first = pass(chunk, launch.prompt);
    // Without a cache every step runs the whole sequence again.
    let step = if launch.options.use_cache { pass(1, launch.total()) } else { pass(launch.total(), launch.total()) };
    let peak_of = |pass: &Pass| activation::peak(launch.model, layers.iter().copied(), held.head, pass);
    let (prefill, decode) = (peak_of(&first), peak_of(&step));
    let held_then = if launch.options.offloaded { two.min(storage) } else { storage };
    let before = held_then as f64 + prefill.bytes;
    let growing = if launch.options.use_cache { growth(launch, &here, &cache, &filled) } else { 0 };
    let after = kv as f64 + decode.bytes + growing as f64;
    let (bytes, place, is_prefill) =
        if before > after { (before, prefill.place, true) } else { (after, decode.place, false) };
    Ok(Moment { kv, peak: Peak { bytes: (bytes - kv as f64).max(0.0), place }, prefill: is_prefill, kv_host })
}

/// The cache's bytes at the end, and the storage behind it after the first pass: a window is a view of all that a dynamic
/// cache has just concatenated, so until the next step the whole prompt stays.
fn sums(launch: &Launch<'_>, here: &[&LayerCache], cache: &Cache, filled: &Filled) -> (u64, u64) {
    let prompt = Filled { steps: 0, ..*filled };
    let mut sums = (0_u64, 0_u64);
    for layer in here {
        let mut whole = (*layer).clone();
        if *cache == Cache::Dynamic
            && let Some(kv) = &mut whole.kv
        {
            kv.window = None;
        }
        sums.0 = sums.0.saturating_add(layer.bytes(cache, filled, launch.dtype));
        sums.1 = sums.1.saturating_add(whole.bytes(cache, &prompt, launch.dtype));
    }
    sums
}

/// What growing needs beside the cache: while keys (then values) of one layer are concatenated, the old ones are still
/// there; a quantised cache makes whole keys and values, and their concatenation with the residual.
fn growth(launch: &Launch<'_>, here: &[&LayerCache], cache: &Cache, filled: &Filled) -> u64 {
    let of = |layer: &&LayerCache| {
        let Some(kv) = layer.kv else { return 0 };
        let positions = kv.window.map_or(filled.positions(), |window| filled.positions().min(window));
        let numbers = |each: u64| each.saturating_mul(positions).saturating_mul(filled.batch);
        match cache {
            Cache::Dynamic => launch.dtype.bytes_of(numbers(kv.key.max(kv.value))),
            Cache::Static { .. } => 0,
            Cache::Quantised(_) => launch.dtype.bytes_of(numbers(kv.key.saturating_add(kv.value)).saturating_mul(2)),
        }
    };
    here.iter().map(of).max().unwrap_or(0)
}

/// Returns a card's ledger.
pub fn ledger(launch: &Launch<'_>, held: &Held, moment: &Moment, visiting: u64, last: bool) -> Ledger {
    let mut entries: Vec<Entry> = held.kinds.iter().map(|(item, bytes)| weight(*item, *bytes)).collect();
    if let Some(given) = launch.given.weights.filter(|_| last) {
        entries = vec![entry(Item::WeightsExtra, Estimate::exact(given, Source::Given), None)];
    }
    if visiting > 0 {
        let source = Source::Engine(
            "transformers 5.23.0, integrations/accelerate.py: modules in host memory visit the first card".into(),
        );
        let note = "room for the largest module that lies in host memory";
        entries.push(entry(Item::WeightsExtra, Estimate::exact(Bytes::new(visiting), source), Some(note)));
    }
    entries.push(peak_entry(launch, moment));
    let source = Source::Engine("transformers 5.23.0, cache_utils.py: the tensors' sizes".into());
    let note = format!("{} sequences of {} cached positions", launch.batch, launch.filled().positions());
    let kv = Entry {
        item: Item::Kv,
        size: Estimate::exact(Bytes::new(moment.kv), source),
        note: Some(note.into()),
        formula: Formula {
            text: "sum over layers of batch × positions × (key + value numbers) × bytes + states".into(),
            values: vec![("batch", launch.batch as f64), ("positions", launch.filled().positions() as f64)],
        },
    };
    let (slack, context) = (slack(launch, moment), context(launch));
    entries.extend([slack, context, kv]);
    entries.sort_by_key(|entry| entry.item);
    Ledger { entries }
}

fn weight(item: Item, bytes: u64) -> Entry {
    let source = Source::Derived("tensor inventory in the dtype in which it is loaded".into());
    Entry {
        item,
        size: Estimate::exact(Bytes::new(bytes), source),
        note: None,
        formula: Formula { text: "sum over tensors of count × shape × stored bytes".into(), values: Vec::new() },
    }
}

fn peak_entry(launch: &Launch<'_>, moment: &Moment) -> Entry {
    if let Some(given) = launch.given.activation {
        return entry(Item::Activation, Estimate::exact(given, Source::Given), None);
    }
    let at = |share: f64| Bytes::from_f64(moment.peak.bytes * share);
    let source = Source::Derived("the tensors alive in the widest moment (docs: Transformers)".into());
    let size = Estimate::between(at(ACTIVATION_SPREAD.0), at(1.0), at(ACTIVATION_SPREAD.1), source);
    let when = if moment.prefill { "the pass over the prompt" } else { "the last step" };
    let note = format!("widest in {when}: {}", moment.peak.place);
    let values = vec![
        ("batch", launch.batch as f64),
        ("prompt", launch.prompt as f64),
        ("width", bits(launch.dtype)),
        ("cache at the end", moment.kv as f64),
    ];
    let text = "max(cache after the prompt + its pass, cache + last step + one layer's growth) − cache".into();
    Entry { item: Item::Activation, size, note: Some(note.into()), formula: Formula { text, values } }
}

fn bits(dtype: DType) -> f64 {
    dtype.bits() as f64 / 8.0
}

fn slack(launch: &Launch<'_>, moment: &Moment) -> Entry {
    let grows = matches!(launch.cache(), Cache::Dynamic | Cache::Quantised(_)) && launch.new > 1;
    let (low, middle, high) = if grows { SLACK_GROWING } else { SLACK_FIXED };
    let moving = moment.peak.bytes + if grows { moment.kv as f64 } else { 0.0 };
    let at = |share: f64| Bytes::from_f64(moving * share);
    let why = "PyTorch's caching allocator keeps blocks that no later request fits";
    entry(
        Item::RuntimeBuffers,
        Estimate::between(at(low), at(middle), at(high), Source::Assumed(why.into())),
        Some("what the allocator holds beyond live tensors"),
    )
}

fn context(launch: &Launch<'_>) -> Entry {
    if let Some(given) = launch.given.non_torch {
        return entry(Item::Context, Estimate::exact(given, Source::Given), None);
    }
    let (low, middle, high) = CONTEXT;
    let source = Source::Assumed(CONTEXT_SOURCE.into());
    entry(Item::Context, Estimate::between(Bytes::gib(low), Bytes::gib(middle), Bytes::gib(high), source), None)
}

/// A line without a formula of its own.
pub fn entry(item: Item, size: Estimate, note: Option<&'static str>) -> Entry {
    Entry { item, size, note: note.map(Into::into), formula: Formula::default() }
}
