use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::shared::shared;

fn check(text: &str, name: &str) {
    let mut wrong = Vec::new();
    let mut rows = 0;
    for (line, row) in text.lines().enumerate() {
        let row: Value = serde_json::from_str(row).unwrap();
        rows += 1;
        let found = oracle::differences(&row).unwrap();
        if !found.is_empty() {
            wrong.push(format!("{name}:{} {} {found:?}", line + 1, row["arch"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {rows} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rows_of_the_engines_own_planner_come_out() {
    check(include_str!("../../../../tests/fixtures/vllm_kv.jsonl"), "fixture");
}

#[test]
fn every_shared_row_comes_out() {
    let Some(oracle) = shared("data/oracle/vllm_kv") else { return };
    for version in ["0.11.0", "0.33.0"] {
        let file = oracle.join(format!("{version}.jsonl"));
        check(&std::fs::read_to_string(&file).unwrap(), version);
    }
}

fn cases() -> impl Strategy<Value = KvCase> {
    let version = prop::sample::select(vec![
        Version::new(0, 9, 2),
        Version::new(0, 11, 0),
        Version::new(0, 15, 0),
        Version::new(0, 19, 0),
        Version::new(0, 26, 0),
        Version::new(0, 33, 0),
    ]);
    let kinds = prop::collection::vec(0..3_u8, 1..64);
    (version, kinds, 1..9_u64, 1..200_000_u64, 1..20_000_u64, 0..1_i64 << 36).prop_map(
        |(version, kinds, heads, max_model_len, in_flight, available)| {
            let spec = |kind: u8| {
                let kind = match kind {
                    0 => Kind::Full { was: Was::Full },
                    1 => Kind::Sliding { window: 1024 },
                    _ => Kind::Sliding { window: 4096 },
                };
                Spec::attention(kind, 16, heads, 128, 128, 2)
            };
            let stack = Stack::of(kinds.into_iter().map(spec));
            KvCase {
                version,
                v1: true,
                stages: std::iter::once(0..stack.layers.len() as u32).collect(),
                stack,
                available: vec![available],
                max_model_len,
                demand: Demand { in_flight, context_ranks: 1 },
                hybrid: true,
                blocks_override: None,
                longest: 1 << 24,
            }
        },
    )
}

proptest! {
    #[test]
    fn more_tokens_never_need_less(case in cases(), more in 1..100_000_u64) {
        let short = plan(&case).unwrap();
        let long = plan(&KvCase { max_model_len: case.max_model_len + more, ..case }).unwrap();
        prop_assert!(long.needed >= short.needed);
        for (long, short) in long.blocks_per_request.iter().zip(&short.blocks_per_request) {
            prop_assert!(long >= short);
        }
        prop_assert!(long.blocks == short.blocks);
    }

    #[test]
    fn a_larger_budget_never_fits_less(case in cases(), more in 1..1_i64 << 34) {
        let small = plan(&case).unwrap();
        let available = vec![case.available[0] + more];
        let large = plan(&KvCase { available, ..case }).unwrap();
        prop_assert!(large.blocks >= small.blocks);
        prop_assert!(large.longest >= small.longest);
        prop_assert!(small.refusal.is_some() || large.refusal.is_none());
    }

    #[test]
    fn the_longest_length_is_the_last_that_is_not_refused(case in cases()) {
        let longest = plan(&case).unwrap().longest;
        if longest > 0 {
            let at = KvCase { max_model_len: longest, ..case.clone() };
            prop_assert!(plan(&at).unwrap().refusal.is_none());
        }
        if longest < case.longest {
            let above = KvCase { max_model_len: longest + 1, ..case };
            prop_assert!(plan(&above).unwrap().refusal.is_some());
        }
    }
}

/// DeepSeek-V4-Flash with its own drafter: 46 windows, 21 layers of light compression with an indexer, 20 of heavy.
fn compressed(version: Version) -> KvPlan {
    let rows = |kind, block, rows, row| Spec::rows(kind, block, 512, rows, row, 576);
    let state = |window, block, row| rows(Kind::Sliding { window }, block, block, row);
    let mut stack = Stack::of(vec![rows(Kind::Sliding { window: 128 }, 64, 64, 584); 46]);
    for _ in 0..21 {
        stack.push(rows(Kind::Mla, 256, 64, 584));
        stack.push(state(8, 4, 8192));
        stack.push(rows(Kind::Indexer, 256, 64, 132));
        stack.push(state(8, 4, 2048));
    }
    for _ in 0..20 {
        stack.push(rows(Kind::Mla, 256, 2, 584));
        stack.push(state(128, 8, 4096));
    }
    let layers = stack.layers.len() as u32;
    plan(&KvCase {
        version,
        v1: true,
        stack,
        stages: std::iter::once(0..layers).collect(),
        available: vec![93_136_365_813],
        max_model_len: 65_536,
        demand: Demand { in_flight: 16_384, context_ranks: 1 },
        hybrid: true,
        blocks_override: None,
        longest: 65_536,
    })
    .unwrap()
}

#[test]
fn compressed_latents_share_a_block_as_logged() {
    // A log of vLLM 0.26 on a B300: 86.74 GiB hold 913,657 tokens of DeepSeek-V4-Flash, 13.94 requests of 65,536.
    let plan = compressed(Version::new(0, 26, 0));
    assert_eq!(plan.block_bytes, [23 * 37_440 + 21 * 8640 + 20 * 1728]);
    assert_eq!(plan.groups.len(), 5);
    assert_eq!(format!("{:.2}", plan.max_concurrency), "13.94");
    assert!((plan.tokens as i64 - 913_657).abs() < 200, "{}", plan.tokens);
}

#[test]
fn later_releases_let_the_widest_group_set_the_block() {
    let plan = compressed(Version::new(0, 33, 0));
    assert_eq!(plan.block_bytes, [21 * (37_440 + 8640) + 20 * 1728]);
    let groups: u64 = plan.blocks_per_request.iter().sum();
    assert!((plan.max_concurrency - plan.blocks as f64 / groups as f64).abs() < 1e-9);
}
