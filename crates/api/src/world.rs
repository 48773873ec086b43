//! What comes from outside? Files of models, behind one trait, and a desk that keeps what was read.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use plimsoll_facts::checkpoint::{Checkpoint, Header, read_header, read_index};
use plimsoll_facts::gguf::{self, Gguf};
use plimsoll_facts::gpu::Gpu;
use plimsoll_facts::model::Model;
use plimsoll_facts::{catalogue, model};

use plimsoll_sim::load::trace::Input;
use plimsoll_sim::load::trace::servegen::Pool;
use plimsoll_study::profile::Profile;

use crate::Error;

/// The files of one model, as bytes. Only headers of checkpoints, never weights.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    /// Where they lie, for messages.
    pub place: String,
    /// `config.json`.
    pub config: Vec<u8>,
    /// `hf_quant_config.json`, where there is one.
    pub hf_quant: Option<Vec<u8>>,
    /// `model.safetensors.index.json`, where there is one.
    pub index: Option<Vec<u8>>,
    /// Header bytes of every safetensors file: name, the file's first bytes (length word and JSON), the file's length.
    pub headers: Vec<(String, Vec<u8>, u64)>,
    /// The header of a GGUF file, or of all parts of a split one; nothing else is looked at then.
    pub gguf: Option<Arc<Gguf>>,
}

/// The outside world.
pub trait World: Sync {
    /// Returns the files of a model that is named by a path (or another address that this world knows), `None` when the
    /// name is no such address and the catalogue should be asked.
    ///
    /// # Errors
    /// [`Error::World`] when the address is one but cannot be read.
    fn files(&self, name: &str) -> Result<Option<ModelFiles>, Error>;

    /// Returns an Ollama Modelfile that is named by a path, `None` when the name is none.
    ///
    /// # Errors
    /// [`Error::World`] when it is one but cannot be read.
    fn modelfile(&self, _name: &str) -> Result<Option<crate::Modelfile>, Error> {
        Ok(None)
    }

    /// Opens a file of requests, unpacked; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::World`] when it cannot be read, or when this world has no files.
    fn stream(&self, name: &str) -> Result<Stream, Error> {
        Err(Error::World { place: name.to_owned(), why: "there are no files here".to_owned() })
    }
}

/// A file of requests, unpacked.
pub enum Stream {
    /// Lines, as they come.
    Lines(Input),
    /// A pool of `ServeGen` clients, from a folder or an archive.
    Pool(Pool),
}

/// A world without files: built-in models only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl World for NoFiles {
    fn files(&self, _name: &str) -> Result<Option<ModelFiles>, Error> {
        Ok(None)
    }
}

/// A model with its source.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Where its facts come from.
    pub source: String,
    /// Parameters, counted once.
    pub parameters: u64,
    /// Active parameters, counted once.
    pub active_parameters: u64,
    /// What the checkpoint's files hold, where their headers were at hand.
    pub checkpoint: Option<Checkpoint>,
    /// The header, where the model is a GGUF file.
    pub gguf: Option<Arc<Gguf>>,
}

/// The most models that a desk keeps.
const KEPT: usize = 512;

/// Keeps models and cards that were read, for many requests.
pub struct Desk<'w> {
    world: &'w dyn World,
    models: RwLock<BTreeMap<String, Arc<Loaded>>>,
    gpus: RwLock<BTreeMap<String, Arc<Gpu>>>,
    profile: Option<Kept>,
}

/// What was measured on this machine, and the file where it is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What was measured.
    pub profile: Arc<Profile>,
    /// Where it is kept, for messages.
    pub place: String,
}

impl<'w> Desk<'w> {
    /// Opens a desk on a world.
    pub fn new(world: &'w dyn World) -> Self {
        Desk { world, models: RwLock::default(), gpus: RwLock::default(), profile: None }
    }

    /// Puts what was measured on this machine on the desk: plans of the same launch use it.
    #[must_use]
    pub fn with_profile(self, profile: Profile, place: impl Into<String>) -> Self {
        Desk { profile: Some(Kept { profile: Arc::new(profile), place: place.into() }), ..self }
    }

    /// Returns what was measured on this machine, where it is on the desk.
    pub(crate) fn profile(&self) -> Option<Kept> {
        self.profile.clone()
    }

    /// Opens a file of requests.
    ///
    /// # Errors
    /// [`Error::World`].
    pub(crate) fn stream(&self, name: &str) -> Result<Stream, Error> {
        self.world.stream(name)
    }

