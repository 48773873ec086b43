//! What is one line of a log? Bytes cut at line ends and decoded, colours and containers' wrapping taken off, and the rank
//! that wrote it read from its prefix. Memory stays bounded whatever comes in.

use super::Rank;

/// The longest line that is kept; what comes after is dropped up to the line's end.
pub const LONGEST: usize = 64 << 10;
/// How far into a line a rank's tag may stand.
const TAGS_WITHIN: usize = 240;

/// How the bytes of a log are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, or anything that has ASCII where it matters.
    Utf8,
    /// UTF-16, little end first: what PowerShell's `>` writes.
    Utf16Le,
    /// UTF-16, big end first.
    Utf16Be,
}

impl Encoding {
    /// Returns the usual name.
    pub const fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16Le => "UTF-16LE",
            Encoding::Utf16Be => "UTF-16BE",
        }
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
pub struct Lines {
    encoding: Option<Encoding>,
    /// The first bytes, until the encoding is known.
    head: Vec<u8>,
    /// The line that is being read.
    line: Vec<u8>,
    /// The odd byte of a 16-bit stream.
    odd: Option<u8>,
    /// Whether the rest of the line is dropped.
    dropping: bool,
    /// Lines that were cut.
    pub cut: u64,
    /// Bytes that no text has.
    pub controls: u64,
}

impl Lines {
    /// Starts at the beginning of a log.
    pub const fn new() -> Self {
        Lines { encoding: None, head: Vec::new(), line: Vec::new(), odd: None, dropping: false, cut: 0, controls: 0 }
    }

    /// Returns the encoding, once four bytes have been seen.
    pub const fn encoding(&self) -> Option<Encoding> {
        self.encoding
    }

    /// Takes bytes and hands out every line that they end.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        if self.encoding.is_some() {
            return self.decoded(bytes, each);
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() >= 4 {
            self.settle(each);
        }
    }

    /// Hands out the last line.
    pub fn finish(&mut self, each: &mut dyn FnMut(&str)) {
        if self.encoding.is_none() {
            self.settle(each);
        }
        self.end_line(each);
    }

    /// Settles the encoding by the byte order mark, or by where the zeros of ASCII letters stand.
    fn settle(&mut self, each: &mut dyn FnMut(&str)) {
        let head = std::mem::take(&mut self.head);
        let (encoding, skip) = match *head.as_slice() {
            [0xFF, 0xFE, ..] => (Encoding::Utf16Le, 2),
            [0xFE, 0xFF, ..] => (Encoding::Utf16Be, 2),
            [0xEF, 0xBB, 0xBF, ..] => (Encoding::Utf8, 3),
            [a, 0, b, 0, ..] if a != 0 && b != 0 => (Encoding::Utf16Le, 0),
            [0, a, 0, b, ..] if a != 0 && b != 0 => (Encoding::Utf16Be, 0),
            _ => (Encoding::Utf8, 0),
        };
        self.encoding = Some(encoding);
        self.decoded(&head[skip..], each);
    }

    fn decoded(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        let little = match self.encoding {
            Some(Encoding::Utf16Le) => true,
            Some(Encoding::Utf16Be) => false,
            Some(Encoding::Utf8) | None => return self.push_all(bytes, each),
        };
        for &byte in bytes {
            let Some(first) = self.odd.take() else {
                self.odd = Some(byte);
                continue;
            };
            let unit = if little { u16::from_le_bytes([first, byte]) } else { u16::from_be_bytes([first, byte]) };
            let letter = char::from_u32(u32::from(unit)).unwrap_or('\u{FFFD}');
            let mut room = [0; 4];
            self.push_all(letter.encode_utf8(&mut room).as_bytes(), each);
        }
    }

    /// Appends decoded bytes; a carriage return ends a line too, as a progress bar's does.
    fn push_all(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&str)) {
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.push(&bytes[..at]);
            self.end_line(each);
            bytes = &bytes[at + 1..];
        }
        self.push(bytes);
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.dropping {
            return;
        }
        let room = LONGEST - self.line.len().min(LONGEST);
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.dropping = true;
            self.cut = self.cut.saturating_add(1);
        }
    }

    fn end_line(&mut self, each: &mut dyn FnMut(&str)) {
        self.dropping = false;
        if self.line.is_empty() {
            return;
        }
        if self.line.contains(&0) {
            self.controls = self.controls.saturating_add(1);
        }
        each(&String::from_utf8_lossy(&self.line));
        self.line.clear();
    }
}

