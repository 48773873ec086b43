//! What can be asked of growth?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vary::{Knob, Setting, Value};
use crate::{Error, PlanRequest};

/// Asks how memory grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrowRequest {
    /// The launch: model, card, engine and its flags, as for a plan. Without an engine vLLM is taken, and the answer says
    /// so; with `spec` there need be neither model nor engine nor card.
    #[serde(default)]
    pub launch: PlanRequest,
    /// A bare specification in place of a model: `layers=32,dim=4096,heads=32,head-dim=128`, and where wanted `kv-heads`,
    /// `inner`, `vocab`, `tied`, `bytes`, `kv-bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// What is varied or set, each knob once; at most two have several values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<VaryRequest>,
    /// Cards for which the longest context is wanted, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// The longest context for a spread of built-in cards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_gpu: bool,
}

/// A knob and its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaryRequest {
    /// `context`, `batch`, `heads`, `kv-heads`, `head-dim`, `dim`, `layers`, `format`, `kv-format`, `tp`, `pp` or `block`.
    pub knob: String,
    /// One value, a list `1,4,16`, a range that doubles `1k..128k`, or one with even steps `1k..8k:+1k`; k is 1024.
    pub values: String,
}

/// Points of one answer at most.
const MOST_POINTS: usize = 1 << 16;
/// Cards of one answer at most.
const MOST_GPUS: usize = 256;
/// Batches where nobody says.
const BATCHES: [u64; 4] = [1, 4, 16, 64];
/// The cards of `by_gpu`: what people own and rent, from 24 GB to 192 GB.
const SPREAD: [&str; 10] =
    ["rtx-4090", "rtx-5090", "l40s", "a100-40gb", "a100-80gb", "h100-sxm", "h200", "b200", "mi300x", "dgx-spark"];

/// One knob with several values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) knob: Knob,
    pub(super) values: Vec<Value>,
}

/// What is asked, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Along the rows.
    pub(super) x: Axis,
    /// Along the columns, where two are varied.
    pub(super) y: Option<Axis>,
    /// What has one value, context and batch not among it.
    pub(super) fixed: Vec<Setting>,
    /// Tokens of a sequence where no axis says.
    pub(super) context: u64,
    /// Sequences where no axis says.
    pub(super) batch: u64,
    pub(super) gpus: Vec<String>,
    pub(super) assumptions: Vec<String>,
}

impl Asked {
    /// Whether neither context nor batch is varied, so that each point goes as far as it does.
    pub(super) fn of_points(&self) -> bool {
        !matches!(self.x.knob, Knob::Context | Knob::Batch)
    }

    /// Reads the knobs of a request; `longest` is the longest sequence that the model is made for.
    pub(super) fn new(request: &GrowRequest, longest: u64) -> Result<Asked, Error> {
        let mut assumptions = Vec::new();
        let mut all: Vec<Axis> = Vec::new();
        for vary in &request.vary {
            let knob = Knob::parse(&vary.knob)?;
            if all.iter().any(|axis| axis.knob == knob) {
                return Err(Error::Request(format!("{} is varied twice; give its values in one list", knob.name())));
            }
            all.push(Axis { knob, values: knob.values(&vary.values)? });
        }
        let (mut axes, single): (Vec<Axis>, Vec<Axis>) = all.into_iter().partition(|axis| axis.values.len() > 1);
        if axes.len() > 2 {
            let names: Vec<&str> = axes.iter().map(|axis| axis.knob.name()).collect();
            return Err(Error::Request(format!(
                "{} are varied; at most two at a time: give the others one value, or use `plimsoll sweep`",
                names.join(", ")
            )));
        }
        let number = |knob: Knob| {
            single.iter().find(|axis| axis.knob == knob).and_then(|axis| match axis.values.first() {
                Some(Value::Number(number)) => Some(*number),
                Some(Value::Word(_)) | None => None,
            })
        };
        let (context, batch) = (number(Knob::Context), number(Knob::Batch));
        let named = |axes: &[Axis], knob| axes.iter().any(|axis| axis.knob == knob);
        let open = context.is_none() && !named(&axes, Knob::Context);
        if open && axes.iter().all(|axis| axis.knob == Knob::Batch) {
            let contexts = Knob::Context.values(&format!("{}..{longest}", longest.min(1024)))?;
            assumptions.push(format!(
                "contexts up to {longest}, the longest that the model is made for; --context says otherwise"
            ));
            axes.insert(0, Axis { knob: Knob::Context, values: contexts });
            if axes.len() == 1 && batch.is_none() {
                assumptions.push("batches of 1, 4, 16 and 64 sequences; --batch says otherwise".to_owned());
                axes.push(Axis { knob: Knob::Batch, values: BATCHES.map(Value::Number).to_vec() });
            }
        } else if open {
            assumptions.push(format!("sequences of {} tokens; --context says otherwise", longest.min(4096)));
        }
        if batch.is_none() && !named(&axes, Knob::Batch) {
            assumptions.push("one sequence at a time; --batch says otherwise".to_owned());
        }
        // The context goes along the rows, else the batch, else what was named first.
        axes.sort_by_key(|axis| match axis.knob {
            Knob::Context => 0,
            Knob::Batch => 1,
            Knob::Heads
            | Knob::KvHeads
            | Knob::HeadDim
            | Knob::Dim
            | Knob::Layers
            | Knob::Format
            | Knob::KvFormat
            | Knob::Tp
            | Knob::Pp
            | Knob::Block => 2,
        });
        let fixed = single.iter().filter(|axis| !matches!(axis.knob, Knob::Context | Knob::Batch));
        let fixed = fixed.filter_map(|axis| Some(Setting { knob: axis.knob, value: axis.values.first()?.clone() }));
        let fixed: Vec<Setting> = fixed.collect();
        let mut axes = axes.into_iter();
        let x = axes.next().unwrap_or(Axis { knob: Knob::Context, values: vec![Value::Number(context.unwrap_or(1))] });
        let y = axes.next();
        let points = x.values.len().saturating_mul(y.as_ref().map_or(1, |axis| axis.values.len()));
        if points > MOST_POINTS {
            return Err(Error::Request(format!("{points} points; at most {MOST_POINTS} are answered at once")));
        }
        Ok(Asked {
            x,
            y,
            fixed,
            context: context.unwrap_or(longest.clamp(1, 4096)),
            batch: batch.unwrap_or(1),
            gpus: gpus(request)?,
            assumptions,
        })
    }
}

