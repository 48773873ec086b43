//! Fits families of kernels: `cargo run --release -p plimsoll-fit -- [--check] [PERF] [FAMILY…]`; `cargo xtask fit` does the
//! same.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let check = words.iter().any(|word| word == "--check");
    words.retain(|word| word != "--check");
    let perf = match words.first().map(PathBuf::from).filter(|path| path.is_dir()) {
        Some(path) => {
            words.remove(0);
            path
        }
        None => PathBuf::from("../shared/data/perf"),
    };
    match plimsoll_fit::run(&perf, Path::new("crates/cost/data"), &words, check) {
        Ok(good) if good || !check => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
