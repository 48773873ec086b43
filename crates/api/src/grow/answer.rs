//! How does memory grow? Points with their parts, where lines cross, and how far each line goes.

use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::{EngineHead, GpuHead, ModelHead, ParallelHead};
use crate::textbook::TextbookAnswer;

/// The whole answer to a question of growth.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GrowAnswer {
    /// The model.
    pub model: ModelHead,
    /// The launch, where there is one; a bare specification without an engine has none.
    pub launch: Option<LaunchAnswer>,
    /// What is varied: along the rows, then along the columns.
    pub axes: Vec<AxisAnswer>,
    /// What is set to one value, context and batch among it where no axis says.
    pub fixed: Vec<SettingAnswer>,
    /// What stands out, in sentences.
    pub findings: Vec<String>,
    /// Every point of the grid, column by column.
    pub points: Vec<PointAnswer>,
    /// How far each column goes; where neither context nor batch is varied, how far each point does, for at most 256.
    pub lines: Vec<LineAnswer>,
    /// The largest batch of each context, where batches are varied or nothing but the context is; of each point, where neither
    /// context nor batch is.
    pub largest_batches: Vec<ReachAnswer>,
    /// The longest context on other cards.
    pub gpus: Vec<CardReachAnswer>,
    /// The textbook's closed form beside a bare specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub textbook: Option<TextbookAnswer>,
    /// What the numbers rest on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
}

/// An engine on its cards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LaunchAnswer {
    /// The engine.
    pub engine: EngineHead,
    /// The card.
    pub gpu: GpuHead,
    /// How the model is divided.
    pub parallel: ParallelHead,
}

/// A knob with its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AxisAnswer {
    /// `context`, `batch`, `layers`, …
    pub knob: String,
    /// The values, as text.
    pub values: Vec<String>,
}

/// A knob at a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SettingAnswer {
    /// `context`, `batch`, `layers`, …
    pub knob: String,
    /// The value, as text.
    pub value: String,
}

/// An estimated part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PartAnswer {
    /// As estimated.
    pub bytes: u64,
    /// At least.
    pub low: u64,
    /// At most.
    pub high: u64,
}

/// What a batch of a length needs, on the rank with the least room for it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PointAnswer {
    /// Values along the axes, as text, in their order.
    pub at: Vec<String>,
    /// Tokens of each sequence.
    pub context: u64,
    /// Sequences.
    pub batch: u64,
    /// What it needs; null where the engine or the model refuses the point.
    pub need: Option<NeedAnswer>,
    /// Why it is refused.
    pub refused: Option<String>,
}

/// The parts of a need.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NeedAnswer {
    /// Weights.
    pub weights_bytes: u64,
    /// The peak of one step above the weights.
    pub activations: PartAnswer,
    /// Graphs, libraries, buffers, communication.
    pub runtime: PartAnswer,
    /// The KV cache of these sequences.
    pub kv_bytes: u64,
    /// All of it.
    pub total: PartAnswer,
    /// The KV cache's part of all.
    pub kv_share: f64,
    /// The KV cache by token: what these sequences take over their tokens.
    pub kv_bytes_per_token: f64,
    /// The most that all may come to; null without a card.
    pub limit_bytes: Option<u64>,
    /// The same, at the ends of what is left for the cache.
    pub limit_low: Option<u64>,
    /// The same.
    pub limit_high: Option<u64>,
    /// The card's memory.
    pub card_bytes: Option<u64>,
    /// Whether it fits; null without a card.
    pub fits: Option<bool>,
    /// `fits`, `borderline` or `does_not_fit`, the intervals considered.
    pub state: Option<String>,
    /// What binds where it does not fit.
    pub binding: Option<String>,
    /// Sequences of this length that fit beside these weights, activations and runtime.
    pub largest_batch: Option<u64>,
    /// What lies in the host's memory.
    pub host_bytes: u64,
    /// Cards that the launch is on.
    pub gpus: u32,
    /// The card that these numbers are of, the fullest: its place among them, from 0.
    pub rank: u32,
}

/// How far something goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReachAnswer {
    /// Tokens of each sequence where the batch is sought, sequences where the length is; both where another knob is varied.
    pub at: Vec<SettingAnswer>,
    /// The most that fits, exactly; zero where nothing does, null where there is no card or everything is refused.
    pub most: Option<u64>,
    /// The same at the unfavourable end of every interval.
    pub low: Option<u64>,
    /// The same at the favourable end.
    pub high: Option<u64>,
    /// What stops it there: `kv`, `weights`, `activation`, `model` (its own longest sequence), or the engine's words.
    pub bound: String,
    /// Why it is not known: the engine or the model refuses every value that was tried.
    pub refused: Option<String>,
}

/// One column of the grid: how far it goes, and where its parts cross.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LineAnswer {
    /// What is sought: `context` or `batch`.
    pub along: String,
    /// The least value along at which the KV cache is larger than the weights; null where it never is, or nothing is planned.
    pub kv_outgrows_weights_at: Option<u64>,
    /// The first value along at which the card is full.
    pub full_at: Option<u64>,
    /// How far it goes: the value before.
    pub reach: ReachAnswer,
}

/// The longest context on a card.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CardReachAnswer {
    /// The card.
    pub gpu: String,
    /// Its memory.
    pub card_bytes: Option<u64>,
    /// The longest context, by batch.
    pub reaches: Vec<ReachAnswer>,
    /// Why there is none for any batch: the engine's or the catalogue's words.
    pub refused: Option<String>,
}
