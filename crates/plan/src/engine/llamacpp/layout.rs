//! What does one setting of the knobs come to? Weights, cache and compute buffers, device by device.

use plimsoll_facts::gguf::Gguf;
use plimsoll_units::{Bytes, Estimate};

use super::buffer::Where;
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
        let cache = cache(&self.h, &context, &placed.layers, compute.flash);
        Ok(Laid { context, placed, cache, compute })
    }

    /// Places the tensors of a trial.
    pub fn place(&self, trial: &Trial) -> Placed {
        let mut placed = place(self.gguf, &self.h, &self.offload(trial));
        if self.split == SplitMode::Tensor {
            spread(&mut placed, self.cards.len());
        }
        placed
    }

    fn offload(&self, trial: &Trial) -> Offload {
        let count = self.cards.len();
        let shares = match self.split {
            SplitMode::None | SplitMode::Row if count > 0 => {
                (0..count).map(|at| if at == self.main_gpu.min(count - 1) { 1.0 } else { 0.0 }).collect()
            }
            SplitMode::None | SplitMode::Row | SplitMode::Layer | SplitMode::Tensor if trial.shares.is_empty() => {
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

/// Spreads what lies on one GPU evenly over all.
fn spread(placed: &mut Placed, count: usize) {
    let total: u64 = placed.sums.iter().filter(|(place, _)| matches!(place, Where::Device(_))).map(|(_, b)| b).sum();
    let mut sums = super::buffer::Sums::default();
    for (place, bytes) in placed.sums.iter() {
        if !matches!(place, Where::Device(_)) {
            sums.add(place, bytes);
        }
    }
    for at in 0..count {
        sums.add(Where::Device(u8::try_from(at).unwrap_or(u8::MAX)), total.div_ceil(count.max(1) as u64));
    }
    placed.sums = sums;
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
