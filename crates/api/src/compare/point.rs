//! What does one combination come to? A launch, planned and timed; what cannot be answered is a reason in its row.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_cost::Basis;
use plimsoll_facts::catalogue;
use plimsoll_facts::model::Model;
use plimsoll_facts::quant::Format;
use plimsoll_facts::tensor::DType;
use plimsoll_plan::engine::{Depth, sglang, transformers, trtllm};
use plimsoll_plan::{Batching, Plan, Section, State};

use super::answer::{ComparisonRow, PartAnswer, QualityAnswer, QualitySource};
use super::engines;
use super::request::{ComparisonRequest, Place};
use crate::plan::{Prepared, prepare, reads_gguf};
use crate::roofline::alone;
use crate::standing::{SHORTER, Standing};
use crate::support;
use crate::vary::{Base, Knob, Setting, Value, recast, set_file};
use crate::world::Loaded;
use crate::{Desk, Error, GpuRequest, PlanRequest, run_batched};

/// Tokens of a sequence where nobody says.
const AT_TOKENS: u64 = 4096;

/// Makes rows; models in other formats are made once.
pub(super) struct Maker<'r, 'd> {
    request: &'r ComparisonRequest,
    desk: &'d Desk<'d>,
    recast: BTreeMap<(String, String), Result<Arc<Loaded>, String>>,
    /// Whether engines are compared, so that each says what it does.
    pub(super) explain: bool,
    /// Where published quality comes from.
    pub(super) sources: Vec<QualitySource>,
    /// What was assumed or is to be known, by row.
    pub(super) said: Vec<Said>,
}

