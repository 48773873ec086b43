//! Does it fit? From a request to an answer: what is asked, with which model, card and engine; then the engine's rules.

use std::borrow::Cow;
use std::sync::Arc;

use plimsoll_facts::gguf::Gguf;
use plimsoll_plan::engine::{Companion, Depth, Question, llamacpp, ollama, sglang, transformers, trtllm, vllm};
use plimsoll_plan::{Card, Given, Plan, Rank, Remedy, State, Verdict, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Map, Value};

use crate::answer::{
    EntryAnswer, HostAnswer, KvAnswer, KvGroupAnswer, LoggedAnswer, MarginAnswer, PlanAnswer, RankAnswer, RemedyAnswer,
    VerdictAnswer,
};
use crate::reconcile::learned;
use crate::world::{Kept, Loaded};
use crate::{Desk, Error, GpuRequest, PlanRequest, choices, heads, launch, support, visible};

/// An engine that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineRow {
    /// Its name in requests and answers.
    pub name: &'static str,
    /// Other names, lower case with dashes.
    pub aliases: &'static [&'static str],
    /// The oldest release whose rules are built in.
    pub oldest: Version,
    /// The release that is planned when none is named.
    pub default: Version,
    /// The newest release (candidates included) whose rules are built in.
    pub newest: Version,
    /// What is built in, in a line.
    pub rules: &'static str,
}

/// The engines that can be asked for.
pub const ENGINES: [EngineRow; 6] = [
    EngineRow {
        name: "vllm",
        aliases: &[],
        oldest: Version::new(0, 5, 0),
        default: Version::new(0, 33, 0),
        newest: Version::new(0, 33, 0),
        rules: "V0 (0.5) to 0.33: budget, grouping, blocks and log lines by release",
    },
    EngineRow {
        name: trtllm::NAME,
        aliases: &["trtllm", "trt-llm", "tensorrtllm"],
        oldest: Version::new(0, 5, 0),
        default: trtllm::DEFAULT_VERSION,
        newest: Version::new(1, 4, 0),
        rules: "engine backend (0.5 to 1.2) and PyTorch backend (0.17 to 1.2)",
    },
    EngineRow {
        name: sglang::NAME,
        aliases: &["sgl"],
        oldest: sglang::OLDEST,
        default: sglang::NEWEST,
        newest: sglang::NEWEST,
        rules: "0.4.6 to 0.5.23: default fraction, pools from free memory before load, and what must fit beside them",
    },
    EngineRow {
        name: llamacpp::NAME,
        aliases: &["llamacpp", "llama-cpp", "llama-server", "llama-cli"],
        oldest: llamacpp::OLDEST,
        default: llamacpp::NEWEST,
        newest: llamacpp::NEWEST,
        rules: "model, KV, recurrent, compute and output buffers per device",
    },
    EngineRow {
        name: ollama::NAME,
        aliases: &[],
        oldest: ollama::OLDEST,
        default: ollama::NEWEST,
        newest: ollama::NEWEST,
        rules: "context and layer placement by release",
    },
    EngineRow {
        name: transformers::NAME,
        aliases: &["hf", "huggingface", "hf-transformers"],
        oldest: transformers::OLDEST,
        default: transformers::NEWEST,
        newest: transformers::NEWEST,
        rules: "dynamic, static, sliding and quantised caches, device_map",
    },
];

/// Returns the row of an engine that is built in.
pub(crate) fn row(engine: &str) -> &'static EngineRow {
    ENGINES.iter().find(|row| row.name == engine).unwrap_or(&ENGINES[0])
}

/// Whether an engine reads GGUF files, which it is taken to have been given where a configuration is named.
pub(crate) fn reads_gguf(engine: &str) -> bool {
    [llamacpp::NAME, ollama::NAME].contains(&engine)
}

/// How many cards there are when nobody said: as many as the launch asks for.
const ANY_NUMBER: u32 = u32::MAX;

/// A request with everything looked up: what an engine's rules take.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The model.
    pub loaded: Arc<Loaded>,
    /// Headers of files that options name beside the model, by their names.
    pub companions: Vec<(String, Arc<Gguf>)>,
    /// The card: the first of `cards`.
    pub card: Card,
    /// The cards, several entries where they differ.
    pub cards: Vec<Card>,
    /// Name of the engine, as in [`ENGINES`].
    pub engine: &'static str,
    /// The release.
    pub version: Version,
    /// Engine flags that can change memory.
    pub options: Map<String, Value>,
    /// Engine flags that cannot; those of the scheduler are among them.
    pub inert: Map<String, Value>,
    /// Known quantities.
    pub given: Given,
    /// What came up on the way.
    pub notes: Vec<String>,
    /// What nobody said.
    pub assumptions: Vec<String>,
    /// What was measured on this machine, where a profile is at hand.
    pub profile: Option<Kept>,
    /// How much is to be worked out.
    pub depth: Depth,
}

