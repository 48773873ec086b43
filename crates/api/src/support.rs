//! Can this engine load this format on this card? What the engines' own tables say; `None` where nothing speaks against it.

use plimsoll_facts::quant::{Format, Scale};
use plimsoll_plan::Version;
use plimsoll_plan::engine::{sglang, transformers, trtllm};

use plimsoll_facts::gguf::FileType;
use plimsoll_facts::gpu::Gpu;
use plimsoll_facts::tensor::DType;

use crate::plan::{Prepared, reads_gguf};

/// A compute capability as it is written.
type Capability = (u8, u8);

/// Returns the GGUF type in which llama.cpp and Ollama take a format; `None` for formats of safetensors.
pub(crate) fn file_type(format: Format) -> Option<FileType> {
    match format {
        Format::Gguf(kind) => Some(kind),
        Format::Plain(DType::F32) => Some(FileType::F32),
        Format::Plain(DType::F16) => Some(FileType::F16),
        Format::Plain(DType::BF16) => Some(FileType::Bf16),
        Format::Plain(_)
        | Format::Fp8(_)
        | Format::Int8
        | Format::WeightOnly { .. }
        | Format::Gptq { .. }
        | Format::Awq { .. }
        | Format::Nf4 { .. }
        | Format::BnbInt8
        | Format::Mxfp4
        | Format::Nvfp4 => None,
    }
}

/// Says why an engine cannot load a format on a card; `None` where nothing speaks against it.
///
/// Sources: vLLM 0.11.0 to 0.33.0 `model_executor/layers/quantization/__init__.py` (`QUANTIZATION_METHODS`) and each method's
/// `get_min_capability`; SGLang 0.5.23 `srt/layers/quantization`, the same; TensorRT-LLM 1.2
/// `docs/source/features/quantization.md` (its hardware support matrix); transformers 5.23.0 `quantizers/auto.py`; llama.cpp and Ollama load GGUF files.
pub(crate) fn refusal(
    engine: &str,
    version: Version,
    format: Format,
    capability: Option<Capability>,
) -> Option<String> {
    let name = format.name();
    let lacks = || Some(format!("{engine} {version} cannot load {name}"));
    if reads_gguf(engine) {
        return file_type(format).is_none().then(|| format!("{engine} loads GGUF files; {name} is none"));
    }
    if let Format::Gguf(_) = format {
        return match engine {
            "vllm" if version < Version::new(0, 26, 0) => {
                Some(format!("GGUF in {engine} is not planned; llama.cpp and ollama are"))
            }
            sglang::NAME | transformers::NAME => {
                Some(format!("GGUF in {engine} is not planned; llama.cpp and ollama are"))
            }
            _ => Some(format!("{engine} {version} cannot load {name}: no GGUF; llama.cpp and ollama load it")),
        };
    }
    let bitsandbytes = matches!(format, Format::Nf4 { .. } | Format::BnbInt8);
    let absent = match engine {
        trtllm::NAME => bitsandbytes,
        transformers::NAME => format == Format::Nvfp4,
        sglang::NAME => matches!(format, Format::Gptq { bits: 3, .. }),
        _ => {
            let odd = matches!(format, Format::Gptq { bits: 2 | 3, .. }) && version >= Version::new(0, 33, 0);
            (bitsandbytes && version >= Version::new(0, 33, 0)) || odd
        }
    };
    if absent && bitsandbytes && engine == "vllm" {
        return Some(format!("{engine} {version} cannot load {name}: bitsandbytes left it after 0.26.0"));
    }
    if absent {
        return lacks();
    }
    let (least, below) = cards(engine, version, format)?;
    let found = capability?;
    let told = |what: &str, limit: Capability| {
        Some(format!(
            "{name} in {engine} needs compute capability {what} {}.{}, the card has {}.{}",
            limit.0, limit.1, found.0, found.1
        ))
    };
    if found < least {
        return told("of at least", least);
    }
    below.filter(|below| found >= *below).and_then(|below| told("below", below))
}

/// Refuses a format that an engine cannot load; engines that read GGUF files, and names that are none, are judged where the
/// format is put in.
///
/// # Errors
/// [`plimsoll_plan::Error::Unsupported`] with the rule's words.
pub(crate) fn check(prepared: &Prepared, format: &str) -> Result<(), plimsoll_plan::Error> {
    let Prepared { engine, version, card, .. } = prepared;
    let known = Format::parse(format).ok().filter(|_| !reads_gguf(engine));
    let Some(why) = known.and_then(|format| refusal(engine, *version, format, card.compute_capability)) else {
        return Ok(());
    };
    let version = version.to_string();
    Err(plimsoll_plan::Error::Unsupported { engine, version, why })
}

