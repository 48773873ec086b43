//! What does the budget become? Slots for states, pools for tokens, requests, and the table between them.

use super::cells::{Cells, State};
use super::defaults::Resolved;
use super::options::Options;
use crate::Version;

/// What the pools of one launch hold, the least over the pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pools {
    /// `max_total_num_tokens`.
    pub tokens: u64,
    /// Tokens of the sliding pool, where there is one.
    pub swa_tokens: Option<u64>,
    /// State slots, where there are states.
    pub slots: Option<u64>,
    /// Requests of one worker.
    pub requests: u64,
    /// Why the engine stops, where it does.
    pub refused: Option<Refused>,
}

/// Why the engine stops while it sizes its pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing is left for the cache.
    Nothing,
    /// Not even one state slot, or one request.
    States,
    /// The sliding pool holds no request.
    Window,
}

/// One stage's sizing.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Per token.
    pub cells: Cells,
    /// Per sequence.
    pub state: State,
    /// What is left after the weights and the reserve, bytes; below zero when nothing is.
    pub rest: f64,
}

const fn at(minor: u16, patch: u16) -> Version {
    Version::new(0, minor, patch)
}

/// What becomes of one stage's states.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct States {
    /// Slots.
    pub slots: u64,
    /// What is left for tokens, bytes.
    pub rest: f64,
}

/// Sizes the pools.
pub fn size(resolved: &Resolved, options: &Options, stages: &[Stage]) -> Pools {
    let mut pools = Pools::default();
    let largest = stages.iter().map(|stage| stage.state.bytes()).max().unwrap_or(0);
    let mut tokens = u64::MAX;
    for stage in stages {
        let mut rest = stage.rest;
        if largest > 0 {
            let states = states(resolved, options, rest, largest);
            pools.slots = Some(pools.slots.map_or(states.slots, |slots| slots.min(states.slots)));
            rest = states.rest;
        }
        if rest <= 0.0 {
            pools.refused = Some(Refused::Nothing);
            tokens = 0;
            continue;
        }
        // Bytes of one stage are far below 2^53, so this is Python's int().
        tokens = tokens.min(stage_tokens(resolved, options, &stage.cells, rest as u64));
    }
    if tokens == u64::MAX {
        // No layer keeps tokens: the pool is as long as asked for, or as one sequence.
        tokens = options.max_total_tokens.unwrap_or(resolved.context);
    }
    tokens = tokens.min(options.max_total_tokens.unwrap_or(u64::MAX));
    tokens = tokens / resolved.page * resolved.page;
    let early = drafted_slots(resolved, options, tokens);
    tokens = tokens.saturating_add(early);
    if let Some(cells) = stages.first().map(|stage| &stage.cells).filter(|cells| cells.swa_layers > 0) {
        let swa = sliding_tokens(resolved, options, cells, tokens);
        pools.swa_tokens = Some(swa);
        if resolved.version >= at(5, 22) && swa <= cells.window + resolved.page {
            pools.refused = pools.refused.or(Some(Refused::Window));
        }
    }
    pools.tokens = tokens;
    if tokens == 0 {
        pools.refused = pools.refused.or(Some(Refused::Nothing));
    }
    pools.requests = requests(resolved, options, &pools);
    if pools.slots == Some(0) || (largest > 0 && pools.requests == 0) {
        pools.refused = pools.refused.or(Some(Refused::States));
    }
    pools
}

/// Tokens of one stage.
fn stage_tokens(resolved: &Resolved, options: &Options, cells: &Cells, bytes: u64) -> u64 {
    let page = resolved.page.max(1);
    let down = |tokens: u64| tokens / page * page;
    if let Some(each) = cells.compressed {
        return down((bytes as f64 / each.max(1.0)) as u64);
    }
    let full = cells.charged + cells.draft;
    if cells.swa_layers == 0 {
        return bytes.checked_div(full).map_or(u64::MAX, down);
    }
    if cells.full_layers == 0 {
        return bytes.checked_div(cells.swa_held).map_or(u64::MAX, down);
    }
    if resolved.version >= at(5, 11) {
        if let Some(cap) = window_cap(resolved, options, cells) {
            let left = bytes.saturating_sub(cap.saturating_mul(cells.swa_held));
            return left.checked_div(full).map_or(0, down);
        }
        let cell = full as f64 + resolved.swa_ratio * cells.swa_held as f64;
        return down((bytes as f64 / cell).floor() as u64);
    }
    early_sliding(resolved, cells, bytes)
}

