//! From a question to a plan: settings, cards, fitting, ledgers, verdict.

use plimsoll_facts::gguf::Gguf;
use plimsoll_units::{Bytes, Estimate, Source};

use super::context::{Context, Flash};
use super::hparams::Hparams;
use super::layout::{Laid, Site, Trial};
use super::ledger::{self, Beside};
use super::options::{GpuLayers, Options, SplitMode, unsupported};
use super::rules::Rules;
use super::{NAME, fit, launch, log, solve};
use crate::engine::{Companion, Depth, Question};
use crate::{Card, Error, Item, Kv, KvGroup, Logged, Margin, Parallel, Plan, Rank, Refusal, Verdict};

/// The most GPUs that are planned (the engine takes 16).
const MAX_GPUS: usize = 16;

/// Everything that is decided before the verdict.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// What does not change.
    pub site: Site<'a>,
    /// What was asked for.
    pub options: Options,
    /// The settings that run.
    pub trial: Trial,
    /// What stands beside the model on each GPU.
    pub beside: Vec<Beside>,
    /// Files beside the model's.
    pub companions: &'a [Companion<'a>],
    /// Known quantities.
    pub given: crate::Given,
    /// What nobody said.
    pub assumptions: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Plans a launch.
///
/// # Errors
/// [`Error`] when the file or a flag cannot be understood.
pub fn plan(question: &Question<'_>) -> Result<Plan, Error> {
    let mut options = Options::from_map(question.options, question.version)?;
    let made;
    let gguf = match question.gguf {
        Some(gguf) => gguf,
        None => {
            made = super::assumed::file(question, &mut options)?;
            &made
        }
    };
    check(question, &options, gguf)?;
    let case = Case::new(question, options, gguf)?;
    let laid = case.site.lay(&case.trial, false);
    let laid = laid.map_err(|refusal| unsupported(question.version, refusal.message))?;
    Ok(written(question, &case, &laid))
}

impl<'a> Case<'a> {
    /// Settles cards, placement and fitting.
    fn new(question: &Question<'a>, options: Options, gguf: &'a Gguf) -> Result<Case<'a>, Error> {
        let h = Hparams::read(gguf)?;
        let rules = Rules::of(question.version);
        let (mut assumptions, mut notes) = (options.assumptions.clone(), options.notes.clone());
        let all = cards(question, &options, &mut assumptions)?;
        let cards = used(&all, &options)?;
        let free = cards.iter().map(|card| free(card)).collect();
        let main_gpu = if options.split == SplitMode::None { 0 } else { options.main_gpu };
        let site = Site {
            gguf,
            h,
            rules,
            cards,
            free,
            split: options.split,
            main_gpu,
            host: options.host,
            drafting: options.draft.as_ref().is_some_and(|draft| draft.own_layers),
        };
        let layers = match options.layers {
            GpuLayers::Auto | GpuLayers::All => None,
            GpuLayers::Exact(layers) => Some(layers),
        };
        let trial = Trial {
            asked: options.asked,
            layers,
            shares: if site.cards.len() > 1 { options.shares.clone() } else { Vec::new() },
            overrides: options.overrides.clone(),
        };
        let beside = super::beside::beside(question, &site, &options, &trial, &mut notes)?;
        let sizes: Vec<i64> = beside.iter().map(Beside::fitted).collect();
        let (trial, changed) = fit::fit(&site, &options, &trial, &sizes);
        notes.extend(changed);
        if !question.model.notes.is_empty() && question.gguf.is_none() {
            notes.extend(question.model.notes.iter().cloned());
        }
        assume(&site, &options, &mut assumptions);
        notes.extend(unused(question.given));
        let (companions, given) = (question.companions, *question.given);
        let mut case = Case { site, options, trial, beside, companions, given, assumptions, notes };
        case.beside = super::beside::redrafted(&case, &case.trial);
        Ok(case)
    }

    /// Returns what a layout needs of a GPU, with the user's own numbers in place of ours.
    pub fn ledger(&self, beside: &[Beside], laid: &Laid, at: usize) -> crate::Ledger {
        let beside = beside.get(at).cloned().unwrap_or_default();
        let mut ledger = ledger::gpu(&self.site, laid, at, &beside);
        let given = |bytes: Bytes| Estimate::exact(bytes, Source::Given);
        if let Some(activation) = self.given.activation {
            replace(&mut ledger, Item::Activation, given(activation));
        }
        if let Some(outside) = self.given.non_torch {
            // Everything that is no buffer, the driver's context among it.
            replace(&mut ledger, Item::RuntimeNonTorch, given(outside));
            ledger.entries.retain(|entry| entry.item != Item::Context);
        }
        ledger
    }
}

