//! The same model in another format, against checkpoints that were really stored so.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::path::Path;

use plimsoll_facts::gguf::{self, FileType};
use plimsoll_facts::model::{self, Model};
use plimsoll_facts::quant::{Format, recast};
use plimsoll_facts::tensor::{Part, Role};
use plimsoll_facts::{Error, catalogue};
use serde_json::Value;
use shared::shared;

fn llama() -> Model {
    catalogue::model("llama-3.1-8b").expect("a built-in model").model
}

/// Matrices of Llama-3.1-8B's layers: outputs, inputs.
const MATRICES: [(u64, u64); 7] =
    [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096), (14336, 4096), (14336, 4096), (4096, 14336)];

/// Bytes of all layers' matrices, and of the rest in 16 bits.
fn layers(of_matrix: impl Fn(u64, u64) -> u64) -> u64 {
    let rest = 2 * (2 * 128_256 * 4096 + 4096 + 32 * 2 * 4096);
    32 * MATRICES.iter().map(|(outputs, inputs)| of_matrix(*outputs, *inputs)).sum::<u64>() + rest
}

#[test]
fn bytes_come_from_the_real_layouts() {
    let check = |format: &str, bytes: u64| {
        let made = recast(&llama(), format).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(made.checkpoint_bytes().model.get(), bytes, "{format}");
    };
    check("fp32", 4 * 8_030_261_248);
    check("fp16", 2 * 8_030_261_248);
    check("bf16", 2 * 8_030_261_248);
    check("fp8", layers(|o, i| o * i + 8));
    check("fp8-channel", layers(|o, i| o * i + 2 * o));
    check("fp8-block", layers(|o, i| o * i + 4 * (o / 128) * (i / 128)));
    check("int8", layers(|o, i| o * i + 2 * o));
    check("int8-weight-only", layers(|o, i| o * i + 2 * o + 16));
    check("w4a16", layers(|o, i| o * i / 2 + 2 * o * i / 128 + 16));
    check("gptq-4bit", layers(|o, i| o * i / 2 + o * i / 128 / 2 + 2 * o * i / 128 + 4 * i));
    check("gptq-8bit-g32", layers(|o, i| o * i + o * i / 32 + 2 * o * i / 32 + 4 * i));
    check("gptq-3bit-channel", layers(|o, i| o * i / 8 * 3 + o / 8 * 3 + 2 * o + 4 * i));
    check("awq-4bit", layers(|o, i| o * i / 2 + o * i / 128 / 2 + 2 * o * i / 128));
    check("bnb-int8", layers(|o, i| o * i + 4 * o + 1));
    check("mxfp4", layers(|o, i| o * i / 2 + o * i / 32));
    check("nvfp4", layers(|o, i| o * i / 2 + o * i / 16 + 8));
    // The state of each matrix is JSON text: its digits differ by matrix.
    let nf4 = recast(&llama(), "nf4").expect("nf4").checkpoint_bytes().model.get();
    let without_state = layers(|o, i| o * i / 2 + o * i / 64 + 4 * o * i / 64 / 256 + 64 + 1024);
    assert!((without_state..without_state + 224 * 250).contains(&nf4), "{nf4} against {without_state}");
}

#[test]
fn a_gguf_type_is_the_converters_file() {
    let file = gguf::from_model(&llama(), FileType::Q4KM).expect("a file");
    let made = recast(&llama(), "q4_k_m").expect("q4_k_m");
    let bytes: u64 = file.tensors.iter().map(|tensor| tensor.bytes()).sum();
    assert_eq!(made.checkpoint_bytes().model.get(), bytes);
    let again = recast(&made, "q8_0").expect_err("a file is not taken apart");
    assert!(again.to_string().contains("give its config.json instead"), "{again}");
}

