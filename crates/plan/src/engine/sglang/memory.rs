//! Which chunk, which graphs and which fraction does a release choose for a card? The heuristics of
//! `--mem-fraction-static`, release by release, in MiB as nvidia-smi counts.

use plimsoll_facts::model::Model;

use super::defaults::{Chip, Latent, is_v4, latent};
use super::options::Options;
use crate::Version;

/// What the fraction depends on beside the card and the flags.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) multimodal: bool,
    pub(super) chunk: Option<u64>,
    pub(super) max_prefill: u64,
    pub(super) graph_nominal: u64,
    pub(super) prefill_shapes: u64,
    pub(super) max_running: Option<u64>,
}

const fn at(minor: u16, patch: u16) -> Version {
    Version::new(0, minor, patch)
}

/// Tokens of a chunk.
///
/// SGLang 0.4.6.post5 to 0.5.9, `srt/server_args.py`; 0.5.20 and 0.5.23, `srt/arg_groups/memory_hook.py`,
/// `handle_gpu_memory_settings`.
pub(super) fn chunk(version: Version, chip: &Chip, options: &Options) -> u64 {
    let mib = chip.mib;
    if version < at(4, 8) {
        return if version >= at(4, 7) && mib > 180_000.0 {
            16_384
        } else if mib < 25_000.0 {
            2048
        } else if options.disaggregation.is_some() {
            16_384
        } else {
            8192
        };
    }
    if mib < 20_480.0 {
        2048
    } else if mib < 35_840.0 {
        if version >= at(5, 20) { 4096 } else { 2048 }
    } else if mib < 61_440.0 {
        if version >= at(5, 3) { 4096 } else { 8192 }
    } else if mib < 163_840.0 {
        8192
    } else {
        16_384
    }
}

/// The largest decode graph, also where graphs are turned off.
///
/// Same files as [`chunk`]; until 0.5.2 160 came from `srt/model_executor/cuda_graph_runner.py`, with 256 above 96 GiB.
pub(super) fn graph_max(version: Version, chip: &Chip, options: &Options) -> u64 {
    if let Some(said) = options.graph_max {
        return said;
    }
    let mib = chip.mib;
    let few = options.tp < 4;
    if version < at(5, 3) {
        let small = if version < at(4, 8) { 25_000.0 } else { 35_840.0 };
        return if mib < small {
            if few { 8 } else { 80 }
        } else if mib > 98_304.0 {
            256
        } else {
            160
        };
    }
    let by_card = if mib < 20_480.0 {
        8
    } else if mib < 35_840.0 {
        match (version >= at(5, 20), version >= at(5, 5), few) {
            (true, _, true) => 48,
            (true, _, false) => 160,
            (false, true, true) => 24,
            (false, false, true) => 16,
            (false, _, false) => 80,
        }
    } else if mib < 61_440.0 {
        if few { 32 } else { 160 }
    } else if mib < 163_840.0 {
        if few { 256 } else { 512 }
    } else {
        512
    };
    match options.max_running {
        Some(most) if version >= at(5, 22) => by_card.min(most),
        Some(_) | None => by_card,
    }
}

/// Batches captured.
///
/// SGLang 0.5.23, `srt/arg_groups/cuda_graph_hook.py`, `generate_decode_cuda_graph_batch_sizes`; 0.5.3,
/// `srt/server_args.py`, `_generate_cuda_graph_batch_sizes` (which does not add the largest).
pub(super) fn captures(version: Version, options: &Options, max: u64, drafting: bool) -> Vec<u64> {
    if max == 0 {
        return Vec::new();
    }
    if let Some(sizes) = &options.graph_sizes {
        return sizes.clone();
    }
    let max = max.min(8192);
    let mut sizes: Vec<u64> = if options.no_graph_padding {
        (1..=max).collect()
    } else if drafting {
        let steps = (1..9).chain((10..33).step_by(2)).chain((40..65).step_by(4)).chain((72..257).step_by(8));
        steps.chain((272..=max).step_by(16)).collect()
    } else {
        let steps = [1, 2, 4, 8, 12].into_iter().chain((16..257).step_by(8)).chain((272..512).step_by(16));
        steps.chain((512..=max).step_by(32)).collect()
    };
    sizes.retain(|size| *size <= max);
    if version >= at(5, 6) && !sizes.contains(&max) {
        sizes.push(max);
    }
    sizes
}

