//! What is this model, and what is built in?

use std::borrow::Cow;

use plimsoll_facts::catalogue as built_in;
use plimsoll_facts::gguf::GgmlType;
use plimsoll_facts::model::{Attention, AttentionKind, Ffn, Layer, Mixer, Model, Recurrent, Span};
use plimsoll_facts::quant::{Scale, Scheme};
use plimsoll_facts::tensor::{Layers, Part, Tensor};
use plimsoll_plan::Item;
use serde_json::Value;

use crate::answer::{CatalogueAnswer, InspectAnswer, KvAtAnswer, LayerRun, StoredLine, TensorLine};
use crate::heads::head;
use crate::plan::ENGINES;
use crate::{Desk, Error, InspectRequest};

/// Answers what a model is.
///
/// # Errors
/// [`Error::Facts`] and [`Error::World`] when it cannot be read or found.
pub fn inspect(request: &InspectRequest, desk: &Desk<'_>) -> Result<InspectAnswer, Error> {
    let loaded = desk.model(&request.model)?;
    let model = &loaded.model;
    let sum = |part: Part| -> u64 {
        model.tensors.iter().filter(|t| t.part == part && t.parameter).map(Tensor::total_elements).sum()
    };
    let stored = loaded
        .checkpoint
        .as_ref()
        .map_or_else(|| model.checkpoint_bytes().model.get(), |checkpoint| checkpoint.bytes.get());
    let numbers = model.tensors.iter().filter(|t| t.part != Part::Draft).map(Tensor::total_elements).sum::<u64>();
    let bits = stored as f64 * 8.0 / numbers.max(1) as f64;
    Ok(InspectAnswer {
        model: head(&loaded),
        architecture: model.architecture.clone(),
        hidden: model.hidden,
        vocabulary: model.vocabulary,
        max_positions: model.max_positions,
        tied: model.tied,
        tower_parameters: sum(Part::Tower),
        draft_parameters: sum(Part::Draft),
        checkpoint_bytes: Some(stored),
        bits_per_weight: model.quant.is_some().then(|| (bits * 1e4).round() / 1e4),
        files: loaded.checkpoint.as_ref().map(|checkpoint| checkpoint.lines.iter().map(stored_line).collect()),
        kv_bytes_per_token: model.kv_bytes_per_token(),
        state_bytes_per_sequence: model.state_bytes(),
        kv_growth: growth(model),
        layers: runs(model),
        tensors: model.tensors.iter().map(|tensor| line(model, tensor)).collect(),
        notes: model.notes.clone(),
    })
}

/// What a sequence's cache takes at powers of two and at the longest, where it does not simply grow with its tokens.
fn growth(model: &Model) -> Vec<KvAtAnswer> {
    if !model.cache_bends() {
        return Vec::new();
    }
    let longest = model.max_positions.clamp(1, 1 << 30);
    let lengths = (0..=30).map(|power| 1 << power).take_while(|tokens| *tokens < longest).chain([longest]);
    let at = |tokens| {
        let bytes = model.kv_bytes_of_sequence(tokens).saturating_add(model.state_bytes());
        KvAtAnswer { tokens, bytes }
    };
    lengths.map(at).collect()
}

/// One line of the inventory in the promised form.
fn line(model: &Model, tensor: &Tensor) -> TensorLine {
    let part = match tensor.part {
        Part::Text => "text",
        Part::Tower => "tower",
        Part::Draft => "draft",
    };
    TensorLine {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        count: tensor.count,
        layers: tensor.layers.to_string(),
        part: Cow::Borrowed(part),
        role: Cow::Borrowed(Item::of(tensor).name().trim_start_matches("weights.")),
        parameters: if tensor.parameter { tensor.total_elements() } else { 0 },
        format: format(model, tensor),
        bytes: Some(model.stored_bytes(tensor).get()),
    }
}

