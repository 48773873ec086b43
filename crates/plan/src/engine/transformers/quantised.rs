//! What does a quantised cache hold? Words of 1 to 8 bits in groups with a scale and a zero each, and a residual in the
//! model's dtype that is folded in when it is full.
//!
//! Source: transformers 5.23.0, `cache_utils.py`, `QuantizedLayer`, `QuantoQuantizedLayer`, `HQQQuantizedLayer`,
//! `Fp8QuantizedLayer`; packing as in optimum-quanto 0.2.7 (`tensor/packed.py`) and hqq 0.2.8 (`core/bitpack.py`).

use plimsoll_facts::tensor::DType;

use super::cache::{Filled, KeyValue, LayerCache};
use crate::Error;

/// Who quantises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// optimum-quanto: 2 or 4 bits.
    Quanto,
    /// HQQ: 1, 2, 3, 4 or 8 bits.
    Hqq,
    /// 8-bit floats with one scale per tensor.
    Fp8,
}

impl Backend {
    /// Returns the name in `cache_config`.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Quanto => "quanto",
            Backend::Hqq => "hqq",
            Backend::Fp8 => "fp8",
        }
    }
}

/// A quantised cache's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantised {
    /// Who quantises.
    pub backend: Backend,
    /// Bits of one number.
    pub nbits: u32,
    /// Whether keys are grouped along their first axis (0) rather than the last.
    pub key_axis_first: bool,
    /// The same for values.
    pub value_axis_first: bool,
    /// Numbers that share a scale.
    pub group: u64,
    /// Positions that the residual holds at most.
    pub residual: u64,
}

impl Quantised {
    /// The defaults of the class with a backend.
    pub const fn new(backend: Backend) -> Quantised {
        Quantised { backend, nbits: 4, key_axis_first: true, value_axis_first: true, group: 64, residual: 128 }
    }

    /// Returns the positions that are quantised and those in the residual. The prompt is quantised whole; the step that
    /// fills the residual quantises everything again.
    pub fn positions(&self, filled: &Filled) -> (u64, u64) {
        let residual = match self.backend {
            Backend::Quanto | Backend::Hqq => filled.steps % self.residual.max(1),
            Backend::Fp8 => 0,
        };
        (filled.positions().saturating_sub(residual), residual)
    }

    /// Returns the bytes of one layer's keys and values.
    pub fn bytes(&self, kv: &KeyValue, filled: &Filled, dtype: DType) -> u64 {
        let (quantised, residual) = self.positions(filled);
        let one = |numbers: u64, first: bool| {
            let per_position = numbers.saturating_mul(filled.batch);
            let packed = self.packed(per_position.saturating_mul(quantised), first, dtype);
            packed.saturating_add(dtype.bytes_of(per_position.saturating_mul(residual)))
        };
        one(kv.key, self.key_axis_first).saturating_add(one(kv.value, self.value_axis_first))
    }

    /// Bytes of so many numbers: packed words, scales and zeros. With the first axis words are packed over groups by
    /// quanto and within a group by HQQ; the last axis turns both round.
    fn packed(&self, numbers: u64, first: bool, dtype: DType) -> u64 {
        if numbers == 0 {
            return 0;
        }
        let groups = numbers.div_ceil(self.group.max(1));
        let (rows, columns) = match (self.backend, first) {
            (Backend::Fp8, _) => return numbers.saturating_add(4),
            (Backend::Quanto, true) | (Backend::Hqq, false) => (groups, self.group),
            (Backend::Quanto, false) | (Backend::Hqq, true) => (self.group, groups),
        };
        let words = match (self.backend, self.nbits) {
            // Ten 3-bit numbers to a 32-bit word.
            (Backend::Hqq, 3) => rows.div_ceil(10).saturating_mul(4),
            _ => rows.div_ceil(u64::from(8 / self.nbits.clamp(1, 8))),
        };
        words.saturating_mul(columns).saturating_add(dtype.bytes_of(groups.saturating_mul(2)))
    }

    /// Refuses what the class refuses.
    ///
    /// # Errors
    /// [`Error::Request`] names layers that are not full attention and groups that do not divide a tensor.
    pub fn check(&self, layers: &[LayerCache], filled: &Filled) -> Result<(), Error> {
        if layers.iter().any(|layer| !layer.is_full_attention()) {
            let why =
                "`QuantizedCache` is only supported for models with only full attention layers; this one has others";
            return Err(Error::Request(why.to_owned()));
        }
        let bits: &[u32] = match self.backend {
            Backend::Fp8 => return Ok(()),
            Backend::Quanto => &[2, 4],
            Backend::Hqq => &[1, 2, 3, 4, 8],
        };
        if !bits.contains(&self.nbits) {
            let flag = "nbits".to_owned();
            return Err(Error::Flag {
                flag,
                found: self.nbits.to_string(),
                expected: format!("one of {bits:?} for {}", self.backend.name()),
            });
        }
        let (quantised, _) = self.positions(filled);
        for kv in layers.iter().filter_map(|layer| layer.kv) {
            for numbers in [kv.key, kv.value] {
                let all = numbers.saturating_mul(filled.batch).saturating_mul(quantised);
                if self.group == 0 || all % self.group != 0 {
                    let why = format!(
                        "{} cannot group {all} numbers (batch × heads × {quantised} tokens × width) by q_group_size {}",
                        self.backend.name(),
                        self.group
                    );
                    return Err(Error::Request(why));
                }
            }
        }
        Ok(())
    }
}
