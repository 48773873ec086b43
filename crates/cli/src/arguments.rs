//! Which words are there? Every flag once: help, completions and the man page come from here.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
            plimsoll grow llama-3.1-8b --gpu h100-sxm --context 1k..128k --batch 1,4,16,64 \\\n      \
            --out growth.html\n  \
            plimsoll grow llama-3.1-70b --gpu h100-sxm --tp 1,2,4,8 --context 32k --batch 8\n  \
            plimsoll grow gemma-3-27b --gpus rtx-4090,l40s,h100-sxm --gpu h200 --batch 4\n  \
            plimsoll grow --spec layers=32,dim=4096,heads=32,head-dim=128 --context 1k..32k\n\n\
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
            plimsoll compare llama-2-7b llama-3-8b mistral-7b --gpus rtx-4090,a100-40gb,h100:4\n  \
            plimsoll compare llama-3.1-8b --formats bf16,fp8,awq-4bit --gpu l40s --sort decode_ms\n  \
            plimsoll compare llama-3.1-8b --gpu h100 --engines vllm,sglang,tensorrt-llm\n  \
            plimsoll compare qwen3-32b --gpus h100:4 --tp 1,2,4 --batch 1,8,64 --out front.svg\n\n\
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
            'poisson 4/s, prompt 900, output 200' --compare static,continuous --kv contiguous,paged\n\n\
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

/// Which verdicts `--check` lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Check {
    /// What fits as estimated.
    Estimated,
    /// What fits at both ends of its interval.
    Strict,
}

/// What is launched, and on what: the same for every verb that starts from a launch.
#[derive(Args)]
pub struct LaunchArguments {
    /// Card, with a count if there are several: h100-sxm, a100-80gb:8; different ones with commas: rtx-4090,rtx-3090:2
    #[arg(long, value_name = "NAME[:COUNT]")]
    pub gpu: Option<String>,
    /// The total that the CUDA runtime reports, such as 79.19GiB; replaces the catalogue's
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub gpu_memory: Option<String>,
    /// Engine: vllm, tensorrt-llm, sglang, llama.cpp, ollama or transformers
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Release of the engine, such as 0.19.0; the newest known one otherwise
    #[arg(long, value_name = "VERSION")]
    pub engine_version: Option<String>,
    /// An engine option by its own name, such as max_num_seqs=256; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// A known quantity that replaces an estimate; repeatable. KEY is weights, activation, non_torch, kv_free or kv_budget
    #[arg(long, value_name = "KEY=SIZE", allow_hyphen_values = true)]
    pub given: Vec<String>,
    /// Plans without what `reconcile --learn` measured on this machine
    #[arg(long)]
    pub no_profile: bool,
    /// Model and engine flags, or the engine's launch command after `--`
    #[arg(last = true, value_name = "WORDS")]
    pub words: Vec<String>,
}

/// What `plan` is told besides the engine's own flags.
#[derive(Args)]
pub struct PlanArguments {
    #[command(flatten)]
    pub launch: LaunchArguments,
    /// Exits with status 3 when it does not fit as estimated; `--check=strict` also when it is borderline
    #[arg(long, value_name = "WHEN", hide_possible_values = true, num_args = 0..=1, require_equals = true, default_missing_value = "estimated")]
    pub check: Option<Check>,
    /// Explains one number of the scarcest rank's ledger: formula, values, source
    #[arg(long, value_name = "ITEM")]
    pub explain: Option<String>,
    /// Answers one JSON request a line, in order; `-` reads standard input
    #[arg(long, value_name = "FILE.jsonl")]
    pub batch: Option<PathBuf>,
    /// The textbook's closed form for a bare specification, beside MODEL's numbers if one is named:
    /// layers=32,dim=4096,heads=32,head-dim=128
    #[arg(long, value_name = "SPEC")]
    pub spec: Option<String>,
    #[command(flatten)]
    pub shown: Shown,
}

