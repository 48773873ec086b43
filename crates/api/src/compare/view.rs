//! How are rows laid out? What varies, what stands where, in which order, and what is best.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::answer::{ComparisonRow, FrontAnswer, VariedAnswer, ViewAnswer};
use super::columns::{Column, Good, Kind};
use super::request::{Axes, ComparisonRequest};
use crate::Error;

/// A list of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Axis {
    /// Models.
    Model,
    /// Cards.
    Gpu,
    /// Engines.
    Engine,
    /// Formats of weights.
    Format,
    /// Formats of the KV cache.
    KvFormat,
    /// Tensor-parallel ranks.
    Tp,
    /// Pipeline stages.
    Pp,
    /// Longest sequences.
    Context,
    /// Sequences at once.
    Batch,
}

impl Axis {
    /// Every list, in the order in which rows are made.
    pub const ALL: [Axis; 9] = [
        Axis::Model,
        Axis::Gpu,
        Axis::Engine,
        Axis::Format,
        Axis::KvFormat,
        Axis::Tp,
        Axis::Pp,
        Axis::Context,
        Axis::Batch,
    ];

    /// Returns the name in requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Axis::Model => "model",
            Axis::Gpu => "gpu",
            Axis::Engine => "engine",
            Axis::Format => "format",
            Axis::KvFormat => "kv_format",
            Axis::Tp => "tp",
            Axis::Pp => "pp",
            Axis::Context => "context",
            Axis::Batch => "batch",
        }
    }

    /// Reads a name; a plural does as well.
    ///
    /// # Errors
    /// [`Error::Request`] lists the names.
    pub fn parse(text: &str) -> Result<Axis, Error> {
        let plain = text.trim().to_ascii_lowercase().replace('-', "_");
        let found = Axis::ALL.into_iter().find(|axis| axis.name() == plain || format!("{}s", axis.name()) == plain);
        found.ok_or_else(|| {
            let names: Vec<&str> = Axis::ALL.iter().map(|axis| axis.name()).collect();
            let found: String = text.chars().take(40).collect();
            Error::Request(format!("`{found}` is no list of a comparison; these are: {}", names.join(", ")))
        })
    }

    /// Returns how many values rows have on this axis.
    pub(super) fn values(self, rows: &[ComparisonRow]) -> usize {
        let mut labels: Vec<String> = rows.iter().map(|row| self.label(row)).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.len()
    }

    /// Returns what a row has on this axis, in words.
    pub fn label(self, row: &ComparisonRow) -> String {
        match self {
            Axis::Model => row.model.clone(),
            Axis::Gpu => row.gpu.clone(),
            Axis::Engine => row.engine.to_string(),
            Axis::Format => row.format.clone(),
            Axis::KvFormat => row.kv_format.clone().unwrap_or_else(|| "auto".to_owned()),
            Axis::Tp => row.tp.to_string(),
            Axis::Pp => row.pp.to_string(),
            Axis::Context => row.context.to_string(),
            Axis::Batch => row.batch.map_or_else(|| "—".to_owned(), |batch| batch.to_string()),
        }
    }
}

/// A layout, settled before rows are made so that a malformed one costs nothing.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) varied: Vec<Axis>,
    rows: Vec<Axis>,
    columns: Vec<Axis>,
    pub(super) show: Vec<Column>,
    sort: Option<(Column, bool)>,
}

