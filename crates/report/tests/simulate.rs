//! What a simulation looks like: a made-up one, in all forms.

use plimsoll_api::answer::{EngineHead, GpuHead, ModelHead, ParallelHead};
use plimsoll_api::simulate::answer::*;
use plimsoll_report::{
    Style, simulate_compare_csv, simulate_compare_markdown, simulate_compare_table, simulate_csv, simulate_markdown,
    simulate_table,
};

fn times(middle: f64, spread: f64) -> Option<TimesAnswer> {
    Some(TimesAnswer {
        mean: middle * (1.0 + spread / 9.0),
        p50: middle,
        p90: middle * (1.0 + spread),
        p95: middle * (1.0 + 1.4 * spread),
        p99: middle * (1.0 + 2.1 * spread),
        min: middle / 3.0,
        max: middle * (1.0 + 4.0 * spread),
        count: 8_799,
        exact: middle > 20.0,
    })
}

/// A wave with a quiet beginning.
fn wave(bins: usize, most: f64) -> Vec<f64> {
    let at = |bin: usize| {
        let x = bin as f64 / bins as f64;
        if x < 0.06 { 0.0 } else { most * x * (1.0 - x) * 4.0 * (0.6 + 0.4 * (x * 40.0).sin()) }
    };
    (0..bins).map(at).collect()
}

fn level(mean: f64, peak: f64) -> LevelAnswer {
    LevelAnswer { mean, peak }
}

fn answer() -> SimulateAnswer {
    SimulateAnswer {
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
            name: "H100 SXM 80 GB".into(),
            count: 4,
            total_bytes: 85_000_000_000,
            total_low: 85_000_000_000,
            total_high: 85_000_000_000,
            source: "catalogue".into(),
        },
        parallel: ParallelHead { tp: 4, pp: 1, dp: 1, ep: 1 },
        batching: "continuous".into(),
        workload: "azure_code.csv.gz".into(),
        seed: 0,
        cost: "roofline: 989 TFLOP/s and 3.35 TB/s a card, without launch overheads and collectives".into(),
        partial: false,
        measured: MeasuredAnswer { part: "all".into(), from_s: 0.0, until_s: 3_437.5, duration_s: 3_437.5 },
        requests: RequestsAnswer {
            arrived: 8_819,
            refused: 20,
            finished: 8_799,
            unfinished: 0,
            preempted: 31,
            refusals: vec![RefusalAnswer { count: 20, example: "its prompt is too long".into() }],
        },
        ttft_ms: times(212.0, 3.0),
        tpot_ms: times(23.1, 0.4),
        itl_ms: times(18.4, 0.9),
        e2e_ms: times(12_300.0, 2.0),
        queue_ms: times(41.0, 9.0),
        prefill_ms: times(150.0, 1.0),
        decode_ms: times(12_000.0, 2.0),
        interval: None,
        throughput: Some(ThroughputAnswer {
            requests_per_s: 2.5597,
            output_tokens_per_s: 71.44,
            total_tokens_per_s: 5_314.2,
        }),
        goodput: Some(GoodputAnswer {
            objectives: ObjectivesAnswer { ttft_ms: Some(500.0), tpot_ms: Some(50.0), e2e_ms: None },
            requests_per_s: Some(1.98),
            share: Some(0.7734),
            met: MetAnswer { ttft: Some(0.81), tpot: Some(0.952), e2e: None },
        }),
        kv: KvUseAnswer {
            kind: "paged".into(),
            block_tokens: Some(16),
            blocks: Some(26_312),
            capacity_tokens: 420_992,
            used: level(0.374, 0.998),
            cached: level(0.41, 0.62),
            wasted: level(0.012, 0.02),
            reserved: level(0.0, 0.0),
            stranded: level(0.0, 0.0),
            waste_share: Some(0.0321),
        },
        prefix: PrefixAnswer {
            caching: true,
            hit_rate: Some(0.412),
            hit_tokens: 7_400_000,
            looked_up_tokens: 18_000_000,
            resumed_hit_tokens: 0,
        },
        preemptions: 42,
        recomputed_tokens: 120_034,
        idle_share: Some(0.032),
        steps: 91_234,
        batch: BatchAnswer {
            mean: Some(23.1),
            max: 256,
            tokens_mean: Some(210.4),
            padding_share: Some(0.0),
            running_mean: 21.0,
            waiting_mean: 3.2,
            waiting_max: 181,
        },
        timeline: TimelineAnswer {
            from_s: 0.0,
            bin_s: 8.192,
            running: wave(420, 256.0),
            waiting: wave(420, 88.0).into_iter().map(|level| (level - 50.0).max(0.0)).collect(),
            kv_used: wave(420, 0.97),
            kv_cached: wave(420, 0.5),
            kv_empty: wave(420, 0.01),
            output_tokens_per_s: wave(420, 1_230.0),
        },
        percentiles: PercentilesAnswer::default(),
        lives: Vec::new(),
        holders: None,
        assumptions: vec!["requests arrive as recorded; the trace has no prompts, so no two share a prefix".into()],
        notes: vec!["20 requests were turned away: its prompt is too long".into()],
    }
}