/// How long a step takes: the same for every verb that speaks of time.
#[derive(Args)]
pub struct CostArguments {
    /// Share of the peak arithmetic that large steps reach; the model of time states what it takes otherwise
    #[arg(long, value_name = "SHARE")]
    pub mfu: Option<f64>,
    /// Share of the memory bandwidth that is reached
    #[arg(long, value_name = "SHARE")]
    pub mbu: Option<f64>,
    /// Time that every step takes besides, such as 200us
    #[arg(long, value_name = "TIME")]
    pub overhead: Option<String>,
    /// Peak arithmetic of the card in every format, TFLOP/s; replaces the catalogue's
    #[arg(long = "peak", value_name = "TFLOP/S")]
    pub peak_tflops: Option<f64>,
    /// Memory bandwidth of the card, GB/s; replaces the catalogue's
    #[arg(long = "bandwidth", value_name = "GB/S")]
    pub bandwidth_gbs: Option<f64>,
    /// Bandwidth between cards in one direction, GB/s; replaces the catalogue's
    #[arg(long = "link", value_name = "GB/S")]
    pub link_gbs: Option<f64>,
    /// Bandwidth to cards of other machines in one direction, per card, GB/s
    #[arg(long = "network", value_name = "GB/S")]
    pub network_gbs: Option<f64>,
}

/// What `roofline` is told besides the engine's own flags.
#[derive(Args)]
pub struct RooflineArguments {
    #[command(flatten)]
    pub launch: LaunchArguments,
    /// Which phase: prefill, decode; both otherwise
    #[arg(long, value_name = "PHASES", value_delimiter = ',')]
    pub phase: Vec<String>,
    /// Sequences of one replica: 1,8,64,256
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', allow_hyphen_values = true, value_parser = one_or_more)]
    pub batch: Vec<u32>,
    /// Tokens of each sequence: of its prompt (prefill), in the cache (decode)
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', allow_hyphen_values = true, value_parser = one_or_more)]
    pub context: Vec<u32>,
    /// Lists the operators of every batch and context; of the first one otherwise
    #[arg(long)]
    pub operators: bool,
    /// Compares with other launches: parallel (tensor against pipeline), formats (of weights and cache)
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub what_if: Vec<WhatIf>,
    /// Adds speculative decoding: tokens=4,acceptance=0.7,draft=MODEL (or cost=0.1, a part of a step)
    #[arg(long, value_name = "SPEC")]
    pub speculative: Option<String>,
    /// Puts prefill and decoding on separate cards, with answers of so many tokens: output=200
    #[arg(long, value_name = "SPEC")]
    pub disaggregated: Option<String>,
    /// Shows how the figures come about: formulas with the numbers in
    #[arg(long)]
    pub explain: bool,
    #[command(flatten)]
    pub cost: CostArguments,
    #[command(flatten)]
    pub shown: Shown,
}

/// What `compare` is told besides the engine's own flags.
#[derive(Args)]
pub struct CompareArguments {
    #[command(flatten)]
    pub launch: LaunchArguments,
    /// Cards, each with a count if there are several: rtx-4090,h100-80gb:4
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub gpus: Vec<String>,
    /// Engines: vllm,sglang,tensorrt-llm,llama.cpp,ollama,transformers
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub engines: Vec<String>,
    /// Formats of the weights: fp32,bf16,fp8,int8,gptq-4bit,awq-4bit,nf4,q4_k_m
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub formats: Vec<String>,
    /// Formats of the KV cache, by the engine's own names: auto,fp8
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub kv_formats: Vec<String>,
    /// Tensor-parallel ranks: 1,2,4 or 1..8 (doubling)
    #[arg(long, value_name = "COUNTS")]
    pub tp: Option<String>,
    /// Pipeline stages: 1,2
    #[arg(long, value_name = "COUNTS")]
    pub pp: Option<String>,
    /// Longest sequence that the launch serves: 8k,32k or 1k..128k
    #[arg(long, value_name = "TOKENS")]
    pub context: Option<String>,
    /// Most sequences that the launch runs at once: 1,8,64
    #[arg(long, value_name = "COUNTS")]
    pub batch: Option<String>,
    /// Tokens of a sequence for concurrency and times; --context, else 4096
    #[arg(long, value_name = "TOKENS")]
    pub at_context: Option<u32>,
    /// Sequences that decode at once for times; --batch, else 1
    #[arg(long, value_name = "COUNT")]
    pub at_batch: Option<u32>,
    /// What stands in the rows: model, gpu, engine, format, kv_format, tp, pp, context, batch
    #[arg(long, value_name = "LISTS", value_delimiter = ',')]
    pub rows: Vec<String>,
    /// What stands in the columns of a grid: one of the same
    #[arg(long, value_name = "LISTS", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Which figures are shown: state, max_context, concurrency, weights, decode_ms, …
    #[arg(long, value_name = "FIGURES", value_delimiter = ',')]
    pub show: Vec<String>,
    /// Sorts rows by a figure, the least first; -FIGURE: the most first
    #[arg(long, value_name = "FIGURE", allow_hyphen_values = true)]
    pub sort: Option<String>,
    #[command(flatten)]
    pub cost: CostArguments,
    #[command(flatten)]
    pub shown: Shown,
}

