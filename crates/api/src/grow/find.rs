//! How far does it go? The last value that fits, found exactly: a guess from the parts' proportions, then doubling steps and
//! bisection, every trial planned by the engine's rules.

use std::cell::RefCell;
use std::collections::BTreeMap;

use plimsoll_plan::State;
use plimsoll_units::Bytes;

use super::answer::{LineAnswer, ReachAnswer, SettingAnswer};
use super::bare::Bare;
use crate::Error;
use crate::vary::{Base, Knob, Need, Setting};

/// Where points are planned.
pub(super) enum Ground<'d> {
    /// By an engine's rules.
    Launch(Box<Base<'d>>),
    /// Without an engine.
    Bare(Box<Bare<'d>>),
}

impl Ground<'_> {
    /// Plans a point.
    pub(super) fn need_at(&self, settings: &[Setting], batch: u64, context: u64) -> Result<Need, Error> {
        match self {
            Ground::Launch(base) => base.need_at(settings, batch, context),
            Ground::Bare(bare) => bare.need_at(settings, batch, context),
        }
    }

    /// Whether there is a card to fill.
    pub(super) fn has_card(&self) -> bool {
        match self {
            Ground::Launch(_) => true,
            Ground::Bare(bare) => bare.has_card(),
        }
    }
}

/// More sequences than any engine runs.
const MOST_SEQUENCES: u64 = 1 << 20;
/// A context that nearly every launch can have, to begin with.
const USUAL_CONTEXT: u64 = 4096;

/// One column: settings that stay while one quantity is sought.
pub(super) struct Column<'a> {
    ground: &'a Ground<'a>,
    settings: Vec<Setting>,
    /// What this column is, for answers.
    at: Vec<SettingAnswer>,
    along: Along,
    known: RefCell<BTreeMap<u64, Result<Need, String>>>,
}

/// What is sought, and what stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    /// The longest context of a batch, up to the model's own.
    Context { batch: u64, most: u64 },
    /// The largest batch of a context.
    Batch { context: u64 },
}

/// Which end of the intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Low,
    Middle,
    High,
}

