//! How does Ollama divide a GPU? It decides how many layers go there, by an estimate of its own until 0.30, and then
//! llama.cpp (or an engine that allocates as it does) takes what it takes. Both numbers are shown: public reports mix them.

pub mod decide;
pub mod estimate;
pub mod flags;
pub mod graph;
pub mod layout;
mod llama;
pub mod modelfile;
pub mod options;
pub mod predict;
pub mod rules;
pub mod show;
pub mod sizes;
pub mod tag;

use plimsoll_facts::gguf::{FileType, Gguf, from_model};
use plimsoll_units::{Bytes, Estimate, Source};

use crate::engine::{Depth, Question};
use crate::{Error, Item, Ledger, Plan, Remedy, Verdict, Version};
use decide::{Decision, Settled};
use options::Options;
use rules::Generation;

/// The engine's name in answers.
pub const NAME: &str = "ollama";
/// The newest release whose rules are built in.
pub const NEWEST: Version = Version::new(0, 33, 0);
/// The oldest release whose rules are built in.
pub const OLDEST: Version = Version::new(0, 3, 0);
/// Keys of a request's `options` that are no flags of the command.
pub const KEYS: [&str; 2] = ["adapters", "model_name"];

/// Plans a load.
///
/// # Errors
/// [`Error`] for options that are none, a model that llama.cpp does not know, or a file that lacks what is needed.
pub fn plan(question: &Question<'_>) -> Result<Plan, Error> {
    let options = Options::from_map(question.options)?;
    let (made, mut assumptions) = match question.gguf {
        Some(_) => (None, Vec::new()),
        None => {
            let (made, assumption) = assumed(question, &options)?;
            (Some(made), vec![assumption])
        }
    };
    let gguf = match (question.gguf, &made) {
        (Some(gguf), _) | (None, Some(gguf)) => gguf,
        (None, None) => return Err(Error::Request("no model file".to_owned())),
    };
    let mut settled = Settled::new(question, options, gguf)?;
    assumptions.append(&mut settled.assumptions);
    settled.assumptions = assumptions;
    let decision = match settled.generation {
        Generation::Estimator => settled.by_estimate(),
        Generation::LayoutByFormula => settled.by_layout(None),
        Generation::LayoutByMeasure => settled.by_layout(Some(graph(question, gguf, &settled)?)),
        Generation::LlamaServer => settled.by_server(),
    };
    let plan = llama::plan(question, gguf, &settled, &decision)?;
    Ok(written(question, &settled, &decision, plan))
}

/// The file of the library's type that the converter would make of a configuration.
fn assumed(question: &Question<'_>, options: &Options) -> Result<(Gguf, String), Error> {
    let kind = match options.file_type.as_deref() {
        Some(text) => FileType::parse(text).ok_or_else(|| Error::Flag {
            flag: "file_type".to_owned(),
            found: text.chars().take(60).collect(),
            expected: "a file type such as Q4_K_M, Q8_0 or F16".to_owned(),
        })?,
        None => FileType::Q4KM,
    };
    let made = from_model(question.model, kind).map_err(|error| Error::Unsupported {
        engine: NAME,
        version: question.version.to_string(),
        why: format!("{error}; give the .gguf file itself"),
    })?;
    let why = if options.file_type.is_some() { "asked for" } else { "the library's default" };
    Ok((made, format!("the file is taken to be {} ({why}), as llama.cpp's converter writes it", kind.name())))
}

/// The compute graph of the Ollama engine, which it measures when it loads: llama.cpp's is taken, everything on the GPUs.
fn graph(question: &Question<'_>, gguf: &Gguf, settled: &Settled<'_>) -> Result<u64, Error> {
    let all = settled.sizes.layers.len() as u64 + 1;
    let first = (0..settled.free.len()).max_by_key(|at| settled.free[*at]).unwrap_or(0);
    let decision = Decision { cards: vec![first], layers: Some(all), ..Decision::default() };
    let question = Question { depth: Depth::Ledger, ..*question };
    let plan = llama::plan(&question, gguf, settled, &decision)?;
    Ok(plan.ranks.first().map_or(0, |rank| rank.ledger.bytes(Item::Activation).get()))
}

