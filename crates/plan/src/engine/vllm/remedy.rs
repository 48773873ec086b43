//! What would help? Changes to the launch, each worked out anew.

use plimsoll_facts::tensor::DType;

use super::Case;
use super::assess::{Assessed, assess};
use super::options::{Length, Options};
use crate::Remedy;

/// A change to try.
struct Change {
    change: String,
    flags: Vec<String>,
    cost: &'static str,
    options: Options,
}

/// Returns up to six changes, cheapest first; those that do not suffice only where none does.
pub(super) fn remedies(case: &Case<'_>, assessed: &Assessed) -> Vec<Remedy> {
    let mut found: Vec<Remedy> = changes(case, assessed).into_iter().filter_map(|change| tried(case, change)).collect();
    let gpus = assessed.resolved.parallel.gpus();
    if gpus > case.card.count && assessed.fits() {
        found.push(Remedy {
            change: format!("take {gpus} such GPUs"),
            flags: Vec::new(),
            fits: true,
            kv_tokens: assessed.kv.tokens,
            max_context_tokens: assessed.kv.longest,
            cost: "more GPUs".to_owned(),
        });
    } else if !found.iter().any(|remedy| remedy.fits) {
        found.extend(more_cards(case));
    }
    if found.iter().any(|remedy| remedy.fits) {
        found.retain(|remedy| remedy.fits);
    }
    found.truncate(6);
    found
}

/// Returns up to three changes after which the launch fits at both ends of its interval, cheapest first.
pub(super) fn safer(case: &Case<'_>, assessed: &Assessed) -> Vec<Remedy> {
    let safe = changes(case, assessed).into_iter().filter_map(|change| {
        let new = assess(&Case { options: &change.options, ..*case }).ok()?;
        let sure = super::margin(&new.ranks[new.scarcest], &new.kv).low >= 0;
        let remedy = tried(case, change)?;
        (sure && remedy.fits).then_some(remedy)
    });
    safe.take(3).collect()
}

/// The fewest pipeline stages of this division that would hold the model, with more cards than there are; none where
/// sixteen do not.
fn more_cards(case: &Case<'_>) -> Option<Remedy> {
    let options = case.options;
    (options.pp.saturating_add(1)..=options.pp.saturating_mul(16)).find_map(|pp| {
        let more = Options { pp, ..options.clone() };
        let new = assess(&Case { options: &more, ..*case }).ok().filter(Assessed::fits)?;
        let gpus = new.resolved.parallel.gpus();
        Some(Remedy {
            change: format!("no smaller change helps: take {gpus} such GPUs, in {pp} pipeline stages"),
            flags: vec![format!("--pipeline-parallel-size {pp}")],
            fits: true,
            kv_tokens: new.kv.tokens,
            max_context_tokens: new.kv.longest,
            cost: "more GPUs".to_owned(),
        })
    })
}

/// Works one change out; none where the engine cannot do it.
fn tried(case: &Case<'_>, change: Change) -> Option<Remedy> {
    let new = assess(&Case { options: &change.options, ..*case }).ok()?;
    Some(Remedy {
        change: change.change,
        flags: change.flags,
        fits: new.fits() && new.resolved.parallel.gpus() <= case.card.count,
        kv_tokens: new.kv.tokens,
        max_context_tokens: new.kv.longest,
        cost: change.cost.to_owned(),
    })
}

/// Changes in the order of what they cost.
fn changes(case: &Case<'_>, assessed: &Assessed) -> Vec<Change> {
    let (options, resolved) = (case.options, &assessed.resolved);
    let mut list = Vec::new();
    let mut add = |change: String, flags: &[String], cost: &'static str, edit: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        edit(&mut options);
        list.push(Change { change, flags: flags.to_vec(), cost, options });
    };
    if resolved.utilization < 0.949 && options.kv_cache_memory.is_none() {
        add(
            "let vLLM use 95% of the GPU".to_owned(),
            &["--gpu-memory-utilization 0.95".to_owned()],
            "less room for graphs and other processes",
            &|options| options.utilization = Some(0.95),
        );
    }
    if resolved.max_num_seqs > 64 || resolved.max_num_batched_tokens > 2048 {
        let (seqs, tokens) = (resolved.max_num_seqs.min(64), resolved.max_num_batched_tokens.min(2048));
        add(
            format!("smaller steps: {tokens} tokens, {seqs} sequences"),
            &[format!("--max-num-batched-tokens {tokens}"), format!("--max-num-seqs {seqs}")],
            "lower peak throughput",
            &|options| {
                options.max_num_batched_tokens = Some(tokens);
                options.max_num_seqs = Some(seqs);
            },
        );
    }
    let longest = assessed.kv.longest.min(resolved.max_model_len.saturating_sub(1));
    if longest > 0 {
        add(
            format!("serve sequences of at most {longest} tokens"),
            &[format!("--max-model-len {longest}")],
            "longer requests are refused",
            &|options| options.max_model_len = Some(Length::Tokens(longest)),
        );
    }
    if assessed.graphs_applied.get() > 0 {
        add("run without CUDA graphs".to_owned(), &["--enforce-eager".to_owned()], "slower decoding", &|options| {
            options.enforce_eager = true;
        });
    }
    if resolved.kv.dtype().bits() > 8 {
        add(
            "keep the KV cache in 8 bits".to_owned(),
            &["--kv-cache-dtype fp8".to_owned()],
            "a little accuracy",
            &|options| options.kv_cache_dtype = Some("fp8".to_owned()),
        );
    }
    let can_fp8 = case.model.quant.is_none() && options.quantization.is_none() && resolved.dtype != DType::F32;
    if can_fp8 {
        add(
            "quantise the weights to 8 bits while loading".to_owned(),
            &["--quantization fp8".to_owned()],
            "a little accuracy",
            &|options| options.quantization = Some("fp8".to_owned()),
        );
    }
    let there = case.card.count / options.pp.saturating_mul(options.dp).max(1);
    if let Some(tp) = (1..options.tp.min(there.saturating_add(1))).rev().find(|tp| options.tp.is_multiple_of(*tp)) {
        let gpus = tp.saturating_mul(options.pp).saturating_mul(options.dp);
        let flags = [format!("--tensor-parallel-size {tp}")];
        let over = if gpus == 1 { "run on 1 GPU".to_owned() } else { format!("divide over {gpus} GPUs") };
        if there < options.tp {
            add(over, &flags, "less memory in all", &|options| options.tp = tp);
        }
    }
    let mut tp = options.tp.saturating_mul(2);
    let most = 16.min(case.card.count / options.pp.saturating_mul(options.dp).max(1));
    while tp <= most {
        let more = Options { tp, ..options.clone() };
        let fits = assess(&Case { options: &more, ..*case }).is_ok_and(|new| new.fits());
        if fits || tp.saturating_mul(2) > most {
            add(format!("divide over {tp} GPUs"), &[format!("--tensor-parallel-size {tp}")], "more GPUs", &|options| {
                options.tp = tp
            });
            break;
        }
        tp = tp.saturating_mul(2);
    }
    list
}