/// Says which known quantities have no place here.
fn unused(given: &crate::Given) -> Vec<String> {
    let all = [("weights", given.weights), ("kv_free", given.kv_free), ("kv_budget", given.kv_budget)];
    let told = all.iter().filter(|(_, bytes)| bytes.is_some());
    told.map(|(name, _)| {
        format!(
            "the {name} given does not apply: llama.cpp takes the file's tensors and the cells of -c, whatever is left"
        )
    })
    .collect()
}

fn replace(ledger: &mut crate::Ledger, item: Item, size: Estimate) {
    if let Some(entry) = ledger.entries.iter_mut().find(|entry| entry.item == item) {
        entry.size = size;
    }
}

/// One card for each GPU, in the order given.
fn cards<'a>(
    question: &Question<'a>,
    options: &Options,
    assumptions: &mut Vec<String>,
) -> Result<Vec<&'a Card>, Error> {
    let mut all = Vec::new();
    let wanted = options.shares.len().max(options.main_gpu.saturating_add(1));
    let wanted = options.devices.iter().flatten().map(|number| number + 1).fold(wanted, usize::max);
    for card in question.cards {
        let open = card.count == u32::MAX;
        let count = if open { wanted.max(1) } else { card.count as usize };
        if open && wanted <= 1 {
            assumptions
                .push(format!("one {}: llama.cpp uses every GPU that it sees; give --gpu NAME:COUNT", card.name));
        }
        all.extend(std::iter::repeat_n(card, count.min(MAX_GPUS)));
    }
    if all.is_empty() {
        return Err(Error::Request("no card".to_owned()));
    }
    if all.len() > MAX_GPUS {
        return Err(unsupported(question.version, format!("{} GPUs: it takes {MAX_GPUS} at most", all.len())));
    }
    Ok(all)
}

/// The GPUs that the launch uses.
fn used<'a>(all: &[&'a Card], options: &Options) -> Result<Vec<&'a Card>, Error> {
    let refuse = |flag: &str, number: usize| Error::Flag {
        flag: flag.to_owned(),
        found: number.to_string(),
        expected: format!("one of {} GPUs, counted from 0", all.len()),
    };
    let mut cards = Vec::new();
    match &options.devices {
        None => cards.extend_from_slice(all),
        Some(numbers) => {
            for number in numbers {
                cards.push(*all.get(*number).ok_or_else(|| refuse("--device", *number))?);
            }
        }
    }
    if options.split == SplitMode::None && !cards.is_empty() {
        let main = *cards.get(options.main_gpu).ok_or_else(|| refuse("--main-gpu", options.main_gpu))?;
        return Ok(vec![main]);
    }
    if options.layers == GpuLayers::Exact(0) && options.split != SplitMode::Layer {
        return Ok(cards);
    }
    Ok(cards)
}

/// What a GPU has left when the model is loaded.
fn free(card: &Card) -> Estimate {
    let context = ledger::context(card);
    let total = &card.total;
    Estimate::between(
        total.low.saturating_sub(context.high),
        total.bytes.saturating_sub(context.bytes),
        total.high.saturating_sub(context.low),
        Source::Derived("the card's total less the driver's context".into()),
    )
}

/// Says what the numbers rest on.
fn assume(site: &Site<'_>, options: &Options, assumptions: &mut Vec<String>) {
    if site.rules.fits && options.layers == GpuLayers::Auto && !site.cards.is_empty() {
        assumptions.push("-ngl is not given: all layers, fewer where they do not fit (--fit)".to_owned());
    }
    if !site.cards.is_empty() {
        assumptions.push("nothing else uses the GPUs' memory".to_owned());
    }
    let capability = site.cards.iter().find(|card| card.compute_capability.is_none());
    if let Some(card) = capability {
        assumptions.push(format!("the compute capability of {} is not known: kernels as on 8.0", card.name));
    }
    if site.host.repack && site.cards.is_empty() {
        assumptions.push("the processor is x86 with AVX-512, for which weights in host memory are repacked".to_owned());
    }
}