/// How a line is stored, in words: the dtype, or each scheme with its layers.
fn format(model: &Model, tensor: &Tensor) -> String {
    let plain = model.stored_dtype(tensor).name();
    let taken: u64 = tensor.quantised.iter().map(|(layers, _)| layers.len()).sum();
    let mut words: Vec<String> = tensor
        .quantised
        .iter()
        .map(|(layers, scheme)| match tensor.quantised.len() {
            1 if layers.len() == tensor.layers.len() => scheme_words(scheme),
            _ => format!("{} in {layers}", scheme_words(scheme)),
        })
        .collect();
    if words.is_empty() || (taken < tensor.layers.len()) {
        words.push(plain.to_owned());
    }
    words.join(", ")
}

/// A scheme in words.
fn scheme_words(scheme: &Scheme) -> String {
    let group = |group: &Option<u64>| group.map_or_else(String::new, |group| format!(" g{group}"));
    match scheme {
        Scheme::Gptq { bits, group: inputs, .. } => format!("gptq {bits}-bit{}", group(inputs)),
        Scheme::Awq { bits, group, .. } => format!("awq {bits}-bit g{group}"),
        Scheme::Fp8 { scale, .. } => format!("fp8 per {}", scale_words(scale)),
        Scheme::Int8 { scale, .. } => format!("int8 per {}", scale_words(scale)),
        Scheme::Packed { bits, group: inputs, .. } => format!("packed int{bits}{}", group(inputs)),
        Scheme::Bnb4 { .. } => "bitsandbytes 4-bit".to_owned(),
        Scheme::BnbInt8 => "bitsandbytes int8".to_owned(),
        Scheme::Ggml(kind) => kind.name().to_owned(),
        Scheme::Mxfp4 => "mxfp4".to_owned(),
        Scheme::Nvfp4 { .. } => "nvfp4".to_owned(),
    }
}

/// What shares a scale, in words.
fn scale_words(scale: &Scale) -> String {
    match scale {
        Scale::Tensor => "tensor".to_owned(),
        Scale::Channel => "channel".to_owned(),
        Scale::Block { rows, columns } => format!("{rows} x {columns}"),
    }
}

/// A line of a checkpoint's files in the promised form.
fn stored_line(line: &plimsoll_facts::checkpoint::Line) -> StoredLine {
    StoredLine {
        name: line.name.clone(),
        dtype: Cow::Borrowed(line.dtype.name()),
        shape: line.shape.clone(),
        count: line.count,
        layers: line.layers.to_string(),
        bytes: line.bytes.get(),
    }
}

/// Collects equal layers.
fn runs(model: &Model) -> Vec<LayerRun> {
    let mut kinds: Vec<(&Layer, Vec<u32>)> = Vec::new();
    for (at, layer) in model.layers.iter().enumerate() {
        let at = at as u32;
        match kinds.iter_mut().find(|(kind, _)| *kind == layer) {
            Some((_, at_layers)) => at_layers.push(at),
            None => kinds.push((layer, vec![at])),
        }
    }
    kinds
        .into_iter()
        .map(|(layer, at)| LayerRun {
            count: at.len() as u64,
            layers: Layers::of(at).to_string(),
            mixer: mixer(&layer.mixer),
            ffn: ffn(&layer.ffn),
        })
        .collect()
}

/// A mixer in words.
fn mixer(mixer: &Mixer) -> String {
    match mixer {
        Mixer::Attention(attention) => attention_words(attention),
        Mixer::Recurrent(recurrent) => recurrent_words(recurrent),
        Mixer::None => "no mixer".to_owned(),
    }
}

