//! Which numbers of the rows are constants fitted on? Every logged share with its class, and every complete launch.

use std::collections::BTreeMap;
use std::path::Path;

use plimsoll_facts::catalogue;
use plimsoll_facts::model::Model;
use plimsoll_plan::engine::vllm::defaults::resolve as defaults;
use plimsoll_plan::engine::vllm::estimate::{Estimates, Setting, estimate};
use plimsoll_plan::engine::vllm::options::Options;
use plimsoll_plan::engine::vllm::{Case, plan};
use plimsoll_plan::interval::group_of;
use plimsoll_plan::{Card, Entry, Given, Version};
use plimsoll_units::{Bytes, Estimate, Source};
use serde_json::json;

use super::bands::Sweeps;
use super::launch::{first_stage, options};
use super::reasons::reason;
use super::resolve;
use super::row::Row;

/// What a point is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The profile run's peak, as a factor of the formula.
    Activation,
    /// Memory outside the framework, GiB.
    Outside,
    /// Graphs, as a factor of the formula.
    Graphs,
    /// A number inside a formula.
    Constant,
}

impl Kind {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Activation => "activation",
            Kind::Outside => "non-torch",
            Kind::Graphs => "graphs",
            Kind::Constant => "constant",
        }
    }

    /// Whether points are factors of a formula, whose value is one.
    pub fn is_factor(self) -> bool {
        matches!(self, Kind::Activation | Kind::Graphs)
    }

    /// Whether the class has an interval.
    pub fn has_interval(self) -> bool {
        self != Kind::Constant
    }
}

/// One logged share.
#[derive(Clone, Debug)]
pub struct Point {
    /// Of what.
    pub kind: Kind,
    /// The class.
    pub class: String,
    /// The thread.
    pub thread: String,
    /// What is left out together: the thread, or the thread's launches of one model in large sweeps.
    pub unit: String,
    /// The launch in words.
    pub label: String,
    /// The factor or the amount.
    pub value: f64,
}

/// A launch with its estimates.
pub struct Launched {
    /// Number of the line.
    pub line: usize,
    /// What is left out together.
    pub unit: String,
    /// The group by which its interval is measured.
    pub group: String,
    /// Estimates as committed.
    pub estimates: Estimates,
    /// Class of the activation's interval.
    pub activation_class: String,
    /// Class of what is outside the framework.
    pub outside_class: String,
    /// The part of it that is computed, GiB.
    pub stack: f64,
    /// Weights of the first rank.
    pub weights: Bytes,
    /// What may be used.
    pub limit: Bytes,
    /// The logged budget, GiB.
    pub logged: f64,
    /// The card, GiB.
    pub total: f64,
}

/// Collects everything that the rows and the one published launch give.
pub fn collect(rows: &[Row], models: Option<&Path>) -> (Vec<Point>, Vec<Launched>) {
    let (mut points, mut launched, mut graphs) = (Vec::new(), Vec::new(), Vec::new());
    let sweeps = Sweeps::new(rows.iter().map(|row| (row.thread(), row.text("model"))));
    for row in rows {
        if row.text("engine") == "vllm" {
            let stack = known(row, models, &sweeps, &mut points, &mut launched, &mut graphs).unwrap_or_default();
            outside(row, rows, &sweeps, &stack, &mut points);
        }
    }
    points.extend(published());
    constants(&graphs, &mut points);
    (points, launched)
}

/// What planning a row adds to what it says itself.
#[derive(Default)]
struct Planned {
    stack: f64,
    buffers: f64,
    runner_v2: bool,
}

/// One launch's graphs: GiB logged, first captures, captures after the first times layers.
struct Captured {
    thread: String,
    mib: f64,
    rest: f64,
    many: bool,
    both: bool,
}

