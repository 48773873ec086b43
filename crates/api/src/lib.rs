//! How do I ask? One request and one answer per verb, plain data with a JSON Schema; what must be read from outside comes
//! through [`World`].
//!
//! ```
//! use plimsoll_api::{Desk, NoFiles, PlanRequest};
//! let request: PlanRequest = serde_json::from_str(
//!     r#"{"model": "llama-3.1-8b", "gpu": "h100-sxm", "command": "vllm serve llama-3.1-8b --max-model-len 8192"}"#)?;
//! let answer = plimsoll_api::plan(&request, &Desk::new(&NoFiles))?;
//! assert!(answer.verdict.fits);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod answer;
mod batched;
mod choices;
pub mod compare;
mod error;
mod explain;
pub mod grow;
mod heads;
mod hub;
mod inspect;
pub mod launch;
mod ollama;
pub mod plan;
pub mod reconcile;
mod request;
pub mod roofline;
pub mod simulate;
mod standing;
mod support;
pub mod sweep;
pub mod textbook;
pub mod vary;
mod visible;
mod world;

pub use answer::{CatalogueAnswer, InspectAnswer, PlanAnswer};
pub use batched::run_batched;
pub use compare::answer::ComparisonAnswer;
pub use compare::{ComparisonRequest, compare};
pub use error::Error;
pub use explain::{Explanation, explain};
pub use grow::answer::GrowAnswer;
pub use grow::{GrowRequest, VaryRequest, grow};
pub use inspect::{catalogue, inspect};
pub use ollama::Modelfile;
pub use plan::{plan, prepare};
pub use plimsoll_plan::Section;
pub use plimsoll_study::{log, profile};
pub use reconcile::{ReconcileAnswer, ReconcileRequest, reconcile};
pub use request::{GivenRequest, GpuRequest, InspectRequest, PlanRequest};
pub use roofline::answer::RooflineAnswer;
pub use roofline::{RooflineRequest, roofline};
pub use simulate::answer::{SimulateAnswer, SimulateCompareAnswer};
pub use simulate::{
    CompareRequest, CostRequest, MeasureRequest, ObjectivesRequest, SimulateRequest, Simulated, TraceRequest, simulate,
};
pub use world::{Desk, Kept, ModelFiles, NoFiles, Stream, World};
