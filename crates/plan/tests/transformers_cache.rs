//! Bytes of transformers' caches against what its own classes held.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::fs;
use std::path::PathBuf;

use plimsoll_plan::engine::transformers::oracle;
use serde_json::Value;
use shared::shared;

#[test]
fn every_real_configuration_keeps_what_the_reference_keeps() {
    let Some(root) = shared("data") else { return };
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("oracle_kv")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in &files {
        let row: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let id = row["model_id"].as_str().unwrap();
        let config = fs::read(root.join("models").join(id.replace('/', "__")).join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        match plimsoll_facts::model::read(id, &config, None) {
            Ok(model) => {
                wrong.extend(oracle::differences(&row, &model).unwrap().iter().map(|why| format!("{id}: {why}")))
            }
            Err(error) => wrong.push(format!("{id}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} files\n{}", files.len(), wrong.join("\n"));
}

#[test]
fn every_generation_leaves_what_was_measured() {
    let Some(root) = shared("data") else { return };
    let text = fs::read_to_string(root.join("oracle/transformers_kv.jsonl")).unwrap();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        match oracle::generation(&row) {
            Ok(found) if found.is_empty() => {}
            other => wrong.push(format!("{}: {other:?}", row["tag"])),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Measured like the shared oracle's rows, with transformers 5.23.0 on a CPU: families that it lacks.
#[test]
fn more_families_leave_what_was_measured() {
    let mut wrong = Vec::new();
    for line in include_str!("fixtures/transformers_cache.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        match oracle::generation(&row) {
            Ok(found) if found.is_empty() => {}
            other => wrong.push(format!("{}: {other:?}", row["tag"])),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