/// Collects from a row whose model is known.
fn known(
    row: &Row,
    models: Option<&Path>,
    sweeps: &Sweeps,
    points: &mut Vec<Point>,
    launched: &mut Vec<Launched>,
    graphs: &mut Vec<Captured>,
) -> Option<Planned> {
    let (known, card, (version, _)) = (resolve::find(row, models).ok()?, resolve::card(row).ok()?, row.version()?);
    let options = options(row, version).ok()?;
    let settings = defaults(version, &known.model, &card, &options).ok()?;
    let weights = Bytes::gib(row.number("weights_gib").unwrap_or(0.0).max(0.0));
    let launch = first_stage(&known.model, &card, &options, &settings, weights).ok()?;
    let got = estimate(&launch);
    let stack = Bytes::from_f64(value(&got.non_torch, "spilled")).as_gib();
    let buffers = got.buffers.size.bytes.as_gib();
    let planned = Planned { stack, buffers, runner_v2: settings.runner_v2 };
    let class = |entry: &Entry| entry.size.source.detail().rsplit("interval: ").next().unwrap_or_default().to_owned();
    let unit = sweeps.unit(row.thread(), row.text("model"));
    launched.extend(complete(row, unit.clone(), &known.model, &card, version, &options, &got));
    let spoilt = foreign(row) || reason(row.thread(), &row.words()).is_some_and(|why| !why.contains("graphs"));
    if spoilt {
        return Some(planned);
    }
    let label = format!("{}:{} {} {} {}", row.thread(), row.line, settings.version, row.text("model"), card.name);
    let mut add = |kind: Kind, class: String, value: f64| {
        let (thread, label, unit) = (row.thread().to_owned(), label.clone(), unit.clone());
        points.push(Point { kind, class, thread, unit, label, value });
    };
    let consumed = settings.v1 && settings.version >= Version::new(0, 27, 0);
    let peak = row.number("activation_peak_gib").filter(|_| !consumed);
    if let Some(logged) = peak {
        let ours = got.activation.size.bytes.as_gib();
        let class = class(&got.activation);
        if class == "text models on V1" {
            add(Kind::Constant, "small buffers, MiB".to_owned(), (logged - ours) * 1024.0 + buffers_mib());
        }
        add(Kind::Activation, class, logged / ours);
    }
    let (first, each) = (value(&got.graphs_actual, "piecewise"), launch.layers.len() as f64);
    let rest = ((first - 1.0).max(0.0) + (value(&got.graphs_actual, "full") - 1.0).max(0.0)) * each;
    let ours = got.graphs_actual.size.bytes.as_gib();
    let taken = row.number("cudagraph_gib").filter(|gib| *gib > 0.0 && ours > 0.0);
    if let Some(logged) = taken {
        add(Kind::Graphs, "graphs captured in logs".to_owned(), logged / ours);
    }
    let extrapolated = own_estimate(&row.words()).filter(|_| ours > 0.0);
    if let Some(logged) = extrapolated {
        add(Kind::Graphs, "the engine's estimates in logs, V1 from 0.18".to_owned(), logged / ours);
    }
    let both = settings.v1 && settings.version >= Version::new(0, 11, 0);
    // Where both modes are captured, what the budget is charged with is the engine's own extrapolation.
    if let Some(logged) = if both { extrapolated } else { taken } {
        graphs.push(Captured {
            thread: row.thread().to_owned(),
            mib: logged * 1024.0,
            rest,
            many: settings.parallel.tp > 1,
            both,
        });
    }
    Some(planned)
}

/// The class that an entry's interval was measured on.
fn class(entry: &Entry) -> String {
    entry.size.source.detail().rsplit("interval: ").next().unwrap_or_default().to_owned()
}

/// A value of an entry's formula, zero where it has none of that name.
fn value(entry: &Entry, name: &str) -> f64 {
    entry.formula.values.iter().find(|(key, _)| *key == name).map_or(0.0, |(_, value)| *value)
}

/// A row with its estimates, where its budget can be compared.
fn complete(
    row: &Row,
    unit: String,
    model: &Model,
    card: &Card,
    version: Version,
    options: &Options,
    got: &Estimates,
) -> Option<Launched> {
    let logged = row.number("kv_cache_gib")?;
    row.number("gpu_memory_utilization")?;
    let plan = plan(&Case { model, card, version, options, given: &Given::default() }).ok()?;
    Some(Launched {
        line: row.line,
        unit,
        group: group_of(&plan.ranks[0].kv_budget.source).to_owned(),
        activation_class: class(&got.activation),
        outside_class: class(&got.non_torch),
        stack: Bytes::from_f64(value(&got.non_torch, "spilled")).as_gib(),
        weights: plan.ranks[0].ledger.weights(),
        limit: plan.ranks[0].limit,
        logged,
        total: card.total.bytes.as_gib(),
        estimates: got.clone(),
    })
}

