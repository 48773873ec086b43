//! A plan as a reader sees it.

use plimsoll_api::PlanAnswer;
use plimsoll_api::answer::{
    EngineHead, EntryAnswer, GpuHead, KvAnswer, KvGroupAnswer, LoggedAnswer, MarginAnswer, ModelHead, ParallelHead,
    RankAnswer, RemedyAnswer, VerdictAnswer,
};
use plimsoll_report::{Style, plan_csv, plan_markdown, plan_table};

const MIB: u64 = 1 << 20;

fn entry(item: &'static str, mib: u64, below: u64, above: u64) -> EntryAnswer {
    let (low, high) = ((mib - below) * MIB, (mib + above) * MIB);
    EntryAnswer { item: item.into(), bytes: mib * MIB, low, high, source: "engine: a rule".into(), note: None }
}

fn example() -> PlanAnswer {
    let entries = vec![
        entry("weights.embedding", 501, 0, 0),
        entry("weights.attention", 5122, 0, 0),
        entry("weights.mlp", 28_224, 0, 0),
        entry("weights.norm", 3, 0, 0),
        entry("activation", 1024, 300, 500),
        entry("runtime.non_torch", 900, 120, 120),
        entry("graphs", 0, 0, 0),
        entry("kv", 37_200, 900, 900),
    ];
    let total = entries.iter().map(|entry| entry.bytes).sum();
    PlanAnswer {
        model: ModelHead {
            id: "meta-llama/Llama-3.1-70B-Instruct".into(),
            model_type: "llama".into(),
            parameters: 70_553_706_496,
            active_parameters: 70_553_706_496,
            dtype: "bfloat16".into(),
            quantization: None,
            source: "built in".into(),
        },
        engine: EngineHead { name: "vllm".into(), version: "0.33.0".into() },
        gpu: GpuHead {
            name: "h100-sxm".into(),
            count: 4,
            total_bytes: 81_090 * MIB,
            total_low: 81_000 * MIB,
            total_high: 81_200 * MIB,
            source: "measured: nvidia-smi".into(),
        },
        parallel: ParallelHead { tp: 4, pp: 1, dp: 1, ep: 1 },
        ranks: vec![
            RankAnswer {
                device: None,
                card: None,
                card_bytes: 81_090 * MIB,
                pp_rank: 0,
                tp_rank: 0,
                limit_bytes: 74_603 * MIB,
                total_bytes: total,
                kv_budget_bytes: 37_200 * MIB,
                entries
            };
            2
        ],
        scarcest: 1,
        kv: KvAnswer {
            bytes_per_token: 81_920,
            block_tokens: 16,
            blocks: 29_760,
            tokens: 476_160,
            budget_bytes: 37_200 * MIB,
            budget_low: 36_300 * MIB,
            budget_high: 38_100 * MIB,
            max_concurrency: 14.531,
            concurrency_at_tokens: 32_768,
            groups: vec![KvGroupAnswer {
                kind: "full".into(),
                layers: 80,
                block_tokens: 16,
                page_bytes: 16_384,
                blocks_per_request: 2048,
            }],
            logged: LoggedAnswer { lines: vec!["GPU KV cache size: 476,160 tokens".into()], ..LoggedAnswer::default() },
        },
        max_model_len: 32_768,
        max_context_tokens: 131_072,
        verdict: VerdictAnswer {
            fits: true,
            state: "fits".into(),
            margin: MarginAnswer { low: 33_740 * MIB as i64, bytes: 34_640 * MIB as i64, high: 35_540 * MIB as i64 },
            spare_bytes: Some(34_640 * MIB),
            short_by_bytes: None,
            binding: None,
            refusal: None,
            remedies: Vec::new(),
        },
        host: None,
        assumptions: vec!["vllm 0.33.0, the newest release whose rules are built in".into()],
        notes: vec!["flags that cannot change memory: --host, --port".into()],
        launch: "vllm serve meta-llama/Llama-3.1-70B-Instruct --max-model-len 32768 --tensor-parallel-size 4".into(),
    }
}

fn refused() -> PlanAnswer {
    let mut answer = example();
    let remedy = |change: &str, flag: &str, fits| RemedyAnswer {
        change: change.into(),
        flags: vec![flag.into()],
        fits,
        kv_tokens: 41_408,
        max_context_tokens: 20_000,
        cost: "shorter requests".into(),
    };
    answer.verdict = VerdictAnswer {
        fits: false,
        state: "does_not_fit".into(),
        margin: MarginAnswer { low: -3_900 * MIB as i64, bytes: -3_000 * MIB as i64, high: -2_100 * MIB as i64 },
        spare_bytes: None,
        short_by_bytes: Some(3_000 * MIB),
        binding: Some("kv".into()),
        refusal: Some(
            "To serve at least one request with the models's max seq len (131072), 16.0 GiB KV cache is needed.".into(),
        ),
        remedies: vec![
            remedy("serve shorter sequences", "--max-model-len 20000", true),
            remedy("store the KV cache in 8 bits", "--kv-cache-dtype fp8", true),
            remedy("capture no graphs", "--enforce-eager", false),
            remedy("a fourth that is not shown", "--x", false),
        ],
    };
    answer
}

