//! How long does it take to say how long a matrix product takes? Many shapes on one card.
//!
//! Run by `cargo bench -p plimsoll-cost --bench gemm`; measures and checks nothing, since machines differ.

#![expect(clippy::print_stdout, reason = "a benchmark tells its figures")]

use std::hint::black_box;
use std::time::Instant;

use plimsoll_cost::hardware::{Given, Hardware};
use plimsoll_cost::{Backend, Format, Kernel, Kernels, Math, Work};
use plimsoll_facts::catalogue;

/// Questions of one measurement.
const QUESTIONS: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = catalogue::gpu("h100-sxm")?;
    let kernels = Kernels::new(Hardware::new(Some(&gpu), &Given::default())?, Some(Backend::Vllm));
    let work = Work { flops: 1.0, read: 1e6, written: 1e6, math: Math::Half };
    for format in [Format::Bf16, Format::Fp8, Format::Fp8Block, Format::Int4Weight] {
        let start = Instant::now();
        for index in 0..QUESTIONS {
            let kernel = Kernel::Gemm { m: f64::from(index % 4096 + 1), n: 6144, k: 4096, format };
            black_box(kernels.time(black_box(&kernel), &work));
        }
        let each = start.elapsed().as_secs_f64() / f64::from(QUESTIONS);
        println!("{}: {:.0} ns a product", format.name(), each * 1e9);
    }
    let start = Instant::now();
    for index in 0..QUESTIONS {
        let work = Work { read: f64::from(index), ..work };
        black_box(kernels.time(black_box(&Kernel::Stream { launches: 1.0 }), &work));
    }
    println!("stream: {:.0} ns a kernel", start.elapsed().as_secs_f64() / f64::from(QUESTIONS) * 1e9);
    Ok(())
}