/// Attention in words.
fn attention_words(attention: &Attention) -> String {
    let kind = match &attention.kind {
        AttentionKind::Grouped { heads, kv_heads, key_dim, value_dim } if key_dim == value_dim => {
            format!(
                "attention, {heads} heads over {kv_heads} KV {} of {key_dim}",
                if *kv_heads == 1 { "head" } else { "heads" }
            )
        }
        AttentionKind::Grouped { heads, kv_heads, key_dim, value_dim } => {
            format!(
                "attention, {heads} heads over {kv_heads} KV {} of {key_dim} (keys) and {value_dim} (values)",
                if *kv_heads == 1 { "head" } else { "heads" }
            )
        }
        AttentionKind::Latent { heads, rank, rope_dim, indexer, compress, .. } => {
            let sparse = match indexer {
                Some(indexer) => format!(", sparse indexer {} x {}", indexer.heads, indexer.dim),
                None => String::new(),
            };
            let compressed = if *compress > 1 { format!(", one entry per {compress} tokens") } else { String::new() };
            format!("latent attention, {heads} heads, latent {rank} + {rope_dim}{sparse}{compressed}")
        }
    };
    let span = match attention.span {
        Span::Full => String::new(),
        Span::Window { tokens } => format!(", window {tokens}"),
        Span::Chunk { tokens } => format!(", chunks of {tokens}"),
        Span::Summary { window } => format!(", window {window} and compressed entries before it"),
        Span::Cross => ", over the encoder's output".to_owned(),
    };
    let shared = attention.shares_cache_of.map(|layer| format!(", reads the cache of layer {layer}"));
    format!("{kind}{span}{}", shared.unwrap_or_default())
}

/// A recurrent mixer in words.
fn recurrent_words(recurrent: &Recurrent) -> String {
    match recurrent {
        Recurrent::Mamba1 { inner, state, .. } => format!("Mamba, {inner} channels, state {state}"),
        Recurrent::Mamba2 { heads, head_dim, state, .. } => {
            format!("Mamba 2, {heads} heads of {head_dim}, state {state}")
        }
        Recurrent::GatedDelta { key_heads, value_heads, key_dim, value_dim, .. } => {
            format!("gated delta net, {key_heads} key heads of {key_dim}, {value_heads} value heads of {value_dim}")
        }
        Recurrent::KimiDelta { heads, key_dim, .. } => format!("Kimi delta attention, {heads} heads of {key_dim}"),
        Recurrent::Lightning { heads, head_dim } => format!("lightning attention, {heads} heads of {head_dim}"),
        Recurrent::ShortConv { width, kernel } => format!("short convolution, {width} channels, kernel {kernel}"),
    }
}

/// A feed-forward block in words.
fn ffn(ffn: &Ffn) -> String {
    match ffn {
        Ffn::Dense { inner, gated } => format!("{}MLP of {inner}", if *gated { "gated " } else { "" }),
        Ffn::Moe { experts, active, inner, shared_inner, dense_inner, .. } => {
            let shared = if *shared_inner > 0 { format!(" + shared {shared_inner}") } else { String::new() };
            let dense = if *dense_inner > 0 { format!(" + dense {dense_inner}") } else { String::new() };
            format!("{active} of {experts} experts of {inner}{shared}{dense}")
        }
        Ffn::None => "no MLP".to_owned(),
    }
}

/// Answers what is built in.
///
/// # Errors
/// [`Error::Request`] for a kind that is not `models`, `gpus`, `engines` or `formats`.
pub fn catalogue(kind: &str, desk: &Desk<'_>) -> Result<CatalogueAnswer, Error> {
    let (columns, rows): (&[&str], Vec<Vec<Value>>) = match kind {
        "models" => (
            &[
                "model",
                "type",
                "parameters",
                "active",
                "dtype",
                "quantization",
                "max_positions",
                "kv_bytes_per_token",
                "source",
            ],
            models(desk),
        ),
        "gpus" => (
            &[
                "gpu",
                "architecture",
                "marketed_gb",
                "runtime_total_gib",
                "bandwidth_gb_s",
                "bf16_tflops",
                "fp8_tflops",
                "source",
            ],
            gpus(),
        ),
        "engines" => (&["engine", "newest", "rules"], engines()),
        "formats" => (&["format", "stores", "bits_per_weight", "read_from"], formats()),
        other => {
            return Err(Error::Request(format!("no catalogue `{other}`; there are models, gpus, engines, formats")));
        }
    };
    let columns = columns.iter().map(|name| Cow::Owned((*name).to_owned())).collect();
    Ok(CatalogueAnswer { kind: Cow::Owned(kind.to_owned()), columns, rows })
}