/// The committed small buffers, which the residual is taken on top of.
fn buffers_mib() -> f64 {
    plimsoll_plan::engine::vllm::estimate::fitted()
        .iter()
        .find(|constant| constant.class == "small buffers, MiB")
        .map_or(0.0, |constant| constant.middle)
}

/// The engine's own estimate of its graphs, from a row's words.
fn own_estimate(words: &str) -> Option<f64> {
    let place = words.find("CUDA graph estimate ").map(|at| at + 20);
    let text = &words[place.or_else(|| words.find("graph est ").map(|at| at + 10))?..];
    text.split([' ', ';', '"', '(']).next()?.parse::<f64>().ok()
}

/// Numbers inside the graphs' formula. First capture and slope are those whose relative errors, a thread's mean counting
/// once, are least among launches of one rank; the others follow from them.
fn constants(graphs: &[Captured], points: &mut Vec<Point>) {
    let mut add = |class: &str, thread: &str, value: f64| {
        let (class, thread) = (class.to_owned(), thread.to_owned());
        points.push(Point { kind: Kind::Constant, class, unit: thread.clone(), thread, label: String::new(), value });
    };
    let (mut first, mut slope, mut least) = (f64::NAN, f64::NAN, f64::INFINITY);
    for mib in (50..=800).step_by(2) {
        for hundredth in 1..=60 {
            let (mib, each) = (f64::from(mib), f64::from(hundredth) / 100.0);
            let mut threads: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
            for captured in graphs.iter().filter(|c| !c.many && c.both) {
                let off = (captured.mib / (mib + each * captured.rest)).ln().abs();
                let sum = threads.entry(&captured.thread).or_default();
                *sum = (sum.0 + off, sum.1 + 1.0);
            }
            let error = threads.values().map(|(off, rows)| off / rows).sum::<f64>();
            if error < least - 1e-12 {
                (first, slope, least) = (mib, each, error);
            }
        }
    }
    for captured in graphs.iter().filter(|c| !c.many && c.both) {
        add("each further graph, per layer, MiB", &captured.thread, slope);
        add("first capture, both modes, MiB", &captured.thread, first);
    }
    for captured in graphs.iter().filter(|c| c.rest > 0.0) {
        if captured.many && captured.both {
            let each = (captured.mib - first) / captured.rest;
            add("each further graph, per layer, tensor parallel, MiB", &captured.thread, each);
        } else if !captured.both {
            add("first capture, piecewise only, MiB", &captured.thread, captured.mib - slope * captured.rest);
        }
    }
}

/// Whether a row's engine or card is another than the constants are for, or the launch a second one.
fn foreign(row: &Row) -> bool {
    other_vendor(row) || forked(row)
}

fn other_vendor(row: &Row) -> bool {
    let words = row.words();
    let marks = ["AMD", "Intel", "ROCm", "MI300", "gfx906"];
    marks.iter().any(|mark| words.contains(mark) || row.text("gpu").contains(mark))
}

fn forked(row: &Row) -> bool {
    let words = row.words();
    ["fork", "Dev branch", "WARM", "PLE"].iter().any(|mark| words.contains(mark) || row.text("gpu").contains(mark))
        || row.text("engine_version").contains("fork")
}

