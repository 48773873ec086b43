//! How large are llama.cpp's compute buffers? Its graph reservation, played through without memory.
//!
//! The engine reserves compute memory once: it builds the graph of the largest prompt batch, assigns every operation
//! to a backend, cuts the graph where the backend changes and lets its allocator lay out all results
//! (`llama_context::sched_reserve`, llama.cpp 0c1e57098, src/llama-context.cpp). This does the same on the shapes
//! alone, so sizes come out to the byte and the counts of nodes and splits as the engine logs them.
//!
//! [`compute_buffers`] is the entry. Builders of architectures are in [`arch`], on the pieces of [`build`].

pub mod alloc;
pub mod arch;
pub mod arena;
pub mod build;
pub mod device;
pub mod fattn;
pub mod fusion;
pub mod model;
pub mod sched;
pub mod tensor;

pub use arena::Graph;
pub use device::Device;
pub use model::{Context, Flash, Model, Placement, Pooling, Reserve, Rules};
pub use tensor::Store;

use build::{Batch, Build};
use sched::{PIPELINE_COPIES, Scheduled, Setup};

use crate::Error;

/// What the reservation decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Bytes of each backend's compute buffer, in the order of [`Placement::devices`].
    pub bytes: Vec<u64>,
    /// Whether fused attention is used.
    pub flash: bool,
    /// Operations of the prompt and the generation graph.
    pub nodes: [usize; 2],
    /// Parts of the prompt and the generation graph.
    pub splits: [usize; 2],
    /// Copies of inputs.
    pub copies: usize,
}

/// Sizes the compute buffers of a context.
///
/// # Errors
/// [`Error::Request`] when the architecture has no builder, or the file's tensors do not fit its graph.
pub fn compute_buffers(model: &Model<'_>, cx: &Context, reserve: Reserve) -> Result<Reservation, Error> {
    let arch = model.hparams.arch.as_str();
    let builder = arch::builder(arch)
        .ok_or_else(|| Error::Request(format!("the compute graph of architecture {arch} is not known")))?;
    let copies = if model.placement.pipeline { PIPELINE_COPIES } else { 1 };
    let devices = model.placement.devices.clone();
    let setup = Setup { devices, copies, offloads: cx.offload_ops };
    let seqs = cx.sequences.max(1);
    let tokens = cx.tokens.min(cx.ubatch).max(1);
    let batch = |tokens: u64, outputs: u64| Batch {
        tokens: tokens.checked_next_multiple_of(seqs).unwrap_or(seqs),
        seqs,
        outputs,
    };
    let graph = |batch: Batch, flash: bool| -> Result<Build<'_>, Error> {
        let mut build = Build::new(model, cx, batch, flash);
        builder(&mut build);
        build.end();
        match build.g.problem.take() {
            Some(problem) => Err(Error::Request(format!("{arch}: {problem}"))),
            None => Ok(build),
        }
    };
    let flash = match cx.flash {
        Flash::Off => false,
        Flash::On => true,
        Flash::Auto => {
            let probe = graph(batch(seqs, seqs), true)?;
            fits_layers(probe, model.placement, &setup)
        }
    };
    let ties = reserve == Reserve::Allocated;
    let prompt = graph(batch(tokens, tokens.min(cx.outputs).max(1)), flash)?;
    let prompt = sched::schedule(prompt.g, &setup, ties);
    let one = sched::schedule(graph(batch(seqs, seqs), flash)?.g, &setup, true);
    let bytes = match reserve {
        Reserve::Measured => prompt.sizes.clone(),
        Reserve::Allocated => largest(&prompt, &one),
    };
    let (nodes, splits) = ([prompt.nodes, one.nodes], [prompt.splits, one.splits]);
    Ok(Reservation { bytes, flash, nodes, splits, copies })
}

fn largest(a: &Scheduled, b: &Scheduled) -> Vec<u64> {
    a.sizes.iter().zip(&b.sizes).map(|(&x, &y)| x.max(y)).collect()
}

/// Whether every fused attention would run on its layer's own device (`resolve_fused_ops`).
fn fits_layers(build: Build<'_>, placement: &Placement, setup: &Setup) -> bool {
    let fused = build.fused.clone();
    let backends = sched::assign(build.g, setup);
    fused.iter().all(|&(id, il)| backends.get(id.index()).copied().flatten() == Some(placement.layer(il)))
}
