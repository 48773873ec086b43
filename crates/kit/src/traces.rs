//! How is a trace opened? As a stream of unpacked bytes: a file or standard input, as it is, gzip, zstd, and for
//! `ServeGen`'s pools a folder or an archive.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use plimsoll_api::Error;
use plimsoll_sim::load::trace::Input;
use plimsoll_sim::load::trace::servegen::Pool;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Most unpacked bytes of one file of a pool: the largest known has 4 MB.
const MOST_FILE: u64 = 256 << 20;
/// Most unpacked bytes of an archive, and most entries.
const MOST_ARCHIVE: u64 = 4 << 30;
const MOST_ENTRIES: usize = 1 << 18;

/// What a path holds.
pub enum Opened {
    /// One file's bytes, unpacked while they are read.
    Stream(Input),
    /// A pool of `ServeGen` clients.
    Pool(Pool),
}

/// Opens a trace, or standard input for `-`. How it is packed is seen from its first bytes, not from its name.
///
/// # Errors
/// [`Error::World`] when it cannot be opened, or is an archive or a folder that holds no `ServeGen` pool.
pub fn open_trace(place: &Path) -> Result<Opened, Error> {
    let fail = |why: String| Error::World { place: place.display().to_string(), why };
    let name = place.display().to_string();
    if place.as_os_str() == "-" {
        return unpack(Box::new(BufReader::with_capacity(PIECE, std::io::stdin())), &name).map_err(fail);
    }
    if place.is_dir() {
        return folder(place).map(|pool| Opened::Pool(pool.called(&name))).map_err(fail);
    }
    let file = File::open(place).map_err(|error| fail(error.to_string()))?;
    unpack(Box::new(BufReader::with_capacity(PIECE, file)), &name).map_err(fail)
}

/// Unpacks what is packed, at most twice: an archive may be within. A pool gets the name.
fn unpack(mut input: Input, name: &str) -> Result<Opened, String> {
    let broken = |error: std::io::Error| format!("cannot be read: {error}; is the file damaged or cut off?");
    for _ in 0..2 {
        let (head, next) = head(input, 4).map_err(broken)?;
        input = next;
        if head.starts_with(&[0x1f, 0x8b]) {
            let inner = flate2::bufread::MultiGzDecoder::new(input);
            input = Box::new(BufReader::with_capacity(PIECE, inner));
        } else if head == [0x28, 0xb5, 0x2f, 0xfd] {
            input = Box::new(BufReader::with_capacity(PIECE, Frames::new(input)));
        } else {
            break;
        }
    }
    let (head, input) = head(input, 512).map_err(broken)?;
    // The mark of a tar archive, of the POSIX and the old GNU form alike.
    if head.get(257..262) == Some(b"ustar") {
        return archive(input).map(|pool| Opened::Pool(pool.called(name)));
    }
    Ok(Opened::Stream(input))
}

/// Returns the first bytes, and a stream that begins with them.
fn head(mut input: Input, length: usize) -> std::io::Result<(Vec<u8>, Input)> {
    let mut head = Vec::with_capacity(length);
    (&mut input).take(length as u64).read_to_end(&mut head)?;
    let again: Input = Box::new(std::io::Cursor::new(head.clone()).chain(input));
    Ok((head, again))
}

/// The frames of a zstd file, one after the other. The decoder itself refuses windows of more than 100 MB.
struct Frames {
    decoder: Option<Decoder>,
    input: Option<Input>,
}

type Decoder = ruzstd::decoding::StreamingDecoder<Input, ruzstd::decoding::FrameDecoder>;

impl Frames {
    fn new(input: Input) -> Self {
        Frames { decoder: None, input: Some(input) }
    }
}

impl Read for Frames {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if let Some(decoder) = &mut self.decoder {
                let read = decoder.read(into).map_err(|_| invalid())?;
                if read > 0 || into.is_empty() {
                    return Ok(read);
                }
                self.input = self.decoder.take().map(Decoder::into_inner);
            }
            let Some(mut input) = self.input.take() else { return Ok(0) };
            if input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let decoder = Decoder::new(input).map_err(|_| invalid())?;
            self.decoder = Some(decoder);
        }
    }
}

/// What is packed as zstd and cannot be unpacked: the decoder's own words are for its authors.
fn invalid() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no valid zstd file")
}

fn archive(input: Input) -> Result<Pool, String> {
    let mut pool = Pool::default();
    let mut archive = tar::Archive::new(input.take(MOST_ARCHIVE));
    let broken = |error: std::io::Error| format!("cannot be unpacked: {error}; the archive is damaged or cut off");
    for (index, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if index >= MOST_ENTRIES {
            return Err(format!("holds more than {MOST_ENTRIES} files"));
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        add(&mut pool, &path, &mut entry)?;
    }
    whole(pool)
}

fn folder(place: &Path) -> Result<Pool, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(place).map_err(said)?.take(MOST_ENTRIES) {
        paths.push(entry.map_err(said)?.path());
    }
    paths.sort();
    let mut pool = Pool::default();
    for path in paths.iter().filter(|path| path.is_file()) {
        let mut file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        add(&mut pool, &path.display().to_string(), &mut file)?;
    }
    whole(pool)
}