impl Default for Lines {
    fn default() -> Self {
        Lines::new()
    }
}

/// Takes off what does not belong to the engine's own text: a container log's JSON around it, colours, control letters.
/// What is returned may be several lines, if the JSON held several.
pub fn unwrap(line: &str) -> String {
    let inner = if line.trim_start().starts_with('{') { message_of(line) } else { None };
    uncoloured(inner.as_deref().unwrap_or(line))
}

/// The message of a line that is one JSON object: Docker's `log`, journald's `MESSAGE`, others' `message`.
fn message_of(line: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line.trim()).ok()?;
    let text = |key: &&str| object.get(*key).and_then(|value| value.as_str());
    ["log", "MESSAGE", "message", "textPayload", "msg", "line"].iter().find_map(text).map(str::to_owned)
}

/// Takes escape sequences off, also those whose escape letter was lost on the way (`[32m`).
fn uncoloured(text: &str) -> String {
    if !text.contains(['\u{1b}', '\u{9b}']) && !text.contains('m') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\u{1b}', '[', '\u{9b}']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = sequence(rest);
        if length == 0 {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..first]);
            rest = &rest[first..];
        } else {
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    out
}

/// The length of an escape sequence at the beginning of a text, zero when there is none.
fn sequence(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (start, colour_only) = match bytes {
        [0x1b, b'[', ..] => (2, false),
        [0x1b, b']', ..] => return text[1..].find(['\u{7}', '\u{1b}']).map_or(text.len(), |at| at + 2),
        [0x1b, ..] => return 1,
        [0xC2, 0x9B, ..] => (2, false),
        [b'[', ..] => (1, true),
        _ => return 0,
    };
    let parameters =
        bytes[start..].iter().take(24).take_while(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b'?')).count();
    match bytes.get(start + parameters) {
        Some(b'm') if !colour_only || parameters > 0 => start + parameters + 1,
        Some(byte) if !colour_only && byte.is_ascii_alphabetic() => start + parameters + 1,
        Some(_) | None => 0,
    }
}

/// Reads the rank from a line's prefix: `(Worker_TP1 pid=9)`, `(VllmWorker rank=1 pid=9)`, `(EngineCore_DP0 pid=9)`,
/// `[2025-11-21 10:00:00 DP0 TP1]`, `[RANK 3]`, `[rank3]:`, `[1,3]<stdout>:`.
///
/// Sources: vLLM `utils/system_utils.py`, `decorate_logs`, and `v1/executor/multiproc_executor.py`; SGLang
/// `managers/scheduler.py`, `configure_scheduler`; TensorRT-LLM `logger.py`; Open MPI's `--tag-output`.
pub fn rank(text: &str) -> Rank {
    let end = text.char_indices().nth(TAGS_WITHIN).map_or(text.len(), |(at, _)| at);
    let mut rank = Rank::default();
    let mut rest = &text[..end];
    while let Some(open) = rest.find(['(', '[']) {
        let closing = if rest[open..].starts_with('(') { ')' } else { ']' };
        let inner = &rest[open + 1..];
        let Some(close) = inner.find(closing) else { break };
        tag(&inner[..close], &inner[close + 1..], &mut rank);
        rest = &inner[close + 1..];
    }
    rank
}

