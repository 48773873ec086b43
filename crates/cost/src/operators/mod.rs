//! Which operators does a step run? From the model's inventory, the plan's division and what the step computes.
//!
//! One rank of the pipeline's fullest stage is looked at. Matrices are fused, divided, repeated and stored as the engine
//! does it; layers that are alike are one operator with as many runs. Per run an operator's work is a closed form:
//!
//! - a product of m tokens with a matrix of n × k: 2·m·n·k operations; the matrix as stored, m·k inputs and m·n outputs;
//! - attention of h heads over keys of width d and values of width v: 2·h·(d + v) per pair of a token and one that it sees;
//!   the cache read once per sequence, by kv heads;
//! - routed experts: 2 operations per number of k experts and token; of E experts those that some token is sent to,
//!   E·(1 − (1 − k/E)^t) under uniform routing, are read;
//! - recurrent layers: a state read and written once per sequence, arithmetic per number of it and token;
//! - norms, activations, rotary embeddings, cache writes, narrowing of activations, embedding and sampling: bytes;
//! - collectives: two all-reduces per layer under tensor parallelism (one for attention, one for the feed-forward block),
//!   gathering and scattering under data-parallel attention, dispatch and combination of experts' tokens, sends between
//!   stages.
//!
//! A pipeline of p stages has p micro-batches in flight that share the step's tokens: the step is over when each has gone
//! through the fullest stage, so that every operator runs p times on a p-th of the tokens. A lone token goes through all
//! stages one after the other, which is counted as p runs of a whole token.

mod attention;
mod build;
mod cache;
mod divide;
mod line;
mod products;
mod recast;
mod recurrent;
mod stored;

use plimsoll_facts::model::Model;
use plimsoll_plan::Plan;

pub use attention::pairs;
pub use line::touched;

use attention::{Attention, Decode, Piece};
use divide::{Division, Narrow};
use line::{Line, Of, What};
use recurrent::Recurrent;

use crate::{Error, Operator, Shape};

/// Exponent of the power law by which tokens choose experts when nobody says.
///
/// aiconfigurator 095f58a51c4c, `sdk/models/moe.py`; for latent-attention models `sdk/models/deepseek.py`: its authors'
/// choice for the models that they compared.
pub const SKEW: f64 = 1.2;
/// The same for models of latent attention.
pub const SKEW_LATENT: f64 = 1.01;
/// Cards of a machine when nobody says: HGX and DGX boards carry eight.
pub const MACHINE: u32 = 8;

/// What neither model nor plan say about how a launch runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Exponent of the power law by which tokens choose experts; 0 is balanced.
    pub skew: Option<f64>,
    /// Cards of one machine (or of one NVLink domain, 72 in NVL72).
    pub machine: u32,
    /// Whether tokens are sent to the ranks that hold their experts, in place of gathering all.
    pub all_to_all: bool,
    /// The card's compute capability: what it lacks arithmetic for is expanded to 16 bits.
    pub capability: Option<(u8, u8)>,
}

impl Default for Options {
    fn default() -> Self {
        Options { skew: None, machine: MACHINE, all_to_all: false, capability: None }
    }
}

/// The operators of one launch, ready to be sized for any step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// What it rests on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
    /// What depends on tokens alone.
    lines: Vec<Line>,
    attention: Vec<Attention>,
    recurrent: Vec<Recurrent>,
    /// Micro-batches in flight.
    stages: f64,
    window: Option<u32>,
    /// Which activations a kernel of its own narrows.
    narrow: Narrow,
}

impl Inventory {
    /// Derives the operators of a launch on the rank that works most.
    ///
    /// # Errors
    /// [`Error::Model`] where the model has no layers, or layers whose operators are not known.
    pub fn new(model: &Model, plan: &Plan) -> Result<Inventory, Error> {
        Inventory::with(model, plan, &Options::default())
    }

    /// Derives the operators of a launch about which more is known than the plan says.
    ///
    /// # Errors
    /// As [`Inventory::new`]; [`Error::Knob`] for a skew that is no number of 0 or more.
    pub fn with(model: &Model, plan: &Plan, options: &Options) -> Result<Inventory, Error> {
        if let Some(skew) = options.skew.filter(|skew| !(0.0..=10.0).contains(skew)) {
            return Err(Error::Knob { knob: "skew", found: skew, expected: "between 0 and 10" });
        }
        Ok(build::Builder::new(model, plan, options)?.build())
    }

    /// Returns the attention window for which [`Shape::decode_windowed`] is kept, in tokens.
    pub fn window(&self) -> Option<u32> {
        self.window
    }

    /// Returns the operators of one step on that rank, those that run once per layer with their count.
    pub fn operators(&self, shape: &Shape) -> Vec<Operator> {
        let mut into = Vec::new();
        self.fill(shape, &mut into);
        into
    }