/// Refuses a launch that the engine refuses before it takes any memory.
fn check(question: &Question<'_>, options: &Options, gguf: &Gguf) -> Result<(), Error> {
    let said = |refusal: Refusal| unsupported(question.version, refusal.message);
    Context::new(&Hparams::read(gguf)?, &options.asked, &Rules::of(question.version)).map_err(said)?;
    match (options.split, options.asked.flash) {
        (SplitMode::Row, _) => Err(unsupported(
            question.version,
            "--split-mode row is not planned: CUDA of newer builds refuses it (`device CUDA0 does not support split \
             buffers`), and the rows of older ones are not built in; --split-mode layer, none and tensor are planned",
        )),
        (SplitMode::Tensor, Flash::Off) => {
            Err(unsupported(question.version, "SPLIT_MODE_TENSOR requires flash_attn to be enabled"))
        }
        (SplitMode::None | SplitMode::Layer | SplitMode::Tensor, Flash::Off | Flash::On | Flash::Auto) => Ok(()),
    }
}

/// What a GPU's ledger leaves.
fn margin(rank: &Rank, card: &Card) -> Margin {
    let signed = |bytes: Bytes| i64::try_from(bytes.get()).unwrap_or(i64::MAX);
    let ends = |pick: fn(&Estimate) -> Bytes| rank.ledger.entries.iter().map(|entry| pick(&entry.size)).sum::<Bytes>();
    Margin {
        low: signed(card.total.low).saturating_sub(signed(ends(|size| size.high))),
        bytes: signed(card.total.bytes).saturating_sub(signed(ends(|size| size.bytes))),
        high: signed(card.total.high).saturating_sub(signed(ends(|size| size.low))),
    }
}

/// Writes the answer down.
fn written(question: &Question<'_>, case: &Case<'_>, laid: &Laid) -> Plan {
    let (site, depth) = (&case.site, question.depth);
    let ranks: Vec<Rank> = if site.cards.is_empty() {
        vec![idle(question)]
    } else {
        (0..site.cards.len()).map(|at| rank(case, laid, at)).collect()
    };
    let margins: Vec<Margin> = ranks
        .iter()
        .enumerate()
        .map(|(at, rank)| margin(rank, site.cards.get(at).copied().unwrap_or(&question.cards[0])))
        .collect();
    let scarcest = (0..margins.len()).min_by_key(|at| margins[*at].bytes).unwrap_or(0);
    let margin = margins.get(scarcest).copied().unwrap_or_default();
    let fits = margin.bytes >= 0;
    let spare = Bytes::new(margin.bytes.unsigned_abs());
    let verdict = if fits {
        Verdict::Fits { spare }
    } else {
        Verdict::DoesNotFit {
            short_by: spare,
            binding: binding(&ranks[scarcest]).to_owned(),
            refusal: Some(solve::refusal(
                laid,
                scarcest,
                site.free.get(scarcest).map_or(Bytes::ZERO, |free| free.bytes),
            )),
            remedies: if depth == Depth::Whole { solve::remedies(case) } else { Vec::new() },
        }
    };
    let longest = if depth == Depth::Ledger { laid.context.tokens_seq } else { solve::longest(case, &case.trial) };
    let served = solve::served(case, longest);
    let context = &laid.context;
    let flash = if laid.compute.flash || context.flash == Flash::Off { context.flash } else { Flash::Off };
    let mut notes = case.notes.clone();
    notes.extend(remarks(case, laid, longest));
    if fits && margin.low < 0 && depth != Depth::Ledger {
        notes.push(solve::borderline(case, laid));
    }
    let count = u32::try_from(ranks.len()).unwrap_or(1);
    let parallel = match site.split {
        SplitMode::Row | SplitMode::Tensor => Parallel { tp: count, ..Parallel::ONE },
        SplitMode::None | SplitMode::Layer => Parallel { pp: count, ..Parallel::ONE },
    };
    let id = question.model.id.as_str();
    let repository = question.options.get("hf_repo").and_then(|repo| repo.as_str());
    let file = match (question.gguf, &case.options.file_type) {
        (None, _) if repository.is_some() => ["-hf".to_owned(), repository.unwrap_or(id).to_owned()],
        (None, Some(kind)) => ["-hf".to_owned(), format!("{id}:{kind}")],
        (Some(_), _) | (None, None) => ["-m".to_owned(), id.to_owned()],
    };
    Plan {
        engine: NAME,
        version: question.version,
        parallel,
        scarcest,
        kv: kv(case, laid, &ranks[scarcest]),
        ranks,
        max_model_len: context.tokens_seq.min(site.h.ctx_train.max(1)),
        max_context_tokens: served,
        verdict,
        margin,
        host: Some(ledger::host(site, laid)),
        assumptions: case.assumptions.clone(),
        notes,
        launch: launch::command(file, site, &case.options, &case.trial, flash),
        batching: None,
    }
}

