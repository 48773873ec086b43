//! What is a tensor called in a GGUF file? The reference implementation's names, turned into llama.cpp's.
//!
//! Source: llama.cpp 0c1e57098, `gguf-py/gguf/tensor_mapping.py` and `conversion/*.py` (`modify_tensors`).

use crate::Error;
use crate::model::Model;

/// One tensor that a line of the inventory becomes.
pub(super) struct Piece {
    /// Its name, the layer written `{i}`.
    pub name: String,
    /// What part of the line it holds.
    pub cut: Cut,
}

/// What part of a line a tensor holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// All of it.
    Whole,
    /// Gate or up of the fused pair, of all experts.
    HalfOfExperts,
    /// The down-projections of all experts.
    Experts,
    /// One of the two biases of fused experts.
    HalfOfBias,
    /// The biases of all experts.
    BiasOfExperts,
    /// Latent attention's keys, per head.
    LatentKeys,
    /// Latent attention's values, per head.
    LatentValues,
    /// Queries of a fused projection.
    Queries,
    /// Keys, or values, of a fused projection.
    KeysOrValues,
    /// Queries, keys and values of a gated delta net.
    DeltaQkv,
    /// Its gate.
    DeltaGate,
}

/// The architectures whose conversion is known: `model_type` (or that of the language model), and llama.cpp's name.
const ARCHITECTURES: &[(&str, &str)] = &[
    ("LlamaForCausalLM", "llama"),
    ("MistralForCausalLM", "llama"),
    ("MixtralForCausalLM", "llama"),
    ("Mistral3ForConditionalGeneration", "mistral3"),
    ("Ministral3ForCausalLM", "mistral3"),
    ("Llama4ForConditionalGeneration", "llama4"),
    ("Llama4ForCausalLM", "llama4"),
    ("Qwen2ForCausalLM", "qwen2"),
    ("Qwen2_5_VLForConditionalGeneration", "qwen2vl"),
    ("Qwen2VLForConditionalGeneration", "qwen2vl"),
    ("Qwen2MoeForCausalLM", "qwen2moe"),
    ("Qwen3ForCausalLM", "qwen3"),
    ("Qwen3MoeForCausalLM", "qwen3moe"),
    ("Qwen3VLForConditionalGeneration", "qwen3vl"),
    ("Qwen3VLMoeForConditionalGeneration", "qwen3vlmoe"),
    ("Qwen3NextForCausalLM", "qwen3next"),
    ("Qwen3_5ForCausalLM", "qwen35"),
    ("Qwen3_5ForConditionalGeneration", "qwen35"),
    ("Qwen3_5MoeForCausalLM", "qwen35moe"),
    ("Qwen3_5MoeForConditionalGeneration", "qwen35moe"),
    ("QWenLMHeadModel", "qwen"),
    ("PhiForCausalLM", "phi2"),
    ("Phi3ForCausalLM", "phi3"),
    ("PhiMoEForCausalLM", "phimoe"),
    ("GemmaForCausalLM", "gemma"),
    ("Gemma2ForCausalLM", "gemma2"),
    ("Gemma3ForCausalLM", "gemma3"),
    ("Gemma3ForConditionalGeneration", "gemma3"),
    ("Gemma4ForCausalLM", "gemma4"),
    ("Gemma4ForConditionalGeneration", "gemma4"),
    ("Olmo2ForCausalLM", "olmo2"),
    ("Olmo3ForCausalLM", "olmo2"),
    ("GraniteForCausalLM", "granite"),
    ("GraniteMoeForCausalLM", "granitemoe"),
    ("GraniteMoeHybridForCausalLM", "granitehybrid"),
    ("GptOssForCausalLM", "gpt-oss"),
    ("FalconForCausalLM", "falcon"),
    ("CohereForCausalLM", "command-r"),
    ("Cohere2ForCausalLM", "cohere2"),
    ("ChatGLMModel", "chatglm"),
    ("Starcoder2ForCausalLM", "starcoder2"),
    ("StableLmForCausalLM", "stablelm"),
    ("SeedOssForCausalLM", "seed_oss"),
    ("MiniCPMForCausalLM", "minicpm"),
    ("MiniCPM3ForCausalLM", "minicpm3"),
    ("Lfm2ForCausalLM", "lfm2"),
    ("JambaForCausalLM", "jamba"),
    ("MambaForCausalLM", "mamba"),
    ("GPTNeoXForCausalLM", "gptneox"),
    ("GPT2LMHeadModel", "gpt2"),
    ("GPTBigCodeForCausalLM", "starcoder"),
    ("BloomForCausalLM", "bloom"),
    ("BaichuanForCausalLM", "baichuan"),
    ("DeepseekForCausalLM", "deepseek"),
    ("DeepseekV2ForCausalLM", "deepseek2"),
    ("DeepseekV3ForCausalLM", "deepseek2"),
    ("DeepseekV32ForCausalLM", "deepseek32"),
    ("KimiK25ForConditionalGeneration", "deepseek2"),
    ("Glm4MoeForCausalLM", "glm4moe"),
    ("GlmMoeDsaForCausalLM", "glm-dsa"),
    ("MiniMaxM2ForCausalLM", "minimax-m2"),
    ("Exaone4ForCausalLM", "exaone4"),
    ("MiMoV2FlashForCausalLM", "mimo2"),
    ("NemotronHForCausalLM", "nemotron_h_moe"),
];

