//! Is the file that a configuration would become the file that is there? Every shared header beside what is derived from
//! the configuration: names, shapes, types, and the same model read back.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use plimsoll_facts::gguf::{self, FileType, GgmlType, Gguf, Input};
use plimsoll_facts::model::{self, Model};
use plimsoll_facts::tensor::{DType, Part};
use plimsoll_facts::{Error, catalogue};
use shared::shared;

/// Header (without file type) and the model that it was made of.
const SHAPES: &[(&str, &str)] = &[
    ("deepseek-v2-lite", "deepseek-ai/DeepSeek-V2-Lite"),
    ("deepseek-v3.1", "deepseek-ai/DeepSeek-V3.1"),
    ("gemma3-27b", "google/gemma-3-27b-it"),
    ("gemma3-4b", "google/gemma-3-4b-it"),
    ("gpt-oss-120b", "openai/gpt-oss-120b"),
    ("gpt-oss-20b", "openai/gpt-oss-20b"),
    ("granite-4.0-h-tiny", GRANITE),
    ("llama-3.1-70b", "meta-llama/Llama-3.1-70B-Instruct"),
    ("llama-3.1-8b", "meta-llama/Meta-Llama-3.1-8B"),
    ("mamba-2.8b", MAMBA),
    ("mixtral-8x7b", "mistralai/Mixtral-8x7B-v0.1"),
    ("phi-3-mini-4k", "microsoft/Phi-3-mini-4k-instruct"),
    ("phi-4", "microsoft/phi-4"),
    ("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct"),
    ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
    ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B"),
    ("qwen3-32b", "Qwen/Qwen3-32B"),
    ("qwen3-8b", "Qwen/Qwen3-8B"),
    ("qwen3-next-80b-a3b", "Qwen/Qwen3-Next-80B-A3B-Instruct"),
    ("qwen3.5-27b", "Qwen/Qwen3.5-27B"),
    ("tinyllama-1.1b", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
];

const GRANITE: &str = r#"{"model_type": "granitemoehybrid", "architectures": ["GraniteMoeHybridForCausalLM"],
 "torch_dtype": "bfloat16", "hidden_size": 1536, "intermediate_size": 512, "shared_intermediate_size": 1024,
 "num_hidden_layers": 40, "num_attention_heads": 12, "num_key_value_heads": 4, "num_local_experts": 64,
 "num_experts_per_tok": 6, "vocab_size": 100352, "max_position_embeddings": 131072, "tie_word_embeddings": true,
 "mamba_n_heads": 48, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1, "mamba_d_conv": 4,
 "mamba_expand": 2, "mamba_conv_bias": true, "mamba_proj_bias": false, "layer_types": [
 "mamba", "mamba", "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba", "mamba",
 "mamba", "mamba", "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba", "mamba",
 "mamba", "mamba", "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba", "mamba",
 "mamba", "mamba", "mamba", "mamba", "mamba", "attention", "mamba", "mamba", "mamba", "mamba"]}"#;

const MAMBA: &str = r#"{"model_type": "mamba", "architectures": ["MambaForCausalLM"], "torch_dtype": "bfloat16",
 "hidden_size": 2560, "num_hidden_layers": 64, "vocab_size": 50280, "state_size": 16, "conv_kernel": 4, "expand": 2,
 "intermediate_size": 5120, "time_step_rank": 160, "use_bias": false, "use_conv_bias": true,
 "tie_word_embeddings": true}"#;

fn config(name: &str) -> Model {
    if !name.starts_with('{') {
        return catalogue::model(name).expect("built in").model;
    }
    let config = model::parse_json(name.as_bytes()).expect("a configuration");
    model::read("inline", &config, None).expect("a model")
}

/// Every shared header: shape, file type, content.
fn headers() -> Vec<(String, String, Gguf)> {
    let Some(folder) = shared("data/gguf") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        let Some((shape, kind)) = file.strip_suffix(".header.gguf").and_then(|stem| stem.rsplit_once('-')) else {
            continue;
        };
        let mut bytes = File::open(&path).expect("a file");
        let length = bytes.metadata().ok().map(|meta| meta.len());
        let gguf = gguf::read(vec![Input { name: file.clone(), bytes: &mut bytes, length }]).expect("a header");
        found.push((shape.to_owned(), kind.to_owned(), gguf));
    }
    found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    found
}

/// What differs between two lists of tensors, a line each.
fn differences(ours: &Gguf, theirs: &Gguf) -> Vec<String> {
    type Found = (Vec<u64>, GgmlType);
    let list = |gguf: &Gguf| -> BTreeMap<String, Found> {
        gguf.tensors.iter().map(|t| (t.name.clone(), (t.shape.clone(), t.kind))).collect()
    };
    let (ours, theirs) = (list(ours), list(theirs));
    let mut lines: Vec<String> = theirs
        .iter()
        .filter(|(name, found)| ours.get(*name) != Some(*found))
        .map(|(name, found)| format!("  {name}: theirs {found:?}, ours {:?}", ours.get(name)))
        .collect();
    lines.extend(ours.keys().filter(|name| !theirs.contains_key(*name)).map(|name| format!("  {name}: ours alone")));
    lines
}

