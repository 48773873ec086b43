//! In which memory does each tensor of the file lie, and what do the model's buffers take?
//!
//! Source: llama.cpp 0c1e57098, `src/llama-model.cpp` (`load_tensors`), `src/llama-model-loader.cpp` (`create_tensor`,
//! `get_mapping_range`), `src/llama-arch.cpp` (the layer and operation of each tensor),
//! `ggml/src/ggml-cpu/repack.cpp` (`ggml_repack_get_optimal_repack_type`).

use plimsoll_facts::gguf::{GgmlType, Gguf, TensorInfo};
use regex_lite::Regex;

use super::buffer::{Sums, Where, allocated};
use super::hparams::Hparams;

/// Where layers go.
#[derive(Clone, Debug)]
pub struct Offload {
    /// How many GPUs there are.
    pub gpus: usize,
    /// Layers on GPUs, the output counted (`n_gpu_layers`); `None` for all.
    pub layers: Option<u64>,
    /// The weight of each GPU: its free memory, or `--tensor-split`.
    pub shares: Vec<f32>,
    /// Tensors that go elsewhere, first match first.
    pub overrides: Vec<Override>,
    /// What the host does with its part.
    pub host: Host,
    /// Whether drafting layers are loaded.
    pub drafting: bool,
    /// Whether the output is the first layer to go (since 2025-12-15); before, it is the last.
    pub output_first: bool,
}

/// Tensors that go elsewhere (`--override-tensor`).
#[derive(Clone, Debug)]
pub struct Override {
    /// What their names contain.
    pub pattern: Regex,
    /// Where they go; the host means whichever of its memories suits.
    pub to: Where,
}

/// What the host does with its part of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The file is mapped rather than read.
    pub mapped: bool,
    /// Weights may be put in the order that suits the processor (`--no-repack` forbids).
    pub repack: bool,
    /// The host's memory is pinned for the first GPU (`--no-host` forbids).
    pub pinned: bool,
    /// The processor has AVX-512; without it 2-bit weights stay as they are.
    pub avx512: bool,
}

impl Default for Host {
    fn default() -> Self {
        Host { mapped: true, repack: true, pinned: true, avx512: true }
    }
}

/// Where everything lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The memory of each layer's own device: a GPU, or the host.
    pub layers: Vec<Where>,
    /// The same for the output.
    pub output: Where,
    /// The memory of each tensor, in the file's order; `None` for those that are not loaded.
    pub tensors: Vec<Option<Where>>,
    /// The memory of the copy of the embedding that serves as output, where there is one.
    pub tied: Option<Where>,
    /// Bytes in each memory, as allocated.
    pub sums: Sums,
    /// For a mapped file: the bytes from the first to the last tensor of the host, part by part.
    pub spans: Vec<u64>,
}

impl Placed {
    /// Returns how many layers lie on GPUs, the output counted.
    pub fn offloaded(&self) -> usize {
        let on = |place: &&Where| matches!(place, Where::Device(_));
        self.layers.iter().chain([&self.output]).filter(on).count()
    }
}

/// Architectures that never load drafting layers.
const NEVER_DRAFTING: [&str; 5] = ["bailingmoe2", "dots3note", "exaone-moe", "exaone4", "glm4"];
/// Architectures that load them when they are wanted.
const MAYBE_DRAFTING: [&str; 16] = [
    "bailingmoe3",
    "cohere2moe",
    "deepseek2",
    "deepseek32",
    "deepseek4",
    "glm-dsa",
    "glm4moe",
    "glm5-next",
    "hy_v3",
    "mimo2",
    "nemotron_h",
    "nemotron_h_moe",
    "qwen35",
    "qwen35moe",
    "qwen3next",
    "step35",
];
/// Architectures without an output matrix of any kind.
const NO_OUTPUT: [&str; 12] = [
    "bert",
    "clip",
    "dflash",
    "eagle3",
    "eurobert",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "wavtokenizer-dec",
];

/// What a tensor's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is looked up before the first layer.
    Input,
    /// It belongs to a layer.
    Layer(usize),
    /// Every layer that rotates has it, once in each memory.
    Rotation,
    /// It belongs to the output.
    Output,
}

/// Places a file's tensors.
pub fn place(gguf: &Gguf, h: &Hparams, offload: &Offload) -> Placed {
    let layers = layer_places(h, offload);
    let output = layers.last().copied().unwrap_or(Where::Host);
    let placer = Placer { h, offload, layers: &layers };
    let mut sums = Sums::default();
    let tensors: Vec<Option<Where>> = gguf
        .tensors
        .iter()
        .map(|tensor| placer.tensor(tensor))
        .map(|places| {
            places.iter().for_each(|(place, tensor)| sums.add(*place, size(*place, tensor)));
            places.first().map(|(place, _)| *place)
        })
        .collect();
    let tied = placer.tied(gguf);
    if let Some((place, embedding)) = tied {
        let already = gguf.tensors.iter().zip(&tensors).any(|(t, p)| t.name == embedding.name && *p == Some(place));
        if !already {
            sums.add(place, size(place, embedding));
        }
    }
    let spans = if offload.host.mapped { spans(gguf, &tensors) } else { Vec::new() };
    let repeating = layers[..layers.len().saturating_sub(1)].to_vec();
    Placed { layers: repeating, output, tensors, tied: tied.map(|(place, _)| place), sums, spans }
}

