//! Are compute buffers the engine's own, to the byte? Compared with sizes that llama.cpp printed for real shapes.
//!
//! With ../shared all rows of the oracle are read (every sixteenth in a build without optimisation), else a few that are
//! kept beside this file.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use plimsoll_facts::gguf::{self, GgmlType, Gguf, Input};
use plimsoll_plan::engine::llamacpp::graph::{
    self, Context, Device, Flash, Model, Placement, Pooling, Reservation, Reserve, Rules,
};
use plimsoll_plan::engine::llamacpp::hparams::{Hparams, Swa};
use serde_json::Value;
use shared::shared;

/// The oracle's rows and where their headers are.
struct Oracle {
    rows: String,
    headers: PathBuf,
    every: usize,
}

fn oracle() -> Oracle {
    if let (Some(packed), Some(headers)) = (shared("data/oracle/llamacpp/runs.jsonl.gz"), shared("data/gguf"))
        && let Ok(output) = std::process::Command::new("gzip").arg("-dc").arg(&packed).output()
        && output.status.success()
    {
        let every = if cfg!(debug_assertions) { 16 } else { 1 };
        return Oracle {
            rows: String::from_utf8(output.stdout).expect("a row, header or file as the engine wrote it"),
            headers,
            every,
        };
    }
    eprintln!("SKIPPED all but the rows kept beside the test");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llamacpp_graph");
    Oracle {
        rows: std::fs::read_to_string(folder.join("rows.jsonl")).expect("a row, header or file as the engine wrote it"),
        headers: folder,
        every: 1,
    }
}

fn read_gguf(path: &Path) -> Gguf {
    let mut file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.display().to_string();
    gguf::read(vec![Input { name, bytes: &mut file, length: None }])
        .expect("a row, header or file as the engine wrote it")
}

fn kind(name: &str) -> GgmlType {
    GgmlType::parse(name).unwrap_or_else(|| panic!("{name}"))
}

