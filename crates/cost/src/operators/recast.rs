//! The same launch in other formats.

use super::Inventory;
use super::attention::Form;
use super::line::{Line, Of, What};
use super::stored::input_bytes;
use crate::what_if::precision::{Recast, bits};
use crate::{Error, Format};

impl Inventory {
    /// Returns the launch's operators with weights or caches in other formats: matrices of layers and experts at the format's
    /// bits a weight, with the kernels that narrow activations where it needs them. Router, output projection and what is
    /// absorbed of latent attention keep theirs.
    ///
    /// # Errors
    /// [`Error::Knob`] for bytes of a cached number that are not above 0 and at most 8.
    pub fn recast(&self, recast: &Recast) -> Result<Inventory, Error> {
        let mut other = self.clone();
        if let Some(kv_bytes) = recast.kv_bytes {
            if !(kv_bytes > 0.0 && kv_bytes <= 8.0) {
                return Err(Error::Knob { knob: "kv-bytes", found: kv_bytes, expected: "above 0 and at most 8" });
            }
            other.cache(kv_bytes);
        }
        if let Some(format) = recast.weights {
            other.matrices(format);
        }
        Ok(other)
    }

    /// Returns the bytes of all weights that the rank's steps may read, every expert counted, once.
    pub fn held(&self) -> f64 {
        self.weights(1e18) / self.stages.max(1.0)
    }

    fn cache(&mut self, kv_bytes: f64) {
        let indexer = |form: &Form| matches!(form, Form::Indexer { .. });
        let before = self.attention.iter().find(|attention| !indexer(&attention.form)).map(|found| found.kv_bytes);
        for attention in self.attention.iter_mut().filter(|attention| !indexer(&attention.form)) {
            attention.kv_bytes = kv_bytes;
        }
        for line in self.lines.iter_mut().filter(|line| line.name == "cache_write") {
            if let (What::Stream { written, .. }, Some(before)) = (&mut line.what, before) {
                *written *= kv_bytes / before;
            }
        }
    }

    fn matrices(&mut self, to: Format) {
        let mut lines: Vec<Line> = Vec::with_capacity(self.lines.len());
        for mut line in self.lines.drain(..).filter(|line| line.name != "quantise") {
            let kept = line.of == Of::Sampled || matches!(line.name, "router" | "mixing" | "shared_expert_gate");
            match &mut line.what {
                What::Gemm { n, k, format, weights } => {
                    if !kept {
                        *format = to;
                        *weights = *n as f64 * *k as f64 * bits(to) / 8.0;
                    }
                    let narrow = input_bytes(*format);
                    let (read, written) = (*k as f64 * 2.0, *k as f64 * narrow);
                    let what = What::Stream { read, written, weights: 0.0, launches: 1.0 };
                    if self.narrow.launches(line.name, *format) {
                        add(&mut lines, Line { name: "quantise", what, ..line.clone() });
                    }
                }
                What::Moe { format, numbers, weights, .. } => {
                    *format = to;
                    *weights = *numbers * bits(to) / 8.0;
                }
                What::Stream { .. } | What::Collective { .. } => {}
            }
            lines.push(line);
        }
        self.lines = lines;
        for attention in &mut self.attention {
            if let Form::Latent { expand: Some(expand), .. } = &mut attention.form {
                expand.format = to;
                expand.weights = expand.n as f64 * expand.k as f64 * bits(to) / 8.0;
            }
        }
    }
}

/// Adds a line, or counts it to one that is alike.
fn add(lines: &mut Vec<Line>, line: Line) {
    let alike = |other: &&mut Line| Line { runs: line.runs, ..(*other).clone() } == line;
    match lines.iter_mut().find(alike) {
        Some(other) => other.runs += line.runs,
        None => lines.push(line),
    }
}
