//! How does memory grow? Weights, activations and KV cache against one knob or two, where lines cross, and how far the card
//! goes.

pub mod answer;
mod bare;
mod find;
mod request;
mod spec;
mod words;

use plimsoll_plan::State;
use plimsoll_plan::engine::Depth;
use plimsoll_units::Bytes;

pub use request::{GrowRequest, VaryRequest};

use self::answer::{
    AxisAnswer, CardReachAnswer, GrowAnswer, LaunchAnswer, LineAnswer, NeedAnswer, PartAnswer, PointAnswer,
    ReachAnswer, SettingAnswer,
};
use self::bare::Bare;
use self::find::{Along, Column, Ground};
use self::request::{Asked, Axis};
use self::spec::Spec;
use crate::answer::ModelHead;
use crate::launch::IDLE;
use crate::textbook::{TextbookAnswer, TextbookLine, textbook_of};
use crate::vary::{Base, Knob, Need, Part, Setting, Value, Varied};
use crate::{Desk, Error, PlanRequest, heads};

/// Points at most of which it is sought how far they go, where neither context nor batch is varied.
const MOST_REACHES: usize = 256;

/// Answers how memory grows.
///
/// # Errors
/// [`Error`] when the question is malformed, or no point of it can be planned. Points that an engine refuses are rows with
/// its reason.
pub fn grow(request: &GrowRequest, desk: &Desk<'_>) -> Result<GrowAnswer, Error> {
    let subject = Subject::new(request, desk)?;
    let asked = Asked::new(request, subject.longest)?;
    let ground = &subject.ground;
    let shown = shown(ground, &asked)?;
    let columns = columns(ground, &asked, subject.longest);
    let mut points = Vec::new();
    let mut lines = Vec::new();
    for (settings, column) in &columns {
        for value in &asked.x.values {
            let (point, need) = point(ground, &asked, settings, value);
            if let (Some(column), Value::Number(value)) = (column, value) {
                column.seen(*value, need);
            }
            points.push(point);
        }
        lines.extend(column.as_ref().map(Column::line));
    }
    let mut largest_batches = largest(ground, &asked);
    let mut notes = subject.notes;
    if asked.of_points() {
        if points.len() <= MOST_REACHES {
            (lines, largest_batches) = by_point(ground, &asked, subject.longest);
        } else {
            notes.push(format!(
                "how far each of {} points goes is not sought: at most that of {MOST_REACHES} is",
                points.len()
            ));
        }
    }
    notes.extend(fullest(&asked, &points));
    let gpus = by_gpu(request, &asked, subject.longest, desk)?;
    let mut answer = GrowAnswer {
        model: subject.model,
        launch: None,
        axes: [Some(&asked.x), asked.y.as_ref()].into_iter().flatten().map(axis).collect(),
        fixed: fixed(&asked),
        findings: Vec::new(),
        points,
        lines,
        largest_batches,
        gpus,
        textbook: subject.textbook,
        assumptions: subject.assumptions,
        notes,
    };
    answer.assumptions.extend(asked.assumptions.iter().cloned());
    if let Some(varied) = shown {
        say(&mut answer, &varied, &asked);
        answer.assumptions.extend(common(ground, &asked, &varied));
    }
    answer.findings = words::findings(&answer);
    Ok(answer)
}

/// What is grown.
struct Subject<'d> {
    ground: Ground<'d>,
    model: ModelHead,
    /// The longest sequence that the model is made for.
    longest: u64,
    textbook: Option<TextbookAnswer>,
    assumptions: Vec<String>,
    notes: Vec<String>,
}

