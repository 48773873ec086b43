//! Is every memory line of every engine read, whatever stands around it? One log per engine and era, made by us in the
//! engines' own forms; then the same logs behind every kind of prefix; then logs that are broken.

use std::path::Path;

use plimsoll_study::log::{EngineKind, Log, Reader, RefusalKind, What, read};
use proptest::prelude::*;

/// The logs, with their engines.
const LOGS: [(&str, EngineKind); 9] = [
    ("llamacpp", EngineKind::LlamaCpp),
    ("ollama", EngineKind::Ollama),
    ("ollama-old", EngineKind::Ollama),
    ("sglang", EngineKind::Sglang),
    ("trtllm", EngineKind::Trtllm),
    ("trtllm-pytorch", EngineKind::Trtllm),
    ("vllm", EngineKind::Vllm),
    ("vllm-refused", EngineKind::Vllm),
    ("vllm-v0", EngineKind::Vllm),
];

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/files/logs").join(name).with_extension("log");
    std::fs::read_to_string(path).expect("the log is there")
}

/// Everything that was read, without line numbers, so that noise between lines does not count.
fn shown(log: &Log) -> String {
    let mut out = format!(
        "{} {:?} model {:?}\n",
        log.engine.map_or("nobody", EngineKind::name),
        log.sheet.versions,
        log.sheet.model
    );
    for (title, map) in [("options", &log.sheet.options), ("resolved", &log.sheet.resolved)] {
        let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}={value}")).collect();
        out += &format!("{title}: {}\n", pairs.join(" "));
    }
    let gpus: Vec<&str> = log.sheet.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    out += &format!("gpus: {gpus:?}\n");
    for reading in log.sheet.readings() {
        let place = reading.device.clone().unwrap_or_else(|| reading.rank.name());
        let value = match (reading.bytes, reading.count) {
            (Some(bytes), _) => format!("{bytes} ± {} B", reading.half),
            (None, count) => format!("{}", count.unwrap_or(f64::NAN)),
        };
        out += &format!("{} [{place}] {value}\n", reading.what.name());
    }
    for refusal in &log.sheet.refusals {
        out += &format!("{}: {}\n", refusal.kind.name(), refusal.text.chars().take(60).collect::<String>());
    }
    out
}

#[test]
fn every_line_of_every_engine() {
    for (name, engine) in LOGS {
        let log = read(text(name).as_bytes());
        assert_eq!(log.engine, Some(engine), "{name}");
        insta::assert_snapshot!(name, shown(&log));
    }
}

#[test]
fn secrets_are_not_kept() {
    let log = read(text("vllm").as_bytes());
    assert!(!format!("{log:?}").contains("not-to-be-kept"));
}

