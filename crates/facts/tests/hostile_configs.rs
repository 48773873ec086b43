//! Does any value of a configuration make the reader panic? Every key of every shared configuration replaced in turn by
//! values that cannot be true.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/shared.rs"]
mod shared;

use std::panic::catch_unwind;

use plimsoll_facts::model;
use serde_json::{Value, json};
use shared::shared;

#[test]
fn no_value_of_a_configuration_panics() {
    let Some(models) = shared("data/models") else { return };
    let folder = std::fs::read_dir(models).unwrap();
    let only = std::env::var("PLIMSOLL_ONLY").unwrap_or_default();
    let mut panics = Vec::new();
    let mut tried = 0;
    for path in folder.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().contains(&only)) {
        let Ok(text) = std::fs::read_to_string(path.join("config.json")) else { continue };
        let Ok(config) = serde_json::from_str::<Value>(&text) else { continue };
        for place in places(&config) {
            for value in values() {
                let mut changed = config.clone();
                *changed.pointer_mut(&place).unwrap() = value.clone();
                tried += 1;
                let read = catch_unwind(|| {
                    let Ok(model) = model::read("hostile", &changed, None) else { return };
                    let _ = (model.parameters(), model.active_parameters());
                });
                if read.is_err() {
                    panics.push(format!("{} {place} = {value}", path.file_name().unwrap().to_string_lossy()));
                }
            }
        }
    }
    eprintln!("tried {tried}");
    assert!(panics.is_empty(), "{} panics:\n{}", panics.len(), panics.join("\n"));
}

/// Values that a hostile or broken file may hold.
fn values() -> [Value; 10] {
    [
        json!(0),
        json!(1),
        json!(3),
        json!(1 << 30),
        json!(u64::MAX),
        json!(-1),
        json!(0.5),
        json!("x"),
        Value::Null,
        json!([1, 0]),
    ]
}

/// JSON pointers to every key of the root and of the objects in it, except those that quantisation reads.
fn places(config: &Value) -> Vec<String> {
    let mut places = Vec::new();
    for (key, value) in config.as_object().unwrap() {
        let key = key.replace('~', "~0").replace('/', "~1");
        if key == "quantization_config" || key == "model_type" {
            continue;
        }
        places.push(format!("/{key}"));
        let inner = value.as_object().filter(|_| key.ends_with("_config"));
        for inner in inner.into_iter().flat_map(|map| map.keys()).filter(|inner| *inner != "quantization_config") {
            places.push(format!("/{key}/{}", inner.replace('~', "~0").replace('/', "~1")));
        }
    }
    places
}
