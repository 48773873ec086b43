//! What do other formats buy, in time as well as in memory? A launch's operators again, with weights or caches in another
//! format.

use crate::{Error, Format, Inventory, Shape};

/// Returns the bits that one weight takes in a format, its scales counted: scales of 128 × 128 (fp8 blocks), of 128 inputs in
/// 16 bits (integers), of 16 in 8 bits (NVFP4), of 32 in 8 bits (MXFP4).
pub fn bits(format: Format) -> f64 {
    match format {
        Format::Bf16 => 16.0,
        Format::Fp8 | Format::Int8 => 8.0,
        Format::Fp8Block => 8.0 + 32.0 / (128.0 * 128.0),
        Format::Int8Weight => 8.125,
        Format::Int4Weight => 4.125,
        Format::Nvfp4 => 4.5,
        Format::Mxfp4Weight | Format::Mxfp4 => 4.25,
        Format::Weight(hundredths) => f64::from(hundredths) / 100.0,
    }
}

/// Formats in place of the launch's own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recast {
    /// Of layers' matrices and experts; router and output projection keep theirs, as quantisers leave them.
    pub weights: Option<Format>,
    /// Bytes of a number in the cache: 2, 1 (fp8) or less.
    pub kv_bytes: Option<f64>,
}

/// What a launch takes with formats in place of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// The formats.
    pub recast: Recast,
    /// Bytes of weights on the rank, all experts counted.
    pub weights: f64,
    /// Bytes that the rank reads of weights in the step.
    pub read: f64,
    /// Seconds of the step.
    pub seconds: f64,
    /// Times as fast as the launch's own formats.
    pub speed_up: f64,
}

/// Returns, for each of `recasts`, a step's time and weights; `time` says how long a step of an inventory takes.
///
/// # Errors
/// [`Error::Knob`] for bytes of a cached number that are not above 0 and at most 8.
pub fn gains(
    inventory: &Inventory,
    recasts: &[Recast],
    shape: &Shape,
    time: &mut dyn FnMut(&Inventory, &Shape) -> f64,
) -> Result<Vec<Gain>, Error> {
    let own = time(inventory, shape);
    let tokens = shape.tokens() as f64 + f64::from(shape.padding);
    let mut found = Vec::with_capacity(recasts.len());
    for recast in recasts {
        let other = inventory.recast(recast)?;
        let seconds = time(&other, shape);
        found.push(Gain {
            recast: *recast,
            weights: other.held(),
            read: other.weights(tokens),
            seconds,
            speed_up: own / seconds,
        });
    }
    Ok(found)
}