impl<'a> Column<'a> {
    pub(super) fn new(
        ground: &'a Ground<'a>,
        settings: Vec<Setting>,
        at: Vec<SettingAnswer>,
        along: Along,
    ) -> Column<'a> {
        Column { ground, settings, at, along, known: RefCell::default() }
    }

    /// Remembers a point of the grid.
    pub(super) fn seen(&self, value: u64, need: Result<Need, String>) {
        self.known.borrow_mut().insert(value, need);
    }

    /// Plans one value, once.
    fn need(&self, value: u64) -> Result<Need, String> {
        if let Some(known) = self.known.borrow().get(&value) {
            return known.clone();
        }
        let found = match self.along {
            Along::Context { batch, .. } => self.ground.need_at(&self.settings, batch, value),
            Along::Batch { context } => self.ground.need_at(&self.settings, value, context),
        };
        let found = found.map_err(|error| error.to_string());
        self.known.borrow_mut().insert(value, found.clone());
        found
    }

    /// The largest value that is tried.
    fn most(&self) -> u64 {
        match self.along {
            Along::Context { most, .. } => most,
            Along::Batch { .. } => MOST_SEQUENCES,
        }
    }

    /// A value that is planned: what is refused below it is too little, what is refused above it too much.
    ///
    /// # Errors
    /// Why there is none, in the engine's words for the first value.
    fn anchor(&self) -> Result<u64, String> {
        let planned = self.known.borrow().iter().find(|(_, need)| need.is_ok()).map(|(at, _)| *at);
        if let Some(at) = planned {
            return Ok(at);
        }
        let most = self.most();
        let first = if self.of_context() { USUAL_CONTEXT.min(most) } else { 1 };
        let doubling = std::iter::successors(Some(1_u64), |at| at.checked_mul(2)).take_while(|at| *at < most);
        let mut tried = std::iter::once(first).chain(doubling).chain([most]);
        if let Some(at) = tried.find(|at| self.need(*at).is_ok()) {
            return Ok(at);
        }
        let known = self.known.borrow();
        Err(known.values().find_map(|need| need.as_ref().err().cloned()).unwrap_or_default())
    }

    /// The last value that fits at an end of the intervals, from what is known already; where none does, the one before the
    /// first that is planned.
    fn last(&self, end: End, anchor: u64) -> u64 {
        let fits = |at: u64, need: &Result<Need, String>| match (need, end) {
            (Ok(need), End::Low) => need.state == State::Fits,
            (Ok(need), End::Middle) => need.fits,
            (Ok(need), End::High) => need.state != State::DoesNotFit,
            (Err(_), _) => at < anchor,
        };
        for _ in 0..3 {
            let (yes, no) = self.bracket(&fits);
            let guess = self.guess(end, yes).clamp(yes + 1, no.max(yes + 2) - 1);
            if no - yes <= 1 || guess >= no {
                break;
            }
            // Only for what is known then.
            let _ = self.need(guess);
        }
        let (yes, no) = self.bracket(&fits);
        search(yes, no, self.guess(end, yes), |at| fits(at, &self.need(at)))
    }

    /// The largest value known to fit (zero when none is) and the smallest above it known not to.
    fn bracket(&self, fits: &dyn Fn(u64, &Result<Need, String>) -> bool) -> (u64, u64) {
        let known = self.known.borrow();
        let yes = known.iter().rev().find(|(at, need)| fits(**at, need)).map_or(0, |(at, _)| *at);
        let no = known.range(yes + 1..).map(|(at, _)| *at).next().unwrap_or(self.most().saturating_add(1));
        (yes.min(self.most()), no.min(self.most().saturating_add(1)))
    }

    /// A value near the last that fits: from the nearest one that is planned, the parts that do not grow as they are and the
    /// cache in proportion; where those parts alone are too much, all but the weights in proportion.
    fn guess(&self, end: End, from: u64) -> u64 {
        let known = self.known.borrow();
        let planned = |(at, need): (&u64, &Result<Need, String>)| need.as_ref().ok().map(|need| (*at, need.clone()));
        let below = known.range(..=from).rev().find_map(planned);
        let Some((from, need)) = below.or_else(|| known.range(from + 1..).find_map(planned)) else { return from };
        let limit = match end {
            End::Low => need.limit_low,
            End::Middle => need.limit,
            End::High => need.limit_high,
        };
        let room = limit.saturating_sub(need.total().saturating_sub(need.kv));
        if room > Bytes::ZERO {
            return proportion(from, room, need.kv);
        }
        proportion(from, limit.saturating_sub(need.weights), need.total().saturating_sub(need.weights))
    }

    fn of_context(&self) -> bool {
        matches!(self.along, Along::Context { .. })
    }

    /// The memory of the card, where anything is planned.
    pub(super) fn card(&self) -> Option<Bytes> {
        self.known.borrow().values().find_map(|need| need.as_ref().ok().map(|need| need.card))
    }

    /// Returns how far the column goes.
    pub(super) fn reach(&self) -> ReachAnswer {
        self.reached().0
    }

    /// How far the column goes, and the first value at which the card is full.
    fn reached(&self) -> (ReachAnswer, Option<u64>) {
        let at = self.at.clone();
        let anchor = match self.anchor() {
            Ok(anchor) => anchor,
            Err(error) => {
                let refused = Some(error.clone());
                return (ReachAnswer { at, most: None, low: None, high: None, bound: error, refused }, None);
            }
        };
        if !self.ground.has_card() {
            let bound = "no card is named".to_owned();
            return (ReachAnswer { at, most: None, low: None, high: None, bound, refused: None }, None);
        }
        let middle = self.last(End::Middle, anchor);
        let bound = if middle >= self.most() {
            match self.along {
                Along::Context { .. } => "model",
                Along::Batch { .. } => "nothing",
            }
            .to_owned()
        } else {
            match self.need(middle + 1) {
                Ok(need) => need.binding.unwrap_or_else(|| "kv".to_owned()),
                Err(error) => error,
            }
        };
        // What is refused as too little does not fit.
        let planned = |at: u64| if at > 0 && self.need(at).is_ok() { at } else { 0 };
        let low = planned(self.last(End::Low, anchor).min(middle));
        let high = planned(self.last(End::High, anchor).max(middle));
        let full_at = (middle < self.most() && self.need(middle + 1).is_ok()).then_some(middle + 1);
        (
            ReachAnswer { at, most: Some(planned(middle)), low: Some(low), high: Some(high), bound, refused: None },
            full_at,
        )
    }

    /// Returns the least value at which the cache is larger than the weights.
    fn crossing(&self) -> Option<u64> {
        let (anchor, most) = (self.anchor().ok()?, self.most());
        let outgrown = |need: &Need| need.kv > need.weights;
        let before = |at: u64| self.need(at).as_ref().map_or(at < anchor, |need| !outgrown(need));
        let from = self.known.borrow().iter().rev().find(|(_, need)| need.is_ok()).map(|(at, _)| *at)?;
        let need = self.need(from).ok()?;
        let guess = proportion(from, need.weights, need.kv).clamp(1, most);
        let last = search(0, most.saturating_add(1), guess, before);
        // Values that the engine refuses are no crossing.
        (last < most && self.need(last + 1).is_ok_and(|need| outgrown(&need))).then(|| last + 1)
    }

    /// Returns the column's crossings.
    pub(super) fn line(&self) -> LineAnswer {
        let (reach, full_at) = self.reached();
        LineAnswer {
            along: match self.along {
                Along::Context { .. } => Knob::Context.name(),
                Along::Batch { .. } => Knob::Batch.name(),
            }
            .to_owned(),
            kv_outgrows_weights_at: self.crossing(),
            full_at,
            reach,
        }
    }
}