/// Returns what a tensor takes.
pub(super) fn size(place: Where, tensor: &TensorInfo) -> u64 {
    allocated(place, tensor.kind, tensor.shape.first().copied().unwrap_or(1), tensor.bytes())
}

/// Assigns layers to devices; the output is the last. The last layers go to GPUs, in the order of the GPUs, each taking
/// a part of them by its share.
fn layer_places(h: &Hparams, offload: &Offload) -> Vec<Where> {
    let count = h.layers.len() + 1;
    let wanted = offload.layers.map_or(count, |layers| usize::try_from(layers).unwrap_or(usize::MAX));
    let on_gpus = if offload.gpus == 0 { 0 } else { wanted.min(count) };
    // Older builds count the output after all other layers.
    let start = if offload.output_first { count - on_gpus } else { (count - 1).saturating_sub(on_gpus) };
    let splits = splits(offload);
    let place = |layer: usize| {
        if layer < start || layer - start >= on_gpus {
            return Where::Host;
        }
        let at = (layer - start) as f32 / on_gpus as f32;
        let device = splits.iter().position(|split| *split > at).unwrap_or(splits.len().saturating_sub(1));
        Where::Device(u8::try_from(device).unwrap_or(u8::MAX))
    };
    (0..count).map(place).collect()
}

/// Returns the shares, summed and over their total, in the engine's own precision. GPUs without a share of their own
/// get none (`common/arg.cpp`).
fn splits(offload: &Offload) -> Vec<f32> {
    let mut sum = 0.0_f32;
    let mut shares: Vec<f32> = (0..offload.gpus).map(|at| offload.shares.get(at).copied().unwrap_or(0.0)).collect();
    if shares.iter().all(|share| *share <= 0.0) {
        shares.fill(1.0);
    }
    shares.iter_mut().for_each(|share| {
        sum += share.max(0.0);
        *share = sum;
    });
    shares.iter().map(|share| share / sum).collect()
}

/// Finds the memory of tensors.
struct Placer<'a> {
    h: &'a Hparams,
    offload: &'a Offload,
    layers: &'a [Where],
}

impl Placer<'_> {
    /// Returns the memories of a tensor: none when it is not loaded, several for the rotation's factors.
    fn tensor<'t>(&self, tensor: &'t TensorInfo) -> Vec<(Where, &'t TensorInfo)> {
        let h = self.h;
        match part(&tensor.name, &h.arch) {
            Part::Layer(layer) if self.skipped(layer) => Vec::new(),
            Part::Layer(layer) => vec![(self.choose(tensor, self.layer(layer)), tensor)],
            Part::Input => vec![(self.choose(tensor, Where::Host), tensor)],
            Part::Output => vec![(self.choose(tensor, self.layer(h.layers.len())), tensor)],
            Part::Rotation => {
                let rotates = |layer: &usize| match h.arch.as_str() {
                    "gemma4" | "gemma4-assistant" => !h.is_swa(*layer),
                    "granitehybrid" => !h.is_recurrent(*layer),
                    _ => true,
                };
                let mut places: Vec<Where> = (0..h.layers.len())
                    .filter(|layer| rotates(layer) && !self.skipped(*layer))
                    .map(|layer| self.choose(tensor, self.layer(layer)))
                    .collect();
                places.sort_unstable();
                places.dedup();
                places.into_iter().map(|place| (place, tensor)).collect()
            }
        }
    }

    /// Whether a layer is a drafting one that is not loaded.
    fn skipped(&self, layer: usize) -> bool {
        let (h, arch) = (self.h, self.h.arch.as_str());
        let main = h.main_layers();
        layer >= main
            && h.nextn > 0
            && main > 0
            && (NEVER_DRAFTING.contains(&arch) || (MAYBE_DRAFTING.contains(&arch) && !self.offload.drafting))
    }

    fn layer(&self, layer: usize) -> Where {
        self.layers.get(layer).copied().unwrap_or(Where::Host)
    }

    /// The copy of the embedding that serves as output.
    fn tied<'g>(&self, gguf: &'g Gguf) -> Option<(Where, &'g TensorInfo)> {
        if NO_OUTPUT.contains(&self.h.arch.as_str()) || gguf.tensor("output.weight").is_some() {
            return None;
        }
        let embedding = gguf.tensor("token_embd.weight")?;
        let to = self.layer(self.h.layers.len());
        Some((self.choose_as(embedding, to, true), embedding))
    }

    fn choose(&self, tensor: &TensorInfo, device: Where) -> Where {
        self.choose_as(tensor, device, is_matrix(&tensor.name))
    }

    /// The memory of a tensor whose layer runs on a device.
    fn choose_as(&self, tensor: &TensorInfo, device: Where, matrix: bool) -> Where {
        let found = self.offload.overrides.iter().find(|o| o.pattern.is_match(&tensor.name));
        match found.map_or(device, |found| found.to) {
            Where::Device(number) if runs_on_gpu(tensor.kind) => Where::Device(number),
            Where::Pinned if self.offload.gpus > 0 => Where::Pinned,
            Where::Device(_) | Where::Pinned | Where::Host | Where::Repacked => self.on_host(tensor, matrix),
        }
    }

    /// The memory of the host that suits a tensor.
    fn on_host(&self, tensor: &TensorInfo, matrix: bool) -> Where {
        let host = self.offload.host;
        if self.offload.gpus > 0 && host.pinned && runs_on_gpu(tensor.kind) {
            // A mapped file is never copied into pinned memory.
            return if host.mapped { Where::Host } else { Where::Pinned };
        }
        if host.repack && matrix && repacks(tensor, host.avx512) { Where::Repacked } else { Where::Host }
    }
}

