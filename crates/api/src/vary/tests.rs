use proptest::prelude::*;

use super::*;
use crate::NoFiles;

fn desk() -> Desk<'static> {
    Desk::new(&NoFiles)
}

fn launch(model: &str, gpu: &str, engine: &str) -> PlanRequest {
    PlanRequest {
        model: Some(model.to_owned()),
        gpu: Some(gpu.to_owned()),
        engine: Some(engine.to_owned()),
        ..PlanRequest::default()
    }
}

fn settings(text: &str) -> Vec<Setting> {
    let pairs = text.split(' ').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            let knob = Knob::parse(name).unwrap();
            Setting { knob, value: knob.values(value).unwrap().remove(0) }
        })
        .collect()
}

#[test]
fn kv_by_hand() {
    let desk = desk();
    for (model, engine, batch, context, bytes) in [
        // 2 × 32 layers × 8 heads × 128 × 2 bytes = 128 KiB a token.
        ("llama-3.1-8b", "vllm", 16, 32_768, 64 << 30),
        ("llama-3.1-8b", "sglang", 16, 32_768, 64 << 30),
        ("llama-3.1-8b", "vllm", 1, 17, 2 * 16 * (128 << 10)),
        // 2 × 32 × 32 heads × 128 × 2 = 512 KiB a token.
        ("llama-2-7b", "vllm", 1, 4096, 4096 * (512 << 10)),
        ("llama-2-7b", "llama.cpp", 2, 2048, 4096 * (512 << 10)),
        // 61 layers of 512 + 64 numbers of 2 bytes.
        ("deepseek-v3", "vllm", 1, 4096, 4096 * 61 * 576 * 2),
    ] {
        let base = Base::new(&launch(model, "h200", engine), &desk).unwrap();
        let need = base.need_at(&[], batch, context).unwrap();
        assert_eq!(need.kv.get(), bytes, "{model} {engine} {batch} x {context}");
        assert_eq!(need.total(), need.weights + need.activations.bytes + need.runtime.bytes + need.kv);
    }
}

#[test]
fn transformers_caches_all_but_the_last_token() {
    let desk = desk();
    let base = Base::new(&launch("llama-3.1-8b", "h100-sxm", "transformers"), &desk).unwrap();
    assert_eq!(base.need_at(&[], 2, 4096).unwrap().kv.get(), 2 * 4095 * (128 << 10));
}

#[test]
fn every_knob_of_every_engine() {
    let desk = desk();
    for (engine, text) in [
        ("vllm", "context=8k batch=32 tp=2 pp=2 kv-format=fp8 block=32 layers=16"),
        ("tensorrt-llm", "context=8k batch=32 tp=2 pp=2 kv-format=fp8 block=64 layers=16"),
        ("sglang", "context=8k batch=32 tp=2 pp=2 kv-format=fp8_e5m2 block=16 layers=16"),
        ("llama.cpp", "context=8k batch=4 kv-format=q8_0 layers=16"),
        ("ollama", "context=8k batch=4 kv-format=q8_0 layers=16"),
        ("transformers", "context=8k batch=4 layers=16"),
    ] {
        let base = Base::new(&launch("llama-3.1-8b", "h200", engine), &desk).unwrap();
        let varied = base.at(&settings(text)).unwrap_or_else(|error| panic!("{engine}: {error}"));
        assert_eq!(varied.prepared.loaded.model.layers.len(), 16, "{engine}");
        if engine != "ollama" {
            let length =
                if engine == "llama.cpp" { varied.plan.kv.concurrency_at_tokens } else { varied.plan.max_model_len };
            assert_eq!(length, 8192, "{engine}");
        }
        for setting in settings(text) {
            let alone = base.at(std::slice::from_ref(&setting));
            assert!(alone.is_ok(), "{engine} {setting:?}: {:?}", alone.err());
        }
    }
    for (engine, knob, message) in [
        ("llama.cpp", "tp=2", "llama.cpp has no option for tp; with llama.cpp can be varied: context, batch, heads,"),
        ("transformers", "block=2", "transformers has no option for block; with transformers can be varied: context,"),
        ("ollama", "pp=2", "ollama has no option for pp;"),
    ] {
        let base = Base::new(&launch("llama-3.1-8b", "h200", engine), &desk).unwrap();
        let error = base.at(&settings(knob)).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(error.is_malformed());
    }
}

