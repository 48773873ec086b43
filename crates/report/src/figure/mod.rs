//! What does it look like? Figures as plain data, and how they are drawn: SVG with the same bytes for the same figure, and
//! PNG from that SVG.
//!
//! An answer is turned into [`Figure`]s (its question as title, its assumptions as caption, units on every axis), and
//! [`svg`] puts them on paper. Nothing is computed here but coordinates.
//!
//! ```
//! use plimsoll_report::figure::{Axis, Bar, Bars, Body, Figure, Limit, Part, Series, Theme, Tone, Unit, svg};
//!
//! let figure = Figure {
//!     name: "memory".into(),
//!     title: "Where does the memory of the card go?".into(),
//!     subtitle: "a model on a card".into(),
//!     caption: "vllm 0.33.0; nothing else runs on the GPU".into(),
//!     body: Body::Bars(Bars {
//!         axis: Axis::of("memory", Unit::Bytes),
//!         series: vec![Series::new("weights", Tone::Weights), Series::new("KV cache", Tone::Kv)],
//!         rows: vec![Bar { name: "rank 0".into(), parts: vec![Part::new(0, 16e9), Part::new(1, 50e9)], note: None, limit: None }],
//!         limits: vec![Limit::new("card", 80e9)],
//!     }),
//! };
//! let drawn = svg(&figure, Theme::Light)?;
//! assert!(drawn.starts_with("<svg") && drawn == svg(&figure, Theme::Light)?);
//! # Ok::<(), plimsoll_report::figure::Error>(())
//! ```

mod draw;
mod font;
mod png;

pub use draw::svg;
pub use png::png;

/// Why a figure was not drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The drawing library, or the font.
    #[error("the figure `{figure}` cannot be drawn: {why}")]
    Draw {
        /// The figure's name.
        figure: String,
        /// What went wrong.
        why: String,
    },
    /// The figure has nothing in it, or numbers that are none.
    #[error("the figure `{figure}` has nothing to show: {why}")]
    Empty {
        /// The figure's name.
        figure: String,
        /// What is missing.
        why: String,
    },
}

/// On what it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark ink on white: paper, too.
    #[default]
    Light,
    /// Light ink on a dark page.
    Dark,
}

/// A figure: what is asked, what is seen, and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// A word for file names: `memory`, `heat`.
    pub name: String,
    /// The question that it answers.
    pub title: String,
    /// What it is about: model, card, engine; may be empty.
    pub subtitle: String,
    /// What it rests on: assumptions, sources; may be empty. Wrapped.
    pub caption: String,
    /// What is seen.
    pub body: Body,
}

/// What is seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Lying bars, each of parts one behind the other: the ledger of each rank.
    Bars(Bars),
    /// Areas upon one another along a quantity: memory by context.
    Areas(Areas),
    /// A grid of cells: largest batch and context.
    Heat(Heat),
    /// Lines and dots over two quantities: rooflines, distributions, Pareto fronts.
    Plot(Plot),
    /// Plots one below the other with the same x: the course of a simulation.
    Panels(Vec<Panel>),
    /// Spans of time in rows: who runs when.
    Spans(Spans),
    /// Who holds which blocks, over time.
    Blocks(BlockMap),
    /// Predicted intervals beside what was seen.
    Ranges(Ranges),
}

/// What a number counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, written in KiB, MiB, GiB, TiB.
    Bytes,
    /// Seconds, written in ns, µs, ms, s, min, h.
    Seconds,
    /// Whole things: tokens, requests; `1k` is 1024 on axes of powers of two, else 1 000.
    Count,
    /// A part of one, written in percent.
    Share,
    /// Anything else: three digits, with `k`, `M`, `G`, `T` (powers of 1 000) where they are large.
    Plain,
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    #[default]
    Linear,
    /// Logarithmically, marks at powers of ten.
    Log10,
    /// Logarithmically, marks at powers of two.
    Log2,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it shows, in words, without the unit: `memory`, `context (tokens)` where the unit is a thing.
    pub label: String,
    /// What its numbers count.
    pub unit: Unit,
    /// How it is divided.
    pub scale: Scale,
}

impl Axis {
    /// An even axis.
    pub fn of(label: impl Into<String>, unit: Unit) -> Axis {
        Axis { label: label.into(), unit, scale: Scale::Linear }
    }

    /// The same axis, divided otherwise.
    #[must_use]
    pub fn scaled(self, scale: Scale) -> Axis {
        Axis { scale, ..self }
    }
}

/// Which colour: parts of the memory have theirs in every figure, others are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Weights.
    Weights,
    /// Activations.
    Activations,
    /// Runtime buffers, context, communication.
    Runtime,
    /// Graphs.
    Graphs,
    /// The KV cache.
    Kv,
    /// What is free, or what stands back.
    Faint,
    /// Bad: beyond the limit, missed.
    Bad,
    /// The n-th of a family of things.
    Nth(usize),
}

/// A kind of thing with a name and a colour.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub tone: Tone,
}

impl Series {
    /// A series.
    pub fn new(name: impl Into<String>, tone: Tone) -> Series {
        Series { name: name.into(), tone }
    }
}

/// A line drawn across: the card's end, a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What it is.
    pub name: String,
    /// Where it lies.
    pub at: f64,
}

