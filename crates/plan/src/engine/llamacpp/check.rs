//! Do a file's metadata and tensors belong together? What the loader would refuse, found before anything is planned.
//!
//! Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`create_tensor_qkv`), `src/llama-model-loader.cpp`
//! (`check_tensor_dims`, `done_getting_tensors`), `src/llama-arch.cpp` (`LLM_TENSOR_NAMES`), `src/models/*.cpp`.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_facts::gguf::{Gguf, TensorInfo, Value, is_known};

use super::hparams::Hparams;
use crate::Error;

/// The tensors of a layer, without `blk.N.` and `.weight`.
const IN_LAYER: &str = "\
    altup_correct_coef altup_correct_scale altup_predict_coef altup_router altup_router_norm attn_compressor_ape \
    attn_compressor_gate attn_compressor_kv attn_compressor_norm attn_conv_base attn_conv_proj attn_gate attn_k \
    attn_k_b attn_k_norm attn_kv attn_kv_a_mqa attn_kv_a_norm attn_kv_b attn_norm attn_norm_2 attn_o attn_output \
    attn_output_a attn_output_b attn_output_norm attn_q attn_q_a attn_q_a_norm attn_q_b attn_q_norm attn_qkv \
    attn_rel_b attn_res_score attn_rot_embd attn_sinks attn_sub_norm attn_v attn_v_b channel_mix_key \
    channel_mix_lerp_k channel_mix_lerp_r channel_mix_receptance channel_mix_value cross_attn_k cross_attn_norm \
    cross_attn_o cross_attn_q cross_attn_rel_b cross_attn_v exp_probs_b exp_probs_b_vl ffn.act ffn_conv_base \
    ffn_conv_proj ffn_down ffn_down ffn_down_chexps ffn_down_exps ffn_down_shexp ffn_gate ffn_gate \
    ffn_gate_chexps ffn_gate_exps ffn_gate_inp ffn_gate_inp_shexp ffn_gate_shexp ffn_gate_tid2eid ffn_gate_up_exps \
    ffn_latent_down ffn_latent_up ffn_norm ffn_norm_exps ffn_res_score ffn_routed_down ffn_routed_norm ffn_routed_up \
    ffn_sub_norm ffn_up ffn_up ffn_up_chexps ffn_up_exps ffn_up_shexp hc_attn_base hc_attn_down hc_attn_fn \
    hc_attn_inject hc_attn_norm hc_attn_scale hc_attn_up hc_ffn_base hc_ffn_down hc_ffn_fn hc_ffn_inject hc_ffn_norm \
    hc_ffn_scale hc_ffn_up indexer.attn_k indexer.attn_q_b indexer.k_norm indexer.k_proj indexer.proj indexer.q_norm \
    indexer.q_proj indexer_compressor_ape indexer_compressor_gate indexer_compressor_kv indexer_compressor_norm \
    inp_gate laurel_l laurel_post_norm laurel_r layer_output_norm layer_output_scale nextn.eh_proj \
    nextn.embed_tokens nextn.enorm nextn.hnorm nextn.shared_head_head nextn.shared_head_norm ple_conv1d ple_key \
    ple_norm_conv ple_norm_key ple_norm_query ple_value post_attention_norm post_ffw_norm post_ffw_norm_1 \
    post_ffw_norm_2 post_norm pre_ffw_norm_2 proj shortconv.conv shortconv.in_proj shortconv.out_proj ssm_a \
    ssm_alpha ssm_b_norm ssm_ba ssm_beta ssm_c_norm ssm_conv1d ssm_conv1d_k ssm_conv1d_q ssm_conv1d_v ssm_d ssm_dt \
    ssm_dt_norm ssm_f_a ssm_f_b ssm_g ssm_g_a ssm_g_b ssm_in ssm_norm ssm_out ssm_x time_mix_a0 time_mix_a1 \
    time_mix_a2 time_mix_decay time_mix_decay_w1 time_mix_decay_w2 time_mix_first time_mix_g1 time_mix_g2 \
    time_mix_gate time_mix_k_a time_mix_k_k time_mix_key time_mix_lerp_fused time_mix_lerp_g time_mix_lerp_k \
    time_mix_lerp_r time_mix_lerp_v time_mix_lerp_w time_mix_lerp_x time_mix_ln time_mix_output time_mix_r_k \
    time_mix_receptance time_mix_v0 time_mix_v1 time_mix_v2 time_mix_value time_mix_w0 time_mix_w1 time_mix_w2 \
    vis_attn_output vis_attn_qkv vis_down vis_gate vis_up";

