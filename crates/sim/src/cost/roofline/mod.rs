//! How long does a step take, by what it computes, what it reads and what it sends? A roofline of whole steps: the larger
//! of arithmetic over the card's peak and bytes over its bandwidth, plus collectives and a fixed overhead.
//!
//! One rank of the pipeline's slowest stage is looked at. Per step it
//!
//! - reads its weights once; of routed experts those that some token is sent to, E·(1 − (1 − k/E)^t) of E under uniform
//!   routing of t tokens to k experts each (at one token exactly k);
//! - reads each sequence's cache: all of it in full-attention layers, a window at most in others, latents where those are
//!   kept, and reads and writes recurrent states;
//! - writes the new tokens' entries;
//! - computes 2 operations per matrix parameter and token, those of the output projection for sampled tokens alone, and 2
//!   per number of a head's query and value for each pair of a token and one that it sees.
//!
//! Matrices run at the peak of the format that they are multiplied in: 8-bit floats and integers and NVFP4 at their own
//! rate where the card has it, weight-only formats in 16 bits.
//!
//! A pipeline of p stages has p micro-batches in flight that share the step's tokens: the step is over when each has gone
//! through the slowest stage, which so reads its weights p times and computes every token once. A lone token then costs
//! what it costs to go through all stages one after the other.
//!
//! Activations, kernel launches, sampling and the overlap of collectives with arithmetic are not counted; efficiencies say
//! how far from both roofs real kernels stay.

mod derive;

use plimsoll_facts::gpu::Gpu;
use plimsoll_facts::model::Model;
use plimsoll_plan::Plan;
use plimsoll_units::Nanos;

use super::{Cost, Shape};
use crate::Error;

/// Part of the peak that matrix products reach when nobody says. Assumed: published large products reach 0.5 to 0.75.
pub const MFU: f64 = 0.6;
/// Part of the bandwidth that weights and caches are read at when nobody says. Assumed: streaming kernels reach 0.75 to
/// 0.9.
pub const MBU: f64 = 0.8;
/// What a step takes beside its kernels when nobody says. Assumed: scheduling, preparing inputs and sampling of an engine
/// that overlaps most of them with the GPU.
pub const OVERHEAD: Nanos = Nanos::new(500_000);

/// What the user says in place of the catalogue and of what is assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Knobs {
    /// Part of the peak that is reached, above 0 and at most 1.
    pub mfu: Option<f64>,
    /// Part of the bandwidth that is reached, above 0 and at most 1.
    pub mbu: Option<f64>,
    /// What a step takes beside its kernels.
    pub overhead: Option<Nanos>,
    /// Peak of all formats, operations a second.
    pub peak: Option<f64>,
    /// Memory bandwidth, bytes a second.
    pub bandwidth: Option<f64>,
    /// Bandwidth between cards, bytes a second in one direction.
    pub link: Option<f64>,
}

/// The seconds that each part of a step takes, efficiencies included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// Matrix products and attention.
    pub compute: f64,
    /// Weights, caches and states.
    pub memory: f64,
    /// Collectives.
    pub communication: f64,
    /// The rest.
    pub overhead: f64,
}

impl Terms {
    /// Returns the time of the step: the larger of arithmetic and bytes, and what comes on top.
    pub fn seconds(&self) -> f64 {
        self.compute.max(self.memory) + self.communication + self.overhead
    }
}

/// The step cost of one launch.
///
/// ```
/// use plimsoll_sim::cost::{Cost, Shape};
/// # fn show(roofline: &mut plimsoll_sim::cost::Roofline) {
/// let one = Shape { decodes: 1, decode_context: 100, decode_windowed: 100, sampled: 1, ..Shape::default() };
/// println!("{}", roofline.step(&one));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Roofline {
    coefficients: Coefficients,
    /// What it rests on that nobody said.
    pub assumptions: Vec<String>,
    /// What else a user should know.
    pub notes: Vec<String>,
    /// Its terms, one line each, as numbers of this launch.
    pub explain: Vec<String>,
}

/// What a step's parts cost: seconds per unit at the peaks reached, and bytes per unit.
#[derive(Clone, Debug, Default, PartialEq)]
struct Coefficients {
    /// Seconds of matrix products per token.
    token: f64,
    /// Seconds of the output projection per sampled token.
    sampled: f64,
    /// Layers that see everything.
    full: Attention,
    /// Layers that see a window, by its width; the first is the one whose sums are kept.
    windows: Vec<(u32, Attention)>,
    /// Bytes of weights read whatever the tokens.
    weights: f64,
    /// Routed experts.
    experts: Vec<Experts>,
    /// Bytes written per token.
    written: f64,
    /// Bytes of recurrent states read and written per sequence.
    state: f64,
    /// Seconds per byte at the bandwidth reached.
    byte: f64,
    /// Collectives.
    link: Link,
    /// Micro-batches in flight.
    stages: f64,
    /// Seconds beside the kernels.
    overhead: f64,
}

/// Attention layers of one span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Attention {
    /// Bytes read per token in the cache.
    read: f64,
    /// Seconds per pair of a decoded token and one that it sees.
    decode: f64,
    /// Seconds per pair of a prompt's token and one that it sees.
    prompt: f64,
}

/// Routed experts of equal count and use.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Experts {
    /// Bytes of all of them on the rank.
    bytes: f64,
    /// Part of them that a token does not use.
    idle: f64,
    /// Batches of as many tokens that are sent to the same experts (data-parallel ranks).
    batches: f64,
    /// The last answer: tokens, and the part of the experts that they touch.
    last: (f64, f64),
}

