//! Which type does each tensor get? The quantiser's mixtures: a base type, and exceptions by role, layer and shape.
//!
//! Source: llama.cpp 0c1e57098, `src/llama-quant.cpp` (`tensor_allows_quantization`, `llama_tensor_get_type_impl`,
//! `tensor_type_fallback`, `init_quantize_state_counters`) and `conversion/base.py` (`prepare_tensors`).

use super::Plain;
use crate::gguf::{FileType, GgmlType};
use crate::model::{AttentionKind, Ffn, Mixer, Model};

/// What the quantiser takes a tensor for, by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Category {
    TokenEmbedding,
    Query,
    Key,
    Value,
    Fused,
    LatentUp,
    AttentionOutput,
    Up,
    Gate,
    Down,
    Output,
    Other,
}

impl Category {
    /// llama.cpp tries these in this order.
    fn of(name: &str) -> Category {
        const BY_NAME: &[(&str, Category)] = &[
            ("attn_qkv.weight", Category::Fused),
            ("attn_kv_b.weight", Category::LatentUp),
            ("attn_v.weight", Category::Value),
            ("attn_k.weight", Category::Key),
            ("attn_q.weight", Category::Query),
            ("attn_output.weight", Category::AttentionOutput),
            ("ffn_up", Category::Up),
            ("ffn_gate", Category::Gate),
            ("ffn_down", Category::Down),
        ];
        match name {
            "output.weight" => Category::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Category::TokenEmbedding,
            _ => BY_NAME.iter().find(|(part, _)| name.contains(part)).map_or(Category::Other, |(_, kind)| *kind),
        }
    }

    /// Whether it is as sensitive as attention's values.
    fn is_value(self) -> bool {
        matches!(self, Category::Value | Category::Fused | Category::LatentUp)
    }
}

/// What the mixture knows while it goes through the tensors.
struct State<'a> {
    architecture: &'a str,
    file_type: FileType,
    layers: u64,
    experts: u64,
    /// Query heads per key/value head of the first layer; zero when it has none.
    grouped: u64,
    tied: bool,
    /// The 70B class, whose values are few.
    seventy: bool,
    /// Value-like tensors in all, and seen.
    values: u64,
    values_seen: u64,
    /// Down-projections seen.
    downs_seen: u64,
}

/// Returns the type of every tensor, in order.
pub(super) fn kinds(model: &Model, architecture: &str, file_type: FileType, plain: &[Plain]) -> Vec<GgmlType> {
    let (heads, kv_heads) = match model.layers.first().map(|layer| &layer.mixer) {
        Some(Mixer::Attention(attention)) => match &attention.kind {
            AttentionKind::Grouped { heads, kv_heads, .. } => (u64::from(*heads), u64::from(*kv_heads)),
            AttentionKind::Latent { heads, .. } if architecture == "minicpm3" => (1, u64::from(*heads)),
            AttentionKind::Latent { heads, .. } => (u64::from(*heads), 1),
        },
        Some(Mixer::Recurrent(_) | Mixer::None) | None => (0, 0),
    };
    let experts = model.layers.iter().find_map(|layer| match &layer.ffn {
        Ffn::Moe { experts, .. } => Some(u64::from(*experts)),
        Ffn::Dense { .. } | Ffn::None => None,
    });
    let layers = model.layers.len() as u64;
    let by_interval = ["qwen3next", "qwen35", "qwen35moe"].contains(&architecture);
    let mut state = State {
        architecture,
        file_type,
        layers,
        experts: experts.unwrap_or(0),
        grouped: if by_interval { first_grouping(model) } else { heads.checked_div(kv_heads).unwrap_or(0) },
        tied: plain.iter().all(|tensor| tensor.name != "output.weight"),
        seventy: match architecture {
            "llama" => layers == 80 && experts.is_none() && heads != kv_heads,
            "qwen2" => layers == 80,
            _ => false,
        },
        values: plain.iter().filter(|tensor| Category::of(&tensor.name).is_value()).count() as u64,
        values_seen: 0,
        downs_seen: 0,
    };
    plain.iter().map(|tensor| state.kind(tensor)).collect()
}