/// What `grow` is told besides the engine's own flags.
#[derive(Args)]
pub struct GrowArguments {
    #[command(flatten)]
    pub launch: LaunchArguments,
    /// A bare decoder in place of a model: layers=32,dim=4096,heads=32,head-dim=128, and kv-heads, inner, vocab, tied
    #[arg(long, value_name = "SPEC")]
    pub spec: Option<String>,
    /// Tokens of each sequence: 1k..128k
    #[arg(long, value_name = "VALUES")]
    pub context: Option<String>,
    /// Sequences of one replica: 1,4,16,64
    #[arg(long, value_name = "VALUES")]
    pub batch: Option<String>,
    /// Layers of the model
    #[arg(long, value_name = "VALUES")]
    pub layers: Option<String>,
    /// Width of its residual stream
    #[arg(long, value_name = "VALUES")]
    pub dim: Option<String>,
    /// Its query heads
    #[arg(long, value_name = "VALUES")]
    pub heads: Option<String>,
    /// Its key/value heads
    #[arg(long, value_name = "VALUES")]
    pub kv_heads: Option<String>,
    /// Width of a head
    #[arg(long, value_name = "VALUES")]
    pub head_dim: Option<String>,
    /// Formats of the weights: bf16,fp8,gptq-4bit
    #[arg(long, value_name = "NAMES")]
    pub formats: Option<String>,
    /// Formats of the KV cache, by the engine's names: auto,fp8
    #[arg(long, value_name = "NAMES")]
    pub kv_formats: Option<String>,
    /// Tensor-parallel ranks
    #[arg(long, value_name = "VALUES")]
    pub tp: Option<String>,
    /// Pipeline stages
    #[arg(long, value_name = "VALUES")]
    pub pp: Option<String>,
    /// Tokens of a block of the KV cache
    #[arg(long, value_name = "VALUES")]
    pub block: Option<String>,
    /// Adds the longest context on each of these cards
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub gpus: Vec<String>,
    /// Adds the longest context on a spread of built-in cards
    #[arg(long)]
    pub by_gpu: bool,
    #[command(flatten)]
    pub shown: Shown,
}

/// What `simulate` is told besides the engine's own flags.
#[derive(Args)]
pub struct SimulateArguments {
    #[command(flatten)]
    pub launch: LaunchArguments,
    /// What arrives, in words: 'poisson 4/s, prompt lognormal 900 p99 4000, output 200, requests 1000'
    #[arg(long, value_name = "SPEC")]
    pub workload: Option<String>,
    /// A file with real requests (Azure, Mooncake, BurstGPT, ServeGen, Vidur, CSV or JSONL; also .gz, .zst); `-` is
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub trace: Option<String>,
    /// The trace's form, where its first line does not say
    #[arg(long, value_name = "FORM")]
    pub trace_format: Option<String>,
    /// Leaves out the trace's rows that cannot be read, and counts them
    #[arg(long)]
    pub skip_bad: bool,
    /// Multiplies the trace's rate: 2 lets the same requests arrive in half the time
    #[arg(long, value_name = "FACTOR", allow_hyphen_values = true)]
    pub rate_scale: Option<f64>,
    /// The first so many requests of the trace only
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// What every request of the trace asks for at most; the tokens that it got otherwise
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// Where all random numbers come from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// What a good answer is, for goodput: ttft=500ms,tpot=50ms,e2e=10s
    #[arg(long, value_name = "BOUNDS")]
    pub slo: Option<String>,
    /// Compares batching: static, continuous
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub compare: Vec<String>,
    /// Compares how KV memory is allocated: contiguous, exact, buddy, paged
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub kv: Vec<String>,
    /// Compares prefix caching: on, off
    #[arg(long, value_name = "ON,OFF", value_delimiter = ',')]
    pub prefix_caching: Vec<String>,
    #[command(flatten)]
    pub cost: CostArguments,
    /// The same time for every step, such as 10ms: no model of time at all
    #[arg(long, value_name = "TIME")]
    pub step_time: Option<String>,
    /// Measures only requests that arrive in this part of the run, such as 60s..300s
    #[arg(long, value_name = "FROM..TO")]
    pub measure: Option<String>,
    /// Writes every step: .jsonl as the engine's scheduler formed it, .csv or .parquet as a table
    #[arg(long, value_name = "FILE")]
    pub steps: Option<PathBuf>,
    /// Writes every request's times and tokens: .csv, .jsonl or .parquet
    #[arg(long, value_name = "FILE")]
    pub requests: Option<PathBuf>,
    /// Asks the scheduler for every step, even where nothing can happen; changes nothing but the speed
    #[arg(long)]
    pub step_by_step: bool,
    /// `on`: an interval around the main times, which takes two runs more; `off`: none; else where a run is short
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    pub interval: Option<String>,
    #[command(flatten)]
    pub shown: Shown,
}