/// The plan in Ollama's words.
fn written(question: &Question<'_>, settled: &Settled<'_>, decision: &Decision, mut plan: Plan) -> Plan {
    plan.engine = NAME;
    plan.version = settled.version;
    if settled.generation == Generation::LayoutByMeasure {
        widen(&mut plan);
    }
    let held = show::held(&plan.kv.logged.lines);
    // A fit that puts single tensors in host memory overflows layers that count as offloaded.
    let beside = |entry: &crate::Entry| entry.item.is_weights() && entry.item != Item::WeightsEmbedding;
    let whole = !plan.host.iter().flat_map(|host| &host.entries).any(beside);
    let (total, on_gpu) = decision.estimated.unwrap_or_else(|| held.shown(settled.sizes.file, whole));
    let mut lines = decision.lines.clone();
    if settled.generation == Generation::LayoutByMeasure {
        lines.extend(summary(&plan));
        plan.kv.logged.lines.retain(|line| line.contains(" layers to GPU"));
    }
    lines.append(&mut plan.kv.logged.lines);
    let name = settled.options.name.as_deref().unwrap_or(&question.model.id);
    lines.push(show::ps(name, total, on_gpu, settled.context));
    plan.kv.logged.lines = lines;
    plan.max_model_len = settled.context;
    let mut assumptions = settled.assumptions.clone();
    assumptions.append(&mut plan.assumptions);
    plan.assumptions = assumptions;
    let mut notes = settled.notes.clone();
    notes.push(format!("decided by {}", settled.generation.name()));
    if let Some((estimated, on_gpu)) = decision.estimated {
        notes.push(format!(
            "Ollama's own estimate is {} of which {} on GPUs; llama.cpp allocates {}",
            show::human_binary(estimated),
            show::human_binary(on_gpu),
            show::human_binary(held.total)
        ));
    }
    notes.append(&mut plan.notes);
    plan.notes = notes;
    if let Verdict::DoesNotFit { remedies, .. } = &mut plan.verdict {
        let translated = std::mem::take(remedies).into_iter().filter_map(|remedy| {
            let flags = llama::flags(&remedy.flags, settled.parallel)?;
            Some(Remedy { flags, ..remedy })
        });
        *remedies = translated.collect();
    }
    plan.launch = command(name, settled);
    plan
}

/// What the Ollama engine's log sums up: weights, cache and graph, device by device (0.29, `ml/device.go`, `Log`).
fn summary(plan: &Plan) -> Vec<String> {
    let mut devices: Vec<(String, &Ledger)> = Vec::new();
    for (at, rank) in plan.ranks.iter().enumerate() {
        devices.push((rank.device.clone().unwrap_or_else(|| format!("CUDA{at}")), &rank.ledger));
    }
    if let Some(host) = &plan.host {
        devices.push(("CPU".to_owned(), host));
    }
    let mut lines = Vec::new();
    let mut total = Bytes::ZERO;
    for (what, item) in
        [("model weights", None), ("kv cache", Some(Item::Kv)), ("compute graph", Some(Item::Activation))]
    {
        for (device, ledger) in &devices {
            let bytes = item.map_or_else(|| ledger.weights(), |item| ledger.bytes(item));
            total += bytes;
            if bytes > Bytes::ZERO {
                lines.push(format!("msg=\"{what}\" device={device} size=\"{}\"", show::human_binary(bytes.get())));
            }
        }
    }
    lines.push(format!("msg=\"total memory\" size=\"{}\"", show::human_binary(total.get())));
    lines
}

/// The Ollama engine builds graphs of its own; llama.cpp's are what is known.
fn widen(plan: &mut Plan) {
    for rank in &mut plan.ranks {
        for entry in &mut rank.ledger.entries {
            if entry.item == Item::Activation {
                let bytes = entry.size.bytes.as_f64();
                let source = Source::Assumed("llama.cpp's graph in place of the Ollama engine's own".into());
                entry.size = Estimate::between(
                    Bytes::from_f64(bytes * 0.5),
                    entry.size.bytes,
                    Bytes::from_f64(bytes * 2.0),
                    source,
                );
            }
        }
    }
}

/// The command that loads it so.
fn command(id: &str, settled: &Settled<'_>) -> Vec<String> {
    let mut words = vec![format!("OLLAMA_CONTEXT_LENGTH={}", settled.context)];
    if settled.parallel > 1 {
        words.push(format!("OLLAMA_NUM_PARALLEL={}", settled.parallel));
    }
    if let Some(flash) = settled.options.flash {
        words.push(format!("OLLAMA_FLASH_ATTENTION={}", u8::from(flash)));
    }
    if settled.cache != options::CacheType::F16 {
        words.push(format!("OLLAMA_KV_CACHE_TYPE={}", settled.cache.name()));
    }
    if settled.options.overhead > 0 {
        words.push(format!("OLLAMA_GPU_OVERHEAD={}", settled.options.overhead));
    }
    if settled.options.spread {
        words.push("OLLAMA_SCHED_SPREAD=1".to_owned());
    }
    words.extend(["ollama".to_owned(), "run".to_owned(), id.to_owned()]);
    words
}