/// One row per built-in model.
fn models(desk: &Desk<'_>) -> Vec<Vec<Value>> {
    built_in::model_ids()
        .filter_map(|id| desk.model(id).ok())
        .map(|loaded| {
            let model = &loaded.model;
            vec![
                model.id.clone().into(),
                model.model_type.clone().into(),
                loaded.parameters.into(),
                loaded.active_parameters.into(),
                model.dtype.name().into(),
                model.quant.as_ref().map(|quant| quant.method.clone()).into(),
                model.max_positions.into(),
                model.kv_bytes_per_token().into(),
                loaded.source.clone().into(),
            ]
        })
        .collect()
}

/// One row per built-in card.
fn gpus() -> Vec<Vec<Value>> {
    built_in::gpus()
        .map(|gpu| {
            let gib = gpu.total().map(|total| (total.bytes.as_gib() * 100.0).round() / 100.0);
            let tera = |rate: Option<f64>| rate.map(|rate| rate / 1e12);
            vec![
                gpu.name.clone().into(),
                gpu.architecture.clone().into(),
                gpu.marketed_gb.into(),
                gib.into(),
                gpu.bandwidth.map(|rate| rate / 1e9).into(),
                tera(gpu.rates.bf16).into(),
                tera(gpu.rates.fp8).into(),
                gpu.source.clone().into(),
            ]
        })
        .collect()
}

/// One row per engine.
fn engines() -> Vec<Vec<Value>> {
    ENGINES.iter().map(|row| vec![row.name.into(), row.default.to_string().into(), row.rules.into()]).collect()
}

/// One row per storage format.
fn formats() -> Vec<Vec<Value>> {
    const FORMATS: [(&str, &str, &str, &str); 12] = [
        ("fp32 / fp16 / bf16", "plain numbers", "32 / 16 / 16", "torch_dtype"),
        (
            "fp8, per tensor or channel",
            "e4m3 + fp32 or bf16 scales",
            "8",
            "quantization_config: fp8, modelopt FP8, compressed-tensors",
        ),
        (
            "fp8, block scales",
            "e4m3 + one fp32 scale per 128 x 128",
            "8.002",
            "quantization_config: fp8 with weight_block_size",
        ),
        ("int8 (w8a8)", "int8 + one scale per output", "8", "compressed-tensors int-quantized"),
        ("GPTQ", "packed int32 + scales + zeros + g_idx", "4.25 at group 128", "quantization_config: gptq"),
        ("AWQ", "packed int32 + scales + zeros", "4.25 at group 128", "quantization_config: awq"),
        (
            "compressed-tensors packed",
            "int32 words + scales (+ zeros)",
            "4.125 at group 128",
            "pack-quantized (w4a16, w8a16)",
        ),
        ("bitsandbytes NF4 / FP4", "two to a byte + absmax per 64", "4.13 to 4.5", "quantization_config: bitsandbytes"),
        ("bitsandbytes int8", "int8 + fp32 row statistics", "8", "quantization_config: bitsandbytes"),
        ("MXFP4", "two to a byte + one e8m0 scale per 32", "4.25", "quantization_config: mxfp4"),
        ("NVFP4", "two to a byte + one fp8 scale per 16 + fp32 per tensor", "4.5", "modelopt, compressed-tensors"),
        (
            "KV cache: bf16 / fp16 / fp8 / int8 / nvfp4",
            "engine's own layout",
            "16 / 16 / 8 / 8 / 4.5",
            "engine flags, kv_cache_scheme",
        ),
    ];
    let rows = FORMATS.iter().map(|(a, b, c, d)| vec![(*a).into(), (*b).into(), (*c).into(), (*d).into()]);
    let ggml = GgmlType::ALL.iter().map(|kind| {
        let (block, bytes) = (kind.block(), kind.block_bytes());
        let stores = match block {
            1 => format!("plain, {bytes} B each"),
            _ => format!("blocks of {block}, {bytes} B"),
        };
        vec![format!("ggml {kind}").into(), stores.into(), kind.bits_per_weight().to_string().into(), "GGUF".into()]
    });
    rows.chain(ggml).collect()
}
