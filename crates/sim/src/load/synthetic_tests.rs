use proptest::prelude::*;

use super::*;

fn source(text: &str, seed: u64) -> Synthetic {
    let rows = Rows::from(vec![(10, 1), (20, 2), (30, 3)]);
    let tables = Tables::from([("three".to_owned(), rows)]);
    Workload::parse(text).unwrap_or_else(|error| panic!("{error}")).source(seed, &tables).unwrap()
}

/// Takes all requests of a workload that waits for nobody.
fn all(text: &str) -> Vec<Arrival> {
    let mut source = source(text, 0);
    let mut all = Vec::new();
    loop {
        let at = source.peek().unwrap();
        let Some(arrival) = source.take().unwrap() else { break };
        assert_eq!(Some(arrival.at), at);
        all.push(arrival);
    }
    assert!(all.is_sorted_by_key(|arrival| arrival.at));
    all
}

#[test]
fn the_first_requests_never_change() {
    // Golden: times, lengths and prefixes of a seed must be the same on every machine and in every later version.
    let text =
        "gamma 4/s cv 2, prompt lognormal 900 p99 4000, output exponential 200, prefix 4x500/8x200 zipf 1, requests 4";
    let found: Vec<(u64, u32, u32, u64)> = all(text)
        .iter()
        .map(|arrival| (arrival.at.get(), arrival.prompt.len(), arrival.output_tokens, arrival.prompt.runs()[1].stream))
        .collect();
    assert_eq!(
        found,
        [
            (3_423_973, 1234, 306, 3_458_765_613_332_168_724),
            (14_680_366, 1671, 478, 3_458_765_613_332_168_704),
            (118_591_107, 1896, 24, 3_458_765_613_332_168_733),
            (316_803_126, 1262, 62, 3_458_765_613_332_168_704),
        ]
    );
}

#[test]
fn arrivals_come_at_their_rate() {
    let gaps = |arrivals: &str| {
        let all = all(&format!("{arrivals}, prompt 1, output 1, requests 20000"));
        let mut last = 0;
        let gaps: Vec<f64> = all
            .iter()
            .map(|arrival| {
                let gap = arrival.at.get() - last;
                last = arrival.at.get();
                gap as f64 / 1e9
            })
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / gaps.len() as f64;
        (mean, libm::sqrt(variance) / mean)
    };
    for (arrivals, mean, cv) in [
        ("poisson 4/s", 0.25, 1.0),
        ("gamma 4/s cv 2", 0.25, 2.0),
        ("gamma 4/s cv 0.5", 0.25, 0.5),
        ("uniform 4/s", 0.25, 0.0),
        ("ramp 4/s to 4/s over 1h", 0.25, 1.0),
    ] {
        let found = gaps(arrivals);
        assert!(
            (found.0 - mean).abs() < 0.05 * mean && (found.1 - cv).abs() < 0.05 * cv.max(0.2),
            "{arrivals}: {found:?}"
        );
    }
    let even = all("uniform 3/s, prompt 1, output 1, requests 4");
    assert_eq!(even.map_at(), [0, 333_333_333, 666_666_667, 1_000_000_000]);
}

trait Times {
    fn map_at(&self) -> Vec<u64>;
}

impl Times for Vec<Arrival> {
    fn map_at(&self) -> Vec<u64> {
        self.iter().map(|arrival| arrival.at.get()).collect()
    }
}

#[test]
fn a_ramp_grows_evenly() {
    // Of 0/s to 20/s in 100 s a thousand are expected, a quarter of them in the first half; 20/s after that.
    let all = all("ramp 0/s to 20/s over 100s, prompt 1, output 1, for 200s");
    let before = |seconds: u64| all.iter().filter(|arrival| arrival.at.get() < seconds * 1_000_000_000).count() as f64;
    for (seconds, expected) in [(50, 250.0), (100, 1000.0), (200, 3000.0)] {
        let found = before(seconds);
        assert!((found - expected).abs() < 5.0 * libm::sqrt(expected), "{found} before {seconds} s, not {expected}");
    }
    // A ramp down to nothing ends.
    let mut down = source("ramp 10/s to 0/s over 10s, prompt 1, output 1, requests 100000", 0);
    let count = std::iter::from_fn(|| down.take().unwrap()).count();
    assert!((20..90).contains(&count), "{count}");
    assert_eq!(ramp(1.0, 3.0, 2.0, 4.0), Some(2.0));
    assert_eq!(ramp(2.0, 2.0, 2.0, 1.0), Some(0.5));
    assert_eq!(ramp(1.0, 0.0, 2.0, 1.5), None);
}

