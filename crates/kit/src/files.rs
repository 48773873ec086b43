//! Which files does a model have? A directory with a `config.json`, or the file itself; of checkpoints and GGUF files the
//! headers only.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_api::{Error, ModelFiles, Modelfile, Stream, World};
use plimsoll_facts::gguf;

use crate::traces::{Opened, open_trace};

/// The largest text file that is read whole.
const LARGEST_TEXT: u64 = 64 << 20;
/// The largest header of a safetensors file, by the format's own definition.
const LARGEST_HEADER: u64 = 100_000_000;
/// The largest Modelfile that is read.
const LARGEST_MODELFILE: u64 = 1 << 20;
/// The most checkpoint files of one model.
const MOST_SHARDS: usize = 10_000;

/// The local disk, with the local model hub's cache.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// `HF_HOME`/hub or its like, where downloaded models lie.
    pub hub_cache: Option<PathBuf>,
}

impl Disk {
    /// Looks the hub's cache up in the environment: `HF_HUB_CACHE`, `HF_HOME`, or `~/.cache/huggingface`.
    pub fn from_environment() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let hub_cache = path("HF_HUB_CACHE")
            .or_else(|| path("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| path("HOME").map(|home| home.join(".cache/huggingface/hub")));
        Disk { hub_cache }
    }

    /// Finds the newest snapshot of `org/name` in the hub's cache.
    fn snapshot(&self, name: &str) -> Option<PathBuf> {
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let folder = self.hub_cache.as_ref()?.join(format!("models--{}", name.replace('/', "--")));
        let by_ref = std::fs::read_to_string(folder.join("refs").join(revision)).ok();
        let commit = by_ref.map_or_else(|| revision.to_owned(), |text| text.trim().to_owned());
        let snapshot = folder.join("snapshots").join(commit);
        snapshot.join("config.json").is_file().then_some(snapshot)
    }
}

impl World for Disk {
    fn files(&self, name: &str) -> Result<Option<ModelFiles>, Error> {
        if let Some(hub_name) = name.strip_prefix("hf:") {
            return match self.snapshot(hub_name) {
                Some(folder) => folder_files(&folder).map(Some),
                None => Err(Error::World {
                    place: name.to_owned(),
                    why: "not in the local hub cache; download its config.json there or give its folder".to_owned(),
                }),
            };
        }
        let path = Path::new(name);
        if path.is_dir() {
            return folder_files(path).map(Some);
        }
        if path.is_file() {
            return file_alone(path).map(Some);
        }
        let looks_like_path = name.starts_with(['.', '/', '~']) || name.ends_with(".json") || name.ends_with(".gguf");
        if looks_like_path {
            let why = "no such file or directory".to_owned();
            return Err(Error::World { place: name.to_owned(), why });
        }
        Ok(None)
    }

    fn stream(&self, name: &str) -> Result<Stream, Error> {
        Ok(match open_trace(Path::new(name))? {
            Opened::Stream(input) => Stream::Lines(input),
            Opened::Pool(pool) => Stream::Pool(pool),
        })
    }

    fn modelfile(&self, name: &str) -> Result<Option<Modelfile>, Error> {
        let path = Path::new(name);
        let last = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if !(last.starts_with("modelfile") || last.ends_with(".modelfile")) || !path.is_file() {
            return Ok(None);
        }
        let fail = |why: String| Error::World { place: name.to_owned(), why };
        let file = File::open(path).map_err(|error| fail(error.to_string()))?;
        let mut bytes = Vec::new();
        file.take(LARGEST_MODELFILE + 1).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
        if bytes.len() as u64 > LARGEST_MODELFILE {
            return Err(fail(format!("longer than the {LARGEST_MODELFILE} bytes that a Modelfile may have")));
        }
        let text = String::from_utf8(bytes).map_err(|error| fail(format!("is no text: {error}")))?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Some(Modelfile { place: name.to_owned(), folder: folder.display().to_string(), text }))
    }
}

/// Reads a folder: config.json, hf_quant_config.json, and the headers of its safetensors files.
fn folder_files(folder: &Path) -> Result<ModelFiles, Error> {
    let config_path = folder.join("config.json");
    if !config_path.is_file() {
        return only_gguf(folder);
    }
    let hf_quant = folder.join("hf_quant_config.json");
    let index = folder.join("model.safetensors.index.json");
    Ok(ModelFiles {
        place: folder.display().to_string(),
        config: text(&config_path)?,
        index: if index.is_file() { Some(text(&index)?) } else { None },
        hf_quant: if hf_quant.is_file() { Some(text(&hf_quant)?) } else { None },
        headers: headers(folder)?,
        gguf: None,
    })
}

