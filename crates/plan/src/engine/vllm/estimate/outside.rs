//! What do the libraries take beside the framework's allocator, and what do captured graphs take?

use plimsoll_units::{Bytes, Estimate, Source};

use super::fitted::{self, Range};
use super::{Launch, Setting};
use crate::{Entry, Formula, Item, Version};

/// Estimates the growth outside torch's allocator that the budget is charged with.
///
/// V0 and V1 before 0.11 count from before NCCL starts, later versions from after it (v1/worker/gpu_worker.py,
/// init_device); from 0.18 the trial capture of graphs leaves its driver memory in this number.
pub(super) fn non_torch(launch: &Launch<'_>) -> Entry {
    let range = range(&Setting::of(launch));
    let stack = stack(launch);
    let middle = Bytes::gib(range.middle) + stack;
    let size = Estimate::between(
        Bytes::gib(range.low) + stack,
        middle,
        Bytes::gib(range.high) + stack,
        Source::Measured(range.source.into()),
    );
    Entry {
        item: Item::RuntimeNonTorch,
        size,
        note: (stack > Bytes::ZERO).then(|| {
            "an odd vocabulary makes the sampling kernel spill registers, for which the driver reserves a stack".into()
        }),
        formula: Formula {
            text: "measured + spilled registers × threads".into(),
            values: vec![("measured", range.middle), ("spilled", stack.as_f64())],
        },
    }
}

impl Setting {
    /// Returns what of a launch decides.
    fn of(launch: &Launch<'_>) -> Self {
        let graphs = !launch.enforce_eager && !launch.capture_sizes.is_empty();
        Setting {
            v1: launch.v1,
            version: launch.version,
            tp: launch.parallel.tp,
            pp: launch.parallel.pp,
            large: launch.card.total.bytes >= Bytes::gib(70.0),
            hopper: matches!(launch.card.compute_capability, Some((9, _))),
            unified: launch.card.unified,
            other_vendor: crate::interval::other_vendor(launch.card),
            trial: graphs && !(launch.runner_v2 && launch.version < Version::new(0, 30, 0)),
        }
    }

    /// Returns the name of the class that the launch is measured by.
    pub fn class(&self) -> &'static str {
        range(self).source
    }
}

/// The measured class of a launch.
fn range(setting: &Setting) -> Range {
    let (many, large) = (setting.tp > 1, setting.large);
    if setting.unified {
        fitted::OUTSIDE_UNIFIED
    } else if setting.other_vendor {
        fitted::OUTSIDE_OTHER_VENDOR
    } else if !setting.v1 {
        match (many, setting.version < Version::new(0, 6, 5)) {
            (true, _) if large => fitted::OUTSIDE_V0_MANY_BIG,
            (true, _) => fitted::OUTSIDE_V0_MANY,
            (false, true) if large => fitted::OUTSIDE_V0_DEVICE_BIG,
            (false, true) => fitted::OUTSIDE_V0_DEVICE,
            (false, false) => fitted::OUTSIDE_V0,
        }
    } else if setting.version < Version::new(0, 18, 0) {
        match (many, large) {
            (true, true) => fitted::OUTSIDE_EARLY_MANY_BIG,
            (true, false) => fitted::OUTSIDE_EARLY_MANY,
            (false, true) => fitted::OUTSIDE_EARLY_BIG,
            (false, false) => fitted::OUTSIDE_EARLY,
        }
    } else {
        match (many, setting.pp > 1) {
            (true, _) if setting.hopper => fitted::OUTSIDE_MANY_HOPPER,
            (true, _) if large => fitted::OUTSIDE_MANY_BIG,
            (true, _) => fitted::OUTSIDE_MANY,
            (false, true) => fitted::OUTSIDE_STAGE,
            (false, false) if large => fitted::OUTSIDE_ONE,
            (false, false) if setting.trial => fitted::OUTSIDE_SMALL_TRIAL,
            (false, false) => fitted::OUTSIDE_SMALL_PLAIN,
        }
    }
}

/// Stack that the driver reserves for the top-k/top-p kernel when it spills more than the 1024 bytes a thread that CUDA
/// sets aside anyway.
///
/// Compiled with Triton 3.6 for compute capability 9.0, vLLM 0.19.0's kernel needs 768 to 880 bytes a thread for
/// vocabularies that divide by four, 1080 for even ones, 1696 to 1888 for odd ones, which it must read one number at a
/// time. 864 spilled bytes × 2048 threads × 132 multiprocessors are 0.22 GiB: what the launches with a vocabulary of
/// 49 155 took more than their neighbours.
fn stack(launch: &Launch<'_>) -> Bytes {
    let sorts = launch.v1 && !launch.runner_v2 && launch.version >= Version::new(0, 17, 0);
    let last = launch.pp_rank + 1 >= launch.parallel.pp;
    if !sorts || !last || launch.model.vocabulary.is_multiple_of(2) {
        return Bytes::ZERO;
    }
    let threads = if matches!(launch.card.compute_capability, Some((9 | 10, _) | (8, 0))) { 2048 } else { 1536 };
    Bytes::new(864) * threads * u64::from(launch.card.sm_count.unwrap_or(108))
}