/// Ways in which a line comes out of a machine.
fn dressed(kind: u8, at: usize, line: &str) -> String {
    match kind {
        0 => line.to_owned(),
        1 => format!("my-svc-1  | {line}"),
        2 => format!("Nov 21 10:00:{:02} host-7 serve[1234]: {line}", at % 60),
        3 => format!("2025-11-21T10:00:00.{at:09}Z stdout F {line}"),
        4 => serde_json::json!({"log": format!("{line}\n"), "stream": "stderr", "time": "2025-11-21T10:00:00Z"})
            .to_string(),
        5 => format!("\u{1b}[36m{line}\u{1b}[0m"),
        6 => format!("> {line}"),
        7 => format!("[pod/llm-0/engine] {line}"),
        8 => format!("  0%|          | 0/13 [00:00<?, ?it/s]\r100%|██████████| 13/13 [00:07<00:00,  1.80it/s]\r{line}"),
        _ => format!("2025-11-21 10:00:00.123 {line}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Prefixes, colours, line ends, noise between the lines and the size of the pieces change nothing.
    #[test]
    fn noise_changes_nothing(
        which in 0..LOGS.len(),
        kind in 0_u8..10,
        crlf: bool,
        noise in proptest::collection::vec((0_usize..40, "[ -~é]{0,60}"), 0..12),
        piece in 1_usize..5000,
    ) {
        let (name, _) = LOGS[which];
        let clean = text(name);
        let end = if crlf { "\r\n" } else { "\n" };
        let mut out = String::new();
        for (at, line) in clean.lines().enumerate() {
            for (_, noise) in noise.iter().filter(|(place, _)| *place == at) {
                // Noise that is itself a line of an engine would rightly be read.
                out += &noise.replace(['=', ':', '(', 'd'], "-");
                out += end;
            }
            out += &dressed(kind, at, line);
            out += end;
        }
        let mut reader = Reader::new();
        for piece in out.as_bytes().chunks(piece) {
            reader.feed(piece);
        }
        prop_assert_eq!(shown(&reader.finish()), shown(&read(clean.as_bytes())));
    }

    /// Any bytes are read without a panic, and what is read is sound.
    #[test]
    fn any_bytes_are_survived(
        which in 0..LOGS.len(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = text(LOGS[which].0).into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()));
        for reading in read(&bytes).sheet.readings() {
            prop_assert!(reading.bytes.is_none_or(|bytes| bytes <= 1 << 50));
            prop_assert!(reading.count.is_none_or(f64::is_finite));
        }
    }

    /// Lines of two ranks, however mixed, stay with their ranks.
    #[test]
    fn ranks_may_be_mixed(order in proptest::collection::vec(any::<bool>(), 1..30)) {
        let lines = |tp: u32| {
            vec![
                format!("(Worker_TP{tp} pid=9) INFO 11-21 10:00:00 [x.py:1] Model loading took {tp}.50 GiB and 1.0 seconds\n"),
                format!("(Worker_TP{tp} pid=9) INFO 11-21 10:00:00 [x.py:1] Available KV cache memory: 1{tp}.25 GiB\n"),
            ]
        };
        let (mut left, mut right) = (lines(0), lines(1));
        let mut out = String::new();
        for first in order.into_iter().chain([true, true, false, false]) {
            let from = if first { &mut left } else { &mut right };
            if !from.is_empty() {
                out += &from.remove(0);
            }
        }
        let log = read(out.as_bytes());
        let weights: Vec<_> = log.sheet.lasts(What::Weights).map(|reading| (reading.rank.tp, reading.bytes)).collect();
        prop_assert_eq!(weights, [(Some(0), Some(536_870_912)), (Some(1), Some(1_610_612_736))]);
        prop_assert_eq!(log.sheet.least(What::KvBudget).and_then(|reading| reading.rank.tp), Some(0));
    }
}

/// What a broken log gives: the engine's name and the readings.
fn check(bytes: &[u8], wanted: &str) {
    let log = read(bytes);
    let readings: Vec<String> = log
        .sheet
        .readings()
        .map(|reading| match reading.bytes {
            Some(bytes) => format!("{} {bytes}", reading.what.name()),
            None => format!("{} {}", reading.what.name(), reading.count.unwrap_or(-1.0)),
        })
        .collect();
    let got = format!("{}: {}", log.engine.map_or("nobody", EngineKind::name), readings.join(", "));
    assert_eq!(got, wanted, "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]));
}

#[test]
fn broken_logs_give_what_is_sound_in_them() {
    for (bytes, wanted) in [
        // Nothing, and nothing of an engine's.
        (&b""[..], "nobody: "),
        (b"\n\n\r\n", "nobody: "),
        (b"hello world\nmodel weights\nkv cache 3 GiB\n", "nobody: "),
        (b"\x00\x01\x02\xff\xfe\xfd", "nobody: "),
        (&[0x80; 4096], "nobody: "),
        // Numbers cut short, absurd or no numbers.
        (b"Available KV cache memory: ", "nobody: "),
        (b"Available KV cache memory: 54.", "nobody: "),
        (b"Available KV cache memory: NaN GiB\n", "nobody: "),
        (b"Available KV cache memory: -3.20 GiB\n", "nobody: "),
        (b"Available KV cache memory: inf GiB\n", "nobody: "),
        (b"Available KV cache memory: 1e300 GiB\n", "nobody: "),
        (b"Available KV cache memory: 99999999999999999999999999 GiB\n", "nobody: "),
        (b"Available KV cache memory: 54.02 furlongs\n", "nobody: "),
        (b"Available KV cache memory: 54,02 GiB\n", "nobody: "),
        (b"GPU KV cache size: many tokens\n", "nobody: "),
        (b"GPU KV cache size: 18446744073709551617 tokens\n", "nobody: "),
        (b"GPU KV cache size: 12.5 tokens\n", "nobody: "),
        // Half a line is as good as its numbers.
        (b"Graph capturing finished in 9 secs", "nobody: "),
        (b"Maximum concurrency for 8,192 tokens per request: x\n", "nobody: "),
        (b"Free memory on device (78.62/", "vllm: free_at_start 84417582203"),
        (b"Free memory on device (78.62/79.1 GiB) on sta", "vllm: total 84932978278, free_at_start 84417582203"),
        (b"llama_kv_cache: CUDA0 KV buffer size = \n", "nobody: "),
        (b"load_tensors: CUDA0 model buffer size = 4403.49 Mi", "nobody: "),
        (b"[T] KV Cache is allocated. #tokens: 5, K size: 1.00 GB, V siz", "sglang: kv_tokens 5"),
        (b"time=x level=INFO source=a.go:1 msg=\"kv cache\" device=CUDA0 size=\"512.0 Mi", "nobody: "),
        (b"[MemUsageChange] Allocated GiB for max tokens in paged KV cache (1).\n", "nobody: "),
        // Invalid UTF-8 in the line does not hide its number.
        (b"\xff\xfe\xfdx Available KV cache memory: 1.00 GiB\n", "nobody: "),
        (b"ab\xff\xfd Available KV cache memory: 1.00 GiB\n", "vllm: kv_budget 1073741824"),
        // A prompt that speaks of memory is no line of the engine.
        (b"Received request cmpl-1: prompt: 'Available KV cache memory: 1.00 GiB'\n", "nobody: "),
        // Arguments that never end.
        (b"non-default args: {'model': 'm', 'a': [[[[[[[[[[[[[[", "vllm: "),
        (b"server_args=ServerArgs(", "sglang: "),
        // Broken wrapping.
        (b"{\"log\":\"Available KV cache memory: 1.00 GiB\\n\",\"stream\"\n", "vllm: kv_budget 1073741824"),
    ] {
        check(bytes, wanted);
    }
}

#[test]
fn contradictions_are_said() {
    let log = read(
        b"INFO [api_server.py:1] vLLM API server version 0.9.2\nINFO x Initializing a V1 LLM engine (v0.11.0) with config: model='m'\n",
    );
    assert_eq!(log.sheet.versions, ["0.9.2", "0.11.0"]);
    assert!(log.notes.iter().any(|note| note.contains("several releases")), "{:?}", log.notes);
    // Two engines in one file: the one with more lines.
    let mixed = [text("vllm"), text("sglang").lines().take(3).collect::<Vec<_>>().join("\n")].concat();
    assert_eq!(read(mixed.as_bytes()).engine, Some(EngineKind::Vllm));
}

#[test]
fn of_several_launches_the_last_that_said_something() {
    let twice = [text("vllm"), text("vllm").replace("54.02", "50.00")].concat();
    let log = read(twice.as_bytes());
    assert_eq!(log.sheet.last(What::KvBudget).and_then(|reading| reading.bytes), Some(50 << 30));
    assert_eq!(log.sheet.lists(What::KvBudget).map(<[_]>::len).sum::<usize>(), 2, "the budget and its summary");
    let begun = [text("sglang"), text("sglang").lines().take(2).collect::<Vec<_>>().join("\n")].concat();
    let log = read(begun.as_bytes());
    assert_eq!(log.sheet.count(What::KvTokens), Some(304_548.0));
    assert!(log.notes.iter().any(|note| note.contains("the one before it")), "{:?}", log.notes);
}

#[test]
fn sixteen_bits_and_refusals() {
    let wide: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain(text("ollama").encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(shown(&read(&wide)), shown(&read(text("ollama").as_bytes())));
    let kinds: Vec<RefusalKind> =
        read(text("vllm-refused").as_bytes()).sheet.refusals.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [RefusalKind::ContextTooLong]);
}

/// 300 MB of log, one line without end among them: what is kept stays small.
#[test]
fn a_long_log_is_read_in_bounded_memory() {
    let mut reader = Reader::new();
    let line = |at: usize| {
        format!(
            "(Worker_TP{} pid={at}) INFO 11-21 10:00:00 [x.py:1] Available KV cache memory: {}.00 GiB\n\
             INFO loggers.py:118] Engine 000: Avg prompt throughput: {at} tokens/s, GPU KV cache usage: 12.0%\n",
            at % 100_000,
            at % 90,
        )
    };
    let mut piece = String::new();
    for at in 0..20_000 {
        piece += &line(at);
    }
    let mut fed = 0;
    while fed < 150 << 20 {
        reader.feed(piece.as_bytes());
        fed += piece.len();
    }
    let endless = vec![b'x'; 1 << 20];
    for _ in 0..150 {
        reader.feed(&endless);
    }
    let log = reader.finish();
    assert!(log.bytes > 300 << 20);
    let kept = format!("{:?}", log.sheet).len();
    assert!(kept < 32 << 20, "{kept} bytes are kept");
    assert!(log.sheet.readings().count() <= 4096 * 8);
    assert!(log.notes.iter().any(|note| note.contains("longer than 64 KiB")), "{:?}", log.notes);
}