/// What a row rests on.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) assumptions: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl<'r, 'd> Maker<'r, 'd> {
    pub(super) fn new(request: &'r ComparisonRequest, desk: &'d Desk<'d>, explain: bool) -> Self {
        let (sources, said) = (Vec::new(), Vec::new());
        Maker { request, desk, recast: BTreeMap::new(), explain, sources, said }
    }

    /// Makes a row.
    ///
    /// # Errors
    /// [`Error`] when the question itself is malformed, whatever the combination.
    pub(super) fn row(&mut self, place: &Place) -> Result<ComparisonRow, Error> {
        let launch = &self.request.launch;
        let launch = PlanRequest {
            model: Some(place.model.clone()),
            gpu: place.gpu.clone().or_else(|| launch.gpu.clone()),
            engine: Some(place.engine.to_owned()),
            ..launch.clone()
        };
        let mut row = ComparisonRow {
            model: place.model.clone(),
            model_id: place.model.clone(),
            gpu: launch.gpu.clone().unwrap_or_else(|| "given memory".to_owned()),
            engine: place.engine.into(),
            format: place.format.map_or_else(|| "own".to_owned(), Format::name),
            kv_format: place.kv_format.clone(),
            batch: place.batch,
            ..ComparisonRow::default()
        };
        let prepared = match prepare(&launch, self.desk) {
            Ok(prepared) => prepared,
            Err(error) if error.is_malformed() => return Err(error),
            Err(error) => {
                row.reason = Some(error.to_string());
                self.said.push(Said::default());
                return Ok(row);
            }
        };
        let mut said = Said { assumptions: prepared.assumptions.clone(), notes: prepared.notes.clone() };
        said.notes.extend(prepared.loaded.model.notes.iter().filter(|note| note.contains("was taken as")).cloned());
        self.facts(&mut row, &prepared, place);
        if let Err(why) = self.answer(&mut row, prepared, place, &mut said) {
            row.reason = Some(why);
        }
        self.said.push(said);
        Ok(row)
    }

    /// Fills in what is known before anything is planned.
    fn facts(&mut self, row: &mut ComparisonRow, prepared: &Prepared, place: &Place) {
        let loaded = &prepared.loaded;
        row.model_id.clone_from(&loaded.model.id);
        row.gpu_name.clone_from(&prepared.card.name);
        row.engine_version = prepared.version.to_string();
        row.parameters = loaded.parameters;
        row.card_bytes = Some(prepared.card.total.bytes.get());
        let by_file = reads_gguf(prepared.engine) && loaded.gguf.is_none();
        let format = match place.format {
            None if by_file => Some(Format::Gguf(crate::hub::file_type(&prepared.options))),
            Some(format) if by_file => support::file_type(format).map(Format::Gguf).or(Some(format)),
            other => other,
        };
        row.format = match format {
            Some(format) => place.format.unwrap_or(format).name(),
            None => own(&loaded.model),
        };
        row.checkpoint_bytes = match format {
            None => Some(stored(&loaded.model)),
            Some(format) => self.recast(loaded, format).ok().map(|made| stored(&made.model)),
        };
        let format = format.map(Format::name).or_else(|| loaded.model.quant.is_none().then(|| own(&loaded.model)));
        row.quality = format.and_then(|format| self.quality(&loaded.model.id, &format));
    }

    /// Returns what was published about a model in a format.
    fn quality(&mut self, model: &str, format: &str) -> Option<QualityAnswer> {
        let found = catalogue::quality(model, format).into_iter().next()?;
        let source = QualitySource { protocol: found.protocol, source: found.source };
        let at = self.sources.iter().position(|known| *known == source).unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        Some(QualityAnswer { metric: found.metric.name().into(), value: found.value, change: found.change, source: at })
    }

    /// Returns a model with its weights in another format.
    fn recast(&mut self, loaded: &Arc<Loaded>, format: Format) -> Result<Arc<Loaded>, String> {
        let name = format.name();
        let make = || recast(loaded, &name).map_err(|error| error.to_string());
        self.recast.entry((loaded.model.id.clone(), name.clone())).or_insert_with(make).clone()
    }

    /// Plans and times a launch; the error is the row's reason.
    fn answer(
        &mut self,
        row: &mut ComparisonRow,
        mut prepared: Prepared,
        place: &Place,
        said: &mut Said,
    ) -> Result<(), String> {
        if let Some(format) = place.format {
            let refused = support::refusal(place.engine, prepared.version, format, prepared.card.compute_capability);
            if let Some(why) = refused {
                return Err(why);
            }
            self.set_format(&mut prepared, format)?;
        }
        let settings = settings(place, &prepared, said);
        let base = Base::of(prepared, Some(place.model.clone()), self.desk);
        let mut varied = base.at_depth(&settings, Depth::Outcome).map_err(|error| error.to_string())?;
        said.notes.append(&mut varied.notes);
        if !varied.prepared.inert.is_empty() {
            varied.plan = run_batched(&varied.prepared).map_err(|error| error.to_string())?;
        }
        let (prepared, plan) = (&varied.prepared, &varied.plan);
        said.assumptions.extend(plan.assumptions.iter().cloned());
        planned(row, plan);
        let asked =
            place.context.or_else(|| prepared.options.contains_key("context_length").then_some(plan.max_model_len));
        stands(row, Standing::of(&varied, asked));
        let halved = row.weights_bytes.zip(row.checkpoint_bytes).is_some_and(|(held, file)| held < file / 4 * 3);
        if place.format == Some(Format::Plain(DType::F32)) && halved && row.gpus == 1 {
            said.notes.push(format!("{} holds an fp32 checkpoint in 16 bits unless it is told otherwise", plan.engine));
        }
        let context = self.request.at_context.map(u64::from).or(place.context);
        row.at_tokens = context.unwrap_or_else(|| AT_TOKENS.min(plan.max_model_len.max(1)));
        row.at_batch = self.request.at_batch.or(place.batch.and_then(|batch| u32::try_from(batch).ok())).unwrap_or(1);
        row.at_tokens = row.at_tokens.max(1);
        let at = u32::try_from(row.at_tokens).unwrap_or(u32::MAX);
        let room = plan.ranks.iter().all(|rank| rank.short.get() == 0);
        let served = plan.max_model_len == 0 || row.at_tokens <= plan.max_model_len;
        row.concurrency = match plan.engine {
            _ if !(room && served) => Some(0),
            // What fits at once is known for the launch's own length alone.
            transformers::NAME if row.at_tokens != plan.max_model_len => {
                let settings: Vec<Setting> =
                    settings.into_iter().chain([Setting::new(Knob::Context, row.at_tokens)]).collect();
                base.at_depth(&settings, Depth::Outcome).ok().and_then(|other| alone::fitting(&other.plan, at))
            }
            _ => alone::fitting(plan, at),
        };
        if self.explain {
            row.does = engines::does(plan, row, &said.assumptions);
        }
        self.times(row, prepared, plan, place.format, at);
        Ok(())
    }

    /// Puts a format into a launch: as the file's type, or as another model.
    fn set_format(&mut self, prepared: &mut Prepared, format: Format) -> Result<(), String> {
        if prepared.loaded.gguf.is_some() {
            return Err(format!("{} is a GGUF file and has its types already", prepared.loaded.model.id));
        }
        match support::file_type(format).filter(|_| reads_gguf(prepared.engine)) {
            Some(kind) => set_file(prepared, kind.name()).map_err(|error| error.to_string())?,
            None => prepared.loaded = self.recast(&prepared.loaded, format)?,
        }
        Ok(())
    }

    /// Predicts a decode step and a prompt, where that means something.
    fn times(&self, row: &mut ComparisonRow, prepared: &Prepared, plan: &Plan, format: Option<Format>, context: u32) {
        let stored = format.or_else(|| bitsandbytes(&prepared.loaded.model));
        let why = support::untimed(plan.engine, stored).or_else(|| {
            let fits = plan.max_context_tokens >= u64::from(context);
            (!fits).then(|| format!("no sequence of {context} tokens fits"))
        });
        let why = why.or_else(|| {
            let fewer = row.concurrency.filter(|fits| *fits < u64::from(row.at_batch))?;
            Some(format!("{fewer} sequences of {context} tokens fit at once, not {}", row.at_batch))
        });
        if why.is_some() {
            row.times_reason = why;
            return;
        }
        match alone::times(prepared, plan, self.desk, &self.request.cost, (row.at_batch, context)) {
            Ok(times) => {
                let decode = times.decode;
                let roofline = decode.bases.iter().find(|basis| basis.name == Basis::Roofline.name());
                row.times_unmeasured = roofline.is_some_and(|basis| basis.share >= 0.5);
                row.decode_ms = Some(decode.predicted_ms);
                row.decode_low_ms = Some(decode.low_ms);
                row.decode_high_ms = Some(decode.high_ms);
                row.prefill_ms = Some(times.prefill.predicted_ms);
                row.prefill_low_ms = Some(times.prefill.low_ms);
                row.prefill_high_ms = Some(times.prefill.high_ms);
                row.tokens_per_s = Some(decode.tokens_per_s);
                row.tokens_per_s_per_user = Some(1e3 / decode.predicted_ms);
                row.tokens_per_s_per_gpu = Some(decode.tokens_per_s / f64::from(plan.parallel.gpus().max(1)));
            }
            Err(error) => {
                let text = error.to_string();
                row.times_reason = Some(text.lines().next().unwrap_or_default().to_owned());
            }
        }
    }
}

