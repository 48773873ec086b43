//! Which models have been varied? Each other shape and format is read once.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};

use super::model::{self, Written};
use super::{Knob, Setting, Value};
use crate::world::Loaded;
use crate::{Desk, Error};

/// Models of other shapes that are kept at most.
const KEPT: usize = 256;

/// Models that were read with changes, by the changes.
type Changed = RwLock<BTreeMap<String, (Arc<Loaded>, Vec<String>)>>;

/// A model and what becomes of it.
pub(crate) struct Shapes<'d> {
    desk: &'d Desk<'d>,
    /// The name by which the model was asked for.
    name: String,
    loaded: Arc<Loaded>,
    written: OnceLock<Result<Written, Error>>,
    changed: Changed,
}

impl<'d> Shapes<'d> {
    pub(crate) fn new(name: String, loaded: Arc<Loaded>, desk: &'d Desk<'d>) -> Shapes<'d> {
        Shapes { desk, name, loaded, written: OnceLock::new(), changed: RwLock::default() }
    }

    /// Takes the configuration that the model was read from, where it is in no file.
    pub(crate) fn with_config(self, config: &serde_json::Value) -> Shapes<'d> {
        let written = Written { config: config.clone(), hf_quant: None };
        Shapes { written: OnceLock::from(Ok(written)), ..self }
    }

    /// Returns the model with other shapes or another format, read once; `recast` is false for engines that make a file of
    /// the configuration themselves.
    pub(crate) fn model(&self, settings: &[&Setting], recast: bool) -> Result<(Arc<Loaded>, Vec<String>), Error> {
        let words: Vec<String> =
            settings.iter().map(|setting| format!("{}={}", setting.knob.name(), setting.value)).collect();
        let key = words.join(",");
        if let Some(known) = self.changed.read().ok().and_then(|kept| kept.get(&key).cloned()) {
            return Ok(known);
        }
        let mut notes = Vec::new();
        let shapes: Vec<&Setting> = settings.iter().copied().filter(|at| at.knob != Knob::Format).collect();
        let mut loaded = Arc::clone(&self.loaded);
        if !shapes.is_empty() {
            let written = self.written.get_or_init(|| model::written(&self.name, &self.loaded, self.desk));
            let written = written.as_ref().map_err(Clone::clone)?;
            loaded = model::changed(&loaded, written, &shapes, &mut notes)?;
        }
        let format = settings.iter().find(|at| at.knob == Knob::Format).map(|at| &at.value);
        if let (Some(Value::Word(format)), true) = (format, recast) {
            loaded = model::recast(&loaded, format)?;
        }
        if let Ok(mut kept) = self.changed.write() {
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(key, (Arc::clone(&loaded), notes.clone()));
        }
        Ok((loaded, notes))
    }
}