impl View {
    /// Reads the request's layout, or takes the one that fits what varies.
    ///
    /// # Errors
    /// [`Error::Request`] for names that are none, or an axis that stands in rows and columns.
    pub(super) fn new(request: &ComparisonRequest, axes: &Axes) -> Result<View, Error> {
        let varied: Vec<Axis> = Axis::ALL.into_iter().filter(|axis| axes.len(*axis) > 1).collect();
        let read = |names: &[String]| names.iter().map(|name| Axis::parse(name)).collect::<Result<Vec<_>, _>>();
        let (mut rows, mut columns) = (read(&request.rows)?, read(&request.columns)?);
        if let Some(twice) = rows.iter().find(|axis| columns.contains(axis)) {
            return Err(Error::Request(format!("{} stands in rows and in columns", twice.name())));
        }
        if rows.is_empty() && columns.is_empty() {
            let quiet = [Axis::Format, Axis::Engine, Axis::KvFormat];
            if let [first, second] = varied.as_slice()
                && !quiet.contains(first)
                && !quiet.contains(second)
            {
                (rows, columns) = (vec![*first], vec![*second]);
            } else {
                rows.clone_from(&varied);
            }
        }
        // What varies and is not named goes to the rows.
        rows.extend(
            varied.iter().filter(|axis| !columns.contains(axis) && !rows.contains(axis)).copied().collect::<Vec<_>>(),
        );
        if rows.is_empty() {
            rows.push(Axis::Model);
            columns.retain(|axis| *axis != Axis::Model);
        }
        let show = match request.show.as_slice() {
            [] => usual(&varied, !columns.is_empty()),
            names => names.iter().map(|name| Column::parse(name)).collect::<Result<Vec<_>, _>>()?,
        };
        let sort = request.sort.as_deref().map(sort).transpose()?;
        Ok(View { varied, rows, columns, show, sort })
    }

    /// Sorts rows: by the figure that was asked for, those without it last; else as they were asked for.
    pub(super) fn sort(&self, rows: &mut [ComparisonRow]) {
        let Some((column, descending)) = &self.sort else { return };
        rows.sort_by(|a, b| match (column.of(a), column.of(b)) {
            (Some(a), Some(b)) if *descending => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        });
    }

    /// Marks in each group of rows (the table, or a line of a grid) the best of each figure that is shown.
    pub(super) fn mark(&self, rows: &mut [ComparisonRow]) {
        let key = |row: &ComparisonRow| -> Vec<String> {
            if self.columns.is_empty() { Vec::new() } else { self.rows.iter().map(|axis| axis.label(row)).collect() }
        };
        let keys: Vec<Vec<String>> = rows.iter().map(key).collect();
        let mut groups: std::collections::BTreeMap<&Vec<String>, Vec<usize>> = std::collections::BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            groups.entry(key).or_default().push(at);
        }
        for group in groups.values() {
            for column in self.show.iter().filter(|column| column.kind != Kind::State) {
                for at in best(column, rows, group) {
                    rows[at].best.push(column.name.into());
                }
            }
        }
    }

    /// Puts the layout into the promised form.
    pub(super) fn answer(&self) -> ViewAnswer {
        let names = |axes: &[Axis]| axes.iter().map(|axis| Cow::Borrowed(axis.name())).collect::<Vec<_>>();
        ViewAnswer {
            layout: if self.columns.is_empty() { "table" } else { "grid" }.into(),
            rows: names(&self.rows),
            columns: names(&self.columns),
            show: self.show.iter().map(|column| Cow::Borrowed(column.name)).collect(),
            sort: self.sort.map(|(column, descending)| format!("{}{}", if descending { "-" } else { "" }, column.name)),
        }
    }

    /// The lists with several values, as rows have them.
    pub(super) fn varied(&self, rows: &[ComparisonRow]) -> Vec<VariedAnswer> {
        let values = |axis: Axis| {
            let mut found: Vec<String> = Vec::new();
            for row in rows {
                let label = axis.label(row);
                if !found.contains(&label) {
                    found.push(label);
                }
            }
            found
        };
        self.varied.iter().map(|axis| VariedAnswer { axis: axis.name().into(), values: values(*axis) }).collect()
    }
}

/// Reads `decode_ms` or `-kv_tokens`.
fn sort(text: &str) -> Result<(Column, bool), Error> {
    let (name, descending) = match text.trim().strip_prefix('-') {
        Some(name) => (name, true),
        None => (text, false),
    };
    let column = Column::parse(name)?;
    if column.kind == Kind::Quality {
        return Err(Error::Request(
            "quality is no figure to sort by: numbers of different sources do not compare".into(),
        ));
    }
    Ok((column, descending))
}

