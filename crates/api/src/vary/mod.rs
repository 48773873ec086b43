//! What if one thing were different? The same launch at another point: another context, batch, division, format, or another
//! shape of the model.
//!
//! ```
//! use plimsoll_api::vary::{Base, Knob, Setting, need};
//! use plimsoll_api::{Desk, NoFiles, PlanRequest};
//! let request: PlanRequest =
//!     serde_json::from_str(r#"{"model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": "vllm"}"#)?;
//! let desk = Desk::new(&NoFiles);
//! let base = Base::new(&request, &desk)?;
//! let varied = base.at(&[Setting::new(Knob::Context, 32_768), Setting::new(Knob::Batch, 16)])?;
//! assert_eq!(need(&varied, 16, 32_768).kv.as_gib(), 64.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod knob;
mod model;
mod need;
mod shapes;
mod values;

use std::fmt;
use std::sync::Arc;

use plimsoll_plan::Plan;
use plimsoll_plan::engine::Depth;

pub use knob::Knob;
pub(crate) use need::allocates;
pub use need::{Need, Part, need};
pub use values::MOST_VALUES;

pub(crate) use knob::set_file;
pub(crate) use model::{loaded, recast};
pub(crate) use shapes::Shapes;

use crate::plan::{Prepared, prepare, reads_gguf, run};
use crate::support;
use crate::{Desk, Error, PlanRequest};

/// A value of a knob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A name: of a format.
    Word(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            Value::Word(word) => f.write_str(word),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

impl From<&str> for Value {
    fn from(word: &str) -> Self {
        Value::Word(word.to_owned())
    }
}

/// A knob at a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// What is varied.
    pub knob: Knob,
    /// What it is set to.
    pub value: Value,
}

impl Setting {
    /// A knob at a value.
    pub fn new(knob: Knob, value: impl Into<Value>) -> Setting {
        Setting { knob, value: value.into() }
    }

    /// Refuses a name where a number belongs, and a number where a name does.
    fn check(&self) -> Result<(), Error> {
        if self.knob.takes_words() == matches!(self.value, Value::Word(_)) {
            return Ok(());
        }
        let wanted = if self.knob.takes_words() { "a name" } else { "a number" };
        Err(Error::Request(format!("{} is `{}`, expected {wanted}", self.knob.name(), self.value)))
    }
}

/// A launch at a point, planned.
#[derive(Clone, Debug)]
pub struct Varied {
    /// The launch with the settings in it.
    pub prepared: Prepared,
    /// Its plan.
    pub plan: Plan,
    /// What came along with the settings, and what stayed.
    pub notes: Vec<String>,
}

/// A launch that is looked up once and planned at many points, from as many threads as there are.
pub struct Base<'d> {
    prepared: Prepared,
    shapes: Shapes<'d>,
}

/// Returns a launch at a point.
///
/// # Errors
/// Those of [`Base::new`] and [`Base::at`].
pub fn at(launch: &PlanRequest, settings: &[Setting], desk: &Desk<'_>) -> Result<Varied, Error> {
    Base::new(launch, desk)?.at(settings)
}

impl<'d> Base<'d> {
    /// Looks a launch up. Without an engine vLLM is taken, which [`Prepared::assumptions`] says.
    ///
    /// # Errors
    /// [`Error`] naming what is missing, unknown or contradictory.
    pub fn new(launch: &PlanRequest, desk: &'d Desk<'d>) -> Result<Base<'d>, Error> {
        let (launch, named) = crate::roofline::with_engine(launch);
        let mut prepared = prepare(&launch, desk)?;
        prepared.assumptions.extend(named);
        Ok(Base::of(prepared, launch.model.clone(), desk))
    }

    /// Takes a launch that has been looked up; `name` is that of its model, where it is not the model's own.
    pub fn of(prepared: Prepared, name: Option<String>, desk: &'d Desk<'d>) -> Base<'d> {
        let name = name.unwrap_or_else(|| prepared.loaded.model.id.clone());
        let shapes = Shapes::new(name, Arc::clone(&prepared.loaded), desk);
        Base { prepared, shapes }
    }

    /// Takes the configuration that the model was read from, where it is in no file.
    pub(crate) fn with_config(self, config: &serde_json::Value) -> Base<'d> {
        Base { shapes: self.shapes.with_config(config), ..self }
    }

    /// Returns the launch as it was asked for.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Plans the launch at a point. Of several settings of one knob the last counts.
    ///
    /// # Errors
    /// [`Error::Request`] for a knob that the engine or the model does not have; the engine's own refusals of a value.
    pub fn at(&self, settings: &[Setting]) -> Result<Varied, Error> {
        self.at_depth(settings, Depth::Whole)
    }

    /// Plans like [`Base::at`], to a depth: for many points.
    ///
    /// # Errors
    /// Those of [`Base::at`].
    pub fn at_depth(&self, settings: &[Setting], depth: Depth) -> Result<Varied, Error> {
        let (prepared, notes) = self.set(settings)?;
        planned(Prepared { depth, ..prepared }, notes)
    }

    /// Plans like [`Base::at_depth`] with every layer on the GPUs, where the engine would otherwise move some away.
    pub(crate) fn on_gpu(&self, settings: &[Setting], depth: Depth) -> Result<Varied, Error> {
        let (mut prepared, mut notes) = self.set(settings)?;
        notes.extend(knob::all_on_gpu(&mut prepared));
        planned(Prepared { depth, ..prepared }, notes)
    }

    /// Puts settings into the launch.
    fn set(&self, settings: &[Setting]) -> Result<(Prepared, Vec<String>), Error> {
        let mut prepared = self.prepared.clone();
        let mut notes = Vec::new();
        let last = |at: usize| !settings[at + 1..].iter().any(|later| later.knob == settings[at].knob);
        let settings: Vec<&Setting> = (0..settings.len()).filter(|at| last(*at)).map(|at| &settings[at]).collect();
        settings.iter().try_for_each(|setting| setting.check())?;
        let of_model: Vec<&Setting> = settings.iter().copied().filter(|setting| setting.knob.is_of_model()).collect();
        if let Some(Value::Word(format)) = settings.iter().find(|at| at.knob == Knob::Format).map(|at| &at.value) {
            support::check(&prepared, format)?;
        }
        if !of_model.is_empty() {
            let (loaded, said) = self.shapes.model(&of_model, !reads_gguf(self.prepared.engine))?;
            prepared.loaded = loaded;
            notes.extend(said);
        }
        if let Some(Value::Word(format)) = settings.iter().find(|at| at.knob == Knob::Format).map(|at| &at.value) {
            knob::set_file(&mut prepared, format)?;
        }
        for setting in settings.iter().filter(|setting| !setting.knob.is_of_model()) {
            knob::set(&mut prepared, setting.knob, &setting.value)?;
        }
        let context = settings.iter().find_map(|setting| match (setting.knob, &setting.value) {
            (Knob::Context, Value::Number(context)) => Some(*context),
            _ => None,
        });
        knob::settle(&mut prepared, context);
        Ok((prepared, notes))
    }
}

/// Plans a launch with its settings in it.
fn planned(prepared: Prepared, notes: Vec<String>) -> Result<Varied, Error> {
    let plan = run(&prepared)?;
    Ok(Varied { prepared, plan, notes })
}

#[cfg(test)]
mod tests;
