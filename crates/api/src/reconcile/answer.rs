//! What is answered about a log? Plain data.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::PlanAnswer;

/// What a log says, against the plan for the same launch.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ReconcileAnswer {
    /// The log.
    pub log: LogHead,
    /// Who wrote it.
    pub engine: LogEngine,
    /// The model.
    pub model: Sourced,
    /// The card.
    pub gpu: Sourced,
    /// Options that the plan was made with, by the engine's own names.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// Every number of the log.
    pub readings: Vec<ReadingAnswer>,
    /// What was planned and what was logged, item by item; empty without a plan.
    pub items: Vec<ItemAnswer>,
    /// Likely causes of the differences.
    pub causes: Vec<CauseAnswer>,
    /// The engine's own words for stopping.
    pub refusals: Vec<RefusalAnswer>,
    /// Whether the plan's rules turn the logged budget into the logged cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesAnswer>,
    /// What the log does not say and was assumed.
    pub assumed: Vec<String>,
    /// What the log does not say and has to be given for a better answer.
    pub asked: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// What was kept for later plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedAnswer>,
    /// The plan itself; null where none could be made.
    pub plan: Option<PlanAnswer>,
}

/// The log in an answer's head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogHead {
    /// File, or `-`.
    pub name: String,
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// Encoding.
    pub encoding: Cow<'static, str>,
    /// Launches whose beginning stands in it; zero for an excerpt.
    pub launches: u64,
}

/// Who wrote a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogEngine {
    /// `vllm`, `tensorrt-llm`, `sglang`, `llama.cpp`, `ollama`.
    pub name: Cow<'static, str>,
    /// The release that the log names.
    pub logged: Option<String>,
    /// The release whose rules were used; null without a plan.
    pub version: Option<String>,
}

/// A thing as the log names it and as it was used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sourced {
    /// As the log names it.
    pub logged: Option<String>,
    /// As it was used for the plan.
    pub used: Option<String>,
    /// Who said so: `log`, `given`, or null.
    pub source: Option<Cow<'static, str>>,
}

/// One number of a log.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ReadingAnswer {
    /// What it is: `weights`, `kv_budget`, `kv_tokens`, …
    pub what: Cow<'static, str>,
    /// The rank, as far as the line says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<String>,
    /// The device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Bytes, for a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Half of the last printed digit, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half: Option<u64>,
    /// The number, where it is no size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<f64>,
    /// The line, from 1.
    pub line: u64,
}

/// One row of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ItemAnswer {
    /// What it is.
    pub item: Cow<'static, str>,
    /// Ranks or devices that logged it.
    pub places: Vec<String>,
    /// `bytes` or `count`.
    pub unit: Cow<'static, str>,
    /// As planned.
    pub planned: f64,
    /// Low end of the plan's interval.
    pub low: f64,
    /// High end of the plan's interval.
    pub high: f64,
    /// As logged.
    pub logged: f64,
    /// Half of the last printed digit.
    pub half: f64,
    /// Logged less planned.
    pub difference: f64,
    /// The difference as a share of what was planned.
    pub relative: Option<f64>,
    /// Whether what was logged lies in the interval.
    pub inside: bool,
    /// The line, from 1.
    pub line: u64,
    /// What a reader should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Cow<'static, str>>,
}

/// A likely cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CauseAnswer {
    /// What differs.
    pub item: Cow<'static, str>,
    /// `another_process`, `graphs`, `smaller_rank`, `different_default`, …, `unexplained`.
    pub cause: Cow<'static, str>,
    /// The cause in words.
    pub text: String,
    /// What shows it.
    pub evidence: Vec<EvidenceAnswer>,
}

/// A line that shows something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EvidenceAnswer {
    /// The line, from 1; zero where it is not one line of the log.
    pub line: u64,
    /// The engine's words.
    pub text: String,
}

/// The engine's own words for stopping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RefusalAnswer {
    /// `no_cache`, `context_too_long`, `not_free`, `out_of_memory`, `unsteady`.
    pub kind: Cow<'static, str>,
    /// Its words.
    pub text: String,
    /// The line, from 1.
    pub line: u64,
}

/// The plan's rules, given the budget that the engine measured.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RulesAnswer {
    /// The budget as logged.
    pub kv_budget_bytes: u64,
    /// Tokens that the rules make of it.
    pub kv_tokens: u64,
    /// Tokens as logged.
    pub kv_tokens_logged: u64,
    /// Whether they agree, what printing rounds away forgiven.
    pub agrees: bool,
}

/// What was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LearnedAnswer {
    /// Outside the framework's allocator.
    pub non_torch_bytes: Option<u64>,
    /// Peak of the profile run.
    pub activation_bytes: Option<u64>,
    /// Graphs.
    pub graphs_bytes: Option<u64>,
    /// Card, engine, release, model and division for which it is kept.
    pub launch: String,
}
