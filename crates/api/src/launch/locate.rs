//! Where in these words is the server's own command? Variables, wrappers, containers and shells before it, pipes and
//! redirections behind it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Error, Program, shorten};

/// Shells and containers within one another at most.
const DEPTH: usize = 4;

/// Programs that start another program and do not change what it needs.
const WRAPPERS: [&str; 24] = [
    "accelerate",
    "chrt",
    "conda",
    "env",
    "exec",
    "mpiexec",
    "mpirun",
    "nice",
    "nohup",
    "nsys",
    "numactl",
    "pixi",
    "poetry",
    "setsid",
    "srun",
    "stdbuf",
    "sudo",
    "taskset",
    "tee",
    "time",
    "timeout",
    "trtllm-llmapi-launch",
    "uv",
    "uvx",
];

/// Commands that prepare a launch in the same line.
const PREPARATIONS: [&str; 10] = [".", "cd", "declare", "export", "set", "source", "sleep", "ulimit", "umask", "unset"];

/// Docker's flags that take no value.
const DOCKER_SWITCHES: [&str; 14] = [
    "--detach",
    "--disable-content-trust",
    "--init",
    "--interactive",
    "--no-healthcheck",
    "--oom-kill-disable",
    "--privileged",
    "--publish-all",
    "--quiet",
    "--read-only",
    "--rm",
    "--sig-proxy",
    "--tty",
    "--use-api-socket",
];

/// The server's command.
#[derive(Debug)]
pub(super) struct Located<'w> {
    pub program: Program,
    /// The words after the program's name.
    pub args: Cow<'w, [String]>,
    /// The place of the first of them.
    pub base: usize,
    pub version: Option<String>,
    pub env: BTreeMap<String, String>,
    pub notes: Vec<String>,
}

/// Finds the server's command.
pub(super) fn locate(words: &[String]) -> Result<Located<'_>, Error> {
    locate_within(words, 0)
}

fn locate_within(words: &[String], depth: usize) -> Result<Located<'_>, Error> {
    let parts = split(words);
    let mut env = BTreeMap::new();
    let (mut refused, mut parts) = (None, parts.into_iter());
    while let Some(part) = parts.next() {
        match segment(part.words, part.base, &mut env, depth) {
            Ok(Some(mut located)) => {
                env.append(&mut located.env);
                located.env = env;
                if parts.any(|part| part.words.iter().any(|word| is_server(word))) {
                    located.notes.push("only the first server of the command line is read".to_owned());
                }
                return Ok(located);
            }
            Ok(None) => {}
            Err(error) => {
                refused.get_or_insert(error);
            }
        }
    }
    Err(refused.unwrap_or(Error::Empty))
}

/// One command of a command line.
struct Part<'w> {
    words: Cow<'w, [String]>,
    base: usize,
}

/// Cuts a command line at its operators and drops redirections.
fn split(words: &[String]) -> Vec<Part<'_>> {
    let ends = |word: &str| matches!(word, ";" | "&&" | "||" | "|" | "&" | "|&");
    if !words.iter().any(|word| ends(word) || redirection(word).is_some() || word.ends_with(';')) {
        return if words.is_empty() { Vec::new() } else { vec![Part { words: Cow::Borrowed(words), base: 1 }] };
    }
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let (mut part, base) = (Vec::new(), at + 1);
        while at < words.len() && !ends(&words[at]) {
            match (redirection(&words[at]), words[at].strip_suffix(';')) {
                (Some(target_follows), _) => at += usize::from(target_follows),
                (None, Some(word)) if is_preparation(part.first().map_or(word, String::as_str)) => {
                    part.push(word.to_owned());
                    break;
                }
                (None, _) => part.push(words[at].clone()),
            }
            at += 1;
        }
        at += 1;
        if !part.is_empty() {
            parts.push(Part { words: Cow::Owned(part), base });
        }
    }
    parts
}

/// Whether a word redirects, and if so whether the file's name is the next word.
fn redirection(word: &str) -> Option<bool> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
    let target = rest.strip_prefix(">>").or_else(|| rest.strip_prefix('>'));
    let target = target.or_else(|| rest.strip_prefix('<').filter(|rest| !rest.contains('>')))?;
    Some(target.is_empty())
}

fn is_preparation(word: &str) -> bool {
    PREPARATIONS.contains(&word) || assignment(word).is_some()
}

/// Finds the server's command in one command; `None` when it only prepares.
fn segment<'w>(
    words: Cow<'w, [String]>,
    base: usize,
    env: &mut BTreeMap<String, String>,
    depth: usize,
) -> Result<Option<Located<'w>>, Error> {
    let (mut at, mut wrapped, mut preparing) = (0, false, false);
    while let Some(word) = words.get(at) {
        let name = word.rsplit('/').next().unwrap_or(word);
        if let Some((variable, value)) = assignment(word) {
            if !wrapped || variable.bytes().all(|byte| !byte.is_ascii_lowercase()) {
                env.insert(variable.to_owned(), value.to_owned());
            }
        } else if preparing || (at == 0 && word == "$") {
            // The prompt of a pasted line, or the rest of `export` or `cd`.
        } else if PREPARATIONS.contains(&word.as_str()) {
            preparing = true;
        } else if is_program(name) {
            return program(words, at, base, env, depth).map(Some);
        } else if WRAPPERS.contains(&name) {
            wrapped = true;
        } else if !wrapped {
            return Err(Error::UnknownProgram { word: shorten(word), position: base + at });
        }
        at += 1;
    }
    match words.last() {
        Some(last) if wrapped => Err(Error::UnknownProgram { word: shorten(last), position: base + words.len() - 1 }),
        Some(_) | None => Ok(None),
    }
}

