//! What of all that could be run would fit? Every combination of models, cards, engines, divisions, formats, contexts and
//! batches, one row each, in an order that follows from the request.
//!
//! ```
//! use plimsoll_api::sweep::{Sweep, SweepRequest};
//! use plimsoll_api::{Desk, NoFiles};
//! let request = SweepRequest {
//!     models: vec!["llama-3.1-8b".into(), "qwen3-32b".into()],
//!     gpus: vec!["h100-sxm".into(), "rtx-4090".into()],
//!     context: vec![4096, 32_768],
//!     batch: vec![1, 16],
//!     ..SweepRequest::default()
//! };
//! let desk = Desk::new(&NoFiles);
//! let sweep = Sweep::new(&request, &desk)?;
//! assert_eq!((sweep.total(), sweep.launches(), sweep.loads()), (16, 8, 2));
//! let row = &sweep.rows(0)[1];
//! assert_eq!((row.context, row.batch, row.load.unwrap().kv_needed_bytes), (4096, 16, 8 << 30));
//! # Ok::<(), plimsoll_api::Error>(())
//! ```

mod axes;
mod request;
mod row;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::sync::{Arc, RwLock};

use plimsoll_facts::catalogue;
use plimsoll_plan::engine::Depth;
use plimsoll_plan::{Item, Plan};
use serde_json::json;

pub use axes::{AXES, Axes};
pub use request::SweepRequest;
pub use row::{COLUMNS, Cell, Column, Kind, SweepLoad, SweepPlan, SweepRow};

use crate::standing::Standing;
use crate::vary::{Base, Knob, Setting, Varied, allocates, need};
use crate::{Desk, Error, GpuRequest, PlanRequest};

/// Rows at most.
const MOST_ROWS: u64 = 1 << 40;

/// Launches that are looked up and kept: more than there are threads, each of which goes from one to the next.
const KEPT: usize = 256;

/// A launch looked up, or why it cannot be.
type Found<'d> = Arc<Result<Base<'d>, Arc<str>>>;

/// Launches that were looked up, by their models, cards and engines, and in the order in which they were.
#[derive(Default)]
struct Kept<'d> {
    found: BTreeMap<u64, Found<'d>>,
    order: VecDeque<u64>,
}

/// A sweep that was checked: rows by number, the same whenever and on whatever thread they are asked for.
///
/// Rows come launch by launch: those of one launch differ in their batch alone.
pub struct Sweep<'d> {
    desk: &'d Desk<'d>,
    request: SweepRequest,
    axes: Axes,
    models: Vec<Arc<str>>,
    gpus: Vec<Arc<str>>,
    engines: Vec<&'static str>,
    formats: Vec<Arc<str>>,
    kv_formats: Vec<Arc<str>>,
    fingerprint: String,
    warnings: Vec<String>,
    kept: RwLock<Kept<'d>>,
}

