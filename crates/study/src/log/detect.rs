//! Which engine wrote this? The one whose lines are found; and what is not any engine's own: cards, images, commands.

use super::{Found, Read, RefusalKind, Sheet};

/// An engine whose log can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EngineKind {
    /// vLLM.
    Vllm,
    /// TensorRT-LLM.
    Trtllm,
    /// SGLang.
    Sglang,
    /// llama.cpp.
    LlamaCpp,
    /// Ollama.
    Ollama,
}

impl EngineKind {
    /// Returns the name in requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            EngineKind::Vllm => "vllm",
            EngineKind::Trtllm => "tensorrt-llm",
            EngineKind::Sglang => "sglang",
            EngineKind::LlamaCpp => "llama.cpp",
            EngineKind::Ollama => "ollama",
        }
    }

    const fn table(self) -> usize {
        match self {
            EngineKind::Vllm => 1,
            EngineKind::Trtllm => 2,
            EngineKind::Sglang => 3,
            EngineKind::LlamaCpp => 4,
            EngineKind::Ollama => 5,
        }
    }
}

/// Engines in the order in which a tie is decided.
const KINDS: [EngineKind; 5] =
    [EngineKind::Vllm, EngineKind::Trtllm, EngineKind::Sglang, EngineKind::LlamaCpp, EngineKind::Ollama];

/// What is no engine's own.
pub(super) const MARKS: &[(&str, Read)] = &[
    ("CUDA out of memory.", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("HIP out of memory.", |found, sheet| found.refusal(sheet, RefusalKind::OutOfMemory)),
    ("device_name=", device_name),
    ("GPU 0: ", |found, sheet| card(found, sheet, 0)),
    ("vllm/vllm-openai:v", |found, sheet| image(found, sheet)),
    ("lmsysorg/sglang:v", |found, sheet| image(found, sheet)),
    ("tensorrt-llm/release:", |found, sheet| image(found, sheet)),
    ("ollama/ollama:", |found, sheet| image(found, sheet)),
    ("vLLM Version: ", |found, sheet| image(found, sheet)),
    ("vllm serve ", command),
    ("-m vllm.entrypoints.openai.api_server ", command),
    ("-m sglang.launch_server ", command),
    ("sglang serve ", command),
    ("trtllm-serve ", command),
    ("llama-server ", command),
    ("llama-cli ", command),
];

/// Tells which engine wrote the log and gives its sheet, the shared one added.
pub(super) fn settle(sheets: [Sheet; 6], hits: [u64; 6]) -> (Option<EngineKind>, Sheet) {
    let ollama = hits[EngineKind::Ollama.table()] > 0;
    let most = KINDS.iter().copied().rev().max_by_key(|kind| hits[kind.table()]);
    let kind = if ollama { Some(EngineKind::Ollama) } else { most.filter(|kind| hits[kind.table()] > 0) };
    let [shared, vllm, trtllm, sglang, llamacpp, ollama] = sheets;
    let mut sheet = match kind {
        Some(EngineKind::Vllm) => vllm,
        Some(EngineKind::Trtllm) => trtllm,
        Some(EngineKind::Sglang) => sglang,
        Some(EngineKind::LlamaCpp) => llamacpp,
        Some(EngineKind::Ollama) => {
            let mut sheet = ollama;
            // Its runner prints llama.cpp's own lines; the runner's build is not Ollama's release.
            // (`merge` leaves releases alone.)
            sheet.merge(llamacpp);
            sheet
        }
        None => Sheet::default(),
    };
    if sheet.versions.is_empty() {
        sheet.versions.clone_from(&shared.versions);
    }
    sheet.merge(shared);
    (kind, sheet)
}

/// `…,device_name=NVIDIA_H100_80GB_HBM3.json`: the tuned configuration of a mixture of experts.
fn device_name(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let name = found.after();
    let end = name.find([',', ' ', '\'', '"']).unwrap_or(name.len());
    let name = name[..end].trim_end_matches(['.', ')', ']']).trim_end_matches(".json");
    sheet.gpu(&name.replace('_', " "), None, found.number)
}

/// `GPU 0: NVIDIA H100 80GB HBM3`, as environment reports and `nvidia-smi -L` list cards.
fn card(found: &Found<'_>, sheet: &mut Sheet, index: u32) -> bool {
    let name = found.after().split(" (UUID").next().unwrap_or_default();
    sheet.gpu(name, Some(index), found.number)
}

/// The release in an image's tag or an environment report.
fn image(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let after = found.after();
    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+'))).unwrap_or(after.len());
    after[..end].contains('.') && sheet.version(&after[..end])
}

/// A launch command at the beginning of a line or behind a shell's prompt.
fn command(found: &Found<'_>, sheet: &mut Sheet) -> bool {
    let before = found.before().trim_end();
    let program = before.rsplit(' ').next().unwrap_or_default();
    let python = found.text[found.at..].starts_with("-m ");
    let before =
        if python && program.contains("python") { before.trim_end_matches(program).trim_end() } else { before };
    let shell = before.is_empty() || before.ends_with(['$', '+', '#', '%']) || before.ends_with("ommand:");
    if !shell || sheet.command.is_some() {
        return false;
    }
    let start = if python { found.text[..found.at].trim_end().rfind(' ').map_or(0, |at| at + 1) } else { found.at };
    sheet.command = Some(found.text[start..].trim().chars().take(8192).collect());
    true
}
