use super::*;
use crate::load::{List, Tables, Workload};

fn source(text: &str) -> AnySource {
    AnySource::Synthetic(Box::new(Workload::parse(text).unwrap().source(1, &Tables::new()).unwrap()))
}

fn all(mut source: impl Source) -> Vec<Arrival> {
    let mut all = Vec::new();
    while let Some(arrival) = source.take().unwrap() {
        all.push(arrival);
    }
    all
}

fn shaped(text: &str, change: Transform) -> Vec<Arrival> {
    all(Shaped::new(source(text), change).unwrap())
}

const PLAIN: &str = "poisson 10/s, prompt uniform 1..100, output uniform 1..100, requests 100";

#[test]
fn no_change_changes_nothing() {
    assert_eq!(shaped(PLAIN, Transform::default()), all(source(PLAIN)));
}

#[test]
fn a_rate_divides_times() {
    let (plain, fast) = (all(source(PLAIN)), shaped(PLAIN, Transform { rate: 4.0, ..Transform::default() }));
    for (plain, fast) in plain.iter().zip(&fast) {
        assert_eq!(fast.at.get(), (plain.at.get() as f64 / 4.0).round() as u64);
        assert_eq!((fast.prompt.len(), fast.output_stream), (plain.prompt.len(), plain.output_stream));
    }
}

#[test]
fn parts_and_shares() {
    let plain = all(source(PLAIN));
    let change = Transform { skip: 10, limit: Some(5), ..Transform::default() };
    assert_eq!(shaped(PLAIN, change), plain[10..15]);
    let (from, until) = (plain[20].at, plain[30].at);
    let part = shaped(PLAIN, Transform { from, until, ..Transform::default() });
    assert_eq!((part.len(), part[0].at), (10, Nanos::ZERO), "the window's start is the start");
    let shares = [0, 1, 2]
        .map(|index| shaped(PLAIN, Transform { split: Some(Split { replicas: 3, index }), ..Transform::default() }));
    let mut again = shares.concat();
    again.sort_by_key(|arrival| arrival.at);
    assert_eq!(again, plain);
}

#[test]
fn too_long_requests_are_cut_or_left_out() {
    let longest = |overlong| Transform { longest: Some(Longest { tokens: 90, overlong }), ..Transform::default() };
    let plain = all(source(PLAIN));
    let long = |arrival: &&Arrival| arrival.prompt.len() + arrival.output_tokens > 90;
    let mut drop = Shaped::new(source(PLAIN), longest(Overlong::Drop)).unwrap();
    let left: Vec<Arrival> = std::iter::from_fn(|| drop.take().unwrap()).collect();
    assert_eq!(drop.dropped() as usize, plain.iter().filter(long).count());
    assert_eq!(left.len() + drop.dropped() as usize, 100);
    let clipped = shaped(PLAIN, longest(Overlong::Clip));
    for (plain, clipped) in plain.iter().zip(&clipped) {
        assert_eq!(clipped.prompt.len(), plain.prompt.len().min(89));
        assert_eq!(clipped.output_tokens, plain.output_tokens.min(90 - clipped.prompt.len()));
        assert_eq!(clipped.max_tokens, clipped.output_tokens);
    }
}

#[test]
fn samples_follow_their_first() {
    let text = "poisson 1/s, prompt 9, output 9, samples 3, requests 30";
    let change = Transform { skip: 4, split: Some(Split { replicas: 2, index: 1 }), ..Transform::default() };
    // Of ten prompts the odd ones remain, of the first of them (requests 3 to 5) two samples.
    let firsts: Vec<Option<u64>> = shaped(text, change).iter().map(|arrival| arrival.sample_of).collect();
    assert_eq!(firsts[..8], [None, Some(0), None, Some(2), Some(2), None, Some(5), Some(5)]);
    assert_eq!(firsts.len(), 14);
}

#[test]
fn a_client_answers_in_the_changed_time() {
    let text = "clients 1 think 10s, prompt 9, output 9, requests 3";
    let mut shaped = Shaped::new(source(text), Transform { rate: 2.0, ..Transform::default() }).unwrap();
    let first = shaped.take().unwrap().unwrap();
    assert_eq!(shaped.peek().unwrap(), None, "nothing is known to come");
    shaped.finished(first.mark, Nanos::new(1_000_000_001));
    assert_eq!(shaped.peek().unwrap(), Some(Nanos::new(6_000_000_001)));
    let odd = [
        Transform { skip: 1, ..Transform::default() },
        Transform { split: Some(Split { replicas: 2, index: 0 }), ..Transform::default() },
        Transform { longest: Some(Longest { tokens: 9, overlong: Overlong::Drop }), ..Transform::default() },
    ];
    for change in odd {
        assert!(Shaped::new(source(text), change).is_err(), "{change:?}");
    }
}

#[test]
fn senseless_changes_are_refused() {
    for change in [
        Transform { rate: 0.0, ..Transform::default() },
        Transform { rate: f64::NAN, ..Transform::default() },
        Transform { split: Some(Split { replicas: 2, index: 2 }), ..Transform::default() },
        Transform { longest: Some(Longest { tokens: 1, overlong: Overlong::Clip }), ..Transform::default() },
    ] {
        assert!(Shaped::new(AnySource::List(List::default()), change).is_err(), "{change:?}");
    }
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let error = Shaped::new(source(PLAIN), Transform { limit: Some(0), ..Transform::default() }).err().unwrap();
    assert!(error.to_string().contains("a limit of 0"), "{error}");
}
