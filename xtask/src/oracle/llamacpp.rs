//! Are llama.cpp's buffers what it printed itself? Caches, states, model and output buffers to the digit, compute buffers
//! within two percent, by architecture and layout.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use plimsoll_facts::gguf::{self, Gguf, Input};
use plimsoll_plan::engine::llamacpp::oracle::{Buffer, buffers, differences};
use serde_json::Value;

/// Headers that were read, by name; the error of those that could not be.
type Headers = Mutex<HashMap<String, Arc<Result<Gguf, String>>>>;

/// How many compute buffers of a group are close.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    rows: usize,
    close: usize,
    played: usize,
    worst: f64,
}

/// What came of one row.
struct Checked {
    at: usize,
    wrong: Option<String>,
    group: String,
    buffers: Vec<Buffer>,
}

/// Compares all rows; returns the differences, and the report on compute buffers.
pub fn compare(rows: &[Value], folder: &Path) -> (Vec<String>, String) {
    let headers = Headers::default();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut checked: Vec<Checked> = std::thread::scope(|scope| {
        let part = |first: usize| {
            let headers = &headers;
            move || {
                let mine = rows.iter().enumerate().skip(first).step_by(threads);
                mine.map(|(at, row)| check(at, row, folder, headers)).collect::<Vec<_>>()
            }
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(part(first))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    checked.sort_by_key(|row| row.at);
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for row in checked.iter().filter(|row| !row.buffers.is_empty()) {
        for name in [row.group.as_str(), "all"] {
            let group = groups.entry(name.to_owned()).or_default();
            group.rows += 1;
            group.close += usize::from(row.buffers.iter().all(Buffer::is_close));
            group.played += usize::from(row.buffers.iter().all(|buffer| buffer.played));
            let off = |buffer: &Buffer| (buffer.ours - buffer.theirs).abs() / buffer.theirs.max(1e-6);
            group.worst = row.buffers.iter().map(off).fold(group.worst, f64::max);
        }
    }
    let wrong = checked.into_iter().filter_map(|row| row.wrong).collect();
    (wrong, report(&groups))
}

fn check(at: usize, row: &Value, folder: &Path, headers: &Headers) -> Checked {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("?");
    let group = format!("{} {}", text("arch"), text("layout"));
    let found = header(row, folder, headers);
    let failed = |why: &str| Some(format!("line {}: {} {why}", at + 1, text("model")));
    let (wrong, buffers) = match &*found {
        Err(error) => (failed(error), Vec::new()),
        Ok(gguf) => {
            let wrong = match differences(row, gguf) {
                Ok(found) if found.is_empty() => None,
                Ok(found) => failed(&found.join("; ")),
                Err(error) => failed(&error.to_string()),
            };
            (wrong, buffers(row, gguf).unwrap_or_default())
        }
    };
    Checked { at, wrong, group, buffers }
}

/// The header of a row's file: `MODEL-TYPE.header.gguf`, whose type is F16 where experts alone are quantised.
fn header(row: &Value, folder: &Path, headers: &Headers) -> Arc<Result<Gguf, String>> {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("?");
    let name = format!("{}-{}", text("model"), text("quant_type"));
    if let Some(known) = headers.lock().ok().and_then(|kept| kept.get(&name).cloned()) {
        return known;
    }
    let paths = [name.clone(), format!("{}-F16", text("model"))].map(|name| folder.join(format!("{name}.header.gguf")));
    let path = paths.iter().find(|path| path.is_file());
    let read = match path {
        None => Err(format!("no {name}.header.gguf in {}", folder.display())),
        Some(path) => read(path, &name),
    };
    let read = Arc::new(read);
    if let Ok(mut kept) = headers.lock() {
        kept.insert(name, Arc::clone(&read));
    }
    read
}

fn read(path: &Path, name: &str) -> Result<Gguf, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let input = Input { name: name.to_owned(), bytes: &mut file, length: None };
    gguf::read(vec![input]).map_err(|error| error.to_string())
}

fn report(groups: &BTreeMap<String, Group>) -> String {
    let mut text = String::from("compute buffers, rows with all of them within 2 %:\n");
    for (name, group) in groups {
        let share = 100.0 * group.close as f64 / group.rows.max(1) as f64;
        let estimated = if group.played < group.rows { ", graph not built in" } else { "" };
        let worst = 100.0 * group.worst;
        let _ =
            writeln!(text, "  {name}: {} of {} ({share:.1} %), worst {worst:.1} %{estimated}", group.close, group.rows);
    }
    text
}
