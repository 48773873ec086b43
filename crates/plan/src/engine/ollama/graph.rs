//! What did Ollama's own estimator take a graph and a cache to need? Closed formulas per architecture, kept in releases up
//! to 0.12.10 for every model and up to 0.30 for those that llama.cpp runs.
//!
//! Source: Ollama 0.12.10, `fs/ggml/ggml.go`, `GraphSize`. Bytes; C is context × parallel, T the batch, E the embedding,
//! H and Hk heads, V the vocabulary; `E·V·105/128` is a Q6_K output, `·9/16` a Q4 weight staged on the GPU.

use super::sizes::Sizes;
use crate::Version;

/// What the graph depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Context of one sequence.
    pub context: u64,
    /// Tokens of a batch, no more than the context.
    pub batch: u64,
    /// Sequences at once.
    pub parallel: u64,
    /// Bytes of a cached number, as the estimator rounds them: 2, 1 or 0.5.
    pub element: f64,
    /// Whether fused attention is on.
    pub flash: bool,
}

/// The estimate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphSize {
    /// The cache, layer by layer.
    pub kv: Vec<u64>,
    /// The graph when everything is on GPUs.
    pub full: u64,
    /// The graph when some layers are not.
    pub partial: u64,
}

impl GraphSize {
    /// Returns the cache of all layers.
    pub fn kv_total(&self) -> u64 {
        self.kv.iter().copied().fold(0, u64::saturating_add)
    }
}

/// Wrapping is kept away by wide numbers; the results are cut to what fits.
type Wide = u128;

fn wide(number: u64) -> Wide {
    Wide::from(number)
}

fn narrow(number: Wide) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The numbers of the formulas.
struct Symbols {
    t: Wide,
    e: Wide,
    c: Wide,
    h: Wide,
    hk: Wide,
    v: Wide,
    /// The largest head width, and the key's.
    d: Wide,
    dk: Wide,
}

/// Since when caches are counted layer by layer, windows among them; before, every layer had the same part of the whole.
const BY_LAYER: Version = Version::new(0, 6, 3);

/// Returns what the estimator of a release says.
pub fn graph_size(sizes: &Sizes, load: &Load, version: Version) -> GraphSize {
    let context = load.context.saturating_mul(load.parallel);
    let symbols = Symbols {
        t: wide(load.batch),
        e: wide(sizes.embedding),
        c: wide(context),
        h: wide(sizes.heads_max()),
        hk: wide(sizes.heads_kv_max()),
        v: wide(sizes.vocabulary),
        d: wide(sizes.head),
        dk: wide(sizes.key),
    };
    let plain = plain_cache(sizes, load, context);
    // Summed before layers with windows are made smaller.
    let total = plain.iter().copied().fold(0, u64::saturating_add);
    let (full, partial) = formulas(sizes, &symbols);
    let kv = if version < BY_LAYER {
        vec![total / (plain.len() as u64).max(1); plain.len()]
    } else {
        windowed(sizes, load, plain)
    };
    let mut size = GraphSize { kv, full: narrow(full), partial: narrow(partial) };
    if sizes.arch == "gptoss" || sizes.arch == "gpt-oss" {
        (size.full, size.partial) = gpt_oss(sizes, load, total, version);
    }
    if size.partial == 0 {
        let queries = sizes.heads_max() / sizes.heads_kv_min().max(1);
        size.partial = queries.saturating_mul(size.kv_total()) / 6;
    }
    if size.full == 0 {
        size.full = size.partial;
    }
    size
}

/// The cache without windows: `C × (dk + dv) × Hk × b`, or the states of a layer without heads in fp32.
fn plain_cache(sizes: &Sizes, load: &Load, context: u64) -> Vec<u64> {
    let [kernel, state, inner, groups] = sizes.more.ssm;
    let rolling =
        kernel.saturating_sub(1).saturating_mul(inner.saturating_add(groups.saturating_mul(state).saturating_mul(2)));
    let recurrent = rolling.saturating_add(state.saturating_mul(inner)).saturating_mul(4);
    let width = sizes.key.saturating_add(sizes.value);
    let each = sizes.heads.iter().zip(&sizes.heads_kv).map(|(heads, heads_kv)| {
        if *heads > 0 && *heads_kv > 0 {
            (context.saturating_mul(width).saturating_mul(*heads_kv) as f64 * load.element) as u64
        } else {
            recurrent
        }
    });
    each.collect()
}

/// Layers that keep a window.
fn windowed(sizes: &Sizes, load: &Load, mut kv: Vec<u64>) -> Vec<u64> {
    let row = sizes.key.saturating_add(sizes.value).saturating_mul(sizes.heads_kv_max());
    let of = |positions: u64| (positions.saturating_mul(row) as f64 * load.element) as u64;
    match sizes.arch.as_str() {
        "gemma3" => {
            let local = of(load.parallel.saturating_mul(sizes.more.window).saturating_add(load.batch));
            let locals = kv.iter_mut().enumerate().filter(|(at, _)| (at + 1) % 6 != 0);
            locals.for_each(|(_, kv)| *kv = local);
        }
        "gptoss" | "gpt-oss" => {
            let local = of(load.parallel.saturating_mul(4096).saturating_add(load.batch));
            kv.iter_mut().step_by(2).for_each(|kv| *kv = local);
        }
        "mllama" => {
            let cross = narrow(wide(row) * 4 * 1601 * 4);
            for at in &sizes.more.cross {
                if let Some(kv) = kv.get_mut(*at as usize) {
                    *kv = cross;
                }
            }
        }
        _ => {}
    }
    kv
}

