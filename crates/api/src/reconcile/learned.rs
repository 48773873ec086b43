//! What does this machine's profile know of a launch? Measured memory in place of estimates, said so in the plan.

use plimsoll_plan::{Item, Plan};
use plimsoll_study::profile::{Key, Learned, Spread};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::{Map, Value};

use crate::Error;
use crate::plan::{Prepared, by_rules};

/// A profile's knowledge of one launch.
pub(crate) struct Known {
    learned: Learned,
    place: String,
}

/// Returns the key under which a launch's measurements are kept.
pub(crate) fn key(prepared: &Prepared, plan: &Plan, options: &Map<String, Value>) -> Key {
    Key {
        gpu: prepared.card.name.clone(),
        engine: prepared.engine.to_owned(),
        engine_version: prepared.version.to_string(),
        model: prepared.loaded.model.id.clone(),
        tp: plan.parallel.tp,
        pp: plan.parallel.pp,
        options: options.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

/// Returns what the profile knows of a launch, where that replaces an estimate.
pub(crate) fn of(prepared: &Prepared, plan: &Plan) -> Option<Known> {
    let kept = prepared.profile.as_ref()?;
    let mut learned = kept.profile.find(&key(prepared, plan, &prepared.options))?;
    // What the user says goes before what was measured.
    learned.non_torch = learned.non_torch.filter(|_| prepared.given.non_torch.is_none());
    learned.activation = learned.activation.filter(|_| prepared.given.activation.is_none());
    let any = learned.non_torch.is_some() || learned.activation.is_some();
    any.then(|| Known { learned, place: kept.place.clone() })
}

impl Known {
    /// Plans again with the measured numbers.
    pub(crate) fn applied(&self, prepared: &Prepared) -> Result<Plan, Error> {
        let mut measured = prepared.clone();
        let Learned { non_torch, activation, .. } = &self.learned;
        let middle = |spread: Option<Spread>| spread.map(|spread| Bytes::new(spread.middle));
        measured.given.non_torch = measured.given.non_torch.or(middle(*non_torch));
        measured.given.activation = measured.given.activation.or(middle(*activation));
        let mut plan = by_rules(&measured)?;
        for (item, spread) in [(Item::RuntimeNonTorch, non_torch), (Item::Activation, activation)] {
            if let Some(spread) = spread {
                self.source(&mut plan, item, *spread);
            }
        }
        plan.notes.push(self.note());
        Ok(plan)
    }

    /// Gives an entry its measured interval and source, and the budget the interval that follows.
    fn source(&self, plan: &mut Plan, item: Item, spread: Spread) {
        let source = Source::Measured(format!("profile {}, {}", self.place, self.runs()).into());
        let (mut down, mut up) = (Bytes::ZERO, Bytes::ZERO);
        for rank in &mut plan.ranks {
            let Some(entry) = rank.ledger.entries.iter_mut().find(|entry| entry.item == item) else { continue };
            if entry.size.bytes.get() != spread.middle {
                continue;
            }
            let (low, high) = (Bytes::new(spread.low), Bytes::new(spread.high));
            entry.size = Estimate::between(low, entry.size.bytes, high, source.clone());
            (down, up) = (high.saturating_sub(entry.size.bytes), entry.size.bytes.saturating_sub(low));
            rank.kv_budget.low = rank.kv_budget.low.saturating_sub(down);
            rank.kv_budget.high += up;
        }
        plan.kv.budget.low = plan.kv.budget.low.saturating_sub(down);
        plan.kv.budget.high += up;
    }

    fn runs(&self) -> String {
        match self.learned.runs {
            1 => "1 launch".to_owned(),
            runs => format!("{runs} launches"),
        }
    }

    fn note(&self) -> String {
        let Learned { non_torch, activation, engine_version, differs, .. } = &self.learned;
        let mut what = Vec::new();
        if activation.is_some() {
            what.push("activation");
        }
        if non_torch.is_some() {
            what.push("non-torch memory");
        }
        let differs = if differs.is_empty() {
            String::new()
        } else {
            format!("; the measured launch differs in {}", differs.join(", "))
        };
        format!(
            "{} measured on this machine ({}, {engine_version}, in {}){differs}; --no-profile plans without",
            what.join(" and "),
            self.runs(),
            self.place
        )
    }
}
