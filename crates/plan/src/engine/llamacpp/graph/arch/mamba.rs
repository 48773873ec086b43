//! How does a Mamba layer run? A short convolution and a selective scan over the layer's state.
//!
//! Follows `llm_build_mamba_base` (llama.cpp 0c1e57098, src/models/mamba-base.cpp).

use crate::engine::llamacpp::graph::build::{Build, Norm, States};
use crate::engine::llamacpp::graph::tensor::{Id, Kind, Op, Unary};
use crate::engine::llamacpp::hparams::supports_rollback;

/// The sizes of a state-space layer, from the file's `ssm.*` keys.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Width of the convolution (`ssm.conv_kernel`).
    pub conv: u64,
    /// Inner width (`ssm.inner_size`).
    pub inner: u64,
    /// State elements per channel (`ssm.state_size`).
    pub state: u64,
    /// Rank of the time step, or number of heads (`ssm.time_step_rank`).
    pub rank: u64,
    /// Groups of B and C (`ssm.group_count`).
    pub groups: u64,
}

impl Sizes {
    /// Reads them.
    #[must_use]
    pub fn of_file(b: &Build<'_>) -> Self {
        let ssm = b.model.hparams.ssm;
        Self { conv: ssm.conv, inner: ssm.inner, state: ssm.state, rank: ssm.dt_rank, groups: ssm.groups }
    }

    /// Channels of the convolution: the inner width, and B and C.
    #[must_use]
    pub fn channels(&self) -> u64 {
        self.inner.saturating_add(self.groups.saturating_mul(self.state).saturating_mul(2))
    }
}

/// Tokens of one sequence of the batch.
#[must_use]
pub fn seq_tokens(b: &Build<'_>) -> u64 {
    b.batch.tokens / b.batch.seqs.max(1)
}

/// States that a batch leaves per sequence: the last, and those it can be rolled back to (`n_rs_seq` + 1, where the
/// architecture can be rolled back).
#[must_use]
pub fn snapshots(b: &Build<'_>) -> u64 {
    let kept = if supports_rollback(&b.model.hparams.arch) { b.cx.snapshots } else { 0 };
    kept.saturating_add(1).min(1024)
}

/// Where a snapshot's states of `width` numbers start in the cache.
#[must_use]
pub fn slot(b: &Build<'_>, number: u64, width: u64) -> u64 {
    number.saturating_mul(b.cx.sequences.max(1)).saturating_mul(width).saturating_mul(4)
}

/// The sequences' states of `width` numbers out of a cache, copied.
pub fn load(b: &mut Build<'_>, states: &States, cache: Id, width: u64) -> Id {
    b.rs(states, cache, width, |b, table, rows| b.g.get_rows(table, rows))
}

/// Adds the bias of that name where the file has it.
pub fn biased(b: &mut Build<'_>, il: usize, name: &str, cur: Id) -> Id {
    match b.opt(il, &format!("{name}.bias")) {
        Some(bias) => b.g.add(cur, bias),
        None => cur,
    }
}

/// `ggml_ssm_conv`.
pub fn ssm_conv(b: &mut Build<'_>, x: Id, kernel: Id) -> Id {
    let (from, by) = (b.g.ne(x), b.g.ne(kernel));
    let tokens = (from[0].saturating_add(1)).saturating_sub(by[0]);
    b.g.result(Op::SsmConv, Kind::F32, [by[1], tokens, from[2], 1], &[Some(x), Some(kernel)])
}

/// `ggml_ssm_scan`: sources are the states, x, dt, A, B, C and the states' places; the result ends with the kept states.
fn ssm_scan(b: &mut Build<'_>, sources: [Id; 7], snapshots: u64) -> Id {
    let state = b.g.ne(sources[0]);
    let seqs = b.g.ne(sources[6])[0];
    let kept = state[..3].iter().fold(seqs.saturating_mul(snapshots), |product, &n| product.saturating_mul(n));
    let all = b.g.get(sources[1]).elements().saturating_add(kept);
    let sources = sources.map(Some);
    let snapshots = u32::try_from(snapshots).unwrap_or(u32::MAX);
    b.g.result(Op::SsmScan { snapshots }, Kind::F32, [all, 1, 1, 1], &sources)
}