    /// Adds the operators of a step.
    pub fn fill(&self, shape: &Shape, into: &mut Vec<Operator>) {
        let tokens = shape.tokens() as f64 + f64::from(shape.padding);
        self.per_token(tokens, f64::from(shape.sampled), into);
        self.attention(shape, into);
    }

    /// Adds attention (and recurrent scans) of a step.
    pub fn attention(&self, shape: &Shape, into: &mut Vec<Operator>) {
        if shape.decodes > 0 {
            let (context, windowed) = (shape.decode_context as f64, shape.decode_windowed as f64);
            self.decode(f64::from(shape.decodes), context, windowed, into);
        }
        // Pieces of prompts run in one kernel: each takes its part of a batch of as many like itself.
        let count = shape.chunks.len() as f64;
        for chunk in &shape.chunks {
            let from = into.len();
            self.chunk(count, f64::from(chunk.tokens), f64::from(chunk.context), into);
            for operator in into.iter_mut().skip(from) {
                operator.runs /= count;
            }
        }
    }

    /// Adds the operators that depend on how many tokens are computed, and how many sampled, alone: products, experts,
    /// norms, recurrent projections, collectives. None for no tokens; no output projection for none sampled.
    pub fn per_token(&self, tokens: f64, sampled: f64, into: &mut Vec<Operator>) {
        for line in &self.lines {
            let count = match line.of {
                Of::Tokens => tokens,
                Of::Sampled => sampled,
            };
            if count > 0.0 {
                into.push(line.operator(self.share(count), self.stages.max(1.0)));
            }
        }
    }

    /// Adds attention (and recurrent scans) of `sequences` sequences that compute one token each; `context` and `windowed`
    /// are sums over them of tokens in the cache, and of those within the window.
    ///
    /// Layers of the window of [`Inventory::window`] go by `windowed` alone, and so do those of narrower ones, for which it
    /// is a bound; layers that see all go by `context` alone, and so do those of wider windows.
    pub fn decode(&self, sequences: f64, context: f64, windowed: f64, into: &mut Vec<Operator>) {
        if sequences <= 0.0 {
            return;
        }
        let batch = self.share(sequences);
        let (context, windowed) = (context / sequences, windowed / sequences);
        let main = self.window.unwrap_or(u32::MAX);
        for attention in &self.attention {
            let windowed = match attention.window {
                Some(window) if window > main => context.min(f64::from(window)),
                Some(window) => windowed.min(f64::from(window)),
                None => context,
            };
            attention.decode(Decode { batch, context, windowed }, self.stages.max(1.0), into);
        }
        for recurrent in &self.recurrent {
            into.push(recurrent.operator(batch, 1.0, self.stages.max(1.0)));
        }
    }

    /// Adds attention (and recurrent scans) of `batch` pieces of prompts of `tokens` tokens with `context` before each.
    ///
    /// Micro-batches share them, so that each piece is computed once on every stage.
    pub fn chunk(&self, batch: f64, tokens: f64, context: f64, into: &mut Vec<Operator>) {
        if batch <= 0.0 || tokens <= 0.0 {
            return;
        }
        for attention in &self.attention {
            attention.piece(Piece { batch, tokens, context }, into);
        }
        for recurrent in &self.recurrent {
            into.push(recurrent.operator(batch, tokens, 1.0));
        }
    }

    /// Returns the bytes of weights that the rank reads in one step of `tokens` tokens, those of routed experts by how many
    /// are touched; once per micro-batch of a pipeline. Latent attention's projections count as decoding reads them.
    pub fn weights(&self, tokens: f64) -> f64 {
        let lines: f64 = self.lines.iter().map(|line| line.runs * line.weights(self.share(tokens))).sum();
        let absorbed: f64 = self.attention.iter().map(|attention| attention.runs * attention.weights()).sum();
        let scans: f64 = self.recurrent.iter().map(|recurrent| recurrent.runs * recurrent.weights).sum();
        (lines + absorbed + scans) * self.stages.max(1.0)
    }

    /// Returns the bytes of recurrent states that the rank holds for one sequence.
    pub fn state_bytes(&self) -> f64 {
        self.recurrent.iter().map(|recurrent| recurrent.runs * recurrent.state()).sum()
    }

    /// Returns how often the ranks of a layer's group speak to each other in one step, by operator, in order: names, runs
    /// and ranks. What a what-if of parallelism counts.
    pub fn messages(&self) -> impl Iterator<Item = (&'static str, f64, u32)> + '_ {
        self.lines.iter().filter_map(|line| match line.what {
            What::Collective { ranks, .. } => Some((line.name, line.runs * self.stages.max(1.0), ranks)),
            What::Gemm { .. } | What::Moe { .. } | What::Stream { .. } => None,
        })
    }

    /// Tokens (or sequences) of one micro-batch: a lone one is not divided.
    fn share(&self, count: f64) -> f64 {
        let stages = self.stages.max(1.0);
        (count / stages).max(count.min(1.0))
    }
}
