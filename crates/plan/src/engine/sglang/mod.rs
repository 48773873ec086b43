//! How does SGLang divide a GPU? Nothing is profiled: the fraction of the memory that was free before loading goes to weights
//! and pools, and everything else must fit in what it leaves.

mod assess;
pub mod batching;
mod cells;
pub mod defaults;
pub mod flags;
mod memory;
pub mod options;
pub mod pools;
mod remedy;
mod render;
mod slack;
mod weights;

use plimsoll_units::Bytes;

use self::assess::{Assessed, Case, assess};
use self::options::Options;
use self::pools::Refused;
use crate::engine::{Depth, Question};
use crate::growth::{Growth, Pool, Steps};
use crate::{Batching, Error, Kv, KvGroup, Margin, Plan, Refusal, Verdict, Version};

/// The engine's name in answers.
pub const NAME: &str = "sglang";
/// The newest release whose rules are built in.
pub const NEWEST: Version = Version::new(0, 5, 23);
/// The oldest release whose rules are built in.
pub const OLDEST: Version = Version::new(0, 4, 6);
/// Keys of a request's `options` that are no flags of the command.
pub const KEYS: [&str; 2] = ["env", "model"];

/// Plans a launch.
///
/// # Errors
/// Every variant of [`Error`]; not fitting is no error but a [`Verdict`].
pub fn plan(question: &Question<'_>) -> Result<Plan, Error> {
    let version = question.version.clamp(OLDEST, NEWEST);
    let options = Options::from_map(question.options, version)?;
    let card = question.card(NAME)?;
    let case = Case { model: question.model, card, version, options: &options, given: question.given };
    let assessed = assess(&case)?;
    let verdict = verdict(&case, &assessed, question.depth);
    Ok(Plan { version: question.version, ..written(&case, assessed, verdict) })
}

/// Bytes as a signed number.
fn signed(bytes: f64) -> i64 {
    bytes.clamp(-9e18, 9e18) as i64
}

/// Bytes that the smallest pool needs: one page of tokens, or one slot for a state.
fn least(assessed: &Assessed) -> f64 {
    let share = &assessed.shares[assessed.scarcest];
    let cells = &share.cells;
    let each = cells.compressed.unwrap_or((cells.charged + cells.draft) as f64 + cells.swa_held as f64);
    let window = if cells.swa_layers > 0 { cells.window as f64 * cells.swa_held as f64 } else { 0.0 };
    each * assessed.resolved.page as f64 + window + 2.0 * share.state.bytes() as f64
}

/// Says whether the launch starts and serves and, where it does not, which way to move.
///
/// Two shortages want opposite moves: too little for the pools (raise the fraction), too little beside them (lower it).
fn verdict(case: &Case<'_>, assessed: &Assessed, depth: Depth) -> Verdict {
    let share = &assessed.shares[assessed.scarcest];
    let gpus = assessed.resolved.parallel.gpus();
    let spare = share.rest[1] - least(assessed);
    let slack = assessed.shares.iter().map(|share| share.slack[1]).fold(f64::INFINITY, f64::min);
    if assessed.fits() && gpus <= case.card.count {
        return Verdict::Fits { spare: Bytes::from_f64(spare.min(slack)) };
    }
    let free = share.now.bytes.as_f64();
    let (binding, short) = if gpus > case.card.count {
        ("gpus", 0.0)
    } else if free <= 0.0 {
        ("weights", -share.rest[1])
    } else if !assessed.starts() {
        ("kv", (-spare).max(1.0))
    } else {
        ("slack", -slack)
    };
    Verdict::DoesNotFit {
        short_by: Bytes::from_f64(short),
        binding: binding.to_owned(),
        refusal: refusal(assessed),
        remedies: if depth == Depth::Whole { remedy::remedies(case, assessed) } else { Vec::new() },
    }
}

/// What the engine would say.
fn refusal(assessed: &Assessed) -> Option<Refusal> {
    let message = render::refusal(assessed)?;
    Some(Refusal { message, needed: Some(Bytes::from_f64(least(assessed))), estimated_max_len: None })
}