/// Reads what one bracket says.
fn tag(inner: &str, after: &str, rank: &mut Rank) {
    let lower = inner.to_ascii_lowercase();
    let worker = lower.strip_prefix("rank").or_else(|| lower.split_once("rank=").map(|(_, number)| number));
    if let Some(number) = worker.and_then(leading_number) {
        rank.worker = Some(number);
    }
    if after.starts_with("<std")
        && let Some((_, number)) = inner.split_once(',')
    {
        rank.worker = number.trim().parse().ok();
    }
    if let Some(number) = inner.strip_prefix("EngineCore_").and_then(leading_number) {
        rank.dp = Some(number);
    }
    if inner.len() > 80 {
        return;
    }
    for word in inner.split([' ', '_', ',']) {
        let place = match word.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "DP" => &mut rank.dp,
            "PP" => &mut rank.pp,
            "TP" => &mut rank.tp,
            _ => continue,
        };
        if let Ok(number) = word[2..].parse() {
            *place = Some(number);
        }
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches([' ', '=']);
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_read_from_every_engines_prefix() {
        let at = |dp, pp, tp, worker| Rank { dp, pp, tp, worker };
        for (line, wanted) in [
            ("(EngineCore_0 pid=12) INFO 11-21 10:00:00 [core.py:77] x", at(Some(0), None, None, None)),
            ("(EngineCore_DP1 pid=12) INFO x", at(Some(1), None, None, None)),
            ("(VllmWorker rank=3 pid=9) INFO x", at(None, None, None, Some(3))),
            ("(Worker_PP1_TP0 pid=9) INFO x", at(None, Some(1), Some(0), None)),
            ("(Worker_TP1 pid=9) INFO x", at(None, None, Some(1), None)),
            ("[2025-11-21 10:00:00 DP2 PP1 TP3] x", at(Some(2), Some(1), Some(3), None)),
            ("[11/21/2025-10:00:00] [TRT-LLM] [RANK 2] [I] x", at(None, None, None, Some(2))),
            ("[1,5]<stdout>:[TensorRT-LLM][INFO] x", at(None, None, None, Some(5))),
            ("svc-1  | [2025-11-21 10:00:00 TP0] x", at(None, None, Some(0), None)),
            ("INFO 11-21 10:00:00 [gpu_worker.py:298] x (TP of 4)", at(None, None, None, None)),
        ] {
            assert_eq!(rank(line), wanted, "{line}");
        }
    }

    #[test]
    fn wrapping_and_colours_come_off() {
        for (line, wanted) in [
            ("\u{1b}[1;36m(Worker pid=1)\u{1b}[0;0m x", "(Worker pid=1) x"),
            ("[34m0.00.612.795[0m [32mI [0mprint_info: n", "0.00.612.795 I print_info: n"),
            (r#"{"log":"a: \u001b[32mb\n","stream":"stderr","time":"2025-11-21T10:00:00Z"}"#, "a: b\n"),
            (r#"{"MESSAGE":"n_ctx = 4","PRIORITY":"6"}"#, "n_ctx = 4"),
            ("{'a': 1}", "{'a': 1}"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("[12;x m] [m]", "[12;x m] [m]"),
        ] {
            assert_eq!(unwrap(line), wanted, "{line}");
        }
    }

    #[test]
    fn lines_are_cut_and_sixteen_bits_are_read() {
        let read = |bytes: &[u8]| {
            let (mut lines, mut out) = (Lines::new(), Vec::new());
            for chunk in bytes.chunks(3) {
                lines.feed(chunk, &mut |line| out.push(line.to_owned()));
            }
            lines.finish(&mut |line| out.push(line.to_owned()));
            (out, lines.cut)
        };
        assert_eq!(read(b"a\r\nb\rc"), (vec!["a".into(), "b".into(), "c".into()], 0));
        let wide: Vec<u8> =
            [0xFF, 0xFE].into_iter().chain("é1\r\nb".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        assert_eq!(read(&wide), (vec!["é1".into(), "b".into()], 0));
        let bare: Vec<u8> = "ab\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read(&bare), (vec!["ab".into()], 0));
        let long = vec![b'x'; 3 * LONGEST];
        let (lines, cut) = read(&long);
        assert_eq!((lines.len(), lines[0].len(), cut), (1, LONGEST, 1));
    }
}
