//! How long does it take to measure? Steps with an occupancy that changes, gaps that are few, many and all different, and
//! requests that end.
//!
//! Run by `cargo bench -p plimsoll-sim --bench metrics`; measures and checks nothing, since machines differ.

#![expect(clippy::print_stdout, reason = "a benchmark tells its figures")]

use std::hint::black_box;
use std::time::Instant;

use plimsoll_kv::Content;
use plimsoll_sim::cost::Shape;
use plimsoll_sim::metrics::{Measured, Metrics, Objectives};
use plimsoll_sim::schedule::{Batch, Occupancy};
use plimsoll_sim::{Arrival, Requests, Step, Watch};
use plimsoll_units::Nanos;

/// Calls of one measurement.
const CALLS: u64 = 20_000_000;

/// Calls that are timed together.
const BATCH: u64 = 50_000;

/// Prints the time of one call: the median and the least over batches, since other work on the machine only adds.
fn time(name: &str, calls: u64, mut call: impl FnMut(u64)) {
    let batch = |batch: u64| {
        let start = Instant::now();
        (batch * BATCH..(batch + 1) * BATCH).for_each(&mut call);
        start.elapsed().as_secs_f64() * 1e9 / BATCH as f64
    };
    let mut times: Vec<f64> = (0..calls / BATCH).map(batch).collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<32}{:>8.1} ns, at best {:.1}", times[times.len() / 2], times[0]);
}

fn metrics() -> Metrics {
    Metrics::new(Objectives { ttft: Some(Nanos::new(5_000_000)), ..Objectives::default() }, Measured::All)
}

fn main() {
    let mut requests = Requests::default();
    let mut prompt = Content::new();
    prompt.push(0, 0, 512);
    let slot = requests.insert(Arrival {
        at: Nanos::ZERO,
        prompt,
        output_tokens: 512,
        max_tokens: 512,
        output_stream: 1,
        priority: 0,
        sample_of: None,
        mark: 0,
    });
    let (batch, shape) = (Batch::default(), Shape { decodes: 64, sampled: 64, ..Shape::default() });
    let mut measured = metrics();
    measured.arrived(&requests, slot, None);
    let mut now = Nanos::ZERO;
    time("a step", CALLS, |index| {
        let start = now;
        now += Nanos::new(12_000_000 + index % 977);
        let used = index * 64 % 420_000;
        measured.step(black_box(&Step {
            index,
            start,
            end: now,
            batch: &batch,
            shape: &shape,
            stretched: true,
            finished: &[],
            requests: &requests,
            occupancy: Occupancy {
                capacity: 420_992,
                used,
                cached: used / 2,
                wasted: used / 9,
                reserved: 0,
                stranded: 0,
            },
            waiting: 3,
            running: 64,
            recomputed: 0,
        }));
    });
    for (name, different) in
        [("a gap, of 1 000 different", 1_000), ("a gap, of 60 000", 60_000), ("a gap, all different", CALLS)]
    {
        let mut measured = metrics();
        time(name, CALLS, |at| measured.gap(black_box(Nanos::new(11_000_000 + at * 7 % different * 3)), 64));
        black_box(measured.summary());
    }
    let mut measured = metrics();
    time("a request that ends", CALLS / 10, |at| {
        requests[slot].arrived = Nanos::new(at * 100_000_000);
        requests[slot].scheduled = Some(Nanos::new(at * 100_003_001));
        requests[slot].first_token = Some(Nanos::new(at * 100_031_007));
        requests[slot].generated = 512;
        measured.finished(&requests, slot, Nanos::new(at * 101_000_097));
    });
    let start = Instant::now();
    black_box(measured.summary());
    println!("{:<32}{:>8.2} ms", "the summary", start.elapsed().as_secs_f64() * 1e3);
}
