//! What would help, and which way? Changes to the launch, each worked out anew; the fraction up for pools that find nothing,
//! down for graphs and activations that find nothing, and the range in which both find enough.

use plimsoll_facts::tensor::DType;

use super::assess::{Assessed, Case, assess};
use super::options::Options;
use crate::Remedy;

/// A change to try.
struct Change {
    change: String,
    flags: Vec<String>,
    cost: &'static str,
    options: Options,
}

/// Fractions, to three decimals, between which the pools have something and the slack holds what comes after; `None` when no
/// fraction does both.
pub(super) fn window(case: &Case<'_>, assessed: &Assessed) -> Option<(f64, f64)> {
    if case.given.kv_budget.is_some() {
        return None;
    }
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for share in &assessed.shares {
        let pre = share.pre.bytes.as_f64().max(1.0);
        let taken = pre - share.now.bytes.as_f64();
        low = low.max((taken + super::least(assessed)) / pre);
        high = high.min(1.0 - share.consumers[1] / pre);
    }
    let steps =
        |fraction: f64, up: bool| (if up { (fraction * 1000.0).ceil() } else { (fraction * 1000.0).floor() }) / 1000.0;
    let (mut low, mut high) = (steps(low, true), steps(high, false));
    // The table grows with the pool and pages are padded, so the ends are tried.
    for _ in 0..40 {
        if low > high {
            return None;
        }
        let (at_low, at_high) = (at(case, low), at(case, high));
        if at_low.as_ref().is_some_and(Assessed::fits) && at_high.as_ref().is_some_and(Assessed::fits) {
            return Some((low, high));
        }
        if !at_low.is_some_and(|new| new.starts()) {
            low = steps(low + 0.001, false).max(low + 0.001);
        }
        if !at_high.is_some_and(|new| new.holds()) {
            high = steps(high - 0.002, false);
        } else if low >= high {
            return None;
        }
    }
    None
}

/// Works the launch out with another fraction.
fn at(case: &Case<'_>, fraction: f64) -> Option<Assessed> {
    if !(0.001..=1.0).contains(&fraction) {
        return None;
    }
    let options = Options { fraction: Some(fraction), ..case.options.clone() };
    assess(&Case { options: &options, ..*case }).ok()
}

/// Returns up to six changes, cheapest first; those that do not suffice only where none does.
pub(super) fn remedies(case: &Case<'_>, assessed: &Assessed) -> Vec<Remedy> {
    let mut found: Vec<Remedy> = changes(case, assessed).into_iter().filter_map(|change| tried(case, change)).collect();
    if found.iter().any(|remedy| remedy.fits) {
        found.retain(|remedy| remedy.fits);
    }
    found.dedup_by(|a, b| a.flags == b.flags);
    found.truncate(6);
    found
}

/// Works one change out, with a fraction that fits it where its own does not; none where the engine cannot do it.
fn tried(case: &Case<'_>, change: Change) -> Option<Remedy> {
    let Change { change, mut flags, cost, options } = change;
    let within = |new: &Assessed| new.resolved.parallel.gpus() <= case.card.count;
    let mut new = assess(&Case { options: &options, ..*case }).ok()?;
    let moved = Case { options: &options, ..*case };
    if !new.fits()
        && let Some((low, high)) = window(&moved, &new)
    {
        // A fraction that starves the pools is raised as far as is sensible, not to where the first token fits.
        let asked = if new.starts() { new.resolved.fraction } else { 1.0 };
        let fraction = chosen(low, high, asked);
        if let Some(better) = at(&moved, fraction).filter(Assessed::fits) {
            flags.retain(|flag| !flag.starts_with("--mem-fraction-static"));
            flags.push(format!("--mem-fraction-static {fraction:.3}"));
            new = better;
        }
    }
    Some(Remedy {
        change,
        flags,
        fits: new.fits() && within(&new),
        kv_tokens: new.pools.tokens,
        max_context_tokens: new.longest(),
        cost: cost.to_owned(),
    })
}

/// The fraction of a range that is nearest to what was asked for, with a tenth of the range as distance from the upper end.
fn chosen(low: f64, high: f64, asked: f64) -> f64 {
    let most = high.min(low.max(low + (high - low) * 0.9));
    (asked.clamp(low, most) * 1000.0).round() / 1000.0
}