/// Prefill shapes that are captured; none where the release or the launch turns them off.
///
/// SGLang 0.5.12, `srt/server_args.py`, `_handle_piecewise_cuda_graph`; 0.5.23, `srt/arg_groups/cuda_graph_hook.py`,
/// `disable_breakable_cudagraph_if_incompatible` and `generate_prefill_cuda_graph_batch_sizes`.
pub(super) fn prefill_shapes(
    version: Version,
    chip: &Chip,
    model: &Model,
    options: &Options,
    chunk: Option<u64>,
    multimodal: bool,
    backend: &str,
) -> u64 {
    let wanted = match options.prefill_graphs {
        Some(said) => said && version >= at(5, 6),
        None => version >= at(5, 10) && by_default(version, chip, model, options, multimodal, backend),
    };
    if !wanted {
        return 0;
    }
    let chunk = chunk.unwrap_or(0);
    let latent = latent(model) != Latent::No;
    let ceiling = match (latent, version >= at(5, 23)) {
        _ if version < at(5, 8) => 4096,
        (false, _) => chunk,
        (true, true) => chunk.min(8192),
        (true, false) => 2048,
    };
    let mut most = options.prefill_graph_max.unwrap_or(ceiling);
    if options.prefill_graph_max.is_none() {
        most = most.min(options.max_total_tokens.unwrap_or(u64::MAX));
        if model.id.to_ascii_lowercase().contains("llama-2") {
            most = most.min(4096);
        }
    }
    if version >= at(5, 14) && version < at(5, 20) {
        most = most.min(options.context_length.unwrap_or(u64::MAX));
    }
    shapes(most)
}

/// Counts 4..32 step 4, 48..256 step 16, 288..512 step 32, 576..1024 step 64, 1280..4096 step 256, then step 512.
fn shapes(most: u64) -> u64 {
    let run = |first: u64, last: u64, step: u64| if most < first { 0 } else { (most.min(last) - first) / step + 1 };
    run(4, 32, 4)
        + run(48, 256, 16)
        + run(288, 512, 32)
        + run(576, 1024, 64)
        + run(1280, 4096, 256)
        + run(4608, u64::MAX, 512)
}

/// Whether prefill graphs are captured when the launch does not say.
fn by_default(
    version: Version,
    chip: &Chip,
    model: &Model,
    options: &Options,
    multimodal: bool,
    backend: &str,
) -> bool {
    let breakable = version >= at(5, 18);
    let always_off = chip.rocm
        || options.pp > 1
        || options.no_decode_graphs && options.given.get("disable_cuda_graph").is_some()
        || options.disaggregation.as_deref() == Some("decode")
        || (latent(model) == Latent::Plain && backend == "trtllm_mla" && version >= at(5, 13))
        || is_v4(model)
        || multimodal;
    if always_off {
        return false;
    }
    if breakable {
        let known = options.a2a.as_deref().is_none_or(|name| matches!(name, "deepep" | "megamoe" | "flashinfer"));
        return known && model.model_type != "kimi_linear";
    }
    let gguf = options.given.get("load_format").and_then(|value| value.as_str()) == Some("gguf");
    let on = |key: &str| options.given.get(key).and_then(crate::engine::read::truth).unwrap_or(false);
    !(options.dp_attention
        || options.torch_compile
        || options.a2a.is_some()
        || options.lora.is_some()
        || gguf
        || options.cpu_offload.get() > 0
        || options.hierarchical
        || on("enable_deterministic_inference")
        || on("enable_eplb")
        || options.disaggregation.is_some()
        || options.symm_mem.is_some())
}

/// The default fraction.
pub(super) fn fraction(version: Version, chip: &Chip, model: &Model, options: &Options, facts: &Facts) -> f64 {
    let post_capture = options.post_capture && version >= at(5, 17) && latent(model) == Latent::No;
    let base = if version < at(4, 8) {
        by_ranks(version, chip, options)
    } else if version < at(5, 3) {
        rounded(chip.mib, by_size(chip, options))
    } else if post_capture {
        rounded(chip.mib, 1536.0 + f64::from(options.tp) * f64::from(options.pp) / 8.0 * 1024.0)
    } else {
        rounded(chip.mib, by_work(version, chip, model, options, facts))
    };
    let vision = version >= at(4, 8) && facts.multimodal && options.disaggregation.as_deref() != Some("decode");
    match (vision, post_capture) {
        (true, true) => base - 8192.0 / chip.mib,
        (true, false) => base * vision_factor(model).unwrap_or(1.0),
        (false, _) => base,
    }
}

/// `round((mib - reserved) / mib, 3)` as Python rounds.
fn rounded(mib: f64, reserved: f64) -> f64 {
    let share = (mib - reserved) / mib;
    let scaled = share * 1000.0;
    let even = if (scaled.fract() - 0.5).abs() < 1e-9 { (scaled / 2.0).round() * 2.0 } else { scaled.round() };
    even / 1000.0
}

/// 0.4.6 and 0.4.7: by the number of ranks.
///
/// SGLang 0.4.6.post5 and 0.4.7, `srt/server_args.py`, `__post_init__`.
fn by_ranks(version: Version, chip: &Chip, options: &Options) -> f64 {
    let ranks = u64::from(options.tp) * u64::from(options.pp);
    let drafting = options.speculative.is_some() && version >= at(4, 7);
    let base = if chip.mib <= 81_920.0 {
        match ranks {
            16.. => 0.79,
            8..16 => 0.81,
            4..8 => 0.85,
            2..4 => 0.87,
            0..2 => 0.88,
        }
    } else {
        0.88
    };
    if version >= at(4, 7) && chip.mib > 180_000.0 && !chip.rocm {
        0.79
    } else if chip.mib > 98_304.0 {
        let reserve = if drafting { 20_480.0 } else { 18_432.0 };
        (base + 49_152.0 * (1.0 - base) / chip.mib).min((chip.mib - reserve) / chip.mib)
    } else if drafting {
        base * 0.95
    } else {
        base
    }
}

