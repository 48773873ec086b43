//! Real headers: every shape and quantisation of the shared set reads, and its sizes add up.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::fs::File;
use std::path::PathBuf;

use plimsoll_facts::gguf::{self, Gguf, Input};
use shared::shared;

fn read(path: &PathBuf) -> Gguf {
    let name = path.file_name().expect("a header").to_string_lossy().into_owned();
    let mut file = File::open(path).expect("a header");
    let length = file.metadata().expect("a header").len();
    gguf::read(vec![Input { name, bytes: &mut file, length: Some(length) }]).expect("a header")
}

#[test]
fn every_shared_header_reads() {
    let Some(folder) = shared("data/gguf") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "gguf") {
            continue;
        }
        let gguf = read(&path);
        let part = &gguf.parts[0];
        assert!(!gguf.architecture().unwrap().is_empty());
        assert_eq!(part.length, Some(part.data_start), "{}", path.display());
        assert_eq!(gguf.notes.len(), 1, "{:?}", gguf.notes);
        assert!(gguf.vocabulary().is_some());
        count += 1;
    }
    assert!(count > 0);
}

/// Sizes of the whole files as the engine's own tools made them (`file_size` of the shared llama.cpp runs).
#[test]
fn file_sizes_are_the_engines() {
    let Some(folder) = shared("data/gguf") else { return };
    let rows = [
        ("deepseek-v2-lite-Q4_K_M", 10_363_986_976),
        ("deepseek-v3.1-Q4_K_M", 404_488_918_848),
        ("gemma3-4b-IQ4_XS", 2_273_111_776),
        ("gpt-oss-120b-F16", 63_374_366_880),
        ("granite-4.0-h-tiny-Q4_K_M", 4_227_430_208),
        ("llama-3.1-70b-Q4_K_M", 42_512_575_584),
        ("llama-3.1-8b-F16", 16_061_073_280),
        ("mamba-2.8b-Q4_K_M", 1_623_448_512),
        ("phi-3-mini-4k-Q4_K_M", 2_396_044_768),
        ("qwen3-30b-a3b-Q2_K", 11_252_676_992),
        ("qwen3-next-80b-a3b-Q4_K_M", 48_483_113_056),
        ("qwen3.5-27b-Q4_K_M", 16_536_457_376),
    ];
    for (name, bytes) in rows {
        assert_eq!(read(&folder.join(format!("{name}.header.gguf"))).file_bytes(), bytes, "{name}");
    }
}
