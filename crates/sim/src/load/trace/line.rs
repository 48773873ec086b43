//! Where does a line end? Lines of bounded length out of a stream, with their numbers.

use std::io::{BufRead, ErrorKind, Read};

/// A stream of bytes, unpacked.
pub type Input = Box<dyn BufRead + Send>;

/// Longest line: a prompt of 2^30 tokens in blocks of 512 has two million numbers.
pub(super) const MOST_BYTES: u64 = 16 << 20;

/// Reads lines.
pub(super) struct Lines {
    input: Input,
    line: Vec<u8>,
    /// Number of the line that was read last, from 1.
    pub(super) number: u64,
    again: bool,
}

/// A line, or why there is none.
pub(super) enum Line {
    /// It is in [`Lines::text`].
    Here,
    /// Too long; it was passed over.
    TooLong,
    End,
    /// The stream broke off.
    Broken(std::io::Error),
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        Lines { input, line: Vec::new(), number: 0, again: false }
    }

    /// Goes to the next line that is not blank.
    pub(super) fn next(&mut self) -> Line {
        if std::mem::take(&mut self.again) {
            return Line::Here;
        }
        loop {
            self.line.clear();
            let read = (&mut self.input).take(MOST_BYTES + 1).read_until(b'\n', &mut self.line);
            match read {
                Ok(0) => return Line::End,
                Ok(_) => self.number += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.number += 1;
                    return Line::Broken(error);
                }
            }
            if self.line.len() as u64 > MOST_BYTES && self.line.last() != Some(&b'\n') {
                return match self.pass_over() {
                    Ok(()) => Line::TooLong,
                    Err(error) => Line::Broken(error),
                };
            }
            while matches!(self.line.last(), Some(b'\n' | b'\r' | b' ' | b'\t')) {
                self.line.pop();
            }
            if !self.line.is_empty() {
                return Line::Here;
            }
        }
    }

    /// Lets [`Lines::next`] give this line once more.
    pub(super) fn repeat(&mut self) {
        self.again = true;
    }

    /// Returns the line that was read last, without its end and, on the first, without a byte order mark.
    pub(super) fn bytes(&self) -> &[u8] {
        self.line.strip_prefix(b"\xef\xbb\xbf").filter(|_| self.number == 1).unwrap_or(&self.line)
    }

    /// Returns this line and everything behind it; `None` when that is more than `most` bytes.
    pub(super) fn rest(&mut self, most: u64) -> std::io::Result<Option<Vec<u8>>> {
        let mut all = self.bytes().to_vec();
        all.push(b'\n');
        let left = (most + 1).saturating_sub(all.len() as u64);
        (&mut self.input).take(left).read_to_end(&mut all)?;
        Ok((all.len() as u64 <= most).then_some(all))
    }

    fn pass_over(&mut self) -> std::io::Result<()> {
        loop {
            let piece = self.input.fill_buf()?;
            let (length, last) = match piece.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end + 1, true),
                None => (piece.len(), piece.is_empty()),
            };
            self.input.consume(length);
            if last {
                return Ok(());
            }
        }
    }
}
