//! Does our radix tree answer as SGLang's does? The engine's own answers, operation by operation.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../tests/shared.rs"]
mod shared;

use shared::shared;
use std::path::{Path, PathBuf};

#[path = "../../../xtask/src/oracle/radix.rs"]
mod radix;

fn check(folder: &Path) -> usize {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    for file in &files {
        let oracle = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(radix::is(&oracle), "{}: another form", file.display());
        let (total, wrong) = radix::compare(&oracle).unwrap();
        assert!(wrong.is_empty(), "{}: {} of {total} differ: {:?}", file.display(), wrong.len(), &wrong[..1]);
    }
    files.len()
}

#[test]
fn every_operation_of_the_fixtures_is_equal() {
    assert_eq!(check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sglang_radix")), 9);
}

#[test]
fn every_operation_of_the_shared_files_is_equal() {
    let Some(folder) = shared("data/oracle/sglang_radix") else { return };
    assert!(check(&folder) >= 12);
}
