//! How long does a step take? Operators, what each takes, and what the engine adds.

use plimsoll_facts::gpu::Gpu;
use plimsoll_facts::model::Model;
use plimsoll_plan::Plan;

use crate::engine::Overhead;
use crate::hardware::{Given, Hardware};
use crate::measured::attention::mixed;
use crate::measured::collective::NETWORK;
use crate::measured::{MBU, MFU};
use crate::memo::{Axis, Line, Plane};
use crate::operators::Options;
use crate::{Backend, Basis, Error, Family, Inventory, Kernel, Kernels, Operator, Shape};

/// What the user says in place of the catalogue and of what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Knobs {
    /// Part of the peak that is reached, above 0 and at most 1; replaces measured kernels.
    pub mfu: Option<f64>,
    /// Part of the bandwidth that is reached, above 0 and at most 1; replaces measured kernels.
    pub mbu: Option<f64>,
    /// Seconds that a step takes beside its kernels.
    pub overhead: Option<f64>,
    /// The card's rates.
    pub given: Given,
}

/// A step's time and what it is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Predicted {
    /// Seconds.
    pub seconds: f64,
    /// Tenth percentile of what is measured where this is predicted.
    pub low: f64,
    /// Ninetieth percentile.
    pub high: f64,
    /// Seconds of kernels by [`crate::Family`].
    pub families: [f64; 6],
    /// Seconds of kernels by [`Basis`].
    pub bases: [f64; 4],
    /// Seconds beside the kernels.
    pub overhead: f64,
    /// Seconds at the card's peaks: each operator at the higher of its two roofs.
    pub ideal: f64,
}

impl Predicted {
    /// Returns the seconds of all kernels.
    pub fn kernels(&self) -> f64 {
        self.families.iter().sum()
    }

    /// Adds another step's times.
    fn add(&mut self, other: &Predicted) {
        let Predicted { seconds, low, high, families, bases, overhead, ideal } = other;
        self.seconds += seconds;
        self.low += low;
        self.high += high;
        self.overhead += overhead;
        self.ideal += ideal;
        self.families.iter_mut().zip(families).for_each(|(into, seconds)| *into += seconds);
        self.bases.iter_mut().zip(bases).for_each(|(into, seconds)| *into += seconds);
    }

    /// Says which part of the time rests on what: `measured 82 %, roofline 6 %, beside the kernels 12 %`.
    pub fn words(&self) -> String {
        let all = self.seconds.max(f64::MIN_POSITIVE);
        let kinds = Basis::ALL.iter().map(|basis| (basis.name(), self.bases[*basis as usize]));
        let parts = kinds.chain([("beside the kernels", self.overhead)]);
        let told = parts.filter(|(_, seconds)| *seconds / all >= 0.005);
        let words: Vec<String> = told.map(|(name, seconds)| format!("{name} {:.0}%", 100.0 * seconds / all)).collect();
        words.join(", ")
    }
}

/// Predicts the steps of one launch.
#[derive(Clone, Debug)]
pub struct Predictor {
    /// What runs.
    pub inventory: Inventory,
    /// How long each takes.
    pub kernels: Kernels,
    /// What the engine adds.
    pub overhead: Overhead,
    /// What it rests on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
    scratch: Vec<Operator>,
    memo: Memo,
    /// Steps that were asked for, and the sum of those that were looked into.
    asked: u64,
    looked: Predicted,
}

/// Of the steps that are asked for one in so many is worked out operator by operator, to tell what the times rest on.
const LOOKED: u64 = 256;

/// Parts of a step's time, by what they depend on.
#[derive(Clone, Debug)]
struct Memo {
    /// By tokens.
    tokens: Line,
    /// By tokens that are sampled.
    sampled: Line,
    /// By sequences that decode and their mean context, full attention.
    full: Plane,
    /// The same of the mean context within the window.
    windowed: Plane,
    /// What both have in common, by sequences.
    common: Line,
}

impl Memo {
    /// Exact up to 16 384 tokens and 64 sequences; between points a straight line over a 32nd of the sequences, an eighth of
    /// a context. Products jump where one more token takes one more row of tiles, so tokens are kept
    /// one by one.
    fn new() -> Memo {
        Memo {
            tokens: Line::new(Axis::new(13)),
            sampled: Line::new(Axis::new(5)),
            full: Plane::new(Axis::new(5), Axis::new(3)),
            windowed: Plane::new(Axis::new(5), Axis::new(3)),
            common: Line::new(Axis::new(5)),
        }
    }
}