fn is_python(name: &str) -> bool {
    name.strip_prefix("python").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

fn is_server(name: &str) -> bool {
    matches!(
        name,
        "vllm" | "trtllm-serve" | "trtllm-build" | "sglang" | "llama" | "llama-server" | "llama-cli" | "ollama"
    )
}

fn is_program(name: &str) -> bool {
    is_python(name) || is_server(name) || matches!(name, "docker" | "podman" | "nerdctl" | "bash" | "sh" | "zsh")
}

/// Reads from the program's name on.
fn program<'w>(
    words: Cow<'w, [String]>,
    at: usize,
    base: usize,
    env: &mut BTreeMap<String, String>,
    depth: usize,
) -> Result<Located<'w>, Error> {
    let word = |at: usize| words.get(at).map(String::as_str);
    let name = word(at).and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let unknown = |from: usize| {
        let named: Vec<&str> = (at..=from).filter_map(word).collect();
        Error::UnknownProgram { word: shorten(&named.join(" ")), position: base + at }
    };
    let (program, next) = match name {
        "vllm" => match word(at + 1) {
            Some("serve") => (Program::VllmServe, at + 2),
            Some(_) | None => return Err(unknown(at + 1)),
        },
        "trtllm-serve" => match word(at + 1) {
            Some("serve") => (Program::TrtllmServe, at + 2),
            Some("disaggregated" | "disaggregated_mpi_worker" | "mm_embedding_serve" | "embeddings") => {
                return Err(unknown(at + 1));
            }
            Some(_) | None => (Program::TrtllmServe, at + 1),
        },
        "trtllm-build" => (Program::TrtllmBuild, at + 1),
        "llama-server" => (Program::LlamaServer, at + 1),
        "llama-cli" => (Program::LlamaCli, at + 1),
        "llama" => match word(at + 1) {
            Some("serve" | "server") => (Program::LlamaServer, at + 2),
            Some("cli" | "run") => (Program::LlamaCli, at + 2),
            Some(_) | None => return Err(unknown(at + 1)),
        },
        "sglang" if word(at + 1) == Some("serve") => (Program::SglangServe, at + 2),
        "ollama" if word(at + 1) == Some("run") => (Program::OllamaRun, at + 2),
        "ollama" if word(at + 1) == Some("serve") => (Program::OllamaServe, at + 2),
        "sglang" | "ollama" => return Err(unknown(at + 1)),
        "docker" | "podman" | "nerdctl" => return container(&words, at, base, env, depth),
        "bash" | "sh" | "zsh" => return shell(&words, at, base, depth),
        _ => match module(&words, at + 1) {
            Some(found) => found,
            None => return Err(unknown(at + 2)),
        },
    };
    Ok(located(program, rest(words, next), base + next))
}

/// A server's command that stands alone.
pub(super) fn located(program: Program, args: Cow<'_, [String]>, base: usize) -> Located<'_> {
    Located { program, args, base, version: None, env: BTreeMap::new(), notes: Vec::new() }
}

fn rest(words: Cow<'_, [String]>, from: usize) -> Cow<'_, [String]> {
    match words {
        Cow::Borrowed(words) => Cow::Borrowed(words.get(from..).unwrap_or_default()),
        Cow::Owned(words) => Cow::Owned(words.into_iter().skip(from).collect()),
    }
}

/// Finds `-m module` behind `python`.
fn module(words: &[String], mut at: usize) -> Option<(Program, usize)> {
    while let Some(word) = words.get(at) {
        let after = |name: &str| words.get(at + 2).is_some_and(|word| word == name);
        match word.as_str() {
            "-m" => {
                return match words.get(at + 1)?.as_str() {
                    "vllm.entrypoints.openai.api_server" => Some((Program::VllmOpenAi, at + 2)),
                    "vllm.entrypoints.api_server" => Some((Program::VllmPlain, at + 2)),
                    "vllm.entrypoints.cli.main" | "vllm.scripts" | "vllm" if after("serve") => {
                        Some((Program::VllmServe, at + 3))
                    }
                    "tensorrt_llm.commands.serve" if after("serve") => Some((Program::TrtllmServe, at + 3)),
                    "tensorrt_llm.commands.serve" => Some((Program::TrtllmServe, at + 2)),
                    "tensorrt_llm.commands.build" => Some((Program::TrtllmBuild, at + 2)),
                    "sglang.launch_server" => Some((Program::SglangLaunch, at + 2)),
                    _ => None,
                };
            }
            "-X" | "-W" => at += 2,
            option if option.starts_with('-') => at += 1,
            script => {
                // `python /usr/bin/vllm serve …`
                let name = script.rsplit('/').next().unwrap_or(script);
                return match name {
                    "vllm" if words.get(at + 1).is_some_and(|word| word == "serve") => {
                        Some((Program::VllmServe, at + 2))
                    }
                    "trtllm-serve" => Some((Program::TrtllmServe, at + 1)),
                    "trtllm-build" => Some((Program::TrtllmBuild, at + 1)),
                    _ => None,
                };
            }
        }
    }
    None
}

/// `bash -c '…'`.
fn shell<'w>(words: &[String], at: usize, base: usize, depth: usize) -> Result<Located<'w>, Error> {
    let refuse = || Error::UnknownProgram { word: shorten(&words[at..].join(" ")), position: base + at };
    let command = words[at + 1..]
        .iter()
        .position(|word| word.strip_prefix('-').is_some_and(|flags| flags.ends_with('c') && !flags.starts_with('-')));
    let command = command.and_then(|offset| words.get(at + 2 + offset)).ok_or_else(refuse)?;
    if depth >= DEPTH {
        return Err(refuse());
    }
    let inner = super::split(command)?;
    own(locate_within(&inner, depth + 1)?)
}

fn own<'w>(located: Located<'_>) -> Result<Located<'w>, Error> {
    let Located { program, args, base, version, env, notes } = located;
    Ok(Located { program, args: Cow::Owned(args.into_owned()), base, version, env, notes })
}

