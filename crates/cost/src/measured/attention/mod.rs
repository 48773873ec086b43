//! How long does attention take? Grouped attention of prompts and of new tokens, latent attention, and both kinds of work
//! in one kernel.
//!
//! A time is that of a simple model of the kernel over the card's own rates ([`grouped`]), times a
//! correction from a table fitted to measured kernels: the exponential of a value interpolated over keys or tokens, rows
//! side by side, heads per key head and head width, and a second value where there is a window.
//!
//! Measured times hold the write of new keys and values to the cache (vLLM) where the engine's operator does it, and were
//! taken with one layer's cache read over and over: what fits into the level-2 cache was found there, which is quicker than
//! in a model whose layers take turns.

mod flash2;
pub mod grouped;
pub mod latent;
pub mod mixed;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use self::grouped::{Card, Grouped, Phase, Style};
use super::grid::{self, Grid};
use super::{Backend, Basis, HOMES, Kernels, Timed};
use crate::{Kernel, Work};

/// Values of the tables are hundredths: the unit that a grid takes for a thousandth is ten.
pub const HUNDREDTHS: f64 = 10.0;

/// Returns the time by the tables; `None` where they have nothing.
pub(super) fn time(kernels: &Kernels, kernel: &Kernel, _work: &Work) -> Option<Timed> {
    match kernel {
        Kernel::ContextAttention { .. } | Kernel::GenerationAttention { .. } => {
            grouped_time(kernels, &Card::new(&kernels.hardware)?, &case(kernel)?)
        }
        Kernel::ContextLatent { .. } | Kernel::GenerationLatent { .. } | Kernel::LatentProduct { .. } => {
            latent::time(kernels, kernel)
        }
        Kernel::Gemm { .. }
        | Kernel::Moe { .. }
        | Kernel::Recurrent { .. }
        | Kernel::Stream { .. }
        | Kernel::Collective { .. } => None,
    }
}

/// Cuts a number to what the models can take: above zero and finite.
fn sane(value: f64, least: f64) -> f64 {
    if value >= least { value.min(1e12) } else { least }
}

/// Reads grouped attention from a kernel.
fn case(kernel: &Kernel) -> Option<Grouped> {
    let (phase, batch, tokens, context, heads, kv_heads, head_dim, window, kv_bytes) = match *kernel {
        Kernel::ContextAttention { batch, tokens, context, heads, kv_heads, head_dim, window, kv_bytes } => {
            (Phase::Context, batch, tokens, context, heads, kv_heads, head_dim, window, kv_bytes)
        }
        Kernel::GenerationAttention { batch, context, heads, kv_heads, head_dim, window, kv_bytes } => {
            (Phase::Generation, batch, 1.0, context, heads, kv_heads, head_dim, window, kv_bytes)
        }
        Kernel::Gemm { .. }
        | Kernel::ContextLatent { .. }
        | Kernel::GenerationLatent { .. }
        | Kernel::LatentProduct { .. }
        | Kernel::Moe { .. }
        | Kernel::Recurrent { .. }
        | Kernel::Stream { .. }
        | Kernel::Collective { .. } => return None,
    };
    Some(Grouped {
        phase,
        batch: sane(batch, 1e-3),
        tokens: sane(tokens, 1.0),
        context: sane(context, 0.0),
        heads: f64::from(heads.max(1)),
        kv_heads: f64::from(kv_heads.max(1)),
        head_dim: f64::from(head_dim.max(1)),
        window: window.map(|window| f64::from(window.max(1))),
        kv_bytes: sane(kv_bytes, 0.125).min(8.0),
    })
}

/// Which table: card, engine, phase, whether the cache holds 8 bits.
type Key = (&'static str, Backend, Phase, bool);

/// A fitted correction.
struct Fitted {
    /// Over the axes of [`Grouped::place`].
    grid: Grid,
    /// Over those of [`Grouped::window_place`], where windows were measured.
    window: Option<Grid>,
}

/// The name of a width of numbers in the cache in the tables.
pub const fn cache_name(eight: bool) -> &'static str {
    if eight { "fp8" } else { "bf16" }
}

