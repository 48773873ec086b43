//! No bytes behind the beginning of a log of llama.cpp's panic, hang or eat memory, and every number read is sound.
#![no_main]

mod shared {
    pub mod log;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::log::read(b"build_info: b10573-0c1e57098\n", bytes));
