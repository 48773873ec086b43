//! Where is the larger public data? Tests that want it name it here, and say loudly when they go without.
//!
//! A test of a crate takes this file in with `#[path = "../../../tests/shared.rs"] mod shared;`.

use std::path::{Path, PathBuf};

/// Returns a file or folder of the shared data, which lies beside the workspace or where `PLIMSOLL_SHARED` says; where it is
/// not there, says so and returns `None`.
pub fn shared(inside: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let found = std::env::var_os("PLIMSOLL_SHARED").map_or(beside, PathBuf::from).join(inside);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED: {} is not there; set PLIMSOLL_SHARED", found.display());
    None
}