impl<'d> Subject<'d> {
    fn new(request: &GrowRequest, desk: &'d Desk<'d>) -> Result<Subject<'d>, Error> {
        let Some(text) = &request.spec else {
            let base = Base::new(&request.launch, desk)?;
            let loaded = &base.prepared().loaded;
            let (model, longest) = (heads::head(loaded), longest(&loaded.model));
            let ground = Ground::Launch(Box::new(base));
            return Ok(Subject { ground, model, longest, textbook: None, assumptions: Vec::new(), notes: Vec::new() });
        };
        if let Some(model) = &request.launch.model {
            return Err(Error::Request(format!("both --spec and the model {model} are given; one is grown")));
        }
        let spec = Spec::parse(text)?;
        let (name, loaded) = spec.load(desk)?;
        let mut assumptions = spec.assumptions.clone();
        let launch = PlanRequest { model: Some(name.clone()), ..request.launch.clone() };
        let ground = if launch.engine.is_some() || launch.command.is_some() {
            if spec.kv_bytes.is_some() {
                return Err(Error::Request(
                    "kv-bytes stands for a cache without an engine; with one vary kv-format".into(),
                ));
            }
            Ground::Launch(Box::new(Base::new(&launch, desk)?.with_config(spec.config())))
        } else {
            assumptions.push(bare::RULE.to_owned());
            let card = card(&launch, desk)?;
            let named = (name, std::sync::Arc::clone(&loaded));
            Ground::Bare(Box::new(Bare::new(named, spec.config(), spec.kv_bytes, card, desk)))
        };
        let longest = longest(&loaded.model);
        let textbook = match &ground {
            // An engine's plan needs no closed form beside it.
            Ground::Launch(_) => None,
            Ground::Bare(_) => Some(beside(&spec, &loaded.model, &ground, longest)?),
        };
        Ok(Subject { ground, model: heads::head(&loaded), longest, textbook, assumptions, notes: Vec::new() })
    }
}

/// The textbook's closed form of a bare specification, for the card where one is named.
fn beside(
    spec: &Spec,
    model: &plimsoll_facts::model::Model,
    ground: &Ground<'_>,
    longest: u64,
) -> Result<TextbookAnswer, Error> {
    let parsed: plimsoll_plan::generic::Spec = spec.textbook().parse()?;
    let mut lines = textbook_of(&parsed, Some(model));
    let column = Column::new(ground, Vec::new(), Vec::new(), Along::Context { batch: 1, most: longest });
    if let (true, Ok(need)) = (ground.has_card(), ground.need_at(&[], 1, 1)) {
        // What holds for one token holds for many, and other cards are not asked for.
        lines.retain(|line| line.unit == "bytes" && !line.what.starts_with("KV at "));
        lines.push(TextbookLine {
            what: "longest context".to_owned(),
            unit: "tokens".to_owned(),
            textbook: parsed.longest_context(need.card).min(longest) as f64,
            real: column.reach().most.map(|most| most as f64),
            why: String::new(),
        });
    }
    Ok(TextbookAnswer { spec: spec.textbook().to_owned(), model: Some("this decoder".to_owned()), lines })
}

/// The longest sequence that a model is made for.
fn longest(model: &plimsoll_facts::model::Model) -> u64 {
    match model.positions_limit.max(model.max_positions) {
        0 => spec::POSITIONS,
        longest => longest,
    }
}

/// The memory of a card that is filled without an engine.
fn card(launch: &PlanRequest, desk: &Desk<'_>) -> Result<Option<Bytes>, Error> {
    if let Some(bytes) = launch.gpu_total_bytes {
        return Ok(Some(Bytes::new(bytes)));
    }
    let Some(name) = &launch.gpu else { return Ok(None) };
    let gpu = desk.gpu(name)?;
    match gpu.total() {
        Some(total) => Ok(Some(total.bytes)),
        None => Err(plimsoll_plan::Error::UnknownMemory { gpu: gpu.name.clone() }.into()),
    }
}

