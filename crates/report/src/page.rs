//! Where does it stand on the page? Padding, wrapping, bars and colour.

/// How text is laid out for a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether colours may be used; nothing depends on them.
    pub color: bool,
    /// Columns of the page.
    pub width: usize,
}

impl Style {
    /// Eighty columns without colour.
    pub const PLAIN: Style = Style { color: false, width: 80 };

    /// Marks a heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Marks good news.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// Marks bad news.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Marks what stands back.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// Fills up with spaces on the right.
pub(crate) fn left(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// Fills up with spaces on the left.
pub(crate) fn right(text: &str, to: usize) -> String {
    format!("{}{text}", " ".repeat(to.saturating_sub(width(text))))
}

/// Cuts a text to a width.
pub(crate) fn cut(text: &str, to: usize) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let kept: String = text.chars().take(to.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Makes control characters of untrusted text harmless.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Makes control characters of untrusted text harmless, but for the ends of its lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Wraps a text at spaces; the first line begins with `first`, the others with as many spaces.
pub(crate) fn wrap(first: &str, text: &str, to: usize) -> String {
    let margin = " ".repeat(width(first));
    let (mut out, mut line, mut empty) = (String::new(), first.to_owned(), true);
    let room = to.saturating_sub(width(&margin));
    for word in words(&clean(text)).iter().flat_map(|word| pieces(word, room)) {
        if !empty && width(&line) + 1 + width(word) > to {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clone_from(&margin);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

/// The least room in which a word is broken; where there is less, it stands as it is.
const LEAST_ROOM: usize = 16;

/// A word, in pieces of at most `room` if it is a path or an address: broken behind `/`, `@` or `:`.
fn pieces(word: &str, room: usize) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), word);
    while room >= LEAST_ROOM && width(rest) > room {
        let fits = rest.char_indices().take(room).filter(|(_, c)| matches!(c, '/' | '@' | ':'));
        let Some(end) = fits.last().map(|(at, c)| at + c.len_utf8()).filter(|end| *end < rest.len()) else { break };
        let (piece, after) = rest.split_at(end);
        found.push(piece);
        rest = after;
    }
    found.push(rest);
    found
}

/// The words of a text; the groups of a long number (`32 128`) are one word.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let digits = word.chars().take_while(char::is_ascii_digit).count();
        let group = digits == 3 && !word[digits..].starts_with(char::is_alphanumeric);
        match words.last_mut() {
            Some(last) if group && last.chars().all(|c| c.is_ascii_digit() || c == ' ') => {
                last.push(' ');
                last.push_str(word);
            }
            Some(_) | None => words.push(word.to_owned()),
        }
    }
    words
}

/// Wraps a shell command so that it can be pasted: broken at spaces outside quotes, a backslash at each break.
pub(crate) fn wrap_command(command: &str, to: usize) -> String {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in clean(command).chars() {
        match (quote, c) {
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.push(c);
            }
            (Some(open), c) if open == c => {
                quote = None;
                word.push(c);
            }
            (None | Some(_), c) => word.push(c),
        }
    }
    words.push(word);
    let mut lines: Vec<String> = Vec::new();
    let mut units: Vec<String> = Vec::new();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        match units.last_mut() {
            Some(last) if last.starts_with('-') && !last.contains(' ') && !word.starts_with('-') => {
                last.push(' ');
                last.push_str(&word);
            }
            Some(_) | None => units.push(word),
        }
    }
    for unit in units {
        match lines.last_mut() {
            Some(line) if width(line) + 3 + width(&unit) <= to => {
                line.push(' ');
                line.push_str(&unit);
            }
            Some(_) => lines.push(format!("    {unit}")),
            None => lines.push(format!("  {unit}")),
        }
    }
    lines.join(" \\\n") + "\n"
}

/// A bar of `part / whole` of `cells` cells, in eighths.
pub(crate) fn bar(part: u64, whole: u64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if whole == 0 || part == 0 {
        return String::new();
    }
    let eighths = (part as f64 / whole as f64 * cells as f64 * 8.0).round() as usize;
    let eighths = eighths.clamp(1, cells * 8);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Lays rows out in columns, two spaces apart; numbers stand right. Columns are cut, the last ones first, to fit.
pub(crate) fn columns(rows: &[Vec<String>], numeric: &[bool], to: usize) -> Vec<String> {
    let count = numeric.len();
    let natural = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..count).map(natural).collect();
    let mut over = (widths.iter().sum::<usize>() + 2 * count.saturating_sub(1)).saturating_sub(to);
    for least in [12, 6] {
        for at in (0..count).rev() {
            let spare = if numeric[at] { 0 } else { widths[at].saturating_sub(least).min(over) };
            widths[at] -= spare;
            over -= spare;
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().take(count).enumerate().map(|(at, cell)| {
            let cell = cut(cell, widths[at]);
            if numeric[at] { right(&cell, widths[at]) } else { left(&cell, widths[at]) }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A row of a Markdown table.
pub(crate) fn markdown_row<S: AsRef<str>>(cells: &[S]) -> String {
    let cells = cells.iter().map(|cell| clean(cell.as_ref()).replace('|', "\\|"));
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// The line below a Markdown table's head.
pub(crate) fn markdown_rule(numeric: &[bool]) -> String {
    let cells: Vec<&str> = numeric.iter().map(|numeric| if *numeric { "---:" } else { "---" }).collect();
    markdown_row(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_start_at_zero_and_end_at_the_edge() {
        for (part, text) in
            [(0, ""), (1, "▏"), (500, "█████"), (1000, "██████████"), (2000, "██████████"), (563, "█████▋")]
        {
            assert_eq!(bar(part, 1000, 10), text);
        }
    }

    #[test]
    fn commands_break_between_flags_only() {
        let command =
            "VLLM_USE_V1=1 vllm serve org/model --compilation-config '{\"a\": 1, \"b\": 2}' --max-model-len 32768";
        assert_eq!(
            wrap_command(command, 50),
            "  VLLM_USE_V1=1 vllm serve org/model \\\n    --compilation-config '{\"a\": 1, \"b\": 2}' \\\n    --max-model-len 32768\n"
        );
    }

    #[test]
    fn long_words_and_control_characters_are_harmless() {
        assert_eq!(wrap("- ", "one two\u{1b}[31m three", 12), "- one two\n  [31m three\n");
        assert_eq!(wrap("- ", "abcdefghijklmnop q", 8), "- abcdefghijklmnop\n  q\n");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(wrap("- ", "fits, 32 144 tokens", 10), "- fits,\n  32 144\n  tokens\n");
    }
}