impl Predictor {
    /// Puts a launch's operators, its card's kernels and its engine's overhead together.
    ///
    /// # Errors
    /// [`Error::Rate`] names a rate that is not known and how to give it, [`Error::Knob`] a knob out of range; others where
    /// the model's operators are not known.
    pub fn new(model: &Model, plan: &Plan, gpu: Option<&Gpu>, knobs: &Knobs) -> Result<Predictor, Error> {
        let part = |knob: &'static str, value: Option<f64>| match value {
            Some(part) if !(part > 0.0 && part <= 1.0) => {
                Err(Error::Knob { knob, found: part, expected: "above 0 and at most 1" })
            }
            Some(_) | None => Ok(value),
        };
        let (mfu, mbu) = (part("mfu", knobs.mfu)?, part("mbu", knobs.mbu)?);
        let mut kernels = Kernels::new(Hardware::new(gpu, &knobs.given)?, Backend::find(plan.engine));
        let mut overhead = Overhead { layers: model.layers.len() as f64, ..Overhead::of(plan) };
        let mut assumptions = kernels.hardware.assumptions.clone();
        if mfu.is_some() || mbu.is_some() {
            kernels.stated = Some((mfu.unwrap_or(MFU), mbu.unwrap_or(MBU)));
            if mfu.is_none() {
                assumptions.push(format!("matrix products reach {MFU} of the card's peak (mfu): assumed"));
            }
            if mbu.is_none() {
                assumptions.push(format!("weights and caches are read at {MBU} of the bandwidth (mbu): assumed"));
            }
        }
        match knobs.overhead {
            Some(seconds) if !(0.0..1e6).contains(&seconds) => {
                return Err(Error::Knob { knob: "overhead", found: seconds, expected: "a time in seconds" });
            }
            Some(seconds) => {
                overhead = Overhead::stated(seconds);
            }
            None => {
                assumptions.push(format!("beside its kernels a step takes {} ({})", overhead.words(), overhead.source))
            }
        }
        let machine = kernels.hardware.machine;
        if plan.parallel.tp.saturating_mul(plan.parallel.pp) > machine && kernels.hardware.network.is_none() {
            assumptions.push(format!(
                "{machine} cards share a machine; between machines each has {:.0} GB/s in one direction (network)",
                NETWORK / 1e9
            ));
        }
        let options = Options { machine, capability: kernels.hardware.capability, ..Options::default() };
        let inventory = Inventory::with(model, plan, &options)?;
        assumptions.extend(inventory.assumptions.iter().cloned());
        let mut notes = inventory.notes.clone();
        if plan.parallel.pp > 1 {
            notes.push(format!(
                "a step's tokens are shared by {} micro-batches that keep all stages busy: prompts that come alone take \
                 longer, up to that many times, in a real pipeline",
                plan.parallel.pp
            ));
        }
        Ok(Predictor {
            inventory,
            kernels,
            overhead,
            assumptions,
            notes,
            scratch: Vec::new(),
            memo: Memo::new(),
            asked: 0,
            looked: Predicted::default(),
        })
    }

    /// Returns a step's time and its parts, worked out operator by operator.
    pub fn predict(&mut self, shape: &Shape) -> Predicted {
        self.scratch.clear();
        self.inventory.fill(shape, &mut self.scratch);
        let mut found = Predicted::default();
        for operator in &self.scratch {
            let timed = self.kernels.time(&operator.kernel, &operator.work);
            let seconds = timed.seconds * operator.runs;
            found.families[operator.kernel.family() as usize] += seconds;
            found.bases[timed.basis as usize] += seconds;
            found.ideal += self.kernels.ideal(&operator.work) * operator.runs;
        }
        if shape.decodes > 0 && !shape.chunks.is_empty() {
            let (more, basis) = together(&self.kernels, &self.scratch);
            found.families[Family::Attention as usize] += more;
            found.bases[basis as usize] += more;
        }
        let kernels = found.kernels();
        found.seconds = self.overhead.on(kernels, sequences(shape), !shape.chunks.is_empty());
        found.overhead = found.seconds - kernels;
        // No step is faster than the card at its best; small operators that find their data in a cache may be.
        let least = found.ideal.min(found.seconds);
        found.low = (found.seconds * self.overhead.spread.0).max(least);
        found.high = found.seconds * self.overhead.spread.1;
        found
    }

    /// Returns a step's time in seconds, from parts that are remembered: equal to [`Predictor::predict`] within two in a
    /// hundred, and where counts are small exactly.
    pub fn seconds(&mut self, shape: &Shape) -> f64 {
        if self.asked.is_multiple_of(LOOKED) {
            let found = self.predict(shape);
            self.looked.add(&found);
        }
        self.asked += 1;
        let Predictor { inventory, kernels, scratch, memo, .. } = self;
        let mut sum = |fill: &mut dyn FnMut(&mut Vec<Operator>)| {
            scratch.clear();
            fill(scratch);
            scratch.iter().map(|operator| kernels.time(&operator.kernel, &operator.work).seconds * operator.runs).sum()
        };
        let decodes = f64::from(shape.decodes);
        let tokens = shape.tokens() as f64 + f64::from(shape.padding);
        let sampled = f64::from(shape.sampled);
        let mut all = memo.tokens.at(tokens, |tokens| sum(&mut |into| inventory.per_token(tokens, 0.0, into)));
        if shape.sampled > 0 {
            all += memo.sampled.at(sampled, |sampled| sum(&mut |into| inventory.per_token(0.0, sampled, into)));
        }
        if !shape.chunks.is_empty() {
            // Tiles of queries make a chunk's time jump from one token to the next, and few steps have chunks: not
            // remembered.
            all += sum(&mut |into| inventory.attention(shape, into));
            if shape.decodes > 0 {
                all += together(kernels, scratch).0;
            }
        } else if shape.decodes > 0 {
            let context = shape.decode_context as f64 / decodes;
            all += memo
                .full
                .at(decodes, context, |n, context| sum(&mut |into| inventory.decode(n, n * context, 0.0, into)));
            if inventory.window().is_some() {
                let seen = shape.decode_windowed as f64 / decodes;
                all += memo
                    .windowed
                    .at(decodes, seen, |n, seen| sum(&mut |into| inventory.decode(n, 0.0, n * seen, into)));
                all -= memo.common.at(decodes, |n| sum(&mut |into| inventory.decode(n, 0.0, 0.0, into)));
            }
        }
        self.overhead.on(all, sequences(shape), !shape.chunks.is_empty())
    }
}

