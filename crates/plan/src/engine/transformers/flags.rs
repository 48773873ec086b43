//! Which options does Transformers take? Arguments of `from_pretrained` and `generate`, and two that describe the request.

use crate::engine::flag::{Effect, Flag, Flags, Kind, Style};

const MEMORY: Effect = Effect::Memory;
const NOTHING: Effect = Effect::Nothing;

/// The options.
pub const FLAGS: Flags = Flags {
    engine: super::NAME,
    style: Style::Flexible,
    rows: &[
        Flag::new("attn_implementation", Kind::Text, MEMORY, &[]),
        Flag::new("batch_size", Kind::Count, MEMORY, &["-b"]),
        Flag::new("bnb_4bit_compute_dtype", Kind::Text, NOTHING, &[]),
        Flag::new("bnb_4bit_quant_type", Kind::Text, NOTHING, &[]),
        Flag::new("bnb_4bit_use_double_quant", Kind::Boolean, MEMORY, &[]),
        Flag::new("cache_config", Kind::Json, MEMORY, &[]),
        Flag::new("cache_implementation", Kind::Text, MEMORY, &[]),
        Flag::new("device_map", Kind::JsonOrText, MEMORY, &[]),
        Flag::new("do_sample", Kind::Boolean, NOTHING, &[]),
        Flag::new("dtype", Kind::Text, MEMORY, &["--torch-dtype"]),
        Flag::new("load_in_4bit", Kind::Boolean, MEMORY, &[]),
        Flag::new("load_in_8bit", Kind::Boolean, MEMORY, &[]),
        Flag::new("max_cache_len", Kind::Count, MEMORY, &[]),
        Flag::new("max_length", Kind::Count, MEMORY, &[]),
        Flag::new("max_memory", Kind::JsonOrText, MEMORY, &[]),
        Flag::new("max_new_tokens", Kind::Count, MEMORY, &[]),
        Flag::new("num_beams", Kind::Count, MEMORY, &[]),
        Flag::new("num_return_sequences", Kind::Count, MEMORY, &[]),
        Flag::new("padding", Kind::Boolean, MEMORY, &[]),
        Flag::new("prefill_chunk_size", Kind::Count, MEMORY, &[]),
        Flag::new("prompt_tokens", Kind::Count, MEMORY, &["--prompt-length", "--input-tokens"]),
        Flag::new("temperature", Kind::Float, NOTHING, &[]),
        Flag::new("top_k", Kind::Int, NOTHING, &[]),
        Flag::new("top_p", Kind::Float, NOTHING, &[]),
        Flag::new("trust_remote_code", Kind::Boolean, NOTHING, &[]),
        Flag::new("use_cache", Kind::Boolean, MEMORY, &[]),
    ],
    foreign: &[
        ("max_model_len", "max_length"),
        ("max_tokens", "max_new_tokens"),
        ("max_num_seqs", "batch_size"),
        ("quantization", "load_in_4bit"),
        ("tensor_parallel_size", "device_map"),
        ("ctx_size", "max_length"),
    ],
};
