//! Is every step vLLM's own? Workloads that the engine's scheduler decided, decided again.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::path::{Path, PathBuf};

use plimsoll_sim::schedule::steps::{drive, read};
use shared::shared;

/// Goes through every workload below a folder and returns how many steps there were.
fn check(folder: &Path) -> usize {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry that can be read").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    let mut steps = 0;
    for file in &files {
        let workload = read(&std::fs::read(file).expect("a file that can be read"))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let ours = drive(&workload, workload.steps.len() + 1).expect("settings that are taken");
        for (own, engine) in ours.iter().zip(&workload.steps) {
            if let Some((field, theirs, ours)) = own.difference(engine, |number| workload.name(number)) {
                panic!("{}, step {}: {field} is {ours}, the engine's {theirs}", file.display(), engine.step);
            }
        }
        assert_eq!(ours.len(), workload.steps.len(), "{}", file.display());
        steps += ours.len();
    }
    steps
}

#[test]
fn every_step_of_the_fixtures_is_the_engines() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vllm_sched");
    assert!(check(&fixtures) > 0);
}

#[test]
fn every_step_of_the_shared_workloads_is_the_engines() {
    let Some(folder) = shared("data/oracle/vllm_sched") else { return };
    assert!(check(&folder) > 0);
}