/// `at × part ÷ whole`, as far as it can be written.
fn proportion(at: u64, part: Bytes, whole: Bytes) -> u64 {
    let product = u128::from(at) * u128::from(part.get());
    u64::try_from(product.checked_div(u128::from(whole.get())).unwrap_or(u128::MAX)).unwrap_or(u64::MAX)
}

/// The last value that fits above `yes` (zero, or one that does) and below `no` (one that does not, or is out of range);
/// whatever fits, all between it and `yes` must. Near the guess it is found in a few trials.
fn search(mut yes: u64, mut no: u64, guess: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let mut at = guess.clamp(yes.saturating_add(1), no.max(yes + 2) - 1);
    let mut step = 1_u64;
    let mut went: Option<bool> = None;
    while no.saturating_sub(yes) > 1 {
        let good = fits(at);
        if good {
            yes = at
        } else {
            no = at
        }
        if no - yes <= 1 {
            break;
        }
        // Doubling steps until the edge has been crossed, then halves.
        let crossed = went.is_some_and(|before| before != good);
        went = if crossed { Some(good) } else { went.or(Some(good)) };
        at = if crossed || step == 0 {
            step = 0;
            yes + (no - yes) / 2
        } else if good {
            at.saturating_add(step)
        } else {
            at.saturating_sub(step)
        };
        at = at.clamp(yes + 1, no - 1);
        step = step.saturating_mul(2);
    }
    yes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_guess_changes_nothing(most in 1_u64..5000, edge in 0_u64..6000, guess in 0_u64..9000) {
            prop_assert_eq!(search(0, most + 1, guess, |value| value <= edge), edge.min(most));
            let yes = edge.min(most) / 2;
            prop_assert_eq!(search(yes, most + 1, guess, |value| value <= edge), edge.min(most));
        }
    }
}
