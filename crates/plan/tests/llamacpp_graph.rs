//! Are compute buffers the engine's own, to the byte? Compared with sizes that llama.cpp printed for real shapes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plimsoll_facts::gguf::{self, GgmlType, Gguf, Input};
use plimsoll_plan::engine::llamacpp::graph::{
    self, Context, Device, Flash, Model, Placement, Pooling, Reserve, Rules, Store,
};
use plimsoll_plan::engine::llamacpp::hparams::{Hparams, Swa};
use serde_json::Value;

fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("PLIMSOLL_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    folder.join("data/oracle/llamacpp").is_dir().then_some(folder)
}

fn read_gguf(path: &Path) -> Gguf {
    let mut file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.display().to_string();
    gguf::read(vec![Input { name, bytes: &mut file, length: None }]).unwrap()
}

fn kind(name: &str) -> GgmlType {
    GgmlType::parse(name).unwrap_or_else(|| panic!("{name}"))
}

/// Layers, output and tensors where the row's layout puts them.
fn placement(row: &Value, gguf: &Gguf, hparams: &Hparams) -> Placement {
    let layout = row["layout"].as_str().unwrap();
    let gpus: u8 = if layout.starts_with("CPU") {
        0
    } else if layout.contains("x2") {
        2
    } else {
        1
    };
    let count = hparams.layers.len();
    let ngl = match layout {
        _ if gpus == 0 || layout.ends_with("ngl 0") => 0,
        _ if layout.ends_with("half layers") => count / 2,
        _ => count + 1,
    };
    let mut devices = vec![Device::Cuda { capability: 860 }; usize::from(gpus)];
    devices.push(Device::Cpu { pinned: gpus > 0 });
    let first = (count + 1).saturating_sub(ngl);
    let backend = |il: usize| {
        if il < first || gpus == 0 {
            return gpus;
        }
        let share = (il - first) as f64 / ngl.min(count + 1) as f64;
        ((share * f64::from(gpus)).floor() as u8).min(gpus - 1)
    };
    let store = |backend: u8| devices[usize::from(backend)].store(backend);
    let layers: Vec<u8> = (0..count).map(backend).collect();
    let moe_on_cpu = layout.contains("n-cpu-moe");
    let tensors = gguf
        .tensors
        .iter()
        .map(|tensor| {
            if moe_on_cpu && tensor.name.contains("_exps") {
                return store(gpus);
            }
            match tensor.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok()) {
                Some(il) => store(layers[il]),
                None if tensor.name.starts_with("output") => store(backend(count)),
                None => store(gpus),
            }
        })
        .collect();
    let kv_on_cpu = row.get("no_kv_offload").and_then(Value::as_bool).unwrap_or(false);
    let full_offload = ngl > count;
    Placement {
        tied_output: store(backend(count)),
        pipeline: gpus > 1 && full_offload && !kv_on_cpu && !moe_on_cpu,
        full_offload,
        devices,
        layers,
        tensors,
    }
}

fn context(row: &Value, hparams: &Hparams) -> Context {
    let number = |key: &str| row[key].as_u64().unwrap_or(0);
    let truth = |key: &str| row.get(key).and_then(Value::as_bool).unwrap_or(false);
    let (sequences, ubatch, unified) = (number("n_seq_max"), number("n_ubatch"), truth("kv_unified"));
    let cells = if unified { number("n_ctx") } else { number("n_ctx_seq") };
    let pad = |n: u64| n.next_multiple_of(256);
    let cells_swa = if hparams.swa == Swa::None || truth("swa_full") {
        cells
    } else {
        pad((hparams.window * if unified { sequences } else { 1 } + ubatch).min(cells))
    };
    let outputs = match number("n_outputs_max") {
        0 => number("n_batch"),
        given => given,
    };
    Context {
        tokens: number("n_ctx"),
        ubatch,
        sequences,
        outputs,
        unified,
        flash: match row["flash_attn"].as_str().unwrap() {
            "off" => Flash::Off,
            "on" => Flash::On,
            _ => Flash::Auto,
        },
        kind_k: kind(row["type_k"].as_str().unwrap()),
        kind_v: kind(row["type_v"].as_str().unwrap()),
        cells,
        cells_swa,
        offload_kv: !truth("no_kv_offload"),
        offload_ops: true,
        embeddings: truth("embeddings"),
        pooling: Pooling::None,
        snapshots: row.get("n_rs_seq").and_then(Value::as_u64).unwrap_or(0),
        rules: Rules::NEWEST,
    }
}

#[derive(Default)]
struct Score {
    rows: usize,
    exact: usize,
    close: usize,
    nodes: usize,
    splits: usize,
    errors: usize,
}