/// What one capture of every size takes, as the engine itself extrapolates it: the larger of both modes' first captures
/// and, for each mode, the second capture times the rest (v1/worker/gpu_model_runner.py, profile_cudagraph_memory).
fn graphs(launch: &Launch<'_>) -> (Bytes, Vec<(&'static str, f64)>) {
    if launch.enforce_eager || launch.capture_sizes.is_empty() {
        return (Bytes::ZERO, Vec::new());
    }
    let layers = launch.layers.len().max(1) as f64;
    let each = if launch.parallel.tp > 1 { fitted::GRAPH_LAYER_MANY_MIB } else { fitted::GRAPH_LAYER_MIB };
    let decode = launch.max_num_seqs.saturating_mul(1 + u64::from(launch.speculative_tokens));
    let piecewise = launch.capture_sizes.len() as f64;
    let both = launch.v1 && launch.version >= Version::new(0, 11, 0);
    let full = if both { launch.capture_sizes.iter().filter(|size| **size <= decode).count() as f64 } else { 0.0 };
    let first = if both { fitted::GRAPH_FIRST_MIB } else { fitted::GRAPH_FIRST_EARLY_MIB };
    let rest = (piecewise - 1.0).max(0.0) + (full - 1.0).max(0.0);
    let total = Bytes::mib(first + rest * (each * layers).max(1.0));
    let values = vec![("first", first), ("piecewise", piecewise), ("full", full), ("each", each * layers)];
    (total, values)
}

const GRAPHS: &str = "first + (piecewise - 1 + full - 1) × each, MiB";

/// Estimates what the budget is reduced by for graphs.
pub(super) fn graphs_applied(launch: &Launch<'_>) -> Entry {
    let none = |why: &str| Entry {
        item: Item::Graphs,
        size: Estimate::exact(Bytes::ZERO, Source::Engine(why.to_owned().into())),
        note: None,
        formula: Formula { text: "0".into(), values: Vec::new() },
    };
    let asked = launch.estimate_graphs;
    if !launch.v1 || launch.version < Version::new(0, 18, 0) {
        return none("vLLM before 0.18 subtracts nothing for graphs");
    }
    if !asked.unwrap_or(launch.version >= Version::new(0, 20, 0)) {
        return none("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS is off (the default before 0.20)");
    }
    if launch.runner_v2 && launch.version < Version::new(0, 30, 0) {
        return none("vLLM 0.28.0, v1/worker/gpu/model_runner.py, profile_cudagraph_memory: model runner V2 returns 0");
    }
    let (bytes, values) = graphs(launch);
    if bytes == Bytes::ZERO {
        return none("no graphs are captured");
    }
    let spread = fitted::GRAPHS_APPLIED;
    Entry {
        item: Item::Graphs,
        size: spread.around(bytes.as_f64(), Source::Measured(spread.source.into())),
        note: Some("the engine extrapolates this from two captures; it has been off by factors".into()),
        formula: Formula { text: GRAPHS.into(), values },
    }
}

/// Estimates what graphs take once captured.
pub(super) fn graphs_actual(launch: &Launch<'_>) -> Entry {
    let (bytes, values) = graphs(launch);
    let spread = fitted::GRAPHS_ACTUAL;
    let size = if bytes == Bytes::ZERO {
        Estimate::exact(bytes, Source::Engine("no graphs are captured".into()))
    } else {
        spread.around(bytes.as_f64(), Source::Measured(spread.source.into()))
    };
    Entry { item: Item::Graphs, size, note: None, formula: Formula { text: GRAPHS.into(), values } }
}

/// Estimates persistent buffers that versions from 0.27 charge because they count everything that was consumed
/// (v1/worker/gpu_worker.py, determine_available_memory): model runner V2's sampler state and the step's inputs.
pub(super) fn buffers(launch: &Launch<'_>) -> Entry {
    let charged = launch.v1 && launch.version >= Version::new(0, 27, 0);
    let (s, v) = (launch.max_num_seqs as f64, launch.model.vocabulary as f64);
    let width = launch.dtype.bits() as f64 / 8.0;
    let state = if launch.runner_v2 { s * v * 4.0 + s * v / 8.0 } else { 0.0 };
    let embedded = launch.model.tower.is_some() && !launch.multimodal.language_model_only;
    let inputs =
        launch.max_num_batched_tokens as f64 * (30.0 + if embedded { launch.model.hidden as f64 * width } else { 0.0 });
    let bytes = if charged { state + inputs } else { 0.0 };
    let source = Source::Engine(
        if charged { "vLLM 0.33.0, v1/worker/gpu/sample and input_batch.py" } else { "not charged before 0.27" }.into(),
    );
    let size = if charged {
        Estimate::between(Bytes::from_f64(bytes), Bytes::from_f64(bytes), Bytes::from_f64(bytes + 0.3 * 1e9), source)
    } else {
        Estimate::exact(Bytes::ZERO, source)
    };
    Entry {
        item: Item::RuntimeBuffers,
        size,
        note: None,
        formula: Formula {
            text: "S × V × 4 + S × V / 8 + T × (30 + H × b)".into(),
            values: vec![("S", s), ("V", v), ("T", launch.max_num_batched_tokens as f64), ("state", state)],
        },
    }
}