fn add(pool: &mut Pool, path: &str, input: &mut dyn Read) -> Result<(), String> {
    if !path.ends_with("-trace.csv") && !path.ends_with("-dataset.json") {
        return Ok(());
    }
    let mut text = Vec::new();
    let read = input.take(MOST_FILE + 1).read_to_end(&mut text);
    read.map_err(|error| format!("{path}: cannot be read: {error}"))?;
    if text.len() as u64 > MOST_FILE {
        return Err(format!("{path}: has more than {MOST_FILE} bytes"));
    }
    pool.add(path, &text).map_err(|error| error.to_string())?;
    Ok(())
}

fn whole(pool: Pool) -> Result<Pool, String> {
    if pool.clients() == 0 {
        return Err(
            "holds no ServeGen pool (chunk-N-trace.csv and chunk-N-dataset.json); name one trace in it".to_owned()
        );
    }
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use plimsoll_sim::load::Source;
    use plimsoll_sim::load::trace::{Options, open};

    use super::*;

    const TEXT: &str = "arrived_s,prompt_tokens,output_tokens\n0,5,1\n1,6,2\n";

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut packer = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            packer.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        packer.into_inner().unwrap()
    }

    fn opened(bytes: &[u8]) -> Result<Opened, Error> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        open_trace(file.path())
    }

    fn requests(bytes: &[u8]) -> Result<usize, String> {
        let stream = match opened(bytes).map_err(|error| error.to_string())? {
            Opened::Stream(stream) => stream,
            Opened::Pool(pool) => return Ok(pool.clients()),
        };
        let mut trace = open("t", stream, &Options::default()).map_err(|error| error.to_string())?;
        let mut count = 0;
        while trace.take().map_err(|error| error.to_string())?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn packed_or_not() {
        let halves = TEXT.split_at(50);
        let pool = tar(&[("m/chunk-0-trace.csv", "0,1,1,Gamma,1,1\n"), ("m/chunk-0-dataset.json", "{}"), ("m/x", "y")]);
        for (name, bytes, count) in [
            ("plain", TEXT.as_bytes().to_vec(), 2),
            ("gzip", gz(TEXT.as_bytes()), 2),
            ("two members", [gz(halves.0.as_bytes()), gz(halves.1.as_bytes())].concat(), 2),
            ("zstd", zst(TEXT.as_bytes()), 2),
            ("two frames", [zst(halves.0.as_bytes()), zst(halves.1.as_bytes())].concat(), 2),
            ("tar", pool.clone(), 1),
            ("tar.gz", gz(&pool), 1),
            ("tar.zst", zst(&pool), 1),
        ] {
            assert_eq!(requests(&bytes), Ok(count), "{name}");
        }
    }

    #[test]
    fn damaged_or_strange() {
        let packed = gz((TEXT.to_owned() + &"1,6,2\n".repeat(50)).as_bytes());
        for (name, bytes, message) in [
            ("nothing", Vec::new(), "is empty"),
            ("cut gzip", packed[..packed.len() - 12].to_vec(), "cut off"),
            ("cut zstd", zst(TEXT.as_bytes())[..20].to_vec(), "cut off"),
            (
                "no zstd",
                [&[0x28, 0xb5, 0x2f, 0xfd], &[0xff; 40][..]].concat(),
                ": it is no valid zstd file; is the file dam",
            ),
            ("damaged", [&packed[..10], &[0xff; 40]].concat(), "damaged"),
            ("noise", (0..999_u32).map(|n| ((n * n) >> 3) as u8 | 128).collect(), "is not text"),
            ("other tar", gz(&tar(&[("a.csv", TEXT)])), "holds no ServeGen pool"),
            ("bad pool", tar(&[("chunk-0-trace.csv", "x")]), "chunk-0-trace.csv:1: not six columns"),
        ] {
            let error = requests(&bytes).expect_err(name);
            assert!(error.contains(message), "{name}: {error}");
        }
        assert!(open_trace(Path::new("absent")).is_err());
    }

    #[test]
    fn a_folder_is_a_pool() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open_trace(folder.path()).is_err());
        std::fs::write(folder.path().join("chunk-7-trace.csv"), "0,1,1,Gamma,1,1\n").unwrap();
        let Ok(Opened::Pool(pool)) = open_trace(folder.path()) else { panic!("no pool") };
        assert_eq!(pool.clients(), 1);
        let error = pool.source(Default::default(), 0).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
    }
}