impl Limit {
    /// A limit.
    pub fn new(name: impl Into<String>, at: f64) -> Limit {
        Limit { name: name.into(), at }
    }
}

/// Lying bars of parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Along the bars.
    pub axis: Axis,
    /// What parts there are.
    pub series: Vec<Series>,
    /// The bars, from the top.
    pub rows: Vec<Bar>,
    /// Lines across all bars.
    pub limits: Vec<Limit>,
}

/// A bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// Its parts, from the left.
    pub parts: Vec<Part>,
    /// What stands behind its end, in place of its sum.
    pub note: Option<String>,
    /// A line across this bar alone: the end of its card, where each bar has another.
    pub limit: Option<Limit>,
}

/// A part of a bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Which series.
    pub series: usize,
    /// How much.
    pub value: f64,
}

impl Part {
    /// A part.
    pub fn new(series: usize, value: f64) -> Part {
        Part { series, value }
    }
}

/// Areas upon one another.
#[derive(Clone, Debug, PartialEq)]
pub struct Areas {
    /// Along.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// Places along, rising.
    pub xs: Vec<f64>,
    /// The areas from below, each with a height at every place.
    pub areas: Vec<(Series, Vec<f64>)>,
    /// Lines across.
    pub limits: Vec<Limit>,
    /// What happens at a place: `KV outgrows weights`.
    pub marks: Vec<Limit>,
}

/// A grid of cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// What the columns are.
    pub x: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// What the rows are.
    pub y: String,
    /// Names of the rows, from the top.
    pub rows: Vec<String>,
    /// What the colours say, with its unit.
    pub legend: String,
    /// The cells, row by row.
    pub cells: Vec<Vec<Cell>>,
    /// What is said of cells that are not feasible, in the legend: `does not fit`.
    pub infeasible: String,
}

/// A cell of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// How dark, 0 to 1; `None` is an empty cell.
    pub shade: Option<f64>,
    /// What is written in it.
    pub text: String,
    /// Whether it lies in the feasible region, which is outlined; others are hatched.
    pub feasible: bool,
}

/// Lines and dots.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// Along.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
    /// The dots.
    pub dots: Vec<Dot>,
    /// Lines across, at a height.
    pub limits: Vec<Limit>,
    /// Lines up, at a place.
    pub marks: Vec<Limit>,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name, written at its end, and its colour.
    pub series: Series,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// A band around it: x, low, high; may be empty.
    pub band: Vec<(f64, f64, f64)>,
    /// How it is drawn.
    pub stroke: Stroke,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stroke {
    /// From point to point.
    #[default]
    Solid,
    /// The same, dashed.
    Dashed,
    /// In steps: the value of a point lasts until the next.
    Steps,
}

/// A dot.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Where along.
    pub x: f64,
    /// Where up.
    pub y: f64,
    /// Its colour, shape and legend.
    pub series: Series,
    /// What is written beside it; may be empty, and is left out where it would lie on another.
    pub label: String,
}

/// One plot of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it shows, in words.
    pub title: String,
    /// What is seen.
    pub plot: Plot,
}

/// Spans in rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Spans {
    /// Along: time.
    pub x: Axis,
    /// What spans there are.
    pub series: Vec<Series>,
    /// Groups of rows, each with a title: static batching, continuous batching.
    pub groups: Vec<SpanGroup>,
}

/// Rows that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanGroup {
    /// Its title.
    pub title: String,
    /// The rows, from the top.
    pub rows: Vec<SpanRow>,
}

/// A row of spans.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRow {
    /// Its name.
    pub name: String,
    /// The spans, rising, none upon another.
    pub spans: Vec<Span>,
}

/// A span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// Which series.
    pub series: usize,
}

/// Who holds which blocks over time.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockMap {
    /// Along: time.
    pub x: Axis,
    /// Up: blocks of the pool.
    pub y: Axis,
    /// Blocks of the pool.
    pub blocks: f64,
    /// Moments, rising; each is shown until the next, the last until `end`.
    pub moments: Vec<Moment>,
    /// Where the last moment ends.
    pub end: f64,
}

/// Who holds blocks at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// When.
    pub at: f64,
    /// Runs of blocks, from below.
    pub runs: Vec<Held>,
}

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held {
    /// How many blocks.
    pub blocks: f64,
    /// By whom.
    pub holder: Holder,
}

/// Who holds a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A request, by its number: neighbours have different colours.
    Request(u64),
    /// Several requests at once: a shared prefix.
    Shared,
    /// Nobody, but its content can be found again.
    Cached,
    /// Nobody.
    Free,
}

/// Intervals beside what was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    /// Along.
    pub axis: Axis,
    /// Name of the predicted: `planned`.
    pub predicted: String,
    /// Name of the seen: `logged`.
    pub seen: String,
    /// The rows, from the top.
    pub rows: Vec<Range>,
}

/// One row of intervals.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Its name.
    pub name: String,
    /// Low end, estimate, high end.
    pub predicted: (f64, f64, f64),
    /// What was seen, where it was.
    pub seen: Option<f64>,
    /// What is written of both behind the row, where it is not these numbers: they may be parts of something.
    pub written: Option<(String, String)>,
}
