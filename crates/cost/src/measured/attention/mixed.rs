//! How long does one kernel take that computes pieces of prompts and single tokens of other sequences together?
//!
//! vLLM's FlashAttention backend runs a step's whole batch as one kernel (`vllm/v1/attention/backends/flash_attn.py`, all
//! releases); FlashInfer, TensorRT-LLM and SGLang run one for each kind.

use super::grouped::{Card, FLOOR, Grouped, Phase, Style};
use super::{Owner, case, flash2, nearest, style, tables};
use crate::measured::{Backend, Basis, Kernels, Timed};
use crate::{Kernel, Work};

/// Returns the time of a step's attention where it has both pieces of prompts and single tokens: of one kernel where the
/// engine runs one, the sum of two where not.
///
/// FlashAttention 2 packs and splits nothing in such a kernel: every head of every new token walks its keys in a thread
/// block of its own, so that the kernel can take several times the sum of the two apart. FlashAttention 3 balances thread
/// blocks of both kinds, so the two add up but for one start: assumed, no measurement is at hand.
pub fn time(kernels: &Kernels, pieces: (&Kernel, &Work), singles: (&Kernel, &Work)) -> Timed {
    let (first, second) = (kernels.time(pieces.0, pieces.1), kernels.time(singles.0, singles.1));
    let apart = Timed { seconds: first.seconds + second.seconds, basis: first.basis.max(second.basis) };
    together(kernels, pieces.0, singles.0, apart).unwrap_or(apart)
}

fn together(kernels: &Kernels, pieces: &Kernel, singles: &Kernel, apart: Timed) -> Option<Timed> {
    let (pieces, singles, card) = (case(pieces)?, case(singles)?, Card::new(&kernels.hardware)?);
    let eight = singles.kv_bytes < 1.5;
    let (_, Owner { capability, backend, basis }) =
        nearest(kernels, |home, backend| tables().get(&(home, backend, Phase::Generation, eight)))?;
    if backend != Backend::Vllm || kernels.backend != Some(Backend::Vllm) {
        return None;
    }
    match (style(capability, backend, eight), capability.0) {
        (Style::Flash2, _) => Some(flash(kernels, &card, &pieces, &singles, basis)),
        (Style::Split, 9) => {
            Some(Timed { seconds: (apart.seconds - FLOOR).max(apart.seconds / 2.0), basis: apart.basis })
        }
        (Style::Split, _) => None,
    }
}

fn flash(_kernels: &Kernels, card: &Card, pieces: &Grouped, singles: &Grouped, basis: Basis) -> Timed {
    Timed { seconds: flash2::mixed(card, pieces, singles), basis: basis.max(Basis::Extended) }
}
