//! Which words are there? Every flag once: help, completions and the man page come from here.

mod shown;
mod words;

use clap::{Parser, Subcommand};

pub use shown::{Background, Colour, Form, Kind, SchemaOf, Shown};
pub use words::{
    Check, CompareArguments, CostArguments, GrowArguments, KnownArguments, LaunchArguments, PlanArguments,
    ReconcileArguments, RooflineArguments, SimulateArguments, SweepArguments, WhatIf,
};

/// The load line for LLM inference: where an engine's GPU memory goes, and how far it can be loaded.
#[derive(Parser)]
#[command(name = "plimsoll", version, about, max_term_width = 80)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Does it fit, where does the memory go, how much KV cache, how many requests, and what would make it fit
    ///
    /// Give a model and the engine's own flags, or the engine's launch command after `--`. Flags that are not
    /// Plimsoll's are the engine's.
    #[command(
        override_usage = "plimsoll plan [OPTIONS] MODEL --engine ENGINE [ENGINE FLAGS]\n       \
                          plimsoll plan [OPTIONS] -- ENGINE COMMAND",
        after_help = "Examples:\n  \
            plimsoll plan --gpu h100-sxm -- vllm serve meta-llama/Llama-3.1-70B-Instruct \\\n      \
            --tensor-parallel-size 4 --max-model-len 32768\n  \
            plimsoll plan ./my-model-dir --gpu rtx-4090 --engine vllm \\\n      \
            --max-model-len 16384\n  \
            plimsoll plan llama-3.1-8b --gpu l40s --engine vllm --explain activation\n\n\
            Exit status: 0 answered, 1 could not be answered, 2 malformed, 3 --check and it\n\
            does not fit (--check=strict: or is borderline)."
    )]
    Plan(Box<PlanArguments>),
    /// How does memory grow: weights, activations, KV cache against context, batch or any other knob
    ///
    /// Give a launch as for `plan`; without an engine vLLM is taken. At most two knobs have several values: a list 1,4,16,
    /// a range that doubles 1k..128k, or one with even steps 1k..8k:+1k (k is 1024).
    #[command(
        override_usage = "plimsoll grow [OPTIONS] MODEL [--engine ENGINE] [ENGINE FLAGS]\n       \
                          plimsoll grow [OPTIONS] --spec SPEC [--engine ENGINE]\n       \
                          plimsoll grow [OPTIONS] -- ENGINE COMMAND",
        after_help = "Examples:\n  \
            plimsoll grow llama-3.1-8b --gpu h100-sxm --context 1k..128k \\\n      \
            --batch 1,4,16,64 --out growth.html\n  \
            plimsoll grow llama-3.1-70b --gpu h100-sxm --tp 1,2,4,8 --context 32k\n  \
            plimsoll grow gemma-3-27b --gpus rtx-4090,l40s,h100-sxm --gpu h200 --batch 4\n  \
            plimsoll grow --spec layers=32,dim=4096,heads=32,head-dim=128 \\\n      \
            --context 1k..32k\n\n\
            Exit status: 0 answered, 1 could not be answered, 2 malformed."
    )]
    Grow(Box<GrowArguments>),
    /// How fast can it go: arithmetic intensity, what binds, ideal and predicted time for prefill and decode
    ///
    /// Give a launch as for `plan`; without an engine vLLM is taken.
    #[command(
        override_usage = "plimsoll roofline [OPTIONS] MODEL [--engine ENGINE] [ENGINE FLAGS]\n       \
                          plimsoll roofline [OPTIONS] -- ENGINE COMMAND",
        after_help = "Examples:\n  \
            plimsoll roofline llama-3.1-70b --gpu h100-sxm --tp 4 --batch 1,8,64,256 \\\n      \
            --context 4096\n  \
            plimsoll roofline qwen3-30b-a3b --gpu h200 --engine vllm --phase decode --json\n  \
            plimsoll roofline --gpu h100-sxm --batch 1,16 -- \\\n      \
            vllm serve meta-llama/Llama-3.1-8B --tensor-parallel-size 2\n\n\
            Exit status: 0 answered, 1 could not be answered, 2 malformed."
    )]
    Roofline(Box<RooflineArguments>),
    /// Which is better: models, cards, formats, engines and settings side by side
    ///
    /// Every combination of the lists is a row; what cannot be answered is a row with its reason. Flags that are not
    /// Plimsoll's are the engine's, as for `plan`; without an engine vLLM is taken.
    #[command(
        override_usage = "plimsoll compare [OPTIONS] MODEL... [ENGINE FLAGS]",
        after_help = "Examples:\n  \
            plimsoll compare llama-2-7b llama-3-8b --gpus rtx-4090,a100-40gb,h100:4\n  \
            plimsoll compare llama-3.1-8b --formats bf16,fp8,awq-4bit --gpu l40s \\\n      \
            --sort decode_ms\n  \
            plimsoll compare llama-3.1-8b --gpu h100 --engines vllm,sglang,tensorrt-llm\n  \
            plimsoll compare qwen3-32b --gpus h100:4 --tp 1,2,4 --batch 1,8,64 \\\n      \
            --out front.svg\n\n\
            Exit status: 0 answered, 1 could not be answered, 2 malformed."
    )]
    Compare(Box<CompareArguments>),
    /// How does it behave under traffic: latency, throughput, KV use and waste, preemptions, prefix hits
    ///
    /// Give a launch as for `plan`, and what arrives: a trace or a workload in words.
    #[command(
        override_usage = "plimsoll simulate [OPTIONS] MODEL --engine ENGINE [ENGINE FLAGS]\n       \
                          plimsoll simulate [OPTIONS] -- ENGINE COMMAND",
        after_help = "Examples:\n  \
            plimsoll simulate llama-3.1-70b --gpu h100-sxm:4 --engine vllm --tp 4 \\\n      \
            --trace azure_code.csv.gz --slo ttft=1s,tpot=50ms\n  \
            plimsoll simulate llama-3.1-8b --gpu l40s --engine sglang \\\n      \
            --workload 'poisson 4/s, prompt lognormal 900 p99 4000, output 200'\n  \
            plimsoll simulate llama-3.1-8b --gpu l40s --engine vllm --workload \\\n      \
            'poisson 4/s, prompt 900, output 200' --compare static,continuous \\\n      \
            --kv contiguous,paged\n\n\
            Exit status: 0 answered, 1 could not be answered, 2 malformed."
    )]
    Simulate(Box<SimulateArguments>),
    /// What of all that could be run would fit: models × cards × contexts × batches as a file, one row a plan
    ///
    /// Every combination of the lists is planned. A sweep that is interrupted goes on where it was when the same command is
    /// given again. Flags that are not Plimsoll's are the engine's.
    #[command(
        override_usage = "plimsoll sweep [OPTIONS] MODEL... --gpus LIST --context LIST --batch LIST\n                      \
                          --out FILE [ENGINE FLAGS]",
        after_help = "Examples:\n  \
            plimsoll sweep --models all --gpus all --context 1k..512k --batch 1..512 \\\n      \
            --out sweep.parquet\n  \
            plimsoll sweep llama-3.1-70b qwen3-32b --gpus h100-sxm:8,l40s:8 --tp 1,2,4,8 \\\n      \
            --engines sglang --context 8k,32k --batch 1,16,64 --out sweep.csv\n\n\
            Exit status: 0 written, 1 could not be written, 2 malformed, 130 interrupted."
    )]
    Sweep(Box<SweepArguments>),
    /// What the engine logged against the plan, item by item, with the likely causes of what differs
    ///
    /// Reads vLLM's, TensorRT-LLM's, SGLang's, llama.cpp's and Ollama's logs, whole or in part; `-` is standard input.
    #[command(
        override_usage = "plimsoll reconcile [OPTIONS] LOG... [-- ENGINE COMMAND]",
        after_help = "Examples:\n  \
            plimsoll reconcile vllm.log --gpu h100-sxm\n  \
            docker logs my-server 2>&1 | plimsoll reconcile - --gpu l40s --learn\n  \
            plimsoll reconcile sglang.log --gpu h200 -- sglang serve Qwen/Qwen3-32B --tp 2\n\n\
            Exit status: 0 answered, 1 could not be answered, 2 malformed."
    )]
    Reconcile(Box<ReconcileArguments>),
    /// What is this model: layers, attention kinds, tensors, parameters, KV bytes per token
    Inspect {
        /// Built-in name, directory with a config.json, or the file
        model: String,
        /// Lists every line of the tensor inventory
        #[arg(long)]
        tensors: bool,
        #[command(flatten)]
        shown: Shown,
    },
    /// What is built in, with sources
    Catalogue {
        /// Which catalogue
        kind: Kind,
        #[command(flatten)]
        shown: Shown,
    },
    /// Prints the JSON Schema of a request or an answer
    Schema {
        /// Which
        of: SchemaOf,
    },
    /// Prints a shell's completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Prints the man page
    Man,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Longer ones would be broken within a command, which could not be pasted any more.
    #[test]
    fn examples_fit_a_terminal() {
        for verb in Arguments::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", verb.get_name());
            }
        }
    }
}