/// A GPU that is not used.
fn idle(question: &Question<'_>) -> Rank {
    let total = question.cards[0].total.bytes;
    Rank {
        device: None,
        pp_rank: 0,
        tp_rank: 0,
        limit: total,
        total,
        ledger: crate::Ledger::default(),
        kv_budget: Estimate::exact(total, Source::Derived("the whole card".into())),
        short: Bytes::ZERO,
    }
}

/// One GPU's share.
fn rank(case: &Case<'_>, laid: &Laid, at: usize) -> Rank {
    let ledger = case.ledger(&case.beside, laid, at);
    let total = case.site.cards[at].total.clone();
    let fixed = |pick: fn(&Estimate) -> Bytes| {
        let others = ledger.entries.iter().filter(|entry| entry.item != Item::Kv);
        others.map(|entry| pick(&entry.size)).sum::<Bytes>()
    };
    let budget = Estimate::between(
        total.low.saturating_sub(fixed(|size| size.high)),
        total.bytes.saturating_sub(fixed(|size| size.bytes)),
        total.high.saturating_sub(fixed(|size| size.low)),
        Source::Derived("the card's total less all other lines".into()),
    );
    let short = fixed(|size| size.bytes).saturating_sub(total.bytes);
    let number = u32::try_from(at).unwrap_or(0);
    let by_rows = matches!(case.site.split, SplitMode::Row | SplitMode::Tensor);
    Rank {
        device: Some(format!("CUDA{at}")),
        pp_rank: if by_rows { 0 } else { number },
        tp_rank: if by_rows { number } else { 0 },
        limit: total.bytes,
        total: total.bytes,
        ledger,
        kv_budget: budget,
        short,
    }
}

/// The largest kind of memory, which decides.
fn binding(rank: &Rank) -> &'static str {
    let weights = rank.ledger.weights();
    let kv = rank.ledger.bytes(Item::Kv);
    let compute = rank.ledger.bytes(Item::Activation);
    if weights > rank.total || (weights >= kv && weights >= compute) {
        "weights"
    } else if kv >= compute {
        "kv"
    } else {
        "activation"
    }
}

/// The cache in the promised form.
fn kv(case: &Case<'_>, laid: &Laid, rank: &Rank) -> Kv {
    let context = &laid.context;
    let tokens = context.cells.saturating_mul(context.streams);
    let each = laid.cache.parts.iter().filter(|part| !matches!(part.role, super::cache::Role::Recurrent));
    let per_token = each.map(|part| {
        let cells = part.cells.saturating_mul(context.streams).max(1);
        part.keys.saturating_add(part.values) / cells
    });
    let length = context.tokens_seq.min(case.site.h.ctx_train.max(1));
    let slots = context.sequences as f64;
    let concurrency = if context.asked.unified { (tokens as f64 / length.max(1) as f64).min(slots) } else { slots };
    let lines = log::lines(&case.site, laid);
    Kv {
        bytes_per_token: per_token.fold(0, u64::saturating_add),
        block_tokens: 256,
        blocks: tokens / 256,
        tokens,
        budget: rank.kv_budget.clone(),
        max_concurrency: concurrency,
        concurrency_at_tokens: length,
        groups: laid.cache.parts.iter().map(|part| group(&case.site.h, context, part)).collect(),
        growth: crate::Growth::default(),
        logged: Logged {
            kv_tokens: Some(tokens),
            gib: Some(Bytes::new(laid.cache.kv_bytes()).as_gib()),
            blocks: None,
            concurrency: None,
            lines,
        },
    }
}

