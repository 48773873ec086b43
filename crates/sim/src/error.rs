//! What can go wrong in a simulation? Little: most of what is odd is an answer.

use plimsoll_units::Nanos;

/// Why a simulation ended without an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The workload could not be read or understood; the place is inside the message.
    #[error("{0}")]
    Load(String),
    /// Settings that the engine refuses or that are not known.
    #[error("{0}")]
    Settings(String),
    /// Requests wait, nothing runs, nothing will arrive, and the scheduler places none of them.
    #[error("at {at} {waiting} requests wait and none can ever be placed, the first being number {first}: {why}")]
    Stuck {
        /// When.
        at: Nanos,
        /// How many wait.
        waiting: usize,
        /// Number of the request at the head of the queue.
        first: u64,
        /// What it needs.
        why: String,
    },
    /// A rate of the card that the step's cost needs is not known.
    #[error("the {what} of {gpu} is not known; give --{knob}")]
    Rate {
        /// Name of the card.
        gpu: String,
        /// Which rate.
        what: &'static str,
        /// The knob that gives it.
        knob: &'static str,
    },
    /// A knob of the step's cost is out of range.
    #[error("--{knob} is {found}, expected {expected}")]
    Knob {
        /// Its name.
        knob: &'static str,
        /// Its value.
        found: f64,
        /// What is accepted.
        expected: &'static str,
    },
    /// More requests wait than a simulation keeps.
    #[error(
        "at {at} {waiting} requests wait, and no more are kept: far more arrives than is served; a lower rate or fewer requests say as much"
    )]
    Crowd {
        /// When.
        at: Nanos,
        /// How many wait.
        waiting: usize,
    },
    /// Simulated time went beyond 584 years.
    #[error("simulated time ran over after {steps} steps")]
    Endless {
        /// Steps so far.
        steps: u64,
    },
}