/// What `sweep` is told besides the engine's own flags.
#[derive(Args)]
pub struct SweepArguments {
    /// Models, by built-in names or paths, with commas between them; `all` stands for all built-in ones
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Cards, with a count if there are several: l40s,h100-sxm:8; `all` stands for all built-in ones
    #[arg(long, alias = "gpu", value_name = "CARDS", value_delimiter = ',', required = true)]
    pub gpus: Vec<String>,
    /// Engines: vllm (the default), tensorrt-llm, sglang, llama.cpp, ollama, transformers
    #[arg(long, alias = "engine", value_name = "ENGINES", value_delimiter = ',')]
    pub engines: Vec<String>,
    /// Tokens of each sequence, which are also the longest served: 1k..512k doubles, 1k..8k:+1k goes in even steps
    #[arg(long, value_name = "TOKENS", required = true, allow_hyphen_values = true)]
    pub context: Option<String>,
    /// Sequences at once: 1..512, 1,8,64
    #[arg(long, value_name = "COUNTS", required = true, allow_hyphen_values = true)]
    pub batch: Option<String>,
    /// Tensor-parallel ranks: 1,2,4
    #[arg(long, value_name = "COUNTS", allow_hyphen_values = true)]
    pub tp: Option<String>,
    /// Pipeline stages: 1,2
    #[arg(long, value_name = "COUNTS", allow_hyphen_values = true)]
    pub pp: Option<String>,
    /// Formats of the weights: bf16,fp8,awq-4bit; the model's own otherwise
    #[arg(long, value_name = "FORMATS", value_delimiter = ',')]
    pub formats: Vec<String>,
    /// Formats of the KV cache, by the engine's names: auto,fp8
    #[arg(long, value_name = "FORMATS", value_delimiter = ',')]
    pub kv_formats: Vec<String>,
    /// The file: .parquet, .csv or .jsonl
    #[arg(long, value_name = "FILE", required = true)]
    pub out: PathBuf,
    /// Begins anew in place of what the file, or an interrupted sweep of its name, holds
    #[arg(long)]
    pub fresh: bool,
    /// The total that the CUDA runtime reports for every card, such as 79.19GiB; replaces the catalogue's
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub gpu_memory: Option<String>,
    /// Release of the engine, such as 0.19.0; the newest known one otherwise
    #[arg(long, value_name = "VERSION")]
    pub engine_version: Option<String>,
    /// An engine option by its own name, such as max_num_seqs=256; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// A known quantity that replaces an estimate; repeatable. KEY is weights, activation, non_torch, kv_free or kv_budget
    #[arg(long, value_name = "KEY=SIZE", allow_hyphen_values = true)]
    pub given: Vec<String>,
    /// Shows no progress and says nothing of what was written
    #[arg(long)]
    pub quiet: bool,
    /// Models and engine flags
    #[arg(last = true, value_name = "WORDS")]
    pub words: Vec<String>,
}

