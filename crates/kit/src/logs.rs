//! How is a log read? In pieces of bounded size, from a file or from standard input.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use plimsoll_api::Error;
use plimsoll_api::log::Reader;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Feeds a file, or standard input for `-`, to a reader.
///
/// # Errors
/// [`Error::World`] when it cannot be read.
pub fn read_log(place: &Path, reader: &mut Reader) -> Result<(), Error> {
    let fail = |why: String| Error::World { place: place.display().to_string(), why };
    if place.as_os_str() == "-" {
        return feed(&mut std::io::stdin().lock(), reader).map_err(|error| fail(error.to_string()));
    }
    if place.is_dir() {
        return Err(fail("is a directory; name the log in it".to_owned()));
    }
    let mut file = File::open(place).map_err(|error| fail(error.to_string()))?;
    feed(&mut file, reader).map_err(|error| fail(error.to_string()))
}

fn feed(input: &mut dyn Read, reader: &mut Reader) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut first = true;
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                if first && piece[..read].starts_with(&[0x1f, 0x8b]) {
                    let why = "is compressed (gzip); unpack it first, such as `zcat LOG | plimsoll reconcile -`";
                    return Err(std::io::Error::new(ErrorKind::InvalidData, why));
                }
                first = false;
                reader.feed(&piece[..read]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