#[test]
fn a_plan_that_fits() {
    insta::assert_snapshot!(plan_table(&example(), Style::PLAIN), @r"
    meta-llama/Llama-3.1-70B-Instruct: 70.6 B parameters, bfloat16
    vllm 0.33.0 on 4 × h100-sxm of 79.2 GiB, tp 4

    Memory of the scarcest rank (pp 0, tp 0)     size        90% interval    card
      weights.embedding       501 MiB                        0.6%  ▏
      weights.attention      5.00 GiB                        6.3%  █
      weights.mlp            27.6 GiB                       34.8%  █████▋
      weights.norm           3.00 MiB                       <0.1%  ▏
      activation             1.00 GiB      (0.707 … 1.49)    1.3%  ▎
      runtime.non_torch       900 MiB       (780 … 1 020)    1.1%  ▏
      kv                     36.3 GiB       (35.4 … 37.2)   45.9%  ███████▍
      ───────────────────────────────────────────────────────────
      sum                    71.3 GiB                       90.0%
      engine's limit         72.9 GiB                       92.0%
      card                   79.2 GiB                      100.0%

    KV cache
      capacity             476 160  tokens: 29 760 blocks of 16
      a token             80.0 KiB  on each rank, all layers
      budget              36.3 GiB  (35.4 … 37.2) in nine of ten launches
      concurrency             14.5  requests of 32 768 tokens at once
      longest context      131 072  tokens for one request alone
      one request            2 048  blocks for 32 768 tokens, 6.9% of them
      log: GPU KV cache size: 476,160 tokens

    FITS: 33.8 GiB to spare

    Launch
      vllm serve meta-llama/Llama-3.1-70B-Instruct --max-model-len 32768 \
        --tensor-parallel-size 4

    Assumptions
      - vllm 0.33.0, the newest release whose rules are built in

    Notes
      - flags that cannot change memory: --host, --port
    ");
}

#[test]
fn a_plan_that_does_not_fit() {
    let table = plan_table(&refused(), Style::PLAIN);
    let verdict = &table[table.find("DOES NOT").unwrap()..table.find("Launch").unwrap()];
    insta::assert_snapshot!(verdict, @r"
    DOES NOT FIT: short by 2.93 GiB, bound by kv
      the engine will say: To serve at least one request with the models's max seq
                           len (131072), 16.0 GiB KV cache is needed.
      1. serve shorter sequences (--max-model-len 20000): fits, 41 408 tokens of KV
         cache, longest context 20 000; costs shorter requests
      2. store the KV cache in 8 bits (--kv-cache-dtype fp8): fits, 41 408 tokens of
         KV cache, longest context 20 000; costs shorter requests
      3. capture no graphs (--enforce-eager): still does not fit; costs shorter
         requests
    ");
}

#[test]
fn markdown_and_csv_have_every_line() {
    insta::assert_snapshot!(plan_markdown(&refused()), @r"
    ### meta-llama/Llama-3.1-70B-Instruct: 70.6 B parameters, bfloat16

    vllm 0.33.0 on 4 × h100-sxm of 79.2 GiB, tp 4

    **DOES NOT FIT: short by 2.93 GiB, bound by kv**

    > To serve at least one request with the models's max seq len (131072), 16.0 GiB KV cache is needed.

    1. serve shorter sequences (--max-model-len 20000): fits, 41 408 tokens of KV cache, longest context 20 000; costs shorter requests
    1. store the KV cache in 8 bits (--kv-cache-dtype fp8): fits, 41 408 tokens of KV cache, longest context 20 000; costs shorter requests
    1. capture no graphs (--enforce-eager): still does not fit; costs shorter requests
    1. a fourth that is not shown (--x): still does not fit; costs shorter requests

    | item | size | 90% interval | card | source |
    | --- | ---: | ---: | ---: | --- |
    | weights.embedding | 501 MiB |  | 0.6% | engine: a rule |
    | weights.attention | 5.00 GiB |  | 6.3% | engine: a rule |
    | weights.mlp | 27.6 GiB |  | 34.8% | engine: a rule |
    | weights.norm | 3.00 MiB |  | <0.1% | engine: a rule |
    | activation | 1.00 GiB | (0.707 … 1.49) | 1.3% | engine: a rule |
    | runtime.non_torch | 900 MiB | (780 … 1 020) | 1.1% | engine: a rule |
    | graphs | 0 B |  | 0.0% | engine: a rule |
    | kv | 36.3 GiB | (35.4 … 37.2) | 45.9% | engine: a rule |
    | **sum** | 71.3 GiB |  | 90.0% |  |
    | **engine's limit** | 72.9 GiB |  | 92.0% |  |
    | **card** | 79.2 GiB |  | 100.0% |  |

    | KV cache |  |  |
    | --- | ---: | --- |
    | capacity | 476 160 | tokens: 29 760 blocks of 16 |
    | a token | 80.0 KiB | on each rank, all layers |
    | budget | 36.3 GiB | (35.4 … 37.2) in nine of ten launches |
    | concurrency | 14.5 | requests of 32 768 tokens at once |
    | longest context | 131 072 | tokens for one request alone |
    | one request | 2 048 | blocks for 32 768 tokens, 6.9% of them |

    ```sh
    vllm serve meta-llama/Llama-3.1-70B-Instruct --max-model-len 32768 --tensor-parallel-size 4
    ```

    Assumptions:

    - vllm 0.33.0, the newest release whose rules are built in

    Notes:

    - flags that cannot change memory: --host, --port
    ");
    assert_eq!(plan_csv(&example()).lines().count(), 1 + 2 * 9);
}

#[test]
fn colour_changes_nothing_but_colour() {
    let coloured = plan_table(&refused(), Style { color: true, width: 80 });
    let mut bare = String::new();
    let mut escape = false;
    for c in coloured.chars() {
        match (escape, c) {
            (false, '\u{1b}') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, c) => bare.push(c),
        }
    }
    assert_eq!(bare, plan_table(&refused(), Style::PLAIN));
    for line in bare.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
