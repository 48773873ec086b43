//! How far do two sequences agree? Walking, comparing and cutting runs of tokens.

pub(super) use crate::content::Run;
use crate::content::{SEED, mix};

/// A place in a sequence, with an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    runs: &'a [Run],
    /// Tokens of the first run that are behind us.
    used: u32,
    left: u32,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of runs that hold at least `left` tokens.
    pub const fn new(runs: &'a [Run], left: u32) -> Self {
        Cursor { runs, used: 0, left }
    }

    /// Returns the tokens before the end.
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Returns the longest run from here, cut at the end and at `most` tokens.
    fn run(&self, most: u32) -> Option<Run> {
        let run = self.runs.first()?;
        let len = (run.len - self.used).min(self.left).min(most);
        (len > 0).then_some(Run { stream: run.stream, from: run.from + self.used, len })
    }

    /// Goes on by some tokens, at most to the end.
    pub fn skip(&mut self, tokens: u32) {
        let mut tokens = tokens.min(self.left);
        self.left -= tokens;
        while let Some(run) = self.runs.first() {
            let rest = run.len - self.used;
            if tokens < rest {
                self.used += tokens;
                return;
            }
            tokens -= rest;
            self.runs = &self.runs[1..];
            self.used = 0;
        }
    }

    /// Returns how many tokens from here agree with other runs.
    pub fn common(mut self, other: &[Run]) -> u32 {
        let mut same = 0;
        for theirs in other {
            match self.run(u32::MAX) {
                Some(ours) if ours.stream == theirs.stream && ours.from == theirs.from => {
                    let len = ours.len.min(theirs.len);
                    same += len;
                    // Neighbouring runs never continue each other, so a shorter run of ours means that they part.
                    if len < theirs.len {
                        return same;
                    }
                    self.skip(len);
                }
                Some(_) | None => return same,
            }
        }
        same
    }

    /// Hashes the next page together with the node that it hangs on.
    pub fn page_hash(mut self, parent: u32, page: u32) -> u64 {
        let mut hash = mix(SEED, u64::from(parent));
        let mut left = page;
        while let Some(run) = self.run(left) {
            hash = mix(hash ^ run.stream, (u64::from(run.from) << 32) | u64::from(run.len));
            left -= run.len;
            self.skip(run.len);
        }
        hash
    }

    /// Appends everything up to the end to empty runs.
    pub fn copy(mut self, runs: &mut Vec<Run>) {
        while let Some(run) = self.run(u32::MAX) {
            runs.push(run);
            self.skip(run.len);
        }
    }
}

/// Moves the first `tokens` tokens of some runs to the end of others.
pub(super) fn split(runs: &mut Vec<Run>, tokens: u32, head: &mut Vec<Run>) {
    let (mut whole, mut left) = (0, tokens);
    while let Some(run) = runs.get_mut(whole) {
        if run.len > left {
            if left > 0 {
                head.push(Run { len: left, ..*run });
                run.from += left;
                run.len -= left;
            }
            break;
        }
        head.push(*run);
        left -= run.len;
        whole += 1;
    }
    runs.drain(..whole);
}
