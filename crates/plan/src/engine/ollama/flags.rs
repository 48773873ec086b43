//! Which options does Ollama take? The flags of `ollama run`, and the options of a request and of a Modelfile.

use crate::engine::flag::{Effect, Flag, Flags, Kind, Style};

const MEMORY: Effect = Effect::Memory;
const NOTHING: Effect = Effect::Nothing;

/// The flags and options.
pub const FLAGS: Flags = Flags {
    engine: super::NAME,
    style: Style::Flexible,
    rows: &[
        Flag::new("dimensions", Kind::Int, NOTHING, &[]),
        Flag::new("draft_num_predict", Kind::Int, NOTHING, &[]),
        Flag::new("file_type", Kind::Text, MEMORY, &["--quantization"]),
        Flag::new("format", Kind::Text, NOTHING, &[]),
        Flag::new("free_memory", Kind::Text, MEMORY, &[]),
        Flag::new("frequency_penalty", Kind::Float, NOTHING, &[]),
        Flag::new("hidethinking", Kind::Switch, NOTHING, &[]),
        Flag::new("insecure", Kind::Switch, NOTHING, &[]),
        Flag::new("keepalive", Kind::Text, NOTHING, &[]),
        Flag::new("main_gpu", Kind::Int, MEMORY, &[]),
        Flag::new("nowordwrap", Kind::Switch, NOTHING, &[]),
        Flag::new("num_batch", Kind::Int, MEMORY, &[]),
        Flag::new("num_ctx", Kind::Count, MEMORY, &[]),
        Flag::new("num_gpu", Kind::Int, MEMORY, &[]),
        Flag::new("num_keep", Kind::Int, NOTHING, &[]),
        Flag::new("num_predict", Kind::Int, NOTHING, &[]),
        Flag::new("num_thread", Kind::Int, NOTHING, &[]),
        Flag::new("presence_penalty", Kind::Float, NOTHING, &[]),
        Flag::new("projector_bytes", Kind::Int, MEMORY, &[]),
        Flag::new("repeat_last_n", Kind::Int, NOTHING, &[]),
        Flag::new("repeat_penalty", Kind::Float, NOTHING, &[]),
        Flag::new("seed", Kind::Int, NOTHING, &[]),
        Flag::new("stop", Kind::Append, NOTHING, &[]),
        Flag::new("temperature", Kind::Float, NOTHING, &[]),
        Flag::new("think", Kind::OptionalText, NOTHING, &[]),
        Flag::new("top_k", Kind::Int, NOTHING, &[]),
        Flag::new("top_p", Kind::Float, NOTHING, &[]),
        Flag::new("truncate", Kind::Boolean, NOTHING, &[]),
        Flag::new("use_mmap", Kind::Boolean, MEMORY, &[]),
        Flag::new("verbose", Kind::Switch, NOTHING, &[]),
    ],
    foreign: &[
        ("ctx_size", "num_ctx"),
        ("max_model_len", "num_ctx"),
        ("context_length", "num_ctx"),
        ("n_gpu_layers", "num_gpu"),
        ("batch_size", "num_batch"),
    ],
};