/// Query heads per key/value head of the first layer that attends: files that find recurrent layers by an interval give
/// one number for all layers.
fn first_grouping(model: &Model) -> u64 {
    let found = model.layers.iter().find_map(|layer| match &layer.mixer {
        Mixer::Attention(attention) => match &attention.kind {
            AttentionKind::Grouped { heads, kv_heads, .. } => u64::from(*heads).checked_div(u64::from(*kv_heads)),
            AttentionKind::Latent { heads, .. } => Some(u64::from(*heads)),
        },
        Mixer::Recurrent(_) | Mixer::None => None,
    });
    found.unwrap_or(0)
}

/// How many sides a tensor has, single ones at the end not counted.
fn sides(shape: &[u64]) -> usize {
    shape.iter().rposition(|side| *side > 1).map_or(1, |last| last + 1)
}

/// Whether the quantiser takes the tensor.
fn is_quantisable(tensor: &Plain) -> bool {
    const KEPT: &[&str] = &[
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "attn_rel_b.weight",
    ];
    sides(&tensor.shape) >= 2
        && tensor.name.ends_with("weight")
        && KEPT.iter().all(|part| !tensor.name.contains(part))
        && tensor.name != "position_embd.weight"
        && tensor.name != "token_types.weight"
}

/// The type that the converter writes.
fn converted(tensor: &Plain, half: GgmlType) -> GgmlType {
    const WIDE: &[&str] = &[
        "ffn_gate_inp.weight",
        "ffn_gate_inp_shexp.weight",
        "position_embd.weight",
        "token_types.weight",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.proj.weight",
    ];
    let wide = tensor.shape.len() <= 1
        || !tensor.name.ends_with(".weight")
        || tensor.name.ends_with("_norm.weight")
        || WIDE.iter().any(|part| tensor.name.contains(part));
    match (tensor.mxfp4, wide) {
        (true, _) => GgmlType::Mxfp4,
        (false, true) => GgmlType::F32,
        (false, false) => half,
    }
}

