//! Which architectures does llama.cpp have, and which of their layers see a window?

use crate::Error;
use crate::gguf::Gguf;
use crate::model::Span;

/// The architectures of llama.cpp 0c1e57098 (`src/llama-arch.cpp`, `LLM_ARCH_NAMES`).
const KNOWN: &str = "\
    afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet bloom chameleon \
    chatglm clip codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2 deepseek2-ocr \
    deepseek32 deepseek4 dflash dots1 dots3note dream eagle3 ernie4_5 ernie4_5-moe eurobert exaone exaone-moe \
    exaone4 falcon falcon-h1 gemma gemma-embedding gemma2 gemma3 gemma3n gemma4 gemma4-assistant glm-dsa glm4 \
    glm4moe glm5-next gpt-oss gpt2 gptj gptneox granite granite_swa granitehybrid granitemoe graniteswitch grok \
    grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 hy_v4 internlm2 jais jais2 jamba jina-bert-v2 \
    jina-bert-v3 kimi-k3 kimi-linear laguna lfm2 lfm2moe llada llada-moe llama llama-embed llama4 maincoder mamba \
    mamba2 maple mellum mimo2 minicpm minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3 mistral4 modern-bert mpt \
    muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe neo-bert nomic-bert nomic-bert-moe olmo olmo2 olmoe \
    openelm orion paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3 plm pockettts qwen qwen2 qwen2moe \
    qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp refact rnd1 rwkv6 \
    rwkv6qwen2 rwkv7 seed_oss smallthinker smollm3 spark2_5 stablelm starcoder starcoder2 step35 t5 t5encoder \
    talkie wavtokenizer-dec xverse";

/// Whether llama.cpp has the architecture.
pub fn is_known(architecture: &str) -> bool {
    KNOWN.split(' ').any(|known| known == architecture)
}

/// Which layers see a window, where the file does not list them.
enum Pattern {
    /// Of every `period` layers all but one: the last, or the first when `full_first`.
    Period { period: u64, full_first: bool },
    /// All of them.
    All,
    /// The file must list them.
    Listed,
}

/// Returns what each of `count` layers sees.
///
/// Words: an architecture with windows takes their width from `attention.sliding_window` and the layers from
/// `attention.sliding_window_pattern`, an array with one value per layer or the period of a pattern; without it from its
/// own default. Source: llama.cpp 0c1e57098, `src/models/*.cpp` (`load_arch_hparams`), `src/llama-hparams.cpp`
/// (`set_swa_pattern`), `src/llama-model.cpp` (`load_swa_pattern`).
///
/// # Errors
/// [`Error::Malformed`] for a window or pattern of another kind than a number, or an array.
pub fn windows(gguf: &Gguf, count: usize) -> Result<Vec<Span>, Error> {
    let architecture = gguf.architecture()?;
    let full = vec![Span::Full; count];
    let given = gguf.uint("attention.sliding_window")?;
    let periodic = |period| Pattern::Period { period, full_first: false };
    let first = |period| Pattern::Period { period, full_first: true };
    let (default, pattern) = match architecture {
        "gemma2" => (Some(4096), periodic(2)),
        "gpt-oss" => (None, periodic(2)),
        "gemma3n" => (None, periodic(5)),
        "gemma3" | "gemma-embedding" => (None, periodic(6)),
        "plamo3" => (None, periodic(8)),
        "exaone-moe" => (Some(128), periodic(4)),
        "exaone4" if count == 64 => (Some(4096), periodic(4)),
        "afmoe" | "cohere2" | "mellum" | "muse-glimmer" | "olmo2" => (None, periodic(4)),
        "llama4" if given == Some(0) => return Ok(full),
        "llama4" => (Some(8192), periodic(4)),
        "modern-bert" => (None, first(3)),
        "cohere2moe" | "laguna" => (None, first(4)),
        "smallthinker" => (given.map(|_| 4096), first(4)),
        "lfm2" | "lfm2moe" | "deepseek4" => (None, Pattern::All),
        "gemma4" | "gemma4-assistant" | "granite_swa" | "maple" | "mimo2" | "spark2_5" | "step35" | "dots3note"
        | "dflash" => (None, Pattern::Listed),
        name if is_known(name) => return Ok(full),
        // An architecture of tomorrow: what the file says.
        _ => (None, Pattern::Listed),
    };
    // Llama 4's chunks and SmallThinker's windows have one width whatever the file says.
    let width = match architecture {
        "llama4" | "smallthinker" => default,
        _ => given.or(default),
    };
    let Some(width) = width.filter(|width| *width > 0) else { return Ok(full) };
    let tokens = u32::try_from(width).unwrap_or(u32::MAX);
    let local = if architecture == "llama4" { Span::Chunk { tokens } } else { Span::Window { tokens } };
    let listed = gguf.array("attention.sliding_window_pattern")?;
    if let Some(listed) = listed.filter(|listed| listed.len() >= count) {
        return Ok(listed.iter().take(count).map(|value| if *value != 0 { local } else { Span::Full }).collect());
    }
    let period = match gguf.key("attention.sliding_window_pattern").filter(|value| value.as_array().is_none()) {
        Some(_) => gguf.uint("attention.sliding_window_pattern")?,
        None => None,
    };
    let pattern = match (pattern, period) {
        (Pattern::Period { full_first, .. }, Some(period)) => Pattern::Period { period, full_first },
        (pattern, _) => pattern,
    };
    let sees_window = |layer: usize| match pattern {
        Pattern::Period { period: 0, .. } | Pattern::All => true,
        Pattern::Period { period, full_first: true } => !(layer as u64).is_multiple_of(period),
        Pattern::Period { period, full_first: false } => layer as u64 % period < period - 1,
        Pattern::Listed => false,
    };
    Ok((0..count).map(|layer| if sees_window(layer) { local } else { Span::Full }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_has_no_doubles() {
        let names: Vec<&str> = KNOWN.split(' ').collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(names.iter().all(|name| !name.is_empty()));
        assert!(is_known("qwen3moe") && !is_known("qwen9"));
    }
}