#[test]
fn every_name_reads_back_as_itself() {
    let kinds = FileType::ALL.iter().map(|kind| Format::Gguf(*kind).name());
    let names = ["fp32", "fp16", "bf16", "fp8", "fp8-channel", "fp8-block", "int8", "int8-weight-only", "w4a16", "nf4"];
    let more = ["gptq-4bit", "gptq-4bit-g32", "gptq-3bit-channel-act-order", "awq-4bit", "awq-4bit-g64", "nf4-single"];
    let last = ["bnb-int8", "mxfp4", "nvfp4"];
    for name in kinds.chain([&names[..], &more, &last].concat().into_iter().map(str::to_owned)) {
        assert_eq!(Format::parse(&name).expect("a format").name(), name);
    }
    for (alias, name) in [
        ("GPTQ", "gptq-4bit"),
        ("gptq-int8-32g", "gptq-8bit-g32"),
        ("W8A8", "int8"),
        ("AWQ-int4", "awq-4bit"),
        ("Q4_K", "q4_k_m"),
        ("bnb_4bit", "nf4"),
        ("FP8_DYNAMIC", "fp8-channel"),
        ("GGUF-F16", "gguf-f16"),
        ("gguf-q8_0", "q8_0"),
    ] {
        assert_eq!(Format::parse(alias).expect("a format").name(), name, "{alias}");
    }
}

#[test]
fn what_is_no_format_lists_those_that_are() {
    let hostile = "gptq-".repeat(10_000);
    for name in [
        "",
        "int3",
        "gptq-5bit",
        "gptq-4bit-g0",
        "awq-8bit",
        "awq-4bit-channel",
        "gptq-4bit-act",
        "gguf-",
        "q9_9",
        &hostile,
    ] {
        let error = recast(&llama(), name).expect_err(name);
        assert!(matches!(error, Error::UnknownQuantisation { .. }), "{name}: {error}");
        assert!(error.to_string().contains("gptq-4bit") && error.to_string().len() < 600, "{error}");
    }
}

#[test]
fn a_model_that_cannot_be_stored_so_says_why() {
    let check = |model: &str, format: &str, why: &str| {
        let model = catalogue::model(model).expect("a built-in model").model;
        let error = recast(&model, format).expect_err("no such checkpoint");
        assert!(error.to_string().contains(why), "{error}");
    };
    check("gpt-oss-20b", "gptq-4bit", "keep a layer's experts in one parameter");
    check("gpt-oss-20b", "nf4", "keep a layer's experts in one parameter");
    check("gpt2", "awq-4bit-g512", "which 512 does not divide");
}

#[test]
fn a_quantised_model_is_taken_back_first() {
    let quantised = catalogue::model("Qwen/Qwen3-32B-FP8").expect("a built-in model").model;
    let plain = catalogue::model("Qwen/Qwen3-32B").expect("a built-in model").model;
    for format in ["bf16", "gptq-4bit", "nf4", "q4_k_m"] {
        let (a, b) = (recast(&quantised, format).expect(format), recast(&plain, format).expect(format));
        assert_eq!(a.checkpoint_bytes(), b.checkpoint_bytes(), "{format}");
        assert!(
            a.notes.iter().any(|note| note.contains("the checkpoint is fp8; it is taken back to bf16")),
            "{:?}",
            a.notes
        );
    }
}

#[test]
fn embeddings_norms_routers_and_the_head_stay() {
    for id in catalogue::model_ids() {
        let Ok(known) = catalogue::model(id) else { continue };
        for format in ["fp8", "int8", "gptq-4bit", "awq-4bit", "nf4", "mxfp4", "nvfp4"] {
            let Ok(made) = recast(&known.model, format) else { continue };
            for tensor in made.tensors.iter().filter(|tensor| !tensor.quantised.is_empty()) {
                let kept =
                    matches!(tensor.role, Role::Embedding | Role::Norm | Role::Router | Role::LmHead | Role::Positions);
                assert!(!kept, "{id} in {format}: {}", tensor.name);
                assert!(tensor.part != Part::Tower || format == "nf4", "{id} in {format}: {}", tensor.name);
            }
        }
    }
}

