//! No bytes behind the beginning of a log of TensorRT-LLM's panic, hang or eat memory, and every number read is sound.
#![no_main]

mod shared {
    pub mod log;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::log::read(b"[TensorRT-LLM] TensorRT-LLM version: 1.2.0\n", bytes));
