//! Where does a line end? Lines of bounded length out of a stream, with their numbers.

use std::io::{BufRead, Error, ErrorKind, Read};

/// A stream of bytes, unpacked.
pub type Input = Box<dyn BufRead + Send>;

/// Longest line: a prompt of 2^30 tokens in blocks of 512 has two million numbers.
pub(super) const MOST_BYTES: u64 = 16 << 20;

/// Most bytes that are passed over to find a line: of a line that is too long, and of blank lines.
const MOST_PASSED: u64 = 256 << 20;
/// Most blank lines in a row.
const MOST_BLANK: u32 = 1 << 20;

/// Reads lines.
pub(super) struct Lines {
    input: Input,
    line: Vec<u8>,
    /// Number of the line that was read last, from 1.
    pub(super) number: u64,
    again: bool,
    /// Whether a line that was too long is still to be passed over.
    over: bool,
}

/// A line, or why there is none.
pub(super) enum Line {
    /// It is in [`Lines::bytes`].
    Here,
    /// Too long; the next call passes over what is left of it.
    TooLong,
    End,
    /// The stream broke off.
    Broken(std::io::Error),
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        Lines { input, line: Vec::new(), number: 0, again: false, over: false }
    }

    /// Goes to the next line that is not blank.
    pub(super) fn next(&mut self) -> Line {
        if std::mem::take(&mut self.again) {
            return Line::Here;
        }
        let (mut passed, mut blank) = (0, 0);
        if std::mem::take(&mut self.over) {
            match self.pass_over() {
                Ok(bytes) => passed = bytes,
                Err(error) => return Line::Broken(error),
            }
        }
        loop {
            if passed > MOST_PASSED || blank > MOST_BLANK {
                let why = format!("no line in {} MiB, or {MOST_BLANK} blank ones in a row", MOST_PASSED >> 20);
                return Line::Broken(Error::other(why));
            }
            self.line.clear();
            let read = (&mut self.input).take(MOST_BYTES + 1).read_until(b'\n', &mut self.line);
            match read {
                Ok(0) => return Line::End,
                Ok(bytes) => {
                    self.number += 1;
                    passed += bytes as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.number += 1;
                    return Line::Broken(error);
                }
            }
            if self.line.len() as u64 > MOST_BYTES && self.line.last() != Some(&b'\n') {
                self.over = true;
                return Line::TooLong;
            }
            while matches!(self.line.last(), Some(b'\n' | b'\r' | b' ' | b'\t')) {
                self.line.pop();
            }
            if !self.bytes().is_empty() {
                return Line::Here;
            }
            blank += 1;
        }
    }

    /// Lets [`Lines::next`] give this line once more.
    pub(super) fn repeat(&mut self) {
        self.again = true;
    }

    /// Returns the line that was read last, without its end and, on the first, without byte order mark and blanks before it.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.number > 1 {
            return &self.line;
        }
        let line = self.line.trim_ascii_start();
        line.strip_prefix(b"\xef\xbb\xbf").map_or(line, <[u8]>::trim_ascii_start)
    }

    /// Returns this line and everything behind it; `None` when that is more than `most` bytes.
    pub(super) fn rest(&mut self, most: u64) -> std::io::Result<Option<Vec<u8>>> {
        let mut all = self.bytes().to_vec();
        all.push(b'\n');
        let left = (most + 1).saturating_sub(all.len() as u64);
        (&mut self.input).take(left).read_to_end(&mut all)?;
        Ok((all.len() as u64 <= most).then_some(all))
    }

    /// Passes over the rest of a line and returns its bytes, of an endless one not all.
    fn pass_over(&mut self) -> std::io::Result<u64> {
        (&mut self.input).take(MOST_PASSED + 1).skip_until(b'\n').map(|bytes| bytes as u64)
    }
}
