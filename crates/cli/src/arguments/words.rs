//! What is each verb told? A launch, lists, and flags of its own.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Shown;

/// Which verdicts `--check` lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Check {
    /// What fits as estimated.
    Estimated,
    /// What fits at both ends of its interval.
    Strict,
}

/// What is known of a launch besides its lists and names: card, engine and measured quantities.
#[derive(Args, Clone)]
pub struct KnownArguments {
    /// The total that the CUDA runtime reports, such as 79.19GiB; replaces the catalogue's
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
}

/// What is launched, and on what: the same for every verb that starts from a launch.
#[derive(Args, Clone)]
pub struct LaunchArguments {
    /// Card, with a count if there are several: h100-sxm, a100-80gb:8; different ones with commas: rtx-4090,rtx-3090:2
    #[arg(long, value_name = "NAME[:COUNT]")]
    pub gpu: Option<String>,
    /// Engine: vllm, tensorrt-llm, sglang, llama.cpp, ollama or transformers
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<String>,
    #[command(flatten)]
    pub known: KnownArguments,
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
    /// Sequences of one replica: 1,8,64,256 or 1..256 (doubling)
    #[arg(long, value_name = "COUNTS", allow_hyphen_values = true)]
    pub batch: Option<String>,
    /// Tokens of each sequence: of its prompt (prefill), in the cache (decode); 4k, 1k..32k
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true)]
    pub context: Option<String>,
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
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true)]
    pub at_context: Option<String>,
    /// Sequences that decode at once for times; --batch, else 1
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pub at_batch: Option<String>,
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
    /// The file: .parquet, .csv, .jsonl, .json or .md
    #[arg(long, value_name = "FILE", required = true)]
    pub out: PathBuf,
    /// Begins anew in place of what the file, or an interrupted sweep of its name, holds
    #[arg(long)]
    pub fresh: bool,
    #[command(flatten)]
    pub known: KnownArguments,
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

/// What a launch is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhatIf {
    /// Every division of its cards into tensor-parallel ranks and pipeline stages
    Parallel,
    /// Weights and caches in other formats
    Formats,
}
