//! Turns the catalogues' TOML into one compact JSON text with an index, so that start-up parses only the entry that is
//! asked for.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let models = (&["models.toml", "more.toml"][..], "model");
    for (files, table) in [models, (&["gpus.toml"][..], "gpu"), (&["quality.toml"][..], "quality")] {
        let mut code = String::from("&[\n");
        for entry in files.iter().flat_map(|file| entries(file, table)) {
            let json = serde_json::to_string(&entry).expect("TOML is a subset of JSON");
            let id = entry.get("id").and_then(toml::Value::as_str).expect("every entry has an id");
            writeln!(code, "({id:?}, {json:?}),").expect("writing to a string");
        }
        code.push(']');
        fs::write(Path::new(&out).join(format!("{table}s.rs")), code).expect("OUT_DIR is writable");
    }
}

/// Reads one file's entries.
fn entries(file: &str, table: &str) -> Vec<toml::Value> {
    let path = format!("src/catalogue/{file}");
    println!("cargo:rerun-if-changed={path}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let tree: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    tree.get(table).and_then(toml::Value::as_array).cloned().unwrap_or_default()
}
