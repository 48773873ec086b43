//! Every public trace at hand is read whole, and says what its README and its columns say.

#[path = "../../../tests/shared.rs"]
mod shared;

use std::path::Path;

use plimsoll_kit::{Opened, open_trace};
use plimsoll_sim::load::trace::servegen::{self, Rate};
use plimsoll_sim::load::trace::{Format, Options, lengths, open};
use plimsoll_sim::load::{MaxTokens, Source};
use shared::shared;

fn stream(path: &Path) -> plimsoll_sim::load::trace::Input {
    match open_trace(path).expect("a trace") {
        Opened::Stream(stream) => stream,
        Opened::Pool(_) => panic!("{} is a pool", path.display()),
    }
}

#[test]
fn traces() {
    let Some(shared) = shared("data") else { return };
    for (path, format, requests, prompts, outputs, last_ms) in [
        ("traces/azure_llm_2023_code.csv.gz", Format::Azure, 8819, 18_059_974, 245_896, 3_435_948),
        ("traces/mooncake_fast25_conversation.jsonl.gz", Format::Mooncake, 12_031, 144_793_823, 4_122_048, 3_536_999),
        ("traces/vidur_splitwise_code.csv.gz", Format::Vidur, 8819, 18_059_974, 245_896, 3_435_948),
        ("serving/rtx4090_llama-3.1-8b/requests.csv", Format::Table, 300, 0, 0, 0),
        ("oracle/vllm_sched/0.33.0/prefix-0.json", Format::VllmSched, 0, 0, 0, 0),
    ] {
        let mut trace = open(path, stream(&shared.join(path)), &Options::default()).unwrap();
        let (mut count, mut prompt, mut output, mut last) = (0_u64, 0_u64, 0_u64, 0);
        while let Some(arrival) = trace.take().unwrap() {
            count += 1;
            prompt += u64::from(arrival.prompt.len());
            output += u64::from(arrival.output_tokens);
            last = arrival.at.get() / 1_000_000;
        }
        let report = trace.report();
        assert_eq!((report.format, report.skipped(), report.no_output), (format, 0, 0), "{path}");
        if prompts > 0 {
            assert_eq!((count, prompt, output, last), (requests, prompts, outputs, last_ms), "{path}");
        } else {
            assert!(count >= requests.max(1), "{path}: {count}");
        }
    }
}

#[test]
fn lengths_without_times() {
    let Some(shared) = shared("data") else { return };
    let path = shared.join("traces/vidur_arxiv_summarization_lengths.csv.gz");
    let (rows, report) = lengths("arxiv", stream(&path), &Options::default()).unwrap();
    assert_eq!((rows.len(), rows[0], report.format), (28_257, (3772, 54), Format::Lengths));
}

#[test]
fn a_pool_sends_at_its_rate() {
    let Some(shared) = shared("data") else { return };
    let path = shared.join("traces/servegen_m-small.tar.gz");
    let Opened::Pool(pool) = open_trace(&path).unwrap() else { panic!("not a pool") };
    assert_eq!(pool.clients(), 43);
    // An hour of the eighth day, as it was, and at one request a second.
    let hour = |rate| servegen::Options { from: 648_000, until: 651_600, rate, max_tokens: MaxTokens::Output };
    let mut own = pool.clone().source(hour(Rate::Times(1.0)), 1).unwrap();
    let mut count = 0_u32;
    while let Some(arrival) = own.take().unwrap() {
        assert!(arrival.at.get() < 3_600_000_000_000);
        count += 1;
    }
    assert!(count > 1000, "{count}");
    let mut one = pool.source(hour(Rate::Total(1.0)), 1).unwrap();
    let mut count = 0_u32;
    while one.take().unwrap().is_some() {
        count += 1;
    }
    // 38 of the 43 clients have lengths; each of them may lose the last request of each of six windows.
    assert_eq!((one.report().no_dataset, one.report().no_lengths), (5, 0));
    assert!((3600 - 38 * 6..=3600).contains(&count), "{count}");
}
