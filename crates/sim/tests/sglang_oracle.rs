//! Does our scheduler decide as SGLang's does? The engine's own decisions, pass by pass.

use std::path::{Path, PathBuf};

#[allow(dead_code, reason = "only its prompts are read here")]
#[path = "../../../xtask/src/oracle/radix.rs"]
mod radix;
#[path = "../../../xtask/src/oracle/sglang_sched.rs"]
mod sglang_sched;

#[test]
fn every_step_of_the_fixtures_is_equal() {
    let folder = std::env::var_os("PLIMSOLL_SGLANG_SCHED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sglang_sched"), PathBuf::from);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut differ = Vec::new();
    for file in &files {
        let oracle = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(sglang_sched::is(&oracle), "{}: another form", file.display());
        match sglang_sched::compare(&oracle) {
            Ok((_, wrong)) if wrong.is_empty() => {}
            Ok((total, wrong)) => differ.push(format!("{}: {} of {total}: {}", file.display(), wrong.len(), wrong[0])),
            Err(error) => differ.push(format!("{}: {error}", file.display())),
        }
    }
    assert!(
        !files.is_empty() && differ.is_empty(),
        "{} of {} differ:\n{}",
        differ.len(),
        files.len(),
        differ.join("\n")
    );
}
