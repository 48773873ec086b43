//! What does an engine's log say about memory? Every memory line of every engine, in one pass over the bytes and in bounded
//! memory, whatever stands around and between the lines.
//!
//! A line is known by words of the engine's own message, wherever in the line they stand: timestamps, ranks, colours and
//! the prefixes of containers do not matter, and lines of several ranks may be mixed.

mod detect;
pub mod line;
mod llamacpp;
mod number;
mod ollama;
mod python;
mod sglang;
mod sheet;
mod trtllm;
mod vllm;

use aho_corasick::{AhoCorasick, MatchKind};

pub use detect::EngineKind;
pub use line::Encoding;
pub use python::arguments;
pub use sheet::{Gpu, Reading, Refusal, RefusalKind, Sheet, What};

use line::Lines;
use number::Size;

/// Marks that are looked at in one line.
const MARKS_PER_LINE: usize = 64;

/// Which worker wrote a line, as far as its prefix says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Data-parallel replica.
    pub dp: Option<u32>,
    /// Pipeline stage.
    pub pp: Option<u32>,
    /// Tensor-parallel rank.
    pub tp: Option<u32>,
    /// Number over all ranks.
    pub worker: Option<u32>,
}

impl Rank {
    /// Returns `dp0 pp1 tp2`, `rank 3`, or nothing for a line without a tag.
    pub fn name(self) -> String {
        let parts = [("dp", self.dp), ("pp", self.pp), ("tp", self.tp), ("rank ", self.worker)];
        let parts: Vec<String> = parts.iter().filter_map(|(kind, at)| at.map(|at| format!("{kind}{at}"))).collect();
        parts.join(" ")
    }
}

/// What a whole log says.
#[derive(Clone, Debug)]
pub struct Log {
    /// The engine, where a line of its own was found.
    pub engine: Option<EngineKind>,
    /// What it says.
    pub sheet: Sheet,
    /// Lines read.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// How it was encoded.
    pub encoding: Encoding,
    /// Launches whose beginning stands in the log; zero for an excerpt.
    pub launches: u64,
    /// What a reader should know about the log itself.
    pub notes: Vec<String>,
}

/// What a mark does with its line; says whether the line was understood.
type Read = fn(&Found<'_>, &mut Sheet) -> bool;

/// A mark and the line in which it stands.
#[derive(Clone, Copy, Debug)]
struct Found<'l> {
    text: &'l str,
    at: usize,
    end: usize,
    number: u64,
    rank: Rank,
}

impl<'l> Found<'l> {
    /// What stands behind the mark.
    fn after(&self) -> &'l str {
        &self.text[self.end..]
    }

    /// What stands before the mark.
    fn before(&self) -> &'l str {
        &self.text[..self.at]
    }

    /// The mark and what stands behind it, shortened.
    fn excerpt(&self) -> String {
        self.text[self.at..].chars().take(160).collect()
    }

    /// Notes a size; says whether there was one.
    fn size(&self, sheet: &mut Sheet, what: What, size: Option<Size>) -> bool {
        self.size_on(sheet, what, None, size)
    }

    /// Notes a size on a device.
    fn size_on(&self, sheet: &mut Sheet, what: What, device: Option<&str>, size: Option<Size>) -> bool {
        let Some(Size { bytes, half }) = size else { return false };
        let device = device.map(|name| name.chars().take(64).collect());
        let (rank, line, text) = (self.rank, self.number, self.excerpt());
        sheet.push(Reading { what, rank, device, bytes: Some(bytes), half, count: None, line, text });
        true
    }

    /// Notes a count; says whether there was one.
    fn count(&self, sheet: &mut Sheet, what: What, count: Option<f64>) -> bool {
        let Some(count) = count else { return false };
        let (rank, line, text) = (self.rank, self.number, self.excerpt());
        sheet.push(Reading { what, rank, device: None, bytes: None, half: 0, count: Some(count), line, text });
        true
    }

    /// Notes a whole number.
    fn whole(&self, sheet: &mut Sheet, what: What, count: Option<u64>) -> bool {
        self.count(sheet, what, count.map(|count| count as f64))
    }

    /// Notes that the engine refused or failed.
    fn refusal(&self, sheet: &mut Sheet, kind: RefusalKind) -> bool {
        sheet.refuse(Refusal { kind, text: self.text[self.at..].chars().take(400).collect(), line: self.number });
        true
    }
}