/// Plans the first point that is not refused: its heads and notes are the answer's.
fn shown(ground: &Ground<'_>, asked: &Asked) -> Result<Option<Varied>, Error> {
    let mut first = None;
    for y in each(asked.y.as_ref()) {
        for x in &asked.x.values {
            let (settings, batch, context) = place(asked, y, x);
            let tried = match ground {
                Ground::Launch(base) => base.planned_at(&settings, batch, context, Depth::Outcome).map(Some),
                Ground::Bare(bare) => bare.need_at(&settings, batch, context).map(|_| None),
            };
            match tried {
                Ok(varied) => return Ok(varied),
                Err(error) => first = first.or(Some(error)),
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::Request("nothing is asked".to_owned())))
}

/// What nobody said and holds at the first point that is planned as at the last: a default may follow the point.
fn common(ground: &Ground<'_>, asked: &Asked, first: &Varied) -> Vec<String> {
    let y = each(asked.y.as_ref()).last().copied().flatten();
    let last = match (ground, asked.x.values.last()) {
        (Ground::Launch(base), Some(x)) => {
            let (settings, batch, context) = place(asked, y, x);
            base.planned_at(&settings, batch, context, Depth::Ledger).ok()
        }
        (Ground::Launch(_) | Ground::Bare(_), _) => None,
    };
    let holds = |said: &&String| last.as_ref().is_none_or(|last| last.plan.assumptions.contains(said));
    first.plan.assumptions.iter().filter(holds).cloned().collect()
}

/// The values of an axis, or once nothing.
fn each(axis: Option<&Axis>) -> Vec<Option<&Value>> {
    axis.map_or(vec![None], |axis| axis.values.iter().map(Some).collect())
}

/// The settings, the batch and the context of a point.
fn place(asked: &Asked, y: Option<&Value>, x: &Value) -> (Vec<Setting>, u64, u64) {
    let (mut settings, mut batch, mut context) = (asked.fixed.clone(), asked.batch, asked.context);
    let mut put = |knob: Knob, value: &Value| match (knob, value) {
        (Knob::Batch, Value::Number(number)) => batch = *number,
        (Knob::Context, Value::Number(number)) => context = *number,
        (knob, value) => settings.push(Setting { knob, value: value.clone() }),
    };
    put(asked.x.knob, x);
    if let (Some(axis), Some(value)) = (&asked.y, y) {
        put(axis.knob, value);
    }
    (settings, batch, context)
}

/// Every column with what is sought along it.
fn columns<'a>(ground: &'a Ground<'a>, asked: &'a Asked, longest: u64) -> Vec<(Option<&'a Value>, Option<Column<'a>>)> {
    let found = each(asked.y.as_ref()).into_iter().map(|y| {
        let Some(x) = asked.x.values.last() else { return (y, None) };
        let (mut settings, batch, context) = place(asked, y, x);
        settings.retain(|setting| setting.knob != asked.x.knob);
        let at = asked.y.as_ref().zip(y).map(|(axis, value)| setting(axis.knob, value)).into_iter().collect();
        let along = match (asked.x.knob, x) {
            (Knob::Context, Value::Number(last)) => Along::Context { batch, most: longest.max(*last) },
            (Knob::Batch, _) => Along::Batch { context },
            _ => return (y, None),
        };
        (y, Some(Column::new(ground, settings, at, along)))
    });
    found.collect()
}

/// One point, in the promised form and as it was planned.
fn point(ground: &Ground<'_>, asked: &Asked, y: &Option<&Value>, x: &Value) -> (PointAnswer, Result<Need, String>) {
    let (settings, batch, context) = place(asked, *y, x);
    let need = ground.need_at(&settings, batch, context).map_err(|error| error.to_string());
    let at = std::iter::once(x).chain(*y).map(Value::to_string).collect();
    let answer = PointAnswer {
        at,
        context,
        batch,
        need: need.as_ref().ok().map(|need| written(need, ground.has_card())),
        refused: need.as_ref().err().cloned(),
    };
    (answer, need)
}

/// The largest batch of every context, where batches are varied or the context alone is.
fn largest(ground: &Ground<'_>, asked: &Asked) -> Vec<ReachAnswer> {
    if asked.x.knob != Knob::Context || asked.y.as_ref().is_some_and(|axis| axis.knob != Knob::Batch) {
        return Vec::new();
    }
    let one = Value::Number(asked.batch);
    let found = asked.x.values.iter().map(|value| {
        let (settings, _, context) = place(asked, asked.y.as_ref().map(|_| &one), value);
        let at = vec![setting(Knob::Context, value)];
        Column::new(ground, settings, at, Along::Batch { context }).reach()
    });
    found.collect()
}

