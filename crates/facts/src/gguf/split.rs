//! Are all parts here? One file, or the parts of a split one, made into one header.

use std::collections::BTreeSet;
use std::io::Read;

use super::header::{self, Header};
use super::stream::Stream;
use super::{Gguf, PartInfo, Value, malformed, short};
use crate::Error;

/// The most parts of one model.
const MOST_PARTS: u64 = 9_999;

/// One file to read.
pub struct Input<'r> {
    /// Its name, for errors and for [`PartInfo::name`].
    pub name: String,
    /// Its bytes from the beginning; no more than the header is read.
    pub bytes: &'r mut dyn Read,
    /// Its length, where it is known.
    pub length: Option<u64>,
}

/// Splits the name of a part, `model-00002-of-00005.gguf`, into what stands before the numbers, its number and how many
/// parts there are; `None` for a file that is whole by its name.
///
/// Source: llama.cpp 0c1e57098, `src/llama.cpp` (`llama_split_path`).
pub fn part_of(name: &str) -> Option<(&str, u32, u32)> {
    let rest = name.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let five = |text: &str| (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let (number, count): (u32, u32) = (five(number)?, five(count)?);
    (number >= 1 && number <= count).then_some((prefix, number, count))
}

/// Reads the headers of a model's files: one, or all parts of a split one in any order.
///
/// Metadata are the first part's; tensors are those of all parts (llama.cpp 0c1e57098, `src/llama-model-loader.cpp`).
///
/// # Errors
/// [`Error::Malformed`] names the file, the byte and the entry, and what is wrong or which parts are missing.
pub fn read(inputs: Vec<Input<'_>>) -> Result<Gguf, Error> {
    let mut parts = Vec::new();
    for input in inputs {
        let mut stream = Stream::new(&input.name, input.length, input.bytes);
        let header = header::read(&mut stream, 0)?;
        parts.push((input.name, input.length, header));
        if parts.len() as u64 > MOST_PARTS {
            return Err(malformed("GGUF", format!("more than {MOST_PARTS} parts")));
        }
    }
    for (name, _, header) in &parts {
        split_key(name, header, "split.no")?;
    }
    parts.sort_by_key(|(_, _, header)| header.metadata.get("split.no").and_then(Value::as_u64).unwrap_or(0));
    check_parts(&parts)?;
    let mut found: Option<Gguf> = None;
    let mut names = BTreeSet::new();
    for (part, (name, length, header)) in parts.into_iter().enumerate() {
        let info = PartInfo {
            name: short(&name),
            data_start: header.data_start,
            data_bytes: header.data_bytes,
            length,
            tensors: header.tensors.len() as u64,
        };
        let gguf = found.get_or_insert_with(|| Gguf {
            version: header.version,
            alignment: header.alignment,
            metadata: header.metadata,
            tensors: Vec::new(),
            parts: Vec::new(),
            notes: Vec::new(),
        });
        gguf.notes.extend(header.notes);
        gguf.notes.extend(cut_note(&info));
        for mut tensor in header.tensors {
            if !names.insert(tensor.name.clone()) {
                let place = format!("{}, tensor `{}`", info.name, short(&tensor.name));
                return Err(malformed(
                    place,
                    "an earlier part has a tensor of that name; do the parts belong together?",
                ));
            }
            tensor.part = part;
            gguf.tensors.push(tensor);
        }
        gguf.parts.push(info);
    }
    let mut found = found.ok_or_else(|| malformed("GGUF", "no file was given"))?;
    if let [part] = found.parts.as_slice()
        && let Some((_, number, count)) = part_of(&part.name).filter(|(_, _, count)| *count > 1)
        && !found.metadata.contains_key("split.count")
    {
        let note = format!(
            "{}: part {number} of {count} by its name, but its metadata lack `split.count`: read as a whole file, as \
             llama.cpp does",
            part.name
        );
        found.notes.push(note);
    }
    Ok(found)
}

/// Says so when a file ends before its tensors do.
fn cut_note(part: &PartInfo) -> Option<String> {
    let whole = part.data_start.saturating_add(part.data_bytes);
    let length = part.length.filter(|length| *length < whole)?;
    let what = if length <= part.data_start { "the header alone" } else { "the beginning" };
    Some(format!(
        "{}: {length} bytes of {whole} are here, {what}; that is enough to plan by, but no engine loads it",
        part.name
    ))
}

/// Reads one of the keys of a split file.
fn split_key(file: &str, header: &Header, key: &str) -> Result<Option<u64>, Error> {
    let Some(value) = header.metadata.get(key) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| {
        malformed(format!("{}, key `{key}`", short(file)), format!("it is {value}, expected a whole number"))
    })
}

