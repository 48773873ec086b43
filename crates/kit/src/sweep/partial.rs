//! What of a sweep is on the disk already? A file beside the one that is asked for, to which whole groups of rows are
//! added: each with its length and checksum, each on the disk before the next one begins.
//!
//! ```text
//! magic · length · checksum · what is asked        the head
//! length · checksum · encoded rows                 one group after the other
//! ```
//!
//! Whatever ends the program, at whatever moment, leaves whole groups and at most one torn one at the end: its checksum
//! does not fit, it is cut off, and the sweep goes on there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use super::Error;

/// The first bytes of such a file.
const MAGIC: [u8; 16] = *b"plimsoll sweep 1";
/// Length and checksum, eight bytes each.
const FRAME: usize = 16;
/// The longest frame: far more than a group of rows takes.
const LONGEST: u64 = 1 << 30;

/// The groups of rows that are on the disk, in a file that this program alone writes.
pub(super) struct Partial {
    place: PathBuf,
    file: File,
    /// Where each whole group begins and how long it is.
    groups: Vec<(u64, u64)>,
    end: u64,
}

/// Returns the file in which the groups of a sweep are kept: `sweep.parquet.partial`.
pub(super) fn beside(place: &Path, ending: &str) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    place.with_file_name(name)
}

impl Partial {
    /// Opens the file, or begins one, and finds the groups that are whole. `fresh` throws away what there is.
    pub(super) fn open(place: &Path, asked: &str, fresh: bool) -> Result<Partial, Error> {
        let place = beside(place, ".partial");
        let cannot = |why| Error::at(&place, why);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&place).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { place: place.display().to_string() }),
            // Some network drives lock nothing; the sweep is no less right there.
            Err(TryLockError::Error(_)) => {}
        }
        if fresh {
            file.set_len(0).map_err(cannot)?;
        }
        let length = file.metadata().map_err(cannot)?.len();
        let head = (MAGIC.len() + FRAME + asked.len()) as u64;
        let began = read_head(&mut file, length).map_err(cannot)?;
        match began {
            Some(there) if there == asked => {}
            Some(_) => return Err(Error::Another { place: place.display().to_string() }),
            // A head that is torn has no group behind it.
            None if length <= head && starts_like_one(&mut file).map_err(cannot)? => {
                begin(&mut file, &place, asked).map_err(cannot)?;
            }
            None => return Err(Error::Foreign { place: place.display().to_string() }),
        }
        let mut partial = Partial { place, file, groups: Vec::new(), end: head };
        partial.find().map_err(|why| Error::at(&partial.place, why))?;
        Ok(partial)
    }

    /// Finds the whole groups and cuts off what follows the last one.
    fn find(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut rows = Vec::new();
        while let Some(long) = frame(&mut self.file, self.end, length, self.groups.len() as u64, &mut rows)? {
            self.groups.push((self.end + FRAME as u64, long));
            self.end += FRAME as u64 + long;
        }
        if self.end < length {
            self.file.set_len(self.end)?;
            self.file.sync_all()?;
        }
        Ok(())
    }

    /// Returns how many groups are whole.
    pub(super) fn groups(&self) -> u64 {
        self.groups.len() as u64
    }

    /// Adds a group. When this returns, it is on the disk.
    pub(super) fn add(&mut self, rows: &[u8]) -> Result<(), Error> {
        let added = self.append(rows);
        if added.is_err() {
            // What was written of it would be cut off later; a full disk is glad of it now.
            let _ = self.file.set_len(self.end);
        }
        added.map_err(|why| Error::at(&self.place, why))
    }

    fn append(&mut self, rows: &[u8]) -> io::Result<()> {
        let long = rows.len() as u64;
        if long > LONGEST {
            return Err(io::Error::other("a group of rows is longer than 1 GiB"));
        }
        let mut head = [0; FRAME];
        head[..8].copy_from_slice(&long.to_le_bytes());
        head[8..].copy_from_slice(&checksum(self.groups.len() as u64, rows).to_le_bytes());
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&head)?;
        self.file.write_all(rows)?;
        self.file.sync_data()?;
        self.groups.push((self.end + FRAME as u64, long));
        self.end += FRAME as u64 + long;
        Ok(())
    }

    /// An error of the disk, here.
    pub(super) fn error(&self, why: io::Error) -> Error {
        Error::at(&self.place, why)
    }

    /// Reads a group.
    pub(super) fn read(&mut self, group: u64) -> Result<Vec<u8>, Error> {
        let found = usize::try_from(group).ok().and_then(|at| self.groups.get(at)).copied();
        let read = |file: &mut File, (from, long): (u64, u64)| {
            let mut rows = vec![0; usize::try_from(long).unwrap_or(0)];
            file.seek(SeekFrom::Start(from))?;
            file.read_exact(&mut rows).map(|()| rows)
        };
        let rows = found.map_or_else(|| Err(io::ErrorKind::NotFound.into()), |found| read(&mut self.file, found));
        rows.map_err(|why| Error::at(&self.place, why))
    }

    /// Takes the file away: everything is where it was asked for.
    pub(super) fn remove(self) -> Result<(), Error> {
        let Partial { place, file, .. } = self;
        std::fs::remove_file(&place).map_err(|why| Error::at(&place, why))?;
        drop(file);
        settle_folder(&place).map_err(|why| Error::at(&place, why))
    }
}

