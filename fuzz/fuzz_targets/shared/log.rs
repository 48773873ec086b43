//! What every target of logs does: reads a beginning that names the engine and then any bytes, in pieces.

use plimsoll_study::log::Reader;

/// Reads a log; every number in it must be sound.
pub fn read(beginning: &[u8], bytes: &[u8]) {
    let mut reader = Reader::new();
    reader.feed(beginning);
    // The first byte says how large the pieces are that come in.
    let size = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
    for piece in bytes.chunks(size) {
        reader.feed(piece);
    }
    let log = reader.finish();
    for reading in log.sheet.readings() {
        assert!(reading.bytes.is_none_or(|bytes| bytes <= 1 << 50));
        assert!(reading.count.is_none_or(f64::is_finite));
    }
}
