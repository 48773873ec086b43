//! Why was there no answer?

use thiserror::Error as ThisError;

/// What makes a question unanswerable or malformed.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Error {
    /// A model, checkpoint or catalogue could not be read or found.
    #[error("{context}{source}")]
    Facts {
        /// File or model that was read, with a colon, or nothing.
        context: String,
        /// What is wrong.
        source: plimsoll_facts::Error,
    },
    /// The engine's rules reject the question.
    #[error(transparent)]
    Plan(#[from] plimsoll_plan::Error),
    /// The launch command or the engine's flags could not be read.
    #[error(transparent)]
    Launch(#[from] crate::launch::Error),
    /// The request itself is malformed: a missing part, a contradiction, an unknown engine.
    #[error("{0}")]
    Request(String),
    /// A simulation could not be run to its end.
    #[error("{0}")]
    Simulation(String),
    /// The outside world did not give what was asked for.
    #[error("{place}: {why}")]
    World {
        /// Path or address.
        place: String,
        /// What happened.
        why: String,
    },
}

impl From<plimsoll_facts::Error> for Error {
    fn from(source: plimsoll_facts::Error) -> Self {
        Error::Facts { context: String::new(), source }
    }
}

impl Error {
    /// Whether the question was malformed (exit status 2) rather than unanswerable (1).
    pub fn is_malformed(&self) -> bool {
        use plimsoll_plan::Error as P;
        match self {
            Error::Request(_) | Error::Launch(_) => true,
            Error::Plan(P::Flag { .. } | P::UnknownFlag { .. } | P::Request(_)) => true,
            Error::Plan(P::Uneven { .. } | P::Unsupported { .. } | P::UnknownMemory { .. }) => false,
            Error::Facts { .. } | Error::World { .. } | Error::Simulation(_) => false,
        }
    }

    /// Returns what to try next.
    pub fn hint(&self) -> Option<String> {
        use crate::launch::Error as L;
        use plimsoll_facts::Error as F;
        use plimsoll_plan::Error as P;
        Some(match self {
            Error::Facts { source: F::NotFound { kind: "model", .. }, .. } => {
                "`plimsoll catalogue models` lists what is built in; a directory with a config.json works too".into()
            }
            Error::Facts { source: F::NotFound { .. }, .. } => {
                "`plimsoll catalogue gpus` lists the cards; any card can be given as --gpu-memory 79.19GiB".into()
            }
            Error::Facts { source: F::UnknownArchitecture { .. }, .. } => {
                "is this the config.json of the language model? `plimsoll catalogue models` shows the families".into()
            }
            Error::Facts { source: F::UnknownQuantisation { .. }, .. } => {
                "`plimsoll catalogue formats` lists what is understood".into()
            }
            Error::Facts { source: F::Missing { .. } | F::Invalid { .. } | F::Contradiction { .. }, .. } => {
                "mend the value at that place in config.json, or fetch the file again".into()
            }
            Error::Facts { source: F::Malformed { why, .. }, .. } if why.contains("; missing: ") => {
                "all parts belong in one folder, under the names that they were published with".into()
            }
            Error::Facts { source: F::Malformed { why, .. }, .. }
                if ["big-endian", "version 1", "convert", "git lfs", "unknown model arch", "block_count` counts"]
                    .iter()
                    .any(|word| why.contains(word)) =>
            {
                return None;
            }
            Error::Facts { source: F::Malformed { .. }, .. } => {
                "the file may be cut short or of another kind; fetch it again".into()
            }
            Error::Plan(P::UnknownMemory { .. }) => "for example --gpu-memory 79.19GiB".into(),
            Error::Plan(P::Uneven { .. }) => "choose a number of ranks that divides the count".into(),
            Error::Plan(P::UnknownFlag { .. } | P::Flag { .. } | P::Unsupported { .. } | P::Request(_)) => return None,
            Error::Launch(L::UnknownFlag { .. } | L::AmbiguousFlag { .. }) => {
                "flags that are not Plimsoll's are the engine's; `--help` behind the verb lists its own".into()
            }
            Error::Launch(_) | Error::Request(_) | Error::World { .. } | Error::Simulation(_) => return None,
        })
    }
}
