//! When is a request seen that arrives while a step runs? At the next step, one later where steps are formed ahead, or when
//! the engine looks again.

use std::num::NonZeroU32;

use plimsoll_kv::{Content, Group, Reach};
use plimsoll_sim::cost::Fixed;
use plimsoll_sim::load::List;
use plimsoll_sim::schedule::vllm::{Config, Vllm};
use plimsoll_sim::{Arrival, Intake, Requests, Settings, Slot, Watch, run};
use plimsoll_units::Nanos;

#[derive(Default)]
struct Firsts(Vec<u64>);

impl Watch for Firsts {
    fn finished(&mut self, requests: &Requests, slot: Slot, _now: Nanos) {
        let request = &requests[slot];
        self.0.resize(self.0.len().max(request.number as usize + 1), 0);
        self.0[request.number as usize] = request.first_token.map_or(0, Nanos::get);
    }
}

/// Steps of 100 ns: one request at 0 that decodes for long, one that arrives at 250 and at 900 one more.
#[track_caller]
fn check(intake: Intake, expected: [u64; 3]) {
    for jumps in [false, true] {
        let mut config = Config::new("0.19.0".parse().expect("a release"), 1000);
        config.groups = vec![Group { reach: Reach::Full, block_tokens: NonZeroU32::new(16).expect("not zero") }];
        let arrivals = [(0, 40), (250, 2), (900, 2)].into_iter().enumerate().map(|(number, (at, output_tokens))| {
            let mut prompt = Content::new();
            prompt.push(number as u64, 0, 10);
            Arrival {
                at: Nanos::new(at),
                prompt,
                output_tokens,
                max_tokens: output_tokens,
                output_stream: 100 + number as u64,
                priority: 0,
                sample_of: None,
                mark: 0,
            }
        });
        let mut firsts = Firsts::default();
        let settings = Settings { jumps, verify: true, intake };
        let mut source = List::new(arrivals.collect());
        let mut scheduler = Vllm::new(config).expect("settings that are taken");
        let run = run(&mut scheduler, &mut Fixed(Nanos::new(100)), &mut source, &mut firsts, settings);
        run.expect("a run that ends");
        assert_eq!(firsts.0, expected, "{intake:?}, jumps {jumps}");
    }
}

#[test]
fn a_request_is_seen_when_the_engine_looks() {
    // Formed when the last step is over: in the step from 300 on, and in that from 900 on.
    check(Intake::default(), [100, 400, 1000]);
    // Formed while the last one runs: the step from 300 on was formed at 200, that from 900 on at 800.
    check(Intake { ahead: true, interval: 1 }, [100, 500, 1100]);
    // The first is alone, so it is seen at once; its prompt is a step after which the engine looks, then every fourth.
    check(Intake { ahead: false, interval: 4 }, [100, 600, 1100]);
}