impl Predictor {
    /// Returns the sum over a sample of the steps that [`Predictor::seconds`] was asked for: what their times rest on.
    pub const fn looked(&self) -> &Predicted {
        &self.looked
    }
}

/// What it adds to the operators' times that pieces of prompts and single tokens run in one kernel, where the engine does
/// so: less than nothing where that is faster. Each piece's operator stands for its part of a batch of pieces like it.
fn together(kernels: &Kernels, operators: &[Operator]) -> (f64, Basis) {
    let (mut more, mut worst) = (0.0, Basis::Measured);
    if kernels.stated.is_some() {
        return (0.0, Basis::Roofline);
    }
    for single in operators {
        let Kernel::GenerationAttention { heads, kv_heads, head_dim, window, .. } = single.kernel else { continue };
        let alone = kernels.time(&single.kernel, &single.work);
        let pieces = operators.iter().filter(|operator| {
            matches!(operator.kernel, Kernel::ContextAttention { heads: h, kv_heads: kv, head_dim: d, window: w, .. }
                if (h, kv, d, w) == (heads, kv_heads, head_dim, window))
        });
        for piece in pieces {
            let (both, apart) = (
                mixed::time(kernels, (&piece.kernel, &piece.work), (&single.kernel, &single.work)),
                kernels.time(&piece.kernel, &piece.work).seconds + alone.seconds,
            );
            more += (both.seconds - apart) * piece.runs;
            worst = worst.max(both.basis);
        }
    }
    (more, worst)
}

/// Sequences that take part.
fn sequences(shape: &Shape) -> f64 {
    f64::from(shape.decodes) + shape.chunks.len() as f64
}
