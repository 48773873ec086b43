//! How are words made to fit, and numbers written? Names come from outside: what no page can show is taken out, what is too
//! long is cut or wrapped.

use super::super::Unit;
use crate::number;

/// The most characters of a name or a caption that are looked at.
const LONGEST: usize = 4000;

/// Returns words without what XML forbids or what would turn the line around: control characters, marks of direction.
pub(super) fn clean(words: &str) -> String {
    let mut text = String::new();
    for c in words.chars().take(LONGEST) {
        match c {
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {}
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() || c.is_whitespace() && !('\u{2000}'..='\u{202f}').contains(&c) && c != '\u{a0}' => {
                if !text.ends_with(' ') {
                    text.push(' ');
                }
            }
            c => text.push(c),
        }
    }
    text.trim().to_owned()
}

/// Returns words cut in their middle until they are no wider: beginnings and ends tell most.
pub(super) fn fit(words: &str, most: f64, width: impl Fn(&str) -> f64) -> String {
    if width(words) <= most {
        return words.to_owned();
    }
    let all: Vec<char> = words.chars().collect();
    for kept in (1..all.len().min(400)).rev() {
        let (head, tail) = (kept - kept / 2, kept / 2);
        let cut: String = all[..head].iter().chain(['…'].iter()).chain(all[all.len() - tail..].iter()).collect();
        if width(&cut) <= most {
            return cut;
        }
    }
    String::new()
}

/// Returns words in lines that are no wider; what does not fit into the last line is cut.
pub(super) fn wrap(words: &str, most: f64, lines: usize, width: impl Fn(&str) -> f64) -> Vec<String> {
    let mut done: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(&longer) <= most {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            done.push(std::mem::take(&mut line));
        }
        line = if width(word) <= most { word.to_owned() } else { broken(word, most, &width, &mut done) };
        if done.len() > lines {
            break;
        }
    }
    if !line.is_empty() {
        done.push(line);
    }
    if done.len() > lines {
        let rest = done.split_off(lines);
        if let (Some(last), Some(first)) = (done.last_mut(), rest.first()) {
            let whole = format!("{last} {first}…");
            *last = whole;
            while width(last) > most && last.chars().count() > 1 {
                last.pop();
                last.pop();
                last.truncate(last.trim_end().len());
                last.push('…');
            }
        }
    }
    done
}

/// Breaks a word that is wider than a line; the rest that begins the next line is returned.
fn broken(word: &str, most: f64, width: &impl Fn(&str) -> f64, done: &mut Vec<String>) -> String {
    let mut line = String::new();
    for c in word.chars() {
        line.push(c);
        if width(&line) > most && line.chars().count() > 1 {
            line.pop();
            done.push(std::mem::take(&mut line));
            line.push(c);
        }
    }
    line
}

/// Returns a number with its unit, in three digits: `61.4 GiB`, `1.28 ms`, `41 408`, `7.6%`.
pub(super) fn value(number: f64, unit: Unit) -> String {
    if number < 0.0 {
        return format!("−{}", value(-number, unit));
    }
    if !number.is_finite() {
        return "—".to_owned();
    }
    match unit {
        Unit::Bytes => number::size(number.round() as u64),
        Unit::Seconds => {
            let (size, unit) = seconds(number);
            format!("{} {unit}", number::three(number / size))
        }
        Unit::Count if number.fract() == 0.0 && number < 1e6 => number::count(number as u64),
        Unit::Count | Unit::Plain => thousands(number),
        Unit::Share if number >= 0.9995 && number.fract() == 0.0 => format!("{}%", number::plain(number * 100.0)),
        Unit::Share => format!("{}%", number::three(number * 100.0)),
    }
}

/// Returns the unit that a time is written in, and its length.
pub(super) fn seconds(time: f64) -> (f64, &'static str) {
    const UNITS: [(f64, &str); 5] =
        [(10_800.0, "h"), (180.0, "min"), (0.9995, "s"), (0.9995e-3, "ms"), (0.9995e-6, "µs")];
    const LENGTHS: [f64; 5] = [3600.0, 60.0, 1.0, 1e-3, 1e-6];
    let found = UNITS.iter().zip(LENGTHS).find(|((least, _), _)| time >= *least);
    found.map_or((1e-9, "ns"), |((_, unit), length)| (length, *unit))
}

/// Returns the unit that a size is written in, and its bytes.
pub(super) fn bytes(size: f64) -> (f64, &'static str) {
    const UNITS: [(f64, &str); 4] =
        [(1_099_511_627_776.0, "TiB"), (1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB")];
    UNITS.into_iter().find(|(bytes, _)| size >= *bytes).unwrap_or((1.0, "B"))
}

/// Returns a number in three digits with `k`, `M`, `G`, `T`, `P` where it is large.
fn thousands(number: f64) -> String {
    const STEPS: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")];
    for (step, letter) in STEPS {
        if number >= step {
            let step = if letter == "k" { 1e3 } else { step };
            return format!("{}{letter}", number::three(number / step));
        }
    }
    if number > 0.0 && number < 0.0009995 { format!("{number:.2e}") } else { number::three(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_houses() {
        for (number, unit, text) in [
            (65_927_183_565.0, Unit::Bytes, "61.4 GiB"),
            (0.00128, Unit::Seconds, "1.28 ms"),
            (90.0, Unit::Seconds, "90.0 s"),
            (0.0, Unit::Seconds, "0 ns"),
            (41_408.0, Unit::Count, "41 408"),
            (1.5e9, Unit::Count, "1.50G"),
            (0.076, Unit::Share, "7.60%"),
            (1.0, Unit::Share, "100%"),
            (-3.0, Unit::Plain, "−3.00"),
            (f64::NAN, Unit::Bytes, "—"),
        ] {
            assert_eq!(value(number, unit), text);
        }
    }

    #[test]
    fn words_fit() {
        let each = |words: &str| words.chars().count() as f64;
        assert_eq!(fit("meta-llama/Llama-3.1-70B", 10.0, each), "meta-…-70B");
        assert_eq!(fit("meta", 10.0, each), "meta");
        assert_eq!(fit("meta", 0.0, each), "");
        assert_eq!(wrap("one two three", 7.0, 9, each), ["one two", "three"]);
        assert_eq!(wrap("one two three four", 7.0, 2, each), ["one two", "three…"]);
        assert_eq!(wrap("abcdefghij k", 4.0, 9, each), ["abcd", "efgh", "ij k"]);
        assert_eq!(clean("a\u{0}b\n\tc\u{202e}d\u{ffff}"), "a b cd");
    }
}
