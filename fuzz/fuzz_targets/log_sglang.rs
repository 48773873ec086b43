//! No bytes behind the beginning of a log of SGLang's panic, hang or eat memory, and every number read is sound.
#![no_main]

mod shared {
    pub mod log;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::log::read(
    b"[2026-04-21 09:00:23 TP0] Load weight begin. avail mem=77.90 GB\n",
    bytes
));