#[test]
fn ends_are_kept() {
    assert_eq!(all("batch, prompt 1, output 1").len() as u64, REQUESTS);
    assert_eq!(all("poisson 4/s, replay three").len(), 3, "a replay ends with its rows");
    let replay = all("batch, replay three, requests 5");
    assert_eq!(replay.iter().map(|arrival| arrival.prompt.len()).collect::<Vec<_>>(), [10, 20, 30, 10, 20]);
    assert!(all("uniform 10/s, prompt 1, output 1, for 1s").len() == 10, "the end itself is outside");
    let rows = all("batch, lengths three, requests 500");
    assert!(rows.iter().all(|arrival| arrival.prompt.len() == 10 * arrival.output_tokens), "rows stay together");
    let asked = |text: &str| all(&format!("batch, prompt 1, output uniform 1..100, requests 50, {text}"));
    assert!(asked("max_tokens = output").iter().all(|arrival| arrival.max_tokens == arrival.output_tokens));
    assert!(asked("max_tokens 50").iter().all(|arrival| arrival.max_tokens == 50 && arrival.output_tokens <= 50));
    let mixed = asked("priority 0:9 5:1");
    assert!(mixed.iter().all(|arrival| [0, 5].contains(&arrival.priority)));
    assert!(mixed.iter().any(|arrival| arrival.priority == 5));
}

#[test]
fn prompts_share_what_they_were_told_to() {
    let all = all("batch, prompt 7, output 1, prefix 3x500/2x20, requests 600");
    let mut nodes: Vec<(u64, u64)> = all
        .iter()
        .map(|arrival| {
            let runs = arrival.prompt.runs();
            assert_eq!(runs.iter().map(|run| run.len).collect::<Vec<_>>(), [500, 20, 7]);
            (runs[0].stream, runs[1].stream)
        })
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 6, "three roots of two children each");
    let mut own: Vec<u64> = all.iter().map(|arrival| arrival.prompt.runs()[2].stream).collect();
    own.sort_unstable();
    own.dedup();
    assert_eq!(own.len(), 600, "and a text of its own for each");
}

#[test]
fn samples_share_their_prompt() {
    let all = all("uniform 1/s, prompt 7, output 3, samples 4, requests 10");
    assert_eq!(
        all.iter().map(|arrival| arrival.sample_of).collect::<Vec<_>>(),
        [None, Some(0), Some(0), Some(0), None, Some(4), Some(4), Some(4), None, Some(8)]
    );
    assert!(all[..4].iter().all(|arrival| arrival.prompt == all[0].prompt && arrival.at == all[0].at));
    assert_ne!(all[0].output_stream, all[1].output_stream);
}

#[test]
fn a_conversation_repeats_what_was_said() {
    let mut source = source("uniform 1/s, prompt 100, output 50, prefix 1x30, turns 3 think 10s, requests 4", 0);
    let first = source.take().unwrap().unwrap();
    assert_eq!(source.peek().unwrap(), Some(Nanos::new(1_000_000_000)), "the next conversation");
    source.finished(first.mark, Nanos::new(500_000_000));
    let other = source.take().unwrap().unwrap();
    // Starts at 2 s and later are ahead of the answer at 10.5 s.
    assert_ne!(other.mark, first.mark);
    let mut source =
        self::source("clients 1 think 1s, prompt 100, output 50, prefix 1x30, turns 3 think 10s, requests 4", 0);
    let mut now = Nanos::ZERO;
    let mut before: Option<Arrival> = None;
    for (number, tokens) in [130, 280, 430, 130].into_iter().enumerate() {
        let arrival = source.take().unwrap().unwrap();
        assert_eq!(arrival.at, now);
        assert_eq!(arrival.prompt.len(), tokens);
        if let Some(before) = before.filter(|_| number < 3) {
            let mut shared = before.prompt.clone();
            shared.push(before.output_stream, 0, 50);
            let mut beginning = arrival.prompt.clone();
            beginning.truncate(shared.len());
            assert_eq!(beginning, shared);
        }
        now += Nanos::new(1_000_000_000);
        assert_eq!(source.peek().unwrap(), None);
        source.finished(arrival.mark, now);
        now += Nanos::new(if number == 2 { 1_000_000_000 } else { 10_000_000_000 });
        before = Some(arrival);
    }
    assert_eq!(source.take().unwrap(), None, "four were asked for");
}