fn pair(row: &Value, key: &str) -> [usize; 2] {
    let list: Vec<usize> =
        row[key].as_array().map(|a| a.iter().filter_map(|v| Some(v.as_u64()? as usize)).collect()).unwrap_or_default();
    match list[..] {
        [both] => [both, both],
        [a, b, ..] => [a, b],
        [] => [0, 0],
    }
}

#[test]
fn compute_buffers_are_the_engines_own() {
    let Some(shared) = shared() else {
        eprintln!("SKIPPED: ../shared/data/oracle/llamacpp is not there");
        return;
    };
    let path = shared.join("data/oracle/llamacpp/runs.jsonl.gz");
    let out = std::process::Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    let show: usize = std::env::var("SHOW").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    let mut shown = 0;
    let mut files: BTreeMap<String, (Gguf, Hparams)> = BTreeMap::new();
    let mut scores: BTreeMap<(String, String), Score> = BTreeMap::new();
    let text = String::from_utf8(out.stdout).unwrap();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if row["ok"] != true || !only.is_empty() && !line.contains(&only) {
            continue;
        }
        let model = row["model"].as_str().unwrap();
        let quant = row["quant_type"].as_str().unwrap();
        let file = format!("{model}-{}.header.gguf", if quant == "MXFP4" { "F16" } else { quant });
        let (gguf, hparams) = files.entry(file.clone()).or_insert_with(|| {
            let gguf = read_gguf(&shared.join("data/gguf").join(&file));
            let hparams = Hparams::read(&gguf).unwrap();
            (gguf, hparams)
        });
        if graph::arch::builder(&hparams.arch).is_none() {
            continue;
        }
        let key = (model.to_owned(), row["layout"].as_str().unwrap().to_owned());
        let score = scores.entry(key).or_default();
        score.rows += 1;
        let placement = placement(&row, gguf, hparams);
        let cx = context(&row, hparams);
        let model = Model::new(hparams, gguf, &placement);
        let got = match graph::compute_buffers(&model, &cx, Reserve::Measured) {
            Ok(got) => got,
            Err(error) => {
                score.errors += 1;
                if shown < show {
                    shown += 1;
                    eprintln!("{} {}: {error}", row["model"], row["command"]);
                }
                continue;
            }
        };
        let names = |n: usize| match placement.devices[n] {
            Device::Cpu { pinned: true } => "CUDA_Host".to_owned(),
            Device::Cpu { pinned: false } => "CPU".to_owned(),
            Device::Cuda { .. } => format!("CUDA{n}"),
        };
        let mut exact = true;
        let mut close = true;
        let mut text = String::new();
        for (n, &bytes) in got.bytes.iter().enumerate() {
            let want = row["compute_buffer_mib"].get(names(n)).and_then(Value::as_f64).unwrap_or(0.0) * 1_048_576.0;
            let off = (bytes as f64 - want).abs();
            exact &= off < 0.5;
            close &= off <= 0.02 * want.max(1.0);
            text += &format!(" {}: {:.4} not {:.4} MiB", names(n), bytes as f64 / 1_048_576.0, want / 1_048_576.0);
        }
        let nodes = got.nodes == pair(&row, "graph_nodes") && got.flash == row["fa_enabled"];
        let splits = got.splits == pair(&row, "graph_splits");
        score.exact += usize::from(exact);
        score.close += usize::from(close);
        score.nodes += usize::from(nodes);
        score.splits += usize::from(splits);
        if !(exact && nodes && splits) && shown < show {
            shown += 1;
            eprintln!(
                "{} {}:{text}; fa {} not {}; nodes {:?} not {}; splits {:?} not {}",
                row["model"],
                row["command"],
                got.flash,
                row["fa_enabled"],
                got.nodes,
                row["graph_nodes"],
                got.splits,
                row["graph_splits"]
            );
        }
    }
    let mut total = Score::default();
    for ((model, layout), s) in &scores {
        eprintln!(
            "{model:24} {layout:24} rows {:4} exact {:4} within 2% {:4} nodes {:4} splits {:4} errors {:3}",
            s.rows, s.exact, s.close, s.nodes, s.splits, s.errors
        );
        total.rows += s.rows;
        total.exact += s.exact;
        total.close += s.close;
        total.nodes += s.nodes;
        total.splits += s.splits;
        total.errors += s.errors;
    }
    eprintln!(
        "all: rows {} exact {} within 2% {} nodes {} splits {} errors {}",
        total.rows, total.exact, total.close, total.nodes, total.splits, total.errors
    );
    let _ = Store::Host;
}
