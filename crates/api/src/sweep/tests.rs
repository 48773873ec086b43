use serde_json::{Value, json};

use super::*;
use crate::NoFiles;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// Models of different kinds, one that no card holds, one that is not there; cards too small, one twice, one unknown.
fn request(engine: &str) -> SweepRequest {
    SweepRequest {
        models: names(&["llama-3.1-8b", "gemma-3-27b-it", "deepseek-v3", "no-such-model", "qwen3-30b-a3b"]),
        gpus: names(&["h100-sxm", "rtx-4090:2", "no-such-card", "l40s:4"]),
        engines: names(&[engine]),
        context: vec![2048, 8192, 131_072],
        batch: vec![1, 7, 300],
        ..SweepRequest::default()
    }
}

/// Every row of a sweep, by its number.
fn all_rows(sweep: &Sweep<'_>) -> Vec<SweepRow> {
    (0..sweep.launches()).flat_map(|launch| sweep.rows(launch)).collect()
}

#[test]
fn rows_stand_where_their_numbers_say() {
    let desk = Desk::new(&NoFiles);
    let request = SweepRequest { tp: vec![1, 2], kv_formats: names(&["auto", "fp8"]), ..request("vllm") };
    let sweep = Sweep::new(&request, &desk).unwrap();
    let rows = all_rows(&sweep);
    assert_eq!(rows.len() as u64, sweep.total());
    for (at, row) in rows.iter().enumerate() {
        let place = sweep.axes().place(at as u64).unwrap().map(|at| at as usize);
        assert_eq!(*row.model, request.models[place[0]]);
        assert_eq!(row.tp, Some(request.tp[place[3]]));
        assert_eq!(row.kv_format.as_deref(), Some(request.kv_formats[place[6]].as_str()));
        assert_eq!((row.context, row.batch), (request.context[place[7]], request.batch[place[8]]));
        assert_eq!(row.plan.is_some(), row.error.is_none(), "{row:?}");
        assert_eq!(row.plan.is_some(), row.load.is_some(), "{row:?}");
    }
    assert_eq!(sweep.warnings().len(), 2, "{:?}", sweep.warnings());
    let missing = rows.iter().filter(|row| *row.model == *"no-such-model" || *row.gpu == *"no-such-card");
    assert!(missing.clone().count() > 0 && missing.clone().all(|row| row.error.is_some()));
}

/// What `plan` answers to a row's launch, in the sweep's columns.
fn planned(row: &SweepRow, engine: &str, desk: &Desk<'_>) -> Result<Value, Error> {
    let (context, batch) = (row.context, row.batch);
    let options = match engine {
        "vllm" => json!({"max_model_len": context}),
        "sglang" => json!({"context_length": context}),
        "tensorrt-llm" => json!({"max_seq_len": context}),
        "llama.cpp" => json!({"ctx_size": context * batch, "parallel": batch}),
        "ollama" => json!({"num_ctx": context, "env": {"OLLAMA_NUM_PARALLEL": batch.to_string()}}),
        _ => json!({"max_length": context, "batch_size": batch}),
    };
    let request = json!({"model": &*row.model, "gpu": &*row.gpu, "engine": engine, "options": options});
    let answer = crate::plan(&serde_json::from_value(request).unwrap(), desk)?;
    let rank = &answer.ranks[answer.scarcest];
    let sum = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        rank.entries.iter().filter(|entry| wanted(&entry.item)).map(|entry| entry.bytes).sum()
    };
    Ok(json!({
        "gpu_count": answer.gpu.count, "engine_version": answer.engine.version,
        "tp": answer.parallel.tp, "pp": answer.parallel.pp,
        "weights_bytes": sum(&|item| item.starts_with("weights")),
        "activation_bytes": sum(&|item| item == "activation"),
        "kv_bytes": sum(&|item| item == "kv"),
        "total_bytes": rank.total_bytes, "card_bytes": rank.card_bytes, "limit_bytes": rank.limit_bytes,
        "host_bytes": answer.host.map_or(0, |host| host.total_bytes),
        "kv_budget_bytes": answer.kv.budget_bytes, "kv_budget_low": answer.kv.budget_low,
        "kv_budget_high": answer.kv.budget_high, "kv_bytes_per_token": answer.kv.bytes_per_token,
        "kv_tokens": answer.kv.tokens, "max_concurrency": answer.kv.max_concurrency,
        "max_context_tokens": answer.max_context_tokens,
        "verdict": [answer.verdict.state, answer.verdict.fits, answer.verdict.binding, answer.verdict.margin.bytes],
    }))
}

