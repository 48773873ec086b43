//! What does each architecture's loader change about the common parameters?

use super::{Hparams, Indexer, Reader, Ssm, Swa};
use crate::Error;

/// Whether every layer keeps a recurrent state and nothing else (`llm_arch_is_recurrent`).
pub fn is_recurrent(arch: &str) -> bool {
    matches!(arch, "mamba" | "mamba2" | "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7")
}

/// Whether layers with a recurrent state and layers with a cache stand side by side (`llm_arch_is_hybrid`).
pub fn is_hybrid(arch: &str) -> bool {
    matches!(
        arch,
        "jamba"
            | "falcon-h1"
            | "plamo2"
            | "granitehybrid"
            | "lfm2"
            | "lfm2moe"
            | "nemotron_h"
            | "nemotron_h_moe"
            | "qwen3next"
            | "kimi-linear"
            | "bailingmoe3"
            | "kimi-k3"
            | "glm5-next"
            | "qwen35"
            | "qwen35moe"
            | "qwen4exp"
            | "deepseek4"
            | "minimax-01"
    )
}

/// Whether text is written by diffusion, all positions at once (`llm_arch_is_diffusion`).
pub fn is_diffusion(arch: &str) -> bool {
    matches!(arch, "dream" | "llada" | "llada-moe" | "rnd1")
}

/// Whether recurrent states can be rolled back to an earlier token (`llm_arch_supports_rs_rollback`).
pub fn supports_rollback(arch: &str) -> bool {
    matches!(
        arch,
        "kimi-k3"
            | "qwen35"
            | "qwen35moe"
            | "qwen4exp"
            | "deepseek4"
            | "glm5-next"
            | "nemotron_h"
            | "nemotron_h_moe"
            | "lfm2"
            | "lfm2moe"
            | "bailingmoe3"
    )
}

/// Applies an architecture's own rules.
pub(super) fn apply(h: &mut Hparams, reader: &Reader<'_>) -> Result<(), Error> {
    let arch = h.arch.clone();
    window(h, reader, &arch)?;
    latent(h, reader, &arch)?;
    recurrent(h, reader, &arch)?;
    sparse(h, reader, &arch)?;
    own(h, reader, &arch)
}

/// How a file's own pattern of windows is given.
enum Pattern {
    /// The file must list every layer.
    Listed,
    /// Every so many layers one without window, last (or first) of its period, unless the file says otherwise.
    Every { period: u64, full_first: bool },
}

/// Sets the sliding windows (`load_swa_pattern`, `set_swa_pattern`).
fn window(h: &mut Hparams, reader: &Reader<'_>, arch: &str) -> Result<(), Error> {
    let every = |period| Pattern::Every { period, full_first: false };
    let full_first = |period| Pattern::Every { period, full_first: true };
    let given = reader.maybe("attention.sliding_window")?;
    let needed = || reader.needed("attention.sliding_window");
    let (kind, size, pattern) = match arch {
        "afmoe" | "gemma3" | "mellum" | "olmo2" => (Swa::Standard, given.unwrap_or(0), every(period_of(arch))),
        "plamo3" => (Swa::Standard, given.unwrap_or(0), every(8)),
        "laguna" => (Swa::Standard, given.unwrap_or(0), full_first(4)),
        "smallthinker" => (Swa::Standard, given.map_or(0, |size| if size > 0 { 4096 } else { 0 }), full_first(4)),
        "modern-bert" => (Swa::Symmetric, given.unwrap_or(0), full_first(3)),
        "cohere2" | "muse-glimmer" => (Swa::Standard, needed()?, every(4)),
        "exaone-moe" => (Swa::Standard, needed()?, every(4)),
        "cohere2moe" => (Swa::Standard, needed()?, full_first(4)),
        "exaone4" if h.main_layers() != 64 => return Ok(()),
        "exaone4" => (Swa::Standard, given.unwrap_or(4096), every(4)),
        "gemma-embedding" => (Swa::Symmetric, needed()?, every(6)),
        "gemma2" => (Swa::Standard, given.unwrap_or(4096), every(2)),
        "gemma3n" => (Swa::Standard, needed()?, every(5)),
        "gpt-oss" => (Swa::Standard, needed()?, every(2)),
        "gemma4" | "gemma4-assistant" | "granite_swa" | "maple" | "mimo2" | "step35" | "spark2_5" | "dots3note" => {
            (Swa::Standard, needed()?, Pattern::Listed)
        }
        "llama4" => match given {
            Some(0) => return Ok(()),
            Some(_) | None => (Swa::Chunked, 8192, every(4)),
        },
        "deepseek4" => (Swa::Standard, needed()?, every(0)),
        "dflash" if reader.maybe("hyper_connection.count")?.unwrap_or(0) > 0 => (Swa::Standard, needed()?, every(0)),
        "dflash" => (Swa::Standard, given.unwrap_or(0), Pattern::Listed),
        // The window is that of every layer that attends.
        "lfm2" => (Swa::Standard, given.unwrap_or(0), every(0)),
        _ => return Ok(()),
    };
    if size == 0 {
        return Ok(());
    }
    (h.swa, h.window) = (kind, size);
    let count = h.layers.len();
    let (main, every_layer) = (h.main_layers(), matches!(arch, "deepseek4" | "dflash"));
    let listed = if arch == "deepseek4" || arch == "lfm2" { None } else { listed(reader, count)? };
    match (listed, pattern) {
        (Some(listed), _) => h.layers.iter_mut().zip(listed).for_each(|(layer, swa)| layer.swa = swa),
        (None, Pattern::Listed) => {
            return Err(reader.refuse(format!("key not found in model: {arch}.attention.sliding_window_pattern")));
        }
        (None, Pattern::Every { period, full_first }) => {
            let fixed = matches!(arch, "deepseek4" | "dflash" | "lfm2");
            let given = if fixed { None } else { reader.maybe("attention.sliding_window_pattern")? };
            let period = given.unwrap_or(period);
            for (at, layer) in h.layers.iter_mut().enumerate() {
                let place = (at as u64).checked_rem(period);
                let within = match (place, full_first) {
                    (None, _) => true,
                    (Some(place), true) => place != 0,
                    (Some(place), false) => place + 1 < period,
                };
                layer.swa = within && (at < main || every_layer);
            }
        }
    }
    Ok(())
}

