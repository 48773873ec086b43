//! Why could a cost not be worked out?

/// Why not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The card's data sheet lacks a rate that is needed.
    #[error("{gpu}: its {what} is not known\n  hint: give it with --{knob}")]
    Rate {
        /// The card.
        gpu: String,
        /// The rate.
        what: &'static str,
        /// The flag that gives it.
        knob: &'static str,
    },
    /// A number of the user's is out of range.
    #[error("{knob} {found} is out of range; expected {expected}")]
    Knob {
        /// Which.
        knob: &'static str,
        /// As given.
        found: f64,
        /// What would do.
        expected: &'static str,
    },
    /// The model has something whose operators are not known.
    #[error("{model}: {why}\n  hint: `plimsoll inspect` shows what was understood of its configuration")]
    Model {
        /// Its name.
        model: String,
        /// What is the matter.
        why: String,
    },
}