/// The settings of a combination; a card's count is the ranks of a tensor-parallel engine unless something else is said.
fn settings(place: &Place, prepared: &Prepared, said: &mut Said) -> Vec<Setting> {
    const DIVIDED: [&str; 12] = [
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "tp_size",
        "pp_size",
        "dp_size",
        "tp",
        "pp",
        "dp",
        "ep",
        "nnodes",
        "moe_expert_parallel_size",
    ];
    let ranked = ["vllm", sglang::NAME, trtllm::NAME].contains(&prepared.engine);
    let cards = place.gpu.as_deref().and_then(|gpu| GpuRequest::parse_list(gpu).ok());
    let count = match cards.as_deref() {
        Some([card]) => card.count.filter(|count| *count > 1),
        Some(_) | None => None,
    };
    let free = place.tp.is_none()
        && place.pp.is_none()
        && !DIVIDED.iter().any(|key| prepared.options.contains_key(*key) || prepared.inert.contains_key(*key));
    let tp = place.tp.or(count.filter(|_| ranked && free).map(|count| {
        said.assumptions
            .push(format!("the {count} cards are {count} tensor-parallel ranks; --tp and --pp say otherwise"));
        u64::from(count)
    }));
    let numbers = [(Knob::Tp, tp), (Knob::Pp, place.pp), (Knob::Context, place.context), (Knob::Batch, place.batch)];
    let mut settings: Vec<Setting> =
        numbers.into_iter().filter_map(|(knob, value)| Some(Setting::new(knob, value?))).collect();
    settings.extend(place.kv_format.clone().map(|name| Setting { knob: Knob::KvFormat, value: Value::Word(name) }));
    settings
}