/// A row by its columns' names.
fn columns(row: &SweepRow) -> Value {
    let mut found = plain(row);
    // What starts and holds no sequence of the context: the plan is about the start alone.
    if found["state"] == "shorter" {
        assert!(found["fits"] == false && found["margin_bytes"].as_i64().unwrap() < 0, "{row:?}");
        assert!(row.plan.as_ref().unwrap().max_context_tokens < row.context, "{row:?}");
    }
    found["verdict"] = json!([found["state"], found["fits"], found["binding"], found["margin_bytes"]]);
    found
}

fn plain(row: &SweepRow) -> Value {
    let cell = |column: &Column| match (column.cell)(row) {
        Cell::Text(text) => json!(text),
        Cell::Count(number) => json!(number),
        Cell::Number(number) => json!(number),
        Cell::Flag(flag) => json!(flag),
    };
    COLUMNS.iter().map(|column| (column.name.to_owned(), cell(column))).collect()
}

fn check_engine(engine: &str, request: &SweepRequest) {
    let desk = Desk::new(&NoFiles);
    let sweep = Sweep::new(request, &desk).unwrap();
    let mut plans = 0;
    for (at, row) in all_rows(&sweep).into_iter().enumerate() {
        // A planned row has the catalogue's name of the card; what was asked is the list's.
        let place = sweep.axes().place(at as u64).unwrap();
        let asked = SweepRow { gpu: Arc::clone(&sweep.gpus[place[1] as usize]), ..row.clone() };
        match (planned(&asked, engine, &desk), &row.error) {
            (Ok(plan), None) => {
                let found = columns(&row);
                for (name, value) in plan.as_object().unwrap() {
                    if found["fits"] == false && value[1] == true && name == "verdict" {
                        assert!(engine == "sglang" && !row.load.unwrap().fits, "{row:?}");
                        continue;
                    }
                    let finite = value.as_f64().is_none_or(f64::is_finite);
                    assert!(
                        !finite || found[name] == *value,
                        "{engine} {name}: {} is not {value}\n{row:?}",
                        found[name]
                    );
                }
                plans += 1;
            }
            (Err(error), Some(why)) => assert_eq!(**why, error.to_string()),
            (plan, _) => panic!("{row:?} but {plan:?}"),
        }
    }
    assert!(plans > 10, "{engine}: {plans} plans");
}

#[test]
fn rows_are_what_plan_answers() {
    for engine in ["vllm", "sglang", "tensorrt-llm", "transformers"] {
        check_engine(engine, &request(engine));
    }
    for engine in ["llama.cpp", "ollama"] {
        let few = SweepRequest {
            models: names(&["llama-3.1-8b", "qwen3-30b-a3b"]),
            gpus: names(&["rtx-4090", "l40s"]),
            batch: vec![1, 4],
            context: vec![2048, 8192, 32_768],
            ..request(engine)
        };
        check_engine(engine, &few);
    }
}

#[test]
fn a_load_fits_where_so_many_sequences_do() {
    let desk = Desk::new(&NoFiles);
    let request = SweepRequest {
        models: names(&["llama-3.1-8b"]),
        gpus: names(&["l40s"]),
        context: vec![8192],
        batch: (1..=64).collect(),
        ..SweepRequest::default()
    };
    let rows = Sweep::new(&request, &desk).unwrap().rows(0);
    let plan = rows[0].plan.clone().unwrap();
    for row in &rows {
        let load = row.load.unwrap();
        // 128 KiB a token.
        assert_eq!(load.kv_needed_bytes, row.batch * 8192 * 131_072);
        assert_eq!(load.fits, row.batch as f64 <= plan.max_concurrency.floor(), "{row:?}");
    }
    assert!(rows[0].load.unwrap().fits && !rows[63].load.unwrap().fits);
}

