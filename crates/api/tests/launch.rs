//! Launch commands as people write them, and what is read from them.

use plimsoll_api::launch::{self, Error, Launch};
use proptest::prelude::*;

/// Commands after `$ `, what is read from them below, a blank line between.
const ROWS: &str = include_str!("launch.txt");

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let block = |block: &'static str| block.strip_prefix("$ ").and_then(|block| block.split_once('\n'));
    ROWS.trim_end().split("\n\n").map(move |text| block(text).expect("a command and what is read from it"))
}

/// What is printed of a command: engine, release and model, options, notes; or the error.
fn show(read: &Result<Launch, Error>) -> String {
    match read {
        Ok(launch) => {
            let version = launch.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            let model = launch.model.as_deref().unwrap_or("-");
            let notes: String = launch.notes.iter().map(|note| format!("\nnote: {note}")).collect();
            let options = serde_json::Value::Object(launch.options.clone());
            format!("{}{version} {model}\n{options}{notes}", launch.engine)
        }
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn commands_are_read_as_their_engines_read_them() {
    for (command, expected) in rows() {
        assert_eq!(show(&launch::parse_str(command)), expected, "{command}");
    }
}

#[test]
fn a_command_that_is_written_again_means_the_same() {
    for (command, _) in rows() {
        let Ok(first) = launch::parse_str(command) else { continue };
        let line = launch::render_str(&first);
        let again = launch::parse_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(launch::parse(&launch::render(&first)).as_ref(), Ok(&again), "{line}");
        let meaning = |launch: &Launch| (launch.model.clone(), launch.options.clone(), launch.inert.clone());
        assert_eq!(meaning(&again), meaning(&first), "{line}");
    }
}

#[test]
fn lines_continue_behind_a_backslash() {
    let read = |line: &str| show(&launch::parse_str(line));
    let expected = "vllm m\n{\"enforce_eager\":true,\"max_model_len\":8192,\"tensor_parallel_size\":2}";
    assert_eq!(read("vllm serve m \\\n  --max-model-len 8192 \\ \n --enforce-eager\r\n -tp 2 \\\r\n\\"), expected);
    let one = "vllm serve m --enforce-eager --max-model-len 8192 \\\n -tp 2".to_owned();
    assert_eq!(show(&launch::parse(&[one])), expected);
    assert_eq!(read("vllm serve 'a\\\nb'"), "vllm a\\\nb\n{}");
}

#[test]
fn secrets_are_not_repeated() {
    let launch = launch::parse_str("HF_TOKEN=hf_x VLLM_API_KEY=y vllm serve m --api-key sk-1 --hf-token z").unwrap();
    let text = format!("{launch:?}");
    for secret in ["hf_x", "sk-1", "\"z\"", "\"y\""] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn flags_are_read_without_a_program() {
    let read = |engine: &str, line: &str| show(&launch::parse_flags(engine, &shlex::split(line).unwrap()));
    assert_eq!(read("vllm", "m -tp 2"), "vllm m\n{\"tensor_parallel_size\":2}");
    assert_eq!(
        read("tensorrt-llm", "m --tp-size 2 --max_input_len 1024 --max-tokens 65536 --context_fmha disable"),
        "tensorrt-llm m\n{\"context_fmha\":false,\"max_input_len\":1024,\"max_tokens\":65536,\"tensor_parallel_size\":2}"
    );
    assert_eq!(
        read("vllm", "m --enforce-eagre"),
        "error: word 2: vllm has no flag --enforce-eagre; did you mean --enforce-eager?"
    );
    assert!(launch::parse_flags("triton", &[]).is_err());
    let launch = launch::parse_flags("tensorrt-llm", &shlex::split("m --max-tokens 65536 -- ").unwrap()).unwrap();
    assert_eq!(launch::render_str(&launch), "trtllm-serve m --set max_tokens=65536");
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "vllm",
            "serve",
            "python3",
            "-m",
            "vllm.entrypoints.openai.api_server",
            "trtllm-serve",
            "trtllm-build",
            "docker",
            "run",
            "-e",
            "-eé",
            "-e=",
            "bash",
            "-c",
            "vllm serve m",
            "env",
            "A=b",
            "export",
            "&&",
            ">",
            "2>&1",
            ";",
            "--",
            "-",
            "-O",
            "-O3",
            "-O.",
            "-O.a",
            "-é",
            "-tp",
            "-tp=2",
            "-n",
            "-n2",
            "--x.y",
            "--set",
            "a.b=1",
            "--config",
            "{",
            "--compilation-config",
            "--compilation-config.a.b",
            "--compilation-config.a+",
            "{\"a\": 1k}",
            "--kv",
            "--api-key",
            "--lora-modules",
            "1",
            "-1",
            "true",
            "--no-enable-lora",
            "--max-model-len",
            "9999999999T",
            "$",
            "vllm/vllm-openai:v0.8.5",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
        "--[a-z_.-]{0,20}(=\\PC{0,6})?",
    ]
}

proptest! {
    #[test]
    fn no_words_panic(words in proptest::collection::vec(word(), 0..24)) {
        let _ = launch::parse(&words);
    }

    #[test]
    fn no_flags_panic(program in 0..4_usize, words in proptest::collection::vec(word(), 0..24)) {
        let start: &[&str] = [&["vllm", "serve"][..], &["trtllm-serve"], &["trtllm-build"], &["docker", "run"]][program];
        let words: Vec<String> = start.iter().map(|word| (*word).to_owned()).chain(words).collect();
        if let Ok(launch) = launch::parse(&words) {
            let again = launch::parse(&launch::render(&launch));
            if let Ok(again) = again {
                prop_assert_eq!(again.options, launch.options);
            }
        }
    }

    #[test]
    fn no_line_panics(line in "\\PC{0,80}") {
        let _ = launch::parse_str(&line);
    }
}