/// llama.cpp's name of the model's architecture.
pub(super) fn architecture(model: &Model) -> Result<&'static str, Error> {
    let found = ARCHITECTURES.iter().find(|(class, _)| *class == model.architecture).map(|(_, name)| *name);
    let experts = model.tensors.iter().any(|tensor| tensor.name.contains(".experts."));
    match found {
        Some("nemotron_h_moe") if !experts => Ok("nemotron_h"),
        Some(name) => Ok(name),
        None => {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|(class, _)| *class).collect();
            Err(Error::UnknownArchitecture {
                architecture: model.architecture.clone(),
                model_type: model.model_type.clone(),
                why: format!(
                    "how llama.cpp would convert it is not known here; give a .gguf file, or one of {}",
                    known.join(", ")
                ),
            })
        }
    }
}

/// Where the layer's part of a name begins.
const PREFIXES: &[&str] = &[
    "model.language_model.",
    "language_model.model.",
    "model.decoder.",
    "transformer.encoder.",
    "transformer.embedding.",
    "transformer.",
    "gpt_neox.",
    "backbone.",
    "language_model.",
    "model.",
];

/// The tensors that a line becomes; `None` when its name is not known.
pub(super) fn pieces(architecture: &str, name: &str) -> Option<Vec<Piece>> {
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    let inside = ["layers.{i}.", "h.{i}."].iter().find_map(|prefix| rest.strip_prefix(prefix));
    let Some(inside) = inside else {
        let (stem, suffix) = split(rest);
        return outside(stem).map(|stem| vec![whole(format!("{stem}{suffix}"))]);
    };
    if let Some(special) = special(architecture, inside) {
        return Some(special);
    }
    let (stem, suffix) = split(inside);
    let stem = norm(architecture, stem).or_else(|| plain(architecture, stem))?;
    Some(vec![whole(format!("blk.{{i}}.{stem}{suffix}"))])
}

/// Parts `NAME.weight` and `NAME.bias`.
fn split(name: &str) -> (&str, &'static str) {
    match (name.strip_suffix(".weight"), name.strip_suffix(".bias")) {
        (Some(stem), _) => (stem, ".weight"),
        (None, Some(stem)) => (stem, ".bias"),
        (None, None) => (name, ".weight"),
    }
}

/// A tensor that a line becomes whole.
fn whole(name: String) -> Piece {
    Piece { name, cut: Cut::Whole }
}

/// Outside the stack.
fn outside(stem: &str) -> Option<&'static str> {
    Some(match stem {
        "embed_tokens" | "wte" | "word_embeddings" | "embed_in" | "embeddings" => "token_embd",
        "norm" | "ln_f" | "final_layernorm" | "final_layer_norm" | "norm_f" | "embedding_norm" => "output_norm",
        "lm_head" | "output_layer" | "embed_out" => "output",
        "wpe" => "position_embd",
        "word_embeddings_layernorm" => "token_embd_norm",
        "embed_tokens_per_layer" => "per_layer_token_embd",
        "per_layer_model_projection" => "per_layer_model_proj",
        "per_layer_projection_norm" => "per_layer_proj_norm",
        _ => return None,
    })
}