/// Architectures whose layers are laid out by rules of their own: tensors' heads are not checked.
const OWN_RULES: [&str; 22] = [
    "bailingmoe3",
    "deci",
    "deepseek32",
    "deepseek4",
    "dflash",
    "dots3note",
    "eagle3",
    "gemma4-assistant",
    "glm-dsa",
    "glm5-next",
    "graniteswitch",
    "hrm_text",
    "kimi-k3",
    "kimi-linear",
    "minimax-01",
    "muse-glimmer",
    "openelm",
    "plamo2",
    "pockettts",
    "qwen3tts",
    "spark2_5",
    "talkie",
];

/// Architectures whose layers are not called `blk.N`.
const OTHER_LAYERS: [&str; 3] = ["t5", "t5encoder", "wavtokenizer-dec"];

/// Architectures whose query projection holds a gate of the same width.
const GATED: [&str; 4] = ["qwen3next", "qwen35", "qwen35moe", "qwen4exp"];

type Block<'a> = BTreeMap<&'a str, &'a TensorInfo>;

/// Checks a file's metadata against its tensors.
///
/// # Errors
/// [`Error::Request`] names the file, the place, and what was expected there.
pub fn check(gguf: &Gguf) -> Result<(), Error> {
    let file = gguf.parts.first().map_or("GGUF", |part| part.name.as_str());
    let arch = gguf.architecture().map_err(|error| Error::Request(error.to_string()))?;
    if !is_known(arch) {
        let shown: String = arch.chars().take(60).collect();
        return Err(Error::Request(format!(
            "{file}: unknown model architecture: `{shown}`; llama.cpp 0c1e57098 has those of `LLM_ARCH_NAMES` in its \
             src/llama-arch.cpp (llama, qwen3, gemma3, …); `plimsoll inspect` still shows what the file holds"
        )));
    }
    let broken = |place: &str, why: String| {
        let cure = "llama.cpp refuses the file; convert it again, or mend the key with gguf_set_metadata.py";
        Error::Request(format!("{file}, {place}: {why}; {cure}"))
    };
    if gguf.tensors.is_empty() {
        return Err(broken("tensors", "there are none, only metadata (a vocabulary file?)".to_owned()));
    }
    let h = Hparams::read(gguf)?;
    if OTHER_LAYERS.contains(&arch) {
        return Ok(());
    }
    embedding(gguf, &h).map_err(|why| broken("tensor `token_embd.weight`", why))?;
    let blocks = blocks(gguf, &h).map_err(|(place, why)| broken(&place, why))?;
    let own = OWN_RULES.contains(&arch);
    for (at, block) in blocks.iter().enumerate() {
        let drafts = at >= h.main_layers();
        if block.is_empty() {
            if drafts || arch == "deci" {
                continue;
            }
            let why = format!("{} layers, but layer {at} has no tensor", blocks.len());
            return Err(broken(&format!("key `{arch}.block_count`"), why));
        }
        if !own {
            heads(&h, at, block).map_err(|(name, why)| broken(&format!("tensor `blk.{at}.{name}.weight`"), why))?;
        }
    }
    Ok(())
}

/// The token embedding: as wide as the model, a row for each token.
fn embedding(gguf: &Gguf, h: &Hparams) -> Result<(), String> {
    let Some(embedding) = gguf.tensor("token_embd.weight") else { return Err("it is absent".to_owned()) };
    let width = embedding.shape.first().copied().unwrap_or(0);
    if width != h.embd {
        return Err(format!("its rows hold {width} numbers, but `{}.embedding_length` is {}", h.arch, h.embd));
    }
    let listed = gguf.metadata.get("tokenizer.ggml.tokens").map(Value::len).filter(|count| *count > 0);
    match listed.filter(|count| *count != embedding.rows()) {
        Some(count) => Err(format!("it has {} rows, but `tokenizer.ggml.tokens` {count} tokens", embedding.rows())),
        None => Ok(()),
    }
}

/// Sorts tensors by layer.
fn blocks<'a>(gguf: &'a Gguf, h: &Hparams) -> Result<Vec<Block<'a>>, (String, String)> {
    let known: BTreeSet<&str> = IN_LAYER.split(' ').collect();
    let mut blocks = vec![Block::new(); h.layers.len()];
    for tensor in &gguf.tensors {
        let Some((number, name)) = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        let place = || format!("tensor `{}`", tensor.name.chars().take(80).collect::<String>());
        let Some(block) = number.parse::<usize>().ok().and_then(|number| blocks.get_mut(number)) else {
            return Err((place(), format!("`{}.block_count` is {}", h.arch, h.layers.len())));
        };
        // `ffn_up.3.weight` is one expert of an old file.
        let stem_ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        if !stem_ends.into_iter().any(|end| known.contains(&name[..end])) {
            return Err((place(), "llama.cpp 0c1e57098 has no tensor of this name".to_owned()));
        }
        if let Some(stem) = name.strip_suffix(".weight") {
            block.insert(stem, tensor);
        }
    }
    Ok(blocks)
}