/// Checks that the parts belong together and that none is missing.
fn check_parts(parts: &[(String, Option<u64>, Header)]) -> Result<(), Error> {
    let Some((first_name, _, first)) = parts.first() else { return Ok(()) };
    let count = split_key(first_name, first, "split.count")?.filter(|count| *count > 1);
    let Some(count) = count else {
        return match parts.get(1) {
            Some((other, ..)) => {
                let why = format!("it is whole by its own metadata, but comes with {}", short(other));
                Err(malformed(short(first_name), why))
            }
            None => Ok(()),
        };
    };
    if count > MOST_PARTS {
        let place = format!("{}, key `split.count`", short(first_name));
        return Err(malformed(place, format!("{count} parts; up to {MOST_PARTS} are taken for true")));
    }
    let mut numbers = BTreeSet::new();
    for (name, _, header) in parts {
        let number = split_key(name, header, "split.no")?.unwrap_or(0);
        let of = split_key(name, header, "split.count")?.unwrap_or(0);
        if of != count || number >= count {
            let why = format!("it is part {} of {of}, the first file says {count} parts", number.saturating_add(1));
            return Err(malformed(short(name), why));
        }
        if !numbers.insert(number) {
            return Err(malformed(short(name), format!("part {} is there twice", number + 1)));
        }
    }
    let missing: Vec<String> =
        (0..count).filter(|at| !numbers.contains(at)).map(|at| part_name(first_name, at, count)).collect();
    let here: u64 = parts.iter().map(|(_, _, header)| header.tensors.len() as u64).sum();
    let promised = split_key(first_name, first, "split.tensors.count")?;
    if !missing.is_empty() {
        let (shown, more) = (missing.len().min(4), missing.len().saturating_sub(4));
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let tensors = promised.map_or_else(String::new, |all| format!(" ({here} of {all} tensors are here)"));
        let why = format!(
            "one of {count} parts; missing: {}{more}{tensors}; put them, or their first megabytes, beside it",
            missing[..shown].join(", ")
        );
        return Err(malformed(short(first_name), why));
    }
    match promised.filter(|promised| *promised != here) {
        Some(promised) => {
            let place = format!("{}, key `split.tensors.count`", short(first_name));
            Err(malformed(
                place,
                format!("{promised} tensors, but the {count} parts hold {here}; do they belong together?"),
            ))
        }
        None => Ok(()),
    }
}

/// The name that part `at` should have, by another part's name.
fn part_name(name: &str, at: u64, count: u64) -> String {
    match part_of(name) {
        Some((prefix, ..)) => format!("{}-{:05}-of-{count:05}.gguf", short(prefix), at + 1),
        None => format!("part {}", at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names() {
        assert_eq!(part_of("m-Q4_K_M-00002-of-00005.gguf"), Some(("m-Q4_K_M", 2, 5)));
        assert_eq!(part_of("m-00006-of-00005.gguf"), None);
        assert_eq!(part_of("m-0001-of-0005.gguf"), None);
        assert_eq!(part_of("model.gguf"), None);
        assert_eq!(part_name("m-00002-of-00005.gguf", 3, 5), "m-00004-of-00005.gguf");
    }
}