/// `docker run … IMAGE words`.
fn container<'w>(
    words: &[String],
    at: usize,
    base: usize,
    env: &mut BTreeMap<String, String>,
    depth: usize,
) -> Result<Located<'w>, Error> {
    let refuse = |at: usize| Error::UnknownProgram {
        word: shorten(words.get(at).map_or("docker", String::as_str)),
        position: base + at.min(words.len().saturating_sub(1)),
    };
    let run = words[at..].iter().position(|word| word == "run").ok_or_else(|| refuse(at))?;
    let mut at = at + run + 1;
    let mut entrypoint = None;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        let (name, inline) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let short = !name.starts_with("--");
        let alone =
            DOCKER_SWITCHES.contains(&name) || (short && name[1..].bytes().all(|byte| b"ditPq".contains(&byte)));
        let (name, value) = match (short && !alone && name.len() > 2 && word.starts_with("-e"), inline) {
            (true, _) => ("-e", Some(&word[2..])),
            (false, Some(value)) => (name, Some(value)),
            (false, None) if alone => (name, None),
            (false, None) => {
                at += 1;
                (name, words.get(at).map(String::as_str))
            }
        };
        match (name, value) {
            ("-e" | "--env", Some(value)) => {
                if let Some((variable, value)) = assignment(value) {
                    env.insert(variable.to_owned(), value.to_owned());
                }
            }
            ("--entrypoint", Some(value)) => entrypoint = Some(value.to_owned()),
            _ => {}
        }
        at += 1;
    }
    let image = words.get(at).ok_or_else(|| refuse(at))?;
    let mut inner: Vec<String> = entrypoint.into_iter().filter(|entry| !entry.is_empty()).collect();
    let base = base + at + 1 - inner.len();
    inner.extend(words[at + 1..].iter().cloned());
    let first = inner.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let mut found = if is_program(first) || WRAPPERS.contains(&first) {
        if depth >= DEPTH {
            return Err(refuse(at));
        }
        let mut found = own(locate_within(&inner, depth + 1)?)?;
        found.base = (found.base + base).saturating_sub(1);
        found
    } else if image.contains("vllm") {
        let serve = usize::from(first == "serve");
        located(Program::VllmServe, Cow::Owned(inner.into_iter().skip(serve).collect()), base + serve)
    } else if image.contains("llama.cpp") {
        // `server…` images start the server; of `full…` ones the first word says what.
        let word = usize::from(matches!(first, "--server" | "-s" | "--run" | "-r"));
        let cli = image.contains(":light") || matches!(first, "--run" | "-r");
        let program = if cli { Program::LlamaCli } else { Program::LlamaServer };
        located(program, Cow::Owned(inner.into_iter().skip(word).collect()), base + word)
    } else {
        return Err(refuse(at));
    };
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':')).map(|(_, tag)| tag);
    found.version = tag.and_then(release).or(found.version);
    Ok(found)
}

/// Returns the release in an image's tag: `v0.8.5.post1` is `0.8.5.post1`, `server-cuda-b6000` is `b6000`.
fn release(tag: &str) -> Option<String> {
    let build = tag.rsplit('-').next().and_then(|last| last.strip_prefix('b'));
    if let Some(number) = build.filter(|number| number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit())) {
        return Some(format!("b{number}"));
    }
    let tag = tag.trim_start_matches('v').split('-').next()?;
    let numbers = tag.split('.').take(2).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    (numbers.count() == 2 && tag.starts_with(|c: char| c.is_ascii_digit())).then(|| tag.to_owned())
}

/// Whether a text is the name of a shell's variable.
pub(super) fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn assignment(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').filter(|(name, _)| is_variable(name))
}