/// Norms, whose place depends on the architecture.
fn norm(architecture: &str, stem: &str) -> Option<&'static str> {
    const AFTER_ATTENTION: &[&str] = &[
        "gemma2",
        "gemma3",
        "gemma4",
        "olmo2",
        "exaone4",
        "glm4moe",
        "qwen3next",
        "qwen35",
        "qwen35moe",
        "gpt-oss",
        "seed_oss",
    ];
    Some(match (stem, architecture) {
        ("ln_attn", "falcon") => "attn_norm_2",
        ("ln_mlp", "falcon") | ("norm", "nemotron_h" | "nemotron_h_moe") => "attn_norm",
        ("input_layernorm" | "ln_1" | "operator_norm", _) => "attn_norm",
        ("post_attention_layernorm", name) if AFTER_ATTENTION.contains(&name) => "post_attention_norm",
        ("post_attention_layernorm" | "ln_2" | "pre_feedforward_layernorm" | "pre_ff_layernorm" | "ffn_norm", _) => {
            "ffn_norm"
        }
        ("post_feedforward_layernorm", _) => "post_ffw_norm",
        ("post_feedforward_layernorm_1", _) => "post_ffw_norm_1",
        ("post_feedforward_layernorm_2", _) => "post_ffw_norm_2",
        ("pre_feedforward_layernorm_2", _) => "pre_ffw_norm_2",
        ("post_per_layer_input_norm", _) => "post_norm",
        ("norm", "mamba") => "attn_norm",
        ("self_attn.q_norm" | "self_attn.q_layernorm", _) => "attn_q_norm",
        ("self_attn.k_norm" | "self_attn.k_layernorm", _) => "attn_k_norm",
        ("self_attn.q_a_layernorm", _) => "attn_q_a_norm",
        ("self_attn.kv_a_layernorm", _) => "attn_kv_a_norm",
        ("mamba.dt_layernorm", _) => "ssm_dt_norm",
        ("mamba.b_layernorm", _) => "ssm_b_norm",
        ("mamba.c_layernorm", _) => "ssm_c_norm",
        ("mixer.norm" | "mamba.norm" | "linear_attn.norm", _) => "ssm_norm",
        ("self_attn.indexer.k_norm", _) => "indexer.k_norm",
        _ => return None,
    })
}

/// Projections that keep their shape.
fn plain(architecture: &str, stem: &str) -> Option<&'static str> {
    Some(match stem {
        "self_attn.q_proj" | "mixer.q_proj" => "attn_q",
        "self_attn.k_proj" | "mixer.k_proj" => "attn_k",
        "self_attn.v_proj" | "mixer.v_proj" => "attn_v",
        "self_attn.o_proj"
        | "self_attn.out_proj"
        | "self_attn.dense"
        | "self_attention.dense"
        | "attention.dense"
        | "attn.c_proj"
        | "mixer.o_proj" => "attn_output",
        "self_attn.qkv_proj" | "attn.c_attn" | "self_attention.query_key_value" | "attention.query_key_value" => {
            "attn_qkv"
        }
        "self_attn.q_a_proj" => "attn_q_a",
        "self_attn.q_b_proj" => "attn_q_b",
        "self_attn.kv_a_proj_with_mqa" => "attn_kv_a_mqa",
        "self_attn.kv_b_proj" if architecture == "minicpm3" => "attn_kv_b",
        "self_attn.sinks" => "attn_sinks",
        "self_attn.indexer.wq_b" => "indexer.attn_q_b",
        "self_attn.indexer.wk" => "indexer.attn_k",
        "self_attn.indexer.weights_proj" => "indexer.proj",
        "mlp.w1" => "ffn_up",
        "mlp.w2" => "ffn_gate",
        "mlp.gate_proj" | "feed_forward.gate_proj" | "feed_forward.w1" | "shared_mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj"
        | "mlp.gate_up_proj"
        | "mlp.fc1"
        | "mlp.c_fc"
        | "mlp.dense_h_to_4h"
        | "feed_forward.up_proj"
        | "feed_forward.w3"
        | "mixer.up_proj" => "ffn_up",
        "mlp.down_proj"
        | "mlp.fc2"
        | "mlp.c_proj"
        | "mlp.dense_4h_to_h"
        | "feed_forward.down_proj"
        | "feed_forward.w2"
        | "mixer.down_proj" => "ffn_down",
        "mlp.gate"
        | "mlp.router"
        | "block_sparse_moe.router"
        | "block_sparse_moe.router.layer"
        | "block_sparse_moe.gate"
        | "feed_forward.router"
        | "mixer.gate" => "ffn_gate_inp",
        "mlp.shared_expert_gate" => "ffn_gate_inp_shexp",
        "router.proj" => "ffn_gate_inp",
        "per_layer_input_gate" => "inp_gate",
        "per_layer_projection" => "proj",
        "mixer.fc1_latent_proj" => "ffn_latent_down",
        "mixer.fc2_latent_proj" => "ffn_latent_up",
        _ => return shared(stem).or_else(|| recurrent(stem)),
    })
}

/// Experts that see every token.
fn shared(stem: &str) -> Option<&'static str> {
    let (_, rest) = stem.split_once("shared_expert")?;
    Some(match rest.trim_start_matches('s') {
        ".gate_proj" => "ffn_gate_shexp",
        ".up_proj" => "ffn_up_shexp",
        ".down_proj" => "ffn_down_shexp",
        _ => return None,
    })
}