/// Refuses a launch on a card for which the engine is not made.
///
/// TensorRT-LLM 0.18.2 and 0.19.0, `docs/source/reference/support-matrix.md`: NVIDIA GPUs alone.
///
/// # Errors
/// [`plimsoll_plan::Error::Unsupported`] names the card and what is supported.
pub(crate) fn runs_on(engine: &'static str, version: Version, gpu: &Gpu) -> Result<(), plimsoll_plan::Error> {
    if engine != trtllm::NAME || gpu.vendor.eq_ignore_ascii_case("nvidia") {
        return Ok(());
    }
    let why = format!("{} is a card of {}; supported are NVIDIA's alone", gpu.name, gpu.vendor);
    Err(plimsoll_plan::Error::Unsupported { engine, version: version.to_string(), why })
}

/// What a plan should say of the format and the card that the launch itself names, and that the engine's tables lack; the plan
/// is given all the same.
pub(crate) fn notes(prepared: &Prepared) -> Vec<String> {
    let Prepared { engine, version, loaded, options, card, .. } = prepared;
    let mut found = Vec::new();
    let asked = options.get("quantization").and_then(serde_json::Value::as_str);
    let stored = loaded.model.quant.as_ref().map(|quant| quant.method.as_str());
    let format = asked.and_then(named).or_else(|| stored.and_then(named));
    if loaded.gguf.is_none()
        && let Some(why) = format.and_then(|format| refusal(engine, *version, format, card.compute_capability))
    {
        found.push(format!("{why}: planned as if it could"));
    }
    // TensorRT-LLM 0.18.2, support matrix: Ampere (8.0, 8.6), Ada Lovelace and Hopper; what is older is not developed for.
    let old = card.compute_capability.filter(|found| *found < (8, 0));
    if let Some((major, minor)) = old.filter(|_| *engine == trtllm::NAME && *version >= Version::new(0, 18, 2)) {
        found.push(format!(
            "{} has compute capability {major}.{minor}, and {engine}'s support matrix begins with 8.0: it may not run there",
            card.name
        ));
    }
    found
}

/// The format that a quantisation method means, by its name in `--quantization` and `quantization_config`; of several
/// formats of a method the one that most cards can run. `None` where a name does not say enough.
fn named(method: &str) -> Option<Format> {
    let name = match method.trim().to_ascii_lowercase().replace('-', "_").as_str() {
        "bitsandbytes" => "nf4",
        "awq" | "awq_marlin" => "awq-4bit",
        "gptq" | "gptq_marlin" => "gptq-4bit",
        "fp8" => "fp8",
        "mxfp4" => "mxfp4",
        _ => return None,
    };
    Format::parse(name).ok()
}

/// The compute capability that an engine asks for at least, and the one from which on it has no kernel.
fn cards(engine: &str, version: Version, format: Format) -> Option<(Capability, Option<Capability>)> {
    const BLACKWELL: Capability = (10, 0);
    let from = |least: Capability| Some((least, None));
    match engine {
        trtllm::NAME => match format {
            Format::Fp8(Scale::Tensor) => from((8, 9)),
            Format::Fp8(Scale::Channel) => Some(((9, 0), Some(BLACKWELL))),
            Format::Fp8(Scale::Block { .. }) => Some(((9, 0), Some((12, 0)))),
            // gpt-oss runs on Hopper too: aiconfigurator's measured table (end_to_end.csv.gz) has it on H100.
            Format::Mxfp4 => from((9, 0)),
            Format::Nvfp4 => from(BLACKWELL),
            Format::Gptq { .. } | Format::Awq { .. } => Some(((8, 0), Some(BLACKWELL))),
            Format::Plain(_)
            | Format::Int8
            | Format::WeightOnly { .. }
            | Format::Nf4 { .. }
            | Format::BnbInt8
            | Format::Gguf(_) => None,
        },
        sglang::NAME => match format {
            Format::Fp8(Scale::Channel) => from((8, 0)),
            Format::Int8 | Format::WeightOnly { .. } | Format::Mxfp4 | Format::Nvfp4 => from((8, 0)),
            Format::Gptq { .. } => from((6, 0)),
            Format::Awq { .. } => from((7, 5)),
            Format::Nf4 { .. } | Format::BnbInt8 => from((7, 0)),
            Format::Plain(_) | Format::Fp8(_) | Format::Gguf(_) => None,
        },
        "vllm" => match format {
            Format::Fp8(_) | Format::Nvfp4 if version < Version::new(0, 20, 0) => from((8, 0)),
            Format::Fp8(_) | Format::Nvfp4 | Format::Awq { .. } | Format::Int8 | Format::WeightOnly { .. } => {
                from((7, 5))
            }
            Format::Gptq { .. } => from((6, 0)),
            Format::Nf4 { .. } | Format::BnbInt8 => from((7, 0)),
            Format::Mxfp4 => from((8, 0)),
            Format::Plain(_) | Format::Gguf(_) => None,
        },
        _ => None,
    }
}

