//! Is every answer legible in a terminal of 80 columns, without colour, and silent where silence is asked for? Every
//! documented answer and a list of difficult ones.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What stands in one line however long it is: commands and addresses, which people copy.
const COPIED: [&str; 12] = [
    "vllm serve ",
    "python -m ",
    "trtllm-serve ",
    "llama-server ",
    "llama-cli ",
    "ollama ",
    "OLLAMA_",
    "AutoModel",
    "-c '",
    "error: ",
    "hint: ",
    "https://",
];

/// Answers that are wide: many parts, long names, several engines, everything at once.
const DIFFICULT: [&str; 43] = [
    "plan llama-3.1-8b --gpu h100-sxm:2 --engine vllm --tp 4",
    "plan deepseek-v3 --gpu h200:8 --engine sglang --tp 8",
    "plan deepseek-v3 --gpu h200:16 --engine vllm --tp 8 --pp 2 --enable-expert-parallel",
    "plan llama-3.1-405b --gpu h200:8 --engine tensorrt-llm --tp-size 8",
    "plan mistralai/Mistral-Small-24B-Instruct-2501 --gpu rtx-4090 --engine vllm",
    "plan gemma-3-27b-it --gpu rtx-4090,rtx-3090:2 --engine llama.cpp -c 131072 -np 4",
    "plan qwen3-30b-a3b --gpu rtx-4060-ti-16gb --engine ollama",
    "plan llama-3.1-8b --gpu a100-40gb --engine transformers --batch-size 64 --max-length 8192",
    "plan llama-3.1-8b --gpu l40s --engine vllm --explain activation",
    "plan llama-3.1-8b --gpu l40s --engine vllm --explain kv",
    "plan --spec layers=32,dim=4096,heads=32,head-dim=128 llama-3.1-8b",
    "plan --spec layers=126,dim=16384,heads=128,head-dim=128",
    "roofline qwen3-next-80b-a3b-instruct --gpu h100-sxm:8 --tp 4 --pp 2 --batch 1,256 --context 131072",
    "roofline ai21labs/Jamba-v0.1 --gpu h200:8 --tp 2 --pp 2 --batch 1,8,64,256,1024 --context 1024,131072",
    "roofline deepseek-v3 --gpu h200:8 --tp 8 --batch 1,4096 --context 131072 --operators",
    "roofline llama-3.1-405b --gpu h100-sxm:8 --tp 8 --batch 1,512 --context 131072 --what-if parallel,formats",
    "roofline llama-3.1-70b --gpu h100-sxm:4 --tp 4 --speculative tokens=4,acceptance=0.7,cost=0.1 --disaggregated output=200",
    "roofline llama-3.1-8b --gpu l40s --explain",
    "simulate llama-3.1-8b --gpu l40s --engine vllm --interval off --workload requests=40,prompt=900,output=200",
    "inspect deepseek-v3",
    "inspect qwen3-next-80b-a3b-instruct --tensors",
    "catalogue models",
    "catalogue gpus",
    "catalogue engines",
    "catalogue formats",
    "reconcile logs/vllm.log --gpu h100-sxm",
    "--help",
    "plan --help",
    "roofline --help",
    "simulate --help",
    "sweep --help",
    "reconcile --help",
    "inspect --help",
    "plan -h",
    "grow llama-3.1-8b --gpu h100-sxm --context 1k..128k --batch 1,4,16,64",
    "grow llama-3.1-405b --gpu h100-sxm:16 --tp 4,8,16 --formats bf16,fp8 --context 8k",
    "grow --spec layers=32,dim=4096,heads=32,head-dim=128 --context 1k..32k",
    "compare llama-2-7b llama-2-13b llama-2-70b llama-3-8b mistral-7b --gpus rtx-4090,a100-40gb,a100-80gb,h100-80gb,h100-96gb",
    "compare llama-3.1-8b --formats fp32,bf16,fp8,int8,gptq-4bit,awq-4bit,nf4,q4_k_m --engine vllm --gpu l40s",
    "compare qwen3-30b-a3b --gpu h100-sxm --engines vllm,sglang,tensorrt-llm,llama.cpp,ollama,transformers",
    "grow --help",
    "compare --help",
    "inspect gemma-3-27b",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(words: &[&str]) -> Output {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    tool.current_dir(root().join("crates/cli/tests/files")).args(words);
    tool.env("HF_HUB_CACHE", "/nowhere").env("PLIMSOLL_PROFILE", "").env("COLUMNS", "80").env_remove("NO_COLOR");
    tool.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lines that do not fit and that nobody copies.
fn wide(text: &str) -> Vec<&str> {
    let wide = text.lines().filter(|line| line.chars().count() > 80);
    wide.filter(|line| {
        let words = line.trim_start();
        line.split_whitespace().count() > 1 && !COPIED.iter().any(|copied| words.starts_with(copied))
    })
    .collect()
}

#[test]
fn what_is_documented_fits_eighty_columns() {
    let mut pages = vec![root().join("README.md")];
    // The tours put words of their shell's before the answers.
    for folder in ["docs", "docs/formulas", "docs/engines"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    for page in pages {
        let mut inside = false;
        let mut command = false;
        // What programs read is as wide as it is.
        let mut for_programs = false;
        for line in fs::read_to_string(&page).unwrap().lines() {
            if line.starts_with("```") {
                inside = line == "```console";
            } else if inside && (command || line.starts_with("$ ")) {
                let begins = !command;
                command = line.ends_with('\\');
                for_programs = (for_programs && !begins) || line.contains("csv") || line.contains("json");
            } else if inside && !for_programs {
                assert_eq!(wide(line), Vec::<&str>::new(), "{}", page.display());
            }
        }
    }
}

#[test]
fn difficult_answers_fit_eighty_columns() {
    let mut found = Vec::new();
    for line in DIFFICULT {
        let line = line.replace("--workload requests=40,prompt=900,output=200", "--workload");
        let mut words: Vec<&str> = line.split(' ').collect();
        if words.last() == Some(&"--workload") {
            words.push("poisson 4/s, prompt 900, output 200, requests 40");
        }
        let output = run(&words);
        let (answer, talk) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{line}\n{talk}");
        assert!(!answer.contains('\x1b'), "{line}: colour into a pipe");
        found.extend(wide(&answer).into_iter().map(|wide| format!("{line}\n  {wide}")));
    }
    assert!(found.is_empty(), "wider than 80 columns:\n{}", found.join("\n"));
}

#[test]
fn every_table_is_also_csv_and_markdown() {
    for line in [
        "plan llama-3.1-8b --gpu l40s --engine vllm",
        "plan llama-3.1-8b --gpu l40s --engine vllm --explain activation",
        "plan --spec layers=32,dim=4096,heads=32,head-dim=128 llama-3.1-8b",
        "roofline llama-3.1-8b --gpu l40s --batch 1 --context 64",
        "inspect tiny-llama",
        "catalogue formats",
        "reconcile logs/vllm.log --gpu h100-sxm",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let csv = run(&[&words[..], &["--format", "csv"]].concat());
        assert!(csv.status.success(), "{line}: {}", text(&csv.stderr));
        let rows = text(&csv.stdout);
        assert!(rows.lines().count() > 1 && rows.lines().next().unwrap().contains(','), "{line}\n{rows}");
        let markdown = text(&run(&[&words[..], &["--format", "markdown"]].concat()).stdout);
        let table = markdown.contains("| --- |") || markdown.contains("| ---: |");
        assert!(table || markdown.starts_with("```text"), "{line}\n{markdown}");
        assert!(!markdown.contains('\x1b') && !rows.contains('\x1b'));
    }
}

#[test]
fn quiet_says_nothing_but_errors() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (plan, sweep) = (place("plan.csv"), place("sweep.csv"));
    let common = ["--gpus", "l40s", "--context", "4k", "--batch", "1", "--out", sweep.as_str()];
    for words in [
        &["plan", "llama-3.1-8b", "--gpu", "l40s", "--engine", "vllm", "--quiet", "--out", plan.as_str()][..],
        &[&["sweep", "llama-3.1-8b", "no-such-model", "--quiet"][..], &common].concat(),
    ] {
        let output = run(words);
        assert!(output.status.success(), "{words:?} {}", text(&output.stderr));
        assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()), "{words:?}");
    }
    let wrong = run(&[&["sweep", "qwen3-32b", "--quiet"][..], &common].concat());
    assert_eq!(wrong.status.code(), Some(2));
    let talk = text(&wrong.stderr);
    assert!(talk.contains("holds another sweep") && talk.contains("hint: ") && talk.contains("--fresh"), "{talk}");
}

