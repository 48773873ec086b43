//! Sizes that llama.cpp printed itself for real shapes, where the shared data are at hand.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::collections::HashMap;
use std::io::Read;
use std::process::{Command, Stdio};

use plimsoll_facts::gguf::{Gguf, Input, read};
use plimsoll_plan::engine::llamacpp::oracle::differences;
use serde_json::Value;
use shared::shared;

#[test]
fn caches_and_model_buffers_are_the_engines() {
    let (Some(path), Some(headers)) = (shared("data/oracle/llamacpp/runs.jsonl.gz"), shared("data/gguf")) else {
        return;
    };
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
            let path = headers.join(format!("{name}.header.gguf"));
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
