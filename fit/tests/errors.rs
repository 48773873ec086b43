//! How far off are the tables of products and streaming kernels, on shapes left out of their fit? And are the tables that are
//! compiled in those that the fitters write?

use std::path::{Path, PathBuf};

use plimsoll_fit::{FAMILIES, stats};

/// The published measurements, where they are.
fn perf() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("PLIMSOLL_SHARED").map_or(beside, PathBuf::from);
    let perf = shared.join("data/perf");
    if perf.is_dir() {
        return Some(perf);
    }
    eprintln!("SKIPPED: no measurements at {}; set PLIMSOLL_SHARED", perf.display());
    None
}

fn check(family: &str) {
    let Some(perf) = perf() else { return };
    let (_, file, fitter) = FAMILIES.iter().find(|(name, ..)| *name == family).expect("the family is there");
    let fitted = fitter(&perf).expect("the measurements are read");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/cost/data").join(file);
    let there = std::fs::read_to_string(&path).expect("the table is there");
    assert!(there == fitted.table, "{file} is not what `cargo xtask fit {family}` writes");
    insta::assert_snapshot!(family, stats::table(family, &fitted.errors, &fitted.notes));
}

#[test]
fn products() {
    check("gemm");
}

#[test]
fn norms_and_activations() {
    check("stream");
}
