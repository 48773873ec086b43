//! How long does latent attention take: prompts with keys and values expanded, new tokens over the latents themselves, and
//! the products that take queries into the latent space and results out of it?
//!
//! Tables hold DeepSeek's widths (rank 512, rope 64, nope and value 128); others scale by the simple model's work.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::super::{Backend, Basis, HOMES, Kernels, Timed};
use super::grouped::{Card, FLOOR, Grouped, Phase, Style};
use super::{HUNDREDTHS, sane};
use crate::measured::grid::{self, Grid};
use crate::{Format, Kernel, Math};

/// Which of the kernels of latent attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Prompts, expanded.
    Context,
    /// New tokens over latents.
    Generation,
    /// Queries into the latent space.
    Into,
    /// Results out of it.
    Out,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 4] = [Part::Context, Part::Generation, Part::Into, Part::Out];

    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Context => "context",
            Part::Generation => "generation",
            Part::Into => "into",
            Part::Out => "out",
        }
    }

    /// Whose tables speak where an engine has none. TensorRT-LLM's prompts run expanded on every card, as all engines'
    /// do by default, where SGLang's were measured absorbed; SGLang's generation is FlashAttention's, FlashInfer's or
    /// Triton's, as vLLM's is.
    const fn others(self) -> [Backend; 3] {
        match self {
            Part::Context => [Backend::TensorRtLlm, Backend::Sglang, Backend::Vllm],
            Part::Generation | Part::Into | Part::Out => [Backend::Sglang, Backend::TensorRtLlm, Backend::Vllm],
        }
    }
}

/// One case of latent attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latent {
    /// Which kernel.
    pub part: Part,
    /// Sequences; tokens of a product.
    pub batch: f64,
    /// Tokens that each computes.
    pub tokens: f64,
    /// Tokens that each has in the cache before.
    pub context: f64,
    /// Heads.
    pub heads: f64,
    /// Width that queries meet keys in: a key, a latent with its rope part, the inputs of a product.
    pub inner: f64,
    /// Width that comes out: a value, a latent, the outputs of a product.
    pub outer: f64,
    /// Bytes of a number in the cache, or of a product's matrix.
    pub bytes: f64,
}

impl Latent {
    /// Grouped attention of the same arithmetic, every head with its own keys.
    fn expanded(&self) -> Grouped {
        Grouped {
            phase: Phase::Context,
            batch: self.batch,
            tokens: self.tokens,
            context: self.context,
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: (self.inner + self.outer) / 2.0,
            window: None,
            kv_bytes: 2.0,
        }
    }

    /// Returns where the case lies on the axes of its table: tokens and rows; keys, sequences and heads; tokens and heads.
    pub fn place(&self) -> [f64; 3] {
        match self.part {
            Part::Context => {
                let [like, rows, ..] = self.expanded().place();
                [like, rows, 1.0]
            }
            Part::Generation => [self.context + 1.0, self.batch, self.heads],
            Part::Into | Part::Out => [self.batch, self.heads, 1.0],
        }
    }

    /// Returns the seconds that the simple model gives.
    pub fn base(&self, card: &Card) -> f64 {
        match self.part {
            Part::Context => self.expanded().base(card, Style::Split),
            Part::Generation => {
                let seen = self.context + 1.0;
                let keys = self.batch * seen * self.inner * self.bytes;
                let flops = 2.0 * self.batch * self.heads * seen * (self.inner + self.outer);
                let rows = self.batch * self.heads * (self.inner + self.outer) * 2.0;
                let memory = keys / (card.bandwidth * 0.9 * (1.0 + card.resident(keys)));
                FLOOR + memory.max(flops / (card.peak * 0.7)) + rows / card.bandwidth
            }
            Part::Into | Part::Out => {
                let flops = 2.0 * self.batch * self.heads * self.inner * self.outer;
                let matrix = self.heads * self.inner * self.outer * self.bytes;
                let rows = self.batch * self.heads * (self.inner + self.outer) * 2.0;
                FLOOR / 2.0 + (flops / (card.peak * 0.7)).max((matrix + rows) / (card.bandwidth * 0.9))
            }
        }
    }
}

