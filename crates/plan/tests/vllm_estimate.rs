//! The profile run's peak against launches that publish it. Shapes are small configs in the models' published sizes; the
//! peaks are the logs' (rounded to 0.01 GiB).

use plimsoll_facts::model::{Model, read};
use plimsoll_facts::tensor::DType;
use plimsoll_plan::engine::vllm::estimate::{Launch, Multimodal, estimate, group};
use plimsoll_plan::interval::remainder;
use plimsoll_plan::{Card, Parallel, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::json;

fn llama(hidden: u64, inner: u64, layers: u64, heads: u64, kv_heads: u64, vocabulary: u64) -> Model {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16",
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "vocab_size": vocabulary, "max_position_embeddings": 131_072,
    });
    read("test", &config, None).expect("the test configuration is complete")
}

fn card(name: &str, total: u64, capability: (u8, u8), multiprocessors: u32) -> Card {
    Card {
        name: name.into(),
        total: Estimate::exact(Bytes::new(total), Source::Given),
        compute_capability: Some(capability),
        sm_count: Some(multiprocessors),
        unified: false,
        count: 8,
    }
}

fn launch<'a>(model: &'a Model, card: &'a Card, version: Version, tokens: u64, sequences: u64) -> Launch<'a> {
    Launch {
        model,
        version,
        v1: version >= Version::new(0, 8, 0),
        parallel: Parallel::ONE,
        pp_rank: 0,
        layers: 0..model.layers.len() as u32,
        card,
        max_model_len: 8192,
        max_num_batched_tokens: tokens,
        max_num_seqs: sequences,
        chunked_prefill: true,
        enforce_eager: false,
        dtype: DType::BF16,
        kv_dtype: DType::BF16,
        weights: Bytes::gib(15.0),
        speculative_tokens: 0,
        max_loras: 0,
        multimodal: Multimodal::default(),
        capture_sizes: &[1, 2, 4, 8],
        runner_v2: false,
        estimate_graphs: None,
    }
}

#[test]
fn peaks_as_logged() {
    let h100 = card("H100 SXM5 80GB", 85_029_158_912, (9, 0), 132);
    let small = card("L4", 23_700_000_000, (8, 9), 58);
    let cases = [
        ("Llama-3.1-8B", llama(4096, 14_336, 32, 32, 8, 128_256), &h100, (0, 19), 8192, 1024, 1.89),
        ("Qwen3-8B", llama(4096, 12_288, 36, 32, 8, 151_936), &h100, (0, 19), 8192, 1024, 2.21),
        ("Qwen3-14B", llama(5120, 17_408, 40, 40, 8, 151_936), &h100, (0, 17), 8192, 1024, 2.23),
        ("Qwen3-14B", llama(5120, 17_408, 40, 40, 8, 151_936), &h100, (0, 16), 8192, 1024, 5.64),
        ("Llama-3.1-8B", llama(4096, 14_336, 32, 32, 8, 128_256), &h100, (0, 11), 8192, 1024, 4.76),
        ("CodeLlama-7b", llama(4096, 11_008, 32, 32, 32, 32_016), &h100, (0, 19), 8192, 1024, 0.77),
        ("phi-4", llama(5120, 17_920, 40, 40, 10, 100_352), &h100, (0, 19), 8192, 1024, 1.52),
        ("Qwen3-8B-FP8", llama(4096, 12_288, 36, 32, 8, 151_936), &small, (0, 10), 2048, 256, 1.40),
    ];
    for (name, model, card, (major, minor), tokens, sequences, logged) in cases {
        let got = estimate(&launch(&model, card, Version::new(major, minor, 0), tokens, sequences)).activation.size;
        let gib = got.bytes.as_gib();
        assert!((gib - logged).abs() < 0.021, "{name} {minor}: {gib} instead of {logged}");
        assert!(got.low.as_gib() <= logged && logged <= got.high.as_gib(), "{name}: interval misses");
    }
}

/// The launch was published with LLMServingSim's traces (casys-kaist/LLMServingSim): 2588 blocks of 2 MiB. Constants of
/// an H100 put it 20% off.
#[test]
fn consumer_card_within_three_percent() {
    let rtx = card("GeForce RTX 4090", 25_250_627_584, (8, 9), 128);
    let model = llama(4096, 14_336, 32, 32, 8, 128_256);
    let asked = launch(&model, &rtx, Version::new(0, 19, 0), 2048, 256);
    let got = estimate(&asked);
    let weights = Estimate::exact(Bytes::new(2 * 8_030_261_248), Source::Given);
    let parts = got.charged().map(|entry| entry.size.clone());
    let limit = Bytes::from_f64((25_250_627_584.0_f64 * 0.9).ceil());
    let budget = remainder(limit, parts.iter().chain([&weights]), ("vllm", group(&asked)), "rule");
    let blocks = budget.bytes.get() / (2 << 20);
    assert!((blocks as f64 / 2588.0 - 1.0).abs() < 0.03, "{blocks} blocks");
    let (low, high) = (budget.low.get() / (2 << 20), budget.high.get() / (2 << 20));
    assert!(low <= 2588 && 2588 <= high, "{low} to {high}");
}

#[test]
fn hostile_sizes_stay_finite() {
    let h100 = card("H100", 85_029_158_912, (9, 0), 132);
    let model = llama(4096, 14_336, 32, 32, 8, 128_256);
    for (tokens, sequences) in [(0, 0), (1, 1), (u64::MAX, u64::MAX)] {
        let mut asked = launch(&model, &h100, Version::new(0, 33, 0), tokens, sequences);
        asked.parallel = Parallel { tp: 0, pp: 0, dp: 0, ep: 0 };
        asked.layers = 0..u32::MAX;
        asked.layers = 0..40;
        asked.max_model_len = u64::MAX;
        let got = estimate(&asked);
        for entry in got.charged() {
            assert!(entry.size.low <= entry.size.bytes && entry.size.bytes <= entry.size.high);
        }
    }
}