#[test]
fn tensors_equal_the_headers() {
    let (mut equal, mut all, mut wrong) = (0, 0, Vec::new());
    for (shape, kind, theirs) in headers() {
        let Some((_, name)) = SHAPES.iter().find(|(known, _)| *known == shape) else {
            // A conversion from before absorbed latent attention; nothing derives it.
            assert_eq!(shape, "deepseek-v2-lite-nomla");
            continue;
        };
        // The headers named F16 of gpt-oss hold the publisher's MXFP4 with the rest in 8 bits.
        let kind = if shape.starts_with("gpt-oss") { "MXFP4".to_owned() } else { kind };
        let file_type = FileType::parse(&kind).expect("a file type");
        let ours = gguf::from_model(&config(name), file_type).expect("a conversion");
        let mut found = differences(&ours, &theirs);
        // That header keeps two small projections in 32 bits, where the converter writes 16; quantised ones are equal.
        if (shape.as_str(), file_type) == ("mamba-2.8b", FileType::F16) {
            found.retain(|line| !line.contains("ssm_x.weight") && !line.contains("ssm_dt.weight"));
        }
        all += theirs.tensors.len();
        equal += theirs.tensors.len() - found.len().min(theirs.tensors.len());
        if !found.is_empty() {
            wrong.push(format!("{shape} {kind}: {} differ\n{}", found.len(), found[..found.len().min(6)].join("\n")));
        }
    }
    eprintln!("{equal} of {all} tensors equal");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The one header that lies in the project itself.
#[test]
fn tensors_equal_the_header_at_hand() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/files/qwen3-0.6b-Q4_K_M.gguf");
    let mut bytes = File::open(path).expect("a file");
    let theirs =
        gguf::read(vec![Input { name: "qwen3".to_owned(), bytes: &mut bytes, length: None }]).expect("a header");
    let ours = gguf::from_model(&config("Qwen/Qwen3-0.6B"), FileType::Q4KM).expect("a conversion");
    assert_eq!(differences(&ours, &theirs), Vec::<String>::new());
    assert_eq!(ours.parts[0].data_bytes, theirs.parts[0].data_bytes);
}

#[test]
fn models_equal_the_configurations() {
    for (shape, kind, theirs) in headers() {
        let Some((_, name)) = SHAPES.iter().find(|(known, _)| *known == shape) else { continue };
        let config = Model { dtype: DType::F16, ..config(name) };
        let read = gguf::model(&theirs, "read").expect("a model");
        let place = format!("{shape} {kind}");
        let towers: u64 = config.counted().filter(|t| t.part == Part::Tower).map(|t| t.total_elements()).sum();
        assert_eq!(read.parameters(), config.parameters() - towers, "{place}");
        assert_eq!(read.active_parameters(), config.active_parameters(), "{place}");
        assert_eq!(read.kv_bytes_per_token(), config.kv_bytes_per_token(), "{place}");
        assert_eq!(read.state_bytes(), config.state_bytes(), "{place}");
        assert_eq!(read.layers.len(), config.layers.len(), "{place}");
        for (at, (read, config)) in read.layers.iter().zip(&config.layers).enumerate() {
            // llama.cpp passes over Phi-3's window.
            if !shape.starts_with("phi-3") {
                assert_eq!(read.mixer, config.mixer, "{place}, layer {at}");
            }
        }
        assert_eq!(
            (read.hidden, read.vocabulary, read.tied),
            (config.hidden, config.vocabulary, config.tied),
            "{place}"
        );
        assert_eq!(read.checkpoint_bytes().model.get(), theirs.bytes(), "{place}");
    }
}

/// What is derived reads back as the same model, for every built-in model whose conversion is known.
#[test]
fn derived_files_read_back() {
    let (mut read_back, mut unknown, mut wrong) = (0, Vec::new(), Vec::new());
    for id in catalogue::model_ids() {
        let Ok(found) = catalogue::model(id) else { continue };
        // Files keep a cache of 16 bits whatever the configuration's dtype.
        let config = Model { dtype: DType::F16, ..found.model };
        let derived = match gguf::from_model(&config, FileType::Q4KM) {
            Ok(derived) => derived,
            Err(Error::UnknownArchitecture { .. }) => {
                unknown.push(config.architecture.clone());
                continue;
            }
            Err(error) => panic!("{id}: {error}"),
        };
        let back = gguf::model(&derived, id).unwrap_or_else(|error| panic!("{id}: {error}"));
        let text: u64 = config.counted().filter(|t| t.part == Part::Text).map(|t| t.total_elements()).sum();
        let same = [
            ("parameters", back.parameters(), text),
            ("KV bytes per token", back.kv_bytes_per_token(), config.kv_bytes_per_token()),
            ("state bytes", back.state_bytes(), config.state_bytes()),
            ("active parameters", back.active_parameters(), config.active_parameters()),
        ];
        for (what, ours, theirs) in same {
            // llama.cpp keeps MiniCPM3's keys and values in full.
            let full = what.starts_with("KV") && config.architecture == "MiniCPM3ForCausalLM";
            if ours != theirs && !full {
                wrong.push(format!("{id}: {what} {ours}, from the configuration {theirs}"));
            }
        }
        // Architectures whose windows llama.cpp has no rule for see everything.
        let blind = ["llama", "phi3", "phimoe", "qwen2", "mistral3", "starcoder2", "minicpm3"];
        if !blind.contains(&back.architecture.as_str())
            && let Some(at) = (0..back.layers.len()).find(|at| back.layers[*at].mixer != config.layers[*at].mixer)
        {
            let (ours, theirs) = (&back.layers[at].mixer, &config.layers[at].mixer);
            wrong.push(format!("{id}: layer {at} {ours:?}, from the configuration {theirs:?}"));
        }
        read_back += 1;
    }
    unknown.sort();
    unknown.dedup();
    eprintln!("{read_back} models read back; not known: {}", unknown.join(" "));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