/// Takes away what an earlier sweep left beside a file that is finished, unless someone writes it.
pub(super) fn remove_left(place: &Path) {
    let place = beside(place, ".partial");
    if let Ok(file) = File::open(&place)
        && file.try_lock().is_ok()
    {
        // It is in nobody's way: the next sweep with this name says so or takes it away.
        let _ = std::fs::remove_file(&place);
    }
}

/// Makes the names in a file's folder last: a file that was made or renamed can be lost otherwise, its bytes being safe.
pub(super) fn settle_folder(place: &Path) -> io::Result<()> {
    let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// A checksum that knows its group, so that no group stands in for another.
fn checksum(group: u64, rows: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(group, rows)
}

/// Writes the head of a new file.
fn begin(file: &mut File, place: &Path, asked: &str) -> io::Result<()> {
    let mut head = MAGIC.to_vec();
    head.extend((asked.len() as u64).to_le_bytes());
    head.extend(checksum(u64::MAX, asked.as_bytes()).to_le_bytes());
    head.extend(asked.as_bytes());
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head)?;
    file.sync_all()?;
    settle_folder(place)
}

/// Whether a file without a whole head is the beginning of one.
fn starts_like_one(file: &mut File) -> io::Result<bool> {
    let mut first = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAGIC.len() as u64).read_to_end(&mut first)?;
    // A file whose length reached the disk before its bytes reads as zeros.
    Ok(MAGIC.starts_with(&first) || first.iter().all(|byte| *byte == 0))
}

/// Reads what the file was begun for; `None` when its head is not whole.
fn read_head(file: &mut File, length: u64) -> io::Result<Option<String>> {
    let mut first = [0; MAGIC.len()];
    if length < (MAGIC.len() + FRAME) as u64 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut first)?;
    if first != MAGIC {
        return Ok(None);
    }
    let mut text = Vec::new();
    let found = frame(file, MAGIC.len() as u64, length, u64::MAX, &mut text)?;
    Ok(found.and_then(|_| String::from_utf8(text).ok()))
}

/// Reads the frame at a place and returns how long it is; `None` when there is none that is whole.
fn frame(file: &mut File, at: u64, length: u64, group: u64, into: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let left = length.saturating_sub(at);
    if left < FRAME as u64 {
        return Ok(None);
    }
    let mut head = [0; FRAME];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut head)?;
    let word = |from: usize| u64::from_le_bytes(std::array::from_fn(|at| head[from + at]));
    let (long, sum) = (word(0), word(8));
    if long > LONGEST || long > left - FRAME as u64 {
        return Ok(None);
    }
    into.clear();
    file.take(long).read_to_end(into)?;
    Ok((into.len() as u64 == long && checksum(group, into) == sum).then_some(long))
}
