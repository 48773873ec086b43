//! No bytes behind the beginning of a log of TensorRT-LLM's panic, hang or eat memory, and every number read is sound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_study::log::Reader;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new();
    reader.feed(b"[TensorRT-LLM] TensorRT-LLM version: 1.2.0\n");
    // The first byte says how large the pieces are that come in.
    let piece = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
    for piece in bytes.chunks(piece) {
        reader.feed(piece);
    }
    let log = reader.finish();
    for reading in log.sheet.readings() {
        assert!(reading.bytes.is_none_or(|bytes| bytes <= 1 << 50));
        assert!(reading.count.is_none_or(f64::is_finite));
    }
});
