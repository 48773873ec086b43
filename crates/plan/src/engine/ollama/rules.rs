//! Which rules hold in a release? Who decides, what is defaulted, and the llama.cpp inside.
//!
//! Source: the history of Ollama's repository up to fb3076099: the first release whose tag contains the change.

use crate::Version;

/// Who decides how much goes to the GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The static estimator.
    Estimator,
    /// The layout loop with formulas, for models that llama.cpp runs.
    LayoutByFormula,
    /// The layout loop with measured sizes, for models that Ollama's own engine runs.
    LayoutByMeasure,
    /// llama-server with its own fitting.
    LlamaServer,
}

impl Generation {
    /// Returns it in words.
    pub const fn name(self) -> &'static str {
        match self {
            Generation::Estimator => "the static estimator (llm/memory.go)",
            Generation::LayoutByFormula => "the layout loop with the estimator's formulas (llama engine)",
            Generation::LayoutByMeasure => "the layout loop with measured sizes (Ollama engine)",
            Generation::LlamaServer => "llama-server with its own fit",
        }
    }
}

/// Architectures that Ollama's own engine runs, with the release since which it does by default.
const OWN_ENGINE: [(&str, Version); 27] = [
    ("bert", Version::new(0, 13, 5)),
    ("deepseek2", Version::new(0, 13, 0)),
    ("gemma3", Version::new(0, 6, 0)),
    ("gemma3n", Version::new(0, 9, 3)),
    ("gemma4", Version::new(0, 20, 0)),
    ("glm4moelite", Version::new(0, 14, 3)),
    ("glmocr", Version::new(0, 15, 5)),
    ("gpt-oss", Version::new(0, 11, 0)),
    ("gptoss", Version::new(0, 11, 0)),
    ("laguna", Version::new(0, 24, 0)),
    ("lfm2", Version::new(0, 14, 3)),
    ("lfm2moe", Version::new(0, 14, 3)),
    ("llama4", Version::new(0, 6, 6)),
    ("mistral3", Version::new(0, 6, 5)),
    ("mllama", Version::new(0, 7, 0)),
    ("nemotron_h", Version::new(0, 17, 0)),
    ("nemotron_h_moe", Version::new(0, 17, 0)),
    ("nemotron_h_omni", Version::new(0, 17, 0)),
    ("nomic-bert", Version::new(0, 13, 5)),
    ("olmo3", Version::new(0, 13, 4)),
    ("qwen25vl", Version::new(0, 7, 0)),
    ("qwen3", Version::new(0, 12, 0)),
    ("qwen35", Version::new(0, 17, 1)),
    ("qwen35moe", Version::new(0, 17, 1)),
    ("qwen3moe", Version::new(0, 12, 2)),
    ("qwen3next", Version::new(0, 15, 5)),
    ("qwen3vl", Version::new(0, 12, 7)),
];

/// Returns who decides for an architecture.
pub fn generation(version: Version, arch: &str) -> Generation {
    let own = OWN_ENGINE.iter().any(|(name, since)| *name == arch && version >= *since) || arch == "qwen3vlmoe";
    if version >= Version::new(0, 30, 0) {
        Generation::LlamaServer
    } else if own && version >= Version::new(0, 11, 11) {
        Generation::LayoutByMeasure
    } else if !own && version >= Version::new(0, 12, 11) {
        Generation::LayoutByFormula
    } else {
        Generation::Estimator
    }
}

/// Returns the context when nobody says, from the total of the cards (less the overhead) in bytes, and why.
pub fn default_context(version: Version, arch: &str, total: u64) -> (u64, &'static str) {
    let gib = |count: u64| count << 30;
    if version < Version::new(0, 15, 5) {
        let (context, why) =
            if version < Version::new(0, 6, 7) { (2048, "before 0.6.7") } else { (4096, "before 0.15.5") };
        // gpt-oss was never run with less from 0.11.0 on.
        let own = arch.starts_with("gpt") && arch.ends_with("oss") && version >= Version::new(0, 11, 0);
        return if own { (8192, "the least for gpt-oss before 0.15.5") } else { (context, why) };
    }
    if total >= gib(47) {
        (262_144, "cards of 47 GiB and more together")
    } else if total >= gib(23) {
        (32_768, "cards of 23 GiB and more together")
    } else {
        (4096, "cards of less than 23 GiB together")
    }
}

