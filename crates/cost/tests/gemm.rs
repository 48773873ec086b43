//! Laws of matrix products: positive, finite, near-continuous, never faster than the card.

use plimsoll_cost::hardware::{Given, Hardware};
use plimsoll_cost::{Backend, Basis, Format, Kernel, Kernels, Work};
use plimsoll_facts::catalogue;
use proptest::prelude::*;

const CARDS: [&str; 9] = [
    "A100 SXM4 80GB",
    "L40S",
    "GeForce RTX 4090",
    "H100 SXM5 80GB",
    "H200 SXM 141GB",
    "B200 SXM 180GB",
    "RTX PRO 6000 Blackwell Server",
    "L4",
    "B300 SXM 288GB",
];

const FORMATS: [Format; 11] = [
    Format::Bf16,
    Format::Fp8,
    Format::Fp8Block,
    Format::Int8,
    Format::Int8Weight,
    Format::Int4Weight,
    Format::Nvfp4,
    Format::Mxfp4Weight,
    Format::Mxfp4,
    Format::Weight(450),
    Format::Weight(1600),
];

fn kernels(card: &str, backend: Option<Backend>) -> Kernels {
    let gpu = catalogue::gpu(card).expect("the catalogue has the card");
    Kernels::new(Hardware::new(Some(&gpu), &Given::default()).expect("the card has rates"), backend)
}

fn backends() -> [Option<Backend>; 4] {
    [None, Some(Backend::Vllm), Some(Backend::Sglang), Some(Backend::TensorRtLlm)]
}

fn work(m: f64, n: u64, k: u64, format: Format) -> Work {
    let (n, k) = (n as f64, k as f64);
    Work { flops: 2.0 * m * n * k, read: n * k + m * k, written: m * n, math: format.math() }
}

fn time(kernels: &Kernels, m: f64, n: u64, k: u64, format: Format) -> (f64, Basis) {
    let timed = kernels.time(&Kernel::Gemm { m, n, k, format }, &work(m, n, k, format));
    (timed.seconds, timed.basis)
}

/// Microseconds of 1, 64 and 2048 tokens through 4096 × 4096 and on what they rest.
fn say(card: &str, backend: Option<Backend>, format: Format) -> String {
    let kernels = kernels(card, backend);
    let each = [1.0, 64.0, 2048.0].map(|m| time(&kernels, m, 4096, 4096, format));
    let times = each.map(|(seconds, _)| format!("{:.1}", seconds * 1e6)).join(" ");
    format!("{times} {}", each[1].1.name())
}

#[test]
fn every_format_has_a_time_on_every_card_with_tables() {
    let mut lines = String::new();
    for card in CARDS {
        for format in FORMATS {
            let line = say(card, Some(Backend::Vllm), format);
            lines += &format!("{card}, {}: {line}\n", format.name());
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn what_was_not_measured_says_so() {
    let basis = |card, backend, m, format| time(&kernels(card, backend), m, 4096, 4096, format).1;
    let vllm = Some(Backend::Vllm);
    assert_eq!(basis("H100 SXM5 80GB", vllm, 64.0, Format::Fp8), Basis::Measured);
    assert_eq!(basis("H100 SXM5 80GB", vllm, 1e6, Format::Fp8), Basis::Extended);
    assert_eq!(basis("H100 SXM5 80GB", None, 64.0, Format::Fp8), Basis::Transferred);
    assert_eq!(basis("H100 SXM5 80GB", vllm, 64.0, Format::Int4Weight), Basis::Transferred);
    assert_eq!(basis("H100 SXM5 80GB", vllm, 8.0, Format::Fp8Block), Basis::Transferred);
    assert_eq!(basis("B300 SXM 288GB", vllm, 64.0, Format::Nvfp4), Basis::Transferred);
    assert_eq!(basis("Tesla V100 SXM2 16GB", vllm, 64.0, Format::Bf16), Basis::Roofline);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn times_are_sound_whatever_the_shape(
        card in prop::sample::select(CARDS.to_vec()),
        backend in prop::sample::select(backends().to_vec()),
        format in prop::sample::select(FORMATS.to_vec()),
        m in -3.0..9.0_f64,
        n in 0.0..7.0_f64,
        k in 0.0..7.0_f64,
    ) {
        let kernels = kernels(card, backend);
        let (m, n, k) = (10_f64.powf(m), 10_f64.powf(n) as u64, 10_f64.powf(k) as u64);
        let (seconds, _) = time(&kernels, m, n, k, format);
        prop_assert!(seconds.is_finite() && seconds > 0.0, "{seconds}");
        let (n, k) = (n as f64, k as f64);
        let least = 2.0 * m * n * k / kernels.hardware.peak(format.math());
        prop_assert!(seconds >= 0.9 * least * (1.0 - 1e-9), "{seconds} under {least}");
    }

    #[test]
    fn a_little_more_never_takes_much_longer(
        card in prop::sample::select(CARDS.to_vec()),
        backend in prop::sample::select(backends().to_vec()),
        format in prop::sample::select(FORMATS.to_vec()),
        m in 0.0..60.0_f64,
        n in 256_u64..20_000,
        k in 256_u64..20_000,
    ) {
        // Up to 63 rows of a tile no wave ends: the time runs on without a jump.
        let kernels = kernels(card, backend);
        let (before, _) = time(&kernels, m, n, k, format);
        let (after, _) = time(&kernels, m + 0.01, n, k, format);
        prop_assert!((after / before - 1.0).abs() < 0.02, "{before} {after}");
    }

    #[test]
    fn twice_the_matrix_takes_longer(
        card in prop::sample::select(CARDS.to_vec()),
        backend in prop::sample::select(backends().to_vec()),
        m in 1.0..64.0_f64,
        n in 4096_u64..16_384,
        k in 4096_u64..16_384,
    ) {
        let kernels = kernels(card, backend);
        let (once, _) = time(&kernels, m, n, k, Format::Bf16);
        let (twice, _) = time(&kernels, m, 2 * n, 2 * k, Format::Bf16);
        prop_assert!(twice > 1.5 * once, "{once} {twice}");
    }
}