impl<'d> Sweep<'d> {
    /// Checks a request and looks its models and cards up. One that is not there is a warning, and its rows say why.
    ///
    /// # Errors
    /// [`Error`] when a list is empty or out of range, an engine is not built in, or no model or no card is there at all.
    pub fn new(request: &SweepRequest, desk: &'d Desk<'d>) -> Result<Sweep<'d>, Error> {
        request.check()?;
        let mut request = request.clone();
        request.models = all(&request.models, || catalogue::model_ids().map(str::to_owned).collect());
        request.gpus = all(&request.gpus, || catalogue::gpus().map(|gpu| gpu.name).collect());
        let engines = if request.engines.is_empty() { vec!["vllm".to_owned()] } else { request.engines.clone() };
        let engines: Vec<&'static str> =
            engines.iter().map(|name| crate::plan::canonical_engine(name)).collect::<Result<_, _>>()?;
        request.engines = engines.iter().map(|name| (*name).to_owned()).collect();
        let (warnings, facts) = facts(&request, desk)?;
        let some = |list: usize| list.max(1) as u64;
        let lengths = [
            request.models.len() as u64,
            request.gpus.len() as u64,
            engines.len() as u64,
            some(request.tp.len()),
            some(request.pp.len()),
            some(request.formats.len()),
            some(request.kv_formats.len()),
            request.context.len() as u64,
            request.batch.len() as u64,
        ];
        let axes = Axes::new(lengths).filter(|axes| axes.total() <= MOST_ROWS).ok_or_else(|| {
            let lengths: Vec<String> = lengths.iter().map(u64::to_string).collect();
            Error::Request(format!("{} rows are more than {MOST_ROWS}: divide the sweep", lengths.join(" × ")))
        })?;
        let shared = |list: &[String]| list.iter().map(|name| Arc::from(name.as_str())).collect();
        let fingerprint = json!({ "plimsoll": env!("CARGO_PKG_VERSION"), "request": request, "facts": facts });
        Ok(Sweep {
            desk,
            axes,
            models: shared(&request.models),
            gpus: shared(&request.gpus),
            engines,
            formats: shared(&request.formats),
            kv_formats: shared(&request.kv_formats),
            fingerprint: fingerprint.to_string(),
            warnings,
            kept: RwLock::default(),
            request,
        })
    }

    /// Returns how many rows there are.
    pub const fn total(&self) -> u64 {
        self.axes.total()
    }

    /// Returns how many launches there are: combinations of everything but the batch.
    pub fn launches(&self) -> u64 {
        self.axes.total() / self.loads()
    }

    /// Returns how many rows each launch has: one a batch.
    pub fn loads(&self) -> u64 {
        self.request.batch.len() as u64
    }

    /// Returns which row stands where on the axes.
    pub const fn axes(&self) -> &Axes {
        &self.axes
    }

    /// Returns what is asked as one line of JSON: `all` written out, with the version and a digest of the models' facts.
    /// Two sweeps have the same rows when these are equal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns which models and cards are not there.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the request for a plan of a launch, as `plan` would be asked; its options of division, context and format
    /// are put in when it is planned.
    fn launch(&self, place: [u64; AXES]) -> PlanRequest {
        PlanRequest {
            model: Some(self.models[place[0] as usize].to_string()),
            gpu: Some(self.gpus[place[1] as usize].to_string()),
            engine: Some(self.engines[place[2] as usize].to_owned()),
            ..self.request.launch.clone()
        }
    }

    /// Returns the rows of a launch, in the order of their batches; none beyond the last launch.
    pub fn rows(&self, launch: u64) -> Vec<SweepRow> {
        let Some(place) = launch.checked_mul(self.loads()).and_then(|row| self.axes.place(row)) else {
            return Vec::new();
        };
        let base = self.base(place);
        let settings = self.settings(place);
        let context = self.request.context[place[7] as usize];
        let empty = self.empty(place, context);
        let found = match base.as_ref() {
            Ok(base) => base,
            Err(why) => return self.request.batch.iter().map(|batch| empty.refused(*batch, why)).collect(),
        };
        if allocates(self.engines[place[2] as usize]) {
            // Their cache is made for the batch: every row is a launch of its own.
            let row = |batch: &u64| {
                let mut settings = settings.clone();
                settings.push(Setting::new(Knob::Batch, *batch));
                match found.at_depth(&settings, Depth::Outcome) {
                    Ok(varied) => empty.planned(&varied).loaded(&varied, *batch),
                    Err(error) => empty.refused(*batch, &Arc::from(error.to_string())),
                }
            };
            return self.request.batch.iter().map(row).collect();
        }
        match found.at_depth(&settings, Depth::Outcome) {
            Ok(varied) => {
                let planned = empty.planned(&varied);
                self.request.batch.iter().map(|batch| planned.loaded(&varied, *batch)).collect()
            }
            Err(error) => {
                let why = Arc::from(error.to_string());
                self.request.batch.iter().map(|batch| empty.refused(*batch, &why)).collect()
            }
        }
    }

    /// Looks a launch's model, card and engine up, or finds them as they were.
    fn base(&self, place: [u64; AXES]) -> Found<'d> {
        let key = (place[0] * self.gpus.len() as u64 + place[1]) * self.engines.len() as u64 + place[2];
        if let Some(known) = self.kept.read().ok().and_then(|kept| kept.found.get(&key).cloned()) {
            return known;
        }
        let base = Base::new(&self.launch(place), self.desk).map_err(|error| Arc::from(error.to_string()));
        let base = Arc::new(base);
        let Ok(mut kept) = self.kept.write() else { return base };
        if let Some(known) = kept.found.get(&key) {
            return Arc::clone(known);
        }
        kept.found.insert(key, Arc::clone(&base));
        kept.order.push_back(key);
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.found.remove(&oldest);
        }
        base
    }

    /// What a launch sets beside the common flags.
    fn settings(&self, place: [u64; AXES]) -> Vec<Setting> {
        let request = &self.request;
        let mut settings = vec![Setting::new(Knob::Context, request.context[place[7] as usize])];
        let mut add = |knob, value: Option<crate::vary::Value>| {
            settings.extend(value.map(|value| Setting { knob, value }));
        };
        add(Knob::Tp, request.tp.get(place[3] as usize).map(|tp| (*tp).into()));
        add(Knob::Pp, request.pp.get(place[4] as usize).map(|pp| (*pp).into()));
        add(Knob::Format, request.formats.get(place[5] as usize).map(|format| format.as_str().into()));
        add(Knob::KvFormat, request.kv_formats.get(place[6] as usize).map(|format| format.as_str().into()));
        settings
    }

    /// A row with what was asked for.
    fn empty(&self, place: [u64; AXES], context: u64) -> SweepRow {
        let gpu = &self.gpus[place[1] as usize];
        let count = GpuRequest::parse(gpu).ok().and_then(|gpu| gpu.count).map(u64::from);
        SweepRow {
            model: Arc::clone(&self.models[place[0] as usize]),
            gpu: Arc::clone(gpu),
            gpu_count: count,
            engine: self.engines[place[2] as usize],
            tp: self.request.tp.get(place[3] as usize).copied(),
            pp: self.request.pp.get(place[4] as usize).copied(),
            format: self.formats.get(place[5] as usize).cloned(),
            kv_format: self.kv_formats.get(place[6] as usize).cloned(),
            context,
            ..SweepRow::default()
        }
    }
}