/// Answers a plan request.
///
/// # Errors
/// [`Error`] when the question is malformed or cannot be answered; not fitting is an answer.
pub fn plan(request: &PlanRequest, desk: &Desk<'_>) -> Result<PlanAnswer, Error> {
    let prepared = prepare(request, desk)?;
    let plan = run(&prepared)?;
    Ok(answer(&prepared, plan))
}

/// Looks everything up that a request names.
///
/// # Errors
/// [`Error`] naming what is missing, unknown or contradictory.
pub fn prepare(request: &PlanRequest, desk: &Desk<'_>) -> Result<Prepared, Error> {
    let command = request.command.as_deref().map(launch::parse_str).transpose()?;
    let (mut options, mut inert, mut notes, command_engine, command_model, command_version) = match command {
        Some(launch) => (launch.options, launch.inert, launch.notes, Some(launch.engine), launch.model, launch.version),
        None => (Map::new(), Map::new(), Vec::new(), None, None, None),
    };
    let engine = engine(request.engine.as_deref(), command_engine)?;
    inert.extend(request.inert.clone());
    notes.extend(choices::overlay(engine, &mut options, &mut inert, &request.options)?);
    let mut assumptions = Vec::new();
    let built_in = row(engine);
    let version = match request.engine_version.as_ref().or(command_version.as_ref()) {
        Some(text) => {
            let leave_out =
                |why| Error::Request(format!("{why}; leave it out for {}, the newest built in", built_in.default));
            let version = read_version(engine, text).map_err(leave_out)?;
            notes.extend(outside(built_in, version));
            version
        }
        None => {
            assumptions.push(format!("{engine} {}, the newest release whose rules are built in", built_in.default));
            built_in.default
        }
    };
    let Some(name) = request.model.as_deref().or(command_model.as_deref()) else {
        return Err(Error::Request("no model: give MODEL or a launch command that names one".into()));
    };
    let changes_model =
        ["hf_overrides", "rope_scaling", "model_impl"].into_iter().filter(|key| options.contains_key(*key));
    notes.extend(
        changes_model.map(|key| format!("{key} is not applied: the model is planned as its configuration says")),
    );
    let loaded = match engine {
        ollama::NAME => crate::ollama::model(name, desk, &mut options, &mut notes)?,
        llamacpp::NAME => crate::hub::model(name, desk, &mut options, &mut assumptions)?,
        _ => desk.model(name)?,
    };
    let cards = visible::cards(engine, cards(request, desk, (engine, version))?, &options, &mut notes)?;
    let card = cards.first().cloned().ok_or_else(|| Error::Request("no card: give --gpu".into()))?;
    notes.extend(request.notes.iter().cloned());
    let given = Given {
        weights: request.given.weights_bytes.map(Bytes::new),
        activation: request.given.activation_bytes.map(Bytes::new),
        non_torch: request.given.non_torch_bytes.map(Bytes::new),
        kv_free: request.given.kv_free_bytes.map(Bytes::new),
        kv_budget: request.given.kv_budget_bytes.map(Bytes::new),
    };
    let companions = companions(engine, &options, desk)?;
    let profile = desk.profile();
    let mut prepared = Prepared {
        loaded,
        companions,
        card,
        cards,
        engine,
        version,
        options,
        inert,
        given,
        notes,
        assumptions,
        profile,
        depth: Depth::Whole,
    };
    let lacking = support::notes(&prepared);
    prepared.notes.splice(0..0, lacking);
    Ok(prepared)
}

/// Opens the files that options name beside the model; those that are no GGUF files are left to the engine's notes.
fn companions(engine: &str, options: &Map<String, Value>, desk: &Desk<'_>) -> Result<Vec<(String, Arc<Gguf>)>, Error> {
    let mut found = Vec::new();
    if engine != llamacpp::NAME && engine != ollama::NAME {
        return Ok(found);
    }
    for key in ["model_draft", "mmproj", "lora", "lora_scaled", "adapters"] {
        let names: Vec<&str> = match options.get(key) {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        };
        for name in names.into_iter().flat_map(|names| names.split(',')) {
            let scaled = name.rsplit_once(':').filter(|(_, scale)| scale.parse::<f64>().is_ok());
            let name = scaled.map_or(name, |(name, _)| name).trim();
            if name.ends_with(".gguf")
                && let Some(gguf) = desk.gguf(name)?
            {
                fits_option(key, name, &gguf)?;
                found.push((name.to_owned(), gguf));
            }
        }
    }
    Ok(found)
}

