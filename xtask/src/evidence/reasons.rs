//! Why is a row off? Facts from the rows' own notes, by thread; shown beside the row, which is never dropped.

/// Part of a thread's name, part of the row's notes or model (empty for any), and what explains a miss.
const REASONS: &[(&str, &str, &str)] = &[
    ("vllm#13061", "", "launch failed; another rank had less memory and decided"),
    ("vllm#10511", "", "development branch that charged the whole device's use"),
    ("vllm#12126", "", "V0 profiled max_num_seqs images at once"),
    ("49136042149", "", "V0, multimodal worst case of 40 989 tokens; audio towers"),
    ("3493652842", "", "GGUF weights: what the engine keeps dequantised is not in the row"),
    ("20903468563", "", "V0, DeepSeek-R1 over 8 GPUs: NCCL and contexts of 7.16 GiB charged"),
    ("67133514795", "", "speech model; its vocabulary is not published with the row"),
    ("61080216942", "", "speech model; its vocabulary is not published with the row"),
    ("6727521558", "", "ROCm: libraries take more"),
    ("6772819732", "", "ROCm with weights in shared memory that the log counts as zero"),
    ("55875904831", "", "Turing with xFormers"),
    ("54382809113", "", "fork for gfx906; weights 1.34 GiB where CUDA has 1.12"),
    ("57044493590", "", "cpu_offload_gb leaves only part of the weights on the GPU; MLA rows padded to 640"),
    (
        "public repo file, library index id 63130304394",
        "",
        "unified memory whose co-tenants changed by GiB between runs",
    ),
    (
        "38730122894",
        "5.73x",
        "wrong evidence: 2048 batched tokens, as the thread's other launch states, would explain it",
    ),
    ("38730122894", "1.21x", "another rank had less memory and decided"),
    (
        "empirical-vllm-memory-results",
        "Mistral-Small",
        "wrong evidence: the log's peak needs at most 256 sequences, the row infers 1024",
    ),
    ("llm-d-planner#205", "FAILED", "ran out of memory while capturing graphs, after the cache was taken"),
    ("61511710941", "", "experts and indexer of a model whose kernels hold workspaces of their own"),
    ("66080606939", "", "a fork of vLLM"),
    ("vllm#21348", "", "wrong evidence: the printed GiB and the printed tokens are of different ranks"),
    ("3706561278", "", "V0 charges what 8 ranks' NCCL takes: 2.1 GiB"),
    ("65856141780", "", "Intel's libraries take 1.5 GiB"),
    (
        "69421856836",
        "V2 model runner",
        "a peak of 1.06 GiB where another launch of the model took 0.25: a first compilation",
    ),
    (
        "vllm-project/recipes#12",
        "Qwen3-Coder-480B",
        "wrong evidence: the row's own numbers give a card of 139.8 GiB, not the 96 GB H20",
    ),
    ("34802511869", "", "a peak of 18 bytes a logit: FlashInfer's sampler, it seems, which 0.11 used where installed"),
    ("vllm#16570", "", "max_model_len is not stated, and V0 profiled as many tokens"),
    ("vllm#43308", "", "approximate numbers"),
];

/// Returns what is known to explain a miss of this row.
pub fn reason(thread: &str, about: &str) -> Option<&'static str> {
    REASONS.iter().find(|(part, mark, _)| thread.contains(part) && about.contains(mark)).map(|(_, _, why)| *why)
}
