//! How does a sweep become a file? Groups of rows are planned on all cores and added to a file beside the one that is asked
//! for; when all are there they are put together. A sweep that ends early, however it ends, goes on behind the last whole
//! group, and the file comes out the same, byte for byte.
//!
//! ```no_run
//! use plimsoll_api::sweep::{Sweep, SweepRequest};
//! use plimsoll_api::{Desk, NoFiles};
//! let request = SweepRequest {
//!     models: vec!["llama-3.1-8b".into()],
//!     gpus: vec!["h100-sxm".into(), "l40s".into()],
//!     context: vec![4096, 8192],
//!     batch: vec![1, 16],
//!     ..SweepRequest::default()
//! };
//! let desk = Desk::new(&NoFiles);
//! let sweep = Sweep::new(&request, &desk)?;
//! plimsoll_kit::sweep::write(&sweep, "sweep.parquet".as_ref(), false, &plimsoll_kit::sweep::Silent)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod form;
mod partial;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use plimsoll_api::sweep::{Sweep, SweepRow};
use rayon::prelude::*;

use form::Form;
use partial::{Partial, beside, remove_left, settle_folder};

/// Why a sweep was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file's name does not tell its form.
    #[error("cannot tell what to write to {place}: its name should end in .parquet, .csv, .jsonl, .json or .md")]
    Form {
        /// The file.
        place: String,
    },
    /// Another sweep has this name.
    #[error("{place} holds another sweep")]
    Another {
        /// The file.
        place: String,
    },
    /// A file that is no sweep has this name.
    #[error("{place} is there and is no sweep, or damaged at its beginning")]
    Foreign {
        /// The file.
        place: String,
    },
    /// Another program writes it.
    #[error("{place} is being written by another program")]
    Busy {
        /// The file.
        place: String,
    },
    /// The disk.
    #[error("cannot write {place}: {why}")]
    Write {
        /// The file.
        place: String,
        /// The system's words.
        why: io::Error,
    },
    /// The disk, of a file that the caller knows.
    #[doc(hidden)]
    #[error("{0}")]
    Disk(io::Error),
}

impl Error {
    fn at(place: &Path, why: io::Error) -> Error {
        Error::Write { place: place.display().to_string(), why }
    }

    /// Whether another request would be answered (exit status 2), rather than the disk be at fault (1).
    pub const fn is_malformed(&self) -> bool {
        matches!(self, Error::Form { .. } | Error::Another { .. } | Error::Foreign { .. })
    }

    /// Returns what to try next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Another { .. } | Error::Foreign { .. } => {
                Some("give the same request to go on with it, another --out, or --fresh to begin anew in its place")
            }
            Error::Busy { .. } => Some("wait for it, or give another --out"),
            Error::Write { why, .. } if why.kind() == io::ErrorKind::NotFound => {
                Some("nothing was planned yet: is the folder there?")
            }
            Error::Write { .. } => Some("what was finished is kept: the same command goes on from there"),
            Error::Form { place } if is_picture(place) => {
                Some("a sweep is rows; `plimsoll compare` and `plimsoll grow` draw figures and reports of some of them")
            }
            Error::Form { .. } | Error::Disk(_) => None,
        }
    }
}

/// Whether a file's name asks for a figure or a report.
fn is_picture(place: &str) -> bool {
    let ending = Path::new(place).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ["svg", "png", "html"].iter().any(|form| ending.eq_ignore_ascii_case(form))
}

/// Looks on at a sweep, from many threads at once.
pub trait Watch: Sync {
    /// It begins, with so many rows of all on the disk already.
    fn begin(&self, _total: u64, _there: u64) {}

    /// So many rows more were planned.
    fn planned(&self, _rows: u64) {}

    /// Whether it should end early; asked before every launch.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Looks at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is there.
    Written {
        /// Its rows.
        rows: u64,
        /// Those of them that were planned now; the others had been before.
        planned: u64,
    },
    /// The file was there already.
    Already {
        /// Its rows.
        rows: u64,
    },
    /// It was stopped; the same request goes on.
    Stopped {
        /// Rows that are kept.
        there: u64,
        /// Rows of all.
        rows: u64,
    },
}

