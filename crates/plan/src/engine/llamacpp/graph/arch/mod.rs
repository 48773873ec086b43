//! Which graph does each architecture build? One function per family (llama.cpp 0c1e57098, src/models/*.cpp).

mod decoder;
mod delta;
mod hybrids;
mod latent;
mod llama;
mod mamba;
mod mixed;
mod mixtures;
mod moe;

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
        _other => None,
    }
}