#[test]
fn what_is_malformed_is_refused_and_says_why() {
    let desk = Desk::new(&NoFiles);
    let good = request("vllm");
    for (request, message) in [
        (SweepRequest { models: Vec::new(), ..good.clone() }, "no models: give --models"),
        (SweepRequest { gpus: names(&[""]), ..good.clone() }, "no gpus: give --gpus"),
        (SweepRequest { context: Vec::new(), ..good.clone() }, "no context: give --context"),
        (SweepRequest { batch: vec![0], ..good.clone() }, "batch is `0`, expected from 1 to"),
        (SweepRequest { tp: vec![5000], ..good.clone() }, "tp is `5000`, expected from 1 to"),
        (SweepRequest { engines: names(&["vlm"]), ..good.clone() }, "engine `vlm` is not built in"),
        (SweepRequest { models: names(&["no-such"]), ..good.clone() }, "no-such"),
        (SweepRequest { gpus: names(&["no-such"]), ..good.clone() }, "no-such"),
        (
            SweepRequest {
                launch: PlanRequest { model: Some("llama-3.1-8b".into()), ..PlanRequest::default() },
                ..good.clone()
            },
            "names no model",
        ),
        (
            SweepRequest {
                context: (1..=4096).collect(),
                batch: (1..=4096).collect(),
                tp: (1..=4096).collect(),
                pp: (1..=4096).collect(),
                ..good.clone()
            },
            "divide the sweep",
        ),
    ] {
        let error = Sweep::new(&request, &desk).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn all_stands_for_what_is_built_in_and_names_come_once() {
    let desk = Desk::new(&NoFiles);
    let request = SweepRequest {
        models: names(&["llama-3.1-8b", "llama-3.1-8b"]),
        gpus: names(&["h100-sxm", "all"]),
        context: vec![4096],
        batch: vec![1],
        ..SweepRequest::default()
    };
    let sweep = Sweep::new(&request, &desk).unwrap();
    assert_eq!(sweep.total(), 1 + catalogue::gpus().count() as u64);
    assert!(sweep.fingerprint().contains("H200"));
    let other = SweepRequest { batch: vec![2], ..request };
    assert_ne!(Sweep::new(&other, &desk).unwrap().fingerprint(), sweep.fingerprint());
}

#[test]
fn a_format_that_an_engine_cannot_load_is_a_row_with_its_reason() {
    let desk = Desk::new(&NoFiles);
    let request = SweepRequest {
        models: names(&["llama-3.1-8b"]),
        gpus: names(&["h100-sxm", "mi300x"]),
        engines: names(&["vllm", "tensorrt-llm"]),
        formats: names(&["bf16", "nf4", "q4_k_m"]),
        context: vec![4096],
        batch: vec![1],
        ..SweepRequest::default()
    };
    let rows = all_rows(&Sweep::new(&request, &desk).unwrap());
    for row in &rows {
        let loads = row.format.as_deref() == Some("bf16") && (row.engine == "vllm" || row.gpu.contains("H100"));
        assert_eq!(row.plan.is_some(), loads, "{row:?}");
        assert!(loads || row.error.as_deref().is_some_and(|why| why.contains("cannot")), "{row:?}");
    }
    assert_eq!(rows.len(), 12);
}

#[test]
fn a_plan_notes_a_format_that_its_release_lacks() {
    let desk = Desk::new(&NoFiles);
    let ask = |engine: &str, version: &str, gpu: &str, options: Value| {
        let request = json!({"model": "llama-3.1-8b", "gpu": gpu, "engine": engine, "engine_version": version, "options": options});
        crate::plan(&serde_json::from_value(request).unwrap(), &desk).unwrap().notes
    };
    let said = |notes: &[String], words: &str| notes.first().is_some_and(|note| note.contains(words));
    assert!(said(&ask("vllm", "0.33.0", "h100-sxm", json!({"quantization": "bitsandbytes"})), "cannot load nf4"));
    assert!(!said(&ask("vllm", "0.26.0", "h100-sxm", json!({"quantization": "bitsandbytes"})), "cannot load"));
    assert!(said(&ask("tensorrt-llm", "1.2.1", "t4", json!({})), "begins with 8.0"));
    assert!(!said(&ask("tensorrt-llm", "0.11.0", "t4", json!({})), "begins with 8.0"));
}
