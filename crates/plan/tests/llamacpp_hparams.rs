//! Are a file's hyper-parameters what llama.cpp reads? Headers of real models, where the shared data are at hand.

#[path = "../../../tests/shared.rs"]
mod shared;

use plimsoll_facts::gguf::{Gguf, Input, read};
use plimsoll_plan::engine::llamacpp::hparams::{Hparams, Swa};
use shared::shared;

fn header(name: &str) -> Option<Gguf> {
    let bytes = std::fs::read(shared(&format!("data/gguf/{name}.header.gguf"))?).expect("a file");
    Some(read(vec![Input { name: name.to_owned(), bytes: &mut bytes.as_slice(), length: None }]).expect("a header"))
}

#[test]
fn layers_heads_windows_and_states() {
    // Name; layers; drafting; key numbers of layer 0 and of the last; windowed layers; recurrent layers; R and S numbers.
    for (name, layers, nextn, k_first, k_last, swa, recurrent, r, s) in [
        ("llama-3.1-8b-Q4_K_M", 32, 0, 1024, 1024, 0, 0, 0, 0),
        ("gemma3-27b-Q4_K_M", 62, 0, 2048, 2048, 52, 0, 0, 0),
        ("gpt-oss-20b-F16", 24, 0, 512, 512, 12, 0, 0, 0),
        ("deepseek-v3.1-Q4_K_M", 61, 0, 576, 576, 0, 0, 0, 0),
        ("mamba-2.8b-Q4_K_M", 64, 0, 0, 0, 0, 64, 3 * 5120, 16 * 5120),
        ("qwen3-next-80b-a3b-Q4_K_M", 48, 0, 512, 512, 0, 36, 24_576, 524_288),
        ("granite-4.0-h-tiny-Q4_K_M", 40, 0, 0, 0, 0, 36, 0, 0),
    ] {
        let Some(gguf) = header(name) else { return };
        let h = Hparams::read(&gguf).expect("a header");
        assert_eq!((h.layers.len(), h.nextn), (layers, nextn), "{name}");
        assert_eq!((h.k_gqa(0), h.k_gqa(layers - 1)), (k_first, k_last), "{name}");
        assert_eq!(h.layers.iter().filter(|layer| layer.swa).count(), swa, "{name}");
        assert_eq!(h.layers.iter().filter(|layer| layer.recurrent).count(), recurrent, "{name}");
        assert_eq!(h.swa == Swa::None, swa == 0, "{name}");
        if recurrent == 0 || s > 0 {
            assert_eq!((h.state_r(), h.state_s()), (r, s), "{name}");
        }
    }
}
