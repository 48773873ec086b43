//! What stands in the ledgers? One line for each kind of memory, on every GPU and in the host.

use std::collections::BTreeMap;

use plimsoll_units::{Bytes, Estimate, Source};

use super::buffer::Where;
use super::layout::{Laid, Site};
use super::weights::{layer_of, size};
use crate::{Card, Entry, Formula, Item, Ledger};

/// What a process takes of a GPU before and beside llama.cpp's own buffers, GiB: the driver's context with the kernels
/// that are loaded. Not fitted, there are too few logs: 0.15 (8 GB card), 0.13 and 0.73 (RTX PRO 6000, at load and at exit) on CUDA; ROCm takes
/// 1.1 to 1.4.
pub const CONTEXT_GIB: (f64, f64, f64) = (0.13, 0.35, 0.75);
/// The same on AMD's cards.
pub const CONTEXT_ROCM_GIB: (f64, f64, f64) = (0.5, 1.1, 1.5);
/// What grows while it runs: the scratch pool of kernels, BLAS workspaces, captured graphs, GiB.
pub const POOL_GIB: (f64, f64, f64) = (0.03, 0.1, 0.6);

/// What stands beside the main model on one GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    /// Weights of a drafting model.
    pub draft_weights: Bytes,
    /// Its cache.
    pub draft_cache: Bytes,
    /// Its compute buffer.
    pub draft_compute: Option<Estimate>,
    /// Adapters.
    pub loras: Bytes,
    /// Control vectors.
    pub control: Bytes,
    /// The projector's weights.
    pub tower: Bytes,
    /// The projector's compute buffer.
    pub tower_compute: Option<Estimate>,
}

/// Returns what a process takes of a card before any buffer.
pub fn context(card: &Card) -> Estimate {
    let unknown = card.name.starts_with("a card of");
    let amd = card.compute_capability.is_none() && !card.unified && !unknown;
    let (low, middle, high) = if amd { CONTEXT_ROCM_GIB } else { CONTEXT_GIB };
    // A card that was given by its size alone may be of either maker.
    let high =
        if amd { high } else { high.max(if card.compute_capability.is_none() { CONTEXT_ROCM_GIB.2 } else { 0.0 }) };
    let source = Source::Assumed(
        "a handful of logged launches used 0.15 to 1.3 GiB of a GPU beyond all buffers; too few to fit".into(),
    );
    Estimate::between(Bytes::gib(low), Bytes::gib(middle), Bytes::gib(high), source)
}

/// Returns the ledger of a GPU.
pub fn gpu(site: &Site<'_>, laid: &Laid, at: usize, beside: &Beside) -> Ledger {
    let place = Where::Device(u8::try_from(at).unwrap_or(u8::MAX));
    let mut entries = weights(site, laid, place);
    let engine = |text: &'static str| Source::Engine(text.into());
    let mut put = |item: Item, size: Estimate, text: &'static str, values: Vec<(&'static str, f64)>| {
        if size.high > Bytes::ZERO {
            entries.push(Entry { item, size, note: None, formula: Formula { text: text.into(), values } });
        }
    };
    let exact = |bytes: Bytes, source: &'static str| Estimate::exact(bytes, engine(source));
    put(
        Item::WeightsTower,
        Estimate::exact(beside.tower, Source::File("the projector's tensors".into())),
        "sum of the projector's tensors",
        Vec::new(),
    );
    put(
        Item::WeightsDraft,
        Estimate::exact(beside.draft_weights, Source::File("the drafting model's tensors".into())),
        "sum of the drafting model's tensors",
        Vec::new(),
    );
    put(
        Item::WeightsExtra,
        Estimate::exact(beside.loras, Source::File("the adapters' tensors".into())),
        "sum of the adapters' tensors",
        Vec::new(),
    );
    if let Some(compute) = laid.compute.gpus.get(at) {
        let parts = [Some(compute), beside.draft_compute.as_ref(), beside.tower_compute.as_ref()];
        put(
            Item::Activation,
            sum(&parts),
            "compute buffer: the reserved graph's high-water mark",
            compute_values(laid),
        );
    }
    put(
        Item::RuntimeBuffers,
        exact(beside.control, "llama-adapter.cpp, llama_adapter_cvec"),
        "embedding × 4 B for each layer",
        Vec::new(),
    );
    let (low, middle, high) = POOL_GIB;
    let pool = Source::Measured("logged launches: growth while running, beyond context and buffers".into());
    put(
        Item::RuntimeNonTorch,
        Estimate::between(Bytes::gib(low), Bytes::gib(middle), Bytes::gib(high), pool),
        "scratch pool, BLAS workspace and captured graphs",
        Vec::new(),
    );
    if let Some(card) = site.cards.get(at) {
        put(Item::Context, context(card), "driver context and kernels", Vec::new());
    }
    let cache = laid.cache.sums().device(at);
    put(
        Item::Kv,
        exact(Bytes::new(cache) + beside.draft_cache, "llama.cpp, llama-kv-cache.cpp and llama-memory-recurrent.cpp"),
        "sum over layers of cells × streams × (row of keys + row of values), and recurrent states",
        vec![("cells", laid.context.cells as f64), ("streams", laid.context.streams as f64)],
    );
    entries.sort_by_key(|entry| entry.item);
    Ledger { entries }
}

