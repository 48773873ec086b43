//! The answer to a run that is played by hand.

use plimsoll_sim::cost::Shape;
use plimsoll_sim::metrics::{Measured, Metrics};
use plimsoll_sim::schedule::{Batch, Entry, Occupancy};
use plimsoll_sim::{Arrival, Requests, Step, Watch};

use super::*;
use crate::answer::{EngineHead, GpuHead, ModelHead, ParallelHead};

fn head() -> SimulateHead {
    SimulateHead {
        model: ModelHead {
            id: "toy".into(),
            model_type: "llama".into(),
            parameters: 8,
            active_parameters: 8,
            dtype: "bf16".into(),
            quantization: None,
            source: "made up".into(),
        },
        engine: EngineHead { name: "vllm".into(), version: "0.33.0".into() },
        gpu: GpuHead {
            name: "H100".into(),
            count: 1,
            total_bytes: 1,
            total_low: 1,
            total_high: 1,
            source: "made up".into(),
        },
        parallel: ParallelHead { tp: 1, pp: 1, dp: 1, ep: 1 },
        batching: "continuous".into(),
        kv: "paged".into(),
        prefix_caching: true,
        block_tokens: Some(16),
        workload: "two requests".into(),
        seed: 0,
        cost: "by hand".into(),
    }
}

const fn ms(millis: u64) -> Nanos {
    Nanos::new(millis * 1_000_000)
}

/// One request of 30 prompt tokens, 16 of them cached, and 3 output tokens, arriving at 10 ms: steps end at 30, 40 and 70
/// ms. Another one is turned away.
fn play(metrics: &mut Metrics) -> Outcome {
    let mut requests = Requests::default();
    let arrival = |prompt: u32| {
        let mut content = plimsoll_kv::Content::new();
        content.push(1, 0, prompt);
        Arrival {
            at: ms(10),
            prompt: content,
            output_tokens: 3,
            max_tokens: 3,
            output_stream: 9,
            priority: 0,
            sample_of: None,
            mark: 0,
        }
    };
    metrics.idle(&plimsoll_sim::Idle {
        from: Nanos::ZERO,
        until: ms(10),
        occupancy: Occupancy::default(),
        waiting: 0,
        running: 0,
    });
    let slot = requests.insert(arrival(30));
    metrics.arrived(&requests, slot, None);
    let refused = requests.insert(arrival(9000));
    metrics.arrived(&requests, refused, Some("its prompt of 9000 tokens is too long"));
    let mut start = ms(10);
    for (index, end) in [ms(30), ms(40), ms(70)].into_iter().enumerate() {
        let mut batch = Batch::default();
        let mut shape = Shape { sampled: 1, ..Shape::default() };
        if index == 0 {
            batch.new.push((slot, 16));
            batch.entries.push(Entry { slot, tokens: 14, context: 16 });
            shape.chunks.push(plimsoll_sim::cost::Chunk { tokens: 14, context: 16 });
            requests[slot].scheduled = Some(start);
            requests[slot].first_token = Some(end);
        } else {
            shape.decodes = 1;
            metrics.gap(end - start, 1);
        }
        requests[slot].generated += 1;
        metrics.step(&Step {
            index: index as u64,
            start,
            end,
            batch: &batch,
            shape: &shape,
            stretched: false,
            finished: &[],
            requests: &requests,
            occupancy: Occupancy { capacity: 128, used: 32, cached: 16, wasted: 2, reserved: 6, stranded: 0 },
            waiting: 0,
            running: 1,
            recomputed: 0,
        });
        start = end;
    }
    metrics.finished(&requests, slot, start);
    Outcome { arrived: 2, refused: 1, finished: 1, cut: 0, steps: 3, end: start, idle: ms(10), partial: false }
}

#[test]
fn every_figure_by_hand() {
    let objectives = Objectives { ttft: Some(ms(20)), tpot: Some(ms(19)), e2e: None };
    let mut metrics = Metrics::new(objectives, Measured::All);
    let outcome = play(&mut metrics);
    let mut answer = SimulateAnswer::new(head(), "all", &metrics.summary(), &outcome);
    assert_eq!(answer.timeline.bin_s.to_bits(), 0.001f64.to_bits());
    assert_eq!(answer.timeline.running, vec![1.0; 60]);
    answer.timeline = TimelineAnswer::default();
    let mut json = serde_json::to_value(&answer).unwrap();
    for head in ["model", "engine", "gpu", "parallel", "timeline"] {
        json.as_object_mut().unwrap().remove(head);
    }
    insta::assert_json_snapshot!(json);
}

#[test]
fn nothing_that_ran_gives_no_figures_and_says_so() {
    let mut metrics = Metrics::new(Objectives { e2e: Some(ms(1)), ..Objectives::default() }, Measured::All);
    let outcome = Outcome { arrived: 7, partial: true, ..Outcome::default() };
    let answer = SimulateAnswer::new(head(), "all", &metrics.summary(), &outcome);
    assert_eq!(
        (answer.ttft_ms, answer.throughput, answer.idle_share, answer.prefix.hit_rate),
        (None, None, None, None)
    );
    assert_eq!(answer.goodput.unwrap().share, None);
    assert_eq!(
        answer.notes[0],
        "stopped early, when 0 of 7 requests that had arrived were finished: figures are those so far"
    );
    assert!(serde_json::to_string(&answer).unwrap().contains("\"requests_per_s\":null"));
}