#[test]
fn a_client_that_is_refused_does_not_send_endlessly_at_once() {
    let mut source = source("clients 2, prompt 100, output 50, turns 9, for 10ms", 0);
    let mut count = 0;
    while let Some(at) = source.peek().unwrap() {
        let arrival = source.take().unwrap().unwrap();
        source.finished(arrival.mark, at);
        count += 1;
    }
    assert_eq!(count, 20, "one a millisecond each");
}

#[test]
fn memory_does_not_grow_with_requests() {
    let mut source = source("clients 8, prompt 10, output 5, turns uniform 1..4, requests 100000", 0);
    let mut now = 0;
    let mut count = 0;
    while source.peek().unwrap().is_some() {
        let arrival = source.take().unwrap().unwrap();
        count += 1;
        now += 1000;
        source.peek().unwrap();
        source.finished(arrival.mark, arrival.at.max(Nanos::new(now)));
    }
    assert_eq!((count, source.sessions.len()), (100_000, 8));
    assert!(source.due.len() <= 8);
}

proptest! {
    #[test]
    fn time_never_goes_backwards(
        arrivals in prop_oneof![Just("poisson 50/s"), Just("clients 5"), Just("clients 3 think exponential 20ms"), Just("gamma 9/s cv 3")],
        turns in prop_oneof![Just(""), Just(", turns uniform 1..5 think 30ms"), Just(", turns 2")],
        samples in 1..4_u32,
        seed in any::<u64>(),
        service in proptest::collection::vec(0..50_000_000_u64, 1..20),
    ) {
        let text = format!("{arrivals}, prompt uniform 1..50, output 5{turns}, samples {samples}, requests 200");
        let mut source = source(&text, seed);
        let mut busy: std::collections::BTreeSet<(Nanos, u64, u64)> = std::collections::BTreeSet::new();
        let (mut now, mut count) = (Nanos::ZERO, 0_u64);
        loop {
            let next = source.peek().unwrap();
            match (next, busy.first().copied()) {
                (Some(at), ends) if ends.is_none_or(|(end, _, _)| at <= end) => {
                    let arrival = source.take().unwrap().unwrap();
                    prop_assert_eq!(arrival.at, at);
                    prop_assert!(at >= now);
                    now = at;
                    prop_assert!(arrival.sample_of.is_none_or(|first| first < count && count - first < 4));
                    busy.insert((at + Nanos::new(1 + service[count as usize % service.len()]), count, arrival.mark));
                    count += 1;
                }
                (_, Some(first)) => {
                    busy.remove(&first);
                    now = now.max(first.0);
                    source.finished(first.2, first.0);
                }
                (Some(_), None) => unreachable!(),
                (None, None) => break,
            }
        }
        prop_assert_eq!(count, 200);
    }
}

#[test]
fn clients_beyond_the_requests_are_not_made() {
    let source = |clients: u32| {
        let text = format!("clients {clients}, prompt uniform 1..99, output 5, turns uniform 1..9, requests 7");
        Workload::parse(&text).unwrap().source(3, &Tables::new()).unwrap()
    };
    let (mut few, mut many) = (source(7), source(1 << 24));
    assert_eq!(many.sessions.len(), 7);
    for _ in 0..8 {
        assert_eq!(few.take().unwrap(), many.take().unwrap());
    }
}