/// Returns the ledger of the host.
pub fn host(site: &Site<'_>, laid: &Laid) -> Ledger {
    let mut by: BTreeMap<Item, u64> = BTreeMap::new();
    for place in [Where::Pinned, Where::Host, Where::Repacked] {
        for entry in weights(site, laid, place) {
            *by.entry(entry.item).or_default() += entry.size.bytes.get();
        }
    }
    let source = || Source::File("the file's tensors that stay in host memory".into());
    let line = |(item, bytes): (Item, u64)| Entry {
        item,
        size: Estimate::exact(Bytes::new(bytes), source()),
        note: None,
        formula: Formula { text: "sum of tensors".into(), values: Vec::new() },
    };
    let mut entries: Vec<Entry> = by.into_iter().map(line).collect();
    let engine = |text: &'static str| Source::Engine(text.into());
    let mut put = |item: Item, size: Estimate, text: &'static str| {
        if size.high > Bytes::ZERO {
            entries.push(Entry { item, size, note: None, formula: Formula { text: text.into(), values: Vec::new() } });
        }
    };
    put(Item::Activation, laid.compute.host.clone(), "host part of the reserved graph");
    put(
        Item::RuntimeBuffers,
        Estimate::exact(Bytes::new(laid.context.output_bytes(&site.h)), engine("llama-context.cpp, output_reserve")),
        "4 × sequences × vocabulary",
    );
    put(Item::Kv, Estimate::exact(Bytes::new(laid.cache.sums().host()), engine("llama-kv-cache.cpp")), "as on a GPU");
    entries.sort_by_key(|entry| entry.item);
    Ledger { entries }
}

/// Adds estimates, ends to ends.
fn sum(parts: &[Option<&Estimate>]) -> Estimate {
    let parts: Vec<&Estimate> = parts.iter().copied().flatten().collect();
    let total = |pick: fn(&Estimate) -> Bytes| parts.iter().map(|part| pick(part)).sum::<Bytes>();
    let source = parts.first().map_or(Source::Given, |part| part.source.clone());
    Estimate::between(total(|part| part.low), total(|part| part.bytes), total(|part| part.high), source)
}

fn compute_values(laid: &Laid) -> Vec<(&'static str, f64)> {
    let context = &laid.context;
    vec![
        ("tokens", context.reserved() as f64),
        ("outputs", context.outputs.min(context.reserved()) as f64),
        ("cells", context.cells as f64),
    ]
}

/// The weights in one memory, by what they are; their sum is that of the buffer.
fn weights(site: &Site<'_>, laid: &Laid, place: Where) -> Vec<Entry> {
    let total = laid.placed.sums.get(place);
    let mut by: BTreeMap<Item, u64> = BTreeMap::new();
    let h = &site.h;
    for (tensor, found) in site.gguf.tensors.iter().zip(&laid.placed.tensors) {
        if *found == Some(place) {
            let drafting = h.nextn > 0 && layer_of(&tensor.name).is_some_and(|layer| layer >= h.main_layers());
            let item = if drafting { Item::WeightsDraft } else { item(&tensor.name) };
            *by.entry(item).or_default() += size(place, tensor);
        }
    }
    let mut named: u64 = by.values().sum();
    let tied = site.gguf.tensor("token_embd.weight").filter(|_| laid.placed.tied == Some(place));
    if let Some(tied) = tied.filter(|tied| named + size(place, tied) <= total) {
        *by.entry(Item::WeightsLmHead).or_default() += size(place, tied);
        named += size(place, tied);
    }
    // Copies of rotation factors, or an even share of what is spread over all GPUs.
    if total > named {
        *by.entry(if named == 0 { Item::WeightsExtra } else { Item::WeightsNorm }).or_default() += total - named;
    }
    if named > total {
        by = by.into_iter().map(|(item, bytes)| (item, scaled(bytes, total, named))).collect();
        let left = total.saturating_sub(by.values().sum());
        *by.entry(Item::WeightsNorm).or_default() += left;
    }
    let entry = |(item, bytes): (Item, u64)| Entry {
        item,
        size: Estimate::exact(Bytes::new(bytes), Source::File("the file's tensors, as the engine places them".into())),
        note: None,
        formula: Formula { text: "sum of tensors, each rounded up to 128 B".into(), values: Vec::new() },
    };
    by.into_iter().filter(|(_, bytes)| *bytes > 0).map(entry).collect()
}

fn scaled(bytes: u64, total: u64, named: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(total) / u128::from(named.max(1))).unwrap_or(u64::MAX)
}

/// Says what a tensor is, by its name.
fn item(name: &str) -> Item {
    let inner = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, inner)| inner);
    let has = |part: &str| inner.contains(part);
    if has("norm") {
        Item::WeightsNorm
    } else if has("exps") || has("ffn_gate_inp") || has("exp_probs") {
        Item::WeightsExperts
    } else if has("ssm") || has("time_mix") || has("channel_mix") || has("shortconv") {
        Item::WeightsRecurrent
    } else if has("attn") || has("indexer") {
        Item::WeightsAttention
    } else if has("ffn") {
        Item::WeightsMlp
    } else if has("embd") || has("token_types") {
        Item::WeightsEmbedding
    } else if inner.starts_with("output") || has("shared_head") {
        Item::WeightsLmHead
    } else if has("nextn") {
        Item::WeightsDraft
    } else {
        Item::WeightsNorm
    }
}