/// The cards for which the longest context is wanted.
fn gpus(request: &GrowRequest) -> Result<Vec<String>, Error> {
    let mut gpus: Vec<String> = request.gpus.iter().map(|name| name.trim().to_owned()).collect();
    if gpus.len() > MOST_GPUS || gpus.iter().any(String::is_empty) {
        return Err(Error::Request(format!("gpus: expected up to {MOST_GPUS} names such as h100-sxm")));
    }
    if request.by_gpu {
        gpus.extend(SPREAD.map(str::to_owned));
    }
    let mut seen: Vec<String> = Vec::new();
    gpus.retain(|gpu| {
        let new = !seen.contains(gpu);
        seen.push(gpu.clone());
        new
    });
    Ok(gpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(vary: &[(&str, &str)]) -> Result<Asked, Error> {
        let vary = vary.iter().map(|(knob, values)| VaryRequest { knob: (*knob).into(), values: (*values).into() });
        Asked::new(&GrowRequest { vary: vary.collect(), ..GrowRequest::default() }, 8192)
    }

    #[test]
    fn axes_and_what_stays() {
        for (vary, x, y, batch, context, assumed) in [
            (&[][..], (Knob::Context, 4), Some((Knob::Batch, 4)), 1, 4096, 2),
            (&[("batch", "1,4"), ("context", "1k..4k")], (Knob::Context, 3), Some((Knob::Batch, 2)), 1, 4096, 0),
            (&[("batch", "1..8")], (Knob::Context, 4), Some((Knob::Batch, 4)), 1, 4096, 1),
            (&[("batch", "8")], (Knob::Context, 4), None, 8, 4096, 1),
            (&[("batch", "1..8"), ("context", "2k")], (Knob::Batch, 4), None, 1, 2048, 0),
            (&[("layers", "8..32"), ("tp", "2")], (Knob::Layers, 3), None, 1, 4096, 2),
            (&[("layers", "8..32"), ("context", "1k,2k")], (Knob::Context, 2), Some((Knob::Layers, 3)), 1, 4096, 1),
            (&[("tp", "1..4"), ("batch", "1,2")], (Knob::Batch, 2), Some((Knob::Tp, 3)), 1, 4096, 1),
            (&[("context", "2k"), ("batch", "3")], (Knob::Context, 1), None, 3, 2048, 0),
        ] {
            let found = asked(vary).unwrap();
            let size = |axis: &Axis| (axis.knob, axis.values.len());
            assert_eq!((size(&found.x), found.y.as_ref().map(size)), (x, y), "{vary:?}");
            assert_eq!((found.batch, found.context, found.assumptions.len()), (batch, context, assumed), "{vary:?}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        for (vary, message) in [
            (&[("tp", "1,2"), ("pp", "1,2"), ("batch", "1,2")][..], "tp, pp, batch are varied; at most two at a time"),
            (&[("tp", "1"), ("tp", "2")], "tp is varied twice"),
            (&[("speed", "1")], "`speed` is nothing that can be varied"),
            (&[("context", "1..4096:+1"), ("batch", "1..4096:+1")], "16777216 points; at most 65536"),
        ] {
            let error = asked(vary).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