impl Experts {
    /// The part of the experts that some of `tokens` tokens is sent to.
    fn touched(&mut self, tokens: f64) -> f64 {
        let tokens = tokens * self.batches;
        if self.last.0.to_bits() != tokens.to_bits() {
            // Fewer tokens than one in a micro-batch still need one token's experts.
            self.last = (tokens, 1.0 - libm::pow(self.idle, tokens.max(1.0)));
        }
        self.last.1
    }
}

/// All-reduces between cards: two lines, of which the lower counts, as NCCL's tuner picks a protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Link {
    /// All-reduces of a step.
    count: f64,
    /// Bytes of one token.
    token: f64,
    /// Seconds, and seconds per byte, for small and for large messages.
    lines: [(f64, f64); 2],
    /// Sends between stages.
    sends: f64,
    /// Seconds of one, and per byte.
    send: (f64, f64),
}

impl Link {
    /// Seconds for micro-batches of `tokens` tokens.
    fn seconds(&self, tokens: f64) -> f64 {
        let bytes = tokens * self.token;
        let [small, large] = self.lines.map(|(fixed, each)| fixed + bytes * each);
        self.count * small.min(large) + self.sends * (self.send.0 + bytes * self.send.1)
    }
}

impl Roofline {
    /// Derives the cost of a launch from the model's inventory, the plan's division, ledger and cache, and the card.
    ///
    /// # Errors
    /// [`Error::Rate`] names a peak or a bandwidth that is not known and how to give it; [`Error::Knob`] a knob out of range.
    pub fn new(model: &Model, plan: &Plan, gpu: Option<&Gpu>, knobs: &Knobs) -> Result<Roofline, Error> {
        derive::roofline(model, plan, gpu, knobs)
    }

    /// Returns the parts of a step's time.
    pub fn terms(&mut self, shape: &Shape) -> Terms {
        let main = self.window();
        let c = &mut self.coefficients;
        let decodes = f64::from(shape.decodes);
        let (context, windowed) = (shape.decode_context as f64, shape.decode_windowed as f64);
        let (mut tokens, mut sequences) = (decodes + f64::from(shape.padding), decodes);
        let mut compute = (context + decodes) * c.full.decode;
        let mut bytes = context * c.full.read;
        for (window, attention) in &c.windows {
            let seen = match main {
                Some(main) if *window >= main => context.min(decodes * f64::from(*window)),
                Some(_) | None => windowed.min(decodes * f64::from(*window)),
            };
            let seen = if Some(*window) == main { windowed } else { seen };
            compute += (seen + decodes) * attention.decode;
            bytes += seen * attention.read;
        }
        for chunk in &shape.chunks {
            let (new, before) = (f64::from(chunk.tokens), f64::from(chunk.context));
            tokens += new;
            sequences += 1.0;
            compute += new * (before + (new + 1.0) / 2.0) * c.full.prompt;
            bytes += (before + new) * c.full.read;
            for (window, attention) in &c.windows {
                let window = f64::from(*window);
                compute += pairs(new, before, window) * attention.prompt;
                bytes += (before.min(window) + new) * attention.read;
            }
        }
        compute += tokens * c.token + f64::from(shape.sampled) * c.sampled;
        let micro = tokens / c.stages;
        let mut weights = c.weights;
        for experts in &mut c.experts {
            weights += experts.bytes * experts.touched(micro);
        }
        bytes += c.stages * weights + tokens * c.written + sequences * c.state;
        Terms { compute, memory: bytes * c.byte, communication: c.link.seconds(micro), overhead: c.overhead }
    }
}

/// Pairs of `new` tokens after `before` others and what each sees of itself and those before within a window.
fn pairs(new: f64, before: f64, window: f64) -> f64 {
    // Tokens that still see everything before them.
    let growing = (window - before).clamp(0.0, new);
    growing * (before + (growing + 1.0) / 2.0) + (new - growing) * window
}

impl Cost for Roofline {
    fn step(&mut self, shape: &Shape) -> Nanos {
        Nanos::seconds(self.terms(shape).seconds()).unwrap_or(Nanos::MAX).max(Nanos::new(1))
    }

    fn window(&self) -> Option<u32> {
        self.coefficients.windows.first().map(|(window, _)| *window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_those_counted_one_by_one() {
        for (new, before, window) in [(1_u32, 0_u32, 8_u32), (5, 0, 3), (7, 2, 4), (4, 9, 4), (3, 4, 100), (6, 0, 6)] {
            let counted: u32 = (1..=new).map(|at| (before + at).min(window)).sum();
            let found = pairs(f64::from(new), f64::from(before), f64::from(window));
            assert!((found - f64::from(counted)).abs() < 1e-9, "{new} {before} {window}: {found} {counted}");
        }
    }

    #[test]
    fn one_token_touches_its_own_experts_and_many_touch_all() {
        let mut experts = Experts { bytes: 1.0, idle: 1.0 - 8.0 / 128.0, batches: 1.0, last: (0.0, 0.0) };
        assert!((experts.touched(1.0) - 8.0 / 128.0).abs() < 1e-15);
        assert!((experts.touched(2.0) - (1.0 - 0.9375 * 0.9375)).abs() < 1e-15);
        assert!(experts.touched(4096.0) > 0.999_999);
    }
}