/// A layer of the first Mamba.
pub fn mamba(b: &mut Build<'_>, il: usize, states: &States, cur: Id) -> Id {
    let sizes = Sizes::of_file(b);
    let (seqs, tokens, inner) = (b.batch.seqs, seq_tokens(b), sizes.inner);
    let convs = b.state(il, true);
    let conv = load(b, states, convs, (sizes.conv.saturating_sub(1)).saturating_mul(inner));
    let conv = b.g.reshape_3d(conv, sizes.conv.saturating_sub(1), inner, seqs);
    let width = b.g.ne(cur)[0];
    let cur = b.g.reshape_3d(cur, width, tokens, seqs);
    let xz = b.linear(il, "ssm_in", cur);
    let nb = b.g.nb(xz);
    let x = b.g.view_3d(xz, [inner, tokens, seqs], [nb[1], nb[2]], 0);
    let z = b.g.view_3d(xz, [inner, tokens, seqs], [nb[1], nb[2]], inner.saturating_mul(4));
    let x = b.g.transpose(x);
    let conv_x = b.g.concat(conv, x, 0);
    let nb = b.g.nb(conv_x);
    let last = [sizes.conv.saturating_sub(1), inner, seqs];
    let last = b.g.view_3d(conv_x, last, [nb[1], nb[2]], tokens.saturating_mul(nb[0]));
    let row = (sizes.conv.saturating_sub(1)).saturating_mul(inner).saturating_mul(seqs);
    let place = b.g.view_1d(convs, row, 0);
    let stored = b.g.cpy(last, place);
    b.g.expand(stored);
    let kernel = b.w(il, "ssm_conv1d.weight");
    let x = ssm_conv(b, conv_x, kernel);
    let x = biased(b, il, "ssm_conv1d", x);
    let x = b.g.unary(x, Unary::Silu);
    let y = mamba_scan(b, il, states, &sizes, x);
    let z = b.g.cont(z);
    let y = b.g.glu_split(z, y);
    let out = b.linear(il, "ssm_out", y);
    let width = b.g.ne(out)[0];
    b.g.reshape_2d(out, width, tokens.saturating_mul(seqs))
}

fn mamba_scan(b: &mut Build<'_>, il: usize, states: &States, sizes: &Sizes, x: Id) -> Id {
    let (seqs, tokens, inner) = (b.batch.seqs, seq_tokens(b), sizes.inner);
    let (state, rank) = (sizes.state, sizes.rank);
    let x_db = b.linear(il, "ssm_x", x);
    let nb = b.g.nb(x_db);
    let mut dt = b.g.view_3d(x_db, [rank, tokens, seqs], [nb[1], nb[2]], 0);
    let part = [state.saturating_mul(nb[0]), nb[1], nb[2]];
    let shape = [state, 1, tokens, seqs];
    let mut bs = b.g.view_4d(x_db, shape, part, rank.saturating_mul(4));
    let mut cs = b.g.view_4d(x_db, shape, part, rank.saturating_add(state).saturating_mul(4));
    let norms = ["ssm_dt_norm", "ssm_b_norm", "ssm_c_norm"].map(|name| b.opt(il, &format!("{name}.weight")));
    if b.flag("ssm.dt_b_c_rms") || norms.iter().all(Option::is_some) {
        dt = b.norm(dt, norms[0], None, Norm::Rms, Some(il));
        bs = b.norm(bs, norms[1], None, Norm::Rms, Some(il));
        cs = b.norm(cs, norms[2], None, Norm::Rms, Some(il));
    } else {
        dt = b.g.cont(dt);
    }
    let dt = b.linear(il, "ssm_dt", dt);
    let dt = biased(b, il, "ssm_dt", dt);
    let heads = b.g.reshape(x, [1, inner, tokens, seqs]);
    let a = b.w(il, "ssm_a");
    let cache = b.state(il, false);
    let rows = b.g.ne(cache)[1];
    let width = state.saturating_mul(inner);
    let y_ssm = b.rs(states, cache, width, |b, all, places| {
        let all = b.g.reshape(all, [state, 1, inner, rows]);
        ssm_scan(b, [all, heads, dt, a, bs, cs, places], 1)
    });
    let nb = b.g.nb(heads);
    let from = b.g.view_1d(y_ssm, width.saturating_mul(seqs), nb[3].saturating_mul(seqs));
    let place = b.g.view_1d(cache, width.saturating_mul(seqs), 0);
    let stored = b.g.cpy(from, place);
    b.g.expand(stored);
    let y = b.g.view_3d(y_ssm, [inner, tokens, seqs], [nb[2], nb[3]], 0);
    let d = b.w(il, "ssm_d");
    let skip = b.g.mul(x, d);
    b.g.add(y, skip)
}

