//! What is compared? Lists of models, cards, formats, engines and settings; every combination is a row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::Axis;
use crate::plan::{canonical_engine, reads_gguf};
use crate::{CostRequest, Desk, Error, GpuRequest, PlanRequest};
use plimsoll_facts::quant::Format;

/// Rows of one answer at most.
pub const MOST_ROWS: usize = 10_000;

/// Asks for plans side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComparisonRequest {
    /// Models, as in a plan; none where the launch names one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Cards, each with a count if there are several: `h100-80gb`, `h100:4`; none where the launch names one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Engines; none where the launch names one, else vLLM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<String>,
    /// Formats of the weights: `bf16`, `fp8`, `gptq-4bit`, `q4_k_m`, …; the model's own when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Formats of the KV cache, by the engine's own names: `auto`, `fp8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv_formats: Vec<String>,
    /// Tensor-parallel ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tp: Vec<u64>,
    /// Pipeline stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pp: Vec<u64>,
    /// Longest sequences that the launch serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<u64>,
    /// Most sequences that the launch runs at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batch: Vec<u64>,
    /// Tokens of a sequence for concurrency and times: the row's context, else 4096 (or what is served).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_context: Option<u32>,
    /// Sequences that decode at once for times: the row's batch, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_batch: Option<u32>,
    /// What stands in the rows of a grid: `model`, `gpu`, `format`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
    /// What stands in the columns of a grid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Which figures are shown: `max_context`, `decode_ms`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub show: Vec<String>,
    /// The figure by which rows are sorted; with `-` in front the largest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    /// The rest of the launch, as for a plan.
    #[serde(default)]
    pub launch: PlanRequest,
    /// How long a step takes.
    #[serde(default, skip_serializing_if = "CostRequest::is_empty")]
    pub cost: CostRequest,
}

/// The lists, checked. A `None` leaves what the launch says.
#[derive(Clone, Debug)]
pub(super) struct Axes {
    pub(super) models: Vec<String>,
    pub(super) gpus: Vec<Option<String>>,
    pub(super) engines: Vec<&'static str>,
    pub(super) formats: Vec<Option<Format>>,
    pub(super) kv_formats: Vec<Option<String>>,
    pub(super) tp: Vec<Option<u64>>,
    pub(super) pp: Vec<Option<u64>>,
    pub(super) context: Vec<Option<u64>>,
    pub(super) batch: Vec<Option<u64>>,
}

/// One combination.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) model: String,
    pub(super) gpu: Option<String>,
    pub(super) engine: &'static str,
    pub(super) format: Option<Format>,
    pub(super) kv_format: Option<String>,
    pub(super) tp: Option<u64>,
    pub(super) pp: Option<u64>,
    pub(super) context: Option<u64>,
    pub(super) batch: Option<u64>,
}

impl Axes {
    /// Reads and checks the lists.
    ///
    /// # Errors
    /// [`Error`] for what no row could be: an unknown model, card, engine or format, numbers out of range, too many rows.
    pub(super) fn new(request: &ComparisonRequest, desk: &Desk<'_>) -> Result<Axes, Error> {
        let launch = &request.launch;
        let command = launch.command.as_deref().map(crate::launch::parse_str).transpose()?;
        let own = |text: Option<&String>| text.cloned().into_iter().collect::<Vec<String>>();
        let model = launch.model.as_ref().or(command.as_ref().and_then(|command| command.model.as_ref()));
        let models = unique(if request.models.is_empty() { own(model) } else { request.models.clone() });
        if models.is_empty() {
            return Err(Error::Request("nothing to compare: give one MODEL or several".into()));
        }
        let gpus = unique(if request.gpus.is_empty() { own(launch.gpu.as_ref()) } else { request.gpus.clone() });
        if gpus.is_empty() && launch.gpu_total_bytes.is_none() {
            return Err(Error::Request("no card: give --gpus NAME[:COUNT],… or --gpu-memory".into()));
        }
        let named = launch.engine.as_deref().or(command.as_ref().map(|command| command.engine));
        let engines = match (request.engines.as_slice(), named) {
            ([], named) => vec![canonical_engine(named.unwrap_or(crate::roofline::ENGINE))?],
            (several, _) => {
                let found: Vec<&'static str> =
                    several.iter().map(|name| canonical_engine(name)).collect::<Result<_, _>>()?;
                unique(found)
            }
        };
        several_engines(request, &engines)?;
        // A format that is none is a slip of the question, not of a file.
        let format = |name: &String| Format::parse(name).map_err(|error| Error::Request(error.to_string()));
        let formats = request.formats.iter().map(format).collect::<Result<Vec<_>, _>>()?;
        numbers("at-context", &request.at_context.map(u64::from).into_iter().collect::<Vec<_>>(), 1 << 27)?;
        numbers("at-batch", &request.at_batch.map(u64::from).into_iter().collect::<Vec<_>>(), 1 << 20)?;
        let axes = Axes {
            gpus: if gpus.is_empty() { vec![None] } else { gpus.into_iter().map(Some).collect() },
            formats: optional(unique(formats)),
            kv_formats: optional(unique(request.kv_formats.iter().map(|name| name.trim().to_owned()).collect())),
            tp: numbers("tp", &request.tp, 4096)?,
            pp: numbers("pp", &request.pp, 4096)?,
            context: numbers("context", &request.context, 1 << 30)?,
            batch: numbers("batch", &request.batch, 1 << 20)?,
            models,
            engines,
        };
        let count = axes.count();
        if count > MOST_ROWS {
            return Err(Error::Request(format!(
                "{count} combinations; compare answers at most {MOST_ROWS}: `plimsoll sweep` takes more"
            )));
        }
        axes.known(desk)?;
        Ok(axes)
    }