fn read(data: &Path, name: &str) -> Model {
    let folder = data.join("models").join(name);
    let json = |path: &str| -> Option<Value> { model::parse_json(&std::fs::read(folder.join(path)).ok()?).ok() };
    let config = json("config.json").unwrap_or_else(|| panic!("{name} has no configuration"));
    model::read(name, &config, json("hf_quant_config.json").as_ref()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A model, a published configuration of it in another format, that format, and by how many bytes the published checkpoint is
/// heavier for what its maker did otherwise.
const PAIRS: [(&str, &str, &str, u64); 20] = [
    ("meta-llama__Llama-3.1-70B-Instruct", "nvidia__Llama-3.1-70B-Instruct-FP8", "fp8", 0),
    ("Qwen__Qwen3-32B", "Qwen__Qwen3-32B-FP8-Static-PerTensor", "fp8", 0),
    ("Qwen__Qwen3-32B", "Qwen__Qwen3-32B-FP8", "fp8-block", 0),
    ("Qwen__Qwen3-235B-A22B", "Qwen__Qwen3-235B-A22B-FP8", "fp8-block", 0),
    ("Qwen__Qwen3-235B-A22B", "nvidia__Qwen3-235B-A22B-NVFP4", "nvfp4", 0),
    ("Qwen__Qwen3.5-122B-A10B", "Qwen__Qwen3.5-122B-A10B-FP8", "fp8-block", 0),
    ("ibm-granite__granite-3.3-8b-instruct", "ibm-granite__granite-3.3-8b-instruct-FP8", "fp8-channel", 0),
    ("meta-llama__Llama-3.1-8B-Instruct", "local__Llama-3.1-8B-Instruct-bnb-int8", "bnb-int8", 0),
    ("microsoft__phi-2", "local__phi-2-gptq", "gptq-4bit", 0),
    // AutoGPTQ wrote a bias of zeros beside every matrix, 2 bytes an output.
    (
        "meta-llama__Llama-2-13b-chat-hf",
        "TheBloke__Llama-2-13B-chat-GPTQ",
        "gptq-4bit",
        40 * (5 * 5120 + 2 * 13_824) * 2,
    ),
    ("zai-org__GLM-5", "zai-org__GLM-5-FP8", "fp8-block", 0),
    ("zai-org__GLM-5.1", "zai-org__GLM-5.1-FP8", "fp8-block", 0),
    ("zai-org__GLM-5.2", "zai-org__GLM-5.2-FP8", "fp8-block", 0),
    ("stepfun-ai__Step-3.7-Flash", "stepfun-ai__Step-3.7-Flash-FP8", "fp8-block", 0),
    ("MiniMaxAI__MiniMax-M2.5", "MiniMaxAI__MiniMax-M2.5", "fp8-block", 0),
    ("deepseek-ai__DeepSeek-V3", "deepseek-ai__DeepSeek-V3", "fp8-block", 0),
    ("moonshotai__Kimi-K2-Instruct", "moonshotai__Kimi-K2-Instruct", "fp8-block", 0),
    ("openai__gpt-oss-20b", "openai__gpt-oss-20b", "mxfp4", 0),
    ("openai__gpt-oss-120b", "openai__gpt-oss-120b", "mxfp4", 0),
    // NVIDIA leaves attention, and the Mamba projections in front of it, in bf16.
    (
        "nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "nvidia__NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",
        "nvfp4",
        535_642_848,
    ),
];

#[test]
fn recast_models_weigh_what_published_checkpoints_weigh() {
    let Some(data) = shared("data") else { return };
    let mut wrong = Vec::new();
    for (parent, child, format, heavier) in PAIRS {
        let (parent, child) = (read(&data, parent), read(&data, child));
        let made = recast(&parent, format).unwrap_or_else(|error| panic!("{}: {error}", parent.id));
        let (ours, theirs) = (made.checkpoint_bytes(), child.checkpoint_bytes());
        let difference = ours.model.get() as i64 - theirs.model.get() as i64;
        let draft = ours.draft.get() as i64 - theirs.draft.get() as i64;
        eprintln!("{} as {format}: {} B, {difference:+} B, drafting {draft:+} B", child.id, theirs.model.get());
        if difference != -(heavier as i64) || draft != 0 {
            wrong.push((child.id, difference, draft));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn recast_models_weigh_what_files_weigh() {
    let Some(data) = shared("data") else { return };
    // Sizes of real files: `oracle/quant_byte_goldens.json`.
    for (name, format, bytes) in [
        ("meta-llama__Llama-3.1-8B-Instruct", "bnb-int8", 9_086_705_888_u64),
        ("MiniMaxAI__MiniMax-M2.5", "fp8-block", 230_121_630_720),
    ] {
        let made = recast(&read(&data, name), format).expect(format);
        assert_eq!(made.checkpoint_bytes().model.get(), bytes, "{name} as {format}");
    }
}
