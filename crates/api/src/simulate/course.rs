//! What happened to whom, and who held the cache, in the promised form.

use plimsoll_sim::course::{Course, Life, Phase, Window};
use plimsoll_sim::metrics::Percentiles;
use plimsoll_units::Nanos;

use super::answer::{HolderAnswer, HoldersAnswer, LifeAnswer, PercentilesAnswer, SimulateAnswer, TurnAnswer};

/// Which part of a run is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The beginning, which is the same for all ways to serve a workload.
    First,
    /// That in which most of the cache was held.
    Fullest,
}

/// Adds who did what, and who held the cache.
pub(super) fn add(answer: &mut SimulateAnswer, course: &Course, seen: Seen) {
    let window = match seen {
        Seen::First => course.first(),
        Seen::Fullest => course.fullest(),
    };
    let Some(window) = window else { return };
    answer.lives = window.lives.iter().map(|life| lived(life, window.end)).collect();
    answer.holders = holders(&window, answer.kv.block_tokens.unwrap_or(1).max(1));
}

fn lived(life: &Life, over: Nanos) -> LifeAnswer {
    let turn = |(at, phase): &(Nanos, Phase)| {
        let doing = match phase {
            Phase::Queued => "queued",
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
            Phase::Preempted => "preempted",
        };
        TurnAnswer { doing: doing.into(), from_s: at.as_seconds() }
    };
    LifeAnswer {
        request: life.number,
        turns: life.turns.iter().map(turn).collect(),
        end_s: life.end.unwrap_or(over).as_seconds(),
        finished: life.end.is_some(),
    }
}

fn holders(window: &Window, block: u64) -> Option<HoldersAnswer> {
    let mut requests: Vec<HolderAnswer> = Vec::new();
    // Who held something at the moment before, by place in `requests`; moments and holders both come in order.
    let mut before: Vec<usize> = Vec::new();
    for (at, moment) in window.moments.iter().enumerate() {
        let mut now = Vec::with_capacity(moment.alone.len());
        for &(request, tokens) in &moment.alone {
            let known = before.iter().copied().find(|place| requests[*place].request == request);
            let place = known.unwrap_or_else(|| {
                requests.push(HolderAnswer { request, from: at, blocks: Vec::new() });
                requests.len() - 1
            });
            requests[place].blocks.push(tokens / block);
            now.push(place);
        }
        before = now;
    }
    requests.sort_by_key(|holder| (holder.request, holder.from));
    let in_blocks = |of: fn(&plimsoll_sim::course::Moment) -> u64| {
        window.moments.iter().map(|moment| of(moment) / block).collect::<Vec<u64>>()
    };
    let held = |blocks: &[u64]| blocks.iter().any(|blocks| *blocks > 0);
    let (others, cached) = (in_blocks(|moment| moment.others), in_blocks(|moment| moment.cached));
    let any = !requests.is_empty() || held(&others) || held(&cached);
    any.then(|| HoldersAnswer {
        capacity: window.capacity / block,
        at_s: window.moments.iter().map(|moment| moment.at.as_seconds()).collect(),
        end_s: window.end.as_seconds(),
        others,
        cached,
        bundle: window.bundle,
        requests,
    })
}

impl From<&Percentiles> for PercentilesAnswer {
    fn from(of: &Percentiles) -> Self {
        // To the nanosecond: between two values there may be a fraction of one.
        let millis = |times: &[f64]| times.iter().map(|time| (*time).round() / 1e6).collect();
        PercentilesAnswer {
            ttft_ms: millis(&of.ttft),
            tpot_ms: millis(&of.tpot),
            itl_ms: millis(&of.itl),
            e2e_ms: millis(&of.e2e),
        }
    }
}