/// Which simple model the tables of a card and an engine are corrections of: vLLM runs FlashAttention 2 with a 16-bit cache
/// except on Hopper (version 3) and on data-centre Blackwell (FlashInfer and TensorRT-LLM's kernels).
pub const fn style(capability: (u8, u8), backend: Backend, eight: bool) -> Style {
    match (backend, capability.0) {
        (Backend::Vllm, 8 | 12) if !eight => Style::Flash2,
        (Backend::Vllm | Backend::Sglang | Backend::TensorRtLlm, _) => Style::Split,
    }
}

/// All of the file's tables.
struct File {
    /// One kind of work in a kernel.
    apart: BTreeMap<Key, Fitted>,
    /// Both kinds in one kernel of FlashAttention 2, by card.
    mixed: BTreeMap<&'static str, Grid>,
}

/// The tables of kernels with one kind of work.
fn tables() -> &'static BTreeMap<Key, Fitted> {
    &file().apart
}

/// The tables of kernels with both kinds.
fn mixed_tables() -> &'static BTreeMap<&'static str, Grid> {
    &file().mixed
}

/// The file, read when first asked for.
fn file() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        // The file is compiled in and a test reads it: one that cannot be read speaks for nothing.
        let mut read = grid::parse(include_str!("../../../data/attention.txt")).unwrap_or_default();
        let (mut found, mut mixed) = (BTreeMap::new(), BTreeMap::new());
        for home in &HOMES {
            if let Some(grid) = read.remove(&format!("{} vllm mixed bf16", home.card)) {
                mixed.insert(home.card, grid);
            }
            for backend in Backend::ALL {
                for phase in [Phase::Context, Phase::Generation] {
                    for eight in [false, true] {
                        let name = format!("{} {} {} {}", home.card, backend.name(), phase.name(), cache_name(eight));
                        let Some(grid) = read.remove(&name) else { continue };
                        let window = read.remove(&format!("{name} window"));
                        found.insert((home.card, backend, phase, eight), Fitted { grid, window });
                    }
                }
            }
        }
        File { apart: found, mixed }
    })
}

/// The tables that may speak for a launch, the nearest first, with what their word is worth: the engine's own before the
/// others', card by card; `find` says whether there is one.
fn nearest<T>(kernels: &Kernels, mut find: impl FnMut(&'static str, Backend) -> Option<T>) -> Option<(T, Owner)> {
    for (card, basis) in kernels.homes() {
        let capability = HOMES.iter().find(|home| home.card == card)?.capability;
        for backend in
            kernels.backend.into_iter().chain(Backend::ALL.into_iter().filter(|b| Some(*b) != kernels.backend))
        {
            if let Some(found) = find(card, backend) {
                let basis = if kernels.backend == Some(backend) { basis } else { Basis::Transferred };
                return Some((found, Owner { capability, backend, basis }));
            }
        }
    }
    None
}

/// Whose table was found.
struct Owner {
    capability: (u8, u8),
    backend: Backend,
    basis: Basis,
}

/// The time of grouped attention.
fn grouped_time(kernels: &Kernels, card: &Card, shape: &Grouped) -> Option<Timed> {
    let asked = shape.kv_bytes < 1.5;
    for eight in [asked, !asked] {
        let Some((fitted, from)) = nearest(kernels, |home, backend| tables().get(&(home, backend, shape.phase, eight)))
        else {
            continue;
        };
        let (mut value, mut inside) = fitted.grid.at(&shape.place());
        if let (Some(grid), Some(_)) = (&fitted.window, shape.window) {
            let (more, within) = grid.at(&shape.window_place());
            value += more;
            inside &= within;
        }
        let exact = (shape.kv_bytes - if eight { 1.0 } else { 2.0 }).abs() < 0.2;
        let basis = match (exact, from.basis, inside) {
            (false, ..) => Basis::Transferred,
            (true, Basis::Measured, false) => Basis::Extended,
            (true, basis, _) => basis,
        };
        let seconds = shape.base(card, style(from.capability, from.backend, eight)) * libm::exp(value * HUNDREDTHS);
        return Some(Timed { seconds, basis });
    }
    None
}
