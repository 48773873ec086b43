//! What a roofline looks like: a made-up one, in all forms.

use plimsoll_api::RooflineAnswer;
use plimsoll_api::answer::{EngineHead, GpuHead, ModelHead, ParallelHead};
use plimsoll_api::roofline::answer::*;
use plimsoll_report::{Style, roofline_csv, roofline_explained, roofline_markdown, roofline_table};

fn shares(parts: &[(&'static str, f64)]) -> Vec<ShareAnswer> {
    let part =
        |(name, share): &(&'static str, f64)| ShareAnswer { name: (*name).into(), ms: share * 13.1, share: *share };
    parts.iter().map(part).collect()
}

fn point(phase: &'static str, batch: u32, context: u32, ms: f64) -> PointAnswer {
    let tokens = if phase == "prefill" { u64::from(batch) * u64::from(context) } else { u64::from(batch) };
    let ttft = FirstTokenAnswer { first_ms: ms / 4.0, mean_ms: ms / 2.0, last_ms: ms };
    PointAnswer {
        phase: phase.into(),
        batch,
        context,
        steps: 1 + tokens / 8192,
        tokens,
        flops: 35.6e9 * tokens as f64,
        read_bytes: 36.1e9,
        written_bytes: 1.2e7,
        sent_bytes: 3.9e6,
        intensity_flops_per_byte: 0.987 * tokens as f64,
        flops_per_s: 35.6e9 * tokens as f64 / ms * 1e3,
        bound: if phase == "prefill" { "compute" } else { "memory" }.into(),
        roofline_bound: if phase == "prefill" { "compute" } else { "memory" }.into(),
        ideal_ms: ms * 0.82,
        roofline_ms: ms * 0.7,
        predicted_ms: ms,
        low_ms: ms * 0.91,
        high_ms: ms * 1.13,
        overhead_ms: ms * 0.04,
        ttft: (phase == "prefill").then_some(ttft),
        tpot_ms: (phase == "decode").then_some(ms),
        ideal_tokens_per_s: tokens as f64 / ms * 1e3 / 0.82,
        tokens_per_s: tokens as f64 / ms * 1e3,
        peak_share: 0.01,
        bandwidth_share: 0.8,
        families: shares(&[
            ("gemm", 0.5),
            ("attention", 0.1),
            ("moe", 0.2),
            ("stream", 0.05),
            ("collective", 0.11),
            ("overhead", 0.04),
        ]),
        bases: shares(&[("measured", 0.9 - f64::from(batch) / 1e4), ("transferred", 0.1 + f64::from(batch) / 1e4)]),
        bounds: shares(&[("memory", 0.9), ("link", 0.02), ("latency", 0.08)]),
        sequences_that_fit: Some(106),
    }
}

fn operator(name: &str, runs: f64, megabytes: f64, bound: &'static str, basis: &'static str) -> OperatorAnswer {
    OperatorAnswer {
        name: name.into(),
        family: "gemm".into(),
        runs,
        shape: "m 1, n 14336, k 8192".into(),
        format: "bf16".into(),
        arithmetic: "16-bit".into(),
        flops: megabytes * 1e6,
        read_bytes: megabytes * 1e6,
        written_bytes: 28_672.0,
        sent_bytes: 0.0,
        intensity_flops_per_byte: (megabytes > 0.0).then_some(0.998),
        flops_per_s: (megabytes > 0.0).then_some(2.3e12),
        bound: bound.into(),
        ideal_us: megabytes * 0.3,
        predicted_us: megabytes * 0.36 + 2.0,
        step_us: runs * (megabytes * 0.36 + 2.0),
        basis: basis.into(),
        formulas: vec![
            "operations = 2 m n k = 235 MFLOP".into(),
            "ideal = max(235 MFLOP / 989 TFLOP/s (16-bit), 235 MB / 3.35 TB/s) = 70.1 µs".into(),
        ],
    }
}

fn card() -> CardAnswer {
    let peak = |arithmetic: &'static str, flops: f64| PeakAnswer {
        arithmetic: arithmetic.into(),
        flops_per_s: flops,
        ridge_flops_per_byte: flops / 3.35e12,
    };
    CardAnswer {
        name: "H100 SXM5 80GB".into(),
        peaks: vec![peak("16-bit", 989.4e12), peak("fp8", 1978.9e12)],
        bandwidth_bytes_per_s: 3.35e12,
        l2_bytes: Some(52_428_800.0),
        sm_count: Some(132),
        link: "PCI Express 5.0".into(),
        link_bytes_per_s: Some(63.0e9),
        network_bytes_per_s: Some(50.0e9),
    }
}

fn answer() -> RooflineAnswer {
    let operators = OperatorsAnswer {
        phase: "decode".into(),
        batch: 1,
        context: 4096,
        step: 1,
        rows: vec![
            operator("attention", 80.0, 4.2, "latency", "extended"),
            operator("gate_up_proj", 80.0, 235.0, "memory", "measured"),
            operator("shared_experts_gate_up_proj", 79.5, 117.0, "compute", "transferred"),
            operator("all_reduce", 160.0, 0.0, "link", "roofline"),
        ],
    };
    RooflineAnswer {
        model: ModelHead {
            id: "llama-3.1-70b".into(),
            model_type: "llama".into(),
            parameters: 70_553_706_496,
            active_parameters: 70_553_706_496,
            dtype: "bf16".into(),
            quantization: None,
            source: "catalogue".into(),
        },
        engine: EngineHead { name: "vllm".into(), version: "0.33.0".into() },
        gpu: GpuHead {
            name: "H100 SXM5 80GB".into(),
            count: 4,
            total_bytes: 85_000_000_000,
            total_low: 85_000_000_000,
            total_high: 85_000_000_000,
            source: "catalogue".into(),
        },
        parallel: ParallelHead { tp: 4, pp: 1, dp: 1, ep: 1 },
        card: card(),
        step_tokens: Some(8192),
        findings: vec!["decoding 1 sequence does 0.987 FLOP for each byte moved | so memory decides".into()],
        points: vec![
            point("prefill", 1, 4096, 262.0),
            point("prefill", 4096, 131_072, 9.87e9),
            point("decode", 1, 4096, 13.1),
            point("decode", 256, 131_072, 1234.5),
        ],
        crossovers: [1, 8, 256]
            .map(|at| CrossoverAnswer {
                what: "attention_outweighs_products".into(),
                phase: "decode".into(),
                along: "context".into(),
                at,
                from: Some(424_317 / u64::from(at)),
                words: format!("decode of {at}: attention takes longer than products from {} tokens on", 424_317 / at),
            })
            .to_vec(),
        operators: vec![operators],
        hierarchy: HierarchyAnswer {
            l2_bytes: Some(52_428_800.0),
            layer_weights_bytes: 428e6,
            words: vec!["a layer's weights on a rank are 408 MiB".into()],
            points: Vec::new(),
        },
        what_if: what_if(),
        assumptions: vec!["no engine is named: vllm".into()],
        notes: vec!["the KV cache holds 106 sequences".into()],
    }
}

fn what_if() -> WhatIfAnswer {
    let links = |exposed: bool| {
        [("NVLink", 450e9), ("PCI Express 5.0", 63e9), ("the network between machines", 50e9)]
            .map(|(link, rate): (&str, f64)| LinkAnswer {
                link: link.into(),
                bytes_per_s: rate,
                ms: 1e13 / rate,
                exposed_ms: exposed.then_some(1e11 / rate),
            })
            .to_vec()
    };
    WhatIfAnswer {
        parallel: vec![SplitAnswer {
            tp: 2,
            pp: 2,
            batch: 256,
            context: 4096,
            fits: true,
            weights_bytes: 35.1e9,
            kv_tokens: 435_712,
            messages: 163.0,
            messages_per_layer: 2.0375,
            sent_bytes: 1.01e9,
            links: links(false),
            decode_ms: 50.3,
            tokens_per_s: 5090.0,
            prefill_ms: 222.0,
            bubble: 0.5,
        }],
        formats: vec![FormatAnswer {
            weights: "mxfp4_weight".into(),
            kv_bits: 8.0,
            batch: 256,
            context: 4096,
            weights_bytes: 9.3e9,
            kv_tokens: 1_435_712.0,
            decode_ms: 20.1,
            decode_speed_up: 2.5,
            prefill_ms: 230.0,
            prefill_speed_up: 0.97,
            native: false,
        }],
        speculative: vec![SpeculativeAnswer {
            batch: 256,
            context: 131_072,
            drafted: 4,
            acceptance: 0.7,
            drafter: "llama-3.2-1b".into(),
            tokens_per_step: 2.77,
            plain_ms: 273.0,
            draft_ms: 11.0,
            verify_ms: 300.0,
            tpot_ms: 112.0,
            speed_up: 2.43,
            break_even: Some(0.13),
            best_drafted: 6,
            best_speed_up: 2.6,
        }],
        disaggregated: vec![DisaggregatedAnswer {
            context: 131_072,
            output: 200,
            batch: 64,
            transfer_bytes: 10.7e9,
            links: links(true),
            prefill_ms: 12_400.0,
            decode_ms: 22.1,
            workers: 14.2,
            requests_per_s: 0.55,
        }],
    }
}

/// Every line fits a terminal.
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn a_table() {
    let text = roofline_table(&answer(), Style::PLAIN);
    fits(&text);
    insta::assert_snapshot!(text);
}

#[test]
fn explained() {
    let text = roofline_explained(&answer(), Style::PLAIN);
    fits(&text);
    insta::assert_snapshot!(text);
}

#[test]
fn markdown_and_csv() {
    let all = RooflineAnswer { operators: [answer().operators, answer().operators].concat(), ..answer() };
    insta::assert_snapshot!(format!(
        "{}\n---\n{}\n---\n{}",
        roofline_markdown(&answer()),
        roofline_csv(&answer()),
        roofline_csv(&all)
    ));
    assert!(!roofline_csv(&answer()).contains("NaN"));
}

#[test]
fn nothing_is_known() {
    let nothing = RooflineAnswer {
        card: CardAnswer {
            peaks: Vec::new(),
            l2_bytes: None,
            sm_count: None,
            link_bytes_per_s: None,
            network_bytes_per_s: None,
            ..card()
        },
        step_tokens: None,
        findings: Vec::new(),
        points: Vec::new(),
        crossovers: Vec::new(),
        operators: Vec::new(),
        ..answer()
    };
    fits(&roofline_table(&nothing, Style::PLAIN));
    assert!(roofline_csv(&nothing).starts_with("phase,"));
}