/// Reads a case from a kernel, and whether its cache or matrix is of 8 bits.
fn case(kernel: &Kernel) -> Option<(Latent, bool)> {
    let whole = |number: u32| f64::from(number.max(1));
    let cache = |bytes: f64| sane(bytes, 0.125).min(8.0);
    Some(match *kernel {
        Kernel::ContextLatent { batch, tokens, context, heads, key_dim, value_dim, kv_bytes } => {
            let latent = Latent {
                part: Part::Context,
                batch: sane(batch, 1e-3),
                tokens: sane(tokens, 1.0),
                context: sane(context, 0.0),
                heads: whole(heads),
                inner: whole(key_dim),
                outer: whole(value_dim),
                bytes: cache(kv_bytes),
            };
            (latent, kv_bytes < 1.5)
        }
        Kernel::GenerationLatent { batch, context, heads, rank, rope_dim, kv_bytes } => {
            let latent = Latent {
                part: Part::Generation,
                batch: sane(batch, 1e-3),
                tokens: 1.0,
                context: sane(context, 0.0),
                heads: whole(heads),
                inner: whole(rank) + f64::from(rope_dim),
                outer: whole(rank),
                bytes: cache(kv_bytes),
            };
            (latent, kv_bytes < 1.5)
        }
        Kernel::LatentProduct { tokens, heads, k, n, format } => {
            let eight = matches!(format, Format::Fp8 | Format::Fp8Block) && format.math() == Math::Fp8;
            let latent = Latent {
                part: if k < n { Part::Into } else { Part::Out },
                batch: sane(tokens, 1.0),
                tokens: 1.0,
                context: 0.0,
                heads: whole(heads),
                inner: whole(k),
                outer: whole(n),
                bytes: if eight { 1.0 } else { 2.0 },
            };
            (latent, eight)
        }
        Kernel::Gemm { .. }
        | Kernel::ContextAttention { .. }
        | Kernel::GenerationAttention { .. }
        | Kernel::Moe { .. }
        | Kernel::Recurrent { .. }
        | Kernel::Stream { .. }
        | Kernel::Collective { .. } => return None,
    })
}

/// Which table: card, engine, kernel, whether of 8 bits.
type Key = (&'static str, Backend, Part, bool);

/// The tables, read when first asked for.
fn tables() -> &'static BTreeMap<Key, Grid> {
    static TABLES: OnceLock<BTreeMap<Key, Grid>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let mut read = grid::parse(include_str!("../../../data/latent.txt")).unwrap_or_default();
        let mut found = BTreeMap::new();
        for home in &HOMES {
            for backend in Backend::ALL {
                for part in Part::ALL {
                    for eight in [false, true] {
                        let width = super::cache_name(eight);
                        let name = format!("{} {} {} {width}", home.card, backend.name(), part.name());
                        if let Some(grid) = read.remove(&name) {
                            found.insert((home.card, backend, part, eight), grid);
                        }
                    }
                }
            }
        }
        found
    })
}

/// Returns the time by the tables; `None` where they have nothing.
pub(super) fn time(kernels: &Kernels, kernel: &Kernel) -> Option<Timed> {
    let (mut latent, mut asked) = case(kernel)?;
    let card = Card::new(&kernels.hardware)?;
    if kernels.backend == Some(Backend::Vllm) && matches!(latent.part, Part::Into | Part::Out) {
        // vLLM keeps these matrices in 16 bits whatever the checkpoint's format
        // (`vllm/model_executor/layers/attention/mla_attention.py`, 0.19).
        (latent.bytes, asked) = (2.0, false);
    }
    for eight in [asked, !asked] {
        for (home, basis) in kernels.homes() {
            for backend in kernels.backend.into_iter().chain(latent.part.others()) {
                let Some(grid) = tables().get(&(home, backend, latent.part, eight)) else { continue };
                let (value, inside) = grid.at(&latent.place());
                let own = kernels.backend == Some(backend) && eight == asked;
                let basis = match (own, basis, inside && usual(&latent)) {
                    (false, ..) => Basis::Transferred,
                    (true, Basis::Measured, false) => Basis::Extended,
                    (true, basis, _) => basis,
                };
                return Some(Timed { seconds: latent.base(&card) * libm::exp(value * HUNDREDTHS), basis });
            }
        }
    }
    None
}

/// Whether the widths are those of the tables.
fn usual(latent: &Latent) -> bool {
    let is = |inner: f64, outer: f64| (latent.inner - inner).abs() < 0.5 && (latent.outer - outer).abs() < 0.5;
    match latent.part {
        Part::Context => is(192.0, 128.0),
        Part::Generation => is(576.0, 512.0),
        Part::Into => is(128.0, 512.0),
        Part::Out => is(512.0, 128.0),
    }
}
