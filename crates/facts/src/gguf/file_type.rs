//! What does a file's name promise? File types: a base type and the rule by which single tensors differ from it.

use super::GgmlType;

macro_rules! file_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $base:ident;)*) => {
        /// A file type as `general.file_type` and file names give it. Most are mixtures: a base type with exceptions.
        ///
        /// Source: llama.cpp 0c1e57098, `include/llama.h` (`llama_ftype`), `src/llama-quant.cpp`
        /// (`llama_ftype_get_default_type`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FileType {
            $($(#[$doc])* $variant,)*
        }

        impl FileType {
            /// Every live file type.
            pub const ALL: &'static [FileType] = &[$(FileType::$variant,)*];

            /// Returns the file type of an id; `None` for one that is unknown or was removed.
            pub const fn from_id(id: u64) -> Option<FileType> {
                match id {
                    $($id => Some(FileType::$variant),)*
                    _ => None,
                }
            }

            /// Returns the id.
            pub const fn id(self) -> u32 {
                match self { $(FileType::$variant => $id,)* }
            }

            /// Returns the name as quantisers and file names spell it.
            pub const fn name(self) -> &'static str {
                match self { $(FileType::$variant => $name,)* }
            }

            /// Returns the type that most matrices have.
            pub const fn base(self) -> GgmlType {
                match self { $(FileType::$variant => GgmlType::$base,)* }
            }
        }
    };
}

file_types! {
    /// All in 32-bit floats.
    F32 = 0, "F32", F32;
    /// Matrices in 16-bit floats.
    F16 = 1, "F16", F16;
    /// Matrices in bfloat16.
    Bf16 = 32, "BF16", Bf16;
    /// 4-bit, one scale per 32.
    Q4_0 = 2, "Q4_0", Q4_0;
    /// 4-bit, scale and minimum per 32.
    Q4_1 = 3, "Q4_1", Q4_1;
    /// 8-bit.
    Q8_0 = 7, "Q8_0", Q8_0;
    /// 5-bit, one scale per 32.
    Q5_0 = 8, "Q5_0", Q5_0;
    /// 5-bit, scale and minimum per 32.
    Q5_1 = 9, "Q5_1", Q5_1;
    /// 2-bit super-blocks, mixed.
    Q2K = 10, "Q2_K", Q2K;
    /// 3-bit super-blocks.
    Q3KS = 11, "Q3_K_S", Q3K;
    /// 3-bit super-blocks, mixed.
    Q3KM = 12, "Q3_K_M", Q3K;
    /// 3-bit super-blocks, mixed with more bits.
    Q3KL = 13, "Q3_K_L", Q3K;
    /// 4-bit super-blocks.
    Q4KS = 14, "Q4_K_S", Q4K;
    /// 4-bit super-blocks, mixed.
    Q4KM = 15, "Q4_K_M", Q4K;
    /// 5-bit super-blocks.
    Q5KS = 16, "Q5_K_S", Q5K;
    /// 5-bit super-blocks, mixed.
    Q5KM = 17, "Q5_K_M", Q5K;
    /// 6-bit super-blocks.
    Q6K = 18, "Q6_K", Q6K;
    /// About 2.06 bits.
    Iq2Xxs = 19, "IQ2_XXS", Iq2Xxs;
    /// About 2.31 bits.
    Iq2Xs = 20, "IQ2_XS", Iq2Xs;
    /// 2-bit super-blocks, small.
    Q2KS = 21, "Q2_K_S", Q2K;
    /// About 3.3 bits.
    Iq3Xs = 22, "IQ3_XS", Iq3S;
    /// About 3.06 bits.
    Iq3Xxs = 23, "IQ3_XXS", Iq3Xxs;
    /// About 1.56 bits.
    Iq1S = 24, "IQ1_S", Iq1S;
    /// 4-bit on an uneven grid.
    Iq4Nl = 25, "IQ4_NL", Iq4Nl;
    /// About 3.44 bits.
    Iq3S = 26, "IQ3_S", Iq3S;
    /// About 3.66 bits.
    Iq3M = 27, "IQ3_M", Iq3S;
    /// About 2.5 bits.
    Iq2S = 28, "IQ2_S", Iq2Xs;
    /// About 2.7 bits.
    Iq2M = 29, "IQ2_M", Iq2S;
    /// 4.25 bits on an uneven grid.
    Iq4Xs = 30, "IQ4_XS", Iq4Xs;
    /// About 1.75 bits.
    Iq1M = 31, "IQ1_M", Iq1M;
    /// Three values, 1.69 bits.
    Tq1_0 = 36, "TQ1_0", Tq1_0;
    /// Three values, 2.06 bits.
    Tq2_0 = 37, "TQ2_0", Tq2_0;
    /// Experts in MXFP4, the rest in 8 bits.
    Mxfp4Moe = 38, "MXFP4_MOE", Mxfp4;
    /// NVFP4 with the publisher's own scales.
    Nvfp4 = 39, "NVFP4", Nvfp4;
    /// Signs.
    Q1_0 = 40, "Q1_0", Q1_0;
    /// 2-bit, one scale per 64.
    Q2_0 = 41, "Q2_0", Q2_0;
}

impl FileType {
    /// Reads a name as quantisers, file names and registries' tags spell it, in either case (`Q4_K_M`, `q4_k_m`, `fp16`,
    /// `MXFP4`, `Q4_K` for `Q4_K_M`).
    ///
    /// Source of the short forms: llama.cpp 0c1e57098, `tools/quantize/quantize.cpp` (`QUANT_OPTIONS`).
    pub fn parse(name: &str) -> Option<FileType> {
        let name = name.trim().to_ascii_uppercase();
        let name = match name.as_str() {
            "FP16" => "F16",
            "FP32" => "F32",
            "MXFP4" => "MXFP4_MOE",
            "Q3_K" => "Q3_K_M",
            "Q4_K" => "Q4_K_M",
            "Q5_K" => "Q5_K_M",
            other => other,
        };
        FileType::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}