/// gpt-oss: a share of the cache without windows; from 0.11.6 on with fused attention a rule of thumb.
fn gpt_oss(sizes: &Sizes, load: &Load, total: u64, version: Version) -> (u64, u64) {
    let queries = sizes.heads_max();
    let kv = sizes.heads_kv_min().max(1);
    if version < Version::new(0, 11, 5) {
        // 0.11.0 took twice this for the partial graph.
        let full = 4_u64.saturating_mul(queries) / kv;
        let full = full.saturating_mul(total) / 6;
        let twice = version < Version::new(0, 11, 3);
        return (full, if twice { full.saturating_mul(2) } else { full });
    }
    if load.flash && version >= Version::new(0, 11, 8) {
        let context = load.context.saturating_mul(load.parallel);
        let mib = 4 * load.parallel + (context >> 10) + 110;
        return (0, mib.saturating_mul(1 << 20));
    }
    (0, (2_u64.saturating_mul(queries) / kv).saturating_mul(total) / 6)
}

/// Full and partial graph of an architecture; zeros where it has no formula of its own.
fn formulas(sizes: &Sizes, s: &Symbols) -> (Wide, Wide) {
    let Symbols { t, e, c, h, hk, v, dk, .. } = *s;
    let output = e * v * 105 / 128;
    match sizes.arch.as_str() {
        "llama" | "llama4" => llama(sizes, s),
        "mllama" => (
            (4 * t * (2 + 3 * e + dk * h + c * (1 + h))).max(4 * t * (e + v)),
            (4 * (t * (2 * e + 1 + c * (1 + h) + dk * h) + wide(sizes.more.rope_freqs) + dk * c * hk))
                .max(4 * t * (e + v) + output),
        ),
        "gemma" | "gemma2" | "gemma3" | "gemma3n" => {
            let full = (4 * t * (e + v)).max(4 * t * (2 + c + c * h + 2 * e + 2 * dk * h));
            let partial = (4 * e * t + output + 4 * v * t)
                .max(4 * t * (2 * e + 1 + 2 * dk * h + c + c * h) + 4 * dk * c * 8 + e * dk * h * 9 / 16);
            if sizes.arch == "gemma3n" { (full * 4, partial * 4) } else { (full, partial) }
        }
        "command-r" => (
            (4 * t * (e + v)).max(4 * t * (2 + 4 * e + c * (1 + h))),
            (4 * t * (e + v) + output).max(4 * t * (1 + 2 * e + c * (1 + h)) + 4 * e * c + e * e * 9 / 16),
        ),
        "qwen2" => (
            (4 * t * (e + v)).max(4 * t * (1 + 2 * e + c + c * h)),
            (4 * t * (e + v) + output).max(4 * (t * (1 + 2 * e + c * (1 + h)) + e * (1 + c))),
        ),
        "phi2" => (
            (4 * t * (e + v)).max(4 * t * (1 + 4 * e + c + c * h)),
            (4 * t * (2 * e + v) + output).max(4 * t * (2 + 3 * e + c + c * h)),
        ),
        "stablelm" => {
            let full = 4 * t * (c * (1 + h) + 3 * e + 2);
            (full, full.max(4 * t * (v + 2 * e)))
        }
        "deepseek2" => (
            (4 * t * (3 * e + v)).max(4 * t * (3 * e + 2 + c * (1 + hk) + 2 * dk * hk)),
            (4 * t * (3 * e + v) + output)
                .max(4 * t * (2 * e + 1 + 2 * dk * hk + c + c * hk) + 4 * dk * c * hk + e * dk * hk * 9 / 16),
        ),
        "chatglm" => {
            let (full, partial) = (4 * t * (e + v), 4 * t * (e + v) + output);
            match sizes.more.qkv_bias.map(wide) {
                None => (full, partial),
                Some(bias) => (
                    full.max(4 * t * (2 + 2 * e + c + c * h + dk * h + bias)),
                    partial.max(4 * t * (1 + 2 * e + dk * h + c + c * h) + 8 * dk * c + 4 * bias),
                ),
            }
        }
        _ => (0, 0),
    }
}

/// Llama, and the two forms in which mixtures of experts were stored.
fn llama(sizes: &Sizes, s: &Symbols) -> (Wide, Wide) {
    let Symbols { t, e, c, h, hk, v, d, .. } = *s;
    let full = (4 * t * (1 + 4 * e + c * (1 + h))).max(4 * t * (e + v));
    if let Some(experts) = sizes.more.gate_experts.map(wide) {
        let inner = wide(sizes.more.feed_forward);
        let partial = (3 * experts + 4 * t * (2 * inner + hk + e + c + d * hk))
            .max(4 * (c * t * h + c * d * hk + t * 1024 + d * hk * t));
        return (full, partial);
    }
    if let Some(gate) = sizes.more.gate_first.map(wide) {
        let full = 4 * t * (2 + 3 * e + c * (1 + h) + 2 * hk + gate);
        let partial = (4 * t * (3 + d * hk + e + c * (1 + h) + gate) + (e * e + 3 * e * hk * gate) * 9 / 16)
            .max(4 * t * (1 + 2 * e + c * (1 + h)) + e * (6 * c * hk / h.max(1) + e * 9 / 16));
        return (full, partial);
    }
    let partial = 4 * t * e
        + (4 * t * (1 + e + c.max(e)) + e * e * 9 / 16 + 4 * c * (t * h + d * hk))
            .max(4 * t * (e + v) + e * v * 105 / 128);
    (full, partial)
}