/// A layer of Mamba 2.
pub fn mamba2(b: &mut Build<'_>, il: usize, states: &States, cur: Id) -> Id {
    let sizes = Sizes::of_file(b);
    let (seqs, tokens, inner, heads) = (b.batch.seqs, seq_tokens(b), sizes.inner, sizes.rank);
    let head_dim = inner / heads.max(1);
    let channels = sizes.channels();
    let row = (sizes.conv.saturating_sub(1)).saturating_mul(channels);
    let convs = b.state(il, true);
    let conv = load(b, states, convs, row);
    let conv = b.g.reshape_3d(conv, sizes.conv.saturating_sub(1), channels, seqs);
    let parts = b.linear(il, "ssm_in", cur);
    let width = b.g.ne(parts)[0];
    let parts = b.g.reshape_3d(parts, width, tokens, seqs);
    let nb = b.g.nb(parts);
    let by_head = [head_dim.saturating_mul(nb[0]), nb[1], nb[2]];
    let z = b.g.view_4d(parts, [head_dim, heads, tokens, seqs], by_head, 0);
    let mixed = b.g.view_3d(parts, [channels, tokens, seqs], [nb[1], nb[2]], inner.saturating_mul(4));
    let after = inner.saturating_add(channels).saturating_mul(4);
    let dt = b.g.view_3d(parts, [heads, tokens, seqs], [nb[1], nb[2]], after);
    let mixed = b.g.transpose(mixed);
    let conv_x = b.g.concat(conv, mixed, 0);
    let nb = b.g.nb(conv_x);
    let last = [sizes.conv.saturating_sub(1), channels, seqs];
    for number in 0..tokens.min(snapshots(b)) {
        let start = (tokens - number).saturating_mul(nb[0]);
        let last = b.g.view_3d(conv_x, last, [nb[1], nb[2]], start);
        let offset = slot(b, number, row);
        let conv_nb = b.g.nb(convs)[1];
        let place = b.g.view_2d(convs, [row, seqs], conv_nb, offset);
        let stored = b.g.cpy(last, place);
        b.g.expand(stored);
    }
    let kernel = b.w(il, "ssm_conv1d.weight");
    let mixed = ssm_conv(b, conv_x, kernel);
    let mixed = biased(b, il, "ssm_conv1d", mixed);
    let mixed = b.g.unary(mixed, Unary::Silu);
    let y = mamba2_scan(b, il, states, &sizes, mixed, dt);
    let z = b.g.cont(z);
    let mut y = b.g.glu_split(z, y);
    if let Some(norm) = b.opt(il, "ssm_norm.weight") {
        let groups = sizes.groups.max(1);
        y = b.g.reshape(y, [inner / groups, groups, tokens, seqs]);
        y = b.norm(y, Some(norm), None, Norm::Rms, Some(il));
    }
    let y = b.g.reshape_2d(y, inner, tokens.saturating_mul(seqs));
    b.linear(il, "ssm_out", y)
}

fn mamba2_scan(b: &mut Build<'_>, il: usize, states: &States, sizes: &Sizes, mixed: Id, dt: Id) -> Id {
    let (seqs, tokens, inner, heads) = (b.batch.seqs, seq_tokens(b), sizes.inner, sizes.rank);
    let (state, groups) = (sizes.state, sizes.groups);
    let head_dim = inner / heads.max(1);
    let nb = b.g.nb(mixed);
    let by_head = [head_dim.saturating_mul(nb[0]), nb[1], nb[2]];
    let x = b.g.view_4d(mixed, [head_dim, heads, tokens, seqs], by_head, 0);
    let by_group = [state.saturating_mul(nb[0]), nb[1], nb[2]];
    let shape = [state, groups, tokens, seqs];
    let bs = b.g.view_4d(mixed, shape, by_group, inner.saturating_mul(4));
    let after = inner.saturating_add(groups.saturating_mul(state)).saturating_mul(4);
    let cs = b.g.view_4d(mixed, shape, by_group, after);
    let dt = b.g.cont(dt);
    let dt = biased(b, il, "ssm_dt", dt);
    let a = b.w(il, "ssm_a");
    let cache = b.state(il, false);
    let rows = b.g.ne(cache)[1];
    let width = state.saturating_mul(inner);
    let kept = snapshots(b);
    let y_ssm = b.rs(states, cache, width, |b, all, places| {
        let all = b.g.reshape(all, [state, head_dim, heads, rows]);
        ssm_scan(b, [all, x, dt, a, bs, cs, places], kept)
    });
    let bytes = width.saturating_mul(4);
    let start = b.g.get(x).elements().saturating_mul(4);
    let from = b.g.view_3d(y_ssm, [width, seqs, tokens.min(kept)], [bytes, bytes.saturating_mul(seqs)], start);
    let nb = b.g.nb(cache)[1];
    let stride = slot(b, 1, width);
    let place = b.g.view_3d(cache, [width, seqs, tokens.min(kept)], [nb, stride], 0);
    let stored = b.g.cpy(from, place);
    b.g.expand(stored);
    let nb1 = b.g.nb(x)[1];
    let token = heads.saturating_mul(nb1);
    let y = b.g.view_4d(y_ssm, [head_dim, heads, tokens, seqs], [nb1, token, tokens.saturating_mul(token)], 0);
    let d = b.w(il, "ssm_d");
    let skip = b.g.mul(x, d);
    b.g.add(y, skip)
}
