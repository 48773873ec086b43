//! Laws of norms, activations and the like.

use plimsoll_cost::hardware::{Given, Hardware};
use plimsoll_cost::{Backend, Basis, Kernel, Kernels, Math, Work};
use plimsoll_facts::catalogue;
use proptest::prelude::*;

const CARDS: [&str; 6] = [
    "A100 SXM4 80GB",
    "GeForce RTX 4090",
    "H100 SXM5 80GB",
    "B200 SXM 180GB",
    "RTX PRO 6000 Blackwell Server",
    "Tesla V100 SXM2 16GB",
];

fn kernels(card: &str) -> Kernels {
    let gpu = catalogue::gpu(card).expect("the catalogue has the card");
    Kernels::new(Hardware::new(Some(&gpu), &Given::default()).expect("the card has rates"), Some(Backend::Vllm))
}

fn time(kernels: &Kernels, launches: f64, read: f64, written: f64) -> (f64, Basis) {
    let work = Work { flops: 0.0, read, written, math: Math::Half };
    let timed = kernels.time(&Kernel::Stream { launches }, &work);
    (timed.seconds, timed.basis)
}

#[test]
fn norms_and_activations_on_some_cards() {
    let mut lines = String::new();
    for card in CARDS {
        let kernels = kernels(card);
        for tokens in [1.0, 64.0, 2048.0, 16384.0] {
            let (norm, basis) = time(&kernels, 1.0, tokens * 16384.0, tokens * 16384.0);
            let (activation, _) = time(&kernels, 1.0, tokens * 57344.0, tokens * 28672.0);
            let (norm, activation) = (norm * 1e6, activation * 1e6);
            lines += &format!("{card}, {tokens}: {norm:.1} {activation:.1} {}\n", basis.name());
        }
    }
    insta::assert_snapshot!(lines);
}

proptest! {
    #[test]
    fn times_are_sound_whatever_is_moved(
        card in prop::sample::select(CARDS.to_vec()),
        launches in 0.5..20.0_f64,
        read in 0.0..13.0_f64,
        written in 0.0..13.0_f64,
    ) {
        let kernels = kernels(card);
        let (read, written) = (10_f64.powf(read), 10_f64.powf(written));
        let (seconds, _) = time(&kernels, launches, read, written);
        prop_assert!(seconds.is_finite() && seconds > launches * 1e-6, "{seconds}");
        let (twice, _) = time(&kernels, 2.0 * launches, 2.0 * read, 2.0 * written);
        prop_assert!((twice / seconds - 2.0).abs() < 1e-9, "two of a kind take twice as long: {seconds} {twice}");
        let beyond = 2.0 * kernels.hardware.l2_cache.unwrap_or_default() * launches;
        if read > beyond {
            prop_assert!(seconds > 0.9 * read / kernels.hardware.bandwidth, "{seconds}");
        }
    }
}
