//! Where is this machine's profile kept? A file in the user's data folder, or the one that `PLIMSOLL_PROFILE` names; written
//! whole, so that a reader never sees half of one.

use std::io::Write;
use std::path::{Path, PathBuf};

use plimsoll_api::Error;
use plimsoll_api::profile::{Key, Measured, Profile};

/// The largest profile that is read.
const LARGEST: u64 = 16 << 20;

/// Returns the profile's place: `PLIMSOLL_PROFILE` (empty for none), else `plimsoll/profile.json` in the platform's folder
/// for a user's data.
pub fn place() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = std::env::var_os("PLIMSOLL_PROFILE") {
        return Some(PathBuf::from(named)).filter(|place| !place.as_os_str().is_empty());
    }
    let folder = if cfg!(windows) {
        path("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        path("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        path("XDG_DATA_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".local/share")))
    };
    folder.map(|folder| folder.join("plimsoll").join("profile.json"))
}

/// Reads the profile; `None` where there is none.
///
/// # Errors
/// [`Error::World`] when the file is there and cannot be read.
pub fn read(place: &Path) -> Result<Option<Profile>, Error> {
    let fail = |why: String| Error::World { place: place.display().to_string(), why };
    let length = match std::fs::metadata(place) {
        Ok(about) if about.is_file() => about.len(),
        Ok(_) => return Err(fail("not a file".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error.to_string())),
    };
    if length > LARGEST {
        return Err(fail(format!("larger than {} MiB: is this a profile?", LARGEST >> 20)));
    }
    let bytes = std::fs::read(place).map_err(|error| fail(error.to_string()))?;
    Profile::read(&bytes).map(Some).map_err(|error| fail(error.to_string()))
}

/// Adds what a launch measured to the profile.
///
/// # Errors
/// [`Error::World`] when the file cannot be read or written; what was in it stays as it was.
pub fn learn(place: &Path, key: Key, measured: Measured) -> Result<(), Error> {
    let fail = |why: String| Error::World { place: place.display().to_string(), why };
    let mut profile = read(place)?.unwrap_or_default();
    profile.learn(key, measured);
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| fail(error.to_string()))?;
    file.write_all(profile.write().as_bytes()).map_err(|error| fail(error.to_string()))?;
    file.as_file().sync_all().map_err(|error| fail(error.to_string()))?;
    file.persist(place).map(drop).map_err(|error| fail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(model: &str) -> Key {
        Key {
            gpu: "L4".into(),
            engine: "vllm".into(),
            engine_version: "0.19.0".into(),
            model: model.into(),
            tp: 1,
            pp: 1,
            options: Default::default(),
        }
    }

    #[test]
    fn learning_adds_and_a_broken_file_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("new/profile.json");
        assert_eq!(read(&place), Ok(None));
        for model in ["a", "b"] {
            let run = Measured { non_torch_bytes: Some(1), ..Measured::default() };
            learn(&place, key(model), run).expect("it is written");
        }
        assert_eq!(read(&place).map(|profile| profile.map(|profile| profile.len())), Ok(Some(2)));
        std::fs::write(&place, "{broken").expect("written");
        assert!(learn(&place, key("c"), Measured::default()).is_err());
        assert_eq!(std::fs::read_to_string(&place).ok().as_deref(), Some("{broken"));
        assert!(read(folder.path()).is_err());
    }
}