/// 0.4.8 to 0.5.2: a reserve in GiB by the card's size.
///
/// SGLang 0.5.2, `srt/server_args.py`, `__post_init__`.
fn by_size(chip: &Chip, options: &Options) -> f64 {
    let ranks = f64::from(options.tp) * f64::from(options.pp);
    let gib = if chip.mib < 35_840.0 {
        2.8 + ranks / 10.0
    } else if chip.mib < 92_160.0 {
        9.5 + ranks / 2.0
    } else if chip.mib < 163_840.0 {
        12.0 + ranks / 2.0
    } else {
        32.0
    };
    let drafting = match options.speculative.as_ref().map(|said| said.algorithm.as_str()) {
        None => 0.0,
        Some("STANDALONE") => 6.0,
        Some(_) => 2.0,
    };
    let attention = if options.dp_attention { 4.0 } else { 0.0 };
    (gib + drafting + attention) * 1024.0
}

/// From 0.5.3: chunk × 1.5 + graphs × 2 and what grew around them.
///
/// SGLang 0.5.3 to 0.5.15, `srt/server_args.py`, `_handle_gpu_memory_settings`; 0.5.23, `srt/arg_groups/memory_hook.py`,
/// `handle_gpu_memory_settings` and `reserve_for_graph_mb`.
fn by_work(version: Version, chip: &Chip, model: &Model, options: &Options, facts: &Facts) -> f64 {
    let wide = |count: u64| count as f64;
    let (tp, pp, dp) = (f64::from(options.tp), f64::from(options.pp), f64::from(options.dp));
    let role = options.disaggregation.as_deref().filter(|_| version >= at(5, 15));
    let (decodes, prefills) = (role != Some("prefill"), role != Some("decode"));
    let graph = wide(facts.graph_nominal);
    // Until 0.5.13 graphs were counted even where they are disabled.
    let graphs_on = version < at(5, 14) || !options.no_decode_graphs;
    let tokens = match (prefills, facts.chunk) {
        (false, _) => {
            let running = facts.max_running.filter(|_| options.max_running.is_some()).unwrap_or(facts.graph_nominal);
            running.max(1).saturating_mul(options.speculative.as_ref().and_then(|said| said.draft_tokens).unwrap_or(1))
        }
        (true, Some(chunk)) => chunk,
        (true, None) => facts.max_prefill,
    };
    let mut reserved = 512.0 + wide(tokens.max(2048)) * 1.5 + tp * pp / 8.0 * 1024.0;
    if decodes && graphs_on {
        reserved += graph * 2.0;
    }
    if options.dp_attention && decodes {
        reserved += graph * dp * 3.0;
        if graph > 300.0 {
            reserved += graph * dp * 1.5;
        }
    }
    let prefill = match facts.prefill_shapes {
        0 => 0.0,
        _ if version < at(5, 8) => 1024.0,
        _ if latent(model) != Latent::No && version >= at(5, 10) => 1536.0,
        shapes => wide(shapes) * 8.0,
    };
    // In 0.5.6 this came after the floor.
    let floor = |reserved: f64| if chip.mib > 61_440.0 { reserved.max(10_240.0) } else { reserved };
    reserved = if version < at(5, 8) {
        floor(reserved) + prefill
    } else {
        floor(reserved + if prefills { prefill } else { 0.0 })
    };
    reserved
        + match options.speculative.as_ref().map(|said| said.algorithm.as_str()) {
            None | Some("NGRAM") => 0.0,
            Some(_) if version >= at(5, 14) => 0.0,
            Some("STANDALONE") => 6144.0,
            Some(_) if version >= at(5, 10) => 4096.0,
            Some(_) => 2048.0,
        }
        + if options.a2a.as_deref() == Some("deepep") && version >= at(5, 15) && decodes && graphs_on {
            2048.0
        } else {
            0.0
        }
}

/// What a tower takes off the fraction: 0.95 × clamp(1 − (x − 1) / 10, 0.8, 1.05), x being its layers × width² over those of
/// ViT-L/14. `None` where the configuration has no `vision_config`.
///
/// SGLang 0.5.23, `srt/arg_groups/memory_hook.py`, `adjust_mem_fraction_for_vlm`: towers whose configuration calls the layers
/// `depth` are taken for 24.
fn vision_factor(model: &Model) -> Option<f64> {
    let tower = model.tower.as_ref()?;
    let depth = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen3_6", "glm4v", "glm_ocr", "ernie4_5"];
    let layers = if depth.iter().any(|name| model.model_type.starts_with(name)) { 24 } else { tower.layers };
    let width = if model.model_type == "qwen2_vl" { model.hidden } else { tower.hidden };
    let score = f64::from(layers) * (width as f64).powi(2) / (24.0 * 1024.0 * 1024.0);
    Some(0.95 * (1.0 - 0.1 * (score - 1.0)).clamp(0.8, 1.05))
}
