//! What does the simulation say of a row? The engine's own scheduler under the row's traffic, row by row on all cores.

use plimsoll_api::{Desk, Simulated, simulate};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::launch::{Launches, request};
use super::measured::Measurement;

/// Nobody looks on.
struct Nobody;

impl plimsoll_sim::Watch for Nobody {}

/// The seed of all simulations of rows; any other gives the same within a percent.
const SEED: u64 = 1;

/// A row with what was predicted of it.
pub struct Outcome {
    /// The row.
    pub row: Measurement,
    /// The prediction, or why there is none.
    pub predicted: Result<Predicted, String>,
}

/// What a simulation gave.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// Time to first token, milliseconds: mean and median.
    pub ttft: (f64, f64),
    /// Time per output token, milliseconds: mean and median.
    pub tpot: (f64, f64),
    /// Whether the launch's flags are known.
    pub known: bool,
    /// Whether the launch may hold prompts back, which is not simulated.
    pub delays: bool,
    /// Layers of the model.
    pub layers: f64,
    /// Steps of the simulation.
    pub steps: u64,
    /// Requests that lost their blocks.
    pub preempted: u64,
}

/// Measured and predicted of one kind of time.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// As measured, milliseconds.
    pub measured: f64,
    /// As predicted, milliseconds.
    pub predicted: f64,
}

impl Pair {
    /// Returns predicted over measured.
    pub fn ratio(self) -> f64 {
        self.predicted / self.measured
    }
}

impl Outcome {
    /// Returns the mean time per output token, where it was predicted.
    pub fn tpot(&self) -> Option<Pair> {
        let predicted = self.predicted.as_ref().ok()?.tpot.0;
        Some(Pair { measured: self.row.tpot, predicted })
    }

    /// Returns the mean time to first token, where it was predicted. No row says whether it is a mean: over the nightly
    /// benchmark's concurrencies predicted means keep the same distance from what is measured, medians do not.
    pub fn ttft(&self) -> Option<Pair> {
        let predicted = self.predicted.as_ref().ok()?.ttft.0;
        Some(Pair { measured: self.row.ttft, predicted })
    }

    /// Returns the row as one JSON line.
    pub fn json(&self) -> Value {
        let row = &self.row;
        let mut line = json!({
            "id": row.id, "engine": row.engine, "version": row.version, "model": row.model, "system": row.system,
            "precision": row.precision, "disaggregated": row.disaggregated,
            "isl": row.lengths.0, "osl": row.lengths.1, "concurrency": row.concurrency, "date": row.date,
            "nightly": row.nightly(), "stored": row.stored, "ttft_ms": row.ttft, "tpot_ms": row.tpot,
        });
        if let Ok(division) = row.division {
            line["division"] = json!({ "tp": division.tp, "pp": division.pp, "dp": division.dp, "ep": division.ep });
        }
        match &self.predicted {
            Ok(of) => {
                line["predicted"] = json!({
                    "ttft_mean_ms": of.ttft.0, "ttft_p50_ms": of.ttft.1, "tpot_mean_ms": of.tpot.0,
                    "tpot_p50_ms": of.tpot.1, "known": of.known, "layers": of.layers, "steps": of.steps, "preempted": of.preempted,
                });
            }
            Err(why) => line["left_out"] = why.clone().into(),
        }
        line
    }
}

/// Predicts every row.
pub fn all(rows: Vec<Measurement>, desk: &Desk<'_>, launches: &Launches) -> Vec<Outcome> {
    rows.into_par_iter()
        .map(|row| {
            let predicted = one(&row, desk, launches);
            Outcome { row, predicted }
        })
        .collect()
}

fn one(row: &Measurement, desk: &Desk<'_>, launches: &Launches) -> Result<Predicted, String> {
    if row.disaggregated {
        return Err("prefill and decode ran apart".to_owned());
    }
    let asked = request(row, launches, SEED).map_err(|why| format!("{why:#}"))?;
    let Simulated::One(answer) = simulate(&asked.request, desk, &mut Nobody).map_err(|error| error.to_string())? else {
        return Err("a comparison".to_owned());
    };
    let model = asked.request.launch.model.as_deref().and_then(|name| desk.model(name).ok());
    let (Some(ttft), Some(tpot)) = (answer.ttft_ms, answer.tpot_ms) else {
        return Err("no request was served".to_owned());
    };
    Ok(Predicted {
        ttft: (ttft.mean, ttft.p50),
        tpot: (tpot.mean, tpot.p50),
        known: asked.known,
        delays: launches.delays(row),
        layers: model.map_or(0.0, |loaded| loaded.model.layers.len() as f64),
        steps: answer.steps,
        preempted: answer.preemptions,
    })
}
