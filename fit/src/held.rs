//! Which shapes are left out? A fifth of them, by their names alone, so that neither order nor count of rows matters.

/// Whether a shape is left out of the fit whose errors are reported: a fifth of all, by a hash (FNV-1a) of its name.
///
/// Name what makes a shape new to the table: for a matrix product its `n` and `k`, never the row's number.
pub fn held_out(shape: &str) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in shape.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The low bits of FNV-1a are weak for short names: fold the high ones in.
    (hash ^ hash >> 32).is_multiple_of(5)
}
