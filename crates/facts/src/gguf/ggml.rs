//! How does ggml store numbers? Every tensor type by its id: block, bytes, name.

use std::fmt;

macro_rules! types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $block:literal, $bytes:literal;)*) => {
        /// How the numbers of a tensor are stored: in blocks of [`GgmlType::block`] numbers of a row,
        /// [`GgmlType::block_bytes`] each.
        ///
        /// Source: llama.cpp 0c1e57098, `ggml/include/ggml.h` (`ggml_type`), `ggml/src/ggml.c` (`type_traits`),
        /// `ggml/src/ggml-common.h` (sizes of the blocks).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GgmlType {
            $($(#[$doc])* $variant,)*
        }

        impl GgmlType {
            /// Every live type, in the order of their ids.
            pub const ALL: &'static [GgmlType] = &[$(GgmlType::$variant,)*];

            /// Returns the type of an id; `None` for an id that no type has, or no type has any more.
            pub const fn from_id(id: u32) -> Option<GgmlType> {
                match id {
                    $($id => Some(GgmlType::$variant),)*
                    _ => None,
                }
            }

            /// Returns the id that files give.
            pub const fn id(self) -> u32 {
                match self { $(GgmlType::$variant => $id,)* }
            }

            /// Returns the name as ggml prints it (`q4_K`, `iq2_xxs`, `bf16`).
            pub const fn name(self) -> &'static str {
                match self { $(GgmlType::$variant => $name,)* }
            }

            /// Returns how many numbers of a row share one block.
            pub const fn block(self) -> u64 {
                match self { $(GgmlType::$variant => $block,)* }
            }

            /// Returns the bytes of one block.
            pub const fn block_bytes(self) -> u64 {
                match self { $(GgmlType::$variant => $bytes,)* }
            }
        }
    };
}

types! {
    /// 32-bit float.
    F32 = 0, "f32", 1, 4;
    /// 16-bit float with 5 exponent bits.
    F16 = 1, "f16", 1, 2;
    /// 4 bits, one scale.
    Q4_0 = 2, "q4_0", 32, 18;
    /// 4 bits, scale and minimum.
    Q4_1 = 3, "q4_1", 32, 20;
    /// 5 bits, one scale.
    Q5_0 = 6, "q5_0", 32, 22;
    /// 5 bits, scale and minimum.
    Q5_1 = 7, "q5_1", 32, 24;
    /// 8 bits, one scale.
    Q8_0 = 8, "q8_0", 32, 34;
    /// 8 bits, scale and sum (of activations, inside kernels).
    Q8_1 = 9, "q8_1", 32, 36;
    /// 2 bits in super-blocks.
    Q2K = 10, "q2_K", 256, 84;
    /// 3 bits in super-blocks.
    Q3K = 11, "q3_K", 256, 110;
    /// 4 bits in super-blocks.
    Q4K = 12, "q4_K", 256, 144;
    /// 5 bits in super-blocks.
    Q5K = 13, "q5_K", 256, 176;
    /// 6 bits in super-blocks.
    Q6K = 14, "q6_K", 256, 210;
    /// 8 bits in super-blocks (of activations, inside kernels).
    Q8K = 15, "q8_K", 256, 292;
    /// About 2.06 bits from a code book.
    Iq2Xxs = 16, "iq2_xxs", 256, 66;
    /// About 2.3 bits from a code book.
    Iq2Xs = 17, "iq2_xs", 256, 74;
    /// About 3.06 bits from a code book.
    Iq3Xxs = 18, "iq3_xxs", 256, 98;
    /// About 1.56 bits from a code book.
    Iq1S = 19, "iq1_s", 256, 50;
    /// 4 bits on an uneven grid.
    Iq4Nl = 20, "iq4_nl", 32, 18;
    /// About 3.4 bits from a code book.
    Iq3S = 21, "iq3_s", 256, 110;
    /// About 2.56 bits from a code book.
    Iq2S = 22, "iq2_s", 256, 82;
    /// 4 bits on an uneven grid in super-blocks.
    Iq4Xs = 23, "iq4_xs", 256, 136;
    /// 8-bit integer.
    I8 = 24, "i8", 1, 1;
    /// 16-bit integer.
    I16 = 25, "i16", 1, 2;
    /// 32-bit integer.
    I32 = 26, "i32", 1, 4;
    /// 64-bit integer.
    I64 = 27, "i64", 1, 8;
    /// 64-bit float.
    F64 = 28, "f64", 1, 8;
    /// About 1.75 bits from a code book.
    Iq1M = 29, "iq1_m", 256, 56;
    /// 16-bit float with 8 exponent bits.
    Bf16 = 30, "bf16", 1, 2;
    /// Three values, 1.69 bits.
    Tq1_0 = 34, "tq1_0", 256, 54;
    /// Three values, 2.06 bits.
    Tq2_0 = 35, "tq2_0", 256, 66;
    /// 4-bit floats with one 8-bit exponent.
    Mxfp4 = 39, "mxfp4", 32, 17;
    /// 4-bit floats with one 8-bit float scale per 16.
    Nvfp4 = 40, "nvfp4", 64, 36;
    /// Signs and one scale.
    Q1_0 = 41, "q1_0", 128, 18;
    /// 2 bits, one scale.
    Q2_0 = 42, "q2_0", 64, 18;
}

impl GgmlType {
    /// Reads a name as engine flags and file names spell it, in either case (`q8_0`, `Q4_K`, `bf16`).
    pub fn parse(name: &str) -> Option<GgmlType> {
        GgmlType::ALL.iter().copied().find(|kind| kind.name().eq_ignore_ascii_case(name.trim()))
    }

    /// Returns the bytes of a row of `numbers`; `None` when they do not fill whole blocks, or are too many to count.
    pub const fn row_bytes(self, numbers: u64) -> Option<u64> {
        if !numbers.is_multiple_of(self.block()) {
            return None;
        }
        (numbers / self.block()).checked_mul(self.block_bytes())
    }

    /// Whether ggml calls it quantised: everything but plain floats and integers.
    pub const fn is_quantised(self) -> bool {
        self.block() > 1
    }

    /// Returns the bits that one number takes, scales included.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block() as f64
    }

    /// Says what became of an id that no live type has.
    pub const fn removed(id: u32) -> Option<&'static str> {
        match id {
            4 => Some("q4_2"),
            5 => Some("q4_3"),
            31 => Some("q4_0_4_4"),
            32 => Some("q4_0_4_8"),
            33 => Some("q4_0_8_8"),
            36 => Some("iq4_nl_4_4"),
            37 => Some("iq4_nl_4_8"),
            38 => Some("iq4_nl_8_8"),
            _ => None,
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_lead_back() {
        for kind in GgmlType::ALL {
            assert_eq!(GgmlType::from_id(kind.id()), Some(*kind));
            assert_eq!(GgmlType::parse(&kind.name().to_uppercase()), Some(*kind));
            assert_eq!(GgmlType::removed(kind.id()), None);
        }
        assert_eq!(GgmlType::from_id(31), None);
        assert_eq!(GgmlType::parse("q4_k"), Some(GgmlType::Q4K));
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(GgmlType::Q4K.row_bytes(4096), Some(2304));
        assert_eq!(GgmlType::Q8_0.row_bytes(576), Some(612));
        assert_eq!(GgmlType::Q8_0.row_bytes(100), None);
        assert_eq!(GgmlType::F32.row_bytes(u64::MAX), None);
    }
}
