//! Which graph does each architecture build? One function per family (llama.cpp 0c1e57098, src/models/*.cpp).

mod decoder;
mod delta;
mod dense;
mod gemma4;
mod hybrids;
mod latent;
mod llama;
mod mamba;
mod mixed;
mod mixtures;
mod moe;
mod parallel;
mod sparse;

use super::build::Build;

/// Builds a graph's architecture-specific part.
pub type Builder = fn(&mut Build<'_>);

/// The builder of an architecture, if there is one.
#[must_use]
pub fn builder(arch: &str) -> Option<Builder> {
    dense(arch).or_else(|| mixed::builder(arch))
}

fn dense(arch: &str) -> Option<Builder> {
    match arch {
        "llama" => Some(llama::build),
        "command-r" | "cohere2" | "phi2" | "falcon" | "plamo" => Some(parallel::build),
        "gemma4" => Some(gemma4::build),
        "gptneox" => Some(parallel::gptneox),
        "stablelm" => Some(parallel::stablelm),
        "deci" => Some(parallel::deci),
        _other => dense::Style::of(arch).map(|_| dense::build as Builder),
    }
}
