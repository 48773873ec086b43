//! Can this engine load this format on this card? What the engines' own tables say; `None` where nothing speaks against it.

use plimsoll_facts::quant::{Format, Scale};
use plimsoll_plan::Version;
use plimsoll_plan::engine::{sglang, transformers, trtllm};

use plimsoll_facts::gguf::FileType;
use plimsoll_facts::tensor::DType;

use crate::plan::reads_gguf;

/// A compute capability as it is written.
type Capability = (u8, u8);

/// Returns the GGUF type in which llama.cpp and Ollama take a format; `None` for formats of safetensors.
pub(super) fn file_type(format: Format) -> Option<FileType> {
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
pub(super) fn refusal(
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

/// The compute capability that an engine asks for at least, and the one from which on it has no kernel.
fn cards(engine: &str, version: Version, format: Format) -> Option<(Capability, Option<Capability>)> {
    const BLACKWELL: Capability = (10, 0);
    let from = |least: Capability| Some((least, None));
    match engine {
        trtllm::NAME => match format {
            Format::Fp8(Scale::Tensor) => from((8, 9)),
            Format::Fp8(Scale::Channel) => Some(((9, 0), Some(BLACKWELL))),
            Format::Fp8(Scale::Block { .. }) => Some(((9, 0), Some((12, 0)))),
            Format::Mxfp4 | Format::Nvfp4 => from(BLACKWELL),
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
pub(super) fn untimed(engine: &str, format: Option<Format>) -> Option<String> {
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
