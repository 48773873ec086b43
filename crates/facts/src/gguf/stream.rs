//! Where in the file are we? A reader that counts bytes, and says in an error what it was reading and what is missing.

use std::io::{ErrorKind, Read};

use super::{malformed, short};
use crate::Error;

/// Bytes fetched at a time.
const CHUNK: usize = 64 << 10;

/// Bytes of one file, in order, counted.
pub(super) struct Stream<'r> {
    /// The file's name, for errors.
    pub file: String,
    /// The whole file's length, where it is known.
    pub length: Option<u64>,
    input: &'r mut dyn Read,
    chunk: Vec<u8>,
    next: usize,
    /// Bytes handed out.
    at: u64,
    /// What is being read, for errors.
    entry: String,
    /// Bytes that the entries after this one need at the very least.
    after: u64,
}

impl<'r> Stream<'r> {
    pub(super) fn new(file: &str, length: Option<u64>, input: &'r mut dyn Read) -> Self {
        let (file, entry) = (short(file), "the first bytes".to_owned());
        Stream { file, length, input, chunk: Vec::new(), next: 0, at: 0, entry, after: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Says what is read next, and what the entries after it need at the very least.
    pub(super) fn enter(&mut self, entry: impl Into<String>, after: u64) {
        (self.entry, self.after) = (entry.into(), after);
    }

    /// The error at this place.
    pub(super) fn fail(&self, why: impl Into<String>) -> Error {
        malformed(format!("{}, byte {}, {}", self.file, self.at, self.entry), why)
    }

    /// Refuses a length that the file cannot hold.
    pub(super) fn expect(&self, bytes: u64) -> Result<(), Error> {
        match self.length {
            Some(length) if bytes > length.saturating_sub(self.at) => Err(self.cut(bytes, length)),
            Some(_) | None => Ok(()),
        }
    }

    /// The error for a file that ends at `end` although `bytes` more should follow.
    fn cut(&self, bytes: u64, end: u64) -> Error {
        let missing = bytes.saturating_sub(end.saturating_sub(self.at)).saturating_add(self.after);
        let why = format!(
            "the file ends at byte {end}, inside its header, which needs at least {missing} bytes more; \
             fetch more of it (a header with its vocabulary takes 1 to 20 MiB), or all of it again"
        );
        self.fail(why)
    }

    /// Fetches the next chunk; false at the end.
    fn fetch(&mut self, wanted: u64) -> Result<(), Error> {
        self.chunk.resize(CHUNK, 0);
        self.next = 0;
        loop {
            match self.input.read(&mut self.chunk) {
                Ok(0) => {
                    self.chunk.clear();
                    return Err(self.cut(wanted, self.at));
                }
                Ok(read) => {
                    self.chunk.truncate(read);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.chunk.clear();
                    return Err(self.fail(error.to_string()));
                }
            }
        }
    }

    /// Hands the next `count` bytes to `sink`, chunk by chunk.
    fn each(&mut self, count: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.expect(count)?;
        let mut left = count;
        while left > 0 {
            if self.next >= self.chunk.len() {
                self.fetch(left)?;
            }
            let here = &self.chunk[self.next..];
            let taken = here.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&here[..taken]);
            self.next += taken;
            self.at += taken as u64;
            left -= taken as u64;
        }
        Ok(())
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Error> {
        self.each(count, &mut |_| {})
    }

    /// Reads `N` bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (mut bytes, mut filled) = ([0; N], 0);
        self.each(N as u64, &mut |part| {
            bytes[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        })?;
        Ok(bytes)
    }

    /// Reads a 32-bit number.
    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// Reads a 64-bit number.
    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// Reads `length` bytes of which the first `kept` are kept.
    pub(super) fn beginning(&mut self, length: u64, kept: u64) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        self.each(length.min(kept), &mut |part| text.extend_from_slice(part))?;
        self.skip(length.saturating_sub(kept))?;
        Ok(text)
    }
}