/// Whether a context beyond the training length is cut to it (0.9.3; before, it was warned of).
pub fn clamps(version: Version) -> bool {
    version >= Version::new(0, 9, 3)
}

/// Whether four sequences are tried first when nobody says (0.2 to 0.9.6).
pub fn tries_four(version: Version) -> bool {
    (Version::new(0, 2, 0)..Version::new(0, 9, 7)).contains(&version)
}

/// Architectures that take one sequence at a time.
pub const ONE_AT_A_TIME: [&str; 12] = [
    "lfm2",
    "lfm2moe",
    "mllama",
    "nemotron_h",
    "nemotron_h_moe",
    "nemotron_h_omni",
    "qwen35",
    "qwen35moe",
    "qwen3next",
    "qwen3vl",
    "qwen3vlmoe",
    "clip",
];

/// Whether fused attention is on when nobody says; `None` where llama.cpp decides (llama engine from 0.13.4).
pub fn default_flash(version: Version, arch: &str) -> Option<bool> {
    let since = match arch {
        "gptoss" | "gpt-oss" => Version::new(0, 11, 8),
        "qwen3" | "qwen3moe" => Version::new(0, 12, 4),
        "gemma3" => Version::new(0, 12, 6),
        "qwen3vl" | "qwen3vlmoe" => Version::new(0, 12, 8),
        "mistral3" => Version::new(0, 13, 2),
        "gemma4" => Version::new(0, 20, 4),
        _ => Version::new(u16::MAX, 0, 0),
    };
    match generation(version, arch) {
        Generation::LlamaServer => None,
        Generation::LayoutByFormula if version >= Version::new(0, 13, 4) => None,
        Generation::LayoutByFormula | Generation::LayoutByMeasure | Generation::Estimator => Some(version >= since),
    }
}

/// The llama.cpp inside: the builds that `LLAMA_CPP_VERSION` names from 0.30 on; before, about the build of the day on
/// which the vendored code was brought up to date.
const LLAMA_CPP: [(Version, u32); 24] = [
    (Version::new(0, 5, 8), 4640),
    (Version::new(0, 5, 13), 4780),
    (Version::new(0, 6, 6), 5130),
    (Version::new(0, 6, 7), 5180),
    (Version::new(0, 6, 8), 5240),
    (Version::new(0, 7, 0), 5360),
    (Version::new(0, 11, 5), 6150),
    (Version::new(0, 12, 4), 6670),
    (Version::new(0, 12, 6), 6750),
    (Version::new(0, 12, 11), 6960),
    (Version::new(0, 13, 3), 7330),
    (Version::new(0, 15, 5), 7920),
    (Version::new(0, 30, 0), 9452),
    (Version::new(0, 30, 1), 9479),
    (Version::new(0, 30, 5), 9509),
    (Version::new(0, 30, 9), 9626),
    (Version::new(0, 30, 11), 9781),
    (Version::new(0, 31, 0), 9840),
    (Version::new(0, 31, 2), 9888),
    (Version::new(0, 32, 2), 10_069),
    (Version::new(0, 32, 6), 10_242),
    (Version::new(0, 32, 8), 10_353),
    (Version::new(0, 32, 14), 10_434),
    (Version::new(0, 32, 15), 10_488),
];

/// Returns the build of llama.cpp inside a release.
pub fn llama_cpp(version: Version) -> Version {
    let inside = LLAMA_CPP.iter().rev().find(|(since, _)| version >= *since).unwrap_or(&LLAMA_CPP[0]);
    Version::new(u16::try_from(inside.1).unwrap_or(u16::MAX), 0, 0)
}