/// Whether layer `at` of `count` gets more bits: the first and last eighth and every third between.
fn more_bits(at: u64, count: u64) -> bool {
    at < count / 8 || at >= 7 * count / 8 || (at - count / 8) % 3 == 2
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a mixture names its exceptions; every other file type keeps its base"
)]
impl State<'_> {
    /// The type of the next tensor.
    fn kind(&mut self, tensor: &Plain) -> GgmlType {
        let base = self.file_type.base();
        if !base.is_quantised() {
            return converted(tensor, base);
        }
        if tensor.mxfp4 || !is_quantisable(tensor) {
            return converted(tensor, GgmlType::F16);
        }
        fallback(self.mixed(tensor, base), tensor.shape.first().copied().unwrap_or(1))
    }

    /// The layer that a rule about down-projections counts: models with experts go by the name, others by the order.
    fn layer(&self, tensor: &Plain, seen: u64) -> u64 {
        if self.experts > 1 { crate::gguf::model::block_name(&tensor.name).map_or(0, |(layer, _)| layer) } else { seen }
    }

    /// The mixture's choice.
    fn mixed(&mut self, tensor: &Plain, base: GgmlType) -> GgmlType {
        use FileType as F;
        use GgmlType as G;
        let category = Category::of(&tensor.name);
        let lowest = matches!(self.file_type, F::Iq1S | F::Iq1M | F::Iq2Xxs | F::Iq2Xs | F::Iq2S | F::Iq2M);
        if category == Category::Output || (self.tied && category == Category::TokenEmbedding) {
            let row = tensor.shape.first().copied().unwrap_or(1);
            return if self.file_type == F::Mxfp4Moe
                || self.architecture == "falcon"
                || !row.is_multiple_of(base.block())
                || base == G::Q8_0
            {
                G::Q8_0
            } else if lowest || self.file_type == F::Iq3Xxs {
                G::Q5K
            } else {
                G::Q6K
            };
        }
        if self.file_type == F::Mxfp4Moe {
            return if tensor.shape.get(2).is_some_and(|experts| *experts > 1) { G::Mxfp4 } else { G::Q8_0 };
        }
        match category {
            Category::TokenEmbedding => match self.file_type {
                F::Iq2Xxs | F::Iq2Xs | F::Iq1S | F::Iq1M => G::Q2K,
                F::Iq2S | F::Iq2M | F::Iq3Xxs => G::Iq3S,
                F::Tq1_0 | F::Tq2_0 | F::Q2_0 => G::Q4K,
                _ => base,
            },
            _ if lowest => self.lowest(category, base),
            Category::Value | Category::Fused | Category::LatentUp => self.value(base),
            Category::Key if self.experts == 8 => G::Q8_0,
            Category::Key | Category::Query => match self.file_type {
                F::Iq3Xs => G::Iq3Xxs,
                F::Iq3Xxs => G::Iq2S,
                _ => base,
            },
            Category::Down => self.down(tensor, base),
            Category::AttentionOutput => self.attention_output(base),
            Category::Gate | Category::Up => {
                // The counters of both run with the layers, one tensor of each.
                let layer = crate::gguf::model::block_name(&tensor.name).map_or(0, |(layer, _)| layer);
                let middle = layer >= self.layers / 8 && layer < 7 * self.layers / 8;
                if self.file_type == F::Iq3Xs && middle { G::Iq3Xxs } else { base }
            }
            Category::Output | Category::Other => base,
        }
    }

    /// File types of two bits and fewer.
    fn lowest(&mut self, category: Category, base: GgmlType) -> GgmlType {
        use FileType as F;
        use GgmlType as G;
        let better = matches!(self.file_type, F::Iq2S | F::Iq2M);
        match category {
            Category::Value | Category::Fused | Category::LatentUp => {
                self.values_seen += 1;
                match (self.grouped >= 4 || self.experts >= 4, better) {
                    (true, _) => G::Q4K,
                    (false, true) => G::Iq3S,
                    (false, false) => G::Q2K,
                }
            }
            Category::Key if self.experts == 8 => G::Q4K,
            Category::Down => {
                let first = self.downs_seen < self.layers / 8;
                self.downs_seen += 1;
                match (first, better) {
                    (true, true) => G::Iq3S,
                    (true, false) => G::Q2K,
                    (false, _) => base,
                }
            }
            Category::AttentionOutput if self.experts == 8 => G::Q5K,
            Category::AttentionOutput => match self.file_type {
                F::Iq1S | F::Iq1M => G::Iq2Xxs,
                F::Iq2S | F::Iq2M => G::Iq3S,
                _ => base,
            },
            Category::TokenEmbedding | Category::Query | Category::Key | Category::Up | Category::Gate => base,
            Category::Output | Category::Other => base,
        }
    }

    /// Attention's values and what is as sensitive.
    fn value(&mut self, base: GgmlType) -> GgmlType {
        use FileType as F;
        use GgmlType as G;
        let (at, few) = (self.values_seen, self.grouped >= 4);
        self.values_seen += 1;
        let mut kind = match self.file_type {
            F::Q2K => {
                if few {
                    G::Q4K
                } else {
                    G::Q3K
                }
            }
            F::Q2KS if few => G::Q4K,
            F::Iq3Xxs => {
                if few {
                    G::Q4K
                } else {
                    G::Iq3S
                }
            }
            F::Iq3Xs | F::Iq3S if few => G::Q4K,
            F::Iq3M => G::Q4K,
            F::Q3KM => {
                if at < 2 {
                    G::Q5K
                } else {
                    G::Q4K
                }
            }
            F::Q3KL => G::Q5K,
            F::Iq4Nl | F::Iq4Xs if few => G::Q5K,
            F::Q4KM | F::Q5KM if more_bits(at, self.values) => G::Q6K,
            F::Q4KS if at < 4 => G::Q5K,
            _ => base,
        };
        if self.seventy && matches!(kind, G::Q3K | G::Q4K) {
            kind = G::Q5K;
        }
        if self.experts == 8 { G::Q8_0 } else { kind }
    }

    /// Down-projections, the experts' too.
    fn down(&mut self, tensor: &Plain, base: GgmlType) -> GgmlType {
        use FileType as F;
        use GgmlType as G;
        let (at, count) = (self.layer(tensor, self.downs_seen), self.layers);
        self.downs_seen += 1;
        let falcon = self.architecture == "falcon";
        match self.file_type {
            F::Q2K => G::Q3K,
            F::Q2KS if at < count / 8 => G::Q4K,
            F::Iq3Xxs => {
                if at < count / 8 {
                    G::Q4K
                } else {
                    G::Q3K
                }
            }
            F::Q3KM if at < count / 16 => G::Q5K,
            F::Q3KM if !falcon || more_bits(at, count) => G::Q4K,
            F::Iq3M if at < count / 8 || (self.experts == 8 && more_bits(at, count)) => G::Q4K,
            F::Q3KL => {
                if falcon {
                    G::Q4K
                } else {
                    G::Q5K
                }
            }
            F::Q4KM if falcon && at < count / 16 => G::Q6K,
            F::Q4KM if more_bits(at, count) => {
                if falcon {
                    G::Q5K
                } else {
                    G::Q6K
                }
            }
            F::Iq4Nl | F::Iq4Xs if at < count / 8 => G::Q5K,
            F::Q5KM if more_bits(at, count) => G::Q6K,
            F::Q4KS if !falcon && at < count / 8 => G::Q5K,
            _ => base,
        }
    }

    /// Attention's output projection.
    fn attention_output(&self, base: GgmlType) -> GgmlType {
        use FileType as F;
        use GgmlType as G;
        match (self.file_type, self.architecture == "falcon", self.experts == 8) {
            (F::Q3KL, true, _) => G::Q4K,
            (_, true, _) => base,
            (
                F::Q2K
                | F::Iq3Xs
                | F::Iq3Xxs
                | F::Q3KS
                | F::Q3KM
                | F::Iq4Nl
                | F::Q4KS
                | F::Q4KM
                | F::Iq3S
                | F::Iq3M
                | F::Iq4Xs,
                false,
                true,
            ) => G::Q5K,
            (_, false, true) => base,
            (F::Q2K, false, false) => G::Q3K,
            (F::Iq3Xxs, false, false) => G::Iq3S,
            (F::Q3KM | F::Iq3M, false, false) => G::Q4K,
            (F::Q3KL, false, false) => G::Q5K,
            (_, false, false) => base,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "types without a smaller relative stay as they are")]