    /// Looks up what every row needs, so that a slip of the pen is an error and not a column of blanks.
    fn known(&self, desk: &Desk<'_>) -> Result<(), Error> {
        for gpu in self.gpus.iter().flatten() {
            for card in GpuRequest::parse_list(gpu)? {
                desk.gpu(&card.name)?;
            }
        }
        // Ollama and llama.cpp know models by names of their own, which their rows look up.
        if self.engines.iter().all(|engine| reads_gguf(engine)) {
            return Ok(());
        }
        self.models.iter().try_for_each(|model| desk.model(model).map(|_| ()))
    }

    /// How many combinations there are.
    pub(super) fn count(&self) -> usize {
        Axis::ALL.iter().map(|axis| self.len(*axis)).fold(1_usize, usize::saturating_mul)
    }

    /// How many values an axis has.
    pub(super) fn len(&self, axis: Axis) -> usize {
        match axis {
            Axis::Model => self.models.len(),
            Axis::Gpu => self.gpus.len(),
            Axis::Engine => self.engines.len(),
            Axis::Format => self.formats.len(),
            Axis::KvFormat => self.kv_formats.len(),
            Axis::Tp => self.tp.len(),
            Axis::Pp => self.pp.len(),
            Axis::Context => self.context.len(),
            Axis::Batch => self.batch.len(),
        }
    }

    /// Every combination, the last list turning fastest.
    pub(super) fn places(&self) -> Vec<Place> {
        let lengths: Vec<usize> = Axis::ALL.iter().map(|axis| self.len(*axis)).collect();
        (0..self.count())
            .map(|number| {
                let mut rest = number;
                let mut at = [0_usize; Axis::ALL.len()];
                for (place, length) in at.iter_mut().zip(&lengths).rev() {
                    *place = rest % length;
                    rest /= length;
                }
                Place {
                    model: self.models[at[0]].clone(),
                    gpu: self.gpus[at[1]].clone(),
                    engine: self.engines[at[2]],
                    format: self.formats[at[3]],
                    kv_format: self.kv_formats[at[4]].clone(),
                    tp: self.tp[at[5]],
                    pp: self.pp[at[6]],
                    context: self.context[at[7]],
                    batch: self.batch[at[8]],
                }
            })
            .collect()
    }
}

/// Options speak one engine's language: they cannot be those of several.
fn several_engines(request: &ComparisonRequest, engines: &[&'static str]) -> Result<(), Error> {
    let launch = &request.launch;
    let named = launch.engine.as_deref().map(canonical_engine).transpose()?;
    if engines.len() == 1 && named.is_none_or(|named| named == engines[0]) {
        return Ok(());
    }
    let flags = launch.options.keys().chain(launch.inert.keys()).next();
    let said = flags.map(|flag| format!("--{}", flag.replace('_', "-")));
    let said = said.or_else(|| launch.command.as_ref().map(|_| "a launch command".to_owned()));
    let said = said.or_else(|| launch.engine_version.as_ref().map(|_| "--engine-version".to_owned()));
    match said {
        None => Ok(()),
        Some(said) => Err(Error::Request(format!(
            "{said} is one engine's, and {} are compared; what all understand is --context, --batch, --tp, --pp, --formats \
             and --kv-formats",
            engines.join(", ")
        ))),
    }
}

/// Each value once, in order.
fn unique<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// A list, or what the launch says.
fn optional<T>(values: Vec<T>) -> Vec<Option<T>> {
    if values.is_empty() { vec![None] } else { values.into_iter().map(Some).collect() }
}

/// A list of numbers within bounds.
fn numbers(name: &str, values: &[u64], most: u64) -> Result<Vec<Option<u64>>, Error> {
    match values.iter().find(|value| !(1..=most).contains(*value)) {
        Some(value) => Err(Error::Request(format!("{name} {value} is out of range; expected 1 to {most}"))),
        None => Ok(optional(unique(values.to_vec()))),
    }
}
