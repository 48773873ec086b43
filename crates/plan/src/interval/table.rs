//! Which factor does each group's interval have? Written by `cargo xtask intervals`; do not edit.

use super::Band;

/// Every band, engine by engine.
#[rustfmt::skip]
pub(super) const BANDS: &[Band] = &[
    Band { engine: "vllm", group: "", factor: 3.240, launches: 76, units: 52, source: "evidence/vllm.jsonl" },
    Band { engine: "vllm", group: "text models on NVIDIA, V0", factor: 2.899, launches: 14, units: 14, source: "evidence/vllm.jsonl" },
    Band { engine: "vllm", group: "text models on NVIDIA, V1", factor: 1.010, launches: 47, units: 25, source: "evidence/vllm.jsonl" },
    Band { engine: "tensorrt-llm", group: "", factor: 1.438, launches: 25, units: 25, source: "evidence/trtllm.jsonl" },
    Band { engine: "tensorrt-llm", group: "PyTorch backend", factor: 0.660, launches: 22, units: 22, source: "evidence/trtllm.jsonl" },
];