/// Writes a sweep to a file, or goes on where an earlier call ended. `fresh` begins anew whatever is there.
///
/// # Errors
/// [`Error`] when the file's name tells no form, holds something else, or cannot be written.
pub fn write(sweep: &Sweep<'_>, place: &Path, fresh: bool, watch: &dyn Watch) -> Result<Outcome, Error> {
    let form = Form::of(place)?;
    let asked = sweep.fingerprint();
    let rows = sweep.total();
    if !fresh && place.exists() {
        return match form.answers(place).map_err(|why| Error::at(place, why))? {
            Some(there) if there == asked => {
                remove_left(place);
                Ok(Outcome::Already { rows })
            }
            Some(_) => Err(Error::Another { place: place.display().to_string() }),
            None => Err(Error::Foreign { place: place.display().to_string() }),
        };
    }
    let mut partial = Partial::open(place, asked, fresh)?;
    let groups = Groups::of(sweep);
    let there = groups.rows(partial.groups());
    watch.begin(rows, there);
    if !add(sweep, &groups, form, &mut partial, watch)? {
        return Ok(Outcome::Stopped { there: groups.rows(partial.groups()), rows });
    }
    finish(form, asked, place, partial)?;
    Ok(Outcome::Written { rows, planned: rows - there })
}

/// Plans what is missing, one group while the one before it is written. Returns whether all is there.
fn add(
    sweep: &Sweep<'_>,
    groups: &Groups,
    form: Form,
    partial: &mut Partial,
    watch: &dyn Watch,
) -> Result<bool, Error> {
    let mut next = partial.groups();
    let mut waiting = planned(sweep, groups.launches(next), watch);
    while let Some(rows) = waiting.filter(|rows| !rows.is_empty()) {
        next += 1;
        let write = || form.encode(&rows).map_err(|why| partial.error(why)).and_then(|encoded| partial.add(&encoded));
        let (written, found) = rayon::join(write, || planned(sweep, groups.launches(next), watch));
        written?;
        waiting = found;
    }
    Ok(next == groups.count)
}

/// The rows of some launches, in order, planned on all cores; `None` when it was stopped.
fn planned(sweep: &Sweep<'_>, launches: Range<u64>, watch: &dyn Watch) -> Option<Vec<SweepRow>> {
    let rows = launches.into_par_iter().map(|launch| {
        if watch.is_stopped() {
            return None;
        }
        let rows = sweep.rows(launch);
        watch.planned(rows.len() as u64);
        Some(rows)
    });
    let rows: Option<Vec<Vec<SweepRow>>> = rows.collect();
    rows.map(|rows| rows.into_iter().flatten().collect())
}

/// Puts the groups together under another name and then gives the file its own, so that whoever sees it sees all of it.
fn finish(form: Form, asked: &str, place: &Path, mut partial: Partial) -> Result<(), Error> {
    let new = beside(place, ".new");
    let cannot = |why| Error::at(&new, why);
    let file = File::create(&new).map_err(cannot)?;
    let file = form
        .assemble(&mut partial, asked, file)
        .map_err(|error| if let Error::Disk(why) = error { Error::at(&new, why) } else { error })?;
    file.sync_all().map_err(cannot)?;
    drop(file);
    form.note(place, &new, asked).map_err(|why| Error::at(place, why))?;
    std::fs::rename(&new, place).map_err(|why| Error::at(place, why))?;
    settle_folder(place).map_err(|why| Error::at(place, why))?;
    partial.remove()
}

/// Rows that are written together: as many whole launches as have about so many rows.
const ROWS: u64 = 16_384;

/// How launches are grouped.
struct Groups {
    /// Launches of a group.
    each: u64,
    /// Launches of all.
    launches: u64,
    /// Groups.
    count: u64,
    /// Rows of a launch.
    loads: u64,
}

impl Groups {
    fn of(sweep: &Sweep<'_>) -> Groups {
        let (launches, loads) = (sweep.launches(), sweep.loads());
        let each = (ROWS / loads.max(1)).max(1);
        Groups { each, launches, count: launches.div_ceil(each), loads }
    }

    /// The launches of a group; none behind the last.
    fn launches(&self, group: u64) -> Range<u64> {
        let from = group.saturating_mul(self.each).min(self.launches);
        from..from.saturating_add(self.each).min(self.launches)
    }

    /// The rows of the first groups.
    fn rows(&self, groups: u64) -> u64 {
        groups.saturating_mul(self.each).min(self.launches) * self.loads
    }
}

#[cfg(test)]
mod tests;