/// Refuses a file that is of another kind than its option takes.
///
/// Source: llama.cpp 0c1e57098, `src/llama-adapter.cpp` (`general.type`, `adapter.type`), `tools/mtmd/clip.cpp`.
fn fits_option(key: &str, name: &str, gguf: &Gguf) -> Result<(), Error> {
    let text = |key: &str| gguf.metadata.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let (kind, architecture) = (text("general.type"), text("general.architecture"));
    let (fits, wanted) = match key {
        "mmproj" => (architecture == "clip", "projector (general.architecture clip)"),
        "model_draft" => (architecture != "clip" && !["adapter", "mmproj"].contains(&kind), "language model"),
        _ => (kind == "adapter", "adapter (general.type adapter)"),
    };
    if fits {
        return Ok(());
    }
    let kind = if kind.is_empty() { "model" } else { kind };
    let shown: String = format!("general.type {kind}, architecture {architecture}").chars().take(80).collect();
    Err(Error::Request(format!("--{}: {name} is no {wanted}: it says {shown}", key.replace('_', "-"))))
}

/// Returns the name by which an engine is known here: `trtllm` is `tensorrt-llm`.
///
/// # Errors
/// [`Error::Request`] names the engines that are built in.
pub fn canonical_engine(name: &str) -> Result<&'static str, Error> {
    let plain = name.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    let found = ENGINES.iter().find(|row| row.name == plain || row.aliases.contains(&plain.as_str()));
    found.map(|row| row.name).ok_or_else(|| {
        let names: Vec<&str> = ENGINES.iter().map(|row| row.name).collect();
        Error::Request(format!("engine `{name}` is not built in; supported: {}", names.join(", ")))
    })
}

