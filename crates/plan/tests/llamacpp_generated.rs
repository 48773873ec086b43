//! Are compute buffers the engine's own for architectures of which no real header is at hand? Small generated models,
//! sized by llama.cpp 0c1e57098 on the CPU (nodes of the prompt graph, bytes of the compute buffer, no memory allocated).

use std::path::Path;

use plimsoll_facts::gguf::{self, GgmlType, Gguf, Input};
use plimsoll_plan::engine::llamacpp::graph::{
    Context, Device, Flash, Model, Placement, Pooling, Reserve, Rules, Store, compute_buffers,
};
use plimsoll_plan::engine::llamacpp::hparams::{Hparams, Swa};
use serde_json::Value;

fn placement(gguf: &Gguf, hparams: &Hparams) -> Placement {
    Placement {
        devices: vec![Device::Cpu { pinned: false }],
        layers: vec![0; hparams.layers.len()],
        tensors: vec![Store::Host; gguf.tensors.len()],
        tied_output: Store::Host,
        full_offload: false,
        pipeline: false,
    }
}

fn context(row: &Value, hparams: &Hparams) -> Context {
    let number = |key: &str| row[key].as_u64().expect("kept rows are whole");
    let (sequences, ubatch, unified) =
        (number("n_seq_max"), number("n_ubatch"), row["unified"].as_bool().expect("kept rows are whole"));
    let pad = |n: u64| n.next_multiple_of(256);
    let cells = if unified { number("n_ctx") } else { pad(number("n_ctx") / sequences) };
    let window = hparams.window * if unified { sequences } else { 1 };
    let kind =
        |key: &str| GgmlType::parse(row[key].as_str().expect("kept rows are whole")).expect("kept rows are whole");
    Context {
        tokens: if unified { cells } else { cells * sequences },
        ubatch,
        sequences,
        outputs: if number("n_outputs") == 0 { 2048 } else { number("n_outputs") },
        unified,
        flash: if row["flash"].as_bool().expect("kept rows are whole") { Flash::On } else { Flash::Off },
        kind_k: kind("type_k"),
        kind_v: kind("type_v"),
        cells,
        cells_swa: if hparams.swa == Swa::None { cells } else { pad((window + ubatch).min(cells)) },
        offload_kv: true,
        offload_ops: true,
        embeddings: false,
        pooling: Pooling::None,
        snapshots: 0,
        rules: Rules::NEWEST,
    }
}

#[test]
fn generated_models_of_every_architecture() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llamacpp_graphs");
    let runs = std::fs::read_to_string(folder.join("runs.jsonl")).expect("kept rows are whole");
    let mut wrong = Vec::new();
    for line in runs.lines() {
        let row: Value = serde_json::from_str(line).expect("kept rows are whole");
        let name = row["model"].as_str().expect("kept rows are whole");
        let bytes = std::fs::read(folder.join(format!("{name}.gguf"))).expect("kept rows are whole");
        let input = Input { name: name.to_owned(), bytes: &mut bytes.as_slice(), length: None };
        let gguf = gguf::read(vec![input]).expect("kept rows are whole");
        let hparams = Hparams::read(&gguf).expect("kept rows are whole");
        let placement = placement(&gguf, &hparams);
        let model = Model::new(&hparams, &gguf, &placement);
        match compute_buffers(&model, &context(&row, &hparams), Reserve::Measured) {
            Ok(got) if row["bytes"] == got.bytes[0] && row["nodes"] == got.nodes[0] as u64 => {}
            other => wrong.push(format!("{line}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_unknown_architecture_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llamacpp_graphs");
    let bytes = std::fs::read(folder.join("qwen3moe.gguf")).expect("kept rows are whole");
    let input = Input { name: "x".to_owned(), bytes: &mut bytes.as_slice(), length: None };
    let gguf = gguf::read(vec![input]).expect("kept rows are whole");
    let mut hparams = Hparams::read(&gguf).expect("kept rows are whole");
    hparams.arch = "nobody-knows".to_owned();
    let placement = placement(&gguf, &hparams);
    let model = Model::new(&hparams, &gguf, &placement);
    let row = serde_json::json!({
        "n_ctx": 512, "n_ubatch": 512, "n_seq_max": 1, "n_outputs": 1, "unified": false, "flash": true,
        "type_k": "f16", "type_v": "f16",
    });
    let error = compute_buffers(&model, &context(&row, &hparams), Reserve::Measured).unwrap_err();
    assert!(error.to_string().contains("nobody-knows"), "{error}");
}
