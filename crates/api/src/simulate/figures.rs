//! How does what was measured become the promised answer? Nothing is decided here: units, shares and rates.

use plimsoll_sim::Outcome;
use plimsoll_sim::metrics::{Distribution, Integrals, Objectives, Summary};
use plimsoll_units::Nanos;

use super::answer::{
    BatchAnswer, GoodputAnswer, KvUseAnswer, LevelAnswer, MeasuredAnswer, MetAnswer, ObjectivesAnswer,
    PercentilesAnswer, PrefixAnswer, RefusalAnswer, RequestsAnswer, SimulateAnswer, SimulateCompareAnswer,
    SimulateHead, SimulateRow, ThroughputAnswer, TimelineAnswer, TimesAnswer,
};

impl SimulateAnswer {
    /// Puts what was measured into the promised form. `part` is the part that was asked for, `all` where none was.
    pub fn new(head: SimulateHead, part: &str, summary: &Summary, outcome: &Outcome) -> Self {
        let totals = &summary.totals;
        let duration = summary.span.end - summary.span.start;
        let of_time = |nanos: u64| ratio(nanos as f64, duration.get() as f64);
        let of_steps = |sum: f64| ratio(sum, totals.steps as f64);
        let refused = summary.refused.count();
        let refusals = summary.refused.reasons().into_iter();
        SimulateAnswer {
            kv: kv(summary, head.kv, head.block_tokens),
            model: head.model,
            engine: head.engine,
            gpu: head.gpu,
            parallel: head.parallel,
            batching: head.batching,
            workload: head.workload,
            seed: head.seed,
            cost: head.cost,
            partial: outcome.partial,
            measured: MeasuredAnswer {
                part: part.to_owned(),
                from_s: summary.span.start.as_seconds(),
                until_s: summary.span.end.as_seconds(),
                duration_s: duration.as_seconds(),
            },
            requests: RequestsAnswer {
                arrived: totals.arrived,
                refused,
                finished: totals.sampled,
                unfinished: totals.arrived.saturating_sub(refused).saturating_sub(totals.sampled),
                preempted: totals.preempted,
                refusals: refusals
                    .map(|reason| RefusalAnswer { count: reason.count, example: reason.example })
                    .collect(),
            },
            ttft_ms: times(summary.ttft),
            tpot_ms: times(summary.tpot),
            itl_ms: times(summary.itl),
            e2e_ms: times(summary.e2e),
            queue_ms: times(summary.queue),
            prefill_ms: times(summary.prefill),
            decode_ms: times(summary.decode),
            interval: None,
            throughput: throughput(summary, duration),
            goodput: goodput(summary, duration),
            prefix: PrefixAnswer {
                caching: head.prefix_caching,
                hit_rate: ratio(totals.hit_tokens as f64, totals.looked_up_tokens as f64),
                hit_tokens: totals.hit_tokens,
                looked_up_tokens: totals.looked_up_tokens,
                resumed_hit_tokens: totals.resumed_hit_tokens,
            },
            preemptions: totals.preemptions,
            recomputed_tokens: totals.recomputed_tokens,
            idle_share: of_time(totals.idle),
            steps: totals.steps,
            batch: BatchAnswer {
                mean: of_steps(totals.sequences as f64),
                max: totals.sequences_max,
                tokens_mean: of_steps(totals.prefill_tokens as f64 + totals.decode_tokens as f64),
                padding_share: ratio(totals.padding as f64, totals.padding as f64 + totals.sequences as f64),
                running_mean: summary.levels.running(),
                waiting_mean: summary.levels.waiting(),
                waiting_max: summary.peaks.waiting(),
            },
            timeline: timeline(summary),
            percentiles: PercentilesAnswer::default(),
            lives: Vec::new(),
            holders: None,
            assumptions: Vec::new(),
            notes: notes(summary, outcome),
        }
    }
}

impl From<&SimulateAnswer> for SimulateRow {
    fn from(answer: &SimulateAnswer) -> Self {
        let rate = |of: fn(&ThroughputAnswer) -> f64| answer.throughput.as_ref().map(of);
        SimulateRow {
            engine: answer.engine.clone(),
            batching: answer.batching.clone(),
            kv: answer.kv.kind.clone(),
            prefix_caching: answer.prefix.caching,
            partial: answer.partial,
            finished: answer.requests.finished,
            refused: answer.requests.refused,
            requests_per_s: rate(|rates| rates.requests_per_s),
            output_tokens_per_s: rate(|rates| rates.output_tokens_per_s),
            total_tokens_per_s: rate(|rates| rates.total_tokens_per_s),
            speedup: None,
            goodput_requests_per_s: answer.goodput.and_then(|good| good.requests_per_s),
            goodput_share: answer.goodput.and_then(|good| good.share),
            ttft_p50_ms: answer.ttft_ms.map(|times| times.p50),
            ttft_p99_ms: answer.ttft_ms.map(|times| times.p99),
            tpot_p50_ms: answer.tpot_ms.map(|times| times.p50),
            tpot_p99_ms: answer.tpot_ms.map(|times| times.p99),
            e2e_p50_ms: answer.e2e_ms.map(|times| times.p50),
            e2e_p99_ms: answer.e2e_ms.map(|times| times.p99),
            batch_mean: answer.batch.mean,
            kv_used_mean: answer.kv.used.mean,
            kv_waste_share: answer.kv.waste_share,
            hit_rate: answer.prefix.hit_rate,
            preemptions: answer.preemptions,
            recomputed_tokens: answer.recomputed_tokens,
            idle_share: answer.idle_share,
            lives: answer.lives.clone(),
        }
    }
}

