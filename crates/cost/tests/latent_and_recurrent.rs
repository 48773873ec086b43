//! Latent attention, recurrent layers and mixed batches by the tables.

use plimsoll_cost::hardware::{Given, Hardware};
use plimsoll_cost::kernel::Scan;
use plimsoll_cost::measured::HOMES;
use plimsoll_cost::measured::attention::mixed;
use plimsoll_cost::{Backend, Basis, Format, Kernel, Kernels, Math, Work};
use proptest::prelude::*;

const WORK: Work = Work { flops: 1e9, read: 1e8, written: 1e6, math: Math::Half };

fn kernels(card: &str, backend: Option<Backend>) -> Kernels {
    let home = HOMES.iter().find(|home| home.card == card).expect("a card of the tables");
    let gpu = plimsoll_facts::catalogue::gpu(home.name).expect("a card of the catalogue");
    Kernels::new(Hardware::new(Some(&gpu), &Given::default()).expect("its rates"), backend)
}

fn new_tokens(batch: f64, context: f64) -> Kernel {
    Kernel::GenerationLatent { batch, context, heads: 16, rank: 512, rope_dim: 64, kv_bytes: 2.0 }
}

fn prompt(tokens: f64) -> Kernel {
    Kernel::ContextLatent { batch: 1.0, tokens, context: 0.0, heads: 16, key_dim: 192, value_dim: 128, kv_bytes: 2.0 }
}

fn product(tokens: f64, k: u32, n: u32, format: Format) -> Kernel {
    Kernel::LatentProduct { tokens, heads: 16, k, n, format }
}

fn scan(scan: Scan, batch: f64, tokens: f64) -> Kernel {
    Kernel::Recurrent { scan, batch, tokens, key_heads: 8, key_dim: 128, value_heads: 16, value_dim: 128, conv: 4 }
}

#[test]
fn what_a_time_rests_on() {
    let cases = [
        ("h100-sxm", Backend::Sglang, new_tokens(32.0, 4000.0), Basis::Measured),
        ("h100-sxm", Backend::TensorRtLlm, prompt(4000.0), Basis::Measured),
        ("h100-sxm", Backend::Vllm, prompt(4000.0), Basis::Transferred),
        ("b200-sxm", Backend::Sglang, prompt(4000.0), Basis::Measured),
        ("h200-sxm", Backend::Vllm, product(64.0, 128, 512, Format::Bf16), Basis::Measured),
        ("h200-sxm", Backend::Vllm, product(64.0, 96, 512, Format::Bf16), Basis::Extended),
        ("h100-sxm", Backend::Sglang, product(64.0, 512, 128, Format::Fp8), Basis::Measured),
        ("rtx-4090", Backend::Vllm, new_tokens(4.0, 4000.0), Basis::Transferred),
        ("h100-sxm", Backend::Vllm, scan(Scan::Gdn, 16.0, 1.0), Basis::Measured),
        ("h100-sxm", Backend::Vllm, scan(Scan::Gdn, 1.0, 2000.0), Basis::Measured),
        ("h100-sxm", Backend::TensorRtLlm, scan(Scan::Mamba2, 16.0, 1.0), Basis::Transferred),
        ("h100-sxm", Backend::Vllm, scan(Scan::Other, 16.0, 1.0), Basis::Roofline),
    ];
    for (card, backend, kernel, basis) in cases {
        let timed = kernels(card, Some(backend)).time(&kernel, &WORK);
        assert_eq!(timed.basis, basis, "{card} {kernel:?}");
    }
}

#[test]
fn vllm_keeps_latent_products_in_16_bits() {
    let vllm = kernels("h100-sxm", Some(Backend::Vllm));
    let time = |format| vllm.time(&product(256.0, 128, 512, format), &WORK).seconds;
    assert!((time(Format::Fp8Block) - time(Format::Bf16)).abs() < 1e-12);
}

