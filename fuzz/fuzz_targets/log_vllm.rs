//! No bytes behind the beginning of a log of vLLM's panic, hang or eat memory, and every number read is sound.
#![no_main]

mod shared {
    pub mod log;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::log::read(
    b"INFO 11-21 10:00:00 [core.py:77] Initializing a V1 LLM engine (v0.19.0) with config: model='m'\n",
    bytes
));