/// How far each point goes where neither context nor batch is varied: to the longest context, to the largest batch.
fn by_point(ground: &Ground<'_>, asked: &Asked, longest: u64) -> (Vec<LineAnswer>, Vec<ReachAnswer>) {
    let (mut contexts, mut batches) = (Vec::new(), Vec::new());
    for y in each(asked.y.as_ref()) {
        for x in &asked.x.values {
            let (settings, batch, context) = place(asked, y, x);
            let both = [Some((&asked.x, x)), asked.y.as_ref().zip(y)];
            let at: Vec<SettingAnswer> =
                both.into_iter().flatten().map(|(axis, value)| setting(axis.knob, value)).collect();
            let need = ground.need_at(&settings, batch, context).map_err(|error| error.to_string());
            let column = |along| Column::new(ground, settings.clone(), at.clone(), along);
            let by_context = column(Along::Context { batch, most: longest.max(context) });
            by_context.seen(context, need.clone());
            contexts.push(by_context.line());
            let by_batch = column(Along::Batch { context });
            by_batch.seen(batch, need);
            batches.push(by_batch.reach());
        }
    }
    (contexts, batches)
}

/// Says where numbers are not all of one card: another may be the fullest at another context or batch, and it may hold more or
/// fewer layers.
fn fullest(asked: &Asked, points: &[PointAnswer]) -> Option<String> {
    let quantity = |knob: Knob| matches!(knob, Knob::Context | Knob::Batch);
    if !quantity(asked.x.knob) {
        return None;
    }
    let column =
        if asked.y.as_ref().is_some_and(|axis| quantity(axis.knob)) { points.len() } else { asked.x.values.len() };
    let differ = points.chunks(column.max(1)).find_map(|column| {
        let mut planned = column.iter().filter_map(|point| Some((point, point.need.as_ref()?)));
        let (first, need) = planned.next()?;
        let (other, rank) =
            planned.find(|(_, other)| other.rank != need.rank).map(|(point, need)| (point, need.rank))?;
        Some((first, need.rank, other, rank))
    });
    let (first, from, other, to) = differ?;
    let place = |point: &PointAnswer| format!("batch {} of {} tokens", point.batch, point.context);
    Some(format!(
        "the fullest card is not the same everywhere: card {from} at {}, card {to} at {}; weights, cache per token and where KV \
         outgrows the weights are those of the fullest, so they may change from one row to the next",
        place(first),
        place(other)
    ))
}

