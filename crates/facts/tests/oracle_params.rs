//! Do we count what the reference implementation builds? Every inventory beside the oracles of the shared folder, line by
//! line; `PLIMSOLL_ORACLE_DIR` points at another folder of oracles, `PLIMSOLL_ONLY` keeps the models whose name holds it.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plimsoll_facts::Error;
use plimsoll_facts::model::{self, Model};
use serde_json::Value;
use shared::shared;

type Line = (String, Vec<u64>, u64, String);

#[test]
fn inventories_equal_the_oracles() {
    let Some(oracles) = shared("data/oracle_params") else { return };
    let Some(models) = shared("data/models") else { return };
    let oracles = std::env::var_os("PLIMSOLL_ORACLE_DIR").map_or(oracles, PathBuf::from);
    let only = std::env::var("PLIMSOLL_ONLY").unwrap_or_default();
    let (mut equal, mut all, mut unbuilt, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for path in sorted(&oracles) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_none_or(|kind| kind != "json") || !name.contains(&only) {
            continue;
        }
        let folder = models.join(&name);
        let Some(config) = json(&folder.join("config.json")) else {
            eprintln!("no configuration for {name}");
            continue;
        };
        all += 1;
        match model::read(&name, &config, json(&folder.join("hf_quant_config.json")).as_ref()) {
            Err(Error::UnknownArchitecture { .. }) => unbuilt.push(name),
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(model) if model.notes.iter().any(|note| note.contains("is not known here")) => unbuilt.push(name),
            Ok(model) => match differences(&model, &json(&path).unwrap()) {
                none if none.is_empty() => equal += 1,
                some => wrong.push(format!("{name}:\n{}", some.join("\n"))),
            },
        }
    }
    eprintln!("equal {equal} of {all}; {} not built: {}", unbuilt.len(), unbuilt.join(" "));
    assert!(wrong.is_empty(), "{} models differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Lists what differs, a line each.
fn differences(model: &Model, oracle: &Value) -> Vec<String> {
    let ours: BTreeSet<Line> = model
        .counted()
        .map(|t| {
            let layers = if t.layers.is_empty() { String::new() } else { t.layers.to_string() };
            (t.name.clone(), t.shape.clone(), t.count, layers)
        })
        .collect();
    let theirs: BTreeSet<Line> =
        oracle["tensors"].as_array().expect("an oracle lists tensors").iter().map(line).collect();
    let mut found: Vec<String> = ours.difference(&theirs).map(|line| format!("  ours alone   {line:?}")).collect();
    found.extend(theirs.difference(&ours).map(|line| format!("  theirs alone {line:?}")));
    let mut compare = |what: &str, ours: u64, theirs: Option<u64>| {
        if Some(ours) != theirs {
            found.push(format!("  {what}: ours {ours}, theirs {theirs:?}"));
        }
    };
    compare("parameters", model.parameters(), oracle["total_params"].as_u64());
    compare("layers", model.layers.len() as u64, oracle["num_decoder_layers"].as_u64());
    if let Some(moe) = oracle["moe"].as_object() {
        compare("active parameters", model.active_parameters(), moe["active_params_text"].as_u64());
    }
    found
}

/// Reads one line of an oracle.
fn line(tensor: &Value) -> Line {
    let shape = tensor["shape"]
        .as_array()
        .expect("an oracle lists tensors")
        .iter()
        .map(|n| n.as_u64().expect("a width"))
        .collect();
    let layers = tensor["layers"].as_str().unwrap_or_default().to_owned();
    (tensor["name"].as_str().expect("a name").to_owned(), shape, tensor["count"].as_u64().expect("a count"), layers)
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}
