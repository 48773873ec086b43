//! Sizes that llama.cpp printed itself for real shapes, where the shared data are at hand.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use plimsoll_facts::gguf::{Gguf, Input, read};
use plimsoll_plan::engine::llamacpp::oracle::differences;
use serde_json::Value;

fn root() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    std::env::var_os("PLIMSOLL_SHARED").map_or_else(beside, PathBuf::from)
}

#[test]
fn caches_and_model_buffers_are_the_engines() {
    let path = root().join("data/oracle/llamacpp/runs.jsonl.gz");
    if !path.is_file() {
        eprintln!("SKIPPED: {} is not there (set PLIMSOLL_SHARED)", path.display());
        return;
    }
    let mut unpacked = Command::new("gzip").arg("-dc").arg(&path).stdout(Stdio::piped()).spawn().expect("gzip");
    let mut text = String::new();
    unpacked.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    unpacked.wait().expect("gzip");
    let mut files: HashMap<String, Gguf> = HashMap::new();
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("a row");
        let field = |key: &str| row[key].as_str().expect("a text").to_owned();
        let name = format!("{}-{}", field("model"), field("quant_type").replace("MXFP4", "F16"));
        let gguf = files.entry(name.clone()).or_insert_with(|| {
            let path = root().join(format!("data/gguf/{name}.header.gguf"));
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            read(vec![Input { name, bytes: &mut bytes.as_slice(), length: None }]).expect("a header")
        });
        let found = differences(&row, gguf).expect("a row that is understood");
        rows += 1;
        if !found.is_empty() {
            wrong.push(format!("{} {}: {}", field("model"), field("command"), found.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {rows} differ:\n{}", wrong.len(), wrong[..wrong.len().min(25)].join("\n"));
}