#[test]
fn the_shape_of_a_model() {
    let desk = desk();
    for (model, text, parameters, kv) in [
        ("llama-3.1-8b", "layers=32", 8_030_261_248, 131_072),
        ("llama-3.1-8b", "layers=16", 8_030_261_248 - 16 * 218_112_000, 65_536),
        ("llama-3.1-8b", "kv-heads=32", 8_030_261_248 + 32 * 2 * 24 * 128 * 4096, 4 * 131_072),
        ("llama-3.1-8b", "heads=64", 8_030_261_248 + 32 * 2 * 32 * 128 * 4096, 131_072),
        ("llama-3.1-8b", "head-dim=64", 8_030_261_248 - 32 * (2 * 32 + 2 * 8) * 64 * 4096, 65_536),
        (
            "llama-3.1-8b",
            "dim=2048",
            2 * 128_256 * 2048 + 2048 + 32 * (3 * 2048 * 14336 + 2 * 2048 + 2 * 40 * 128 * 2048),
            131_072,
        ),
    ] {
        let base = Base::new(&launch(model, "h200", "vllm"), &desk).unwrap();
        let varied = base.at(&settings(text)).unwrap();
        assert_eq!(varied.prepared.loaded.parameters, parameters, "{model} {text}");
        assert_eq!(varied.plan.kv.bytes_per_token, kv, "{model} {text}");
    }
    // A pattern of windows goes on.
    let base = Base::new(&launch("gemma-3-27b", "h200", "vllm"), &desk).unwrap();
    let varied = base.at(&settings("layers=12")).unwrap();
    assert_eq!(varied.prepared.loaded.model.layers.len(), 12);
    for (model, text, message) in [
        (
            "llama-3.1-8b",
            "kv-heads=5",
            "meta-llama/Llama-3.1-8B-Instruct with kv-heads 5: `num_key_value_heads` contradicts the rest: 32 query heads do",
        ),
        ("deepseek-v3", "kv-heads=8", "kv-heads of deepseek-ai/DeepSeek-V3 cannot be 8: its architecture"),
        ("deepseek-v3", "head-dim=64", "head-dim of deepseek-ai/DeepSeek-V3 cannot be 64: its architecture"),
    ] {
        let base = Base::new(&launch(model, "h200", "vllm"), &desk).unwrap();
        let error = base.at(&settings(text)).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn formats_of_weights() {
    let desk = desk();
    for (engine, format, weights) in [
        ("vllm", "bf16", 16_060_522_496_u64),
        ("vllm", "fp8", 9_081_195_520),
        ("llama.cpp", "q4_k_m", 0),
        ("sglang", "awq-4bit", 0),
    ] {
        let base = Base::new(&launch("llama-3.1-8b", "h200", engine), &desk).unwrap();
        let plain = base.need_at(&[], 1, 4096).unwrap();
        let need = base.need_at(&settings(&format!("format={format}")), 1, 4096).unwrap();
        if weights > 0 {
            assert!(need.weights.get().abs_diff(weights) < weights / 50, "{engine} {format}: {}", need.weights.get());
        } else {
            assert!(need.weights <= plain.weights, "{engine} {format}: {}", need.weights.get());
        }
    }
    for (engine, format, message) in [
        ("vllm", "gptq-5bit", "`gptq-5bit`"),
        ("llama.cpp", "fp8", "llama.cpp reads GGUF files, and fp8 is no type of these"),
    ] {
        let base = Base::new(&launch("llama-3.1-8b", "h200", engine), &desk).unwrap();
        let error = base.at(&[Setting::new(Knob::Format, format)]).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    let desk = desk();
    let base = Base::new(&launch("llama-3.1-8b", "h200", "vllm"), &desk).unwrap();
    for (setting, message) in [
        (Setting::new(Knob::KvFormat, 8), "kv-format is `8`, expected a name"),
        (Setting::new(Knob::Tp, "two"), "tp is `two`, expected a number"),
    ] {
        assert_eq!(base.at(&[setting]).unwrap_err().to_string(), message);
    }
    assert!(Knob::parse("length").unwrap_err().to_string().starts_with("`length` is nothing that can be varied"));
    for knob in Knob::ALL {
        assert_eq!(Knob::parse(knob.name()), Ok(knob));
    }
}

/// Launches whose caches differ in kind: one group, windows, chunks, latents, states, several stages and ranks.
const LAUNCHES: [(&str, &str); 14] = [
    ("llama-3.1-8b", "vllm"),
    ("llama-3.1-8b", "sglang"),
    ("llama-3.1-8b", "tensorrt-llm"),
    ("llama-3.1-8b", "vllm pp=2 tp=2"),
    ("gemma-3-27b", "vllm"),
    ("gemma-3-27b", "sglang"),
    ("gemma-3-27b", "tensorrt-llm"),
    ("gpt-oss-20b", "vllm"),
    ("deepseek-v3", "vllm tp=8"),
    ("deepseek-v3", "sglang tp=8"),
    ("qwen3-next-80b-a3b-instruct", "vllm tp=4"),
    ("qwen3-next-80b-a3b-instruct", "sglang tp=4"),
    ("llama-4-scout", "vllm tp=4"),
    ("qwen3-32b", "tensorrt-llm pp=2"),
];

fn base_of<'d>(at: usize, desk: &'d Desk<'d>) -> (Base<'d>, Vec<Setting>) {
    let (model, words) = LAUNCHES[at];
    let (engine, rest) = words.split_once(' ').unwrap_or((words, ""));
    let base = Base::new(&launch(model, "h200", engine), desk);
    (base.unwrap_or_else(|error| panic!("{model} {engine}: {error}")), settings(rest))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The largest batch of a length is what the engine says fits when it is started with that length.
    #[test]
    fn the_largest_batch_is_the_engines_concurrency(at in 0..LAUNCHES.len(), context in 1_u64..131_072) {
        let desk = desk();
        let (base, mut all) = base_of(at, &desk);
        all.push(Setting::new(Knob::Context, context));
        let Ok(varied) = base.at(&all) else { return Ok(()) };
        let need = need(&varied, 1, context);
        let printed = varied.plan.kv.max_concurrency.floor() as u64;
        let largest = need.largest_batch.unwrap();
        // vLLM's own number counts the null block that no request gets; SGLang's also how many requests may run.
        let engine = LAUNCHES[at].1;
        if engine.starts_with("vllm") {
            prop_assert!(largest == printed || largest + 1 == printed && varied.plan.kv.max_concurrency.fract() < 1e-3);
        } else if engine.starts_with("sglang") {
            prop_assert!(largest >= printed);
        } else {
            prop_assert_eq!(largest, printed);
        }
        prop_assert_eq!(need.fits, largest >= 1);
    }

    /// What a request of a length takes does not depend on the longest that the launch serves.
    #[test]
    fn a_request_is_counted_as_in_a_launch_of_its_length(at in 0..LAUNCHES.len(), context in 1_u64..65_536) {
        let desk = desk();
        let (base, mut all) = base_of(at, &desk);
        all.push(Setting::new(Knob::Context, context));
        let (Ok(own), Ok(longer)) = (base.at(&all), {
            all.push(Setting::new(Knob::Context, 65_536));
            base.at(&all)
        }) else { return Ok(()) };
        let steps = |plan: &Plan| plan.batching.as_ref().map(|batching| match batching {
            plimsoll_plan::Batching::Vllm(of) => of.max_num_batched_tokens,
            plimsoll_plan::Batching::Sglang(_) | plimsoll_plan::Batching::TensorRtLlm(_) => 0,
        });
        // vLLM takes fewer tokens a step for short sequences, and windows hold those.
        prop_assume!(steps(&own.plan) == steps(&longer.plan));
        for stage in 0..own.plan.parallel.pp as usize {
            prop_assert_eq!(
                own.plan.kv.growth.bytes(stage, 1, context),
                longer.plan.kv.growth.bytes(stage, 1, context)
            );
        }
        if LAUNCHES[at].1.starts_with("vllm") {
            let each: u64 = own.plan.kv.groups.iter().map(|group| group.blocks_per_request).sum();
            prop_assert_eq!(own.plan.kv.growth.pools[0].request(context), each);
        }
    }

    /// More tokens and more sequences never need less; the longest length and the largest batch are each other's inverse.
    #[test]
    fn more_never_needs_less(
        at in 0..LAUNCHES.len(),
        (short, more) in (1_u64..120_000, 0_u64..11_000),
        batch in 1_u64..300,
    ) {
        let desk = desk();
        let (base, all) = base_of(at, &desk);
        let varied = base.at(&all).unwrap();
        let (less, long) = (need(&varied, batch, short), need(&varied, batch + more % 7, short + more));
        prop_assert!(less.kv <= long.kv);
        prop_assert!(less.total() <= long.total());
        prop_assert!(less.fits || !long.fits);
        prop_assert!(less.largest_batch >= long.largest_batch);
        prop_assert!(less.largest_batch_low <= less.largest_batch && less.largest_batch <= less.largest_batch_high);
        prop_assert!(less.limit_low <= less.limit && less.limit <= less.limit_high);
        let growth = &varied.plan.kv.growth;
        let most = 1 << 30;
        let longest = growth.longest(batch, most);
        if longest > 0 {
            prop_assert!(growth.sequences(longest).is_none_or(|fits| fits >= batch));
        }
        if longest < most {
            prop_assert!(growth.sequences(longest + 1).is_some_and(|fits| fits < batch));
        }
    }
}