/// What `reconcile` is told.
#[derive(Args)]
pub struct ReconcileArguments {
    /// Logs, each of one launch; `-` reads standard input
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<PathBuf>,
    /// Card, where the log does not name it: h100-sxm, rtx-4090
    #[arg(long, value_name = "NAME[:COUNT]")]
    pub gpu: Option<String>,
    /// The card's total, such as 79.19GiB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub gpu_memory: Option<String>,
    /// Model, where the log does not name it or names a path of another machine
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Engine, to be sure of it
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    /// Release of the engine, where the log does not name it
    #[arg(long, value_name = "VERSION")]
    pub engine_version: Option<String>,
    /// An engine option by its own name, such as max_num_seqs=256; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// Reads all logs as one launch: the files of its ranks
    #[arg(long)]
    pub one_launch: bool,
    /// Keeps the measured non-torch memory and activation in this machine's profile, which later plans use
    #[arg(long)]
    pub learn: bool,
    #[command(flatten)]
    pub shown: Shown,
    /// The launch command, where the log does not show the arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub words: Vec<String>,
}

/// Reads a count of things of which there is at least one.
fn one_or_more(text: &str) -> Result<u32, String> {
    text.trim()
        .parse::<u32>()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| "expected a whole number, 1 or more".to_owned())
}

/// What a launch is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhatIf {
    /// Every division of its cards into tensor-parallel ranks and pipeline stages
    Parallel,
    /// Weights and caches in other formats
    Formats,
}

/// How an answer is shown.
#[derive(Args, Clone)]
pub struct Shown {
    /// Prints the answer itself as JSON
    #[arg(long)]
    pub json: bool,
    /// Form of the output: aligned text, the answer itself, comma-separated rows, Markdown
    #[arg(long, value_enum, value_name = "table|json|csv|markdown", hide_possible_values = true,
        hide_default_value = true, default_value_t = Form::Table)]
    pub format: Form,
    /// Colours: on a terminal unless `NO_COLOR` is set, always, or never
    #[arg(long, value_enum, value_name = "auto|always|never", hide_possible_values = true,
        hide_default_value = true, default_value_t = Colour::Auto)]
    pub color: Colour,
    /// Writes the answer to a file instead: .svg or .png (its figures), .html (a report), .md, .csv, .parquet, .json
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The one figure that --out writes, where an answer has several
    #[arg(long, value_name = "NAME", requires = "out")]
    pub figure: Option<String>,
    /// Background of figures
    #[arg(long, value_enum, value_name = "light|dark", hide_possible_values = true, hide_default_value = true,
        default_value_t = Background::Light)]
    pub theme: Background,
    /// Shows no progress and says nothing of files that were written
    #[arg(long)]
    pub quiet: bool,
}

impl Shown {
    /// Returns the form, `--json` considered.
    pub fn form(&self) -> Form {
        if self.json { Form::Json } else { self.format }
    }
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Aligned text for a terminal
    Table,
    /// The answer itself
    Json,
    /// Comma-separated rows
    Csv,
    /// Markdown
    Markdown,
}

/// Backgrounds of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Background {
    /// White: paper, too
    Light,
    /// Dark
    Dark,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The catalogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Models
    Models,
    /// Cards
    Gpus,
    /// Engines
    Engines,
    /// Weight and KV formats
    Formats,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Models => "models",
            Kind::Gpus => "gpus",
            Kind::Engines => "engines",
            Kind::Formats => "formats",
        })
    }
}

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// What `plan --batch` reads
    PlanRequest,
    /// What `plan --json` prints
    PlanAnswer,
    /// What `inspect --json` prints
    InspectAnswer,
    /// What `catalogue --json` prints
    CatalogueAnswer,
    /// What `reconcile --json` prints
    ReconcileAnswer,
    /// What `grow` asks
    GrowRequest,
    /// What `grow --json` prints
    GrowAnswer,
    /// What `roofline` asks
    RooflineRequest,
    /// What `roofline --json` prints
    RooflineAnswer,
    /// What `compare` asks
    CompareRequest,
    /// What `compare --json` prints
    CompareAnswer,
    /// What `simulate` asks
    SimulateRequest,
    /// What `simulate --json` prints
    SimulateAnswer,
    /// What `simulate --compare … --json` prints
    SimulateCompareAnswer,
}
