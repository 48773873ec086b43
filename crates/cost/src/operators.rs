//! Which operators does a step run? From the model's inventory, the plan's division and what the step computes.

use plimsoll_facts::model::Model;
use plimsoll_plan::Plan;

use crate::{Error, Operator, Shape};

/// The operators of one launch, ready to be sized for any step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// What it rests on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
}

impl Inventory {
    /// Derives the operators of a launch on the rank that works most.
    ///
    /// # Errors
    /// Where the model has a layer whose operators are not known.
    pub fn new(_model: &Model, _plan: &Plan) -> Result<Inventory, Error> {
        Ok(Inventory::default())
    }

    /// Returns the attention window for which [`Shape::decode_windowed`] is kept, in tokens.
    pub fn window(&self) -> Option<u32> {
        None
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
    pub fn per_token(&self, _tokens: f64, _sampled: f64, _into: &mut Vec<Operator>) {}

    /// Adds attention (and recurrent scans) of `sequences` sequences that compute one token each; `context` and `windowed`
    /// are sums over them of tokens in the cache, and of those within the window.
    pub fn decode(&self, _sequences: f64, _context: f64, _windowed: f64, _into: &mut Vec<Operator>) {}

    /// Adds attention (and recurrent scans) of `batch` pieces of prompts of `tokens` tokens with `context` before each.
    pub fn chunk(&self, _batch: f64, _tokens: f64, _context: f64, _into: &mut Vec<Operator>) {}
}