impl SweepRow {
    fn refused(&self, batch: u64, why: &Arc<str>) -> SweepRow {
        SweepRow { batch, error: Some(Arc::clone(why)), ..self.clone() }
    }

    /// The row of a planned launch, without a load.
    fn planned(&self, varied: &Varied) -> SweepRow {
        let Varied { prepared, plan, .. } = varied;
        SweepRow {
            gpu: Arc::from(prepared.card.name.as_str()),
            gpu_count: Some(u64::from(plan.parallel.gpus())),
            engine_version: Some(Arc::from(plan.version.to_string())),
            tp: Some(u64::from(plan.parallel.tp)),
            pp: Some(u64::from(plan.parallel.pp)),
            plan: plan.ranks.get(plan.scarcest).map(|_| SweepPlan::of(plan, Standing::of(varied, Some(self.context)))),
            ..self.clone()
        }
    }

    fn loaded(&self, varied: &Varied, batch: u64) -> SweepRow {
        let need = need(varied, batch, self.context);
        SweepRow { batch, load: Some(SweepLoad { kv_needed_bytes: need.kv.get(), fits: need.fits }), ..self.clone() }
    }
}

impl SweepPlan {
    /// The figures of a plan's scarcest rank.
    fn of(plan: &Plan, standing: Standing) -> SweepPlan {
        let rank = &plan.ranks[plan.scarcest];
        let Standing { state, fits, binding, margin } = standing;
        let (weights, total) = (rank.ledger.weights(), rank.ledger.total());
        let (activation, kv) = (rank.ledger.bytes(Item::Activation), rank.ledger.bytes(Item::Kv));
        SweepPlan {
            state,
            fits,
            binding: binding.as_deref().map(Arc::from),
            weights_bytes: weights.get(),
            activation_bytes: activation.get(),
            runtime_bytes: total.saturating_sub(weights + activation + kv).get(),
            kv_bytes: kv.get(),
            total_bytes: total.get(),
            card_bytes: rank.total.get(),
            limit_bytes: rank.limit.get(),
            host_bytes: plan.host.as_ref().map_or(0, |host| host.total().get()),
            kv_budget_bytes: plan.kv.budget.bytes.get(),
            kv_budget_low: plan.kv.budget.low.get(),
            kv_budget_high: plan.kv.budget.high.get(),
            kv_bytes_per_token: plan.kv.bytes_per_token,
            kv_tokens: plan.kv.tokens,
            max_concurrency: plan.kv.max_concurrency,
            max_context_tokens: plan.max_context_tokens,
            margin_bytes: margin,
        }
    }
}

/// A list of names, where `all` stands for everything that is built in; each name once.
fn all(list: &[String], built_in: impl Fn() -> Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(list.len());
    for name in list.iter().map(|name| name.trim()) {
        if name.eq_ignore_ascii_case("all") {
            names.extend(built_in());
        } else {
            names.push(name.to_owned());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Looks all models and cards up: warnings for those that are not there, and a digest of the facts that are.
fn facts(request: &SweepRequest, desk: &Desk<'_>) -> Result<(Vec<String>, String), Error> {
    let mut warnings = Vec::new();
    let mut card = Err(Error::Request("no card".into()));
    for name in &request.gpus {
        match GpuRequest::parse(name).and_then(|asked| desk.gpu(&asked.name)) {
            Ok(_) if card.is_ok() => {}
            Ok(_) => card = Ok(name),
            Err(error) => {
                warnings.push(format!("gpu {name}: {error}"));
                card = card.or(Err(error));
            }
        }
    }
    let card = card?;
    let mut digest = Digest::default();
    let mut model = Err(Error::Request("no model".into()));
    for name in &request.models {
        let loaded = request.engines.iter().map(|engine| {
            let launch = PlanRequest {
                model: Some(name.clone()),
                gpu: Some(card.clone()),
                engine: Some(engine.clone()),
                ..request.launch.clone()
            };
            crate::prepare(&launch, desk).map(|prepared| prepared.loaded)
        });
        let mut why = None;
        for loaded in loaded {
            match loaded {
                // Writing to a digest does not fail.
                Ok(loaded) => {
                    let _ = write!(digest, "{:?}{:?}", loaded.model, loaded.gguf);
                    model = Ok(());
                }
                Err(error) => why = Some(error),
            }
        }
        if let Some(error) = why {
            warnings.push(format!("model {name}: {error}"));
            model = model.or(Err(error));
        }
    }
    model.map(|()| (warnings, format!("{:016x}", digest.0)))
}

/// FNV-1a over what is written to it.
struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