#[test]
fn numbers_out_of_range_are_told_so() {
    for (line, message) in [
        ("roofline llama-3.1-8b --gpu l40s --batch -1", "batch is `-1`, expected numbers"),
        ("roofline llama-3.1-8b --gpu l40s --context 0", "context is `0`, expected from 1"),
        ("compare llama-3.1-8b --gpu l40s --at-context 4x", "context is `4x`, expected numbers"),
        ("compare llama-3.1-8b --gpu l40s --at-batch 1,2", "--at-batch takes one number"),
        ("plan llama-3.1-8b --gpu l40s --engine vllm --formats nf4", "--formats is a flag of `plimsoll grow`"),
        ("grow llama-3.1-8b --gpu l40s --contxt 4k", "Plimsoll's own flag is --context"),
        ("sweep llama-3.1-8b --gpus l40s --context 4k --batch 1 --out x.html", "a sweep is rows"),
        ("sweep llama-3.1-8b --gpus l40s --context 4k --batch -1 --out x.csv", "batch is `-1`, expected numbers"),
        ("sweep llama-3.1-8b --gpus l40s --context 0 --batch 1 --out x.csv", "context is `0`, expected from 1"),
        (
            "sweep llama-3.1-8b --gpus l40s --context 4k --batch 1 --out x.txt",
            "should end in .parquet, .csv, .jsonl, .json or .md",
        ),
        ("sweep --gpus l40s --context 4k --batch 1 --out x.csv", "no models"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = run(&words);
        assert_eq!(output.status.code(), Some(2), "{line}\n{}", text(&output.stderr));
        let talk = text(&output.stderr);
        assert!(talk.contains(message), "{line}\n{talk}");
    }
}

#[test]
fn a_killed_sweep_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let sweep = |name: &str| {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        tool.args(["sweep", "llama-3.1-8b,qwen3-32b", "--gpus", "l40s,h100-sxm", "--context", "1k..32k"]);
        tool.args(["--batch", "1..3000:+1", "--quiet", "--out"]).arg(place(name));
        tool
    };
    assert!(sweep("whole.parquet").status().unwrap().success());
    for _ in 0..3 {
        let mut child = sweep("torn.parquet").spawn().unwrap();
        let partial = place("torn.parquet.partial");
        let size = || fs::metadata(&partial).map_or(0, |found| found.len());
        let before = size();
        while size() <= before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(sweep("torn.parquet").status().unwrap().success());
    assert!(fs::read(place("whole.parquet")).unwrap() == fs::read(place("torn.parquet")).unwrap());
    assert!(!place("torn.parquet.partial").exists());
}