fn truth(row: &Value, key: &str) -> bool {
    row.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Layers, output and tensors where the row's layout puts them.
fn placement(row: &Value, gguf: &Gguf, hparams: &Hparams) -> Placement {
    let layout = row["layout"].as_str().expect("a row, header or file as the engine wrote it");
    let gpus: u8 = match layout {
        "CPU" | "CPU-norepack" => 0,
        "CUDA x2 all layers" => 2,
        _ => 1,
    };
    let count = hparams.layers.len();
    let ngl = match layout {
        "CPU" | "CPU-norepack" | "CUDA x1 ngl 0" => 0,
        "CUDA x1 half layers" => count / 2,
        _ => count + 1,
    };
    let mut devices = vec![Device::Cuda { capability: 860 }; usize::from(gpus)];
    devices.push(Device::Cpu { pinned: gpus > 0 });
    let first = (count + 1).saturating_sub(ngl);
    let backend = |il: usize| {
        if il < first || gpus == 0 {
            return gpus;
        }
        u8::try_from((il - first) * usize::from(gpus) / ngl.min(count + 1))
            .expect("a row, header or file as the engine wrote it")
            .min(gpus - 1)
    };
    let store = |backend: u8| devices[usize::from(backend)].store(backend);
    let layers: Vec<u8> = (0..count).map(backend).collect();
    let experts_on_cpu = layout.contains("n-cpu-moe");
    let place = |name: &str| {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        match layer {
            Some(_) if experts_on_cpu && name.contains("_exps") => store(gpus),
            Some(il) => store(layers[il]),
            None if name.starts_with("output") => store(backend(count)),
            None => store(gpus),
        }
    };
    let full_offload = ngl > count;
    Placement {
        tied_output: store(backend(count)),
        pipeline: gpus > 1 && full_offload && !truth(row, "no_kv_offload") && !experts_on_cpu,
        full_offload,
        tensors: gguf.tensors.iter().map(|tensor| place(&tensor.name)).collect(),
        devices,
        layers,
    }
}

fn context(row: &Value, hparams: &Hparams) -> Context {
    let number = |key: &str| row.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (sequences, ubatch, unified) = (number("n_seq_max"), number("n_ubatch"), truth(row, "kv_unified"));
    let cells = if unified { number("n_ctx") } else { number("n_ctx_seq") };
    let windows = if unified { sequences } else { 1 };
    let cells_swa = if hparams.swa == Swa::None || truth(row, "swa_full") {
        cells
    } else {
        (hparams.window * windows + ubatch).min(cells).next_multiple_of(256)
    };
    let outputs = number("n_outputs_max");
    Context {
        tokens: number("n_ctx"),
        ubatch,
        sequences,
        outputs: if outputs == 0 { number("n_batch") } else { outputs },
        unified,
        flash: match row["flash_attn"].as_str().expect("a row, header or file as the engine wrote it") {
            "off" => Flash::Off,
            "on" => Flash::On,
            _ => Flash::Auto,
        },
        kind_k: kind(row["type_k"].as_str().expect("a row, header or file as the engine wrote it")),
        kind_v: kind(row["type_v"].as_str().expect("a row, header or file as the engine wrote it")),
        cells,
        cells_swa,
        offload_kv: !truth(row, "no_kv_offload"),
        offload_ops: true,
        embeddings: truth(row, "embeddings"),
        pooling: Pooling::None,
        snapshots: number("n_rs_seq"),
        rules: Rules::NEWEST,
    }
}

/// The prompt graph's and the generation graph's number; the engine prints one when they are equal.
fn pair(row: &Value, key: &str) -> [usize; 2] {
    let list = row[key].as_array().expect("a row, header or file as the engine wrote it");
    let at = |n: usize| {
        usize::try_from(list[n.min(list.len() - 1)].as_u64().expect("a row, header or file as the engine wrote it"))
            .expect("a row, header or file as the engine wrote it")
    };
    [at(0), at(1)]
}

#[derive(Default)]
struct Score {
    rows: usize,
    exact: usize,
    close: usize,
    nodes: usize,
    splits: usize,
}

impl Score {
    fn add(&mut self, row: &Value, devices: &[Device], got: &Reservation) {
        let name = |n: usize| match devices[n] {
            Device::Cpu { pinned: true } => "CUDA_Host".to_owned(),
            Device::Cpu { pinned: false } => "CPU".to_owned(),
            Device::Cuda { .. } => format!("CUDA{n}"),
        };
        let want = |n: usize| {
            let mib = row["compute_buffer_mib"].get(name(n)).and_then(Value::as_f64).unwrap_or(0.0);
            mib * 1_048_576.0
        };
        let off = |n: usize| (got.bytes[n] as f64 - want(n)).abs();
        let all = 0..devices.len();
        self.rows += 1;
        self.exact += usize::from(all.clone().all(|n| off(n) < 0.5));
        self.close += usize::from(all.clone().all(|n| off(n) <= 0.02 * want(n)));
        self.nodes += usize::from(got.nodes == pair(row, "graph_nodes") && got.flash == truth(row, "fa_enabled"));
        self.splits += usize::from(got.splits == pair(row, "graph_splits"));
    }
}

#[test]
fn compute_buffers_are_the_engines_own() {
    let oracle = oracle();
    let mut files: BTreeMap<String, (Gguf, Hparams)> = BTreeMap::new();
    let mut scores: BTreeMap<(String, String), Score> = BTreeMap::new();
    for line in oracle.rows.lines().step_by(oracle.every) {
        let row: Value = serde_json::from_str(line).expect("a row, header or file as the engine wrote it");
        if row["ok"] != true {
            continue;
        }
        let (model, quant) = (
            row["model"].as_str().expect("a row, header or file as the engine wrote it"),
            row["quant_type"].as_str().expect("a row, header or file as the engine wrote it"),
        );
        let file = format!("{model}-{}.header.gguf", if quant == "MXFP4" { "F16" } else { quant });
        let (gguf, hparams) = files.entry(file.clone()).or_insert_with(|| {
            let gguf = read_gguf(&oracle.headers.join(&file));
            let hparams = Hparams::read(&gguf).expect("a row, header or file as the engine wrote it");
            (gguf, hparams)
        });
        let placement = placement(&row, gguf, hparams);
        let cx = context(&row, hparams);
        let got = graph::compute_buffers(&Model::new(hparams, gguf, &placement), &cx, Reserve::Measured);
        let got = got.unwrap_or_else(|e| panic!("{model} {}: {e}", row["command"]));
        let key = (
            hparams.arch.clone(),
            row["layout"].as_str().expect("a row, header or file as the engine wrote it").to_owned(),
        );
        scores.entry(key).or_default().add(&row, &placement.devices, &got);
    }
    let mut total = Score::default();
    for ((arch, layout), s) in &scores {
        eprintln!(
            "{arch:14} {layout:22} rows {:4}, exact {:4}, within 2% {:4}, nodes {:4}, splits {:4}",
            s.rows, s.exact, s.close, s.nodes, s.splits
        );
        total.rows += s.rows;
        total.exact += s.exact;
        total.close += s.close;
        total.nodes += s.nodes;
        total.splits += s.splits;
    }
    eprintln!(
        "all: rows {}, exact {}, within 2% {}, nodes {}, splits {}",
        total.rows, total.exact, total.close, total.nodes, total.splits
    );
    // Two rows of a hybrid model with its cache on the host differ in bytes, one with state snapshots in its nodes.
    let close_to = |count: usize| count + 3 >= total.rows;
    assert!(total.rows >= 40 && close_to(total.exact) && close_to(total.nodes) && total.splits == total.rows);
}
