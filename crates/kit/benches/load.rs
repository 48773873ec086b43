//! How fast are requests read and drawn? Synthetic workloads, and the traces that are named or at hand.
//!
//! Run by `cargo bench -p plimsoll-kit`, with paths of traces behind `--` or the shared ones; checks nothing, since
//! machines differ.

#![expect(clippy::print_stdout, reason = "a benchmark tells its figures")]

#[path = "../../../tests/shared.rs"]
mod shared;

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use plimsoll_kit::{Opened, open_trace};
use plimsoll_sim::load::trace::{Options, open, servegen};
use plimsoll_sim::load::{Source, Tables, Workload};
use shared::shared;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for text in [
        "poisson 10/s, prompt 512, output 512, requests 1000000",
        "poisson 4/s, prompt lognormal 900 p99 4000, output 200, requests 1000000",
        "gamma 4/s cv 2, prompt lognormal 900 p99 4000, output lognormal 200 p99 900, prefix 4x500/8x200 zipf 1, requests 1000000",
    ] {
        let start = Instant::now();
        let count = drain(&mut Workload::parse(text)?.source(1, &Tables::new())?)?;
        tell(text, count, start);
    }
    let named: Vec<PathBuf> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).map(PathBuf::from).collect();
    for path in if named.is_empty() { traces() } else { named } {
        let start = Instant::now();
        let count = match open_trace(&path).map_err(|error| error.to_string())? {
            Opened::Stream(stream) => drain(&mut open("trace", stream, &Options::default())?)?,
            Opened::Pool(pool) => {
                drain(&mut pool.source(servegen::Options { until: 86_400, ..Default::default() }, 1)?)?
            }
        };
        tell(&path.display().to_string(), count, start);
    }
    Ok(())
}

fn drain(source: &mut impl Source) -> Result<u64, plimsoll_sim::Error> {
    let mut count = 0;
    while source.peek()?.is_some() {
        black_box(source.take()?);
        count += 1;
    }
    Ok(count)
}

fn tell(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{count} requests in {:.1} ms, {:.2} million a second: {what}",
        seconds * 1e3,
        count as f64 / seconds / 1e6
    );
}

fn traces() -> Vec<PathBuf> {
    let Some(folder) = shared("data/traces") else { return Vec::new() };
    let names = ["azure_llm_2023_code.csv.gz", "mooncake_fast25_conversation.jsonl.gz", "servegen_m-small.tar.gz"];
    names.into_iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}
