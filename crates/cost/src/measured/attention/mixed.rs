//! How long does one kernel take that computes pieces of prompts and single tokens of other sequences together?
//!
//! vLLM's FlashAttention backend runs a step's whole batch as one kernel (`vllm/v1/attention/backends/flash_attn.py`, all
//! releases); FlashInfer, TensorRT-LLM and SGLang run one for each kind.

use super::grouped::{Card, FLOOR, Grouped, Style};
use super::{HUNDREDTHS, case, flash2, mixed_tables, style};
use crate::measured::{Backend, Basis, Kernels, Timed};
use crate::{Kernel, Work};

/// Returns the time of a step's attention where it has both pieces of prompts and single tokens: of one kernel where the
/// engine runs one, the sum of two where not.
///
/// FlashAttention 2 packs and splits nothing in such a kernel: every head of every new token walks its keys in a thread
/// block of its own, so that the kernel can take several times the sum of the two apart. FlashAttention 3 balances thread
/// blocks of both kinds, so the two add up but for one start: assumed, no measurement is at hand.
///
/// Over 8 448 batches on an RTX 4090 and 113 760 on an RTX PRO 6000 (LLMServingSim, vLLM 0.19) the sum of the two kernels
/// apart is 34% and 24% off (median), the larger of the two 45% and 39%, this rule 2.1% and 3.7% on batches left out.
pub fn time(kernels: &Kernels, pieces: (&Kernel, &Work), singles: (&Kernel, &Work)) -> Timed {
    let (first, second) = (kernels.time(pieces.0, pieces.1), kernels.time(singles.0, singles.1));
    let apart = Timed { seconds: first.seconds + second.seconds, basis: first.basis.max(second.basis) };
    together(kernels, pieces.0, singles.0, apart).unwrap_or(apart)
}

/// Returns where a batch lies on the axes of its table: rows of pieces and keys before them, heads of single tokens and the
/// keys that they see.
pub fn place(pieces: &Grouped, singles: &Grouped) -> [f64; 4] {
    [pieces.batch * pieces.tokens * pieces.heads, pieces.context + 1.0, singles.batch * singles.heads, singles.seen()]
}

/// Returns the seconds that the simple model gives for one kernel of FlashAttention 2.
pub fn base(card: &Card, pieces: &Grouped, singles: &Grouped) -> f64 {
    flash2::mixed(card, pieces, singles)
}

fn together(kernels: &Kernels, pieces: &Kernel, singles: &Kernel, apart: Timed) -> Option<Timed> {
    if kernels.backend != Some(Backend::Vllm) {
        return None;
    }
    let (pieces, singles, card) = (case(pieces)?, case(singles)?, Card::new(&kernels.hardware)?);
    let (capability, eight) = (kernels.hardware.capability?, singles.kv_bytes < 1.5);
    match (style(capability, Backend::Vllm, eight), capability.0) {
        (Style::Flash2, _) => Some(flash(kernels, &card, &pieces, &singles)),
        (Style::Split, 9) => {
            Some(Timed { seconds: (apart.seconds - FLOOR).max(apart.seconds / 2.0), basis: apart.basis })
        }
        (Style::Split, _) => None,
    }
}

/// One kernel of FlashAttention 2, corrected by the nearest card's table where there is one.
fn flash(kernels: &Kernels, card: &Card, pieces: &Grouped, singles: &Grouped) -> Timed {
    let modelled = base(card, pieces, singles);
    for (home, basis) in kernels.homes() {
        let Some(grid) = mixed_tables().get(home) else { continue };
        let (value, inside) = grid.at(&place(pieces, singles));
        let basis = if basis == Basis::Measured && !inside { Basis::Extended } else { basis };
        return Timed { seconds: modelled * libm::exp(value * HUNDREDTHS), basis };
    }
    Timed { seconds: modelled, basis: Basis::Transferred }
}