/// Projections of recurrent mixers.
fn recurrent(stem: &str) -> Option<&'static str> {
    Some(match stem {
        "conv.conv" => "shortconv.conv",
        "conv.in_proj" => "shortconv.in_proj",
        "conv.out_proj" => "shortconv.out_proj",
        "mixer.in_proj" | "mamba.in_proj" => "ssm_in",
        "mixer.conv1d" | "mamba.conv1d" | "linear_attn.conv1d" => "ssm_conv1d",
        "mixer.x_proj" | "mamba.x_proj" => "ssm_x",
        "mixer.dt_proj" | "mamba.dt_proj" => "ssm_dt",
        "mixer.out_proj" | "mamba.out_proj" | "linear_attn.out_proj" => "ssm_out",
        "linear_attn.in_proj_ba" => "ssm_ba",
        "linear_attn.in_proj_a" => "ssm_alpha",
        "linear_attn.in_proj_b" => "ssm_beta",
        "linear_attn.in_proj_z" => "attn_gate",
        "linear_attn.in_proj_qkv" => "attn_qkv",
        _ => return None,
    })
}

/// Lines that become several tensors, or whose name has no suffix.
fn special(architecture: &str, inside: &str) -> Option<Vec<Piece>> {
    let piece = |name: &str, cut| Piece { name: format!("blk.{{i}}.{name}"), cut };
    let granite_shared = architecture == "granitehybrid" || architecture == "granitemoe";
    Some(match inside {
        "layer_scalar" => vec![piece("layer_output_scale.weight", Cut::Whole)],
        "router.scale" => vec![piece("ffn_gate_inp.scale", Cut::Whole)],
        "router.per_expert_scale" => vec![piece("ffn_down_exps.scale", Cut::Whole)],
        "experts.gate_up_proj" if architecture == "gemma4" => vec![piece("ffn_gate_up_exps.weight", Cut::Whole)],
        "mixer.experts.up_proj" => vec![piece("ffn_up_exps.weight", Cut::Whole)],
        "mixer.experts.down_proj" => vec![piece("ffn_down_exps.weight", Cut::Whole)],
        name if name.ends_with("experts.gate_up_proj") => {
            vec![piece("ffn_gate_exps.weight", Cut::HalfOfExperts), piece("ffn_up_exps.weight", Cut::HalfOfExperts)]
        }
        name if name.ends_with("experts.gate_up_proj_bias") => {
            vec![piece("ffn_gate_exps.bias", Cut::HalfOfBias), piece("ffn_up_exps.bias", Cut::HalfOfBias)]
        }
        name if name.ends_with("experts.down_proj_bias") => vec![piece("ffn_down_exps.bias", Cut::BiasOfExperts)],
        name if name.ends_with("experts.{i}.gate_proj.weight") => {
            vec![piece("ffn_gate_exps.weight", Cut::HalfOfExperts)]
        }
        name if name.ends_with("experts.{i}.up_proj.weight") => vec![piece("ffn_up_exps.weight", Cut::HalfOfExperts)],
        name if name.ends_with("experts.{i}.down_proj.weight") => vec![piece("ffn_down_exps.weight", Cut::Experts)],
        name if name.ends_with("experts.down_proj") => vec![piece("ffn_down_exps.weight", Cut::Experts)],
        name if name.ends_with(".experts.up_proj") => vec![piece("ffn_up_exps.weight", Cut::HalfOfExperts)],
        name if name.ends_with("e_score_correction_bias") => vec![piece("exp_probs_b.bias", Cut::Whole)],
        "shared_mlp.input_linear.weight" if granite_shared => {
            vec![piece("ffn_gate_shexp.weight", Cut::HalfOfBias), piece("ffn_up_shexp.weight", Cut::HalfOfBias)]
        }
        "shared_mlp.output_linear.weight" if granite_shared => vec![piece("ffn_down_shexp.weight", Cut::Whole)],
        "self_attn.kv_b_proj.weight" if architecture != "minicpm3" => {
            vec![piece("attn_k_b.weight", Cut::LatentKeys), piece("attn_v_b.weight", Cut::LatentValues)]
        }
        "self_attn.W_pack.weight" => vec![
            piece("attn_q.weight", Cut::Queries),
            piece("attn_k.weight", Cut::KeysOrValues),
            piece("attn_v.weight", Cut::KeysOrValues),
        ],
        "linear_attn.in_proj_qkvz.weight" => {
            vec![piece("attn_qkv.weight", Cut::DeltaQkv), piece("attn_gate.weight", Cut::DeltaGate)]
        }
        name if name.ends_with(".A_log") => vec![piece("ssm_a", Cut::Whole)],
        "mixer.D" | "mamba.D" => vec![piece("ssm_d", Cut::Whole)],
        name if name.ends_with(".dt_bias") => vec![piece("ssm_dt.bias", Cut::Whole)],
        _ => return None,
    })
}