/// Changes in the order of what they cost.
fn changes(case: &Case<'_>, assessed: &Assessed) -> Vec<Change> {
    let (options, resolved) = (case.options, &assessed.resolved);
    let mut list = Vec::new();
    let mut add = |change: String, flags: &[String], cost: &'static str, edit: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        edit(&mut options);
        list.push(Change { change, flags: flags.to_vec(), cost, options });
    };
    match window(case, assessed) {
        Some((low, high)) if !assessed.starts() => {
            // As much as leaves room for what comes after.
            let fraction = chosen(low, high, 1.0);
            add(
                format!("raise the fraction to {fraction:.3}: {low:.3} to {high:.3} works"),
                &[format!("--mem-fraction-static {fraction:.3}")],
                "less room for graphs and activations",
                &|options| options.fraction = Some(fraction),
            );
        }
        Some((low, high)) if !assessed.holds() => add(
            format!("lower the fraction to {high:.3}: {low:.3} to {high:.3} works"),
            &[format!("--mem-fraction-static {high:.3}")],
            "fewer tokens in the pool",
            &|options| options.fraction = Some(high),
        ),
        Some(_) | None => {}
    }
    smaller(assessed, &mut add);
    if resolved.kv.bytes(64) > 64 {
        add(
            "keep the KV cache in 8 bits".to_owned(),
            &["--kv-cache-dtype fp8_e4m3".to_owned()],
            "a little accuracy",
            &|options| options.kv_cache_dtype = Some("fp8_e4m3".to_owned()),
        );
    }
    if case.model.quant.is_none() && options.quantization.is_none() && resolved.dtype != DType::F32 {
        add(
            "quantise the weights to 8 bits while loading".to_owned(),
            &["--quantization fp8".to_owned()],
            "a little accuracy",
            &|options| options.quantization = Some("fp8".to_owned()),
        );
    }
    let room = case.card.count / options.pp.max(1);
    for tp in
        [2_u32, 4, 8, 16].map(|times| options.tp.saturating_mul(times)).into_iter().filter(|tp| *tp <= room.min(64))
    {
        let more = Options { tp, ..options.clone() };
        let fits = assess(&Case { options: &more, ..*case }).is_ok_and(|new| new.fits());
        if fits || tp.saturating_mul(2) > room.min(64) {
            add(format!("divide over {tp} GPUs"), &[format!("--tp-size {tp}")], "more GPUs", &|options| {
                options.tp = tp
            });
            break;
        }
    }
    list
}

/// Takes a change: in words, its flags, its cost, and what it does to the options.
type Add<'a> = dyn FnMut(String, &[String], &'static str, &dyn Fn(&mut Options)) + 'a;

/// Smaller chunks, graphs, tables: what the slack must hold.
fn smaller(assessed: &Assessed, add: &mut Add<'_>) {
    let resolved = &assessed.resolved;
    if assessed.holds() && assessed.starts() {
        return;
    }
    if let Some(chunk) = resolved.chunk.filter(|chunk| *chunk > 2048) {
        let less = (chunk / 2).max(2048) / resolved.page * resolved.page;
        let flags = [format!("--chunked-prefill-size {less}")];
        add(format!("prefill {less} tokens at a time"), &flags, "slower long prompts", &|options| {
            options.chunk = Some(Some(less));
        });
    }
    if resolved.graph_max > 16 {
        let flags = ["--cuda-graph-max-bs 16".to_owned()];
        add("capture graphs for batches up to 16".to_owned(), &flags, "larger batches decode slower", &|options| {
            options.graph_max = Some(16);
            options.graph_sizes = None;
        });
    }
    if assessed.pools.requests > 256 {
        let flags = ["--max-running-requests 256".to_owned()];
        add("run at most 256 requests at once".to_owned(), &flags, "fewer requests at once", &|options| {
            options.max_running = Some(256);
        });
    }
    if resolved.graph_max > 0 {
        let flags = ["--disable-cuda-graph".to_owned()];
        add("run without CUDA graphs".to_owned(), &flags, "slower decoding", &|options| {
            options.no_decode_graphs = true;
            options.prefill_graphs = Some(false);
        });
    }
}