/// The longest context on other cards, by batch.
fn by_gpu(request: &GrowRequest, asked: &Asked, longest: u64, desk: &Desk<'_>) -> Result<Vec<CardReachAnswer>, Error> {
    let batches = match &asked.y {
        Some(axis) if axis.knob == Knob::Batch => axis.values.clone(),
        _ if asked.x.knob == Knob::Batch => asked.x.values.clone(),
        Some(_) | None => vec![Value::Number(asked.batch)],
    };
    let mut rows = Vec::new();
    for gpu in &asked.gpus {
        let launch = PlanRequest { gpu: Some(gpu.clone()), gpu_total_bytes: None, ..request.launch.clone() };
        let other = GrowRequest { launch, ..request.clone() };
        let subject = match Subject::new(&other, desk) {
            Ok(subject) => subject,
            Err(error) => {
                let refused = Some(error.to_string());
                rows.push(CardReachAnswer { gpu: gpu.clone(), card_bytes: None, reaches: Vec::new(), refused });
                continue;
            }
        };
        let mut row = CardReachAnswer { gpu: gpu.clone(), card_bytes: None, reaches: Vec::new(), refused: None };
        for batch in &batches {
            let Value::Number(number) = batch else { continue };
            let along = Along::Context { batch: *number, most: longest };
            let column = Column::new(&subject.ground, asked.fixed.clone(), vec![setting(Knob::Batch, batch)], along);
            row.reaches.push(column.reach());
            row.card_bytes = row.card_bytes.or_else(|| column.card().map(Bytes::get));
        }
        if row.reaches.iter().all(|reach| reach.refused.is_some()) {
            row.refused = row.reaches.first().and_then(|reach| reach.refused.clone());
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Puts heads, notes and assumptions of the launch into the answer.
fn say(answer: &mut GrowAnswer, varied: &Varied, asked: &Asked) {
    let Varied { prepared, plan, notes } = varied;
    let heads = heads::of(prepared, plan);
    let varies = |knob: Knob| asked.x.knob == knob || asked.y.as_ref().is_some_and(|axis| axis.knob == knob);
    let of_model = Knob::ALL.into_iter().any(|knob| knob.is_of_model() && varies(knob));
    if !of_model {
        answer.model = heads.model;
    }
    let mut parallel = heads.parallel;
    parallel.tp = if varies(Knob::Tp) { 1 } else { parallel.tp };
    parallel.pp = if varies(Knob::Pp) { 1 } else { parallel.pp };
    answer.launch = Some(LaunchAnswer { engine: heads.engine, gpu: heads.gpu, parallel });
    answer.assumptions.extend(prepared.assumptions.iter().cloned());
    answer.notes.extend(notes.iter().cloned());
    let rest = prepared.notes.iter().filter(|note| !note.starts_with(IDLE)).chain(&plan.notes);
    answer.notes.extend(rest.cloned());
    answer.notes.push(format!(
        "every point is a launch of its own: {} is told its context and batch, and each number is that of the rank with the \
         least room",
        prepared.engine
    ));
    if plan.parallel.dp > 1 {
        answer.notes.push(format!("a batch is what one of the {} data-parallel replicas runs", plan.parallel.dp));
    }
}

fn axis(axis: &Axis) -> AxisAnswer {
    AxisAnswer { knob: axis.knob.name().to_owned(), values: axis.values.iter().map(Value::to_string).collect() }
}

fn setting(knob: Knob, value: &Value) -> SettingAnswer {
    SettingAnswer { knob: knob.name().to_owned(), value: value.to_string() }
}

/// What has one value.
fn fixed(asked: &Asked) -> Vec<SettingAnswer> {
    let varies = |knob: Knob| asked.x.knob == knob || asked.y.as_ref().is_some_and(|axis| axis.knob == knob);
    let plain = [(Knob::Context, asked.context), (Knob::Batch, asked.batch)];
    let plain = plain.into_iter().filter(|(knob, _)| !varies(*knob));
    let plain = plain.map(|(knob, value)| setting(knob, &Value::Number(value)));
    plain.chain(asked.fixed.iter().map(|at| setting(at.knob, &at.value))).collect()
}

fn part(part: Part) -> PartAnswer {
    PartAnswer { bytes: part.bytes.get(), low: part.low.get(), high: part.high.get() }
}

/// A need in the promised form.
fn written(need: &Need, card: bool) -> NeedAnswer {
    let total = need.total();
    let exact = need.weights + need.kv;
    let ends = |pick: fn(&Part) -> Bytes| (exact + pick(&need.activations) + pick(&need.runtime)).get();
    let bounded = |bytes: Bytes| card.then(|| bytes.get());
    let tokens = need.batch.saturating_mul(need.context).max(1);
    let states = |state: State| state.name().to_owned();
    NeedAnswer {
        weights_bytes: need.weights.get(),
        activations: part(need.activations),
        runtime: part(need.runtime),
        kv_bytes: need.kv.get(),
        total: PartAnswer { bytes: total.get(), low: ends(|part| part.low), high: ends(|part| part.high) },
        kv_share: need.kv_share(),
        kv_bytes_per_token: need.kv.as_f64() / tokens as f64,
        limit_bytes: bounded(need.limit),
        limit_low: bounded(need.limit_low),
        limit_high: bounded(need.limit_high),
        card_bytes: bounded(need.card),
        fits: card.then_some(need.fits),
        state: card.then(|| states(need.state)),
        binding: need.binding.clone(),
        largest_batch: need.largest_batch.filter(|_| card),
        host_bytes: need.host.get(),
        gpus: need.gpus,
        rank: u32::try_from(need.rank).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests;
