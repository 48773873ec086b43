//! Which model is a tag? `llama3.1:8b-instruct-q4_K_M` is a family, a size, a tuning and a file type.
//!
//! The library's names are those of the publishers with the spaces left out, so the words of a tag are looked for among
//! the built-in models. What the names do not say is the size behind `latest`, and a few names of the library's own.

use plimsoll_facts::gguf::FileType;

/// A tag, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The words by which the model is looked for, the likeliest first.
    pub names: Vec<String>,
    /// The file type; the library's default is Q4_K_M.
    pub file_type: FileType,
    /// Whether the tag says the file type.
    pub said: bool,
}

/// The size behind a name without one (`latest`) in the library.
const LATEST: [(&str, &str); 22] = [
    ("codellama", "7b"),
    ("deepseek-r1", "8b"),
    ("deepseek-v3", "671b"),
    ("gemma", "7b"),
    ("gemma2", "9b"),
    ("gemma3", "4b"),
    ("gpt-oss", "20b"),
    ("llama2", "7b"),
    ("llama3", "8b"),
    ("llama3.1", "8b"),
    ("llama3.2", "3b"),
    ("llama3.2-vision", "11b"),
    ("llama3.3", "70b"),
    ("mistral", "7b"),
    ("mistral-nemo", "12b"),
    ("mixtral", "8x7b"),
    ("phi3", "mini"),
    ("phi4", "14b"),
    ("qwen2", "7b"),
    ("qwen2.5", "7b"),
    ("qwen2.5vl", "7b"),
    ("qwen3", "8b"),
];

/// Names of the library's own, with the publisher's words.
const OWN: [(&str, &str); 12] = [
    ("deepseek-r1:671b", "deepseek-ai/DeepSeek-R1"),
    ("deepseek-v3:671b", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-v3.1:671b", "deepseek-ai/DeepSeek-V3.1"),
    ("command-r:35b", "c4ai-command-r-v01"),
    ("gemma2:9b", "google/gemma-2-9b"),
    ("mistral-nemo:12b", "Mistral-Nemo-Instruct-2407"),
    ("mixtral:8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
    ("mixtral:8x22b", "mistralai/Mixtral-8x22B-v0.1"),
    ("phi3:mini", "microsoft/Phi-3-mini-4k-instruct"),
    ("phi3.5:3.8b", "microsoft/Phi-3.5-mini-instruct"),
    ("phi4:14b", "microsoft/phi-4"),
    ("qwen2.5vl:7b", "Qwen/Qwen2.5-VL-7B-Instruct"),
];

/// Reads a model's name as `ollama run` takes it; `None` for what cannot be one (a path, an empty name).
pub fn read(text: &str) -> Option<Tag> {
    let text = text.trim();
    if text.is_empty() || text.len() > 256 || text.starts_with(['.', '/', '~']) || text.contains('\\') {
        return None;
    }
    let hub = ["hf.co/", "huggingface.co/"].iter().find_map(|host| text.strip_prefix(host));
    let library = text.strip_prefix("registry.ollama.ai/").unwrap_or(text);
    let library = library.strip_prefix("library/").unwrap_or(library);
    let (name, tag) = hub.unwrap_or(library).rsplit_once(':').unwrap_or((hub.unwrap_or(library), ""));
    let (words, found) = split(tag);
    let file_type =
        found.unwrap_or_else(|| if name.starts_with("gpt-oss") { FileType::Mxfp4Moe } else { FileType::Q4KM });
    let names = if hub.is_some() { hub_names(name) } else { library_names(name, &words) };
    Some(Tag { names, file_type, said: found.is_some() })
}

/// Cuts a file type off the end of a tag: `8b-instruct-q4_K_M` is `8b-instruct` and Q4_K_M.
fn split(tag: &str) -> (String, Option<FileType>) {
    if let Some(kind) = FileType::parse(tag) {
        return (String::new(), Some(kind));
    }
    if let Some((words, last)) = tag.rsplit_once('-')
        && let Some(kind) = FileType::parse(last)
    {
        return (words.to_owned(), Some(kind));
    }
    (if tag == "latest" { String::new() } else { tag.to_owned() }, None)
}

fn library_names(name: &str, words: &str) -> Vec<String> {
    let size = words.split('-').next().unwrap_or_default();
    let latest = LATEST.iter().find(|(known, _)| *known == name).map_or("", |(_, size)| *size);
    let words = if words.is_empty() { latest } else { words };
    let key = format!("{name}:{}", if size.is_empty() { latest } else { size });
    let own = OWN.iter().find(|(known, _)| *known == key).map(|(_, meant)| (*meant).to_owned());
    let plain = format!("{name} {words}").trim().to_owned();
    let mut names: Vec<String> = own.into_iter().collect();
    names.push(plain);
    names
}

/// `org/Name-GGUF` is the publisher's model under its own name.
fn hub_names(name: &str) -> Vec<String> {
    let short = name.strip_suffix("-GGUF").or_else(|| name.strip_suffix("-gguf")).unwrap_or(name);
    let plain = short.rsplit_once('/').map_or(short, |(_, name)| name);
    let mut names = vec![short.to_owned()];
    if plain != short {
        names.push(plain.to_owned());
    }
    names
}