/// The tables of marks, engine by engine; the first is everyone's.
const TABLES: [&[(&str, Read)]; 6] =
    [detect::MARKS, vllm::MARKS, trtllm::MARKS, sglang::MARKS, llamacpp::MARKS, ollama::MARKS];

/// Reads a log piece by piece.
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    hand: Hand,
    bytes: u64,
}

/// The part that sees lines.
#[derive(Debug)]
struct Hand {
    finder: Option<AhoCorasick>,
    /// Table and row of each pattern.
    rows: Vec<(usize, usize)>,
    sheets: [Sheet; 6],
    hits: [u64; 6],
    number: u64,
}

impl Reader {
    /// Starts at the beginning of a log.
    pub fn new() -> Self {
        let rows: Vec<(usize, usize)> =
            TABLES.iter().enumerate().flat_map(|(table, rows)| (0..rows.len()).map(move |row| (table, row))).collect();
        let patterns = rows.iter().map(|(table, row)| TABLES[*table][*row].0);
        let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(patterns).ok();
        let hand = Hand { finder, rows, sheets: Default::default(), hits: [0; 6], number: 0 };
        Reader { lines: Lines::new(), hand, bytes: 0 }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let Reader { lines, hand, .. } = self;
        lines.feed(bytes, &mut |line| hand.line(line));
    }

    /// Ends the log and says what was in it.
    pub fn finish(mut self) -> Log {
        let Reader { lines, hand, .. } = &mut self;
        lines.finish(&mut |line| hand.line(line));
        let Hand { sheets, hits, number, .. } = self.hand;
        let (engine, mut sheet) = detect::settle(sheets, hits);
        let mut notes = Vec::new();
        if self.lines.cut > 0 {
            notes.push(format!(
                "{} lines are longer than {} KiB and were read up to there",
                self.lines.cut,
                line::LONGEST >> 10
            ));
        }
        if self.lines.controls > 0 {
            notes.push(format!("{} lines hold zero bytes: is all of it a log?", self.lines.controls));
        }
        let launches = sheet.launches;
        notes.extend(sheet.close());
        let encoding = self.lines.encoding().unwrap_or(Encoding::Utf8);
        Log { engine, sheet, lines: number, bytes: self.bytes, encoding, launches, notes }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Reader::new()
    }
}

impl Hand {
    fn line(&mut self, raw: &str) {
        self.number = self.number.saturating_add(1);
        let text = line::unwrap(raw);
        for text in text.split(['\n', '\r']).filter(|text| !text.is_empty()) {
            self.text(text);
        }
    }

    fn text(&mut self, text: &str) {
        let Some(finder) = &self.finder else { return };
        let mut rank = None;
        let mut marks = 0;
        for found in finder.find_overlapping_iter(text) {
            marks += 1;
            if marks > MARKS_PER_LINE || is_traffic(text) {
                return;
            }
            let (table, row) = self.rows[found.pattern().as_usize()];
            let rank = *rank.get_or_insert_with(|| line::rank(text));
            let found = Found { text, at: found.start(), end: found.end(), number: self.number, rank };
            let understood = (TABLES[table][row].1)(&found, &mut self.sheets[table]);
            self.hits[table] = self.hits[table].saturating_add(u64::from(understood));
        }
    }
}

/// Whether a line shows what a user sent: a prompt that speaks of memory is no log line of the engine.
fn is_traffic(text: &str) -> bool {
    ["Received request ", "prompt: '", "prompt: \"", "\"messages\":", "slot print_timing"]
        .iter()
        .any(|word| text.contains(word))
}

/// Reads a whole log that is at hand.
pub fn read(bytes: &[u8]) -> Log {
    let mut reader = Reader::new();
    reader.feed(bytes);
    reader.finish()
}