/// The period of windows in architectures that need not have them.
fn period_of(arch: &str) -> u64 {
    if arch == "gemma3" { 6 } else { 4 }
}

/// The list of windows in a file.
fn listed(reader: &Reader<'_>, count: usize) -> Result<Option<Vec<bool>>, Error> {
    let Some(values) = reader.array("attention.sliding_window_pattern")? else { return Ok(None) };
    let mut values: Vec<bool> = values.into_iter().take(count).map(|value| value != 0).collect();
    values.resize(count, false);
    Ok(Some(values))
}

/// Reads latent attention's ranks and widths.
fn latent(h: &mut Hparams, reader: &Reader<'_>, arch: &str) -> Result<(), Error> {
    let absorbed_needed =
        matches!(arch, "bailingmoe3" | "dots3note" | "glm5-next" | "hy_v4" | "kimi-k3" | "kimi-linear");
    let absorbed_possible = matches!(arch, "deepseek2" | "deepseek32" | "glm-dsa" | "mistral4");
    h.lora_q = reader.maybe("attention.q_lora_rank")?.unwrap_or(0);
    h.lora_kv = reader.maybe("attention.kv_lora_rank")?.unwrap_or(0);
    if absorbed_needed {
        h.lora_kv = reader.needed("attention.kv_lora_rank")?;
        h.head_k_mla = reader.needed("attention.key_length_mla")?;
        h.head_v_mla = reader.needed("attention.value_length_mla")?;
    } else if absorbed_possible {
        h.lora_kv = reader.needed("attention.kv_lora_rank")?;
        h.head_k_mla = reader.maybe("attention.key_length_mla")?.unwrap_or(0);
        h.head_v_mla = reader.maybe("attention.value_length_mla")?.unwrap_or(0);
    }
    if arch == "dots3note" {
        h.lora_kv_swa = reader.needed("attention.kv_lora_rank_swa")?;
    }
    if matches!(arch, "glm5-next" | "kimi-k3") {
        h.head_v = h.lora_kv;
    }
    if (h.head_k_mla == 0) != (h.head_v_mla == 0) {
        return Err(reader.refuse("only one of key_length_mla and value_length_mla is there"));
    }
    Ok(())
}

