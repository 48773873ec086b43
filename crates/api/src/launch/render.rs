//! How is a launch written as a command? The engine's own spelling, options in the order of their names.

use plimsoll_plan::engine::trtllm;
use serde_json::Value;

use super::{Launch, Program};

/// Returns the words of the launch command, variables first. Reading them again gives the same options.
pub fn render(launch: &Launch) -> Vec<String> {
    let mut words = Vec::new();
    for (name, value) in &launch.env {
        words.push(format!("{name}={value}"));
    }
    if let Some(Value::Object(more)) = launch.options.get("env") {
        let new = more.iter().filter(|(name, _)| !launch.env.contains_key(*name));
        words.extend(new.map(|(name, value)| format!("{name}={}", text(value))));
    }
    let start: &[&str] = match launch.program {
        Program::VllmServe => &["vllm", "serve"],
        Program::VllmOpenAi => &["python3", "-m", "vllm.entrypoints.openai.api_server"],
        Program::VllmPlain => &["python3", "-m", "vllm.entrypoints.api_server"],
        Program::TrtllmServe | Program::TrtllmAny => &["trtllm-serve"],
        Program::TrtllmBuild => &["trtllm-build"],
        Program::SglangLaunch => &["python3", "-m", "sglang.launch_server"],
        Program::SglangServe => &["sglang", "serve"],
        Program::LlamaServer => &["llama-server"],
        Program::LlamaCli => &["llama-cli"],
        Program::OllamaRun => &["ollama", "run"],
        Program::OllamaServe => &["ollama", "serve"],
        Program::Transformers => &["transformers"],
    };
    words.extend(start.iter().map(|word| (*word).to_owned()));
    match (&launch.model, launch.program.model_option()) {
        (Some(model), _) if launch.program.takes_word() && !model.starts_with('-') => words.push(model.clone()),
        (Some(_), Some(_)) if launch.options.contains_key("hf_repo") => {}
        (Some(model), Some(option)) => push(&mut words, launch.program, option, &Value::from(model.as_str())),
        (Some(_), None) | (None, _) => {}
    }
    let built = launch.program == Program::TrtllmBuild;
    let implied = |name: &str| name == if built { "backend" } else { "program" };
    let options = launch.options.iter().filter(|(name, _)| *name != "env" && !implied(name));
    for (name, value) in options.chain(&launch.inert) {
        push(&mut words, launch.program, name, value);
    }
    words
}

/// Returns the launch command as one line that a shell splits into the same words.
pub fn render_str(launch: &Launch) -> String {
    join(&render(launch))
}

/// Returns words as one line that a shell splits into the same words; variables stay assignments.
pub fn join(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let assigned = word.split_once('=').filter(|(name, _)| super::locate::is_variable(name));
        match assigned {
            Some((name, value)) => format!("{name}={}", quote(value)),
            None => quote(word),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| word.replace('\0', ""), |quoted| quoted.into_owned())
}

fn push(words: &mut Vec<String>, program: Program, name: &str, value: &Value) {
    let program = if program == Program::TrtllmAny { Program::TrtllmServe } else { program };
    if program == Program::TrtllmServe && program.flags().named(name).is_none() {
        push_assignments(words, name, value);
    } else if program == Program::TrtllmBuild && program.flags().named(name).is_none() {
        trtllm::flags::AFTER_BUILD.write(name, value, words);
    } else {
        program.flags().write(name, value, words);
    }
}

/// trtllm-serve takes the LLM API's other options as assignments.
fn push_assignments(words: &mut Vec<String>, path: &str, value: &Value) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                push_assignments(words, &format!("{path}.{key}"), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            words.extend(["--set".to_owned(), format!("{path}={value}")]);
        }
        Value::String(text) => words.extend(["--set".to_owned(), format!("{path}={text}")]),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