/// Says why no time is predicted for an engine and a format; `None` where one is.
pub(crate) fn untimed(engine: &str, format: Option<Format>) -> Option<String> {
    let timed = ["vllm", sglang::NAME, trtllm::NAME].contains(&engine);
    if !timed {
        return Some(format!("no step of {engine} was measured"));
    }
    let bitsandbytes = matches!(format, Some(Format::Nf4 { .. } | Format::BnbInt8));
    bitsandbytes.then(|| "no kernel of bitsandbytes was measured".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Launches that ran, as public threads report them, are refused by no rule.
    #[test]
    fn what_ran_is_not_refused() {
        let root = std::env::var("PLIMSOLL_SHARED")
            .unwrap_or_else(|_| format!("{}/../../../shared", env!("CARGO_MANIFEST_DIR")));
        let mut checked = 0;
        for (file, engine) in [("vllm", "vllm"), ("sglang", sglang::NAME), ("trtllm", trtllm::NAME)] {
            let Ok(text) = std::fs::read_to_string(format!("{root}/data/evidence/{file}.jsonl")) else {
                eprintln!("SKIPPED: no evidence of {engine} beside the workspace; set PLIMSOLL_SHARED");
                continue;
            };
            for line in text.lines() {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                let text = |key: &str| row.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
                let quantization = text("quantization").split([' ', '(']).next().unwrap_or_default();
                let version = text("engine_version").trim_start_matches('v').parse::<Version>();
                let (Some(format), Ok(version)) = (named(quantization), version) else { continue };
                let gpu = text("gpu").split(" (").next().unwrap_or_default();
                let capability = plimsoll_facts::catalogue::gpu(gpu).ok().and_then(|gpu| gpu.compute_capability);
                assert_eq!(refusal(engine, version, format, capability), None, "{line}");
                checked += 1;
            }
        }
        eprintln!("{checked} launches that ran");
    }

    #[test]
    fn blocks_are_those_that_a_release_takes() {
        let desk = crate::Desk::new(&crate::NoFiles);
        let check = |version: &str, size: u64, why: Option<&str>| {
            let options = serde_json::json!({"block_size": size});
            let request = serde_json::json!({"model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": "vllm", "engine_version": version,
                "options": options});
            let found =
                crate::plan(&serde_json::from_value(request).unwrap(), &desk).map_err(|error| error.to_string());
            assert_eq!(found.as_ref().err().is_some(), why.is_some(), "{version} {size}");
            assert!(found.err().unwrap_or_default().contains(why.unwrap_or_default()), "{version} {size}");
        };
        check("0.33.0", 1, Some("--block-size is 1, expected a multiple of 16"));
        check("0.33.0", 7, Some("a multiple of 16"));
        check("0.33.0", 48, None);
        check("0.15.0", 48, Some("one of 1, 8, 16, 32, 64, 128, 256"));
        check("0.11.0", 256, Some("one of 1, 8, 16, 32, 64, 128 in"));
        check("0.8.0", 1, Some("one of 8, 16, 32, 64, 128"));
        check("0.6.3", 64, Some("one of 8, 16, 32 in"));
        check("0.11.0", 32, None);
    }

    #[test]
    fn an_engine_of_one_vendor_says_so() {
        let card = |name: &str| plimsoll_facts::catalogue::gpu(name).unwrap();
        let version = Version::new(1, 2, 1);
        let why = runs_on(trtllm::NAME, version, &card("mi300x")).unwrap_err().to_string();
        assert!(why.contains("MI300X") && why.contains("NVIDIA"), "{why}");
        assert!(
            runs_on(trtllm::NAME, version, &card("t4")).is_ok() && runs_on("vllm", version, &card("mi300x")).is_ok()
        );
    }

    #[test]
    fn what_an_engine_lacks_is_said() {
        let check = |engine: &str, version: (u16, u16), format: &str, card: Capability, why: Option<&str>| {
            let version = Version::new(version.0, version.1, 0);
            let found = refusal(engine, version, Format::parse(format).unwrap(), Some(card));
            assert_eq!(found.is_some(), why.is_some(), "{engine} {format}: {found:?}");
            assert!(found.unwrap_or_default().contains(why.unwrap_or_default()), "{engine} {format}");
        };
        check("vllm", (0, 33), "q4_k_m", (8, 9), Some("cannot load q4_k_m"));
        check("vllm", (0, 33), "nf4", (8, 9), Some("cannot load nf4"));
        check("vllm", (0, 26), "nf4", (8, 9), None);
        check("vllm", (0, 33), "fp8", (8, 0), None);
        check("vllm", (0, 33), "fp8", (7, 0), Some("of at least 7.5, the card has 7.0"));
        check("vllm", (0, 33), "gptq-3bit", (8, 9), Some("cannot load"));
        check("tensorrt-llm", (1, 2), "fp8", (8, 0), Some("of at least 8.9"));
        check("tensorrt-llm", (1, 2), "nvfp4", (9, 0), Some("10.0"));
        check("tensorrt-llm", (1, 2), "awq-4bit", (10, 0), Some("below 10.0"));
        check("llama.cpp", (0, 0), "awq-4bit", (8, 9), Some("loads GGUF files"));
        check("ollama", (0, 33), "bf16", (8, 9), None);
        check("transformers", (5, 23), "nf4", (7, 0), None);
    }
}
