//! What stands beside the model on each GPU? A drafting model, adapters, control vectors, a projector.
//!
//! Source: llama.cpp 0c1e57098, `src/llama-adapter.cpp`, `common/speculative.cpp`, `tools/mtmd/clip.cpp`.

use plimsoll_facts::gguf::Gguf;
use plimsoll_units::{Bytes, Estimate, Source};

use super::assess::Case;
use super::buffer::{Where, allocated};
use super::context::Asked;
use super::hparams::Hparams;
use super::layout::{Laid, Site, Trial};
use super::ledger::Beside;
use super::options::{Draft, GpuLayers, Options, SplitMode};
use super::weights::{Placed, layer_of};
use crate::Error;
use crate::engine::Question;

impl Beside {
    /// Returns the bytes that the engine's own fitting counts: the drafting model's and the projector's.
    pub fn fitted(&self) -> i64 {
        let compute = |size: &Option<Estimate>| size.as_ref().map_or(Bytes::ZERO, |size| size.bytes);
        let all = self.draft_weights
            + self.draft_cache
            + compute(&self.draft_compute)
            + self.tower
            + compute(&self.tower_compute);
        i64::try_from(all.get()).unwrap_or(i64::MAX)
    }
}

/// Adds up what stands beside the model.
///
/// # Errors
/// [`Error`] when a drafting model's file cannot be understood.
pub fn beside(
    question: &Question<'_>,
    site: &Site<'_>,
    options: &Options,
    trial: &Trial,
    notes: &mut Vec<String>,
) -> Result<Vec<Beside>, Error> {
    let count = site.cards.len();
    let mut all = vec![Beside::default(); count];
    if count == 0 {
        return Ok(all);
    }
    let file = |name: &str| question.companions.iter().find(|file| file.name == name).map(|file| file.gguf);
    let mut unread: Vec<(&str, &str)> = Vec::new();
    if let Some(draft) = &options.draft {
        let named = draft.model.as_deref().map(|name| (name, file(name)));
        match named {
            Some((_, Some(gguf))) => drafting(site, draft, trial, Some(gguf), &mut all)?,
            Some((name, None)) => unread.push(("the drafting model", name)),
            None if site.h.nextn > 0 => drafting(site, draft, trial, None, &mut all)?,
            None => notes.push("the file has no drafting layers: --spec-type draft-mtp has nothing to run".to_owned()),
        }
    }
    let placed = site.place(trial);
    for name in &options.loras {
        let path =
            name.rsplit_once(':').filter(|(_, scale)| scale.parse::<f64>().is_ok()).map_or(name.as_str(), |(p, _)| p);
        match file(path) {
            Some(gguf) => adapter(gguf, &placed, &mut all),
            None => unread.push(("the adapter", path)),
        }
    }
    if !options.control_vectors.is_empty() {
        let each = allocated(Where::Device(0), plimsoll_facts::gguf::GgmlType::F32, site.h.embd, site.h.embd * 4);
        for place in placed.layers.iter().skip(1) {
            if let Where::Device(number) = place
                && let Some(gpu) = all.get_mut(usize::from(*number))
            {
                gpu.control += Bytes::new(each);
            }
        }
    }
    match (&options.mmproj, options.mmproj.as_deref().and_then(file)) {
        (Some(_), Some(gguf)) if options.mmproj_offload => tower(gguf, &mut all[0]),
        (Some(name), None) => unread.push(("the projector", name)),
        (Some(_), Some(_)) => notes.push("the projector stays in host memory (--no-mmproj-offload)".to_owned()),
        (None, _) => {}
    }
    let why = "is not counted: only a .gguf file, or its first bytes, says how large it is";
    notes.extend(unread.iter().map(|(what, name)| format!("{what} {name} {why}")));
    Ok(all)
}

/// Works out anew what the drafting model takes: its context follows the model's.
pub fn redrafted(case: &Case<'_>, trial: &Trial) -> Vec<Beside> {
    let Some(draft) = &case.options.draft else { return case.beside.clone() };
    let plain = |gpu: &Beside| Beside {
        draft_weights: Bytes::ZERO,
        draft_cache: Bytes::ZERO,
        draft_compute: None,
        ..gpu.clone()
    };
    let mut all: Vec<Beside> = case.beside.iter().map(plain).collect();
    let file = |name: &String| case.companions.iter().find(|file| file.name == *name).map(|file| file.gguf);
    let done = match draft.model.as_ref().map(file) {
        Some(Some(gguf)) => drafting(&case.site, draft, trial, Some(gguf), &mut all),
        None if case.site.h.nextn > 0 => drafting(&case.site, draft, trial, None, &mut all),
        Some(None) | None => Ok(()),
    };
    // The file was read before, so that it can be read again.
    if done.is_ok() { all } else { case.beside.clone() }
}

