//! How long does it take to derive a launch's operators, and to size them for a step?
//!
//! Run by `cargo bench -p plimsoll-cost --bench operators`; measures and checks nothing, since machines differ.

#![expect(clippy::print_stdout, reason = "a benchmark tells its figures")]

use std::hint::black_box;
use std::time::Instant;

use plimsoll_cost::{Inventory, Shape};
use plimsoll_facts::catalogue;
use plimsoll_plan::engine::vllm::options::Options;
use plimsoll_plan::engine::vllm::{Case, plan};
use plimsoll_plan::{Card, Given, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Map, json};

/// Steps of one measurement.
const STEPS: u32 = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let card = Card {
        name: "card".to_owned(),
        total: Estimate::exact(Bytes::gib(8192.0), Source::Given),
        compute_capability: Some((9, 0)),
        sm_count: Some(132),
        unified: false,
        count: 8,
    };
    let version = Version::new(0, 19, 0);
    let map: Map<String, serde_json::Value> =
        json!({"tensor_parallel_size": 8, "max_model_len": 8192}).as_object().cloned().unwrap_or_default();
    let options = Options::from_map(&map, version)?;
    for name in ["llama-3.1-70b", "deepseek-v3"] {
        let model = catalogue::model(name)?.model;
        let given = Given::default();
        let plan = plan(&Case { model: &model, card: &card, version, options: &options, given: &given })?;
        let start = Instant::now();
        let inventory = Inventory::new(&model, &plan)?;
        println!("{name}: derived in {:.0} µs", start.elapsed().as_secs_f64() * 1e6);
        let shape =
            Shape { decodes: 64, decode_context: 64_000, decode_windowed: 64_000, sampled: 64, ..Shape::default() };
        let mut into = Vec::new();
        let start = Instant::now();
        for _ in 0..STEPS {
            into.clear();
            black_box(&inventory).fill(black_box(&shape), &mut into);
            black_box(&into);
        }
        let each = start.elapsed().as_secs_f64() / f64::from(STEPS);
        println!("{name}: a step of {} operators sized in {:.2} µs", into.len(), each * 1e6);
    }
    Ok(())
}