/// The same with other figures.
fn variant(batching: &str, kv: &str, prefixes: bool, pace: f64) -> SimulateAnswer {
    let mut answer = answer();
    answer.batching = batching.into();
    answer.kv.kind = kv.into();
    answer.kv.waste_share = Some(if kv == "paged" { 0.032 } else { 0.713 });
    answer.prefix.caching = prefixes;
    answer.prefix.hit_rate = if prefixes { Some(0.412) } else { None };
    answer.ttft_ms = times(212.0 / pace, 3.0);
    answer.throughput = answer.throughput.map(|rates| ThroughputAnswer {
        requests_per_s: rates.requests_per_s * pace,
        output_tokens_per_s: rates.output_tokens_per_s * pace,
        ..rates
    });
    answer.preemptions = if kv == "paged" { 42 } else { 0 };
    answer
}

fn compared() -> SimulateCompareAnswer {
    SimulateCompareAnswer::new(&[
        variant("static", "contiguous", false, 0.21),
        variant("static", "paged", false, 0.4),
        variant("continuous", "contiguous", false, 0.55),
        variant("continuous", "paged", false, 0.9),
        variant("continuous", "paged", true, 1.0),
    ])
    .expect("there are some")
}

/// Every line fits a terminal.
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn a_table() {
    let text = simulate_table(&answer(), Style::PLAIN);
    fits(&text);
    insta::assert_snapshot!(text);
}

#[test]
fn nothing_happened() {
    let mut none = answer();
    none.partial = true;
    none.measured = MeasuredAnswer { part: "requests 100..200".into(), from_s: 0.0, until_s: 0.0, duration_s: 0.0 };
    none.requests = RequestsAnswer { arrived: 3, unfinished: 3, ..RequestsAnswer::default() };
    (none.ttft_ms, none.tpot_ms, none.itl_ms, none.e2e_ms) = (None, None, None, None);
    (none.queue_ms, none.prefill_ms, none.decode_ms) = (None, None, None);
    (none.throughput, none.idle_share, none.prefix.hit_rate, none.kv.waste_share) = (None, None, None, None);
    none.goodput = none.goodput.map(|good| GoodputAnswer { requests_per_s: None, share: None, ..good });
    none.batch = BatchAnswer { mean: None, tokens_mean: None, padding_share: None, ..none.batch };
    none.kv.used = level(0.0, 0.0);
    none.timeline = TimelineAnswer::default();
    let text = simulate_table(&none, Style::PLAIN);
    fits(&text);
    insta::assert_snapshot!(text);
    assert!(!simulate_csv(&none).contains("NaN"));
}

#[test]
fn markdown_and_csv() {
    insta::assert_snapshot!(format!("{}\n---\n{}", simulate_markdown(&answer()), simulate_csv(&answer())));
}

#[test]
fn side_by_side() {
    let text = simulate_compare_table(&compared(), Style::PLAIN);
    fits(&text);
    insta::assert_snapshot!(format!(
        "{text}\n---\n{}\n---\n{}",
        simulate_compare_markdown(&compared()),
        simulate_compare_csv(&compared())
    ));
}