/// The verdict's distance from both limits, the nearer one.
fn margin(assessed: &Assessed) -> Margin {
    let need = least(assessed);
    let end = |at: usize| {
        let pools = assessed.shares.iter().map(|share| share.rest[at] - need).fold(f64::INFINITY, f64::min);
        let slack = assessed.shares.iter().map(|share| share.slack[at]).fold(f64::INFINITY, f64::min);
        signed(if assessed.starts() { pools.min(slack) } else { pools })
    };
    let (low, bytes, high) = (end(0), end(1), end(2));
    // A launch that the sizing refuses for another reason than bytes is not spared by them.
    let bytes = if assessed.fits() { bytes } else { bytes.min(-1) };
    Margin { low: low.min(bytes), bytes, high: high.max(bytes) }
}

/// Writes the answer down.
fn written(case: &Case<'_>, assessed: Assessed, verdict: Verdict) -> Plan {
    let ranks = assess::ranks(case, &assessed);
    let scarcest = assessed.scarcest * case.options.tp as usize;
    let budget = ranks[scarcest].kv_budget.clone();
    let margin = margin(&assessed);
    let logged = render::logged(case, &assessed);
    let notes = notes(case, &assessed);
    let assumptions = assumptions(case, &assessed);
    let launch = render::launch(case);
    let batching = Batching::Sglang(batching::batching(case, &assessed));
    let resolved = &assessed.resolved;
    let page = resolved.page.max(1);
    let cells = &assessed.shares[assessed.scarcest].cells;
    let bytes_per_token = match cells.compressed {
        Some(each) => each as u64,
        None => cells.charged + cells.draft + cells.swa_held,
    };
    Plan {
        engine: NAME,
        version: case.version,
        parallel: resolved.parallel,
        kv: Kv {
            bytes_per_token,
            block_tokens: page,
            blocks: assessed.pools.tokens / page,
            tokens: assessed.pools.tokens,
            budget,
            max_concurrency: assessed.concurrency(),
            concurrency_at_tokens: resolved.context,
            groups: groups(&assessed),
            growth: growth(case, &assessed),
            logged,
        },
        ranks,
        scarcest,
        max_model_len: resolved.context,
        max_context_tokens: assessed.longest(),
        verdict,
        margin,
        host: None,
        assumptions,
        notes,
        launch,
        batching: Some(batching),
    }
}

/// The pools as groups of layers.
fn groups(assessed: &Assessed) -> Vec<KvGroup> {
    let share = &assessed.shares[assessed.scarcest];
    let (cells, page) = (&share.cells, assessed.resolved.page.max(1));
    let whole = assessed.resolved.context.div_ceil(page);
    let mut groups = Vec::new();
    let mut add = |kind: String, layers: u64, each: u64, blocks: u64| {
        if layers > 0 {
            let page_bytes = each.checked_div(layers).unwrap_or(0).saturating_mul(page);
            groups.push(KvGroup {
                kind,
                layers: layers as u32,
                block_tokens: page,
                page_bytes,
                blocks_per_request: blocks,
            });
        }
    };
    let kind = if cells.single { "mla" } else { "full" };
    add(kind.to_owned(), cells.full_layers, cells.held + cells.draft, whole);
    let window = cells.window.min(assessed.resolved.context).div_ceil(page) + 1;
    add(format!("sliding:{}", cells.window), cells.swa_layers, cells.swa_held, window);
    if share.state.layers > 0 {
        groups.push(KvGroup {
            kind: "state".to_owned(),
            layers: share.state.layers as u32,
            block_tokens: 1,
            page_bytes: share.state.bytes() / share.state.layers.max(1),
            blocks_per_request: 1,
        });
    }
    groups
}

/// What requests of any length take: pages of the full pool, pages of the sliding pool up to a window and a page more
/// (windows lie across pages), and slots for states.
///
/// SGLang 0.5.23, `srt/mem_cache/allocator` (whole pages), `srt/mem_cache/swa_memory_pool.py`, `srt/mem_cache/memory_pool.py`.
fn growth(case: &Case<'_>, assessed: &Assessed) -> Growth {
    let (pools, resolved) = (&assessed.pools, &assessed.resolved);
    let page = resolved.page.max(1);
    let stages = |bytes: &dyn Fn(&assess::Share) -> u64| assessed.shares.iter().map(bytes).collect::<Vec<_>>();
    let pool = |units, steps, unit_bytes| Pool { held_back: 0, units, groups: vec![vec![steps]], unit_bytes };
    let full = stages(&|share| match share.cells.compressed {
        Some(each) => (each * page as f64).ceil() as u64,
        None if share.cells.full_layers == 0 => 0,
        None => share.cells.held.saturating_add(share.cells.draft).saturating_mul(page),
    });
    let mut found = Vec::new();
    let cells = &assessed.shares[assessed.scarcest].cells;
    if cells.full_layers > 0 || cells.compressed.is_some() {
        found.push(pool(pools.tokens / page, Steps::tokens(page), full));
    }
    if let Some(tokens) = pools.swa_tokens {
        let pages = cells.window.saturating_sub(1).div_ceil(page).saturating_add(1);
        let cap = Some(pages.saturating_mul(page));
        let steps = Steps::Tokens { ranks: 1, cap, block: page, extra: 0 };
        found.push(pool(tokens / page, steps, stages(&|share| share.cells.swa_held.saturating_mul(page))));
    }
    if let Some(slots) = pools.slots {
        let each = pools::per_request(resolved, case.options);
        found.push(pool(slots, Steps::Fixed(each), stages(&|share| share.state.bytes())));
    }
    Growth { pools: found }
}

