//! In which memory does a tensor lie, and how does that memory round its size?
//!
//! Source: llama.cpp 0c1e57098, `ggml/src/ggml-alloc.c` (`ggml_backend_alloc_ctx_tensors_from_buft`),
//! `ggml/src/ggml-cuda/ggml-cuda.cu` (`ggml_backend_cuda_buffer_type_get_alloc_size`).

use std::collections::BTreeMap;

use plimsoll_facts::gguf::GgmlType;

/// Numbers to which CUDA rounds the last row of a quantised tensor (`MATRIX_ROW_PADDING`).
const ROW_PADDING: u64 = 512;

/// The memory of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Where {
    /// A GPU, counted in the engine's order.
    Device(u8),
    /// Host memory that is pinned for the first GPU.
    Pinned,
    /// Host memory.
    Host,
    /// Host memory, in an order that suits the processor's instructions.
    Repacked,
}

impl Where {
    /// Returns the bytes to which sizes are rounded up.
    pub const fn alignment(self) -> u64 {
        match self {
            Where::Device(_) => 128,
            Where::Pinned | Where::Host | Where::Repacked => 32,
        }
    }

    /// Returns the name of the buffer as the engine prints it.
    pub fn name(self) -> String {
        match self {
            Where::Device(number) => format!("CUDA{number}"),
            Where::Pinned => "CUDA_Host".to_owned(),
            Where::Host => "CPU".to_owned(),
            Where::Repacked => "CPU_REPACK".to_owned(),
        }
    }
}

/// Bytes in each memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<Where, u64>);

impl Sums {
    /// Adds bytes to a memory.
    pub fn add(&mut self, place: Where, bytes: u64) {
        let sum = self.0.entry(place).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// Adds all bytes of others.
    pub fn add_all(&mut self, others: &Sums) {
        others.iter().for_each(|(place, bytes)| self.add(place, bytes));
    }

    /// Returns the bytes in a memory.
    pub fn get(&self, place: Where) -> u64 {
        self.0.get(&place).copied().unwrap_or(0)
    }

    /// Returns the bytes on a GPU.
    pub fn device(&self, number: usize) -> u64 {
        u8::try_from(number).map_or(0, |number| self.get(Where::Device(number)))
    }

    /// Returns the bytes in host memory of every kind.
    pub fn host(&self) -> u64 {
        [Where::Pinned, Where::Host, Where::Repacked]
            .iter()
            .fold(0, |sum: u64, place| sum.saturating_add(self.get(*place)))
    }

    /// Returns the bytes everywhere.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
    }

    /// Goes through the memories that hold something, GPUs first.
    pub fn iter(&self) -> impl Iterator<Item = (Where, u64)> + '_ {
        self.0.iter().map(|(place, bytes)| (*place, *bytes))
    }
}

/// Returns the bytes of a row, its last block counted whole.
pub fn row_bytes(kind: GgmlType, numbers: u64) -> u64 {
    numbers.div_ceil(kind.block()).saturating_mul(kind.block_bytes())
}

/// Returns what a tensor takes in a memory: its bytes, on a GPU the padding of its last row, rounded up.
pub fn allocated(place: Where, kind: GgmlType, row: u64, bytes: u64) -> u64 {
    let spare = row % ROW_PADDING;
    let padding = match place {
        Where::Device(_) if kind.is_quantised() && spare != 0 => row_bytes(kind, ROW_PADDING - spare),
        Where::Device(_) | Where::Pinned | Where::Host | Where::Repacked => 0,
    };
    let whole = bytes.saturating_add(padding);
    whole.checked_next_multiple_of(place.alignment()).unwrap_or(u64::MAX)
}