/// Bytes of a checkpoint, drafting layers among them.
fn stored(model: &Model) -> u64 {
    let bytes = model.checkpoint_bytes();
    bytes.model.get().saturating_add(bytes.draft.get())
}

/// What a model is stored in, in a word.
fn own(model: &Model) -> String {
    match &model.quant {
        Some(quant) => quant.method.clone(),
        None => Format::Plain(model.dtype).name(),
    }
}

/// Whether a model as it is was stored by bitsandbytes.
fn bitsandbytes(model: &Model) -> Option<Format> {
    model.quant.as_ref().filter(|quant| quant.method == "bitsandbytes").map(|_| Format::Nf4 { double: false })
}

/// Fills in how a launch stands. Where the cache alone is too small a shorter context helps, whether the engine starts all the
/// same or not.
fn stands(row: &mut ComparisonRow, standing: Standing) {
    let cache = standing.binding.as_deref().is_none_or(|binding| binding == "kv");
    let shorter = !standing.fits && cache && row.max_context_tokens.is_some_and(|tokens| tokens > 0);
    let borderline = standing.state == State::Borderline.name();
    row.state = Some(if shorter && !borderline { SHORTER } else { standing.state }.into());
    row.margin_bytes = Some(standing.margin);
    row.binding = standing.binding;
}

/// Fills in what a plan says.
fn planned(row: &mut ComparisonRow, plan: &Plan) {
    row.gpus = plan.parallel.gpus();
    (row.tp, row.pp) = (plan.parallel.tp, plan.parallel.pp);
    row.context = plan.max_model_len;
    row.max_context_tokens = Some(plan.max_context_tokens);
    row.kv_bytes_per_token = Some(plan.kv.bytes_per_token);
    row.kv_tokens = Some(plan.kv.tokens);
    row.host_bytes = plan.host.as_ref().map_or(0, |host| host.total().get());
    row.step_tokens = plan.batching.as_ref().map(step_tokens);
    let Some(rank) = plan.ranks.get(plan.scarcest) else { return };
    row.card_bytes = Some(rank.total.get());
    row.limit_bytes = Some(rank.limit.get());
    row.weights_bytes = Some(rank.ledger.weights().get());
    row.kv_budget_bytes = Some(rank.kv_budget.bytes.get());
    row.short_bytes = rank.short.get();
    let mut parts: BTreeMap<Section, u64> = BTreeMap::new();
    for entry in &rank.ledger.entries {
        let bytes = parts.entry(entry.item.section()).or_default();
        *bytes = bytes.saturating_add(entry.size.bytes.get());
    }
    row.parts = parts.into_iter().map(|(section, bytes)| PartAnswer { part: section.name().into(), bytes }).collect();
}

/// Tokens that one step computes at most.
fn step_tokens(batching: &Batching) -> u64 {
    match batching {
        Batching::Vllm(of) => of.max_num_batched_tokens,
        Batching::Sglang(of) => {
            of.chunked_prefill_size.map_or(of.max_prefill_tokens, |size| size.min(of.max_prefill_tokens))
        }
        Batching::TensorRtLlm(of) => of.max_num_tokens,
    }
}
