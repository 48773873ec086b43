//! Launches to test with: models of the catalogue planned by engine.

use plimsoll_facts::gguf::Gguf;
use plimsoll_facts::model::Model;
use plimsoll_plan::engine::{Depth, Question, llamacpp, sglang, transformers, trtllm, vllm};
use plimsoll_plan::{Card, Error, Given, Plan, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::Value;

/// A card on which everything fits, so that no verdict stands in the way.
pub fn card() -> Card {
    Card {
        name: "card".to_owned(),
        total: Estimate::exact(Bytes::gib(8192.0), Source::Given),
        compute_capability: Some((9, 0)),
        sm_count: Some(132),
        unified: false,
        count: 64,
    }
}

/// Plans a launch of an engine's newest release (vLLM 0.19.0, TensorRT-LLM's default).
pub fn plan(model: &Model, engine: &str, options: &Value) -> Result<Plan, Error> {
    plan_file(model, None, engine, options)
}

/// Plans a launch of a model that may be a GGUF file.
pub fn plan_file(model: &Model, gguf: Option<&Gguf>, engine: &str, options: &Value) -> Result<Plan, Error> {
    let map = options.as_object().expect("options are an object");
    let (card, given) = (card(), Given::default());
    let question = |version| Question {
        model,
        gguf,
        companions: &[],
        cards: std::slice::from_ref(&card),
        version,
        options: map,
        given: &given,
        depth: Depth::Whole,
    };
    match engine {
        "vllm" => {
            let version = Version::new(0, 19, 0);
            let options = vllm::options::Options::from_map(map, version)?;
            vllm::plan(&vllm::Case { model, card: &card, version, options: &options, given: &given })
        }
        "tensorrt-llm" => {
            let options = trtllm::Options::from_map(map, trtllm::DEFAULT_VERSION)?;
            let version = trtllm::DEFAULT_VERSION;
            trtllm::plan(&trtllm::Case { model, card: &card, version, options: &options, given: &given })
        }
        "sglang" => sglang::plan(&question(sglang::NEWEST)),
        "transformers" => transformers::plan(&question(transformers::NEWEST)),
        "llama.cpp" => llamacpp::plan(&question(llamacpp::NEWEST)),
        other => panic!("no engine {other}"),
    }
}
