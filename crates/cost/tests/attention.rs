//! Attention by the tables: every case has a time, more work takes longer, and what a time rests on is told.

use plimsoll_cost::hardware::{Given, Hardware};
use plimsoll_cost::measured::HOMES;
use plimsoll_cost::{Backend, Basis, Kernel, Kernels, Math, Timed, Work};
use proptest::prelude::*;

const WORK: Work = Work { flops: 1e9, read: 1e8, written: 1e6, math: Math::Half };

fn kernels(card: &str, backend: Option<Backend>) -> Kernels {
    let home = HOMES.iter().find(|home| home.card == card).expect("a card of the tables");
    let gpu = plimsoll_facts::catalogue::gpu(home.name).expect("a card of the catalogue");
    Kernels::new(Hardware::new(Some(&gpu), &Given::default()).expect("its rates"), backend)
}

fn generation(batch: f64, context: f64, window: Option<u32>, kv_bytes: f64) -> Kernel {
    Kernel::GenerationAttention { batch, context, heads: 32, kv_heads: 8, head_dim: 128, window, kv_bytes }
}

fn prompt(batch: f64, tokens: f64, context: f64, kv_bytes: f64) -> Kernel {
    Kernel::ContextAttention { batch, tokens, context, heads: 32, kv_heads: 8, head_dim: 128, window: None, kv_bytes }
}

fn show(timed: Timed) -> String {
    format!("{:.3e} {}", timed.seconds, timed.basis.name())
}

#[test]
fn measured_cards_know_a_common_case_and_say_so() {
    for home in &HOMES {
        let kernels = kernels(home.card, Some(Backend::Vllm));
        for kernel in [generation(16.0, 1000.0, None, 2.0), prompt(1.0, 1500.0, 0.0, 2.0)] {
            let timed = kernels.time(&kernel, &WORK);
            assert_eq!(timed.basis, Basis::Measured, "{} {kernel:?}", home.card);
        }
    }
}

#[test]
fn what_no_table_covers_is_told() {
    let h100 = kernels("h100-sxm", Some(Backend::Vllm));
    let basis = |kernel| h100.time(&kernel, &WORK).basis;
    assert_eq!(basis(generation(1e5, 1000.0, None, 2.0)), Basis::Extended);
    assert_eq!(basis(generation(8.0, 1000.0, None, 0.5)), Basis::Transferred);
    let llama_cpp = kernels("h100-sxm", None);
    assert_eq!(llama_cpp.time(&generation(8.0, 1000.0, None, 2.0), &WORK).basis, Basis::Transferred);
    let a100 = kernels("a100-sxm", Some(Backend::Vllm));
    assert_eq!(a100.time(&generation(8.0, 1000.0, None, 1.0), &WORK).basis, Basis::Transferred);
}

#[test]
fn far_outside_the_tables_time_follows_work() {
    for home in &HOMES {
        let kernels = kernels(home.card, Some(Backend::Vllm));
        let ratio = |a: Kernel, b: Kernel| kernels.time(&b, &WORK).seconds / kernels.time(&a, &WORK).seconds;
        let longer = ratio(generation(64.0, 1e6, None, 2.0), generation(64.0, 1e7, None, 2.0));
        assert!((9.0..11.0).contains(&longer), "{}: {longer}", home.card);
        let more = ratio(generation(1e5, 4096.0, None, 2.0), generation(1e6, 4096.0, None, 2.0));
        assert!((9.0..11.0).contains(&more), "{}: {more}", home.card);
        let prompts = ratio(prompt(1.0, 1e6, 0.0, 2.0), prompt(1.0, 2e6, 0.0, 2.0));
        assert!((3.5..4.5).contains(&prompts), "{}: {prompts}", home.card);
        let cached = ratio(prompt(1.0, 2048.0, 1e6, 2.0), prompt(1.0, 2048.0, 2e6, 2.0));
        assert!((1.8..2.2).contains(&cached), "{}: {cached}", home.card);
    }
}

#[test]
fn windows_bound_what_a_token_costs() {
    for backend in Backend::ALL {
        let kernels = kernels("h200-sxm", Some(backend));
        let at = |context| kernels.time(&generation(64.0, context, Some(4096), 2.0), &WORK).seconds;
        assert!((0.7..1.5).contains(&(at(65_536.0) / at(16_384.0))), "{}", backend.name());
        let all = kernels.time(&generation(64.0, 65_536.0, None, 2.0), &WORK).seconds;
        assert!(at(65_536.0) < all / 3.0, "{}", backend.name());
    }
}

fn any_kernel() -> impl Strategy<Value = Kernel> {
    let sizes = (0.0..1e7_f64, 0.0..1e8_f64, 0.0..1e9_f64);
    let dims = (0..2048_u32, 0..512_u32, 0..2048_u32, proptest::option::of(0..100_000_u32), 0.0..4.0_f64);
    (sizes, dims, any::<bool>()).prop_map(
        |((batch, tokens, context), (heads, kv_heads, head_dim, window, kv_bytes), prompt)| {
            if prompt {
                Kernel::ContextAttention { batch, tokens, context, heads, kv_heads, head_dim, window, kv_bytes }
            } else {
                Kernel::GenerationAttention { batch, context, heads, kv_heads, head_dim, window, kv_bytes }
            }
        },
    )
}

proptest! {
    #[test]
    fn every_case_has_a_time(kernel in any_kernel(), home in 0..HOMES.len(), backend in 0..4_usize) {
        let kernels = kernels(HOMES[home].card, Backend::ALL.get(backend).copied());
        let timed = kernels.time(&kernel, &WORK);
        prop_assert!(timed.seconds > 0.0 && timed.seconds.is_finite(), "{}", show(timed));
    }

    #[test]
    fn a_longer_context_never_takes_much_less(
        batch in 1.0..512.0_f64, context in 1.0..100_000.0_f64, home in 0..HOMES.len(), backend in 0..3_usize,
    ) {
        let kernels = kernels(HOMES[home].card, Some(Backend::ALL[backend]));
        let at = |context| kernels.time(&generation(batch, context, None, 2.0), &WORK).seconds;
        // Measured kernels get quicker here and there, where they begin to split keys.
        prop_assert!(at(2.0 * context) > 0.8 * at(context), "{} {}", at(context), at(2.0 * context));
    }

    #[test]
    fn more_sequences_never_take_much_less(
        batch in 1.0..256.0_f64, context in 1.0..30_000.0_f64, home in 0..HOMES.len(), backend in 0..3_usize,
    ) {
        let kernels = kernels(HOMES[home].card, Some(Backend::ALL[backend]));
        let at = |batch| kernels.time(&generation(batch, context, None, 2.0), &WORK).seconds;
        let (one, two) = (at(batch), at(2.0 * batch));
        prop_assert!(two > 0.8 * one && two < 4.0 * one, "{one} {two}");
    }
}