fn group(h: &Hparams, context: &Context, part: &super::cache::Part) -> KvGroup {
    use super::cache::Role;
    let cells = part.cells.saturating_mul(context.streams).max(1);
    let recurrent = matches!(part.role, Role::Recurrent | Role::Compressor);
    let bytes = part.keys.saturating_add(part.values) / part.layers.max(1);
    KvGroup {
        kind: match part.role {
            Role::Full if h.is_mla() => "mla".to_owned(),
            Role::Full => "full".to_owned(),
            Role::Window => format!("sliding:{}", h.window),
            Role::Indexer => "indexer".to_owned(),
            Role::Compressed(ratio) => format!("compressed:{ratio}"),
            Role::Recurrent => "recurrent".to_owned(),
            Role::Compressor => "compressor".to_owned(),
        },
        layers: u32::try_from(part.layers).unwrap_or(u32::MAX),
        block_tokens: if recurrent { 1 } else { 256 },
        page_bytes: if recurrent { bytes / context.sequences.max(1) } else { bytes.saturating_mul(256) / cells },
        blocks_per_request: if recurrent { 1 } else { request_cells(h, context, part).div_ceil(256) },
    }
}

/// Cells that one request of the longest length takes.
fn request_cells(h: &Hparams, context: &Context, part: &super::cache::Part) -> u64 {
    use super::cache::Role;
    let length = context.tokens_seq.min(h.ctx_train.max(1));
    let wanted = match part.role {
        Role::Window if !context.asked.swa_full => length.min(h.window.saturating_add(context.ubatch)),
        Role::Compressed(ratio) => length.div_ceil(ratio.max(1)),
        Role::Full | Role::Window | Role::Indexer | Role::Recurrent | Role::Compressor => length,
    };
    wanted.min(part.cells)
}

/// What a reader should know about the outcome.
fn remarks(case: &Case<'_>, laid: &Laid, longest: u64) -> Vec<String> {
    let (site, context) = (&case.site, &laid.context);
    let mut notes = Vec::new();
    let asked = case.trial.asked.tokens.unwrap_or(site.h.ctx_train);
    if context.tokens != asked {
        notes.push(format!(
            "the context of {asked} tokens becomes {}: {} for each sequence",
            context.tokens, context.tokens_seq
        ));
    } else if context.streams > 1 {
        notes.push(format!(
            "-c {} is divided over {} slots: {} tokens each; -kvu lets them share",
            context.tokens, context.sequences, context.tokens_seq
        ));
    }
    if context.tokens_seq > site.h.ctx_train {
        notes.push(if case.options.server {
            format!(
                "llama-server serves {} tokens of a slot's {}: no more than the model was trained for",
                site.h.ctx_train, context.tokens_seq
            )
        } else {
            format!("the model was trained for {} tokens; more is used by stretching", site.h.ctx_train)
        });
    } else if longest > site.h.ctx_train {
        notes.push(format!(
            "memory allows a context of {longest} tokens; the model was trained for {}",
            site.h.ctx_train
        ));
    }
    let (on, all) = (laid.offloaded(), laid.placed.layers.len() + 1);
    if on < all && !site.cards.is_empty() {
        notes.push(format!("{on} of {all} layers (the output counted) lie on the GPU, the rest in host memory"));
    }
    if on == 0 || site.cards.is_empty() {
        notes.push("host memory is not checked: the longest context is that of the GPUs' memory".to_owned());
    }
    if !laid.placed.spans.is_empty() {
        let span: u64 = laid.placed.spans.iter().sum();
        notes.push(format!(
            "the file is mapped: its log shows CPU_Mapped {:.2} MiB, which is page cache that the system can take back",
            span as f64 / 1_048_576.0
        ));
    }
    if case.options.loading.locked {
        notes.push("--mlock keeps the mapped weights in RAM: they cannot be taken back".to_owned());
    }
    if case.options.server {
        match case.options.cache_ram {
            Some(0) => {}
            Some(limit) => {
                notes.push(format!("the prompt cache may take up to {limit} MiB of host memory (--cache-ram)"))
            }
            None => notes.push("the prompt cache may take any amount of host memory (--cache-ram -1)".to_owned()),
        }
    }
    if laid.compute.graph.is_none() {
        notes.push(format!("the compute graph of {} is not built in: its buffers are estimated", site.h.arch));
    }
    if context.flash == Flash::Auto && !laid.compute.flash {
        notes.push(
            "flash attention is left off: a layer's device has no kernel for its heads or cache types".to_owned(),
        );
    }
    if site.split == SplitMode::Tensor {
        let why = "the engine rounds every matrix to whole heads and blocks, so that GPUs differ a little";
        notes
            .push(format!("split mode tensor is planned by the shares of --tensor-split, even ones by default; {why}"));
    }
    notes
}
