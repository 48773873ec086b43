//! What does one setting of the knobs come to? Weights, cache and compute buffers, device by device.

use plimsoll_facts::gguf::Gguf;
use plimsoll_units::{Bytes, Estimate};

use super::buffer::{Sums, Where};
use super::cache::{Cache, cache};
use super::compute::{Ask, Compute, compute};
use super::context::{Asked, Context};
use super::hparams::Hparams;
use super::options::SplitMode;
use super::rules::Rules;
use super::weights::{Host, Offload, Override, Placed, place};
use crate::{Card, Refusal};

/// What does not change from trial to trial.
#[derive(Clone, Debug)]
pub struct Site<'a> {
    /// The file.
    pub gguf: &'a Gguf,
    /// Its hyper-parameters.
    pub h: Hparams,
    /// The build.
    pub rules: Rules,
    /// One card for each GPU that is used, in the engine's order.
    pub cards: Vec<&'a Card>,
    /// Free memory of each when the model is loaded.
    pub free: Vec<Estimate>,
    /// Division over GPUs.
    pub split: SplitMode,
    /// The GPU of a model that is not divided, an index into `cards`.
    pub main_gpu: usize,
    /// The host's part.
    pub host: Host,
    /// Whether drafting layers are loaded.
    pub drafting: bool,
}

/// What changes.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The context.
    pub asked: Asked,
    /// Layers on GPUs; `None` for all.
    pub layers: Option<u64>,
    /// Shares of the GPUs; empty for their free memory.
    pub shares: Vec<f32>,
    /// Tensors that go elsewhere.
    pub overrides: Vec<Override>,
}

/// What it comes to.
#[derive(Clone, Debug)]
pub struct Laid {
    /// The context as the engine makes it.
    pub context: Context,
    /// Where tensors lie.
    pub placed: Placed,
    /// Keys, values and states.
    pub cache: Cache,
    /// Compute buffers.
    pub compute: Compute,
}

impl Site<'_> {
    /// Lays a trial out; `measured` for what the engine's dry run reports.
    ///
    /// # Errors
    /// The engine's own refusal.
    pub fn lay(&self, trial: &Trial, measured: bool) -> Result<Laid, Refusal> {
        let context = Context::new(&self.h, &trial.asked, &self.rules)?;
        let placed = self.place(trial);
        let gpus: Vec<Option<(u8, u8)>> = self.cards.iter().map(|card| card.compute_capability).collect();
        let pipeline = self.split == SplitMode::Layer && trial.overrides.is_empty();
        let compute = compute(&Ask {
            h: &self.h,
            gguf: self.gguf,
            placed: &placed,
            context: &context,
            rules: &self.rules,
            gpus: &gpus,
            pipeline,
            measured,
        });
        let mut cache = cache(&self.h, &context, &placed.layers, compute.flash);
        if self.split == SplitMode::Tensor {
            let shares = self.even(trial);
            cache.parts.iter_mut().for_each(|part| part.sums = spread(&part.sums, &shares));
        }
        Ok(Laid { context, placed, cache, compute })
    }

    /// Places the tensors of a trial.
    pub fn place(&self, trial: &Trial) -> Placed {
        let mut placed = place(self.gguf, &self.h, &self.offload(trial));
        if self.split == SplitMode::Tensor {
            placed.sums = spread(&placed.sums, &self.even(trial));
        }
        placed
    }

    /// The shares of split mode tensor: as given, else even ones.
    fn even(&self, trial: &Trial) -> Vec<f64> {
        let given = |at: usize| trial.shares.get(at).copied().map_or(0.0, f64::from);
        let shares: Vec<f64> = (0..self.cards.len()).map(given).collect();
        if shares.iter().any(|share| *share > 0.0) { shares } else { vec![1.0; self.cards.len()] }
    }

    fn offload(&self, trial: &Trial) -> Offload {
        let count = self.cards.len();
        let shares = match self.split {
            SplitMode::None if count > 0 => {
                (0..count).map(|at| if at == self.main_gpu.min(count - 1) { 1.0 } else { 0.0 }).collect()
            }
            SplitMode::None | SplitMode::Row | SplitMode::Layer | SplitMode::Tensor
                if !trial.shares.iter().take(count).any(|share| *share > 0.0) =>
            {
                self.free.iter().map(|free| free.bytes.get() as f32).collect()
            }
            SplitMode::None | SplitMode::Row | SplitMode::Layer | SplitMode::Tensor => trial.shares.clone(),
        };
        Offload {
            gpus: count,
            layers: trial.layers,
            shares,
            overrides: trial.overrides.clone(),
            host: self.host,
            drafting: self.drafting,
            output_first: self.rules.fits,
        }
    }
}

/// Spreads what lies on GPUs over all of them by their shares.
fn spread(sums: &Sums, shares: &[f64]) -> Sums {
    let total: u64 = sums.iter().filter(|(place, _)| matches!(place, Where::Device(_))).map(|(_, bytes)| bytes).sum();
    let all: f64 = shares.iter().sum();
    let mut spread = Sums::default();
    for (place, bytes) in sums.iter().filter(|(place, _)| !matches!(place, Where::Device(_))) {
        spread.add(place, bytes);
    }
    for (at, share) in shares.iter().enumerate() {
        let bytes = Bytes::from_f64((total as f64 * share / all.max(f64::MIN_POSITIVE)).ceil());
        spread.add(Where::Device(u8::try_from(at).unwrap_or(u8::MAX)), bytes.get());
    }
    spread
}

impl Laid {
    /// Returns the bytes of a GPU's model buffer, cache and compute buffer.
    pub fn device(&self, number: usize) -> Bytes {
        let compute = self.compute.gpus.get(number).map_or(Bytes::ZERO, |size| size.bytes);
        Bytes::new(self.placed.sums.device(number)) + Bytes::new(self.cache.sums().device(number)) + compute
    }

    /// Returns how many layers lie on GPUs, the output counted.
    pub fn offloaded(&self) -> usize {
        self.placed.offloaded()
    }
}