/// The projections of attention: as many rows as the heads are wide together. And the pairs of the feed-forward block.
fn heads(h: &Hparams, at: usize, block: &Block<'_>) -> Result<(), (&'static str, String)> {
    for (one, other) in [("ffn_up", "ffn_down"), ("ffn_up_exps", "ffn_down_exps"), ("ffn_down_exps", "ffn_gate_inp")] {
        if block.contains_key(one) && !block.contains_key(other) {
            return Err((other, format!("it is absent, but `{one}` is there")));
        }
    }
    let Some(layer) = h.layers.get(at).filter(|layer| !layer.recurrent) else { return Ok(()) };
    let wide = if GATED.contains(&h.arch.as_str()) { 2 } else { 1 };
    let (k, v) = (h.k_gqa(at), h.v_gqa(at));
    let q_head = if h.is_mla() { h.head_k_mla } else { h.head_k(at) };
    let q = layer.heads.saturating_mul(q_head).saturating_mul(wide);
    let fused = q.saturating_add(k).saturating_add(v);
    for (name, expected, key, count) in [
        ("attn_q", q, "head_count", layer.heads),
        ("attn_k", k, "head_count_kv", layer.heads_kv),
        ("attn_v", v, "head_count_kv", layer.heads_kv),
        ("attn_qkv", fused, "head_count", layer.heads),
    ] {
        let Some(rows) = block.get(name).map(|tensor| tensor.rows()) else { continue };
        if rows != expected {
            let key = format!("`{}.attention.{key}` ({count})", h.arch);
            return Err((
                name,
                format!("it has {rows} rows, but by {key} and the heads' width it would have {expected}"),
            ));
        }
    }
    let has = |name: &str| block.contains_key(name);
    if layer.heads_kv > 0 && h.owns_kv(at) && !h.is_mla() && !has("attn_qkv") && !has("attn_kv_a_mqa") {
        for name in ["attn_q", "attn_k"] {
            if !has(name) {
                return Err((name, "it is absent, but the layer has heads".to_owned()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use plimsoll_facts::gguf::{Input, Value, read};

    use super::*;
    use crate::shared::shared;

    fn tinyllama() -> Gguf {
        let path = "tests/llamacpp_graph/tinyllama-1.1b-Q4_K_M.header.gguf";
        let bytes = std::fs::read(path).unwrap();
        let input = Input { name: "tiny.gguf".to_owned(), bytes: &mut bytes.as_slice(), length: None };
        read(vec![input]).unwrap()
    }

    #[test]
    fn what_the_loader_refuses_is_refused() {
        assert_eq!(check(&tinyllama()), Ok(()));
        for (key, value, says) in [
            ("llama.attention.head_count_kv", 0, "attn_k"),
            ("llama.attention.head_count_kv", 7, "attn_k"),
            ("llama.attention.head_count", 0, "attn_q"),
            ("llama.block_count", 23, "layer 22 has no tensor"),
            ("llama.block_count", 21, "block_count"),
            ("llama.embedding_length", 4096, "token_embd.weight"),
        ] {
            let mut gguf = tinyllama();
            gguf.metadata.insert(key.to_owned(), Value::U32(value));
            let error = check(&gguf).unwrap_err().to_string();
            assert!(error.contains(says), "{key} {value}: {error}");
        }
        let mut gguf = tinyllama();
        let at = gguf.tensors.iter().position(|tensor| tensor.name == "blk.3.attn_k.weight").unwrap();
        gguf.tensors[at].name = "blk.3.attn_x.weight".to_owned();
        assert!(check(&gguf).unwrap_err().to_string().contains("blk.3.attn_x.weight"));
        gguf.tensors.clear();
        assert!(check(&gguf).unwrap_err().to_string().contains("there are none"));
        let mut gguf = tinyllama();
        gguf.metadata.insert("general.architecture".to_owned(), Value::Text("qwenX".to_owned()));
        assert!(check(&gguf).unwrap_err().to_string().contains("unknown model architecture: `qwenX`"));
    }

    #[test]
    fn files_that_load_are_taken() {
        let mut seen = 0;
        for folder in [Some("tests/fixtures/llamacpp_graphs".into()), shared("data/gguf")].into_iter().flatten() {
            let entries = std::fs::read_dir(folder).unwrap();
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                if path.extension().is_none_or(|ending| ending != "gguf") {
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                let input = Input { name: path.display().to_string(), bytes: &mut bytes.as_slice(), length: None };
                let outcome = check(&read(vec![input]).unwrap());
                assert!(outcome.is_ok(), "{outcome:?}");
                seen += 1;
            }
        }
        assert!(seen >= 30, "{seen} files");
    }
}