/// A drafting model of its own, or the drafting layers of the model itself, in a context of its own.
fn drafting(
    site: &Site<'_>,
    draft: &Draft,
    trial: &Trial,
    file: Option<&Gguf>,
    all: &mut [Beside],
) -> Result<(), Error> {
    let h = file.map(Hparams::read).transpose()?;
    let own = file.is_none();
    let asked = Asked {
        kind_k: draft.kind_k,
        kind_v: draft.kind_v,
        outputs: trial.asked.outputs.map(|_| trial.asked.sequences),
        snapshots: 0,
        drafting: own,
        ..trial.asked
    };
    let their = Site { gguf: file.unwrap_or(site.gguf), h: h.unwrap_or_else(|| site.h.clone()), ..site.clone() };
    let layers = match draft.layers {
        GpuLayers::Auto | GpuLayers::All => None,
        GpuLayers::Exact(layers) => Some(layers),
    };
    let shares = if site.split == SplitMode::Layer { trial.shares.clone() } else { Vec::new() };
    let their_trial =
        if own { Trial { asked, ..trial.clone() } } else { Trial { asked, layers, shares, overrides: Vec::new() } };
    let Ok(laid) = their.lay(&their_trial, false) else { return Ok(()) };
    for (at, gpu) in all.iter_mut().enumerate() {
        add(gpu, &laid, at, own);
    }
    Ok(())
}

fn add(gpu: &mut Beside, laid: &Laid, at: usize, own: bool) {
    if !own {
        gpu.draft_weights += Bytes::new(laid.placed.sums.device(at));
    }
    gpu.draft_cache += Bytes::new(laid.cache.sums().device(at));
    gpu.draft_compute = laid.compute.gpus.get(at).map(|size| {
        if own {
            // One layer's graph stands for the drafting layers' own.
            let source = Source::Assumed("the drafting layers' graph is taken to need no more than the model's".into());
            Estimate::between(Bytes::from_f64(size.bytes.as_f64() * 0.3), size.bytes, size.bytes, source)
        } else {
            size.clone()
        }
    });
}

/// An adapter's tensors lie where the tensors lie that they change.
fn adapter(gguf: &Gguf, placed: &Placed, all: &mut [Beside]) {
    for tensor in &gguf.tensors {
        let place = match layer_of(&tensor.name) {
            Some(layer) => placed.layers.get(layer).copied().unwrap_or(placed.output),
            None if tensor.name.starts_with("token_embd") => Where::Host,
            None => placed.output,
        };
        if let Where::Device(number) = place
            && let Some(gpu) = all.get_mut(usize::from(number))
        {
            let row = tensor.shape.first().copied().unwrap_or(1);
            gpu.loras += Bytes::new(allocated(place, tensor.kind, row, tensor.bytes()));
        }
    }
}

/// A projector: all its tensors, and a graph over the patches of one image.
fn tower(gguf: &Gguf, gpu: &mut Beside) {
    let size = |tensor: &plimsoll_facts::gguf::TensorInfo| {
        allocated(Where::Device(0), tensor.kind, tensor.shape.first().copied().unwrap_or(1), tensor.bytes())
    };
    gpu.tower = Bytes::new(gguf.tensors.iter().map(size).fold(0, u64::saturating_add));
    let number = |key: &str| gguf.metadata.get(key).and_then(plimsoll_facts::gguf::Value::as_u64);
    let vision = |key: &str| number(&format!("clip.vision.{key}")).or_else(|| number(&format!("clip.audio.{key}")));
    let side = vision("image_size").unwrap_or(896) as f64 / vision("patch_size").unwrap_or(14).max(1) as f64;
    let patches = side * side;
    let (embd, ff) =
        (vision("embedding_length").unwrap_or(1152) as f64, vision("feed_forward_length").unwrap_or(4304) as f64);
    let heads = vision("attention.head_count").unwrap_or(16) as f64;
    let plain = 4.0 * patches * (6.0 * embd + 2.0 * ff);
    let scores = 4.0 * patches * patches * heads;
    let source = Source::Assumed("closed form over the patches of one image of the projector's own size".into());
    gpu.tower_compute = Some(Estimate::between(
        Bytes::from_f64(plain * 0.5),
        Bytes::from_f64(plain + scores * 0.5),
        Bytes::from_f64(3.0 * (plain + scores)),
        source,
    ));
}