/// Reads recurrent states and says which layers keep them.
fn recurrent(h: &mut Hparams, reader: &Reader<'_>, arch: &str) -> Result<(), Error> {
    let grouped = matches!(
        arch,
        "falcon-h1"
            | "granitehybrid"
            | "mamba2"
            | "nemotron_h"
            | "nemotron_h_moe"
            | "plamo2"
            | "qwen35"
            | "qwen35moe"
            | "qwen3next"
            | "qwen4exp"
    );
    if grouped || matches!(arch, "mamba" | "jamba") {
        h.ssm = Ssm {
            conv: reader.needed("ssm.conv_kernel")?,
            inner: reader.needed("ssm.inner_size")?,
            state: reader.needed("ssm.state_size")?,
            dt_rank: reader.needed("ssm.time_step_rank")?,
            groups: if grouped { reader.needed("ssm.group_count")? } else { 0 },
        };
    }
    if matches!(arch, "bailingmoe3" | "kimi-k3" | "kimi-linear" | "glm5-next") {
        h.ssm.conv = reader.needed("ssm.conv_kernel")?;
        h.kda_head = reader.needed("kda.head_dim")?;
    }
    if matches!(arch, "rwkv6" | "rwkv6qwen2" | "rwkv7" | "arwkv7") {
        h.wkv_head = reader.needed("wkv.head_size")?;
        h.token_shift = reader.maybe("token_shift_count")?.unwrap_or(2);
    }
    if matches!(arch, "lfm2" | "lfm2moe") {
        h.shortconv = reader.needed("shortconv.l_cache")?;
        if h.shortconv == 0 {
            return Err(reader.refuse("shortconv.l_cache is 0"));
        }
    }
    if arch == "minimax-01" {
        h.la_head = h.head_k;
    }
    let main = h.main_layers();
    match arch {
        "falcon-h1" => h.layers.iter_mut().for_each(|layer| layer.recurrent = true),
        "bailingmoe3" | "granitehybrid" | "jamba" | "kimi-k3" | "kimi-linear" | "glm5-next" | "plamo2" | "lfm2"
        | "lfm2moe" => h.layers.iter_mut().take(main).for_each(|layer| layer.recurrent = layer.heads_kv == 0),
        "nemotron_h" | "nemotron_h_moe" => {
            h.layers.iter_mut().take(main).for_each(|layer| layer.recurrent = layer.heads_kv == 0 && layer.ff == 0);
        }
        "qwen35" | "qwen35moe" | "qwen3next" | "qwen4exp" => interval(h, reader, 4)?,
        "minimax-01" => interval(h, reader, 8)?,
        _ => {}
    }
    if arch == "lfm2" {
        h.layers.iter_mut().for_each(|layer| layer.swa = layer.swa && !layer.recurrent);
    }
    Ok(())
}

/// Recurrent layers with one full attention every so many, or as the file lists them.
fn interval(h: &mut Hparams, reader: &Reader<'_>, or: u64) -> Result<(), Error> {
    let main = h.main_layers();
    if let Some(listed) = reader.layers("attention.recurrent_layers", h.layers.len())? {
        h.layers.iter_mut().zip(listed).for_each(|(layer, recurrent)| layer.recurrent = recurrent != 0);
        return Ok(());
    }
    let every = reader.maybe("full_attention_interval")?.unwrap_or(or);
    if every == 0 {
        return Err(reader.refuse("full_attention_interval is 0"));
    }
    for (at, layer) in h.layers.iter_mut().enumerate() {
        layer.recurrent = at < main && !(at as u64 + 1).is_multiple_of(every);
    }
    Ok(())
}

/// Reads the indexer of sparse attention, and which layers have one of their own.
fn sparse(h: &mut Hparams, reader: &Reader<'_>, arch: &str) -> Result<(), Error> {
    let needed =
        matches!(arch, "deepseek32" | "deepseek4" | "dots3note" | "glm-dsa" | "glm5-next" | "minimax-m3" | "qwen4exp");
    if !needed && arch != "hy_v4" {
        return Ok(());
    }
    let read = |key: &str| if needed { reader.needed(key) } else { Ok(reader.maybe(key)?.unwrap_or(0)) };
    h.indexer = Indexer {
        heads: read("attention.indexer.head_count")?,
        head_dim: read("attention.indexer.key_length")?,
        top_k: read("attention.indexer.top_k")?,
    };
    let main = h.main_layers();
    let listed = reader.layers("attention.indexer.types", main)?;
    let old = h.ctx_train < 1_048_576;
    for (at, layer) in h.layers.iter_mut().enumerate().take(main) {
        let built_in = match arch {
            // GLM 5.2 without a list: the first two, then every fourth.
            "glm-dsa" if !old => at < 2 || (at - 2).is_multiple_of(4),
            "glm-dsa" | "glm5-next" | "deepseek32" | "minimax-m3" | "qwen4exp" | "deepseek4" => true,
            _ => false,
        };
        layer.indexer = listed.as_ref().map_or(built_in, |listed| listed[at] != 0);
    }
    Ok(())
}