/// The figures that are told where nobody says which.
fn usual(varied: &[Axis], grid: bool) -> Vec<Column> {
    let names: &[&str] = if grid {
        &["state", "max_context_tokens", "concurrency"]
    } else if varied.contains(&Axis::Format) {
        &[
            "checkpoint_bytes",
            "weights_bytes",
            "saved_share",
            "state",
            "max_context_tokens",
            "concurrency",
            "decode_ms",
            "prefill_ms",
            "quality",
        ]
    } else if varied.contains(&Axis::Engine) {
        &["state", "weights_bytes", "kv_budget_bytes", "kv_tokens", "max_context_tokens", "concurrency", "decode_ms"]
    } else {
        &[
            "weights_bytes",
            "state",
            "kv_tokens",
            "max_context_tokens",
            "concurrency",
            "decode_ms",
            "tokens_per_s_per_gpu",
        ]
    };
    names.iter().filter_map(|name| Column::parse(name).ok()).collect()
}

/// The rows of a group that no other beats; none where all are the same.
fn best(column: &Column, rows: &[ComparisonRow], group: &[usize]) -> Vec<usize> {
    // A time that no measurement stands behind does not beat one that was measured.
    let timed = matches!(column.kind, Kind::Millis | Kind::Rate);
    let proven = |at: &&usize| !(timed && rows[**at].times_unmeasured);
    let values = || group.iter().filter(proven).filter_map(|at| Some((*at, column.of(&rows[*at])?)));
    let end = match column.good {
        Good::Most => values().map(|(_, value)| value).reduce(f64::max),
        Good::Least => values().map(|(_, value)| value).reduce(f64::min),
        Good::Neither => None,
    };
    let Some(end) = end else { return Vec::new() };
    if values().all(|(_, value)| value.total_cmp(&end) == Ordering::Equal) {
        return Vec::new();
    }
    values().filter(|(_, value)| value.total_cmp(&end) == Ordering::Equal).map(|(at, _)| at).collect()
}

/// Returns the rows that no other row beats in both of the two figures that the comparison is about.
pub(super) fn front(view: &View, rows: &[ComparisonRow]) -> Option<FrontAnswer> {
    let has = |axis| view.varied.contains(&axis);
    let (x, y) = if has(Axis::Batch) || has(Axis::Tp) || has(Axis::Pp) {
        ("tokens_per_s_per_user", "tokens_per_s_per_gpu")
    } else if has(Axis::Format) || has(Axis::Model) {
        ("weights_bytes", "tokens_per_s_per_user")
    } else {
        ("kv_tokens", "tokens_per_s_per_user")
    };
    let (first, second) = (Column::parse(x).ok()?, Column::parse(y).ok()?);
    let sign = |column: &Column, value: f64| if column.good == Good::Least { -value } else { value };
    let mut points: Vec<(usize, f64, f64)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| !row.times_unmeasured)
        .filter_map(|(at, row)| Some((at, sign(&first, first.of(row)?), sign(&second, second.of(row)?))))
        .collect();
    if points.len() < 2 {
        return None;
    }
    // From the best of one figure on, whoever is better in the other than all before is on the front.
    points.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.2.total_cmp(&a.2)).then(a.0.cmp(&b.0)));
    let mut most = f64::NEG_INFINITY;
    let mut found: Vec<usize> = Vec::new();
    for (at, _, value) in points {
        if value > most {
            most = value;
            found.push(at);
        }
    }
    found.sort_by(|a, b| {
        let of = |at: &usize| first.of(&rows[*at]).unwrap_or_default();
        of(a).total_cmp(&of(b))
    });
    Some(FrontAnswer { x: x.into(), y: y.into(), rows: found })
}
