//! How long do recurrent scans take? A convolution over the channels and the scan behind it, two kernels one after the
//! other: a step's time is their sum.
//!
//! Measured are the gated delta rule of Qwen3.5 (heads 128 wide, convolution of 4) and the convolution of Mamba 2; its scan
//! was not measured and takes the efficiency of the other's over its own work.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::attention::HUNDREDTHS;
use super::attention::grouped::Card;
use super::grid::{self, Grid};
use super::{Backend, Basis, HOMES, Kernels, Timed};
use crate::kernel::Scan;
use crate::{Kernel, Work};

/// Seconds of a kernel that has next to nothing to do.
const FLOOR: f64 = 2e-6;
/// Tokens that a scan takes at once.
const CHUNK: f64 = 64.0;

/// Which kernel of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The convolution of pieces of prompts.
    PromptConvolution,
    /// The scan of pieces of prompts.
    PromptScan,
    /// The convolution of one new token per sequence.
    TokenConvolution,
    /// The scan of one new token per sequence.
    TokenScan,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::PromptConvolution, Part::PromptScan, Part::TokenConvolution, Part::TokenScan];

    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Part::PromptConvolution => "context conv",
            Part::PromptScan => "context scan",
            Part::TokenConvolution => "generation conv",
            Part::TokenScan => "generation scan",
        }
    }
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// Sequences.
    pub batch: f64,
    /// Tokens that each computes.
    pub tokens: f64,
    /// Key heads, or groups.
    pub key_heads: f64,
    /// Width of a key head, or of the state.
    pub key_dim: f64,
    /// Value heads, or heads.
    pub value_heads: f64,
    /// Width of a value head.
    pub value_dim: f64,
    /// Width of the convolution.
    pub conv: f64,
}

impl Case {
    /// Channels that the convolution runs over: queries, keys and values; for Mamba 2 the stream, B and C.
    pub fn channels(&self) -> f64 {
        2.0 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    /// Returns where the case lies on the axes of a table: tokens, and sequences times what runs side by side (heads,
    /// channels by 128); for new tokens those, and what runs side by side in one sequence.
    pub fn place(&self, part: Part) -> [f64; 2] {
        match part {
            Part::PromptConvolution => [self.tokens, self.batch * self.channels() / 128.0],
            Part::PromptScan => [self.tokens, self.batch * self.value_heads],
            Part::TokenConvolution => [self.batch * self.channels() / 128.0, self.channels() / 128.0],
            Part::TokenScan => [self.batch * self.value_heads, self.value_heads],
        }
    }

    /// Returns the seconds that the simple model gives: channels read and written; states read and written in 32 bits; or
    /// chunks of a prompt one after the other, as many heads at once as there are multiprocessors.
    pub fn base(&self, part: Part, card: &Card) -> f64 {
        let channels = self.batch * self.channels();
        let state = self.batch * self.value_heads * self.key_dim * self.value_dim;
        let written = 2.0 * self.batch * self.tokens * self.value_heads * self.value_dim;
        match part {
            Part::PromptConvolution => {
                FLOOR + channels * (4.0 * self.tokens + 4.0 * self.conv) / (card.bandwidth * 0.5)
            }
            Part::TokenConvolution => FLOOR + channels * 4.0 * (1.0 + self.conv) / (card.bandwidth * 0.7),
            Part::TokenScan => {
                let states = 8.0 * state / (card.bandwidth * 0.8 * (1.0 + card.resident(4.0 * state)));
                FLOOR + states + (2.0 * channels + written) / (card.bandwidth * 0.8)
            }
            Part::PromptScan => {
                let waves = (self.batch * self.value_heads / card.sms).max(1.0);
                let chunks = (self.tokens / CHUNK).max(1.0);
                // Six products of a chunk with a state's worth of numbers, two operations each.
                let flops = waves * chunks * 12.0 * CHUNK * self.key_dim * self.value_dim;
                let bytes = 2.0 * channels * self.tokens + written + 8.0 * state;
                4.0 * FLOOR + flops * card.sms / (card.peak * 0.1) + bytes / (card.bandwidth * 0.8)
            }
        }
    }
}

/// Which table: card, engine, kernel, whether Mamba 2's own.
type Key = (&'static str, Backend, Part, bool);

/// The tables, read when first asked for.
fn tables() -> &'static BTreeMap<Key, Grid> {
    static TABLES: OnceLock<BTreeMap<Key, Grid>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut read = grid::parse(include_str!("../../data/recurrent.txt")).unwrap_or_default();
        let mut found = BTreeMap::new();
        for home in &HOMES {
            for backend in Backend::ALL {
                for part in Part::ALL {
                    for (mamba, scan) in [(false, "gdn"), (true, "mamba2")] {
                        let name = format!("{} {} {scan} {}", home.card, backend.name(), part.name());
                        if let Some(grid) = read.remove(&name) {
                            found.insert((home.card, backend, part, mamba), grid);
                        }
                    }
                }
            }
        }
        found
    })
}

/// Returns the time by the tables; `None` where they have nothing.
pub(super) fn time(kernels: &Kernels, kernel: &Kernel, _work: &Work) -> Option<Timed> {
    let Kernel::Recurrent { scan, batch, tokens, key_heads, key_dim, value_heads, value_dim, conv } = *kernel else {
        return None;
    };
    let mamba = match scan {
        Scan::Gdn => false,
        Scan::Mamba2 => true,
        Scan::Other => return None,
    };
    let whole = |number: u32| f64::from(number.max(1));
    let sane = |value: f64| if value >= 1.0 { value.min(1e12) } else { 1.0 };
    let case = Case {
        batch: sane(batch),
        tokens: sane(tokens),
        key_heads: whole(key_heads),
        key_dim: whole(key_dim),
        value_heads: whole(value_heads),
        value_dim: whole(value_dim),
        conv: whole(conv),
    };
    let card = Card::new(&kernels.hardware)?;
    let parts = if case.tokens > 1.0 {
        [Part::PromptConvolution, Part::PromptScan]
    } else {
        [Part::TokenConvolution, Part::TokenScan]
    };
    let (first, second) =
        (part(kernels, &card, &case, parts[0], mamba)?, part(kernels, &card, &case, parts[1], mamba)?);
    Some(Timed { seconds: first.seconds + second.seconds, basis: first.basis.max(second.basis) })
}

/// The time of one kernel.
fn part(kernels: &Kernels, card: &Card, case: &Case, part: Part, mamba: bool) -> Option<Timed> {
    let own = [true, false].into_iter().filter(|own| *own || mamba);
    for (mine, (home, basis)) in own.flat_map(|own| kernels.homes().into_iter().map(move |home| (own, home))) {
        for backend in kernels.backend.into_iter().chain(Backend::ALL) {
            let Some(grid) = tables().get(&(home, backend, part, mamba && mine)) else { continue };
            let (value, inside) = grid.at(&case.place(part));
            let usual = mamba || ((case.key_dim - 128.0).abs() < 0.5 && (case.value_dim - 128.0).abs() < 0.5);
            let basis = match (mine && kernels.backend == Some(backend), basis, inside && usual) {
                (false, ..) => Basis::Transferred,
                (true, Basis::Measured, false) => Basis::Extended,
                (true, basis, _) => basis,
            };
            return Some(Timed { seconds: case.base(part, card) * libm::exp(value * HUNDREDTHS), basis });
        }
    }
    None
}
