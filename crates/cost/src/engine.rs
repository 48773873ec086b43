//! What does an engine add to its kernels? Scheduling, preparing inputs, launching and sampling, hidden behind the GPU or
//! not; and what lies between a client and the scheduler.

use plimsoll_plan::{Batching, Plan};

/// What a step costs beside its kernels, and a request beside its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Overhead {
    /// Seconds of the host's work on a step whatever it computes.
    pub step: f64,
    /// Seconds of it more per sequence of the step.
    pub sequence: f64,
    /// Whether the host works on the next step while the GPU runs this one: the longer of the two then counts.
    pub hidden: bool,
    /// Seconds of every step and layer in which the GPU runs none of the kernels that are counted, hidden or not: between one
    /// kernel and the next that waits for it, and in small kernels that no table has.
    pub layer: f64,
    /// Seconds that the host takes to launch a layer's kernels one by one: in steps with pieces of prompts, which are too
    /// large for captured graphs. They are hidden behind kernels that take longer.
    pub launch: f64,
    /// Layers of the model.
    pub layers: f64,
    /// Seconds of every request between its client and the scheduler, there and back.
    pub request: f64,
    /// Seconds of that more per token of the prompt: its text is sent and cut into tokens.
    pub prompt_token: f64,
    /// Tenth and ninetieth percentile of measured over predicted times.
    pub spread: (f64, f64),
    /// Where the figures come from.
    pub source: &'static str,
}

/// What one engine adds: the constants, by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// The engine, as plans call it.
    pub engine: &'static str,
    /// [`Overhead::step`].
    pub step: f64,
    /// [`Overhead::sequence`].
    pub sequence: f64,
    /// [`Overhead::layer`].
    pub layer: f64,
    /// [`Overhead::launch`].
    pub launch: f64,
    /// [`Overhead::request`].
    pub request: f64,
    /// [`Overhead::spread`].
    pub spread: (f64, f64),
}

/// Seconds per token of a prompt before the scheduler: a quarter of a million tokens a second, as tokenisers reach on one core
/// with the text's way to them. Assumed; a prompt of 8192 tokens waits 33 ms.
const TOKENISE: f64 = 4e-6;

/// The engines whose whole times were measured (docs/speed.md). `layer`, `request` and `spread` are what those times give;
/// `cargo xtask evidence --fit` prints them anew. `step` is no more than the fastest steps among them, of small models on many
/// cards; `sequence` and `launch` were chosen once, in round numbers, by how their errors change with the number of clients
/// and with the cards that share a prompt.
const ENGINES: [Constants; 3] = [
    Constants {
        engine: "vllm",
        step: 2.8e-3,
        sequence: 20e-6,
        layer: 10e-6,
        launch: 700e-6,
        request: 16e-3,
        spread: (0.86, 1.25),
    },
    Constants {
        engine: "sglang",
        step: 2.0e-3,
        sequence: 20e-6,
        layer: 15e-6,
        launch: 1600e-6,
        request: 112e-3,
        spread: (0.85, 1.45),
    },
    Constants {
        engine: "tensorrt-llm",
        step: 2.1e-3,
        sequence: 10e-6,
        layer: 0.0,
        launch: 400e-6,
        request: 17e-3,
        spread: (0.93, 1.50),
    },
];

/// Returns the constants of the engines whose whole times were measured.
pub const fn constants() -> &'static [Constants] {
    &ENGINES
}

impl Overhead {
    /// Returns the overhead of a plan's engine.
    pub fn of(plan: &Plan) -> Overhead {
        let hidden = match &plan.batching {
            Some(Batching::Vllm(batching)) => batching.async_scheduling,
            Some(Batching::Sglang(batching)) => batching.overlap,
            Some(Batching::TensorRtLlm(batching)) => batching.overlap,
            None => false,
        };
        let Some(of) = ENGINES.iter().find(|of| of.engine == plan.engine) else {
            return Overhead {
                source: "assumed: no whole times of this engine were measured",
                ..Overhead::stated(500e-6)
            };
        };
        Overhead {
            step: of.step,
            sequence: of.sequence,
            hidden,
            layer: of.layer,
            launch: of.launch,
            layers: 0.0,
            request: of.request,
            prompt_token: TOKENISE,
            spread: of.spread,
            source: "fitted to published whole-engine times, docs/speed.md",
        }
    }

    /// Returns an overhead that the user states: so many seconds a step, and nothing else.
    pub const fn stated(seconds: f64) -> Overhead {
        Overhead {
            step: seconds,
            sequence: 0.0,
            hidden: false,
            layer: 0.0,
            launch: 0.0,
            layers: 0.0,
            request: 0.0,
            prompt_token: 0.0,
            spread: (0.8, 1.25),
            source: "given",
        }
    }

    /// Says what a step's overhead is.
    pub fn words(&self) -> String {
        let micros = |seconds: f64| (seconds * 1e7).round() / 10.0;
        let layer = self.layer * self.layers;
        let gaps = if layer > 0.0 {
            format!("{} µs between its kernels, and on the host ", micros(layer))
        } else {
            String::new()
        };
        let each =
            if self.sequence > 0.0 { format!(" and {} µs a sequence", micros(self.sequence)) } else { String::new() };
        let hidden = if self.hidden { ", as far as its kernels do not hide them" } else { "" };
        format!("{gaps}{} µs{each}{hidden}", micros(self.step))
    }

    /// Returns the time of a step whose kernels take `kernels` seconds, with pieces of prompts or without.
    pub fn on(&self, kernels: f64, sequences: f64, prompts: bool) -> f64 {
        let host = self.step + self.sequence * sequences;
        let launch = if prompts { self.launch * self.layers } else { 0.0 };
        let gpu = (kernels + self.layer * self.layers).max(launch);
        if self.hidden { gpu.max(host) } else { gpu + host }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_host_counts_only_where_it_is_longer() {
        let hidden = Overhead {
            step: 2.0,
            sequence: 0.5,
            hidden: true,
            layer: 0.125,
            launch: 2.0,
            layers: 2.0,
            ..Overhead::stated(0.0)
        };
        for (kernels, sequences, prompts, expected) in
            [(1.0, 0.0, false, 2.0), (3.0, 0.0, false, 3.25), (3.0, 4.0, false, 4.0), (3.0, 0.0, true, 4.0)]
        {
            assert!((hidden.on(kernels, sequences, prompts) - expected).abs() < 1e-12);
        }
        let shown = Overhead { hidden: false, ..hidden };
        assert!((shown.on(3.0, 4.0, false) - 7.25).abs() < 1e-12);
        assert!((Overhead::stated(0.5).on(3.0, 4.0, true) - 3.5).abs() < 1e-12);
    }
}