/// What only one architecture does.
fn own(h: &mut Hparams, reader: &Reader<'_>, arch: &str) -> Result<(), Error> {
    let count = h.layers.len();
    match arch {
        "hunyuan-dense" | "hunyuan_vl" if h.experts <= 1 => {
            h.experts = 0;
            h.layers.iter_mut().for_each(|layer| layer.experts_used = 0);
        }
        "wavtokenizer-dec" => {
            h.embd_out = h.embd;
            h.embd = reader.needed("features_length")?;
            h.embd_inp = h.embd;
        }
        "gemma3n" => h.kv_from_start = Some(20),
        "gemma4" => {
            let shared = reader.maybe("attention.shared_kv_layers")?.unwrap_or(0) as usize;
            h.kv_from_start = Some(count.saturating_sub(shared));
            h.embd_per_layer = reader.needed("embedding_length_per_layer_input")?;
        }
        "gemma4-assistant" => h.embd_inp = h.embd_out,
        "deepseek4" => deepseek4(h, reader)?,
        "qwen4exp" => {
            h.hyper = reader.needed("hyper_connection.count")?;
            h.embd_out = h.hyper.saturating_mul(h.embd);
        }
        "hy_v4" | "glm5-next" => h.hyper = reader.needed("hyper_connection.count")?,
        "laguna" => {
            h.experts_shared = reader.maybe("expert_shared_count")?.unwrap_or(1);
            if h.ff_shexp == 0 {
                h.ff_shexp = h.layers[0].ff_exp.saturating_mul(h.experts_shared);
            }
        }
        "bailingmoe3" if h.ff_shexp == 0 => {
            h.ff_shexp = h.layers[0].ff_exp.saturating_mul(h.experts_shared.max(1));
        }
        "step35" => h.rot /= 2,
        "graniteswitch" => router(h),
        "nanbeige" => loops(h, reader)?,
        "lfm2" => h.leading_dense = h.main_layers() as u64,
        "llama4" | "ernie4_5-moe" => h.moe_step = reader.needed("interleave_moe_layer_step")?,
        "nemotron_h" | "nemotron_h_moe" => h.expert_latent = reader.maybe("moe_latent_size")?.unwrap_or(0),
        "kimi-k3" => h.expert_latent = reader.maybe("expert_latent_length")?.unwrap_or(0),
        "t5" => {
            let layers = reader.maybe("decoder_block_count")?.map_or(count, |layers| layers as usize);
            h.decoder_layers = layers.min(super::MAX_LAYERS as usize);
        }
        "gemma2" => h.soft_cap = true,
        "dream" | "llada" | "llada-moe" | "rnd1" | "gemma-embedding" => h.causal = false,
        "bloom" | "refact" | "jina-bert-v2" => h.alibi = true,
        "baichuan" => h.alibi = h.main_layers() == 40,
        "mpt" | "jais" => h.alibi = reader.positive("attention.max_alibi_bias")?,
        "qwen3vl" | "qwen3vlmoe" => {
            let beside = reader.maybe("n_deepstack_layers")?.unwrap_or(0);
            h.embd_inp = h.embd.saturating_mul(beside.saturating_add(1));
        }
        "granite" | "granite_swa" => h.embd_inp = h.embd.saturating_mul(1 + reader.stacked()?),
        _ => {}
    }
    Ok(())
}

/// DeepSeek-4: streams of the residual, ratios of compression; drafting layers only where their tensors are.
fn deepseek4(h: &mut Hparams, reader: &Reader<'_>) -> Result<(), Error> {
    if h.nextn > 0 && !reader.has_tensor(&format!("blk.{}.nextn.eh_proj.weight", h.main_layers())) {
        h.nextn = 0;
    }
    h.hyper = reader.needed("hyper_connection.count")?;
    h.embd_out = h.hyper.saturating_mul(h.embd);
    let Some(ratios) = reader.array("attention.compress_ratios")? else {
        return Err(reader.refuse("key not found in model: deepseek4.attention.compress_ratios"));
    };
    h.layers.iter_mut().zip(ratios).for_each(|(layer, ratio)| layer.compress_ratio = ratio);
    Ok(())
}

/// A layer of one head behind the others, which only routes adapters; it takes the drafting layers' place.
fn router(h: &mut Hparams) {
    let real = h.main_layers();
    h.layers.truncate(real);
    h.layers.push(super::Layer { heads: 1, heads_kv: 1, ..super::Layer::default() });
    (h.router_layer, h.nextn) = (Some(real), 1);
}

/// Layers that run several times, each time with a cache of their own.
fn loops(h: &mut Hparams, reader: &Reader<'_>) -> Result<(), Error> {
    let loops = reader.maybe("num_loops")?.unwrap_or(1);
    let all = loops.saturating_mul(h.layers.len() as u64);
    if loops == 0 || all > super::MAX_LAYERS {
        return Err(reader.refuse(format!("num_loops is {loops}, which makes {all} layers")));
    }
    let once = h.layers.clone();
    h.layers = once.iter().copied().cycle().take(all as usize).collect();
    Ok(())
}