/// What this launch's defaults were.
fn assumptions(case: &Case<'_>, assessed: &Assessed) -> Vec<String> {
    let (options, resolved) = (case.options, &assessed.resolved);
    let version = resolved.version;
    let mut said = Vec::new();
    if resolved.fraction_defaulted {
        said.push(format!(
            "mem_fraction_static is {}, the default of {version} on a card of {:.0} MiB",
            render::number(resolved.fraction),
            resolved.chip.mib
        ));
    }
    if options.chunk.is_none() {
        said.push(format!("chunked_prefill_size is {}, the default on this card", resolved.chunk.unwrap_or(0)));
    }
    if options.graph_max.is_none() && resolved.graph_max > 0 {
        said.push(format!("cuda_graph_max_bs is {}, the default on this card", resolved.graph_max));
    }
    if options.context_length.is_none() {
        said.push(format!("context_length is {}, the model's", resolved.context));
    }
    if options.backends.iter().all(Option::is_none) {
        said.push(format!("attention_backend is {}, pages of {}", resolved.backend, resolved.page));
    }
    said.push("nothing else runs on the GPU".to_owned());
    said
}

/// What should be said beside the numbers.
fn notes(case: &Case<'_>, assessed: &Assessed) -> Vec<String> {
    let mut notes = assessed.notes.clone();
    let pools = &assessed.pools;
    if assessed.starts() && pools.tokens < assessed.resolved.context {
        notes.push(format!(
            "the pool of {} tokens is shorter than context_length {}: it starts, and longer requests are refused",
            pools.tokens, assessed.resolved.context
        ));
    }
    if let Some(swa) = pools.swa_tokens {
        notes.push(format!("max_total_num_tokens counts the full pool; the sliding pool holds {swa} tokens"));
    }
    if let Some(slots) = pools.slots {
        notes.push(format!(
            "{slots} state slots, {} for one running request",
            pools::per_request(&assessed.resolved, case.options)
        ));
    }
    if case.options.dp_attention && case.options.dp > 1 {
        notes.push(format!("numbers are of one of {} data-parallel attention workers", case.options.dp));
    }
    if let Some((low, high)) = remedy::window(case, assessed) {
        notes.push(format!("fractions from {low:.3} to {high:.3} hold both the pools and what comes after them"));
    }
    if let Some(draft) = assessed.resolved.draft.as_ref().filter(|draft| draft.own_model) {
        notes.push(format!(
            "the weights of the {} drafter are not counted: add them with `given`, or lower the fraction by their share",
            draft.algorithm
        ));
    }
    if assessed.resolved.version >= Version::new(0, 5, 16) && defaults::is_v4(case.model) {
        notes.push("DeepSeek-V4's pools are sized by the rule of 0.5.12; later releases set states apart".to_owned());
    }
    if case.options.post_capture {
        notes.push(
            "SGLANG_ENABLE_POST_CAPTURE_KV_SIZING: pools are sized again after capture; planned as before it"
                .to_owned(),
        );
    }
    notes.extend(
        case.options
            .uncounted
            .iter()
            .map(|key| format!("--{} can change memory and is not counted", key.replace('_', "-"))),
    );
    if case.given.weights.is_some() || case.given.kv_budget.is_some() || case.given.kv_free.is_some() {
        notes.push("quantities that were given stand in place of estimates".to_owned());
    }
    if assessed.pools.refused == Some(Refused::Window) {
        notes.push(
            "the sliding pool is not larger than one window: raise --swa-full-tokens-ratio or the fraction".to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests;