/// Settles which engine is meant.
fn engine(asked: Option<&str>, command: Option<&'static str>) -> Result<&'static str, Error> {
    match (asked.map(canonical_engine).transpose()?, command) {
        (Some(asked), Some(command)) if asked != command => {
            Err(Error::Request(format!("the engine is {asked}, but the command starts {command}")))
        }
        (Some(engine), _) | (None, Some(engine)) => Ok(engine),
        (None, None) => Err(Error::Request("no engine: give --engine or a launch command after `--`".into())),
    }
}

/// Reads a release as the engine numbers them: llama.cpp counts builds, the others have points.
fn read_version(engine: &str, text: &str) -> Result<Version, String> {
    if engine != llamacpp::NAME {
        return text.parse();
    }
    let version = text.parse::<Version>().ok().filter(|version| version.is_build() && !text.contains('.'));
    version.ok_or_else(|| {
        format!(
            "`{text}` is no build of llama.cpp: give its number, such as b10573 (`llama-server --version` prints it)"
        )
    })
}

/// Says where a release lies outside those whose rules are built in.
fn outside(row: &EngineRow, version: Version) -> Option<String> {
    let EngineRow { name, oldest, newest, .. } = row;
    if version > *newest {
        let whose = "the newest release whose rules are built in";
        return Some(format!("{name} {version} is newer than {newest}, {whose}; planned by the rules of {newest}"));
    }
    (version < *oldest).then(|| {
        let whose = "the oldest release whose rules are built in";
        format!("{name} {version} is older than {oldest}, {whose}; planned by the rules of {oldest}")
    })
}

/// Looks the cards up, with the user's own total where there is one.
fn cards(
    request: &PlanRequest,
    desk: &Desk<'_>,
    (engine, version): (&'static str, Version),
) -> Result<Vec<Card>, Error> {
    let own_total = request.gpu_total_bytes.map(|bytes| Estimate::exact(Bytes::new(bytes), Source::Given));
    let Some(text) = request.gpu.as_deref() else {
        let Some(total) = own_total else {
            return Err(Error::Request("no card: give --gpu NAME[:COUNT] or --gpu-memory".into()));
        };
        let name = format!("a card of {}", total.bytes);
        let card = Card { name, total, compute_capability: None, sm_count: None, unified: false, count: ANY_NUMBER };
        return Ok(vec![card]);
    };
    let asked = GpuRequest::parse_list(text)?;
    let several = asked.len() > 1;
    let found = asked.into_iter().map(|asked| {
        let gpu = desk.gpu(&asked.name)?;
        support::runs_on(engine, version, &gpu)?;
        let Some(total) = own_total.clone().or_else(|| gpu.total()) else {
            return Err(plimsoll_plan::Error::UnknownMemory { gpu: gpu.name.clone() }.into());
        };
        Ok(Card {
            name: gpu.name.clone(),
            total,
            compute_capability: gpu.compute_capability,
            sm_count: gpu.sm_count,
            unified: gpu.unified,
            count: asked.count.unwrap_or(if several { 1 } else { ANY_NUMBER }),
        })
    });
    found.collect()
}

/// Applies the engine's rules, with what was measured of the same launch where a profile knows it.
///
/// # Errors
/// [`Error::Plan`] when the rules reject the question.
pub fn run(prepared: &Prepared) -> Result<Plan, Error> {
    let plan = by_rules(prepared)?;
    match learned::of(prepared, &plan) {
        Some(learned) => learned.applied(prepared),
        None => Ok(plan),
    }
}

/// Applies the engine's rules alone.
pub(crate) fn by_rules(prepared: &Prepared) -> Result<Plan, Error> {
    let Prepared { loaded, companions, cards, engine, version, options, given, .. } = prepared;
    let (model, version) = (&loaded.model, *version);
    let gguf = loaded.gguf.as_deref();
    let companions: Vec<Companion<'_>> = companions.iter().map(|(name, gguf)| Companion { name, gguf }).collect();
    let depth = prepared.depth;
    let question = Question { model, gguf, companions: &companions, cards, version, options, given, depth };
    if gguf.is_some() && !reads_gguf(engine) {
        return Err(plimsoll_plan::Error::Unsupported {
            engine,
            version: version.to_string(),
            why: "GGUF files are planned for llama.cpp and Ollama; give the model's folder with its config.json"
                .to_owned(),
        }
        .into());
    }
    if let (Some(gguf), llamacpp::NAME) = (gguf, *engine) {
        llamacpp::check::check(gguf)?;
    }
    Ok(match *engine {
        trtllm::NAME => {
            let options = trtllm::Options::from_map(options, version)?;
            let card = question.card(trtllm::NAME)?;
            trtllm::plan_to(&trtllm::Case { model, card, version, options: &options, given }, depth)?
        }
        sglang::NAME => sglang::plan(&question)?,
        llamacpp::NAME => {
            let mut plan = llamacpp::plan(&question)?;
            // That only the header is at hand is no news to a plan.
            let said = gguf.iter().flat_map(|gguf| &gguf.notes).filter(|note| !note.contains("enough to plan by"));
            plan.notes.extend(said.cloned());
            let architecture = gguf.and_then(|gguf| gguf.architecture().ok());
            if let Some(name) = architecture.filter(|name| llamacpp::graph::arch::builder(name).is_none()) {
                plan.notes
                    .push(format!("the graph of architecture {name} is not built in: compute buffers are estimates"));
            }
            plan
        }
        ollama::NAME => ollama::plan(&question)?,
        transformers::NAME => transformers::plan(&question)?,
        _ => {
            let options = vllm::options::Options::from_map(options, version)?;
            let card = question.card("vllm")?;
            vllm::plan_to(&vllm::Case { model, card, version, options: &options, given }, depth)?
        }
    })
}

/// What would make a borderline launch safe, for engines that can say it.
fn safer(prepared: &Prepared) -> Vec<Remedy> {
    let Prepared { loaded, cards, engine, version, options, given, .. } = prepared;
    let (model, version, [card]) = (&loaded.model, *version, cards.as_slice()) else { return Vec::new() };
    let found = match *engine {
        trtllm::NAME => trtllm::Options::from_map(options, version)
            .and_then(|options| trtllm::safer(&trtllm::Case { model, card, version, options: &options, given })),
        "vllm" => vllm::options::Options::from_map(options, version)
            .and_then(|options| vllm::safer(&vllm::Case { model, card, version, options: &options, given })),
        _ => Ok(Vec::new()),
    };
    // The same question has been answered: it holds no error.
    found.unwrap_or_default()
}

/// Puts a plan into the promised form.
pub(crate) fn answer(prepared: &Prepared, plan: Plan) -> PlanAnswer {
    let heads = heads::of(prepared, &plan);
    let state = plan.state();
    let mut assumptions = prepared.assumptions.clone();
    assumptions.extend(plan.assumptions);
    let mut notes = prepared.notes.clone();
    notes.extend(plan.notes);
    let mut verdict = verdict(plan.verdict);
    if state == State::Borderline && verdict.fits {
        verdict.remedies = safer(prepared).into_iter().map(remedy).collect();
    }
    PlanAnswer {
        model: heads.model,
        engine: heads.engine,
        gpu: heads.gpu,
        parallel: heads.parallel,
        ranks: plan.ranks.iter().map(|found| rank(found, &prepared.cards)).collect(),
        scarcest: plan.scarcest,
        kv: kv(plan.kv),
        max_model_len: plan.max_model_len,
        max_context_tokens: plan.max_context_tokens,
        verdict: VerdictAnswer { state: state.name().into(), margin: plan.margin.into(), ..verdict },
        host: plan.host.map(|ledger| HostAnswer { total_bytes: ledger.total().get(), entries: entries(&ledger) }),
        assumptions,
        notes,
        launch: launch::join(&plan.launch),
    }
}

/// A source as `kind: detail`, as its `Display` writes it; put together by hand because a batch does it a million times.
pub(crate) fn source_text(source: &Source) -> String {
    let (kind, detail) = (source.kind(), source.detail());
    if detail.is_empty() {
        return kind.to_owned();
    }
    let mut text = String::with_capacity(kind.len() + 2 + detail.len());
    text.push_str(kind);
    text.push_str(": ");
    text.push_str(detail);
    text
}

/// The card behind a device's name, such as `CUDA1`.
fn card_of(device: &str, cards: &[Card]) -> Option<String> {
    let digits = device.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut at: u32 = digits.parse().ok()?;
    for card in cards {
        if at < card.count {
            return Some(card.name.clone());
        }
        at -= card.count;
    }
    None
}

/// One rank in the promised form.
fn rank(rank: &Rank, cards: &[Card]) -> RankAnswer {
    RankAnswer {
        device: rank.device.clone(),
        card: rank.device.as_deref().and_then(|device| card_of(device, cards)),
        card_bytes: rank.total.get(),
        pp_rank: rank.pp_rank,
        tp_rank: rank.tp_rank,
        limit_bytes: rank.limit.get(),
        total_bytes: rank.ledger.total().get(),
        kv_budget_bytes: rank.kv_budget.bytes.get(),
        entries: entries(&rank.ledger),
    }
}

/// The lines of a ledger in the promised form.
fn entries(ledger: &plimsoll_plan::Ledger) -> Vec<EntryAnswer> {
    let entry = |entry: &plimsoll_plan::Entry| EntryAnswer {
        item: entry.item.name().into(),
        bytes: entry.size.bytes.get(),
        low: entry.size.low.get(),
        high: entry.size.high.get(),
        source: source_text(&entry.size.source),
        note: entry.note.clone(),
    };
    ledger.entries.iter().map(entry).collect()
}

/// The KV cache in the promised form.
fn kv(kv: plimsoll_plan::Kv) -> KvAnswer {
    KvAnswer {
        bytes_per_token: kv.bytes_per_token,
        block_tokens: kv.block_tokens,
        blocks: kv.blocks,
        tokens: kv.tokens,
        budget_bytes: kv.budget.bytes.get(),
        budget_low: kv.budget.low.get(),
        budget_high: kv.budget.high.get(),
        max_concurrency: kv.max_concurrency,
        concurrency_at_tokens: kv.concurrency_at_tokens,
        groups: kv
            .groups
            .into_iter()
            .map(|group| KvGroupAnswer {
                kind: group.kind,
                layers: group.layers,
                block_tokens: group.block_tokens,
                page_bytes: group.page_bytes,
                blocks_per_request: group.blocks_per_request,
            })
            .collect(),
        logged: LoggedAnswer {
            kv_tokens: kv.logged.kv_tokens,
            gib: kv.logged.gib,
            blocks: kv.logged.blocks,
            concurrency: kv.logged.concurrency,
            lines: kv.logged.lines,
        },
    }
}

/// The verdict in the promised form.
fn verdict(verdict: Verdict) -> VerdictAnswer {
    match verdict {
        Verdict::Fits { spare } => VerdictAnswer {
            fits: true,
            state: Cow::Borrowed("fits"),
            margin: MarginAnswer::default(),
            spare_bytes: Some(spare.get()),
            short_by_bytes: None,
            binding: None,
            refusal: None,
            remedies: Vec::new(),
        },
        Verdict::DoesNotFit { short_by, binding, refusal, remedies } => VerdictAnswer {
            fits: false,
            state: Cow::Borrowed("does_not_fit"),
            margin: MarginAnswer::default(),
            spare_bytes: None,
            short_by_bytes: Some(short_by.get()),
            binding: Some(binding),
            refusal: refusal.map(|refusal| refusal.message),
            remedies: remedies.into_iter().map(remedy).collect(),
        },
    }
}

fn remedy(remedy: Remedy) -> RemedyAnswer {
    let Remedy { change, flags, fits, kv_tokens, max_context_tokens, cost } = remedy;
    RemedyAnswer { change, flags, fits, kv_tokens, max_context_tokens, cost }
}
