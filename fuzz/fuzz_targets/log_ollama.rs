//! No bytes behind the beginning of a log of Ollama's panic, hang or eat memory, and every number read is sound.
#![no_main]

mod shared {
    pub mod log;
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::log::read(
    b"time=x level=INFO source=routes.go:1 msg=\"Listening on 127.0.0.1:11434 (version 0.13.0)\"\n",
    bytes
));