impl SimulateCompareAnswer {
    /// Puts simulations of one workload side by side; `None` without any. What only some assume or note is left to them.
    pub fn new(answers: &[SimulateAnswer]) -> Option<Self> {
        let first = answers.first()?;
        let mut rows: Vec<SimulateRow> = answers.iter().map(SimulateRow::from).collect();
        let rates = rows.iter().filter_map(|row| row.output_tokens_per_s).filter(|rate| *rate > 0.0);
        if let Some(slowest) = rates.reduce(f64::min) {
            rows.iter_mut().for_each(|row| row.speedup = row.output_tokens_per_s.map(|rate| rate / slowest));
        }
        let shared = |of: fn(&SimulateAnswer) -> &[String]| {
            let all = |text: &&String| answers.iter().all(|answer| of(answer).contains(text));
            of(first).iter().filter(all).cloned().collect::<Vec<_>>()
        };
        Some(SimulateCompareAnswer {
            model: first.model.clone(),
            gpu: first.gpu.clone(),
            parallel: first.parallel,
            workload: first.workload.clone(),
            seed: first.seed,
            cost: first.cost.clone(),
            rows,
            assumptions: shared(|answer| &answer.assumptions),
            notes: shared(|answer| &answer.notes),
        })
    }
}

/// A part of a whole; nothing where the whole is.
fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn times(distribution: Option<Distribution>) -> Option<TimesAnswer> {
    let of = distribution?;
    let millis = |nanos: f64| nanos / 1e6;
    Some(TimesAnswer {
        mean: millis(of.mean),
        p50: millis(of.p50),
        p90: millis(of.p90),
        p95: millis(of.p95),
        p99: millis(of.p99),
        min: of.min.as_millis(),
        max: of.max.as_millis(),
        count: of.count,
        exact: of.exact,
    })
}

fn throughput(summary: &Summary, duration: Nanos) -> Option<ThroughputAnswer> {
    let totals = &summary.totals;
    let rate = |count: u64| ratio(count as f64, duration.as_seconds());
    Some(ThroughputAnswer {
        requests_per_s: rate(totals.finished)?,
        output_tokens_per_s: rate(totals.output_tokens)?,
        total_tokens_per_s: rate(totals.prompt_tokens.saturating_add(totals.output_tokens))?,
    })
}

fn goodput(summary: &Summary, duration: Nanos) -> Option<GoodputAnswer> {
    let Objectives { ttft, tpot, e2e } = summary.objectives;
    if summary.objectives.is_empty() {
        return None;
    }
    let totals = &summary.totals;
    let share = |met: u64| ratio(met as f64, (totals.sampled + summary.refused.count()) as f64);
    let millis = |objective: Option<Nanos>| objective.map(Nanos::as_millis);
    Some(GoodputAnswer {
        objectives: ObjectivesAnswer { ttft_ms: millis(ttft), tpot_ms: millis(tpot), e2e_ms: millis(e2e) },
        requests_per_s: ratio(totals.good_finished as f64, duration.as_seconds()),
        share: share(totals.good),
        met: MetAnswer {
            ttft: ttft.and_then(|_| share(totals.met_ttft)),
            tpot: tpot.and_then(|_| share(totals.met_tpot)),
            e2e: e2e.and_then(|_| share(totals.met_e2e)),
        },
    })
}

fn kv(summary: &Summary, kind: String, block_tokens: Option<u64>) -> KvUseAnswer {
    let capacity = summary.capacity as f64;
    let (means, peaks) = (summary.levels.cache(), summary.peaks.cache());
    let level = |at: usize| LevelAnswer {
        mean: ratio(means[at], capacity).unwrap_or_default(),
        peak: ratio(peaks[at] as f64, capacity).unwrap_or_default(),
    };
    let [used, _, wasted, reserved, stranded] = means;
    KvUseAnswer {
        kind,
        block_tokens,
        blocks: block_tokens.and_then(|tokens| summary.capacity.checked_div(tokens)),
        capacity_tokens: summary.capacity,
        used: level(0),
        cached: level(1),
        wasted: level(2),
        reserved: level(3),
        stranded: level(4),
        waste_share: ratio(wasted + reserved + stranded, used + stranded),
    }
}

fn timeline(summary: &Summary) -> TimelineAnswer {
    let timeline = &summary.timeline;
    let capacity = summary.capacity as f64;
    let round = |value: f64| (value * 1e6).round() / 1e6;
    let each = |of: &dyn Fn(&Integrals) -> f64| timeline.bins().iter().map(|bin| round(of(bin))).collect();
    let share = |tokens: f64| ratio(tokens, capacity).unwrap_or_default();
    TimelineAnswer {
        from_s: timeline.origin().as_seconds(),
        bin_s: timeline.width().as_seconds(),
        running: each(&Integrals::running),
        waiting: each(&Integrals::waiting),
        kv_used: each(&|bin| share(bin.cache()[0])),
        kv_cached: each(&|bin| share(bin.cache()[1])),
        kv_empty: each(&|bin| share(bin.cache()[2] + bin.cache()[3])),
        output_tokens_per_s: each(&|bin| ratio(bin.output_tokens as f64 * 1e9, bin.nanos as f64).unwrap_or_default()),
    }
}

/// What the figures themselves call for.
fn notes(summary: &Summary, outcome: &Outcome) -> Vec<String> {
    let mut notes = Vec::new();
    let totals = &summary.totals;
    if outcome.partial {
        notes.push(format!(
            "stopped early, when {} of {} requests that had arrived were finished: figures are those so far",
            outcome.finished, outcome.arrived
        ));
    }
    for reason in summary.refused.reasons() {
        let requests = if reason.count == 1 { "request was" } else { "requests were" };
        notes.push(format!("{} {requests} turned away: {}", reason.count, reason.example));
    }
    if totals.sampled == 0 {
        notes.push("no request finished in what was measured, so that there are no latencies".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests;