/// Before 0.5.11: all layers were counted as full, and the sum divided anew.
///
/// SGLang 0.5.9, `srt/model_executor/model_runner_kv_cache_mixin.py`, `set_num_tokens_hybrid_swa`; 0.5.6,
/// `srt/model_executor/model_runner.py`, `set_num_token_hybrid`.
fn early_sliding(resolved: &Resolved, cells: &Cells, bytes: u64) -> u64 {
    let page = resolved.page.max(1);
    let down = |tokens: u64| tokens / page * page;
    let (full, swa) = (cells.charged, cells.swa_held);
    let ratio = resolved.swa_ratio;
    let all = down(bytes.checked_div(full + swa).unwrap_or(0));
    if resolved.version >= at(5, 8) {
        let total = all as f64 * (full + swa) as f64;
        return down((total / (full as f64 + ratio * swa as f64)) as u64);
    }
    let layers = (cells.full_layers + cells.swa_layers) as f64;
    (all as f64 * layers / (ratio * cells.swa_layers as f64 + cells.full_layers as f64)) as u64
}

/// Tokens of the sliding pool.
fn sliding_tokens(resolved: &Resolved, options: &Options, cells: &Cells, tokens: u64) -> u64 {
    let page = resolved.page.max(1);
    if cells.full_layers == 0 {
        return tokens;
    }
    if let Some(cap) = window_cap(resolved, options, cells) {
        return cap.min(tokens);
    }
    let swa = (tokens as f64 * resolved.swa_ratio) as u64;
    if resolved.version >= at(5, 8) { swa / page * page } else { swa }
}

/// The most slots that the stated requests hold at once, where the sliding pool is sized by them.
///
/// SGLang 0.5.22 and 0.5.23, `srt/model_executor/pool_configurator.py`, `compute_swa_request_cap`.
fn window_cap(resolved: &Resolved, options: &Options, cells: &Cells) -> Option<u64> {
    let requests = options.max_running?;
    if resolved.version < at(5, 22) || !options.no_radix || cells.window == 0 {
        return None;
    }
    let chunk = resolved.worker_chunk?;
    let page = resolved.page;
    let drafted = resolved.draft.as_ref().map_or(1, |draft| draft.tokens);
    let trailing = cells.window + options.swa_eviction.saturating_mul(drafted) + page;
    let ahead = match &resolved.draft {
        None => page,
        Some(draft) => 2 * draft.tokens.max(draft.steps.saturating_mul(draft.topk)).next_multiple_of(page),
    };
    let each = trailing.saturating_add(ahead);
    let workers = (requests / options.workers().max(1)).max(1);
    let chunks = if resolved.overlap { 2 } else { 1 };
    Some(each.saturating_mul(workers).saturating_add(chunks * chunk + page).next_multiple_of(page))
}

/// Slots that releases before 0.5.8 added for drafted tokens after the sizing.
///
/// SGLang 0.5.2 and 0.5.6, `srt/model_executor/model_runner.py`, `init_memory_pool` (`draft_runner_cache_size`).
fn drafted_slots(resolved: &Resolved, options: &Options, tokens: u64) -> u64 {
    let Some(draft) = resolved.draft.as_ref().filter(|draft| draft.keeps_cache()) else { return 0 };
    if resolved.version >= at(5, 8) || tokens == 0 {
        return 0;
    }
    let requests = options.max_running.or(resolved.max_running).unwrap_or(48);
    let added = requests.saturating_mul(draft.steps.saturating_mul(draft.topk).saturating_add(draft.tokens)) + 100;
    added / resolved.page * resolved.page
}

/// Splits what is left between states and tokens.
///
/// SGLang 0.5.23, `srt/mem_cache/kv_cache_configurator.py`, `_handle_max_mamba_cache`; 0.5.9 and 0.5.13,
/// `srt/model_executor/model_runner_kv_cache_mixin.py`, `handle_max_mamba_cache`; 0.5.6 and 0.5.3,
/// `srt/model_executor/model_runner.py`. Since 0.5.17 the pool's padding slot is charged too, which is why logs of these
/// releases show one slot less than budget ÷ size.
pub fn states(resolved: &Resolved, options: &Options, rest: f64, each: u64) -> States {
    let version = resolved.version;
    let each = each.max(1) as f64;
    let workers = options.workers().max(1);
    let drafted = resolved.draft.as_ref().map_or(0, |draft| draft.tokens) as f64;
    let said = resolved.max_running.map(|most| (most / workers).max(1));
    let padding = if version >= at(5, 17) { 1.0 } else { 0.0 };
    let k = per_request(resolved, options) as f64;
    let fixed = match (options.mamba_slots, options.max_running) {
        (Some(slots), _) => Some(slots / workers),
        (None, _) if version < at(5, 4) => Some(options.max_running.unwrap_or(512)),
        (None, Some(most)) if options.no_radix => Some((most / workers).max(1)),
        (None, None) if options.no_radix && version < at(5, 8) => Some(512),
        (None, _) => None,
    };
    let share = rest * options.mamba_ratio / (1.0 + options.mamba_ratio);
    if version < at(5, 8) {
        let whole = each * (1.0 + if version >= at(5, 4) { drafted } else { 0.0 });
        let slots = fixed.unwrap_or((share / whole).floor().max(0.0) as u64);
        return States { slots, rest: rest - slots as f64 * whole };
    }
    if version < at(5, 13) {
        let rest = rest - each * said.unwrap_or(0) as f64 * drafted;
        let share = rest * options.mamba_ratio / (1.0 + options.mamba_ratio);
        let slots = fixed.unwrap_or((share / each).floor().max(0.0) as u64);
        return States { slots, rest: rest - slots as f64 * each };
    }
    let slots = fixed.unwrap_or_else(|| {
        let padded = share - padding * each * (1.0 + drafted);
        (padded / (each * (1.0 + drafted / k))).floor().max(0.0) as u64
    });
    let verified = said.unwrap_or(u64::MAX).min((slots as f64 / k) as u64) as f64 + padding;
    let between = if drafted > 0.0 { each * verified * drafted } else { 0.0 };
    States { slots, rest: rest - between - (slots as f64 + padding) * each }
}

