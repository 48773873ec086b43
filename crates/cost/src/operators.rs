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

    /// Returns the operators of one step on that rank, those that run once per layer with their count.
    pub fn operators(&self, _shape: &Shape) -> Vec<Operator> {
        Vec::new()
    }
}