/// The type that is taken when rows do not fill a type's blocks.
fn fallback(kind: GgmlType, row: u64) -> GgmlType {
    use GgmlType as G;
    if row.is_multiple_of(kind.block()) {
        return kind;
    }
    let smaller = match kind {
        G::Iq1S | G::Iq1M | G::Iq2Xxs | G::Iq2Xs | G::Iq2S | G::Iq3Xxs | G::Iq3S | G::Iq4Xs => G::Iq4Nl,
        G::Q2_0 | G::Q2K | G::Q3K | G::Tq1_0 | G::Tq2_0 => G::Q4_0,
        G::Q4K => G::Q5_0,
        G::Q5K => G::Q5_1,
        G::Q6K => G::Q8_0,
        other => other,
    };
    if row.is_multiple_of(smaller.block()) { smaller } else { G::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_layer_between_the_ends_gets_more_bits() {
        let more: Vec<u64> = (0..32).filter(|at| more_bits(*at, 32)).collect();
        assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    }

    #[test]
    fn rows_that_do_not_fill_blocks_fall_back() {
        assert_eq!(fallback(GgmlType::Q4K, 4096), GgmlType::Q4K);
        assert_eq!(fallback(GgmlType::Q4K, 576), GgmlType::Q5_0);
        assert_eq!(fallback(GgmlType::Q6K, 1408), GgmlType::Q8_0);
        assert_eq!(fallback(GgmlType::Iq4Xs, 100), GgmlType::F16);
        assert_eq!(fallback(GgmlType::Q8_0, 100), GgmlType::F16);
    }
}