/// Reads one file that was named itself: a configuration, or a checkpoint with a configuration beside it.
fn file_alone(path: &Path) -> Result<ModelFiles, Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if path.extension().is_some_and(|end| end == "safetensors") {
        let mut files = folder_files(folder)?;
        files.headers = vec![header(path)?];
        files.index = None;
        return Ok(files);
    }
    if path.extension().is_some_and(|end| end == "gguf") || begins_as_gguf(path) {
        return gguf_files(path);
    }
    let hf_quant = folder.join("hf_quant_config.json");
    let json = path.extension().is_some_and(|end| end == "json");
    Ok(ModelFiles {
        place: if json { path } else { folder }.display().to_string(),
        config: text(path)?,
        hf_quant: if hf_quant.is_file() { Some(text(&hf_quant)?) } else { None },
        index: None,
        headers: Vec::new(),
        gguf: None,
    })
}

/// Whether a file begins as GGUF files do, whatever its name (a blob of Ollama's, a cache's).
fn begins_as_gguf(path: &Path) -> bool {
    let mut magic = [0_u8; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"GGUF"
}

/// Reads the one GGUF model of a folder without a `config.json`.
fn only_gguf(folder: &Path) -> Result<ModelFiles, Error> {
    let fail = |why: String| Error::World { place: folder.display().to_string(), why };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| fail(error.to_string()))? {
        let path = entry.map_err(|error| fail(error.to_string()))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Of a split file the first part stands for all; projectors lie beside the model that they belong to.
        let first = gguf::part_of(&name).is_none_or(|(_, number, _)| number == 1);
        if path.is_file() && name.ends_with(".gguf") && !name.starts_with("mmproj") && first {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Err(fail("no config.json in this directory, and no GGUF file".to_owned())),
        [path] => gguf_files(path),
        [path, ..] => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Err(fail(format!("{} GGUF files in this directory; name one of them, such as {name}", found.len())))
        }
    }
}

/// Reads the header of a GGUF file, and of every part of a split one that lies beside it.
fn gguf_files(path: &Path) -> Result<ModelFiles, Error> {
    let fail = |why: String| Error::World { place: path.display().to_string(), why };
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut paths = vec![path.to_owned()];
    if let Some((prefix, number, count)) = gguf::part_of(&name(path)) {
        let beside = (1..=count)
            .filter(|other| *other != number)
            .map(|other| path.with_file_name(format!("{prefix}-{other:05}-of-{count:05}.gguf")));
        paths.extend(beside.filter(|path| path.is_file()));
    }
    let mut files = Vec::new();
    for path in &paths {
        let file = File::open(path).map_err(|error| fail(error.to_string()))?;
        let length = file.metadata().map_err(|error| fail(error.to_string()))?.len();
        files.push((name(path), file, length));
    }
    let inputs = files.iter_mut().map(|(name, file, length)| gguf::Input {
        name: name.clone(),
        bytes: file,
        length: Some(*length),
    });
    let read = gguf::read(inputs.collect()).map_err(|source| Error::Facts { context: String::new(), source })?;
    Ok(ModelFiles { place: path.display().to_string(), gguf: Some(Arc::new(read)), ..ModelFiles::default() })
}

/// Reads the headers of every safetensors file in a folder, in order of name.
fn headers(folder: &Path) -> Result<Vec<(String, Vec<u8>, u64)>, Error> {
    let fail = |why: std::io::Error| Error::World { place: folder.display().to_string(), why: why.to_string() };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|end| end == "safetensors") && path.is_file() {
            paths.push(path);
        }
        if paths.len() > MOST_SHARDS {
            let why = format!("more than {MOST_SHARDS} safetensors files");
            return Err(Error::World { place: folder.display().to_string(), why });
        }
    }
    paths.sort();
    paths.iter().map(|path| header(path)).collect()
}

/// Reads a safetensors file's length word and header.
fn header(path: &Path) -> Result<(String, Vec<u8>, u64), Error> {
    let fail = |why: String| Error::World { place: path.display().to_string(), why };
    let mut file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let length = file.metadata().map_err(|error| fail(error.to_string()))?.len();
    let mut word = [0_u8; 8];
    file.read_exact(&mut word).map_err(|_| fail(format!("{length} bytes, too short for a safetensors file")))?;
    let wanted = u64::from_le_bytes(word);
    if wanted > LARGEST_HEADER {
        return Err(fail(format!("its header claims {wanted} bytes; the format allows {LARGEST_HEADER}")));
    }
    let mut bytes = word.to_vec();
    file.take(wanted).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, bytes, length))
}

/// Reads a text file of bearable size.
fn text(path: &Path) -> Result<Vec<u8>, Error> {
    let fail = |why: String| Error::World { place: path.display().to_string(), why };
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(LARGEST_TEXT + 1).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > LARGEST_TEXT {
        return Err(fail("larger than 64 MiB: is this a configuration?".to_owned()));
    }
    Ok(bytes)
}