#[test]
fn one_kernel_with_both_kinds_is_told_from_two() {
    let work = &WORK;
    let pieces = Kernel::ContextAttention {
        batch: 1.0,
        tokens: 512.0,
        context: 0.0,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        window: None,
        kv_bytes: 2.0,
    };
    let singles = Kernel::GenerationAttention {
        batch: 128.0,
        context: 4096.0,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        window: None,
        kv_bytes: 2.0,
    };
    let ratio = |card, backend| {
        let kernels = kernels(card, Some(backend));
        let both = mixed::time(&kernels, (&pieces, work), (&singles, work)).seconds;
        both / (kernels.time(&pieces, work).seconds + kernels.time(&singles, work).seconds)
    };
    // Measured on an RTX 4090: 9.09 ms together, 41 µs and 2.30 ms apart (LLMServingSim, vLLM 0.19).
    assert!((3.4..4.4).contains(&ratio("rtx-4090", Backend::Vllm)));
    assert!((0.9..1.0).contains(&ratio("h100-sxm", Backend::Vllm)));
    assert!((0.999..1.001).contains(&ratio("h100-sxm", Backend::Sglang)));
    assert!((0.999..1.001).contains(&ratio("b200-sxm", Backend::Vllm)));
}

fn any_kernel() -> impl Strategy<Value = Kernel> {
    let sizes = (0.0..1e7_f64, 0.0..1e8_f64, 0.0..1e9_f64);
    let dims = (0..2048_u32, 0..2048_u32, 0..2048_u32, 0..64_u32, 0.0..4.0_f64);
    (sizes, dims, 0..5_u8).prop_map(|((batch, tokens, context), (heads, a, b, c, kv_bytes), which)| match which {
        0 => Kernel::ContextLatent { batch, tokens, context, heads, key_dim: a, value_dim: b, kv_bytes },
        1 => Kernel::GenerationLatent { batch, context, heads, rank: a, rope_dim: b, kv_bytes },
        2 => Kernel::LatentProduct { tokens, heads, k: a, n: b, format: Format::Fp8 },
        which => Kernel::Recurrent {
            scan: if which == 3 { Scan::Gdn } else { Scan::Mamba2 },
            batch,
            tokens,
            key_heads: heads,
            key_dim: a,
            value_heads: heads,
            value_dim: b,
            conv: c,
        },
    })
}

proptest! {
    #[test]
    fn every_case_has_a_time(kernel in any_kernel(), home in 0..HOMES.len(), backend in 0..4_usize) {
        let kernels = kernels(HOMES[home].card, Backend::ALL.get(backend).copied());
        let timed = kernels.time(&kernel, &WORK);
        prop_assert!(timed.seconds > 0.0 && timed.seconds.is_finite(), "{timed:?}");
    }

    #[test]
    fn more_work_never_takes_much_less(
        batch in 1.0..512.0_f64, size in 2.0..30_000.0_f64, home in 0..HOMES.len(), backend in 0..3_usize,
    ) {
        let kernels = kernels(HOMES[home].card, Some(Backend::ALL[backend]));
        let at = |kernel: Kernel| kernels.time(&kernel, &WORK).seconds;
        // vLLM on an A100 was measured over long contexts only, its short ones are drawn from them.
        if !(HOMES[home].card == "a100-sxm" && backend == 0) {
            prop_assert!(at(new_tokens(batch, 2.0 * size)) > 0.6 * at(new_tokens(batch, size)));
            prop_assert!(at(new_tokens(2.0 * batch, size)) > 0.6 * at(new_tokens(batch, size)));
        }
        prop_assert!(at(prompt(2.0 * size)) > 0.7 * at(prompt(size)));
        prop_assert!(at(scan(Scan::Gdn, 1.0, 2.0 * size)) > 0.7 * at(scan(Scan::Gdn, 1.0, size)));
        prop_assert!(at(scan(Scan::Gdn, 2.0 * batch, 1.0)) > 0.7 * at(scan(Scan::Gdn, batch, 1.0)));
    }
}