/// Adds what a row says of memory outside the framework, whether its model is known or not.
fn outside(row: &Row, rows: &[Row], sweeps: &Sweeps, planned: &Planned, points: &mut Vec<Point>) {
    let words = row.words();
    if forked(row) {
        return;
    }
    let card = resolve::card(row).ok();
    let Some(card) = card else { return };
    // Logs from 0.27 print what was consumed with the weights.
    let consumed = ["consumed ", "consumed(weights+non-torch)="]
        .iter()
        .find_map(|mark| figure(words.split(mark).nth(1)?))
        .or_else(|| figure(words.split_once("(consumed)")?.0.rsplit('-').next()?));
    let weights = row.number("weights_gib").or_else(|| {
        // The same launch again, or the same model over as many ranks, whose weights another row states.
        let same = words.contains("same launch,");
        let alike = |r: &&Row| {
            let model = row.text("model");
            let of = !model.is_empty() && r.text("model") == model && r.count("tp") == row.count("tp");
            (same && r.thread() == row.thread()) || of
        };
        rows.iter().filter(alike).find_map(|r| r.number("weights_gib"))
    });
    let logged = row.number("non_torch_gib").or_else(|| Some(consumed? - weights?));
    let (Some(logged), Some(tp)) = (logged, row.count("tp").and_then(|tp| u32::try_from(tp).ok())) else { return };
    let version = row.version().map(|(version, _)| version);
    let Some(version) = version.or_else(|| consumed.map(|_| Version::new(0, 27, 0))) else { return };
    let runner_v2 = planned.runner_v2 || words.contains("V2 model runner") || words.contains("V2 runner");
    let eager = row.number("cudagraph_gib").is_some_and(|gib| gib <= 0.0);
    let setting = Setting {
        v1: !row.v0() && version >= Version::new(0, 8, 0),
        version,
        tp,
        pp: row.count("pp").and_then(|pp| u32::try_from(pp).ok()).unwrap_or(1),
        large: card.total.bytes >= Bytes::gib(70.0),
        hopper: matches!(card.compute_capability, Some((9, _))),
        unified: card.unified || row.text("gpu").contains("Jetson"),
        other_vendor: other_vendor(row),
        trial: !eager && (!runner_v2 || version >= Version::new(0, 30, 0)),
    };
    let buffers = if row.number("non_torch_gib").is_some() { 0.0 } else { planned.buffers };
    points.push(Point {
        kind: Kind::Outside,
        class: setting.class().to_owned(),
        thread: row.thread().to_owned(),
        unit: sweeps.unit(row.thread(), row.text("model")),
        label: format!("{}:{} {version} {} {}", row.thread(), row.line, row.text("model"), card.name),
        value: logged - planned.stack - buffers,
    });
}

/// The number that a text starts with.
fn figure(text: &str) -> Option<f64> {
    let digits: String = text.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    digits.trim_end_matches('.').parse().ok()
}

/// What the launch published with LLMServingSim's traces (casys-kaist/LLMServingSim, vLLM 0.19.0 on an RTX 4090: 2588
/// blocks of 16 tokens) leaves beside the other estimates. Whatever those miss is in it too.
fn published() -> Option<Point> {
    let model = catalogue::model("meta-llama/Llama-3.1-8B").ok()?.model;
    let card = Card {
        name: "GeForce RTX 4090".to_owned(),
        total: Estimate::exact(Bytes::new(25_250_627_584), Source::Given),
        compute_capability: Some((8, 9)),
        sm_count: Some(128),
        unified: false,
        count: 1,
    };
    let flags = json!({ "max_model_len": 32768, "max_num_batched_tokens": 2048, "max_num_seqs": 256 });
    let version = Version::new(0, 19, 0);
    let options = Options::from_map(flags.as_object()?, version).ok()?;
    let plan = plan(&Case { model: &model, card: &card, version, options: &options, given: &Given::default() }).ok()?;
    let settings = defaults(version, &model, &card, &options).ok()?;
    let got = estimate(&first_stage(&model, &card, &options, &settings, plan.ranks[0].ledger.weights()).ok()?);
    let budget = Bytes::new((2 * 2588 + 1) * 1_048_576);
    let left = plan.ranks[0].limit.as_gib() - plan.ranks[0].ledger.weights().as_gib() - budget.as_gib();
    Some(Point {
        kind: Kind::Outside,
        class: got.non_torch.size.source.detail().to_owned(),
        thread: "casys-kaist/LLMServingSim".to_owned(),
        unit: "casys-kaist/LLMServingSim".to_owned(),
        label: "published launch on RTX 4090".to_owned(),
        value: left - got.activation.size.bytes.as_gib(),
    })
}