/// State slots that one running request takes.
///
/// SGLang 0.5.23, `srt/mem_cache/kv_cache_configurator.py`, `_calculate_mamba_ratio`, and `srt/arg_groups/overrides.py`,
/// `_mamba_radix_cache_resolution`: since 0.5.14 `auto` is the extra buffer where the model's kernels have it.
pub fn per_request(resolved: &Resolved, options: &Options) -> u64 {
    if options.no_radix || resolved.version < at(5, 4) {
        return 1;
    }
    match strategy(resolved, options) {
        "extra_buffer" if resolved.overlap => 5,
        "extra_buffer" | "extra_buffer_lazy" => 4,
        _ => 3,
    }
}

/// The strategy by which states are kept for reuse.
pub fn strategy<'a>(resolved: &Resolved, options: &'a Options) -> &'a str {
    match options.mamba_strategy.as_deref() {
        Some(said) => said,
        None if resolved.buffers_states && resolved.version >= at(5, 14) && (resolved.overlap || resolved.page > 1) => {
            "extra_buffer"
        }
        None => "no_buffer",
    }
}

/// Requests of one worker.
///
/// SGLang 0.5.23, `srt/mem_cache/kv_cache_configurator.py`, `resolve_max_num_reqs`; 0.5.10,
/// `srt/model_executor/model_runner_kv_cache_mixin.py`, `_resolve_max_num_reqs`; 0.5.9, `init_memory_pool` there and
/// `srt/managers/tp_worker.py`.
fn requests(resolved: &Resolved, options: &Options, pools: &Pools) -> u64 {
    let version = resolved.version;
    let estimated = (pools.tokens as f64 / resolved.context.max(1) as f64 * 512.0) as u64;
    let estimated = estimated.clamp(2048, 4096);
    let worker = |most: u64| (most / options.workers().max(1)).max(1);
    let half = pools.tokens / 2;
    let most = match resolved.max_running {
        Some(most) if version >= at(5, 14) => worker(most).min(half),
        Some(most) if version >= at(5, 10) => worker(most).min(estimated),
        Some(most) => worker(most),
        None => estimated.min(half),
    };
    match pools.slots {
        Some(slots) => most.min(slots / per_request(resolved, options)),
        None => most,
    }
}

/// Rows of the request-to-token table.
pub fn table_rows(resolved: &Resolved, options: &Options, pools: &Pools) -> u64 {
    let version = resolved.version;
    // Before 0.5.10 the table had as many rows as asked for, whatever the pool held.
    let rows = match resolved.max_running {
        Some(most) if version < at(5, 10) && pools.slots.is_none() => most,
        None if version < at(5, 10) && pools.slots.is_none() => {
            ((pools.tokens as f64 / resolved.context.max(1) as f64 * 512.0) as u64).clamp(2048, 4096)
        }
        Some(_) | None => pools.requests,
    };
    let waiting = match options.disaggregation.as_deref() {
        Some("decode") if rows <= 32 => 2 * rows,
        Some(_) | None => 0,
    };
    rows + waiting + u64::from(version >= at(5, 10))
}

/// Bytes of the request-to-token table: 4 per row and position, with a few positions for what is drafted.
pub fn table(resolved: &Resolved, options: &Options, pools: &Pools) -> u64 {
    let drafted = resolved.draft.as_ref().map_or(0, |draft| draft.tokens);
    let columns = resolved.context.saturating_add(4 + drafted);
    table_rows(resolved, options, pools).saturating_mul(columns).saturating_mul(4)
}