    /// Returns a model by path or built-in name.
    ///
    /// # Errors
    /// [`Error::World`] and [`Error::Facts`].
    pub fn model(&self, name: &str) -> Result<Arc<Loaded>, Error> {
        if let Some(known) = self.models.read().ok().and_then(|kept| kept.get(name).cloned()) {
            return Ok(known);
        }
        let (model, source, checkpoint, gguf) = match self.world.files(name)? {
            Some(ModelFiles { gguf: Some(gguf), place, .. }) => {
                let model = gguf::model(&gguf, name)?;
                (model, place, None, Some(gguf))
            }
            Some(files) => {
                let (model, checkpoint) = from_files(name, &files)?;
                (model, files.place, checkpoint, None)
            }
            None => {
                let known = catalogue::model(name)?;
                (known.model, known.source, None, None)
            }
        };
        let loaded = Arc::new(Loaded {
            parameters: model.parameters(),
            active_parameters: model.active_parameters(),
            model,
            source,
            checkpoint,
            gguf,
        });
        if let Ok(mut kept) = self.models.write() {
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(name.to_owned(), Arc::clone(&loaded));
        }
        Ok(loaded)
    }

    /// Puts a model on the desk that was made from a specification.
    pub(crate) fn put(&self, name: &str, loaded: Arc<Loaded>) {
        if let Ok(mut kept) = self.models.write() {
            kept.insert(name.to_owned(), loaded);
        }
    }

    /// Returns the header of a GGUF file by path; `None` when the path holds no such file.
    ///
    /// # Errors
    /// [`Error::World`] when it cannot be read.
    pub fn gguf(&self, name: &str) -> Result<Option<Arc<Gguf>>, Error> {
        Ok(self.world.files(name)?.and_then(|files| files.gguf))
    }

    /// Returns the files of a model that is named by a path; `None` where the catalogue is meant.
    ///
    /// # Errors
    /// [`Error::World`] when they cannot be read.
    pub(crate) fn files(&self, name: &str) -> Result<Option<ModelFiles>, Error> {
        self.world.files(name)
    }

    /// Returns an Ollama Modelfile, where the name is one's path.
    ///
    /// # Errors
    /// [`Error::World`] when it cannot be read.
    pub fn modelfile(&self, name: &str) -> Result<Option<crate::Modelfile>, Error> {
        self.world.modelfile(name)
    }

    /// Returns a card by name.
    ///
    /// # Errors
    /// [`Error::Facts`] when no entry fits the name.
    pub fn gpu(&self, name: &str) -> Result<Arc<Gpu>, Error> {
        if let Some(known) = self.gpus.read().ok().and_then(|kept| kept.get(name).cloned()) {
            return Ok(known);
        }
        let gpu = Arc::new(catalogue::gpu(name)?);
        if let Ok(mut kept) = self.gpus.write() {
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(name.to_owned(), Arc::clone(&gpu));
        }
        Ok(gpu)
    }
}

/// Reads a model from its files; where headers of the checkpoint are among them, they have the last word.
fn from_files(name: &str, files: &ModelFiles) -> Result<(Model, Option<Checkpoint>), Error> {
    let at = |file: &str| {
        let alone = files.place.ends_with(".json") && file == "config.json";
        let context = if alone { format!("{}: ", files.place) } else { format!("{}/{file}: ", files.place) };
        move |source| Error::Facts { context: context.clone(), source }
    };
    let config = model::parse_json(&files.config).map_err(at("config.json"))?;
    let hf_quant = files.hf_quant.as_deref().map(model::parse_json).transpose();
    let hf_quant = hf_quant.map_err(at("hf_quant_config.json"))?;
    let mut model = model::read(name, &config, hf_quant.as_ref()).map_err(at("config.json"))?;
    let here = |source| Error::Facts { context: format!("{}: ", files.place), source };
    let index = files.index.as_deref().map(|bytes| read_index("model.safetensors.index.json", bytes));
    let index = index.transpose().map_err(here)?;
    let mut headers: Vec<Header> = Vec::new();
    for (file, bytes, length) in &files.headers {
        if index.as_ref().is_none_or(|index| index.shards.contains(file)) {
            headers.push(read_header(file, &mut bytes.as_slice(), *length).map_err(here)?);
        }
    }
    let shards = index.as_ref().map_or(headers.len(), |index| index.shards.len());
    if headers.is_empty() {
        if shards > 0 {
            model.notes.push(format!("none of the {shards} checkpoint files is here; the configuration decides"));
        }
        note_total(&mut model, index.and_then(|index| index.total_size));
        return Ok((model, None));
    }
    if headers.len() < shards {
        let note = format!("{} of {shards} checkpoint files are here; the configuration decides", headers.len());
        model.notes.push(note);
        return Ok((model, None));
    }
    let checkpoint = Checkpoint::collect(&headers).map_err(here)?;
    checkpoint.settle(&mut model);
    Ok((model, Some(checkpoint)))
}

/// Notes when an index's own sum is not what the inventory gives.
fn note_total(model: &mut Model, total: Option<u64>) {
    let derived = model.checkpoint_bytes();
    let (alone, with_draft) = (derived.model.get(), derived.model.get().saturating_add(derived.draft.get()));
    if let Some(total) = total.filter(|total| *total != alone && *total != with_draft) {
        model.notes.push(format!("the checkpoint's index gives {total} bytes, the configuration {with_draft}"));
    }
}