/// Whether CUDA multiplies by weights of a type.
fn runs_on_gpu(kind: GgmlType) -> bool {
    !matches!(kind, GgmlType::Tq1_0 | GgmlType::Tq2_0)
}

/// Whether an x86 processor with AVX2 has kernels for a matrix in its own order.
fn repacks(tensor: &TensorInfo, avx512: bool) -> bool {
    let experts = is_experts(&tensor.name);
    let sides = tensor.shape.iter().rposition(|side| *side > 1).map_or(1, |last| last + 1);
    let rows = tensor.shape.get(1).copied().unwrap_or(1);
    let always = [GgmlType::Q4_0, GgmlType::Q4K, GgmlType::Iq4Nl, GgmlType::Mxfp4];
    let kind = always.contains(&tensor.kind) || (tensor.kind == GgmlType::Q2K && avx512);
    kind && rows.is_multiple_of(8) && sides == if experts { 3 } else { 2 }
}

/// Whether a tensor is the weights of routed experts.
fn is_experts(name: &str) -> bool {
    name.ends_with("exps.weight")
}

/// Whether a tensor is a matrix by which something is multiplied, rather than rows that are looked up.
fn is_matrix(name: &str) -> bool {
    let looked_up = ["embd", "token_types", "embed_tokens", "ape", "tid2eid", "rel_b", "d2t"];
    name.ends_with(".weight") && !looked_up.iter().any(|part| name.trim_end_matches(".weight").ends_with(part))
}

/// Says where a tensor belongs, by its name.
fn part(name: &str, arch: &str) -> Part {
    if let Some(layer) = layer_of(name) {
        return Part::Layer(layer);
    }
    if name.starts_with("rope_freqs") || name.starts_with("rope_factors") {
        return Part::Rotation;
    }
    if name.starts_with("token_embd_norm") {
        return if matches!(arch, "lfm2" | "lfm2moe") { Part::Output } else { Part::Layer(0) };
    }
    let inputs = ["token_embd", "position_embd", "token_types", "per_layer_token_embd", "masked_embd"];
    if inputs.iter().any(|input| name.starts_with(input)) {
        return Part::Input;
    }
    if name.starts_with("per_layer_model_proj") || name.starts_with("per_layer_proj_norm") {
        return Part::Layer(0);
    }
    Part::Output
}

/// Returns the layer in a tensor's name: `blk.3.attn_q.weight`, `dec.blk.3.…`.
pub(super) fn layer_of(name: &str) -> Option<usize> {
    let inner = name.strip_prefix("enc.").or_else(|| name.strip_prefix("dec.")).unwrap_or(name);
    inner.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The bytes from the first to the last tensor that is mapped, part by part.
fn spans(gguf: &Gguf, tensors: &[Option<Where>]) -> Vec<u64> {
    let mut ends: Vec<Option<(u64, u64)>> = vec![None; gguf.parts.len()];
    for (tensor, place) in gguf.tensors.iter().zip(tensors) {
        if *place != Some(Where::Host) {
            continue;
        }
        let (from, to) = (tensor.offset, tensor.offset.saturating_add(tensor.bytes()));
        if let Some(end) = ends.get_mut(tensor.part) {
            *end = Some(end.map_or((from, to), |(first, last)| (first.min(from), last.max(to))));
        }
    }
    ends.into_iter().flatten().map(|(first, last)| last - first).collect()
}
