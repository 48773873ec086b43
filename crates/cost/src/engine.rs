//! What does an engine add to its kernels? Scheduling, preparing inputs, launching and sampling, hidden behind the GPU or
//! not.

use plimsoll_plan::Plan;

/// What a step costs beside its kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Overhead {
    /// Seconds of a step whatever it computes.
    pub step: f64,
    /// Seconds more per sequence of the step.
    pub sequence: f64,
    /// Whether the host works on the next step while the GPU runs this one: the longer of the two then counts.
    pub hidden: bool,
    /// Tenth and ninetieth percentile of measured over predicted times.
    pub spread: (f64, f64),
    /// Where the figures come from.
    pub source: &'static str,
}

impl Overhead {
    /// Returns the overhead of a plan's engine.
    pub fn of(_plan: &Plan) -> Overhead {
        Overhead {
            step: 500e-6,
            sequence: 0.0,
            hidden: false,
            spread: (0.8, 1.25),
            source: "assumed: scheduling, inputs and sampling of an engine that overlaps most of them with the GPU",
        }
    }

    /// Says what a step's overhead is.
    pub fn words(&self) -> String {
        let micros = |seconds: f64| (seconds * 1e7).round() / 10.0;
        let each =
            if self.sequence > 0.0 { format!(" and {} µs a sequence", micros(self.sequence)) } else { String::new() };
        let hidden = if self.hidden { ", as far as its kernels do not hide them" } else { "" };
        format!("{} µs{each}{hidden}", micros(self.step))
    }

    /// Returns the time of a step whose kernels take `kernels` seconds.
    pub fn on(&self, kernels: f64, sequences: f64) -> f64 {
        let host = self.step + self.sequence * sequences;
        if self.hidden { kernels.max(host) } else { kernels + host }
    }
}
