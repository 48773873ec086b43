//! What does a phase come to at one batch and context? Sums over its steps, in the promised form.

use plimsoll_cost::{Basis, Bound, Family, Hardware, Predictor};

use plimsoll_plan::Parallel;

use super::answer::{FirstTokenAnswer, PointAnswer, ShareAnswer};
use super::request::Phase;
use super::steps::Step;
use super::sums::{Sums, ratio};

/// One phase, batch and context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) phase: Phase,
    pub(super) batch: u32,
    pub(super) context: u32,
}

/// Sums a point up. `fits` sequences of this length fit the cache at once.
pub(super) fn point(
    predictor: &mut Predictor,
    place: Place,
    steps: &[Step],
    parallel: Parallel,
    fits: Option<u64>,
) -> PointAnswer {
    let Place { phase, batch, context } = place;
    let stages = parallel.pp.max(1);
    // Pieces that each take every stage equally long leave a pipeline of p stages after the sum of their times and (p - 1)
    // times the longest of them.
    let (mut sums, mut longest) = (Sums::default(), Sums::default());
    let (mut first, mut waited) = (None, 0.0);
    for step in steps {
        let piece = match phase {
            Phase::Prefill => Sums::of_piece(predictor, &step.shape, stages),
            Phase::Decode => Sums::of(predictor, &step.shape),
        };
        sums.plus(&piece);
        if piece.seconds > longest.seconds {
            longest = piece;
        }
        if step.completes > 0 {
            let out = sums.seconds + f64::from(stages - 1) * longest.seconds;
            first = first.or(Some(out));
            waited += f64::from(step.completes) * out;
        }
    }
    if phase == Phase::Prefill {
        sums.wait(stages, &longest);
    }
    let ttft = first.map(|first| FirstTokenAnswer {
        first_ms: first * 1e3,
        mean_ms: waited / f64::from(batch) * 1e3,
        last_ms: sums.seconds * 1e3,
    });
    let tokens: u64 = steps.iter().map(|step| step.shape.tokens()).sum();
    let all = tokens as f64 * f64::from(parallel.dp.max(1));
    let card = &predictor.kernels.hardware;
    let (compute, memory) = sums.roofs(card);
    PointAnswer {
        phase: phase.name().into(),
        batch,
        context,
        steps: steps.len() as u64,
        tokens,
        flops: sums.all_flops(),
        read_bytes: sums.read,
        written_bytes: sums.written,
        sent_bytes: sums.sent,
        intensity_flops_per_byte: sums.intensity(),
        flops_per_s: ratio(sums.all_flops(), sums.seconds),
        bound: sums.bound().name().into(),
        roofline_bound: if compute > memory { Bound::Compute } else { Bound::Memory }.name().into(),
        ideal_ms: sums.ideal * 1e3,
        roofline_ms: compute.max(memory) * 1e3,
        predicted_ms: sums.seconds * 1e3,
        low_ms: sums.low * 1e3,
        high_ms: sums.high * 1e3,
        overhead_ms: sums.overhead * 1e3,
        ttft: ttft.filter(|_| phase == Phase::Prefill),
        tpot_ms: (phase == Phase::Decode).then_some(sums.seconds * 1e3),
        ideal_tokens_per_s: ratio(all, sums.ideal),
        tokens_per_s: ratio(all, sums.seconds),
        peak_share: ratio(compute, sums.seconds),
        bandwidth_share: ratio(memory, sums.seconds),
        families: families(&sums),
        bases: parts(Basis::ALL.iter().map(|basis| basis.name()), &sums.bases),
        bounds: parts(Bound::ALL.iter().map(|bound| bound.name()), &sums.bounds),
        sequences_that_fit: fits,
    }
}

/// The predicted time by family, and what no kernel takes: the engine's overhead, and the waiting of a pipeline.
fn families(sums: &Sums) -> Vec<ShareAnswer> {
    let names = Family::ALL.iter().map(|family| family.name()).chain(["overhead", "pipeline"]);
    let values: Vec<f64> = sums.families.iter().copied().chain([sums.overhead, sums.waiting]).collect();
    parts(names, &values)
}

/// Parts with their shares of the whole, those that are there.
fn parts<'a>(
    names: impl Iterator<Item = &'static str>,
    seconds: impl IntoIterator<Item = &'a f64>,
) -> Vec<ShareAnswer> {
    let pairs: Vec<(&'static str, f64)> = names.zip(seconds.into_iter().copied()).collect();
    let whole: f64 = pairs.iter().map(|(_, seconds)| seconds).sum();
    let part = |(name, seconds): (&'static str, f64)| ShareAnswer {
        name: name.into(),
        ms: seconds * 1e3,
        share: ratio(seconds, whole),
    };
    pairs.into_iter().filter(|(_, seconds)| *seconds > 0.0).map(part).collect()
}

/// Returns how many sequences of `context` tokens a plan's cache holds at once; `None` where that is not known.
///
/// Blocks are counted as each group of layers takes them, at most what a sequence of the greatest length takes.
pub(super) fn sequences_that_fit(plan: &plimsoll_plan::Plan, context: u32) -> Option<u64> {
    use plimsoll_plan::Batching;
    use plimsoll_plan::engine::transformers;
    let tokens = u64::from(context);
    match &plan.batching {
        Some(Batching::Vllm(of)) => {
            let each = plan.kv.groups.iter().map(|group| {
                let whole = tokens.div_ceil(group.block_tokens.max(1));
                whole.min(group.blocks_per_request.max(1))
            });
            let each: u64 = each.sum();
            // One block is the engine's own.
            (each > 0).then(|| of.blocks.saturating_sub(1) / each)
        }
        Some(Batching::TensorRtLlm(of)) => {
            let block = of.tokens_per_block.max(1);
            of.groups.iter().map(|group| group.blocks / tokens.min(group.window).div_ceil(block).max(1)).min()
        }
        Some(Batching::Sglang(of)) => {
            let page = of.page_size.max(1);
            let full = of.max_total_tokens / tokens.next_multiple_of(page);
            let sliding = of.sliding.map(|pool| pool.tokens / tokens.min(pool.window).max(1));
            let states = of.states.map(|states| states.slots / states.per_request.max(1));
            [Some(full), sliding, states].into_iter().flatten().min()
        }
        // Its cache grows with the sequences, whose last token it never holds, beside activations that grow with them too: what
        // fits is known for sequences of the launch's own length.
        None if plan.engine == transformers::NAME => {
            (tokens == plan.kv.concurrency_at_tokens).then_some(plan.kv.max_concurrency as u64)
        }
        None => (plan.kv.tokens > 0).then(|| plan.kv.tokens / tokens),
    }
}

/// Returns the card's ridge point of the arithmetic that most operations run in.
pub(super) fn ridge(predictor: &Predictor, sums: &Sums) -> f64 {
    let card: &Hardware = &predictor.kernels.hardware;
    let most = plimsoll_cost::Math::ALL.into_iter().max_by(|a, b| {
        sums.flops[*a as usize].total_cmp(&sums.flops[*b as usize]).then((*b as usize).cmp(&(*a as usize)))
    });
    card.ridge(most.unwrap_or(plimsoll_cost::Math::Half))
}
